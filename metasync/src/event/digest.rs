//! The digest by which an event is known again. Pure.

use crate::metastore::EventRow;

/// Says of what a digest is, so that it is never taken for one of something else.
const CONTEXT: &str = "understudy metasync notification log row 1";

/// BLAKE3 of everything that a row of the log says. Its NL_ID is no part of it: a metastore that was dumped and loaded may
/// number its rows anew.
///
/// Numbers are 8 bytes, little-endian; texts their length as such a number, then their bytes; what may be absent has one byte
/// before it, 1, or is a single byte 0. So no two different rows have the same bytes.
pub fn digest(row: &EventRow) -> [u8; 32] {
    let EventRow { event_id, event_time, event_type, catalog, database, table, message, message_format } = row;
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&event_id.to_le_bytes());
    hasher.update(&event_time.to_le_bytes());
    put(&mut hasher, event_type);
    for text in [catalog, database, table] {
        put_optional(&mut hasher, text.as_deref());
    }
    put(&mut hasher, message);
    put_optional(&mut hasher, message_format.as_deref());
    *hasher.finalize().as_bytes()
}

fn put(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn put_optional(hasher: &mut blake3::Hasher, text: Option<&str>) {
    hasher.update(&[u8::from(text.is_some())]);
    if let Some(text) = text {
        put(hasher, text);
    }
}
