//! `distcp manifest`: makes manifests, and looks at them.

mod check;
mod create;
mod diff;
mod show;
mod sums;

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use distcp::console::output::{Output, aligned, bytes_text, grouped};
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use manifest::{Index, Manifest};
use serde::Serialize;

/// Make manifests of trees, and look at them
#[derive(Debug, Args)]
pub struct ManifestVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Box<create::CreateVerb>),
    Show(show::ShowVerb),
    Sums(sums::SumsVerb),
    Diff(diff::DiffVerb),
    Check(check::CheckVerb),
}

/// What looking at a manifest can end with, when nothing is found.
const READ_CODES: [ExitCode; 5] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Permission, ExitCode::Temporary];

/// Runs it.
pub async fn run(shell: &Shell, verb: &ManifestVerb) -> ExitCode {
    let (command, ended) = match &verb.verb {
        Verb::Create(verb) => ("manifest create", create::run(shell, verb).await),
        Verb::Show(verb) => ("manifest show", show::run(shell, verb).await),
        Verb::Sums(verb) => ("manifest sums", sums::run(shell, verb).await),
        Verb::Diff(verb) => ("manifest diff", diff::run(shell, verb).await),
        Verb::Check(verb) => ("manifest check", check::run(shell, verb).await),
    };
    ended.unwrap_or_else(|failure| shell.fail(command, failure))
}

/// The manifest in a folder at any place; the newest, when there are several.
async fn open(shell: &Shell, place: &OsStr) -> Result<Manifest> {
    Ok(Manifest::find_single(shell.folder(place, false)?, "").await?)
}

/// What an index says, under `--json`.
#[derive(Serialize)]
struct ManifestSummary<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    command: &'static str,
    exit_code: ExitCode,
    outcome: &'static str,
    manifest: String,
    digest: String,
    root: &'a str,
    created: String,
    complete: bool,
    objects: u64,
    hashed: u64,
    bytes: u64,
    parts: usize,
}

/// Prints count, bytes and digest of a manifest: the summary of `create` and `show`.
fn print_index(output: &Output, command: &'static str, index: &Index) {
    let totals = &index.totals;
    if output.is_json() {
        output.json(&ManifestSummary {
            kind: "summary",
            command,
            exit_code: ExitCode::Done,
            outcome: ExitCode::Done.word(),
            manifest: index.id.to_string(),
            digest: index.content.to_string(),
            root: &index.root,
            created: index.created.to_string(),
            complete: index.complete,
            objects: totals.entries,
            hashed: totals.hashed,
            bytes: totals.bytes,
            parts: index.parts.len(),
        });
        return;
    }
    output.data(aligned(&[
        ("manifest", index.id.to_string()),
        ("of", index.root.clone()),
        ("created", index.created.to_string()),
        ("objects", grouped(totals.entries)),
        ("hashed", grouped(totals.hashed)),
        ("bytes", format!("{} ({})", grouped(totals.bytes), bytes_text(totals.bytes))),
        ("digest", index.content.to_string()),
    ]));
}
