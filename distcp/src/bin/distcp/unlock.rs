//! `distcp unlock`: breaks the lease of a run that is gone, after showing it.

use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::jobs;

use crate::status::job_name;

const CODES: [ExitCode; 6] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Leased, ExitCode::Permission, ExitCode::Temporary];

/// Break the lease of a run that is gone, after showing it
#[derive(Debug, Args)]
#[command(after_help = after_help("distcp unlock --job lake --yes", &CODES))]
pub struct UnlockVerb {
    /// Break it; without this the lease is only shown
    #[arg(long)]
    yes: bool,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &UnlockVerb) -> ExitCode {
    match unlock(shell, verb.yes).await {
        Ok(code) => code,
        Err(failure) => shell.fail("unlock", failure),
    }
}

async fn unlock(shell: &Shell, yes: bool) -> Result<ExitCode> {
    let Some(job) = &shell.args.job else {
        return Err(Failure::usage("which job's lease?").hint("name it with --job; see the jobs with: distcp status"));
    };
    let job = job_name(job)?;
    let me = jobs::this_process(&shell.process.user);
    let state = shell.state()?;
    let Some(found) = jobs::find_lease(state.as_ref(), &job, &me).await? else {
        shell.output.say(format!("nobody holds the lease of job {job}"));
        return Ok(shell.done("unlock", ExitCode::Done));
    };
    shell
        .output
        .say(format!("the lease of job {job} is held by {} (process {})", found.lease.holder, found.lease.process));
    if !yes {
        return Err(Failure::usage("the lease was not broken").hint("if that run is gone for certain, add --yes"));
    }
    let state = shell.state_to_write()?;
    jobs::break_lease(state.as_ref(), &job, &me, &found).await?;
    shell.output.say("it is broken: the next run takes it at once");
    Ok(shell.done("unlock", ExitCode::Done))
}
