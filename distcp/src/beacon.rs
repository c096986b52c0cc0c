//! Tells other processes how far a run in flight is, by a record in its state that `status` shows.
//!
//! Nothing depends on it: a write that fails is left out, and a run that was killed leaves a record that its lease's end, or
//! the next run's, makes void.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use manifest::state::layout::{JobName, RunId};
use manifest::state::progress::{self, ProgressRecord};
use manifest::state::{StateStore, Tag};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::progress::{Progress, Sampler, Snapshot};
use crate::store::meter::Meter;

/// How often the record is written. A run that ends before writes none.
pub const EVERY: Duration = Duration::from_secs(10);
/// How long the end of a run waits for a record that is being written.
const PATIENCE: Duration = Duration::from_secs(5);

/// The task that writes the record. Dropping it ends the task and leaves the record.
#[derive(Debug)]
pub struct Beacon {
    state: Arc<dyn StateStore>,
    job: JobName,
    token: CancellationToken,
    /// Ends with whether the record may be this run's.
    task: JoinHandle<bool>,
}

impl Beacon {
    /// Writes how far a run that holds the job's lease is, from now on.
    pub fn start(
        state: Arc<dyn StateStore>,
        job: JobName,
        run_id: RunId,
        progress: Arc<Progress>,
        meters: Vec<Arc<Meter>>,
    ) -> Self {
        let token = CancellationToken::new();
        let sampler = Sampler::start(progress, meters);
        let writing = write(state.clone(), job.clone(), run_id, sampler, token.clone());
        Self { state, job, token, task: tokio::spawn(writing) }
    }

    /// Ends it, and removes the record, unless another run has taken it over. To be called while the lease is held.
    pub async fn stop(mut self) {
        self.token.cancel();
        // A task that broke, or hangs, has written its last: the drop ends it, and the record is left.
        if let Ok(Ok(true)) = tokio::time::timeout(PATIENCE, &mut self.task).await {
            // The record is void without its lease.
            let _ = progress::remove(self.state.as_ref(), &self.job).await;
        }
    }
}

impl Drop for Beacon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns whether the record may be this run's.
async fn write(
    state: Arc<dyn StateStore>,
    job: JobName,
    run_id: RunId,
    mut sampler: Sampler,
    token: CancellationToken,
) -> bool {
    let mut ticks = tokio::time::interval_at(sampler.started() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut mine, mut has_written): (Option<Tag>, bool) = (None, false);
    loop {
        let now = tokio::select! {
            () = token.cancelled() => return has_written,
            now = ticks.tick() => now,
        };
        let seen: Snapshot = sampler.look(now);
        let record = ProgressRecord { job: job.clone(), run_id: run_id.clone(), written: Timestamp::now(), seen };
        has_written = true;
        match progress::put(state.as_ref(), &record, mine.as_ref()).await {
            Ok(Some(tag)) => mine = Some(tag),
            // Another run has begun: this one has lost its lease.
            Ok(None) if mine.is_some() => return false,
            // What it left is read again.
            Ok(None) | Err(_) => mine = None,
        }
    }
}

/// How far a run in flight is, for `status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InFlight {
    /// The run.
    pub run_id: String,
    /// When it said so (RFC 3339).
    pub written: String,
    /// How long the rest of what it does will take at its present rate; `None` while nobody can tell.
    pub seconds_left: Option<u64>,
    /// What it does, and how far it is.
    #[serde(flatten)]
    pub seen: Snapshot,
}

/// How far the run is that holds the job's lease; `None` if it has not said it.
///
/// # Errors
/// The state's.
pub async fn in_flight(state: &dyn StateStore, job: &JobName, run_id: &str) -> manifest::Result<Option<InFlight>> {
    let record: Option<ProgressRecord<Snapshot>> = progress::load(state, job).await?;
    Ok(record.filter(|record| record.run_id.as_str() == run_id).map(|record| InFlight {
        run_id: record.run_id.to_string(),
        written: record.written.to_string(),
        seconds_left: record.seen.time_left().map(|left| left.as_secs()),
        seen: record.seen,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Phase, count};
    use manifest::state::memory::MemoryState;

    #[tokio::test(start_paused = true)]
    async fn a_run_tells_how_far_it_is_until_it_ends_and_no_other_does_for_it() {
        let state: Arc<dyn StateStore> = Arc::new(MemoryState::new());
        let job = JobName::new("nightly").unwrap();
        let runs = ["20261121T031500Z-3e712345", "20261122T031500Z-3e712345"];
        let [first, second]: [RunId; 2] = runs.map(|run| run.parse().unwrap());
        let progress = Arc::new(Progress::default());
        progress.lead(Phase::Applying);
        progress.expect(0, 0, 1000);
        let beacon = Beacon::start(state.clone(), job.clone(), first.clone(), progress.clone(), Vec::new());
        assert_eq!(in_flight(state.as_ref(), &job, first.as_str()).await.unwrap(), None);
        for step in 1..=3u64 {
            count(&progress.done_metadata, 100);
            tokio::time::sleep(EVERY).await;
            tokio::task::yield_now().await;
            let now = in_flight(state.as_ref(), &job, first.as_str()).await.unwrap().unwrap();
            assert_eq!((now.seen.done_metadata, now.seen.elapsed_seconds), (step * 100, step * EVERY.as_secs()));
            assert_eq!(now.seconds_left, Some(100 - 10 * step));
        }
        assert_eq!(in_flight(state.as_ref(), &job, second.as_str()).await.unwrap(), None);
        // One that took the lease over goes on with the record, and the other is silent.
        let later = Beacon::start(state.clone(), job.clone(), second.clone(), Arc::default(), Vec::new());
        tokio::time::sleep(EVERY * 3).await;
        assert!(in_flight(state.as_ref(), &job, second.as_str()).await.unwrap().is_some());
        beacon.stop().await;
        assert!(in_flight(state.as_ref(), &job, second.as_str()).await.unwrap().is_some(), "it is not the first one's");
        later.stop().await;
        tokio::time::sleep(EVERY * 3).await;
        assert_eq!(progress::load::<Snapshot>(state.as_ref(), &job).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_run_writes_nothing() {
        let state: Arc<dyn StateStore> = Arc::new(MemoryState::new());
        let job = JobName::new("nightly").unwrap();
        let run: RunId = "20261121T031500Z-3e712345".parse().unwrap();
        let beacon = Beacon::start(state.clone(), job, run, Arc::default(), Vec::new());
        tokio::time::sleep(EVERY / 2).await;
        beacon.stop().await;
        assert!(state.list("").await.unwrap().is_empty());
    }
}
