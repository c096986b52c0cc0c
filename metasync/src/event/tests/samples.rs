//! Rows that real metastores wrote: `samples/` has one of each type from servers of 2.3, 3.1, 4.0 and 4.2, and some more.

use super::super::*;
use crate::metastore::EventRow;
use crate::model::{ConstraintKind, DatabaseName, PartitionName, TableName};
use std::collections::BTreeSet;
use std::sync::Arc;

const SAMPLES: [(&str, &str); 5] = [
    ("2.3-json", include_str!("../samples/2.3-json.jsonl")),
    ("3.1-json", include_str!("../samples/3.1-json.jsonl")),
    ("4.0-gzip", include_str!("../samples/4.0-gzip.jsonl")),
    ("4.0-json", include_str!("../samples/4.0-json.jsonl")),
    ("4.2-gzip", include_str!("../samples/4.2-gzip.jsonl")),
];

/// What each of them touches, checked by hand.
const TOUCHED: &str = include_str!("../samples/touched.txt");

/// The row of a JSON object whose properties are the columns.
fn row(line: &str) -> EventRow {
    let of: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = |name: &str| of[name].as_str().map(str::to_owned);
    EventRow {
        event_id: of["EVENT_ID"].as_i64().unwrap(),
        event_time: of["EVENT_TIME"].as_i64().unwrap(),
        event_type: text("EVENT_TYPE").unwrap(),
        catalog: text("CAT_NAME"),
        database: text("DB_NAME"),
        table: text("TBL_NAME"),
        message: text("MESSAGE").unwrap(),
        message_format: text("MESSAGE_FORMAT"),
    }
}

pub(super) fn all() -> Vec<(&'static str, EventRow)> {
    SAMPLES.iter().flat_map(|(server, lines)| lines.lines().map(|line| (*server, row(line)))).collect()
}

fn sample(server: &str, id: i64) -> Event {
    let found = all().into_iter().find(|(of, row)| *of == server && row.event_id == id);
    decode(&found.unwrap().1).unwrap()
}

/// What an event touches, in a line.
fn told(touches: &Touches) -> String {
    let mut told = Vec::new();
    told.extend(touches.databases.iter().map(|name| format!("database {name}")));
    told.extend(touches.tables.iter().map(|name| format!("table {name}")));
    for (table, names) in &touches.partitions {
        told.extend(names.iter().map(|name| format!("partition {table}[{name}]")));
    }
    told.extend(touches.renames.iter().map(|(from, to)| format!("rename {from} -> {to}")));
    told.extend(touches.functions.iter().map(|(database, name)| format!("function {database}.{name}")));
    for Emptied { table, partition } in &touches.emptied {
        let partition = partition.as_ref().map(|name| format!("[{name}]")).unwrap_or_default();
        told.push(format!("emptied {table}{partition}"));
    }
    told.join("; ")
}

#[test]
fn every_sample_is_understood_and_touches_what_is_written_down() {
    let mut digests = BTreeSet::new();
    let mut lines = String::new();
    for (server, row) in all() {
        let event = decode(&row).unwrap_or_else(|error| panic!("{server}: {error}"));
        assert_eq!((event.id, event.time, event.digest), (row.event_id, row.event_time, digest(&row)));
        assert!(!matches!(event.kind, Kind::Unknown { .. }), "{server}: {}", row.event_type);
        assert!(digests.insert(event.digest), "{server} {}: two events with one digest", row.event_id);
        let told = told(&event.touches());
        assert_eq!(told.is_empty(), event.touches().is_empty());
        lines.push_str(format!("{server} {} {}: {told}", row.event_id, type_name(&row)).trim_end());
        lines.push('\n');
    }
    assert_eq!(lines, TOUCHED);
}

#[test]
fn the_samples_have_every_type_that_real_servers_were_seen_to_log() {
    let types: BTreeSet<String> = all().into_iter().map(|(_, row)| row.event_type).collect();
    assert_eq!(types.len(), 32, "{types:?}");
}

#[test]
fn a_rename_has_the_table_before_and_after() {
    let Kind::AlterTable { before, after, truncated, .. } = sample("4.2-gzip", 23).kind else { panic!() };
    assert_eq!((before.name, after.name), (TableName::new("gold", "ext_text"), TableName::new("gold", "ext_text2")));
    assert_eq!(truncated, Some(false));
    assert_eq!(before.storage.columns.len(), after.storage.columns.len());
    let Kind::AlterTable { truncated, .. } = sample("2.3-json", 9).kind else { panic!() };
    assert_eq!(truncated, None, "2.3 does not say");
}

#[test]
fn names_are_in_lower_case_as_the_metastore_keeps_them() {
    for (server, id) in [("2.3-json", 3), ("3.1-json", 4)] {
        let (_, row) = all().into_iter().find(|(of, row)| *of == server && row.event_id == id).unwrap();
        assert!(row.message.contains("Orders") && row.message.contains("Name"), "the sample has capitals");
        let Kind::CreateTable { table, .. } = decode(&row).unwrap().kind else { panic!() };
        assert_eq!(table.name, TableName::new("sales", "orders"));
        let columns: Vec<_> = table.storage.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(columns, ["id", "name"]);
        assert_eq!(table.storage.columns[1].comment.as_deref(), Some("ünï"));
    }
    let Kind::AddPartitions { table, .. } = sample("2.3-json", 7).kind else { panic!() };
    assert_eq!(table.partition_keys[0].name, "day");
}

