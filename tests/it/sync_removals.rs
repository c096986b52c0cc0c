//! What goes from a replica: metadata first, then the files that nothing else names, into the trash where there is one.

use metasync::metastore::Change;
use metasync::model::{DatabaseName, PartitionName, Table, TableName};
use std::collections::BTreeSet;
use tests::lake::Lake;
use tests::metastores::objects;
use tests::services;

const UNGUARDED: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"";

fn lake() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    lake.policy(UNGUARDED);
    lake
}

fn drop_partitions(lake: &Lake, table: &Table, names: &[&str]) {
    let names = names.iter().map(|name| PartitionName((*name).to_owned())).collect();
    lake.apply(&[Change::DropPartitions { table: table.name.clone(), names }]);
}

fn names(lake: &Lake, sql: &str) -> BTreeSet<String> {
    lake.sql("target", sql).concat().into_iter().collect()
}

/// Keys of the replica's files.
fn there(lake: &Lake) -> Vec<String> {
    lake.files(&lake.target("")).into_keys().collect()
}

#[test]
fn files_of_what_the_target_does_not_drop_stay_until_it_does() {
    for (refusing, what) in [("PARTITIONS", "days"), ("TBLS", "brief")] {
        let lake = lake();
        let days = lake.managed("days", &["dt"]);
        lake.partition(&days, &["1"], "one");
        lake.partition(&days, &["2"], "two");
        lake.managed("brief", &[]);
        lake.write("sales.db/brief/part-0", "brief");
        lake.managed("other", &[]);
        lake.write("sales.db/other/part-0", "other");
        lake.metasync("run", &[]).expect(0);
        let before = there(&lake);
        lake.sql(
            "target",
            &format!(
                "CREATE TRIGGER refuses BEFORE DELETE ON \"{refusing}\" BEGIN SELECT RAISE(ABORT, 'not today'); END"
            ),
        );
        match what {
            "days" => {
                drop_partitions(&lake, &days, &["dt=1"]);
                std::fs::remove_dir_all(lake.source("sales.db/days/dt=1")).unwrap();
            }
            _ => {
                lake.apply(&[Change::DropTable(TableName::new("sales", what))]);
                std::fs::remove_dir_all(lake.source("sales.db/brief")).unwrap();
            }
        }
        for content in ["newer", "newest"] {
            lake.write("sales.db/other/part-0", content);
            let ran = lake.metasync("run", &[]).expect(3);
            assert!(ran.stderr.contains("not today"), "{}", ran.stderr);
            assert!(ran.stderr.contains(&format!("sales.{what} is not in step")), "{}", ran.stderr);
            assert_eq!(lake.status()["quarantined"].as_array().map(Vec::len), Some(1), "{what}");
            assert_eq!((ran.number("counts/deleted"), there(&lake)), (0, before.clone()), "{what}: {}", ran.stdout);
            let held = names(&lake, "SELECT PART_NAME FROM PARTITIONS UNION SELECT TBL_NAME FROM TBLS");
            assert_eq!(held, ["brief", "days", "dt=1", "dt=2", "other"].map(str::to_owned).into(), "{what}");
            assert_eq!(std::fs::read_to_string(lake.target("sales.db/other/part-0")).unwrap(), content);
        }
        lake.sql("target", "DROP TRIGGER refuses");
        let ran = lake.metasync("run", &[]).expect(0);
        assert_eq!(ran.number("counts/deleted"), 1, "{what}: {}", ran.stdout);
        lake.assert_in_step();
    }
}

