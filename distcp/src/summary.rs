//! The last word of a run: public API, printed as JSON and kept in the receipt.

use serde::Serialize;

use crate::exit::ExitCode;
use crate::store::meter::RequestCounts;

/// Counts of listed keys, by how they ended; `listed` is their sum (rule 14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Distinct keys of both sides.
    pub listed: u64,
    /// Both sides held the same.
    pub equal: u64,
    /// Copied.
    pub copied: u64,
    /// Deleted from the target.
    pub deleted: u64,
    /// Left alone.
    pub skipped: u64,
    /// Failed.
    pub failed: u64,
}

/// Bytes of both sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByteTotals {
    /// Content of the source as listed.
    pub source: u64,
    /// Read from source and target.
    pub read: u64,
    /// Written to the target.
    pub written: u64,
    /// Copied by the target's store without coming through us.
    pub server_side: u64,
}

/// Keys by what `verify` found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Only at the source.
    pub only_source: u64,
    /// Only on the target.
    pub only_target: u64,
    /// On both, and different.
    pub differ: u64,
    /// Could not be compared.
    pub errors: u64,
    /// Not proven to be equal.
    pub unproven: u64,
    /// Different because the source has moved on.
    #[serde(skip_serializing_if = "is_zero")]
    pub behind: u64,
    /// Equal.
    pub equal: u64,
}

/// The `summary` object of cli.md.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Always `summary`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The verb.
    pub command: &'static str,
    /// The job's name.
    pub job: String,
    /// This run's id.
    pub run_id: String,
    /// As the process ends.
    pub exit_code: ExitCode,
    /// A word for the code.
    pub outcome: &'static str,
    /// The source time that the target shows (RFC 3339); of the last complete run when this one was not.
    pub as_of: Option<String>,
    /// Length of the run.
    pub duration_ms: u64,
    /// Keys.
    pub counts: Counts,
    /// Bytes.
    pub bytes: ByteTotals,
    /// Requests to both sides.
    pub requests: RequestCounts,
    /// Requests that were repeated.
    pub retries: u64,
    /// Id of the manifest that describes the target now.
    pub manifest: Option<String>,
    /// Links that were left out, and objects that vanished meanwhile, when there are any.
    #[serde(skip_serializing_if = "is_zero")]
    pub links_skipped: u64,
    /// Objects that vanished from the source while the run went on.
    #[serde(skip_serializing_if = "is_zero")]
    pub vanished: u64,
    /// Objects that were kept in the trash before they were overwritten or deleted.
    #[serde(skip_serializing_if = "is_zero")]
    pub trashed: u64,
    /// What `verify` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences: Option<Differences>,
    /// What failed: the run as a whole first, then single objects, at most a few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Summary {
    /// An empty summary of a command.
    pub fn new(command: &'static str, job: &str) -> Self {
        Self {
            kind: "summary",
            command,
            job: job.to_owned(),
            run_id: String::new(),
            exit_code: ExitCode::Done,
            outcome: ExitCode::Done.word(),
            as_of: None,
            duration_ms: 0,
            counts: Counts::default(),
            bytes: ByteTotals::default(),
            requests: RequestCounts::default(),
            retries: 0,
            manifest: None,
            links_skipped: 0,
            vanished: 0,
            trashed: 0,
            differences: None,
            errors: Vec::new(),
            hint: None,
        }
    }

    /// Sets the code and its word.
    pub fn end(&mut self, code: ExitCode) {
        self.exit_code = code;
        self.outcome = code.word();
    }
}
