//! Every object of a metastore, one after the other, in an order that is always the same and in bounded memory.
//!
//! The order is one in which objects can be put into an empty metastore, but for foreign keys whose table comes later:
//! catalogs, roles, memberships, privileges on everything; then each database with its privileges and functions; its tables
//! with their privileges, constraints and statistics; each table followed by its partitions. Reads only.

use crate::metastore::{Batch, CHUNK, Damaged, GrantScope, Result, Snapshot};
use crate::model::{ColumnStatistics, Constraint, Database, DatabaseName, Grant, PartitionName, Table, TableName};
use crate::object::Object;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;

/// How many tables are read at once: each may have thousands of columns.
const TABLES_AT_ONCE: usize = 200;
/// The table parameter without which Hive grants nothing on partitions.
const PARTITION_LEVEL_PRIVILEGE: &str = "PARTITION_LEVEL_PRIVILEGE";

/// What a walk comes by: an object as it is, or one that cannot be read; the walk goes on.
pub type Step = std::result::Result<Object, Damaged>;

/// Walks over everything, and hands each step to `sink`, whose error ends the walk.
pub async fn walk<E: From<crate::metastore::Error>>(
    snapshot: &dyn Snapshot,
    sink: &mut (dyn FnMut(Step) -> Result<(), E> + Send),
) -> Result<(), E> {
    for catalog in snapshot.catalogs().await? {
        sink(Ok(Object::Catalog(catalog)))?;
    }
    for role in snapshot.roles().await? {
        sink(Ok(Object::Role(role)))?;
    }
    for grant in snapshot.role_grants().await? {
        sink(Ok(Object::RoleGrant(grant)))?;
    }
    for grant in snapshot.grants(GrantScope::Global).await? {
        sink(Ok(Object::Grant(grant)))?;
    }
    for database in snapshot.databases().await? {
        walk_database(snapshot, database, sink).await?;
    }
    Ok(())
}

/// Walks over a database and all that is in it.
pub async fn walk_database<E: From<crate::metastore::Error>>(
    snapshot: &dyn Snapshot,
    database: Database,
    sink: &mut (dyn FnMut(Step) -> Result<(), E> + Send),
) -> Result<(), E> {
    let name = database.name.clone();
    sink(Ok(Object::Database(database)))?;
    for grant in snapshot.grants(GrantScope::Database(&name)).await? {
        sink(Ok(Object::Grant(grant)))?;
    }
    let functions = snapshot.functions(&name).await?;
    functions.damaged.into_iter().try_for_each(|damaged| sink(Err(damaged)))?;
    for function in functions.found {
        sink(Ok(Object::Function(function)))?;
    }
    let names = snapshot.table_names(&name).await?;
    for chunk in names.chunks(TABLES_AT_ONCE) {
        walk_tables(snapshot, &name, chunk, sink).await?;
    }
    Ok(())
}

/// Walks over these tables of a database, at most [`CHUNK`], with all that belongs to them.
pub async fn walk_tables<E: From<crate::metastore::Error>>(
    snapshot: &dyn Snapshot,
    database: &DatabaseName,
    names: &[String],
    sink: &mut (dyn FnMut(Step) -> Result<(), E> + Send),
) -> Result<(), E> {
    let tables = snapshot.tables(database, names).await?;
    let mut attached = Attached::read(snapshot, database, names).await?;
    tables.damaged.into_iter().try_for_each(|damaged| sink(Err(damaged)))?;
    std::mem::take(&mut attached.damaged).into_iter().try_for_each(|damaged| sink(Err(damaged)))?;
    for table in tables.found {
        let (grants, constraints, statistics) = attached.take(&table.name);
        sink(Ok(Object::Table(Box::new(table.clone()))))?;
        for grant in grants {
            sink(Ok(Object::Grant(grant)))?;
        }
        for constraint in constraints {
            sink(Ok(Object::Constraint(constraint)))?;
        }
        for statistics in statistics {
            sink(Ok(Object::TableStatistics { table: table.name.clone(), statistics }))?;
        }
        if !table.partition_keys.is_empty() {
            walk_partitions(snapshot, &table, sink).await?;
        }
    }
    Ok(())
}

