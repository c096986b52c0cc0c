//! Rule 33: a replica as the source of another. What a run writes stands in the target's own event log, and a source whose
//! runs write none is refused.

use distcp::settings::Environment;
use metasync::event::{self, Kind as Happened};
use metasync::metastore::{Change, EventRow, Metastore, open};
use metasync::model::{Database, DatabaseName, PartitionName, TableName};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tests::cli::Ran;
use tests::hms::{self, Kind, Version};
use tests::lake::Lake;
use tests::metastores::adapters::open_url;
use tests::metastores::objects;

/// More events than any test here makes.
const MANY: usize = 10_000;
/// Tables of the run that is killed.
const TABLES: usize = 40;
/// How long it may take until it has begun to write.
const LIMIT: Duration = Duration::from_secs(60);
/// Rounds in which a server and we write at the same time.
const ROUNDS: usize = 8;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn url(lake: &Lake, name: &str) -> String {
    format!("sqlite://{}/{name}.db", lake.root().display())
}

/// The policy `next.toml`: from the replica to a third lake.
fn next_hop(lake: &Lake) {
    let root = lake.root().display();
    let text = format!(
        "name = \"next\"\nstate = \"{root}/next-state\"\ndatabases = [\"sales\"]\n\
         source.metastore = \"sqlite://{root}/target.db\"\ntarget.metastore = \"sqlite://{root}/third.db\"\n\
         [[locations]]\nfrom = \"file:{root}/target\"\nto = \"file:{root}/third\"\n[options]\nmax_drops = \"100%\"\n"
    );
    std::fs::write(lake.root().join("next.toml"), text).unwrap();
}

fn next(lake: &Lake) -> Ran {
    lake.shell.metasync(&["run", "next.toml", "--json"])
}

/// Both hops.
fn follow(lake: &Lake) -> Ran {
    lake.metasync("run", &[]).expect(0);
    next(lake).expect(0)
}

async fn log(url: &str) -> Vec<EventRow> {
    open_url(url).await.snapshot().await.unwrap().events_after(0, MANY).await.unwrap()
}

type Names = BTreeSet<(TableName, Option<PartitionName>)>;

/// The tables and partitions that a log from its beginning leaves.
fn named_by(log: &[EventRow]) -> Names {
    let mut names = Names::new();
    for (row, id) in log.iter().zip(1..) {
        assert_eq!(row.event_id, id, "ids are dense");
        match event::decode(row).unwrap().kind {
            Happened::CreateTable { table, .. } => _ = names.insert((table.name, None)),
            Happened::AlterTable { before, after, .. } => {
                assert_eq!(before.name, after.name, "runs drop and make what was renamed");
                assert!(names.contains(&(after.name.clone(), None)), "{} was not there", after.name);
            }
            Happened::DropTable { name, .. } => names.retain(|(table, _)| *table != name),
            Happened::AddPartitions { table, partitions, .. } => {
                names.extend(partitions.into_iter().map(|it| (table.name.clone(), Some(it.name))));
            }
            Happened::DropPartitions { name, partitions, .. } => {
                partitions.into_iter().for_each(|it| assert!(names.remove(&(name.clone(), Some(it)))));
            }
            _ => (),
        }
    }
    names
}

/// The tables and partitions of `sales` that are there.
async fn present(url: &str) -> Names {
    let snapshot = open_url(url).await.snapshot().await.unwrap();
    let mut names = Names::new();
    for table in snapshot.table_names(&DatabaseName::new("sales")).await.unwrap() {
        let table = TableName::new("sales", &table);
        let partitions = snapshot.partition_names(&table).await.unwrap();
        names.extend(partitions.into_iter().map(|name| (table.clone(), Some(name))));
        names.insert((table, None));
    }
    names
}

/// What the log says, and what is there.
fn agree(url: &str) -> Names {
    let (said, there) = block_on(async { (named_by(&log(url).await), present(url).await) });
    assert_eq!(said, there);
    there
}

