//! What a Hive Metastore holds, as plain data: the one form that every adapter reads into and writes from.
//!
//! Lossless: get -> put -> get is equal on every pair of adapters, but for one written list of volatile keys and one of
//! version conversions (rule 30). What Thrift sends beyond what is known here is carried as [`UnknownFields`]. Does no I/O,
//! and knows neither a wire format nor a schema; serialized, it is the form of a dump's lines.

pub mod constraint;
pub mod function;
pub mod names;
pub mod partition_name;
pub mod privilege;
pub mod statistics;
pub mod storage;
pub mod table;
pub mod write_ids;

pub use constraint::{Constraint, ConstraintKind, ForeignColumn};
pub use function::{Function, FunctionKind, Resource, ResourceKind};
pub use names::{DatabaseName, HIVE_CATALOG, HIVE_CATALOG_DESCRIPTION, TableName};
pub use partition_name::PartitionName;
pub use privilege::{Grant, GrantObject, Principal, PrincipalKind, Role, RoleGrant};
pub use statistics::{ColumnStatistics, Decimal, HIVE_ENGINE, LongUnit, StatisticsData};
pub use storage::{Column, SerDe, Skew, SortColumn, SortOrder, StorageDescriptor};
pub use table::{CreationMetadata, MaterializationSource, Partition, Table};
pub use write_ids::{Share, Transactions, WriteIds};

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// The parameters of an object, sorted by key.
pub type Parameters = BTreeMap<String, String>;

/// Fields of a Thrift struct that our IDL does not name, as the TBinary bytes of the fields one after the other, without the
/// final STOP. Only Thrift and our SQLite schema can hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnknownFields(pub Vec<u8>);

impl UnknownFields {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for UnknownFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

/// A catalog, the level above databases since Hive 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Catalog {
    /// Lower case.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Where its databases stand by default, a URL.
    pub location: String,
    /// Seconds since 1970; Hive 3.2 and later.
    pub create_time: Option<i64>,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Its catalog and name.
    #[serde(flatten)]
    pub name: DatabaseName,
    /// For people.
    pub description: Option<String>,
    /// Where its (external, since Hive 4) tables stand by default, a URL.
    pub location: Option<String>,
    /// Where its managed tables stand by default, a URL; Hive 4.
    pub managed_location: Option<String>,
    /// Sorted.
    pub parameters: Parameters,
    /// Who owns it.
    pub owner: Option<Principal>,
    /// Seconds since 1970; Hive 4.
    pub create_time: Option<i64>,
    /// Ours to store, or seen through a connector; Hive 4.
    pub kind: DatabaseKind,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// Where the tables of a database are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseKind {
    /// In this metastore.
    #[default]
    Native,
    /// In another system, seen through a data connector.
    Remote {
        /// The data connector's name.
        connector: Option<String>,
        /// The database's name there.
        database: Option<String>,
    },
}
