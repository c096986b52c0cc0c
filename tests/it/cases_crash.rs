//! A crash at every single change that a run makes, to the target or to its state: whatever it leaves, the next run ends
//! where a run without a crash ends, does nothing twice that was recorded, and leaves nothing behind.
//!
//! Each seed decides the trees and what changed since the last run. A failing seed prints the command that runs it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use distcp::options::Cap;
use distcp::run::{self, Report};
use distcp::store::memory::MemoryStore;
use distcp::store::state::ObjectState;
use manifest::state::journal::{self, JournalReader, Record};
use manifest::state::layout::{self, JobName};
use manifest::state::local::LocalState;
use manifest::state::memory::MemoryState;
use manifest::state::{StateStore, checkpoint};
use manifest::{ContentHash, Evidence, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tests::crash::{CrashingState, bury};
use tests::fault::{CrashSwitch, Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;
use tests::services;
use tests::timing::copy_in_paused_time;

use crate::faults_trees::{Contents, Dated, Kind, Side};

const MIB: usize = 1 << 20;
/// The length of the parts of objects as large as these, with the smallest chunks.
const PART_BYTES: usize = 8 * MIB;
/// With `cargo xtask test --long` there are so many times more seeds.
const LONG: u64 = 10;
/// No run makes so many changes; a loop that got here does not end.
const MOST_CHANGES: u64 = 1000;

/// Paused time within which a run ends. Generous: while a plan is made it moves faster than the work.
const RUN_LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StateKind {
    /// In memory, away from this machine: a silent lease is watched for its whole time.
    Memory,
    /// In an object store.
    Object,
    /// In a folder: a holder whose process is gone is taken over at once.
    Local,
}

/// What runs between what.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    /// The name of the test function.
    name: &'static str,
    source: Kind,
    target: Kind,
    state: StateKind,
    /// One or two of the objects go in parts.
    large: bool,
    seeds: u64,
}

/// Names what failed when a test panics while it runs.
struct Named {
    seed: u64,
    at: String,
    scenario: Scenario,
}

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Named { seed, at, scenario } = self;
            let name = scenario.name;
            eprintln!(
                "{at} failed; alone: UNDERSTUDY_TEST_SEED={seed} cargo test -p tests --test it cases_crash::{name}"
            );
        }
    }
}

/// Where a run dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Before the change after so many is done.
    Before(u64),
    /// After so many changes, before the answer to the last of them.
    After(u64),
}

impl Moment {
    fn switch(self) -> Arc<CrashSwitch> {
        match self {
            Moment::Before(n) => CrashSwitch::before(n),
            Moment::After(n) => CrashSwitch::after(n),
        }
    }
}

fn scenario(scenario: Scenario) {
    let alone = std::env::var("UNDERSTUDY_TEST_SEED").ok();
    let seeds = match &alone {
        Some(seed) => seed.parse().map(|seed: u64| seed..seed + 1).expect("UNDERSTUDY_TEST_SEED is a number"),
        None => 0..if services::long() { LONG * scenario.seeds } else { scenario.seeds },
    };
    let mut tally = Tally::default();
    for seed in seeds {
        for before in [true, false] {
            for n in 0..=MOST_CHANGES {
                let moment = if before { Moment::Before(n) } else { Moment::After(n) };
                let _named = Named { seed, at: format!("seed {seed}, {moment:?}"), scenario };
                let paused = scenario.state != StateKind::Local;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(paused).build();
                let crashed = runtime.expect("a runtime").block_on(one(scenario, seed, moment, &mut tally));
                assert!(n < MOST_CHANGES, "a run without end");
                if !crashed {
                    break;
                }
            }
        }
    }
    println!("{}: {tally:?}", scenario.name);
    let Tally { crashes, journalled_objects, journalled_parts, committed, .. } = tally;
    assert!(
        alone.is_some()
            || (crashes > 20 && journalled_objects > 0 && (journalled_parts > 0) == scenario.large && committed > 0),
        "these dice prove nothing: {tally:?}"
    );
}

