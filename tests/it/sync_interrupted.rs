//! Runs of `metasync` that are interrupted or killed while they copy: nothing that was known is forgotten, nothing that was
//! not done is said to be.

use metasync::metastore::Change;
use metasync::model::{PartitionName, TableName};
use rustix::process::Signal;
use serde_json::json;
use std::net::{Ipv4Addr, TcpListener};
use tests::lake::Lake;
use tests::metastores::objects;
use tests::running::Running;

/// A file that is a second and more on its way at [`SLOW`].
const LARGE: usize = 900_000;
const SLOW: &str = "max_deletes = \"100%\"\nbwlimit = \"400K\"";

fn lake() -> Lake {
    let lake = Lake::of_two_tables();
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["1"], "one");
    lake
}

/// Starts a run that is slow, and waits until a file is on its way into the folder of `sales.b`.
fn copying(lake: &Lake) -> Running {
    let count = || std::fs::read_dir(lake.target("sales.db/b")).map_or(0, Iterator::count);
    let before = count();
    lake.policy(SLOW);
    let mut running = lake.start();
    running.until("the copy", || count() > before);
    running
}

/// What Hive's TRUNCATE TABLE does: the files go, and an event says so.
fn truncate(lake: &Lake, name: &str) {
    std::fs::remove_file(lake.source(&format!("sales.db/{name}/part-0"))).unwrap();
    let mut table = lake.unmade_table(name, &[]);
    table.parameters.insert("numFiles".to_owned(), "0".to_owned());
    lake.apply(&[Change::PutTable(Box::new(table))]);
    let newest = "(SELECT MAX(EVENT_ID) FROM NOTIFICATION_LOG)";
    lake.sql(
        "source",
        &format!(
            "UPDATE NOTIFICATION_LOG SET MESSAGE = REPLACE(MESSAGE, '\"isTruncateOp\":\"false\"', \
             '\"isTruncateOp\":\"true\"') WHERE EVENT_ID = {newest}"
        ),
    );
    let said = lake.sql("source", &format!("SELECT MESSAGE FROM NOTIFICATION_LOG WHERE EVENT_ID = {newest}"));
    assert!(said[0][0].contains("\"isTruncateOp\":\"true\""), "{said:?}");
}

#[test]
fn an_interrupted_run_moves_no_position_quarantines_nothing_and_forgets_no_explanation() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    truncate(&lake, "a");
    // It has read why the folder is empty, and was given no time to do anything about it.
    lake.policy("max_deletes = \"100%\"\nmax_duration = \"0s\"");
    let limited = lake.metasync("run", &[]).expect(10);
    let known = lake.status();
    assert_eq!((limited.number("events/applied"), &known["events_behind"]), (1, &json!(0)), "{known}");

    lake.write("sales.db/b/part-1", &"x".repeat(LARGE));
    lake.partition(&lake.unmade_table("days", &["dt"]), &["2"], "two");
    let mut running = copying(&lake);
    running.signal(Signal::INT);
    let interrupted = running.end().expect(130);
    assert_eq!(interrupted.number("tables/quarantined"), 0, "{}", interrupted.stdout);
    let status = lake.status();
    assert_eq!((&status["event"], &status["as_of"]), (&known["event"], &known["as_of"]), "{status}");
    assert_eq!((&status["events_behind"], &status["quarantined"]), (&json!(1), &json!([])), "{status}");
    assert!(lake.target("sales.db/a/part-0").exists(), "nothing is deleted");
    assert_eq!(lake.sql("target", "SELECT PART_NAME FROM PARTITIONS"), [["dt=1"]], "no metadata before its data");

    lake.policy("max_deletes = \"100%\"");
    let next = lake.metasync("run", &[]).expect(0);
    assert_eq!((next.number("events/applied"), next.number("counts/deleted")), (1, 1), "{}", next.stdout);
    lake.assert_in_step();
}

