//! Carries a plan out: copies from donors first, then all other copies, then deletes (rules 8, 12), bounded in objects,
//! bytes and time.
//!
//! Nothing here decides what to do; it reports how each action ended. A crash leaves what the journal's last segment says
//! plus at most a few seconds of finished objects, which the next run finds equal by comparing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use manifest::sort::Sorter;
use manifest::state::journal::{JournalHandle, Record};
use manifest::state::layout::RunId;
use manifest::state::lease::LeaseGuard;
use manifest::{ChunkSize, Entry};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::across::Across;
use self::budget::Budget;
use self::ordered::{BROKEN, REWRITTEN, Tables};
use self::passes::{Pass, stream};
use self::resume::Unfinisheds;
use self::settle::{End, Settled};
use crate::error::{Failure, chain};
use crate::event::{Event, Listener, Means, ObjectReport, Outcome};
use crate::job::{Gate, Job, Stop};
use crate::layout::{Layout, Stage};
use crate::list::within::Within;
use crate::options::{MetadataMode, OnError};
use crate::plan::file::Plan;
use crate::plan::live::Live;
use crate::plan::{Action, DIFFERS, Step, VANISHED};
use crate::progress::{Phase, Progress, count};
use crate::store::{Result, Store, StoreError, StoreErrorKind};
use manifest::splice::Delta as Row;

mod across;
pub mod budget;
mod delete;
mod large;
mod ordered;
mod passes;
pub mod resume;
mod settle;
mod transfer;
mod trash;

/// Memory of the sort of finished rows before it spills.
const ROWS_MEMORY_BYTES: usize = 16 << 20;
/// How long objects in work may take to finish after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// How one copy or comparison ended well.
#[derive(Debug, Clone, PartialEq)]
enum Finished {
    /// Both sides hold the same; the row says so.
    Equal { entry: Entry },
    /// They differ, and readers are in the folder.
    Held,
    /// The target holds the source's version now.
    Copied {
        entry: Entry,
        means: Means,
        /// In parts, whose bytes were counted one by one.
        in_parts: bool,
    },
}

/// Why nothing new is started any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// A signal, or the embedding program.
    Interrupted,
    /// `--max-duration` or `--max-bytes`.
    Limit,
    /// `--on-error stop`, or the target's disk is full.
    Error,
    /// The lease was lost: nothing may be written.
    LeaseLost,
}

impl Stopped {
    fn reason(self) -> &'static str {
        match self {
            Stopped::Interrupted => "not started: interrupted",
            Stopped::Limit => "not started: a limit ended the run",
            Stopped::Error => "not started: the run stopped at an error",
            Stopped::LeaseLost => "not started: the lease was lost",
        }
    }
}

/// Counts of how the listed keys ended (rule 14), and why the run ended early, if it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Both sides were equal.
    pub equal: u64,
    /// Copied.
    pub copied: u64,
    /// Of these, without bytes through us.
    pub server_side: u64,
    /// Deleted.
    pub deleted: u64,
    /// Left alone.
    pub skipped: u64,
    /// Failed.
    pub failed: u64,
    /// Bytes that the target's service copied by itself.
    pub server_side_bytes: u64,
}

/// What carrying out a plan came to.
pub struct CopyReport {
    /// Counts.
    pub ends: Ends,
    /// Why it ended early.
    pub stopped: Option<Stopped>,
    /// What the manifest has to learn and to forget.
    pub rows: Sorter<Row>,
    /// The first failures, for the receipt and the last line.
    pub errors: Vec<String>,
    /// Objects that vanished from the source while the run went on.
    pub vanished: u64,
    /// What is to go from folders that are given up was put on record.
    pub gave_up: bool,
    /// The target has no space left.
    pub full: bool,
    /// An upload that nothing can go on with is still open: the journals that name it are needed.
    pub left_upload: bool,
    /// Objects that were kept in the trash.
    pub trashed: u64,
    /// Tables keep the version that they had, although newer ones were planned.
    pub behind: bool,
}

/// Failures that are kept as text; all are reported as events.
const ERRORS_KEPT: usize = 20;

