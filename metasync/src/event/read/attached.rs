//! What hangs on databases and tables: functions, constraints, column statistics.

use super::{Decoded, named, parsed};
use crate::event::message::{List, Pairs};
use crate::event::objects::{
    constraints, database_name, function, optional_table, partition_name, statistics, table_name,
};
use crate::event::{Kind, Wrong, damaged};
use crate::metastore::EventRow;
use crate::metastore::thrift::convert;
use crate::model::TableName;
use serde::Deserialize;

pub(super) fn create_function(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        function_obj_json: String,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CreateFunction { function: function(row, "functionObjJson", &message.function_obj_json)? })
}

pub(super) fn drop_function(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn add_constraint(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn drop_constraint(row: &EventRow, json: &str) -> Decoded {
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
fn named_by_row(row: &EventRow, database: &str) -> Result<TableName, Wrong> {
    match row.table.as_deref() {
        Some(table) => Ok(table_name(row, database, table)),
        None => Err(damaged("its row does not name a table")),
    }
}

pub(super) fn update_table_statistics(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn update_partition_statistics(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn delete_table_statistics(row: &EventRow, json: &str) -> Decoded {
    let message: DeletedStatisticsMessage = parsed(json)?;
    let column = message.col_name.map(|column| column.to_lowercase());
    Ok(Kind::DeleteTableStatistics { name: named_by_row(row, &message.database)?, column })
}

pub(super) fn delete_partition_statistics(row: &EventRow, json: &str) -> Decoded {
    let message: DeletedStatisticsMessage = parsed(json)?;
    Ok(Kind::DeletePartitionStatistics {
        name: named_by_row(row, &message.database)?,
        partition: named(message.part_name).ok_or_else(|| damaged("its message does not name the partition"))?,
        column: message.col_name.map(|column| column.to_lowercase()),
    })
}
