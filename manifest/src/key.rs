//! Object keys, as the bytes they are.
//!
//! A key is what a store calls an object, relative to the root that was opened: `/`-separated by convention, any bytes in
//! truth. Nothing here normalises, decodes or rejects: what a store can hold, a key can hold, and what *another* store
//! cannot hold is that store's error, with the key named (design invariant 9).

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of one object below a root: bytes, ordered as bytes (the order of `ListObjectsV2`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectKey(Bytes);

impl ObjectKey {
    /// Wraps bytes as a key, unchanged.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The key as text, or `None` when it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether the key has no bytes (the root itself).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// This key below `prefix`: `prefix`, a `/`, the key. An empty prefix or an empty key adds no slash.
    pub fn below(&self, prefix: &ObjectKey) -> ObjectKey {
        if prefix.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return prefix.clone();
        }
        let mut joined = Vec::with_capacity(prefix.len() + 1 + self.len());
        joined.extend_from_slice(prefix.as_bytes());
        joined.push(b'/');
        joined.extend_from_slice(self.as_bytes());
        ObjectKey::new(joined)
    }

    /// What follows `prefix` and a `/`, or `None` when this key does not lie below `prefix`. Matches whole segments only
    /// (rule 4): `lake-eu-2/x` is not below `lake-eu`.
    pub fn strip_prefix(&self, prefix: &ObjectKey) -> Option<ObjectKey> {
        if prefix.is_empty() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(prefix.as_bytes())?;
        let rest = rest.strip_prefix(b"/")?;
        Some(ObjectKey(self.0.slice_ref(rest)))
    }

    /// Whether this key lies below `folder` (or is it); an empty folder holds every key.
    pub fn is_within(&self, folder: &ObjectKey) -> bool {
        self == folder || self.strip_prefix(folder).is_some()
    }

    /// The `/`-separated segments, empty ones included.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The key for a terminal or a line of text: a backslash, a control character and every byte that is not UTF-8 are
    /// escaped (`\\`, `\n`, `\r`, `\t`, `\xNN`), so that one key is one line and two keys never look the same.
    pub fn escaped(&self) -> Cow<'_, str> {
        if let Some(text) = self.as_str()
            && !text.chars().any(|c| c == '\\' || c.is_control())
        {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(self.len() + 8);
        for piece in self.0.utf8_chunks() {
            for c in piece.valid().chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    c if c.is_control() => {
                        let mut buffer = [0; 4];
                        for byte in c.encode_utf8(&mut buffer).bytes() {
                            out.push_str(&format!("\\x{byte:02x}"));
                        }
                    }
                    c => out.push(c),
                }
            }
            for byte in piece.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Cow::Owned(out)
    }

    /// Whether the key can stand in JSON as it is: UTF-8 without control characters. Others go in as `key_base64`.
    pub fn is_plain_text(&self) -> bool {
        self.as_str().is_some_and(|text| !text.chars().any(char::is_control))
    }

    /// The key's bytes in standard base64.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.escaped())
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped())
    }
}

impl From<&str> for ObjectKey {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for ObjectKey {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<Vec<u8>> for ObjectKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::from(bytes))
    }
}

/// In JSON a key is a string when it is plain text, else `{"base64": "..."}`.
impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => Encoded { base64: self.to_base64() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Encoded(Encoded),
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(text.into()),
            Form::Encoded(encoded) => {
                BASE64.decode(encoded.base64).map(ObjectKey::from).map_err(serde::de::Error::custom)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_04_prefixes_match_at_segments() {
        let table = [
            ("lake-eu-2/x", "lake-eu", None),
            ("lake-eu/x", "lake-eu", Some("x")),
            ("lake-eu", "lake-eu", None),
            ("lake-eu/", "lake-eu", Some("")),
            ("x", "", Some("x")),
            ("a//b", "a", Some("/b")),
        ];
        for (key, prefix, rest) in table {
            let stripped = ObjectKey::from(key).strip_prefix(&prefix.into());
            assert_eq!(stripped, rest.map(ObjectKey::from), "{key} below {prefix}");
        }
    }

    #[test]
    fn escaping_is_one_line_and_unambiguous() {
        let table: [(&[u8], &str); 6] = [
            (b"plain/key", "plain/key"),
            (b"new\nline", "new\\nline"),
            (b"back\\n", "back\\\\n"),
            (b"bad\xff", "bad\\xff"),
            ("sn\u{f6}".as_bytes(), "sn\u{f6}"),
            (b"bell\x07", "bell\\x07"),
        ];
        for (bytes, text) in table {
            assert_eq!(ObjectKey::from(bytes.to_vec()).escaped(), text);
        }
    }

    #[test]
    fn json_round_trip_keeps_every_byte() {
        for bytes in [b"a/b".to_vec(), b"nl\n".to_vec(), vec![0xff, 0x00, b'/'], Vec::new()] {
            let key = ObjectKey::from(bytes);
            let text = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<ObjectKey>(&text).unwrap(), key);
        }
    }
}
