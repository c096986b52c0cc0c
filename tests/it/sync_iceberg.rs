//! Iceberg tables that are written to while `metasync run` carries them: whoever follows the replica's `metadata_location` finds
//! every file that its version names, runs that are killed included. The reader is not our code, and knows the replica's
//! places only.

use metasync::metastore::Change;
use metasync::model::TableName;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tests::iceberg::{Table, read};
use tests::lake::{LARGE, Lake};

const TABLE: &str = "sales.db/events";
const PACE: Duration = Duration::from_millis(20);
const ALL: &str = "max_deletes = \"100%\"\nmax_drops = \"100%\"";

fn lake() -> (Lake, Table) {
    let lake = Lake::logged();
    lake.database("sales");
    lake.policy(ALL);
    let table = iceberg(&lake, 2);
    (lake, table)
}

fn iceberg(lake: &Lake, format: u64) -> Table {
    Table::new(lake.source(TABLE), &format!("file:{}", lake.source(TABLE).display()), format)
}

/// What a catalog does when a version is committed.
fn point(lake: &Lake, name: &str, at: &str) {
    let mut table = lake.unmade_table(name, &[]);
    table.storage.location = Some(format!("file:{}", lake.source(TABLE).display()));
    let before = lake.sql("source", "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'metadata_location'");
    let before = before.first().map(|row| ("previous_metadata_location", row[0].clone()));
    let named = [("table_type", "ICEBERG".to_owned()), ("metadata_location", at.to_owned())];
    table.parameters.extend(named.into_iter().chain(before).map(|(key, value)| (key.to_owned(), value)));
    lake.apply(&[Change::PutTable(Box::new(table))]);
}

/// Appends a version of so many files.
fn append(lake: &Lake, table: &mut Table, files: usize) {
    let files: Vec<String> = (0..files).map(|_| table.data(500)).collect();
    let at = table.commit(&files, false);
    point(lake, "events", &at);
}

/// Where the replica's metastore says that its version is.
fn pointer(lake: &Lake) -> Option<String> {
    let rows = lake.sql("target", "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'metadata_location'");
    rows.first().map(|row| row[0].clone())
}

fn read_at(lake: &Lake, at: &str) -> BTreeSet<String> {
    let folder = lake.target(TABLE);
    let url = format!("file:{}", folder.display());
    read(&PathBuf::from(at.strip_prefix("file:").expect("a local path")), &url, &folder)
}

/// The data files of the replica's version.
fn shown(lake: &Lake) -> BTreeSet<String> {
    read_at(lake, &pointer(lake).expect("a table"))
}

/// Names of files below the table's folder of a side.
fn names(folder: PathBuf) -> BTreeSet<String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
        for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => walk(root, &path, found),
                false => drop(found.insert(path.strip_prefix(root).unwrap().display().to_string())),
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&folder, &folder, &mut found);
    found
}

fn in_step(lake: &Lake) {
    assert_eq!(lake.dump("source"), lake.dump("target"));
    assert_eq!(names(lake.source(TABLE)), names(lake.target(TABLE)));
    for level in ["listing", "manifest", "content"] {
        lake.metasync("verify", &["--level", level]).expect(0);
    }
}

#[test]
fn every_version_arrives_whole_and_what_it_does_not_name_goes() {
    for format in [1, 2] {
        let (lake, _) = lake();
        let mut table = iceberg(&lake, format);
        let at = table.commit(&[], false);
        point(&lake, "events", &at);
        lake.metasync("run", &[]).expect(0);
        assert_eq!(shown(&lake).len(), 0);
        append(&lake, &mut table, 3);
        append(&lake, &mut table, 1);
        lake.metasync("run", &[]).expect(0);
        assert_eq!(shown(&lake).len(), 4);
        in_step(&lake);
        // Files of a write that has not been committed are nobody's.
        let open = table.data(700);
        let ran = lake.metasync("run", &[]).expect(0);
        assert_eq!(ran.number("counts/copied"), 0, "{}", ran.stdout);
        let at = table.commit(&[open], true);
        point(&lake, "events", &at);
        lake.metasync("run", &[]).expect(0);
        assert_eq!(shown(&lake).len(), 1);
        in_step(&lake);
        let (at, gone) = table.expire(1);
        point(&lake, "events", &at);
        gone.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        assert!(gone.len() >= 8, "{gone:?}");
        lake.metasync("run", &[]).expect(0);
        assert_eq!(shown(&lake).len(), 1);
        in_step(&lake);
        let ran = lake.metasync("run", &[]).expect(0);
        assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (0, 0), "{}", ran.stdout);
    }
}

