//! Cases of replication, over pairs of metastores or between two in SQLite: many changes between two runs, of several databases,
//! and of objects that the replica never had.

use metasync::metastore::Change;
use metasync::model::{
    CreationMetadata, Database, DatabaseName, MaterializationSource, PartitionName, Principal, PrincipalKind, Table,
    TableName,
};
use metasync::object::Object;
use serde_json::json;
use tests::lake::Lake;
use tests::metastores::objects;

/// Partitions of one call.
const CALL: usize = 500;

fn sales(name: &str) -> TableName {
    TableName::new("sales", name)
}

/// A managed table with one file.
fn managed(lake: &Lake, name: &str) -> Table {
    lake.write(&format!("sales.db/{name}/part-0"), name);
    lake.managed(name, &[])
}

/// Drops a managed table with its files, as an engine does.
fn drop_managed(lake: &Lake, name: &str) {
    lake.apply(&[Change::DropTable(sales(name))]);
    std::fs::remove_dir_all(lake.source(&format!("sales.db/{name}"))).unwrap();
}

/// A database with a table of one file in it.
fn with_table(lake: &Lake, database: &str) -> Table {
    lake.database(database);
    let url = format!("file:{}", lake.root().join("source").display());
    let table = objects::table(TableName::new(database, "t"), &url, &[]);
    lake.write(&format!("{database}.db/t/part-0"), database);
    lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
    table
}

tests::over_pairs!(case_15_several_databases_of_a_policy_are_in_step_by_one_reading_of_the_log);

fn case_15_several_databases_of_a_policy_are_in_step_by_one_reading_of_the_log(lake: Lake) {
    let names = ["sales", "finance_eu", "finance_us"];
    let tables = names.map(|name| with_table(&lake, name));
    with_table(&lake, "private");
    lake.policy_of("databases = [\"sales\", \"finance_*\"]\n", "");
    lake.metasync("run", &[]).expect(0);
    for mut table in tables {
        table.parameters.insert("k".to_owned(), "v".to_owned());
        lake.apply(&[Change::PutTable(Box::new(table))]);
    }
    let ran = lake.metasync("run", &[]).expect(0);
    let (from, to) = (ran.number("from_event"), ran.number("to_event"));
    assert_eq!((to - from, ran.number("events/applied"), ran.number("tables/applied")), (3, 3, 3), "{}", ran.stdout);
    let ids = lake.sql(
        "target",
        "SELECT `NAME`, `PARAM_VALUE` FROM `DBS` JOIN `DATABASE_PARAMS` USING (`DB_ID`) WHERE `PARAM_KEY` = 'repl.last.id' \
         ORDER BY 1",
    );
    let to = to.to_string();
    assert_eq!(ids, [["finance_eu", &to], ["finance_us", &to], ["sales", &to]]);
    assert!(!lake.target("private.db").exists());
    lake.metasync("verify", &[]).expect(0);
}

tests::over_pairs!(case_20_owner_and_properties_of_a_database_change);

fn case_20_owner_and_properties_of_a_database_change(lake: Lake) {
    let made = lake.database("sales");
    let of = |owner: &str, kind: PrincipalKind, parameters: &[(&str, &str)]| {
        let owner = Some(Principal { name: owner.to_owned(), kind });
        Database { owner, parameters: objects::parameters(parameters), ..made.clone() }
    };
    let replica = || {
        let objects = lake.objects("target").into_iter();
        let mut databases = objects.filter_map(|object| match object {
            Object::Database(database) if database.name.database == "sales" => Some(database),
            _ => None,
        });
        databases.next().unwrap()
    };
    for (owner, kind, parameters) in [
        ("ann", PrincipalKind::User, &[("team", "a"), ("goes", "1")][..]),
        ("etl", PrincipalKind::Role, &[("team", "b"), ("comes", "1")][..]),
        ("bob", PrincipalKind::User, &[][..]),
    ] {
        let database = of(owner, kind, parameters);
        lake.apply(&[Change::PutDatabase(database.clone())]);
        lake.metasync("run", &[]).expect(0);
        let held = replica();
        assert_eq!((held.owner, held.parameters), (database.owner, database.parameters));
        lake.assert_in_step();
    }
}

