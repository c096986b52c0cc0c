//! `distcp demo`: the whole tool on two local trees, told as it goes. Every step is a run of this program, and every claim
//! is checked: when a step does not come out as told, the demo says so and fails.
//!
//! Writes only below its own folder: a temporary one that is removed at the end, or the one that was named, which must be
//! empty or absent and stays. A demo that is killed leaves its folder.

mod story;
mod tree;

use std::path::PathBuf;

use clap::Args;
use distcp::console::demo::{CODES, play};
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::exit::ExitCode;

/// Copy, change, mirror, interrupt, resume and verify two local trees, explained as it goes
#[derive(Debug, Args)]
#[command(after_help = after_help("distcp demo", &CODES))]
pub struct DemoVerb {
    /// Where to play: a folder that is empty or absent, and stays [default: a temporary folder, removed at the end]
    folder: Option<PathBuf>,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &DemoVerb) -> ExitCode {
    play(shell, crate::cli::PROGRAM, verb.folder.as_deref(), story::tell).await
}
