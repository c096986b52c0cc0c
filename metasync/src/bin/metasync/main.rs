//! The `metasync` program: reads the command line, hands the work to the library, prints what it reports.
//!
//! Decides nothing about data. Everything that is read from the process environment is read here, once.

mod cli;
mod completions;
mod man;
mod metastore;
mod plan;
mod policy;
mod run;
mod status;
mod unlock;
mod verify;
mod words;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use distcp::console::exit;
use distcp::console::progress::Screen;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::try_parse() {
        Ok(cli) => cli.run(),
        // Help and version, asked for or not.
        Err(error) if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.exit()
        }
        Err(error) => {
            Screen::stderr().line(&exit::wrong_usage(
                cli::PROGRAM,
                &exit::verb_of(&cli::Cli::command(), std::env::args_os()),
                &error.render().to_string(),
            ));
            exit::process(distcp::exit::ExitCode::Usage)
        }
    }
}
