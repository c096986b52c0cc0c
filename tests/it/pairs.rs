//! The cases that hold for every store, run on every pair of the stores that can be had, and the table of which ran where
//! (`cargo xtask test` prints it). Cases about one kind of store, about state or about the command line
//! have tests of their own.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use distcp::copy::Ends;
use distcp::event::Outcome;
use distcp::job::{Gate, Stop};
use distcp::list::within::Within;
use distcp::options::Cap;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use distcp::verify::Level;
use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use manifest::{ContentHash, ObjectKey};
use tests::contract::{list_all, pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;
use tests::odd::OddStore;
use tests::sites::{Site, Tree};
use tests::trees::boundary_sizes;

const MIB: u64 = 1 << 20;
/// Pairs in work at once.
const PAIRS_AT_ONCE: usize = 6;

/// Two fresh trees.
struct Duo {
    source: Tree,
    target: Tree,
    /// Both are of one service, which copies by itself; else everything is read and sent (`--hash`).
    by_service: bool,
}

/// What became of a case on a pair.
type Ran = Result<(), &'static str>;

type Case = (&'static str, fn(Duo) -> LocalBoxFuture<'static, Ran>);

/// By number, what happens, and how it is checked.
const CASES: [Case; 23] = [
    ("1 identical trees", |duo| case_01(duo).boxed_local()),
    ("3 same size, other content", |duo| case_03(duo).boxed_local()),
    ("5 empty objects", |duo| case_05(duo).boxed_local()),
    ("7 dry run", |duo| case_07(duo).boxed_local()),
    ("8 extra without --delete", |duo| case_08(duo).boxed_local()),
    ("9 --delete, interleaved names", |duo| case_09(duo).boxed_local()),
    ("10 a failed copy and --delete", |duo| case_10(duo).boxed_local()),
    ("11 a failed listing and --delete", |duo| case_11(duo).boxed_local()),
    ("12 empty source and --delete", |duo| case_12(duo).boxed_local()),
    ("14 more deletes than the cap", |duo| case_14(duo).boxed_local()),
    ("21 one unreadable object", |duo| case_21(duo).boxed_local()),
    ("24 a download that breaks", |duo| case_24(duo).boxed_local()),
    ("26 rewritten after the listing", |duo| case_26(duo).boxed_local()),
    ("27 a damaged chunk", |duo| case_27(duo).boxed_local()),
    ("28 sizes around limits", |duo| case_28(duo).boxed_local()),
    ("29 an interrupted upload", |duo| case_29(duo).boxed_local()),
    ("30 interrupt, then run", |duo| case_30(duo).boxed_local()),
    ("32 failed keys are retried alone", |duo| case_32(duo).boxed_local()),
    ("37 odd keys", |duo| case_37(duo).boxed_local()),
    ("40 a renamed prefix", |duo| case_40(duo).boxed_local()),
    ("42 verify names what differs", |duo| case_42(duo).boxed_local()),
    ("48 lost answers", |duo| case_48(duo).boxed_local()),
    ("R28 a folder that is given up", |duo| rule_28(duo).boxed_local()),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_on_every_pair_of_stores() {
    let sites = Site::all();
    let mut pairs: Vec<(Site, Site, bool)> =
        sites.iter().flat_map(|source| sites.iter().map(|target| (source.clone(), target.clone(), false))).collect();
    let copying = sites.iter().filter(|site| matches!(site, Site::S3(_) | Site::Azure(_)));
    pairs.extend(copying.map(|site| (site.clone(), site.clone(), true)));
    let columns = futures::stream::iter(pairs).map(|(source, target, by_service)| async move {
        let arrow = if by_service { ">>" } else { ">" };
        let mut results = Vec::new();
        for (name, case) in CASES {
            let duo = Duo { source: source.fresh().await, target: target.fresh().await, by_service };
            let ran = AssertUnwindSafe(case(duo)).catch_unwind().await;
            if ran.is_err() {
                eprintln!("FAILED: case {name}: {} {arrow} {}", source.name(), target.name());
            }
            results.push(ran.ok());
        }
        (format!("{} {arrow} {}", source.name(), target.name()), results)
    });
    let columns: Vec<(String, Vec<Option<Ran>>)> = columns.buffered(PAIRS_AT_ONCE).collect().await;
    let table = table(&columns);
    match std::env::var_os("UNDERSTUDY_TEST_TABLE") {
        Some(path) => std::fs::write(path, &table).unwrap(),
        None => println!("{table}"),
    }
    assert!(columns.iter().all(|(_, results)| results.iter().all(Option::is_some)), "{table}");
}

/// A row a pair, a column a case; `-` where a case does not apply, with its reason below.
fn table(columns: &[(String, Vec<Option<Ran>>)]) -> String {
    let mut text =
        String::from("cases by pair of stores (source > target; >>: the service copies by itself)\n\n                ");
    for (name, _) in CASES {
        let number = name.split(' ').next().unwrap_or_default();
        text.push_str(&format!("{number:>5}"));
    }
    let mut reasons = std::collections::BTreeSet::new();
    for (pair, results) in columns {
        text.push_str(&format!("\n{pair:<16}"));
        for ((case, _), result) in CASES.iter().zip(results) {
            let word = match result {
                Some(Ok(())) => "ran",
                Some(Err(reason)) => {
                    reasons.insert(format!("{pair}, case {case}: {reason}"));
                    "-"
                }
                None => "FAIL",
            };
            text.push_str(&format!("{word:>5}"));
        }
    }
    text.push_str("\n\n");
    for (name, _) in CASES {
        text.push_str(&format!("case {name}\n"));
    }
    for reason in reasons {
        text.push_str(&format!("- {reason}\n"));
    }
    text
}

fn faulty(inner: &Arc<dyn Store>, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(inner.clone(), FaultPlan { rules, ..FaultPlan::default() }))
}

impl Duo {
    fn pair(&self) -> Pair {
        let mut pair = Pair::new(self.source.store.clone(), self.target.store.clone());
        pair.options.hash = !self.by_service;
        pair
    }

    /// The pair with these faults of the source; a service that copies by itself refuses, so that it is read all the same.
    fn pair_reading(&self, rules: Vec<Rule>) -> Pair {
        let mut pair = self.pair();
        pair.source = faulty(&self.source.store, rules);
        if self.by_service {
            let refuses = Rule::every(Method::Copy, Fault::Fail(StoreErrorKind::Permission));
            pair.target = faulty(&self.target.store, vec![refuses]);
        }
        pair
    }

    async fn assert_same(&self) {
        let (source, target) = (self.source.objects().await, self.target.objects().await);
        assert!(source.keys().eq(target.keys()), "{:?} and {:?}", source.keys(), target.keys());
        for (key, body) in &source {
            assert!(target[key] == *body, "{key:?} differs");
        }
    }
}

/// Ten small objects, `k0` to `k9`, in content by `seed`.
fn ten(seed: u64) -> Vec<(String, Bytes)> {
    (0..10).map(|i| (format!("k{i}"), pattern(100 + i * 10 + seed * 1000))).collect()
}

fn one(key: &str, body: impl Into<Bytes>) -> Vec<(String, Bytes)> {
    vec![(key.to_owned(), body.into())]
}

async fn case_01(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    duo.target.fill(&ten(0)).await;
    let pair = duo.pair();
    let first = pair.copied().await.summary;
    assert_eq!((first.counts.equal, first.counts.copied, first.bytes.written), (10, 0, 0));
    duo.assert_same().await;
    // Times may have been set right; now nothing differs at all.
    let before = list_all(&*duo.target.store, ListOptions::default()).await;
    let second = pair.copied().await.summary;
    assert_eq!((second.counts.equal, second.bytes.read, second.requests.get), (10, 0, 0));
    assert_eq!(list_all(&*duo.target.store, ListOptions::default()).await, before);
    Ok(())
}

async fn case_03(duo: Duo) -> Ran {
    duo.source.fill(&one("f", pattern(3000))).await;
    duo.target.fill(&one("f", vec![7; 3000])).await;
    let pair = duo.pair();
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    duo.assert_same().await;
    // Now with a manifest, and from the other side.
    duo.source.fill(&one("f", vec![8; 3000])).await;
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    duo.assert_same().await;
    duo.target.fill(&one("f", vec![9; 3000])).await;
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    duo.assert_same().await;
    Ok(())
}

async fn case_05(duo: Duo) -> Ran {
    duo.source.fill(&one("empty", "")).await;
    duo.target.fill(&one("empty", "")).await;
    assert_eq!(duo.pair().copied().await.summary.counts.equal, 1);
    duo.source.fill(&one("empty2", "")).await;
    let pair = duo.pair();
    assert_eq!(pair.copied().await.summary.counts.copied, 1);
    duo.assert_same().await;
    assert_eq!(pair.copied().await.summary.counts.equal, 2);
    Ok(())
}

async fn case_07(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    duo.target.fill(&one("extra", "x")).await;
    let mut pair = duo.pair();
    pair.options.delete = true;
    let before = list_all(&*duo.target.store, ListOptions::default()).await;
    let state = pair.state_files().await;
    assert_eq!(pair.plan().await.unwrap().header.totals.copies, 10);
    assert_eq!(list_all(&*duo.target.store, ListOptions::default()).await, before);
    assert_eq!(pair.state_files().await, state);
    Ok(())
}

async fn case_08(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    duo.target.fill(&one("extra", "kept")).await;
    let report = duo.pair().copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.skipped, report.counts.deleted), (10, 1, 0));
    assert_eq!(duo.target.objects().await[&"extra".into()], "kept");
    Ok(())
}

