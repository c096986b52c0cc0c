//! Rule 35: a replica in SQLite is loaded into an empty metastore in MariaDB by a run of its own.

use metasync::metastore::Change;
use metasync::model::{DatabaseName, Function, FunctionKind, Table, TableName, UnknownFields};
use serde_json::json;
use std::collections::BTreeSet;
use tests::cli::Ran;
use tests::hms::{Kind, Version, fresh_database};
use tests::lake::Lake;

/// A character of four bytes, which Hive's own tables in MariaDB, of `latin1`, do not hold.
const FOUR_BYTES: &str = "𝒳";

/// A policy from the replica to a third lake, whose metastore is this.
fn load(lake: &Lake, target: &str) {
    let root = lake.root().display();
    let text = format!(
        "name = \"load\"\nstate = \"{root}/load-state\"\ndatabases = [\"sales\"]\n\
         source.metastore = \"sqlite://{root}/target.db\"\ntarget.metastore = \"{target}\"\n\
         [[locations]]\nfrom = \"file:{root}/target\"\nto = \"file:{root}/third\"\n"
    );
    std::fs::write(lake.root().join("load.toml"), text).unwrap();
}

fn run(lake: &Lake, verb: &str) -> Ran {
    lake.shell.metasync(&[verb, "load.toml", "--json"])
}

/// The lines of a dump about the policy's database, with the third lake's places as the second's.
fn dump(lake: &Lake, url: &str) -> Vec<String> {
    let root = lake.root().display();
    let ran = lake.shell.metasync(&["metastore", "dump", url]).expect(0);
    let lines =
        ran.stdout.lines().filter(|line| line.contains("\"database\":\"sales\"") && !line.contains("\"grant\""));
    lines.map(|line| line.replace(&format!("{root}/third"), &format!("{root}/target"))).collect()
}

fn put(table: Table) -> Change {
    Change::PutTable(Box::new(table))
}

#[test]
fn rule_35_a_sqlite_replica_loads_into_mariadb_and_what_latin1_cannot_hold_is_an_error_by_name() {
    let Some(database) = fresh_database(Kind::MariaDb, Version::V31) else { return };
    let lake = Lake::of_two_tables();
    let days = lake.table("days", &["dt"]);
    lake.partition(&days, &["é 1/2"], "one");
    let mut a = lake.unmade_table("a", &[]);
    a.parameters.insert("said".to_owned(), "façade – “€”".to_owned());
    lake.apply(&[
        put(a),
        Change::PutFunction(Function {
            database: DatabaseName::new("sales"),
            name: "f".to_owned(),
            class_name: Some("example.F".to_owned()),
            owner: None,
            create_time: 1_700_000_000,
            kind: FunctionKind::Java,
            resources: Vec::new(),
            unknown: UnknownFields::default(),
        }),
    ]);
    lake.metasync("run", &[]).expect(0);
    load(&lake, &database.url);
    let first = run(&lake, "run").expect(0);
    assert_eq!((&first.summary()["mode"], first.number("counts/copied")), (&json!("bootstrap"), 3));
    let held = dump(&lake, &database.url);
    assert_eq!(dump(&lake, &lake.url("target")), held);
    assert!(held.iter().any(|line| line.contains("façade – “€”")), "{held:#?}");
    run(&lake, "verify").expect(0);

    // One character in each place that has a column of its own.
    let mut named = lake.unmade_table("b", &[]);
    named.parameters.insert("said".to_owned(), FOUR_BYTES.to_owned());
    let mut commented = lake.unmade_table("commented", &[]);
    let columns = std::sync::Arc::make_mut(&mut commented.storage.columns);
    columns[0].comment = Some(FOUR_BYTES.to_owned());
    std::fs::create_dir_all(lake.source("sales.db/commented")).unwrap();
    lake.partition(&days, &[FOUR_BYTES], "two");
    lake.apply(&[put(named), put(commented)]);
    lake.write("sales.db/a/part-1", "more");
    lake.metasync("run", &[]).expect(0);
    lake.assert_in_step();
    for _ in 0..2 {
        let ran = run(&lake, "run").expect(3);
        assert_eq!(ran.number("tables/quarantined"), 3, "{}", ran.stdout);
        for name in ["sales.b", "sales.commented", "sales.days"] {
            let said = ran.stderr.lines().find(|line| line.contains(&format!("{name} is not in step: ")));
            assert!(said.is_some_and(|line| line.contains("latin1")), "{name}: {}", ran.stderr);
        }
        let root = lake.root();
        assert_eq!(std::fs::read_to_string(root.join("third/sales.db/a/part-1")).unwrap(), "more", "the others go on");
    }
    let questions = [
        "SELECT COUNT(*) FROM TABLE_PARAMS WHERE PARAM_VALUE LIKE '%?%'",
        "SELECT COUNT(*) FROM COLUMNS_V2 WHERE COMMENT LIKE '%?%'",
        "SELECT COUNT(*) FROM PARTITIONS WHERE PART_NAME LIKE '%?%'",
        "SELECT COUNT(*) FROM PARTITION_KEY_VALS WHERE PART_KEY_VAL LIKE '%?%'",
        "SELECT COUNT(*) FROM TBLS WHERE TBL_NAME = 'commented'",
    ];
    assert_eq!(questions.map(|sql| database.run(sql).concat().concat()), ["0"; 5], "nothing is written in its place");
    // What it held of them stays.
    assert_eq!(database.run("SELECT COUNT(*) FROM PARTITIONS"), [["1"]]);

    lake.apply(&[
        put(lake.unmade_table("b", &[])),
        Change::DropTable(TableName::new("sales", "commented")),
        Change::DropTable(days.name),
    ]);
    lake.policy("max_drops = \"100%\"");
    lake.metasync("run", &[]).expect(0);
    let text = std::fs::read_to_string(lake.root().join("load.toml")).unwrap();
    std::fs::write(lake.root().join("load.toml"), format!("{text}[options]\nmax_drops = \"100%\"\n")).unwrap();
    run(&lake, "run").expect(0);
    assert_eq!(dump(&lake, &lake.url("target")), dump(&lake, &database.url));
    let names: BTreeSet<String> = database.run("SELECT TBL_NAME FROM TBLS").concat().into_iter().collect();
    assert_eq!(names, BTreeSet::from(["a", "b"].map(str::to_owned)));
}
