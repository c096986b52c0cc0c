//! The spine over stores in memory and on disk: copy, copy again, change, mirror, verify.

use std::sync::Arc;

use distcp::event::Outcome;
use distcp::store::Store;
use distcp::store::local::{LocalOptions, LocalStore, SyncMode};
use distcp::store::memory::MemoryStore;
use distcp::verify::Level;
use tests::contract::{list_all, pattern, put};
use tests::fault::{FaultStore, Method};
use tests::jobs::Pair;
use tests::trees::{RandomTree, TreeShape, boundary_sizes, contents, snapshot};

const MIB: u64 = 1 << 20;

fn local(root: &std::path::Path) -> Arc<dyn Store> {
    let options = LocalOptions { create_root: true, sync: SyncMode::Never, ..LocalOptions::default() };
    Arc::new(LocalStore::open(root, options).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn case_01_identical_trees_are_listed_and_nothing_else() {
    let (source, target) = (Arc::new(FaultStore::counting(Arc::new(MemoryStore::new()))), MemoryStore::new());
    let target = Arc::new(FaultStore::counting(Arc::new(target)));
    for i in 0..50u64 {
        put(source.as_ref(), &format!("d{}/f{i}", i % 5), pattern(i * 100)).await;
    }
    let pair = Pair::new(source.clone(), target.clone());
    let first = pair.copied().await;
    assert_eq!((first.summary.counts.copied, first.summary.counts.listed), (50, 50));
    source.reset_counts();
    target.reset_counts();
    let second = pair.copied().await;
    assert_eq!((second.summary.counts.equal, second.summary.bytes.read, second.summary.bytes.written), (50, 0, 0));
    for store in [&source, &target] {
        for method in [Method::Get, Method::Head, Method::Put, Method::Copy, Method::Delete] {
            assert_eq!(store.calls(method), 0, "{method:?}");
        }
        // One batch, and the end.
        assert_eq!(store.calls(Method::List), 2);
    }
    assert_eq!(second.summary.manifest, first.summary.manifest, "an unchanged tree is the same manifest");
    assert!(second.summary.as_of > first.summary.as_of);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_an_exact_mirror_of_a_random_tree_through_changes_and_large_objects() {
    let folder = tempfile::tempdir().unwrap();
    let mut sizes = boundary_sizes(MIB);
    sizes.push(13 * MIB + 17);
    let shape = TreeShape { files: 80, sizes, ..TreeShape::default() };
    let mut tree = RandomTree::build(folder.path().join("source"), 7, shape);
    let target = folder.path().join("target");
    let mut pair = Pair::new(local(tree.root()), local(&target));
    pair.options.delete = true;
    pair.options.max_deletes = Some(distcp::options::Cap::Percent(100.0));
    pair.copied().await;
    assert_eq!(snapshot(tree.root()), snapshot(&target));
    for round in 0..6 {
        tree.mutate(20);
        pair.copied().await;
        assert_eq!(contents(tree.root()), contents(&target), "round {round}");
        let again = pair.copied().await;
        assert_eq!((again.summary.counts.copied, again.summary.counts.deleted, again.summary.bytes.read), (0, 0, 0));
        assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_08_extras_are_kept_without_delete_and_counted() {
    let (source, target) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    put(source.as_ref(), "a", pattern(10)).await;
    put(target.as_ref(), "extra", pattern(5)).await;
    let mut pair = Pair::new(source, target.clone());
    let report = pair.copied().await;
    assert_eq!((report.summary.counts.skipped, report.summary.counts.copied), (1, 1));
    assert_eq!(pair.ended(Outcome::Skipped), ["extra"]);
    pair.options.delete = true;
    let report = pair.copied().await;
    assert_eq!(report.summary.counts.deleted, 1);
    assert_eq!(list_all(target.as_ref(), Default::default()).await.len(), 1);
}
