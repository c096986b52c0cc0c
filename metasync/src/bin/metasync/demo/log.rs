//! The event log of the demo's source, as Hive's DbNotificationListener writes it.

use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use hms::{api, tjson};
use jiff::Timestamp;
use metasync::model::{Column, Partition, StorageDescriptor, Table, TableName};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, query, query_scalar};
use std::path::Path;

/// The form of the messages: plain JSON.
const FORMAT: &str = "json-0.2";

/// An event, with what its message says besides who and when.
pub struct Happened<'a> {
    kind: &'static str,
    table: &'a TableName,
    message: Value,
}

impl<'a> Happened<'a> {
    /// A table was made.
    pub fn table_made(table: &'a Table) -> Result<Self> {
        Ok(Self { kind: "CREATE_TABLE", table: &table.name, message: json!({ "tableObjJson": of_table(table)? }) })
    }

    /// A table was altered, or renamed.
    pub fn table_altered(before: &'a Table, after: &Table) -> Result<Self> {
        let message = json!({
            "tableObjBeforeJson": of_table(before)?, "tableObjAfterJson": of_table(after)?, "isTruncateOp": "false"
        });
        Ok(Self { kind: "ALTER_TABLE", table: &before.name, message })
    }

    /// Partitions were added.
    pub fn partitions_added(table: &'a Table, partitions: &[Partition]) -> Result<Self> {
        let each = partitions.iter().map(|one| of_partition(table, one)).collect::<Result<Vec<String>>>()?;
        let pairs: Vec<Value> = partitions.iter().map(|one| pairs(table, one)).collect();
        let message = json!({
            "tableObjJson": of_table(table)?, "partitions": pairs, "partitionListJson": each, "partitionFiles": []
        });
        Ok(Self { kind: "ADD_PARTITION", table: &table.name, message })
    }

    /// A partition was dropped.
    pub fn partition_dropped(table: &'a Table, partition: &Partition) -> Result<Self> {
        let message = json!({ "tableObjJson": of_table(table)?, "partitions": [pairs(table, partition)] });
        Ok(Self { kind: "DROP_PARTITION", table: &table.name, message })
    }

    /// A file was added to a partition.
    pub fn inserted(table: &'a Table, partition: &Partition, file: &str) -> Result<Self> {
        let message = json!({
            "tableObjJson": of_table(table)?, "ptnObjJson": of_partition(table, partition)?, "replace": "false",
            "partKeyVals": pairs(table, partition), "files": [file]
        });
        Ok(Self { kind: "INSERT", table: &table.name, message })
    }
}

/// The log of a metastore in a SQLite file.
pub struct Log(SqliteConnection);

impl Log {
    /// Opens it.
    pub async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(file);
        Ok(Self(SqliteConnection::connect_with(&options).await.map_err(|error| failed(&error))?))
    }

    /// Adds an event.
    pub async fn add(&mut self, happened: Happened<'_>) -> Result<()> {
        let Happened { kind, table, mut message } = happened;
        let now = Timestamp::now().as_second();
        let around = json!({
            "server": "", "servicePrincipal": "", "db": table.database, "table": table.table,
            "tableType": "EXTERNAL_TABLE", "timestamp": now
        });
        if let (Some(message), Value::Object(around)) = (message.as_object_mut(), around) {
            message.extend(around);
        }
        let write = async {
            let mut both = self.0.begin().await?;
            let next: i64 =
                query_scalar("SELECT \"NEXT_EVENT_ID\" FROM \"NOTIFICATION_SEQUENCE\"").fetch_one(&mut *both).await?;
            query("UPDATE \"NOTIFICATION_SEQUENCE\" SET \"NEXT_EVENT_ID\" = ?")
                .bind(next + 1)
                .execute(&mut *both)
                .await?;
            query(
                "INSERT INTO \"NOTIFICATION_LOG\" (\"NL_ID\", \"EVENT_ID\", \"EVENT_TIME\", \"EVENT_TYPE\", \"CAT_NAME\", \
                 \"DB_NAME\", \"TBL_NAME\", \"MESSAGE\", \"MESSAGE_FORMAT\") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(next)
            .bind(next)
            .bind(now)
            .bind(kind)
            .bind(table.catalog.as_str())
            .bind(table.database.as_str())
            .bind(table.table.as_str())
            .bind(message.to_string())
            .bind(FORMAT)
            .execute(&mut *both)
            .await?;
            both.commit().await
        };
        write.await.map_err(|error: sqlx::Error| failed(&error))
    }
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(ExitCode::Failed, format!("the demo's event log cannot be written: {error}"))
}

/// The values of a partition, by key.
fn pairs(table: &Table, partition: &Partition) -> Value {
    let keys = table.partition_keys.iter().map(|key| key.name.clone());
    Value::Object(keys.zip(partition.values.iter().map(|value| value.as_str().into())).collect())
}

fn of_table(table: &Table) -> Result<String> {
    let object = api::Table {
        table_name: Some(table.name.table.clone()),
        db_name: Some(table.name.database.clone()),
        cat_name: Some(table.name.catalog.clone()),
        table_type: table.table_type.clone(),
        create_time: Some(table.create_time),
        sd: Some(of_storage(&table.storage)),
        partition_keys: Some(of_columns(&table.partition_keys)),
        parameters: Some(table.parameters.clone()),
        ..Default::default()
    };
    tjson::encode(&object).map_err(|error| failed(&error))
}

fn of_partition(table: &Table, partition: &Partition) -> Result<String> {
    let object = api::Partition {
        values: Some(partition.values.clone()),
        db_name: Some(table.name.database.clone()),
        table_name: Some(table.name.table.clone()),
        cat_name: Some(table.name.catalog.clone()),
        create_time: Some(partition.create_time),
        sd: Some(of_storage(&partition.storage)),
        parameters: Some(partition.parameters.clone()),
        ..Default::default()
    };
    tjson::encode(&object).map_err(|error| failed(&error))
}

fn of_storage(storage: &StorageDescriptor) -> api::StorageDescriptor {
    api::StorageDescriptor {
        cols: Some(of_columns(&storage.columns)),
        location: storage.location.clone(),
        input_format: storage.input_format.clone(),
        output_format: storage.output_format.clone(),
        num_buckets: Some(storage.bucket_count),
        serde_info: Some(api::SerDeInfo {
            serialization_lib: storage.serde.library.clone(),
            parameters: Some(storage.serde.parameters.clone()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn of_columns(columns: &[Column]) -> Vec<api::FieldSchema> {
    let column = |column: &Column| api::FieldSchema {
        name: Some(column.name.clone()),
        r#type: Some(column.type_name.clone()),
        comment: column.comment.clone(),
        ..Default::default()
    };
    columns.iter().map(column).collect()
}
