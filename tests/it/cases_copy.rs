//! Copying: what is equal stays, what differs arrives, what breaks on the way is caught.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use distcp::event::Outcome;
use distcp::store::memory::MemoryStore;
use distcp::store::{GetOptions, Store, StoreErrorKind};
use distcp::verify::Level;
use futures::StreamExt as _;
use manifest::Evidence;
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, hurried, local};
use tests::odd::OddStore;
use tests::trees::{age, boundary_sizes, contents, set_mtime, snapshot};

const MIB: u64 = 1 << 20;

fn faulty(inner: &MemoryStore, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(inner.clone()), FaultPlan { rules, ..FaultPlan::default() }))
}

fn write(root: &Path, name: &str, body: impl AsRef<[u8]>) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, body).unwrap();
}

#[tokio::test]
async fn case_01_identical_local_trees_are_read_once_for_their_hashes_and_never_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    for root in [&a, &b] {
        for i in 0..20 {
            write(root, &format!("d{}/f{i}", i % 3), pattern(i * 77));
        }
        age(root);
    }
    let pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    let before = snapshot(&b);
    let first = pair.copied().await.summary;
    // Nothing is known of either side and there are no ETags: size alone is no proof (rule 13).
    assert_eq!((first.counts.equal, first.counts.copied, first.bytes.written), (20, 0, 0));
    assert!(first.bytes.read > 0);
    assert_eq!(snapshot(&b), before);
    let second = pair.copied().await.summary;
    assert_eq!((second.counts.equal, second.bytes.read, second.bytes.written), (20, 0, 0));
    assert_eq!(second.manifest, first.manifest);
}

#[tokio::test]
async fn case_02_only_the_time_differs_nothing_is_written_and_it_says_why() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    write(&a, "same", pattern(5000));
    write(&a, "other", pattern(10));
    age(&a);
    let pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    pair.copied().await;
    let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_650_000_000);
    set_mtime(&a.join("same"), later);
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.equal, report.counts.copied, report.bytes.written), (2, 0, 0));
    // Only the side that changed is read.
    assert_eq!(report.bytes.read, 5000);
    let said = pair.report_of("same");
    assert_eq!((said.outcome, said.reason.as_str()), (Outcome::Equal, "source changed"));
    assert_eq!(contents(&a), contents(&b));
    let third = pair.copied().await.summary;
    assert_eq!((third.bytes.read, third.counts.equal), (0, 2));
}

#[tokio::test]
async fn case_03_same_size_and_time_but_other_content_is_copied() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    write(&a, "f", pattern(3000));
    write(&b, "f", vec![7; 3000]);
    age(&a);
    age(&b);
    let pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    assert_eq!(contents(&a), contents(&b));
    // Again, now with a manifest: the change time gives it away.
    write(&a, "f", vec![8; 3000]);
    age(&a);
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    assert_eq!(contents(&a), contents(&b));

    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "f", vec![1; 100]).await;
    put(&target, "f", vec![2; 100]).await;
    let pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    assert_eq!(source.objects(), target.objects());
}

#[tokio::test]
async fn case_05_empty_objects_on_both_sides_are_equal() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for store in [&source, &target] {
        put(store, "empty", Bytes::new()).await;
    }
    let pair = Pair::new(Arc::new(source), Arc::new(target));
    assert_eq!(pair.copied().await.summary.counts.equal, 1);

    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    for root in [&a, &b] {
        write(root, "empty", "");
        age(root);
    }
    let mut pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    assert_eq!(pair.copied().await.summary.counts.equal, 1);
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    pair.options.hash = true;
    assert_eq!(pair.copied().await.summary.bytes.read, 0);
    assert_eq!(pair.rows().await[0].hash, Some(manifest::ContentHash::of(b"")));
}

