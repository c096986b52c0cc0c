//! The verb `completions`: a script for the shell, from the definition of the command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{exit, program};
use crate::exit::ExitCode::{Done, Usage};

/// Print the completion script for a shell
#[derive(Debug, Args)]
pub struct CompletionsVerb {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsVerb {
    /// The end of the verb's help in `program`.
    pub fn after_help(program: &str) -> String {
        exit::after_help(&format!("{program} completions bash > {program}.bash"), &[Done, Usage])
    }

    /// Prints the script for the command line `C`.
    pub fn run<C: CommandFactory>(&self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut C::command(), program::name::<C>(), &mut script);
        // A reader that has left has seen what it wanted.
        let _ = std::io::stdout().write_all(&script);
        exit::process(Done)
    }
}
