//! A lake that is changed by dice: what engines do to tables, one thing after the other, and what must be so afterwards.

use super::{Place, ROUNDS};
use metasync::metastore::Change;
use metasync::model::{
    Constraint, ConstraintKind, Database, DatabaseName, Function, FunctionKind, LongUnit, Partition, PartitionName,
    StatisticsData, Table, TableName, UnknownFields,
};
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};
use tests::metastores::objects;
use tests::running::end_within;
use tests::served::{exchange_partition, files, rows, truncate};
use tests::trees::set_mtime;

/// A table, as the metastore has it.
struct Made {
    table: Table,
    partitions: Vec<Partition>,
    /// The name of its primary key.
    key: Option<String>,
    /// Whether it or a partition has statistics: a server of 3.1 cannot drop it once it was renamed.
    is_counted: bool,
}

/// A lake that is changed by dice.
pub struct Random<'a, P> {
    place: &'a P,
    dice: StdRng,
    tables: Vec<Made>,
    /// Names of views.
    views: Vec<String>,
    has_function: bool,
    /// Folders of all tables that ever were and take their files with them; others leave what they had when they were dropped.
    managed: Vec<String>,
    /// In front of the names of tables.
    prefix: String,
    made: u32,
    /// Whether the server, if there is one, has TRUNCATE TABLE: from 3.0 on.
    pub truncates: bool,
}

/// A folder of the lake's data, below `source`.
fn folder(location: Option<&String>) -> String {
    location.and_then(|location| location.split("/source/").nth(1)).unwrap().to_owned()
}

fn folder_of(table: &Table) -> String {
    folder(table.storage.location.as_ref())
}

impl<'a, P: Place> Random<'a, P> {
    /// With three tables.
    pub fn new(place: &'a P, seed: u64, prefix: String) -> Self {
        let (tables, views, managed) = (Vec::new(), Vec::new(), Vec::new());
        let dice = StdRng::seed_from_u64(seed);
        let (has_function, made, truncates) = (false, 0, true);
        let mut random = Self { place, dice, tables, views, has_function, managed, prefix, made, truncates };
        for _ in 0..3 {
            random.create();
        }
        random
    }

    /// Changes that drop everything.
    pub fn drops(&self) -> Vec<Change> {
        let name = |name: &String| TableName::new(P::DATABASE, name);
        let views = self.views.iter().map(|view| Change::DropTable(name(view)));
        let (database, function) = (DatabaseName::new(P::DATABASE), format!("{}f", self.prefix));
        let function = self.has_function.then_some(Change::DropFunction { database, name: function });
        views.chain(function).chain(self.tables.iter().map(|made| Change::DropTable(made.table.name.clone()))).collect()
    }

