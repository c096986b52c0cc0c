//! What a metastore may hold that is odd, and what nobody can carry: through whole runs of `metasync`.

use metasync::metastore::Change;
use metasync::model::{Column, DatabaseName, PartitionName, TableName};
use serde_json::json;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use tests::hms::{Kind, Version, fresh_database};
use tests::lake::Lake;
use tests::metastores::objects;

#[test]
fn a_table_without_a_location_is_quarantined_by_name_and_the_others_go_on() {
    for is_new in [true, false] {
        let lake = Lake::of_two_tables();
        if !is_new {
            lake.metasync("run", &[]).expect(0);
        }
        let mut nowhere = lake.unmade_table("a", &[]);
        nowhere.storage.location = None;
        lake.apply(&[Change::PutTable(Box::new(nowhere))]);
        for content in ["newer", "newest"] {
            lake.write("sales.db/b/part-0", content);
            let ran = lake.metasync("run", &[]).expect(3);
            assert!(ran.stderr.contains("sales.a is not in step: "), "{}", ran.stderr);
            assert!(ran.stderr.contains("location"), "{}", ran.stderr);
            assert_eq!(ran.number("tables/quarantined"), 1, "{}", ran.stdout);
            assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), content);
            assert_eq!(lake.target("sales.db/a/part-0").exists(), !is_new, "what was there stays");
        }
        let status = lake.status();
        assert_eq!(
            (&status["quarantined"][0]["table"], &status["in_step"]),
            (&json!("sales.a"), &json!(1)),
            "{status}"
        );
        lake.apply(&[Change::PutTable(Box::new(lake.unmade_table("a", &[])))]);
        lake.metasync("run", &[]).expect(0);
        lake.assert_in_step();
    }
}

/// What is done to a metastore of ours, what makes it whole again, and what is said of it.
const STRANGE: [(&str, &str, &str); 2] = [
    (
        "UPDATE METASYNC_VERSION SET VERSION = 99",
        "UPDATE METASYNC_VERSION SET VERSION = 1",
        "is of version schema 99 of ours, which is not known here",
    ),
    (
        "ALTER TABLE METASYNC_VERSION RENAME TO ASIDE",
        "ALTER TABLE ASIDE RENAME TO METASYNC_VERSION",
        "is no Hive metastore: it has no schema of ours",
    ),
];

#[test]
fn a_metastore_of_a_schema_that_is_not_known_ends_a_run_before_anything_is_written() {
    for side in ["source", "target"] {
        for (strange, mend, words) in STRANGE {
            let lake = Lake::of_two_tables();
            lake.metasync("run", &[]).expect(0);
            let before = (lake.dump("target"), lake.files(&lake.target("")), lake.status()["event"].clone());
            lake.write("sales.db/b/part-1", "more");
            lake.table("c", &[]);
            lake.sql(side, strange);
            for verb in ["run", "plan"] {
                let refused = lake.metasync(verb, &[]).expect(2);
                assert!(refused.last_word().contains(&format!("{side}.db {words}")), "{}", refused.stderr);
            }
            lake.sql(side, mend);
            assert_eq!(
                (lake.dump("target"), lake.files(&lake.target("")), lake.status()["event"].clone()),
                before,
                "{side}: {words}"
            );
            lake.metasync("run", &[]).expect(0);
            lake.assert_in_step();
        }
    }
}

