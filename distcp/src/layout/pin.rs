//! What of tables was there before a tree was listed. Pure, but for the plans' files.
//!
//! A listing takes a while, and a table that is written to meanwhile may show a commit whose data the listing has passed by
//! already. So where a plan has anything to carry of tables, the tree is listed and planned once more: what a file that the
//! first listing saw names, the second one finds. What of snapshots, commits and hints only the second one saw, or not as the
//! first one did, waits for the next run.
//!
//! Of the writers it is relied on that they keep what a version names for as long as a run takes after they have left it
//! behind, as `VACUUM` and the expiry of snapshots do by default. Where they did not, and a file that was to be carried is
//! gone when it is looked at again, all that names others of its table waits. Where what waits has taken the place of other files, those
//! stay on the target too; and where a hint waits, what it may name. What is gone only since the first listing is deleted by the
//! next run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use manifest::{EntryKind, Keyed, ObjectKey, Result};

use super::{CHANGES, DELTA_LOG, Layout, Part, Role, SIDECARS};
use crate::plan::file::{Plan, PlanWriter};
use crate::plan::live::{count_out, folders_around};
use crate::plan::{Action, Reason, Step};

/// Whether the action has to do with a part of a table that is to be carried, or to go.
pub fn is_ordered(action: &Action, layout: Layout) -> bool {
    let changes = matches!(action.step, Step::Copy | Step::Compare | Step::Delete);
    changes && layout.part(&action.key).is_some()
}

/// What of a table the action is to carry.
fn carried(action: &Action, layout: Layout) -> Option<Part> {
    let is_wanted = matches!(action.step, Step::Copy | Step::Compare);
    is_wanted.then(|| layout.part(&action.key)).flatten()
}

/// Whether the key is in one of these folders.
pub fn is_in(folders: &BTreeSet<ObjectKey>, key: &ObjectKey) -> bool {
    !folders.is_empty() && around(key).any(|folder| folders.contains(&folder))
}

/// The folders that a key stands in, the innermost first, and the root.
pub fn around(key: &ObjectKey) -> impl Iterator<Item = ObjectKey> {
    folders_around(key).chain([ObjectKey::default()])
}

/// Of these tables those that may name a file which is gone. What writers make while they write is no file of a table.
pub fn naming<'a>(tables: &'a BTreeSet<ObjectKey>, key: &'a ObjectKey) -> impl Iterator<Item = ObjectKey> + 'a {
    around(key).filter(|table| {
        let is_file = || key.strip_prefix(table).is_some_and(|inside| !is_passing(inside.as_bytes()));
        tables.contains(table) && is_file()
    })
}

/// Whether no version names such a file, by its path in its table.
fn is_passing(path: &[u8]) -> bool {
    let is_named = |segment: &[u8]| [DELTA_LOG, SIDECARS, CHANGES].contains(&segment);
    let is_hidden = |segment: &[u8]| segment.first().is_some_and(|first| b"_.".contains(first)) && !is_named(segment);
    path.split(|byte| *byte == b'/').any(is_hidden) || path.ends_with(b".tmp") || path.ends_with(b".temp")
}

/// A commit that seems to be another one on the target.
fn differs(action: &Action, part: &Part) -> bool {
    matches!(part.role, Role::Commit(_)) && action.step == Step::Copy && action.target.is_some()
}

/// A commit that is another one on the target: nobody can say which of two histories is meant. Of the same size only its content tells:
/// ETags of encrypted buckets differ always.
fn forks(action: &Action, part: &Part) -> bool {
    let size = |side: &Option<manifest::Fingerprint>| side.as_ref().map(|side| side.size_bytes);
    differs(action, part) && size(&action.source) != size(&action.target)
}

/// Whether it would be copied from a donor, which is before anything that it names is there.
fn comes_early(action: &Action, part: &Part) -> bool {
    action.donor.is_some() && !matches!(part.role, Role::Transactions(_))
}

/// What of tables was written in between.
#[derive(Default)]
struct Moved {
    /// The newest commit that was planned first, by table.
    newest: BTreeMap<ObjectKey, u64>,
    /// Tables with logs or snapshots to carry.
    tables: BTreeSet<ObjectKey>,
    /// Of these, those of which a file went in between: a version that is to be carried may name it.
    torn: BTreeSet<ObjectKey>,
    /// Tables of which a snapshot waits: hints may name it.
    without_snapshot: BTreeSet<ObjectKey>,
    /// Folders of transactions that came or changed.
    folders: BTreeSet<ObjectKey>,
    /// Tables that keep what they have.
    keeping: BTreeSet<ObjectKey>,
    /// Tables of which a hint waits, and how they fare.
    hints: OldHints,
    /// Some row of the second plan is not to be as it is.
    rewrites: bool,
}

