//! Cases of replication between two SQLite metastores: what was half done goes on where it stopped, and is not done twice.
//!
//! Failures are triggers in the target's database: it refuses one row, as a real one does for reasons of its own.

use metasync::metastore::Change;
use metasync::model::{Constraint, ConstraintKind, ForeignColumn, TableName};
use rustix::process::Signal;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tests::lake::Lake;
use tests::metastores::objects;

/// Partitions of which copying is killed.
const MANY: usize = 1000;
/// Partitions whose metadata takes two transactions, of 1,000 at most.
const TWO_CHUNKS: usize = 1100;

fn sales(name: &str) -> TableName {
    TableName::new("sales", name)
}

/// The empty target, which refuses what `when` says of a new row of `table`.
fn refuses(lake: &Lake, table: &str, when: &str) {
    if !lake.root().join("target.db").exists() {
        let url = format!("sqlite://{}/target.db", lake.root().display());
        lake.shell.metasync(&["metastore", "init", &url]).expect(0);
    }
    lake.sql(
        "target",
        &format!(
            "DROP TRIGGER IF EXISTS refuses; CREATE TRIGGER refuses BEFORE INSERT ON \"{table}\" WHEN {when} \
             BEGIN SELECT RAISE(ABORT, 'not today'); END"
        ),
    );
}

fn refuses_nothing(lake: &Lake) {
    lake.sql("target", "DROP TRIGGER refuses");
}

/// What the target's own log says of tables since an id: types and names.
fn said_after(lake: &Lake, id: &str) -> Vec<Vec<String>> {
    let sql = "SELECT EVENT_TYPE, TBL_NAME FROM NOTIFICATION_LOG WHERE TBL_NAME IS NOT NULL AND EVENT_ID >";
    lake.sql("target", &format!("{sql} {id} ORDER BY EVENT_ID"))
}

fn last_said(lake: &Lake) -> String {
    lake.sql("target", "SELECT CAST(COALESCE(MAX(EVENT_ID), 0) AS TEXT) FROM NOTIFICATION_LOG")[0][0].clone()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // The lease is given back meanwhile, and files are written next to their places first.
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else if let Err(error) = std::fs::copy(&source, target) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", source.display());
        }
    }
}

#[test]
fn cases_07_38_43_a_run_that_crashed_before_its_checkpoint_is_done_again_and_changes_nothing() {
    let lake = Lake::logged();
    lake.database("sales");
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["1"], "one");
    lake.metasync("run", &[]).expect(0);
    lake.partition(&days, &["2"], &"inserted ".repeat(60_000));
    lake.table("new", &[]);
    lake.write("sales.db/new/part-0", "new");
    lake.policy("bwlimit = \"400K\"");
    // The state of a run that is about to change the target.
    let (state, aside) = (lake.root().join("state"), lake.root().join("aside"));
    let mut running = lake.start();
    running.until("the intent", || {
        let text = std::fs::read_to_string(state.join("sales/checkpoint.json")).unwrap_or_default();
        text.contains("\"intent\": {")
    });
    running.signal(Signal::STOP);
    copy_folder(&state, &aside);
    running.signal(Signal::CONT);
    let first = running.end().expect(0);
    let (said, files) = (last_said(&lake), lake.files(&lake.target("")));
    assert_eq!((first.number("tables/applied"), first.number("events/applied")), (2, 2), "{}", first.stdout);
    // All of it was done, and nobody wrote that down.
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    lake.policy("");
    let again = lake.metasync("run", &[]).expect(0);
    assert_eq!((again.number("events/applied"), again.number("counts/copied")), (2, 0), "{}", again.stdout);
    assert_eq!((said_after(&lake, &said), lake.files(&lake.target(""))), (Vec::new(), files), "nothing is done twice");
    lake.assert_in_step();
    // By hand, too.
    let replayed = lake.metasync("run", &["--bootstrap", "--yes"]).expect(0);
    assert_eq!((replayed.number("tables/touched"), replayed.number("counts/copied")), (0, 0));
    assert_eq!(said_after(&lake, &said), Vec::<Vec<String>>::new());
    assert_eq!(lake.metasync("run", &[]).expect(0).number("events/applied"), 0, "and no event is left over");
}

