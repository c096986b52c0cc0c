//! Rules on state (3, 15, 17, 18), through whole runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distcp::run;
use distcp::session::RunState;
use distcp::store::memory::MemoryStore;
use distcp::store::state::ObjectState;
use distcp::store::{Store, StoreErrorKind};
use manifest::state::layout::{self, Item, JobName};
use manifest::state::lease::LeaseGuard;
use manifest::state::{StateStore, checkpoint};
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600 + 1);

fn faulty(inner: &MemoryStore, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(inner.clone()), FaultPlan { rules, ..FaultPlan::default() }))
}

fn pair(source: &MemoryStore, target: &MemoryStore) -> Pair {
    Pair::new(Arc::new(source.clone()), Arc::new(target.clone()))
}

fn job() -> JobName {
    JobName::new("test").unwrap()
}

/// How many runs, indexes and parts of manifests the state holds.
async fn held(state: &dyn StateStore) -> (usize, usize, usize) {
    let (mut runs, mut indexes, mut parts) = (BTreeSet::new(), 0, 0);
    for item in state.list("").await.unwrap() {
        match layout::classify(&job(), &item.name) {
            Item::Receipt(run) | Item::Journal(run, _) | Item::OfRun(run) => drop(runs.insert(run)),
            Item::Index(_) => indexes += 1,
            Item::Part(_) => parts += 1,
            Item::Verification(_) | Item::Other => {}
        }
    }
    (runs.len(), indexes, parts)
}

#[tokio::test]
async fn rule_03_a_second_job_into_the_target_of_another_is_refused() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "k", "v").await;
    let pair = pair(&source, &target);
    pair.copied().await;
    let (objects, state) = (target.objects(), pair.state_files().await);
    put(&source, "new", "v").await;
    // Inside the other's target, around it, and the name of a job that joins other places.
    for (name, target) in
        [("other", "memory://target/deep"), ("other", "memory://target"), ("test", "memory://elsewhere")]
    {
        let mut job = pair.job();
        job.name = JobName::new(name).unwrap();
        job.target.place = target.into();
        let report = run::copy(&job).await;
        assert_eq!(report.summary.exit_code.code(), 2, "{name} {target}: {:?}", report.failure);
        assert!(report.failure.unwrap().message.contains("memory://target"));
    }
    assert_eq!((target.objects(), pair.state_files().await), (objects, state), "nothing was done or left");
    let mut job = pair.job();
    job.name = JobName::new("other").unwrap();
    job.target.place = "memory://target-2".into();
    assert_eq!(run::copy(&job).await.summary.exit_code.code(), 0, "beside it, not in it");
}

/// A holder that cannot renew stops writing after half the duration of its lease, long before anybody takes over.
#[tokio::test(start_paused = true)]
async fn rule_15_a_run_that_cannot_renew_its_lease_stops_writing_in_time() {
    let (source, target, state) = (MemoryStore::new(), MemoryStore::new(), MemoryStore::new());
    for i in 0..40 {
        put(&source, &format!("k{i:02}"), vec![i; 10]).await;
    }
    put(&target, "extra", "x").await;
    let slow = faulty(&target, vec![Rule::every(Method::Put, Fault::Delay(Duration::from_secs(2)))]);
    let mut pair = Pair::new(Arc::new(source.clone()), slow.clone());
    pair.options.delete = true;
    pair.limits.concurrency = 1;
    // The state is lost to this run right after the lease was taken and the plan kept.
    let cut = Rule::every(Method::Put, Fault::Fail(StoreErrorKind::Connection)).on("test/lease.json").from_call(2);
    pair.state = Arc::new(ObjectState::new(faulty(&state, vec![cut])).unwrap());
    let report = pair.copy().await;
    assert_eq!(report.summary.exit_code.code(), 11, "{report:#?}");
    let written = slow.calls(Method::Put);
    assert!((1..=9).contains(&written), "{written} writes of 2 s in 15 s");
    assert!(target.objects().contains_key(&"extra".into()));
    // The next run waits for the lease, takes it over, and ends the work.
    pair.state = Arc::new(ObjectState::new(Arc::new(state)).unwrap());
    pair.copied().await;
    assert_eq!(target.objects(), source.objects());
}

