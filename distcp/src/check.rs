//! Can a job between two places work? What `distcp check` finds out, and what it makes of it.
//!
//! The judgement stands here and is pure; [`look`] asks the stores. Writes nothing but throwaway objects, named
//! `.understudy-probe-*` at the target and by [`manifest::state::probe`] in the state, and removes them. A crash leaves one of
//! each: the target's is an extra that a mirror deletes, the state's goes with a later probe.

mod look;

use std::time::Duration;

use serde::Serialize;

pub use self::look::{PROBE_PREFIX, look};
use crate::error::{Failure, chain, store_code};
use crate::exit::ExitCode;
use crate::store::{Capabilities, StoreError, StoreErrorKind};

/// Clocks that differ by less are taken for equal.
const CLOCK_NOTE: Duration = Duration::from_secs(2);
/// Clocks that differ by more are to be set: services refuse requests that are 15 minutes off.
const CLOCK_MEND: Duration = Duration::from_secs(300);

/// What a finding asks of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: it works.
    Ok,
    /// To know it: the job works, but something will be otherwise than one may think.
    Note,
    /// To mend it: the job would fail.
    Mend,
}

impl Verdict {
    /// The word at the start of a line.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Mend => "mend",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// What would be read.
    Source,
    /// What would be written.
    Target,
    /// Where the job's state would live.
    State,
    /// Source and target together.
    Both,
}

impl Subject {
    /// The word in a line.
    pub fn word(self) -> &'static str {
        match self {
            Subject::Source => "source",
            Subject::Target => "target",
            Subject::State => "state",
            Subject::Both => "both",
        }
    }
}

/// One thing that was found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it asks of the user.
    pub verdict: Verdict,
    /// What it is about.
    pub subject: Subject,
    /// What was tried, in a word (`list`, `write`, `clock`).
    pub what: &'static str,
    /// What was found, with the place.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
    /// How the check ends because of it.
    #[serde(skip)]
    pub code: ExitCode,
}

impl Finding {
    /// It works.
    pub fn ok(subject: Subject, what: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, subject, what, text: text.into(), fix: None, code: ExitCode::Done }
    }

    /// Something to know.
    pub fn note(subject: Subject, what: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, ..Self::ok(subject, what, text) }
    }

    /// Something to mend: wrong usage or configuration unless another code is set.
    pub fn mend(subject: Subject, what: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { verdict: Verdict::Mend, fix, code: ExitCode::Usage, ..Self::ok(subject, what, text) }
    }

    /// A store that did not do what was asked of it.
    pub fn failed(subject: Subject, what: &'static str, error: &StoreError) -> Self {
        // A check ends with 0, 2, 12 or 75: what is neither permission nor reach is the configuration's.
        let code = match store_code(error) {
            ExitCode::Failed => ExitCode::Usage,
            code => code,
        };
        Self { code, ..Self::mend(subject, what, chain(error), fix(what, error)) }
    }

    /// A part of the job that refuses, with its own words.
    pub fn refused(subject: Subject, what: &'static str, failure: Failure) -> Self {
        let (code, fix) = match failure.code {
            ExitCode::Failed => (ExitCode::Usage, "mend it, or name another place"),
            ExitCode::Temporary => (ExitCode::Temporary, "see that the store can be reached, then check again"),
            code => (code, "name another place"),
        };
        // Hints of runs speak of resuming; there is no run here.
        let fix = match failure.hint {
            Some(hint) if code != ExitCode::Temporary => hint,
            _ => fix.to_owned(),
        };
        Self { code, ..Self::mend(subject, what, failure.message, fix) }
    }
}

/// What to do about a store's failure.
fn fix(what: &str, error: &StoreError) -> String {
    let s3 = error.place.starts_with("s3:");
    match error.kind {
        StoreErrorKind::NoBucket => crate::error::no_bucket_fix(&error.place),
        StoreErrorKind::Credentials => format!("correct {}", crate::error::credentials_of(&error.place)),
        StoreErrorKind::Permission if s3 => format!("allow {} there to these credentials", s3_actions(what)),
        StoreErrorKind::Permission => "give this user access to it".into(),
        StoreErrorKind::NotFound => "check how the place is written".into(),
        StoreErrorKind::KindConflict => "name a folder".into(),
        StoreErrorKind::Archived => ARCHIVED_FIX.into(),
        StoreErrorKind::NoSpace => "free space there".into(),
        StoreErrorKind::Timeout | StoreErrorKind::Connection | StoreErrorKind::Server | StoreErrorKind::Throttled => {
            "see that the endpoint is right and can be reached from here, then check again".into()
        }
        _ => format!("check {}", crate::error::endpoint_of(&error.place)),
    }
}

