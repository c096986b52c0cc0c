//! Rule 26: how old a replica is. It is as old as the oldest thing that it shows, and says so.

use jiff::Timestamp;
use metasync::metastore::Change;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::cli::Ran;
use tests::lake::{LARGE, Lake};
use tests::metastores::objects;

fn lake() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    for name in ["a", "b"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    lake
}

fn as_of(ran: &Ran) -> Value {
    ran.summary()["as_of"].clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

#[test]
fn rule_26_a_replica_is_as_old_as_its_quarantined_table_until_that_is_mended() {
    let lake = lake();
    let known = as_of(&lake.metasync("run", &[]).expect(0));
    // The row that the description of its storage names is not there any more.
    let of_it = "WHERE SD_ID = (SELECT SD_ID FROM TBLS WHERE TBL_NAME = 'a')";
    let whole = lake.sql("source", &format!("SELECT CAST(SERDE_ID AS TEXT) FROM SDS {of_it}")).concat().concat();
    lake.sql("source", &format!("UPDATE SDS SET SERDE_ID = 99998 {of_it}"));
    for content in ["newer", "newest"] {
        lake.write("sales.db/b/part-0", content);
        lake.table(content, &[]);
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!(ran.number("counts/copied"), 2, "the others go on, to the folder of a new one: {}", ran.stdout);
        assert_eq!(as_of(&ran), known, "{}", ran.stdout);
        let status = lake.status();
        assert_eq!((&status["as_of"], &status["quarantined"][0]["as_of"]), (&known, &known), "{status}");
        assert_eq!((&status["quarantined"][0]["table"], &status["events_behind"]), (&json!("sales.a"), &json!(0)));
        let words = lake.shell.metasync(&["status", "p.toml"]).expect(0);
        let known = known.as_str().unwrap();
        assert!(words.stdout.starts_with(&format!("as-of {known}")), "{}", words.stdout);
        let apart = words.stdout.lines().find(|line| line.contains("quarantined: sales.a"));
        assert!(apart.is_some_and(|line| line.contains(known)), "{}", words.stdout);
    }
    lake.sql("source", &format!("UPDATE SDS SET SERDE_ID = {whole} {of_it}"));
    let before = Timestamp::now();
    let mended = lake.metasync("run", &[]).expect(0);
    assert!(time(&as_of(&mended)) > before, "{}", mended.stdout);
    let status = lake.status();
    assert_eq!((&status["as_of"], &status["quarantined"]), (&as_of(&mended), &json!([])), "{status}");
    lake.assert_in_step();
}

#[test]
fn rule_26_a_table_that_was_never_carried_holds_nothing_up_and_is_said_apart() {
    let lake = lake();
    let mut acid = lake.unmade_table("acid", &[]);
    acid.parameters.insert("transactional".to_owned(), "true".to_owned());
    lake.apply(&[Change::PutTable(Box::new(acid))]);
    let first = as_of(&lake.metasync("run", &[]).expect(3));
    let second = as_of(&lake.metasync("run", &[]).expect(3));
    assert!(time(&second) > time(&first));
    let status = lake.status();
    let apart = &status["quarantined"][0];
    assert_eq!((&apart["table"], &apart["as_of"]), (&json!("sales.acid"), &Value::Null), "{status}");
}

#[test]
fn rule_26_between_sweeps_a_replica_is_as_old_as_the_start_of_its_oldest_look() {
    let lake = lake();
    // Another tree: a partition that stands elsewhere.
    let (days, other) = (lake.table("days", &["dt"]), lake.table("other", &["dt"]));
    let mut far = objects::partition(&other, &["far"]);
    far.storage.location = Some(format!("file:{}", lake.source("elsewhere/far").display()));
    lake.write("elsewhere/far/part-0", "far");
    lake.apply(&[Change::PutPartitions { table: other.name, partitions: vec![far] }]);
    lake.write("sales.db/b/part-1", &"x".repeat(LARGE));
    let before = Timestamp::now();
    let mut running = lake.copying("sales.db/b");
    let in_the_middle = Timestamp::now();
    running.signal(Signal::CONT);
    let first = as_of(&running.end().expect(0));
    assert!(time(&first) >= before && time(&first) < in_the_middle, "the start: {before}, {first}, {in_the_middle}");

    lake.policy("sweep = \"1h\"");
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!((as_of(&idle), idle.number("requests/list")), (first.clone(), 0), "{}", idle.stdout);
    // One tree is looked at: the other is as old as it was.
    lake.partition(&days, &["near"], "near");
    let one = lake.metasync("run", &[]).expect(0);
    assert_eq!((as_of(&one), one.number("counts/copied")), (first.clone(), 1), "{}", one.stdout);
    assert_eq!(lake.status()["as_of"], first);
    // All are.
    lake.policy("");
    let before = Timestamp::now();
    let all = lake.metasync("run", &[]).expect(0);
    assert!(time(&as_of(&all)) >= before, "{}", all.stdout);
    lake.assert_in_step();
}
