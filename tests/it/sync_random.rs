//! Random changes of a lake while `metasync run` is called, killed and called again: after one quiet run the replica holds
//! what the source holds, metadata and files. Between SQLite metastores, and between real ones.
//!
//! `UNDERSTUDY_TEST_SEED=N` replays one seed.

use metasync::metastore::Change;
use metasync::model::{PartitionName, Table, TableName};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tests::cli::Ran;
use tests::hms::{Kind, Version};
use tests::lake::Lake;
use tests::metastores::objects;
use tests::running::end_within;
use tests::served::{Replica, Served, Way, files};
use tests::trees::set_mtime;

/// Seeds of a whole run of the tests, in as many tests as there are threads to run them.
const SEEDS: u64 = 200;
/// Tests that share the seeds.
const SHARES: u64 = 2;
/// Seeds with real metastores.
const SERVED_SEEDS: u64 = 10;
/// Rounds of changes and a run that may be killed.
const ROUNDS: usize = 3;
/// Nothing is refused for being much.
const UNGUARDED: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"\nempty_tables = \"accept\"";

/// What the dice play with: a lake and a replica of it.
trait Place {
    /// The database of the lake.
    const DATABASE: &'static str;
    /// How long a run may go on before it is killed, in milliseconds.
    const PATIENCE_MS: Range<u64>;
    fn apply(&self, changes: &[Change]);
    fn source(&self, path: &str) -> PathBuf;
    fn target(&self, path: &str) -> PathBuf;
    fn unmade_table(&self, name: &str, keys: &[&str]) -> Table;
    /// Its files go with it when it is dropped.
    fn own_files(&self, table: &mut Table);
    fn metasync(&self, verb: &str) -> Ran;
    fn run_command(&self) -> Command;
    /// Both dumps, the replica's places as the lake's.
    fn dumps(&self) -> (Vec<String>, Vec<String>);
    fn checkpoint(&self) -> PathBuf;
}

impl Place for Lake {
    const DATABASE: &'static str = "sales";
    const PATIENCE_MS: Range<u64> = 1..250;

    fn apply(&self, changes: &[Change]) {
        Lake::apply(self, changes);
    }

    fn source(&self, path: &str) -> PathBuf {
        Lake::source(self, path)
    }

    fn target(&self, path: &str) -> PathBuf {
        Lake::target(self, path)
    }

    fn unmade_table(&self, name: &str, keys: &[&str]) -> Table {
        Lake::unmade_table(self, name, keys)
    }

    fn own_files(&self, table: &mut Table) {
        table.table_type = Some("MANAGED_TABLE".to_owned());
        table.parameters.remove("EXTERNAL");
    }

    fn metasync(&self, verb: &str) -> Ran {
        Lake::metasync(self, verb, &[])
    }

    fn run_command(&self) -> Command {
        self.shell.metasync_command(&["run", "p.toml", "-q"])
    }

    fn dumps(&self) -> (Vec<String>, Vec<String>) {
        (self.dump("source"), self.dump("target"))
    }

    fn checkpoint(&self) -> PathBuf {
        self.root().join("state/sales/checkpoint.json")
    }
}

/// A lake that a real metastore serves, and one of its replicas.
struct OfServer<'a> {
    lake: &'a Served,
    replica: &'a Replica<'a>,
}

impl Place for OfServer<'_> {
    const DATABASE: &'static str = "shop";
    const PATIENCE_MS: Range<u64> = 1..1500;

    fn apply(&self, changes: &[Change]) {
        self.lake.apply(changes);
    }

    fn source(&self, path: &str) -> PathBuf {
        self.lake.path(path)
    }

    fn target(&self, path: &str) -> PathBuf {
        self.replica.path(path)
    }

    fn unmade_table(&self, name: &str, keys: &[&str]) -> Table {
        self.lake.unmade_table(name, keys)
    }

    fn own_files(&self, table: &mut Table) {
        table.parameters.insert("external.table.purge".to_owned(), "TRUE".to_owned());
    }

    fn metasync(&self, verb: &str) -> Ran {
        self.replica.metasync(verb, &[])
    }

    fn run_command(&self) -> Command {
        self.replica.metasync_command("run", &["-q"])
    }

    fn dumps(&self) -> (Vec<String>, Vec<String>) {
        self.replica.dumps()
    }

    fn checkpoint(&self) -> PathBuf {
        self.replica.state().join("checkpoint.json")
    }
}

