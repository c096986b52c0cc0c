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

mod renewal;
mod taking;
mod unlock;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::renewal::{Core, Moment, renew_forever};
use self::taking::{Step, Taking};
pub use self::unlock::{Inspection, break_lease, inspect};
use super::document::{self, Format};
pub use super::holder::{Holder, Liveness};
use super::layout::{self, JobName, RunId};
use super::{StateStore, Tag};
use crate::error::{Class, Error, Result};

/// How long a lease lives without a renewal.
pub const DURATION: Duration = Duration::from_secs(30);
/// How many errors in a row acquiring bears.
const ACQUIRE_ERRORS: u32 = 5;

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
        let name = layout::lease(job);
        let record: LeaseRecord = document::decode(&FORMAT, &name, bytes)?;
        match record.job == *job {
            true => Ok(record),
            false => Err(document::damaged(&FORMAT, &name, format!("it is of job {}", record.job))),
        }
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

/// Says whether the lease still allows a write. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct LeaseGuard {
    core: Option<Arc<Core>>,
}

impl LeaseGuard {
    /// Whether there is a lease behind it at all; false without one (`--no-lease`).
    pub fn is_held(&self) -> bool {
        self.core.is_some()
    }

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
        let mut taking = Taking::new(&store, ours);
        let mut errors = 0;
        loop {
            match taking.step(on_wait).await {
                Ok(Step::Done(record, tag)) => {
                    let confirmed = taking.sent();
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
        let core = Arc::new(Core::new(store, record, tag, duration, confirmed));
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

    /// As [`Lease::confirm`], unless the last renewal was confirmed less than `age` ago: shorter than anybody who takes
    /// over has to watch it.
    ///
    /// # Errors
    /// As [`Lease::confirm`].
    pub async fn confirmed_within(&self, age: Duration) -> Result<()> {
        match &self.held {
            Some(held) if held.core.is_fresh(age) => held.core.check(),
            _ => self.confirm().await,
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

#[cfg(test)]
mod tests;
