//! Storage descriptors of a set of tables or partitions, column lists shared as the metastore shares them.

use super::children::Children;
use crate::metastore::Result;
use crate::metastore::sql::connection::Connection;
use crate::metastore::sql::probe::Schema;
use crate::metastore::sql::value::Row;
use crate::model::{Column, SerDe, Skew, SortColumn, SortOrder, StorageDescriptor, UnknownFields};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Column lists that are remembered while somebody uses them; past it those that nobody uses are forgotten.
const REMEMBERED_LISTS: usize = 10_000;

/// Column lists by CD_ID, so that equal ids give the same [`Arc`] over calls.
#[derive(Default)]
pub(crate) struct ColumnCache(HashMap<i64, Weak<Vec<Column>>>);

const SDS: [&str; 10] = [
    "SD_ID",
    "CD_ID",
    "SERDE_ID",
    "INPUT_FORMAT",
    "IS_COMPRESSED",
    "LOCATION",
    "NUM_BUCKETS",
    "OUTPUT_FORMAT",
    "IS_STOREDASSUBDIRECTORIES",
    "UNKNOWN_FIELDS",
];

const SERDES: [&str; 8] = [
    "SERDE_ID",
    "NAME",
    "SLIB",
    "DESCRIPTION",
    "SERIALIZER_CLASS",
    "DESERIALIZER_CLASS",
    "SERDE_TYPE",
    "UNKNOWN_FIELDS",
];

/// The joins that [`select`] needs; the owner's alias is `o`.
pub(crate) const JOINS: &str =
    "LEFT JOIN \"SDS\" s ON s.\"SD_ID\" = o.\"SD_ID\" LEFT JOIN \"SERDES\" r ON r.\"SERDE_ID\" = s.\"SERDE_ID\"";

/// The columns that [`Head::read`] takes.
pub(crate) fn select(schema: &Schema) -> String {
    format!("o.\"SD_ID\", {}, {}", schema.select("SDS", "s", &SDS), schema.select("SERDES", "r", &SERDES))
}

/// The rows of SDS and SERDES of one object, and the ids by which the rest is found.
pub(crate) struct Head {
    pub(crate) sd: Option<i64>,
    pub(crate) serde: Option<i64>,
    pub(crate) cd: Option<i64>,
    /// What does not fit together, if anything.
    pub(crate) damage: Option<String>,
    pub(crate) storage: StorageDescriptor,
}

impl Head {
    /// From a row whose columns from `at` on are those of [`select`]; `owner` is such as `TBLS 7`.
    pub(crate) fn read(row: &mut Row, at: usize, owner: &str) -> Result<Self> {
        let (named, sd) = (row.int(at)?, row.int(at + 1)?);
        let (cd, serde_named) = (row.int(at + 2)?, row.int(at + 3)?);
        let serde = row.int(at + 11)?;
        let damage = match (named, sd, serde_named, serde) {
            (None, ..) => Some(format!("{owner} names no SDS")),
            (Some(named), None, ..) => Some(format!("{owner} names SDS {named}, which is not there")),
            (_, Some(sd), None, _) => Some(format!("SDS {sd} names no SERDES")),
            (_, Some(sd), Some(serde), None) => Some(format!("SDS {sd} names SERDES {serde}, which is not there")),
            _ => None,
        };
        let kind = row.int(at + 17)?;
        let storage = StorageDescriptor {
            input_format: row.text(at + 4)?,
            compressed: row.bool(at + 5)?,
            location: row.text(at + 6)?,
            bucket_count: row.int32(at + 7)?,
            output_format: row.text(at + 8)?,
            stored_as_sub_directories: row.bool(at + 9)?,
            unknown: UnknownFields(row.bytes(at + 10)?.unwrap_or_default()),
            serde: SerDe {
                name: row.text(at + 12)?,
                library: row.text(at + 13)?,
                description: row.text(at + 14)?,
                serializer: row.text(at + 15)?,
                deserializer: row.text(at + 16)?,
                kind: kind.and_then(|kind| i32::try_from(kind).ok()).filter(|kind| *kind != 0),
                unknown: UnknownFields(row.bytes(at + 18)?.unwrap_or_default()),
                ..SerDe::default()
            },
            ..StorageDescriptor::default()
        };
        Ok(Self { sd, serde, cd, damage, storage })
    }
}

