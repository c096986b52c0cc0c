//! Storage descriptors on their way into a metastore, those of many tables or partitions at a time.

use super::Writer;
use crate::metastore::Result;
use crate::metastore::sql::connection::Connection;
use crate::metastore::sql::ids::{Ids, Sequence};
use crate::metastore::sql::probe::Schema;
use crate::metastore::sql::read::children::IDS_PER_STATEMENT;
use crate::metastore::sql::rows::{Cell, Rows, cell, cell_if};
use crate::model::{Parameters, SortOrder, StorageDescriptor, UnknownFields};
use std::sync::Arc;

/// Rows of storage descriptors, table by table.
pub(super) struct StorageRows {
    new_serdes: Rows,
    old_serdes: Rows,
    serde_parameters: Rows,
    new_sds: Rows,
    old_sds: Rows,
    parameters: Rows,
    buckets: Rows,
    sorts: Rows,
    skewed_names: Rows,
    lists: Rows,
    list_values: Rows,
    skewed_values: Rows,
    skewed_locations: Rows,
}

/// Where a storage descriptor stands already, if it does.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) sd: Option<i64>,
    pub(super) serde: Option<i64>,
}

impl StorageRows {
    pub(super) fn new() -> Self {
        Self {
            new_serdes: Rows::new("SERDES"),
            old_serdes: Rows::new("SERDES"),
            serde_parameters: Rows::new("SERDE_PARAMS"),
            new_sds: Rows::new("SDS"),
            old_sds: Rows::new("SDS"),
            parameters: Rows::new("SD_PARAMS"),
            buckets: Rows::new("BUCKETING_COLS"),
            sorts: Rows::new("SORT_COLS"),
            skewed_names: Rows::new("SKEWED_COL_NAMES"),
            lists: Rows::new("SKEWED_STRING_LIST"),
            list_values: Rows::new("SKEWED_STRING_LIST_VALUES"),
            skewed_values: Rows::new("SKEWED_VALUES"),
            skewed_locations: Rows::new("SKEWED_COL_VALUE_LOC_MAP"),
        }
    }

    /// Adds a storage descriptor with this list of columns; its SD_ID.
    pub(super) fn push(
        &mut self,
        schema: &Schema,
        ids: &mut Ids,
        object: &dyn Fn() -> String,
        storage: &StorageDescriptor,
        slot: Slot,
        columns: i64,
    ) -> Result<i64> {
        let serde = match slot.serde {
            Some(id) => id,
            None => ids.take(Sequence::SerDe)?,
        };
        let sd = match slot.sd {
            Some(id) => id,
            None => ids.take(Sequence::Storage)?,
        };
        let serdes = if slot.serde.is_some() { &mut self.old_serdes } else { &mut self.new_serdes };
        let from = &storage.serde;
        serdes.push(
            schema,
            object,
            vec![
                cell("SERDE_ID", serde),
                cell("NAME", &from.name),
                cell("SLIB", &from.library),
                cell_if("DESCRIPTION", &from.description, from.description.is_none()),
                cell_if("SERIALIZER_CLASS", &from.serializer, from.serializer.is_none()),
                cell_if("DESERIALIZER_CLASS", &from.deserializer, from.deserializer.is_none()),
                // 0 is what Hive writes for none.
                cell_if("SERDE_TYPE", from.kind.unwrap_or(0), from.kind.is_none()),
                unknown(&from.unknown),
            ],
        )?;
        parameters(&mut self.serde_parameters, schema, object, ("SERDE_ID", serde), &from.parameters)?;
        let sds = if slot.sd.is_some() { &mut self.old_sds } else { &mut self.new_sds };
        sds.push(
            schema,
            object,
            vec![
                cell("SD_ID", sd),
                cell("CD_ID", columns),
                cell("SERDE_ID", serde),
                cell("INPUT_FORMAT", &storage.input_format),
                cell("IS_COMPRESSED", storage.compressed),
                cell("LOCATION", &storage.location),
                cell("NUM_BUCKETS", storage.bucket_count),
                cell("OUTPUT_FORMAT", &storage.output_format),
                cell("IS_STOREDASSUBDIRECTORIES", storage.stored_as_sub_directories),
                unknown(&storage.unknown),
            ],
        )?;
        parameters(&mut self.parameters, schema, object, ("SD_ID", sd), &storage.parameters)?;
        for (index, column) in (0i64..).zip(&storage.bucket_columns) {
            let cells = vec![cell("SD_ID", sd), cell("BUCKET_COL_NAME", column), cell("INTEGER_IDX", index)];
            self.buckets.push(schema, object, cells)?;
        }
        for (index, column) in (0i64..).zip(&storage.sort_columns) {
            let order = if column.order == SortOrder::Ascending { 1 } else { 0 };
            let cells = vec![
                cell("SD_ID", sd),
                cell("COLUMN_NAME", &column.name),
                cell("ORDER", order),
                cell("INTEGER_IDX", index),
            ];
            self.sorts.push(schema, object, cells)?;
        }
        self.push_skew(schema, ids, object, storage, sd)?;
        Ok(sd)
    }

