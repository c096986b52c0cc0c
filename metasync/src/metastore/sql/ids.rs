//! Ids as the metastore's own server takes them: SEQUENCE_TABLE holds the first id that nobody has reserved.
//!
//! Ids are reserved in a short transaction of their own before a batch (rule 32), so that no server waits for the row of a
//! sequence while a batch runs. A crash between the two leaves ids unused, which does no harm.

use super::connection::{Connection, mistake};
use super::probe::Schema;
use crate::metastore::{Change, Result};
use crate::model::{Column, StorageDescriptor};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What ids are of. The order is that in which the rows of SEQUENCE_TABLE are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sequence {
    Catalog,
    Database,
    Table,
    Storage,
    SerDe,
    ColumnList,
    Partition,
    StringList,
    CreationMetadata,
    Function,
    TableStatistics,
    PartitionStatistics,
    Role,
    RoleGrant,
    GlobalPrivilege,
    DatabasePrivilege,
    TablePrivilege,
    TableColumnPrivilege,
    PartitionPrivilege,
    PartitionColumnPrivilege,
    Notification,
}

impl Sequence {
    /// Hive's class, the table and its key.
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Catalog => ("MCatalog", "CTLGS", "CTLG_ID"),
            Self::Database => ("MDatabase", "DBS", "DB_ID"),
            Self::Table => ("MTable", "TBLS", "TBL_ID"),
            Self::Storage => ("MStorageDescriptor", "SDS", "SD_ID"),
            Self::SerDe => ("MSerDeInfo", "SERDES", "SERDE_ID"),
            Self::ColumnList => ("MColumnDescriptor", "CDS", "CD_ID"),
            Self::Partition => ("MPartition", "PARTITIONS", "PART_ID"),
            Self::StringList => ("MStringList", "SKEWED_STRING_LIST", "STRING_LIST_ID"),
            Self::CreationMetadata => ("MCreationMetadata", "MV_CREATION_METADATA", "MV_CREATION_METADATA_ID"),
            Self::Function => ("MFunction", "FUNCS", "FUNC_ID"),
            Self::TableStatistics => ("MTableColumnStatistics", "TAB_COL_STATS", "CS_ID"),
            Self::PartitionStatistics => ("MPartitionColumnStatistics", "PART_COL_STATS", "CS_ID"),
            Self::Role => ("MRole", "ROLES", "ROLE_ID"),
            Self::RoleGrant => ("MRoleMap", "ROLE_MAP", "ROLE_GRANT_ID"),
            Self::GlobalPrivilege => ("MGlobalPrivilege", "GLOBAL_PRIVS", "USER_GRANT_ID"),
            Self::DatabasePrivilege => ("MDBPrivilege", "DB_PRIVS", "DB_GRANT_ID"),
            Self::TablePrivilege => ("MTablePrivilege", "TBL_PRIVS", "TBL_GRANT_ID"),
            Self::TableColumnPrivilege => ("MTableColumnPrivilege", "TBL_COL_PRIVS", "TBL_COLUMN_GRANT_ID"),
            Self::PartitionPrivilege => ("MPartitionPrivilege", "PART_PRIVS", "PART_GRANT_ID"),
            Self::PartitionColumnPrivilege => ("MPartitionColumnPrivilege", "PART_COL_PRIVS", "PART_COLUMN_GRANT_ID"),
            Self::Notification => ("MNotificationLog", "NOTIFICATION_LOG", "NL_ID"),
        }
    }

    fn class(self) -> String {
        format!("org.apache.hadoop.hive.metastore.model.{}", self.names().0)
    }
}

/// How many ids a batch takes at most, by what they are of; `events`: with rows of the event log. Pure.
pub(crate) fn needs<'a>(changes: impl Iterator<Item = &'a Change> + Clone, events: bool) -> BTreeMap<Sequence, i64> {
    let mut needs = BTreeMap::new();
    let mut need = |sequence, count: usize| {
        if count > 0 {
            *needs.entry(sequence).or_insert(0) += i64::try_from(count).unwrap_or(i64::MAX);
        }
    };
    for change in changes.clone() {
        match change {
            Change::PutCatalog(_) => need(Sequence::Catalog, 1),
            Change::PutDatabase(_) => need(Sequence::Database, 1),
            Change::PutTable(table) => {
                need(Sequence::Table, 1);
                need(Sequence::Storage, 1);
                need(Sequence::SerDe, 1);
                need(Sequence::ColumnList, 1);
                need(Sequence::StringList, string_lists(&table.storage));
                need(Sequence::CreationMetadata, table.creation_metadata.iter().count());
            }
            Change::PutPartitions { partitions, .. } => {
                need(Sequence::Partition, partitions.len());
                need(Sequence::Storage, partitions.len());
                need(Sequence::SerDe, partitions.len());
                let lists: HashSet<*const Vec<Column>> =
                    partitions.iter().map(|partition| Arc::as_ptr(&partition.storage.columns)).collect();
                need(Sequence::ColumnList, lists.len());
                need(Sequence::StringList, partitions.iter().map(|partition| string_lists(&partition.storage)).sum());
            }
            Change::PutFunction(_) => need(Sequence::Function, 1),
            Change::PutTableStatistics { statistics, .. } => need(Sequence::TableStatistics, statistics.len()),
            Change::PutPartitionStatistics { statistics, .. } => {
                need(Sequence::PartitionStatistics, statistics.iter().map(|(_, columns)| columns.len()).sum());
            }
            Change::PutRole(_) => need(Sequence::Role, 1),
            Change::PutRoleGrant(_) => need(Sequence::RoleGrant, 1),
            Change::PutGrant(grant) => need(super::write::privileges::sequence(&grant.object), 1),
            _ => {}
        }
    }
    need(Sequence::Notification, if events { super::write::log::needs(changes) } else { 0 });
    needs
}

