//! Catalogs and databases.

use super::storage::{parameters, unknown};
use super::{Writer, conflict, kind_word};
use crate::event::write::Happened;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::databases::databases;
use crate::metastore::sql::read::find_database;
use crate::metastore::sql::rows::{Rows, cell, cell_if};
use crate::metastore::sql::value::Value;
use crate::metastore::{Error, Result, Version};
use crate::model::{Catalog, Database, DatabaseKind, DatabaseName, HIVE_CATALOG};
use std::sync::Arc;

/// What a schema without catalogs says of any but the default one.
fn no_catalogs(object: String, version: Version) -> Error {
    Error::CannotHold { object, version, why: "it has no catalogs".to_owned() }
}

pub(super) async fn put_catalog(writer: &mut Writer<'_>, catalog: &Catalog) -> Result<()> {
    let object = || format!("catalog {}", catalog.name);
    let schema = Arc::clone(&writer.reader.schema);
    if !schema.has_table("CTLGS") {
        return match catalog.name == HIVE_CATALOG && catalog.unknown.is_empty() {
            true => Ok(()),
            false => Err(no_catalogs(object(), schema.version)),
        };
    }
    let sql = format!("SELECT \"CTLG_ID\" FROM \"CTLGS\" WHERE \"NAME\" = ?{}", schema.dialect.for_update());
    let old = writer.number(&sql, &[(&catalog.name).into()]).await?;
    let id = match old {
        Some(id) => id,
        None => writer.ids.take(Sequence::Catalog)?,
    };
    let mut rows = Rows::new("CTLGS");
    let cells = vec![
        cell("CTLG_ID", id),
        cell("NAME", &catalog.name),
        cell("DESC", &catalog.description),
        cell("LOCATION_URI", &catalog.location),
        // When the default catalog was made is nobody's loss where it cannot be kept.
        cell_if(
            "CREATE_TIME",
            catalog.create_time.unwrap_or(0),
            catalog.create_time.is_none() || catalog.name == HIVE_CATALOG,
        ),
        unknown(&catalog.unknown),
    ];
    rows.push(&schema, &object, cells)?;
    match old {
        Some(_) => rows.upsert(&mut writer.reader.connection, &schema, "CTLG_ID").await,
        None => rows.insert(&mut writer.reader.connection, &schema).await,
    }
}

pub(super) async fn drop_catalog(writer: &mut Writer<'_>, name: &str) -> Result<()> {
    if !writer.reader.schema.has_table("CTLGS") {
        return Ok(());
    }
    let sql = "SELECT \"DB_ID\" FROM \"DBS\" WHERE \"CTLG_NAME\" = ? LIMIT 1";
    if writer.number(sql, &[name.into()]).await?.is_some() {
        return Err(conflict("drop", format!("catalog {name}"), "it has databases".to_owned()));
    }
    writer.reader.connection.execute("DELETE FROM \"CTLGS\" WHERE \"NAME\" = ?", &[name.into()]).await?;
    Ok(())
}

pub(super) async fn put(writer: &mut Writer<'_>, database: &Database) -> Result<()> {
    let name = &database.name;
    let object = || format!("database {name}");
    let schema = Arc::clone(&writer.reader.schema);
    if !schema.has("DBS", "CTLG_NAME") && name.catalog != HIVE_CATALOG {
        return Err(no_catalogs(object(), schema.version));
    }
    if schema.has_table("CTLGS") {
        let sql = "SELECT \"CTLG_ID\" FROM \"CTLGS\" WHERE \"NAME\" = ?";
        if writer.number(sql, &[(&name.catalog).into()]).await?.is_none() {
            return Err(conflict("put", object(), format!("the catalog {} is not there", name.catalog)));
        }
    }
    let lock = schema.dialect.for_update();
    let old = find_database(&mut writer.reader.connection, &schema, name, lock).await?;
    let id = match old {
        Some(id) => id,
        None => writer.ids.take(Sequence::Database)?,
    };
    let before = read(writer, old).await?;
    let (kind, connector, remote) = match &database.kind {
        DatabaseKind::Native => ("NATIVE", None, None),
        DatabaseKind::Remote { connector, database } => ("REMOTE", connector.as_ref(), database.as_ref()),
    };
    let mut rows = Rows::new("DBS");
    let cells = vec![
        cell("DB_ID", id),
        cell("DESC", &database.description),
        cell("DB_LOCATION_URI", &database.location),
        cell("NAME", &name.database),
        cell("OWNER_NAME", database.owner.as_ref().map(|owner| &owner.name)),
        cell("OWNER_TYPE", database.owner.as_ref().map(|owner| kind_word(owner.kind))),
        cell_if("CTLG_NAME", &name.catalog, true),
        cell_if("CREATE_TIME", database.create_time.unwrap_or(0), database.create_time.is_none()),
        cell_if("DB_MANAGED_LOCATION_URI", &database.managed_location, database.managed_location.is_none()),
        cell_if("TYPE", kind, database.kind == DatabaseKind::Native),
        cell_if("DATACONNECTOR_NAME", connector, connector.is_none()),
        cell_if("REMOTE_DBNAME", remote, remote.is_none()),
        unknown(&database.unknown),
    ];
    rows.push(&schema, &object, cells)?;
    let mut parameter_rows = Rows::new("DATABASE_PARAMS");
    parameters(&mut parameter_rows, &schema, &object, ("DB_ID", id), &database.parameters)?;
    if old.is_some() {
        rows.upsert(&mut writer.reader.connection, &schema, "DB_ID").await?;
        writer.delete(&[("DATABASE_PARAMS", "DB_ID")], &[id]).await?;
    } else {
        rows.insert(&mut writer.reader.connection, &schema).await?;
    }
    parameter_rows.insert(&mut writer.reader.connection, &schema).await?;
    writer.note_database(before, database);
    Ok(())
}

