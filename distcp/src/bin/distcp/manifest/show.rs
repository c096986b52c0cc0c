//! `distcp manifest show`: count, bytes and digest of a manifest, and what it lists.

use std::ffi::OsString;

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::{KeyFields, Output};
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use futures::TryStreamExt as _;
use manifest::{Entry, EntryKind, Evidence};
use serde::Serialize;

const EXAMPLE: &str = "distcp manifest create ./warehouse -o warehouse.manifest
distcp manifest show warehouse.manifest --entries";

/// Show what a manifest holds: objects, bytes, digest
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &super::READ_CODES))]
pub struct ShowVerb {
    /// The manifest: a folder, at any place
    manifest: OsString,
    /// List every entry first: hash, size in bytes, kind, key
    #[arg(long)]
    entries: bool,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &ShowVerb) -> Result<ExitCode> {
    let manifest = super::open(shell, &verb.manifest).await?;
    if verb.entries {
        let mut rows = manifest.entries();
        while let Some(batch) = rows.try_next().await? {
            if shell.output.reader_gone().is_cancelled() {
                return Ok(ExitCode::Done);
            }
            batch.iter().for_each(|entry| print(&shell.output, entry));
        }
    }
    super::print_index(&shell.output, "manifest show", manifest.index());
    Ok(ExitCode::Done)
}

#[derive(Serialize)]
struct EntryLine<'a> {
    #[serde(rename = "type")]
    line: &'static str,
    #[serde(flatten)]
    key: KeyFields<'a>,
    kind: EntryKind,
    size_bytes: u64,
    blake3: Option<String>,
    evidence: Evidence,
    etag: Option<&'a str>,
}

fn print(output: &Output, entry: &Entry) {
    if output.is_json() {
        output.json(&EntryLine {
            line: "entry",
            key: KeyFields::new(&entry.key),
            kind: entry.kind,
            size_bytes: entry.size_bytes(),
            blake3: entry.hash.as_ref().map(ToString::to_string),
            evidence: entry.evidence,
            etag: entry.fingerprint.etag.as_deref(),
        });
    } else {
        output.data(text_line(entry));
    }
}

/// `HASH  SIZE  KIND  KEY`, the hash as dashes where there is none.
fn text_line(entry: &Entry) -> String {
    let hash = entry.hash.as_ref().map_or_else(|| "-".repeat(64), ToString::to_string);
    let kind = match entry.kind {
        EntryKind::Object => "object",
        EntryKind::Symlink => "link",
        EntryKind::Folder => "folder",
        EntryKind::Special => "special",
    };
    format!("{hash}  {:>12}  {kind:<7}  {}", entry.size_bytes(), entry.key.escaped())
}

#[cfg(test)]
mod tests {
    use manifest::Fingerprint;

    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let hash = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let mut entry = Entry {
            key: "a\tb".into(),
            kind: EntryKind::Object,
            hash: Some(hash.parse().unwrap()),
            evidence: Evidence::Read,
            chunks: None,
            fingerprint: Fingerprint { size_bytes: 1234, ..Fingerprint::default() },
            source: None,
            attributes: Default::default(),
        };
        assert_eq!(text_line(&entry), format!("{hash}          1234  object   a\\tb"));
        entry.hash = None;
        assert!(text_line(&entry).starts_with(&format!("{}  ", "-".repeat(64))));
    }
}
