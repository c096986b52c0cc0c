//! Rules on evidence and on plans that are applied later (10, 13, 14), through whole runs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use distcp::event::Outcome;
use distcp::store::Store;
use distcp::store::memory::MemoryStore;
use distcp::verify::Level;
use manifest::{ContentHash, Evidence};
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, local};
use tests::trees::set_mtime;

fn pair(source: &MemoryStore, target: &MemoryStore) -> Pair {
    Pair::new(Arc::new(source.clone()), Arc::new(target.clone()))
}

async fn remove(store: &MemoryStore, key: &str) {
    store.delete(&[key.into()]).await.into_iter().for_each(|answer| answer.unwrap());
}

/// Equal objects that nobody read: rows by ETag alone.
async fn unproven() -> (MemoryStore, MemoryStore, Pair) {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for key in ["a", "b"] {
        put(&source, key, key.repeat(1000)).await;
        put(&target, key, key.repeat(1000)).await;
    }
    let pair = pair(&source, &target);
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.bytes.read), (2, 0));
    let rows = pair.rows().await;
    assert!(rows.iter().all(|row| row.hash.is_none() && row.evidence == Evidence::Etag), "{rows:#?}");
    (source, target, pair)
}

#[tokio::test]
async fn rule_10_what_only_an_etag_proves_is_unproven_until_it_is_read() {
    let (_source, _target, mut pair) = unproven().await;
    let lines = vec!["? a".to_owned(), "? b".to_owned()];
    assert_eq!(pair.verify(Level::Manifest).await, (lines.clone(), 3), "never 0");
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0), "reading settles it");
    assert_eq!(pair.verify(Level::Manifest).await, (lines, 3), "verify keeps nothing");
    pair.copied().await;
    assert!(pair.rows().await.iter().all(|row| row.hash.is_none()), "an ordinary run reads nothing for it");
    pair.options.hash = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied, report.bytes.read), (2, 0, 4000));
    let rows = pair.rows().await;
    assert!(rows.iter().all(|row| row.hash.is_some() && row.evidence == Evidence::Read), "{rows:#?}");
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));
    assert_eq!(pair.copied().await.summary.bytes.read, 0, "once");
}

/// A key whose content nobody has read is no donor: its copy would have no hash, and nothing to check it by.
#[tokio::test]
async fn rule_10_a_renamed_key_without_a_hash_arrives_with_one() {
    let (source, target, mut pair) = unproven().await;
    put(&source, "c", "a".repeat(1000)).await;
    remove(&source, "a").await;
    pair.options.delete = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (1, 1));
    assert_eq!(target.objects(), source.objects());
    let row = pair.rows().await.into_iter().find(|row| row.key == "c".into()).unwrap();
    assert_eq!(row.hash, Some(ContentHash::of("a".repeat(1000).as_bytes())));
    assert_eq!(pair.verify(Level::Manifest).await, (vec!["? b".into()], 3));
}

/// A hash that was read once goes along with server-side copies, and is named as inherited; content that rots behind an
/// unchanged fingerprint is found by reading.
#[tokio::test]
async fn rule_10_a_server_side_copy_inherits_the_hash_and_says_so() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "old", pattern(5000)).await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    pair.copied().await;
    put(&source, "new", pattern(5000)).await;
    remove(&source, "old").await;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.bytes.read, report.bytes.server_side), (1, 0, 5000));
    let rows = pair.rows().await;
    assert_eq!((rows.len(), rows[0].evidence), (1, Evidence::Inherited));
    assert_eq!(rows[0].hash, Some(ContentHash::of(&pattern(5000))));
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
}

fn write(path: &Path, body: &[u8], time: SystemTime) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, body).unwrap();
    set_mtime(path, time);
}

/// A file that was young when it was listed may have changed in the same tick: the next run reads it again.
#[tokio::test]
async fn rule_13_a_file_that_was_young_when_listed_is_read_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (young, old) = (scratch.path().join("a/young"), scratch.path().join("a/old"));
    // An hour ahead stays young for the whole test.
    let soon = SystemTime::now() + Duration::from_secs(3600);
    write(&young, b"first", soon);
    write(&old, b"older", SystemTime::now() - Duration::from_secs(3600));
    let source = Arc::new(FaultStore::counting(Arc::new(local(&scratch.path().join("a")))));
    let target = MemoryStore::new();
    let pair = Pair::new(source.clone(), Arc::new(target.clone()));
    pair.copied().await;
    source.reset_counts();
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied), (2, 0));
    assert_eq!((source.calls_on(Method::Get, "young"), source.calls_on(Method::Get, "old")), (1, 0));
    // Same size, same time, other bytes.
    std::fs::write(&young, b"other").unwrap();
    set_mtime(&young, soon);
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    assert_eq!(target.objects()[&"young".into()], "other");
}

/// Neither side has a hash, and ETags cannot be compared: both are read, however equal size and time are.
#[tokio::test]
async fn rule_13_without_hashes_and_comparable_etags_both_sides_are_read() {
    let scratch = tempfile::tempdir().unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for (key, body) in [("same", b"equal"), ("other", b"one--")] {
        write(&scratch.path().join("a").join(key), body, long_ago);
    }
    let target = MemoryStore::new();
    put(&target, "same", "equal").await;
    put(&target, "other", "two--").await;
    let pair = Pair::new(Arc::new(local(&scratch.path().join("a"))), Arc::new(target.clone()));
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied), (1, 1));
    assert_eq!(report.bytes.read, 20, "two files and two objects");
    assert_eq!(target.objects()[&"other".into()], "one--");
    assert!(pair.rows().await.iter().all(|row| row.hash.is_some()));
}

