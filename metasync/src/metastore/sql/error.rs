//! What a database said, as the error that a caller can act on.
//!
//! Pure. The texts of databases are passed on; they hold statements' identifiers and values, never passwords.

use crate::metastore::{Error, Version};
use manifest::Class;
use sqlx::mysql::MySqlDatabaseError;
use std::time::Duration;

/// What was being done, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doing<'a> {
    pub(crate) operation: &'a str,
    pub(crate) place: &'a str,
    pub(crate) limit: Duration,
    /// Of the metastore, once it is known.
    pub(crate) version: Version,
}

/// What kind of failure a database's code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Denied,
    NoDatabase,
    Busy,
    Gone,
    Slow,
    Unique,
    Foreign,
    CannotHold,
    NoSpace,
    Other,
}

pub(crate) fn from_sqlx(error: sqlx::Error, doing: Doing<'_>) -> Error {
    let operation = doing.operation.to_owned();
    let place = doing.place.to_owned();
    match error {
        sqlx::Error::Database(database) => {
            let why = database.message().to_owned();
            let kind = match database.try_downcast_ref::<MySqlDatabaseError>() {
                Some(mysql) => mysql_kind(mysql.number()),
                None => {
                    let code = database.code().unwrap_or_default();
                    if code.len() == 5 { postgres_kind(&code) } else { sqlite_kind(&code) }
                }
            };
            of_kind(kind, doing, why)
        }
        sqlx::Error::Io(error) => Error::Unreachable { operation, place, why: error.to_string() },
        sqlx::Error::Tls(error) => Error::Protocol {
            place,
            speaks: format!("no TLS that we accept ({error})"),
            expected: "TLS".to_owned(),
            hint: "look at sslmode and sslrootcert in the URL".to_owned(),
        },
        sqlx::Error::Configuration(error) => Error::Url { url: place, why: error.to_string() },
        sqlx::Error::Protocol(why) => Error::Unreachable { operation, place, why },
        sqlx::Error::WorkerCrashed => {
            Error::Unreachable { operation, place, why: "the thread of the database ended".to_owned() }
        }
        other => Error::Failed { operation, object: place, why: other.to_string(), class: Class::Permanent },
    }
}

fn of_kind(kind: Kind, doing: Doing<'_>, why: String) -> Error {
    let operation = doing.operation.to_owned();
    let place = doing.place.to_owned();
    match kind {
        Kind::Denied => Error::Denied { operation, place, why },
        Kind::NoDatabase => Error::NotAMetastore { place, why },
        Kind::Gone => Error::Unreachable { operation, place, why },
        Kind::Slow => Error::Silent { operation, place, limit: doing.limit },
        Kind::Busy => Error::Failed { operation, object: place, why, class: Class::Retryable },
        Kind::Unique | Kind::Foreign => Error::Failed { operation, object: place, why, class: Class::Conflict },
        Kind::CannotHold => Error::CannotHold { object: operation, version: doing.version, why },
        Kind::NoSpace => Error::NoSpace { operation, place, why },
        Kind::Other => Error::Failed { operation, object: place, why, class: Class::Permanent },
    }
}

/// SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres_kind(code: &str) -> Kind {
    match code {
        "42501" | "25006" => Kind::Denied,
        "3D000" | "3F000" => Kind::NoDatabase,
        "40001" | "40P01" | "55P03" | "53300" => Kind::Busy,
        "57014" => Kind::Slow,
        "53100" => Kind::NoSpace,
        "23505" => Kind::Unique,
        "23503" => Kind::Foreign,
        "22001" | "22003" | "22021" | "22P05" | "23502" | "54000" => Kind::CannotHold,
        _ if code.starts_with("28") => Kind::Denied,
        _ if code.starts_with("08") || code.starts_with("57P") => Kind::Gone,
        _ => Kind::Other,
    }
}

