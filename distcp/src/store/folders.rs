//! Folders of a tree in which something is looked for. Pure.

use manifest::ObjectKey;
use std::collections::BTreeSet;

use crate::list::cover::Cover;

/// Folders, as keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// Without those in them.
    pub alone: BTreeSet<ObjectKey>,
    /// With all that is in them.
    pub whole: BTreeSet<ObjectKey>,
}

impl Folders {
    /// Whether this folder is one of them, or in one that is meant with all that is in it.
    pub fn contains(&self, folder: &ObjectKey) -> bool {
        self.alone.contains(folder) || self.whole.iter().any(|whole| folder.is_within(whole))
    }

    /// What a listing that looks in all of them need not come by; `None` where it needs the whole tree.
    pub fn cover(&self) -> Option<Cover> {
        Cover::new(self.alone.iter().chain(&self.whole).cloned())
    }

    /// The same folders by other names.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(&ObjectKey) -> ObjectKey) -> Self {
        Self { alone: self.alone.iter().map(&name).collect(), whole: self.whole.iter().map(&name).collect() }
    }
}
