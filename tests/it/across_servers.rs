//! Copies that real servers make by themselves: between buckets, containers and accounts, whole and in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use distcp::event::Means;
use distcp::store::azure::{AzureConfig, AzureStore};
use distcp::store::s3::{S3Config, S3Store};
use distcp::store::{CopySource, GetOptions, PartSpec, Precondition, PutOptions, Store, StoreErrorKind};
use distcp::verify::Level;
use futures::TryStreamExt as _;
use manifest::{Evidence, ObjectKey};
use tests::cli::Shell;
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;
use tests::proxy::{Answer, Proxy};
use tests::services::{self, Azure, S3};

const MIB: u64 = 1 << 20;
/// The least that the option takes: what a server is told to copy in one step.
const MOST: u64 = 8 * MIB;

fn s3(server: &S3, purpose: &str) -> S3Store {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("access_key_id".to_owned(), server.access_key.clone()),
        ("secret_access_key".to_owned(), server.secret_key.clone()),
        ("max_copy_bytes".to_owned(), MOST.to_string()),
    ]);
    let bucket = server.fresh_bucket(purpose);
    S3Store::open(S3Config { bucket, prefix: "root/a b+".into(), options, ..S3Config::default() }).unwrap()
}

fn azure(server: &Azure, purpose: &str) -> AzureStore {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("account_key".to_owned(), server.key.clone()),
        ("max_copy_bytes".to_owned(), MOST.to_string()),
    ]);
    AzureStore::open(AzureConfig {
        account: Some(server.account.clone()),
        container: server.fresh_container(purpose),
        prefix: "root/a b+".into(),
        options,
        ..AzureConfig::default()
    })
    .unwrap()
}

async fn body(store: &dyn Store, key: &str) -> Bytes {
    let pieces: Vec<Bytes> =
        store.get(&key.into(), GetOptions::default()).await.unwrap().body.try_collect().await.unwrap();
    pieces.concat().into()
}

/// Objects with odd names and attributes, one of them too large for one copy.
async fn fill(store: &dyn Store) -> Vec<(&'static str, Bytes)> {
    let attributes = [("meta:note", "kept"), ("content-type", "text/plain")];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let options = PutOptions { attributes, ..PutOptions::default() };
    let mut objects = Vec::new();
    for (key, size) in
        [("plain", 5000), ("sp ace+%41", 7), ("ünï/日本#q?x=1&y", 100), ("empty", 0), ("large", 20 * MIB + 17)]
    {
        store.put(&key.into(), pattern(size).into(), &options).await.unwrap();
        objects.push((key, pattern(size)));
    }
    objects
}