/// What every task of a run shares.
struct Copier {
    source: Arc<dyn Store>,
    target: Arc<dyn Store>,
    budget: Budget,
    /// For reading back and comparing while holding some of the budget already: taking more would be a deadlock.
    no_budget: Budget,
    /// Keeps what is overwritten or deleted.
    keeper: Option<trash::Keeper>,
    memory_bytes: u64,
    chunk_size: ChunkSize,
    metadata: MetadataMode,
    /// The part of the trees that the job is about.
    within: Option<Arc<Within>>,
    /// Folders of the target that readers are in.
    live: Option<Arc<Live>>,
    /// What the target's service can copy from the source by itself.
    across: Across,
    /// Tables that are looked for.
    layout: Layout,
    /// Everything that is copied is to be read (`--hash`).
    proves: bool,
    listener: Listener,
    journal: JournalHandle,
    guard: LeaseGuard,
    unfinished: Unfinisheds,
    progress: Arc<Progress>,
    stop: Stop,
    written_bytes: AtomicU64,
    max_bytes: Option<u64>,
    deadline: Option<Instant>,
    failed: AtomicBool,
    full: AtomicBool,
    /// An upload that nothing can go on with is still open: a later run has to give it up.
    left_upload: AtomicBool,
    on_error: OnError,
    /// `apply`: an object that changed fails instead of being planned again (rule 14).
    as_planned: bool,
}

impl Copier {
    async fn record(&self, record: Record) -> Result<()> {
        self.journal.record(record).await.map_err(|e| journal_error(&e))
    }

    async fn record_durable(&self, record: Record) -> Result<()> {
        self.journal.record_durable(record).await.map_err(|e| journal_error(&e))
    }

    fn why_stop(&self) -> Option<Stopped> {
        if self.stop.token.is_cancelled() {
            return Some(Stopped::Interrupted);
        }
        if self.guard.check().is_err() {
            return Some(Stopped::LeaseLost);
        }
        if self.full.load(Ordering::Relaxed) || (self.on_error == OnError::Stop && self.failed.load(Ordering::Relaxed))
        {
            return Some(Stopped::Error);
        }
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let much = self.max_bytes.is_some_and(|max| self.written_bytes.load(Ordering::Relaxed) >= max);
        (late || much).then_some(Stopped::Limit)
    }

    /// An error that ends a large object between two parts when the run has to stop.
    fn stopped(&self, action: &Action) -> Option<StoreError> {
        let stopped = self.why_stop()?;
        let error = StoreError::new("copy", self.target.place(), StoreErrorKind::Cancelled, stopped.reason());
        Some(error.on(&action.key))
    }
}

fn journal_error(error: &manifest::Error) -> StoreError {
    StoreError::new("record in", "the journal", StoreErrorKind::Other, chain(error))
}

/// Everything [`copy`] needs besides the job.
pub struct Inputs {
    /// What to do.
    pub plan: Arc<Plan>,
    /// The run: its folder in the trash.
    pub run: RunId,
    /// Where finished work is recorded.
    pub journal: JournalHandle,
    /// Permission to write.
    pub guard: LeaseGuard,
    /// Uploads that can be continued.
    pub unfinished: Unfinisheds,
    /// `apply`: do what the plan says or fail.
    pub as_planned: bool,
}

