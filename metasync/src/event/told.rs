//! What the messages of a run say that its source holds (rule 22). Pure.
//!
//! One word for each object that a message describes or says is gone: the last one's. What no message describes any more has
//! no word: partitions of a table that was altered, which may have changed without a message of their own; whatever an event
//! names that cannot be read or came late (rule 24); events of one id, whose order nobody knows. A word that is lost costs
//! nothing but that nobody notices where the source holds something else.

mod against;

use super::{Event, Kind, NamedPartition, Touches};
use crate::metastore::EventRow;
use crate::model::{Database, DatabaseName, Function, HIVE_CATALOG, Partition, PartitionName, Table, TableName};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// The most words that are kept; objects beyond have none. A partition takes about 1 KiB, a table as much as its columns.
pub const MAX_WORDS: usize = 10_000;

/// The last word on each object.
#[derive(Clone, Debug, Default)]
pub struct Told {
    databases: HashMap<DatabaseName, Word<Database>>,
    tables: HashMap<TableName, Word<Table>>,
    partitions: HashMap<TableName, HashMap<PartitionName, Word<Partition>>>,
    functions: HashMap<DatabaseName, HashMap<String, Word<Function>>>,
    /// Of all maps.
    words: usize,
    /// The last event, with what it is about.
    last: Option<(i64, Touches)>,
}

/// A word of an event on an object.
#[derive(Clone, Debug)]
struct Word<T> {
    event: i64,
    /// `None`: it is gone.
    says: Option<T>,
}

/// A map of words, and how many there are in all.
struct Words<'a, K, T>(&'a mut HashMap<K, Word<T>>, &'a mut usize);

impl<K: Eq + Hash, T> Words<'_, K, T> {
    fn put(self, key: K, event: i64, says: Option<T>) {
        let Self(map, words) = self;
        match map.entry(key) {
            Entry::Occupied(mut word) => drop(word.insert(Word { event, says })),
            Entry::Vacant(place) if *words < MAX_WORDS => {
                *words += 1;
                place.insert(Word { event, says });
            }
            Entry::Vacant(_) => {}
        }
    }

    fn forget(self, key: &K) {
        *self.1 -= usize::from(self.0.remove(key).is_some());
    }
}

/// What a row of the log names beside its message: a database, and a table of it.
pub fn named(row: &EventRow) -> Option<(DatabaseName, Option<&str>)> {
    let catalog = row.catalog.as_deref().filter(|catalog| !catalog.is_empty()).unwrap_or(HIVE_CATALOG);
    let database = row.database.as_deref().map(|database| DatabaseName::in_catalog(catalog, database))?;
    Some((database, row.table.as_deref()))
}

impl Told {
    /// Takes the next event of the log.
    pub fn take(&mut self, event: Event) {
        let touches = event.touches();
        let twin = self.last.take_if(|(id, _)| *id == event.id);
        if let Some((_, before)) = twin {
            self.forget(&before);
            self.forget(&touches);
        } else {
            self.understand(event.id, event.kind);
        }
        self.last = Some((event.id, touches));
    }

    /// Takes back what was said of these objects.
    pub fn forget(&mut self, touches: &Touches) {
        for database in &touches.databases {
            Words(&mut self.databases, &mut self.words).forget(database);
        }
        for table in touches.tables.iter().chain(touches.renames.iter().flat_map(|(from, to)| [from, to])) {
            self.forget_table(table);
        }
        for (table, names) in &touches.partitions {
            names.iter().for_each(|name| self.forget_partition(table, name));
        }
        for (database, function) in &touches.functions {
            if let Some(functions) = self.functions.get_mut(database) {
                Words(functions, &mut self.words).forget(function);
            }
        }
    }

    /// Takes back what was said of whatever a row may be about that cannot be understood.
    pub fn forget_row(&mut self, row: &EventRow) {
        match named(row) {
            Some((database, Some(table))) => self.forget_table(&database.table(table)),
            Some((database, None)) => self.forget_database(&database),
            None => self.forget_all(),
        }
    }

    fn forget_all(&mut self) {
        *self = Self::default();
    }

    fn forget_database(&mut self, database: &DatabaseName) {
        Words(&mut self.databases, &mut self.words).forget(database);
        self.words -= self.functions.remove(database).map_or(0, |functions| functions.len());
        let inside: Vec<TableName> = self
            .tables
            .keys()
            .chain(self.partitions.keys())
            .filter(|table| table.database() == *database)
            .cloned()
            .collect();
        inside.iter().for_each(|table| self.forget_table(table));
    }

