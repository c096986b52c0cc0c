//! `metasync run` from real Hive Metastores to others, with Spark as the writer and as the reader of the replica: every way in
//! and out, in step after each run.

use tests::hms::{Kind, Version};
use tests::served::{Replica, Served, Spark, Way, files};
use tests::services;

/// What there is before the first run: every kind of table that Spark makes.
fn made(lake: &Served) -> String {
    let root = lake.path("").display().to_string();
    format!(
        "CREATE DATABASE shop COMMENT 'all there is' LOCATION 'file:{root}shop.db';
         CREATE TABLE shop.orders (id INT, note STRING) USING PARQUET PARTITIONED BY (day STRING);
         INSERT INTO shop.orders PARTITION (day='2026-11-01') VALUES (1, 'one'), (2, 'two');
         INSERT INTO shop.orders PARTITION (day='2026-11-02') VALUES (3, 'three');
         INSERT INTO shop.orders PARTITION (day='a b/c=d%') VALUES (4, 'odd');
         CREATE TABLE shop.lines (id INT, price DECIMAL(10,2)) PARTITIONED BY (y INT, m INT) STORED AS PARQUET;
         INSERT INTO shop.lines PARTITION (y, m) VALUES (1, 1.50, 2026, 1), (2, 2.50, 2026, 2), (3, 3, 2025, 12);
         CREATE TABLE shop.moments (id INT) PARTITIONED BY (d DATE, t TIMESTAMP) STORED AS PARQUET;
         INSERT INTO shop.moments PARTITION (d, t) VALUES (1, DATE'2026-11-01', TIMESTAMP'2026-11-01 10:00:00'),
             (2, DATE'2026-11-02', TIMESTAMP'2026-11-02 10:00:00');
         CREATE TABLE shop.items (id INT, name STRING) STORED AS ORC;
         INSERT INTO shop.items VALUES (1, 'apple'), (2, 'pear');
         CREATE TABLE shop.copied USING PARQUET AS SELECT * FROM shop.items;
         CREATE TABLE shop.nothing (id INT) STORED AS TEXTFILE;
         CREATE EXTERNAL TABLE shop.far (id INT) STORED AS TEXTFILE LOCATION 'file:{root}elsewhere/far';
         INSERT INTO shop.far VALUES (7);
         CREATE TABLE shop.emptied (id INT) USING ORC;
         INSERT INTO shop.emptied VALUES (8);
         CREATE TABLE shop.gone (id INT) PARTITIONED BY (p INT) STORED AS PARQUET;
         INSERT INTO shop.gone PARTITION (p=1) VALUES (1);
         CREATE VIEW shop.cheap AS SELECT id FROM shop.items WHERE id < 2;
         CREATE VIEW shop.short_lived AS SELECT 1 AS one;
         ANALYZE TABLE shop.items COMPUTE STATISTICS FOR ALL COLUMNS"
    )
}

/// What happens between the first run and the second.
const CHANGED: &str = "
    INSERT INTO shop.orders PARTITION (day='2026-11-02') VALUES (5, 'no event says so');
    INSERT INTO shop.orders PARTITION (day='2026-11-03') VALUES (6, 'new');
    ALTER TABLE shop.orders DROP PARTITION (day='2026-11-01');
    ALTER TABLE shop.orders ADD COLUMNS (more STRING);
    INSERT OVERWRITE TABLE shop.items VALUES (9, 'all others are gone');
    INSERT INTO shop.lines PARTITION (y, m) VALUES (4, 4, 2026, 2), (5, 5, 2027, 1), (6, 6, 2027, 2);
    INSERT OVERWRITE TABLE shop.lines PARTITION (y=2025, m=12) VALUES (7, 7);
    ALTER TABLE shop.lines PARTITION (y=2026, m=1) RENAME TO PARTITION (y=2026, m=3);
    ALTER TABLE shop.moments DROP PARTITION (d=DATE'2026-11-01', t=TIMESTAMP'2026-11-01 10:00:00');
    ALTER TABLE shop.copied RENAME TO shop.renamed;
    ALTER TABLE shop.renamed SET TBLPROPERTIES ('k' = 'v');
    DROP TABLE shop.gone;
    CREATE TABLE shop.fresh AS SELECT * FROM shop.renamed;
    ALTER VIEW shop.cheap AS SELECT id, name FROM shop.items WHERE id > 1;
    CREATE VIEW shop.on_a_view AS SELECT name FROM shop.cheap;
    DROP VIEW shop.short_lived;
    ALTER DATABASE shop SET DBPROPERTIES ('team' = 'b')";

