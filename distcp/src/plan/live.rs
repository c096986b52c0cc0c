//! Folders of the target that readers are in: what stands there is neither overwritten nor deleted in place, and a folder that
//! would lose or change anything gets nothing new either. Pure, but for the plan's file.
//!
//! For programs that embed a copy and show readers a whole folder at a time, such as a metastore that can say where a table
//! is. Such a folder is called a unit here. What is held back is a word in the plan, by which the program knows that the
//! unit has to be made anew elsewhere; comparisons stay, and end where they find a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use manifest::{EntryKind, ObjectKey, Result};

use super::file::{Plan, PlanWriter};
use super::{Action, PlanTotals, Reason, Step};

/// Which folders these are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Folders, with a slash at the end, and how many levels below each its units are.
    homes: BTreeMap<Vec<u8>, usize>,
    /// Units that nobody reads, without a slash at the end.
    free: BTreeSet<ObjectKey>,
}

impl Live {
    /// The units of these folders: each folder itself where the number is 0, else the folders so many levels below it. `free`
    /// are units that nobody reads, or that are changed in place all the same.
    pub fn new(homes: impl IntoIterator<Item = (ObjectKey, usize)>, free: impl IntoIterator<Item = ObjectKey>) -> Self {
        let slashed = |(home, levels): (ObjectKey, usize)| ([home.as_bytes(), b"/"].concat(), levels);
        Self { homes: homes.into_iter().map(slashed).collect(), free: free.into_iter().collect() }
    }

    /// Whether this is one of the folders that hold units.
    pub fn has_home(&self, folder: &ObjectKey) -> bool {
        self.homes.contains_key(&[folder.as_bytes(), b"/"].concat())
    }

    /// The unit that holds this key, if readers are in it.
    pub fn unit(&self, key: &ObjectKey) -> Option<ObjectKey> {
        let bytes = key.as_bytes();
        let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
        let (home, levels) = slashes.filter_map(|end| self.homes.get_key_value(&bytes[..end])).next()?;
        let mut end = home.len() - 1;
        for segment in bytes[home.len()..].split(|byte| *byte == b'/').take(*levels) {
            end += segment.len() + 1;
        }
        let unit = (end < bytes.len()).then(|| ObjectKey::from(bytes[..end].to_vec()))?;
        (!self.free.contains(&unit)).then_some(unit)
    }
}

/// The folders that a key stands in, the innermost first, without the root.
pub fn folders_around(key: &ObjectKey) -> impl Iterator<Item = ObjectKey> {
    let bytes = key.as_bytes();
    let slashes = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| ObjectKey::from(bytes[..at].to_vec()))
}

/// What is wanted of a unit.
#[derive(Default)]
struct Wanted {
    replaces: bool,
    compares: bool,
    adds: bool,
}

impl Wanted {
    /// What of this action cannot be done now, if anything.
    fn holds(&self, action: &Action) -> Option<Reason> {
        match action.step {
            Step::Compare if self.replaces => Some(Reason::HeldCompare),
            Step::Copy | Step::Delete if self.replaces => Some(Reason::Held),
            // Whether the folder changes shows only when what may differ was compared.
            Step::Copy if self.compares => Some(Reason::Held),
            _ => None,
        }
    }
}

fn wants(action: &Action, live: &Live) -> Option<ObjectKey> {
    let works = matches!(action.step, Step::Copy | Step::Compare | Step::Delete) && action.kind != EntryKind::Folder;
    works.then(|| live.unit(&action.key)).flatten()
}

/// The plan without what must not be done in these folders now. What was held back counts as skipped; what the guards
/// look at stays as it was.
pub fn hold(plan: Plan, live: &Live, rewrite: impl FnOnce() -> Result<(PlanWriter, File)>) -> Result<Plan> {
    let mut units: BTreeMap<ObjectKey, Wanted> = BTreeMap::new();
    for action in plan.actions()? {
        let action = action?;
        let Some(unit) = wants(&action, live) else { continue };
        let wanted = units.entry(unit).or_default();
        match action.step {
            Step::Compare => wanted.compares = true,
            Step::Copy if action.target.is_none() => wanted.adds = true,
            _ => wanted.replaces = true,
        }
    }
    units.retain(|_, wanted| wanted.replaces || (wanted.compares && wanted.adds));
    if units.is_empty() {
        return Ok(plan);
    }
    let (mut writer, file) = rewrite()?;
    let mut header = plan.header.clone();
    for action in plan.actions()? {
        let mut action = action?;
        let held = wants(&action, live).and_then(|unit| units.get(&unit)?.holds(&action));
        if let Some(reason) = held {
            count_out(&mut header.totals, &action);
            (action.step, action.reason, action.donor) = (Step::Skip, reason, None);
        }
        writer.push(&action)?;
    }
    writer.finish(header)?;
    Plan::from_unnamed(file)
}

/// Counts an action that was planned as one that is left.
pub(crate) fn count_out(totals: &mut PlanTotals, action: &Action) {
    match action.step {
        Step::Copy => {
            totals.copies -= 1;
            totals.copy_bytes -= action.size_bytes();
            let over = u64::from(action.target.is_some());
            totals.overwrites -= over;
            totals.held_overwrites += over;
            totals.server_side -= u64::from(action.donor.is_some());
        }
        Step::Compare => {
            totals.compares -= 1;
            totals.compare_bytes -= action.size_bytes();
        }
        _ => {
            totals.deletes -= 1;
            totals.held_deletes += 1;
        }
    }
    totals.skipped += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(homes: &[(&str, usize)], free: &[&str]) -> Live {
        Live::new(
            homes.iter().map(|(home, levels)| (ObjectKey::from(*home), *levels)),
            free.iter().map(|unit| ObjectKey::from(*unit)),
        )
    }

    #[test]
    fn a_file_belongs_to_the_unit_around_it_unless_that_is_free() {
        let live = live(&[("db/t", 0), ("db/p", 2), ("db/p/odd", 0), ("db/f", 0)], &["db/f", "db/p/y=2/m=1"]);
        for (key, unit) in [
            ("db/t/a", Some("db/t")),
            ("db/t/sub/a", Some("db/t")),
            ("db/t", None),
            ("db/t2/a", None),
            ("db/p/y=1/m=1/a", Some("db/p/y=1/m=1")),
            ("db/p/y=1/m=1/sub/a", Some("db/p/y=1/m=1")),
            ("db/p/y=2/m=1/a", None),
            ("db/p/y=1/a", None),
            ("db/p/_SUCCESS", None),
            ("db/p/odd/a", Some("db/p/odd")),
            ("db/f/a", None),
        ] {
            let found = live.unit(&ObjectKey::from(key)).map(|unit| unit.to_string());
            assert_eq!(found.as_deref(), unit, "{key}");
        }
    }
}
