use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio::time::advance;

use super::*;
use crate::state::checkpoint::tests_support;
use crate::state::contract::{Fault, FlakyState};
use crate::state::journal::{FLUSH_EVERY, JournalWriter, MAX_RECORDS};
use crate::state::lease::{DURATION, Holder, LeaseGuard};
use crate::state::memory::MemoryState;
use crate::state::receipt::Receipt;

const DAY: Duration = Duration::from_secs(MIN_AGE_S);

fn job() -> JobName {
    JobName::new("job").unwrap()
}

fn run(number: usize) -> RunId {
    format!("20261121T00{:02}{:02}Z-00000000", number / 60, number % 60).parse().unwrap()
}

fn part(number: u8) -> String {
    format!("{}{number:064x}", layout::parts(&job()))
}

async fn put(store: &dyn StateStore, name: &str, bytes: impl Into<Bytes>) {
    // A part that is there already is shared.
    store.create(name, bytes.into()).await.unwrap();
}

async fn put_index(store: &dyn StateStore, id: &str, parts: &[u8]) {
    for number in parts {
        put(store, &part(*number), vec![*number]).await;
    }
    let named: Vec<_> =
        parts.iter().map(|number| serde_json::json!({"digest": format!("{number:064x}"), "rows": 1})).collect();
    let index = serde_json::json!({"format": "any", "parts": named, "totals": {}});
    put(store, &layout::manifest(&job(), id), index.to_string()).await;
}

async fn put_receipt(store: &dyn StateStore, number: usize, manifest: Option<&str>, journal_needed: bool) {
    let sample = receipt::tests::sample(&job(), &run(number));
    let receipt = Receipt { manifest: manifest.map(str::to_owned), journal_needed, ..sample };
    receipt::write(store, &receipt).await.unwrap();
}

async fn put_checkpoint(store: &dyn StateStore, number: usize, manifest: &str) {
    let tag = store.get(&layout::checkpoint(&job())).await.unwrap().map(|(_, tag)| tag);
    let mut new = tests_support::sample(&job(), 0, "");
    new.run_id = run(number);
    new.manifest = Some(manifest.to_owned());
    checkpoint::commit(store, &new, tag.as_ref(), &LeaseGuard::default()).await.unwrap();
}

async fn put_journal(store: &Arc<dyn StateStore>, number: usize, parts: &[u8]) {
    let guard = LeaseGuard::default();
    let writer = JournalWriter::start(Arc::clone(store), &job(), &run(number), None, guard, FLUSH_EVERY, MAX_RECORDS);
    for number in parts {
        let digest = format!("{number:064x}");
        writer.handle().record(Record::ManifestPart { digest }).await.unwrap();
    }
    writer.handle().record(Record::Deleted { key: "x".into() }).await.unwrap();
    writer.finish().await.unwrap();
}

async fn lease(store: &Arc<dyn StateStore>) -> Lease {
    let holder = Holder::this_process("tester", "test 0", Timestamp::UNIX_EPOCH);
    let run = RunId::new(Timestamp::UNIX_EPOCH);
    Lease::acquire(Arc::clone(store), &job(), &run, holder, DURATION, &|_, _| {}).await.unwrap()
}

async fn gc(store: &Arc<dyn StateStore>, keep: usize) -> Result<Collected> {
    let lease = lease(store).await;
    let collected = collect(store, &job(), keep, &lease, &InUse::default()).await;
    lease.release().await.unwrap();
    collected
}

async fn names(store: &dyn StateStore) -> BTreeSet<String> {
    store.list("").await.unwrap().into_iter().map(|item| item.name).collect()
}

/// Two committed runs, both old; the second shares part 2 with the first.
async fn two_runs() -> Arc<dyn StateStore> {
    let store: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    put_index(&*store, "m1", &[1, 2]).await;
    put_checkpoint(&*store, 1, "m1").await;
    put_receipt(&*store, 1, Some("m1"), false).await;
    put_index(&*store, "m2", &[2, 3]).await;
    put_checkpoint(&*store, 2, "m2").await;
    put_receipt(&*store, 2, Some("m2"), false).await;
    advance(DAY).await;
    store
}

