//! What stops a run of `metasync` before it does harm: each refusal with its code, and nothing changed.

use distcp::exit::ExitCode;
use metasync::metastore::Change;
use metasync::model::{
    DatabaseName, Function, FunctionKind, PartitionName, Resource, ResourceKind, TableName, UnknownFields,
};
use metasync::sync::{self, Allowed};
use std::sync::Arc;
use tests::lake::Lake;
use tests::metastores::objects;

fn lake() -> Lake {
    filled(Lake::new())
}

/// Five tables and one of five partitions, each with a file.
fn filled(lake: Lake) -> Lake {
    lake.database("sales");
    for name in ["a", "b", "c", "d", "e"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    let days = lake.table("days", &["dt"]);
    for day in ["1", "2", "3", "4", "5"] {
        lake.partition(&days, &[day], day);
    }
    lake
}

/// What the replica is: its dump and its files.
fn replica(lake: &Lake) -> (Vec<String>, std::collections::BTreeMap<String, String>) {
    (lake.dump("target"), lake.files(&lake.target("")))
}

fn drop_table(name: &str) -> Change {
    Change::DropTable(TableName::new("sales", name))
}

/// A function `sales.NAME` of a jar.
fn function(name: &str, jar: &str) -> Function {
    Function {
        database: DatabaseName::new("sales"),
        name: name.to_owned(),
        class_name: Some("com.example.F".to_owned()),
        owner: Some(objects::user("etl")),
        create_time: 1_700_000_000,
        kind: FunctionKind::Java,
        resources: vec![Resource { kind: ResourceKind::Jar, uri: jar.to_owned() }],
        unknown: UnknownFields::default(),
    }
}

#[test]
fn rule_06_more_dropped_tables_than_allowed_are_refused() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let before = replica(&lake);
    lake.apply(&[drop_table("a"), drop_table("b")]);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(
        refused.last_word().contains("2 of 6 tables on the target would be dropped, more than 20%"),
        "{}",
        refused.stderr
    );
    assert!(refused.last_word().contains("options.max_drops"));
    lake.metasync("plan", &[]).expect(5);
    assert_eq!(replica(&lake), before);
    lake.policy("max_drops = 2");
    lake.metasync("run", &[]).expect(0);
}

#[test]
fn rule_06_partitions_that_the_last_commit_does_not_know_are_part_of_the_whole() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let days = lake.unmade_table("days", &["dt"]);
    let more = objects::partition(&days, &["6"]);
    lake.apply_to_target(&[Change::PutPartitions { table: days.name.clone(), partitions: vec![more] }]);
    let names = ["1", "2", "3", "4", "5"].map(|day| PartitionName(format!("dt={day}"))).into();
    lake.apply(&[Change::DropPartitions { table: days.name.clone(), names }]);
    lake.policy("max_drops = \"83%\"");
    let refused = lake.metasync("run", &["--overwrite-drift"]).expect(5);
    assert!(refused.last_word().contains("6 of 6 partitions of sales.days"), "{}", refused.stderr);
    lake.policy("max_drops = \"100%\"\nempty_tables = \"accept\"");
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    assert!(lake.sql("target", "SELECT PART_NAME FROM PARTITIONS").is_empty());
}

#[test]
fn rule_06_more_dropped_partitions_of_a_table_than_allowed_are_refused() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let names = ["1", "2"].map(|day| PartitionName(format!("dt={day}"))).to_vec();
    lake.apply(&[Change::DropPartitions { table: TableName::new("sales", "days"), names }]);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("2 of 5 partitions of sales.days"), "{}", refused.stderr);
}

tests::over_pairs!(rule_20_case_77_what_others_changed_on_the_target_is_not_overwritten);

