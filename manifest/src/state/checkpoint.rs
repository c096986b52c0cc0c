//! Where the next run starts: `checkpoint.json`, swapped atomically (rule 15); and the claim of a job on its places
//! (rule 3).
//!
//! Effects come first, the checkpoint second: never written before what it says is true. A crash leaves the older one,
//! from which replay is safe. A run whose lease went to another cannot write it: the swap is by tag, and the generation
//! fences.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::document::{self, Format, Published, rfc3339, rfc3339_option};
use super::layout::{self, JobName, RunId};
use super::lease::LeaseGuard;
use super::{Lasting, StateStore, Tag};
use crate::error::{Class, Error, Result};

/// How many jobs of a state are looked at side by side.
const JOBS_AT_ONCE: usize = 8;

const FORMAT: Format = Format { what: "checkpoint", format: "understudy-checkpoint", version: 1, needs: "0.1.0" };
const CLAIM: Format = Format { what: "job", format: "understudy-job", version: 1, needs: "0.1.0" };

/// What a run leaves for the next one. `S` belongs to the tool that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint<S> {
    /// The job.
    pub job: JobName,
    /// Normalised source place.
    pub source: String,
    /// Normalised target place.
    pub target: String,
    /// The fencing number of the lease under which it was written.
    pub generation: u64,
    /// The run that wrote it.
    pub run_id: RunId,
    /// The last committed manifest; its index stands in the job's `manifests`.
    pub manifest: Option<String>,
    /// Source time that the target shows: that of the last complete run (rule 26).
    #[serde(with = "rfc3339_option")]
    pub as_of: Option<Timestamp>,
    /// Whether the run that wrote it did everything it planned.
    pub complete: bool,
    /// When it was written, by the writer's wall clock. For people.
    #[serde(with = "rfc3339")]
    pub written: Timestamp,
    /// What only the tool understands.
    pub state: S,
}

/// A checkpoint and the version of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<S> {
    /// The content.
    pub checkpoint: Checkpoint<S>,
    /// For [`commit`].
    pub tag: Tag,
}

/// What of a checkpoint is read without knowing its state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// The job.
    pub job: JobName,
    /// Normalised source place.
    pub source: String,
    /// Normalised target place.
    pub target: String,
    /// The fencing number.
    pub generation: u64,
    /// The run that wrote it.
    pub run_id: RunId,
    /// The last committed manifest.
    pub manifest: Option<String>,
    /// As-of.
    #[serde(with = "rfc3339_option")]
    pub as_of: Option<Timestamp>,
    /// Whether the run that wrote it did everything it planned.
    pub complete: bool,
}

/// Reads the job's checkpoint; `None` before the first one.
///
/// # Errors
/// [`Error::Damaged`], [`Error::FutureVersion`], or the store's.
pub async fn load<S: DeserializeOwned>(store: &dyn StateStore, job: &JobName) -> Result<Option<Loaded<S>>> {
    let name = layout::checkpoint(job);
    let Some((bytes, tag)) = store.get(&name).await? else { return Ok(None) };
    let checkpoint: Checkpoint<S> = document::decode(&FORMAT, &name, &bytes)?;
    of_job(&FORMAT, &name, &checkpoint.job, job)?;
    Ok(Some(Loaded { checkpoint, tag }))
}

/// Reads the job's checkpoint without its state; `None` before the first one.
///
/// # Errors
/// As [`load`].
pub async fn load_summary(store: &dyn StateStore, job: &JobName) -> Result<Option<Summary>> {
    let name = layout::checkpoint(job);
    let Some((bytes, _)) = store.get(&name).await? else { return Ok(None) };
    let summary: Summary = document::decode(&FORMAT, &name, &bytes)?;
    of_job(&FORMAT, &name, &summary.job, job)?;
    Ok(Some(summary))
}

/// The highest fencing number that the checkpoint has seen; 0 before the first one.
pub(super) async fn stored_generation(store: &dyn StateStore, job: &JobName) -> Result<u64> {
    Ok(load_summary(store, job).await?.map_or(0, |summary| summary.generation))
}

fn of_job(format: &Format, name: &str, found: &JobName, job: &JobName) -> Result<()> {
    match found == job {
        true => Ok(()),
        false => Err(document::damaged(format, name, format!("it is of job {found}"))),
    }
}

