//! The test support itself: faults happen as planned, trees are as random and as repeatable as they say.

use std::sync::Arc;
use std::time::Duration;

use distcp::store::memory::MemoryStore;
use distcp::store::{GetOptions, ListOptions, PutOptions, Store, StoreErrorKind};
use futures::TryStreamExt as _;
use tests::contract::{list_all, pattern, put, read, store_contract};
use tests::fault::{Chances, CrashSwitch, Fault, FaultPlan, FaultStore, Method, Rule};
use tests::trees::{RandomTree, TreeShape, boundary_sizes, snapshot};

fn aimed(rules: Vec<Rule>) -> FaultStore {
    FaultStore::new(Arc::new(MemoryStore::new()), FaultPlan { rules, ..FaultPlan::default() })
}

#[tokio::test]
async fn a_fault_store_without_faults_keeps_the_store_contract() {
    store_contract(|| async { Arc::new(FaultStore::counting(Arc::new(MemoryStore::new()))) as Arc<dyn Store> }).await;
}

#[tokio::test]
async fn aimed_faults_hit_what_they_are_aimed_at() {
    let store = aimed(vec![
        Rule::first(Method::Put, Fault::LostAnswer).on("lost"),
        Rule::first(Method::Get, Fault::Truncate).on("cut").from_call(2),
        Rule::first(Method::Get, Fault::FlipByte).on("flip"),
        Rule::first(Method::Put, Fault::FlipByte).on("badly"),
        Rule::every(Method::Head, Fault::Fail(StoreErrorKind::Timeout)),
        Rule::first(Method::Delete, Fault::Fail(StoreErrorKind::Server)),
    ]);
    let lost = store.put(&"lost".into(), "kept".into(), &PutOptions::default()).await.unwrap_err();
    assert_eq!(lost.kind, StoreErrorKind::Connection);
    assert_eq!(read(&store, &"lost".into(), GetOptions::default()).await.unwrap(), "kept");

    put(&store, "cut", pattern(1000)).await;
    assert_eq!(read(&store, &"cut".into(), GetOptions::default()).await.unwrap(), pattern(1000));
    let mut half = 0;
    let mut body = store.get(&"cut".into(), GetOptions::default()).await.unwrap().body;
    let error = loop {
        match body.try_next().await {
            Ok(Some(block)) => half += block.len(),
            Ok(None) => panic!("the body ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert_eq!((half, error.kind), (500, StoreErrorKind::Connection));

    put(&store, "flip", pattern(1000)).await;
    let got = read(&store, &"flip".into(), GetOptions::default()).await.unwrap();
    let different = got.iter().zip(pattern(1000)).filter(|(a, b)| **a != *b).count();
    assert_eq!((got.len(), different), (1000, 1));
    // What is damaged on its way into a store is refused by its checksum.
    let body = pattern(1000).into();
    let refused = store.put(&"badly".into(), body, &PutOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Corrupt);
    put(&store, "badly", pattern(1000)).await;
    assert_eq!(store.head(&"cut".into()).await.unwrap_err().kind, StoreErrorKind::Timeout);
    let answers = store.delete(&["cut".into(), "flip".into()]).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Server)));
    assert_eq!(list_all(&store, ListOptions::default()).await.len(), 4);
    assert_eq!((store.calls(Method::Get), store.calls_on(Method::Get, "cut"), store.calls(Method::Head)), (4, 2, 1));
}

