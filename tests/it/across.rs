//! Copies that the service makes by itself, between two stores of one service (rules 10, 12, 18).

use std::sync::Arc;
use std::time::Duration;

use distcp::event::{Means, Outcome};
use distcp::store::memory::MemoryStore;
use distcp::store::state::ObjectState;
use distcp::store::{Store, StoreErrorKind};
use distcp::verify::Level;
use manifest::{ContentHash, Evidence};
use tests::contract::{pattern, put};
use tests::fault::{CrashSwitch, Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;

const MIB: u64 = 1 << 20;
/// What the small service takes in one copy.
const MOST: u64 = 8 * MIB;

/// A store of the service that all tests here share, which copies at most so much in one step.
fn small(most: u64) -> MemoryStore {
    MemoryStore::with_capabilities(|can| can.max_copy_bytes = most).of_service("m")
}

fn pair(source: &MemoryStore, target: &MemoryStore) -> Pair {
    Pair::new(Arc::new(source.clone()), Arc::new(target.clone()))
}

fn faulty(inner: &MemoryStore, rules: Vec<Rule>) -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(inner.clone()), FaultPlan { rules, ..FaultPlan::default() }))
}

async fn remove(store: &MemoryStore, key: &str) {
    store.delete(&[key.into()]).await.into_iter().for_each(|answer| answer.unwrap());
}

#[tokio::test]
async fn rule_10_what_the_service_copied_is_unproven_until_it_is_read() {
    let (source, target) = (small(u64::MAX), small(u64::MAX));
    for (key, size) in [("a", 5000), ("b", 0), ("c", 3 * MIB)] {
        put(&source, key, pattern(size)).await;
    }
    let mut pair = pair(&source, &target);
    let first = pair.copied().await.summary;
    assert_eq!((first.counts.copied, first.bytes.read, first.bytes.written), (3, 0, 0));
    assert_eq!((first.bytes.server_side, first.requests.copy), (5000 + 3 * MIB, 3));
    assert!(pair.reports().iter().all(|report| report.means == Means::ServerSide && report.hash.is_none()));
    assert_eq!(target.objects(), source.objects());
    let rows = pair.rows().await;
    assert!(rows.iter().all(|row| row.hash.is_none() && row.evidence == Evidence::Etag), "{rows:#?}");
    let unproven = vec!["? a".to_owned(), "? b".into(), "? c".into()];
    assert_eq!(pair.verify(Level::Manifest).await, (unproven, 3), "never 0");
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    let again = pair.copied().await.summary;
    assert_eq!((again.counts.equal, again.requests.copy, again.bytes.read), (3, 0, 0));

    pair.options.hash = true;
    let proven = pair.copied().await.summary;
    assert_eq!((proven.counts.equal, proven.requests.copy), (3, 0));
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));

    // The hash of a version that did not change goes along with its next copy.
    pair.options.hash = false;
    remove(&target, "c").await;
    let inherited = pair.copied().await.summary;
    assert_eq!((inherited.counts.copied, inherited.bytes.read, inherited.requests.copy), (1, 0, 1));
    let row = pair.rows().await.into_iter().find(|row| row.key == "c".into()).unwrap();
    assert_eq!((row.hash, row.evidence), (Some(ContentHash::of(&pattern(3 * MIB))), Evidence::Inherited));
    assert_eq!(row.chunks.map(|chunks| chunks.hashes.len()), Some(3));
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));

    // Not that of a version that did.
    put(&source, "c", vec![7; (3 * MIB) as usize]).await;
    let changed = pair.copied().await.summary;
    assert_eq!((changed.counts.copied, changed.bytes.read, changed.requests.copy), (1, 0, 1));
    assert_eq!(pair.verify(Level::Manifest).await, (vec!["? c".into()], 3));
    assert_eq!(target.objects(), source.objects());
}

#[tokio::test]
async fn rule_10_with_hash_everything_is_read_and_sent() {
    let (source, target) = (small(MOST), small(MOST));
    put(&source, "a", pattern(5000)).await;
    put(&source, "large", pattern(20 * MIB)).await;
    let mut pair = pair(&source, &target);
    pair.options.hash = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.bytes.server_side, report.bytes.read), (0, 5000 + 20 * MIB));
    assert!(pair.rows().await.iter().all(|row| row.hash.is_some() && row.evidence == Evidence::Read));
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));
}

/// Attributes go along, or are left behind, as asked; an object of another name at the target is compared by ETag first.
#[tokio::test]
async fn copies_keep_attributes_as_asked() {
    use distcp::options::MetadataMode;
    use distcp::store::PutOptions;
    for (mode, kept) in [(MetadataMode::All, 1), (MetadataMode::None, 0)] {
        let (source, target) = (small(MOST), small(MOST));
        let attributes = [("meta:note".to_owned(), "kept".to_owned())].into();
        let options = PutOptions { attributes, ..PutOptions::default() };
        for (key, size) in [("a", 10), ("large", 20 * MIB)] {
            source.put(&key.into(), pattern(size).into(), &options).await.unwrap();
        }
        let mut pair = pair(&source, &target);
        pair.options.metadata = mode;
        assert_eq!(pair.copied().await.summary.bytes.written, 0);
        for row in pair.rows().await {
            assert_eq!(target.head(&row.key).await.unwrap().attributes.len(), kept, "{mode:?}");
            assert_eq!(row.attributes.len(), kept);
        }
    }
}