#[test]
fn a_database_that_the_target_does_not_drop_is_named_and_the_others_go_on() {
    let lake = lake();
    lake.policy_of("databases = [\"sales\", \"old\"]\n", UNGUARDED);
    lake.database("old");
    let brief = objects::table(TableName::new("old", "brief"), &format!("file:{}", lake.source("").display()), &[]);
    std::fs::create_dir_all(lake.source("old.db/brief")).unwrap();
    lake.apply(&[Change::PutTable(Box::new(brief.clone()))]);
    lake.managed("other", &[]);
    lake.metasync("run", &[]).expect(0);
    let refuse = |on: &str| {
        let says = "BEGIN SELECT RAISE(ABORT, 'not today'); END";
        lake.sql("target", &format!("CREATE TRIGGER refuses BEFORE DELETE ON \"{on}\" {says}"));
    };
    lake.apply(&[Change::DropTable(brief.name), Change::DropDatabase(DatabaseName::new("old"))]);
    for (on, words, left) in [("TBLS", "it still holds brief", 2), ("DBS", "not today", 1)] {
        refuse(on);
        lake.write("sales.db/other/part-0", on);
        let ran = lake.metasync("run", &[]).expect(3);
        let named = ran.stderr.lines().find(|line| line.contains("database old is not dropped: "));
        assert!(named.is_some_and(|line| line.contains(words)), "{on}: {}", ran.stderr);
        assert_eq!(std::fs::read_to_string(lake.target("sales.db/other/part-0")).unwrap(), on);
        assert_eq!(names(&lake, "SELECT TBL_NAME FROM TBLS").len(), left, "{on}");
        lake.sql("target", "DROP TRIGGER refuses");
    }
    lake.metasync("run", &[]).expect(0);
    assert!(!names(&lake, "SELECT NAME FROM DBS").contains("old"));
    lake.assert_in_step();
}

/// A managed table: partitions `a` and `b` share a folder, `c` is around `d`, and `e` is around `f`.
fn entangled(lake: &Lake) -> Table {
    let days = lake.managed("days", &["dt"]);
    for (day, folder) in [
        ("a", "shared"),
        ("b", "shared"),
        ("c", "outer"),
        ("d", "outer/x/inner"),
        ("e", "around"),
        ("f", "around/inner"),
    ] {
        lake.write(&format!("sales.db/days/{folder}/part-0"), folder);
        lake.partition_in(&days, day, folder);
    }
    days
}

#[test]
fn rule_28_partitions_that_share_a_folder_or_lie_in_each_other_lose_no_files_to_each_others_drops() {
    let lake = lake();
    let days = entangled(&lake);
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    lake.write("sales.db/days/shared/part-1", "more");
    lake.write("sales.db/days/outer/x/inner/part-1", "more");
    assert_eq!(lake.metasync("run", &[]).expect(0).number("counts/copied"), 2, "each file once");
    lake.assert_in_step();

    // A shared one, an outer one, an inner one. What nobody else names goes, at the source as an engine would.
    drop_partitions(&lake, &days, &["dt=a", "dt=c", "dt=f"]);
    std::fs::remove_file(lake.source("sales.db/days/outer/part-0")).unwrap();
    std::fs::remove_dir_all(lake.source("sales.db/days/around/inner")).unwrap();
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.number("counts/deleted"), 2, "{}", ran.stdout);
    let left = ["around/part-0", "outer/x/inner/part-0", "outer/x/inner/part-1", "shared/part-0", "shared/part-1"];
    assert_eq!(there(&lake), left.map(|file| format!("sales.db/days/{file}")));
    lake.assert_in_step();

    // The last one that names a folder takes its files along.
    drop_partitions(&lake, &days, &["dt=b", "dt=d"]);
    std::fs::remove_dir_all(lake.source("sales.db/days/shared")).unwrap();
    std::fs::remove_dir_all(lake.source("sales.db/days/outer")).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake), ["sales.db/days/around/part-0"]);
    lake.assert_in_step();
}

#[test]
fn rule_28_files_stay_under_the_folder_of_another_partition_although_the_source_has_them_no_more() {
    let lake = lake();
    let days = entangled(&lake);
    lake.metasync("run", &[]).expect(0);
    let before = there(&lake);
    // The source keeps everything that was dropped: so does the replica where somebody else names it.
    drop_partitions(&lake, &days, &["dt=a", "dt=f"]);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake), before);
    lake.assert_in_step();
    // The whole table goes, and only files that belong to nobody else: one stands in the folder of a partition.
    let other = lake.managed("other", &["dt"]);
    let mut partition = objects::partition(&other, &["1"]);
    partition.storage.location = Some(format!("file:{}", lake.source("sales.db/days/around").display()));
    lake.apply(&[Change::PutPartitions { table: other.name, partitions: vec![partition] }]);
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[Change::DropTable(days.name)]);
    lake.metasync("run", &[]).expect(0);
    let kept = |file: &str| there(&lake).contains(&format!("sales.db/days/around/{file}"));
    assert!(kept("part-0") && kept("inner/part-0"), "{:?}", there(&lake));
    lake.metasync("verify", &[]).expect(0);
}