#[test]
fn rule_33_what_changes_at_the_first_arrives_at_the_third_by_the_log_of_the_second() {
    let lake = Lake::new();
    next_hop(&lake);
    lake.policy("max_drops = \"100%\"");
    lake.database("sales");
    let days = lake.table("days", &["dt"]);
    for name in ["a", "b", "c"] {
        lake.table(name, &[]);
        lake.write(&format!("sales.db/{name}/part-0"), name);
    }
    lake.partition(&days, &["1"], "one");
    follow(&lake);
    let first = agree(&url(&lake, "target")).len();
    assert_eq!(first, 5);

    lake.partition(&days, &["2"], "two");
    let mut changed = lake.unmade_table("a", &[]);
    changed.parameters.insert("comment".to_owned(), "Änderung 😀".to_owned());
    lake.apply(&[
        Change::PutTable(Box::new(changed)),
        Change::RenameTable { from: TableName::new("sales", "b"), to: TableName::new("sales", "d") },
        Change::DropTable(TableName::new("sales", "c")),
    ]);
    let ran = follow(&lake);
    let summary = ran.summary();
    for (event_type, count) in [("ALTER_TABLE", 1), ("CREATE_TABLE", 1), ("DROP_TABLE", 2), ("ADD_PARTITION", 1)] {
        assert_eq!(summary["events"]["by_type"][event_type], count, "{event_type}: {}", ran.stdout);
    }
    assert_eq!(summary["events"].get("events_missing"), None, "{}", ran.stdout);
    let names = agree(&url(&lake, "target"));
    assert_eq!(names, block_on(present(&url(&lake, "third"))));
    assert_eq!(names, block_on(present(&url(&lake, "source"))));
    assert_eq!(lake.files(&lake.source("")), lake.files(&lake.root().join("third")));
    lake.shell.metasync(&["verify", "next.toml", "--json"]).expect(0);

    // Nothing new, nothing said.
    let before = block_on(log(&url(&lake, "target"))).len();
    let ran = follow(&lake);
    assert_eq!(ran.summary()["events"]["by_type"], serde_json::json!({}));
    assert_eq!(block_on(log(&url(&lake, "target"))).len(), before);
}

#[test]
fn rule_33_what_was_emptied_on_purpose_is_so_at_the_third_too() {
    let lake = Lake::new();
    next_hop(&lake);
    lake.policy("max_deletes = \"100%\"");
    lake.database("sales");
    let days = lake.table("days", &["dt"]);
    for day in ["1", "2"] {
        lake.partition(&days, &[day], day);
    }
    lake.table("whole", &[]);
    lake.write("sales.db/whole/part-0", "rows");
    let tell = |partition: Option<PartitionName>, table: &str| {
        let change = Change::TellEmptied { table: TableName::new("sales", table), partition };
        let nothing = Environment::default();
        block_on(async {
            open::open_target(&url(&lake, "source"), &nothing, true).await.unwrap().apply(&[change]).await.unwrap();
        });
    };
    // So that there is a log.
    tell(None, "whole");
    follow(&lake);
    for at in ["whole", "days/dt=1"] {
        std::fs::remove_file(lake.source(&format!("sales.db/{at}/part-0"))).unwrap();
    }
    tell(None, "whole");
    tell(Some(PartitionName("dt=1".to_owned())), "days");
    // The first run dies before it deletes; its successor knows why these are empty, and says so.
    lake.policy("max_deletes = \"100%\"\nmax_duration = \"0s\"");
    lake.metasync("run", &[]).expect(10);
    lake.policy("max_deletes = \"100%\"");
    let ran = follow(&lake);
    let types = &ran.summary()["events"]["by_type"];
    assert_eq!((&types["ALTER_TABLE"], &types["ALTER_PARTITION"]), (&1.into(), &1.into()), "{}", ran.stdout);
    let files = lake.files(&lake.root().join("third"));
    assert_eq!(files.len(), 1, "{files:?}");
    // By hand is not on purpose: the second keeps what it has, and tells nothing.
    std::fs::remove_file(lake.source("sales.db/days/dt=2/part-0")).unwrap();
    lake.metasync("run", &[]).expect(3);
    next(&lake).expect(0);
    assert_eq!(lake.files(&lake.root().join("third")), files);
}

