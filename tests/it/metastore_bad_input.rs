//! What metastores are asked to hold that others fell over: very wide tables, very long values, odd names, characters that a
//! database does not know; and connections that break in the middle of a batch.

use metasync::held::Holder;
use metasync::metastore::{Change, Error, Metastore};
use metasync::model::*;
use std::sync::Arc;
use tests::cut::Cut;
use tests::hms::{Kind, Version};
use tests::metastores::adapters::{Adapter, Opened, open_url};
use tests::metastores::contract::{clear, read_back};
use tests::metastores::objects;

const ROOT: &str = "file:/tmp/understudy-none";

/// One of each kind: ours, both databases, and a server.
const KINDS: [Adapter; 4] = [
    Adapter::Sqlite,
    Adapter::Sql(Version::V40, Kind::Postgres),
    Adapter::Sql(Version::V40, Kind::MariaDb),
    Adapter::Thrift(Version::V31, Kind::Postgres),
];

fn own_name() -> String {
    format!("bad_{}_{:08x}", std::process::id(), rand::random::<u32>())
}

/// Opens one with an empty database of this name in it.
async fn with_database(adapter: Adapter, name: &str) -> Option<Opened> {
    let opened = adapter.open().await?;
    let mut database = objects::database(&DatabaseName::new(name), ROOT);
    if matches!(adapter, Adapter::Sql(Version::V23, _)) {
        database.create_time = None;
    }
    if matches!(opened.metastore.holder(), Holder::Hive(version) if version.major < 4) {
        database.create_time = None;
    }
    opened.metastore.apply(&[Change::PutDatabase(database)]).await.unwrap_or_else(|e| panic!("{adapter:?}: {e}"));
    Some(opened)
}

/// A view: servers make no folder for it.
fn bare(name: &TableName) -> Table {
    let mut table = objects::table(name.clone(), ROOT, &[]);
    table.table_type = Some("VIRTUAL_VIEW".to_owned());
    table.storage.location = None;
    table.parameters = Parameters::new();
    table.view_original_text = Some("select 1".to_owned());
    table.view_expanded_text = Some("select 1".to_owned());
    table
}

async fn get(metastore: &dyn Metastore, name: &TableName) -> Option<Table> {
    let snapshot = metastore.snapshot().await.unwrap();
    let mut batch = snapshot.tables(&name.database(), std::slice::from_ref(&name.table)).await.unwrap();
    assert_eq!(batch.damaged, []);
    batch.found.pop()
}

#[tokio::test]
async fn a_table_of_ten_thousand_columns_comes_back() {
    for adapter in KINDS {
        let name = own_name();
        let Some(opened) = with_database(adapter, &name).await else { return };
        let mut table = bare(&TableName::new(&name, "wide"));
        let columns = (0..10_000).map(|i| objects::column(&format!("c{i:05}"), "decimal(38,10)"));
        table.storage.columns = Arc::new(columns.collect());
        opened.metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
        let found = get(opened.metastore.as_ref(), &table.name).await.unwrap();
        assert_eq!(found.storage.columns, table.storage.columns, "{adapter:?}");
        clear(opened.metastore.as_ref(), &name).await.unwrap();
    }
}

#[tokio::test]
async fn a_parameter_of_a_mebibyte_comes_back() {
    for adapter in KINDS {
        let name = own_name();
        let Some(opened) = with_database(adapter, &name).await else { return };
        let mut table = bare(&TableName::new(&name, "long"));
        table.parameters.insert("long".to_owned(), "0123456789abcdef".repeat(1 << 16));
        opened.metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
        let found = get(opened.metastore.as_ref(), &table.name).await.unwrap();
        assert!(found.parameters.get("long") == table.parameters.get("long"), "{adapter:?}");
        clear(opened.metastore.as_ref(), &name).await.unwrap();
    }
}

#[tokio::test]
async fn odd_names_come_back_or_are_refused_by_name() {
    for adapter in KINDS {
        let name = own_name();
        let Some(opened) = with_database(adapter, &name).await else { return };
        let long = "n".repeat(300);
        for odd in
            ["with.dot", "quo'te", "dou\"ble", "back`tick", "semi;colon", "percent%", "gr\u{fc}n", "\u{8868}", &long]
        {
            let table = bare(&DatabaseName::new(&name).table(odd));
            match opened.metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await {
                Ok(()) => {
                    let found = get(opened.metastore.as_ref(), &table.name).await;
                    assert_eq!(found.map(|found| found.name), Some(table.name), "{adapter:?}");
                }
                Err(error) => {
                    assert!(error.to_string().contains(odd), "{adapter:?}: {error}");
                    assert_eq!(get(opened.metastore.as_ref(), &table.name).await, None, "{adapter:?}: half written");
                    let ours = matches!(adapter, Adapter::Sqlite);
                    assert!(!ours, "our own schema holds everything: {error}");
                }
            }
        }
        clear(opened.metastore.as_ref(), &name).await.unwrap();
    }
}