/// A lake that is changed by dice.
struct Random<'a, P> {
    place: &'a P,
    dice: StdRng,
    tables: Vec<(Table, Vec<String>)>,
    /// Folders of all tables that ever were and take their files with them; others leave what they had when they were dropped.
    managed: Vec<String>,
    /// In front of the names of tables.
    prefix: String,
    made: u32,
}

impl<'a, P: Place> Random<'a, P> {
    /// With three tables.
    fn new(place: &'a P, seed: u64, prefix: String) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        let mut random = Self { place, dice, tables: Vec::new(), managed: Vec::new(), prefix, made: 0 };
        for _ in 0..3 {
            random.create();
        }
        random
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
        let mut table = self.place.unmade_table(&name, if partitioned { &["dt"] } else { &[] });
        if self.dice.random_bool(0.3) {
            self.place.own_files(&mut table);
            self.managed.push(format!("{}/", Self::folder(&table)));
        }
        std::fs::create_dir_all(self.place.source(&Self::folder(&table))).unwrap();
        self.place.apply(&[Change::PutTable(Box::new(table.clone()))]);
        self.tables.push((table, Vec::new()));
        self.insert();
    }

    /// The folder of a table, below `source`.
    fn folder(table: &Table) -> String {
        let location = table.storage.location.as_deref().unwrap();
        location.split("/source/").nth(1).unwrap().to_owned()
    }

    fn pick(&mut self) -> Option<usize> {
        let all: Vec<usize> = (0..self.tables.len()).collect();
        all.choose(&mut self.dice).copied()
    }

    /// A new partition, or a new file.
    fn insert(&mut self) {
        let (Some(at), content, number) = (self.pick(), self.content(), self.next()) else { return };
        let table = self.tables[at].0.clone();
        if table.partition_keys.is_empty() {
            self.write(&format!("{}/part-{number}", Self::folder(&table)), &content);
        } else {
            let day = format!("d {number}/x");
            let partition = objects::partition(&table, &[&day]);
            let name = PartitionName::of(["dt"], std::slice::from_ref(&day)).unwrap();
            self.write(&format!("{}/{name}/part-0", Self::folder(&table)), &content);
            self.place.apply(&[Change::PutPartitions { table: table.name, partitions: vec![partition] }]);
            self.tables[at].1.push(day);
        }
    }

