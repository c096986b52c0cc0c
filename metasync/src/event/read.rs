//! From the type of an event and its JSON to what happened. Pure; a property that is asked for and not there is an error.

use super::message::{Flag, List, Pairs};
use super::objects::{
    catalog, constraints, database, database_name, function, index, named_partition, named_partitions, optional_table,
    partition, partition_name, partition_name_of, statistics, table, table_name, table_of_row,
};
use super::{Index, Kind, PartitionFiles, Wrong, damaged};
use crate::metastore::EventRow;
use crate::metastore::thrift::convert;
use crate::model::PartitionName;
use serde::Deserialize;
use serde::de::DeserializeOwned;

type Decoded = Result<Kind, Wrong>;

/// What happened, by the type of the row and the JSON of its message.
pub(super) fn kind(row: &EventRow, json: &str) -> Decoded {
    match row.event_type.as_str() {
        "CREATE_DATABASE" => create_database(row, json),
        "ALTER_DATABASE" => alter_database(row, json),
        "DROP_DATABASE" => drop_database(row, json),
        "CREATE_TABLE" => create_table(row, json),
        "ALTER_TABLE" => alter_table(row, json),
        "DROP_TABLE" => drop_table(row, json),
        "ADD_PARTITION" => add_partition(row, json),
        "ALTER_PARTITION" => alter_partition(row, json),
        "ALTER_PARTITIONS" => alter_partitions(row, json),
        "DROP_PARTITION" => drop_partition(row, json),
        "INSERT" => insert(row, json),
        "CREATE_FUNCTION" => create_function(row, json),
        "DROP_FUNCTION" => drop_function(row, json),
        "ADD_PRIMARYKEY"
        | "ADD_FOREIGNKEY"
        | "ADD_UNIQUECONSTRAINT"
        | "ADD_NOTNULLCONSTRAINT"
        | "ADD_DEFAULTCONSTRAINT"
        | "ADD_CHECKCONSTRAINT" => add_constraint(row, json),
        "DROP_CONSTRAINT" => drop_constraint(row, json),
        "OPEN_TXN" => open_transactions(json),
        "COMMIT_TXN" => commit_transaction(json),
        "ABORT_TXN" => abort_transaction(json),
        "ALLOC_WRITE_ID_EVENT" => allocate_write_ids(row, json),
        "ACID_WRITE_EVENT" | "BATCH_ACID_WRITE_EVENT" => transactional_write(row, json),
        "UPDATE_TBL_COL_STAT_EVENT" => update_table_statistics(row, json),
        "DELETE_TBL_COL_STAT_EVENT" => delete_table_statistics(row, json),
        "UPDATE_PART_COL_STAT_EVENT" => update_partition_statistics(row, json),
        "UPDATE_PART_COL_STAT_EVENT_BATCH" => Ok(Kind::UpdateStatisticsOfPartitions { name: table_of_row(row) }),
        "DELETE_PART_COL_STAT_EVENT" => delete_partition_statistics(row, json),
        "COMMIT_COMPACTION_EVENT" => commit_compaction(row, json),
        "RELOAD" => reload(row, json),
        "CREATE_INDEX" | "ALTER_INDEX" | "DROP_INDEX" => of_index(row, json),
        "CREATE_CATALOG" | "ALTER_CATALOG" | "DROP_CATALOG" => of_catalog(row, json),
        "CREATE_DATACONNECTOR" | "ALTER_DATACONNECTOR" | "DROP_DATACONNECTOR" => Ok(Kind::DataConnector),
        "CREATE_ISCHEMA"
        | "ALTER_ISCHEMA"
        | "DROP_ISCHEMA"
        | "ADD_SCHEMA_VERSION"
        | "ALTER_SCHEMA_VERSION"
        | "DROP_SCHEMA_VERSION" => Ok(Kind::SchemaRegistry),
        "LOAD_PARTITION_DONE" => Ok(Kind::LoadPartitionDone),
        _ => Ok(Kind::Unknown {
            database: row.database.as_deref().map(|database| database_name(row, database)),
            table: table_of_row(row),
        }),
    }
}

