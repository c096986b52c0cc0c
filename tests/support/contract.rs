//! What every store must do, run over every store: `store_contract(|| async { a fresh, empty store })`.
//!
//! A store that lacks something says so in its capabilities; whatever it claims is checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use distcp::list::cover::Cover;
use distcp::store::{
    CopySource, GetOptions, ListOptions, PartSpec, Precondition, PutOptions, Store, StoreError, StoreErrorKind, Written,
};
use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind, Fingerprint, Listed, ObjectKey};

/// Parts of this length are legal everywhere.
const PART_BYTES: u64 = 5 << 20;
/// How many writers race to create one key.
const RACERS: u8 = 16;

/// Runs the whole contract; `make` opens a fresh, empty store each time.
pub async fn store_contract<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    one_racer_creates(make().await).await;
    uploads_honour_preconditions(&*make().await).await;
    lax_store_contract(make).await;
}

/// The contract without what S3Mock is known to break: one of many racing writers wins; an upload that is given up leaves the
/// object that stands there in the listing.
pub async fn lax_store_contract<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    sizes_arrive_as_they_are(&*make().await).await;
    ranges_are_exact(&*make().await).await;
    missing_is_not_found(&*make().await).await;
    another_version_is_refused(&*make().await).await;
    listing_is_complete_and_ordered(&*make().await).await;
    odd_keys_are_kept_or_refused(&*make().await).await;
    preconditions_hold(&*make().await).await;
    attributes_are_kept(&*make().await).await;
    uploads_take_parts_in_any_order(&*make().await).await;
    uploads_can_be_aborted(&*make().await).await;
    copies_are_conditional(&*make().await).await;
    deletes_are_exact(&*make().await).await;
    links_and_folders_are_kept_or_refused(&*make().await).await;
}

/// `len` bytes that repeat nowhere soon.
pub fn pattern(len: u64) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Everything a `get` yields.
pub async fn read(store: &dyn Store, key: &ObjectKey, options: GetOptions) -> Result<Bytes, StoreError> {
    let blocks: Vec<Bytes> = store.get(key, options).await?.body.try_collect().await?;
    Ok(blocks.concat().into())
}

/// The whole listing; panics on an error and, for stores that promise order, on disorder.
pub async fn list_all(store: &dyn Store, options: ListOptions) -> Vec<Listed> {
    let batches: Vec<Vec<Listed>> = store.list(options).try_collect().await.expect("the listing is whole");
    let listed = batches.concat();
    if store.capabilities().ordered_list {
        for pair in listed.windows(2) {
            assert!(pair[0].key < pair[1].key, "{:?} before {:?}", pair[0].key, pair[1].key);
        }
    }
    listed
}

/// Writes an object whatever is there.
pub async fn put(store: &dyn Store, key: &str, body: impl Into<Bytes>) -> Written {
    store
        .put(&key.into(), body.into().into(), &PutOptions::default())
        .await
        .unwrap_or_else(|e| panic!("put {key:?}: {e}"))
}

async fn keys(store: &dyn Store, options: ListOptions) -> BTreeSet<ObjectKey> {
    let listed = list_all(store, options).await;
    let keys: BTreeSet<ObjectKey> = listed.iter().map(|listed| listed.key.clone()).collect();
    assert_eq!(keys.len(), listed.len(), "no key is listed twice");
    keys
}

fn set<'a>(keys: impl IntoIterator<Item = &'a str>) -> BTreeSet<ObjectKey> {
    keys.into_iter().map(ObjectKey::from).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>, kind: StoreErrorKind) -> StoreError {
    match answer {
        Err(error) if error.kind == kind => error,
        other => panic!("{kind:?} was expected, not {other:?}"),
    }
}

async fn sizes_arrive_as_they_are(store: &dyn Store) {
    let sizes = [0, 1, 1023, 1024, 1025, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 17, 3 << 20];
    for size in sizes {
        let (key, body) = (ObjectKey::from(format!("size/{size}")), pattern(size));
        let written = store.put(&key, body.clone().into(), &PutOptions::default()).await.unwrap();
        assert_eq!(written.fingerprint.size_bytes, size);
        let head = store.head(&key).await.unwrap();
        assert_eq!((head.kind, head.fingerprint.size_bytes), (EntryKind::Object, size));
        assert!(written.fingerprint.looks_like(&head.fingerprint), "{written:?} and {head:?}");
        let got = read(store, &key, GetOptions { range: None, expect: Some(head.fingerprint) }).await.unwrap();
        assert!(got == body, "{size} bytes arrive");
    }
    for listed in list_all(store, ListOptions::default()).await {
        let size = listed.fingerprint.size_bytes;
        assert_eq!(listed.key, ObjectKey::from(format!("size/{size}")));
        assert!(listed.fingerprint.looks_like(&store.head(&listed.key).await.unwrap().fingerprint));
    }
}

