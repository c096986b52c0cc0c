//! Logs as they are, cleaned, restored, damaged, and raced for.

mod dense;
mod repeating;
mod window;

use super::*;

/// An event that happened at a time of its own, of which `what` tells twins apart.
fn event(id: i64, time: i64, what: &str) -> EventRow {
    EventRow {
        event_id: id,
        event_time: time,
        event_type: "ALTER_TABLE".to_owned(),
        catalog: None,
        database: Some("sales".to_owned()),
        table: Some("orders".to_owned()),
        message: what.to_owned(),
        message_format: Some("json-0.2".to_owned()),
    }
}

/// The events of these ids, ten seconds apart.
fn events(ids: impl IntoIterator<Item = i64>) -> Vec<EventRow> {
    ids.into_iter().map(|id| event(id, id * 10, "")).collect()
}

fn ids(rows: &[EventRow]) -> Vec<i64> {
    rows.iter().map(|row| row.event_id).collect()
}

fn all_of(current: i64) -> Asked {
    Asked { current, complete: true }
}