#[test]
fn verify_finds_a_changed_and_a_missing_file_of_metadata() {
    let (lake, mut table) = lake();
    append(&lake, &mut table, 2);
    lake.metasync("run", &[]).expect(0);
    in_step(&lake);
    let list = lake.target(TABLE).join("metadata/snap-1.avro");
    let whole = std::fs::read(&list).unwrap();
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&list, &other).unwrap();
    assert!(lake.metasync("verify", &["--level", "content"]).expect(4).stdout.contains("snap-1.avro"));
    // The source's own file would lead every reader there.
    std::fs::copy(lake.source(TABLE).join("metadata/snap-1.avro"), &list).unwrap();
    assert!(lake.metasync("verify", &["--level", "content"]).expect(4).stdout.contains("snap-1.avro"));
    std::fs::remove_file(&list).unwrap();
    assert!(lake.metasync("verify", &["--level", "listing"]).expect(4).stdout.contains("snap-1.avro"));
    lake.metasync("resync", &["--table", "sales.events"]).expect(0);
    assert_eq!(std::fs::read(&list).unwrap(), whole);
    in_step(&lake);
}

#[test]
fn a_table_that_is_renamed_or_dropped_goes_along() {
    let (lake, mut table) = lake();
    append(&lake, &mut table, 2);
    lake.metasync("run", &[]).expect(0);
    let mut renamed = lake.unmade_table("events2", &[]);
    renamed.storage.location = Some(format!("file:{}", lake.source(TABLE).display()));
    let at = lake.sql("source", "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'metadata_location'");
    let named = [("table_type", "ICEBERG"), ("metadata_location", &at[0][0])];
    renamed.parameters.extend(named.map(|(key, value)| (key.to_owned(), value.to_owned())));
    lake.apply(&[Change::DropTable(TableName::new("sales", "events")), Change::PutTable(Box::new(renamed))]);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(shown(&lake).len(), 2);
    in_step(&lake);
    lake.apply(&[Change::DropTable(TableName::new("sales", "events2"))]);
    std::fs::remove_dir_all(lake.source(TABLE)).unwrap();
    lake.policy(&format!("{ALL}\nkeep_external_data = false"));
    lake.metasync("run", &[]).expect(0);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(pointer(&lake), None);
    assert_eq!(names(lake.target(TABLE)), BTreeSet::new());
    // Another one of that name.
    let mut table = iceberg(&lake, 2);
    append(&lake, &mut table, 3);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(shown(&lake).len(), 3);
    in_step(&lake);
}

