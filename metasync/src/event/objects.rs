//! The objects and names in a message, in the terms of the model. Pure.
//!
//! A listener writes objects as a client sent them, before the metastore put them away: names may still have capitals, and
//! before Hive 3 nothing names a catalog. Here they are as the metastore will give them when it is asked.

use super::message::List;
use super::{Index, NamedPartition, Wrong, damaged};
use crate::metastore::EventRow;
use crate::metastore::thrift::convert;
use crate::model::{
    Catalog, Column, ColumnStatistics, Constraint, ConstraintKind, Database, DatabaseName, Function, HIVE_CATALOG,
    Partition, PartitionName, StorageDescriptor, Table, TableName,
};
use hms::wire::Wire;
use hms::{api, tjson};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;

/// Column statistics, with what the message says of whose they are.
pub(super) struct Statistics {
    pub(super) partition: Option<String>,
    pub(super) columns: Vec<ColumnStatistics>,
}

/// An object that is written as Thrift's JSON, of the property `field`.
fn object<T: Wire>(field: &str, text: &str) -> Result<T, Wrong> {
    tjson::decode(text).map_err(|error| damaged(format_args!("its `{field}`: {error}")))
}

fn converted<T>(field: &str, converted: Result<T, String>) -> Result<T, Wrong> {
    converted.map_err(|why| damaged(format_args!("its `{field}`: {why}")))
}

/// The catalog that a row is about.
fn catalog_of(row: &EventRow) -> &str {
    row.catalog.as_deref().filter(|catalog| !catalog.is_empty()).unwrap_or(HIVE_CATALOG)
}

pub(super) fn database_name(row: &EventRow, database: &str) -> DatabaseName {
    DatabaseName::in_catalog(catalog_of(row), database)
}

pub(super) fn table_name(row: &EventRow, database: &str, table: &str) -> TableName {
    database_name(row, database).table(table)
}

/// The table that the row itself names, for messages that do not.
pub(super) fn table_of_row(row: &EventRow) -> Option<TableName> {
    Some(table_name(row, row.database.as_deref()?, row.table.as_deref()?))
}

pub(super) fn database(row: &EventRow, field: &str, text: &str) -> Result<Box<Database>, Wrong> {
    let mut found: api::Database = object(field, text)?;
    found.catalog_name.get_or_insert_with(|| catalog_of(row).to_owned());
    let mut database = converted(field, convert::from_database(found))?;
    database.name = DatabaseName::in_catalog(&database.name.catalog, &database.name.database);
    Ok(Box::new(database))
}

pub(super) fn table(row: &EventRow, field: &str, text: &str) -> Result<Box<Table>, Wrong> {
    let mut found: api::Table = object(field, text)?;
    found.cat_name.get_or_insert_with(|| catalog_of(row).to_owned());
    let mut table = converted(field, convert::from_table(found))?;
    table.name = lowered(&table.name);
    lower_columns(&mut table.partition_keys);
    lower_storage(&mut table.storage);
    Ok(Box::new(table))
}

pub(super) fn optional_table(row: &EventRow, field: &str, text: Option<&str>) -> Result<Option<Box<Table>>, Wrong> {
    text.map(|text| table(row, field, text)).transpose()
}

pub(super) fn partition(field: &str, text: &str) -> Result<Partition, Wrong> {
    let mut partition = converted(field, convert::from_partition(object(field, text)?))?;
    lower_storage(&mut partition.storage);
    Ok(partition)
}

/// A partition of this table, with its name.
pub(super) fn named_partition(table: &Table, field: &str, text: &str) -> Result<NamedPartition, Wrong> {
    let partition = partition(field, text)?;
    let name = partition_name(table, field, &partition.values)?;
    Ok(NamedPartition { name, partition })
}

/// Partitions of this table, whose columns are one list where they are equal, as in the metastore.
pub(super) fn named_partitions(table: &Table, field: &str, texts: &List<String>) -> Result<Vec<NamedPartition>, Wrong> {
    let mut known = HashSet::from([Arc::clone(&table.storage.columns)]);
    let mut partitions = Vec::new();
    for text in &texts.0 {
        let mut named = named_partition(table, field, text)?;
        let columns = &mut named.partition.storage.columns;
        match known.get(columns) {
            Some(shared) => *columns = Arc::clone(shared),
            None => _ = known.insert(Arc::clone(columns)),
        }
        partitions.push(named);
    }
    Ok(partitions)
}

pub(super) fn partition_name(table: &Table, field: &str, values: &[String]) -> Result<PartitionName, Wrong> {
    if values.is_empty() {
        return Err(damaged(format_args!("its `{field}` is a partition without values")));
    }
    let keys = table.partition_keys.iter().map(|key| key.name.as_str());
    converted(field, PartitionName::of(keys, values))
}

