use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use jiff::Timestamp;
use tokio::time::Instant;

use super::renewal::RENEWALS_PER_DURATION;
use super::taking::LOOKS_PER_DURATION;
use super::*;
use crate::state::checkpoint;
use crate::state::contract::{Fault, FlakyState, assert_every_corruption_is_found};
use crate::state::local::LocalState;
use crate::state::memory::MemoryState;

fn job() -> JobName {
    JobName::new("job").unwrap()
}

/// A holder on another machine, so that nothing is known of its process.
fn holder(host: &str) -> Holder {
    Holder {
        host: host.into(),
        pid: 1,
        boot_id: format!("boot of {host}"),
        pid_namespace: "pid:[1]".into(),
        process_start: Some(1),
        user: "tester".into(),
        program: "test 0.1.0".into(),
        started: "2026-11-21T03:15:00Z".parse().unwrap(),
    }
}

fn run_id() -> RunId {
    RunId::new(Timestamp::UNIX_EPOCH)
}

async fn acquire(store: &Arc<dyn StateStore>, host: &str) -> Result<Lease> {
    Lease::acquire(Arc::clone(store), &job(), &run_id(), holder(host), DURATION, &|_, _| {}).await
}

async fn record(store: &dyn StateStore) -> LeaseRecord {
    inspect(store, &job()).await.unwrap().unwrap().found.unwrap()
}

fn memory() -> Arc<dyn StateStore> {
    Arc::new(MemoryState::new())
}

