//! Constraints, roles and privileges. A constraint comes as one row for each of its columns.

use super::{Converted, from_principal, principal_kind, required, table_name};
use crate::model::{
    Constraint, ConstraintKind, DatabaseName, ForeignColumn, Grant, GrantObject, PartitionName, Principal,
    PrincipalKind, Role, RoleGrant, TableName,
};
use hms::api;
use std::collections::BTreeMap;

/// A row of a constraint that has several columns.
struct Row {
    table: TableName,
    name: String,
    position: i32,
    flags: [bool; 3],
}

/// The constraints of rows, columns in order; `kind` makes what a constraint says of what is left of its rows.
fn grouped<T>(
    rows: impl Iterator<Item = Converted<(Row, T)>>,
    kind: impl Fn(Vec<T>) -> Converted<ConstraintKind>,
) -> Converted<Vec<Constraint>> {
    let mut groups: BTreeMap<(TableName, String), Vec<(Row, T)>> = BTreeMap::new();
    for row in rows {
        let (row, rest) = row?;
        groups.entry((row.table.clone(), row.name.clone())).or_default().push((row, rest));
    }
    let mut constraints = Vec::with_capacity(groups.len());
    for ((table, name), mut rows) in groups {
        rows.sort_by_key(|(row, _)| row.position);
        let [enable, validate, rely] = rows.first().map(|(row, _)| row.flags).unwrap_or_default();
        let kind = kind(rows.into_iter().map(|(_, rest)| rest).collect())?;
        constraints.push(Constraint { table, name, kind, enable, validate, rely });
    }
    Ok(constraints)
}

macro_rules! row {
    ($row:ident, $table_db:ident, $table:ident, $name:ident, $position:expr) => {
        Row {
            table: table_name($row.cat_name, $row.$table_db, $row.$table)?,
            name: required($row.$name, stringify!($name))?,
            position: $position.unwrap_or_default(),
            flags: [$row.enable_cstr, $row.validate_cstr, $row.rely_cstr].map(Option::unwrap_or_default),
        }
    };
}

pub(crate) fn from_primary_keys(rows: Vec<api::SQLPrimaryKey>) -> Converted<Vec<Constraint>> {
    let row = |row: api::SQLPrimaryKey| {
        let column = required(row.column_name, "column_name")?;
        Ok((row!(row, table_db, table_name, pk_name, row.key_seq), column))
    };
    grouped(rows.into_iter().map(row), |columns| Ok(ConstraintKind::PrimaryKey { columns }))
}

pub(crate) fn from_uniques(rows: Vec<api::SQLUniqueConstraint>) -> Converted<Vec<Constraint>> {
    let row = |row: api::SQLUniqueConstraint| {
        let column = required(row.column_name, "column_name")?;
        Ok((row!(row, table_db, table_name, uk_name, row.key_seq), column))
    };
    grouped(rows.into_iter().map(row), |columns| Ok(ConstraintKind::Unique { columns }))
}

pub(crate) fn from_foreign_keys(rows: Vec<api::SQLForeignKey>) -> Converted<Vec<Constraint>> {
    type Rest = (TableName, Option<String>, ForeignColumn, i32, i32);
    let row = |row: api::SQLForeignKey| {
        let parent = table_name(row.cat_name.clone(), row.pktable_db, row.pktable_name)?;
        let column = ForeignColumn {
            column: required(row.fkcolumn_name, "fkcolumn_name")?,
            parent_column: required(row.pkcolumn_name, "pkcolumn_name")?,
        };
        let rules = (row.update_rule.unwrap_or_default(), row.delete_rule.unwrap_or_default());
        let rest: Rest = (parent, row.pk_name, column, rules.0, rules.1);
        Ok((row!(row, fktable_db, fktable_name, fk_name, row.key_seq), rest))
    };
    let kind = |rows: Vec<Rest>| {
        let mut columns = Vec::with_capacity(rows.len());
        let mut found = None;
        for (parent, parent_key, column, update_rule, delete_rule) in rows {
            columns.push(column);
            found = Some((parent, parent_key, update_rule, delete_rule));
        }
        let (parent, parent_key, update_rule, delete_rule) = required(found, "fk_name")?;
        Ok(ConstraintKind::ForeignKey { parent, parent_key, columns, update_rule, delete_rule })
    };
    grouped(rows.into_iter().map(row), kind)
}

