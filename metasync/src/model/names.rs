//! The names by which objects are found. Hive keeps them in lower case and compares without case; names here are lower case.
//!
//! Pure. A name is never split at dots: databases and tables may have dots in names on some servers.

use serde::Serialize;
use std::fmt;

/// The catalog that is meant where none is named, and the only one before Hive 3.
pub const HIVE_CATALOG: &str = "hive";

/// What Hive 3 says of that catalog.
pub const HIVE_CATALOG_DESCRIPTION: &str = "Default catalog, for Hive";

/// A database within a catalog.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DatabaseName {
    /// [`HIVE_CATALOG`] nearly always.
    pub catalog: String,
    /// The database's own name.
    pub database: String,
}

/// A table or view within a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TableName {
    /// [`HIVE_CATALOG`] nearly always.
    pub catalog: String,
    /// The database's name.
    pub database: String,
    /// The table's own name.
    pub table: String,
}

impl DatabaseName {
    /// A database of the default catalog, its name in lower case.
    pub fn new(database: &str) -> Self {
        Self::in_catalog(HIVE_CATALOG, database)
    }

    /// A database of this catalog, both in lower case.
    pub fn in_catalog(catalog: &str, database: &str) -> Self {
        Self { catalog: catalog.to_lowercase(), database: database.to_lowercase() }
    }

    /// A table of this database, its name in lower case.
    pub fn table(&self, table: &str) -> TableName {
        TableName { catalog: self.catalog.clone(), database: self.database.clone(), table: table.to_lowercase() }
    }
}

impl TableName {
    /// A table of the default catalog, names in lower case.
    pub fn new(database: &str, table: &str) -> Self {
        DatabaseName::new(database).table(table)
    }

    /// The database that it is in.
    pub fn database(&self) -> DatabaseName {
        DatabaseName { catalog: self.catalog.clone(), database: self.database.clone() }
    }
}

/// `database`, or `catalog.database` outside the default catalog.
impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.catalog != HIVE_CATALOG {
            write!(f, "{}.", self.catalog)?;
        }
        f.write_str(&self.database)
    }
}

/// `database.table`, or `catalog.database.table` outside the default catalog.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.catalog != HIVE_CATALOG {
            write!(f, "{}.", self.catalog)?;
        }
        write!(f, "{}.{}", self.database, self.table)
    }
}