fn string_lists(storage: &StorageDescriptor) -> usize {
    storage.skew.values.len() + storage.skew.locations.len()
}

/// Reserved ids.
#[derive(Debug, Default)]
pub(crate) struct Ids(BTreeMap<Sequence, std::ops::Range<i64>>);

impl Ids {
    /// The next id. There are as many as [`needs`] said.
    pub(crate) fn take(&mut self, sequence: Sequence) -> Result<i64> {
        let next = self.0.get_mut(&sequence).and_then(Iterator::next);
        next.ok_or_else(|| mistake("reserve ids", &format!("too few of {sequence:?}")))
    }

    /// Ids for another try at the same batch.
    pub(crate) fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// Reserves ids. Each is larger than any in its table and than any that was reserved before; the row of a sequence is
    /// made where there is none.
    pub(crate) async fn reserve(
        connection: &mut Connection,
        schema: &Schema,
        needs: &BTreeMap<Sequence, i64>,
    ) -> Result<Self> {
        let mut ids = BTreeMap::new();
        if needs.is_empty() {
            return Ok(Self(ids));
        }
        connection.begin_write().await?;
        for (sequence, count) in needs {
            let (_, table, key) = sequence.names();
            if !schema.has_table(table) {
                // Whoever takes one of these finds that the schema cannot hold the object.
                ids.insert(*sequence, 1..count + 1);
                continue;
            }
            let class = sequence.class();
            let lock = schema.dialect.for_update();
            let sql = format!("SELECT \"NEXT_VAL\" FROM \"SEQUENCE_TABLE\" WHERE \"SEQUENCE_NAME\" = ?{lock}");
            let rows = connection.query(&sql, &[(&class).into()]).await?;
            let reserved = rows.into_iter().next().map(|mut row| row.id(0)).transpose()?;
            let rows = connection.query(&format!("SELECT MAX(\"{key}\") FROM \"{table}\""), &[]).await?;
            let largest = rows.into_iter().next().map(|mut row| row.int(0)).transpose()?.flatten().unwrap_or(0);
            let next = reserved.unwrap_or(1).max(largest + 1).max(1);
            let after = next + count;
            if reserved.is_some() {
                let sql = "UPDATE \"SEQUENCE_TABLE\" SET \"NEXT_VAL\" = ? WHERE \"SEQUENCE_NAME\" = ?";
                connection.execute(sql, &[after.into(), class.as_str().into()]).await?;
            } else {
                let sql = "INSERT INTO \"SEQUENCE_TABLE\" (\"NEXT_VAL\", \"SEQUENCE_NAME\") VALUES (?, ?)";
                connection.execute(sql, &[after.into(), class.as_str().into()]).await?;
            }
            ids.insert(*sequence, next..after);
        }
        connection.commit().await?;
        Ok(Self(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Partition, TableName};

    fn partition(columns: &Arc<Vec<Column>>) -> Partition {
        Partition {
            values: vec!["x".to_owned()],
            create_time: 0,
            last_access_time: 0,
            storage: StorageDescriptor { columns: Arc::clone(columns), ..StorageDescriptor::default() },
            parameters: crate::model::Parameters::new(),
            write_id: 0,
            unknown: crate::model::UnknownFields::default(),
        }
    }

    #[test]
    fn a_batch_of_partitions_needs_one_column_list_for_all_that_share_it() {
        let shared = Arc::new(Vec::new());
        let partitions = vec![partition(&shared), partition(&shared), partition(&shared)];
        let needs = needs([Change::PutPartitions { table: TableName::new("d", "t"), partitions }].iter(), true);
        assert_eq!(needs.get(&Sequence::Partition), Some(&3));
        assert_eq!(needs.get(&Sequence::Storage), Some(&3));
        assert_eq!(needs.get(&Sequence::ColumnList), Some(&1));
        assert_eq!(needs.get(&Sequence::StringList), None);
        assert_eq!(needs.get(&Sequence::Notification), Some(&3));
    }

    #[test]
    fn ids_end_where_they_were_reserved_and_a_second_try_takes_the_same() {
        let mut ids = Ids(BTreeMap::from([(Sequence::Table, 7..9)]));
        let mut again = ids.again();
        assert_eq!((ids.take(Sequence::Table).unwrap(), ids.take(Sequence::Table).unwrap()), (7, 8));
        assert!(ids.take(Sequence::Table).is_err());
        assert!(ids.take(Sequence::Database).is_err());
        assert_eq!(again.take(Sequence::Table).unwrap(), 7);
    }
}
