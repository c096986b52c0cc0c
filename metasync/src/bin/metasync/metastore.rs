//! `metasync metastore`: what concerns one metastore by itself.

mod dump;
mod init;

use clap::{Args, Subcommand};
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use metasync::metastore::{Metastore, open};
use metasync::sync::failure;

/// Print what a metastore holds, or make an empty one
#[derive(Debug, Args)]
pub struct MetastoreVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Dump(dump::DumpVerb),
    Init(init::InitVerb),
}

/// Runs the one that was asked for.
pub async fn run(shell: &Shell, verb: &MetastoreVerb) -> ExitCode {
    let (command, result) = match &verb.verb {
        Verb::Dump(verb) => ("metastore dump", dump::run(shell, verb).await),
        Verb::Init(verb) => ("metastore init", init::run(shell, verb).await),
    };
    result.unwrap_or_else(|failure| shell.fail(command, failure))
}

/// Opens the metastore at `url` with what the process may know.
async fn metastore(shell: &Shell, url: &str) -> Result<Box<dyn Metastore>> {
    open::open(url, &shell.process.environment).await.map_err(failure)
}
