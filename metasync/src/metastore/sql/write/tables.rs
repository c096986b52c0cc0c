//! Tables and views, put and renamed.

use super::storage::{Slot, StorageRows, clear, parameters, unknown};
use super::{Shape, Writer, conflict, constraints, kind_word, lists, transactions};
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::tables::KEYS;
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::metastore::{Error, Result};
use crate::model::{Column, CreationMetadata, DatabaseName, PrincipalKind, Table, TableName, UnknownFields};
use std::sync::Arc;

/// The shape of a table, if it is there; `lock` stands behind the SELECT.
pub(super) async fn find(writer: &mut Writer<'_>, name: &TableName, lock: &str) -> Result<Option<Arc<Shape>>> {
    let Some(database) = writer.reader.database_id(&name.database()).await? else { return Ok(None) };
    let sql = format!("SELECT \"TBL_ID\", \"SD_ID\" FROM \"TBLS\" WHERE \"DB_ID\" = ? AND \"TBL_NAME\" = ?{lock}");
    let mut values = vec![database.into()];
    values.extend(writer.reader.schema.wanted("TBLS", "TBL_NAME", [&name.table]));
    let rows = writer.reader.connection.query(&sql, &values).await?;
    let Some(mut row) = rows.into_iter().next() else { return Ok(None) };
    let (id, named) = (row.id(0)?, row.int(1)?);
    let (mut sd, mut serde, mut cd) = (None, None, None);
    if let Some(named) = named {
        let sql = "SELECT s.\"SD_ID\", r.\"SERDE_ID\", c.\"CD_ID\" FROM \"SDS\" s \
                   LEFT JOIN \"SERDES\" r ON r.\"SERDE_ID\" = s.\"SERDE_ID\" \
                   LEFT JOIN \"CDS\" c ON c.\"CD_ID\" = s.\"CD_ID\" WHERE s.\"SD_ID\" = ?";
        if let Some(mut row) = writer.reader.connection.query(sql, &[named.into()]).await?.into_iter().next() {
            (sd, serde, cd) = (row.int(0)?, row.int(1)?, row.int(2)?);
        }
    }
    let columns = lists::read(writer, cd).await?.into_values().next().unwrap_or_default();
    let super::Reader { connection, schema, .. } = &mut *writer.reader;
    let mut keys = Vec::new();
    for mut row in KEYS.of(connection, schema, &[id]).await?.remove(&id).unwrap_or_default() {
        keys.push(Column {
            name: row.string(0)?,
            type_name: row.string(1)?,
            comment: row.text(2)?,
            unknown: UnknownFields(row.bytes(3)?.unwrap_or_default()),
        });
    }
    Ok(Some(Arc::new(Shape { id, sd, serde, cd, columns, keys })))
}

pub(super) async fn put(writer: &mut Writer<'_>, table: &Table) -> Result<()> {
    let name = &table.name;
    let object = || format!("table {name}");
    let Some(database) = writer.reader.database_id(&name.database()).await? else {
        return Err(conflict("put", object(), format!("the database {} is not there", name.database())));
    };
    let schema = Arc::clone(&writer.reader.schema);
    let old = find(writer, name, schema.dialect.for_update()).await?;
    if let Some(old) = &old
        && !same_keys(&old.keys, &table.partition_keys)
    {
        let why = "its partition keys differ from those that are there: it has to be dropped first";
        return Err(conflict("put", object(), why.to_owned()));
    }
    let before = match &old {
        Some(_) => writer.before(name).await?,
        None => None,
    };
    let list = match old.as_deref() {
        Some(Shape { cd: Some(cd), columns, .. }) if *columns == table.storage.columns => {
            lists::share(writer, *cd).await?;
            *cd
        }
        _ => lists::make(writer, &table.storage.columns, &object).await?,
    };
    let slot = old.as_ref().map_or(Slot::default(), |old| Slot { sd: old.sd, serde: old.serde });
    if let (Some(sd), serde) = (slot.sd, slot.serde) {
        clear(writer, &[sd], &serde.into_iter().collect::<Vec<i64>>()).await?;
    }
    let mut storage = StorageRows::new();
    let sd = storage.push(&schema, &mut writer.ids, &object, &table.storage, slot, list)?;
    storage.write(&mut writer.reader.connection, &schema).await?;
    let id = match &old {
        Some(old) => old.id,
        None => writer.ids.take(Sequence::Table)?,
    };
    let owner_kind = table.owner.as_ref().map(|owner| kind_word(owner.kind));
    let is_user = table.owner.as_ref().is_none_or(|owner| owner.kind == PrincipalKind::User);
    let mut rows = Rows::new("TBLS");
    rows.push(
        &schema,
        &object,
        vec![
            cell("TBL_ID", id),
            cell("CREATE_TIME", table.create_time),
            cell("DB_ID", database),
            cell("LAST_ACCESS_TIME", table.last_access_time),
            cell("OWNER", table.owner.as_ref().map(|owner| &owner.name)),
            cell_if("OWNER_TYPE", owner_kind, is_user),
            cell("RETENTION", table.retention),
            cell("SD_ID", sd),
            cell("TBL_NAME", &name.table),
            cell("TBL_TYPE", &table.table_type),
            cell("VIEW_EXPANDED_TEXT", &table.view_expanded_text),
            cell("VIEW_ORIGINAL_TEXT", &table.view_original_text),
            cell_if("IS_REWRITE_ENABLED", table.rewrite_enabled, !table.rewrite_enabled),
            cell_if("WRITE_ID", table.write_id, table.write_id == 0),
            unknown(&table.unknown),
        ],
    )?;
    let connection = &mut writer.reader.connection;
    match old {
        Some(_) => rows.upsert(connection, &schema, "TBL_ID").await?,
        None => rows.insert(connection, &schema).await?,
    }
    if old.is_some() {
        writer.delete(&[("TABLE_PARAMS", "TBL_ID"), ("PARTITION_KEYS", "TBL_ID")], &[id]).await?;
    }
    put_children(writer, table, id).await?;
    if old.is_some() {
        remove_creation_metadata(writer, name).await?;
    }
    if let Some(made_of) = &table.creation_metadata {
        put_creation_metadata(writer, name, made_of).await?;
    }
    if let Some(Shape { cd: Some(cd), columns, .. }) = old.as_deref()
        && *cd != list
    {
        constraints::follow(writer, id, (*cd, columns), (list, &table.storage.columns)).await?;
        lists::collect(writer, vec![*cd]).await?;
    }
    writer.forget(name);
    writer.note_table(before, table);
    Ok(())
}

