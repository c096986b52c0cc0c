//! `metasync verify`: compares both metastores and the data behind them, and mends what is wrong if asked to.

use crate::cli::PROGRAM;
use crate::policy::{PolicyArgs, TableArgs};
use clap::Args;
use distcp::console::exit::{after_help, line};
use distcp::console::output::{Verbosity, bytes_text, counted};
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::quantity::parse_size;
use distcp::summary::Differences;
use distcp::verify::{Level, Mark};
use metasync::sync::Setting;
use metasync::sync::verify::cycle::{Coverage, MAX_SLICES, Portion};
use metasync::sync::verify::report::VerifySummary;
use metasync::sync::verify::{Ask, Finding, Found, Pass, verify};
use serde::Serialize;

const CODES: [ExitCode; 12] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Partial,
    ExitCode::Differs,
    ExitCode::Refused,
    ExitCode::Limited,
    ExitCode::Leased,
    ExitCode::Permission,
    ExitCode::Temporary,
    ExitCode::Interrupted,
    ExitCode::Terminated,
];

const EXAMPLE: &str = "metasync verify sales.toml
metasync verify --level content --table 'sales.orders' sales.toml
metasync verify --sample 1/30 sales.toml
metasync verify --level content --repair sales.toml

Lines:
  - object  only at the source
  + object  only on the target
  * object  they differ
  ! object  an error
  ? object  nothing proves that they are equal
  ~ object  behind: the source changed after as-of; no error, the next run brings it
  = object  equal (with --all)";

/// Compare the replica with its source, metadata and data
///
/// One line a difference. What the source changed after the last complete run is told as behind, and is no error. Nothing is
/// changed but the state, which keeps the report; with --repair the target is mended from the source.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct VerifyVerb {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    tables: TableArgs,
    /// How much of the data to look at [default: manifest; with --sample or --budget, of the rest: listing]
    #[arg(long, value_enum, hide_possible_values = false)]
    level: Option<Level>,
    /// Read the next of N slices of all data on both sides; N runs read everything
    #[arg(long, value_name = "1/N", value_parser = parse_sample, conflicts_with = "table")]
    sample: Option<u32>,
    /// Read this much of the data (50G, both sides together), going on where the last run stopped
    #[arg(long, value_name = "SIZE", value_parser = parse_budget, conflicts_with = "table")]
    budget: Option<u64>,
    /// Mend the target from the source, whoever changed it: never by cron, a promoted replica would be overwritten
    #[arg(long)]
    repair: bool,
    /// Print a line for what is equal, too
    #[arg(long)]
    all: bool,
}

fn parse_sample(text: &str) -> Result<u32, String> {
    let bad = || format!("expected 1/N with N from 1 to {MAX_SLICES}, such as 1/30, not {text:?}");
    let slices = text.strip_prefix("1/").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let slices = slices.and_then(|number| number.parse().ok());
    slices.filter(|slices| (1..=MAX_SLICES).contains(slices)).ok_or_else(bad)
}

fn parse_budget(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a budget of 0 bytes would never come to an end".to_owned()),
        bytes => Ok(bytes),
    }
}

