//! Iceberg tables that Spark writes, on replicas that Spark reads: rows, history and time travel are the same, and no path of the
//! source is read.

use tests::hms::{Kind, Version};
use tests::served::{Served, Spark, Way};

const CHANGED: &str = "UPDATE shop.events SET note = 'changed' WHERE id % 3 = 0;
    DELETE FROM shop.events WHERE id = 5;
    ALTER TABLE shop.events ADD COLUMNS (price DECIMAL(10,2));
    INSERT INTO shop.events VALUES (100, 'with a price', 1.50);
    INSERT INTO shop.days VALUES (3, '2026-11-03'), (4, 'a b/c=d%ü');
    DELETE FROM shop.days WHERE day = '2026-11-01';
    INSERT OVERWRITE shop.old VALUES (2), (3);
    CALL spark_catalog.system.rewrite_manifests('shop.events')";
const EXPIRED: &str = "CALL spark_catalog.system.rewrite_data_files(table => 'shop.days');
    CALL spark_catalog.system.expire_snapshots(table => 'shop.days', older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)";
const READ: &str = "SELECT * FROM shop.events ORDER BY id;
    SELECT * FROM shop.events_copy ORDER BY id;
    SELECT id, day FROM shop.days ORDER BY id;
    SELECT * FROM shop.old ORDER BY number;
    SELECT snapshot_id, operation FROM shop.events.snapshots ORDER BY committed_at;
    SELECT file_size_in_bytes, record_count FROM shop.events.all_data_files ORDER BY 1, 2";

fn made(root: &str) -> String {
    let commits: Vec<String> =
        (0..7).map(|id| format!("INSERT INTO shop.events VALUES ({id}, 'number {id}')")).collect();
    format!(
        "CREATE DATABASE shop LOCATION 'file:{root}shop.db';
         CREATE TABLE shop.events (id INT, note STRING) USING iceberg TBLPROPERTIES ('format-version' = '2');
         {};
         CREATE TABLE shop.events_copy USING iceberg TBLPROPERTIES ('format-version' = '2',
             'write.avro.compression-codec' = 'zstd', 'write.metadata.compression-codec' = 'gzip')
             AS SELECT * FROM shop.events;
         CREATE TABLE shop.days (id INT, day STRING) USING iceberg PARTITIONED BY (day, bucket(4, id))
             TBLPROPERTIES ('format-version' = '2');
         INSERT INTO shop.days VALUES (1, '2026-11-01'), (2, '2026-11-02');
         CREATE TABLE shop.old USING iceberg TBLPROPERTIES ('format-version' = '1') AS SELECT 1 AS number",
        commits.join(";\n")
    )
}

#[test]
fn rows_history_and_time_travel_of_iceberg_tables_are_the_same_on_the_replica() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    let Some(mut spark) = Spark::with_iceberg(&lake.server.thrift) else { return };
    let mut replica = lake.replica("replica", Way::Thrift, Way::Sql);
    spark.run(&made(&lake.path("").display().to_string()));
    replica.metasync("run", &[]).expect(0);
    replica.metasync("verify", &["--level", "content"]).expect(0);
    spark.run(CHANGED);
    replica.metasync("run", &[]).expect(0);
    spark.run(EXPIRED);
    replica.metasync("run", &[]).expect(0);
    replica.metasync("verify", &["--level", "content"]).expect(0);
    let snapshots = spark.run("SELECT snapshot_id FROM shop.events.snapshots ORDER BY committed_at");
    let read = format!("{READ};\nSELECT * FROM shop.events VERSION AS OF {} ORDER BY id", snapshots[3]);
    let expected = spark.run(&read);
    assert!(expected.len() > 30 && expected.iter().any(|row| row.contains("changed")), "{expected:?}");
    // What is not carried is named, and keeps what it had.
    spark.run(
        "ALTER TABLE shop.days SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read');
         INSERT INTO shop.days VALUES (7, 'x'), (11, 'x'), (15, 'x');
         DELETE FROM shop.days WHERE id = 7",
    );
    let ran = replica.metasync("run", &[]).expect(3);
    assert!(ran.stderr.contains("delete files") && ran.stderr.contains("shop.days"), "{}", ran.stderr);
    drop(spark);
    let served = replica.serve();
    std::fs::rename(lake.path(""), lake.root().join("away")).unwrap();
    let Some(mut reader) = Spark::with_iceberg(&served) else { return };
    assert_eq!(reader.run(&read), expected, "rows of the replica");
    // What a promoted replica needs: it can be written to.
    reader.run("INSERT INTO shop.events VALUES (101, 'after a failover', 2.50)");
    assert_eq!(reader.run("SELECT note FROM shop.events WHERE id = 101"), ["after a failover"]);
}
