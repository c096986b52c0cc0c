//! One table of the source against the same table of the target: what has to change, and what the target holds.
//!
//! Reads both sides, a chunk of partitions at a time, and hands on changes; writes nothing. Two objects are equal when their
//! lines in a dump are: translated by the policy, said in the target's words ([`crate::held`]), without what is volatile.

mod ahead;
mod whole;
mod words;

pub use ahead::{Ahead, Pair, groups};
pub use whole::{Whole, Wholes, read};
pub use words::differing;

use crate::carry;
use crate::held::{self, Holder};
use crate::location::Location;
use crate::metastore::{Batch, CHUNK, Change, Result, Snapshot};
use crate::model::{ColumnStatistics, Partition, PartitionName, Table, TableName};
use crate::object::Object;
use crate::policy::Policy;
use crate::rewrites::Rewrites;
use crate::translate::translate;
use crate::volatile::{strip, strip_sketches};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Both metastores open for reading, and what stands between them.
#[derive(Clone)]
pub struct Sides {
    /// The source.
    pub source: Arc<dyn Snapshot>,
    /// The target.
    pub target: Arc<dyn Snapshot>,
    /// Names, locations, options.
    pub policy: Arc<Policy>,
    /// What the target can hold.
    pub holder: Holder,
    /// What the source is.
    pub source_holder: Holder,
}

/// An object as the target shall hold it. `told` hears what becomes otherwise in it. Errors: why it cannot.
pub fn expected(object: Object, sides: &Sides, told: &mut Rewrites) -> Result<Object, String> {
    let name = object.to_string();
    let translated = translate(object, &sides.policy, told).map_err(|why| format!("{name}: {why}"))?;
    let (held, met) = held::hold(translated, sides.holder).map_err(|error| error.to_string())?;
    met.into_iter().for_each(|limit| told.limit(limit));
    Ok(held)
}

/// What becomes otherwise in a table and in what belongs to it, but for its partitions.
#[derive(Debug, Default)]
pub struct WholeRewrites {
    /// In the table.
    pub table: Rewrites,
    /// In its constraints.
    pub constraints: Rewrites,
    /// In its statistics.
    pub statistics: Rewrites,
}

impl WholeRewrites {
    /// Of what these changes write.
    pub fn of<'a>(self, changes: impl IntoIterator<Item = &'a Change>) -> Rewrites {
        let (mut all, mut left) = (Rewrites::default(), self);
        for change in changes {
            match change {
                Change::PutTable(_) => all.merge(std::mem::take(&mut left.table)),
                Change::PutConstraint(_) => all.merge(std::mem::take(&mut left.constraints)),
                Change::PutTableStatistics { .. } => all.merge(std::mem::take(&mut left.statistics)),
                _ => {}
            }
        }
        all
    }
}

/// A table as the target shall hold it. What the target has of constraints that cannot be read stays. `told` hears what becomes
/// otherwise in it. Errors: why it cannot.
pub fn expected_whole(
    whole: Whole,
    actual: Option<&Whole>,
    sides: &Sides,
    told: &mut WholeRewrites,
) -> Result<Whole, String> {
    let name = whole.table.name.clone();
    let Object::Table(table) = expected(Object::Table(Box::new(whole.table)), sides, &mut told.table)? else {
        return Err(format!("table {name}: it became something else"));
    };
    let mut constraints = Vec::new();
    for constraint in whole.constraints {
        if let Object::Constraint(constraint) = expected(Object::Constraint(constraint), sides, &mut told.constraints)?
        {
            constraints.push(constraint);
        }
    }
    if !whole.unread.is_empty() {
        let there = actual.into_iter().flat_map(|actual| &actual.constraints);
        constraints.extend(there.filter(|constraint| whole.unread.contains(&constraint.name)).cloned());
        constraints.sort();
    }
    let mut statistics = Vec::new();
    for of_column in whole.statistics {
        let object = Object::TableStatistics { table: name.clone(), statistics: of_column };
        if let Object::TableStatistics { statistics: of_column, .. } = expected(object, sides, &mut told.statistics)? {
            statistics.push(of_column);
        }
    }
    Ok(Whole { table: *table, constraints, statistics, unread: whole.unread })
}

