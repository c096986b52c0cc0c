//! Reading: names first, then objects by names, a chunk a call. What is asked for one object at a time is asked for several
//! at once, as many as there are connections; answers are put in order, and no more of them are held than fit a chunk.
//!
//! A Thrift metastore has no moment: what is read later may be newer.

mod attached;
mod privileges;
mod tables;

use super::client::{Answer, Client, Repeat};
use super::convert::{self, Converted};
use crate::metastore::{Batch, EventRow, GrantScope, Result, Snapshot, Version};
use crate::metastore::{Damaged, Error};
use crate::model::{
    Catalog, ColumnStatistics, Constraint, Database, DatabaseName, Function, Grant, HIVE_CATALOG,
    HIVE_CATALOG_DESCRIPTION, Partition, PartitionName, Role, RoleGrant, Table, TableName,
};
use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hms::{api, calls};
use manifest::Class;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What this client can take, by the words of Hive 4: objects as they are stored, not as they are shown to simpler clients.
pub(super) const CAPABILITIES: [&str; 14] = [
    "ACCEPTS_UNMODIFIED_METADATA",
    "MANAGE_RAW_METADATA",
    "EXTREAD",
    "EXTWRITE",
    "HIVEBUCKET2",
    "HIVEFULLACIDREAD",
    "HIVEFULLACIDWRITE",
    "HIVEMANAGEDINSERTREAD",
    "HIVEMANAGEDINSERTWRITE",
    "HIVEMANAGESTATS",
    "HIVEMQT",
    "HIVEONLYMQTWRITE",
    "HIVESQL",
    "HIVECACHEINVALIDATE",
];
/// As whom this client asks.
pub(super) const IDENTIFIER: &str = "understudy-metasync";
/// The engines whose statistics Hive 4 keeps apart; it has no call that lists them.
pub(super) const ENGINES: [&str; 2] = ["hive", "impala"];

/// The capabilities as a request has them.
pub(super) fn capabilities() -> Option<Vec<String>> {
    Some(CAPABILITIES.map(str::to_owned).to_vec())
}

/// A database's name as calls take it that have no field for the catalog.
pub(super) fn qualified(database: &DatabaseName) -> Option<String> {
    Some(match database.catalog.as_str() {
        HIVE_CATALOG => database.database.clone(),
        catalog => format!("@{catalog}#{}", database.database),
    })
}

/// A metastore open for reading.
#[derive(Debug)]
pub(super) struct ThriftSnapshot {
    pub(super) client: Arc<Client>,
    pub(super) version: Version,
    column_grants: OnceCell<Vec<api::HiveObjectPrivilege>>,
}

impl ThriftSnapshot {
    pub(super) fn new(client: Arc<Client>, version: Version) -> Self {
        Self { client, version, column_grants: OnceCell::new() }
    }

    /// Asks for each of `of`, several at a time; answers in order.
    pub(super) async fn each<I: Send, T: Send, F>(&self, of: Vec<I>, ask: impl Fn(I) -> F + Send) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T>> + Send,
    {
        stream::iter(of.into_iter().map(ask)).buffered(self.client.parallel()).try_collect().await
    }

    pub(super) async fn database(&self, name: &DatabaseName) -> Result<Option<Database>> {
        let object = format!("database {name}");
        let found = match self.version >= Version::V4_0 {
            true => {
                let request = api::GetDatabaseRequest {
                    name: Some(name.database.clone()),
                    catalog_name: Some(name.catalog.clone()),
                    processor_capabilities: capabilities(),
                    processor_identifier: Some(IDENTIFIER.to_owned()),
                    ..Default::default()
                };
                self.client.find(&object, &calls::GetDatabaseReq { request: Some(request) }).await?
            }
            false => self.client.find(&object, &calls::GetDatabase { name: qualified(name) }).await?,
        };
        found.map(|found| read(&object, convert::from_database(found))).transpose()
    }