async fn case_09(duo: Duo) -> Ran {
    let named = |names: &[&str], body: &str| -> Vec<(String, Bytes)> {
        names.iter().map(|name| ((*name).to_owned(), body.to_owned().into())).collect()
    };
    duo.source.fill(&named(&["1", "3", "5", "A", "C", "a!", "d/x", "d-", "z"], "same")).await;
    duo.target.fill(&named(&["2", "3", "4", "9", "B", "C", "a0", "d/y", "d.", "zz"], "same")).await;
    let mut pair = duo.pair();
    pair.options.delete = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (7, 8));
    duo.assert_same().await;
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.copied, again.counts.deleted, again.bytes.read), (0, 0, 0));
    Ok(())
}

async fn case_10(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    duo.target.fill(&one("extra", "kept")).await;
    let broken = Fault::Fail(StoreErrorKind::Permission);
    let mut pair = duo.pair_reading(vec![Rule::every(Method::Get, broken).on("k4")]);
    pair.options.delete = true;
    let report = pair.ends_with(3).await.summary;
    assert_eq!((report.counts.copied, report.counts.failed, report.counts.deleted), (9, 1, 0));
    assert_eq!(duo.target.objects().await[&"extra".into()], "kept");
    Ok(())
}

async fn case_11(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    duo.target.fill(&one("extra", "kept")).await;
    let before = list_all(&*duo.target.store, ListOptions::default()).await;
    let mut pair = duo.pair();
    pair.options.delete = true;
    let plan = FaultPlan {
        rules: vec![Rule::every(Method::List, Fault::Fail(StoreErrorKind::Server)).from_call(3)],
        batch_keys: Some(4),
        ..FaultPlan::default()
    };
    pair.source = Arc::new(FaultStore::new(duo.source.store.clone(), plan));
    pair.ends_with(75).await;
    assert_eq!(list_all(&*duo.target.store, ListOptions::default()).await, before);
    Ok(())
}

