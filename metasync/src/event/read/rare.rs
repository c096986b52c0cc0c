//! Indexes of Hive 2.3, catalogs, and calls to look again.

use super::{Decoded, parsed};
use crate::event::message::{Flag, List};
use crate::event::objects::{catalog, database_name, index, named_partitions, optional_table, table_name};
use crate::event::{Index, Kind};
use crate::metastore::EventRow;
use serde::Deserialize;

pub(super) fn reload(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn of_index(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn of_catalog(row: &EventRow, json: &str) -> Decoded {
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
