//! Roles, memberships and privileges.

use super::Reader;
use super::children::{IDS_PER_STATEMENT, principal};
use super::{partitions, tables};
use crate::metastore::sql::dialect::id_list;
use crate::metastore::sql::value::Row;
use crate::metastore::{GrantScope, Result};
use crate::model::{Grant, GrantObject, Principal, PrincipalKind, Role, RoleGrant, TableName};
use std::collections::HashMap;

pub(super) async fn roles(reader: &mut Reader) -> Result<Vec<Role>> {
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("ROLES") {
        return Ok(Vec::new());
    }
    let sql = "SELECT \"ROLE_NAME\", \"CREATE_TIME\", \"OWNER_NAME\" FROM \"ROLES\"";
    let mut roles = Vec::new();
    for mut row in connection.query(sql, &[]).await? {
        roles.push(Role { name: row.string(0)?, create_time: row.int32(1)?, owner: row.text(2)? });
    }
    roles.sort();
    Ok(roles)
}

pub(super) async fn role_grants(reader: &mut Reader) -> Result<Vec<RoleGrant>> {
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("ROLE_MAP") || !schema.has_table("ROLES") {
        return Ok(Vec::new());
    }
    let sql = "SELECT r.\"ROLE_NAME\", m.\"PRINCIPAL_NAME\", m.\"PRINCIPAL_TYPE\", m.\"GRANT_OPTION\", m.\"GRANTOR\", \
               m.\"GRANTOR_TYPE\", m.\"ADD_TIME\" FROM \"ROLE_MAP\" m JOIN \"ROLES\" r ON r.\"ROLE_ID\" = m.\"ROLE_ID\"";
    let mut grants = Vec::new();
    for mut row in connection.query(sql, &[]).await? {
        let (kind, grantor_kind) = (row.text(2)?, row.text(5)?);
        grants.push(RoleGrant {
            role: row.string(0)?,
            principal: somebody(row.text(1)?, kind.as_deref()),
            grant_option: row.bool(3)?,
            grantor: principal(row.text(4)?, grantor_kind.as_deref()),
            grant_time: row.int32(6)?,
        });
    }
    grants.sort();
    Ok(grants)
}

fn somebody(name: Option<String>, kind: Option<&str>) -> Principal {
    principal(name, kind).unwrap_or(Principal { name: String::new(), kind: PrincipalKind::User })
}

/// A table of privileges: its key, the id of what they are on, and the column of the privilege.
pub(crate) struct Privileges {
    pub(crate) table: &'static str,
    pub(crate) key: &'static str,
    pub(crate) owner: Option<&'static str>,
    pub(crate) privilege: &'static str,
    pub(crate) of_columns: bool,
}

pub(crate) const GLOBAL: Privileges =
    Privileges { table: "GLOBAL_PRIVS", key: "USER_GRANT_ID", owner: None, privilege: "USER_PRIV", of_columns: false };

pub(crate) const DATABASE: Privileges =
    Privileges { table: "DB_PRIVS", key: "DB_GRANT_ID", owner: Some("DB_ID"), privilege: "DB_PRIV", of_columns: false };

pub(crate) const TABLE: Privileges = Privileges {
    table: "TBL_PRIVS",
    key: "TBL_GRANT_ID",
    owner: Some("TBL_ID"),
    privilege: "TBL_PRIV",
    of_columns: false,
};

pub(crate) const TABLE_COLUMN: Privileges = Privileges {
    table: "TBL_COL_PRIVS",
    key: "TBL_COLUMN_GRANT_ID",
    owner: Some("TBL_ID"),
    privilege: "TBL_COL_PRIV",
    of_columns: true,
};

pub(crate) const PARTITION: Privileges = Privileges {
    table: "PART_PRIVS",
    key: "PART_GRANT_ID",
    owner: Some("PART_ID"),
    privilege: "PART_PRIV",
    of_columns: false,
};

pub(crate) const PARTITION_COLUMN: Privileges = Privileges {
    table: "PART_COL_PRIVS",
    key: "PART_COLUMN_GRANT_ID",
    owner: Some("PART_ID"),
    privilege: "PART_COL_PRIV",
    of_columns: true,
};

