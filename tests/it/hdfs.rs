//! HDFS against a real NameNode and DataNode: the store by its contract, and whole runs through the binary. Each test works
//! in a folder of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use distcp::store::hdfs::{HdfsConfig, HdfsStore};
use distcp::store::{
    Folders, GetOptions, ListOptions, PartSpec, Precondition, Proof, PutOptions, Store, StoreErrorKind, Sweep as _,
    UploadId,
};
use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind, ObjectKey};
use tests::cli::Shell;
use tests::contract::{list_all, pattern, put, read, store_contract};
use tests::services;
use tests::trees::contents;

const MIB: u64 = 1 << 20;

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

fn folder(purpose: &str) -> String {
    format!("{purpose}-{:x}", rand::random::<u64>())
}

fn open_as(server: &str, path: &str, options: &[(&str, &str)]) -> HdfsStore {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    HdfsStore::open(HdfsConfig { authority: server.to_owned(), path: path.into(), options, now_ns }).unwrap()
}

fn open(server: &str, path: &str) -> HdfsStore {
    open_as(server, path, &[])
}

/// A folder that is there and empty.
async fn fresh(server: &str, purpose: &str) -> (HdfsStore, String) {
    let path = folder(purpose);
    let made = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
    open(server, "").put(&path.as_str().into(), Bytes::new().into(), &made).await.unwrap();
    (open(server, &path), path)
}

