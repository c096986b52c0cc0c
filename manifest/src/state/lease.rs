//! One run of a job at a time: the lease file (rule 15, cases 46 to 48).
//!
//! A lease is a small file that its holder rewrites every few seconds. It is stale when its bytes have not changed for its
//! whole duration on the *taker's* monotonic clock; wall clocks decide nothing. Every change of hands raises the
//! *generation*, which fences the checkpoint. A holder asks its [`LeaseGuard`] before every write and delete: it says no
//! once the last confirmed renewal is older than half the duration, long before anybody may take over.
//!
//! Never takes a lease from a holder that is alive, and never says that a lease is held when only a lost answer knows. A
//! crash leaves a lease that the next run takes over: at once when the dead process ran on this machine and the state is
//! local, else after the duration.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::document::{self, Format};
pub use super::holder::{Holder, Liveness};
use super::layout::{self, JobName, RunId};
use super::{StateStore, Tag, checkpoint};
use crate::error::{Class, Error, Result};

/// How long a lease lives without a renewal.
pub const DURATION: Duration = Duration::from_secs(30);
/// A lease is renewed this often in its duration: every 5 s of 30 s.
const RENEWALS_PER_DURATION: u32 = 6;
/// A contender looks this often in the duration of a lease that may be dead.
const LOOKS_PER_DURATION: u32 = 10;
/// Attempts at one renewal before the next tick.
const RENEW_ATTEMPTS: u32 = 3;
/// How often acquiring acts on a free lease (lost answers, races) before it gives up.
const ACQUIRE_ATTEMPTS: u32 = 8;
/// How many errors in a row acquiring bears.
const ACQUIRE_ERRORS: u32 = 5;
/// Attempts at releasing.
const RELEASE_ATTEMPTS: u32 = 3;

/// Why a guard that outlives the release says no.
const RELEASED: &str = "it was released";

const FORMAT: Format = Format { what: "lease", format: "understudy-lease", version: 1, needs: "0.1.0" };

/// The content of a lease file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The job.
    pub job: JobName,
    /// The fencing number: one more each time that the lease is acquired.
    pub generation: u64,
    /// Who holds it, or held it last.
    pub holder: Holder,
    /// The holder's run.
    pub run_id: RunId,
    /// Random digits of this acquisition: by them a holder knows its own bytes again.
    pub nonce: String,
    /// How long it lives without a renewal, in milliseconds.
    pub duration_ms: u64,
    /// Counts renewals, so that each one changes the bytes.
    pub renewal: u64,
    /// Nobody holds it any more.
    pub released: bool,
}

impl LeaseRecord {
    fn read(job: &JobName, bytes: &[u8]) -> Result<Self> {
        document::decode(&FORMAT, &layout::lease(job), bytes)
    }

    fn to_bytes(&self) -> Result<Bytes> {
        document::encode(&FORMAT, &layout::lease(&self.job), self)
    }

    fn held(&self) -> Error {
        let holder = format!("{} (run {})", self.holder, self.run_id);
        Error::LeaseHeld { job: self.job.to_string(), holder }
    }
}

/// A held lease, renewed by a task of its own until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    core: Arc<Core>,
    generation: u64,
    /// The renewing task; dropping aborts it.
    renewing: JoinSet<()>,
}

/// What the lease and its renewing task share.
#[derive(Debug)]
struct Core {
    store: Arc<dyn StateStore>,
    name: String,
    job: JobName,
    duration: Duration,
    /// The file as we know it; locked over a whole renewal.
    file: tokio::sync::Mutex<OwnFile>,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct OwnFile {
    record: LeaseRecord,
    tag: Tag,
    /// A write whose answer is not known: its counter, and when its first request was sent.
    pending: Option<(u64, Moment)>,
    /// The last write gives the lease back.
    releasing: bool,
}

/// A moment on the clocks that never jump. Two of them: the monotonic clock stands still while a machine sleeps, and a
/// holder that wakes up must not think that its lease is young.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Instant,
    since_boot: Duration,
}

