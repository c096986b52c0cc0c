//! What a run reports while it works, as values into a callback. Nothing here prints.

use std::sync::Arc;

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
