//! Partition names as Hive writes them: `key=value/key=value`, both sides escaped.
//!
//! Pure. The rule is that of Hive's `FileUtils.makePartName` and `escapePathName`: control characters and the characters
//! ``"#%'*/:=?\{[]^`` and DEL become `%XX` (upper-case hex of the code), and an empty value is the default partition.

use serde::Serialize;
use std::fmt;

/// The value that stands for null and for the empty string in the name of a partition.
pub const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The escaped name of a partition, as it stands in `PARTITIONS.PART_NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PartitionName(pub String);

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartitionName {
    /// The name of the partition with these values; `keys` are the names of the table's partition keys, in order.
    /// Errors: the numbers of keys and values differ; then what is wrong.
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a str>, values: &[String]) -> Result<Self, String> {
        let keys: Vec<&str> = keys.into_iter().collect();
        if keys.len() != values.len() {
            return Err(format!("{} values for {} partition keys", values.len(), keys.len()));
        }
        let mut name = String::new();
        for (key, value) in keys.iter().zip(values) {
            if !name.is_empty() {
                name.push('/');
            }
            escape_into(&mut name, &key.to_lowercase());
            name.push('=');
            escape_into(&mut name, value);
        }
        Ok(Self(name))
    }

    /// The values in it, unescaped, in order. Errors: a piece without `=`; then that piece.
    pub fn values(&self) -> Result<Vec<String>, String> {
        let value = |piece: &str| match piece.split_once('=') {
            Some((_, value)) => Ok(unescape(value)),
            None => Err(format!("`{piece}` is not key=value")),
        };
        self.0.split('/').map(value).collect()
    }
}

/// Whether Hive escapes this character in a path.
fn is_escaped(character: char) -> bool {
    matches!(character, '\u{1}'..='\u{1f}' | '\u{7f}' | '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\')
        || matches!(character, '{' | '[' | ']' | '^')
}

fn escape_into(name: &mut String, text: &str) {
    if text.is_empty() {
        name.push_str(DEFAULT_PARTITION);
        return;
    }
    for character in text.chars() {
        match is_escaped(character) {
            true => name.push_str(&format!("%{:02X}", u32::from(character))),
            false => name.push(character),
        }
    }
}

/// What is not `%` and two hex digits stays as it is, as in Hive.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(keys: &[&str], values: &[&str]) -> String {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        PartitionName::of(keys.iter().copied(), &values).unwrap().0
    }

    #[test]
    fn names_are_those_that_hive_writes() {
        assert_eq!(name(&["dt"], &["2026-11-21"]), "dt=2026-11-21");
        assert_eq!(name(&["DT", "c"], &["a b/c", "é"]), "dt=a b%2Fc/c=é");
        assert_eq!(name(&["p"], &[""]), "p=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(name(&["p"], &["a=b%\t{}[]^'\"\u{7f}"]), "p=a%3Db%25%09%7B}%5B%5D%5E%27%22%7F");
    }

    #[test]
    fn a_wrong_number_of_values_is_an_error() {
        assert!(PartitionName::of(["a", "b"], &["1".to_owned()]).unwrap_err().contains("1 values for 2"));
    }

    #[test]
    fn a_percent_sign_that_escapes_nothing_stays() {
        assert_eq!(PartitionName("a=100%/b=%zz%2".to_owned()).values().unwrap(), ["100%", "%zz%2"]);
        assert!(PartitionName("a".to_owned()).values().is_err());
    }

    proptest! {
        #[test]
        fn values_come_back_from_a_name(values in prop::collection::vec("\\PC{1,12}|[\\x01-\\x7f]{1,12}", 1..4)) {
            let keys: Vec<String> = (0..values.len()).map(|i| format!("k{i}")).collect();
            let name = PartitionName::of(keys.iter().map(String::as_str), &values).unwrap();
            prop_assert_eq!(name.values().unwrap(), values);
        }
    }
}