/// Adds to the heads what stands in child tables.
pub(crate) async fn fill<'a>(
    connection: &mut Connection,
    schema: &Schema,
    cache: &mut ColumnCache,
    heads: impl IntoIterator<Item = &'a mut Head>,
) -> Result<()> {
    let mut heads: Vec<&mut Head> = heads.into_iter().filter(|head| head.damage.is_none()).collect();
    let sds: Vec<i64> = heads.iter().filter_map(|head| head.sd).collect();
    let serdes: Vec<i64> = heads.iter().filter_map(|head| head.serde).collect();
    let lists = column_lists(connection, schema, cache, heads.iter().filter_map(|head| head.cd)).await?;
    let c = connection;
    let mut serde_parameters = Children::parameters("SERDE_PARAMS", "SERDE_ID", c, schema, &serdes).await?;
    let mut parameters = Children::parameters("SD_PARAMS", "SD_ID", c, schema, &sds).await?;
    let mut buckets = Children::texts("BUCKETING_COLS", "SD_ID", &["BUCKET_COL_NAME"], c, schema, &sds).await?;
    let mut sorts = SORT_COLS.of(c, schema, &sds).await?;
    let mut skews = skews(c, schema, &sds).await?;
    for head in &mut heads {
        let Some(sd) = head.sd else { continue };
        match (head.cd, head.cd.and_then(|cd| lists.get(&cd))) {
            (_, Some(list)) => head.storage.columns = Arc::clone(list),
            (Some(cd), None) => head.damage = Some(format!("SDS {sd} names CDS {cd}, which is not there")),
            (None, None) => head.damage = Some(format!("SDS {sd} names no CDS")),
        }
        head.storage.parameters = parameters.remove(&sd).unwrap_or_default();
        head.storage.bucket_columns = buckets.remove(&sd).unwrap_or_default();
        head.storage.skew = skews.remove(&sd).unwrap_or_default();
        for mut row in sorts.remove(&sd).unwrap_or_default() {
            let order = if row.int(1)? == Some(0) { SortOrder::Descending } else { SortOrder::Ascending };
            head.storage.sort_columns.push(SortColumn { name: row.string(0)?, order });
        }
        // A SERDES row may be shared by a damaged store; then each gets the parameters.
        if let Some(serde) = head.serde
            && let Some(parameters) = serde_parameters.get_mut(&serde)
        {
            head.storage.serde.parameters = parameters.clone();
        }
    }
    Ok(())
}

const SORT_COLS: Children =
    Children { table: "SORT_COLS", owner: "SD_ID", columns: &["COLUMN_NAME", "ORDER"], order: Some("INTEGER_IDX") };

const COLUMNS: Children = Children {
    table: "COLUMNS_V2",
    owner: "CD_ID",
    columns: &["COLUMN_NAME", "TYPE_NAME", "COMMENT", "UNKNOWN_FIELDS"],
    order: Some("INTEGER_IDX"),
};

