//! What the three databases say differently.
//!
//! Pure. Statements are written once, with identifiers in double quotes and `?` for parameters: PostgreSQL and SQLite read
//! such identifiers as they are, MySQL under `ANSI_QUOTES`, which every connection sets; PostgreSQL numbers its parameters.

use super::value::{Array, Value};
use std::fmt::Write as _;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    /// MySQL and MariaDB.
    MySql,
    Sqlite,
}

/// Parameters in one statement: SQLite's limit, the lowest of the three.
pub(crate) const MAX_PARAMETERS: usize = 32_766;

impl Dialect {
    /// The statement as this database takes it. Ours hold no `?` but for parameters.
    pub(crate) fn statement(self, sql: &str) -> String {
        if self != Self::Postgres {
            return sql.to_owned();
        }
        let mut out = String::with_capacity(sql.len() + 16);
        for (number, piece) in sql.split('?').enumerate() {
            if number > 0 {
                // Writing to a string does not fail.
                let _ = write!(out, "${number}");
            }
            out.push_str(piece);
        }
        out
    }

    /// Behind a SELECT: nobody else changes these rows until the transaction ends. SQLite has one writer anyway.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Postgres | Self::MySql => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// Behind a SELECT: nobody removes these rows until the transaction ends.
    pub(crate) fn for_share(self) -> &'static str {
        match self {
            Self::Postgres => " FOR SHARE",
            Self::MySql => " LOCK IN SHARE MODE",
            Self::Sqlite => "",
        }
    }

    /// Begins a transaction that only reads, and sees one moment.
    pub(crate) fn begin_snapshot(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"],
            Self::MySql => &[
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            ],
            Self::Sqlite => &["BEGIN DEFERRED"],
        }
    }

    /// Begins a transaction that writes: each statement sees what is committed, so that what was locked is read as it is now.
    pub(crate) fn begin_write(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"],
            Self::MySql => &["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION READ WRITE"],
            Self::Sqlite => &["BEGIN IMMEDIATE"],
        }
    }

    /// What stands behind an INSERT so that a row whose key is there becomes this one.
    pub(crate) fn on_conflict(self, key: &str, columns: &[&str]) -> String {
        let others: Vec<&&str> = columns.iter().filter(|column| **column != key).collect();
        let set = |value: &dyn Fn(&str) -> String| -> String {
            others.iter().map(|column| format!("\"{column}\" = {}", value(column))).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Postgres | Self::Sqlite => {
                let set = set(&|column| format!("excluded.\"{column}\""));
                format!(" ON CONFLICT (\"{key}\") DO UPDATE SET {set}")
            }
            Self::MySql => {
                let set = set(&|column| format!("VALUES(\"{column}\")"));
                format!(" ON DUPLICATE KEY UPDATE {set}")
            }
        }
    }
}

/// A condition, or a statement, and its parameters.
pub(crate) type Condition = (String, Vec<Value>);

impl Dialect {
    /// That a column is one of these ids. To PostgreSQL they go as one array: of a long list of numbers each is parsed and
    /// planned anew, every time.
    pub(crate) fn among(self, column: &str, ids: &[i64]) -> Condition {
        match self {
            Self::Postgres => {
                let ids = Array::Int(ids.iter().copied().map(Some).collect());
                (format!("{column} = ANY(?)"), vec![Value::Array(ids)])
            }
            Self::MySql | Self::Sqlite => (format!("{column} IN ({})", id_list(ids)), Vec::new()),
        }
    }

    /// Statements that change rows, in one where the database takes that: none of them reads what another one changes, and
    /// none changes the same row.
    pub(crate) fn together(self, statements: Vec<Condition>) -> Vec<Condition> {
        if self != Self::Postgres || statements.len() < 2 {
            return statements;
        }
        let mut sql = String::new();
        let mut all = Vec::new();
        let last = statements.len() - 1;
        for (number, (statement, values)) in statements.into_iter().enumerate() {
            all.extend(values);
            // Writing to a string does not fail.
            let _ = match number {
                0 => write!(sql, "WITH s0 AS ({statement})"),
                _ if number == last => write!(sql, " {statement}"),
                _ => write!(sql, ", s{number} AS ({statement})"),
            };
        }
        vec![(sql, all)]
    }