async fn ranges_are_exact(store: &dyn Store) {
    let size = (3 << 20) + 5;
    let (key, body) = (ObjectKey::from("range"), pattern(size));
    let fingerprint = put(store, "range", body.clone()).await.fingerprint;
    let ranges: [Range<u64>; 7] = [
        0..1,
        0..size,
        1..size - 1,
        size - 1..size,
        (1 << 20) - 1..(1 << 20) + 1,
        (1 << 20)..(2 << 20),
        (1 << 20) - 7..(3 << 20) + 1,
    ];
    for range in ranges {
        let options = GetOptions { range: Some(range.clone()), expect: Some(fingerprint.clone()) };
        let got = read(store, &key, options).await.unwrap();
        assert!(got == body[range.start as usize..range.end as usize], "bytes {range:?}");
    }
    let past = GetOptions { range: Some(size - 1..size + 1), expect: None };
    assert!(read(store, &key, past).await.is_err(), "a range past the end is never silently short");
}

async fn missing_is_not_found(store: &dyn Store) {
    put(store, "there/x", "x").await;
    for key in ["gone", "gone/x", "there/y", "there/x/y"] {
        refused(store.head(&key.into()).await, StoreErrorKind::NotFound);
        refused(read(store, &key.into(), GetOptions::default()).await, StoreErrorKind::NotFound);
    }
}

async fn another_version_is_refused(store: &dyn Store) {
    let key = ObjectKey::from("versions");
    let first = put(store, "versions", "one").await.fingerprint;
    let second = put(store, "versions", "two").await.fingerprint;
    for range in [None, Some(0..2)] {
        let stale = GetOptions { range: range.clone(), expect: Some(first.clone()) };
        refused(read(store, &key, stale).await, StoreErrorKind::Precondition);
        let fresh = GetOptions { range: range.clone(), expect: Some(second.clone()) };
        assert_eq!(read(store, &key, fresh).await.unwrap(), if range.is_none() { "two" } else { "tw" });
    }
    let longer = put(store, "versions", "three").await.fingerprint;
    assert_eq!(longer.size_bytes, 5);
    let stale = GetOptions { range: None, expect: Some(second) };
    refused(read(store, &key, stale).await, StoreErrorKind::Precondition);
}

async fn listing_is_complete_and_ordered(store: &dyn Store) {
    assert_eq!(keys(store, ListOptions::default()).await, set([]), "a fresh store is empty");
    let all = ["a!", "a-b", "a-b-/x", "a/x", "a/y/z", "a/y0", "a0", "b/state/f", "b/stated/f", "c", "c.d/e", "\u{f6}"];
    for key in all {
        put(store, key, key.to_owned()).await;
    }
    assert_eq!(keys(store, ListOptions::default()).await, set(all));
    let between = ["", "a", "a/", "a/y", "a/y/", "a/y/zz", "b", "b/state", "b/state/", "zzz", "\u{ff}"];
    for after in all.into_iter().chain(between) {
        let options = ListOptions { after: Some(after.into()), ..ListOptions::default() };
        let expected = set(all.into_iter().filter(|key| *key > after));
        assert_eq!(keys(store, options).await, expected, "after {after:?}");
    }
    let left_out: [&[&str]; 5] = [&["b/state"], &["a/y/z", "c"], &["a"], &["b/state", "b/stated"], &["nothing"]];
    for without in left_out {
        let without: Vec<ObjectKey> = without.iter().map(|key| ObjectKey::from(*key)).collect();
        let expected: BTreeSet<ObjectKey> =
            set(all).into_iter().filter(|key| !without.iter().any(|folder| key.is_within(folder))).collect();
        let options = ListOptions { without: without.clone(), ..ListOptions::default() };
        assert_eq!(keys(store, options).await, expected, "without {without:?}");
    }
    let covers: [&[&str]; 6] =
        [&["a"], &["a/y", "c"], &["b/state", "c.d"], &["a/y/z"], &["nothing", "a0"], &["a!", "a-b-"]];
    for folders in covers {
        let folders: Vec<ObjectKey> = folders.iter().map(|key| ObjectKey::from(*key)).collect();
        let inside = |key: &ObjectKey| folders.iter().any(|folder| key.is_within(folder));
        let options = ListOptions { cover: Cover::new(folders.clone()).map(Arc::new), ..ListOptions::default() };
        let (held, listed) = (set(all).into_iter().filter(inside).collect(), keys(store, options).await);
        assert!(listed.is_subset(&set(all)) && listed.is_superset(&held), "{listed:?} of {folders:?}");
    }
    let many: Vec<String> = (0..2500).map(|i| format!("many/{:02}/{i:04}", i % 7)).collect();
    for key in &many {
        put(store, key, Bytes::new()).await;
    }
    let expected: BTreeSet<ObjectKey> = set(all).into_iter().chain(set(many.iter().map(String::as_str))).collect();
    assert_eq!(keys(store, ListOptions::default()).await, expected, "over several pages");
}

