//! From the order in which a NameNode lists the names of a folder to the order of keys. Pure.
//!
//! A NameNode compares names as *signed* bytes: all that is not ASCII comes before ASCII. Keys are ordered by unsigned
//! bytes. Names with the same ASCII beginning stand together in both orders, so a name is held back just until the last
//! name that shares its ASCII beginning has passed: names in plain ASCII never wait. A server with the order of keys fits
//! too. Held names are bounded by [`MAX_HELD_NAMES`].

use std::collections::{BTreeMap, VecDeque};

/// How many names that are not ASCII one folder may hold back: what a folder holds at most unless its NameNode is told
/// otherwise (`dfs.namenode.fs-limits.max-directory-items`).
pub(super) const MAX_HELD_NAMES: usize = 1 << 20;

/// Puts names in the order of keys.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    ready: VecDeque<(String, T)>,
    held: BTreeMap<String, T>,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), held: BTreeMap::new() }
    }
}

impl<T> Reorder<T> {
    /// Takes the next name of the server; false if too many are held back.
    pub(super) fn push(&mut self, name: String, item: T) -> bool {
        while let Some(entry) = self.held.first_entry() {
            // The longest ASCII beginning is the smallest name: if it still goes on, all others do.
            if name.starts_with(ascii_beginning(entry.key())) {
                break;
            }
            self.ready.push_back(entry.remove_entry());
        }
        match name.is_ascii() {
            true => self.ready.push_back((name, item)),
            false => drop(self.held.insert(name, item)),
        }
        self.held.len() <= MAX_HELD_NAMES
    }

    /// There are no more names.
    pub(super) fn end(&mut self) {
        self.ready.extend(std::mem::take(&mut self.held));
    }

    /// The next in the order of keys, as far as it is known.
    pub(super) fn next(&mut self) -> Option<(String, T)> {
        self.ready.pop_front()
    }

    /// Whether no name is waiting here.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.held.is_empty()
    }
}

fn ascii_beginning(name: &str) -> &str {
    let end = name.bytes().position(|byte| !byte.is_ascii()).unwrap_or(name.len());
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reordered(names: &[String]) -> Vec<String> {
        let mut reorder = Reorder::default();
        let mut out = Vec::new();
        for name in names {
            assert!(reorder.push(name.clone(), ()));
            out.extend(std::iter::from_fn(|| reorder.next()).map(|(name, ())| name));
        }
        reorder.end();
        out.extend(std::iter::from_fn(|| reorder.next()).map(|(name, ())| name));
        assert!(reorder.is_empty());
        out
    }

    proptest! {
        #[test]
        fn names_come_out_in_the_order_of_keys(mut names in proptest::collection::vec("[ab~/\u{e9}\u{65e5}]{1,5}", 0..40)) {
            names.sort();
            names.dedup();
            prop_assert_eq!(&reordered(&names), &names, "a server with the order of keys");
            let mut signed = names.clone();
            signed.sort_by_key(|name| name.bytes().map(|byte| byte.cast_signed()).collect::<Vec<i8>>());
            prop_assert_eq!(reordered(&signed), names, "a NameNode");
        }
    }

    #[test]
    fn plain_names_do_not_wait() {
        let mut reorder = Reorder::default();
        reorder.push("\u{e9}".into(), 1);
        assert!(reorder.next().is_none() && !reorder.is_empty());
        reorder.push("a\u{e9}".into(), 2);
        reorder.push("ab".into(), 3);
        assert_eq!(reorder.next(), Some(("ab".into(), 3)));
        reorder.push("b".into(), 4);
        assert_eq!(reorder.next(), Some(("a\u{e9}".into(), 2)));
        assert_eq!(reorder.next(), Some(("b".into(), 4)));
        assert_eq!(reorder.next(), None);
        reorder.end();
        assert_eq!(reorder.next(), Some(("\u{e9}".into(), 1)));
    }
}