fn when(precondition: Precondition) -> PutOptions {
    PutOptions { precondition, ..PutOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_store_contract() {
    let Some(server) = services::hdfs() else { return };
    store_contract(|| async { Arc::new(fresh(&server, "contract").await.0) as Arc<dyn Store> }).await;
}

/// A NameNode compares signed bytes, and a folder's content sorts behind its slash: keys come in order all the same, also
/// over several pages of one folder.
#[tokio::test(flavor = "multi_thread")]
async fn listings_are_in_the_order_of_keys_over_pages_and_scripts() {
    let Some(server) = services::hdfs() else { return };
    let (store, _) = fresh(&server, "order").await;
    let mut all: Vec<String> = (0..2300).map(|i| format!("d/{i:04}")).collect();
    let odd = [
        "a",
        "a!",
        "a-/x",
        "a/x",
        "a0",
        "\u{e9}",
        "\u{e9}/x",
        "e\u{301}",
        "d\u{65e5}/1",
        "d-\u{1f600}",
        "d/0500\u{fc}",
    ];
    // `a` cannot be a file beside `a/x`.
    all.extend(odd.iter().skip(1).filter(|key| **key != "\u{e9}").map(|key| (*key).to_owned()));
    let puts = all.iter().map(|key| put(&store, key, Bytes::new()));
    futures::future::join_all(puts).await;
    all.sort();
    let keys =
        |options| async { list_all(&store, options).await.into_iter().map(|l| l.key.to_string()).collect::<Vec<_>>() };
    let shown = |keys: &[String]| keys.iter().map(|key| ObjectKey::from(key.as_str()).to_string()).collect::<Vec<_>>();
    assert_eq!(keys(ListOptions::default()).await, shown(&all));
    let after = ListOptions { after: Some(all[1500].as_str().into()), ..ListOptions::default() };
    assert_eq!(keys(after).await, shown(&all[1501..]));
}

#[tokio::test]
async fn case_37_keys_that_hdfs_cannot_hold_are_refused_by_name() {
    let Some(server) = services::hdfs() else { return };
    let (store, _) = fresh(&server, "odd").await;
    for (bad, why) in [("a:b", "colon"), ("a//b", "empty segment"), ("x/../y", ".."), (".snapshot/x", "for itself")] {
        let error = store.put(&bad.into(), "x".into(), &PutOptions::default()).await.unwrap_err();
        assert_eq!((error.kind, error.key.clone()), (StoreErrorKind::InvalidKey, Some(bad.into())), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    for kind in [EntryKind::Symlink, EntryKind::Special] {
        let options = PutOptions { kind, ..PutOptions::default() };
        let error = store.put(&"link".into(), "to".into(), &options).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unsupported);
    }
    assert!(list_all(&store, ListOptions { folders: true, ..ListOptions::default() }).await.is_empty());
}

#[tokio::test]
async fn a_stale_replace_is_refused_and_the_old_object_stays() {
    let Some(server) = services::hdfs() else { return };
    let (store, _) = fresh(&server, "stale").await;
    let key = ObjectKey::from("f");
    let first = put(&store, "f", "first").await.fingerprint;
    let second = store.put(&key, "second".into(), &when(Precondition::Matches(first.clone()))).await.unwrap();
    assert_eq!(second.proof, Proof::ReadBack);
    let error = store.put(&key, "third".into(), &when(Precondition::Matches(first.clone()))).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Precondition);
    let error = store.put(&"gone".into(), "x".into(), &when(Precondition::Matches(first))).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Precondition);
    assert_eq!(read(&store, &key, GetOptions::default()).await.unwrap(), "second");
    assert_eq!(list_all(&store, ListOptions::default()).await.len(), 1);
    assert_eq!(store.leftovers(Duration::ZERO, None).await.unwrap(), [], "a refused write leaves nothing");
}

/// Rule 13: a body does not change its version half-way.
#[tokio::test]
async fn rule_13_a_file_replaced_while_it_is_read_is_an_error() {
    let Some(server) = services::hdfs() else { return };
    let (store, _) = fresh(&server, "replaced").await;
    let key = ObjectKey::from("f");
    let first = put(&store, "f", pattern(2 * MIB)).await.fingerprint;
    assert!(first.racy, "a file that was just written proves nothing");
    let mut body = store.get(&key, GetOptions { range: None, expect: Some(first) }).await.unwrap().body;
    let begun = body.try_next().await.unwrap().unwrap().len() as u64;
    put(&store, "f", vec![7u8; 2 << 20]).await;
    let mut arrived = begun;
    let error = loop {
        match body.try_next().await {
            Ok(Some(bytes)) => arrived += bytes.len() as u64,
            Ok(None) => panic!("the body ended well with {arrived} bytes"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, StoreErrorKind::Precondition, "{error}");
    assert!(arrived < 2 * MIB);
}

/// Rule 18: another process goes on with an upload by what the journal holds, and nothing of it is left.
#[tokio::test]
async fn rule_18_parts_survive_the_process_and_are_read_back() {
    let Some(server) = services::hdfs() else { return };
    let (first, path) = fresh(&server, "parts").await;
    let (key, body) = (ObjectKey::from("d/large"), pattern(10 * MIB + 3));
    let attributes = Attributes::from([
        ("meta:mtime".to_owned(), "1500000000.250000000".to_owned()),
        ("meta:understudy-mode".to_owned(), "0640".to_owned()),
    ]);
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let part = |number: u32| {
        let offset = u64::from(number - 1) * 5 * MIB;
        PartSpec { number, offset, size_bytes: (5 * MIB).min(body.len() as u64 - offset) }
    };
    let bytes = |part: PartSpec| body.slice(part.offset as usize..(part.offset + part.size_bytes) as usize);
    let upload = first.create_upload(&key, body.len() as u64, &options).await.unwrap();
    let two = first.put_part(&key, &upload, part(2), bytes(part(2)).into()).await.unwrap();
    assert_eq!(two.proof, Proof::ReadBack);
    drop(first);

    let second = open(&server, &path);
    second.list_parts(&key, &upload).await.unwrap();
    assert_eq!(second.read_part(&key, &upload, part(2)).await.unwrap(), bytes(part(2)));
    assert_eq!(second.read_part(&key, &upload, part(1)).await.unwrap_err().kind, StoreErrorKind::NotFound);
    let found = second.leftovers(Duration::ZERO, None).await.unwrap();
    assert_eq!(found.iter().map(|leftover| &leftover.upload).collect::<Vec<_>>(), [&upload]);
    let mut sent = vec![two];
    for number in [3, 1] {
        sent.push(second.put_part(&key, &upload, part(number), bytes(part(number)).into()).await.unwrap());
    }
    let gap = second.complete_upload(&key, &upload, &sent[..1], &options).await.unwrap_err();
    assert_eq!(gap.kind, StoreErrorKind::Other);
    second.complete_upload(&key, &upload, &sent, &options).await.unwrap();
    assert!(read(&second, &key, GetOptions::default()).await.unwrap() == body);
    assert_eq!(second.head(&key).await.unwrap().attributes, attributes);
    assert_eq!(second.leftovers(Duration::ZERO, None).await.unwrap(), []);
    for id in ["", "..", "d", ".understudy-1.tmp"] {
        let id = UploadId(id.into());
        assert_eq!(second.abort_upload(&key, &id).await.unwrap_err().kind, StoreErrorKind::Other, "{id:?}");
    }
    assert!(second.head(&key).await.is_ok());
}

#[tokio::test]
async fn case_24_leftovers_are_not_listed_and_can_be_removed() {
    let Some(server) = services::hdfs() else { return };
    let (store, _) = fresh(&server, "leftovers").await;
    let options = PutOptions::default();
    put(&store, "a/f", Bytes::new()).await;
    let ids = [
        store.create_upload(&"a/x".into(), 1, &options).await.unwrap(),
        store.create_upload(&"b/deep/x".into(), 1, &options).await.unwrap(),
        store.create_upload(&"x".into(), 1, &options).await.unwrap(),
    ];
    let part = PartSpec { number: 1, offset: 0, size_bytes: 1 };
    store.put_part(&"a/x".into(), &ids[0], part, "x".into()).await.unwrap();
    let folders = ListOptions { folders: true, ..ListOptions::default() };
    let listed: Vec<_> =
        list_all(&store, folders.clone()).await.into_iter().map(|l| (l.key.to_string(), l.kind)).collect();
    assert_eq!(listed, [("a/f".to_owned(), EntryKind::Object), ("b/deep".to_owned(), EntryKind::Folder)]);
    assert_eq!(store.leftovers(Duration::from_secs(3600), None).await.unwrap(), [], "young ones may be in use");
    let found = store.leftovers(Duration::ZERO, None).await.unwrap();
    let alone = Folders { alone: [ObjectKey::from("b/deep")].into(), ..Folders::default() };
    for within in [alone, Folders { whole: [ObjectKey::from("b")].into(), ..Folders::default() }] {
        let in_b = store.leftovers(Duration::ZERO, Some(Arc::new(within))).await.unwrap();
        let in_b: Vec<_> = in_b.iter().map(|left| &left.upload).collect();
        assert_eq!(in_b, [&ids[1]], "what others may be writing stays");
    }
    let mut uploads: Vec<_> = found.iter().map(|leftover| leftover.upload.clone()).collect();
    uploads.sort_by_key(|id| ids.iter().position(|known| known == id));
    assert_eq!(uploads, ids);
    for leftover in &found {
        store.remove_leftover(leftover).await.unwrap();
        store.remove_leftover(leftover).await.unwrap();
    }
    assert_eq!(store.leftovers(Duration::ZERO, None).await.unwrap(), []);
    assert_eq!(list_all(&store, ListOptions::default()).await.len(), 1);
}

#[tokio::test]
async fn another_user_is_refused_what_the_permissions_forbid() {
    let Some(server) = services::hdfs() else { return };
    let (store, path) = fresh(&server, "permissions").await;
    let private = Attributes::from([("meta:understudy-mode".to_owned(), "0600".to_owned())]);
    let options = PutOptions { attributes: private, ..PutOptions::default() };
    store.put(&"secret".into(), "x".into(), &options).await.unwrap();
    let eve = open_as(&server, &path, &[("user", "eve")]);
    assert_eq!(list_all(&eve, ListOptions::default()).await.len(), 1);
    let refused = [
        eve.put(&"new".into(), "x".into(), &PutOptions::default()).await.unwrap_err(),
        read(&eve, &"secret".into(), GetOptions::default()).await.unwrap_err(),
        eve.delete(&["secret".into()]).await.remove(0).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind, StoreErrorKind::Permission, "{error}");
        assert!(error.to_string().contains("user=eve"), "{error}");
    }
    assert!(store.head(&"secret".into()).await.is_ok());
}

#[tokio::test]
async fn a_file_is_a_place_of_its_own() {
    let Some(server) = services::hdfs() else { return };
    let (store, path) = fresh(&server, "single").await;
    let written = put(&store, "f", "one").await.fingerprint;
    let single = open(&server, &format!("{path}/f"));
    let listed = list_all(&single, ListOptions::default()).await;
    assert_eq!((listed.len(), listed[0].key.is_empty(), &listed[0].fingerprint.mtime_ns), (1, true, &written.mtime_ns));
    assert_eq!(read(&single, &ObjectKey::default(), GetOptions::default()).await.unwrap(), "one");
    single.put(&ObjectKey::default(), "two".into(), &when(Precondition::Any)).await.unwrap();
    assert_eq!(read(&store, &"f".into(), GetOptions::default()).await.unwrap(), "two");
    let gone: Result<Vec<_>, _> =
        open(&server, &format!("{path}/none")).list(ListOptions::default()).try_collect().await;
    assert_eq!(gone.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[test]
fn a_store_without_its_configuration_says_what_is_missing() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |authority: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let config = HdfsConfig { authority: authority.to_owned(), path: "x".into(), options, now_ns };
        HdfsStore::open(config).unwrap_err().to_string()
    };
    let folder = scratch.path().to_str().unwrap();
    let error = refused("nn:8020", &[("config_dir", folder)]);
    assert!(error.contains(folder) && error.contains("core-site.xml") && error.contains("hdfs-site.xml"), "{error}");
    assert!(refused("service", &[]).contains("hdfs://service:8020"));
    assert!(refused("", &[]).contains("hdfs://host:port/path"));
}

fn write_tree(root: &Path, files: usize) {
    for i in 0..files {
        let path = root.join(format!("d{:02}/f{i:04}", i % 10));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, pattern(i as u64 * 7)).unwrap();
    }
}

/// Local to HDFS and back; the second run of each reads nothing. 300 small files take seconds because many are closed at
/// once: one after the other it would be more than two minutes.
#[test]
fn small_files_large_ones_and_empty_folders_go_to_hdfs_and_come_back() {
    let Some(server) = services::hdfs() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let (source, back) = (scratch.path().join("source"), scratch.path().join("back"));
    write_tree(&source, 300);
    std::fs::create_dir(source.join("empty")).unwrap();
    std::fs::write(source.join("large"), pattern(20 * MIB + 17)).unwrap();
    let named = source.join("\u{fc}n\u{ef}");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("\u{65e5}\u{672c}"), "x").unwrap();
    tests::trees::age(&source);
    let target = format!("hdfs://{server}/{}", folder("binary"));
    let shell = Shell::new(scratch.path());
    let began = Instant::now();
    let first = shell.run(&["copy", "source", &target, "--json"]).expect(0);
    let took = began.elapsed();
    assert_eq!(first.number("counts/copied"), 303);
    assert!(took < Duration::from_secs(90), "{took:?}");
    let again = shell.run(&["copy", "source", &target, "--json"]).expect(0);
    assert_eq!((again.number("counts/equal"), again.number("bytes/read"), again.number("bytes/written")), (303, 0, 0));
    shell.run(&["verify", "source", &target, "--level", "content"]).expect(0);

    shell.run(&["copy", &target, "back", "--json"]).expect(0);
    assert_eq!(contents(&source), contents(&back));
    assert!(back.join("empty").is_dir());
    let again = shell.run(&["copy", &target, "back", "--json"]).expect(0);
    assert_eq!((again.number("bytes/read"), again.number("bytes/written")), (0, 0));

    // The whole milliseconds of times are kept: they prove equality where both sides have times.
    let by_time = ["copy", "source", &target, "--compare", "mtime", "--job", "by-time", "--json"];
    std::fs::remove_dir_all(scratch.path().join(".local")).unwrap();
    let by_time = shell.run(&by_time).expect(0);
    assert_eq!((by_time.number("counts/equal"), by_time.number("bytes/read")), (303, 0));
    std::fs::remove_file(source.join("large")).unwrap();
    std::fs::remove_dir_all(source.join("d00")).unwrap();
    let mirrored = ["copy", "source", &target, "--delete", "--max-deletes", "100%", "--job", "by-time", "--json"];
    let mirrored = shell.run(&mirrored).expect(0);
    assert_eq!(mirrored.number("counts/deleted"), 31);
    // What was equal by its time alone is proven by reading.
    shell.run(&["verify", "source", &target, "--job", "by-time"]).expect(3);
    shell.run(&["verify", "source", &target, "--level", "content"]).expect(0);
}