tests::over_pairs!(case_23_what_was_made_used_and_dropped_between_two_runs_is_absent_and_its_copy_is_full);

fn case_23_what_was_made_used_and_dropped_between_two_runs_is_absent_and_its_copy_is_full(lake: Lake) {
    lake.database("sales");
    managed(&lake, "first");
    lake.metasync("run", &[]).expect(0);
    managed(&lake, "brief");
    lake.write("sales.db/brief/part-1", "inserted");
    managed(&lake, "selected");
    lake.write("sales.db/selected/part-1", "inserted");
    drop_managed(&lake, "brief");
    let ran = lake.metasync("run", &[]).expect(0);
    // Two were made, one was dropped; a server says of each new one that it was altered, too.
    let events = ran.number("to_event") - ran.number("from_event");
    assert!(events == 3 || lake.is_served() && events > 3, "{}", ran.stdout);
    assert_eq!((ran.number("events/applied"), ran.number("tables/applied")), (events, 1), "{}", ran.stdout);
    assert!(!lake.target("sales.db/brief").exists());
    lake.assert_in_step();
}

tests::over_pairs!(case_32_a_table_that_moved_to_another_database_is_in_step);

fn case_32_a_table_that_moved_to_another_database_is_in_step(lake: Lake) {
    lake.database("sales");
    with_table(&lake, "other");
    lake.table("a", &[]);
    lake.write("sales.db/a/part-0", "a");
    lake.policy_of("databases = [\"sales\", \"other\"]\n", "");
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[Change::RenameTable { from: sales("a"), to: TableName::new("other", "b") }]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (0, 0), "its files stay in their place");
    lake.assert_in_step();
    // Out of the policy: it is gone.
    lake.database("private");
    lake.apply(&[Change::RenameTable { from: TableName::new("other", "b"), to: TableName::new("private", "b") }]);
    lake.metasync("run", &[]).expect(0);
    assert!(!lake.dump("target").iter().any(|line| line.contains("\"table\":\"b\"")));
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn case_35_materialized_views_are_absent_unless_they_are_asked_for() {
    let lake = Lake::logged();
    lake.database("sales");
    managed(&lake, "base");
    let mut view = lake.unmade_table("counted", &[]);
    view.table_type = Some("MATERIALIZED_VIEW".to_owned());
    view.parameters.remove("EXTERNAL");
    let base = MaterializationSource { table: sales("base"), inserted: 0, updated: 0, deleted: 0 };
    let made_of = CreationMetadata { sources: vec![base], valid_write_ids: None, materialization_time: None };
    view.creation_metadata = Some(made_of);
    lake.write("sales.db/counted/part-0", "rows");
    lake.apply(&[Change::PutTable(Box::new(view))]);
    let is_there = || lake.dump("target").iter().any(|line| line.contains("\"table\":\"counted\""));
    lake.metasync("run", &[]).expect(0);
    assert!(!is_there() && !lake.target("sales.db/counted/part-0").exists());
    lake.metasync("verify", &[]).expect(0);
    lake.policy("materialized_views = true");
    lake.metasync("run", &[]).expect(0);
    assert!(is_there());
    lake.assert_in_step();
    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    assert!(!is_there(), "nobody asks for it any more");
    lake.metasync("verify", &[]).expect(0);
}

tests::over_pairs!(case_39_drops_and_changes_of_what_the_replica_lacks_are_no_error);

