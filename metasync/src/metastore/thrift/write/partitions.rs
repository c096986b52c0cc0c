//! Partitions: put, rename, drop.

use super::{environment, gone, missing, named, written};
use crate::location::same_place;
use crate::metastore::thrift::convert;
use crate::metastore::thrift::read::{ThriftSnapshot, V3_0};
use crate::metastore::{Error, Result, Snapshot as _, Version};
use crate::model::{Partition, PartitionName, Table, TableName};
use hms::{api, calls};
use std::collections::HashMap;

/// How many partitions one call adds or alters: with a thousand columns each it stays below the 100 MiB that servers take.
const PARTITIONS_A_CALL: usize = 250;

/// Whether a server has what it was told, but for what it sets by itself.
fn same(found: &Partition, wanted: &Partition) -> bool {
    let plain = |partition: &Partition| {
        let mut partition = partition.clone();
        (partition.create_time, partition.last_access_time) = (0, 0);
        partition.parameters.remove("transient_lastDdlTime");
        partition
    };
    plain(found) == plain(wanted)
}

fn partition_name(table: &Table, values: &[String]) -> Result<PartitionName> {
    let keys = table.partition_keys.iter().map(|key| key.name.as_str());
    PartitionName::of(keys, values).map_err(|why| Error::Conflict {
        operation: "put".to_owned(),
        object: format!("partition {values:?} of {}", table.name),
        why,
    })
}

impl ThriftSnapshot {
    async fn table_of(&self, operation: &str, name: &TableName) -> Result<Table> {
        self.table(name).await?.ok_or_else(|| missing(operation, format!("table {name}")))
    }