/// The line of an object by which it is compared.
pub fn line(mut object: Object) -> Vec<u8> {
    strip(&mut object);
    if let Object::TableStatistics { statistics, .. } | Object::PartitionStatistics { statistics, .. } = &mut object {
        strip_sketches(statistics);
    }
    // A dump prints the same but for sketches; what has no JSON form has no such line, and is equal to nothing.
    serde_json::to_vec(&object).unwrap_or_else(|error| error.to_string().into_bytes())
}

/// A digest over lines, in their order.
#[derive(Clone, Default)]
pub struct Lines(blake3::Hasher);

impl Lines {
    /// Adds a line.
    pub fn add(&mut self, line: &[u8]) {
        self.0.update(&(line.len() as u64).to_le_bytes());
        self.0.update(line);
    }

    /// The digest so far, in hex.
    pub fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// What of a table itself has to change.
#[derive(Debug, Default, PartialEq)]
pub struct Head {
    /// It cannot be altered into what it shall be: it is dropped and made again, with all its partitions.
    pub recreate: bool,
    /// In order.
    pub changes: Vec<Change>,
    /// Foreign keys: when all tables are there.
    pub late: Vec<Change>,
}

fn lines_of(whole: &Whole) -> impl Iterator<Item = Vec<u8>> {
    let name = whole.table.name.clone();
    let table = std::iter::once(line(Object::Table(Box::new(whole.table.clone()))));
    let constraints = whole.constraints.iter().cloned().map(|constraint| line(Object::Constraint(constraint)));
    let statistics = whole.statistics.iter().cloned();
    let statistics =
        statistics.map(move |statistics| line(Object::TableStatistics { table: name.clone(), statistics }));
    table.chain(constraints).chain(statistics)
}

/// Adds a table's own lines to a digest.
pub fn add_head(whole: &Whole, lines: &mut Lines) {
    lines_of(whole).for_each(|line| lines.add(&line));
}

/// Pure: what of the table itself, its constraints and statistics has to change.
pub fn head(expected: &Whole, actual: Option<&Whole>) -> Head {
    let name = &expected.table.name;
    let mut head = Head::default();
    let put = Change::PutTable(Box::new(expected.table.clone()));
    let actual = match actual {
        Some(actual) if actual.table.partition_keys != expected.table.partition_keys => {
            head.recreate = true;
            head.changes.push(Change::DropTable(name.clone()));
            None
        }
        other => other,
    };
    let as_line = |table: &Table| line(Object::Table(Box::new(table.clone())));
    if actual.is_none_or(|actual| as_line(&actual.table) != as_line(&expected.table)) {
        head.changes.push(put);
    }
    constraint_changes(expected, actual, &mut head);
    statistics_changes(expected, actual, &mut head);
    head
}

fn constraint_changes(expected: &Whole, actual: Option<&Whole>, head: &mut Head) {
    let there = actual.map_or(&[][..], |actual| &actual.constraints);
    for old in there {
        if !expected.constraints.iter().any(|new| new.name == old.name) {
            head.changes.push(Change::DropConstraint { table: old.table.clone(), name: old.name.clone() });
        }
    }
    for new in expected.constraints.iter().filter(|new| !there.contains(new)) {
        let late = Object::Constraint(new.clone()).is_foreign_key();
        let changes = if late { &mut head.late } else { &mut head.changes };
        changes.push(Change::PutConstraint(new.clone()));
    }
}

fn statistics_changes(expected: &Whole, actual: Option<&Whole>, head: &mut Head) {
    let name = &expected.table.name;
    let there = actual.map_or(&[][..], |actual| &actual.statistics);
    let (gone, put) = statistics_diff(&expected.statistics, there);
    for column in gone {
        head.changes.push(Change::DropTableStatistics { table: name.clone(), column: Some(column) });
    }
    if !put.is_empty() {
        head.changes.push(Change::PutTableStatistics { table: name.clone(), statistics: put });
    }
}

/// Columns whose statistics go, and statistics to put. A column of which one engine's go loses all, and gets the others back.
fn statistics_diff(expected: &[ColumnStatistics], there: &[ColumnStatistics]) -> (Vec<String>, Vec<ColumnStatistics>) {
    let same = |a: &ColumnStatistics, b: &ColumnStatistics| a.column == b.column && a.engine == b.engine;
    let compared = |statistics: &ColumnStatistics| {
        let mut compared = ColumnStatistics { last_analyzed: 0, ..statistics.clone() };
        strip_sketches(&mut compared);
        compared
    };
    let mut gone: Vec<String> =
        there.iter().filter(|old| !expected.iter().any(|new| same(old, new))).map(|old| old.column.clone()).collect();
    gone.sort();
    gone.dedup();
    let stays = |new: &ColumnStatistics| {
        !gone.contains(&new.column) && there.iter().any(|old| same(old, new) && compared(old) == compared(new))
    };
    let put = expected.iter().filter(|new| !stays(new)).cloned().collect();
    (gone, put)
}

/// A digest of one partition with its statistics, as the target shall hold it.
pub type Stamp = [u8; 16];

/// A chunk of partitions by name: what they shall be, with their stamp, and what they are.
pub struct Chunk {
    /// In order of names: name, what it shall be, what it is.
    pub rows: Vec<(PartitionName, Option<Shall>, Option<Is>)>,
    /// Why the source's side of it is not whole. What the target holds is.
    pub trouble: Option<String>,
}

/// A partition as the target shall hold it.
pub struct Shall {
    /// The partition.
    pub partition: Partition,
    /// Its statistics.
    pub statistics: Vec<ColumnStatistics>,
    /// Its folder at the source, if that is not where its name leads from its table's.
    pub displaced: Option<Location>,
    /// Of all its lines.
    pub stamp: Stamp,
    /// What becomes otherwise in it.
    pub rewrites: Rewrites,
}

/// A partition as the target holds it.
pub struct Is {
    /// Its folder, if that is not inside its table's.
    pub outside: Option<Location>,
    /// Its statistics.
    pub statistics: Vec<ColumnStatistics>,
    /// Of all its lines.
    pub stamp: Stamp,
}

fn stamp(table: &TableName, name: &PartitionName, partition: &Partition, statistics: &[ColumnStatistics]) -> Stamp {
    let mut hasher = Lines::default();
    let (table, partition_name) = (table.clone(), name.clone());
    let of_column = statistics.iter().cloned().map(|statistics| Object::PartitionStatistics {
        table: table.clone(),
        partition_name: partition_name.clone(),
        statistics,
    });
    let statistics: Vec<Vec<u8>> = of_column.map(line).collect();
    let partition = Box::new(partition.clone());
    hasher.add(&line(Object::Partition { table, partition_name, partition }));
    statistics.iter().for_each(|line| hasher.add(line));
    let mut short = Stamp::default();
    short.copy_from_slice(&hasher.0.finalize().as_bytes()[..16]);
    short
}

/// Why a table's partitions cannot be compared.
#[derive(Debug)]
pub enum Trouble {
    /// The metastore's error, which ends the run or is retried.
    Metastore(crate::metastore::Error),
    /// Something about this table.
    Table(String),
}

impl From<crate::metastore::Error> for Trouble {
    fn from(error: crate::metastore::Error) -> Self {
        Self::Metastore(error)
    }
}

/// Hands the partitions of both tables to `sink`, chunk by chunk in the order of names. `source` is the table as it is at the
/// source, `target` the name on the target, `actual` the table there, if its partitions count, `ahead` what was read of them.
pub async fn partitions(
    sides: &Sides,
    source: &Table,
    target: &TableName,
    actual: Option<&Table>,
    ahead: Option<Ahead>,
    sink: &mut (dyn AsyncSink + Send),
) -> Result<(), Trouble> {
    if let Some(Ahead { source: from_source, target: from_target }) = ahead {
        let from_target = if actual.is_some() { from_target } else { Ok(Vec::new()) };
        let chunk = meet(sides, source, target, actual, from_source, from_target)?;
        return match chunk.rows.is_empty() && chunk.trouble.is_none() {
            true => Ok(()),
            false => sink.chunk(chunk).await,
        };
    }
    let wanted = match source.partition_keys.is_empty() {
        true => Vec::new(),
        false => sides.source.partition_names(&source.name).await?,
    };
    let there = match actual {
        Some(actual) if !actual.partition_keys.is_empty() => sides.target.partition_names(target).await?,
        _ => Vec::new(),
    };
    let chunks = chunked(wanted, there);
    let calls = sides.source.parallel_calls().min(sides.target.parallel_calls()).max(1);
    let mut chunks = stream::iter(chunks)
        .map(async |(wanted, there): NamesOfBoth| read_chunk(sides, source, target, actual, wanted, there).await)
        .buffered(calls);
    // The next one is read while this one is written: either would wait for the other's server.
    let mut next = chunks.try_next().await?;
    while let Some(chunk) = next {
        let (taken, read) = futures::join!(sink.chunk(chunk), chunks.try_next());
        taken?;
        next = read?;
    }
    Ok(())
}

/// What takes chunks.
#[async_trait::async_trait]
pub trait AsyncSink {
    /// Takes the next chunk.
    async fn chunk(&mut self, chunk: Chunk) -> Result<(), Trouble>;
}

/// Names of the source and of the target.
type NamesOfBoth = (Vec<PartitionName>, Vec<PartitionName>);

/// Two sorted lists of names in pieces that cover the same stretch of names, neither longer than [`CHUNK`].
fn chunked(wanted: Vec<PartitionName>, there: Vec<PartitionName>) -> Vec<NamesOfBoth> {
    let (mut wanted, mut there) = (wanted.into_iter().peekable(), there.into_iter().peekable());
    let mut chunks = Vec::new();
    loop {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        while left.len() < CHUNK && right.len() < CHUNK {
            match (wanted.peek(), there.peek()) {
                (Some(a), Some(b)) if a == b => {
                    left.extend(wanted.next());
                    right.extend(there.next());
                }
                (Some(a), Some(b)) if a < b => left.extend(wanted.next()),
                (Some(_), None) => left.extend(wanted.next()),
                (_, Some(_)) => right.extend(there.next()),
                (None, None) => break,
            }
        }
        if left.is_empty() && right.is_empty() {
            return chunks;
        }
        chunks.push((left, right));
    }
}

async fn read_chunk(
    sides: &Sides,
    source: &Table,
    target: &TableName,
    actual: Option<&Table>,
    wanted: Vec<PartitionName>,
    there: Vec<PartitionName>,
) -> Result<Chunk, Trouble> {
    let with = sides.policy.options.statistics;
    let from_source = read_side(sides.source.as_ref(), Some(source), &wanted, with);
    let from_target = read_side(sides.target.as_ref(), actual, &there, with);
    let (from_source, from_target) = futures::join!(from_source, from_target);
    meet(sides, source, target, actual, from_source, from_target)
}

/// Both sides of a stretch of names in one chunk. What is wrong with the source's side is said in it.
fn meet(
    sides: &Sides,
    source: &Table,
    target: &TableName,
    actual: Option<&Table>,
    from_source: Result<Read, Trouble>,
    from_target: Result<Read, Trouble>,
) -> Result<Chunk, Trouble> {
    let mut trouble = None;
    let from_source = match from_source {
        Err(Trouble::Table(why)) => {
            trouble = Some(why);
            Vec::new()
        }
        other => other?,
    };
    let mut rows: BTreeMap<PartitionName, (Option<Shall>, Option<Is>)> = BTreeMap::new();
    for (name, (partition, statistics)) in from_source {
        match shall(sides, source, target, &name, partition, statistics) {
            Ok(shall) => rows.entry(name).or_default().0 = Some(shall),
            Err(why) => trouble = trouble.or(Some(why)),
        }
    }
    for (name, (partition, statistics)) in from_target? {
        let stamp = stamp(target, &name, &partition, &statistics);
        let outside = actual.and_then(|actual| carry::outside(actual, &partition));
        rows.entry(name).or_default().1 = Some(Is { outside, statistics, stamp });
    }
    Ok(Chunk { rows: rows.into_iter().map(|(name, (shall, is))| (name, shall, is)).collect(), trouble })
}

type Read = Vec<(PartitionName, (Partition, Vec<ColumnStatistics>))>;

async fn read_side(
    snapshot: &dyn Snapshot,
    table: Option<&Table>,
    names: &[PartitionName],
    statistics: bool,
) -> Result<Read, Trouble> {
    let Some(table) = table.filter(|_| !names.is_empty()) else { return Ok(Vec::new()) };
    let batch = snapshot.partitions(table, names).await?;
    let of_columns = match statistics {
        true => snapshot.partition_statistics(table, names).await?,
        false => Vec::new(),
    };
    to_read(table, batch, of_columns)
}

/// Partitions by name with their statistics, if all of them are whole.
fn to_read(
    table: &Table,
    batch: Batch<Partition>,
    statistics: Vec<(PartitionName, ColumnStatistics)>,
) -> Result<Read, Trouble> {
    if let Some(damaged) = batch.damaged.first() {
        return Err(Trouble::Table(format!("{} is damaged: {}", damaged.object, damaged.why)));
    }
    let mut of_columns: HashMap<PartitionName, Vec<ColumnStatistics>> = HashMap::new();
    for (name, of_column) in statistics {
        of_columns.entry(name).or_default().push(of_column);
    }
    let mut read = Vec::with_capacity(batch.found.len());
    for partition in batch.found {
        let keys = table.partition_keys.iter().map(|key| key.name.as_str());
        let name = PartitionName::of(keys, &partition.values)
            .map_err(|why| Trouble::Table(format!("partition {:?} of {}: {why}", partition.values, table.name)))?;
        let statistics = of_columns.remove(&name).unwrap_or_default();
        read.push((name, (partition, statistics)));
    }
    Ok(read)
}

fn shall(
    sides: &Sides,
    source: &Table,
    target: &TableName,
    name: &PartitionName,
    partition: Partition,
    statistics: Vec<ColumnStatistics>,
) -> Result<Shall, String> {
    let displaced = carry::displaced(source, name, &partition);
    let object =
        Object::Partition { table: source.name.clone(), partition_name: name.clone(), partition: Box::new(partition) };
    let mut rewrites = Rewrites::default();
    let Object::Partition { partition, .. } = expected(object, sides, &mut rewrites)? else {
        return Err(format!("partition {name} of {}: it became something else", source.name));
    };
    let mut of_columns = Vec::with_capacity(statistics.len());
    for statistics in statistics {
        let object =
            Object::PartitionStatistics { table: source.name.clone(), partition_name: name.clone(), statistics };
        if let Object::PartitionStatistics { statistics, .. } = expected(object, sides, &mut rewrites)? {
            of_columns.push(statistics);
        }
    }
    let stamp = stamp(target, name, &partition, &of_columns);
    Ok(Shall { partition: *partition, statistics: of_columns, displaced, stamp, rewrites })
}

/// Pure: the changes that make the partitions of a chunk what they shall be.
pub fn partition_changes(table: &TableName, rows: Vec<(PartitionName, Option<Shall>, Option<Is>)>) -> Vec<Change> {
    let (mut drop, mut put, mut put_statistics) = (Vec::new(), Vec::new(), Vec::new());
    let mut drop_statistics = Vec::new();
    for (name, shall, is) in rows {
        match (shall, is) {
            (None, Some(_)) => drop.push(name),
            (None, None) => {}
            (Some(shall), is) => {
                if is.as_ref().is_some_and(|is| is.stamp == shall.stamp) {
                    continue;
                }
                let there = is.map(|is| is.statistics).unwrap_or_default();
                let (gone, statistics) = statistics_diff(&shall.statistics, &there);
                drop_statistics.extend(gone.into_iter().map(|column| Change::DropPartitionStatistics {
                    table: table.clone(),
                    partition: name.clone(),
                    column: Some(column),
                }));
                if !statistics.is_empty() {
                    put_statistics.push((name, statistics));
                }
                put.push(shall.partition);
            }
        }
    }
    let mut changes = Vec::new();
    if !drop.is_empty() {
        changes.push(Change::DropPartitions { table: table.clone(), names: drop });
    }
    if !put.is_empty() {
        changes.push(Change::PutPartitions { table: table.clone(), partitions: put });
    }
    changes.extend(drop_statistics);
    if !put_statistics.is_empty() {
        changes.push(Change::PutPartitionStatistics { table: table.clone(), statistics: put_statistics });
    }
    changes
}

#[cfg(test)]
mod tests;
