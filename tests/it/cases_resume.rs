//! Runs that end early, and the runs after them: nothing is lost, nothing is done twice.

use std::sync::Arc;
use std::time::Duration;

use distcp::event::Outcome;
use distcp::job::Stop;
use distcp::store::memory::MemoryStore;
use distcp::store::state::ObjectState;
use distcp::store::{Store, StoreErrorKind};
use distcp::verify::Level;
use tests::contract::{pattern, put};
use tests::fault::{CrashSwitch, Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, local};
use tests::odd::OddStore;
use tests::trees::{age, contents};
use tokio::time::Instant;

const MIB: u64 = 1 << 20;

fn faulty(inner: Arc<dyn Store>, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(inner, FaultPlan { rules, ..FaultPlan::default() }))
}

/// A target that crashes together with its state.
fn crashing(pair: &mut Pair, target: Arc<dyn Store>, state: &MemoryStore, crash: &Arc<CrashSwitch>) -> Arc<FaultStore> {
    let target = Arc::new(FaultStore::with_crash(target, FaultPlan::default(), crash.clone()));
    let state = FaultStore::with_crash(Arc::new(state.clone()), FaultPlan::default(), crash.clone());
    pair.target = target.clone();
    pair.state = Arc::new(ObjectState::new(Arc::new(state)).unwrap());
    target
}

/// Stops the run when `key` is read for the first time.
fn stopping_at(inner: Arc<dyn Store>, key: &str, stop: &Stop) -> Arc<dyn Store> {
    let token = stop.token.clone();
    OddStore::new(inner).meddling(key, async move { token.cancel() }).shared()
}

/// An upload of 40 MiB + 17 in six parts, interrupted and then killed.
#[tokio::test(start_paused = true)]
async fn case_29_a_killed_upload_goes_on_under_the_same_id() {
    let source = MemoryStore::new();
    put(&source, "large", pattern(40 * MIB + 17)).await;
    let (target, state) = (MemoryStore::new(), MemoryStore::new());
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    let counting = crashing(&mut pair, Arc::new(target.clone()), &state, &CrashSwitch::never());
    // The run begins an upload and sends parts until the signal.
    let stop = pair.stop.clone();
    let token = stop.token.clone();
    let slow = Rule::every(Method::PutPart, Fault::Delay(Duration::from_secs(60))).from_call(3);
    pair.target = faulty(counting.clone(), vec![slow]);
    let stopper = async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel();
    };
    let (report, ()) = tokio::join!(pair.ends_with(130), stopper);
    assert_eq!(report.summary.counts.copied, 0);
    let ids = target.uploads();
    assert_eq!(ids.len(), 1);
    let sent = counting.calls(Method::PutPart);
    assert_eq!(sent, 2);

    // A second one is killed in the middle of it, long after it saved what it had done.
    pair.unstop();
    counting.reset_counts();
    let slow = Rule::every(Method::PutPart, Fault::Delay(Duration::from_secs(600))).from_call(2);
    pair.target = faulty(counting.clone(), vec![slow]);
    tokio::time::timeout(Duration::from_secs(120), pair.copy()).await.unwrap_err();
    assert_eq!((counting.calls(Method::CreateUpload), counting.calls(Method::PutPart)), (0, 1));
    assert_eq!(target.uploads(), ids);

    // The third ends it, once the lease is stale.
    let last = crashing(&mut pair, Arc::new(target.clone()), &state, &CrashSwitch::never());
    pair.copied().await;
    assert_eq!(last.calls(Method::CreateUpload), 0);
    assert_eq!(last.calls(Method::PutPart), 3, "three of six were sent and recorded");
    assert_eq!(target.objects(), source.objects());
    assert!(target.uploads().is_empty());
}

