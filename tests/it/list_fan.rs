//! A listing by many listers: the same keys in the same order as by one, sooner where pages take their time, bounded.

use std::sync::Arc;
use std::time::Duration;

use distcp::list::cover::Cover;
use distcp::list::fan;
use distcp::store::memory::MemoryStore;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use manifest::{Listed, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::contract::put;
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
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

fn slow(store: &MemoryStore) -> Arc<FaultStore> {
    let rules = vec![Rule::every(Method::List, Fault::Delay(PAGE_TIME))];
    let plan = FaultPlan { rules, batch_keys: Some(PAGE_KEYS), ..FaultPlan::default() };
    Arc::new(FaultStore::new(Arc::new(store.clone()), plan))
}

async fn keys(pages: BoxStream<'static, distcp::store::Result<Vec<Listed>>>) -> Vec<ObjectKey> {
    let pages: Vec<Vec<Listed>> = pages.try_collect().await.unwrap();
    assert!(pages.iter().all(|page| !page.is_empty()));
    pages.into_iter().flatten().map(|listed| listed.key).collect()
}

/// How many times sooner many listers are done than one, after checking that they say the same.
async fn speedup(store: &MemoryStore) -> f64 {
    let slow = slow(store);
    let since = Instant::now();
    let one = keys(slow.list(ListOptions::default())).await;
    let alone = since.elapsed();
    let since = Instant::now();
    let many = keys(fan::list(slow.clone(), ListOptions::default())).await;
    let together = since.elapsed();
    assert_eq!(one, many);
    println!("{} keys: {alone:?} by one, {together:?} by many", one.len());
    alone.as_secs_f64() / together.as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn flat_prefixes_are_listed_three_times_sooner_at_50_ms_a_page() {
    let parts = filled((0..20_000).map(|i| format!("events/part-{i:08}.parquet"))).await;
    assert!(speedup(&parts).await >= 3.0);
    let hex = filled((0..20_000u64).map(|i| format!("{:016x}.orc", i.wrapping_mul(0x9E37_79B9_7F4A_7C15)))).await;
    assert!(speedup(&hex).await >= 3.0);
    let days = (0..365).flat_map(|day| (0..50).map(move |i| format!("t/dt={}/{i:05}_0", 20_260_101 + day)));
    assert!(speedup(&filled(days).await).await >= 3.0);
}

#[tokio::test(start_paused = true)]
async fn with_a_cover_many_folders_side_by_side_are_listed_as_soon_as_without() {
    // Ten pages each; and a large one before many small ones.
    let even = || (0..100).flat_map(|table| (0..500).map(move |i| format!("db/t{table:03}/part-{i:05}")));
    let uneven = || {
        let large = (0..20_000).map(|i| format!("db/a/part-{i:05}"));
        large.chain((0..100).flat_map(|table| (0..20).map(move |i| format!("db/t{table:03}/part-{i:05}"))))
    };
    for (name, keys_of) in [("even", even().collect::<Vec<_>>()), ("uneven", uneven().collect())] {
        let folders: Vec<ObjectKey> =
            keys_of.iter().map(|key| ObjectKey::from(key.rsplit_once('/').unwrap().0)).collect();
        let store = filled(keys_of).await;
        let timed = async |cover: Option<Cover>| {
            let slow = slow(&store);
            let options = ListOptions { cover: cover.map(Arc::new), ..ListOptions::default() };
            let since = Instant::now();
            let listed = keys(fan::list(slow.clone(), options)).await;
            (since.elapsed(), slow.calls(Method::List), listed.len())
        };
        let (without, calls, count) = timed(None).await;
        let (with, calls_with, count_with) = timed(Cover::new(folders)).await;
        println!("{name}: {without:?}, {calls} calls without, {with:?}, {calls_with} calls with");
        assert_eq!(count, count_with);
        assert!(with <= without.mul_f64(1.3) && calls_with <= calls + calls / 4, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_keys_in_the_same_order_whatever_they_look_like() {
    let seed: u64 = std::env::var("UNDERSTUDY_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7);
    println!("replay with UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for round in 0..40 {
        let words = ["a", "b", "part-", "z/", "日", "é", "0", "7", "99", "~", " ", "dt=2026-01-"];
        let (amount, longest) = (dice.random_range(0..4000), dice.random_range(1..9));
        let mut keys_of = || {
            let pieces = dice.random_range(1..=longest);
            (0..pieces).map(|_| words[dice.random_range(0..words.len())]).collect::<String>()
        };
        let store = filled((0..amount).map(|_| keys_of()).filter(|key| !key.ends_with('/')).collect::<Vec<_>>()).await;
        let slow = slow(&store);
        let all: Vec<ObjectKey> = store.objects().into_keys().collect();
        assert_eq!(keys(fan::list(slow.clone(), ListOptions::default())).await, all, "round {round}");
        let Some(middle) = all.get(all.len() / 3).cloned() else { continue };
        let options = ListOptions { after: Some(middle), without: vec!["z".into()], ..ListOptions::default() };
        let one = keys(slow.list(options.clone())).await;
        assert_eq!(keys(fan::list(slow.clone(), options)).await, one, "round {round}");
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
        let mut listed = keys(fan::list(slow, options)).await;
        assert!(listed.is_sorted_by(|a, b| a < b), "round {round}");
        listed.retain(inside);
        let held: Vec<ObjectKey> = all.into_iter().filter(inside).collect();
        assert_eq!(listed, held, "round {round}: {folders:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn folders_that_lie_far_apart_cost_what_they_hold() {
    let others = (0..300).flat_map(|table| (0..200).map(move |i| format!("ext/t{table:03}/part-{i:05}")));
    let store = filled(others.chain((0..50).map(|i| format!("ext/t150/more-{i:02}")))).await;
    let asked = async |tables: Vec<usize>| {
        let slow = slow(&store);
        let folders = tables.iter().map(|table| ObjectKey::from(format!("ext/t{table:03}").as_str()));
        let options = ListOptions { cover: Cover::new(folders).map(Arc::new), ..ListOptions::default() };
        let since = Instant::now();
        let mut listed = keys(fan::list(slow.clone(), options)).await;
        let count = slow.calls(Method::List);
        listed.retain(|key| tables.iter().any(|table| key.is_within(&format!("ext/t{table:03}").as_str().into())));
        (listed.len(), count, since.elapsed())
    };
    // A page is read ahead of what is known: a listing counts as two calls at the most.
    let (listed, calls, _) = asked(vec![7]).await;
    assert!(listed == 200 && calls <= 8, "{calls} pages for one table of two");
    let (listed, calls, took) = asked((0..300).step_by(10).collect()).await;
    assert_eq!(listed, 30 * 200 + 50);
    assert!(calls <= 30 * 6, "{calls} pages for thirty tables of two");
    assert!(took <= PAGE_TIME * 30, "{took:?}: they are read at once");
    // Side by side they are read in one go.
    let (listed, calls, _) = asked((100..200).collect()).await;
    assert_eq!(listed, 100 * 200 + 50);
    assert!(calls <= 200 + 8 * fan::LANES as u64, "{calls} pages for two hundred");
}

#[tokio::test(start_paused = true)]
async fn a_tree_of_one_page_takes_one_request() {
    let store = slow(&filled((0..50).map(|i| format!("k{i:03}"))).await);
    keys(store.list(ListOptions::default())).await;
    let alone = store.calls(Method::List);
    let listed = keys(fan::list(store.clone(), ListOptions::default())).await;
    assert_eq!((listed.len(), store.calls(Method::List)), (50, 2 * alone));
}

#[tokio::test(start_paused = true)]
async fn rule_08_a_lister_that_fails_ends_the_listing_with_its_error() {
    let store = filled((0..20_000).map(|i| format!("part-{i:08}"))).await;
    for call in [1, 2, 3, 10, 30, 100] {
        let failing = Rule::every(Method::List, Fault::Fail(StoreErrorKind::Timeout)).from_call(call);
        let plan = FaultPlan { rules: vec![failing], batch_keys: Some(PAGE_KEYS), ..FaultPlan::default() };
        let faulty = Arc::new(FaultStore::new(Arc::new(store.clone()), plan));
        let mut pages = fan::list(faulty, ListOptions::default());
        let mut last = ObjectKey::default();
        let error = loop {
            match pages.try_next().await {
                Ok(Some(page)) => {
                    assert!(page[0].key > last, "what came before the error is in order");
                    last = page[page.len() - 1].key.clone();
                }
                Ok(None) => panic!("a listing that failed looks whole"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, StoreErrorKind::Timeout);
        assert!(pages.try_next().await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_holds_the_listers_back() {
    let store = slow(&filled((0..50_000).map(|i| format!("part-{i:08}"))).await);
    let mut pages = fan::list(store.clone(), ListOptions::default());
    pages.try_next().await.unwrap();
    tokio::time::sleep(PAGE_TIME * 1000).await;
    let bound = fan::LANES * (fan::LANE_PAGES + 2);
    let calls = store.calls(Method::List) as usize;
    assert!(calls <= bound, "{calls} pages were asked for, {bound} may be held");
    assert!(calls > fan::LANES, "{calls} pages: they did not work ahead");
}
