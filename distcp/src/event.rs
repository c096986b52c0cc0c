//! What a run reports while it works: values into a callback, numbers into shared counters. Nothing here prints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use manifest::{ContentHash, ObjectKey};
use serde::Serialize;

/// How one listed key ended (rule 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Both sides hold the same.
    Equal,
    /// The target holds the source's version now.
    Copied,
    /// The target does not hold it any more.
    Deleted,
    /// Left alone, for a reason that is named.
    Skipped,
    /// Not done, for an error that is named.
    Failed,
}

/// How bytes came to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// Through us.
    Streamed,
    /// Copied by the target's service, from an object that it already held or from the source.
    ServerSide,
    /// Nothing was moved.
    None,
}

/// The end of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectReport {
    /// Which.
    pub key: ObjectKey,
    /// How it ended.
    pub outcome: Outcome,
    /// How the bytes moved.
    pub means: Means,
    /// Length of the content in bytes.
    pub size_bytes: u64,
    /// BLAKE3 of the content, where known.
    pub hash: Option<ContentHash>,
    /// Why it was decided so (`new`, `size differs`, `filtered`, ...).
    pub reason: String,
    /// What failed, for [`Outcome::Failed`].
    pub error: Option<String>,
}

/// Something a listener may want to show.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A key ended. Keys that were equal without any work are not reported one by one.
    Object(ObjectReport),
    /// A sentence for people (`taking over the lease of a run that died`).
    Note(String),
}

/// The listener: called from many tasks, returns quickly.
pub type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Opening places and state, taking the lease.
    Starting = 0,
    /// Listing both sides and planning.
    Listing = 1,
    /// Copying.
    Copying = 2,
    /// Deleting.
    Deleting = 3,
    /// Publishing the manifest.
    Committing = 4,
    /// Comparing (verify, manifest create).
    Reading = 5,
}

/// Counters of a run in flight, for progress lines. Read at any time; nothing depends on them.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    /// Keys listed so far, at the source.
    pub listed_source: AtomicU64,
    /// Keys listed so far, at the target.
    pub listed_target: AtomicU64,
    /// Objects the plan has work for (0 until it is complete).
    pub planned_objects: AtomicU64,
    /// Bytes the plan will read (0 until it is complete).
    pub planned_bytes: AtomicU64,
    /// Objects finished.
    pub done_objects: AtomicU64,
    /// Bytes finished.
    pub done_bytes: AtomicU64,
    /// Objects that failed.
    pub failed_objects: AtomicU64,
}

impl Progress {
    /// Says what the run does now.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What the run does now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            1 => Phase::Listing,
            2 => Phase::Copying,
            3 => Phase::Deleting,
            4 => Phase::Committing,
            5 => Phase::Reading,
            _ => Phase::Starting,
        }
    }
}

/// Adds to a counter of [`Progress`].
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