#[test]
fn a_bucket_is_copied_to_hdfs() {
    let (Some(server), Some(s3)) = (services::hdfs(), services::s3()) else { return };
    let scratch = tempfile::tempdir().unwrap();
    write_tree(&scratch.path().join("source"), 40);
    // The times travel with the objects: on HDFS, too, a fingerprint that is too young is not trusted (rule 13).
    tests::trees::age(&scratch.path().join("source"));
    let shell = Shell::new(scratch.path()).with_s3(&s3);
    let bucket = format!("s3://{}", s3.fresh_bucket("to-hdfs"));
    shell.run(&["copy", "source", &bucket]).expect(0);
    let target = format!("hdfs://{server}/{}", folder("bucket"));
    let first = shell.run(&["copy", &bucket, &target, "--json"]).expect(0);
    assert_eq!(first.number("counts/copied"), 40);
    let again = shell.run(&["copy", &bucket, &target, "--json"]).expect(0);
    assert_eq!((again.number("counts/equal"), again.number("bytes/read")), (40, 0));
    shell.run(&["copy", &target, "back"]).expect(0);
    assert_eq!(contents(&scratch.path().join("source")), contents(&scratch.path().join("back")));
}

/// The run's temporary files go with the next run, the object of the interrupted upload arrives.
#[test]
fn case_29_a_killed_run_goes_on_and_leaves_nothing() {
    let Some(server) = services::hdfs() else { return };
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir(scratch.path().join("source")).unwrap();
    std::fs::write(scratch.path().join("source/large"), pattern(60 * MIB)).unwrap();
    let path = folder("killed");
    let target = format!("hdfs://{server}/{path}");
    let shell = Shell::new(scratch.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(async { open(&server, &path) });
    let mut child = shell.distcp(&["copy", "source", &target, "--retry-for", "5s"]).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    // Killed once its upload is there.
    while runtime.block_on(store.leftovers(Duration::ZERO, None)).unwrap().is_empty() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "it was to be killed in its upload");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let status = shell.run(&["status", "--json"]);
    let job = status.stdout.lines().find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        value["job"].as_str().map(str::to_owned)
    });
    let job = job.expect("the job is known");
    shell.run(&["unlock", "--job", &job, "--yes"]).expect(0);
    shell.run(&["copy", "source", &target, "--json"]).expect(0);
    assert_eq!(runtime.block_on(store.leftovers(Duration::ZERO, None)).unwrap(), []);
    shell.run(&["verify", "source", &target, "--level", "content"]).expect(0);
}

