//! Tables and partitions by names.

use super::{IDENTIFIER, ThriftSnapshot, V3_0, capabilities, qualified};
use crate::metastore::thrift::client::{Answer, Repeat, is_missing};
use crate::metastore::thrift::convert;
use crate::metastore::{Batch, Damaged, Result, Version};
use crate::model::{Column, DatabaseName, Partition, PartitionName, Table, TableName};
use hms::{api, calls};
use std::collections::HashMap;
use std::sync::Arc;

/// How many tables one call asks for: each may have thousands of columns.
const TABLES_A_CALL: usize = 100;
/// The most different column lists that are kept to be shared within a chunk of partitions.
const MAX_SHARED: usize = 64;

impl ThriftSnapshot {
    pub(super) async fn read_tables(&self, database: &DatabaseName, names: &[String]) -> Result<Batch<Table>> {
        let chunks: Vec<Vec<String>> = names.chunks(TABLES_A_CALL).map(<[String]>::to_vec).collect();
        let read = self.each(chunks, |names| async move { self.tables_of(database, names).await }).await?;
        let mut batch = Batch::empty();
        for table in read.into_iter().flatten() {
            let name = table.table_name.clone().unwrap_or_default();
            match convert::from_table(table) {
                Ok(table) => batch.found.push(table),
                Err(why) => batch.damaged.push(Damaged::table(database.table(&name), why)),
            }
        }
        batch.found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(batch)
    }

    async fn tables_of(&self, database: &DatabaseName, names: Vec<String>) -> Result<Vec<api::Table>> {
        let values = Some(vec![api::ClientCapability::INSERT_ONLY_TABLES]);
        let later = self.version >= Version::V4_0;
        let req = api::GetTablesRequest {
            db_name: Some(database.database.clone()),
            tbl_names: Some(names),
            capabilities: Some(api::ClientCapabilities { values, ..Default::default() }),
            cat_name: (self.version >= V3_0).then(|| database.catalog.clone()),
            processor_capabilities: later.then(capabilities).flatten(),
            processor_identifier: later.then(|| IDENTIFIER.to_owned()),
            ..Default::default()
        };
        let call = calls::GetTableObjectsByNameReq { req: Some(req) };
        let found = self.client.find(&format!("tables of {database}"), &call).await?;
        Ok(found.and_then(|found| found.tables).unwrap_or_default())
    }

    pub(super) async fn read_partition_names(&self, table: &TableName) -> Result<Vec<PartitionName>> {
        let object = format!("partitions of {table}");
        let call = calls::GetPartitionNames {
            db_name: qualified(&table.database()),
            tbl_name: Some(table.table.clone()),
            max_parts: Some(-1),
        };
        let found = match self.client.call(&call, Repeat::Safe).await {
            Ok(Answer::Result(names)) => names,
            Ok(Answer::Thrown(exception)) if is_missing(&exception) => Vec::new(),
            Ok(Answer::Thrown(exception)) => {
                return Err(self.client.thrown("get_partition_names", &object, &exception));
            }
            // Hive 2.3 declares no exception for a table that is gone, and its server answers with an internal error then.
            Err(error) if self.version < V3_0 => {
                let there = self.tables_of(&table.database(), vec![table.table.clone()]).await?;
                if there.is_empty() { Vec::new() } else { return Err(error) }
            }
            Err(error) => return Err(error),
            Ok(Answer::NoSuchCall) => {
                let request = api::PartitionsRequest {
                    cat_name: Some(table.catalog.clone()),
                    db_name: Some(table.database.clone()),
                    tbl_name: Some(table.table.clone()),
                    max_parts: Some(-1),
                    ..Default::default()
                };
                let call = calls::FetchPartitionNamesReq { partition_req: Some(request) };
                self.client.find(&object, &call).await?.unwrap_or_default()
            }
        };
        let mut names: Vec<PartitionName> = found.into_iter().map(PartitionName).collect();
        names.sort();
        Ok(names)
    }

    async fn partitions_of(&self, table: &TableName, names: &[PartitionName]) -> Result<Vec<api::Partition>> {
        let object = format!("partitions of {table}");
        let names = Some(names.iter().map(|name| name.0.clone()).collect());
        if self.version < Version::V4_0 {
            let (db_name, tbl_name) = (qualified(&table.database()), Some(table.table.clone()));
            let call = calls::GetPartitionsByNames { db_name, tbl_name, names };
            return Ok(self.client.find(&object, &call).await?.unwrap_or_default());
        }
        let req = api::GetPartitionsByNamesRequest {
            db_name: qualified(&table.database()),
            tbl_name: Some(table.table.clone()),
            names,
            get_col_stats: Some(false),
            processor_capabilities: capabilities(),
            processor_identifier: Some(IDENTIFIER.to_owned()),
            ..Default::default()
        };
        let found = self.client.find(&object, &calls::GetPartitionsByNamesReq { req: Some(req) }).await?;
        Ok(found.and_then(|found| found.partitions).unwrap_or_default())
    }

    pub(super) async fn read_partitions(&self, table: &Table, names: &[PartitionName]) -> Result<Batch<Partition>> {
        let mut batch = Batch::empty();
        if names.is_empty() {
            return Ok(batch);
        }
        let places: HashMap<&PartitionName, usize> = names.iter().zip(0..).collect();
        let mut shared = Shared { known: vec![Arc::clone(&table.storage.columns)] };
        let mut found: Vec<(usize, Partition)> = Vec::with_capacity(names.len());
        let keys = || table.partition_keys.iter().map(|key| key.name.as_str());
        for partition in self.partitions_of(&table.name, names).await? {
            let values = partition.values.clone().unwrap_or_default();
            let place = PartitionName::of(keys(), &values).and_then(|name| match places.get(&name) {
                Some(place) => Ok(*place),
                None => Err(format!("its values make the name {name}, which is not the one that it is listed under")),
            });
            match place.and_then(|place| Ok((place, convert::from_partition(partition)?))) {
                Ok((place, mut partition)) => {
                    partition.storage.columns = shared.one(partition.storage.columns);
                    found.push((place, partition));
                }
                Err(why) => {
                    batch.damaged.push(Damaged::other(format!("partition {values:?} of {}", table.name), why));
                }
            }
        }
        found.sort_by_key(|(place, _)| *place);
        batch.found = found.into_iter().map(|(_, partition)| partition).collect();
        Ok(batch)
    }
}

/// Column lists that were equal are one again: on the wire each partition has its own copy.
struct Shared {
    known: Vec<Arc<Vec<Column>>>,
}

impl Shared {
    fn one(&mut self, columns: Arc<Vec<Column>>) -> Arc<Vec<Column>> {
        if let Some(known) = self.known.iter().find(|known| **known == columns) {
            return Arc::clone(known);
        }
        if self.known.len() < MAX_SHARED {
            self.known.push(Arc::clone(&columns));
        }
        columns
    }
}
