//! Which writes of a transactional table count, and which transactions of its metastore do: what Hive's readers ask for before
//! they look at a folder.
//!
//! Pure. Ids are Hive's: transactions are numbered through a metastore, writes through a table.

use std::collections::BTreeSet;

/// The writes of a table, as one moment shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteIds {
    /// The largest id that was given out; 0 for none. `None`: the metastore knows nothing of this table's writes.
    pub high_water: Option<i64>,
    /// Of transactions that have not ended.
    pub open: BTreeSet<i64>,
    /// Of transactions that were given up, as long as the metastore remembers them.
    pub aborted: BTreeSet<i64>,
}

impl WriteIds {
    /// The largest id up to which every write has ended: what a replica may show.
    pub fn mark(&self) -> i64 {
        let given = self.high_water.unwrap_or(0);
        self.open.first().map_or(given, |open| given.min(open - 1))
    }

    /// Whether committed writes stand behind one that has not ended: the replica does not show them yet.
    pub fn is_ahead(&self) -> bool {
        let (mark, given) = (self.mark(), self.high_water.unwrap_or(0));
        let behind = usize::try_from(given - mark).unwrap_or(usize::MAX);
        let ended_badly = self.aborted.range(mark + 1..).count() + self.open.len();
        behind > ended_badly
    }

    /// The same up to its mark: nothing in it is open.
    pub fn ended(&self) -> Self {
        let mark = self.mark();
        let aborted = self.aborted.range(..=mark).copied().collect();
        Self { high_water: self.high_water.map(|_| mark), open: BTreeSet::new(), aborted }
    }

    /// Whether a reader sees what was written under this id.
    pub fn is_valid(&self, id: i64) -> bool {
        id <= self.high_water.unwrap_or(0) && !self.open.contains(&id) && !self.aborted.contains(&id)
    }

    /// How many ids from `min` to `max` a reader sees.
    pub fn valid_among(&self, min: i64, max: i64) -> Share {
        let top = self.high_water.unwrap_or(0);
        if min > max || min > top {
            return Share::None;
        }
        let hidden = |ids: &BTreeSet<i64>| ids.range(min..=max.min(top)).count() as u64;
        let hidden = hidden(&self.open) + hidden(&self.aborted) + max.abs_diff(top) * u64::from(max > top);
        match hidden {
            0 => Share::All,
            hidden if hidden > max.abs_diff(min) => Share::None,
            _ => Share::Some,
        }
    }
}

/// How many of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// None.
    None,
    /// Some, but not all.
    Some,
    /// All.
    All,
}

/// The transactions of a metastore, as one moment shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    /// The largest id that was given out.
    pub high_water: i64,
    /// Not ended.
    pub open: BTreeSet<i64>,
    /// Given up, and remembered.
    pub aborted: BTreeSet<i64>,
}

impl Transactions {
    /// Whether it was committed. One that is not remembered was, as Hive takes it.
    pub fn is_committed(&self, id: i64) -> bool {
        id <= self.high_water && !self.open.contains(&id) && !self.aborted.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(high_water: i64, open: &[i64], aborted: &[i64]) -> WriteIds {
        let set = |ids: &[i64]| ids.iter().copied().collect();
        WriteIds { high_water: Some(high_water), open: set(open), aborted: set(aborted) }
    }

    #[test]
    fn a_replica_shows_what_ended_before_the_first_that_has_not() {
        for (ids, mark, ahead) in [
            (ids(0, &[], &[]), 0, false),
            (ids(7, &[], &[3, 7]), 7, false),
            (ids(7, &[7], &[]), 6, false),
            (ids(7, &[5], &[]), 4, true),
            (ids(7, &[5, 6], &[7]), 4, false),
            (ids(7, &[5, 7], &[6]), 4, false),
            (ids(7, &[1], &[]), 0, true),
            (WriteIds::default(), 0, false),
        ] {
            assert_eq!((ids.mark(), ids.is_ahead()), (mark, ahead), "{ids:?}");
            let ended = ids.ended();
            assert_eq!((ended.mark(), ended.open.len(), ended.is_ahead()), (mark, 0, false));
            for id in 1..=9 {
                assert_eq!(ended.is_valid(id), ids.is_valid(id) && id <= mark, "{id} of {ids:?}");
            }
        }
    }

    #[test]
    fn a_range_counts_as_its_ids_do() {
        for (high_water, open, aborted) in
            [(6, &[][..], &[][..]), (6, &[4], &[2, 3]), (6, &[1, 2, 3], &[4, 5, 6]), (0, &[], &[]), (3, &[], &[3])]
        {
            let ids = ids(high_water, open, aborted);
            for min in 0..9 {
                for max in min..9 {
                    let valid = (min..=max).filter(|id| ids.is_valid(*id)).count();
                    let all = usize::try_from(max - min + 1).unwrap();
                    let expected = match valid {
                        0 => Share::None,
                        count if count == all => Share::All,
                        _ => Share::Some,
                    };
                    assert_eq!(ids.valid_among(min, max), expected, "{min} to {max} of {ids:?}");
                }
            }
        }
    }

    #[test]
    fn a_transaction_that_is_not_remembered_was_committed() {
        let some = Transactions { high_water: 9, open: [4].into(), aborted: [5].into() };
        let committed: Vec<i64> = (1..12).filter(|id| some.is_committed(*id)).collect();
        assert_eq!(committed, [1, 2, 3, 6, 7, 8, 9]);
    }
}
