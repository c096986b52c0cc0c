//! Tables and partitions that go, with every row that belongs to them and to nothing else.

use super::{Writer, conflict, lists, storage, tables, transactions};
use crate::event::write::Happened;
use crate::metastore::Result;
use crate::metastore::sql::read::children::IDS_PER_STATEMENT;
use crate::metastore::sql::read::partitions::{NAMES_PER_STATEMENT, condition, ids};
use crate::metastore::sql::value::Row;
use crate::model::{PartitionName, TableName};

/// The ids of rows that go together.
#[derive(Default)]
struct Rows {
    partitions: Vec<i64>,
    sds: Vec<i64>,
    serdes: Vec<i64>,
    lists: Vec<i64>,
}

impl Rows {
    /// From a row of PART_ID (or another owner), SD_ID, SERDE_ID, CD_ID.
    fn push(&mut self, row: &mut Row) -> Result<()> {
        self.partitions.push(row.id(0)?);
        self.sds.extend(row.int(1)?);
        self.serdes.extend(row.int(2)?);
        self.lists.extend(row.int(3)?);
        Ok(())
    }
}

const COLUMNS: &str = "o.\"PART_ID\", s.\"SD_ID\", s.\"SERDE_ID\", s.\"CD_ID\" FROM \"PARTITIONS\" o \
                       LEFT JOIN \"SDS\" s ON s.\"SD_ID\" = o.\"SD_ID\"";

pub(super) async fn partitions(writer: &mut Writer<'_>, name: &TableName, names: &[PartitionName]) -> Result<()> {
    let Some(shape) = writer.shape(name).await? else { return Ok(()) };
    note_partitions(writer, name, names).await?;
    for names in names.chunks(NAMES_PER_STATEMENT) {
        let (named, values) = condition(&writer.reader.schema, shape.id, names);
        let sql = format!("SELECT {COLUMNS} WHERE {named}");
        let mut rows = Rows::default();
        for mut row in writer.reader.connection.query(&sql, &values).await? {
            rows.push(&mut row)?;
        }
        // The table's own list is in use as long as the table is there.
        rows.lists.retain(|list| Some(*list) != shape.cd);
        remove_partitions(writer, rows).await?;
    }
    Ok(())
}

/// Keeps for the event log which of these partitions are there.
async fn note_partitions(writer: &mut Writer<'_>, name: &TableName, names: &[PartitionName]) -> Result<()> {
    let Some(table) = writer.table_now(name).await? else { return Ok(()) };
    let mut names: Vec<PartitionName> = ids(writer.reader, name, names).await?.into_values().collect();
    names.sort_unstable();
    if !names.is_empty() {
        writer.note(Happened::DroppedPartitions { table, names });
    }
    Ok(())
}

/// Where a partition has rows, its own last.
const OF_PARTITIONS: [(&str, &str); 6] = [
    ("PART_COL_STATS", "PART_ID"),
    ("PART_PRIVS", "PART_ID"),
    ("PART_COL_PRIVS", "PART_ID"),
    ("PARTITION_PARAMS", "PART_ID"),
    ("PARTITION_KEY_VALS", "PART_ID"),
    ("PARTITIONS", "PART_ID"),
];

/// Where a table has rows by its id, its own last.
const OF_TABLES: [(&str, &str); 8] = [
    ("KEY_CONSTRAINTS", "PARENT_TBL_ID"),
    ("KEY_CONSTRAINTS", "CHILD_TBL_ID"),
    ("TAB_COL_STATS", "TBL_ID"),
    ("TBL_PRIVS", "TBL_ID"),
    ("TBL_COL_PRIVS", "TBL_ID"),
    ("TABLE_PARAMS", "TBL_ID"),
    ("PARTITION_KEYS", "TBL_ID"),
    ("TBLS", "TBL_ID"),
];

async fn remove_partitions(writer: &mut Writer<'_>, rows: Rows) -> Result<()> {
    writer.delete(&OF_PARTITIONS, &rows.partitions).await?;
    remove_storage(writer, &rows.sds, &rows.serdes).await?;
    lists::collect(writer, rows.lists).await
}

