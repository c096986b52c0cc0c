//! Roles, memberships and privileges.

use super::{Writer, conflict, kind_word};
use crate::metastore::Result;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::partitions;
use crate::metastore::sql::read::privileges::{
    DATABASE, GLOBAL, PARTITION, PARTITION_COLUMN, Privileges, TABLE, TABLE_COLUMN,
};
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::metastore::sql::value::Value;
use crate::model::{Grant, GrantObject, PartitionName, Principal, Role, RoleGrant, TableName};
use std::sync::Arc;

/// Roles that every metastore has and keeps by itself.
const OWN_ROLES: [&str; 2] = ["admin", "public"];

/// Of which ids a privilege on such an object takes one.
pub(crate) fn sequence(object: &GrantObject) -> Sequence {
    match object {
        GrantObject::Global => Sequence::GlobalPrivilege,
        GrantObject::Database { .. } => Sequence::DatabasePrivilege,
        GrantObject::Table { .. } => Sequence::TablePrivilege,
        GrantObject::Partition { .. } => Sequence::PartitionPrivilege,
        GrantObject::Column { .. } => Sequence::TableColumnPrivilege,
        GrantObject::PartitionColumn { .. } => Sequence::PartitionColumnPrivilege,
    }
}

async fn role_id(writer: &mut Writer<'_>, name: &str) -> Result<Option<i64>> {
    if !writer.reader.schema.has_table("ROLES") {
        return Ok(None);
    }
    let lock = writer.reader.schema.dialect.for_update();
    writer.number(&format!("SELECT \"ROLE_ID\" FROM \"ROLES\" WHERE \"ROLE_NAME\" = ?{lock}"), &[name.into()]).await
}

pub(super) async fn put_role(writer: &mut Writer<'_>, role: &Role) -> Result<()> {
    let schema = Arc::clone(&writer.reader.schema);
    let old = role_id(writer, &role.name).await?;
    if old.is_some() && OWN_ROLES.contains(&role.name.as_str()) {
        return Ok(());
    }
    let id = match old {
        Some(id) => id,
        None => writer.ids.take(Sequence::Role)?,
    };
    let mut rows = Rows::new("ROLES");
    let cells = vec![
        cell("ROLE_ID", id),
        cell("CREATE_TIME", role.create_time),
        cell("OWNER_NAME", &role.owner),
        cell("ROLE_NAME", &role.name),
    ];
    rows.push(&schema, &|| format!("role {}", role.name), cells)?;
    match old {
        Some(_) => rows.upsert(&mut writer.reader.connection, &schema, "ROLE_ID").await,
        None => rows.insert(&mut writer.reader.connection, &schema).await,
    }
}

pub(super) async fn drop_role(writer: &mut Writer<'_>, name: &str) -> Result<()> {
    if OWN_ROLES.contains(&name) {
        return Ok(());
    }
    let Some(id) = role_id(writer, name).await? else { return Ok(()) };
    writer.delete(&[("ROLE_MAP", "ROLE_ID"), ("ROLES", "ROLE_ID")], &[id]).await
}

pub(super) async fn put_role_grant(writer: &mut Writer<'_>, grant: &RoleGrant) -> Result<()> {
    let object = || format!("{} in role {}", grant.principal.name, grant.role);
    let schema = Arc::clone(&writer.reader.schema);
    let Some(role) = role_id(writer, &grant.role).await? else {
        return Err(conflict("put", object(), "the role is not there".to_owned()));
    };
    remove_role_grant(writer, role, grant).await?;
    let mut rows = Rows::new("ROLE_MAP");
    let cells = vec![
        cell("ROLE_GRANT_ID", writer.ids.take(Sequence::RoleGrant)?),
        cell("ADD_TIME", grant.grant_time),
        cell("GRANT_OPTION", grant_option(grant.grant_option)),
        cell("GRANTOR", grant.grantor.as_ref().map(|grantor| &grantor.name)),
        cell("GRANTOR_TYPE", grant.grantor.as_ref().map(|grantor| kind_word(grantor.kind))),
        cell("PRINCIPAL_NAME", &grant.principal.name),
        cell("PRINCIPAL_TYPE", kind_word(grant.principal.kind)),
        cell("ROLE_ID", role),
    ];
    rows.push(&schema, &object, cells)?;
    rows.insert(&mut writer.reader.connection, &schema).await
}

pub(super) async fn drop_role_grant(writer: &mut Writer<'_>, grant: &RoleGrant) -> Result<()> {
    match role_id(writer, &grant.role).await? {
        None => Ok(()),
        Some(role) => remove_role_grant(writer, role, grant).await,
    }
}

async fn remove_role_grant(writer: &mut Writer<'_>, role: i64, grant: &RoleGrant) -> Result<()> {
    let sql = "DELETE FROM \"ROLE_MAP\" WHERE \"ROLE_ID\" = ? AND \"PRINCIPAL_NAME\" = ? AND \"PRINCIPAL_TYPE\" = ?";
    let values: [Value; 3] = [role.into(), (&grant.principal.name).into(), kind_word(grant.principal.kind).into()];
    writer.reader.connection.execute(sql, &values).await?;
    Ok(())
}

/// GRANT_OPTION is a number everywhere.
fn grant_option(given: bool) -> i64 {
    i64::from(given)
}

/// Where a privilege is kept: the table, the owner's id and the column.
struct Spot<'a> {
    kept: &'static Privileges,
    owner: i64,
    column: Option<&'a str>,
}

