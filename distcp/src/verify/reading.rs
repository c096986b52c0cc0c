//! Which objects are read on both sides whatever the level says: a slice of all keys, as many as a budget allows, or keys
//! by name. Pure.
//!
//! A slice is a matter of the key alone: the same key is in the same slice in every run, and all slices together hold every
//! key once. A budget ends a part between two keys; the next part goes on after the last one that was covered.

use manifest::ObjectKey;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One of several shares of all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Which, from 0.
    pub number: u32,
    /// How many there are; one holds everything.
    pub of: u32,
}

impl Slice {
    /// Whether the key is in it.
    pub fn takes(self, key: &ObjectKey) -> bool {
        let digest = blake3::hash(key.as_bytes());
        let first = digest.as_bytes().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        self.of < 2 || first % u64::from(self.of) == u64::from(self.number)
    }
}

/// A part of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of these keys.
    pub slice: Slice,
    /// Only those after this one.
    pub after: Option<ObjectKey>,
    /// Bytes to read, both sides together; `None`: no end. One object is read even if it is larger.
    pub budget_bytes: Option<u64>,
    /// Bytes that the run has read of other trees.
    pub spent_bytes: u64,
}

/// What is read beyond what the level asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reading {
    /// Nothing.
    #[default]
    ByLevel,
    /// A part of the tree.
    Part(Part),
    /// These.
    Keys(Arc<BTreeSet<ObjectKey>>),
}

/// How far a part was covered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Covered {
    /// Objects that were read on both sides.
    pub objects: u64,
    /// Their bytes, of both sides.
    pub bytes: u64,
    /// The last key that was covered.
    pub last: Option<ObjectKey>,
    /// The budget ended before the part.
    pub is_cut: bool,
}

/// Decides key by key, in their order.
#[derive(Debug)]
pub(super) struct Reader {
    reading: Reading,
    covered: Covered,
}

impl Reader {
    pub fn new(reading: Reading) -> Self {
        Self { reading, covered: Covered::default() }
    }

    /// Whether anything is to be read at all.
    pub fn is_asked(&self) -> bool {
        self.reading != Reading::ByLevel && !self.covered.is_cut
    }

    /// Whether the next pair of objects, of so many bytes together, is read.
    pub fn reads(&mut self, key: &ObjectKey, bytes: u64) -> bool {
        let part = match &self.reading {
            Reading::ByLevel => return false,
            Reading::Keys(keys) => return keys.contains(key),
            Reading::Part(part) => part,
        };
        let is_behind = part.after.as_ref().is_some_and(|after| key <= after);
        if is_behind || self.covered.is_cut || !part.slice.takes(key) {
            return false;
        }
        let spent = part.spent_bytes + self.covered.bytes;
        if part.budget_bytes.is_some_and(|budget| spent > 0 && spent.saturating_add(bytes) > budget) {
            self.covered.is_cut = true;
            return false;
        }
        self.covered.objects += 1;
        self.covered.bytes += bytes;
        self.covered.last = Some(key.clone());
        true
    }

    pub fn covered(self) -> Covered {
        self.covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<ObjectKey> {
        (0..count).map(|at| ObjectKey::from(format!("t/{at:05}").as_str())).collect()
    }

    fn part(slice: Slice, after: Option<ObjectKey>, budget_bytes: Option<u64>) -> Reader {
        Reader::new(Reading::Part(Part { slice, after, budget_bytes, spent_bytes: 0 }))
    }

    #[test]
    fn all_slices_together_hold_every_key_once_and_none_holds_much_more_than_its_share() {
        let all = keys(3000);
        for of in [1, 2, 3, 30] {
            let shares: Vec<usize> =
                (0..of).map(|number| all.iter().filter(|key| Slice { number, of }.takes(key)).count()).collect();
            assert_eq!(shares.iter().sum::<usize>(), all.len());
            assert!(shares.iter().all(|share| *share < 2 * all.len() / of as usize + 1), "{of}: {shares:?}");
        }
    }

    #[test]
    fn parts_one_after_another_cover_every_key_once_whatever_the_budget() {
        let all = keys(100);
        let whole = Slice { number: 0, of: 1 };
        for budget in [1, 9, 10, 25, 999, 1000, 5000] {
            let (mut after, mut read, mut runs) = (None, Vec::new(), 0);
            loop {
                let mut reader = part(whole, after.clone(), Some(budget));
                read.extend(all.iter().filter(|key| reader.reads(key, 10)).cloned());
                let covered = reader.covered();
                assert!(covered.bytes <= budget.max(10), "one is read even if it is larger");
                runs += 1;
                if !covered.is_cut {
                    break;
                }
                after = covered.last;
            }
            assert_eq!(read, all, "budget {budget}");
            assert_eq!(runs, 100_u64.div_ceil((budget / 10).max(1)), "budget {budget}");
        }
    }

    #[test]
    fn a_budget_that_other_trees_spent_leaves_this_one_for_the_next_run() {
        let spent = Part { slice: Slice { number: 0, of: 1 }, after: None, budget_bytes: Some(10), spent_bytes: 8 };
        let mut reader = Reader::new(Reading::Part(spent));
        assert!(reader.reads(&"a".into(), 2) && !reader.reads(&"b".into(), 1) && !reader.reads(&"c".into(), 0));
        assert_eq!(reader.covered(), Covered { objects: 1, bytes: 2, last: Some("a".into()), is_cut: true });
    }

    #[test]
    fn keys_by_name_are_read_and_no_others() {
        let mut reader = Reader::new(Reading::Keys(Arc::new(BTreeSet::from(["a".into()]))));
        assert!(reader.reads(&"a".into(), 1) && !reader.reads(&"b".into(), 1));
        assert!(!Reader::new(Reading::ByLevel).reads(&"a".into(), 1));
    }
}
