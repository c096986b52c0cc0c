//! The S3 store against a real server: every operation, odd keys, conditions, proofs. Each test works below a prefix of its
//! own in the bucket that all share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use distcp::store::meter::{Meter, Metered};
use distcp::store::pace::{Bandwidth, Pace, Paced, Timetable};
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::s3::{S3Config, S3Store};
use distcp::store::state::ObjectState;
use distcp::store::{
    CopySource, GetOptions, ListOptions, PartSpec, Precondition, Proof, PutOptions, Store, StoreErrorKind, UploadId,
};
use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind, ObjectKey};
use tests::contract::store_contract;
use tests::services::{self, S3};
use tokio_util::sync::CancellationToken;

/// The smallest part that S3 takes, but for the last.
const PART_BYTES: usize = 5 << 20;

fn config(server: &S3, prefix: &str) -> S3Config {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("access_key_id".to_owned(), server.access_key.clone()),
        ("secret_access_key".to_owned(), server.secret_key.clone()),
    ]);
    // A run's own prefix: tests of an earlier run on the same server leave nothing in the way.
    let unique: u64 = rand::random();
    S3Config {
        bucket: server.bucket.clone(),
        prefix: format!("{prefix}-{unique:x}").into(),
        options,
        ..S3Config::default()
    }
}

fn open(server: &S3, prefix: &str) -> S3Store {
    S3Store::open(config(server, prefix)).unwrap()
}

async fn keys(store: &S3Store, options: ListOptions) -> Vec<ObjectKey> {
    let pages: Vec<_> = store.list(options).try_collect().await.unwrap();
    pages.into_iter().flatten().map(|listed| listed.key).collect()
}

async fn body(store: &S3Store, key: &ObjectKey, options: GetOptions) -> Bytes {
    let pieces: Vec<Bytes> = store.get(key, options).await.unwrap().body.try_collect().await.unwrap();
    pieces.concat().into()
}

fn noise(len: usize) -> Bytes {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect::<Vec<u8>>().into()
}

fn when(precondition: Precondition) -> PutOptions {
    PutOptions { precondition, ..PutOptions::default() }
}

#[tokio::test]
async fn case_37_odd_keys_go_and_come_as_they_are() {
    let Some(server) = services::s3() else { return };
    let store = open(&server, "odd");
    let mut expected = BTreeSet::new();
    for name in [
        "plain",
        "sp ace",
        "pl+us",
        "per%cent",
        "%41",
        "p/%2E%2E/q",
        "hash#q?x=1&y",
        "quo'te\"s",
        "ünï/日本",
        "a=b;c:d@e!f$g(h)*,",
        "til~de",
        "back\\slash",
    ] {
        let key = ObjectKey::from(name);
        let written = store.put(&key, Bytes::from(name).into(), &PutOptions::default()).await.unwrap();
        assert_eq!(written.proof, Proof::Checksum, "{name}");
        assert_eq!(body(&store, &key, GetOptions::default()).await, name);
        let info = store.head(&key).await.unwrap();
        assert!(written.fingerprint.looks_like(&info.fingerprint), "{name}");
        expected.insert(key);
    }
    assert_eq!(keys(&store, ListOptions::default()).await, expected.iter().cloned().collect::<Vec<_>>());
    for bad in ["x/../y", "./z", "..", "../up"] {
        let error = store.put(&bad.into(), Bytes::new().into(), &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::InvalidKey, "{bad}");
    }
    let mut all: Vec<ObjectKey> = expected.into_iter().collect();
    all.push("never/was".into());
    for answer in store.delete(&all).await {
        answer.unwrap();
    }
    assert!(keys(&store, ListOptions::default()).await.is_empty());
}

#[tokio::test]
async fn listings_page_resume_and_leave_out() {
    let Some(server) = services::s3() else { return };
    let store = open(&server, "many");
    let all: Vec<ObjectKey> = (0..1203).map(|i| ObjectKey::from(format!("d{}/f{i:05}", i % 7))).collect();
    for key in &all {
        store.put(key, Bytes::from_static(b"x").into(), &PutOptions::default()).await.unwrap();
    }
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(keys(&store, ListOptions::default()).await, sorted);
    let after = ListOptions { after: Some(sorted[1100].clone()), ..ListOptions::default() };
    assert_eq!(keys(&store, after).await, sorted[1101..]);
    let without = ListOptions { without: vec!["d3".into()], ..ListOptions::default() };
    let kept: Vec<ObjectKey> = sorted.iter().filter(|key| !key.is_within(&"d3".into())).cloned().collect();
    assert_eq!(keys(&store, without).await, kept);
    for batch in sorted.chunks(store.capabilities().delete_batch) {
        for answer in store.delete(batch).await {
            answer.unwrap();
        }
    }
    assert!(keys(&store, ListOptions::default()).await.is_empty());
}

