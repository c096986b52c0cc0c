//! Rows of the notification log as Hive's DbNotificationListener writes them: from what happened to a row.
//!
//! Pure, and the opposite of [`decode`](super::decode): what is decoded of a row from here names the same objects. Messages are
//! [`PLAIN_FORMAT`], which every Hive from 2.3 on reads, and in ASCII, so that a `latin1` column holds them. A Hive that has no
//! type for what happened gets ALTER_TABLE of a table that did not change: whoever reads the log looks at the table. Of
//! databases it gets nothing then, as from itself.

mod message;

use super::PLAIN_FORMAT;
use crate::metastore::{EventRow, Version};
use crate::model::{
    ColumnStatistics, Constraint, ConstraintKind, Database, DatabaseName, Function, Parameters, Partition,
    PartitionName, Table, TableName,
};
use message::Message;
use std::collections::VecDeque;
use std::sync::Arc;

/// Partitions of one ADD_PARTITION are as many as have this many bytes as Thrift objects, about; the next event has the rest.
/// The message, in which these are quoted once more, stays far below MySQL's smallest `max_allowed_packet` in use (16 MiB).
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// What happened to one object, or to several partitions of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// A database was made.
    CreatedDatabase(Box<Database>),
    /// A database was altered.
    AlteredDatabase {
        /// As it was.
        before: Box<Database>,
        /// As it is.
        after: Box<Database>,
    },
    /// A database was dropped.
    DroppedDatabase(Box<Database>),
    /// A table was made.
    CreatedTable(Arc<Table>),
    /// A table was altered, renamed or emptied.
    AlteredTable {
        /// As it was.
        before: Arc<Table>,
        /// As it is.
        after: Arc<Table>,
        /// Whether its folder was emptied.
        emptied: bool,
    },
    /// A table was dropped, with its partitions.
    DroppedTable(Arc<Table>),
    /// Partitions were added.
    AddedPartitions {
        /// To this table.
        table: Arc<Table>,
        /// At least one.
        partitions: Vec<Partition>,
    },
    /// A partition was altered, renamed or emptied.
    AlteredPartition {
        /// Of this table.
        table: Arc<Table>,
        /// As it was.
        before: Box<Partition>,
        /// As it is.
        after: Box<Partition>,
        /// Whether its folder was emptied.
        emptied: bool,
    },
    /// Partitions were dropped.
    DroppedPartitions {
        /// Of this table.
        table: Arc<Table>,
        /// At least one.
        names: Vec<PartitionName>,
    },
    /// A function was made.
    CreatedFunction(Box<Function>),
    /// A function was dropped.
    DroppedFunction {
        /// Its database.
        database: DatabaseName,
        /// Its name.
        name: String,
    },
    /// A constraint was added.
    AddedConstraint {
        /// The constrained table.
        table: Arc<Table>,
        /// The constraint.
        constraint: Box<Constraint>,
    },
    /// A constraint was dropped.
    DroppedConstraint {
        /// The constrained table.
        table: Arc<Table>,
        /// The constraint's name.
        name: String,
    },
    /// Statistics of columns of a table were put.
    PutTableStatistics {
        /// Of this table.
        table: Arc<Table>,
        /// Of one engine and one moment.
        statistics: Vec<ColumnStatistics>,
    },
    /// Statistics of a table were dropped.
    DroppedTableStatistics {
        /// Of this table.
        table: Arc<Table>,
        /// Of one column only.
        column: Option<String>,
    },
    /// Statistics of columns of a partition were put.
    PutPartitionStatistics {
        /// Of this table.
        table: Arc<Table>,
        /// Of this partition.
        partition: PartitionName,
        /// The partition's.
        parameters: Parameters,
        /// Of one engine and one moment.
        statistics: Vec<ColumnStatistics>,
    },
    /// Statistics of a partition were dropped.
    DroppedPartitionStatistics {
        /// Of this table.
        table: Arc<Table>,
        /// Of this partition.
        partition: PartitionName,
        /// Of one column only.
        column: Option<String>,
    },
}

/// An object that no event can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object} cannot be said in an event: {why}")]
pub struct Unwritable {
    /// Such as `table sales.orders`.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
}

