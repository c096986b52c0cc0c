//! Names of objects on their way into URLs: one path segment each, and the refusal of what the service refuses.
//!
//! The whole name is one segment, its slashes encoded: so `x/../y`, `a//b` and `/x` arrive as they are, where a URL with
//! slashes would be collapsed by the HTTP client. Only a name that is `.` or `..` altogether would, and the service has no
//! such names. Pure; a crash leaves nothing.

use manifest::ObjectKey;

use crate::store::s3::keys::encode_query;

/// The longest name of an object, in bytes.
const MAX_KEY_BYTES: usize = 1024;
/// Names that begin so are the service's own.
const RESERVED: &str = ".well-known/acme-challenge/";

/// A name as one segment of a path. All but unreserved characters are encoded, `/` among them.
pub(super) fn segment(name: &str) -> String {
    encode_query(name)
}

/// The full name of `key` below `prefix`, or why there is no such object
/// (<https://cloud.google.com/storage/docs/objects#naming>).
pub(super) fn full_key(prefix: &ObjectKey, key: &ObjectKey) -> Result<String, &'static str> {
    let full = key.below(prefix);
    if full.is_empty() {
        return Err("the root of a bucket is no object");
    }
    if full.len() > MAX_KEY_BYTES {
        return Err("names on Google Cloud Storage have at most 1,024 bytes, the prefix included");
    }
    let Some(text) = full.as_str() else { return Err("names on Google Cloud Storage are UTF-8") };
    if matches!(text, "." | "..") {
        return Err("Google Cloud Storage has no object . or ..");
    }
    if text.contains(['\r', '\n']) {
        return Err("names on Google Cloud Storage hold no line ends");
    }
    if text.contains('\0') {
        return Err("a NUL byte in a name is not known to be kept");
    }
    if text.starts_with(RESERVED) {
        return Err("names that begin with .well-known/acme-challenge/ are reserved on Google Cloud Storage");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_37_a_name_is_one_segment_that_no_url_changes() {
        let table = [
            ("a//b", "a%2F%2Fb"),
            ("/lead", "%2Flead"),
            ("k/", "k%2F"),
            ("x/../y", "x%2F..%2Fy"),
            ("./z", ".%2Fz"),
            ("...", "..."),
            ("100%", "100%25"),
            ("%2E%2E", "%252E%252E"),
            ("a+b c#d?e&f", "a%2Bb%20c%23d%3Fe%26f"),
            ("\u{fc}", "%C3%BC"),
            ("tab\t\u{7}", "tab%09%07"),
            ("back\\slash", "back%5Cslash"),
        ];
        for (name, encoded) in table {
            assert_eq!(segment(name), encoded);
            let uri: http::Uri = format!("http://h/b/{encoded}?x=1").parse().unwrap();
            assert_eq!(uri.path(), format!("/b/{encoded}"));
        }
    }

    #[test]
    fn what_the_service_refuses_is_refused_before_a_request() {
        let long = "x".repeat(MAX_KEY_BYTES);
        let table: [(&str, &[u8], bool); 14] = [
            ("", b"", false),
            ("p", b"", true),
            ("", b".", false),
            ("", b"..", false),
            ("p", b"..", true),
            ("", b"x/../y", true),
            ("", b"line\nend", false),
            ("", b"line\rend", false),
            ("", b"nul\0", false),
            ("", b"bad\xff", false),
            ("", b".well-known/acme-challenge/x", false),
            ("p", b".well-known/acme-challenge/x", true),
            ("", long.as_bytes(), true),
            ("p", long.as_bytes(), false),
        ];
        for (prefix, key, valid) in table {
            let full = full_key(&prefix.into(), &ObjectKey::from(key.to_vec()));
            assert_eq!(full.is_ok(), valid, "{prefix:?} {:?}", String::from_utf8_lossy(key));
        }
    }
}
