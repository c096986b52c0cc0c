//! What a state folder says of its jobs: for `status` and `unlock`. Reads only, but for breaking a lease that was shown.
//!
//! Takes no lease: a run may go on beside it, and what is read is each file's own moment.

use std::sync::Arc;

use jiff::Timestamp;
use manifest::state::StateStore;
use manifest::state::checkpoint;
use manifest::state::holder::{Holder, Liveness};
use manifest::state::journal::{self, JournalReader, Record};
use manifest::state::layout::{JobName, RunId};
use manifest::state::lease::{self, Inspection, LeaseRecord};
use manifest::state::receipt::{self, Receipt};
use serde::Serialize;

use crate::beacon::{self, InFlight};
use crate::error::{Failure, Result, chain};

/// All that is known of a job.
#[derive(Debug, Clone, Serialize)]
pub struct JobStatus {
    /// Its name.
    pub job: String,
    /// Its source place.
    pub source: Option<String>,
    /// Its target place.
    pub target: Option<String>,
    /// The source time that the target shows (RFC 3339); `None` before the first complete run.
    pub as_of: Option<String>,
    /// How old that is, in seconds.
    pub age_s: Option<u64>,
    /// The manifest that describes the target.
    pub manifest: Option<String>,
    /// How the last run ended that came to an end.
    pub last_run: Option<LastRun>,
    /// Runs that are in flight, or ended without committing what they did.
    pub unfinished: Vec<UnfinishedRun>,
    /// How far the run in flight is, as it said last; `None` when none has said it.
    pub progress: Option<InFlight>,
    /// Who holds the lease; `None` when nobody does.
    pub lease: Option<LeaseStatus>,
    /// What could not be read. Everything else is still told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The end of a run, from its receipt.
#[derive(Debug, Clone, Serialize)]
pub struct LastRun {
    /// Which run.
    pub run_id: String,
    /// The verb.
    pub command: String,
    /// When it started (RFC 3339).
    pub started: String,
    /// When it ended (RFC 3339).
    pub ended: String,
    /// The exit code.
    pub exit_code: u8,
    /// A word for it.
    pub outcome: String,
    /// Keys by how they ended.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// The first error, when there was one.
    pub error: Option<String>,
}

/// What the journal of a run says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UnfinishedRun {
    /// Which run.
    pub run_id: String,
    /// It holds the lease now.
    pub in_flight: bool,
    /// Objects that arrived.
    pub done_objects: u64,
    /// Bytes of them.
    pub done_bytes: u64,
    /// Objects deleted from the target.
    pub deleted_objects: u64,
    /// Objects that failed.
    pub failed_objects: u64,
    /// Uploads in parts that were begun and not ended.
    pub open_uploads: u64,
}

/// A lease that is held.
#[derive(Debug, Clone, Serialize)]
pub struct LeaseStatus {
    /// Whose: host, process, user, program and start time.
    pub holder: String,
    /// Its run.
    pub run_id: Option<String>,
    /// `alive`, `gone`, or `unknown` when it runs where this machine cannot see it.
    pub process: &'static str,
}

/// The status of every job in the state, by name.
///
/// # Errors
/// When the state cannot be listed. What is wrong with one job stands in its `problems`.
pub async fn all(state: &Arc<dyn StateStore>, me: &Holder) -> Result<Vec<JobStatus>> {
    let mut found = Vec::new();
    for job in checkpoint::list_jobs(state.as_ref()).await? {
        found.push(status(state, &job, me).await);
    }
    Ok(found)
}

/// The status of one job.
///
/// # Errors
/// Exit code 2 when the state has no such job.
pub async fn one(state: &Arc<dyn StateStore>, job: &JobName, me: &Holder) -> Result<JobStatus> {
    match checkpoint::list_jobs(state.as_ref()).await?.contains(job) {
        true => Ok(status(state, job, me).await),
        false => Err(unknown(state.as_ref(), job)),
    }
}

fn unknown(state: &dyn StateStore, job: &JobName) -> Failure {
    Failure::usage(format!("there is no job {job} in the state at {}", state.place()))
        .hint("see the jobs with: distcp status")
}

async fn status(state: &Arc<dyn StateStore>, job: &JobName, me: &Holder) -> JobStatus {
    let mut problems = Vec::new();
    let store = state.as_ref();
    let places = known(checkpoint::places(store, job).await, &mut problems).flatten();
    let summary = known(checkpoint::load_summary(store, job).await, &mut problems).flatten();
    let lease = known(lease::inspect(store, job).await, &mut problems).flatten();
    let receipts = known(receipt::latest(store, job, 1).await, &mut problems).unwrap_or_default();
    let lease = lease.as_ref().and_then(|seen| held(seen, me));
    let committed = summary.as_ref().map(|summary| &summary.run_id);
    let runs = known(journal::unfinished_runs(store, job, committed).await, &mut problems).unwrap_or_default();
    let mut unfinished = Vec::new();
    for run in runs {
        let read = read_journal(state, job, &run).await;
        if let Some(mut seen) = known(read, &mut problems) {
            let holds = lease.as_ref().is_some_and(|lease| lease.run_id.as_deref() == Some(run.as_str()));
            seen.in_flight = holds && lease.as_ref().is_some_and(|lease| lease.process != GONE);
            unfinished.push(seen);
        }
    }
    let progress = known(in_flight(store, job, lease.as_ref()).await, &mut problems).flatten();
    let as_of = summary.as_ref().and_then(|summary| summary.as_of);
    let age = as_of.map(|time| me.started.duration_since(time).as_secs());
    JobStatus {
        job: job.to_string(),
        source: places.as_ref().map(|places| places.source.clone()),
        target: places.map(|places| places.target),
        as_of: as_of.map(|time| time.to_string()),
        age_s: age.map(|seconds| u64::try_from(seconds).unwrap_or(0)),
        manifest: summary.and_then(|summary| summary.manifest),
        last_run: receipts.into_iter().next().map(last_run),
        unfinished,
        progress,
        lease,
        problems,
    }
}

