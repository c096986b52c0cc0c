//! Delta tables that Spark writes, on replicas that Spark reads: rows, history and time travel are the same.

use tests::cli::Shell;
use tests::hms::{Kind, Version};
use tests::served::{Served, Spark, Way};

/// More commits than there are between two checkpoints.
const COMMITS: usize = 4;
const CHANGED: &str = "UPDATE shop.events SET note = 'changed' WHERE id % 3 = 0;
    DELETE FROM shop.events WHERE id = 5;
    ALTER TABLE shop.events ADD COLUMNS (price DECIMAL(10,2));
    INSERT INTO shop.events VALUES (100, 'with a price', 1.50);
    OPTIMIZE shop.events;
    INSERT INTO shop.days VALUES (3, '2026-11-03'), (4, 'a b/c=d%');
    DELETE FROM shop.days WHERE day = '2026-11-01';
    INSERT OVERWRITE shop.replaced VALUES (2), (3)";
const READ: &str = "SELECT * FROM shop.events ORDER BY id;
    SELECT * FROM shop.events VERSION AS OF 3 ORDER BY id;
    SELECT * FROM shop.days ORDER BY id;
    SELECT * FROM shop.replaced ORDER BY number;
    SELECT * FROM shop.replaced VERSION AS OF 0";

fn made(lake: &Served) -> String {
    let root = lake.path("").display().to_string();
    let commits: Vec<String> =
        (0..COMMITS).map(|id| format!("INSERT INTO shop.events VALUES ({id}, 'number {id}')")).collect();
    format!(
        "CREATE DATABASE shop LOCATION 'file:{root}shop.db';
         CREATE TABLE shop.events (id INT, note STRING) USING DELTA
             TBLPROPERTIES ('delta.checkpointInterval' = '3');
         {};
         CREATE TABLE shop.days (id INT, day STRING) USING DELTA PARTITIONED BY (day);
         INSERT INTO shop.days VALUES (1, '2026-11-01'), (2, '2026-11-02');
         CREATE TABLE shop.replaced USING DELTA AS SELECT 1 AS number",
        commits.join(";\n")
    )
}

#[test]
fn rows_history_and_time_travel_of_delta_tables_are_the_same_on_the_replica() {
    let Some(lake) = Served::start(Version::V31, Kind::Postgres) else { return };
    let Some(mut spark) = Spark::with_delta(&lake.server.thrift) else { return };
    let mut replica = lake.replica("replica", Way::Thrift, Way::Sql);
    spark.run(&made(&lake));
    replica.follow();
    let checkpoint = replica.path("shop.db/events/_delta_log/00000000000000000003.checkpoint.parquet");
    assert!(checkpoint.exists(), "Spark made a checkpoint");
    spark.run(CHANGED);
    replica.follow();
    let expected = spark.run(READ);
    assert!(expected.len() > COMMITS + 8 && expected.iter().any(|row| row.contains("changed")), "{expected:?}");
    // The same tables as a tree of files.
    let copy = lake.root().join("copy");
    Shell::new(lake.root()).run(&["copy".as_ref(), lake.path("shop.db").as_os_str(), copy.as_os_str()]).expect(0);
    assert!(copy.join("events/_delta_log/_last_checkpoint").exists());
    let tables = ["events", "days", "replaced"];
    let rows = |spark: &mut Spark, of: &dyn Fn(&str) -> String| {
        let whole = |table| format!("SELECT * FROM {} ORDER BY 1", of(table));
        let before = |table| format!("SELECT * FROM {} VERSION AS OF 1 ORDER BY 1", of(table));
        let reads = tables.map(|table| format!("{};\n{}", whole(table), before(table)));
        spark.run(&reads.join(";\n"))
    };
    let written = rows(&mut spark, &|table| format!("shop.{table}"));
    assert_eq!(
        rows(&mut spark, &|table| format!("delta.`file:{}/{table}`", copy.display())),
        written,
        "rows of the copy"
    );
    drop(spark);
    let served = replica.serve();
    std::fs::rename(lake.path(""), lake.root().join("away")).unwrap();
    let Some(mut reader) = Spark::with_delta(&served) else { return };
    assert_eq!(reader.run(READ), expected, "rows of the replica");
    // What a promoted replica needs: it can be written to.
    reader.run("INSERT INTO shop.events VALUES (101, 'after a failover', 2.50)");
    let rows = reader.run("SELECT note FROM shop.events WHERE id = 101");
    assert_eq!(rows, ["after a failover"]);
}
