//! Sealed JSON documents: how the lease, the checkpoint, the claim and the receipt stand in a file.
//!
//! One JSON object whose first fields are format, version and the program version that it needs, and whose last is a
//! digest of all bytes before it: a flipped or missing byte is an error, never other data. Publishing creates a file once
//! and, when an answer was lost, looks whether the work was done.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Lasting, StateStore, Tag};
use crate::error::{Class, Error, Result};

/// How often a write is tried when its answer is a retryable error.
pub(super) const WRITE_ATTEMPTS: u32 = 5;
/// The pause before the second attempt; doubled for each later one.
pub(super) const WRITE_PAUSE: Duration = Duration::from_millis(200);

/// A stored format that this program knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// What it is, for messages.
    pub what: &'static str,
    /// Its name in the file.
    pub format: &'static str,
    /// The version written, and the newest that is read.
    pub version: u32,
    /// The oldest program that reads this version.
    pub needs: &'static str,
}

/// The first fields of every file; unknown other fields are left alone.
#[derive(Debug, Deserialize)]
struct Head {
    format: String,
    version: u32,
    #[serde(default)]
    minimum_program: String,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    format: &'a str,
    version: u32,
    minimum_program: &'a str,
    #[serde(flatten)]
    body: &'a T,
}

/// The error for bytes that are not what they should be.
pub(super) fn damaged(format: &Format, name: &str, reason: impl Into<String>) -> Error {
    Error::Damaged { what: format.what, name: name.to_owned(), reason: reason.into() }
}

/// Checks format and version of a JSON object. Versions come first: a newer one may have any other form.
pub(super) fn check_head(format: &Format, name: &str, bytes: &[u8]) -> Result<()> {
    let head: Head = serde_json::from_slice(bytes).map_err(|error| damaged(format, name, error.to_string()))?;
    if head.format != format.format {
        return Err(damaged(format, name, format!("its format is {:?}", head.format)));
    }
    if head.version > format.version {
        return Err(Error::FutureVersion {
            what: format.what,
            name: name.to_owned(),
            found: head.version,
            known: format.version,
            needs: head.minimum_program,
        });
    }
    if head.version < format.version {
        return Err(damaged(format, name, format!("there never was a version {}", head.version)));
    }
    Ok(())
}

/// The bytes of a document with this body, which must be a JSON object without the envelope's fields.
pub(super) fn encode<T: Serialize>(format: &Format, name: &str, body: &T) -> Result<Bytes> {
    let envelope = Envelope { format: format.format, version: format.version, minimum_program: format.needs, body };
    let mut bytes = serde_json::to_vec_pretty(&envelope)
        .map_err(|error| damaged(format, name, format!("it cannot be written as JSON: {error}")))?;
    // The closing "\n}" moves behind the digest.
    bytes.truncate(bytes.len().saturating_sub(2));
    let tail = seal(&bytes);
    bytes.extend_from_slice(tail.as_bytes());
    Ok(bytes.into())
}

/// The body of a document.
pub(super) fn decode<T: DeserializeOwned>(format: &Format, name: &str, bytes: &[u8]) -> Result<T> {
    check_head(format, name, bytes)?;
    let cut = bytes.len().saturating_sub(seal(&[]).len());
    let (content, tail) = bytes.split_at(cut);
    if tail != seal(content).as_bytes() {
        return Err(damaged(format, name, "its digest does not match its content"));
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(format, name, error.to_string()))
}

/// The end of a document whose bytes so far are `content`. Always of one length.
fn seal(content: &[u8]) -> String {
    format!(",\n  \"digest\": \"{}\"\n}}\n", blake3::hash(content).to_hex())
}

/// How publishing a file ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The file holds our bytes.
    Ours(Tag),
    /// Another file stands there.
    Others(Bytes),
}

/// Creates an immutable file, retrying within [`WRITE_ATTEMPTS`]. A file that holds our bytes already is ours: an earlier
/// attempt did the work and its answer was lost (case 48). `may_write` is asked before every attempt.
pub(super) async fn publish(
    store: &dyn StateStore,
    name: &str,
    bytes: &Bytes,
    lasting: Lasting,
    may_write: impl Fn() -> Result<()>,
) -> Result<Published> {
    let mut pause = WRITE_PAUSE;
    let mut attempt = 1;
    loop {
        may_write()?;
        let result = match store.create_as(name, bytes.clone(), lasting).await {
            Ok(Some(tag)) => return Ok(Published::Ours(tag)),
            Ok(None) => match store.get(name).await {
                Ok(Some((found, tag))) if found == *bytes => return Ok(Published::Ours(tag)),
                Ok(Some((found, _))) => return Ok(Published::Others(found)),
                Ok(None) => Err(Error::State {
                    operation: "create",
                    name: name.to_owned(),
                    place: store.place(),
                    reason: "it was there, and then it was not".into(),
                    class: Class::Retryable,
                    permission: false,
                }),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.class() != Class::Retryable => return Err(error),
            Err(error) if attempt == WRITE_ATTEMPTS => {
                return landed(store, name, bytes).await.map(Published::Ours).ok_or(error);
            }
            Err(error) => tracing::debug!(name, attempt, %error, "creating a state file failed, trying again"),
            Ok(()) => {}
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

/// The tag of the file if it holds these bytes: whether a write without an answer did its work.
pub(super) async fn landed(store: &dyn StateStore, name: &str, bytes: &Bytes) -> Option<Tag> {
    match store.get(name).await {
        Ok(Some((found, tag))) if found == *bytes => Some(tag),
        _ => None,
    }
}

/// [`publish`] for a name that is ours alone: another file there is a conflict.
pub(super) async fn publish_own(
    store: &dyn StateStore,
    name: &str,
    bytes: &Bytes,
    lasting: Lasting,
    may_write: impl Fn() -> Result<()>,
) -> Result<()> {
    match publish(store, name, bytes, lasting, may_write).await? {
        Published::Ours(_) => Ok(()),
        Published::Others(_) => Err(Error::State {
            operation: "create",
            name: name.to_owned(),
            place: store.place(),
            reason: "a file with other content stands there".into(),
            class: Class::Conflict,
            permission: false,
        }),
    }
}

/// Times as RFC 3339 text.
pub(super) mod rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Times that may be unknown, as RFC 3339 text or null.
pub mod rfc3339_option {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// As text, or null.
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    /// From text, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::contract::assert_every_corruption_is_found;

    const FORMAT: Format = Format { what: "receipt", format: "test", version: 1, needs: "0.1.0" };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Body {
        text: String,
        /// Integer keys would not survive a buffered decoder.
        numbers: BTreeMap<u64, i64>,
    }

    #[test]
    fn round_trip_is_exact_and_one_json_object() {
        let body = Body { text: "a\n\u{1}\"}".into(), numbers: [(u64::MAX, i64::MIN)].into() };
        let bytes = encode(&FORMAT, "x", &body).unwrap();
        assert_eq!(decode::<Body>(&FORMAT, "x", &bytes).unwrap(), body);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["format"], "test");
        assert_eq!(value["digest"].as_str().map(str::len), Some(64));
    }

    #[test]
    fn every_flip_and_every_cut_is_an_error() {
        let body = Body { text: "text".into(), numbers: [(1, 2)].into() };
        let bytes = encode(&FORMAT, "x", &body).unwrap();
        assert_every_corruption_is_found(&bytes, |bad| decode::<Body>(&FORMAT, "x", bad).is_err());
    }
}
