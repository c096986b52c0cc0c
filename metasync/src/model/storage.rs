//! Storage descriptors: columns, location, formats, SerDe, buckets, sort order, skew.
//!
//! Partitions share the column list of their table until one of them is altered; the sharing (a `CD_ID` in SQL) is kept as
//! one [`Arc`].

use super::{Parameters, UnknownFields};
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A column, or a partition key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Column {
    /// Lower case.
    pub name: String,
    /// Hive's type, such as `struct<a:int,b:array<string>>`.
    pub type_name: String,
    /// For people.
    pub comment: Option<String>,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// How rows are read from and written to files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SerDe {
    /// Often absent.
    pub name: Option<String>,
    /// The Java class.
    pub library: Option<String>,
    /// Such as `serialization.format`, or `path` for Spark's tables.
    pub parameters: Parameters,
    /// For people; Hive 3.
    pub description: Option<String>,
    /// A Java class; Hive 3.
    pub serializer: Option<String>,
    /// A Java class; Hive 3.
    pub deserializer: Option<String>,
    /// Hive's number: 1 Hive, 2 schema registry; Hive 3.
    pub kind: Option<i32>,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

/// A column by which files are sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SortColumn {
    /// The column's name.
    pub name: String,
    /// In which direction.
    pub order: SortOrder,
}

/// A direction, with Hive's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SortOrder {
    /// 1
    Ascending,
    /// 0
    Descending,
}

/// Values that are so frequent that they have folders of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// The skewed columns.
    pub columns: Vec<String>,
    /// Rows of values, one for each of the columns.
    pub values: Vec<Vec<String>>,
    /// Rows of values with their folder, sorted by values.
    pub locations: Vec<(Vec<String>, String)>,
}

impl Skew {
    /// Whether the table is not skewed.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.values.is_empty() && self.locations.is_empty()
    }
}

/// Where and how the data of a table or a partition is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StorageDescriptor {
    /// In order, without partition keys. One [`Arc`] for all that share it in the metastore.
    #[serde(serialize_with = "unshared")]
    pub columns: Arc<Vec<Column>>,
    /// A URL; absent for views.
    pub location: Option<String>,
    /// A Java class.
    pub input_format: Option<String>,
    /// A Java class.
    pub output_format: Option<String>,
    /// Whether the files are compressed.
    pub compressed: bool,
    /// -1 without buckets.
    pub bucket_count: i32,
    /// How rows are coded.
    pub serde: SerDe,
    /// In order.
    pub bucket_columns: Vec<String>,
    /// In order.
    pub sort_columns: Vec<SortColumn>,
    /// Sorted.
    pub parameters: Parameters,
    /// Empty for nearly all.
    #[serde(skip_serializing_if = "Skew::is_empty")]
    pub skew: Skew,
    /// Whether skewed values stand in subfolders.
    pub stored_as_sub_directories: bool,
    /// What our IDL does not name.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown: UnknownFields,
}

fn unshared<S: Serializer>(columns: &Arc<Vec<Column>>, serializer: S) -> Result<S::Ok, S::Error> {
    columns.as_ref().serialize(serializer)
}
