//! The writes of transactional tables on a replica: up to which of them readers see, and what they do not see yet.
//!
//! A replica knows writes by their largest number alone: every one up to it counts, because the folders of those that were given
//! up are not there. Its own transactions, which every query begins, get ids far above the source's: then the id of a
//! compaction that ran at the source is free here, and whether its folder is seen is ours to say. While such a folder is on its
//! way its transaction is open here, with a sign of life from the far future, so that no server gives it up; a crash leaves it so,
//! and readers see what they saw before.

use super::{Writer, conflict};
use crate::metastore::sql::dialect::Dialect;
use crate::metastore::sql::rows::{Rows, cell};
use crate::metastore::sql::value::Value;
use crate::metastore::{Error, Result};
use crate::model::{HIVE_CATALOG, TableName};
use std::sync::Arc;

/// How far above the source's the ids of the replica's own transactions begin.
const AHEAD: i64 = 1 << 40;
/// How near the source's may come before they begin anew.
const NEAR: i64 = 1 << 39;
/// By which our rows in TXNS are known.
const USER: &str = "understudy";
/// The end of the year 9999, in milliseconds.
const FAR_FUTURE: i64 = 253_402_300_799_000;

/// Readers see every write up to `mark`, and what the compactions of this table made.
pub(super) async fn put_write_ids(
    writer: &mut Writer<'_>,
    table: &TableName,
    mark: Option<i64>,
    compactions: &[i64],
    above: i64,
) -> Result<()> {
    raise(writer, table, above).await?;
    let dialect = writer.reader.schema.dialect;
    let (among, values) = dialect.among("\"TXN_ID\"", compactions);
    let sql =
        format!("SELECT \"TXN_ID\" FROM \"TXNS\" WHERE {among} AND \"TXN_STATE\" <> 'c' AND \"TXN_USER\" <> '{USER}'");
    if let Some(id) = writer.number(&sql, &values).await? {
        return Err(in_use(table, id));
    }
    show(writer, table).await?;
    forget_writes(writer, table).await?;
    let Some(mark) = mark else { return Ok(()) };
    let schema = Arc::clone(&writer.reader.schema);
    let mut rows = Rows::new("NEXT_WRITE_ID");
    let cells =
        vec![cell("NWI_DATABASE", &table.database), cell("NWI_TABLE", &table.table), cell("NWI_NEXT", mark + 1)];
    rows.push(&schema, &|| format!("table {table}"), cells)?;
    rows.insert(&mut writer.reader.connection, &schema).await
}

/// Readers do not see what these compactions made.
pub(super) async fn hold(writer: &mut Writer<'_>, table: &TableName, compactions: &[i64], above: i64) -> Result<()> {
    raise(writer, table, above).await?;
    let schema = Arc::clone(&writer.reader.schema);
    let (among, values) = schema.dialect.among("\"TXN_ID\"", compactions);
    let sql = format!("SELECT \"TXN_ID\" FROM \"TXNS\" WHERE {among} AND \"TXN_USER\" <> '{USER}'");
    if let Some(id) = writer.number(&sql, &values).await? {
        return Err(in_use(table, id));
    }
    writer.reader.connection.execute(&format!("DELETE FROM \"TXNS\" WHERE {among}"), &values).await?;
    let mut rows = Rows::new("TXNS");
    for id in compactions {
        push(&mut rows, writer, table, *id, "o")?;
    }
    rows.insert(&mut writer.reader.connection, &schema).await
}

/// A table that is no more.
pub(super) async fn forget(writer: &mut Writer<'_>, table: &TableName) -> Result<()> {
    if !writer.reader.schema.has_transactions() || table.catalog != HIVE_CATALOG {
        return Ok(());
    }
    show(writer, table).await?;
    forget_writes(writer, table).await
}

/// A table under another name.
pub(super) async fn rename(writer: &mut Writer<'_>, from: &TableName, to: &TableName) -> Result<()> {
    if !writer.reader.schema.has_transactions() || from.catalog != HIVE_CATALOG {
        return Ok(());
    }
    for (of, start) in [("NEXT_WRITE_ID", "NWI"), ("TXN_TO_WRITE_ID", "T2W")] {
        let sql = format!(
            "UPDATE \"{of}\" SET \"{start}_DATABASE\" = ?, \"{start}_TABLE\" = ? \
             WHERE \"{start}_DATABASE\" = ? AND \"{start}_TABLE\" = ?"
        );
        let mut values: Vec<Value> = vec![(&to.database).into(), (&to.table).into()];
        values.extend(key(writer, of, start, from));
        writer.reader.connection.execute(&sql, &values).await?;
    }
    Ok(())
}

