//! Writing: change after change, each by looking at what is there and making the calls that are still needed.
//!
//! So a change can be done again whatever happened to it before: after a crash, or after a connection that was lost in the
//! middle of a call, which is tried once more here. No call makes a server delete or move files (rule 30).

mod attached;
mod partitions;
mod statistics;
mod tables;

use super::convert::{self, Converted};
use super::read::{ThriftSnapshot, V3_0, qualified};
use crate::location::same_place;
use crate::metastore::{Change, Error, Result, Version};
use crate::model::{Catalog, Database, DatabaseKind, DatabaseName, HIVE_CATALOG, TableName};
use hms::{ExceptionKind, api, calls};
use std::collections::BTreeMap;

/// How often a change is tried whose connection was lost.
const TRIES: usize = 2;

pub(super) async fn apply(metastore: &ThriftSnapshot, changes: &[Change]) -> Result<()> {
    for change in changes {
        let mut tried = 1;
        loop {
            match metastore.make(change).await {
                Err(Error::Unreachable { .. }) if tried < TRIES => tried += 1,
                done => break done?,
            }
        }
    }
    Ok(())
}

/// What was converted; what Thrift has no form for cannot be held.
fn written<T>(metastore: &ThriftSnapshot, object: &str, converted: Converted<T>) -> Result<T> {
    converted.map_err(|why| Error::CannotHold { object: object.to_owned(), version: metastore.version, why })
}

/// Makes a server leave statistics as it is told.
fn environment() -> Option<api::EnvironmentContext> {
    let properties = BTreeMap::from([("DO_NOT_UPDATE_STATS".to_owned(), "true".to_owned())]);
    Some(api::EnvironmentContext { properties: Some(properties), ..Default::default() })
}

fn missing(operation: &str, object: String) -> Error {
    Error::Conflict { operation: operation.to_owned(), object, why: "it is not there".to_owned() }
}

impl ThriftSnapshot {
    async fn make(&self, change: &Change) -> Result<()> {
        match change {
            Change::PutCatalog(catalog) => self.put_catalog(catalog).await,
            Change::DropCatalog(name) => self.drop_catalog(name).await,
            Change::PutDatabase(database) => self.put_database(database).await,
            Change::DropDatabase(name) => self.drop_database(name).await,
            Change::SetDatabaseParameter { database, key, expected, value } => {
                self.set_parameter(database, key, expected.as_deref(), value.as_deref()).await
            }
            Change::PutTable(table) => self.put_table(table).await,
            Change::RenameTable { from, to } => self.rename_table(from, to).await,
            Change::DropTable(name) => self.drop_table(name).await,
            Change::PutPartitions { table, partitions } => self.put_partitions(table, partitions).await,
            Change::RenamePartition { table, from, to } => self.rename_partition(table, from, to).await,
            Change::DropPartitions { table, names } => self.drop_partitions(table, names).await,
            Change::PutConstraint(constraint) => self.put_constraint(constraint).await,
            Change::DropConstraint { table, name } => self.drop_constraint(table, name).await,
            Change::PutFunction(function) => self.put_function(function).await,
            Change::DropFunction { database, name } => self.drop_function(database, name).await,
            Change::PutTableStatistics { table, statistics } => self.put_table_statistics(table, statistics).await,
            Change::DropTableStatistics { table, column } => self.drop_table_statistics(table, column.as_deref()).await,
            Change::PutPartitionStatistics { table, statistics } => {
                self.put_partition_statistics(table, statistics).await
            }
            Change::DropPartitionStatistics { table, partition, column } => {
                self.drop_partition_statistics(table, partition, column.as_deref()).await
            }
            Change::TellEmptied { .. } => Ok(()),
            Change::PutWriteIds { table, .. } | Change::HoldCompactions { table, .. } => {
                Err(self.cannot(&format!("table {table}"), "over Thrift no server takes the ids of writes"))
            }
            Change::PutRole(role) => self.put_role(role).await,
            Change::DropRole(name) => self.drop_role(name).await,
            Change::PutRoleGrant(grant) => self.put_role_grant(grant).await,
            Change::DropRoleGrant(grant) => self.drop_role_grant(grant).await,
            Change::PutGrant(grant) => self.put_grant(grant).await,
            Change::DropGrant(grant) => self.drop_grant(grant).await,
        }
    }

    /// A change to something in this catalog: before Hive 3 there is only the default one.
    fn in_catalog(&self, object: &str, catalog: &str) -> Result<()> {
        match self.version < V3_0 && catalog != HIVE_CATALOG {
            true => Err(self.cannot(object, "a catalog other than `hive`")),
            false => Ok(()),
        }
    }

    fn cannot(&self, object: &str, why: &str) -> Error {
        Error::CannotHold { object: object.to_owned(), version: self.version, why: why.to_owned() }
    }

