//! Plays an event log into a lake, one event after the other: what the event says comes true in the source's metastore and
//! its folders, then its row is appended to the source's log.
//!
//! It is told less than a server knew, and makes up the rest: a folder that an event brings with nothing in it gets a file. It
//! takes no notice of transactions and compactions, which change nothing that is carried. All objects that an event alters were
//! made by events before it; what an event says of an object before it must be what those made of it.

use super::Log;
use crate::lake::Lake;
use metasync::event::{self, Kind};
use metasync::metastore::{Change, EventRow};
use metasync::model::{
    Catalog, Constraint, Database, Function, HIVE_CATALOG, Parameters, Partition, PartitionName, StorageDescriptor,
    Table, TableName, UnknownFields,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A lake that a log is played into.
pub struct Describer {
    /// The lake.
    pub lake: Lake,
    events: std::vec::IntoIter<EventRow>,
    catalogs: BTreeSet<String>,
    tables: BTreeMap<TableName, Held>,
    /// Files of functions, below the source's root.
    resources: BTreeSet<String>,
    /// Folders, below the source's root, that were let go with what was in them.
    left: BTreeSet<String>,
}

/// A table that is there.
struct Held {
    table: Table,
    partitions: BTreeMap<PartitionName, Partition>,
}

impl Describer {
    /// An empty lake, and all of a log to come.
    pub fn new(log: &Log) -> Self {
        Self::of(log, str::to_owned)
    }

    /// The same as if no table were transactional: what the log says of those comes true of plain ones.
    pub fn plain(log: &Log) -> Self {
        Self::of(log, |message| message.replace(r#"transactional\":\"true\""#, r#"transactional\":\"false\""#))
    }

    fn of(log: &Log, retold: impl Fn(&str) -> String) -> Self {
        let lake = Lake::in_memory();
        std::fs::create_dir_all(lake.source("")).expect("a folder");
        let place = format!("file:{}", lake.source("").display());
        let events = log.rows_at(place.trim_end_matches('/'), retold);
        Self {
            lake,
            events: events.into_iter(),
            catalogs: BTreeSet::from([HIVE_CATALOG.to_owned()]),
            tables: BTreeMap::new(),
            resources: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// Makes the next event come true. Returns its row, or `None` after the last one.
    ///
    /// # Panics
    /// If it says what cannot be.
    pub fn play(&mut self) -> Option<EventRow> {
        let row = self.events.next()?;
        let event = event::decode(&row).unwrap_or_else(|error| panic!("{error}"));
        self.happen(&row, event.kind);
        self.lake.log(&row);
        Some(row)
    }

    /// The row of the event that comes next.
    pub fn coming(&self) -> Option<&EventRow> {
        self.events.as_slice().first()
    }

    /// The tables that are there.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values().map(|held| &held.table)
    }

    /// Folders, below the source's root, of which the source let go and left what was in them.
    pub fn left(&self) -> &BTreeSet<String> {
        &self.left
    }

    /// The folders, below the source's root, in which the rows of these tables are, and the files of functions.
    pub fn folders<'a>(&'a self, tables: impl Fn(&Table) -> bool + 'a) -> impl Iterator<Item = String> + 'a {
        let held = self.tables.values().filter(move |held| tables(&held.table));
        let locations = held.flat_map(|Held { table, partitions }| {
            let own = partitions.values().map(|partition| &partition.storage.location);
            own.chain([&table.storage.location])
        });
        locations.flatten().map(|location| self.below(location)).chain(self.resources.iter().cloned())
    }

    fn apply(&self, changes: &[Change]) {
        self.lake.apply(changes);
    }

    fn happen(&mut self, row: &EventRow, kind: Kind) {
        match kind {
            Kind::CreateDatabase { database, .. } => self.put_database(*database.expect("Hive 4 tells it")),
            Kind::AlterDatabase { after, .. } => self.put_database(*after),
            Kind::DropDatabase { name, database } => {
                self.apply(&[Change::DropDatabase(name)]);
                let location = database.and_then(|database| database.location);
                location.iter().for_each(|location| remove(&path(location)));
            }
            Kind::CreateTable { table, files } => {
                self.put_table(*table.clone());
                self.write(row, &files);
                self.furnish(row, &table.name);
            }
            Kind::AlterTable { before, after, truncated, .. } => self.alter_table(row, *before, *after, truncated),
            Kind::DropTable { name, .. } => {
                let held = self.tables.remove(&name).unwrap_or_else(|| panic!("event {}: no {name}", row.event_id));
                self.apply(&[Change::DropTable(name)]);
                held.partitions.values().for_each(|gone| self.let_go(&held.table, gone.storage.location.as_deref()));
                self.let_go(&held.table, held.table.storage.location.as_deref());
            }
            Kind::AddPartitions { table, partitions, files } => {
                let added = partitions.into_iter().map(|named| named.partition).collect();
                self.put_partitions(&table.name, added);
                files.iter().for_each(|of| self.write(row, &of.files));
                self.furnish(row, &table.name);
            }
            Kind::AlterPartition { table, before, after, truncated, .. } => {
                let held = &self.tables[&table.name].partitions[&before.name];
                let (held, told) = (told_of_partition(held), told_of_partition(&before.partition));
                assert_eq!(held, told, "event {}", row.event_id);
                if before.name != after.name {
                    self.rename_partition(&table.name, &before.name, &after.partition);
                }
                self.put_partitions(&table.name, vec![after.partition.clone()]);
                self.empty_if(truncated, after.partition.storage.location.as_deref());
                self.furnish(row, &table.name);
            }
            Kind::AlterPartitions { table, partitions, truncated, .. } => {
                for named in &partitions {
                    self.empty_if(truncated, named.partition.storage.location.as_deref());
                }
                self.put_partitions(&table.name, partitions.into_iter().map(|named| named.partition).collect());
                self.furnish(row, &table.name);
            }
            Kind::DropPartitions { name, partitions, .. } => self.drop_partitions(&name, partitions),
            Kind::Insert { name, partition, replace, files, .. } => {
                let held = &self.tables[&name];
                let location = match &partition {
                    Some(partition) => held.partitions[partition].storage.location.as_deref(),
                    None => held.table.storage.location.as_deref(),
                };
                self.empty_if(replace, location);
                self.write(row, &files);
            }
            Kind::CreateFunction { function } => self.put_function(row, *function),
            Kind::DropFunction { database, function } => {
                self.apply(&[Change::DropFunction { database, name: function }]);
            }
            Kind::AddConstraints { constraints } => self.put_constraints(constraints),
            Kind::DropConstraint { table, constraint } => {
                self.apply(&[Change::DropConstraint { table, name: constraint }]);
            }
            Kind::UpdateTableStatistics { name, statistics, parameters, .. } => {
                let mut table = self.tables[&name].table.clone();
                set(&mut table.parameters, parameters);
                self.put_table(table);
                self.apply(&[Change::PutTableStatistics { table: name, statistics }]);
            }
            Kind::UpdatePartitionStatistics { name, partition, statistics, parameters, .. } => {
                let mut changed = self.tables[&name].partitions[&partition].clone();
                set(&mut changed.parameters, parameters);
                self.put_partitions(&name, vec![changed]);
                let statistics = vec![(partition, statistics)];
                self.apply(&[Change::PutPartitionStatistics { table: name, statistics }]);
            }
            Kind::DeleteTableStatistics { name, column } => {
                self.apply(&[Change::DropTableStatistics { table: name, column }]);
            }
            Kind::DeletePartitionStatistics { name, partition, column } => {
                self.apply(&[Change::DropPartitionStatistics { table: name, partition, column }]);
            }
            Kind::OpenTransactions { .. }
            | Kind::CommitTransaction { .. }
            | Kind::AbortTransaction { .. }
            | Kind::AllocateWriteIds { .. }
            | Kind::CommitCompaction { .. } => (),
            other => panic!("event {}: the logs had no such event: {other:?}", row.event_id),
        }
    }

    fn put_database(&mut self, database: Database) {
        let catalog = &database.name.catalog;
        // No event tells that a catalog was made.
        if self.catalogs.insert(catalog.clone()) {
            let location = format!("file:{}", self.lake.source(catalog).display());
            let (description, unknown) = (None, UnknownFields::default());
            let catalog = Catalog { name: catalog.clone(), description, location, create_time: None, unknown };
            self.apply(&[Change::PutCatalog(catalog)]);
        }
        for location in [&database.location, &database.managed_location].into_iter().flatten() {
            std::fs::create_dir_all(path(location)).expect("a folder");
        }
        self.apply(&[Change::PutDatabase(database)]);
    }

    fn put_table(&mut self, table: Table) {
        self.apply(&[Change::PutTable(Box::new(table.clone()))]);
        match self.tables.get_mut(&table.name) {
            Some(held) => held.table = table,
            None => drop(self.tables.insert(table.name.clone(), Held { table, partitions: BTreeMap::new() })),
        }
    }

    fn alter_table(&mut self, row: &EventRow, before: Table, after: Table, truncated: Option<bool>) {
        let held =
            self.tables.get(&before.name).unwrap_or_else(|| panic!("event {}: no {}", row.event_id, before.name));
        assert_eq!(told_of_table(&held.table), told_of_table(&before), "event {}", row.event_id);
        let (from, to) = (before.storage.location.clone(), after.storage.location.clone());
        if before.name != after.name {
            let held = self.tables.remove(&before.name).expect("it was there");
            self.apply(&[Change::RenameTable { from: before.name.clone(), to: after.name.clone() }]);
            self.tables.insert(after.name.clone(), held);
            if let (Some(from), Some(to)) = (&from, &to)
                && from != to
            {
                self.move_folder(&after.name, from, to);
            }
        } else if from != to {
            // It points elsewhere; what was there stays.
            let left = from.map(|from| self.below(&from));
            self.left.extend(left);
        }
        let name = after.name.clone();
        self.put_table(after);
        self.empty_if(truncated, to.as_deref());
        self.furnish(row, &name);
    }

    /// As a server does when it renames a table whose place goes by its name: partitions in it go along.
    fn move_folder(&mut self, name: &TableName, from: &str, to: &str) {
        rename(&path(from), &path(to));
        let held = self.tables.get_mut(name).expect("it was there");
        let mut moved = Vec::new();
        for partition in held.partitions.values_mut() {
            let location = partition.storage.location.as_deref();
            let inside = location.and_then(|location| location.strip_prefix(&format!("{from}/")));
            if let Some(inside) = inside {
                partition.storage.location = Some(format!("{to}/{inside}"));
                moved.push(partition.clone());
            }
        }
        self.put_partitions(name, moved);
    }

    fn put_partitions(&mut self, name: &TableName, partitions: Vec<Partition>) {
        if partitions.is_empty() {
            return;
        }
        let held = self.tables.get_mut(name).unwrap_or_else(|| panic!("no {name} for its partitions"));
        let mut left = Vec::new();
        for partition in &partitions {
            let keys = held.table.partition_keys.iter().map(|key| key.name.as_str());
            let named = PartitionName::of(keys, &partition.values).expect("a partition's name");
            let before = held.partitions.insert(named, partition.clone());
            left.extend(
                before
                    .and_then(|before| before.storage.location)
                    .filter(|before| Some(before) != partition.storage.location.as_ref()),
            );
        }
        self.left.extend(left.iter().map(|left| below(&self.lake, left)));
        self.apply(&[Change::PutPartitions { table: name.clone(), partitions }]);
    }

    fn rename_partition(&mut self, name: &TableName, from: &PartitionName, after: &Partition) {
        let held = self.tables.get_mut(name).expect("its table");
        let mut renamed = held.partitions.remove(from).expect("the partition");
        let keys = held.table.partition_keys.iter().map(|key| key.name.as_str());
        let to = PartitionName::of(keys, &after.values).expect("a partition's name");
        self.apply(&[Change::RenamePartition { table: name.clone(), from: from.clone(), to: after.values.clone() }]);
        if let (Some(from), Some(to)) = (&renamed.storage.location, &after.storage.location)
            && from != to
        {
            rename(&path(from), &path(to));
        }
        (renamed.values, renamed.storage.location) = (after.values.clone(), after.storage.location.clone());
        self.tables.get_mut(name).expect("its table").partitions.insert(to, renamed);
    }

    fn drop_partitions(&mut self, name: &TableName, names: Vec<PartitionName>) {
        let held = self.tables.get_mut(name).expect("its table");
        let gone: Vec<Partition> = names.iter().filter_map(|name| held.partitions.remove(name)).collect();
        assert_eq!(gone.len(), names.len(), "{name}: {names:?}");
        let table = held.table.clone();
        self.apply(&[Change::DropPartitions { table: name.clone(), names }]);
        gone.iter().for_each(|gone| self.let_go(&table, gone.storage.location.as_deref()));
    }

    fn put_function(&mut self, row: &EventRow, function: Function) {
        for resource in &function.resources {
            self.write(row, std::slice::from_ref(&resource.uri));
            let resource = self.below(&resource.uri);
            self.resources.insert(resource);
        }
        self.apply(&[Change::PutFunction(function)]);
    }

    fn put_constraints(&mut self, constraints: Vec<Constraint>) {
        let changes: Vec<Change> = constraints.into_iter().map(Change::PutConstraint).collect();
        self.apply(&changes);
    }

    /// What is in the folder of a table or partition that was dropped goes with it, or stays.
    fn let_go(&mut self, table: &Table, location: Option<&str>) {
        let Some(location) = location else { return };
        let purges =
            table.parameters.get("external.table.purge").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match purges || table.table_type.as_deref() != Some("EXTERNAL_TABLE") {
            true => remove(&path(location)),
            false => drop(self.left.insert(self.below(location))),
        }
    }

    fn empty_if(&self, emptied: Option<bool>, location: Option<&str>) {
        if let (Some(true), Some(location)) = (emptied, location) {
            remove(&path(location));
            std::fs::create_dir_all(path(location)).expect("a folder");
        }
    }

    /// Writes the files that an event names.
    fn write(&self, row: &EventRow, files: &[String]) {
        for file in files {
            let file = file.split('#').next().expect("a URL");
            self.lake.write(&self.below(file), &format!("event {}", row.event_id));
        }
    }

    /// Makes the folders that a table and its partitions point to and that are not there, with a file where rows can be.
    fn furnish(&self, row: &EventRow, name: &TableName) {
        let Held { table, partitions } = &self.tables[name];
        let content = format!("made up at event {}", row.event_id);
        let furnish = |location: Option<&String>, rows: bool| {
            let Some(folder) = location.map(|location| path(location)).filter(|folder| !folder.exists()) else {
                return;
            };
            std::fs::create_dir_all(&folder).expect("a folder");
            if rows {
                let file = folder.join("made-up");
                self.lake.write(&file.to_string_lossy(), &content);
            }
        };
        furnish(table.storage.location.as_ref(), table.partition_keys.is_empty());
        partitions.values().for_each(|partition| furnish(partition.storage.location.as_ref(), true));
    }

    fn below(&self, location: &str) -> String {
        below(&self.lake, location)
    }
}

/// A location below the source's root.
fn below(lake: &Lake, location: &str) -> String {
    let path = path(location);
    let inside = path.strip_prefix(lake.source("")).unwrap_or_else(|_| panic!("{location} is outside of the lake"));
    inside.to_string_lossy().into_owned()
}

fn path(location: &str) -> PathBuf {
    PathBuf::from(location.strip_prefix("file:").unwrap_or(location))
}

fn remove(folder: &Path) {
    if folder.exists() {
        std::fs::remove_dir_all(folder).expect("a folder");
    }
}

fn rename(from: &Path, to: &Path) {
    if from.exists() && !to.exists() {
        std::fs::create_dir_all(to.parent().expect("a place in the lake")).expect("a folder");
        std::fs::rename(from, to).expect("a folder moves");
    }
}

/// An event has all parameters of an object, or says nothing of them.
fn set(parameters: &mut Parameters, told: Parameters) {
    if !told.is_empty() {
        *parameters = told;
    }
}

/// Parameters that a server changes without an event, or in another order than its events say.
const UNTOLD: [&str; 7] = [
    "COLUMN_STATS_ACCURATE",
    "numFiles",
    "numFilesErasureCoded",
    "numRows",
    "rawDataSize",
    "totalSize",
    "transient_lastDdlTime",
];

fn without_untold(parameters: &mut Parameters, storage: &mut StorageDescriptor, write_id: &mut i64) {
    parameters.retain(|key, _| !UNTOLD.contains(&key.as_str()));
    // Objects before and after an alteration may lack it, those of a creation have it.
    storage.serde.parameters.remove("serialization.format");
    *write_id = 0;
}

/// A table without what changes though no event says so.
fn told_of_table(table: &Table) -> Table {
    let mut table = table.clone();
    without_untold(&mut table.parameters, &mut table.storage, &mut table.write_id);
    // A rebuild of a materialized view writes into it, and says so too late.
    table.creation_metadata = None;
    table
}

fn told_of_partition(partition: &Partition) -> Partition {
    let mut partition = partition.clone();
    without_untold(&mut partition.parameters, &mut partition.storage, &mut partition.write_id);
    partition
}