#[test]
fn a_check_leaves_no_folder_that_it_made() {
    let Some(server) = services::hdfs() else { return };
    let scratch = tempfile::tempdir().unwrap();
    write_tree(&scratch.path().join("source"), 1);
    let shell = Shell::new(scratch.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let top = folder("check");
    let is_there = |path: &str| {
        let path = path.into();
        runtime.block_on(async { open(&server, "").head(&path).await }).map(|info| info.kind)
    };
    let check = |path: &str| {
        let ran = shell.run(&["check", "source", &format!("hdfs://{server}/{path}")]).expect(0);
        assert!(ran.stdout.contains("objects can be written") && !ran.stdout.contains("is left"), "{ran:#?}");
    };
    let deep = format!("{top}/of/three");
    check(&deep);
    assert_eq!(is_there(&top).unwrap_err().kind, StoreErrorKind::NotFound);
    // Those that were there stay, empty or not.
    let made = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
    runtime.block_on(async { open(&server, "").put(&top.as_str().into(), Bytes::new().into(), &made).await }).unwrap();
    check(&deep);
    check(&top);
    assert_eq!(is_there(&top).unwrap(), EntryKind::Folder);
    assert_eq!(is_there(&format!("{top}/of")).unwrap_err().kind, StoreErrorKind::NotFound);
}

/// What was made for a trial is removed as far as nobody has put anything into it meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn made_folders_that_hold_something_stay() {
    let Some(server) = services::hdfs() else { return };
    let top = folder("made");
    let (there, store) = (open(&server, ""), open(&server, &format!("{top}/a/b")));
    assert_eq!(store.missing_folders().await.unwrap(), 3);
    store.put(&"x".into(), "x".into(), &PutOptions::default()).await.unwrap();
    there.put(&format!("{top}/other").as_str().into(), "y".into(), &PutOptions::default()).await.unwrap();
    assert_eq!(store.missing_folders().await.unwrap(), 0);
    store.remove_made_folders(3).await.unwrap();
    assert!(store.head(&"x".into()).await.is_ok(), "the root holds an object");
    store.delete(&["x".into()]).await.pop().unwrap().unwrap();
    store.remove_made_folders(3).await.unwrap();
    assert_eq!(store.missing_folders().await.unwrap(), 2);
    assert!(there.head(&format!("{top}/other").as_str().into()).await.is_ok());
}

