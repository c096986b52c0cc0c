//! Attributes as Azure's properties and metadata, there and back.
//!
//! Names of metadata are C# identifiers there: letters, digits and `_`, not beginning with a digit, read without regard to
//! case. Every other byte of a name goes as `_xHH_`, its lower-case hexadecimal value, and so does a `_` that stands before
//! an `x`: `understudy-mode` is `understudy_x2d_mode`. Values that a header cannot carry go as RFC 2047 encoded words, as
//! on S3, and so do empty ones. Pure; a crash leaves nothing.

use http::{HeaderMap, HeaderName, HeaderValue};
use manifest::{Attributes, EntryKind};

use crate::store::s3::attributes::{decode, encode};
use crate::store::wire::text_of;

/// Attributes, and the header that sets each of them; they are read from headers of their own names.
const SYSTEM: [(&str, &str); 5] = [
    ("cache-control", "x-ms-blob-cache-control"),
    ("content-disposition", "x-ms-blob-content-disposition"),
    ("content-encoding", "x-ms-blob-content-encoding"),
    ("content-language", "x-ms-blob-content-language"),
    ("content-type", "x-ms-blob-content-type"),
];
/// What Azure says of a blob that was written without a content type: as good as none.
const DEFAULT_TYPE: &str = "application/octet-stream";
/// The attribute that marks a symbolic link.
const LINK: &str = "meta:understudy-link";
/// Headers of metadata begin so.
const META: &str = "x-ms-meta-";
/// Metadata by which Hadoop and ADLS Gen2 mark a blob that stands for a folder.
const FOLDER: &str = "hdi_isfolder";
/// An empty value, which not every server keeps, as an encoded word.
const EMPTY: &str = "=?UTF-8?B??=";

/// The attributes that an answer tells.
pub(super) fn from_headers(headers: &HeaderMap) -> Attributes {
    let mut attributes = Attributes::new();
    for (name, _) in SYSTEM {
        if let Some(value) = text_of(headers, name)
            && !value.is_empty()
            && !(name == "content-type" && value == DEFAULT_TYPE)
        {
            attributes.insert(name.to_owned(), decode(value));
        }
    }
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(META) {
            let value = decode(&String::from_utf8_lossy(value.as_bytes()));
            attributes.insert(format!("meta:{}", decode_name(name)), value);
        }
    }
    attributes
}

/// What stands under the key, by its attributes.
pub(super) fn kind_of(attributes: &Attributes) -> EntryKind {
    if attributes.get(LINK).is_some_and(|value| value == "true") { EntryKind::Symlink } else { EntryKind::Object }
}

/// Whether the blob stands for a folder: such blobs are no objects.
pub(super) fn is_folder(headers: &HeaderMap) -> bool {
    [format!("{META}{FOLDER}").as_str(), "x-ms-resource-type"].iter().any(|name| {
        text_of(headers, name).is_some_and(|value| is_folder_mark(value) || value.eq_ignore_ascii_case("directory"))
    })
}

/// Whether a piece of metadata, as a listing tells it, marks a folder.
pub(super) fn marks_folder(name: &str, value: &str) -> bool {
    name.eq_ignore_ascii_case(FOLDER) && is_folder_mark(value)
}

fn is_folder_mark(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("true")
}

/// Puts attributes (and the mark of a link) into the headers of a write; the error names what no header can carry.
pub(super) fn to_headers(kind: EntryKind, attributes: &Attributes, headers: &mut HeaderMap) -> Result<(), String> {
    for (name, value) in attributes {
        let (header, value) = if let Some(meta) = name.strip_prefix("meta:") {
            if name == LINK {
                continue;
            }
            if meta.is_empty() {
                return Err("metadata without a name fits into no header".to_owned());
            }
            if marks_folder(meta, value) {
                return Err(format!("{name:?} would make it a folder"));
            }
            (format!("{META}{}", encode_name(meta)), if value.is_empty() { EMPTY.to_owned() } else { encode(value) })
        } else if let Some((_, header)) = SYSTEM.iter().find(|(system, _)| system == name) {
            ((*header).to_owned(), encode(value))
        } else if name == "storage-class" {
            ("x-ms-access-tier".to_owned(), value.clone())
        } else {
            return Err(format!("Azure has no place for the attribute {name:?}"));
        };
        let header = HeaderName::from_bytes(header.as_bytes())
            .map_err(|_| format!("the attribute name {name:?} fits into no header"))?;
        let value = HeaderValue::from_str(&value).map_err(|_| format!("the value of {name:?} fits into no header"))?;
        headers.insert(header, value);
    }
    if kind == EntryKind::Symlink {
        let header = format!("{META}{}", encode_name("understudy-link"));
        if let Ok(header) = HeaderName::from_bytes(header.as_bytes()) {
            headers.insert(header, HeaderValue::from_static("true"));
        }
    }
    Ok(())
}

