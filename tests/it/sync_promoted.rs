//! A replica whose state was lost: what a run left there is known again, and what others made of it is never overwritten.

use metasync::metastore::Change;
use metasync::model::{PartitionName, TableName};
use tests::lake::Lake;

/// Three tables, one with two partitions, in step; then the state goes.
fn without_state() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    for name in ["a", "b"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    let days = lake.table("days", &["dt"]);
    ["1", "2"].iter().for_each(|day| drop(lake.partition(&days, &[day], day)));
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_dir_all(lake.root().join("state")).unwrap();
    lake
}

fn drop_table(name: &str) -> Change {
    Change::DropTable(TableName::new("sales", name))
}

/// A run refuses with nothing written, and goes on by name.
fn is_refused(lake: &Lake) {
    let before = (lake.dump("target"), lake.files(&lake.root().join("target")));
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("--adopt"), "{}", refused.stderr);
    assert!(refused.stderr.contains("or it was changed after the run that wrote that"), "{}", refused.stderr);
    lake.metasync("plan", &[]).expect(5);
    assert!(before == (lake.dump("target"), lake.files(&lake.root().join("target"))), "something was written");
    lake.metasync("run", &["--adopt"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_21_a_promoted_replica_without_its_state_is_not_overwritten() {
    // Each as somebody would do it who works with the replica.
    let changed = |lake: &Lake| {
        let mut table = lake.unmade_table("a", &[]);
        table.parameters.insert("k".to_owned(), "v".to_owned());
        table.storage.location = table.storage.location.map(|place| place.replace("/source/", "/target/"));
        lake.apply_to_target(&[Change::PutTable(Box::new(table))]);
    };
    let made = |lake: &Lake| {
        let mut table = lake.unmade_table("theirs", &[]);
        table.storage.location = table.storage.location.map(|place| place.replace("/source/", "/target/"));
        lake.apply_to_target(&[Change::PutTable(Box::new(table))]);
    };
    let dropped = |lake: &Lake| lake.apply_to_target(&[drop_table("b")]);
    let acts: [&dyn Fn(&Lake); 3] = [&changed, &made, &dropped];
    for act in acts {
        let lake = without_state();
        act(&lake);
        is_refused(&lake);
    }
}

#[test]
fn rule_21_a_replica_of_another_policy_is_not_taken_for_ones_own() {
    let lake = without_state();
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    assert!(text.contains("name = \"sales\""), "{text}");
    std::fs::write(lake.root().join("p.toml"), text.replace("name = \"sales\"", "name = \"other\"")).unwrap();
    is_refused(&lake);
}

#[test]
fn rule_21_a_lost_state_is_no_hindrance_when_only_the_source_moved_on() {
    let lake = without_state();
    let mut altered = lake.unmade_table("a", &[]);
    altered.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutTable(Box::new(altered)), drop_table("b")]);
    lake.partition(&lake.unmade_table("days", &["dt"]), &["3"], "3");
    lake.table("new", &[]);
    lake.write("sales.db/new/part-0", "new");
    let reached = reached(&lake);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.number("counts/copied"), 2, "{}", ran.stdout);
    // It read the log from where the replica is.
    assert_eq!((ran.number("from_event"), reached < ran.number("to_event")), (reached, true), "{}", ran.stdout);
    assert_eq!(ran.number("events/applied"), ran.number("to_event") - reached, "{}", ran.stdout);
    lake.assert_in_step();
    // And what that run left is known again.
    std::fs::remove_dir_all(lake.root().join("state")).unwrap();
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/applied"), 0);
}

/// The target's `repl.last.id`.
fn reached(lake: &Lake) -> u64 {
    let sql = "SELECT PARAM_VALUE FROM DATABASE_PARAMS WHERE PARAM_KEY = 'repl.last.id'";
    lake.sql("target", sql)[0][0].parse().unwrap()
}

