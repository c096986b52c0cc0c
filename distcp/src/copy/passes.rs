//! The passes over a plan, and the actions of each, read ahead of whoever does them.
//!
//! Decides nothing about an object; a plan that cannot be read is an error in the stream. A crash leaves nothing.

use std::sync::Arc;

use manifest::EntryKind;
use tokio::sync::mpsc;

use crate::layout::{self, Layout, Stage};
use crate::plan::file::Plan;
use crate::plan::{Action, Step};

/// Actions read ahead of the tasks.
const ACTIONS_AHEAD: usize = 1024;

/// The passes over a plan, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Copies from donors, before any key is overwritten; everything that needs no work.
    Donors,
    /// All other copies and comparisons of a stage, in a tree of this layout.
    Copies(Stage, Layout),
    /// Deletes of objects of a stage, last but for the folders.
    Deletes(Stage, Layout),
    /// Empty folders that go. With one the folders above it go that hold nothing else.
    FoldersGone,
    /// Empty folders that are made: after all that may take them away again.
    FoldersMade,
}

impl Pass {
    /// The passes that bring something, in a tree of this layout.
    pub(super) fn bringing(layout: Layout) -> impl Iterator<Item = Pass> {
        let later = layout::LATER.into_iter().filter(move |_| !layout.is_plain());
        let stages = [Stage::Files].into_iter().chain(later);
        [Pass::Donors].into_iter().chain(stages.map(move |stage| Pass::Copies(stage, layout)))
    }

    /// The passes that remove objects: what names others goes before them.
    pub(super) fn removing(layout: Layout) -> impl Iterator<Item = Pass> {
        let later = layout::LATER.into_iter().rev().filter(move |_| !layout.is_plain());
        later.chain([Stage::Files]).map(move |stage| Pass::Deletes(stage, layout))
    }

    /// The stage of what it brings.
    pub(super) fn stage(self) -> Stage {
        match self {
            Pass::Copies(stage, _) => stage,
            _ => Stage::Files,
        }
    }

    pub(super) fn takes(self, action: &Action) -> bool {
        match (action.step, self) {
            (Step::Copy | Step::Compare, Pass::Donors) => action.donor.is_some(),
            (Step::Copy | Step::Compare, Pass::Copies(stage, layout)) => {
                action.donor.is_none() && action.kind != EntryKind::Folder && stage_of(action, layout) == stage
            }
            (Step::Copy | Step::Compare, Pass::FoldersMade) => {
                action.donor.is_none() && action.kind == EntryKind::Folder
            }
            (Step::Copy | Step::Compare, Pass::Deletes(..) | Pass::FoldersGone) => false,
            (Step::Delete, pass) if action.kind == EntryKind::Folder => pass == Pass::FoldersGone,
            (Step::Delete, Pass::Deletes(stage, layout)) => layout.stage(&action.key) == stage,
            (Step::Delete, _) => false,
            (_, pass) => pass == Pass::Donors,
        }
    }
}

/// When an action is done. A commit that is only compared writes nothing, and what it finds has to be known before others write.
fn stage_of(action: &Action, layout: Layout) -> Stage {
    match layout.stage(&action.key) {
        Stage::Commits if action.step == Step::Compare => Stage::Files,
        stage => stage,
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
