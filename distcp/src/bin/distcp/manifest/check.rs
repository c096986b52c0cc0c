//! `distcp manifest check`: is a manifest complete and undamaged. Reads all of it.

use std::ffi::OsString;

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::{KeyFields, counted};
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use manifest::check::check;
use serde::Serialize;

const EXAMPLE: &str = "distcp manifest create ./warehouse -o warehouse.manifest
distcp manifest check warehouse.manifest";

/// Check that a manifest is complete and undamaged
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &super::READ_CODES))]
pub struct CheckVerb {
    /// The manifest: a folder, at any place
    manifest: OsString,
}

#[derive(Serialize)]
struct ProblemLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    part: String,
    #[serde(flatten)]
    key: Option<KeyFields<'a>>,
    reason: &'a str,
}

/// Runs it. What is wrong is on stdout, a line each; then the exit code is 1.
pub async fn run(shell: &Shell, verb: &CheckVerb) -> Result<ExitCode> {
    let output = &shell.output;
    let manifest = super::open(shell, &verb.manifest).await?;
    let checked = check(&manifest).await?;
    for problem in &checked.problems {
        let part = problem.part.to_string();
        if output.is_json() {
            let key = problem.key.as_ref().map(KeyFields::new);
            output.json(&ProblemLine { kind: "problem", part, key, reason: &problem.reason });
            continue;
        }
        output.data(match &problem.key {
            Some(key) => format!("part {part}: {}: {}", key.escaped(), problem.reason),
            None => format!("part {part}: {}", problem.reason),
        });
    }
    match checked.problem_count {
        0 => {
            let (entries, parts) =
                (counted(checked.entries, "entry", "entries"), counted(checked.parts, "part", "parts"));
            output.say(format!("complete and undamaged: {entries} in {parts}"));
            Ok(shell.done("manifest check", ExitCode::Done))
        }
        count => Err(Failure::new(ExitCode::Failed, counted(count, "problem was found", "problems were found"))),
    }
}
