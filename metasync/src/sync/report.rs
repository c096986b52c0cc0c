//! The last word of a run of `metasync`: public API, printed as JSON and kept in the receipt.

use distcp::error::Failure;
use distcp::exit::ExitCode;
use distcp::plan::PlanTotals;
use distcp::store::meter::RequestCounts;
use distcp::summary::{ByteTotals, Counts, Summary};
use jiff::Timestamp;
use manifest::state::layout::{JobName, RunId};
use manifest::state::receipt::{ErrorSample, MAX_ERRORS, Receipt};
use serde::Serialize;
use std::collections::BTreeMap;

/// What kind of run it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The first, or one that started anew.
    Bootstrap,
    /// One after another.
    #[default]
    Incremental,
}

/// Events of the source's log since the last run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// About objects of the policy.
    pub applied: u64,
    /// About others, or about nothing that is carried.
    pub skipped: u64,
    /// All of them.
    pub by_type: BTreeMap<String, u64>,
    /// Tables whose metadata changed and that no event names (rule 25).
    #[serde(rename = "events_missing", skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Objects changed, and the log has no event at all since the last run: its listener seems to be off (rule 25).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log_seems_off: bool,
}

impl Events {
    /// Whether the log says nothing, although something changed. One that never had an event is told by other means.
    pub fn is_silent(&self) -> bool {
        self.applied + self.skipped == 0 && !self.missing.is_empty()
    }
}

/// Tables, by what a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// Whose metadata differed.
    pub touched: u64,
    /// Of these, changed or dropped on the target.
    pub applied: u64,
    /// Not in step, with an error.
    pub quarantined: u64,
}

/// The `summary` object of cli.md for `run` and `resync`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SyncSummary {
    /// Always `summary`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The verb.
    pub command: &'static str,
    /// The policy's name.
    pub job: String,
    /// This run's id.
    pub run_id: String,
    /// As the process ends.
    pub exit_code: ExitCode,
    /// A word for the code.
    pub outcome: &'static str,
    /// Bootstrap or incremental.
    pub mode: Mode,
    /// The event after which the run began.
    pub from_event: Option<i64>,
    /// The source's newest event when it began.
    pub to_event: Option<i64>,
    /// The source time that the replica shows (RFC 3339).
    pub as_of: Option<String>,
    /// Length of the run.
    pub duration_ms: u64,
    /// Events.
    pub events: Events,
    /// Tables.
    pub tables: Tables,
    /// Objects of data.
    pub counts: Counts,
    /// Bytes of data.
    pub bytes: ByteTotals,
    /// Requests to stores.
    pub requests: RequestCounts,
    /// Tables that changed while the run went on: the next one goes on with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<String>,
    /// Tables that are not in step, with why.
    #[serde(skip)]
    pub quarantined: Vec<(String, String)>,
    /// What failed: the run as a whole first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl SyncSummary {
    /// An empty one.
    pub fn new(command: &'static str, job: &str) -> Self {
        Self {
            kind: "summary",
            command,
            job: job.to_owned(),
            run_id: String::new(),
            exit_code: ExitCode::Done,
            outcome: ExitCode::Done.word(),
            mode: Mode::default(),
            from_event: None,
            to_event: None,
            as_of: None,
            duration_ms: 0,
            events: Events::default(),
            tables: Tables::default(),
            counts: Counts::default(),
            bytes: ByteTotals::default(),
            requests: RequestCounts::default(),
            behind: Vec::new(),
            quarantined: Vec::new(),
            errors: Vec::new(),
            hint: None,
        }
    }

    /// Sets the code and its word.
    pub fn end(&mut self, code: ExitCode) {
        self.exit_code = code;
        self.outcome = code.word();
    }

    /// Adds what a copy of data came to.
    pub fn add(&mut self, copy: &Summary) {
        let (counts, more) = (&mut self.counts, &copy.counts);
        counts.listed += more.listed;
        counts.equal += more.equal;
        counts.copied += more.copied;
        counts.deleted += more.deleted;
        counts.skipped += more.skipped;
        counts.failed += more.failed;
        let (bytes, more) = (&mut self.bytes, &copy.bytes);
        bytes.source += more.source;
        bytes.read += more.read;
        bytes.written += more.written;
        bytes.server_side += more.server_side;
        self.requests = self.requests + copy.requests;
    }

    /// Before another round: counts go on, what is wrong is told by the last one.
    pub fn begin_again(&mut self) {
        self.behind.clear();
        self.quarantined.clear();
        self.errors.clear();
    }

    /// Adds a tree in which there was nothing to do, and what was asked to find that out.
    pub fn add_idle(&mut self, totals: &PlanTotals, requests: RequestCounts) {
        self.requests = self.requests + requests;
        self.counts.listed += totals.listed;
        self.counts.equal += totals.equal;
        self.bytes.source += totals.source_bytes;
    }
}

/// The receipt of a run.
pub fn receipt(
    job: &JobName,
    run_id: &RunId,
    started: Timestamp,
    summary: &SyncSummary,
    failure: Option<&Failure>,
) -> Receipt {
    let code = failure.map_or(summary.exit_code, |failure| failure.code);
    let counts = summary.counts;
    let map = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let own = failure.map(|failure| failure.message.clone()).into_iter().chain(summary.errors.iter().cloned());
    let own = own.map(|error| ErrorSample { key: String::new().into(), error });
    let quarantined = summary.quarantined.iter();
    let quarantined =
        quarantined.map(|(table, error)| ErrorSample { key: table.as_str().into(), error: error.clone() });
    Receipt {
        job: job.clone(),
        run_id: run_id.clone(),
        command: summary.command.to_owned(),
        program: super::PROGRAM.to_owned(),
        started,
        ended: Timestamp::now(),
        exit_code: code.code(),
        outcome: code.word().to_owned(),
        as_of: summary.as_of.as_deref().and_then(|time| time.parse().ok()),
        counts: map(&[
            ("tables_touched", summary.tables.touched),
            ("tables_applied", summary.tables.applied),
            ("tables_quarantined", summary.tables.quarantined),
            ("listed", counts.listed),
            ("equal", counts.equal),
            ("copied", counts.copied),
            ("deleted", counts.deleted),
            ("skipped", counts.skipped),
            ("failed", counts.failed),
        ]),
        bytes: map(&[
            ("source", summary.bytes.source),
            ("read", summary.bytes.read),
            ("written", summary.bytes.written),
            ("server_side", summary.bytes.server_side),
        ]),
        requests: map(&summary.requests.named()),
        manifest: None,
        errors: own.chain(quarantined).take(MAX_ERRORS).collect(),
        errors_total: summary.tables.quarantined + summary.errors.len() as u64,
        plan_digest: None,
        journal_needed: false,
        summary: serde_json::to_value(summary).unwrap_or_default(),
    }
}
