//! Rule 20 for files that somebody removed on the target: a run that lists their folder refuses to go on, until it is told to.
//! What runs of ours removed, or never brought, is no drift.

use metasync::metastore::Change;
use metasync::model::{PartitionName, Table, TableName};
use rustix::process::Signal;
use tests::cli::Ran;
use tests::lake::{LARGE, Lake};

/// A lake with a path of the policy, in step.
fn lake() -> Lake {
    let lake = Lake::logged();
    lake.database("sales");
    with_path(&lake, "");
    lake.write("../jobs/a.jar", "a");
    lake.write("../jobs/lib/b.jar", "b");
    let orders = lake.table("orders", &["dt"]);
    for day in ["1", "2"] {
        lake.partition(&orders, &[day], day);
    }
    lake.table("items", &[]);
    for part in ["part-0", "part-1"] {
        lake.write(&format!("sales.db/items/{part}"), part);
    }
    lake.metasync("run", &[]).expect(0);
    lake
}

fn with_path(lake: &Lake, options: &str) {
    lake.policy(&format!("max_drops = \"100%\"\nmax_deletes = \"100%\"\n{options}"));
    let root = lake.root().display().to_string();
    let path = format!("[[paths]]\nfrom = \"{root}/jobs\"\nto = \"{root}/jobs_copy\"\ndelete = true\n");
    let text = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    std::fs::write(lake.root().join("p.toml"), text.replace("[options]", &format!("{path}[options]"))).unwrap();
}

fn managed(lake: &Lake, name: &str) -> Table {
    lake.write(&format!("sales.db/{name}/part-0"), name);
    lake.managed(name, &[])
}

/// Both `plan` and `run` refuse, name this and the ways out, and nothing is written.
fn refused(lake: &Lake, said: &str) {
    let before = (lake.files(&lake.target("")), lake.files(&lake.root().join("jobs_copy")), lake.dump("target"));
    for verb in ["plan", "run"] {
        let ran = lake.metasync(verb, &[]).expect(5);
        for word in [said, "gone", "nothing was written", "--overwrite-drift", "resync"] {
            assert!(ran.last_word().contains(word), "{verb} without {word:?}: {}", ran.stderr);
        }
    }
    let after = (lake.files(&lake.target("")), lake.files(&lake.root().join("jobs_copy")), lake.dump("target"));
    assert_eq!(before, after);
}

fn in_step(lake: &Lake) {
    lake.assert_in_step();
    assert_eq!(lake.files(&lake.root().join("jobs")), lake.files(&lake.root().join("jobs_copy")));
}

fn copied(ran: &Ran) -> u64 {
    ran.number("counts/copied")
}

#[test]
fn rule_20_a_file_that_somebody_removed_on_the_target_is_drift_until_it_is_named() {
    let lake = lake();
    std::fs::remove_file(lake.target("sales.db/items/part-0")).unwrap();
    refused(&lake, "1 object that the last run left on the target is gone");
    refused(&lake, "sales.db/items/part-0");
    assert_eq!(copied(&lake.metasync("run", &["--overwrite-drift"]).expect(0)), 1);
    in_step(&lake);

    // Of the partition of one table, while another one's files come and change at the source.
    std::fs::remove_dir_all(lake.target("sales.db/orders/dt=1")).unwrap();
    lake.write("sales.db/items/part-2", "new");
    lake.write("sales.db/items/part-1", "changed");
    refused(&lake, "sales.db/orders/dt=1/part-0");
    lake.metasync("resync", &["--table", "sales.orders"]).expect(0);
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 2, "what changed at the source");
    in_step(&lake);

    // Of a file that was replaced at the source meanwhile.
    std::fs::remove_file(lake.target("sales.db/items/part-1")).unwrap();
    lake.write("sales.db/items/part-1", "changed once more");
    refused(&lake, "sales.db/items/part-1");
    lake.metasync("resync", &["--table", "sales.items"]).expect(0);
    in_step(&lake);

    // All of the replica's data.
    std::fs::remove_dir_all(lake.target("sales.db")).unwrap();
    refused(&lake, "5 objects that the last run left on the target are gone");
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    in_step(&lake);
}

