//! Rules on guards, filters, deletes, exit codes and memory (5 to 9, 19), through whole runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distcp::event::Outcome;
use distcp::filter::{Filter, Rule as Pattern};
use distcp::options::{Cap, Compare};
use distcp::store::StoreErrorKind;
use distcp::store::memory::MemoryStore;
use distcp::verify::Level;
use manifest::state::layout::MARKER;
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;
use tests::odd::OddStore;

const MIB: u64 = 1 << 20;

fn faulty(inner: &MemoryStore, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(inner.clone()), FaultPlan { rules, ..FaultPlan::default() }))
}

async fn filled(keys: impl IntoIterator<Item = String>) -> MemoryStore {
    let store = MemoryStore::new();
    for key in keys {
        put(&store, &key, Bytes::from(key.clone())).await;
    }
    store
}

fn pair(source: &MemoryStore, target: &MemoryStore) -> Pair {
    Pair::new(Arc::new(source.clone()), Arc::new(target.clone()))
}

fn keys(store: &MemoryStore) -> Vec<String> {
    store.objects().into_keys().map(|key| key.escaped().into_owned()).collect()
}

/// Runs and expects a refusal that names `option` and leaves target and state as they were.
async fn is_refused(pair: &Pair, target: &MemoryStore, option: &str) {
    let (objects, state) = (target.objects(), pair.state_files().await);
    let failure = pair.ends_with(5).await.failure.unwrap();
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains(option)), "{failure:?}");
    assert_eq!(target.objects(), objects, "nothing is done");
    let new: Vec<String> = pair.state_files().await.into_keys().filter(|name| !state.contains_key(name)).collect();
    let said = ["receipt.json", "lease.json", MARKER];
    assert!(new.iter().all(|name| said.iter().any(|end| name.ends_with(end))), "{new:?}");
    assert_eq!(pair.plan().await.unwrap_err().code.code(), 5, "a dry run says so, too");
}

#[tokio::test]
async fn rule_05_an_empty_source_is_refused_with_and_without_delete() {
    for delete in [false, true] {
        let (source, target) = (MemoryStore::new(), filled(["a".into(), "b".into()]).await);
        let mut pair = pair(&source, &target);
        pair.options.delete = delete;
        is_refused(&pair, &target, "--allow-empty-source").await;
        pair.options.allow_empty_source = true;
        let counts = pair.copied().await.summary.counts;
        assert_eq!((counts.deleted, counts.skipped), if delete { (2, 0) } else { (0, 2) });
    }
}

#[tokio::test]
async fn rule_06_deletes_stop_at_half_of_a_target_of_100_and_anywhere_below() {
    // Objects on the target, of them only there, given, refused.
    let table = [
        (100, 50, None, false),
        (100, 51, None, true),
        (99, 99, None, false),
        (100, 51, Some(Cap::Count(51)), false),
        (100, 51, Some(Cap::Count(50)), true),
        (10, 1, Some(Cap::Count(0)), true),
        (10, 2, Some(Cap::Percent(20.0)), false),
        (10, 3, Some(Cap::Percent(20.0)), true),
    ];
    for (there, extra, cap, refused) in table {
        let target = filled((0..there).map(|i| format!("k{i:03}"))).await;
        let source = filled((extra..there).map(|i| format!("k{i:03}")).chain(["new".into()])).await;
        let mut pair = pair(&source, &target);
        pair.options.delete = true;
        pair.options.max_deletes = cap;
        if refused {
            is_refused(&pair, &target, "--max-deletes").await;
            // Without deletes there is nothing to refuse.
            pair.options.delete = false;
            assert_eq!(pair.copied().await.summary.counts.deleted, 0);
        } else {
            assert_eq!(pair.copied().await.summary.counts.deleted, extra, "{extra} of {there} with {cap:?}");
        }
    }
}

#[tokio::test]
async fn rule_06_overwrites_have_no_limit_unless_one_is_given() {
    for (cap, refused) in [(None, false), (Some(Cap::Count(3)), false), (Some(Cap::Count(2)), true)] {
        let source = filled(["a", "b", "c", "new"].map(String::from)).await;
        let target = MemoryStore::new();
        for key in ["a", "b", "c"] {
            put(&target, key, "an older and longer version").await;
        }
        let mut pair = pair(&source, &target);
        pair.options.max_overwrites = cap;
        match refused {
            true => is_refused(&pair, &target, "--max-overwrites").await,
            false => assert_eq!(pair.copied().await.summary.counts.copied, 4),
        }
    }
}

fn pattern_rule(include: bool, pattern: &str) -> Pattern {
    Pattern { include, pattern: pattern.into() }
}

