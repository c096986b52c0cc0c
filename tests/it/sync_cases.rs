//! Cases of replication, over pairs of metastores: what was half done goes on where it stopped, and is not done twice.
//!
//! Failures are triggers in the target's database: it refuses one row, as a real one does for reasons of its own. A server tries
//! for half a minute what its database refuses, so that those cases are over databases alone.

use metasync::metastore::Change;
use metasync::model::{Constraint, ConstraintKind, ForeignColumn, TableName};
use rustix::process::Signal;
use serde_json::json;
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

/// The target, which refuses a new row of `table` with this in a column.
fn refuses(lake: &Lake, table: &str, column: &str, value: &str) {
    if lake.is_served() {
        lake.sql(
            "target",
            &format!(
                "CREATE OR REPLACE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'not today'; END $$; \
                 CREATE TRIGGER refuses BEFORE INSERT ON `{table}` FOR EACH ROW WHEN (NEW.`{column}` = {value}) \
                 EXECUTE FUNCTION refuses()"
            ),
        );
        return;
    }
    if !lake.root().join("target.db").exists() {
        lake.shell.metasync(&["metastore", "init", &lake.url("target")]).expect(0);
    }
    lake.sql(
        "target",
        &format!(
            "CREATE TRIGGER refuses BEFORE INSERT ON `{table}` WHEN NEW.`{column}` = {value} \
             BEGIN SELECT RAISE(ABORT, 'not today'); END"
        ),
    );
}

fn refuses_nothing(lake: &Lake, table: &str) {
    let of_table = if lake.is_served() { format!(" ON `{table}`") } else { String::new() };
    lake.sql("target", &format!("DROP TRIGGER refuses{of_table}"));
}

/// What the target's own log says of tables since an id: types and names.
fn said_after(lake: &Lake, id: &str) -> Vec<Vec<String>> {
    let sql = "SELECT `EVENT_TYPE`, `TBL_NAME` FROM `NOTIFICATION_LOG` WHERE `TBL_NAME` IS NOT NULL AND `EVENT_ID` >";
    lake.sql("target", &format!("{sql} {id} ORDER BY `EVENT_ID`"))
}

fn last_said(lake: &Lake) -> String {
    lake.sql("target", "SELECT COALESCE(MAX(`EVENT_ID`), 0) FROM `NOTIFICATION_LOG`")[0][0].clone()
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

tests::over_pairs!(cases_07_38_43_a_run_that_crashed_before_its_checkpoint_is_done_again_and_changes_nothing);

fn cases_07_38_43_a_run_that_crashed_before_its_checkpoint_is_done_again_and_changes_nothing(lake: Lake) {
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
    let events = first.number("to_event") - first.number("from_event");
    assert!(events == 2 || lake.is_served() && events > 2, "{}", first.stdout);
    assert_eq!((first.number("tables/applied"), first.number("events/applied")), (2, events), "{}", first.stdout);
    // All of it was done, and nobody wrote that down.
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&aside, &state).unwrap();
    lake.policy("");
    let again = lake.metasync("run", &[]).expect(0);
    assert_eq!((again.number("events/applied"), again.number("counts/copied")), (events, 0), "{}", again.stdout);
    assert_eq!((said_after(&lake, &said), lake.files(&lake.target(""))), (Vec::new(), files), "nothing is done twice");
    lake.assert_in_step();
    // By hand, too.
    let replayed = lake.metasync("run", &["--bootstrap", "--yes"]).expect(0);
    assert_eq!((replayed.number("tables/touched"), replayed.number("counts/copied")), (0, 0));
    assert_eq!(said_after(&lake, &said), Vec::<Vec<String>>::new());
    assert_eq!(lake.metasync("run", &[]).expect(0).number("events/applied"), 0, "and no event is left over");
}

tests::over_pairs!(
    case_10_what_failed_is_done_later_and_what_was_done_is_not_done_again: sqlite_to_sqlite, thrift_to_sql, sql_to_strict_thrift
);

