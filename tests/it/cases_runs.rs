//! Runs beside other runs, beside broken answers, and over state that they do not understand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distcp::event::Outcome;
use distcp::store::memory::MemoryStore;
use distcp::store::meter::Meter;
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::state::ObjectState;
use distcp::store::{Store, StoreErrorKind};
use distcp::verify::Level;
use manifest::state::layout::{self, Item, JobName};
use tests::contract::{pattern, put};
use tests::crash::{CrashSwitch, CrashingState};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, local};
use tests::timing::copy_in_paused_time;
use tests::trees::{age, contents, snapshot};
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1 << 20;

fn faulty(inner: Arc<dyn Store>, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(inner, FaultPlan { rules, ..FaultPlan::default() }))
}

fn job() -> JobName {
    JobName::new("test").unwrap()
}

/// A source of ten objects, a target with one of them in another version and an extra, and a job between them.
async fn some() -> (MemoryStore, MemoryStore, Pair) {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for i in 0..10u8 {
        put(&source, &format!("k{i}"), vec![i; 100]).await;
    }
    put(&target, "k5", "old").await;
    put(&target, "extra", "x").await;
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    pair.options.delete = true;
    (source, target, pair)
}

#[tokio::test]
async fn case_24_a_download_that_breaks_leaves_the_old_file_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let source = MemoryStore::new();
    put(&source, "d/f", pattern(300_000)).await;
    put(&source, "d/large", pattern(20 * MIB)).await;
    let folder = scratch.path().join("t");
    std::fs::create_dir_all(folder.join("d")).unwrap();
    std::fs::write(folder.join("d/f"), "the old file").unwrap();
    age(&folder);
    let before = contents(&folder);
    let breaks = |key: &str| Rule::every(Method::Get, Fault::Truncate).on(key);
    let broken = faulty(Arc::new(source.clone()), vec![breaks("d/f"), breaks("d/large").from_call(2)]);
    let store = local(&folder);
    let mut pair = Pair::new(broken, Arc::new(store.clone()));
    pair.local_target = Some(store);
    pair.ends_with(3).await;
    assert_eq!(pair.ended(Outcome::Failed), ["d/f", "d/large"]);
    let under_their_names: Vec<_> = contents(&folder)
        .into_iter()
        .filter(|(key, _)| !String::from_utf8_lossy(key).contains(".understudy-"))
        .collect();
    assert_eq!(under_their_names, before.into_iter().collect::<Vec<_>>(), "intact, and nothing under a new name");
    pair.source = Arc::new(source);
    pair.copied().await;
    assert_eq!(snapshot(&folder).len(), 3, "the folder and two files: no temporary file is left");
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
}

#[tokio::test]
async fn case_42_verify_names_exactly_what_differs() {
    let scratch = tempfile::tempdir().unwrap();
    for (side, key, body) in [
        ("a", "equal", "1"),
        ("b", "equal", "1"),
        ("a", "only/source", "1"),
        ("b", "only-target", "1"),
        ("a", "size", "1"),
        ("b", "size", "22"),
        ("a", "content", "1"),
        ("b", "content", "2"),
        ("a", "unreadable", "1"),
        ("b", "unreadable", "1"),
        ("a", "empty", ""),
        ("b", "empty", ""),
    ] {
        let path = scratch.path().join(side).join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    age(&a);
    age(&b);
    let broken = Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Permission)).on("unreadable");
    let pair = Pair::new(faulty(Arc::new(local(&a)), vec![broken]), Arc::new(local(&b)));
    let before = (snapshot(&a), snapshot(&b));
    // In the order of their keys, folders and all.
    let expected = ["* content", "- only", "+ only-target", "- only/source", "* size", "! unreadable"];
    for level in [Level::Manifest, Level::Content] {
        let (lines, code) = pair.verify(level).await;
        let lines: Vec<_> = lines.into_iter().filter(|line| line != "- only").collect();
        assert_eq!(lines, expected.into_iter().filter(|line| *line != "- only").collect::<Vec<_>>());
        assert_eq!(code, 4);
    }
    assert_eq!(pair.verify(Level::Listing).await.0.len(), 3, "a listing sees keys and sizes");
    assert_eq!((snapshot(&a), snapshot(&b)), before);
    assert!(pair.state_files().await.is_empty(), "verify keeps nothing");
}

