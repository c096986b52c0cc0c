// The part of the Hive Metastore's Thrift service that metasync speaks: Hive 2.3, 3.1 and 4.x in one.
//
// Written by us. Names, field ids and types are facts of the protocol, taken from the three official IDLs
// (branch-2.3 metastore/if, branch-3.1 and master standalone-metastore); the growth from release to release is
// additive, so one superset fits all, with two exceptions, named at InsertEventRequestData and at Table's field 16.
// Ids and names were compared with the classes of 2.3.10, 3.1.3 and 4.0.1 by reflection.
//
// Every field is optional here, whatever the official IDL says: absent and present must be told apart to write back
// what was read. What a server insists on is filled in by the caller. Fields that are not listed are carried as bytes.
// Enumerations are open: an unknown number is kept.

// ---------------------------------------------------------------- catalogs, databases

struct Catalog {
  1: string name
  2: string description
  3: string locationUri
  4: i32 createTime                  // seconds
}

struct Database {
  1: string name
  2: string description
  3: string locationUri
  4: map<string, string> parameters
  5: PrincipalPrivilegeSet privileges
  6: string ownerName
  7: PrincipalType ownerType
  8: string catalogName              // 3.0
  9: i32 createTime                  // 3.2, seconds
  10: string managedLocationUri      // 4.0
  11: DatabaseType type              // 4.0
  12: string connector_name          // 4.0
  13: string remote_dbname           // 4.0
}

enum DatabaseType { NATIVE = 1, REMOTE = 2 }

// ---------------------------------------------------------------- tables, partitions

struct FieldSchema {
  1: string name
  2: string type
  3: string comment
}

struct SerDeInfo {
  1: string name
  2: string serializationLib
  3: map<string, string> parameters
  4: string description              // 3.0, as the next three
  5: string serializerClass
  6: string deserializerClass
  7: SerdeType serdeType
}

enum SerdeType { HIVE = 1, SCHEMA_REGISTRY = 2 }

struct Order {
  1: string col
  2: i32 order                       // 1 ascending, 0 descending
}

struct SkewedInfo {
  1: list<string> skewedColNames
  2: list<list<string>> skewedColValues
  3: map<list<string>, string> skewedColValueLocationMaps
}

struct StorageDescriptor {
  1: list<FieldSchema> cols
  2: string location
  3: string inputFormat
  4: string outputFormat
  5: bool compressed
  6: i32 numBuckets
  7: SerDeInfo serdeInfo
  8: list<string> bucketCols
  9: list<Order> sortCols
  10: map<string, string> parameters
  11: SkewedInfo skewedInfo
  12: bool storedAsSubDirectories
}

struct Table {
  1: string tableName
  2: string dbName
  3: string owner
  4: i32 createTime                  // seconds
  5: i32 lastAccessTime              // seconds
  6: i32 retention
  7: StorageDescriptor sd
  8: list<FieldSchema> partitionKeys
  9: map<string, string> parameters
  10: string viewOriginalText
  11: string viewExpandedText
  12: string tableType
  13: PrincipalPrivilegeSet privileges
  14: bool temporary
  15: bool rewriteEnabled            // 2.3
  16: CreationMetadata creationMetadata   // 3.0; 2.3.10 has the catalog's name here, a string: it is kept as unknown
  17: string catName                 // 3.0
  18: PrincipalType ownerType        // 3.1
  19: i64 writeId                    // 4.0, as all below
  20: bool isStatsCompliant
  21: ColumnStatistics colStats
  22: byte accessType
  23: list<string> requiredReadCapabilities
  24: list<string> requiredWriteCapabilities
  25: i64 id                         // ignored on writes
  26: FileMetadata fileMetadata
  27: ObjectDictionary dictionary
  28: i64 txnId
}

struct FileMetadata {
  1: byte type
  2: byte version
  3: list<binary> data
}

struct ObjectDictionary {
  1: map<string, list<binary>> values
}

// What a materialized view was made from.
struct CreationMetadata {
  1: string catName
  2: string dbName
  3: string tblName
  4: set<string> tablesUsed          // db.table, 4.x: cat.db.table
  5: string validTxnList
  6: i64 materializationTime         // milliseconds
  7: list<SourceTable> sourceTables  // 4.0
}

struct SourceTable {
  1: Table table
  2: i64 insertedCount
  3: i64 updatedCount
  4: i64 deletedCount
}

struct Partition {
  1: list<string> values
  2: string dbName
  3: string tableName
  4: i32 createTime                  // seconds
  5: i32 lastAccessTime              // seconds
  6: StorageDescriptor sd
  7: map<string, string> parameters
  8: PrincipalPrivilegeSet privileges
  9: string catName                  // 3.0
  10: i64 writeId                    // 4.0, as all below
  11: bool isStatsCompliant
  12: ColumnStatistics colStats
  13: FileMetadata fileMetadata
}