fn case_39_drops_and_changes_of_what_the_replica_lacks_are_no_error(lake: Lake) {
    lake.database("sales");
    for name in ["a", "b", "c"] {
        managed(&lake, name);
    }
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["1"], "one");
    lake.metasync("run", &[]).expect(0);
    // What came and went between two runs.
    let mut brief = managed(&lake, "brief");
    brief.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutTable(Box::new(brief))]);
    drop_managed(&lake, "brief");
    lake.partition(&days, &["2"], "two");
    lake.apply(&[Change::DropPartitions { table: days.name, names: vec![PartitionName("dt=2".to_owned())] }]);
    std::fs::remove_dir_all(lake.source("sales.db/days/dt=2")).unwrap();
    // What somebody dropped on the replica first.
    lake.apply_to_target(&[Change::DropTable(sales("a"))]);
    drop_managed(&lake, "a");
    let ran = lake.metasync("run", &[]).expect(0);
    assert!(ran.number("events/applied") >= 6, "{}", ran.stdout);
    lake.assert_same_objects();
    lake.metasync("verify", &[]).expect(0);
    assert_eq!(lake.status()["in_step"], json!(3));
    // It may be made again.
    managed(&lake, "a");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn case_46_a_call_that_adds_500_partitions_is_one_event_and_so_is_one_that_drops_them() {
    let lake = Lake::logged();
    lake.database("sales");
    let days = lake.table("days", &["dt"]);
    lake.metasync("run", &[]).expect(0);
    let values: Vec<String> = (0..CALL).map(|day| format!("{day:03}")).collect();
    let partitions = values.iter().map(|value| objects::partition(&days, &[value])).collect();
    lake.write("sales.db/days/dt=499/part-0", "the last");
    lake.apply(&[Change::PutPartitions { table: days.name.clone(), partitions }]);
    let added = lake.metasync("run", &[]).expect(0);
    assert_eq!(added.summary()["events"]["by_type"], json!({"ADD_PARTITION": 1}), "{}", added.stdout);
    let count = || lake.sql("target", "SELECT CAST(COUNT(*) AS TEXT) FROM PARTITIONS")[0][0].clone();
    assert_eq!(count(), CALL.to_string());
    lake.assert_in_step();
    let names = values.iter().map(|value| PartitionName(format!("dt={value}"))).collect();
    lake.apply(&[Change::DropPartitions { table: days.name, names }]);
    std::fs::remove_dir_all(lake.source("sales.db/days/dt=499")).unwrap();
    lake.policy("max_drops = \"100%\"");
    let dropped = lake.metasync("run", &[]).expect(0);
    assert_eq!(dropped.summary()["events"]["by_type"], json!({"DROP_PARTITION": 1}), "{}", dropped.stdout);
    assert_eq!(count(), "0");
    lake.assert_in_step();
}

tests::over_pairs!(case_54_a_source_that_is_a_replica_itself_is_flagged_in_status);

fn case_54_a_source_that_is_a_replica_itself_is_flagged_in_status(lake: Lake) {
    lake.database("sales");
    managed(&lake, "a");
    lake.metasync("run", &[]).expect(0);
    let (root, target) = (lake.root().display(), lake.url("target"));
    let text = format!(
        "name = \"next\"\nstate = \"{root}/next-state\"\ndatabases = [\"sales\"]\n\
         source.metastore = \"{target}\"\ntarget.metastore = \"sqlite://{root}/third.db\"\n\
         [[locations]]\nfrom = \"file:{root}/target\"\nto = \"file:{root}/third\"\n"
    );
    std::fs::write(lake.root().join("next.toml"), text).unwrap();
    lake.shell.metasync(&["run", "next.toml"]).expect(0);
    let next = lake.shell.metasync(&["status", "next.toml"]).expect(0);
    assert!(next.stdout.contains("the source is itself a replica of another metastore"), "{}", next.stdout);
    let next = lake.shell.metasync(&["status", "next.toml", "--json"]).expect(0);
    assert!(next.stdout.contains("\"is_replica\":true"), "{}", next.stdout);
    assert_eq!(lake.status()["is_replica"], false);
    // A mark on a database that is not in the policy says nothing.
    let other = DatabaseName::new("other");
    lake.database("other");
    lake.apply(&[Change::SetDatabaseParameter {
        database: other,
        key: "repl.last.id".to_owned(),
        expected: None,
        value: Some("7".to_owned()),
    }]);
    assert_eq!(lake.status()["is_replica"], false);
}