/// Carries the plan out. Failures of single objects are counted and reported; only what breaks the run itself (an
/// unreadable plan, a journal that cannot be written) is an error.
pub async fn copy(job: &Job, inputs: Inputs) -> Result<CopyReport, Failure> {
    let totals = inputs.plan.header.totals.clone();
    job.progress.plan(totals.copies + totals.compares + totals.deletes, totals.copy_bytes + totals.compare_bytes);
    let mut limits = job.limits.clone();
    limits.chunk_size = ChunkSize::new(inputs.plan.header.chunk_bytes).unwrap_or(limits.chunk_size);
    let (keeper, memory_bytes) = match &job.trash {
        Some(kept) => {
            let (keeper, left) = trash::Keeper::new(kept.clone(), job, inputs.run.clone());
            (Some(keeper), left)
        }
        None => (None, limits.memory_bytes),
    };
    let tables = Tables::of(&inputs.plan).await?;
    let copier = Arc::new(Copier {
        source: job.source.store.clone(),
        target: job.target.store.clone(),
        budget: Budget::new(memory_bytes),
        no_budget: Budget::new(u64::MAX),
        keeper,
        memory_bytes,
        chunk_size: limits.chunk_size,
        metadata: job.options.metadata,
        within: job.within.clone(),
        live: job.live.clone(),
        across: Across::between(job.source.store.as_ref(), job.target.store.as_ref()),
        layout: tables.layout(),
        proves: job.proves(),
        listener: job.listener.clone(),
        journal: inputs.journal,
        guard: inputs.guard,
        unfinished: inputs.unfinished,
        progress: job.progress.clone(),
        stop: job.stop.clone(),
        written_bytes: AtomicU64::new(0),
        max_bytes: limits.max_bytes,
        deadline: limits.deadline,
        failed: AtomicBool::new(false),
        full: AtomicBool::new(false),
        left_upload: AtomicBool::new(false),
        on_error: job.options.on_error,
        as_planned: inputs.as_planned,
    });
    let mut run = Run {
        copier,
        gate: job.gate.clone(),
        tables,
        listener: job.listener.clone(),
        ends: Ends { equal: totals.equal, ..Ends::default() },
        stopped: None,
        rows: Sorter::new(&job.spool, ROWS_MEMORY_BYTES),
        errors: Vec::new(),
        vanished: 0,
        gave_up: false,
    };
    // What was equal without an action is counted by the plan; what is recorded is counted as it passes.
    run.pass(&inputs.plan, limits.concurrency, &job.spool).await?;
    let full = run.copier.full.load(Ordering::Relaxed);
    let left_upload = run.copier.left_upload.load(Ordering::Relaxed);
    let trashed = run.copier.keeper.as_ref().map_or(0, |keeper| keeper.kept.load(Ordering::Relaxed));
    run.tell_behind();
    let Run { ends, stopped, rows, errors, vanished, gave_up, tables, .. } = run;
    let behind = tables.behind().len() > 0;
    Ok(CopyReport { behind, ends, stopped, rows, errors, vanished, gave_up, full, left_upload, trashed })
}

struct Run {
    copier: Arc<Copier>,
    tables: Tables,
    gate: Option<Arc<dyn Gate>>,
    listener: Listener,
    ends: Ends,
    stopped: Option<Stopped>,
    rows: Sorter<Row>,
    errors: Vec<String>,
    vanished: u64,
    gave_up: bool,
}

impl Run {
    async fn pass(&mut self, plan: &Arc<Plan>, concurrency: usize, spool: &Path) -> Result<(), Failure> {
        self.copier.progress.enter(Phase::Copying);
        for pass in Pass::bringing(self.tables.layout()) {
            let stage = pass.stage();
            let mut actions = stream(plan.clone(), pass);
            let mut tasks: JoinSet<Settled> = JoinSet::new();
            while let Some(action) = actions.recv().await {
                let action = action?;
                if !matches!(action.step, Step::Copy | Step::Compare) {
                    self.note_only(action)?;
                    continue;
                }
                // After a signal nobody waits for a free place: what is in work has its grace, the rest is not started.
                while tasks.len() >= concurrency && !self.copier.stop.token.is_cancelled() {
                    self.one(&mut tasks).await?;
                }
                self.stopped = self.stopped.or_else(|| self.copier.why_stop());
                match self.stopped {
                    Some(stopped) => self.skip(&action, stopped.reason()),
                    None if stage != Stage::Files && self.tables.is_broken(&action.key) => self.skip(&action, BROKEN),
                    None => {
                        let stage = stage.max(self.tables.layout().stage(&action.key));
                        drop(tasks.spawn(self.tables.settle(self.copier.clone(), action, stage)));
                    }
                }
            }
            self.drain(&mut tasks).await?;
            if !self.tables.layout().is_plain() && pass != Pass::Donors {
                // A power cut keeps no file that names one that it did not keep.
                self.copier.target.settle().await?;
            }
        }
        // Metadata that the gate writes names what was copied, and deletes rely on it.
        self.copier.target.settle().await?;
        if let Some(gate) = self.gate.clone().filter(|_| self.stopped.is_none()) {
            delete::record(self, plan).await?;
            self.gave_up = true;
            self.stopped = (!gate.copied(&self.ends).await).then_some(Stopped::Error);
        }
        self.copier.progress.enter(Phase::Deleting);
        delete::pass(self, plan, concurrency, spool).await?;
        for unfinished in self.copier.unfinished.drain() {
            // Only with the lease held, and only uploads that our own journals name (rules 17, 18).
            if self.stopped.is_some() || !self.copier.guard.is_held() {
                self.copier.left_upload.store(true, Ordering::Relaxed);
                continue;
            }
            let aborted = self.copier.target.abort_upload(&unfinished.key, &unfinished.upload).await;
            if let Err(error) = aborted {
                (self.listener)(Event::Note(format!("an abandoned upload stays: {}", chain(&error))));
                self.copier.left_upload.store(true, Ordering::Relaxed);
                continue;
            }
            let ended = Record::UploadEnded { upload_id: unfinished.upload.0, completed: false };
            self.copier.record(ended).await?;
        }
        self.give_up_trash_uploads().await
    }

