//! Attributes as headers, there and back, for S3 and for those who speak it in a dialect of their own.
//!
//! User metadata that a header cannot carry as it is (not ASCII, blanks at an end or twice, or text that looks encoded)
//! goes as an RFC 2047 encoded word, `=?UTF-8?B?...?=`, the form in which S3 itself returns such values. Values written
//! by others in that form are decoded. Pure; a crash leaves nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use manifest::{Attributes, EntryKind};

use super::client::text_of;

/// Headers that are attributes under their own names.
pub(in crate::store) const SYSTEM: [&str; 5] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type"];
/// What S3 says of an object that was written without a content type: as good as none.
const DEFAULT_TYPE: &str = "binary/octet-stream";
/// The attribute that marks a symbolic link.
const LINK: &str = "meta:understudy-link";
/// Headers of user metadata begin so.
const META: &str = "x-amz-meta-";

/// How a service names the headers of a write that are its own.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Dialect {
    /// The service, for messages.
    pub service: &'static str,
    /// Headers of user metadata begin so.
    pub meta: &'static str,
    /// The header of the storage class.
    pub class: &'static str,
}

/// S3's own.
const S3: Dialect = Dialect { service: "S3", meta: META, class: "x-amz-storage-class" };

/// The attributes that an answer tells.
pub(super) fn from_headers(headers: &HeaderMap) -> Attributes {
    let mut attributes = Attributes::new();
    for name in SYSTEM {
        if let Some(value) = text_of(headers, name)
            && !value.is_empty()
            && !(name == "content-type" && value == DEFAULT_TYPE)
        {
            attributes.insert(name.to_owned(), decode(value));
        }
    }
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(META) {
            attributes.insert(format!("meta:{name}"), decode(&String::from_utf8_lossy(value.as_bytes())));
        }
    }
    attributes
}

/// What stands under the key, by its attributes.
pub(in crate::store) fn kind_of(attributes: &Attributes) -> EntryKind {
    if attributes.get(LINK).is_some_and(|value| value == "true") { EntryKind::Symlink } else { EntryKind::Object }
}

/// Puts attributes (and the mark of a link) into the headers of a write; the error names what no header can carry.
pub(super) fn to_headers(kind: EntryKind, attributes: &Attributes, headers: &mut HeaderMap) -> Result<(), String> {
    S3.to_headers(kind, attributes, headers)
}

impl Dialect {
    /// As [`to_headers`], with this service's names.
    pub fn to_headers(self, kind: EntryKind, attributes: &Attributes, headers: &mut HeaderMap) -> Result<(), String> {
        for (name, value) in attributes {
            let header = if let Some(meta) = name.strip_prefix("meta:") {
                if name == LINK {
                    continue;
                }
                format!("{}{}", self.meta, meta.to_ascii_lowercase())
            } else if SYSTEM.contains(&name.as_str()) {
                name.clone()
            } else if name == "storage-class" {
                self.class.to_owned()
            } else {
                return Err(format!("{} has no place for the attribute {name:?}", self.service));
            };
            let header = HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| format!("the attribute name {name:?} fits into no header"))?;
            let value = HeaderValue::from_str(&encode(value))
                .map_err(|_| format!("the value of {name:?} fits into no header"))?;
            headers.insert(header, value);
        }
        if kind == EntryKind::Symlink {
            let header = HeaderName::from_bytes(format!("{}understudy-link", self.meta).as_bytes());
            headers.insert(header.map_err(|error| error.to_string())?, HeaderValue::from_static("true"));
        }
        Ok(())
    }
}

pub(in crate::store) fn encode(value: &str) -> String {
    let plain = value.bytes().all(|b| (0x20..0x7f).contains(&b))
        && value.trim() == value
        && !value.contains("  ")
        && !value.contains("=?");
    if plain { value.to_owned() } else { format!("=?UTF-8?B?{}?=", BASE64.encode(value)) }
}

/// Decodes a value that consists of encoded words only; everything else stays as it is.
pub(in crate::store) fn decode(value: &str) -> String {
    fn words(value: &str) -> Option<String> {
        let mut out = Vec::new();
        for word in value.split(' ') {
            let inner = word.strip_prefix("=?")?.strip_suffix("?=")?;
            let mut fields = inner.splitn(3, '?');
            let (charset, form, text) = (fields.next()?, fields.next()?, fields.next()?);
            if !charset.eq_ignore_ascii_case("utf-8") {
                return None;
            }
            match form {
                "B" | "b" => out.extend(BASE64.decode(text).ok()?),
                "Q" | "q" => {
                    let percent = text.replace('%', "%25").replace('=', "%").replace('_', " ");
                    out.extend(percent_encoding::percent_decode_str(&percent));
                }
                _ => return None,
            }
        }
        String::from_utf8(out).ok()
    }
    words(value).unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_round_trip() {
        for value in
            ["plain", "", " lead", "two  blanks", "ünï", "=?UTF-8?B?eA==?=", "tab\there", "line\nfeed", "a=b?c", "日本"]
        {
            let mut attributes = Attributes::new();
            attributes.insert("meta:note".into(), value.into());
            attributes.insert("content-type".into(), "text/plain; charset=utf-8".into());
            let mut headers = HeaderMap::new();
            to_headers(EntryKind::Object, &attributes, &mut headers).unwrap();
            assert!(headers["x-amz-meta-note"].to_str().is_ok());
            assert_eq!(from_headers(&headers), attributes, "{value:?}");
        }
    }

    #[test]
    fn encoded_words_of_others_are_read() {
        let table = [
            ("=?UTF-8?Q?=C3=BCn_x?=", "ün x"),
            ("=?utf-8?b?w7w=?= =?UTF-8?B?w7w=?=", "üü"),
            ("=?ISO-8859-1?Q?=FC?=", "=?ISO-8859-1?Q?=FC?="),
            ("see =?UTF-8?B?w7w=?=", "see =?UTF-8?B?w7w=?="),
        ];
        for (raw, value) in table {
            assert_eq!(decode(raw), value);
        }
    }

    #[test]
    fn the_default_type_is_no_attribute_and_links_are_marked() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(DEFAULT_TYPE));
        assert_eq!(from_headers(&headers), Attributes::new());
        let mut headers = HeaderMap::new();
        to_headers(EntryKind::Symlink, &Attributes::new(), &mut headers).unwrap();
        assert_eq!(kind_of(&from_headers(&headers)), EntryKind::Symlink);
        let mut bad = Attributes::new();
        bad.insert("meta:sp ace".into(), "x".into());
        assert!(to_headers(EntryKind::Object, &bad, &mut headers).unwrap_err().contains("sp ace"));
        let mut unknown = Attributes::new();
        unknown.insert("expires".into(), "x".into());
        assert!(to_headers(EntryKind::Object, &unknown, &mut headers).is_err());
    }
}
