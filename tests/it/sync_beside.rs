//! `metasync run` beside others: another run of the same policy, and a source of which the tables change all the time.
//!
//! `UNDERSTUDY_TEST_SEED=N` replays one seed of the changes.

use metasync::metastore::Change;
use metasync::model::{PartitionName, Table, TableName};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use std::collections::BTreeMap;
use tests::lake::{LARGE, Lake};

/// Nothing is refused for being much.
const UNGUARDED: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"\nempty_tables = \"accept\"";

#[test]
fn a_second_run_beside_one_that_goes_on_names_the_holder_and_changes_nothing() {
    let lake = Lake::logged();
    lake.database("sales");
    for name in ["a", "b"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/b/part-1", &"x".repeat(LARGE));
    lake.table("new", &[]);
    let mut first = lake.copying("sales.db/b");
    // It is held in the middle of its work, with the lease in its hands.
    let everything = || {
        let mut files = lake.files(&lake.root().join("state"));
        files.extend(lake.files(&lake.target("")));
        (files, lake.dump("target"))
    };
    let before = everything();
    let holder = format!("process {}", first.id());
    for (verb, more) in [("run", &[][..]), ("resync", &["--table", "sales.a"])] {
        let second = lake.metasync(verb, more).expect(11);
        assert!(second.last_word().contains(&holder), "{holder}: {}", second.stderr);
        let summary = second.summary();
        assert_eq!((&summary["outcome"], second.number("requests/list")), (&"leased".into(), 0), "{summary}");
        assert_eq!(everything(), before, "{verb}");
    }
    first.signal(Signal::CONT);
    let ended = first.end().expect(0);
    assert_eq!((ended.number("tables/applied"), ended.number("tables/quarantined")), (1, 0), "{}", ended.stdout);
    lake.policy("");
    lake.assert_in_step();
}

/// Seeds of changes.
const SEEDS: u64 = 3;
/// Runs of each, one after the other.
const RUNS: usize = 5;
/// Of these some are tables at any time, as the folders of the same names are.
const NAMES: [&str; 7] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
/// Partitions of one table, so that a run comes to its end.
const MAX_PARTITIONS: usize = 8;

/// Tables that are made, changed, renamed and dropped by dice, with events: managed ones, of which the files go along.
struct Busy<'a> {
    lake: &'a Lake,
    dice: StdRng,
    tables: BTreeMap<String, (Table, Vec<String>)>,
    made: u32,
}

impl Busy<'_> {
    fn number(&mut self) -> String {
        self.made += 1;
        self.made.to_string()
    }

    fn taken(&mut self) -> Option<String> {
        let taken: Vec<_> = self.tables.keys().cloned().collect();
        taken.choose(&mut self.dice).cloned()
    }

    /// One thing, files first; of what is dropped, files last.
    fn change(&mut self) {
        match self.dice.random_range(0..10) {
            0..=2 => self.create(),
            3..=5 => self.add_partition(),
            6 => self.alter(),
            7 => self.rename(),
            8 => self.drop_partition(),
            _ => self.drop_table(),
        }
    }

    /// Often by a name and at a place that were used before; a table that was renamed has its place still.
    fn create(&mut self) {
        let taken = |name: &str| self.tables.values().any(|(table, _)| folder(table).ends_with(&format!("/{name}")));
        let free: Vec<_> = NAMES.into_iter().filter(|name| !taken(name)).collect();
        let Some(name) = free.choose(&mut self.dice).copied() else { return };
        let mut table = self.lake.unmade_table(name, &["dt"]);
        table.table_type = Some("MANAGED_TABLE".to_owned());
        table.parameters.remove("EXTERNAL");
        std::fs::create_dir_all(folder(&table)).unwrap();
        self.lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
        self.tables.insert(name.to_owned(), (table, Vec::new()));
    }

    fn add_partition(&mut self) {
        let (Some(name), day) = (self.taken(), self.number()) else { return };
        let (table, days) = self.tables.get_mut(&name).unwrap();
        if days.len() < MAX_PARTITIONS {
            days.push(day.clone());
            self.lake.partition(table, &[&day], &format!("rows of {day}"));
        }
    }

    fn alter(&mut self) {
        let (Some(name), number) = (self.taken(), self.number()) else { return };
        let (table, _) = self.tables.get_mut(&name).unwrap();
        table.parameters.insert("altered".to_owned(), number);
        self.lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
    }

    /// By a name that nothing had before.
    fn rename(&mut self) {
        let Some((mut table, days)) = self.taken().and_then(|name| self.tables.remove(&name)) else { return };
        let to = format!("r{}", self.number());
        let name = TableName::new("sales", &to);
        self.lake.apply(&[Change::RenameTable { from: table.name, to: name.clone() }]);
        table.name = name;
        self.tables.insert(to, (table, days));
    }

    fn drop_partition(&mut self) {
        let Some(name) = self.taken() else { return };
        let (table, days) = self.tables.get_mut(&name).unwrap();
        let Some(day) = days.pop() else { return };
        let names = vec![PartitionName(format!("dt={day}"))];
        self.lake.apply(&[Change::DropPartitions { table: table.name.clone(), names }]);
        std::fs::remove_dir_all(format!("{}/dt={day}", folder(table))).unwrap();
    }

    fn drop_table(&mut self) {
        let Some((table, _)) = self.taken().and_then(|name| self.tables.remove(&name)) else { return };
        self.lake.apply(&[Change::DropTable(table.name.clone())]);
        std::fs::remove_dir_all(folder(&table)).unwrap();
    }
}

fn folder(table: &Table) -> &str {
    table.storage.location.as_deref().unwrap().trim_start_matches("file:")
}

#[test]
fn a_source_whose_tables_change_all_the_time_is_followed_and_met_once_it_is_quiet() {
    let seeds = match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    for seed in seeds {
        println!("seed {seed}");
        let lake = Lake::logged();
        lake.database("sales");
        lake.policy(UNGUARDED);
        let mut busy = Busy { lake: &lake, dice: StdRng::seed_from_u64(seed), tables: BTreeMap::new(), made: 0 };
        (0..20).for_each(|_| busy.change());
        let mut position = 0;
        for run in 0..RUNS {
            let mut running = lake.start();
            let mut changes = 0;
            while running.goes_on() {
                busy.change();
                changes += 1;
            }
            let ran = running.end().expect(0);
            assert!(changes > 0, "seed {seed}, run {run}: nothing happened meanwhile");
            assert_eq!(ran.number("tables/quarantined"), 0, "seed {seed}, run {run}: {}", ran.stdout);
            let reached = lake.status()["event"].as_u64().unwrap();
            assert!(reached > position, "seed {seed}, run {run}: from {position} to {reached}");
            position = reached;
        }
        let quiet = lake.metasync("run", &[]).expect(0);
        assert!(quiet.summary()["behind"].is_null(), "seed {seed}: {}", quiet.stdout);
        assert!(quiet.summary()["events"]["events_missing"].is_null(), "seed {seed}: {}", quiet.stderr);
        lake.assert_in_step();
    }
}
