//! Storage descriptors, SerDes, columns, skew.

use super::{Converted, from_unknown, required, to_unknown};
use crate::model::{Column, SerDe, Skew, SortColumn, SortOrder, StorageDescriptor};
use hms::api;
use std::sync::Arc;

pub(super) fn from_columns(columns: Option<Vec<api::FieldSchema>>) -> Converted<Vec<Column>> {
    let column = |column: api::FieldSchema| {
        Ok(Column {
            name: required(column.name, "name")?,
            type_name: required(column.r#type, "type")?,
            comment: column.comment,
            unknown: from_unknown(column.unknown),
        })
    };
    columns.unwrap_or_default().into_iter().map(column).collect()
}

pub(super) fn to_columns(columns: &[Column]) -> Converted<Vec<api::FieldSchema>> {
    let column = |column: &Column| {
        Ok(api::FieldSchema {
            name: Some(column.name.clone()),
            r#type: Some(column.type_name.clone()),
            comment: column.comment.clone(),
            unknown: to_unknown(&column.unknown)?,
        })
    };
    columns.iter().map(column).collect()
}

pub(super) fn from_storage(storage: Option<api::StorageDescriptor>) -> Converted<StorageDescriptor> {
    let Some(storage) = storage else { return Ok(StorageDescriptor::default()) };
    Ok(StorageDescriptor {
        columns: Arc::new(from_columns(storage.cols)?),
        location: storage.location,
        input_format: storage.input_format,
        output_format: storage.output_format,
        compressed: storage.compressed.unwrap_or_default(),
        bucket_count: storage.num_buckets.unwrap_or_default(),
        serde: from_serde(storage.serde_info.unwrap_or_default()),
        bucket_columns: storage.bucket_cols.unwrap_or_default(),
        sort_columns: storage.sort_cols.unwrap_or_default().into_iter().map(from_sort).collect::<Converted<_>>()?,
        parameters: storage.parameters.unwrap_or_default(),
        skew: storage.skewed_info.map(from_skew).unwrap_or_default(),
        stored_as_sub_directories: storage.stored_as_sub_directories.unwrap_or_default(),
        unknown: from_unknown(storage.unknown),
    })
}

/// Lists and maps are sent empty where there is nothing: to a server, absent means "leave it" in places.
pub(super) fn to_storage(storage: &StorageDescriptor) -> Converted<api::StorageDescriptor> {
    Ok(api::StorageDescriptor {
        cols: Some(to_columns(&storage.columns)?),
        location: storage.location.clone(),
        input_format: storage.input_format.clone(),
        output_format: storage.output_format.clone(),
        compressed: Some(storage.compressed),
        num_buckets: Some(storage.bucket_count),
        serde_info: Some(to_serde(&storage.serde)?),
        bucket_cols: Some(storage.bucket_columns.clone()),
        sort_cols: Some(storage.sort_columns.iter().map(to_sort).collect()),
        parameters: Some(storage.parameters.clone()),
        skewed_info: Some(to_skew(&storage.skew)),
        stored_as_sub_directories: Some(storage.stored_as_sub_directories),
        unknown: to_unknown(&storage.unknown)?,
    })
}

fn from_serde(serde: api::SerDeInfo) -> SerDe {
    SerDe {
        name: serde.name,
        library: serde.serialization_lib,
        parameters: serde.parameters.unwrap_or_default(),
        description: serde.description,
        serializer: serde.serializer_class,
        deserializer: serde.deserializer_class,
        kind: serde.serde_type.map(|kind| kind.0),
        unknown: from_unknown(serde.unknown),
    }
}

fn to_serde(serde: &SerDe) -> Converted<api::SerDeInfo> {
    Ok(api::SerDeInfo {
        name: serde.name.clone(),
        serialization_lib: serde.library.clone(),
        parameters: Some(serde.parameters.clone()),
        description: serde.description.clone(),
        serializer_class: serde.serializer.clone(),
        deserializer_class: serde.deserializer.clone(),
        serde_type: serde.kind.map(api::SerdeType),
        unknown: to_unknown(&serde.unknown)?,
    })
}

fn from_sort(sort: api::Order) -> Converted<SortColumn> {
    let order = match sort.order {
        Some(0) => SortOrder::Descending,
        None | Some(1) => SortOrder::Ascending,
        Some(other) => return Err(format!("a sort order of {other}, which is not known here")),
    };
    Ok(SortColumn { name: required(sort.col, "col")?, order })
}

fn to_sort(sort: &SortColumn) -> api::Order {
    let order = match sort.order {
        SortOrder::Descending => 0,
        SortOrder::Ascending => 1,
    };
    api::Order { col: Some(sort.name.clone()), order: Some(order), ..Default::default() }
}

fn from_skew(skew: api::SkewedInfo) -> Skew {
    Skew {
        columns: skew.skewed_col_names.unwrap_or_default(),
        values: skew.skewed_col_values.unwrap_or_default(),
        locations: skew.skewed_col_value_location_maps.unwrap_or_default().into_iter().collect(),
    }
}

fn to_skew(skew: &Skew) -> api::SkewedInfo {
    api::SkewedInfo {
        skewed_col_names: Some(skew.columns.clone()),
        skewed_col_values: Some(skew.values.clone()),
        skewed_col_value_location_maps: Some(skew.locations.iter().cloned().collect()),
        ..Default::default()
    }
}
