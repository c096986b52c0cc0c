//! Catalogs, databases, tables, partitions, functions.

use super::storage::{from_columns, from_storage, to_columns, to_storage};
use super::{Converted, database_name, from_principal, from_unknown, required, table_name, to_principal, to_unknown};
use crate::model::{
    Catalog, CreationMetadata, Database, DatabaseKind, Function, FunctionKind, MaterializationSource, Partition,
    Resource, ResourceKind, Table, TableName,
};
use hms::api;
use hms::wire::kind;

/// Hive's word for "no write id".
const NO_WRITE_ID: i64 = -1;

pub(crate) fn from_catalog(catalog: api::Catalog) -> Converted<Catalog> {
    Ok(Catalog {
        name: required(catalog.name, "name")?,
        description: catalog.description,
        location: required(catalog.location_uri, "locationUri")?,
        create_time: catalog.create_time.filter(|time| *time != 0).map(i64::from),
        unknown: from_unknown(catalog.unknown),
    })
}

pub(crate) fn to_catalog(catalog: &Catalog) -> Converted<api::Catalog> {
    Ok(api::Catalog {
        name: Some(catalog.name.clone()),
        description: catalog.description.clone(),
        location_uri: Some(catalog.location.clone()),
        create_time: catalog.create_time.map(seconds).transpose()?,
        unknown: to_unknown(&catalog.unknown)?,
    })
}

/// Thrift's times are 32 bits wide.
fn seconds(time: i64) -> Converted<i32> {
    i32::try_from(time).map_err(|_| format!("a time of {time} s, which Thrift cannot hold"))
}

pub(crate) fn from_database(database: api::Database) -> Converted<Database> {
    let kind = match database.r#type {
        None | Some(api::DatabaseType::NATIVE) => DatabaseKind::Native,
        Some(api::DatabaseType::REMOTE) => {
            DatabaseKind::Remote { connector: database.connector_name, database: database.remote_dbname }
        }
        Some(api::DatabaseType(other)) => return Err(format!("a database of kind {other}, which is not known here")),
    };
    Ok(Database {
        name: database_name(database.catalog_name, database.name)?,
        description: database.description,
        location: database.location_uri,
        managed_location: database.managed_location_uri,
        parameters: database.parameters.unwrap_or_default(),
        owner: from_principal(database.owner_name, database.owner_type)?,
        create_time: database.create_time.map(i64::from),
        kind,
        unknown: from_unknown(database.unknown),
    })
}

pub(crate) fn to_database(database: &Database) -> Converted<api::Database> {
    let (owner_name, owner_type) = to_principal(database.owner.as_ref());
    let (kind, connector_name, remote_dbname) = match &database.kind {
        DatabaseKind::Native => (None, None, None),
        DatabaseKind::Remote { connector, database } => {
            (Some(api::DatabaseType::REMOTE), connector.clone(), database.clone())
        }
    };
    Ok(api::Database {
        name: Some(database.name.database.clone()),
        description: database.description.clone(),
        location_uri: database.location.clone(),
        parameters: Some(database.parameters.clone()),
        privileges: None,
        owner_name,
        owner_type,
        catalog_name: Some(database.name.catalog.clone()),
        create_time: database.create_time.map(seconds).transpose()?,
        managed_location_uri: database.managed_location.clone(),
        r#type: kind,
        connector_name,
        remote_dbname,
        unknown: to_unknown(&database.unknown)?,
    })
}

pub(crate) fn from_table(table: api::Table) -> Converted<Table> {
    // 2.3.10 has the catalog's name, always the default one, where 3.0 and later have the creation metadata.
    let unknown = table.unknown.retain(|field| (field.id, field.kind) != (16, kind::STRING));
    let unknown = unknown.map_err(|error| error.to_string())?;
    let name = table_name(table.cat_name, table.db_name, table.table_name)?;
    Ok(Table {
        table_type: table.table_type,
        owner: from_principal(table.owner, table.owner_type)?,
        create_time: table.create_time.unwrap_or_default(),
        last_access_time: table.last_access_time.unwrap_or_default(),
        retention: table.retention.unwrap_or_default(),
        storage: from_storage(table.sd)?,
        partition_keys: from_columns(table.partition_keys)?,
        parameters: table.parameters.unwrap_or_default(),
        view_original_text: table.view_original_text,
        view_expanded_text: table.view_expanded_text,
        rewrite_enabled: table.rewrite_enabled.unwrap_or_default(),
        creation_metadata: table.creation_metadata.map(|made| from_creation(made, &name)).transpose()?,
        write_id: from_write_id(table.write_id),
        unknown: from_unknown(unknown),
        name,
    })
}