    /// That `PARTITIONS o` is one of these partitions of a table. PostgreSQL is made to look each name up in the index of
    /// names and tables: without `OFFSET 0` it would rather read the whole table, for every thousand names again; and by two
    /// equalities, as long as it has not analyzed a table that grows, all partitions of the table for each name. Only that
    /// index serves a comparison of rows.
    pub(crate) fn partitions_named(self, table: i64, names: Vec<Value>) -> Condition {
        match self {
            Self::Postgres => {
                let text = |name| if let Value::Text(name) = name { Some(name) } else { None };
                let names = Array::Text(names.into_iter().map(text).collect());
                let ids = "SELECT p.\"PART_ID\" FROM UNNEST(?::text[]) AS n(\"NAME\") CROSS JOIN LATERAL \
                           (SELECT q.\"PART_ID\" FROM \"PARTITIONS\" q \
                           WHERE (q.\"PART_NAME\", q.\"TBL_ID\") >= (n.\"NAME\", ?) \
                           AND (q.\"PART_NAME\", q.\"TBL_ID\") <= (n.\"NAME\", ?) OFFSET 0) p";
                (format!("o.\"PART_ID\" = ANY(ARRAY({ids}))"), vec![Value::Array(names), table.into(), table.into()])
            }
            Self::MySql | Self::Sqlite => {
                let list = placeholders(names.len());
                let values = std::iter::once(table.into()).chain(names).collect();
                (format!("o.\"TBL_ID\" = ? AND o.\"PART_NAME\" IN ({list})"), values)
            }
        }
    }
}

/// `("a", "b")`
pub(crate) fn column_list(columns: &[&str]) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    format!("({})", quoted.join(", "))
}

/// `?, ?, ?`
pub(crate) fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// `1, 2, 3`: ids stand in the statement itself, numbers need no quoting. None is `NULL`, which nothing is in.
pub(crate) fn id_list(ids: &[i64]) -> String {
    if ids.is_empty() {
        return "NULL".to_owned();
    }
    let mut out = String::with_capacity(ids.len() * 8);
    for (index, id) in ids.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let _ = write!(out, "{id}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_for_postgresql_only() {
        let sql = "SELECT \"A\" FROM \"T\" WHERE \"B\" = ? AND \"C\" IN (?, ?)";
        let numbered = "SELECT \"A\" FROM \"T\" WHERE \"B\" = $1 AND \"C\" IN ($2, $3)";
        assert_eq!(Dialect::Postgres.statement(sql), numbered);
        assert_eq!(Dialect::MySql.statement(sql), sql);
        assert_eq!(Dialect::Sqlite.statement(sql), sql);
    }

    #[test]
    fn a_row_that_is_there_takes_every_column_but_its_key() {
        let columns = ["ID", "A", "B"];
        let lite = Dialect::Sqlite.on_conflict("ID", &columns);
        assert_eq!(lite, " ON CONFLICT (\"ID\") DO UPDATE SET \"A\" = excluded.\"A\", \"B\" = excluded.\"B\"");
        let mysql = Dialect::MySql.on_conflict("ID", &columns);
        assert_eq!(mysql, " ON DUPLICATE KEY UPDATE \"A\" = VALUES(\"A\"), \"B\" = VALUES(\"B\")");
    }

    #[test]
    fn postgresql_takes_lists_as_arrays_so_that_a_statement_is_the_same_for_any_number() {
        let condition = |dialect: Dialect, count: i64| dialect.among("\"A\"", &(0..count).collect::<Vec<_>>());
        let (one, values) = condition(Dialect::Postgres, 1);
        assert_eq!((one.as_str(), values.len()), ("\"A\" = ANY(?)", 1));
        assert_eq!(condition(Dialect::Postgres, 900).0, one);
        assert_eq!(condition(Dialect::MySql, 3), ("\"A\" IN (0,1,2)".to_owned(), Vec::new()));
        let names = vec![Value::from("p=1"), Value::Null];
        let (_, values) = Dialect::Postgres.partitions_named(7, names.clone());
        let array = Array::Text(vec![Some("p=1".to_owned()), None]);
        assert_eq!(values, [Value::Array(array), Value::Int(7), Value::Int(7)]);
        let (sql, values) = Dialect::Sqlite.partitions_named(7, names);
        assert_eq!(sql, "o.\"TBL_ID\" = ? AND o.\"PART_NAME\" IN (?, ?)");
        assert_eq!(values, [Value::Int(7), Value::from("p=1"), Value::Null]);
    }

    #[test]
    fn postgresql_takes_deletes_in_one_statement() {
        let one = |name: &str| (format!("DELETE FROM \"{name}\" WHERE \"A\" = ?"), vec![Value::Int(1)]);
        let (sql, values) = Dialect::Postgres.together(vec![one("X"), one("Y"), one("Z")]).remove(0);
        let whole = "WITH s0 AS (DELETE FROM \"X\" WHERE \"A\" = ?), s1 AS (DELETE FROM \"Y\" WHERE \"A\" = ?) \
                     DELETE FROM \"Z\" WHERE \"A\" = ?";
        assert_eq!((sql.as_str(), values.len()), (whole, 3));
        assert_eq!(Dialect::Postgres.together(vec![one("X")]), [one("X")]);
        assert_eq!(Dialect::Sqlite.together(vec![one("X"), one("Y")]), [one("X"), one("Y")]);
        assert!(Dialect::Postgres.together(Vec::new()).is_empty());
    }

    #[test]
    fn lists_of_ids_are_never_empty() {
        assert_eq!(id_list(&[]), "NULL");
        assert_eq!(id_list(&[3, -1]), "3,-1");
        assert_eq!(placeholders(3), "?, ?, ?");
    }
}