/// A plan kept in a file of the test's own.
async fn kept_plan(pair: &Pair, folder: &Path) -> std::path::PathBuf {
    let plan = pair.plan().await.unwrap();
    let path = folder.join("plan");
    std::fs::copy(plan.path(), &path).unwrap();
    path
}

#[tokio::test]
async fn rule_14_apply_does_what_the_plan_says() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for key in ["a", "b"] {
        put(&source, key, key).await;
    }
    put(&target, "extra", "x").await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    let plan = kept_plan(&pair, scratch.path()).await;
    // Not listed by the plan: no part of it.
    put(&source, "later", "l").await;
    let report = pair.apply(&plan).await;
    assert_eq!(report.summary.exit_code.code(), 0, "{report:#?}");
    assert_eq!((report.summary.counts.copied, report.summary.counts.deleted), (2, 1));
    assert_eq!(target.objects().into_keys().collect::<Vec<_>>(), ["a".into(), "b".into()]);
    // A plan is applied once: its own run moved the target on.
    assert_eq!(pair.apply(&plan).await.summary.exit_code.code(), 5);
}

#[tokio::test]
async fn rule_14_under_apply_an_object_that_changed_fails_and_nothing_is_deleted() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for key in ["a", "changed", "gone"] {
        put(&source, key, key).await;
    }
    put(&source, "large", pattern(20 << 20)).await;
    put(&target, "extra", "x").await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    let plan = kept_plan(&pair, scratch.path()).await;
    put(&source, "changed", "CHANGED").await;
    put(&source, "large", pattern(21 << 20)).await;
    remove(&source, "gone").await;
    let report = pair.apply(&plan).await;
    assert_eq!(report.summary.exit_code.code(), 3, "{report:#?}");
    assert_eq!(pair.ended(Outcome::Failed), ["changed", "gone", "large"], "not planned again");
    assert_eq!(report.summary.counts.deleted, 0);
    let keys: Vec<_> = target.objects().into_keys().collect();
    assert_eq!(keys, ["a".into(), "extra".into()]);
    assert!(target.uploads().is_empty());
}

#[tokio::test]
async fn rule_14_apply_on_a_target_that_moved_on_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    for moved in ["another run", "new", "changed", "removed"] {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        for key in ["a", "b", "c"] {
            put(&source, key, key).await;
        }
        let mut pair = pair(&source, &target);
        pair.options.delete = true;
        pair.copied().await;
        for key in ["a", "b"] {
            put(&source, key, "a new version").await;
        }
        put(&source, "new", "new").await;
        let plan = kept_plan(&pair, scratch.path()).await;
        match moved {
            "another run" => drop(pair.copied().await),
            "new" => drop(put(&target, "new", "somebody's").await),
            "changed" => drop(put(&target, "a", "somebody's").await),
            _ => remove(&target, "b").await,
        }
        let (objects, committed) = (target.objects(), pair.rows().await);
        let report = pair.apply(&plan).await;
        assert_eq!(report.summary.exit_code.code(), 5, "{moved}: {report:#?}");
        assert!(report.failure.unwrap().message.contains("moved on"));
        assert_eq!((target.objects(), pair.rows().await), (objects, committed), "{moved}: nothing was done");
    }
}

/// Content that rots behind an unchanged fingerprint: an ordinary run takes the manifest's word, one that is asked to start
/// afresh reads all that the target holds and mends it.
#[tokio::test]
async fn rule_13_what_is_read_afresh_is_mended_whatever_the_manifest_says() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for key in ["a", "b"] {
        put(&source, key, pattern(5000)).await;
    }
    let plan = FaultPlan { rules: vec![Rule::first(Method::Get, Fault::FlipByte).on("b")], ..FaultPlan::default() };
    let rotten = Arc::new(FaultStore::new(Arc::new(target.clone()), plan));
    let mut pair = Pair::new(Arc::new(source.clone()), rotten.clone());
    pair.copied().await;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied, rotten.calls(Method::Get)), (2, 0, 0), "not looked at");
    pair.options.afresh = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied), (1, 1));
    assert_eq!((rotten.calls_on(Method::Get, "a"), rotten.faults()), (1, 1));
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied), (2, 0), "it was mended");
    pair.options.afresh = false;
    assert_eq!(pair.copied().await.summary.bytes.read, 0, "what was read is known");
    assert!(pair.rows().await.iter().all(|row| row.hash.is_some()));
}

/// The same of single keys, for programs that know what is rotten: the others are not read.
#[tokio::test]
async fn rule_13_a_doubted_key_is_read_and_mended_and_no_other() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for key in ["a", "b", "c"] {
        put(&source, key, pattern(5000)).await;
    }
    let plan = FaultPlan { rules: vec![Rule::first(Method::Get, Fault::FlipByte).on("b")], ..FaultPlan::default() };
    let rotten = Arc::new(FaultStore::new(Arc::new(target.clone()), plan));
    let pair = Pair::new(Arc::new(source.clone()), rotten.clone());
    pair.copied().await;
    let mut job = pair.job();
    job.doubted = Arc::new(["b".into(), "c".into(), "nowhere".into()].into());
    let report = distcp::run::copy(&job).await.summary;
    assert_eq!((report.exit_code.code(), report.counts.equal, report.counts.copied), (0, 2, 1), "{report:#?}");
    let reads = ["a", "b", "c"].map(|key| rotten.calls_on(Method::Get, key));
    assert_eq!((reads, rotten.faults()), ([0, 1, 1], 1), "what is not doubted is not read");
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.equal, again.counts.copied, again.bytes.read), (3, 0, 0), "and what was read is known");
}
