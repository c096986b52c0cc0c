//! Folders of the target that tables and their partitions leave: the source dropped them, or has them elsewhere. Looks, and
//! writes nothing.
//!
//! What was altered to stand elsewhere leaves its files at the source, and so it does on the target. What was dropped, or dropped
//! and made again, took them with it: then the source has nothing there, whatever events say of it, and nobody else knows of
//! them. A place of which the source shows nothing at all, such as a mount that is not there, says nothing of what stood in it.

use super::base;
use super::emptied::holds_files;
use crate::location::Location;
use crate::sync::Setting;
use crate::sync::state::Intent;
use crate::sync::survey::{Survey, TableWork};
use distcp::assemble::{self, JobSpec};
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::job::Job;
use distcp::store::{ListOptions, StoreErrorKind};
use futures::stream::{self, StreamExt as _};
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

/// Folders that are looked at together.
const LOOKS_AT_ONCE: usize = 16;

/// Folders on the target that are to be emptied, with the table, by its place in the survey, that leaves them. A folder that
/// cannot be looked at stays, and is named.
pub async fn left(setting: &Setting, survey: &Survey) -> Vec<(usize, Location)> {
    let tables = survey.tables.iter().enumerate().filter(|(_, table)| table.quarantine.is_none());
    let asked: Vec<(usize, &Location)> =
        tables.flat_map(|(at, table)| table.leaves.iter().map(move |folder| (at, folder))).collect();
    let folders: BTreeSet<&Location> = asked.iter().map(|(_, folder)| *folder).collect();
    let empty = empty(setting, folders).await;
    let is_empty = |(_, folder): &(usize, &Location)| empty.contains(*folder);
    asked.into_iter().filter(is_empty).map(|(at, folder)| (at, folder.clone())).collect()
}

/// Folders on the target into which a run that died may have copied files of tables and partitions that were new there, and that
/// the source has dropped since, or dropped and made again elsewhere.
pub async fn orphaned(setting: &Setting, survey: &Survey, intent: &Intent) -> Vec<Location> {
    let map = &setting.policy.locations;
    let place = |table: &TableWork| table.location.as_ref().and_then(|location| map.map(location));
    let known: BTreeMap<(&str, &str), Option<Location>> = survey
        .tables
        .iter()
        .map(|table| ((table.target.database.as_str(), table.target.table.as_str()), place(table)))
        .collect();
    let (mut found, mut asked) = (Vec::new(), BTreeSet::new());
    let copied: Vec<(Location, &(String, String))> =
        intent.fresh.iter().filter_map(|(folder, table)| Some((Location::parse(folder).ok()?, table))).collect();
    for (folder, (database, table)) in &copied {
        match known.get(&(database.as_str(), table.as_str())) {
            None => found.push(folder.clone()),
            Some(Some(now)) if !now.is_same(folder) => {
                asked.insert(folder);
            }
            Some(_) => {}
        }
    }
    found.extend(empty(setting, asked).await);
    found
}

/// Those of these folders of the target of which the source has no files.
async fn empty(setting: &Setting, folders: BTreeSet<&Location>) -> BTreeSet<Location> {
    let map = &setting.policy.locations;
    let both: Vec<(Location, &Location)> = folders.into_iter().filter_map(|to| Some((map.unmap(to)?, to))).collect();
    // A place outside every pair is nobody's to empty.
    let around = |(from, _): &(Location, &Location)| map.pair(from).cloned();
    let pairs: BTreeSet<(Location, Location)> = both.iter().filter_map(around).collect();
    let mut shown = BTreeMap::new();
    for (from, to) in pairs {
        let seen = match shows_anything(setting, &from, &to).await {
            Ok(false) => Err(Failure::new(ExitCode::Failed, format!("{from} shows nothing at all: is it there?"))),
            other => other.map(drop),
        };
        shown.insert(from, seen.map_err(|failure| failure.message));
    }
    let look = |(from, to): (Location, &Location)| {
        let shown = map.pair(&from).and_then(|(root, _)| shown.get(root));
        let (shown, to) = (shown.cloned(), to.clone());
        async move {
            let seen = match shown? {
                Ok(()) => has_files(setting, &from, &to).await.map_err(|failure| failure.message),
                Err(why) => Err(why),
            };
            if let Err(why) = &seen {
                setting.note(format!("what may have to go with a table or partition stays in {to}: {why}"));
            }
            matches!(seen, Ok(false)).then_some(to)
        }
    };
    stream::iter(both).map(look).buffer_unordered(LOOKS_AT_ONCE).filter_map(async |folder| folder).collect().await
}

async fn has_files(setting: &Setting, from: &Location, to: &Location) -> Result<bool> {
    let job = job(setting, from, to)?;
    holds_files(&job.source.store, &ObjectKey::default(), &job.options.filter).await
}

/// Whether there is any object or folder in a place.
async fn shows_anything(setting: &Setting, from: &Location, to: &Location) -> Result<bool> {
    let mut pages = job(setting, from, to)?.source.store.list(ListOptions::default());
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) if page.is_empty() => {}
            Ok(_) => return Ok(true),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn job(setting: &Setting, from: &Location, to: &Location) -> Result<Job> {
    let base = base(setting, &from.place(), &to.place(), "data");
    assemble::job(JobSpec { source_may_be_missing: true, looks_only: true, ..base }, &setting.opener)
}
