//! Catalogs and databases.

use super::Reader;
use super::children::{Children, principal};
use crate::metastore::Result;
use crate::model::{
    Catalog, Database, DatabaseKind, DatabaseName, HIVE_CATALOG, HIVE_CATALOG_DESCRIPTION, UnknownFields,
};

pub(super) async fn catalogs(reader: &mut Reader) -> Result<Vec<Catalog>> {
    let Reader { connection, schema, .. } = reader;
    if !schema.has_table("CTLGS") {
        let sql = "SELECT \"DB_LOCATION_URI\" FROM \"DBS\" WHERE \"NAME\" = ?";
        let rows = connection.query(sql, &["default".into()]).await?;
        let location = rows.into_iter().next().map(|mut row| row.string(0)).transpose()?;
        return Ok(vec![Catalog {
            name: HIVE_CATALOG.to_owned(),
            description: Some(HIVE_CATALOG_DESCRIPTION.to_owned()),
            location: location.unwrap_or_default(),
            create_time: None,
            unknown: UnknownFields::default(),
        }]);
    }
    let columns = schema.select("CTLGS", "c", &["NAME", "DESC", "LOCATION_URI", "CREATE_TIME", "UNKNOWN_FIELDS"]);
    let mut catalogs = Vec::new();
    for mut row in connection.query(&format!("SELECT {columns} FROM \"CTLGS\" c"), &[]).await? {
        catalogs.push(Catalog {
            name: row.string(0)?,
            description: row.text(1)?,
            location: row.string(2)?,
            create_time: row.int(3)?.filter(|time| *time != 0),
            unknown: UnknownFields(row.bytes(4)?.unwrap_or_default()),
        });
    }
    catalogs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(catalogs)
}

const DBS: [&str; 13] = [
    "DB_ID",
    "CTLG_NAME",
    "NAME",
    "DESC",
    "DB_LOCATION_URI",
    "DB_MANAGED_LOCATION_URI",
    "OWNER_NAME",
    "OWNER_TYPE",
    "CREATE_TIME",
    "TYPE",
    "DATACONNECTOR_NAME",
    "REMOTE_DBNAME",
    "UNKNOWN_FIELDS",
];

/// All databases, or one by its DB_ID.
pub(crate) async fn databases(reader: &mut Reader, only: Option<i64>) -> Result<Vec<Database>> {
    let Reader { connection, schema, .. } = reader;
    let which = only.map_or(String::new(), |id| format!(" WHERE d.\"DB_ID\" = {id}"));
    let sql = format!("SELECT {} FROM \"DBS\" d{which}", schema.select("DBS", "d", &DBS));
    let mut found = Vec::new();
    for mut row in connection.query(&sql, &[]).await? {
        let id = row.id(0)?;
        let catalog = row.text(1)?.unwrap_or_else(|| HIVE_CATALOG.to_owned());
        let owner_kind = row.text(7)?;
        let kind = match row.text(9)?.as_deref() {
            Some("REMOTE") => DatabaseKind::Remote { connector: row.text(10)?, database: row.text(11)? },
            _ => DatabaseKind::Native,
        };
        let database = Database {
            name: DatabaseName { catalog, database: row.string(2)? },
            description: row.text(3)?,
            location: row.text(4)?,
            managed_location: row.text(5)?,
            parameters: crate::model::Parameters::new(),
            owner: principal(row.text(6)?, owner_kind.as_deref()),
            create_time: row.int(8)?.filter(|time| *time != 0),
            kind,
            unknown: UnknownFields(row.bytes(12)?.unwrap_or_default()),
        };
        found.push((id, database));
    }
    let ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
    let mut parameters = Children::parameters("DATABASE_PARAMS", "DB_ID", connection, schema, &ids).await?;
    let mut databases: Vec<Database> = Vec::with_capacity(found.len());
    for (id, mut database) in found {
        database.parameters = parameters.remove(&id).unwrap_or_default();
        databases.push(database);
    }
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(databases)
}
