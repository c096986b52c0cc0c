//! Makes the target's metadata what the survey said, once the data stands there.
//!
//! Both sides are read again, so that nothing is held open while data is copied for hours. What is not any more as the survey
//! saw it waits for the next run: its data may not be there. Every change is idempotent; a table's first batch holds all of it
//! but further partitions; small tables share one, and the last of a run says how far the replica is (`pending`). A crash
//! leaves tables in any state between, which the intent of the checkpoint names: of an event about more partitions than one
//! batch holds, some may stand, and how far the replica is has not moved.

mod pending;

use super::survey::{DatabaseWork, Drop, LAST_ID, Survey, TableWork};
use super::{failure, hops, seal, until, writes};
use crate::carry;
use crate::compare::{
    self, AsyncSink, Chunk, Lines, Pair, Sides, Stamp, Trouble, Whole, WholeRewrites, add_head, expected_whole, head,
    partition_changes,
};
use crate::location::Location;
use crate::metastore::{Change, Error, Metastore};
use crate::model::{DatabaseName, Function, PartitionName, TableName};
use distcp::error::{Failure, Result};
use distcp::job::Stop;
use distcp::progress::{Progress, count};
use futures::{TryFutureExt as _, TryStreamExt as _};
use manifest::Class;
use manifest::state::lease::LeaseGuard;
use pending::{Part, Pending, TableDone};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Tables that are read at once.
const TABLES_AT_ONCE: usize = 200;

/// How the tables of a survey ended, by their place in it.
#[derive(Default)]
pub struct Applied {
    /// What the target holds of each table that was changed: digest and partitions.
    pub done: BTreeMap<usize, (String, u64)>,
    /// Tables that the target refused, or that could not be read any more.
    pub failed: BTreeMap<usize, String>,
    /// Tables that changed at the source meanwhile: the next run goes on with them.
    pub behind: BTreeSet<usize>,
    /// Tables that were dropped.
    pub dropped: BTreeSet<TableName>,
    /// Databases that were dropped.
    pub gone: BTreeSet<String>,
    /// Tables that the target did not drop, with why.
    pub undropped: BTreeMap<TableName, String>,
    /// Databases that the target did not drop, with why.
    pub kept: BTreeMap<String, String>,
    /// Databases whose functions could not be brought into step, with why.
    pub functions: BTreeMap<String, String>,
}

/// What applying needs.
pub struct Applier<'a> {
    /// Both sides, opened after the data was copied.
    pub sides: &'a Sides,
    /// The target.
    pub target: &'a dyn Metastore,
    /// What is to be done.
    pub survey: &'a Survey,
    /// Tables whose data is not there.
    pub skip: &'a BTreeSet<usize>,
    /// Databases whose functions lack a file, with why.
    pub skip_functions: &'a BTreeMap<usize, String>,
    /// Folders of the target of which nothing is on record that is to go: their tables are not dropped (rule 28).
    pub skip_folders: &'a [Location],
    /// Asked before every write.
    pub guard: LeaseGuard,
    /// Heard before every write.
    pub stop: &'a Stop,
    /// Told what was written.
    pub progress: &'a Progress,
}

