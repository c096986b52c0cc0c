//! A digest of everything in a metastore that a replica is made of: one pass over each table, where the rows are.
//!
//! Rows are hashed one by one and the hashes added up, so that their order says nothing. PostgreSQL hashes and adds by itself
//! and sends two numbers a table; of others the rows come here, but of a PostgreSQL that cannot hash a row none do. Digests are for comparing with one made by the same program
//! from the same database, no more.

use super::Reader;
use crate::metastore::Result;

/// The tables that hold what is carried. The log, transactions, locks and privileges are not among them,
/// but for how far the writes of transactional tables got.
const TABLES: [&str; 28] = [
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
    "NEXT_WRITE_ID",
];

/// Of all of them; `None` where the server cannot hash rows. Errors: those of any read.
pub(super) async fn fingerprint(reader: &mut Reader) -> Result<Option<String>> {
    let tables: Vec<&str> = TABLES.into_iter().filter(|table| reader.schema.has_table(table)).collect();
    let mut hasher = blake3::Hasher::new();
    reader.connection.read_whole_tables(true).await?;
    for table in tables {
        let Some((rows, sum)) = reader.connection.digest(table).await? else {
            return reader.connection.read_whole_tables(false).await.map(|()| None);
        };
        hasher.update(format!("{table} {rows} {sum}\n").as_bytes());
    }
    reader.connection.read_whole_tables(false).await?;
    Ok(Some(hasher.finalize().to_hex().as_str().to_owned()))
}