/// Numbers of MySQL and MariaDB, <https://mariadb.com/kb/en/mariadb-error-codes/>.
fn mysql_kind(number: u16) -> Kind {
    match number {
        1044 | 1045 | 1142 | 1143 | 1227 | 1290 | 1698 | 1792 => Kind::Denied,
        1049 => Kind::NoDatabase,
        1205 | 1213 | 1040 | 1203 => Kind::Busy,
        1053 | 1077 | 1079 | 1080 | 1158..=1161 | 1927 | 2006 | 2013 => Kind::Gone,
        1969 | 3024 => Kind::Slow,
        1021 | 1114 => Kind::NoSpace,
        1062 | 1586 => Kind::Unique,
        1216 | 1217 | 1451 | 1452 => Kind::Foreign,
        // 1267, 1270 and 1271: a character is compared with a column whose character set has no such character.
        1048 | 1118 | 1153 | 1264 | 1267 | 1270 | 1271 | 1366 | 1406 => Kind::CannotHold,
        _ => Kind::Other,
    }
}

/// Result codes, extended ones too, <https://www.sqlite.org/rescode.html>.
fn sqlite_kind(code: &str) -> Kind {
    let Ok(code) = code.parse::<u32>() else { return Kind::Other };
    match (code, code & 0xff) {
        (1555 | 2067 | 2579, _) => Kind::Unique,
        (787 | 1811, _) => Kind::Foreign,
        (1299, _) | (_, 18) => Kind::CannotHold,
        (_, 5 | 6) => Kind::Busy,
        (_, 13) => Kind::NoSpace,
        (_, 3 | 8 | 23) => Kind::Denied,
        (_, 14) => Kind::Gone,
        (_, 26 | 11) => Kind::NoDatabase,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlocks_and_serialization_failures_are_worth_another_try_in_every_database() {
        for kind in
            [postgres_kind("40001"), postgres_kind("40P01"), mysql_kind(1213), mysql_kind(1205), sqlite_kind("5")]
        {
            assert_eq!(kind, Kind::Busy);
        }
        assert_eq!(sqlite_kind("517"), Kind::Busy);
        let doing = Doing { operation: "apply", place: "p", limit: Duration::ZERO, version: Version::V4_0 };
        assert_eq!(of_kind(Kind::Busy, doing, String::new()).class(), Class::Retryable);
        assert_eq!(of_kind(Kind::Unique, doing, String::new()).class(), Class::Conflict);
        assert_eq!(of_kind(Kind::Gone, doing, String::new()).class(), Class::Retryable);
    }

    #[test]
    fn what_a_character_set_or_a_width_cannot_hold_is_named_so() {
        for kind in [postgres_kind("22001"), mysql_kind(1366), mysql_kind(1406), sqlite_kind("18")] {
            assert_eq!(kind, Kind::CannotHold);
        }
    }

    #[test]
    fn a_database_without_room_is_no_error_of_one_table() {
        let doing = Doing { operation: "apply", place: "p", limit: Duration::ZERO, version: Version::V4_0 };
        for kind in [postgres_kind("53100"), mysql_kind(1021), mysql_kind(1114), sqlite_kind("13")] {
            assert_eq!(kind, Kind::NoSpace);
            let error = of_kind(kind, doing, "disk full".to_owned());
            assert_eq!(error.to_string(), "apply at p: no space left: disk full");
            let failure = crate::sync::failure(error);
            assert!(failure.hint.is_some_and(|hint| hint.starts_with("free space there")));
        }
    }

    #[test]
    fn logins_and_missing_databases() {
        assert_eq!((postgres_kind("28P01"), mysql_kind(1045)), (Kind::Denied, Kind::Denied));
        assert_eq!((postgres_kind("3D000"), mysql_kind(1049)), (Kind::NoDatabase, Kind::NoDatabase));
        assert_eq!(sqlite_kind("26"), Kind::NoDatabase);
    }
}