impl Happened {
    /// Whether the listener of this Hive logs it.
    fn is_logged(&self, version: Version) -> bool {
        match self {
            Self::AlteredDatabase { .. } | Self::DroppedConstraint { .. } => version >= FIRST_3,
            Self::AddedConstraint { constraint, .. } => match constraint.kind {
                ConstraintKind::Default { .. } | ConstraintKind::Check { .. } => version >= Version::V4_0,
                _ => version >= FIRST_3,
            },
            Self::PutTableStatistics { .. }
            | Self::DroppedTableStatistics { .. }
            | Self::PutPartitionStatistics { .. }
            | Self::DroppedPartitionStatistics { .. } => version >= Version::V4_0,
            _ => true,
        }
    }

    /// The table that it is about, where there is one.
    fn table(&self) -> Option<&Arc<Table>> {
        match self {
            Self::CreatedDatabase(_)
            | Self::AlteredDatabase { .. }
            | Self::DroppedDatabase(_)
            | Self::CreatedFunction(_)
            | Self::DroppedFunction { .. } => None,
            Self::CreatedTable(table) | Self::DroppedTable(table) => Some(table),
            Self::AlteredTable { after, .. } => Some(after),
            Self::AddedPartitions { table, .. }
            | Self::AlteredPartition { table, .. }
            | Self::DroppedPartitions { table, .. }
            | Self::AddedConstraint { table, .. }
            | Self::DroppedConstraint { table, .. }
            | Self::PutTableStatistics { table, .. }
            | Self::DroppedTableStatistics { table, .. }
            | Self::PutPartitionStatistics { table, .. }
            | Self::DroppedPartitionStatistics { table, .. } => Some(table),
        }
    }
}

/// Statistics as events have them: those of one engine and one moment together, in the order of the first of each.
pub fn of_one_moment(statistics: Vec<ColumnStatistics>) -> Vec<Vec<ColumnStatistics>> {
    let mut groups: Vec<Vec<ColumnStatistics>> = Vec::new();
    for each in statistics {
        let same =
            |other: &ColumnStatistics| (&other.engine, other.last_analyzed) == (&each.engine, each.last_analyzed);
        match groups.iter_mut().find(|group| group.first().is_some_and(same)) {
            Some(group) => group.push(each),
            None => groups.push(vec![each]),
        }
    }
    groups
}

const FIRST_3: Version = Version { major: 3, minor: 0 };

/// The rows for what happened, in order; made one at a time, because a message may be large.
pub struct Rows {
    pending: VecDeque<Happened>,
    version: Version,
    time: i64,
    /// The table for which ALTER_TABLE stood in last: once says as much as often.
    stood_in: Option<TableName>,
}

impl Rows {
    /// `version` is that of the Hive whose log it is, `time` in seconds since 1970.
    pub fn new(happened: VecDeque<Happened>, version: Version, time: i64) -> Self {
        Self { pending: happened, version, time, stood_in: None }
    }

    fn stand_in(&mut self, happened: &Happened) -> Option<Happened> {
        let table = happened.table()?;
        if self.stood_in.as_ref() == Some(&table.name) {
            return None;
        }
        self.stood_in = Some(table.name.clone());
        Some(Happened::AlteredTable { before: Arc::clone(table), after: Arc::clone(table), emptied: false })
    }

    fn row(&mut self, happened: Happened) -> Result<EventRow, Unwritable> {
        let message = match happened {
            Happened::AddedPartitions { table, partitions } => {
                let mut rest = partitions.into_iter();
                let message = message::added_partitions(&table, &mut rest, MAX_BATCH_BYTES)?;
                if rest.len() > 0 {
                    self.pending.push_front(Happened::AddedPartitions { table, partitions: rest.collect() });
                }
                message
            }
            other => message::of(&other)?,
        };
        let Message { event_type, database, table, fields } = message;
        Ok(EventRow {
            event_id: 0,
            event_time: self.time,
            event_type: event_type.to_owned(),
            catalog: (self.version >= FIRST_3).then_some(database.catalog),
            database: Some(database.database),
            table,
            message: message::text(fields, self.time),
            message_format: Some(PLAIN_FORMAT.to_owned()),
        })
    }
}

impl Iterator for Rows {
    /// A row without its id, or an object that cannot be said in one.
    type Item = Result<EventRow, Unwritable>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let happened = self.pending.pop_front()?;
            if happened.is_logged(self.version) {
                return Some(self.row(happened));
            }
            if let Some(stands_in) = self.stand_in(&happened) {
                return Some(self.row(stands_in));
            }
        }
    }
}
