//! `publish = "switch"`: a reader of the replica finds a whole version of a table or partition at every moment, runs that are
//! killed included: no file is missing, none is of another version, none comes twice.
//!
//! The reader does what engines do: it asks the replica's metastore where the files are, lists that folder and reads what is
//! there. `UNDERSTUDY_TEST_SEED=N` replays one seed.

use metasync::metastore::Change;
use metasync::model::{Table, TableName};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use tests::lake::{LARGE, Lake};
use tests::services;

const SWITCH: &str = "publish = \"switch\"\nmax_deletes = \"100%\"\n";
/// What a run needs to remove replaced folders at once.
const NO_GRACE: &str = "publish = \"switch\"\nmax_deletes = \"100%\"\nreader_grace = \"0s\"\n";
/// The reader's pause between two looks.
const PACE: Duration = Duration::from_millis(3);
/// Runs of one seed; two of three are killed.
const RUNS: u32 = 15;
const PLACES: &str = "SELECT t.TBL_NAME || ':' || COALESCE(p.PART_NAME, ''), s.LOCATION FROM TBLS t \
    LEFT JOIN PARTITIONS p ON p.TBL_ID = t.TBL_ID JOIN SDS s ON s.SD_ID = COALESCE(p.SD_ID, t.SD_ID)";

/// Writes version `version` of a folder: a file that never changes, one that is replaced, and one that only this version has.
fn write_version(lake: &Lake, folder: &str, version: u32) {
    if version == 1 {
        lake.write(&format!("{folder}/kept"), "kept");
    }
    lake.write(&format!("{folder}/part-0"), &format!("v{version} {}", "x".repeat(version as usize)));
    let _ = std::fs::remove_file(lake.source(&format!("{folder}/only-{}", version.wrapping_sub(1))));
    lake.write(&format!("{folder}/only-{version}"), &format!("v{version}"));
}

/// What readers see: where each table or partition is, with its files.
type Seen = BTreeMap<String, (PathBuf, BTreeMap<String, String>)>;

fn seen(lake: &Lake) -> Seen {
    let rows = lake.sql("target", PLACES);
    rows.into_iter()
        .map(|row| {
            let place = PathBuf::from(row[1].trim_start_matches("file:"));
            (row[0].clone(), (place.clone(), lake.files(&place)))
        })
        .collect()
}

/// The version that the files of a folder are of.
///
/// # Panics
/// If they are not those of one version.
fn version(files: &BTreeMap<String, String>) -> u32 {
    let of = |name: &str| {
        let text = files.get(name).unwrap_or_else(|| panic!("{name} is missing: {files:?}"));
        text.trim_start_matches('v').split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let version = of("part-0");
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files["kept"], "kept");
    assert_eq!(of(&format!("only-{version}")), version);
    version
}

/// `sales.whole` without partitions and `sales.days` with two.
fn lake(options: &str) -> Lake {
    let lake = Lake::logged();
    lake.policy(options);
    lake.database("sales");
    lake.table("whole", &[]);
    write_version(&lake, "sales.db/whole", 1);
    let days = lake.table("days", &["d"]);
    for day in ["1", "2"] {
        partition(&lake, &days, day);
        write_version(&lake, &format!("sales.db/days/d={day}"), 1);
    }
    lake
}

fn partition(lake: &Lake, table: &Table, day: &str) {
    let partition = tests::metastores::objects::partition(table, &[day]);
    lake.apply(&[Change::PutPartitions { table: table.name.clone(), partitions: vec![partition] }]);
}

fn is_marked(place: &Path) -> bool {
    place.to_string_lossy().contains(".understudy-")
}

