//! The state folder of a job: what survives a machine that vanishes (design section 5).
//!
//! ```text
//! <state>/.understudy-state.json     says that the folder is a state; written before anything else that stays
//!         <job>/job.json             which places the job joins; written before its first run
//!               lease.json           who runs now
//!               checkpoint.json      where the next run starts; swapped atomically
//!               manifests/<id>.json  indexes, immutable
//!               parts/<digest>       Parquet parts, immutable, shared
//!               runs/<time>-<id>/    plan, journal segments, receipt.json
//!               verifications/       what `verify` found, the last few
//!               scrub.json           how far a rolling `verify` came; swapped
//! ```
//!
//! Everything but the lease, the checkpoint and the cursor is created once and never changed. A crash at any moment leaves whole files
//! only: an older checkpoint, a journal without its last seconds, or parts that no index names (removed by [`gc`]).

pub mod checkpoint;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod cursor;
mod document;
pub mod gc;
pub mod holder;
pub mod journal;
pub mod layout;
pub mod lease;
pub mod local;
pub mod marker;
pub mod memory;
pub mod probe;
pub mod progress;
pub mod receipt;
pub mod verification;

pub use document::rfc3339_option;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;

/// What a state store says about one version of one file, for [`StateStore::swap`]: an ETag, or a digest of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(pub String);

/// A file of the state and when it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateItem {
    /// Name below the state's root, `/`-separated.
    pub name: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Age by the store's own clock where it tells one, in seconds; `None` when unknown (then nothing may be pruned by age).
    pub age_s: Option<u64>,
}

/// How well a file must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It survives once the write has answered.
    Durable,
    /// It is whole, or what stood there before is; the new one surely once a later durable write has answered.
    Whole,
    /// As [`Lasting::Whole`], but it may be empty or cut off: for what nobody reads back.
    Loose,
}

/// Where state lives: what a lease, a checkpoint and immutable files need, and no more (rule 16).
///
/// Names are relative, `/`-separated, of `[A-Za-z0-9._-]`. Every method is atomic: a reader sees a whole file or none, and
/// what was acknowledged survives a crash.
#[async_trait]
pub trait StateStore: Debug + Send + Sync {
    /// The place, for messages. Holds no secret.
    fn place(&self) -> String;

    /// The file's bytes and tag, or `None`.
    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>>;

    /// The file's bytes, or `None`: for files that are never replaced. A store that has to work for the tag leaves it.
    async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.get(name).await?.map(|(bytes, _)| bytes))
    }

    /// Creates the file; `None` when it exists already (its content is left alone).
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>>;

    /// Replaces the file if its tag still is `expected`; `None` when it is not, or the file is gone.
    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>>;

    /// As [`StateStore::create`], of a file that must not survive a power cut at once. Stores that have no cheaper way
    /// make it durable.
    async fn create_as(&self, name: &str, bytes: Bytes, lasting: Lasting) -> Result<Option<Tag>> {
        let _ = lasting;
        self.create(name, bytes).await
    }

    /// As [`StateStore::swap`], of a file that must not survive a power cut at once.
    async fn swap_as(&self, name: &str, bytes: Bytes, expected: &Tag, lasting: Lasting) -> Result<Option<Tag>> {
        let _ = lasting;
        self.swap(name, bytes, expected).await
    }

    /// All files whose name starts with the folder `prefix` (which ends with `/`, or is empty), in no promised order.
    async fn list(&self, prefix: &str) -> Result<Vec<StateItem>>;

    /// Removes the file; a missing one is no error.
    async fn delete(&self, name: &str) -> Result<()>;

    /// The folders directly below the folder `prefix` (as in [`StateStore::list`]), by their last segment, sorted.
    /// A store that can tell them without listing every file says so here.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for item in self.list(prefix).await? {
            if let Some((folder, _)) = item.name.strip_prefix(prefix).and_then(|rest| rest.split_once('/')) {
                found.insert(folder.to_owned());
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Whether a lease here may be judged by the processes of this machine: true only for folders of a local file system.
    fn is_this_machine(&self) -> bool {
        false
    }

    /// Removes what writers that died left half-written below the folder `prefix` and untouched for `older_than`. How many
    /// there were.
    async fn sweep_leftovers(&self, prefix: &str, older_than: Duration) -> Result<u64> {
        let _ = (prefix, older_than);
        Ok(0)
    }
}
