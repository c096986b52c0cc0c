//! What the state of a policy says of its replica. Takes no lease and changes nothing; asks the source how far it is.

use super::state::{Quarantine, SyncState};
use super::{Metastores, Setting};
use crate::model::DatabaseName;
use distcp::beacon::InFlight;
use distcp::error::Result;
use distcp::jobs::{self, LeaseStatus};
use manifest::state::checkpoint;
use manifest::state::receipt::{self, Receipt};
use manifest::state::verification;
use serde::Serialize;
use serde_json::Value;

/// How many ended runs are shown.
const RUNS_SHOWN: usize = 3;
/// A parameter by which Hive, or we, mark what is a replica.
const REPLICA_MARKS: [&str; 2] = ["repl.last.id", "repl.target.for"];

/// The status of a policy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PolicyStatus {
    /// Its name.
    pub job: String,
    /// The source time that the replica shows (RFC 3339).
    pub as_of: Option<String>,
    /// The event up to which it was read.
    pub event: Option<i64>,
    /// The source's newest event.
    pub newest_event: Option<i64>,
    /// Newer events at the source.
    pub events_behind: Option<u64>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_problem: Option<String>,
    /// The source is a replica itself.
    pub is_replica: bool,
    /// Tables that the last run left equal.
    pub in_step: u64,
    /// Tables that a run left half done.
    pub pending: Vec<String>,
    /// Tables that are not in step.
    pub quarantined: Vec<QuarantinedTable>,
    /// Functions, constraints and databases that are not in step.
    pub uncarried: Vec<Uncarried>,
    /// Plain trees that are not in step.
    pub failed_paths: Vec<FailedPath>,
    /// How the last runs ended, the newest first.
    pub last_runs: Vec<EndedRun>,
    /// How the last verification ended.
    pub last_verify: Option<EndedVerify>,
    /// Who runs it now.
    pub lease: Option<LeaseStatus>,
    /// How far the run in flight is, as it said last; `None` when none has said it.
    pub progress: Option<InFlight>,
}

/// A table that is not in step.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantinedTable {
    /// Its name on the target.
    pub table: String,
    /// Why.
    pub error: String,
    /// What it still shows (RFC 3339).
    pub as_of: Option<String>,
}

/// An object other than a table that is not in step.
#[derive(Clone, Debug, Serialize)]
pub struct Uncarried {
    /// What it is, and its name.
    pub object: String,
    /// Why.
    pub error: String,
    /// What it still shows (RFC 3339); `None` if it was wrong before any run was complete.
    pub as_of: Option<String>,
}

/// A plain tree (`[[paths]]`) that is not in step.
#[derive(Clone, Debug, Serialize)]
pub struct FailedPath {
    /// Where it comes from and goes.
    pub path: String,
    /// Why.
    pub error: String,
    /// What it still shows (RFC 3339); `None` if it never was whole.
    pub as_of: Option<String>,
}

/// A run that came to an end.
#[derive(Clone, Debug, Serialize)]
pub struct EndedRun {
    /// Which.
    pub run_id: String,
    /// The verb.
    pub command: String,
    /// When it started (RFC 3339).
    pub started: String,
    /// Its exit code.
    pub exit_code: u8,
    /// A word for it.
    pub outcome: String,
    /// The first error.
    pub error: Option<String>,
}

/// A verification that came to an end.
#[derive(Clone, Debug, Serialize)]
pub struct EndedVerify {
    /// Which; names its report in the state.
    pub run_id: String,
    /// When it started (RFC 3339).
    pub started: String,
    /// Its exit code.
    pub exit_code: u8,
    /// A word for it.
    pub outcome: String,
    /// How much of the data it looked at.
    pub level: Option<String>,
    /// Objects that were different, or could not be compared or proven.
    pub wrong: u64,
    /// Objects that were only behind.
    pub behind: u64,
    /// Objects that a repair left wrong; `None` where nothing was repaired.
    pub left_wrong: Option<u64>,
    /// Which part of all data it read, as in its report.
    pub coverage: Option<Value>,
    /// The first thing that it found, or that failed.
    pub first: Option<String>,
}

