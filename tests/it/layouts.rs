//! `distcp copy --layout`: tables in a tree of files arrive so that a reader of the copy finds a whole version at every
//! moment, also while the source is written to and runs are killed. `UNDERSTUDY_TEST_SEED=N` replays one seed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use distcp::event::Outcome;
use distcp::layout::Layout;
use distcp::store::memory::MemoryStore;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::cli::Shell;
use tests::contract::{list_all, pattern, put};
use tests::delta::{self, commit};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;
use tests::running::Running;
use tests::trees::contents;

/// The writers' pause between two versions, and the readers' between two looks.
const PACE: Duration = Duration::from_millis(15);
/// Runs of one seed; half of them are killed.
const RUNS: u64 = 8;

/// An Iceberg table of a file system as far as copies of it matter: each version has a file more and names the last three.
mod iceberg {
    use std::path::Path;
    use tests::delta::write;

    fn of(version: u64) -> [String; 2] {
        // Names sort before and behind the metadata.
        let folder = if version.is_multiple_of(2) { "data" } else { "zone=1" };
        [format!("{folder}/{version}.parquet"), format!("metadata/snap-{version}.avro")]
    }

    pub fn commit(table: &Path, version: u64) {
        for file in of(version) {
            write(&table.join(file), &"x".repeat(1 + version as usize * 31 % 900));
        }
        let named: Vec<String> = (version.saturating_sub(2)..=version).flat_map(of).collect();
        write(&table.join(format!("metadata/v{version}.metadata.json")), &named.join("\n"));
        write(&table.join("metadata/version-hint.text"), &version.to_string());
    }

    /// Removes what no version but those before this one names.
    pub fn expire(table: &Path, version: u64) {
        let Some(old) = version.checked_sub(3) else { return };
        for file in of(old).into_iter().chain([format!("metadata/v{old}.metadata.json")]) {
            std::fs::remove_file(table.join(file)).expect("a file");
        }
    }

    /// The newest version, as file system tables are read: the hint, and what follows it; without a hint the newest that is
    /// there.
    pub fn read(table: &Path) -> Option<u64> {
        let metadata = |version: u64| table.join(format!("metadata/v{version}.metadata.json"));
        let number =
            |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix('v')?.split('.').next()?.parse().ok();
        let hint = std::fs::read_to_string(table.join("metadata/version-hint.text"));
        let mut version: u64 = match hint {
            Ok(hint) => hint.parse().expect("a number"),
            Err(_) => {
                std::fs::read_dir(table.join("metadata")).ok()?.filter_map(|entry| number(entry.unwrap())).max()?
            }
        };
        while metadata(version + 1).exists() {
            version += 1;
        }
        let named = std::fs::read_to_string(metadata(version)).expect("what the hint names");
        for file in named.lines() {
            assert!(table.join(file).exists(), "version {version} names {file}");
        }
        Some(version)
    }
}

/// Some readers ask for the commit of the checkpoint that they begin with.
fn checkpoints_have_commits(table: &Path) {
    let log = table.join("_delta_log");
    let names = std::fs::read_dir(&log).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    for version in names.filter_map(|name| name.strip_suffix(".checkpoint.parquet").map(str::to_owned)) {
        assert!(log.join(format!("{version}.json")).exists(), "checkpoint {version} has its commit");
    }
}

/// One writer, one reader of the copy, and runs of which every other one is killed.
fn written_to_all_the_time(seed: u64) {
    println!("UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let [source, target] = ["source", "target"].map(|name| home.path().join(name));
    let write = |version| {
        commit(&source.join("d"), version, 1 + (version as usize * 7919) % 3000);
        iceberg::commit(&source.join("i"), version);
    };
    write(0);
    let looks = AtomicU64::new(0);
    let newest = std::thread::scope(|scope| {
        // They go on until their channels are gone.
        let ((stop_writer, writes), (stop_reader, reads)) = (channel::<()>(), channel::<()>());
        let goes_on = |stopped: &Receiver<()>| stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout);
        let write = &write;
        let writer = scope.spawn(move || {
            let mut version = 0;
            while goes_on(&writes) {
                version += 1;
                write(version);
            }
            version
        });
        let (looks, target) = (&looks, &target);
        let reader = scope.spawn(move || {
            let mut last = (None, None);
            while goes_on(&reads) {
                let newest = (delta::read(&target.join("d")), iceberg::read(&target.join("i")));
                checkpoints_have_commits(&target.join("d"));
                assert!(newest.0 >= last.0 && newest.1 >= last.1, "{newest:?} after {last:?}");
                last = newest;
                looks.fetch_add(1, Ordering::Relaxed);
            }
            last
        });
        for run in 0..RUNS {
            let running = Running::start(shell.distcp(&["copy", "--delete", "source", "target"]));
            if run % 2 == 1 {
                running.kill_after(Duration::from_millis(dice.random_range(1..120)));
                continue;
            }
            let ran = running.end();
            assert_eq!(ran.code, 0, "run {run}: {}\n{}", ran.stdout, ran.stderr);
        }
        drop((stop_writer, stop_reader));
        let last = reader.join().expect("every version that was read is whole");
        assert!(last.0 > Some(0) && last.1 > Some(0), "versions arrive: {last:?}");
        writer.join().unwrap()
    });
    assert!(looks.load(Ordering::Relaxed) > RUNS, "the reader looked");
    shell.run(&["copy", "--delete", "source", "target"]).expect(0);
    assert_eq!((delta::read(&target.join("d")), iceberg::read(&target.join("i"))), (Some(newest), Some(newest)));
    assert_eq!(contents(&source), contents(&target), "hints and all");
}

