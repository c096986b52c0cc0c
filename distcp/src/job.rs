//! A job: two trees, their state, and what to do. Built once at the edge, then only read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use manifest::ObjectKey;
use manifest::state::StateStore;
use manifest::state::layout::JobName;
use tokio_util::sync::CancellationToken;

use crate::copy::Ends;
use crate::event::{Event, Listener};
use crate::list::within::Within;
use crate::options::{CopyOptions, Limits};
use crate::plan::live::Live;
use crate::progress::Progress;
use crate::store::meter::{Meter, RequestCounts};
use crate::store::{Store, Sweep};
use crate::trash::Trash;

/// One side of a job.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The opened place, decorated (retry, pace, meter).
    pub store: Arc<dyn Store>,
    /// The normalised place as text (rule 3); holds no secret.
    pub place: String,
    /// Subtrees that are left out of listing and deleting: state and trash that stand inside (rule 1), and an overlap that
    /// the filters exclude (case 16).
    pub without: Vec<ObjectKey>,
    /// The root is one object, under the empty key.
    pub single: bool,
    /// A root that is not there is an empty tree; always so on the target's side.
    pub may_be_missing: bool,
    /// What the decorators counted.
    pub meter: Arc<Meter>,
}

/// Where an interruption came from.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// SIGINT or SIGTERM, or the embedding program's wish.
    pub token: CancellationToken,
    /// The signal was SIGTERM.
    pub terminated: Arc<std::sync::atomic::AtomicBool>,
}

/// What an embedding program does when everything was copied and nothing is deleted yet: for a metastore, the moment to say
/// that new data is there, and that old data is gone.
#[async_trait::async_trait]
pub trait Gate: Send + Sync {
    /// Called once in every run that nothing has stopped until then, also when there is nothing to delete, with what the
    /// copies came to. Deletes follow only on `true` (and, as ever, only when nothing failed); `false` ends the run as
    /// stopped at an error.
    async fn copied(&self, ends: &Ends) -> bool;
}

/// Everything that a run needs, and nothing that it has to look up.
#[derive(Clone)]
pub struct Job {
    /// Its name in the state folder.
    pub name: JobName,
    /// What is read.
    pub source: Tree,
    /// What is written.
    pub target: Tree,
    /// Where deleted and overwritten objects are kept first.
    pub trash: Option<Trash>,
    /// The target when it is a folder of this machine.
    pub target_folder: Option<PathBuf>,
    /// The target when it is a file system: leftovers of runs that died are removed from it.
    pub swept: Option<Arc<dyn Sweep>>,
    /// Where its durable state lives.
    pub state: Arc<dyn StateStore>,
    /// Who runs it, for the lease's `holder`; for people.
    pub user: String,
    /// Take the lease; without it (`--no-lease`) nothing is pruned, aborted or expired (rule 17).
    pub leased: bool,
    /// Runs whose receipts and manifests are kept.
    pub keep_runs: usize,
    /// What to do.
    pub options: CopyOptions,
    /// The folders that the job is about, of a tree that others share; `None`: the whole tree. For programs that embed a copy.
    pub within: Option<Arc<Within>>,
    /// Keys of which nothing that is known of the target counts: what stands there is read, and copied anew if it is not what
    /// the source holds. For programs that embed a copy.
    pub doubted: Arc<BTreeSet<ObjectKey>>,
    /// Folders of the target that readers are in. For programs that embed a copy.
    pub live: Option<Arc<Live>>,
    /// Folders that are made anew, each with the key below which its last version stands: what did not change is copied from
    /// there. For programs that embed a copy.
    pub renewed: Arc<BTreeMap<ObjectKey, ObjectKey>>,
    /// Asked between the copies and the deletes. For programs that embed a copy.
    pub gate: Option<Arc<dyn Gate>>,
    /// The keys of `--files-from`; `options.filter.listed_only` says that they bind.
    pub files: Arc<Vec<ObjectKey>>,
    /// How much to use.
    pub limits: Limits,
    /// A local folder for spill files of this run; they are unlinked while open.
    pub spool: PathBuf,
    /// Ends the run early.
    pub stop: Stop,
    /// Told what happens.
    pub listener: Listener,
    /// Counters for progress lines.
    pub progress: Arc<Progress>,
}

impl Job {
    /// What both sides were asked so far, plans included.
    pub fn requests(&self) -> RequestCounts {
        self.source.meter.snapshot().requests + self.target.meter.snapshot().requests
    }

    /// Whether the service will be asked to copy from the source by itself; it may refuse.
    pub fn copied_by_service(&self) -> bool {
        let origin = self.source.store.origin();
        !self.proves() && origin.is_some_and(|origin| self.target.store.copies_from(&origin).is_some())
    }

    /// Whether everything is to be proven by reading.
    pub fn proves(&self) -> bool {
        self.options.proves()
    }

    /// Tells the listener a sentence.
    pub fn note(&self, text: impl Into<String>) {
        (self.listener)(Event::Note(text.into()));
    }
}