impl Moved {
    /// Takes a row of the first plan.
    fn first(&mut self, part: Part) {
        if let Role::Commit(version) = part.role {
            let newest = self.newest.entry(part.table.clone()).or_default();
            *newest = version.max(*newest);
        }
        if !matches!(part.role, Role::Transactions(_)) {
            self.tables.insert(part.table);
        }
    }

    /// Takes a file that the first plan has to carry, and the second does not.
    fn went(&mut self, key: &ObjectKey) {
        let tables: Vec<ObjectKey> = naming(&self.tables, key).collect();
        self.rewrites |= !tables.is_empty();
        // They stay at the version that they have, with all that this one names.
        self.keeping.extend(tables.iter().cloned());
        self.torn.extend(tables);
    }

    /// Takes a row of the second plan; `is_same`: the first one has the same version of it to carry.
    fn second(&mut self, action: &Action, part: &Part, is_same: bool) {
        let waits = !self.is_known(part, is_same);
        self.rewrites |= waits || comes_early(action, part) || differs(action, part);
        if !waits {
            return;
        }
        match &part.role {
            Role::Snapshot => {
                self.without_snapshot.insert(part.table.clone());
                self.hints.stay(part.table.clone());
            }
            Role::Transactions(folder) => drop(self.folders.insert(folder.clone())),
            Role::Hint => self.hints.stay(part.table.clone()),
            Role::Commit(_) | Role::Extract => {}
        }
        if part.replaces {
            self.keeping.insert(part.table.clone());
        }
    }

    fn is_known(&self, part: &Part, is_same: bool) -> bool {
        let is_torn = self.torn.contains(&part.table) && !matches!(part.role, Role::Transactions(_));
        match part.role {
            _ if is_torn => false,
            // No commit is made before the one that it follows, whichever of them a listing of many pages saw.
            Role::Commit(version) => self.newest.get(&part.table).is_some_and(|newest| version <= *newest),
            _ => is_same,
        }
    }

    /// Whether a row of the second plan waits, once all were taken.
    fn waits(&self, part: &Part, is_same: bool) -> bool {
        let of_others = match &part.role {
            Role::Hint => self.without_snapshot.contains(&part.table),
            Role::Transactions(folder) => self.folders.contains(folder),
            Role::Snapshot | Role::Commit(_) | Role::Extract => false,
        };
        of_others || !self.is_known(part, is_same)
    }

    /// Whether what would be deleted stays.
    fn stays(&self, key: &ObjectKey, layout: Layout) -> bool {
        is_in(&self.keeping, key) || self.hints.keep(key, layout)
    }
}

/// Tables of which the target keeps the hint that it has. What that names stays, and where snapshots go, all that they name.
#[derive(Default)]
pub struct OldHints {
    tables: BTreeSet<ObjectKey>,
    expiring: BTreeSet<ObjectKey>,
}

impl OldHints {
    /// Takes an action of a plan: a snapshot that goes.
    pub fn take(&mut self, action: &Action, layout: Layout) {
        let part = layout.part(&action.key).filter(|part| action.step == Step::Delete && part.role == Role::Snapshot);
        self.expiring.extend(part.map(|part| part.table));
    }

    /// The hint of this table stays as it is.
    pub fn stay(&mut self, table: ObjectKey) {
        self.tables.insert(table);
    }

    /// Whether what would be deleted may be named by such a hint.
    pub fn keep(&self, key: &ObjectKey, layout: Layout) -> bool {
        if self.tables.is_empty() {
            return false;
        }
        let is_named = |part: Part| part.is_named_by_hint() && self.tables.contains(&part.table);
        let is_below = |table: ObjectKey| self.tables.contains(&table) && self.expiring.contains(&table);
        layout.part(key).is_some_and(is_named) || around(key).any(is_below)
    }
}

