//! Objects of the target that are not as the last run left them, by what a plan says of them (rule 20). Pure.

use distcp::plan::{Action, Step};
use manifest::{EntryKind, ObjectKey};

/// How many objects of others a message shows.
const FOREIGN_SHOWN: usize = 10;

/// Objects that somebody else wrote, or removed (rule 20).
#[derive(Default)]
pub struct Foreign {
    /// The first, by key.
    pub first: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl Foreign {
    /// Adds one.
    pub(super) fn add(&mut self, key: &ObjectKey) {
        self.count += 1;
        if self.first.len() < FOREIGN_SHOWN {
            self.first.push(key.escaped().into_owned());
        }
    }
}

/// Whether somebody else wrote what the target holds: the last manifest does not know it, or knows another version. Before
/// the first manifest nobody knows whose it is: what has the source's key and size may be what an earlier replica left, any
/// other file is not.
pub(super) fn is_foreign(action: &Action, has_base: bool) -> bool {
    let Some(target) = action.target.as_ref().filter(|_| action.kind != EntryKind::Folder) else { return false };
    match (action.step, &action.entry) {
        (Step::Delete, None) => true,
        (Step::Copy, None) => {
            has_base || action.source.as_ref().is_none_or(|source| source.size_bytes != target.size_bytes)
        }
        (Step::Delete | Step::Copy | Step::Compare, Some(_)) => action.is_touched(),
        _ => false,
    }
}

/// Whether somebody else removed what the last manifest says that the target holds. What both sides lost is no loss.
pub(super) fn is_gone(action: &Action, has_base: bool) -> bool {
    let was_file = action.entry.as_ref().is_some_and(|entry| entry.kind != EntryKind::Folder);
    let is_file = action.kind != EntryKind::Folder;
    has_base && was_file && is_file && action.step == Step::Copy && action.target.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use distcp::plan::Reason;
    use manifest::{Attributes, Entry, Evidence, Fingerprint};

    #[test]
    fn rule_20_gone_is_what_the_manifest_knows_and_only_the_source_has() {
        let row = |kind| Entry {
            key: "t/f".into(),
            kind,
            hash: None,
            evidence: Evidence::None,
            chunks: None,
            fingerprint: Fingerprint::default(),
            source: None,
            attributes: Attributes::default(),
        };
        let action = |step, target: bool, kind, entry| Action {
            key: "t/f".into(),
            step,
            reason: Reason::New,
            kind,
            source: Some(Fingerprint::default()),
            target: target.then(Fingerprint::default),
            entry,
            donor: None,
        };
        let (object, folder) = (EntryKind::Object, EntryKind::Folder);
        let known = || Some(row(object));
        assert!(is_gone(&action(Step::Copy, false, object, known()), true));
        for (what, action, has_base) in [
            ("before the first manifest", action(Step::Copy, false, object, known()), false),
            ("new", action(Step::Copy, false, object, None), true),
            ("there", action(Step::Copy, true, object, known()), true),
            ("gone from both sides", action(Step::Forget, false, object, known()), true),
            ("left out", action(Step::Skip, false, object, known()), true),
            ("a folder", action(Step::Copy, false, folder, known()), true),
            ("was a folder", action(Step::Copy, false, object, Some(row(folder))), true),
        ] {
            assert!(!is_gone(&action, has_base), "{what}");
        }
    }
}