#[test]
fn rule_31_files_of_a_dropped_external_table_with_purge_go_to_the_trash_of_the_policy() {
    for with_trash in [true, false] {
        let lake = lake();
        let trash = lake.root().join("trash");
        let top = match with_trash {
            true => format!("databases = [\"sales\"]\ntrash = \"{}\"\n", trash.display()),
            false => "databases = [\"sales\"]\n".to_owned(),
        };
        let retention = if with_trash { "trash_retention = \"30d\"\n" } else { "" };
        lake.policy_of(&top, &format!("{retention}{UNGUARDED}"));
        for (name, purges) in [("purged", "TRUE"), ("kept", "FALSE")] {
            let mut table = lake.unmade_table(name, &["dt"]);
            table.parameters.insert("external.table.purge".to_owned(), purges.to_owned());
            lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
            lake.partition(&table, &["1"], &format!("rows of {name}"));
        }
        lake.table("other", &[]);
        lake.metasync("run", &[]).expect(0);
        lake.apply(&["purged", "kept"].map(|name| Change::DropTable(TableName::new("sales", name))));
        let ran = lake.metasync("run", &[]).expect(0);
        assert_eq!((ran.number("tables/applied"), ran.number("counts/deleted")), (2, 1), "{}", ran.stdout);
        assert_eq!(there(&lake), ["sales.db/kept/dt=1/part-0"], "an external one leaves what it had");
        let trashed = lake.files(&trash);
        let rows: Vec<&String> = trashed.values().filter(|content| content.starts_with("rows of ")).collect();
        let expected: &[&str] = if with_trash { &["rows of purged"] } else { &[] };
        assert_eq!(rows, expected, "{:?}", trashed.keys());
        let named = trashed.keys().any(|key| key.ends_with("/purged/dt=1/part-0"));
        assert_eq!(named, with_trash, "{trashed:?}");
    }
}

#[test]
fn rule_27_a_nightly_overwrite_of_everything_is_ordinary_and_the_loss_of_most_files_is_not() {
    const FILES: usize = 60;
    let lake = Lake::logged();
    lake.database("sales");
    let write = |night: usize| {
        for name in ["a", "b"] {
            (0..FILES)
                .for_each(|at| lake.write(&format!("sales.db/{name}/part-{at}-night-{night}"), &format!("{night}")));
        }
    };
    let gone = |night: usize, from: usize| {
        for name in ["a", "b"] {
            let path = |at| lake.source(&format!("sales.db/{name}/part-{at}-night-{night}"));
            (from..FILES).for_each(|at| std::fs::remove_file(path(at)).unwrap());
        }
    };
    ["a", "b"].iter().for_each(|name| drop(lake.table(name, &[])));
    write(1);
    lake.metasync("run", &[]).expect(0);
    // No event tells of it, and every file has another name.
    gone(1, 0);
    write(2);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/deleted")), (120, 120), "{}", ran.stdout);
    gone(2, 20);
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(refused.stderr.contains("80 of 120 objects on the target would be deleted"), "{}", refused.stderr);
    assert!(refused.last_word().contains("options.max_deletes"), "{}", refused.stderr);
    lake.policy("max_deletes = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn rule_28_of_a_dropped_tables_files_those_stay_that_somebody_else_changed() {
    let lake = lake();
    let brief = lake.managed("brief", &[]);
    for file in ["ours", "changed", "replaced"] {
        lake.write(&format!("sales.db/brief/{file}"), file);
    }
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[Change::DropTable(brief.name)]);
    std::fs::remove_dir_all(lake.source("sales.db/brief")).unwrap();
    std::fs::write(lake.target("sales.db/brief/changed"), "by somebody").unwrap();
    std::fs::write(lake.target("sales.db/brief/replaced"), "REPLACED").unwrap();
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/deleted"), ran.number("counts/skipped")), (1, 2), "{}", ran.stdout);
    assert_eq!(there(&lake), ["changed", "replaced"].map(|file| format!("sales.db/brief/{file}")));
    assert!(names(&lake, "SELECT TBL_NAME FROM TBLS").is_empty());
    assert!(ran.stdout.contains("somebody else wrote it"), "{}", ran.stdout);
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!((idle.number("counts/deleted"), idle.number("counts/skipped")), (0, 0), "{}", idle.stdout);
}

