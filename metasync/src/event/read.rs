//! From the type of an event and its JSON to what happened. Pure; a property that is asked for and not there is an error.

mod attached;
mod rare;
mod tables;
mod transactions;

use super::objects::{database_name, table_of_row};
use super::{Kind, Wrong, damaged};
use crate::metastore::EventRow;
use crate::model::PartitionName;
use serde::de::DeserializeOwned;

type Decoded = Result<Kind, Wrong>;

/// What happened, by the type of the row and the JSON of its message.
pub(super) fn kind(row: &EventRow, json: &str) -> Decoded {
    match row.event_type.as_str() {
        "CREATE_DATABASE" => tables::create_database(row, json),
        "ALTER_DATABASE" => tables::alter_database(row, json),
        "DROP_DATABASE" => tables::drop_database(row, json),
        "CREATE_TABLE" => tables::create_table(row, json),
        "ALTER_TABLE" => tables::alter_table(row, json),
        "DROP_TABLE" => tables::drop_table(row, json),
        "ADD_PARTITION" => tables::add_partition(row, json),
        "ALTER_PARTITION" => tables::alter_partition(row, json),
        "ALTER_PARTITIONS" => tables::alter_partitions(row, json),
        "DROP_PARTITION" => tables::drop_partition(row, json),
        "INSERT" => tables::insert(row, json),
        "CREATE_FUNCTION" => attached::create_function(row, json),
        "DROP_FUNCTION" => attached::drop_function(row, json),
        "ADD_PRIMARYKEY"
        | "ADD_FOREIGNKEY"
        | "ADD_UNIQUECONSTRAINT"
        | "ADD_NOTNULLCONSTRAINT"
        | "ADD_DEFAULTCONSTRAINT"
        | "ADD_CHECKCONSTRAINT" => attached::add_constraint(row, json),
        "DROP_CONSTRAINT" => attached::drop_constraint(row, json),
        "OPEN_TXN" => transactions::open_transactions(json),
        "COMMIT_TXN" => transactions::commit_transaction(json),
        "ABORT_TXN" => transactions::abort_transaction(json),
        "ALLOC_WRITE_ID_EVENT" => transactions::allocate_write_ids(row, json),
        "ACID_WRITE_EVENT" | "BATCH_ACID_WRITE_EVENT" => transactions::transactional_write(row, json),
        "UPDATE_TBL_COL_STAT_EVENT" => attached::update_table_statistics(row, json),
        "DELETE_TBL_COL_STAT_EVENT" => attached::delete_table_statistics(row, json),
        "UPDATE_PART_COL_STAT_EVENT" => attached::update_partition_statistics(row, json),
        "UPDATE_PART_COL_STAT_EVENT_BATCH" => Ok(Kind::UpdateStatisticsOfPartitions { name: table_of_row(row) }),
        "DELETE_PART_COL_STAT_EVENT" => attached::delete_partition_statistics(row, json),
        "COMMIT_COMPACTION_EVENT" => transactions::commit_compaction(row, json),
        "RELOAD" => rare::reload(row, json),
        "CREATE_INDEX" | "ALTER_INDEX" | "DROP_INDEX" => rare::of_index(row, json),
        "CREATE_CATALOG" | "ALTER_CATALOG" | "DROP_CATALOG" => rare::of_catalog(row, json),
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

/// A partition's name; Hive writes an empty one for a table without partitions.
fn named(partition: Option<String>) -> Option<PartitionName> {
    partition.filter(|name| !name.is_empty()).map(PartitionName)
}