impl Applier<'_> {
    /// Changes everything, and says on the target that it is as far as `event`, where all is meant. Always with what was done.
    /// Errors: the target cannot be reached, the lease is lost, or a signal was heard.
    pub async fn apply(&self, event: Option<i64>) -> (Applied, Result<()>) {
        let mut pending = Pending::default();
        let result = self.all(event, &mut pending).await;
        (pending.applied, result)
    }

    async fn all(&self, event: Option<i64>, pending: &mut Pending) -> Result<()> {
        let databases = self.survey.databases.iter().flat_map(|database| database.changes.iter().cloned());
        let marks = hops::marks(&self.sides.policy, self.survey);
        pending.add(self, Part::Run, databases.chain(marks).collect()).await?;
        for drop in self.survey.drops.iter().filter(|drop| !self.waits(drop)) {
            let table = drop.target.clone();
            pending.add(self, Part::Dropped(table.clone()), vec![Change::DropTable(table)]).await?;
        }
        let mut late = Vec::new();
        // What is made of other tables comes after those of all databases.
        let mut by_database: BTreeMap<(bool, DatabaseName), Vec<usize>> = BTreeMap::new();
        for (at, table) in self.survey.tables.iter().enumerate() {
            if table.differs() && !self.skip.contains(&at) {
                by_database.entry((table.made_of_others, table.source.database())).or_default().push(at);
            }
        }
        for ((_, database), tables) in &by_database {
            for tables in tables.chunks(TABLES_AT_ONCE) {
                self.tables(database, tables, pending, &mut late).await?;
            }
        }
        for (at, changes) in late {
            pending.add(self, Part::Late(at), changes).await?;
        }
        for (at, database) in self.survey.databases.iter().enumerate() {
            if database.functions.is_empty() {
                continue;
            }
            if let Some(why) = self.skip_functions.get(&at) {
                pending.applied.functions.insert(database.target.database.clone(), why.clone());
                continue;
            }
            let part = Part::Functions(database.target.database.clone());
            pending.add(self, part, database.functions.clone()).await?;
        }
        if !self.survey.gone.is_empty() {
            // A database goes only when it is empty.
            pending.flush(self).await?;
        }
        for database in &self.survey.gone {
            if let Some((table, _)) = pending.applied.undropped.iter().find(|(table, _)| table.database() == *database)
            {
                let why = format!("it still holds {}", table.table);
                pending.applied.kept.insert(database.database.clone(), why);
                continue;
            }
            if self.survey.drops.iter().any(|drop| drop.target.database() == *database && self.waits(drop)) {
                continue;
            }
            let changes = self.database_drop(database).await?;
            pending.add(self, Part::Gone(database.database.clone()), changes).await?;
        }
        if let Some(event) = event {
            let mut last = self.advance(event);
            last.extend(seal::renewed(&self.sides.policy.name, self.survey, &pending.digests()));
            pending.add(self, Part::Run, last).await?;
        }
        pending.flush(self).await
    }

    /// Says on the target how far it is.
    fn advance(&self, event: i64) -> Vec<Change> {
        let value = event.to_string();
        let moves = self.survey.databases.iter().filter(|database| database.last_id.as_ref() != Some(&value));
        let change = |database: &DatabaseWork| Change::SetDatabaseParameter {
            database: database.target.clone(),
            key: LAST_ID.to_owned(),
            expected: database.last_id.clone(),
            value: Some(value.clone()),
        };
        moves.map(change).collect()
    }

    /// Whether its files would not be on record: their job says why.
    fn waits(&self, drop: &Drop) -> bool {
        drop.folders.iter().any(|folder| self.skip_folders.iter().any(|skipped| skipped.is_same(folder)))
    }

    async fn write(&self, changes: &[Change]) -> Result<(), Error> {
        self.write_some(&[changes]).await.map(drop)
    }

    /// Writes the first of these parts, each whole, and says how many.
    async fn write_some(&self, parts: &[&[Change]]) -> Result<usize, Error> {
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(parts.len());
        }
        self.guard.check().map_err(|error| Error::Conflict {
            operation: "write to".to_owned(),
            object: self.target.place(),
            why: error.to_string(),
        })?;
        let written = self.target.apply_some(parts).await?;
        let changes = parts.iter().take(written).copied().flatten();
        count(&self.progress.done_metadata, changes.map(partitions_of).sum::<usize>() as u64);
        Ok(written)
    }

    /// The words for a table's own error; what is not the table's ends the run.
    fn of_table(&self, error: Error) -> Result<String> {
        match (&error, error.class()) {
            (Error::NoSpace { .. }, _) | (_, Class::Retryable | Class::Cancelled) => Err(failure(error)),
            _ => self.guard.check().map(|()| error.to_string()).map_err(Failure::from),
        }
    }

    async fn database_drop(&self, database: &DatabaseName) -> Result<Vec<Change>> {
        let functions = self.sides.target.functions(database).await.map_err(failure)?;
        let drop = |function: Function| Change::DropFunction { database: database.clone(), name: function.name };
        let drops = functions.found.into_iter().map(drop);
        Ok(drops.chain([Change::DropDatabase(database.clone())]).collect())
    }

    async fn tables(
        &self,
        database: &DatabaseName,
        tables: &[usize],
        pending: &mut Pending,
        late: &mut Vec<(usize, Vec<Change>)>,
    ) -> Result<()> {
        let work = |at: &usize| &self.survey.tables[*at];
        let sources: Vec<String> = tables.iter().map(|at| work(at).source.table.clone()).collect();
        let target = self.sides.policy.target_database(database);
        let with = self.sides.policy.options.statistics;
        let wanted = compare::read(self.sides.source.as_ref(), database, &sources, with);
        let there = compare::read(self.sides.target.as_ref(), &target, &sources, with);
        let both = async { futures::try_join!(wanted, there).map_err(failure) };
        let (mut wanted, mut there) = until::answered(self.stop, both).await?;
        let mut pairs = Vec::with_capacity(tables.len());
        for at in tables {
            let table = work(at);
            let actual = there.found.remove(&table.target.table);
            match wanted.found.remove(&table.source.table).filter(|whole| is_as_seen(table, whole)) {
                Some(source) => pairs.push(Pair { source, actual, at: *at, ahead: None }),
                None => {
                    pending.applied.behind.insert(*at);
                }
            }
        }
        let groups = compare::groups(self.sides, database, pairs).await.map_err(failure)?;
        let mut groups = std::pin::pin!(groups);
        // The next group is read while this one is written: either would wait for the other's server.
        let mut next = until::answered(self.stop, groups.try_next().map_err(failure)).await?;
        while let Some(group) = next {
            let read = until::answered(self.stop, groups.try_next().map_err(failure));
            let (written, read) = futures::join!(self.group(group, pending, late), read);
            written?;
            next = read?;
        }
        Ok(())
    }

    async fn group(&self, group: Vec<Pair>, pending: &mut Pending, late: &mut Vec<(usize, Vec<Change>)>) -> Result<()> {
        for pair in group {
            let at = pair.at;
            let changed = self.table(&self.survey.tables[at], pair, pending).await;
            if let Some(broken) = pending.broken.take() {
                return Err(broken);
            }
            match changed {
                Ok(changed) => {
                    late.extend((!changed.late.is_empty()).then_some((at, changed.late)));
                    pending.add(self, Part::Table(at, changed.done), changed.rest).await?;
                }
                Err(Trouble::Table(why)) => {
                    pending.applied.failed.insert(at, why);
                }
                Err(Trouble::Metastore(error)) => {
                    pending.applied.failed.insert(at, self.of_table(error)?);
                }
            }
        }
        Ok(())
    }

    /// Changes one table, but for its last batch.
    async fn table(&self, table: &TableWork, pair: Pair, pending: &mut Pending) -> Result<Changed, Trouble> {
        let Pair { source: whole, actual, ahead, .. } = pair;
        let source = whole.table.clone();
        let shall = expected_whole(whole, actual.as_ref(), self.sides, &mut WholeRewrites::default());
        let shall = shall.map_err(Trouble::Table)?;
        let found = head(&shall, actual.as_ref());
        let mut lines = Lines::default();
        add_head(&shall, &mut lines);
        let there = actual.as_ref().filter(|_| !found.recreate).map(|actual| &actual.table);
        let mut sink = Apply {
            applier: self,
            pending,
            planned: &table.put,
            target: &table.target,
            changes: found.changes,
            lines,
            partitions: 0,
            behind: false,
            is_first: true,
        };
        compare::partitions(self.sides, &source, &table.target, there, ahead, &mut sink).await?;
        let (mut changes, late) = (sink.changes, found.late);
        if let Some(acid) = &table.acid {
            sink.lines.add(&writes::line(acid.mark()));
            changes.push(acid.shown(&table.target, &self.survey.ended));
        }
        let done = TableDone { digest: sink.lines.hex(), partitions: sink.partitions, behind: sink.behind };
        Ok(Changed { done, rest: changes, late })
    }
}

