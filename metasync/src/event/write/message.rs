//! The messages themselves: the properties that Hive's JSONMessageEncoder gives each type, Thrift objects in them as text.
//!
//! Every version gets the properties of the newest: each passes over those that it does not know.

use super::{Happened, Unwritable};
use crate::metastore::Version;
use crate::metastore::thrift::convert;
use crate::model::{
    ColumnStatistics, Constraint, ConstraintKind, Database, DatabaseName, Partition, PartitionName, Table, TableName,
};
use hms::wire::Wire;
use hms::{api, tjson};
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

type Result<T> = std::result::Result<T, Unwritable>;

/// Statistics are written as Hive 4 has them: no other logs them.
const OF_STATISTICS: Version = Version::V4_0;

/// A message with what its row says beside it.
pub(super) struct Message {
    pub(super) event_type: &'static str,
    pub(super) database: DatabaseName,
    pub(super) table: Option<String>,
    pub(super) fields: Map<String, Value>,
}

impl Message {
    fn new(event_type: &'static str, database: &DatabaseName, table: Option<&str>) -> Self {
        Self { event_type, database: database.clone(), table: table.map(str::to_owned), fields: Map::new() }
    }

    fn of_table(event_type: &'static str, row: &TableName, named: &Table) -> Self {
        Self::new(event_type, &row.database(), Some(&row.table))
            .with("db", named.name.database.clone())
            .with("table", named.name.table.clone())
            .with("tableType", named.table_type.clone())
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }
}

/// The text of a message: JSON in ASCII.
pub(super) fn text(mut fields: Map<String, Value>, time: i64) -> String {
    fields.extend([
        ("server".to_owned(), Value::from("")),
        ("servicePrincipal".to_owned(), Value::from("")),
        ("timestamp".to_owned(), Value::from(time)),
    ]);
    let mut out = Vec::new();
    // Writing to memory does not fail, and every value here has a JSON form.
    let _never_fails = fields.serialize(&mut Serializer::with_formatter(&mut out, Ascii));
    String::from_utf8(out).unwrap_or_default()
}

