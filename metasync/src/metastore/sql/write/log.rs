//! Appends what a batch did to the metastore's own event log, in the batch's transaction (rule 33).
//!
//! Ids are taken as a Hive Metastore takes them: the row of NOTIFICATION_SEQUENCE is locked until the transaction ends, so
//! that ids are dense and show in the order of commits. It is locked last of all, once messages are made, because every
//! server that changes anything waits for it. Hive 2.3 locks nothing itself: on PostgreSQL the whole table is locked, which
//! keeps its servers from reading the number meanwhile; on MySQL one of them may give an id again, as it does among its own
//! clients. A crash takes events away together with the changes.

use super::Writer;
use crate::event::write;
use crate::metastore::sql::dialect::Dialect;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::metastore::sql::value::Value;
use crate::metastore::{Change, Error, EventRow, Result, Version};
use std::time::{SystemTime, UNIX_EPOCH};

/// Messages that are made before the lock, in bytes; a batch that has more makes the rest under it.
const AHEAD_BYTES: usize = 16 << 20;

/// How many of the newest rows are looked at where a sequence may have been set back (Hive 2.3).
const NEWEST_ROWS: usize = 1000;

/// How many rows a batch appends at most. Pure.
pub(crate) fn needs<'a>(changes: impl Iterator<Item = &'a Change>) -> usize {
    let of = |change: &Change| match change {
        Change::PutPartitions { partitions, .. } => partitions.len(),
        Change::PutConstraint(_) | Change::PutFunction(_) => 2,
        Change::PutTableStatistics { statistics, .. } => statistics.len(),
        Change::PutPartitionStatistics { statistics, .. } => statistics.iter().map(|(_, columns)| columns.len()).sum(),
        Change::PutCatalog(_)
        | Change::DropCatalog(_)
        | Change::PutRole(_)
        | Change::DropRole(_)
        | Change::PutRoleGrant(_)
        | Change::DropRoleGrant(_)
        | Change::PutGrant(_)
        | Change::DropGrant(_) => 0,
        _ => 1,
    };
    changes.map(of).sum()
}

/// Writes what was kept. The transaction is the caller's, and ends next.
pub(super) async fn append(writer: &mut Writer<'_>) -> Result<()> {
    let Some(journal) = writer.journal.as_mut().filter(|journal| !journal.pending.is_empty()) else { return Ok(()) };
    let pending = std::mem::take(&mut journal.pending);
    let version = writer.reader.schema.version;
    let mut rows = write::Rows::new(pending, version, now());
    let mut ready = ahead(&mut rows, version)?;
    if ready.is_empty() {
        return Ok(());
    }
    let (key, first) = lock(writer).await?;
    let mut next = first.unwrap_or(1);
    while !ready.is_empty() {
        next = insert(writer, ready, next).await?;
        ready = ahead(&mut rows, version)?;
    }
    let sql = match first {
        Some(_) => "UPDATE \"NOTIFICATION_SEQUENCE\" SET \"NEXT_EVENT_ID\" = ? WHERE \"NNI_ID\" = ?",
        None => "INSERT INTO \"NOTIFICATION_SEQUENCE\" (\"NEXT_EVENT_ID\", \"NNI_ID\") VALUES (?, ?)",
    };
    writer.reader.connection.execute(sql, &[next.into(), key.into()]).await?;
    Ok(())
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The next rows, as many as have [`AHEAD_BYTES`].
fn ahead(rows: &mut write::Rows, version: Version) -> Result<Vec<EventRow>> {
    let (mut ready, mut bytes) = (Vec::new(), 0);
    while bytes < AHEAD_BYTES
        && let Some(row) = rows.next()
    {
        let row = row.map_err(|write::Unwritable { object, why }| Error::CannotHold { object, version, why })?;
        bytes += row.message.len();
        ready.push(row);
    }
    Ok(ready)
}

/// Locks the sequence, and says which row it is and which id is next; no id where there is no row yet (Hive 2.3).
async fn lock(writer: &mut Writer<'_>) -> Result<(i64, Option<i64>)> {
    let (dialect, version) = (writer.reader.schema.dialect, writer.reader.schema.version);
    let repeats = version < Version { major: 3, minor: 0 };
    if repeats && dialect == Dialect::Postgres {
        writer.reader.connection.command("LOCK TABLE \"NOTIFICATION_SEQUENCE\" IN ACCESS EXCLUSIVE MODE").await?;
    }
    let sql = format!(
        "SELECT \"NNI_ID\", \"NEXT_EVENT_ID\" FROM \"NOTIFICATION_SEQUENCE\" ORDER BY \"NEXT_EVENT_ID\" DESC{}",
        dialect.for_update()
    );
    let row = writer.reader.connection.query(&sql, &[]).await?.into_iter().next();
    let Some(mut row) = row else { return Ok((1, None)) };
    let (key, mut next) = (row.id(0)?, row.id(1)?);
    if repeats {
        let sql = format!(
            "SELECT MAX(n.\"EVENT_ID\") FROM (SELECT \"EVENT_ID\" FROM \"NOTIFICATION_LOG\" \
             ORDER BY \"NL_ID\" DESC LIMIT {NEWEST_ROWS}) n"
        );
        let largest = writer.reader.connection.query(&sql, &[]).await?.into_iter().next();
        let largest = largest.map(|mut row| row.int(0)).transpose()?.flatten();
        next = next.max(largest.map_or(0, |largest| largest + 1));
    }
    Ok((key, Some(next)))
}

/// Inserts rows with ids from `next` on, and says which is next then.
async fn insert(writer: &mut Writer<'_>, ready: Vec<EventRow>, mut next: i64) -> Result<i64> {
    let schema = std::sync::Arc::clone(&writer.reader.schema);
    let mut rows = Rows::new("NOTIFICATION_LOG");
    for row in ready {
        let (event_type, database) = (row.event_type, row.database);
        let object = || format!("the event {event_type} of {}", database.as_deref().unwrap_or_default());
        let cells = vec![
            cell("NL_ID", writer.ids.take(Sequence::Notification)?),
            cell("EVENT_ID", next),
            cell("EVENT_TIME", row.event_time),
            cell("EVENT_TYPE", &event_type),
            cell_if("CAT_NAME", row.catalog.as_ref(), true),
            cell("DB_NAME", database.as_ref()),
            cell("TBL_NAME", row.table.as_ref()),
            cell("MESSAGE", Value::Text(row.message)),
            cell("MESSAGE_FORMAT", row.message_format.as_ref()),
        ];
        rows.push(&schema, &object, cells)?;
        next += 1;
    }
    rows.insert(&mut writer.reader.connection, &schema).await?;
    Ok(next)
}
