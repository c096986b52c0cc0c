//! The held lease file: renewing, confirming, releasing, and the clocks that say how old a confirmation is.
//!
//! Never counts a renewal from later than just before its request was sent, and never gives up on a write without an
//! answer: reading tells what became of it. A crash leaves the file as the last renewal wrote it. A power cut may leave it
//! as an earlier renewal did, which to others is the same: held, by a process that is gone. Taking it is durable at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::LeaseRecord;
use crate::error::{Class, Error, Result};
use crate::state::layout::{self, JobName};
use crate::state::{Lasting, StateStore, Tag};

/// A lease is renewed this often in its duration: every 5 s of 30 s.
pub(super) const RENEWALS_PER_DURATION: u32 = 6;
/// Attempts at one renewal before the next tick.
const RENEW_ATTEMPTS: u32 = 3;
/// Attempts at releasing.
const RELEASE_ATTEMPTS: u32 = 3;
/// Why a guard that outlives the release says no.
const RELEASED: &str = "it was released";

/// What the lease and its renewing task share.
#[derive(Debug)]
pub(super) struct Core {
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
pub(super) struct Moment {
    monotonic: Instant,
    since_boot: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
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

pub(super) async fn renew_forever(core: Arc<Core>) {
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
    /// The lease that stands in the store as `record`, confirmed at that moment.
    pub(super) fn new(
        store: Arc<dyn StateStore>,
        record: LeaseRecord,
        tag: Tag,
        duration: Duration,
        confirmed: Moment,
    ) -> Self {
        Self {
            store,
            name: layout::lease(&record.job),
            job: record.job.clone(),
            duration,
            file: tokio::sync::Mutex::new(OwnFile { record, tag, pending: None, releasing: false }),
            health: Mutex::new(Health { confirmed, lost: None }),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: impl Into<String>) -> Error {
        Error::LeaseLost { job: self.job.to_string(), reason: reason.into() }
    }

    pub(super) fn check(&self) -> Result<()> {
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

    /// Whether the last confirmed renewal was sent less than `age` ago.
    pub(super) fn is_fresh(&self, age: Duration) -> bool {
        self.health().confirmed.elapsed() < age
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

    pub(super) async fn confirm(&self) -> Result<()> {
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
        let Some(tag) = self.store.swap_as(&self.name, bytes, &file.tag, Lasting::Whole).await? else {
            return Ok(false);
        };
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

    pub(super) async fn release(&self) -> Result<()> {
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
