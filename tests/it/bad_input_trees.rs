//! Trees that one of the two sides cannot hold, or that change while they are read: what cannot arrive fails by its name,
//! everything else arrives, and nothing is ever written outside the target.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use distcp::event::Outcome;
use distcp::store::memory::MemoryStore;
use distcp::store::{Store, StoreErrorKind};
use manifest::ObjectKey;
use tests::cli::Shell;
use tests::contract::{pattern, put};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, local};
use tests::odd::OddStore;
use tests::services;
use tests::trees::{age, contents, snapshot};

fn write(root: &Path, name: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
    let path = root.join(OsStr::from_bytes(name.as_ref()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, body).unwrap();
}

fn home() -> (tempfile::TempDir, Shell) {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path());
    (folder, shell)
}

#[tokio::test]
async fn keys_that_a_folder_cannot_hold_fail_by_name_and_the_others_arrive() {
    let source = MemoryStore::new();
    let long = "n".repeat(256);
    let fits = "n".repeat(255);
    // `a` is a file and a folder at once; a local tree holds one of them.
    for key in ["a", "a/b", "c", "d//e", "../up", "./dot", "/lead", "end/", &long, &fits, &format!("deep/{long}/x")] {
        put(&source, key, pattern(100)).await;
    }
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("inner/target");
    let pair = Pair::new(Arc::new(source.clone()), Arc::new(local(&target)));
    let report = pair.ends_with(3).await;
    let arrived: Vec<Vec<u8>> =
        snapshot(&target).into_iter().filter(|(_, n)| n.kind == "file").map(|(k, _)| k).collect();
    assert!(arrived.contains(&b"c".to_vec()) && arrived.contains(&fits.clone().into_bytes()), "{arrived:?}");
    assert_eq!(arrived.len(), 3, "c, the name of 255 bytes, and either a or a/b: {arrived:?}");
    let failed = pair.ended(Outcome::Failed);
    assert_eq!(failed.len(), 8, "{failed:?}");
    assert_eq!((report.summary.counts.copied, report.summary.counts.failed), (3, 8));
    for key in failed {
        let error = pair.report_of(&key).error.unwrap();
        assert!(error.contains(&key) && error.contains(&*target.to_string_lossy()), "{key}: {error}");
    }
    // Nothing beside the target.
    let beside: Vec<_> =
        std::fs::read_dir(scratch.path().join("inner")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["target"]);
    // And again: what arrived stays, what failed fails.
    let before = snapshot(&target);
    pair.ends_with(3).await;
    assert_eq!(snapshot(&target), before);
}

#[tokio::test]
async fn a_key_below_an_object_that_stands_on_the_target_never_replaces_it() {
    let source = MemoryStore::new();
    put(&source, "x/y", pattern(10)).await;
    put(&source, "z", pattern(10)).await;
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path(), "x", "an old file");
    std::fs::create_dir_all(scratch.path().join("z/sub")).unwrap();
    write(scratch.path(), "z/sub/kept", "kept");
    let pair = Pair::new(Arc::new(source), Arc::new(local(scratch.path())));
    let before = snapshot(scratch.path());
    pair.ends_with(3).await;
    assert_eq!(pair.ended(Outcome::Failed), ["x/y", "z"]);
    for key in ["x/y", "z"] {
        let error = pair.report_of(key).error.unwrap();
        assert!(error.contains("a file and a folder have the same name"), "{error}");
    }
    assert_eq!(snapshot(scratch.path()), before);
}