#[tokio::test]
async fn conditions_hold() {
    let Some(server) = services::s3() else { return };
    let store = open(&server, "conditions");
    let key = ObjectKey::from("k");
    let first = store.put(&key, Bytes::from_static(b"one").into(), &when(Precondition::Absent)).await.unwrap();
    let again = store.put(&key, Bytes::from_static(b"two").into(), &when(Precondition::Absent)).await.unwrap_err();
    assert_eq!(again.kind, StoreErrorKind::Precondition);
    let matches = when(Precondition::Matches(first.fingerprint.clone()));
    let second = store.put(&key, Bytes::from_static(b"two").into(), &matches).await.unwrap();
    let stale = store.put(&key, Bytes::from_static(b"three").into(), &matches).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Precondition);
    let wanted = |expect| GetOptions { expect: Some(expect), range: None };
    let old = store.get(&key, wanted(first.fingerprint.clone())).await.map(drop).unwrap_err();
    assert_eq!(old.kind, StoreErrorKind::Precondition);
    assert_eq!(body(&store, &key, wanted(second.fingerprint.clone())).await, "two");
    let gone = store.put(&"other".into(), Bytes::new().into(), &matches).await.unwrap_err();
    assert_eq!(gone.kind, StoreErrorKind::Precondition);
    let to = ObjectKey::from("copy");
    let old = store.copy(&CopySource::here(&key, &first.fingerprint), &to, &PutOptions::default()).await.unwrap_err();
    assert_eq!(old.kind, StoreErrorKind::Precondition);
    let copied =
        store.copy(&CopySource::here(&key, &second.fingerprint), &to, &when(Precondition::Absent)).await.unwrap();
    assert_eq!(copied.fingerprint.etag, second.fingerprint.etag);
    let there =
        store.copy(&CopySource::here(&key, &second.fingerprint), &to, &when(Precondition::Absent)).await.unwrap_err();
    assert_eq!(there.kind, StoreErrorKind::Precondition);
    assert_eq!(store.head(&"nothing".into()).await.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn attributes_and_ranges_survive() {
    let Some(server) = services::s3() else { return };
    let store = open(&server, "attributes");
    let key = ObjectKey::from("k");
    let mut attributes = Attributes::new();
    for (name, value) in [
        ("content-type", "text/plain"),
        ("cache-control", "max-age=60"),
        ("content-disposition", "attachment"),
        ("content-language", "de"),
        ("content-encoding", "gzip"),
        ("meta:note", "ünï  two blanks"),
        ("meta:mtime", "1700000000.123456789"),
    ] {
        attributes.insert(name.into(), value.into());
    }
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let data = noise(100_000);
    let written = store.put(&key, data.clone().into(), &options).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().attributes, attributes);
    let get = |range| GetOptions { range: Some(range), expect: Some(written.fingerprint.clone()) };
    assert_eq!(body(&store, &key, get(10..20)).await, data[10..20]);
    assert_eq!(body(&store, &key, get(0..100_000)).await, data);
    assert_eq!(body(&store, &key, get(99_999..100_000)).await, data[99_999..]);
    assert_eq!(body(&store, &key, get(5..5)).await, "");
    let kept = ObjectKey::from("kept");
    let keeping = CopySource { keep_attributes: true, ..CopySource::here(&key, &written.fingerprint) };
    store.copy(&keeping, &kept, &PutOptions::default()).await.unwrap();
    assert_eq!(store.head(&kept).await.unwrap().attributes, attributes);
    let mut other = Attributes::new();
    other.insert("meta:only".into(), "this".into());
    let replaced = ObjectKey::from("replaced");
    let options = PutOptions { attributes: other.clone(), ..PutOptions::default() };
    store.copy(&CopySource::here(&key, &written.fingerprint), &replaced, &options).await.unwrap();
    assert_eq!(store.head(&replaced).await.unwrap().attributes.get("meta:only").map(String::as_str), Some("this"));
    let link = PutOptions { kind: EntryKind::Symlink, ..PutOptions::default() };
    store.put(&"link".into(), Bytes::from_static(b"k").into(), &link).await.unwrap();
    assert_eq!(store.head(&"link".into()).await.unwrap().kind, EntryKind::Symlink);
    store.put(&"empty".into(), Bytes::new().into(), &PutOptions::default()).await.unwrap();
    assert_eq!(body(&store, &"empty".into(), GetOptions::default()).await, "");
}