fn assert_held_by<T: std::fmt::Debug>(result: Result<T>, host: &str) {
    match result {
        Err(Error::LeaseHeld { holder, .. }) => {
            assert!(holder.contains(host) && holder.contains("2026-11-21T03:15:00Z"), "{holder}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn case_46_the_second_run_is_told_of_the_first_and_changes_nothing() {
    let store = memory();
    let first = acquire(&store, "one").await.unwrap();
    let before = Instant::now();
    assert_held_by(acquire(&store, "two").await, "one");
    assert!(before.elapsed() < DURATION, "a living holder shows itself by its next renewal");
    first.confirm().await.unwrap();
    assert_eq!(record(&*store).await.holder.host, "one");
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_holder_that_renews_is_never_taken_over() {
    let store = memory();
    let first = acquire(&store, "one").await.unwrap();
    for _ in 0..20 {
        assert_held_by(acquire(&store, "two").await, "one");
        first.guard().check().unwrap();
        tokio::time::sleep(DURATION / 3).await;
    }
    assert_eq!(record(&*store).await.generation, 1);
}

#[tokio::test(start_paused = true)]
async fn case_47_a_dead_holder_is_taken_over_after_its_time_and_not_before() {
    let store = memory();
    let dead = acquire(&store, "one").await.unwrap();
    let dead_guard = dead.guard();
    drop(dead);
    let before = Instant::now();
    let waited = AtomicU32::new(0);
    let on_wait = |found: &LeaseRecord, longest: Duration| {
        assert_eq!((found.holder.host.as_str(), longest), ("one", DURATION));
        waited.fetch_add(1, Ordering::SeqCst);
    };
    let taker = Lease::acquire(Arc::clone(&store), &job(), &run_id(), holder("two"), DURATION, &on_wait).await.unwrap();
    assert!(before.elapsed() >= DURATION);
    assert!(before.elapsed() <= DURATION + 2 * DURATION / LOOKS_PER_DURATION);
    assert_eq!(waited.load(Ordering::SeqCst), 1);
    assert_eq!(taker.generation(), 2);
    assert!(matches!(dead_guard.check(), Err(Error::LeaseLost { .. })));
}

#[tokio::test(start_paused = true)]
async fn rule_15_wall_clocks_decide_nothing() {
    // A lease that says it started in the far past or future is judged by its bytes alone.
    for started in ["1971-01-01T00:00:00Z", "2900-01-01T00:00:00Z"] {
        let store = memory();
        let odd = Holder { started: started.parse().unwrap(), ..holder("one") };
        drop(Lease::acquire(Arc::clone(&store), &job(), &run_id(), odd, DURATION, &|_, _| {}).await.unwrap());
        let before = Instant::now();
        acquire(&store, "two").await.unwrap();
        assert!(before.elapsed() >= DURATION, "{started}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_15_the_time_of_a_lease_is_the_one_that_it_names() {
    let store = memory();
    let long = DURATION * 4;
    drop(Lease::acquire(Arc::clone(&store), &job(), &run_id(), holder("one"), long, &|_, _| {}).await.unwrap());
    let before = Instant::now();
    acquire(&store, "two").await.unwrap();
    assert!(before.elapsed() >= long);
}

#[tokio::test(start_paused = true)]
async fn rule_15_the_guard_says_no_after_half_the_duration_without_a_renewal() {
    let memory = memory();
    let down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&down);
    let store: Arc<dyn StateStore> =
        Arc::new(FlakyState::new(
            memory,
            move |_, _, _| {
                if switch.load(Ordering::SeqCst) { Fault::Fail } else { Fault::None }
            },
        ));
    let lease = acquire(&store, "one").await.unwrap();
    let guard = lease.guard();
    // Renewed, it lasts.
    tokio::time::sleep(DURATION * 3).await;
    guard.check().unwrap();
    // Not renewed, it stops in time: at most half a duration after the last renewal.
    lease.confirm().await.unwrap();
    down.store(true, Ordering::SeqCst);
    tokio::time::sleep(DURATION / 2 - Duration::from_millis(1)).await;
    guard.check().unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(matches!(guard.check(), Err(Error::LeaseLost { .. })));
    assert!(lease.confirm().await.is_err());
    // The store is back, and nobody took over: the swap proves it.
    down.store(false, Ordering::SeqCst);
    lease.confirm().await.unwrap();
    guard.check().unwrap();
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_fresh_confirmation_is_not_asked_for_again() {
    let store = memory();
    let lease = acquire(&store, "one").await.unwrap();
    let renewals = async || record(&*store).await.renewal;
    let age = Duration::from_secs(1);
    lease.confirmed_within(age).await.unwrap();
    assert_eq!(renewals().await, 0);
    tokio::time::sleep(age).await;
    lease.confirmed_within(age).await.unwrap();
    assert_eq!(renewals().await, 1);
    lease.confirm().await.unwrap();
    assert_eq!(renewals().await, 2);
    Lease::none().confirmed_within(age).await.unwrap();
}

/// A store whose swaps take a while; what is confirmed is the time before the request.
#[derive(Debug)]
struct Slow(Arc<dyn StateStore>, Duration);

#[async_trait::async_trait]
impl StateStore for Slow {
    fn place(&self) -> String {
        self.0.place()
    }
    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
        self.0.get(name).await
    }
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
        let created = self.0.create(name, bytes).await;
        sleep(self.1).await;
        created
    }
    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
        let swapped = self.0.swap(name, bytes, expected).await;
        sleep(self.1).await;
        swapped
    }
    async fn list(&self, prefix: &str) -> Result<Vec<super::super::StateItem>> {
        self.0.list(prefix).await
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name).await
    }
}

#[tokio::test(start_paused = true)]
async fn rule_15_an_answer_that_comes_late_confirms_only_the_past() {
    let late = DURATION / 2 + Duration::from_secs(1);
    let store: Arc<dyn StateStore> = Arc::new(Slow(memory(), late));
    let lease = acquire(&store, "one").await.unwrap();
    assert!(matches!(lease.guard().check(), Err(Error::LeaseLost { .. })));
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_slow_renewal_counts_from_before_its_request() {
    let delay = DURATION / 3;
    let store: Arc<dyn StateStore> = Arc::new(Slow(memory(), delay));
    let mut lease = acquire(&store, "one").await.unwrap();
    lease.held.as_mut().unwrap().renewing.shutdown().await;
    let before = Instant::now();
    lease.confirm().await.unwrap();
    assert_eq!(before.elapsed(), delay);
    tokio::time::sleep(DURATION / 2 - delay + Duration::from_millis(1)).await;
    assert!(matches!(lease.guard().check(), Err(Error::LeaseLost { .. })));
}

#[tokio::test(start_paused = true)]
async fn case_47_one_of_two_contenders_wins() {
    for seed in 0..100u64 {
        let store = memory();
        drop(acquire(&store, "dead").await.unwrap());
        let contend = |host: &'static str, delay: u64| {
            let store = Arc::clone(&store);
            async move {
                sleep(Duration::from_millis(delay)).await;
                acquire(&store, host).await
            }
        };
        let spread = seed.wrapping_mul(0x9E37_79B9) % 4000;
        let (a, b, c) = tokio::join!(contend("a", 0), contend("b", spread), contend("c", spread / 2));
        let results = [a, b, c];
        let winners = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(winners, 1, "seed {seed}: {results:?}");
        for loser in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(loser, Error::LeaseHeld { .. }), "seed {seed}: {loser}");
        }
        assert_eq!(record(&*store).await.generation, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_46_of_many_that_start_together_one_runs() {
    for _ in 0..50 {
        let store = memory();
        let mut racers = JoinSet::new();
        for i in 0..8 {
            let store = Arc::clone(&store);
            racers.spawn(async move {
                let would_wait = tokio::sync::Notify::new();
                let host = holder(&format!("host-{i}"));
                let on_wait = |_: &LeaseRecord, _: Duration| would_wait.notify_one();
                let (job, run) = (job(), run_id());
                tokio::select! {
                    taken = Lease::acquire(store, &job, &run, host, DURATION, &on_wait) => taken.ok(),
                    // It came late and has seen the winner's lease: that one is alive, and waiting would show it.
                    () = would_wait.notified() => None,
                }
            });
        }
        let winners: Vec<Lease> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        winners.first().unwrap().confirm().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_free_at_once_and_the_generation_rises() {
    let store = memory();
    for generation in 1..=5 {
        let before = Instant::now();
        let lease = acquire(&store, "one").await.unwrap();
        assert_eq!(lease.generation(), generation);
        assert_eq!(before.elapsed(), Duration::ZERO);
        let guard = lease.guard();
        lease.release().await.unwrap();
        assert!(matches!(guard.check(), Err(Error::LeaseLost { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn case_48_lost_answers_at_every_write_of_a_lease() {
    // Bit n of the pattern: the answer of the n-th write is lost.
    for pattern in 0..64u64 {
        let memory = memory();
        let writes = AtomicU32::new(0);
        let store: Arc<dyn StateStore> = Arc::new(FlakyState::new(Arc::clone(&memory), move |operation, _, _| {
            let write = matches!(operation, "create" | "swap");
            let lose = write && (pattern >> writes.fetch_add(1, Ordering::SeqCst).min(63)) & 1 == 1;
            if lose { Fault::LoseAnswer } else { Fault::None }
        }));
        let lease = acquire(&store, "one").await.unwrap_or_else(|error| panic!("{pattern:b}: {error}"));
        assert_eq!(lease.generation(), 1, "{pattern:b}");
        tokio::time::sleep(DURATION).await;
        lease.guard().check().unwrap_or_else(|error| panic!("{pattern:b}: {error}"));
        lease.release().await.unwrap_or_else(|error| panic!("{pattern:b}: {error}"));
        let next = acquire(&memory, "two").await.unwrap();
        assert_eq!(next.generation(), 2, "{pattern:b}");
    }
}

#[tokio::test(start_paused = true)]
async fn case_48_a_failed_request_is_no_loss() {
    for pattern in 0..64u64 {
        let memory = memory();
        let calls = AtomicU32::new(0);
        let store: Arc<dyn StateStore> = Arc::new(FlakyState::new(Arc::clone(&memory), move |_, _, _| {
            match (pattern >> calls.fetch_add(1, Ordering::SeqCst).min(63)) & 1 {
                1 => Fault::Fail,
                _ => Fault::None,
            }
        }));
        match acquire(&store, "one").await {
            Ok(lease) => {
                tokio::time::sleep(DURATION).await;
                lease.guard().check().unwrap();
                lease.release().await.unwrap();
                assert!(record(&*memory).await.released);
            }
            Err(error) => assert!(pattern.count_ones() > ACQUIRE_ERRORS, "{pattern:b}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_holder_notices_that_it_was_taken_over() {
    let store = memory();
    let lease = acquire(&store, "one").await.unwrap();
    let guard = lease.guard();
    // Another run takes it, as if this process had been stopped for a long time.
    let (_, tag) = store.get(&layout::lease(&job())).await.unwrap().unwrap();
    let other = LeaseRecord { nonce: "other".into(), holder: holder("two"), generation: 2, ..record(&*store).await };
    store.swap(&layout::lease(&job()), other.to_bytes().unwrap(), &tag).await.unwrap().unwrap();
    tokio::time::sleep(DURATION / RENEWALS_PER_DURATION + Duration::from_secs(1)).await;
    let error = guard.check().unwrap_err();
    assert!(error.to_string().contains("two"), "{error}");
    assert!(lease.confirm().await.is_err());
    assert!(lease.release().await.is_err());
    assert_eq!(record(&*store).await, other, "what the other wrote is left alone");
}

#[tokio::test(start_paused = true)]
async fn a_broken_lease_is_free_and_its_holder_notices() {
    let store = memory();
    let lease = acquire(&store, "one").await.unwrap();
    let seen = inspect(&*store, &job()).await.unwrap().unwrap();
    break_lease(&*store, &job(), &holder("admin"), &seen).await.unwrap();
    break_lease(&*store, &job(), &holder("admin"), &seen).await.unwrap();
    assert!(matches!(lease.confirm().await, Err(Error::LeaseLost { .. })));
    let next = acquire(&store, "two").await.unwrap();
    assert_eq!(next.generation(), 2);
    // What was inspected is gone: a lease that is held now is not broken by an old look.
    assert_held_by(break_lease(&*store, &job(), &holder("admin"), &seen).await, "two");
    next.confirm().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_renews_is_not_broken() {
    let store = memory();
    let lease = acquire(&store, "one").await.unwrap();
    let seen = inspect(&*store, &job()).await.unwrap().unwrap();
    lease.confirm().await.unwrap();
    assert_held_by(break_lease(&*store, &job(), &holder("admin"), &seen).await, "one");
    lease.confirm().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_lease_is_an_error_until_it_is_broken() {
    let store = memory();
    store.create(&layout::lease(&job()), Bytes::from_static(b"{half")).await.unwrap().unwrap();
    assert!(matches!(acquire(&store, "one").await, Err(Error::Damaged { .. })));
    let seen = inspect(&*store, &job()).await.unwrap().unwrap();
    assert!(seen.found.is_err());
    break_lease(&*store, &job(), &holder("admin"), &seen).await.unwrap();
    acquire(&store, "one").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_removed_lease_is_lost_and_never_falls_behind_the_checkpoint() {
    let store = memory();
    let lease = acquire(&store, "one").await.unwrap();
    checkpoint::tests_support::write(&*store, &job(), 7).await;
    store.delete(&layout::lease(&job())).await.unwrap();
    assert!(matches!(lease.confirm().await, Err(Error::LeaseLost { .. })));
    assert_eq!(acquire(&store, "two").await.unwrap().generation(), 8);
}

#[tokio::test]
async fn no_lease_allows_everything_and_says_so() {
    let lease = Lease::none();
    assert!(!lease.is_held());
    assert_eq!(lease.generation(), 0);
    lease.guard().check().unwrap();
    lease.confirm().await.unwrap();
    lease.release().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn case_47_on_one_machine_a_dead_process_is_taken_over_at_once_and_a_living_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn StateStore> = Arc::new(LocalState::open(folder.path(), true).unwrap());
    let me = Holder::this_process("tester", "test 0", Timestamp::UNIX_EPOCH);
    let gone = Holder { process_start: me.process_start.map(|start| start + 1), ..me.clone() };
    let nobody_waits = |_: &LeaseRecord, _: Duration| panic!("waited");
    let take = |holder: Holder| {
        let store = Arc::clone(&store);
        async move { Lease::acquire(store, &job(), &run_id(), holder, DURATION, &nobody_waits).await }
    };
    drop(take(gone).await.unwrap());
    let alive = take(me.clone()).await.unwrap();
    assert_eq!(alive.generation(), 2);
    drop(alive);
    assert!(matches!(take(me).await, Err(Error::LeaseHeld { .. })), "the process lives, whatever became of its lease");
}

#[tokio::test(start_paused = true)]
async fn case_49_a_lease_from_the_future_is_refused_by_name() {
    let store = memory();
    let future = br#"{"format":"understudy-lease","version":9,"minimum_program":"3.1.0","holder":"?"}"#;
    store.create(&layout::lease(&job()), Bytes::from_static(future)).await.unwrap();
    let error = acquire(&store, "one").await.unwrap_err();
    assert!(matches!(&error, Error::FutureVersion { found: 9, known: 1, needs, .. } if needs == "3.1.0"), "{error}");
    let (bytes, _) = store.get(&layout::lease(&job())).await.unwrap().unwrap();
    assert_eq!(bytes.as_ref(), future);
    assert!(inspect(&*store, &job()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn corruption_is_found() {
    let store = memory();
    let _lease = acquire(&store, "one").await.unwrap();
    let (bytes, _) = store.get(&layout::lease(&job())).await.unwrap().unwrap();
    assert_every_corruption_is_found(&bytes, |bad| LeaseRecord::read(&job(), bad).is_err());
}

/// What version 1 looks like in a file; must be read for ever.
#[test]
fn version_1_is_read_and_written_as_ever() {
    let golden = include_bytes!("../../../testdata/state-v1/lease.json");
    let record = LeaseRecord {
        job: job(),
        generation: 7,
        holder: holder("node-1"),
        run_id: "20261121T031500Z-0a1b2c3d".parse().unwrap(),
        nonce: "00112233445566778899aabbccddeeff".into(),
        duration_ms: 30_000,
        renewal: 3,
        released: false,
    };
    assert_eq!(LeaseRecord::read(&job(), golden).unwrap(), record);
    assert_eq!(record.to_bytes().unwrap().as_ref(), golden);
}