/// Whether a table stands where the survey saw it, with as many keys, and is of the version whose files were copied: else its
/// data may not be there.
fn is_as_seen(table: &TableWork, whole: &Whole) -> bool {
    let place = whole.table.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
    let is_same_version = carry::iceberg_metadata(&whole.table) == table.iceberg;
    place == table.location && whole.table.partition_keys.len() == table.keys && is_same_version
}

/// The partitions that a change writes or drops.
fn partitions_of(change: &Change) -> usize {
    match change {
        Change::PutPartitions { partitions, .. } => partitions.len(),
        Change::DropPartitions { names, .. } => names.len(),
        _ => 0,
    }
}

/// A table of which all but the last batch is written.
struct Changed {
    done: TableDone,
    /// The last batch.
    rest: Vec<Change>,
    /// What comes after all tables.
    late: Vec<Change>,
}

/// Writes the partitions of a table chunk by chunk, the table itself with the first; each when the next one is there.
struct Apply<'a> {
    applier: &'a Applier<'a>,
    /// What shall stand before this table's partitions do.
    pending: &'a mut Pending,
    planned: &'a HashMap<PartitionName, Stamp>,
    target: &'a TableName,
    /// What is not written yet.
    changes: Vec<Change>,
    lines: Lines,
    partitions: u64,
    behind: bool,
    is_first: bool,
}

#[async_trait::async_trait]
impl AsyncSink for Apply<'_> {
    async fn chunk(&mut self, chunk: Chunk) -> Result<(), Trouble> {
        if let Some(why) = chunk.trouble {
            return Err(Trouble::Table(why));
        }
        let mut rows = Vec::with_capacity(chunk.rows.len());
        for (name, shall, is) in chunk.rows {
            let equal = shall.as_ref().zip(is.as_ref()).is_some_and(|(shall, is)| shall.stamp == is.stamp);
            let planned = shall.as_ref().is_some_and(|shall| self.planned.get(&name) == Some(&shall.stamp));
            let held = match (&shall, &is) {
                (Some(shall), _) if equal || planned => Some(shall.stamp),
                // It changed since its data was copied: it stays as it is until the next run.
                (Some(_), is) => {
                    self.behind = true;
                    is.as_ref().map(|is| is.stamp)
                }
                (None, _) => None,
            };
            if let Some(stamp) = held {
                self.lines.add(&stamp);
                self.partitions += 1;
            }
            if planned || shall.is_none() {
                rows.push((name, shall, is));
            }
        }
        if !std::mem::take(&mut self.is_first) {
            let before = std::mem::take(&mut self.changes);
            if let Err(broken) = self.pending.flush(self.applier).await {
                self.pending.broken = Some(broken);
                return Err(Trouble::Table(String::new()));
            }
            self.applier.write(&before).await?;
        }
        self.changes.extend(partition_changes(self.target, rows));
        Ok(())
    }
}
