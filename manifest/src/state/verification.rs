//! What a verification found: a receipt in a folder of its own, `verifications/<run>.json`, created once.
//!
//! Beside the receipts of runs, not among them: runs that come every few minutes must not push out the word of a
//! verification that comes once a week. Written by whoever looks, without a lease; nothing else in the state points here, so
//! that the oldest can be removed at any time. A crash before it leaves a verification that nobody knows of.

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::document;
use super::layout::{self, Item, JobName, RunId};
use super::receipt::{FORMAT, Receipt, bounded};
use super::{Lasting, StateStore};
use crate::error::Result;

/// How many are read, or removed, side by side.
const AT_ONCE: usize = 8;

/// Writes it; doing so again is fine, another one of the same run is not.
///
/// # Errors
/// [`crate::Error::State`] with class conflict when another stands there; the store's.
pub async fn write(store: &dyn StateStore, receipt: &Receipt) -> Result<()> {
    let name = layout::verification(&receipt.job, &receipt.run_id);
    let bytes = document::encode(&FORMAT, &name, bounded(receipt).as_ref())?;
    document::publish_own(store, &name, &bytes, Lasting::Whole, || Ok(())).await
}

/// The last `count`, newest first.
///
/// # Errors
/// [`crate::Error::Damaged`], [`crate::Error::FutureVersion`], or the store's.
pub async fn latest(store: &dyn StateStore, job: &JobName, count: usize) -> Result<Vec<Receipt>> {
    let names = names(store, job).await?.into_iter().take(count);
    let found: Vec<Option<Receipt>> = stream::iter(names)
        .map(|run| async move {
            let name = layout::verification(job, &run);
            match store.get(&name).await? {
                Some((bytes, _)) => document::decode(&FORMAT, &name, &bytes).map(Some),
                // Removed meanwhile, as one of the oldest.
                None => Ok(None),
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Removes all but the last `keep`. Returns how many went.
///
/// # Errors
/// The store's.
pub async fn prune(store: &dyn StateStore, job: &JobName, keep: usize) -> Result<u64> {
    let old: Vec<RunId> = names(store, job).await?.into_iter().skip(keep).collect();
    let removed: Vec<()> = stream::iter(old)
        .map(|run| async move { store.delete(&layout::verification(job, &run)).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(removed.len() as u64)
}

/// All runs that have one, newest first.
async fn names(store: &dyn StateStore, job: &JobName) -> Result<Vec<RunId>> {
    let items = store.list(&layout::verifications(job)).await?;
    let mut runs: Vec<RunId> = items
        .iter()
        .filter_map(|item| match layout::classify(job, &item.name) {
            Item::Verification(run) => Some(run),
            _ => None,
        })
        .collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::MemoryState;
    use crate::state::receipt;

    #[tokio::test]
    async fn the_last_few_are_kept_and_told_newest_first_and_receipts_of_runs_are_no_part_of_them() {
        let (job, store) = (JobName::new("job").unwrap(), MemoryState::new());
        let run = |second: u32| format!("20261121T03150{second}Z-00000000").parse::<RunId>().unwrap();
        receipt::write(&store, &receipt::tests::sample(&job, &run(9))).await.unwrap();
        for second in [3, 1, 4, 2] {
            write(&store, &receipt::tests::sample(&job, &run(second))).await.unwrap();
        }
        let shown = async |count| {
            let found = latest(&store, &job, count).await.unwrap();
            found.into_iter().map(|found| found.run_id).collect::<Vec<_>>()
        };
        assert_eq!(shown(2).await, [run(4), run(3)]);
        assert_eq!(prune(&store, &job, 3).await.unwrap(), 1);
        assert_eq!(shown(9).await, [run(4), run(3), run(2)]);
        assert_eq!(receipt::latest(&store, &job, 9).await.unwrap().len(), 1);
        let other = Receipt { exit_code: 4, ..receipt::tests::sample(&job, &run(4)) };
        assert_eq!(write(&store, &other).await.unwrap_err().class(), crate::error::Class::Conflict);
    }
}
