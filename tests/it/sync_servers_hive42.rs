//! `metasync run` from a real Hive 4.2 to another: what Spark does not do. INSERT events, constraints, functions with their jar,
//! statistics, many partitions altered at once, materialized views, messages in gzip.
//!
//! One session writes, two replicas follow; then another session, on one replica's database and without the source's files,
//! answers as the first one did. Hive 4 makes of a managed table that is not ACID an external one that is purged; those that are
//! ACID are in `sync_servers_acid.rs`.

use std::path::PathBuf;
use tempfile::TempDir;
use tests::cli::{Ran, Shell};
use tests::hive::{self, Hive};
use tests::hms::Database;
use tests::served::files;

/// `@ROOT@` is the folder of the lake's files.
const DATABASE: &str = "
CREATE DATABASE shop COMMENT 'all there is' LOCATION 'file:@ROOT@/shop.db' MANAGEDLOCATION 'file:@ROOT@/managed/shop.db'";

/// What there is before the first run of one replica.
const MADE: &str = "
CREATE TABLE shop.items (id INT, name STRING) STORED AS ORC;
INSERT INTO shop.items VALUES (1, 'apple'), (2, 'pear');
CREATE EXTERNAL TABLE shop.days (id INT, note STRING) PARTITIONED BY (day STRING) STORED AS PARQUET;
INSERT INTO shop.days PARTITION (day) VALUES (1, 'one', '2026-11-01'), (2, 'two', '2026-11-02'),
    (3, 'odd', 'a b/c=d%'), (4, 'none', CAST(NULL AS STRING));
CREATE EXTERNAL TABLE shop.months (id INT) PARTITIONED BY (y INT, m INT) STORED AS ORC;
ALTER TABLE shop.months ADD PARTITION (y=2025, m=1) PARTITION (y=2025, m=2) PARTITION (y=2026, m=1);
INSERT INTO shop.months PARTITION (y=2025, m=1) VALUES (1);
CREATE EXTERNAL TABLE shop.moments (id INT) PARTITIONED BY (d DATE, t TIMESTAMP) STORED AS ORC;
INSERT INTO shop.moments PARTITION (d, t) VALUES (1, '2026-11-01', '2026-11-01 10:00:00'),
    (2, '2026-11-02', '2026-11-02 00:00:00.5'), (3, '2026-11-03', '2026-11-03 23:59:59');
CREATE TABLE shop.strict (id INT, code STRING NOT NULL ENABLE, kind STRING DEFAULT 'x', n INT CHECK (n > 0) ENABLE,
    CONSTRAINT strict_key PRIMARY KEY (id) DISABLE NOVALIDATE RELY) STORED AS ORC;
INSERT INTO shop.strict (id, code, n) VALUES (1, 'c', 5);
CREATE TABLE shop.child (id INT, parent INT, u INT UNIQUE DISABLE NOVALIDATE,
    CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES shop.strict (id) DISABLE NOVALIDATE) STORED AS PARQUET;
CREATE TABLE shop.emptied (id INT) STORED AS TEXTFILE;
INSERT INTO shop.emptied VALUES (1), (2);
CREATE TABLE shop.former (id INT, s STRUCT<a: INT, b: ARRAY<STRING>>) STORED AS PARQUET;
INSERT INTO shop.former SELECT 1, named_struct('a', 1, 'b', array('x', 'y'));
CREATE TABLE shop.gone (id INT) PARTITIONED BY (p INT);
ALTER TABLE shop.gone ADD PARTITION (p=1);
CREATE VIEW shop.names AS SELECT name FROM shop.items WHERE id > 1;
CREATE MATERIALIZED VIEW shop.counted DISABLE REWRITE STORED AS ORC AS SELECT name, count(*) AS n FROM shop.items GROUP BY name;
CREATE FUNCTION shop.shout AS 'Shout' USING JAR 'file:@ROOT@/jars/shout.jar';
CREATE FUNCTION shop.arc AS 'org.apache.hadoop.hive.ql.udf.UDFAcos';
ANALYZE TABLE shop.items COMPUTE STATISTICS FOR COLUMNS;
ANALYZE TABLE shop.days PARTITION (day) COMPUTE STATISTICS FOR COLUMNS";

