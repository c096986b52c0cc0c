//! Folders of the source that hold no file any more, or not yet: which are a table's error, and which are ordinary.

use metasync::metastore::Change;
use metasync::model::{PartitionName, Table};
use serde_json::json;
use tests::lake::Lake;

/// A partition in a folder of this name below the table's, with one file.
fn partition_in(lake: &Lake, table: &Table, day: &str, folder: &str) {
    lake.write(&format!("sales.db/{}/{folder}/part-0", table.name.table), day);
    lake.partition_in(table, day, folder);
}

/// An INSERT into `sales.TABLE`, or a partition by `dt` of it, of one file.
fn insert(lake: &Lake, table: &str, day: Option<&str>, replace: bool) {
    let folder = day.map(|day| format!("/dt={day}")).unwrap_or_default();
    let file = format!("file:{}sales.db/{table}{folder}/part-9##", lake.source("").display());
    let mut message = json!({"server": "", "servicePrincipal": "", "db": "sales", "table": table, "timestamp": 1,
        "replace": replace.to_string(), "files": [file]});
    if let Some(day) = day {
        message["partKeyVals"] = json!({"dt": day});
    }
    lake.event("INSERT", table, &message.to_string(), "json-0.2");
}

fn empty(lake: &Lake, folder: &str) {
    for file in std::fs::read_dir(lake.source(folder)).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
}

#[test]
fn rule_27_a_partition_that_lost_its_files_is_noticed_whatever_its_folder_is_called() {
    for folder in ["2026/01", "DT=Mixed", "dt=other"] {
        let lake = Lake::of_two_tables();
        let days = lake.table("days", &["dt"]);
        lake.partition(&days, &["kept"], "kept");
        partition_in(&lake, &days, "odd", folder);
        lake.policy("max_deletes = \"100%\"");
        lake.metasync("run", &[]).expect(0);
        std::fs::remove_file(lake.source(&format!("sales.db/days/{folder}/part-0"))).unwrap();
        lake.write("sales.db/b/part-0", "newer");
        let ran = lake.metasync("run", &[]).expect(3);
        assert!(ran.stderr.contains("held data and holds none at the source"), "{folder}: {}", ran.stderr);
        assert!(lake.target(&format!("sales.db/days/{folder}/part-0")).exists(), "{folder}");
        assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), "newer", "the others go on");
        // Dropped, it takes its files with it.
        let names = vec![PartitionName("dt=odd".to_owned())];
        lake.apply(&[Change::DropPartitions { table: days.name.clone(), names }]);
        lake.metasync("run", &[]).expect(0);
        assert!(!lake.target(&format!("sales.db/days/{folder}/part-0")).exists(), "{folder}");
        lake.assert_in_step();
    }
}

#[test]
fn rule_27_the_former_folder_of_a_partition_that_moved_is_nobodys() {
    let lake = Lake::of_two_tables();
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["1"], "first");
    lake.policy("max_deletes = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    partition_in(&lake, &days, "1", "elsewhere");
    empty(&lake, "sales.db/days/dt=1");
    lake.metasync("run", &[]).expect(0);
    assert!(
        !lake.target("sales.db/days/dt=1/part-0").exists() && lake.target("sales.db/days/elsewhere/part-0").exists()
    );
    lake.assert_in_step();
}