fn rule_20_case_77_what_others_changed_on_the_target_is_not_overwritten(lake: Lake) {
    let lake = filled(lake);
    lake.metasync("run", &[]).expect(0);
    let mut table = lake.unmade_table("a", &[]);
    let root = lake.root().display().to_string();
    table.storage.location = Some(format!("file:{root}/target/sales.db/a"));
    table.parameters.insert("promoted".to_owned(), "yes".to_owned());
    let mut other = table.clone();
    other.name = TableName::new("sales", "made_here");
    lake.apply_to_target(&[Change::PutTable(Box::new(table)), Change::PutTable(Box::new(other)), drop_table("b")]);
    let before = replica(&lake);
    lake.write("sales.db/c/part-0", "newer");
    let refused = lake.metasync("run", &[]).expect(5);
    for word in
        ["table sales.a: it was changed", "table sales.b: it was dropped", "sales.made_here: somebody else made it"]
    {
        assert!(refused.last_word().contains(word), "{word}: {}", refused.stderr);
    }
    assert_eq!(replica(&lake), before);
    lake.policy("max_drops = 1");
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_20_resync_names_the_tables_that_are_overwritten() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    lake.apply_to_target(&[drop_table("b")]);
    lake.metasync("run", &[]).expect(5);
    lake.metasync("resync", &["--table", "sales.b"]).expect(0);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

tests::over_pairs!(rule_21_case_02_a_target_that_holds_something_is_taken_over_only_by_name);

fn rule_21_case_02_a_target_that_holds_something_is_taken_over_only_by_name(lake: Lake) {
    let lake = filled(lake);
    lake.metasync("run", &[]).expect(0);
    // As if another tool had made the replica: no state of ours, and no id.
    std::fs::remove_dir_all(lake.root().join("state")).unwrap();
    let mut database =
        objects::database(&DatabaseName::new("sales"), &format!("file:{}/target", lake.root().display()));
    database.parameters.remove("repl.last.id");
    // Not all versions keep it.
    database.create_time = None;
    lake.apply_to_target(&[Change::PutDatabase(database)]);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("--adopt"), "{}", refused.stderr);
    let adopted = lake.metasync("run", &["--adopt"]).expect(0);
    assert_eq!(adopted.number("counts/copied"), 0);
    lake.assert_in_step();
}

tests::over_pairs!(rule_27_case_50_a_folder_that_lost_all_its_files_is_that_tables_error);

fn rule_27_case_50_a_folder_that_lost_all_its_files_is_that_tables_error(lake: Lake) {
    let lake = filled(lake);
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_file(lake.source("sales.db/a/part-0")).unwrap();
    std::fs::remove_file(lake.source("sales.db/days/dt=2/part-0")).unwrap();
    lake.write("sales.db/b/part-0", "newer");
    lake.policy("max_deletes = \"100%\"");
    let ran = lake.metasync("run", &[]).expect(3);
    assert_eq!(ran.number("tables/quarantined"), 2);
    assert!(ran.stderr.contains("/source/sales.db/a held data and holds none at the source"), "{}", ran.stderr);
    assert!(lake.target("sales.db/a/part-0").exists() && lake.target("sales.db/days/dt=2/part-0").exists());
    assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), "newer", "the others go on");
    lake.metasync("resync", &["--table", "sales.a"]).expect(0);
    assert!(!lake.target("sales.db/a/part-0").exists());
    lake.policy("max_deletes = \"100%\"\nempty_tables = \"accept\"");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

tests::over_pairs!(rule_27_case_50_files_that_others_replace_are_ordinary: sqlite_to_sqlite, sql_to_thrift);

fn rule_27_case_50_files_that_others_replace_are_ordinary(lake: Lake) {
    let lake = filled(lake);
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_file(lake.source("sales.db/a/part-0")).unwrap();
    lake.write("sales.db/a/part-1", "overwritten");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_28_no_file_goes_under_a_folder_that_a_live_table_has() {
    let lake = lake();
    let mut purged = lake.unmade_table("purged", &[]);
    purged.parameters.insert("external.table.purge".to_owned(), "TRUE".to_owned());
    purged.storage.location = lake.unmade_table("a", &[]).storage.location;
    lake.apply(&[Change::PutTable(Box::new(purged))]);
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[drop_table("purged")]);
    lake.metasync("run", &[]).expect(0);
    assert!(lake.target("sales.db/a/part-0").exists(), "sales.a has the same folder");
    lake.assert_in_step();
}

#[test]
fn one_table_that_cannot_be_carried_does_not_hold_up_the_others() {
    let lake = lake();
    let mut outside = lake.unmade_table("outside", &[]);
    outside.storage.location = Some("s3://elsewhere/x".to_owned());
    lake.apply(&[Change::PutTable(Box::new(outside))]);
    let ran = lake.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("location s3://elsewhere/x is in no [[locations]] of the policy"), "{}", ran.stderr);
    assert_eq!(ran.number("tables/applied"), 6);
    lake.apply(&[drop_table("outside")]);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_second_run_is_kept_out_while_one_goes_on() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let unlocked = lake.shell.metasync(&["unlock", "p.toml"]).expect(0);
    assert!(unlocked.stderr.contains("nobody holds the lease"), "{}", unlocked.stderr);
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_touched() {
    let lake = lake();
    for (policy, code, word) in
        [("nosuch.toml", 2, "cannot be read"), ("p.toml", 2, "p.toml has the unknown key options.max_drop")]
    {
        lake.policy("max_drop = 3");
        let ran = lake.shell.metasync(&["run", policy]).expect(code);
        assert!(ran.last_word().contains(word), "{}", ran.stderr);
    }
    lake.policy("");
    std::fs::remove_file(lake.root().join("source.db")).unwrap();
    let ran = lake.metasync("run", &[]);
    assert!(ran.last_word().contains("the source's metastore"), "{}", ran.stderr);
    assert!(!lake.root().join("target.db").exists());
}

