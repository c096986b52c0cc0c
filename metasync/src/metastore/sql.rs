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
pub use sqlite::{copy, init};
pub use url::{Resolve, SqlUrl};

use super::{Change, Error, Metastore, Result, Snapshot};
use crate::held::Holder;
use async_trait::async_trait;
use connection::{Access, Connection};
use dialect::Dialect;
use ids::Ids;
use manifest::Class;
use probe::Schema;
use read::{Reader, SqlSnapshot};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use write::Writer;

/// How often a batch is begun anew after a deadlock, a serialization failure or a collision with somebody else's row.
const BATCH_ATTEMPTS: u32 = 5;

/// How long a transaction that writes is open before it takes no further part of a batch (rule 32): servers beside us wait for
/// the rows that it locks, MySQL's for 50 s unless told otherwise.
pub const BATCH_TIME: Duration = Duration::from_secs(10);

/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// A metastore in a database.
pub struct SqlMetastore {
    url: SqlUrl,
    limits: SqlLimits,
    schema: Arc<Schema>,
    /// Whether what is written is appended to its own event log.
    events: bool,
    /// Time since some moment: how long a batch is open.
    clock: Clock,
    /// The connection that writes, while no batch uses it.
    idle: Mutex<Option<Connection>>,
}

type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

impl SqlMetastore {
    /// Connects, and looks at what the database holds. Errors: [`Error::NotAMetastore`], [`Error::UnknownVersion`], and what
    /// keeps from connecting.
    pub async fn open(url: SqlUrl, limits: SqlLimits) -> Result<Self> {
        let mut connection = Connection::open(&url, Access::Read, limits).await?;
        let schema = Arc::new(Schema::probe(&mut connection).await?);
        connection.close().await;
        let opened = Instant::now();
        let clock: Clock = Arc::new(move || opened.elapsed());
        Ok(Self { url, limits, schema, events: false, clock, idle: Mutex::new(None) })
    }

    /// Appends what it is told to change to the metastore's own event log from now on, in the same transaction, as a Hive
    /// Metastore does (rule 33). What changes nothing is no event.
    pub fn with_events(self) -> Self {
        Self { events: true, ..self }
    }

    async fn writing(&self) -> Result<Connection> {
        let mut connection = Connection::open(&self.url, Access::Write, self.limits).await?;
        connection.set_version(self.schema.version);
        Ok(connection)
    }

    /// One attempt at a batch: how many parts were written.
    async fn attempt(&self, reader: &mut Reader, parts: &[&[Change]], ids: Ids) -> Result<usize> {
        reader.connection.begin_write().await?;
        let begun = (self.clock)();
        let mut writer = Writer::new(reader, ids, self.events);
        let mut written = 0;
        for part in parts {
            for change in *part {
                if let Err(error) = writer.apply(change).await {
                    return Err(give_up(&mut reader.connection, error).await);
                }
            }
            written += 1;
            if (self.clock)().saturating_sub(begun) >= BATCH_TIME {
                break;
            }
        }
        if let Err(error) = writer.end().await {
            return Err(give_up(&mut reader.connection, error).await);
        }
        reader.connection.commit().await?;
        Ok(written)
    }

    /// As many parts as one transaction takes; with the connection, if it is still of use.
    async fn apply_on(&self, connection: Connection, parts: &[&[Change]]) -> (Result<usize>, Option<Connection>) {
        let mut reader = Reader::new(connection, Arc::clone(&self.schema));
        let needs = ids::needs(parts.iter().copied().flatten(), self.events);
        let mut ids: Option<Ids> = None;
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let done = match &ids {
                Some(ids) => self.attempt(&mut reader, parts, ids.again()).await,
                None => match Ids::reserve(&mut reader.connection, &self.schema, &needs).await {
                    Ok(reserved) => {
                        let done = self.attempt(&mut reader, parts, reserved.again()).await;
                        ids = Some(reserved);
                        done
                    }
                    Err(error) => Err(give_up(&mut reader.connection, error).await),
                },
            };
            match done {
                Ok(written) => return (Ok(written), Some(reader.connection)),
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

/// Rolls back after an error, which stays the one that matters. On a connection that broke there is nothing to roll back: its
/// owner drops it, and the server gives up the transaction.
async fn give_up(connection: &mut Connection, error: Error) -> Error {
    if matches!(error, Error::Unreachable { .. } | Error::Silent { .. }) {
        return error;
    }
    match connection.rollback().await {
        Ok(()) => error,
        Err(_) => Error::Unreachable {
            operation: "roll back".to_owned(),
            place: connection.place().to_owned(),
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
        match self.schema.dialect {
            Dialect::Sqlite => Holder::Own,
            Dialect::Postgres | Dialect::MySql => Holder::Hive(self.schema.version),
        }
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let mut connection = Connection::open(&self.url, Access::Read, self.limits).await?;
        connection.set_version(self.schema.version);
        connection.begin_snapshot().await?;
        // The first query is what a snapshot begins with in PostgreSQL and SQLite.
        connection.query("SELECT \"DB_ID\" FROM \"DBS\" LIMIT 1", &[]).await?;
        Ok(Box::new(SqlSnapshot(Mutex::new(Reader::new(connection, Arc::clone(&self.schema))))))
    }

    async fn apply(&self, changes: &[Change]) -> Result<()> {
        self.apply_some(&[changes]).await.map(drop)
    }

    async fn apply_some(&self, parts: &[&[Change]]) -> Result<usize> {
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(parts.len());
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
        let (done, connection) = self.apply_on(connection, parts).await;
        *idle = connection;
        done
    }
}
