//! The trash: where objects of the target are kept before a run deletes or overwrites them, and how long.
//!
//! ```text
//! <trash>/.understudy-trash.json           says that the folder is a trash; written before anything else, and stays
//!         <run id>/<key>                   what the run replaced or removed; the folder of a run is the tree it came from
//!         .understudy/<job>/<run id>.json  whose folder that is; written before its first object, removed after its last
//! ```
//! Only folders that a marker of this job names are ever removed: a trash may be shared. A crash leaves an object in the
//! trash that still stands on the target, too; a folder without its marker is never made, a marker without its folder does
//! no harm and goes in its time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use manifest::ObjectKey;
use manifest::state::layout::{JobName, RunId};
use manifest::state::lease::LeaseGuard;
use serde::Serialize;

use crate::job::{Job, Tree};
use crate::store::{ListOptions, Payload, PutOptions, Result, StoreError, StoreErrorKind, Sweep};

/// The file at the root of every trash, by which a listing knows the folder for one (rule 1). It sorts before every other
/// file of a trash.
pub const MARKER: &str = ".understudy-trash.json";
/// What stands in it: every job writes the same.
const MARKER_TEXT: &str = "{\"format\":\"understudy-trash-folder\",\"version\":1,\"note\":\"Jobs of distcp keep here what they \
                           replace or remove. A run's folder can be copied back.\"}\n";
/// The folder of markers, below the trash.
const MARKERS: &str = ".understudy";
/// The file of a job's markers that is written to learn what time it is to the store.
const NOW: &str = "now";
/// Folders of runs that one run removes; the rest is for the next.
pub const MAX_EXPIRED_RUNS: usize = 1000;
/// Temporary files of writers that died are removed from a trash on a file system at this age: others may share it.
pub const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// A trash that was opened.
#[derive(Debug, Clone)]
pub struct Trash {
    /// The trash, decorated.
    pub tree: Tree,
    /// The trash when it is a file system: leftovers of writers that died are removed from it.
    pub swept: Option<Arc<dyn Sweep>>,
    /// Runs that are older are removed; without it none is.
    pub retention: Option<Duration>,
}

/// What a marker says, for people.
#[derive(Serialize)]
struct Marker<'a> {
    format: &'static str,
    version: u32,
    job: &'a str,
    run_id: &'a str,
    target: &'a str,
}

fn markers(job: &JobName) -> String {
    format!("{MARKERS}/{job}/")
}

impl Trash {
    /// Says that the folder is a trash, and the run's folder in it this job's. Written before anything is kept; writing it
    /// twice does no harm.
    pub async fn mark(&self, job: &JobName, run: &RunId, target: &str) -> Result<()> {
        let marker = Marker { format: "understudy-trash", version: 1, job: job.as_str(), run_id: run.as_str(), target };
        let place = self.tree.store.place();
        let text = serde_json::to_vec_pretty(&marker)
            .map_err(|error| StoreError::new("mark", place, StoreErrorKind::Other, error.to_string()))?;
        let key = ObjectKey::from(format!("{}{run}.json", markers(job)));
        let of_all = Payload::new(Bytes::from_static(MARKER_TEXT.as_bytes()));
        self.tree.store.put(&ObjectKey::from(MARKER), of_all, &PutOptions::default()).await?;
        self.tree.store.put(&key, Payload::new(text.into()), &PutOptions::default()).await.map(drop)
    }

    /// Removes the job's runs that are older than the retention, with the lease held; how many. Old is what both this
    /// machine's clock and the store's say: a clock that runs ahead here empties no trash.
    pub async fn expire(&self, job: &JobName, guard: &LeaseGuard) -> Result<usize> {
        let Some(retention) = self.retention.filter(|_| guard.is_held()) else { return Ok(0) };
        let marked = self.marked(job).await?;
        let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let mut old = older(&marked, now_ns, retention);
        if old.is_empty() {
            return Ok(0);
        }
        let now = ObjectKey::from(format!("{}{NOW}", markers(job)));
        self.check(guard)?;
        self.tree.store.put(&now, Payload::new(Bytes::from_static(b"now")), &PutOptions::default()).await?;
        let Some(now_ns) = self.tree.store.head(&now).await?.fingerprint.mtime_ns else { return Ok(0) };
        old.retain(|run| older(&marked, now_ns, retention).contains(run));
        old.truncate(MAX_EXPIRED_RUNS);
        for run in &old {
            self.remove(job, run, guard).await?;
        }
        Ok(old.len())
    }

    /// The job's runs that kept something, oldest first, with the time that the store gave their markers. One for each run
    /// within the retention, and as many as are left over.
    async fn marked(&self, job: &JobName) -> Result<Vec<(RunId, i64)>> {
        let folder = markers(job);
        let mut found = Vec::new();
        self.each_below(&folder, |key, mtime_ns| {
            let run =
                key.as_str().and_then(|key| key.strip_prefix(folder.as_str())?.strip_suffix(".json")?.parse().ok());
            found.extend(run.zip(mtime_ns));
        })
        .await?;
        found.sort_unstable();
        Ok(found)
    }

