//! The structs of Thrift to the model and back, without loss. Pure.
//!
//! What a server works out by itself when it is asked, and ignores when it is told, has no place in the model: a table's
//! `id`, `temporary`, `isStatsCompliant`, `accessType`, `requiredReadCapabilities`, `requiredWriteCapabilities`, `colStats`,
//! `fileMetadata`, `dictionary`, `txnId`, and the `privileges` of an object, which are read by calls of their own.
//! An error is the text of what is wrong; the caller knows with which object.

mod attached;
mod objects;
mod statistics;
mod storage;
#[cfg(test)]
mod tests;

pub(crate) use attached::{
    check_rows, default_rows, foreign_key_rows, from_checks, from_defaults, from_foreign_keys, from_not_nulls,
    from_primary_keys, from_uniques, not_null_rows, primary_key_rows, unique_rows,
};
pub(super) use attached::{from_grant, from_role, from_role_grant, to_grant, to_principal_type};
pub(super) use objects::to_catalog;
pub(crate) use objects::{from_catalog, from_database, from_function, from_partition, from_table};
pub(crate) use objects::{to_database, to_function, to_partition, to_table};
pub(crate) use statistics::{from_statistics, to_statistics};

use crate::model::{DatabaseName, HIVE_CATALOG, Principal, PrincipalKind, TableName, UnknownFields};
use hms::api::PrincipalType;
use hms::wire::Unknown;

/// What was converted, or what is wrong with it.
pub(crate) type Converted<T> = Result<T, String>;

fn required<T>(value: Option<T>, field: &str) -> Converted<T> {
    value.ok_or_else(|| format!("the server left out `{field}`"))
}

fn from_unknown(unknown: Unknown) -> UnknownFields {
    UnknownFields(unknown.into_bytes())
}

fn to_unknown(unknown: &UnknownFields) -> Converted<Unknown> {
    Unknown::from_bytes(unknown.0.clone()).map_err(|error| format!("its unknown fields are damaged: {error}"))
}

fn database_name(catalog: Option<String>, database: Option<String>) -> Converted<DatabaseName> {
    let database = required(database, "dbName")?;
    Ok(DatabaseName { catalog: catalog.unwrap_or_else(|| HIVE_CATALOG.to_owned()), database })
}

fn table_name(catalog: Option<String>, database: Option<String>, table: Option<String>) -> Converted<TableName> {
    let DatabaseName { catalog, database } = database_name(catalog, database)?;
    Ok(TableName { catalog, database, table: required(table, "tableName")? })
}

fn principal_kind(kind: Option<PrincipalType>) -> Converted<PrincipalKind> {
    match kind {
        None | Some(PrincipalType::USER) => Ok(PrincipalKind::User),
        Some(PrincipalType::ROLE) => Ok(PrincipalKind::Role),
        Some(PrincipalType::GROUP) => Ok(PrincipalKind::Group),
        Some(PrincipalType(other)) => Err(format!("a principal of kind {other}, which is not known here")),
    }
}

fn from_principal(name: Option<String>, kind: Option<PrincipalType>) -> Converted<Option<Principal>> {
    let kind = principal_kind(kind)?;
    Ok(name.map(|name| Principal { name, kind }))
}

/// The name and kind of somebody, where there is one.
fn to_principal(principal: Option<&Principal>) -> (Option<String>, Option<PrincipalType>) {
    (principal.map(|owner| owner.name.clone()), principal.map(|owner| to_principal_type(owner.kind)))
}
