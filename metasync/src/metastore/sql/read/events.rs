//! The notification log.

use super::Reader;
use crate::metastore::{EventRow, Result};

pub(super) async fn current_id(reader: &mut Reader) -> Result<i64> {
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("NOTIFICATION_SEQUENCE") {
        return Ok(0);
    }
    let sql = "SELECT MAX(\"NEXT_EVENT_ID\") FROM \"NOTIFICATION_SEQUENCE\"";
    let next = connection.query(sql, &[]).await?.into_iter().next().map(|mut row| row.int(0)).transpose()?;
    Ok(next.flatten().map_or(0, |next| next - 1))
}

const COLUMNS: [&str; 8] =
    ["EVENT_ID", "EVENT_TIME", "EVENT_TYPE", "CAT_NAME", "DB_NAME", "TBL_NAME", "MESSAGE", "MESSAGE_FORMAT"];

pub(super) async fn after(reader: &mut Reader, id: i64, limit: usize) -> Result<Vec<EventRow>> {
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("NOTIFICATION_LOG") {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {} FROM \"NOTIFICATION_LOG\" n WHERE n.\"EVENT_ID\" > ? ORDER BY n.\"EVENT_ID\", n.\"NL_ID\" LIMIT {limit}",
        schema.select("NOTIFICATION_LOG", "n", &COLUMNS)
    );
    let mut events = Vec::new();
    for mut row in connection.query(&sql, &[id.into()]).await? {
        events.push(EventRow {
            event_id: row.id(0)?,
            event_time: row.int(1)?.unwrap_or(0),
            event_type: row.string(2)?,
            catalog: row.text(3)?,
            database: row.text(4)?,
            table: row.text(5)?,
            message: row.string(6)?,
            message_format: row.text(7)?,
        });
    }
    Ok(events)
}