    async fn put_catalog(&self, catalog: &Catalog) -> Result<()> {
        let object = format!("catalog {}", catalog.name);
        self.in_catalog(&object, &catalog.name)?;
        if self.version < V3_0 {
            // The only one is what it is.
            return Ok(());
        }
        let wanted = written(self, &object, convert::to_catalog(catalog))?;
        match self.catalog(&catalog.name).await? {
            Some(found) if (&found.description, &found.location) == (&catalog.description, &catalog.location) => Ok(()),
            Some(_) => {
                let name = Some(catalog.name.clone());
                let rqst = api::AlterCatalogRequest { name, new_cat: Some(wanted), ..Default::default() };
                self.client.put(&object, &calls::AlterCatalog { rqst: Some(rqst) }).await
            }
            None => {
                let request = api::CreateCatalogRequest { catalog: Some(wanted), ..Default::default() };
                self.client.put(&object, &calls::CreateCatalog { catalog: Some(request) }).await
            }
        }
    }

    async fn drop_catalog(&self, name: &str) -> Result<()> {
        let object = format!("catalog {name}");
        if self.version < V3_0 || self.catalog(name).await?.is_none() {
            return self.in_catalog(&object, HIVE_CATALOG);
        }
        let request = api::DropCatalogRequest { name: Some(name.to_owned()), ..Default::default() };
        let call = calls::DropCatalog { cat_name: Some(request) };
        self.client.put_or(&object, &call, |thrown| gone(thrown.kind)).await
    }

    async fn put_database(&self, database: &Database) -> Result<()> {
        let object = format!("database {}", database.name);
        self.in_catalog(&object, &database.name.catalog)?;
        if self.version < Version::V4_0 && database.kind != DatabaseKind::Native {
            return Err(self.cannot(&object, "a database behind a data connector"));
        }
        let wanted = written(self, &object, convert::to_database(database))?;
        let there = self.database(&database.name).await?;
        let same = |found: &Database| {
            let mut found = Database { create_time: database.create_time, ..found.clone() };
            if same_place(found.location.as_deref(), database.location.as_deref()) {
                found.location.clone_from(&database.location);
            }
            found == *database
        };
        match &there {
            Some(found) if same(found) => return Ok(()),
            Some(_) => self.alter_database(&database.name, wanted).await?,
            None => self.client.put(&object, &calls::CreateDatabase { database: Some(wanted) }).await?,
        }
        let found = self.database(&database.name).await?.ok_or_else(|| missing("put", object.clone()))?;
        if database.location.is_some() && !same_place(found.location.as_deref(), database.location.as_deref()) {
            let why = format!(
                "the server keeps it at {}, not at {}",
                found.location.unwrap_or_default(),
                database.location.as_deref().unwrap_or_default()
            );
            return Err(self.cannot(&object, &why));
        }
        Ok(())
    }

    async fn alter_database(&self, name: &DatabaseName, wanted: api::Database) -> Result<()> {
        let call = calls::AlterDatabase { dbname: qualified(name), db: Some(wanted) };
        self.client.put(&format!("database {name}"), &call).await
    }

    async fn drop_database(&self, name: &DatabaseName) -> Result<()> {
        let object = format!("database {name}");
        if self.database(name).await?.is_none() {
            // 2.3 falls over a database that is not there.
            return Ok(());
        }
        if self.version < Version::V4_0 {
            let call = calls::DropDatabase { name: qualified(name), delete_data: Some(false), cascade: Some(false) };
            return self.client.put_or(&object, &call, |thrown| gone(thrown.kind)).await;
        }
        let req = api::DropDatabaseRequest {
            name: Some(name.database.clone()),
            catalog_name: Some(name.catalog.clone()),
            ignore_unknown_db: Some(true),
            delete_data: Some(false),
            cascade: Some(false),
            delete_managed_dir: Some(false),
            ..Default::default()
        };
        let call = calls::DropDatabaseReq { req: Some(req) };
        self.client.put_or(&object, &call, |thrown| gone(thrown.kind)).await
    }

    /// Thrift has no compare-and-set: somebody who writes between our look and our call is not seen. The lease of a job keeps
    /// out other runs of ours; the SQL adapter is exact.
    async fn set_parameter(
        &self,
        name: &DatabaseName,
        key: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<()> {
        let object = format!("parameter {key} of database {name}");
        let mut found = self.database(name).await?.ok_or_else(|| missing("set", object.clone()))?;
        let now = found.parameters.get(key).map(String::as_str);
        if now == value {
            return Ok(());
        }
        if now != expected {
            let why = format!("it is {now:?}, not {expected:?}");
            return Err(Error::Conflict { operation: "set".to_owned(), object, why });
        }
        match value {
            Some(value) => found.parameters.insert(key.to_owned(), value.to_owned()),
            None => found.parameters.remove(key),
        };
        let wanted = written(self, &object, convert::to_database(&found))?;
        self.alter_database(name, wanted).await
    }
}

/// Drops of what is not there are done.
fn gone(kind: ExceptionKind) -> Option<()> {
    (kind == ExceptionKind::NoSuchObjectException).then_some(())
}

/// The arguments that name a table in old calls.
fn named(table: &TableName) -> (Option<String>, Option<String>) {
    (qualified(&table.database()), Some(table.table.clone()))
}
