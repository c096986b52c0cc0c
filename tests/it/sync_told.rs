//! What a source's messages say, held against what it holds (rules 22, 25): between SQLite files with an event log.

use metasync::metastore::Change;
use metasync::model::{DatabaseName, TableName};
use serde_json::{Value, json};
use tests::cli::Ran;
use tests::lake::Lake;

fn lake() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    lake.table("items", &[]);
    let orders = lake.table("orders", &["dt"]);
    lake.partition(&orders, &["2026-11-01"], "one");
    lake.metasync("run", &[]).expect(0);
    lake
}

/// A parameter of the table `items`, set with an event.
fn set(lake: &Lake, value: &str) {
    let mut items = lake.unmade_table("items", &[]);
    items.parameters.insert("k".to_owned(), value.to_owned());
    lake.apply(&[Change::PutTable(Box::new(items))]);
}

fn missing(ran: &Ran) -> Value {
    ran.summary()["events"]["events_missing"].clone()
}

fn newest(lake: &Lake) -> String {
    lake.sql("source", "SELECT MAX(EVENT_ID) FROM NOTIFICATION_LOG").concat().concat()
}

#[test]
fn rule_22_25_a_change_behind_the_last_event_of_its_object_is_carried_and_named() {
    let lake = lake();
    set(&lake, "as the event says");
    let event = newest(&lake);
    lake.sql("source", "UPDATE TABLE_PARAMS SET PARAM_VALUE = 'as nobody says' WHERE PARAM_KEY = 'k'");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(missing(&ran), json!(["sales.items"]), "{}", ran.stdout);
    let why = format!("sales.items: its `parameters.k` is not what event {event} says, the last one of it");
    assert!(ran.stderr.contains(&why), "{}", ran.stderr);
    let held = lake.sql("target", "SELECT PARAM_VALUE FROM TABLE_PARAMS WHERE PARAM_KEY = 'k'");
    assert_eq!(held.concat(), ["as nobody says"]);
    lake.assert_in_step();
    // It was named once; the next event is about what is there now.
    set(&lake, "as the next event says");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(missing(&ran), Value::Null, "{}", ran.stdout);
    lake.assert_in_step();
}

#[test]
fn rule_22_25_partitions_and_tables_that_came_or_went_behind_their_last_event_are_named() {
    let lake = lake();
    let orders = lake.unmade_table("orders", &["dt"]);
    lake.partition(&orders, &["2026-11-02"], "two");
    let drop = "DELETE FROM PARTITION_PARAMS WHERE PART_ID = (SELECT MAX(PART_ID) FROM PARTITIONS);
        DELETE FROM PARTITION_KEY_VALS WHERE PART_ID = (SELECT MAX(PART_ID) FROM PARTITIONS);
        DELETE FROM PARTITIONS WHERE PART_ID = (SELECT MAX(PART_ID) FROM PARTITIONS)";
    lake.sql("source", drop);
    lake.apply(&[Change::DropTable(TableName::new("sales", "items"))]);
    let without_events = lake.sql("source", "SELECT MESSAGE FROM NOTIFICATION_LOG").len();
    lake.table("items", &[]);
    lake.sql(
        "source",
        &format!(
            "DELETE FROM NOTIFICATION_LOG WHERE NL_ID IN (SELECT NL_ID FROM NOTIFICATION_LOG ORDER BY EVENT_ID LIMIT -1 OFFSET {without_events});
             UPDATE NOTIFICATION_SEQUENCE SET NEXT_EVENT_ID = (SELECT MAX(EVENT_ID) + 1 FROM NOTIFICATION_LOG)"
        ),
    );
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(missing(&ran), json!(["sales.items", "sales.orders"]), "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("sales.items: it is there, and event "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("sales.orders: partition dt=2026-11-02: it is not there, and event "),
        "{}",
        ran.stderr
    );
    lake.assert_in_step();
}