/// What the crashes of a scenario left.
#[derive(Debug, Default)]
struct Tally {
    crashes: u64,
    twice: u64,
    /// Objects that a journal said were done, over all crashes.
    journalled_objects: u64,
    /// Parts of unfinished uploads.
    journalled_parts: u64,
    /// Crashes after the checkpoint had moved.
    committed: u64,
    /// Uploads that no journal could know yet.
    orphans: u64,
}

/// Source, target and state of a job.
struct World {
    source: Side,
    target: Side,
    state: Arc<dyn StateStore>,
    state_folder: Option<TempDir>,
}

/// A run over a world.
struct Ran {
    report: Report,
    source: Arc<FaultStore>,
    target: Arc<FaultStore>,
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state: Arc<dyn StateStore> = match scenario.state {
            StateKind::Memory => Arc::new(MemoryState::new()),
            StateKind::Object => Arc::new(ObjectState::new(Arc::new(MemoryStore::new())).expect("it has conditions")),
            StateKind::Local => Arc::new(LocalState::open(folder.path(), true).expect("a state folder")),
        };
        let state_folder = (scenario.state == StateKind::Local).then_some(folder);
        Self { source: Side::new(scenario.source), target: Side::new(scenario.target), state, state_folder }
    }

    async fn run(&self, crash: Arc<CrashSwitch>) -> Ran {
        // Every write takes a while, so that the journal is written between them; but files of the state take real time.
        let instant = self.state_folder.is_some();
        let slow = |method, ms| Rule::every(method, Fault::Delay(Duration::from_millis(ms)));
        let parts = slow(Method::PutPart, 3000).from_call(2);
        let slowness =
            vec![slow(Method::Put, 1100), slow(Method::Copy, 1100), parts, slow(Method::CompleteUpload, 3000)];
        let rules = if instant { Vec::new() } else { slowness };
        let plan = FaultPlan { rules, ..FaultPlan::default() };
        let source = Arc::new(FaultStore::with_crash(self.source.store.clone(), FaultPlan::default(), crash.clone()));
        let target = Arc::new(FaultStore::with_crash(self.target.store.clone(), plan, crash.clone()));
        let mut pair = Pair::new(source.clone(), target.clone());
        pair.local_target = self.target.local.clone();
        pair.state = Arc::new(CrashingState::new(self.state.clone(), crash));
        pair.limits.concurrency = 2;
        pair.options.delete = true;
        pair.options.max_deletes = Some(Cap::Percent(100.0));
        let run = async {
            match instant {
                true => run::copy(&pair.job()).await,
                false => copy_in_paused_time(&pair).await,
            }
        };
        let report = tokio::time::timeout(RUN_LIMIT, run).await.expect("a run ends");
        Ran { report, source, target }
    }

    /// The process of the last run is gone, as far as a lease in a folder of this machine tells.
    fn bury(&self) {
        let Some(folder) = &self.state_folder else { return };
        let path = folder.path().join(layout::lease(&job()));
        if let Ok(lease) = std::fs::read(&path) {
            std::fs::write(&path, bury(&lease)).expect("the lease of the dead");
        }
    }

    async fn committed_run(&self) -> Option<String> {
        let summary = checkpoint::load_summary(self.state.as_ref(), &job()).await.expect("a whole checkpoint");
        summary.map(|summary| summary.run_id.to_string())
    }

    /// What the journals of unfinished runs say.
    async fn journalled(&self) -> Journalled {
        let summary = checkpoint::load_summary(self.state.as_ref(), &job()).await.expect("a whole checkpoint");
        let after = summary.map(|summary| summary.run_id);
        let runs = journal::unfinished_runs(self.state.as_ref(), &job(), after.as_ref()).await.expect("whole journals");
        let mut journalled = Journalled::default();
        for run in runs {
            let mut reader = JournalReader::open(self.state.clone(), &job(), &run).await.expect("a whole journal");
            while let Some(records) = reader.next_batch().await.expect("a whole segment") {
                records.into_iter().for_each(|record| journalled.add(record));
            }
        }
        journalled
    }
}