#[test]
fn two_databases_never_come_to_one() {
    let lake = lake();
    lake.database("finance_eu");
    lake.policy_of("databases = [\"sales\", \"finance_*\"]\n", "");
    lake.metasync("run", &[]).expect(0);
    let before = replica(&lake);
    lake.policy_of("databases = [\"sales\", \"finance_*\"]\nrename.sales = \"finance_eu\"\n", "");
    for verb in ["plan", "run"] {
        let refused = lake.metasync(verb, &[]).expect(2);
        assert!(refused.last_word().contains("rename.sales goes to finance_eu"), "{}", refused.stderr);
    }
    // The same, had the policy's own check not seen it.
    lake.policy_of("databases = [\"sales\", \"finance_*\"]\n", "");
    let mut setting = lake.setting();
    let mut policy = (*setting.policy).clone();
    policy.rename.insert("sales".to_owned(), "finance_eu".to_owned());
    setting.policy = Arc::new(policy);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let allowed = Allowed { policy_change: true, ..Allowed::default() };
    let planned = runtime.block_on(sync::plan(&setting, &allowed)).err().unwrap();
    let (_, ran) = runtime.block_on(sync::run(&setting, "run", &allowed));
    for refused in [planned, ran.unwrap()] {
        assert_eq!(refused.code, ExitCode::Usage, "{refused}");
        assert!(refused.message.contains("finance_eu and sales of the source would both be finance_eu"), "{refused}");
    }
    assert_eq!(replica(&lake), before);
}

#[test]
fn rule_01_a_path_of_the_policy_writes_into_no_tree_of_tables() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    lake.write("../jobs/a.jar", "a");
    let before = replica(&lake);
    let root = lake.root().display();
    // Where a link leads is known only once the place is looked at.
    std::os::unix::fs::symlink(lake.target(""), lake.root().join("link")).unwrap();
    for (to, word) in [
        (format!("{root}/target/jobs"), "paths[0].to is"),
        (format!("{root}/source/jobs"), "the source would be written"),
        (format!("{root}/link/jobs"), "the policy's paths[0].to is"),
    ] {
        lake.policy(&format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{to}\"\ndelete = true\n"));
        for verb in ["plan", "run"] {
            let refused = lake.metasync(verb, &[]).expect(2);
            assert!(refused.last_word().contains(word) && refused.last_word().contains(&to), "{}", refused.stderr);
        }
    }
    lake.policy("");
    assert_eq!(replica(&lake), before);
}

#[test]
fn rule_29_an_added_location_that_moves_a_table_is_told_first() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let before = replica(&lake);
    let root = lake.root().display();
    lake.policy(&format!("[[locations]]\nfrom = \"{root}/source/sales.db/a\"\nto = \"file:{root}/elsewhere/a\"\n"));
    for verb in ["plan", "run"] {
        let refused = lake.metasync(verb, &[]).expect(5);
        let word = format!("{root}/source/sales.db/a is new, what is in it went to file:{root}/target/sales.db/a");
        assert!(refused.last_word().contains(&word), "{}", refused.stderr);
    }
    assert_eq!(replica(&lake), before);
    lake.metasync("run", &["--accept-policy-change"]).expect(0);
    assert!(lake.root().join("elsewhere/a/part-0").exists());
}