    /// Those of the partitions that are there otherwise, or not there.
    async fn differing<'a>(
        &self,
        table: &Table,
        wanted: &[(PartitionName, &'a Partition)],
    ) -> Result<(Vec<&'a Partition>, Vec<&'a Partition>)> {
        let names: Vec<PartitionName> = wanted.iter().map(|(name, _)| name.clone()).collect();
        let found = self.partitions(table, &names).await?.found;
        let mut there = HashMap::with_capacity(found.len());
        for partition in found {
            there.insert(partition_name(table, &partition.values)?, partition);
        }
        let (mut other, mut absent) = (Vec::new(), Vec::new());
        for (name, partition) in wanted {
            match there.get(name) {
                Some(found) if same(found, partition) => {}
                Some(_) => other.push(*partition),
                None => absent.push(*partition),
            }
        }
        Ok((other, absent))
    }

    pub(super) async fn put_partitions(&self, name: &TableName, partitions: &[Partition]) -> Result<()> {
        let table = self.table_of("put partitions", name).await?;
        let mut wanted = Vec::with_capacity(partitions.len());
        for partition in partitions {
            wanted.push((partition_name(&table, &partition.values)?, partition));
        }
        for wanted in wanted.chunks(PARTITIONS_A_CALL) {
            let (mut other, absent) = self.differing(&table, wanted).await?;
            if !absent.is_empty() {
                self.add_partitions(name, &absent).await?;
                // Servers count files when a partition is made; told once more, they leave it.
                other = self.differing(&table, wanted).await?.0;
            }
            if !other.is_empty() {
                self.alter_partitions(name, &other).await?;
                let (other, absent) = self.differing(&table, wanted).await?;
                if let Some(wrong) = other.iter().chain(&absent).next() {
                    let object = format!("partition {:?} of {name}", wrong.values);
                    return Err(self.cannot(&object, "the server reads it back otherwise than it was told"));
                }
            }
        }
        Ok(())
    }

    fn converted(&self, table: &TableName, partitions: &[&Partition]) -> Result<Vec<api::Partition>> {
        let one = |partition: &&Partition| {
            let object = format!("partition {:?} of {table}", partition.values);
            written(self, &object, convert::to_partition(table, partition))
        };
        partitions.iter().map(one).collect()
    }

    async fn add_partitions(&self, table: &TableName, partitions: &[&Partition]) -> Result<()> {
        let request = api::AddPartitionsRequest {
            db_name: Some(table.database.clone()),
            tbl_name: Some(table.table.clone()),
            parts: Some(self.converted(table, partitions)?),
            if_not_exists: Some(true),
            need_result: Some(false),
            cat_name: (self.version >= V3_0).then(|| table.catalog.clone()),
            environment_context: (self.version >= Version::V4_0).then(environment).flatten(),
            ..Default::default()
        };
        let call = calls::AddPartitionsReq { request: Some(request) };
        self.client.put(&format!("partitions of {table}"), &call).await.map(|_| ())
    }

    pub(super) async fn alter_partitions(&self, table: &TableName, partitions: &[&Partition]) -> Result<()> {
        let object = format!("partitions of {table}");
        let new_parts = Some(self.converted(table, partitions)?);
        if self.version < Version::V4_0 {
            let ((db_name, tbl_name), environment_context) = (named(table), environment());
            let call =
                calls::AlterPartitionsWithEnvironmentContext { db_name, tbl_name, new_parts, environment_context };
            return self.client.put(&object, &call).await;
        }
        let req = api::AlterPartitionsRequest {
            cat_name: Some(table.catalog.clone()),
            db_name: Some(table.database.clone()),
            table_name: Some(table.table.clone()),
            partitions: new_parts,
            environment_context: environment(),
            ..Default::default()
        };
        self.client.put(&object, &calls::AlterPartitionsReq { req: Some(req) }).await.map(|_| ())
    }

    /// A server moves the folder of a partition that is renamed, unless the table is external. There the new one is made over
    /// the same folder, with the statistics of the old one, which is dropped without its files.
    pub(super) async fn rename_partition(&self, name: &TableName, from: &PartitionName, to: &[String]) -> Result<()> {
        let object = format!("partition {from} of {name}");
        let conflict =
            |why: &str| Error::Conflict { operation: "rename".to_owned(), object: object.clone(), why: why.to_owned() };
        let table = self.table_of("rename", name).await?;
        let to_name = partition_name(&table, to)?;
        let names = [from.clone(), to_name.clone()];
        let found = self.partitions(&table, &names).await?.found;
        let mut source = None;
        let mut target = None;
        for partition in found {
            match partition_name(&table, &partition.values)? == *from {
                true => source = Some(partition),
                false => target = Some(partition),
            }
        }
        let source = match (source, &target) {
            (None, None) => return Err(conflict("neither is there")),
            (None, Some(_)) => return Ok(()),
            (Some(source), _) => source,
        };
        let renamed = Partition { values: to.to_vec(), ..source.clone() };
        let external = table.table_type.as_deref() == Some("EXTERNAL_TABLE");
        if let Some(target) = target {
            // What a crash left of a rename in two steps has the same folder; anything else is somebody else's.
            if external || !same_place(target.storage.location.as_deref(), source.storage.location.as_deref()) {
                return Err(conflict("both are there"));
            }
        }
        let statistics = self.read_partition_statistics(&table, std::slice::from_ref(from)).await?;
        if external {
            let ((db_name, tbl_name), part_vals) = (named(name), Some(source.values.clone()));
            let new_part = Some(written(self, &object, convert::to_partition(name, &renamed))?);
            self.client.put(&object, &calls::RenamePartition { db_name, tbl_name, part_vals, new_part }).await?;
        }
        // Puts right what the server did beside it, or makes the new one.
        self.put_partitions(name, std::slice::from_ref(&renamed)).await?;
        let left = self.read_partition_statistics(&table, std::slice::from_ref(&to_name)).await?;
        if left.len() < statistics.len() {
            let statistics = statistics.into_iter().map(|(_, found)| found).collect();
            self.put_partition_statistics(name, &[(to_name, statistics)]).await?;
        }
        if !external {
            self.drop_partitions(name, std::slice::from_ref(from)).await?;
        }
        Ok(())
    }

    pub(super) async fn drop_partitions(&self, table: &TableName, names: &[PartitionName]) -> Result<()> {
        let object = format!("partitions of {table}");
        let names: Vec<String> = names.iter().map(|name| name.0.clone()).collect();
        for names in names.chunks(PARTITIONS_A_CALL) {
            let names = Some(names.to_vec());
            let req = api::DropPartitionsRequest {
                db_name: Some(table.database.clone()),
                tbl_name: Some(table.table.clone()),
                parts: Some(api::RequestPartsSpec { names, ..Default::default() }),
                delete_data: Some(false),
                if_exists: Some(true),
                ignore_protection: Some(true),
                environment_context: environment(),
                need_result: Some(false),
                cat_name: (self.version >= V3_0).then(|| table.catalog.clone()),
                ..Default::default()
            };
            let call = calls::DropPartitionsReq { req: Some(req) };
            self.client.put_or(&object, &call, |thrown| gone(thrown.kind).map(|()| Default::default())).await?;
        }
        Ok(())
    }
}