/// Equal but for comments.
fn same_keys(old: &[Column], new: &[Column]) -> bool {
    let key = |column: &Column| (column.name.clone(), column.type_name.clone());
    old.iter().map(key).eq(new.iter().map(key))
}

async fn put_children(writer: &mut Writer<'_>, table: &Table, id: i64) -> Result<()> {
    let object = || format!("table {}", table.name);
    let schema = Arc::clone(&writer.reader.schema);
    let mut rows = Rows::new("TABLE_PARAMS");
    parameters(&mut rows, &schema, &object, ("TBL_ID", id), &table.parameters)?;
    rows.insert(&mut writer.reader.connection, &schema).await?;
    let mut rows = Rows::new("PARTITION_KEYS");
    for (index, key) in (0i64..).zip(&table.partition_keys) {
        let cells = vec![
            cell("TBL_ID", id),
            cell("PKEY_COMMENT", &key.comment),
            cell("PKEY_NAME", &key.name),
            cell("PKEY_TYPE", &key.type_name),
            cell("INTEGER_IDX", index),
            unknown(&key.unknown),
        ];
        rows.push(&schema, &object, cells)?;
    }
    rows.insert(&mut writer.reader.connection, &schema).await
}

async fn put_creation_metadata(writer: &mut Writer<'_>, name: &TableName, made_of: &CreationMetadata) -> Result<()> {
    let object = || format!("materialized view {name}");
    let schema = Arc::clone(&writer.reader.schema);
    let id = writer.ids.take(Sequence::CreationMetadata)?;
    let mut rows = Rows::new("MV_CREATION_METADATA");
    let cells = vec![
        cell("MV_CREATION_METADATA_ID", id),
        cell("CAT_NAME", &name.catalog),
        cell("DB_NAME", &name.database),
        cell("TBL_NAME", &name.table),
        cell("TXN_LIST", &made_of.valid_write_ids),
        cell_if(
            "MATERIALIZATION_TIME",
            made_of.materialization_time.unwrap_or(0),
            made_of.materialization_time.is_none(),
        ),
    ];
    rows.push(&schema, &object, cells)?;
    let mut used = Rows::new("MV_TABLES_USED");
    for source in &made_of.sources {
        let needed = writer.needed_shape(&source.table, "put", object()).await?;
        let cells = vec![
            cell("MV_CREATION_METADATA_ID", id),
            cell("TBL_ID", needed.id),
            cell_if("INSERTED_COUNT", source.inserted, source.inserted == 0),
            cell_if("UPDATED_COUNT", source.updated, source.updated == 0),
            cell_if("DELETED_COUNT", source.deleted, source.deleted == 0),
        ];
        used.push(&schema, &object, cells)?;
    }
    let connection = &mut writer.reader.connection;
    rows.insert(connection, &schema).await?;
    used.insert(connection, &schema).await
}

