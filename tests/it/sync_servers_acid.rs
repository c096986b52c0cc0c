//! Transactional tables of a real Hive 4.2: one session writes, a replica follows, and another session, on the replica's database
//! and without the source's files, reads the same rows: after inserts, updates and deletes, after a write that was given up, while
//! one has not ended, and after compactions of both kinds.

use metasync::metastore::Change;
use metasync::model::DatabaseName;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::cli::{Ran, Shell};
use tests::hive::{self, Hive};
use tests::hms::{self, Database, Kind, Version};
use tests::metastores::{adapters, objects};

/// `@ROOT@` is the folder of the lake's files.
const MADE: &str = "
CREATE DATABASE shop LOCATION 'file:@ROOT@/shop.db' MANAGEDLOCATION 'file:@ROOT@/managed/shop.db';
CREATE TABLE shop.orders (id INT, name STRING) STORED AS ORC TBLPROPERTIES ('transactional' = 'true');
INSERT INTO shop.orders VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');
UPDATE shop.orders SET name = 'bb' WHERE id = 2;
DELETE FROM shop.orders WHERE id = 3;
CREATE TABLE shop.parts (id INT, name STRING) PARTITIONED BY (p STRING) STORED AS ORC TBLPROPERTIES ('transactional' = 'true');
INSERT INTO shop.parts PARTITION (p) VALUES (1, 'a', 'x y/z'), (2, 'b', 'x y/z'), (3, 'c', '2'), (4, 'd', CAST(NULL AS STRING));
DELETE FROM shop.parts WHERE id = 2;
CREATE TABLE shop.inserts (id INT, name STRING) STORED AS PARQUET
    TBLPROPERTIES ('transactional' = 'true', 'transactional_properties' = 'insert_only');
INSERT INTO shop.inserts VALUES (1, 'a'), (2, 'b');
INSERT OVERWRITE TABLE shop.inserts VALUES (3, 'c');
INSERT INTO shop.inserts VALUES (4, 'd');
CREATE TABLE shop.given_up (id INT NOT NULL ENABLE, name STRING) STORED AS ORC TBLPROPERTIES ('transactional' = 'true');
INSERT INTO shop.given_up VALUES (1, 'kept')";

/// What happens between the first run and the second.
const CHANGED: &str = "
MERGE INTO shop.orders t USING (SELECT 1 AS id, 'M' AS name UNION ALL SELECT 9, 'N' UNION ALL SELECT 4, 'gone') s ON t.id = s.id
    WHEN MATCHED AND s.name = 'gone' THEN DELETE WHEN MATCHED THEN UPDATE SET name = s.name
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.name);
UPDATE shop.parts SET name = 'upd' WHERE id IN (1, 3);
INSERT OVERWRITE TABLE shop.parts PARTITION (p = '2') VALUES (33, 'over');
INSERT INTO shop.parts PARTITION (p = '3') VALUES (5, 'e');
TRUNCATE TABLE shop.inserts;
INSERT INTO shop.inserts VALUES (7, 'g')";

const READ: &str = "
SELECT * FROM shop.orders ORDER BY id;
SELECT * FROM shop.parts ORDER BY id;
SELECT * FROM shop.inserts ORDER BY id;
SELECT * FROM shop.given_up ORDER BY id;
SELECT count(*) FROM shop.orders;
SELECT count(*) FROM shop.inserts;
SELECT count(*) FROM shop.parts WHERE p = '2';
SHOW PARTITIONS shop.parts";

/// How long the cleaner may take.
const CLEANED_WITHIN: Duration = Duration::from_secs(120);

struct Pair {
    folder: TempDir,
    shell: Shell,
    source: Database,
    target: Database,
}