fn case_10_what_failed_is_done_later_and_what_was_done_is_not_done_again(lake: Lake) {
    lake.database("sales");
    for name in ["t1", "t2"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    let id = || "id".to_owned();
    let constraint = |table: &str, name: &str, kind: ConstraintKind| {
        let (table, name) = (sales(table), name.to_owned());
        Change::PutConstraint(Constraint { table, name, kind, enable: false, validate: false, rely: true })
    };
    let foreign = ConstraintKind::ForeignKey {
        parent: sales("t1"),
        parent_key: Some("t1_key".to_owned()),
        columns: vec![ForeignColumn { column: id(), parent_column: id() }],
        update_rule: 0,
        delete_rule: 0,
    };
    lake.apply(&[
        constraint("t1", "t1_key", ConstraintKind::PrimaryKey { columns: vec![id()] }),
        constraint("t2", "t2_t1", foreign),
    ]);
    let not_done = |in_step: u64| {
        let status = lake.status();
        assert_eq!((&status["in_step"], &status["last_runs"][0]["outcome"]), (&json!(in_step), &json!("partial")));
        assert_eq!(status["quarantined"][0]["table"], "sales.t2", "{status}");
        assert_eq!(status["quarantined"][0]["as_of"], json!(null), "{status}");
    };
    refuses(&lake, "TBLS", "TBL_NAME", "'t2'");
    let first = lake.metasync("run", &[]).expect(3);
    assert!(first.stderr.contains("sales.t2 is not in step") && first.stderr.contains("not today"), "{first:?}");
    assert_eq!(said_after(&lake, "0"), [["CREATE_TABLE", "t1"], ["ADD_PRIMARYKEY", "t1"]]);
    not_done(1);
    let said = last_said(&lake);
    refuses_nothing(&lake, "TBLS");
    refuses(&lake, "KEY_CONSTRAINTS", "CONSTRAINT_TYPE", "1");
    lake.metasync("run", &[]).expect(3);
    assert_eq!(said_after(&lake, &said), [["CREATE_TABLE", "t2"]], "t1 is not made again");
    not_done(1);
    let said = last_said(&lake);
    refuses_nothing(&lake, "KEY_CONSTRAINTS");
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

// A server over MariaDB takes a minute to make so many.
tests::over_pairs!(
    case_11_a_run_killed_in_the_middle_of_1000_partitions_is_gone_on_with: sqlite_to_sqlite, thrift_to_sql, thrift_to_thrift
);

fn case_11_a_run_killed_in_the_middle_of_1000_partitions_is_gone_on_with(lake: Lake) {
    lake.database("sales");
    many_days(&lake, MANY);
    let mut running = lake.start();
    running.until("half of them", || count_files(lake.target("sales.db/days")) > MANY / 2);
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    let rest = lake.metasync("run", &[]).expect(0);
    assert!(rest.number("counts/copied") <= MANY as u64 * 3 / 4, "{}", rest.stdout);
    lake.assert_in_step();
    let rows = lake.sql("target", "SELECT COUNT(*), COUNT(DISTINCT `PART_NAME`) FROM `PARTITIONS`");
    assert_eq!(rows, [["1000", "1000"]]);
}

tests::over_pairs!(
    case_11_metadata_that_was_refused_in_the_middle_goes_on_there: sqlite_to_sqlite, thrift_to_sql, sql_to_strict_thrift
);

fn case_11_metadata_that_was_refused_in_the_middle_goes_on_there(lake: Lake) {
    lake.database("sales");
    many_days(&lake, TWO_CHUNKS);
    refuses(&lake, "PARTITIONS", "PART_NAME", "'dt=1050'");
    let first = lake.metasync("run", &[]).expect(3);
    assert!(first.stderr.contains("sales.days is not in step"), "{}", first.stderr);
    let rows = || lake.sql("target", "SELECT `PART_NAME`, `PART_ID` FROM `PARTITIONS` ORDER BY 1");
    let (half, said) = (rows(), last_said(&lake));
    assert_eq!(half.len(), 1000, "a transaction is whole or not begun");
    refuses_nothing(&lake, "PARTITIONS");
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!(second.number("counts/copied"), 0, "the files are there");
    let all = rows();
    assert_eq!((all.len(), &all[..1000]), (TWO_CHUNKS, &half[..]), "none is made again");
    let types: Vec<String> = said_after(&lake, &said).into_iter().map(|row| row[0].clone()).collect();
    // A server that adds a partition makes some of it up, which is put right then.
    let altered = types.iter().filter(|kind| *kind == "ALTER_PARTITION").count();
    let is_thrift = lake.url("target").starts_with("thrift:");
    assert!(altered <= if is_thrift { TWO_CHUNKS - 1000 } else { 0 }, "{altered} of those that were there");
    assert!(types.iter().all(|kind| ["ADD_PARTITION", "ALTER_PARTITION"].contains(&kind.as_str())), "{types:?}");
    lake.assert_in_step();
}

tests::over_pairs!(case_12_a_finished_bootstrap_is_not_repeated_in_silence: sqlite_to_sqlite, thrift_to_thrift);

fn case_12_a_finished_bootstrap_is_not_repeated_in_silence(lake: Lake) {
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

tests::over_pairs!(case_42_copying_that_failed_in_the_middle_of_a_batch_leaves_no_duplicates);

fn case_42_copying_that_failed_in_the_middle_of_a_batch_leaves_no_duplicates(lake: Lake) {
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
    let names = |side| lake.sql(side, "SELECT `PART_NAME` FROM `PARTITIONS` ORDER BY 1");
    assert_eq!(names("target"), [["dt=1"]], "metadata waits for the data");
    if blocked.is_file() {
        std::fs::remove_file(&blocked).unwrap();
    }
    let second = lake.metasync("run", &[]).expect(0);
    assert_eq!(second.number("counts/copied"), 1, "only what failed");
    assert_eq!(names("target"), names("source"));
    lake.assert_in_step();
}