/// What happens between its first run and its second.
const CHANGED: &str = "
INSERT INTO shop.items VALUES (3, 'plum');
INSERT OVERWRITE TABLE shop.days PARTITION (day='2026-11-02') VALUES (22, 'over');
INSERT INTO shop.days PARTITION (day) VALUES (5, 'five', '2026-11-03'), (6, 'six', '2026-11-01');
ALTER TABLE shop.days DROP PARTITION (day='a b/c=d%');
ALTER TABLE shop.days ADD COLUMNS (extra STRING) CASCADE;
ALTER TABLE shop.months PARTITION (y=2025, m=2) RENAME TO PARTITION (y=2024, m=12);
ALTER TABLE shop.months ADD PARTITION (y=2026, m=2) PARTITION (y=2026, m=3);
INSERT OVERWRITE TABLE shop.months PARTITION (y, m) VALUES (9, 2026, 1), (10, 2026, 2);
ANALYZE TABLE shop.months PARTITION (y, m) COMPUTE STATISTICS;
ALTER TABLE shop.moments DROP PARTITION (t='2026-11-01 10:00:00');
ALTER TABLE shop.moments DROP PARTITION (d='2026-11-02', t='2026-11-02 00:00:00.5');
ALTER TABLE shop.strict DROP CONSTRAINT strict_key;
ALTER TABLE shop.child ADD CONSTRAINT child_key PRIMARY KEY (id) DISABLE NOVALIDATE RELY;
TRUNCATE TABLE shop.emptied;
ALTER TABLE shop.former RENAME TO shop.renamed;
DROP TABLE shop.gone;
CREATE TABLE shop.fresh STORED AS PARQUET AS SELECT * FROM shop.renamed;
ALTER VIEW shop.names AS SELECT id, shop.shout(name) AS name FROM shop.items WHERE id > 1;
DROP FUNCTION shop.arc;
ANALYZE TABLE shop.items COMPUTE STATISTICS FOR COLUMNS;
ALTER DATABASE shop SET DBPROPERTIES ('team' = 'b')";

/// What is asked of the lake and of a replica.
const READ: &str = "
SELECT * FROM shop.items ORDER BY id;
SELECT * FROM shop.days ORDER BY id;
SELECT * FROM shop.months ORDER BY id;
SELECT * FROM shop.moments;
SHOW PARTITIONS shop.moments;
SELECT count(*) FROM shop.items;
SELECT count(*) FROM shop.days;
SELECT count(*) FROM shop.emptied;
SELECT * FROM shop.strict;
SELECT * FROM shop.renamed;
SELECT * FROM shop.fresh;
SELECT * FROM shop.emptied;
SELECT * FROM shop.names;
SELECT * FROM shop.counted;
SHOW TABLES IN shop;
SHOW PARTITIONS shop.days;
SHOW PARTITIONS shop.months;
SHOW MATERIALIZED VIEWS IN shop;
SHOW CREATE TABLE shop.days;
SHOW CREATE TABLE shop.names;
DESCRIBE FORMATTED shop.strict;
DESCRIBE FORMATTED shop.child;
DESCRIBE FORMATTED shop.items;
DESCRIBE FORMATTED shop.items name;
DESCRIBE FORMATTED shop.days PARTITION (day='2026-11-01');
DESCRIBE FORMATTED shop.days PARTITION (day='2026-11-01') note;
DESCRIBE FORMATTED shop.months PARTITION (y=2026, m=2);
DESCRIBE FUNCTION EXTENDED shop.shout";

/// What must be among the events that the replica of the empty database follows.
const TYPES: [&str; 18] = [
    "ADD_CHECKCONSTRAINT",
    "ADD_DEFAULTCONSTRAINT",
    "ADD_FOREIGNKEY",
    "ADD_NOTNULLCONSTRAINT",
    "ADD_PARTITION",
    "ADD_PRIMARYKEY",
    "ADD_UNIQUECONSTRAINT",
    "ALTER_DATABASE",
    "ALTER_PARTITION",
    "ALTER_PARTITIONS",
    "CREATE_FUNCTION",
    "DROP_CONSTRAINT",
    "DROP_FUNCTION",
    "DROP_PARTITION",
    "DROP_TABLE",
    "INSERT",
    "UPDATE_PART_COL_STAT_EVENT",
    "UPDATE_TBL_COL_STAT_EVENT",
];

struct Lake {
    folder: TempDir,
    database: Database,
    shell: Shell,
}

struct Replica<'a> {
    lake: &'a Lake,
    name: &'static str,
    database: Database,
}

