//! `distcp plan`, and `copy --dry-run`: what would happen. Changes neither target nor state.

use std::path::{Path, PathBuf};

use clap::Args;
use distcp::assemble::JobSpec;
use distcp::console::exit::after_help;
use distcp::console::output::{KeyFields, Output, Verbosity, bytes_text, counted, grouped};
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::event::Means;
use distcp::exit::ExitCode;
use distcp::plan::file::{Plan, PlanHeader};
use distcp::plan::{Action, PlanTotals, Step};
use distcp::run;
use distcp::summary::{Counts, Summary};
use serde::Serialize;

use crate::copy::JobArgs;

const CODES: [ExitCode; 8] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Refused,
    ExitCode::Permission,
    ExitCode::Temporary,
    ExitCode::Interrupted,
    ExitCode::Terminated,
];

const EXAMPLE: &str = "distcp plan --delete ./warehouse s3://backup/warehouse -o warehouse.plan
distcp apply warehouse.plan";

/// Write what a copy would do into a plan, to be read and applied later
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct PlanVerb {
    #[command(flatten)]
    pub job: JobArgs,
    /// Where the plan goes: a Parquet file
    #[arg(short, long, value_name = "PLAN")]
    pub output: PathBuf,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &PlanVerb) -> ExitCode {
    match verb.job.spec(shell).await {
        Ok(spec) => show(shell, "plan", spec, Some(shell.path(&verb.output))).await,
        Err(failure) => shell.fail("plan", failure),
    }
}

/// Makes the plan, keeps it in `file`, and prints it. One that a guard refuses is printed and not kept.
pub async fn show(shell: &Shell, command: &'static str, spec: JobSpec, file: Option<PathBuf>) -> ExitCode {
    let spec = JobSpec { create_state: false, ..spec };
    let clock = tokio::time::Instant::now();
    let planned = async {
        let job = shell.job(spec).await?;
        let (plan, refusal) = shell.shown(&job, run::draft(&job)).await?;
        let (source, target) = (job.source.meter.snapshot(), job.target.meter.snapshot());
        let mut summary = Summary::new(command, job.name.as_str());
        summary.requests = source.requests + target.requests;
        summary.retries = source.retries + target.retries;
        summary.bytes.read = source.bytes.read + target.bytes.read;
        let (output, by_service) = (shell.output.clone(), job.copied_by_service());
        // Rows are read and printed on a thread of their own: a plan may be long, and a pager slow.
        tokio::task::spawn_blocking(move || {
            if let Some(file) = file.as_ref().filter(|_| refusal.is_none()) {
                keep(plan.path(), file)?;
            }
            print(&output, &plan, by_service)?;
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
            end(&output, fill(summary, &plan.header, file.as_deref()));
            Ok::<_, Failure>(ExitCode::Done)
        })
        .await?
    };
    planned.await.unwrap_or_else(|failure| shell.fail(command, failure))
}

/// Copies the finished plan to where it was asked for, whole or not at all.
fn keep(plan: &Path, file: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::new(ExitCode::Failed, format!("cannot write the plan to {}: {error}", file.display()))
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut whole = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut from = std::fs::File::open(plan).map_err(failed)?;
    std::io::copy(&mut from, &mut whole).map_err(failed)?;
    whole.as_file().sync_all().map_err(failed)?;
    whole.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

fn print(output: &Output, plan: &Plan, by_service: bool) -> Result<()> {
    for action in plan.actions()? {
        if output.reader_gone().is_cancelled() {
            break;
        }
        let action = action?;
        if output.is_json() {
            if !matches!(action.step, Step::Record | Step::Forget) {
                output.json(&ActionLine::new(&action, by_service));
            }
        } else if is_work(&action) || output.verbosity() == Verbosity::Verbose {
            output.data(text_line(&action, by_service));
        }
    }
    Ok(())
}

/// Whether an action changes the target, or may, or cannot be done.
fn is_work(action: &Action) -> bool {
    matches!(action.step, Step::Copy | Step::Compare | Step::Delete | Step::Fail)
}

fn verb(step: Step) -> &'static str {
    match step {
        Step::Copy => "copy",
        Step::Compare => "compare",
        Step::Delete => "delete",
        Step::Record => "record",
        Step::Forget => "forget",
        Step::Skip => "skip",
        Step::Fail => "fail",
    }
}

