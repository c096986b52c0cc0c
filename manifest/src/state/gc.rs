//! Removes from a job's folder what nothing needs any more: old indexes, parts that no kept index names, old runs (rule 17).
//!
//! Marks from every index that is kept, all read without error, and sweeps only under a lease that was confirmed right
//! before. Never removes the manifest that the checkpoint names, a part or index younger than [`MIN_AGE_S`] (or of unknown
//! age), what a run's journal or the caller names, or a run whose journal is still needed. Indexes go before their parts
//! and a run's receipt goes last: a crash leaves files that the next pruning removes, never an index without its parts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;

use super::journal::{JournalReader, Record};
use super::layout::{self, Item, JobName, RunId};
use super::lease::Lease;
use super::{StateItem, StateStore, checkpoint, receipt};
use crate::error::{Error, Result};

/// Files younger than this are spared, in seconds: a run beside us may be about to name them.
pub const MIN_AGE_S: u64 = 24 * 3600;
/// How many indexes are read, and files deleted, side by side.
const AT_ONCE: usize = 16;

/// What the caller knows to be in use beyond the checkpoint and the receipts: what plans in the
/// state and open uploads name.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    /// Ids of manifests.
    pub manifests: BTreeSet<String>,
    /// Digests of parts.
    pub parts: BTreeSet<String>,
    /// Runs whose journals name something that still has to be gone on with, or given up: uploads in parts.
    pub runs: BTreeSet<RunId>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// False when nothing was looked at, because there is no lease.
    pub swept: bool,
    /// Manifest indexes.
    pub indexes: u64,
    /// Manifest parts.
    pub parts: u64,
    /// Runs.
    pub runs: u64,
    /// Half-written files of dead writers.
    pub leftovers: u64,
    /// Bytes of the indexes, parts and runs.
    pub bytes: u64,
}

/// What of an index pruning needs: which parts it names.
#[derive(Debug, Deserialize)]
struct IndexParts {
    parts: Vec<PartName>,
}

#[derive(Debug, Deserialize)]
struct PartName {
    digest: String,
}

/// Within a run the receipt sorts last, and journal segments by falling number.
type SweepOrder = (bool, Reverse<u32>);

/// What the decisions need to know of a run.
#[derive(Debug, Default, Clone)]
struct RunFacts {
    has_receipt: bool,
    /// From the receipt.
    journal_needed: bool,
    /// From the receipt.
    manifest: Option<String>,
    has_journal: bool,
    /// One of its files is young, or of unknown age.
    young: bool,
}

impl RunFacts {
    /// Nothing says that what its journal holds is committed.
    fn is_open(&self) -> bool {
        !self.has_receipt || self.journal_needed
    }
}

/// What is to be removed, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Doomed {
    indexes: Vec<StateItem>,
    parts: Vec<StateItem>,
    /// Files of each run, the receipt last and journal segments from the last to the first.
    runs: Vec<Vec<StateItem>>,
}

impl Doomed {
    fn is_empty(&self) -> bool {
        self.indexes.is_empty() && self.parts.is_empty() && self.runs.is_empty()
    }
}

/// Removes what is not needed. `keep_runs` runs are kept with the manifests that their receipts name.
///
/// Without a lease nothing is pruned, and nothing is looked at.
///
/// # Errors
/// [`Error::Damaged`] or [`Error::Missing`] when an index, part, receipt or journal that is needed is not what it should be
/// (then nothing was removed); [`Error::LeaseLost`]; the store's.
pub async fn collect(
    store: &Arc<dyn StateStore>,
    job: &JobName,
    keep_runs: usize,
    lease: &Lease,
    in_use: &InUse,
) -> Result<Collected> {
    if !lease.is_held() {
        return Ok(Collected::default());
    }
    let committed = checkpoint::load_summary(&**store, job).await?;
    let (committed_run, committed_manifest) = committed.map_or((None, None), |c| (Some(c.run_id), c.manifest));
    let items = store.list(&layout::job_folder(job)).await?;

    let mut runs = run_facts(job, &items);
    read_receipts(&**store, job, &mut runs, keep_runs, committed_run.as_ref()).await?;
    let mut kept_runs = choose_runs(&runs, keep_runs, committed_run.as_ref());
    kept_runs.extend(in_use.runs.iter().cloned());
    let kept_facts = || runs.iter().filter(|(run, _)| kept_runs.contains(*run));

    let named = kept_facts().filter_map(|(_, facts)| facts.manifest.clone());
    let named = named.chain(in_use.manifests.iter().cloned()).chain(committed_manifest.clone()).collect();
    let kept_indexes = choose_indexes(job, &items, &named);
    if let Some(id) = &committed_manifest
        && !kept_indexes.contains(id)
    {
        return Err(Error::Missing { what: "manifest index", name: layout::manifest(job, id) });
    }
    let mut marked = read_indexes(&**store, job, &kept_indexes).await?;
    let present: BTreeSet<&str> = items.iter().filter_map(|item| part_digest(job, item)).collect();
    if let Some(lacking) = marked.iter().find(|digest| !present.contains(digest.as_str())) {
        // Either the state is damaged or we misread it: in both cases nothing may be removed.
        return Err(Error::Missing { what: "manifest part", name: format!("{}{lacking}", layout::parts(job)) });
    }
    marked.extend(in_use.parts.iter().cloned());
    for (run, facts) in kept_facts() {
        // What the committed run wrote is in the index that the checkpoint names.
        if facts.has_journal && facts.is_open() && committed_run.as_ref() != Some(run) {
            parts_of_journal(store, job, run, &mut marked).await?;
        }
    }

    let doomed = plan_collection(job, items, &kept_indexes, &marked, &kept_runs);
    sweep(&**store, job, lease, doomed).await
}

