//! What can be changed in a metastore: each change names an object and what it shall be.
//!
//! Plain data. Every change is idempotent: put makes the object exactly so, whether it was there or not; drop of what is not
//! there is nothing; a rename whose source is gone and whose target is there was done before.

use crate::model::{
    Catalog, ColumnStatistics, Constraint, Database, DatabaseName, Function, Grant, Partition, PartitionName, Role,
    RoleGrant, Table, TableName,
};

/// One change. No change ever touches a file (rule 30).
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A catalog, created or altered.
    PutCatalog(Catalog),
    /// An empty catalog, by name.
    DropCatalog(String),
    /// A database, created or altered, parameters as a whole.
    PutDatabase(Database),
    /// An empty database.
    DropDatabase(DatabaseName),
    /// One parameter of a database by compare-and-set: [`super::Error::Conflict`] unless it is `expected` or already `value`
    /// (`None`: absent). Rule 15.
    SetDatabaseParameter {
        /// Which.
        database: DatabaseName,
        /// The parameter.
        key: String,
        /// What it must be now.
        expected: Option<String>,
        /// What it shall be.
        value: Option<String>,
    },
    /// A table or view, created or altered. Its partitions, constraints, statistics and privileges stay. Partition keys that
    /// differ from those there are an error: such a table is dropped first.
    PutTable(Box<Table>),
    /// A table's name, also into another database. Its location stays.
    RenameTable {
        /// As it is called now.
        from: TableName,
        /// As it shall be called.
        to: TableName,
    },
    /// A table with its partitions, constraints (also of others that refer to it), statistics and privileges.
    DropTable(TableName),
    /// Partitions, created or altered. Their statistics and privileges stay.
    PutPartitions {
        /// Of this table, which is there.
        table: TableName,
        /// At most [`super::CHUNK`].
        partitions: Vec<Partition>,
    },
    /// A partition's values. Its location stays.
    RenamePartition {
        /// Of this table.
        table: TableName,
        /// As it is called now.
        from: PartitionName,
        /// Its values from now on.
        to: Vec<String>,
    },
    /// Partitions with their statistics and privileges.
    DropPartitions {
        /// Of this table.
        table: TableName,
        /// At most [`super::CHUNK`].
        names: Vec<PartitionName>,
    },
    /// A constraint, in place of one of the same name on that table.
    PutConstraint(Constraint),
    /// A constraint, by name.
    DropConstraint {
        /// On this table.
        table: TableName,
        /// The constraint's name.
        name: String,
    },
    /// A function, created or altered.
    PutFunction(Function),
    /// A function, by name.
    DropFunction {
        /// In this database.
        database: DatabaseName,
        /// The function's name.
        name: String,
    },
    /// Statistics of columns of a table, each in place of that of the same column and engine.
    PutTableStatistics {
        /// Of this table, which is there.
        table: TableName,
        /// By column and engine.
        statistics: Vec<ColumnStatistics>,
    },
    /// All column statistics of a table, or those of one column.
    DropTableStatistics {
        /// Of this table.
        table: TableName,
        /// Only these.
        column: Option<String>,
    },
    /// Statistics of columns of partitions, each in place of that of the same partition, column and engine.
    PutPartitionStatistics {
        /// Of this table, which is there.
        table: TableName,
        /// At most [`super::CHUNK`] partitions, which are there.
        statistics: Vec<(PartitionName, Vec<ColumnStatistics>)>,
    },
    /// All column statistics of a partition, or those of one column.
    DropPartitionStatistics {
        /// Of this table.
        table: TableName,
        /// Which.
        partition: PartitionName,
        /// Only these.
        column: Option<String>,
    },
    /// Only a word in the event log, with each time that it is said: the files of a table, or of one partition, are gone on
    /// purpose. Of what is not there, and where nothing but the server writes a log, nothing.
    TellEmptied {
        /// Of this table.
        table: TableName,
        /// Only of this one.
        partition: Option<PartitionName>,
    },
    /// Of the writes of a transactional table those up to `mark` are all there, and no other: what a reader sees from now on. What
    /// [`Self::HoldCompactions`] kept from readers of it is shown.
    PutWriteIds {
        /// Of this table, which is there.
        table: TableName,
        /// The largest id of a write that counts; `None`: nothing was ever written as Hive counts it.
        mark: Option<i64>,
        /// The compactions that made folders of it, by the ids of their transactions at the source.
        compactions: Vec<i64>,
        /// The largest id of a transaction at the source: those that begin here get larger ones.
        above: i64,
    },
    /// What these compactions made is not there yet for readers, until [`Self::PutWriteIds`] says so, however long that takes.
    HoldCompactions {
        /// Of this table.
        table: TableName,
        /// By the ids of their transactions at the source.
        compactions: Vec<i64>,
        /// As there.
        above: i64,
    },
    /// A role. `admin` and `public`, which every metastore has, are left as they are.
    PutRole(Role),
    /// A role with its memberships, by name.
    DropRole(String),
    /// Somebody in a role, in place of an earlier grant of it to the same principal.
    PutRoleGrant(RoleGrant),
    /// Somebody no longer in a role.
    DropRoleGrant(RoleGrant),
    /// A privilege, in place of the same one on the same object to the same principal by the same grantor.
    PutGrant(Grant),
    /// A privilege no longer.
    DropGrant(Grant),
}
