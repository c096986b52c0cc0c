//! What every verb of a policy needs: the file, read and checked, and the setting of a run.

use clap::Args;
use distcp::assemble::Speed;
use distcp::console::environment::time_of_day;
use distcp::console::shell::Shell;
use distcp::error::{Failure, Result};
use distcp::store::pace::Bandwidth;
use metasync::policy::Policy;
use metasync::sync::Setting;
use metasync::sync::survey::Selection;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::Instant;

/// A policy file.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The policy: a TOML file
    pub policy: PathBuf,
}

/// Which tables a verb is about.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// Only tables whose database.table at the source matches this pattern
    #[arg(long, value_name = "PATTERN")]
    pub table: Option<String>,
}

impl TableArgs {
    /// The tables that are meant.
    pub fn selection(&self) -> Result<Selection> {
        let Some(pattern) = &self.table else { return Ok(Selection::default()) };
        Selection::tables(pattern).map_err(|why| Failure::usage(format!("--table: {why}")))
    }
}

impl PolicyArgs {
    /// Reads the policy and puts the setting of a run together.
    pub fn setting(&self, shell: &Shell) -> Result<Setting> {
        let path = shell.path(&self.policy);
        let shown = self.policy.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("the policy {shown} cannot be read: {error}")))?;
        let policy = Policy::parse(&text, &shown).map_err(|error| Failure::usage(error.to_string()))?;
        let state_place = match (&shell.args.state, &policy.state, &shell.process.default_state) {
            (Some(place), _, _) => place.clone(),
            (None, Some(place), _) => place.into(),
            (None, None, Some(path)) => path.clone().into_os_string(),
            (None, None, None) => {
                return Err(Failure::usage("there is no home folder for the state")
                    .hint("name a place with state = \"...\" in the policy, or with --state"));
            }
        };
        let limit = policy.options.bwlimit.clone();
        let bandwidth = limit.map(|rate| Bandwidth::new(rate, time_of_day())).unwrap_or_default();
        Ok(Setting {
            policy: Arc::new(policy),
            environment: shell.process.environment.clone(),
            opener: shell.opener()?,
            state_place,
            cwd: shell.process.cwd.clone(),
            spool: shell.process.temporary.clone(),
            user: shell.process.user.clone(),
            leased: !shell.args.no_lease,
            keep_runs: shell.args.keep_runs,
            speed: Speed { bandwidth: Arc::new(bandwidth), requests_per_second: None },
            stop: shell.stop.clone(),
            begun: Instant::now(),
            listener: shell.output.listener(),
            progress: Arc::default(),
        })
    }
}
