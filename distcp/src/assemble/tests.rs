//! What a job's places share: the budget of bytes.

use bytes::Bytes;
use futures::TryStreamExt as _;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::store::pace::Timetable;
use crate::store::{GetOptions, PutOptions};

/// Bytes of the source's only object, and what may pass in a second.
const SIZE: usize = 8 << 10;
const RATE: u64 = 1 << 10;

/// A job from a folder with one object to `target`.
fn limited(folder: &TempDir, target: OsString, target_options: &[(&str, &str)]) -> Job {
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("a"), [0; SIZE]).unwrap();
    let spec = JobSpec {
        source: source.into(),
        target,
        state: None,
        default_state: Some(folder.path().join("state")),
        cwd: folder.path().to_owned(),
        name: None,
        state_on_source: false,
        leased: true,
        create_state: true,
        keep_runs: 1,
        options: CopyOptions::default(),
        within: None,
        source_may_be_missing: false,
        gate: None,
        looks_only: false,
        files: Vec::new(),
        limits: Limits::default(),
        speed: Speed {
            bandwidth: Arc::new(Bandwidth::new(Timetable::constant(Some(RATE)), Arc::new(|| 0))),
            requests_per_second: None,
        },
        source_options: Overrides::new(),
        target_options: target_options.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect(),
        user: "tests".into(),
        spool: folder.path().to_owned(),
        stop: Stop::default(),
        listener: Arc::new(|_| {}),
        progress: Arc::default(),
    };
    job(spec, &Opener::default()).unwrap()
}

async fn read(job: &Job) {
    let answer = job.source.store.get(&"a".into(), GetOptions::default()).await.unwrap();
    let pieces: Vec<Bytes> = answer.body.try_collect().await.unwrap();
    assert_eq!(pieces.concat().len(), SIZE);
}

/// A budget may be overdrawn once: of two sides with one each nobody would wait.
#[tokio::test(start_paused = true)]
async fn both_sides_take_from_one_bandwidth() {
    let folder = tempfile::tempdir().unwrap();
    let job = limited(&folder, folder.path().join("target").into(), &[]);
    let began = Instant::now();
    read(&job).await;
    assert_eq!(began.elapsed().as_secs(), 0);
    job.target.store.put(&"a".into(), Bytes::from_static(&[0; SIZE]).into(), &PutOptions::default()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), SIZE as u64 / RATE);
    read(&job).await;
    assert_eq!(began.elapsed().as_secs(), 2 * SIZE as u64 / RATE);
}

#[tokio::test(start_paused = true)]
async fn a_folder_takes_nothing_of_the_bandwidth_towards_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let keys = [("access_key_id", "k"), ("secret_access_key", "s"), ("region", "r")];
    let job = limited(&folder, "s3://bucket/lake".into(), &keys);
    let began = Instant::now();
    read(&job).await;
    read(&job).await;
    assert_eq!(began.elapsed().as_secs(), 0);
}
