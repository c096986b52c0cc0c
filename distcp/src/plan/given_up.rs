//! What may go of folders that nobody speaks for any more, such as those of dropped tables (rule 28).
//!
//! Pure. A run puts on record which version of which object it is about to delete there, before anybody changes what names the
//! folder. The next run finishes what a crash left of that: by then others may have written there, and what they wrote is theirs.

use std::collections::BTreeSet;
use std::iter::Peekable;

use manifest::{Entry, EntryKind, ObjectKey, Result};

use super::live::folders_around;
use super::{Action, Step};
use crate::list::within::Within;

/// What the journals of unfinished runs say of such folders.
pub struct GivenUp<I: Iterator> {
    folders: BTreeSet<ObjectKey>,
    to_delete: Peekable<I>,
}

impl<I: Iterator<Item = Result<Entry>>> GivenUp<I> {
    /// Of `folders` all that was to be deleted is on record; `to_delete` is that, one version a key, in key order.
    pub fn new(folders: BTreeSet<ObjectKey>, to_delete: I) -> Self {
        Self { folders, to_delete: to_delete.peekable() }
    }

    /// Whether somebody else wrote the object that the action would delete. To be asked of all actions of a plan, in key order.
    ///
    /// # Errors
    /// Those of the rows.
    pub fn spares(&mut self, action: &Action, within: &Within) -> Result<bool> {
        let recorded = self.recorded(&action.key)?;
        let Some(target) = &action.target else { return Ok(false) };
        if action.step != Step::Delete || action.kind == EntryKind::Folder || !within.gives_up(&action.key) {
            return Ok(false);
        }
        let is_ours = action.entry.is_some() && !action.is_touched();
        if is_ours || recorded.is_some_and(|row| row.fingerprint.looks_like(target)) {
            return Ok(false);
        }
        // The first run that gives the folder up takes all of it, but for what others changed since the last manifest, unless it was
        // left some time ago.
        let is_on_record =
            || folders_around(&action.key).chain([ObjectKey::default()]).any(|key| self.folders.contains(&key));
        let is_first = !within.is_late(&action.key) && !is_on_record();
        Ok(!is_first || (action.entry.is_some() && !within.is_unsure(&action.key)))
    }

    fn recorded(&mut self, key: &ObjectKey) -> Result<Option<Entry>> {
        let before = |row: &Result<Entry>| row.as_ref().map_or(true, |row| row.key < *key);
        while let Some(row) = self.to_delete.next_if(before) {
            row?;
        }
        self.to_delete.next_if(|row| row.as_ref().is_ok_and(|row| row.key == *key)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Reason;
    use manifest::{Attributes, Evidence, Fingerprint};

    fn version(number: i64) -> Fingerprint {
        Fingerprint { size_bytes: 4, mtime_ns: Some(number), ..Fingerprint::default() }
    }

    fn row(key: &str, number: i64) -> Entry {
        Entry {
            key: ObjectKey::from(key),
            kind: EntryKind::Object,
            hash: None,
            evidence: Evidence::None,
            chunks: None,
            fingerprint: version(number),
            source: None,
            attributes: Attributes::default(),
        }
    }

    fn delete(key: &str, target: i64, known: Option<i64>) -> Action {
        Action {
            key: ObjectKey::from(key),
            step: Step::Delete,
            reason: Reason::Extra,
            kind: EntryKind::Object,
            source: None,
            target: Some(version(target)),
            entry: known.map(|known| row(key, known)),
            donor: None,
        }
    }

    /// Of objects of these versions, each with the version that the manifest knows, those that stay.
    fn spared(
        folders: &[&str],
        recorded: &[(&str, i64)],
        there: &[(&str, i64, Option<i64>)],
        unsure: bool,
    ) -> Vec<String> {
        let keys = |keys: &[&str]| keys.iter().map(|key| ObjectKey::from(*key)).collect::<Vec<_>>();
        let within = Within::new(keys(&[""])).emptied(keys(&["t"])).unsure(keys(if unsure { &["t"] } else { &[] }));
        let rows = recorded.iter().map(|(key, number)| Ok(row(key, *number)));
        let mut given_up = GivenUp::new(keys(folders).into_iter().collect(), rows);
        let spares = |(key, target, known): &(&str, i64, Option<i64>)| {
            given_up.spares(&delete(key, *target, *known), &within).unwrap().then(|| (*key).to_owned())
        };
        there.iter().filter_map(spares).collect()
    }

    #[test]
    fn rule_28_the_first_run_takes_all_but_what_others_changed() {
        let there = [("t/a", 1, Some(1)), ("t/b", 2, Some(1)), ("t/c", 3, None), ("u/a", 2, Some(1))];
        assert_eq!(spared(&[], &[], &there, false), ["t/b"]);
        // A run that died may have written it.
        assert_eq!(spared(&[], &[], &there, true), [] as [&str; 0]);
    }

    #[test]
    fn rule_28_of_a_folder_that_was_left_some_time_ago_only_what_is_ours_goes() {
        let folder = || [ObjectKey::from("t")];
        let within = Within::new([ObjectKey::default()]).emptied(folder()).late(folder()).unsure(folder());
        let mut given_up = GivenUp::new(BTreeSet::new(), [Ok(row("t/d", 4))].into_iter());
        let there = [("t/a", 1, Some(1)), ("t/b", 2, Some(1)), ("t/c", 3, None), ("t/d", 4, None), ("u/a", 2, None)];
        let spares = |(key, target, known): (&'static str, i64, Option<i64>)| {
            given_up.spares(&delete(key, target, known), &within).unwrap().then_some(key)
        };
        assert_eq!(there.into_iter().filter_map(spares).collect::<Vec<_>>(), ["t/b", "t/c"]);
    }

    #[test]
    fn rule_28_the_next_run_takes_what_is_on_record_and_what_is_known_to_be_ours() {
        let recorded = [("a", 1), ("t/b", 1), ("t/d", 4), ("t/e", 5), ("t/z", 9)];
        let there = [
            ("t/a", 1, Some(1)),
            ("t/b", 1, None),
            ("t/c", 3, None),
            ("t/d", 5, None),
            ("t/e", 5, Some(4)),
            ("t/f", 2, Some(1)),
            ("u/a", 2, None),
        ];
        for unsure in [false, true] {
            assert_eq!(spared(&["t"], &recorded, &there, unsure), ["t/c", "t/d", "t/f"]);
        }
        // It died while it put them on record: nothing that names the folder has changed.
        assert_eq!(spared(&[], &recorded, &there, true), [] as [&str; 0]);
        assert_eq!(spared(&["x"], &recorded, &there, false), ["t/f"]);
    }
}
