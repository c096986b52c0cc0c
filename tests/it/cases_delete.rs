//! What `--delete` may do, and what it must never do; and the dry run, which does nothing.

use std::sync::Arc;

use bytes::Bytes;
use distcp::event::Outcome;
use distcp::options::Cap;
use distcp::store::StoreErrorKind;
use distcp::store::memory::MemoryStore;
use distcp::verify::Level;
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, hurried, local};
use tests::odd::OddStore;
use tests::trees::{RandomTree, TreeShape, contents, snapshot};

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

/// A pair that deletes, over these stores as they are.
fn mirror(source: &MemoryStore, target: &MemoryStore) -> Pair {
    let mut pair = Pair::new(Arc::new(source.clone()), Arc::new(target.clone()));
    pair.options.delete = true;
    pair
}

#[tokio::test]
async fn case_07_a_dry_run_changes_nothing_to_the_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let shape = TreeShape { files: 40, ..TreeShape::default() };
    let mut tree = RandomTree::build(scratch.path().join("a"), 3, shape);
    let target = scratch.path().join("b");
    let mut pair = Pair::new(Arc::new(local(tree.root())), Arc::new(local(&target)));
    pair.options.delete = true;
    let plan = pair.plan().await.unwrap();
    assert_eq!(plan.header.totals.copies, 40);
    assert!(!target.exists(), "not even the folder");
    assert!(pair.state_files().await.is_empty());
    drop(plan);
    pair.copied().await;
    tree.mutate(15);
    let (files, state) = (snapshot(&target), pair.state_files().await);
    let plan = pair.plan().await.unwrap();
    let work = plan.header.totals.copies + plan.header.totals.compares + plan.header.totals.deletes;
    assert!(work > 0, "{:?}", plan.header.totals);
    assert_eq!(pair.state_files().await, state);
    assert_eq!(snapshot(&target), files);
    assert_eq!(std::fs::read_dir(pair.spool()).unwrap().count(), 0, "the plan has no name: a kill leaves nothing");
}

#[tokio::test]
async fn an_empty_folder_stays_when_the_folders_inside_it_go() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("a"), scratch.path().join("b"));
    std::fs::create_dir_all(source.join("t")).unwrap();
    for inner in ["t/p=1", "t/p=2/h=3"] {
        std::fs::create_dir_all(target.join(inner)).unwrap();
    }
    let mut pair = Pair::new(Arc::new(local(&source)), Arc::new(local(&target)));
    pair.options.delete = true;
    pair.options.allow_empty_source = true;
    pair.options.max_deletes = Some(Cap::Percent(100.0));
    pair.copied().await;
    assert_eq!(snapshot(&target), snapshot(&source));
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.copied, again.counts.deleted), (0, 0));
}

#[tokio::test]
async fn case_08_extras_stay_through_any_number_of_runs_without_delete() {
    let source = filled(["a".into()]).await;
    let target = filled(["b".into(), "z/deep/er".into()]).await;
    let mut pair = mirror(&source, &target);
    pair.options.delete = false;
    for _ in 0..2 {
        pair.copied().await;
        assert_eq!(pair.ended(Outcome::Skipped), ["b", "z/deep/er"]);
        assert_eq!(pair.report_of("b").reason, "extra");
        assert_eq!(target.objects().len(), 3);
    }
    assert_eq!(pair.verify(Level::Manifest).await, (vec!["+ b".into(), "+ z/deep/er".into()], 4));
}

#[tokio::test]
async fn case_09_interleaved_names_become_an_exact_mirror_and_a_rerun_does_nothing() {
    let source = filled((1..=9).map(|n| format!("{n}"))).await;
    let letters = ('A'..='I').map(String::from);
    let between = (1..=9).flat_map(|n| [format!("{n}"), format!("{n}A"), format!("{n}/x"), format!("{n}-")]);
    let target = filled(letters.chain(between)).await;
    let mut pair = mirror(&source, &target);
    pair.options.max_deletes = Some(Cap::Count(100));
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.deleted, report.counts.equal, report.counts.copied), (36, 9, 0));
    assert_eq!(target.objects(), source.objects());
    let counting = Arc::new(FaultStore::counting(Arc::new(target.clone())));
    pair.target = counting.clone();
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.deleted, again.counts.equal), (0, 9));
    assert_eq!(counting.mutating_calls(), 0);
}

