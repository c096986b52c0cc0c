//! Partitions of one table, by name.

use super::Reader;
use super::children::Children;
use super::storage::{self, Head};
use crate::metastore::sql::dialect::Condition;
use crate::metastore::sql::probe::Schema;
use crate::metastore::{Batch, Damaged, Result};
use crate::model::{Parameters, Partition, PartitionName, StorageDescriptor, Table, TableName, UnknownFields};
use std::collections::HashMap;

/// Names in one statement.
pub(crate) const NAMES_PER_STATEMENT: usize = 1000;

const COLUMNS: [&str; 6] = ["PART_ID", "PART_NAME", "CREATE_TIME", "LAST_ACCESS_TIME", "WRITE_ID", "UNKNOWN_FIELDS"];

pub(crate) async fn names(reader: &mut Reader, table: &TableName) -> Result<Vec<PartitionName>> {
    let Some(id) = reader.table_id(table).await? else { return Ok(Vec::new()) };
    let sql = "SELECT \"PART_NAME\" FROM \"PARTITIONS\" WHERE \"TBL_ID\" = ?";
    let rows = reader.connection.query(sql, &[id.into()]).await?;
    let mut names: Vec<PartitionName> =
        rows.into_iter().map(|mut row| row.string(0).map(PartitionName)).collect::<Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

/// That `PARTITIONS o` is one of these partitions of a table.
pub(crate) fn condition<'a>(
    schema: &Schema,
    table: i64,
    names: impl IntoIterator<Item = &'a PartitionName>,
) -> Condition {
    let names = schema.wanted("PARTITIONS", "PART_NAME", names.into_iter().map(|name| &name.0));
    schema.dialect.partitions_named(table, names)
}

/// The ids of these partitions of a table, with their names.
pub(crate) async fn ids(
    reader: &mut Reader,
    table: &TableName,
    names: &[PartitionName],
) -> Result<HashMap<i64, PartitionName>> {
    let mut found = HashMap::new();
    let Some(id) = reader.table_id(table).await? else { return Ok(found) };
    for names in names.chunks(NAMES_PER_STATEMENT) {
        let (named, values) = condition(&reader.schema, id, names);
        let sql = format!("SELECT o.\"PART_ID\", o.\"PART_NAME\" FROM \"PARTITIONS\" o WHERE {named}");
        for mut row in reader.connection.query(&sql, &values).await? {
            found.insert(row.id(0)?, PartitionName(row.string(1)?));
        }
    }
    Ok(found)
}

pub(crate) async fn partitions(
    reader: &mut Reader,
    table: &Table,
    names: &[PartitionName],
) -> Result<Batch<Partition>> {
    let mut batch = Batch::empty();
    let Some(table_id) = reader.table_id(&table.name).await? else { return Ok(batch) };
    let Reader { connection, schema, columns: cache, .. } = reader;
    let mut found: Vec<(i64, PartitionName, Head, Partition)> = Vec::with_capacity(names.len());
    for names in names.chunks(NAMES_PER_STATEMENT) {
        let (named, values) = condition(schema, table_id, names);
        let sql = format!(
            "SELECT {}, {} FROM \"PARTITIONS\" o {} WHERE {named}",
            schema.select("PARTITIONS", "o", &COLUMNS),
            storage::select(schema),
            storage::JOINS
        );
        for mut row in connection.query(&sql, &values).await? {
            let id = row.id(0)?;
            let head = Head::read(&mut row, COLUMNS.len(), &format!("PARTITIONS {id}"))?;
            let partition = Partition {
                values: Vec::new(),
                create_time: row.int32(2)?,
                last_access_time: row.int32(3)?,
                storage: StorageDescriptor::default(),
                parameters: Parameters::new(),
                write_id: row.int(4)?.unwrap_or(0),
                unknown: UnknownFields(row.bytes(5)?.unwrap_or_default()),
            };
            found.push((id, PartitionName(row.string(1)?), head, partition));
        }
    }
    storage::fill(connection, schema, cache, found.iter_mut().map(|(_, _, head, _)| head)).await?;
    let ids: Vec<i64> = found.iter().map(|(id, ..)| *id).collect();
    let mut parameters = Children::parameters("PARTITION_PARAMS", "PART_ID", connection, schema, &ids).await?;
    let mut values =
        Children::texts("PARTITION_KEY_VALS", "PART_ID", &["PART_KEY_VAL"], connection, schema, &ids).await?;
    let order: HashMap<&PartitionName, usize> = names.iter().enumerate().map(|(at, name)| (name, at)).collect();
    found.sort_by_key(|(_, name, ..)| order.get(name).copied());
    for (id, name, head, mut partition) in found {
        partition.values = values.remove(&id).unwrap_or_default();
        partition.parameters = parameters.remove(&id).unwrap_or_default();
        partition.storage = head.storage;
        let (has, needs) = (partition.values.len(), table.partition_keys.len());
        let damage = head
            .damage
            .or_else(|| (has != needs).then(|| format!("PARTITIONS {id} has {has} values for {needs} partition keys")));
        match damage {
            None => batch.found.push(partition),
            Some(why) => {
                batch.damaged.push(Damaged { object: format!("partition {name} of {}", table.name), why });
            }
        }
    }
    Ok(batch)
}
