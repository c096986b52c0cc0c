//! Rows on their way into a table: checked against what its columns can hold, written many at a time.
//!
//! A value that the schema cannot hold is an error that names the object, the column and the reason, found before anything
//! of the statement is sent.

use super::connection::{Connection, mistake};
use super::dialect::{Dialect, MAX_PARAMETERS, column_list, placeholders};
use super::probe::{Kind, Schema};
use super::value::{Array, Value};
use crate::metastore::{Error, Result};

/// Rows of one statement.
const MAX_ROWS: usize = 1000;

/// Bytes of one statement's values, about: far below MySQL's smallest `max_allowed_packet` in use (16 MiB). One row may be
/// larger, and then stands alone.
const MAX_BYTES: usize = 1 << 20;

/// A value for a column that some schemas lack.
pub(crate) struct Cell {
    column: &'static str,
    value: Value,
    /// What a schema without the column means by lacking it: then it need not be written.
    implied: bool,
}

/// A value of a column that every schema has.
pub(crate) fn cell(column: &'static str, value: impl Into<Value>) -> Cell {
    Cell { column, value: value.into(), implied: false }
}

/// A value of a column that some schemas lack; `implied` says whether lacking it means the same.
pub(crate) fn cell_if(column: &'static str, value: impl Into<Value>, implied: bool) -> Cell {
    Cell { column, value: value.into(), implied }
}

/// Rows for one table.
pub(crate) struct Rows {
    table: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    pub(crate) fn new(table: &'static str) -> Self {
        Self { table, columns: Vec::new(), rows: Vec::new() }
    }

    /// Adds a row of `object`. Every row of a table names the same columns.
    pub(crate) fn push(&mut self, schema: &Schema, object: &dyn Fn() -> String, cells: Vec<Cell>) -> Result<()> {
        let cannot_hold = |why: String| Error::CannotHold { object: object(), version: schema.version, why };
        let mut row = Vec::with_capacity(cells.len());
        let first = self.columns.is_empty();
        for cell in cells {
            match schema.column(self.table, cell.column) {
                None if cell.implied => continue,
                None => return Err(cannot_hold(format!("its schema has no {}.{}", self.table, cell.column))),
                Some(column) => {
                    if let Some(why) = column.refuses(&cell.value) {
                        return Err(cannot_hold(format!("{}.{} {why}", self.table, cell.column)));
                    }
                }
            }
            if first {
                self.columns.push(cell.column);
            }
            row.push(cell.value);
        }
        if row.len() != self.columns.len() {
            return Err(mistake("write", &format!("rows of {} with different columns", self.table)));
        }
        self.rows.push(row);
        Ok(())
    }

    /// Writes all rows as new ones.
    pub(crate) async fn insert(self, connection: &mut Connection, schema: &Schema) -> Result<()> {
        self.write(connection, schema, "").await
    }

    /// Writes all rows; one whose key is there takes its place.
    pub(crate) async fn upsert(self, connection: &mut Connection, schema: &Schema, key: &str) -> Result<()> {
        let tail = schema.dialect.on_conflict(key, &self.columns);
        self.write(connection, schema, &tail).await
    }

    async fn write(self, connection: &mut Connection, schema: &Schema, tail: &str) -> Result<()> {
        let Self { table, columns, rows } = self;
        let head = format!("INSERT INTO \"{table}\" {}", column_list(&columns));
        let most = MAX_ROWS.min(MAX_PARAMETERS / columns.len().max(1));
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_some() {
            connection.gets_rows(table);
        }
        while rows.peek().is_some() {
            let mut chunk: Vec<Vec<Value>> = Vec::new();
            let mut bytes = 0;
            while let Some(row) = rows.peek() {
                let size: usize = row.iter().map(Value::size).sum();
                if !chunk.is_empty() && (chunk.len() == most || bytes + size > MAX_BYTES) {
                    break;
                }
                bytes += size;
                chunk.extend(rows.next());
            }
            if schema.dialect == Dialect::Postgres {
                let (types, arrays) = arrays(schema, table, &columns, chunk)?;
                let sql = format!("{head} SELECT * FROM UNNEST({}){tail}", types.join(", "));
                let values: Vec<Value> = arrays.into_iter().map(Value::Array).collect();
                connection.execute(&sql, &values).await?;
            } else {
                let row = format!("({})", placeholders(columns.len()));
                let sql = format!("{head} VALUES {}{tail}", vec![row.as_str(); chunk.len()].join(", "));
                let values: Vec<Value> = chunk.into_iter().flatten().collect();
                connection.execute(&sql, &values).await?;
            }
        }
        Ok(())
    }
}

/// The rows turned on their side: a typed placeholder and an array a column.
fn arrays(
    schema: &Schema,
    table: &str,
    columns: &[&'static str],
    rows: Vec<Vec<Value>>,
) -> Result<(Vec<&'static str>, Vec<Array>)> {
    let mut arrays: Vec<Array> = Vec::with_capacity(columns.len());
    let mut types = Vec::with_capacity(columns.len());
    for column in columns {
        let kind = schema.column(table, column).map_or(Kind::Text, |column| column.kind);
        let (kind, array) = match kind {
            Kind::Bool => ("?::bool[]", Array::Bool(Vec::with_capacity(rows.len()))),
            Kind::Int => ("?::int8[]", Array::Int(Vec::with_capacity(rows.len()))),
            Kind::Float => ("?::float8[]", Array::Float(Vec::with_capacity(rows.len()))),
            Kind::Text => ("?::text[]", Array::Text(Vec::with_capacity(rows.len()))),
            Kind::Bytes => ("?::bytea[]", Array::Bytes(Vec::with_capacity(rows.len()))),
        };
        types.push(kind);
        arrays.push(array);
    }
    for row in rows {
        for (array, value) in arrays.iter_mut().zip(row) {
            match (array, value) {
                (Array::Bool(array), Value::Null) => array.push(None),
                (Array::Bool(array), Value::Bool(value)) => array.push(Some(value)),
                (Array::Int(array), Value::Null) => array.push(None),
                (Array::Int(array), Value::Int(value)) => array.push(Some(value)),
                (Array::Int(array), Value::Bool(value)) => array.push(Some(value.into())),
                (Array::Float(array), Value::Null) => array.push(None),
                (Array::Float(array), Value::Float(value)) => array.push(Some(value)),
                (Array::Text(array), Value::Null) => array.push(None),
                (Array::Text(array), Value::Text(value)) => array.push(Some(value)),
                (Array::Bytes(array), Value::Null) => array.push(None),
                (Array::Bytes(array), Value::Bytes(value)) => array.push(Some(value)),
                _ => return Err(mistake("write", &format!("a value of another type for a column of {table}"))),
            }
        }
    }
    Ok((types, arrays))
}