#[tokio::test]
async fn what_the_service_refuses_is_sent_and_said_once() {
    for kind in
        [StoreErrorKind::Permission, StoreErrorKind::NoBucket, StoreErrorKind::Unsupported, StoreErrorKind::Other]
    {
        let (source, target) = (small(u64::MAX), small(u64::MAX));
        for i in 0..40 {
            put(&source, &format!("k{i:02}"), pattern(100 + i)).await;
        }
        let mut pair = pair(&source, &target);
        let counting = faulty(&target, vec![Rule::every(Method::Copy, Fault::Fail(kind))]);
        pair.target = counting.clone();
        let report = pair.copied().await.summary;
        assert_eq!((report.counts.copied, report.bytes.server_side), (40, 0), "{kind:?}");
        assert_eq!(target.objects(), source.objects());
        let said = pair.notes().iter().filter(|note| note.contains("read and sent instead")).count();
        assert_eq!(said, 1, "{:?}", pair.notes());
        // Eight in a row, and as many as were in work then.
        let asked = counting.calls(Method::Copy);
        assert!((8..=16).contains(&asked), "{asked} times");
        assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0), "what was sent was read");
    }
}

/// A version that went away between listing and copying is not copied; what is there then is, or `apply` fails by name.
#[tokio::test]
async fn rule_12_a_source_that_changed_meanwhile_is_planned_again() {
    for (method, size) in [(Method::Copy, 5000), (Method::CopyPart, 20 * MIB)] {
        let (source, target) = (small(MOST), small(MOST));
        put(&source, "a", pattern(size)).await;
        let mut pair = pair(&source, &target);
        pair.target = faulty(&target, vec![Rule::first(method, Fault::Fail(StoreErrorKind::Precondition))]);
        let report = pair.copied().await.summary;
        assert_eq!((report.counts.copied, report.bytes.read), (1, 0));
        assert_eq!(target.objects(), source.objects());
        assert!(target.uploads().is_empty(), "what nothing goes on with is given up");

        remove(&target, "a").await;
        let plan = pair.plan().await.unwrap();
        put(&source, "a", vec![1; size as usize]).await;
        let report = pair.apply(plan.path()).await;
        assert_eq!(report.summary.exit_code.code(), 3, "{:#?}", report.summary);
        assert!(target.objects().is_empty());
    }
}

#[tokio::test]
async fn rule_18_what_is_too_large_for_one_copy_is_copied_in_parts() {
    let (source, target) = (small(MOST), small(MOST));
    put(&source, "fits", pattern(MOST)).await;
    put(&source, "large", pattern(40 * MIB + 17)).await;
    let mut pair = pair(&source, &target);
    let counting = faulty(&target, Vec::new());
    pair.target = counting.clone();
    let report = pair.copied().await.summary;
    assert_eq!((report.bytes.read, report.bytes.written), (0, 0));
    assert_eq!(report.bytes.server_side, 48 * MIB + 17);
    assert_eq!((counting.calls(Method::Copy), counting.calls(Method::CopyPart)), (1, 6));
    assert_eq!(report.requests.copy, 7);
    assert_eq!(target.objects(), source.objects());
    let row = |key: &'static str| {
        let pair = &pair;
        async move { pair.rows().await.into_iter().find(|row| row.key == key.into()).unwrap() }
    };
    assert_eq!((row("large").await.hash, row("large").await.evidence), (None, Evidence::None));
    assert_eq!(row("fits").await.evidence, Evidence::Etag);
    assert_eq!(pair.verify(Level::Manifest).await, (vec!["? fits".into(), "? large".into()], 3));
    assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
}

