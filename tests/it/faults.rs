//! Whole runs over stores that fail by seeded dice: right in the end, or an error that names what failed; never lost, never
//! wrong, never silent.
//!
//! Each seed decides the trees, what happens between runs, and how often each fault happens at the source, the target and
//! the state. A failing seed prints the command that runs it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use distcp::commit;
use distcp::event::Outcome;
use distcp::options::Cap;
use distcp::run::Report;
use distcp::store::Store;
use distcp::store::memory::MemoryStore;
use distcp::store::meter::Meter;
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::state::ObjectState;
use manifest::{ContentHash, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::fault::{Chances, FaultPlan, FaultStore};
use tests::jobs::Pair;
use tests::services;
use tests::timing::copy_in_paused_time;
use tokio_util::sync::CancellationToken;

use crate::faults_trees::{Contents, Dated, Kind, Side};

/// Seeds of a scenario in an ordinary run; all scenarios together have 1,000.
const SEEDS: u64 = 210;
/// Seeds of the scenario with large objects, which take longer.
const LARGE_SEEDS: u64 = 80;
/// With `cargo xtask test --long` there are so many times more.
const LONG: u64 = 10;
/// Runs with faults before the one without.
const MAX_FAULTY_RUNS: u32 = 3;
/// The parts of large objects.
const MIB: usize = 1 << 20;

/// What runs between what.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    /// The name of the test function.
    name: &'static str,
    source: Kind,
    target: Kind,
    delete: bool,
    /// Few objects, some of many parts.
    large: bool,
}

/// Names the seed when a test panics while it runs.
struct Seed {
    seed: u64,
    scenario: Scenario,
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Seed { seed, scenario } = self;
            eprintln!(
                "seed {seed} failed; alone: UNDERSTUDY_TEST_SEED={seed} cargo test -p tests faults::{}",
                scenario.name
            );
        }
    }
}

fn scenario(scenario: Scenario) {
    let alone = std::env::var("UNDERSTUDY_TEST_SEED").ok();
    let usual = if scenario.large { LARGE_SEEDS } else { SEEDS };
    let seeds = match &alone {
        Some(seed) => seed.parse().map(|seed: u64| seed..seed + 1).expect("UNDERSTUDY_TEST_SEED is a number"),
        None => 0..if services::long() { LONG * usual } else { usual },
    };
    let mut tally = Tally::default();
    for seed in seeds.clone() {
        let named = Seed { seed, scenario };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(one(scenario, seed, &mut tally));
        drop(named);
    }
    println!("{}: {} seeds: {tally:?}", scenario.name, seeds.end - seeds.start);
    if alone.is_none() {
        assert!(tally.faults > 0 && tally.done > 0 && tally.not_done > 0, "these dice prove nothing: {tally:?}");
    }
}

/// What all seeds of a scenario met.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    done: u64,
    not_done: u64,
    faults: u64,
}

async fn one(scenario: Scenario, seed: u64, tally: &mut Tally) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut dated = Dated::default();
    let (source, target) = (Side::new(scenario.source), Side::new(scenario.target));
    let state = MemoryStore::new();
    build(&source, &target, scenario, &mut dice, &mut dated).await;
    if dice.random_bool(0.5) {
        let report = run(scenario, Faulty::none(&source, &target, &state)).await.0;
        assert_done(&report);
        change(&source, scenario, &mut dice, &mut dated, 10).await;
        change(&target, scenario, &mut dice, &mut dated, 3).await;
    }
    for _ in 0..dice.random_range(1..=MAX_FAULTY_RUNS) {
        let before = Before { source: source.contents().await, target: target.contents().await };
        let faulty = Faulty::roll(&source, &target, &state, scenario, &mut dice);
        let stores = faulty.stores.clone();
        let shown = format!("{faulty:#?}");
        let (report, failed) = run(scenario, faulty).await;
        tally.runs += 1;
        tally.faults += stores.iter().map(FaultStore::faults).sum::<u64>();
        match report.failure.is_none() && report.summary.exit_code.code() == 0 {
            true => tally.done += 1,
            false => tally.not_done += 1,
        }
        let after = target.contents().await;
        let shown = || format!("{shown}\n{report:#?}\n{failed:#?}");
        check(scenario, &before, &after, &report, &failed, &shown);
        if report.summary.exit_code.code() == 0 {
            check_manifest(&state, &before.source, &after).await;
        }
        if dice.random_bool(0.3) {
            change(&source, scenario, &mut dice, &mut dated, 5).await;
        }
    }
    // Faults are over: one more run, and all is right.
    let before = Before { source: source.contents().await, target: target.contents().await };
    let (report, failed) = run(scenario, Faulty::none(&source, &target, &state)).await;
    assert_done(&report);
    let after = target.contents().await;
    check(scenario, &before, &after, &report, &failed, &|| format!("{report:#?}"));
    check_manifest(&state, &before.source, &after).await;
    let (again, _) = run(scenario, Faulty::none(&source, &target, &state)).await;
    assert_done(&again);
    assert_eq!((again.summary.counts.copied, again.summary.counts.deleted, again.summary.bytes.written), (0, 0, 0));
    target.assert_nothing_left_over();
}

