//! `--trash`: what a run deletes or overwrites is kept first, whatever happens in between, and can be brought back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use distcp::event::Outcome;
use distcp::options::Cap;
use distcp::store::local::LinkMode;
use distcp::store::memory::MemoryStore;
use distcp::store::{PutOptions, Store, StoreErrorKind};
use manifest::ObjectKey;
use manifest::state::StateStore;
use manifest::state::memory::MemoryState;
use tests::cli::Shell;
use tests::crash::CrashingState;
use tests::fault::{CrashSwitch, Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::{Pair, local_with};
use tests::proxy::{Answer, Proxy};
use tests::services;
use tests::timing::copy_in_paused_time;
use tests::trees::snapshot;

const MIB: usize = 1 << 20;
/// More than one part with the smallest chunks.
const LARGE: usize = 9 * MIB;
/// No run here makes so many changes.
const MOST_CHANGES: u64 = 500;

type Contents = BTreeMap<ObjectKey, Bytes>;

async fn put(store: &MemoryStore, key: &str, body: impl Into<Bytes>) {
    store.put(&key.into(), body.into().into(), &PutOptions::default()).await.unwrap();
}

/// A world of memory stores: what a first run made equal, and then changed.
struct World {
    source: MemoryStore,
    target: MemoryStore,
    trash: MemoryStore,
    state: Arc<dyn StateStore>,
}

impl World {
    async fn new(large: bool) -> Self {
        let world = Self {
            source: MemoryStore::new(),
            target: MemoryStore::new(),
            trash: MemoryStore::new(),
            state: Arc::new(MemoryState::new()),
        };
        let size = if large { LARGE } else { 3000 };
        for key in ["changed", "donor", "gone/1", "gone/2", "same", "taken"] {
            put(&world.source, key, key.repeat(100)).await;
        }
        put(&world.source, "large", vec![1; size]).await;
        put(&world.source, "large-gone", vec![2; size]).await;
        world.pair().copied().await;
        put(&world.source, "changed", "another").await;
        put(&world.source, "large", vec![3; size + 5]).await;
        // A rename over a key that exists: copied inside the target from what another key held.
        put(&world.source, "taken", "donor".repeat(100)).await;
        for key in ["donor", "gone/1", "gone/2", "large-gone"] {
            assert!(world.source.delete(&[key.into()]).await.remove(0).is_ok());
        }
        world
    }

    /// A target that nothing is known of, with a large object to be deleted: few bytes for many runs.
    async fn large_extra() -> Self {
        let world = Self {
            source: MemoryStore::new(),
            target: MemoryStore::new(),
            trash: MemoryStore::new(),
            state: Arc::new(MemoryState::new()),
        };
        put(&world.source, "changed", "another").await;
        put(&world.target, "changed", "old").await;
        put(&world.target, "large-gone", vec![2; LARGE]).await;
        world
    }

    fn pair(&self) -> Pair {
        let mut pair = Pair::new(Arc::new(self.source.clone()), Arc::new(self.target.clone()));
        pair.trash = Some(Arc::new(self.trash.clone()));
        pair.state = self.state.clone();
        pair.options.delete = true;
        pair.options.max_deletes = Some(Cap::Percent(100.0));
        pair
    }

    fn crashing(&self, crash: &Arc<CrashSwitch>) -> Pair {
        let store = |store: &MemoryStore| -> Arc<dyn Store> {
            Arc::new(FaultStore::with_crash(Arc::new(store.clone()), FaultPlan::default(), crash.clone()))
        };
        let mut pair = self.pair();
        (pair.target, pair.trash) = (store(&self.target), Some(store(&self.trash)));
        pair.state = Arc::new(CrashingState::new(self.state.clone(), crash.clone()));
        pair.limits.concurrency = 2;
        pair
    }

    /// What stands in the trash, by the keys it had at the target, newest run last; markers left out.
    fn kept(&self) -> Vec<(ObjectKey, Bytes)> {
        let objects = self.trash.objects().into_iter();
        let kept = objects.filter_map(|(key, body)| {
            let (run, rest) = key.as_str()?.split_once('/')?;
            (run != ".understudy").then(|| (ObjectKey::from(rest), body))
        });
        kept.collect()
    }

    /// At no moment is an object neither at the target nor in the trash.
    fn nothing_is_lost(&self, old: &Contents) {
        let (now, kept) = (self.target.objects(), self.kept());
        for (key, body) in old {
            let stands = now.get(key) == Some(body);
            let is_kept = kept.iter().any(|(of, copy)| of == key && copy == body);
            assert!(stands || is_kept, "{} is gone: {:?}", key.escaped(), self.trash.objects().keys());
        }
    }
}

#[tokio::test]
async fn what_is_deleted_or_overwritten_is_kept_and_nothing_else() {
    for large in [false, true] {
        let world = World::new(large).await;
        let old = world.target.objects();
        let pair = world.pair();
        let report = pair.copied().await;
        world.nothing_is_lost(&old);
        let kept: Contents = world.kept().into_iter().collect();
        let keys: Vec<_> = kept.keys().map(|key| key.escaped().into_owned()).collect();
        assert_eq!(keys, ["changed", "donor", "gone/1", "gone/2", "large", "large-gone", "taken"]);
        assert!(kept.iter().all(|(key, body)| old.get(key) == Some(body)));
        assert_eq!(report.summary.trashed, 7);
        assert!(
            world.trash.uploads().is_empty()
                && world.trash.objects().keys().all(|key| {
                    let (marker, run) = (distcp::trash::MARKER, report.summary.run_id.as_str());
                    [".understudy/test", marker, run].iter().any(|folder| key.is_within(&(*folder).into()))
                })
        );
        // A run with nothing to keep leaves no trace.
        let before = world.trash.objects();
        assert_eq!(pair.copied().await.summary.trashed, 0);
        assert_eq!(world.trash.objects(), before);
    }
}

/// Crashes at every change to target, trash or state, and goes on.
fn crashed_at_every_change(large: bool) {
    let (mut crashes, mut given_up) = (0, 0);
    for before in [true, false] {
        for n in 0..=MOST_CHANGES {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            let crashed = runtime.block_on(async {
                let world = if large { World::large_extra().await } else { World::new(false).await };
                let old = world.target.objects();
                let crash = if before { CrashSwitch::before(n) } else { CrashSwitch::after(n) };
                copy_in_paused_time(&world.crashing(&crash)).await;
                world.nothing_is_lost(&old);
                let left = world.trash.uploads();
                let report = copy_in_paused_time(&world.crashing(&CrashSwitch::never())).await;
                assert_eq!(report.summary.exit_code.code(), 0, "{n}: {:?}", report.failure);
                world.nothing_is_lost(&old);
                assert_eq!(world.target.objects(), world.source.objects());
                // Between its beginning and its record in the journal nobody knows an upload but the store.
                let still = world.trash.uploads();
                assert!(still.len() <= 1 && still.iter().all(|id| left.contains(id)), "{n}: {still:?}");
                given_up += left.len() - still.len();
                crash.crashed()
            });
            assert!(n < MOST_CHANGES, "a run without end");
            if !crashed {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 30 && (given_up > 0) == large, "these crashes prove nothing: {crashes}, {given_up}");
}

#[test]
fn case_30_at_no_crash_is_an_object_neither_at_the_target_nor_in_the_trash() {
    crashed_at_every_change(false);
}

#[test]
fn case_29_nor_is_a_large_one_and_its_upload_is_given_up() {
    crashed_at_every_change(true);
}

/// A trash that takes markers, and nothing else.
fn refusing(trash: &MemoryStore, kind: StoreErrorKind) -> Arc<dyn Store> {
    let rules = vec![Rule::every(Method::Put, Fault::Fail(kind)).from_call(2)];
    Arc::new(FaultStore::new(Arc::new(trash.clone()), FaultPlan { rules, ..FaultPlan::default() }))
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_touched() {
    for kind in [StoreErrorKind::Permission, StoreErrorKind::NoBucket, StoreErrorKind::Server] {
        let world = World::new(false).await;
        put(&world.source, "new", "new").await;
        let old = world.target.objects();
        let mut pair = world.pair();
        pair.trash = Some(refusing(&world.trash, kind));
        pair.ends_with(3).await;
        assert_eq!(pair.ended(Outcome::Failed), ["changed", "large", "taken"], "{kind:?}");
        assert!(pair.report_of("changed").error.is_some_and(|error| error.contains("changed")));
        assert_eq!(pair.ended(Outcome::Copied), ["new"], "what replaces nothing goes on");
        let mut now = world.target.objects();
        now.remove(&"new".into());
        assert_eq!(now, old, "{kind:?}");

        // The same for deletes, once nothing else is to be done.
        let mut pair = world.pair();
        pair.options.delete = false;
        pair.copied().await;
        let old = world.target.objects();
        let mut pair = world.pair();
        pair.trash = Some(refusing(&world.trash, kind));
        pair.ends_with(3).await;
        assert_eq!(pair.ended(Outcome::Failed), ["donor", "gone/1", "gone/2", "large-gone"], "{kind:?}");
        assert_eq!(world.target.objects(), old, "{kind:?}");
    }
}

#[tokio::test]
async fn apply_keeps_what_its_plan_says() {
    let world = World::new(false).await;
    let old = world.target.objects();
    let pair = world.pair();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan");
    std::fs::copy(pair.plan().await.unwrap().path(), &path).unwrap();
    assert!(world.trash.objects().is_empty(), "a plan keeps nothing");
    let report = pair.apply(&path).await;
    assert_eq!((report.summary.exit_code.code(), report.summary.trashed), (0, 7), "{:?}", report.failure);
    world.nothing_is_lost(&old);
}

#[tokio::test]
async fn rule_17_runs_older_than_the_retention_go_and_only_with_the_lease() {
    let world = World::new(false).await;
    let runs = |trash: &MemoryStore| {
        let objects = trash.objects();
        let runs = objects.keys().filter_map(|key| key.as_str()?.split_once('/').map(|(run, _)| run.to_owned()));
        let mut runs: Vec<_> = runs.filter(|run| run != ".understudy").collect();
        runs.dedup();
        runs
    };
    // Another job's runs in the same trash, and what nobody marked.
    put(&world.trash, "20200101T000000Z-00000000/theirs", "x").await;
    put(&world.trash, ".understudy/other/20200101T000000Z-00000000.json", "{}").await;
    let first = world.pair().copied().await.summary.run_id;
    assert_eq!(runs(&world.trash), ["20200101T000000Z-00000000", &first]);

    // Time is a counter of writes there: this is later by far more than the retention.
    let age = |seconds| Some(Duration::from_secs(seconds));
    put(&world.source, "changed", "once more").await;
    let mut pair = world.pair();
    (pair.options.trash_retention, pair.leased) = (age(1), false);
    let second = pair.copied().await.summary.run_id;
    assert!(runs(&world.trash).contains(&first), "nothing expires without a lease");

    pair.leased = true;
    pair.options.trash_retention = age(1000);
    pair.copied().await;
    assert_eq!(runs(&world.trash).len(), 3, "not old enough");

    // A run that is not complete removes nothing, either.
    pair.options.trash_retention = age(1);
    pair.limits.max_bytes = Some(0);
    put(&world.source, "one more", "x").await;
    pair.ends_with(10).await;
    assert_eq!(runs(&world.trash).len(), 3);
    pair.limits.max_bytes = None;

    // A crash between any two deletes leaves what the next run removes.
    for n in 0..MOST_CHANGES {
        let crash = CrashSwitch::after(n);
        let trash = FaultStore::with_crash(Arc::new(world.trash.clone()), FaultPlan::default(), crash.clone());
        pair.trash = Some(Arc::new(trash));
        pair.copied().await;
        if !crash.crashed() {
            break;
        }
        let left = runs(&world.trash);
        let marked =
            |run: &String| world.trash.objects().contains_key(&format!(".understudy/test/{run}.json").as_str().into());
        assert!(left[1..].iter().all(marked), "{n}: what is left is still marked: {left:?}");
    }
    assert_eq!(runs(&world.trash), ["20200101T000000Z-00000000"], "{second} is gone, theirs stays");
    assert!(
        !world
            .trash
            .objects()
            .keys()
            .any(|key| key.is_within(&".understudy/test".into()) && !key.escaped().ends_with("now"))
    );
}

#[test]
fn a_folder_is_restored_by_copying_it_back() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    std::fs::create_dir_all(at("source/d")).unwrap();
    for name in ["a", "d/b", "d/c"] {
        std::fs::write(at("source").join(name), format!("first {name}")).unwrap();
    }
    std::os::unix::fs::symlink("a", at("source/link")).unwrap();
    let shell = Shell::new(home.path());
    shell.run(&["copy", "source", "target", "--links", "preserve", "-q"]).expect(0);
    let before = snapshot(&at("target"));
    std::fs::write(at("source/a"), "second").unwrap();
    std::fs::remove_dir_all(at("source/d")).unwrap();
    std::fs::remove_file(at("source/link")).unwrap();
    // In the target itself: left out of listing and deleting.
    let mirror = ["copy", "source", "target", "--delete", "--links", "preserve", "--trash", "target/.trash", "--json"];
    let ran = shell.run(&mirror).expect(0);
    assert_eq!((ran.number("trashed"), ran.number("counts/deleted")), (4, 3));
    assert!(!at("target/d").exists() && !at("target/link").is_symlink());
    shell.run(&mirror).expect(0);
    let summary = ran.summary();
    let run = at("target/.trash").join(summary["run_id"].as_str().unwrap());
    assert!(run.is_dir(), "{summary}");

    // The trash lies inside the target, so it is copied out of the way of it.
    let restored = shell.run(&["copy", run.to_str().unwrap(), "restored", "--links", "preserve", "-q"]);
    restored.expect(0);
    for (name, node) in &before {
        let now = snapshot(&at("restored"));
        assert_eq!(now.get(name), Some(node), "{name:?}");
    }
}

#[test]
fn rule_01_the_trash_overlaps_nothing_it_could_harm() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("source/in")).unwrap();
    std::fs::write(home.path().join("source/a"), "a").unwrap();
    std::fs::create_dir_all(home.path().join("up/target")).unwrap();
    let shell = Shell::new(home.path());
    let table: [(&[&str], &str); 6] = [
        (&["--trash", "up/target"], "lies inside the trash"),
        (&["--trash", "up"], "lies inside the trash"),
        (&["--trash", "source"], "lies inside the trash"),
        (&["--trash", "state/trash", "--state", "state"], "overlap"),
        (&["--trash", "state", "--state", "state/in"], "overlap"),
        (&["--trash", "source/in"], "--state-on-source"),
    ];
    for (options, words) in table {
        let ran = shell.run(&[&["copy", "source", "up/target"], options].concat()).expect(2);
        assert!(ran.last_word().contains(words), "{options:?}: {ran:#?}");
    }
    assert_eq!(std::fs::read_dir(home.path().join("up/target")).unwrap().count(), 0);
    assert!(
        shell.run(&["copy", "source", "up/target", "--trash-retention", "1d"]).expect(2).stderr.contains("--trash")
    );
}

#[test]
fn a_bucket_keeps_by_copies_of_its_own() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    let source = home.path().join("source");
    std::fs::create_dir_all(&source).unwrap();
    let write = |name: &str, size: usize, byte: u8| std::fs::write(source.join(name), vec![byte; size]).unwrap();
    for (name, size) in [("a", 1000), ("b c%", 2000), ("large", LARGE + 1)] {
        write(name, size, 1);
    }
    let shell = Shell::new(home.path()).with_s3(&s3);
    let (bucket, other) = (s3.fresh_bucket("trash"), s3.fresh_bucket("trash"));
    let lake = format!("s3://{bucket}/lake");
    let copy = |more: &[&str]| {
        let mut words =
            vec!["copy", "source", &lake, "--delete", "--max-deletes", "100%", "--chunk-size", "1M", "--json"];
        words.extend(more);
        shell.run(&words).expect(0)
    };
    copy(&[]);
    // What such a change reads without a trash.
    write("a", 1000, 7);
    write("large", LARGE + 1, 7);
    let read = copy(&[]).number("bytes/read");
    write("a", 1000, 1);
    write("large", LARGE + 1, 1);
    copy(&[]);
    // The same bucket, another of the same service; inside the target, too.
    let trashes = [format!("s3://{bucket}/trash"), format!("s3://{other}"), format!("{lake}/.trash")];
    for (trash, byte) in trashes.iter().zip(2..) {
        write("a", 1000, byte);
        write("large", LARGE + 1, byte);
        std::fs::remove_file(source.join("b c%")).unwrap();
        let ran = copy(&["--trash", trash]);
        assert_eq!(ran.number("trashed"), 3, "{trash}");
        assert!(ran.number("bytes/read") <= read, "nothing more is read: {trash}: {ran:#?}");
        assert!(ran.number("requests/copy") >= 3, "{trash}");
        let summary = ran.summary();
        let run = format!("{trash}/{}", summary["run_id"].as_str().unwrap());
        let restored = format!("restored-{byte}");
        shell.run(&["copy", &run, &restored, "-q"]).expect(0);
        for (name, size) in [("a", 1000), ("b c%", 2000), ("large", LARGE + 1)] {
            let bytes = std::fs::read(home.path().join(&restored).join(name)).unwrap();
            assert!(bytes == vec![if name == "b c%" { 1 } else { byte - 1 }; size], "{trash}: {name}");
        }
        write("b c%", 2000, 1);
        copy(&[]);
    }
    // A trash elsewhere: through this machine.
    write("a", 1000, 9);
    let ran = copy(&["--trash", "trash"]);
    assert_eq!(ran.number("trashed"), 1);
    let run = home.path().join("trash").join(ran.summary()["run_id"].as_str().unwrap());
    assert_eq!(std::fs::read(run.join("a")).unwrap(), vec![4; 1000]);
}

