//! The S3 store against S3Mock, a server that keeps every key as it is: the keys that no file system holds and that versitygw
//! keeps under another name or not at all. It lists in UTF-16 order, and its conditions are not atomic: two
//! of sixteen racing writers were seen to win, which no probe by one writer can find. So what is shown here of state (rule 16) is
//! that the probe accepts what one writer at a time sees; that a server's conditions are atomic is its maker's promise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use distcp::event::Outcome;
use distcp::list::fan;
use distcp::store::memory::MemoryStore;
use distcp::store::s3::{S3Config, S3Store};
use distcp::store::state::ObjectState;
use distcp::store::{
    CopySource, GetOptions, ListOptions, PartSpec, Precondition, Proof, PutOptions, Store, StoreError, StoreErrorKind,
};
use distcp::verify::Level;
use futures::{StreamExt as _, TryStreamExt as _};
use manifest::{Listed, ObjectKey};
use tests::contract::{lax_store_contract, pattern, put, read};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, local};
use tests::proxy::{Answer, Proxy};
use tests::services::{self, S3Mock};

/// The smallest part that S3 takes, but for the last.
const PART_BYTES: usize = 5 << 20;
/// A key of the server's key management service.
const KMS_KEY_ID: &str = "understudy-test";
/// Writes at once where a test fills a bucket.
const WRITERS: usize = 16;

/// Keys that a bucket holds. What they hold is their own name.
const ODD: [&str; 33] = [
    "x",
    "x/y",
    "a/b",
    "a//b",
    "a//",
    "a///b",
    "/x",
    "//",
    "/",
    "k/dir/",
    "k/dir",
    "trail/",
    "new\nline",
    "tab\tcr\r",
    "bell\u{7}",
    "esc\u{1b}[0m",
    "nel\u{85}",
    "ünï/日本",
    "u\u{308}ni",
    "\u{1f600}/smile",
    "pl+us",
    "per%cent",
    "%41",
    "p/%2E%2E/q",
    "hash#q?x=1&y",
    "quo'te\"s",
    "<tag>&amp;",
    " lead",
    "trail ",
    "back\\slash",
    "a=b;c:d@e!f$g(h)*,[]{}|^`~",
    "x/...",
    "..x",
];

/// Keys that such a server keeps and no URL of ours can name.
const DOTS: [&str; 6] = ["./z", "x/../y", "..", "x/.", "../up", "x/./z"];

fn config(endpoint: &str, bucket: &str) -> S3Config {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), endpoint.to_owned()),
        ("access_key_id".to_owned(), "any".to_owned()),
        ("secret_access_key".to_owned(), "any".to_owned()),
    ]);
    S3Config { bucket: bucket.to_owned(), options, ..S3Config::default() }
}

fn open(server: &S3Mock, bucket: &str) -> S3Store {
    S3Store::open(config(&server.endpoint, bucket)).unwrap()
}

/// All the keys, one of them as long as keys may be.
fn odd_keys() -> BTreeSet<String> {
    let longest = format!("{}/{}é", "l".repeat(500), "m".repeat(521));
    assert_eq!(longest.len(), 1024);
    ODD.into_iter().map(str::to_owned).chain([longest]).collect()
}

async fn fill(store: &dyn Store, keys: impl IntoIterator<Item = String>) {
    let writes = futures::stream::iter(keys).for_each_concurrent(WRITERS, |key| async move {
        put(store, &key, key.clone().into_bytes()).await;
    });
    writes.await;
}

async fn collected(
    pages: futures::stream::BoxStream<'static, Result<Vec<Listed>, StoreError>>,
) -> Result<Vec<ObjectKey>, StoreError> {
    let pages: Vec<Vec<Listed>> = pages.try_collect().await?;
    Ok(pages.into_iter().flatten().map(|listed| listed.key).collect())
}