#[test]
fn rule_28_what_others_wrote_while_files_waited_for_their_removal_stays() {
    let lake = lake();
    let brief = lake.managed("brief", &[]);
    for file in ["ours", "changed", "ours too"] {
        lake.write(&format!("sales.db/brief/{file}"), file);
    }
    lake.managed("other", &[]);
    lake.write("sales.db/other/part-0", "other");
    lake.metasync("run", &[]).expect(0);
    std::fs::write(lake.target("sales.db/brief/strange"), "nobody knows it").unwrap();
    lake.apply(&[Change::DropTable(brief.name)]);
    std::fs::remove_dir_all(lake.source("sales.db/brief")).unwrap();
    let mut other = lake.unmade_table("other", &[]);
    other.table_type = Some("MANAGED_TABLE".to_owned());
    other.parameters.insert("round".to_owned(), "2".to_owned());
    lake.apply(&[Change::PutTable(Box::new(other))]);
    let refuses = "BEGIN SELECT RAISE(ABORT, 'not today'); END";
    lake.sql("target", &format!("CREATE TRIGGER refuses BEFORE INSERT ON TABLE_PARAMS {refuses}"));
    // One table of the tree is not as it shall be: nothing in the tree goes, but the other one is dropped.
    lake.metasync("run", &[]).expect(3);
    assert_eq!(names(&lake, "SELECT TBL_NAME FROM TBLS"), ["other".to_owned()].into());
    assert!(lake.target("sales.db/brief/ours").exists());
    for theirs in ["changed", "new"] {
        std::fs::write(lake.target(&format!("sales.db/brief/{theirs}")), "somebody else's").unwrap();
    }
    // Also by a run that does not come so far.
    lake.metasync("run", &[]).expect(3);
    lake.sql("target", "DROP TRIGGER refuses");
    let plan = lake.metasync("plan", &[]).expect(0);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("counts/deleted"), ran.number("counts/skipped")), (3, 2), "{}\n{}", plan.stdout, ran.stdout);
    let brief = ["changed", "new"].map(|file| format!("sales.db/brief/{file}"));
    assert_eq!(there(&lake), [brief.as_slice(), &["sales.db/other/part-0".to_owned()]].concat());
}

#[test]
fn rule_28_a_table_that_was_made_again_elsewhere_leaves_nothing_where_it_was() {
    for refused in [false, true] {
        let lake = lake();
        let brief = lake.managed("brief", &[]);
        lake.write("sales.db/brief/part-0", "first");
        lake.write("sales.db/brief/part-1", "first");
        lake.metasync("run", &[]).expect(0);
        lake.apply(&[Change::DropTable(brief.name.clone())]);
        std::fs::remove_dir_all(lake.source("sales.db/brief")).unwrap();
        let elsewhere = Some(format!("file:{}", lake.source("sales.db/elsewhere").display()));
        let mut again = brief;
        again.storage.location = elsewhere;
        lake.apply(&[Change::PutTable(Box::new(again))]);
        lake.write("sales.db/elsewhere/part-0", "second");
        if refused {
            let refuses = "BEGIN SELECT RAISE(ABORT, 'not today'); END";
            lake.sql("target", &format!("CREATE TRIGGER refuses BEFORE UPDATE ON SDS {refuses}"));
            lake.metasync("run", &[]).expect(3);
            let brief = ["part-0", "part-1"].map(|file| format!("sales.db/brief/{file}"));
            assert!(brief.iter().all(|file| there(&lake).contains(file)), "{:?}", there(&lake));
            lake.sql("target", "DROP TRIGGER refuses");
        }
        lake.metasync("run", &[]).expect(0);
        assert_eq!(there(&lake), ["sales.db/elsewhere/part-0"], "refused before: {refused}");
        lake.assert_in_step();
    }
}