#[tokio::test]
async fn case_21_one_unreadable_object_of_many_fails_by_name() {
    let source = MemoryStore::new();
    for i in 0..30 {
        put(&source, &format!("f{i:02}"), pattern(i * 10 + 1)).await;
    }
    let denied = Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Permission)).on("f07");
    let target = MemoryStore::new();
    let pair = Pair::new(faulty(&source, vec![denied]), Arc::new(target.clone()));
    let report = pair.ends_with(3).await;
    assert_eq!((report.summary.counts.copied, report.summary.counts.failed), (29, 1));
    assert_eq!(pair.ended(Outcome::Failed), ["f07"]);
    let error = &report.summary.errors[0];
    assert!(error.contains("f07") && error.contains("permission denied"), "{error}");
    let mut wanted = source.objects();
    wanted.remove(&"f07".into());
    assert_eq!(target.objects(), wanted);
    assert_eq!(report.summary.as_of, None, "the target does not show the source as of any time");
}

#[tokio::test]
async fn case_25_a_file_that_grows_while_it_is_read_is_never_a_mix() {
    for size in [100_000, 9 * MIB + 5] {
        let scratch = tempfile::tempdir().unwrap();
        let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
        write(&a, "log", pattern(size));
        write(&a, "quiet", "quiet");
        age(&a);
        let path = a.join("log");
        let grows = async move {
            use std::io::Write as _;
            let mut file = std::fs::File::options().append(true).open(&path).unwrap();
            file.write_all(b"one line more").unwrap();
        };
        let source = OddStore::new(Arc::new(local(&a))).meddling("log", grows).shared();
        let pair = Pair::new(source, Arc::new(local(&b)));
        let report = pair.copy().await;
        assert_eq!(std::fs::read(b.join("quiet")).unwrap(), b"quiet");
        match report.summary.exit_code.code() {
            0 => {
                let (held, grown) = (std::fs::read(b.join("log")).unwrap(), std::fs::read(a.join("log")).unwrap());
                assert!(held == pattern(size) || held == grown, "a mix of two versions");
            }
            3 => {
                assert_eq!(pair.ended(Outcome::Failed), ["log"]);
                assert!(!b.join("log").exists(), "a mix of two versions");
            }
            other => panic!("{other}: {report:?}"),
        }
        pair.copied().await;
        assert_eq!(contents(&a), contents(&b));
    }
}

#[tokio::test]
async fn case_26_an_object_that_is_rewritten_after_it_was_listed_arrives_as_it_is_now() {
    for (size, now) in [(100, 90), (100, 100), (9 * MIB, 9 * MIB), (9 * MIB, 12)] {
        let (inner, target) = (MemoryStore::new(), MemoryStore::new());
        put(&inner, "k", pattern(size)).await;
        put(&inner, "large", pattern(6 * MIB)).await;
        put(&inner, "a", pattern(6 * MIB)).await;
        let rewritten = inner.clone();
        let body = vec![9; now as usize];
        // While another object is read: k is listed already, and not read yet.
        let meddle = async move { drop(put(&rewritten, "k", body).await) };
        let source = OddStore::new(Arc::new(inner.clone())).meddling("large", meddle).shared();
        let pair = Pair::new(source, Arc::new(target.clone()));
        pair.copy().await;
        let report = pair.copied().await;
        assert_eq!(report.summary.counts.failed, 0);
        assert_eq!(target.objects(), inner.objects(), "{size} -> {now}");
        assert!(target.uploads().is_empty());
    }
}

#[tokio::test]
async fn case_26_a_version_that_is_not_the_listed_one_is_planned_again_in_the_same_run() {
    let (inner, target) = (MemoryStore::new(), MemoryStore::new());
    for (key, size) in [("k", 100), ("large", 9 * MIB)] {
        put(&inner, key, pattern(size)).await;
    }
    // The listing is over, nothing is read yet: the first read finds other versions.
    let gone = Rule::first(Method::Get, Fault::Fail(StoreErrorKind::Precondition)).on("k");
    let gone_large = Rule::first(Method::Get, Fault::Fail(StoreErrorKind::Precondition)).on("large");
    let pair = Pair::new(faulty(&inner, vec![gone, gone_large]), Arc::new(target.clone()));
    let report = pair.copied().await;
    assert_eq!((report.summary.counts.copied, report.summary.counts.failed), (2, 0));
    assert_eq!(target.objects(), inner.objects());
}

