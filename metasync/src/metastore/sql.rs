//! Metastores in databases: PostgreSQL and MySQL or MariaDB with Hive's own schemas, SQLite with ours.
//!
//! One adapter: statements are written once, `sql/dialect.rs` holds what the databases say differently, and `sql/probe.rs`
//! asks which columns there are. Never creates, alters or drops a table, but for [`init`]. A crash leaves a batch either done
//! or not begun.

mod connection;
mod dialect;
mod error;
mod ids;
mod probe;
mod read;
mod rows;
mod sqlite;
#[cfg(test)]
mod tests;
mod url;
mod value;
mod write;

pub use connection::SqlLimits;
pub use sqlite::init;
pub use url::{Resolve, SqlUrl};

use super::{Change, Error, Metastore, Result, Snapshot};
use crate::held::Holder;
use async_trait::async_trait;
use connection::{Access, Connection};
use ids::Ids;
use manifest::Class;
use probe::Schema;
use read::{Reader, SqlSnapshot};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use url::Where;
use write::Writer;

/// How often a batch is begun anew after a deadlock, a serialization failure or a collision with somebody else's row.
const BATCH_ATTEMPTS: u32 = 5;

/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// A metastore in a database.
pub struct SqlMetastore {
    url: SqlUrl,
    limits: SqlLimits,
    schema: Arc<Schema>,
    /// The connection that writes, while no batch uses it.
    idle: Mutex<Option<Connection>>,
}

impl SqlMetastore {
    /// Connects, and looks at what the database holds. Errors: [`Error::NotAMetastore`], [`Error::UnknownVersion`], and what
    /// keeps from connecting.
    pub async fn open(url: SqlUrl, limits: SqlLimits) -> Result<Self> {
        let mut connection = Connection::open(&url, Access::Read, limits).await?;
        let schema = Arc::new(Schema::probe(&mut connection).await?);
        connection.close().await;
        Ok(Self { url, limits, schema, idle: Mutex::new(None) })
    }

    async fn writing(&self) -> Result<Connection> {
        let mut connection = Connection::open(&self.url, Access::Write, self.limits).await?;
        connection.set_version(self.schema.version);
        Ok(connection)
    }

    /// One attempt at a batch, on a connection that is returned if it is still of use.
    async fn attempt(&self, reader: &mut Reader, changes: &[Change], ids: Ids) -> Result<()> {
        reader.connection.begin_write().await?;
        let mut writer = Writer::new(reader, ids);
        for change in changes {
            if let Err(error) = writer.apply(change).await {
                // The error that matters is the first one; a connection that cannot roll back is dropped by the caller.
                return match reader.connection.rollback().await {
                    Ok(()) => Err(error),
                    Err(_) => Err(unusable(error)),
                };
            }
        }
        reader.connection.commit().await
    }

    async fn apply_on(&self, connection: Connection, changes: &[Change]) -> (Result<()>, Option<Connection>) {
        let mut reader = Reader::new(connection, Arc::clone(&self.schema));
        let needs = ids::needs(changes);
        let mut ids: Option<Ids> = None;
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let done = match &ids {
                Some(ids) => self.attempt(&mut reader, changes, ids.again()).await,
                None => match Ids::reserve(&mut reader.connection, &self.schema, &needs).await {
                    Ok(reserved) => {
                        let done = self.attempt(&mut reader, changes, reserved.again()).await;
                        ids = Some(reserved);
                        done
                    }
                    Err(error) => match reader.connection.rollback().await {
                        Ok(()) => Err(error),
                        Err(_) => Err(unusable(error)),
                    },
                },
            };
            match done {
                Ok(()) => return (Ok(()), Some(reader.connection)),
                Err(error @ (Error::Unreachable { .. } | Error::Silent { .. })) => return (Err(error), None),
                Err(error) if attempt < BATCH_ATTEMPTS && is_worth_another(&error) => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
                Err(error) => return (Err(error), Some(reader.connection)),
            }
        }
    }
}

/// A deadlock, or a row of somebody else that was not there a moment ago.
fn is_worth_another(error: &Error) -> bool {
    matches!(error, Error::Failed { class: Class::Retryable | Class::Conflict, .. })
}

/// What went wrong on a connection that cannot be used any more.
fn unusable(error: Error) -> Error {
    match error {
        error @ (Error::Unreachable { .. } | Error::Silent { .. }) => error,
        error => Error::Unreachable {
            operation: "roll back".to_owned(),
            place: "a metastore".to_owned(),
            why: error.to_string(),
        },
    }
}

#[async_trait]
impl Metastore for SqlMetastore {
    fn place(&self) -> String {
        self.url.to_string()
    }

    fn holder(&self) -> Holder {
        match self.url.0 {
            Where::File(_) => Holder::Own,
            Where::Server(_) => Holder::Hive(self.schema.version),
        }
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let mut connection = Connection::open(&self.url, Access::Read, self.limits).await?;
        connection.set_version(self.schema.version);
        connection.begin_snapshot().await?;
        // The first query is what a snapshot begins with in PostgreSQL and SQLite.
        connection.query("SELECT COUNT(*) FROM \"SEQUENCE_TABLE\"", &[]).await?;
        Ok(Box::new(SqlSnapshot(Mutex::new(Reader::new(connection, Arc::clone(&self.schema))))))
    }

    async fn apply(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut idle = self.idle.lock().await;
        let connection = match idle.take() {
            // A server closes what is idle for long: then nothing was begun yet, and a new connection does.
            Some(mut connection) => match connection.command("SELECT 1").await {
                Ok(()) => connection,
                Err(_) => self.writing().await?,
            },
            None => self.writing().await?,
        };
        let (done, connection) = self.apply_on(connection, changes).await;
        *idle = connection;
        done
    }
}