#[test]
fn what_is_wrong_with_the_place_has_its_exit_code() {
    let Some(server) = services::hdfs() else { return };
    let scratch = tempfile::tempdir().unwrap();
    write_tree(&scratch.path().join("source"), 1);
    let target = format!("hdfs://{server}/{}", folder("codes"));
    let shell = Shell::new(scratch.path());
    // Where the tree cannot even be listed it is a matter of permissions; an object that cannot be written is that one's.
    let private = folder("private");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let attributes = Attributes::from([("meta:understudy-mode".to_owned(), "0700".to_owned())]);
        let options = PutOptions { kind: EntryKind::Folder, attributes, ..PutOptions::default() };
        open(&server, "").put(&private.as_str().into(), Bytes::new().into(), &options).await.unwrap();
    });
    let private = format!("hdfs://{server}/{private}");
    let eves = shell.clone().with("HADOOP_USER_NAME", "eve");
    for sides in [["source", &private], [&private, "back"]] {
        let eve = eves.run(&["copy", sides[0], sides[1]]).expect(12);
        assert!(eve.stderr.contains("user=eve") && !eve.stderr.contains("\tat "), "{}", eve.stderr);
    }
    let eve = eves.run(&["copy", "source", &target]).expect(3);
    assert!(eve.last_word().contains("user=eve") && !eve.stderr.contains("Handler.run"), "{}", eve.stderr);

    let state = format!("hdfs://{server}/{}", folder("state"));
    let refused = shell.run(&["copy", "source", &target, "--state", &state]).expect(2);
    assert!(refused.last_word().contains("--state"), "{}", refused.stderr);

    let none = shell.run(&["copy", &format!("{target}/none"), "back"]);
    assert_ne!(none.code, 0, "a source that is not there");

    let option = shell.run(&["copy", "source", &target, "--target-option", "usr=eve"]).expect(2);
    assert!(option.stderr.contains("did you mean \"user\""), "{}", option.stderr);
    let config = scratch.path().join("config.toml");
    std::fs::write(&config, format!("[stores.lake]\nurl = \"hdfs://{server}/\"\noptions = {{ user = \"eve\" }}\n"))
        .unwrap();
    let args = ["copy", "source", "lake:codes", "--config", config.to_str().unwrap()];
    assert!(shell.run(&args).expect(3).stderr.contains("user=eve"));
}