/// Runs, indexes and parts that nothing needs any more go, not sooner than a day after they were written.
#[tokio::test(start_paused = true)]
async fn rule_17_old_runs_and_manifests_are_pruned_and_the_rest_still_works() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let mut pair = pair(&source, &target);
    pair.keep_runs = 2;
    for i in 0..5u8 {
        put(&source, &format!("k{i}"), vec![i; 100]).await;
        pair.copied().await;
    }
    let (runs, indexes, parts) = held(pair.state.as_ref()).await;
    assert_eq!((runs, indexes, parts), (2, 5, 5), "young manifests stay");
    tokio::time::advance(DAY).await;
    pair.leased = false;
    pair.copied().await;
    assert_eq!(held(pair.state.as_ref()).await, (3, 5, 5), "without a lease nothing is pruned");
    pair.leased = true;
    pair.copied().await;
    let (runs, indexes, parts) = held(pair.state.as_ref()).await;
    assert!(runs == 2 && indexes <= 2 && parts <= 2, "{runs} runs, {indexes} indexes, {parts} parts");
    assert_eq!(pair.rows().await.len(), 5);
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.equal, again.bytes.read), (5, 0));
}

/// An index that cannot be read may name anything: then nothing goes, and the run is done all the same.
#[tokio::test(start_paused = true)]
async fn rule_17_nothing_is_pruned_while_an_index_cannot_be_read() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let mut pair = pair(&source, &target);
    for i in 0..3u8 {
        put(&source, &format!("k{i}"), vec![i; 100]).await;
        pair.copied().await;
    }
    let committed = checkpoint::load_summary(pair.state.as_ref(), &job()).await.unwrap().unwrap().manifest.unwrap();
    let mut damaged = false;
    for name in pair.state_files().await.into_keys() {
        if matches!(layout::classify(&job(), &name), Item::Index(id) if id != committed) {
            let (_, tag) = pair.state.get(&name).await.unwrap().unwrap();
            damaged |= pair.state.swap(&name, Bytes::from_static(b"{"), &tag).await.unwrap().is_some();
        }
    }
    assert!(damaged);
    tokio::time::advance(DAY).await;
    let before = held(pair.state.as_ref()).await;
    pair.keep_runs = 3;
    pair.copied().await;
    assert!(pair.notes().iter().any(|note| note.contains("not pruned")), "{:?}", pair.notes());
    let after = held(pair.state.as_ref()).await;
    assert_eq!((after.0, after.1, after.2), (before.0 + 1, before.1, before.2));
}

/// The journal of a run that left an upload is needed until the upload has ended, however many runs ago that was.
#[tokio::test(start_paused = true)]
async fn rule_17_the_journal_of_an_open_upload_outlives_keep_runs() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "z-large", pattern(20 * MIB)).await;
    let mut pair = pair(&source, &target);
    pair.keep_runs = 1;
    let broken = Rule::every(Method::PutPart, Fault::Fail(StoreErrorKind::Other)).from_call(3);
    pair.target = faulty(&target, vec![broken]);
    pair.ends_with(3).await;
    let uploads = target.uploads();
    assert_eq!(uploads.len(), 1);
    // These runs end before they come to it.
    pair.target = Arc::new(target.clone());
    pair.limits.concurrency = 1;
    pair.limits.max_bytes = Some(1);
    for i in 0..4 {
        put(&source, &format!("k{i}"), format!("{i}")).await;
        tokio::time::advance(DAY).await;
        pair.ends_with(10).await;
        assert_eq!(target.uploads(), uploads);
    }
    pair.limits.max_bytes = None;
    let counting = faulty(&target, vec![]);
    pair.target = counting.clone();
    pair.copied().await;
    assert_eq!((counting.calls(Method::CreateUpload), counting.calls(Method::PutPart)), (0, 1));
    assert!(target.uploads().is_empty());
    assert_eq!(target.objects(), source.objects());
}