#[test]
fn what_is_replaced_stands_in_a_fresh_folder_and_the_old_one_stays_for_its_readers() {
    let lake = lake(SWITCH);
    lake.metasync("run", &[]).expect(0);
    let first = seen(&lake);
    assert!(first.values().all(|(place, files)| !is_marked(place) && version(files) == 1), "{first:?}");

    write_version(&lake, "sales.db/whole", 2);
    write_version(&lake, "sales.db/days/d=1", 2);
    let planned = lake.metasync("plan", &[]).expect(0);
    assert!(planned.stdout.contains("\"step\":\"switch\""), "{}", planned.stdout);
    let ran = lake.metasync("run", &[]).expect(0);
    let second = seen(&lake);
    for (unit, expected) in [("whole:", 2), ("days:d=1", 2), ("days:d=2", 1)] {
        let (place, files) = &second[unit];
        assert_eq!((is_marked(place), version(files)), (expected == 2, expected), "{unit} {place:?}");
    }
    assert_eq!(ran.number("bytes/server_side"), 8, "what did not change is copied on the target: {}", ran.stdout);
    for (place, files) in first.values() {
        assert_eq!(&lake.files(place), files, "readers of the old folder go on");
    }
    lake.metasync("verify", &[]).expect(0);
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!((idle.number("counts/copied"), idle.number("counts/deleted")), (0, 0), "{}", idle.stdout);

    // Once more, from a folder of ours to the next.
    write_version(&lake, "sales.db/whole", 3);
    lake.metasync("run", &[]).expect(0);
    let third = seen(&lake);
    assert_eq!(version(&third["whole:"].1), 3);
    assert_eq!(version(&lake.files(&second["whole:"].0)), 2);

    lake.policy(NO_GRACE);
    let removed = lake.metasync("run", &[]).expect(0);
    assert_eq!(removed.number("counts/deleted"), 9, "{}", removed.stdout);
    assert_eq!(seen(&lake), third);
    for old in [&first["whole:"].0, &first["days:d=1"].0, &second["whole:"].0] {
        assert!(!old.exists(), "{old:?}");
    }
    lake.metasync("verify", &[]).expect(0);
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!((idle.number("counts/copied"), idle.number("counts/deleted")), (0, 0), "{}", idle.stdout);
}

#[test]
fn what_is_only_added_to_stays_in_place() {
    let lake = lake(SWITCH);
    lake.metasync("run", &[]).expect(0);
    let before = seen(&lake);
    lake.write("sales.db/whole/more", "more");
    lake.write("sales.db/days/d=2/more", "more");
    partition(&lake, &lake.unmade_table("days", &["d"]), "3");
    write_version(&lake, "sales.db/days/d=3", 1);
    lake.metasync("run", &[]).expect(0);
    let after = seen(&lake);
    assert!(after.values().all(|(place, _)| !is_marked(place)), "{after:?}");
    assert_eq!(after["whole:"].0, before["whole:"].0);
    assert_eq!((after["whole:"].1.len(), after["days:d=2"].1.len(), version(&after["days:d=3"].1)), (4, 4, 1));
    lake.metasync("verify", &[]).expect(0);
}

/// Replaces `sales.whole` and a day, in the way of a run.
fn replaced(version_now: u32) -> Lake {
    let lake = lake(SWITCH);
    lake.metasync("run", &[]).expect(0);
    for version in 2..=version_now {
        write_version(&lake, "sales.db/whole", version);
        write_version(&lake, "sales.db/days/d=1", version);
        lake.metasync("run", &[]).expect(0);
    }
    lake
}

/// Asserts that readers find these versions, that `verify` finds nothing, and that the next run has nothing to do.
fn assert_versions(lake: &Lake, versions: &[(&str, u32)]) -> Seen {
    let seen = seen(lake);
    for (unit, expected) in versions {
        assert_eq!(version(&seen[*unit].1), *expected, "{unit}");
    }
    lake.metasync("verify", &[]).expect(0);
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!(idle.number("counts/copied"), 0, "{}", idle.stdout);
    seen
}

#[test]
fn without_its_state_a_run_finds_where_everything_stands_and_copies_nothing() {
    let lake = replaced(2);
    let before = seen(&lake);
    std::fs::remove_dir_all(lake.root().join("state")).unwrap();
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (0, 0), "{}", ran.stdout);
    assert_eq!(assert_versions(&lake, &[("whole:", 2), ("days:d=1", 2), ("days:d=2", 1)]), before);
    write_version(&lake, "sales.db/whole", 3);
    lake.metasync("run", &[]).expect(0);
    assert_versions(&lake, &[("whole:", 3), ("days:d=1", 2)]);
}

