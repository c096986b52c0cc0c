//! Clocks that are wrong, zones, and times at the ends of what times can be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distcp::store::local::{LocalOptions, LocalStore, SyncMode};
use distcp::verify::Level;
use tests::cli::Shell;
use tests::contract::pattern;
use tests::jobs::Pair;
use tests::services;
use tests::trees::{contents, set_mtime, snapshot};

const HOUR_NS: i64 = 3_600_000_000_000;

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

fn late_ns() -> i64 {
    now_ns() - 5 * HOUR_NS
}

fn early_ns() -> i64 {
    now_ns() + 5 * HOUR_NS
}

fn open(root: &Path, now_ns: fn() -> i64) -> Arc<LocalStore> {
    let options = LocalOptions { create_root: true, sync: SyncMode::Never, now_ns, ..LocalOptions::default() };
    Arc::new(LocalStore::open(root, options).unwrap())
}

/// A clock decides only whether a fingerprint is trusted: with any of them every change arrives.
#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_whatever_the_clocks_say() {
    for (source_clock, target_clock) in [
        (late_ns as fn() -> i64, early_ns as fn() -> i64),
        (early_ns, late_ns),
        (late_ns, late_ns),
        (early_ns, early_ns),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        let pair = Pair::new(open(&a, source_clock), open(&b, target_clock));
        for round in 0..4u8 {
            for i in 0..10 {
                std::fs::write(a.join(format!("f{i}")), vec![round + i; 1000]).unwrap();
            }
            std::fs::write(a.join("same"), "same").unwrap();
            pair.copied().await;
            assert_eq!(contents(&a), contents(&b), "round {round}");
            // Behind our back, the same length again.
            std::fs::write(b.join("f3"), vec![99; 1000]).unwrap();
            pair.copied().await;
            assert_eq!(contents(&a), contents(&b), "round {round}");
        }
        assert_eq!(pair.verify(Level::Content).await, (vec![], 0));
    }
}

/// Times before 1970, at nanoseconds, far ahead.
fn odd_times() -> Vec<(&'static str, SystemTime)> {
    let day = Duration::from_secs(86_400);
    vec![
        ("1901", UNIX_EPOCH - 25_000 * day + Duration::from_nanos(123_456_789)),
        ("before", UNIX_EPOCH - Duration::from_nanos(1)),
        ("epoch", UNIX_EPOCH),
        ("after", UNIX_EPOCH + Duration::from_nanos(1)),
        ("nanoseconds", UNIX_EPOCH + Duration::new(1_600_000_000, 999_999_999)),
        ("2038", UNIX_EPOCH + Duration::new((1 << 31) + 5, 7)),
        ("2200", UNIX_EPOCH + 84_000 * day),
    ]
}

#[test]
fn times_at_the_ends_of_time_go_there_and_back_in_any_zone() {
    let (Some(s3), Some(azure)) = (services::s3(), services::azure()) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for (name, time) in odd_times() {
        std::fs::write(source.join(name), pattern(100)).unwrap();
        set_mtime(&source.join(name), time);
    }
    let shell = Shell::new(scratch.path()).with_s3(&s3).with_azure(&azure);
    let (east, west) = (shell.clone().with("TZ", "Asia/Kathmandu"), shell.clone().with("TZ", "America/St_Johns"));
    let places = [
        format!("s3://{}/times", s3.fresh_bucket("times")),
        format!("az://{}/times", azure.fresh_container("times")),
        "folder".into(),
    ];
    for (number, place) in places.iter().enumerate() {
        let back = format!("back-{number}");
        east.run(&["copy", "source", place]).expect(0);
        west.run(&["copy", place, &back]).expect(0);
        assert_eq!(snapshot(&source), snapshot(&scratch.path().join(&back)), "{place}");
        for zone in [&east, &west] {
            let again = zone.run(&["copy", "source", place, "--json"]).expect(0);
            assert_eq!((again.number("counts/copied"), again.number("bytes/written")), (0, 0), "{place}");
        }
    }
}