/// Both sides as a run finds them.
struct Before {
    source: Contents,
    target: Contents,
}

fn assert_done(report: &Report) {
    assert_eq!(report.summary.exit_code.code(), 0, "{:?}\n{:#?}", report.failure, report.summary);
}

/// All that must hold after any run, whatever went wrong in it.
fn check(
    scenario: Scenario,
    before: &Before,
    after: &Contents,
    report: &Report,
    failed: &[(ObjectKey, Option<String>)],
    shown: &dyn Fn() -> String,
) {
    let keys: BTreeSet<&ObjectKey> = before.source.keys().chain(before.target.keys()).chain(after.keys()).collect();
    for key in keys {
        let (old, new, now) = (before.target.get(key), before.source.get(key), after.get(key));
        let right = now == old || (now == new && (new.is_some() || scenario.delete));
        assert!(right, "{}: neither the old version nor the new one: {}", key.escaped(), shown());
        assert!(now.is_some() || old.is_none() || new.is_none(), "{} is lost: {}", key.escaped(), shown());
    }
    let code = report.summary.exit_code.code();
    if report.failure.is_none() {
        let listed: BTreeSet<&ObjectKey> = before.source.keys().chain(before.target.keys()).collect();
        let counts = report.summary.counts;
        assert_eq!(counts.listed, listed.len() as u64, "{}", shown());
        let sum = counts.equal + counts.copied + counts.deleted + counts.skipped + counts.failed;
        assert_eq!(sum, counts.listed, "{}", shown());
        assert_eq!(counts.failed, failed.len() as u64, "{}", shown());
    }
    if code != 0 {
        // Never in silence: the run says why, or every key that failed is named with its error.
        let said = report.failure.as_ref().map(|failure| failure.message.as_str());
        let named = failed
            .iter()
            .all(|(key, error)| error.as_ref().is_some_and(|error| error.contains(key.escaped().as_ref())));
        assert!(said.map_or(!failed.is_empty() && named, |said| !said.is_empty()), "{}", shown());
        return;
    }
    assert_eq!(failed, [], "{}", shown());
    for (key, body) in &before.source {
        assert_eq!(after.get(key), Some(body), "{} is not what the source has: {}", key.escaped(), shown());
    }
    let wanted = |key: &ObjectKey| before.source.contains_key(key) || !scenario.delete;
    assert!(after.keys().all(wanted), "not a mirror: {}", shown());
}

/// The committed manifest names all that the source has, with the hashes of what stands on the target; besides that at most
/// extras that the target keeps.
async fn check_manifest(state: &MemoryStore, source: &Contents, target: &Contents) {
    let mut pair = Pair::new(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    pair.state = Arc::new(ObjectState::new(Arc::new(state.clone())).unwrap());
    let manifest = commit::committed_manifest(&pair.job()).await.unwrap().0.expect("a manifest");
    let mut rows = BTreeMap::new();
    let mut batches = std::pin::pin!(manifest.entries());
    while let Some(batch) = futures::StreamExt::next(&mut batches).await {
        rows.extend(batch.unwrap().into_iter().map(|row| (row.key.clone(), row)));
    }
    assert!(rows.keys().all(|key| target.contains_key(key)), "rows of nothing");
    for key in source.keys() {
        let row = rows.get(key).unwrap_or_else(|| panic!("{} is not in the manifest", key.escaped()));
        // Equal content ETags prove a pair without a hash.
        if let Some(hash) = row.hash {
            assert_eq!(hash, ContentHash::of(&target[key]), "{} in the manifest", key.escaped());
        }
        assert_eq!(row.fingerprint.size_bytes, target[key].len() as u64);
    }
}

/// The stores of one run, with the faults that they have.
struct Faulty {
    /// Source, target, state.
    stores: [FaultStore; 3],
    plans: [FaultPlan; 3],
    /// Requests for state are tried again, as those of both sides are.
    state_retries: bool,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("plans", &self.plans).field("state_retries", &self.state_retries).finish()
    }
}

