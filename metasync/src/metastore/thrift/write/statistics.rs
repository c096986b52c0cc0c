//! Column statistics of tables and partitions: put, drop.
//!
//! A server notes in the parameters of the object that its statistics are fresh; the parameters are put back as they were,
//! because they are the caller's to set.

use super::{missing, named, written};
use crate::metastore::thrift::convert;
use crate::metastore::thrift::read::{ThriftSnapshot, V3_0};
use crate::metastore::{Result, Snapshot as _, Version};
use crate::model::{ColumnStatistics, Parameters, Partition, PartitionName, Table, TableName};
use hms::message::Exception;
use hms::{ExceptionKind, api, calls};
use std::collections::{BTreeMap, BTreeSet};

fn differ(a: &Parameters, b: &Parameters) -> bool {
    let plain = |parameters: &Parameters| {
        let mut parameters = parameters.clone();
        parameters.remove("transient_lastDdlTime");
        parameters
    };
    plain(a) != plain(b)
}

/// Statistics that are not there are dropped already.
fn none_there(thrown: &Exception) -> Option<bool> {
    let gone = matches!(
        thrown.kind,
        ExceptionKind::NoSuchObjectException
            | ExceptionKind::InvalidObjectException
            | ExceptionKind::InvalidInputException
    );
    gone.then_some(true)
}

/// Statistics by their engine: a request is about one of them.
fn by_engine<'a>(
    statistics: impl Iterator<Item = &'a ColumnStatistics>,
) -> BTreeMap<&'a str, Vec<&'a ColumnStatistics>> {
    let mut engines = BTreeMap::<_, Vec<_>>::new();
    for found in statistics {
        engines.entry(found.engine.as_str()).or_default().push(found);
    }
    engines
}

impl ThriftSnapshot {
    fn description(
        &self,
        table: &TableName,
        partition: Option<&PartitionName>,
        statistics: &[&ColumnStatistics],
    ) -> Result<api::ColumnStatistics> {
        let object = format!("statistics of {table}");
        let one = |found: &&ColumnStatistics| written(self, &object, convert::to_statistics(found, self.version));
        let newest = statistics.iter().map(|found| found.last_analyzed).max();
        Ok(api::ColumnStatistics {
            stats_desc: Some(api::ColumnStatisticsDesc {
                is_tbl_level: Some(partition.is_none()),
                db_name: Some(table.database.clone()),
                table_name: Some(table.table.clone()),
                part_name: partition.map(|name| name.0.clone()),
                last_analyzed: newest.filter(|time| *time != 0),
                cat_name: (self.version >= V3_0).then(|| table.catalog.clone()),
                ..Default::default()
            }),
            stats_obj: Some(statistics.iter().map(one).collect::<Result<_>>()?),
            engine: self.engine(statistics),
            ..Default::default()
        })
    }

    fn engine(&self, statistics: &[&ColumnStatistics]) -> Option<String> {
        let engine = statistics.first().map(|found| found.engine.clone());
        engine.filter(|_| self.version >= Version::V4_0)
    }

    pub(super) async fn put_table_statistics(&self, name: &TableName, statistics: &[ColumnStatistics]) -> Result<()> {
        let object = format!("statistics of {name}");
        let before = self.table(name).await?.ok_or_else(|| missing("put statistics", format!("table {name}")))?;
        for (_, statistics) in by_engine(statistics.iter()) {
            let stats = self.description(name, None, &statistics)?;
            if self.version < Version::V4_0 {
                self.client.put(&object, &calls::UpdateTableColumnStatistics { stats_obj: Some(stats) }).await?;
                continue;
            }
            let req = api::SetPartitionsStatsRequest {
                col_stats: Some(vec![stats]),
                need_merge: Some(false),
                engine: self.engine(&statistics),
                ..Default::default()
            };
            self.client.put(&object, &calls::UpdateTableColumnStatisticsReq { req: Some(req) }).await?;
        }
        self.restore_table(&before).await
    }