/// Replaces the checkpoint that was loaded as `expected` (`None`: there was none) by `new`. Asks the lease right before
/// each attempt. Without a lease (generation 0) the stored generation is kept. Returns the new tag, for the next commit.
///
/// # Errors
/// [`Error::CheckpointConflict`] when another run wrote it meanwhile or its generation is higher; [`Error::LeaseLost`];
/// the store's.
pub async fn commit<S: Serialize + Clone>(
    store: &dyn StateStore,
    new: &Checkpoint<S>,
    expected: Option<&Tag>,
    lease: &LeaseGuard,
) -> Result<Tag> {
    let name = layout::checkpoint(&new.job);
    let conflict = || Error::CheckpointConflict { job: new.job.to_string() };
    let mut new = new.clone();
    let mut pause = document::WRITE_PAUSE;
    let mut attempt = 1;
    let mut sent = None;
    loop {
        // What stands there now: what we expect, what an attempt with a lost answer wrote, or another run's.
        let current = store.get(&name).await?;
        match (&current, expected) {
            (Some((bytes, tag)), _) if sent.as_ref() == Some(bytes) => return Ok(tag.clone()),
            (Some((_, tag)), Some(expected)) if tag == expected => {}
            (None, None) => {}
            _ => return Err(conflict()),
        }
        if let Some((bytes, _)) = &current {
            let stored: Summary = document::decode(&FORMAT, &name, bytes)?;
            match new.generation {
                0 => new.generation = stored.generation,
                ours if stored.generation > ours => return Err(conflict()),
                _ => {}
            }
        }
        let bytes = document::encode(&FORMAT, &name, &new)?;
        lease.check()?;
        let result = match expected {
            Some(tag) => store.swap(&name, bytes.clone(), tag).await,
            None => store.create(&name, bytes.clone()).await,
        };
        let failure = match result {
            Ok(Some(tag)) => return Ok(tag),
            // Somebody was there: perhaps our own attempt before. Reading tells.
            Ok(None) => conflict(),
            Err(error) if error.class() == Class::Retryable => error,
            Err(error) => return Err(error),
        };
        if attempt == document::WRITE_ATTEMPTS {
            return document::landed(store, &name, &bytes).await.ok_or(failure);
        }
        tracing::debug!(job = %new.job, attempt, error = %failure, "looking what became of the checkpoint");
        sent = Some(bytes);
        tokio::time::sleep(pause).await;
        pause *= 2;
        attempt += 1;
    }
}

/// The places that a job joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The job.
    pub job: JobName,
    /// Normalised source place.
    pub source: String,
    /// Normalised target place.
    pub target: String,
}

