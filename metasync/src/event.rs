//! Events of the notification log: from a row as it is stored to what happened, in the terms of the [`model`](crate::model).
//!
//! Pure. A message is what somebody else wrote: whatever it holds, decoding ends in an event or in an error that names the
//! event, never in a panic, and takes no more memory than bounded multiples of the message (the constants here; JSON that is
//! looked at nests at most 128 deep, which is serde_json's own limit, and Thrift objects [`hms::wire::MAX_DEPTH`]). Properties that are not known
//! are passed over, as Hive does: every release adds some. Names are in lower case, as a metastore keeps them.

mod digest;
mod kind;
mod message;
mod objects;
mod read;
#[cfg(test)]
mod tests;
mod told;
mod touches;
pub mod write;

pub use digest::digest;
pub use kind::{Index, Kind, NamedPartition, PartitionFiles};
pub use told::{MAX_WORDS, Told, named};
pub use touches::{Emptied, Filled, Touches};

use crate::metastore::EventRow;

/// The longest MESSAGE that is looked at, in bytes, as it is stored.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// The longest JSON that a compressed message may hold, in bytes.
pub const MAX_JSON_BYTES: usize = 256 << 20;

/// The most elements of one list, and of one map, of a message.
pub const MAX_ELEMENTS: usize = 1 << 20;

/// The longest cause that an error repeats, in bytes: parsers quote what they choke on.
const MAX_WHY_BYTES: usize = 400;

/// The MESSAGE_FORMAT of plain JSON: Hive 2.3 and 3.1, and 4.x when told so.
pub const PLAIN_FORMAT: &str = "json-0.2";

/// The MESSAGE_FORMAT of JSON that is compressed by gzip and written in base64: Hive 4.x.
pub const GZIP_FORMAT: &str = "gzip(json-2.0)";

/// An event, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// EVENT_ID. On Hive 2.3 several events may have the same.
    pub id: i64,
    /// When it happened, by the source's clock: seconds since 1970.
    pub time: i64,
    /// By which it is known again: see [`digest()`].
    pub digest: [u8; 32],
    /// What happened.
    pub kind: Kind,
}

/// An event that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {id} ({event_type}): {why}")]
pub struct EventError {
    /// EVENT_ID
    pub id: i64,
    /// EVENT_TYPE, cut short where it is no type that a metastore can hold.
    pub event_type: String,
    /// What is wrong with it.
    pub why: Wrong,
}

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// A MESSAGE_FORMAT that is not known here.
    #[error("its message is of format `{0}`, which is not known here; `{PLAIN_FORMAT}` and `{GZIP_FORMAT}` are")]
    Format(String),
    /// A row without MESSAGE_FORMAT.
    #[error("its row does not say of which format its message is")]
    NoFormat,
    /// Longer than what is looked at.
    #[error("its {part} is longer than {limit} bytes")]
    TooLong {
        /// The message as it is stored, or what it holds uncompressed.
        part: &'static str,
        /// The most that is taken.
        limit: usize,
    },
    /// A message that does not hold what its format and type ask for.
    #[error("{0}")]
    Damaged(String),
}

/// The type of an event, to count by: EVENT_TYPE as it is.
pub fn type_name(row: &EventRow) -> &str {
    &row.event_type
}

/// What a row of the log says. Types that are not known are [`Kind::Unknown`].
///
/// # Errors
/// A format that is not known, a message that is too long, or one that does not hold what its type asks for.
pub fn decode(row: &EventRow) -> Result<Event, EventError> {
    decode_within(row, MAX_MESSAGE_BYTES, MAX_JSON_BYTES)
}

fn decode_within(row: &EventRow, max_message_bytes: usize, max_json_bytes: usize) -> Result<Event, EventError> {
    let kind = message::text(row, max_message_bytes, max_json_bytes).and_then(|json| read::kind(row, &json));
    match kind {
        Ok(kind) => Ok(Event { id: row.event_id, time: row.event_time, digest: digest(row), kind }),
        Err(why) => {
            let event_type = shortened(&row.event_type, message::MAX_TYPE_BYTES);
            Err(EventError { id: row.event_id, event_type, why })
        }
    }
}

impl Event {
    /// Which objects of the source it is about, by name.
    pub fn touches(&self) -> Touches {
        touches::of(&self.kind)
    }
}

/// As much of a text as fits into an error, without signs that move a terminal's cursor.
fn shortened(text: &str, limit: usize) -> String {
    let end = text.floor_char_boundary(limit);
    let visible = |sign: char| if sign.is_control() { char::REPLACEMENT_CHARACTER } else { sign };
    let mut short: String = text[..end].chars().map(visible).collect();
    if end < text.len() {
        short.push_str("...");
    }
    short
}

/// What is wrong with a message, in words.
fn damaged(why: impl std::fmt::Display) -> Wrong {
    Wrong::Damaged(shortened(&why.to_string(), MAX_WHY_BYTES))
}
