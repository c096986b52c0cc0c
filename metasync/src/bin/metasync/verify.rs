//! `metasync verify`: compares both metastores and the data behind them, and changes nothing.

use crate::policy::{PolicyArgs, TableArgs};
use clap::Args;
use distcp::console::exit::{after_help, line};
use distcp::console::output::counted;
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use distcp::verify::{Level, Mark};
use metasync::sync::verify::{Finding, verify};
use serde::Serialize;

const CODES: [ExitCode; 7] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Partial,
    ExitCode::Differs,
    ExitCode::Permission,
    ExitCode::Temporary,
];

const EXAMPLE: &str = "metasync verify sales.toml
metasync verify --level content --table 'sales.orders' sales.toml";

/// Compare the replica with its source, metadata and data, and change nothing
///
/// One line a difference: - only at the source, + only on the target, * they differ, ! an error, ? nothing proves that they
/// are equal.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct VerifyVerb {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    tables: TableArgs,
    /// How much of the data to look at
    #[arg(long, value_enum, default_value_t)]
    level: Level,
    /// Print a line for what is equal, too
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &VerifyVerb) -> ExitCode {
    match compare(shell, verb).await {
        Ok(code) => code,
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
}

async fn compare(shell: &Shell, verb: &VerifyVerb) -> Result<ExitCode> {
    let setting = verb.policy.setting(shell)?;
    let selection = verb.tables.selection()?;
    let (output, all) = (shell.output.clone(), verb.all);
    let mut tell = move |found: Finding| {
        let Finding { mark, object, detail } = &found;
        if *mark == Mark::Equal && !all {
            return;
        }
        match (output.is_json(), detail) {
            (true, _) => output.json(&Line { kind: "difference", mark: *mark, object, detail: detail.as_deref() }),
            (false, Some(detail)) => output.data(format!("{} {object}: {detail}", mark.sign())),
            (false, None) => output.data(format!("{} {object}", mark.sign())),
        }
    };
    let compared = verify(&setting, &selection, verb.level, &mut tell);
    let found = shell.shown_by(setting.progress.clone(), Vec::new(), compared).await?;
    let code = shell.done("verify", found.code());
    let equal = format!(
        "{} and {} are equal",
        counted(found.metadata.equal, "object of metadata", "objects of metadata"),
        counted(found.data.equal, "object of data", "objects of data")
    );
    match code {
        ExitCode::Done => shell.output.say(equal),
        _ => {
            let sum = |each: distcp::summary::Differences| each.only_source + each.only_target + each.differ;
            let errors = |each: distcp::summary::Differences| each.errors + each.unproven;
            let message = format!(
                "{} in metadata, {} in data, {} without proof; {equal}",
                counted(sum(found.metadata), "difference", "differences"),
                sum(found.data),
                errors(found.metadata) + errors(found.data)
            );
            let hint = "mend tables with: metasync resync POLICY --table PATTERN";
            shell.output.error(line(crate::cli::PROGRAM, "verify", &message, Some(hint)));
        }
    }
    Ok(code)
}