    /// Writes a file that is not so young that nobody may trust its time.
    fn write(&self, path: &str, content: &str) {
        let path = self.place.source(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        set_mtime(&path, SystemTime::now() - Duration::from_secs(10));
    }

    /// Files are replaced, and no event tells.
    fn overwrite(&mut self) {
        let (Some(at), content) = (self.pick(), self.content()) else { return };
        let table = self.tables[at].0.clone();
        let files: Vec<String> = files(&self.place.source(&Self::folder(&table))).into_keys().collect();
        if let Some(file) = files.choose(&mut self.dice) {
            self.write(&format!("{}/{file}", Self::folder(&table)), &content);
        }
    }

    fn drop_partition(&mut self) {
        let Some(at) = self.pick() else { return };
        let Some(day) = self.tables[at].1.pop() else { return };
        let table = self.tables[at].0.clone();
        let name = PartitionName::of(["dt"], std::slice::from_ref(&day)).unwrap();
        let folder = self.place.source(&format!("{}/{name}", Self::folder(&table)));
        self.place.apply(&[Change::DropPartitions { table: table.name, names: vec![name] }]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn drop_table(&mut self) {
        let Some(at) = self.pick() else { return };
        let (table, _) = self.tables.swap_remove(at);
        let folder = self.place.source(&Self::folder(&table));
        self.place.apply(&[Change::DropTable(table.name.clone())]);
        if self.managed.contains(&format!("{}/", Self::folder(&table))) {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    fn rename(&mut self) {
        let (Some(at), number) = (self.pick(), self.next()) else { return };
        let to = TableName::new(P::DATABASE, &format!("{}r{number}", self.prefix));
        let table = &mut self.tables[at].0;
        self.place.apply(&[Change::RenameTable { from: table.name.clone(), to: to.clone() }]);
        table.name = to;
    }

    fn alter(&mut self) {
        let (Some(at), number) = (self.pick(), self.next()) else { return };
        let table = &mut self.tables[at].0;
        table.parameters.insert("altered".to_owned(), number.to_string());
        self.place.apply(&[Change::PutTable(Box::new(table.clone()))]);
    }

    fn change(&mut self) {
        match self.dice.random_range(0..10) {
            0 => self.create(),
            1..=3 => self.insert(),
            4 | 5 => self.overwrite(),
            6 => self.drop_partition(),
            7 => self.drop_table(),
            8 => self.rename(),
            _ => self.alter(),
        }
    }

    /// A run that is killed, if it does not end before; changes go on meanwhile.
    fn disturbed_run(&mut self) {
        let patience = Duration::from_millis(self.dice.random_range(P::PATIENCE_MS));
        let mut child = self.place.run_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        if self.dice.random_bool(0.3) {
            self.change();
        }
        end_within(&mut child, patience.saturating_sub(started.elapsed()));
        let _ = child.kill();
        child.wait().unwrap();
    }
}

impl<P: Place> Random<'_, P> {
    /// Changes and runs that may be killed.
    fn disturb(&mut self) {
        for _ in 0..ROUNDS {
            for _ in 0..self.dice.random_range(1..6) {
                self.change();
            }
            self.disturbed_run();
        }
    }

    /// One quiet run; both sides hold the same then.
    fn settle(&self, seed: &str) {
        let left = std::fs::read_to_string(self.place.checkpoint()).unwrap_or_default();
        let ran = self.place.metasync("run");
        assert_eq!(ran.code, 0, "seed {seed}: {}\n{}", ran.stdout, ran.stderr);
        let (source, target) = self.place.dumps();
        assert_eq!(source, target, "seed {seed}");
        let live: Vec<String> = self.tables.iter().map(|(table, _)| format!("{}/", Self::folder(table))).collect();
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

fn play(seed: u64) {
    let lake = Lake::new();
    lake.database("sales");
    lake.policy(UNGUARDED);
    let mut random = Random::new(&lake, seed, String::new());
    random.disturb();
    random.settle(&seed.to_string());
}

/// The seed that is asked for, or all of them.
fn seeds(all: u64) -> Vec<u64> {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..all).collect(),
    }
}

fn share(number: u64) {
    seeds(SEEDS).into_iter().filter(|seed| seed % SHARES == number).for_each(play);
}

#[test]
fn a_lake_that_changes_while_runs_are_killed_ends_in_step_even_seeds() {
    share(0);
}

#[test]
fn a_lake_that_changes_while_runs_are_killed_ends_in_step_odd_seeds() {
    share(1);
}

#[test]
fn a_lake_of_hive_3_1_that_changes_while_runs_are_killed_ends_in_step_every_way() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    lake.shop();
    let replicas = [
        lake.replica("sql-to-sql", Way::Sql, Way::Sql),
        lake.replica_on("thrift-to-sql", Way::Thrift, Way::Sql, Version::V31, Kind::MariaDb),
        lake.replica("sql-to-thrift", Way::Sql, Way::Thrift),
    ];
    for replica in &replicas {
        replica.policy("", UNGUARDED);
    }
    for seed in seeds(SERVED_SEEDS) {
        let at = usize::try_from(seed).unwrap() % replicas.len();
        let place = OfServer { lake: &lake, replica: &replicas[at] };
        let mut random = Random::new(&place, seed, format!("s{seed}"));
        random.disturb();
        random.settle(&format!("{seed}, {}", replicas[at].name()));
        let drops = random.tables.iter().map(|(table, _)| Change::DropTable(table.name.clone()));
        lake.apply(&drops.collect::<Vec<_>>());
        std::fs::remove_dir_all(lake.path("shop.db")).unwrap();
        std::fs::create_dir(lake.path("shop.db")).unwrap();
    }
    replicas.iter().for_each(|replica| drop(replica.metasync("run", &[]).expect(0)));
}