async fn odd_keys_are_kept_or_refused(store: &dyn Store) {
    let long_segments = ["x".repeat(250), "y".repeat(250), "z".repeat(250), "w".repeat(271 - 20), "v".repeat(19)];
    let long_path = long_segments.join("/");
    assert_eq!(long_path.len(), 1024);
    let odd: Vec<Vec<u8>> = [
        "with space",
        " leading space",
        "trailing space ",
        "plus+plus",
        "percent%",
        "percent%2Fslash",
        "percent%252F",
        "hash#hash",
        "query?a=b&c",
        "single'quote",
        "double\"quote",
        "<xml>&amp;",
        "new\nline",
        "carriage\rreturn",
        "tab\ttab",
        "bell\u{7}",
        "back\\slash",
        "colon:semicolon;",
        "star*[brackets]{braces}",
        "tilde~caret^grave`pipe|",
        "\u{e9}-composed",
        "e\u{301}-decomposed",
        "\u{65e5}\u{672c}\u{8a9e}/\u{1f600}",
        "\u{ffff}",
        "Case",
        "case",
        "...",
        ".hidden/file",
        "dot./dot.",
        "double//slash",
        "/leading",
        "folder/",
        "./dot",
        "x/../y",
        "..",
        "x/.",
        "nul\0byte",
        &long_path,
        &"s".repeat(255),
        &"t".repeat(256),
        &"u".repeat(1024),
    ]
    .iter()
    .map(|key| key.as_bytes().to_vec())
    .chain([b"not utf-8 \xff\xfe".to_vec(), b"half \xc3".to_vec()])
    .collect();

    let mut kept = BTreeMap::new();
    for bytes in odd {
        let key = ObjectKey::from(bytes.clone());
        match store.put(&key, Bytes::from(bytes.clone()).into(), &PutOptions::default()).await {
            Ok(_) => drop(kept.insert(key, Bytes::from(bytes))),
            Err(error) if error.kind == StoreErrorKind::InvalidKey => {
                assert_eq!(error.key.as_ref(), Some(&key), "the error names the key");
                let head = store.head(&key).await;
                assert!(
                    matches!(head, Err(e) if [StoreErrorKind::InvalidKey, StoreErrorKind::NotFound].contains(&e.kind))
                );
            }
            Err(error) => panic!("{key:?} is kept or refused as a key, not: {error}"),
        }
    }
    assert!(kept.len() >= 20, "most keys are ordinary to a store: {:?}", kept.keys());
    assert_eq!(keys(store, ListOptions::default()).await, kept.keys().cloned().collect(), "no key became another");
    for (key, bytes) in &kept {
        assert_eq!(&read(store, key, GetOptions::default()).await.unwrap(), bytes, "{key:?}");
    }
    let all: Vec<ObjectKey> = kept.into_keys().collect();
    for answer in store.delete(&all).await {
        answer.unwrap();
    }
    assert_eq!(keys(store, ListOptions::default()).await, set([]));
}