/// Without a lease another run may be sending the parts of an upload that looks abandoned: it stays, and is remembered.
#[tokio::test(start_paused = true)]
async fn rule_17_without_a_lease_no_upload_is_aborted_nor_forgotten() {
    for changed in [true, false] {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        put(&source, "large", pattern(20 * MIB)).await;
        put(&source, "small", "x").await;
        let mut pair = pair(&source, &target);
        let broken = Rule::every(Method::PutPart, Fault::Fail(StoreErrorKind::Other)).from_call(3);
        pair.target = faulty(&target, vec![broken]);
        pair.ends_with(3).await;
        let old = target.uploads();
        assert_eq!(old.len(), 1);
        pair.target = Arc::new(target.clone());
        pair.leased = false;
        match changed {
            true => drop(put(&source, "large", pattern(21 * MIB)).await),
            false => source.delete(&["large".into()]).await.into_iter().for_each(|answer| answer.unwrap()),
        }
        pair.copied().await;
        assert_eq!(target.uploads(), old, "it may be in use");
        pair.leased = true;
        pair.copied().await;
        assert!(target.uploads().is_empty(), "given up by the first run with the lease");
        assert_eq!(target.objects(), source.objects());
    }
}

/// An abandoned upload that the store would not abort is tried again by later runs.
#[tokio::test(start_paused = true)]
async fn rule_18_an_abort_that_failed_is_tried_again_by_the_next_run() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "large", pattern(20 * MIB)).await;
    let mut pair = pair(&source, &target);
    let broken = Rule::every(Method::PutPart, Fault::Fail(StoreErrorKind::Other)).from_call(3);
    pair.target = faulty(&target, vec![broken]);
    pair.ends_with(3).await;
    put(&source, "large", "small now").await;
    let refused = Rule::every(Method::AbortUpload, Fault::Fail(StoreErrorKind::Permission));
    pair.target = faulty(&target, vec![refused]);
    pair.copied().await;
    assert_eq!(target.uploads().len(), 1);
    assert!(pair.notes().iter().any(|note| note.contains("an abandoned upload stays")), "{:?}", pair.notes());
    pair.target = Arc::new(target.clone());
    pair.copied().await;
    assert!(target.uploads().is_empty());
}

/// Uploads of others under our keys are not ours to end.
#[tokio::test(start_paused = true)]
async fn rule_18_an_upload_that_no_journal_of_ours_names_is_left_alone() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "large", pattern(20 * MIB)).await;
    let others = target.create_upload(&"large".into(), 20 * MIB, &Default::default()).await.unwrap();
    let pair = pair(&source, &target);
    pair.copied().await;
    pair.copied().await;
    assert_eq!(target.uploads(), [others]);
    assert_eq!(target.objects(), source.objects());
}

/// Machines that take turns at a job do not agree on the time: what an earlier one left is found by a later one all the same.
#[tokio::test(start_paused = true)]
async fn rule_18_an_upload_goes_on_when_the_clock_was_set_back() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "small", "x").await;
    let mut pair = pair(&source, &target);
    pair.copied().await;
    // The run that was committed last had a clock that was far ahead.
    let loaded = checkpoint::load::<RunState>(pair.state.as_ref(), &job()).await.unwrap().unwrap();
    let mut ahead = loaded.checkpoint;
    ahead.run_id = "20991231T235959Z-3e7fffff".parse().unwrap();
    checkpoint::commit(pair.state.as_ref(), &ahead, Some(&loaded.tag), &LeaseGuard::default()).await.unwrap();

    put(&source, "large", pattern(20 * MIB)).await;
    let slow = Rule::every(Method::PutPart, Fault::Delay(Duration::from_secs(600))).from_call(3);
    pair.target = faulty(&target, vec![slow]);
    tokio::time::timeout(Duration::from_secs(60), pair.copy()).await.unwrap_err();
    assert_eq!(target.uploads().len(), 1);
    let counting = faulty(&target, vec![]);
    pair.target = counting.clone();
    pair.copied().await;
    assert_eq!((counting.calls(Method::CreateUpload), counting.calls(Method::PutPart)), (0, 1));
    assert!(target.uploads().is_empty());
    assert_eq!(target.objects(), source.objects());
}
