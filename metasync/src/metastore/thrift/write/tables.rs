//! Tables: put, rename, drop.

use super::{environment, gone, missing, named, written};
use crate::location::same_place;
use crate::metastore::thrift::convert;
use crate::metastore::thrift::read::{IDENTIFIER, ThriftSnapshot, capabilities};
use crate::metastore::{Error, Result, Version};
use crate::model::{ColumnStatistics, Table, TableName};
use crate::volatile::is_volatile;
use hms::{api, calls};

/// Marks a managed table that is external while it is renamed; its value is that of the parameter `EXTERNAL` before.
const RENAMING: &str = "understudy.renaming";
const EXTERNAL: &str = "EXTERNAL";
const MANAGED_TABLE: &str = "MANAGED_TABLE";

/// Whether two tables differ only in what a server sets by itself, or reads back otherwise.
fn same(found: &Table, wanted: &Table) -> bool {
    let plain = |table: &Table| {
        let mut table = table.clone();
        (table.create_time, table.last_access_time) = (0, 0);
        table.parameters.retain(|key, _| !is_volatile(key) || !key.starts_with("transient_"));
        table
    };
    plain(found) == plain(wanted)
}

impl ThriftSnapshot {
    pub(super) async fn put_table(&self, table: &Table) -> Result<()> {
        let object = format!("table {}", table.name);
        self.in_catalog(&object, &table.name.catalog)?;
        let wanted = written(self, &object, convert::to_table(table))?;
        match self.table(&table.name).await? {
            Some(found) if same(&found, table) => return Ok(()),
            Some(found) => {
                if keys(&found) != keys(table) {
                    return Err(Error::Conflict {
                        operation: "put".to_owned(),
                        object,
                        why: "its partition keys differ: it has to be dropped first".to_owned(),
                    });
                }
                self.alter_keeping(&found, &found.name, wanted).await?;
            }
            None => self.create_table(&object, wanted).await?,
        }
        let found = self.table(&table.name).await?.ok_or_else(|| missing("put", object.clone()))?;
        if !same(&found, table) {
            // Servers add statistics and words of their own when a table is made; told once more, they leave it.
            let wanted = written(self, &object, convert::to_table(table))?;
            self.alter_table(&table.name, wanted).await?;
        }
        self.check_location(table).await
    }

    async fn check_location(&self, table: &Table) -> Result<()> {
        let object = format!("table {}", table.name);
        let found = self.table(&table.name).await?.ok_or_else(|| missing("put", object.clone()))?;
        let same = same_place(found.storage.location.as_deref(), table.storage.location.as_deref());
        if !same && table.storage.location.is_some() {
            let why = format!("the server put it at {}", found.storage.location.unwrap_or_default());
            return Err(self.cannot(&object, &why));
        }
        Ok(())
    }

    async fn create_table(&self, object: &str, wanted: api::Table) -> Result<()> {
        if self.version < Version::V4_0 {
            let (tbl, environment_context) = (Some(wanted), environment());
            return self
                .client
                .put(object, &calls::CreateTableWithEnvironmentContext { tbl, environment_context })
                .await;
        }
        let request = api::CreateTableRequest {
            table: Some(wanted),
            env_context: environment(),
            processor_capabilities: capabilities(),
            processor_identifier: Some(IDENTIFIER.to_owned()),
            ..Default::default()
        };
        self.client.put(object, &calls::CreateTableReq { request: Some(request) }).await
    }

    /// An alter by itself: the server may drop statistics of columns that changed.
    pub(super) async fn alter_table(&self, name: &TableName, wanted: api::Table) -> Result<()> {
        let object = format!("table {name}");
        if self.version < Version::V4_0 {
            let (dbname, tbl_name) = named(name);
            let environment_context = environment();
            let call = calls::AlterTableWithEnvironmentContext {
                dbname,
                tbl_name,
                new_tbl: Some(wanted),
                environment_context,
            };
            return self.client.put(&object, &call).await;
        }
        let req = api::AlterTableRequest {
            cat_name: Some(name.catalog.clone()),
            db_name: Some(name.database.clone()),
            table_name: Some(name.table.clone()),
            table: Some(wanted),
            environment_context: environment(),
            processor_capabilities: capabilities(),
            processor_identifier: Some(IDENTIFIER.to_owned()),
            ..Default::default()
        };
        self.client.put(&object, &calls::AlterTableReq { req: Some(req) }).await.map(|_| ())
    }