#[tokio::test]
async fn case_10_nothing_is_deleted_when_one_copy_failed() {
    let source = filled(["a".into(), "b".into(), "c".into()]).await;
    let target = filled(["extra".into()]).await;
    let mut pair = mirror(&source, &target);
    pair.source = faulty(&source, vec![Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Other)).on("b")]);
    let report = pair.ends_with(3).await;
    assert_eq!((report.summary.counts.deleted, report.summary.counts.copied), (0, 2));
    assert_eq!(pair.report_of("extra").reason, "kept: something failed before");
    assert!(target.objects().contains_key(&"extra".into()));
    pair.source = Arc::new(source.clone());
    assert_eq!(pair.copied().await.summary.counts.deleted, 1);
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test(start_paused = true)]
async fn case_11_a_listing_that_breaks_on_page_3_deletes_nothing_and_is_temporary() {
    let source = filled((0..3500).map(|n| format!("k{n:05}"))).await;
    let target = filled((0..3500).map(|n| format!("k{n:05}")).chain(["zz".into()])).await;
    let before = target.objects();
    for retries in [false, true] {
        let mut pair = mirror(&source, &target);
        pair.retries = retries;
        pair.options.max_deletes = Some(Cap::Percent(100.0));
        let broken = Rule::every(Method::List, Fault::Fail(StoreErrorKind::Server)).from_call(3);
        pair.source = faulty(&source, vec![broken]);
        let report = hurried(pair.ends_with(75)).await;
        let failure = report.failure.unwrap();
        assert!(failure.message.contains("cannot list"), "{failure}");
        assert_eq!(target.objects(), before);
        assert!(pair.rows().await.is_empty(), "nothing was committed");
    }
    // It gets better: the listing goes on where it broke, and no key is missed.
    let mut pair = mirror(&source, &target);
    pair.retries = true;
    let hiccup = Rule::first(Method::List, Fault::Fail(StoreErrorKind::Server)).from_call(3).times(2);
    pair.source = faulty(&source, vec![hiccup]);
    let report = hurried(pair.copied()).await.summary;
    assert_eq!((report.counts.equal, report.counts.deleted), (3500, 1));
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test]
async fn case_11_a_listing_that_silently_lost_keys_costs_nothing() {
    // The listing ends early without an error: each key is looked for once more before it is deleted.
    let whole = filled((0..50).map(|n| format!("k{n:02}"))).await;
    let target = filled((0..50).map(|n| format!("k{n:02}")).chain(["gone".into()])).await;
    let part = filled((0..30).map(|n| format!("k{n:02}"))).await;
    let mut pair = mirror(&whole, &target);
    pair.source = OddStore::new(Arc::new(whole.clone())).listed_by(Arc::new(part)).shared();
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.deleted, report.counts.equal, report.counts.skipped), (1, 30, 20));
    assert_eq!(target.objects(), whole.objects());
}

#[tokio::test]
async fn case_12_an_empty_source_with_delete_is_refused_until_allowed() {
    let (source, target) = (MemoryStore::new(), filled(["a".into(), "b".into()]).await);
    let mut pair = mirror(&source, &target);
    let report = pair.ends_with(5).await;
    assert!(report.failure.unwrap().hint.unwrap().contains("--allow-empty-source"));
    assert_eq!(target.objects().len(), 2);
    pair.options.allow_empty_source = true;
    assert_eq!(pair.copied().await.summary.counts.deleted, 2);
    assert!(target.objects().is_empty());
    assert_eq!(pair.copied().await.summary.counts.listed, 0);
}

