//! `metasync run` between two SQLite metastores and two folders: bootstrap, changes of every kind, and runs after those.

use metasync::metastore::Change;
use metasync::model::{CreationMetadata, MaterializationSource, PartitionName, TableName};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::cli::Ran;
use tests::lake::Lake;
use tests::metastores::objects;
use tests::trees::set_mtime;

/// A lake with a partitioned table, a plain one, an empty one, a view and a function.
fn shop() -> Lake {
    filled(Lake::new())
}

fn filled(lake: Lake) -> Lake {
    lake.database("sales");
    let orders = lake.table("orders", &["dt"]);
    for (day, content) in [("2026-11-01", "a"), ("2026-11-02", "bb"), ("a b/c", "odd")] {
        lake.partition(&orders, &[day], content);
    }
    lake.table("items", &[]);
    lake.write("sales.db/items/part-0", "items");
    lake.table("nothing", &["dt"]);
    lake
}

#[test]
fn case_01_a_first_run_brings_everything_and_a_second_finds_nothing_to_do() {
    let lake = shop();
    let first = lake.metasync("run", &[]).expect(0);
    assert_eq!(first.summary()["mode"], "bootstrap");
    assert_eq!(
        (first.number("tables/applied"), first.number("counts/copied")),
        (3, 5),
        "four files and a folder without any"
    );
    lake.assert_in_step();
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!(second.summary()["mode"], "incremental");
    assert_eq!((second.number("tables/touched"), second.number("bytes/written")), (0, 0));
    assert_eq!(second.number("requests/get"), 0, "nothing is read again");
    assert!(second.summary()["as_of"].as_str() > first.summary()["as_of"].as_str());
}

#[test]
fn case_18_19_21_drops_renames_and_properties_end_in_step() {
    let lake = shop();
    lake.metasync("run", &[]).expect(0);
    let orders = TableName::new("sales", "orders");
    let mut items = lake.unmade_table("items", &[]);
    items.parameters.insert("k".to_owned(), "v".to_owned());
    std::fs::remove_dir_all(lake.source("sales.db/orders/dt=2026-11-01")).unwrap();
    lake.apply(&[
        Change::DropPartitions { table: orders.clone(), names: vec![PartitionName("dt=2026-11-01".to_owned())] },
        Change::RenameTable { from: orders, to: TableName::new("sales", "orders2") },
        Change::PutTable(Box::new(items)),
        Change::DropTable(TableName::new("sales", "nothing")),
    ]);
    lake.policy("max_drops = \"100%\"");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.number("counts/copied"), 0, "renamed in place");
    assert_eq!(ran.number("counts/deleted"), 1);
    // The empty table's folder stays at the source, and it was external: its folder stays on the target, too.
    lake.assert_in_step();
}

#[test]
fn case_72_files_that_no_event_tells_of_are_found() {
    let lake = shop();
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/orders/dt=2026-11-02/part-1", "more");
    lake.write("sales.db/items/part-0", "items, but others");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("tables/touched")), (2, 0));
    lake.assert_in_step();
}

tests::over_pairs!(case_48_staging_folders_stay_where_they_are: sqlite_to_sqlite, thrift_to_sql);

fn case_48_staging_folders_stay_where_they_are(lake: Lake) {
    let lake = filled(lake);
    lake.write("sales.db/items/_temporary/0/part-9", "x");
    lake.write("sales.db/orders/dt=2026-11-02/.hive-staging_1/f", "x");
    lake.write("sales.db/items/_SUCCESS", "");
    lake.metasync("run", &[]).expect(0);
    assert!(!lake.target("sales.db/items/_temporary").exists() && lake.target("sales.db/items/_SUCCESS").exists());
    assert!(!lake.target("sales.db/orders/dt=2026-11-02/.hive-staging_1").exists());
}

tests::over_pairs!(case_61_a_table_that_enters_the_policy_is_brought_and_one_that_leaves_it_goes);

fn case_61_a_table_that_enters_the_policy_is_brought_and_one_that_leaves_it_goes(lake: Lake) {
    let lake = filled(lake);
    lake.policy_of("databases = [\"sales\"]\nexclude_tables = [\"sales.items\"]\n", "");
    lake.metasync("run", &[]).expect(0);
    assert!(!lake.target("sales.db/items").exists());
    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    lake.policy_of("databases = [\"sales\"]\nexclude_tables = [\"sales.items\"]\n", "");
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.stderr.contains("--accept-policy-change"), "{}", refused.stderr);
    lake.metasync("run", &["--accept-policy-change"]).expect(0);
    assert!(!lake.dump("target").iter().any(|line| line.contains("\"table\":\"items\"")));
}

