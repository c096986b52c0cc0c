//! Temporary files that runs which died left in a target that is a file system.
//!
//! A job that is about some folders of a tree removes those in the folders into which the dead run's plan says that it wrote: in
//! others of that tree other jobs may be writing at this moment. In folders that it retires it removes all of them. A plan that is not whole was not carried out. A crash here
//! leaves what is not removed yet, and the run that finds it next removes the rest: this one has no receipt either.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use manifest::state::layout::{self, Item, RunId};
use manifest::state::lease::Lease;
use manifest::{Error, ObjectKey};

use crate::error::Result;
use crate::job::Job;
use crate::plan::Step;
use crate::plan::file::Plan;
use crate::plan::live::folders_around;
use crate::store::{Folders, MAX_LEFTOVERS, UploadId};

/// Of the runs since the last committed one those that ended without a receipt: they may have left temporary files.
pub(super) async fn died_since(job: &Job, after: Option<&RunId>) -> Result<Vec<RunId>> {
    let mut runs: BTreeMap<RunId, bool> = BTreeMap::new();
    for item in job.state.list(&layout::runs(&job.name)).await? {
        let (run, receipt) = match layout::classify(&job.name, &item.name) {
            Item::Receipt(run) => (run, true),
            Item::OfRun(run) | Item::Journal(run, _) => (run, false),
            _ => continue,
        };
        *runs.entry(run).or_default() |= receipt;
    }
    let died = |(run, receipt): (RunId, bool)| (!receipt && after.is_none_or(|after| run > *after)).then_some(run);
    Ok(runs.into_iter().filter_map(died).collect())
}

/// Removes the temporary files of these runs, but for uploads that can still go on. Only with the lease held: a run beside us
/// would lose its files.
pub async fn sweep(job: &Job, lease: &Lease, died: &[RunId], open: &[UploadId]) -> Result<()> {
    if died.is_empty() && retired(job).next().is_none() {
        return Ok(());
    }
    if let Some(trash) = job.trash.as_ref().and_then(|trash| trash.swept.as_ref()).filter(|_| lease.is_held()) {
        // A call's worth: the next run that finds a dead one goes on.
        for leftover in trash.leftovers(crate::trash::LEFTOVER_AGE, None).await? {
            trash.remove_leftover(&leftover).await?;
        }
    }
    let Some(target) = job.swept.as_ref().filter(|_| lease.is_held()) else { return Ok(()) };
    let within = match reads_plans(job) {
        true => {
            let alone = written_into(job, died).await?;
            Some(Arc::new(Folders { alone, whole: retired(job).collect() }))
        }
        false => None,
    };
    loop {
        let leftovers = target.leftovers(Duration::ZERO, within.clone()).await?;
        let found = leftovers.len();
        for leftover in leftovers.iter().filter(|leftover| !open.contains(&leftover.upload)) {
            target.remove_leftover(leftover).await?;
        }
        if found < MAX_LEFTOVERS {
            return Ok(());
        }
    }
}

/// The folders that others have taken the place of. Nobody writes there any more; into one that was begun and given up a run
/// that died long ago may have, whose plan names the folder's successor today.
fn retired(job: &Job) -> impl Iterator<Item = ObjectKey> {
    job.within.iter().flat_map(|within| within.all_retired())
}

/// Whether the plan of a run is read once that run has died.
pub(super) fn reads_plans(job: &Job) -> bool {
    job.within.is_some() && job.swept.is_some()
}

/// The folders into which the plans of these runs say that they wrote.
async fn written_into(job: &Job, runs: &[RunId]) -> Result<BTreeSet<ObjectKey>> {
    let mut folders = BTreeSet::new();
    for run in runs {
        let mut file = tempfile::tempfile_in(&job.spool).map_err(|e| Error::io("create a file in", &job.spool, e))?;
        for number in 1.. {
            let Some(piece) = job.state.read(&layout::plan_segment(&job.name, run, number)).await? else { break };
            file.write_all(&piece).map_err(|e| Error::io("write a file in", &job.spool, e))?;
        }
        let work = move || -> manifest::Result<BTreeSet<ObjectKey>> {
            let mut found = BTreeSet::new();
            // One that was never kept whole was not carried out; of a damaged one what can be read counts.
            let Ok(actions) = Plan::from_unnamed(file).and_then(|plan| plan.actions()) else { return Ok(found) };
            for action in actions {
                let Ok(action) = action else { break };
                if matches!(action.step, Step::Copy | Step::Compare) {
                    found.insert(folders_around(&action.key).next().unwrap_or_default());
                }
            }
            Ok(found)
        };
        folders.extend(tokio::task::spawn_blocking(work).await??);
    }
    Ok(folders)
}