/// A database as it is, where what happens is kept.
async fn read(writer: &mut Writer<'_>, id: Option<i64>) -> Result<Option<Database>> {
    match id.filter(|_| writer.logs()) {
        Some(id) => Ok(databases(writer.reader, Some(id)).await?.pop()),
        None => Ok(None),
    }
}

pub(super) async fn drop(writer: &mut Writer<'_>, name: &DatabaseName) -> Result<()> {
    let schema = Arc::clone(&writer.reader.schema);
    let lock = schema.dialect.for_update();
    let Some(id) = find_database(&mut writer.reader.connection, &schema, name, lock).await? else { return Ok(()) };
    for (table, what) in [("TBLS", "tables"), ("FUNCS", "functions")] {
        let sql = format!("SELECT \"DB_ID\" FROM \"{table}\" WHERE \"DB_ID\" = {id} LIMIT 1");
        if schema.has_table(table) && writer.number(&sql, &[]).await?.is_some() {
            return Err(conflict("drop", format!("database {name}"), format!("it has {what}")));
        }
    }
    let before = read(writer, Some(id)).await?;
    for table in ["DB_PRIVS", "DATABASE_PARAMS", "DBS"] {
        writer.delete(&[(table, "DB_ID")], &[id]).await?;
    }
    writer.reader.forget();
    if let Some(before) = before {
        writer.note(Happened::DroppedDatabase(Box::new(before)));
    }
    Ok(())
}

/// Rule 15: the old value stands in the WHERE, and exactly one row is touched.
pub(super) async fn set_parameter(
    writer: &mut Writer<'_>,
    database: &DatabaseName,
    key: &str,
    expected: Option<&str>,
    value: Option<&str>,
) -> Result<()> {
    let object = || format!("parameter {key} of database {database}");
    let schema = Arc::clone(&writer.reader.schema);
    let lock = schema.dialect.for_update();
    let Some(id) = find_database(&mut writer.reader.connection, &schema, database, lock).await? else {
        return Err(conflict("set", object(), "the database is not there".to_owned()));
    };
    let which = "\"DB_ID\" = ? AND \"PARAM_KEY\" = ?";
    let sql = format!("SELECT \"PARAM_VALUE\" FROM \"DATABASE_PARAMS\" WHERE {which}");
    let rows = writer.reader.connection.query(&sql, &[id.into(), key.into()]).await?;
    let found = rows.into_iter().next().map(|mut row| row.text(0)).transpose()?;
    let found_null = found == Some(None);
    let now = found.flatten();
    if now.as_deref() == value {
        return Ok(());
    }
    let differs = |now: Option<&str>| {
        let say = |value: Option<&str>| value.map_or("absent".to_owned(), |value| format!("`{value}`"));
        conflict("set", object(), format!("it is {}, not {}", say(now), say(expected)))
    };
    if now.as_deref() != expected {
        return Err(differs(now.as_deref()));
    }
    let before = read(writer, Some(id)).await?;
    let touched = match (expected, value) {
        (Some(expected), None) => {
            let sql = format!("DELETE FROM \"DATABASE_PARAMS\" WHERE {which} AND \"PARAM_VALUE\" = ?");
            writer.reader.connection.execute(&sql, &[id.into(), key.into(), expected.into()]).await?
        }
        (Some(expected), Some(value)) => {
            check(writer, &object, value)?;
            let sql =
                format!("UPDATE \"DATABASE_PARAMS\" SET \"PARAM_VALUE\" = ? WHERE {which} AND \"PARAM_VALUE\" = ?");
            let values: [Value; 4] = [value.into(), id.into(), key.into(), expected.into()];
            writer.reader.connection.execute(&sql, &values).await?
        }
        (None, _) => {
            if found_null {
                let sql = format!("DELETE FROM \"DATABASE_PARAMS\" WHERE {which}");
                writer.reader.connection.execute(&sql, &[id.into(), key.into()]).await?;
            }
            let mut rows = Rows::new("DATABASE_PARAMS");
            let cells = vec![cell("DB_ID", id), cell("PARAM_KEY", key), cell("PARAM_VALUE", value)];
            rows.push(&schema, &object, cells)?;
            rows.insert(&mut writer.reader.connection, &schema).await?;
            1
        }
    };
    if touched != 1 {
        return Err(differs(None));
    }
    if let Some(before) = before {
        let mut after = before.clone();
        after.parameters.remove(key);
        after.parameters.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        writer.note_database(Some(before), &after);
    }
    Ok(())
}

fn check(writer: &Writer<'_>, object: &dyn Fn() -> String, value: &str) -> Result<()> {
    let schema = &writer.reader.schema;
    let column = schema.column("DATABASE_PARAMS", "PARAM_VALUE");
    match column.and_then(|column| column.refuses(&value.into())) {
        None => Ok(()),
        Some(why) => {
            let why = format!("DATABASE_PARAMS.PARAM_VALUE {why}");
            Err(Error::CannotHold { object: object(), version: schema.version, why })
        }
    }
}