impl Faulty {
    fn new(source: &Side, target: &Side, state: &MemoryStore, plans: [FaultPlan; 3], state_retries: bool) -> Self {
        let inner: [Arc<dyn Store>; 3] = [source.store.clone(), target.store.clone(), Arc::new(state.clone())];
        let mut inner = inner.into_iter();
        let stores = plans.clone().map(|plan| FaultStore::new(inner.next().expect("three"), plan));
        Self { stores, plans, state_retries }
    }

    fn none(source: &Side, target: &Side, state: &MemoryStore) -> Self {
        Self::new(source, target, state, Default::default(), false)
    }

    fn roll(source: &Side, target: &Side, state: &MemoryStore, scenario: Scenario, dice: &mut StdRng) -> Self {
        // From a bad day to a store that cannot be worked with.
        let worst = [0.02, 0.1, 0.3][dice.random_range(0..3)];
        let state_retries = dice.random_bool(0.5);
        let mut plan = |kind: Kind, is_state: bool| {
            let seed = dice.random();
            let mut chance = |possible: bool| match possible && dice.random_bool(0.6) {
                true => dice.random_range(0.0..worst),
                false => 0.0,
            };
            // Damage on the way in can be seen only where something is known of the content: an ETag of the whole, which
            // objects read in parts do not check, or the digests of the state's own files.
            let known = kind != Kind::Local && !is_state && !scenario.large;
            let chances = Chances {
                delay: chance(true),
                reset: chance(true),
                storm: chance(true) / 4.0,
                lost_answer: chance(true),
                truncate: chance(true),
                flip_read: chance(known),
                flip_write: chance(true),
                repeat_batch: chance(!is_state),
                reverse_batch: chance(!is_state),
                ..Chances::default()
            };
            let batch_keys = Some(dice.random_range(1..12));
            FaultPlan { seed, chances, batch_keys, ..FaultPlan::default() }
        };
        let plans = [plan(scenario.source, false), plan(scenario.target, false), plan(Kind::Memory, true)];
        Self::new(source, target, state, plans, state_retries)
    }
}

/// Runs `copy` once; also returns the keys that were reported as failed.
async fn run(scenario: Scenario, faulty: Faulty) -> (Report, Vec<(ObjectKey, Option<String>)>) {
    let Faulty { stores: [source, target, state], state_retries, .. } = faulty;
    let mut pair = Pair::new(Arc::new(source), Arc::new(target));
    let state: Arc<dyn Store> = Arc::new(state);
    let state = match state_retries {
        true => {
            let (meter, token) = (Arc::new(Meter::default()), CancellationToken::new());
            Arc::new(Retried::new(state, RetryPolicy::default(), 2, meter, token))
        }
        false => state,
    };
    pair.state = Arc::new(ObjectState::new(state).unwrap());
    pair.retries = true;
    pair.options.delete = scenario.delete;
    pair.options.max_deletes = Some(Cap::Percent(100.0));
    let report = copy_in_paused_time(&pair).await;
    let failed = pair.reports().into_iter().filter(|report| report.outcome == Outcome::Failed);
    (report, failed.map(|report| (report.key, report.error)).collect())
}

/// Two trees that share some objects, differ in others, and have some of their own.
async fn build(source: &Side, target: &Side, scenario: Scenario, dice: &mut StdRng, dated: &mut Dated) {
    let count = if scenario.large { 6 } else { 40 };
    for i in 0..count {
        let key = key(dice, i);
        let body = body(dice, scenario);
        if dice.random_bool(0.9) || i == 0 {
            source.write(&key, &body, dated).await;
        }
        match dice.random_range(0..6) {
            0 => target.write(&key, &body, dated).await,
            1 => target.write(&key, &other(&body), dated).await,
            2 => target.write(&key, &self::body(dice, scenario), dated).await,
            _ => {}
        }
    }
}

