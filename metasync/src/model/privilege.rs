//! Roles, who is in them, and privileges.

use super::{DatabaseName, PartitionName, TableName};
use serde::Serialize;

/// A user, role or group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Principal {
    /// As it is.
    pub name: String,
    /// Which of the three.
    pub kind: PrincipalKind,
}

/// The kind of a principal, with Hive's numbers. In SQL the upper-case word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// 1, also where nothing is said.
    User,
    /// 2
    Role,
    /// 3
    Group,
}

/// A role. `admin` and `public` are every metastore's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Role {
    /// As it is.
    pub name: String,
    /// Seconds since 1970.
    pub create_time: i32,
    /// The user who made it.
    pub owner: Option<String>,
}

/// Somebody in a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RoleGrant {
    /// The role.
    pub role: String,
    /// Who is in it.
    pub principal: Principal,
    /// WITH ADMIN OPTION
    pub grant_option: bool,
    /// Who granted it.
    pub grantor: Option<Principal>,
    /// Seconds since 1970.
    pub grant_time: i32,
}

/// A privilege on an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Grant {
    /// On what.
    pub object: GrantObject,
    /// To whom.
    pub principal: Principal,
    /// Such as `SELECT`, as it is stored: servers write `All` for their own role.
    pub privilege: String,
    /// WITH GRANT OPTION
    pub grant_option: bool,
    /// Who granted it.
    pub grantor: Option<Principal>,
    /// Seconds since 1970.
    pub create_time: i32,
    /// Which authorizer it belongs to; Hive 3.
    pub authorizer: Option<String>,
}

/// What a privilege is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum GrantObject {
    /// Everything.
    Global,
    /// A database.
    Database {
        /// Which.
        database: DatabaseName,
    },
    /// A table or view.
    Table {
        /// Which.
        table: TableName,
    },
    /// A partition.
    Partition {
        /// Its table.
        table: TableName,
        /// Which.
        partition: PartitionName,
    },
    /// A column of a table.
    Column {
        /// Its table.
        table: TableName,
        /// Which.
        column: String,
    },
    /// A column of a partition.
    PartitionColumn {
        /// Its table.
        table: TableName,
        /// Its partition.
        partition: PartitionName,
        /// Which.
        column: String,
    },
}

impl GrantObject {
    /// The table that it is on or in.
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Self::Table { table }
            | Self::Partition { table, .. }
            | Self::Column { table, .. }
            | Self::PartitionColumn { table, .. } => Some(table),
            Self::Global | Self::Database { .. } => None,
        }
    }

    /// The partition that it is on or in.
    pub fn partition(&self) -> Option<&PartitionName> {
        match self {
            Self::Partition { partition, .. } | Self::PartitionColumn { partition, .. } => Some(partition),
            _ => None,
        }
    }
}