fn parsed<T: DeserializeOwned>(json: &str) -> Result<T, Wrong> {
    serde_json::from_str(json).map_err(|error| damaged(format_args!("its message: {error}")))
}

fn create_database(row: &EventRow, json: &str) -> Decoded {
    let (name, database) = of_database(row, json)?;
    Ok(Kind::CreateDatabase { name, database })
}

fn drop_database(row: &EventRow, json: &str) -> Decoded {
    let (name, database) = of_database(row, json)?;
    Ok(Kind::DropDatabase { name, database })
}

type FoundDatabase = (crate::model::DatabaseName, Option<Box<crate::model::Database>>);

fn of_database(row: &EventRow, json: &str) -> Result<FoundDatabase, Wrong> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db: String,
        db_json: Option<String>,
    }
    let message: Message = parsed(json)?;
    let object = message.db_json.map(|text| database(row, "dbJson", &text)).transpose()?;
    Ok((database_name(row, &message.db), object))
}

fn alter_database(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db_obj_before_json: String,
        db_obj_after_json: String,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::AlterDatabase {
        before: database(row, "dbObjBeforeJson", &message.db_obj_before_json)?,
        after: database(row, "dbObjAfterJson", &message.db_obj_after_json)?,
    })
}

fn create_table(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        table_obj_json: String,
        #[serde(default)]
        files: List<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CreateTable { table: table(row, "tableObjJson", &message.table_obj_json)?, files: message.files.0 })
}

fn alter_table(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        table_obj_before_json: String,
        table_obj_after_json: String,
        is_truncate_op: Option<Flag>,
        write_id: Option<i64>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::AlterTable {
        before: table(row, "tableObjBeforeJson", &message.table_obj_before_json)?,
        after: table(row, "tableObjAfterJson", &message.table_obj_after_json)?,
        truncated: message.is_truncate_op.map(|Flag(truncated)| truncated),
        write_id: message.write_id,
    })
}

fn drop_table(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db: String,
        table: String,
        table_obj_json: Option<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::DropTable {
        name: table_name(row, &message.db, &message.table),
        table: optional_table(row, "tableObjJson", message.table_obj_json.as_deref())?,
    })
}

fn add_partition(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Files {
        partition_name: String,
        #[serde(default)]
        files: List<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        table_obj_json: String,
        partition_list_json: List<String>,
        #[serde(default)]
        partition_files: List<Files>,
    }
    let message: Message = parsed(json)?;
    let table = table(row, "tableObjJson", &message.table_obj_json)?;
    let partitions = named_partitions(&table, "partitionListJson", &message.partition_list_json)?;
    let files = |found: Files| PartitionFiles { name: PartitionName(found.partition_name), files: found.files.0 };
    Ok(Kind::AddPartitions { table, partitions, files: message.partition_files.0.into_iter().map(files).collect() })
}

fn alter_partition(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        table_obj_json: String,
        partition_obj_before_json: String,
        partition_obj_after_json: String,
        is_truncate_op: Option<Flag>,
        write_id: Option<i64>,
    }
    let message: Message = parsed(json)?;
    let table = table(row, "tableObjJson", &message.table_obj_json)?;
    Ok(Kind::AlterPartition {
        before: Box::new(named_partition(&table, "partitionObjBeforeJson", &message.partition_obj_before_json)?),
        after: Box::new(named_partition(&table, "partitionObjAfterJson", &message.partition_obj_after_json)?),
        table,
        truncated: message.is_truncate_op.map(|Flag(truncated)| truncated),
        write_id: message.write_id,
    })
}

fn alter_partitions(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        table_obj_json: String,
        partition_list_json: List<String>,
        is_truncate_op: Option<Flag>,
        write_id: Option<i64>,
    }
    let message: Message = parsed(json)?;
    let table = table(row, "tableObjJson", &message.table_obj_json)?;
    Ok(Kind::AlterPartitions {
        partitions: named_partitions(&table, "partitionListJson", &message.partition_list_json)?,
        table,
        truncated: message.is_truncate_op.map(|Flag(truncated)| truncated),
        write_id: message.write_id,
    })
}