#[test]
fn a_policy_that_goes_back_to_in_place_leaves_everything_where_it_stands() {
    let lake = replaced(2);
    let before = seen(&lake);
    lake.policy("max_deletes = \"100%\"\nreader_grace = \"0s\"");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (0, 6), "{}", ran.stdout);
    assert_eq!(assert_versions(&lake, &[("whole:", 2), ("days:d=1", 2), ("days:d=2", 1)]), before);
    write_version(&lake, "sales.db/whole", 3);
    lake.metasync("run", &[]).expect(0);
    let after = assert_versions(&lake, &[("whole:", 3)]);
    assert_eq!(after["whole:"].0, before["whole:"].0);
}

#[test]
fn a_table_that_is_dropped_takes_all_its_folders_with_it() {
    let lake = lake(NO_GRACE);
    lake.metasync("run", &[]).expect(0);
    for name in ["whole", "days"] {
        let keys: &[&str] = if name == "days" { &["d"] } else { &[] };
        let mut table = lake.unmade_table(name, keys);
        table.parameters.insert("external.table.purge".to_owned(), "true".to_owned());
        lake.apply(&[Change::PutTable(Box::new(table))]);
    }
    write_version(&lake, "sales.db/whole", 2);
    write_version(&lake, "sales.db/days/d=1", 2);
    lake.metasync("run", &[]).expect(0);
    lake.policy(&format!("{NO_GRACE}max_drops = \"100%\""));
    for name in ["whole", "days"] {
        std::fs::remove_dir_all(lake.source(&format!("sales.db/{name}"))).unwrap();
        lake.apply(&[Change::DropTable(TableName::new("sales", name))]);
    }
    lake.metasync("run", &[]).expect(0);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(lake.files(&lake.target("")), BTreeMap::new());
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn a_dropped_partition_goes_and_one_of_its_name_comes_back() {
    let lake = replaced(2);
    let days = lake.unmade_table("days", &["d"]);
    let drop = |day: &str| {
        let names = vec![metasync::model::PartitionName(format!("d={day}"))];
        lake.apply(&[Change::DropPartitions { table: days.name.clone(), names }]);
        std::fs::remove_dir_all(lake.source(&format!("sales.db/days/d={day}"))).unwrap();
    };
    drop("1");
    lake.policy(NO_GRACE);
    lake.metasync("run", &[]).expect(0);
    lake.metasync("run", &[]).expect(0);
    assert!(!seen(&lake).contains_key("days:d=1"));
    let days_only: Vec<String> =
        lake.files(&lake.target("sales.db")).into_keys().filter(|key| key.contains("d=1")).collect();
    assert_eq!(days_only, [""; 0]);
    partition(&lake, &days, "1");
    write_version(&lake, "sales.db/days/d=1", 1);
    lake.metasync("run", &[]).expect(0);
    assert_versions(&lake, &[("days:d=1", 1), ("days:d=2", 1)]);
}

#[test]
fn rule_20_whoever_moves_or_writes_what_was_switched_is_not_overwritten() {
    let lake = replaced(2);
    let place = seen(&lake)["whole:"].0.clone();
    std::fs::write(place.join("part-0"), "written by others").unwrap();
    write_version(&lake, "sales.db/whole", 3);
    lake.metasync("run", &[]).expect(5);
    assert_eq!(lake.files(&place)["part-0"], "written by others");
    lake.metasync("verify", &[]).expect(4);
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    assert_versions(&lake, &[("whole:", 3)]);
    let location = format!("file:{}", lake.target("sales.db/whole").display());
    lake.sql("target", &format!("UPDATE SDS SET LOCATION = '{location}' WHERE LOCATION LIKE '%whole%'"));
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(
        refused.last_word().contains("--overwrite-drift") || refused.stderr.contains("sales.whole"),
        "{}",
        refused.stderr
    );
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    assert_versions(&lake, &[("whole:", 3)]);
}

#[test]
fn a_resync_finds_what_rotted_and_makes_it_anew_elsewhere() {
    let lake = replaced(2);
    let place = seen(&lake)["whole:"].0.clone();
    let rotten = place.join("kept");
    let before = std::fs::metadata(&rotten).unwrap();
    std::fs::write(&rotten, "rott").unwrap();
    tests::trees::set_mtime(&rotten, before.modified().unwrap());
    lake.metasync("resync", &["--table", "sales.whole"]).expect(0);
    let after = seen(&lake);
    assert_eq!(version(&after["whole:"].1), 2);
    assert_ne!(after["whole:"].0, place);
    assert_versions(&lake, &[("whole:", 2), ("days:d=1", 2)]);
}

#[test]
fn a_repair_makes_what_rotted_anew_elsewhere() {
    let lake = replaced(2);
    let place = seen(&lake)["days:d=1"].0.clone();
    let rotten = place.join("kept");
    let before = std::fs::metadata(&rotten).unwrap();
    std::fs::write(&rotten, "rott").unwrap();
    tests::trees::set_mtime(&rotten, before.modified().unwrap());
    lake.metasync("verify", &["--level", "content", "--repair"]).expect(0);
    assert_ne!(seen(&lake)["days:d=1"].0, place);
    assert_versions(&lake, &[("whole:", 2), ("days:d=1", 2), ("days:d=2", 1)]);
}

#[test]
fn a_table_that_is_renamed_keeps_its_folder_and_moves_on_from_there() {
    let lake = replaced(2);
    let place = seen(&lake)["whole:"].0.clone();
    let old = lake.unmade_table("whole", &[]);
    let mut new = lake.unmade_table("renamed", &[]);
    new.storage.location.clone_from(&old.storage.location);
    lake.apply(&[Change::DropTable(old.name), Change::PutTable(Box::new(new))]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (0, 0), "{}", ran.stdout);
    let after = assert_versions(&lake, &[("renamed:", 2), ("days:d=1", 2)]);
    assert_eq!((&after["renamed:"].0, after.contains_key("whole:")), (&place, false));
    write_version(&lake, "sales.db/whole", 3);
    lake.metasync("run", &[]).expect(0);
    assert_versions(&lake, &[("renamed:", 3)]);
    assert_eq!(version(&lake.files(&place)), 2);
}

#[test]
fn rule_27_a_folder_that_was_emptied_without_a_word_is_kept_and_one_that_may_be_empty_is_switched() {
    let lake = replaced(2);
    for entry in std::fs::read_dir(lake.source("sales.db/whole")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let before = seen(&lake);
    lake.metasync("run", &[]).expect(3);
    assert_eq!(seen(&lake), before);
    lake.policy(&format!("{SWITCH}empty_tables = \"accept\""));
    lake.metasync("run", &[]).expect(0);
    let (place, files) = seen(&lake)["whole:"].clone();
    assert!(place.is_dir() && files.is_empty(), "{place:?} {files:?}");
    assert_eq!(version(&lake.files(&before["whole:"].0)), 2);
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn rule_06_what_is_replaced_is_guarded_as_it_is_in_place() {
    let lake = lake("publish = \"switch\"\nmax_deletes = \"1\"");
    lake.metasync("run", &[]).expect(0);
    let before = seen(&lake);
    // Of two files that go from each folder one is replaced.
    for folder in ["sales.db/whole", "sales.db/days/d=1"] {
        write_version(&lake, folder, 2);
        std::fs::remove_file(lake.source(&format!("{folder}/kept"))).unwrap();
    }
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.stderr.contains("max_deletes"), "{}", refused.stderr);
    assert_eq!(seen(&lake), before);
}

#[test]
fn two_tables_on_one_folder_are_changed_in_place_and_named() {
    let lake = lake(SWITCH);
    let mut twin = lake.unmade_table("twin", &[]);
    twin.storage.location = lake.unmade_table("whole", &[]).storage.location;
    lake.apply(&[Change::PutTable(Box::new(twin))]);
    lake.metasync("run", &[]).expect(0);
    write_version(&lake, "sales.db/whole", 2);
    let planned = lake.metasync("plan", &[]).expect(0);
    assert!(planned.stdout.contains("\"step\":\"in-place\""), "{}", planned.stdout);
    let ran = lake.metasync("run", &[]).expect(0);
    assert!(ran.stderr.contains("sales.twin are replaced in place"), "{}", ran.stderr);
    let after = assert_versions(&lake, &[("whole:", 2), ("twin:", 2)]);
    assert!(after.values().all(|(place, _)| !is_marked(place)));
}

#[test]
fn what_is_replaced_again_while_it_is_copied_is_not_shown_half() {
    let lake = lake(SWITCH);
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/whole/kept", &"k".repeat(LARGE));
    write_version(&lake, "sales.db/whole", 2);
    lake.policy(&format!("{SWITCH}bwlimit = \"400K\""));
    let folders = || std::fs::read_dir(lake.target("sales.db")).unwrap().count();
    let before = folders();
    let mut running = lake.start();
    running.until("the fresh folder", || folders() > before);
    running.signal(Signal::STOP);
    write_version(&lake, "sales.db/whole", 3);
    assert_eq!(version(&seen(&lake)["whole:"].1), 1);
    running.signal(Signal::CONT);
    let ran = running.end().expect(0);
    let (_, files) = &seen(&lake)["whole:"];
    assert_eq!((files["kept"].len(), files.len()), (LARGE, 3), "{}", ran.stdout);
    assert!(files["part-0"].starts_with("v3") && files.contains_key("only-3"), "{files:?}");
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn what_a_killed_run_wrote_into_a_folder_that_nobody_goes_on_with_is_removed_with_it() {
    let lake = lake(SWITCH);
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/whole/kept", &"k".repeat(LARGE));
    lake.policy(&format!("{SWITCH}bwlimit = \"400K\""));
    let temporary = || lake.files(&lake.target("sales.db")).into_keys().find(|name| name.contains("/.understudy-"));
    let mut running = lake.start();
    running.until("a temporary file", || temporary().is_some());
    running.signal(Signal::KILL);
    drop(running);
    assert!(temporary().unwrap().starts_with("whole.understudy-"), "{:?}", temporary());
    lake.policy("max_deletes = \"100%\"\n");
    for _ in 0..2 {
        lake.metasync("run", &[]).expect(0);
    }
    assert_eq!(temporary(), None);
    let folders = std::fs::read_dir(lake.target("sales.db")).unwrap().map(|entry| entry.unwrap().file_name());
    let folders: BTreeSet<String> = folders.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(folders, ["days", "whole"].map(str::to_owned).into());
}

#[test]
fn on_a_store_what_did_not_change_is_copied_by_the_service_and_old_folders_go_to_the_trash() {
    let Some(server) = services::s3() else { return };
    let lake = lake("");
    let shell = lake.shell.clone().with_s3(&server);
    let to = server.fresh_bucket("switched");
    let policy = |options: &str| {
        let root = lake.root().display();
        let text = format!(
            "name = \"sales\"\nstate = \"{root}/state\"\ntrash = \"s3://{to}/trash\"\ndatabases = [\"sales\"]\n\
             source.metastore = \"sqlite://{root}/source.db\"\ntarget.metastore = \"sqlite://{root}/target.db\"\n\
             [[locations]]\nfrom = \"file:{root}/source\"\nto = \"s3://{to}/wh\"\n[options]\n{options}\n"
        );
        std::fs::write(lake.root().join("p.toml"), text).unwrap();
    };
    let run = |verb: &str| shell.metasync(&[verb, "p.toml", "--json"]).expect(0);
    policy(SWITCH);
    run("run");
    write_version(&lake, "sales.db/whole", 2);
    write_version(&lake, "sales.db/days/d=1", 2);
    let ran = run("run");
    assert_eq!((ran.number("bytes/server_side"), ran.number("requests/copy")), (8, 2), "{}", ran.stdout);
    let marked = |rows: Vec<Vec<String>>| rows.into_iter().filter(|row| row[1].contains(".understudy-")).count();
    assert_eq!(marked(lake.sql("target", PLACES)), 2);
    run("verify");
    policy(NO_GRACE);
    let removed = run("run");
    assert_eq!((removed.number("counts/deleted"), removed.number("requests/copy")), (6, 6), "{}", removed.stdout);
    run("verify");
    let idle = run("run");
    assert_eq!((idle.number("counts/copied"), idle.number("counts/deleted")), (0, 0), "{}", idle.stdout);
    server.remove_bucket(&to);
}

/// A reader of the replica, in a thread of its own.
struct Reader {
    url: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Reader {
    fn new(lake: &Lake) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { url: lake.root().join("target.db"), runtime }
    }

    /// Where everything is, as the metastore says in one transaction.
    fn places(&self) -> Vec<(String, PathBuf)> {
        let options = SqliteConnectOptions::new().filename(&self.url).busy_timeout(Duration::from_secs(60));
        let rows = self.runtime.block_on(async {
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            let rows = sqlx::query(PLACES).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows
        });
        let place = |text: String| PathBuf::from(text.trim_start_matches("file:"));
        rows.iter().map(|row| (row.get(0), place(row.get(1)))).collect()
    }

    /// Reads a folder as an engine does: it is listed, and what is named there is read.
    fn read(&self, place: &Path) -> BTreeMap<String, String> {
        let listed = std::fs::read_dir(place).unwrap_or_else(|error| panic!("{place:?}: {error}"));
        let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| !name.starts_with(['_', '.']));
        let read = |name: String| {
            let text = std::fs::read_to_string(place.join(&name));
            let text = text.unwrap_or_else(|error| panic!("{name} of {place:?} was listed: {error}"));
            (name, text)
        };
        names.map(read).collect()
    }
}

/// Versions come one after the other while runs copy them, two of three of which are killed, and a reader looks on.
fn read_all_the_time(seed: u64) {
    println!("UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let lake = lake(SWITCH);
    lake.metasync("run", &[]).expect(0);
    let looks = AtomicU64::new(0);
    let newest = std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let (looks, reader) = (&looks, Reader::new(&lake));
        let thread = scope.spawn(move || {
            let mut last: BTreeMap<String, u32> = BTreeMap::new();
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                for (unit, place) in reader.places().into_iter().filter(|(unit, _)| unit != "days:") {
                    let version = version(&reader.read(&place));
                    let before = last.insert(unit.clone(), version).unwrap_or_default();
                    assert!(version >= before, "{unit}: {version} after {before}");
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for run in 0..RUNS {
            let folders = ["sales.db/whole", "sales.db/days/d=1", "sales.db/days/d=2"];
            for folder in folders {
                write_version(&lake, folder, run + 2);
            }
            let running = lake.start();
            if run % 3 != 2 {
                running.kill_after(Duration::from_millis(dice.random_range(1..250)));
                continue;
            }
            let ran = running.end();
            assert_eq!(ran.code, 0, "run {run}: {}\n{}", ran.stdout, ran.stderr);
        }
        drop(stop);
        thread.join().expect("every version that was read is whole");
        RUNS + 1
    });
    assert!(looks.load(Ordering::Relaxed) > u64::from(RUNS), "the reader looked");
    lake.metasync("run", &[]).expect(0);
    let versions = [("whole:", newest), ("days:d=1", newest), ("days:d=2", newest)];
    assert_versions(&lake, &versions);
    // Nothing is left of what the dead began, nor of what was replaced.
    lake.policy(NO_GRACE);
    lake.metasync("run", &[]).expect(0);
    let after = assert_versions(&lake, &versions);
    let read: usize = after.iter().filter(|(unit, _)| *unit != "days:").map(|(_, (_, files))| files.len()).sum();
    assert_eq!(lake.files(&lake.target("")).len(), read, "{:?}", lake.files(&lake.target("")));
}

#[test]
fn every_version_that_is_read_is_whole_while_tables_are_replaced_and_runs_are_killed() {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => read_all_the_time(seed.parse().unwrap()),
        Err(_) => (0..3).for_each(read_all_the_time),
    }
}