async fn case_12(duo: Duo) -> Ran {
    duo.target.fill(&ten(0)).await;
    let mut pair = duo.pair();
    pair.options.delete = true;
    pair.options.max_deletes = Some(Cap::Percent(100.0));
    pair.ends_with(5).await;
    assert_eq!(duo.target.objects().await.len(), 10);
    pair.options.allow_empty_source = true;
    assert_eq!(pair.copied().await.summary.counts.deleted, 10);
    assert_eq!(duo.target.objects().await, BTreeMap::new());
    Ok(())
}

async fn case_14(duo: Duo) -> Ran {
    duo.source.fill(&one("k0", "new")).await;
    duo.target.fill(&ten(0)).await;
    let before = list_all(&*duo.target.store, ListOptions::default()).await;
    let mut pair = duo.pair();
    pair.options.delete = true;
    pair.options.max_deletes = Some(Cap::Count(8));
    let report = pair.ends_with(5).await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (0, 0));
    assert_eq!(list_all(&*duo.target.store, ListOptions::default()).await, before);
    Ok(())
}

async fn case_21(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    let denied = Fault::Fail(StoreErrorKind::Permission);
    let pair = duo.pair_reading(vec![Rule::every(Method::Get, denied).on("k7")]);
    let report = pair.ends_with(3).await.summary;
    assert_eq!((report.counts.copied, report.counts.failed), (9, 1));
    assert_eq!(pair.ended(Outcome::Failed), ["k7"]);
    assert_eq!(duo.target.objects().await.len(), 9);
    Ok(())
}

