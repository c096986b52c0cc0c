//! How far a run in flight is: `progress.json`, for other processes that ask. Nothing is decided by it.
//!
//! The run replaces it every few seconds and removes it at its end; a run that is killed leaves it, and the next one goes on
//! with it. It counts only while the lease names its run: what a run says whose lease another has taken is not shown. A power
//! cut may leave it empty or cut off, which is as good as none.

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::document::{self, Format, rfc3339};
use super::layout::{self, JobName, RunId};
use super::{Lasting, StateStore, Tag};
use crate::error::Result;

const FORMAT: Format = Format { what: "progress", format: "understudy-progress", version: 1, needs: "0.1.0" };

/// How far a run is. `S` belongs to the tool that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressRecord<S> {
    /// The job.
    pub job: JobName,
    /// The run.
    pub run_id: RunId,
    /// When it was written, by the writer's wall clock.
    #[serde(with = "rfc3339")]
    pub written: Timestamp,
    /// How far it is.
    pub seen: S,
}

/// Reads it; `None` where there is none, or none that can be read.
///
/// # Errors
/// The store's.
pub async fn load<S: DeserializeOwned>(store: &dyn StateStore, job: &JobName) -> Result<Option<ProgressRecord<S>>> {
    let name = layout::progress(job);
    let Some((bytes, _)) = store.get(&name).await? else { return Ok(None) };
    let record: Option<ProgressRecord<S>> = document::decode(&FORMAT, &name, &bytes).ok();
    Ok(record.filter(|record| record.job == *job))
}

/// Replaces what this run wrote last as `mine` (`None`: whatever a run before left). `None` when another run wrote meanwhile:
/// what it says stands.
///
/// # Errors
/// The store's.
pub async fn put<S: Serialize>(
    store: &dyn StateStore,
    record: &ProgressRecord<S>,
    mine: Option<&Tag>,
) -> Result<Option<Tag>> {
    let name = layout::progress(&record.job);
    let bytes: Bytes = document::encode(&FORMAT, &name, record)?;
    let left = match mine {
        Some(tag) => Some(tag.clone()),
        None => store.get(&name).await?.map(|(_, tag)| tag),
    };
    match left {
        Some(tag) => store.swap_as(&name, bytes, &tag, Lasting::Loose).await,
        None => store.create_as(&name, bytes, Lasting::Loose).await,
    }
}

/// Removes it.
///
/// # Errors
/// The store's.
pub async fn remove(store: &dyn StateStore, job: &JobName) -> Result<()> {
    store.delete(&layout::progress(job)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::MemoryState;

    fn record(run: &str, seen: u32) -> ProgressRecord<u32> {
        let (job, run_id) = (JobName::new("nightly").unwrap(), run.parse().unwrap());
        ProgressRecord { job, run_id, written: Timestamp::UNIX_EPOCH, seen }
    }

    #[tokio::test]
    async fn a_run_goes_on_with_what_another_left_and_never_with_what_another_writes() {
        let state = MemoryState::new();
        let (first, second) = ("20261121T031500Z-3e712345", "20261122T031500Z-3e712345");
        let job = record(first, 0).job;
        assert_eq!(load::<u32>(&state, &job).await.unwrap(), None);
        let mine = put(&state, &record(first, 1), None).await.unwrap().unwrap();
        let mine = put(&state, &record(first, 2), Some(&mine)).await.unwrap().unwrap();
        assert_eq!(load(&state, &job).await.unwrap(), Some(record(first, 2)));
        // It was killed, or looks dead.
        put(&state, &record(second, 3), None).await.unwrap().unwrap();
        assert_eq!(put(&state, &record(first, 4), Some(&mine)).await.unwrap(), None);
        assert_eq!(load(&state, &job).await.unwrap(), Some(record(second, 3)));
        remove(&state, &job).await.unwrap();
        assert_eq!(load::<u32>(&state, &job).await.unwrap(), None);
        state.create(&layout::progress(&job), Bytes::from_static(b"{\"cut")).await.unwrap();
        assert_eq!(load::<u32>(&state, &job).await.unwrap(), None);
        assert!(put(&state, &record(second, 5), None).await.unwrap().is_some());
    }
}
