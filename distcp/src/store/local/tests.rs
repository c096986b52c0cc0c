//! What only a file system can do to a store: files that change while they are read, attributes, leftovers, races.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use tempfile::TempDir;

use super::*;
use crate::list::cover::Cover;
use crate::store::Precondition;

mod links;
mod walks;

/// 2001-09-09: files of today lie in its future.
const LONG_AGO_NS: fn() -> i64 = || 1_000_000_000_000_000_000;
/// 2096-10-02: files of today are old.
const FAR_AHEAD_NS: fn() -> i64 = || 4_000_000_000_000_000_000;

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(root: &Path, links: LinkMode) -> LocalStore {
    let options = LocalOptions { links, sync: SyncMode::Never, now_ns: FAR_AHEAD_NS, ..LocalOptions::default() };
    LocalStore::open(root, options).unwrap()
}

fn write(root: &Path, key: &str, body: impl AsRef<[u8]>) {
    let path = root.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, body).unwrap();
}

async fn list(store: &LocalStore, options: ListOptions) -> Result<Vec<(String, EntryKind)>> {
    let batches: Vec<Vec<Listed>> = store.list(options).try_collect().await?;
    Ok(batches.concat().into_iter().map(|listed| (listed.key.escaped().into_owned(), listed.kind)).collect())
}

async fn read(store: &LocalStore, key: &str) -> Result<Vec<u8>> {
    let blocks: Vec<Bytes> = store.get(&key.into(), GetOptions::default()).await?.body.try_collect().await?;
    Ok(blocks.concat())
}

async fn put(store: &LocalStore, key: &str, body: &'static str) -> Result<Written> {
    store.put(&key.into(), body.into(), &PutOptions::default()).await
}

async fn delete(store: &LocalStore, key: &str) -> Result<()> {
    store.delete(&[key.into()]).await.pop().unwrap()
}

#[track_caller]
fn kind_of<T>(answer: Result<T>) -> StoreErrorKind {
    answer.map(|_| ()).expect_err("an error was expected").kind
}

#[tokio::test]
async fn a_range_is_hashed_where_it_is_read_or_it_is_another_version() {
    let root = scratch();
    let (chunk_size, length) = (ChunkSize::MIN, ChunkSize::MIN.bytes());
    let body: Vec<u8> = (0..3 * length + 5).map(|at| (at % 251) as u8).collect();
    write(root.path(), "file", &body);
    let store = open(root.path(), LinkMode::Skip);
    let info = store.head(&"file".into()).await.unwrap();
    let hash = async |range: Range<u64>| {
        store.hash_range(&"file".into(), range, &info.fingerprint, chunk_size).await.map(Option::unwrap)
    };
    for range in [0..length, length..3 * length, 2 * length..3 * length + 5, 0..3 * length + 5] {
        let bytes = &body[range.start as usize..range.end as usize];
        let hashed = hash(range.clone()).await.unwrap();
        assert_eq!(hashed.chunks, manifest::ChunkHash::of_run(bytes, range.start, chunk_size), "{range:?}");
        assert_eq!(hashed.info, info);
    }
    assert_eq!(kind_of(hash(0..3 * length + 6).await), StoreErrorKind::Precondition);
    fs::File::options().write(true).open(root.path().join("file")).unwrap().set_len(length).unwrap();
    assert_eq!(kind_of(hash(0..length).await), StoreErrorKind::Precondition);
}

fn names_below(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn system_errors_are_classed_by_what_can_be_done() {
    use StoreErrorKind as Kind;
    let table = [
        (Errno::NOENT, Kind::NotFound),
        (Errno::ACCESS, Kind::Permission),
        (Errno::PERM, Kind::Permission),
        (Errno::ROFS, Kind::Permission),
        (Errno::NOSPC, Kind::NoSpace),
        (Errno::DQUOT, Kind::NoSpace),
        (Errno::NAMETOOLONG, Kind::InvalidKey),
        (Errno::ISDIR, Kind::KindConflict),
        (Errno::NOTDIR, Kind::KindConflict),
        (Errno::LOOP, Kind::KindConflict),
        (Errno::IO, Kind::Other),
    ];
    for (errno, kind) in table {
        let error = failure("write", "/data", Some(&"k".into()), errno);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().starts_with("cannot write k at /data: "), "{error}");
    }
}