#[tokio::test]
async fn case_13_ten_thousand_deletes_go_in_batches() {
    let source = filled(["keep".into()]).await;
    let target = filled((0..10_000).map(|n| format!("x{n:05}")).chain(["keep".into()])).await;
    let mut pair = mirror(&source, &target);
    pair.options.max_deletes = Some(Cap::Percent(100.0));
    let counting = Arc::new(FaultStore::counting(Arc::new(target.clone())));
    pair.target = counting.clone();
    let report = pair.copied().await.summary;
    assert_eq!(report.counts.deleted, 10_000);
    assert_eq!(counting.calls(Method::Delete), 10);
    assert_eq!(target.objects(), source.objects());
    assert_eq!(pair.rows().await.len(), 1);
}

#[tokio::test]
async fn case_14_more_deletes_than_the_cap_are_refused_and_none_is_done() {
    let source = filled((0..60).map(|n| format!("k{n:03}")).chain(["new".into()])).await;
    let target = filled((0..150).map(|n| format!("k{n:03}"))).await;
    let before = target.objects();
    let mut pair = mirror(&source, &target);
    // 90 of 150 is more than half.
    let failure = pair.ends_with(5).await.failure.unwrap();
    assert!(failure.message.contains("90 of 150"), "{failure}");
    assert_eq!(failure.hint.as_deref(), Some("if that is right, add --max-deletes 90"));
    assert_eq!(target.objects(), before, "nothing copied either");
    pair.options.max_deletes = Some(Cap::Count(89));
    pair.ends_with(5).await;
    assert_eq!(target.objects(), before);
    pair.options.max_deletes = Some(Cap::Count(90));
    assert_eq!(pair.copied().await.summary.counts.deleted, 90);
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test]
async fn case_09_a_delete_that_fails_is_named_and_done_by_the_next_run() {
    let source = filled(["a".into()]).await;
    let target = filled(["a".into(), "x".into(), "y".into()]).await;
    let mut pair = mirror(&source, &target);
    pair.target = faulty(&target, vec![Rule::first(Method::Delete, Fault::Fail(StoreErrorKind::Permission))]);
    let report = pair.ends_with(3).await;
    assert_eq!((report.summary.counts.failed, report.summary.counts.deleted), (2, 0));
    assert_eq!(pair.ended(Outcome::Failed), ["x", "y"]);
    assert_eq!(pair.copied().await.summary.counts.deleted, 2);
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test]
async fn case_09_emptied_folders_go_with_their_last_file() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    for name in ["keep/f", "x/y/z/f", "x/g"] {
        for root in [&a, &b] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), pattern(9)).unwrap();
        }
    }
    std::fs::remove_dir_all(a.join("x")).unwrap();
    let mut pair = Pair::new(Arc::new(local(&a)), Arc::new(local(&b)));
    pair.options.delete = true;
    assert_eq!(pair.copied().await.summary.counts.deleted, 2);
    assert_eq!(contents(&a), contents(&b));
    assert!(!b.join("x").exists());
}

/// Whoever is to decide whether so many deletes are right sees them.
#[test]
fn rule_06_a_dry_run_over_the_guard_prints_the_plan_and_then_refuses() {
    let home = tempfile::tempdir().unwrap();
    for folder in ["source", "target"] {
        std::fs::create_dir(home.path().join(folder)).unwrap();
    }
    std::fs::write(home.path().join("source/new"), "new").unwrap();
    std::fs::write(home.path().join("target/old"), "old").unwrap();
    let shell = tests::cli::Shell::new(home.path());
    let words = ["source", "target", "--delete", "--max-deletes", "0"];
    let ran = shell.run(&[&["copy"], &words[..], &["--dry-run"]].concat()).expect(5);
    assert!(ran.stdout.contains("delete old") && ran.stdout.contains("copy new"), "{ran:#?}");
    assert!(ran.last_word().contains("--max-deletes 1"), "{ran:#?}");
    let ran = shell.run(&[&["plan"], &words[..], &["-o", "it.plan", "--json"]].concat()).expect(5);
    assert!(ran.stdout.contains("\"step\":\"delete\"") && ran.summary()["exit_code"] == 5, "{ran:#?}");
    assert!(!home.path().join("it.plan").exists());
    assert!(home.path().join("target/old").exists());
}
