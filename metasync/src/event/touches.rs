//! Which objects an event is about, by the source's names. Pure.

use super::{Kind, NamedPartition};
use crate::model::{DatabaseName, PartitionName, TableName};

/// The objects of the source that an event is about. Each is named once, in the narrowest list that holds all of it: an event
/// about a partition names the partition, not its table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touches {
    /// Databases themselves, not what is in them.
    pub databases: Vec<DatabaseName>,
    /// Tables with all that hangs on them; a renamed one by both names.
    pub tables: Vec<TableName>,
    /// Partitions of a table; a renamed one by both names.
    pub partitions: Vec<(TableName, Vec<PartitionName>)>,
    /// Tables that were renamed, from and to. Their partitions went with them.
    pub renames: Vec<(TableName, TableName)>,
    /// Functions.
    pub functions: Vec<(DatabaseName, String)>,
    /// Whose folders may hold nothing now, because somebody meant it so (rule 27): truncated, dropped, replaced.
    pub emptied: Vec<Emptied>,
    /// Whose folders got files that the message names.
    pub filled: Vec<Filled>,
}

/// A folder that files came into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Whose.
    pub table: TableName,
    /// Of which partition; of the table itself if none is named.
    pub partition: Option<PartitionName>,
    /// The first of the files, without checksum and other fields.
    pub file: String,
}

/// A folder that was emptied on purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Emptied {
    /// Whose.
    pub table: TableName,
    /// Of which partition; of the table and all its partitions if none is named.
    pub partition: Option<PartitionName>,
}

impl Touches {
    /// Whether the event is about no object by name.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tables, themselves or their partitions, by either name.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        let renames = self.renames.iter().flat_map(|(from, to)| [from, to]);
        self.tables.iter().chain(self.partitions.iter().map(|(table, _)| table)).chain(renames)
    }

    /// Databases, themselves or their functions.
    pub fn databases(&self) -> impl Iterator<Item = &DatabaseName> {
        self.databases.iter().chain(self.functions.iter().map(|(database, _)| database))
    }

    fn table(name: &TableName) -> Self {
        Self { tables: vec![name.clone()], ..Self::default() }
    }

    fn partition(table: &TableName, partition: Option<&PartitionName>) -> Self {
        match partition {
            Some(partition) => Self::partitions(table, vec![partition.clone()]),
            None => Self::table(table),
        }
    }

    fn partitions(table: &TableName, names: Vec<PartitionName>) -> Self {
        match names.is_empty() {
            true => Self::default(),
            false => Self { partitions: vec![(table.clone(), names)], ..Self::default() },
        }
    }

    fn database(name: &DatabaseName) -> Self {
        Self { databases: vec![name.clone()], ..Self::default() }
    }

    /// All tables and partitions in it are emptied, if so.
    fn emptied(mut self, emptied: bool) -> Self {
        if emptied {
            self.emptied = self.tables.iter().map(|table| Emptied { table: table.clone(), partition: None }).collect();
            for (table, names) in &self.partitions {
                let emptied = |name: &PartitionName| Emptied { table: table.clone(), partition: Some(name.clone()) };
                self.emptied.extend(names.iter().map(emptied));
            }
        }
        self
    }

    /// With the first file that came into this table or partition, if any is named.
    fn filled(mut self, table: &TableName, partition: Option<&PartitionName>, files: &[String]) -> Self {
        let first = files.first().and_then(|file| file.split('#').next()).filter(|file| !file.is_empty());
        self.filled.extend(first.map(|file| Filled {
            table: table.clone(),
            partition: partition.cloned(),
            file: file.to_owned(),
        }));
        self
    }
}

fn names(partitions: &[NamedPartition]) -> Vec<PartitionName> {
    partitions.iter().map(|partition| partition.name.clone()).collect()
}