/// The column lists with these ids; one that is not there is left out.
pub(crate) async fn column_lists(
    connection: &mut Connection,
    schema: &Schema,
    cache: &mut ColumnCache,
    ids: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, Arc<Vec<Column>>>> {
    let mut lists = HashMap::new();
    let mut missing: Vec<i64> = Vec::new();
    for id in ids {
        if lists.contains_key(&id) {
            continue;
        }
        match cache.0.get(&id).and_then(Weak::upgrade) {
            Some(list) => drop(lists.insert(id, list)),
            None => missing.push(id),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(lists);
    }
    let there = Children { table: "CDS", owner: "CD_ID", columns: &[], order: None };
    let there = there_ids(&there, connection, schema, &missing).await?;
    let mut rows = COLUMNS.of(connection, schema, &there).await?;
    if cache.0.len() + there.len() > REMEMBERED_LISTS {
        cache.0.retain(|_, list| list.strong_count() > 0);
    }
    for id in there {
        let columns: Result<Vec<Column>> = rows.remove(&id).unwrap_or_default().into_iter().map(column).collect();
        let list = Arc::new(columns?);
        cache.0.insert(id, Arc::downgrade(&list));
        lists.insert(id, list);
    }
    Ok(lists)
}

async fn there_ids(children: &Children, connection: &mut Connection, schema: &Schema, ids: &[i64]) -> Result<Vec<i64>> {
    let mut there = Vec::new();
    for chunk in ids.chunks(super::children::IDS_PER_STATEMENT) {
        let Children { table, owner, .. } = children;
        debug_assert!(schema.has_table(table));
        let (among, values) = schema.dialect.among(&format!("\"{owner}\""), chunk);
        let sql = format!("SELECT \"{owner}\" FROM \"{table}\" WHERE {among}");
        for mut row in connection.query(&sql, &values).await? {
            there.push(row.id(0)?);
        }
    }
    Ok(there)
}

fn column(mut row: Row) -> Result<Column> {
    Ok(Column {
        name: row.string(0)?,
        type_name: row.string(1)?,
        comment: row.text(2)?,
        unknown: UnknownFields(row.bytes(3)?.unwrap_or_default()),
    })
}

const SKEWED_VALUES: Children = Children {
    table: "SKEWED_VALUES",
    owner: "SD_ID_OID",
    columns: &["STRING_LIST_ID_EID"],
    order: Some("INTEGER_IDX"),
};

const SKEWED_LOCATIONS: Children = Children {
    table: "SKEWED_COL_VALUE_LOC_MAP",
    owner: "SD_ID",
    columns: &["STRING_LIST_ID_KID", "LOCATION"],
    order: None,
};

async fn skews(connection: &mut Connection, schema: &Schema, sds: &[i64]) -> Result<HashMap<i64, Skew>> {
    let names = &["SKEWED_COL_NAME"];
    let names = Children::texts("SKEWED_COL_NAMES", "SD_ID", names, connection, schema, sds).await?;
    let values = ids_of(SKEWED_VALUES.of(connection, schema, sds).await?)?;
    let locations = ids_of(SKEWED_LOCATIONS.of(connection, schema, sds).await?)?;
    let lists: Vec<i64> = values.values().chain(locations.values()).flatten().map(|(id, _)| *id).collect();
    let texts = &["STRING_LIST_VALUE"];
    let lists =
        Children::texts("SKEWED_STRING_LIST_VALUES", "STRING_LIST_ID", texts, connection, schema, &lists).await?;
    let list = |id: i64| lists.get(&id).cloned().unwrap_or_default();
    let mut skews: HashMap<i64, Skew> = HashMap::new();
    for (sd, columns) in names {
        skews.entry(sd).or_default().columns = columns;
    }
    for (sd, rows) in values {
        skews.entry(sd).or_default().values = rows.into_iter().map(|(id, _)| list(id)).collect();
    }
    for (sd, rows) in locations {
        let mut locations: Vec<(Vec<String>, String)> =
            rows.into_iter().map(|(id, location)| (list(id), location)).collect();
        locations.sort();
        skews.entry(sd).or_default().locations = locations;
    }
    Ok(skews)
}

/// Rows of an id and perhaps a text.
fn ids_of(rows: HashMap<i64, Vec<Row>>) -> Result<HashMap<i64, Vec<(i64, String)>>> {
    let mut all = HashMap::new();
    for (owner, rows) in rows {
        let mut list = Vec::with_capacity(rows.len());
        for mut row in rows {
            let id = row.id(0)?;
            list.push((id, if row.0.len() > 2 { row.string(1)? } else { String::new() }));
        }
        all.insert(owner, list);
    }
    Ok(all)
}