/// Removes rows of SDS, and those of SERDES that no other row of SDS names.
async fn remove_storage(writer: &mut Writer<'_>, sds: &[i64], serdes: &[i64]) -> Result<()> {
    storage::clear(writer, sds, &[]).await?;
    writer.delete(&[("SDS", "SD_ID")], sds).await?;
    for serdes in serdes.chunks(IDS_PER_STATEMENT) {
        let (among, values) = writer.reader.schema.dialect.among("r.\"SERDE_ID\"", serdes);
        let sql = format!(
            "SELECT r.\"SERDE_ID\" FROM \"SERDES\" r WHERE {among} \
             AND NOT EXISTS (SELECT 1 FROM \"SDS\" s WHERE s.\"SERDE_ID\" = r.\"SERDE_ID\")"
        );
        let rows = writer.reader.connection.query(&sql, &values).await?;
        let unused: Vec<i64> = rows.into_iter().map(|mut row| row.id(0)).collect::<Result<_>>()?;
        writer.delete(&[("SERDE_PARAMS", "SERDE_ID"), ("SERDES", "SERDE_ID")], &unused).await?;
    }
    Ok(())
}

pub(super) async fn table(writer: &mut Writer<'_>, name: &TableName) -> Result<()> {
    let lock = writer.reader.schema.dialect.for_update();
    let Some(shape) = tables::find(writer, name, lock).await? else { return Ok(()) };
    refuse_if_used(writer, name, shape.id).await?;
    let before = writer.before(name).await?;
    // Each round removes what it read.
    loop {
        let sql = format!("SELECT {COLUMNS} WHERE o.\"TBL_ID\" = ? LIMIT {IDS_PER_STATEMENT}");
        let mut rows = Rows::default();
        for mut row in writer.reader.connection.query(&sql, &[shape.id.into()]).await? {
            rows.push(&mut row)?;
        }
        if rows.partitions.is_empty() {
            break;
        }
        rows.lists.retain(|list| Some(*list) != shape.cd);
        remove_partitions(writer, rows).await?;
    }
    remove_indexes(writer, shape.id).await?;
    tables::remove_creation_metadata(writer, name).await?;
    transactions::forget(writer, name).await?;
    writer.delete(&OF_TABLES, &[shape.id]).await?;
    let (sds, serdes): (Vec<i64>, Vec<i64>) = (shape.sd.into_iter().collect(), shape.serde.into_iter().collect());
    remove_storage(writer, &sds, &serdes).await?;
    lists::collect(writer, shape.cd.into_iter().collect()).await?;
    writer.forget(name);
    if let Some(before) = before {
        writer.note(Happened::DroppedTable(before));
    }
    Ok(())
}

/// A source of a materialized view cannot go before the view.
async fn refuse_if_used(writer: &mut Writer<'_>, name: &TableName, id: i64) -> Result<()> {
    if !writer.reader.schema.has_table("MV_TABLES_USED") {
        return Ok(());
    }
    let sql = "SELECT m.\"DB_NAME\", m.\"TBL_NAME\" FROM \"MV_TABLES_USED\" u JOIN \"MV_CREATION_METADATA\" m \
               ON m.\"MV_CREATION_METADATA_ID\" = u.\"MV_CREATION_METADATA_ID\" WHERE u.\"TBL_ID\" = ? LIMIT 1";
    match writer.reader.connection.query(sql, &[id.into()]).await?.into_iter().next() {
        None => Ok(()),
        Some(mut row) => {
            let why = format!("the materialized view {}.{} is made of it", row.string(0)?, row.string(1)?);
            Err(conflict("drop", format!("table {name}"), why))
        }
    }
}

/// Indexes, which Hive had until 2.3, on or in a table.
async fn remove_indexes(writer: &mut Writer<'_>, table: i64) -> Result<()> {
    if !writer.reader.schema.has_table("IDXS") {
        return Ok(());
    }
    let sql = "SELECT i.\"INDEX_ID\", s.\"SD_ID\", s.\"SERDE_ID\", s.\"CD_ID\" FROM \"IDXS\" i \
               LEFT JOIN \"SDS\" s ON s.\"SD_ID\" = i.\"SD_ID\" \
               WHERE i.\"ORIG_TBL_ID\" = ? OR i.\"INDEX_TBL_ID\" = ?";
    let mut rows = Rows::default();
    for mut row in writer.reader.connection.query(sql, &[table.into(), table.into()]).await? {
        rows.push(&mut row)?;
    }
    writer.delete(&[("INDEX_PARAMS", "INDEX_ID"), ("IDXS", "INDEX_ID")], &rows.partitions).await?;
    remove_storage(writer, &rows.sds, &rows.serdes).await?;
    lists::collect(writer, rows.lists).await
}
