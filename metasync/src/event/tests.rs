//! Decoding of what real metastores wrote, and of what none would.

mod hostile;
mod made;
mod samples;
mod written;

use super::*;
use crate::metastore::EventRow;

/// A row with this message, of a format and type.
fn row(event_type: &str, format: &str, message: &str) -> EventRow {
    EventRow {
        event_id: 17,
        event_time: 1_795_253_023,
        event_type: event_type.to_owned(),
        catalog: Some("hive".to_owned()),
        database: Some("sales".to_owned()),
        table: Some("orders".to_owned()),
        message: message.to_owned(),
        message_format: Some(format.to_owned()),
    }
}

fn plain(event_type: &str, message: &str) -> EventRow {
    row(event_type, PLAIN_FORMAT, message)
}

/// This text, compressed as Hive 4 does it.
fn zipped(json: &[u8]) -> String {
    use base64::Engine as _;
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(json).unwrap();
    base64::engine::general_purpose::STANDARD.encode(encoder.finish().unwrap())
}