pub(crate) fn to_table(table: &Table) -> Converted<api::Table> {
    let (owner, owner_type) = to_principal(table.owner.as_ref());
    Ok(api::Table {
        table_name: Some(table.name.table.clone()),
        db_name: Some(table.name.database.clone()),
        owner,
        create_time: Some(table.create_time),
        last_access_time: Some(table.last_access_time),
        retention: Some(table.retention),
        sd: Some(to_storage(&table.storage)?),
        partition_keys: Some(to_columns(&table.partition_keys)?),
        parameters: Some(table.parameters.clone()),
        view_original_text: table.view_original_text.clone(),
        view_expanded_text: table.view_expanded_text.clone(),
        table_type: table.table_type.clone(),
        rewrite_enabled: Some(table.rewrite_enabled),
        creation_metadata: table.creation_metadata.as_ref().map(|made| to_creation(made, &table.name)),
        cat_name: Some(table.name.catalog.clone()),
        owner_type,
        write_id: to_write_id(table.write_id),
        unknown: to_unknown(&table.unknown)?,
        ..Default::default()
    })
}

/// Absent, -1 and 0 say the same: no write id.
fn from_write_id(id: Option<i64>) -> i64 {
    id.filter(|id| *id != NO_WRITE_ID).unwrap_or_default()
}

fn to_write_id(id: i64) -> Option<i64> {
    (id != 0).then_some(id)
}

/// Sources are named `db.table` or `catalog.db.table`, by one of two fields; the one with counts says more.
fn from_creation(made: api::CreationMetadata, of: &TableName) -> Converted<CreationMetadata> {
    let mut sources = Vec::new();
    for source in made.source_tables.unwrap_or_default() {
        let table = source.table.unwrap_or_default();
        sources.push(MaterializationSource {
            table: table_name(table.cat_name, table.db_name, table.table_name)?,
            inserted: source.inserted_count.unwrap_or_default(),
            updated: source.updated_count.unwrap_or_default(),
            deleted: source.deleted_count.unwrap_or_default(),
        });
    }
    for name in made.tables_used.unwrap_or_default() {
        let table = used_table(&name, of)?;
        if !sources.iter().any(|source| source.table == table) {
            sources.push(MaterializationSource { table, inserted: 0, updated: 0, deleted: 0 });
        }
    }
    sources.sort();
    Ok(CreationMetadata {
        sources,
        valid_write_ids: made.valid_txn_list,
        materialization_time: made.materialization_time.filter(|time| *time != 0),
    })
}

fn used_table(name: &str, of: &TableName) -> Converted<TableName> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [database, table] => {
            Ok(TableName { catalog: of.catalog.clone(), database: database.to_owned(), table: table.to_owned() })
        }
        [catalog, database, table] => {
            Ok(TableName { catalog: catalog.to_owned(), database: database.to_owned(), table: table.to_owned() })
        }
        _ => Err(format!("`{name}` is no name of a source table")),
    }
}

