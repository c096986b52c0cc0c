//! `metasync demo`: a lake with its metastore, a replica of both, and what happens to them, told as it goes. Every step is a
//! run of this program, and every claim is checked: when a step does not come out as told, the demo says so and fails.
//!
//! Writes only below its own folder: a temporary one that is removed at the end, or the one that was named, which must be
//! empty or absent and stays. A demo that is killed leaves its folder.

mod log;
mod rows;
mod shop;
mod story;

use clap::Args;
use distcp::console::demo::{CODES, play};
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::exit::ExitCode;
use std::path::PathBuf;

const EXAMPLE: &str = "metasync demo
metasync demo ./lake-demo";

/// Build a lake, replicate it, change it, interrupt, damage and mend it, explained as it goes
///
/// Needs nothing but about 1.3 GB of disk, and takes less than a minute and a half: the metastores are SQLite files, the
/// tables are Parquet.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct DemoVerb {
    /// Where to play: a folder that is empty or absent, and stays [default: a temporary folder, removed at the end]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &DemoVerb) -> ExitCode {
    play(shell, crate::cli::PROGRAM, verb.folder.as_deref(), story::tell).await
}
