//! Jobs over any two stores, for tests that drive the library: what a user's run is, without a command line.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use distcp::commit::committed_manifest;
use distcp::error::Failure;
use distcp::event::{Event, ObjectReport, Outcome};
use distcp::job::{Gate, Job, Stop, Tree};
use distcp::list::within::Within;
use distcp::options::{CopyOptions, Limits, LinkMode};
use distcp::plan::file::Plan;
use distcp::progress::Progress;
use distcp::run::{self, Report};
use distcp::store::local::{LocalOptions, LocalStore, SyncMode};
use distcp::store::meter::{Meter, Metered};
use distcp::store::pace::{Pace, Paced};
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::{Store, Sweep};
use distcp::trash::Trash;
use distcp::verify::{self, Difference, Level};
use futures::TryStreamExt as _;
use manifest::state::StateStore;
use manifest::state::layout::JobName;
use manifest::state::memory::MemoryState;
use manifest::{ChunkSize, Entry, ObjectKey};
use tempfile::TempDir;

/// Two trees, a state, and what runs between them reported.
pub struct Pair {
    /// What is read.
    pub source: Arc<dyn Store>,
    /// What is written.
    pub target: Arc<dyn Store>,
    /// The target, when it is a folder from which leftovers are to be swept.
    pub local_target: Option<LocalStore>,
    /// Where state lives.
    pub state: Arc<dyn StateStore>,
    /// Where deleted and overwritten objects go first.
    pub trash: Option<Arc<dyn Store>>,
    /// What to do; tests change it between runs.
    pub options: CopyOptions,
    /// How much to use.
    pub limits: Limits,
    /// Decorate both sides with retries, as the binary does.
    pub retries: bool,
    /// Take leases.
    pub leased: bool,
    /// Runs whose receipts and manifests are kept.
    pub keep_runs: usize,
    /// The keys of `--files-from`, sorted.
    pub files: Vec<ObjectKey>,
    /// Ends a run from outside.
    pub stop: Stop,
    /// The folders that the job is about.
    pub within: Option<Within>,
    /// Asked between copies and deletes.
    pub gate: Option<Arc<dyn Gate>>,
    spool: TempDir,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Pair {
    /// A pair with a state in memory, the smallest chunks, and no retries.
    pub fn new(source: Arc<dyn Store>, target: Arc<dyn Store>) -> Self {
        let limits = Limits { chunk_size: ChunkSize::MIN, concurrency: 8, ..Limits::default() };
        Self {
            source,
            target,
            local_target: None,
            state: Arc::new(MemoryState::new()),
            trash: None,
            options: CopyOptions::default(),
            limits,
            retries: false,
            leased: true,
            keep_runs: 30,
            files: Vec::new(),
            stop: Stop::default(),
            within: None,
            gate: None,
            spool: tempfile::tempdir().expect("a temporary folder"),
            events: Arc::default(),
        }
    }

    /// The folder for spill files.
    pub fn spool(&self) -> PathBuf {
        self.spool.path().to_owned()
    }

    /// The job as the next run sees it.
    pub fn job(&self) -> Job {
        let tree = |store: &Arc<dyn Store>, place: &str| {
            let meter = Arc::new(Meter::default());
            let metered: Arc<dyn Store> = Arc::new(Metered::new(store.clone(), meter.clone()));
            let policy = RetryPolicy::default();
            let store: Arc<dyn Store> = match self.retries {
                true => {
                    let token = self.stop.token.clone();
                    let paced = Paced::new(metered, Arc::new(Pace::unlimited(token.clone())));
                    Arc::new(Retried::new(Arc::new(paced), policy, 1, meter.clone(), token))
                }
                false => metered,
            };
            Tree { store, place: place.into(), without: Vec::new(), single: false, may_be_missing: false, meter }
        };
        let events = self.events.clone();
        Job {
            name: JobName::new("test").expect("a good name"),
            source: tree(&self.source, "memory://source"),
            target: tree(&self.target, "memory://target"),
            trash: self.trash.as_ref().map(|store| Trash {
                tree: tree(store, "memory://trash"),
                swept: None,
                retention: self.options.trash_retention,
            }),
            target_folder: None,
            swept: self.local_target.clone().map(|store| Arc::new(store) as Arc<dyn Sweep>),
            state: self.state.clone(),
            user: "tester".into(),
            leased: self.leased,
            keep_runs: self.keep_runs,
            within: self.within.clone().map(Arc::new),
            doubted: Arc::default(),
            live: None,
            renewed: Arc::default(),
            gate: self.gate.clone(),
            options: self.options.clone(),
            files: Arc::new(self.files.clone()),
            limits: self.limits.clone(),
            spool: self.spool(),
            stop: self.stop.clone(),
            listener: Arc::new(move |event| events.lock().expect("no test panics while it holds this").push(event)),
            progress: Arc::new(Progress::default()),
        }
    }

    /// Runs `copy`.
    pub async fn copy(&self) -> Report {
        self.events.lock().expect("not poisoned").clear();
        let report = run::copy(&self.job()).await;
        self.check(&report);
        report
    }

    /// Runs `copy` and expects exit code 0.
    pub async fn copied(&self) -> Report {
        let report = self.copy().await;
        assert_eq!(report.summary.exit_code.code(), 0, "{:?}\n{:#?}", report.failure, report.summary);
        report
    }

    /// Runs `copy` and expects this exit code.
    pub async fn ends_with(&self, code: u8) -> Report {
        let report = self.copy().await;
        assert_eq!(report.summary.exit_code.code(), code, "{:?}\n{:#?}", report.failure, report.summary);
        report
    }

    /// Makes a plan, as `plan` and `copy --dry-run` do.
    pub async fn plan(&self) -> Result<Plan, Failure> {
        self.events.lock().expect("not poisoned").clear();
        run::plan(&self.job()).await
    }

    /// Carries out a plan.
    pub async fn apply(&self, plan: &Path) -> Report {
        self.events.lock().expect("not poisoned").clear();
        let report = run::apply(&self.job(), plan).await;
        self.check(&report);
        report
    }

    /// The rows of the last committed manifest.
    pub async fn rows(&self) -> Vec<Entry> {
        match committed_manifest(&self.job()).await.expect("a manifest that can be read").0 {
            None => Vec::new(),
            Some(manifest) => manifest.entries().try_concat().await.expect("rows that can be read"),
        }
    }

    /// Every file of the state, byte for byte.
    pub async fn state_files(&self) -> BTreeMap<String, Bytes> {
        let mut files = BTreeMap::new();
        for item in self.state.list("").await.expect("a state that can be listed") {
            let (bytes, _) = self.state.get(&item.name).await.expect("readable").expect("there");
            files.insert(item.name, bytes);
        }
        files
    }

    /// The next run is not stopped any more.
    pub fn unstop(&mut self) {
        self.stop = Stop::default();
    }

    /// Runs `verify` and returns its lines (`* key`), equal keys left out, and the exit code.
    pub async fn verify(&self, level: Level) -> (Vec<String>, u8) {
        let mut lines = Vec::new();
        let report = verify::verify(&self.job(), level, |difference: Difference| {
            if difference.mark.sign() != '=' {
                lines.push(format!("{} {}", difference.mark.sign(), difference.key.escaped()));
            }
        })
        .await;
        (lines, report.summary.exit_code.code())
    }

    /// What the last run reported of single keys.
    pub fn reports(&self) -> Vec<ObjectReport> {
        let events = self.events.lock().expect("not poisoned");
        let reports = events.iter().filter_map(|event| match event {
            Event::Object(report) => Some(report.clone()),
            Event::Note(_) => None,
        });
        reports.collect()
    }

    /// What the last run had to say besides.
    pub fn notes(&self) -> Vec<String> {
        let events = self.events.lock().expect("not poisoned");
        let notes = events.iter().filter_map(|event| match event {
            Event::Note(text) => Some(text.clone()),
            Event::Object(_) => None,
        });
        notes.collect()
    }

    /// What the last run reported of this key.
    pub fn report_of(&self, key: &str) -> ObjectReport {
        let found = self.reports().into_iter().find(|report| report.key == key.into());
        found.unwrap_or_else(|| panic!("nothing was reported of {key:?}: {:#?}", self.reports()))
    }

    /// The keys that ended so in the last run, sorted.
    pub fn ended(&self, outcome: Outcome) -> Vec<String> {
        let mut keys: Vec<String> =
            self.reports().into_iter().filter(|r| r.outcome == outcome).map(|r| r.key.escaped().into_owned()).collect();
        keys.sort();
        keys
    }

    /// Rule 14, for every run of every test that got as far as copying.
    fn check(&self, report: &Report) {
        let counts = report.summary.counts;
        if report.failure.is_none() {
            let sum = counts.equal + counts.copied + counts.deleted + counts.skipped + counts.failed;
            assert_eq!(sum, counts.listed, "{:#?}", report.summary);
        }
    }
}

/// A folder as a store, created when it is missing; not made durable.
pub fn local(root: &Path) -> LocalStore {
    local_with(root, LinkMode::Skip)
}

/// The same, with a way to treat links.
pub fn local_with(root: &Path, links: LinkMode) -> LocalStore {
    let options = LocalOptions { create_root: true, sync: SyncMode::Never, links, ..LocalOptions::default() };
    LocalStore::open(root, options).expect("a folder that can be opened")
}

/// Runs `work` with paused time that moves on by itself even while blocking threads wait (tokio stands still then).
pub async fn hurried<T>(work: impl Future<Output = T>) -> T {
    let clock = async {
        loop {
            let _ = tokio::task::spawn_blocking(|| ()).await;
            tokio::time::advance(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = clock => unreachable!("the clock never stops"),
    }
}
