use manifest::state::checkpoint::Checkpoint;
use manifest::state::journal::{FLUSH_EVERY, JournalWriter, MAX_RECORDS};
use manifest::state::lease::Lease;
use manifest::state::memory::MemoryState;
use manifest::state::receipt::ErrorSample;

use super::*;
use crate::exit::ExitCode;

const DONE: &str = "20261121T010000Z-00000001";
const NEXT: &str = "20261121T020000Z-00000002";

fn job() -> JobName {
    JobName::new("lake").unwrap()
}

fn me() -> Holder {
    Holder { started: "2026-11-21T03:00:00Z".parse().unwrap(), ..this_process("ann") }
}

/// A state with one job that has committed a run, and has another one in flight.
async fn state_with_a_run() -> (Arc<dyn StateStore>, Lease) {
    let state: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    let (job, done, next): (_, RunId, RunId) = (job(), DONE.parse().unwrap(), NEXT.parse().unwrap());
    checkpoint::claim(state.as_ref(), &job, "/src", "s3://lake").await.unwrap();
    let lease = Lease::acquire(state.clone(), &job, &next, me(), lease::DURATION, &|_, _| ()).await.unwrap();
    let written = Checkpoint {
        job: job.clone(),
        source: "/src".into(),
        target: "s3://lake".into(),
        generation: lease.generation(),
        run_id: done.clone(),
        manifest: Some("m1".into()),
        as_of: Some("2026-11-21T01:00:00Z".parse().unwrap()),
        complete: true,
        written: "2026-11-21T01:10:00Z".parse().unwrap(),
        state: serde_json::Value::Null,
    };
    checkpoint::commit(state.as_ref(), &written, None, &lease.guard()).await.unwrap();
    let receipt = Receipt {
        job: job.clone(),
        run_id: done,
        command: "copy".into(),
        program: "distcp 0.1.0".into(),
        started: "2026-11-21T01:00:00Z".parse().unwrap(),
        ended: "2026-11-21T01:10:00Z".parse().unwrap(),
        exit_code: 3,
        outcome: "partial".into(),
        as_of: None,
        counts: [("failed".to_owned(), 1)].into(),
        bytes: Default::default(),
        requests: Default::default(),
        manifest: Some("m1".into()),
        errors: vec![ErrorSample { key: "a\n".into(), error: "cannot read".into() }],
        errors_total: 1,
        plan_digest: None,
        journal_needed: false,
        summary: serde_json::Value::Null,
    };
    receipt::write(state.as_ref(), &receipt).await.unwrap();
    let journal = JournalWriter::start(state.clone(), &job, &next, None, lease.guard(), FLUSH_EVERY, MAX_RECORDS);
    let entry = manifest::Entry {
        key: "k".into(),
        kind: manifest::EntryKind::Object,
        hash: None,
        evidence: manifest::Evidence::None,
        chunks: None,
        fingerprint: manifest::Fingerprint { size_bytes: 7, ..Default::default() },
        source: None,
        attributes: Default::default(),
    };
    let handle = journal.handle();
    handle.record(Record::Done { entry: Box::new(entry) }).await.unwrap();
    handle.record(Record::Failed { key: "f".into(), error: "cannot read".into() }).await.unwrap();
    handle.record(Record::Deleted { key: "d".into() }).await.unwrap();
    journal.finish().await.unwrap();
    (state, lease)
}

#[tokio::test]
async fn status_tells_the_last_run_and_the_one_in_flight() {
    let (state, lease) = state_with_a_run().await;
    let found = all(&state, &me()).await.unwrap();
    assert_eq!(found.len(), 1);
    let status = &found[0];
    assert_eq!((status.source.as_deref(), status.target.as_deref()), (Some("/src"), Some("s3://lake")));
    assert_eq!((status.as_of.as_deref(), status.age_s), (Some("2026-11-21T01:00:00Z"), Some(7200)));
    let last = status.last_run.as_ref().unwrap();
    assert_eq!((last.run_id.as_str(), last.exit_code, last.error.as_deref()), (DONE, 3, Some("a\\n: cannot read")));
    let [run] = status.unfinished.as_slice() else { panic!("{:?}", status.unfinished) };
    assert_eq!((run.run_id.as_str(), run.in_flight), (NEXT, true));
    assert_eq!((run.done_objects, run.done_bytes, run.failed_objects, run.deleted_objects), (1, 7, 1, 1));
    assert_eq!(status.lease.as_ref().unwrap().process, "alive");
    assert!(status.problems.is_empty());
    lease.release().await.unwrap();
    let status = one(&state, &job(), &me()).await.unwrap();
    assert!(status.lease.is_none() && !status.unfinished[0].in_flight);
}

#[tokio::test]
async fn what_is_damaged_is_told_beside_the_rest() {
    let (state, _lease) = state_with_a_run().await;
    let name = manifest::state::layout::checkpoint(&job());
    state.delete(&name).await.unwrap();
    state.create(&name, bytes::Bytes::from_static(b"{")).await.unwrap();
    let status = one(&state, &job(), &me()).await.unwrap();
    assert!(status.problems.iter().any(|problem| problem.contains("checkpoint")), "{:?}", status.problems);
    assert!(status.last_run.is_some());
}

#[tokio::test]
async fn only_a_lease_whose_holder_is_not_alive_is_broken() {
    let (state, lease) = state_with_a_run().await;
    let found = find_lease(state.as_ref(), &job(), &me()).await.unwrap().unwrap();
    assert_eq!(break_lease(state.as_ref(), &job(), &me(), &found).await.unwrap_err().code, ExitCode::Leased);
    // The same lease seen from another machine: nothing is known of its process.
    let elsewhere = Holder { boot_id: "another".into(), ..me() };
    let found = find_lease(state.as_ref(), &job(), &elsewhere).await.unwrap().unwrap();
    assert_eq!(found.lease.process, "unknown");
    break_lease(state.as_ref(), &job(), &elsewhere, &found).await.unwrap();
    assert!(find_lease(state.as_ref(), &job(), &me()).await.unwrap().is_none());
    assert!(lease.confirm().await.is_err(), "the holder notices");
}

#[tokio::test]
async fn a_job_that_is_not_there_is_wrong_usage() {
    let state: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    assert_eq!(one(&state, &job(), &me()).await.unwrap_err().code, ExitCode::Usage);
    assert_eq!(find_lease(state.as_ref(), &job(), &me()).await.unwrap_err().code, ExitCode::Usage);
    assert!(all(&state, &me()).await.unwrap().is_empty());
}
