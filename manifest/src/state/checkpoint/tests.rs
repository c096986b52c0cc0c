use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt as _;

use super::*;
use crate::state::contract::{Fault, FlakyState, assert_every_corruption_is_found};
use crate::state::memory::MemoryState;

fn job(name: &str) -> JobName {
    JobName::new(name).unwrap()
}

fn sample(generation: u64, state: &str) -> Checkpoint<String> {
    super::tests_support::sample(&job("job"), generation, state)
}

async fn put(store: &dyn StateStore, generation: u64, state: &str, expected: Option<&Tag>) -> Result<Tag> {
    commit(store, &sample(generation, state), expected, &LeaseGuard::default()).await
}

async fn state_of(store: &dyn StateStore) -> (u64, String) {
    let loaded = load::<String>(store, &job("job")).await.unwrap().unwrap();
    (loaded.checkpoint.generation, loaded.checkpoint.state)
}

#[tokio::test(start_paused = true)]
async fn commits_follow_each_other_by_tag() {
    let store = MemoryState::new();
    assert!(load::<String>(&store, &job("job")).await.unwrap().is_none());
    let first = put(&store, 1, "a", None).await.unwrap();
    let loaded = load::<String>(&store, &job("job")).await.unwrap().unwrap();
    assert_eq!((loaded.checkpoint, loaded.tag), (sample(1, "a"), first.clone()));
    let second = put(&store, 1, "b", Some(&first)).await.unwrap();
    put(&store, 2, "c", Some(&second)).await.unwrap();
    assert_eq!(state_of(&store).await, (2, "c".into()));
}