#[test]
fn case_50_a_file_that_an_event_names_and_that_is_gone_is_lost_or_was_replaced() {
    let lake = Lake::of_two_tables();
    lake.table("empty", &[]);
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["1"], "first");
    partition_in(&lake, &days, "odd", "x/y");
    lake.metasync("run", &[]).expect(0);
    // The replica never saw them: only the events know.
    insert(&lake, "empty", None, false);
    lake.partition(&days, &["2"], "second");
    insert(&lake, "days", Some("2"), false);
    empty(&lake, "sales.db/days/dt=2");
    for _ in 0..2 {
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!(ran.number("tables/quarantined"), 2, "{}", ran.stderr);
        for place in ["sales.db/empty", "sales.db/days/dt=2"] {
            let word = format!("{place}/part-9 came");
            assert!(ran.stderr.contains(&word) && ran.stderr.contains("holds no file at the source"), "{}", ran.stderr);
        }
    }
    // The writer comes again; and somebody says that the partition shall be empty.
    lake.write("sales.db/empty/part-9", "again");
    let of = days.name.clone();
    lake.apply(&[Change::TellEmptied { table: of, partition: Some(PartitionName("dt=2".to_owned())) }]);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    // What was replaced later in the log is no loss, and neither is what was dropped.
    insert(&lake, "days", Some("1"), false);
    insert(&lake, "days", Some("1"), true);
    insert(&lake, "days", Some("2"), false);
    let names = vec![PartitionName("dt=2".to_owned())];
    lake.apply(&[Change::DropPartitions { table: days.name.clone(), names }]);
    std::fs::remove_dir_all(lake.source("sales.db/days/dt=2")).unwrap();
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    // Into a partition that is not called as its folder; and what resync accepts is not asked for again.
    empty(&lake, "sales.db/days/x/y");
    insert(&lake, "days", Some("odd"), false);
    lake.policy("max_deletes = \"100%\"");
    lake.metasync("run", &[]).expect(3);
    lake.metasync("resync", &["--table", "sales.days"]).expect(0);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_table_whose_location_is_gone_is_that_tables_error_and_the_others_go_on() {
    let lake = Lake::of_two_tables();
    std::fs::remove_dir_all(lake.source("sales.db/a")).unwrap();
    let ran = lake.metasync("run", &[]).expect(3);
    let word = format!("its folder file:{}sales.db/a is not there at the source", lake.source("").display());
    assert!(ran.stderr.contains(&word), "{}", ran.stderr);
    assert!(lake.target("sales.db/b/part-0").exists());
    assert!(
        !lake.dump("target").iter().any(|line| line.contains("\"table\":\"a\"")),
        "no empty table for one that is lost"
    );
    lake.write("sales.db/a/part-0", "back");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn between_sweeps_an_event_about_a_table_has_its_files_looked_at() {
    let lake = Lake::of_two_tables();
    lake.policy("sweep = \"1h\"");
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/a/part-9", "inserted");
    assert_eq!(lake.metasync("run", &[]).expect(0).number("counts/copied"), 0, "nobody said a word");
    insert(&lake, "a", None, false);
    assert_eq!(lake.metasync("run", &[]).expect(0).number("counts/copied"), 1);
    lake.assert_in_step();
}

#[test]
fn between_sweeps_what_could_not_be_copied_is_tried_again() {
    let lake = Lake::of_two_tables();
    lake.policy("sweep = \"1h\"");
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/a/deep/part-9", "inserted");
    insert(&lake, "a", None, false);
    // A file stands where a folder must be.
    let blocked = lake.target("sales.db/a/deep");
    std::fs::write(&blocked, "in the way").unwrap();
    let ran = lake.metasync("run", &["--overwrite-drift"]).expect(3);
    assert_eq!((ran.number("counts/failed"), ran.number("tables/quarantined")), (1, 1), "{}", ran.stderr);
    if blocked.is_file() {
        std::fs::remove_file(&blocked).unwrap();
    }
    assert_eq!(lake.metasync("run", &[]).expect(0).number("counts/copied"), 1);
    lake.assert_in_step();
}

#[test]
fn rule_27_a_table_in_the_folder_of_one_that_is_left_out_gets_its_files() {
    let lake = Lake::of_two_tables();
    let days = lake.managed("days", &["dt"]);
    lake.partition(&days, &["1"], "one");
    let mut inner = lake.unmade_table("inner", &[]);
    inner.storage.location = Some(format!("file:{}", lake.source("sales.db/days/inner").display()));
    lake.apply(&[Change::PutTable(Box::new(inner))]);
    lake.write("sales.db/days/inner/part-0", "first");
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_dir_all(lake.source("sales.db/days/dt=1")).unwrap();
    lake.write("sales.db/days/inner/part-1", "second");
    lake.write("sales.db/days/part-2", "nobody's");
    let ran = lake.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("sales.days is not in step"), "{}", ran.stderr);
    let there: Vec<String> = lake.files(&lake.target("sales.db/days")).into_keys().collect();
    assert_eq!(there, ["dt=1/part-0", "inner/part-0", "inner/part-1"]);
}

#[test]
fn rule_27_a_table_that_was_left_out_is_looked_at_between_sweeps_too() {
    let lake = Lake::of_two_tables();
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_file(lake.source("sales.db/a/part-0")).unwrap();
    lake.metasync("run", &[]).expect(3);
    // The other table of its tree was looked at a moment ago.
    lake.policy("sweep = \"1h\"");
    for _ in 0..2 {
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!(ran.number("tables/quarantined"), 1, "{}", ran.stdout);
    }
    assert!(lake.target("sales.db/a/part-0").exists());
    lake.write("sales.db/a/part-0", "back again");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}