/// Of a name service whose first NameNode is not there the second one serves. One that takes connections and says nothing is
/// waited for, a minute a call (`--long`): the run ends in bounded time and says that nobody answers.
#[test]
fn case_45_one_of_two_namenodes_is_silent_or_gone() {
    let Some(server) = services::hdfs() else { return };
    let scratch = tempfile::tempdir().unwrap();
    write_tree(&scratch.path().join("source"), 5);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let gone_at = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap().to_string()
    };
    let cases = [("gone", gone_at), ("silent", silent_at)];
    for (case, first) in cases.into_iter().take(if services::long() { 2 } else { 1 }) {
        let hadoop = scratch.path().join(format!("hadoop-{case}"));
        std::fs::create_dir(&hadoop).unwrap();
        let properties = [
            ("dfs.ha.namenodes.lake", "a,b"),
            ("dfs.namenode.rpc-address.lake.a", &first),
            ("dfs.namenode.rpc-address.lake.b", &server),
            (
                "dfs.client.failover.proxy.provider.lake",
                "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider",
            ),
        ];
        let properties: String = properties
            .iter()
            .map(|(n, v)| format!("<property><name>{n}</name><value>{v}</value></property>"))
            .collect();
        std::fs::write(hadoop.join("hdfs-site.xml"), format!("<configuration>{properties}</configuration>")).unwrap();
        let shell = Shell::new(scratch.path()).with("HADOOP_CONF_DIR", &hadoop);
        let began = Instant::now();
        let ran =
            shell.run(&["copy", "source", &format!("hdfs://lake/{}", folder(case)), "--retry-for", "10s", "--json"]);
        // It finishes, or fails in bounded time with the cause.
        assert!(began.elapsed() < Duration::from_secs(180), "{case}: {:?}", began.elapsed());
        match case {
            "gone" => assert_eq!((ran.code, ran.number("counts/copied")), (0, 5), "{}", ran.stderr),
            _ => assert!(ran.code == 75 && ran.stderr.contains("does not answer"), "{case}: {}", ran.stderr),
        }
    }
}

