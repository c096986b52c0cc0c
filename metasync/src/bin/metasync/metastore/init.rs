//! `metasync metastore init`: our own schema in a new SQLite file.
//!
//! A crash leaves no file, or one that is whole; a file that is there is never touched.

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use metasync::metastore::open;

use super::failure;

const CODES: [ExitCode; 4] = [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Permission];

const EXAMPLE: &str = "metasync metastore init sqlite:///srv/replica/metastore.db
metasync metastore dump sqlite:///srv/replica/metastore.db";

/// Make an empty metastore in a SQLite file
///
/// Only for sqlite: URLs. The schema of PostgreSQL and MySQL metastores is Hive's: make it with Hive's schematool.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &CODES))]
pub struct InitVerb {
    /// The file, as sqlite:///path; its folder must be there, it must not
    url: String,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &InitVerb) -> Result<ExitCode> {
    open::init(&verb.url).await.map_err(failure)?;
    shell.output.say(format!("{} holds an empty metastore now", verb.url));
    Ok(shell.done("metastore init", ExitCode::Done))
}