#[tokio::test(start_paused = true)]
async fn rule_17_what_no_kept_index_names_goes() {
    let store = two_runs().await;
    put(&*store, &part(9), "young").await;
    let collected = gc(&store, 1).await.unwrap();
    assert_eq!((collected.indexes, collected.parts, collected.runs), (1, 1, 1));
    let left = names(&*store).await;
    for (name, stays) in [
        (layout::manifest(&job(), "m1"), false),
        (layout::manifest(&job(), "m2"), true),
        (part(1), false),
        (part(2), true),
        (part(3), true),
        (part(9), true),
        (layout::receipt(&job(), &run(1)), false),
        (layout::receipt(&job(), &run(2)), true),
        (layout::checkpoint(&job()), true),
        (layout::lease(&job()), true),
    ] {
        assert_eq!(left.contains(&name), stays, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_17_kept_runs_keep_their_manifests() {
    let store = two_runs().await;
    let before = names(&*store).await;
    let collected = gc(&store, 2).await.unwrap();
    assert_eq!((collected.indexes, collected.parts, collected.runs), (0, 0, 0));
    assert!(names(&*store).await.is_superset(&before));
}

#[tokio::test(start_paused = true)]
async fn rule_17_without_a_lease_nothing_is_pruned() {
    let store = two_runs().await;
    let before = names(&*store).await;
    let collected = collect(&store, &job(), 0, &Lease::none(), &InUse::default()).await.unwrap();
    assert_eq!(collected, Collected::default());
    assert_eq!(names(&*store).await, before);
}

#[tokio::test(start_paused = true)]
async fn rule_17_the_lease_is_confirmed_right_before_the_sweep() {
    let memory = two_runs().await;
    let before = names(&*memory).await;
    let lease = lease(&memory).await;
    // Another run takes over while the indexes are read.
    let taken = Arc::clone(&memory);
    let store: Arc<dyn StateStore> = Arc::new(FlakyState::new(memory.clone(), move |operation, name, _| {
        if operation == "get" && name.contains("/manifests/") {
            let taking = taken.delete("job/lease.json");
            futures::FutureExt::now_or_never(taking).expect("memory never waits").unwrap();
        }
        Fault::None
    }));
    let error = collect(&store, &job(), 0, &lease, &InUse::default()).await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    assert_eq!(names(&*memory).await, before);
}

#[tokio::test(start_paused = true)]
async fn rule_17_an_index_that_cannot_be_read_stops_pruning() {
    for broken in ["{\"parts\": [", "{}", "{\"parts\":[{\"digest\":7}]}", "{\"parts\":[{\"digest\":\"not there\"}]}"] {
        let store = two_runs().await;
        store.delete(&layout::manifest(&job(), "m2")).await.unwrap();
        put(&*store, &layout::manifest(&job(), "m2"), broken).await;
        advance(DAY).await;
        let before = names(&*store).await;
        assert!(gc(&store, 1).await.is_err(), "{broken}");
        assert!(names(&*store).await.is_superset(&before), "{broken}");
    }
    let store = two_runs().await;
    store.delete(&layout::manifest(&job(), "m2")).await.unwrap();
    let error = gc(&store, 0).await.unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn rule_17_journals_and_callers_protect_what_they_name() {
    let store = two_runs().await;
    for number in [20, 21, 22] {
        put(&*store, &part(number), "orphan").await;
    }
    put_index(&*store, "planned", &[23]).await;
    put_journal(&store, 3, &[20]).await;
    advance(DAY).await;
    let lease = lease(&store).await;
    let in_use =
        InUse { manifests: ["planned".to_owned()].into(), parts: [format!("{:064x}", 21)].into(), ..InUse::default() };
    collect(&store, &job(), 0, &lease, &in_use).await.unwrap();
    let left = names(&*store).await;
    for (number, stays) in [(20, true), (21, true), (22, false), (23, true), (1, false), (2, true)] {
        assert_eq!(left.contains(&part(number)), stays, "part {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_journal_is_needed_stays() {
    let store = two_runs().await;
    for (number, receipt) in [(0, None), (3, None), (4, Some(true)), (5, Some(false))] {
        put_journal(&store, number, &[]).await;
        if let Some(needed) = receipt {
            put_receipt(&*store, number, None, needed).await;
        }
    }
    advance(DAY).await;
    gc(&store, 0).await.unwrap();
    let left = names(&*store).await;
    // 0 is older than the checkpoint; 5 ended and needs nothing; 2 is the checkpoint's own.
    for (number, stays) in [(0, false), (1, false), (2, true), (3, true), (4, true), (5, false)] {
        let folder = layout::run_folder(&job(), &run(number));
        assert_eq!(left.iter().any(|name| name.starts_with(&folder)), stays, "run {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_loses_its_receipt_last() {
    let store = two_runs().await;
    put_journal(&store, 0, &[]).await;
    put_receipt(&*store, 0, None, false).await;
    put(&*store, &layout::plan_segment(&job(), &run(0), 1), "plan").await;
    advance(DAY).await;
    let items = store.list("job/").await.unwrap();
    let doomed = plan_collection(&job(), items, &BTreeSet::new(), &BTreeSet::new(), &BTreeSet::new());
    let files: Vec<_> = doomed.runs.first().unwrap().iter().map(|item| item.name.clone()).collect();
    assert_eq!(
        files,
        [
            layout::plan_segment(&job(), &run(0), 1),
            layout::journal_segment(&job(), &run(0), 1),
            layout::receipt(&job(), &run(0))
        ]
    );
}

#[test]
fn rule_17_unknown_ages_are_spared() {
    let item = |name: String, age_s| StateItem { name, size_bytes: 1, age_s };
    let items = vec![
        item(part(1), None),
        item(part(2), Some(MIN_AGE_S - 1)),
        item(part(3), Some(MIN_AGE_S)),
        item(layout::manifest(&job(), "a"), Some(MIN_AGE_S)),
        item("job/parts/deeper/x".into(), Some(u64::MAX)),
        item("job/notes.txt".into(), Some(u64::MAX)),
        item("job/runs/not-a-run/x".into(), Some(u64::MAX)),
    ];
    let doomed = plan_collection(&job(), items, &BTreeSet::new(), &BTreeSet::new(), &BTreeSet::new());
    let gone: Vec<_> = doomed.parts.iter().chain(&doomed.indexes).map(|item| item.name.clone()).collect();
    assert_eq!(gone, [part(3), layout::manifest(&job(), "a")]);
    assert!(doomed.runs.is_empty());
}

/// One thing that happens to a job's folder.
#[derive(Debug, Clone)]
enum Op {
    /// A run that commits a manifest of these parts.
    Commit(Vec<u8>),
    /// A run that was killed; its journal names these parts.
    Killed(Vec<u8>),
    /// A run that a limit ended.
    EndedEarly(Vec<u8>),
    /// An index that is written and not committed yet.
    IndexOnly(Vec<u8>),
    /// A part without an index.
    Orphan(u8),
    Hours(u8),
    Prune(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let parts = || proptest::collection::vec(0..12u8, 0..5);
    prop_oneof![
        3 => parts().prop_map(Op::Commit),
        1 => parts().prop_map(Op::Killed),
        1 => parts().prop_map(Op::EndedEarly),
        1 => parts().prop_map(Op::IndexOnly),
        1 => (0..20u8).prop_map(Op::Orphan),
        3 => (1..40u8).prop_map(Op::Hours),
        3 => (0..4u8).prop_map(Op::Prune),
    ]
}

/// What the model knows of a run.
#[derive(Debug)]
struct Ran {
    manifest: Option<String>,
    parts: Vec<u8>,
    open: bool,
}

async fn history(ops: Vec<Op>) {
    let store: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    let mut ran: Vec<Ran> = Vec::new();
    let mut committed: Option<usize> = None;
    for (step, op) in ops.into_iter().enumerate() {
        let number = ran.len();
        match op {
            Op::Commit(parts) => {
                let id = format!("m{number}");
                put_index(&*store, &id, &parts).await;
                put_journal(&store, number, &parts).await;
                put_checkpoint(&*store, number, &id).await;
                put_receipt(&*store, number, Some(&id), false).await;
                committed = Some(number);
                ran.push(Ran { manifest: Some(id), parts, open: false });
            }
            Op::Killed(parts) => {
                for number in &parts {
                    put(&*store, &part(*number), "killed").await;
                }
                put_journal(&store, number, &parts).await;
                ran.push(Ran { manifest: None, parts, open: true });
            }
            Op::EndedEarly(parts) => {
                for number in &parts {
                    put(&*store, &part(*number), "early").await;
                }
                put_journal(&store, number, &parts).await;
                put_receipt(&*store, number, None, true).await;
                ran.push(Ran { manifest: None, parts, open: true });
            }
            Op::IndexOnly(parts) => put_index(&*store, &format!("only{step}"), &parts).await,
            Op::Orphan(number) => put(&*store, &part(number), "orphan").await,
            Op::Hours(hours) => advance(Duration::from_secs(u64::from(hours) * 3600)).await,
            Op::Prune(keep) => {
                let keep = usize::from(keep);
                let before = store.list("").await.unwrap();
                gc(&store, keep).await.unwrap();
                let left = names(&*store).await;
                // Young files, and the parts of young indexes.
                for item in before.iter().filter(|item| is_young(item) && !item.name.contains("/runs/")) {
                    assert!(left.contains(&item.name), "{} was young", item.name);
                }
                for item in before.iter().filter(|item| is_young(item)) {
                    if let Item::Index(_) = layout::classify(&job(), &item.name) {
                        let (bytes, _) = store.get(&item.name).await.unwrap().unwrap();
                        let index: IndexParts = serde_json::from_slice(&bytes).unwrap();
                        for named in index.parts {
                            assert!(left.contains(&format!("{}{}", layout::parts(&job()), named.digest)));
                        }
                    }
                }
                // The last runs are counted among those that an earlier pruning has left.
                let facts = run_facts(&job(), &before);
                let last_runs: Vec<RunId> = facts.into_keys().rev().take(keep).collect();
                for (number, ran) in ran.iter().enumerate() {
                    let last = last_runs.contains(&run(number));
                    let is_committed = committed == Some(number);
                    let needed = ran.open && committed.is_none_or(|committed| number >= committed);
                    if let Some(id) = &ran.manifest
                        && (is_committed || last)
                    {
                        assert!(left.contains(&layout::manifest(&job(), id)), "{id}");
                    }
                    if is_committed || last || needed {
                        for number in &ran.parts {
                            assert!(left.contains(&part(*number)), "part {number}");
                        }
                    }
                    if needed {
                        assert!(left.contains(&layout::journal_segment(&job(), &run(number), 1)));
                    }
                }
            }
        }
    }
    // In the end everything that nothing needs is gone.
    advance(DAY * 2).await;
    gc(&store, 0).await.unwrap();
    let mut needed: BTreeSet<u8> = BTreeSet::new();
    for (number, ran) in ran.iter().enumerate() {
        if committed == Some(number) || (ran.open && committed.is_none_or(|committed| number >= committed)) {
            needed.extend(&ran.parts);
        }
    }
    let expected: BTreeSet<String> = needed.into_iter().map(part).collect();
    let left: BTreeSet<String> = names(&*store).await.into_iter().filter(|name| name.contains("/parts/")).collect();
    assert_eq!(left, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rule_17_no_history_loses_what_is_needed(ops in proptest::collection::vec(op(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(history(ops));
    }
}