fn job() -> JobName {
    JobName::new("test").expect("a good name")
}

#[derive(Debug, Default)]
struct Journalled {
    done: BTreeSet<ObjectKey>,
    /// Key, and numbers of finished parts, by id.
    uploads: BTreeMap<String, (ObjectKey, BTreeSet<u32>)>,
}

impl Journalled {
    fn add(&mut self, record: Record) {
        match record {
            Record::Done { entry } => drop(self.done.insert(entry.key)),
            Record::UploadBegun { key, upload_id, .. } => drop(self.uploads.insert(upload_id, (key, BTreeSet::new()))),
            Record::PartDone { upload_id, number, .. } => {
                let upload = self.uploads.get_mut(&upload_id).expect("an upload is begun before its parts");
                upload.1.insert(number);
            }
            Record::UploadEnded { upload_id, .. } => drop(self.uploads.remove(&upload_id)),
            _ => {}
        }
    }
}

/// Crashes once at `moment`, goes on, and looks at all that is there in the end. False when the run ended before.
async fn one(scenario: Scenario, seed: u64, moment: Moment, tally: &mut Tally) -> bool {
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::new(scenario);
    build(&world, scenario, &mut dice).await;
    let (wanted, old) = (world.source.contents().await, world.target.contents().await);
    let committed = world.committed_run().await;

    let crash = moment.switch();
    let ran = world.run(crash.clone()).await;
    if !crash.crashed() {
        assert_done(&ran.report);
        ends_well(&world, &wanted, &Journalled::default(), tally).await;
        return false;
    }
    tally.crashes += 1;
    nothing_is_lost(&wanted, &old, &world.target.contents().await, &ran.report);
    world.bury();
    // A second crash, in the run that goes on; the same trees at every moment, but not the same second crash.
    let mut dice = StdRng::seed_from_u64(tally.crashes);
    if dice.random_bool(0.2) {
        let again = CrashSwitch::after(dice.random_range(1..30));
        let ran = world.run(again.clone()).await;
        if again.crashed() {
            tally.twice += 1;
            nothing_is_lost(&wanted, &old, &world.target.contents().await, &ran.report);
        }
        world.bury();
    }

    let journalled = world.journalled().await;
    tally.journalled_objects += journalled.done.len() as u64;
    tally.journalled_parts += journalled.uploads.values().map(|(_, parts)| parts.len() as u64).sum::<u64>();
    let committed = world.committed_run().await != committed;
    tally.committed += u64::from(committed);
    let arrived = world.target.contents().await;

    let ran = world.run(CrashSwitch::never()).await;
    assert_done(&ran.report);
    let shown = || format!("{journalled:#?}\n{:#?}\n{:#?}\n{:#?}", ran.report, ran.source, ran.target);
    assert!(!committed || ran.report.summary.bytes.read == 0, "all was committed: {}", shown());
    for key in &journalled.done {
        let gets = ran.source.calls_on(Method::Get, key.clone()) + ran.target.calls_on(Method::Get, key.clone());
        assert_eq!(gets, 0, "{} was done: {}", key.escaped(), shown());
    }
    for (key, body) in &wanted {
        let gets = ran.source.calls_on(Method::Get, key.clone());
        let held = journalled.uploads.values().filter(|(of, _)| of == key).map(|(_, parts)| parts.len()).max();
        let parts = body.len().div_ceil(PART_BYTES).max(1);
        // What arrived without a word in the journal is read once more, whole.
        let left = if arrived.get(key) == Some(body) { parts } else { parts - held.unwrap_or(0) };
        assert!(gets <= left as u64, "{}: {gets} reads, {left} parts were left: {}", key.escaped(), shown());
    }
    ends_well(&world, &wanted, &journalled, tally).await;
    true
}