/// The second plan of a tree, without what of its tables was written since the first one was made.
///
/// # Errors
/// A plan that cannot be read or written.
pub fn pin(
    first: &Plan,
    second: Plan,
    layout: Layout,
    rewrite: impl FnOnce() -> Result<(PlanWriter, File)>,
) -> Result<Plan> {
    let mut moved = Moved::default();
    for action in first.actions()? {
        if let Some(part) = carried(&action?, layout) {
            moved.first(part);
        }
    }
    each_that_went(first, &second, layout, |key| moved.went(key))?;
    beside(first, &second, layout, |action, before| {
        moved.hints.take(&action, layout);
        match carried(&action, layout) {
            Some(part) => moved.second(&action, &part, is_same(before, &action)),
            None => moved.rewrites |= is_newly_gone(before, &action),
        }
        Ok(())
    })?;
    if !moved.rewrites {
        return Ok(second);
    }
    let (mut writer, file) = rewrite()?;
    let mut header = second.header.clone();
    beside(first, &second, layout, |mut action, before| {
        let part = carried(&action, layout);
        let waits = match &part {
            Some(part) => moved.waits(part, is_same(before, &action)),
            None if is_newly_gone(before, &action) => true,
            None => action.step == Step::Delete && moved.stays(&action.key, layout),
        };
        if waits {
            count_out(&mut header.totals, &action);
            (action.step, action.reason, action.donor) = (Step::Skip, Reason::Later, None);
        } else if let Some(part) = part {
            if comes_early(&action, &part) {
                header.totals.server_side -= 1;
                action.donor = None;
            }
            if differs(&action, &part) && !forks(&action, &part) {
                header.totals.copies -= 1;
                header.totals.copy_bytes -= action.size_bytes();
                header.totals.compares += 1;
                header.totals.compare_bytes += action.size_bytes();
                action.step = Step::Compare;
            } else if forks(&action, &part) {
                header.totals.copies -= 1;
                header.totals.copy_bytes -= action.size_bytes();
                header.totals.overwrites -= 1;
                header.totals.failed += 1;
                (action.step, action.reason) = (Step::Fail, Reason::Fork);
            }
        }
        writer.push(&action)
    })?;
    writer.finish(header)?;
    Plan::from_unnamed(file)
}

/// Whether it would be deleted, and the first plan knows nothing of that: what took its place may have come behind the second
/// listing's back.
fn is_newly_gone(before: Option<&Action>, now: &Action) -> bool {
    now.step == Step::Delete && before.is_none_or(|before| before.step != Step::Delete)
}

fn is_same(before: Option<&Action>, now: &Action) -> bool {
    let versions = before.and_then(|before| before.source.as_ref()).zip(now.source.as_ref());
    versions.is_some_and(|(before, now)| before.looks_like(now))
}

/// Goes over the files that the first plan has to carry, and the second has not, in neither way; parts of tables aside.
fn each_that_went(first: &Plan, second: &Plan, layout: Layout, mut take: impl FnMut(&ObjectKey)) -> Result<()> {
    let is_wanted = |action: &Action| matches!(action.step, Step::Copy | Step::Compare) && action.source.is_some();
    let mut now = second.actions()?;
    let mut at: Option<Action> = now.next().transpose()?;
    for action in first.actions()? {
        let action = action?;
        if !is_wanted(&action) || action.kind != EntryKind::Object || layout.part(&action.key).is_some() {
            continue;
        }
        while at.as_ref().is_some_and(|at| at.key() < action.key()) {
            at = now.next().transpose()?;
        }
        let is_there = |now: &Action| now.key() == action.key() && now.source.is_some();
        if !at.as_ref().is_some_and(is_there) {
            take(&action.key);
        }
    }
    Ok(())
}

/// Goes over the rows of the second plan, each with the one of the first that carries the same key.
fn beside(
    first: &Plan,
    second: &Plan,
    layout: Layout,
    mut take: impl FnMut(Action, Option<&Action>) -> Result<()>,
) -> Result<()> {
    let counts = |action: &Action| action.step == Step::Delete || carried(action, layout).is_some();
    let mut before = first.actions()?.filter(|action| action.as_ref().map_or(true, counts));
    let mut at: Option<Action> = before.next().transpose()?;
    for action in second.actions()? {
        let action = action?;
        while at.as_ref().is_some_and(|at| at.key() < action.key()) {
            at = before.next().transpose()?;
        }
        let same_key = at.as_ref().filter(|at| at.key() == action.key());
        take(action, same_key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
