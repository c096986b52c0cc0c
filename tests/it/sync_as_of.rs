//! Rule 26: how old a replica is. It is as old as the oldest thing that it shows, and says so.

use jiff::Timestamp;
use metasync::metastore::Change;
use metasync::model::{
    Constraint, ConstraintKind, DatabaseName, Function, FunctionKind, Resource, ResourceKind, TableName, UnknownFields,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use tests::cli::Ran;
use tests::lake::{LARGE, Lake};
use tests::metastores::objects;
use tests::services;

fn as_of(ran: &Ran) -> Value {
    ran.summary()["as_of"].clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

#[test]
fn rule_26_a_replica_is_as_old_as_its_quarantined_table_until_that_is_mended() {
    let lake = Lake::of_two_tables();
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
    let lake = Lake::of_two_tables();
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
    let lake = Lake::of_two_tables();
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

/// Adds a path to the policy of a lake.
fn with_path(lake: &Lake) {
    lake.policy("");
    let root = lake.root().display().to_string();
    let path = format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{root}/jobs_copy\"\n");
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &format!("{path}[options]"))).unwrap();
}

#[test]
fn rule_26_a_path_that_failed_holds_the_replica_at_its_last_whole_look_and_is_said_apart() {
    let lake = Lake::of_two_tables();
    with_path(&lake);
    lake.write("../jobs/a.jar", "a");
    // A file stands where a folder must be: of a path that never was whole nobody knows what it shows.
    lake.write("../jobs/lib/b.jar", "b");
    let blocked = lake.root().join("jobs_copy/lib");
    std::fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    std::fs::write(&blocked, "in the way").unwrap();
    let never = lake.metasync("run", &["--adopt"]).expect(3);
    assert_eq!(as_of(&never), Value::Null, "{}", never.stdout);
    let status = lake.status();
    assert_eq!(status["failed_paths"][0]["as_of"], Value::Null, "{status}");
    assert!(lake.shell.metasync(&["status", "p.toml"]).expect(0).stdout.contains("(never whole): 1 object failed"));
    std::fs::remove_file(&blocked).unwrap();
    let known = time(&as_of(&lake.metasync("run", &[]).expect(0)));
    let between = Timestamp::now();
    assert_eq!(lake.status()["failed_paths"], json!([]));

    lake.write("../jobs/more/c.jar", "c");
    let blocked = lake.root().join("jobs_copy/more");
    std::fs::write(&blocked, "in the way").unwrap();
    let mut held = None;
    for content in ["newer", "newest"] {
        lake.write("sales.db/b/part-0", content);
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!((ran.number("counts/copied"), ran.number("counts/failed")), (1, 1), "tables go on: {}", ran.stdout);
        let shows = as_of(&ran);
        assert!(known <= time(&shows) && time(&shows) < between, "{known} {shows} {between}");
        assert_eq!(held.get_or_insert_with(|| shows.clone()), &shows);
        let status = lake.status();
        let path = &status["failed_paths"][0];
        assert_eq!((&status["as_of"], &path["as_of"]), (&shows, &shows), "{status}");
        assert!(path["path"].as_str().unwrap().ends_with("jobs_copy"), "{status}");
        assert!(path["error"].as_str().unwrap().starts_with("1 object failed: "), "{status}");
        let words = lake.shell.metasync(&["status", "p.toml"]).expect(0).stdout;
        let apart = words.lines().find(|line| line.trim_start().starts_with("failed: path "));
        assert!(apart.is_some_and(|line| line.contains(shows.as_str().unwrap())), "{words}");
    }
    std::fs::remove_file(&blocked).unwrap();
    let before = Timestamp::now();
    let mended = lake.metasync("run", &[]).expect(0);
    assert!(time(&as_of(&mended)) > before, "{}", mended.stdout);
    assert_eq!(lake.status()["failed_paths"], json!([]));
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
}

/// A function whose only file is this one of the source.
fn function(lake: &Lake, name: &str, file: &str) -> Change {
    Change::PutFunction(Function {
        database: DatabaseName::new("sales"),
        name: name.to_owned(),
        class_name: Some("example.F".to_owned()),
        owner: None,
        create_time: 1_700_000_000,
        kind: FunctionKind::Java,
        resources: vec![Resource { kind: ResourceKind::Jar, uri: format!("file:{}", lake.source(file).display()) }],
        unknown: UnknownFields::default(),
    })
}

