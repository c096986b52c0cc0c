//! Which folders of the target are to be emptied, because tables, partitions, or a run that died left them. Nothing is changed
//! here.
//!
//! A folder that the source still has files in is asked about again by later runs, for a week: a metastore forgets a partition
//! before it removes its files, and what was altered to stand elsewhere leaves them for good.

use super::Planned;
use crate::compare::Sides;
use crate::location::{Location, LocationMap};
use crate::policy::Policy;
use crate::roots::{self, Folder, Owner, Root, Wave};
use crate::sync::state::{Left, SyncState};
use crate::sync::survey::{Free, Survey, removable};
use crate::sync::{Allowed, Setting, data, failure};
use distcp::error::Result;
use jiff::{SignedDuration, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How long a folder is asked about that was left while the source had files in it.
const ASKED_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// So many of them are, those that were left last.
const MAX_ASKED: usize = 1_000;

/// Folders of the target that are to be emptied.
#[derive(Default)]
pub(super) struct Leaving {
    /// Those that no table of the target has anything in.
    pub free: BTreeSet<String>,
    /// Of these those that earlier runs left: what others wrote there since is theirs.
    pub late: Vec<Location>,
    /// Those of which nobody can tell yet.
    pub postponed: BTreeSet<String>,
    /// Those that are to be asked about again.
    pub later: BTreeMap<String, Left>,
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
    let policy = &setting.policy;
    let map = &policy.locations;
    // What earlier runs left is for runs of everything.
    let state = state.filter(|_| allowed.selection.is_all());
    if switches {
        for drop in &mut survey.drops {
            let place = drop.place.as_deref();
            drop.folders.retain(|folder| place == Some(folder.to_string().as_str()));
        }
    }
    let parsed = |place: &String| Location::parse(place).ok();
    let mut sure: Vec<Location> = survey.drops.iter().flat_map(|drop| &drop.folders).cloned().collect();
    let mut asked = Vec::new();
    if policy.options.data {
        let carried = survey.tables.iter().filter(|table| table.quarantine.is_none() && !switches);
        asked.extend(carried.flat_map(|table| &table.leaves).cloned());
        if let Some(intent) = state.and_then(|state| state.intent.as_ref()) {
            let orphaned = data::orphaned(survey, intent, map);
            sure.extend(orphaned.dropped);
            asked.extend(orphaned.asked);
        }
    }
    let new: BTreeSet<Vec<String>> = sure.iter().chain(&asked).map(Location::path).collect();
    sure.extend(state.iter().flat_map(|state| &state.removals).filter_map(parsed));
    let before = state.map(|state| still_left(&state.leaving, policy, now)).unwrap_or_default();
    asked.extend(before.keys().filter(|_| policy.options.data).filter_map(parsed));
    // What is needed anyhow need not be asked about, and what tables need that are not carried now waits for those.
    let (sure, mut waiting) = unclaimed(sure, survey, map);
    let (asked, held) = unclaimed(asked, survey, map);
    let seen = data::are_empty(setting, asked.folders()).await;
    let (empty, full): (Vec<_>, Vec<_>) = seen.into_iter().partition(|(_, is_empty)| *is_empty);
    waiting.extend(held.into_iter().chain(full.into_iter().map(|(folder, _)| folder.clone())));
    let empty: Vec<Location> = empty.into_iter().map(|(folder, _)| folder.clone()).collect();
    let paths: BTreeSet<Vec<String>> = empty.iter().map(Location::path).collect();
    let leaves = survey.tables.iter().enumerate().flat_map(|(at, table)| table.leaves.iter().map(move |to| (at, to)));
    let is_left = |(at, folder): &(usize, &Location)| {
        !switches && survey.tables[*at].quarantine.is_none() && paths.contains(&folder.path())
    };
    survey.left = leaves.filter(is_left).map(|(at, folder)| (at, folder.clone())).collect();
    let is_mapped = |folder: &Location| map.unmap(folder).is_some();
    let mut free = Free::new(sure.folders().chain(&empty).filter(|folder| is_mapped(folder)).cloned());
    let is_told = removable(sides, survey, &mut free).await.map_err(failure)?;
    if !is_told {
        survey.left.clear();
        waiting.extend(empty);
    }
    let (later, forgotten) = later(waiting, &before, policy, now);
    if forgotten > 0 {
        setting.note(format!("{forgotten} folders that were left are not asked about again: {MAX_ASKED} are, at most"));
    }
    if !is_told {
        let postponed = sure.folders().filter(|folder| is_mapped(folder)).map(ToString::to_string).collect();
        return Ok(Leaving { postponed, later, ..Leaving::default() });
    }
    let places = free.folders().filter_map(|place| map.unmap(place));
    let folders: Vec<Folder> =
        places.map(|location| Folder { location, owner: Owner::Removal, wave: Wave::Data }).collect();
    survey.folders.extend(folders);
    let late = free.folders().filter(|folder| !new.contains(&folder.path())).cloned().collect();
    let free = free.folders().map(ToString::to_string).collect();
    Ok(Leaving { free, late, later, ..Leaving::default() })
}

/// Says of the trees which of their folders were left by earlier runs.
pub(super) fn mark(roots: &mut [Root], late: &[Location]) {
    for root in roots {
        let inside = late.iter().filter_map(|folder| root.to.relative(folder));
        root.late = inside.map(roots::key).collect();
    }
}

/// Of these folders those that nothing of the survey has, and those that only tables have that are not carried.
fn unclaimed(folders: Vec<Location>, survey: &Survey, map: &LocationMap) -> (Free, Vec<Location>) {
    let mut all = Free::new(folders);
    survey.claim(map, &mut all);
    let mut free = all.clone();
    for table in survey.tables.iter().filter(|table| table.quarantine.is_some()) {
        let displaced = table.displaced.iter().map(|(place, _)| place);
        table.location.iter().chain(displaced).filter_map(|place| map.map(place)).for_each(|place| free.claim(&place));
    }
    let kept: BTreeSet<Vec<String>> = free.folders().map(Location::path).collect();
    let held = all.folders().filter(|folder| !kept.contains(&folder.path())).cloned().collect();
    (free, held)
}

/// Of what earlier runs left, what is asked about still: it is not too long ago, and the policy means the same by it.
fn still_left(left: &BTreeMap<String, Left>, policy: &Policy, now: Timestamp) -> BTreeMap<String, Left> {
    let holds = |(folder, left): &(&String, &Left)| {
        let is_young = left.since.parse().is_ok_and(|since: Timestamp| now.duration_since(since) < ASKED_FOR);
        let from = Location::parse(folder).ok().and_then(|folder| policy.locations.unmap(&folder));
        let is_same = from.is_some_and(|from| from.normal() == left.from);
        is_young && is_same && left.keeps_external == policy.options.keep_external_data
    };
    left.iter().filter(holds).map(|(folder, left)| (folder.clone(), left.clone())).collect()
}

/// These folders as they are to be asked about again, and how many there were too many.
fn later(
    folders: Vec<Location>,
    before: &BTreeMap<String, Left>,
    policy: &Policy,
    now: Timestamp,
) -> (BTreeMap<String, Left>, usize) {
    let dated = |folder: Location| {
        let text = folder.to_string();
        let left = before.get(&text).cloned().or_else(|| left_now(&folder, policy, now))?;
        Some((text, left))
    };
    let mut all: Vec<(String, Left)> = folders.into_iter().filter_map(dated).collect();
    all.sort_by(|(a, left), (b, right)| Reverse(&left.since).cmp(&Reverse(&right.since)).then_with(|| a.cmp(b)));
    let forgotten = all.len().saturating_sub(MAX_ASKED);
    (all.into_iter().take(MAX_ASKED).collect(), forgotten)
}

/// A folder that is left now. `None`: no pair leads there.
fn left_now(folder: &Location, policy: &Policy, now: Timestamp) -> Option<Left> {
    let from = policy.locations.unmap(folder)?.normal();
    Some(Left { since: now.to_string(), from, keeps_external: policy.options.keep_external_data })
}

impl Planned {
    /// A folder of the target that this run leaves.
    pub(in crate::sync) fn left(&self, folder: &str) -> Option<Left> {
        left_now(&Location::parse(folder).ok()?, &self.policy, self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(options: &str) -> Policy {
        let text = format!(
            "name = \"p\"\nstate = \"/state\"\ndatabases = [\"d\"]\nsource.metastore = \"sqlite:/s\"\ntarget.metastore = \"sqlite:/t\"\n\
             [[locations]]\nfrom = \"file:/from\"\nto = \"file:/to\"\n[options]\n{options}\n"
        );
        Policy::parse(&text, "p.toml").unwrap()
    }

    fn place(folder: &str) -> Location {
        Location::parse(folder).unwrap()
    }

    #[test]
    fn what_is_not_gone_yet_is_asked_about_for_a_week_by_the_policy_that_left_it() {
        let of = |text: &str| text.parse::<Timestamp>().unwrap();
        let (then, policy) = (of("2026-11-13T12:00:00Z"), policy(""));
        let (found, forgotten) =
            later(vec![place("file:/to/a"), place("file:/elsewhere")], &BTreeMap::new(), &policy, then);
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["file:/to/a"], "no pair leads elsewhere");
        assert_eq!(forgotten, 0);
        assert_eq!(found["file:/to/a"].from, "file:///from/a");
        assert_eq!(still_left(&found, &policy, of("2026-11-20T11:59:59Z")), found);
        assert!(still_left(&found, &policy, of("2026-11-20T12:00:00Z")).is_empty());
        assert!(still_left(&found, &self::policy("keep_external_data = false"), then).is_empty());
        let mut moved = found.clone();
        moved.get_mut("file:/to/a").unwrap().from = "file:///another/a".to_owned();
        assert!(still_left(&moved, &policy, then).is_empty());
        // It keeps the day on which it was left.
        let again = later(vec![place("file:/to/a")], &found, &policy, of("2026-11-15T12:00:00Z"));
        assert_eq!(again, (found, 0));
    }

    #[test]
    fn those_that_were_left_last_are_asked_about() {
        let (then, now): (Timestamp, Timestamp) =
            ("2026-11-13T12:00:00Z".parse().unwrap(), "2026-11-14T12:00:00Z".parse().unwrap());
        let (policy, folder) = (policy(""), |at: usize| place(&format!("file:/to/{at:05}")));
        let (before, _) = later((0..10).map(folder).collect(), &BTreeMap::new(), &policy, then);
        let (found, forgotten) = later((0..MAX_ASKED + 5).map(folder).collect(), &before, &policy, now);
        assert_eq!((found.len(), forgotten), (MAX_ASKED, 5));
        assert!(found.contains_key("file:/to/00004") && !found.contains_key("file:/to/00005"));
        assert!(found.contains_key(&format!("file:/to/{:05}", MAX_ASKED + 4)));
    }
}