#[test]
fn a_table_that_is_made_again_with_other_keys_is_made_again_on_the_replica() {
    let lake = shop();
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[Change::DropTable(TableName::new("sales", "orders"))]);
    std::fs::remove_dir_all(lake.source("sales.db/orders")).unwrap();
    let orders = lake.table("orders", &["region", "dt"]);
    lake.partition(&orders, &["eu", "1"], "x");
    lake.metasync("run", &[]).expect(5);
    lake.policy("max_drops = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn partitions_outside_of_their_table_and_functions_with_files_are_carried() {
    let lake = shop();
    let orders = lake.unmade_table("orders", &["dt"]);
    let mut far = objects::partition(&orders, &["far"]);
    far.storage.location = Some(format!("file:{}", lake.source("elsewhere/far").display()));
    lake.write("elsewhere/far/part-0", "far");
    lake.apply(&[Change::PutPartitions { table: orders.name.clone(), partitions: vec![far] }]);
    lake.metasync("run", &[]).expect(0);
    assert!(lake.target("elsewhere/far/part-0").exists());
    lake.assert_in_step();
    lake.write("elsewhere/far/part-1", "more");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn case_34_a_replica_under_another_name_is_verified_and_followed() {
    let lake = shop();
    let top = "databases = [\"sales\"]\nrename = { sales = \"sales_r\" }\n";
    lake.policy_of(top, "");
    lake.metasync("run", &[]).expect(0);
    lake.metasync("verify", &[]).expect(0);
    assert!(lake.dump("target").iter().any(|line| line.contains("\"database\":\"sales_r\",\"table\":\"orders\"")));
    lake.apply(&[Change::DropTable(TableName::new("sales", "items"))]);
    lake.policy_of(top, "max_drops = 1");
    lake.metasync("run", &[]).expect(0);
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn a_plan_says_what_a_run_then_does_and_changes_nothing() {
    let lake = shop();
    let planned = lake.metasync("plan", &[]).expect(0);
    assert!(planned.stdout.contains("\"step\":\"create\",\"object\":\"table sales.orders\""), "{}", planned.stdout);
    assert!(!lake.root().join("target.db").exists() && !lake.target("").exists());
    lake.metasync("run", &[]).expect(0);
    let nothing = lake.metasync("plan", &[]).expect(0);
    assert!(!nothing.stdout.contains("\"step\""), "{}", nothing.stdout);
}

#[test]
fn rule_31_managed_tables_take_their_files_with_them_and_external_ones_leave_them() {
    let lake = shop();
    let mut managed = lake.unmade_table("managed", &[]);
    managed.table_type = Some("MANAGED_TABLE".to_owned());
    managed.parameters.remove("EXTERNAL");
    lake.apply(&[Change::PutTable(Box::new(managed))]);
    lake.write("sales.db/managed/part-0", "m");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    lake.apply(&[
        Change::DropTable(TableName::new("sales", "managed")),
        Change::DropTable(TableName::new("sales", "items")),
    ]);
    std::fs::remove_dir_all(lake.source("sales.db/managed")).unwrap();
    lake.policy("max_drops = 2");
    lake.metasync("run", &[]).expect(0);
    assert!(!lake.target("sales.db/managed/part-0").exists(), "its files went with it");
    assert!(lake.target("sales.db/items/part-0").exists(), "keep_external_data");
}

#[test]
fn status_tells_how_old_the_replica_is_and_what_is_not_in_step() {
    let lake = shop();
    let before = lake.metasync("status", &[]).expect(0);
    assert!(before.stdout.contains("\"as_of\":null"), "{}", before.stdout);
    let mut acid = lake.unmade_table("acid", &[]);
    acid.parameters.insert("transactional".to_owned(), "true".to_owned());
    lake.apply(&[Change::PutTable(Box::new(acid))]);
    let ran = lake.metasync("run", &[]).expect(3);
    assert_eq!(ran.number("tables/quarantined"), 1);
    let status = lake.shell.metasync(&["status", "p.toml"]).expect(0);
    assert!(status.stdout.contains("3 tables in step, 0 pending, 1 quarantined"), "{}", status.stdout);
    assert!(
        status.stdout.contains("quarantined: sales.acid (never carried): it is an ACID table"),
        "{}",
        status.stdout
    );
    assert!(status.stdout.starts_with("as-of 20"), "{}", status.stdout);
}

#[test]
fn hudi_tables_are_quarantined_by_name_however_they_were_registered_and_the_others_go_on() {
    let lake = Lake::of_two_tables();
    // As Hudi's own synchronisation registers them, read-optimised and real-time; and as Spark does by itself.
    let hudi = "org.apache.hudi.hadoop";
    let read = [("cow", "HoodieParquetInputFormat"), ("mor_rt", "realtime.HoodieParquetRealtimeInputFormat")];
    for (name, class) in read {
        let mut table = lake.unmade_table(name, &["day"]);
        table.storage.input_format = Some(format!("{hudi}.{class}"));
        lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
        lake.partition(&table, &["1"], "rows");
        lake.write(&format!("sales.db/{name}/.hoodie/hoodie.properties"), "hoodie.table.type=COPY_ON_WRITE");
    }
    let mut by_spark = lake.unmade_table("by_spark", &[]);
    by_spark.parameters.insert("spark.sql.sources.provider".to_owned(), "HUDI".to_owned());
    lake.apply(&[Change::PutTable(Box::new(by_spark))]);
    lake.write("sales.db/by_spark/f", "rows");
    for _ in 0..2 {
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!(ran.number("tables/quarantined"), 3, "{}", ran.stdout);
    }
    let status = lake.shell.metasync(&["status", "p.toml"]).expect(0);
    for name in ["cow", "mor_rt", "by_spark"] {
        let line =
            format!("quarantined: sales.{name} (never carried): it is a Hudi table: its timeline is not carried");
        assert!(status.stdout.contains(&line), "{}", status.stdout);
        assert!(!lake.target(&format!("sales.db/{name}")).exists(), "{name}: files without a version are no table");
    }
    assert_eq!(lake.tables("target", "sales").into_iter().collect::<Vec<_>>(), ["a", "b"]);
}

tests::over_pairs!(case_02_a_lost_state_is_built_again_without_copying_anything);

fn case_02_a_lost_state_is_built_again_without_copying_anything(lake: Lake) {
    let lake = filled(lake);
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_dir_all(lake.root().join("state")).unwrap();
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("tables/applied")), (0, 0));
    lake.assert_in_step();
}