/// Whether one of two normalised places lies in the other, at a path segment (rules 3, 4).
pub fn overlaps(a: &str, b: &str) -> bool {
    // `s3://bucket/prefix at http://service`: the service stands after the path, and would hide that one is in the other.
    let ((a, here), (b, there)) = (service(a), service(b));
    if here != there {
        return false;
    }
    let (a, b) = (a.trim_end_matches('/'), b.trim_end_matches('/'));
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

/// A normalised place without its service, and that, if it names one.
fn service(place: &str) -> (&str, Option<&str>) {
    match place.rsplit_once(" at ") {
        Some((place, service)) if service.contains("://") => (place, Some(service)),
        _ => (place, None),
    }
}

/// The names of all jobs in the state, sorted: every folder that holds a claim, a checkpoint or a lease.
///
/// # Errors
/// The store's.
pub async fn list_jobs(store: &dyn StateStore) -> Result<Vec<JobName>> {
    let names: Vec<JobName> = store.folders("").await?.iter().filter_map(|name| name.parse().ok()).collect();
    let found: Vec<Option<JobName>> = stream::iter(names)
        .map(|job| async move {
            for file in [layout::claim(&job), layout::checkpoint(&job), layout::lease(&job)] {
                if store.get(&file).await?.is_some() {
                    return Ok::<_, Error>(Some(job));
                }
            }
            Ok(None)
        })
        .buffered(JOBS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// The places of a job, from its claim, else from its checkpoint; `None` when it has neither.
///
/// # Errors
/// [`Error::Damaged`], [`Error::FutureVersion`], or the store's.
pub async fn places(store: &dyn StateStore, job: &JobName) -> Result<Option<Claim>> {
    let name = layout::claim(job);
    if let Some((bytes, _)) = store.get(&name).await? {
        let claim: Claim = document::decode(&CLAIM, &name, &bytes)?;
        of_job(&CLAIM, &name, &claim.job, job)?;
        return Ok(Some(claim));
    }
    let summary = load_summary(store, job).await?;
    Ok(summary.map(|Summary { job, source, target, .. }| Claim { job, source, target }))
}

/// Whether the job may use the state: its name belongs to these places, and no other job's target overlaps (rule 3).
/// Changes nothing.
///
/// # Errors
/// [`Error::JobConflict`] when it may not; the store's.
pub async fn check_claim(store: &dyn StateStore, job: &JobName, source: &str, target: &str) -> Result<()> {
    if let Some(found) = places(store, job).await? {
        same_places(&found, source, target)?;
    }
    no_overlap(store, job, target).await
}

/// Claims `target` for the job before its first write, so that an overlap is seen before there is a checkpoint (rule 3).
/// Claiming again what is claimed is fine. A refused claim leaves nothing behind.
///
/// # Errors
/// As [`check_claim`].
pub async fn claim(store: &dyn StateStore, job: &JobName, source: &str, target: &str) -> Result<()> {
    check_claim(store, job, source, target).await?;
    let name = layout::claim(job);
    let ours = Claim { job: job.clone(), source: source.to_owned(), target: target.to_owned() };
    let bytes = document::encode(&CLAIM, &name, &ours)?;
    let existed = store.get(&name).await?.is_some();
    match document::publish(store, &name, &bytes, Lasting::Durable, || Ok(())).await? {
        Published::Ours(_) => {}
        Published::Others(found) => same_places(&document::decode(&CLAIM, &name, &found)?, source, target)?,
    }
    // Of two that claim at the same time at least the later one sees the other.
    if let Err(error) = no_overlap(store, job, target).await {
        if !existed {
            store.delete(&name).await?;
        }
        return Err(error);
    }
    Ok(())
}

fn same_places(found: &Claim, source: &str, target: &str) -> Result<()> {
    match found.source == source && found.target == target {
        true => Ok(()),
        false => Err(Error::JobConflict {
            job: found.job.to_string(),
            reason: format!("it already goes from {} to {}", found.source, found.target),
        }),
    }
}

async fn no_overlap(store: &dyn StateStore, job: &JobName, target: &str) -> Result<()> {
    let others: Vec<JobName> =
        store.folders("").await?.iter().filter_map(|name| name.parse().ok()).filter(|other| other != job).collect();
    let mut found = stream::iter(others).map(|other| async move { places(store, &other).await }).buffered(JOBS_AT_ONCE);
    while let Some(other) = found.try_next().await? {
        if let Some(other) = other
            && overlaps(&other.target, target)
        {
            let reason = format!("the target {} of job {} overlaps with {target}", other.target, other.job);
            return Err(Error::JobConflict { job: job.to_string(), reason });
        }
    }
    Ok(())
}

/// Checkpoints for the tests of other modules.
#[cfg(test)]
pub(super) mod tests_support {
    use super::*;

    /// A checkpoint of a job.
    pub fn sample(job: &JobName, generation: u64, state: &str) -> Checkpoint<String> {
        Checkpoint {
            job: job.clone(),
            source: "s3://source/tree".into(),
            target: "s3://target/tree".into(),
            generation,
            run_id: "20261121T031500Z-0a1b2c3d".parse().unwrap(),
            manifest: None,
            as_of: Some(Timestamp::UNIX_EPOCH),
            complete: true,
            written: Timestamp::UNIX_EPOCH,
            state: state.to_owned(),
        }
    }

    /// Writes the first checkpoint of a job.
    pub async fn write(store: &dyn StateStore, job: &JobName, generation: u64) {
        commit(store, &sample(job, generation, ""), None, &LeaseGuard::default()).await.unwrap();
    }
}

#[cfg(test)]
mod tests;
