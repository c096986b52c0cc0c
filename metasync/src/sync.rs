//! Brings a replica into step with its source: the work of `metasync run`, whatever it finds.
//!
//! ```text
//! lease -> checkpoint -> event log -> survey -> guards -> plans of data -> intent
//!       -> copy data -> metadata -> repl.last.id -> delete data -> checkpoint -> receipt
//! ```
//! A run compares what both sides hold and changes what differs, so that a first run, a later one and one after a crash are
//! the same; the event log says how far that reaches, and what was meant. What a crash leaves, step by step: a lease that
//! goes stale; an intent without its end, whose tables are compared anew and are no drift; data that no metadata names yet;
//! metadata that is ahead of `repl.last.id`; files whose deletion the intent and the jobs' journals still name. The checkpoint
//! moves last.

pub mod apply;
pub mod data;
pub mod doubts;
pub mod events;
mod guards;
mod hops;
mod iceberg;
mod kept;
pub mod planned;
pub mod report;
pub mod rewritten;
mod run;
mod seal;
mod settle;
mod standing;
pub mod state;
pub mod status;
mod still;
pub mod survey;
pub mod switch;
pub mod unexplained;
mod until;
pub mod verify;
pub mod witness;
pub mod writes;

pub use planned::{Planned, plan};
pub use run::run;

use crate::compare::Sides;
use crate::metastore::{self, Metastore, open};
use crate::policy::Policy;
use distcp::assemble::{self, Speed};
use distcp::error::{Failure, Result};
use distcp::event::{Event, Listener};
use distcp::exit::ExitCode;
use distcp::job::Stop;
use distcp::progress::Progress;
use distcp::settings::Environment;
use distcp::settings::open::Opener;
use doubts::Doubts;
use kept::Watched;
use manifest::Class;
use manifest::state::StateStore;
use manifest::state::layout::JobName;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use survey::Selection;
use tempfile::TempDir;
use tokio::time::Instant;

/// Program and version, for receipts and leases.
pub const PROGRAM: &str = concat!("metasync ", env!("CARGO_PKG_VERSION"));

/// All that a run needs from around it.
#[derive(Clone)]
pub struct Setting {
    /// What is kept in step.
    pub policy: Arc<Policy>,
    /// Variables and home folder, for passwords of metastores.
    pub environment: Environment,
    /// Opens places of data.
    pub opener: Opener,
    /// The place of the state folder.
    pub state_place: OsString,
    /// The folder that relative paths start from.
    pub cwd: PathBuf,
    /// For spill files.
    pub spool: PathBuf,
    /// Who runs it.
    pub user: String,
    /// Take a lease.
    pub leased: bool,
    /// Runs whose receipts are kept.
    pub keep_runs: usize,
    /// How fast data may go.
    pub speed: Speed,
    /// Ends the run.
    pub stop: Stop,
    /// When the run began: what its longest duration is counted from.
    pub begun: Instant,
    /// Told what happens.
    pub listener: Listener,
    /// For progress lines.
    pub progress: Arc<Progress>,
}

impl Setting {
    fn note(&self, text: impl Into<String>) {
        (self.listener)(Event::Note(text.into()));
    }

    /// The policy's name in its state.
    pub fn job(&self) -> Result<JobName> {
        JobName::new(&self.policy.name).map_err(|error| Failure::usage(error.to_string()))
    }

    /// The state folder; `create` makes a local one.
    pub fn state(&self, create: bool) -> Result<Arc<dyn StateStore>> {
        assemble::state(&self.state_place, &self.cwd, create, &self.opener, &self.stop)
    }
}

/// What a run may do that it would refuse.
#[derive(Clone, Default)]
pub struct Allowed {
    /// Take over databases of the target that hold something.
    pub adopt: bool,
    /// Start anew from what both sides hold, whatever the event log says.
    pub bootstrap: bool,
    /// Overwrite what others changed on the target.
    pub overwrite_drift: bool,
    /// Move and drop what a change of the policy moves and drops.
    pub policy_change: bool,
    /// Take folders that became empty for what they are (rule 27).
    pub empty_tables: bool,
    /// Read the data of the target, whatever was known of it.
    pub afresh: bool,
    /// Read these objects of the target, whatever was known of them, and look at every tree; `None`: nothing is doubted.
    pub doubts: Option<Arc<Doubts>>,
    /// Which tables.
    pub selection: Selection,
}