pub(crate) fn from_not_nulls(rows: Vec<api::SQLNotNullConstraint>) -> Converted<Vec<Constraint>> {
    let row = |row: api::SQLNotNullConstraint| {
        let column = required(row.column_name, "column_name")?;
        Ok((row!(row, table_db, table_name, nn_name, None), ConstraintKind::NotNull { column }))
    };
    single(rows.into_iter().map(row))
}

pub(crate) fn from_defaults(rows: Vec<api::SQLDefaultConstraint>) -> Converted<Vec<Constraint>> {
    let row = |row: api::SQLDefaultConstraint| {
        let column = required(row.column_name, "column_name")?;
        let value = required(row.default_value, "default_value")?;
        Ok((row!(row, table_db, table_name, dc_name, None), ConstraintKind::Default { column, value }))
    };
    single(rows.into_iter().map(row))
}

pub(crate) fn from_checks(rows: Vec<api::SQLCheckConstraint>) -> Converted<Vec<Constraint>> {
    let row = |row: api::SQLCheckConstraint| {
        let column = row.column_name.filter(|column| !column.is_empty());
        let expression = required(row.check_expression, "check_expression")?;
        Ok((row!(row, table_db, table_name, dc_name, None), ConstraintKind::Check { column, expression }))
    };
    single(rows.into_iter().map(row))
}

/// Constraints of one row each.
fn single(rows: impl Iterator<Item = Converted<(Row, ConstraintKind)>>) -> Converted<Vec<Constraint>> {
    let constraint = |(row, kind): (Row, ConstraintKind)| {
        let [enable, validate, rely] = row.flags;
        Constraint { table: row.table, name: row.name, kind, enable, validate, rely }
    };
    rows.map(|row| row.map(constraint)).collect()
}

/// Positions count from 1, as Hive's own compiler counts them.
fn positions<T>(columns: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (1..).zip(columns)
}

pub(crate) fn primary_key_rows(of: &Constraint, columns: &[String]) -> Vec<api::SQLPrimaryKey> {
    let row = |(position, column): (i32, &String)| api::SQLPrimaryKey {
        table_db: Some(of.table.database.clone()),
        table_name: Some(of.table.table.clone()),
        column_name: Some(column.clone()),
        key_seq: Some(position),
        pk_name: Some(of.name.clone()),
        enable_cstr: Some(of.enable),
        validate_cstr: Some(of.validate),
        rely_cstr: Some(of.rely),
        cat_name: Some(of.table.catalog.clone()),
        ..Default::default()
    };
    positions(columns).map(row).collect()
}

pub(crate) fn unique_rows(of: &Constraint, columns: &[String]) -> Vec<api::SQLUniqueConstraint> {
    let row = |(position, column): (i32, &String)| api::SQLUniqueConstraint {
        cat_name: Some(of.table.catalog.clone()),
        table_db: Some(of.table.database.clone()),
        table_name: Some(of.table.table.clone()),
        column_name: Some(column.clone()),
        key_seq: Some(position),
        uk_name: Some(of.name.clone()),
        enable_cstr: Some(of.enable),
        validate_cstr: Some(of.validate),
        rely_cstr: Some(of.rely),
        ..Default::default()
    };
    positions(columns).map(row).collect()
}

