//! What a database holds: which of Hive's tables and columns there are, how wide they are, and which version they say they
//! are of. Point releases and vendors differ in columns, so that columns are asked for, not derived from the version.

use super::connection::Connection;
use super::dialect::Dialect;
use super::sqlite;
use super::value::{Row, Value};
use crate::metastore::{Error, Result, Version};
use std::collections::HashMap;

/// Tables without which nothing can be read.
const NEEDED: [&str; 16] = [
    "VERSION",
    "DBS",
    "DATABASE_PARAMS",
    "TBLS",
    "TABLE_PARAMS",
    "SDS",
    "SD_PARAMS",
    "SERDES",
    "SERDE_PARAMS",
    "CDS",
    "COLUMNS_V2",
    "PARTITIONS",
    "PARTITION_KEYS",
    "PARTITION_KEY_VALS",
    "PARTITION_PARAMS",
    "SEQUENCE_TABLE",
];

/// What a metastore's database looks like.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) version: Version,
    pub(crate) dialect: Dialect,
    tables: HashMap<String, HashMap<String, Column>>,
}

/// What a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) kind: Kind,
    pub(crate) max_chars: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) charset: Charset,
    pub(crate) nullable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Float,
    Text,
    Bytes,
}

/// Which characters a column of text can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charset {
    /// All of Unicode.
    Unicode,
    /// All but U+0000: PostgreSQL.
    NoNul,
    /// MySQL's `utf8mb3`: no character of four bytes.
    ThreeBytes,
    /// MySQL's `latin1`, which is Windows-1252.
    Latin1,
    Ascii,
    /// Left to the server to refuse.
    Other,
}

impl Schema {
    /// Looks at a database. Errors: [`Error::NotAMetastore`], [`Error::UnknownVersion`].
    pub(crate) async fn probe(connection: &mut Connection) -> Result<Self> {
        let dialect = connection.dialect();
        let place = connection.place().to_owned();
        let mut tables: HashMap<String, HashMap<String, Column>> = HashMap::new();
        for mut row in connection.query(columns_query(dialect), &[]).await? {
            let (table, name, column) = column(dialect, &mut row)?;
            tables.entry(table).or_default().insert(name, column);
        }
        if dialect == Dialect::Sqlite {
            sqlite::check_version(connection, tables.contains_key(sqlite::VERSION_TABLE)).await?;
            return Ok(Self { version: Version::V4_1, dialect, tables });
        }
        if let Some(missing) = NEEDED.into_iter().find(|table| !tables.contains_key(*table)) {
            return Err(Error::NotAMetastore { place, why: format!("it has no table {missing}") });
        }
        let rows = connection.query("SELECT \"SCHEMA_VERSION\" FROM \"VERSION\" ORDER BY \"VER_ID\"", &[]).await?;
        let Some(mut row) = rows.into_iter().next() else {
            return Err(Error::NotAMetastore { place, why: "its table VERSION is empty".to_owned() });
        };
        let found = row.string(0)?;
        let version = known_version(&found).ok_or(Error::UnknownVersion { place, found })?;
        Ok(Self { version, dialect, tables })
    }

    pub(crate) fn has_table(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// Whether transactions are kept as Hive 4 keeps them: what Hive 3 has of the same names means other things.
    pub(crate) fn has_transactions(&self) -> bool {
        let needed = [("TXNS", "TXN_TYPE"), ("TXN_TO_WRITE_ID", "T2W_WRITEID"), ("NEXT_WRITE_ID", "NWI_NEXT")];
        self.version >= Version::V4_0
            && needed.iter().all(|(table, column)| self.has(table, column))
            && !self.has_table("NEXT_TXN_ID")
    }

    pub(crate) fn has(&self, table: &str, column: &str) -> bool {
        self.column(table, column).is_some()
    }

    pub(crate) fn column(&self, table: &str, column: &str) -> Option<Column> {
        self.tables.get(table).and_then(|columns| columns.get(column)).copied()
    }

    /// Texts that rows are looked for by, as values: null, which equals nothing, for one that the column cannot hold. MySQL
    /// refuses to compare a character with a column whose character set has no such character.
    pub(crate) fn wanted<'a>(
        &self,
        table: &str,
        column: &str,
        texts: impl IntoIterator<Item = &'a String>,
    ) -> Vec<Value> {
        let column = self.column(table, column);
        let value = |text: &String| {
            let value = Value::from(text);
            match column.and_then(|column| column.refuses(&value)) {
                Some(_) => Value::Null,
                None => value,
            }
        };
        texts.into_iter().map(value).collect()
    }