/// Puts a partition into this folder of the lake.
fn partition_at(lake: &Lake, table: &Table, day: &str, folder: &str) {
    let mut partition = objects::partition(table, &[day]);
    partition.storage.location = Some(format!("file:{}", lake.source(folder).display()));
    lake.apply(&[Change::PutPartitions { table: table.name.clone(), partitions: vec![partition] }]);
}

/// A managed table of the days 1 to 4, of which 1 and 2 stand beside it, and 3 in another place of the lake; and one more table.
fn scattered(lake: &Lake) -> Table {
    let days = lake.managed("days", &["dt"]);
    for (day, folder) in [("1", "sales.db/old-1"), ("2", "sales.db/old-2"), ("3", "elsewhere/3")] {
        partition_at(lake, &days, day, folder);
        lake.write(&format!("{folder}/part-0"), day);
    }
    lake.partition(&days, &["4"], "four");
    lake.managed("other", &[]);
    lake.write("sales.db/other/part-0", "other");
    days
}

#[test]
fn rule_28_what_a_partition_had_outside_its_table_goes_with_it() {
    let lake = lake();
    let days = scattered(&lake);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake).len(), 5);
    drop_partitions(&lake, &days, &["dt=1", "dt=3"]);
    for folder in ["sales.db/old-1", "elsewhere/3"] {
        std::fs::remove_dir_all(lake.source(folder)).unwrap();
    }
    // That one stands elsewhere now, and what it had stays at the source.
    partition_at(&lake, &days, "2", "sales.db/new-2");
    lake.write("sales.db/new-2/part-0", "two");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.number("counts/deleted"), 2, "{}", ran.stdout);
    let left = ["sales.db/days/dt=4/part-0", "sales.db/new-2/part-0", "sales.db/old-2/part-0", "sales.db/other/part-0"];
    assert_eq!(there(&lake), left);
    lake.assert_in_step();
}

#[test]
fn rule_28_what_partitions_had_outside_their_table_goes_when_it_is_dropped() {
    for refused in [false, true] {
        let lake = lake();
        let days = scattered(&lake);
        // What another table has stays.
        let mut shares = lake.unmade_table("shares", &[]);
        shares.storage.location = Some(format!("file:{}", lake.source("sales.db/old-2").display()));
        lake.apply(&[Change::PutTable(Box::new(shares))]);
        lake.metasync("run", &[]).expect(0);
        lake.apply(&[Change::DropTable(days.name)]);
        for folder in ["sales.db/days", "sales.db/old-1", "elsewhere"] {
            std::fs::remove_dir_all(lake.source(folder)).unwrap();
        }
        if refused {
            let refuses = "BEGIN SELECT RAISE(ABORT, 'not today'); END";
            lake.sql("target", &format!("CREATE TRIGGER refuses BEFORE DELETE ON TBLS {refuses}"));
            lake.metasync("run", &[]).expect(3);
            assert_eq!(there(&lake).len(), 5);
            lake.sql("target", "DROP TRIGGER refuses");
        }
        lake.metasync("run", &[]).expect(0);
        assert_eq!(there(&lake), ["sales.db/old-2/part-0", "sales.db/other/part-0"], "refused before: {refused}");
        lake.assert_in_step();
    }
}

#[test]
fn rule_28_what_the_target_still_names_stays_though_a_run_before_gave_it_up() {
    let lake = lake();
    let days = scattered(&lake);
    lake.metasync("run", &[]).expect(0);
    let before = there(&lake);
    drop_partitions(&lake, &days, &["dt=1", "dt=3"]);
    for folder in ["sales.db/old-1", "elsewhere/3"] {
        std::fs::remove_dir_all(lake.source(folder)).unwrap();
    }
    let refuses = "BEGIN SELECT RAISE(ABORT, 'not today'); END";
    lake.sql("target", &format!("CREATE TRIGGER refuses BEFORE DELETE ON PARTITIONS {refuses}"));
    lake.metasync("run", &[]).expect(3);
    // One of the two is in use again.
    lake.write("elsewhere/3/part-9", "somebody's");
    lake.metasync("run", &[]).expect(3);
    assert_eq!(there(&lake), before);
    lake.sql("target", "DROP TRIGGER refuses");
    lake.metasync("run", &[]).expect(0);
    let mut left = before;
    left.retain(|path| !path.starts_with("sales.db/old-1"));
    assert_eq!(there(&lake), left);
    std::fs::remove_dir_all(lake.source("elsewhere")).unwrap();
    lake.metasync("run", &[]).expect(0);
    left.retain(|path| !path.starts_with("elsewhere"));
    assert_eq!(there(&lake), left);
    lake.assert_in_step();
}

