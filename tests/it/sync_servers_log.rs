//! `metasync run` and the event log of real Hive Metastores: what refuses, what explains, what is missed.

use metasync::metastore::Change;
use metasync::model::TableName;
use tests::hms::{self, Hms, Kind, Version, schematool_upgrade};
use tests::metastores::objects;
use tests::served::{Replica, Served, Way, change, files, truncate};

/// What the replica is.
fn held(replica: &Replica<'_>) -> (Vec<String>, std::collections::BTreeMap<String, String>) {
    (replica.dump(&replica.url), files(&replica.path("")))
}

/// A run is refused, with these words, and nothing is done; one that starts over by name goes on, and so do those after it.
fn is_refused_until_started_over(lake: &Served, replicas: &[Replica<'_>], words: &[&str]) {
    for replica in replicas {
        let before = held(replica);
        let refused = replica.metasync("run", &[]).expect(5);
        for word in words.iter().chain(&["--bootstrap --yes"]) {
            assert!(refused.last_word().contains(word), "{word}: {}", refused.stderr);
        }
        assert_eq!(held(replica), before, "nothing is applied");
        replica.metasync("plan", &[]).expect(5);
        let unsure = replica.metasync("run", &["--bootstrap"]);
        assert!(unsure.code == 2 && unsure.stderr.contains("--yes"), "{unsure:?}");
        replica.metasync("run", &["--bootstrap", "--yes"]).expect(0);
        replica.follow();
        assert_eq!(replica.last_id(), Some(lake.current_event()));
    }
}

fn log_that_is_off(version: Version, kind: Kind) {
    let Some(lake) = Served::start(version, kind) else { return };
    let sqlite = |name: &str| format!("sqlite://{}/{name}.db", lake.root().display());
    let replicas =
        [lake.replica_at("by-sql", Way::Sql, sqlite("s")), lake.replica_at("by-thrift", Way::Thrift, sqlite("t"))];
    lake.shop();
    lake.table("a");
    for replica in &replicas {
        replica.follow();
    }
    // Case 41.
    let id = || lake.current_event().parse::<i64>().unwrap();
    let first = id();
    ["b", "c", "d"].iter().for_each(|name| drop(lake.table(name)));
    lake.sql(&format!("delete from `NOTIFICATION_LOG` where `EVENT_ID` = {}", first + 2));
    let missing = format!("events {0} to {0} are missing", first + 2);
    is_refused_until_started_over(&lake, &replicas, &[&missing, "rows of it were deleted"]);
    // Case 75.
    let first = id();
    ["e", "f", "g"].iter().for_each(|name| drop(lake.table(name)));
    lake.sql(&format!("delete from `NOTIFICATION_LOG` where `EVENT_ID` <= {}", first + 2));
    let missing = format!("events {} to {} are missing", first + 1, first + 2);
    is_refused_until_started_over(&lake, &replicas, &[&missing, "cleaned"]);
    // Case 76: as in a backup of before the last three.
    let last = id();
    let back = last - 3;
    lake.sql(&format!("delete from `NOTIFICATION_LOG` where `EVENT_ID` > {back}"));
    lake.sql(&format!("update `NOTIFICATION_SEQUENCE` set `NEXT_EVENT_ID` = {}", back + 1));
    is_refused_until_started_over(&lake, &replicas, &["restored"]);
    // And it was used after that.
    ["h", "i"].iter().for_each(|name| drop(lake.table(name)));
    for replica in &replicas {
        replica.follow();
    }
    let last = id();
    lake.sql(&format!("delete from `NOTIFICATION_LOG` where `EVENT_ID` >= {last}"));
    lake.sql(&format!("update `NOTIFICATION_SEQUENCE` set `NEXT_EVENT_ID` = {last}"));
    ["j", "k"].iter().for_each(|name| drop(lake.table(name)));
    is_refused_until_started_over(&lake, &replicas, &[&format!("event {last}"), "restored"]);
}

#[test]
fn cases_41_75_76_hive_3_1_over_postgres() {
    log_that_is_off(Version::V31, Kind::Postgres);
}

#[test]
fn cases_41_75_76_hive_3_1_over_mariadb() {
    log_that_is_off(Version::V31, Kind::MariaDb);
}

#[test]
fn cases_41_75_76_hive_4_0() {
    log_that_is_off(Version::V40, Kind::Postgres);
}

#[test]
fn cases_41_75_76_hive_2_3() {
    log_that_is_off(Version::V23, Kind::Postgres);
}

#[test]
fn a_target_without_hives_tables_is_refused_with_the_way_to_make_them() {
    let Some(empty) = hms::empty_database(Kind::Postgres) else { return };
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    lake.shop();
    let replica = lake.replica_at("replica", Way::Sql, empty.url.clone());
    for verb in ["plan", "run"] {
        let refused = replica.metasync(verb, &[]).expect(2);
        assert!(refused.last_word().contains("schematool -initSchema"), "{}", refused.stderr);
    }
}

#[test]
fn case_52_a_server_that_refuses_the_event_log_ends_the_run_with_its_setting() {
    let refuses = [("metastore.metastore.event.db.notification.api.auth", "true")];
    let Some(lake) = Served::start_with(Version::V31, Kind::Postgres, &refuses) else { return };
    lake.shop();
    lake.table("a");
    let sqlite = |name: &str| format!("sqlite://{}/{name}.db", lake.root().display());
    let replica = lake.replica_at("by-thrift", Way::Thrift, sqlite("t"));
    let refused = replica.metasync("run", &[]).expect(12);
    assert!(refused.last_word().contains("hadoop.proxyuser."), "{}", refused.stderr);
    assert_eq!(held(&replica), (Vec::new(), std::collections::BTreeMap::new()));
    // The database asks nobody.
    lake.replica_at("by-sql", Way::Sql, sqlite("s")).follow();
}

fn emptied_by_hive_and_by_hand(version: Version) {
    let Some(lake) = Served::start(version, Kind::Postgres) else { return };
    let sqlite = |name: &str| format!("sqlite://{}/{name}.db", lake.root().display());
    let replicas =
        [lake.replica_at("by-sql", Way::Sql, sqlite("s")), lake.replica_at("by-thrift", Way::Thrift, sqlite("t"))];
    lake.shop();
    for name in ["truncated", "by_hand"] {
        lake.table(name);
    }
    for name in ["truncated_too", "of_it_one", "by_hand_one"] {
        lake.partitioned(name, &["1", "2"]);
    }
    for replica in &replicas {
        replica.follow();
    }
    truncate(&lake.server.thrift, "shop", "truncated", &[]);
    truncate(&lake.server.thrift, "shop", "truncated_too", &[]);
    truncate(&lake.server.thrift, "shop", "of_it_one", &["p=1"]);
    let left: Vec<String> = files(&lake.path("")).into_keys().collect();
    assert_eq!(
        left,
        ["by_hand/part-0", "by_hand_one/p=1/part-0", "by_hand_one/p=2/part-0", "of_it_one/p=2/part-0"]
            .map(|path| format!("shop.db/{path}")),
        "what Hive left"
    );
    for replica in &replicas {
        // A run that copies and deletes nothing has read why these are empty: the next one knows it, too.
        let options = "max_drops = \"100%\"\nmax_deletes = \"100%\"";
        replica.policy("", &format!("{options}\nmax_duration = \"0s\""));
        replica.metasync("run", &[]).expect(10);
        replica.policy("", options);
        replica.follow();
    }
    std::fs::remove_file(lake.path("shop.db/by_hand/part-0")).unwrap();
    std::fs::remove_file(lake.path("shop.db/by_hand_one/p=1/part-0")).unwrap();
    for replica in &replicas {
        let before = files(&replica.path(""));
        let ran = replica.metasync("run", &[]).expect(3);
        assert_eq!(ran.number("tables/quarantined"), 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("shop.by_hand_one is not in step"), "{}", ran.stderr);
        assert_eq!(files(&replica.path("")), before);
        for table in ["shop.by_hand", "shop.by_hand_one"] {
            replica.metasync("resync", &["--table", table]).expect(0);
        }
        replica.follow();
    }
}

#[test]
fn rule_27_case_21_hive_3_1_truncates_and_somebody_removes_files() {
    emptied_by_hive_and_by_hand(Version::V31);
}

#[test]
fn rule_27_case_21_hive_4_0_truncates_and_somebody_removes_files() {
    emptied_by_hive_and_by_hand(Version::V40);
}

#[test]
fn rule_21_what_events_changed_and_how_far_that_is_stand_in_one_transaction() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    let replica = lake.replica("replica", Way::Sql, Way::Sql);
    lake.shop();
    let partitioned = lake.partitioned("parted", &["1"]);
    let altered = lake.table("altered");
    lake.table("gone");
    replica.follow();
    let events = replica.current_event();
    let mut altered = altered.clone();
    altered.parameters.insert("since".to_owned(), "the first run".to_owned());
    lake.write("shop.db/parted/p=2/part-0", "two");
    lake.write("shop.db/fresh/part-0", "fresh");
    lake.apply(&[
        Change::PutTable(Box::new(altered)),
        Change::PutPartitions {
            table: partitioned.name.clone(),
            partitions: vec![objects::partition(&partitioned, &["2"])],
        },
        Change::PutTable(Box::new(lake.unmade_table("fresh", &[]))),
        Change::DropTable(TableName::new("shop", "gone")),
    ]);
    replica.metasync("run", &[]).expect(0);
    assert_eq!(replica.last_id(), Some(lake.current_event()));
    let wrote = |rows: &str| {
        let found = replica.sql(&format!("select cast(xmin as text) from {rows}"));
        assert!(!found.is_empty(), "{rows}");
        found.concat()
    };
    let id = wrote("`DATABASE_PARAMS` where `PARAM_KEY` = 'repl.last.id'");
    for rows in [
        "`TABLE_PARAMS` where `PARAM_KEY` = 'since'",
        "`PARTITIONS` where `PART_NAME` = 'p=2'",
        "`TBLS` where `TBL_NAME` = 'fresh'",
        &format!("`NOTIFICATION_LOG` where `EVENT_ID` > {events}"),
    ] {
        assert!(wrote(rows).iter().all(|transaction| *transaction == id[0]), "{rows}");
    }
    assert_eq!(replica.sql("select 1 from `TBLS` where `TBL_NAME` = 'gone'"), [] as [Vec<String>; 0]);
    replica.follow();
}