/// What belongs to tables and is read for many at once.
#[derive(Default)]
struct Attached {
    grants: BTreeMap<String, Vec<Grant>>,
    constraints: BTreeMap<String, Vec<Constraint>>,
    statistics: BTreeMap<String, Vec<ColumnStatistics>>,
    damaged: Vec<Damaged>,
}

impl Attached {
    async fn read(snapshot: &dyn Snapshot, database: &DatabaseName, names: &[String]) -> Result<Self> {
        let mut attached = Self::default();
        for grant in snapshot.grants(GrantScope::Tables(database, names)).await? {
            if let Some(table) = grant.object.table() {
                attached.grants.entry(table.table.clone()).or_default().push(grant);
            }
        }
        let constraints = snapshot.constraints(database, names).await?;
        attached.damaged = constraints.damaged;
        for constraint in constraints.found {
            attached.constraints.entry(constraint.table.table.clone()).or_default().push(constraint);
        }
        for (table, statistics) in snapshot.table_statistics(database, names).await? {
            attached.statistics.entry(table).or_default().push(statistics);
        }
        Ok(attached)
    }

    fn take(&mut self, name: &TableName) -> (Vec<Grant>, Vec<Constraint>, Vec<ColumnStatistics>) {
        let table = &name.table;
        (
            self.grants.remove(table).unwrap_or_default(),
            self.constraints.remove(table).unwrap_or_default(),
            self.statistics.remove(table).unwrap_or_default(),
        )
    }
}

/// Partitions with what belongs to them.
struct Partitions {
    batch: Batch<crate::model::Partition>,
    statistics: Vec<(PartitionName, ColumnStatistics)>,
    grants: Vec<Grant>,
}

async fn walk_partitions<E: From<crate::metastore::Error>>(
    snapshot: &dyn Snapshot,
    table: &Table,
    sink: &mut (dyn FnMut(Step) -> Result<(), E> + Send),
) -> Result<(), E> {
    let names = snapshot.partition_names(&table.name).await?;
    let granted =
        table.parameters.get(PARTITION_LEVEL_PRIVILEGE).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mut chunks = stream::iter(names.chunks(CHUNK))
        .map(async |chunk: &[PartitionName]| {
            let batch = snapshot.partitions(table, chunk).await?;
            let statistics = snapshot.partition_statistics(table, chunk).await?;
            let grants = match granted {
                true => snapshot.grants(GrantScope::Partitions(table, chunk)).await?,
                false => Vec::new(),
            };
            Ok::<_, crate::metastore::Error>(Partitions { batch, statistics, grants })
        })
        .buffered(snapshot.parallel_calls());
    while let Some(chunk) = chunks.try_next().await? {
        step_partitions(table, chunk, sink)?;
    }
    Ok(())
}

fn step_partitions<E: From<crate::metastore::Error>>(
    table: &Table,
    chunk: Partitions,
    sink: &mut (dyn FnMut(Step) -> Result<(), E> + Send),
) -> Result<(), E> {
    chunk.batch.damaged.into_iter().try_for_each(|damaged| sink(Err(damaged)))?;
    let mut statistics = BTreeMap::<_, Vec<_>>::new();
    for (name, of_column) in chunk.statistics {
        statistics.entry(name).or_default().push(of_column);
    }
    let mut grants = BTreeMap::<_, Vec<_>>::new();
    for grant in chunk.grants {
        if let Some(partition) = grant.object.partition() {
            grants.entry(partition.clone()).or_default().push(grant);
        }
    }
    for partition in chunk.batch.found {
        let keys = table.partition_keys.iter().map(|key| key.name.as_str());
        let name = match PartitionName::of(keys, &partition.values) {
            Ok(name) => name,
            Err(why) => {
                let object = format!("partition {:?} of {}", partition.values, table.name);
                sink(Err(Damaged::other(object, why)))?;
                continue;
            }
        };
        let (statistics, grants) = (statistics.remove(&name), grants.remove(&name));
        let table = table.name.clone();
        sink(Ok(Object::Partition {
            table: table.clone(),
            partition_name: name.clone(),
            partition: Box::new(partition),
        }))?;
        for grant in grants.into_iter().flatten() {
            sink(Ok(Object::Grant(grant)))?;
        }
        for statistics in statistics.into_iter().flatten() {
            let (table, partition_name) = (table.clone(), name.clone());
            sink(Ok(Object::PartitionStatistics { table, partition_name, statistics }))?;
        }
    }
    Ok(())
}