/// What a reader asks, of the lake and of a replica.
const READ: &str = "
SELECT * FROM shop.orders ORDER BY id;
SELECT * FROM shop.lines ORDER BY id;
SELECT * FROM shop.moments;
SHOW PARTITIONS shop.moments;
SELECT * FROM shop.items ORDER BY id;
SELECT * FROM shop.renamed ORDER BY id;
SELECT * FROM shop.fresh ORDER BY id;
SELECT * FROM shop.far ORDER BY id;
SELECT * FROM shop.nothing;
SELECT * FROM shop.cheap ORDER BY id;
SELECT * FROM shop.on_a_view;
SHOW PARTITIONS shop.orders;
SHOW PARTITIONS shop.lines;
SHOW TABLES IN shop";

/// After a run the replica says that it holds everything up to the newest event.
fn is_up_to_date(lake: &Served, replica: &Replica<'_>) {
    assert_eq!(replica.last_id().as_deref(), Some(lake.current_event().as_str()), "repl.last.id");
}

/// The database has another name on a replica that is called so.
const RENAMED: &str = "renamed";

/// What is asked there, or answered.
fn of_shop_copy(text: &str) -> String {
    text.replace("shop.", "shop_copy.").replace("IN shop", "IN shop_copy")
}

/// A run of a replica under another name, to which `verify` has no objection.
fn follow_renamed(replica: &Replica<'_>) {
    replica.metasync("run", &[]).expect(0);
    replica.metasync("verify", &[]).expect(0);
    let idle = replica.metasync("run", &[]).expect(0);
    assert_eq!((idle.number("tables/touched"), idle.number("bytes/written")), (0, 0), "{idle:?}");
}

