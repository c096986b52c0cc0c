//! Column lists: shared by a table and its partitions as long as they are equal, collected when nothing uses them.
//!
//! A row of CDS is locked before it is shared or collected (rule 32), so that a server beside us cannot remove what we begin
//! to use, nor begin to use what we remove. A list is never altered: an altered table gets another one.

use super::Writer;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::children::IDS_PER_STATEMENT;
use crate::metastore::sql::read::storage::column_lists;
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::metastore::{Error, Result};
use crate::model::Column;
use manifest::Class;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most column lists of one table that are compared with a new one before it gets a row of its own.
const COMPARED_LISTS: usize = 1000;

/// What a batch knows of column lists.
#[derive(Default)]
pub(super) struct Lists {
    /// By TBL_ID: all lists of the table's partitions, and those made since.
    of_tables: HashMap<i64, HashMap<Arc<Vec<Column>>, i64>>,
    /// Locked in this transaction.
    locked: HashSet<i64>,
}

impl Lists {
    pub(super) fn forget(&mut self, table: i64) {
        self.of_tables.remove(&table);
    }
}

/// The CD_ID of a list of columns among those of a table's partitions, made if there is none.
pub(super) async fn of_partition(
    writer: &mut Writer<'_>,
    table: i64,
    columns: &Arc<Vec<Column>>,
    object: &(dyn Fn() -> String + Sync),
) -> Result<i64> {
    if !writer.lists.of_tables.contains_key(&table) {
        let sql = format!(
            "SELECT DISTINCT s.\"CD_ID\" FROM \"PARTITIONS\" p JOIN \"SDS\" s ON s.\"SD_ID\" = p.\"SD_ID\" \
             WHERE p.\"TBL_ID\" = ? AND s.\"CD_ID\" IS NOT NULL ORDER BY s.\"CD_ID\" DESC LIMIT {COMPARED_LISTS}"
        );
        let rows = writer.reader.connection.query(&sql, &[table.into()]).await?;
        let ids: Vec<i64> = rows.into_iter().map(|mut row| row.id(0)).collect::<Result<_>>()?;
        let found = read(writer, ids).await?;
        writer.lists.of_tables.insert(table, found.into_iter().map(|(id, columns)| (columns, id)).collect());
    }
    let known = writer.lists.of_tables.get(&table).and_then(|lists| lists.get(columns)).copied();
    if let Some(id) = known {
        share(writer, id).await?;
        return Ok(id);
    }
    let id = make(writer, columns, object).await?;
    if let Some(lists) = writer.lists.of_tables.get_mut(&table) {
        lists.insert(Arc::clone(columns), id);
    }
    Ok(id)
}

/// Lists by id.
pub(super) async fn read(
    writer: &mut Writer<'_>,
    ids: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, Arc<Vec<Column>>>> {
    let super::Reader { connection, schema, columns, .. } = &mut *writer.reader;
    column_lists(connection, schema, columns, ids).await
}

/// Makes a list.
pub(super) async fn make(
    writer: &mut Writer<'_>,
    columns: &[Column],
    object: &(dyn Fn() -> String + Sync),
) -> Result<i64> {
    let id = writer.ids.take(Sequence::ColumnList)?;
    let super::Reader { connection, schema, .. } = &mut *writer.reader;
    let (mut list, mut rows) = (Rows::new("CDS"), Rows::new("COLUMNS_V2"));
    list.push(schema, object, vec![cell("CD_ID", id)])?;
    for (index, column) in (0i64..).zip(columns) {
        let named = || format!("column {} of {}", column.name, object());
        rows.push(
            schema,
            &named,
            vec![
                cell("CD_ID", id),
                cell("COLUMN_NAME", &column.name),
                cell("TYPE_NAME", &column.type_name),
                cell("COMMENT", &column.comment),
                cell("INTEGER_IDX", index),
                cell_if(
                    "UNKNOWN_FIELDS",
                    Some(&column.unknown.0).filter(|bytes| !bytes.is_empty()),
                    column.unknown.is_empty(),
                ),
            ],
        )?;
    }
    list.insert(connection, schema).await?;
    rows.insert(connection, schema).await?;
    writer.lists.locked.insert(id);
    Ok(id)
}

/// Keeps a list from being collected by others until this transaction ends.
pub(super) async fn share(writer: &mut Writer<'_>, id: i64) -> Result<()> {
    if writer.lists.locked.contains(&id) {
        return Ok(());
    }
    let lock = writer.reader.schema.dialect.for_share();
    let sql = format!("SELECT \"CD_ID\" FROM \"CDS\" WHERE \"CD_ID\" = ?{lock}");
    if writer.number(&sql, &[id.into()]).await?.is_none() {
        return Err(Error::Failed {
            operation: "share".to_owned(),
            object: format!("CDS {id}"),
            why: "somebody removed it meanwhile".to_owned(),
            class: Class::Retryable,
        });
    }
    writer.lists.locked.insert(id);
    Ok(())
}

/// Removes those of these lists that nothing uses any more.
pub(super) async fn collect(writer: &mut Writer<'_>, mut ids: Vec<i64>) -> Result<()> {
    ids.sort_unstable();
    ids.dedup();
    for ids in ids.chunks(IDS_PER_STATEMENT) {
        let dialect = writer.reader.schema.dialect;
        let (among, values) = dialect.among("c.\"CD_ID\"", ids);
        let lock = dialect.for_update();
        let locked = format!("SELECT c.\"CD_ID\" FROM \"CDS\" c WHERE {among} ORDER BY c.\"CD_ID\"{lock}");
        writer.reader.connection.query(&locked, &values).await?;
        let mut unused = format!(
            "SELECT c.\"CD_ID\" FROM \"CDS\" c WHERE {among} \
             AND NOT EXISTS (SELECT 1 FROM \"SDS\" s WHERE s.\"CD_ID\" = c.\"CD_ID\")"
        );
        if writer.reader.schema.has("SCHEMA_VERSION", "CD_ID") {
            unused += " AND NOT EXISTS (SELECT 1 FROM \"SCHEMA_VERSION\" v WHERE v.\"CD_ID\" = c.\"CD_ID\")";
        }
        let rows = writer.reader.connection.query(&unused, &values).await?;
        let unused: Vec<i64> = rows.into_iter().map(|mut row| row.id(0)).collect::<Result<_>>()?;
        writer.delete(&[("COLUMNS_V2", "CD_ID"), ("CDS", "CD_ID")], &unused).await?;
        writer.lists.locked.retain(|id| !unused.contains(id));
        for lists in writer.lists.of_tables.values_mut() {
            lists.retain(|_, id| !unused.contains(id));
        }
    }
    Ok(())
}