#[tokio::test(start_paused = true)]
async fn case_46_a_second_run_of_the_job_is_told_of_the_first_and_changes_nothing() {
    let (source, target, mut first) = some().await;
    let slow = Rule::every(Method::Put, Fault::Delay(Duration::from_secs(30)));
    first.target = faulty(Arc::new(target.clone()), vec![slow]);
    first.limits.concurrency = 2;
    let counting = faulty(Arc::new(target.clone()), vec![]);
    let mut second = Pair::new(Arc::new(source.clone()), counting.clone());
    second.state = first.state.clone();
    second.options.delete = true;
    let beside = async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        let report = second.ends_with(11).await;
        let lease = second.state.get(&layout::lease(&job())).await.unwrap().unwrap().0;
        let lease: serde_json::Value = serde_json::from_slice(&lease).unwrap();
        let message = report.failure.unwrap().message;
        let host = lease["holder"]["host"].as_str().unwrap();
        let started = &lease["holder"]["started"].as_str().unwrap()[..19];
        assert!(message.contains(host) && message.contains(started), "{message} names {host} and {started}");
        assert_eq!(counting.mutating_calls(), 0);
    };
    let (report, ()) = tokio::join!(first.copied(), beside);
    assert_eq!((report.summary.counts.copied, report.summary.counts.deleted), (10, 1));
    assert_eq!(target.objects(), source.objects());
    second.copied().await;
}

/// The holder is gone; of two that wait for its lease one does the work, and the other is told.
#[tokio::test(start_paused = true)]
async fn case_47_one_of_two_contenders_takes_over_from_a_holder_that_died() {
    let (source, target, mut dead) = some().await;
    let crash = CrashSwitch::after(12);
    let state = dead.state.clone();
    dead.state = Arc::new(CrashingState::new(state.clone(), crash.clone()));
    dead.target = Arc::new(FaultStore::with_crash(Arc::new(target.clone()), FaultPlan::default(), crash.clone()));
    let report = dead.copy().await;
    assert!(crash.crashed() && report.failure.is_some());
    let contender = || {
        let slow = Rule::every(Method::Put, Fault::Delay(Duration::from_secs(20)));
        let mut pair = Pair::new(Arc::new(source.clone()), faulty(Arc::new(target.clone()), vec![slow]));
        pair.state = state.clone();
        pair.options.delete = true;
        pair.limits.concurrency = 1;
        pair
    };
    let (one, two) = (contender(), contender());
    let started = tokio::time::Instant::now();
    let (a, b) = tokio::join!(one.copy(), two.copy());
    let mut codes = [a.summary.exit_code.code(), b.summary.exit_code.code()];
    codes.sort_unstable();
    assert_eq!(codes, [0, 11]);
    assert!(started.elapsed() >= Duration::from_secs(30), "not before its time");
    assert_eq!(target.objects(), source.objects());
}

/// Every kind of change is done, and its answer lost: the retry finds out, nothing is done twice or counted twice.
#[tokio::test(start_paused = true)]
async fn case_48_lost_answers_everywhere_end_in_the_right_state_with_the_right_counts() {
    let methods =
        [Method::Put, Method::CreateUpload, Method::PutPart, Method::CompleteUpload, Method::Copy, Method::Delete];
    for method in methods {
        let (source, target, mut pair) = some().await;
        let state = MemoryStore::new();
        pair.state = Arc::new(ObjectState::new(Arc::new(state.clone())).unwrap());
        pair.retries = true;
        // Something for a server-side copy, and something in parts.
        pair.copied().await;
        put(&source, "large", pattern(20 * MIB)).await;
        put(&source, "renamed", vec![3; 100]).await;
        put(&source, "new", "new").await;
        source.delete(&["k3".into()]).await.into_iter().for_each(|answer| answer.unwrap());
        let lost = || vec![Rule::first(method, Fault::LostAnswer)];
        let broken = faulty(Arc::new(target.clone()), lost());
        pair.target = broken.clone();
        let (meter, token) = (Arc::new(Meter::default()), CancellationToken::new());
        let policy = RetryPolicy::default();
        let state = Retried::new(faulty(Arc::new(state.clone()), lost()), policy, 1, meter, token);
        pair.state = Arc::new(ObjectState::new(Arc::new(state)).unwrap());
        let report = copy_in_paused_time(&pair).await;
        assert_eq!(report.summary.exit_code.code(), 0, "{method:?}: {report:#?}");
        assert!(broken.faults() > 0, "{method:?} was not met");
        let counts = report.summary.counts;
        assert_eq!((counts.copied, counts.deleted, counts.equal, counts.listed), (3, 1, 9, 13), "{method:?}");
        assert_eq!(target.objects(), source.objects(), "{method:?}");
        let again = copy_in_paused_time(&pair).await.summary;
        assert_eq!((again.counts.equal, again.bytes.read, again.bytes.written), (12, 0, 0), "{method:?}");
    }
}