/// Spark writes, each replica follows; in the end Spark reads the same rows from those that are called in `readers`, and from one
/// by Thrift to a database under another name, while the lake is away.
fn in_step_with_spark(version: Version, kind: Kind, replicas: &[(&str, Way, Way, Kind)], readers: &[&str]) {
    let Some(lake) = Served::start(version, kind) else { return };
    let Some(mut spark) = Spark::start(&lake.server.thrift) else { return };
    let replica = |(name, from, to, kind): &(&str, Way, Way, Kind)| lake.replica_on(name, *from, *to, version, *kind);
    let mut replicas: Vec<Replica<'_>> = replicas.iter().map(replica).collect();
    let mut renamed = lake.replica_on(RENAMED, Way::Thrift, Way::Sql, version, Kind::Postgres);
    renamed.policy("rename.shop = \"shop_copy\"\n", "max_drops = \"100%\"\nmax_deletes = \"100%\"");
    spark.run(&made(&lake));
    follow_renamed(&renamed);
    for replica in &replicas {
        let first = replica.follow();
        assert_eq!(first.summary()["mode"], "bootstrap");
        is_up_to_date(&lake, replica);
    }
    spark.run(CHANGED);
    follow_renamed(&renamed);
    for replica in &replicas {
        let second = replica.follow();
        assert_eq!(second.summary()["mode"], "incremental");
        is_up_to_date(&lake, replica);
    }
    spark.run("CREATE DATABASE other; CREATE TABLE other.t (id INT); DROP TABLE other.t".replace("; ", ";\n").as_str());
    let expected = spark.run(READ);
    assert!(expected.len() > 20, "{expected:?}");
    let moments = expected.iter().filter(|row| row.starts_with("d=")).count();
    assert_eq!(moments, 1, "case 29: {expected:?}");
    for replica in &replicas {
        let third = replica.follow();
        assert_eq!((third.number("events/applied"), third.number("tables/touched")), (0, 0));
        assert!(third.number("events/skipped") >= 3, "{third:?}");
        is_up_to_date(&lake, replica);
    }
    // Rule 27: Spark's TRUNCATE TABLE is no event of the metastore's.
    spark.run("TRUNCATE TABLE shop.emptied");
    let truncated = &replicas[0];
    let kept = files(&truncated.path("shop.db/emptied"));
    let ran = truncated.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("shop.emptied is not in step"), "{}", ran.stderr);
    assert!(!kept.is_empty() && kept == files(&truncated.path("shop.db/emptied")));
    truncated.metasync("resync", &["--table", "shop.emptied"]).expect(0);
    truncated.follow();
    renamed.metasync("resync", &["--table", "shop.emptied"]).expect(0);
    follow_renamed(&renamed);
    drop(spark);
    std::fs::rename(lake.path(""), lake.root().join("away")).unwrap();
    let of_name = |name: &&str| replicas.iter().position(|replica| replica.name() == *name).unwrap();
    for at in readers.iter().map(of_name).collect::<Vec<_>>() {
        let Some(mut reader) = Spark::start(&replicas[at].serve()) else { return };
        assert_eq!(reader.run(READ), expected, "rows of {}", replicas[at].name());
    }
    // Case 34: views, and one on a view, name the database as it is called there.
    let Some(mut reader) = Spark::start(&renamed.serve()) else { return };
    let expected: Vec<String> = expected.iter().map(|row| row.replace("shop ", "shop_copy ")).collect();
    assert_eq!(reader.run(&of_shop_copy(READ)), expected, "rows under another name");
    let databases = reader.run("SHOW DATABASES");
    assert!(!databases.contains(&"shop".to_owned()), "{databases:?}");
}

#[test]
fn cases_17_18_19_26_27_29_34_37_44_57_hive_3_1_over_postgres_every_way() {
    let ways = [
        ("sql-to-sql", Way::Sql, Way::Sql, Kind::Postgres),
        ("sql-to-thrift", Way::Sql, Way::Thrift, Kind::Postgres),
        ("thrift-to-sql", Way::Thrift, Way::Sql, Kind::MariaDb),
        ("thrift-to-thrift", Way::Thrift, Way::Thrift, Kind::Postgres),
    ];
    in_step_with_spark(Version::V31, Kind::Postgres, &ways, &["sql-to-sql", "thrift-to-thrift"]);
}

/// With `--long`: MariaDB is the lake's home in other tests of each run, and Spark writes to 3.1 above.
#[test]
fn cases_17_18_19_26_27_29_34_37_44_57_hive_3_1_over_mariadb() {
    if !services::long() {
        return;
    }
    let ways = [
        ("maria-to-thrift", Way::Sql, Way::Thrift, Kind::MariaDb),
        ("maria-to-sql", Way::Sql, Way::Sql, Kind::Postgres),
    ];
    in_step_with_spark(Version::V31, Kind::MariaDb, &ways, &["maria-to-thrift"]);
}

#[test]
fn cases_17_18_19_26_27_29_34_37_44_57_hive_2_3() {
    let ways = [
        ("sql-to-thrift", Way::Sql, Way::Thrift, Kind::Postgres),
        ("thrift-to-sql", Way::Thrift, Way::Sql, Kind::Postgres),
        ("thrift-to-thrift", Way::Thrift, Way::Thrift, Kind::Postgres),
    ];
    in_step_with_spark(Version::V23, Kind::Postgres, &ways, &["sql-to-thrift", "thrift-to-sql"]);
}