// ---------------------------------------------------------------- column statistics

struct BooleanColumnStatsData {
  1: i64 numTrues
  2: i64 numFalses
  3: i64 numNulls
  4: binary bitVectors               // a string in 2.3: the same on the wire
}

struct LongColumnStatsData {
  1: i64 lowValue
  2: i64 highValue
  3: i64 numNulls
  4: i64 numDVs
  5: binary bitVectors
  6: binary histogram                // 4.0
}

struct DoubleColumnStatsData {
  1: double lowValue
  2: double highValue
  3: i64 numNulls
  4: i64 numDVs
  5: binary bitVectors
  6: binary histogram
}

struct StringColumnStatsData {
  1: i64 maxColLen
  2: double avgColLen
  3: i64 numNulls
  4: i64 numDVs
  5: binary bitVectors
}

struct BinaryColumnStatsData {
  1: i64 maxColLen
  2: double avgColLen
  3: i64 numNulls
  4: binary bitVectors
}

// unscaled * 10^-scale; unscaled is two's complement, most significant byte first
struct Decimal {
  1: binary unscaled
  3: i16 scale
}

struct DecimalColumnStatsData {
  1: Decimal lowValue
  2: Decimal highValue
  3: i64 numNulls
  4: i64 numDVs
  5: binary bitVectors
  6: binary histogram
}

struct Date {
  1: i64 daysSinceEpoch
}

struct DateColumnStatsData {
  1: Date lowValue
  2: Date highValue
  3: i64 numNulls
  4: i64 numDVs
  5: binary bitVectors
  6: binary histogram
}

struct Timestamp {
  1: i64 secondsSinceEpoch
}

struct TimestampColumnStatsData {
  1: Timestamp lowValue
  2: Timestamp highValue
  3: i64 numNulls
  4: i64 numDVs
  5: binary bitVectors
  6: binary histogram
}

union ColumnStatisticsData {
  1: BooleanColumnStatsData booleanStats
  2: LongColumnStatsData longStats
  3: DoubleColumnStatsData doubleStats
  4: StringColumnStatsData stringStats
  5: BinaryColumnStatsData binaryStats
  6: DecimalColumnStatsData decimalStats
  7: DateColumnStatsData dateStats
  8: TimestampColumnStatsData timestampStats   // 4.0
}

struct ColumnStatisticsObj {
  1: string colName
  2: string colType
  3: ColumnStatisticsData statsData
}

struct ColumnStatisticsDesc {
  1: bool isTblLevel
  2: string dbName
  3: string tableName
  4: string partName
  5: i64 lastAnalyzed                // seconds
  6: string catName
}

struct ColumnStatistics {
  1: ColumnStatisticsDesc statsDesc
  2: list<ColumnStatisticsObj> statsObj
  3: bool isStatsCompliant           // 4.0
  4: string engine                   // 4.0
}

struct TableStatsRequest {
  1: string dbName
  2: string tblName
  3: list<string> colNames
  4: string catName
  5: string validWriteIdList
  6: string engine                   // 4.0, required there
  7: i64 id
}

struct TableStatsResult {
  1: list<ColumnStatisticsObj> tableStats
  2: bool isStatsCompliant
}

struct PartitionsStatsRequest {
  1: string dbName
  2: string tblName
  3: list<string> colNames
  4: list<string> partNames
  5: string catName
  6: string validWriteIdList
  7: string engine                   // 4.0, required there
}

struct PartitionsStatsResult {
  1: map<string, list<ColumnStatisticsObj>> partStats
  2: bool isStatsCompliant
}

struct SetPartitionsStatsRequest {
  1: list<ColumnStatistics> colStats
  2: bool needMerge
  3: i64 writeId
  4: string validWriteIdList
  5: string engine                   // 4.0, required there
}

struct SetPartitionsStatsResponse {
  1: bool result
}

// ---------------------------------------------------------------- constraints

struct SQLPrimaryKey {
  1: string table_db
  2: string table_name
  3: string column_name
  4: i32 key_seq
  5: string pk_name
  6: bool enable_cstr
  7: bool validate_cstr
  8: bool rely_cstr
  9: string catName
}

struct SQLForeignKey {
  1: string pktable_db
  2: string pktable_name
  3: string pkcolumn_name
  4: string fktable_db
  5: string fktable_name
  6: string fkcolumn_name
  7: i32 key_seq
  8: i32 update_rule
  9: i32 delete_rule
  10: string fk_name
  11: string pk_name
  12: bool enable_cstr
  13: bool validate_cstr
  14: bool rely_cstr
  15: string catName
}

struct SQLUniqueConstraint {
  1: string catName
  2: string table_db
  3: string table_name
  4: string column_name
  5: i32 key_seq
  6: string uk_name
  7: bool enable_cstr
  8: bool validate_cstr
  9: bool rely_cstr
}