#[test]
fn rule_20_a_file_that_somebody_removed_from_a_path_is_drift_until_it_is_named() {
    let lake = lake();
    std::fs::remove_file(lake.root().join("jobs_copy/lib/b.jar")).unwrap();
    refused(&lake, "jobs_copy/lib/b.jar");
    assert_eq!(copied(&lake.metasync("run", &["--overwrite-drift"]).expect(0)), 1);
    in_step(&lake);
    // Between sweeps tables are not listed, paths are.
    with_path(&lake, "sweep = \"1h\"");
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_file(lake.target("sales.db/items/part-0")).unwrap();
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 0, "nothing was looked at");
    std::fs::remove_file(lake.root().join("jobs_copy/a.jar")).unwrap();
    refused(&lake, "jobs_copy/a.jar");
    lake.metasync("run", &["--overwrite-drift"]).expect(0);
    with_path(&lake, "");
    refused(&lake, "sales.db/items/part-0");
}

#[test]
fn rule_20_what_nobody_removed_from_the_replica_is_no_drift() {
    let lake = lake();
    // Both sides lost it; it was never data; a partition went and comes again; a table goes with its files and comes again.
    std::fs::remove_file(lake.source("sales.db/items/part-0")).unwrap();
    std::fs::remove_file(lake.target("sales.db/items/part-0")).unwrap();
    lake.write("sales.db/items/_temporary/0/part-9", "being written");
    let brief = managed(&lake, "brief");
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 1);
    let gone = Change::DropPartitions {
        table: TableName::new("sales", "orders"),
        names: vec![PartitionName("dt=2".to_owned())],
    };
    lake.apply(&[gone, Change::DropTable(brief.name)]);
    std::fs::remove_dir_all(lake.source("sales.db/brief")).unwrap();
    std::fs::remove_dir_all(lake.source("sales.db/orders/dt=2")).unwrap();
    lake.metasync("run", &[]).expect(0);
    assert!(!lake.target("sales.db/brief/part-0").exists() && !lake.target("sales.db/orders/dt=2/part-0").exists());
    managed(&lake, "brief");
    lake.partition(&lake.unmade_table("orders", &["dt"]), &["2"], "2");
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 2);
    std::fs::remove_dir_all(lake.source("sales.db/items/_temporary")).unwrap();
    in_step(&lake);

    // An external table goes and leaves its files; somebody tidies up; it comes again.
    let kept = lake.table("kept", &[]);
    lake.write("sales.db/kept/part-0", "kept");
    lake.metasync("run", &[]).expect(0);
    lake.apply(&[Change::DropTable(kept.name.clone())]);
    lake.metasync("run", &[]).expect(0);
    std::fs::remove_dir_all(lake.target("sales.db/kept")).unwrap();
    lake.apply(&[Change::PutTable(Box::new(kept))]);
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 1);
    in_step(&lake);

    // A table moves to another folder and, when somebody has tidied up the first one, back again.
    let mut table = lake.unmade_table("items", &[]);
    let home = table.storage.location.clone();
    table.storage.location = home.clone().map(|home| format!("{home}_moved"));
    lake.write("sales.db/items_moved/part-0", "moved");
    lake.apply(&[Change::PutTable(Box::new(table.clone()))]);
    lake.metasync("run", &[]).expect(0);
    let _ = std::fs::remove_dir_all(lake.target("sales.db/items"));
    table.storage.location = home;
    lake.apply(&[Change::PutTable(Box::new(table))]);
    lake.metasync("run", &[]).expect(0);
    assert_eq!(lake.files(&lake.source("sales.db/items")), lake.files(&lake.target("sales.db/items")));
}

#[test]
fn rule_20_after_a_quarantine_and_after_a_run_that_died_what_is_lacking_is_copied() {
    let lake = lake();
    let of_it = "WHERE SD_ID = (SELECT SD_ID FROM TBLS WHERE TBL_NAME = 'items')";
    let whole = lake.sql("source", &format!("SELECT CAST(SERDE_ID AS TEXT) FROM SDS {of_it}")).concat().concat();
    lake.sql("source", &format!("UPDATE SDS SET SERDE_ID = 99998 {of_it}"));
    lake.metasync("run", &[]).expect(3);
    std::fs::remove_file(lake.target("sales.db/items/part-0")).unwrap();
    lake.metasync("run", &[]).expect(3);
    lake.sql("source", &format!("UPDATE SDS SET SERDE_ID = {whole} {of_it}"));
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 1);
    in_step(&lake);

    lake.write("sales.db/items/part-2", &"x".repeat(LARGE));
    let mut running = lake.copying("sales.db/items");
    running.signal(Signal::KILL);
    drop(running);
    std::fs::remove_file(lake.target("sales.db/orders/dt=1/part-0")).unwrap();
    with_path(&lake, "");
    assert_eq!(copied(&lake.metasync("run", &[]).expect(0)), 2);
    in_step(&lake);
}
