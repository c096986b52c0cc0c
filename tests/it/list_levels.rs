//! A listing by many listers of a store that tells levels: every key once, sooner where pages take their time, bounded.

use std::sync::Arc;
use std::time::Duration;

use distcp::list::cover::Cover;
use distcp::list::levels;
use distcp::store::azure::{AzureConfig, AzureStore};
use distcp::store::memory::MemoryStore;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use manifest::{Listed, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::contract::put;
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::odd::OddStore;
use tests::services;
use tokio::time::Instant;

/// What a page takes on the slow store.
const PAGE_TIME: Duration = Duration::from_millis(50);
/// Keys on a page of it.
const PAGE_KEYS: usize = 100;

async fn filled(keys: impl IntoIterator<Item = String>) -> MemoryStore {
    let store = MemoryStore::new();
    for key in keys {
        put(&store, &key, b"x".to_vec()).await;
    }
    store
}

fn with(store: &MemoryStore, rules: Vec<Rule>) -> Arc<FaultStore> {
    let plan = FaultPlan { rules, batch_keys: Some(PAGE_KEYS), ..FaultPlan::default() };
    let store = OddStore::new(Arc::new(store.clone())).by_levels().shared();
    Arc::new(FaultStore::new(store, plan))
}

fn slow(store: &MemoryStore) -> Arc<FaultStore> {
    with(store, vec![Rule::every(Method::List, Fault::Delay(PAGE_TIME))])
}

async fn keys(pages: BoxStream<'static, distcp::store::Result<Vec<Listed>>>) -> Vec<ObjectKey> {
    let pages: Vec<Vec<Listed>> = pages.try_collect().await.unwrap();
    assert!(pages.iter().all(|page| !page.is_empty()));
    let mut keys: Vec<ObjectKey> = pages.into_iter().flatten().map(|listed| listed.key).collect();
    keys.sort();
    keys
}

/// How many times sooner many listers are done than one, after checking that they say the same.
async fn speedup(name: &str, store: &MemoryStore) -> f64 {
    let slow = slow(store);
    let since = Instant::now();
    let one = keys(slow.list(ListOptions::default())).await;
    let alone = since.elapsed();
    let since = Instant::now();
    let many = keys(levels::list(slow.clone(), ListOptions::default())).await;
    let together = since.elapsed();
    assert_eq!(one, many);
    println!("{name}: {} keys: {alone:?} by one, {together:?} by many", one.len());
    alone.as_secs_f64() / together.as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn trees_are_listed_three_times_sooner_at_50_ms_a_page() {
    let days = (0..365).flat_map(|day| (0..50).map(move |i| format!("t/dt={}/{i:05}_0", 20_260_101 + day)));
    assert!(speedup("days", &filled(days).await).await >= 3.0);
    let tables = (0..20).flat_map(|table| (0..1000).map(move |i| format!("warehouse/db/t{table}/part-{i:05}")));
    assert!(speedup("tables", &filled(tables).await).await >= 3.0);
    let small = (0..300).flat_map(|folder| (0..60).map(move |i| format!("logs/host-{folder:04}/f{i}")));
    assert!(speedup("small folders", &filled(small).await).await >= 3.0);
    // A level that is too long, or has no folders, is not divided: then it costs hardly more.
    let tiny = (0..4000).flat_map(|folder| (0..5).map(move |i| format!("logs/host-{folder:04}/f{i}")));
    assert!(speedup("tiny folders", &filled(tiny).await).await >= 0.9);
    let flat = filled((0..20_000).map(|i| format!("events/part-{i:08}.parquet"))).await;
    assert!(speedup("flat", &flat).await >= 0.9);
}

#[tokio::test(start_paused = true)]
async fn every_key_once_whatever_they_look_like() {
    let seed: u64 = std::env::var("UNDERSTUDY_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(11);
    println!("replay with UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for round in 0..60 {
        let words = ["a", "b", "part-", "z/", "日/", "é", "0", "7/", "99", "~", " ", "dt=2026-01-", "/"];
        let (amount, longest) = (dice.random_range(0..4000), dice.random_range(1..9));
        let mut keys_of = || {
            let pieces = dice.random_range(1..=longest);
            (0..pieces).map(|_| words[dice.random_range(0..words.len())]).collect::<String>()
        };
        let store = filled((0..amount).map(|_| keys_of()).collect::<Vec<_>>()).await;
        let slow = slow(&store);
        let all: Vec<ObjectKey> = store.objects().into_keys().collect();
        assert_eq!(keys(levels::list(slow.clone(), ListOptions::default())).await, all, "round {round}");
        let options = ListOptions { without: vec!["z".into(), "a/7".into()], ..ListOptions::default() };
        let one = keys(slow.list(options.clone())).await;
        assert_eq!(keys(levels::list(slow.clone(), options)).await, one, "round {round}");
        let folders: Vec<ObjectKey> = (0..dice.random_range(0..30))
            .filter_map(|_| {
                let key = all.get(dice.random_range(0..all.len().max(1)))?;
                let segments: Vec<&[u8]> = key.segments().take(dice.random_range(1..3)).collect();
                Some(ObjectKey::from(segments.join(&b'/')))
            })
            .filter(|folder: &ObjectKey| !folder.is_empty() && !folder.as_bytes().ends_with(b"/"))
            .collect();
        let inside = |key: &ObjectKey| folders.iter().any(|folder| key.is_within(folder));
        let options = ListOptions { cover: Cover::new(folders.clone()).map(Arc::new), ..ListOptions::default() };
        let mut listed = keys(levels::list(slow, options)).await;
        assert!(listed.is_sorted_by(|a, b| a < b), "a key twice in round {round}");
        listed.retain(inside);
        let held: Vec<ObjectKey> = all.into_iter().filter(inside).collect();
        assert_eq!(listed, held, "round {round}: {folders:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_is_not_entered() {
    let tables = (0..300).flat_map(|table| (0..200).map(move |i| format!("lake/ext/t{table:03}/part-{i:05}")));
    let deep = (0..20_000).map(|i| format!("lake/logs/{i:05}"));
    let store = filled(tables.chain(deep).chain(["lake/one.jar".to_owned()])).await;
    let slow = slow(&store);
    let folders = ["lake/ext/t007", "lake/ext/t100", "lake/ext/t299", "lake/one.jar"].map(ObjectKey::from);
    let options = ListOptions { cover: Cover::new(folders.clone()).map(Arc::new), ..ListOptions::default() };
    let mut listed = keys(levels::list(slow.clone(), options)).await;
    let calls = slow.calls(Method::List);
    listed.retain(|key| folders.iter().any(|folder| key.is_within(folder)));
    assert_eq!(listed.len(), 601);
    assert!(calls <= 60, "{calls} pages of 800");
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_lister_that_fails_ends_the_listing_with_its_error() {
    let days = (0..365).flat_map(|day| (0..50).map(move |i| format!("t/dt={}/{i:05}_0", 20_260_101 + day)));
    let store = filled(days).await;
    for call in [1, 2, 3, 5, 10, 30, 100] {
        let failing = Rule::every(Method::List, Fault::Fail(StoreErrorKind::Timeout)).from_call(call);
        let mut pages = levels::list(with(&store, vec![failing]), ListOptions::default());
        let error = loop {
            match pages.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a listing that failed on call {call} looks whole"),
            }
        };
        assert_eq!(error.kind, StoreErrorKind::Timeout);
    }
}

#[tokio::test]
async fn a_container_is_listed_the_same_by_levels() {
    let Some(azure) = services::azure() else { return };
    let container = azure.fresh_container("levels");
    let options = [("endpoint", azure.endpoint.clone()), ("account_key", azure.key.clone())];
    let options = options.map(|(name, value)| (name.to_owned(), value)).into();
    let config = AzureConfig {
        account: Some(azure.account.clone()),
        container,
        prefix: "root".into(),
        options,
        ..AzureConfig::default()
    };
    let store = Arc::new(AzureStore::open(config).unwrap());
    let names = (0..6).flat_map(|day| (0..500).map(move |i| format!("dt=0{day}/f{i:03}")));
    let odd = ["flat", "dt=0", "dt=00", "a//b", "a/", "\u{e9}/\u{65e5}/x y", "per%cent/q?", "dt=01/deep/er/f"];
    let all: Vec<String> = names.chain(odd.map(str::to_owned)).collect();
    let written: Vec<_> = futures::stream::iter(&all)
        .map(|key| async { store.put(&key.as_str().into(), "x".into(), &Default::default()).await })
        .buffer_unordered(32)
        .collect()
        .await;
    let mut expected: Vec<ObjectKey> = all.iter().map(|key| key.as_str().into()).collect();
    // What Azurite refuses to store is not there.
    let mut answers = written.into_iter();
    assert!(answers.all(|answer| answer.is_ok()), "all of them can be stored");
    expected.sort();
    // Pages of 2,000: the listing goes on to a second one, and is divided.
    assert_eq!(keys(levels::list(store.clone(), ListOptions::default())).await, expected);
    assert_eq!(keys(store.list(ListOptions::default())).await, expected);
}