#[test]
fn a_metastore_of_a_version_of_hive_that_is_not_known_ends_a_run_before_anything_is_written() {
    let Some(tomorrows) = fresh_database(Kind::Postgres, Version::V31) else { return };
    tomorrows.run("update \"VERSION\" set \"SCHEMA_VERSION\" = '9.9.0'");
    let rows = || tomorrows.run("select (select count(*) from \"DBS\"), (select count(*) from \"TBLS\")");
    let before = rows();
    let lake = Lake::of_two_tables();
    let ours = |side: &str| format!("sqlite://{}/{side}.db", lake.root().display());
    let theirs = tomorrows.url.clone();
    let policy = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    for side in ["target", "source"] {
        std::fs::write(lake.root().join("p.toml"), policy.replace(&ours(side), &theirs)).unwrap();
        let refused = lake.metasync("run", &[]).expect(2);
        let words = "is of version 9.9.0, which is not known here; 2.3 to 4.x are";
        assert!(refused.last_word().contains(words), "{side}: {}", refused.stderr);
        assert_eq!(rows(), before, "{side}");
        assert!(!lake.target("").exists(), "no data either");
    }
    // Of what it says to be nothing else is wrong.
    tomorrows.run("update \"VERSION\" set \"SCHEMA_VERSION\" = '3.1.0'");
    std::fs::write(lake.root().join("p.toml"), policy.replace(&ours("target"), &theirs)).unwrap();
    lake.metasync("run", &[]).expect(0);
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn partitions_of_empty_values_and_of_hives_default_are_carried_changed_and_dropped() {
    let lake = Lake::of_two_tables();
    let odd = lake.table("odd", &["k", "dt"]);
    let default = "__HIVE_DEFAULT_PARTITION__";
    for (values, rows) in
        [(["", "1"], "empty"), ([default, "2"], "default"), (["3", ""], "last"), (["", default], "both")]
    {
        lake.partition(&odd, &values, rows);
    }
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    let held = lake.sql("target", "SELECT PART_KEY_VAL FROM PARTITION_KEY_VALS");
    assert_eq!(held.concat().iter().filter(|value| value.is_empty()).count(), 3, "{held:?}");
    assert_eq!(held.concat().iter().filter(|value| *value == default).count(), 2, "{held:?}");
    lake.write(&format!("sales.db/odd/k={default}/dt=1/part-1"), "more");
    lake.partition(&odd, &["", "4"], "another");
    let mut altered = objects::partition(&odd, &["", "1"]);
    altered.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutPartitions { table: odd.name.clone(), partitions: vec![altered] }]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.summary()["events"].get("events_missing"), None, "{}", ran.stderr);
    lake.assert_in_step();
    let gone = PartitionName(format!("k={default}/dt={default}"));
    lake.apply(&[Change::DropPartitions { table: odd.name, names: vec![gone] }]);
    lake.policy("max_drops = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    assert_eq!(lake.sql("target", "SELECT COUNT(*) FROM PARTITIONS").concat(), ["4"]);
    lake.assert_in_step();
}

/// A name of this many characters that begins oddly.
fn long(first: &str, characters: usize) -> String {
    let left = characters - first.chars().count();
    format!("{first}{}", "ü".repeat(left))
}

#[test]
fn names_with_quotes_dots_and_letters_of_all_kinds_as_long_as_hive_takes_them_go_through_runs() {
    let lake = Lake::of_two_tables();
    let database = DatabaseName::new(&long("s'a\"l.e`s %日本 ", 128));
    let root = format!("file:{}", lake.source("").display());
    let mut odd = objects::database(&database, root.trim_end_matches('/'));
    odd.location = Some(format!("file:{}", lake.source("odd.db").display()));
    lake.apply(&[Change::PutDatabase(odd)]);
    let names = [long("o'd\"d.t`a ", 128), long("日本.'語\" %_", 128), "ta.b'l\"e".to_owned()];
    let columns = |extra: &str| {
        let names = [long("c'o\"l.u`m n;%", 128), format!("plain{extra}")];
        Arc::new(names.map(|name| objects::column(&name, "string")).to_vec())
    };
    for (number, name) in names.iter().enumerate() {
        let mut table = lake.unmade_table("any", &["d'a\"y.ü"]);
        table.name = TableName::new(&database.database, name);
        table.storage.columns = columns("");
        table.storage.location = Some(format!("file:{}", lake.source(&format!("odd.db/t{number}")).display()));
        lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
        lake.partition(&table, &["it's \"1\".ü%/x"], "rows");
    }
    lake.policy_of("databases = [\"s*\"]\n", "max_drops = \"100%\"\nmax_deletes = \"100%\"");
    let first = lake.metasync("run", &[]).expect(0);
    assert_eq!(first.number("tables/applied"), 5, "{}", first.stdout);
    lake.assert_in_step();
    let held = lake.sql("target", "SELECT TBL_NAME FROM TBLS").concat();
    assert!(names.iter().all(|name| held.contains(name)), "{held:?}");

    // Changed, renamed and dropped, each with its event.
    let name = |name: &str| TableName::new(&database.database, name);
    let mut changed = lake.unmade_table("any", &["d'a\"y.ü"]);
    changed.name = name(&names[0]);
    changed.storage.columns = columns(" 2.'\"");
    changed.storage.location = Some(format!("file:{}", lake.source("odd.db/t0").display()));
    lake.apply(&[
        Change::PutTable(Box::new(changed)),
        Change::RenameTable { from: name(&names[1]), to: name("re.n'a\"med ü") },
        Change::DropTable(name(&names[2])),
    ]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.number("events/applied"), 3, "{}", ran.stdout);
    assert_eq!(ran.summary()["events"].get("events_missing"), None, "{}", ran.stderr);
    lake.assert_in_step();
    let pattern = format!("{}.*", database.database);
    lake.metasync("resync", &["--table", &pattern]).expect(0);
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/touched"), 0);
    lake.assert_in_step();
}

