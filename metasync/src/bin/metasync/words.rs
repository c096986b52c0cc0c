//! A run's end in words: the block of text on stdout, the last line on stderr. Pure.

use crate::cli::PROGRAM;
use distcp::console::exit::line;
use distcp::console::output::{aligned, bytes_text, counted, duration_text, grouped};
use distcp::error::Failure;
use distcp::exit::ExitCode;
use jiff::Timestamp;
use metasync::sync::report::{Mode, SyncSummary};
use std::time::Duration;

/// What a run came to.
pub fn summary_block(summary: &SyncSummary) -> String {
    let mode = match summary.mode {
        Mode::Bootstrap => "bootstrap",
        Mode::Incremental => "incremental",
    };
    let tables = format!(
        "{} touched, {} applied, {} quarantined",
        grouped(summary.tables.touched),
        grouped(summary.tables.applied),
        grouped(summary.tables.quarantined)
    );
    let counts = summary.counts;
    let data = format!(
        "{}: {} equal, {} copied, {} deleted, {} skipped, {} failed",
        counted(counts.listed, "object", "objects"),
        grouped(counts.equal),
        grouped(counts.copied),
        grouped(counts.deleted),
        grouped(counts.skipped),
        grouped(counts.failed)
    );
    let bytes =
        format!("{} at the source, {} written", bytes_text(summary.bytes.source), bytes_text(summary.bytes.written));
    let events = match (summary.from_event, summary.to_event) {
        (Some(from), Some(to)) => format!("{from} to {to}"),
        (None, Some(to)) => format!("up to {to}"),
        _ => "none".to_owned(),
    };
    let took = duration_text(Duration::from_millis(summary.duration_ms));
    let rows = [
        ("mode", mode.to_owned()),
        ("events", events),
        ("tables", tables),
        ("data", data),
        ("bytes", bytes),
        ("as of", summary.as_of.clone().unwrap_or_else(|| "no complete run yet".to_owned())),
        ("took", took),
    ];
    aligned(&rows.iter().map(|(name, value)| (*name, value.clone())).collect::<Vec<_>>())
}

/// The last line of a run that did not end with 0.
pub fn last_line(summary: &SyncSummary, failure: Option<&Failure>) -> Option<String> {
    if summary.exit_code == ExitCode::Done && failure.is_none() {
        return None;
    }
    let (message, hint) = match failure {
        Some(failure) => (failure.message.clone(), failure.hint.clone()),
        None => what_happened(summary),
    };
    Some(line(PROGRAM, summary.command, &message, hint.as_deref()))
}

fn what_happened(summary: &SyncSummary) -> (String, Option<String>) {
    let mut parts = Vec::new();
    if summary.tables.quarantined > 0 {
        parts.push(format!("{} not in step", counted(summary.tables.quarantined, "table is", "tables are")));
    }
    if summary.counts.failed > 0 {
        parts.push(format!("{} failed", counted(summary.counts.failed, "object", "objects")));
    }
    parts.extend(summary.errors.iter().take(1).cloned());
    match summary.exit_code {
        ExitCode::Interrupted | ExitCode::Terminated | ExitCode::Limited => {
            parts.insert(0, summary.exit_code.word().to_owned());
            (parts.join("; "), Some("run it again: it goes on where it stopped".to_owned()))
        }
        _ => (parts.join("; "), Some("the others went on; the next run tries these again".to_owned())),
    }
}

/// How old a moment is, in words.
pub fn age(moment: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(moment).as_secs();
    match u64::try_from(seconds) {
        Ok(seconds) => format!("{} ago", duration_text(Duration::from_secs(seconds))),
        Err(_) => "in the future, by this machine's clock".to_owned(),
    }
}
