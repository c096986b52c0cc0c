//! The verb `man`: manual pages, from the definition of the command line. A crash leaves some of them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::progress::Screen;
use super::{exit, program};
use crate::exit::ExitCode::{Done, Failed, Usage};

/// Write the manual pages into a folder
#[derive(Debug, Args)]
pub struct ManVerb {
    /// The folder; made when it is missing
    folder: PathBuf,
}

impl ManVerb {
    /// The end of the verb's help in `program`.
    pub fn after_help(program: &str) -> String {
        exit::after_help(&format!("{program} man ./man1"), &[Done, Failed, Usage])
    }

    /// Writes the pages of the command line `C`.
    pub fn run<C: CommandFactory>(&self) -> ExitCode {
        let written =
            std::fs::create_dir_all(&self.folder).and_then(|()| clap_mangen::generate_to(C::command(), &self.folder));
        match written {
            Ok(()) => exit::process(Done),
            Err(error) => {
                let message = format!("cannot write manual pages to {}: {error}", self.folder.display());
                Screen::stderr().line(&exit::line(&program::name::<C>(), "man", &message, None));
                exit::process(Failed)
            }
        }
    }
}
