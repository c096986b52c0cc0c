//! Objects of the target that are not as the last run left them, by what a plan says of them (rule 20). Pure.

use distcp::plan::{Action, Step};
use manifest::{EntryKind, ObjectKey};

/// How many objects of others a message shows.
const FOREIGN_SHOWN: usize = 10;

/// Objects that somebody else wrote (rule 20).
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
        (Step::Delete | Step::Copy | Step::Compare, Some(entry)) => {
            let left = &entry.fingerprint;
            let other = |a: Option<&String>, b: Option<&String>| a.is_some() && b.is_some() && a != b;
            let touched = match (&left.etag, &target.etag) {
                (Some(_), Some(_)) => other(left.etag.as_ref(), target.etag.as_ref()),
                _ => left.mtime_ns.is_some() && target.mtime_ns.is_some() && left.mtime_ns != target.mtime_ns,
            };
            left.size_bytes != target.size_bytes || touched
        }
        _ => false,
    }
}
