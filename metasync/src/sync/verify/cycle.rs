//! A rolling verification: each run reads a part of all data on both sides, and a cycle of runs reads all of it. Pure.
//!
//! Where the next run goes on is the cursor of the job in its state ([`manifest::state::cursor`]). It moves last, after what
//! was found is stored: a run that dies before has its part read once more, and no part is ever skipped. What comes while a
//! cycle goes on, behind its cursor, is read by the next one; it was read when it was copied.

use distcp::verify::{Covered, Part, Reading, Slice};
use jiff::Timestamp;
use manifest::ObjectKey;
use manifest::state::rfc3339_option;
use serde::{Deserialize, Serialize};

/// The most slices of a cycle: one a day would take 27 years.
pub const MAX_SLICES: u32 = 10_000;

/// How much a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// One of so many slices.
    pub slices: u32,
    /// At most so many bytes, of both sides together.
    pub budget_bytes: Option<u64>,
}

/// Where a cycle stands between two runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// Which, from 1.
    pub number: u64,
    /// Slices of it.
    pub slices: u32,
    /// The slice that is next, from 0.
    pub slice: u32,
    /// The object after which its rest begins; `None`: all of it is to be read.
    pub after: Option<Position>,
    /// When its first run began (RFC 3339).
    #[serde(with = "rfc3339_option")]
    pub started: Option<Timestamp>,
    /// Runs of it.
    pub runs: u64,
    /// Objects that they read.
    pub objects: u64,
    /// Bytes of them, of both sides.
    pub bytes: u64,
    /// When the last cycle was completed (RFC 3339).
    #[serde(with = "rfc3339_option")]
    pub completed: Option<Timestamp>,
}

/// An object of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The tree.
    pub tree: String,
    /// The object in it.
    pub key: ObjectKey,
}

/// What a run covered, and what that means for the cycle: part of its report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Which slice of how many: `3/30`.
    pub slice: String,
    /// Whether it was read to its end.
    pub is_slice_done: bool,
    /// Objects that this run read on both sides.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Which cycle, from 1.
    pub cycle: u64,
    /// Objects that its runs have read so far.
    pub cycle_objects: u64,
    /// Bytes of them.
    pub cycle_bytes: u64,
    /// Its runs so far.
    pub cycle_runs: u64,
    /// When it began (RFC 3339).
    pub cycle_started: String,
    /// Whether this run completed it.
    pub is_cycle_done: bool,
    /// Runs that it needs still, as far as sizes tell.
    pub runs_left: u64,
    /// When it will be completed, if runs go on coming as they did (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// When the one before it was completed (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_completed: Option<String>,
}

/// One run of a cycle, going from tree to tree in the order of their names.
#[derive(Clone, Debug)]
pub struct Round {
    cycle: Cycle,
    budget_bytes: Option<u64>,
    objects: u64,
    bytes: u64,
    last: Option<Position>,
    is_cut: bool,
}

impl Cycle {
    fn new(number: u64, slices: u32, completed: Option<Timestamp>) -> Self {
        let (slice, after, started, runs, objects, bytes) = (0, None, None, 0, 0, 0);
        Self { number, slices, slice, after, started, runs, objects, bytes, completed }
    }

    /// The cycle that a run goes on with: the one that was left, or a new one if that had another number of slices.
    pub fn going_on(left: Option<Self>, slices: u32) -> Self {
        match left {
            Some(left) if left.slices == slices => left,
            Some(left) => Self::new(left.number + 1, slices, left.completed),
            None => Self::new(1, slices, None),
        }
    }
}

impl Round {
    /// A run of this cycle.
    pub fn new(cycle: Cycle, budget_bytes: Option<u64>) -> Self {
        Self { cycle, budget_bytes, objects: 0, bytes: 0, last: None, is_cut: false }
    }

    /// What is to be read of the next tree.
    pub fn reading(&self, tree: &str) -> Reading {
        let after = match &self.cycle.after {
            Some(position) if position.tree.as_str() > tree => return Reading::ByLevel,
            Some(position) if position.tree == tree => Some(position.key.clone()),
            _ => None,
        };
        if self.is_cut {
            return Reading::ByLevel;
        }
        let slice = Slice { number: self.cycle.slice, of: self.cycle.slices };
        Reading::Part(Part { slice, after, budget_bytes: self.budget_bytes, spent_bytes: self.bytes })
    }

