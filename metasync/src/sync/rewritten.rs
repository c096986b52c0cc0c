//! What a run would write otherwise than the source has it, as lines of a plan. Pure.
//!
//! Of what is not written nothing is told: a table that waits for its files, that is quarantined, or that is in step.

use super::planned::Planned;
use crate::rewrites::{Rewrites, Why};
use serde::Serialize;

/// How many lines a plan lists; what comes after them is counted.
pub const MAX_LISTED: usize = 1000;

/// One key of one object, or of the partitions of one table.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// `table sales.orders`, `partitions of sales.orders`, by the target's names.
    pub object: String,
    /// Why.
    pub why: Why,
    /// Which, as the path in a dump's line (`storage.serde.parameters.path`); of a version the row of the list of what it
    /// cannot hold, with what becomes of it.
    pub key: &'a str,
    /// In how many objects.
    pub count: u64,
    /// What it was in the first of them; `null` where that is of no use to a reader.
    pub from: Option<&'a str>,
    /// What it becomes there; `null` too for what goes.
    pub to: Option<&'a str>,
}

/// The lines of a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The first of them: databases and functions, then tables, each with its partitions.
    pub lines: Vec<Line<'a>>,
    /// How many more there are.
    pub more: u64,
}

/// What this plan rewrites.
pub fn listed(planned: &Planned) -> Listed<'_> {
    let databases = planned.survey.databases.iter().flat_map(|database| &database.rewritten);
    let databases = databases.map(|(object, rewrites)| (object.clone(), rewrites));
    let tables = planned.survey.tables.iter().enumerate();
    let tables = tables.filter(|(at, table)| table.differs() && !planned.waiting.contains_key(at));
    let tables = tables.flat_map(|(_, table)| {
        let name = &table.target;
        [(format!("table {name}"), &table.rewritten), (format!("partitions of {name}"), &table.rewritten_partitions)]
    });
    bounded(databases.chain(tables), MAX_LISTED)
}

fn bounded<'a>(objects: impl Iterator<Item = (String, &'a Rewrites)>, most: usize) -> Listed<'a> {
    let mut listed = Listed::default();
    for (object, rewrites) in objects {
        for (why, key, rewrite) in rewrites.iter() {
            if listed.lines.len() == most {
                listed.more += 1;
                continue;
            }
            listed.lines.push(Line {
                object: object.clone(),
                why,
                key,
                count: rewrite.count,
                from: rewrite.from.as_deref(),
                to: rewrite.to.as_deref(),
            });
        }
        listed.more += rewrites.beyond();
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrites::MAX_KEYS;

    fn of(keys: usize) -> Rewrites {
        let mut rewrites = Rewrites::default();
        (0..keys).for_each(|key| rewrites.value(Why::Location, format!("{key:04}"), "/a", Some("/b")));
        rewrites
    }

    #[test]
    fn so_many_lines_are_listed_and_the_others_are_counted() {
        let (two, three, many) = (of(2), of(3), of(MAX_KEYS + 1));
        let objects = || [("t", &two), ("u", &three)].map(|(name, rewrites)| (name.to_owned(), rewrites)).into_iter();
        let all = bounded(objects(), 5);
        assert_eq!((all.lines.len(), all.more), (5, 0));
        let first = &all.lines[0];
        assert_eq!((first.object.as_str(), first.key, first.count), ("t", "0000", 1));
        assert_eq!((first.from, first.to), (Some("/a"), Some("/b")));
        let some = bounded(objects(), 4);
        assert_eq!((some.lines.len(), some.more), (4, 1));
        assert_eq!(some.lines[3].object, "u");
        let beyond = bounded([("t".to_owned(), &many)].into_iter(), MAX_LISTED);
        assert_eq!((beyond.lines.len(), beyond.more), (MAX_KEYS, 1));
    }
}
