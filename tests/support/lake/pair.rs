//! The two metastores of a lake: in files, or real ones.
//!
//! A source over real servers is changed through its server, so that its event log is the real one, however a run reads it.

use super::{Lake, sqlite};
use crate::hms::{Database, Kind, Lent, Version, fresh_database, lend, own};
use crate::metastores::{adapters, contract};
use crate::served::Way;
use metasync::model::DatabaseName;
use metasync::object::Object;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Makes of a case, which takes an empty lake, a test for each of these pairs: `over_pairs!(case_99_it_is_so: thrift_to_sql)`
/// is `case_99_it_is_so::thrift_to_sql`. Pairs that cannot be had on this machine have been recorded as skipped.
#[macro_export]
macro_rules! over_pairs {
    ($case:ident) => {
        $crate::over_pairs!($case: sqlite_to_sqlite, thrift_to_sql, sql_to_thrift, thrift_to_thrift);
    };
    ($case:ident: $($pair:ident),+) => {
        mod $case {
            $(
                #[test]
                fn $pair() {
                    if let Some(lake) = $crate::lake::Lake::$pair() {
                        super::$case(lake);
                    }
                }
            )+
        }
    };
}

/// A metastore of a lake.
pub(super) enum Side {
    /// A file.
    File(PathBuf),
    /// A database without a server.
    Alone(Database),
    /// A server and its database, and how runs reach it.
    Served(Lent, Way),
}

impl Side {
    /// As a policy has it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::File(path) => sqlite(path),
            Self::Alone(database) => database.url.clone(),
            Self::Served(lent, Way::Sql) => lent.database().url.clone(),
            Self::Served(lent, Way::Thrift) => lent.thrift().to_owned(),
        }
    }

    /// Where others change it.
    pub(super) fn url_of_writers(&self) -> String {
        match self {
            Self::Served(lent, _) => lent.thrift().to_owned(),
            Self::File(_) | Self::Alone(_) => self.url(),
        }
    }

    /// The file; or else the database, a real one.
    pub(super) fn database(&self) -> Result<&Path, &Database> {
        match self {
            Self::File(path) => Ok(path),
            Self::Alone(database) => Err(database),
            Self::Served(lent, _) => Err(lent.database()),
        }
    }

    /// Whether changes go through a server.
    pub(super) fn is_served(&self) -> bool {
        matches!(self, Self::Served(..))
    }
}

impl Lake {
    /// As [`Lake::logged`].
    pub fn sqlite_to_sqlite() -> Option<Self> {
        Some(Self::logged())
    }

    /// From a server 3.1 over PostgreSQL into a database in PostgreSQL with its schema.
    pub fn thrift_to_sql() -> Option<Self> {
        Self::over((Version::V31, Kind::Postgres, Way::Thrift), (Version::V31, Kind::Postgres, Way::Sql))
    }

    /// From the database in MariaDB behind a server 3.1 to a server 4.0 over PostgreSQL.
    pub fn sql_to_thrift() -> Option<Self> {
        Self::over((Version::V31, Kind::MariaDb, Way::Sql), (Version::V40, Kind::Postgres, Way::Thrift))
    }

    /// From the database behind a server 3.1 to a server 4.0, both in PostgreSQL, that says at once what its database refuses: others
    /// ask it ten times more, for 20 s.
    pub fn sql_to_strict_thrift() -> Option<Self> {
        let source = Side::Served(lend(Version::V31, Kind::Postgres)?, Way::Sql);
        let strict = [("metastore.hmshandler.retry.attempts", "1"), ("metastore.hmshandler.retry.interval", "1ms")];
        let target = Side::Served(own(Version::V40, Kind::Postgres, &strict)?, Way::Thrift);
        Some(Self::stand(tempfile::tempdir().unwrap(), source, target, true))
    }

    /// From a server 2.3 to a server 4.0, both over PostgreSQL.
    pub fn thrift_to_thrift() -> Option<Self> {
        Self::over((Version::V23, Kind::Postgres, Way::Thrift), (Version::V40, Kind::Postgres, Way::Thrift))
    }

    /// Between real metastores, each reached like this; what is changed at the source goes through its server always. `None` if
    /// one of them cannot be had on this machine, and then the test has been recorded as skipped.
    pub fn over(source: (Version, Kind, Way), target: (Version, Kind, Way)) -> Option<Self> {
        let source = Side::Served(lend(source.0, source.1)?, source.2);
        let target = match target {
            (version, kind, Way::Sql) => Side::Alone(fresh_database(kind, version)?),
            (version, kind, way) => Side::Served(lend(version, kind)?, way),
        };
        Some(Self::stand(tempfile::tempdir().unwrap(), source, target, true))
    }

    /// Whether its metastores are real ones, whose logs and clocks are theirs.
    pub fn is_served(&self) -> bool {
        self.source.is_served()
    }

    /// The URL of the "source" or the "target", as the policy has it.
    pub fn url(&self, side: &str) -> String {
        self.side(side).url()
    }

    /// The URL by which others change the source.
    pub fn url_of_writers(&self) -> String {
        self.source.url_of_writers()
    }

    /// The tables of a database of the "source" or the "target"; none if that is not there yet.
    pub fn tables(&self, side: &str, database: &str) -> BTreeSet<String> {
        if self.side(side).database().is_ok_and(|path| !path.exists()) {
            return BTreeSet::new();
        }
        let names = async {
            let snapshot = adapters::open_url(&self.url(side)).await.snapshot().await.unwrap();
            let database = DatabaseName::new(database);
            let is_there = snapshot.databases().await.unwrap().iter().any(|one| one.name == database);
            if is_there { snapshot.table_names(&database).await.unwrap() } else { Vec::new() }
        };
        self.runtime.block_on(names).into_iter().collect()
    }

    /// What the target shall hold, and what it holds, by a reading of our own: a line an object, but for roles and grants, which
    /// are not carried, and Hive's own database. Said as the target can hold it, at the target's places.
    pub fn held(&self) -> (Vec<String>, Vec<String>) {
        let read = async |side: &str| {
            let metastore = adapters::open_url(&self.url(side)).await;
            let snapshot = metastore.snapshot().await.unwrap();
            (contract::read_back(snapshot.as_ref(), "").await.unwrap(), metastore)
        };
        let (shall, is) = self.runtime.block_on(async {
            let ((source, _), (is, target)) = (read("source").await, read("target").await);
            (contract::as_held(&source, target.as_ref()), is)
        });
        let lines = |objects: &[Object]| {
            let carried =
                |object: &&Object| !matches!(object, Object::Role(_) | Object::RoleGrant(_) | Object::Grant(_));
            let mut lines = contract::lines(&objects.iter().filter(carried).cloned().collect::<Vec<_>>());
            lines.retain(|line| !line.contains("\"database\":\"default\""));
            lines
        };
        let (from, to) = (format!("{}/source", self.root().display()), format!("{}/target", self.root().display()));
        let mut shall: Vec<String> = lines(&shall).iter().map(|line| line.replace(&from, &to)).collect();
        shall.sort();
        (shall, lines(&is))
    }

    /// Asserts that the target holds what the source holds, as far as it can.
    pub fn assert_same_objects(&self) {
        let (shall, is) = self.held();
        let only = |these: &[String], those: &[String]| {
            these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
        };
        assert!(shall == is, "it lacks:\n  {}\nand holds instead:\n  {}", only(&shall, &is), only(&is, &shall));
    }
}