#[test]
fn a_linked_folder_in_the_target_is_never_followed_out_of_it() {
    let (folder, shell) = home();
    let home = folder.path();
    write(home, "source/sub/f", "new");
    write(home, "source/plain", "plain");
    write(home, "outside/f", "secret");
    std::fs::create_dir(home.join("target")).unwrap();
    symlink(home.join("outside"), home.join("target/sub")).unwrap();
    for (more, state) in [(&[][..], "s1"), (&["--delete"], "s2"), (&["--links", "preserve"], "s3")] {
        let mut arguments = vec!["copy", "source", "target", "--state", state];
        arguments.extend(more);
        let ran = shell.run(&arguments).expect(3);
        let last = ran.last_word();
        assert!(
            last.contains("cannot write sub/f at ") && last.contains("a symbolic link, which is not followed"),
            "{last}"
        );
        assert_eq!(std::fs::read(home.join("outside/f")).unwrap(), b"secret", "{more:?}");
        assert_eq!(std::fs::read_dir(home.join("outside")).unwrap().count(), 1, "{more:?}");
        assert_eq!(std::fs::read(home.join("target/plain")).unwrap(), b"plain");
        assert!(home.join("target/sub").is_symlink(), "{more:?}");
    }
    // Deleting takes the link, not what it leads to.
    std::fs::remove_dir_all(home.join("source/sub")).unwrap();
    let arguments = ["copy", "source", "target", "--delete", "--max-deletes", "100%", "--links", "preserve", "-q"];
    shell.run(&arguments).expect(0);
    assert!(!home.join("target/sub").is_symlink());
    assert_eq!(std::fs::read(home.join("outside/f")).unwrap(), b"secret");
}

#[test]
fn case_37_odd_names_arrive_where_the_target_can_hold_them_and_fail_by_name_elsewhere() {
    let Some(s3) = services::s3() else { return };
    let (folder, shell) = home();
    let home = folder.path();
    let root = home.join("source");
    let names: [&[u8]; 9] = [
        b"not\xff\xfeutf8",
        b"new\nline",
        b"tab\there",
        b"back\\slash",
        b"-q",
        b"quote'\"",
        b"%2F",
        b"d/\xf0\x28",
        b"\xc3\xbc",
    ];
    for name in names {
        write(&root, name, name);
    }
    write(&root, [b'x'; 255], "longest");
    write(&root, [&[b'd'; 255][..], b"/", &[b'y'; 255]].concat(), "deep");
    age(&root);
    shell.run(&["copy", "source", "target", "-q"]).expect(0);
    assert_eq!(contents(&root), contents(&home.join("target")));
    let bucket = s3.fresh_bucket("odd");
    let shell = shell.with_s3(&s3);
    let lake = format!("s3://{bucket}/lake");
    for _ in 0..2 {
        let ran = shell.run(&["copy", "source", &lake, "--state", "state"]).expect(3);
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("failed ")).collect();
        assert_eq!(lines.len(), 2, "{}", ran.stderr);
        for key in ["not\\xff\\xfeutf8", "d/\\xf0("] {
            let wanted = format!("failed {key}: cannot write {key} at {lake}: this store cannot hold such a key");
            assert!(lines.iter().any(|line| line.starts_with(&wanted)), "{wanted:?} in {lines:?}");
        }
        assert!(ran.last_word().contains("2 objects failed, the first: cannot write "), "{}", ran.last_word());
    }
    // What did arrive comes back byte for byte.
    shell.run(&["copy", &lake, "back", "-q"]).expect(0);
    let mut wanted = contents(&root);
    wanted.retain(|key, _| std::str::from_utf8(key).is_ok());
    assert_eq!(contents(&home.join("back")), wanted);
}

