use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::entry::{EntryKind, Evidence};
use crate::error::Class;
use crate::hash::ContentHash;
use crate::state::contract::{Fault, FlakyState, assert_every_corruption_is_found};
use crate::state::lease::{Holder, Lease, LeaseGuard};
use crate::state::memory::MemoryState;
use crate::state::{StateStore, receipt};

fn job() -> JobName {
    JobName::new("job").unwrap()
}

fn run(second: u32) -> RunId {
    format!("20261121T0315{second:02}Z-0a1b2c3d").parse().unwrap()
}

fn deleted(key: &str) -> Record {
    Record::Deleted { key: key.into() }
}

fn every_kind() -> Vec<Record> {
    let fingerprint = Fingerprint { size_bytes: u64::MAX, mtime_ns: Some(i64::MIN), ..Fingerprint::default() };
    let chunk = ChunkHash::from_bytes([7; 32]);
    let entry = Entry {
        key: ObjectKey::from(b"a\xff\n".to_vec()),
        kind: EntryKind::Object,
        hash: Some(ContentHash::of(b"x")),
        evidence: Evidence::Read,
        chunks: Some(crate::entry::Chunks { size: ChunkSize::DEFAULT, hashes: vec![chunk, chunk] }),
        fingerprint: fingerprint.clone(),
        source: Some(fingerprint.clone()),
        attributes: [("meta:a".to_owned(), "\u{0}\u{2028}".to_owned())].into(),
    };
    vec![
        Record::Done { entry: Box::new(entry) },
        Record::Failed { key: "k".into(), error: "line\nline".into() },
        deleted("gone"),
        Record::UploadBegun {
            key: "big".into(),
            upload_id: "u1".into(),
            source: fingerprint,
            size_bytes: 5 << 40,
            part_bytes: 8 << 20,
            chunk: Some(ChunkSize::DEFAULT),
            options: serde_json::json!({"algorithm": "crc64nvme", "n": 1}),
        },
        Record::PartDone {
            upload_id: "u1".into(),
            number: 1,
            offset: 0,
            size_bytes: 8 << 20,
            etag: "\"e\"".into(),
            checksum: String::new(),
            chunks: vec![chunk],
        },
        Record::UploadEnded { upload_id: "u1".into(), completed: true },
        Record::ManifestPart { digest: "ab".into() },
    ]
}

fn start(store: &Arc<dyn StateStore>, run: &RunId, guard: LeaseGuard) -> JournalWriter {
    JournalWriter::start(Arc::clone(store), &job(), run, None, guard, FLUSH_EVERY, MAX_RECORDS)
}

async fn read(store: &Arc<dyn StateStore>, run: &RunId) -> Result<Vec<Record>> {
    let mut reader = JournalReader::open(Arc::clone(store), &job(), run).await?;
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch().await? {
        records.extend(batch);
    }
    Ok(records)
}

