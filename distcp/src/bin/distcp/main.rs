//! The `distcp` program: reads the command line, hands the work to the library, prints what it reports.
//!
//! Decides nothing about data. Everything that is read from the process environment is read here, once.

mod apply;
mod cli;
mod completions;
mod copy;
mod files_from;
mod man;
mod manifest;
mod plan;
mod shell;
mod status;
mod unlock;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
