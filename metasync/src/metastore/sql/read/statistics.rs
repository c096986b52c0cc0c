//! Column statistics of tables and partitions.

use super::Reader;
use super::children::Children;
use super::{partitions, tables};
use crate::metastore::Result;
use crate::metastore::sql::value::Row;

use crate::model::{
    ColumnStatistics, DatabaseName, Decimal, HIVE_ENGINE, LongUnit, PartitionName, StatisticsData, TableName,
    UnknownFields,
};
use std::collections::HashMap;

/// What Hive stores for a sketch of distinct values that there is none of: the magic word of one, and nothing after it.
const NO_BIT_VECTOR: &[u8] = b"HL";

/// The columns that both tables of statistics have, in the order in which [`statistics`] reads them.
macro_rules! columns {
    () => {
        &[
            "COLUMN_NAME",
            "COLUMN_TYPE",
            "ENGINE",
            "LAST_ANALYZED",
            "NUM_NULLS",
            "NUM_DISTINCTS",
            "BIT_VECTOR",
            "HISTOGRAM",
            "LONG_LOW_VALUE",
            "LONG_HIGH_VALUE",
            "DOUBLE_LOW_VALUE",
            "DOUBLE_HIGH_VALUE",
            "BIG_DECIMAL_LOW_VALUE",
            "BIG_DECIMAL_HIGH_VALUE",
            "AVG_COL_LEN",
            "MAX_COL_LEN",
            "NUM_TRUES",
            "NUM_FALSES",
            "UNKNOWN_FIELDS",
        ]
    };
}

const OF_TABLES: Children = Children { table: "TAB_COL_STATS", owner: "TBL_ID", columns: columns!(), order: None };

const OF_PARTITIONS: Children =
    Children { table: "PART_COL_STATS", owner: "PART_ID", columns: columns!(), order: None };

pub(crate) async fn of_tables(
    reader: &mut Reader,
    database: &DatabaseName,
    names: &[String],
) -> Result<Vec<(String, ColumnStatistics)>> {
    let tables = tables::ids(reader, database, names).await?;
    let ids: Vec<i64> = tables.keys().copied().collect();
    let mut all = Vec::new();
    for (id, rows) in OF_TABLES.of(&mut reader.connection, &reader.schema, &ids).await? {
        let Some(name) = tables.get(&id) else { continue };
        for mut row in rows {
            all.push((name.clone(), statistics(&mut row)?));
        }
    }
    all.sort_by(|(a, x), (b, y)| (a, &x.engine, &x.column).cmp(&(b, &y.engine, &y.column)));
    Ok(all)
}

pub(crate) async fn of_partitions(
    reader: &mut Reader,
    table: &TableName,
    names: &[PartitionName],
) -> Result<Vec<(PartitionName, ColumnStatistics)>> {
    if !reader.schema.has_table(OF_PARTITIONS.table) || !reader.connection.may_have_rows(OF_PARTITIONS.table).await? {
        return Ok(Vec::new());
    }
    let partitions = partitions::ids(reader, table, names).await?;
    let ids: Vec<i64> = partitions.keys().copied().collect();
    let mut all = Vec::new();
    for (id, of_columns) in by_partition(reader, &ids).await? {
        let Some(name) = partitions.get(&id) else { continue };
        all.extend(of_columns.into_iter().map(|of_column| (name.clone(), of_column)));
    }
    all.sort_by(|(a, x), (b, y)| (a, &x.engine, &x.column).cmp(&(b, &y.engine, &y.column)));
    Ok(all)
}

/// The same by PART_ID; of each partition sorted by engine and column.
pub(crate) async fn by_partition(reader: &mut Reader, ids: &[i64]) -> Result<HashMap<i64, Vec<ColumnStatistics>>> {
    let mut all = HashMap::new();
    for (id, rows) in OF_PARTITIONS.of(&mut reader.connection, &reader.schema, ids).await? {
        let mut of_columns: Vec<ColumnStatistics> =
            rows.into_iter().map(|mut row| statistics(&mut row)).collect::<Result<_>>()?;
        of_columns.sort_by(|a, b| (&a.engine, &a.column).cmp(&(&b.engine, &b.column)));
        all.insert(id, of_columns);
    }
    Ok(all)
}

/// What is known of a column, by the words of its type as Hive's own reader goes by them.
fn statistics(row: &mut Row) -> Result<ColumnStatistics> {
    let (column, type_name) = (row.string(0)?, row.string(1)?);
    let distinct = row.int(5)?.unwrap_or(0);
    // Servers from 3.0 on write these where there is no sketch, and show none.
    let bit_vector = row.bytes(6)?.filter(|bytes| !bytes.is_empty() && bytes != NO_BIT_VECTOR);
    let histogram = row.bytes(7)?.filter(|bytes| !bytes.is_empty());
    let base = type_name.to_ascii_lowercase();
    let base = base.split(['(', '<']).next().unwrap_or_default().trim();
    let data = match base {
        "boolean" => {
            StatisticsData::Boolean { trues: row.int(16)?.unwrap_or(0), falses: row.int(17)?.unwrap_or(0), bit_vector }
        }
        "string" | "varchar" | "char" => StatisticsData::String {
            max_length: row.int(15)?.unwrap_or(0),
            avg_length: row.float(14)?.unwrap_or(0.0),
            distinct,
            bit_vector,
        },
        "binary" => StatisticsData::Binary {
            max_length: row.int(15)?.unwrap_or(0),
            avg_length: row.float(14)?.unwrap_or(0.0),
            bit_vector,
        },
        "double" | "float" => {
            StatisticsData::Double { low: row.float(10)?, high: row.float(11)?, distinct, bit_vector, histogram }
        }
        "decimal" => StatisticsData::Decimal {
            low: decimal(row.text(12)?),
            high: decimal(row.text(13)?),
            distinct,
            bit_vector,
            histogram,
        },
        _ => {
            let unit = match base {
                "date" => LongUnit::Days,
                _ if base.starts_with("timestamp") => LongUnit::Seconds,
                _ => LongUnit::Number,
            };
            StatisticsData::Long { unit, low: row.int(8)?, high: row.int(9)?, distinct, bit_vector, histogram }
        }
    };
    Ok(ColumnStatistics {
        column,
        type_name,
        engine: row.text(2)?.unwrap_or_else(|| HIVE_ENGINE.to_owned()),
        last_analyzed: row.int(3)?.unwrap_or(0),
        nulls: row.int(4)?.unwrap_or(0),
        data,
        unknown: UnknownFields(row.bytes(18)?.unwrap_or_default()),
    })
}

/// A bound that is no number says nothing, as Hive reads it.
fn decimal(text: Option<String>) -> Option<Decimal> {
    text.and_then(|text| text.trim().parse().ok())
}
