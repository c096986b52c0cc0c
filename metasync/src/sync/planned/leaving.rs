//! Which folders of the target are to be emptied, because tables, partitions, or a run that died left them. Nothing is changed
//! here.
//!
//! A folder that the source still has files in is asked about again by later runs, for a week: a metastore forgets a partition
//! before it removes its files, and what was altered to stand elsewhere leaves them for good.

use crate::compare::Sides;
use crate::location::Location;
use crate::roots::{Folder, Owner, Wave};
use crate::sync::state::SyncState;
use crate::sync::survey::{Free, Survey, removable};
use crate::sync::{Allowed, Setting, data, failure};
use distcp::error::Result;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long a folder is asked about that was left while the source had files in it.
const ASKED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So many of them are.
const MAX_ASKED: usize = 10_000;

/// Folders of the target that are to be emptied.
#[derive(Default)]
pub(super) struct Leaving {
    /// Those that no table of the target has anything in.
    pub free: BTreeSet<String>,
    /// Those of which nobody can tell yet.
    pub postponed: BTreeSet<String>,
    /// Those that are to be asked about again, with since when they are (RFC 3339).
    pub later: BTreeMap<String, String>,
}

/// Finds them, and adds those that are free to the folders of the survey. With switching a folder that others take the place of is
/// retired instead: only those of dropped tables, and what earlier runs left, are found.
pub(super) async fn find(
    setting: &Setting,
    sides: &Sides,
    state: Option<&SyncState>,
    allowed: &Allowed,
    (switches, now): (bool, Timestamp),
    survey: &mut Survey,
) -> Result<Leaving> {
    let (policy, is_all) = (&setting.policy, allowed.selection.is_all());
    if switches {
        for drop in &mut survey.drops {
            let place = drop.place.as_deref();
            drop.folders.retain(|folder| place == Some(folder.to_string().as_str()));
        }
    }
    let parsed = |place: &String| Location::parse(place).ok();
    let mut sure: Vec<Location> = state.iter().flat_map(|state| &state.removals).filter_map(parsed).collect();
    sure.extend(survey.drops.iter().flat_map(|drop| &drop.folders).cloned());
    let mut asked = Vec::new();
    let before = state.map(|state| state.leaving.clone()).unwrap_or_default();
    if policy.options.data {
        let carried = survey.tables.iter().filter(|table| table.quarantine.is_none() && !switches);
        asked.extend(carried.flat_map(|table| &table.leaves).cloned());
        let intent = state.and_then(|state| state.intent.as_ref());
        if let Some(intent) = intent.filter(|_| is_all) {
            let orphaned = data::orphaned(survey, intent, &policy.locations);
            sure.extend(orphaned.dropped);
            asked.extend(orphaned.asked);
        }
        asked.extend(before.keys().filter(|_| is_all).filter_map(parsed));
    }
    // What is needed anyhow need not be asked about.
    let mut unclaimed = Free::new(asked);
    survey.claim(&policy.locations, &mut unclaimed);
    let seen = data::are_empty(setting, unclaimed.folders()).await;
    let empty: BTreeSet<Vec<String>> =
        seen.iter().filter(|(_, is_empty)| **is_empty).map(|(folder, _)| folder.path()).collect();
    let later =
        later(seen.iter().filter(|(_, is_empty)| !**is_empty).map(|(folder, _)| folder.to_string()), &before, now);
    let leaves = survey.tables.iter().enumerate().flat_map(|(at, table)| table.leaves.iter().map(move |to| (at, to)));
    let is_left = |(at, folder): &(usize, &Location)| {
        !switches && survey.tables[*at].quarantine.is_none() && empty.contains(&folder.path())
    };
    survey.left = leaves.filter(is_left).map(|(at, folder)| (at, folder.clone())).collect();
    sure.extend(unclaimed.folders().filter(|folder| empty.contains(&folder.path())).cloned());
    let found: BTreeSet<String> = sure.iter().map(ToString::to_string).collect();
    let mut free = Free::new(sure);
    if !removable(sides, survey, &mut free).await.map_err(failure)? {
        return Ok(Leaving { postponed: found, later, ..Leaving::default() });
    }
    let places = free.folders().filter_map(|place| policy.locations.unmap(place));
    let folders: Vec<Folder> =
        places.map(|location| Folder { location, owner: Owner::Removal, wave: Wave::Data }).collect();
    survey.folders.extend(folders);
    let free = free.folders().map(ToString::to_string).collect();
    Ok(Leaving { free, later, ..Leaving::default() })
}

/// Of these those that are to be asked about again, with since when: none for more than [`ASKED_FOR`], and at most [`MAX_ASKED`].
fn later(
    folders: impl Iterator<Item = String>,
    before: &BTreeMap<String, String>,
    now: Timestamp,
) -> BTreeMap<String, String> {
    let since = |folder: &String| before.get(folder).and_then(|since| since.parse().ok()).unwrap_or(now);
    let dated = folders.map(|folder| (since(&folder), folder));
    let is_young = |(since, _): &(Timestamp, String)| now.duration_since(*since) < ASKED_FOR;
    dated.filter(is_young).take(MAX_ASKED).map(|(since, folder)| (folder, since.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_gone_yet_is_asked_about_for_a_week() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let of = |texts: &[(&str, &str)]| {
            texts.iter().map(|(folder, since)| ((*folder).to_owned(), (*since).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let before =
            of(&[("/a", "2026-11-13T12:00:00Z"), ("/b", "2026-11-13T12:00:01Z"), ("/gone", "2026-11-20T00:00:00Z")]);
        let found = later(["/a", "/b", "/c"].into_iter().map(str::to_owned), &before, now);
        assert_eq!(found, of(&[("/b", "2026-11-13T12:00:01Z"), ("/c", "2026-11-20T12:00:00Z")]));
        let many = (0..MAX_ASKED + 5).map(|at| at.to_string());
        assert_eq!(later(many, &before, now).len(), MAX_ASKED);
    }
}
