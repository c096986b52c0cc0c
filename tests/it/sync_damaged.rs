//! What cannot be read, and what others wrote on the target: named, left as it is, and never the reason for a drop.

use metasync::metastore::Change;
use metasync::model::{
    DatabaseName, Function, FunctionKind, PartitionName, Resource, ResourceKind, TableName, UnknownFields,
};
use serde_json::json;
use std::collections::BTreeMap;
use tests::lake::Lake;
use tests::metastores::objects;

fn lake() -> Lake {
    let lake = Lake::of_two_tables();
    let days = lake.table("days", &["dt"]);
    for day in ["1", "2"] {
        lake.partition(&days, &[day], day);
    }
    lake
}

/// What the replica is: its dump and its files.
fn replica(lake: &Lake) -> (Vec<String>, BTreeMap<String, String>) {
    (lake.dump("target"), lake.files(&lake.target("")))
}

/// The row that the description of a table's storage names is not there any more.
fn damage_table(lake: &Lake, side: &str, name: &str) -> String {
    let of_it = format!("WHERE SD_ID = (SELECT SD_ID FROM TBLS WHERE TBL_NAME = '{name}')");
    let whole = lake.sql(side, &format!("SELECT CAST(SERDE_ID AS TEXT) FROM SDS {of_it}"))[0][0].clone();
    lake.sql(side, &format!("UPDATE SDS SET SERDE_ID = 99998 {of_it}"));
    format!("UPDATE SDS SET SERDE_ID = {whole} {of_it}")
}

/// The same of a partition.
fn damage_partition(lake: &Lake, side: &str, name: &str) -> String {
    let of_it = format!("WHERE PART_NAME = '{name}'");
    let whole = lake.sql(side, &format!("SELECT CAST(SD_ID AS TEXT) FROM PARTITIONS {of_it}"))[0][0].clone();
    lake.sql(side, &format!("UPDATE PARTITIONS SET SD_ID = 99997 {of_it}"));
    format!("UPDATE PARTITIONS SET SD_ID = {whole} {of_it}")
}

#[test]
fn a_damaged_table_of_the_source_is_quarantined_by_name_and_the_others_go_on() {
    for is_new in [true, false] {
        let lake = lake();
        if !is_new {
            lake.metasync("run", &[]).expect(0);
        }
        let mend = damage_table(&lake, "source", "a");
        lake.write("sales.db/a/part-1", "more");
        for content in ["newer", "newest"] {
            lake.write("sales.db/b/part-0", content);
            let ran = lake.metasync("run", &[]).expect(3);
            let words = "sales.a is not in step: it is damaged at the source: SDS ";
            assert!(ran.stderr.contains(words) && ran.stderr.contains("names SERDES 99998"), "{}", ran.stderr);
            assert_eq!(ran.number("tables/quarantined"), 1);
            assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), content);
            let names = lake.sql("target", "SELECT TBL_NAME FROM TBLS ORDER BY 1").concat();
            let expected: &[&str] = if is_new { &["b", "days"] } else { &["a", "b", "days"] };
            assert_eq!(names, expected, "what was there stays");
            assert_eq!(
                (lake.target("sales.db/a/part-0").exists(), lake.target("sales.db/a/part-1").exists()),
                (!is_new, false)
            );
            let status = lake.status();
            assert_eq!(
                (&status["quarantined"][0]["table"], &status["in_step"]),
                (&json!("sales.a"), &json!(2)),
                "{status}"
            );
        }
        lake.metasync("verify", &[]).expect(3);
        lake.sql("source", &mend);
        lake.metasync("run", &[]).expect(0);
        lake.assert_in_step();
    }
}