/// What the names and ages in the folder say of each run.
fn run_facts(job: &JobName, items: &[StateItem]) -> BTreeMap<RunId, RunFacts> {
    let mut runs: BTreeMap<RunId, RunFacts> = BTreeMap::new();
    for item in items {
        let (run, receipt, journal) = match layout::classify(job, &item.name) {
            Item::Receipt(run) => (run, true, false),
            Item::Journal(run, _) => (run, false, true),
            Item::OfRun(run) => (run, false, false),
            _ => continue,
        };
        let facts = runs.entry(run).or_default();
        facts.has_receipt |= receipt;
        facts.has_journal |= journal;
        facts.young |= is_young(item);
    }
    runs
}

fn is_young(item: &StateItem) -> bool {
    item.age_s.is_none_or(|age| age < MIN_AGE_S)
}

/// Adds what the receipts say that decide: of the runs that may be kept.
async fn read_receipts(
    store: &dyn StateStore,
    job: &JobName,
    runs: &mut BTreeMap<RunId, RunFacts>,
    keep_runs: usize,
    committed: Option<&RunId>,
) -> Result<()> {
    let wanted: Vec<RunId> = runs
        .iter()
        .rev()
        .enumerate()
        .filter(|(rank, (run, facts))| {
            facts.has_receipt && (*rank < keep_runs || committed.is_none_or(|at| *run >= at))
        })
        .map(|(_, (run, _))| run.clone())
        .collect();
    let mut reading = stream::iter(wanted)
        .map(|run| async move { receipt::load(store, job, &run).await.map(|found| (run, found)) })
        .buffer_unordered(AT_ONCE);
    while let Some((run, found)) = reading.try_next().await? {
        let Some(facts) = runs.get_mut(&run) else { continue };
        match found {
            Some(found) => (facts.journal_needed, facts.manifest) = (found.journal_needed, found.manifest),
            // Removed by hand meanwhile: as if it had never been.
            None => facts.has_receipt = false,
        }
    }
    Ok(())
}

/// The runs to keep: the last `keep`; from the committed one on all that may be needed to resume; and those without a
/// receipt that are young, because a run without a lease may be writing them.
fn choose_runs(runs: &BTreeMap<RunId, RunFacts>, keep: usize, committed: Option<&RunId>) -> BTreeSet<RunId> {
    let chosen = runs.iter().rev().enumerate().filter(|(rank, (run, facts))| {
        let resumable = facts.is_open() && committed.is_none_or(|committed| *run >= committed);
        *rank < keep || committed == Some(*run) || resumable || (!facts.has_receipt && facts.young)
    });
    chosen.map(|(_, (run, _))| run.clone()).collect()
}

/// The indexes in the folder to keep: those named, and the young.
fn choose_indexes(job: &JobName, items: &[StateItem], named: &BTreeSet<String>) -> BTreeSet<String> {
    let indexes = items.iter().filter_map(|item| match layout::classify(job, &item.name) {
        Item::Index(id) if named.contains(id) || is_young(item) => Some(id.to_owned()),
        _ => None,
    });
    indexes.collect()
}