#[tokio::test]
async fn listing_faults_are_seen_as_they_are() {
    for (fault, expected) in [(Fault::RepeatBatch, 20), (Fault::ReverseBatch, 10)] {
        let store = aimed(vec![Rule::first(Method::List, fault)]);
        for i in 0..10 {
            put(&store, &format!("{i}"), "x").await;
        }
        let batches: Vec<_> = store.list(ListOptions::default()).try_collect().await.unwrap();
        let listed: Vec<_> = batches.concat();
        assert_eq!(listed.len(), expected);
        assert!(!listed.is_sorted_by(|a, b| a.key < b.key), "{fault:?}");
    }
    let store = aimed(vec![Rule::first(Method::List, Fault::Fail(StoreErrorKind::Server)).from_call(3)]);
    for i in 0..3000 {
        put(&store, &format!("{i}"), "x").await;
    }
    let mut batches = store.list(ListOptions::default());
    assert_eq!(batches.try_next().await.unwrap().unwrap().len(), 1000);
    assert_eq!(batches.try_next().await.unwrap().unwrap().len(), 1000);
    assert_eq!(batches.try_next().await.unwrap_err().kind, StoreErrorKind::Server);
    assert!(batches.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn chance_is_repeatable_and_bounded() {
    let run = |seed| async move {
        let chances = Chances {
            delay: 0.1,
            max_delay: Duration::from_secs(60),
            reset: 0.1,
            storm: 0.02,
            lost_answer: 0.1,
            flip_write: 0.1,
            ..Chances::default()
        };
        let plan = FaultPlan { seed, chances, max_faults: Some(80), ..FaultPlan::default() };
        let memory = MemoryStore::new();
        let store = FaultStore::new(Arc::new(memory.clone()), plan);
        let mut answers = Vec::new();
        for i in 0..400 {
            let key = format!("{}", i % 20);
            let body = pattern(i);
            answers
                .push(store.put(&key.as_str().into(), body.into(), &PutOptions::default()).await.map_err(|e| e.kind));
        }
        assert_eq!(store.faults(), 80);
        assert!(answers[300..].iter().all(Result::is_ok), "faults end: {store:?}");
        (answers, memory.objects())
    };
    let (first, again, other) = (run(1).await, run(1).await, run(2).await);
    assert_eq!(first, again);
    assert_ne!(first.0, other.0);
}

#[tokio::test]
async fn a_crash_keeps_the_last_change_and_stops_everything() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let crash = CrashSwitch::after(3);
    let wrap =
        |store: &MemoryStore| FaultStore::with_crash(Arc::new(store.clone()), FaultPlan::default(), Arc::clone(&crash));
    let (a, b) = (wrap(&source), wrap(&target));
    put(&a, "1", "x").await;
    put(&b, "2", "x").await;
    assert!(!crash.crashed());
    let third = b.put(&"3".into(), "x".into(), &PutOptions::default()).await.unwrap_err();
    assert_eq!(third.kind, StoreErrorKind::Cancelled);
    assert_eq!(target.objects().len(), 2, "the third change was made");
    assert!(crash.crashed());
    assert_eq!(a.head(&"1".into()).await.unwrap_err().kind, StoreErrorKind::Cancelled);
    assert_eq!(
        a.put(&"4".into(), "x".into(), &PutOptions::default()).await.unwrap_err().kind,
        StoreErrorKind::Cancelled
    );
    assert!(b.delete(&["2".into()]).await[0].is_err());
    assert!(a.list(ListOptions::default()).try_next().await.is_err());
    assert_eq!((source.objects().len(), target.objects().len(), crash.mutations()), (1, 2, 3));
}

#[test]
fn random_trees_are_repeatable_and_changes_are_what_they_say() {
    let scratch = tempfile::tempdir().unwrap();
    let shape = TreeShape { files: 40, raw_names: true, sizes: boundary_sizes(4096), ..TreeShape::default() };
    let build = |name: &str, seed| RandomTree::build(scratch.path().join(name), seed, shape.clone());
    let (mut a, mut b, c) = (build("a", 7), build("b", 7), build("c", 8));
    assert_eq!(snapshot(a.root()), snapshot(b.root()));
    assert_ne!(snapshot(a.root()), snapshot(c.root()));
    assert_eq!(a.keys().len(), 40);
    let before = snapshot(a.root());
    assert_eq!(a.mutate(60), b.mutate(60));
    assert_eq!(snapshot(a.root()), snapshot(b.root()));
    assert_ne!(snapshot(a.root()), before);
}