/// The name of a partition by pairs of key and value: in the order of the table's keys, else in that of the message.
pub(super) fn partition_name_of(
    table: Option<&Table>,
    field: &str,
    pairs: &[(String, String)],
) -> Result<PartitionName, Wrong> {
    let in_order = table.and_then(|table| {
        let value = |key: &Column| pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key.name));
        table.partition_keys.iter().map(value).collect::<Option<Vec<_>>>()
    });
    let in_order = in_order.filter(|found| found.len() == pairs.len()).unwrap_or_else(|| pairs.iter().collect());
    if in_order.is_empty() {
        return Err(damaged(format_args!("its `{field}` names a partition without values")));
    }
    let values: Vec<String> = in_order.iter().map(|(_, value)| value.clone()).collect();
    converted(field, PartitionName::of(in_order.iter().map(|(key, _)| key.as_str()), &values))
}

pub(super) fn function(row: &EventRow, field: &str, text: &str) -> Result<Box<Function>, Wrong> {
    let mut found: api::Function = object(field, text)?;
    found.cat_name.get_or_insert_with(|| catalog_of(row).to_owned());
    let mut function = converted(field, convert::from_function(found))?;
    function.database = DatabaseName::in_catalog(&function.database.catalog, &function.database.database);
    function.name = function.name.to_lowercase();
    Ok(Box::new(function))
}

pub(super) fn catalog(field: &str, text: &str) -> Result<Box<Catalog>, Wrong> {
    let mut catalog = converted(field, convert::from_catalog(object(field, text)?))?;
    catalog.name = catalog.name.to_lowercase();
    Ok(Box::new(catalog))
}

pub(super) fn statistics(field: &str, text: &str) -> Result<Statistics, Wrong> {
    let found: api::ColumnStatistics = object(field, text)?;
    let of = found.stats_desc.unwrap_or_default();
    let analyzed = of.last_analyzed.unwrap_or_default();
    let column = |column| {
        let mut column = converted(field, convert::from_statistics(column, found.engine.as_deref(), analyzed))?;
        column.column = column.column.to_lowercase();
        Ok(column)
    };
    let columns = found.stats_obj.unwrap_or_default().into_iter().map(column).collect::<Result<_, Wrong>>()?;
    Ok(Statistics { partition: of.part_name, columns })
}

/// A row of a kind of constraint, which may lack its catalog.
pub(super) trait ConstraintRow: Wire {
    /// Where its catalog stands.
    fn catalog(&mut self) -> &mut Option<String>;
}

macro_rules! constraint_rows {
    ($($of:ident)*) => { $(
        impl ConstraintRow for api::$of {
            fn catalog(&mut self) -> &mut Option<String> {
                &mut self.cat_name
            }
        }
    )* };
}
constraint_rows!(SQLPrimaryKey SQLForeignKey SQLUniqueConstraint SQLNotNullConstraint SQLDefaultConstraint SQLCheckConstraint);

/// Constraints, each of which may come as several rows.
pub(super) fn constraints<T: ConstraintRow>(
    row: &EventRow,
    field: &str,
    texts: &List<String>,
    from: impl Fn(Vec<T>) -> Result<Vec<Constraint>, String>,
) -> Result<Vec<Constraint>, Wrong> {
    let mut rows = Vec::new();
    for text in &texts.0 {
        let mut found: T = object(field, text)?;
        found.catalog().get_or_insert_with(|| catalog_of(row).to_owned());
        rows.push(found);
    }
    let mut constraints = converted(field, from(rows))?;
    if constraints.is_empty() {
        return Err(damaged(format_args!("its `{field}` is empty")));
    }
    for constraint in &mut constraints {
        constraint.table = lowered(&constraint.table);
        if let ConstraintKind::ForeignKey { parent, .. } = &mut constraint.kind {
            *parent = lowered(parent);
        }
    }
    Ok(constraints)
}

/// What is asked of an index: our IDL, which is of later versions, does not have them.
pub(super) fn index(row: &EventRow, field: &str, text: &str) -> Result<Index, Wrong> {
    #[derive(Deserialize)]
    struct Word {
        str: String,
    }
    #[derive(Deserialize)]
    struct Found {
        #[serde(rename = "1")]
        name: Word,
        #[serde(rename = "3")]
        database: Word,
        #[serde(rename = "4")]
        table: Word,
        #[serde(rename = "7")]
        index_table: Option<Word>,
    }
    let found: Found = serde_json::from_str(text).map_err(|error| damaged(format_args!("its `{field}`: {error}")))?;
    let database = database_name(row, &found.database.str);
    Ok(Index {
        name: found.name.str.to_lowercase(),
        table: database.table(&found.table.str),
        index_table: found.index_table.map(|table| database.table(&table.str)),
    })
}

fn lowered(name: &TableName) -> TableName {
    DatabaseName::in_catalog(&name.catalog, &name.database).table(&name.table)
}

fn has_capitals(columns: &[Column]) -> bool {
    columns.iter().any(|column| column.name.chars().any(char::is_uppercase))
}

fn lower_columns(columns: &mut [Column]) {
    for column in columns {
        column.name = column.name.to_lowercase();
    }
}

fn lower_storage(storage: &mut StorageDescriptor) {
    if has_capitals(&storage.columns) {
        lower_columns(Arc::make_mut(&mut storage.columns).as_mut_slice());
    }
}