    fn next(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn content(&mut self) -> String {
        format!("content {} {}", self.next(), "x".repeat(self.dice.random_range(0..2000)))
    }

    fn create(&mut self) {
        let number = self.next();
        let name = format!("{}t{number}", self.prefix);
        let partitioned = self.dice.random_bool(0.7);
        self.create_as(&name, if partitioned { &["dt"] } else { &[] });
        self.insert();
    }

    fn create_as(&mut self, name: &str, keys: &[&str]) {
        let mut table = self.place.unmade_table(name, keys);
        if self.dice.random_bool(0.3) {
            self.place.own_files(&mut table);
            self.managed.push(format!("{}/", folder_of(&table)));
        } else {
            let folder = format!("{}/", folder_of(&table));
            self.managed.retain(|managed| *managed != folder);
        }
        std::fs::create_dir_all(self.place.source(&folder_of(&table))).unwrap();
        self.place.apply(&[Change::PutTable(Box::new(table.clone()))]);
        self.tables.push(Made { table, partitions: Vec::new(), key: None, is_counted: false });
    }

    fn pick(&mut self) -> Option<usize> {
        let all: Vec<usize> = (0..self.tables.len()).collect();
        all.choose(&mut self.dice).copied()
    }

    /// A table and one of its partitions.
    fn pick_partition(&mut self) -> Option<(usize, usize)> {
        let at = self.pick()?;
        let all: Vec<usize> = (0..self.tables[at].partitions.len()).collect();
        Some((at, all.choose(&mut self.dice).copied()?))
    }

    /// A folder of data: of a table without partitions, or of one.
    fn pick_folder(&mut self) -> Option<String> {
        let at = self.pick()?;
        let Made { table, partitions, .. } = &self.tables[at];
        let place = match table.partition_keys.is_empty() {
            true => Some(&table.storage),
            false => partitions.choose(&mut self.dice).map(|partition| &partition.storage),
        };
        place.map(|storage| folder(storage.location.as_ref()))
    }

    /// A new partition, or a new file.
    fn insert(&mut self) {
        let (Some(at), content, number) = (self.pick(), self.content(), self.next()) else { return };
        let table = self.tables[at].table.clone();
        if table.partition_keys.is_empty() {
            self.write(&format!("{}/part-{number}", folder_of(&table)), &content);
        } else {
            let day = format!("d {number}/x");
            let values: Vec<&str> = table.partition_keys.iter().map(|_| day.as_str()).collect();
            let partition = objects::partition(&table, &values);
            self.write(&format!("{}/part-0", folder(partition.storage.location.as_ref())), &content);
            self.put_partition(&table, &partition);
            self.tables[at].partitions.push(partition);
        }
    }

    fn put_partition(&self, table: &Table, partition: &Partition) {
        let (table, partitions) = (table.name.clone(), vec![partition.clone()]);
        self.place.apply(&[Change::PutPartitions { table, partitions }]);
    }

    /// Writes a file that is not so young that nobody may trust its time.
    fn write(&self, path: &str, content: &str) {
        let path = self.place.source(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        set_mtime(&path, SystemTime::now() - Duration::from_secs(10));
    }

    /// A file is replaced, and no event tells.
    fn overwrite(&mut self) {
        let (Some(folder), content) = (self.pick_folder(), self.content()) else { return };
        let files: Vec<String> = files(&self.place.source(&folder)).into_keys().collect();
        if let Some(file) = files.choose(&mut self.dice) {
            self.write(&format!("{folder}/{file}"), &content);
        }
    }

    /// INSERT OVERWRITE, and sometimes TRUNCATE TABLE: other files, or none, and no event tells.
    fn replace(&mut self) {
        let (Some(folder), content, number) = (self.pick_folder(), self.content(), self.next()) else { return };
        let old: Vec<String> = files(&self.place.source(&folder)).into_keys().collect();
        if self.dice.random_bool(0.7) {
            self.write(&format!("{folder}/part-{number}"), &content);
        }
        old.iter().for_each(|file| std::fs::remove_file(self.place.source(&folder).join(file)).unwrap());
    }

    /// Hive's TRUNCATE TABLE, of a table, all its partitions or one: the files go, and events say so.
    fn truncate(&mut self) {
        let Some(at) = self.pick() else { return };
        let Made { table, partitions, .. } = &self.tables[at];
        let mut chosen: Vec<&Partition> = partitions.iter().collect();
        if self.dice.random_bool(0.5) {
            chosen = chosen.choose(&mut self.dice).into_iter().copied().collect();
        }
        if !table.partition_keys.is_empty() && chosen.is_empty() {
            return;
        }
        let names: Vec<String> = chosen.iter().map(|partition| name_of(table, partition).0).collect();
        if let Some(server) = self.place.server() {
            if self.truncates {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                truncate(&server, P::DATABASE, &table.name.table, &names);
            }
            return;
        }
        let places =
            chosen.iter().map(|partition| &partition.storage).chain(names.is_empty().then_some(&table.storage));
        for folder in places.map(|storage| self.place.source(&folder(storage.location.as_ref()))) {
            files(&folder).keys().for_each(|file| std::fs::remove_file(folder.join(file)).unwrap());
        }
        let tell = |partition| Change::TellEmptied { table: table.name.clone(), partition };
        let each = names.iter().cloned().map(|name| tell(Some(PartitionName(name))));
        self.place.apply(&each.chain(names.is_empty().then(|| tell(None))).collect::<Vec<_>>());
    }

    /// Hive's EXCHANGE PARTITION: one that stands where its name leads goes to another table, folder and all.
    fn exchange(&mut self) {
        let Some((from, number)) = self.pick_partition() else { return };
        let (one, partition) = (&self.tables[from], &self.tables[from].partitions[number]);
        let is_like = |other: &Made| {
            other.table.name != one.table.name
                && other.table.partition_keys == one.table.partition_keys
                && !other.is_counted
        };
        let others: Vec<usize> = (0..self.tables.len()).filter(|at| is_like(&self.tables[*at])).collect();
        let usual = |table: &Table| {
            let values: Vec<&str> = partition.values.iter().map(String::as_str).collect();
            objects::partition(table, &values).storage.location
        };
        let Some(to) = others.choose(&mut self.dice).copied() else { return };
        if one.is_counted || partition.storage.location != usual(&one.table) {
            return;
        }
        let (source, target) = (one.table.clone(), self.tables[to].table.clone());
        let mut moved = partition.clone();
        moved.storage.location = usual(&target);
        let name = name_of(&source, partition);
        match self.place.server() {
            Some(server) => {
                let keys = source.partition_keys.iter().map(|key| key.name.as_str());
                let values = moved.values.iter().map(String::as_str);
                let spec: Vec<(&str, &str)> = keys.zip(values).collect();
                exchange_partition(&server, P::DATABASE, &spec, &source.name.table, &target.name.table);
            }
            None => {
                let [before, after] = [partition, &moved]
                    .map(|partition| self.place.source(&folder(partition.storage.location.as_ref())));
                std::fs::create_dir_all(after.parent().unwrap()).unwrap();
                std::fs::rename(before, after).unwrap();
                self.place.apply(&[
                    Change::PutPartitions { table: target.name, partitions: vec![moved.clone()] },
                    Change::DropPartitions { table: source.name, names: vec![name] },
                ]);
            }
        }
        self.tables[from].partitions.swap_remove(number);
        self.tables[to].partitions.push(moved);
    }

    fn drop_partition(&mut self) {
        let Some((at, number)) = self.pick_partition() else { return };
        let partition = self.tables[at].partitions.swap_remove(number);
        let table = self.tables[at].table.clone();
        let folder = self.place.source(&folder(partition.storage.location.as_ref()));
        let names = vec![name_of(&table, &partition)];
        self.place.apply(&[Change::DropPartitions { table: table.name, names }]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn rename_partition(&mut self) {
        let (Some((at, partition)), number) = (self.pick_partition(), self.next()) else { return };
        let Made { table, partitions, is_counted, .. } = &mut self.tables[at];
        if *is_counted {
            return;
        }
        let partition = &mut partitions[partition];
        let from = name_of(table, partition);
        partition.values = table.partition_keys.iter().map(|_| format!("renamed {number}")).collect();
        let to = partition.values.clone();
        self.place.apply(&[Change::RenamePartition { table: table.name.clone(), from, to }]);
    }

    fn drop_table(&mut self) {
        let Some(at) = self.pick() else { return };
        let Made { table, .. } = self.tables.swap_remove(at);
        let folder = folder_of(&table);
        self.place.apply(&[Change::DropTable(table.name)]);
        if self.managed.contains(&format!("{folder}/")) {
            std::fs::remove_dir_all(self.place.source(&folder)).unwrap();
        }
    }

    /// Dropped and made again by the same name and in the same folder, with other keys.
    fn make_again(&mut self) {
        let Some(at) = self.pick() else { return };
        let Made { table, .. } = self.tables.swap_remove(at);
        let mut folders = vec![folder_of(&table)];
        self.place.apply(&[Change::DropTable(table.name.clone())]);
        let keys: &[&str] = match table.partition_keys.len() {
            0 => &["region", "dt"],
            1 => &[],
            _ => &["dt"],
        };
        folders.push(folder_of(&self.place.unmade_table(&table.name.table, keys)));
        for folder in folders {
            let folder = self.place.source(&folder);
            // A table of another name may have its folder there still.
            let is_taken = self.tables.iter().any(|made| self.place.source(&folder_of(&made.table)) == folder);
            if folder.exists() && !is_taken {
                std::fs::remove_dir_all(folder).unwrap();
            }
        }
        self.create_as(&table.name.table, keys);
        self.insert();
    }

    fn rename(&mut self) {
        let (Some(at), number) = (self.pick(), self.next()) else { return };
        let to = TableName::new(P::DATABASE, &format!("{}r{number}", self.prefix));
        let Made { table, is_counted: false, .. } = &mut self.tables[at] else { return };
        self.place.apply(&[Change::RenameTable { from: table.name.clone(), to: to.clone() }]);
        table.name = to;
    }

    fn alter(&mut self) {
        let (Some(at), number) = (self.pick(), self.next()) else { return };
        let table = &mut self.tables[at].table;
        table.parameters.insert("altered".to_owned(), number.to_string());
        self.place.apply(&[Change::PutTable(Box::new(table.clone()))]);
    }

    /// Another folder, with other files; what was in the old one stays there.
    fn relocate(&mut self) {
        let (Some(at), content, number) = (self.pick(), self.content(), self.next()) else { return };
        let Made { table, partitions, .. } = &mut self.tables[at];
        if !table.partition_keys.is_empty() {
            let Some(partition) = partitions.choose_mut(&mut self.dice) else { return };
            partition.storage.location = table.storage.location.as_ref().map(|root| format!("{root}/moved_{number}"));
            let (table, partition) = (table.clone(), partition.clone());
            self.write(&format!("{}/part-0", folder(partition.storage.location.as_ref())), &content);
            self.put_partition(&table, &partition);
            return;
        }
        let former = format!("{}/", folder_of(table));
        let location = table.storage.location.as_mut().unwrap();
        *location = format!("{location}_{number}");
        let table = table.clone();
        // What the last run left in the former folder stays there, as at the source what is in it now.
        if let Some(folder) = self.managed.iter_mut().find(|folder| **folder == former) {
            *folder = format!("{}/", folder_of(&table));
        }
        self.write(&format!("{}/part-0", folder_of(&table)), &content);
        self.place.apply(&[Change::PutTable(Box::new(table))]);
    }

    /// A view comes, changes or goes.
    fn view(&mut self) {
        let number = self.next();
        let name = match self.dice.random_range(0..3) {
            0 if !self.views.is_empty() => {
                let name = TableName::new(P::DATABASE, &self.views.swap_remove(0));
                return self.place.apply(&[Change::DropTable(name)]);
            }
            1 if !self.views.is_empty() => self.views[0].clone(),
            _ => format!("{}v{number}", self.prefix),
        };
        let mut view = self.place.unmade_table(&name, &[]);
        view.table_type = Some("VIRTUAL_VIEW".to_owned());
        view.parameters.remove("EXTERNAL");
        view.storage.location = None;
        view.view_original_text = Some(format!("select {number} as id"));
        view.view_expanded_text = view.view_original_text.clone();
        self.place.apply(&[Change::PutTable(Box::new(view))]);
        if !self.views.contains(&name) {
            self.views.push(name);
        }
    }

    /// A primary key comes or goes.
    fn constraint(&mut self) {
        let (Some(at), number) = (self.pick(), self.next()) else { return };
        let Made { table, key, .. } = &mut self.tables[at];
        let table = table.name.clone();
        let change = match key.take() {
            Some(name) => Change::DropConstraint { table, name },
            None => {
                let name = format!("{}pk{number}", self.prefix);
                *key = Some(name.clone());
                let kind = ConstraintKind::PrimaryKey { columns: vec!["id".to_owned()] };
                Change::PutConstraint(Constraint { table, name, kind, enable: false, validate: false, rely: true })
            }
        };
        self.place.apply(&[change]);
    }

    /// A function without files comes, changes or goes.
    fn function(&mut self) {
        let (number, name) = (self.next(), format!("{}f", self.prefix));
        let database = DatabaseName::new(P::DATABASE);
        let change = match self.has_function && self.dice.random_bool(0.3) {
            true => Change::DropFunction { database, name },
            false => Change::PutFunction(Function {
                database,
                name,
                class_name: Some(format!("com.example.F{number}")),
                owner: Some(objects::user("etl")),
                create_time: 1_700_000_000,
                kind: FunctionKind::Java,
                resources: Vec::new(),
                unknown: UnknownFields::default(),
            }),
        };
        self.has_function = matches!(change, Change::PutFunction(_));
        self.place.apply(&[change]);
    }

    /// Statistics of a column, of a table or of a partition.
    fn statistics(&mut self) {
        let (Some(at), number) = (self.pick(), self.next()) else { return };
        let (low, high) = (Some(0), Some(i64::from(number)));
        let (unit, bit_vector, histogram) = (LongUnit::Number, None, None);
        let data = StatisticsData::Long { unit, low, high, distinct: i64::from(number), bit_vector, histogram };
        let of_column = vec![objects::column_statistics("id", "bigint", data)];
        let Made { table, partitions, is_counted, .. } = &mut self.tables[at];
        let partition = partitions.iter().find(|partition| !partition.values[0].starts_with("renamed"));
        let name = table.name.clone();
        let change = match (table.partition_keys.is_empty(), partition) {
            (true, _) => Change::PutTableStatistics { table: name, statistics: of_column },
            (false, Some(partition)) => {
                let statistics = vec![(name_of(table, partition), of_column)];
                Change::PutPartitionStatistics { table: name, statistics }
            }
            (false, None) => return,
        };
        *is_counted = true;
        self.place.apply(&[change]);
    }

    /// Other properties of the database.
    fn database(&mut self) {
        let number = self.next();
        let root = format!("file:{}", self.place.source("").display());
        let mut database = objects::database(&DatabaseName::new(P::DATABASE), root.trim_end_matches('/'));
        database.parameters.insert("altered".to_owned(), number.to_string());
        // Of a role nobody can be sure.
        self.place.apply(&[Change::PutDatabase(Database { owner: Some(objects::user("etl")), ..database })]);
    }

    fn change(&mut self) {
        match self.dice.random_range(0..28) {
            0 | 1 => self.create(),
            2..=6 => self.insert(),
            7 | 8 => self.overwrite(),
            9 | 10 => self.replace(),
            11 => self.drop_partition(),
            12 => self.rename_partition(),
            13 => self.drop_table(),
            14 => self.make_again(),
            15 => self.rename(),
            16 | 17 => self.relocate(),
            18 => self.view(),
            19 => self.constraint(),
            20 => self.function(),
            21 => self.statistics(),
            22 => self.database(),
            23 | 24 => self.truncate(),
            25 | 26 => self.exchange(),
            _ => self.alter(),
        }
    }

    /// A run that is killed, if it does not end before; changes go on meanwhile.
    fn disturbed_run(&mut self) {
        let patience = Duration::from_millis(self.dice.random_range(self.place.patience_ms()));
        let mut child = self.place.run_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        if self.dice.random_bool(0.3) {
            self.change();
        }
        end_within(&mut child, patience.saturating_sub(started.elapsed()));
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Changes and runs that may be killed.
    pub fn disturb(&mut self) {
        for _ in 0..ROUNDS {
            for _ in 0..self.dice.random_range(1..8) {
                self.change();
            }
            self.disturbed_run();
        }
    }

    /// One quiet run; both sides hold the same then.
    pub fn settle(&self, seed: &str) {
        let left = std::fs::read_to_string(self.place.checkpoint()).unwrap_or_default();
        let ran = self.place.metasync("run");
        assert_eq!(ran.code, 0, "seed {seed}: {}\n{}", ran.stdout, ran.stderr);
        let (source, target) = self.place.dumps();
        assert_eq!(source, target, "seed {seed}");
        let (source, target) = self.place.urls();
        assert_eq!(rows(&source, P::DATABASE), rows(&target, P::DATABASE), "seed {seed}: rows");
        let live: Vec<String> = self.tables.iter().map(|made| format!("{}/", folder_of(&made.table))).collect();
        let (source, replica) = (files(&self.place.source("")), files(&self.place.target("")));
        let of_tables = |files: &BTreeMap<String, String>| {
            let mut files = files.clone();
            files.retain(|path, _| live.iter().any(|folder| path.starts_with(folder)));
            files
        };
        assert_eq!(of_tables(&source), of_tables(&replica), "seed {seed}");
        let verified = self.place.metasync("verify");
        let told =
            format!("{}\n{}\nafter a run that said\n{}{}", verified.stdout, verified.stderr, ran.stdout, ran.stderr);
        assert_eq!(verified.code, 0, "seed {seed}: {told}\nand began with {left}");
        // What a managed table had is gone with it, whatever was killed.
        let managed = |path: &&String| self.managed.iter().any(|folder| path.starts_with(folder));
        let extra: Vec<&String> = replica.keys().filter(managed).filter(|path| !source.contains_key(*path)).collect();
        assert!(
            extra.is_empty(),
            "seed {seed}: files that no table has: {extra:?}, after a run that began with {left}"
        );
    }
}

fn name_of(table: &Table, partition: &Partition) -> PartitionName {
    PartitionName::of(table.partition_keys.iter().map(|key| key.name.as_str()), &partition.values).unwrap()
}