    /// An alter after which the table, called `now`, has the column statistics that it had, as far as it has the columns.
    async fn alter_keeping(&self, before: &Table, now: &TableName, wanted: api::Table) -> Result<()> {
        let statistics = self.read_table_statistics(before).await?;
        self.alter_table(&before.name, wanted).await?;
        if statistics.is_empty() {
            return Ok(());
        }
        let after = self.table(now).await?.ok_or_else(|| missing("alter", format!("table {now}")))?;
        let left = self.read_table_statistics(&after).await?;
        let is_lost = |found: &ColumnStatistics| {
            let known = |other: &ColumnStatistics| (&other.engine, &other.column) == (&found.engine, &found.column);
            let mut columns = after.storage.columns.iter();
            !left.iter().any(known)
                && columns.any(|column| column.name == found.column && column.type_name == found.type_name)
        };
        let lost: Vec<ColumnStatistics> = statistics.into_iter().filter(is_lost).collect();
        if lost.is_empty() { Ok(()) } else { self.put_table_statistics(now, &lost).await }
    }

    /// A server moves the folder of a managed table that is renamed. So it is external while that happens, under a mark by
    /// which a rename that a crash cut short is finished. A transactional table cannot be external, and is refused.
    pub(super) async fn rename_table(&self, from: &TableName, to: &TableName) -> Result<()> {
        let object = format!("table {from} to {to}");
        let conflict =
            |why: &str| Error::Conflict { operation: "rename".to_owned(), object: object.clone(), why: why.to_owned() };
        let renamed = match (self.table(from).await?, self.table(to).await?) {
            (None, None) => return Err(conflict("neither is there")),
            (Some(_), Some(_)) => return Err(conflict("both are there")),
            (None, Some(target)) => target,
            (Some(mut source), None) => {
                if source.table_type.as_deref() == Some(MANAGED_TABLE) {
                    if is_transactional(&source) {
                        return Err(conflict("the server would move the folder of a transactional table"));
                    }
                    make_external(&mut source);
                    self.alter_table(from, written(self, &object, convert::to_table(&source))?).await?;
                }
                let renamed = Table { name: to.clone(), ..source.clone() };
                let wanted = written(self, &object, convert::to_table(&renamed))?;
                self.alter_keeping(&source, to, wanted).await?;
                let found = self.table(to).await?.ok_or_else(|| conflict("it is not there afterwards"))?;
                if !same_place(found.storage.location.as_deref(), source.storage.location.as_deref()) {
                    let why = format!("the server moved it to {}", found.storage.location.unwrap_or_default());
                    return Err(conflict(&why));
                }
                found
            }
        };
        let mut restored = renamed;
        if !restore_managed(&mut restored) {
            return Ok(());
        }
        self.alter_table(to, written(self, &object, convert::to_table(&restored))?).await?;
        self.check_location(&restored).await
    }

    pub(super) async fn drop_table(&self, name: &TableName) -> Result<()> {
        let object = format!("table {name}");
        let (dbname, table) = named(name);
        let call = calls::DropTableWithEnvironmentContext {
            dbname,
            name: table,
            delete_data: Some(false),
            environment_context: environment(),
        };
        self.client.put_or(&object, &call, |thrown| gone(thrown.kind)).await
    }
}

fn is_transactional(table: &Table) -> bool {
    table.parameters.get("transactional").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn make_external(table: &mut Table) {
    let before = table.parameters.insert(EXTERNAL.to_owned(), "TRUE".to_owned());
    table.parameters.insert(RENAMING.to_owned(), before.unwrap_or_default());
    table.table_type = Some("EXTERNAL_TABLE".to_owned());
}

/// Whether the table was external only for a rename; then it is managed again.
fn restore_managed(table: &mut Table) -> bool {
    let Some(before) = table.parameters.remove(RENAMING) else { return false };
    match before.is_empty() {
        true => table.parameters.remove(EXTERNAL),
        false => table.parameters.insert(EXTERNAL.to_owned(), before),
    };
    table.table_type = Some(MANAGED_TABLE.to_owned());
    true
}

fn keys(table: &Table) -> Vec<(&str, &str)> {
    table.partition_keys.iter().map(|key| (key.name.as_str(), key.type_name.as_str())).collect()
}