/// What to do about an object in an archive tier.
const ARCHIVED_FIX: &str = "rehydrate such objects first (s3api restore-object), or leave them out with --exclude";

/// The permissions that a step takes on S3.
fn s3_actions(what: &str) -> &'static str {
    match what {
        "list" => "s3:ListBucket",
        "read" => "s3:GetObject",
        "delete" => "s3:DeleteObject",
        "upload" => "s3:PutObject and s3:AbortMultipartUpload",
        "copy" => "s3:GetObject and s3:PutObject",
        _ => "s3:PutObject",
    }
}

/// What the clock of a store says against this machine's: `modified_ns` is the time it gave an object that was written
/// between the two others, rounded down to `grain`. All in nanoseconds since 1970.
fn clock(subject: Subject, modified_ns: i64, before_ns: i64, after_ns: i64, grain: Duration) -> Finding {
    let latest = modified_ns.saturating_add(i64::try_from(grain.as_nanos()).unwrap_or(i64::MAX));
    let (off_ns, direction) = if modified_ns > after_ns {
        (modified_ns.abs_diff(after_ns), "ahead of")
    } else {
        (before_ns.saturating_sub(latest).max(0).unsigned_abs(), "behind")
    };
    let off = Duration::from_nanos(off_ns);
    let text = format!("its clock is {} s {direction} this machine's", off.as_secs());
    if off < CLOCK_NOTE {
        Finding::ok(subject, "clock", "its clock and this machine's agree")
    } else if off < CLOCK_MEND {
        Finding::note(subject, "clock", format!("{text}: --newer-than, --older-than and --compare mtime see that"))
    } else {
        Finding::mend(subject, "clock", text, "set the clocks: services refuse requests that are 15 minutes off")
    }
}

/// What became of writes whose condition did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Conditions {
    /// A create over an object that exists was refused.
    create: bool,
    /// A replacement of a version that is gone was refused.
    replace: bool,
}

fn conditions(found: Conditions) -> Finding {
    let ignored = match (found.create, found.replace) {
        (true, true) => {
            return Finding::ok(Subject::Target, "conditions", "it refuses to overwrite what changed meanwhile");
        }
        (false, true) => "If-None-Match",
        (true, false) => "If-Match",
        (false, false) => "If-None-Match and If-Match",
    };
    let text =
        format!("it ignores {ignored}: what another program writes there during a run may be overwritten unseen");
    Finding::note(Subject::Target, "conditions", text)
}

/// What differs between the two sides, and what that means for a copy.
fn differences(source: &Capabilities, target: &Capabilities) -> Vec<Finding> {
    let note = |what, text: &str| Finding::note(Subject::Both, what, text);
    let mut found = Vec::new();
    if source.folders && !target.folders {
        found.push(note("folders", "empty folders are not kept: the target has no folders"));
        found.push(note(
            "links",
            "symbolic links are left out and counted; --links preserve keeps them as metadata, --links follow copies what they lead to",
        ));
    }
    if !source.folders && target.folders {
        let text =
            "keys that no file can have (a/../b, a//b) and keys that are a file and a folder at once fail by name";
        found.push(note("keys", text));
    }
    if source.attributes && !target.attributes {
        found.push(note("metadata", "content type, cache headers and user metadata are not kept"));
    }
    match (source.etags, target.etags) {
        (true, true) | (false, false) => {}
        (true, false) | (false, true) => found.push(note(
            "etags",
            "one side has ETags, the other times: what no manifest knows yet is read once on both sides, or taken by --compare mtime",
        )),
    }
    if !target.server_copy {
        found.push(note("renames", "the target cannot copy on its side: a renamed object is sent again"));
    }
    let through = "bytes go from source to target through this machine";
    found.push(Finding::ok(Subject::Both, "route", through));
    found
}

