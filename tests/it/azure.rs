//! The Azure store against Azurite: every operation, odd keys, conditions, proofs, and the real binary on it. Each test
//! works in a container of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use distcp::store::azure::{AzureConfig, AzureStore};
use distcp::store::meter::{Meter, Metered};
use distcp::store::pace::{Bandwidth, Pace, Paced, Timetable};
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::state::ObjectState;
use distcp::store::{
    CopySource, GetOptions, ListOptions, PartSpec, Precondition, Proof, PutOptions, Store, StoreErrorKind, Timestamp,
    UploadId,
};
use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind, ObjectKey};
use tests::cli::Shell;
use tests::contract::{pattern, store_contract};
use tests::services::{self, Azure};
use tokio_util::sync::CancellationToken;

/// Parts of this length are legal everywhere.
const PART_BYTES: usize = 5 << 20;

fn config(server: &Azure, container: &str, prefix: &str) -> AzureConfig {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("account_key".to_owned(), server.key.clone()),
    ]);
    AzureConfig {
        account: Some(server.account.clone()),
        container: container.to_owned(),
        prefix: prefix.into(),
        options,
        ..AzureConfig::default()
    }
}

/// A store on a fresh container.
fn open(server: &Azure, purpose: &str) -> AzureStore {
    AzureStore::open(config(server, &server.fresh_container(purpose), "root")).unwrap()
}

async fn keys(store: &AzureStore, options: ListOptions) -> BTreeSet<ObjectKey> {
    let pages: Vec<_> = store.list(options).try_collect().await.unwrap();
    pages.into_iter().flatten().map(|listed| listed.key).collect()
}

async fn body(store: &AzureStore, key: &ObjectKey, options: GetOptions) -> Bytes {
    let pieces: Vec<Bytes> = store.get(key, options).await.unwrap().body.try_collect().await.unwrap();
    pieces.concat().into()
}

