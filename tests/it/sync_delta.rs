//! Delta tables that are written to while `metasync run` carries them: a reader of the replica finds a whole version at every
//! moment, runs that are killed included.
//!
//! The writer and the reader keep to Delta's protocol as far as it matters here: commits of one line an action, files that are
//! never written twice, a checkpoint now and then with the file that names it. `UNDERSTUDY_TEST_SEED=N` replays one seed.

use metasync::metastore::Change;
use metasync::object::Object;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tests::lake::{LARGE, Lake};

const TABLE: &str = "sales.db/events";
/// Commits between two checkpoints.
const CHECKPOINT: u64 = 4;
/// The writer's pause between two commits, and the reader's between two looks.
const PACE: Duration = Duration::from_millis(20);
/// Runs of one seed; half of them are killed.
const RUNS: u64 = 6;

fn lake() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    let mut table = lake.unmade_table("events", &[]);
    table.parameters.insert("spark.sql.sources.provider".to_owned(), "delta".to_owned());
    std::fs::create_dir_all(lake.source(TABLE)).unwrap();
    lake.apply(&[Change::PutTable(Box::new(table))]);
    lake
}

/// Writes a file so that it is there whole or not at all, as engines do.
fn write(path: &Path, content: &str) {
    let new = path.with_file_name(format!("_tmp.{}", path.file_name().unwrap().display()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Commits a version: a new data file, and the oldest one goes out of the table where there are several. As with Delta
/// itself its file stays.
fn commit(table: &Path, version: u64, bytes: usize) {
    // Names of data files sort before and behind the log.
    let file = |version: u64| format!("{}-{version}.parquet", if version.is_multiple_of(2) { "part" } else { "A" });
    write(&table.join(file(version)), &format!("{version:x}").repeat(bytes)[..bytes]);
    let log = table.join("_delta_log");
    let mut actions = vec![json!({"add": {"path": file(version), "size": bytes}})];
    actions.extend((version >= 3).then(|| json!({"remove": {"path": file(version - 3)}})));
    let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
    write(&log.join(format!("{version:020}.json")), &lines.join("\n"));
    if version.is_multiple_of(CHECKPOINT) && version > 0 {
        write(&log.join(format!("_sidecars/{version}.parquet")), "files of the table");
        write(&log.join(format!("{version:020}.checkpoint.parquet")), &format!("{version}"));
        write(&log.join("_last_checkpoint"), &json!({"version": version, "size": version}).to_string());
    }
}

/// Reads a table as a reader does; returns the newest version, or `None` where there is no log yet.
///
/// # Panics
/// If that version is not whole: a commit, a checkpoint, a sidecar or a data file is missing.
fn read(table: &Path) -> Option<u64> {
    let log = table.join("_delta_log");
    assert!(!log.join("_last_checkpoint").exists(), "it may name what is not there");
    let names = std::fs::read_dir(&log).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    let version = |name: &String| name.get(..20)?.parse::<u64>().ok();
    for checkpoint in names.iter().filter(|name| name.ends_with(".checkpoint.parquet")).filter_map(version) {
        let sidecar = log.join(format!("_sidecars/{checkpoint}.parquet"));
        assert!(sidecar.exists(), "checkpoint {checkpoint} has its sidecar");
    }
    let newest = names.iter().filter(|name| name.ends_with(".json")).filter_map(version).max()?;
    let mut files = BTreeMap::new();
    // A folder that is listed while files come may show a later one and not those before it: they are asked for by name.
    for version in 0..=newest {
        let text = std::fs::read_to_string(log.join(format!("{version:020}.json")));
        let text = text.unwrap_or_else(|error| panic!("commit {version}, and {newest} is there: {error}"));
        for action in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if let Some(path) = action["add"]["path"].as_str() {
                files.insert(path.to_owned(), action["add"]["size"].as_u64().unwrap());
            }
            action["remove"]["path"].as_str().map(|path| files.remove(path));
        }
    }
    for (file, size) in files {
        let found = std::fs::metadata(table.join(&file)).map(|found| found.len()).ok();
        assert_eq!(found, Some(size), "version {newest} names {file}");
    }
    Some(newest)
}

#[test]
fn commits_that_come_while_data_is_copied_wait_for_their_own_data() {
    let lake = lake();
    let (source, target) = (lake.source(TABLE), lake.target(TABLE));
    commit(&source, 0, 10);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(read(&target), Some(0));
    commit(&source, 1, LARGE);
    let mut running = lake.copying(TABLE);
    for version in 2..=4 {
        commit(&source, version, LARGE / 4);
    }
    running.signal(Signal::CONT);
    for version in [1, 4] {
        let arrived = target.join(format!("_delta_log/{version:020}.json"));
        running.until("the commit", || arrived.exists());
        running.signal(Signal::STOP);
        assert!(read(&target) >= Some(version));
        running.signal(Signal::CONT);
    }
    running.end().expect(0);
    assert_eq!(read(&target), Some(4));
    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

/// One writer, one reader of the replica, and runs of which every other one is killed.
fn written_to_all_the_time(seed: u64) {
    println!("UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let lake = lake();
    let (source, target) = (lake.source(TABLE), lake.target(TABLE));
    commit(&source, 0, 10);
    // Before its metadata stands there nobody reads a table.
    lake.metasync("run", &[]).expect(0);
    let looks = AtomicU64::new(0);
    let newest = std::thread::scope(|scope| {
        // They go on until their channels are gone.
        let ((stop_writer, writes), (stop_reader, reads)) = (channel::<()>(), channel::<()>());
        let goes_on = |stopped: &Receiver<()>| stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout);
        let writer = scope.spawn(move || {
            let mut version = 0;
            while goes_on(&writes) {
                version += 1;
                commit(&source, version, 1 + (version as usize * 7919) % 3000);
            }
            version
        });
        let (looks, target) = (&looks, &target);
        let reader = scope.spawn(move || {
            let mut last = None;
            while goes_on(&reads) {
                let newest = read(target);
                assert!(newest >= last, "{newest:?} after {last:?}");
                last = newest;
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for run in 0..RUNS {
            let running = lake.start();
            if run % 2 == 1 {
                running.kill_after(Duration::from_millis(dice.random_range(1..400)));
                continue;
            }
            let ran = running.end();
            assert_eq!(ran.code, 0, "run {run}: {}\n{}", ran.stdout, ran.stderr);
        }
        drop((stop_writer, stop_reader));
        reader.join().expect("every version that was read is whole");
        writer.join().unwrap()
    });
    assert!(looks.load(Ordering::Relaxed) > RUNS, "the reader looked");
    lake.metasync("run", &[]).expect(0);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(read(&target), Some(newest));
    lake.assert_in_step();
}

#[test]
fn every_version_that_is_read_is_whole_while_the_source_is_written_to_and_runs_are_killed() {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => written_to_all_the_time(seed.parse().unwrap()),
        Err(_) => (0..2).for_each(written_to_all_the_time),
    }
}

#[test]
fn a_log_that_went_another_way_stops_its_table_until_somebody_says_which_is_right() {
    let lake = lake();
    let (source, target) = (lake.source(TABLE), lake.target(TABLE));
    (0..3).for_each(|version| commit(&source, version, 10));
    lake.table("other", &[]);
    lake.metasync("run", &[]).expect(0);
    // Somebody put back an older state, and went on from there.
    let log = source.join("_delta_log");
    std::fs::remove_file(log.join(format!("{:020}.json", 2))).unwrap();
    commit(&source, 2, 2000);
    lake.write("sales.db/other/part-1", "the others go on");
    let ran = lake.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("is another commit than the source's of that version"), "{}", ran.stderr);
    assert_eq!((read(&target), lake.target("sales.db/other/part-1").exists()), (Some(2), true));
    assert_eq!(std::fs::metadata(target.join("part-2.parquet")).unwrap().len(), 10);
    lake.metasync("resync", &["--table", "sales.events"]).expect(0);
    assert_eq!(std::fs::metadata(target.join("part-2.parquet")).unwrap().len(), 2000);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_table_that_was_dropped_and_made_anew_begins_a_new_log() {
    let lake = lake();
    let (source, target) = (lake.source(TABLE), lake.target(TABLE));
    (0..3).for_each(|version| commit(&source, version, 10));
    lake.metasync("run", &[]).expect(0);
    lake.policy("max_drops = \"100%\"\nmax_deletes = \"100%\"");
    let table = lake.objects("source").into_iter().find_map(|object| match object {
        Object::Table(table) => Some(table),
        _ => None,
    });
    let table = table.unwrap();
    lake.apply(&[Change::DropTable(table.name.clone()), Change::PutTable(table)]);
    std::fs::remove_dir_all(&source).unwrap();
    commit(&source, 0, 2000);
    lake.metasync("run", &[]).expect(0);
    assert_eq!((read(&target), std::fs::metadata(target.join("part-0.parquet")).unwrap().len()), (Some(0), 2000));
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_20_a_commit_that_somebody_made_on_the_replica_is_not_overwritten() {
    let lake = lake();
    let (source, target) = (lake.source(TABLE), lake.target(TABLE));
    (0..2).for_each(|version| commit(&source, version, 10));
    lake.metasync("run", &[]).expect(0);
    // It was promoted, and written to; the source goes on, too.
    commit(&target, 2, 500);
    commit(&source, 2, 20);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("--overwrite-drift"), "{}", refused.stderr);
    assert_eq!(std::fs::metadata(target.join("part-2.parquet")).unwrap().len(), 500);
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}