/// Columns of one table; Hive's own limit is that of its database.
const MANY_COLUMNS: usize = 10_000;

#[test]
fn a_table_of_ten_thousand_columns_goes_through_runs() {
    let lake = Lake::of_two_tables();
    let columns = |kind: &str| -> Arc<Vec<Column>> {
        Arc::new((0..MANY_COLUMNS).map(|number| objects::column(&format!("column_{number:05}"), kind)).collect())
    };
    let mut wide = lake.unmade_table("wide", &["dt"]);
    wide.storage.columns = columns("string");
    lake.apply(&[Change::PutTable(Box::new(wide.clone()))]);
    for day in ["1", "2"] {
        lake.partition(&wide, &[day], day);
    }
    lake.metasync("run", &[]).expect(0);
    let held = || {
        let sql = "SELECT CAST(COUNT(*) AS TEXT), MIN(TYPE_NAME) FROM COLUMNS_V2 WHERE CD_ID = \
                   (SELECT CD_ID FROM SDS JOIN TBLS ON SDS.SD_ID = TBLS.SD_ID WHERE TBL_NAME = 'wide')";
        lake.sql("target", sql).concat()
    };
    assert_eq!(held(), ["10000", "string"]);
    lake.assert_in_step();
    // All of them change; the partitions keep theirs.
    wide.storage.columns = columns("varchar(9)");
    lake.apply(&[Change::PutTable(Box::new(wide))]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("tables/applied"), ran.number("events/applied")), (1, 1), "{}", ran.stdout);
    assert_eq!(held(), ["10000", "varchar(9)"]);
    lake.assert_in_step();
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/touched"), 0);
    assert!(lake.target("sales.db/wide/dt=2/part-0").exists());
}

#[test]
fn case_67_a_malformed_pattern_is_refused_before_anything_is_read() {
    let lake = Lake::of_two_tables();
    let asked = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    asked.set_nonblocking(true).unwrap();
    let url = format!("thrift://127.0.0.1:{}", asked.local_addr().unwrap().port());
    for (top, word) in [
        ("databases = [\"sales[\"]\n", "databases has `sales[`"),
        ("databases = [\"sales\", \"{a\"]\n", "databases has `{a`"),
        ("databases = [\"sales\"]\nexclude_tables = [\"sales.[z-a]\"]\n", "exclude_tables has `sales.[z-a]`"),
        ("databases = [\"sales\"]\nexclude_tables = [\"items\"]\n", "exclude_tables has `items`"),
    ] {
        lake.policy_of(top, "");
        let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
        let text = text.replace(&lake.url("source"), &url).replace(&lake.url("target"), &format!("{url}/target"));
        std::fs::write(lake.root().join("p.toml"), text).unwrap();
        for (verb, more) in
            [("run", &[][..]), ("plan", &[]), ("verify", &[]), ("status", &[]), ("resync", &["--table", "sales.a"])]
        {
            let refused = lake.metasync(verb, more).expect(2);
            assert!(refused.last_word().contains(word), "{verb}: {}", refused.stderr);
        }
    }
    assert_eq!(asked.accept().map(|_| ()).unwrap_err().kind(), ErrorKind::WouldBlock, "a metastore was asked");
    assert!(!lake.root().join("state").exists() && !lake.target("").exists());
}
