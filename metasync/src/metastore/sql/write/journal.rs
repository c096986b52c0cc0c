//! What a batch did, kept until its end for the event log (rule 33). Where no log is written nothing is kept and nothing
//! read for it.
//!
//! What an object was before it is changed is read in the same transaction, once its row is locked; what did not change is
//! no event.

use super::Writer;
use crate::event::write::{Happened, of_one_moment};
use crate::metastore::Result;
use crate::metastore::sql::read::{partitions, tables};
use crate::model::{
    ColumnStatistics, Constraint, ConstraintKind, Database, Function, Parameters, Partition, PartitionName, Table,
    TableName,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Tables that are remembered as messages need them; more, and it starts anew.
const REMEMBERED_TABLES: usize = 100;

/// What happened so far.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) pending: VecDeque<Happened>,
    tables: HashMap<TableName, Arc<Table>>,
}

impl Journal {
    fn remember(&mut self, table: &Arc<Table>) {
        if self.tables.len() >= REMEMBERED_TABLES {
            self.tables.clear();
        }
        self.tables.insert(table.name.clone(), Arc::clone(table));
    }

    pub(super) fn forget(&mut self, name: &TableName) {
        self.tables.remove(name);
    }
}

impl Writer<'_> {
    /// Whether what happens is kept.
    pub(super) fn logs(&self) -> bool {
        self.journal.is_some()
    }

    /// Keeps something that happened.
    pub(super) fn note(&mut self, happened: Happened) {
        if let Some(journal) = &mut self.journal {
            journal.pending.push_back(happened);
        }
    }

    /// A table as it is now, where what happens is kept. Of a damaged one what can be read.
    pub(super) async fn before(&mut self, name: &TableName) -> Result<Option<Arc<Table>>> {
        if !self.logs() {
            return Ok(None);
        }
        let names = std::slice::from_ref(&name.table);
        let found = tables::tables(self.reader, &name.database(), names).await?.0.pop();
        let table = found.map(|found| Arc::new(found.table));
        if let (Some(journal), Some(table)) = (&mut self.journal, &table) {
            journal.remember(table);
        }
        Ok(table)
    }

    /// The same, from memory if this batch has seen it.
    pub(super) async fn table_now(&mut self, name: &TableName) -> Result<Option<Arc<Table>>> {
        match self.journal.as_ref().and_then(|journal| journal.tables.get(name)) {
            Some(table) => Ok(Some(Arc::clone(table))),
            None => self.before(name).await,
        }
    }

    pub(super) fn note_database(&mut self, before: Option<Database>, after: &Database) {
        if !self.logs() || before.as_ref() == Some(after) {
            return;
        }
        let after = Box::new(after.clone());
        self.note(match before {
            Some(before) => Happened::AlteredDatabase { before: Box::new(before), after },
            None => Happened::CreatedDatabase(after),
        });
    }

    /// A table was put.
    pub(super) fn note_table(&mut self, before: Option<Arc<Table>>, after: &Table) {
        let Some(journal) = &mut self.journal else { return };
        let after = match &before {
            Some(before) if **before == *after => return journal.remember(before),
            _ => Arc::new(after.clone()),
        };
        journal.remember(&after);
        journal.pending.push_back(match before {
            Some(before) => Happened::AlteredTable { before, after, emptied: false },
            None => Happened::CreatedTable(after),
        });
    }

    /// Partitions were put; `before` are those that were there, as far as they could be read.
    pub(super) async fn note_partitions(
        &mut self,
        table: &TableName,
        mut before: HashMap<PartitionName, Option<Partition>>,
        after: &BTreeMap<PartitionName, &Partition>,
    ) -> Result<()> {
        let Some(table) = self.table_now(table).await? else { return Ok(()) };
        let mut partitions = Vec::new();
        for (name, after) in after {
            match before.remove(name) {
                None => partitions.push(Partition::clone(after)),
                Some(Some(before)) if before == **after => (),
                Some(before) => self.note(Happened::AlteredPartition {
                    table: Arc::clone(&table),
                    // What a damaged one was nobody can say.
                    before: Box::new(before.unwrap_or_else(|| Partition::clone(after))),
                    after: Box::new(Partition::clone(after)),
                    emptied: false,
                }),
            }
        }
        if !partitions.is_empty() {
            self.note(Happened::AddedPartitions { table, partitions });
        }
        Ok(())
    }

    /// Files of a table, or of a partition of it, are gone on purpose.
    pub(super) async fn note_emptied(&mut self, name: &TableName, partition: Option<&PartitionName>) -> Result<()> {
        if !self.logs() {
            return Ok(());
        }
        let Some(table) = self.table_now(name).await? else { return Ok(()) };
        let Some(partition) = partition else {
            self.note(Happened::AlteredTable { before: Arc::clone(&table), after: table, emptied: true });
            return Ok(());
        };
        let found = partitions::partitions(self.reader, &table, std::slice::from_ref(partition)).await?.found.pop();
        if let Some(found) = found {
            let (before, after) = (Box::new(found.clone()), Box::new(found));
            self.note(Happened::AlteredPartition { table, before, after, emptied: true });
        }
        Ok(())
    }

    /// A function was put.
    pub(super) fn note_function(&mut self, before: Option<Function>, after: &Function) {
        if !self.logs() || before.as_ref() == Some(after) {
            return;
        }
        // Hive has no event for an altered one.
        if let Some(Function { database, name, .. }) = before {
            self.note(Happened::DroppedFunction { database, name });
        }
        self.note(Happened::CreatedFunction(Box::new(after.clone())));
    }

    /// A constraint was put.
    pub(super) async fn note_constraint(&mut self, before: Option<Constraint>, after: &Constraint) -> Result<()> {
        if before.as_ref().is_some_and(|before| same_constraint(before, after)) {
            return Ok(());
        }
        let Some(table) = self.table_now(&after.table).await? else { return Ok(()) };
        // Hive cannot alter one.
        if let Some(Constraint { name, .. }) = before {
            self.note(Happened::DroppedConstraint { table: Arc::clone(&table), name });
        }
        self.note(Happened::AddedConstraint { table, constraint: Box::new(after.clone()) });
        Ok(())
    }

    /// Statistics of a table were put; `before` are all that it had.
    pub(super) async fn note_statistics(
        &mut self,
        table: &TableName,
        before: &[ColumnStatistics],
        after: &[ColumnStatistics],
    ) -> Result<()> {
        let Some(table) = self.table_now(table).await? else { return Ok(()) };
        let changed = after.iter().filter(|each| !before.contains(each)).cloned().collect();
        for statistics in of_one_moment(changed) {
            self.note(Happened::PutTableStatistics { table: Arc::clone(&table), statistics });
        }
        Ok(())
    }

    /// The same for a partition.
    pub(super) async fn note_partition_statistics(
        &mut self,
        table: &TableName,
        (partition, parameters): (&PartitionName, Parameters),
        before: &[ColumnStatistics],
        after: &[ColumnStatistics],
    ) -> Result<()> {
        let Some(table) = self.table_now(table).await? else { return Ok(()) };
        let changed = after.iter().filter(|each| !before.contains(each)).cloned().collect();
        for statistics in of_one_moment(changed) {
            self.note(Happened::PutPartitionStatistics {
                table: Arc::clone(&table),
                partition: partition.clone(),
                parameters: parameters.clone(),
                statistics,
            });
        }
        Ok(())
    }
}

/// Equal but for the name of the key that a foreign key refers to, which no schema keeps.
fn same_constraint(a: &Constraint, b: &Constraint) -> bool {
    let without = |constraint: &Constraint| {
        let mut constraint = constraint.clone();
        if let ConstraintKind::ForeignKey { parent_key, .. } = &mut constraint.kind {
            *parent_key = None;
        }
        constraint
    };
    without(a) == without(b)
}
