//! Keys that an Azure container can carry, and the refusal of what a URL or the service would change.
//!
//! Pure; a crash leaves nothing.

use manifest::ObjectKey;

use crate::store::s3::keys::has_dot_segment;

/// The longest name of a blob, in characters.
const MAX_KEY_CHARS: usize = 1024;

/// The full key of `key` below `prefix`, or why no request can be made for it.
pub(super) fn full_key(prefix: &ObjectKey, key: &ObjectKey) -> Result<String, &'static str> {
    let full = key.below(prefix);
    if full.is_empty() {
        return Err("the root of a container is no object");
    }
    let Some(text) = full.as_str() else { return Err("names of blobs are UTF-8") };
    if text.encode_utf16().count() > MAX_KEY_CHARS {
        return Err("names of blobs have at most 1,024 characters, the prefix included");
    }
    if text.contains('\0') {
        return Err("names of blobs hold no NUL");
    }
    if has_dot_segment(text) {
        return Err("a . or .. segment would be collapsed on its way through URLs and name another object");
    }
    Ok(text.to_owned())
}

/// Whether a name may be written: no control characters, nor what XML cannot carry. Azure forbids the former, and a server
/// that takes them (Azurite) fails to list the container from then on.
pub(super) fn is_listable(full: &str) -> bool {
    !full.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_37_what_no_container_can_carry_is_refused_before_a_url_exists() {
        let long = "\u{fc}".repeat(MAX_KEY_CHARS);
        let table: [(&str, &[u8], bool); 11] = [
            ("", b"", false),
            ("p", b"", true),
            ("", b"x/../y", false),
            ("", b"./z", false),
            ("", b"..", false),
            ("", b"x/..y/...z", true),
            ("", b"bad\xff", false),
            ("", b"nul\0", false),
            ("", long.as_bytes(), true),
            ("p", long.as_bytes(), false),
            ("p", b"/lead", true),
        ];
        for (prefix, key, valid) in table {
            let full = full_key(&prefix.into(), &ObjectKey::from(key.to_vec()));
            assert_eq!(full.is_ok(), valid, "{prefix:?} {:?}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn case_37_names_that_spoil_a_listing_are_told() {
        for odd in ["bell\u{7}", "\u{ffff}", "a\nb", "\u{81}", "\u{7f}", "tab\t"] {
            assert!(!is_listable(odd), "{odd:?}");
        }
        assert!(is_listable("a/b c\u{fc}\u{1f600}\u{fffd}"));
    }
}
