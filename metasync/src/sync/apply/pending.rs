//! Changes that wait for each other to share a transaction: of small tables, of functions, and how far the replica is then.
//!
//! A batch is written whole, in the order in which it was gathered, unless that takes too long: then what is written so far is
//! committed between two parts, and the rest follows (rule 32). If it is refused, each part is written by itself, so that
//! one table's trouble stays its own. How far the replica is comes last: with an SQL target it stands if and only if what came
//! with it does; a crash before leaves what was written earlier, and the next run compares.

use super::{Applied, Applier, partitions_of};
use crate::metastore::{Change, Error};
use crate::model::TableName;
use crate::sync::{failure, until};
use distcp::error::{Failure, Result};
use distcp::progress::count;
use std::collections::BTreeMap;
use std::ops::Range;

/// Partitions, and tables, that are written in one transaction, about: a table's own chunk is as large.
const GATHERED: usize = 1000;

/// What a part is about, and with that what it means when it is refused.
pub(super) enum Part {
    /// Everything: the run ends.
    Run,
    /// A table that goes: its error, and its files stay.
    Dropped(TableName),
    /// A database that goes: named, and tried again by the next run.
    Gone(String),
    /// What is left of a table: its error.
    Table(usize, TableDone),
    /// What of a table comes after all tables: its error.
    Late(usize),
    /// The functions of a database: named, and tried again by the next run.
    Functions(String),
}

/// A table, once its last changes are written.
pub(super) struct TableDone {
    /// Of all that the target holds of it.
    pub digest: String,
    /// How many it has.
    pub partitions: u64,
    /// It changed at the source meanwhile.
    pub behind: bool,
}

/// What is not written yet.
#[derive(Default)]
pub(super) struct Pending {
    changes: Vec<Change>,
    parts: Vec<(Part, Range<usize>)>,
    weight: usize,
    /// What was written so far.
    pub applied: Applied,
    /// What ends the run, found where only a table's trouble can be told.
    pub broken: Option<Failure>,
}

impl Pending {
    /// Adds a part, and writes what was gathered once it is enough.
    pub async fn add(&mut self, applier: &Applier<'_>, part: Part, changes: Vec<Change>) -> Result<()> {
        self.weight += changes.iter().map(weight_of).sum::<usize>();
        let start = self.changes.len();
        self.changes.extend(changes);
        self.parts.push((part, start..self.changes.len()));
        match self.weight >= GATHERED {
            true => self.flush(applier).await,
            false => Ok(()),
        }
    }

    /// Writes what was gathered, unless a signal was heard: then nothing more of it is. Errors: what ends the run.
    pub async fn flush(&mut self, applier: &Applier<'_>) -> Result<()> {
        let (changes, mut parts) = (std::mem::take(&mut self.changes), std::mem::take(&mut self.parts));
        self.weight = 0;
        let error = loop {
            if parts.is_empty() {
                return Ok(());
            }
            until::go_on(applier.stop)?;
            let together = together(&parts);
            let slices: Vec<&[Change]> =
                together.iter().map(|(range, _)| changes.get(range.clone()).unwrap_or_default()).collect();
            match applier.write_some(&slices).await {
                Ok(written) => {
                    let count: usize = together.iter().take(written).map(|(_, count)| count).sum();
                    parts.drain(..count).for_each(|(part, _)| self.done(applier, part));
                }
                Err(error) => break error,
            }
        };
        if parts.len() == 1 {
            return parts.pop().map_or(Ok(()), |(part, _)| self.refused(applier, part, error));
        }
        applier.of_table(error)?;
        for (part, range) in parts {
            // Of a table whose main part was refused nothing comes later.
            if matches!(&part, Part::Late(at) if self.applied.failed.contains_key(at)) {
                continue;
            }
            until::go_on(applier.stop)?;
            match applier.write(changes.get(range).unwrap_or_default()).await {
                Ok(()) => self.done(applier, part),
                Err(error) => self.refused(applier, part, error)?,
            }
        }
        Ok(())
    }

    /// What the target will hold, once all of this is written, of each table that is changed, by its place: digests.
    pub fn digests(&self) -> BTreeMap<usize, &str> {
        let written = self.applied.done.iter().map(|(at, (digest, _))| (*at, digest.as_str()));
        let gathered = self.parts.iter().filter_map(|(part, _)| match part {
            Part::Table(at, done) => Some((*at, done.digest.as_str())),
            _ => None,
        });
        written.chain(gathered).collect()
    }

    fn refused(&mut self, applier: &Applier<'_>, part: Part, error: Error) -> Result<()> {
        match part {
            Part::Run => return Err(failure(error)),
            Part::Table(at, _) | Part::Late(at) => {
                let why = applier.of_table(error)?;
                self.applied.failed.entry(at).or_insert(why);
                // Without what comes late the target does not hold what the digest says.
                self.applied.done.remove(&at);
            }
            Part::Functions(database) => {
                self.applied.functions.insert(database, applier.of_table(error)?);
            }
            Part::Dropped(table) => {
                self.applied.undropped.insert(table, applier.of_table(error)?);
            }
            Part::Gone(database) => {
                self.applied.kept.insert(database, applier.of_table(error)?);
            }
        }
        Ok(())
    }

    fn done(&mut self, applier: &Applier<'_>, part: Part) {
        let applied = &mut self.applied;
        match part {
            Part::Run | Part::Late(_) | Part::Functions(_) => {}
            Part::Dropped(table) => {
                applied.dropped.insert(table);
            }
            Part::Gone(database) => {
                applied.gone.insert(database);
            }
            Part::Table(at, TableDone { digest, partitions, behind }) => {
                count(&applier.progress.done_metadata, 1);
                if behind {
                    applied.behind.insert(at);
                }
                applied.done.insert(at, (digest, partitions));
            }
        }
    }
}

/// What may not come apart: the changes of each part, with how many parts they are of. How far the replica is never stands without
/// the part before it, however long that takes (rule 32).
fn together(parts: &[(Part, Range<usize>)]) -> Vec<(Range<usize>, usize)> {
    let mut units: Vec<(Range<usize>, usize)> = parts.iter().map(|(_, range)| (range.clone(), 1)).collect();
    if let (Some((Part::Run, _)), [.., (before, count), (last, _)]) = (parts.last(), units.as_mut_slice()) {
        (before.end, *count) = (last.end, 2);
        units.pop();
    }
    units
}

/// How much a change writes, about: its partitions.
fn weight_of(change: &Change) -> usize {
    match change {
        Change::PutPartitions { .. } | Change::DropPartitions { .. } => partitions_of(change),
        Change::PutPartitionStatistics { statistics, .. } => statistics.len(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_32_how_far_the_replica_is_stays_with_the_part_before_it() {
        let table = |at| Part::Table(at, TableDone { digest: String::new(), partitions: 0, behind: false });
        let of = |parts: Vec<(Part, Range<usize>)>| together(&parts);
        assert_eq!(of(vec![(table(0), 0..2), (table(1), 2..3)]), [(0..2, 1), (2..3, 1)]);
        assert_eq!(of(vec![(table(0), 0..2), (table(1), 2..3), (Part::Run, 3..5)]), [(0..2, 1), (2..5, 2)]);
        assert_eq!(of(vec![(Part::Run, 0..1), (table(0), 1..3)]), [(0..1, 1), (1..3, 1)]);
        assert_eq!(of(vec![(Part::Run, 0..1)]), [(0..1, 1)]);
        assert!(of(Vec::new()).is_empty());
    }
}