#[test]
fn what_cannot_be_carried_is_quarantined_by_name_and_keeps_its_last_version() {
    let (lake, mut table) = lake();
    lake.table("other", &[]);
    append(&lake, &mut table, 2);
    lake.metasync("run", &[]).expect(0);
    let refused = |words: &str| {
        lake.write("sales.db/other/part-1", words);
        let ran = lake.metasync("run", &[]).expect(3);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("sales.events"), "{words}: {}", ran.stderr);
        assert_eq!(shown(&lake).len(), 2, "{words}");
        assert_eq!(std::fs::read_to_string(lake.target("sales.db/other/part-1")).unwrap(), words, "the others go on");
    };
    for (more, words) in [
        (json!({"format-version": 3}), "format version 3"),
        (json!({"location": "file:/elsewhere/t"}), "file:/elsewhere/t"),
        (json!({"properties": {"write.data.path": "s3://x/y"}}), "write.data.path s3://x/y"),
        (
            json!({"statistics": [{"statistics-path": format!("file:{}/a.stats", lake.source(TABLE).display())}]}),
            "a.stats",
        ),
    ] {
        table.more = more;
        append(&lake, &mut table, 1);
        refused(words);
    }
    table.more = json!({});
    let at = table.commit(&["file:/elsewhere/data.parquet".to_owned()], false);
    point(&lake, "events", &at);
    refused("file:/elsewhere/data.parquet");
    table.expire(0);
    let outside = format!("file:{}/sales.db/beside/data.parquet", lake.source("").display());
    let at = table.commit(&[outside], true);
    point(&lake, "events", &at);
    refused("is not in its folder");
    table.expire(1);
    let file = table.data(10);
    table.commit(&[file], true);
    table.expire(1);
    let at = table.commit_deletes();
    point(&lake, "events", &at);
    refused("delete files");
    table.expire(0);
    append(&lake, &mut table, 1);
    let folder = lake.source(TABLE).join("metadata");
    let number = |name: &String| name.strip_prefix('m')?.strip_suffix(".avro")?.parse::<u64>().ok();
    let newest = names(folder.clone()).into_iter().filter(|name| number(name).is_some()).max_by_key(number).unwrap();
    let cut = folder.join(newest);
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 5]).unwrap();
    refused("cut off");
    std::fs::write(&cut, &whole).unwrap();
    point(&lake, "events", "file:/elsewhere/v1.metadata.json");
    refused("leads to no folder inside its location");
}

#[test]
fn rule_28_files_of_others_in_its_folder_are_not_removed_even_where_only_it_is_asked_for() {
    let (lake, mut table) = lake();
    let mut other = lake.unmade_table("other", &[]);
    other.storage.location = Some(format!("file:{}/beside", lake.source(TABLE).display()));
    lake.apply(&[Change::PutTable(Box::new(other))]);
    lake.write(&format!("{TABLE}/beside/part-0"), "of another table");
    lake.metasync("run", &[]).expect(0);
    append(&lake, &mut table, 2);
    let ran = lake.metasync("resync", &["--table", "sales.events"]).expect(3);
    assert!(ran.stderr.contains("sales.other"), "{}", ran.stderr);
    let ran = lake.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("sales.events") && ran.stderr.contains("folder"), "{}", ran.stderr);
    assert!(lake.target(&format!("{TABLE}/beside/part-0")).exists());
}

#[test]
fn a_data_file_that_is_named_and_not_there_moves_no_version() {
    let (lake, mut table) = lake();
    append(&lake, &mut table, 2);
    lake.metasync("run", &[]).expect(0);
    append(&lake, &mut table, 2);
    let file = lake.source(TABLE).join("data/day=0/00003.parquet");
    let away = lake.root().join("away");
    std::fs::rename(&file, &away).unwrap();
    let ran = lake.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("00003.parquet"), "{}", ran.stderr);
    assert_eq!(shown(&lake).len(), 2);
    std::fs::rename(&away, &file).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(shown(&lake).len(), 4);
    in_step(&lake);
}

#[test]
fn rule_20_a_version_that_somebody_made_on_the_replica_is_not_overwritten() {
    let (lake, mut table) = lake();
    append(&lake, &mut table, 2);
    lake.metasync("run", &[]).expect(0);
    let mine = pointer(&lake).unwrap().replace("00001-u", "00009-promoted");
    lake.sql(
        "target",
        &format!("UPDATE TABLE_PARAMS SET PARAM_VALUE = '{mine}' WHERE PARAM_KEY = 'metadata_location'"),
    );
    append(&lake, &mut table, 1);
    lake.metasync("run", &[]).expect(5);
    assert_eq!(pointer(&lake), Some(mine));
}

