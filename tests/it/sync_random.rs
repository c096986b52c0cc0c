//! Random changes of a lake while `metasync run` is called, killed and called again: after one quiet run the replica holds
//! what the source holds, metadata and files. Between SQLite metastores, and between real ones.
//!
//! `UNDERSTUDY_TEST_SEED=N` replays one seed.

mod changes;

use changes::Random;
use metasync::metastore::Change;
use metasync::model::Table;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use tests::cli::Ran;
use tests::hms::{Kind, Version};
use tests::lake::Lake;
use tests::served::{Replica, Served, Way};

/// Seeds of a whole run of the tests, in as many tests as there are threads to run them.
const SEEDS: u64 = 200;
/// Tests that share the seeds.
const SHARES: u64 = 2;
/// Seeds with real metastores.
const SERVED_SEEDS: u64 = 10;
/// Seeds of each other pair of real metastores.
const PAIR_SEEDS: u64 = 3;
/// Rounds of changes and a run that may be killed.
const ROUNDS: usize = 3;
/// Nothing is refused for being much.
const UNGUARDED: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"\nempty_tables = \"accept\"";

/// What the dice play with: a lake and a replica of it.
trait Place {
    /// The database of the lake.
    const DATABASE: &'static str;
    /// How long a run may go on before it is killed, in milliseconds.
    fn patience_ms(&self) -> Range<u64>;
    fn apply(&self, changes: &[Change]);
    /// The server behind which the lake is changed.
    fn server(&self) -> Option<String>;
    fn source(&self, path: &str) -> PathBuf;
    fn target(&self, path: &str) -> PathBuf;
    fn unmade_table(&self, name: &str, keys: &[&str]) -> Table;
    /// Its files go with it when it is dropped.
    fn own_files(&self, table: &mut Table);
    fn metasync(&self, verb: &str) -> Ran;
    fn run_command(&self) -> Command;
    /// Both dumps, the replica's places as the lake's.
    fn dumps(&self) -> (Vec<String>, Vec<String>);
    /// The URLs of both metastores.
    fn urls(&self) -> (String, String);
    fn checkpoint(&self) -> PathBuf;
}

impl Place for Lake {
    const DATABASE: &'static str = "sales";

    fn patience_ms(&self) -> Range<u64> {
        if self.is_served() { 1..1500 } else { 1..250 }
    }

    fn apply(&self, changes: &[Change]) {
        Lake::apply(self, changes);
    }

    fn server(&self) -> Option<String> {
        self.is_served().then(|| self.url_of_writers())
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
        if self.is_served() {
            table.parameters.insert("external.table.purge".to_owned(), "TRUE".to_owned());
            return;
        }
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
        if self.is_served() { self.held() } else { (self.dump("source"), self.dump("target")) }
    }

    fn urls(&self) -> (String, String) {
        (self.url("source"), self.url("target"))
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

    fn patience_ms(&self) -> Range<u64> {
        1..1500
    }

    fn apply(&self, changes: &[Change]) {
        self.lake.apply(changes);
    }

    fn server(&self) -> Option<String> {
        Some(self.lake.server.thrift.clone())
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

    fn urls(&self) -> (String, String) {
        self.replica.urls()
    }

    fn checkpoint(&self) -> PathBuf {
        self.replica.state().join("checkpoint.json")
    }
}

/// Every other pair of seeds has an event log.
fn play(seed: u64) {
    let lake = if seed % (2 * SHARES) < SHARES { Lake::logged() } else { Lake::new() };
    play_on(&lake, seed, true);
}

fn play_on(lake: &Lake, seed: u64, truncates: bool) {
    lake.database("sales");
    lake.policy(UNGUARDED);
    let mut random = Random::new(lake, seed, String::new());
    random.truncates = truncates;
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
        lake.apply(&random.drops());
        std::fs::remove_dir_all(lake.path("shop.db")).unwrap();
        std::fs::create_dir(lake.path("shop.db")).unwrap();
    }
    replicas.iter().for_each(|replica| drop(replica.metasync("run", &[]).expect(0)));
}

/// A lake that is changed through one real server and followed by another metastore, for some seeds.
fn play_over(source: (Version, Kind, Way), target: (Version, Kind, Way)) {
    for seed in seeds(PAIR_SEEDS) {
        let Some(lake) = Lake::over(source, target) else { return };
        play_on(&lake, seed, source.0 != Version::V23);
    }
}

#[test]
fn a_lake_of_hive_2_3_that_changes_while_runs_are_killed_ends_in_step_over_thrift() {
    play_over((Version::V23, Kind::Postgres, Way::Thrift), (Version::V40, Kind::Postgres, Way::Thrift));
}

#[test]
fn a_lake_of_hive_2_3_that_changes_while_runs_are_killed_ends_in_step_over_databases() {
    play_over((Version::V23, Kind::Postgres, Way::Sql), (Version::V23, Kind::MariaDb, Way::Sql));
}

#[test]
fn a_lake_of_hive_4_0_that_changes_while_runs_are_killed_ends_in_step_over_thrift() {
    play_over((Version::V40, Kind::Postgres, Way::Thrift), (Version::V40, Kind::Postgres, Way::Thrift));
}

#[test]
fn a_lake_of_hive_4_0_that_changes_while_runs_are_killed_ends_in_step_over_databases() {
    play_over((Version::V40, Kind::MariaDb, Way::Sql), (Version::V40, Kind::Postgres, Way::Sql));
}
