//! Listings: order, odd names and kinds, and what changes while it is listed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use proptest::prelude::*;

use super::super::walk::{Met, Walk};
use super::*;

/// Walks with windows of `window` names.
fn walked(store: &LocalStore, options: &ListOptions, window: usize) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let walk = Walk { options, temporaries: false, window };
    let done = store.0.walk(&walk, &mut |met| {
        if let Met::Entry(listed) = met {
            keys.push(listed.key.as_bytes().to_vec());
        }
        std::ops::ControlFlow::Continue(())
    });
    done.unwrap();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The walk is the sorted list of keys, whatever the names, wherever it starts, however small its windows are.
    #[test]
    fn walk_is_the_sorted_list_of_keys(
        paths in prop::collection::btree_set("[a!0.-]{1,2}(/[a!0.-]{1,2}){0,3}", 1..40),
        after in "[a!0./-]{0,5}",
        window in 1usize..5,
        covered in prop::collection::vec("[a!0.-]{1,2}(/[a!0.-]{1,2}){0,2}", 0..4),
    ) {
        let root = scratch();
        let mut keys = Vec::new();
        for key in paths {
            let path = root.path().join(&key);
            let dots = key.split('/').any(|segment| segment == "." || segment == "..");
            if !dots && fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir() && fs::write(&path, "").is_ok() {
                keys.push(key.into_bytes());
            }
        }
        keys.sort();
        let store = open(root.path(), LinkMode::Skip);
        prop_assert_eq!(&walked(&store, &ListOptions::default(), window), &keys);
        let all = keys.clone();
        let options = ListOptions { after: Some(after.as_str().into()), ..ListOptions::default() };
        let rest: Vec<Vec<u8>> = keys.into_iter().filter(|key| key.as_slice() > after.as_bytes()).collect();
        prop_assert_eq!(walked(&store, &options, window), rest);
        let folders: Vec<ObjectKey> = covered.iter().map(|folder| folder.as_str().into()).collect();
        let cover = Cover::new(folders.clone()).map(Arc::new);
        let options = ListOptions { cover: cover.clone(), ..ListOptions::default() };
        let inside = |key: &Vec<u8>| folders.iter().any(|folder| ObjectKey::from(key.clone()).is_within(folder));
        let held: Vec<Vec<u8>> = all.into_iter().filter(inside).collect();
        let listed = walked(&store, &options, window);
        prop_assert_eq!(listed.into_iter().filter(inside).collect::<Vec<_>>(), held);
    }
}