#[test]
fn a_namenode_that_does_not_answer_is_a_retryable_failure_in_bounded_time() {
    let scratch = tempfile::tempdir().unwrap();
    write_tree(&scratch.path().join("source"), 1);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let shell = Shell::new(scratch.path());
    let began = Instant::now();
    let target = format!("hdfs://127.0.0.1:{port}/x");
    let refused = shell.run(&["copy", "source", &target, "--retry-for", "1s"]).expect(75);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(refused.stderr.contains("connection"), "{}", refused.stderr);

    // A name service of the configuration, none of whose NameNodes is there.
    let hadoop = scratch.path().join("hadoop");
    std::fs::create_dir(&hadoop).unwrap();
    let properties: BTreeMap<&str, String> = BTreeMap::from([
        ("dfs.ha.namenodes.Lake", "a,b".to_owned()),
        ("dfs.namenode.rpc-address.Lake.a", format!("127.0.0.1:{port}")),
        ("dfs.namenode.rpc-address.Lake.b", format!("127.0.0.1:{port}")),
    ]);
    let properties: String =
        properties.iter().map(|(n, v)| format!("<property><name>{n}</name><value>{v}</value></property>")).collect();
    std::fs::write(hadoop.join("hdfs-site.xml"), format!("<configuration>{properties}</configuration>")).unwrap();
    let configured = shell.clone().with("HADOOP_CONF_DIR", &hadoop);
    configured.run(&["copy", "source", "hdfs://Lake/x", "--retry-for", "1s"]).expect(75);
    let unknown = shell.run(&["copy", "source", "hdfs://Lake/x"]).expect(2);
    assert!(unknown.stderr.contains("HADOOP_CONF_DIR"), "{}", unknown.stderr);
}