/// Interrupted three times: what each run recorded counts for all later ones.
#[tokio::test(start_paused = true)]
async fn case_29_parts_that_several_interrupted_runs_sent_are_all_kept() {
    let source = MemoryStore::new();
    put(&source, "large", pattern(60 * MIB)).await;
    let scratch = tempfile::tempdir().unwrap();
    let (memory, folder) = (MemoryStore::new(), scratch.path().join("t"));
    for target in [Arc::new(memory.clone()) as Arc<dyn Store>, Arc::new(local(&folder))] {
        let counting = faulty(target.clone(), vec![]);
        let mut pair = Pair::new(Arc::new(source.clone()), counting.clone());
        let mut sent = 0;
        for round in 0..4 {
            pair.unstop();
            counting.reset_counts();
            // Two parts pass, then the signal comes while the others wait.
            let slow = Rule::every(Method::PutPart, Fault::Delay(Duration::from_secs(60))).from_call(3);
            pair.target = faulty(counting.clone(), vec![slow]);
            let token = pair.stop.token.clone();
            let stopper = async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                token.cancel();
            };
            if round == 3 {
                pair.target = counting.clone();
                pair.copied().await;
            } else {
                tokio::join!(pair.ends_with(130), stopper);
            }
            eprintln!("{} round {round}: {}", target.place(), counting.calls(Method::PutPart));
            sent += counting.calls(Method::PutPart);
            assert_eq!(counting.calls(Method::CreateUpload), u64::from(round == 0), "round {round}");
        }
        assert_eq!(sent, 8, "every part once, over all runs");
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn case_29_a_source_that_changed_meanwhile_begins_anew_and_the_old_upload_is_given_up() {
    let source = MemoryStore::new();
    put(&source, "large", pattern(20 * MIB)).await;
    let target = MemoryStore::new();
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    let broken = Rule::every(Method::PutPart, Fault::Fail(StoreErrorKind::Other)).from_call(3);
    pair.target = faulty(Arc::new(target.clone()), vec![broken]);
    pair.ends_with(3).await;
    let first = target.uploads();
    assert_eq!(first.len(), 1);
    put(&source, "large", vec![5; 21 << 20]).await;
    pair.target = Arc::new(target.clone());
    pair.copied().await;
    assert!(target.uploads().is_empty(), "{first:?} is still there");
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test(start_paused = true)]
async fn case_29_an_upload_that_the_store_has_forgotten_begins_anew() {
    let source = MemoryStore::new();
    put(&source, "large", pattern(20 * MIB)).await;
    let target = MemoryStore::new();
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    let broken = Rule::every(Method::PutPart, Fault::Fail(StoreErrorKind::Other)).from_call(3);
    pair.target = faulty(Arc::new(target.clone()), vec![broken]);
    pair.ends_with(3).await;
    for id in target.uploads() {
        target.abort_upload(&"large".into(), &id).await.unwrap();
    }
    pair.target = Arc::new(target.clone());
    pair.copied().await;
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test(start_paused = true)]
async fn case_30_interrupt_kill_interrupt_then_run() {
    let scratch = tempfile::tempdir().unwrap();
    let a = scratch.path().join("a");
    std::fs::create_dir_all(a.join("d")).unwrap();
    for i in 0..40u64 {
        std::fs::write(a.join(format!("d/f{i:02}")), pattern(i * 1000)).unwrap();
    }
    std::fs::write(a.join("d/large"), pattern(12 * MIB)).unwrap();
    age(&a);
    let b = scratch.path().join("b");
    let source: Arc<dyn Store> = Arc::new(local(&a));
    let state = MemoryStore::new();
    let mut pair = Pair::new(source.clone(), Arc::new(local(&b)));
    pair.limits.concurrency = 2;
    crashing(&mut pair, Arc::new(local(&b)), &state, &CrashSwitch::never());

    pair.source = stopping_at(source.clone(), "d/f10", &pair.stop);
    let report = pair.ends_with(130).await;
    assert!((1..40).contains(&report.summary.counts.copied), "{:#?}", report.summary);
    let so_far = contents(&b).len();

    pair.unstop();
    pair.source = source.clone();
    let crash = CrashSwitch::after(20);
    crashing(&mut pair, Arc::new(local(&b)), &state, &crash);
    let report = pair.copy().await;
    assert!(crash.crashed() && report.failure.is_some());
    assert!(contents(&b).len() > so_far);

    crashing(&mut pair, Arc::new(local(&b)), &state, &CrashSwitch::never());
    pair.source = stopping_at(source.clone(), "d/f35", &pair.stop);
    pair.stop.terminated.store(true, std::sync::atomic::Ordering::Relaxed);
    pair.ends_with(143).await;

    pair.unstop();
    pair.source = source;
    pair.copied().await;
    assert_eq!(contents(&a), contents(&b));
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.equal, again.bytes.read), (41, 0));
}