#[test]
fn rule_26_a_function_whose_file_failed_or_that_the_target_refused_holds_the_replica_where_it_was() {
    let lake = Lake::of_two_tables();
    lake.write("sales.db/udf/f.jar", "f");
    lake.apply(&[function(&lake, "f", "sales.db/udf/f.jar")]);
    let known = as_of(&lake.metasync("run", &[]).expect(0));
    lake.write("sales.db/udf/lib/g.jar", "g");
    lake.apply(&[function(&lake, "g", "sales.db/udf/lib/g.jar")]);
    // A file stands where a folder must be.
    let blocked = lake.target("sales.db/udf/lib");
    std::fs::write(&blocked, "in the way").unwrap();
    for content in ["newer", "newest"] {
        lake.write("sales.db/b/part-0", content);
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!((ran.number("counts/copied"), ran.number("counts/failed")), (1, 1), "{}", ran.stdout);
        assert_eq!((&as_of(&ran), &lake.status()["as_of"]), (&known, &known), "{}", ran.stdout);
        assert!(ran.stderr.contains("functions of sales: udf/lib/g.jar: "), "{}", ran.stderr);
        let there = lake.sql("target", "SELECT FUNC_NAME FROM FUNCS");
        assert_eq!(there, [["f"]], "one that nobody could call is not there");
    }
    std::fs::remove_file(&blocked).unwrap();
    let mended = as_of(&lake.metasync("run", &[]).expect(0));
    assert!(time(&mended) > time(&known));

    // Its files are there, and the target's metastore does not take it.
    let refuses = "CREATE TRIGGER no BEFORE INSERT ON FUNCS BEGIN SELECT RAISE(ABORT, 'not today'); END";
    lake.sql("target", refuses);
    lake.apply(&[function(&lake, "h", "sales.db/udf/f.jar")]);
    for _ in 0..2 {
        let ran = lake.metasync("run", &[]).expect(3);
        assert_eq!((&as_of(&ran), &lake.status()["as_of"]), (&mended, &mended), "{}", ran.stdout);
    }
    lake.sql("target", "DROP TRIGGER no");
    assert!(time(&as_of(&lake.metasync("run", &[]).expect(0))) > time(&mended));
    lake.assert_in_step();
}

/// What `status` names besides tables: the object and what it shows.
fn uncarried(lake: &Lake) -> Vec<(String, Value)> {
    let status = lake.status();
    let named = status["uncarried"].as_array().unwrap_or_else(|| panic!("{status}"));
    named.iter().map(|one| (one["object"].as_str().unwrap().to_owned(), one["as_of"].clone())).collect()
}