#[tokio::test]
async fn uploads_in_parts_are_proven_listed_and_forgotten() {
    let Some(server) = services::s3() else { return };
    let store = open(&server, "parts");
    let key = ObjectKey::from("big");
    let data = noise(2 * PART_BYTES + 17);
    let options = when(Precondition::Absent);
    let upload = store.create_upload(&key, data.len() as u64, &options).await.unwrap();
    let mut parts = Vec::new();
    for (i, chunk) in data.chunks(PART_BYTES).enumerate() {
        let part = PartSpec { number: i as u32 + 1, offset: (i * PART_BYTES) as u64, size_bytes: chunk.len() as u64 };
        parts.push(store.put_part(&key, &upload, part, data.slice_ref(chunk).into()).await.unwrap());
        assert_eq!(parts[i].proof, Proof::Checksum);
    }
    let listed = store.list_parts(&key, &upload).await.unwrap();
    let ids =
        |parts: &[distcp::store::UploadedPart]| parts.iter().map(|p| (p.part, p.etag.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&parts));
    parts.reverse();
    let written = store.complete_upload(&key, &upload, &parts, &options).await.unwrap();
    assert_eq!(written.proof, Proof::Checksum);
    assert!(written.fingerprint.looks_like(&store.head(&key).await.unwrap().fingerprint));
    assert_eq!(body(&store, &key, GetOptions::default()).await, data);
    assert_eq!(store.list_parts(&key, &upload).await.unwrap_err().kind, StoreErrorKind::NotFound);

    let second = store.create_upload(&key, 3, &options).await.unwrap();
    let part = PartSpec { number: 1, offset: 0, size_bytes: 3 };
    let one = store.put_part(&key, &second, part, Bytes::from_static(b"abc").into()).await.unwrap();
    let refused = store.complete_upload(&key, &second, &[one], &options).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
    store.abort_upload(&key, &second).await.unwrap();
    store.abort_upload(&key, &second).await.unwrap();
    let unknown = store.list_parts(&key, &UploadId("no-such-upload".into())).await.unwrap_err();
    assert_eq!(unknown.kind, StoreErrorKind::NotFound);
    for answer in store.delete(&[key]).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn case_22_what_is_wrong_is_said() {
    let Some(server) = services::s3() else { return };
    let mut missing = config(&server, "x");
    missing.bucket = "no-such-bucket-here".into();
    let store = S3Store::open(missing).unwrap();
    assert_eq!(store.check_bucket().await.unwrap_err().kind, StoreErrorKind::NoBucket);
    let listed: Result<Vec<_>, _> = store.list(ListOptions::default()).try_collect().await;
    assert_eq!(listed.unwrap_err().kind, StoreErrorKind::NoBucket);
    let mut wrong = config(&server, "x");
    wrong.options.insert("secret_access_key".into(), "wrong-secret".into());
    let error = S3Store::open(wrong).unwrap().check_bucket().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Credentials);
    assert!(!error.to_string().contains("wrong-secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_store_contract() {
    let Some(server) = services::s3() else { return };
    store_contract(|| async { Arc::new(open(&server, "contract")) as Arc<dyn Store> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_all_decorators_keeps_the_store_contract() {
    let Some(server) = services::s3() else { return };
    let meter = Arc::new(Meter::default());
    let cancel = CancellationToken::new();
    store_contract(|| async {
        let store: Arc<dyn Store> = Arc::new(Metered::new(Arc::new(open(&server, "decorated")), Arc::clone(&meter)));
        let limit = Arc::new(Bandwidth::new(Timetable::constant(Some(1 << 40)), Arc::new(|| 0)));
        let pace = Arc::new(Pace::new(limit, Some(1e9), cancel.clone()));
        let store = Arc::new(Paced::new(store, pace));
        Arc::new(Retried::new(store, RetryPolicy::default(), 1, Arc::clone(&meter), cancel.clone())) as Arc<dyn Store>
    })
    .await;
    let counts = meter.snapshot();
    assert!(counts.requests.put > 0 && counts.requests.list > 0 && counts.requests.copy > 0);
    assert!(counts.bytes.read > 0 && counts.bytes.written > 0 && counts.bytes.server_side > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_16_state_in_a_bucket_keeps_the_state_contract() {
    let Some(server) = services::s3() else { return };
    let store = ObjectState::new(Arc::new(open(&server, "state"))).unwrap();
    manifest::state::contract::state_store_contract(Arc::new(store)).await;
}

/// This server keeps `a//b` as `a/b`: such a key fails by name, and the object of the other name stays as it was.
#[tokio::test]
async fn case_37_a_server_that_stores_keys_under_other_names_is_found_out() {
    let Some(server) = services::s3() else { return };
    let store = open(&server, "alias");
    store.put(&"a/b".into(), Bytes::from_static(b"the other").into(), &PutOptions::default()).await.unwrap();
    for odd in ["a//b", "/a/b"] {
        let answer = store.put(&odd.into(), Bytes::from_static(b"this one").into(), &PutOptions::default()).await;
        let error = answer.unwrap_err();
        assert_eq!((error.kind, error.key.as_ref()), (StoreErrorKind::InvalidKey, Some(&odd.into())), "{error}");
        assert!(error.to_string().contains("under another name"), "{error}");
    }
    assert_eq!(body(&store, &"a/b".into(), GetOptions::default()).await, "the other");
    assert_eq!(keys(&store, ListOptions::default()).await, ["a/b".into()], "no probe is left");
}
