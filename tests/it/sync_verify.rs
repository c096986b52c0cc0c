//! `metasync verify`: what is behind and what is wrong, parts of the data run by run, repairs, and what is kept of it.

use metasync::metastore::Change;
use metasync::model::{DatabaseName, TableName};
use serde_json::{Value, json};
use std::path::Path;
use tests::cli::Ran;
use tests::lake::Lake;
use tests::metastores::objects;
use tests::trees::set_mtime;

/// Files of the table whose data is read slice by slice.
const FILES: usize = 40;

/// A lake with a partitioned table and a plain one, and its replica in step.
fn replica() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    let orders = lake.table("orders", &["dt"]);
    for day in ["1", "2"] {
        lake.partition(&orders, &[day], &format!("day {day}"));
    }
    lake.table("items", &[]);
    lake.write("sales.db/items/part-0", "items");
    lake.write("sales.db/items/part-1", "more items");
    lake.metasync("run", &[]).expect(0);
    lake
}

/// Findings of a verification: mark and object, places without the root of the replica.
fn told(lake: &Lake, ran: &Ran) -> Vec<(String, String)> {
    let lines = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let root = format!("{}/", lake.target("").display()).replace("//", "/");
    lines
        .filter(|line| line["type"] == "difference")
        .map(|line| (text(&line["mark"]), text(&line["object"]).replace(&root, "")))
        .collect()
}

fn pairs(found: &[(&str, &str)]) -> Vec<(String, String)> {
    found.iter().map(|(mark, object)| ((*mark).to_owned(), (*object).to_owned())).collect()
}

/// Other bytes of the same length at the same time.
fn rot(path: &Path) {
    let time = path.metadata().unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
    set_mtime(path, time);
}

#[test]
fn what_the_source_changed_since_is_behind_and_no_error() {
    let lake = replica();
    assert_eq!(told(&lake, &lake.metasync("verify", &[]).expect(0)), []);
    // Writers go on at the source: a table, a partition, files that come, change and go.
    lake.table("fresh", &[]);
    lake.partition(&lake.unmade_table("orders", &["dt"]), &["3"], "day 3");
    std::fs::write(lake.source("sales.db/items/part-0"), "changed").unwrap();
    std::fs::write(lake.source("sales.db/items/part-2"), "new").unwrap();
    std::fs::remove_file(lake.source("sales.db/items/part-1")).unwrap();
    let ran = lake.metasync("verify", &[]).expect(0);
    let behind = [
        ("behind", "table sales.fresh"),
        ("behind", "partition dt=3 of sales.orders"),
        ("behind", "sales.db/items/part-0"),
        ("behind", "sales.db/items/part-1"),
        ("behind", "sales.db/items/part-2"),
    ];
    let found = told(&lake, &ran);
    for one in pairs(&behind) {
        assert!(found.contains(&one), "{one:?} in {found:?}");
    }
    assert!(found.iter().all(|(mark, _)| mark == "behind"), "{found:?}");
    assert_eq!(ran.summary()["outcome"], "done");
    assert!(ran.number("data/behind") >= 3 && ran.number("metadata/behind") == 2, "{}", ran.stdout);
    // Damage is told from it, also where the source has moved on.
    std::fs::write(lake.target("sales.db/items/part-0"), "somebody").unwrap();
    std::fs::write(lake.target("sales.db/orders/dt=1/extra"), "somebody").unwrap();
    let wrong = told(&lake, &lake.metasync("verify", &[]).expect(4));
    for one in pairs(&[("differ", "sales.db/items/part-0"), ("only_target", "sales.db/orders/dt=1/extra")]) {
        assert!(wrong.contains(&one), "{one:?} in {wrong:?}");
    }
    assert!(wrong.contains(&pairs(&[("behind", "sales.db/items/part-1")])[0]), "{wrong:?}");
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    lake.assert_in_step();
    // A table that an event names, and that somebody changed on the replica: wrong, for all that the event says.
    let mut items = lake.unmade_table("items", &[]);
    items.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutTable(Box::new(items))]);
    assert_eq!(told(&lake, &lake.metasync("verify", &[]).expect(0)), pairs(&[("behind", "table sales.items")]));
    lake.sql("target", "UPDATE TBLS SET OWNER = 'somebody' WHERE TBL_NAME = 'items'");
    assert_eq!(told(&lake, &lake.metasync("verify", &[]).expect(4)), pairs(&[("differ", "table sales.items")]));
}

