//! Databases, tables, partitions, and files that came into them.

use super::{Decoded, parsed};
use crate::event::message::{Flag, List, Pairs};
use crate::event::objects::{
    database, database_name, named_partition, named_partitions, optional_table, partition, partition_name,
    partition_name_of, table, table_name,
};
use crate::event::{Kind, PartitionFiles, Wrong, damaged};
use crate::metastore::EventRow;
use crate::model::{Database, DatabaseName, PartitionName};
use serde::Deserialize;

pub(super) fn create_database(row: &EventRow, json: &str) -> Decoded {
    let (name, database) = of_database(row, json)?;
    Ok(Kind::CreateDatabase { name, database })
}

pub(super) fn drop_database(row: &EventRow, json: &str) -> Decoded {
    let (name, database) = of_database(row, json)?;
    Ok(Kind::DropDatabase { name, database })
}

type FoundDatabase = (DatabaseName, Option<Box<Database>>);

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

pub(super) fn alter_database(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn create_table(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn alter_table(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn drop_table(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn add_partition(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn alter_partition(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn alter_partitions(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn drop_partition(row: &EventRow, json: &str) -> Decoded {
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

pub(super) fn insert(row: &EventRow, json: &str) -> Decoded {
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