async fn preconditions_hold(store: &dyn Store) {
    let key = ObjectKey::from("conditions/x");
    let with = |precondition| PutOptions { precondition, ..PutOptions::default() };
    let write = async |body: &'static str, precondition| store.put(&key, body.into(), &with(precondition)).await;
    let unknown = Fingerprint { size_bytes: 3, mtime_ns: Some(1), etag: Some("0".repeat(32)), ..Default::default() };
    if store.capabilities().conditional_replace {
        refused(write("no", Precondition::Matches(unknown.clone())).await, StoreErrorKind::Precondition);
        refused(store.head(&key).await, StoreErrorKind::NotFound);
    }
    let first = write("one", Precondition::Absent).await.unwrap().fingerprint;
    if store.capabilities().conditional_create {
        refused(write("two", Precondition::Absent).await, StoreErrorKind::Precondition);
        assert_eq!(read(store, &key, GetOptions::default()).await.unwrap(), "one");
    }
    if store.capabilities().conditional_replace {
        refused(write("two", Precondition::Matches(unknown)).await, StoreErrorKind::Precondition);
        let second = write("two", Precondition::Matches(first.clone())).await.unwrap().fingerprint;
        refused(write("six", Precondition::Matches(first)).await, StoreErrorKind::Precondition);
        assert_eq!(read(store, &key, GetOptions::default()).await.unwrap(), "two");
        let listed = list_all(store, ListOptions::default()).await;
        assert!(second.looks_like(&listed[0].fingerprint), "what a write returns is what a listing tells");
        write("ten", Precondition::Matches(listed[0].fingerprint.clone())).await.unwrap();
    }
    write("any", Precondition::Any).await.unwrap();
    assert_eq!(read(store, &key, GetOptions::default()).await.unwrap(), "any");
    assert_eq!(keys(store, ListOptions::default()).await, set(["conditions/x"]), "a refused write leaves nothing");
}

