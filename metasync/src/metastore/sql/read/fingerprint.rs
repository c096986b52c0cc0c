//! A digest of everything in a metastore that a replica is made of: one pass over each table, where the rows are.
//!
//! Rows are hashed one by one and the hashes added up, so that their order says nothing. PostgreSQL hashes and adds by itself
//! and sends two numbers a table; of others the rows come here. Digests are for comparing with one made by the same program
//! from the same database, no more.

use super::Reader;
use crate::metastore::Result;
use crate::metastore::sql::dialect::Dialect;

/// The tables that hold what is carried. The log, transactions, locks and privileges are not among them.
const TABLES: [&str; 27] = [
    "CTLGS",
    "DBS",
    "DATABASE_PARAMS",
    "TBLS",
    "TABLE_PARAMS",
    "PARTITIONS",
    "PARTITION_KEYS",
    "PARTITION_KEY_VALS",
    "PARTITION_PARAMS",
    "SDS",
    "SD_PARAMS",
    "SERDES",
    "SERDE_PARAMS",
    "CDS",
    "COLUMNS_V2",
    "BUCKETING_COLS",
    "SORT_COLS",
    "SKEWED_COL_NAMES",
    "SKEWED_STRING_LIST",
    "SKEWED_STRING_LIST_VALUES",
    "SKEWED_COL_VALUE_LOC_MAP",
    "SKEWED_VALUES",
    "TAB_COL_STATS",
    "PART_COL_STATS",
    "KEY_CONSTRAINTS",
    "FUNCS",
    "FUNC_RU",
];

/// From which version on PostgreSQL hashes a row as it is.
const HASHES_ROWS: i64 = 140_000;

/// Of all of them. Errors: those of any read.
pub(super) async fn fingerprint(reader: &mut Reader) -> Result<String> {
    let by_server = match reader.schema.dialect {
        Dialect::Postgres => server_version(reader).await? >= HASHES_ROWS,
        Dialect::MySql | Dialect::Sqlite => false,
    };
    let tables: Vec<&str> = TABLES.into_iter().filter(|table| reader.schema.has_table(table)).collect();
    let mut hasher = blake3::Hasher::new();
    if by_server {
        // For all rows of a table its index is a detour; other reads of this snapshot are by key.
        reader.connection.command("SET LOCAL enable_seqscan = on").await?;
    }
    for table in tables {
        let (rows, sum) = match by_server {
            true => summed(reader, table).await?,
            false => reader.connection.digest(&format!("SELECT * FROM \"{table}\"")).await?,
        };
        hasher.update(format!("{table} {rows} {sum}\n").as_bytes());
    }
    if by_server {
        reader.connection.command("SET LOCAL enable_seqscan = off").await?;
    }
    Ok(hasher.finalize().to_hex().as_str().to_owned())
}

async fn server_version(reader: &mut Reader) -> Result<i64> {
    let sql = "SELECT CURRENT_SETTING('server_version_num')::bigint";
    let rows = reader.connection.query(sql, &[]).await?;
    rows.into_iter().next().map_or(Ok(0), |mut row| row.id(0))
}

async fn summed(reader: &mut Reader, table: &str) -> Result<(u64, String)> {
    let sql =
        format!("SELECT COUNT(*), COALESCE(SUM(HASH_RECORD_EXTENDED(t, 0)::numeric), 0)::text FROM \"{table}\" t");
    let Some(mut row) = reader.connection.query(&sql, &[]).await?.into_iter().next() else {
        return Ok((0, String::new()));
    };
    Ok((row.id(0)?.cast_unsigned(), row.string(1)?))
}
