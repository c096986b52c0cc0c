//! Constraints, functions, roles and privileges: put, drop.

use super::{gone, qualified, written};
use crate::metastore::thrift::convert::{self, to_principal_type};
use crate::metastore::thrift::read::{ThriftSnapshot, V3_0};
use crate::metastore::{GrantScope, Result, Snapshot as _, Version};
use crate::model::{
    Constraint, ConstraintKind, DatabaseName, Function, Grant, GrantObject, Role, RoleGrant, TableName,
};
use hms::{api, calls};

/// Roles that every metastore has by itself.
const OWN_ROLES: [&str; 2] = ["admin", "public"];

impl ThriftSnapshot {
    pub(super) async fn put_constraint(&self, wanted: &Constraint) -> Result<()> {
        let object = format!("constraint {} on {}", wanted.name, wanted.table);
        self.in_catalog(&object, &wanted.table.catalog)?;
        let there = self.read_constraints(&wanted.table).await?;
        match there.iter().find(|found| found.name == wanted.name) {
            Some(found) if found == wanted => return Ok(()),
            Some(_) => self.drop_constraint(&wanted.table, &wanted.name).await?,
            None => {}
        }
        self.add_constraint(&object, wanted).await
    }

    async fn add_constraint(&self, object: &str, wanted: &Constraint) -> Result<()> {
        let client = &self.client;
        let needed = match &wanted.kind {
            ConstraintKind::PrimaryKey { .. } | ConstraintKind::ForeignKey { .. } => Version::V2_3,
            ConstraintKind::Unique { .. } | ConstraintKind::NotNull { .. } => V3_0,
            ConstraintKind::Default { .. } | ConstraintKind::Check { .. } => Version::V3_1,
        };
        if self.version < needed {
            return Err(self.cannot(object, &format!("constraints of this kind came with {needed}")));
        }
        match &wanted.kind {
            ConstraintKind::PrimaryKey { columns } => {
                let primary_key_cols = Some(convert::primary_key_rows(wanted, columns));
                let req = Some(api::AddPrimaryKeyRequest { primary_key_cols, ..Default::default() });
                client.put(object, &calls::AddPrimaryKey { req }).await
            }
            ConstraintKind::ForeignKey { .. } => {
                let foreign_key_cols = Some(convert::foreign_key_rows(wanted));
                let req = Some(api::AddForeignKeyRequest { foreign_key_cols, ..Default::default() });
                client.put(object, &calls::AddForeignKey { req }).await
            }
            ConstraintKind::Unique { columns } => {
                let unique_constraint_cols = Some(convert::unique_rows(wanted, columns));
                let req = Some(api::AddUniqueConstraintRequest { unique_constraint_cols, ..Default::default() });
                client.put(object, &calls::AddUniqueConstraint { req }).await
            }
            ConstraintKind::NotNull { column } => {
                let not_null_constraint_cols = Some(convert::not_null_rows(wanted, column));
                let req = Some(api::AddNotNullConstraintRequest { not_null_constraint_cols, ..Default::default() });
                client.put(object, &calls::AddNotNullConstraint { req }).await
            }
            ConstraintKind::Default { column, value } => {
                let default_constraint_cols = Some(convert::default_rows(wanted, column, value));
                let req = Some(api::AddDefaultConstraintRequest { default_constraint_cols, ..Default::default() });
                client.put(object, &calls::AddDefaultConstraint { req }).await
            }
            ConstraintKind::Check { column, expression } => {
                let check_constraint_cols = Some(convert::check_rows(wanted, column.as_deref(), expression));
                let req = Some(api::AddCheckConstraintRequest { check_constraint_cols, ..Default::default() });
                client.put(object, &calls::AddCheckConstraint { req }).await
            }
        }
    }

    pub(super) async fn drop_constraint(&self, table: &TableName, name: &str) -> Result<()> {
        let object = format!("constraint {name} on {table}");
        if self.table(table).await?.is_none() || !self.read_constraints(table).await?.iter().any(|it| it.name == name) {
            return Ok(());
        }
        let req = api::DropConstraintRequest {
            dbname: Some(table.database.clone()),
            tablename: Some(table.table.clone()),
            constraintname: Some(name.to_owned()),
            cat_name: (self.version >= V3_0).then(|| table.catalog.clone()),
            ..Default::default()
        };
        self.client.put_or(&object, &calls::DropConstraint { req: Some(req) }, |thrown| gone(thrown.kind)).await
    }

    pub(super) async fn put_function(&self, function: &Function) -> Result<()> {
        let object = format!("function {}.{}", function.database, function.name);
        self.in_catalog(&object, &function.database.catalog)?;
        let wanted = written(self, &object, convert::to_function(function))?;
        match self.function(&function.database, &function.name).await? {
            Some(found) if Function { create_time: function.create_time, ..found.clone() } == *function => Ok(()),
            Some(_) => {
                let (db_name, func_name) = (qualified(&function.database), Some(function.name.clone()));
                self.client.put(&object, &calls::AlterFunction { db_name, func_name, new_func: Some(wanted) }).await
            }
            None => self.client.put(&object, &calls::CreateFunction { func: Some(wanted) }).await,
        }
    }

    pub(super) async fn drop_function(&self, database: &DatabaseName, name: &str) -> Result<()> {
        let call = calls::DropFunction { db_name: qualified(database), func_name: Some(name.to_owned()) };
        self.client.put_or(&format!("function {database}.{name}"), &call, |thrown| gone(thrown.kind)).await
    }

    async fn role_is_there(&self, name: &str) -> Result<bool> {
        let names = self.client.get("roles", &calls::GetRoleNames {}).await?;
        Ok(names.iter().any(|found| found == name))
    }

