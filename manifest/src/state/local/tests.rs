use super::*;

fn state() -> (tempfile::TempDir, LocalState) {
    let folder = tempfile::tempdir().unwrap();
    let state = LocalState::open(&folder.path().join("a/b"), true).unwrap();
    (folder, state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let (_folder, state) = state();
    super::super::contract::state_store_contract(Arc::new(state)).await;
}

#[tokio::test]
async fn two_opens_of_one_folder_exclude_each_other() {
    let (_folder, one) = state();
    let two = LocalState::open(one.root(), true).unwrap();
    let tag = one.create("x", Bytes::from_static(b"0")).await.unwrap().unwrap();
    let (a, b) =
        tokio::join!(one.swap("x", Bytes::from_static(b"1"), &tag), two.swap("x", Bytes::from_static(b"2"), &tag));
    assert!(a.unwrap().is_some() ^ b.unwrap().is_some());
}

#[tokio::test]
async fn a_missing_state_can_be_read_and_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("none");
    let state = LocalState::open(&root, false).unwrap();
    assert_eq!(state.get("job/lease.json").await.unwrap(), None);
    assert_eq!(state.list("").await.unwrap(), vec![]);
    assert_eq!(state.folders("").await.unwrap(), Vec::<String>::new());
    assert!(state.create("x", Bytes::new()).await.is_err());
    assert!(!root.exists());
}

#[tokio::test]
async fn rule_01_the_marker_comes_before_every_other_file() {
    let (_folder, state) = state();
    super::super::marker::mark(&state).await.unwrap();
    let tag = state.create("0/x", Bytes::from_static(b"1")).await.unwrap().unwrap();
    state.swap("0/x", Bytes::from_static(b"2"), &tag).await.unwrap().unwrap();
    let mut names: Vec<_> = fs::read_dir(state.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [super::super::layout::MARKER, LOCK, "0"]);
}

#[tokio::test]
async fn a_durable_write_takes_along_all_that_waits() {
    let (_folder, state) = state();
    let waiting = || state.inner.unsynced.lock().unwrap().iter().cloned().collect::<Vec<_>>();
    let (root, bytes) = (state.root().to_owned(), Bytes::from_static(b"1"));
    let tag = state.create_as("job/lease", bytes.clone(), Lasting::Whole).await.unwrap().unwrap();
    state.create_as("job/runs/plan", bytes.clone(), Lasting::Loose).await.unwrap().unwrap();
    assert_eq!(waiting(), [root.clone(), root.join("job"), root.join("job/runs")]);
    // What may wait excludes others all the same.
    assert_eq!(state.create_as("job/runs/plan", Bytes::new(), Lasting::Loose).await.unwrap(), None);
    state.create("job/checkpoint", bytes.clone()).await.unwrap().unwrap();
    assert_eq!(waiting(), Vec::<PathBuf>::new());
    state.swap_as("job/lease", Bytes::from_static(b"2"), &tag, Lasting::Whole).await.unwrap().unwrap();
    assert_eq!(waiting(), [root.join("job")]);
    assert_eq!(state.swap_as("job/lease", bytes, &tag, Lasting::Whole).await.unwrap(), None, "stale");
}

#[tokio::test]
async fn names_cannot_leave_the_folder() {
    let (_folder, state) = state();
    for name in ["../x", "/etc/x", "a/../x", "", "a//b", LOCK, "a/.tmp-1", "a\0b"] {
        assert!(state.create(name, Bytes::new()).await.is_err(), "{name:?}");
        assert!(state.get(name).await.is_err(), "{name:?}");
        assert!(state.delete(name).await.is_err(), "{name:?}");
    }
    assert!(state.list("a").await.is_err());
}

#[tokio::test]
async fn what_dead_writers_left_is_not_listed_and_swept() {
    let (_folder, state) = state();
    state.create("job/x", Bytes::from_static(b"1")).await.unwrap();
    let leftover = state.root().join("job/.tmp-1-00000000000000aa");
    fs::write(&leftover, "half").unwrap();
    let names: Vec<_> = state.list("").await.unwrap().into_iter().map(|item| item.name).collect();
    assert_eq!(names, ["job/x"]);
    assert_eq!(state.sweep_leftovers("job/", Duration::from_secs(3600)).await.unwrap(), 0);
    assert!(leftover.exists());
    assert_eq!(state.sweep_leftovers("job/", Duration::ZERO).await.unwrap(), 1);
    assert!(!leftover.exists());
    assert!(state.get("job/x").await.unwrap().is_some());
}

#[tokio::test]
async fn deleting_the_last_file_removes_empty_folders_only() {
    let (_folder, state) = state();
    for name in ["job/runs/r1/x", "job/runs/r1/y"] {
        state.create(name, Bytes::new()).await.unwrap();
    }
    state.delete("job/runs/r1/x").await.unwrap();
    assert!(state.root().join("job/runs/r1").is_dir());
    state.delete("job/runs/r1/y").await.unwrap();
    assert!(!state.root().join("job").exists());
    assert!(state.root().is_dir());
}

#[test]
fn errors_say_what_a_caller_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let state = LocalState::open(folder.path(), true).unwrap();
    let table = [
        (ErrorKind::PermissionDenied, true, Class::Permanent),
        (ErrorKind::ReadOnlyFilesystem, true, Class::Permanent),
        (ErrorKind::StorageFull, false, Class::Permanent),
        (ErrorKind::TimedOut, false, Class::Retryable),
    ];
    for (kind, denied, expected) in table {
        let error = state.inner.error("create", "x", &kind.into());
        assert!(
            matches!(&error, Error::State { permission, class, .. } if *permission == denied && *class == expected)
        );
    }
    let full = state.inner.error("create", "x", &ErrorKind::StorageFull.into());
    assert!(full.to_string().contains("the disk is full"), "{full}");
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("file");
    fs::write(&root, "").unwrap();
    for create in [true, false] {
        assert!(LocalState::open(&root, create).is_err());
    }
    assert!(LocalState::open(&root.join("below"), true).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_without_hard_links_still_creates_exclusively() {
    let folder = tempfile::tempdir().unwrap();
    let (new, taken, path) = (folder.path().join("new"), folder.path().join("taken"), folder.path().join("x"));
    fs::write(&new, "1").unwrap();
    fs::write(&taken, "2").unwrap();
    assert!(rename_new(&new, &path).unwrap());
    assert!(!rename_new(&taken, &path).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"1");
}