impl Moment {
    fn now() -> Self {
        Self { monotonic: Instant::now(), since_boot: since_boot() }
    }

    fn elapsed(self) -> Duration {
        self.monotonic.elapsed().max(since_boot().saturating_sub(self.since_boot))
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    Duration::ZERO
}

#[derive(Debug)]
struct Health {
    /// Just before the last confirmed renewal's request was sent.
    confirmed: Moment,
    /// Why the lease is gone for good.
    lost: Option<String>,
}

/// Says whether the lease still allows a write. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct LeaseGuard {
    core: Option<Arc<Core>>,
}

impl LeaseGuard {
    /// Whether writes and deletes are still allowed. Always, without a lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] once the last confirmed renewal is older than half the duration, or another run has taken over.
    pub fn check(&self) -> Result<()> {
        self.core.as_ref().map_or(Ok(()), |core| core.check())
    }
}

impl Lease {
    /// Takes the job's lease for `run`, waiting for one that may be dead. `on_wait` is called once, if it comes to waiting,
    /// with the lease found and the time that it may take.
    ///
    /// # Errors
    /// [`Error::LeaseHeld`] when its holder is alive (its bytes change, or its process runs on this machine), or another
    /// contender was faster; [`Error::Damaged`] and [`Error::FutureVersion`] for a file that is not understood.
    pub async fn acquire(
        store: Arc<dyn StateStore>,
        job: &JobName,
        run: &RunId,
        holder: Holder,
        duration: Duration,
        on_wait: &(dyn Fn(&LeaseRecord, Duration) + Send + Sync),
    ) -> Result<Lease> {
        let ours = LeaseRecord {
            job: job.clone(),
            generation: 0,
            holder,
            run_id: run.clone(),
            nonce: format!("{:032x}", rand::random::<u128>()),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            renewal: 0,
            released: false,
        };
        let mut taking = Taking { store: &store, ours, first_sent: None, attempts: 0, watched: None };
        let mut errors = 0;
        loop {
            match taking.step(on_wait).await {
                Ok(Step::Done(record, tag)) => {
                    let confirmed = taking.first_sent.unwrap_or_else(Moment::now);
                    return Ok(Lease::start(Arc::clone(&store), *record, tag, duration, confirmed));
                }
                Ok(Step::Again) => errors = 0,
                Ok(Step::Wait(pause)) => {
                    errors = 0;
                    sleep(pause).await;
                }
                Err(error) if error.class() == Class::Retryable && errors < ACQUIRE_ERRORS => {
                    errors += 1;
                    sleep(document::WRITE_PAUSE * errors).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// No lease (`--no-lease`): the guard always allows, and [`Lease::is_held`] says so.
    pub fn none() -> Lease {
        Lease { held: None }
    }

    fn start(
        store: Arc<dyn StateStore>,
        record: LeaseRecord,
        tag: Tag,
        duration: Duration,
        confirmed: Moment,
    ) -> Lease {
        let generation = record.generation;
        let core = Arc::new(Core {
            store,
            name: layout::lease(&record.job),
            job: record.job.clone(),
            duration,
            file: tokio::sync::Mutex::new(OwnFile { record, tag, pending: None, releasing: false }),
            health: Mutex::new(Health { confirmed, lost: None }),
        });
        let mut renewing = JoinSet::new();
        renewing.spawn(renew_forever(Arc::clone(&core)));
        Lease { held: Some(Held { core, generation, renewing }) }
    }

    /// Whether there is a lease at all; false for [`Lease::none`]. Whether it still holds is the guard's to say.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The fencing number; 0 without a lease.
    pub fn generation(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.generation)
    }

    /// The guard to ask before each write and delete.
    pub fn guard(&self) -> LeaseGuard {
        LeaseGuard { core: self.held.as_ref().map(|held| Arc::clone(&held.core)) }
    }

    /// Renews now and waits for the store's word.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when another run holds it; the store's error when it could not be asked.
    pub async fn confirm(&self) -> Result<()> {
        match &self.held {
            Some(held) => held.core.confirm().await,
            None => Ok(()),
        }
    }

    /// Gives the lease back, so that the next run starts at once.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when it was not ours any more; the store's error when it could not be written (then the next
    /// run waits for the duration).
    pub async fn release(mut self) -> Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        held.renewing.shutdown().await;
        held.core.release().await
    }
}

/// What a step of acquiring came to.
enum Step {
    Done(Box<LeaseRecord>, Tag),
    Again,
    Wait(Duration),
}

/// The state of one acquisition.
struct Taking<'a> {
    store: &'a Arc<dyn StateStore>,
    ours: LeaseRecord,
    /// When our first write was sent. Whichever of our writes landed, it landed after this.
    first_sent: Option<Moment>,
    attempts: u32,
    /// The bytes of another holder, and since when we see them unchanged.
    watched: Option<(Bytes, Instant)>,
}

impl Taking<'_> {
    async fn step(&mut self, on_wait: &(dyn Fn(&LeaseRecord, Duration) + Send + Sync)) -> Result<Step> {
        let job = self.ours.job.clone();
        let Some((bytes, tag)) = self.store.get(&layout::lease(&job)).await? else {
            // A lease that somebody removed must not start again below the numbers that the checkpoint has seen.
            let fenced = checkpoint::stored_generation(&**self.store, &job).await?;
            return self.write(fenced, None).await;
        };
        let found = LeaseRecord::read(&job, &bytes)?;
        if found.nonce == self.ours.nonce {
            return Ok(Step::Done(Box::new(found), tag));
        }
        if found.released {
            return self.write(found.generation, Some(&tag)).await;
        }
        if self.attempts > 0 && self.watched.as_ref().is_none_or(|(watched, _)| *watched != bytes) {
            // It was free or dead, and somebody was faster.
            return Err(found.held());
        }
        if self.store.is_this_machine() {
            match found.holder.liveness(&self.ours.holder) {
                Liveness::Alive => return Err(found.held()),
                Liveness::Gone => {
                    // Remembered, so that losing this race is told from a first sight.
                    self.watched.get_or_insert_with(|| (bytes, Instant::now()));
                    return self.write(found.generation, Some(&tag)).await;
                }
                Liveness::Unknown => {}
            }
        }
        let life = Duration::from_millis(found.duration_ms);
        match &self.watched {
            Some((watched, _)) if *watched != bytes => Err(found.held()),
            Some((_, since)) if since.elapsed() >= life => self.write(found.generation, Some(&tag)).await,
            Some(_) => Ok(Step::Wait(life / LOOKS_PER_DURATION)),
            None => {
                self.watched = Some((bytes, Instant::now()));
                on_wait(&found, life);
                Ok(Step::Wait(life / LOOKS_PER_DURATION))
            }
        }
    }

