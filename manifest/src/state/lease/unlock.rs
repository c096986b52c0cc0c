//! Looking at a lease, and breaking one, for people (`status`, `unlock`).
//!
//! Never breaks a lease that has changed since it was looked at. A crash leaves it held or broken, nothing between.

use super::{Holder, LeaseRecord};
use crate::error::{Error, Result};
use crate::state::layout::{self, JobName, RunId};
use crate::state::{StateStore, Tag, checkpoint};
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