async fn show(writer: &mut Writer<'_>, table: &TableName) -> Result<()> {
    let sql = format!(
        "UPDATE \"TXNS\" SET \"TXN_STATE\" = 'c' \
         WHERE \"TXN_USER\" = '{USER}' AND \"TXN_META_INFO\" = ? AND \"TXN_STATE\" = 'o'"
    );
    writer.reader.connection.execute(&sql, &[named(table).as_str().into()]).await.map(drop)
}

async fn forget_writes(writer: &mut Writer<'_>, table: &TableName) -> Result<()> {
    for (of, start) in [("NEXT_WRITE_ID", "NWI"), ("TXN_TO_WRITE_ID", "T2W")] {
        let sql = format!("DELETE FROM \"{of}\" WHERE \"{start}_DATABASE\" = ? AND \"{start}_TABLE\" = ?");
        let values = key(writer, of, start, table);
        writer.reader.connection.execute(&sql, &values).await?;
    }
    Ok(())
}

/// A table's name, to find its rows by.
fn key(writer: &Writer<'_>, of: &str, start: &str, table: &TableName) -> Vec<Value> {
    let schema = &writer.reader.schema;
    let mut values = schema.wanted(of, &format!("{start}_DATABASE"), [&table.database]);
    values.extend(schema.wanted(of, &format!("{start}_TABLE"), [&table.table]));
    values
}

/// The transactions of this metastore's own clients get ids far above the source's from now on.
async fn raise(writer: &mut Writer<'_>, table: &TableName, above: i64) -> Result<()> {
    let schema = Arc::clone(&writer.reader.schema);
    if !schema.has_transactions() || table.catalog != HIVE_CATALOG {
        let why = "its schema does not keep transactions as Hive 4 does".to_owned();
        return Err(Error::CannotHold { object: format!("table {table}"), version: schema.version, why });
    }
    let largest = writer.number("SELECT COALESCE(MAX(\"TXN_ID\"), 0) FROM \"TXNS\"", &[]).await?.unwrap_or(0);
    if largest >= above.saturating_add(NEAR) {
        return Ok(());
    }
    let first = above.saturating_add(AHEAD);
    let mut rows = Rows::new("TXNS");
    push(&mut rows, writer, table, first, "c")?;
    rows.insert(&mut writer.reader.connection, &schema).await?;
    if schema.dialect == Dialect::Postgres {
        // MySQL counts on from the largest id by itself. A sequence is never set back, here neither.
        let sql = "SELECT SETVAL(PG_GET_SERIAL_SEQUENCE('\"TXNS\"', 'TXN_ID'), ?::int8)";
        writer.reader.connection.query(sql, &[first.into()]).await?;
    }
    Ok(())
}

fn push(rows: &mut Rows, writer: &Writer<'_>, table: &TableName, id: i64, state: &str) -> Result<()> {
    let cells = vec![
        cell("TXN_ID", id),
        cell("TXN_STATE", state),
        // Long ago: readers take an id that is missing before a young one for a transaction that is about to begin.
        cell("TXN_STARTED", 0),
        cell("TXN_LAST_HEARTBEAT", FAR_FUTURE),
        cell("TXN_USER", USER),
        cell("TXN_HOST", USER),
        cell("TXN_META_INFO", named(table).as_str()),
        cell("TXN_TYPE", 0),
    ];
    rows.push(&writer.reader.schema, &|| format!("transaction {id} of table {table}"), cells)
}

/// A table's name as TXNS can hold it.
fn named(table: &TableName) -> String {
    let name = format!("{}\u{0}{}", table.database, table.table);
    blake3::hash(name.as_bytes()).to_hex().as_str().chars().take(32).collect()
}

fn in_use(table: &TableName, id: i64) -> Error {
    let why = format!(
        "its own transaction {id} has the number of a compaction at the source; it is free once that has ended and Hive's \
         housekeeping has removed it"
    );
    conflict("carry", format!("table {table}"), why)
}
