//! Rows that belong to other rows, for a set of owners at a time.

use crate::metastore::Result;
use crate::metastore::sql::connection::Connection;
use crate::metastore::sql::probe::Schema;
use crate::metastore::sql::value::{Row, Value};
use crate::model::{Parameters, Principal, PrincipalKind};
use std::collections::HashMap;

/// Ids in one statement.
pub(crate) const IDS_PER_STATEMENT: usize = 1000;

/// A child table: rows of `columns` that belong to an `owner`, in the order of `order`.
pub(crate) struct Children {
    pub(crate) table: &'static str,
    pub(crate) owner: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) order: Option<&'static str>,
}

impl Children {
    /// The rows of these owners; a schema without the table has none.
    pub(crate) async fn of(
        &self,
        connection: &mut Connection,
        schema: &Schema,
        owners: &[i64],
    ) -> Result<HashMap<i64, Vec<Row>>> {
        let mut found: HashMap<i64, Vec<Row>> = HashMap::new();
        if owners.is_empty() || !schema.has_table(self.table) || !connection.may_have_rows(self.table).await? {
            return Ok(found);
        }
        let Self { table, owner, .. } = self;
        let columns = schema.select(self.table, "c", self.columns);
        let order = self.order.map_or(String::new(), |order| format!(" ORDER BY c.\"{owner}\", c.\"{order}\""));
        for owners in owners.chunks(IDS_PER_STATEMENT) {
            let (among, values) = schema.dialect.among(&format!("c.\"{owner}\""), owners);
            let sql = format!("SELECT {columns}, c.\"{owner}\" FROM \"{table}\" c WHERE {among}{order}");
            for mut row in connection.query(&sql, &values).await? {
                let id = row.id(self.columns.len())?;
                found.entry(id).or_default().push(row);
            }
        }
        Ok(found)
    }

    /// The parameters of these owners. A value that is null is left out, as Hive does.
    pub(crate) async fn parameters(
        table: &'static str,
        owner: &'static str,
        connection: &mut Connection,
        schema: &Schema,
        owners: &[i64],
    ) -> Result<HashMap<i64, Parameters>> {
        let children = Self { table, owner, columns: &["PARAM_KEY", "PARAM_VALUE"], order: None };
        let mut all = HashMap::new();
        for (id, rows) in children.of(connection, schema, owners).await? {
            let mut parameters = Parameters::new();
            for mut row in rows {
                if let Some(value) = row.text(1)? {
                    parameters.insert(row.string(0)?, value);
                }
            }
            all.insert(id, parameters);
        }
        Ok(all)
    }

    /// One text column of these owners, in order.
    pub(crate) async fn texts(
        table: &'static str,
        owner: &'static str,
        columns: &'static [&'static str; 1],
        connection: &mut Connection,
        schema: &Schema,
        owners: &[i64],
    ) -> Result<HashMap<i64, Vec<String>>> {
        let children = Self { table, owner, columns, order: Some("INTEGER_IDX") };
        let mut all = HashMap::new();
        for (id, rows) in children.of(connection, schema, owners).await? {
            let texts: Result<Vec<String>> = rows.into_iter().map(|mut row| row.string(0)).collect();
            all.insert(id, texts?);
        }
        Ok(all)
    }
}

/// Texts as parameters.
pub(crate) fn texts<'a>(values: impl IntoIterator<Item = &'a String>) -> Vec<Value> {
    values.into_iter().map(Value::from).collect()
}

/// A principal from its two columns. A kind that is no word of Hive's is a user, as Hive reads it where nothing is said.
pub(crate) fn principal(name: Option<String>, kind: Option<&str>) -> Option<Principal> {
    let kind = match kind.map(str::to_ascii_uppercase).as_deref() {
        Some("ROLE") => PrincipalKind::Role,
        Some("GROUP") => PrincipalKind::Group,
        _ => PrincipalKind::User,
    };
    name.map(|name| Principal { name, kind })
}