    /// Who made a role cannot be changed once it is there.
    pub(super) async fn put_role(&self, role: &Role) -> Result<()> {
        if OWN_ROLES.contains(&role.name.as_str()) || self.role_is_there(&role.name).await? {
            return Ok(());
        }
        let wanted = api::Role {
            role_name: Some(role.name.clone()),
            create_time: Some(role.create_time),
            owner_name: role.owner.clone(),
            ..Default::default()
        };
        self.client.put(&format!("role {}", role.name), &calls::CreateRole { role: Some(wanted) }).await.map(|_| ())
    }

    pub(super) async fn drop_role(&self, name: &str) -> Result<()> {
        if OWN_ROLES.contains(&name) || !self.role_is_there(name).await? {
            return Ok(());
        }
        let call = calls::DropRole { role_name: Some(name.to_owned()) };
        self.client.put_or(&format!("role {name}"), &call, |thrown| gone(thrown.kind).map(|()| true)).await.map(|_| ())
    }

    async fn grant_role(&self, kind: api::GrantRevokeType, grant: &RoleGrant) -> Result<()> {
        let request = api::GrantRevokeRoleRequest {
            request_type: Some(kind),
            role_name: Some(grant.role.clone()),
            principal_name: Some(grant.principal.name.clone()),
            principal_type: Some(to_principal_type(grant.principal.kind)),
            grantor: grant.grantor.as_ref().map(|grantor| grantor.name.clone()),
            grantor_type: grant.grantor.as_ref().map(|grantor| to_principal_type(grantor.kind)),
            grant_option: Some(grant.grant_option && kind == api::GrantRevokeType::GRANT),
            ..Default::default()
        };
        let object = format!("role {} of {}", grant.role, grant.principal.name);
        self.client.put(&object, &calls::GrantRevokeRole { request: Some(request) }).await.map(|_| ())
    }

    async fn role_grant(&self, wanted: &RoleGrant) -> Result<Option<RoleGrant>> {
        let there = self.role_grants().await?;
        Ok(there.into_iter().find(|found| found.role == wanted.role && found.principal == wanted.principal))
    }

    pub(super) async fn put_role_grant(&self, wanted: &RoleGrant) -> Result<()> {
        match self.role_grant(wanted).await? {
            Some(found) if RoleGrant { grant_time: wanted.grant_time, ..found.clone() } == *wanted => return Ok(()),
            Some(found) => self.grant_role(api::GrantRevokeType::REVOKE, &found).await?,
            None => {}
        }
        self.grant_role(api::GrantRevokeType::GRANT, wanted).await
    }

    pub(super) async fn drop_role_grant(&self, wanted: &RoleGrant) -> Result<()> {
        match self.role_grant(wanted).await? {
            Some(found) => self.grant_role(api::GrantRevokeType::REVOKE, &found).await,
            None => Ok(()),
        }
    }

    /// The privilege on the same object to the same principal by the same grantor.
    async fn grant_there(&self, wanted: &Grant) -> Result<Option<Grant>> {
        let there = match &wanted.object {
            GrantObject::Global => self.grants(GrantScope::Global).await?,
            GrantObject::Database { database } => self.grants(GrantScope::Database(database)).await?,
            GrantObject::Table { table } | GrantObject::Column { table, .. } => {
                // A look of its own: what this one remembers of columns is older than the change.
                let look = Self::new(std::sync::Arc::clone(&self.client), self.version);
                look.grants(GrantScope::Tables(&table.database(), std::slice::from_ref(&table.table))).await?
            }
            GrantObject::Partition { table, partition } | GrantObject::PartitionColumn { table, partition, .. } => {
                match self.table(table).await? {
                    Some(table) => self.grants(GrantScope::Partitions(&table, std::slice::from_ref(partition))).await?,
                    None => Vec::new(),
                }
            }
        };
        let is_same = |found: &Grant| {
            (&found.object, &found.principal, &found.grantor) == (&wanted.object, &wanted.principal, &wanted.grantor)
                && found.privilege.eq_ignore_ascii_case(&wanted.privilege)
        };
        Ok(there.into_iter().find(is_same))
    }

    async fn grant_or_revoke(&self, kind: api::GrantRevokeType, grant: &Grant) -> Result<()> {
        let object = format!("privilege {} of {}", grant.privilege, grant.principal.name);
        let mut privilege = written(self, &object, convert::to_grant(grant))?;
        if let Some(found) = privilege.hive_object.as_mut().filter(|_| self.version < V3_0) {
            found.cat_name = None;
        }
        let privileges = api::PrivilegeBag { privileges: Some(vec![privilege]), ..Default::default() };
        let request = api::GrantRevokePrivilegeRequest {
            request_type: Some(kind),
            privileges: Some(privileges),
            revoke_grant_option: Some(false),
            ..Default::default()
        };
        self.client.put(&object, &calls::GrantRevokePrivileges { request: Some(request) }).await.map(|_| ())
    }

    pub(super) async fn put_grant(&self, wanted: &Grant) -> Result<()> {
        match self.grant_there(wanted).await? {
            Some(found) if Grant { create_time: wanted.create_time, ..found.clone() } == *wanted => return Ok(()),
            Some(found) => self.grant_or_revoke(api::GrantRevokeType::REVOKE, &found).await?,
            None => {}
        }
        self.grant_or_revoke(api::GrantRevokeType::GRANT, wanted).await
    }

    pub(super) async fn drop_grant(&self, wanted: &Grant) -> Result<()> {
        match self.grant_there(wanted).await? {
            Some(found) => self.grant_or_revoke(api::GrantRevokeType::REVOKE, &found).await,
            None => Ok(()),
        }
    }
}