/// Whether the properties (not the metadata) of both are equal.
pub(super) fn same_properties(a: &Attributes, b: &Attributes) -> bool {
    SYSTEM.iter().all(|(name, _)| {
        let of = |attributes: &Attributes| {
            attributes.get(*name).filter(|value| !(*name == "content-type" && *value == DEFAULT_TYPE)).cloned()
        };
        of(a) == of(b)
    })
}

/// Whether there is metadata among them.
pub(super) fn has_metadata(attributes: &Attributes) -> bool {
    attributes.keys().any(|name| name.starts_with("meta:"))
}

fn encode_name(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let bytes = name.as_bytes();
    let mut out = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'a'..=b'z' => true,
            b'0'..=b'9' => i > 0,
            // Before an x it would look like the beginning of an encoded byte.
            b'_' => bytes.get(i + 1) != Some(&b'x'),
            _ => false,
        };
        if plain {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("_x{byte:02x}_"));
        }
    }
    out
}

fn decode_name(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let byte = match bytes.get(i..i + 5) {
            Some([b'_', b'x', high, low, b'_']) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(byte.unwrap_or(bytes[i]));
        i += if byte.is_some() { 5 } else { 1 };
    }
    // What is no text was never a name of ours.
    String::from_utf8(out).unwrap_or_else(|_| name.to_owned())
}

/// The value of a lower-case hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer that tells what was written: properties come back under their own names.
    fn answered(written: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in written {
            let back = SYSTEM.iter().find(|(_, header)| header == name).map_or(name.as_str(), |(name, _)| name);
            headers.insert(HeaderName::from_bytes(back.as_bytes()).unwrap(), value.clone());
        }
        headers
    }

    #[test]
    fn names_become_identifiers_and_come_back() {
        let table = [
            ("mtime", "mtime"),
            ("understudy-mode", "understudy_x2d_mode"),
            ("1st", "_x31_st"),
            ("a_b", "a_b"),
            ("a_x2d_b", "a_x5f_x2d_b"),
            ("_x2d-", "_x5f_x2d_x2d_"),
            ("-x2d_", "_x2d_x2d_"),
            ("Mixed.Case", "mixed_x2e_case"),
            ("\u{fc}", "_xc3__xbc_"),
        ];
        for (name, encoded) in table {
            assert_eq!(encode_name(name), encoded);
            assert_eq!(decode_name(encoded), name.to_ascii_lowercase());
        }
        assert_eq!(decode_name("_xff_"), "_xff_", "not text: not ours");
        assert_eq!(decode_name("_x2D_"), "_x2D_");
    }

    proptest! {
        #[test]
        fn every_name_is_an_identifier_and_comes_back(name in "[a-z0-9_x.\u{e9}-]{1,24}") {
            let encoded = encode_name(&name);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            prop_assert!(!encoded.as_bytes()[0].is_ascii_digit());
            prop_assert_eq!(decode_name(&encoded), name);
        }
    }

    #[test]
    fn values_survive_the_round_trip() {
        for value in ["plain", "", " lead", "two  blanks", "\u{fc}n\u{ef}", "=?UTF-8?B?eA==?=", "tab\there", "a=b?c"] {
            let mut attributes = Attributes::new();
            attributes.insert("meta:under-note".into(), value.into());
            attributes.insert("content-type".into(), "text/plain; charset=utf-8".into());
            attributes.insert("content-language".into(), "de".into());
            let mut headers = HeaderMap::new();
            to_headers(EntryKind::Object, &attributes, &mut headers).unwrap();
            assert!(!headers["x-ms-meta-under_x2d_note"].is_empty());
            assert_eq!(from_headers(&answered(&headers)), attributes, "{value:?}");
        }
    }

    #[test]
    fn links_folders_and_the_default_type() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(DEFAULT_TYPE));
        assert_eq!(from_headers(&headers), Attributes::new());
        let mut headers = HeaderMap::new();
        to_headers(EntryKind::Symlink, &Attributes::new(), &mut headers).unwrap();
        assert_eq!(kind_of(&from_headers(&headers)), EntryKind::Symlink);
        assert!(!is_folder(&headers));
        headers.insert("x-ms-meta-hdi_isfolder", HeaderValue::from_static("True"));
        assert!(is_folder(&headers));
        for (name, value) in [("meta:", "x"), ("expires", "x"), ("meta:hdi_isfolder", "true")] {
            let bad = Attributes::from([(name.to_owned(), value.to_owned())]);
            assert!(to_headers(EntryKind::Object, &bad, &mut HeaderMap::new()).is_err(), "{name}");
        }
    }
}