struct SQLNotNullConstraint {
  1: string catName
  2: string table_db
  3: string table_name
  4: string column_name
  5: string nn_name
  6: bool enable_cstr
  7: bool validate_cstr
  8: bool rely_cstr
}

struct SQLDefaultConstraint {
  1: string catName
  2: string table_db
  3: string table_name
  4: string column_name
  5: string default_value
  6: string dc_name
  7: bool enable_cstr
  8: bool validate_cstr
  9: bool rely_cstr
}

struct SQLCheckConstraint {
  1: string catName
  2: string table_db
  3: string table_name
  4: string column_name
  5: string check_expression
  6: string dc_name
  7: bool enable_cstr
  8: bool validate_cstr
  9: bool rely_cstr
}

struct PrimaryKeysRequest { 1: string db_name 2: string tbl_name 3: string catName 4: string validWriteIdList 5: i64 tableId }
struct PrimaryKeysResponse { 1: list<SQLPrimaryKey> primaryKeys }
struct ForeignKeysRequest {
  1: string parent_db_name
  2: string parent_tbl_name
  3: string foreign_db_name
  4: string foreign_tbl_name
  5: string catName
  6: string validWriteIdList
  7: i64 tableId
}
struct ForeignKeysResponse { 1: list<SQLForeignKey> foreignKeys }
struct UniqueConstraintsRequest { 1: string catName 2: string db_name 3: string tbl_name 4: string validWriteIdList 5: i64 tableId }
struct UniqueConstraintsResponse { 1: list<SQLUniqueConstraint> uniqueConstraints }
struct NotNullConstraintsRequest { 1: string catName 2: string db_name 3: string tbl_name 4: string validWriteIdList 5: i64 tableId }
struct NotNullConstraintsResponse { 1: list<SQLNotNullConstraint> notNullConstraints }
struct DefaultConstraintsRequest { 1: string catName 2: string db_name 3: string tbl_name 4: string validWriteIdList 5: i64 tableId }
struct DefaultConstraintsResponse { 1: list<SQLDefaultConstraint> defaultConstraints }
struct CheckConstraintsRequest { 1: string catName 2: string db_name 3: string tbl_name 4: string validWriteIdList 5: i64 tableId }
struct CheckConstraintsResponse { 1: list<SQLCheckConstraint> checkConstraints }
struct SQLAllTableConstraints {
  1: list<SQLPrimaryKey> primaryKeys
  2: list<SQLForeignKey> foreignKeys
  3: list<SQLUniqueConstraint> uniqueConstraints
  4: list<SQLNotNullConstraint> notNullConstraints
  5: list<SQLDefaultConstraint> defaultConstraints
  6: list<SQLCheckConstraint> checkConstraints
}
struct AllTableConstraintsRequest { 1: string dbName 2: string tblName 3: string catName 4: string validWriteIdList 5: i64 tableId }
struct AllTableConstraintsResponse { 1: SQLAllTableConstraints allTableConstraints }
struct AddPrimaryKeyRequest { 1: list<SQLPrimaryKey> primaryKeyCols }
struct AddForeignKeyRequest { 1: list<SQLForeignKey> foreignKeyCols }
struct AddUniqueConstraintRequest { 1: list<SQLUniqueConstraint> uniqueConstraintCols }
struct AddNotNullConstraintRequest { 1: list<SQLNotNullConstraint> notNullConstraintCols }
struct AddDefaultConstraintRequest { 1: list<SQLDefaultConstraint> defaultConstraintCols }
struct AddCheckConstraintRequest { 1: list<SQLCheckConstraint> checkConstraintCols }
struct DropConstraintRequest { 1: string dbname 2: string tablename 3: string constraintname 4: string catName }

// ---------------------------------------------------------------- functions

struct ResourceUri { 1: ResourceType resourceType 2: string uri }
enum ResourceType { JAR = 1, FILE = 2, ARCHIVE = 3 }
enum FunctionType { JAVA = 1 }

struct Function {
  1: string functionName
  2: string dbName
  3: string className
  4: string ownerName
  5: PrincipalType ownerType
  6: i32 createTime                  // seconds
  7: FunctionType functionType
  8: list<ResourceUri> resourceUris
  9: string catName                  // 3.0
}

struct GetAllFunctionsResponse { 1: list<Function> functions }

// ---------------------------------------------------------------- roles, privileges

enum PrincipalType { USER = 1, ROLE = 2, GROUP = 3 }
enum HiveObjectType { GLOBAL = 1, DATABASE = 2, TABLE = 3, PARTITION = 4, COLUMN = 5, DATACONNECTOR = 6 }
enum GrantRevokeType { GRANT = 1, REVOKE = 2 }

struct HiveObjectRef {
  1: HiveObjectType objectType
  2: string dbName
  3: string objectName
  4: list<string> partValues
  5: string columnName
  6: string catName                  // 3.0
}

