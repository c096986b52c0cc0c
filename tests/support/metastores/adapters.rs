//! Every kind of metastore that an adapter opens, each empty and a test's own, or shared and used below a name of its own.

use crate::hms::{self, Database, Kind, Version};
use distcp::settings::Environment;
use metasync::metastore::{Metastore, open};
use tempfile::TempDir;

/// An adapter over something real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// Our own schema in a file.
    Sqlite,
    /// Hive's schema in a database.
    Sql(Version, Kind),
    /// A running metastore.
    Thrift(Version, Kind),
}

/// All that stand for something of their own. Thrift servers over PostgreSQL, but for one: what is behind a server is its own
/// affair.
pub const ALL: [Adapter; 11] = [
    Adapter::Sqlite,
    Adapter::Sql(Version::V40, Kind::Postgres),
    Adapter::Sql(Version::V40, Kind::MariaDb),
    Adapter::Sql(Version::V31, Kind::Postgres),
    Adapter::Sql(Version::V31, Kind::MariaDb),
    Adapter::Sql(Version::V23, Kind::Postgres),
    Adapter::Sql(Version::V23, Kind::MariaDb),
    Adapter::Thrift(Version::V40, Kind::Postgres),
    Adapter::Thrift(Version::V31, Kind::Postgres),
    Adapter::Thrift(Version::V31, Kind::MariaDb),
    Adapter::Thrift(Version::V23, Kind::Postgres),
];

/// A metastore that was opened, with what it lives on.
pub struct Opened {
    /// It.
    pub metastore: Box<dyn Metastore>,
    /// Its URL.
    pub url: String,
    /// The database of its own, if it has one.
    pub database: Option<Database>,
    _folder: TempDir,
}

/// Opens the metastore at a URL as the binary does, with no variables.
///
/// # Panics
/// If it cannot be opened.
pub async fn open_url(url: &str) -> Box<dyn Metastore> {
    match open::open(url, &Environment::default()).await {
        Ok(metastore) => metastore,
        Err(error) => panic!("{url}: {error}"),
    }
}

impl Adapter {
    /// Opens one; `None` if it cannot be had on this machine, and then the test has been recorded as skipped.
    ///
    /// # Panics
    /// If it could be had but not opened.
    pub async fn open(self) -> Option<Opened> {
        let folder = tempfile::tempdir().expect("a folder");
        let (url, database) = match self {
            Self::Sqlite => {
                let url = format!("sqlite://{}/metastore.db", folder.path().display());
                open::init(&url).await.expect("our schema");
                (url, None)
            }
            Self::Sql(version, kind) => {
                let database = hms::fresh_database(kind, version)?;
                (database.url.clone(), Some(database))
            }
            Self::Thrift(version, kind) => (hms::shared(version, kind)?.thrift, None),
        };
        Some(Opened { metastore: open_url(&url).await, url, database, _folder: folder })
    }
}
