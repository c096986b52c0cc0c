//! `distcp manifest create`: hashes a tree.

use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;
use distcp::assemble;
use distcp::catalog::{self, Create};
use distcp::console::args::{FilterArgs, WorkArgs, parse_chunk_size, parse_pair};
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::options::LinkMode;
use distcp::settings::Secret;
use jiff::Timestamp;
use manifest::ChunkSize;

const CODES: [ExitCode; 7] = [
    ExitCode::Done,
    ExitCode::Failed,
    ExitCode::Usage,
    ExitCode::Permission,
    ExitCode::Temporary,
    ExitCode::Interrupted,
    ExitCode::Terminated,
];

/// Hash a tree into a manifest
#[derive(Debug, Args)]
#[command(after_help = after_help("distcp manifest create ./warehouse -o warehouse.manifest", &CODES))]
pub struct CreateVerb {
    /// The tree to hash
    place: OsString,
    /// Where the manifest goes: a folder of its own, at any place
    #[arg(short, long, value_name = "M")]
    output: OsString,
    /// Symbolic links in a local tree
    #[arg(long, value_enum, default_value_t)]
    links: LinkMode,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Length of the chunks that large objects are hashed in: a power of two from 1M to 4G
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = parse_chunk_size, help_heading = "How much")]
    chunk_size: ChunkSize,
    /// A setting of the place's store for this run; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair, help_heading = "Stores")]
    source_option: Vec<(String, Secret)>,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &CreateVerb) -> Result<ExitCode> {
    let overrides = verb.source_option.iter().cloned().collect();
    let cwd = &shell.process.cwd;
    let opener = shell.opener()?;
    let (place, tree) = assemble::place_to_read(&verb.place, cwd, &overrides, verb.links, &shell.stop, &opener)?;
    let output = opener.place(&verb.output, cwd, &Default::default())?;
    if place.overlaps(&output) {
        return Err(Failure::usage(format!("the manifest {output} and the tree {place} lie in each other"))
            .hint("name another place with -o"));
    }
    let progress = Arc::default();
    let meter = tree.meter.clone();
    let work = Create {
        tree,
        output: shell.folder(&verb.output, true)?,
        filter: verb.filter.filter(Timestamp::now()),
        links: verb.links,
        limits: verb.work.limits(verb.chunk_size),
        spool: shell.process.temporary.clone(),
        progress: Arc::clone(&progress),
        stop: shell.stop.token.clone(),
    };
    let index =
        shell.shown_by(progress, vec![meter], catalog::create(work)).await.map_err(|failure| match failure.code {
            ExitCode::Interrupted => Failure { code: shell.interruption(), ..failure },
            _ => failure,
        })?;
    super::print_index(&shell.output, "manifest create", &index);
    Ok(ExitCode::Done)
}