struct PrivilegeGrantInfo {
  1: string privilege
  2: i32 createTime                  // seconds
  3: string grantor
  4: PrincipalType grantorType
  5: bool grantOption
}

struct HiveObjectPrivilege {
  1: HiveObjectRef hiveObject
  2: string principalName
  3: PrincipalType principalType
  4: PrivilegeGrantInfo grantInfo
  5: string authorizer               // 3.0
}

struct PrivilegeBag { 1: list<HiveObjectPrivilege> privileges }

struct PrincipalPrivilegeSet {
  1: map<string, list<PrivilegeGrantInfo>> userPrivileges
  2: map<string, list<PrivilegeGrantInfo>> groupPrivileges
  3: map<string, list<PrivilegeGrantInfo>> rolePrivileges
}

struct GrantRevokePrivilegeRequest {
  1: GrantRevokeType requestType
  2: PrivilegeBag privileges
  3: bool revokeGrantOption
}
struct GrantRevokePrivilegeResponse { 1: bool success }

struct Role { 1: string roleName 2: i32 createTime 3: string ownerName }

struct RolePrincipalGrant {
  1: string roleName
  2: string principalName
  3: PrincipalType principalType
  4: bool grantOption
  5: i32 grantTime
  6: string grantorName
  7: PrincipalType grantorPrincipalType
}

struct GetPrincipalsInRoleRequest { 1: string roleName }
struct GetPrincipalsInRoleResponse { 1: list<RolePrincipalGrant> principalGrants }
struct GetRoleGrantsForPrincipalRequest { 1: string principal_name 2: PrincipalType principal_type }
struct GetRoleGrantsForPrincipalResponse { 1: list<RolePrincipalGrant> principalGrants }

struct GrantRevokeRoleRequest {
  1: GrantRevokeType requestType
  2: string roleName
  3: string principalName
  4: PrincipalType principalType
  5: string grantor
  6: PrincipalType grantorType
  7: bool grantOption
}
struct GrantRevokeRoleResponse { 1: bool success }

// ---------------------------------------------------------------- requests on catalogs, databases, tables, partitions

struct EnvironmentContext { 1: map<string, string> properties }

enum ClientCapability { TEST_CAPABILITY = 1, INSERT_ONLY_TABLES = 2 }
struct ClientCapabilities { 1: list<ClientCapability> values }

struct GetCatalogsResponse { 1: list<string> names }
struct GetCatalogRequest { 1: string name }
struct GetCatalogResponse { 1: Catalog catalog }
struct CreateCatalogRequest { 1: Catalog catalog }
struct AlterCatalogRequest { 1: string name 2: Catalog newCat }
struct DropCatalogRequest { 1: string name }

struct GetDatabaseRequest {
  1: string name
  2: string catalogName
  3: list<string> processorCapabilities
  4: string processorIdentifier
}

struct DropDatabaseRequest {
  1: string name
  2: string catalogName
  3: bool ignoreUnknownDb
  4: bool deleteData
  5: bool cascade
  6: bool softDelete
  7: i64 txnId
  8: bool deleteManagedDir
}

struct GetTableRequest {
  1: string dbName
  2: string tblName
  3: ClientCapabilities capabilities
  4: string catName
  6: string validWriteIdList
  7: bool getColumnStats
  8: list<string> processorCapabilities
  9: string processorIdentifier
  10: string engine
  11: i64 id
}
struct GetTableResult { 1: Table table 2: bool isStatsCompliant }

struct GetTablesRequest {
  1: string dbName
  2: list<string> tblNames
  3: ClientCapabilities capabilities
  4: string catName
  5: list<string> processorCapabilities
  6: string processorIdentifier
}
struct GetTablesResult { 1: list<Table> tables }

struct CreateTableRequest {
  1: Table table
  2: EnvironmentContext envContext
  3: list<SQLPrimaryKey> primaryKeys
  4: list<SQLForeignKey> foreignKeys
  5: list<SQLUniqueConstraint> uniqueConstraints
  6: list<SQLNotNullConstraint> notNullConstraints
  7: list<SQLDefaultConstraint> defaultConstraints
  8: list<SQLCheckConstraint> checkConstraints
  9: list<string> processorCapabilities
  10: string processorIdentifier
}

struct AlterTableRequest {
  1: string catName
  2: string dbName
  3: string tableName
  4: Table table
  5: EnvironmentContext environmentContext
  6: i64 writeId
  7: string validWriteIdList
  8: list<string> processorCapabilities
  9: string processorIdentifier
  10: string expectedParameterKey
  11: string expectedParameterValue
}
struct AlterTableResponse { }

struct DropTableRequest {
  1: string catalogName
  2: string dbName
  3: string tableName
  4: bool deleteData
  5: EnvironmentContext envContext
  6: bool dropPartitions
}