async fn case_24(duo: Duo) -> Ran {
    duo.source.fill(&[one("f", pattern(300_000)), one("large", pattern(9 * MIB))].concat()).await;
    duo.target.fill(&one("f", "the old one")).await;
    let breaks = |key: &str| Rule::every(Method::Get, Fault::Truncate).on(key);
    let mut pair = duo.pair_reading(vec![breaks("f"), breaks("large")]);
    pair.copy().await;
    assert_eq!(duo.target.objects().await, BTreeMap::from([("f".into(), "the old one".into())]));
    pair.source = duo.source.store.clone();
    pair.copied().await;
    duo.assert_same().await;
    Ok(())
}

async fn case_26(duo: Duo) -> Ran {
    duo.source.fill(&[ten(0), one("a", pattern(MIB))].concat()).await;
    let mut pair = duo.pair();
    pair.limits.concurrency = 1;
    let rewritten = duo.source.store.clone();
    let meddle = async move { drop(put(&*rewritten, "k5", vec![9; 150]).await) };
    pair.source = OddStore::new(duo.source.store.clone()).meddling("a", meddle).shared();
    let report = pair.copy().await;
    if report.summary.counts.failed > 0 {
        assert_eq!(pair.ended(Outcome::Failed), ["k5"]);
    }
    pair.source = duo.source.store.clone();
    pair.copied().await;
    duo.assert_same().await;
    Ok(())
}

async fn case_27(duo: Duo) -> Ran {
    if duo.by_service {
        return Err("no bytes come through here");
    }
    duo.source.fill(&[one("small", pattern(1000)), one("large", pattern(13 * MIB + 17))].concat()).await;
    let mut pair = duo.pair();
    pair.retries = true;
    let flips = vec![
        Rule::first(Method::Put, Fault::FlipByte).on("small"),
        Rule::first(Method::PutPart, Fault::FlipByte).on("large"),
    ];
    let target = faulty(&duo.target.store, flips);
    pair.target = target.clone();
    pair.copied().await;
    assert_eq!(target.faults(), 2);
    duo.assert_same().await;
    Ok(())
}

async fn case_28(duo: Duo) -> Ran {
    let mut sizes = boundary_sizes(MIB);
    sizes.extend([8 * MIB - 1, 8 * MIB, 8 * MIB + 17]);
    let objects: Vec<_> = sizes.iter().map(|size| (format!("{size:09}"), pattern(*size))).collect();
    duo.source.fill(&objects).await;
    let pair = duo.pair();
    pair.copied().await;
    duo.assert_same().await;
    let rows = pair.rows().await;
    let hashes: BTreeMap<ObjectKey, _> = rows.into_iter().map(|row| (row.key, row.hash)).collect();
    if duo.by_service {
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
        return Ok(());
    }
    for (key, body) in objects {
        assert_eq!(hashes[&ObjectKey::from(key.as_str())], Some(ContentHash::of(&body)), "{key}");
    }
    Ok(())
}

async fn case_29(duo: Duo) -> Ran {
    if duo.by_service {
        return Err("parts are copied only above gigabytes, or where the store is told so; see across_servers");
    }
    duo.source.fill(&one("large", pattern(40 * MIB + 17))).await;
    let mut pair = duo.pair();
    // Other than a broken line it is not tried again: the run ends with the upload open.
    let broken = Rule::every(Method::PutPart, Fault::Fail(StoreErrorKind::Other)).from_call(4);
    let first = faulty(&duo.target.store, vec![broken]);
    pair.target = first.clone();
    pair.ends_with(3).await;
    assert_eq!(first.calls(Method::CreateUpload), 1);
    assert_eq!(duo.target.objects().await, BTreeMap::new());
    let second = faulty(&duo.target.store, vec![]);
    pair.target = second.clone();
    pair.copied().await;
    assert_eq!((second.calls(Method::CreateUpload), second.calls(Method::PutPart)), (0, 3), "three of six were sent");
    duo.assert_same().await;
    Ok(())
}