#[test]
fn what_is_wrong_is_mended_and_looked_at_again() {
    let lake = replica();
    rot(&lake.target("sales.db/items/part-0"));
    std::fs::remove_file(lake.target("sales.db/items/part-1")).unwrap();
    std::fs::write(lake.target("sales.db/orders/dt=1/extra"), "extra").unwrap();
    let mut extra = objects::table(TableName::new("sales", "extra"), "file:/nowhere", &[]);
    extra.owner = None;
    lake.apply_to_target(&[Change::PutTable(Box::new(extra))]);
    lake.sql("target", "UPDATE TABLE_PARAMS SET PARAM_VALUE = 'LZ4' WHERE PARAM_KEY = 'parquet.compression'");
    let before = lake.metasync("verify", &["--level", "content"]).expect(4);
    assert!(before.stderr.contains("metasync verify --repair"), "{}", before.stderr);
    let status = lake.status();
    let last = &status["last_verify"];
    assert_eq!(
        (&last["outcome"], &last["level"], &last["left_wrong"]),
        (&json!("differs"), &json!("content"), &json!(null))
    );
    assert!(last["wrong"].as_u64() >= Some(6), "{status}");
    let mended = lake.metasync("verify", &["--level", "content", "--repair"]).expect(0);
    assert_eq!(told(&lake, &mended), told(&lake, &before), "nothing is told after the repair");
    assert_eq!((mended.number("repair/copied"), mended.number("repair/deleted")), (2, 1), "{}", mended.stdout);
    let last = &lake.status()["last_verify"];
    assert_eq!((&last["exit_code"], &last["left_wrong"]), (&json!(0), &json!(0)));
    assert_eq!(told(&lake, &lake.metasync("verify", &["--level", "content"]).expect(0)), []);
    lake.assert_in_step();
    let idle = lake.metasync("verify", &["--repair"]).expect(0);
    assert!(idle.summary()["repair"].is_null(), "what is right is left alone");
}

#[test]
fn a_repair_keeps_to_the_guards_and_to_the_lease() {
    let lake = replica();
    for name in ["a", "b", "c"] {
        let extra = objects::table(TableName::new("sales", name), "file:/nowhere", &[]);
        lake.apply_to_target(&[Change::PutTable(Box::new(extra))]);
    }
    let tables = lake.dump("target");
    let refused = lake.metasync("verify", &["--repair"]).expect(5);
    assert!(refused.last_word().contains("max_drops"), "{}", refused.stderr);
    assert_eq!(lake.dump("target"), tables, "nothing was changed");
    assert_eq!(lake.status()["last_verify"]["outcome"], "refused");
    lake.policy("max_drops = \"100%\"");
    lake.metasync("verify", &["--repair"]).expect(0);
    lake.assert_in_step();
}

#[test]
fn slices_one_after_another_read_everything_once() {
    let lake = Lake::new();
    lake.database("sales");
    lake.table("items", &[]);
    (0..FILES).for_each(|at| lake.write(&format!("sales.db/items/part-{at:02}"), &format!("rows of file {at:02}")));
    lake.metasync("run", &[]).expect(0);
    rot(&lake.target("sales.db/items/part-17"));
    let (mut objects, mut wrong) = (0, 0);
    for run in 1..=4 {
        let ran = lake.metasync("verify", &["--sample", "1/4"]);
        wrong += usize::from(ran.code == 4);
        assert!([0, 4].contains(&ran.code), "{}", ran.stderr);
        objects += ran.number("coverage/objects");
        let coverage = &ran.summary()["coverage"];
        assert_eq!((&coverage["slice"], &coverage["cycle"]), (&json!(format!("{run}/4")), &json!(1)));
        assert_eq!((&coverage["runs_left"], &coverage["is_cycle_done"]), (&json!(4 - run), &json!(run == 4)));
        assert_eq!(ran.number("bytes_read"), ran.number("coverage/bytes"), "nothing else is read");
    }
    assert_eq!(
        (objects, wrong),
        (FILES as u64, 1),
        "each once, and what is rotten is found by the slice that it is in"
    );
    let status = lake.status();
    assert_eq!(
        (&status["last_verify"]["coverage"]["slice"], &status["last_verify"]["level"]),
        (&json!("4/4"), &json!("listing"))
    );
    // The next cycle, by bytes: what is rotten is mended as it is found.
    let (mut objects, mut cycle_done, mut runs) = (0, false, 0);
    while !cycle_done {
        let ran = lake.metasync("verify", &["--budget", "200", "--repair"]).expect(0);
        assert!(ran.number("coverage/bytes") <= 200);
        objects += ran.number("coverage/objects");
        cycle_done = ran.summary()["coverage"]["is_cycle_done"] == true;
        runs += 1;
        assert!(runs < 2 * FILES, "it comes to an end");
    }
    assert_eq!((objects, runs), (FILES as u64, 7), "six a run of 32 bytes on both sides");
    lake.assert_in_step();
    lake.metasync("verify", &["--level", "content"]).expect(0);
    let both = lake.metasync("verify", &["--sample", "1/4", "--level", "content"]).expect(2);
    assert!(both.last_word().contains("--level content"), "{}", both.stderr);
    lake.metasync("verify", &["--sample", "1/4", "--table", "sales.items"]).expect(2);
}

