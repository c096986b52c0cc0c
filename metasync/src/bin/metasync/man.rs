//! `metasync man`: manual pages, from the definition of the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use distcp::console::exit::{self, after_help};
use distcp::exit::ExitCode::{Done, Failed, Usage};

use crate::cli::{Cli, PROGRAM};

/// Write the manual pages into a folder
#[derive(Debug, Args)]
#[command(after_help = after_help("metasync man ./man1", &[Done, Failed, Usage]))]
pub struct ManVerb {
    /// The folder; made when it is missing
    folder: PathBuf,
}

/// Writes them.
pub fn run(verb: &ManVerb) -> ExitCode {
    let written =
        std::fs::create_dir_all(&verb.folder).and_then(|()| clap_mangen::generate_to(Cli::command(), &verb.folder));
    match written {
        Ok(()) => exit::process(Done),
        Err(error) => {
            let message = format!("cannot write manual pages to {}: {error}", verb.folder.display());
            distcp::console::progress::Screen::stderr().line(&exit::line(PROGRAM, "man", &message, None));
            exit::process(Failed)
        }
    }
}
