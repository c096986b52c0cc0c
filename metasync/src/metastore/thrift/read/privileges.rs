//! Roles, who is in them, and privileges.

use super::{ThriftSnapshot, V3_0, read};
use crate::metastore::thrift::convert::{self, to_principal_type};
use crate::metastore::{GrantScope, Result};
use crate::model::{DatabaseName, Grant, GrantObject, Role, RoleGrant, TableName};
use hms::{api, calls};
use std::collections::{BTreeMap, HashSet};

/// Everybody is in this role without being granted it; servers refuse to list its members.
const PUBLIC: &str = "public";

impl ThriftSnapshot {
    async fn role_names(&self) -> Result<Vec<String>> {
        let mut names = self.client.get("roles", &calls::GetRoleNames {}).await?;
        names.sort();
        Ok(names)
    }

    /// There is no call for a role by its name: when it was made and by whom is said only of somebody's roles. So a role that
    /// nobody is in has neither.
    pub(super) async fn read_roles(&self) -> Result<Vec<Role>> {
        let bare = |name: String| (name.clone(), Role { name, create_time: 0, owner: None });
        let mut roles: BTreeMap<String, Role> = self.role_names().await?.into_iter().map(bare).collect();
        let mut members: BTreeMap<String, _> = BTreeMap::new();
        for grant in self.read_role_grants().await? {
            members.entry(grant.role).or_insert(grant.principal);
        }
        let asked: HashSet<_> = members.into_values().collect();
        let found = self.each(asked.into_iter().collect(), |member| async move {
            let principal_type = Some(to_principal_type(member.kind));
            let object = format!("roles of {}", member.name);
            let call = calls::ListRoles { principal_name: Some(member.name), principal_type };
            let roles = self.client.get(&object, &call).await?;
            roles.into_iter().map(|role| read(&object, convert::from_role(role))).collect::<Result<Vec<_>>>()
        });
        for role in found.await?.into_iter().flatten() {
            if let Some(known) = roles.get_mut(&role.name) {
                *known = role;
            }
        }
        Ok(roles.into_values().collect())
    }

    pub(super) async fn read_role_grants(&self) -> Result<Vec<RoleGrant>> {
        let names = self.role_names().await?.into_iter().filter(|name| name != PUBLIC).collect();
        let found = self.each(names, |role| async move {
            let object = format!("role {role}");
            let request = api::GetPrincipalsInRoleRequest { role_name: Some(role.clone()), ..Default::default() };
            let call = calls::GetPrincipalsInRole { request: Some(request) };
            let found = self.client.find(&object, &call).await?.and_then(|found| found.principal_grants);
            let grants = found.unwrap_or_default().into_iter();
            grants.map(|grant| read(&object, convert::from_role_grant(&role, grant))).collect::<Result<Vec<_>>>()
        });
        let mut grants: Vec<RoleGrant> = found.await?.into_iter().flatten().collect();
        grants.sort();
        Ok(grants)
    }

    /// The privileges of everybody on `object`; on everything of its kind where it names nothing.
    async fn privileges(&self, what: &str, object: api::HiveObjectRef) -> Result<Vec<api::HiveObjectPrivilege>> {
        let call = calls::ListPrivileges { principal_name: None, principal_type: None, hive_object: Some(object) };
        Ok(self.client.find(&format!("privileges on {what}"), &call).await?.unwrap_or_default())
    }

    pub(super) async fn read_grants(&self, on: GrantScope<'_>) -> Result<Vec<Grant>> {
        let mut grants = match on {
            GrantScope::Global => {
                let all = api::HiveObjectRef { object_type: Some(api::HiveObjectType::GLOBAL), ..Default::default() };
                converted("everything", self.privileges("everything", all).await?, &[])?
            }
            GrantScope::Database(name) => {
                let object = self.object(api::HiveObjectType::DATABASE, name, None);
                converted(&format!("{name}"), self.privileges(&format!("{name}"), object).await?, &[])?
            }
            GrantScope::Tables(database, names) => self.table_grants(database, names).await?,
            GrantScope::Partitions(table, names) => {
                // One call for all partitions and their columns: one for each of them would be too many.
                let keys: Vec<String> = table.partition_keys.iter().map(|key| key.name.clone()).collect();
                let what = format!("partitions of {}", table.name);
                let found = self.privileges(&what, api::HiveObjectRef::default()).await?;
                let of_table = |found: &api::HiveObjectPrivilege| {
                    found.hive_object.as_ref().is_some_and(|object| {
                        let values = object.part_values.as_ref().is_some_and(|values| !values.is_empty());
                        values && names_table(object, &table.name)
                    })
                };
                let grants = converted(&what, found.into_iter().filter(of_table).collect(), &keys)?;
                let wanted: HashSet<_> = names.iter().collect();
                let is_wanted = |grant: &Grant| grant.object.partition().is_some_and(|name| wanted.contains(name));
                grants.into_iter().filter(is_wanted).collect()
            }
        };
        grants.sort();
        Ok(grants)
    }

    async fn table_grants(&self, database: &DatabaseName, names: &[String]) -> Result<Vec<Grant>> {
        let found = self.each(names.to_vec(), |name| async move {
            let what = format!("{database}.{name}");
            let object = self.object(api::HiveObjectType::TABLE, database, Some(&name));
            converted(&what, self.privileges(&what, object).await?, &[])
        });
        let mut grants: Vec<Grant> = found.await?.into_iter().flatten().collect();
        let columns = self.column_grants.get_or_try_init(|| async {
            let all = api::HiveObjectRef { object_type: Some(api::HiveObjectType::COLUMN), ..Default::default() };
            self.privileges("columns", all).await
        });
        let wanted: HashSet<TableName> = names.iter().map(|name| database.table(name)).collect();
        let columns = converted("columns", columns.await?.clone(), &[])?;
        let is_wanted = |grant: &Grant| match &grant.object {
            GrantObject::Column { table, .. } => wanted.contains(table),
            _ => false,
        };
        grants.extend(columns.into_iter().filter(is_wanted));
        Ok(grants)
    }

    fn object(&self, kind: api::HiveObjectType, database: &DatabaseName, table: Option<&str>) -> api::HiveObjectRef {
        api::HiveObjectRef {
            object_type: Some(kind),
            db_name: Some(database.database.clone()),
            object_name: table.map(str::to_owned),
            cat_name: (self.version >= V3_0).then(|| database.catalog.clone()),
            ..Default::default()
        }
    }
}

fn converted(what: &str, found: Vec<api::HiveObjectPrivilege>, keys: &[String]) -> Result<Vec<Grant>> {
    let what = format!("privileges on {what}");
    found.into_iter().map(|found| read(&what, convert::from_grant(found, keys))).collect()
}

fn names_table(object: &api::HiveObjectRef, table: &TableName) -> bool {
    let catalog = object.cat_name.as_ref().is_none_or(|catalog| *catalog == table.catalog);
    catalog && object.db_name.as_ref() == Some(&table.database) && object.object_name.as_ref() == Some(&table.table)
}