#[test]
fn rule_21_replay_starts_where_the_target_is_and_not_where_the_checkpoint_says() {
    let lake = Lake::of_two_tables();
    lake.metasync("run", &[]).expect(0);
    let older = reached(&lake);
    for name in ["c", "d", "e"] {
        lake.table(name, &[]);
    }
    lake.metasync("run", &[]).expect(0);
    let last = reached(&lake);
    assert!(older < last);
    // Its metastore says that it is older than the state: as if the database had been restored.
    let set = |id: &str| {
        lake.sql("target", &format!("UPDATE DATABASE_PARAMS SET PARAM_VALUE = '{id}' WHERE PARAM_KEY = 'repl.last.id'"))
    };
    set(&older.to_string());
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("from_event"), ran.number("events/applied")), (older, last - older), "{}", ran.stdout);
    assert_eq!(reached(&lake), last);
    // A log that was cleaned that far back, or an id that is none, leaves the checkpoint.
    lake.sql("source", &format!("DELETE FROM NOTIFICATION_LOG WHERE EVENT_ID < {last}"));
    for id in ["1", "", "many"] {
        set(id);
        let ran = lake.metasync("run", &[]).expect(0);
        assert_eq!((ran.number("from_event"), ran.number("events/applied")), (last, 0), "{id}: {}", ran.stdout);
        assert_eq!(reached(&lake), last, "{id}");
    }
    lake.assert_in_step();
}

#[test]
fn rule_21_a_partitioned_table_that_only_the_source_dropped_is_known_again() {
    let lake = without_state();
    lake.apply(&[drop_table("days")]);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    let again = without_state();
    // Of a replica that somebody works with it counts, too, that a table is going to be dropped.
    again.apply(&[drop_table("days")]);
    let days = TableName::new("sales", "days");
    again.apply_to_target(&[Change::DropPartitions { table: days, names: vec![PartitionName("dt=1".to_owned())] }]);
    is_refused(&again);
}

/// What others wrote is refused with nothing written, and overwritten by name.
fn is_drift(lake: &Lake, file: &str) {
    let before = lake.files(&lake.root().join("target"));
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("--overwrite-drift"), "{}", refused.stderr);
    assert!(refused.stderr.contains(file), "{}", refused.stderr);
    assert!(before == lake.files(&lake.root().join("target")), "something was written");
}

#[test]
fn rule_20_a_table_that_the_target_refuses_is_no_leave_to_overwrite_files_of_others() {
    let lake = Lake::logged();
    lake.database("sales");
    for name in ["a", "refused"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    lake.metasync("run", &[]).expect(0);
    lake.sql(
        "target",
        "CREATE TRIGGER no BEFORE UPDATE ON TBLS WHEN NEW.TBL_NAME = 'refused' BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    lake.sql(
        "target",
        "CREATE TRIGGER none BEFORE INSERT ON TABLE_PARAMS WHEN NEW.PARAM_KEY = 'k' BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    let mut altered = lake.unmade_table("refused", &[]);
    altered.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutTable(Box::new(altered))]);
    lake.metasync("run", &[]).expect(3);
    lake.metasync("run", &[]).expect(3);
    // Somebody works with the replica's files, and the source's change, too.
    std::fs::write(lake.target("sales.db/a/part-0"), "theirs, and longer").unwrap();
    lake.write("sales.db/a/part-0", "ours");
    is_drift(&lake, "sales.db/a/part-0");
    lake.metasync("run", &["--overwrite-drift"]).expect(3);
    assert_eq!(std::fs::read_to_string(lake.target("sales.db/a/part-0")).unwrap(), "ours");
}

#[test]
fn rule_20_files_of_others_in_the_trees_of_paths_are_not_overwritten() {
    let lake = Lake::logged();
    lake.database("sales");
    let root = lake.root().display().to_string();
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    let more = format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{root}/jobs_copy\"\ndelete = true\n[options]");
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &more)).unwrap();
    lake.write("../jobs/a.jar", "a");
    lake.write("../jobs/b.jar", "b");
    // Before any run of ours nobody knows whose a file of another size is.
    std::fs::create_dir_all(lake.root().join("jobs_copy")).unwrap();
    std::fs::write(lake.root().join("jobs_copy/a.jar"), "theirs, from before").unwrap();
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.stderr.contains("jobs_copy/a.jar"), "{}", refused.stderr);
    assert!(refused.last_word().contains("--adopt"), "{}", refused.stderr);
    lake.metasync("run", &["--adopt"]).expect(0);
    for (file, content) in [("a.jar", "theirs, and longer"), ("theirs.jar", "theirs")] {
        lake.write("../jobs/a.jar", &format!("next to {file}"));
        std::fs::write(lake.root().join("jobs_copy").join(file), content).unwrap();
        let refused = lake.metasync("run", &[]).expect(5);
        assert!(refused.stderr.contains(&format!("jobs_copy/{file}")), "{}", refused.stderr);
        assert!(refused.last_word().contains("--overwrite-drift"), "{}", refused.stderr);
        assert_eq!(std::fs::read_to_string(lake.root().join("jobs_copy").join(file)).unwrap(), content);
        lake.metasync("run", &["--overwrite-drift"]).expect(0);
        assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
    }
}
