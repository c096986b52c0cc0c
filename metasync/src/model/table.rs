//! Tables, views, materialized views and partitions.

use super::{Column, Parameters, Principal, StorageDescriptor, TableName, UnknownFields};
use serde::Serialize;

/// A table, view or materialized view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its catalog, database and name.
    #[serde(flatten)]
    pub name: TableName,
    /// `MANAGED_TABLE`, `EXTERNAL_TABLE`, `VIRTUAL_VIEW`, `MATERIALIZED_VIEW`, or what a later Hive adds.
    pub table_type: Option<String>,
    /// Who owns it.
    pub owner: Option<Principal>,
    /// Seconds since 1970.
    pub create_time: i32,
    /// Seconds since 1970, 0 if never kept.
    pub last_access_time: i32,
    /// Days; 0 for nearly all.
    pub retention: i32,
    /// Columns and files.
    pub storage: StorageDescriptor,
    /// In order; empty for a table without partitions.
    pub partition_keys: Vec<Column>,
    /// Sorted.
    pub parameters: Parameters,
    /// A view as it was typed.
    pub view_original_text: Option<String>,
    /// A view with names in full.
    pub view_expanded_text: Option<String>,
    /// Whether the optimizer may use this materialized view.
    pub rewrite_enabled: bool,
    /// What a materialized view was made of.
    pub creation_metadata: Option<CreationMetadata>,
    /// The write id of the last change of a transactional table; Hive 4. 0 and absent are the same.
    pub write_id: i64,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// What a materialized view was made of, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreationMetadata {
    /// Its source tables, sorted.
    pub sources: Vec<MaterializationSource>,
    /// The valid write ids that it saw, as Hive writes them.
    pub valid_write_ids: Option<String>,
    /// Milliseconds since 1970.
    pub materialization_time: Option<i64>,
}

/// A source table of a materialized view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MaterializationSource {
    /// The table.
    pub table: TableName,
    /// Rows inserted since; Hive 4, else 0.
    pub inserted: i64,
    /// Rows updated since; Hive 4, else 0.
    pub updated: i64,
    /// Rows deleted since; Hive 4, else 0.
    pub deleted: i64,
}

/// A partition of a table, which its context names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// One for each partition key, as they are, unescaped.
    pub values: Vec<String>,
    /// Seconds since 1970.
    pub create_time: i32,
    /// Seconds since 1970, 0 if never kept.
    pub last_access_time: i32,
    /// Columns and files.
    pub storage: StorageDescriptor,
    /// Sorted.
    pub parameters: Parameters,
    /// As for a table.
    pub write_id: i64,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}
