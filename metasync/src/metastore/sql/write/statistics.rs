//! Column statistics of tables and partitions.

use super::storage::unknown;
use super::{Writer, conflict};
use crate::event::write::Happened;
use crate::metastore::sql::dialect::id_list;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::Reader;
use crate::metastore::sql::read::children::{Children, IDS_PER_STATEMENT};
use crate::metastore::sql::read::partitions;
use crate::metastore::sql::read::statistics::{of_partitions, of_tables};
use crate::metastore::sql::rows::{Cell, Rows, cell, cell_if};
use crate::metastore::sql::value::Value;
use crate::metastore::{Error, Result};
use crate::model::{ColumnStatistics, HIVE_ENGINE, PartitionName, StatisticsData, TableName};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A table of statistics.
struct Kept {
    table: &'static str,
    owner: &'static str,
    sequence: Sequence,
}

const OF_TABLES: Kept = Kept { table: "TAB_COL_STATS", owner: "TBL_ID", sequence: Sequence::TableStatistics };

const OF_PARTITIONS: Kept = Kept { table: "PART_COL_STATS", owner: "PART_ID", sequence: Sequence::PartitionStatistics };

pub(super) async fn put_table(
    writer: &mut Writer<'_>,
    table: &TableName,
    statistics: &[ColumnStatistics],
) -> Result<()> {
    let shape = writer.needed_shape(table, "put", format!("statistics of {table}")).await?;
    let names = std::slice::from_ref(&table.table);
    let before = match writer.logs() {
        true => readable(of_tables(writer.reader, &table.database(), names).await)?,
        false => Vec::new(),
    };
    let all: Vec<_> = statistics.iter().map(|each| (shape.id, None, each)).collect();
    OF_TABLES.put(writer, table, all).await?;
    let before: Vec<ColumnStatistics> = before.into_iter().map(|(_, each)| each).collect();
    writer.note_statistics(table, &before, statistics).await
}

/// What was read; nothing where it is damaged: it is about to be replaced.
fn readable<T>(read: Result<Vec<T>>) -> Result<Vec<T>> {
    match read {
        Err(Error::Damaged { .. }) => Ok(Vec::new()),
        other => other,
    }
}

pub(super) async fn put_partitions(
    writer: &mut Writer<'_>,
    table: &TableName,
    statistics: &[(PartitionName, Vec<ColumnStatistics>)],
) -> Result<()> {
    let names: Vec<PartitionName> = statistics.iter().map(|(name, _)| name.clone()).collect();
    let found = partitions::ids(writer.reader, table, &names).await?;
    let by_name: HashMap<_, _> = found.iter().map(|(id, name)| (name, *id)).collect();
    let mut all = Vec::new();
    for (name, columns) in statistics {
        let Some(id) = by_name.get(name) else {
            let object = format!("statistics of {table}");
            return Err(conflict("put", object, format!("the partition {name} is not there")));
        };
        all.extend(columns.iter().map(|each| (*id, Some(name), each)));
    }
    let mut before: HashMap<PartitionName, Vec<ColumnStatistics>> = HashMap::new();
    let mut parameters = HashMap::new();
    if writer.logs() {
        for (name, each) in readable(of_partitions(writer.reader, table, &names).await)? {
            before.entry(name).or_default().push(each);
        }
        let ids: Vec<i64> = found.keys().copied().collect();
        let Reader { connection, schema, .. } = &mut *writer.reader;
        parameters = Children::parameters("PARTITION_PARAMS", "PART_ID", connection, schema, &ids).await?;
    }
    OF_PARTITIONS.put(writer, table, all).await?;
    for (name, columns) in statistics {
        let of = by_name.get(name).and_then(|id| parameters.remove(id)).unwrap_or_default();
        let before = before.get(name).map_or(&[][..], Vec::as_slice);
        writer.note_partition_statistics(table, (name, of), before, columns).await?;
    }
    Ok(())
}

pub(super) async fn drop_table(writer: &mut Writer<'_>, table: &TableName, column: Option<&str>) -> Result<()> {
    match writer.shape(table).await? {
        None => Ok(()),
        Some(shape) => {
            if OF_TABLES.remove(writer, shape.id, column).await? > 0
                && let Some(table) = writer.table_now(table).await?
            {
                writer.note(Happened::DroppedTableStatistics { table, column: column.map(str::to_owned) });
            }
            Ok(())
        }
    }
}

pub(super) async fn drop_partition(
    writer: &mut Writer<'_>,
    table: &TableName,
    partition: &PartitionName,
    column: Option<&str>,
) -> Result<()> {
    let found = partitions::ids(writer.reader, table, std::slice::from_ref(partition)).await?;
    match found.into_keys().next() {
        None => Ok(()),
        Some(id) => {
            if OF_PARTITIONS.remove(writer, id, column).await? > 0
                && let Some(table) = writer.table_now(table).await?
            {
                let (partition, column) = (partition.clone(), column.map(str::to_owned));
                writer.note(Happened::DroppedPartitionStatistics { table, partition, column });
            }
            Ok(())
        }
    }
}

impl Kept {
    /// Removes statistics, and says how many.
    async fn remove(&self, writer: &mut Writer<'_>, owner: i64, column: Option<&str>) -> Result<u64> {
        if !writer.reader.schema.has_table(self.table) {
            return Ok(0);
        }
        let mut values: Vec<Value> = vec![owner.into()];
        values.extend(column.map(Value::from));
        let which = if column.is_some() { " AND \"COLUMN_NAME\" = ?" } else { "" };
        let sql = format!("DELETE FROM \"{}\" WHERE \"{}\" = ?{which}", self.table, self.owner);
        writer.reader.connection.execute(&sql, &values).await
    }

