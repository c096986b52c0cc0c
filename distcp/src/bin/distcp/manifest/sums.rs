//! `distcp manifest sums`: lines that `b3sum --check` reads.

use std::ffi::OsString;

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::counted;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use futures::TryStreamExt as _;
use manifest::sums::{Sum, sum};
use serde::Serialize;

const CODES: [ExitCode; 6] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Partial, ExitCode::Permission, ExitCode::Temporary];

const EXAMPLE: &str = "distcp manifest create ./warehouse -o warehouse.manifest
distcp manifest sums warehouse.manifest > warehouse.b3";

/// Print a manifest as lines that `b3sum --check` reads
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct SumsVerb {
    /// The manifest: a folder, at any place
    manifest: OsString,
}

#[derive(Serialize)]
struct SumLine {
    #[serde(rename = "type")]
    kind: &'static str,
    line: String,
}

/// Runs it. Objects that cannot be such a line are named on stderr, and the exit code is 3.
pub async fn run(shell: &Shell, verb: &SumsVerb) -> Result<ExitCode> {
    let output = &shell.output;
    let manifest = super::open(shell, &verb.manifest).await?;
    let mut left_out = 0;
    let mut rows = manifest.entries();
    while let Some(batch) = rows.try_next().await? {
        if output.reader_gone().is_cancelled() {
            return Ok(ExitCode::Done);
        }
        for entry in &batch {
            let reason = match sum(entry) {
                Sum::Line(line) if output.is_json() => {
                    output.json(&SumLine { kind: "sum", line });
                    continue;
                }
                Sum::Line(line) => {
                    output.data(line);
                    continue;
                }
                Sum::NotAnObject => continue,
                Sum::NoHash => "it has no hash",
                Sum::Unspeakable(reason) => reason,
            };
            left_out += 1;
            output.error(format!("no line for {}: {reason}", entry.key.escaped()));
        }
    }
    match left_out {
        0 => Ok(shell.done("manifest sums", ExitCode::Done)),
        _ => Err(Failure::new(ExitCode::Partial, counted(left_out, "object has no line", "objects have no line"))),
    }
}