#[tokio::test]
async fn a_character_that_the_database_does_not_know_is_an_error_and_no_question_mark() {
    for (adapter, knows) in [
        (Adapter::Sqlite, true),
        (Adapter::Sql(Version::V31, Kind::Postgres), true),
        (Adapter::Sql(Version::V31, Kind::MariaDb), false),
    ] {
        let name = own_name();
        let Some(opened) = with_database(adapter, &name).await else { return };
        let items = objects::table(TableName::new(&name, "items"), ROOT, &["p"]);
        opened.metastore.apply(&[Change::PutTable(Box::new(items.clone()))]).await.unwrap();
        let partition = objects::partition(&items, &["\u{1f600}"]);
        let put = Change::PutPartitions { table: items.name.clone(), partitions: vec![partition.clone()] };
        let done = opened.metastore.apply(&[put]).await;
        let names = opened.metastore.snapshot().await.unwrap().partition_names(&items.name).await.unwrap();
        match knows {
            true => {
                done.unwrap();
                assert_eq!(names, [PartitionName("p=\u{1f600}".to_owned())]);
            }
            false => {
                assert!(matches!(&done, Err(Error::CannotHold { .. })), "{adapter:?}: {done:?}");
                assert_eq!(names, [], "nothing of it is there");
            }
        }
        clear(opened.metastore.as_ref(), &name).await.unwrap();
    }
}

/// A batch over a connection that breaks after so many bytes: everything is there or nothing is, it can be done again, and the
/// error says that trying again helps.
async fn breaks(kind: Kind) {
    let name = own_name();
    let Some(opened) = with_database(Adapter::Sql(Version::V40, kind), &name).await else { return };
    let items = objects::table(TableName::new(&name, "items"), ROOT, &["p"]);
    let partitions = (0..200).map(|i| objects::partition(&items, &[&format!("{i:04}")])).collect();
    let batch =
        [Change::PutTable(Box::new(items.clone())), Change::PutPartitions { table: items.name.clone(), partitions }];
    let (login, rest) = opened.url.rsplit_once('@').unwrap();
    let (address, database) = rest.split_once('/').unwrap();
    let before = read_back(opened.metastore.snapshot().await.unwrap().as_ref(), &name).await.unwrap();
    let (mut bytes, mut broken, mut whole) = (1000, 0, false);
    while !whole {
        let cut = Cut::after(address, bytes);
        let url = format!("{login}@{}/{database}", cut.address());
        let through = metasync::metastore::open::open(&url, &distcp::settings::Environment::default()).await;
        let done = match through {
            Ok(metastore) => metastore.apply(&batch).await,
            Err(error) => Err(error),
        };
        let names = opened.metastore.snapshot().await.unwrap().partition_names(&items.name).await.unwrap();
        match done {
            Ok(()) => {
                assert_eq!(names.len(), 200, "{kind:?} after {bytes} bytes");
                whole = true;
            }
            Err(error) => {
                assert!(cut.is_broken(), "{kind:?} after {bytes} bytes: {error}");
                assert_eq!(error.class(), manifest::Class::Retryable, "{kind:?} after {bytes} bytes: {error}");
                assert!(
                    names.is_empty() || names.len() == 200,
                    "{kind:?} after {bytes} bytes: {} are there",
                    names.len()
                );
                if names.is_empty() {
                    let now = read_back(opened.metastore.snapshot().await.unwrap().as_ref(), &name).await.unwrap();
                    assert_eq!(now, before, "{kind:?} after {bytes} bytes");
                }
                broken += 1;
            }
        }
        bytes += bytes / 2;
    }
    assert!(broken >= 5, "{kind:?} broke {broken} times only");
}

#[tokio::test]
async fn a_batch_over_a_connection_to_postgres_that_breaks_is_done_or_not_begun() {
    breaks(Kind::Postgres).await;
}

#[tokio::test]
async fn a_batch_over_a_connection_to_mariadb_that_breaks_is_done_or_not_begun() {
    breaks(Kind::MariaDb).await;
}

#[tokio::test]
async fn a_server_that_goes_away_between_calls_is_told_as_temporary() {
    let Some(shared) = tests::hms::shared(Version::V31, Kind::Postgres) else { return };
    let cut = Cut::after(shared.thrift.trim_start_matches("thrift://"), 2000);
    let metastore = open_url(&format!("thrift://{}", cut.address())).await;
    let mut last = Ok(Vec::new());
    for _ in 0..200 {
        last = match metastore.snapshot().await {
            Ok(snapshot) => snapshot.databases().await,
            Err(error) => Err(error),
        };
        if last.is_err() {
            break;
        }
    }
    let error = last.expect_err("it breaks");
    assert_eq!(error.class(), manifest::Class::Retryable, "{error}");
}
