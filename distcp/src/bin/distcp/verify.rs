//! `distcp verify`: compares two places and changes nothing.

use std::ffi::OsString;

use clap::Args;
use distcp::assemble::JobSpec;
use distcp::console::args::{FilterArgs, PaceArgs, StoreArgs, WorkArgs, parse_chunk_size};
use distcp::console::exit::after_help;
use distcp::console::output::{KeyFields, Output};
use distcp::console::shell::Shell;
use distcp::exit::ExitCode;
use distcp::job::Job;
use distcp::options::{CopyOptions, LinkMode};
use distcp::run::Report;
use distcp::verify::{self, Difference, Level, Mark};
use jiff::Timestamp;
use manifest::ChunkSize;
use serde::Serialize;

/// What a comparison can end with.
const CODES: [ExitCode; 9] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Partial,
    ExitCode::Differs,
    ExitCode::Permission,
    ExitCode::Temporary,
    ExitCode::Interrupted,
    ExitCode::Terminated,
];

const EXAMPLE: &str = "distcp verify ./warehouse s3://backup/warehouse
distcp verify --level content ./warehouse s3://backup/warehouse

Lines:
  - key  only in SOURCE
  + key  only in TARGET
  * key  they differ
  ! key  it could not be compared
  ? key  nothing proves that they are equal (--level content reads them)
  = key  equal (with --all)";

/// Compare two places and change nothing
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct VerifyVerb {
    /// What was copied
    source: OsString,
    /// Where it went
    target: OsString,
    /// How much to look at
    #[arg(long, value_enum, default_value_t)]
    level: Level,
    /// Print the keys that are equal, too
    #[arg(long)]
    all: bool,
    /// Symbolic links in a local tree
    #[arg(long, value_enum, default_value_t)]
    links: LinkMode,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    pace: PaceArgs,
    /// Length of the chunks that are read at once: a power of two from 1M to 4G
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_chunk_size, help_heading = "How much")]
    chunk_size: ChunkSize,
    #[command(flatten)]
    stores: StoreArgs,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &VerifyVerb) -> ExitCode {
    shell.run_job("verify", spec(shell, verb), async |job| compare(&shell.output, verb, job).await).await
}

fn spec(shell: &Shell, verb: &VerifyVerb) -> JobSpec {
    let options =
        CopyOptions { filter: verb.filter.filter(Timestamp::now()), links: verb.links, ..CopyOptions::default() };
    JobSpec {
        options,
        limits: verb.work.limits(verb.chunk_size),
        // Nothing is written: where the state stands does no harm.
        state_on_source: true,
        create_state: false,
        ..shell.spec(&verb.source, &verb.target, &verb.pace, &verb.stores)
    }
}

/// Compares; `None` when nobody reads the lines any more, which are all that this verb is for. What was not compared then
/// is not equal: the exit code is not 0.
async fn compare(output: &Output, verb: &VerifyVerb, job: &Job) -> Option<Report> {
    let sink = |found: Difference| {
        if verb.all || found.mark != Mark::Equal {
            print(output, &found);
        }
    };
    tokio::select! {
        report = verify::verify(job, verb.level, sink) => Some(report),
        () = output.reader_gone().cancelled() => None,
    }
}

/// A finding under `--json`.
#[derive(Serialize)]
struct DifferenceLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    key: KeyFields<'a>,
    mark: Mark,
    detail: Option<&'a str>,
}

/// Prints a finding: `* key` on stdout, and in what it differs on stderr with `-v`.
pub fn print(output: &Output, found: &Difference) {
    if output.is_json() {
        let (key, detail) = (KeyFields::new(&found.key), found.detail.as_deref());
        output.json(&DifferenceLine { kind: "difference", key, mark: found.mark, detail });
        return;
    }
    output.data(text_line(found));
    let tells = found.mark == Mark::Error || output.verbosity() == distcp::console::output::Verbosity::Verbose;
    if let Some(detail) = found.detail.as_ref().filter(|_| tells) {
        output.error(format!("{}: {detail}", found.key.escaped()));
    }
}

fn text_line(found: &Difference) -> String {
    format!("{} {}", found.mark.sign(), found.key.escaped())
}

#[cfg(test)]
mod tests {
    use super::*;
    use distcp::verify::Lineage;

    #[test]
    fn case_42_findings_are_a_sign_and_an_escaped_key() {
        let table = [
            (Mark::OnlySource, "a", "- a"),
            (Mark::OnlyTarget, "a b", "+ a b"),
            (Mark::Differ, "a\nb", "* a\\nb"),
            (Mark::Error, "\\", "! \\\\"),
            (Mark::Unproven, "a", "? a"),
            (Mark::Equal, "a", "= a"),
        ];
        for (mark, key, line) in table {
            let (detail, lineage) = (Some("size differs".into()), Lineage::default());
            let found = Difference { mark, key: key.into(), detail, lineage };
            assert_eq!(text_line(&found), line);
        }
        let key = "k\u{1}".into();
        let line =
            DifferenceLine { kind: "difference", key: KeyFields::new(&key), mark: Mark::OnlySource, detail: None };
        let json = serde_json::to_value(line).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"type": "difference", "key_base64": "awE=", "mark": "only_source", "detail": null})
        );
    }
}
