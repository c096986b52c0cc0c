//! The metastores and databases that other tests stand on: that they are what they are taken for.

use std::net::TcpStream;
use tests::hms::{self, Hms, Kind, Version};

/// 127.0.0.1 as `/proc/net/tcp6` has it, inside an address of version 6.
const LOOPBACK: &str = "0000000000000000FFFF00000100007F";

/// The addresses that somebody listens on at this port, as the kernel writes them; a JVM's are of version 6.
fn listening_on(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp6").expect("the kernel's table");
    let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // State 0A is LISTEN.
    let listening = sockets.filter(|columns| columns.get(3) == Some(&"0A"));
    let places = listening.filter_map(|columns| columns[1].split_once(':').map(|(a, p)| (a.to_owned(), p.to_owned())));
    places.filter(|(_, at)| *at == format!("{port:04X}")).map(|(address, _)| address).collect()
}

/// Of one version, over one kind of database: the shared server listens; a new database has Hive's schema, as Hive's own tool
/// sees it; and that tool finds what is wrong, which is looked at over one kind: it takes seconds.
fn stands(version: Version, kind: Kind) {
    let Some(shared) = hms::shared(version, kind) else { return };
    let address = shared.thrift.strip_prefix("thrift://").expect("a Thrift address");
    TcpStream::connect(address).expect("it listens");
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    assert_eq!(listening_on(port), [LOOPBACK], "it listens on loopback only");

    let Some(database) = hms::fresh_database(kind, version) else { return };
    let printed = hms::schematool_validate(version, &database.url).unwrap_or_else(|printed| panic!("{printed}"));
    assert!(printed.contains("Done with metastore validation: [SUCCESS]"), "{printed}");

    if kind == Kind::Postgres {
        database.run("drop table \"NOTIFICATION_LOG\"");
        let printed = hms::schematool_validate(version, &database.url).expect_err("a table is missing");
        assert!(printed.to_lowercase().contains("notification_log"), "{printed}");
    }
}

#[test]
fn hms_2_3_over_postgres_stands() {
    stands(Version::V23, Kind::Postgres);
}

#[test]
fn hms_2_3_over_mariadb_stands() {
    stands(Version::V23, Kind::MariaDb);
}

#[test]
fn hms_3_1_over_postgres_stands() {
    stands(Version::V31, Kind::Postgres);
}

#[test]
fn hms_3_1_over_mariadb_stands() {
    stands(Version::V31, Kind::MariaDb);
}

#[test]
fn hms_4_0_over_postgres_stands() {
    stands(Version::V40, Kind::Postgres);
}

#[test]
fn hms_4_0_over_mariadb_stands() {
    stands(Version::V40, Kind::MariaDb);
}

/// 2.3 over MariaDB, the other end of what there is.
#[test]
fn the_oldest_metastore_over_mariadb_serves_spark() {
    let Some(database) = hms::fresh_database(Kind::MariaDb, Version::V23) else { return };
    let metastore = Hms::start(Version::V23, &database.url);
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!(
        "spark.sql(\"CREATE DATABASE shop LOCATION 'file://{}'\")\n\
         spark.sql(\"CREATE TABLE shop.items (id INT) STORED AS PARQUET\")\n\
         spark.sql(\"INSERT INTO shop.items VALUES (1), (2), (3)\")\n\
         print('rows', spark.sql('SELECT * FROM shop.items').count())",
        folder.path().display()
    );
    let Some(printed) = hms::spark(&script, &metastore.thrift) else { return };
    assert!(printed.contains("rows 3"), "{printed}");
    assert_eq!(database.run("select count(*) from NOTIFICATION_LOG where EVENT_TYPE = 'CREATE_TABLE'"), [["1"]]);
}