fn when(precondition: Precondition) -> PutOptions {
    PutOptions { precondition, ..PutOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_store_contract() {
    let Some(server) = services::azure() else { return };
    store_contract(|| async { Arc::new(open(&server, "contract")) as Arc<dyn Store> }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_all_decorators_keeps_the_store_contract() {
    let Some(server) = services::azure() else { return };
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
async fn rule_16_state_in_a_container_keeps_the_state_contract() {
    let Some(server) = services::azure() else { return };
    let store = ObjectState::new(Arc::new(open(&server, "state"))).unwrap();
    manifest::state::contract::state_store_contract(Arc::new(store)).await;
}

#[tokio::test]
async fn case_37_odd_keys_go_and_come_as_they_are() {
    let Some(server) = services::azure() else { return };
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
        "<xml>&amp;",
        "ünï/日本/\u{1f600}",
        "a=b;c:d@e!f$g(h)*,",
        "til~de",
    ] {
        let key = ObjectKey::from(name);
        let written = store.put(&key, Bytes::from(name).into(), &PutOptions::default()).await.unwrap();
        assert_eq!(written.proof, Proof::Checksum, "{name}");
        assert_eq!(body(&store, &key, GetOptions::default()).await, name);
        assert!(written.fingerprint.looks_like(&store.head(&key).await.unwrap().fingerprint), "{name}");
        expected.insert(key);
    }
    assert_eq!(keys(&store, ListOptions::default()).await, expected);
    for bad in ["x/../y", "./z", "..", "../up"] {
        let error = store.put(&bad.into(), Bytes::new().into(), &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::InvalidKey, "{bad}");
    }
    assert_eq!(keys(&store, ListOptions::default()).await, expected, "nothing was written under another name");
    let mut all: Vec<ObjectKey> = expected.into_iter().collect();
    all.push("never/was".into());
    for answer in store.delete(&all).await {
        answer.unwrap();
    }
    assert!(keys(&store, ListOptions::default()).await.is_empty());
}

#[tokio::test]
async fn conditions_hold() {
    let Some(server) = services::azure() else { return };
    let store = open(&server, "conditions");
    let key = ObjectKey::from("k");
    let first = store.put(&key, "one".into(), &when(Precondition::Absent)).await.unwrap();
    let again = store.put(&key, "two".into(), &when(Precondition::Absent)).await.unwrap_err();
    assert_eq!(again.kind, StoreErrorKind::Precondition);
    let matches = when(Precondition::Matches(first.fingerprint.clone()));
    let second = store.put(&key, "two".into(), &matches).await.unwrap();
    let stale = store.put(&key, "three".into(), &matches).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Precondition);
    let wanted = |expect| GetOptions { expect: Some(expect), range: None };
    let old = store.get(&key, wanted(first.fingerprint.clone())).await.map(drop).unwrap_err();
    assert_eq!(old.kind, StoreErrorKind::Precondition);
    assert_eq!(body(&store, &key, wanted(second.fingerprint.clone())).await, "two");
    let to = ObjectKey::from("copy");
    let old = store.copy(&CopySource::here(&key, &first.fingerprint), &to, &PutOptions::default()).await.unwrap_err();
    assert_eq!(old.kind, StoreErrorKind::Precondition);
    store.copy(&CopySource::here(&key, &second.fingerprint), &to, &when(Precondition::Absent)).await.unwrap();
    let there =
        store.copy(&CopySource::here(&key, &second.fingerprint), &to, &when(Precondition::Absent)).await.unwrap_err();
    assert_eq!(there.kind, StoreErrorKind::Precondition);
}

#[tokio::test]
async fn attributes_and_ranges_survive() {
    let Some(server) = services::azure() else { return };
    let store = open(&server, "attributes");
    let key = ObjectKey::from("k");
    let attributes: Attributes = [
        ("content-type", "text/plain"),
        ("cache-control", "max-age=60"),
        ("content-disposition", "attachment"),
        ("content-language", "de"),
        ("content-encoding", "gzip"),
        ("meta:note", "ünï  two blanks"),
        ("meta:empty", ""),
        ("meta:1-odd.name_x2d_", "kept"),
        ("meta:mtime", "1700000000.123456789"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let data = pattern(100_000);
    let written = store.put(&key, data.clone().into(), &options).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().attributes, attributes);
    let get = |range| GetOptions { range: Some(range), expect: Some(written.fingerprint.clone()) };
    assert_eq!(body(&store, &key, get(10..20)).await, data[10..20]);
    assert_eq!(body(&store, &key, get(0..100_000)).await, data);
    assert_eq!(body(&store, &key, get(5..5)).await, "");
    let kept = ObjectKey::from("kept");
    let itself = CopySource::here(&key, &written.fingerprint);
    let keeping = CopySource { keep_attributes: true, ..itself };
    store.copy(&keeping, &kept, &PutOptions::default()).await.unwrap();
    assert_eq!(store.head(&kept).await.unwrap().attributes, attributes);
    for other in [("meta:only", "this"), ("content-language", "fr")] {
        let other = Attributes::from([(other.0.to_owned(), other.1.to_owned())]);
        let options = PutOptions { attributes: other.clone(), ..PutOptions::default() };
        let copied = store.copy(&itself, &"other".into(), &options).await.unwrap();
        let found = store.head(&"other".into()).await.unwrap();
        assert_eq!(found.attributes, other, "they replace the source's, headers and metadata");
        assert!(copied.fingerprint.looks_like(&found.fingerprint));
    }
    let link = PutOptions { kind: EntryKind::Symlink, ..PutOptions::default() };
    store.put(&"link".into(), "k".into(), &link).await.unwrap();
    assert_eq!(store.head(&"link".into()).await.unwrap().kind, EntryKind::Symlink);
}

#[tokio::test]
async fn two_uploads_of_one_key_do_not_mix() {
    let Some(server) = services::azure() else { return };
    let store = open(&server, "parts");
    let key = ObjectKey::from("big");
    let (ours, theirs) = (pattern(PART_BYTES as u64 + 17), Bytes::from(vec![7; PART_BYTES + 17]));
    let options = when(Precondition::Absent);
    let mut uploads = Vec::new();
    for data in [&ours, &theirs] {
        let upload = store.create_upload(&key, data.len() as u64, &options).await.unwrap();
        let mut parts = Vec::new();
        for (i, chunk) in data.chunks(PART_BYTES).enumerate() {
            let part =
                PartSpec { number: i as u32 + 1, offset: (i * PART_BYTES) as u64, size_bytes: chunk.len() as u64 };
            parts.push(store.put_part(&key, &upload, part, data.slice_ref(chunk).into()).await.unwrap());
            assert_eq!(parts[i].proof, Proof::Checksum);
        }
        uploads.push((upload, parts));
    }
    let (upload, mut parts) = uploads.remove(0);
    let listed = store.list_parts(&key, &upload).await.unwrap();
    let ids =
        |parts: &[distcp::store::UploadedPart]| parts.iter().map(|p| (p.part, p.etag.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&parts));
    parts.reverse();
    let written = store.complete_upload(&key, &upload, &parts, &options).await.unwrap();
    assert_eq!(written.proof, Proof::Checksum);
    assert_eq!(body(&store, &key, GetOptions::default()).await, ours);
    let again = store.complete_upload(&key, &upload, &parts, &options).await.unwrap();
    assert_eq!(again.fingerprint.etag, written.fingerprint.etag, "as after a lost answer");
    assert_eq!(store.list_parts(&key, &upload).await.unwrap_err().kind, StoreErrorKind::NotFound);
    let (upload, parts) = uploads.remove(0);
    let refused = store.complete_upload(&key, &upload, &parts, &options).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition);
    assert_eq!(body(&store, &key, GetOptions::default()).await, ours);
    store.abort_upload(&key, &upload).await.unwrap();
    let unknown = store.list_parts(&key, &UploadId("no-such-upload".into())).await.unwrap_err();
    assert_eq!(unknown.kind, StoreErrorKind::NotFound);
}

/// Another run's look at an upload that was given up: the mark at the server tells it.
#[tokio::test]
async fn rule_18_an_upload_that_was_given_up_is_known_to_other_runs() {
    let Some(server) = services::azure() else { return };
    let container = server.fresh_container("aborted");
    let [one, other] = [0, 1].map(|_| AzureStore::open(config(&server, &container, "")).unwrap());
    let (key, options) = (ObjectKey::from("k"), PutOptions::default());
    let upload = one.create_upload(&key, 3, &options).await.unwrap();
    let part = PartSpec { number: 1, offset: 0, size_bytes: 3 };
    let sent = one.put_part(&key, &upload, part, "abc".into()).await.unwrap();
    assert_eq!(other.list_parts(&key, &upload).await.unwrap().len(), 1);
    one.abort_upload(&key, &upload).await.unwrap();
    assert_eq!(other.list_parts(&key, &upload).await.unwrap_err().kind, StoreErrorKind::NotFound);
    let late = other.complete_upload(&key, &upload, &[sent], &options).await.unwrap_err();
    assert_eq!(late.kind, StoreErrorKind::NotFound);
    assert!(keys(&other, ListOptions::default()).await.is_empty());
}

#[tokio::test]
async fn blobs_that_stand_for_folders_are_no_objects() {
    let Some(server) = services::azure() else { return };
    let container = server.fresh_container("folders");
    let marker = [("x-ms-blob-type", "BlockBlob"), ("x-ms-meta-hdi_isfolder", "true")];
    for path in ["root", "root/a"] {
        let put = server.send(http::Method::PUT, &format!("{container}/{path}"), &marker, "").await;
        assert_eq!(put, 201);
    }
    let store = AzureStore::open(config(&server, &container, "root")).unwrap();
    store.put(&"a/b".into(), "x".into(), &PutOptions::default()).await.unwrap();
    assert_eq!(keys(&store, ListOptions::default()).await, BTreeSet::from(["a/b".into()]));
    for key in ["", "a"] {
        assert_eq!(store.head(&key.into()).await.unwrap_err().kind, StoreErrorKind::NotFound, "{key:?}");
    }
}

#[tokio::test]
async fn case_22_what_is_wrong_is_said() {
    let Some(server) = services::azure() else { return };
    let store = AzureStore::open(config(&server, "no-such-container", "")).unwrap();
    assert_eq!(store.check_container().await.unwrap_err().kind, StoreErrorKind::NoBucket);
    let listed: Result<Vec<_>, _> = store.list(ListOptions::default()).try_collect().await;
    assert_eq!(listed.unwrap_err().kind, StoreErrorKind::NoBucket);
    let mut wrong = config(&server, &server.fresh_container("wrong"), "");
    wrong.options.insert("account_key".into(), "d3Jvbmcta2V5".into());
    let error = AzureStore::open(wrong).unwrap().check_container().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Credentials);
    assert!(!error.to_string().contains("d3Jvbmcta2V5"), "{error}");
}

/// A tree with small files, an empty one, an odd name and one that goes in parts.
fn tree(root: &Path) {
    for (name, len) in [("a/small", 100), ("a/b/other", 3000), ("empty", 0), ("sp ace+%41", 7), ("big", 9 << 20)] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, pattern(len)).unwrap();
    }
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    ["a/small", "a/b/other", "empty", "sp ace+%41", "big"]
        .map(|name| (name.to_owned(), std::fs::read(root.join(name)).unwrap()))
        .into()
}

