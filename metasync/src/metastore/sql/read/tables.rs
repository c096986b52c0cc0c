//! Tables, views and materialized views of one database.

use super::Reader;
use super::children::{Children, principal, texts};
use super::storage::{self, Head};
use crate::metastore::sql::connection::Connection;
use crate::metastore::sql::dialect::placeholders;
use crate::metastore::sql::probe::Schema;
use crate::metastore::sql::value::Value;
use crate::metastore::{Batch, Damaged, Result};
use crate::model::{
    Column, CreationMetadata, DatabaseName, HIVE_CATALOG, MaterializationSource, Table, TableName, UnknownFields,
};
use std::collections::HashMap;

/// Names in one statement.
const NAMES_PER_STATEMENT: usize = 1000;

const COLUMNS: [&str; 13] = [
    "TBL_ID",
    "TBL_NAME",
    "TBL_TYPE",
    "OWNER",
    "OWNER_TYPE",
    "CREATE_TIME",
    "LAST_ACCESS_TIME",
    "RETENTION",
    "VIEW_ORIGINAL_TEXT",
    "VIEW_EXPANDED_TEXT",
    "IS_REWRITE_ENABLED",
    "WRITE_ID",
    "UNKNOWN_FIELDS",
];

/// A table with the ids of its rows.
pub(crate) struct Found {
    pub(crate) id: i64,
    pub(crate) head: Head,
    pub(crate) table: Table,
}

/// Tables by name, the damaged ones too.
pub(crate) struct FoundTables(pub(crate) Vec<Found>);

impl FoundTables {
    pub(crate) fn into_batch(self) -> Batch<Table> {
        let mut batch = Batch::empty();
        for Found { head, table, .. } in self.0 {
            match head.damage {
                Some(why) => batch.damaged.push(Damaged::table(table.name, why)),
                None => batch.found.push(table),
            }
        }
        batch
    }
}