#[test]
fn a_version_that_comes_after_the_look_waits_for_its_files() {
    let (lake, mut table) = lake();
    append(&lake, &mut table, 1);
    lake.metasync("run", &[]).expect(0);
    let large = [table.data(LARGE)];
    let at = table.commit(&large, false);
    point(&lake, "events", &at);
    let mut running = lake.copying(&format!("{TABLE}/data/day=2"));
    append(&lake, &mut table, 1);
    running.signal(Signal::CONT);
    running.end().expect(0);
    assert!(shown(&lake).len() <= 3, "and every file of it is there");
    lake.policy(ALL);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(shown(&lake).len(), 3);
    in_step(&lake);
}

#[test]
fn a_run_that_is_killed_at_any_step_leaves_one_whole_version() {
    let (lake, mut table) = lake();
    append(&lake, &mut table, 3);
    lake.metasync("run", &[]).expect(0);
    let first = shown(&lake);
    let files: Vec<String> = (0..4).map(|_| table.data(500)).collect();
    table.commit(&files, true);
    let (at, gone) = table.expire(1);
    point(&lake, "events", &at);
    gone.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let mut versions = BTreeSet::new();
    for step in 0..40 {
        lake.start().kill_after(Duration::from_millis(15 + 20 * step));
        let now = shown(&lake);
        assert!(now == first || now.len() == 4, "{now:?}");
        versions.insert(now);
    }
    lake.metasync("run", &[]).expect(0);
    versions.insert(shown(&lake));
    assert_eq!(versions.len(), 2);
    in_step(&lake);
}

/// One writer that appends, replaces and expires, one reader of the replica, and runs of which every other one is killed.
fn written_to_all_the_time(seed: u64) {
    println!("UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let (lake, mut table) = lake();
    append(&lake, &mut table, 2);
    lake.metasync("run", &[]).expect(0);
    let (looks, root) = (AtomicU64::new(0), lake.root().to_owned());
    let writer_lake = &lake;
    std::thread::scope(|scope| {
        let (stop_reader, reads) = channel::<()>();
        let goes_on = |stopped: &Receiver<()>| stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout);
        let (looks, root) = (&looks, &root);
        let reader = scope.spawn(move || {
            while goes_on(&reads) {
                let at = tests::iceberg::pointer(&root.join("target.db"));
                let folder = root.join("target").join(TABLE);
                let url = format!("file:{}", folder.display());
                let path = PathBuf::from(at.strip_prefix("file:").unwrap());
                let found = catch_unwind(AssertUnwindSafe(|| read(&path, &url, &folder)));
                // A reader of a version that was replaced meanwhile, and expired at the source, loses its files there too.
                let is_current = tests::iceberg::pointer(&root.join("target.db")) == at;
                assert!(found.is_ok() || !is_current, "{at}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for run in 0..10 {
            let running = writer_lake.start();
            // While it goes on.
            for _ in 0..dice.random_range(0..4) {
                match dice.random_range(0..4) {
                    0 => {
                        let file = table.data(900);
                        let at = table.commit(&[file], true);
                        point(writer_lake, "events", &at);
                    }
                    1 => {
                        let (at, gone) = table.expire(1);
                        point(writer_lake, "events", &at);
                        gone.iter().for_each(|path| std::fs::remove_file(path).unwrap());
                    }
                    _ => append(writer_lake, &mut table, 2),
                }
            }
            if run % 2 == 1 {
                running.kill_after(Duration::from_millis(dice.random_range(1..600)));
                continue;
            }
            let ran = running.end();
            assert!(matches!(ran.code, 0 | 3), "run {run}: {}\n{}", ran.stdout, ran.stderr);
        }
        drop(stop_reader);
        reader.join().expect("every version that was read is whole");
    });
    assert!(looks.load(Ordering::Relaxed) > 10, "the reader looked");
    lake.metasync("run", &[]).expect(0);
    lake.metasync("run", &[]).expect(0);
    in_step(&lake);
}

#[test]
fn every_version_that_is_read_is_whole_while_the_source_is_written_to_and_runs_are_killed() {
    match std::env::var("UNDERSTUDY_TEST_SEED") {
        Ok(seed) => written_to_all_the_time(seed.parse().unwrap()),
        Err(_) => (0..2).for_each(written_to_all_the_time),
    }
}
