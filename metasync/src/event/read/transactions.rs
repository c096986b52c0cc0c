//! Transactions, what they write, and compaction.

use super::{Decoded, named, parsed};
use crate::event::message::List;
use crate::event::objects::table_name;
use crate::event::{Kind, damaged};
use crate::metastore::EventRow;
use serde::Deserialize;

pub(super) fn open_transactions(json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        #[serde(default)]
        txn_ids: List<i64>,
        from_txn_id: Option<i64>,
        to_txn_id: Option<i64>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::OpenTransactions { ids: message.txn_ids.0, first: message.from_txn_id, last: message.to_txn_id })
}

pub(super) fn commit_transaction(json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        #[serde(default)]
        write_ids: List<i64>,
        #[serde(default)]
        databases: List<String>,
        #[serde(default)]
        tables: List<String>,
        #[serde(default)]
        partitions: List<Option<String>>,
        #[serde(default)]
        files: List<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CommitTransaction {
        id: message.txnid,
        write_ids: message.write_ids.0,
        databases: message.databases.0,
        tables: message.tables.0,
        partitions: message.partitions.0.into_iter().map(Option::unwrap_or_default).collect(),
        files: message.files.0,
    })
}

pub(super) fn abort_transaction(json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        #[serde(default)]
        dbs_updated: List<String>,
        #[serde(default)]
        write_ids: List<i64>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::AbortTransaction { id: message.txnid, databases: message.dbs_updated.0, write_ids: message.write_ids.0 })
}

pub(super) fn allocate_write_ids(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        db_name: String,
        table_name: String,
        txn_id_list: List<i64>,
        write_id_list: List<i64>,
    }
    let Message { db_name, table_name: name, txn_id_list, write_id_list } = parsed(json)?;
    let (transactions, writes) = (txn_id_list.0, write_id_list.0);
    if transactions.len() != writes.len() {
        let why = format!("its message has {} write ids for {} transactions", writes.len(), transactions.len());
        return Err(damaged(why));
    }
    let ids = transactions.into_iter().zip(writes).collect();
    Ok(Kind::AllocateWriteIds { table: table_name(row, &db_name, &name), ids })
}

pub(super) fn transactional_write(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        write_id: i64,
        database: String,
        table: String,
        partition: Option<String>,
        #[serde(default)]
        files: List<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::TransactionalWrite {
        id: message.txnid,
        write_id: message.write_id,
        name: table_name(row, &message.database, &message.table),
        partition: named(message.partition),
        files: message.files.0,
    })
}

pub(super) fn commit_compaction(row: &EventRow, json: &str) -> Decoded {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        txnid: i64,
        compaction_id: i64,
        r#type: Option<String>,
        dbname: String,
        table_name: String,
        part_name: Option<String>,
    }
    let message: Message = parsed(json)?;
    Ok(Kind::CommitCompaction {
        id: message.txnid,
        compaction: message.compaction_id,
        compaction_type: message.r#type,
        name: table_name(row, &message.dbname, &message.table_name),
        partition: named(message.part_name),
    })
}