#[tokio::test]
async fn empty_folders_are_listed_in_order_when_asked_for() {
    let root = scratch();
    for folder in ["a", "a-", "b/deep/empty", "with-leftover"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    write(root.path(), "a!", "");
    write(root.path(), "b/x", "");
    write(root.path(), "with-leftover/.understudy-0123456789abcdef.tmp", "");
    let store = open(root.path(), LinkMode::Skip);
    let with = ListOptions { folders: true, ..ListOptions::default() };
    let (object, folder) = (EntryKind::Object, EntryKind::Folder);
    let expected = [
        ("a", folder),
        ("a!", object),
        ("a-", folder),
        ("b/deep/empty", folder),
        ("b/x", object),
        ("with-leftover", folder),
    ];
    assert_eq!(list(&store, with.clone()).await.unwrap(), expected.map(|(key, kind)| (key.to_owned(), kind)));
    let names = |options| walked(&store, &options, 1).concat();
    assert_eq!(names(ListOptions::default()), b"a!b/x");
    assert_eq!(names(ListOptions { after: Some("a!".into()), ..with }), b"a-b/deep/emptyb/xwith-leftover");
    delete(&store, "b/deep/empty").await.unwrap();
    assert_eq!(names_below(&root.path().join("b")), ["x"]);
    assert_eq!(kind_of(delete(&store, "b").await), StoreErrorKind::KindConflict);
}

#[tokio::test]
async fn case_37_raw_and_long_names_are_kept() {
    let root = scratch();
    let long = "n".repeat(255);
    fs::write(root.path().join(OsStr::from_bytes(b"raw\xff\xfe")), "raw").unwrap();
    fs::write(root.path().join(&long), "long").unwrap();
    let store = open(root.path(), LinkMode::Skip);
    let raw = ObjectKey::from(b"raw\xff\xfe".to_vec());
    assert_eq!(list(&store, ListOptions::default()).await.unwrap().len(), 2);
    assert_eq!(store.head(&raw).await.unwrap().fingerprint.size_bytes, 3);
    assert_eq!(read(&store, &long).await.unwrap(), b"long");
    store.put(&raw, "again".into(), &PutOptions::default()).await.unwrap();
    assert_eq!(fs::read(root.path().join(OsStr::from_bytes(b"raw\xff\xfe"))).unwrap(), b"again");
}

#[tokio::test]
async fn pipes_are_counted_and_never_waited_for() {
    let root = scratch();
    let folder = fs::File::open(root.path()).unwrap();
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(&folder, "pipe", FileType::Fifo, mode, 0).unwrap();
    let store = open(root.path(), LinkMode::Skip);
    let rows = list(&store, ListOptions::default()).await.unwrap();
    assert_eq!(rows, [("pipe".to_owned(), EntryKind::Special)]);
    assert_eq!(kind_of(read(&store, "pipe").await), StoreErrorKind::Unsupported);
}

#[tokio::test]
async fn a_listing_that_is_not_whole_is_an_error() {
    let root = scratch();
    write(root.path(), "a", "");
    write(root.path(), "b/x", "");
    let gone = open(&root.path().join("gone"), LinkMode::Skip);
    assert_eq!(kind_of(list(&gone, ListOptions::default()).await), StoreErrorKind::NotFound);

    // A folder that was replaced by a file after its name was read, seen by the walk when it gets there.
    let store = open(root.path(), LinkMode::Skip);
    let options = ListOptions::default();
    let walk = Walk { options: &options, temporaries: false, window: 10 };
    let replaced = store.0.walk(&walk, &mut |_| {
        fs::remove_dir_all(root.path().join("b")).unwrap();
        fs::write(root.path().join("b"), "").unwrap();
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(kind_of(replaced), StoreErrorKind::KindConflict);
}

#[tokio::test]
async fn what_vanishes_while_it_is_listed_was_not_there() {
    let root = scratch();
    for key in ["a", "b", "c/x", "d"] {
        write(root.path(), key, "");
    }
    let store = open(root.path(), LinkMode::Skip);
    let options = ListOptions::default();
    let mut keys = Vec::new();
    let walked = store.0.walk(&Walk { options: &options, temporaries: false, window: 10 }, &mut |met| {
        if let Met::Entry(listed) = met {
            keys.push(listed.key.escaped().into_owned());
        }
        if keys.len() == 1 {
            fs::remove_file(root.path().join("b")).unwrap();
            fs::remove_dir_all(root.path().join("c")).unwrap();
        }
        std::ops::ControlFlow::Continue(())
    });
    walked.unwrap();
    assert_eq!(keys, ["a", "d"]);
}

#[tokio::test]
async fn deep_trees_are_listed_with_few_open_folders() {
    let root = scratch();
    let deep = vec!["d"; 300].join("/");
    write(root.path(), &format!("{deep}/x"), "bottom");
    write(root.path(), "d/d/e", "on the way back");
    let store = open(root.path(), LinkMode::Skip);
    let rows = list(&store, ListOptions::default()).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(read(&store, &rows[0].0).await.unwrap(), b"bottom");
    delete(&store, &rows[0].0).await.unwrap();
    assert_eq!(names_below(&root.path().join("d/d")), ["e"]);
}

#[tokio::test]
async fn a_folder_that_is_replaced_while_it_is_listed_is_an_error() {
    let root = scratch();
    // So deep that the folder on top is closed on the way down and opened again on the way back.
    write(root.path(), &format!("{}/x", vec!["d"; 80].join("/")), "");
    write(root.path(), "d/e", "");
    let store = open(root.path(), LinkMode::Skip);
    let options = ListOptions::default();
    let walk = Walk { options: &options, temporaries: false, window: 10 };
    let answer = store.0.walk(&walk, &mut |_| {
        fs::rename(root.path().join("d"), root.path().join("moved")).unwrap();
        write(root.path(), "d/e", "of another folder");
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(kind_of(answer), StoreErrorKind::Other);
}