#[test]
fn rule_28_what_a_metastore_removes_after_it_forgot_it_goes_with_a_later_run() {
    let lake = lake();
    let days = scattered(&lake);
    lake.metasync("run", &[]).expect(0);
    let before = there(&lake);
    drop_partitions(&lake, &days, &["dt=1", "dt=3"]);
    for _ in 0..2 {
        lake.metasync("run", &[]).expect(0);
        assert_eq!(there(&lake), before);
    }
    // By then others may have come.
    std::fs::write(lake.target("elsewhere/3/theirs"), "nobody knows it").unwrap();
    for folder in ["sales.db/old-1", "elsewhere/3"] {
        std::fs::remove_dir_all(lake.source(folder)).unwrap();
    }
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(ran.number("counts/deleted"), 2, "{}", ran.stdout);
    let left = ["elsewhere/3/theirs", "sales.db/days/dt=4/part-0", "sales.db/old-2/part-0", "sales.db/other/part-0"];
    assert_eq!(there(&lake), left);
    std::fs::remove_file(lake.target("elsewhere/3/theirs")).unwrap();
    lake.assert_in_step();
}

#[test]
fn rule_28_a_table_is_dropped_whose_partition_stood_in_a_bucket_that_is_gone() {
    let Some(server) = services::s3() else { return };
    let mut lake = lake();
    lake.shell = lake.shell.clone().with_s3(&server);
    let (bucket, replica) = (server.fresh_bucket("old"), lake.root().join("replica"));
    lake.policy(&format!("{UNGUARDED}\n[[locations]]\nfrom = \"s3://{bucket}\"\nto = \"file:{}\"", replica.display()));
    let days = scattered(&lake);
    let mut partition = objects::partition(&days, &["5"]);
    partition.storage.location = Some(format!("s3a://{bucket}/days/5"));
    lake.apply(&[Change::PutPartitions { table: days.name.clone(), partitions: vec![partition] }]);
    let file = server.file_of(&bucket, "days/5/part-0");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, "five").unwrap();
    lake.metasync("run", &[]).expect(0);
    assert!(replica.join("days/5/part-0").exists());
    lake.apply(&[Change::DropTable(days.name)]);
    for folder in ["sales.db/days", "sales.db/old-1", "sales.db/old-2", "elsewhere"] {
        std::fs::remove_dir_all(lake.source(folder)).unwrap();
    }
    std::fs::rename(server.file_of(&bucket, ""), server.file_of(&format!("{bucket}-aside"), "")).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake), ["sales.db/other/part-0"]);
    assert!(!replica.join("days/5/part-0").exists());
    lake.assert_in_step();
}

#[test]
fn rule_31_what_partitions_of_an_external_table_had_stays() {
    let lake = lake();
    let days = lake.table("days", &["dt"]);
    for day in ["1", "2"] {
        partition_at(&lake, &days, day, &format!("elsewhere/{day}"));
        lake.write(&format!("elsewhere/{day}/part-0"), day);
    }
    lake.metasync("run", &[]).expect(0);
    drop_partitions(&lake, &days, &["dt=1"]);
    std::fs::remove_dir_all(lake.source("elsewhere/1")).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake), ["elsewhere/1/part-0", "elsewhere/2/part-0"]);
    lake.apply(&[Change::DropTable(days.name)]);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake), ["elsewhere/1/part-0", "elsewhere/2/part-0"]);
}