    /// Puts a table's parameters back.
    async fn restore_table(&self, before: &Table) -> Result<()> {
        let after = self.table(&before.name).await?;
        if after.is_some_and(|after| differ(&after.parameters, &before.parameters)) {
            let wanted = written(self, &format!("table {}", before.name), convert::to_table(before))?;
            self.alter_table(&before.name, wanted).await?;
        }
        Ok(())
    }

    async fn restore_partitions(&self, table: &Table, names: &[PartitionName], before: &[Partition]) -> Result<()> {
        let after = self.partitions(table, names).await?.found;
        let changed = |before: &&Partition| {
            let mut after = after.iter();
            after.any(|after| after.values == before.values && differ(&after.parameters, &before.parameters))
        };
        let changed: Vec<&Partition> = before.iter().filter(changed).collect();
        if changed.is_empty() { Ok(()) } else { self.alter_partitions(&table.name, &changed).await }
    }

    pub(super) async fn drop_table_statistics(&self, name: &TableName, column: Option<&str>) -> Result<()> {
        let Some(before) = self.table(name).await? else { return Ok(()) };
        let there = self.read_table_statistics(&before).await?;
        for found in there.iter().filter(|found| column.is_none_or(|column| found.column == column)) {
            let (db_name, tbl_name) = named(name);
            let call = calls::DeleteTableColumnStatistics {
                db_name,
                tbl_name,
                col_name: Some(found.column.clone()),
                engine: (self.version >= Version::V4_0).then(|| found.engine.clone()),
            };
            self.client.put_or(&format!("statistics of {name}"), &call, none_there).await?;
        }
        self.restore_table(&before).await
    }

    pub(super) async fn put_partition_statistics(
        &self,
        name: &TableName,
        statistics: &[(PartitionName, Vec<ColumnStatistics>)],
    ) -> Result<()> {
        let object = format!("statistics of partitions of {name}");
        let table = self.table(name).await?.ok_or_else(|| missing("put statistics", format!("table {name}")))?;
        let names: Vec<PartitionName> = statistics.iter().map(|(name, _)| name.clone()).collect();
        let before = self.partitions(&table, &names).await?.found;
        if before.len() < names.iter().collect::<BTreeSet<_>>().len() {
            return Err(missing("put statistics", format!("a partition of {name}")));
        }
        let engines: BTreeSet<&str> =
            statistics.iter().flat_map(|(_, found)| found).map(|found| found.engine.as_str()).collect();
        for engine in engines {
            let mut col_stats = Vec::with_capacity(statistics.len());
            for (partition, found) in statistics {
                let found: Vec<&ColumnStatistics> = found.iter().filter(|found| found.engine == engine).collect();
                if !found.is_empty() {
                    col_stats.push(self.description(name, Some(partition), &found)?);
                }
            }
            // The call by the name of updating takes one partition at a time.
            let request = api::SetPartitionsStatsRequest {
                col_stats: Some(col_stats),
                need_merge: Some(false),
                engine: Some(engine.to_owned()).filter(|_| self.version >= Version::V4_0),
                ..Default::default()
            };
            self.client.put(&object, &calls::SetAggrStatsFor { request: Some(request) }).await?;
        }
        self.restore_partitions(&table, &names, &before).await
    }

    pub(super) async fn drop_partition_statistics(
        &self,
        name: &TableName,
        partition: &PartitionName,
        column: Option<&str>,
    ) -> Result<()> {
        let Some(table) = self.table(name).await? else { return Ok(()) };
        let names = std::slice::from_ref(partition);
        let before = self.partitions(&table, names).await?.found;
        let there = self.read_partition_statistics(&table, names).await?;
        for (_, found) in there.iter().filter(|(_, found)| column.is_none_or(|column| found.column == column)) {
            let (db_name, tbl_name) = named(name);
            let call = calls::DeletePartitionColumnStatistics {
                db_name,
                tbl_name,
                part_name: Some(partition.0.clone()),
                col_name: Some(found.column.clone()),
                engine: (self.version >= Version::V4_0).then(|| found.engine.clone()),
            };
            self.client.put_or(&format!("statistics of {partition} of {name}"), &call, none_there).await?;
        }
        self.restore_partitions(&table, names, &before).await
    }
}
