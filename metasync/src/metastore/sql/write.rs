//! A batch of changes in one transaction.
//!
//! Never touches a file, and never a table that is not Hive's or ours. What is not committed is as if it had not been begun:
//! a crash, a lost connection or an error anywhere leaves the metastore as it was, but for reserved ids.

mod constraints;
mod databases;
mod drop;
mod functions;
mod journal;
mod lists;
pub(crate) mod log;
mod partitions;
pub(crate) mod privileges;
mod statistics;
mod storage;
mod tables;
mod transactions;

use super::ids::Ids;
use super::read::Reader;
use super::read::children::IDS_PER_STATEMENT;
use super::read::storage::ColumnCache;
use super::value::Value;
use crate::metastore::{Change, Error, Result};
use crate::model::{Column, PrincipalKind, TableName};
use journal::Journal;
use lists::Lists;
use std::collections::HashMap;
use std::sync::Arc;

/// Tables whose shape is remembered within a batch; more, and it starts anew.
const REMEMBERED_SHAPES: usize = 1000;

/// A batch that is being written: a connection in a transaction, and what was found out so far.
pub(crate) struct Writer<'a> {
    pub(crate) reader: &'a mut Reader,
    pub(crate) ids: Ids,
    shapes: HashMap<TableName, Arc<Shape>>,
    lists: Lists,
    /// What happened, where the metastore's own log is written.
    journal: Option<Journal>,
}

/// The rows of a table that others hang on.
#[derive(Debug)]
pub(crate) struct Shape {
    id: i64,
    sd: Option<i64>,
    serde: Option<i64>,
    cd: Option<i64>,
    columns: Arc<Vec<Column>>,
    keys: Vec<Column>,
}

impl<'a> Writer<'a> {
    /// `events`: what happens is kept for [`Self::end`].
    pub(crate) fn new(reader: &'a mut Reader, ids: Ids, events: bool) -> Self {
        reader.forget();
        // An attempt that was rolled back may have given a list's id to another one.
        reader.columns = ColumnCache::default();
        let journal = events.then(Journal::default);
        Self { reader, ids, shapes: HashMap::new(), lists: Lists::default(), journal }
    }

    /// Appends what happened to the event log: the last thing before the transaction ends.
    pub(crate) async fn end(&mut self) -> Result<()> {
        log::append(self).await
    }

    /// Does one change. The transaction is the caller's.
    pub(crate) async fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::PutCatalog(catalog) => databases::put_catalog(self, catalog).await,
            Change::DropCatalog(name) => databases::drop_catalog(self, name).await,
            Change::PutDatabase(database) => databases::put(self, database).await,
            Change::DropDatabase(name) => databases::drop(self, name).await,
            Change::SetDatabaseParameter { database, key, expected, value } => {
                databases::set_parameter(self, database, key, expected.as_deref(), value.as_deref()).await
            }
            Change::PutTable(table) => tables::put(self, table).await,
            Change::RenameTable { from, to } => tables::rename(self, from, to).await,
            Change::DropTable(name) => drop::table(self, name).await,
            Change::PutPartitions { table, partitions } => partitions::put(self, table, partitions).await,
            Change::RenamePartition { table, from, to } => partitions::rename(self, table, from, to).await,
            Change::DropPartitions { table, names } => drop::partitions(self, table, names).await,
            Change::PutConstraint(constraint) => constraints::put(self, constraint).await,
            Change::DropConstraint { table, name } => constraints::drop(self, table, name).await,
            Change::PutFunction(function) => functions::put(self, function).await,
            Change::DropFunction { database, name } => functions::drop(self, database, name).await,
            Change::PutTableStatistics { table, statistics } => statistics::put_table(self, table, statistics).await,
            Change::DropTableStatistics { table, column } => {
                statistics::drop_table(self, table, column.as_deref()).await
            }
            Change::PutPartitionStatistics { table, statistics } => {
                statistics::put_partitions(self, table, statistics).await
            }
            Change::DropPartitionStatistics { table, partition, column } => {
                statistics::drop_partition(self, table, partition, column.as_deref()).await
            }
            Change::TellEmptied { table, partition } => self.note_emptied(table, partition.as_ref()).await,
            Change::PutWriteIds { table, mark, compactions, above } => {
                transactions::put_write_ids(self, table, *mark, compactions, *above).await
            }
            Change::HoldCompactions { table, compactions, above } => {
                transactions::hold(self, table, compactions, *above).await
            }
            Change::PutRole(role) => privileges::put_role(self, role).await,
            Change::DropRole(name) => privileges::drop_role(self, name).await,
            Change::PutRoleGrant(grant) => privileges::put_role_grant(self, grant).await,
            Change::DropRoleGrant(grant) => privileges::drop_role_grant(self, grant).await,
            Change::PutGrant(grant) => privileges::put(self, grant).await,
            Change::DropGrant(grant) => privileges::drop(self, grant).await,
        }
    }

    /// Forgets names and shapes: a table was made, altered, renamed or dropped.
    fn forget(&mut self, table: &TableName) {
        self.reader.forget();
        if let Some(journal) = &mut self.journal {
            journal.forget(table);
        }
        if let Some(shape) = self.shapes.remove(table) {
            self.lists.forget(shape.id);
        }
    }

    /// The shape of a table, if it is there.
    async fn shape(&mut self, name: &TableName) -> Result<Option<Arc<Shape>>> {
        if let Some(shape) = self.shapes.get(name) {
            return Ok(Some(Arc::clone(shape)));
        }
        let shape = tables::find(self, name, "").await?;
        if let Some(shape) = &shape {
            if self.shapes.len() >= REMEMBERED_SHAPES {
                self.shapes.clear();
                self.lists = Lists::default();
            }
            self.shapes.insert(name.clone(), Arc::clone(shape));
        }
        Ok(shape)
    }

    /// The shape of a table that must be there for `operation` on `object`.
    async fn needed_shape(&mut self, name: &TableName, operation: &str, object: String) -> Result<Arc<Shape>> {
        let shape = self.shape(name).await?;
        shape.ok_or_else(|| conflict(operation, object, format!("the table {name} is not there")))
    }

    /// Removes the rows of these tables, each with its column, that belong to these ids, in order; a schema without a table
    /// has none. PostgreSQL does all of it in one statement, and looks at references once it is done.
    async fn delete(&mut self, tables: &[(&str, &str)], ids: &[i64]) -> Result<()> {
        let schema = Arc::clone(&self.reader.schema);
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let deletes = tables.iter().filter(|(table, _)| schema.has_table(table)).map(|(table, column)| {
                let (among, values) = schema.dialect.among(&format!("\"{column}\""), ids);
                (format!("DELETE FROM \"{table}\" WHERE {among}"), values)
            });
            for (sql, values) in schema.dialect.together(deletes.collect()) {
                self.reader.connection.execute(&sql, &values).await?;
            }
        }
        Ok(())
    }

    /// The first number of a query, if there is a row.
    async fn number(&mut self, sql: &str, values: &[Value]) -> Result<Option<i64>> {
        let rows = self.reader.connection.query(sql, values).await?;
        rows.into_iter().next().map(|mut row| row.id(0)).transpose()
    }
}

/// What stands against a change.
fn conflict(operation: &str, object: String, why: String) -> Error {
    Error::Conflict { operation: operation.to_owned(), object, why }
}

/// The word for a principal's kind.
fn kind_word(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "USER",
        PrincipalKind::Role => "ROLE",
        PrincipalKind::Group => "GROUP",
    }
}
