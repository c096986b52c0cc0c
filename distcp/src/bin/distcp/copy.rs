//! `distcp copy`: makes the target hold what the source holds.

use std::ffi::OsString;

use clap::Args;
use distcp::assemble::JobSpec;
use distcp::console::args::{FilesFromArgs, FilterArgs, LimitArgs, StoreArgs, parse_chunk_size};
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::Result;
use distcp::exit::ExitCode;
use distcp::options::CopyOptions;
use distcp::run;
use jiff::Timestamp;
use manifest::ChunkSize;

use crate::{files_from, plan};

/// What a run between two places can end with.
pub const RUN_CODES: [ExitCode; 11] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Partial,
    ExitCode::Refused,
    ExitCode::Limited,
    ExitCode::Leased,
    ExitCode::Permission,
    ExitCode::Temporary,
    ExitCode::Interrupted,
    ExitCode::Terminated,
];

const EXAMPLE: &str = "distcp copy --delete ./warehouse s3://backup/warehouse
distcp copy --dry-run --exclude '**/_temporary/**' ./warehouse /mnt/backup/warehouse";

/// Make TARGET hold what SOURCE holds
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &RUN_CODES))]
pub struct CopyVerb {
    #[command(flatten)]
    pub job: JobArgs,
    /// Show what would happen, and change nothing
    #[arg(long, help_heading = "What to change")]
    pub dry_run: bool,
}

/// Two places, and what to do between them: `copy` and `plan`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// What to copy: a tree, or a single object
    pub source: OsString,
    /// Where it goes: the root of the copy, or the single object
    pub target: OsString,
    #[command(flatten)]
    pub options: CopyOptions,
    #[command(flatten)]
    pub filter: FilterArgs,
    #[command(flatten)]
    pub files: FilesFromArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Length of the chunks that large objects are hashed and sent in: a power of two from 1M to 4G
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_chunk_size, help_heading = "How much")]
    pub chunk_size: ChunkSize,
    #[command(flatten)]
    pub stores: StoreArgs,
    /// Allow the state to stand on the source's store
    #[arg(long, help_heading = "Guards")]
    pub state_on_source: bool,
}

impl JobArgs {
    /// The job that was asked for. Reads the list of `--files-from`.
    pub async fn spec(&self, shell: &Shell) -> Result<JobSpec> {
        let mut options = self.options.clone();
        options.filter = self.filter.filter(Timestamp::now());
        options.filter.listed_only = self.files.files_from.is_some();
        Ok(JobSpec {
            options,
            limits: self.limits.limits(self.chunk_size),
            files: files_from::read(&self.files, &shell.process.cwd).await?,
            state_on_source: self.state_on_source,
            ..shell.spec(&self.source, &self.target, &self.limits.pace, &self.stores)
        })
    }
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &CopyVerb) -> ExitCode {
    let spec = match verb.job.spec(shell).await {
        Ok(spec) => spec,
        Err(failure) => return shell.fail("copy", failure),
    };
    match verb.dry_run {
        true => plan::show(shell, "copy", spec, None).await,
        false => shell.run_job("copy", spec, async |job| Some(run::copy(job).await)).await,
    }
}
