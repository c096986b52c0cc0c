//! The one door to real metastores: what can be read ([`Snapshot`]) and what can be changed ([`Change`]).
//!
//! Reading is set-based: names first, then objects by names, a bounded chunk at a time. Writing is a batch of changes that
//! say what shall be, not how to get there: each is idempotent, so that a batch which a crash cut short is done again. An SQL
//! metastore does a batch in one transaction; a Thrift one does change after change, in order.

mod change;
mod error;
pub mod open;
pub mod sql;
pub mod thrift;

pub use change::Change;
pub use error::{Error, Result};

use crate::held::Holder;
use crate::model::{
    Catalog, ColumnStatistics, Constraint, Database, DatabaseName, Function, Grant, Partition, PartitionName, Role,
    RoleGrant, Table, TableName, Transactions, WriteIds,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::fmt;

/// The most names that one call for tables or partitions may hold.
pub const CHUNK: usize = 1000;

/// The Hive version whose schema or protocol a metastore has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 2 to 4.
    pub major: u16,
    /// Such as 3 in 2.3.
    pub minor: u16,
}

impl Version {
    /// Hive 2.3: no catalogs, no unique event ids.
    pub const V2_3: Self = Self { major: 2, minor: 3 };
    /// Hive 3.1: catalogs, check and default constraints.
    pub const V3_1: Self = Self { major: 3, minor: 1 };
    /// Hive 4.0: engines of statistics, managed locations, write ids.
    pub const V4_0: Self = Self { major: 4, minor: 0 };
    /// Hive 4.1: statistics by id only, unique table names.
    pub const V4_1: Self = Self { major: 4, minor: 1 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A metastore that was reached and whose version is known.
#[async_trait]
pub trait Metastore: Send + Sync {
    /// Where it is, without secrets, for messages.
    fn place(&self) -> String;

    /// Whose rules an object has to fit before it is put here: see [`crate::held::hold`].
    fn holder(&self) -> Holder;

    /// Opens it for reading. With SQL all reads through one snapshot see one moment, and nothing is ever written.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>>;

    /// Makes all of it so, in order. With SQL everything or nothing; else what was done before an error stays, and doing the
    /// batch again is right. What this version cannot hold is [`Error::CannotHold`], before anything of the batch is written
    /// with SQL, before anything of that change with Thrift.
    async fn apply(&self, changes: &[Change]) -> Result<()>;

    /// Makes the first of these parts so, in order and each of them whole, and says how many: at least one. With SQL in one
    /// transaction, which takes no further part once it has been open for [`sql::BATCH_TIME`] (rule 32); else all of them.
    /// Errors as those of [`Self::apply`], and what they leave is the same.
    async fn apply_some(&self, parts: &[&[Change]]) -> Result<usize> {
        self.apply(&parts.concat()).await?;
        Ok(parts.len())
    }
}

/// A metastore open for reading. Methods that take names leave out what does not exist (any more), and take at most
/// [`CHUNK`] names. Names in results are sorted by bytes unless something else is said.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// How many calls at a time are of use: 1 where they stand in line for one connection.
    fn parallel_calls(&self) -> usize;

    /// A digest of all objects but privileges, whatever database they are in, if that is much cheaper than to read them. While
    /// it is the same nothing changed; it may differ although nothing that is read did.
    async fn fingerprint(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// All catalogs; before Hive 3 the default one, as Hive 3 would have it.
    async fn catalogs(&self) -> Result<Vec<Catalog>>;

    /// All databases of all catalogs.
    async fn databases(&self) -> Result<Vec<Database>>;

    /// The tables and views of a database.
    async fn table_names(&self, database: &DatabaseName) -> Result<Vec<String>>;

    /// These tables, by name.
    async fn tables(&self, database: &DatabaseName, names: &[String]) -> Result<Batch<Table>>;

    /// The names of all partitions of a table; none for one without partition keys, or that is gone.
    async fn partition_names(&self, table: &TableName) -> Result<Vec<PartitionName>>;

    /// These partitions of a table, in the order of `names`.
    async fn partitions(&self, table: &Table, names: &[PartitionName]) -> Result<Batch<Partition>>;

    /// How many partitions each of these tables of a database has, none for one that is not named; `None` if only their names
    /// tell. Where it is known, [`Self::all_partitions`] answers.
    async fn partition_counts(
        &self,
        _database: &DatabaseName,
        _tables: &[String],
    ) -> Result<Option<HashMap<String, usize>>> {
        Ok(None)
    }

    /// All partitions of these tables of one database by the table's name, in the order of their names, with their column
    /// statistics if asked for; no word of a table without. All are held: [`Self::partition_counts`] tells whether they are
    /// few. Empty where that is not known.
    async fn all_partitions(&self, _tables: &[&Table], _statistics: bool) -> Result<HashMap<String, AllPartitions>> {
        Ok(HashMap::new())
    }

    /// The constraints on these tables (foreign keys: that refer from them), sorted.
    async fn constraints(&self, database: &DatabaseName, tables: &[String]) -> Result<Batch<Constraint>>;

    /// The column statistics of these tables, with the table's name; sorted by table, engine and column.
    async fn table_statistics(
        &self,
        database: &DatabaseName,
        tables: &[String],
    ) -> Result<Vec<(String, ColumnStatistics)>>;

    /// The column statistics of these partitions of a table, with the partition's name; sorted by partition, engine and column.
    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[PartitionName],
    ) -> Result<Vec<(PartitionName, ColumnStatistics)>>;

    /// What is known of the writes of each of these tables of a database, whether they are transactional or not; `None` where
    /// it cannot be told.
    async fn write_ids(
        &self,
        _database: &DatabaseName,
        _tables: &[String],
    ) -> Result<Option<HashMap<String, WriteIds>>> {
        Ok(None)
    }

    /// The transactions; `None` where [`Self::write_ids`] cannot be told either.
    async fn transactions(&self) -> Result<Option<Transactions>> {
        Ok(None)
    }

    /// The functions of a database.
    async fn functions(&self, database: &DatabaseName) -> Result<Batch<Function>>;

    /// All roles.
    async fn roles(&self) -> Result<Vec<Role>>;

    /// All memberships of roles, sorted.
    async fn role_grants(&self) -> Result<Vec<RoleGrant>>;

    /// Privileges, sorted.
    async fn grants(&self, on: GrantScope<'_>) -> Result<Vec<Grant>>;

    /// The id of the newest event in the notification log, 0 for none ever.
    async fn current_event_id(&self) -> Result<i64>;

    /// Up to `limit` events with a larger id than this, by event id, then in the order of the log.
    async fn events_after(&self, id: i64, limit: usize) -> Result<Vec<EventRow>>;
}

/// On which objects privileges are asked for.
#[derive(Clone, Copy, Debug)]
pub enum GrantScope<'a> {
    /// On everything.
    Global,
    /// On this database itself.
    Database(&'a DatabaseName),
    /// On these tables of a database and on their columns.
    Tables(&'a DatabaseName, &'a [String]),
    /// On these partitions of a table and on their columns.
    Partitions(&'a Table, &'a [PartitionName]),
}

/// The partitions of a table, all of them.
#[derive(Debug, PartialEq)]
pub struct AllPartitions {
    /// By name.
    pub batch: Batch<Partition>,
    /// With the partition's name; sorted by partition, engine and column.
    pub statistics: Vec<(PartitionName, ColumnStatistics)>,
}

/// What a set-based read found.
#[derive(Debug, PartialEq)]
pub struct Batch<T> {
    /// In the order that the method promises.
    pub found: Vec<T>,
    /// Objects that cannot be read because rows that belong to them are missing; the others are not touched by it.
    pub damaged: Vec<Damaged>,
}

impl<T> Batch<T> {
    fn empty() -> Self {
        Self { found: Vec::new(), damaged: Vec::new() }
    }

    /// Takes what was read in; that an object is damaged ends nothing.
    fn add(&mut self, read: Result<impl IntoIterator<Item = T>>) -> Result<()> {
        match read {
            Ok(found) => self.found.extend(found),
            Err(Error::Damaged { object, why }) => self.damaged.push(Damaged::other(object, why)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// An object whose rows in the database do not fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Such as `table sales.orders`.
    pub object: String,
    /// Which object that is, where callers go on without it.
    pub part: Part,
    /// What is wrong, with ids: `SDS 17 names CDS 4, which is not there`.
    pub why: String,
}

/// What is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A table.
    Table(TableName),
    /// A constraint of a table, by its name.
    Constraint(TableName, String),
    /// A partition, a function, or what a table or partition has.
    Other,
}

impl Damaged {
    fn table(name: TableName, why: String) -> Self {
        Self { object: format!("table {name}"), part: Part::Table(name), why }
    }

    fn constraint(table: TableName, name: String, why: String) -> Self {
        Self { object: format!("constraint {name} on {table}"), part: Part::Constraint(table, name), why }
    }

    /// What is neither a table nor a constraint.
    pub fn other(object: String, why: String) -> Self {
        Self { object, part: Part::Other, why }
    }
}

/// A row of the notification log, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// EVENT_ID
    pub event_id: i64,
    /// Seconds since 1970.
    pub event_time: i64,
    /// Such as `CREATE_TABLE`.
    pub event_type: String,
    /// Absent before Hive 3, and for events of no catalog.
    pub catalog: Option<String>,
    /// Absent for transactions.
    pub database: Option<String>,
    /// Absent for what is not about a table.
    pub table: Option<String>,
    /// As it is stored.
    pub message: String,
    /// `json-0.2`, `gzip(json-2.0)`.
    pub message_format: Option<String>,
}