fn assert_done(report: &Report) {
    assert_eq!(report.summary.exit_code.code(), 0, "{:?}\n{:#?}", report.failure, report.summary);
    let counts = report.summary.counts;
    let sum = counts.equal + counts.copied + counts.deleted + counts.skipped + counts.failed;
    assert_eq!((sum, counts.skipped, counts.failed), (counts.listed, 0, 0), "{counts:?}");
}

/// Right after a crash each key holds its old version or its new one, and nothing was deleted before all was copied.
fn nothing_is_lost(wanted: &Contents, old: &Contents, now: &Contents, report: &Report) {
    for key in wanted.keys().chain(old.keys()).chain(now.keys()) {
        let (old, new, now) = (old.get(key), wanted.get(key), now.get(key));
        assert!(now == old || now == new, "{}: neither old nor new: {report:#?}", key.escaped());
    }
    let deleted = old.keys().any(|key| !wanted.contains_key(key) && !now.contains_key(key));
    let copied = wanted.iter().all(|(key, body)| now.get(key) == Some(body));
    assert!(!deleted || copied, "deletes came before copies: {report:#?}");
}

/// After a run that was done: a mirror, a manifest that says so, nothing left over, and nothing more to do.
async fn ends_well(world: &World, wanted: &Contents, journalled: &Journalled, tally: &mut Tally) {
    assert_eq!(&world.source.contents().await, wanted, "the source is only read");
    let target = world.target.contents().await;
    assert!(&target == wanted, "not a mirror: {:?} is not {:?}", target.keys(), wanted.keys());
    rows_are_right(world, &target).await;
    world.target.assert_nothing_left_over();
    let left = world.target.uploads();
    // Between its beginning and its record in the journal nobody knows an upload but the store.
    assert!(left.iter().all(|id| !journalled.uploads.contains_key(&id.0)), "{left:?} of {journalled:#?}");
    tally.orphans += left.len() as u64;
    let lease = world.state.get(&layout::lease(&job())).await.expect("readable").expect("there").0;
    assert!(String::from_utf8_lossy(&lease).contains("\"released\": true"), "the lease was given back");

    let again = world.run(CrashSwitch::never()).await;
    assert_done(&again.report);
    let summary = &again.report.summary;
    let did = (summary.counts.copied, summary.counts.deleted, summary.bytes.read, summary.bytes.written);
    assert_eq!(did, (0, 0, 0, 0), "{summary:#?}");
    assert_eq!((again.target.mutating_calls(), world.target.uploads()), (0, left));
}

/// The committed manifest is what a manifest of the target made from nothing would be; a hash may be missing where equal
/// content ETags proved a pair.
async fn rows_are_right(world: &World, target: &Contents) {
    let mut pair = Pair::new(world.source.store.clone(), world.target.store.clone());
    pair.state = world.state.clone();
    let rows = pair.rows().await;
    assert!(rows.iter().map(|row| &row.key).eq(target.keys()), "{rows:#?}");
    for row in rows {
        let body = &target[&row.key];
        assert_eq!(row.size_bytes(), body.len() as u64, "{}", row.key.escaped());
        match row.hash {
            Some(hash) => assert_eq!(hash, ContentHash::of(body), "{}", row.key.escaped()),
            None => assert_eq!(row.evidence, Evidence::Etag, "{}", row.key.escaped()),
        }
    }
}