pub(crate) async fn names(reader: &mut Reader, database: &DatabaseName) -> Result<Vec<String>> {
    let Some(id) = reader.database_id(database).await? else { return Ok(Vec::new()) };
    let sql = "SELECT \"TBL_NAME\" FROM \"TBLS\" WHERE \"DB_ID\" = ?";
    let rows = reader.connection.query(sql, &[id.into()]).await?;
    let mut names: Vec<String> = rows.into_iter().map(|mut row| row.string(0)).collect::<Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The ids of these tables of a database, by name.
pub(crate) async fn ids(
    reader: &mut Reader,
    database: &DatabaseName,
    names: &[String],
) -> Result<HashMap<i64, String>> {
    let mut found = HashMap::new();
    let Some(id) = reader.database_id(database).await? else { return Ok(found) };
    for names in names.chunks(NAMES_PER_STATEMENT) {
        let mut values: Vec<Value> = vec![id.into()];
        values.extend(reader.schema.wanted("TBLS", "TBL_NAME", names));
        let sql = format!(
            "SELECT \"TBL_ID\", \"TBL_NAME\" FROM \"TBLS\" WHERE \"DB_ID\" = ? AND \"TBL_NAME\" IN ({})",
            placeholders(names.len())
        );
        for mut row in reader.connection.query(&sql, &values).await? {
            found.insert(row.id(0)?, row.string(1)?);
        }
    }
    Ok(found)
}

pub(crate) async fn tables(reader: &mut Reader, database: &DatabaseName, names: &[String]) -> Result<FoundTables> {
    let Some(database_id) = reader.database_id(database).await? else { return Ok(FoundTables(Vec::new())) };
    let Reader { connection, schema, columns: cache, .. } = reader;
    let mut found = Vec::with_capacity(names.len());
    for names in names.chunks(NAMES_PER_STATEMENT) {
        let mut values: Vec<Value> = vec![database_id.into()];
        values.extend(schema.wanted("TBLS", "TBL_NAME", names));
        let sql = format!(
            "SELECT {}, {} FROM \"TBLS\" o {} WHERE o.\"DB_ID\" = ? AND o.\"TBL_NAME\" IN ({})",
            schema.select("TBLS", "o", &COLUMNS),
            storage::select(schema),
            storage::JOINS,
            placeholders(names.len())
        );
        for mut row in connection.query(&sql, &values).await? {
            let id = row.id(0)?;
            let head = Head::read(&mut row, COLUMNS.len(), &format!("TBLS {id}"))?;
            let owner_kind = row.text(4)?;
            let table = Table {
                name: database.table(&row.string(1)?),
                table_type: row.text(2)?,
                owner: principal(row.text(3)?, owner_kind.as_deref()),
                create_time: row.int32(5)?,
                last_access_time: row.int32(6)?,
                retention: row.int32(7)?,
                view_original_text: row.text(8)?,
                view_expanded_text: row.text(9)?,
                rewrite_enabled: row.bool(10)?,
                write_id: row.int(11)?.unwrap_or(0),
                unknown: UnknownFields(row.bytes(12)?.unwrap_or_default()),
                storage: crate::model::StorageDescriptor::default(),
                partition_keys: Vec::new(),
                parameters: crate::model::Parameters::new(),
                creation_metadata: None,
            };
            found.push(Found { id, head, table });
        }
    }
    found.sort_by(|a, b| a.table.name.cmp(&b.table.name));
    storage::fill(connection, schema, cache, found.iter_mut().map(|found| &mut found.head)).await?;
    let ids: Vec<i64> = found.iter().map(|found| found.id).collect();
    let mut parameters = Children::parameters("TABLE_PARAMS", "TBL_ID", connection, schema, &ids).await?;
    let mut keys = KEYS.of(connection, schema, &ids).await?;
    let mut made_of = creation_metadata(connection, schema, database, &found).await?;
    for Found { id, head, table } in &mut found {
        table.storage = std::mem::take(&mut head.storage);
        table.parameters = parameters.remove(id).unwrap_or_default();
        table.creation_metadata = made_of.remove(&table.name.table);
        for mut row in keys.remove(id).unwrap_or_default() {
            table.partition_keys.push(Column {
                name: row.string(0)?,
                type_name: row.string(1)?,
                comment: row.text(2)?,
                unknown: UnknownFields(row.bytes(3)?.unwrap_or_default()),
            });
        }
    }
    Ok(FoundTables(found))
}

pub(crate) const KEYS: Children = Children {
    table: "PARTITION_KEYS",
    owner: "TBL_ID",
    columns: &["PKEY_NAME", "PKEY_TYPE", "PKEY_COMMENT", "UNKNOWN_FIELDS"],
    order: Some("INTEGER_IDX"),
};

/// What the materialized views among these tables were made of, by the view's name.
async fn creation_metadata(
    connection: &mut Connection,
    schema: &Schema,
    database: &DatabaseName,
    found: &[Found],
) -> Result<HashMap<String, CreationMetadata>> {
    let mut all = HashMap::new();
    let is_view = |found: &&Found| found.table.table_type.as_deref() == Some("MATERIALIZED_VIEW");
    let views: Vec<&String> = found.iter().filter(is_view).map(|found| &found.table.name.table).collect();
    if views.is_empty() || !schema.has_table("MV_CREATION_METADATA") {
        return Ok(all);
    }
    let mut ids: HashMap<i64, (String, CreationMetadata)> = HashMap::new();
    for views in views.chunks(NAMES_PER_STATEMENT) {
        let mut values: Vec<Value> = vec![(&database.catalog).into(), (&database.database).into()];
        values.extend(texts(views.iter().copied()));
        let sql = format!(
            "SELECT \"MV_CREATION_METADATA_ID\", \"TBL_NAME\", \"TXN_LIST\", \"MATERIALIZATION_TIME\" \
             FROM \"MV_CREATION_METADATA\" WHERE \"CAT_NAME\" = ? AND \"DB_NAME\" = ? AND \"TBL_NAME\" IN ({})",
            placeholders(views.len())
        );
        for mut row in connection.query(&sql, &values).await? {
            let made_of = CreationMetadata {
                sources: Vec::new(),
                valid_write_ids: row.text(2)?,
                materialization_time: row.int(3)?.filter(|time| *time != 0),
            };
            ids.insert(row.id(0)?, (row.string(1)?, made_of));
        }
    }
    let catalog = if schema.has("DBS", "CTLG_NAME") { "d.\"CTLG_NAME\"" } else { "NULL" };
    let counts = schema.select("MV_TABLES_USED", "u", &["INSERTED_COUNT", "UPDATED_COUNT", "DELETED_COUNT"]);
    let list: Vec<i64> = ids.keys().copied().collect();
    for list in list.chunks(super::children::IDS_PER_STATEMENT) {
        let sql = format!(
            "SELECT u.\"MV_CREATION_METADATA_ID\", {catalog}, d.\"NAME\", t.\"TBL_NAME\", {counts} \
             FROM \"MV_TABLES_USED\" u JOIN \"TBLS\" t ON t.\"TBL_ID\" = u.\"TBL_ID\" \
             JOIN \"DBS\" d ON d.\"DB_ID\" = t.\"DB_ID\" WHERE u.\"MV_CREATION_METADATA_ID\" IN ({})",
            crate::metastore::sql::dialect::id_list(list)
        );
        for mut row in connection.query(&sql, &[]).await? {
            let id = row.id(0)?;
            let catalog = row.text(1)?.unwrap_or_else(|| HIVE_CATALOG.to_owned());
            let source = MaterializationSource {
                table: TableName { catalog, database: row.string(2)?, table: row.string(3)? },
                inserted: row.int(4)?.unwrap_or(0),
                updated: row.int(5)?.unwrap_or(0),
                deleted: row.int(6)?.unwrap_or(0),
            };
            if let Some((_, made_of)) = ids.get_mut(&id) {
                made_of.sources.push(source);
            }
        }
    }
    for (view, mut made_of) in ids.into_values() {
        made_of.sources.sort();
        all.insert(view, made_of);
    }
    Ok(all)
}
