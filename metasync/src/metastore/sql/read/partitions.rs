//! Partitions: of one table by name, or all of tables that have few.

use super::Reader;
use super::children::{Children, IDS_PER_STATEMENT};
use super::storage::{self, Head};
use super::{statistics, tables};
use crate::metastore::sql::dialect::Condition;
use crate::metastore::sql::probe::Schema;
use crate::metastore::{AllPartitions, Batch, Damaged, Result};
use crate::model::{
    DatabaseName, Parameters, Partition, PartitionName, StorageDescriptor, Table, TableName, UnknownFields,
};
use std::collections::HashMap;

/// Names in one statement.
pub(crate) const NAMES_PER_STATEMENT: usize = 1000;

const COLUMNS: [&str; 7] =
    ["PART_ID", "PART_NAME", "CREATE_TIME", "LAST_ACCESS_TIME", "WRITE_ID", "UNKNOWN_FIELDS", "TBL_ID"];

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
    let Some(table_id) = reader.table_id(&table.name).await? else { return Ok(Batch::empty()) };
    let mut found = Vec::with_capacity(names.len());
    for names in names.chunks(NAMES_PER_STATEMENT) {
        rows(reader, condition(&reader.schema, table_id, names), &mut found).await?;
    }
    complete(reader, &mut found).await?;
    let order: HashMap<&PartitionName, usize> = names.iter().enumerate().map(|(at, name)| (name, at)).collect();
    found.sort_by_key(|found| order.get(&found.name).copied());
    Ok(batch(table, found))
}

/// How many partitions each of these tables has, by name; none is not named.
pub(crate) async fn counts(
    reader: &mut Reader,
    database: &DatabaseName,
    tables: &[String],
) -> Result<HashMap<String, usize>> {
    let of_id = tables::ids(reader, database, tables).await?;
    let ids: Vec<i64> = of_id.keys().copied().collect();
    let mut counts = HashMap::new();
    for ids in ids.chunks(IDS_PER_STATEMENT) {
        let (among, values) = reader.schema.dialect.among("\"TBL_ID\"", ids);
        let sql = format!("SELECT \"TBL_ID\", COUNT(*) FROM \"PARTITIONS\" WHERE {among} GROUP BY \"TBL_ID\"");
        for mut row in reader.connection.query(&sql, &values).await? {
            if let Some(name) = of_id.get(&row.id(0)?) {
                counts.insert(name.clone(), usize::try_from(row.id(1)?).unwrap_or(usize::MAX));
            }
        }
    }
    Ok(counts)
}

/// All partitions of these tables of one database, by name, with their statistics where these are asked for.
pub(crate) async fn of_tables(
    reader: &mut Reader,
    tables: &[&Table],
    with_statistics: bool,
) -> Result<HashMap<String, AllPartitions>> {
    let by_name: HashMap<&String, &&Table> = tables.iter().map(|table| (&table.name.table, table)).collect();
    let Some(first) = tables.first() else { return Ok(HashMap::new()) };
    let names: Vec<String> = tables.iter().map(|table| table.name.table.clone()).collect();
    let of_id = tables::ids(reader, &first.name.database(), &names).await?;
    let ids: Vec<i64> = of_id.keys().copied().collect();
    let mut found = Vec::new();
    for ids in ids.chunks(IDS_PER_STATEMENT) {
        rows(reader, reader.schema.dialect.among("o.\"TBL_ID\"", ids), &mut found).await?;
    }
    complete(reader, &mut found).await?;
    let mut of_partition = match with_statistics {
        true => statistics::by_partition(reader, &found.iter().map(|found| found.id).collect::<Vec<_>>()).await?,
        false => HashMap::new(),
    };
    found.sort_by(|a, b| (a.table, &a.name).cmp(&(b.table, &b.name)));
    let mut all: HashMap<String, AllPartitions> = HashMap::new();
    let mut found = found.into_iter().peekable();
    while let Some(id) = found.peek().map(|next| next.table) {
        let mut of_one = Vec::new();
        let mut statistics = Vec::new();
        while let Some(next) = found.next_if(|next| next.table == id) {
            let of_columns = of_partition.remove(&next.id).unwrap_or_default();
            statistics.extend(of_columns.into_iter().map(|of_column| (next.name.clone(), of_column)));
            of_one.push(next);
        }
        if let Some(table) = of_id.get(&id).and_then(|name| by_name.get(name)) {
            all.insert(table.name.table.clone(), AllPartitions { batch: batch(table, of_one), statistics });
        }
    }
    Ok(all)
}

/// A partition on its way: what its own row, SDS and SERDES say, then the rest.
struct Found {
    id: i64,
    table: i64,
    name: PartitionName,
    head: Head,
    partition: Partition,
}

/// The rows of `PARTITIONS o` under a condition.
async fn rows(reader: &mut Reader, (condition, values): Condition, found: &mut Vec<Found>) -> Result<()> {
    let Reader { connection, schema, .. } = reader;
    let sql = format!(
        "SELECT {}, {} FROM \"PARTITIONS\" o {} WHERE {condition}",
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
        found.push(Found { id, table: row.id(6)?, name: PartitionName(row.string(1)?), head, partition });
    }
    Ok(())
}

/// Storage, parameters and values of partitions.
async fn complete(reader: &mut Reader, found: &mut [Found]) -> Result<()> {
    let Reader { connection, schema, columns: cache, .. } = reader;
    storage::fill(connection, schema, cache, found.iter_mut().map(|found| &mut found.head)).await?;
    let ids: Vec<i64> = found.iter().map(|found| found.id).collect();
    let mut parameters = Children::parameters("PARTITION_PARAMS", "PART_ID", connection, schema, &ids).await?;
    let mut values =
        Children::texts("PARTITION_KEY_VALS", "PART_ID", &["PART_KEY_VAL"], connection, schema, &ids).await?;
    for Found { id, partition, .. } in found {
        partition.values = values.remove(id).unwrap_or_default();
        partition.parameters = parameters.remove(id).unwrap_or_default();
    }
    Ok(())
}

/// Partitions of one table that are whole, and those that are not.
fn batch(table: &Table, found: Vec<Found>) -> Batch<Partition> {
    let mut batch = Batch::empty();
    for Found { id, name, head, mut partition, .. } in found {
        partition.storage = head.storage;
        let (has, needs) = (partition.values.len(), table.partition_keys.len());
        let damage = head
            .damage
            .or_else(|| (has != needs).then(|| format!("PARTITIONS {id} has {has} values for {needs} partition keys")));
        match damage {
            None => batch.found.push(partition),
            Some(why) => {
                batch.damaged.push(Damaged::other(format!("partition {name} of {}", table.name), why));
            }
        }
    }
    batch
}
