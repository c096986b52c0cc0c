//! The order in which the files of tables arrive ([`crate::layout`]), while a plan is carried out.
//!
//! Where something of a table did not arrive, or changed after it was planned, nothing of the table that names others is
//! carried in this run, and nothing of it is deleted: the target keeps the version that it has. A crash between two files of a
//! log leaves the version of the first one.

use std::collections::BTreeSet;
use std::sync::Arc;

use manifest::ObjectKey;
use tokio::sync::oneshot;

use super::Copier;
use super::settle::{End, Settled};
use crate::error::Failure;
use crate::layout::pin::{OldHints, around, is_in, is_ordered, naming};
use crate::layout::{Layout, Part, Role, Stage};
use crate::plan::file::Plan;
use crate::plan::{Action, Step};

/// The word for what is left to the next run.
pub(super) const BROKEN: &str = "waits: a file of its table did not arrive; the copy keeps its last version";
/// The same, of what would be deleted.
pub(super) const KEPT: &str = "kept: its table is not up to date yet, and readers of the copy may need it";
/// The word for what is another version since it was listed.
pub(super) const REWRITTEN: &str = "written over since it was listed: left to the next run";

/// Tables of a plan, and how they fare.
#[derive(Default)]
pub(super) struct Tables {
    layout: Layout,
    /// Those of which something is carried.
    all: BTreeSet<ObjectKey>,
    broken: BTreeSet<ObjectKey>,
    /// Those of which a hint did not arrive.
    hints: OldHints,
    /// The last commit that was started: its table, and whether it arrived.
    tail: Option<(ObjectKey, oneshot::Receiver<bool>)>,
}

impl Tables {
    /// The tables of which the plan carries something.
    pub(super) async fn of(plan: &Arc<Plan>) -> Result<Self, Failure> {
        let layout = plan.header.options.layout;
        if plan.header.totals.ordered == 0 {
            return Ok(Self::default());
        }
        let plan = plan.clone();
        let read = move || -> manifest::Result<Self> {
            let mut tables = Self { layout, ..Self::default() };
            for action in plan.actions()? {
                let action = action?;
                if let Some(part) = layout.part(&action.key).filter(|_| is_ordered(&action, layout)) {
                    tables.hints.take(&action, layout);
                    tables.all.insert(part.table);
                }
            }
            Ok(tables)
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }

    /// The layout by which the plan is carried out: plain where it has nothing of tables.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The key did not arrive as it was planned.
    pub(super) fn breaks(&mut self, key: &ObjectKey) {
        if let Some(Part { table, role: Role::Hint, .. }) = self.layout.part(key) {
            self.hints.stay(table);
            return;
        }
        let tables = around(key).filter(|folder| self.all.contains(folder));
        self.broken.extend(tables);
    }

    /// The tables that keep the version that they have.
    pub(super) fn behind(&self) -> impl ExactSizeIterator<Item = &ObjectKey> {
        self.broken.iter()
    }

    /// The key went from the source before it was read.
    pub(super) fn vanished(&mut self, key: &ObjectKey) {
        match self.layout.part(key) {
            Some(_) => self.breaks(key),
            None => self.broken.extend(naming(&self.all, key)),
        }
    }

    /// Whether the key is in a table of which something did not arrive.
    pub(super) fn is_broken(&self, key: &ObjectKey) -> bool {
        is_in(&self.broken, key)
    }

    /// Whether what would be deleted stays.
    pub(super) fn keeps(&self, key: &ObjectKey) -> bool {
        self.is_broken(key) || self.hints.keep(key, self.layout)
    }

    /// The work on an action of this stage: a commit waits for the one before it.
    pub(super) fn settle(
        &mut self,
        copier: Arc<Copier>,
        action: Action,
        stage: Stage,
    ) -> impl Future<Output = Settled> + Send + 'static {
        let is_written = action.step == Step::Copy;
        let part = (stage == Stage::Commits && is_written).then(|| self.layout.part(&action.key)).flatten();
        let commit = part.filter(|part| matches!(part.role, Role::Commit(_))).map(|Part { table, .. }| table);
        let (arrived, next) = oneshot::channel();
        let before = match commit {
            Some(table) => {
                let before = self.tail.replace((table.clone(), next));
                before.filter(|(of, _)| *of == table).map(|(_, arrived)| arrived)
            }
            None => None,
        };
        async move {
            // A commit that was cut off tells nothing.
            if let Some(before) = before
                && before.await != Ok(true)
            {
                return Settled { action, end: End::After };
            }
            let settled = copier.settle(action, stage).await;
            // Nobody may wait for it.
            let _ = arrived.send(settled.end.is_there());
            settled
        }
    }
}