fn drop_partition(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db: String,
        table: String,
        table_obj_json: Option<String>,
        partitions: List<Pairs>,
    }
    let message: Message = parsed(json)?;
    let table = optional_table(row, "tableObjJson", message.table_obj_json.as_deref())?;
    let name = |Pairs(pairs): &Pairs| partition_name_of(table.as_deref(), "partitions", pairs);
    Ok(Kind::DropPartitions {
        name: table_name(row, &message.db, &message.table),
        partitions: message.partitions.0.iter().map(name).collect::<Result<_, _>>()?,
        table,
    })
}

fn insert(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db: String,
        table: String,
        table_obj_json: Option<String>,
        ptn_obj_json: Option<String>,
        #[serde(default)]
        part_key_vals: Pairs,
        replace: Option<Flag>,
        #[serde(default)]
        files: List<String>,
    }
    let message: Message = parsed(json)?;
    let table = optional_table(row, "tableObjJson", message.table_obj_json.as_deref())?;
    let object = message.ptn_obj_json.map(|text| partition("ptnObjJson", &text)).transpose()?;
    let name = match (&table, &object, message.part_key_vals.0.is_empty()) {
        (Some(table), Some(object), _) => Some(partition_name(table, "ptnObjJson", &object.values)?),
        (None, Some(_), _) => return Err(damaged("its `ptnObjJson` stands without the table that names its keys")),
        (_, None, false) => Some(partition_name_of(table.as_deref(), "partKeyVals", &message.part_key_vals.0)?),
        (_, None, true) => None,
    };
    Ok(Kind::Insert {
        name: table_name(row, &message.db, &message.table),
        table,
        partition: name,
        object: object.map(Box::new),
        replace: message.replace.map(|Flag(replace)| replace),
        files: message.files.0,
    })
}

fn create_function(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        function_obj_json: String,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CreateFunction { function: function(row, "functionObjJson", &message.function_obj_json)? })
}

fn drop_function(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db: String,
        function_name: String,
    }
    let message: Message = parsed(json)?;
    let database = database_name(row, &message.db);
    Ok(Kind::DropFunction { database, function: message.function_name.to_lowercase() })
}

fn add_constraint(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        #[serde(default)]
        primary_key_list_json: List<String>,
        #[serde(default)]
        foreign_key_list_json: List<String>,
        #[serde(default)]
        unique_constraint_list_json: List<String>,
        #[serde(default)]
        not_null_constraint_list_json: List<String>,
        #[serde(default)]
        default_constraint_list_json: List<String>,
        #[serde(default)]
        check_constraint_list_json: List<String>,
    }
    let message: Message = parsed(json)?;
    let constraints = match row.event_type.as_str() {
        "ADD_PRIMARYKEY" => {
            constraints(row, "primaryKeyListJson", &message.primary_key_list_json, convert::from_primary_keys)
        }
        "ADD_FOREIGNKEY" => {
            constraints(row, "foreignKeyListJson", &message.foreign_key_list_json, convert::from_foreign_keys)
        }
        "ADD_UNIQUECONSTRAINT" => {
            constraints(row, "uniqueConstraintListJson", &message.unique_constraint_list_json, convert::from_uniques)
        }
        "ADD_NOTNULLCONSTRAINT" => constraints(
            row,
            "notNullConstraintListJson",
            &message.not_null_constraint_list_json,
            convert::from_not_nulls,
        ),
        "ADD_DEFAULTCONSTRAINT" => {
            constraints(row, "defaultConstraintListJson", &message.default_constraint_list_json, convert::from_defaults)
        }
        _ => constraints(row, "checkConstraintListJson", &message.check_constraint_list_json, convert::from_checks),
    }?;
    Ok(Kind::AddConstraints { constraints })
}

fn drop_constraint(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db_name: String,
        table_name: String,
        constraint_name: String,
    }
    let message: Message = parsed(json)?;
    let table = table_name(row, &message.db_name, &message.table_name);
    Ok(Kind::DropConstraint { table, constraint: message.constraint_name })
}