/// The digests of all parts that these indexes name.
async fn read_indexes(store: &dyn StateStore, job: &JobName, ids: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut marked = BTreeSet::new();
    let mut reading = stream::iter(ids.iter().map(|id| layout::manifest(job, id)))
        .map(|name| async move {
            let found = store.get(&name).await?;
            let (bytes, _) = found.ok_or_else(|| Error::Missing { what: "manifest index", name: name.clone() })?;
            serde_json::from_slice::<IndexParts>(&bytes).map_err(|error| Error::Damaged {
                what: "manifest index",
                name,
                reason: error.to_string(),
            })
        })
        .buffer_unordered(AT_ONCE);
    while let Some(index) = reading.try_next().await? {
        marked.extend(index.parts.into_iter().map(|part| part.digest));
    }
    Ok(marked)
}

async fn parts_of_journal(
    store: &Arc<dyn StateStore>,
    job: &JobName,
    run: &RunId,
    marked: &mut BTreeSet<String>,
) -> Result<()> {
    let mut journal = JournalReader::open(Arc::clone(store), job, run).await?;
    while let Some(records) = journal.next_batch().await? {
        marked.extend(records.into_iter().filter_map(|record| match record {
            Record::ManifestPart { digest } => Some(digest),
            _ => None,
        }));
    }
    Ok(())
}

fn part_digest<'a>(job: &JobName, item: &'a StateItem) -> Option<&'a str> {
    match layout::classify(job, &item.name) {
        Item::Part(digest) => Some(digest),
        _ => None,
    }
}

/// Decides what goes. Names that are not ours stay.
fn plan_collection(
    job: &JobName,
    items: Vec<StateItem>,
    kept_indexes: &BTreeSet<String>,
    marked: &BTreeSet<String>,
    kept_runs: &BTreeSet<RunId>,
) -> Doomed {
    let mut doomed = Doomed::default();
    let mut runs: BTreeMap<RunId, Vec<(SweepOrder, StateItem)>> = BTreeMap::new();
    for item in items {
        let (run, order) = match layout::classify(job, &item.name) {
            Item::Index(id) => {
                if !kept_indexes.contains(id) && !is_young(&item) {
                    doomed.indexes.push(item);
                }
                continue;
            }
            Item::Part(digest) => {
                if !marked.contains(digest) && !is_young(&item) {
                    doomed.parts.push(item);
                }
                continue;
            }
            Item::Receipt(run) => (run, (true, Reverse(0))),
            Item::Journal(run, number) => (run, (false, Reverse(number))),
            Item::OfRun(run) => (run, (false, Reverse(u32::MAX))),
            // Verifications remove their own.
            Item::Verification(_) | Item::Other => continue,
        };
        if !kept_runs.contains(&run) {
            runs.entry(run).or_default().push((order, item));
        }
    }
    for (_, mut files) in runs {
        files.sort_by_key(|(order, _)| *order);
        doomed.runs.push(files.into_iter().map(|(_, item)| item).collect());
    }
    doomed
}

/// Removes what was decided, under the lease: confirmed again if there is anything.
async fn sweep(store: &dyn StateStore, job: &JobName, lease: &Lease, doomed: Doomed) -> Result<Collected> {
    if !doomed.is_empty() {
        lease.confirm().await?;
    }
    let guard = lease.guard();
    let guard = &guard;
    let delete = |item: StateItem| async move {
        guard.check()?;
        store.delete(&item.name).await?;
        Ok::<u64, Error>(item.size_bytes)
    };
    let mut collected = Collected { swept: true, ..Collected::default() };
    // All indexes first: an index may never stand without its parts.
    for (items, count) in [(doomed.indexes, &mut collected.indexes), (doomed.parts, &mut collected.parts)] {
        let mut deleting = stream::iter(items).map(delete).buffer_unordered(AT_ONCE);
        while let Some(size) = deleting.try_next().await? {
            *count += 1;
            collected.bytes += size;
        }
    }
    let mut deleting = stream::iter(doomed.runs)
        .map(|files| async move {
            let mut bytes = 0;
            for file in files {
                bytes += delete(file).await?;
            }
            Ok::<u64, Error>(bytes)
        })
        .buffer_unordered(AT_ONCE);
    while let Some(size) = deleting.try_next().await? {
        collected.runs += 1;
        collected.bytes += size;
    }
    guard.check()?;
    let older_than = Duration::from_secs(MIN_AGE_S);
    collected.leftovers = store.sweep_leftovers(&layout::job_folder(job), older_than).await?;
    Ok(collected)
}

#[cfg(test)]
mod tests;