/// Where privileges on an object are kept; nowhere, if the object is not there.
async fn spot<'a>(writer: &mut Writer<'_>, object: &'a GrantObject) -> Result<Option<Spot<'a>>> {
    let (kept, owner, column) = match object {
        GrantObject::Global => (&GLOBAL, Some(0), None),
        GrantObject::Database { database } => (&DATABASE, writer.reader.database_id(database).await?, None),
        GrantObject::Table { table } => (&TABLE, table_id(writer, table).await?, None),
        GrantObject::Column { table, column } => (&TABLE_COLUMN, table_id(writer, table).await?, Some(column)),
        GrantObject::Partition { table, partition } => {
            (&PARTITION, partition_id(writer, table, partition).await?, None)
        }
        GrantObject::PartitionColumn { table, partition, column } => {
            (&PARTITION_COLUMN, partition_id(writer, table, partition).await?, Some(column))
        }
    };
    Ok(owner.map(|owner| Spot { kept, owner, column: column.map(String::as_str) }))
}

async fn table_id(writer: &mut Writer<'_>, table: &TableName) -> Result<Option<i64>> {
    Ok(writer.shape(table).await?.map(|shape| shape.id))
}

async fn partition_id(writer: &mut Writer<'_>, table: &TableName, partition: &PartitionName) -> Result<Option<i64>> {
    let found = partitions::ids(writer.reader, table, std::slice::from_ref(partition)).await?;
    Ok(found.into_keys().next())
}

pub(super) async fn put(writer: &mut Writer<'_>, grant: &Grant) -> Result<()> {
    let object = || format!("privilege {} of {} on {}", grant.privilege, grant.principal.name, on(&grant.object));
    let schema = Arc::clone(&writer.reader.schema);
    let Some(spot) = spot(writer, &grant.object).await? else {
        return Err(conflict("put", object(), "the object is not there".to_owned()));
    };
    remove(writer, &spot, grant).await?;
    let id = writer.ids.take(sequence(&grant.object))?;
    let mut cells = vec![
        cell(spot.kept.key, id),
        cell("CREATE_TIME", grant.create_time),
        cell("GRANT_OPTION", grant_option(grant.grant_option)),
        cell("GRANTOR", grant.grantor.as_ref().map(|grantor| &grantor.name)),
        cell("GRANTOR_TYPE", grant.grantor.as_ref().map(|grantor| kind_word(grantor.kind))),
        cell("PRINCIPAL_NAME", &grant.principal.name),
        cell("PRINCIPAL_TYPE", kind_word(grant.principal.kind)),
        cell(spot.kept.privilege, &grant.privilege),
        cell_if("AUTHORIZER", &grant.authorizer, grant.authorizer.is_none()),
    ];
    cells.extend(spot.kept.owner.map(|owner| cell(owner, spot.owner)));
    cells.extend(spot.column.map(|column| cell("COLUMN_NAME", column)));
    let mut rows = Rows::new(spot.kept.table);
    rows.push(&schema, &object, cells)?;
    rows.insert(&mut writer.reader.connection, &schema).await
}

/// What a privilege is on, for messages.
fn on(object: &GrantObject) -> String {
    match object {
        GrantObject::Global => "everything".to_owned(),
        GrantObject::Database { database } => format!("database {database}"),
        GrantObject::Table { table } => format!("table {table}"),
        GrantObject::Column { table, column } => format!("column {column} of {table}"),
        GrantObject::Partition { table, partition } => format!("partition {partition} of {table}"),
        GrantObject::PartitionColumn { table, partition, column } => {
            format!("column {column} of partition {partition} of {table}")
        }
    }
}

pub(super) async fn drop(writer: &mut Writer<'_>, grant: &Grant) -> Result<()> {
    match spot(writer, &grant.object).await? {
        None => Ok(()),
        Some(spot) => remove(writer, &spot, grant).await,
    }
}

/// Removes the same privilege on the same object to the same principal by the same grantor.
async fn remove(writer: &mut Writer<'_>, spot: &Spot<'_>, grant: &Grant) -> Result<()> {
    let schema = &writer.reader.schema;
    if !schema.has_table(spot.kept.table) {
        return Ok(());
    }
    let (mut which, mut values): (Vec<String>, Vec<Value>) = (Vec::new(), Vec::new());
    let mut is = |column: &str, value: Value| match value {
        Value::Null => which.push(format!("\"{column}\" IS NULL")),
        value => {
            which.push(format!("\"{column}\" = ?"));
            values.push(value);
        }
    };
    is(spot.kept.privilege, (&grant.privilege).into());
    is("PRINCIPAL_NAME", (&grant.principal.name).into());
    is("PRINCIPAL_TYPE", kind_word(grant.principal.kind).into());
    let grantor = |part: fn(&Principal) -> Value| grant.grantor.as_ref().map_or(Value::Null, part);
    is("GRANTOR", grantor(|grantor| (&grantor.name).into()));
    is("GRANTOR_TYPE", grantor(|grantor| kind_word(grantor.kind).into()));
    if schema.has(spot.kept.table, "AUTHORIZER") {
        is("AUTHORIZER", (&grant.authorizer).into());
    }
    if let Some(owner) = spot.kept.owner {
        is(owner, spot.owner.into());
    }
    if let Some(column) = spot.column {
        is("COLUMN_NAME", column.into());
    }
    let sql = format!("DELETE FROM \"{}\" WHERE {}", spot.kept.table, which.join(" AND "));
    writer.reader.connection.execute(&sql, &values).await?;
    Ok(())
}
