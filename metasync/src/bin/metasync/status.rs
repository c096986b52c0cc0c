//! `metasync status`: how old the replica is, which tables are not in step, how the last runs ended. Changes nothing.

use crate::policy::PolicyArgs;
use crate::words::age;
use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::counted;
use distcp::console::progress::text;
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use jiff::Timestamp;
use metasync::sync::status::{EndedVerify, PolicyStatus, status};
use serde::Serialize;

const CODES: [ExitCode; 5] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Permission, ExitCode::Temporary];

/// Show how old the replica is and what is not in step
#[derive(Debug, Args)]
#[command(after_help = after_help("metasync status sales.toml\nmetasync status --json sales.toml", &CODES))]
pub struct StatusVerb {
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &StatusVerb) -> ExitCode {
    match show(shell, verb).await {
        Ok(code) => code,
        Err(failure) => shell.fail("status", failure),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    status: &'a PolicyStatus,
}

async fn show(shell: &Shell, verb: &StatusVerb) -> Result<ExitCode> {
    let setting = verb.policy.setting(shell)?;
    let status = status(&setting).await?;
    match shell.output.is_json() {
        true => shell.output.json(&Line { kind: "policy", status: &status }),
        false => shell.output.data(block(&status, Timestamp::now())),
    }
    Ok(shell.done("status", ExitCode::Done))
}

fn block(status: &PolicyStatus, now: Timestamp) -> String {
    let mut lines = Vec::new();
    let as_of = status.as_of.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let behind = match (status.events_behind, &status.source_problem) {
        (Some(0), _) => ", no event behind".to_owned(),
        (Some(events), _) => format!(", {} behind", counted(events, "event", "events")),
        (None, Some(problem)) => format!(", events behind unknown: {problem}"),
        (None, None) => String::new(),
    };
    lines.push(match as_of {
        Some(moment) => format!("as-of {moment}, {}{behind}", age(moment, now)),
        None => format!("no complete run yet{behind}"),
    });
    lines.push(format!(
        "{} in step, {} pending, {} quarantined",
        counted(status.in_step, "table", "tables"),
        status.pending.len(),
        status.quarantined.len()
    ));
    lines.extend(status.pending.iter().map(|table| format!("  pending: {table}")));
    for table in &status.quarantined {
        let shows = table.as_of.as_deref().map_or("never carried".to_owned(), |as_of| format!("shows {as_of}"));
        lines.push(format!("  quarantined: {} ({shows}): {}", table.table, table.error));
    }
    for object in &status.uncarried {
        let shows = object.as_of.as_deref().map_or("never in step".to_owned(), |as_of| format!("shows {as_of}"));
        lines.push(format!("  not in step: {} ({shows}): {}", object.object, object.error));
    }
    for path in &status.failed_paths {
        let shows = path.as_of.as_deref().map_or("never whole".to_owned(), |as_of| format!("shows {as_of}"));
        lines.push(format!("  failed: path {} ({shows}): {}", path.path, path.error));
    }
    if status.is_replica {
        lines.push("the source is itself a replica of another metastore".to_owned());
    }
    for run in &status.last_runs {
        let error = run.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
        lines.push(format!("  {} {} ended with {} ({}){error}", run.command, run.started, run.exit_code, run.outcome));
    }
    lines.extend(status.last_verify.as_ref().map(|verify| last_verify(verify, now)));
    if let Some(run) = &status.progress {
        let old = run.written.parse().map_or(String::new(), |written| format!(" ({})", age(written, now)));
        lines.push(format!("at work: {}{old}", text(&run.seen)));
    }
    if let Some(lease) = &status.lease {
        lines.push(format!("lease: {} (process {})", lease.holder, lease.process));
    }
    lines.join("\n")
}

/// What the last verification said.
fn last_verify(verify: &EndedVerify, now: Timestamp) -> String {
    let old = verify.started.parse().map_or(String::new(), |started| format!(" ({})", age(started, now)));
    let level = verify.level.as_deref().map_or(String::new(), |level| format!(", level {level}"));
    let mut line = format!(
        "last verify {}{old}{level}: ended with {} ({}), {} wrong, {} behind",
        verify.started,
        verify.exit_code,
        verify.outcome,
        counted(verify.wrong, "object", "objects"),
        verify.behind
    );
    if let Some(left) = verify.left_wrong {
        line.push_str(&format!(", {left} wrong after the repair"));
    }
    if let Some(first) = verify.first.as_ref().filter(|_| verify.exit_code != 0) {
        line.push_str(&format!("; first: {first}"));
    }
    let number = |name: &str| verify.coverage.as_ref()?.get(name)?.as_u64();
    if let (Some(slice), Some(cycle), Some(runs)) = (
        verify.coverage.as_ref().and_then(|coverage| coverage.get("slice")?.as_str()),
        number("cycle"),
        number("runs_left"),
    ) {
        let rest = match runs {
            0 => "complete".to_owned(),
            runs => format!("{} to go", counted(runs, "run", "runs")),
        };
        line.push_str(&format!("\n  read slice {slice} of cycle {cycle}, {rest}"));
    }
    line
}