#[test]
fn rule_26_a_function_or_a_constraint_that_cannot_be_carried_holds_the_replica_and_is_said_apart() {
    let lake = Lake::of_two_tables();
    lake.write("sales.db/udf/f.jar", "f");
    lake.apply(&[function(&lake, "f", "sales.db/udf/f.jar")]);
    let (table, kind) = (TableName::new("sales", "a"), ConstraintKind::NotNull { column: "id".to_owned() });
    let (enable, validate, rely) = (true, false, true);
    let key = Constraint { table, name: "nn".to_owned(), kind, enable, validate, rely };
    lake.apply(&[Change::PutConstraint(key)]);
    // Between sweeps, too: a run that compares nothing finds nothing wrong.
    lake.policy("sweep = \"1h\"");
    let drop = |name: &str| Change::DropFunction { database: DatabaseName::new("sales"), name: name.to_owned() };
    let mut known = as_of(&lake.metasync("run", &[]).expect(0));
    type Step<'a> = &'a dyn Fn();
    let set = |sql: &'static str| {
        let lake = &lake;
        move || drop_rows(lake.sql("source", sql))
    };
    let cases: [(&str, Step<'_>, Step<'_>); 3] = [
        (
            "function sales.f",
            &set("UPDATE FUNCS SET FUNC_TYPE = 7 WHERE FUNC_NAME = 'f'"),
            &set("UPDATE FUNCS SET FUNC_TYPE = 1 WHERE FUNC_NAME = 'f'"),
        ),
        (
            "constraint nn on sales.a",
            &set("UPDATE KEY_CONSTRAINTS SET CONSTRAINT_TYPE = 9"),
            &set("UPDATE KEY_CONSTRAINTS SET CONSTRAINT_TYPE = 3"),
        ),
        // In no location of the policy.
        ("function sales.g", &|| lake.apply(&[function(&lake, "g", "../elsewhere/g.jar")]), &|| {
            lake.apply(&[drop("g")])
        }),
    ];
    for (object, damage, mend) in cases {
        damage();
        for content in ["newer", "newest", "newest"] {
            lake.write("sales.db/b/part-0", content);
            lake.policy("");
            let ran = lake.metasync("run", &[]).expect(3);
            assert_eq!((&as_of(&ran), &lake.status()["as_of"]), (&known, &known), "{object}: {}", ran.stdout);
            assert_eq!(uncarried(&lake), [(object.to_owned(), known.clone())]);
            let words = lake.shell.metasync(&["status", "p.toml"]).expect(0).stdout;
            let apart = words.lines().find(|line| line.trim_start().starts_with(&format!("not in step: {object} ")));
            assert!(apart.is_some_and(|line| line.contains(known.as_str().unwrap())), "{words}");
            assert_eq!(std::fs::read_to_string(lake.target("sales.db/b/part-0")).unwrap(), content, "others go on");
            let there = ["SELECT FUNC_NAME FROM FUNCS", "SELECT CONSTRAINT_NAME FROM KEY_CONSTRAINTS"];
            assert_eq!(
                there.map(|sql| lake.sql("target", sql).concat()),
                [["f"], ["nn"]],
                "{object}: nothing is dropped"
            );
            let planned = lake.metasync("plan", &[]).expect(3).stdout;
            assert!(planned.contains("\"quarantine\"") && planned.contains(object), "{planned}");
            lake.policy("sweep = \"1h\"");
            let between = lake.metasync("run", &[]).expect(3);
            assert_eq!(as_of(&between), known, "{object}: {}", between.stdout);
        }
        mend();
        lake.policy("");
        let mended = as_of(&lake.metasync("run", &[]).expect(0));
        assert!(time(&mended) > time(&known), "{object}: {mended} {known}");
        assert_eq!(uncarried(&lake), []);
        lake.assert_in_step();
        known = mended;
    }
}

/// What a script answers that only changes something.
fn drop_rows(rows: Vec<Vec<String>>) {
    assert!(rows.is_empty(), "{rows:?}");
}

#[test]
fn rule_26_a_function_that_was_wrong_from_the_first_run_on_holds_nothing_up_and_is_said_apart() {
    let lake = Lake::of_two_tables();
    lake.apply(&[function(&lake, "g", "../elsewhere/g.jar")]);
    let first = as_of(&lake.metasync("run", &[]).expect(3));
    let second = as_of(&lake.metasync("run", &[]).expect(3));
    assert!(time(&second) > time(&first));
    assert_eq!(uncarried(&lake), [("function sales.g".to_owned(), Value::Null)]);
    let words = lake.shell.metasync(&["status", "p.toml"]).expect(0).stdout;
    assert!(words.contains("not in step: function sales.g (never in step): "), "{words}");
}

#[test]
fn rule_26_so_is_a_path_whose_store_cannot_be_opened() {
    for from in ["nowhere", "az://nobody-says-which-account/jobs"] {
        let lake = Lake::of_two_tables();
        let root = lake.root().display().to_string();
        let from = if from.contains(':') { from.to_owned() } else { format!("{root}/{from}") };
        let paths = format!("[[paths]]\nfrom = \"{from}\"\nto = \"{root}/copy\"\n[options]");
        let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
        std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &paths)).unwrap();
        let ran = lake.metasync("run", &[]).expect(2);
        assert_eq!(ran.number("counts/copied"), 2, "the others go on: {}", ran.stdout);
        assert!(ran.stderr.contains(&format!("path {from} to {root}/copy: ")), "{}", ran.stderr);
        assert_eq!(lake.tables("target", "sales").len(), 2);
    }
}