#[test]
fn every_version_that_is_read_of_a_copy_is_whole_while_the_source_is_written_to_and_runs_are_killed() {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => written_to_all_the_time(seed.parse().unwrap()),
        Err(_) => (0..3).for_each(written_to_all_the_time),
    }
}

/// One writer that keeps nothing but its newest version, and runs of which every other one is killed: the copy is whole after
/// each of them.
fn vacuumed_all_the_time(seed: u64) {
    println!("UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let [source, target] = ["source", "target"].map(|name| home.path().join(name));
    let write = |version: u64| {
        commit(&source.join("d"), version, 1 + (version as usize * 7919) % 3000);
        delta::vacuum(&source.join("d"), version);
        iceberg::commit(&source.join("i"), version);
        iceberg::expire(&source.join("i"), version);
    };
    (0..5).for_each(write);
    let versions = || (delta::read(&target.join("d")), iceberg::read(&target.join("i")));
    shell.run(&["copy", "--delete", "source", "target"]).expect(0);
    assert_eq!(versions(), (Some(4), Some(4)));
    let newest = std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let write = &write;
        let writer = scope.spawn(move || {
            let mut version = 4;
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                version += 1;
                write(version);
            }
            version
        });
        let mut last = versions();
        for run in 0..2 * RUNS {
            let running = Running::start(shell.distcp(&["copy", "--delete", "--json", "source", "target"]));
            if run % 2 == 1 {
                running.kill_after(Duration::from_millis(dice.random_range(1..120)));
            } else {
                let ran = running.end();
                // 3: a file went before it was read.
                assert!([0, 3].contains(&ran.code), "run {run}: {}\n{}", ran.stdout, ran.stderr);
            }
            let now = versions();
            assert!(now.0 >= last.0 && now.1 >= last.1, "run {run}: {now:?} after {last:?}");
            last = now;
        }
        drop(stop);
        writer.join().unwrap()
    });
    shell.run(&["copy", "--delete", "source", "target"]).expect(0);
    assert_eq!(versions(), (Some(newest), Some(newest)));
    assert_eq!(contents(&source), contents(&target));
}

#[test]
fn a_copy_of_tables_of_which_only_the_newest_version_is_kept_is_whole_after_every_run() {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => vacuumed_all_the_time(seed.parse().unwrap()),
        Err(_) => (0..3).for_each(vacuumed_all_the_time),
    }
}

fn log(version: u64, end: &str) -> String {
    format!("d/_delta_log/{version:020}.{end}")
}

const HINT: &str = "d/_delta_log/_last_checkpoint";