    /// `alias."COLUMN"`, or `NULL` where this schema has no such column.
    pub(crate) fn select(&self, table: &str, alias: &str, columns: &[&str]) -> String {
        let mut out = String::new();
        for column in columns {
            if !out.is_empty() {
                out.push_str(", ");
            }
            match self.has(table, column) {
                true => out.push_str(&format!("{alias}.\"{column}\"")),
                false => out.push_str("NULL"),
            }
        }
        out
    }
}

fn columns_query(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => {
            "SELECT table_name::text, column_name::text, data_type::text, character_maximum_length::int8, \
             is_nullable::text, NULL::text FROM information_schema.columns WHERE table_schema = current_schema()"
        }
        Dialect::MySql => {
            "SELECT UPPER(TABLE_NAME), UPPER(COLUMN_NAME), DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, IS_NULLABLE, \
             CHARACTER_SET_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
        }
        Dialect::Sqlite => {
            "SELECT m.name, p.name, p.type, NULL, CASE WHEN p.\"notnull\" OR p.pk THEN 'NO' ELSE 'YES' END, NULL \
             FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'"
        }
    }
}

fn column(dialect: Dialect, row: &mut Row) -> Result<(String, String, Column)> {
    let (table, name, kind) = (row.string(0)?, row.string(1)?, row.string(2)?.to_ascii_lowercase());
    let length = row.int(3)?.and_then(|length| u64::try_from(length).ok());
    let nullable = row.string(4)? != "NO";
    let charset = row.text(5)?;
    let counted_in_bytes = kind.ends_with("text") || kind.ends_with("blob") || kind.ends_with("binary");
    let column = Column {
        kind: kind_of(&kind),
        max_chars: length.filter(|_| !counted_in_bytes),
        max_bytes: length.filter(|_| counted_in_bytes),
        charset: match (dialect, charset.as_deref()) {
            (Dialect::Postgres, _) => Charset::NoNul,
            (Dialect::Sqlite, _) | (_, Some("utf8mb4") | None) => Charset::Unicode,
            (_, Some("utf8" | "utf8mb3")) => Charset::ThreeBytes,
            (_, Some("latin1")) => Charset::Latin1,
            (_, Some("ascii")) => Charset::Ascii,
            _ => Charset::Other,
        },
        nullable,
    };
    Ok((table, name, column))
}

fn kind_of(data_type: &str) -> Kind {
    match data_type {
        "boolean" | "bit" => Kind::Bool,
        "bigint" | "int" | "integer" | "smallint" | "tinyint" | "mediumint" => Kind::Int,
        "double precision" | "double" | "real" | "float" => Kind::Float,
        "bytea" => Kind::Bytes,
        _ if data_type.ends_with("blob") || data_type.ends_with("binary") => Kind::Bytes,
        _ => Kind::Text,
    }
}

/// 2.3, 3.x and 4.x; what stands behind the second number does not matter.
fn known_version(text: &str) -> Option<Version> {
    let mut parts = text.split(['.', '-']);
    let major: u16 = parts.next()?.trim().parse().ok()?;
    let minor: u16 = parts.next()?.trim().parse().ok()?;
    ((major, minor) == (2, 3) || major == 3 || major == 4).then_some(Version { major, minor })
}

impl Column {
    /// Why this column cannot hold a value, if it cannot.
    pub(crate) fn refuses(&self, value: &Value) -> Option<String> {
        match value {
            Value::Null if !self.nullable => Some("is never null".to_owned()),
            Value::Text(text) => self.refuses_text(text),
            Value::Bytes(bytes) => {
                let limit = self.max_bytes.filter(|limit| bytes.len() as u64 > *limit)?;
                Some(format!("holds {limit} bytes, not {}", bytes.len()))
            }
            _ => None,
        }
    }

