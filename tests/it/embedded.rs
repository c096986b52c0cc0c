//! What programs that embed a copy can ask for: only some folders of a tree, and a word between copies and deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use distcp::copy::Ends;
use distcp::exit::ExitCode;
use distcp::job::Gate;
use distcp::list::within::Within;
use distcp::options::Cap;
use distcp::session::RunState;
use distcp::store::Store;
use distcp::store::memory::MemoryStore;
use manifest::ObjectKey;
use manifest::state::StateStore;
use manifest::state::checkpoint;
use manifest::state::memory::MemoryState;
use tests::contract::put;
use tests::crash::{CrashSwitch, CrashingState};
use tests::fault::{FaultPlan, FaultStore};
use tests::jobs::Pair;

/// Says what it is told to, and remembers what it saw.
struct Word {
    proceed: bool,
    target: MemoryStore,
    copied: AtomicU64,
}

#[async_trait::async_trait]
impl Gate for Word {
    async fn copied(&self, ends: &Ends) -> bool {
        let keys = self.target.objects();
        assert!(keys.contains_key(&ObjectKey::from("db/new")), "copies come before the gate");
        assert!(keys.contains_key(&ObjectKey::from("db/old")), "deletes come after the gate");
        self.copied.fetch_add(ends.copied, Ordering::Relaxed);
        self.proceed
    }
}

async fn filled(keys: &[&str]) -> MemoryStore {
    let store = MemoryStore::new();
    for key in keys {
        put(&store, key, Bytes::from((*key).to_owned())).await;
    }
    store
}

#[tokio::test]
async fn deletes_wait_for_the_gate_and_follow_its_word() {
    for proceed in [true, false] {
        let (source, target) = (filled(&["db/new", "db/same"]).await, filled(&["db/old", "db/same"]).await);
        let gate = Arc::new(Word { proceed, target: target.clone(), copied: AtomicU64::new(0) });
        let mut pair = Pair::new(Arc::new(source), Arc::new(target.clone()));
        pair.options.delete = true;
        pair.gate = Some(gate.clone());
        let report = pair.copy().await;
        assert!(gate.copied.load(Ordering::Relaxed) >= 1);
        let (code, kept) = if proceed { (ExitCode::Done, false) } else { (ExitCode::Partial, true) };
        assert_eq!(report.summary.exit_code, code, "{report:?}");
        assert_eq!(target.objects().contains_key(&ObjectKey::from("db/old")), kept);
    }
}

#[tokio::test]
async fn what_is_in_no_folder_of_the_job_is_neither_copied_nor_deleted() {
    let source = filled(&["db/a/1", "db/b/1", "db/ab/1", "other/1"]).await;
    let target = filled(&["db/a/gone", "db/b/mine", "db/a-b/mine"]).await;
    let mut pair = Pair::new(Arc::new(source), Arc::new(target.clone()));
    pair.options.delete = true;
    pair.within = Some(Within::new([ObjectKey::from("db/a")]));
    let report = pair.copied().await;
    assert_eq!((report.summary.counts.copied, report.summary.counts.deleted, report.summary.counts.listed), (1, 1, 2));
    let keys: Vec<String> = target.objects().keys().map(|key| key.escaped().to_string()).collect();
    assert_eq!(keys, ["db/a-b/mine", "db/a/1", "db/b/mine"]);
}

/// Remembers that it was asked: what it stands for has changed then.
#[derive(Default)]
struct Passed(AtomicBool);

#[async_trait::async_trait]
impl Gate for Passed {
    async fn copied(&self, _: &Ends) -> bool {
        self.0.store(true, Ordering::Relaxed);
        true
    }
}