/// An upload of 40 MiB + 17 in six copied parts, interrupted and then killed; a changed source begins anew.
#[tokio::test(start_paused = true)]
async fn rule_18_a_killed_upload_of_copied_parts_goes_on_under_the_same_id() {
    for changes in [false, true] {
        let (source, target, state) = (small(MOST), small(MOST), MemoryStore::new());
        put(&source, "large", pattern(40 * MIB + 17)).await;
        let mut pair = pair(&source, &target);
        let with = |rules: Vec<Rule>, crash: &Arc<CrashSwitch>| {
            let plan = FaultPlan { rules, ..FaultPlan::default() };
            Arc::new(FaultStore::with_crash(Arc::new(target.clone()), plan, crash.clone()))
        };
        let keep = |pair: &mut Pair, crash: &Arc<CrashSwitch>| {
            let state = FaultStore::with_crash(Arc::new(state.clone()), FaultPlan::default(), crash.clone());
            pair.state = Arc::new(ObjectState::new(Arc::new(state)).unwrap());
        };
        let slow = |seconds, from| {
            vec![Rule::every(Method::CopyPart, Fault::Delay(Duration::from_secs(seconds))).from_call(from)]
        };
        let crash = CrashSwitch::never();
        keep(&mut pair, &crash);
        pair.target = with(slow(60, 3), &crash);
        let token = pair.stop.token.clone();
        let stopper = async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            token.cancel();
        };
        let (report, ()) = tokio::join!(pair.ends_with(130), stopper);
        assert_eq!(report.summary.counts.copied, 0);
        let ids = target.uploads();
        assert_eq!(ids.len(), 1);

        pair.unstop();
        let crash = CrashSwitch::never();
        let second = with(slow(600, 2), &crash);
        keep(&mut pair, &crash);
        pair.target = second.clone();
        tokio::time::timeout(Duration::from_secs(120), pair.copy()).await.unwrap_err();
        assert_eq!(second.calls(Method::CreateUpload), 0, "it went on");
        assert_eq!(target.uploads(), ids);

        if changes {
            put(&source, "large", vec![3; (40 * MIB + 17) as usize]).await;
        }
        let crash = CrashSwitch::never();
        let last = with(Vec::new(), &crash);
        keep(&mut pair, &crash);
        pair.target = last.clone();
        let report = pair.copied().await.summary;
        let (begun, parts) = if changes { (1, 6) } else { (0, 3) };
        assert_eq!((last.calls(Method::CreateUpload), last.calls(Method::CopyPart)), (begun, parts));
        assert_eq!(report.bytes.read, 0);
        assert_eq!(target.objects(), source.objects());
        assert!(target.uploads().is_empty());
    }
}

/// Parts that were read and parts that the service copies are never one object's.
#[tokio::test(start_paused = true)]
async fn rule_18_copied_and_sent_parts_are_not_mixed() {
    let (source, target) = (small(MOST), small(MOST));
    put(&source, "large", pattern(40 * MIB + 17)).await;
    let mut pair = pair(&source, &target);
    let failing = Rule::every(Method::CopyPart, Fault::Fail(StoreErrorKind::Server)).from_call(3);
    pair.target = faulty(&target, vec![failing]);
    pair.ends_with(3).await;
    let ids = target.uploads();
    assert_eq!(ids.len(), 1, "the next run may go on with it");
    let counting = faulty(&target, Vec::new());
    pair.target = counting.clone();
    pair.options.hash = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.bytes.read, counting.calls(Method::CopyPart)), (40 * MIB + 17, 0));
    assert_eq!((counting.calls(Method::CreateUpload), counting.calls(Method::PutPart)), (1, 6));
    assert!(target.uploads().is_empty(), "the other upload is given up");
    assert_eq!(pair.verify(Level::Manifest).await, (vec![], 0));
}

/// A renamed object that is too large for one copy inside the target.
#[tokio::test]
async fn rule_12_a_large_donor_is_copied_in_parts_and_hands_its_hash_down() {
    let source = MemoryStore::new();
    let target = MemoryStore::with_capabilities(|can| can.max_copy_bytes = MOST);
    put(&source, "old", pattern(20 * MIB)).await;
    let mut pair = pair(&source, &target);
    pair.options.delete = true;
    pair.copied().await;
    put(&source, "new", pattern(20 * MIB)).await;
    remove(&source, "old").await;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.bytes.read, report.requests.copy), (1, 0, 3));
    assert_eq!(target.objects(), source.objects());
    let rows = pair.rows().await;
    assert_eq!((rows[0].hash, rows[0].evidence), (Some(ContentHash::of(&pattern(20 * MIB))), Evidence::Inherited));
}

#[tokio::test]
async fn what_is_overwritten_is_kept_by_a_copy_of_the_service() {
    let (source, target, trash) = (small(u64::MAX), small(u64::MAX), small(u64::MAX));
    put(&source, "a", pattern(5000)).await;
    put(&target, "a", pattern(300)).await;
    put(&target, "gone", pattern(200)).await;
    let mut pair = pair(&source, &target);
    pair.trash = Some(Arc::new(trash.clone()));
    pair.options.delete = true;
    let report = pair.copied().await.summary;
    assert_eq!((report.counts.copied, report.counts.deleted), (1, 1));
    let kept: Vec<usize> = trash.objects().into_values().map(|body| body.len()).filter(|len| *len > 0).collect();
    assert!(kept.contains(&300) && kept.contains(&200), "{kept:?}");
    assert_eq!(report.bytes.read, 0, "nothing was read for it");
    assert_eq!(pair.ended(Outcome::Copied), ["a"]);
}
