//! Links: listed, read and written as the mode says, and nothing is ever done through one.

use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn links_are_listed_and_read_as_the_mode_says() {
    let (root, outside) = (scratch(), scratch());
    write(root.path(), "real/x", "inside");
    write(outside.path(), "y", "outside");
    symlink("real/x", root.path().join("file-link")).unwrap();
    symlink(outside.path(), root.path().join("folder-link")).unwrap();
    symlink("nowhere", root.path().join("dangling")).unwrap();
    let rows = |store| async move { list(&store, ListOptions::default()).await.unwrap() };
    let named = |rows: &[(&str, EntryKind)]| -> Vec<(String, EntryKind)> {
        rows.iter().map(|(key, kind)| ((*key).to_owned(), *kind)).collect()
    };
    use EntryKind::{Object, Special, Symlink};

    let as_links =
        named(&[("dangling", Symlink), ("file-link", Symlink), ("folder-link", Symlink), ("real/x", Object)]);
    let skip = open(root.path(), LinkMode::Skip);
    assert_eq!(rows(skip.clone()).await, as_links);
    assert_eq!(kind_of(read(&skip, "file-link").await), StoreErrorKind::KindConflict);
    assert_eq!(kind_of(read(&skip, "folder-link/y").await), StoreErrorKind::NotFound);

    let preserve = open(root.path(), LinkMode::Preserve);
    assert_eq!(rows(preserve.clone()).await, as_links);
    assert_eq!(read(&preserve, "dangling").await.unwrap(), b"nowhere");
    let info = preserve.head(&"file-link".into()).await.unwrap();
    assert_eq!((info.kind, info.fingerprint.size_bytes), (Symlink, 6));
    assert_eq!(info.attributes.get(attributes::LINK).map(String::as_str), Some("true"));
    assert_eq!(kind_of(read(&preserve, "folder-link/y").await), StoreErrorKind::NotFound);

    let follow = open(root.path(), LinkMode::Follow);
    let followed = [("dangling", Special), ("file-link", Object), ("folder-link/y", Object), ("real/x", Object)];
    assert_eq!(rows(follow.clone()).await, named(&followed));
    assert_eq!(read(&follow, "file-link").await.unwrap(), b"inside");
    assert_eq!(read(&follow, "folder-link/y").await.unwrap(), b"outside");
}

#[tokio::test]
async fn a_link_on_the_way_to_what_is_asked_for_is_an_error() {
    let (root, outside) = (scratch(), scratch());
    write(root.path(), "real/t/x", "inside");
    write(outside.path(), "t/y", "outside");
    symlink(outside.path(), root.path().join("ext")).unwrap();
    symlink("real", root.path().join("other")).unwrap();
    let of = |folders: &[&str]| {
        let cover = Cover::new(folders.iter().map(|folder| ObjectKey::from(*folder))).map(Arc::new);
        ListOptions { cover, ..ListOptions::default() }
    };
    let skip = open(root.path(), LinkMode::Skip);
    let only = [("real/t/x".to_owned(), EntryKind::Object)];
    assert_eq!(list(&skip, of(&["real/t", "gone/t"])).await.unwrap(), only, "links elsewhere do not matter");
    assert_eq!(kind_of(list(&skip, of(&["real/t", "ext/t"])).await), StoreErrorKind::KindConflict);
    let itself = [("ext".to_owned(), EntryKind::Symlink)];
    assert_eq!(list(&skip, of(&["ext"])).await.unwrap(), itself);
    let follow = open(root.path(), LinkMode::Follow);
    assert_eq!(list(&follow, of(&["ext/t"])).await.unwrap(), [("ext/t/y".to_owned(), EntryKind::Object)]);
}