/// What a store holds, read key by key.
async fn objects(store: &dyn Store) -> BTreeMap<ObjectKey, Bytes> {
    let mut objects = BTreeMap::new();
    for key in collected(store.list(ListOptions::default())).await.unwrap() {
        let body = read(store, &key, GetOptions::default()).await.unwrap();
        objects.insert(key, body);
    }
    objects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_store_contract_but_for_what_the_server_breaks() {
    let Some(server) = services::s3mock() else { return };
    lax_store_contract(|| async { Arc::new(open(&server, &server.fresh_bucket("contract"))) as Arc<dyn Store> }).await;
}

#[tokio::test]
async fn case_37_every_key_goes_and_comes_as_it_is() {
    let Some(server) = services::s3mock() else { return };
    let bucket = server.fresh_bucket("odd");
    let store = open(&server, &bucket);
    let mut names = odd_keys();
    // Beside the one beyond U+FFFF: this test lists by an independent client.
    names.insert("\u{ffff}".to_owned());
    for name in &names {
        let key = ObjectKey::from(name.as_str());
        let body = Bytes::from(name.clone());
        let written = store.put(&key, body.clone().into(), &PutOptions::default()).await.unwrap();
        assert_eq!(read(&store, &key, GetOptions::default()).await.unwrap(), body, "{name:?}");
        let info = store.head(&key).await.unwrap();
        assert!(written.fingerprint.looks_like(&info.fingerprint), "{name:?}");
    }
    let sorted: Vec<String> = names.iter().cloned().collect();
    assert_eq!(server.keys(&bucket), sorted, "no probe is left, nothing has another name");

    // What stands at one key is not touched by what is done to its neighbours.
    let info = store.head(&"a//b".into()).await.unwrap();
    let from = "a//b".into();
    store.copy(&CopySource::here(&from, &info.fingerprint), &"c//d/".into(), &PutOptions::default()).await.unwrap();
    assert_eq!(read(&store, &"c//d/".into(), GetOptions::default()).await.unwrap(), "a//b");
    for answer in store.delete(&["c//d/".into(), "x".into(), "k/dir/".into(), "a//b".into(), "c/d".into()]).await {
        answer.unwrap();
    }
    let left: Vec<String> =
        names.into_iter().filter(|name| !["x", "k/dir/", "a//b"].contains(&name.as_str())).collect();
    assert_eq!(server.keys(&bucket), left);
    let all: Vec<ObjectKey> = left.iter().map(|name| name.as_str().into()).collect();
    for answer in store.delete(&all).await {
        answer.unwrap();
    }
    assert_eq!(server.keys(&bucket), Vec::<String>::new());
}

/// A client that collapses `x/../y` would read and write `y`.
#[tokio::test]
async fn case_37_dot_segments_are_refused_by_name_and_no_other_key_is_touched() {
    let Some(server) = services::s3mock() else { return };
    let (bucket, to) = (server.fresh_bucket("dots"), server.fresh_bucket("dots-to"));
    for key in DOTS.iter().chain(&["y", "z", "up", "x/z"]) {
        assert_eq!(server.send("PUT", &format!("/{bucket}/{key}"), &format!("of {key}")).0, 200, "{key}");
    }
    let before = server.keys(&bucket);
    assert_eq!(before.len(), DOTS.len() + 4, "the server keeps them all apart: {before:?}");
    let store = open(&server, &bucket);
    for bad in DOTS {
        let key = ObjectKey::from(bad);
        let refused = |error: StoreError| assert_eq!(error.kind, StoreErrorKind::InvalidKey, "{bad}: {error}");
        refused(store.put(&key, Bytes::from_static(b"?").into(), &PutOptions::default()).await.unwrap_err());
        refused(read(&store, &key, GetOptions::default()).await.unwrap_err());
        refused(store.head(&key).await.unwrap_err());
        refused(store.create_upload(&key, 1, &PutOptions::default()).await.unwrap_err());
        refused(store.delete(std::slice::from_ref(&key)).await.remove(0).unwrap_err());
    }
    let listed = collected(store.list(ListOptions::default())).await.unwrap();
    assert_eq!(listed, before.iter().map(|key| key.as_str().into()).collect::<Vec<_>>());
    // As a source: what cannot be read fails by name, the others arrive, and nothing is deleted for it.
    let mut pair = Pair::new(Arc::new(store), Arc::new(open(&server, &to)));
    pair.options.delete = true;
    pair.ends_with(3).await;
    let mut failed: Vec<String> = DOTS.map(str::to_owned).into();
    failed.sort();
    assert_eq!(pair.ended(Outcome::Failed), failed);
    assert_eq!(server.keys(&to), ["up", "x/z", "y", "z"]);
    for key in ["up", "x/z", "y", "z"] {
        assert_eq!(server.send("GET", &format!("/{to}/{key}"), ""), (200, format!("of {key}")));
    }
    assert_eq!(server.keys(&bucket), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_37_buckets_of_odd_keys_are_mirrored_and_then_there_is_nothing_to_do() {
    let Some(server) = services::s3mock() else { return };
    let (from, to) = (server.fresh_bucket("from"), server.fresh_bucket("to"));
    let source: Arc<dyn Store> = Arc::new(open(&server, &from));
    fill(&*source, odd_keys()).await;
    let target: Arc<dyn Store> = Arc::new(open(&server, &to));
    fill(&*target, ["x/y/z", "a///b//", "/extra", "trail", "a/b"].map(str::to_owned)).await;
    let memory = MemoryStore::new();
    for (source, target) in [(source.clone(), target.clone()), (target, Arc::new(memory.clone()))] {
        let mut pair = Pair::new(source, target);
        pair.options.delete = true;
        pair.copied().await;
        let again = pair.copied().await;
        assert_eq!((again.summary.counts.copied, again.summary.counts.deleted), (0, 0), "{:#?}", again.summary);
        assert_eq!(pair.verify(Level::Content).await, (Vec::new(), 0));
    }
    let all: Vec<String> = odd_keys().into_iter().collect();
    assert_eq!(server.keys(&to), all);
    let expected: BTreeMap<ObjectKey, Bytes> =
        all.into_iter().map(|name| (name.as_str().into(), Bytes::from(name))).collect();
    assert_eq!(memory.objects(), expected);
    assert_eq!(objects(&*source).await, expected);
}

/// A folder holds what is a path; the others fail by name, and none is written under another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_37_a_folder_takes_what_it_can_hold_and_the_rest_fails_by_name() {
    let Some(server) = services::s3mock() else { return };
    let store = open(&server, &server.fresh_bucket("down"));
    let is_path = |key: &String| {
        !["x", "k/dir"].contains(&key.as_str())
            && key.split('/').all(|segment| !segment.is_empty() && segment.len() < 256)
    };
    // `x` and `k/dir` are folders there.
    let keys: BTreeSet<String> = odd_keys().into_iter().filter(|key| !["x", "k/dir"].contains(&key.as_str())).collect();
    fill(&store, keys.iter().cloned()).await;
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new(Arc::new(store), Arc::new(local(&folder.path().join("t"))));
    pair.ends_with(3).await;
    let failed: Vec<ObjectKey> =
        pair.reports().into_iter().filter(|r| r.outcome == Outcome::Failed).map(|r| r.key).collect();
    let failed: BTreeSet<String> = failed.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
    assert_eq!(failed, keys.iter().filter(|key| !is_path(key)).cloned().collect());
    let held = objects(&local(&folder.path().join("t"))).await;
    let expected = keys.into_iter().filter(is_path).map(|key| (key.as_str().into(), Bytes::from(key)));
    assert_eq!(held, expected.collect());
}

/// Keys beyond U+FFFF stand before U+E000 to U+FFFF in UTF-16 and after them in UTF-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_35_a_listing_in_utf_16_order_is_an_error_and_never_short() {
    const PAGE_KEYS: usize = 8;
    let Some(server) = services::s3mock() else { return };
    let bucket = server.fresh_bucket("order");
    let small_pages = Proxy::before(&server.endpoint, |request| match request.is_listing() {
        true => Answer::Instead(request.target.replace("max-keys=1000", &format!("max-keys={PAGE_KEYS}"))),
        false => Answer::Pass,
    });
    let direct = open(&server, &bucket);
    let paged: Arc<dyn Store> = Arc::new(S3Store::open(config(&small_pages.endpoint(), &bucket)).unwrap());
    let name = |prefix: &str, i: usize| format!("{prefix}/{i:04}");
    // As long as only one kind is there, both orders are the same.
    let smiles: Vec<String> = (0..72).map(|i| name("\u{1f600}", i)).collect();
    fill(&direct, smiles.clone()).await;
    let expected: Vec<ObjectKey> = smiles.iter().map(|key| key.as_str().into()).collect();
    assert_eq!(collected(fan::list(paged.clone(), ListOptions::default())).await.unwrap(), expected);
    assert!(small_pages.requests() > smiles.len() / PAGE_KEYS, "it came in pages");

    // With both, and every cut of the key space that the number of keys leads to.
    fill(&direct, (0..20).map(|i| name("\u{ff01}", i))).await;
    for left in (60..=72).rev() {
        for answer in direct.delete(&smiles[left..].iter().map(|key| key.as_str().into()).collect::<Vec<_>>()).await {
            answer.unwrap();
        }
        let error = collected(fan::list(paged.clone(), ListOptions::default())).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Protocol, "{left}: {error}");
        assert!(error.to_string().contains("out of order"), "{left}: {error}");
    }
    collected(direct.list(ListOptions::default())).await.unwrap_err();

    // So a mirror of it changes nothing, whichever side it is on.
    let other = MemoryStore::new();
    put(&other, "only here", Bytes::from_static(b"kept")).await;
    let held = server.keys(&bucket);
    for as_source in [true, false] {
        let (from, to): (Arc<dyn Store>, Arc<dyn Store>) = match as_source {
            true => (paged.clone(), Arc::new(other.clone())),
            false => (Arc::new(other.clone()), paged.clone()),
        };
        let mut pair = Pair::new(from, to);
        pair.options.delete = true;
        let report = pair.copy().await;
        assert!(report.failure.is_some(), "{:#?}", report.summary);
        assert_eq!((other.objects().len(), server.keys(&bucket)), (1, held.clone()));
    }
}