#[test]
fn the_last_reports_are_kept_and_no_more() {
    let lake = replica();
    let kept = || std::fs::read_dir(lake.root().join("state/sales/verifications")).unwrap().count();
    for _ in 0..4 {
        lake.metasync("verify", &["--keep-runs", "3"]).expect(0);
    }
    assert_eq!(kept(), 3);
    lake.metasync("verify", &["--keep-runs", "3", "--no-lease"]).expect(0);
    assert_eq!(kept(), 4, "without a lease nothing is removed");
    let runs = lake.root().join("state/sales/runs");
    assert_eq!(std::fs::read_dir(runs).unwrap().count(), 1, "receipts of runs are their own");
}

#[test]
fn a_database_that_nobody_carried_is_told_and_left_alone() {
    let lake = replica();
    lake.policy_of("databases = [\"sales\", \"x_*\"]\n", "");
    lake.metasync("run", &[]).expect(0);
    let stranger = objects::database(&DatabaseName::new("x_1"), "file:/nowhere");
    let other = objects::database(&DatabaseName::new("other"), "file:/nowhere");
    lake.apply_to_target(&[Change::PutDatabase(stranger), Change::PutDatabase(other)]);
    assert_eq!(told(&lake, &lake.metasync("verify", &[]).expect(4)), pairs(&[("only_target", "database x_1")]));
    let left = lake.metasync("verify", &["--repair"]).expect(4);
    assert_eq!(told(&lake, &left), pairs(&[("only_target", "database x_1"), ("only_target", "database x_1")]));
    assert!(lake.dump("target").iter().any(|line| line.contains("\"database\":\"x_1\"")));
}

#[test]
fn a_database_that_the_source_dropped_since_is_behind() {
    let lake = replica();
    lake.policy_of("databases = [\"sales\", \"x_*\"]\n", "");
    lake.database("x_1");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    lake.apply(&[Change::DropDatabase(DatabaseName::new("x_1"))]);
    assert_eq!(told(&lake, &lake.metasync("verify", &[]).expect(0)), pairs(&[("behind", "database x_1")]));
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_verification_that_failed_is_known_to_have_failed() {
    let lake = replica();
    lake.metasync("verify", &[]).expect(0);
    std::fs::rename(lake.root().join("source.db"), lake.root().join("gone.db")).unwrap();
    let ran = lake.metasync("verify", &[]);
    assert_ne!(ran.code, 0);
    let last = &lake.status()["last_verify"];
    assert_eq!((&last["exit_code"], last["first"].is_string()), (&json!(ran.code), true), "{last}");
}

#[test]
fn plain_trees_of_the_policy_are_compared_and_mended_too() {
    let lake = replica();
    let root = lake.root().display().to_string();
    for path in ["jobs/a.jar", "jobs/b.jar", "conf/a.xml"] {
        lake.write(&format!("../{path}"), path);
    }
    let path = |name: &str, delete: bool| {
        format!("[[paths]]\nfrom = \"{root}/{name}\"\nto = \"{root}/{name}_copy\"\ndelete = {delete}\n")
    };
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    let more = [path("jobs", true), path("conf", false)].concat();
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &format!("{more}[options]"))).unwrap();
    lake.metasync("run", &[]).expect(0);
    lake.metasync("verify", &[]).expect(0);
    rot(&lake.root().join("jobs_copy/a.jar"));
    std::fs::write(lake.root().join("jobs_copy/extra"), "extra").unwrap();
    std::fs::write(lake.root().join("conf_copy/extra"), "kept").unwrap();
    let found = told(&lake, &lake.metasync("verify", &["--level", "content"]).expect(4));
    assert_eq!(found.len(), 2, "what only the copy has counts where it would be deleted: {found:?}");
    lake.metasync("verify", &["--level", "content", "--repair"]).expect(0);
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
    assert!(lake.root().join("conf_copy/extra").exists());
}