#[test]
fn a_tree_goes_there_and_back_and_a_second_run_writes_nothing() {
    let Some(server) = services::azure() else { return };
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path()).with_azure(&server);
    let (source, back) = (home.path().join("source"), home.path().join("back"));
    tree(&source);
    let container = server.fresh_container("binary");
    let target = format!("az://{container}/tree");
    let state = format!("az://{container}/state");
    // 32 MiB of memory: what is larger than a quarter goes in parts.
    let there = ["copy", "--json", "--delete", "--state", &state, "--memory", "32M", "--chunk-size", "1M"];
    let run = |source: &str, target: &str| shell.run(&[&there[..], &[source, target]].concat());
    let first = run("source", &target).expect(0);
    assert_eq!(first.number("counts/copied"), 5, "{}", first.stdout);
    let second = run("source", &target).expect(0);
    // Files as young as these prove nothing and are read again (rule 13); nothing is written.
    assert_eq!((second.number("counts/equal"), second.number("bytes/written")), (5, 0), "{}", second.stdout);

    // The other spelling is the same job; what changed and what is gone follow.
    std::fs::write(source.join("a/small"), "changed").unwrap();
    std::fs::remove_file(source.join("empty")).unwrap();
    let spelled = format!("abfss://{container}@{}.dfs.core.windows.net/tree", server.account);
    let third = run("source", &spelled).expect(0);
    assert_eq!((third.number("counts/copied"), third.number("counts/deleted")), (1, 1), "{}", third.stdout);
    std::fs::write(source.join("empty"), "").unwrap();
    run("source", &target).expect(0);

    shell.run(&["copy", "--json", &target, "back"]).expect(0);
    assert_eq!(files(&back), files(&source));
    let again = shell.run(&["copy", "--json", &target, "back"]).expect(0);
    assert_eq!((again.number("counts/equal"), again.number("bytes/written")), (5, 0), "{}", again.stdout);
    shell.run(&["verify", "--level", "content", "source", &target]).expect(0);
}

