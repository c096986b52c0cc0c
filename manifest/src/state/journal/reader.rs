//! Reading a run's journal back, one segment in memory at a time; and finding the runs whose journal is still needed.
//!
//! Never passes over a segment that is missing in the middle or damaged: what a resumed run does not know it would do twice,
//! or lose.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{FORMAT, Record, decode};
use crate::error::Result;
use crate::state::layout::{self, Item, JobName, RunId};
use crate::state::{StateStore, document, receipt};

/// Reads the journal of a run in order.
#[derive(Debug)]
pub struct JournalReader {
    store: Arc<dyn StateStore>,
    job: JobName,
    run: RunId,
    left: RangeInclusive<u32>,
}

impl JournalReader {
    /// The journal as it stands now. A run without one has no records.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`] when a segment before the last is missing; the store's.
    pub async fn open(store: Arc<dyn StateStore>, job: &JobName, run: &RunId) -> Result<Self> {
        let mut numbers: Vec<u32> = Vec::new();
        for item in store.list(&layout::run_folder(job, run)).await? {
            if let Item::Journal(_, number) = layout::classify(job, &item.name) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        for (number, expected) in numbers.iter().zip(1u32..) {
            if *number != expected {
                let name = layout::journal_segment(job, run, expected);
                return Err(document::damaged(&FORMAT, &name, "it is missing, but a later one is there"));
            }
        }
        let last = numbers.last().copied().unwrap_or(0);
        Ok(Self { store, job: job.clone(), run: run.clone(), left: 1..=last })
    }

    /// The records of the next segment; `None` after the last.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], [`crate::Error::FutureVersion`], or the store's.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<Record>>> {
        let Some(number) = self.left.next() else { return Ok(None) };
        let name = layout::journal_segment(&self.job, &self.run, number);
        let Some((bytes, _)) = self.store.get(&name).await? else {
            return Err(document::damaged(&FORMAT, &name, "it was there, and now it is not"));
        };
        decode(&self.job, &self.run, number, &bytes).map(Some)
    }
}

/// The runs later than `after` whose journal the checkpoint does not hold yet, oldest first: those with segments and either
/// no receipt (killed) or one that says so (ended early, see [`receipt::Receipt::journal_needed`]).
///
/// # Errors
/// A damaged receipt, or the store's.
pub async fn unfinished_runs(store: &dyn StateStore, job: &JobName, after: Option<&RunId>) -> Result<Vec<RunId>> {
    #[derive(Default)]
    struct Seen {
        segments: bool,
        receipt: bool,
    }
    let mut runs: BTreeMap<RunId, Seen> = BTreeMap::new();
    for item in store.list(&layout::runs(job)).await? {
        match layout::classify(job, &item.name) {
            Item::Journal(run, _) => runs.entry(run).or_default().segments = true,
            Item::Receipt(run) => runs.entry(run).or_default().receipt = true,
            _ => {}
        }
    }
    let mut unfinished = Vec::new();
    for (run, seen) in runs {
        if !seen.segments || after.is_some_and(|after| run <= *after) {
            continue;
        }
        let needed = match seen.receipt {
            true => receipt::load(store, job, &run).await?.is_none_or(|receipt| receipt.journal_needed),
            false => true,
        };
        if needed {
            unfinished.push(run);
        }
    }
    Ok(unfinished)
}