#[test]
fn rule_33_a_source_whose_runs_write_no_log_is_refused_until_they_do() {
    let lake = Lake::new();
    next_hop(&lake);
    lake.database("sales");
    lake.table("a", &[]);
    lake.write("sales.db/a/part-0", "a");
    lake.policy("target_events = false");
    lake.metasync("run", &[]).expect(0);
    assert_eq!(block_on(log(&url(&lake, "target"))), []);
    let refused = next(&lake).expect(5);
    for word in ["sales of the source", "write no event log", "target_events = true"] {
        assert!(refused.last_word().contains(word), "{word}: {}", refused.stderr);
    }
    lake.shell.metasync(&["plan", "next.toml"]).expect(5);
    assert!(!lake.root().join("third").exists(), "nothing is written");
    assert_eq!(block_on(present(&url(&lake, "third"))), Names::new());
    // The mark is no drift, no difference, and the run after it is idle.
    let idle = lake.metasync("run", &[]).expect(0);
    assert_eq!(idle.number("tables/touched"), 0);
    lake.metasync("verify", &[]).expect(0);

    lake.policy("");
    lake.metasync("run", &[]).expect(0);
    next(&lake).expect(0);
    assert_eq!(block_on(present(&url(&lake, "third"))), block_on(present(&url(&lake, "source"))));
    lake.write("sales.db/b/part-0", "b");
    lake.table("b", &[]);
    let ran = follow(&lake);
    assert_eq!(ran.summary()["events"]["by_type"]["CREATE_TABLE"], 1);
    assert_eq!(ran.summary()["events"].get("events_missing"), None, "{}", ran.stdout);
    // And off again.
    lake.policy("target_events = false");
    lake.metasync("run", &[]).expect(0);
    next(&lake).expect(5);
}

