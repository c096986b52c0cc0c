//! The JSON in a row, and the forms in which Hive writes what is in it. Pure; lengths are checked before anything is made.

use super::{GZIP_FORMAT, MAX_ELEMENTS, PLAIN_FORMAT, Wrong, damaged, shortened};
use crate::metastore::EventRow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;

/// EVENT_TYPE is 32 characters wide.
pub(super) const MAX_TYPE_BYTES: usize = 64;

/// Elements for which room is made before they are there.
const EXPECTED_ELEMENTS: usize = 64;

/// The JSON of a row's message.
pub(super) fn text(row: &EventRow, max_message_bytes: usize, max_json_bytes: usize) -> Result<Cow<'_, str>, Wrong> {
    let format = row.message_format.as_deref().ok_or(Wrong::NoFormat)?;
    let message = row.message.as_str();
    if message.len() > max_message_bytes {
        return Err(Wrong::TooLong { part: "message", limit: max_message_bytes });
    }
    match format {
        PLAIN_FORMAT => Ok(Cow::Borrowed(message)),
        GZIP_FORMAT => {
            let zipped = STANDARD.decode(message.trim_ascii());
            let zipped = zipped.map_err(|error| damaged(format_args!("its message is not base64: {error}")))?;
            Ok(Cow::Owned(unzipped(&zipped, max_json_bytes)?))
        }
        other => Err(Wrong::Format(shortened(other, MAX_TYPE_BYTES))),
    }
}

fn unzipped(zipped: &[u8], limit: usize) -> Result<String, Wrong> {
    let mut json = Vec::new();
    // One byte more than may be there tells a text that ends in time from one that goes on.
    let enough = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(zipped).take(enough).read_to_end(&mut json);
    read.map_err(|error| damaged(format_args!("its message is not gzip: {error}")))?;
    if json.len() > limit {
        return Err(Wrong::TooLong { part: "uncompressed message", limit });
    }
    String::from_utf8(json).map_err(|error| damaged(format_args!("its uncompressed message is not UTF-8: {error}")))
}

/// A list of a bounded number of elements; empty where there is `null`.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E: de::Error>(self) -> Result<List<T>, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut found: A) -> Result<List<T>, A::Error> {
                let mut elements = Vec::with_capacity(found.size_hint().unwrap_or(0).min(EXPECTED_ELEMENTS));
                while let Some(element) = found.next_element()? {
                    check_count::<A::Error>(elements.len())?;
                    elements.push(element);
                }
                Ok(List(elements))
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// A map from text to text, in the order in which it is written; empty where there is `null`.
#[derive(Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Pairs, E> {
                Ok(Pairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut found: A) -> Result<Pairs, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = found.next_entry()? {
                    check_count::<A::Error>(entries.len())?;
                    entries.push(entry);
                }
                Ok(Pairs(entries))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

fn check_count<E: de::Error>(count: usize) -> Result<(), E> {
    match count < MAX_ELEMENTS {
        true => Ok(()),
        false => Err(E::custom(format_args!("more than {MAX_ELEMENTS} elements"))),
    }
}

/// A truth value, which Hive writes as text.
#[derive(Clone, Copy)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the text \"true\" or \"false\"")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Flag, E> {
                match word {
                    "true" => Ok(Flag(true)),
                    "false" => Ok(Flag(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_str(Word)
    }
}