#[tokio::test]
async fn links_are_written_as_links() {
    let root = scratch();
    let store = open(root.path(), LinkMode::Preserve);
    let mtime = "1500000000.000000001";
    let options = PutOptions {
        kind: EntryKind::Symlink,
        attributes: [(attributes::MTIME.to_owned(), mtime.to_owned())].into(),
        ..PutOptions::default()
    };
    store.put(&"sub/link".into(), "../target".into(), &options).await.unwrap();
    assert_eq!(fs::read_link(root.path().join("sub/link")).unwrap(), Path::new("../target"));
    let info = store.head(&"sub/link".into()).await.unwrap();
    assert_eq!(info.attributes.get(attributes::MTIME).map(String::as_str), Some(mtime));
    store.copy(&CopySource::here(&"sub/link".into(), &info.fingerprint), &"copied".into(), &options).await.unwrap();
    assert_eq!(fs::read_link(root.path().join("copied")).unwrap(), Path::new("../target"));
    for target in ["", "a\0b"] {
        assert_eq!(kind_of(store.put(&"bad".into(), target.into(), &options).await), StoreErrorKind::Unsupported);
    }
    put(&store, "sub/link", "now a file").await.unwrap();
    assert!(fs::symlink_metadata(root.path().join("sub/link")).unwrap().is_file(), "the link itself was replaced");
}

#[tokio::test]
async fn nothing_is_written_or_deleted_through_a_link() {
    let (root, outside) = (scratch(), scratch());
    write(outside.path(), "x", "theirs");
    symlink(outside.path(), root.path().join("out")).unwrap();
    write(root.path(), "file", "a file");
    for links in [LinkMode::Skip, LinkMode::Follow, LinkMode::Preserve] {
        let store = open(root.path(), links);
        let (options, key) = (PutOptions::default(), ObjectKey::from("out/x"));
        let folder = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
        let source = store.head(&"file".into()).await.unwrap().fingerprint;
        let upload = UploadId(".understudy-0123456789abcdef.tmp".into());
        let refused = [
            kind_of(store.put(&key, "ours".into(), &options).await),
            kind_of(store.put(&"out/new/deep".into(), "ours".into(), &options).await),
            kind_of(store.put(&"out/folder".into(), Bytes::new().into(), &folder).await),
            kind_of(store.create_upload(&key, 4, &options).await),
            kind_of(store.complete_upload(&key, &upload, &[], &options).await),
            kind_of(store.copy(&CopySource::here(&"file".into(), &source), &key, &options).await),
            kind_of(store.delete(std::slice::from_ref(&key)).await.pop().unwrap()),
        ];
        assert_eq!(refused, [StoreErrorKind::KindConflict; 7], "{links:?}");
        assert_eq!(names_below(outside.path()), ["x"]);
        assert_eq!(fs::read(outside.path().join("x")).unwrap(), b"theirs");
    }
    let store = open(root.path(), LinkMode::Follow);
    delete(&store, "out").await.unwrap();
    assert_eq!((names_below(root.path()), names_below(outside.path())), (vec!["file".into()], vec!["x".into()]));
}

#[tokio::test]
async fn link_loops_are_counted_and_left() {
    let root = scratch();
    write(root.path(), "a/x", "");
    write(root.path(), "b/y", "");
    symlink("..", root.path().join("a/up")).unwrap();
    symlink(".", root.path().join("a/self")).unwrap();
    symlink("../b", root.path().join("a/to-b")).unwrap();
    symlink("../a", root.path().join("b/to-a")).unwrap();
    symlink("round", root.path().join("round")).unwrap();
    let rows = list(&open(root.path(), LinkMode::Follow), ListOptions::default()).await.unwrap();
    let keys: Vec<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
    let expected = [
        "a/self",
        "a/to-b/to-a",
        "a/to-b/y",
        "a/up",
        "a/x",
        "b/to-a/self",
        "b/to-a/to-b",
        "b/to-a/up",
        "b/to-a/x",
        "b/y",
        "round",
    ];
    assert_eq!(keys, expected);
    for (key, kind) in &rows {
        let loops = !(key.ends_with('x') || key.ends_with('y'));
        assert_eq!(*kind, if loops { EntryKind::Special } else { EntryKind::Object }, "{key}");
    }
}