#[tokio::test]
async fn case_32_failed_keys_are_tried_again_and_finished_ones_are_not_read() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for i in 0..50u64 {
        put(&source, &format!("f{i:02}"), pattern(100 + i)).await;
    }
    let fails = ["f03", "f20"].map(|key| Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Other)).on(key));
    let mut pair = Pair::new(faulty(Arc::new(source.clone()), fails.to_vec()), Arc::new(target.clone()));
    let report = pair.ends_with(3).await.summary;
    assert_eq!((report.counts.copied, report.counts.failed), (48, 2));
    let reading = faulty(Arc::new(source.clone()), vec![]);
    let writing = faulty(Arc::new(target.clone()), vec![]);
    (pair.source, pair.target) = (reading.clone(), writing.clone());
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.equal, report.bytes.read), (2, 48, 103 + 120));
    assert_eq!((reading.calls(Method::Get), writing.calls(Method::Put), writing.calls(Method::Get)), (2, 2, 0));
    assert_eq!(pair.ended(Outcome::Copied), ["f03", "f20"]);
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test(start_paused = true)]
async fn case_33_what_is_done_is_saved_at_the_signal() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for i in 0..20u64 {
        put(&source, &format!("f{i:02}"), pattern(100 + i)).await;
    }
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    pair.limits.concurrency = 1;
    pair.source = stopping_at(Arc::new(source.clone()), "f05", &pair.stop);
    let started = tokio::time::Instant::now();
    let report = pair.ends_with(130).await.summary;
    assert!(started.elapsed() < Duration::from_secs(2), "before any periodic save");
    assert_eq!((report.counts.copied, report.counts.skipped), (6, 14));
    assert_eq!(pair.rows().await.len(), 6);
    assert_eq!(report.as_of, None);
    pair.unstop();
    let reading = faulty(Arc::new(source.clone()), vec![]);
    pair.source = reading.clone();
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.equal, reading.calls(Method::Get)), (14, 6, 14));
    assert!(report.as_of.is_some());
}

/// A store that does not answer any more must not hold a run that was asked to stop.
#[tokio::test(start_paused = true)]
async fn case_33_a_signal_ends_a_run_whose_store_does_not_answer() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for i in 0..40u64 {
        put(&source, &format!("f{i:02}"), pattern(100 + i)).await;
    }
    let hangs = Rule::every(Method::Get, Fault::Delay(Duration::from_secs(3600))).from_call(4);
    let pair = Pair::new(faulty(Arc::new(source), vec![hangs]), Arc::new(target));
    let token = pair.stop.token.clone();
    let stopper = async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        token.cancel();
    };
    let started = tokio::time::Instant::now();
    let (report, ()) = tokio::join!(pair.ends_with(130), stopper);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(report.summary.counts.copied, 3);
    assert_eq!(pair.rows().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn case_41_max_bytes_and_max_duration_end_a_run_and_the_next_goes_on() {
    for by_time in [false, true] {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        for i in 0..30u64 {
            put(&source, &format!("f{i:02}"), vec![i as u8; 1000]).await;
        }
        put(&target, "extra", "x").await;
        let slow = Rule::every(Method::Put, Fault::Delay(Duration::from_secs(1)));
        let mut pair = Pair::new(Arc::new(source.clone()), faulty(Arc::new(target.clone()), vec![slow]));
        pair.options.delete = true;
        pair.limits.concurrency = 1;
        let mut done = 0;
        for round in 0..3 {
            match by_time {
                true => pair.limits.deadline = Some(Instant::now() + Duration::from_millis(9_500)),
                false => pair.limits.max_bytes = Some(9_500),
            }
            let report = pair.ends_with(10).await.summary;
            assert!((8..=12).contains(&report.counts.copied), "{by_time} {round}: {:#?}", report.counts);
            assert_eq!((report.counts.equal, report.counts.deleted), (done, 0), "nothing is done twice");
            assert_eq!(report.as_of, None);
            done += report.counts.copied;
            if done >= 20 {
                break;
            }
        }
        pair.limits.deadline = None;
        pair.limits.max_bytes = None;
        let report = pair.copied().await.summary;
        assert_eq!((report.counts.equal, report.counts.deleted), (done, 1));
        assert_eq!(target.objects(), source.objects());
    }
}

#[tokio::test(start_paused = true)]
async fn case_41_a_large_object_stops_between_parts_at_the_limit() {
    let source = MemoryStore::new();
    put(&source, "large", pattern(40 * MIB)).await;
    let target = MemoryStore::new();
    let slow = Rule::every(Method::PutPart, Fault::Delay(Duration::from_secs(4)));
    let counting = faulty(Arc::new(target.clone()), vec![slow]);
    let mut pair = Pair::new(Arc::new(source.clone()), counting.clone());
    pair.limits.deadline = Some(Instant::now() + Duration::from_secs(3));
    pair.ends_with(10).await;
    let sent = counting.calls(Method::PutPart);
    assert_eq!(sent, 4);
    pair.limits.deadline = None;
    pair.copied().await;
    assert_eq!(counting.calls(Method::PutPart), 5, "none was sent twice");
    assert_eq!(target.objects(), source.objects());
}
