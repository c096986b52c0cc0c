//! The `metasync` program: reads the command line, hands the work to the library, prints what it reports.
//!
//! Decides nothing about data. What is read from the process environment is read by distcp's console, once.

mod cli;
mod demo;
mod metastore;
mod plan;
mod policy;
mod run;
mod status;
mod unlock;
mod verify;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    distcp::console::program::start(cli::Cli::run)
}
