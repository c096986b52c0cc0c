//! Lines that `b3sum --check` reads: a manifest as a list of hashes and names.
//!
//! Pure. An entry that cannot be such a line is never left out: it is a value of its own, with the reason.

use crate::entry::{Entry, EntryKind};
use crate::hash::ContentHash;
use crate::key::ObjectKey;

/// What an entry is among the lines of `b3sum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sum {
    /// A line, without its end.
    Line(String),
    /// No object: folders, links and special files have no content that `b3sum` would read.
    NotAnObject,
    /// The object has no hash.
    NoHash,
    /// `b3sum --check` could not read the key back, for this reason.
    Unspeakable(&'static str),
}

/// The line of an entry, as `b3sum` prints it for a file of that name: `<64 hex>  <key>`. When the key holds a backslash or
/// a line end, the line starts with a backslash and they are escaped. The key `-` goes as `./-`, because a bare one is
/// standard input. <https://github.com/BLAKE3-team/BLAKE3/blob/master/b3sum/src/main.rs>
pub fn sum(entry: &Entry) -> Sum {
    match (entry.kind, &entry.hash) {
        (EntryKind::Object, Some(hash)) => match name(&entry.key) {
            Ok(name) => Sum::Line(line(hash, name)),
            Err(reason) => Sum::Unspeakable(reason),
        },
        (EntryKind::Object, None) => Sum::NoHash,
        _ => Sum::NotAnObject,
    }
}

fn name(key: &ObjectKey) -> Result<&str, &'static str> {
    match key.as_str() {
        None => Err("it is not UTF-8"),
        Some("") => Err("it is empty"),
        Some(name) if name.contains('\0') => Err("it holds a NUL byte"),
        Some(name) if name.contains(char::REPLACEMENT_CHARACTER) => Err("it holds U+FFFD"),
        Some("-") => Ok("./-"),
        Some(name) => Ok(name),
    }
}

fn line(hash: &ContentHash, name: &str) -> String {
    if name.contains(['\\', '\n', '\r']) {
        let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        format!("\\{hash}  {name}")
    } else {
        format!("{hash}  {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;

    /// `b3sum`'s own reading of a line, written after its `parse_check_line`.
    fn read(line: &str) -> (String, String) {
        let (escaped, rest) = line.strip_prefix('\\').map_or((false, line), |rest| (true, rest));
        let (hash, name) = rest.split_once("  ").unwrap();
        let mut out = String::new();
        let mut chars = name.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' if escaped => out.push(match chars.next() {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('\\') => '\\',
                    other => panic!("invalid escape {other:?}"),
                }),
                c => out.push(c),
            }
        }
        (hash.to_owned(), out)
    }

    #[test]
    fn case_37_every_text_key_survives_b3sum() {
        for key in
            ["a", "a  b", "dir//x", "back\\slash", "new\nline", "cr\r", "\\n", "s\u{f6}n", " lead", "a+%#?'\"", "/x"]
        {
            let entry = test_rows::plain(key, 0);
            let Sum::Line(line) = sum(&entry) else { panic!("{key:?} has no line") };
            assert!(!line.contains(['\n', '\r']), "{line:?}");
            assert_eq!(read(&line), (entry.hash.unwrap().to_string(), key.to_owned()));
        }
        let Sum::Line(line) = sum(&test_rows::plain("-", 0)) else { panic!() };
        assert!(line.ends_with("  ./-"));
    }

    #[test]
    fn what_cannot_be_a_line_says_why() {
        let keys: [&[u8]; 4] = [b"bad\xff", b"", b"nul\0", "\u{fffd}".as_bytes()];
        for key in keys {
            assert!(matches!(sum(&test_rows::plain(key.to_vec(), 0)), Sum::Unspeakable(_)), "{key:?}");
        }
        assert_eq!(sum(&Entry { hash: None, ..test_rows::plain("k", 0) }), Sum::NoHash);
        for kind in [EntryKind::Folder, EntryKind::Symlink, EntryKind::Special] {
            assert_eq!(sum(&Entry { kind, ..test_rows::plain("k", 0) }), Sum::NotAnObject);
        }
    }
}