#[test]
fn case_53_a_chain_carries_what_users_set_and_no_keys_of_a_replica() {
    let Some(first) = Served::start(Version::V31, Kind::Postgres) else { return };
    first.shop();
    let mut table = first.partitioned("items", &["1", "2"]);
    table.parameters.insert("discover.partitions".to_owned(), "true".to_owned());
    table.parameters.insert("of_a_user".to_owned(), "yes".to_owned());
    first.apply(&[Change::PutTable(Box::new(table))]);
    let second = first.replica("second", Way::Thrift, Way::Thrift);
    second.follow();
    for (name, from) in [("by-thrift", Way::Thrift), ("by-sql", Way::Sql)] {
        let third = second.onward(name, from);
        third.follow();
        assert_eq!(third.last_id(), Some(second.current_event()), "its own, of the second's log");
        let keys = |replica: &Replica<'_>| replica.shop().parameters.into_keys().collect::<Vec<_>>();
        assert_eq!(keys(&third), keys(&second), "no more than those of a replica");
        let table = third.table("items");
        assert_eq!(table.parameters["of_a_user"], "yes");
        assert_eq!(table.parameters["discover.partitions"], "false");
        // What a failover would set again is what the first one said.
        assert_eq!(table.parameters["understudy.source.discover.partitions"], "true");
    }
}