#[test]
fn rule_33_a_run_that_is_killed_leaves_a_log_that_says_what_is_there() {
    let lake = Lake::new();
    lake.database("sales");
    for at in 0..TABLES {
        let table = lake.table(&format!("t{at:02}"), &["dt"]);
        lake.partition(&table, &["1"], "one");
    }
    let mut child = lake
        .shell
        .metasync_command(&["run", "p.toml", "--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let target = url(&lake, "target");
    let started = Instant::now();
    // Killed in the middle, where it can be seen to be there; where it was faster the log is whole.
    block_on(async {
        while child.try_wait().unwrap().is_none() && started.elapsed() < LIMIT {
            let Ok(metastore) = open::open(&target, &Environment::default()).await else { continue };
            let Ok(snapshot) = metastore.snapshot().await else { continue };
            if snapshot.current_event_id().await.is_ok_and(|id| id > 10) {
                break;
            }
        }
    });
    let _ended_before = child.kill();
    child.wait().unwrap();
    assert!(!agree(&target).is_empty());
    let again = lake.metasync("run", &[]);
    // The lease of the killed run is taken over at once on one machine.
    again.expect(0);
    assert_eq!(agree(&target).len(), 2 * TABLES);
}

/// A server and we write to one metastore at the same time: everybody's events are there, readable, and no id is given twice.
fn beside_a_server(version: Version, kind: Kind) {
    let Some(shared) = hms::shared(version, kind) else { return };
    block_on(async {
        let name = format!("hops_{}_{version:?}_{kind:?}", std::process::id()).to_lowercase();
        let database = DatabaseName::new(&name);
        let folder = tempfile::tempdir().unwrap();
        let root = format!("file:{}", folder.path().display());
        let ours = open::open_target(&shared.sql, &Environment::default(), true).await.unwrap();
        let theirs = open_url(&shared.thrift).await;
        let before = theirs.snapshot().await.unwrap().current_event_id().await.unwrap();
        // Not all versions keep when a database was made.
        let made = Database { create_time: None, ..objects::database(&database, &root) };
        ours.apply(&[Change::PutDatabase(made)]).await.unwrap();
        let write = async |metastore: &dyn Metastore, prefix: &str| {
            for at in 0..ROUNDS {
                let table = objects::table(database.table(&format!("{prefix}{at}")), &root, &["p"]);
                let partitions = ["1", "é/ü"].map(|value| objects::partition(&table, &[value])).to_vec();
                // One change a call: so servers take turns with us as often as they can.
                metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
                metastore.apply(&[Change::PutPartitions { table: table.name.clone(), partitions }]).await.unwrap();
            }
        };
        futures::join!(write(ours.as_ref(), "our"), write(theirs.as_ref(), "their"));
        // As the server gives them: `get_next_notification`.
        let rows = theirs.snapshot().await.unwrap().events_after(before, MANY).await.unwrap();
        let of = |prefix: &str, event_type: &str| {
            let ours = |row: &&EventRow| {
                row.database.as_ref() == Some(&database.database)
                    && row.table.as_ref().is_some_and(|table| table.starts_with(prefix))
                    && row.event_type == event_type
            };
            rows.iter().filter(ours).collect::<Vec<&EventRow>>()
        };
        let mut our_ids = Vec::new();
        for event_type in ["CREATE_TABLE", "ADD_PARTITION"] {
            assert_eq!(of("our", event_type).len(), ROUNDS, "{event_type}");
            assert_eq!(of("their", event_type).len(), ROUNDS, "{event_type}");
            for row in of("our", event_type) {
                let touches = event::decode(row).unwrap().touches();
                let named = touches.tables.iter().chain(touches.partitions.iter().map(|(table, _)| table));
                assert!(named.eq([&database.table(row.table.as_ref().unwrap())]), "{touches:?}");
                assert_eq!(row.catalog.is_some(), version != Version::V23);
                our_ids.push(row.event_id);
            }
        }
        // Hive 2.3 locks nothing, and on MySQL nothing keeps it from giving an id again.
        if (version, kind) != (Version::V23, Kind::MariaDb) {
            for id in &our_ids {
                assert_eq!(rows.iter().filter(|row| row.event_id == *id).count(), 1, "event {id} twice");
            }
        }
        assert_eq!(our_ids.iter().collect::<BTreeSet<&i64>>().len(), our_ids.len());
        let names = ours.snapshot().await.unwrap().table_names(&database).await.unwrap();
        let mut drops: Vec<Change> = names.iter().map(|name| Change::DropTable(database.table(name))).collect();
        drops.push(Change::DropDatabase(database.clone()));
        ours.apply(&drops).await.unwrap();
        let last = theirs.snapshot().await.unwrap().events_after(before, MANY).await.unwrap();
        let dropped = last.iter().filter(|row| row.database.as_ref() == Some(&database.database));
        assert_eq!(dropped.filter(|row| row.event_type.starts_with("DROP_")).count(), 2 * ROUNDS + 1);
    });
}

#[test]
fn rule_33_beside_hive_2_3_over_postgres() {
    beside_a_server(Version::V23, Kind::Postgres);
}

#[test]
fn rule_33_beside_hive_2_3_over_mariadb() {
    beside_a_server(Version::V23, Kind::MariaDb);
}

#[test]
fn rule_33_beside_hive_3_1_over_postgres() {
    beside_a_server(Version::V31, Kind::Postgres);
}

#[test]
fn rule_33_beside_hive_3_1_over_mariadb() {
    beside_a_server(Version::V31, Kind::MariaDb);
}

#[test]
fn rule_33_beside_hive_4_0_over_postgres() {
    beside_a_server(Version::V40, Kind::Postgres);
}

#[test]
fn rule_33_beside_hive_4_0_over_mariadb() {
    beside_a_server(Version::V40, Kind::MariaDb);
}