    fn push_skew(
        &mut self,
        schema: &Schema,
        ids: &mut Ids,
        object: &dyn Fn() -> String,
        storage: &StorageDescriptor,
        sd: i64,
    ) -> Result<()> {
        for (index, column) in (0i64..).zip(&storage.skew.columns) {
            let cells = vec![cell("SD_ID", sd), cell("SKEWED_COL_NAME", column), cell("INTEGER_IDX", index)];
            self.skewed_names.push(schema, object, cells)?;
        }
        for (index, values) in (0i64..).zip(&storage.skew.values) {
            let list = self.push_list(schema, ids, object, values)?;
            let cells = vec![cell("SD_ID_OID", sd), cell("STRING_LIST_ID_EID", list), cell("INTEGER_IDX", index)];
            self.skewed_values.push(schema, object, cells)?;
        }
        for (values, location) in &storage.skew.locations {
            let list = self.push_list(schema, ids, object, values)?;
            let cells = vec![cell("SD_ID", sd), cell("STRING_LIST_ID_KID", list), cell("LOCATION", location)];
            self.skewed_locations.push(schema, object, cells)?;
        }
        Ok(())
    }

    fn push_list(
        &mut self,
        schema: &Schema,
        ids: &mut Ids,
        object: &dyn Fn() -> String,
        values: &[String],
    ) -> Result<i64> {
        let list = ids.take(Sequence::StringList)?;
        self.lists.push(schema, object, vec![cell("STRING_LIST_ID", list)])?;
        for (index, value) in (0i64..).zip(values) {
            let cells =
                vec![cell("STRING_LIST_ID", list), cell("STRING_LIST_VALUE", value), cell("INTEGER_IDX", index)];
            self.list_values.push(schema, object, cells)?;
        }
        Ok(list)
    }

    /// Writes them. Rows that belonged to what stands already were cleared before.
    pub(super) async fn write(self, connection: &mut Connection, schema: &Schema) -> Result<()> {
        self.new_serdes.insert(connection, schema).await?;
        self.old_serdes.upsert(connection, schema, "SERDE_ID").await?;
        self.serde_parameters.insert(connection, schema).await?;
        self.new_sds.insert(connection, schema).await?;
        self.old_sds.upsert(connection, schema, "SD_ID").await?;
        for rows in [
            self.parameters,
            self.buckets,
            self.sorts,
            self.skewed_names,
            self.lists,
            self.list_values,
            self.skewed_values,
            self.skewed_locations,
        ] {
            rows.insert(connection, schema).await?;
        }
        Ok(())
    }
}

/// Adds parameters of an owner.
pub(super) fn parameters(
    rows: &mut Rows,
    schema: &Schema,
    object: &dyn Fn() -> String,
    (column, owner): (&'static str, i64),
    parameters: &Parameters,
) -> Result<()> {
    for (key, value) in parameters {
        let named = || format!("the parameter {key} of {}", object());
        rows.push(schema, &named, vec![cell(column, owner), cell("PARAM_KEY", key), cell("PARAM_VALUE", value)])?;
    }
    Ok(())
}

/// What only our own schema can hold.
pub(super) fn unknown(fields: &UnknownFields) -> Cell {
    cell_if("UNKNOWN_FIELDS", Some(&fields.0).filter(|bytes| !bytes.is_empty()), fields.is_empty())
}

/// Where a row of SDS has others; those that name lists of strings first.
const OF_SDS: [(&str, &str); 6] = [
    ("SKEWED_VALUES", "SD_ID_OID"),
    ("SKEWED_COL_VALUE_LOC_MAP", "SD_ID"),
    ("SKEWED_COL_NAMES", "SD_ID"),
    ("SORT_COLS", "SD_ID"),
    ("BUCKETING_COLS", "SD_ID"),
    ("SD_PARAMS", "SD_ID"),
];

/// Removes what belongs to these rows of SDS and SERDES, which stay.
pub(super) async fn clear(writer: &mut Writer<'_>, sds: &[i64], serdes: &[i64]) -> Result<()> {
    let schema = Arc::clone(&writer.reader.schema);
    let mut lists = Vec::new();
    for sds in sds.chunks(IDS_PER_STATEMENT) {
        let mut values = Vec::new();
        let mut of_one = |table: &str, owner: &str, list: &str| {
            let (among, more) = schema.dialect.among(&format!("\"{owner}\""), sds);
            values.extend(more);
            format!("SELECT \"{list}\" FROM \"{table}\" WHERE {among}")
        };
        let selects: Vec<String> = [
            ("SKEWED_VALUES", "SD_ID_OID", "STRING_LIST_ID_EID"),
            ("SKEWED_COL_VALUE_LOC_MAP", "SD_ID", "STRING_LIST_ID_KID"),
        ]
        .into_iter()
        .filter(|(table, ..)| schema.has_table(table))
        .map(|(table, owner, list)| of_one(table, owner, list))
        .collect();
        if selects.is_empty() {
            break;
        }
        for mut row in writer.reader.connection.query(&selects.join(" UNION ALL "), &values).await? {
            lists.push(row.id(0)?);
        }
    }
    writer.delete(&OF_SDS, sds).await?;
    let of_lists = [("SKEWED_STRING_LIST_VALUES", "STRING_LIST_ID"), ("SKEWED_STRING_LIST", "STRING_LIST_ID")];
    writer.delete(&of_lists, &lists).await?;
    writer.delete(&[("SERDE_PARAMS", "SERDE_ID")], serdes).await
}
