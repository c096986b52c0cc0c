//! `distcp manifest diff`: two manifests compared. Parts that both share are not read.

use std::ffi::OsString;

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use distcp::run::Report;
use distcp::summary::{Differences, Summary};
use distcp::verify::{self, Lineage, Mark};
use futures::TryStreamExt as _;
use manifest::{Difference, Unlike, diff_manifests};

use crate::verify::print;

const CODES: [ExitCode; 7] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Partial,
    ExitCode::Differs,
    ExitCode::Permission,
    ExitCode::Temporary,
];

const EXAMPLE: &str = "distcp manifest diff monday.manifest tuesday.manifest

Lines:
  - key  only in A
  + key  only in B
  * key  they differ
  ? key  nothing proves that they are equal";

/// Compare two manifests
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct DiffVerb {
    /// One manifest: a folder, at any place
    #[arg(value_name = "A")]
    left: OsString,
    /// The other
    #[arg(value_name = "B")]
    right: OsString,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &DiffVerb) -> Result<ExitCode> {
    let clock = tokio::time::Instant::now();
    let left = super::open(shell, &verb.left).await?;
    let right = super::open(shell, &verb.right).await?;
    let mut found = Differences::default();
    let mut batches = diff_manifests(&left, &right);
    while let Some(batch) = batches.try_next().await? {
        for Difference { key, unlike } in batch {
            if shell.output.reader_gone().is_cancelled() {
                return Ok(ExitCode::Failed);
            }
            let (mark, counter) = match unlike {
                Unlike::OnlyLeft => (Mark::OnlySource, &mut found.only_source),
                Unlike::OnlyRight => (Mark::OnlyTarget, &mut found.only_target),
                Unlike::Differ => (Mark::Differ, &mut found.differ),
                Unlike::Unproven => (Mark::Unproven, &mut found.unproven),
            };
            *counter += 1;
            print(&shell.output, &verify::Difference { mark, key, detail: None, lineage: Lineage::default() });
        }
    }
    let on_both = left.index().totals.entries - found.only_source;
    found.equal = on_both - found.differ - found.unproven;
    let mut summary = Summary::new("manifest diff", "");
    summary.counts.listed = on_both + found.only_source + found.only_target;
    summary.counts.equal = found.equal;
    summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    summary.end(code(&found));
    summary.differences = Some(found);
    Ok(shell.output.end(&Report { summary, failure: None }))
}

/// 4 if anything differs, 3 if only proof is missing.
fn code(found: &Differences) -> ExitCode {
    match (found.only_source + found.only_target + found.differ, found.unproven) {
        (0, 0) => ExitCode::Done,
        (0, _) => ExitCode::Partial,
        _ => ExitCode::Differs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_is_4_and_missing_proof_alone_is_3() {
        let table = [
            (Differences::default(), ExitCode::Done),
            (Differences { equal: 3, unproven: 1, ..Differences::default() }, ExitCode::Partial),
            (Differences { only_source: 1, unproven: 1, ..Differences::default() }, ExitCode::Differs),
            (Differences { only_target: 1, ..Differences::default() }, ExitCode::Differs),
            (Differences { differ: 1, ..Differences::default() }, ExitCode::Differs),
        ];
        for (found, expected) in table {
            assert_eq!(code(&found), expected, "{found:?}");
        }
    }
}
