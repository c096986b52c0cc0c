//! One object of a metastore by itself: what a dump has a line for, and what is compared, converted and carried.
//!
//! Plain data, and pure conversions to the changes that make it so.

use crate::metastore::Change;
use crate::model::{
    Catalog, ColumnStatistics, Constraint, ConstraintKind, Database, Function, Grant, Partition, PartitionName, Role,
    RoleGrant, Table, TableName,
};
use serde::Serialize;
use std::fmt;

/// An object of a metastore; `type` in a dump says which.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Object {
    /// A catalog.
    Catalog(Catalog),
    /// A role.
    Role(Role),
    /// A membership in a role.
    RoleGrant(RoleGrant),
    /// A privilege.
    Grant(Grant),
    /// A database.
    Database(Database),
    /// A function.
    Function(Function),
    /// A table or view.
    Table(Box<Table>),
    /// A constraint.
    Constraint(Constraint),
    /// Statistics of a column of a table.
    TableStatistics {
        /// Whose.
        #[serde(flatten)]
        table: TableName,
        /// What is known.
        #[serde(flatten)]
        statistics: ColumnStatistics,
    },
    /// A partition.
    Partition {
        /// Whose.
        #[serde(flatten)]
        table: TableName,
        /// Its escaped name.
        partition_name: PartitionName,
        /// The rest.
        #[serde(flatten)]
        partition: Box<Partition>,
    },
    /// Statistics of a column of a partition.
    PartitionStatistics {
        /// Whose.
        #[serde(flatten)]
        table: TableName,
        /// Its escaped name.
        partition_name: PartitionName,
        /// What is known.
        #[serde(flatten)]
        statistics: ColumnStatistics,
    },
}

impl Object {
    /// Whether it can only be put when another table, which may come later in a walk, is there.
    pub fn is_foreign_key(&self) -> bool {
        matches!(self, Self::Constraint(Constraint { kind: ConstraintKind::ForeignKey { .. }, .. }))
    }

    /// The change that puts it into a metastore that holds what it belongs to.
    pub fn into_change(self) -> Change {
        match self {
            Self::Catalog(catalog) => Change::PutCatalog(catalog),
            Self::Role(role) => Change::PutRole(role),
            Self::RoleGrant(grant) => Change::PutRoleGrant(grant),
            Self::Grant(grant) => Change::PutGrant(grant),
            Self::Database(database) => Change::PutDatabase(database),
            Self::Function(function) => Change::PutFunction(function),
            Self::Table(table) => Change::PutTable(table),
            Self::Constraint(constraint) => Change::PutConstraint(constraint),
            Self::TableStatistics { table, statistics } => {
                Change::PutTableStatistics { table, statistics: vec![statistics] }
            }
            Self::Partition { table, partition, .. } => Change::PutPartitions { table, partitions: vec![*partition] },
            Self::PartitionStatistics { table, partition_name, statistics } => {
                Change::PutPartitionStatistics { table, statistics: vec![(partition_name, vec![statistics])] }
            }
        }
    }
}

/// What it is and its name, for messages: `table sales.orders`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog(catalog) => write!(f, "catalog {}", catalog.name),
            Self::Role(role) => write!(f, "role {}", role.name),
            Self::RoleGrant(grant) => write!(f, "role {} of {}", grant.role, grant.principal.name),
            Self::Grant(grant) => write!(f, "privilege {} of {}", grant.privilege, grant.principal.name),
            Self::Database(database) => write!(f, "database {}", database.name),
            Self::Function(function) => write!(f, "function {}.{}", function.database, function.name),
            Self::Table(table) => write!(f, "table {}", table.name),
            Self::Constraint(constraint) => write!(f, "constraint {} on {}", constraint.name, constraint.table),
            Self::TableStatistics { table, statistics } => {
                write!(f, "statistics of {table}, column {}", statistics.column)
            }
            Self::Partition { table, partition_name, .. } => write!(f, "partition {partition_name} of {table}"),
            Self::PartitionStatistics { table, partition_name, statistics } => {
                write!(f, "statistics of partition {partition_name} of {table}, column {}", statistics.column)
            }
        }
    }
}