    /// Uploads to the trash that dead runs left: nothing goes on with them.
    async fn give_up_trash_uploads(&mut self) -> Result<(), Failure> {
        for (key, upload) in self.copier.unfinished.drain_trash() {
            let Some(keeper) = &self.copier.keeper else {
                // It cannot be reached any more; to ask for it with every run would be for ever.
                let key = key.escaped();
                (self.listener)(Event::Note(format!(
                    "an unfinished upload of {key} stays in the trash of an earlier run"
                )));
                continue;
            };
            let held = self.stopped.is_none() && self.copier.guard.is_held();
            if !held || keeper.abort(&key, &upload).await.is_err() {
                self.copier.left_upload.store(true, Ordering::Relaxed);
                continue;
            }
            self.copier.record(Record::UploadEnded { upload_id: upload.0, completed: false }).await?;
        }
        Ok(())
    }

    /// Says which tables keep the version that they have.
    fn tell_behind(&self) {
        let behind = self.tables.behind();
        let count = behind.len();
        if count == 0 || self.stopped.is_some() {
            return;
        }
        let mut named: Vec<_> = behind.take(ERRORS_KEPT).map(|table| table.escaped()).collect();
        named.iter_mut().filter(|table| table.is_empty()).for_each(|table| *table = "the root".into());
        let more = if count > named.len() { ", ..." } else { "" };
        let note = format!("{count} tables keep the version that they have: {}{more}", named.join(", "));
        (self.listener)(Event::Note(note));
    }

