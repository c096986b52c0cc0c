//! `metasync run` between real Hive Metastores with objects that use every part of the model: the same version, another one,
//! and a replica in a file that becomes a metastore again.

use metasync::metastore::Change;
use metasync::model::{DatabaseName, PartitionName, TableName};
use tests::hms::{Kind, Version};
use tests::served::{Replica, Served, Way, assert_held, sketch};

fn shop(table: &str) -> TableName {
    TableName::new("shop", table)
}

fn sqlite(lake: &Served, name: &str) -> String {
    format!("sqlite://{}/{name}.db", lake.root().display())
}

/// Changes of what [`Served::everything`] made.
fn change(lake: &Served) {
    let mut items = lake.unmade_table("items", &["day", "shop"]);
    items.parameters.insert("changed".to_owned(), "yes".to_owned());
    let mut columns = items.storage.columns.as_ref().clone();
    columns.push(tests::metastores::objects::column("added", "array<int>"));
    items.storage.columns = columns.into();
    lake.apply(&[
        Change::PutTable(Box::new(items)),
        Change::DropPartitions { table: shop("items"), names: vec![PartitionName("day=a b/shop=é".to_owned())] },
        Change::RenameTable { from: shop("shaped"), to: shop("reshaped") },
        Change::DropTable(shop("cheap_orders")),
        Change::DropConstraint { table: shop("items"), name: "shop_fk".to_owned() },
    ]);
    std::fs::remove_dir_all(lake.path("shop.db/items/day=a b")).unwrap();
    lake.table("fresh");
    lake.partitioned("fresh_too", &["1", "2", "3"]);
}

/// Runs once; whatever was left out is left out by name.
fn follow(lake: &Served, replica: &Replica<'_>, code: i32) {
    replica.metasync("run", &[]).expect(code);
    assert_held(replica);
    assert_eq!(replica.last_id(), Some(lake.current_event()));
    let idle = replica.metasync("run", &[]).expect(code);
    assert_eq!((idle.number("tables/touched"), idle.number("bytes/written")), (0, 0), "{idle:?}");
}

/// Everything that a version holds goes to replicas of the same version.
fn same_version(version: Version, kind: Kind) {
    let Some(lake) = Served::start(version, kind) else { return };
    lake.everything();
    let ways = [("sql-to-thrift", Way::Sql, Way::Thrift), ("thrift-to-sql", Way::Thrift, Way::Sql)];
    let replicas = ways.map(|(name, from, to)| lake.replica(name, from, to));
    for replica in &replicas {
        replica.follow();
        follow(&lake, replica, 0);
    }
    change(&lake);
    let database = DatabaseName::new("shop");
    lake.apply(&[Change::DropFunction { database, name: "shout".to_owned() }]);
    for replica in &replicas {
        replica.follow();
        follow(&lake, replica, 0);
    }
    if version == Version::V23 {
        return;
    }
    // Which a server does not show.
    sketch(&lake.database.url);
    for replica in &replicas {
        replica.metasync("run", &[]).expect(0);
        replica.metasync("verify", &[]).expect(0);
        assert_eq!(replica.metasync("run", &[]).expect(0).number("tables/touched"), 0);
    }
}

#[test]
fn cases_19_20_36_56_hive_4_0() {
    same_version(Version::V40, Kind::Postgres);
}

#[test]
fn cases_19_20_36_56_hive_4_0_over_mariadb() {
    same_version(Version::V40, Kind::MariaDb);
}

#[test]
fn cases_19_20_36_56_hive_3_1_over_mariadb() {
    same_version(Version::V31, Kind::MariaDb);
}

#[test]
fn cases_19_20_36_56_hive_2_3() {
    same_version(Version::V23, Kind::Postgres);
}

#[test]
fn rule_30_a_replica_on_a_newer_hive_holds_plain_managed_tables_as_it_does() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    lake.everything();
    let mut managed = lake.unmade_table("managed", &["p"]);
    managed.table_type = Some("MANAGED_TABLE".to_owned());
    managed.parameters.remove("EXTERNAL");
    let partition = tests::metastores::objects::partition(&managed, &["1"]);
    lake.write("shop.db/managed/p=1/part-0", "m");
    lake.apply(&[
        Change::PutTable(Box::new(managed)),
        Change::PutPartitions { table: shop("managed"), partitions: vec![partition] },
    ]);
    let replicas = [
        lake.replica_on("to-sql", Way::Sql, Way::Sql, Version::V40, Kind::Postgres),
        lake.replica_on("to-thrift", Way::Thrift, Way::Thrift, Version::V40, Kind::Postgres),
    ];
    for replica in &replicas {
        follow(&lake, replica, 0);
        assert_eq!(replica.table("managed").table_type.as_deref(), Some("EXTERNAL_TABLE"));
        replica.metasync("verify", &[]).expect(0);
    }
    change(&lake);
    for replica in &replicas {
        follow(&lake, replica, 0);
    }
}

#[test]
fn rule_35_a_replica_in_a_file_becomes_a_metastore_again() {
    let Some(lake) = Served::start(Version::V31, Kind::MariaDb) else { return };
    lake.everything();
    let file = lake.replica_at("file", Way::Thrift, sqlite(&lake, "file"));
    file.follow();
    change(&lake);
    file.follow();
    for (name, to) in [("to-sql", Way::Sql), ("to-thrift", Way::Thrift)] {
        let loaded = file.loaded_into(name, to, Version::V31, Kind::Postgres);
        loaded.follow();
    }
}

#[test]
fn a_table_that_the_target_cannot_hold_does_not_hold_up_those_that_share_its_transaction() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    lake.shop();
    ["before", "behind"].iter().for_each(|name| drop(lake.table(name)));
    // Hive's schema for MySQL has latin1 columns.
    lake.partitioned("beer", &["🍺"]);
    let replica = lake.replica_on("r", Way::Sql, Way::Sql, Version::V31, Kind::MariaDb);
    let ran = replica.metasync("run", &[]).expect(3);
    assert_eq!((ran.number("tables/applied"), ran.number("tables/quarantined")), (2, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("shop.beer is not in step"), "{}", ran.stderr);
    assert_eq!((replica.table("before").name, replica.table("behind").name), (shop("before"), shop("behind")));
    lake.apply(&[Change::DropTable(shop("beer"))]);
    std::fs::remove_dir_all(lake.path("shop.db/beer")).unwrap();
    replica.metasync("run", &[]).expect(0);
}