#[test]
fn a_resync_of_one_table_leaves_what_is_known_of_the_others() {
    let lake = shop();
    lake.metasync("run", &[]).expect(0);
    lake.metasync("resync", &["--table", "sales.items"]).expect(0);
    let after = lake.metasync("run", &[]).expect(0);
    assert_eq!(after.number("requests/get"), 0, "nothing is read again");
}

#[test]
fn sweep_spares_the_look_at_folders_and_as_of_says_so() {
    let lake = shop();
    lake.policy("sweep = \"1h\"");
    let first = lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/items/part-1", "not seen yet");
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!((second.number("requests/list"), second.number("counts/listed")), (0, 0));
    assert_eq!(second.summary()["as_of"], first.summary()["as_of"], "as old as the look");
    let orders = lake.unmade_table("orders", &["dt"]);
    lake.partition(&orders, &["2026-11-03"], "new");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn paths_of_the_policy_go_along_under_the_same_guards() {
    let lake = shop();
    let root = lake.root().display().to_string();
    let more = format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{root}/jobs_copy\"\ndelete = true\n");
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &format!("{more}[options]"))).unwrap();
    lake.write("../jobs/a.jar", "a");
    lake.write("../jobs/b.jar", "b");
    lake.metasync("run", &[]).expect(0);
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
    std::fs::remove_file(lake.root().join("jobs/a.jar")).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
    std::fs::remove_file(lake.root().join("jobs/b.jar")).unwrap();
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("the source is empty"), "{}", refused.stderr);
}

