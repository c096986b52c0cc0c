//! Acquiring: one look at the lease file at a time, and what follows from it.
//!
//! Never writes over a lease whose bytes changed while we watched, or whose process is seen alive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::renewal::Moment;
use super::{LeaseRecord, Liveness};
use crate::error::{Error, Result};
use crate::state::{StateStore, Tag, checkpoint, layout};

/// A contender looks this often in the duration of a lease that may be dead.
pub(super) const LOOKS_PER_DURATION: u32 = 10;
/// How often acquiring acts on a free lease (lost answers, races) before it gives up.
const ACQUIRE_ATTEMPTS: u32 = 8;
/// What a step of acquiring came to.
pub(super) enum Step {
    Done(Box<LeaseRecord>, Tag),
    Again,
    Wait(Duration),
}

/// The state of one acquisition.
pub(super) struct Taking<'a> {
    store: &'a Arc<dyn StateStore>,
    ours: LeaseRecord,
    /// When our first write was sent. Whichever of our writes landed, it landed after this.
    first_sent: Option<Moment>,
    attempts: u32,
    /// The bytes of another holder, and since when we see them unchanged.
    watched: Option<(Bytes, Instant)>,
}

impl<'a> Taking<'a> {
    /// An acquisition by `ours`, whose generation is set when it is written.
    pub(super) fn new(store: &'a Arc<dyn StateStore>, ours: LeaseRecord) -> Self {
        Self { store, ours, first_sent: None, attempts: 0, watched: None }
    }

    /// A moment before the lease was written.
    pub(super) fn sent(&self) -> Moment {
        self.first_sent.unwrap_or_else(Moment::now)
    }

    /// Looks at the lease once, and acts. `on_wait` is called when waiting for it begins.
    pub(super) async fn step(&mut self, on_wait: &(dyn Fn(&LeaseRecord, Duration) + Send + Sync)) -> Result<Step> {
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