    pub(super) async fn table(&self, name: &TableName) -> Result<Option<Table>> {
        let mut found = self.tables(&name.database(), std::slice::from_ref(&name.table)).await?;
        match found.damaged.pop() {
            Some(Damaged { object, why, .. }) => Err(Error::Damaged { object, why }),
            None => Ok(found.found.pop()),
        }
    }

    pub(super) async fn function(&self, database: &DatabaseName, name: &str) -> Result<Option<Function>> {
        let object = format!("function {database}.{name}");
        let call = calls::GetFunction { db_name: qualified(database), func_name: Some(name.to_owned()) };
        let found = self.client.find(&object, &call).await?;
        found.map(|found| read(&object, convert::from_function(found))).transpose()
    }

    pub(super) async fn catalog(&self, name: &str) -> Result<Option<Catalog>> {
        let object = format!("catalog {name}");
        let request = api::GetCatalogRequest { name: Some(name.to_owned()), ..Default::default() };
        let found = self.client.find(&object, &calls::GetCatalog { cat_name: Some(request) }).await?;
        let found = found.and_then(|response| response.catalog);
        found.map(|found| read(&object, convert::from_catalog(found))).transpose()
    }

    async fn catalog_names(&self) -> Result<Vec<String>> {
        if self.version < V3_0 {
            return Ok(vec![HIVE_CATALOG.to_owned()]);
        }
        let mut names = self.client.get("catalogs", &calls::GetCatalogs {}).await?.names.unwrap_or_default();
        names.sort();
        Ok(names)
    }
}

pub(super) const V3_0: Version = Version { major: 3, minor: 0 };

/// What was converted, or the object that is damaged.
pub(super) fn read<T>(object: &str, converted: Converted<T>) -> Result<T> {
    converted.map_err(|why| Error::Damaged { object: object.to_owned(), why })
}

#[async_trait]
impl Snapshot for ThriftSnapshot {
    fn parallel_calls(&self) -> usize {
        self.client.parallel()
    }

    async fn catalogs(&self) -> Result<Vec<Catalog>> {
        if self.version < V3_0 {
            let (name, default_value) = (Some("hive.metastore.warehouse.dir".to_owned()), Some(String::new()));
            let location = self.client.get("the warehouse", &calls::GetConfigValue { name, default_value }).await?;
            return Ok(vec![Catalog {
                name: HIVE_CATALOG.to_owned(),
                description: Some(HIVE_CATALOG_DESCRIPTION.to_owned()),
                // As later servers write it.
                location: location.replacen("file:///", "file:/", 1),
                create_time: None,
                unknown: Default::default(),
            }]);
        }
        let names = self.catalog_names().await?;
        let found = self.each(names, |name| async move { self.catalog(&name).await }).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn databases(&self) -> Result<Vec<Database>> {
        let mut databases = Vec::new();
        for catalog in self.catalog_names().await? {
            let object = format!("databases of {catalog}");
            let mut names = match self.version < V3_0 {
                true => self.client.get(&object, &calls::GetAllDatabases {}).await?,
                false => {
                    self.client.get(&object, &calls::GetDatabases { pattern: Some(format!("@{catalog}#")) }).await?
                }
            };
            names.sort();
            let names = names.iter().map(|name| DatabaseName::in_catalog(&catalog, name)).collect();
            let found = self.each(names, |name| async move { self.database(&name).await }).await?;
            databases.extend(found.into_iter().flatten());
        }
        Ok(databases)
    }

    async fn table_names(&self, database: &DatabaseName) -> Result<Vec<String>> {
        let call = calls::GetAllTables { db_name: qualified(database) };
        let mut names = self.client.find(&format!("database {database}"), &call).await?.unwrap_or_default();
        names.sort();
        Ok(names)
    }

    async fn tables(&self, database: &DatabaseName, names: &[String]) -> Result<Batch<Table>> {
        self.read_tables(database, names).await
    }

    async fn partition_names(&self, table: &TableName) -> Result<Vec<PartitionName>> {
        self.read_partition_names(table).await
    }

    async fn partitions(&self, table: &Table, names: &[PartitionName]) -> Result<Batch<Partition>> {
        self.read_partitions(table, names).await
    }

    async fn constraints(&self, database: &DatabaseName, tables: &[String]) -> Result<Batch<Constraint>> {
        let of = tables.iter().map(|table| database.table(table)).collect();
        let read = self.each(of, |table| async move { Ok(self.read_constraints(&table).await) }).await?;
        let mut batch = Batch::empty();
        read.into_iter().try_for_each(|read| batch.add(read))?;
        batch.found.sort();
        Ok(batch)
    }

    async fn table_statistics(
        &self,
        database: &DatabaseName,
        tables: &[String],
    ) -> Result<Vec<(String, ColumnStatistics)>> {
        let mut statistics = Vec::new();
        // Statistics are asked for by the names of columns.
        let read = self.read_tables(database, tables).await?.found;
        let found = self.each(read, |table| async move {
            let found = self.read_table_statistics(&table).await?;
            Ok((table.name.table, found))
        });
        for (table, found) in found.await? {
            statistics.extend(found.into_iter().map(|found| (table.clone(), found)));
        }
        Ok(statistics)
    }

    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[PartitionName],
    ) -> Result<Vec<(PartitionName, ColumnStatistics)>> {
        self.read_partition_statistics(table, names).await
    }

