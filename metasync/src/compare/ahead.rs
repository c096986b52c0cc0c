//! Tables of one database with their partitions where these are few, many tables in one read: each by itself would cost a
//! dozen statements on either side.
//!
//! Reads only. What is held at a time is no more than a chunk of a large table; a table with more comes without, and is read
//! by [`super::partitions`] chunk by chunk.

use super::{Read, Sides, Trouble, Whole, to_read};
use crate::metastore::{AllPartitions, CHUNK, Result, Snapshot};
use crate::model::{DatabaseName, Table};
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use std::collections::HashMap;
use std::ops::Range;

/// A table at the source, and what the target has under its name.
#[derive(Debug)]
pub struct Pair {
    /// At the source.
    pub source: Whole,
    /// On the target.
    pub actual: Option<Whole>,
    /// Where it was asked for.
    pub at: usize,
    /// Its partitions, if they were read already.
    pub ahead: Option<Ahead>,
}

/// The partitions of a table on both sides.
#[derive(Debug)]
pub struct Ahead {
    pub(super) source: Result<Read, Trouble>,
    pub(super) target: Result<Read, Trouble>,
}

/// These tables of one database in their order, group by group; each group is read when it is asked for.
pub async fn groups<'a>(
    sides: &'a Sides,
    database: &DatabaseName,
    pairs: Vec<Pair>,
) -> Result<impl Stream<Item = Result<Vec<Pair>>> + Send + 'a> {
    let names: Vec<String> = pairs.iter().map(|pair| pair.source.table.name.table.clone()).collect();
    let target = sides.policy.target_database(database);
    let source_counts = sides.source.partition_counts(database, &names);
    let target_counts = sides.target.partition_counts(&target, &names);
    let counts = match futures::try_join!(source_counts, target_counts)? {
        (Some(source), Some(target)) => Some((source, target)),
        _ => None,
    };
    let weigh = |name: &String| match &counts {
        Some((source, target)) => {
            let of = |counts: &HashMap<String, usize>| counts.get(name).copied().unwrap_or(0);
            of(source).max(of(target))
        }
        None => usize::MAX,
    };
    let weights: Vec<usize> = names.iter().map(weigh).collect();
    let mut left = pairs.into_iter();
    let groups: Vec<(Vec<Pair>, bool)> =
        grouped(&weights).into_iter().map(|(range, few)| (left.by_ref().take(range.len()).collect(), few)).collect();
    Ok(stream::iter(groups).then(async |(mut group, few)| {
        if few {
            read(sides, &mut group).await?;
        }
        Ok(group)
    }))
}

/// Pure: which tables share a read, by how many partitions they have, and whether they are read ahead.
fn grouped(weights: &[usize]) -> Vec<(Range<usize>, bool)> {
    let mut groups: Vec<(Range<usize>, bool)> = Vec::new();
    let mut held = 0;
    for (at, weight) in weights.iter().enumerate() {
        let few = *weight <= CHUNK;
        match groups.last_mut() {
            Some((range, true)) if few && held + weight <= CHUNK => range.end = at + 1,
            _ => {
                groups.push((at..at + 1, few));
                held = 0;
            }
        }
        held += if few { *weight } else { 0 };
    }
    groups
}

async fn read(sides: &Sides, group: &mut [Pair]) -> Result<()> {
    let with = sides.policy.options.statistics;
    let source: Vec<&Table> = group.iter().map(|pair| &pair.source.table).filter(|table| has_keys(table)).collect();
    let actual = group.iter().filter_map(|pair| pair.actual.as_ref().map(|actual| &actual.table));
    let target: Vec<&Table> = actual.filter(|table| has_keys(table)).collect();
    let (from_source, from_target) = (side(&*sides.source, &source, with), side(&*sides.target, &target, with));
    let (mut from_source, mut from_target) = futures::try_join!(from_source, from_target)?;
    for pair in group {
        let one = |table: Option<&Table>, all: &mut HashMap<String, AllPartitions>| {
            let taken = table.and_then(|table| Some((table, all.remove(&table.name.table)?)));
            taken.map_or(Ok(Vec::new()), |(table, all)| to_read(table, all.batch, all.statistics))
        };
        let actual = pair.actual.as_ref().map(|actual| &actual.table);
        pair.ahead = Some(Ahead {
            source: one(Some(&pair.source.table), &mut from_source),
            target: one(actual, &mut from_target),
        });
    }
    Ok(())
}

fn has_keys(table: &Table) -> bool {
    !table.partition_keys.is_empty()
}

async fn side(snapshot: &dyn Snapshot, tables: &[&Table], statistics: bool) -> Result<HashMap<String, AllPartitions>> {
    match tables.is_empty() {
        true => Ok(HashMap::new()),
        false => snapshot.all_partitions(tables, statistics).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn groups_hold_every_table_once_in_order_and_no_more_than_a_chunk(
            weights in prop::collection::vec(prop_oneof![0usize..50, 900usize..1100, Just(usize::MAX)], 0..80),
        ) {
            let groups = grouped(&weights);
            let flat: Vec<usize> = groups.iter().flat_map(|(range, _)| range.clone()).collect();
            prop_assert_eq!(flat, (0..weights.len()).collect::<Vec<_>>());
            for (range, few) in &groups {
                let of = &weights[range.clone()];
                let fits = if *few { of.iter().sum::<usize>() <= CHUNK } else { of.len() == 1 && of[0] > CHUNK };
                prop_assert!(fits);
            }
            for pair in groups.windows(2) {
                let all_few = pair[0].1 && pair[1].1;
                let first = weights[pair[1].0.start];
                prop_assert!(!all_few || weights[pair[0].0.clone()].iter().sum::<usize>() + first > CHUNK);
            }
        }
    }
}