async fn case_30(duo: Duo) -> Ran {
    if duo.by_service {
        return Err("nothing is read in whose middle it could be interrupted; see across");
    }
    duo.source.fill(&[ten(0), one("m", pattern(9 * MIB))].concat()).await;
    let mut pair = duo.pair();
    pair.limits.concurrency = 2;
    for key in ["k3", "k7"] {
        pair.stop = Stop::default();
        let token = pair.stop.token.clone();
        pair.source = OddStore::new(duo.source.store.clone()).meddling(key, async move { token.cancel() }).shared();
        pair.ends_with(130).await;
    }
    pair.unstop();
    pair.source = duo.source.store.clone();
    pair.copied().await;
    duo.assert_same().await;
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    Ok(())
}

async fn case_32(duo: Duo) -> Ran {
    duo.source.fill(&ten(0)).await;
    let broken = |key: &str| Rule::every(Method::Get, Fault::Fail(StoreErrorKind::Other)).on(key);
    let mut pair = duo.pair_reading(vec![broken("k2"), broken("k6")]);
    pair.ends_with(3).await;
    let second = faulty(&duo.source.store, vec![]);
    pair.source = second.clone();
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.equal), (2, 8));
    for (key, _) in ten(0) {
        let read = second.calls_on(Method::Get, key.as_str()) > 0;
        assert_eq!(read, ["k2", "k6"].contains(&key.as_str()), "{key}");
    }
    Ok(())
}

async fn case_37(duo: Duo) -> Ran {
    let long = "n".repeat(250);
    let odd = [
        "sp ace",
        "pl+us",
        "per%cent",
        "%41",
        "ha#sh",
        "que?stion=1&x",
        "quo'te\"s",
        "new\nline",
        "tab\tbed",
        "\u{fc}n\u{ef}/\u{65e5}\u{672c}/\u{1f600}",
        "<xml>&amp;",
        "a=b;c:d@e!f$g(h)*,",
        "back\\slash",
        "a//b",
        "/lead",
        "trail/",
        "dot/./s",
        "dot/../s",
        "\u{1}control",
        &long,
    ];
    let mut written = 0;
    for key in odd {
        let key = ObjectKey::from(key);
        let body = Bytes::copy_from_slice(key.as_bytes());
        if duo.source.store.put(&key, body.into(), &Default::default()).await.is_ok() {
            written += 1;
        }
    }
    assert!(written >= 10, "{written}");
    let pair = duo.pair();
    let report = pair.copy().await;
    let failed = pair.ended(Outcome::Failed);
    assert_eq!(report.summary.exit_code.code(), if failed.is_empty() { 0 } else { 3 }, "{failed:?}");
    // What could not be kept failed by name, for itself alone; nothing arrived under another name.
    let (source, mut target) = (duo.source.objects().await, duo.target.objects().await);
    for (key, body) in &source {
        match target.remove(key) {
            Some(held) => assert!(held == *body, "{key:?} differs"),
            None => assert!(failed.contains(&key.escaped().into_owned()), "{key:?} is missing in silence: {failed:?}"),
        }
    }
    assert_eq!(target, BTreeMap::new());
    Ok(())
}