    /// Writes our lease over a free or dead one of the generation `before`.
    async fn write(&mut self, before: u64, expected: Option<&Tag>) -> Result<Step> {
        if self.attempts == ACQUIRE_ATTEMPTS {
            return Err(Error::LeaseHeld { job: self.ours.job.to_string(), holder: "other runs, taking turns".into() });
        }
        self.attempts += 1;
        self.ours.generation = before + 1;
        let name = layout::lease(&self.ours.job);
        let bytes = self.ours.to_bytes()?;
        let sent = Moment::now();
        self.first_sent.get_or_insert(sent);
        let written = match expected {
            None => self.store.create(&name, bytes).await?,
            Some(tag) => self.store.swap(&name, bytes, tag).await?,
        };
        Ok(match written {
            Some(tag) => {
                self.first_sent = Some(sent);
                Step::Done(Box::new(self.ours.clone()), tag)
            }
            // Ours by a lost answer, or another's: reading tells.
            None => Step::Again,
        })
    }
}

async fn renew_forever(core: Arc<Core>) {
    let interval = core.duration / RENEWALS_PER_DURATION;
    let mut next = core.health().confirmed.monotonic;
    loop {
        next += interval;
        tokio::time::sleep_until(next).await;
        next = next.max(Instant::now());
        for attempt in 1..=RENEW_ATTEMPTS {
            match timeout(interval, core.renew()).await {
                Ok(Ok(())) => break,
                Ok(Err(error @ Error::LeaseLost { .. })) => {
                    tracing::warn!(job = %core.job, %error, "the lease is lost");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(job = %core.job, attempt, %error, "cannot renew the lease"),
                Err(_) => tracing::warn!(job = %core.job, attempt, "no answer to the renewal of the lease"),
            }
            sleep(interval / (2 * RENEW_ATTEMPTS)).await;
        }
    }
}

impl Core {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: impl Into<String>) -> Error {
        Error::LeaseLost { job: self.job.to_string(), reason: reason.into() }
    }

    fn check(&self) -> Result<()> {
        let health = self.health();
        if let Some(reason) = &health.lost {
            return Err(self.lost(reason));
        }
        let age = health.confirmed.elapsed();
        if age > self.duration / 2 {
            let (age, limit) = (age.as_secs_f32(), (self.duration / 2).as_secs_f32());
            return Err(self.lost(format!("it was last confirmed {age:.1} s ago, more than {limit:.1} s")));
        }
        Ok(())
    }

    /// Marks the lease as gone for good.
    fn lose(&self, reason: String) -> Error {
        self.health().lost = Some(reason.clone());
        self.lost(reason)
    }

    fn confirm_at(&self, sent: Moment) {
        let mut health = self.health();
        if sent.monotonic > health.confirmed.monotonic {
            health.confirmed = sent;
        }
    }

    fn still_ours(&self) -> Result<()> {
        match &self.health().lost {
            Some(reason) => Err(self.lost(reason)),
            None => Ok(()),
        }
    }

    async fn confirm(&self) -> Result<()> {
        let limit = self.duration / 2;
        timeout(limit, self.renew()).await.unwrap_or_else(|_| {
            Err(Error::State {
                operation: "renew",
                name: self.name.clone(),
                place: self.store.place(),
                reason: format!("no answer in {:.1} s", limit.as_secs_f32()),
                class: Class::Retryable,
                permission: false,
            })
        })?;
        self.check()
    }

    /// One renewal. May be dropped at any await: what was sent is remembered as pending.
    async fn renew(&self) -> Result<()> {
        let mut file = self.file.lock().await;
        self.still_ours()?;
        if file.pending.is_some() {
            self.reread(&mut file).await?;
        }
        let next = LeaseRecord { renewal: file.record.renewal + 1, ..file.record.clone() };
        if self.write(&mut file, next).await? {
            return Ok(());
        }
        // The tag was not the expected one: our own earlier write, or another run.
        self.reread(&mut file).await
    }

    /// Swaps the file for `next`; false when the tag was not the expected one.
    async fn write(&self, file: &mut OwnFile, next: LeaseRecord) -> Result<bool> {
        let bytes = next.to_bytes()?;
        let sent = Moment::now();
        match file.pending {
            Some((renewal, _)) if renewal == next.renewal => {}
            _ => file.pending = Some((next.renewal, sent)),
        }
        let Some(tag) = self.store.swap(&self.name, bytes, &file.tag).await? else { return Ok(false) };
        (file.record, file.tag, file.pending) = (next, tag, None);
        self.confirm_at(sent);
        Ok(true)
    }

    /// Finds out what became of a write without an answer, and whether the lease is ours.
    async fn reread(&self, file: &mut OwnFile) -> Result<()> {
        let Some((bytes, tag)) = self.store.get(&self.name).await? else {
            return Err(self.lose("its file was removed".into()));
        };
        let found = match LeaseRecord::read(&self.job, &bytes) {
            Ok(found) => found,
            Err(error) => return Err(self.lose(error.to_string())),
        };
        if found.nonce != file.record.nonce {
            return Err(self.lose(format!("it was taken over by {} (run {})", found.holder, found.run_id)));
        }
        if found.released && !file.releasing {
            return Err(self.lose("it was broken by hand".into()));
        }
        // A write whose effect is seen counts from its first request. Without effect it stays pending: it may still land,
        // and then has this renewal number.
        if let Some((renewal, sent)) = file.pending
            && found.renewal == renewal
        {
            file.pending = None;
            self.confirm_at(sent);
        }
        (file.record, file.tag) = (found, tag);
        Ok(())
    }

    async fn release(&self) -> Result<()> {
        let mut file = self.file.lock().await;
        self.still_ours()?;
        file.releasing = true;
        let mut last = None;
        for _ in 0..RELEASE_ATTEMPTS {
            if file.pending.is_some() {
                match self.reread(&mut file).await {
                    Ok(()) if file.record.released => {
                        self.health().lost = Some(RELEASED.into());
                        return Ok(());
                    }
                    Ok(()) => {}
                    Err(error) if error.class() == Class::Retryable => {
                        last = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            // The number rises: a renewal that is still on its way can never be mistaken for this.
            let next = LeaseRecord { released: true, renewal: file.record.renewal + 1, ..file.record.clone() };
            match self.write(&mut file, next).await {
                Ok(true) => {
                    self.health().lost = Some(RELEASED.into());
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) if error.class() == Class::Retryable => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| self.lost("it could not be released")))
    }
}

/// A lease file as found, for `status` and `unlock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The version of the file that was seen, for [`break_lease`].
    pub tag: Tag,
    /// Its content, or why it cannot be read.
    pub found: Result<LeaseRecord, String>,
}

/// Reads the job's lease; `None` when there is none. Changes nothing.
///
/// # Errors
/// The store's, and [`Error::FutureVersion`]. A damaged lease is no error: it is shown, and can be broken.
pub async fn inspect(store: &dyn StateStore, job: &JobName) -> Result<Option<Inspection>> {
    let Some((bytes, tag)) = store.get(&layout::lease(job)).await? else { return Ok(None) };
    let found = match LeaseRecord::read(job, &bytes) {
        Ok(record) => Ok(record),
        Err(error @ Error::FutureVersion { .. }) => return Err(error),
        Err(error) => Err(error.to_string()),
    };
    Ok(Some(Inspection { tag, found }))
}

/// Breaks the lease that was inspected: marks it as released, so that the next run takes it. Its holder, should it live
/// after all, notices at its next renewal, and cannot write the checkpoint of a later generation.
///
/// # Errors
/// [`Error::LeaseHeld`] when the file has changed since: its holder is alive.
pub async fn break_lease(store: &dyn StateStore, job: &JobName, by: &Holder, seen: &Inspection) -> Result<()> {
    let record = match &seen.found {
        Ok(record) => LeaseRecord { released: true, ..record.clone() },
        Err(_) => LeaseRecord {
            job: job.clone(),
            generation: checkpoint::stored_generation(store, job).await?,
            holder: by.clone(),
            run_id: RunId::new(by.started),
            nonce: String::new(),
            duration_ms: 0,
            renewal: 0,
            released: true,
        },
    };
    let bytes = record.to_bytes()?;
    let swapped = store.swap(&layout::lease(job), bytes.clone(), &seen.tag).await;
    if let Ok(Some(_)) = swapped {
        return Ok(());
    }
    match store.get(&layout::lease(job)).await? {
        Some((now, _)) if now == bytes => Ok(()),
        Some((now, tag)) if tag != seen.tag => match LeaseRecord::read(job, &now)? {
            released if released.released => Ok(()),
            held => Err(held.held()),
        },
        None => Ok(()),
        Some(_) => Err(match swapped {
            Err(error) => error,
            Ok(_) => Error::UnsafeState {
                place: store.place(),
                reason: "it refuses to replace a file that is unchanged".into(),
            },
        }),
    }
}

#[cfg(test)]
mod tests;