fn open_transactions(json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        #[serde(default)]
        txn_ids: List<i64>,
        from_txn_id: Option<i64>,
        to_txn_id: Option<i64>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::OpenTransactions { ids: message.txn_ids.0, first: message.from_txn_id, last: message.to_txn_id })
}

fn commit_transaction(json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        #[serde(default)]
        write_ids: List<i64>,
        #[serde(default)]
        databases: List<String>,
        #[serde(default)]
        tables: List<String>,
        #[serde(default)]
        partitions: List<Option<String>>,
        #[serde(default)]
        files: List<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CommitTransaction {
        id: message.txnid,
        write_ids: message.write_ids.0,
        databases: message.databases.0,
        tables: message.tables.0,
        partitions: message.partitions.0.into_iter().map(Option::unwrap_or_default).collect(),
        files: message.files.0,
    })
}

fn abort_transaction(json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        #[serde(default)]
        dbs_updated: List<String>,
        #[serde(default)]
        write_ids: List<i64>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::AbortTransaction { id: message.txnid, databases: message.dbs_updated.0, write_ids: message.write_ids.0 })
}

fn allocate_write_ids(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db_name: String,
        table_name: String,
        txn_id_list: List<i64>,
        write_id_list: List<i64>,
    }
    let Message { db_name, table_name: name, txn_id_list, write_id_list } = parsed(json)?;
    let (transactions, writes) = (txn_id_list.0, write_id_list.0);
    if transactions.len() != writes.len() {
        let why = format!("its message has {} write ids for {} transactions", writes.len(), transactions.len());
        return Err(damaged(why));
    }
    let ids = transactions.into_iter().zip(writes).collect();
    Ok(Kind::AllocateWriteIds { table: table_name(row, &db_name, &name), ids })
}

fn transactional_write(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        write_id: i64,
        database: String,
        table: String,
        partition: Option<String>,
        #[serde(default)]
        files: List<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::TransactionalWrite {
        id: message.txnid,
        write_id: message.write_id,
        name: table_name(row, &message.database, &message.table),
        partition: named(message.partition),
        files: message.files.0,
    })
}