async fn one_racer_creates(store: Arc<dyn Store>) {
    if !store.capabilities().conditional_create {
        return;
    }
    for round in 0..4 {
        let key = ObjectKey::from(format!("race/{round}"));
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..RACERS {
            let (store, key) = (Arc::clone(&store), key.clone());
            let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
            racers.spawn(async move { (racer, store.put(&key, Bytes::from(vec![racer; 100]).into(), &options).await) });
        }
        let mut winners = Vec::new();
        for (racer, answer) in racers.join_all().await {
            match answer {
                Ok(_) => winners.push(racer),
                Err(error) => assert_eq!(error.kind, StoreErrorKind::Precondition, "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "one of {RACERS} wins");
        assert_eq!(read(&*store, &key, GetOptions::default()).await.unwrap(), vec![winners[0]; 100]);
    }
}

async fn attributes_are_kept(store: &dyn Store) {
    if !store.capabilities().attributes {
        return;
    }
    let mut attributes: Attributes = [("meta:mtime", "1600000000.123456789"), ("meta:understudy-mode", "0640")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    if !store.capabilities().folders {
        let more = [
            ("content-type", "text/csv"),
            ("cache-control", "max-age=60"),
            ("content-encoding", "gzip"),
            ("content-disposition", "attachment"),
            ("content-language", "de"),
            ("meta:owner", "hive team"),
        ];
        attributes.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let (put_key, copied, uploaded) = (ObjectKey::from("kept/put"), "kept/copied".into(), "kept/uploaded".into());
    let written = store.put(&put_key, "content".into(), &options).await.unwrap();
    let mut made = vec![put_key.clone()];
    if store.capabilities().server_copy {
        store.copy(&CopySource::here(&put_key, &written.fingerprint), &copied, &options).await.unwrap();
        made.push(copied);
    }
    let upload = store.create_upload(&uploaded, 7, &options).await.unwrap();
    let part = PartSpec { number: 1, offset: 0, size_bytes: 7 };
    let part = store.put_part(&uploaded, &upload, part, "content".into()).await.unwrap();
    store.complete_upload(&uploaded, &upload, &[part], &options).await.unwrap();
    made.push(uploaded);
    // Times are kept in the store's steps.
    let step = store.capabilities().time_step_ns;
    let nanoseconds = 123_456_789 / step * step;
    attributes.insert("meta:mtime".into(), format!("1600000000.{nanoseconds:09}"));
    for key in made {
        assert_eq!(store.head(&key).await.unwrap().attributes, attributes, "head {key:?}");
        assert_eq!(store.get(&key, GetOptions::default()).await.unwrap().info.attributes, attributes, "get {key:?}");
        assert_eq!(read(store, &key, GetOptions::default()).await.unwrap(), "content");
    }
}

/// The parts of `size` bytes, and the bytes of each.
fn parts_of(body: &Bytes) -> Vec<(PartSpec, Bytes)> {
    let pieces = body.chunks(PART_BYTES as usize).zip(1u32..);
    pieces
        .map(|(piece, number)| {
            let offset = u64::from(number - 1) * PART_BYTES;
            (PartSpec { number, offset, size_bytes: piece.len() as u64 }, body.slice_ref(piece))
        })
        .collect()
}

async fn uploads_take_parts_in_any_order(store: &dyn Store) {
    let (key, body) = (ObjectKey::from("uploads/big"), pattern(2 * PART_BYTES + 17));
    let options = PutOptions::default();
    let upload = store.create_upload(&key, body.len() as u64, &options).await.unwrap();
    assert_eq!(store.list_parts(&key, &upload).await.unwrap(), [], "no part yet");
    let parts = parts_of(&body);
    let mut sent = BTreeMap::new();
    for at in [2, 0, 2] {
        let (part, bytes) = &parts[at];
        sent.insert(part.number, store.put_part(&key, &upload, *part, bytes.clone().into()).await.unwrap());
    }
    refused(store.head(&key).await, StoreErrorKind::NotFound);
    assert_eq!(keys(store, ListOptions::default()).await, set([]), "an upload is not an object");

    // As a run would resume that knows the id and the two parts from its journal.
    let known = store.list_parts(&key, &upload).await.unwrap();
    match store.capabilities().lists_parts {
        true => {
            let (held, expected): (Vec<_>, Vec<_>) = known
                .iter()
                .zip(sent.values())
                .map(|(held, sent)| {
                    let of = |part: &distcp::store::UploadedPart| {
                        (part.part.number, part.part.size_bytes, part.etag.clone())
                    };
                    (of(held), of(sent))
                })
                .unzip();
            assert_eq!((held, known.len()), (expected, 2));
            refused(store.read_part(&key, &upload, parts[0].0).await, StoreErrorKind::Unsupported);
        }
        false => {
            for at in [0, 2] {
                assert!(store.read_part(&key, &upload, parts[at].0).await.unwrap() == parts[at].1, "part {at} is held");
            }
        }
    }
    let (part, bytes) = &parts[1];
    sent.insert(part.number, store.put_part(&key, &upload, *part, bytes.clone().into()).await.unwrap());
    let sent: Vec<_> = sent.into_values().collect();
    let written = store.complete_upload(&key, &upload, &sent, &options).await.unwrap();
    assert_eq!(written.fingerprint.size_bytes, body.len() as u64);
    let listed = list_all(store, ListOptions::default()).await;
    assert_eq!(listed.len(), 1);
    assert!(written.fingerprint.looks_like(&listed[0].fingerprint));
    let got = read(store, &key, GetOptions { range: None, expect: Some(written.fingerprint) }).await.unwrap();
    assert!(got == body, "the parts are the object");
    refused(store.list_parts(&key, &upload).await, StoreErrorKind::NotFound);
}

async fn uploads_can_be_aborted(store: &dyn Store) {
    let (key, body) = (ObjectKey::from("uploads/aborted"), pattern(100));
    let options = PutOptions::default();
    let upload = store.create_upload(&key, 100, &options).await.unwrap();
    let part = PartSpec { number: 1, offset: 0, size_bytes: 100 };
    let sent = store.put_part(&key, &upload, part, body.clone().into()).await.unwrap();
    store.abort_upload(&key, &upload).await.unwrap();
    refused(store.list_parts(&key, &upload).await, StoreErrorKind::NotFound);
    refused(store.put_part(&key, &upload, part, body.into()).await, StoreErrorKind::NotFound);
    refused(store.complete_upload(&key, &upload, &[sent], &options).await, StoreErrorKind::NotFound);
    store.abort_upload(&key, &upload).await.unwrap();
    refused(store.head(&key).await, StoreErrorKind::NotFound);
    assert_eq!(keys(store, ListOptions::default()).await, set([]));
}

async fn uploads_honour_preconditions(store: &dyn Store) {
    if !store.capabilities().conditional_create {
        return;
    }
    let key = ObjectKey::from("uploads/conditional");
    let options = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
    let upload = store.create_upload(&key, 4, &options).await.unwrap();
    let part = PartSpec { number: 1, offset: 0, size_bytes: 4 };
    let sent = store.put_part(&key, &upload, part, "ours".into()).await.unwrap();
    put(store, "uploads/conditional", "theirs").await;
    refused(store.complete_upload(&key, &upload, &[sent], &options).await, StoreErrorKind::Precondition);
    assert_eq!(read(store, &key, GetOptions::default()).await.unwrap(), "theirs");
    store.abort_upload(&key, &upload).await.unwrap();
    assert_eq!(keys(store, ListOptions::default()).await, set(["uploads/conditional"]));
}

async fn copies_are_conditional(store: &dyn Store) {
    if !store.capabilities().server_copy {
        return;
    }
    let (from, to, options) = (ObjectKey::from("copies/from"), ObjectKey::from("other/to"), PutOptions::default());
    let missing = Fingerprint { size_bytes: 3, mtime_ns: Some(1), etag: Some("0".repeat(32)), ..Default::default() };
    refused(store.copy(&CopySource::here(&from, &missing), &to, &options).await, StoreErrorKind::NotFound);
    let body = pattern((1 << 20) + 17);
    let stale = put(store, "copies/from", "stale").await.fingerprint;
    let fresh = put(store, "copies/from", body.clone()).await.fingerprint;
    refused(store.copy(&CopySource::here(&from, &stale), &to, &options).await, StoreErrorKind::Precondition);
    refused(store.head(&to).await, StoreErrorKind::NotFound);
    let written = store.copy(&CopySource::here(&from, &fresh), &to, &options).await.unwrap();
    assert_eq!(written.fingerprint.size_bytes, body.len() as u64);
    assert!(written.fingerprint.looks_like(&store.head(&to).await.unwrap().fingerprint));
    for key in [&from, &to] {
        assert!(read(store, key, GetOptions::default()).await.unwrap() == body, "{key:?}");
    }
    put(store, "copies/from", "").await;
    let empty = store.head(&from).await.unwrap().fingerprint;
    store.copy(&CopySource::here(&from, &empty), &to, &options).await.unwrap();
    assert_eq!(read(store, &to, GetOptions::default()).await.unwrap(), "");
    assert_eq!(keys(store, ListOptions::default()).await, set(["copies/from", "other/to"]));
}

async fn deletes_are_exact(store: &dyn Store) {
    let all = ["d/1", "d/2", "d/deep/er/3", "d-", "e"];
    for key in all {
        put(store, key, "x").await;
    }
    let wanted: Vec<ObjectKey> = ["d/2", "missing", "d/deep/er/3", "missing/too", "d/1/under"].map(Into::into).into();
    let answers = store.delete(&wanted).await;
    assert_eq!(answers.len(), wanted.len());
    answers.into_iter().for_each(|answer| answer.unwrap());
    assert_eq!(keys(store, ListOptions::default()).await, set(["d-", "d/1", "e"]));
    store.delete(&["d".into()]).await.into_iter().for_each(|answer| {
        // A store with folders refuses, one without has no such object.
        assert!(answer.is_ok() || answer.is_err_and(|error| error.kind == StoreErrorKind::KindConflict));
    });
    assert_eq!(keys(store, ListOptions::default()).await, set(["d-", "d/1", "e"]));
    let rest: Vec<ObjectKey> = ["d-", "d/1", "e"].map(Into::into).into();
    store.delete(&rest).await.into_iter().for_each(|answer| answer.unwrap());
    let folders = ListOptions { folders: true, ..ListOptions::default() };
    assert_eq!(keys(store, folders).await, set([]), "no folder stays behind");
    assert_eq!(store.delete(&[]).await.len(), 0);
}

async fn links_and_folders_are_kept_or_refused(store: &dyn Store) {
    let folder = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
    let key = ObjectKey::from("folders/empty");
    match store.capabilities().folders {
        false => drop(refused(store.put(&key, Bytes::new().into(), &folder).await, StoreErrorKind::Unsupported)),
        true => {
            store.put(&key, Bytes::new().into(), &folder).await.unwrap();
            put(store, "folders/empty-", "x").await;
            let listed = list_all(store, ListOptions { folders: true, ..ListOptions::default() }).await;
            let found: Vec<_> = listed.iter().map(|listed| (listed.key.clone(), listed.kind)).collect();
            assert_eq!(found, [(key.clone(), EntryKind::Folder), ("folders/empty-".into(), EntryKind::Object)]);
            assert_eq!(store.head(&key).await.unwrap().kind, EntryKind::Folder);
            refused(store.put(&key, "file".into(), &PutOptions::default()).await, StoreErrorKind::KindConflict);
            put(store, "folders/file", "x").await;
            let below = ObjectKey::from("folders/file/below");
            refused(store.put(&below, "x".into(), &PutOptions::default()).await, StoreErrorKind::KindConflict);
            refused(
                store.put(&"folders/file".into(), Bytes::new().into(), &folder).await,
                StoreErrorKind::KindConflict,
            );
            store.delete(&[key]).await.into_iter().for_each(|answer| answer.unwrap());
        }
    }
    let special = PutOptions { kind: EntryKind::Special, ..PutOptions::default() };
    refused(store.put(&"pipe".into(), Bytes::new().into(), &special).await, StoreErrorKind::Unsupported);
}