/// How a check ends: the first by rule 9 of what its findings say.
pub fn code(findings: &[Finding]) -> ExitCode {
    ExitCode::first(findings.iter().map(|finding| finding.code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store as _;
    use crate::store::memory::MemoryStore;

    fn capabilities(change: impl FnOnce(&mut Capabilities)) -> Capabilities {
        MemoryStore::with_capabilities(change).capabilities().clone()
    }

    #[test]
    fn a_failure_says_what_to_mend_and_how_the_check_ends() {
        use StoreErrorKind as Kind;
        let table = [
            (Kind::NoBucket, ExitCode::Usage, "create the bucket"),
            (Kind::Credentials, ExitCode::Permission, "AWS_SECRET_ACCESS_KEY"),
            (Kind::Permission, ExitCode::Permission, "allow s3:DeleteObject"),
            (Kind::Connection, ExitCode::Temporary, "can be reached"),
            (Kind::Timeout, ExitCode::Temporary, "can be reached"),
            (Kind::Protocol, ExitCode::Usage, "AWS_ENDPOINT_URL"),
            (Kind::Unsupported, ExitCode::Usage, "endpoint"),
        ];
        for (kind, code, words) in table {
            let error = StoreError::new("delete", "s3://b", kind, "").on(&"k".into());
            let finding = Finding::failed(Subject::Target, "delete", &error);
            assert_eq!((finding.verdict, finding.code), (Verdict::Mend, code), "{kind:?}");
            assert!(finding.fix.as_deref().is_some_and(|fix| fix.contains(words)), "{finding:?}");
        }
    }

    #[test]
    fn rule_09_the_worst_finding_ends_the_check() {
        let mend = |code| Finding { code, ..Finding::mend(Subject::Target, "x", "", "") };
        let ok = Finding::ok(Subject::Source, "x", "");
        let note = Finding::note(Subject::Source, "x", "");
        assert_eq!(code(&[ok.clone(), note]), ExitCode::Done);
        assert_eq!(code(&[ok.clone(), mend(ExitCode::Temporary)]), ExitCode::Temporary);
        assert_eq!(code(&[mend(ExitCode::Temporary), mend(ExitCode::Permission), ok]), ExitCode::Permission);
        assert_eq!(code(&[mend(ExitCode::Permission), mend(ExitCode::Usage)]), ExitCode::Usage);
    }

    #[test]
    fn clocks_are_judged_by_what_cannot_be_rounding() {
        const S: i64 = 1_000_000_000;
        let second = Duration::from_secs(1);
        let table = [
            (100 * S, 100 * S + 5, 101 * S, Verdict::Ok),
            // The store's second began before the write, and is not over.
            (100 * S, 100 * S + S / 2, 100 * S + S / 2, Verdict::Ok),
            (103 * S, 100 * S, 100 * S + 1, Verdict::Note),
            (96 * S, 100 * S, 100 * S + 1, Verdict::Note),
            (98 * S, 100 * S, 100 * S + 1, Verdict::Ok),
            (500 * S, 100 * S, 101 * S, Verdict::Mend),
            (100 * S, 500 * S, 501 * S, Verdict::Mend),
        ];
        for (modified, before, after, verdict) in table {
            let finding = clock(Subject::Target, modified, before, after, second);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
        }
        let ahead = clock(Subject::Target, 500 * S, 100 * S, 101 * S, second).text;
        assert!(ahead.contains("399 s ahead of"), "{ahead}");
        let behind = clock(Subject::Target, 100 * S, 500 * S, 501 * S, second).text;
        assert!(behind.contains("399 s behind"), "{behind}");
    }

    #[test]
    fn what_one_side_lacks_is_said_once() {
        let whats = |source: &Capabilities, target: &Capabilities| {
            differences(source, target).iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        let store = capabilities(|_| {});
        let folder = capabilities(|can| (can.folders, can.etags) = (true, false));
        let poor = capabilities(|can| (can.attributes, can.server_copy) = (false, false));
        assert_eq!(whats(&store, &store), ["route"]);
        assert_eq!(whats(&folder, &folder), ["route"]);
        assert_eq!(whats(&folder, &store), ["folders", "links", "etags", "route"]);
        assert_eq!(whats(&store, &folder), ["keys", "etags", "route"]);
        assert_eq!(whats(&store, &poor), ["metadata", "renames", "route"]);
    }

    #[test]
    fn ignored_conditions_are_a_note() {
        for (create, replace, words) in
            [(false, true, "If-None-Match:"), (true, false, "ignores If-Match"), (false, false, "and If-Match")]
        {
            let finding = conditions(Conditions { create, replace });
            assert!(finding.verdict == Verdict::Note && finding.text.contains(words), "{finding:?}");
        }
        assert_eq!(conditions(Conditions { create: true, replace: true }).verdict, Verdict::Ok);
    }
}
