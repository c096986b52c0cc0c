//! The `distcp` program: reads the command line, hands the work to the library, prints what it reports.
//!
//! Decides nothing about data. What is read from the process environment is read by the library's console, once.

mod apply;
mod check;
mod cli;
mod copy;
mod demo;
mod files_from;
mod manifest;
mod plan;
mod status;
mod unlock;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    distcp::console::program::start(cli::Cli::run)
}