/// A folder is given up, and the run crashes after this many changes; what somebody then writes there, and what the next run
/// leaves. The last: whether it crashed, and whether the gate was asked before.
async fn given_up(changes: u64) -> (Vec<String>, bool, bool) {
    let (source, target) = (MemoryStore::new(), filled(&["db/t/unknown"]).await);
    for at in 0..6 {
        put(&source, &format!("db/t/{at}"), "ours").await;
    }
    put(&source, "db/u/1", "ours").await;
    let state: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    let pair = |crash: Arc<CrashSwitch>| {
        let store = |store: &MemoryStore| -> Arc<dyn Store> {
            Arc::new(FaultStore::with_crash(Arc::new(store.clone()), FaultPlan::default(), crash.clone()))
        };
        let mut pair = Pair::new(store(&source), store(&target));
        pair.state = Arc::new(CrashingState::new(state.clone(), crash.clone()));
        (pair.leased, pair.options.delete, pair.options.max_deletes) = (false, true, Some(Cap::Percent(100.0)));
        let within = Within::new(["db/t", "db/u"].map(ObjectKey::from)).keep_others(true);
        pair.within = Some(within.emptied([ObjectKey::from("db/t")]));
        pair
    };
    let mut first = pair(CrashSwitch::never());
    (first.within, first.options.delete) = (None, false);
    first.copied().await;
    let (crash, gate) = (CrashSwitch::after(changes), Arc::new(Passed::default()));
    let mut second = pair(crash.clone());
    second.gate = Some(gate.clone());
    second.copy().await;
    for theirs in ["db/t/3", "db/t/new"] {
        put(&target, theirs, "somebody else's").await;
    }
    let mut third = pair(CrashSwitch::never());
    third.gate = Some(Arc::new(Passed::default()));
    let report = third.copy().await;
    assert_eq!(report.summary.exit_code, ExitCode::Done, "{report:?}");
    let left = target.objects().keys().map(|key| key.escaped().to_string()).collect();
    (left, crash.crashed(), gate.0.load(Ordering::Relaxed))
}

#[tokio::test]
async fn rule_28_wherever_a_run_crashes_the_next_one_deletes_what_was_on_record_and_nothing_that_others_wrote() {
    let (mut before, mut between) = (0, 0);
    for changes in 0.. {
        let (left, crashed, passed) = given_up(changes).await;
        if !crashed {
            break;
        }
        let all = ["db/t/3", "db/t/new", "db/u/1"];
        match passed {
            true => assert_eq!(left, all, "a crash after {changes} changes"),
            // It may not be on record yet, and nothing that names the folder has changed: all goes but what is known to be
            // somebody else's.
            false => assert!(left == all || left == ["db/t/3", "db/u/1"], "a crash after {changes} changes: {left:?}"),
        }
        *if passed { &mut between } else { &mut before } += 1;
    }
    assert!(before >= 3 && between >= 3, "{before} {between}");
}

/// Always says no.
struct Never;

#[async_trait::async_trait]
impl Gate for Never {
    async fn copied(&self, _: &Ends) -> bool {
        false
    }
}

#[tokio::test]
async fn rule_28_what_waits_for_its_removal_run_after_run_needs_one_journal() {
    let (source, target) = (MemoryStore::new(), filled(&["db/t/1", "db/t/2", "db/u/1"]).await);
    put(&source, "db/u/1", "db/u/1").await;
    let mut pair = Pair::new(Arc::new(source), Arc::new(target.clone()));
    (pair.options.delete, pair.options.max_deletes) = (true, Some(Cap::Percent(100.0)));
    let within = Within::new(["db/t", "db/u"].map(ObjectKey::from)).keep_others(true);
    pair.within = Some(within.emptied([ObjectKey::from("db/t")]));
    pair.gate = Some(Arc::new(Never));
    for _ in 0..4 {
        assert_eq!(pair.copy().await.summary.exit_code, ExitCode::Partial);
        let left = checkpoint::load::<RunState>(pair.state.as_ref(), &pair.job().name).await.unwrap().unwrap();
        assert_eq!(left.checkpoint.state.open_runs.len(), 1);
        assert_eq!(left.checkpoint.state.given_up, [ObjectKey::from("db/t")].into());
    }
    put(&target, "db/t/3", "somebody else's").await;
    pair.gate = Some(Arc::new(Passed::default()));
    pair.copied().await;
    let left: Vec<String> = target.objects().keys().map(|key| key.escaped().to_string()).collect();
    assert_eq!(left, ["db/t/3", "db/u/1"]);
}