    /// Takes what was read of it.
    pub fn add(&mut self, tree: &str, covered: Covered) {
        self.objects += covered.objects;
        self.bytes += covered.bytes;
        self.is_cut |= covered.is_cut;
        if let Some(key) = covered.last {
            self.last = Some(Position { tree: tree.to_owned(), key });
        }
    }

    /// Where the next run goes on, and the word on this one. `all_bytes` is what reading everything takes, on both sides.
    pub fn end(self, all_bytes: u64, started: Timestamp) -> (Cycle, Coverage) {
        let mut next = self.cycle;
        let (slice, last_completed) = (next.slice, next.completed);
        let since = *next.started.get_or_insert(started);
        next.runs += 1;
        next.objects += self.objects;
        next.bytes += self.bytes;
        match self.is_cut {
            true => next.after = self.last.or(next.after),
            false => (next.slice, next.after) = (slice + 1, None),
        }
        let is_cycle_done = next.slice >= next.slices;
        let runs_left = match (is_cycle_done, self.is_cut) {
            (true, _) => 0,
            (false, false) => u64::from(next.slices - next.slice),
            (false, true) => {
                let by_bytes = all_bytes.saturating_sub(next.bytes).div_ceil(self.bytes.max(1));
                by_bytes.max(u64::from(next.slices - next.slice))
            }
        };
        let coverage = Coverage {
            slice: format!("{}/{}", slice + 1, next.slices),
            is_slice_done: !self.is_cut,
            objects: self.objects,
            bytes: self.bytes,
            cycle: next.number,
            cycle_objects: next.objects,
            cycle_bytes: next.bytes,
            cycle_runs: next.runs,
            cycle_started: since.to_string(),
            is_cycle_done,
            runs_left,
            expected: expected(since, started, next.runs, runs_left).map(|time| time.to_string()),
            last_completed: last_completed.map(|time| time.to_string()),
        };
        if is_cycle_done {
            next = Cycle::new(next.number + 1, next.slices, Some(started));
        }
        (next, coverage)
    }
}