/// A partition's name; Hive writes an empty one for a table without partitions.
fn named(partition: Option<String>) -> Option<PartitionName> {
    partition.filter(|name| !name.is_empty()).map(PartitionName)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatisticsMessage {
    database: String,
    col_stats_json: String,
    #[serde(default)]
    parameters: Pairs,
    #[serde(default)]
    part_vals: List<String>,
    table_obj_json: Option<String>,
    write_id: Option<i64>,
}

/// The table that a row names, in the database that its message names.
fn named_by_row(row: &EventRow, database: &str) -> Result<crate::model::TableName, Wrong> {
    match row.table.as_deref() {
        Some(table) => Ok(table_name(row, database, table)),
        None => Err(damaged("its row does not name a table")),
    }
}

fn update_table_statistics(row: &EventRow, json: &str) -> Decoded {
    let message: StatisticsMessage = parsed(json)?;
    let table = optional_table(row, "tableObjJson", message.table_obj_json.as_deref())?;
    Ok(Kind::UpdateTableStatistics {
        name: named_by_row(row, &message.database)?,
        table,
        statistics: statistics("colStatsJson", &message.col_stats_json)?.columns,
        parameters: message.parameters.0.into_iter().collect(),
        write_id: message.write_id,
    })
}

fn update_partition_statistics(row: &EventRow, json: &str) -> Decoded {
    let message: StatisticsMessage = parsed(json)?;
    let table = optional_table(row, "tableObjJson", message.table_obj_json.as_deref())?;
    let found = statistics("colStatsJson", &message.col_stats_json)?;
    let partition = match (named(found.partition), &table) {
        (Some(name), _) => name,
        (None, Some(table)) => partition_name(table, "partVals", &message.part_vals.0)?,
        (None, None) => return Err(damaged("its message does not name the partition")),
    };
    Ok(Kind::UpdatePartitionStatistics {
        name: named_by_row(row, &message.database)?,
        table,
        partition,
        statistics: found.columns,
        parameters: message.parameters.0.into_iter().collect(),
        write_id: message.write_id,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletedStatisticsMessage {
    database: String,
    col_name: Option<String>,
    part_name: Option<String>,
}

fn delete_table_statistics(row: &EventRow, json: &str) -> Decoded {
    let message: DeletedStatisticsMessage = parsed(json)?;
    let column = message.col_name.map(|column| column.to_lowercase());
    Ok(Kind::DeleteTableStatistics { name: named_by_row(row, &message.database)?, column })
}

fn delete_partition_statistics(row: &EventRow, json: &str) -> Decoded {
    let message: DeletedStatisticsMessage = parsed(json)?;
    Ok(Kind::DeletePartitionStatistics {
        name: named_by_row(row, &message.database)?,
        partition: named(message.part_name).ok_or_else(|| damaged("its message does not name the partition"))?,
        column: message.col_name.map(|column| column.to_lowercase()),
    })
}

fn commit_compaction(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        compaction_id: i64,
        r#type: Option<String>,
        dbname: String,
        table_name: String,
        part_name: Option<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CommitCompaction {
        id: message.txnid,
        compaction: message.compaction_id,
        compaction_type: message.r#type,
        name: table_name(row, &message.dbname, &message.table_name),
        partition: named(message.part_name),
    })
}

fn reload(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db: String,
        table: String,
        table_obj_json: Option<String>,
        ptn_obj_json: Option<String>,
        #[serde(default)]
        partition_list_json: List<String>,
        refresh_event: Option<Flag>,
    }
    let mut message: Message = parsed(json)?;
    let table = optional_table(row, "tableObjJson", message.table_obj_json.as_deref())?;
    message.partition_list_json.0.extend(message.ptn_obj_json);
    let partitions = match &table {
        Some(table) => named_partitions(table, "partitionListJson", &message.partition_list_json)?,
        None => Vec::new(),
    };
    Ok(Kind::Reload {
        name: table_name(row, &message.db, &message.table),
        table,
        partitions: partitions.into_iter().map(|partition| partition.name).collect(),
        refresh: message.refresh_event.map(|Flag(refresh)| refresh),
    })
}

fn of_index(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Created {
        index_obj_json: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Altered {
        before_index_obj_json: String,
        after_index_obj_json: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Dropped {
        db: String,
        index_name: String,
        orig_table_name: String,
        index_table_name: Option<String>,
    }
    match row.event_type.as_str() {
        "CREATE_INDEX" => {
            let message: Created = parsed(json)?;
            Ok(Kind::CreateIndex { index: index(row, "indexObjJson", &message.index_obj_json)? })
        }
        "ALTER_INDEX" => {
            let message: Altered = parsed(json)?;
            Ok(Kind::AlterIndex {
                before: index(row, "beforeIndexObjJson", &message.before_index_obj_json)?,
                after: index(row, "afterIndexObjJson", &message.after_index_obj_json)?,
            })
        }
        _ => {
            let message: Dropped = parsed(json)?;
            let database = database_name(row, &message.db);
            let index = Index {
                name: message.index_name.to_lowercase(),
                table: database.table(&message.orig_table_name),
                index_table: message.index_table_name.map(|table| database.table(&table)),
            };
            Ok(Kind::DropIndex { index })
        }
    }
}

fn of_catalog(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    struct Named {
        catalog: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Altered {
        cat_obj_before_json: String,
        cat_obj_after_json: String,
    }
    if row.event_type == "ALTER_CATALOG" {
        let message: Altered = parsed(json)?;
        return Ok(Kind::AlterCatalog {
            before: catalog("catObjBeforeJson", &message.cat_obj_before_json)?,
            after: catalog("catObjAfterJson", &message.cat_obj_after_json)?,
        });
    }
    let Named { catalog } = parsed(json)?;
    let catalog = catalog.to_lowercase();
    match row.event_type.as_str() {
        "CREATE_CATALOG" => Ok(Kind::CreateCatalog { catalog }),
        _ => Ok(Kind::DropCatalog { catalog }),
    }
}
