//! Tables with what belongs to them, as one side holds them. Reads, and writes nothing.

use crate::metastore::{Damaged, Part, Result, Snapshot};
use crate::model::{ColumnStatistics, Constraint, DatabaseName, Table};
use std::collections::{BTreeMap, BTreeSet};

/// A table with all that belongs to it but partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// The table.
    pub table: Table,
    /// On it, foreign keys from it too.
    pub constraints: Vec<Constraint>,
    /// Of its columns.
    pub statistics: Vec<ColumnStatistics>,
    /// Constraints on it that cannot be read, by name.
    pub unread: BTreeSet<String>,
}

/// Tables of one database by name, and those that cannot be read.
#[derive(Debug, Default)]
pub struct Wholes {
    /// By name.
    pub found: BTreeMap<String, Whole>,
    /// Unreadable ones.
    pub damaged: Vec<Damaged>,
}

/// Reads these tables, at most [`CHUNK`](crate::metastore::CHUNK).
pub async fn read(
    snapshot: &dyn Snapshot,
    database: &DatabaseName,
    names: &[String],
    statistics: bool,
) -> Result<Wholes> {
    if names.is_empty() {
        return Ok(Wholes::default());
    }
    let tables = snapshot.tables(database, names).await?;
    let constraints = snapshot.constraints(database, names).await?;
    let mut wholes = Wholes { damaged: tables.damaged, ..Wholes::default() };
    for table in tables.found {
        let whole = Whole { table, constraints: Vec::new(), statistics: Vec::new(), unread: BTreeSet::new() };
        wholes.found.insert(whole.table.name.table.clone(), whole);
    }
    for damaged in constraints.damaged {
        if let Part::Constraint(table, name) = &damaged.part
            && let Some(whole) = wholes.found.get_mut(&table.table)
        {
            whole.unread.insert(name.clone());
        }
        wholes.damaged.push(damaged);
    }
    for constraint in constraints.found {
        if let Some(whole) = wholes.found.get_mut(&constraint.table.table) {
            whole.constraints.push(constraint);
        }
    }
    if statistics {
        for (table, of_column) in snapshot.table_statistics(database, names).await? {
            if let Some(whole) = wholes.found.get_mut(&table) {
                whole.statistics.push(of_column);
            }
        }
    }
    Ok(wholes)
}
