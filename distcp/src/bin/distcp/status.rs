//! `distcp status`: what the state folder says of its jobs. Takes no lease and changes nothing.

use std::time::Duration;

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::{Output, aligned, bytes_text, counted, duration_text, grouped};
use distcp::console::progress::text;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::jobs::{self, JobStatus};
use manifest::state::layout::JobName;
use serde::Serialize;

const CODES: [ExitCode; 5] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Permission, ExitCode::Temporary];

const EXAMPLE: &str = "distcp status
distcp status --json --state s3://backup/understudy --job lake";

/// Show the jobs in the state folder, or one with --job
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct StatusVerb {}

/// Runs it.
pub async fn run(shell: &Shell, _verb: &StatusVerb) -> ExitCode {
    match show(shell).await {
        Ok(code) => code,
        Err(failure) => shell.fail("status", failure),
    }
}

/// A job's name as typed.
pub fn job_name(text: &str) -> Result<JobName> {
    JobName::new(text).map_err(|error| Failure::usage(format!("--job: {error}")))
}

async fn show(shell: &Shell) -> Result<ExitCode> {
    let output = &shell.output;
    let me = jobs::this_process(&shell.process.user);
    let state = shell.state()?;
    let found = match &shell.args.job {
        Some(job) => vec![jobs::one(&state, &job_name(job)?, &me).await?],
        None => jobs::all(&state, &me).await?,
    };
    if found.is_empty() {
        output.say(format!("no job has run with the state at {}", state.place()));
    }
    for (at, status) in found.iter().enumerate() {
        if !output.is_json() && at > 0 {
            output.data("");
        }
        print(output, status);
    }
    let unreadable = found.iter().filter(|status| !status.problems.is_empty()).count();
    match unreadable {
        0 => Ok(shell.done("status", ExitCode::Done)),
        count => {
            let jobs = counted(count as u64, "job", "jobs");
            Err(Failure::new(ExitCode::Failed, format!("the state of {jobs} cannot be read whole")))
        }
    }
}

#[derive(Serialize)]
struct JobLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    status: &'a JobStatus,
}

fn print(output: &Output, status: &JobStatus) {
    match output.is_json() {
        true => output.json(&JobLine { kind: "job", status }),
        false => output.data(block(status)),
    }
    for problem in &status.problems {
        output.error(format!("job {}: {problem}", status.job));
    }
}

/// A job in aligned lines.
fn block(status: &JobStatus) -> String {
    let unknown = || "unknown".to_owned();
    let mut rows = vec![
        ("job", status.job.clone()),
        ("source", status.source.clone().unwrap_or_else(unknown)),
        ("target", status.target.clone().unwrap_or_else(unknown)),
    ];
    rows.push((
        "as of",
        match (&status.as_of, status.age_s) {
            (Some(as_of), Some(age)) => format!("{as_of} ({} ago)", duration_text(Duration::from_secs(age))),
            _ => "no run has been complete yet".into(),
        },
    ));
    rows.push((
        "last run",
        match &status.last_run {
            Some(run) => {
                let counts: Vec<String> = run
                    .counts
                    .iter()
                    .filter(|(_, count)| **count > 0)
                    .map(|(name, count)| format!("{} {name}", grouped(*count)))
                    .collect();
                let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
                format!("{} ended {}, {} ({}){counts}", run.command, run.ended, run.outcome, run.exit_code)
            }
            None => "none has ended".into(),
        },
    ));
    if let Some(error) = status.last_run.as_ref().and_then(|run| run.error.as_ref()) {
        rows.push(("error", error.replace(['\n', '\r'], " ")));
    }
    for run in &status.unfinished {
        let mut text = format!(
            "{}: {} done ({})",
            run.run_id,
            counted(run.done_objects, "object", "objects"),
            bytes_text(run.done_bytes)
        );
        let others = [(run.deleted_objects, "deleted"), (run.failed_objects, "failed"), (run.open_uploads, "in parts")];
        for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {} {what}", grouped(*count)));
        }
        rows.push((if run.in_flight { "in flight" } else { "unfinished" }, text));
    }
    rows.extend(
        status.progress.as_ref().map(|run| ("progress", format!("{} (as of {})", text(&run.seen), run.written))),
    );
    rows.push((
        "lease",
        match &status.lease {
            Some(lease) => format!("{} (process {})", lease.holder, lease.process),
            None => "free".into(),
        },
    ));
    aligned(&rows)
}

#[cfg(test)]
mod tests {
    use distcp::beacon::InFlight;
    use distcp::jobs::{LastRun, LeaseStatus, UnfinishedRun};
    use distcp::progress::{Phase, Snapshot};

    use super::*;

    #[test]
    fn a_job_in_lines() {
        let mut status = JobStatus {
            job: "lake".into(),
            source: Some("/src".into()),
            target: Some("s3://lake".into()),
            as_of: None,
            age_s: None,
            manifest: None,
            last_run: None,
            unfinished: Vec::new(),
            progress: None,
            lease: None,
            problems: Vec::new(),
        };
        let fresh = "\
job       lake
source    /src
target    s3://lake
as of     no run has been complete yet
last run  none has ended
lease     free";
        assert_eq!(block(&status), fresh);
        status.as_of = Some("2026-11-21T01:00:00Z".into());
        status.age_s = Some(7200);
        status.last_run = Some(LastRun {
            run_id: "r1".into(),
            command: "copy".into(),
            started: "2026-11-21T01:00:00Z".into(),
            ended: "2026-11-21T01:10:00Z".into(),
            exit_code: 3,
            outcome: "partial".into(),
            counts: [("copied".to_owned(), 1200), ("deleted".to_owned(), 0), ("failed".to_owned(), 1)].into(),
            error: Some("a: cannot\nread".into()),
        });
        status.unfinished = vec![UnfinishedRun {
            run_id: "r2".into(),
            in_flight: true,
            done_objects: 5,
            done_bytes: 2048,
            open_uploads: 1,
            ..UnfinishedRun::default()
        }];
        status.progress = Some(InFlight {
            run_id: "r2".into(),
            written: "2026-11-21T03:00:10Z".into(),
            seconds_left: Some(5),
            seen: Snapshot {
                phase: Phase::Copying,
                planned_objects: 10,
                planned_bytes: 4096,
                done_objects: 6,
                done_bytes: 3072,
                bytes_per_second: Some(204.8),
                ..Snapshot::default()
            },
        });
        status.lease = Some(LeaseStatus { holder: "ann on host".into(), run_id: Some("r2".into()), process: "alive" });
        let busy = "\
job        lake
source     /src
target     s3://lake
as of      2026-11-21T01:00:00Z (2h 0m ago)
last run   copy ended 2026-11-21T01:10:00Z, partial (3): 1,200 copied, 1 failed
error      a: cannot read
in flight  r2: 5 objects done (2.0 KiB), 1 in parts
progress   copying: 6 of 10 objects, 3.0 KiB of 4.0 KiB, 204 B/s, 5.0 s left (as of 2026-11-21T03:00:10Z)
lease      ann on host (process alive)";
        assert_eq!(block(&status), busy);
        let json = serde_json::to_value(JobLine { kind: "job", status: &status }).unwrap();
        assert_eq!((json["type"].as_str(), json["unfinished"][0]["in_flight"].as_bool()), (Some("job"), Some(true)));
    }
}