impl Lake {
    fn new() -> Option<Self> {
        let database = hive::fresh_database()?;
        let folder = tempfile::tempdir().unwrap();
        let lake = Self { shell: Shell::new(folder.path()), folder, database };
        std::fs::create_dir(lake.path("source")).unwrap();
        Some(lake)
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    fn statements(&self, text: &str) -> String {
        text.replace("@ROOT@", &self.path("source").display().to_string())
    }

    fn replica(&self, name: &'static str) -> Replica<'_> {
        let database = hive::fresh_database().expect("as the lake's own");
        let (root, source, target) = (self.folder.path().display(), &self.database.url, &database.url);
        let policy = format!(
            "name = \"{name}\"\nstate = \"{root}/state-{name}\"\ndatabases = [\"shop\"]\n\
             source.metastore = \"{source}\"\ntarget.metastore = \"{target}\"\n\
             [[locations]]\nfrom = \"file:{root}/source\"\nto = \"file:{root}/{name}\"\n\
             [options]\nmaterialized_views = true\nunknown_events = \"fail\"\n\
             max_drops = \"100%\"\nmax_deletes = \"100%\"\n"
        );
        std::fs::write(self.path(&format!("{name}.toml")), policy).unwrap();
        Replica { lake: self, name, database }
    }
}

impl Replica<'_> {
    fn metasync(&self, verb: &str) -> Ran {
        self.lake.shell.metasync(&[verb, &format!("{}.toml", self.name), "--json"])
    }

    /// The lake's places, as they are on the replica.
    fn moved(&self, text: &str) -> String {
        let path = |name: &str| self.lake.path(name).display().to_string();
        text.replace(&path("source"), &path(self.name))
    }

    /// What a metastore holds of `shop`. Who may do what is not carried; a sketch of distinct values goes along when the numbers
    /// beside it change, and is not compared.
    fn dump(&self, url: &str) -> Vec<String> {
        let dumped = self.lake.shell.metasync(&["metastore", "dump", url]).expect(0);
        let ours = |line: &&str| line.contains("\"database\":\"shop\"") && !line.contains("\"type\":\"grant\"");
        let without_sketch = |line: &str| {
            let mut object: serde_json::Value = serde_json::from_str(&self.moved(line)).unwrap();
            object.as_object_mut().unwrap().remove("bit_vector");
            object.to_string()
        };
        dumped.stdout.lines().filter(ours).map(without_sketch).collect()
    }

    /// Runs; all of the log was read, nothing changed without it, both sides are the same, and one more run does nothing.
    fn follow(&self) -> Ran {
        let ran = self.metasync("run").expect(0);
        let events = &ran.summary()["events"];
        assert!(events["events_missing"].is_null(), "{events}");
        assert_same(&self.dump(&self.lake.database.url), &self.dump(&self.database.url), self.name);
        assert_eq!(files(&self.lake.path(self.name)), files(&self.lake.path("source")), "{}", self.name);
        self.metasync("verify").expect(0);
        let idle = self.metasync("run").expect(0);
        assert_eq!((idle.number("tables/touched"), idle.number("bytes/written")), (0, 0), "{idle:?}");
        ran
    }
}

/// Shows what only one of them has.
fn assert_same(lake: &[String], replica: &[String], name: &str) {
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    let (missing, more) = (only(lake, replica), only(replica, lake));
    assert!(lake == replica, "{name} lacks:\n  {missing}\nand holds instead:\n  {more}");
}

#[test]
fn cases_27_29_35_36_46_47_56_hive_4_2_writes_and_reads_what_spark_does_not() {
    let Some(lake) = Lake::new() else { return };
    let (early, late) = (lake.replica("early"), lake.replica("late"));
    let mut writer = Hive::start(&lake.database.url);
    writer.run(&lake.statements(DATABASE));
    early.follow();
    std::fs::create_dir(lake.path("source/jars")).unwrap();
    std::fs::copy(hive::function_jar(), lake.path("source/jars/shout.jar")).unwrap();
    writer.run(&lake.statements(MADE));
    assert_eq!(late.follow().summary()["mode"], "bootstrap");
    writer.run(CHANGED);
    let formats = lake.database.run("select distinct \"MESSAGE_FORMAT\" from \"NOTIFICATION_LOG\"");
    assert_eq!(formats, [["gzip(json-2.0)"]]);
    assert_eq!(late.follow().summary()["mode"], "incremental");
    let followed = early.follow();
    let [from, to] = ["from_event", "to_event"].map(|name| followed.number(name));
    assert_eq!(followed.number("events/applied") + followed.number("events/skipped"), to - from, "{followed:?}");
    for name in TYPES {
        assert!(followed.number(&format!("events/by_type/{name}")) > 0, "{name}");
    }

    writer.run("INSERT INTO shop.items VALUES (4, 'fig')");
    late.follow();

    let expected: Vec<String> = writer.run(READ).iter().map(|row| late.moved(row)).collect();
    assert!(expected.len() > 200, "{expected:#?}");
    let of_days: Vec<&String> = expected.iter().filter(|row| row.starts_with("d=")).collect();
    assert_eq!(of_days, ["d=2026-11-03/t=2026-11-03 23%3A59%3A59"], "case 29");
    drop(writer);
    std::fs::rename(lake.path("source"), lake.path("away")).unwrap();
    let mut reader = Hive::start(&late.database.url);
    let found = reader.run(READ);
    assert_same(&expected, &found, "the reader");
    // The constraints hold there, too.
    reader.refused("INSERT INTO shop.strict (id, code, n) VALUES (2, 'd', -5)");
    reader.refused("INSERT INTO shop.strict (id, code, n) VALUES (2, NULL, 5)");
    reader.run("INSERT INTO shop.strict (id, code, n) VALUES (2, 'd', 5)");
    assert_eq!(reader.run("SELECT * FROM shop.strict ORDER BY id"), ["1\tc\tx\t5", "2\td\tx\t5"]);
}