#[tokio::test]
async fn an_object_that_vanishes_after_it_was_listed_is_counted_and_no_failure() {
    let (inner, target) = (MemoryStore::new(), MemoryStore::new());
    put(&inner, "a", pattern(10)).await;
    put(&inner, "b", pattern(10)).await;
    let gone = |method| Rule::every(method, Fault::Fail(StoreErrorKind::NotFound)).on("a");
    let pair = Pair::new(faulty(&inner, vec![gone(Method::Get), gone(Method::Head)]), Arc::new(target.clone()));
    let report = pair.copied().await;
    assert_eq!((report.summary.vanished, report.summary.counts.skipped, report.summary.counts.copied), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn case_27_bytes_damaged_between_read_and_write_are_caught_and_sent_again() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "small", pattern(1000)).await;
    put(&source, "large", pattern(13 * MIB + 17)).await;
    let flips = vec![
        Rule::first(Method::Put, Fault::FlipByte).on("small").times(2),
        Rule::first(Method::PutPart, Fault::FlipByte).on("large").times(2),
    ];
    let target_store = faulty(&target, flips);
    let mut pair = Pair::new(Arc::new(source.clone()), target_store.clone());
    pair.retries = true;
    let report = hurried(pair.copied()).await;
    assert_eq!(target.objects(), source.objects());
    assert_eq!(target_store.faults(), 4);
    assert!(report.summary.retries >= 4, "{}", report.summary.retries);
}

#[tokio::test]
async fn case_27_bytes_damaged_on_the_way_in_are_read_again() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "small", pattern(1000)).await;
    let reader = faulty(&source, vec![Rule::first(Method::Get, Fault::FlipByte).times(2)]);
    let pair = Pair::new(reader.clone(), Arc::new(target.clone()));
    pair.copied().await;
    assert_eq!(target.objects(), source.objects());
    assert_eq!(reader.faults(), 2);
}

#[tokio::test]
async fn case_28_sizes_around_each_limit_arrive_with_the_plain_blake3() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let mut sizes = boundary_sizes(MIB);
    // Parts are of 8 MiB here.
    sizes.extend([8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 16 * MIB + 17]);
    sizes.sort_unstable();
    sizes.dedup();
    for size in &sizes {
        put(&source, &format!("{size:09}"), pattern(*size)).await;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("t");
    for store in [Arc::new(target.clone()) as Arc<dyn Store>, Arc::new(local(&folder))] {
        let pair = Pair::new(Arc::new(source.clone()), store.clone());
        pair.copied().await;
        let rows = pair.rows().await;
        assert_eq!(rows.len(), sizes.len());
        for (row, size) in rows.iter().zip(&sizes) {
            let plain = blake3::hash(&pattern(*size)).to_hex().to_string();
            assert_eq!(row.hash.map(|hash| hash.to_string()), Some(plain), "{size} bytes");
            assert_eq!((row.size_bytes(), row.evidence), (*size, Evidence::Read));
            let chunks = row.chunks.as_ref().map_or(1, |chunks| chunks.hashes.len() as u64);
            assert_eq!(chunks, size.div_ceil(MIB).max(1), "{size} bytes");
            let body = store.get(&row.key, GetOptions::default()).await.unwrap().body;
            let read: Vec<Bytes> = body.map(|block| block.unwrap()).collect().await;
            assert!(read.concat() == pattern(*size), "{size} bytes");
        }
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
        assert_eq!(pair.copied().await.summary.bytes.read, 0);
    }
    assert!(target.uploads().is_empty());
}

#[tokio::test]
async fn case_37_a_listed_name_that_nothing_stands_under_is_a_failure_and_no_vanished_object() {
    let (inner, listed, target) = (MemoryStore::new(), MemoryStore::new(), MemoryStore::new());
    put(&inner, "bell\u{7}", b"rings".to_vec()).await;
    put(&listed, "bell\u{fffd}", b"rings".to_vec()).await;
    let source = OddStore::new(Arc::new(inner)).listed_by(Arc::new(listed)).shared();
    let pair = Pair::new(source, Arc::new(target));
    let report = pair.ends_with(3).await;
    assert_eq!((report.summary.counts.failed, report.summary.vanished), (1, 0));
    assert!(report.summary.errors[0].contains("real name"), "{:?}", report.summary.errors);
}
