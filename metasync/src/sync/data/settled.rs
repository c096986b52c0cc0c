//! Which folders of a tree the last commit left whole: only of these somebody else can have removed files (rule 20). Pure.

use crate::roots::{Owner, Root};
use crate::sync::survey::{DatabaseWork, Survey, TableWork};
use manifest::ObjectKey;
use std::collections::BTreeSet;

/// Folders of a tree, relative to its root.
pub(super) struct Settled(BTreeSet<ObjectKey>);

impl Settled {
    /// The folders of tables and functions that the last commit left in step, and that stand where they stood.
    pub(super) fn of(root: &Root, survey: &Survey) -> Self {
        let is_settled = |folder: &ObjectKey, owner: &Owner| match owner {
            Owner::Table(at) => survey.tables.get(*at).is_some_and(|table| {
                let home =
                    table.location.as_ref().is_some_and(|home| home.is_same(&root.from.below(&folder.escaped())));
                // Which partition has a folder elsewhere, and since when, nobody says here.
                is_settled(table) && (home || table.put.is_empty())
            }),
            Owner::Database(at) => survey.databases.get(*at).is_some_and(are_settled),
            Owner::Removal => false,
        };
        let folders = root.folders.iter();
        let folders = folders.filter(|(folder, owners)| owners.iter().all(|owner| is_settled(folder, owner)));
        Self(folders.map(|(folder, _)| folder.clone()).collect())
    }

    /// Whether the innermost folder around this key is one of them.
    pub(super) fn hold(&self, root: &Root, key: &ObjectKey) -> bool {
        root.around(key).next().is_some_and(|(folder, _)| self.0.contains(folder))
    }
}

fn is_settled(table: &TableWork) -> bool {
    table.settled && !table.is_new && table.quarantine.is_none()
}

/// Functions share the folders of their files, and nobody says which is whose.
fn are_settled(database: &DatabaseWork) -> bool {
    database.settled && database.functions.is_empty()
}