#[test]
fn case_74_hive_is_upgraded_in_the_middle_of_the_log_and_replay_goes_on() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    let replica = lake.replica_at("by-sql", Way::Sql, format!("sqlite://{}/s.db", lake.root().display()));
    replica.policy("", "max_drops = \"100%\"\nmax_deletes = \"100%\"\nunknown_events = \"fail\"");
    lake.shop();
    lake.table("a");
    let days = lake.partitioned("days", &["1"]);
    replica.follow();
    // Nobody reads these before the upgrade.
    lake.table("before");
    lake.partitioned("more_days", &["1", "2"]);
    schematool_upgrade(Version::V40, &lake.database.url);
    let newer = Hms::start(Version::V40, &lake.database.url);
    let after = lake.unmade_table("after", &[]);
    lake.write("shop.db/after/part-0", "after");
    lake.write("shop.db/days/p=2/part-0", "two");
    let second = objects::partition(&days, &["2"]);
    change(
        &newer.thrift,
        &[
            Change::PutTable(Box::new(after)),
            Change::PutPartitions { table: days.name, partitions: vec![second] },
            Change::DropTable(TableName::new("shop", "a")),
        ],
    );
    let formats = lake.sql("select distinct `MESSAGE_FORMAT` from `NOTIFICATION_LOG` order by 1");
    assert_eq!(formats, [["gzip(json-2.0)"], ["json-0.2"]]);
    let ran = replica.follow();
    let (from, to) = (ran.number("from_event"), ran.number("to_event"));
    assert_eq!(ran.number("events/applied") + ran.number("events/skipped"), to - from, "{}", ran.stdout);
    assert!(ran.number("events/applied") >= 6 && ran.summary()["events"]["events_missing"].is_null(), "{}", ran.stdout);
    assert_eq!(replica.last_id(), Some(lake.current_event()));
}
