//! Makes the target's metadata what the survey said, once the data stands there.
//!
//! Both sides are read again, so that nothing is held open while data is copied for hours. What is not any more as the survey
//! saw it waits for the next run: its data may not be there. Every change is idempotent; a table's first batch holds all of it
//! but further partitions, and small tables share one. A crash leaves tables in any state between, which the intent of the checkpoint names.

use super::survey::{Drop, LAST_ID, Survey, TableWork};
use super::{failure, hops};
use crate::compare::{
    self, AsyncSink, Chunk, Lines, Sides, Stamp, Trouble, add_head, expected_whole, head, partition_changes,
};
use crate::location::Location;
use crate::metastore::{Change, Error, Metastore};
use crate::model::{DatabaseName, Function, PartitionName, TableName};
use distcp::error::{Failure, Result};
use manifest::Class;
use manifest::state::lease::LeaseGuard;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Tables that are read, and dropped, at once.
const TABLES_AT_ONCE: usize = 200;
/// Partitions, and tables, that are written in one transaction, about: a table's own chunk is as large.
const GATHERED: usize = 1000;

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
    /// Asked before every write.
    pub guard: LeaseGuard,
}

impl Applier<'_> {
    /// Changes everything but how far the replica is. Errors: the target cannot be reached, or the lease is lost.
    pub async fn apply(&self) -> Result<Applied> {
        let mut applied = Applied::default();
        for database in &self.survey.databases {
            self.write(&database.changes).await.map_err(failure)?;
        }
        self.write(&hops::marks(self.sides, self.survey).await.map_err(failure)?).await.map_err(failure)?;
        for drops in self.survey.drops.chunks(TABLES_AT_ONCE) {
            self.drop_tables(drops, &mut applied).await?;
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
                self.tables(database, tables, &mut applied, &mut late).await?;
            }
        }
        for (at, change) in late {
            if let Err(error) = self.write(&[change]).await {
                applied.failed.entry(at).or_insert(self.of_table(error)?);
            }
        }
        for database in &self.survey.databases {
            if let Err(error) = self.write(&database.functions).await {
                applied.functions.insert(database.target.database.clone(), self.of_table(error)?);
            }
        }
        for database in &self.survey.gone {
            self.drop_database(database).await?;
            applied.gone.insert(database.database.clone());
        }
        Ok(applied)
    }

    /// Says on the target how far it is, where all was done.
    pub async fn advance(&self, event: i64) -> Result<()> {
        for database in &self.survey.databases {
            let value = event.to_string();
            if database.last_id.as_ref() == Some(&value) {
                continue;
            }
            let change = Change::SetDatabaseParameter {
                database: database.target.clone(),
                key: LAST_ID.to_owned(),
                expected: database.last_id.clone(),
                value: Some(value),
            };
            self.write(&[change]).await.map_err(failure)?;
        }
        Ok(())
    }

    async fn write(&self, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.guard.check().map_err(|error| Error::Conflict {
            operation: "write to".to_owned(),
            object: self.target.place(),
            why: error.to_string(),
        })?;
        self.target.apply(changes).await
    }

    /// The words for a table's own error; what is not the table's ends the run.
    fn of_table(&self, error: Error) -> Result<String> {
        match error.class() {
            Class::Retryable | Class::Cancelled => Err(failure(error)),
            _ => self.guard.check().map(|()| error.to_string()).map_err(Failure::from),
        }
    }

    async fn drop_tables(&self, drops: &[Drop], applied: &mut Applied) -> Result<()> {
        let changes: Vec<Change> = drops.iter().map(|drop| Change::DropTable(drop.target.clone())).collect();
        self.write(&changes).await.map_err(failure)?;
        applied.dropped.extend(drops.iter().map(|drop| drop.target.clone()));
        Ok(())
    }

    async fn drop_database(&self, database: &DatabaseName) -> Result<()> {
        let functions = self.sides.target.functions(database).await.map_err(failure)?;
        let drop = |function: Function| Change::DropFunction { database: database.clone(), name: function.name };
        let mut changes: Vec<Change> = functions.found.into_iter().map(drop).collect();
        changes.push(Change::DropDatabase(database.clone()));
        self.write(&changes).await.map_err(failure)
    }

    async fn tables(
        &self,
        database: &DatabaseName,
        tables: &[usize],
        applied: &mut Applied,
        late: &mut Vec<(usize, Change)>,
    ) -> Result<()> {
        let work = |at: &usize| &self.survey.tables[*at];
        let sources: Vec<String> = tables.iter().map(|at| work(at).source.table.clone()).collect();
        let target = self.sides.policy.target_database(database);
        let with = self.sides.policy.options.statistics;
        let wanted = compare::read(self.sides.source.as_ref(), database, &sources, with);
        let there = compare::read(self.sides.target.as_ref(), &target, &sources, with);
        let (mut wanted, mut there) = futures::try_join!(wanted, there).map_err(failure)?;
        let (mut gathered, mut weight) = (Vec::new(), 0);
        for at in tables {
            let table = work(at);
            let (whole, actual) = (wanted.found.remove(&table.source.table), there.found.remove(&table.target.table));
            match self.table(table, whole, actual).await {
                Ok(Some(done)) => {
                    weight += done.rest.iter().map(weight_of).sum::<usize>();
                    gathered.push((*at, done));
                    if weight >= GATHERED {
                        self.write_gathered(std::mem::take(&mut gathered), applied, late).await?;
                        weight = 0;
                    }
                }
                Ok(None) => {
                    applied.behind.insert(*at);
                }
                Err(Trouble::Table(why)) => {
                    applied.failed.insert(*at, why);
                }
                Err(Trouble::Metastore(error)) => {
                    applied.failed.insert(*at, self.of_table(error)?);
                }
            }
        }
        self.write_gathered(gathered, applied, late).await
    }

    /// Writes what is left of these tables in one transaction; if that is refused, each by itself, so that one table's trouble
    /// stays its own.
    async fn write_gathered(
        &self,
        gathered: Vec<(usize, TableDone)>,
        applied: &mut Applied,
        late: &mut Vec<(usize, Change)>,
    ) -> Result<()> {
        let (mut changes, mut parts) = (Vec::new(), Vec::with_capacity(gathered.len()));
        for (at, mut done) in gathered {
            let start = changes.len();
            changes.append(&mut done.rest);
            parts.push((at, start..changes.len(), done));
        }
        let mut refused = match self.write(&changes).await {
            Ok(()) => None,
            Err(error) => Some(self.of_table(error)?),
        };
        let alone = parts.len() == 1;
        for (at, range, done) in parts {
            let trouble = match (&mut refused, changes.get(range)) {
                (None, _) => None,
                (Some(why), _) if alone => Some(std::mem::take(why)),
                (Some(_), part) => match self.write(part.unwrap_or_default()).await {
                    Ok(()) => None,
                    Err(error) => Some(self.of_table(error)?),
                },
            };
            if let Some(why) = trouble {
                applied.failed.insert(at, why);
                continue;
            }
            late.extend(done.late.into_iter().map(|change| (at, change)));
            if done.behind {
                applied.behind.insert(at);
            }
            applied.done.insert(at, (done.digest, done.partitions));
        }
        Ok(())
    }

    /// Changes one table, but for its last batch; `None` if it is not as the survey saw it.
    async fn table(
        &self,
        table: &TableWork,
        whole: Option<compare::Whole>,
        actual: Option<compare::Whole>,
    ) -> Result<Option<TableDone>, Trouble> {
        let Some(whole) = whole else { return Ok(None) };
        let source = whole.table.clone();
        let place = source.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
        if place != table.location || source.partition_keys.len() != table.keys {
            return Ok(None);
        }
        let shall = expected_whole(whole, self.sides).map_err(Trouble::Table)?;
        let found = head(&shall, actual.as_ref());
        let mut lines = Lines::default();
        add_head(&shall, &mut lines);
        let there = actual.as_ref().filter(|_| !found.recreate).map(|actual| &actual.table);
        let mut sink = Apply {
            applier: self,
            planned: &table.put,
            target: &table.target,
            changes: found.changes,
            lines,
            partitions: 0,
            behind: false,
            is_first: true,
        };
        compare::partitions(self.sides, &source, &table.target, there, &mut sink).await?;
        Ok(Some(TableDone {
            digest: sink.lines.hex(),
            partitions: sink.partitions,
            behind: sink.behind,
            late: found.late,
            rest: sink.changes,
        }))
    }
}

struct TableDone {
    digest: String,
    partitions: u64,
    behind: bool,
    late: Vec<Change>,
    /// What is not written yet: the last batch.
    rest: Vec<Change>,
}

/// How much a change writes, about: its partitions.
fn weight_of(change: &Change) -> usize {
    match change {
        Change::PutPartitions { partitions, .. } => partitions.len(),
        Change::DropPartitions { names, .. } => names.len(),
        Change::PutPartitionStatistics { statistics, .. } => statistics.len(),
        _ => 1,
    }
}

/// Writes the partitions of a table chunk by chunk, the table itself with the first; each when the next one is there.
struct Apply<'a> {
    applier: &'a Applier<'a>,
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
            self.applier.write(&before).await?;
        }
        self.changes.extend(partition_changes(self.target, rows));
        Ok(())
    }
}