async fn case_40(duo: Duo) -> Ran {
    if !duo.target.store.capabilities().server_copy {
        return Err("the target's store does not copy by itself");
    }
    if !duo.source.store.capabilities().etags {
        return Err("a rename there keeps the file's identity, which a store's interface cannot do; see cases_rename");
    }
    if duo.source.store.capabilities().name == "azure" {
        return Err("ETags of Azure say nothing of content: a new key is read");
    }
    let named = |folder: &str| -> Vec<(String, Bytes)> {
        (0..10).map(|i| (format!("{folder}/f{i}"), pattern(1000 + i))).collect()
    };
    duo.source.fill(&named("old")).await;
    let mut pair = duo.pair();
    pair.options.delete = true;
    pair.options.max_deletes = Some(Cap::Percent(100.0));
    pair.copied().await;
    duo.source.fill(&named("new")).await;
    let old: Vec<ObjectKey> = named("old").into_iter().map(|(key, _)| key.as_str().into()).collect();
    for answer in duo.source.store.delete(&old).await {
        answer.unwrap();
    }
    let report = pair.copied().await.summary;
    assert_eq!((report.bytes.read, report.bytes.written), (0, 0));
    assert_eq!((report.counts.copied, report.counts.deleted), (10, 10));
    duo.assert_same().await;
    Ok(())
}

async fn case_42(duo: Duo) -> Ran {
    let both = |key: &str, a: &str, b: &str| (one(key, a.to_owned()), one(key, b.to_owned()));
    for (a, b) in [both("equal", "1", "1"), both("size", "1", "22"), both("content", "1", "2"), both("sick", "1", "1")]
    {
        duo.source.fill(&a).await;
        duo.target.fill(&b).await;
    }
    duo.source.fill(&one("only-source", "1")).await;
    duo.target.fill(&one("only-target", "1")).await;
    let mut pair = duo.pair();
    let denied = Fault::Fail(StoreErrorKind::Permission);
    pair.source = faulty(&duo.source.store, vec![Rule::every(Method::Get, denied).on("sick")]);
    let expected = ["* content", "- only-source", "+ only-target", "! sick", "* size"];
    assert_eq!(pair.verify(Level::Content).await, (expected.map(str::to_owned).to_vec(), 4));
    assert!(pair.state_files().await.is_empty(), "verify keeps nothing");
    Ok(())
}

async fn case_48(duo: Duo) -> Ran {
    duo.source.fill(&[ten(0), one("large", pattern(9 * MIB))].concat()).await;
    duo.target.fill(&[one("k1", "old"), one("extra", "x")].concat()).await;
    let lost: &[Method] = match duo.by_service {
        true => &[Method::Copy, Method::Delete],
        false => &[Method::Put, Method::PutPart, Method::CompleteUpload, Method::Delete],
    };
    let rules = lost.iter().map(|method| Rule::first(*method, Fault::LostAnswer)).collect();
    let target = faulty(&duo.target.store, rules);
    let mut pair = duo.pair();
    pair.retries = true;
    pair.options.delete = true;
    pair.target = target.clone();
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted, report.counts.failed), (11, 1, 0));
    assert_eq!(target.faults(), lost.len() as u64);
    duo.assert_same().await;
    Ok(())
}

/// Between copies and deletes: what others write then, and whether to go on.
struct Meanwhile {
    target: Arc<dyn Store>,
    writes: &'static str,
    goes_on: bool,
}

#[async_trait::async_trait]
impl Gate for Meanwhile {
    async fn copied(&self, _: &Ends) -> bool {
        put(&*self.target, self.writes, "somebody else's, and longer").await;
        self.goes_on
    }
}

/// What others write into such a folder stays, whenever they do: what was to go is looked at right before, and what is there was on
/// record.
async fn rule_28(duo: Duo) -> Ran {
    let keys = ["t/0", "t/1", "t/2", "t/3", "u/0"];
    duo.source.fill(&keys.map(|key| (key.to_owned(), Bytes::from("ours")))).await;
    let mut pair = duo.pair();
    pair.copied().await;
    pair.options.delete = true;
    let within = Within::new(["t", "u"].map(ObjectKey::from)).keep_others(true);
    pair.within = Some(within.emptied([ObjectKey::from("t")]));
    for (writes, goes_on, code) in [("t/1", false, 3), ("t/3", true, 0)] {
        pair.gate = Some(Arc::new(Meanwhile { target: duo.target.store.clone(), writes, goes_on }));
        pair.ends_with(code).await;
    }
    let left: Vec<String> = duo.target.objects().await.keys().map(|key| key.escaped().to_string()).collect();
    assert_eq!(left, ["t/1", "t/3", "u/0"]);
    Ok(())
}