/// How far the run is that holds this lease, unless its process is gone.
///
/// # Errors
/// The state's.
pub async fn in_flight(
    state: &dyn StateStore,
    job: &JobName,
    lease: Option<&LeaseStatus>,
) -> manifest::Result<Option<InFlight>> {
    match lease.filter(|lease| lease.process != GONE).and_then(|lease| lease.run_id.as_deref()) {
        Some(run_id) => beacon::in_flight(state, job, run_id).await,
        None => Ok(None),
    }
}

/// The value, or its error among the problems.
fn known<T>(result: manifest::Result<T>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| problems.push(chain(&error))).ok()
}

fn last_run(receipt: Receipt) -> LastRun {
    LastRun {
        run_id: receipt.run_id.to_string(),
        command: receipt.command,
        started: receipt.started.to_string(),
        ended: receipt.ended.to_string(),
        exit_code: receipt.exit_code,
        outcome: receipt.outcome,
        counts: receipt.counts,
        error: receipt.errors.into_iter().next().map(|sample| match sample.key.is_empty() {
            true => sample.error,
            false => format!("{}: {}", sample.key, sample.error),
        }),
    }
}

async fn read_journal(state: &Arc<dyn StateStore>, job: &JobName, run: &RunId) -> manifest::Result<UnfinishedRun> {
    let mut seen = UnfinishedRun { run_id: run.to_string(), ..UnfinishedRun::default() };
    let mut reader = JournalReader::open(state.clone(), job, run).await?;
    while let Some(batch) = reader.next_batch().await? {
        for record in batch {
            match record {
                Record::Done { entry } => {
                    seen.done_objects += 1;
                    seen.done_bytes += entry.fingerprint.size_bytes;
                }
                Record::Failed { .. } => seen.failed_objects += 1,
                Record::Deleted { .. } => seen.deleted_objects += 1,
                Record::UploadBegun { .. } | Record::TrashUpload { .. } => seen.open_uploads += 1,
                Record::UploadEnded { .. } => seen.open_uploads = seen.open_uploads.saturating_sub(1),
                _ => {}
            }
        }
    }
    Ok(seen)
}

const GONE: &str = "gone";

fn held(seen: &Inspection, me: &Holder) -> Option<LeaseStatus> {
    match &seen.found {
        Ok(record) if record.released => None,
        Ok(record) => Some(LeaseStatus {
            holder: record.holder.to_string(),
            run_id: Some(record.run_id.to_string()),
            process: liveness(record, me),
        }),
        Err(reason) => Some(LeaseStatus { holder: format!("unknown: {reason}"), run_id: None, process: "unknown" }),
    }
}

fn liveness(record: &LeaseRecord, me: &Holder) -> &'static str {
    match record.holder.liveness(me) {
        Liveness::Alive => "alive",
        Liveness::Gone => GONE,
        Liveness::Unknown => "unknown",
    }
}

/// A lease that `unlock` has found, and may break.
#[derive(Debug)]
pub struct Found {
    /// Who holds it.
    pub lease: LeaseStatus,
    seen: Inspection,
}

/// Looks at the lease of a job; `None` when nobody holds it. Changes nothing.
///
/// # Errors
/// Exit code 2 when the state has no such job; the state's own.
pub async fn find_lease(state: &dyn StateStore, job: &JobName, me: &Holder) -> Result<Option<Found>> {
    match lease::inspect(state, job).await? {
        Some(seen) => Ok(held(&seen, me).map(|lease| Found { lease, seen })),
        None if checkpoint::list_jobs(state).await?.contains(job) => Ok(None),
        None => Err(unknown(state, job)),
    }
}

/// Breaks the lease that was found.
///
/// # Errors
/// Exit code 11 when its holder is alive: its process runs on this machine, or it has renewed the lease since.
pub async fn break_lease(state: &dyn StateStore, job: &JobName, me: &Holder, found: &Found) -> Result<()> {
    if found.lease.process == "alive" {
        return Err(Failure::new(
            crate::exit::ExitCode::Leased,
            format!("the holder is alive: {}; its lease was not broken", found.lease.holder),
        )
        .hint("end that process first; it gives the lease back"));
    }
    Ok(lease::break_lease(state, job, me, &found.seen).await?)
}

/// This process as a lease names it.
pub fn this_process(user: &str) -> Holder {
    Holder::this_process(user, crate::session::PROGRAM, Timestamp::now())
}

#[cfg(test)]
mod tests;