/// JSON in which characters beyond ASCII are escaped, in pairs where they need it.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut units = [0; 2];
        for character in fragment.chars() {
            if character.is_ascii() {
                writer.write_all(&[character as u8])?;
                continue;
            }
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

fn object<T: Wire + Clone>(name: impl Fn() -> String, converted: std::result::Result<T, String>) -> Result<String> {
    let text = converted.and_then(|object| tjson::encode(&object).map_err(|error| error.to_string()));
    text.map_err(|why| Unwritable { object: name(), why })
}

fn database_object(database: &Database) -> Result<String> {
    let written = convert::to_database(database).map(|object| api::Database {
        // Hive's own never lack it.
        r#type: object.r#type.or(Some(api::DatabaseType::NATIVE)),
        ..object
    });
    object(|| format!("database {}", database.name), written)
}

fn table_object(table: &Table) -> Result<String> {
    object(|| format!("table {}", table.name), convert::to_table(table))
}

fn partition_object(table: &Table, partition: &Partition) -> Result<String> {
    object(
        || format!("partition {:?} of {}", partition.values, table.name),
        convert::to_partition(&table.name, partition),
    )
}

/// A partition's values by key.
fn pairs(table: &Table, values: &[String]) -> Value {
    let keys = table.partition_keys.iter().map(|key| key.name.clone());
    Value::Object(keys.zip(values.iter().map(|value| value.as_str().into())).collect())
}

fn values(table: &Table, name: &PartitionName) -> Result<Vec<String>> {
    name.values().map_err(|why| Unwritable { object: format!("partition {name} of {}", table.name), why })
}

/// ADD_PARTITION of the first of these partitions, as many as have `limit` bytes, at least one.
pub(super) fn added_partitions(
    table: &Table,
    partitions: &mut std::vec::IntoIter<Partition>,
    limit: usize,
) -> Result<Message> {
    let (mut objects, mut named, mut bytes) = (Vec::new(), Vec::new(), 0);
    for partition in partitions {
        let object = partition_object(table, &partition)?;
        bytes += object.len();
        objects.push(Value::String(object));
        named.push(pairs(table, &partition.values));
        if bytes >= limit {
            break;
        }
    }
    Ok(Message::of_table("ADD_PARTITION", &table.name, table)
        .with("tableObjJson", table_object(table)?)
        .with("partitions", named)
        .with("partitionListJson", objects)
        .with("partitionFiles", json!([])))
}

/// The message of anything but added partitions, which may need several.
pub(super) fn of(happened: &Happened) -> Result<Message> {
    Ok(match happened {
        Happened::CreatedDatabase(database) => Message::new("CREATE_DATABASE", &database.name, None)
            .with("db", database.name.database.clone())
            .with("dbJson", database_object(database)?),
        Happened::AlteredDatabase { before, after } => Message::new("ALTER_DATABASE", &after.name, None)
            .with("db", before.name.database.clone())
            .with("dbObjBeforeJson", database_object(before)?)
            .with("dbObjAfterJson", database_object(after)?),
        Happened::DroppedDatabase(database) => Message::new("DROP_DATABASE", &database.name, None)
            .with("db", database.name.database.clone())
            .with("dbJson", database_object(database)?),
        Happened::CreatedTable(table) => Message::of_table("CREATE_TABLE", &table.name, table)
            .with("tableObjJson", table_object(table)?)
            .with("files", json!([])),
        Happened::AlteredTable { before, after, emptied } => Message::of_table("ALTER_TABLE", &after.name, before)
            .with("tableObjBeforeJson", table_object(before)?)
            .with("tableObjAfterJson", table_object(after)?)
            .with("isTruncateOp", flag(*emptied))
            .with("writeId", after.write_id),
        Happened::DroppedTable(table) => {
            Message::of_table("DROP_TABLE", &table.name, table).with("tableObjJson", table_object(table)?)
        }
        Happened::AddedPartitions { table, partitions } => {
            added_partitions(table, &mut partitions.clone().into_iter(), usize::MAX)?
        }
        Happened::AlteredPartition { table, before, after, emptied } => {
            Message::of_table("ALTER_PARTITION", &table.name, table)
                .with("tableObjJson", table_object(table)?)
                .with("keyValues", pairs(table, &before.values))
                .with("partitionObjBeforeJson", partition_object(table, before)?)
                .with("partitionObjAfterJson", partition_object(table, after)?)
                .with("isTruncateOp", flag(*emptied))
                .with("writeId", after.write_id)
        }
        Happened::DroppedPartitions { table, names } => {
            let named = names.iter().map(|name| Ok(pairs(table, &values(table, name)?))).collect::<Result<Vec<_>>>()?;
            Message::of_table("DROP_PARTITION", &table.name, table)
                .with("tableObjJson", table_object(table)?)
                .with("partitions", named)
        }
        Happened::CreatedFunction(function) => {
            let name = || format!("function {}.{}", function.database, function.name);
            Message::new("CREATE_FUNCTION", &function.database, None)
                .with("db", function.database.database.clone())
                .with("functionObjJson", object(name, convert::to_function(function))?)
        }
        Happened::DroppedFunction { database, name } => Message::new("DROP_FUNCTION", database, None)
            .with("db", database.database.clone())
            .with("functionName", name.clone()),
        Happened::AddedConstraint { constraint, .. } => added_constraint(constraint)?,
        Happened::DroppedConstraint { table, name } => {
            Message::new("DROP_CONSTRAINT", &table.name.database(), Some(&table.name.table))
                .with("dbName", table.name.database.clone())
                .with("tableName", table.name.table.clone())
                .with("constraintName", name.clone())
        }
        Happened::PutTableStatistics { table, statistics } => of_statistics("UPDATE_TBL_COL_STAT_EVENT", table)
            .with("colStatsJson", statistics_object(table, None, statistics)?)
            .with("parameters", json!(table.parameters))
            .with("tableObjJson", table_object(table)?)
            .with("writeId", table.write_id),
        Happened::DroppedTableStatistics { table, column } => {
            of_statistics("DELETE_TBL_COL_STAT_EVENT", table).with("colName", column.clone())
        }
        Happened::PutPartitionStatistics { table, partition, parameters, statistics } => {
            of_statistics("UPDATE_PART_COL_STAT_EVENT", table)
                .with("colStatsJson", statistics_object(table, Some(partition), statistics)?)
                .with("parameters", json!(parameters))
                .with("partVals", values(table, partition)?)
                .with("tableObjJson", table_object(table)?)
                .with("writeId", table.write_id)
        }
        Happened::DroppedPartitionStatistics { table, partition, column } => {
            of_statistics("DELETE_PART_COL_STAT_EVENT", table)
                .with("colName", column.clone())
                .with("partName", partition.0.clone())
                .with("partValues", values(table, partition)?)
        }
    })
}

/// Hive writes truth values as text.
fn flag(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

fn of_statistics(event_type: &'static str, table: &Table) -> Message {
    Message::new(event_type, &table.name.database(), Some(&table.name.table))
        .with("database", table.name.database.clone())
}

/// Statistics of one engine and one moment.
fn statistics_object(table: &Table, partition: Option<&PartitionName>, of: &[ColumnStatistics]) -> Result<String> {
    let first = of.first();
    let columns: std::result::Result<_, String> =
        of.iter().map(|each| convert::to_statistics(each, OF_STATISTICS)).collect();
    let converted = columns.map(|columns| api::ColumnStatistics {
        stats_desc: Some(api::ColumnStatisticsDesc {
            is_tbl_level: Some(partition.is_none()),
            db_name: Some(table.name.database.clone()),
            table_name: Some(table.name.table.clone()),
            part_name: partition.map(|name| name.0.clone()),
            last_analyzed: first.map(|each| each.last_analyzed),
            cat_name: Some(table.name.catalog.clone()),
            ..Default::default()
        }),
        stats_obj: Some(columns),
        engine: first.map(|each| each.engine.clone()),
        ..Default::default()
    });
    object(|| format!("statistics of {}", table.name), converted)
}

/// The row of a foreign key names the table that is referred to.
fn added_constraint(constraint: &Constraint) -> Result<Message> {
    let name = || format!("constraint {} on {}", constraint.name, constraint.table);
    let (event_type, key, on, rows) = match &constraint.kind {
        ConstraintKind::PrimaryKey { columns } => {
            let rows = texts(name, convert::primary_key_rows(constraint, columns))?;
            ("ADD_PRIMARYKEY", "primaryKeyListJson", &constraint.table, rows)
        }
        ConstraintKind::ForeignKey { parent, .. } => {
            let rows = texts(name, convert::foreign_key_rows(constraint))?;
            ("ADD_FOREIGNKEY", "foreignKeyListJson", parent, rows)
        }
        ConstraintKind::Unique { columns } => {
            let rows = texts(name, convert::unique_rows(constraint, columns))?;
            ("ADD_UNIQUECONSTRAINT", "uniqueConstraintListJson", &constraint.table, rows)
        }
        ConstraintKind::NotNull { column } => {
            let rows = texts(name, convert::not_null_rows(constraint, column))?;
            ("ADD_NOTNULLCONSTRAINT", "notNullConstraintListJson", &constraint.table, rows)
        }
        ConstraintKind::Default { column, value } => {
            let rows = texts(name, convert::default_rows(constraint, column, value))?;
            ("ADD_DEFAULTCONSTRAINT", "defaultConstraintListJson", &constraint.table, rows)
        }
        ConstraintKind::Check { column, expression } => {
            let rows = texts(name, convert::check_rows(constraint, column.as_deref(), expression))?;
            ("ADD_CHECKCONSTRAINT", "checkConstraintListJson", &constraint.table, rows)
        }
    };
    Ok(Message::new(event_type, &on.database(), Some(&on.table)).with(key, rows))
}

fn texts<T: Wire + Clone>(name: impl Fn() -> String, rows: Vec<T>) -> Result<Vec<String>> {
    rows.into_iter().map(|row| object(&name, Ok(row))).collect()
}