/// Each kind of file of the state, written by a program of the future.
#[tokio::test]
async fn case_49_state_from_the_future_is_refused_by_name_and_nothing_is_changed() {
    let (source, target, pair) = some().await;
    pair.copied().await;
    put(&source, "new", "new").await;
    let files = pair.state_files().await;
    let objects = target.objects();
    let versioned: Vec<&String> = files
        .keys()
        .filter(|name| {
            let kind = layout::classify(&job(), name);
            name.ends_with("checkpoint.json") || name.ends_with("lease.json") || matches!(kind, Item::Index(_))
        })
        .collect();
    assert_eq!(versioned.len(), 3);
    for name in versioned {
        let is_index = matches!(layout::classify(&job(), name), Item::Index(_));
        let known = if is_index { manifest::format::FORMAT_VERSION } else { 1 };
        let of = |version: u32| [format!("\"version\": {version},"), format!("\"version\":{version},")];
        let ([spaced, tight], [spaced_9, tight_9]) = (of(known), of(9));
        let text = std::str::from_utf8(&files[name]).unwrap().replacen(&spaced, &spaced_9, 1);
        let text = text.replacen(&tight, &tight_9, 1).replace("\"0.1.0\"", "\"7.7.7\"");
        let swap = |bytes: Bytes| {
            let state = pair.state.clone();
            async move {
                let (_, tag) = state.get(name).await.unwrap().unwrap();
                state.swap(name, bytes, &tag).await.unwrap().unwrap();
            }
        };
        swap(text.into()).await;
        let failure = pair.copy().await.failure.unwrap_or_else(|| panic!("{name} was taken"));
        let message = &failure.message;
        assert!(message.contains("version 9") && message.contains("7.7.7"), "{name}: {message}");
        assert_eq!(target.objects(), objects, "{name}");
        swap(files[name].clone()).await;
    }
    pair.copied().await;
    assert_eq!(target.objects(), source.objects());
}

/// Paused time: a target that answers 503 for twenty seconds. The rate falls (a thousand requests a second would be
/// twenty thousand in vain), nothing fails, and the rate recovers: what is left takes seconds.
#[tokio::test(start_paused = true)]
async fn case_50_slow_down_for_20_s_lowers_the_rate_and_fails_nothing() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    // Fewer than the plan is read ahead: a thread that waits would hold paused time.
    for i in 0..900 {
        put(&source, &format!("k{i:04}"), format!("{i}")).await;
    }
    let busy = Rule::every(Method::Put, Fault::Fail(StoreErrorKind::Throttled))
        .during(Duration::from_millis(300)..Duration::from_millis(20_300));
    let slow = Rule::every(Method::Put, Fault::Delay(Duration::from_millis(10)));
    let throttling = faulty(Arc::new(target.clone()), vec![busy, slow]);
    let mut pair = Pair::new(Arc::new(source), throttling.clone());
    pair.retries = true;
    let began = tokio::time::Instant::now();
    let report = copy_in_paused_time(&pair).await;
    let took = began.elapsed();
    assert_eq!(report.summary.exit_code.code(), 0, "{:?}", report.failure);
    assert_eq!((report.summary.counts.copied, report.summary.counts.failed), (900, 0));
    let in_vain = throttling.calls(Method::Put) - 900;
    assert!((10..500).contains(&in_vain), "{in_vain} requests in vain");
    assert!((Duration::from_secs(20)..Duration::from_secs(60)).contains(&took), "{took:?}");
}
