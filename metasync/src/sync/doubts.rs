//! Objects of the target that a verification found wrong: a run that gets them takes nothing that is known of them for
//! granted. Plain data, bounded.

use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many objects are remembered; beyond that all objects of their trees are doubted.
pub const MAX_DOUBTS: usize = 100_000;

/// Doubted objects, by tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    keys: BTreeMap<String, BTreeSet<ObjectKey>>,
    whole: BTreeSet<String>,
    count: usize,
}

impl Doubts {
    /// Doubts an object of a tree.
    pub fn add(&mut self, tree: &str, key: &ObjectKey) {
        if self.whole.contains(tree) || self.keys.get(tree).is_some_and(|keys| keys.contains(key)) {
            return;
        }
        if self.count < MAX_DOUBTS {
            self.count += usize::from(self.keys.entry(tree.to_owned()).or_default().insert(key.clone()));
            return;
        }
        self.count -= self.keys.remove(tree).map_or(0, |keys| keys.len());
        self.whole.insert(tree.to_owned());
    }

    /// The doubted objects of a tree.
    pub fn of(&self, tree: &str) -> Arc<BTreeSet<ObjectKey>> {
        Arc::new(self.keys.get(tree).cloned().unwrap_or_default())
    }

    /// Whether all objects of a tree are doubted.
    pub fn is_whole(&self, tree: &str) -> bool {
        self.whole.contains(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_a_tree_is_doubted_as_a_whole() {
        let mut doubts = Doubts::default();
        let key = |at: usize| ObjectKey::from(format!("{at}").as_str());
        (0..MAX_DOUBTS - 1).for_each(|at| doubts.add("a", &key(at)));
        doubts.add("b", &key(0));
        doubts.add("b", &key(0));
        assert_eq!((doubts.of("a").len(), doubts.of("b").len()), (MAX_DOUBTS - 1, 1));
        doubts.add("a", &key(MAX_DOUBTS));
        assert_eq!((doubts.is_whole("a"), doubts.of("a").len(), doubts.is_whole("b")), (true, 0, false));
        doubts.add("a", &key(MAX_DOUBTS + 1));
        doubts.add("b", &key(1));
        assert_eq!((doubts.of("a").len(), doubts.of("b").len()), (0, 2), "and there is room again");
    }
}