fn to_creation(made: &CreationMetadata, of: &TableName) -> api::CreationMetadata {
    let used = |source: &MaterializationSource| format!("{}.{}", source.table.database, source.table.table);
    let source = |source: &MaterializationSource| api::SourceTable {
        table: Some(api::Table {
            table_name: Some(source.table.table.clone()),
            db_name: Some(source.table.database.clone()),
            cat_name: Some(source.table.catalog.clone()),
            ..Default::default()
        }),
        inserted_count: Some(source.inserted),
        updated_count: Some(source.updated),
        deleted_count: Some(source.deleted),
        ..Default::default()
    };
    api::CreationMetadata {
        cat_name: Some(of.catalog.clone()),
        db_name: Some(of.database.clone()),
        tbl_name: Some(of.table.clone()),
        tables_used: Some(made.sources.iter().map(used).collect()),
        valid_txn_list: made.valid_write_ids.clone(),
        materialization_time: made.materialization_time,
        source_tables: Some(made.sources.iter().map(source).collect()),
        ..Default::default()
    }
}

pub(crate) fn from_partition(partition: api::Partition) -> Converted<Partition> {
    Ok(Partition {
        values: required(partition.values, "values")?,
        create_time: partition.create_time.unwrap_or_default(),
        last_access_time: partition.last_access_time.unwrap_or_default(),
        storage: from_storage(partition.sd)?,
        parameters: partition.parameters.unwrap_or_default(),
        write_id: from_write_id(partition.write_id),
        unknown: from_unknown(partition.unknown),
    })
}

pub(crate) fn to_partition(table: &TableName, partition: &Partition) -> Converted<api::Partition> {
    Ok(api::Partition {
        values: Some(partition.values.clone()),
        db_name: Some(table.database.clone()),
        table_name: Some(table.table.clone()),
        create_time: Some(partition.create_time),
        last_access_time: Some(partition.last_access_time),
        sd: Some(to_storage(&partition.storage)?),
        parameters: Some(partition.parameters.clone()),
        cat_name: Some(table.catalog.clone()),
        write_id: to_write_id(partition.write_id),
        unknown: to_unknown(&partition.unknown)?,
        ..Default::default()
    })
}

pub(crate) fn from_function(function: api::Function) -> Converted<Function> {
    match function.function_type {
        None | Some(api::FunctionType::JAVA) => {}
        Some(api::FunctionType(other)) => return Err(format!("a function of kind {other}, which is not known here")),
    }
    let resource = |resource: api::ResourceUri| {
        let kind = match resource.resource_type {
            None | Some(api::ResourceType::JAR) => ResourceKind::Jar,
            Some(api::ResourceType::FILE) => ResourceKind::File,
            Some(api::ResourceType::ARCHIVE) => ResourceKind::Archive,
            Some(api::ResourceType(other)) => {
                return Err(format!("a resource of kind {other}, which is not known here"));
            }
        };
        Ok(Resource { kind, uri: required(resource.uri, "uri")? })
    };
    Ok(Function {
        database: database_name(function.cat_name, function.db_name)?,
        name: required(function.function_name, "functionName")?,
        class_name: function.class_name,
        owner: from_principal(function.owner_name, function.owner_type)?,
        create_time: function.create_time.unwrap_or_default(),
        kind: FunctionKind::Java,
        resources: function.resource_uris.unwrap_or_default().into_iter().map(resource).collect::<Converted<_>>()?,
        unknown: from_unknown(function.unknown),
    })
}

pub(crate) fn to_function(function: &Function) -> Converted<api::Function> {
    let (owner_name, owner_type) = to_principal(function.owner.as_ref());
    let resource = |resource: &Resource| api::ResourceUri {
        resource_type: Some(match resource.kind {
            ResourceKind::Jar => api::ResourceType::JAR,
            ResourceKind::File => api::ResourceType::FILE,
            ResourceKind::Archive => api::ResourceType::ARCHIVE,
        }),
        uri: Some(resource.uri.clone()),
        ..Default::default()
    };
    let FunctionKind::Java = function.kind;
    Ok(api::Function {
        function_name: Some(function.name.clone()),
        db_name: Some(function.database.database.clone()),
        class_name: function.class_name.clone(),
        owner_name,
        owner_type,
        create_time: Some(function.create_time),
        function_type: Some(api::FunctionType::JAVA),
        resource_uris: Some(function.resources.iter().map(resource).collect()),
        cat_name: Some(function.database.catalog.clone()),
        unknown: to_unknown(&function.unknown)?,
    })
}