/// When a cycle ends whose runs go on coming as far apart as they did.
fn expected(since: Timestamp, now: Timestamp, runs: u64, left: u64) -> Option<Timestamp> {
    let between = now.duration_since(since).as_secs().checked_div(i64::try_from(runs.checked_sub(1)?).ok()?)?;
    let seconds = between.checked_mul(i64::try_from(left).ok()?)?;
    (left > 0).then(|| now.checked_add(jiff::SignedDuration::from_secs(seconds)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const OBJECT: u64 = 10;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hours)
    }

    /// Runs over trees of keys as the verification of each tree would, and returns what each run read.
    fn run(
        left: Option<Cycle>,
        portion: Portion,
        trees: &BTreeMap<&str, Vec<ObjectKey>>,
        hour: i64,
    ) -> (Cycle, Coverage, Vec<String>) {
        let mut round = Round::new(Cycle::going_on(left, portion.slices), portion.budget_bytes);
        let mut read = Vec::new();
        for (tree, keys) in trees {
            let mut covered = Covered::default();
            if let Reading::Part(part) = round.reading(tree) {
                for key in keys {
                    let spent = part.spent_bytes + covered.bytes;
                    if part.after.as_ref().is_some_and(|after| key <= after) || !part.slice.takes(key) || covered.is_cut
                    {
                        continue;
                    }
                    if part.budget_bytes.is_some_and(|budget| spent > 0 && spent + OBJECT > budget) {
                        covered.is_cut = true;
                        continue;
                    }
                    covered.objects += 1;
                    covered.bytes += OBJECT;
                    covered.last = Some(key.clone());
                    read.push(format!("{tree}/{}", key.escaped()));
                }
            }
            round.add(tree, covered);
        }
        let all = trees.values().map(|keys| keys.len() as u64 * OBJECT).sum();
        let (next, coverage) = round.end(all, at(hour));
        (next, coverage, read)
    }

    fn trees() -> BTreeMap<&'static str, Vec<ObjectKey>> {
        let keys = |count: usize| (0..count).map(|at| ObjectKey::from(format!("{at:03}").as_str())).collect();
        BTreeMap::from([("a", keys(40)), ("b", Vec::new()), ("c", keys(25)), ("d", keys(1))])
    }

    #[test]
    fn a_cycle_reads_everything_once_whatever_the_portion() {
        let trees = trees();
        let mut all: Vec<String> = trees
            .iter()
            .flat_map(|(tree, keys)| keys.iter().map(move |key| format!("{tree}/{}", key.escaped())))
            .collect();
        all.sort();
        for (slices, budget_bytes) in
            [(1, None), (1, Some(1)), (1, Some(70)), (7, None), (7, Some(30)), (30, None), (30, Some(1000))]
        {
            let portion = Portion { slices, budget_bytes };
            let (mut left, mut read) = (None, Vec::new());
            for hour in 0_i64.. {
                let (next, coverage, these) = run(left, portion, &trees, hour);
                read.extend(these);
                assert_eq!(coverage.cycle, 1, "{portion:?}");
                assert_eq!(coverage.cycle_objects, read.len() as u64);
                left = Some(next);
                if coverage.is_cycle_done {
                    assert_eq!(coverage.runs_left, 0);
                    break;
                }
                assert!(coverage.runs_left > 0 && hour < 200, "{portion:?}");
            }
            read.sort();
            assert_eq!(read, all, "{portion:?}");
            let left = left.unwrap();
            assert_eq!((left.number, left.slice, &left.after, left.runs), (2, 0, &None, 0));
            assert!(left.completed.is_some());
        }
    }

    #[test]
    fn what_comes_and_goes_between_runs_does_not_stop_a_cycle() {
        let mut trees = trees();
        let portion = Portion { slices: 1, budget_bytes: Some(10 * OBJECT) };
        let (left, ..) = run(None, portion, &trees, 0);
        assert_eq!(left.after.as_ref().map(|after| after.tree.as_str()), Some("a"));
        trees.remove("a");
        let (left, coverage, read) = run(Some(left), portion, &trees, 1);
        assert_eq!((read.len(), read[0].as_str(), coverage.cycle), (10, "c/000", 1));
        let (left, _, read) = run(Some(left), portion, &trees, 2);
        assert_eq!(read[0], "c/010");
        let (_, coverage, read) = run(Some(left), portion, &trees, 3);
        assert_eq!((read.len(), coverage.is_cycle_done), (6, true));
    }

    #[test]
    fn another_number_of_slices_begins_a_new_cycle_and_another_budget_does_not() {
        let trees = trees();
        let (left, ..) = run(None, Portion { slices: 1, budget_bytes: Some(50) }, &trees, 0);
        let (_, coverage, _) = run(Some(left.clone()), Portion { slices: 1, budget_bytes: Some(20) }, &trees, 1);
        assert_eq!((coverage.cycle, coverage.cycle_objects), (1, 7));
        let (next, coverage, _) = run(Some(left), Portion { slices: 4, budget_bytes: None }, &trees, 1);
        assert_eq!((coverage.cycle, coverage.slice.as_str(), next.slice), (2, "1/4", 1));
    }

    #[test]
    fn the_end_is_expected_at_the_pace_of_the_runs_so_far() {
        let trees = trees();
        let portion = Portion { slices: 1, budget_bytes: Some(11 * OBJECT) };
        let (left, coverage, _) = run(None, portion, &trees, 0);
        assert_eq!((coverage.runs_left, coverage.expected), (5, None), "66 objects, and one run tells no pace");
        let (left, coverage, _) = run(Some(left), portion, &trees, 24);
        assert_eq!((coverage.runs_left, coverage.expected), (4, Some(at(24 + 96).to_string())));
        let (_, coverage, _) = run(Some(left), Portion { slices: 3, budget_bytes: None }, &trees, 48);
        assert_eq!((coverage.runs_left, coverage.slice.as_str()), (2, "1/3"));
    }
}
