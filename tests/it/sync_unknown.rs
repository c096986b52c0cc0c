//! Event logs that say what nobody here understands, or nothing at all: reported, counted, and compared all the same.

use tests::lake::Lake;

fn lake() -> Lake {
    let lake = Lake::of_two_tables();
    lake.metasync("run", &[]).expect(0);
    lake
}

/// Changed with no word of it: only who compares the table finds it.
fn change_in_silence(lake: &Lake) {
    lake.sql(
        "source",
        "INSERT INTO TABLE_PARAMS (TBL_ID, PARAM_KEY, PARAM_VALUE) \
         SELECT TBL_ID, 'k', 'v' FROM TBLS WHERE TBL_NAME = 'a'",
    );
}

/// Types, messages and formats that are not known, with what is said of them.
const ODD: [(&str, &str, &str, &str); 4] = [
    ("TRANSMOGRIFY_TABLE", "{}", "json-0.2", "is of the unknown type TRANSMOGRIFY_TABLE"),
    ("TRANSMOGRIFY_TABLE", "not even JSON", "json-0.2", "is of the unknown type TRANSMOGRIFY_TABLE"),
    ("ALTER_TABLE", "{\"cut\": \"sho", "json-0.2", "(ALTER_TABLE): "),
    ("ALTER_TABLE", "{}", "protobuf-9", "its message is of format `protobuf-9`, which is not known here"),
];

#[test]
fn events_that_are_not_understood_are_reported_and_counted_and_what_they_may_be_about_is_compared() {
    for (event_type, message, format, words) in ODD {
        let lake = lake();
        // Between sweeps, too: the looks at folders are spared, that at the table is not.
        lake.policy("unknown_events = \"report\"\nsweep = \"1h\"");
        lake.metasync("run", &[]).expect(0);
        change_in_silence(&lake);
        let id = lake.event(event_type, "a", message, format);
        let ran = lake.metasync("run", &[]).expect(0);
        let note = ran.stderr.lines().find(|line| line.contains(words) && line.contains(&format!("event {id}")));
        assert!(note.is_some_and(|line| line.ends_with("what it may be about was compared")), "{}", ran.stderr);
        let counted = (ran.number(&format!("events/by_type/{event_type}")), ran.number("events/skipped"));
        assert_eq!((counted, ran.number("events/applied")), ((1, 1), 0), "{}", ran.stdout);
        assert_eq!(lake.status()["event"], id, "it is behind the run now");
        assert!(ran.summary()["events"]["events_missing"].is_null(), "the event tells of it: {}", ran.stdout);
        assert_eq!(lake.sql("target", "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'k'").concat(), ["v"]);
        lake.assert_in_step();
        let next = lake.metasync("run", &[]).expect(0);
        assert!(!next.stderr.contains("event "), "it is said once: {}", next.stderr);
    }
}

#[test]
fn events_that_are_not_understood_fail_a_run_that_is_told_so_before_it_changes_anything() {
    for (event_type, message, format, words) in ODD {
        let lake = lake();
        lake.policy("unknown_events = \"fail\"");
        let known = lake.status();
        let before = (lake.dump("target"), lake.files(&lake.target("")));
        // What is in front of it in the log waits with it.
        lake.table("c", &[]);
        lake.write("sales.db/b/part-1", "more");
        let id = lake.event(event_type, "a", message, format);
        for _ in 0..2 {
            let failed = lake.metasync("run", &[]).expect(1);
            let said = failed.last_word();
            assert!(said.contains(&format!("event {id}")) && said.contains(words), "{}", failed.stderr);
            assert!(said.contains("unknown_events = \"report\""), "the way out: {}", failed.stderr);
            assert_eq!((lake.dump("target"), lake.files(&lake.target(""))), before);
            let status = lake.status();
            assert_eq!((&status["event"], &status["as_of"]), (&known["event"], &known["as_of"]), "{status}");
        }
        lake.metasync("plan", &[]).expect(1);
        lake.policy("");
        lake.metasync("run", &[]).expect(0);
        lake.assert_in_step();
    }
}

#[test]
fn a_log_that_nobody_writes_is_named_with_what_switches_it_on() {
    let note = |ran: tests::cli::Ran| ran.stderr.contains("metastore.transactional.event.listeners");
    let lake = Lake::new();
    lake.database("sales");
    assert!(!note(lake.metasync("run", &[]).expect(0)), "there is nothing to hear of");
    lake.table("a", &[]);
    lake.write("sales.db/a/part-0", "a");
    for _ in 0..2 {
        assert!(note(lake.metasync("run", &[]).expect(0)), "in each run");
        lake.assert_in_step();
        lake.write("sales.db/a/part-1", "more");
    }
    let logged = self::lake();
    assert!(!note(logged.metasync("run", &[]).expect(0)));
}