impl Allowed {
    /// Nothing is allowed that a run from cron is not, and all tables are meant.
    fn is_plain(&self) -> bool {
        let Self { adopt, bootstrap, overwrite_drift, policy_change, empty_tables, afresh, doubts, selection } = self;
        let any = *adopt || *bootstrap || *overwrite_drift || *policy_change || *empty_tables || *afresh;
        !any && doubts.is_none() && selection.is_all()
    }
}

/// How a verb ends that a metastore's error ended.
pub fn failure(error: metastore::Error) -> Failure {
    use metastore::Error;
    let code = match &error {
        Error::Url { .. } | Error::Protocol { .. } | Error::UnknownVersion { .. } | Error::NotAMetastore { .. } => {
            ExitCode::Usage
        }
        Error::Denied { .. } => ExitCode::Permission,
        Error::Conflict { .. } => ExitCode::Refused,
        _ if error.class() == Class::Retryable => ExitCode::Temporary,
        _ => ExitCode::Failed,
    };
    let failure = Failure::new(code, error.to_string());
    match error {
        Error::NoSpace { .. } => failure.hint("free space there, then run the same command again: it goes on"),
        _ => failure,
    }
}

/// Both metastores.
struct Metastores {
    source: Box<dyn Metastore>,
    target: Watched,
    /// Where a metastore stands for a file that the next run will make: the state's, or an empty one.
    _stand_in: Option<TempDir>,
}

impl Metastores {
    async fn open(setting: &Setting, create: bool) -> Result<Self> {
        let policy = &setting.policy;
        let (mut url, mut stand_in) = (policy.target.clone(), None);
        let is_missing = open::is_missing(&url).map_err(|error| at("target", error))?;
        if create && is_missing {
            kept::restore(setting, None).await?;
        }
        let source = Self::source(setting).await?;
        if !create && is_missing {
            let folder = tempfile::tempdir_in(&setting.spool)
                .map_err(|error| Failure::new(ExitCode::Failed, format!("no temporary folder: {error}")))?;
            let file = folder.path().join("replica.db");
            url = format!("sqlite://{}", file.display());
            kept::restore(setting, Some(&file)).await?;
            stand_in = Some(folder);
        }
        if create || stand_in.is_some() {
            open::init_missing(&url).await.map_err(|error| at("target", error))?;
        }
        let events = policy.options.target_events;
        let target =
            open::open_target(&url, &setting.environment, events).await.map_err(|error| at("target", error))?;
        Ok(Self { source, target: Watched::new(target), _stand_in: stand_in })
    }

    async fn source(setting: &Setting) -> Result<Box<dyn Metastore>> {
        open::open(&setting.policy.source, &setting.environment).await.map_err(|error| at("source", error))
    }

    async fn sides(&self, setting: &Setting) -> Result<Sides> {
        self.sides_by(setting.policy.clone()).await
    }

    async fn sides_by(&self, policy: Arc<Policy>) -> Result<Sides> {
        Ok(Sides {
            source: self.source.snapshot().await.map_err(|error| at("source", error))?.into(),
            target: self.target.snapshot().await.map_err(|error| at("target", error))?.into(),
            policy,
            holder: self.target.holder(),
            source_holder: self.source.holder(),
        })
    }
}

fn at(side: &str, error: metastore::Error) -> Failure {
    let lacks_schema = side == "target" && matches!(error, metastore::Error::NotAMetastore { .. });
    let failure = failure(error);
    let failure = Failure { message: format!("the {side}'s metastore: {}", failure.message), ..failure };
    match lacks_schema {
        true => failure.hint(
            "create the database, then its tables with Hive's schematool -initSchema; or name a file, sqlite:///path, \
             which is made by the first run",
        ),
        false => failure,
    }
}
