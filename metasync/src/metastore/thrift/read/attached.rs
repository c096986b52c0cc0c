//! What belongs to tables and partitions: constraints and column statistics.

use super::{ENGINES, ThriftSnapshot, V3_0, read};
use crate::metastore::thrift::convert;
use crate::metastore::{Result, Version};
use crate::model::{ColumnStatistics, Constraint, PartitionName, Table, TableName};
use hms::{api, calls};

/// A request for the constraints of one kind, where all have the same fields.
macro_rules! constraints_request {
    ($request:ident, $table:ident) => {
        Some(api::$request {
            cat_name: Some($table.catalog.clone()),
            db_name: Some($table.database.clone()),
            tbl_name: Some($table.table.clone()),
            ..Default::default()
        })
    };
}

impl ThriftSnapshot {
    /// All constraints on a table; of foreign keys those that refer from it.
    pub(in crate::metastore::thrift) async fn read_constraints(&self, table: &TableName) -> Result<Vec<Constraint>> {
        let object = format!("constraints of {table}");
        let found = match self.version >= Version::V4_0 {
            true => {
                let request = constraints_request!(AllTableConstraintsRequest, table);
                let found = self.client.find(&object, &calls::GetAllTableConstraints { request }).await?;
                found.and_then(|found| found.all_table_constraints).unwrap_or_default()
            }
            false => self.constraints_kind_by_kind(table, &object).await?,
        };
        let mut all = read(&object, convert::from_primary_keys(found.primary_keys.unwrap_or_default()))?;
        all.extend(read(&object, convert::from_foreign_keys(found.foreign_keys.unwrap_or_default()))?);
        all.extend(read(&object, convert::from_uniques(found.unique_constraints.unwrap_or_default()))?);
        all.extend(read(&object, convert::from_not_nulls(found.not_null_constraints.unwrap_or_default()))?);
        all.extend(read(&object, convert::from_defaults(found.default_constraints.unwrap_or_default()))?);
        all.extend(read(&object, convert::from_checks(found.check_constraints.unwrap_or_default()))?);
        Ok(all)
    }

    /// What one call answers from Hive 4 on: before it there is a call a kind.
    async fn constraints_kind_by_kind(&self, table: &TableName, object: &str) -> Result<api::SQLAllTableConstraints> {
        let mut all = api::SQLAllTableConstraints::default();
        let request = constraints_request!(PrimaryKeysRequest, table);
        let found = self.client.find(object, &calls::GetPrimaryKeys { request }).await?;
        all.primary_keys = found.and_then(|found| found.primary_keys);
        let request = Some(api::ForeignKeysRequest {
            foreign_db_name: Some(table.database.clone()),
            foreign_tbl_name: Some(table.table.clone()),
            cat_name: (self.version >= V3_0).then(|| table.catalog.clone()),
            ..Default::default()
        });
        let found = self.client.find(object, &calls::GetForeignKeys { request }).await?;
        all.foreign_keys = found.and_then(|found| found.foreign_keys);
        if self.version >= V3_0 {
            let request = constraints_request!(UniqueConstraintsRequest, table);
            let found = self.client.find(object, &calls::GetUniqueConstraints { request }).await?;
            all.unique_constraints = found.and_then(|found| found.unique_constraints);
            let request = constraints_request!(NotNullConstraintsRequest, table);
            let found = self.client.find(object, &calls::GetNotNullConstraints { request }).await?;
            all.not_null_constraints = found.and_then(|found| found.not_null_constraints);
        }
        if self.version >= Version::V3_1 {
            let request = constraints_request!(DefaultConstraintsRequest, table);
            let found = self.client.find(object, &calls::GetDefaultConstraints { request }).await?;
            all.default_constraints = found.and_then(|found| found.default_constraints);
            let request = constraints_request!(CheckConstraintsRequest, table);
            let found = self.client.find(object, &calls::GetCheckConstraints { request }).await?;
            all.check_constraints = found.and_then(|found| found.check_constraints);
        }
        Ok(all)
    }

    /// Whose statistics to ask for: before Hive 4 there is no such field.
    pub(in crate::metastore::thrift) fn engines(&self) -> Vec<Option<&'static str>> {
        match self.version >= Version::V4_0 {
            true => ENGINES.map(Some).to_vec(),
            false => vec![None],
        }
    }

    /// Sorted by engine and column. Views have none.
    pub(in crate::metastore::thrift) async fn read_table_statistics(
        &self,
        table: &Table,
    ) -> Result<Vec<ColumnStatistics>> {
        let object = format!("statistics of {}", table.name);
        let mut all = Vec::new();
        if is_view(table) || table.storage.columns.is_empty() {
            return Ok(all);
        }
        for engine in self.engines() {
            let request = api::TableStatsRequest {
                db_name: Some(table.name.database.clone()),
                tbl_name: Some(table.name.table.clone()),
                col_names: column_names(table),
                cat_name: (self.version >= V3_0).then(|| table.name.catalog.clone()),
                engine: engine.map(str::to_owned),
                ..Default::default()
            };
            let call = calls::GetTableStatisticsReq { request: Some(request) };
            let found = self.client.find(&object, &call).await?.and_then(|found| found.table_stats);
            for found in found.unwrap_or_default() {
                all.push(read(&object, convert::from_statistics(found, engine, 0))?);
            }
        }
        all.sort_by(|a, b| (&a.engine, &a.column).cmp(&(&b.engine, &b.column)));
        Ok(all)
    }

    /// Of the columns that the table has: there is no call that says which others have statistics.
    pub(in crate::metastore::thrift) async fn read_partition_statistics(
        &self,
        table: &Table,
        names: &[PartitionName],
    ) -> Result<Vec<(PartitionName, ColumnStatistics)>> {
        let object = format!("statistics of partitions of {}", table.name);
        let mut all = Vec::new();
        if names.is_empty() || table.storage.columns.is_empty() {
            return Ok(all);
        }
        for engine in self.engines() {
            let request = api::PartitionsStatsRequest {
                db_name: Some(table.name.database.clone()),
                tbl_name: Some(table.name.table.clone()),
                col_names: column_names(table),
                part_names: Some(names.iter().map(|name| name.0.clone()).collect()),
                cat_name: (self.version >= V3_0).then(|| table.name.catalog.clone()),
                engine: engine.map(str::to_owned),
                ..Default::default()
            };
            let call = calls::GetPartitionsStatisticsReq { request: Some(request) };
            let found = self.client.find(&object, &call).await?.and_then(|found| found.part_stats);
            for (name, found) in found.unwrap_or_default() {
                for found in found {
                    all.push((PartitionName(name.clone()), read(&object, convert::from_statistics(found, engine, 0))?));
                }
            }
        }
        all.sort_by(|(a, x), (b, y)| (a, &x.engine, &x.column).cmp(&(b, &y.engine, &y.column)));
        Ok(all)
    }
}

fn column_names(table: &Table) -> Option<Vec<String>> {
    Some(table.storage.columns.iter().map(|column| column.name.clone()).collect())
}

fn is_view(table: &Table) -> bool {
    table.table_type.as_deref() == Some("VIRTUAL_VIEW")
}