/// `kind` is that of `of`; anything but a foreign key has no rows here.
pub(crate) fn foreign_key_rows(of: &Constraint) -> Vec<api::SQLForeignKey> {
    let ConstraintKind::ForeignKey { parent, parent_key, columns, update_rule, delete_rule } = &of.kind else {
        return Vec::new();
    };
    let row = |(position, column): (i32, &ForeignColumn)| api::SQLForeignKey {
        pktable_db: Some(parent.database.clone()),
        pktable_name: Some(parent.table.clone()),
        pkcolumn_name: Some(column.parent_column.clone()),
        fktable_db: Some(of.table.database.clone()),
        fktable_name: Some(of.table.table.clone()),
        fkcolumn_name: Some(column.column.clone()),
        key_seq: Some(position),
        update_rule: Some(*update_rule),
        delete_rule: Some(*delete_rule),
        fk_name: Some(of.name.clone()),
        pk_name: parent_key.clone(),
        enable_cstr: Some(of.enable),
        validate_cstr: Some(of.validate),
        rely_cstr: Some(of.rely),
        cat_name: Some(of.table.catalog.clone()),
        ..Default::default()
    };
    positions(columns).map(row).collect()
}

pub(crate) fn not_null_rows(of: &Constraint, column: &str) -> Vec<api::SQLNotNullConstraint> {
    vec![api::SQLNotNullConstraint {
        cat_name: Some(of.table.catalog.clone()),
        table_db: Some(of.table.database.clone()),
        table_name: Some(of.table.table.clone()),
        column_name: Some(column.to_owned()),
        nn_name: Some(of.name.clone()),
        enable_cstr: Some(of.enable),
        validate_cstr: Some(of.validate),
        rely_cstr: Some(of.rely),
        ..Default::default()
    }]
}

pub(crate) fn default_rows(of: &Constraint, column: &str, value: &str) -> Vec<api::SQLDefaultConstraint> {
    vec![api::SQLDefaultConstraint {
        cat_name: Some(of.table.catalog.clone()),
        table_db: Some(of.table.database.clone()),
        table_name: Some(of.table.table.clone()),
        column_name: Some(column.to_owned()),
        default_value: Some(value.to_owned()),
        dc_name: Some(of.name.clone()),
        enable_cstr: Some(of.enable),
        validate_cstr: Some(of.validate),
        rely_cstr: Some(of.rely),
        ..Default::default()
    }]
}

pub(crate) fn check_rows(of: &Constraint, column: Option<&str>, expression: &str) -> Vec<api::SQLCheckConstraint> {
    vec![api::SQLCheckConstraint {
        cat_name: Some(of.table.catalog.clone()),
        table_db: Some(of.table.database.clone()),
        table_name: Some(of.table.table.clone()),
        column_name: column.map(str::to_owned),
        check_expression: Some(expression.to_owned()),
        dc_name: Some(of.name.clone()),
        enable_cstr: Some(of.enable),
        validate_cstr: Some(of.validate),
        rely_cstr: Some(of.rely),
        ..Default::default()
    }]
}

pub(crate) fn to_principal_type(kind: PrincipalKind) -> api::PrincipalType {
    match kind {
        PrincipalKind::User => api::PrincipalType::USER,
        PrincipalKind::Role => api::PrincipalType::ROLE,
        PrincipalKind::Group => api::PrincipalType::GROUP,
    }
}

pub(crate) fn from_role(role: api::Role) -> Converted<Role> {
    Ok(Role {
        name: required(role.role_name, "roleName")?,
        create_time: role.create_time.unwrap_or_default(),
        owner: role.owner_name,
    })
}

/// `role` is the one that was asked about: some servers leave it out.
pub(crate) fn from_role_grant(role: &str, grant: api::RolePrincipalGrant) -> Converted<RoleGrant> {
    Ok(RoleGrant {
        role: role.to_owned(),
        principal: Principal {
            name: required(grant.principal_name, "principalName")?,
            kind: principal_kind(grant.principal_type)?,
        },
        grant_option: grant.grant_option.unwrap_or_default(),
        grantor: from_principal(grant.grantor_name, grant.grantor_principal_type)?,
        grant_time: grant.grant_time.unwrap_or_default(),
    })
}