impl VerifyVerb {
    fn ask(&self) -> Result<Ask> {
        let portion = (self.sample.is_some() || self.budget.is_some())
            .then(|| Portion { slices: self.sample.unwrap_or(1), budget_bytes: self.budget });
        let level = match (portion, self.level) {
            (Some(_), Some(Level::Content)) => {
                return Err(Failure::usage("--level content reads everything, --sample and --budget a part of it")
                    .hint("leave out --level content, or --sample and --budget"));
            }
            (Some(_), level) => level.unwrap_or(Level::Listing),
            (None, level) => level.unwrap_or_default(),
        };
        Ok(Ask { selection: self.tables.selection()?, level, portion, repair: self.repair })
    }
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &VerifyVerb) -> ExitCode {
    let prepared = verb.policy.setting(shell).and_then(|setting| Ok((setting, verb.ask()?)));
    match prepared {
        Ok((setting, ask)) => compare(shell, verb, &setting, &ask).await,
        Err(failure) => shell.fail("verify", failure),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    mark: Mark,
    object: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    after_repair: bool,
}

async fn compare(shell: &Shell, verb: &VerifyVerb, setting: &Setting, ask: &Ask) -> ExitCode {
    let (output, all) = (shell.output.clone(), verb.all);
    let mut tell = move |pass: Pass, found: Finding| {
        let Finding { mark, object, detail } = &found;
        let after_repair = pass == Pass::AfterRepair;
        if *mark == Mark::Equal && (!all || after_repair) {
            return;
        }
        let still = if after_repair { " (after the repair)" } else { "" };
        let detail = detail.as_deref();
        match (output.is_json(), detail) {
            (true, _) => output.json(&Line { kind: "difference", mark: *mark, object, detail, after_repair }),
            (false, Some(detail)) => output.data(format!("{} {object}{still}: {detail}", mark.sign())),
            (false, None) => output.data(format!("{} {object}{still}", mark.sign())),
        }
    };
    let compared = verify(setting, ask, &mut tell);
    let (summary, failure) = shell.shown_by(setting.progress.clone(), Vec::new(), compared).await;
    let output = &shell.output;
    if output.is_json() {
        output.json(&summary);
    } else if let (Some(coverage), true) = (&summary.coverage, output.verbosity() > Verbosity::Quiet) {
        output.say(coverage_words(coverage));
    }
    match (&failure, summary.exit_code) {
        (Some(failure), _) => output.error(line(PROGRAM, "verify", &failure.message, failure.hint.as_deref())),
        (None, ExitCode::Done) => output.say(words(&summary)),
        (None, _) => {
            let hint = match (ask.repair, summary.repair.is_some()) {
                (true, true) => "what the repair left is named above; metasync resync POLICY --table PATTERN does more",
                _ => {
                    "mend it with: metasync verify --repair POLICY, or tables with: metasync resync POLICY --table PATTERN"
                }
            };
            output.error(line(PROGRAM, "verify", &words(&summary), Some(hint)));
        }
    }
    summary.exit_code
}

/// What was found, and what is left of it.
fn words(summary: &VerifySummary) -> String {
    let found = summary.found();
    let mut text = match &summary.repair {
        Some(_) => format!("{}; after the repair {}", wrong(&found), wrong(&summary.left())),
        None => wrong(&found),
    };
    let behind = found.metadata.behind + found.data.behind;
    if behind > 0 {
        text.push_str(&format!(
            "; {} behind the source, which is no error",
            counted(behind, "object is", "objects are")
        ));
    }
    let Found { metadata, data } = summary.left();
    text.push_str(&format!(
        "; {} and {} are equal",
        counted(metadata.equal, "object of metadata", "objects of metadata"),
        counted(data.equal, "object of data", "objects of data")
    ));
    text
}

fn wrong(found: &Found) -> String {
    let differ = |each: &Differences| each.only_source + each.only_target + each.differ;
    let unsure = |each: &Differences| each.errors + each.unproven;
    let Found { metadata, data } = found;
    match differ(metadata) + differ(data) + unsure(metadata) + unsure(data) {
        0 => "nothing is wrong".to_owned(),
        _ => format!(
            "{} in metadata, {} in data, {} without proof",
            counted(differ(metadata), "difference", "differences"),
            differ(data),
            unsure(metadata) + unsure(data)
        ),
    }
}

/// Which part was read, and what is left of the cycle.
fn coverage_words(coverage: &Coverage) -> String {
    let Coverage { slice, objects, bytes, cycle, runs_left, .. } = coverage;
    let read = format!("read {} ({}) of slice {slice}", counted(*objects, "object", "objects"), bytes_text(*bytes));
    let rest = match (coverage.is_cycle_done, &coverage.expected) {
        (true, _) => {
            let all = counted(coverage.cycle_objects, "object", "objects");
            format!("cycle {cycle} is complete: {all} since {}", coverage.cycle_started)
        }
        (false, Some(expected)) => {
            format!("cycle {cycle} needs about {}, until {expected}", counted(*runs_left, "run more", "runs more"))
        }
        (false, None) => format!("cycle {cycle} needs about {}", counted(*runs_left, "run more", "runs more")),
    };
    format!("{read}; {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_of_so_many() {
        assert_eq!(parse_sample("1/30"), Ok(30));
        assert_eq!(parse_sample("1/1"), Ok(1));
        for bad in ["", "30", "2/30", "1/0", "1/+3", "1/10001", "1/", "1/3 "] {
            assert!(parse_sample(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_budget("50GiB"), Ok(50 << 30));
        assert_eq!(parse_budget("50G"), Ok(50 << 30));
        assert!(parse_budget("0").is_err() && parse_budget("iB").is_err() && parse_budget("5iB").is_err());
    }
}
