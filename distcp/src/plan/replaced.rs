//! Files that go where others come: an engine that overwrites a folder gives its files new names (rule 27). Pure.

use super::{Action, EntryKind, Step};
use manifest::ObjectKey;

/// Counts folder by folder, of actions in the order of their keys, what goes and is replaced by something new beside it. Holds one
/// entry for each folder around the last key.
#[derive(Debug, Default)]
pub struct Replaced {
    /// From the outermost on.
    open: Vec<Folder>,
    count: u64,
}

#[derive(Debug)]
struct Folder {
    /// With the slash; empty for the root.
    prefix: Vec<u8>,
    goes: u64,
    comes: u64,
}

impl Replaced {
    /// Takes the next action.
    pub fn take(&mut self, action: &Action) {
        if action.kind == EntryKind::Folder {
            return;
        }
        match action.step {
            Step::Delete => self.folder(&action.key).goes += 1,
            Step::Copy if action.target.is_none() => self.folder(&action.key).comes += 1,
            _ => {}
        }
    }

    /// How many there were.
    pub fn end(mut self) -> u64 {
        while self.close() {}
        self.count
    }

    fn close(&mut self) -> bool {
        let Some(Folder { goes, comes, .. }) = self.open.pop() else { return false };
        self.count += goes.min(comes);
        true
    }

    /// All keys below a folder follow each other.
    fn folder(&mut self, key: &ObjectKey) -> &mut Folder {
        let key = key.as_bytes();
        let prefix = key.get(..key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)).unwrap_or_default();
        while self.open.last().is_some_and(|folder| !prefix.starts_with(&folder.prefix)) {
            self.close();
        }
        if self.open.last().is_none_or(|folder| folder.prefix != prefix) {
            self.open.push(Folder { prefix: prefix.to_vec(), goes: 0, comes: 0 });
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Reason;
    use manifest::Fingerprint;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn action(key: &str, step: Step, there: bool) -> Action {
        let some = |is: bool| is.then(|| Fingerprint { size_bytes: 1, ..Fingerprint::default() });
        Action {
            key: ObjectKey::from(key.as_bytes().to_vec()),
            step,
            reason: Reason::New,
            kind: EntryKind::Object,
            source: some(step != Step::Delete),
            target: some(there),
            entry: None,
            donor: None,
        }
    }

    fn counted(actions: &[Action]) -> u64 {
        let mut replaced = Replaced::default();
        actions.iter().for_each(|action| replaced.take(action));
        replaced.end()
    }

    #[test]
    fn rule_27_what_goes_is_replaced_by_what_comes_into_the_same_folder() {
        let (goes, comes) = (|key| action(key, Step::Delete, true), |key| action(key, Step::Copy, false));
        for (actions, count) in [
            (vec![goes("t/d=1/a"), comes("t/d=1/b")], 1),
            (vec![goes("t/d=1/a"), goes("t/d=1/b"), comes("t/d=1/c")], 1),
            (vec![goes("t/d=1/a"), comes("t/d=2/a")], 0),
            (vec![goes("t/a"), comes("t/d/x"), goes("t/d/y"), comes("t/e")], 2),
            (vec![goes("a"), comes("b/c"), comes("d")], 1),
            (vec![goes("t/a"), action("t/b", Step::Copy, true)], 0),
            (vec![], 0),
        ] {
            assert_eq!(counted(&actions), count, "{actions:?}");
        }
        let folder = Action { kind: EntryKind::Folder, ..comes("t/d") };
        assert_eq!(counted(&[goes("t/a"), folder]), 0, "a folder is no file");
    }

    proptest! {
        #[test]
        fn it_counts_as_if_all_folders_were_held_at_once(
            steps in prop::collection::btree_map("[ab]{1,2}(/[ab-]{1,2}){0,3}", 0u8..3, 0..40),
        ) {
            let mut folders: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
            let mut actions = Vec::new();
            for (key, step) in &steps {
                let folder = folders.entry(key.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default();
                actions.push(match step {
                    0 => {
                        folder.0 += 1;
                        action(key, Step::Delete, true)
                    }
                    1 => {
                        folder.1 += 1;
                        action(key, Step::Copy, false)
                    }
                    _ => action(key, Step::Copy, true),
                });
            }
            prop_assert_eq!(counted(&actions), folders.values().map(|(goes, comes)| goes.min(comes)).sum::<u64>());
        }
    }
}
