//! The source, read with what the messages of this run say of it at hand (rule 22), and where the two do not agree.
//!
//! Where they agree, it does not matter which of them the replica's metadata comes from; what a message lacks comes from the
//! read. Where they do not, and no later event explains it, something changed of which the log says nothing: what is read is
//! taken, and the object is named (rule 25).

use super::unexplained::Unexplained;
use crate::event::Told;
use crate::metastore::{AllPartitions, Batch, EventRow, GrantScope, Result, Snapshot};
use crate::model::{
    Catalog, ColumnStatistics, Constraint, Database, DatabaseName, Function, Grant, Partition, PartitionName, Role,
    RoleGrant, Table, TableName, Transactions, WriteIds,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
pub struct Witness {
    source: Arc<dyn Snapshot>,
    told: Told,
    found: Mutex<Unexplained>,
}

impl Witness {
    /// The source, held against `told` from now on.
    pub fn new(source: Arc<dyn Snapshot>, told: Told) -> Self {
        Self { source, told, found: Mutex::default() }
    }

    /// What was found so far.
    pub fn found(&self) -> Unexplained {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Unexplained> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_table(&self, table: &TableName, why: Option<String>) {
        if let Some(why) = why {
            self.lock().tables.entry(table.clone()).or_insert(why);
        }
    }
}

#[async_trait]
impl Snapshot for Witness {
    fn parallel_calls(&self) -> usize {
        self.source.parallel_calls()
    }

    async fn fingerprint(&self) -> Result<Option<String>> {
        self.source.fingerprint().await
    }

    async fn catalogs(&self) -> Result<Vec<Catalog>> {
        self.source.catalogs().await
    }

    async fn databases(&self) -> Result<Vec<Database>> {
        let read = self.source.databases().await?;
        let mut found = self.lock();
        for (database, why) in self.told.against_databases(&read) {
            found.databases.entry(database).or_insert(why);
        }
        drop(found);
        Ok(read)
    }

    async fn table_names(&self, database: &DatabaseName) -> Result<Vec<String>> {
        let read = self.source.table_names(database).await?;
        for (table, why) in self.told.against_table_names(database, &read) {
            self.of_table(&table, Some(why));
        }
        Ok(read)
    }

    async fn tables(&self, database: &DatabaseName, names: &[String]) -> Result<Batch<Table>> {
        let read = self.source.tables(database, names).await?;
        read.found.iter().for_each(|table| self.of_table(&table.name, self.told.against_table(table)));
        Ok(read)
    }

    async fn partition_names(&self, table: &TableName) -> Result<Vec<PartitionName>> {
        let read = self.source.partition_names(table).await?;
        self.of_table(table, self.told.against_partition_names(table, &read));
        Ok(read)
    }

    async fn partitions(&self, table: &Table, names: &[PartitionName]) -> Result<Batch<Partition>> {
        let read = self.source.partitions(table, names).await?;
        self.of_table(&table.name, read.found.iter().find_map(|one| self.told.against_partition(table, one)));
        Ok(read)
    }

    async fn partition_counts(
        &self,
        database: &DatabaseName,
        tables: &[String],
    ) -> Result<Option<HashMap<String, usize>>> {
        self.source.partition_counts(database, tables).await
    }

    async fn all_partitions(&self, tables: &[&Table], statistics: bool) -> Result<HashMap<String, AllPartitions>> {
        let read = self.source.all_partitions(tables, statistics).await?;
        for table in tables {
            let batch = read.get(&table.name.table).map(|all| &all.batch);
            // What is damaged is there.
            if batch.is_none_or(|batch| batch.damaged.is_empty()) {
                let partitions = batch.map_or(&[][..], |batch| &batch.found);
                self.of_table(&table.name, self.told.against_partitions(table, partitions));
            }
        }
        Ok(read)
    }

    async fn constraints(&self, database: &DatabaseName, tables: &[String]) -> Result<Batch<Constraint>> {
        self.source.constraints(database, tables).await
    }

    async fn table_statistics(
        &self,
        database: &DatabaseName,
        tables: &[String],
    ) -> Result<Vec<(String, ColumnStatistics)>> {
        self.source.table_statistics(database, tables).await
    }

    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[PartitionName],
    ) -> Result<Vec<(PartitionName, ColumnStatistics)>> {
        self.source.partition_statistics(table, names).await
    }

    async fn write_ids(&self, database: &DatabaseName, tables: &[String]) -> Result<Option<HashMap<String, WriteIds>>> {
        self.source.write_ids(database, tables).await
    }

    async fn transactions(&self) -> Result<Option<Transactions>> {
        self.source.transactions().await
    }

    async fn functions(&self, database: &DatabaseName) -> Result<Batch<Function>> {
        let read = self.source.functions(database).await?;
        let why = self.told.against_functions(database, &read.found).filter(|_| read.damaged.is_empty());
        if let Some(why) = why {
            self.lock().databases.entry(database.clone()).or_insert(why);
        }
        Ok(read)
    }

    async fn roles(&self) -> Result<Vec<Role>> {
        self.source.roles().await
    }

    async fn role_grants(&self) -> Result<Vec<RoleGrant>> {
        self.source.role_grants().await
    }

    async fn grants(&self, on: GrantScope<'_>) -> Result<Vec<Grant>> {
        self.source.grants(on).await
    }

    async fn current_event_id(&self) -> Result<i64> {
        self.source.current_event_id().await
    }

    async fn events_after(&self, id: i64, limit: usize) -> Result<Vec<EventRow>> {
        self.source.events_after(id, limit).await
    }
}