impl Pair {
    fn new() -> Option<Self> {
        let (source, target) = (hive::fresh_database()?, hive::fresh_database()?);
        // Hive takes what is in a folder whose name begins with a dot for hidden.
        let folder = tempfile::Builder::new().prefix("acid").tempdir().unwrap();
        let root = folder.path().display();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        let policy = format!(
            "name = \"p\"\nstate = \"{root}/state\"\ndatabases = [\"shop\"]\n\
             source.metastore = \"{}\"\ntarget.metastore = \"{}\"\n\
             [[locations]]\nfrom = \"file:{root}/source\"\nto = \"file:{root}/replica\"\n[options]\ntxn_wait = \"0s\"\n",
            source.url, target.url
        );
        std::fs::write(folder.path().join("p.toml"), policy).unwrap();
        Some(Self { shell: Shell::new(folder.path()), folder, source, target })
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    fn run(&self) -> Ran {
        let ran = self.shell.metasync(&["run", "p.toml", "--json"]).expect(0);
        self.shell.metasync(&["verify", "p.toml", "--json"]).expect(0);
        ran
    }

    /// What a reader of the replica answers while nobody can reach the source's files.
    fn read(&self, reader: &mut Hive) -> Vec<String> {
        std::fs::rename(self.path("source"), self.path("away")).unwrap();
        let rows = reader.run(READ);
        std::fs::rename(self.path("away"), self.path("source")).unwrap();
        rows
    }

    /// The state of the last transaction that wrote to a table.
    fn set_last_write(&self, table: &str, state: &str) {
        self.source.run(&format!(
            "update \"TXNS\" set \"TXN_STATE\" = '{state}' where \"TXN_ID\" = (select max(\"T2W_TXNID\") from \"TXN_TO_WRITE_ID\" \
             where \"T2W_TABLE\" = '{table}')"
        ));
    }

    /// Lets the cleaner do all that compactions left to do; it leaves alone what is younger than a second.
    fn clean(&self, writer: &mut Hive) {
        let begun = Instant::now();
        while self.source.run("select count(*) from \"COMPACTION_QUEUE\"") != [["0"]] {
            assert!(begun.elapsed() < CLEANED_WITHIN, "{:?}", self.source.run("select * from \"COMPACTION_QUEUE\""));
            writer.run("!cleaner");
        }
    }

    /// The folders of a table at the source.
    fn folders(&self, table: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(&format!("source/managed/shop.db/{table}"))).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn hive_4_2_reads_on_a_replica_the_rows_of_the_writes_that_were_committed() {
    let Some(pair) = Pair::new() else { return };
    let mut writer = Hive::start(&pair.source.url);
    let mut reader = Hive::start(&pair.target.url);
    writer.run(&MADE.replace("@ROOT@", &pair.path("source").display().to_string()));
    let refused = writer.refused("INSERT INTO shop.given_up VALUES (2, 'lost'), (NULL, 'bad')");
    assert!(!refused.is_empty());
    let first = pair.run();
    assert_eq!(first.number("tables/quarantined"), 0, "{first:?}");
    assert_eq!(pair.read(&mut reader), writer.run(READ));
    let idle = pair.run();
    assert_eq!((idle.number("tables/touched"), idle.number("bytes/written")), (0, 0), "{idle:?}");

    writer.run(CHANGED);
    pair.run();
    let rows = writer.run(READ);
    assert_eq!(pair.read(&mut reader), rows);

    // One that has written all that it will, and has not ended: no reader of the source sees it either.
    writer.run("INSERT INTO shop.orders VALUES (100, 'open')");
    pair.set_last_write("orders", "o");
    pair.run();
    assert_eq!(pair.read(&mut reader), rows);
    pair.set_last_write("orders", "c");
    pair.run();
    let rows = writer.run(READ);
    assert!(rows.contains(&"100\topen".to_owned()), "{rows:?}");
    assert_eq!(pair.read(&mut reader), rows);

    // Compactions change no row. They arrive while what they were made of is there; then that goes.
    for (kind, table) in
        [("minor", "orders"), ("major", "orders"), ("major", "inserts"), ("major", "parts PARTITION (p = 'x y/z')")]
    {
        writer.run(&format!("ALTER TABLE shop.{table} COMPACT '{kind}';\n!worker"));
        pair.run();
        assert_eq!(pair.read(&mut reader), rows, "{kind} of {table}");
        pair.clean(&mut writer);
        pair.run();
        assert_eq!(pair.read(&mut reader), rows, "{kind} of {table}, cleaned");
    }
    // One of writes that no run saw, after which nothing else is left of them.
    writer.run("INSERT INTO shop.orders VALUES (101, 'after');\nUPDATE shop.orders SET name = 'z' WHERE id = 1");
    writer.run("ALTER TABLE shop.orders COMPACT 'major';\n!worker");
    pair.clean(&mut writer);
    let made = pair.folders("orders");
    assert!(made.len() == 1 && made[0].starts_with("base_") && made[0].contains("_v"), "{made:?}");
    pair.run();
    let rows = writer.run(READ);
    assert_eq!(pair.read(&mut reader), rows);

    // A replica that is promoted takes writes, and then no run overwrites it.
    reader.run("INSERT INTO shop.orders VALUES (200, 'promoted')");
    assert!(reader.run(READ).contains(&"200\tpromoted".to_owned()));
    pair.shell.metasync(&["run", "p.toml", "--json"]).expect(5);
}

/// What is told of writes, and read back, in a database of Hive 4; of Hive 3 nothing is told.
async fn tells_writes(kind: Kind) {
    let Some(database) = hms::fresh_database(kind, Version::V40) else { return };
    let metastore = adapters::open_url(&database.url).await;
    let name = DatabaseName::new("d");
    let table = objects::table(name.table("t"), "file:/w", &[]);
    let put = |change: Change| {
        let metastore = &metastore;
        async move { metastore.apply(&[change]).await }
    };
    put(Change::PutDatabase(objects::database(&name, "file:/w"))).await.unwrap();
    put(Change::PutTable(Box::new(table.clone()))).await.unwrap();
    let shows = async || {
        let snapshot = metastore.snapshot().await.unwrap();
        let ids = snapshot.write_ids(&name, &["t".to_owned()]).await.unwrap().unwrap();
        (ids["t"].clone(), snapshot.transactions().await.unwrap().unwrap())
    };
    assert_eq!(shows().await.0.high_water, None, "{kind:?}");
    let told = |mark, compactions: &[i64]| Change::PutWriteIds {
        table: table.name.clone(),
        mark,
        compactions: compactions.to_vec(),
        above: 100,
    };
    put(told(Some(7), &[])).await.unwrap();
    let (ids, transactions) = shows().await;
    assert_eq!((ids.high_water, ids.open.len(), ids.aborted.len()), (Some(7), 0, 0), "{kind:?}");
    let first = transactions.high_water;
    assert!(first > 1 << 40, "{kind:?}: {transactions:?}");
    for _ in 0..2 {
        let held = Change::HoldCompactions { table: table.name.clone(), compactions: vec![40, 41], above: 101 };
        put(held).await.unwrap();
        assert_eq!(shows().await.1.open, [40, 41].into(), "{kind:?}");
    }
    put(told(Some(9), &[40])).await.unwrap();
    let (ids, transactions) = shows().await;
    assert_eq!((ids.high_water, transactions.open.len()), (Some(9), 0), "{kind:?}");
    assert_eq!(transactions.high_water, first, "raised once");
    // What a client begins now has a number above ours, and one that has ours is told.
    let quote = if kind == Kind::MariaDb { "" } else { "\"" };
    let insert = |columns: &str, values: &str| {
        let columns: Vec<String> = columns.split_whitespace().map(|column| format!("{quote}{column}{quote}")).collect();
        database.run(&format!("INSERT INTO {quote}TXNS{quote} ({}) VALUES ({values})", columns.join(", ")));
    };
    insert("TXN_STATE TXN_STARTED TXN_LAST_HEARTBEAT TXN_USER TXN_HOST", "'o', 1, 1, 'u', 'h'");
    assert!(shows().await.1.open.first().is_some_and(|id| *id > first), "{kind:?}");
    insert("TXN_ID TXN_STATE TXN_STARTED TXN_LAST_HEARTBEAT TXN_USER TXN_HOST", "50, 'o', 1, 1, 'u', 'h'");
    let refused = put(told(Some(9), &[50])).await.unwrap_err().to_string();
    assert!(refused.contains("its own transaction 50 has the number of a compaction"), "{kind:?}: {refused}");
    put(Change::DropTable(table.name.clone())).await.unwrap();
    assert_eq!(shows().await.0.high_water, None, "{kind:?}");
}

#[tokio::test]
async fn writes_are_told_in_a_database_of_hive_4_on_postgresql() {
    tells_writes(Kind::Postgres).await;
}

#[tokio::test]
async fn writes_are_told_in_a_database_of_hive_4_on_mariadb() {
    tells_writes(Kind::MariaDb).await;
}

#[tokio::test]
async fn writes_are_not_told_in_a_database_of_hive_3() {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(database) = hms::fresh_database(kind, Version::V31) else { return };
        let metastore = adapters::open_url(&database.url).await;
        let snapshot = metastore.snapshot().await.unwrap();
        let name = DatabaseName::new("d");
        assert_eq!(snapshot.write_ids(&name, &["t".to_owned()]).await.unwrap(), None, "{kind:?}");
        assert_eq!(snapshot.transactions().await.unwrap(), None, "{kind:?}");
        let told = Change::PutWriteIds { table: name.table("t"), mark: Some(1), compactions: Vec::new(), above: 1 };
        let refused = metastore.apply(&[told]).await.unwrap_err().to_string();
        assert!(refused.contains("does not keep transactions as Hive 4 does"), "{kind:?}: {refused}");
    }
}
