//! `publish = "switch"` with real Hive Metastores at both ends: locations are switched as a client of a server does it, and in
//! its database.

use std::path::{Path, PathBuf};
use tests::hms::{Kind, Version};
use tests::served::{Replica, Served, Way, files};

const SWITCH: &str = "publish = \"switch\"\nmax_deletes = \"100%\"\n";

/// Where the replica's metastore says that tables and partitions are that were switched. A dump of a replica shows its places
/// as the source's.
fn switched(replica: &Replica<'_>) -> Vec<PathBuf> {
    let (_, lines) = replica.dumps();
    let place = |line: &String| {
        let (_, rest) = line.split_once("/source/")?;
        let inner = rest.split('"').next().filter(|inner| inner.contains(".understudy-"))?;
        Some(replica.path(inner))
    };
    let mut places: Vec<PathBuf> = lines.iter().filter_map(place).collect();
    places.sort();
    places
}

/// Asserts that a folder holds one file, with this content.
fn assert_holds(place: &Path, content: &str) {
    let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
    assert_eq!(files(place).into_values().collect::<Vec<_>>(), [hash], "{place:?}");
}

fn follows(replica: &Replica<'_>, lake: &Served) {
    replica.policy("", SWITCH);
    replica.metasync("run", &[]).expect(0);
    assert!(switched(replica).is_empty());
    lake.write("shop.db/items/part-0", &format!("new for {}", replica.name()));
    lake.write("shop.db/days/p=1/part-0", &format!("new day for {}", replica.name()));
    replica.metasync("run", &[]).expect(0);
    let places = switched(replica);
    assert_eq!(places.len(), 2, "{places:?}");
    assert_holds(&places[0], &format!("new day for {}", replica.name()));
    assert_holds(&places[1], &format!("new for {}", replica.name()));
    assert_eq!(files(&replica.path("shop.db/items")).len(), 1, "readers of the old folder go on");
    replica.metasync("verify", &[]).expect(0);
    replica.policy("", &format!("{SWITCH}reader_grace = \"0s\""));
    let removed = replica.metasync("run", &[]).expect(0);
    assert_eq!((removed.number("counts/deleted"), removed.number("tables/touched")), (2, 0), "{}", removed.stdout);
    assert!(!replica.path("shop.db/items").exists() && !replica.path("shop.db/days/p=1").exists());
    assert_eq!(switched(replica), places);
    replica.metasync("verify", &[]).expect(0);
    // Without a state the metastore says where everything stands.
    std::fs::remove_dir_all(replica.state()).unwrap();
    let ran = replica.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (0, 0), "{}", ran.stdout);
    assert_eq!(switched(replica), places);
}

#[test]
fn locations_are_switched_on_hive_3_1_over_thrift_and_in_its_database() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    lake.shop();
    lake.table("items");
    lake.partitioned("days", &["1", "2"]);
    follows(&lake.replica("thrift", Way::Thrift, Way::Thrift), &lake);
    follows(&lake.replica("sql", Way::Sql, Way::Sql), &lake);
}