#[tokio::test(start_paused = true)]
async fn rule_15_a_checkpoint_of_another_run_is_never_overwritten() {
    let store = MemoryState::new();
    let first = put(&store, 1, "a", None).await.unwrap();
    let second = put(&store, 2, "b", Some(&first)).await.unwrap();
    for (generation, expected) in [(1, Some(&first)), (3, Some(&first)), (3, None), (1, Some(&second))] {
        let result = put(&store, generation, "late", expected).await;
        assert!(matches!(result, Err(Error::CheckpointConflict { .. })), "{generation} {expected:?}: {result:?}");
    }
    assert_eq!(state_of(&store).await, (2, "b".into()));
    store.delete(&layout::checkpoint(&job("job"))).await.unwrap();
    assert!(put(&store, 3, "late", Some(&second)).await.is_err(), "removed meanwhile");
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_the_generation_stays() {
    let store = MemoryState::new();
    let first = put(&store, 4, "a", None).await.unwrap();
    put(&store, 0, "b", Some(&first)).await.unwrap();
    assert_eq!(state_of(&store).await, (4, "b".into()));
}

#[tokio::test(start_paused = true)]
async fn case_48_lost_answers_end_with_one_checkpoint() {
    for pattern in 0..32u32 {
        for fault in [Fault::LoseAnswer, Fault::Fail] {
            if pattern == 31 && fault == Fault::Fail {
                // No attempt is left.
                continue;
            }
            let memory = Arc::new(MemoryState::new());
            let writes = AtomicU32::new(0);
            let flaky = FlakyState::new(memory.clone(), move |operation, _, _| {
                let write = matches!(operation, "create" | "swap");
                let hit = write && (pattern >> writes.fetch_add(1, Ordering::SeqCst).min(31)) & 1 == 1;
                if hit { fault } else { Fault::None }
            });
            let first = put(&flaky, 1, "a", None).await.unwrap();
            let second = put(&flaky, 1, "b", Some(&first)).await.unwrap();
            let loaded = load::<String>(&*memory, &job("job")).await.unwrap().unwrap();
            assert_eq!((loaded.checkpoint.state.as_str(), loaded.tag), ("b", second), "{pattern:b} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn case_48_a_lost_answer_is_not_mistaken_when_another_run_wrote() {
    let memory = Arc::new(MemoryState::new());
    let first = put(&*memory, 1, "a", None).await.unwrap();
    let other = memory.clone();
    // The swap fails, and before the next look another run has committed.
    let flaky = FlakyState::new(memory.clone(), move |operation, _, _| {
        if operation != "swap" {
            return Fault::None;
        }
        let bytes = document::encode(&FORMAT, "c", &sample(2, "other")).unwrap();
        let name = layout::checkpoint(&job("job"));
        let write = async {
            let (_, tag) = other.get(&name).await.unwrap().unwrap();
            other.swap(&name, bytes, &tag).await.unwrap();
        };
        write.now_or_never().expect("memory never waits");
        Fault::Fail
    });
    let result = put(&flaky, 1, "b", Some(&first)).await;
    assert!(matches!(result, Err(Error::CheckpointConflict { .. })), "{result:?}");
    assert_eq!(state_of(&*memory).await, (2, "other".into()));
}

#[test]
fn rule_03_places_overlap_at_segments() {
    let table = [
        ("s3://lake-eu", "s3://lake-eu-2", false),
        ("s3://lake-eu/a", "s3://lake-eu", true),
        ("s3://lake-eu/a/", "s3://lake-eu/a", true),
        ("s3://lake-eu/a", "s3://lake-eu/ab", false),
        ("s3://lake-eu/a", "s3://lake-eu/b", false),
        ("file:///data", "file:///data/x", true),
        ("file:///", "file:///data/x", true),
        ("/", "/data", true),
        ("/data", "s3://data", false),
        ("s3://b at http://h:9", "s3://b/x at http://h:9", true),
        ("s3://b/x at http://h:9", "s3://b/xy at http://h:9", false),
        ("s3://b at http://h:9", "s3://b/x at http://i:9", false),
        ("s3://b at http://h:9", "s3://b/x", false),
        ("/data/look at me", "/data/look at me/x", true),
    ];
    for (a, b, expected) in table {
        assert_eq!(overlaps(a, b), expected, "{a} {b}");
        assert_eq!(overlaps(b, a), expected, "{b} {a}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_03_a_job_with_an_overlapping_target_is_refused_and_leaves_nothing() {
    let store = MemoryState::new();
    claim(&store, &job("one"), "s3://a", "s3://b/x").await.unwrap();
    claim(&store, &job("one"), "s3://a", "s3://b/x").await.unwrap();
    claim(&store, &job("two"), "s3://a", "s3://b/y").await.unwrap();
    for (name, source, target) in
        [("three", "s3://q", "s3://b"), ("three", "s3://q", "s3://b/x/deep"), ("one", "s3://a", "s3://c")]
    {
        let result = claim(&store, &job(name), source, target).await;
        assert!(matches!(result, Err(Error::JobConflict { .. })), "{name} {target}: {result:?}");
    }
    assert_eq!(list_jobs(&store).await.unwrap(), [job("one"), job("two")]);
}

#[tokio::test(start_paused = true)]
async fn rule_03_a_checkpoint_without_a_claim_counts_too() {
    let store = MemoryState::new();
    tests_support::write(&store, &job("old"), 1).await;
    let target = tests_support::sample(&job("old"), 1, "").target;
    let result = claim(&store, &job("new"), "s3://q", &format!("{target}/below")).await;
    assert!(matches!(result, Err(Error::JobConflict { .. })), "{result:?}");
    assert_eq!(list_jobs(&store).await.unwrap(), [job("old")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_03_two_that_claim_at_once_never_both_get_it() {
    for _ in 0..50 {
        let store = Arc::new(MemoryState::new());
        let tasks = ["one", "two"].map(|name| {
            let store = store.clone();
            tokio::spawn(async move { claim(&*store, &job(name), "s3://a", "s3://b").await.is_ok() })
        });
        let mut won = 0;
        for task in tasks {
            won += u32::from(task.await.unwrap());
        }
        assert!(won <= 1);
        assert_eq!(list_jobs(&*store).await.unwrap().len(), won as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn case_49_files_from_the_future_are_refused_by_name() {
    let store = MemoryState::new();
    let table = [
        (layout::checkpoint(&job("a")), r#"{"format":"understudy-checkpoint","version":2,"minimum_program":"2.0.0"}"#),
        (layout::claim(&job("b")), r#"{"format":"understudy-job","version":2,"minimum_program":"2.0.0"}"#),
    ];
    for (name, bytes) in table {
        store.create(&name, bytes.into()).await.unwrap().unwrap();
    }
    for error in [
        load::<String>(&store, &job("a")).await.unwrap_err(),
        places(&store, &job("b")).await.unwrap_err(),
        claim(&store, &job("c"), "s3://x", "s3://y").await.unwrap_err(),
    ] {
        assert!(matches!(&error, Error::FutureVersion { found: 2, needs, .. } if needs == "2.0.0"), "{error}");
    }
}

#[tokio::test]
async fn a_checkpoint_of_another_job_is_damage() {
    let store = MemoryState::new();
    tests_support::write(&store, &job("one"), 1).await;
    let (bytes, _) = store.get(&layout::checkpoint(&job("one"))).await.unwrap().unwrap();
    store.create(&layout::checkpoint(&job("two")), bytes).await.unwrap();
    assert!(matches!(load::<String>(&store, &job("two")).await, Err(Error::Damaged { .. })));
}

#[test]
fn corruption_is_found() {
    let bytes = document::encode(&FORMAT, "c", &sample(3, "state")).unwrap();
    assert_every_corruption_is_found(&bytes, |bad| document::decode::<Checkpoint<String>>(&FORMAT, "c", bad).is_err());
    let claim = Claim { job: job("job"), source: "s3://a".into(), target: "s3://b".into() };
    let bytes = document::encode(&CLAIM, "c", &claim).unwrap();
    assert_every_corruption_is_found(&bytes, |bad| document::decode::<Claim>(&CLAIM, "c", bad).is_err());
}

/// What version 1 looks like in a file; must be read for ever.
#[test]
fn version_1_is_read_and_written_as_ever() {
    let golden = include_bytes!("../../../testdata/state-v1/checkpoint.json");
    let checkpoint = sample(3, "state");
    assert_eq!(document::decode::<Checkpoint<String>>(&FORMAT, "c", golden).unwrap(), checkpoint);
    assert_eq!(document::encode(&FORMAT, "c", &checkpoint).unwrap().as_ref(), golden);

    let golden = include_bytes!("../../../testdata/state-v1/job.json");
    let claim = Claim { job: job("job"), source: "s3://a".into(), target: "s3://b".into() };
    assert_eq!(document::decode::<Claim>(&CLAIM, "c", golden).unwrap(), claim);
    assert_eq!(document::encode(&CLAIM, "c", &claim).unwrap().as_ref(), golden);
}
