//! `distcp check`: can a job between two places work, and if not, what to mend. Changes nothing but throwaway objects.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use distcp::assemble::{self, JobSpec};
use distcp::check::{self, Finding, Verdict};
use distcp::console::args::{PaceArgs, StoreArgs};
use distcp::console::exit::after_help;
use distcp::console::output::{Output, Verbosity, counted};
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::job::{Job, Stop};
use distcp::run::Report;
use distcp::store::retry::RetryPolicy;
use distcp::summary::Summary;
use serde::Serialize;

/// How long a store that fails is tried again, unless `--retry-for` says otherwise: somebody is watching.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a check can end with.
const CODES: [ExitCode; 6] = [
    ExitCode::Done,
    ExitCode::Usage,
    ExitCode::Permission,
    ExitCode::Temporary,
    ExitCode::Interrupted,
    ExitCode::Terminated,
];

const EXAMPLE: &str = "distcp check ./warehouse s3://backup/warehouse

Lines:
  ok    it works
  note  it works, and this is to know
  mend  a copy would fail: what is wrong, and what to do about it";

/// Find out whether a copy can work, and what to mend
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct CheckVerb {
    /// What would be read
    source: OsString,
    /// What would be written: throwaway objects named .understudy-probe-* are, and are removed
    target: OsString,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    stores: StoreArgs,
    /// Allow the state to stand on the source's store
    #[arg(long, help_heading = "Guards")]
    state_on_source: bool,
}

/// A finding under `--json`.
#[derive(Serialize)]
struct FindingLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
}

/// How many findings there were of each verdict.
#[derive(Debug, Default, Serialize)]
struct Found {
    ok: u64,
    note: u64,
    mend: u64,
}

/// The summary of a check.
#[derive(Serialize)]
struct CheckSummary<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    findings: Found,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &CheckVerb) -> ExitCode {
    let clock = tokio::time::Instant::now();
    let job = match job(shell, verb) {
        Ok(job) => job,
        Err(failure) => return shell.fail("check", failure),
    };
    let mut findings = Vec::new();
    check::look(&job, &shell.stop.token, |finding| {
        print(&shell.output, &finding);
        findings.push(finding);
    })
    .await;
    let mut summary = Summary::new("check", job.name.as_str());
    let (source, target) = (job.source.meter.snapshot(), job.target.meter.snapshot());
    summary.requests = source.requests + target.requests;
    summary.retries = source.retries + target.retries;
    summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    let interrupted = shell.stop.token.is_cancelled().then(|| shell.interruption());
    summary.end(ExitCode::first(interrupted.into_iter().chain([check::code(&findings)])));
    end(&shell.output, summary, &findings)
}

fn job(shell: &Shell, verb: &CheckVerb) -> Result<Job> {
    let mut opener = shell.opener()?;
    if shell.args.retry_for.is_none() {
        opener.retry = RetryPolicy { deadline: PATIENCE, ..opener.retry };
    }
    let spec = JobSpec {
        state_on_source: verb.state_on_source,
        create_state: false,
        // A signal ends the check between two steps: what it wrote is removed first.
        stop: Stop::default(),
        ..shell.spec(&verb.source, &verb.target, &verb.pace, &verb.stores)
    };
    assemble::job(spec, &opener)
}

fn print(output: &Output, finding: &Finding) {
    if output.is_json() {
        output.json(&FindingLine { kind: "finding", finding });
    } else if finding.verdict != Verdict::Ok || output.verbosity() > Verbosity::Quiet {
        output.data(line(finding));
    }
}

/// `mend  target  the bucket does not exist; create it`.
fn line(finding: &Finding) -> String {
    let head = format!("{:<4}  {:<6}  ", finding.verdict.word(), finding.subject.word());
    let text = match &finding.fix {
        Some(fix) => format!("{}; {fix}", finding.text),
        None => finding.text.clone(),
    };
    // One line, whatever a server put into its words.
    head + &text.split(['\n', '\r']).map(str::trim).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ")
}

fn end(output: &Output, mut summary: Summary, findings: &[Finding]) -> ExitCode {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count() as u64;
    let found = Found { ok: count(Verdict::Ok), note: count(Verdict::Note), mend: count(Verdict::Mend) };
    let code = summary.exit_code;
    // The finding that decides the code is the one to mend first.
    let first = findings.iter().find(|finding| finding.verdict == Verdict::Mend && finding.code == code);
    let failure = first.map(|first| {
        let message = format!("{}, the first: {}", counted(found.mend, "thing to mend", "things to mend"), first.text);
        Failure { code, message, hint: first.fix.clone() }
    });
    if output.is_json() {
        if let Some(failure) = &failure {
            summary.errors.push(failure.message.clone());
            summary.hint.clone_from(&failure.hint);
        }
        output.json(&CheckSummary { summary: &summary, findings: found });
    } else if code == ExitCode::Done {
        output.say("it can work");
    }
    let report = Report { summary, failure };
    if let Some(line) = distcp::console::exit::last_line(crate::cli::PROGRAM, &report) {
        output.error(line);
    }
    code
}

#[cfg(test)]
mod tests {
    use distcp::check::Subject;

    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_fix() {
        let finding = Finding::mend(Subject::Target, "list", "cannot list s3://b:\nno bucket", "create it");
        assert_eq!(line(&finding), "mend  target  cannot list s3://b: no bucket; create it");
        assert_eq!(line(&Finding::ok(Subject::Both, "route", "fine")), "ok    both    fine");
    }

    #[test]
    fn a_finding_is_one_object() {
        let finding = Finding::note(Subject::State, "clock", "late");
        let json = serde_json::to_value(FindingLine { kind: "finding", finding: &finding }).unwrap();
        let wanted = serde_json::json!({
            "type": "finding", "verdict": "note", "subject": "state", "what": "clock", "text": "late", "fix": null
        });
        assert_eq!(json, wanted);
    }
}
