//! Messages made here: of types that no server was seen to log, and round trips.

use super::super::*;
use super::{plain, row, zipped};
use crate::model::{DatabaseName, PartitionName, TableName};
use hms::{api, tjson};
use proptest::prelude::*;
use serde_json::json;

fn kind(event_type: &str, message: serde_json::Value) -> Kind {
    decode(&plain(event_type, &message.to_string())).unwrap().kind
}

fn touches(event_type: &str, message: serde_json::Value) -> Touches {
    decode(&plain(event_type, &message.to_string())).unwrap().touches()
}

fn orders() -> TableName {
    TableName::new("sales", "orders")
}

fn key(name: &str) -> api::FieldSchema {
    api::FieldSchema { name: Some(name.to_owned()), r#type: Some("string".to_owned()), ..Default::default() }
}

fn table_object(keys: &[&str]) -> String {
    let table = api::Table {
        table_name: Some("orders".to_owned()),
        db_name: Some("sales".to_owned()),
        partition_keys: Some(keys.iter().map(|name| key(name)).collect()),
        ..Default::default()
    };
    tjson::encode(&table).unwrap()
}

fn partition_object(values: &[String]) -> String {
    tjson::encode(&api::Partition { values: Some(values.to_vec()), ..Default::default() }).unwrap()
}

#[test]
fn types_that_no_release_knows_are_unknown_and_touch_what_their_row_names() {
    let row = plain("TRANSMOGRIFY_TABLE", "not even JSON");
    let event = decode(&row).unwrap();
    assert_eq!(event.kind, Kind::Unknown { database: Some(DatabaseName::new("sales")), table: Some(orders()) });
    assert_eq!(event.touches().tables, [orders()]);
    assert_eq!(type_name(&row), "TRANSMOGRIFY_TABLE");
    let event = decode(&crate::metastore::EventRow { table: None, ..row.clone() }).unwrap();
    assert_eq!(event.touches().databases, [DatabaseName::new("sales")]);
    let event = decode(&crate::metastore::EventRow { table: None, database: None, ..row }).unwrap();
    assert!(event.touches().is_empty());
}

#[test]
fn types_of_what_the_model_does_not_hold_touch_nothing() {
    for (event_type, expected) in [
        ("CREATE_DATACONNECTOR", Kind::DataConnector),
        ("ALTER_DATACONNECTOR", Kind::DataConnector),
        ("DROP_DATACONNECTOR", Kind::DataConnector),
        ("CREATE_ISCHEMA", Kind::SchemaRegistry),
        ("ALTER_ISCHEMA", Kind::SchemaRegistry),
        ("DROP_ISCHEMA", Kind::SchemaRegistry),
        ("ADD_SCHEMA_VERSION", Kind::SchemaRegistry),
        ("ALTER_SCHEMA_VERSION", Kind::SchemaRegistry),
        ("DROP_SCHEMA_VERSION", Kind::SchemaRegistry),
        ("LOAD_PARTITION_DONE", Kind::LoadPartitionDone),
    ] {
        let event = decode(&plain(event_type, "{}")).unwrap();
        assert_eq!(event.kind, expected);
        assert!(event.touches().is_empty(), "{event_type}");
    }
}

#[test]
fn catalogs_come_with_their_names() {
    assert_eq!(kind("CREATE_CATALOG", json!({"catalog": "Lake"})), Kind::CreateCatalog { catalog: "lake".to_owned() });
    assert_eq!(kind("DROP_CATALOG", json!({"catalog": "lake"})), Kind::DropCatalog { catalog: "lake".to_owned() });
    let object = |location: &str| {
        let location_uri = Some(location.to_owned());
        tjson::encode(&api::Catalog { name: Some("lake".to_owned()), location_uri, ..Default::default() }).unwrap()
    };
    let message = json!({"catObjBeforeJson": object("file:/a"), "catObjAfterJson": object("file:/b")});
    let Kind::AlterCatalog { before, after } = kind("ALTER_CATALOG", message) else { panic!() };
    assert_eq!((before.location.as_str(), after.location.as_str()), ("file:/a", "file:/b"));
}

#[test]
fn a_write_of_a_transaction_touches_its_partition() {
    let message = json!({"txnid": 5, "writeId": 2, "database": "Sales", "table": "Orders", "partition": "dt=1",
        "tableObjJson": "x", "files": ["file:/a###delta_2_2"]});
    for event_type in ["ACID_WRITE_EVENT", "BATCH_ACID_WRITE_EVENT"] {
        let touches = touches(event_type, message.clone());
        assert_eq!(touches.partitions, [(orders(), vec![PartitionName("dt=1".to_owned())])]);
        assert!(touches.emptied.is_empty());
    }
    let message = json!({"txnid": 5, "writeId": 2, "database": "sales", "table": "orders", "partition": ""});
    assert_eq!(touches("ACID_WRITE_EVENT", message).tables, [orders()]);
}

#[test]
fn a_reload_touches_the_partitions_it_names_else_the_table() {
    let of = json!({"db": "sales", "table": "orders", "refreshEvent": "true", "tableObjJson": table_object(&["dt"])});
    assert_eq!(touches("RELOAD", of.clone()).tables, [orders()]);
    let mut one = of.clone();
    one["ptnObjJson"] = json!(partition_object(&["7".to_owned()]));
    assert_eq!(touches("RELOAD", one).partitions, [(orders(), vec![PartitionName("dt=7".to_owned())])]);
    let mut many = of;
    many["partitionListJson"] = json!([partition_object(&["1".to_owned()]), partition_object(&["2".to_owned()])]);
    let names = ["dt=1", "dt=2"].map(|name| PartitionName(name.to_owned()));
    assert_eq!(touches("RELOAD", many).partitions, [(orders(), names.to_vec())]);
}

#[test]
fn statistics_of_many_partitions_touch_the_table() {
    assert_eq!(touches("UPDATE_PART_COL_STAT_EVENT_BATCH", json!({})).tables, [orders()]);
}

#[test]
fn rule_27_what_was_emptied_on_purpose_is_named() {
    let table = |partition: Option<&str>| Emptied {
        table: orders(),
        partition: partition.map(|name| PartitionName(name.to_owned())),
    };
    let object = table_object(&["dt"]);
    let insert = |replace: &str| json!({"db": "sales", "table": "orders", "tableObjJson": object, "replace": replace, "ptnObjJson": null});
    assert_eq!(touches("INSERT", insert("true")).emptied, [table(None)]);
    assert_eq!(touches("INSERT", insert("false")).emptied, []);
    let drop = json!({"db": "sales", "table": "orders"});
    assert_eq!(touches("DROP_TABLE", drop).emptied, [table(None)]);
    let drop =
        json!({"db": "sales", "table": "orders", "tableObjJson": object, "partitions": [{"dt": "1"}, {"dt": "a/b"}]});
    assert_eq!(touches("DROP_PARTITION", drop).emptied, [table(Some("dt=1")), table(Some("dt=a%2Fb"))]);
    for (truncated, expected) in [("true", vec![table(Some("dt=1"))]), ("false", vec![])] {
        let partition = partition_object(&["1".to_owned()]);
        let message = json!({"tableObjJson": object, "partitionObjBeforeJson": partition,
            "partitionObjAfterJson": partition, "isTruncateOp": truncated});
        assert_eq!(touches("ALTER_PARTITION", message).emptied, expected);
        let message = json!({"tableObjJson": object, "partitionListJson": [partition], "isTruncateOp": truncated});
        assert_eq!(touches("ALTER_PARTITIONS", message).emptied, expected);
    }
    let message = json!({"tableObjBeforeJson": object, "tableObjAfterJson": object, "isTruncateOp": "true"});
    assert_eq!(touches("ALTER_TABLE", message).emptied, [table(None)]);
    let message = json!({"tableObjBeforeJson": object, "tableObjAfterJson": object});
    assert_eq!(touches("ALTER_TABLE", message).emptied, []);
}

#[test]
fn dropped_partitions_are_named_in_the_order_of_the_tables_keys() {
    let message = |table: Option<String>| {
        let pairs = serde_json::from_str::<serde_json::Value>(r#"{"hr": "2", "DT": "1"}"#).unwrap();
        json!({"db": "sales", "table": "orders", "tableObjJson": table, "partitions": [pairs]}).to_string()
    };
    let name = |message: &str| match decode(&plain("DROP_PARTITION", message)).unwrap().kind {
        Kind::DropPartitions { partitions, .. } => partitions[0].0.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(&message(Some(table_object(&["dt", "hr"])))), "dt=1/hr=2");
    // Without the table, the message's own order counts.
    let unordered = r#"{"db": "sales", "table": "orders", "partitions": [{"z": "2", "a": "1"}]}"#;
    assert_eq!(name(unordered), "z=2/a=1");
}

#[test]
fn properties_that_are_not_known_are_passed_over() {
    let message = json!({"db": "sales", "functionName": "F", "server": "thrift://a", "servicePrincipal": "",
        "timestamp": 5, "brandNew": {"deep": [1, {"er": null}]}});
    let Kind::DropFunction { database, function } = kind("DROP_FUNCTION", message) else { panic!() };
    assert_eq!((database, function.as_str()), (DatabaseName::new("sales"), "f"));
}

#[test]
fn a_digest_tells_fields_apart_and_does_not_know_where_a_row_was_stored() {
    let base = plain("DROP_TABLE", "{}");
    let mut digests = std::collections::HashSet::from([digest(&base)]);
    let changed: [fn(&mut crate::metastore::EventRow); 10] = [
        |row| row.event_id += 1,
        |row| row.event_time += 1,
        |row| row.event_type.push('m'),
        |row| row.catalog = None,
        |row| row.catalog = Some(String::new()),
        |row| row.message.push(' '),
        |row| row.message_format = None,
        |row| (row.database, row.table) = (Some("salesorders".to_owned()), Some(String::new())),
        |row| (row.database, row.table) = (None, Some("salesorders".to_owned())),
        |row| (row.database, row.table) = (Some("sale".to_owned()), Some("sorders".to_owned())),
    ];
    for (at, change) in changed.iter().enumerate() {
        let mut row = base.clone();
        change(&mut row);
        assert!(digests.insert(digest(&row)), "change {at}");
    }
    // Checkpoints hold digests: they may not change from release to release.
    assert_eq!(
        blake3::Hash::from_bytes(digest(&base)).to_hex().as_str(),
        "e6768ab11a13cd931dcd0c34d6fb8ffed4c46be7551ff255b7078f222c6bd946"
    );
}

fn words() -> impl Strategy<Value = String> {
    "[^\\x00]{1,12}"
}

proptest! {
    #[test]
    fn added_partitions_come_back(rows in prop::collection::vec([words(), words()], 1..6), files in prop::collection::vec(words(), 0..3)) {
        let partitions: Vec<_> = rows.iter().map(|values| partition_object(values)).collect();
        let named = |values: &[String; 2]| PartitionName::of(["dt", "hr"], values).unwrap();
        let listed: Vec<_> = rows
            .iter()
            .map(|values| json!({"partitionName": named(values).0, "files": files}))
            .collect();
        let message = json!({"db": "sales", "table": "orders", "tableObjJson": table_object(&["dt", "hr"]),
            "partitionListJson": partitions, "partitionFiles": listed}).to_string();
        let event = decode(&plain("ADD_PARTITION", &message)).unwrap();
        let unzipped = decode(&row("ADD_PARTITION", GZIP_FORMAT, &zipped(message.as_bytes()))).unwrap();
        prop_assert_eq!(&event.kind, &unzipped.kind);
        let names: Vec<_> = rows.iter().map(named).collect();
        prop_assert_eq!(&event.touches().partitions, &[(orders(), names.clone())]);
        let Kind::AddPartitions { partitions, files: found, .. } = event.kind else { panic!() };
        for ((partition, values), name) in partitions.iter().zip(&rows).zip(&names) {
            prop_assert_eq!((&partition.name, partition.partition.values.as_slice()), (name, values.as_slice()));
        }
        prop_assert_eq!(found.len(), rows.len());
        prop_assert!(found.iter().all(|of| of.files == files));
    }

    #[test]
    fn a_created_table_comes_back(database in words(), name in words(), parameters in prop::collection::btree_map(words(), words(), 0..5), location in words()) {
        let object = api::Table {
            table_name: Some(name.clone()),
            db_name: Some(database.clone()),
            parameters: Some(parameters.clone()),
            sd: Some(api::StorageDescriptor { location: Some(location.clone()), ..Default::default() }),
            ..Default::default()
        };
        let message = json!({"tableObjJson": tjson::encode(&object).unwrap(), "files": null});
        let Kind::CreateTable { table, files } = kind("CREATE_TABLE", message) else { panic!() };
        prop_assert_eq!(&table.name, &TableName::new(&database, &name));
        prop_assert_eq!(&table.parameters, &parameters);
        prop_assert_eq!(table.storage.location, Some(location));
        prop_assert!(files.is_empty());
    }
}