#[test]
fn what_a_killed_run_left_is_no_somebody_elses_after_a_run_that_was_held_back() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/b/part-1", &"x".repeat(LARGE));
    let mut running = copying(&lake);
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    // As if that run had brought it, of a file that is gone since, in its last moment: no journal has it.
    std::fs::write(lake.target("sales.db/a/part-9"), "gone since").unwrap();
    let mut table = lake.unmade_table("b", &[]);
    table.parameters.insert("round".to_owned(), "2".to_owned());
    lake.apply(&[Change::PutTable(Box::new(table))]);
    lake.policy("max_deletes = \"100%\"");
    // A table of that tree is not as it shall be: nothing in it goes.
    let refuses = "BEGIN SELECT RAISE(ABORT, 'not today'); END";
    lake.sql("target", &format!("CREATE TRIGGER refuses BEFORE INSERT ON TABLE_PARAMS {refuses}"));
    lake.metasync("run", &[]).expect(3);
    assert!(lake.target("sales.db/a/part-9").exists());
    lake.sql("target", "DROP TRIGGER refuses");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_run_of_some_tables_after_a_killed_one_forgets_nothing_of_what_that_one_had_begun() {
    let lake = lake();
    lake.metasync("run", &[]).expect(0);
    lake.managed("c", &[]);
    lake.write("sales.db/c/first", "small");
    lake.write("sales.db/c/second", &"x".repeat(LARGE));
    lake.policy(SLOW);
    let mut running = lake.start();
    running.until("the first file", || lake.target("sales.db/c/first").exists());
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    lake.policy("max_deletes = \"100%\"");
    lake.metasync("resync", &["--table", "sales.a"]).expect(0);
    lake.apply(&[Change::DropTable(TableName::new("sales", "c"))]);
    std::fs::remove_dir_all(lake.source("sales.db/c")).unwrap();
    lake.metasync("run", &[]).expect(0);
    let left: Vec<_> =
        lake.target("sales.db/c").read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "of a table that the target never had: {left:?}");
    lake.assert_in_step();
}

#[test]
fn an_interrupted_first_run_is_gone_on_with() {
    for signal in [Signal::INT, Signal::TERM] {
        let lake = lake();
        lake.write("sales.db/b/part-1", &"x".repeat(LARGE));
        let mut running = copying(&lake);
        running.signal(signal);
        let interrupted = running.end().expect(128 + signal.as_raw());
        assert_eq!(interrupted.number("tables/quarantined"), 0, "{}", interrupted.stdout);
        let status = lake.status();
        assert_eq!((&status["event"], &status["as_of"]), (&json!(null), &json!(null)), "{status}");
        assert_eq!((&status["in_step"], &status["quarantined"]), (&json!(0), &json!([])), "{status}");
        lake.policy("");
        assert_eq!(lake.metasync("run", &[]).expect(0).summary()["mode"], "bootstrap");
        lake.assert_in_step();
    }
}

