//! What is dropped between being listed and being read: every adapter reads on without it, and calls nothing damaged; a first run
//! ends well without it.

use metasync::metastore::{Change, Metastore};
use metasync::model::{DatabaseName, PartitionName, TableName};
use std::collections::BTreeSet;
use tests::between::Between;
use tests::hms::{Kind, Version};
use tests::lake::Lake;
use tests::metastores::adapters::{Adapter, open_url};
use tests::metastores::contract::clear;
use tests::metastores::objects;
use tests::served::change;

const ROOT: &str = "file:/tmp/understudy-none";

/// One of each kind; what a server does with a name that is gone differs from version to version.
const KINDS: [Adapter; 5] = [
    Adapter::Sqlite,
    Adapter::Sql(Version::V40, Kind::Postgres),
    Adapter::Thrift(Version::V40, Kind::Postgres),
    Adapter::Thrift(Version::V31, Kind::Postgres),
    Adapter::Thrift(Version::V23, Kind::Postgres),
];

async fn make(metastore: &dyn Metastore, database: &DatabaseName) {
    let mut made = objects::database(database, ROOT);
    // Not all versions keep it.
    made.create_time = None;
    metastore.apply(&[Change::PutDatabase(made)]).await.unwrap();
    for name in ["goes", "stays"] {
        let table = objects::table(database.table(name), ROOT, &["p"]);
        let partitions = ["1", "2", "3"].map(|value| objects::partition(&table, &[value])).to_vec();
        metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
        metastore.apply(&[Change::PutPartitions { table: table.name, partitions }]).await.unwrap();
    }
}

#[tokio::test]
async fn cases_03_04_what_is_dropped_between_listing_and_reading_is_read_on_without() {
    for adapter in KINDS {
        let Some(opened) = adapter.open().await else { return };
        let database = DatabaseName::new(&format!("listed_{}_{:08x}", std::process::id(), rand::random::<u32>()));
        make(opened.metastore.as_ref(), &database).await;
        let (goes, stays) = (database.table("goes"), database.table("stays"));
        let is_served = matches!(adapter, Adapter::Thrift(..));

        let snapshot = opened.metastore.snapshot().await.unwrap();
        let tables = snapshot.table_names(&database).await.unwrap();
        let of = async |name: &TableName| snapshot.partition_names(name).await.unwrap();
        let (of_goes, of_stays) = (of(&goes).await, of(&stays).await);
        assert_eq!(
            (tables.as_slice(), of_goes.len()),
            (&["goes".to_owned(), "stays".to_owned()][..], 3),
            "{adapter:?}"
        );
        let listed = snapshot.tables(&database, &tables).await.unwrap().found;
        let by_others = [
            Change::DropTable(goes.clone()),
            Change::DropPartitions { table: stays.clone(), names: vec![PartitionName("p=2".to_owned())] },
        ];
        open_url(&opened.url).await.apply(&by_others).await.unwrap();

        // A database's snapshot stands still; a server's names are those of before, and its objects those of now.
        let read = snapshot.tables(&database, &tables).await.unwrap();
        let names: BTreeSet<&str> = read.found.iter().map(|table| table.name.table.as_str()).collect();
        let expected = if is_served { BTreeSet::from(["stays"]) } else { BTreeSet::from(["goes", "stays"]) };
        assert_eq!((names, read.damaged), (expected, Vec::new()), "{adapter:?}");
        let table = |name: &TableName| listed.iter().find(|table| table.name == *name).unwrap();
        for (table, names, left) in [(table(&stays), &of_stays, 2), (table(&goes), &of_goes, 0)] {
            let read = snapshot.partitions(table, names).await;
            let read = read.unwrap_or_else(|error| panic!("{adapter:?}: {}: {error}", table.name));
            let expected = if is_served { left } else { 3 };
            assert_eq!((read.found.len(), read.damaged), (expected, Vec::new()), "{adapter:?}: {}", table.name);
            let of_columns = snapshot.partition_statistics(table, names).await;
            assert_eq!(of_columns.unwrap_or_else(|error| panic!("{adapter:?}: {}: {error}", table.name)), []);
        }
        assert_eq!(snapshot.constraints(&database, &tables).await.unwrap().damaged, [], "{adapter:?}");
        snapshot.table_statistics(&database, &tables).await.unwrap();
        drop(snapshot);
        let now = opened.metastore.snapshot().await.unwrap();
        assert_eq!(now.table_names(&database).await.unwrap(), ["stays"], "{adapter:?}");
        drop(now);
        // Its drop says nothing new.
        opened.metastore.apply(&by_others).await.unwrap();
        clear(opened.metastore.as_ref(), &database.database).await.unwrap();
    }
}

// Of what a database holds, a run reads one moment.
tests::over_pairs!(cases_03_04_what_is_dropped_while_a_first_run_reads_is_not_there: thrift_to_sql, thrift_to_thrift);

fn cases_03_04_what_is_dropped_while_a_first_run_reads_is_not_there(lake: Lake) {
    lake.database("sales");
    for name in ["asked", "goes", "stays"] {
        let table = lake.table(name, &["p"]);
        ["1", "2", "3"].iter().for_each(|value| drop(lake.partition(&table, &[value], value)));
    }
    // The tables are listed, then they are read; their partitions are listed, then they are read.
    let drops = |changes: Vec<Change>, folder: &str| -> Box<dyn FnOnce() + Send> {
        let (server, folder) = (lake.url_of_writers(), lake.source(folder));
        Box::new(move || {
            change(&server, &changes);
            std::fs::remove_dir_all(folder).unwrap();
        })
    };
    let table = drops(vec![Change::DropTable(TableName::new("sales", "goes"))], "sales.db/goes");
    let of_names = drops(vec![Change::DropTable(TableName::new("sales", "asked"))], "sales.db/asked");
    let names = vec![PartitionName("p=2".to_owned())];
    let of_it = Change::DropPartitions { table: TableName::new("sales", "stays"), names };
    let partition = drops(vec![of_it], "sales.db/stays/p=2");
    let url = lake.url("source");
    let between = Between::before(
        url.trim_start_matches("thrift://"),
        vec![
            ("get_table_objects_by_name", table),
            ("get_partition_names", of_names),
            ("get_partitions_by_names", partition),
        ],
    );
    let policy = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    let proxied = policy.replace(&url, &format!("thrift://{}", between.address()));
    std::fs::write(lake.root().join("p.toml"), proxied).unwrap();
    let first = lake.metasync("run", &[]).expect(0);
    assert_eq!(between.unsaid(), [] as [&str; 0], "{}", first.stdout);
    assert_eq!(first.number("tables/quarantined"), 0, "{}", first.stdout);
    assert_eq!(lake.tables("target", "sales").into_iter().collect::<Vec<_>>(), ["stays"]);
    // Their drops say nothing new.
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!((second.number("tables/quarantined"), second.number("counts/failed")), (0, 0), "{}", second.stdout);
    lake.assert_in_step();
}