#[test]
fn rule_20_files_that_others_wrote_on_the_target_are_not_deleted_or_overwritten() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    // A promoted replica: an insert of Spark's adds files, and no metadata tells.
    std::fs::write(lake.target("sales.db/a/part-9"), "written here").unwrap();
    std::fs::write(lake.target("sales.db/b/part-0"), "changed here").unwrap();
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("2 objects of the target"), "{}", refused.stderr);
    assert!(
        refused.last_word().contains("/target/sales.db/a/part-9") && refused.last_word().contains("--overwrite-drift")
    );
    assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), "changed here");
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_21_a_first_run_deletes_nothing_that_stands_in_the_targets_folders() {
    let lake = lake();
    std::fs::create_dir_all(lake.target("sales.db/a")).unwrap();
    std::fs::write(lake.target("sales.db/a/precious"), "somebody's").unwrap();
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("--adopt"), "{}", refused.stderr);
    assert!(lake.target("sales.db/a/precious").exists());
    lake.metasync("run", &["--adopt"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_21_a_database_that_enters_the_policy_is_taken_over_only_by_name() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    lake.database("other");
    let target = format!("file:{}/target", lake.root().display());
    let other = DatabaseName::new("other");
    let precious = objects::table(other.table("precious"), &target, &[]);
    let database = objects::database(&other, &target);
    lake.apply_to_target(&[Change::PutDatabase(database), Change::PutTable(Box::new(precious))]);
    lake.policy_of("databases = [\"sales\", \"other\"]\n", "");
    let before = replica(&lake);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("no run of this policy made, in other"), "{}", refused.stderr);
    assert_eq!(replica(&lake), before);
    lake.metasync("run", &["--adopt"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_21_a_database_of_functions_alone_is_taken_over_only_by_name() {
    let lake = lake();
    let target = format!("file:{}/target", lake.root().display());
    let jar = format!("{target}/jars/precious.jar");
    lake.shell.metasync(&["metastore", "init", &format!("sqlite://{}/target.db", lake.root().display())]).expect(0);
    lake.apply_to_target(&[
        Change::PutDatabase(objects::database(&DatabaseName::new("sales"), &target)),
        Change::PutFunction(function("precious", &jar)),
    ]);
    let before = lake.dump("target");
    for verb in ["plan", "run"] {
        let refused = lake.metasync(verb, &[]).expect(5);
        assert!(refused.last_word().contains("no run of this policy made, in sales"), "{}", refused.stderr);
    }
    assert_eq!(lake.dump("target"), before);
    lake.metasync("run", &["--adopt"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_partition_that_cannot_be_carried_is_its_tables_trouble_and_no_drift() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    let days = lake.unmade_table("days", &["dt"]);
    let mut outside = objects::partition(&days, &["6"]);
    outside.storage.location = Some("s3://elsewhere/x".to_owned());
    lake.apply(&[Change::PutPartitions { table: days.name.clone(), partitions: vec![outside] }]);
    for content in ["newer", "newest"] {
        lake.write("sales.db/a/part-0", content);
        let ran = lake.metasync("run", &[]).expect(3);
        assert!(ran.stderr.contains("s3://elsewhere/x is in no [[locations]]"), "{}", ran.stderr);
        assert_eq!(ran.number("tables/quarantined"), 1);
        assert_eq!(std::fs::read_to_string(lake.target("sales.db/a/part-0")).unwrap(), content, "the others go on");
    }
    let names = vec![PartitionName("dt=6".to_owned())];
    lake.apply(&[Change::DropPartitions { table: days.name, names }]);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_function_that_cannot_be_carried_stays_as_it_was_and_is_named() {
    let lake = lake();
    let put = |place: &str| {
        lake.apply(&[Change::PutFunction(function("f", place))]);
    };
    let jar = format!("file:{}/source/jars/f.jar", lake.root().display());
    lake.write("jars/f.jar", "classes");
    put(&jar);
    lake.metasync("run", &[]).expect(0);
    let before = lake.dump("target");
    put("s3://elsewhere/f.jar");
    let ran = lake.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("function sales.f is not carried"), "{}", ran.stderr);
    assert_eq!(lake.dump("target"), before);
    put(&jar);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_limit_ends_a_run_with_10_and_nothing_is_quarantined() {
    let lake = lake();
    lake.policy("max_duration = \"0s\"");
    let ran = lake.metasync("run", &[]).expect(10);
    assert_eq!((ran.number("tables/quarantined"), ran.number("counts/copied")), (0, 0), "{}", ran.stderr);
    assert!(lake.metasync("status", &[]).stdout.contains("\"as_of\":null"));
    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_log_that_names_files_waits_until_all_of_them_are_there() {
    let lake = lake();
    let mut delta = lake.unmade_table("delta", &[]);
    delta.parameters.insert("spark.sql.sources.provider".to_owned(), "delta".to_owned());
    lake.apply(&[Change::PutTable(Box::new(delta))]);
    lake.write("sales.db/delta/_delta_log/00000000000000000000.json", "{\"add\":{\"path\":\"part-0\"}}");
    lake.write("sales.db/delta/part-0", "rows");
    // Nothing can be written where its data file goes.
    let blocked = lake.target("sales.db/delta/part-0/x");
    std::fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    let ran = lake.metasync("run", &["--adopt"]).expect(3);
    assert!(ran.stderr.contains("sales.delta is not in step"), "{}", ran.stderr);
    assert!(!lake.target("sales.db/delta/_delta_log").exists(), "no log before its files");
    assert!(lake.target("sales.db/a/part-0").exists(), "the others go on");
    std::fs::remove_dir_all(lake.target("sales.db/delta/part-0")).unwrap();
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn receipts_of_old_runs_are_removed_and_the_data_of_the_state_stays() {
    let lake = lake();
    for content in ["1", "2", "3", "4"] {
        lake.write("sales.db/a/part-0", content);
        lake.metasync("run", &["--keep-runs", "2"]).expect(0);
    }
    let runs = lake.files(&lake.root().join("state/sales/runs"));
    assert_eq!(runs.len(), 2, "{:?}", runs.keys());
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}
