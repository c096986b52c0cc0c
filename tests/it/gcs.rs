//! Google Cloud Storage against a stand-in that follows the documentation: the store contract, what is sent for odd keys,
//! conditions, copies, uploads, and the real binary on it. What the service itself does is not shown here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use distcp::store::gcs::{GcsConfig, GcsStore};
use distcp::store::meter::{Meter, Metered};
use distcp::store::pace::{Bandwidth, Pace, Paced, Timetable};
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::state::ObjectState;
use distcp::store::{
    CopySource, GetOptions, ListOptions, PartSpec, Precondition, Proof, PutOptions, Store, StoreErrorKind, UploadId,
    UploadedPart,
};
use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind, Fingerprint, ObjectKey};
use tests::cli::Shell;
use tests::contract::{list_all, pattern, put, read, store_contract};
use tests::gcs::{BUCKET, Gcs, Request, TOKEN};
use tests::proxy::{Answer, Proxy};
use tokio_util::sync::CancellationToken;

const PART_BYTES: usize = 5 << 20;

/// A store at an endpoint, with more options.
fn at(endpoint: &str, prefix: &str, more: &[(&str, &str)]) -> GcsStore {
    let options = [("base_url", endpoint), ("bearer_token", TOKEN)];
    let options = options.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = GcsConfig { bucket: BUCKET.into(), prefix: prefix.into(), options, ..GcsConfig::default() };
    GcsStore::open(config).unwrap()
}

fn open(server: &Gcs) -> GcsStore {
    at(&server.endpoint(), "root", &[])
}

fn when(precondition: Precondition) -> PutOptions {
    PutOptions { precondition, ..PutOptions::default() }
}

fn shown(request: &Request) -> String {
    format!("{} {}", request.method, request.target)
}

/// Sends all parts of `data`.
async fn send(store: &dyn Store, key: &ObjectKey, upload: &UploadId, data: &Bytes) -> Vec<UploadedPart> {
    let mut parts = Vec::new();
    for (i, chunk) in data.chunks(PART_BYTES).enumerate() {
        let part = PartSpec { number: i as u32 + 1, offset: (i * PART_BYTES) as u64, size_bytes: chunk.len() as u64 };
        parts.push(store.put_part(key, upload, part, data.slice_ref(chunk).into()).await.unwrap());
    }
    parts
}