    async fn functions(&self, database: &DatabaseName) -> Result<Batch<Function>> {
        let call = calls::GetFunctions { db_name: qualified(database), pattern: Some("*".to_owned()) };
        let mut names = self.client.find(&format!("functions of {database}"), &call).await?.unwrap_or_default();
        names.sort();
        let read = self.each(names, |name| async move { Ok(self.function(database, &name).await) }).await?;
        let mut batch = Batch::empty();
        read.into_iter().try_for_each(|read| batch.add(read))?;
        Ok(batch)
    }

    async fn roles(&self) -> Result<Vec<Role>> {
        self.read_roles().await
    }

    async fn role_grants(&self) -> Result<Vec<RoleGrant>> {
        self.read_role_grants().await
    }

    async fn grants(&self, on: GrantScope<'_>) -> Result<Vec<Grant>> {
        self.read_grants(on).await
    }

    async fn current_event_id(&self) -> Result<i64> {
        let call = calls::GetCurrentNotificationEventId {};
        let found = self.client.get("the notification log", &call).await?;
        Ok(found.event_id.unwrap_or_default())
    }

    async fn events_after(&self, id: i64, limit: usize) -> Result<Vec<EventRow>> {
        let rqst = api::NotificationEventRequest {
            last_event: Some(id),
            max_events: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            ..Default::default()
        };
        let call = calls::GetNextNotification { rqst: Some(rqst) };
        let found = match self.client.call(&call, Repeat::Safe).await? {
            Answer::Result(found) => found.events.unwrap_or_default(),
            Answer::Thrown(exception) => {
                return Err(self.client.thrown("get_next_notification", "the notification log", &exception));
            }
            Answer::NoSuchCall => return Err(no_log(&self.client)),
        };
        let mut events = found.into_iter().map(|event| event_row(event, id)).collect::<Result<Vec<_>>>()?;
        events.sort_by_key(|event| event.event_id);
        Ok(events)
    }
}

fn no_log(client: &Client) -> Error {
    Error::Failed {
        operation: "get_next_notification".to_owned(),
        object: format!("at {}", client.place()),
        why: "the server has no notification log".to_owned(),
        class: Class::Permanent,
    }
}

fn event_row(event: api::NotificationEvent, after: i64) -> Result<EventRow> {
    let damaged = |why: &str| Error::Damaged { object: format!("an event after {after}"), why: why.to_owned() };
    Ok(EventRow {
        event_id: event.event_id.ok_or_else(|| damaged("it has no id"))?,
        event_time: event.event_time.map(i64::from).unwrap_or_default(),
        event_type: event.event_type.ok_or_else(|| damaged("it has no type"))?,
        catalog: event.cat_name,
        database: event.db_name,
        table: event.table_name,
        message: event.message.ok_or_else(|| damaged("it has no message"))?,
        message_format: event.message_format,
    })
}