/// A Delta table of a few commits, with a checkpoint, beside a plain file.
async fn filled(source: &dyn Store) -> Vec<String> {
    let mut keys = vec!["d/Z".to_owned(), "d/part".into(), "plain".into(), HINT.into(), log(3, "checkpoint.parquet")];
    keys.extend((0..5).map(|version| log(version, "json")));
    for key in &keys {
        put(source, key, pattern(100 + key.len() as u64)).await;
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn data_comes_first_then_commits_one_after_the_other_then_checkpoints_then_hints() {
    let (source, target) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    filled(source.as_ref()).await;
    // The first commit takes its time.
    let slow = Fault::Delay(Duration::from_millis(50));
    let rules = vec![Rule::every(Method::Put, slow).on(&*log(0, "json"))];
    let slow = FaultStore::new(target.clone(), FaultPlan { rules, ..FaultPlan::default() });
    let mut pair = Pair::new(source.clone(), Arc::new(slow));
    pair.options.layout = Layout::Delta;
    let summary = pair.copied().await.summary;
    assert_eq!((summary.counts.copied, summary.counts.listed), (10, 10));
    // Its clock ticks with each write.
    let mut arrived = list_all(target.as_ref(), ListOptions::default()).await;
    arrived.sort_by_key(|listed| listed.fingerprint.mtime_ns);
    let order = arrived.into_iter().map(|listed| listed.key.to_string()).collect::<Vec<_>>();
    let mut later: Vec<String> = (0..5).map(|version| log(version, "json")).collect();
    later.extend([log(3, "checkpoint.parquet"), HINT.into()]);
    assert_eq!(order[3..], later);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_something_of_tables_to_carry_is_listed_twice() {
    let counting = || Arc::new(FaultStore::counting(Arc::new(MemoryStore::new())));
    let (source, target) = (counting(), counting());
    filled(source.as_ref()).await;
    let mut pair = Pair::new(source.clone(), target.clone());
    let lists = || [&source, &target].map(|store| store.calls(Method::List));
    for (layout, listings) in [(Layout::Auto, 2), (Layout::Auto, 1), (Layout::Plain, 1)] {
        pair.options.layout = layout;
        source.reset_counts();
        target.reset_counts();
        pair.copied().await;
        // A batch and the end; of an empty target the end alone.
        assert_eq!(lists()[0], 2 * listings, "{layout:?}");
    }
    put(source.as_ref(), "plain", pattern(7)).await;
    pair.options.layout = Layout::Auto;
    source.reset_counts();
    pair.copied().await;
    assert_eq!(lists()[0], 2, "a change beside the tables");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_file_of_a_table_does_not_arrive_the_table_keeps_its_version_and_others_go_on() {
    for (key, method) in
        [("d/part", Method::Get), (&*log(2, "json"), Method::Put), (&log(3, "checkpoint.parquet"), Method::Put)]
    {
        let (source, target) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        let keys = filled(source.as_ref()).await;
        put(source.as_ref(), "other/_delta_log/00000000000000000000.json", pattern(50)).await;
        let rules = vec![Rule::every(method, Fault::Fail(StoreErrorKind::Permission)).on(key)];
        let faulty = |store: Arc<MemoryStore>| -> Arc<dyn Store> {
            Arc::new(FaultStore::new(store, FaultPlan { rules: rules.clone(), ..FaultPlan::default() }))
        };
        let mut pair = Pair::new(faulty(source.clone()), faulty(target.clone()));
        pair.options.layout = Layout::Auto;
        let summary = pair.ends_with(3).await.summary;
        assert_eq!(summary.counts.failed, 1);
        let copied = pair.ended(Outcome::Copied);
        let arrived = |key: &str| copied.iter().any(|copied| copied == key);
        assert!(arrived("plain") && arrived("other/_delta_log/00000000000000000000.json"), "{copied:?}");
        let arriving = [("d/part", 0), (&log(2, "json"), 2), (&log(3, "checkpoint.parquet"), 5)];
        let commits = 0..arriving.into_iter().find(|(of, _)| *of == key).unwrap().1;
        let expected: Vec<String> = commits.map(|version| log(version, "json")).collect();
        let found: Vec<String> = (0..5).map(|version| log(version, "json")).filter(|key| arrived(key)).collect();
        assert_eq!(found, expected, "{key}");
        assert!(!arrived(HINT));
        (pair.source, pair.target) = (source, target);
        pair.copied().await;
        assert_eq!(pair.rows().await.len(), keys.len() + 1);
    }
}

/// What vanishes, what that leaves, and what is deleted beside it.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_file_of_a_table_vanishes_the_table_keeps_all_it_has_and_a_writers_own_files_stop_nothing() {
    for (key, stops) in [("d/part", true), ("d/_temporary/0/x", false), ("d/.hive-staging_1/x", false), ("part", false)]
    {
        let (source, target) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        filled(source.as_ref()).await;
        put(source.as_ref(), key, pattern(9)).await;
        for extra in ["d/old", "other/old"] {
            put(target.as_ref(), extra, pattern(9)).await;
        }
        let gone = |method| Rule::every(method, Fault::Fail(StoreErrorKind::NotFound)).on(key);
        let rules = vec![gone(Method::Get), gone(Method::Head)];
        let faulty = FaultStore::new(source, FaultPlan { rules, ..FaultPlan::default() });
        let mut pair = Pair::new(Arc::new(faulty), target);
        (pair.options.layout, pair.options.delete) = (Layout::Auto, true);
        let summary = pair.copied().await.summary;
        let copied = pair.ended(Outcome::Copied);
        assert_eq!(copied.iter().any(|copied| *copied == log(0, "json")), !stops, "{key}: {copied:?}");
        let deleted = pair.ended(Outcome::Deleted);
        assert_eq!(deleted, if stops { vec!["other/old"] } else { vec!["d/old", "other/old"] }, "{key}");
        assert_eq!(summary.as_of.is_none(), stops, "{key}: what stands for an older moment is not of this one");
        let told = pair.notes().iter().any(|note| note.contains("1 tables keep the version that they have: d"));
        assert_eq!(told, stops, "{key}: {:?}", pair.notes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_file_of_a_table_goes_between_two_listings_the_table_keeps_all_it_has() {
    let (source, target) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    filled(source.as_ref()).await;
    let mut pair = Pair::new(source.clone(), target);
    (pair.options.layout, pair.options.delete) = (Layout::Auto, true);
    pair.copied().await;
    for key in ["d/new", "plain-too", &log(5, "json")] {
        put(source.as_ref(), key, pattern(9)).await;
    }
    source.delete(&["d/part".into()]).await.remove(0).unwrap();
    let before = pair.rows().await;
    // A listing is two calls: the first one of the second listing waits until the file has gone.
    let slow = Rule { skip: 2, times: 1, ..Rule::every(Method::List, Fault::Delay(Duration::from_secs(1))) };
    let slow = Arc::new(FaultStore::new(source.clone(), FaultPlan { rules: vec![slow], ..FaultPlan::default() }));
    pair.source = slow.clone();
    let vacuum = async {
        while slow.calls(Method::List) < 3 {
            tokio::task::yield_now().await;
        }
        source.delete(&["d/new".into()]).await.remove(0).unwrap();
    };
    let (report, ()) = tokio::join!(pair.copied(), vacuum);
    assert_eq!((report.summary.counts.copied, report.summary.counts.deleted), (1, 0));
    let after = pair.rows().await;
    let came: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
    assert_eq!((came.len(), after.len()), (1, before.len() + 1), "{came:?}");
    pair.source = source;
    let summary = pair.copied().await.summary;
    assert_eq!((summary.counts.copied, summary.counts.deleted), (1, 1), "the commit, and what it no longer names");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_the_same_size_is_found_before_its_checkpoint_is_written_over() {
    let (source, target) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    filled(source.as_ref()).await;
    let same_size = pattern(100 + log(2, "json").len() as u64).iter().map(|byte| byte ^ 1).collect::<Vec<u8>>();
    put(target.as_ref(), &log(2, "json"), same_size).await;
    put(target.as_ref(), &log(3, "checkpoint.parquet"), pattern(3)).await;
    let before = target.head(&log(3, "checkpoint.parquet").as_str().into()).await.unwrap().fingerprint;
    let mut pair = Pair::new(source, target.clone());
    pair.options.layout = Layout::Auto;
    let summary = pair.ends_with(3).await.summary;
    assert!(summary.errors[0].contains("another commit of this version"), "{:?}", summary.errors);
    let after = target.head(&log(3, "checkpoint.parquet").as_str().into()).await.unwrap().fingerprint;
    assert_eq!((after, pair.ended(Outcome::Failed)), (before, vec![log(2, "json")]));
    let copied = pair.ended(Outcome::Copied);
    assert!(!copied.iter().any(|key| key.contains("_delta_log")), "{copied:?}");
}

/// Writes what is there once more, as somebody who went back to an older state and on from there.
fn went_another_way(table: &Path) {
    std::fs::remove_file(table.join(format!("_delta_log/{:020}.json", 2))).unwrap();
    commit(table, 2, 2000);
    commit(table, 3, 5);
}

#[test]
fn a_commit_that_is_another_one_on_the_target_stops_its_table_until_somebody_says_so() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let [source, target] = ["source", "target"].map(|name| home.path().join(name));
    (0..3).for_each(|version| commit(&source.join("d"), version, 10));
    shell.run(&["copy", "source", "target"]).expect(0);
    went_another_way(&source.join("d"));
    std::fs::write(source.join("plain"), "goes on").unwrap();
    let fork = target.join(format!("d/_delta_log/{:020}.json", 2));
    let before = std::fs::read(&fork).unwrap();
    let planned = shell.run(&["copy", "--dry-run", "source", "target"]).expect(0);
    assert!(planned.stdout.contains("fail"), "{}", planned.stdout);
    // Known to the state, and unknown: what is of the same length is compared.
    for known in [true, false] {
        let mut arguments = vec!["copy", "source", "target"];
        if !known {
            arguments.extend(["--state", "lost"]);
        }
        let ran = shell.run(&arguments).expect(3);
        assert!(ran.stderr.contains("another commit of this version"), "{}", ran.stderr);
        assert_eq!(std::fs::read(&fork).unwrap(), before);
        assert_eq!((delta_version(&target), target.join("plain").exists()), (Some(2), true));
    }
    shell.run(&["copy", "--layout", "plain", "source", "target"]).expect(0);
    assert_eq!(contents(&source), contents(&target));
}

/// The newest commit that is there, whatever it names.
fn delta_version(target: &Path) -> Option<u64> {
    let names = std::fs::read_dir(target.join("d/_delta_log")).ok()?;
    names.filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok()).max()
}