/// The contract wants a fresh bucket each time: every one has a server of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_store_contract() {
    let servers: Mutex<Vec<Gcs>> = Mutex::default();
    store_contract(|| async {
        let server = Gcs::start();
        let store: Arc<dyn Store> = Arc::new(open(&server));
        servers.lock().unwrap().push(server);
        store
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_all_decorators_keeps_the_store_contract() {
    let servers: Mutex<Vec<Gcs>> = Mutex::default();
    let (meter, cancel) = (Arc::new(Meter::default()), CancellationToken::new());
    store_contract(|| async {
        let server = Gcs::start();
        let store: Arc<dyn Store> = Arc::new(Metered::new(Arc::new(open(&server)), Arc::clone(&meter)));
        servers.lock().unwrap().push(server);
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
    let server = Gcs::start();
    let store = ObjectState::new(Arc::new(open(&server))).unwrap();
    manifest::state::contract::state_store_contract(Arc::new(store)).await;
}

#[tokio::test]
async fn case_37_odd_keys_go_and_come_as_they_are() {
    let server = Gcs::start();
    let store = at(&server.endpoint(), "", &[]);
    let table = [
        ("a//b", "a%2F%2Fb"),
        ("x/../y", "x%2F..%2Fy"),
        ("./z", ".%2Fz"),
        ("/lead", "%2Flead"),
        ("folder/", "folder%2F"),
        ("100%", "100%25"),
        ("%2E%2E", "%252E%252E"),
        ("a+b c", "a%2Bb%20c"),
        ("hash#q?x=1&y", "hash%23q%3Fx%3D1%26y"),
        ("\u{fc}/\u{65e5}", "%C3%BC%2F%E6%97%A5"),
        ("bell\u{7}", "bell%07"),
        ("...", "..."),
    ];
    let mut expected = BTreeSet::new();
    for (name, encoded) in table {
        let key = ObjectKey::from(name);
        let written = store.put(&key, Bytes::from(name).into(), &PutOptions::default()).await.unwrap();
        assert_eq!(written.proof, Proof::Checksum, "{name}");
        assert_eq!(read(&store, &key, GetOptions::default()).await.unwrap(), name);
        assert!(written.fingerprint.looks_like(&store.head(&key).await.unwrap().fingerprint), "{name}");
        let json = format!("/storage/v1/b/lake/o/{encoded}");
        let sent: Vec<String> = server.seen().iter().map(shown).collect();
        let look = format!("GET {json}?ifGenerationMatch={}", written.fingerprint.version.unwrap());
        let (write, media) = (format!("PUT /lake/{encoded}"), format!("GET /lake/{encoded}"));
        assert_eq!(sent, [write, media, look, format!("GET {json}")]);
        assert!(server.bucket().objects.contains_key(name), "{name}");
        expected.insert(key);
    }
    let listed: BTreeSet<_> = list_all(&store, ListOptions::default()).await.into_iter().map(|l| l.key).collect();
    assert_eq!(listed, expected);
    server.seen();
    for bad in ["..", ".", "line\nend", "carriage\rreturn", ".well-known/acme-challenge/x", &"x".repeat(1025)] {
        let error = store.put(&bad.into(), Bytes::new().into(), &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::InvalidKey, "{bad}");
        let copied = store
            .copy(&CopySource::here(&"a//b".into(), &Fingerprint::default()), &bad.into(), &PutOptions::default())
            .await;
        assert_eq!(copied.unwrap_err().kind, StoreErrorKind::InvalidKey, "{bad}");
    }
    assert!(server.seen().is_empty(), "refused before a request");
    for answer in store.delete(&expected.into_iter().collect::<Vec<_>>()).await {
        answer.unwrap();
    }
    assert!(server.bucket().objects.is_empty());
}

#[tokio::test]
async fn listings_go_page_by_page_from_the_key_on() {
    let server = Gcs::start();
    server.bucket().page = 2;
    for name in ["root/", "root/a", "root/a!", "root/b", "root/c/d", "rooted", "s"] {
        server.bucket().put(name, "x");
    }
    let store = open(&server);
    let all = list_all(&store, ListOptions::default()).await;
    let keys: Vec<_> = all.iter().map(|listed| listed.key.to_string()).collect();
    assert_eq!(keys, ["a", "a!", "b", "c/d"]);
    let fields = "fields=kind%2CnextPageToken%2Citems%28name%2Cgeneration%2Csize%2Cmd5Hash%2CtimeCreated%29";
    let first = format!("GET /storage/v1/b/lake/o?maxResults=1000&{fields}&prefix=root%2F");
    let sent: Vec<String> = server.seen().iter().map(shown).collect();
    assert_eq!(sent[0], first);
    assert_eq!((sent.len(), sent[1].starts_with(&format!("{first}&pageToken="))), (3, true), "{sent:#?}");
    // The service begins with the key itself, we after it.
    let after = list_all(&store, ListOptions { after: Some("a".into()), ..ListOptions::default() }).await;
    assert_eq!(after.iter().map(|listed| listed.key.to_string()).collect::<Vec<_>>(), ["a!", "b", "c/d"]);
    assert_eq!(shown(&server.seen()[0]), format!("{first}&startOffset=root%2Fa"));
    assert_eq!(all[0].fingerprint.version.as_deref(), Some(&*server.bucket().generation("root/a").to_string()));
}

#[tokio::test]
async fn writes_say_their_checksum_and_their_condition() {
    let server = Gcs::start();
    let more = [("storage_class", "NEARLINE"), ("kms_key_name", "projects/p/locations/eu/keyRings/r/cryptoKeys/k")];
    let store = at(&server.endpoint(), "", &more);
    let key = ObjectKey::from("k");
    let first = store.put(&key, "hello".into(), &when(Precondition::Absent)).await.unwrap().fingerprint;
    store.put(&key, "again".into(), &when(Precondition::Matches(first.clone()))).await.unwrap();
    let seen = server.seen();
    for (request, generation) in seen.iter().zip(["0", first.version.as_deref().unwrap()]) {
        assert_eq!(request.header("x-goog-if-generation-match"), Some(generation));
        assert_eq!(request.header("x-goog-storage-class"), Some("NEARLINE"));
        assert_eq!(request.header("x-goog-encryption-kms-key-name"), Some(more[1].1));
    }
    assert_eq!((seen.len(), seen[0].header("x-goog-hash")), (2, Some("crc32c=mnG7TA==")));
    assert_eq!(first.content_etag(), Some("5d41402abc4b2a76b9719d911017c592"), "the MD5 of the content");
    // One that another store told has no generation: it is looked for, and the write names the one that was found.
    let bare = Fingerprint { version: None, ..store.head(&key).await.unwrap().fingerprint };
    store.put(&key, "third".into(), &when(Precondition::Matches(bare.clone()))).await.unwrap();
    let stale = store.put(&key, "fourth".into(), &when(Precondition::Matches(bare))).await.unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Precondition);
    assert_eq!(read(&store, &key, GetOptions::default()).await.unwrap(), "third");
}

#[tokio::test]
async fn reads_are_of_one_generation_and_of_the_bytes_as_stored() {
    let server = Gcs::start();
    let store = at(&server.endpoint(), "", &[]);
    let key = ObjectKey::from("packed");
    let attributes: Attributes =
        [("content-encoding", "gzip"), ("cache-control", "no-transform2"), ("meta:note", "\u{fc}n\u{ef}  two")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let written = store.put(&key, "not really gzip".into(), &options).await.unwrap();
    let expect = |range| GetOptions { range, expect: Some(written.fingerprint.clone()) };
    for (range, bytes) in [(None, "not really gzip"), (Some(4..10), "really"), (Some(3..3), "")] {
        let got = store.get(&key, expect(range.clone())).await.unwrap();
        assert_eq!(got.info.attributes, attributes, "of a range, too");
        assert_eq!(read(&store, &key, expect(range)).await.unwrap(), bytes);
    }
    // The service makes up a Cache-Control in its answers; it is no attribute.
    put(&store, "plain", "x").await;
    assert_eq!(store.get(&"plain".into(), GetOptions::default()).await.unwrap().info.attributes, Attributes::new());
    // The same bytes once more: another generation, though the ETag is the same.
    let again = store.put(&key, "not really gzip".into(), &options).await.unwrap();
    assert_eq!(again.fingerprint.etag, written.fingerprint.etag);
    let stale = store.get(&key, expect(None)).await.map(drop).unwrap_err();
    assert_eq!(stale.kind, StoreErrorKind::Precondition);
}

/// Between the two requests of one read another writes: never the metadata of one and the bytes of the other.
#[tokio::test]
async fn a_read_during_a_write_is_of_one_version() {
    let server = Arc::new(Gcs::start());
    let behind = Arc::clone(&server);
    let proxy = Proxy::before(&server.endpoint(), move |request| {
        if request.target.starts_with("/storage/") && request.target.contains("ifGenerationMatch") {
            behind.bucket().put("k", "and another one");
        }
        Answer::Pass
    });
    let store = at(&proxy.endpoint(), "", &[]);
    let key = ObjectKey::from("k");
    let link = PutOptions { kind: EntryKind::Symlink, ..PutOptions::default() };
    let first = store.put(&key, "first".into(), &link).await.unwrap().fingerprint;
    let bare = Fingerprint { version: None, ..first.clone() };
    let error = store.get(&key, GetOptions { expect: Some(bare), range: None }).await.map(drop).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Precondition, "{error}");
    let got = at(&proxy.endpoint(), "", &[]).put(&key, "first".into(), &link).await.unwrap().fingerprint;
    let read_now = store.get(&key, GetOptions::default()).await.unwrap();
    assert_eq!((read_now.info.kind, &read_now.info.fingerprint.version), (EntryKind::Symlink, &got.version));
    assert_eq!(read_now.body.try_collect::<Vec<Bytes>>().await.unwrap().concat(), b"first");
}

#[tokio::test]
async fn copies_go_in_steps_and_keep_what_is_not_replaced() {
    let server = Gcs::start();
    let store = at(&server.endpoint(), "", &[]);
    let attributes: Attributes =
        [("content-type", "text/plain"), ("meta:note", "\u{fc}")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let (from, body) = (ObjectKey::from("x/../from"), pattern(1000));
    let written = store.put(&from, body.clone().into(), &options).await.unwrap().fingerprint;
    server.bucket().step_bytes = 400;
    server.seen();
    let copied =
        store.copy(&CopySource::here(&from, &written), &"to".into(), &when(Precondition::Absent)).await.unwrap();
    let generation = written.version.clone().unwrap();
    let path = "POST /storage/v1/b/lake/o/x%2F..%2Ffrom/rewriteTo/b/lake/o/to";
    let step = format!("{path}?ifSourceGenerationMatch={generation}&ifGenerationMatch=0");
    let sent: Vec<String> = server.seen().iter().map(shown).collect();
    assert_eq!((sent.len(), &sent[0], sent[2].starts_with(&format!("{step}&rewriteToken="))), (3, &step, true));
    assert_eq!(copied.fingerprint.etag, written.etag);
    assert_eq!(read(&store, &"to".into(), GetOptions::default()).await.unwrap(), body);
    assert_eq!(store.head(&"to".into()).await.unwrap().attributes, attributes);
    let there =
        store.copy(&CopySource::here(&from, &written), &"to".into(), &when(Precondition::Absent)).await.unwrap_err();
    assert_eq!(there.kind, StoreErrorKind::Precondition);
    // A class of its own does not cost the copy its metadata; other attributes replace all.
    let more = [("storage_class", "COLDLINE"), ("kms_key_name", "key")];
    let cold = at(&server.endpoint(), "", &more);
    cold.copy(&CopySource::here(&from, &written), &"cold".into(), &PutOptions::default()).await.unwrap();
    let object = server.bucket().objects["cold"].clone();
    assert_eq!((object.described["storageClass"].as_str(), object.kms_key.as_deref()), (Some("COLDLINE"), Some("key")));
    assert_eq!(store.head(&"cold".into()).await.unwrap().attributes, attributes);
    let other = Attributes::from([("meta:only".to_owned(), "this".to_owned())]);
    let link = PutOptions { kind: EntryKind::Symlink, attributes: other, ..PutOptions::default() };
    cold.copy(&CopySource::here(&from, &written), &"link".into(), &link).await.unwrap();
    let found = store.head(&"link".into()).await.unwrap();
    assert_eq!((found.kind, found.attributes.len()), (EntryKind::Symlink, 2), "{found:?}");
}

#[tokio::test]
async fn rule_18_uploads_are_listed_in_pages_and_a_lost_completion_is_found() {
    let server = Gcs::start();
    server.bucket().parts_page = 1;
    let (key, data) = (ObjectKey::from("big"), pattern(2 * PART_BYTES as u64 + 17));
    let lost = Mutex::new(0);
    let proxy = Proxy::before(&server.endpoint(), move |request| {
        let completes = request.method == "POST" && request.target.contains("uploadId=");
        let mut lost = lost.lock().unwrap();
        *lost += u32::from(completes);
        // The service does it, the answer does not arrive.
        if completes && *lost == 1 { Answer::CutBy(usize::MAX) } else { Answer::Pass }
    });
    let bare = Arc::new(at(&proxy.endpoint(), "", &[]));
    let (meter, cancel) = (Arc::new(Meter::default()), CancellationToken::new());
    let store = Retried::new(Arc::clone(&bare) as Arc<dyn Store>, RetryPolicy::default(), 1, meter, cancel);
    for precondition in [Precondition::Absent, Precondition::Any] {
        let options = when(precondition);
        let upload = store.create_upload(&key, data.len() as u64, &options).await.unwrap();
        let parts = send(&store, &key, &upload, &data).await;
        assert!(parts.iter().all(|part| part.proof == Proof::Checksum));
        assert_eq!(store.list_parts(&key, &upload).await.unwrap().len(), 3);
        let written = store.complete_upload(&key, &upload, &parts, &options).await.unwrap();
        assert_eq!(written.proof, Proof::Checksum);
        let listed = list_all(&store, ListOptions::default()).await;
        assert_eq!(written.fingerprint, listed[0].fingerprint);
        assert_eq!(written.fingerprint.content_etag(), None, "parts have no MD5");
        assert_eq!(read(&store, &key, GetOptions::default()).await.unwrap(), data);
        // As after a lost answer, too: an upload that is gone and its object.
        let again = bare.complete_upload(&key, &upload, &parts, &options).await.unwrap();
        assert_eq!(again.fingerprint, written.fingerprint);
        let other = vec![UploadedPart { checksum: "AAAAAA==".into(), ..parts[0].clone() }];
        let error = bare.complete_upload(&key, &upload, &other, &PutOptions::default()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NotFound, "another content is not taken for ours");
    }
    assert_eq!(server.bucket().unfinished(), 0);
}

#[tokio::test]
async fn an_upload_looks_at_its_condition_right_before_the_end() {
    let server = Gcs::start();
    let store = at(&server.endpoint(), "", &[]);
    let (key, data) = (ObjectKey::from("k"), Bytes::from_static(b"ours"));
    let first = store.put(&key, "first".into(), &PutOptions::default()).await.unwrap().fingerprint;
    let options = when(Precondition::Matches(first));
    let upload = store.create_upload(&key, 4, &options).await.unwrap();
    let parts = send(&store, &key, &upload, &data).await;
    server.bucket().put("k", "theirs");
    server.seen();
    let error = store.complete_upload(&key, &upload, &parts, &options).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Precondition);
    assert!(server.seen().iter().all(|request| request.method == "GET"), "nothing was completed");
    assert_eq!(server.bucket().objects["k"].body, b"theirs");
    store.abort_upload(&key, &upload).await.unwrap();
    assert_eq!(server.bucket().unfinished(), 0);
}

#[tokio::test]
async fn case_22_what_is_wrong_is_said_without_the_token() {
    let server = Gcs::start();
    let key = ObjectKey::from("k");
    let with = |bucket: &str, token: &str| {
        let options = [("base_url", server.endpoint()), ("bearer_token", token.to_owned())];
        let options = options.map(|(name, value)| (name.to_owned(), value)).into();
        GcsStore::open(GcsConfig { bucket: bucket.into(), options, ..GcsConfig::default() }).unwrap()
    };
    with(BUCKET, TOKEN).check_bucket().await.unwrap();
    let wrong = with(BUCKET, "another-hush");
    let denied = wrong.put(&key, "x".into(), &PutOptions::default()).await.unwrap_err();
    assert_eq!((denied.kind, denied.to_string().contains("hush")), (StoreErrorKind::Credentials, false), "{denied}");
    let none = with("no-such", TOKEN);
    let listed: Result<Vec<_>, _> = none.list(ListOptions::default()).try_collect().await;
    for error in [
        none.check_bucket().await.unwrap_err(),
        listed.unwrap_err(),
        none.put(&key, "x".into(), &PutOptions::default()).await.unwrap_err(),
        none.create_upload(&key, 1, &PutOptions::default()).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::NoBucket, "{error}");
    }
    let debug = format!("{:?} {:?}", with(BUCKET, TOKEN), PutOptions::default());
    assert!(!debug.contains("hush"), "{debug}");
}

/// A tree with small files, an empty one, odd names and one that goes in parts.
const FILES: [(&str, u64); 6] =
    [("a/small", 100), ("a/b/other", 3000), ("empty", 0), ("sp ace+%41", 7), ("\u{fc}", 9), ("big", 9 << 20)];

fn tree(root: &Path) {
    for (name, len) in FILES {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, pattern(len)).unwrap();
    }
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    FILES.map(|(name, _)| (name.to_owned(), std::fs::read(root.join(name)).unwrap())).into()
}

#[test]
fn a_tree_goes_there_and_back_and_a_second_run_writes_nothing() {
    let server = Gcs::start();
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path()).with("GOOGLE_BASE_URL", server.endpoint()).with("GOOGLE_BEARER_TOKEN", TOKEN);
    let (source, back) = (home.path().join("source"), home.path().join("back"));
    tree(&source);
    let (target, state) = ("gs://lake/tree", "gs://lake/state");
    // 32 MiB of memory: what is larger than a quarter goes in parts.
    let there = ["copy", "--json", "--delete", "--state", state, "--memory", "32M", "--chunk-size", "1M"];
    let run = |source: &str, target: &str| shell.run(&[&there[..], &[source, target]].concat());
    let first = run("source", target).expect(0);
    assert_eq!(first.number("counts/copied"), 6, "{}", first.stdout);
    let seen = server.seen();
    assert!(seen.iter().any(|request| request.query("partNumber").is_some()), "the large one goes in parts");
    assert!(server.bucket().objects.keys().any(|name| name.starts_with("state/")));
    let second = run("source", target).expect(0);
    assert_eq!((second.number("counts/equal"), second.number("bytes/written")), (6, 0), "{}", second.stdout);

    std::fs::write(source.join("a/small"), "changed").unwrap();
    std::fs::remove_file(source.join("empty")).unwrap();
    let kept = shell.run(&[&there[..], &["--trash", "gs://lake/trash", "source", target]].concat());
    let third = kept.expect(0);
    assert_eq!((third.number("counts/copied"), third.number("counts/deleted")), (1, 1), "{}", third.stdout);
    let trash: Vec<String> =
        server.bucket().objects.keys().filter(|name| name.starts_with("trash/")).cloned().collect();
    for name in ["/a/small", "/empty"] {
        assert!(trash.iter().any(|kept| kept.ends_with(name)), "{name} is kept: {trash:#?}");
    }
    std::fs::write(source.join("empty"), "").unwrap();
    run("source", target).expect(0);

    shell.run(&["copy", "--json", target, "back"]).expect(0);
    assert_eq!(files(&back), files(&source));
    let again = shell.run(&["copy", "--json", target, "back"]).expect(0);
    assert_eq!((again.number("counts/equal"), again.number("bytes/written")), (6, 0), "{}", again.stdout);
    shell.run(&["verify", "--level", "content", "source", target]).expect(0);
    shell.run(&["check", "source", target, "--state", state]).expect(0);

    let refused = shell.run(&["copy", "source", target, "--sse", "AES256"]).expect(2);
    assert!(refused.last_word().contains("server_side_encryption"), "{}", refused.stderr);
    let denied = shell.with("GOOGLE_BEARER_TOKEN", "another-hush").run(&["copy", "source", target]).expect(12);
    assert!(!denied.stderr.contains("hush"), "{}", denied.stderr);
}

