//! The passes over a plan, and the actions of each, read ahead of whoever does them.
//!
//! Decides nothing about an object; a plan that cannot be read is an error in the stream. A crash leaves nothing.

use std::sync::Arc;

use manifest::EntryKind;
use tokio::sync::mpsc;

use crate::plan::file::Plan;
use crate::plan::{Action, Step};

/// Actions read ahead of the tasks.
const ACTIONS_AHEAD: usize = 1024;

/// The passes over a plan, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Copies from donors, before any key is overwritten; everything that needs no work.
    Donors,
    /// All other copies and comparisons.
    Copies,
    /// Deletes of objects, last but for the folders.
    Deletes,
    /// Empty folders that go. With one the folders above it go that hold nothing else.
    FoldersGone,
    /// Empty folders that are made: after all that may take them away again.
    FoldersMade,
}

impl Pass {
    pub(super) fn takes(self, action: &Action) -> bool {
        match (action.step, self) {
            (Step::Copy | Step::Compare, Pass::Donors) => action.donor.is_some(),
            (Step::Copy | Step::Compare, Pass::Copies) => action.donor.is_none() && action.kind != EntryKind::Folder,
            (Step::Copy | Step::Compare, Pass::FoldersMade) => {
                action.donor.is_none() && action.kind == EntryKind::Folder
            }
            (Step::Copy | Step::Compare, Pass::Deletes | Pass::FoldersGone) => false,
            (Step::Delete, pass) if action.kind == EntryKind::Folder => pass == Pass::FoldersGone,
            (Step::Delete, pass) => pass == Pass::Deletes,
            (_, pass) => pass == Pass::Donors,
        }
    }
}

/// The actions of one pass, read on a blocking thread, over a bounded channel.
pub(super) fn stream(plan: Arc<Plan>, pass: Pass) -> mpsc::Receiver<manifest::Result<Action>> {
    let (sender, receiver) = mpsc::channel(ACTIONS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let actions = match plan.actions() {
            Ok(actions) => actions,
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        for action in actions {
            let wanted = action.as_ref().map_or(true, |action| pass.takes(action));
            if wanted && sender.blocking_send(action).is_err() {
                return;
            }
        }
    });
    receiver
}