#[test]
fn partitions_have_their_values_and_share_the_columns_of_their_table() {
    let Kind::AddPartitions { table, partitions, files } = sample("4.2-gzip", 44).kind else { panic!() };
    let found: Vec<_> =
        partitions.iter().map(|named| (named.name.0.as_str(), named.partition.values[0].as_str())).collect();
    let expected = [
        ("p=a%3Ab", "a:b"),
        ("p=100%25", "100%"),
        ("p=a%3Db", "a=b"),
        ("p=ünï%2F日本", "ünï/日本"),
        ("p=quote%22d", "quote\"d"),
        ("p=back%5Cslash", "back\\slash"),
        ("p=emoji😀", "emoji😀"),
        ("p=UPPER", "UPPER"),
        ("p=upper", "upper"),
    ];
    assert_eq!(found, expected);
    assert!(files.is_empty(), "an external table's files are not listed");
    let shared = |named: &NamedPartition| Arc::ptr_eq(&named.partition.storage.columns, &table.storage.columns);
    assert!(partitions.iter().all(shared));
    let Kind::AddPartitions { files, .. } = sample("4.2-gzip", 224).kind else { panic!() };
    assert_eq!(files, [PartitionFiles { name: PartitionName("p=x y".to_owned()), files: Vec::new() }]);
}

#[test]
fn an_insert_has_its_partition_its_files_and_whether_it_replaced() {
    let Kind::Insert { name, partition, object, replace, files, .. } = sample("4.2-gzip", 59).kind else { panic!() };
    assert_eq!((name, replace), (TableName::new("gold", "ext_p"), Some(true)));
    assert_eq!(partition, Some(PartitionName("ds=2024-02-01/hr=1".to_owned())));
    assert_eq!(object.unwrap().values, ["2024-02-01", "1"]);
    assert_eq!(files, ["file:/lake/external/gold.db/ext_p/ds=2024-02-01/hr=1/000000_0##file:/lake/cm#"]);
    let Kind::Insert { table, partition, replace, files, .. } = sample("2.3-json", 40).kind else { panic!() };
    assert_eq!((table, replace), (None, None), "2.3 does not say");
    assert_eq!(partition, Some(PartitionName("day=2026-11-01/hr=1".to_owned())));
    assert_eq!(files, ["file:/lake/sales/x/000000_0#abc"]);
}

#[test]
fn a_foreign_key_is_on_the_table_that_refers() {
    for (server, id) in [("4.0-gzip", 345), ("4.2-gzip", 143)] {
        let Kind::AddConstraints { constraints } = sample(server, id).kind else { panic!() };
        assert_eq!(constraints[0].table, TableName::new("gold", "fk_t"));
        let ConstraintKind::ForeignKey { parent, .. } = &constraints[0].kind else { panic!() };
        assert_eq!(*parent, TableName::new("gold", "pk_t"), "which the row itself names");
    }
}

#[test]
fn statistics_come_with_their_columns_their_time_and_their_sketches() {
    for (server, id) in [("4.0-gzip", 325), ("4.0-json", 322), ("4.2-gzip", 126)] {
        let Kind::UpdatePartitionStatistics { statistics, partition, .. } = sample(server, id).kind else { panic!() };
        assert!(!partition.values().unwrap().is_empty());
        assert!(!statistics.is_empty());
        assert!(statistics.iter().all(|column| column.last_analyzed > 1_795_000_000 && column.engine == "hive"));
    }
}

#[test]
fn transactions_have_their_ids() {
    let Kind::OpenTransactions { ids, first, last } = sample("4.0-gzip", 1).kind else { panic!() };
    assert_eq!((ids, first, last), (Vec::new(), Some(1), Some(1)));
    let Kind::AllocateWriteIds { table, ids } = sample("4.0-json", 356).kind else { panic!() };
    assert_eq!((table.database(), ids.len()), (DatabaseName::new("gold"), 1));
    let with_writes = all().into_iter().any(|(_, row)| {
        matches!(decode(&row).unwrap().kind, Kind::CommitTransaction { write_ids, databases, .. }
            if !write_ids.is_empty() && !databases.is_empty())
    });
    assert!(with_writes, "4.2 says what a transaction wrote");
}

#[test]
fn an_event_of_another_catalog_says_so() {
    let Kind::DropDatabase { name, database } = sample("4.0-gzip", 644).kind else { panic!() };
    assert_eq!(database.unwrap().name, name);
    let others: BTreeSet<String> =
        all().into_iter().filter_map(|(_, row)| row.catalog.filter(|catalog| catalog != "hive")).collect();
    assert_eq!(others, BTreeSet::from(["goldcat".to_owned()]));
}