#[test]
fn a_resync_reads_the_data_that_it_vouches_for_and_mends_it() {
    let lake = shop();
    lake.metasync("run", &[]).expect(0);
    let equal = lake.metasync("resync", &["--table", "sales.items"]).expect(0);
    assert_eq!((equal.number("counts/equal"), equal.number("counts/copied")), (1, 0));
    assert_eq!(equal.number("bytes/read"), 2 * "items".len() as u64, "both sides, whatever the manifest says");
    let damaged = lake.target("sales.db/items/part-0");
    let time = damaged.metadata().unwrap().modified().unwrap();
    std::fs::write(&damaged, "itemz").unwrap();
    set_mtime(&damaged, time);
    lake.metasync("verify", &["--level", "content"]).expect(4);
    let mended = lake.metasync("resync", &["--table", "sales.items"]).expect(0);
    assert_eq!(mended.number("counts/copied"), 1);
    lake.metasync("verify", &["--level", "content"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_run_of_some_tables_forgets_nothing_about_the_others() {
    let lake = shop();
    lake.metasync("run", &[]).expect(0);
    for (verb, table) in [("resync", "sales.items"), ("run", "sales.orders")] {
        lake.write("sales.db/items/part-1", verb);
        lake.metasync(verb, &["--table", table]).expect(0);
        let rest = lake.metasync("run", &[]).expect(0);
        let copied = u64::from(table != "sales.items");
        assert_eq!(rest.number("counts/copied"), copied, "{verb}");
        assert_eq!(rest.number("requests/get"), copied, "{verb}: nothing else is read");
    }
    lake.assert_in_step();
}

#[test]
fn rule_25_between_sweeps_a_run_sees_what_changed_on_either_side() {
    let lake = shop();
    lake.policy("sweep = \"1h\"");
    lake.metasync("run", &[]).expect(0);
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!(idle.summary()["requests"]["list"], 0, "{}", idle.stdout);
    let mut items = lake.unmade_table("items", &[]);
    items.storage.serde.parameters.insert("changed".to_owned(), "only here".to_owned());
    lake.apply(&[Change::PutTable(Box::new(items))]);
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/applied"), 1);
    lake.assert_in_step();
    assert_eq!(lake.metasync("run", &[]).expect(0).number("tables/touched"), 0);
    lake.apply_to_target(&[Change::DropTable(TableName::new("sales", "nothing"))]);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.last_word().contains("table sales.nothing: it was dropped"), "{}", refused.stderr);
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn what_is_written_while_it_is_copied_arrives_with_the_same_run() {
    let lake = shop();
    lake.policy("bwlimit = \"400K\"\nsweep = \"1h\"");
    // A second and more on the way.
    lake.write("sales.db/items/part-0", &"x".repeat(900_000));
    let mut command = lake.shell.metasync_command(&["run", "p.toml", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !lake.target("sales.db/items").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never began to copy");
        std::thread::yield_now();
    }
    lake.write("sales.db/items/part-1", "of the same write");
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    lake.policy("");
    assert!(lake.target("sales.db/items/part-1").exists(), "{}", String::from_utf8_lossy(&ended.stdout));
    lake.assert_in_step();
}

#[test]
fn rule_34_metadata_waits_for_files_that_others_bring() {
    let lake = shop();
    let bring = |path: &str| {
        let (from, to) = (lake.source(path), lake.target(path));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    let told = |ran: &Ran| ran.summary()["behind"].clone();
    lake.policy("data = false");
    let first = lake.metasync("run", &[]).expect(0);
    assert_eq!(told(&first), serde_json::json!(["sales.items", "sales.orders"]), "{}", first.stderr);
    assert_eq!((first.number("counts/copied"), first.summary()["as_of"].is_null()), (0, true));
    assert!(first.stderr.contains("sales.orders waits for"), "{}", first.stderr);
    assert!(
        lake.metasync("plan", &[]).expect(0).stdout.contains("\"step\":\"wait\",\"object\":\"table sales.orders\"")
    );
    let tables = lake.dump("target");
    assert!(!tables.iter().any(|line| line.contains("\"table\":\"orders\"") || line.contains("\"table\":\"items\"")));
    assert!(tables.iter().any(|line| line.contains("\"table\":\"nothing\"")), "what has no files does not wait");
    lake.files(&lake.source("")).keys().for_each(|path| bring(path));
    let second = lake.metasync("run", &[]).expect(0);
    assert!(told(&second).is_null() && second.summary()["as_of"].is_string());
    lake.assert_in_step();
    // A file of another size is not there yet.
    lake.partition(&lake.unmade_table("orders", &["dt"]), &["new"], "rows");
    lake.write("sales.db/items/part-0", "longer than it was");
    let third = lake.metasync("run", &[]).expect(0);
    assert_eq!(told(&third), serde_json::json!(["sales.items", "sales.orders"]));
    assert_eq!(third.summary()["as_of"], second.summary()["as_of"]);
    assert!(!lake.dump("target").iter().any(|line| line.contains("dt=new")));
    lake.metasync("verify", &[]).expect(4);
    lake.files(&lake.source("")).keys().for_each(|path| bring(path));
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    // Nobody keeps manifests here: other content of the same size is found by reading.
    std::fs::write(lake.target("sales.db/items/part-0"), "LONGER than it was").unwrap();
    lake.metasync("verify", &[]).expect(0);
    lake.metasync("verify", &["--level", "content"]).expect(4);
}

#[test]
fn a_materialized_view_comes_after_the_tables_that_it_is_made_of() {
    let lake = shop();
    let source = |name: &str| MaterializationSource {
        table: TableName::new("sales", name),
        inserted: 0,
        updated: 0,
        deleted: 0,
    };
    let mut view = lake.unmade_table("all_of_it", &[]);
    view.table_type = Some("MATERIALIZED_VIEW".to_owned());
    view.parameters.remove("EXTERNAL");
    view.creation_metadata = Some(CreationMetadata {
        sources: vec![source("items"), source("orders")],
        valid_write_ids: None,
        materialization_time: None,
    });
    lake.write("sales.db/all_of_it/part-0", "rows");
    lake.apply(&[Change::PutTable(Box::new(view))]);
    lake.policy("materialized_views = true");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}