struct PartitionsRequest {
  1: string catName
  2: string dbName
  3: string tblName
  4: i16 maxParts
  5: string validWriteIdList
  6: i64 id
}

struct GetPartitionsByNamesRequest {
  1: string db_name
  2: string tbl_name
  3: list<string> names
  4: bool get_col_stats
  5: list<string> processorCapabilities
  6: string processorIdentifier
  7: string engine
  8: string validWriteIdList
  9: bool getFileMetadata
  10: i64 id
}
struct GetPartitionsByNamesResult { 1: list<Partition> partitions }

struct AddPartitionsRequest {
  1: string dbName
  2: string tblName
  3: list<Partition> parts
  4: bool ifNotExists
  5: bool needResult
  6: string catName
  7: string validWriteIdList
  10: EnvironmentContext environmentContext   // 4.0
}
struct AddPartitionsResult { 1: list<Partition> partitions 2: bool isStatsCompliant }

struct AlterPartitionsRequest {
  1: string catName
  2: string dbName
  3: string tableName
  4: list<Partition> partitions
  5: EnvironmentContext environmentContext
  6: i64 writeId
  7: string validWriteIdList
}
struct AlterPartitionsResponse { }

struct RenamePartitionRequest {
  1: string catName
  2: string dbName
  3: string tableName
  4: list<string> partVals
  5: Partition newPart
  6: string validWriteIdList
  7: i64 txnId
  8: bool clonePart
}
struct RenamePartitionResponse { }

struct DropPartitionsExpr { 1: binary expr 2: i32 partArchiveLevel }
union RequestPartsSpec { 1: list<string> names 2: list<DropPartitionsExpr> exprs }
struct DropPartitionsRequest {
  1: string dbName
  2: string tblName
  3: RequestPartsSpec parts
  4: bool deleteData
  5: bool ifExists
  6: bool ignoreProtection
  7: EnvironmentContext environmentContext
  8: bool needResult
  9: string catName
}
struct DropPartitionsResult { 1: list<Partition> partitions }

struct TruncateTableRequest {
  1: string dbName
  2: string tableName
  3: list<string> partNames
  4: i64 writeId
  5: string validWriteIdList
  6: EnvironmentContext environmentContext
}
struct TruncateTableResponse { }

// ---------------------------------------------------------------- notification log

struct NotificationEventRequest {
  1: i64 lastEvent
  2: i32 maxEvents
  3: list<string> eventTypeSkipList   // 4.0
}

struct NotificationEvent {
  1: i64 eventId
  2: i32 eventTime                   // seconds
  3: string eventType
  4: string dbName
  5: string tableName
  6: string message
  7: string messageFormat
  8: string catName                  // 3.0
}
struct NotificationEventResponse { 1: list<NotificationEvent> events }
struct CurrentNotificationEventId { 1: i64 eventId }

struct NotificationEventsCountRequest {
  1: i64 fromEventId
  2: string dbName
  3: string catName
  4: i64 toEventId
  5: i64 limit
}
struct NotificationEventsCountResponse { 1: i64 eventsCount }

// As 3.0 and later number it. 2.3 has {1: filesAdded, 2: filesAddedChecksum}: this must not be sent there.
struct InsertEventRequestData {
  1: bool replace
  2: list<string> filesAdded
  3: list<string> filesAddedChecksum
  4: list<string> subDirectoryList
  5: list<string> partitionVal
}
union FireEventRequestData { 1: InsertEventRequestData insertData 2: list<InsertEventRequestData> insertDatas }
struct FireEventRequest {
  1: bool successful
  2: FireEventRequestData data
  3: string dbName
  4: string tableName
  5: list<string> partitionVals
  6: string catName
}
struct FireEventResponse { 1: list<i64> eventIds }

struct WriteNotificationLogRequest {
  1: i64 txnId
  2: i64 writeId
  3: string db
  4: string table
  5: InsertEventRequestData fileInfo
  6: list<string> partitionVals
}
struct WriteNotificationLogResponse { }

// ---------------------------------------------------------------- transactions, write ids (3.0)

struct GetOpenTxnsResponse {
  1: i64 txn_high_water_mark
  2: list<i64> open_txns             // a set in 2.3
  3: i64 min_open_txn
  4: binary abortedBits
}

enum TxnType { DEFAULT = 0, REPL_CREATED = 1, READ_ONLY = 2, COMPACTION = 3, MATER_VIEW_REBUILD = 4, SOFT_DELETE = 5 }

struct OpenTxnRequest {
  1: i32 num_txns
  2: string user
  3: string hostname
  4: string agentInfo
  5: string replPolicy
  6: list<i64> replSrcTxnIds
  7: TxnType txn_type
}
struct OpenTxnsResponse { 1: list<i64> txn_ids }
struct AbortTxnRequest { 1: i64 txnid 2: string replPolicy 3: TxnType txn_type 4: i64 errorCode }
struct CommitTxnRequest { 1: i64 txnid 2: string replPolicy }