#[test]
fn a_bootstrap_that_was_killed_and_whose_log_was_cleaned_meanwhile_starts_anew() {
    let lake = lake();
    lake.write("sales.db/b/part-1", &"x".repeat(LARGE));
    let mut running = copying(&lake);
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    lake.table("late", &[]);
    lake.write("sales.db/late/part-0", "late");
    lake.sql("source", "DELETE FROM NOTIFICATION_LOG");
    lake.table("later", &[]);
    lake.policy("");
    let anew = lake.metasync("run", &[]).expect(0);
    let newest = lake.status()["newest_event"].as_u64().unwrap();
    assert_eq!((&anew.summary()["mode"], anew.number("to_event")), (&json!("bootstrap"), newest), "{}", anew.stdout);
    assert!(anew.summary()["from_event"].is_null(), "{}", anew.stdout);
    lake.assert_in_step();
    // A run that came to its end reads the log from there on.
    lake.table("latest", &[]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((ran.number("from_event"), ran.number("events/applied")), (newest, 1));
    lake.table("lost", &[]);
    lake.sql("source", "DELETE FROM NOTIFICATION_LOG");
    lake.metasync("run", &[]).expect(5);
}

#[test]
fn status_tells_how_far_a_run_in_flight_is_and_how_long_the_rest_takes() {
    let lake = lake();
    // Half a minute at the speed of `SLOW`, one after the other.
    (1..=16).for_each(|at| lake.write(&format!("sales.db/b/part-{at}"), &"x".repeat(LARGE)));
    lake.policy(&format!("{SLOW}\nconcurrency = 1"));
    let mut running = lake.start();
    running.until("a word of how far it is", || !lake.status()["progress"].is_null());
    let progress = lake.status()["progress"].clone();
    let number = |name: &str| progress[name].as_u64().unwrap_or_else(|| panic!("{name} in {progress}"));
    // Three tables and a partition; a file in each of the other two.
    assert_eq!((&progress["phase"], number("planned_objects")), (&json!("copying"), 19), "{progress}");
    assert!(number("planned_bytes") > 16 * LARGE as u64 && number("planned_metadata") == 4, "{progress}");
    assert!(number("done_bytes") > 0 && (1..120).contains(&number("seconds_left")), "{progress}");
    // A run that was killed tells nothing any more, and the next one that ends leaves nothing.
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    assert!(lake.status()["progress"].is_null());
    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    assert!(lake.status()["progress"].is_null());
    lake.assert_in_step();
}

/// More than are written in one transaction, several times.
const MANY: usize = 8000;

#[test]
fn a_signal_is_heard_between_the_batches_of_one_table_and_the_next_run_writes_the_rest() {
    let lake = Lake::logged();
    lake.database("sales");
    let large = lake.table("large", &["dt"]);
    let partitions: Vec<_> = (0..MANY).map(|day| objects::partition(&large, &[&format!("{day:05}")])).collect();
    for some in partitions.chunks(1000) {
        lake.apply(&[Change::PutPartitions { table: large.name.clone(), partitions: some.to_vec() }]);
    }
    lake.policy("data = false");
    let count = || lake.sql("target", "SELECT COUNT(*) FROM PARTITIONS")[0][0].parse::<usize>().unwrap();
    let mut running = lake.start();
    let made = lake.root().join("target.db");
    let has_schema = || !lake.sql("target", "SELECT 1 FROM sqlite_master WHERE name = 'PARTITIONS'").is_empty();
    running.until("the first batch", || made.exists() && has_schema() && count() > 0);
    running.signal(Signal::TERM);
    let ended = running.end().expect(143);
    let there = count();
    assert!(there > 0 && there < MANY, "{there} of {MANY} partitions");
    assert_eq!(ended.number("tables/quarantined"), 0, "{}", ended.stdout);
    let status = lake.status();
    assert_eq!((&status["event"], &status["as_of"]), (&json!(null), &json!(null)), "{status}");
    assert_eq!((&status["pending"], &status["quarantined"]), (&json!(["sales.large"]), &json!([])), "{status}");
    let ids = "SELECT PARAM_VALUE FROM DATABASE_PARAMS WHERE PARAM_KEY = 'repl.last.id'";
    assert!(lake.sql("target", ids).is_empty(), "it is not said to be anywhere");

    // What was written stays as it is.
    let first = lake.sql("target", "SELECT PART_NAME, PART_ID FROM PARTITIONS ORDER BY 1");
    assert_eq!(lake.metasync("run", &[]).expect(0).summary()["mode"], "bootstrap");
    let all = lake.sql("target", "SELECT PART_NAME, PART_ID FROM PARTITIONS ORDER BY 1");
    assert_eq!((all.len(), &all[..there]), (MANY, &first[..]));
    lake.metasync("verify", &[]).expect(0);
    lake.assert_in_step();
}

#[test]
fn a_signal_is_heard_while_a_metastore_does_not_answer() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let lake = lake();
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    let source = format!("sqlite://{}/source.db", lake.root().display());
    assert!(text.contains(&source), "{text}");
    std::fs::write(lake.root().join("p.toml"), text.replace(&source, &format!("thrift://127.0.0.1:{port}"))).unwrap();
    for verb in ["run", "plan", "verify"] {
        let mut running = lake.start_verb(verb);
        // It is connected, and waits.
        let _held = silent.accept().unwrap();
        running.signal(Signal::TERM);
        running.end().expect(143);
        assert!(!lake.root().join("target.db").exists() || lake.sql("target", "SELECT 1 FROM TBLS").is_empty());
    }
}

#[test]
fn a_run_that_was_killed_while_it_copied_a_path_is_gone_on_with() {
    let lake = lake();
    let root = lake.root().display().to_string();
    let with = |options: &str| {
        lake.policy(options);
        let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
        let more = format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{root}/jobs_copy\"\ndelete = true\n[options]");
        std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &more)).unwrap();
    };
    lake.write("../jobs/first.jar", "first");
    with("");
    lake.metasync("run", &[]).expect(0);
    // Only the path changes, file by file, and the journal is not written for each.
    (0..20).for_each(|at| lake.write(&format!("../jobs/{at:02}.jar"), &"x".repeat(LARGE / 20)));
    lake.write("../jobs/first.jar", "replaced");
    with(&format!("{SLOW}\nconcurrency = 1"));
    let mut running = lake.start();
    running.until("the copy", || lake.root().join("jobs_copy/03.jar").exists());
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 137);
    with("max_deletes = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
}