    /// Tells every key below `folder` (which ends with a slash).
    async fn each_below(&self, folder: &str, mut tell: impl FnMut(&ObjectKey, Option<i64>)) -> Result<()> {
        let mut pages = self.pages(folder);
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
                page => page?,
            };
            for listed in &page {
                match listed.key.as_bytes().starts_with(folder.as_bytes()) {
                    true => tell(&listed.key, listed.fingerprint.mtime_ns),
                    false if self.is_past(folder, &listed.key) => return Ok(()),
                    false => {}
                }
            }
        }
        Ok(())
    }

    fn pages(&self, folder: &str) -> futures::stream::BoxStream<'static, Result<Vec<manifest::Listed>>> {
        let ordered = self.tree.store.capabilities().ordered_list;
        let after = ordered.then(|| ObjectKey::from(folder));
        self.tree.store.list(ListOptions { after, ..ListOptions::default() })
    }

    /// Nothing of the folder can follow in a listing that is ordered.
    fn is_past(&self, folder: &str, key: &ObjectKey) -> bool {
        self.tree.store.capabilities().ordered_list && key.as_bytes() > folder.as_bytes()
    }

    /// Removes a run's folder, then its marker: what a crash leaves is still marked, and goes with the next run.
    async fn remove(&self, job: &JobName, run: &RunId, guard: &LeaseGuard) -> Result<()> {
        let folder = format!("{run}/");
        let batch = self.tree.store.capabilities().delete_batch.max(1);
        let mut first_before = None;
        // Listed anew after each batch: nothing is removed under a listing that goes on.
        loop {
            let keys = self.first_below(&folder, batch).await?;
            let Some(first) = keys.first().cloned() else { break };
            if first_before.as_ref() == Some(&first) {
                let detail = "it still lists what was deleted";
                return Err(
                    StoreError::new("empty", self.tree.store.place(), StoreErrorKind::Protocol, detail).on(&first)
                );
            }
            self.delete(&keys, guard).await?;
            first_before = Some(first);
        }
        // A run of a single object keeps it under the run's own name.
        self.delete(&[ObjectKey::from(run.as_str())], guard).await?;
        self.delete(&[ObjectKey::from(format!("{}{run}.json", markers(job)))], guard).await
    }

    /// At most so many of the first keys below a folder.
    async fn first_below(&self, folder: &str, most: usize) -> Result<Vec<ObjectKey>> {
        let mut pages = self.pages(folder);
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error) if error.kind == StoreErrorKind::NotFound => break,
                page => page?,
            };
            for listed in page {
                match listed.key.as_bytes().starts_with(folder.as_bytes()) {
                    true => found.push(listed.key),
                    false if self.is_past(folder, &listed.key) => return Ok(found),
                    false => {}
                }
                if found.len() >= most {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    async fn delete(&self, keys: &[ObjectKey], guard: &LeaseGuard) -> Result<()> {
        self.check(guard)?;
        self.tree.store.delete(keys).await.into_iter().collect()
    }

    fn check(&self, guard: &LeaseGuard) -> Result<()> {
        guard.check().map_err(|error| {
            StoreError::new("empty", self.tree.store.place(), StoreErrorKind::Cancelled, error.to_string())
        })
    }
}

/// The runs whose markers are older than `retention` at `now_ns`.
fn older(marked: &[(RunId, i64)], now_ns: i64, retention: Duration) -> Vec<RunId> {
    let is_old =
        |mtime_ns: i64| u128::from(now_ns.saturating_sub(mtime_ns).max(0).unsigned_abs()) > retention.as_nanos();
    marked.iter().filter(|(_, mtime_ns)| is_old(*mtime_ns)).map(|(run, _)| run.clone()).collect()
}

/// Empties the trash of what is too old, at the end of a complete run. A failure here fails nothing.
pub async fn expire(job: &Job, guard: &LeaseGuard) {
    let Some(trash) = &job.trash else { return };
    match trash.expire(&job.name, guard).await {
        Ok(0) => {}
        Ok(runs) => job.note(format!("{runs} run(s) older than the retention were removed from the trash")),
        Err(error) => job.note(format!("the trash was not emptied: {}", crate::error::chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_old_when_more_than_the_retention_has_passed() {
        let run: RunId = "20260101T000000Z-0a1b2c3d".parse().unwrap();
        let marked = [(run, 10_000_000_000)];
        let old = |now_s: i64, retention_s| {
            older(&marked, now_s * 1_000_000_000, Duration::from_secs(retention_s)).len() == 1
        };
        assert!(old(21, 10) && old(11, 0));
        // Not at the very moment, and never for a clock that runs behind.
        assert!(!old(20, 10) && !old(10, 0) && !old(5, 0) && !old(-5, 0));
    }
}