/// A whole mirror: nothing passes through us, everything arrives, and what it proves is no more than it does.
async fn mirror(source: Arc<dyn Store>, target: Arc<dyn Store>, evidence: &[Evidence]) {
    let objects = fill(source.as_ref()).await;
    let mut pair = Pair::new(source.clone(), target.clone());
    let report = pair.copied().await.summary;
    let notes = pair.notes();
    assert_eq!((report.bytes.read, report.bytes.written), (0, 0), "{notes:?}\n{report:#?}");
    let bytes: u64 = objects.iter().map(|(_, body)| body.len() as u64).sum();
    assert_eq!((report.counts.copied, report.bytes.server_side), (5, bytes));
    assert_eq!(report.requests.copy, 4 + 3, "the large one in three parts");
    assert!(pair.reports().iter().all(|report| report.means == Means::ServerSide));
    for (key, expected) in &objects {
        assert!(body(target.as_ref(), key).await == *expected, "{key}");
        let (a, b) = (source.head(&(*key).into()).await.unwrap(), target.head(&(*key).into()).await.unwrap());
        assert_eq!(a.attributes, b.attributes, "{key}");
    }
    let rows = pair.rows().await;
    assert!(rows.iter().all(|row| row.hash.is_none() && evidence.contains(&row.evidence)), "{rows:#?}");
    let (lines, code) = pair.verify(Level::Manifest).await;
    assert_eq!((lines.len(), code), (5, 3), "rule 10: never 0");
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.equal, again.requests.copy, again.bytes.read), (5, 0, 0));
    pair.options.hash = true;
    assert_eq!(pair.copied().await.summary.counts.equal, 5);
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));

    // An upload that was cut off goes on with the parts that are there.
    pair.options.hash = false;
    let long = Bytes::from(vec![9; (64 * MIB + 17) as usize]);
    put(source.as_ref(), "long", long.clone()).await;
    let rules = vec![Rule::every(Method::CopyPart, Fault::Fail(StoreErrorKind::Server)).from_call(8)];
    let first = Arc::new(FaultStore::new(target.clone(), FaultPlan { rules, ..FaultPlan::default() }));
    pair.target = first.clone();
    pair.ends_with(3).await;
    let last = Arc::new(FaultStore::counting(target.clone()));
    pair.target = last.clone();
    let report = pair.copied().await.summary;
    assert_eq!((last.calls(Method::CreateUpload), report.bytes.read), (0, 0));
    // Nine in all, and none that the server copied is copied again: those in work when others failed are in the journal.
    let [before, after] = [first, last].map(|store| store.succeeded(Method::CopyPart));
    assert!((1..=7).contains(&before), "{before} parts were copied before the fault");
    assert_eq!(before + after, 9, "{before} parts were copied by the run that failed");
    assert!(body(target.as_ref(), "long").await == long);
}