#[test]
fn what_is_no_file_is_skipped_counted_and_named_and_loops_end() {
    let (folder, shell) = home();
    let root = folder.path().join("source");
    write(&root, "plain", "plain");
    write(&root, "d/inner", "inner");
    symlink("loop", root.join("loop")).unwrap();
    symlink("pong", root.join("ping")).unwrap();
    symlink("ping", root.join("pong")).unwrap();
    symlink(".", root.join("d/self")).unwrap();
    symlink("..", root.join("d/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for (mode, skipped, why) in [
        ("skip", 8, "skipped loop (link)"),
        ("follow", 8, "skipped loop (socket, pipe, device, or link that leads nowhere)"),
        ("preserve", 2, "skipped fifo (socket, pipe, device, or link that leads nowhere)"),
    ] {
        let target = format!("target-{mode}");
        let ran = shell.run(&["copy", "source", &target, "--links", mode, "--json", "-v"]).expect(0);
        assert_eq!(ran.number("counts/skipped"), skipped, "{mode}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{mode}: {}", ran.stderr);
        assert!(ran.stderr.contains("skipped socket ("), "{mode}: {}", ran.stderr);
        let arrived = snapshot(&folder.path().join(&target));
        let links = arrived.values().filter(|node| node.kind == "link").count();
        assert_eq!(links, if mode == "preserve" { 6 } else { 0 }, "{mode}");
        assert_eq!(arrived.values().filter(|node| node.kind == "file").count(), 2, "{mode}");
        shell.run(&["copy", "source", &target, "--links", mode, "-q"]).expect(0);
        assert_eq!(snapshot(&folder.path().join(&target)), arrived, "{mode}");
    }
}

/// What happens to a file between the answer to its first read and the first byte.
type Change = fn(&Path);

#[tokio::test]
async fn files_that_grow_shrink_or_vanish_while_they_are_read_are_never_a_mix() {
    let changes: [(&str, Change); 3] = [
        ("grows", |path| {
            use std::io::Write as _;
            std::fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("shrinks", |path| std::fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap()),
        ("vanishes", |path| std::fs::remove_file(path).unwrap()),
    ];
    for (how, change) in changes {
        for size in [90_000, (9 << 20) + 5] {
            let scratch = tempfile::tempdir().unwrap();
            let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
            write(&a, "quiet", "quiet");
            write(&a, "k", pattern(size));
            write(&b, "k", "the old version");
            age(&a);
            age(&b);
            let path = a.join("k");
            let meddle = async move { change(&path) };
            let source = OddStore::new(Arc::new(local(&a))).meddling("k", meddle).shared();
            let pair = Pair::new(source, Arc::new(local(&b)));
            let report = pair.copy().await;
            assert_eq!(std::fs::read(b.join("quiet")).unwrap(), b"quiet", "{how}");
            let (held, now) = (std::fs::read(b.join("k")).unwrap(), std::fs::read(a.join("k")).ok());
            let whole = held == pattern(size) || Some(&held) == now.as_ref();
            match report.summary.exit_code.code() {
                // Read before it was gone, or not there any more: then the old one is an extra.
                0 => assert!(whole || (now.is_none() && held == b"the old version"), "{how} {size}: a mix"),
                3 => {
                    assert_eq!(pair.ended(Outcome::Failed), ["k"], "{how} {size}");
                    assert_eq!(held, b"the old version", "{how} {size}");
                }
                other => panic!("{how} {size}: {other}: {report:?}"),
            }
            assert_eq!(snapshot(&b).len(), 2, "{how} {size}: a temporary file is left");
            pair.copied().await;
            if let Some(now) = now {
                assert_eq!(std::fs::read(b.join("k")).unwrap(), now, "{how} {size}");
            }
        }
    }
}

#[tokio::test]
async fn a_full_store_stops_the_run_fails_one_key_by_name_and_deletes_nothing() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for i in 0..200 {
        put(&source, &format!("f{i:03}"), pattern(1000)).await;
    }
    put(&target, "extra", pattern(5)).await;
    let full = Rule::every(Method::Put, Fault::Fail(StoreErrorKind::NoSpace)).from_call(20);
    let store = FaultStore::new(Arc::new(target.clone()), FaultPlan { rules: vec![full], ..FaultPlan::default() });
    let store: Arc<dyn Store> = Arc::new(store);
    let mut pair = Pair::new(Arc::new(source.clone()), store);
    pair.options.delete = true;
    let report = pair.ends_with(3).await;
    let counts = report.summary.counts;
    // Those in work at that moment fail too, and no others are begun.
    assert!((1..=16).contains(&counts.failed) && counts.copied < 40, "{counts:?}");
    assert_eq!((counts.deleted, target.objects().contains_key(&ObjectKey::from("extra"))), (0, true));
    assert!(report.summary.errors[0].contains("no space left"), "{:?}", report.summary.errors);
    assert!(report.summary.hint.unwrap().contains("free space at the target"));
    pair.target = Arc::new(target.clone());
    pair.copied().await;
    assert_eq!(target.objects(), source.objects());
}