impl Privileges {
    /// Grants on the owners with these ids; `object` makes what they are on of the owner's id and the column.
    async fn of(
        &self,
        reader: &mut Reader,
        owners: &[i64],
        object: &(dyn Fn(i64, Option<String>) -> Option<GrantObject> + Sync),
        grants: &mut Vec<Grant>,
    ) -> Result<()> {
        let Reader { connection, schema, .. } = reader;
        if !schema.has_table(self.table) {
            return Ok(());
        }
        let column = if self.of_columns { "COLUMN_NAME" } else { "" };
        let columns = [
            self.owner.unwrap_or_default(),
            column,
            self.privilege,
            "PRINCIPAL_NAME",
            "PRINCIPAL_TYPE",
            "GRANT_OPTION",
            "GRANTOR",
            "GRANTOR_TYPE",
            "CREATE_TIME",
            "AUTHORIZER",
        ];
        let select = schema.select(self.table, "p", &columns);
        for owners in owners.chunks(IDS_PER_STATEMENT) {
            let which =
                self.owner.map_or(String::new(), |owner| format!(" WHERE p.\"{owner}\" IN ({})", id_list(owners)));
            let sql = format!("SELECT {select} FROM \"{}\" p{which}", self.table);
            for mut row in connection.query(&sql, &[]).await? {
                let owner = row.int(0)?.unwrap_or(0);
                let column = row.text(1)?;
                grants.extend(object(owner, column).map(|object| grant(&mut row, object)).transpose()?);
            }
        }
        Ok(())
    }
}

fn grant(row: &mut Row, object: GrantObject) -> Result<Grant> {
    let (kind, grantor_kind) = (row.text(4)?, row.text(7)?);
    Ok(Grant {
        object,
        privilege: row.string(2)?,
        principal: somebody(row.text(3)?, kind.as_deref()),
        grant_option: row.bool(5)?,
        grantor: principal(row.text(6)?, grantor_kind.as_deref()),
        create_time: row.int32(8)?,
        authorizer: row.text(9)?,
    })
}

pub(super) async fn grants(reader: &mut Reader, on: GrantScope<'_>) -> Result<Vec<Grant>> {
    let mut grants = Vec::new();
    match on {
        GrantScope::Global => {
            GLOBAL.of(reader, &[0], &|_, _| Some(GrantObject::Global), &mut grants).await?;
        }
        GrantScope::Database(database) => {
            if let Some(id) = reader.database_id(database).await? {
                let object = |_, _| Some(GrantObject::Database { database: database.clone() });
                DATABASE.of(reader, &[id], &object, &mut grants).await?;
            }
        }
        GrantScope::Tables(database, names) => {
            let tables: HashMap<i64, TableName> = tables::ids(reader, database, names)
                .await?
                .into_iter()
                .map(|(id, name)| (id, database.table(&name)))
                .collect();
            let ids: Vec<i64> = tables.keys().copied().collect();
            let whole = |id, _| tables.get(&id).map(|table| GrantObject::Table { table: table.clone() });
            TABLE.of(reader, &ids, &whole, &mut grants).await?;
            let column = |id, column: Option<String>| {
                let column = column.unwrap_or_default();
                tables.get(&id).map(|table| GrantObject::Column { table: table.clone(), column })
            };
            TABLE_COLUMN.of(reader, &ids, &column, &mut grants).await?;
        }
        GrantScope::Partitions(table, names) => {
            let table = &table.name;
            let partitions = partitions::ids(reader, table, names).await?;
            let ids: Vec<i64> = partitions.keys().copied().collect();
            let whole = |id, _| {
                let partition = partitions.get(&id)?.clone();
                Some(GrantObject::Partition { table: table.clone(), partition })
            };
            PARTITION.of(reader, &ids, &whole, &mut grants).await?;
            let column = |id, column: Option<String>| {
                let (partition, column) = (partitions.get(&id)?.clone(), column.unwrap_or_default());
                Some(GrantObject::PartitionColumn { table: table.clone(), partition, column })
            };
            PARTITION_COLUMN.of(reader, &ids, &column, &mut grants).await?;
        }
    }
    grants.sort();
    Ok(grants)
}