#[test]
fn rule_26_a_path_that_cannot_be_planned_is_its_own_error_and_holds_the_replica_where_it_was() {
    let Some(server) = services::s3() else { return };
    let mut lake = Lake::of_two_tables();
    let shell = lake.shell.clone();
    lake.shell = shell.clone().with_s3(&server);
    lake.policy("");
    let (bucket, root) = (server.fresh_bucket("jobs"), lake.root().display().to_string());
    let paths = format!(
        "[[paths]]\nfrom = \"s3://{bucket}/jobs\"\nto = \"{root}/jobs_copy\"\n\
         [[paths]]\nfrom = \"{root}/more\"\nto = \"{root}/more_copy\"\n[options]"
    );
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &paths)).unwrap();
    let jar = server.file_of(&bucket, "jobs/a.jar");
    std::fs::create_dir_all(jar.parent().unwrap()).unwrap();
    std::fs::write(&jar, "a").unwrap();
    lake.write("../more/b.jar", "b");
    let mut known = as_of(&lake.metasync("run", &[]).expect(0));
    let (folder, aside) = (server.file_of(&bucket, ""), server.file_of(&format!("{bucket}-aside"), ""));
    let away = |from: &Path, to: &Path| std::fs::rename(from, to).unwrap();
    for (is_gone, code) in [(false, 12), (true, 2)] {
        // Nobody may list it, or the bucket is not there.
        let mut stranger = server.clone();
        stranger.secret_key = "not it".to_owned();
        match is_gone {
            false => lake.shell = shell.clone().with_s3(&stranger),
            true => away(&folder, &aside),
        }
        let (between, mut held) = (Timestamp::now(), None);
        for content in ["newer", "newest"] {
            lake.write("sales.db/b/part-0", &format!("{content} {is_gone}"));
            lake.write("../more/b.jar", &format!("{content} {is_gone}"));
            let planned = lake.metasync("plan", &[]).expect(code).stdout;
            assert!(planned.contains("\"quarantine\"") && planned.contains("/jobs to "), "{planned}");
            let ran = lake.metasync("run", &[]).expect(code);
            assert_eq!(ran.number("counts/copied"), 2, "the others go on: {}", ran.stdout);
            let shows = as_of(&ran);
            assert!(time(&known) <= time(&shows) && time(&shows) < between, "{known} {shows} {between}");
            assert_eq!(held.get_or_insert_with(|| shows.clone()), &shows, "its last look");
            assert!(ran.stderr.contains(&format!("path s3://{bucket}/jobs to {root}/jobs_copy: ")), "{}", ran.stderr);
            let status = lake.status();
            assert_eq!((&status["as_of"], &status["failed_paths"][0]["as_of"]), (&shows, &shows), "{status}");
            assert_eq!(status["failed_paths"].as_array().map(Vec::len), Some(1), "{status}");
            assert_eq!(lake.files(&lake.root().join("more")), lake.files(&lake.root().join("more_copy")));
            assert!(lake.root().join("jobs_copy/a.jar").exists(), "what was there stays");
        }
        // What refuses the whole run refuses it still.
        std::fs::write(lake.root().join("more_copy/b.jar"), "written by others").unwrap();
        lake.write("../more/b.jar", "replaced");
        let refused = lake.metasync("run", &[]).expect(5);
        assert!(refused.last_word().contains("/more_copy/b.jar"), "rule 20: {}", refused.stderr);
        lake.metasync("run", &["--overwrite-drift"]).expect(code);
        match is_gone {
            false => lake.shell = shell.clone().with_s3(&server),
            true => away(&aside, &folder),
        }
        let mended = as_of(&lake.metasync("run", &[]).expect(0));
        assert!(time(&mended) > between);
        assert_eq!(lake.status()["failed_paths"], json!([]));
        known = mended;
    }
    std::fs::remove_file(&jar).unwrap();
    let empty = lake.metasync("run", &[]).expect(5);
    assert!(empty.last_word().contains("is empty"), "rule 5: {}", empty.stderr);
}