#[test]
fn a_store_of_the_configuration_and_a_key_file_say_where_it_is() {
    let server = Gcs::start();
    let home = tempfile::tempdir().unwrap();
    tree(&home.path().join("source"));
    let config = home.path().join(".config/understudy");
    std::fs::create_dir_all(&config).unwrap();
    let text = format!(
        "[stores.gcs]\nurl = \"gs://lake/lake\"\nendpoint = \"{}\"\noptions = {{ bearer_token = \"env:LAKE_TOKEN\" }}\n",
        server.endpoint()
    );
    std::fs::write(config.join("config.toml"), text).unwrap();
    let shell = Shell::new(home.path()).with("LAKE_TOKEN", TOKEN);
    let copied = shell.run(&["copy", "--json", "source", "gcs:tree", "--storage-class", "NEARLINE"]).expect(0);
    assert_eq!(copied.number("counts/copied"), 6, "{}", copied.stdout);
    assert_eq!(server.bucket().objects["lake/tree/a/small"].described["storageClass"], "NEARLINE");

    // A key without OAuth sends no token, which this server wants.
    let key = home.path().join("key.json");
    let text = format!(
        r#"{{"gcs_base_url": "{}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}"#,
        server.endpoint()
    );
    std::fs::write(&key, text).unwrap();
    server.seen();
    let keyed = Shell::new(home.path()).with("GOOGLE_SERVICE_ACCOUNT", &key);
    keyed.run(&["copy", "source", "gs://lake/x"]).expect(12);
    assert!(server.seen().iter().all(|request| request.header("authorization").is_none()));
}
