//! Permanent functions and their resources.

use super::Reader;
use super::children::{Children, principal};
use crate::metastore::{Error, Result};
use crate::model::{DatabaseName, Function, FunctionKind, Resource, ResourceKind, UnknownFields};

const FUNCS: [&str; 8] =
    ["FUNC_ID", "FUNC_NAME", "CLASS_NAME", "OWNER_NAME", "OWNER_TYPE", "CREATE_TIME", "FUNC_TYPE", "UNKNOWN_FIELDS"];

const RESOURCES: Children = Children {
    table: "FUNC_RU",
    owner: "FUNC_ID",
    columns: &["RESOURCE_TYPE", "RESOURCE_URI"],
    order: Some("INTEGER_IDX"),
};

pub(super) async fn functions(reader: &mut Reader, database: &DatabaseName) -> Result<Vec<Function>> {
    let Some(database_id) = reader.database_id(database).await? else { return Ok(Vec::new()) };
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("FUNCS") {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT {} FROM \"FUNCS\" f WHERE f.\"DB_ID\" = {database_id}", schema.select("FUNCS", "f", &FUNCS));
    let mut found = Vec::new();
    for mut row in connection.query(&sql, &[]).await? {
        let (id, name, owner_kind) = (row.id(0)?, row.string(1)?, row.text(4)?);
        if let Some(kind) = row.int(6)?.filter(|kind| *kind != 1) {
            let object = format!("function {database}.{name}");
            return Err(Error::Damaged { object, why: format!("FUNCS {id} is of type {kind}, which Hive has not") });
        }
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
        found.push((id, function));
    }
    let ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
    let mut resources = RESOURCES.of(connection, schema, &ids).await?;
    let mut functions: Vec<Function> = Vec::with_capacity(found.len());
    for (id, mut function) in found {
        for mut row in resources.remove(&id).unwrap_or_default() {
            let kind = match row.int(0)? {
                Some(1) => ResourceKind::Jar,
                Some(2) => ResourceKind::File,
                Some(3) => ResourceKind::Archive,
                other => {
                    let object = format!("function {database}.{}", function.name);
                    let why = format!("a resource of FUNCS {id} is of type {other:?}, which Hive has not");
                    return Err(Error::Damaged { object, why });
                }
            };
            function.resources.push(Resource { kind, uri: row.string(1)? });
        }
        functions.push(function);
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(functions)
}