#[test]
fn rule_22_what_a_message_was_told_to_leave_out_comes_from_the_source() {
    let lake = lake();
    set(&lake, "left out");
    // As `event.notification.parameters.exclude.patterns` would have it: the message has another key in its place.
    let leave_out =
        r#"UPDATE NOTIFICATION_LOG SET MESSAGE = REPLACE(MESSAGE, '\"k\":\"left out\"', '\"numRows\":\"1\"')"#;
    lake.sql("source", leave_out);
    let still_there = lake.sql("source", "SELECT COUNT(*) FROM NOTIFICATION_LOG WHERE MESSAGE LIKE '%left out%'");
    assert_eq!(still_there.concat(), ["0"]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(missing(&ran), Value::Null, "{}\n{}", ran.stdout, ran.stderr);
    lake.assert_in_step();
}

#[test]
fn rule_22_what_happened_and_was_told_leaves_nothing_to_name() {
    let lake = lake();
    for round in 0..3 {
        set(&lake, &round.to_string());
        let orders = lake.unmade_table("orders", &["dt"]);
        lake.partition(&orders, &[&format!("2026-12-0{round}")], "more");
        let (from, to) = (["orders", "orders2"], ["orders2", "orders"]);
        for (from, to) in from.into_iter().zip(to) {
            let [from, to] = [from, to].map(|name| TableName::new("sales", name));
            lake.apply(&[Change::RenameTable { from, to }]);
        }
        lake.table("brief", &[]);
        lake.apply(&[Change::DropTable(TableName::new("sales", "brief"))]);
        let ran = lake.metasync("run", &[]).expect(0);
        assert_eq!(missing(&ran), Value::Null, "{}\n{}", ran.stdout, ran.stderr);
        lake.assert_in_step();
    }
    lake.apply(&[Change::DropDatabase(DatabaseName::new("other"))]);
    lake.metasync("run", &[]).expect(0);
}

#[test]
fn rule_25_what_changes_behind_the_log_is_named_and_what_comes_with_the_policy_is_not() {
    let lake = lake();
    lake.sql(
        "source",
        "INSERT INTO TABLE_PARAMS (TBL_ID, PARAM_KEY, PARAM_VALUE) SELECT TBL_ID, 'k', 'v' FROM TBLS WHERE TBL_NAME = 'items'",
    );
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(missing(&ran), json!(["sales.items"]), "{}", ran.stdout);
    assert!(ran.stderr.contains("sales.items: it changed and no event says so"), "{}", ran.stderr);
    lake.assert_in_step();

    lake.policy_of("databases = [\"sales\"]\nexclude_tables = [\"sales.items\"]\n", "max_drops = \"100%\"");
    let left = lake.metasync("run", &["--accept-policy-change"]).expect(0);
    lake.policy_of("databases = [\"sales\"]\n", "max_drops = \"100%\"");
    let came = lake.metasync("run", &[]).expect(0);
    assert_eq!((missing(&left), missing(&came)), (Value::Null, Value::Null), "{}\n{}", left.stdout, came.stdout);
    lake.assert_in_step();
}

/// Takes what the log has after this event away: nobody wrote it.
fn unwrite(lake: &Lake, newest: &str) {
    lake.sql(
        "source",
        &format!(
            "DELETE FROM NOTIFICATION_LOG WHERE EVENT_ID > {newest};
             UPDATE NOTIFICATION_SEQUENCE SET NEXT_EVENT_ID = {newest} + 1"
        ),
    );
}

#[test]
fn rule_25_a_log_that_was_switched_off_is_named_with_what_changed_meanwhile() {
    let lake = lake();
    let off = |ran: &Ran| ran.summary()["events"]["log_seems_off"].clone();
    let words = "the source's event log seems to be off";
    set(&lake, "with an event");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((off(&ran), missing(&ran), ran.stderr.contains(words)), (Value::Null, Value::Null, false));

    let last = newest(&lake);
    set(&lake, "without");
    lake.partition(&lake.unmade_table("orders", &["dt"]), &["2026-11-02"], "two");
    lake.table("more", &[]);
    unwrite(&lake, &last);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!(missing(&ran), json!(["sales.items", "sales.more", "sales.orders"]), "{}", ran.stderr);
    assert_eq!((off(&ran), ran.number("events/applied"), ran.number("events/skipped")), (json!(true), 0, 0));
    for said in [words, &format!("there is no event after {last};"), "hive.metastore.transactional.event.listeners"] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    lake.assert_in_step();

    // An idle log is an idle log, also while files come: they fire no event.
    lake.write("sales.db/orders/dt=2026-11-01/part-1", "nightly");
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((off(&ran), ran.number("counts/copied"), ran.stderr.contains(words)), (Value::Null, 1, false));

    // One that lost an event and has another one is not off.
    let last = newest(&lake);
    set(&lake, "lost");
    unwrite(&lake, &last);
    lake.table("others", &[]);
    let ran = lake.metasync("run", &[]).expect(0);
    assert_eq!((off(&ran), missing(&ran)), (Value::Null, json!(["sales.items"])), "{}", ran.stdout);
    lake.assert_in_step();
}
