//! Where in a log the last run ended. Plain data, kept in the checkpoint.

use crate::event::{Event, digest};
use crate::metastore::EventRow;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The last event of a log that was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Its id; 0 before the first.
    pub id: i64,
    /// When it happened, by the source's clock: seconds since 1970; 0 where that was not seen.
    pub time: i64,
    /// By which it is known again; absent for an id that was asked for when its event had been cleaned already.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional")]
    pub digest: Option<[u8; 32]>,
}

impl Position {
    /// An id that the source named as its current one, and whose event was not there any more (or never was, for 0).
    pub fn unseen(id: i64) -> Self {
        Self { id, time: 0, digest: None }
    }
}

impl From<&EventRow> for Position {
    fn from(row: &EventRow) -> Self {
        Self { id: row.event_id, time: row.event_time, digest: Some(digest(row)) }
    }
}

impl From<&Event> for Position {
    fn from(event: &Event) -> Self {
        Self { id: event.id, time: event.time, digest: Some(event.digest) }
    }
}

/// A digest as 64 hexadecimal digits.
pub(super) struct Hex(pub(super) [u8; 32]);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&text);
        hash.map(|hash| Self(*hash.as_bytes())).map_err(|_| de::Error::custom("not a digest of 64 hexadecimal digits"))
    }
}

mod optional {
    use super::Hex;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
        digest.map(Hex).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
        Ok(Option::<Hex>::deserialize(deserializer)?.map(|Hex(digest)| digest))
    }
}