    /// Puts statistics of owners (with the partition's name, if it is one).
    async fn put(
        &self,
        writer: &mut Writer<'_>,
        table: &TableName,
        all: Vec<(i64, Option<&PartitionName>, &ColumnStatistics)>,
    ) -> Result<()> {
        self.remove_replaced(writer, &all).await?;
        let schema = Arc::clone(&writer.reader.schema);
        let mut rows = Rows::new(self.table);
        for (owner, partition, each) in all {
            let object = || {
                let partition = partition.map_or(String::new(), |name| format!("partition {name} of "));
                format!("statistics of column {} of {partition}{table}", each.column)
            };
            let mut cells = vec![
                cell("CS_ID", writer.ids.take(self.sequence)?),
                cell(self.owner, owner),
                cell_if("CAT_NAME", &table.catalog, true),
                cell_if("DB_NAME", &table.database, true),
                cell_if("TABLE_NAME", &table.table, true),
                cell_if("PARTITION_NAME", partition.map(|name| &name.0), true),
                cell("COLUMN_NAME", &each.column),
                cell("COLUMN_TYPE", &each.type_name),
                cell_if("ENGINE", &each.engine, each.engine == HIVE_ENGINE),
                cell("LAST_ANALYZED", each.last_analyzed),
                cell("NUM_NULLS", each.nulls),
                unknown(&each.unknown),
            ];
            cells.extend(numbers(&each.data));
            rows.push(&schema, &object, cells)?;
        }
        rows.insert(&mut writer.reader.connection, &schema).await
    }

    /// Removes those of the same owner, column and engine.
    async fn remove_replaced(
        &self,
        writer: &mut Writer<'_>,
        all: &[(i64, Option<&PartitionName>, &ColumnStatistics)],
    ) -> Result<()> {
        let schema = Arc::clone(&writer.reader.schema);
        if !schema.has_table(self.table) {
            return Ok(());
        }
        let put: HashSet<(i64, &str, &str)> =
            all.iter().map(|(owner, _, each)| (*owner, each.column.as_str(), each.engine.as_str())).collect();
        let mut owners: Vec<i64> = all.iter().map(|(owner, ..)| *owner).collect();
        owners.dedup();
        let mut replaced = Vec::new();
        for owners in owners.chunks(IDS_PER_STATEMENT) {
            let sql = format!(
                "SELECT {} FROM \"{}\" k WHERE k.\"{}\" IN ({})",
                schema.select(self.table, "k", &["CS_ID", self.owner, "COLUMN_NAME", "ENGINE"]),
                self.table,
                self.owner,
                id_list(owners)
            );
            for mut row in writer.reader.connection.query(&sql, &[]).await? {
                let (id, owner, column) = (row.id(0)?, row.id(1)?, row.string(2)?);
                let engine = row.text(3)?.unwrap_or_else(|| HIVE_ENGINE.to_owned());
                if put.contains(&(owner, column.as_str(), engine.as_str())) {
                    replaced.push(id);
                }
            }
        }
        writer.delete(&[(self.table, "CS_ID")], &replaced).await
    }
}

/// The columns that differ by the family of the type. All of them, in the same order for each row.
fn numbers(data: &StatisticsData) -> Vec<Cell> {
    let (mut long, mut double, mut decimal) = ((None, None), (None, None), (None, None));
    let (mut length, mut counts) = ((None, None), (None, None));
    let (mut distinct_values, mut sketch) = (None, None);
    let bits;
    match data {
        StatisticsData::Boolean { trues, falses, bit_vector } => {
            counts = (Some(*trues), Some(*falses));
            bits = bit_vector.as_ref();
        }
        StatisticsData::Long { low, high, distinct, bit_vector, histogram, .. } => {
            long = (*low, *high);
            (distinct_values, bits, sketch) = (Some(*distinct), bit_vector.as_ref(), histogram.as_ref());
        }
        StatisticsData::Double { low, high, distinct, bit_vector, histogram } => {
            double = (*low, *high);
            (distinct_values, bits, sketch) = (Some(*distinct), bit_vector.as_ref(), histogram.as_ref());
        }
        StatisticsData::Decimal { low, high, distinct, bit_vector, histogram } => {
            decimal = (low.map(|low| low.to_string()), high.map(|high| high.to_string()));
            (distinct_values, bits, sketch) = (Some(*distinct), bit_vector.as_ref(), histogram.as_ref());
        }
        StatisticsData::String { max_length, avg_length, distinct, bit_vector } => {
            length = (Some(*max_length), Some(*avg_length));
            (distinct_values, bits) = (Some(*distinct), bit_vector.as_ref());
        }
        StatisticsData::Binary { max_length, avg_length, bit_vector } => {
            length = (Some(*max_length), Some(*avg_length));
            bits = bit_vector.as_ref();
        }
    }
    vec![
        cell("NUM_DISTINCTS", distinct_values),
        cell_if("BIT_VECTOR", bits, bits.is_none()),
        cell_if("HISTOGRAM", sketch, sketch.is_none()),
        cell("LONG_LOW_VALUE", long.0),
        cell("LONG_HIGH_VALUE", long.1),
        cell("DOUBLE_LOW_VALUE", double.0),
        cell("DOUBLE_HIGH_VALUE", double.1),
        cell("BIG_DECIMAL_LOW_VALUE", &decimal.0),
        cell("BIG_DECIMAL_HIGH_VALUE", &decimal.1),
        cell("AVG_COL_LEN", length.1),
        cell("MAX_COL_LEN", length.0),
        cell("NUM_TRUES", counts.0),
        cell("NUM_FALSES", counts.1),
    ]
}