    fn refuses_text(&self, text: &str) -> Option<String> {
        // The number of bytes is never below that of characters: counting them is for the few long ones.
        if let Some(limit) = self.max_chars.filter(|limit| text.len() as u64 > *limit) {
            let chars = text.chars().count();
            if chars as u64 > limit {
                return Some(format!("holds {limit} characters, not {chars}"));
            }
        }
        if let Some(limit) = self.max_bytes.filter(|limit| text.len() as u64 > *limit) {
            return Some(format!("holds {limit} bytes, not {}", text.len()));
        }
        let (charset, character) = match self.charset {
            Charset::Unicode | Charset::Other => return None,
            Charset::NoNul if text.contains('\0') => ("PostgreSQL's text", '\0'),
            Charset::NoNul => return None,
            _ if text.is_ascii() => return None,
            Charset::ThreeBytes => ("utf8mb3", text.chars().find(|character| character.len_utf8() > 3)?),
            Charset::Latin1 => ("latin1", text.chars().find(|character| !is_latin1(*character))?),
            Charset::Ascii => ("ascii", text.chars().find(|character| !character.is_ascii())?),
        };
        Some(format!("is {charset}, which has no `{}`", character.escape_default()))
    }
}

/// Windows-1252, with the five codes that it leaves open as the control characters that MySQL makes of them.
fn is_latin1(character: char) -> bool {
    match character {
        '\u{0}'..='\u{7f}' | '\u{a0}'..='\u{ff}' | '\u{81}' | '\u{8d}' | '\u{8f}' | '\u{90}' | '\u{9d}' => true,
        _ => "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ".contains(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(charset: Charset, max_chars: Option<u64>, max_bytes: Option<u64>) -> Column {
        Column { kind: Kind::Text, max_chars, max_bytes, charset, nullable: true }
    }

    #[test]
    fn versions_that_are_known_and_those_that_are_not() {
        assert_eq!(known_version("2.3.0"), Some(Version::V2_3));
        assert_eq!(known_version("3.1.0"), Some(Version::V3_1));
        assert_eq!(known_version("4.0.0-alpha-2"), Some(Version::V4_0));
        assert_eq!(known_version("4.2.0"), Some(Version { major: 4, minor: 2 }));
        for unknown in ["1.2.0", "2.1.0", "5.0.0", "", "4", "x.y"] {
            assert_eq!(known_version(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn widths_are_counted_in_characters_or_in_bytes() {
        let varchar = text(Charset::Unicode, Some(3), None);
        assert_eq!(varchar.refuses(&Value::from("äöü")), None);
        assert_eq!(varchar.refuses(&Value::from("äöüx")).as_deref(), Some("holds 3 characters, not 4"));
        let mediumtext = text(Charset::Unicode, None, Some(3));
        assert_eq!(mediumtext.refuses(&Value::from("äö")).as_deref(), Some("holds 3 bytes, not 4"));
    }

    #[test]
    fn characters_that_a_column_cannot_hold_are_named_and_not_made_question_marks() {
        let refuses = |charset, value: &str| text(charset, None, None).refuses(&Value::from(value));
        assert_eq!(refuses(Charset::Latin1, "é €"), None);
        assert_eq!(refuses(Charset::Latin1, "a😀").as_deref(), Some("is latin1, which has no `\\u{1f600}`"));
        assert_eq!(refuses(Charset::ThreeBytes, "日本"), None);
        assert!(refuses(Charset::ThreeBytes, "😀").is_some());
        assert!(refuses(Charset::NoNul, "a\0b").is_some());
        assert!(refuses(Charset::Ascii, "é").is_some());
        assert_eq!(refuses(Charset::Unicode, "\0😀"), None);
    }

    #[test]
    fn null_is_refused_where_nothing_may_be_missing() {
        let never = Column { nullable: false, ..text(Charset::Unicode, None, None) };
        assert!(never.refuses(&Value::Null).is_some());
        assert_eq!(never.refuses(&Value::from("")), None);
    }
}
