//! `metasync run` while its source moves: tables that go while they are copied, events and files that come all the time.
//!
//! Runs are slowed down by their bandwidth, watched, and stopped once a file is on its way: each change is made then, however
//! long it takes.

use jiff::Timestamp;
use metasync::metastore::Change;
use metasync::model::{Table, TableName};
use rustix::process::Signal;
use serde_json::json;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tests::lake::{LARGE, Lake};

/// Between two files of a writer that does not stop.
const PACE: Duration = Duration::from_millis(10);

/// A managed table, as a value and in the metastore.
fn managed(lake: &Lake, name: &str, keys: &[&str]) -> Table {
    let mut table = lake.unmade_table(name, keys);
    table.table_type = Some("MANAGED_TABLE".to_owned());
    table.parameters.remove("EXTERNAL");
    std::fs::create_dir_all(lake.source(&format!("sales.db/{name}"))).unwrap();
    lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
    table
}

/// As an engine does: the files go, too.
fn drop_managed(lake: &Lake, name: &str) {
    lake.apply(&[Change::DropTable(TableName::new("sales", name))]);
    std::fs::remove_dir_all(lake.source(&format!("sales.db/{name}"))).unwrap();
}

fn is_on_target(lake: &Lake, table: &str) -> bool {
    lake.tables("target", "sales").contains(table)
}

tests::over_pairs!(case_06_a_partitioned_table_that_is_dropped_while_its_partitions_are_copied_is_gone_at_the_end);

fn case_06_a_partitioned_table_that_is_dropped_while_its_partitions_are_copied_is_gone_at_the_end(lake: Lake) {
    dropped_while_it_is_copied(&lake, true);
}

tests::over_pairs!(case_06_so_is_one_that_the_replica_has_already: sqlite_to_sqlite, thrift_to_thrift);

fn case_06_so_is_one_that_the_replica_has_already(lake: Lake) {
    dropped_while_it_is_copied(&lake, false);
}

fn dropped_while_it_is_copied(lake: &Lake, is_new: bool) {
    lake.database("sales");
    let days = managed(lake, "days", &["dt"]);
    lake.table("other", &[]);
    if !is_new {
        lake.partition(&days, &["0"], "from the first run");
        lake.metasync("run", &[]).expect(0);
    }
    lake.write("sales.db/other/part-0", "other");
    for day in ["1", "2", "3"] {
        lake.partition(&days, &[day], &day.repeat(LARGE / 3));
    }
    let mut running = lake.copying("sales.db/days/dt=1");
    drop_managed(lake, "days");
    running.signal(Signal::CONT);
    let ran = running.end().expect(0);
    assert_eq!(ran.summary()["behind"], json!(["sales.days"]), "{}", ran.stdout);
    assert!(is_on_target(lake, "other") && lake.target("sales.db/other/part-0").exists(), "the others go on");
    lake.policy("");
    let next = lake.metasync("run", &[]).expect(0);
    assert_eq!((next.summary()["behind"].is_null(), is_on_target(lake, "days")), (true, false));
    let left = lake.files(&lake.target("sales.db/days"));
    assert!(left.is_empty(), "new: {is_new}: {:?}", left.keys());
    lake.assert_in_step();
}

tests::over_pairs!(case_60_a_table_that_vanishes_during_its_copy_is_skipped_and_the_others_go_on);

fn case_60_a_table_that_vanishes_during_its_copy_is_skipped_and_the_others_go_on(lake: Lake) {
    lake.database("sales");
    managed(&lake, "brief", &[]);
    lake.write("sales.db/brief/part-0", "small");
    lake.write("sales.db/brief/part-1", &"x".repeat(LARGE));
    lake.write("sales.db/brief/part-2", &"y".repeat(LARGE));
    for name in ["a", "z"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    let mut running = lake.copying("sales.db/brief");
    drop_managed(&lake, "brief");
    running.signal(Signal::CONT);
    let ran = running.end().expect(0);
    assert_eq!((ran.number("tables/quarantined"), ran.number("tables/applied")), (0, 2), "{}", ran.stdout);
    assert_eq!(ran.summary()["behind"], json!(["sales.brief"]));
    assert!(is_on_target(&lake, "a") && is_on_target(&lake, "z") && !is_on_target(&lake, "brief"));
    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
}

tests::over_pairs!(rule_22_case_73_a_run_ends_at_the_id_that_it_saw_first_and_as_of_says_so);

fn rule_22_case_73_a_run_ends_at_the_id_that_it_saw_first_and_as_of_says_so(lake: Lake) {
    lake.database("sales");
    lake.table("a", &[]);
    lake.metasync("run", &[]).expect(0);
    lake.write("sales.db/a/part-0", &"x".repeat(LARGE));
    let mut changed = lake.unmade_table("a", &[]);
    changed.parameters.insert("k".to_owned(), "v".to_owned());
    lake.apply(&[Change::PutTable(Box::new(changed))]);
    let newest_event = || lake.status()["newest_event"].as_u64().unwrap();
    let mut newest = newest_event();
    for round in 0..2 {
        let mut running = lake.copying("sales.db/a");
        let late = Timestamp::now();
        let names: Vec<String> = (0..20).map(|number| format!("late{round}_{number}")).collect();
        names.iter().for_each(|name| drop(lake.table(name, &[])));
        let seen_first = newest;
        newest = newest_event();
        let late_events = newest - seen_first;
        assert!(late_events >= 20, "{late_events}");
        running.signal(Signal::CONT);
        let ran = running.end().expect(0);
        assert_eq!(ran.number("to_event"), seen_first, "{}", ran.stdout);
        let as_of: Timestamp = ran.summary()["as_of"].as_str().unwrap().parse().unwrap();
        assert!(as_of < late, "{as_of} and {late}");
        let there = lake.tables("target", "sales");
        assert!(!names.iter().any(|name| there.contains(name)), "{there:?}");
        let status = lake.status();
        assert_eq!((&status["event"], &status["events_behind"]), (&json!(seen_first), &json!(late_events)), "{status}");
        lake.write("sales.db/a/part-0", &format!("{round}").repeat(LARGE));
    }
}

/// Writes one file after the other into a folder until it is dropped.
struct Writer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(lake: &Lake, folder: &str) -> Self {
        let folder = lake.source(folder);
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                std::fs::write(folder.join(format!("part-{number}")), format!("{number}")).unwrap();
                number += 1;
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the writer");
    }
}

#[test]
fn a_table_that_changes_each_time_that_it_is_looked_at_is_named_and_ends_the_run_well() {
    let lake = Lake::logged();
    lake.database("sales");
    for name in ["busy", "calm"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-x"), name);
    }
    let writer = Writer::start(&lake, "sales.db/busy");
    let ran = lake.metasync("run", &[]).expect(0);
    drop(writer);
    let note = "sales.busy changed each time that it was copied; the next run goes on with it";
    assert_eq!(ran.stderr.matches(note).count(), 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains("sales.calm"), "{}", ran.stderr);
    assert_eq!((&ran.summary()["behind"], ran.number("tables/quarantined")), (&json!(["sales.busy"]), 0));
    let next = lake.metasync("run", &[]).expect(0);
    assert!(next.summary()["behind"].is_null() && next.number("counts/copied") > 0, "{}", next.stdout);
    lake.assert_in_step();
}
