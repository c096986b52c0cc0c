//! `metasync completions`: a script for the shell, from the definition of the command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use distcp::console::exit::{self, after_help};
use distcp::exit::ExitCode::{Done, Usage};

use crate::cli::{Cli, PROGRAM};

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = after_help("metasync completions bash > metasync.bash", &[Done, Usage]))]
pub struct CompletionsVerb {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints it.
pub fn run(verb: &CompletionsVerb) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(verb.shell, &mut Cli::command(), PROGRAM, &mut script);
    // A reader that has left has seen what it wanted.
    let _ = std::io::stdout().write_all(&script);
    exit::process(Done)
}
