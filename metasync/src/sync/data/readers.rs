//! What the plan of a tree says of folders that readers are in, and what was left alone there (`publish = "switch"`).
//!
//! Decides nothing: which folders these are, and where they are made anew, [`crate::sync::switch`] says. A crash leaves at most
//! empty folders that no metadata names.

use super::{MAX_SHRUNK, Readers, Tree};
use crate::roots::Owner;
use crate::sync::survey::Survey;
use distcp::error::Result;
use distcp::plan::live::folders_around;
use distcp::plan::{Action, DIFFERS, HELD, Reason, Step};
use distcp::store::{Payload, PutOptions, StoreErrorKind};
use manifest::{EntryKind, ObjectKey};
use std::collections::BTreeSet;
use std::sync::PoisonError;

/// Whether an object was not touched because readers are in its folder.
pub(super) fn is_held(reason: &str) -> bool {
    reason == HELD || reason == DIFFERS
}

/// What would have been done, but for readers.
pub(super) fn meant(action: &Action) -> Step {
    match (action.step, action.reason) {
        (Step::Skip, Reason::Held) if action.source.is_none() => Step::Delete,
        (Step::Skip, Reason::Held) => Step::Copy,
        (Step::Skip, Reason::HeldCompare) => Step::Compare,
        (step, _) => step,
    }
}

impl Readers {
    /// Whether this object is in a unit that is made anew.
    pub(super) fn is_fresh(&self, key: &ObjectKey) -> bool {
        folders_around(key).any(|folder| self.fresh.contains(&folder))
    }

    /// Takes what an action of a plan says of the units of a tree.
    pub(super) fn take(&self, action: &Action, replaced: &mut BTreeSet<ObjectKey>) {
        if action.kind == EntryKind::Folder || replaced.len() >= MAX_SHRUNK {
            return;
        }
        let is_held = action.step == Step::Skip && matches!(action.reason, Reason::Held | Reason::HeldCompare);
        if action.step == Step::Delete && action.target.is_some() {
            replaced.extend(self.fresh.iter().find(|unit| action.key.is_within(unit)).cloned());
        }
        let Some(unit) = self.live.unit(&action.key) else { return };
        let may_differ = action.step == Step::Compare && self.begun.contains(&unit);
        if (is_held && action.target.is_some()) || may_differ {
            replaced.insert(unit);
        }
    }
}

impl Tree {
    /// Whether anything of it is made anew.
    pub fn has_fresh(&self) -> bool {
        self.readers.as_ref().is_some_and(|readers| !readers.fresh.is_empty())
    }

    /// Makes the folders of units that are made anew and hold no file, where there are folders: metadata is about to name
    /// them.
    pub async fn make_folders(&self) -> Result<()> {
        let store = &self.job.target.store;
        for unit in self.readers.iter().flat_map(|readers| &readers.fresh).filter(|_| store.capabilities().folders) {
            match store.head(unit).await {
                Ok(_) => {}
                Err(error) if error.kind == StoreErrorKind::NotFound => {
                    let options = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
                    store.put(unit, Payload::new(Vec::new().into()), &options).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether this object is in a unit that is made anew.
    pub fn is_fresh(&self, key: &ObjectKey) -> bool {
        self.readers.as_ref().is_some_and(|readers| readers.is_fresh(key))
    }

    /// Tables of which something was not touched because readers are in its folder.
    pub fn held(&self) -> BTreeSet<usize> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let table = |owner: &Owner| match owner {
            Owner::Table(at) => Some(*at),
            Owner::Database(_) | Owner::Removal => None,
        };
        told.held.iter().filter_map(table).collect()
    }

    /// Objects in folders of readers that were found to differ.
    pub fn differs(&self) -> BTreeSet<ObjectKey> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).differs.clone()
    }

    /// Tables of files that readers may be in and that are changed in place all the same.
    pub(super) fn bound(&self, readers: &Readers, survey: &Survey) -> BTreeSet<usize> {
        let mut bound = BTreeSet::new();
        for (folder, owners) in &self.root.folders {
            if readers.live.has_home(folder) {
                continue;
            }
            bound.extend(owners.iter().filter_map(|owner| {
                match owner {
                    Owner::Table(at) => Some(*at)
                        .filter(|at| survey.tables.get(*at).is_some_and(|table| table.plain && table.digest.is_some())),
                    Owner::Database(_) | Owner::Removal => None,
                }
            }));
        }
        bound
    }
}
