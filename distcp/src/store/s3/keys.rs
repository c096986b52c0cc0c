//! Keys on their way into URLs and out of listings: exact percent-encoding, and the refusal of what a URL would change.
//!
//! `url::Url` (under every HTTP client here) collapses `.` and `..` segments, encoded or not: a signed PUT of `x/../y` wrote
//! `y`. So such keys are refused before a URL exists. Pure; a crash leaves nothing.

use manifest::ObjectKey;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// The longest key of S3, in bytes.
pub(super) const MAX_KEY_BYTES: usize = 1024;

/// RFC 3986 unreserved characters stay as they are: the form that Signature Version 4 canonicalises.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for paths, where `/` separates.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Encodes a full key as the path of a URL.
pub(in crate::store) fn encode_path(key: &str) -> String {
    percent_encode(key.as_bytes(), PATH).to_string()
}

/// Encodes a query value (or name).
pub(in crate::store) fn encode_query(value: &str) -> String {
    percent_encode(value.as_bytes(), QUERY).to_string()
}

/// The full key of `key` below `prefix`, or why no request can be made for it.
pub(super) fn full_key(prefix: &ObjectKey, key: &ObjectKey) -> Result<String, &'static str> {
    let full = key.below(prefix);
    if full.is_empty() {
        return Err("the root of a bucket is no object");
    }
    if full.len() > MAX_KEY_BYTES {
        return Err("S3 keys have at most 1,024 bytes, the prefix included");
    }
    let Some(text) = full.as_str() else { return Err("S3 keys are UTF-8") };
    if text.contains('\0') {
        return Err("no S3 server is known to keep a NUL byte in a key");
    }
    if has_dot_segment(text) {
        return Err("a . or .. segment would be collapsed on its way through URLs and name another object");
    }
    Ok(text.to_owned())
}

/// Whether a segment is `.` or `..`.
pub(in crate::store) fn has_dot_segment(text: &str) -> bool {
    text.split('/').any(|segment| segment == "." || segment == "..")
}

/// How a page of a listing writes its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are (the server ignored `encoding-type=url`).
    Plain,
    /// Percent-encoded; `+` is a blank, as AWS writes it.
    Form,
    /// Percent-encoded; `+` is itself.
    Percent,
}

impl Encoding {
    /// Decides by what the answer says of itself and by its raw keys: a server that writes a blank as `%20` never writes
    /// it as `+`.
    pub fn of_page<'a>(declared_url: bool, mut raw_keys: impl Iterator<Item = &'a str>) -> Self {
        if !declared_url {
            Encoding::Plain
        } else if raw_keys.any(|key| key.contains("%20")) {
            Encoding::Percent
        } else {
            Encoding::Form
        }
    }

    /// The key's bytes.
    pub fn decode(self, raw: &str) -> Vec<u8> {
        match self {
            Encoding::Plain => raw.as_bytes().to_vec(),
            Encoding::Percent => percent_decode_str(raw).collect(),
            Encoding::Form => percent_decode_str(&raw.replace('+', " ")).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_37_every_byte_of_a_key_is_encoded_exactly() {
        let table = [
            ("plain/key-1_2.~", "plain/key-1_2.~"),
            ("a//b", "a//b"),
            ("/lead", "/lead"),
            ("k/dir/", "k/dir/"),
            ("sp ace+plus%pct#hash?q", "sp%20ace%2Bplus%25pct%23hash%3Fq"),
            ("nl\nx'\"", "nl%0Ax%27%22"),
            ("p/%2E%2E/q", "p/%252E%252E/q"),
            ("ü", "%C3%BC"),
            ("a=b&c;d:e@f!g$h(i)*,", "a%3Db%26c%3Bd%3Ae%40f%21g%24h%28i%29%2A%2C"),
        ];
        for (key, encoded) in table {
            assert_eq!(encode_path(key), encoded);
            assert_eq!(Encoding::Percent.decode(encoded), key.as_bytes());
        }
        assert_eq!(encode_query("a/b"), "a%2Fb");
    }

    #[test]
    fn invalid_keys_are_refused_before_a_url_exists() {
        let long = "x".repeat(MAX_KEY_BYTES);
        let table: [(&str, &[u8], bool); 13] = [
            ("", b"", false),
            ("p", b"", true),
            ("", b"x/../y", false),
            ("", b"./z", false),
            ("", b"..", false),
            ("", b"x/.", false),
            ("", b"x/..y/...", true),
            ("", b"bad\xff", false),
            ("", b"nul\0", false),
            ("", long.as_bytes(), true),
            ("p", long.as_bytes(), false),
            ("p", b"/lead", true),
            ("", b"%2e%2e/x", true),
        ];
        for (prefix, key, valid) in table {
            let full = full_key(&prefix.into(), &ObjectKey::from(key.to_vec()));
            assert_eq!(full.is_ok(), valid, "{prefix:?} {:?}", String::from_utf8_lossy(key));
        }
        assert_eq!(full_key(&"p".into(), &"/lead".into()).unwrap(), "p//lead");
    }

    #[test]
    fn a_plus_is_a_blank_only_where_the_server_writes_blanks_so() {
        let aws = Encoding::of_page(true, ["a+b", "c%2Bd"].into_iter());
        assert_eq!(aws.decode("a+b"), b"a b");
        assert_eq!(aws.decode("c%2Bd"), b"c+d");
        let percent = Encoding::of_page(true, ["a%20b", "c+d"].into_iter());
        assert_eq!(percent.decode("c+d"), b"c+d");
        assert_eq!(percent.decode("a%20b"), b"a b");
        let plain = Encoding::of_page(false, ["a+b%20"].into_iter());
        assert_eq!(plain.decode("a+b%20"), b"a+b%20");
    }
}
