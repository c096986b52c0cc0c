//! Folders that tables of the target leave because the source has them elsewhere. Looks, and writes nothing.
//!
//! A table that was altered to stand elsewhere leaves its files at the source, and so it does on the target. One that was dropped
//! and made again took them with it: then the source has nothing there, whatever events say of it, and nobody else knows of them.

use super::base;
use super::emptied::holds_files;
use crate::location::Location;
use crate::sync::Setting;
use crate::sync::state::Intent;
use crate::sync::survey::{Survey, TableWork};
use distcp::assemble::{self, JobSpec};
use distcp::error::Result;
use manifest::ObjectKey;
use std::collections::BTreeMap;

/// Tables whose folders on the target are to be emptied, by their place in the survey, with these folders. A folder that cannot be
/// looked at stays, and is named.
pub async fn moved(setting: &Setting, survey: &Survey) -> Vec<(usize, Location)> {
    let mut found = Vec::new();
    for (at, table) in survey.tables.iter().enumerate().filter(|(_, table)| table.quarantine.is_none()) {
        let Some(to) = &table.former else { continue };
        let Some(from) = setting.policy.locations.unmap(to) else { continue };
        match has_files(setting, &from, to).await {
            Ok(true) => {}
            Ok(false) => found.push((at, to.clone())),
            Err(failure) => setting
                .note(format!("{} stands elsewhere now; what it had stays in {to}: {}", table.target, failure.message)),
        }
    }
    found
}

/// Folders on the target into which a run that died may have copied files of tables that were new, and that the source has dropped
/// since, or dropped and made again elsewhere.
pub async fn orphaned(setting: &Setting, survey: &Survey, intent: &Intent) -> Vec<String> {
    let map = &setting.policy.locations;
    let place = |table: &TableWork| table.location.as_ref().and_then(|location| map.map(location));
    let known: BTreeMap<(&str, &str), Option<Location>> = survey
        .tables
        .iter()
        .map(|table| ((table.target.database.as_str(), table.target.table.as_str()), place(table)))
        .collect();
    let mut found = Vec::new();
    for (folder, (database, table)) in &intent.fresh {
        let is_left = match (known.get(&(database.as_str(), table.as_str())), Location::parse(folder)) {
            (None, _) => true,
            (Some(Some(now)), Ok(folder)) if !now.is_same(&folder) => match map.unmap(&folder) {
                Some(from) => matches!(has_files(setting, &from, &folder).await, Ok(false)),
                None => false,
            },
            _ => false,
        };
        found.extend(is_left.then(|| folder.clone()));
    }
    found
}

async fn has_files(setting: &Setting, from: &Location, to: &Location) -> Result<bool> {
    let base = base(setting, &from.place(), &to.place(), "data");
    let spec = JobSpec { source_may_be_missing: true, looks_only: true, ..base };
    let job = assemble::job(spec, &setting.opener)?;
    holds_files(&job.source.store, &ObjectKey::default(), &job.options.filter).await
}