    fn forget_table(&mut self, table: &TableName) {
        Words(&mut self.tables, &mut self.words).forget(table);
        self.forget_partitions(table);
    }

    fn forget_partitions(&mut self, table: &TableName) {
        self.words -= self.partitions.remove(table).map_or(0, |partitions| partitions.len());
    }

    fn forget_partition(&mut self, table: &TableName, name: &PartitionName) {
        if let Some(partitions) = self.partitions.get_mut(table) {
            Words(partitions, &mut self.words).forget(name);
        }
    }

    fn table(&mut self, event: i64, name: TableName, says: Option<Table>) {
        self.forget_partitions(&name);
        Words(&mut self.tables, &mut self.words).put(name, event, says);
    }

    fn partition(&mut self, event: i64, table: &TableName, name: PartitionName, says: Option<Partition>) {
        let partitions = match self.partitions.get_mut(table) {
            Some(partitions) => partitions,
            None => self.partitions.entry(table.clone()).or_default(),
        };
        Words(partitions, &mut self.words).put(name, event, says);
    }

    fn function(&mut self, event: i64, database: DatabaseName, name: String, says: Option<Function>) {
        Words(self.functions.entry(database).or_default(), &mut self.words).put(name, event, says);
    }

    fn understand(&mut self, event: i64, kind: Kind) {
        match kind {
            Kind::CreateDatabase { name, database: None } => self.forget_database(&name),
            Kind::CreateDatabase { name, database } => {
                self.forget_database(&name);
                Words(&mut self.databases, &mut self.words).put(name, event, database.map(|database| *database));
            }
            Kind::AlterDatabase { after, .. } => {
                Words(&mut self.databases, &mut self.words).put(after.name.clone(), event, Some(*after));
            }
            Kind::DropDatabase { name, .. } => {
                self.forget_database(&name);
                Words(&mut self.databases, &mut self.words).put(name, event, None);
            }
            Kind::CreateTable { table, .. } => self.table(event, table.name.clone(), Some(*table)),
            Kind::AlterTable { before, after, .. } => {
                if before.name != after.name {
                    self.table(event, before.name, None);
                }
                self.table(event, after.name.clone(), Some(*after));
            }
            Kind::DropTable { name, .. } => self.table(event, name, None),
            Kind::AddPartitions { table, partitions, .. } | Kind::AlterPartitions { table, partitions, .. } => {
                for NamedPartition { name, partition } in partitions {
                    self.partition(event, &table.name, name, Some(partition));
                }
            }
            Kind::AlterPartition { table, before, after, .. } => {
                if before.name != after.name {
                    self.partition(event, &table.name, before.name, None);
                }
                self.partition(event, &table.name, after.name, Some(after.partition));
            }
            Kind::DropPartitions { name, partitions, .. } => {
                partitions.into_iter().for_each(|partition| self.partition(event, &name, partition, None));
            }
            Kind::CreateFunction { function } => {
                self.function(event, function.database.clone(), function.name.clone(), Some(*function));
            }
            Kind::DropFunction { database, function } => self.function(event, database, function, None),
            Kind::Unknown { table: Some(table), .. } => self.forget_table(&table),
            Kind::Unknown { database: Some(database), .. } => self.forget_database(&database),
            Kind::Unknown { .. } => self.forget_all(),
            Kind::CreateIndex { index } | Kind::AlterIndex { after: index, .. } | Kind::DropIndex { index } => {
                index.index_table.iter().for_each(|table| self.forget_table(table));
            }
            // Statistics and writes, of which an object itself holds nothing but numbers that are not held against it;
            // constraints, which are objects beside their table; marks.
            Kind::Insert { .. }
            | Kind::AddConstraints { .. }
            | Kind::DropConstraint { .. }
            | Kind::UpdateTableStatistics { .. }
            | Kind::DeleteTableStatistics { .. }
            | Kind::UpdatePartitionStatistics { .. }
            | Kind::UpdateStatisticsOfPartitions { .. }
            | Kind::DeletePartitionStatistics { .. }
            | Kind::OpenTransactions { .. }
            | Kind::CommitTransaction { .. }
            | Kind::AbortTransaction { .. }
            | Kind::AllocateWriteIds { .. }
            | Kind::TransactionalWrite { .. }
            | Kind::CommitCompaction { .. }
            | Kind::Reload { .. }
            | Kind::CreateCatalog { .. }
            | Kind::AlterCatalog { .. }
            | Kind::DropCatalog { .. }
            | Kind::DataConnector
            | Kind::SchemaRegistry
            | Kind::LoadPartitionDone => {}
        }
    }
}

#[cfg(test)]
mod tests;