#[test]
fn case_10_what_failed_is_done_later_and_what_was_done_is_not_done_again() {
    let lake = Lake::new();
    lake.database("sales");
    for name in ["t1", "t2"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    let key = ConstraintKind::ForeignKey {
        parent: sales("t1"),
        parent_key: None,
        columns: vec![ForeignColumn { column: "id".to_owned(), parent_column: "id".to_owned() }],
        update_rule: 0,
        delete_rule: 0,
    };
    let key = Constraint {
        table: sales("t2"),
        name: "t2_t1".to_owned(),
        kind: key,
        enable: false,
        validate: false,
        rely: true,
    };
    lake.apply(&[Change::PutConstraint(key)]);
    let not_done = |in_step: u64| {
        let status = lake.status();
        assert_eq!((&status["in_step"], &status["last_runs"][0]["outcome"]), (&json!(in_step), &json!("partial")));
        assert_eq!(status["quarantined"][0]["table"], "sales.t2", "{status}");
        assert_eq!(status["quarantined"][0]["as_of"], json!(null), "{status}");
    };
    refuses(&lake, "TBLS", "NEW.TBL_NAME = 't2'");
    let first = lake.metasync("run", &[]).expect(3);
    assert!(first.stderr.contains("sales.t2 is not in step") && first.stderr.contains("not today"), "{first:?}");
    assert_eq!(said_after(&lake, "0"), [["CREATE_TABLE", "t1"]]);
    not_done(1);
    let said = last_said(&lake);
    refuses(&lake, "KEY_CONSTRAINTS", "NEW.CONSTRAINT_TYPE = 1");
    lake.metasync("run", &[]).expect(3);
    assert_eq!(said_after(&lake, &said), [["CREATE_TABLE", "t2"]], "t1 is not made again");
    not_done(1);
    let said = last_said(&lake);
    refuses_nothing(&lake);
    let third = lake.metasync("run", &[]).expect(0);
    assert_eq!(
        said_after(&lake, &said),
        [["ADD_FOREIGNKEY", "t1"]],
        "only the key is added, which Hive names by its parent"
    );
    assert_eq!(third.number("counts/copied"), 0);
    let status = lake.status();
    assert_eq!((&status["in_step"], &status["quarantined"]), (&json!(2), &json!([])), "{status}");
    assert!(status["as_of"].is_string(), "{status}");
    lake.assert_in_step();
}

/// A table `days` with so many partitions, each with a file.
fn many_days(lake: &Lake, count: usize) {
    let days = lake.table("days", &["dt"]);
    let names: Vec<String> = (0..count).map(|day| format!("{day:04}")).collect();
    let partitions = names.iter().map(|name| objects::partition(&days, &[name])).collect();
    names.iter().for_each(|name| lake.write(&format!("sales.db/days/dt={name}/part-0"), name));
    lake.apply(&[Change::PutPartitions { table: days.name, partitions }]);
}

fn count_files(folder: PathBuf) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| entries.filter(|entry| entry.is_ok()).count())
}

#[test]
fn case_11_a_run_killed_in_the_middle_of_1000_partitions_is_gone_on_with() {
    let lake = Lake::new();
    lake.database("sales");
    many_days(&lake, MANY);
    let mut running = lake.start();
    running.until("half of them", || count_files(lake.target("sales.db/days")) > MANY / 2);
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    let rest = lake.metasync("run", &[]).expect(0);
    assert!(rest.number("counts/copied") <= MANY as u64 * 3 / 4, "{}", rest.stdout);
    lake.assert_in_step();
    let rows =
        lake.sql("target", "SELECT CAST(COUNT(*) AS TEXT), CAST(COUNT(DISTINCT PART_NAME) AS TEXT) FROM PARTITIONS");
    assert_eq!(rows, [["1000", "1000"]]);
}

#[test]
fn case_11_metadata_that_was_refused_in_the_middle_goes_on_there() {
    let lake = Lake::new();
    lake.database("sales");
    many_days(&lake, TWO_CHUNKS);
    refuses(&lake, "PARTITIONS", "NEW.PART_NAME = 'dt=1050'");
    let first = lake.metasync("run", &[]).expect(3);
    assert!(first.stderr.contains("sales.days is not in step"), "{}", first.stderr);
    let rows = || lake.sql("target", "SELECT PART_NAME, CAST(PART_ID AS TEXT) FROM PARTITIONS ORDER BY 1");
    let (half, said) = (rows(), last_said(&lake));
    assert_eq!(half.len(), 1000, "a transaction is whole or not begun");
    refuses_nothing(&lake);
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!(second.number("counts/copied"), 0, "the files are there");
    let all = rows();
    assert_eq!((all.len(), &all[..1000]), (TWO_CHUNKS, &half[..]), "none is made again");
    let types: BTreeSet<String> = said_after(&lake, &said).into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(types, BTreeSet::from(["ADD_PARTITION".to_owned()]));
    lake.assert_in_step();
}

#[test]
fn case_12_a_finished_bootstrap_is_not_repeated_in_silence() {
    let lake = Lake::logged();
    lake.database("sales");
    lake.table("a", &[]);
    lake.write("sales.db/a/part-0", "a");
    assert_eq!(lake.metasync("run", &[]).expect(0).summary()["mode"], "bootstrap");
    assert_eq!(lake.metasync("run", &[]).expect(0).summary()["mode"], "incremental");
    let unsure = lake.metasync("run", &["--bootstrap"]).expect(2);
    assert!(unsure.stderr.contains("--yes"), "{}", unsure.stderr);
    let again = lake.metasync("run", &["--bootstrap", "--yes"]).expect(0);
    assert_eq!((&again.summary()["mode"], again.number("counts/copied")), (&json!("bootstrap"), 0));
    lake.assert_in_step();
}

#[test]
fn case_42_copying_that_failed_in_the_middle_of_a_batch_leaves_no_duplicates() {
    let lake = Lake::logged();
    lake.database("sales");
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["1"], "one");
    lake.metasync("run", &[]).expect(0);
    for day in ["2", "3", "4"] {
        lake.partition(&days, &[day], day);
    }
    lake.write("sales.db/days/dt=1/part-1", "more");
    // A file stands where a folder must be.
    let blocked = lake.target("sales.db/days/dt=3");
    std::fs::write(&blocked, "in the way").unwrap();
    let first = lake.metasync("run", &["--overwrite-drift"]).expect(3);
    assert!(first.stderr.contains("sales.days is not in step"), "{}", first.stderr);
    assert_eq!(first.number("counts/failed"), 1);
    let names = |side| lake.sql(side, "SELECT PART_NAME FROM PARTITIONS ORDER BY 1");
    assert_eq!(names("target"), [["dt=1"]], "metadata waits for the data");
    if blocked.is_file() {
        std::fs::remove_file(&blocked).unwrap();
    }
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!(second.number("counts/copied"), 1, "only what failed");
    assert_eq!(names("target"), names("source"));
    lake.assert_in_step();
}
