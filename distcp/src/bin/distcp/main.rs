//! The `distcp` program: reads the command line, hands the work to the library, prints what it reports.
//!
//! Decides nothing about data. Everything that is read from the process environment is read here, once.

mod apply;
mod arenas;
mod check;
mod cli;
mod completions;
mod copy;
mod demo;
mod files_from;
mod man;
mod manifest;
mod plan;
mod status;
mod unlock;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use distcp::console::exit;
use distcp::console::progress::Screen;

fn main() -> ExitCode {
    arenas::limit();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic that becomes the error of a damaged file is told as that.
        if !::manifest::contained::is_active() {
            usual(panic);
        }
    }));
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
