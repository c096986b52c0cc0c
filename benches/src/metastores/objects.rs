//! What is written and read: external Parquet tables of ten columns, partitioned by day and hour.

use metasync::model::{
    Column, Database, DatabaseKind, DatabaseName, Parameters, Partition, Principal, PrincipalKind, SerDe,
    StorageDescriptor, Table, TableName, UnknownFields,
};
use std::sync::Arc;

/// The database that the plain client fills.
pub const PLAIN: &str = "understudy_bench_plain";
/// The database with one large table.
pub const LARGE: &str = "understudy_bench_large";
/// The database with many tables.
pub const MANY: &str = "understudy_bench_many";

/// Columns of each table.
const COLUMNS: usize = 10;
/// Seconds since 1970 at which everything was made.
const CREATED: i32 = 1_700_000_000;

fn column(name: &str, type_name: &str) -> Column {
    Column { name: name.to_owned(), type_name: type_name.to_owned(), comment: None, unknown: UnknownFields::default() }
}

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn etl() -> Option<Principal> {
    Some(Principal { name: "etl".to_owned(), kind: PrincipalKind::User })
}

/// A database below `root`.
pub fn database(name: &DatabaseName, root: &str) -> Database {
    Database {
        name: name.clone(),
        description: None,
        location: Some(format!("{root}/{}.db", name.database)),
        managed_location: None,
        parameters: Parameters::new(),
        owner: etl(),
        create_time: None,
        kind: DatabaseKind::Native,
        unknown: UnknownFields::default(),
    }
}

/// A table below `root`.
pub fn table(name: TableName, root: &str) -> Table {
    let location = format!("{root}/{}.db/{}", name.database, name.table);
    let columns = (0..COLUMNS).map(|at| column(&format!("column_{at}"), "decimal(18,2)")).collect();
    Table {
        name,
        table_type: Some("EXTERNAL_TABLE".to_owned()),
        owner: etl(),
        create_time: CREATED,
        last_access_time: 0,
        retention: 0,
        storage: StorageDescriptor {
            columns: Arc::new(columns),
            location: Some(location),
            input_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat".to_owned()),
            output_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat".to_owned()),
            bucket_count: -1,
            serde: SerDe {
                library: Some("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe".to_owned()),
                parameters: parameters(&[("serialization.format", "1")]),
                ..SerDe::default()
            },
            ..StorageDescriptor::default()
        },
        partition_keys: vec![column("day", "string"), column("hour", "string")],
        parameters: parameters(&[("EXTERNAL", "TRUE"), ("parquet.compression", "ZSTD")]),
        view_original_text: None,
        view_expanded_text: None,
        rewrite_enabled: false,
        creation_metadata: None,
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}

/// The values of a table's partition number `at`.
fn values(at: usize) -> [String; 2] {
    [format!("day-{:05}", at / 24), format!("{:02}", at % 24)]
}

/// What every partition's parameters are.
fn partition_parameters() -> Parameters {
    parameters(&[("numFiles", "3"), ("numRows", "1000"), ("rawDataSize", "8000"), ("totalSize", "70000")])
}

/// A table's partition number `at`, its columns shared with the table.
pub fn partition(table: &Table, at: usize) -> Partition {
    let [day, hour] = values(at);
    let mut storage = table.storage.clone();
    storage.location = table.storage.location.as_ref().map(|location| format!("{location}/day={day}/hour={hour}"));
    Partition {
        values: vec![day, hour],
        create_time: CREATED,
        last_access_time: 0,
        storage,
        parameters: partition_parameters(),
        write_id: 0,
        unknown: UnknownFields::default(),
    }
}
