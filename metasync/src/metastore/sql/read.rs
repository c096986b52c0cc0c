//! A metastore read set by set: one query a child table for a chunk of objects, joined in memory. Never a query per object.
//!
//! A snapshot is one transaction that only reads, on a connection of its own; dropping it ends it.

pub(crate) mod children;
pub(crate) mod constraints;
pub(crate) mod databases;
mod events;
mod fingerprint;
pub(crate) mod functions;
pub(crate) mod partitions;
pub(crate) mod privileges;
pub(crate) mod statistics;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod transactions;

use super::connection::Connection;
use super::probe::Schema;
use crate::metastore::{AllPartitions, Batch, EventRow, GrantScope, Result, Snapshot};
use crate::model::{
    Catalog, ColumnStatistics, Constraint, Database, DatabaseName, Function, Grant, HIVE_CATALOG, Partition,
    PartitionName, Role, RoleGrant, Table, TableName, Transactions, WriteIds,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;
use storage::ColumnCache;
use tokio::sync::Mutex;

/// Ids of databases and tables that a snapshot remembers; more, and it starts anew.
const REMEMBERED_IDS: usize = 10_000;

/// Everything that a read needs: a connection in a transaction, and what the database looks like.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) schema: Arc<Schema>,
    pub(crate) columns: ColumnCache,
    databases: HashMap<DatabaseName, i64>,
    tables: HashMap<TableName, i64>,
}

impl Reader {
    pub(crate) fn new(connection: Connection, schema: Arc<Schema>) -> Self {
        Self { connection, schema, columns: ColumnCache::default(), databases: HashMap::new(), tables: HashMap::new() }
    }

    /// Forgets ids by name: something was renamed, made or dropped.
    pub(crate) fn forget(&mut self) {
        self.databases.clear();
        self.tables.clear();
    }

    /// The DB_ID of a database, if it is there.
    pub(crate) async fn database_id(&mut self, name: &DatabaseName) -> Result<Option<i64>> {
        if let Some(id) = self.databases.get(name) {
            return Ok(Some(*id));
        }
        let id = find_database(&mut self.connection, &self.schema, name, "").await?;
        if let Some(id) = id {
            forget_if_many(&mut self.databases);
            self.databases.insert(name.clone(), id);
        }
        Ok(id)
    }

    /// The TBL_ID of a table, if it is there.
    pub(crate) async fn table_id(&mut self, name: &TableName) -> Result<Option<i64>> {
        if let Some(id) = self.tables.get(name) {
            return Ok(Some(*id));
        }
        let Some(database) = self.database_id(&name.database()).await? else { return Ok(None) };
        let sql = "SELECT \"TBL_ID\" FROM \"TBLS\" WHERE \"DB_ID\" = ? AND \"TBL_NAME\" = ?";
        let mut values = vec![database.into()];
        values.extend(self.schema.wanted("TBLS", "TBL_NAME", [&name.table]));
        let rows = self.connection.query(sql, &values).await?;
        let id = rows.into_iter().next().map(|mut row| row.id(0)).transpose()?;
        if let Some(id) = id {
            forget_if_many(&mut self.tables);
            self.tables.insert(name.clone(), id);
        }
        Ok(id)
    }
}

fn forget_if_many<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= REMEMBERED_IDS {
        map.clear();
    }
}

/// The DB_ID of a database, if it is there; `lock` stands behind the SELECT.
pub(crate) async fn find_database(
    connection: &mut Connection,
    schema: &Schema,
    name: &DatabaseName,
    lock: &str,
) -> Result<Option<i64>> {
    let mut values = schema.wanted("DBS", "NAME", [&name.database]);
    let catalog = match schema.has("DBS", "CTLG_NAME") {
        true => {
            values.extend(schema.wanted("DBS", "CTLG_NAME", [&name.catalog]));
            " AND \"CTLG_NAME\" = ?"
        }
        false if name.catalog == HIVE_CATALOG => "",
        false => return Ok(None),
    };
    let sql = format!("SELECT \"DB_ID\" FROM \"DBS\" WHERE \"NAME\" = ?{catalog}{lock}");
    let rows = connection.query(&sql, &values).await?;
    rows.into_iter().next().map(|mut row| row.id(0)).transpose()
}

