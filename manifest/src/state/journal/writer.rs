//! Writing a run's journal: one task that gathers records and creates segments.
//!
//! Records wait in a bounded queue while a segment is written, and go together into the next one: a thousand callers that
//! need durability share one write. After a write that failed for good every later call fails with its error; nothing is
//! lost in silence. Dropping the writer is like a crash: what was not flushed is gone.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{FORMAT, Lines, Record, encode};
use crate::error::{Class, Error, Result};
use crate::state::layout::{self, JobName, RunId};
use crate::state::lease::LeaseGuard;
use crate::state::{Lasting, StateStore, document};

/// How long a record waits at most before its segment is written.
pub const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// The most records of a segment.
pub const MAX_RECORDS: u64 = 10_000;
/// A segment is written once its lines have this many bytes: the memory of a writer and of a reader.
pub const MAX_SEGMENT_BYTES: usize = 8 << 20;
/// How many records wait while a segment is written.
const QUEUE: usize = 1024;

/// What the records of a journal vouch for: objects that may have been acknowledged before they are durable.
#[async_trait]
pub trait Vouched: Debug + Send + Sync {
    /// Makes durable what was acknowledged before this call.
    async fn settle(&self) -> Result<()>;
}

/// What a journal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalTotals {
    /// Records written.
    pub records: u64,
    /// Segments written.
    pub segments: u32,
    /// Bytes of the segments.
    pub bytes: u64,
}

/// The journal of a run in flight; its task ends with it.
#[derive(Debug)]
pub struct JournalWriter {
    handle: JournalHandle,
    /// The writing task; dropping aborts it.
    task: JoinSet<()>,
}

/// Where records go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    queue: mpsc::Sender<Command>,
    failure: Arc<OnceLock<Failure>>,
    name: Arc<str>,
}

#[derive(Debug)]
enum Command {
    Record(Box<Record>, Option<oneshot::Sender<()>>),
    Flush(oneshot::Sender<JournalTotals>),
}

/// An error that is told to every caller.
#[derive(Debug, Clone)]
enum Failure {
    LeaseLost { job: String, reason: String },
    Store { name: String, place: String, reason: String, class: Class, permission: bool },
}

impl Failure {
    fn of(error: Error, segment: &str, place: String) -> Self {
        let class = error.class();
        match error {
            Error::LeaseLost { job, reason } => Failure::LeaseLost { job, reason },
            Error::State { name, place, reason, class, permission, .. } => {
                Failure::Store { name, place, reason, class, permission }
            }
            other => {
                Failure::Store { name: segment.into(), place, reason: other.to_string(), class, permission: false }
            }
        }
    }

    fn to_error(&self) -> Error {
        match self.clone() {
            Failure::LeaseLost { job, reason } => Error::LeaseLost { job, reason },
            Failure::Store { name, place, reason, class, permission } => {
                Error::State { operation: "write", name, place, reason, class, permission }
            }
        }
    }
}

impl JournalHandle {
    /// Queues the record; it is durable some seconds later, or when the journal is flushed. Waits while the queue is full.
    ///
    /// # Errors
    /// The error by which an earlier record could not be written.
    pub async fn record(&self, record: Record) -> Result<()> {
        self.send(Command::Record(Box::new(record), None)).await
    }

    /// Records and waits until the record survives a crash. Callers that wait at the same time share a segment.
    ///
    /// # Errors
    /// The error by which this record, or an earlier one, could not be written.
    pub async fn record_durable(&self, record: Record) -> Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Record(Box::new(record), Some(done))).await?;
        answer.await.map_err(|_| self.error())
    }

    /// Makes all that was recorded durable, and says how much that is.
    ///
    /// # Errors
    /// The error by which a record could not be written.
    pub async fn flush(&self) -> Result<JournalTotals> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Flush(done)).await?;
        answer.await.map_err(|_| self.error())
    }

    async fn send(&self, command: Command) -> Result<()> {
        self.queue.send(command).await.map_err(|_| self.error())
    }

    /// Why the task is gone.
    fn error(&self) -> Error {
        match self.failure.get() {
            Some(failure) => failure.to_error(),
            None => Error::State {
                operation: "write",
                name: self.name.to_string(),
                place: "the journal".into(),
                reason: "the journal was closed".into(),
                class: Class::Cancelled,
                permission: false,
            },
        }
    }
}

