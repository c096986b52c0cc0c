//! Files of transactional tables while they are planned and copied: none may change, and none may be missing when readers are told
//! of it. Pure.

use super::delta::Forks;
use crate::roots::{Owner, Root};
use distcp::event::{Event, Outcome};
use distcp::plan::{Action, Step};
use manifest::{EntryKind, ObjectKey};

/// What distcp says of an object that was listed and is gone; a cleaner may have removed it.
const VANISHED: &str = "vanished from the source";

/// An object of a transactional table that was to be copied and is gone, with what that means.
pub(super) fn vanished<'a>(event: &'a Event, root: &Root) -> Option<(&'a ObjectKey, String)> {
    let Event::Object(report) = event else { return None };
    let is_gone = report.outcome == Outcome::Skipped && report.reason.ends_with(VANISHED);
    (is_gone && root.narrowed.holds(&report.key)).then(|| {
        let why = format!(
            "{}: it {VANISHED} while it was copied, as after a compaction; the next run looks again",
            report.key.escaped()
        );
        (&report.key, why)
    })
}

/// Takes an action of a plan: a file of a transactional table that would become another one.
pub(super) fn take(action: &Action, is_foreign: bool, root: &Root, replaced: &mut Forks) {
    let becomes_another = action.step == Step::Copy && action.source.is_some() && action.target.is_some();
    if !becomes_another || is_foreign || action.kind == EntryKind::Folder || !root.narrowed.holds(&action.key) {
        return;
    }
    for owner in root.owners(&action.key) {
        if let Owner::Table(at) = owner {
            replaced.entry(at).or_insert_with(|| root.to.below(&action.key.escaped()).to_string());
        }
    }
}
