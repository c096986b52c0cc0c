//! Transactions, and the writes of transactional tables: what Hive 4 answers `get_valid_write_ids` from.

use super::Reader;
use crate::metastore::Result;
use crate::metastore::sql::dialect::placeholders;
use crate::metastore::sql::value::Value;
use crate::model::{DatabaseName, HIVE_CATALOG, Transactions, WriteIds};
use std::collections::HashMap;

/// Tables that one statement names.
const TABLES_PER_STATEMENT: usize = 500;
/// Of a transaction that was given up; `o` is one that has not ended, `c` one that was committed.
const ABORTED: &str = "a";

/// The transactions; `None` where the schema keeps none as Hive 4 does.
pub(super) async fn transactions(reader: &mut Reader) -> Result<Option<Transactions>> {
    let Reader { connection, schema, .. } = reader;
    if !schema.has_transactions() {
        return Ok(None);
    }
    let mut found = Transactions::default();
    // The newest one is never forgotten.
    for mut row in connection.query("SELECT MAX(\"TXN_ID\") FROM \"TXNS\"", &[]).await? {
        found.high_water = row.int(0)?.unwrap_or(0);
    }
    let sql = "SELECT \"TXN_ID\", \"TXN_STATE\" FROM \"TXNS\" WHERE \"TXN_STATE\" <> 'c'";
    for mut row in connection.query(sql, &[]).await? {
        let id = row.id(0)?;
        match row.string(1)? == ABORTED {
            true => found.aborted.insert(id),
            false => found.open.insert(id),
        };
    }
    Ok(Some(found))
}

/// The writes of these tables, one entry each; `None` where the schema keeps none as Hive 4 does.
pub(super) async fn write_ids(
    reader: &mut Reader,
    database: &DatabaseName,
    tables: &[String],
) -> Result<Option<HashMap<String, WriteIds>>> {
    let Reader { connection, schema, .. } = reader;
    // Hive knows the writes of tables by database and name, and of no other catalog.
    if !schema.has_transactions() || database.catalog != HIVE_CATALOG {
        return Ok(None);
    }
    let mut found: HashMap<String, WriteIds> =
        tables.iter().map(|table| (table.clone(), WriteIds::default())).collect();
    for tables in tables.chunks(TABLES_PER_STATEMENT) {
        let list = placeholders(tables.len());
        let values = |table: &str, of_database: &str, of_table: &str| -> Vec<Value> {
            let mut values = schema.wanted(table, of_database, [&database.database]);
            values.extend(schema.wanted(table, of_table, tables));
            values
        };
        let sql = format!(
            "SELECT \"NWI_TABLE\", \"NWI_NEXT\" FROM \"NEXT_WRITE_ID\" \
             WHERE \"NWI_DATABASE\" = ? AND \"NWI_TABLE\" IN ({list})"
        );
        for mut row in connection.query(&sql, &values("NEXT_WRITE_ID", "NWI_DATABASE", "NWI_TABLE")).await? {
            let (table, next) = (row.string(0)?, row.id(1)?);
            found.entry(table).or_default().high_water = Some(next - 1);
        }
        let sql = format!(
            "SELECT w.\"T2W_TABLE\", w.\"T2W_WRITEID\", t.\"TXN_STATE\" FROM \"TXN_TO_WRITE_ID\" w \
             JOIN \"TXNS\" t ON t.\"TXN_ID\" = w.\"T2W_TXNID\" WHERE t.\"TXN_STATE\" <> 'c' \
             AND w.\"T2W_DATABASE\" = ? AND w.\"T2W_TABLE\" IN ({list})"
        );
        for mut row in connection.query(&sql, &values("TXN_TO_WRITE_ID", "T2W_DATABASE", "T2W_TABLE")).await? {
            let (table, id, state) = (row.string(0)?, row.id(1)?, row.string(2)?);
            let ids = found.entry(table).or_default();
            match state == ABORTED {
                true => ids.aborted.insert(id),
                false => ids.open.insert(id),
            };
        }
    }
    Ok(Some(found))
}