/// A snapshot of a metastore in a database.
pub(crate) struct SqlSnapshot(pub(crate) Mutex<Reader>);

#[async_trait]
impl Snapshot for SqlSnapshot {
    fn parallel_calls(&self) -> usize {
        1
    }

    async fn fingerprint(&self) -> Result<Option<String>> {
        fingerprint::fingerprint(&mut *self.0.lock().await).await
    }

    async fn catalogs(&self) -> Result<Vec<Catalog>> {
        databases::catalogs(&mut *self.0.lock().await).await
    }

    async fn databases(&self) -> Result<Vec<Database>> {
        databases::databases(&mut *self.0.lock().await, None).await
    }

    async fn table_names(&self, database: &DatabaseName) -> Result<Vec<String>> {
        tables::names(&mut *self.0.lock().await, database).await
    }

    async fn tables(&self, database: &DatabaseName, names: &[String]) -> Result<Batch<Table>> {
        let reader = &mut *self.0.lock().await;
        Ok(tables::tables(reader, database, names).await?.into_batch())
    }

    async fn partition_names(&self, table: &TableName) -> Result<Vec<PartitionName>> {
        partitions::names(&mut *self.0.lock().await, table).await
    }

    async fn partitions(&self, table: &Table, names: &[PartitionName]) -> Result<Batch<Partition>> {
        partitions::partitions(&mut *self.0.lock().await, table, names).await
    }

    async fn partition_counts(
        &self,
        database: &DatabaseName,
        tables: &[String],
    ) -> Result<Option<HashMap<String, usize>>> {
        partitions::counts(&mut *self.0.lock().await, database, tables).await.map(Some)
    }

    async fn all_partitions(&self, tables: &[&Table], statistics: bool) -> Result<HashMap<String, AllPartitions>> {
        partitions::of_tables(&mut *self.0.lock().await, tables, statistics).await
    }

    async fn constraints(&self, database: &DatabaseName, tables: &[String]) -> Result<Batch<Constraint>> {
        constraints::constraints(&mut *self.0.lock().await, database, tables).await
    }

    async fn table_statistics(
        &self,
        database: &DatabaseName,
        tables: &[String],
    ) -> Result<Vec<(String, ColumnStatistics)>> {
        statistics::of_tables(&mut *self.0.lock().await, database, tables).await
    }

    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[PartitionName],
    ) -> Result<Vec<(PartitionName, ColumnStatistics)>> {
        statistics::of_partitions(&mut *self.0.lock().await, &table.name, names).await
    }

    async fn write_ids(&self, database: &DatabaseName, tables: &[String]) -> Result<Option<HashMap<String, WriteIds>>> {
        transactions::write_ids(&mut *self.0.lock().await, database, tables).await
    }

    async fn transactions(&self) -> Result<Option<Transactions>> {
        transactions::transactions(&mut *self.0.lock().await).await
    }

    async fn functions(&self, database: &DatabaseName) -> Result<Batch<Function>> {
        functions::functions(&mut *self.0.lock().await, database, None).await
    }

    async fn roles(&self) -> Result<Vec<Role>> {
        privileges::roles(&mut *self.0.lock().await).await
    }

    async fn role_grants(&self) -> Result<Vec<RoleGrant>> {
        privileges::role_grants(&mut *self.0.lock().await).await
    }

    async fn grants(&self, on: GrantScope<'_>) -> Result<Vec<Grant>> {
        privileges::grants(&mut *self.0.lock().await, on).await
    }

    async fn current_event_id(&self) -> Result<i64> {
        events::current_id(&mut *self.0.lock().await).await
    }

    async fn events_after(&self, id: i64, limit: usize) -> Result<Vec<EventRow>> {
        events::after(&mut *self.0.lock().await, id, limit).await
    }
}