#[test]
fn a_damaged_table_of_the_target_is_quarantined_by_name_and_the_others_go_on() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    damage_table(&lake, "target", "a");
    lake.write("sales.db/a/part-1", "more");
    lake.write("sales.db/b/part-0", "newer");
    for _ in 0..2 {
        let ran = lake.metasync("run", &[]).expect(3);
        let words = "sales.a is not in step: it is damaged at the target: SDS ";
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert_eq!(ran.number("tables/quarantined"), 1);
        assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), "newer", "the others go on");
        assert!(!lake.target("sales.db/a/part-1").exists() && lake.target("sales.db/a/part-0").exists());
    }
    lake.metasync("verify", &[]).expect(3);
    // The way out: it is dropped there, and asked for by name.
    lake.apply_to_target(&[Change::DropTable(TableName::new("sales", "a"))]);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("table sales.a: it was dropped"), "{}", refused.stderr);
    lake.metasync("resync", &["--table", "sales.a"]).expect(0);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_28_no_folder_is_emptied_while_something_of_the_target_cannot_be_read() {
    type Damage = fn(&Lake) -> String;
    let damages: [Damage; 2] =
        [|lake| damage_table(lake, "target", "a"), |lake| damage_partition(lake, "target", "dt=1")];
    for damage in damages {
        let lake = lake();
        lake.policy("max_drops = \"100%\"\nmax_deletes = \"100%\"");
        let mut owner = lake.unmade_table("owner", &[]);
        owner.table_type = Some("MANAGED_TABLE".to_owned());
        owner.parameters.remove("EXTERNAL");
        lake.write("sales.db/owner/part-0", "rows");
        lake.apply(&[Change::PutTable(Box::new(owner))]);
        lake.metasync("run", &[]).expect(0);
        let mend = damage(&lake);
        lake.apply(&[Change::DropTable(TableName::new("sales", "owner"))]);
        std::fs::remove_dir_all(lake.source("sales.db/owner")).unwrap();
        lake.metasync("run", &[]).expect(3);
        assert_eq!(lake.sql("target", "SELECT 1 FROM TBLS WHERE TBL_NAME = 'owner'").len(), 0, "its row goes");
        assert!(lake.target("sales.db/owner/part-0").exists(), "the damaged one may have it");
        lake.metasync("run", &[]).expect(3);
        lake.sql("target", &mend);
        lake.metasync("run", &[]).expect(0);
        assert!(!lake.target("sales.db/owner/part-0").exists());
        lake.assert_in_step();
    }
}

#[test]
fn a_damaged_partition_is_its_tables_trouble_on_either_side_and_is_not_dropped() {
    for side in ["source", "target"] {
        let lake = lake();
        lake.metasync("run", &[]).expect(0);
        let mend = damage_partition(&lake, side, "dt=1");
        lake.write("sales.db/b/part-0", "newer");
        lake.partition(&lake.unmade_table("days", &["dt"]), &["3"], "three");
        for _ in 0..2 {
            let ran = lake.metasync("run", &[]).expect(3);
            let words = ["sales.days is not in step", "partition dt=1", "is damaged"];
            assert!(words.iter().all(|word| ran.stderr.contains(word)), "{side}: {}", ran.stderr);
            assert_eq!(lake.sql("target", "SELECT PART_NAME FROM PARTITIONS ORDER BY 1"), [["dt=1"], ["dt=2"]]);
            assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), "newer", "{side}");
            assert!(lake.target("sales.db/days/dt=1/part-0").exists(), "{side}");
        }
        lake.sql(side, &mend);
        lake.metasync("run", &[]).expect(0);
        lake.assert_in_step();
    }
}

fn function(lake: &Lake, name: &str) -> Function {
    Function {
        database: DatabaseName::new("sales"),
        name: name.to_owned(),
        class_name: Some("com.example.F".to_owned()),
        owner: Some(objects::user("etl")),
        create_time: 1_700_000_000,
        kind: FunctionKind::Java,
        resources: vec![Resource {
            kind: ResourceKind::Jar,
            uri: format!("file:{}/source/jars/f.jar", lake.root().display()),
        }],
        unknown: UnknownFields::default(),
    }
}