#[test]
fn a_trash_that_refuses_keeps_the_target_as_it_is() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("source")).unwrap();
    let write = |text: &str| std::fs::write(home.path().join("source/a"), text).unwrap();
    write("first");
    let bucket = s3.fresh_bucket("trash");
    let (lake, trash) = (format!("s3://{bucket}/lake"), format!("s3://{bucket}/trash"));
    let denied = |request: &tests::proxy::Request| match request.method == "PUT" && request.target.contains("/trash/") {
        true => Answer::error("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"),
        false => Answer::Pass,
    };
    let proxy = Proxy::before(&s3.endpoint, denied);
    let mut behind = s3.clone();
    behind.endpoint = proxy.endpoint();
    let shell = Shell::new(home.path()).with_s3(&behind);
    shell.run(&["copy", "source", &lake, "-q"]).expect(0);
    write("second");
    let ran = shell.run(&["copy", "source", &lake, "--trash", &trash, "-q"]).expect(3);
    assert!(ran.stderr.contains("permission denied"), "{ran:#?}");
    assert_eq!(std::fs::read_to_string(s3.file_of(&bucket, "lake/a")).unwrap(), "first");
}

#[test]
fn a_plan_holds_its_trash() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("source")).unwrap();
    let write = |text: &str| std::fs::write(home.path().join("source/a"), text).unwrap();
    write("first");
    let shell = Shell::new(home.path());
    shell.run(&["copy", "source", "target", "-q"]).expect(0);
    write("second");
    shell
        .run(&["plan", "source", "target", "--trash", "trash", "--trash-retention", "7d", "-o", "a.plan", "-q"])
        .expect(0);
    assert!(!home.path().join("trash").exists());
    let ran = shell.run(&["apply", "a.plan", "--json"]).expect(0);
    let run = home.path().join("trash").join(ran.summary()["run_id"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(run.join("a")).unwrap(), "first");
}

#[tokio::test]
async fn a_link_is_kept_as_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("source")).unwrap();
    std::fs::create_dir_all(at("target")).unwrap();
    std::fs::write(at("source/a"), "a").unwrap();
    std::fs::write(at("outside"), "outside").unwrap();
    std::os::unix::fs::symlink(at("outside"), at("target/a")).unwrap();
    let open = |path: &Path| -> Arc<dyn Store> { Arc::new(local_with(path, LinkMode::Preserve)) };
    let mut pair = Pair::new(open(&at("source")), open(&at("target")));
    pair.options.links = LinkMode::Preserve;
    pair.trash = Some(open(&at("trash")));
    let run = pair.copied().await.summary.run_id;
    assert_eq!(std::fs::read_link(at("trash").join(run).join("a")).unwrap(), at("outside"));
    assert_eq!(std::fs::read_to_string(at("outside")).unwrap(), "outside");
    assert!(!at("target/a").is_symlink());
}
