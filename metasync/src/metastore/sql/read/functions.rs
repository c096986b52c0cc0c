//! Permanent functions and their resources.

use super::Reader;
use super::children::{Children, principal};
use crate::metastore::sql::value::Row;
use crate::metastore::{Batch, Error, Result};
use crate::model::{DatabaseName, Function, FunctionKind, Resource, ResourceKind, UnknownFields};

const FUNCS: [&str; 8] =
    ["FUNC_ID", "FUNC_NAME", "CLASS_NAME", "OWNER_NAME", "OWNER_TYPE", "CREATE_TIME", "FUNC_TYPE", "UNKNOWN_FIELDS"];

/// Hive's number of the only kind of function.
const JAVA: i64 = 1;

const RESOURCES: Children = Children {
    table: "FUNC_RU",
    owner: "FUNC_ID",
    columns: &["RESOURCE_TYPE", "RESOURCE_URI"],
    order: Some("INTEGER_IDX"),
};

/// The functions of a database, or one by its FUNC_ID.
pub(crate) async fn functions(
    reader: &mut Reader,
    database: &DatabaseName,
    only: Option<i64>,
) -> Result<Batch<Function>> {
    let mut batch = Batch::empty();
    let Some(database_id) = reader.database_id(database).await? else { return Ok(batch) };
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("FUNCS") {
        return Ok(batch);
    }
    let which = only.map_or(String::new(), |id| format!(" AND f.\"FUNC_ID\" = {id}"));
    let sql = format!(
        "SELECT {} FROM \"FUNCS\" f WHERE f.\"DB_ID\" = {database_id}{which}",
        schema.select("FUNCS", "f", &FUNCS)
    );
    let mut found = Vec::new();
    for mut row in connection.query(&sql, &[]).await? {
        let (id, name, owner_kind, kind) = (row.id(0)?, row.string(1)?, row.text(4)?, row.int(6)?);
        let function = Function {
            database: database.clone(),
            name,
            class_name: row.text(2)?,
            owner: principal(row.text(3)?, owner_kind.as_deref()),
            create_time: row.int32(5)?,
            kind: FunctionKind::Java,
            resources: Vec::new(),
            unknown: UnknownFields(row.bytes(7)?.unwrap_or_default()),
        };
        found.push((id, kind, function));
    }
    let ids: Vec<i64> = found.iter().map(|(id, ..)| *id).collect();
    let mut resources = RESOURCES.of(connection, schema, &ids).await?;
    found.sort_by(|(.., a), (.., b)| a.name.cmp(&b.name));
    for (id, kind, function) in found {
        batch.add(complete(id, kind, function, resources.remove(&id).unwrap_or_default()).map(Some))?;
    }
    Ok(batch)
}

/// The function with its resources. Errors: [`Error::Damaged`], where its rows say what Hive has not.
fn complete(id: i64, kind: Option<i64>, mut function: Function, resources: Vec<Row>) -> Result<Function> {
    let damaged = |what: String, kind: Option<i64>| {
        let kind = kind.map_or("NULL".to_owned(), |kind| kind.to_string());
        let object = format!("function {}.{}", function.database, function.name);
        Error::Damaged { object, why: format!("{what} is of type {kind}, which Hive has not") }
    };
    if kind.is_some_and(|kind| kind != JAVA) {
        return Err(damaged(format!("FUNCS {id}"), kind));
    }
    let mut read = Vec::with_capacity(resources.len());
    for mut row in resources {
        let kind = match row.int(0)? {
            Some(1) => ResourceKind::Jar,
            Some(2) => ResourceKind::File,
            Some(3) => ResourceKind::Archive,
            other => return Err(damaged(format!("a resource of FUNCS {id}"), other)),
        };
        read.push(Resource { kind, uri: row.string(1)? });
    }
    function.resources = read;
    Ok(function)
}