/// Two trees, mostly with a run between them, and then every kind of change.
async fn build(world: &World, scenario: Scenario, dice: &mut StdRng) {
    let (source, target) = (&world.source, &world.target);
    let mut dated = Dated::default();
    let large = |dice: &mut StdRng| {
        let size = [PART_BYTES + 17, PART_BYTES + MIB][dice.random_range(0..2)];
        body(dice, if scenario.large { size } else { 70_000 })
    };
    for name in ["a", "b/same", "b/renamed", "b-changed", "gone", "swapped"] {
        let size = [1, 1025, 30_000][dice.random_range(0..3)];
        let bytes = body(dice, size);
        source.write(&name.into(), &bytes, &mut dated).await;
        if dice.random_bool(0.3) {
            target.write(&name.into(), &bytes, &mut dated).await;
        }
    }
    source.write(&"empty".into(), b"", &mut dated).await;
    source.write(&"large/1".into(), &large(dice), &mut dated).await;
    target.write(&"extra/old".into(), b"extra", &mut dated).await;
    // Without it the run that crashes is the first.
    if dice.random_bool(0.3) {
        return;
    }
    assert_done(&world.run(CrashSwitch::never()).await.report);
    let contents = source.contents().await;
    for (from, to) in [("b/renamed", "c/renamed"), ("swapped", "a")] {
        source.write(&to.into(), &contents[&from.into()], &mut dated).await;
        source.remove(&from.into()).await;
    }
    source.remove(&"gone".into()).await;
    source.write(&"b-changed".into(), &body(dice, 2000), &mut dated).await;
    source.write(&"new".into(), &body(dice, 500), &mut dated).await;
    target.write(&"b/same".into(), b"somebody else's", &mut dated).await;
    target.write(&"extra/new".into(), b"extra", &mut dated).await;
    match dice.random_range(0..3) {
        0 => source.write(&"large/1".into(), &large(dice), &mut dated).await,
        1 => source.write(&"large/2".into(), &large(dice), &mut dated).await,
        _ => {
            source.write(&"large/2".into(), &contents[&"large/1".into()], &mut dated).await;
            source.remove(&"large/1".into()).await;
        }
    }
}

/// A random piece of random bytes, which are made only once: trees are built hundreds of times.
fn body(dice: &mut StdRng, size: usize) -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut bytes = vec![0; PART_BYTES + 2 * MIB];
        StdRng::seed_from_u64(0).fill(&mut bytes[..]);
        bytes
    });
    let start = dice.random_range(0..=BYTES.len() - size);
    BYTES[start..start + size].to_vec()
}

#[test]
fn case_30_memory_to_memory_crashed_at_every_change() {
    let (source, target, state) = (Kind::Memory, Kind::Memory, StateKind::Memory);
    let name = "case_30_memory_to_memory_crashed_at_every_change";
    scenario(Scenario { name, source, target, state, large: false, seeds: 1 });
}

#[test]
fn case_30_local_to_memory_crashed_at_every_change() {
    let (source, target, state) = (Kind::Local, Kind::Memory, StateKind::Object);
    let name = "case_30_local_to_memory_crashed_at_every_change";
    scenario(Scenario { name, source, target, state, large: false, seeds: 1 });
}

#[test]
fn case_30_memory_to_local_crashed_at_every_change() {
    let (source, target, state) = (Kind::Memory, Kind::Local, StateKind::Memory);
    let name = "case_30_memory_to_local_crashed_at_every_change";
    scenario(Scenario { name, source, target, state, large: false, seeds: 1 });
}

#[test]
fn case_29_large_objects_crashed_at_every_change() {
    let (source, target, state) = (Kind::Memory, Kind::Memory, StateKind::Memory);
    let name = "case_29_large_objects_crashed_at_every_change";
    scenario(Scenario { name, source, target, state, large: true, seeds: 1 });
}

#[test]
fn case_29_large_files_crashed_at_every_change() {
    let (source, target, state) = (Kind::Local, Kind::Local, StateKind::Memory);
    let name = "case_29_large_files_crashed_at_every_change";
    scenario(Scenario { name, source, target, state, large: true, seeds: 1 });
}

#[test]
fn case_47_state_in_a_folder_crashed_at_every_change() {
    let (source, target, state) = (Kind::Memory, Kind::Local, StateKind::Local);
    let name = "case_47_state_in_a_folder_crashed_at_every_change";
    scenario(Scenario { name, source, target, state, large: false, seeds: 1 });
}
