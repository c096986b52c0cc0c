//! Objects that the target holds already under another key: renamed, rotated, swapped, doubled (case 40, rules 11, 12).

use std::sync::Arc;

use bytes::Bytes;
use distcp::event::{Means, Outcome};
use distcp::options::Cap;
use distcp::store::memory::MemoryStore;
use distcp::store::{Store, StoreErrorKind};
use distcp::verify::Level;
use manifest::Evidence;
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, hurried, local};
use tests::trees::{age, contents, snapshot};

const MIB: u64 = 1 << 20;

fn faulty(inner: &MemoryStore, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(inner.clone()), FaultPlan { rules, ..FaultPlan::default() }))
}

/// Gives the object another key at the source.
async fn rename(store: &MemoryStore, from: &str, to: &str) {
    let body = store.objects().get(&from.into()).cloned().expect("it is there");
    put(store, to, body).await;
    remove(store, from).await;
}

async fn remove(store: &MemoryStore, key: &str) {
    store.delete(&[key.into()]).await.into_iter().for_each(|answer| answer.unwrap());
}

fn mirror(source: &MemoryStore, target: &MemoryStore) -> Pair {
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    pair.options.delete = true;
    pair.options.max_deletes = Some(Cap::Percent(100.0));
    pair
}

#[tokio::test]
async fn case_40_a_renamed_prefix_moves_no_bytes_between_object_stores() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for i in 0..40u64 {
        put(&source, &format!("old/p{}/f{i}", i % 4), pattern(1000 + i)).await;
    }
    let pair = mirror(&source, &target);
    pair.copied().await;
    for i in 0..40u64 {
        rename(&source, &format!("old/p{}/f{i}", i % 4), &format!("new/p{}/f{i}", i % 4)).await;
    }
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (40, 40));
    assert_eq!((report.bytes.read, report.bytes.written), (0, 0));
    assert!(report.bytes.server_side > 40_000);
    assert!(pair.reports().iter().all(|r| r.outcome == Outcome::Deleted || r.means == Means::ServerSide));
    assert_eq!(target.objects(), source.objects());
    let rows = pair.rows().await;
    assert!(rows.iter().all(|row| row.hash.is_some() && row.evidence == Evidence::Inherited));
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    assert_eq!(pair.copied().await.summary.counts.equal, 40);
}

#[tokio::test]
async fn case_40_a_renamed_folder_moves_no_bytes_between_local_trees() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    std::fs::create_dir_all(a.join("old/deep")).unwrap();
    for i in 0..20u64 {
        std::fs::write(a.join(format!("old/deep/f{i}")), pattern(1000 + i)).unwrap();
    }
    std::fs::write(a.join("old/large"), pattern(9 * MIB)).unwrap();
    age(&a);
    let mut pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    pair.options.delete = true;
    pair.copied().await;
    std::fs::rename(a.join("old"), a.join("new")).unwrap();
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (21, 21));
    assert_eq!((report.bytes.read, report.bytes.written), (0, 0), "{report:#?}");
    assert!(report.bytes.server_side > 9 * MIB);
    assert_eq!(snapshot(&a), snapshot(&b));
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    assert_eq!(pair.copied().await.summary.bytes.read, 0);
}

#[tokio::test]
async fn rule_11_a_multipart_etag_is_not_content_and_is_streamed() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    // Brought to the source by an upload in parts: its ETag has a part count.
    put(&source, "seed", pattern(9 * MIB)).await;
    let staged = MemoryStore::new();
    Pair::new(Arc::new(source.clone()), Arc::new(staged.clone())).copied().await;
    let info = staged.head(&"seed".into()).await.unwrap();
    assert_eq!(info.fingerprint.content_etag(), None, "{:?}", info.fingerprint.etag);
    let pair = mirror(&staged, &target);
    pair.copied().await;
    // The same bytes in the same way under another key: equal ETags, which prove nothing.
    rename(&source, "seed", "moved").await;
    Pair::new(Arc::new(source.clone()), Arc::new(staged.clone())).copied().await;
    remove(&staged, "seed").await;
    let report = pair.copied().await.summary;
    assert_eq!(report.counts.copied, 1);
    assert_eq!((report.bytes.server_side, report.bytes.read), (0, 9 * MIB));
}

#[tokio::test]
async fn rule_12_a_donor_that_changed_meanwhile_is_not_copied_from() {
    for gone in [false, true] {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        put(&source, "old", pattern(5000)).await;
        let mut pair = mirror(&source, &target);
        pair.options.delete = false;
        pair.copied().await;
        // Somebody else's hand on the target: same size, other bytes.
        match gone {
            true => remove(&target, "old").await,
            false => drop(put(&target, "old", vec![0; 5000]).await),
        }
        rename(&source, "old", "new").await;
        let report = pair.copied().await.summary;
        assert_eq!(report.bytes.server_side, 0, "{report:#?}");
        assert_eq!(target.objects().get(&"new".into()), Some(&pattern(5000)));
        assert_eq!(pair.report_of("new").means, Means::Streamed);
        let rows = pair.rows().await;
        let row = rows.iter().find(|row| row.key == "new".into()).unwrap();
        assert_eq!(row.evidence, Evidence::Read);
    }
}