/// What an event of this kind touches.
pub(super) fn of(kind: &Kind) -> Touches {
    match kind {
        Kind::CreateDatabase { name, .. } | Kind::DropDatabase { name, .. } => Touches::database(name),
        Kind::AlterDatabase { after, .. } => Touches::database(&after.name),
        Kind::CreateTable { table, .. } => Touches::table(&table.name),
        Kind::AlterTable { before, after, truncated, .. } if before.name == after.name => {
            Touches::table(&after.name).emptied(*truncated == Some(true))
        }
        Kind::AlterTable { before, after, .. } => Touches {
            tables: vec![before.name.clone(), after.name.clone()],
            renames: vec![(before.name.clone(), after.name.clone())],
            ..Touches::default()
        },
        Kind::DropTable { name, .. } => Touches::table(name).emptied(true),
        Kind::AddPartitions { table, partitions, files } => {
            let touches = Touches::partitions(&table.name, names(partitions));
            files.iter().fold(touches, |touches, of| touches.filled(&table.name, Some(&of.name), &of.files))
        }
        Kind::AlterPartition { table, before, after, truncated, .. } => {
            let mut names = vec![after.name.clone()];
            if before.name != after.name {
                names.insert(0, before.name.clone());
            }
            Touches::partitions(&table.name, names).emptied(*truncated == Some(true))
        }
        Kind::AlterPartitions { table, partitions, truncated, .. } => {
            Touches::partitions(&table.name, names(partitions)).emptied(*truncated == Some(true))
        }
        Kind::DropPartitions { name, partitions, .. } => Touches::partitions(name, partitions.clone()).emptied(true),
        Kind::Insert { name, partition, replace, files, .. } => Touches::partition(name, partition.as_ref())
            .emptied(*replace == Some(true))
            .filled(name, partition.as_ref(), files),
        Kind::CreateFunction { function } => {
            Touches { functions: vec![(function.database.clone(), function.name.clone())], ..Touches::default() }
        }
        Kind::DropFunction { database, function } => {
            Touches { functions: vec![(database.clone(), function.clone())], ..Touches::default() }
        }
        Kind::AddConstraints { constraints } => {
            let mut tables: Vec<_> = constraints.iter().map(|constraint| constraint.table.clone()).collect();
            tables.sort();
            tables.dedup();
            Touches { tables, ..Touches::default() }
        }
        Kind::DropConstraint { table, .. } => Touches::table(table),
        Kind::UpdateTableStatistics { name, .. } | Kind::DeleteTableStatistics { name, .. } => Touches::table(name),
        Kind::UpdatePartitionStatistics { name, partition, .. }
        | Kind::DeletePartitionStatistics { name, partition, .. } => Touches::partition(name, Some(partition)),
        Kind::UpdateStatisticsOfPartitions { name } => name.as_ref().map(Touches::table).unwrap_or_default(),
        Kind::TransactionalWrite { name, partition, .. } | Kind::CommitCompaction { name, partition, .. } => {
            Touches::partition(name, partition.as_ref())
        }
        Kind::Reload { name, partitions, .. } => match partitions.is_empty() {
            true => Touches::table(name),
            false => Touches::partitions(name, partitions.clone()),
        },
        Kind::CreateIndex { index } | Kind::AlterIndex { after: index, .. } => {
            index.index_table.as_ref().map(Touches::table).unwrap_or_default()
        }
        Kind::DropIndex { index } => index.index_table.as_ref().map(Touches::table).unwrap_or_default().emptied(true),
        Kind::Unknown { table: Some(table), .. } => Touches::table(table),
        Kind::Unknown { database: Some(database), .. } => Touches::database(database),
        Kind::OpenTransactions { .. }
        | Kind::CommitTransaction { .. }
        | Kind::AbortTransaction { .. }
        | Kind::AllocateWriteIds { .. }
        | Kind::CreateCatalog { .. }
        | Kind::AlterCatalog { .. }
        | Kind::DropCatalog { .. }
        | Kind::DataConnector
        | Kind::SchemaRegistry
        | Kind::LoadPartitionDone
        | Kind::Unknown { .. } => Touches::default(),
    }
}
