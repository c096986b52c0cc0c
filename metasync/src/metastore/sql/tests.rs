//! The adapter on a SQLite file in this process: what was put comes back, what goes leaves nothing behind.

mod everything;
mod faults;
mod large;
mod log;

use super::*;
use crate::model::*;
use std::collections::BTreeMap;
use std::path::Path;

/// A metastore in a file of its own, with the catalog `hive` and the database `d`.
async fn open(folder: &Path) -> SqlMetastore {
    let url = SqlUrl::file(&folder.join("replica.db"));
    init(&url, SqlLimits::default()).await.unwrap();
    let metastore = SqlMetastore::open(url, SqlLimits::default()).await.unwrap();
    metastore.apply(&[Change::PutDatabase(database("d"))]).await.unwrap();
    metastore
}

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn database(name: &str) -> Database {
    Database {
        name: DatabaseName::new(name),
        description: None,
        location: Some(format!("file:/w/{name}")),
        managed_location: None,
        parameters: Parameters::new(),
        owner: Some(Principal { name: "ann".to_owned(), kind: PrincipalKind::User }),
        create_time: None,
        kind: DatabaseKind::Native,
        unknown: UnknownFields::default(),
    }
}

fn column(name: &str, type_name: &str) -> Column {
    Column { name: name.to_owned(), type_name: type_name.to_owned(), comment: None, unknown: UnknownFields::default() }
}

fn columns(names: &[&str]) -> Arc<Vec<Column>> {
    Arc::new(names.iter().map(|name| column(name, "int")).collect())
}

fn storage(columns: &Arc<Vec<Column>>, location: &str) -> StorageDescriptor {
    StorageDescriptor {
        columns: Arc::clone(columns),
        location: Some(location.to_owned()),
        input_format: Some("in".to_owned()),
        output_format: Some("out".to_owned()),
        bucket_count: -1,
        serde: SerDe {
            library: Some("serde".to_owned()),
            parameters: parameters(&[("serialization.format", "1")]),
            ..SerDe::default()
        },
        ..StorageDescriptor::default()
    }
}

fn table(name: &str, columns: &Arc<Vec<Column>>, keys: &[&str]) -> Table {
    Table {
        name: TableName::new("d", name),
        table_type: Some("EXTERNAL_TABLE".to_owned()),
        owner: Some(Principal { name: "ann".to_owned(), kind: PrincipalKind::User }),
        create_time: 1,
        last_access_time: 0,
        retention: 0,
        storage: storage(columns, &format!("file:/w/d/{name}")),
        partition_keys: keys.iter().map(|key| column(key, "string")).collect(),
        parameters: parameters(&[("EXTERNAL", "TRUE")]),
        view_original_text: None,
        view_expanded_text: None,
        rewrite_enabled: false,
        creation_metadata: None,
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

fn partition(columns: &Arc<Vec<Column>>, values: &[&str]) -> Partition {
    Partition {
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        create_time: 2,
        last_access_time: 0,
        storage: storage(columns, &format!("file:/w/d/t/{}", values.join("/"))),
        parameters: parameters(&[("numRows", "3")]),
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

async fn read_table(metastore: &SqlMetastore, name: &str) -> Option<Table> {
    let snapshot = metastore.snapshot().await.unwrap();
    let batch = snapshot.tables(&DatabaseName::new("d"), &[name.to_owned()]).await.unwrap();
    assert_eq!(batch.damaged, []);
    batch.found.into_iter().next()
}

/// All partitions of a table.
async fn read_partitions(metastore: &SqlMetastore, name: &str) -> Vec<Partition> {
    let table = read_table(metastore, name).await.unwrap();
    let snapshot = metastore.snapshot().await.unwrap();
    let names = snapshot.partition_names(&table.name).await.unwrap();
    let batch = snapshot.partitions(&table, &names).await.unwrap();
    assert_eq!(batch.damaged, []);
    batch.found
}

/// How many rows each table has, but for those that every file has.
async fn rows(metastore: &SqlMetastore) -> BTreeMap<String, i64> {
    let mut connection = metastore.writing().await.unwrap();
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut counts = BTreeMap::new();
    for mut row in connection.query(sql, &[]).await.unwrap() {
        let table = row.string(0).unwrap();
        let sql = format!("SELECT COUNT(*) FROM \"{table}\"");
        let count = connection.query(&sql, &[]).await.unwrap().remove(0).id(0).unwrap();
        if count > 0 && table != "SEQUENCE_TABLE" {
            counts.insert(table, count);
        }
    }
    counts
}