struct GetValidWriteIdsRequest { 1: list<string> fullTableNames 2: string validTxnList 3: i64 writeId }
struct TableValidWriteIds {
  1: string fullTableName
  2: i64 writeIdHighWaterMark
  3: list<i64> invalidWriteIds
  4: i64 minOpenWriteId
  5: binary abortedBits
}
struct GetValidWriteIdsResponse { 1: list<TableValidWriteIds> tblValidWriteIds }

struct TxnToWriteId { 1: i64 txnId 2: i64 writeId }
struct AllocateTableWriteIdsRequest {
  1: string dbName
  2: string tableName
  3: list<i64> txnIds
  4: string replPolicy
  5: list<TxnToWriteId> srcTxnToWriteIdList
  6: bool reallocate
}
struct AllocateTableWriteIdsResponse { 1: list<TxnToWriteId> txnToWriteIds }

// ---------------------------------------------------------------- what calls end with

exception MetaException { 1: string message }
exception UnknownTableException { 1: string message }
exception UnknownDBException { 1: string message }
exception AlreadyExistsException { 1: string message }
exception InvalidObjectException { 1: string message }
exception NoSuchObjectException { 1: string message }
exception InvalidOperationException { 1: string message }
exception InvalidInputException { 1: string message }
exception NoSuchTxnException { 1: string message }
exception TxnAbortedException { 1: string message }

// ---------------------------------------------------------------- the service

