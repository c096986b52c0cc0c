//! Delta tables that are written to while `metasync run` carries them: a reader of the replica finds a whole version at every
//! moment, runs that are killed included.
//! `UNDERSTUDY_TEST_SEED=N` replays one seed.

use metasync::metastore::Change;
use metasync::object::Object;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tests::delta::{self, commit};
use tests::lake::{LARGE, Lake};

const TABLE: &str = "sales.db/events";
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

/// Reads the replica, which has no hint.
fn read(table: &Path) -> Option<u64> {
    assert!(!table.join("_delta_log/_last_checkpoint").exists(), "it may name what is not there");
    delta::read(table)
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