impl EndedVerify {
    fn of(receipt: Receipt) -> Self {
        let count = |found: Option<&Value>, names: &[&str]| -> u64 {
            let each =
                |of: &str| names.iter().filter_map(move |name| found?.get(of)?.get(*name)?.as_u64()).sum::<u64>();
            each("metadata") + each("data")
        };
        let wrong =
            |found: Option<&Value>| count(found, &["only_source", "only_target", "differ", "errors", "unproven"]);
        let summary = &receipt.summary;
        let looked_again = summary.get("repair").filter(|repair| repair.get("metadata").is_some_and(Value::is_object));
        let first = receipt.errors.first().map(|sample| match sample.key.is_empty() {
            true => sample.error.clone(),
            false => format!("{} ({})", sample.key.escaped(), sample.error),
        });
        Self {
            wrong: wrong(Some(summary)),
            behind: count(Some(summary), &["behind"]),
            left_wrong: looked_again.map(|repair| wrong(Some(repair))),
            level: summary.get("level").and_then(Value::as_str).map(str::to_owned),
            coverage: summary.get("coverage").cloned(),
            run_id: receipt.run_id.to_string(),
            started: receipt.started.to_string(),
            exit_code: receipt.exit_code,
            outcome: receipt.outcome,
            first,
        }
    }
}

/// Reads it.
///
/// # Errors
/// A state that cannot be read.
pub async fn status(setting: &Setting) -> Result<PolicyStatus> {
    let (state, job) = (setting.state(false)?, setting.job()?);
    let mut status = PolicyStatus { job: job.to_string(), ..PolicyStatus::default() };
    match source(setting).await {
        Ok((newest, is_replica)) => (status.newest_event, status.is_replica) = (Some(newest), is_replica),
        Err(failure) => status.source_problem = Some(failure.message),
    }
    let last_verify = verification::latest(state.as_ref(), &job, 1).await?.pop();
    status.last_verify = last_verify.map(EndedVerify::of);
    if !checkpoint::list_jobs(state.as_ref()).await?.contains(&job) {
        return Ok(status);
    }
    if let Some(loaded) = checkpoint::load::<SyncState>(state.as_ref(), &job).await? {
        let left = &loaded.checkpoint;
        status.as_of = left.as_of.map(|moment| moment.to_string());
        status.event = left.state.position.as_ref().map(|position| position.id);
        status.pending = pending(&left.state);
        status.quarantined = left
            .state
            .quarantined()
            .map(|(table, one)| QuarantinedTable { table, error: one.error.clone(), as_of: one.as_of.clone() })
            .collect();
        let uncarried = left.state.uncarried.iter().map(|(object, one)| (object.clone(), one.clone()));
        status.uncarried =
            uncarried.map(|(object, Quarantine { error, as_of })| Uncarried { object, error, as_of }).collect();
        let failed =
            left.state.paths.iter().filter_map(|(path, state)| Some((path, state.error.as_ref()?, &state.as_of)));
        status.failed_paths = failed
            .map(|(path, error, as_of)| FailedPath { path: path.clone(), error: error.clone(), as_of: as_of.clone() })
            .collect();
        let tables = left.state.databases.values().flat_map(|database| database.tables.values());
        let whole = tables.filter(|table| table.digest.is_some() && table.quarantined.is_none()).count() as u64;
        status.in_step = whole.saturating_sub(status.pending.len() as u64);
    }
    for run in receipt::latest(state.as_ref(), &job, RUNS_SHOWN).await? {
        status.last_runs.push(EndedRun {
            run_id: run.run_id.to_string(),
            command: run.command,
            started: run.started.to_string(),
            exit_code: run.exit_code,
            outcome: run.outcome,
            error: run.errors.first().map(|sample| sample.error.clone()),
        });
    }
    let me = jobs::this_process(&setting.user);
    status.lease = jobs::find_lease(state.as_ref(), &job, &me).await?.map(|found| found.lease);
    status.progress = jobs::in_flight(state.as_ref(), &job, status.lease.as_ref()).await?;
    let behind = |newest: i64| Some(u64::try_from(newest - status.event.unwrap_or(0)).unwrap_or(0));
    status.events_behind = status.newest_event.and_then(behind);
    Ok(status)
}

/// Tables that a run left half done, and that no quarantine names.
fn pending(state: &SyncState) -> Vec<String> {
    let intended = state.intent.iter().flat_map(|intent| &intent.tables);
    let quarantined =
        |database: &str, table: &str| state.table(database, table).is_some_and(|left| left.quarantined.is_some());
    intended
        .filter(|(database, table)| !quarantined(database, table))
        .map(|(database, table)| format!("{database}.{table}"))
        .collect()
}

/// The source's newest event, and whether a database of the policy is a replica there (case 54).
async fn source(setting: &Setting) -> Result<(i64, bool)> {
    let source = Metastores::source(setting).await?;
    let snapshot = source.snapshot().await.map_err(super::failure)?;
    let newest = snapshot.current_event_id().await.map_err(super::failure)?;
    let taken = |name: &DatabaseName| setting.policy.scope.takes_database(name);
    let databases = snapshot.databases().await.map_err(super::failure)?;
    let marked = databases
        .iter()
        .filter(|database| taken(&database.name))
        .any(|database| REPLICA_MARKS.iter().any(|mark| database.parameters.contains_key(*mark)));
    Ok((newest, marked))
}