#[test]
fn a_tree_goes_from_s3_to_azure() {
    let (Some(server), Some(s3)) = (services::azure(), services::s3()) else { return };
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path()).with_azure(&server).with_s3(&s3);
    let source = home.path().join("source");
    tree(&source);
    let bucket = format!("s3://{}", s3.fresh_bucket("to-azure"));
    let target = format!("az://{}/lake", server.fresh_container("from-s3"));
    shell.run(&["copy", "--json", "source", &bucket]).expect(0);
    let moved = shell.run(&["copy", "--json", &bucket, &target]).expect(0);
    assert_eq!(moved.number("counts/copied"), 5, "{}", moved.stdout);
    let again = shell.run(&["copy", "--json", &bucket, &target]).expect(0);
    assert_eq!((again.number("counts/equal"), again.number("bytes/read")), (5, 0), "{}", again.stdout);
    shell.run(&["verify", "--level", "content", "source", &target]).expect(0);
    shell.run(&["copy", &target, "back"]).expect(0);
    assert_eq!(files(&home.path().join("back")), files(&source));
}

#[test]
fn case_22_a_place_that_cannot_be_used_says_why() {
    let Some(server) = services::azure() else { return };
    let home = tempfile::tempdir().unwrap();
    tree(&home.path().join("source"));
    let none = Shell::new(home.path()).run(&["copy", "source", "az://box/x"]).expect(2);
    assert!(none.last_word().contains("AZURE_STORAGE_ACCOUNT_NAME"), "{}", none.stderr);
    let shell = Shell::new(home.path()).with_azure(&server);
    let missing = shell.run(&["copy", "source", "az://no-such-container/x"]).expect(2);
    assert!(missing.stderr.contains("does not exist"), "{}", missing.stderr);
    let container = format!("az://{}/x", server.fresh_container("denied"));
    let wrong = shell.with("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmcta2V5").run(&["copy", "source", &container]).expect(12);
    assert!(!wrong.stderr.contains("d3Jvbmcta2V5"), "{}", wrong.stderr);
}