impl JournalWriter {
    /// Starts the journal of a fresh run. A segment is written when the oldest record has waited `flush_every`
    /// ([`FLUSH_EVERY`]), when there are `max_records` ([`MAX_RECORDS`]) or [`MAX_SEGMENT_BYTES`], and when asked; before
    /// each one `vouched` is settled, so that no segment says more than is durable, and `guard` is asked.
    pub fn start(
        store: Arc<dyn StateStore>,
        job: &JobName,
        run: &RunId,
        vouched: Option<Arc<dyn Vouched>>,
        guard: LeaseGuard,
        flush_every: Duration,
        max_records: u64,
    ) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE);
        let failure = Arc::new(OnceLock::new());
        let handle = JournalHandle { queue, failure: Arc::clone(&failure), name: layout::run_folder(job, run).into() };
        let writing = Writing {
            store,
            job: job.clone(),
            run: run.clone(),
            vouched,
            guard,
            flush_every,
            max_records,
            lines: Lines::default(),
            totals: JournalTotals::default(),
            waiting: Vec::new(),
            asked: Vec::new(),
        };
        let mut task = JoinSet::new();
        task.spawn(async move { writing.run(commands, &failure).await });
        Self { handle, task }
    }

    /// A handle for those who record.
    pub fn handle(&self) -> JournalHandle {
        self.handle.clone()
    }

    /// Writes what is left and ends the journal; later calls on handles fail.
    ///
    /// # Errors
    /// The error by which a record could not be written.
    pub async fn finish(mut self) -> Result<JournalTotals> {
        let totals = self.handle.flush().await;
        self.task.shutdown().await;
        totals
    }
}

/// The state of the writing task.
struct Writing {
    store: Arc<dyn StateStore>,
    job: JobName,
    run: RunId,
    vouched: Option<Arc<dyn Vouched>>,
    guard: LeaseGuard,
    flush_every: Duration,
    max_records: u64,
    lines: Lines,
    totals: JournalTotals,
    /// Callers that wait for the records in `lines`. No more than the records.
    waiting: Vec<oneshot::Sender<()>>,
    /// Callers that asked for a flush. They live as long as this: whoever finds them gone finds the reason set.
    asked: Vec<oneshot::Sender<JournalTotals>>,
}

impl Writing {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, failure: &OnceLock<Failure>) {
        if let Err(error) = self.serve(&mut commands).await {
            let segment = layout::journal_segment(&self.job, &self.run, self.totals.segments + 1);
            // Set before the queue and the callers' answers go: who finds them gone finds the reason.
            let _ = failure.set(Failure::of(error, &segment, self.store.place()));
        }
    }

    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<()> {
        // When the oldest record that is not written must be.
        let mut due: Option<Instant> = None;
        loop {
            let first = match due {
                None => commands.recv().await,
                Some(due) if due <= Instant::now() => None,
                Some(due) => tokio::time::timeout_at(due, commands.recv()).await.unwrap_or(None),
            };
            if first.is_none() && due.is_none() {
                return Ok(());
            }
            let mut next = first;
            let timed_out = next.is_none();
            while let Some(command) = next {
                match command {
                    Command::Record(record, done) => {
                        self.push(&record)?;
                        self.waiting.extend(done);
                    }
                    Command::Flush(done) => self.asked.push(done),
                }
                // Whoever waits already goes into the same segment.
                next = if self.is_full() { None } else { commands.try_recv().ok() };
            }
            if timed_out || self.is_full() || !self.waiting.is_empty() || !self.asked.is_empty() {
                self.flush().await?;
                due = None;
                for done in self.asked.drain(..) {
                    // Who asked may have gone away.
                    let _ = done.send(self.totals);
                }
            } else {
                due = due.or_else(|| Some(Instant::now() + self.flush_every));
            }
        }
    }

    fn push(&mut self, record: &Record) -> Result<()> {
        self.lines.push(record).map_err(|error| {
            let segment = layout::journal_segment(&self.job, &self.run, self.totals.segments + 1);
            document::damaged(&FORMAT, &segment, format!("a record cannot be written as JSON: {error}"))
        })
    }

    fn is_full(&self) -> bool {
        self.lines.count >= self.max_records || self.lines.bytes.len() >= MAX_SEGMENT_BYTES
    }

    async fn flush(&mut self) -> Result<()> {
        if self.lines.count > 0 {
            if let Some(vouched) = &self.vouched {
                vouched.settle().await?;
            }
            let number = self.totals.segments + 1;
            let bytes = Bytes::from(encode(&self.job, &self.run, number, &self.lines)?);
            let name = layout::journal_segment(&self.job, &self.run, number);
            document::publish_own(&*self.store, &name, &bytes, Lasting::Durable, || self.guard.check()).await?;
            self.totals.segments = number;
            self.totals.records += self.lines.count;
            self.totals.bytes += bytes.len() as u64;
            self.lines = Lines::default();
        }
        for done in self.waiting.drain(..) {
            let _ = done.send(());
        }
        Ok(())
    }
}