/// A write is proven by the checksum that the server echoes, or by an ETag that is the MD5. Under a key management service an
/// ETag is none: without a checksum what was written is read back, and no later run takes such an ETag for the content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_10_what_the_server_does_not_prove_is_read_back() {
    let Some(server) = services::s3mock() else { return };
    let source = MemoryStore::new();
    put(&source, "large", pattern(2 * PART_BYTES as u64 + 17)).await;
    put(&source, "small//", Bytes::from_static(b"some bytes")).await;
    for (checksum, encrypted) in [("crc64nvme", false), ("crc64nvme", true), ("none", false), ("none", true)] {
        let unproven = checksum == "none" && encrypted;
        let mut config = config(&server.endpoint, &server.fresh_bucket("proof"));
        config.options.insert("checksum_algorithm".into(), checksum.into());
        if encrypted {
            config.options.insert("aws_server_side_encryption".into(), "aws:kms".into());
            config.options.insert("aws_sse_kms_key_id".into(), KMS_KEY_ID.into());
        }
        let store: Arc<dyn Store> = Arc::new(S3Store::open(config).unwrap());
        let written = put(&*store, "extra", Bytes::from_static(b"some bytes")).await;
        let expected = if unproven { Proof::None } else { Proof::Checksum };
        assert_eq!(written.proof, expected, "{checksum}, encrypted: {encrypted}");
        let counting = Arc::new(FaultStore::counting(store.clone()));
        let mut pair = Pair::new(Arc::new(source.clone()), counting.clone());
        pair.options.delete = true;
        pair.copied().await;
        assert_eq!(counting.calls_on(Method::Get, "small//") > 0, unproven, "{checksum}, encrypted: {encrypted}");
        assert!(pair.rows().await.iter().all(|row| row.hash.is_some()));
        let again = pair.copied().await;
        assert_eq!((again.summary.counts.equal, again.summary.bytes.written), (2, 0), "{:#?}", again.summary);
        assert_eq!(objects(&*store).await, source.objects());
    }
}

