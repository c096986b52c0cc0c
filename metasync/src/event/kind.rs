//! What can happen in a metastore, as plain data: one variant for each type of event that Hive 2.3 to 4.x may log.
//!
//! Lists of files are kept as Hive wrote them (`uri`, `uri#checksum`, `uri#checksum#cmroot#subdir`): data always comes from a
//! listing (rule 22).

use crate::model::{
    Catalog, ColumnStatistics, Constraint, Database, DatabaseName, Function, Parameters, Partition, PartitionName,
    Table, TableName,
};

/// What happened. Objects are as they were then; `None` where this version of Hive does not say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// CREATE_DATABASE
    CreateDatabase {
        /// Which.
        name: DatabaseName,
        /// Hive 3 and later.
        database: Option<Box<Database>>,
    },
    /// ALTER_DATABASE
    AlterDatabase {
        /// As it was.
        before: Box<Database>,
        /// As it is.
        after: Box<Database>,
    },
    /// DROP_DATABASE; what was in it was dropped by events of its own.
    DropDatabase {
        /// Which.
        name: DatabaseName,
        /// As it was; Hive 4.
        database: Option<Box<Database>>,
    },
    /// CREATE_TABLE
    CreateTable {
        /// As it is.
        table: Box<Table>,
        /// Its files, if Hive looked.
        files: Vec<String>,
    },
    /// ALTER_TABLE; a rename where the names differ.
    AlterTable {
        /// As it was.
        before: Box<Table>,
        /// As it is.
        after: Box<Table>,
        /// Whether it was emptied; Hive 3 and later. In 2.3 a truncation cannot be told from another alteration.
        truncated: Option<bool>,
        /// Hive 4, transactional tables.
        write_id: Option<i64>,
    },
    /// DROP_TABLE
    DropTable {
        /// Which.
        name: TableName,
        /// As it was; Hive 3.1 and later.
        table: Option<Box<Table>>,
    },
    /// ADD_PARTITION, of one or many.
    AddPartitions {
        /// Their table.
        table: Box<Table>,
        /// As they are.
        partitions: Vec<NamedPartition>,
        /// Their files, if Hive looked.
        files: Vec<PartitionFiles>,
    },
    /// ALTER_PARTITION; a rename where the names differ.
    AlterPartition {
        /// Its table.
        table: Box<Table>,
        /// As it was.
        before: Box<NamedPartition>,
        /// As it is.
        after: Box<NamedPartition>,
        /// As for a table.
        truncated: Option<bool>,
        /// Hive 4, transactional tables.
        write_id: Option<i64>,
    },
    /// ALTER_PARTITIONS: several at once, none renamed; Hive 4.2.
    AlterPartitions {
        /// Their table.
        table: Box<Table>,
        /// As they are.
        partitions: Vec<NamedPartition>,
        /// Whether they were emptied.
        truncated: Option<bool>,
        /// Of transactional tables.
        write_id: Option<i64>,
    },
    /// DROP_PARTITION, of one or many.
    DropPartitions {
        /// Their table's name.
        name: TableName,
        /// Their table.
        table: Option<Box<Table>>,
        /// Which.
        partitions: Vec<PartitionName>,
    },
    /// INSERT: files were added to a table or a partition, or took the place of those that were there.
    Insert {
        /// The table's name.
        name: TableName,
        /// The table; Hive 3 and later.
        table: Option<Box<Table>>,
        /// Which partition, if into one that is named.
        partition: Option<PartitionName>,
        /// The partition; Hive 3 and later.
        object: Option<Box<Partition>>,
        /// Whether what was there before is gone; Hive 3 and later.
        replace: Option<bool>,
        /// The new files.
        files: Vec<String>,
    },
    /// CREATE_FUNCTION
    CreateFunction {
        /// As it is.
        function: Box<Function>,
    },
    /// DROP_FUNCTION
    DropFunction {
        /// Its database.
        database: DatabaseName,
        /// Its name.
        function: String,
    },
    /// ADD_PRIMARYKEY, ADD_FOREIGNKEY, ADD_UNIQUECONSTRAINT, ADD_NOTNULLCONSTRAINT, ADD_DEFAULTCONSTRAINT,
    /// ADD_CHECKCONSTRAINT
    AddConstraints {
        /// Foreign keys on the table that refers; the row itself names the one that is referred to.
        constraints: Vec<Constraint>,
    },
    /// DROP_CONSTRAINT
    DropConstraint {
        /// The constrained table.
        table: TableName,
        /// The constraint's name.
        constraint: String,
    },
    /// OPEN_TXN
    OpenTransactions {
        /// Which, where they are listed.
        ids: Vec<i64>,
        /// The first, where they are a range.
        first: Option<i64>,
        /// The last, where they are a range.
        last: Option<i64>,
    },
    /// COMMIT_TXN. The lists stand empty in the log, but for write ids and databases in 4.2.
    CommitTransaction {
        /// Which.
        id: i64,
        /// Ids of its writes.
        write_ids: Vec<i64>,
        /// Where they went.
        databases: Vec<String>,
        /// Where they went.
        tables: Vec<String>,
        /// Where they went; empty text for a table without partitions.
        partitions: Vec<String>,
        /// Files of a write, joined by `]`.
        files: Vec<String>,
    },
    /// ABORT_TXN
    AbortTransaction {
        /// Which.
        id: i64,
        /// Where it wrote; Hive 4.
        databases: Vec<String>,
        /// Ids of its writes; Hive 4.2.
        write_ids: Vec<i64>,
    },
    /// ALLOC_WRITE_ID_EVENT
    AllocateWriteIds {
        /// The table that will be written to.
        table: TableName,
        /// Pairs of transaction and write id.
        ids: Vec<(i64, i64)>,
    },
    /// ACID_WRITE_EVENT, BATCH_ACID_WRITE_EVENT. Not in the log of any known version: it stands in a table of its own.
    TransactionalWrite {
        /// The transaction.
        id: i64,
        /// The write.
        write_id: i64,
        /// The table's name.
        name: TableName,
        /// The partition's name.
        partition: Option<PartitionName>,
        /// The new files.
        files: Vec<String>,
    },
    /// UPDATE_TBL_COL_STAT_EVENT
    UpdateTableStatistics {
        /// The table's name.
        name: TableName,
        /// The table.
        table: Option<Box<Table>>,
        /// Of these columns.
        statistics: Vec<ColumnStatistics>,
        /// The table's parameters.
        parameters: Parameters,
        /// Of transactional tables.
        write_id: Option<i64>,
    },
    /// DELETE_TBL_COL_STAT_EVENT
    DeleteTableStatistics {
        /// The table's name.
        name: TableName,
        /// Of which column; of all if none is named.
        column: Option<String>,
    },
    /// UPDATE_PART_COL_STAT_EVENT
    UpdatePartitionStatistics {
        /// The table's name.
        name: TableName,
        /// The table.
        table: Option<Box<Table>>,
        /// Of which partition.
        partition: PartitionName,
        /// Of these columns.
        statistics: Vec<ColumnStatistics>,
        /// The partition's parameters.
        parameters: Parameters,
        /// Of transactional tables.
        write_id: Option<i64>,
    },
    /// UPDATE_PART_COL_STAT_EVENT_BATCH: listeners see it, the log has an event for each partition instead.
    UpdateStatisticsOfPartitions {
        /// The table's name, where the row has one.
        name: Option<TableName>,
    },
    /// DELETE_PART_COL_STAT_EVENT
    DeletePartitionStatistics {
        /// The table's name.
        name: TableName,
        /// Of which partition.
        partition: PartitionName,
        /// Of which column; of all if none is named.
        column: Option<String>,
    },
    /// COMMIT_COMPACTION_EVENT: files of a table or partition were merged into others.
    CommitCompaction {
        /// The transaction.
        id: i64,
        /// The compaction.
        compaction: i64,
        /// `MAJOR`, `MINOR`, or what a later Hive adds.
        compaction_type: Option<String>,
        /// The table.
        name: TableName,
        /// The partition.
        partition: Option<PartitionName>,
    },
    /// RELOAD: somebody asked engines to look again.
    Reload {
        /// The table's name.
        name: TableName,
        /// The table.
        table: Option<Box<Table>>,
        /// The partitions; none for all of the table.
        partitions: Vec<PartitionName>,
        /// Whether a refresh was asked for, else that what is kept is forgotten.
        refresh: Option<bool>,
    },
    /// CREATE_INDEX; Hive 2.3.
    CreateIndex {
        /// As it is.
        index: Index,
    },
    /// ALTER_INDEX; Hive 2.3.
    AlterIndex {
        /// As it was.
        before: Index,
        /// As it is.
        after: Index,
    },
    /// DROP_INDEX; Hive 2.3. The table that held it is dropped with it, without an event of its own.
    DropIndex {
        /// As it was.
        index: Index,
    },
    /// CREATE_CATALOG. Not in the log of any known version.
    CreateCatalog {
        /// Which.
        catalog: String,
    },
    /// ALTER_CATALOG. Not in the log of any known version.
    AlterCatalog {
        /// As it was.
        before: Box<Catalog>,
        /// As it is.
        after: Box<Catalog>,
    },
    /// DROP_CATALOG. Not in the log of any known version.
    DropCatalog {
        /// Which.
        catalog: String,
    },
    /// CREATE_DATACONNECTOR, ALTER_DATACONNECTOR, DROP_DATACONNECTOR: of nothing that the model holds.
    DataConnector,
    /// CREATE_ISCHEMA, ALTER_ISCHEMA, DROP_ISCHEMA, ADD_SCHEMA_VERSION, ALTER_SCHEMA_VERSION, DROP_SCHEMA_VERSION: of the
    /// schema registry, of which the model holds nothing.
    SchemaRegistry,
    /// LOAD_PARTITION_DONE: a mark that clients set for each other.
    LoadPartitionDone,
    /// A type that is not known here. Its message was not looked at; the names are its row's.
    Unknown {
        /// Where the row names one.
        database: Option<DatabaseName>,
        /// Where the row names one.
        table: Option<TableName>,
    },
}

/// A partition with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPartition {
    /// Escaped.
    pub name: PartitionName,
    /// The rest.
    pub partition: Partition,
}

/// The files of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFiles {
    /// As the message has it.
    pub name: PartitionName,
    /// As Hive wrote them.
    pub files: Vec<String>,
}

/// An index of Hive 2.3, which keeps what it knows in a table of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The index's name.
    pub name: String,
    /// The table that it is on.
    pub table: TableName,
    /// The table that holds it.
    pub index_table: Option<TableName>,
}
