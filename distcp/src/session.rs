//! What stands around the work of a run: lease, checkpoint, and the journals of runs that did not finish.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use manifest::index::ManifestId;
use manifest::reader::Manifest;
use manifest::sort::keep_last;
use manifest::state::Lasting;
use manifest::state::checkpoint::{self, Loaded};
use manifest::state::holder::Holder;
use manifest::state::journal::{self, JournalReader, Record};
use manifest::state::layout::{self, RunId};
use manifest::state::lease::{self, Lease};
use manifest::state::marker;
use manifest::state::probe;
use manifest::{Attributes, Entry, EntryKind, Evidence, ObjectKey, Sorter};
use serde::{Deserialize, Serialize};

use crate::copy::resume::{OpenUploads, Unfinisheds};
use crate::error::{Failure, Result};
use crate::exit::ExitCode;
use crate::job::Job;
use crate::list::{self, Side};
use crate::plan::file::Plan;
use crate::store::{ListOptions, StoreErrorKind, UploadId};

pub mod leftovers;

/// Program and version, for receipts and leases.
pub const PROGRAM: &str = concat!("distcp ", env!("CARGO_PKG_VERSION"));
/// How long a lease lives without renewal; also how long a taker watches a silent one (rule 15).
pub const LEASE_DURATION: Duration = Duration::from_secs(30);
/// Memory of the sort of journalled rows before it spills.
const JOURNAL_MEMORY_BYTES: usize = 16 << 20;
/// Length of the pieces in which a plan is kept with its run.
const PLAN_SEGMENT_BYTES: usize = 8 << 20;

/// What distcp keeps in a checkpoint besides what every tool does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Runs whose journals still name unfinished uploads, or objects to delete.
    #[serde(default)]
    pub open_runs: Vec<RunId>,
    /// Folders that are given up, and of which all that was to go was on record: what others write there is theirs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub given_up: BTreeSet<ObjectKey>,
    /// Source and target are single objects, not trees.
    #[serde(default)]
    pub single: bool,
}

/// What the next plan is the difference to.
pub struct Base {
    /// The last committed manifest.
    pub manifest: Option<Arc<Manifest>>,
    /// Rows of objects that unfinished runs completed, in the order of the runs.
    pub journalled: Sorter<Entry>,
    /// What they were about to delete in folders that are given up.
    pub removals: Removals,
}

/// What unfinished runs were about to delete in folders that are given up (rule 28).
pub struct Removals {
    /// Folders of which all that was to go is on record, or was and has gone.
    pub folders: BTreeSet<ObjectKey>,
    /// Versions of objects, as rows with nothing else.
    pub rows: Sorter<Entry>,
}

impl Removals {
    fn new(spool: &Path) -> Self {
        Self { folders: BTreeSet::new(), rows: Sorter::new(spool, JOURNAL_MEMORY_BYTES) }
    }