/// Partitions of one event, of which each transaction takes 1,000.
const OF_ONE_EVENT: usize = 3000;

#[test]
fn rule_32_a_run_killed_between_the_transactions_of_one_event_says_nothing_of_it_and_is_gone_on_with() {
    let lake = Lake::logged();
    lake.database("sales");
    let large = lake.table("large", &["dt"]);
    lake.policy("data = false\nmax_drops = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    let days = (0..OF_ONE_EVENT).map(|day| format!("{day:04}"));
    let partitions: Vec<_> = days.map(|day| objects::partition(&large, &[&day])).collect();
    let mut altered = partitions.clone();
    altered.iter_mut().for_each(|one| drop(one.parameters.insert("altered".to_owned(), "yes".to_owned())));
    let names = (0..OF_ONE_EVENT).map(|day| PartitionName(format!("dt={day:04}"))).collect();
    let put = |partitions| Change::PutPartitions { table: large.name.clone(), partitions };
    let all = "SELECT COUNT(*) FROM PARTITIONS";
    let only_altered = "SELECT COUNT(*) FROM PARTITION_PARAMS WHERE PARAM_KEY = 'altered'";
    let id_of = "(SELECT PART_ID FROM PARTITIONS WHERE PART_NAME";
    // What happens, what is counted, how many there are in the end, and where a transaction gets stuck.
    let cases: [(Change, &str, usize, &str, &str); 3] = [
        (put(partitions), all, OF_ONE_EVENT, "INSERT ON PARTITIONS WHEN NEW.PART_NAME", ""),
        (
            put(altered),
            only_altered,
            OF_ONE_EVENT,
            &format!("INSERT ON PARTITION_PARAMS WHEN NEW.PARAM_KEY = 'altered' AND NEW.PART_ID = {id_of}"),
            ")",
        ),
        (
            Change::DropPartitions { table: large.name.clone(), names },
            all,
            0,
            "DELETE ON PARTITIONS WHEN OLD.PART_NAME",
            "",
        ),
    ];
    let told = "SELECT COUNT(*) FROM NOTIFICATION_LOG WHERE EVENT_TYPE LIKE '%PARTITION%'";
    let last_id = "SELECT PARAM_VALUE FROM DATABASE_PARAMS WHERE PARAM_KEY = 'repl.last.id'";
    for (change, counted, end, on, closes) in cases {
        let count = || lake.sql("target", counted)[0][0].parse::<usize>().unwrap();
        let (begin, said, known) = (count(), lake.sql("target", last_id), lake.status());
        lake.apply(&[change]);
        let newest = lake.status()["newest_event"].as_u64().unwrap();
        let events = newest - known["event"].as_u64().unwrap();
        // Of this version the log has an event for each partition that was altered.
        assert!(events == 1 || counted == only_altered, "{on}: {events} events");
        let heard = || lake.sql("target", told)[0][0].parse::<u64>().unwrap();
        let heard_before = heard();
        for (day, done) in [("1500", 1000), ("2500", 2000)] {
            // It takes for ever: the transaction is open until the run is killed.
            lake.sql(
                "target",
                &format!(
                    "CREATE TRIGGER stuck BEFORE {on} = 'dt={day}'{closes} BEGIN SELECT COUNT(*) FROM \
                     (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n); END"
                ),
            );
            let there = if end == 0 { begin - done } else { done };
            let mut running = lake.start();
            running.until("the transaction before", || count() == there);
            running.signal(Signal::KILL);
            assert_eq!(running.end().code, 137);
            assert_eq!((count(), &lake.sql("target", last_id)), (there, &said), "{on}: a reader sees so much of it");
            let status = lake.status();
            assert_eq!((&status["event"], &status["as_of"]), (&known["event"], &known["as_of"]), "{status}");
            assert_eq!(status["pending"], json!(["sales.large"]), "{status}");
            lake.sql("target", "DROP TRIGGER stuck");
        }
        let rest = lake.metasync("run", &[]).expect(0);
        assert_eq!(rest.number("events/applied"), events, "{}", rest.stdout);
        assert_eq!((count(), lake.sql("target", last_id)), (end, vec![vec![newest.to_string()]]), "{on}");
        // The next hop hears of each once: in one event a transaction, or in one a partition.
        assert_eq!(heard() - heard_before, if events == 1 { 3 } else { events }, "{on}");
        lake.assert_in_step();
    }
}
