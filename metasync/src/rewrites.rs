//! What an object becomes otherwise than the source has it: places, names of databases, what the target's version has no words
//! for (rule 30), what would act on the replica by itself (rule 31).
//!
//! Pure data: [`crate::translate`] and [`crate::held`] say what they did while they do it, so that a plan lists what a run
//! writes and nothing else. An object's own location, which always is the target's, is not told.

use crate::held::Limit;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many keys are told apart for one object, or for the partitions of one table; what comes after them is counted only.
pub const MAX_KEYS: usize = 64;

/// Why something is not on the replica as it is at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its value is a location that `[[locations]]` maps.
    Location,
    /// It names a database that `[rename]` renames.
    Rename,
    /// The target's version cannot hold it as it is: a row of [`crate::held::LIMITS`].
    Version,
    /// It would let a metastore act on the replica by itself: one of [`crate::translate::STILLED`].
    SwitchedOff,
}

/// One key of one object, or of the partitions of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Objects in which it was so.
    pub count: u64,
    /// The first of them: what it was and what it becomes; `None` for what goes, and for what has no short value.
    pub from: Option<String>,
    /// See `from`.
    pub to: Option<String>,
}

/// All that becomes otherwise, by why and by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    keys: BTreeMap<(Why, String), Rewrite>,
    beyond: u64,
}

impl Rewrites {
    /// A value that becomes another, or goes; nothing if it stays what it is.
    pub fn value(&mut self, why: Why, key: String, from: &str, to: Option<&str>) {
        if to == Some(from) {
            return;
        }
        let rewrite = || Rewrite { count: 0, from: Some(from.to_owned()), to: to.map(str::to_owned) };
        self.add(why, key, 1, rewrite);
    }

    /// Something of which the values are no use to a reader.
    pub fn named(&mut self, why: Why, key: String) {
        self.add(why, key, 1, || Rewrite { count: 0, from: None, to: None });
    }

    /// What a version cannot hold.
    pub fn limit(&mut self, limit: &Limit) {
        self.named(Why::Version, format!("{}: {}", limit.what, limit.done));
    }

    fn add(&mut self, why: Why, key: String, count: u64, first: impl FnOnce() -> Rewrite) {
        let at = (why, key);
        if let Some(known) = self.keys.get_mut(&at) {
            known.count += count;
        } else if self.keys.len() < MAX_KEYS {
            let first = Rewrite { count, ..first() };
            self.keys.insert(at, first);
        } else {
            self.beyond += count;
        }
    }

    /// Adds those of another object.
    pub fn merge(&mut self, other: Self) {
        for ((why, key), rewrite) in other.keys {
            self.add(why, key, rewrite.count, || rewrite);
        }
        self.beyond += other.beyond;
    }

    /// Why, which key, and what of it; in this order.
    pub fn iter(&self) -> impl Iterator<Item = (Why, &str, &Rewrite)> {
        self.keys.iter().map(|((why, key), rewrite)| (*why, key.as_str(), rewrite))
    }

    /// How many were not told apart.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str, &str)]) -> Rewrites {
        let mut rewrites = Rewrites::default();
        for (key, from, to) in pairs {
            rewrites.value(Why::Location, (*key).to_owned(), from, Some(to));
        }
        rewrites
    }

    #[test]
    fn one_key_of_many_objects_is_one_line_with_a_count_and_the_first() {
        let mut all = Rewrites::default();
        for partition in ["p=1", "p=2", "p=3"] {
            all.merge(of(&[("path", &format!("/a/{partition}"), &format!("/b/{partition}"))]));
        }
        all.merge(of(&[("url", "/a/x", "/b/x")]));
        let told: Vec<_> = all.iter().map(|(_, key, one)| (key, one.count, one.from.as_deref().unwrap())).collect();
        assert_eq!(told, [("path", 3, "/a/p=1"), ("url", 1, "/a/x")]);
    }

    #[test]
    fn keys_without_number_are_counted_and_take_no_room() {
        let mut all = Rewrites::default();
        for number in 0..MAX_KEYS + 7 {
            all.merge(of(&[(&format!("{number:04}"), "/a", "/b")]));
        }
        all.merge(of(&[("0000", "/a", "/b")]));
        assert_eq!((all.iter().count(), all.beyond()), (MAX_KEYS, 7));
        assert_eq!(all.iter().map(|(_, _, one)| one.count).sum::<u64>(), MAX_KEYS as u64 + 1);
    }
}