/// `keys` gives the partition keys of a table for what is on partitions; `None` when the object is on something else.
pub(crate) fn from_grant(found: api::HiveObjectPrivilege, keys: &[String]) -> Converted<Grant> {
    let info = required(found.grant_info, "grantInfo")?;
    Ok(Grant {
        object: from_object(required(found.hive_object, "hiveObject")?, keys)?,
        principal: Principal {
            name: required(found.principal_name, "principalName")?,
            kind: principal_kind(found.principal_type)?,
        },
        privilege: required(info.privilege, "privilege")?,
        grant_option: info.grant_option.unwrap_or_default(),
        grantor: from_principal(info.grantor, info.grantor_type)?,
        create_time: info.create_time.unwrap_or_default(),
        authorizer: found.authorizer,
    })
}

fn from_object(object: api::HiveObjectRef, keys: &[String]) -> Converted<GrantObject> {
    let kind = required(object.object_type, "objectType")?;
    let values = object.part_values.unwrap_or_default();
    let partition = || PartitionName::of(keys.iter().map(String::as_str), &values);
    let table = || table_name(object.cat_name.clone(), object.db_name.clone(), object.object_name.clone());
    Ok(match kind {
        api::HiveObjectType::GLOBAL => GrantObject::Global,
        api::HiveObjectType::DATABASE => {
            GrantObject::Database { database: super::database_name(object.cat_name.clone(), object.db_name.clone())? }
        }
        api::HiveObjectType::TABLE => GrantObject::Table { table: table()? },
        api::HiveObjectType::PARTITION => GrantObject::Partition { table: table()?, partition: partition()? },
        api::HiveObjectType::COLUMN => {
            let column = required(object.column_name.clone(), "columnName")?;
            match values.is_empty() {
                true => GrantObject::Column { table: table()?, column },
                false => GrantObject::PartitionColumn { table: table()?, partition: partition()?, column },
            }
        }
        api::HiveObjectType(other) => {
            return Err(format!("a privilege on a thing of kind {other}, which is not known here"));
        }
    })
}

pub(crate) fn to_grant(grant: &Grant) -> Converted<api::HiveObjectPrivilege> {
    Ok(api::HiveObjectPrivilege {
        hive_object: Some(to_object(&grant.object)?),
        principal_name: Some(grant.principal.name.clone()),
        principal_type: Some(to_principal_type(grant.principal.kind)),
        grant_info: Some(api::PrivilegeGrantInfo {
            privilege: Some(grant.privilege.clone()),
            create_time: Some(grant.create_time),
            grantor: grant.grantor.as_ref().map(|grantor| grantor.name.clone()),
            grantor_type: grant.grantor.as_ref().map(|grantor| to_principal_type(grantor.kind)),
            grant_option: Some(grant.grant_option),
            ..Default::default()
        }),
        authorizer: grant.authorizer.clone(),
        ..Default::default()
    })
}

fn to_object(object: &GrantObject) -> Converted<api::HiveObjectRef> {
    let on = |kind, database: &DatabaseName, table: Option<&TableName>| api::HiveObjectRef {
        object_type: Some(kind),
        db_name: Some(database.database.clone()),
        object_name: table.map(|table| table.table.clone()),
        cat_name: Some(database.catalog.clone()),
        ..Default::default()
    };
    Ok(match object {
        GrantObject::Global => {
            api::HiveObjectRef { object_type: Some(api::HiveObjectType::GLOBAL), ..Default::default() }
        }
        GrantObject::Database { database } => on(api::HiveObjectType::DATABASE, database, None),
        GrantObject::Table { table } => on(api::HiveObjectType::TABLE, &table.database(), Some(table)),
        GrantObject::Partition { table, partition } => api::HiveObjectRef {
            part_values: Some(partition.values()?),
            ..on(api::HiveObjectType::PARTITION, &table.database(), Some(table))
        },
        GrantObject::Column { table, column } => api::HiveObjectRef {
            column_name: Some(column.clone()),
            ..on(api::HiveObjectType::COLUMN, &table.database(), Some(table))
        },
        GrantObject::PartitionColumn { table, partition, column } => api::HiveObjectRef {
            column_name: Some(column.clone()),
            part_values: Some(partition.values()?),
            ..on(api::HiveObjectType::COLUMN, &table.database(), Some(table))
        },
    })
}