/// How its bytes will move; `by_service`: the service is asked to copy from the source.
fn means(action: &Action, by_service: bool) -> Means {
    match (action.step, &action.donor) {
        (Step::Copy, Some(_)) => Means::ServerSide,
        (Step::Copy, None) if by_service => Means::ServerSide,
        (Step::Copy, None) => Means::Streamed,
        _ => Means::None,
    }
}

/// `copy a/b (1.2 MiB, new)`.
fn text_line(action: &Action, by_service: bool) -> String {
    let mut parts = Vec::new();
    if matches!(action.step, Step::Copy | Step::Compare | Step::Delete) {
        parts.push(bytes_text(action.size_bytes()));
    }
    if let Some(donor) = &action.donor {
        parts.push(format!("server-side from {}", donor.entry.key.escaped()));
    } else if means(action, by_service) == Means::ServerSide {
        parts.push("server-side".to_owned());
    }
    parts.push(action.reason.words().to_owned());
    format!("{} {} ({})", verb(action.step), action.key.escaped(), parts.join(", "))
}

#[derive(Serialize)]
struct ActionLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    key: KeyFields<'a>,
    step: &'static str,
    means: Means,
    size_bytes: u64,
    reason: &'static str,
}

impl<'a> ActionLine<'a> {
    fn new(action: &'a Action, by_service: bool) -> Self {
        Self {
            kind: "action",
            key: KeyFields::new(&action.key),
            step: verb(action.step),
            means: means(action, by_service),
            size_bytes: action.size_bytes(),
            reason: action.reason.words(),
        }
    }
}

/// The summary of a plan: that of a run that does all of it and finds nothing equal that it has to compare.
#[derive(Serialize)]
struct PlanSummary {
    #[serde(flatten)]
    summary: Summary,
    dry_run: bool,
    plan: Option<String>,
    planned: PlanTotals,
}

fn fill(mut summary: Summary, header: &PlanHeader, file: Option<&Path>) -> PlanSummary {
    let totals = header.totals.clone();
    summary.run_id.clone_from(&header.id);
    summary.manifest.clone_from(&header.base);
    summary.counts = Counts {
        listed: totals.listed,
        equal: totals.equal,
        copied: totals.copies + totals.compares,
        deleted: totals.deletes,
        skipped: totals.skipped,
        failed: totals.failed,
    };
    summary.bytes.source = totals.source_bytes;
    summary.links_skipped = totals.links;
    PlanSummary { summary, dry_run: true, plan: file.map(|file| file.display().to_string()), planned: totals }
}

fn end(output: &Output, planned: PlanSummary) {
    if output.is_json() {
        output.json(&planned);
        return;
    }
    output.say(words(&planned.planned));
    if let Some(file) = planned.plan {
        output.say(format!("do it with: distcp apply {file}"));
    }
}

/// What would happen, in a line.
fn words(totals: &PlanTotals) -> String {
    let mut line =
        format!("would copy {} ({})", counted(totals.copies, "object", "objects"), bytes_text(totals.copy_bytes));
    if totals.server_side > 0 {
        line.push_str(&format!(", {} of them server-side", grouped(totals.server_side)));
    }
    if totals.compares > 0 {
        let size = bytes_text(totals.compare_bytes);
        line.push_str(&format!(", read {} ({size}) to see whether they differ", grouped(totals.compares)));
    }
    let others = [(totals.deletes, "delete"), (totals.skipped, "skip"), (totals.failed, "fail on")];
    for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!(", {what} {}", grouped(*count)));
    }
    line.push_str(&format!("; {}", counted(totals.equal, "is equal", "are equal")));
    line
}