#[tokio::test]
async fn rule_07_what_the_source_has_is_never_an_extra_filtered_or_not() {
    let source = filled(["keep", "left.tmp", "seen-too-large"].map(String::from)).await;
    let target = filled(["left.tmp", "seen-too-large", "gone", "gone.tmp"].map(String::from)).await;
    put(&target, "seen-too-large", "small").await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    pair.options.filter.rules = vec![pattern_rule(false, "*.tmp")];
    pair.options.filter.max_size_bytes = Some(10);
    pair.copied().await;
    assert_eq!(pair.ended(Outcome::Deleted), ["gone"]);
    assert_eq!(pair.ended(Outcome::Skipped), ["gone.tmp", "left.tmp", "seen-too-large"]);
    assert_eq!(pair.report_of("seen-too-large").reason, "filtered by size");
    assert_eq!(target.objects()[&"seen-too-large".into()], "small", "neither deleted nor overwritten");
    // What the filters leave out goes only if the source does not have it.
    pair.options.delete_excluded = true;
    pair.copied().await;
    assert_eq!(pair.ended(Outcome::Deleted), ["gone.tmp"]);
    assert_eq!(keys(&target), ["keep", "left.tmp", "seen-too-large"]);
}

/// Sizes and ages are the source's: a small version on the target does not make a large object take part, or the reverse.
#[tokio::test]
async fn rule_07_sizes_and_ages_are_looked_at_on_the_source_only() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    put(&source, "small", vec![1; 5]).await;
    put(&source, "large", vec![1; 50]).await;
    put(&target, "small", vec![2; 500]).await;
    put(&target, "extra", vec![2; 500]).await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    pair.options.filter.max_size_bytes = Some(10);
    pair.copied().await;
    assert_eq!(
        (pair.ended(Outcome::Copied), pair.ended(Outcome::Deleted)),
        (vec!["small".into()], vec!["extra".into()])
    );
    pair.options.filter = Filter::default();
    pair.options.filter.newer_than_ns = Some(i64::MAX);
    put(&source, "small", vec![3; 5]).await;
    pair.copied().await;
    assert_eq!(pair.report_of("small").reason, "filtered by age");
    assert_eq!(target.objects()[&"small".into()], vec![1; 5]);
}

#[tokio::test]
async fn rule_07_an_include_leaves_out_what_matches_nothing() {
    let source = filled(["a.csv", "a.txt", "d/b.csv"].map(String::from)).await;
    let target = filled(["old.csv", "old.txt"].map(String::from)).await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    pair.options.filter.rules = vec![pattern_rule(true, "*.csv")];
    pair.copied().await;
    assert_eq!(keys(&target), ["a.csv", "d/b.csv", "old.txt"]);
}

#[tokio::test]
async fn rule_07_only_keys_of_files_from_are_copied_or_deleted() {
    let source = filled(["a", "b", "c"].map(String::from)).await;
    let target = filled(["listed-extra", "other-extra"].map(String::from)).await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    pair.options.delete_excluded = true;
    pair.options.filter.listed_only = true;
    pair.files = ["a", "c", "listed-extra", "nowhere"].map(|key| key.into()).to_vec();
    pair.copied().await;
    assert_eq!(pair.ended(Outcome::Copied), ["a", "c"]);
    assert_eq!(pair.ended(Outcome::Deleted), ["listed-extra"]);
    assert_eq!(keys(&target), ["a", "c", "other-extra"]);
}

#[tokio::test(start_paused = true)]
async fn rule_08_nothing_is_deleted_after_a_limit_a_failure_or_a_broken_listing() {
    let copies = Rule::every(Method::Put, Fault::Fail(StoreErrorKind::Other)).on("k1");
    let lists = |after| Rule::every(Method::List, Fault::Fail(StoreErrorKind::Server)).from_call(after);
    // What, at the source, on the target, the limit, the code.
    type Row = (&'static str, Vec<Rule>, Vec<Rule>, Option<u64>, u8);
    let table: [Row; 4] = [
        ("a failed copy", vec![], vec![copies], None, 3),
        ("a limit", vec![], vec![], Some(1), 10),
        ("a broken listing of the source", vec![lists(2)], vec![], None, 75),
        ("a broken listing of the target", vec![], vec![lists(2)], None, 75),
    ];
    for (what, at_source, at_target, max_bytes, code) in table {
        let source = filled((0..4).map(|i| format!("k{i}"))).await;
        let target = filled(["extra".into(), "z-extra".into()]).await;
        let mut pair = Pair::new(faulty(&source, at_source), faulty(&target, at_target));
        pair.options.delete = true;
        pair.limits.max_bytes = max_bytes;
        pair.limits.concurrency = 1;
        let report = pair.ends_with(code).await;
        assert_eq!(report.summary.counts.deleted, 0, "{what}");
        assert!(["extra", "z-extra"].iter().all(|key| keys(&target).contains(&(*key).to_owned())), "{what}");
    }
}

/// The first that holds of rule 9, where two hold at once.
#[tokio::test(start_paused = true)]
async fn rule_09_the_code_of_a_run_is_the_first_that_holds() {
    let source = filled((0..6).map(|i| format!("k{i}"))).await;
    let fails = || Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Other)).on("k0");
    // Failed and limited: 3 before 10.
    let mut one = Pair::new(faulty(&source, vec![fails()]), Arc::new(MemoryStore::new()));
    one.limits.max_bytes = Some(1);
    one.limits.concurrency = 1;
    let report = one.ends_with(3).await;
    assert!(report.summary.counts.skipped > 0, "the limit held, too: {:?}", report.summary.counts);
    // Failed and interrupted, by either signal: before all.
    for terminated in [false, true] {
        let mut two = Pair::new(faulty(&source, vec![fails()]), Arc::new(MemoryStore::new()));
        let token = two.stop.token.clone();
        two.stop.terminated.store(terminated, std::sync::atomic::Ordering::Relaxed);
        two.source = OddStore::new(two.source.clone()).meddling("k2", async move { token.cancel() }).shared();
        two.limits.concurrency = 1;
        let report = two.ends_with(if terminated { 143 } else { 130 }).await;
        assert_eq!(report.summary.counts.failed, 1);
    }
    // Refused, while another run holds the lease: 11 before 5.
    let target = MemoryStore::new();
    let slow = faulty(&target, vec![Rule::every(Method::Put, Fault::Delay(Duration::from_secs(100)))]);
    let running = Pair::new(Arc::new(source.clone()), slow);
    let mut second = Pair::new(Arc::new(MemoryStore::new()), Arc::new(target));
    second.state = running.state.clone();
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second.ends_with(11).await
    };
    tokio::join!(running.copied(), later);
    second.ends_with(5).await;
}