#[tokio::test]
async fn rule_13_young_files_prove_nothing() {
    let root = scratch();
    write(root.path(), "x", "");
    for (now_ns, racy) in [(LONG_AGO_NS, true), (FAR_AHEAD_NS, false)] {
        let store = LocalStore::open(root.path(), LocalOptions { now_ns, ..LocalOptions::default() }).unwrap();
        assert_eq!(store.head(&"x".into()).await.unwrap().fingerprint.racy, racy);
    }
    let file = fs::File::options().write(true).open(root.path().join("x")).unwrap();
    for (age_ms, racy) in [(0, true), (1_999, true), (2_000, false), (5_000, false)] {
        let now = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        file.set_modified(now - Duration::from_millis(age_ms)).unwrap();
        let store = open(root.path(), LinkMode::Skip);
        assert_eq!(store.head(&"x".into()).await.unwrap().fingerprint.racy, racy, "{age_ms} ms");
    }
}

#[tokio::test]
async fn case_25_a_file_that_changes_while_it_is_read_is_reported() {
    let root = scratch();
    let store = open(root.path(), LinkMode::Skip);
    let path = root.path().join("x");
    let whole = vec![7u8; 5 << 20];
    type Change = fn(&Path);
    let changes: [(&str, Change); 4] = [
        ("appended", |path| {
            use std::io::Write as _;
            fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("cut", |path| fs::File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap()),
        ("overwritten", |path| {
            use std::os::unix::fs::FileExt as _;
            fs::File::options().write(true).open(path).unwrap().write_all_at(b"other", 4 << 20).unwrap();
        }),
        ("touched", |path| fs::File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH).unwrap()),
    ];
    for (what, change) in changes {
        fs::write(&path, &whole).unwrap();
        let mut body = store.get(&"x".into(), GetOptions::default()).await.unwrap().body;
        assert_eq!(body.try_next().await.unwrap().unwrap().len(), 1 << 20);
        change(&path);
        let mut bytes = 1 << 20;
        let error = loop {
            match body.try_next().await {
                Ok(Some(block)) => bytes += block.len(),
                Ok(None) => panic!("{what}: the body ended as if it were whole"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, StoreErrorKind::Precondition, "{what}");
        assert!(bytes < whole.len(), "{what}: the last bytes are not handed out");
        assert!(body.try_next().await.unwrap().is_none(), "{what}: nothing follows an error");
    }
    // Replaced by a rename: the old version is whole, and is what was asked for.
    fs::write(&path, &whole).unwrap();
    let expect = Some(store.head(&"x".into()).await.unwrap().fingerprint);
    fs::write(root.path().join("new"), "new").unwrap();
    fs::rename(root.path().join("new"), &path).unwrap();
    let stale = store.get(&"x".into(), GetOptions { range: None, expect }).await;
    assert_eq!(kind_of(stale), StoreErrorKind::Precondition);
}

#[tokio::test]
async fn attributes_become_mode_and_time() {
    let root = scratch();
    let store = open(root.path(), LinkMode::Skip);
    let attributes = [(attributes::MODE, "0604"), (attributes::MTIME, "-1.500000000"), ("content-type", "text/csv")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = PutOptions { attributes: attributes.into(), ..PutOptions::default() };
    store.put(&"x".into(), "x".into(), &options).await.unwrap();
    let metadata = fs::metadata(root.path().join("x")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o604);
    assert_eq!(UNIX_EPOCH.duration_since(metadata.modified().unwrap()).unwrap(), Duration::from_millis(1500));
    let kept = store.head(&"x".into()).await.unwrap().attributes;
    assert_eq!(kept.get(attributes::MODE).map(String::as_str), Some("0604"));
    assert_eq!(kept.get(attributes::MTIME).map(String::as_str), Some("-1.500000000"));
    assert_eq!(kept.len(), 2, "a file system keeps no content type");
}

#[tokio::test]
async fn a_failed_write_leaves_the_old_file_and_no_temporary() {
    let root = scratch();
    let store = open(root.path(), LinkMode::Skip);
    put(&store, "x", "old").await.unwrap();
    let absent = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
    assert_eq!(kind_of(store.put(&"x".into(), "new".into(), &absent).await), StoreErrorKind::Precondition);
    fs::create_dir(root.path().join("folder")).unwrap();
    for options in [&absent, &PutOptions::default()] {
        assert_eq!(kind_of(store.put(&"folder".into(), "new".into(), options).await), StoreErrorKind::KindConflict);
    }
    assert_eq!(read(&store, "x").await.unwrap(), b"old");
    assert_eq!(names_below(root.path()), ["folder", "x"]);
}

#[tokio::test]
async fn case_24_leftovers_are_not_listed_and_can_be_removed() {
    let root = scratch();
    write(root.path(), "a/x", "x");
    let store = open(root.path(), LinkMode::Skip);
    let options = PutOptions::default();
    let ids = [
        store.create_upload(&"top".into(), 10, &options).await.unwrap(),
        store.create_upload(&"a/deep/er/big".into(), 10, &options).await.unwrap(),
    ];
    let rows = list(&store, ListOptions::default()).await.unwrap();
    assert_eq!(rows, [("a/x".to_owned(), EntryKind::Object)]);
    let age = Duration::from_secs(3600);
    let found = store.leftovers(age, None).await.unwrap();
    let places: Vec<_> = found.iter().map(|left| (left.folder.clone(), left.upload.clone())).collect();
    assert_eq!(places, [("".into(), ids[0].clone()), ("a/deep/er".into(), ids[1].clone())]);
    let today = LocalStore::open(root.path(), LocalOptions::default()).unwrap();
    assert_eq!(today.leftovers(age, None).await.unwrap(), [], "young ones may be in use");
    for (folder, expected) in [("a/deep/er", &ids[1..]), ("a/deep", &[]), ("a", &[]), ("b", &[]), ("", &ids[..1])] {
        let within = Folders { alone: [ObjectKey::from(folder)].into(), ..Folders::default() };
        let found = today.leftovers(Duration::ZERO, Some(Arc::new(within))).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|left| left.upload).collect();
        assert_eq!(found, expected, "in {folder:?}: what others may be writing stays");
    }
    for (folder, expected) in [("a/deep/er", &ids[1..]), ("a/deep", &ids[1..]), ("a/dee", &[]), ("", &ids[..])] {
        let within = Folders { whole: [ObjectKey::from(folder)].into(), ..Folders::default() };
        let found = today.leftovers(Duration::ZERO, Some(Arc::new(within))).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|left| left.upload).collect();
        assert_eq!(found, expected, "in all of {folder:?}");
    }
    for leftover in &found {
        store.remove_leftover(leftover).await.unwrap();
        store.remove_leftover(leftover).await.unwrap();
    }
    assert_eq!(store.leftovers(Duration::ZERO, None).await.unwrap(), []);
    assert_eq!(names_below(root.path()), ["a"]);
}

#[tokio::test]
async fn an_upload_id_can_name_nothing_else() {
    let root = scratch();
    write(root.path(), "precious", "x");
    let store = open(root.path(), LinkMode::Skip);
    for id in ["precious", "../precious", ".understudy-0123456789abcdef.tmp/../precious", "", ".", "a/b"] {
        let upload = UploadId(id.into());
        assert_eq!(kind_of(store.abort_upload(&"y".into(), &upload).await), StoreErrorKind::Other);
        assert_eq!(
            kind_of(store.complete_upload(&"y".into(), &upload, &[], &PutOptions::default()).await),
            StoreErrorKind::Other
        );
    }
    assert_eq!(names_below(root.path()), ["precious"]);
}

#[tokio::test]
async fn an_upload_of_which_parts_are_missing_is_not_completed() {
    let root = scratch();
    let store = open(root.path(), LinkMode::Skip);
    let (key, options) = (ObjectKey::from("x"), PutOptions::default());
    let upload = store.create_upload(&key, 10, &options).await.unwrap();
    let part = |number, offset| PartSpec { number, offset, size_bytes: 5 };
    let second = store.put_part(&key, &upload, part(2, 5), "world".into()).await.unwrap();
    let missing = store.complete_upload(&key, &upload, std::slice::from_ref(&second), &options).await;
    assert_eq!(kind_of(missing), StoreErrorKind::Other);
    assert_eq!(kind_of(store.put_part(&key, &upload, part(3, 10), "!!!!!".into()).await), StoreErrorKind::Other);
    assert_eq!(kind_of(store.put_part(&key, &upload, part(1, 0), "four".into()).await), StoreErrorKind::Other);
    assert_eq!(kind_of(store.head(&key).await), StoreErrorKind::NotFound);
    let first = store.put_part(&key, &upload, part(1, 0), "hello".into()).await.unwrap();
    store.complete_upload(&key, &upload, &[first, second], &options).await.unwrap();
    assert_eq!(read(&store, "x").await.unwrap(), b"helloworld");
}

#[tokio::test]
async fn a_file_is_a_root_with_the_empty_key() {
    let root = scratch();
    write(root.path(), "one", "single");
    let store = open(&root.path().join("one"), LinkMode::Skip);
    let root_key = ObjectKey::default();
    assert_eq!(list(&store, ListOptions::default()).await.unwrap(), [(String::new(), EntryKind::Object)]);
    assert_eq!(store.head(&root_key).await.unwrap().fingerprint.size_bytes, 6);
    assert_eq!(read(&store, "").await.unwrap(), b"single");
    put(&store, "", "replaced").await.unwrap();
    assert_eq!(fs::read(root.path().join("one")).unwrap(), b"replaced");
    assert_eq!(kind_of(put(&store, "below", "x").await), StoreErrorKind::KindConflict);

    let options = LocalOptions { create_root: true, ..LocalOptions::default() };
    let target = LocalStore::open(&root.path().join("new/folder/two"), options.clone()).unwrap();
    assert_eq!(kind_of(target.head(&root_key).await), StoreErrorKind::NotFound);
    assert!(!root.path().join("new").exists(), "looking creates nothing");
    let upload = target.create_upload(&root_key, 3, &PutOptions::default()).await.unwrap();
    // Without a file there the root may become a folder: what stands beside it is another's.
    assert_eq!(target.leftovers(Duration::ZERO, None).await.unwrap(), []);
    target.put(&root_key, "two".into(), &PutOptions::default()).await.unwrap();
    let leftovers = target.leftovers(Duration::ZERO, None).await.unwrap();
    assert_eq!(leftovers.iter().map(|left| &left.upload).collect::<Vec<_>>(), [&upload]);
    target.remove_leftover(&leftovers[0]).await.unwrap();
    assert_eq!(names_below(&root.path().join("new/folder")), ["two"]);

    let folder = LocalStore::open(&root.path().join("new"), options).unwrap();
    assert_eq!(folder.head(&root_key).await.unwrap().kind, EntryKind::Folder);
    assert_eq!(kind_of(read(&folder, "").await), StoreErrorKind::KindConflict);
    assert!(folder.delete(std::slice::from_ref(&root_key)).await[0].is_err(), "the root is never removed");
}

#[tokio::test]
async fn case_07_a_missing_root_is_created_with_the_first_write_only() {
    let root = scratch();
    let path = root.path().join("a/b");
    let options = LocalOptions { create_root: true, ..LocalOptions::default() };
    let store = LocalStore::open(&path, options).unwrap();
    assert_eq!(kind_of(list(&store, ListOptions::default()).await), StoreErrorKind::NotFound);
    assert_eq!(kind_of(read(&store, "x").await), StoreErrorKind::NotFound);
    delete(&store, "x").await.unwrap();
    store.settle().await.unwrap();
    assert_eq!(store.leftovers(Duration::ZERO, None).await.unwrap(), []);
    assert!(!root.path().join("a").exists());
    put(&store, "x", "x").await.unwrap();
    store.settle().await.unwrap();
    assert_eq!(list(&store, ListOptions::default()).await.unwrap().len(), 1);

    let refused = open(&root.path().join("missing"), LinkMode::Skip);
    assert_eq!(kind_of(put(&refused, "x", "x").await), StoreErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_and_deletes_in_one_folder_do_not_trip_over_each_other() {
    let root = scratch();
    let store = open(root.path(), LinkMode::Skip);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..40 {
                let key = format!("shared/folder/{task}-{round}");
                store.put(&key.as_str().into(), "x".into(), &PutOptions::default()).await.unwrap();
                delete(&store, &key).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(names_below(root.path()), [] as [&str; 0]);
}

#[test]
fn rule_15_one_of_two_swappers_wins_each_round() {
    let root = scratch();
    let (store, key) = (open(root.path(), LinkMode::Skip), ObjectKey::from("x"));
    let tree = &store.0;
    tree.put(&key, &"first".into(), &PutOptions::default()).unwrap();
    for round in 0..2_000 {
        let precondition = Precondition::Matches(tree.head(&key).unwrap().fingerprint);
        let barrier = std::sync::Barrier::new(2);
        let swap = || {
            let (spot, temporary, _) = tree.temporary_file("write", &key, &PutOptions::default()).unwrap();
            barrier.wait();
            tree.commit(&key, &spot, temporary, &precondition).is_ok()
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(swap);
            (swap(), one.join().unwrap())
        });
        assert!(one != other, "round {round}: exactly one wins");
    }
}