service ThriftHiveMetastore {
  // of fb303.FacebookService, which the official service extends
  string getName()
  string getVersion()
  i32 getStatus()

  string get_metastore_db_uuid() throws (1: MetaException o1)   // 3.0
  list<string> set_ugi(1: string user_name, 2: list<string> group_names) throws (1: MetaException o1)
  string get_config_value(1: string name, 2: string defaultValue)

  GetCatalogsResponse get_catalogs() throws (1: MetaException o1)
  GetCatalogResponse get_catalog(1: GetCatalogRequest catName) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void create_catalog(1: CreateCatalogRequest catalog) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3)
  void alter_catalog(1: AlterCatalogRequest rqst) throws (1: NoSuchObjectException o1, 2: InvalidOperationException o2, 3: MetaException o3)
  void drop_catalog(1: DropCatalogRequest catName) throws (1: NoSuchObjectException o1, 2: InvalidOperationException o2, 3: MetaException o3)

  list<string> get_all_databases() throws (1: MetaException o1)
  list<string> get_databases(1: string pattern) throws (1: MetaException o1)
  Database get_database(1: string name) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  Database get_database_req(1: GetDatabaseRequest request) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void create_database(1: Database database) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3)
  void alter_database(1: string dbname, 2: Database db) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  void drop_database(1: string name, 2: bool deleteData, 3: bool cascade) throws (1: NoSuchObjectException o1, 2: InvalidOperationException o2, 3: MetaException o3)
  void drop_database_req(1: DropDatabaseRequest req) throws (1: NoSuchObjectException o1, 2: InvalidOperationException o2, 3: MetaException o3)

  list<string> get_all_tables(1: string db_name) throws (1: MetaException o1)
  list<string> get_tables_by_type(1: string db_name, 2: string pattern, 3: string tableType) throws (1: MetaException o1)
  Table get_table(1: string dbname, 2: string tbl_name) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  GetTableResult get_table_req(1: GetTableRequest req) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  list<Table> get_table_objects_by_name(1: string dbname, 2: list<string> tbl_names) throws (1: MetaException o1, 2: InvalidOperationException o2, 3: UnknownDBException o3)
  GetTablesResult get_table_objects_by_name_req(1: GetTablesRequest req) throws (1: MetaException o1, 2: InvalidOperationException o2, 3: UnknownDBException o3)
  void create_table(1: Table tbl) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: NoSuchObjectException o4)
  void create_table_with_environment_context(1: Table tbl, 2: EnvironmentContext environment_context) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: NoSuchObjectException o4)
  void create_table_with_constraints(1: Table tbl, 2: list<SQLPrimaryKey> primaryKeys, 3: list<SQLForeignKey> foreignKeys, 4: list<SQLUniqueConstraint> uniqueConstraints, 5: list<SQLNotNullConstraint> notNullConstraints, 6: list<SQLDefaultConstraint> defaultConstraints, 7: list<SQLCheckConstraint> checkConstraints) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: NoSuchObjectException o4)
  void create_table_req(1: CreateTableRequest request) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: NoSuchObjectException o4)
  void alter_table(1: string dbname, 2: string tbl_name, 3: Table new_tbl) throws (1: InvalidOperationException o1, 2: MetaException o2)
  void alter_table_with_environment_context(1: string dbname, 2: string tbl_name, 3: Table new_tbl, 4: EnvironmentContext environment_context) throws (1: InvalidOperationException o1, 2: MetaException o2)
  AlterTableResponse alter_table_req(1: AlterTableRequest req) throws (1: InvalidOperationException o1, 2: MetaException o2)
  void drop_table(1: string dbname, 2: string name, 3: bool deleteData) throws (1: NoSuchObjectException o1, 2: MetaException o3)
  void drop_table_with_environment_context(1: string dbname, 2: string name, 3: bool deleteData, 4: EnvironmentContext environment_context) throws (1: NoSuchObjectException o1, 2: MetaException o3)
  void drop_table_req(1: DropTableRequest dropTableReq) throws (1: NoSuchObjectException o1, 2: MetaException o3)
  void truncate_table(1: string dbName, 2: string tableName, 3: list<string> partNames) throws (1: MetaException o1)
  TruncateTableResponse truncate_table_req(1: TruncateTableRequest req) throws (1: MetaException o1)
  void update_creation_metadata(1: string catName, 2: string dbname, 3: string tbl_name, 4: CreationMetadata creation_metadata) throws (1: MetaException o1, 2: InvalidOperationException o2, 3: UnknownDBException o3)

  list<string> get_partition_names(1: string db_name, 2: string tbl_name, 3: i16 max_parts) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  list<string> fetch_partition_names_req(1: PartitionsRequest partitionReq) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  i32 get_num_partitions_by_filter(1: string db_name, 2: string tbl_name, 3: string filter) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  Partition get_partition(1: string db_name, 2: string tbl_name, 3: list<string> part_vals) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  list<Partition> get_partitions_by_names(1: string db_name, 2: string tbl_name, 3: list<string> names) throws (1: MetaException o1, 2: NoSuchObjectException o2, 3: InvalidObjectException o3)
  GetPartitionsByNamesResult get_partitions_by_names_req(1: GetPartitionsByNamesRequest req) throws (1: MetaException o1, 2: NoSuchObjectException o2, 3: InvalidObjectException o3)
  i32 add_partitions(1: list<Partition> new_parts) throws (1: InvalidObjectException o1, 2: AlreadyExistsException o2, 3: MetaException o3)
  AddPartitionsResult add_partitions_req(1: AddPartitionsRequest request) throws (1: InvalidObjectException o1, 2: AlreadyExistsException o2, 3: MetaException o3)
  void alter_partitions(1: string db_name, 2: string tbl_name, 3: list<Partition> new_parts) throws (1: InvalidOperationException o1, 2: MetaException o2)
  void alter_partitions_with_environment_context(1: string db_name, 2: string tbl_name, 3: list<Partition> new_parts, 4: EnvironmentContext environment_context) throws (1: InvalidOperationException o1, 2: MetaException o2)
  AlterPartitionsResponse alter_partitions_req(1: AlterPartitionsRequest req) throws (1: InvalidOperationException o1, 2: MetaException o2)
  void rename_partition(1: string db_name, 2: string tbl_name, 3: list<string> part_vals, 4: Partition new_part) throws (1: InvalidOperationException o1, 2: MetaException o2)
  RenamePartitionResponse rename_partition_req(1: RenamePartitionRequest req) throws (1: InvalidOperationException o1, 2: MetaException o2)
  bool drop_partition_by_name_with_environment_context(1: string db_name, 2: string tbl_name, 3: string part_name, 4: bool deleteData, 5: EnvironmentContext environment_context) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  DropPartitionsResult drop_partitions_req(1: DropPartitionsRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)

  PrimaryKeysResponse get_primary_keys(1: PrimaryKeysRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  ForeignKeysResponse get_foreign_keys(1: ForeignKeysRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  UniqueConstraintsResponse get_unique_constraints(1: UniqueConstraintsRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  NotNullConstraintsResponse get_not_null_constraints(1: NotNullConstraintsRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  DefaultConstraintsResponse get_default_constraints(1: DefaultConstraintsRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  CheckConstraintsResponse get_check_constraints(1: CheckConstraintsRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  AllTableConstraintsResponse get_all_table_constraints(1: AllTableConstraintsRequest request) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  void add_primary_key(1: AddPrimaryKeyRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void add_foreign_key(1: AddForeignKeyRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void add_unique_constraint(1: AddUniqueConstraintRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void add_not_null_constraint(1: AddNotNullConstraintRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void add_default_constraint(1: AddDefaultConstraintRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void add_check_constraint(1: AddCheckConstraintRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  void drop_constraint(1: DropConstraintRequest req) throws (1: NoSuchObjectException o1, 2: MetaException o3)

  TableStatsResult get_table_statistics_req(1: TableStatsRequest request) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  PartitionsStatsResult get_partitions_statistics_req(1: PartitionsStatsRequest request) throws (1: NoSuchObjectException o1, 2: MetaException o2)
  bool set_aggr_stats_for(1: SetPartitionsStatsRequest request) throws (1: NoSuchObjectException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: InvalidInputException o4)
  bool update_table_column_statistics(1: ColumnStatistics stats_obj) throws (1: NoSuchObjectException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: InvalidInputException o4)
  bool update_partition_column_statistics(1: ColumnStatistics stats_obj) throws (1: NoSuchObjectException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: InvalidInputException o4)
  SetPartitionsStatsResponse update_table_column_statistics_req(1: SetPartitionsStatsRequest req) throws (1: NoSuchObjectException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: InvalidInputException o4)
  SetPartitionsStatsResponse update_partition_column_statistics_req(1: SetPartitionsStatsRequest req) throws (1: NoSuchObjectException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: InvalidInputException o4)
  bool delete_table_column_statistics(1: string db_name, 2: string tbl_name, 3: string col_name, 4: string engine) throws (1: NoSuchObjectException o1, 2: MetaException o2, 3: InvalidObjectException o3, 4: InvalidInputException o4)
  bool delete_partition_column_statistics(1: string db_name, 2: string tbl_name, 3: string part_name, 4: string col_name, 5: string engine) throws (1: NoSuchObjectException o1, 2: MetaException o2, 3: InvalidObjectException o3, 4: InvalidInputException o4)

  list<string> get_functions(1: string dbName, 2: string pattern) throws (1: MetaException o1)
  Function get_function(1: string dbName, 2: string funcName) throws (1: MetaException o1, 2: NoSuchObjectException o2)
  GetAllFunctionsResponse get_all_functions() throws (1: MetaException o1)
  void create_function(1: Function func) throws (1: AlreadyExistsException o1, 2: InvalidObjectException o2, 3: MetaException o3, 4: NoSuchObjectException o4)
  void alter_function(1: string dbName, 2: string funcName, 3: Function newFunc) throws (1: InvalidOperationException o1, 2: MetaException o2)
  void drop_function(1: string dbName, 2: string funcName) throws (1: NoSuchObjectException o1, 2: MetaException o3)

  list<string> get_role_names() throws (1: MetaException o1)
  bool create_role(1: Role role) throws (1: MetaException o1)
  bool drop_role(1: string role_name) throws (1: MetaException o1)
  list<Role> list_roles(1: string principal_name, 2: PrincipalType principal_type) throws (1: MetaException o1)
  GetPrincipalsInRoleResponse get_principals_in_role(1: GetPrincipalsInRoleRequest request) throws (1: MetaException o1)
  GetRoleGrantsForPrincipalResponse get_role_grants_for_principal(1: GetRoleGrantsForPrincipalRequest request) throws (1: MetaException o1)
  GrantRevokeRoleResponse grant_revoke_role(1: GrantRevokeRoleRequest request) throws (1: MetaException o1)
  list<HiveObjectPrivilege> list_privileges(1: string principal_name, 2: PrincipalType principal_type, 3: HiveObjectRef hiveObject) throws (1: MetaException o1)
  bool grant_privileges(1: PrivilegeBag privileges) throws (1: MetaException o1)
  bool revoke_privileges(1: PrivilegeBag privileges) throws (1: MetaException o1)
  GrantRevokePrivilegeResponse grant_revoke_privileges(1: GrantRevokePrivilegeRequest request) throws (1: MetaException o1)
  GrantRevokePrivilegeResponse refresh_privileges(1: HiveObjectRef objToRefresh, 2: string authorizer, 3: GrantRevokePrivilegeRequest grantRequest) throws (1: MetaException o1)

  NotificationEventResponse get_next_notification(1: NotificationEventRequest rqst)
  CurrentNotificationEventId get_current_notificationEventId()
  NotificationEventsCountResponse get_notification_events_count(1: NotificationEventsCountRequest rqst)
  FireEventResponse fire_listener_event(1: FireEventRequest rqst)
  WriteNotificationLogResponse add_write_notification_log(1: WriteNotificationLogRequest rqst)

  GetOpenTxnsResponse get_open_txns()
  OpenTxnsResponse open_txns(1: OpenTxnRequest rqst)
  void commit_txn(1: CommitTxnRequest rqst) throws (1: NoSuchTxnException o1, 2: TxnAbortedException o2)
  void abort_txn(1: AbortTxnRequest rqst) throws (1: NoSuchTxnException o1)
  GetValidWriteIdsResponse get_valid_write_ids(1: GetValidWriteIdsRequest rqst) throws (1: NoSuchTxnException o1, 2: MetaException o2)
  AllocateTableWriteIdsResponse allocate_table_write_ids(1: AllocateTableWriteIdsRequest rqst) throws (1: NoSuchTxnException o1, 2: TxnAbortedException o2, 3: MetaException o3)
}