#[cfg(test)]
mod tests {
    use distcp::plan::{Donor, Reason};
    use manifest::{Entry, EntryKind, Evidence, Fingerprint};

    use super::*;

    fn action(step: Step, key: &str, reason: Reason) -> Action {
        let fingerprint = Fingerprint { size_bytes: 2048, ..Fingerprint::default() };
        Action {
            key: key.into(),
            step,
            reason,
            kind: EntryKind::Object,
            source: Some(fingerprint),
            target: None,
            entry: None,
            donor: None,
        }
    }

    #[test]
    fn actions_are_lines_for_people_and_for_programs() {
        let mut renamed = action(Step::Copy, "b", Reason::New);
        let entry = Entry {
            key: "a\n".into(),
            kind: EntryKind::Object,
            hash: None,
            evidence: Evidence::None,
            chunks: None,
            fingerprint: Fingerprint::default(),
            source: None,
            attributes: Default::default(),
        };
        renamed.donor = Some(Donor { entry });
        let table = [
            (action(Step::Copy, "a", Reason::New), "copy a (2.0 KiB, new)", "streamed"),
            (renamed, "copy b (2.0 KiB, server-side from a\\n, new)", "server_side"),
            (action(Step::Skip, "a\n", Reason::Filtered), "skip a\\n (filtered)", "none"),
            (action(Step::Delete, "x", Reason::Extra), "delete x (2.0 KiB, only on the target)", "none"),
        ];
        for (action, line, means) in table {
            assert_eq!(text_line(&action, false), line);
            let json = serde_json::to_value(ActionLine::new(&action, false)).unwrap();
            assert_eq!((json["type"].as_str(), json["means"].as_str()), (Some("action"), Some(means)), "{json}");
        }
    }

    #[test]
    fn what_the_service_is_to_copy_is_marked() {
        let copy = action(Step::Copy, "a", Reason::New);
        assert_eq!(text_line(&copy, true), "copy a (2.0 KiB, server-side, new)");
        assert_eq!(means(&copy, true), Means::ServerSide);
        assert_eq!(means(&action(Step::Skip, "a", Reason::Filtered), true), Means::None);
    }

    #[test]
    fn rule_14_the_counts_of_a_plan_add_up() {
        let totals = PlanTotals {
            listed: 21,
            equal: 6,
            copies: 5,
            compares: 4,
            deletes: 3,
            skipped: 2,
            failed: 1,
            copy_bytes: 10,
            ..PlanTotals::default()
        };
        let header = PlanHeader {
            job: "j".into(),
            source: "/a".into(),
            target: "/b".into(),
            state: "/s".into(),
            id: "run".into(),
            base: None,
            as_of: String::new(),
            options: Default::default(),
            chunk_bytes: 1,
            totals,
        };
        let summary = serde_json::to_value(fill(Summary::new("copy", "j"), &header, None)).unwrap();
        let counts = summary["counts"].as_object().unwrap();
        let count = |name: &str| counts[name].as_u64().unwrap();
        let sum: u64 = ["equal", "copied", "deleted", "skipped", "failed"].map(count).iter().sum();
        assert_eq!(
            (sum, summary["dry_run"].as_bool(), summary["planned"]["compares"].as_u64()),
            (count("listed"), Some(true), Some(4))
        );
        assert_eq!(
            words(&header.totals),
            "would copy 5 objects (10 B), read 4 (0 B) to see whether they differ, delete 3, skip 2, fail on 1; 6 are equal"
        );
    }

    #[test]
    fn a_plan_is_kept_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (made, kept) = (folder.path().join("made"), folder.path().join("kept"));
        std::fs::write(&made, "rows").unwrap();
        keep(&made, &kept).unwrap();
        assert_eq!(std::fs::read(&kept).unwrap(), b"rows");
        let error = keep(&folder.path().join("gone"), &kept).unwrap_err();
        assert!(error.message.contains("kept"), "{error}");
        assert_eq!(std::fs::read(&kept).unwrap(), b"rows");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary is left");
    }
}