#[tokio::test]
async fn rule_12_a_rotated_log_arrives_whole() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for round in 0..5u64 {
        for n in (1..4).rev() {
            if source.objects().contains_key(&format!("log.{n}").as_str().into()) {
                rename(&source, &format!("log.{n}"), &format!("log.{}", n + 1)).await;
            }
        }
        if round > 0 {
            rename(&source, "log", "log.1").await;
        }
        put(&source, "log", vec![round as u8; 3000]).await;
        let pair = mirror(&source, &target);
        // One job over all rounds.
        pair.copied().await;
        assert_eq!(target.objects(), source.objects(), "round {round}");
    }
    let pair = mirror(&source, &target);
    pair.copied().await;
    rename(&source, "log.1", "log.2").await;
    rename(&source, "log", "log.1").await;
    put(&source, "log", vec![99; 3000]).await;
    let report = pair.copied().await.summary;
    assert_eq!(target.objects(), source.objects());
    assert!(report.counts.copied >= 3);
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
}

#[tokio::test]
async fn rule_12_chains_and_cycles_end_with_the_right_content() {
    // After one run, every permutation of five contents over five keys, of both kinds of store.
    let keys = ["a", "b", "c", "d", "e"];
    let body = |n: usize| Bytes::from(vec![n as u8 + 1; 2000 + n]);
    let same_size = |n: usize| Bytes::from(vec![n as u8 + 1; 2000]);
    for make in [&body as &dyn Fn(usize) -> Bytes, &same_size] {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        let pair = mirror(&source, &target);
        let mut order: Vec<usize> = (0..5).collect();
        for step in 0..40usize {
            for (key, n) in keys.iter().zip(&order) {
                let now = source.objects().get(&(*key).into()).cloned();
                if now.as_ref() != Some(&make(*n)) {
                    put(&source, key, make(*n)).await;
                }
            }
            pair.copied().await;
            assert_eq!(target.objects(), source.objects(), "step {step}: {order:?}");
            let (i, j) = (step * 7 % 5, step * 3 % 4 + 1);
            order.swap(i, (i + j) % 5);
            if step % 3 == 0 {
                order.rotate_left(1);
            }
            if step % 5 == 0 {
                order[step % 5] = order[(step + 1) % 5];
            }
            if step % 11 == 0 {
                order = (0..5).rev().collect();
            }
        }
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    }
}

#[tokio::test]
async fn rule_12_local_cycles_end_with_the_right_content() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    std::fs::create_dir_all(&a).unwrap();
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        std::fs::write(a.join(name), vec![n as u8; 2000]).unwrap();
    }
    age(&a);
    let mut pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    pair.options.delete = true;
    pair.copied().await;
    let mv = |from: &str, to: &str| std::fs::rename(a.join(from), a.join(to)).unwrap();
    for names in [["a", "b", "x"], ["b", "c", "x"], ["c", "a", "y"]] {
        // Swap two, and let the third wander.
        let [one, two, temporary] = names;
        mv(one, temporary);
        mv(two, one);
        mv(temporary, two);
        pair.copied().await;
        assert_eq!(contents(&a), contents(&b), "{names:?}");
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    }
}

#[tokio::test]
async fn case_40_a_doubled_object_is_copied_inside_the_target() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "one", pattern(4000)).await;
    let pair = mirror(&source, &target);
    pair.copied().await;
    for key in ["two", "three", "a/four"] {
        put(&source, key, pattern(4000)).await;
    }
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.bytes.read, report.bytes.server_side), (3, 0, 12_000));
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test(start_paused = true)]
async fn case_48_a_server_side_copy_whose_answer_was_lost_is_done_once() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "old", pattern(4000)).await;
    let mut pair = mirror(&source, &target);
    pair.copied().await;
    rename(&source, "old", "new").await;
    pair.retries = true;
    let lost = Rule::first(Method::Copy, Fault::LostAnswer).times(2);
    pair.target = faulty(&target, vec![lost]);
    let report = hurried(pair.copied()).await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (1, 1));
    assert_eq!(report.bytes.read, 0);
    assert_eq!(target.objects(), source.objects());
    // Refused for good: the bytes go through us.
    rename(&source, "new", "newer").await;
    pair.target = faulty(&target, vec![Rule::every(Method::Copy, Fault::Fail(StoreErrorKind::Unsupported))]);
    let report = hurried(pair.copied()).await.summary;
    assert_eq!((report.counts.copied, report.bytes.read), (1, 4000));
    assert_eq!(target.objects(), source.objects());
}
