//! `distcp apply`: does a plan that was made before.

use std::path::PathBuf;

use clap::Args;
use distcp::assemble::JobSpec;
use distcp::console::args::{LimitArgs, StoreArgs};
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::plan::file::Plan;
use distcp::run;
use manifest::ChunkSize;

use crate::copy::RUN_CODES;

const EXAMPLE: &str = "distcp plan ./warehouse s3://backup/warehouse -o warehouse.plan
distcp apply warehouse.plan";

/// Do a plan, unless its target has moved on since
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &RUN_CODES))]
pub struct ApplyVerb {
    /// The plan, made by `distcp plan`
    plan: PathBuf,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    stores: StoreArgs,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &ApplyVerb) -> ExitCode {
    let plan = shell.path(&verb.plan);
    match spec(shell, verb, plan.clone()).await {
        Ok(spec) => shell.run_job("apply", spec, async |job| Some(run::apply(job, &plan).await)).await,
        Err(failure) => shell.fail("apply", failure),
    }
}

/// The job that the plan is of: its places, its state and its options, none of which are asked for again.
async fn spec(shell: &Shell, verb: &ApplyVerb, path: PathBuf) -> Result<JobSpec> {
    let header = tokio::task::spawn_blocking(move || Plan::open(&path).map(|plan| plan.header)).await??;
    let chunk_size = ChunkSize::new(header.chunk_bytes)
        .map_err(|error| Failure::usage(format!("the plan is of no use: {error}")))?;
    let (source, target) = (place_of(&header.source), place_of(&header.target));
    let mut options = header.options;
    options.trash = options.trash.map(|trash| place_of(&trash).to_owned());
    let spec = shell.spec(source.as_ref(), target.as_ref(), &verb.limits.pace, &verb.stores);
    Ok(JobSpec {
        state: spec.state.or_else(|| Some(header.state.into())),
        name: spec.name.or(Some(header.job)),
        options,
        limits: verb.limits.limits(chunk_size),
        // Where the state may stand was decided when the plan was made.
        state_on_source: true,
        ..spec
    })
}

/// The place of an identity (`s3://lake at https://s3.example`): the service is found again by the configuration.
fn place_of(identity: &str) -> &str {
    match identity.rsplit_once(" at ") {
        Some((place, service)) if service.contains("://") => place,
        _ => identity,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_places_with_their_service() {
        let table = [
            ("/data/lake", "/data/lake"),
            ("s3://lake/x", "s3://lake/x"),
            ("s3://lake/x at https://s3.example", "s3://lake/x"),
            ("/data/meet at noon", "/data/meet at noon"),
        ];
        for (identity, place) in table {
            assert_eq!(place_of(identity), place);
        }
    }
}
