//! `metasync unlock`: breaks the lease of a run that is gone, after showing it.

use crate::policy::PolicyArgs;
use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::jobs;
use manifest::state::checkpoint;

const CODES: [ExitCode; 6] =
    [ExitCode::Done, ExitCode::Failed, ExitCode::Usage, ExitCode::Leased, ExitCode::Permission, ExitCode::Temporary];

/// Break the lease of a run that is gone, after showing it
#[derive(Debug, Args)]
#[command(after_help = after_help("metasync unlock sales.toml --yes", &CODES))]
pub struct UnlockVerb {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Break it; without this the lease is only shown
    #[arg(long)]
    yes: bool,
}

/// Runs it.
pub async fn run(shell: &Shell, verb: &UnlockVerb) -> ExitCode {
    match unlock(shell, verb).await {
        Ok(code) => code,
        Err(failure) => shell.fail("unlock", failure),
    }
}

async fn unlock(shell: &Shell, verb: &UnlockVerb) -> Result<ExitCode> {
    let setting = verb.policy.setting(shell)?;
    let job = setting.job()?;
    let me = jobs::this_process(&shell.process.user);
    let state = setting.state(false)?;
    let found = match checkpoint::list_jobs(state.as_ref()).await?.contains(&job) {
        true => jobs::find_lease(state.as_ref(), &job, &me).await?,
        false => None,
    };
    let Some(found) = found else {
        shell.output.say(format!("nobody holds the lease of {job}"));
        return Ok(shell.done("unlock", ExitCode::Done));
    };
    let lease = &found.lease;
    shell.output.say(format!("the lease of {job} is held by {} (process {})", lease.holder, lease.process));
    if !verb.yes {
        return Err(Failure::usage("the lease was not broken").hint("if that run is gone for certain, add --yes"));
    }
    jobs::break_lease(setting.state(true)?.as_ref(), &job, &me, &found).await?;
    shell.output.say("it is broken: the next run takes it at once");
    Ok(shell.done("unlock", ExitCode::Done))
}