#[tokio::test]
async fn uploads_are_listed_and_put_together() {
    let Some(server) = services::s3mock() else { return };
    let store = open(&server, &server.fresh_bucket("parts"));
    let key = ObjectKey::from("odd//big/");
    let data = pattern(2 * PART_BYTES as u64 + 17);
    let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
    let upload = store.create_upload(&key, data.len() as u64, &options).await.unwrap();
    let mut parts = Vec::new();
    for (i, chunk) in data.chunks(PART_BYTES).enumerate() {
        let part = PartSpec { number: i as u32 + 1, offset: (i * PART_BYTES) as u64, size_bytes: chunk.len() as u64 };
        parts.push(store.put_part(&key, &upload, part, data.slice_ref(chunk).into()).await.unwrap());
    }
    let listed = store.list_parts(&key, &upload).await.unwrap();
    let ids =
        |parts: &[distcp::store::UploadedPart]| parts.iter().map(|p| (p.part, p.etag.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&parts));
    let written = store.complete_upload(&key, &upload, &parts, &options).await.unwrap();
    assert!(written.fingerprint.looks_like(&store.head(&key).await.unwrap().fingerprint));
    assert_eq!(read(&store, &key, GetOptions::default()).await.unwrap(), data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_29_an_upload_that_was_cut_off_goes_on_under_the_same_id() {
    let Some(server) = services::s3mock() else { return };
    let bucket = server.fresh_bucket("resume");
    let target: Arc<dyn Store> = Arc::new(open(&server, &bucket));
    let source = MemoryStore::new();
    let data = pattern(4 * PART_BYTES as u64 + 17);
    put(&source, "large", data.clone()).await;
    let faulty = |rules| Arc::new(FaultStore::new(target.clone(), FaultPlan { rules, ..FaultPlan::default() }));
    // All parts arrive, then the connection is gone.
    let broken = faulty(vec![Rule::every(Method::CompleteUpload, Fault::Fail(StoreErrorKind::Connection))]);
    let mut pair = Pair::new(Arc::new(source), broken.clone());
    let report = pair.copy().await;
    assert_eq!(report.summary.counts.failed, 1, "{:#?}", report.summary);
    assert_eq!((broken.calls(Method::CreateUpload), broken.calls(Method::AbortUpload)), (1, 0));
    assert!(broken.calls(Method::PutPart) > 1);
    let working = faulty(vec![]);
    pair.target = working.clone();
    pair.copied().await;
    let calls = [Method::CreateUpload, Method::PutPart, Method::ListParts].map(|method| working.calls(method));
    assert_eq!(calls, [0, 0, 1], "nothing is sent again");
    assert_eq!(read(&*target, &"large".into(), GetOptions::default()).await.unwrap(), data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_state_on_it_is_accepted_by_the_probe_and_serves_one_run_at_a_time() {
    let Some(server) = services::s3mock() else { return };
    let source = MemoryStore::new();
    fill(&source, ["a", "b//c", "/d"].map(str::to_owned)).await;
    let mut pair = Pair::new(Arc::new(source), Arc::new(open(&server, &server.fresh_bucket("data"))));
    let state = ObjectState::new(Arc::new(open(&server, &server.fresh_bucket("state")))).unwrap();
    manifest::state::probe::probe(&state).await.unwrap();
    pair.state = Arc::new(state);
    pair.copied().await;
    let again = pair.copied().await;
    assert_eq!((again.summary.counts.equal, again.summary.counts.copied), (3, 0));
    assert_eq!(pair.rows().await.len(), 3);
}