fn memory() -> Arc<dyn StateStore> {
    Arc::new(MemoryState::new())
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_is_read_back_in_order() {
    let store = memory();
    let writer = start(&store, &run(0), LeaseGuard::default());
    for record in every_kind() {
        writer.handle().record(record).await.unwrap();
    }
    let totals = writer.finish().await.unwrap();
    assert_eq!((totals.records, totals.segments), (every_kind().len() as u64, 1));
    assert_eq!(read(&store, &run(0)).await.unwrap(), every_kind());
    assert_eq!(read(&store, &run(1)).await.unwrap(), vec![]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_journal_writes_nothing() {
    let store = memory();
    let writer = start(&store, &run(0), LeaseGuard::default());
    assert_eq!(writer.finish().await.unwrap(), JournalTotals::default());
    assert_eq!(store.list("").await.unwrap(), vec![]);
}

/// Counts how often it was settled, and looks how many segments there were; fails when it is told to.
#[derive(Debug)]
struct Objects {
    store: Arc<dyn StateStore>,
    segments_before: std::sync::Mutex<Vec<usize>>,
    fails: AtomicBool,
}

#[async_trait::async_trait]
impl Vouched for Objects {
    async fn settle(&self) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::OutOfOrder { what: "x".into(), key: "b".into(), previous: "a".into() });
        }
        let segments = self.store.list("").await?.len();
        self.segments_before.lock().unwrap().push(segments);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_segment_vouches_for_is_durable_before_it() {
    let store = memory();
    let (segments_before, fails) = Default::default();
    let objects = Arc::new(Objects { store: store.clone(), segments_before, fails });
    let vouched: Option<Arc<dyn Vouched>> = Some(objects.clone());
    let guard = LeaseGuard::default();
    let writer = JournalWriter::start(store.clone(), &job(), &run(0), vouched, guard, FLUSH_EVERY, 2);
    for key in ["a", "b", "c"] {
        writer.handle().record(deleted(key)).await.unwrap();
    }
    writer.handle().flush().await.unwrap();
    assert_eq!(*objects.segments_before.lock().unwrap(), [0, 1]);
    // Without a record there is nothing to vouch for.
    writer.handle().flush().await.unwrap();
    assert_eq!(objects.segments_before.lock().unwrap().len(), 2);
    objects.fails.store(true, Ordering::SeqCst);
    writer.handle().record(deleted("d")).await.unwrap();
    assert!(writer.finish().await.is_err());
    assert_eq!(read(&store, &run(0)).await.unwrap(), ["a", "b", "c"].map(deleted));
}

#[tokio::test(start_paused = true)]
async fn segments_are_cut_by_count_and_size() {
    let store = memory();
    let writer =
        JournalWriter::start(Arc::clone(&store), &job(), &run(0), None, LeaseGuard::default(), FLUSH_EVERY, 10);
    for i in 0..95 {
        writer.handle().record(deleted(&format!("{i:03}"))).await.unwrap();
    }
    let totals = writer.finish().await.unwrap();
    assert_eq!((totals.records, totals.segments), (95, 10));
    let keys: Vec<_> = read(&store, &run(0)).await.unwrap();
    assert_eq!(keys, (0..95).map(|i| deleted(&format!("{i:03}"))).collect::<Vec<_>>());

    let writer = start(&store, &run(1), LeaseGuard::default());
    for _ in 0..5 {
        let error = "x".repeat(MAX_SEGMENT_BYTES / 2);
        writer.handle().record(Record::Failed { key: "k".into(), error }).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().segments, 3);
}

#[tokio::test(start_paused = true)]
async fn records_are_written_within_the_time_without_being_asked() {
    let store = memory();
    let writer = start(&store, &run(0), LeaseGuard::default());
    writer.handle().record(deleted("a")).await.unwrap();
    tokio::time::sleep(FLUSH_EVERY / 2).await;
    writer.handle().record(deleted("b")).await.unwrap();
    tokio::time::sleep(FLUSH_EVERY / 2 + Duration::from_millis(1)).await;
    // The process dies: the oldest record waited no longer than promised.
    drop(writer);
    assert_eq!(read(&store, &run(0)).await.unwrap(), [deleted("a"), deleted("b")]);
}

#[tokio::test(start_paused = true)]
async fn case_33_a_flush_saves_at_once() {
    let store = memory();
    let writer = start(&store, &run(0), LeaseGuard::default());
    writer.handle().record(deleted("a")).await.unwrap();
    assert_eq!(writer.handle().flush().await.unwrap().records, 1);
    drop(writer);
    assert_eq!(read(&store, &run(0)).await.unwrap(), [deleted("a")]);
}

#[tokio::test(start_paused = true)]
async fn rule_18_what_is_durable_survives_the_process() {
    let store = memory();
    let writer = start(&store, &run(0), LeaseGuard::default());
    let handle = writer.handle();
    handle.record(deleted("before")).await.unwrap();
    let before = tokio::time::Instant::now();
    handle.record_durable(deleted("begun")).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO, "an upload does not wait for the next periodic segment");
    handle.record(deleted("after")).await.unwrap();
    drop(writer);
    assert_eq!(read(&store, &run(0)).await.unwrap(), [deleted("before"), deleted("begun")]);
    tokio::task::yield_now().await;
    assert_eq!(handle.record_durable(deleted("late")).await.unwrap_err().class(), Class::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_at_the_same_time_share_a_segment() {
    let store = memory();
    let writer = start(&store, &run(0), LeaseGuard::default());
    let handle = writer.handle();
    let calls = (0..500).map(|i| handle.record_durable(deleted(&format!("{i}"))));
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    let totals = writer.finish().await.unwrap();
    assert_eq!(totals.records, 500);
    // Tokio lets a task do some hundred steps at a time.
    assert!(totals.segments <= 10, "{totals:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_fails_every_later_call() {
    let down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&down);
    let store: Arc<dyn StateStore> = Arc::new(FlakyState::new(memory(), move |operation, _, _| {
        if operation == "create" && switch.load(Ordering::SeqCst) { Fault::Fail } else { Fault::None }
    }));
    let writer = start(&store, &run(0), LeaseGuard::default());
    let handle = writer.handle();
    handle.record_durable(deleted("a")).await.unwrap();
    down.store(true, Ordering::SeqCst);
    handle.record(deleted("b")).await.unwrap();
    let error = handle.record_durable(deleted("c")).await.unwrap_err();
    assert!(error.to_string().contains("injected"), "{error}");
    down.store(false, Ordering::SeqCst);
    for error in [
        handle.record(deleted("d")).await.unwrap_err(),
        handle.flush().await.unwrap_err(),
        writer.finish().await.unwrap_err(),
    ] {
        assert_eq!(error.class(), Class::Retryable);
        assert!(error.to_string().contains("injected"), "{error}");
    }
    assert_eq!(read(&store, &run(0)).await.unwrap(), [deleted("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_fails_first_says_why() {
    for finish in [false, true] {
        let store: Arc<dyn StateStore> =
            Arc::new(FlakyState::new(
                memory(),
                |operation, _, _| {
                    if operation == "create" { Fault::Fail } else { Fault::None }
                },
            ));
        let writer = start(&store, &run(0), LeaseGuard::default());
        let handle = writer.handle();
        handle.record(deleted("a")).await.unwrap();
        let result = if finish { writer.finish().await } else { handle.flush().await };
        let error = result.unwrap_err();
        assert!(error.to_string().contains("injected"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn case_48_lost_answers_write_each_record_once() {
    for pattern in 0..32u64 {
        for fault in [Fault::LoseAnswer, Fault::Fail] {
            if pattern == 31 && fault == Fault::Fail {
                // No attempt is left.
                continue;
            }
            let memory = memory();
            let store: Arc<dyn StateStore> = Arc::new(FlakyState::new(memory.clone(), move |operation, _, call| {
                let hit = operation == "create" && (pattern >> call.min(63)) & 1 == 1;
                if hit { fault } else { Fault::None }
            }));
            let writer = start(&store, &run(0), LeaseGuard::default());
            for i in 0..4 {
                let result = writer.handle().record_durable(deleted(&i.to_string())).await;
                result.unwrap_or_else(|error| panic!("{pattern:b} {fault:?}: {error}"));
            }
            writer.finish().await.unwrap();
            let expected: Vec<_> = (0..4).map(|i| deleted(&i.to_string())).collect();
            assert_eq!(read(&memory, &run(0)).await.unwrap(), expected, "{pattern:b} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rule_15_nothing_is_written_after_the_lease_was_lost() {
    let store = memory();
    let holder = Holder::this_process("tester", "test 0", Timestamp::UNIX_EPOCH);
    let duration = Duration::from_secs(30);
    let lease = Lease::acquire(store.clone(), &job(), &run(0), holder, duration, &|_, _| {}).await.unwrap();
    let writer = start(&store, &run(0), lease.guard());
    writer.handle().record_durable(deleted("a")).await.unwrap();
    // The renewing task is gone, as if this process had stood still.
    drop(lease);
    tokio::time::sleep(duration).await;
    let error = writer.handle().record_durable(deleted("b")).await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    assert!(matches!(writer.finish().await, Err(Error::LeaseLost { .. })));
    assert_eq!(read(&store, &run(0)).await.unwrap(), [deleted("a")]);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_is_missing_or_of_another_run_is_an_error() {
    let store = memory();
    let writer = JournalWriter::start(store.clone(), &job(), &run(0), None, LeaseGuard::default(), FLUSH_EVERY, 1);
    for key in ["a", "b", "c"] {
        writer.handle().record(deleted(key)).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().segments, 3);
    let middle = layout::journal_segment(&job(), &run(0), 2);
    let (bytes, _) = store.get(&middle).await.unwrap().unwrap();
    store.delete(&middle).await.unwrap();
    assert!(matches!(read(&store, &run(0)).await, Err(Error::Damaged { .. })));

    store.create(&layout::journal_segment(&job(), &run(1), 1), bytes).await.unwrap();
    assert!(matches!(read(&store, &run(1)).await, Err(Error::Damaged { .. })));
}

#[test]
fn corruption_is_found() {
    let mut lines = Lines::default();
    for record in [deleted("a"), deleted("b")] {
        lines.push(&record).unwrap();
    }
    let bytes = encode(&job(), &run(0), 1, &lines).unwrap();
    assert_eq!(decode(&job(), &run(0), 1, &bytes).unwrap(), [deleted("a"), deleted("b")]);
    assert_every_corruption_is_found(&bytes, |bad| decode(&job(), &run(0), 1, bad).is_err());
}

#[test]
fn case_49_a_segment_from_the_future_is_refused_by_name() {
    let bytes = b"{\"format\":\"understudy-journal\",\"version\":2,\"minimum_program\":\"2.0.0\"}\nbinary\x00";
    let error = decode(&job(), &run(0), 1, bytes).unwrap_err();
    assert!(matches!(&error, Error::FutureVersion { found: 2, needs, .. } if needs == "2.0.0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn runs_whose_journal_is_needed_are_found() {
    let store = memory();
    for second in 1..=5 {
        let writer = start(&store, &run(second), LeaseGuard::default());
        writer.handle().record(deleted("a")).await.unwrap();
        writer.finish().await.unwrap();
    }
    // 2 ended well, 4 ended early, 6 has a receipt only; 1, 3 and 5 were killed.
    for (second, needed) in [(2, false), (4, true), (6, true)] {
        let mut ended = receipt::tests::sample(&job(), &run(second));
        ended.journal_needed = needed;
        receipt::write(&*store, &ended).await.unwrap();
    }
    let all = unfinished_runs(&*store, &job(), None).await.unwrap();
    assert_eq!(all, [1, 3, 4, 5].map(run));
    let later = unfinished_runs(&*store, &job(), Some(&run(3))).await.unwrap();
    assert_eq!(later, [4, 5].map(run));
}

/// What version 1 looks like in a file; must be read for ever.
#[test]
fn version_1_is_read_and_written_as_ever() {
    let golden = include_bytes!("../../../testdata/state-v1/journal.jsonl");
    assert_eq!(decode(&job(), &run(0), 1, golden).unwrap(), every_kind());
    let mut lines = Lines::default();
    for record in every_kind() {
        lines.push(&record).unwrap();
    }
    let bytes = encode(&job(), &run(0), 1, &lines).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(golden.to_vec()).unwrap());
}