#[test]
fn what_a_table_left_stays_while_the_source_shows_nothing_of_that_place() {
    let lake = lake();
    let (away, replica) = (lake.root().join("away"), lake.root().join("replica"));
    let pair = format!("from = \"file:{}\"\nto = \"file:{}\"", away.display(), replica.display());
    lake.policy(&format!("{UNGUARDED}\n[[locations]]\n{pair}"));
    let mut days = lake.unmade_table("days", &[]);
    days.table_type = Some("MANAGED_TABLE".to_owned());
    days.storage.location = Some(format!("file:{}", away.join("days").display()));
    std::fs::create_dir_all(away.join("days")).unwrap();
    std::fs::write(away.join("days/part-0"), "first").unwrap();
    lake.apply(&[Change::PutTable(Box::new(days.clone()))]);
    lake.metasync("run", &[]).expect(0);
    days.storage.location = Some(format!("file:{}", lake.source("sales.db/days").display()));
    lake.apply(&[Change::PutTable(Box::new(days.clone()))]);
    lake.write("sales.db/days/part-0", "second");
    // A mount that is not there shows an empty folder, or none.
    std::fs::rename(&away, lake.root().join("unmounted")).unwrap();
    let ran = lake.metasync("run", &[]).expect(0);
    assert!(ran.stderr.contains("/away shows nothing at all"), "{}", ran.stderr);
    assert_eq!(there(&lake), ["sales.db/days/part-0"]);
    assert!(replica.join("days/part-0").exists());
}

#[test]
fn rule_06_a_dropped_table_that_is_a_tree_of_its_own_is_counted_over_all_trees() {
    let lake = lake();
    let big = |name: &str, folder: &str, files: usize| {
        let mut table = lake.unmade_table(name, &[]);
        table.table_type = Some("MANAGED_TABLE".to_owned());
        table.storage.location = Some(format!("file:{}", lake.source(folder).display()));
        lake.apply(&[Change::PutTable(Box::new(table))]);
        (0..files).for_each(|at| lake.write(&format!("{folder}/part-{at}"), name));
    };
    big("first", "apart/first", 120);
    big("second", "apart-too/second", 130);
    big("third", "sales.db/third", 20);
    lake.policy("max_drops = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[Change::DropTable(TableName::new("sales", "first"))]);
    std::fs::remove_dir_all(lake.source("apart/first")).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake).len(), 150);
    lake.apply(&[Change::DropTable(TableName::new("sales", "second"))]);
    std::fs::remove_dir_all(lake.source("apart-too/second")).unwrap();
    let refused = lake.metasync("run", &[]).expect(5);
    assert!(
        refused.stderr.contains("130 of 150 files on the target would go, 130 of them with tables"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("options.max_deletes"), "{}", refused.stderr);
    assert_eq!(there(&lake).len(), 150);
}

tests::over_pairs!(files_of_what_a_server_does_not_drop_stay_until_it_does: sql_to_strict_thrift);

fn files_of_what_a_server_does_not_drop_stay_until_it_does(lake: Lake) {
    lake.database("sales");
    lake.policy(UNGUARDED);
    let brief = lake.managed("brief", &[]);
    lake.write("sales.db/brief/part-0", "brief");
    let days = lake.managed("days", &["dt"]);
    lake.partition(&days, &["1"], "one");
    lake.partition(&days, &["2"], "two");
    lake.metasync("run", &[]).expect(0);
    let before = there(&lake);
    for (table, named) in [("TBLS", "table sales.brief"), ("PARTITIONS", "sales.days")] {
        let folder = match table {
            "TBLS" => {
                lake.apply(&[Change::DropTable(brief.name.clone())]);
                "sales.db/brief"
            }
            _ => {
                drop_partitions(&lake, &days, &["dt=1"]);
                "sales.db/days/dt=1"
            }
        };
        std::fs::remove_dir_all(lake.source(folder)).unwrap();
        lake.sql(
            "target",
            &format!(
                "CREATE OR REPLACE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'not today'; END $$; \
                 CREATE TRIGGER refuses BEFORE DELETE ON `{table}` FOR EACH ROW EXECUTE FUNCTION refuses()"
            ),
        );
        let refused = lake.metasync("run", &[]).expect(3);
        assert!(refused.stderr.contains(named), "{}", refused.stderr);
        // One tree: nothing in it goes while anything of it is not as it shall be.
        assert_eq!(there(&lake), before, "{table}");
        lake.sql("target", &format!("DROP TRIGGER refuses ON `{table}`"));
    }
    lake.metasync("run", &[]).expect(0);
    assert_eq!(there(&lake), ["sales.db/days/dt=2/part-0"]);
    lake.assert_in_step();
}
