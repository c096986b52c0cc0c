//! `metasync run` while four clients write through one server of Hive 2.3, whose event log then has several events of one id, some
//! of which come to be seen after larger ones.

use metasync::metastore::Change;
use metasync::model::{PartitionName, Table, TableName};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tests::hms::{Kind, Version};
use tests::lake::Lake;
use tests::metastores::{adapters, objects};
use tests::served::Way;

/// Clients that write at once.
const WRITERS: u64 = 4;
/// Runs while they do, at least.
const RUNS: usize = 4;
/// Changes that all of them make together before they end, at least.
const CHANGES: usize = 400;
/// How often a change is tried.
const TRIES: usize = 10;
/// Partitions of one table, so that a run comes to its end.
const MAX_PARTITIONS: usize = 8;
/// Tables of one writer, for the same reason.
const MAX_TABLES: usize = 6;
/// Nothing is refused for being much.
const UNGUARDED: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"\nempty_tables = \"accept\"";

/// A client with tables of its own.
struct Client {
    number: u64,
    root: PathBuf,
    dice: StdRng,
    tables: Vec<(Table, Vec<String>)>,
    made: u32,
}

impl Client {
    /// The next change, and the folder that goes after it.
    fn change(&mut self) -> (Change, Option<PathBuf>) {
        self.made += 1;
        let (number, dice) = (self.made.to_string(), self.dice.random_range(0..10));
        if self.tables.is_empty() || (dice < 2 && self.tables.len() < MAX_TABLES) {
            return (self.create(&number), None);
        }
        let at = self.dice.random_range(0..self.tables.len());
        let (table, days) = &mut self.tables[at];
        let of = table.name.clone();
        let location = PathBuf::from(table.storage.location.as_deref().unwrap().trim_start_matches("file:"));
        match dice {
            3..=5 if days.len() < MAX_PARTITIONS => {
                let folder = location.join(format!("dt={number}"));
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join("part-0"), format!("rows of {number}")).unwrap();
                days.push(number.clone());
                let partitions = vec![objects::partition(table, &[&number])];
                (Change::PutPartitions { table: of, partitions }, None)
            }
            6 if !days.is_empty() => {
                let name = PartitionName(format!("dt={}", days.swap_remove(0)));
                let folder = location.join(&name.0);
                (Change::DropPartitions { table: of, names: vec![name] }, Some(folder))
            }
            7 => {
                table.name = TableName::new("sales", &format!("w{}_{number}", self.number));
                (Change::RenameTable { from: of, to: table.name.clone() }, None)
            }
            8 => {
                self.tables.swap_remove(at);
                (Change::DropTable(of), Some(location))
            }
            _ => {
                table.parameters.insert("altered".to_owned(), number);
                (Change::PutTable(Box::new(table.clone())), None)
            }
        }
    }

    /// A table that takes its files with it.
    fn create(&mut self, number: &str) -> Change {
        let name = TableName::new("sales", &format!("w{}_{number}", self.number));
        let mut table = objects::table(name, &format!("file:{}", self.root.display()), &["dt"]);
        table.parameters.insert("external.table.purge".to_owned(), "TRUE".to_owned());
        self.tables.push((table.clone(), Vec::new()));
        Change::PutTable(Box::new(table))
    }

    /// Until `ended`; counts what it does.
    fn write(&mut self, server: &str, ended: &AtomicBool, done: &AtomicUsize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let metastore = runtime.block_on(adapters::open_url(server));
        while !ended.load(Ordering::Relaxed) {
            let (change, after) = self.change();
            let apply = || runtime.block_on(metastore.apply(std::slice::from_ref(&change)));
            // The server's listener fails now and then when several clients alter tables: nothing has changed then.
            let failed = (1..TRIES).all(|_| apply().is_err());
            assert!(!failed || apply().is_ok(), "{change:?} failed {TRIES} times");
            after.into_iter().filter(|folder| folder.exists()).for_each(|it| std::fs::remove_dir_all(it).unwrap());
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Ends the writers, also when a run has failed.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn four_writers(lake: &Lake) {
    lake.database("sales");
    lake.policy(UNGUARDED);
    let (server, root) = (lake.url_of_writers(), lake.root().join("source"));
    let (ended, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let end = End(&ended);
        let start = |number| {
            let (server, root, ended, done) = (&server, root.clone(), &ended, &done);
            scope.spawn(move || {
                let dice = StdRng::seed_from_u64(number);
                Client { number, root, dice, tables: Vec::new(), made: 0 }.write(server, ended, done);
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(start).collect();
        let mut runs = 0;
        while runs < RUNS || done.load(Ordering::Relaxed) < CHANGES {
            let ran = lake.metasync("run", &[]).expect(0);
            assert_eq!(ran.number("tables/quarantined"), 0, "{}\n{}", ran.stdout, ran.stderr);
            assert!(!writers.iter().any(|writer| writer.is_finished()), "a writer has failed");
            runs += 1;
        }
        drop(end);
    });
    let rows = lake.sql("source", "SELECT COUNT(*), COUNT(DISTINCT `EVENT_ID`) FROM `NOTIFICATION_LOG`");
    let [all, ids] = [&rows[0][0], &rows[0][1]].map(|count| count.parse::<u64>().unwrap());
    assert!(all > ids, "{all} events, and each has an id of its own");
    let quiet = lake.metasync("run", &[]).expect(0);
    assert!(quiet.summary()["behind"].is_null(), "{}", quiet.stdout);
    lake.assert_in_step();
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!((idle.number("tables/touched"), idle.number("bytes/written")), (0, 0), "{}", idle.stdout);
}

#[test]
fn rule_24_four_writers_of_hive_2_3_lose_nothing_read_over_thrift() {
    let target = (Version::V40, Kind::Postgres, Way::Thrift);
    if let Some(lake) = Lake::over((Version::V23, Kind::Postgres, Way::Thrift), target) {
        four_writers(&lake);
    }
}

#[test]
fn rule_24_four_writers_of_hive_2_3_lose_nothing_read_from_its_database() {
    let target = (Version::V31, Kind::Postgres, Way::Sql);
    if let Some(lake) = Lake::over((Version::V23, Kind::Postgres, Way::Sql), target) {
        four_writers(&lake);
    }
}