/// Removes what is known of how a materialized view was made; it is found by name.
pub(super) async fn remove_creation_metadata(writer: &mut Writer<'_>, name: &TableName) -> Result<()> {
    if !writer.reader.schema.has_table("MV_CREATION_METADATA") {
        return Ok(());
    }
    let sql = "SELECT \"MV_CREATION_METADATA_ID\" FROM \"MV_CREATION_METADATA\" \
               WHERE \"CAT_NAME\" = ? AND \"DB_NAME\" = ? AND \"TBL_NAME\" = ?";
    let values = [(&name.catalog).into(), (&name.database).into(), (&name.table).into()];
    let rows = writer.reader.connection.query(sql, &values).await?;
    let ids: Vec<i64> = rows.into_iter().map(|mut row| row.id(0)).collect::<Result<_>>()?;
    let of_view = ["MV_TABLES_USED", "MV_CREATION_METADATA"].map(|table| (table, "MV_CREATION_METADATA_ID"));
    writer.delete(&of_view, &ids).await
}

pub(super) async fn rename(writer: &mut Writer<'_>, from: &TableName, to: &TableName) -> Result<()> {
    let object = || format!("table {from}");
    if from == to {
        return Ok(());
    }
    let lock = writer.reader.schema.dialect.for_update();
    let source = find(writer, from, lock).await?;
    let target = find(writer, to, lock).await?;
    let id = match (source, target) {
        (None, Some(_)) => return Ok(()),
        (None, None) => return Err(conflict("rename", object(), "it is not there".to_owned())),
        (Some(_), Some(_)) => return Err(conflict("rename", object(), format!("{to} is there already"))),
        (Some(source), None) => source.id,
    };
    let database = to.database();
    let Some(database_id) = writer.reader.database_id(&database).await? else {
        return Err(conflict("rename", object(), format!("the database {database} is not there")));
    };
    let schema = Arc::clone(&writer.reader.schema);
    if let Some(why) = schema.column("TBLS", "TBL_NAME").and_then(|column| column.refuses(&(&to.table).into())) {
        let (object, version) = (format!("table {to}"), schema.version);
        return Err(Error::CannotHold { object, version, why: format!("TBLS.TBL_NAME {why}") });
    }
    let before = writer.before(from).await?;
    let connection = &mut writer.reader.connection;
    let sql = "UPDATE \"TBLS\" SET \"TBL_NAME\" = ?, \"DB_ID\" = ? WHERE \"TBL_ID\" = ?";
    connection.execute(sql, &[(&to.table).into(), database_id.into(), id.into()]).await?;
    // Some schemas repeat names beside ids.
    if schema.has("TAB_COL_STATS", "TABLE_NAME") {
        rename_statistics(writer, "TAB_COL_STATS", "\"TBL_ID\" = ?", id, to).await?;
    }
    if schema.has("PART_COL_STATS", "TABLE_NAME") {
        let which = "\"PART_ID\" IN (SELECT \"PART_ID\" FROM \"PARTITIONS\" WHERE \"TBL_ID\" = ?)";
        rename_statistics(writer, "PART_COL_STATS", which, id, to).await?;
    }
    if schema.has_table("MV_CREATION_METADATA") {
        let sql = "UPDATE \"MV_CREATION_METADATA\" SET \"CAT_NAME\" = ?, \"DB_NAME\" = ?, \"TBL_NAME\" = ? \
                   WHERE \"CAT_NAME\" = ? AND \"DB_NAME\" = ? AND \"TBL_NAME\" = ?";
        let values = [
            (&to.catalog).into(),
            (&to.database).into(),
            (&to.table).into(),
            (&from.catalog).into(),
            (&from.database).into(),
            (&from.table).into(),
        ];
        writer.reader.connection.execute(sql, &values).await?;
    }
    transactions::rename(writer, from, to).await?;
    writer.forget(from);
    writer.forget(to);
    if let Some(before) = before {
        let after = Table { name: to.clone(), ..before.as_ref().clone() };
        writer.note_table(Some(before), &after);
    }
    Ok(())
}

async fn rename_statistics(writer: &mut Writer<'_>, table: &str, which: &str, id: i64, to: &TableName) -> Result<()> {
    let DatabaseName { catalog, database } = to.database();
    let mut set = "\"DB_NAME\" = ?, \"TABLE_NAME\" = ?".to_owned();
    let mut values = vec![(&database).into(), (&to.table).into()];
    if writer.reader.schema.has(table, "CAT_NAME") {
        set += ", \"CAT_NAME\" = ?";
        values.push((&catalog).into());
    }
    values.push(id.into());
    writer.reader.connection.execute(&format!("UPDATE \"{table}\" SET {set} WHERE {which}"), &values).await?;
    Ok(())
}