/// Random changes: new objects, other bytes of the same length, renames, removals.
async fn change(side: &Side, scenario: Scenario, dice: &mut StdRng, dated: &mut Dated, most: u32) {
    for _ in 0..dice.random_range(0..=most) {
        let contents = side.contents().await;
        let existing: Vec<(&ObjectKey, &Vec<u8>)> = contents.iter().collect();
        // The last object stays: an empty source is another matter.
        let kind = if existing.len() < 2 { 0 } else { dice.random_range(0..4) };
        let number = dice.random_range(1000..2000);
        let new = key(dice, number);
        if kind == 0 {
            side.write(&new, &body(dice, scenario), dated).await;
            continue;
        }
        let (key, body) = existing[dice.random_range(0..existing.len())];
        match kind {
            1 => side.write(key, &other(body), dated).await,
            2 => {
                side.write(&new, body, dated).await;
                side.remove(key).await;
            }
            _ => side.remove(key).await,
        }
    }
}

/// Names that sort around the slash, and some that need escaping in one store or the other. No file is also a folder.
fn key(dice: &mut StdRng, number: usize) -> ObjectKey {
    const FOLDERS: [&str; 6] = ["", "d/", "d-/", "d/e/", "d 1/\u{f6}/", "d%2F/"];
    const NAMES: [&str; 6] = ["f", "f-", "f.", "f 0", "f%41", "f\u{1f600}+#"];
    let (folder, name) = (FOLDERS[dice.random_range(0..6)], NAMES[dice.random_range(0..6)]);
    format!("{folder}{name}{number}").as_str().into()
}

/// Nothing, or so much that two damages in a row are never at the same byte.
fn body(dice: &mut StdRng, scenario: Scenario) -> Vec<u8> {
    const SMALL: [usize; 7] = [0, 1023, 1024, 1025, 4096, 30_000, 150_000];
    const LARGE: [usize; 5] = [MIB - 1, MIB + 1, 5 * MIB + 1, 6 * MIB, 11 * MIB + 17];
    let size = match scenario.large && dice.random_bool(0.4) {
        true => LARGE[dice.random_range(0..LARGE.len())],
        false => SMALL[dice.random_range(0..SMALL.len())],
    };
    let mut body = vec![0; size];
    dice.fill(&mut body[..]);
    body
}

/// Other bytes of the same length.
fn other(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    match body.last_mut() {
        Some(byte) => *byte ^= 1,
        None => body.push(b'x'),
    }
    body
}

#[test]
fn memory_to_memory() {
    let (source, target) = (Kind::Memory, Kind::Memory);
    scenario(Scenario { name: "memory_to_memory", source, target, delete: false, large: false });
}

#[test]
fn memory_to_memory_mirrored() {
    let (source, target) = (Kind::Memory, Kind::Memory);
    scenario(Scenario { name: "memory_to_memory_mirrored", source, target, delete: true, large: false });
}

#[test]
fn local_to_memory() {
    let (source, target) = (Kind::Local, Kind::Memory);
    scenario(Scenario { name: "local_to_memory", source, target, delete: true, large: false });
}

#[test]
fn memory_to_local() {
    let (source, target) = (Kind::Memory, Kind::Local);
    scenario(Scenario { name: "memory_to_local", source, target, delete: true, large: false });
}

#[test]
fn large_objects() {
    let (source, target) = (Kind::Memory, Kind::Memory);
    scenario(Scenario { name: "large_objects", source, target, delete: true, large: true });
}

/// Nothing is sent unless something has to be: the service copies, and its answers get lost like any others.
#[test]
fn copied_by_the_service() {
    let (source, target) = (Kind::Service, Kind::Service);
    scenario(Scenario { name: "copied_by_the_service", source, target, delete: true, large: false });
}

#[test]
fn large_objects_copied_by_the_service() {
    let (source, target) = (Kind::Service, Kind::Service);
    scenario(Scenario { name: "large_objects_copied_by_the_service", source, target, delete: true, large: true });
}