    /// Takes the records that are about it.
    fn add(&mut self, record: &Record) -> manifest::Result<()> {
        match record {
            Record::ToDelete { key, target } => self.rows.push(Entry {
                key: key.clone(),
                kind: EntryKind::Object,
                hash: None,
                evidence: Evidence::None,
                chunks: None,
                fingerprint: target.clone(),
                source: None,
                attributes: Attributes::default(),
            }),
            Record::GivenUp { folder } => {
                self.folders.insert(folder.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What unfinished runs left besides finished objects.
pub struct Journals {
    /// The runs.
    pub runs: Vec<RunId>,
    /// Their uploads.
    pub uploads: Unfinisheds,
    /// They name objects to delete.
    pub removes: bool,
    /// Folders of which all that was to go is on record, or was and has gone.
    pub given_up: BTreeSet<ObjectKey>,
    /// Of the runs since the last committed one those that ended without a word.
    pub died: Vec<RunId>,
}

/// All that earlier runs left.
pub struct Before {
    checkpoint: Option<Loaded<RunState>>,
    manifest: Option<Arc<Manifest>>,
    journalled: Sorter<Entry>,
    removals: Removals,
    journals: Journals,
}

impl Before {
    /// As-of of the last complete run.
    pub fn as_of(&self) -> Option<Timestamp> {
        self.checkpoint.as_ref().and_then(|loaded| loaded.checkpoint.as_of)
    }

    /// Id of the last committed manifest.
    pub fn manifest_id(&self) -> Option<String> {
        self.manifest.as_ref().map(|manifest| manifest.index().id.to_string())
    }

    /// What planning needs, and what copying needs.
    pub fn split(self) -> (Base, Journals) {
        let base = Base { manifest: self.manifest, journalled: self.journalled, removals: self.removals };
        (base, self.journals)
    }
}

/// The job with the shape of its places: two trees, or two single objects (rule 5). A job that ran before has the shape
/// it had then; else the source is looked at.
pub async fn shaped(job: &Job, before: &Before) -> Result<Job> {
    let known = before.checkpoint.as_ref().map(|loaded| loaded.checkpoint.state.single);
    shape(job, known).await
}

/// As [`shaped`], where a checkpoint may say the shape.
pub async fn shape(job: &Job, known: Option<bool>) -> Result<Job> {
    let single = match known {
        Some(single) => single,
        None => is_single(job).await?,
    };
    let mut job = job.clone();
    job.source.single = single;
    job.target.single = single;
    Ok(job)
}

async fn is_single(job: &Job) -> Result<bool> {
    let root = ObjectKey::default();
    let is_object = |kind| !matches!(kind, EntryKind::Folder);
    match job.source.store.head(&root).await {
        Ok(info) if is_object(info.kind) => {}
        Ok(_) => return Ok(false),
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::InvalidKey) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let mut listing = job.source.store.list(ListOptions::default());
    while let Some(batch) = listing.next().await {
        match batch {
            Ok(batch) if batch.iter().all(|listed| listed.key.is_empty()) => {}
            Ok(_) => {
                let place = &job.source.place;
                return Err(Failure::usage(format!("{place} is an object, and others lie under {place}/"))
                    .hint("name one of them: an object by its full name, a tree by a name that is no object"));
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => break,
            Err(error) => return Err(error.into()),
        }
    }
    match job.target.store.head(&root).await {
        Ok(info) if !is_object(info.kind) => Err(Failure::usage(format!(
            "the source {} is one object, the target {} is a folder",
            job.source.place, job.target.place
        ))
        .hint("name the target object too: distcp copy a/file b/file")),
        Err(error) if error.kind == StoreErrorKind::InvalidKey => Err(error.into()),
        _ => Ok(true),
    }
}

/// An id for the run that starts now: later than those of all runs that the state knows, whatever the clock says. Else a
/// journal of this run would count as older than the checkpoint, and nobody would go on with what it left.
pub async fn new_run(job: &Job, started: Timestamp) -> Result<RunId> {
    let store = job.state.as_ref();
    let committed = checkpoint::load_summary(store, &job.name).await?.map(|summary| summary.run_id);
    let holder = lease::inspect(store, &job.name).await?.and_then(|seen| seen.found.ok()).map(|record| record.run_id);
    let folders = store.folders(&layout::runs(&job.name)).await?;
    let runs = folders.iter().filter_map(|name| name.parse().ok());
    let last = runs.chain(committed).chain(holder).max();
    Ok(RunId::after(started, last.as_ref()))
}

/// Proves that the state can hold a lease, that no other job has the target, marks the state as one, and takes the lease.
pub async fn take_lease(job: &Job, run_id: &RunId, started: Timestamp) -> Result<Lease> {
    if job.leased && !job.state.is_this_machine() {
        probe::probe(job.state.as_ref()).await?;
    }
    may_use(job).await?;
    marker::mark(job.state.as_ref()).await?;
    if !job.leased {
        return Ok(Lease::none());
    }
    let user = job.user.clone();
    let holder = Holder::this_process(user, PROGRAM, started);
    let listener = job.listener.clone();
    let waiting = move |record: &manifest::state::lease::LeaseRecord, longest: Duration| {
        let text =
            format!("waiting up to {} s to see whether the run of {} is alive", longest.as_secs(), record.holder);
        listener(crate::event::Event::Note(text));
    };
    Ok(Lease::acquire(job.state.clone(), &job.name, run_id, holder, LEASE_DURATION, &waiting).await?)
}

/// Reads what earlier runs left. Changes nothing and needs no lease.
pub async fn before(job: &Job) -> Result<Before> {
    let store = job.state.as_ref();
    let checkpoint = checkpoint::load::<RunState>(store, &job.name).await?;
    let id = checkpoint.as_ref().and_then(|loaded| loaded.checkpoint.manifest.as_deref());
    let manifest = match id {
        Some(id) => {
            let id: ManifestId = id.parse().map_err(|e| {
                Failure::new(ExitCode::Failed, format!("the checkpoint of job {} is damaged: {e}", job.name))
            })?;
            Some(Arc::new(Manifest::open(job.state.clone(), &layout::job_folder(&job.name), &id).await?))
        }
        None => None,
    };
    let after = checkpoint.as_ref().map(|loaded| loaded.checkpoint.run_id.clone());
    let unfinished = journal::unfinished_runs(store, &job.name, after.as_ref()).await?;
    let open = checkpoint.as_ref().map(|loaded| loaded.checkpoint.state.open_runs.clone()).unwrap_or_default();
    let died = leftovers::died_since(job, after.as_ref()).await?;
    let mut journalled = Sorter::new(&job.spool, JOURNAL_MEMORY_BYTES);
    let mut uploads = OpenUploads::default();
    let mut removals = Removals::new(&job.spool);
    removals.folders.extend(checkpoint.iter().flat_map(|loaded| loaded.checkpoint.state.given_up.iter().cloned()));
    // Of runs that were committed only what is unfinished counts; their finished objects are in the manifest.
    for run in &open {
        read_journal(job, run, |record| {
            removals.add(&record)?;
            uploads.add(record);
            Ok(())
        })
        .await?;
    }
    for run in &unfinished {
        read_journal(job, run, |record| match record {
            Record::Done { entry } => journalled.push(*entry),
            other => {
                removals.add(&other)?;
                uploads.add(other);
                Ok(())
            }
        })
        .await?;
    }
    if !unfinished.is_empty() {
        let (runs, done) = (unfinished.len(), journalled.total());
        job.note(format!("going on where {runs} unfinished run(s) stopped: {done} objects were finished"));
    }
    let uploads = uploads.finish();
    let runs = open.into_iter().chain(unfinished).collect();
    let (removes, given_up) = (removals.rows.total() > 0, removals.folders.clone());
    let journals = Journals { runs, uploads, removes, given_up, died };
    Ok(Before { checkpoint, manifest, journalled, removals, journals })
}

/// The ids of the uploads that our journals name as unfinished. Changes nothing and needs no lease.
pub async fn journalled_uploads(job: &Job) -> Result<Vec<UploadId>> {
    let store = job.state.as_ref();
    let checkpoint = checkpoint::load::<RunState>(store, &job.name).await?;
    let after = checkpoint.as_ref().map(|loaded| loaded.checkpoint.run_id.clone());
    let open = checkpoint.map(|loaded| loaded.checkpoint.state.open_runs).unwrap_or_default();
    let mut uploads = OpenUploads::default();
    for run in open.into_iter().chain(journal::unfinished_runs(store, &job.name, after.as_ref()).await?) {
        read_journal(job, &run, |record| {
            uploads.add(record);
            Ok(())
        })
        .await?;
    }
    Ok(uploads.finish().ids())
}

async fn read_journal(job: &Job, run: &RunId, mut take: impl FnMut(Record) -> manifest::Result<()>) -> Result<()> {
    let mut reader = JournalReader::open(job.state.clone(), &job.name, run).await?;
    while let Some(batch) = reader.next_batch().await? {
        batch.into_iter().try_for_each(&mut take)?;
    }
    Ok(())
}

/// Refuses (exit 5) when the target is not what the plan saw, apart from what an interrupted `apply` of ours did.
pub async fn not_moved_on(job: &Job, plan: &Plan, done: Sorter<Entry>) -> Result<()> {
    let target = list::list(&job.target, Side::Target, job.within.as_deref(), false, false, &job.progress);
    let spool = job.spool.clone();
    let actions = plan.actions()?;
    let work = move || -> Result<Option<ObjectKey>> {
        let target = target.in_order(&spool)?;
        let done = keep_last(done.finish()?);
        for row in manifest::join3(done, actions, target) {
            let (key, done, action, now) = row?;
            let Some(action) = action else { continue };
            let now = now.map(|listed| listed.fingerprint);
            let as_seen = match (&action.target, &now) {
                (None, None) => true,
                (Some(seen), Some(now)) => seen.looks_like(now),
                _ => action.kind == manifest::EntryKind::Folder,
            };
            let by_us = done.is_some_and(|row| now.as_ref().is_some_and(|now| row.fingerprint.looks_like(now)));
            if !as_seen && !by_us {
                return Ok(Some(key));
            }
        }
        Ok(None)
    };
    match tokio::task::spawn_blocking(work).await?? {
        None => Ok(()),
        Some(key) => Err(Failure::new(
            ExitCode::Refused,
            format!("the target has moved on since the plan was made: {} is not what it was", key.escaped()),
        )
        .hint("make a new plan with: distcp plan SOURCE TARGET -o PLAN")),
    }
}

/// Refuses (exit 2) when another job of the state has the target, or the job's name belongs to other places (rule 3).
pub async fn may_use(job: &Job) -> Result<()> {
    Ok(checkpoint::check_claim(job.state.as_ref(), &job.name, &job.source.place, &job.target.place).await?)
}

/// Takes the target for the job, right before the first write: a run that was refused, or mistyped, claims nothing.
pub async fn claim(job: &Job) -> Result<()> {
    Ok(checkpoint::claim(job.state.as_ref(), &job.name, &job.source.place, &job.target.place).await?)
}

/// Keeps the plan with its run, in pieces of bounded size: for people, so a power cut may take it.
pub async fn keep_plan(job: &Job, run_id: &RunId, plan: &Plan) -> Result<()> {
    use tokio::io::AsyncReadExt as _;
    let failed = |e| manifest::Error::io("read", plan.path(), e);
    // Some are read back once the run has died.
    let lasting = if leftovers::reads_plans(job) { Lasting::Whole } else { Lasting::Loose };
    let mut file = tokio::fs::File::open(plan.path()).await.map_err(failed)?;
    for number in 1.. {
        let mut piece = Vec::new();
        (&mut file).take(PLAN_SEGMENT_BYTES as u64).read_to_end(&mut piece).await.map_err(failed)?;
        if piece.is_empty() {
            break;
        }
        let name = layout::plan_segment(&job.name, run_id, number);
        job.state.create_as(&name, piece.into(), lasting).await?;
    }
    Ok(())
}