/// Conditions hold where the server alone can check them.
async fn conditions(source: Arc<dyn Store>, target: Arc<dyn Store>) {
    let (key, to) = (ObjectKey::from("k"), ObjectKey::from("to"));
    put(source.as_ref(), "k", pattern(12 * MIB)).await;
    let old = source.head(&key).await.unwrap().fingerprint;
    put(source.as_ref(), "k", vec![1; (12 * MIB) as usize]).await;
    let new = source.head(&key).await.unwrap().fingerprint;
    let origin = source.origin().unwrap();
    let from = |expect| CopySource { origin: Some(&origin), key: &key, expect, keep_attributes: true };
    let any = PutOptions::default();
    let stale = target.copy(&from(&old), &to, &any).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Precondition, "{stale}");
    let in_parts = PutOptions { copied_parts: true, ..PutOptions::default() };
    let upload = target.create_upload(&to, 12 * MIB, &in_parts).await.unwrap();
    let parts = [(1, 0, 8 * MIB), (2, 8 * MIB, 4 * MIB)];
    let part = |(number, offset, size_bytes)| PartSpec { number, offset, size_bytes };
    let stale = target.copy_part(&from(&old), &to, &upload, part(parts[0])).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Precondition, "{stale}");
    let mut done = Vec::new();
    for spec in parts {
        done.push(target.copy_part(&from(&new), &to, &upload, part(spec)).await.unwrap());
    }
    let listed: BTreeSet<_> = target.list_parts(&to, &upload).await.unwrap().into_iter().map(|p| p.etag).collect();
    assert_eq!(listed, done.iter().map(|part| part.etag.clone()).collect());
    let written = target.complete_upload(&to, &upload, &done, &in_parts).await.unwrap();
    assert!(written.fingerprint.looks_like(&target.head(&to).await.unwrap().fingerprint));
    assert!(body(target.as_ref(), "to").await == vec![1; (12 * MIB) as usize]);
    let missing = ObjectKey::from("missing");
    let gone = CopySource { key: &missing, ..from(&new) };
    assert_eq!(target.copy(&gone, &to, &any).await.unwrap_err().kind, StoreErrorKind::NotFound);
    let absent = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
    let there = target.copy(&from(&new), &to, &absent).await.unwrap_err();
    assert_eq!(there.kind, StoreErrorKind::Precondition, "{there}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_between_two_buckets_the_server_copies() {
    let Some(server) = services::s3() else { return };
    mirror(
        Arc::new(s3(&server, "across-from")),
        Arc::new(s3(&server, "across-to")),
        &[Evidence::Etag, Evidence::StoreChecksum],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_buckets_copy_only_the_version_that_is_meant() {
    let Some(server) = services::s3() else { return };
    conditions(Arc::new(s3(&server, "version-from")), Arc::new(s3(&server, "version-to"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_between_two_containers_the_service_copies() {
    let Some(server) = services::azure() else { return };
    mirror(Arc::new(azure(&server, "across-from")), Arc::new(azure(&server, "across-to")), &[Evidence::None]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_between_two_accounts_the_service_copies() {
    let (Some(server), Some(other)) = (services::azure(), services::azure_other()) else { return };
    mirror(Arc::new(azure(&server, "account-from")), Arc::new(azure(&other, "account-to")), &[Evidence::None]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_12_containers_and_accounts_copy_only_the_version_that_is_meant() {
    let (Some(server), Some(other)) = (services::azure(), services::azure_other()) else { return };
    conditions(Arc::new(azure(&server, "version-from")), Arc::new(azure(&server, "version-to"))).await;
    conditions(Arc::new(azure(&server, "version-from")), Arc::new(azure(&other, "version-to"))).await;
}

/// An account whose key is not that of the source's store: the service does not read there, nor can anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_may_not_read_the_source_says_so() {
    let (Some(server), Some(other)) = (services::azure(), services::azure_other()) else { return };
    let source = azure(&server, "denied-from");
    put(&source, "k", pattern(100)).await;
    let expect = source.head(&"k".into()).await.unwrap().fingerprint;
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("account_key".to_owned(), "d3Jvbmcta2V5".to_owned()),
    ]);
    let wrong = AzureStore::open(AzureConfig {
        account: Some(server.account.clone()),
        container: "denied".into(),
        options,
        ..AzureConfig::default()
    })
    .unwrap();
    let origin = wrong.origin().unwrap();
    let key = "k".into();
    let from = CopySource { origin: Some(&origin), key: &key, expect: &expect, keep_attributes: true };
    let target = azure(&other, "denied-to");
    let refused = target.copy(&from, &"to".into(), &PutOptions::default()).await.unwrap_err();
    assert!(refused.class() == manifest::Class::Permanent, "{refused}");
    assert!(!refused.to_string().contains("sig="), "{refused}");
}

/// The real binary, between two buckets.
#[test]
fn the_command_copies_between_buckets_and_says_what_is_unproven() {
    let Some(server) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path()).with_s3(&server);
    write(&home.path().join("source/a"), 5000);
    write(&home.path().join("source/large"), 20 * MIB);
    let [from, to] = ["cli-from", "cli-to"].map(|purpose| format!("s3://{}/lake", server.fresh_bucket(purpose)));
    shell.run(&["copy", "source", &from]).expect(0);
    let small = ["--target-option", "max_copy_bytes=8388608"];
    let ran = shell.run(&[&["copy", "--json", &from, &to][..], &small].concat()).expect(0);
    assert_eq!((ran.number("bytes/read"), ran.number("bytes/written")), (0, 0), "{}", ran.stdout);
    assert_eq!((ran.number("bytes/server_side"), ran.number("requests/copy")), (5000 + 20 * MIB, 4));
    let unproven = shell.run(&["verify", &from, &to]).expect(3);
    assert!(unproven.stdout.contains("? a") && unproven.stdout.contains("? large"), "{}", unproven.stdout);
    shell.run(&["verify", "--level", "content", &from, &to]).expect(0);
    shell.run(&["copy", "--hash", &from, &to]).expect(0);
    shell.run(&["verify", &from, &to]).expect(0);
    // A single object, too.
    let (one, other) = (format!("{from}/a"), format!("{to}-one/b"));
    let ran = shell.run(&["copy", "--json", &one, &other]).expect(0);
    assert_eq!((ran.number("bytes/read"), ran.number("bytes/server_side")), (0, 5000), "{}", ran.stdout);
    let wrong = shell.run(&["copy", &from, &to, "--target-option", "max_copy_bytes=1"]).expect(2);
    assert!(wrong.stderr.contains("max_copy_bytes"), "{}", wrong.stderr);
}

fn write(path: &Path, size: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, pattern(size)).unwrap();
}

/// Uploads that others left are counted, never touched; those that our own journals name are ours to go on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_18_unfinished_uploads_of_others_are_told_of_and_left_alone() {
    let Some(server) = services::s3() else { return };
    let (source, target) = (Arc::new(s3(&server, "left-from")), Arc::new(s3(&server, "left-to")));
    put(source.as_ref(), "large", pattern(20 * MIB)).await;
    let mut foreign = Vec::new();
    for key in ["a", "b/c"] {
        foreign.push(target.create_upload(&key.into(), 6 * MIB, &PutOptions::default()).await.unwrap());
    }
    let mut pair = Pair::new(source, target.clone());
    let rules = vec![Rule::every(Method::CopyPart, Fault::Fail(StoreErrorKind::Server)).from_call(2)];
    pair.target = Arc::new(FaultStore::new(target.clone(), FaultPlan { rules, ..FaultPlan::default() }));
    pair.ends_with(3).await;
    pair.target = target.clone();
    let open: BTreeSet<_> = target.list_uploads().await.unwrap().unwrap().into_iter().map(|id| id.0).collect();
    assert_eq!(open.len(), 3, "two of others and ours");
    let mut told = Vec::new();
    let stop = Default::default();
    distcp::check::look(&pair.job(), &stop, |finding| told.push(finding.text.clone())).await;
    assert!(told.iter().any(|text| text.starts_with("2 unfinished uploads")), "{told:#?}");
    pair.copied().await;
    let left: BTreeSet<_> = target.list_uploads().await.unwrap().unwrap().into_iter().map(|id| id.0).collect();
    assert_eq!(left, foreign.into_iter().map(|id| id.0).collect());
}

/// A server that lets everybody read and write, but not copy from there: whole objects at once, large ones in their middle.
#[test]
fn what_a_server_refuses_to_copy_is_sent_and_said_once() {
    let Some(server) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    let [from, to] =
        ["refused-from", "refused-to"].map(|purpose| format!("s3://{}/lake", server.fresh_bucket(purpose)));
    for i in 0..12 {
        write(&home.path().join(format!("source/{i}")), 1000 + i);
    }
    write(&home.path().join("source/large"), 40 * MIB);
    Shell::new(home.path()).with_s3(&server).run(&["copy", "source", &from]).expect(0);
    let refused = "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
    let proxy = Proxy::before(&server.endpoint, move |request| {
        let copies = request.header("x-amz-copy-source").is_some();
        // The first part of the large one is copied.
        match copies && !request.target.contains("partNumber=1&") {
            true => Answer::error("403 Forbidden", refused),
            false => Answer::Pass,
        }
    });
    let mut behind = server.clone();
    behind.endpoint = proxy.endpoint();
    let shell = Shell::new(home.path()).with_s3(&behind);
    let small = ["--target-option", "max_copy_bytes=8388608"];
    let ran = shell.run(&[&["copy", "--json", &from, &to][..], &small].concat()).expect(0);
    let sum = (0..12).map(|i| 1000 + i).sum::<u64>() + 40 * MIB;
    assert_eq!((ran.number("counts/copied"), ran.number("bytes/read")), (13, sum), "{}", ran.stdout);
    assert_eq!(ran.stderr.matches("read and sent instead").count(), 1, "{}", ran.stderr);
    shell.run(&["verify", &from, &to]).expect(0);
    shell.run(&["verify", "--level", "content", &from, &to]).expect(0);
}
