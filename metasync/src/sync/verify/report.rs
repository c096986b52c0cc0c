//! The last word of a verification: public API, printed as JSON and kept in the state.

use super::cycle::Coverage;
use super::{Finding, Found};
use crate::sync::report::SyncSummary;
use distcp::error::Failure;
use distcp::exit::ExitCode;
use distcp::store::meter::RequestCounts;
use distcp::summary::Differences;
use distcp::verify::Level;
use jiff::Timestamp;
use manifest::state::layout::{JobName, RunId};
use manifest::state::receipt::{ErrorSample, MAX_ERRORS, Receipt};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many findings are kept with the report.
pub const MAX_FINDINGS: usize = MAX_ERRORS;

/// The `summary` object of `verify`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifySummary {
    /// Always `summary`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `verify`.
    pub command: &'static str,
    /// The policy's name.
    pub job: String,
    /// Names the report in the state.
    pub run_id: String,
    /// As the process ends.
    pub exit_code: ExitCode,
    /// A word for the code.
    pub outcome: &'static str,
    /// How much of the data was looked at.
    pub level: Level,
    /// The source time that the replica shows (RFC 3339); what is younger is only behind.
    pub as_of: Option<String>,
    /// Length of it.
    pub duration_ms: u64,
    /// Objects of metadata.
    pub metadata: Differences,
    /// Objects of data.
    pub data: Differences,
    /// Bytes of data that were read, of both sides.
    pub bytes_read: u64,
    /// Requests for data.
    pub requests: RequestCounts,
    /// Which part of all data was read (`--sample`, `--budget`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// What was mended (`--repair`), if anything had to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repaired>,
    /// What failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a repair came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repaired {
    /// Of the run that mended.
    pub run_id: String,
    /// How that run ended.
    pub exit_code: ExitCode,
    /// Tables whose metadata it changed or dropped.
    pub tables_applied: u64,
    /// Objects of data that it copied.
    pub copied: u64,
    /// Objects of data that it deleted.
    pub deleted: u64,
    /// Objects of metadata after it; `None`: nobody looked.
    pub metadata: Option<Differences>,
    /// Objects of data after it.
    pub data: Option<Differences>,
}

impl Repaired {
    pub(super) fn of(run: &SyncSummary) -> Self {
        Self {
            run_id: run.run_id.clone(),
            exit_code: run.exit_code,
            tables_applied: run.tables.applied,
            copied: run.counts.copied,
            deleted: run.counts.deleted,
            metadata: None,
            data: None,
        }
    }

    pub(super) fn take(&mut self, found: &Found) {
        (self.metadata, self.data) = (Some(found.metadata), Some(found.data));
    }
}

impl VerifySummary {
    pub(super) fn new(job: &str, run_id: &RunId, level: Level) -> Self {
        Self {
            kind: "summary",
            command: "verify",
            job: job.to_owned(),
            run_id: run_id.to_string(),
            exit_code: ExitCode::Done,
            outcome: ExitCode::Done.word(),
            level,
            as_of: None,
            duration_ms: 0,
            metadata: Differences::default(),
            data: Differences::default(),
            bytes_read: 0,
            requests: RequestCounts::default(),
            coverage: None,
            repair: None,
            errors: Vec::new(),
            hint: None,
        }
    }

    /// Sets the code and its word.
    pub fn end(&mut self, code: ExitCode) {
        self.exit_code = code;
        self.outcome = code.word();
    }

    pub(super) fn take(&mut self, found: &Found, as_of: Option<Timestamp>, bytes_read: u64, requests: RequestCounts) {
        (self.metadata, self.data) = (found.metadata, found.data);
        self.as_of = as_of.map(|time| time.to_string());
        (self.bytes_read, self.requests) = (bytes_read, requests);
        self.end(found.code());
    }

    /// What was found.
    pub fn found(&self) -> Found {
        Found { metadata: self.metadata, data: self.data }
    }

    /// What is wrong now: after the repair, if there was one that was looked at.
    pub fn left(&self) -> Found {
        let after = self.repair.as_ref().and_then(|repair| Some((repair.metadata?, repair.data?)));
        after.map_or_else(|| self.found(), |(metadata, data)| Found { metadata, data })
    }
}

/// What is kept of it in the state.
pub(super) fn receipt(
    job: &JobName,
    run_id: &RunId,
    started: Timestamp,
    summary: &VerifySummary,
    shown: &[Finding],
    failure: Option<&Failure>,
) -> Receipt {
    let code = failure.map_or(summary.exit_code, |failure| failure.code);
    let Found { metadata, data } = summary.found();
    let counts = [("metadata", metadata), ("data", data)].into_iter().flat_map(|(of, found)| {
        let each = [
            ("equal", found.equal),
            ("only_source", found.only_source),
            ("only_target", found.only_target),
            ("differ", found.differ),
            ("errors", found.errors),
            ("unproven", found.unproven),
            ("behind", found.behind),
        ];
        each.map(|(name, count)| (format!("{of}_{name}"), count))
    });
    let counts: BTreeMap<String, u64> = counts.collect();
    let told = shown.iter().map(|Finding { mark, object, detail }| ErrorSample {
        key: object.as_str().into(),
        error: match detail {
            Some(detail) => format!("{} {detail}", mark.sign()),
            None => mark.sign().to_string(),
        },
    });
    let own = failure.map(|failure| &failure.message).into_iter().chain(&summary.errors);
    let own = own.map(|error| ErrorSample { key: String::new().into(), error: error.clone() });
    let unequal: u64 = counts.iter().filter(|(name, _)| !name.ends_with("_equal")).map(|(_, count)| count).sum();
    Receipt {
        job: job.clone(),
        run_id: run_id.clone(),
        command: summary.command.to_owned(),
        program: crate::sync::PROGRAM.to_owned(),
        started,
        ended: Timestamp::now(),
        exit_code: code.code(),
        outcome: code.word().to_owned(),
        as_of: summary.as_of.as_deref().and_then(|time| time.parse().ok()),
        bytes: BTreeMap::from([("read".to_owned(), summary.bytes_read)]),
        requests: summary.requests.named().iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        manifest: None,
        errors: own.chain(told).take(MAX_ERRORS).collect(),
        errors_total: unequal + summary.errors.len() as u64 + u64::from(failure.is_some()),
        counts,
        plan_digest: None,
        journal_needed: false,
        summary: serde_json::to_value(summary).unwrap_or_default(),
    }
}