#[test]
fn a_damaged_function_is_named_and_nothing_is_dropped_for_it() {
    let lake = lake();
    lake.write("jars/f.jar", "classes");
    lake.apply(&["f", "g", "h"].map(|name| Change::PutFunction(function(&lake, name))));
    lake.metasync("run", &[]).expect(0);
    let names = |side| lake.sql(side, "SELECT FUNC_NAME FROM FUNCS ORDER BY 1").concat();
    // Of what cannot be read nobody can say which one it is: `g`, which is gone, stays until it can.
    lake.sql("source", "UPDATE FUNCS SET FUNC_TYPE = 7 WHERE FUNC_NAME = 'f'");
    lake.apply(&[Change::DropFunction { database: DatabaseName::new("sales"), name: "g".to_owned() }]);
    lake.apply(&[Change::PutFunction(function(&lake, "i"))]);
    for content in ["newer", "newest"] {
        lake.write("sales.db/b/part-0", content);
        let ran = lake.metasync("run", &[]).expect(3);
        assert!(ran.last_word().contains("function sales.f is not carried: FUNCS "), "{}", ran.stderr);
        assert_eq!(names("target"), ["f", "g", "h", "i"]);
        assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), content, "the others go on");
        assert!(lake.target("jars/f.jar").exists());
    }
    lake.sql("source", "UPDATE FUNCS SET FUNC_TYPE = 1 WHERE FUNC_NAME = 'f'");
    lake.metasync("run", &[]).expect(0);
    assert_eq!(names("target"), ["f", "h", "i"]);
    lake.assert_in_step();
}

#[test]
fn a_function_that_is_damaged_on_the_target_is_drift_and_is_mended_by_name() {
    let lake = lake();
    lake.write("jars/f.jar", "classes");
    lake.apply(&["f", "g"].map(|name| Change::PutFunction(function(&lake, name))));
    lake.metasync("run", &[]).expect(0);
    lake.sql("target", "UPDATE FUNCS SET FUNC_TYPE = 7 WHERE FUNC_NAME = 'f'");
    let rows = || lake.sql("target", "SELECT FUNC_NAME, CAST(FUNC_TYPE AS TEXT) FROM FUNCS ORDER BY 1");
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("database sales: it or its functions were changed"), "{}", refused.stderr);
    assert_eq!(rows(), [["f", "7"], ["g", "1"]]);
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    assert_eq!(rows(), [["f", "1"], ["g", "1"]]);
    lake.assert_in_step();
}

#[test]
fn rule_20_adopt_does_not_allow_drift() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let mut table = lake.unmade_table("a", &[]);
    table.storage.location = Some(format!("file:{}/target/sales.db/a", lake.root().display()));
    table.parameters.insert("promoted".to_owned(), "yes".to_owned());
    let days = vec![PartitionName("dt=2".to_owned())];
    lake.apply_to_target(&[
        Change::PutTable(Box::new(table)),
        Change::DropTable(TableName::new("sales", "b")),
        Change::DropPartitions { table: TableName::new("sales", "days"), names: days },
    ]);
    let before = replica(&lake);
    let refused = lake.metasync("run", &["--adopt"]).expect(5);
    for word in
        ["sales.a: it was changed", "sales.b: it was dropped", "sales.days: it was changed", "--overwrite-drift"]
    {
        assert!(refused.last_word().contains(word), "{word}: {}", refused.stderr);
    }
    assert_eq!(replica(&lake), before);
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    // Nor that of files.
    std::fs::write(lake.target("sales.db/a/part-0"), "written by others").unwrap();
    let before = replica(&lake);
    let refused = lake.metasync("run", &["--adopt"]).expect(5);
    assert!(refused.last_word().contains("/target/sales.db/a/part-0"), "{}", refused.stderr);
    assert_eq!(replica(&lake), before);
}

#[test]
fn rule_20_files_of_another_size_that_others_wrote_are_drift_whoever_has_their_names() {
    // After a run, and before there was any.
    for (has_run, allowed) in [(true, "--overwrite-drift"), (false, "--adopt")] {
        let lake = lake();
        if has_run {
            lake.metasync("run", &[]).expect(0);
        }
        lake.write("sales.db/a/part-1", "new");
        lake.write("sales.db/b/part-1", "new");
        // In the place of what the source has already, and of what is new there.
        std::fs::create_dir_all(lake.target("sales.db/a")).unwrap();
        for name in ["part-0", "part-1"] {
            std::fs::write(lake.target("sales.db/a").join(name), "of another size").unwrap();
        }
        let before = lake.files(&lake.target(""));
        let refused = lake.metasync("run", &[]).expect(5);
        for word in ["2 objects of the target", "/target/sales.db/a/part-0", "/target/sales.db/a/part-1", allowed] {
            assert!(refused.last_word().contains(word), "{has_run}: {word}: {}", refused.stderr);
        }
        assert_eq!(lake.files(&lake.target("")), before, "{has_run}: nothing is written");
        lake.metasync("run", &[allowed]).expect(0);
        lake.assert_in_step();
    }
}
