//! Permanent functions.

use super::storage::unknown;
use super::{Writer, conflict, kind_word};
use crate::event::write::Happened;
use crate::metastore::Result;
use crate::metastore::sql::ids::Sequence;
use crate::metastore::sql::read::functions::functions;
use crate::metastore::sql::rows::{Rows, cell};
use crate::metastore::sql::value::Value;
use crate::model::{DatabaseName, Function, FunctionKind, PrincipalKind, ResourceKind};
use std::sync::Arc;

async fn find(writer: &mut Writer<'_>, database: i64, name: &str) -> Result<Option<i64>> {
    if !writer.reader.schema.has_table("FUNCS") {
        return Ok(None);
    }
    let lock = writer.reader.schema.dialect.for_update();
    let sql = format!("SELECT \"FUNC_ID\" FROM \"FUNCS\" WHERE \"DB_ID\" = ? AND \"FUNC_NAME\" = ?{lock}");
    let values: [Value; 2] = [database.into(), name.into()];
    writer.number(&sql, &values).await
}

pub(super) async fn put(writer: &mut Writer<'_>, function: &Function) -> Result<()> {
    let object = || format!("function {}.{}", function.database, function.name);
    let schema = Arc::clone(&writer.reader.schema);
    let Some(database) = writer.reader.database_id(&function.database).await? else {
        return Err(conflict("put", object(), "its database is not there".to_owned()));
    };
    let old = find(writer, database, &function.name).await?;
    let id = match old {
        Some(id) => id,
        None => writer.ids.take(Sequence::Function)?,
    };
    let before = read(writer, &function.database, old).await?;
    let FunctionKind::Java = function.kind;
    let mut rows = Rows::new("FUNCS");
    let cells = vec![
        cell("FUNC_ID", id),
        cell("CLASS_NAME", &function.class_name),
        cell("CREATE_TIME", function.create_time),
        cell("DB_ID", database),
        cell("FUNC_NAME", &function.name),
        cell("FUNC_TYPE", 1),
        cell("OWNER_NAME", function.owner.as_ref().map(|owner| &owner.name)),
        // Hive's reader takes no null here, whoever owns it.
        cell("OWNER_TYPE", kind_word(function.owner.as_ref().map_or(PrincipalKind::User, |owner| owner.kind))),
        unknown(&function.unknown),
    ];
    rows.push(&schema, &object, cells)?;
    let mut resources = Rows::new("FUNC_RU");
    for (index, resource) in (0i64..).zip(&function.resources) {
        let kind = match resource.kind {
            ResourceKind::Jar => 1,
            ResourceKind::File => 2,
            ResourceKind::Archive => 3,
        };
        let cells = vec![
            cell("FUNC_ID", id),
            cell("RESOURCE_TYPE", kind),
            cell("RESOURCE_URI", &resource.uri),
            cell("INTEGER_IDX", index),
        ];
        resources.push(&schema, &object, cells)?;
    }
    if old.is_some() {
        writer.delete(&[("FUNC_RU", "FUNC_ID")], &[id]).await?;
        rows.upsert(&mut writer.reader.connection, &schema, "FUNC_ID").await?;
    } else {
        rows.insert(&mut writer.reader.connection, &schema).await?;
    }
    resources.insert(&mut writer.reader.connection, &schema).await?;
    writer.note_function(before, function);
    Ok(())
}

/// A function as it is, where what happens is kept.
async fn read(writer: &mut Writer<'_>, database: &DatabaseName, id: Option<i64>) -> Result<Option<Function>> {
    match id.filter(|_| writer.logs()) {
        Some(id) => Ok(functions(writer.reader, database, Some(id)).await?.found.pop()),
        None => Ok(None),
    }
}

pub(super) async fn drop(writer: &mut Writer<'_>, database: &DatabaseName, name: &str) -> Result<()> {
    let Some(database_id) = writer.reader.database_id(database).await? else { return Ok(()) };
    let Some(id) = find(writer, database_id, name).await? else { return Ok(()) };
    writer.delete(&[("FUNC_RU", "FUNC_ID"), ("FUNCS", "FUNC_ID")], &[id]).await?;
    writer.note(Happened::DroppedFunction { database: database.clone(), name: name.to_owned() });
    Ok(())
}
