//! Our own schema in a SQLite file: made by [`init`], checked at each opening.
//!
//! It is made in one transaction: a crash leaves an empty file, on which `init` works again.

use super::connection::{Access, Connection, SqlLimits};
use super::url::{SqlUrl, Where};
use crate::metastore::{Error, Result};
use std::path::Path;

/// The version of the schema in `sqlite.sql`.
const VERSION: i64 = 1;

pub(crate) const VERSION_TABLE: &str = "METASYNC_VERSION";

const SCHEMA: &str = include_str!("sqlite.sql");

/// Makes our schema in a new or empty SQLite file. Errors: [`Error::Conflict`] if anything is in it.
pub async fn init(url: &SqlUrl, limits: SqlLimits) -> Result<()> {
    if matches!(url.0, Where::Server(_)) {
        let why = "only a SQLite file gets a schema of ours; Hive's schematool makes those of PostgreSQL and MySQL";
        return Err(Error::Url { url: url.to_string(), why: why.to_owned() });
    }
    let mut connection = Connection::open(url, Access::Create, limits).await?;
    connection.begin_write().await?;
    let rows = connection.query("SELECT COUNT(*) FROM sqlite_master", &[]).await?;
    if rows.into_iter().next().map(|mut row| row.int(0)).transpose()?.flatten() != Some(0) {
        return Err(Error::Conflict {
            operation: "init".to_owned(),
            object: url.to_string(),
            why: "it is not empty".to_owned(),
        });
    }
    connection.command(SCHEMA).await?;
    connection.commit().await?;
    connection.close().await;
    Ok(())
}

/// Copies a SQLite file into a new one, as of one moment.
pub async fn copy(url: &SqlUrl, limits: SqlLimits, to: &Path) -> Result<()> {
    let mut connection = Connection::open(url, Access::Read, limits).await?;
    let to = to.display().to_string().replace('\'', "''");
    connection.command(&format!("VACUUM INTO '{to}'")).await?;
    connection.close().await;
    Ok(())
}

/// Refuses a file of a version that is not ours, or that is none of ours at all.
pub(crate) async fn check_version(connection: &mut Connection, has_table: bool) -> Result<()> {
    let place = connection.place().to_owned();
    if !has_table {
        let why = "it has no schema of ours; `metasync metastore init` makes one in an empty file".to_owned();
        return Err(Error::NotAMetastore { place, why });
    }
    let rows = connection.query("SELECT \"VERSION\" FROM \"METASYNC_VERSION\"", &[]).await?;
    match rows.into_iter().next().map(|mut row| row.id(0)).transpose()? {
        Some(VERSION) => Ok(()),
        found => {
            let found = found.map_or("none".to_owned(), |found| found.to_string());
            Err(Error::UnknownVersion { place, found: format!("schema {found} of ours") })
        }
    }
}