    /// Waits for all tasks; after a signal only for a while.
    async fn drain(&mut self, tasks: &mut JoinSet<Settled>) -> Result<(), Failure> {
        let token = self.copier.stop.token.clone();
        let grace = async move {
            token.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let mut grace = std::pin::pin!(grace);
        while !tasks.is_empty() {
            tokio::select! {
                settled = tasks.join_next() => if let Some(settled) = settled { self.settled(settled?).await?; },
                () = &mut grace => {
                    // What is cut off here is compared by the next run; it ends as not finished in this one.
                    let cut = tasks.len() as u64;
                    tasks.abort_all();
                    while tasks.join_next().await.is_some() {}
                    self.ends.skipped += cut;
                    self.stopped = self.stopped.or(Some(Stopped::Interrupted));
                }
            }
        }
        Ok(())
    }

    /// Waits for one task, or for the signal.
    async fn one(&mut self, tasks: &mut JoinSet<Settled>) -> Result<(), Failure> {
        let token = self.copier.stop.token.clone();
        tokio::select! {
            settled = tasks.join_next() => match settled {
                Some(settled) => self.settled(settled?).await,
                None => Ok(()),
            },
            () = token.cancelled() => Ok(()),
        }
    }

    async fn settled(&mut self, settled: Settled) -> Result<(), Failure> {
        let Settled { action, end } = settled;
        match &end {
            End::Vanished => self.tables.vanished(&action.key),
            end if !end.is_there() => self.tables.breaks(&action.key),
            _ => {}
        }
        match end {
            End::Finished(finished) => return self.well(&action, *finished).await,
            End::Vanished => {
                self.vanished += 1;
                self.skip(&action, VANISHED);
            }
            End::Rewritten => self.skip(&action, REWRITTEN),
            End::After => self.skip(&action, BROKEN),
            End::Stopped => {
                self.stopped = self.stopped.or_else(|| self.copier.why_stop()).or(Some(Stopped::Interrupted));
                self.skip(&action, "not finished: the run was stopped");
            }
            End::Failed(error, kind) => self.fail(&action, error, kind).await?,
        }
        count(&self.copier.progress.done_objects, 1);
        Ok(())
    }

    /// Counts and keeps what ended well.
    async fn well(&mut self, action: &Action, finished: Finished) -> Result<(), Failure> {
        count(&self.copier.progress.done_objects, 1);
        match finished {
            Finished::Equal { entry } => {
                self.ends.equal += 1;
                count(&self.copier.progress.done_bytes, entry.size_bytes());
                self.finished(action, entry, Outcome::Equal, Means::None).await
            }
            Finished::Held => {
                self.skip(action, DIFFERS);
                Ok(())
            }
            Finished::Copied { entry, means, in_parts } => {
                let size = entry.size_bytes();
                self.ends.copied += 1;
                if means == Means::ServerSide {
                    self.ends.server_side += 1;
                    self.ends.server_side_bytes += size;
                } else {
                    self.copier.written_bytes.fetch_add(size, Ordering::Relaxed);
                }
                if !in_parts {
                    count(&self.copier.progress.done_bytes, size);
                }
                self.finished(action, entry, Outcome::Copied, means).await
            }
        }
    }

    async fn finished(&mut self, action: &Action, entry: Entry, outcome: Outcome, means: Means) -> Result<(), Failure> {
        self.report(action, outcome, means, entry.hash, action.reason.words(), None);
        self.copier.journal.record(Record::Done { entry: Box::new(entry.clone()) }).await?;
        Ok(self.rows.push(Row::Put(entry))?)
    }

    async fn fail(&mut self, action: &Action, error: String, kind: StoreErrorKind) -> Result<(), Failure> {
        self.ends.failed += 1;
        count(&self.copier.progress.failed_objects, 1);
        self.copier.failed.store(true, Ordering::Relaxed);
        if kind == StoreErrorKind::NoSpace {
            self.copier.full.store(true, Ordering::Relaxed);
        }
        if self.errors.len() < ERRORS_KEPT {
            self.errors.push(error.clone());
        }
        self.report(action, Outcome::Failed, Means::None, None, action.reason.words(), Some(error.clone()));
        Ok(self.copier.journal.record(Record::Failed { key: action.key.clone(), error }).await?)
    }

    /// An action that needs no work: counted, reported, and kept for the manifest.
    fn note_only(&mut self, action: Action) -> Result<(), Failure> {
        match action.step {
            // Already in the plan's count of equal keys.
            Step::Record => {
                if let Some(entry) = action.entry {
                    self.rows.push(Row::Put(entry))?;
                }
            }
            Step::Forget => self.rows.push(Row::Remove(action.key))?,
            Step::Fail => {
                self.ends.failed += 1;
                self.tables.breaks(&action.key);
                if self.errors.len() < ERRORS_KEPT {
                    self.errors.push(format!("{}: {}", action.key.escaped(), action.reason.words()));
                }
                self.report(&action, Outcome::Failed, Means::None, None, action.reason.words(), None);
            }
            _ => self.skip(&action, action.reason.words()),
        }
        Ok(())
    }

    fn skip(&mut self, action: &Action, reason: &str) {
        self.ends.skipped += 1;
        self.report(action, Outcome::Skipped, Means::None, None, reason, None);
    }

    fn report(
        &self,
        action: &Action,
        outcome: Outcome,
        means: Means,
        hash: Option<manifest::ContentHash>,
        reason: &str,
        error: Option<String>,
    ) {
        (self.listener)(Event::Object(ObjectReport {
            key: action.key.clone(),
            outcome,
            means,
            size_bytes: action.size_bytes(),
            hash,
            reason: reason.into(),
            error,
        }));
    }
}