#[tokio::test(start_paused = true)]
async fn rule_09_what_breaks_a_listing_decides_the_code() {
    use StoreErrorKind as Kind;
    let table = [
        (Kind::NoBucket, 2),
        (Kind::Permission, 12),
        (Kind::Credentials, 12),
        (Kind::Server, 75),
        (Kind::Throttled, 75),
        (Kind::Connection, 75),
        (Kind::Protocol, 1),
    ];
    for (kind, code) in table {
        for at_source in [true, false] {
            let (source, target) = (filled(["k".into()]).await, filled(["extra".into()]).await);
            let broken = vec![Rule::every(Method::List, Fault::Fail(kind))];
            let mut pair = pair(&source, &target);
            pair.options.delete = true;
            match at_source {
                true => pair.source = faulty(&source, broken),
                false => pair.target = faulty(&target, broken),
            }
            pair.ends_with(code).await;
            assert_eq!(keys(&target), ["extra"]);
            assert_eq!(pair.verify(Level::Manifest).await.1, code, "a check that cannot look: {kind:?}");
        }
    }
}

#[tokio::test]
async fn rule_09_verify_with_errors_only_is_3_and_4_with_a_difference() {
    let source = filled(["a", "b", "c"].map(String::from)).await;
    let target = filled(["a", "b", "c"].map(String::from)).await;
    let mut pair = pair(&source, &target);
    pair.target = faulty(&target, vec![Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Other)).on("b")]);
    assert_eq!(pair.verify(Level::Content).await, (vec!["! b".into()], 3));
    put(&target, "c", "C").await;
    assert_eq!(pair.verify(Level::Content).await, (vec!["! b".into(), "* c".into()], 4));
}

#[tokio::test]
async fn rule_19_a_part_that_does_not_fit_names_the_memory_it_needs() {
    let source = filled(["small".into()]).await;
    put(&source, "large", pattern(20 * MIB)).await;
    let target = MemoryStore::new();
    let mut pair = pair(&source, &target);
    pair.limits.memory_bytes = 8 * MIB;
    let report = pair.ends_with(3).await;
    assert_eq!((report.summary.counts.copied, report.summary.counts.failed), (1, 1), "that key alone fails");
    let error = pair.report_of("large").error.unwrap();
    let needed: u64 = error.split("--memory ").nth(1).and_then(|rest| rest.split('M').next()).unwrap().parse().unwrap();
    assert!(target.uploads().is_empty());
    // What it names is enough, and is not more than it takes.
    pair.limits.memory_bytes = (needed - 1) * MIB;
    pair.ends_with(3).await;
    pair.limits.memory_bytes = needed * MIB;
    pair.copied().await;
    assert_eq!(target.objects(), source.objects());
}

/// `--compare auto` never falls back to size in silence; `--compare size` does what it says, and `verify` sees through it.
#[tokio::test]
async fn rule_13_size_is_evidence_only_when_it_was_asked_for() {
    for (compare, copied) in [(Compare::Size, 0), (Compare::Auto, 1), (Compare::Hash, 1), (Compare::Etag, 1)] {
        let (source, target) = (MemoryStore::new(), MemoryStore::new());
        put(&source, "k", "aaaa").await;
        put(&target, "k", "bbbb").await;
        let mut pair = pair(&source, &target);
        pair.options.compare = compare;
        assert_eq!(pair.copied().await.summary.counts.copied, copied, "{compare:?}");
        // Taken for equal by its size, it is still not proven.
        let (lines, code) = pair.verify(Level::Manifest).await;
        assert_eq!((lines.is_empty(), code == 0), (copied == 1, copied == 1), "{compare:?}: {lines:?} {code}");
    }
}
