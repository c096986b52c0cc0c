//! `metasync run` and `metasync resync`: bring a replica into step with its source.

use crate::policy::{PolicyArgs, TableArgs};
use crate::words::{last_line, summary_block};
use clap::Args;
use distcp::console::exit::after_help;
use distcp::console::output::Verbosity;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use metasync::sync::{self, Allowed, Setting};

/// What a run can end with.
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

const EXAMPLE: &str = "metasync run sales.toml
metasync run --json --table 'sales.orders*' sales.toml";

/// Bring the replica into step: bootstrap the first time, go on every time after
///
/// Safe from cron: one run at a time, each goes on where the last one stopped. Data is copied before the metadata that
/// names it, and deleted after.
#[derive(Debug, Args)]
#[command(after_help = after_help(EXAMPLE, &RUN_CODES))]
pub struct RunVerb {
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub tables: TableArgs,
    #[command(flatten)]
    pub allowed: AllowedArgs,
    /// Start anew from what both sides hold, whatever the event log says; needs --yes
    #[arg(long, requires = "yes")]
    pub bootstrap: bool,
    /// Yes, start anew
    #[arg(long)]
    pub yes: bool,
}

/// What a run may do that it would refuse.
#[derive(Debug, Args)]
pub struct AllowedArgs {
    /// Take over databases of the target that already hold something: what differs from the source is changed
    #[arg(long)]
    pub adopt: bool,
    /// Overwrite what others changed on the target since the last run
    #[arg(long)]
    pub overwrite_drift: bool,
    /// Move and drop what a change of the policy moves and drops
    #[arg(long)]
    pub accept_policy_change: bool,
}

/// Copies and recreates tables from the source's present state, and clears their quarantine
///
/// What others changed on the target of these tables is overwritten, and folders that became empty are taken for what they
/// are. All of their data on the target is read: nothing that an earlier run wrote is taken for granted.
#[derive(Debug, Args)]
#[command(
    about = "Copy and recreate tables from the source's present state",
    after_help = after_help("metasync resync sales.toml --table 'sales.orders'", &RUN_CODES)
)]
pub struct ResyncVerb {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Tables whose database.table at the source matches this pattern
    #[arg(long, value_name = "PATTERN")]
    pub table: String,
}

/// Runs `run`.
pub async fn run(shell: &Shell, verb: &RunVerb) -> ExitCode {
    let prepared = verb.policy.setting(shell).and_then(|setting| {
        let allowed = Allowed {
            adopt: verb.allowed.adopt,
            bootstrap: verb.bootstrap,
            overwrite_drift: verb.allowed.overwrite_drift,
            policy_change: verb.allowed.accept_policy_change,
            selection: verb.tables.selection()?,
            ..Allowed::default()
        };
        Ok((setting, allowed))
    });
    go(shell, "run", prepared).await
}

/// Runs `resync`.
pub async fn resync(shell: &Shell, verb: &ResyncVerb) -> ExitCode {
    let tables = TableArgs { table: Some(verb.table.clone()) };
    let prepared = verb.policy.setting(shell).and_then(|setting| {
        let selection = tables.selection()?;
        let anew = Allowed { overwrite_drift: true, empty_tables: true, afresh: true, selection, ..Allowed::default() };
        Ok((setting, anew))
    });
    go(shell, "resync", prepared).await
}

async fn go(shell: &Shell, command: &'static str, prepared: Result<(Setting, Allowed), Failure>) -> ExitCode {
    let (setting, allowed) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return shell.fail(command, failure),
    };
    let progress = setting.progress.clone();
    let (summary, failure) = shell.shown_by(progress, Vec::new(), sync::run(&setting, command, &allowed)).await;
    let output = &shell.output;
    for (table, why) in &summary.quarantined {
        output.error(format!("{table} is not in step: {why}"));
    }
    if output.is_json() {
        output.json(&summary);
    } else if failure.is_none() && output.verbosity() > Verbosity::Quiet {
        output.data(summary_block(&summary));
    }
    if let Some(line) = last_line(&summary, failure.as_ref()) {
        output.error(line);
    }
    summary.exit_code
}