/// What the second location says of itself is what the copy stands for; it can be read and nothing else.
#[test]
fn rule_26_a_second_location_is_read_as_of_its_last_synchronisation() {
    let Some(server) = services::azure() else { return };
    let home = tempfile::tempdir().unwrap();
    let ours = Shell::new(home.path()).with_azure(&server);
    tree(&home.path().join("source"));
    let place = format!("az://{}/tree", server.fresh_container("second"));
    ours.run(&["copy", "source", &place]).expect(0);
    // By the account's name, and by the host alone.
    let second = format!("{}-secondary", server.account);
    for (variable, value, back) in [
        ("AZURE_STORAGE_ACCOUNT_NAME", second.clone(), "by-name"),
        ("AZURE_STORAGE_ENDPOINT", format!("{}-secondary", server.endpoint), "by-host"),
    ] {
        let there = Shell::new(home.path()).with_azure(&server).with(variable, &value);
        let before = Timestamp::now();
        let ran = there.run(&["copy", "--json", &place, back]).expect(0);
        assert_eq!(files(&home.path().join(back)), files(&home.path().join("source")));
        assert!(ran.stderr.contains("a second location"), "{}", ran.stderr);
        // This server says "now", in whole seconds.
        let as_of: Timestamp = ran.summary()["as_of"].as_str().unwrap().parse().unwrap();
        assert!(as_of.as_second() >= before.as_second() && as_of.subsec_nanosecond() == 0, "{as_of}");
        let refused = there.run(&["copy", "source", &place]).expect(2);
        assert!(refused.stderr.contains("can only be read"), "{}", refused.stderr);
        let state = there.run(&["copy", "source", "elsewhere", "--state", &place]).expect(2);
        assert!(state.stderr.contains("can only be read"), "{}", state.stderr);
    }
    // The key of an account is that of both its locations; both are one place.
    let both = format!("abfss://box@{second}.dfs.core.windows.net/x");
    let first = format!("abfss://box@{}.dfs.core.windows.net/x/y", server.account);
    let same = Shell::new(home.path())
        .with("AZURE_STORAGE_ACCOUNT_NAME", &server.account)
        .with("AZURE_STORAGE_ACCOUNT_KEY", &server.key)
        .run(&["copy", &both, &first])
        .expect(2);
    assert!(same.stderr.contains("lies inside"), "{}", same.stderr);
}
