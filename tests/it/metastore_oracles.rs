//! Hive's own tools as judges of what the SQL adapter writes: its schema tool, its server beside us, Spark; and the database
//! itself, asked for rows that nothing refers to.

use anyhow::{Context as _, Result, ensure};
use metasync::metastore::{Change, Damaged, Metastore};
use metasync::model::{Database, DatabaseName, PartitionName, Table, TableName};
use metasync::object::Object;
use metasync::walk::walk_database;
use std::collections::BTreeMap;
use std::sync::Arc;
use tests::hms::{self, Hms, Kind, Version};
use tests::metastores::adapters::open_url;
use tests::metastores::contract::{as_held, clear, ensure_same, put, read_back};
use tests::metastores::objects::{self, everything};

/// What all databases of a test's own begin with.
const NAME: &str = "judged";
/// How often a server and we take turns.
const ROUNDS: usize = 4;
/// Partitions of each table that is made in a round: more than a server reserves ids for at once.
const PARTITIONS: usize = 25;

/// Where the parts of objects are, each with the name of its ids in SEQUENCE_TABLE where it has any. Without objects all of
/// them are empty, also under a server.
const PARTS: [(&str, Option<(&str, &str)>); 28] = [
    ("TBLS", Some(("MTable", "TBL_ID"))),
    ("TABLE_PARAMS", None),
    ("PARTITION_KEYS", None),
    ("PARTITIONS", Some(("MPartition", "PART_ID"))),
    ("PARTITION_PARAMS", None),
    ("PARTITION_KEY_VALS", None),
    ("SDS", Some(("MStorageDescriptor", "SD_ID"))),
    ("SD_PARAMS", None),
    ("SERDES", Some(("MSerDeInfo", "SERDE_ID"))),
    ("SERDE_PARAMS", None),
    ("CDS", Some(("MColumnDescriptor", "CD_ID"))),
    ("COLUMNS_V2", None),
    ("SORT_COLS", None),
    ("BUCKETING_COLS", None),
    ("SKEWED_COL_NAMES", None),
    ("SKEWED_VALUES", None),
    ("SKEWED_COL_VALUE_LOC_MAP", None),
    ("SKEWED_STRING_LIST", Some(("MStringList", "STRING_LIST_ID"))),
    ("SKEWED_STRING_LIST_VALUES", None),
    ("TAB_COL_STATS", Some(("MTableColumnStatistics", "CS_ID"))),
    ("PART_COL_STATS", Some(("MPartitionColumnStatistics", "CS_ID"))),
    ("KEY_CONSTRAINTS", None),
    ("FUNCS", Some(("MFunction", "FUNC_ID"))),
    ("FUNC_RU", None),
    ("DB_PRIVS", Some(("MDBPrivilege", "DB_GRANT_ID"))),
    ("TBL_PRIVS", Some(("MTablePrivilege", "TBL_GRANT_ID"))),
    ("TBL_COL_PRIVS", Some(("MTableColumnPrivilege", "TBL_COLUMN_GRANT_ID"))),
    ("PART_COL_PRIVS", Some(("MPartitionColumnPrivilege", "PART_COLUMN_GRANT_ID"))),
];

/// The same name in the database's own quotes.
fn quoted(database: &hms::Database, name: &str) -> String {
    match database.kind {
        Kind::Postgres => format!("\"{name}\""),
        Kind::MariaDb => format!("`{name}`"),
    }
}

/// The rows of these tables.
fn rows(database: &hms::Database, tables: impl IntoIterator<Item = String>) -> Result<BTreeMap<String, i64>> {
    let count = |table: String| format!("select '{table}', count(*) from {}", quoted(database, &table));
    let counts: Vec<String> = tables.into_iter().map(count).collect();
    let counted = database.run(&counts.join(" union all "));
    counted.into_iter().map(|row| Ok((row[0].clone(), row[1].parse()?))).collect()
}

/// Every table, but for the one that says which ids are taken.
fn all_tables(database: &hms::Database) -> Vec<String> {
    let schema = match database.kind {
        Kind::Postgres => "'public'",
        Kind::MariaDb => "database()",
    };
    let script = format!(
        "select table_name from information_schema.tables where table_schema = {schema} and table_name <> 'SEQUENCE_TABLE'"
    );
    database.run(&script).into_iter().map(|mut row| row.remove(0)).collect()
}

/// Of two counts what differs.
fn differing(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> Vec<String> {
    let all = before.iter().filter(|(table, count)| after.get(*table) != Some(count));
    all.map(|(table, count)| format!("{table}: {count}, then {:?}", after.get(table))).collect()
}

/// Hive's schema tool finds nothing wrong.
fn validate(version: Version, database: &hms::Database) -> Result<()> {
    hms::schematool_validate(version, &database.url).map(|_| ()).map_err(anyhow::Error::msg).context("schematool")
}

async fn found(metastore: &dyn Metastore) -> Result<Vec<Object>> {
    read_back(metastore.snapshot().await?.as_ref(), NAME).await
}

/// What is next of each kind of id is larger than any that is used.
fn ids_are_ahead(database: &hms::Database) -> Result<()> {
    let next = format!(
        "select {}, {} from {}",
        quoted(database, "SEQUENCE_NAME"),
        quoted(database, "NEXT_VAL"),
        quoted(database, "SEQUENCE_TABLE")
    );
    let next: BTreeMap<String, i64> =
        database.run(&next).into_iter().map(|row| Ok((row[0].clone(), row[1].parse()?))).collect::<Result<_>>()?;
    for (table, of_ids) in PARTS {
        let Some((class, key)) = of_ids else { continue };
        let script = format!("select coalesce(max({}), 0) from {}", quoted(database, key), quoted(database, table));
        let largest: i64 = database.run(&script)[0][0].parse()?;
        let next = next.get(&format!("org.apache.hadoop.hive.metastore.model.{class}")).copied().unwrap_or(1);
        ensure!(next > largest, "{table}: {largest} is used, and {next} is the next");
    }
    Ok(())
}

/// Makes a database with two tables, alters, renames and drops in it; what is left of the partitions is `PARTITIONS - 5`.
fn work(name: &str, root: &str) -> Vec<Change> {
    let db = DatabaseName::new(name);
    let table = objects::table(db.table("kept"), root, &["p"]);
    let gone = objects::table(db.table("gone"), root, &["p"]);
    let partitions = |of: &Table, count: usize| Change::PutPartitions {
        table: of.name.clone(),
        partitions: (0..count).map(|at| objects::partition(of, &[&at.to_string()])).collect(),
    };
    let mut altered = table.clone();
    let mut columns = altered.storage.columns.as_ref().clone();
    columns.push(objects::column("added", "array<int>"));
    altered.storage.columns = Arc::new(columns);
    altered.parameters.insert("altered".to_owned(), "yes".to_owned());
    let partition = |value: usize| PartitionName(format!("p={value}"));
    vec![
        // Not all versions keep when a database was made.
        Change::PutDatabase(Database { create_time: None, ..objects::database(&db, root) }),
        Change::PutTable(Box::new(table.clone())),
        partitions(&table, PARTITIONS),
        Change::PutTable(Box::new(gone.clone())),
        partitions(&gone, 5),
        Change::PutTable(Box::new(altered)),
        Change::DropPartitions { table: table.name.clone(), names: (0..5).map(partition).collect() },
        Change::RenamePartition { table: table.name.clone(), from: partition(7), to: vec!["seven".to_owned()] },
        Change::RenameTable { from: gone.name.clone(), to: db.table("renamed") },
        Change::DropTable(db.table("renamed")),
    ]
}

/// Adds to what [`work`] made, by whomever, and drops all of it.
fn undo(name: &str, root: &str) -> Vec<Change> {
    let db = DatabaseName::new(name);
    let table = objects::table(db.table("kept"), root, &["p"]);
    let more = (0..PARTITIONS).map(|at| objects::partition(&table, &[&format!("more {at}")])).collect();
    vec![
        Change::PutPartitions { table: table.name.clone(), partitions: more },
        Change::DropTable(table.name),
        Change::DropDatabase(db),
    ]
}

/// Both make, alter and drop at the same time, each in a database of its own and in what the other made in the round before.
async fn take_turns(sql: &dyn Metastore, thrift: &dyn Metastore, root: &str) -> Result<()> {
    let name = |side: &str, round: usize| format!("{NAME}_{side}_{round}");
    for round in 0..=ROUNDS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        if round < ROUNDS {
            ours.extend(work(&name("sql", round), root));
            theirs.extend(work(&name("thrift", round), root));
        }
        if let Some(before) = round.checked_sub(1) {
            ours.extend(undo(&name("thrift", before), root));
            theirs.extend(undo(&name("sql", before), root));
        }
        let ours = async { sql.apply(&ours).await.context("by SQL") };
        let theirs = async { thrift.apply(&theirs).await.context("by Thrift") };
        tokio::try_join!(ours, theirs).with_context(|| format!("round {round}"))?;
        let by_sql = found(sql).await?;
        ensure_same(&by_sql, &found(thrift).await?).with_context(|| format!("round {round}: SQL, then Thrift"))?;
        let made = by_sql.iter().filter(|object| {
            matches!(object, Object::Partition { table, .. } if table.database.starts_with(NAME) && table.table == "kept")
        });
        let expected = if round < ROUNDS { 2 * (PARTITIONS - 5) } else { 0 };
        ensure!(made.count() == expected, "round {round}: other partitions than {expected}");
    }
    Ok(())
}

/// What SQL put, a server of that version reads, and works on beside us; Hive's schema tool judges before and after.
async fn hive_judges(version: Version, kind: Kind) -> Result<()> {
    let Some(database) = hms::fresh_database(kind, version) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let root = format!("file:{}", folder.path().display());
    let objects = everything(NAME, &root);
    let sql = open_url(&database.url).await;
    put(sql.as_ref(), &objects).await?;
    validate(version, &database).context("after our writes")?;

    let server = Hms::start(version, &database.url);
    let thrift = open_url(&server.thrift).await;
    let by_sql = found(sql.as_ref()).await?;
    ensure_same(&as_held(&objects, sql.as_ref()), &by_sql).context("put, then read by SQL")?;
    ensure_same(&by_sql, &found(thrift.as_ref()).await?).context("read by SQL, then by Thrift")?;

    take_turns(sql.as_ref(), thrift.as_ref(), &root).await?;
    ensure_same(&by_sql, &found(sql.as_ref()).await?).context("what nobody touched")?;
    ids_are_ahead(&database)?;
    validate(version, &database).context("after both wrote")?;

    clear(sql.as_ref(), NAME).await?;
    let left = rows(&database, PARTS.map(|(table, _)| table.to_owned()))?;
    let left: Vec<_> = left.into_iter().filter(|(_, count)| *count > 0).collect();
    ensure!(left.is_empty(), "orphans: {left:?}");
    Ok(())
}

#[tokio::test]
async fn rule_32_hive_4_0_judges_and_works_beside_us() -> Result<()> {
    hive_judges(Version::V40, Kind::Postgres).await
}

#[tokio::test]
async fn rule_32_hive_3_1_judges_and_works_beside_us() -> Result<()> {
    hive_judges(Version::V31, Kind::Postgres).await
}

#[tokio::test]
async fn rule_32_hive_3_1_over_mariadb_judges_and_works_beside_us() -> Result<()> {
    hive_judges(Version::V31, Kind::MariaDb).await
}

#[tokio::test]
async fn rule_32_hive_2_3_judges_and_works_beside_us() -> Result<()> {
    hive_judges(Version::V23, Kind::Postgres).await
}

/// Every table has as many rows after drops as before anything was put.
async fn drops_leave_nothing(version: Version, kind: Kind) -> Result<()> {
    let Some(database) = hms::fresh_database(kind, version) else { return Ok(()) };
    let tables = all_tables(&database);
    for (part, _) in PARTS {
        ensure!(tables.iter().any(|table| table == part), "{part} is no table");
    }
    let before = rows(&database, tables.clone())?;
    let sql = open_url(&database.url).await;
    put(sql.as_ref(), &everything(NAME, "file:///nowhere")).await?;
    let between = rows(&database, tables.clone())?;
    for part in ["SDS", "SERDES", "CDS", "SKEWED_STRING_LIST", "TAB_COL_STATS", "KEY_CONSTRAINTS", "TBL_COL_PRIVS"] {
        ensure!(between[part] > before[part], "nothing was put into {part}");
    }
    clear(sql.as_ref(), NAME).await?;
    let orphans = differing(&before, &rows(&database, tables)?);
    ensure!(orphans.is_empty(), "{version:?} on {kind:?}: {orphans:?}");
    Ok(())
}

#[tokio::test]
async fn drops_leave_no_orphans_in_any_schema() -> Result<()> {
    for version in Version::ALL {
        for kind in Kind::ALL {
            drops_leave_nothing(version, kind).await?;
        }
    }
    Ok(())
}

/// A walk over the database with what it could not read.
async fn walked(metastore: &dyn Metastore) -> Result<(Vec<Object>, Vec<Damaged>)> {
    let snapshot = metastore.snapshot().await?;
    let database = snapshot.databases().await?.into_iter().find(|database| database.name.database == NAME);
    let (mut objects, mut damaged) = (Vec::new(), Vec::new());
    walk_database::<anyhow::Error>(snapshot.as_ref(), database.context("no database")?, &mut |step| {
        match step {
            Ok(object) => objects.push(object),
            Err(one) => damaged.push(one),
        }
        Ok(())
    })
    .await?;
    Ok((objects, damaged))
}

#[tokio::test]
async fn rows_that_are_gone_are_told_with_ids_and_all_else_is_read() -> Result<()> {
    let Some(database) = hms::fresh_database(Kind::Postgres, Version::V40) else { return Ok(()) };
    let sql = open_url(&database.url).await;
    put(sql.as_ref(), &everything(NAME, "file:///nowhere")).await?;
    let (before, damaged) = walked(sql.as_ref()).await?;
    ensure!(damaged.is_empty(), "{damaged:?}");

    let found = database.run(
        "select t.\"SD_ID\", s.\"CD_ID\" from \"TBLS\" t join \"SDS\" s using (\"SD_ID\") where \"TBL_NAME\" = 'orders'",
    );
    let (storage, columns) = (&found[0][0], &found[0][1]);
    let found = database.run("select \"PART_ID\", \"SD_ID\" from \"PARTITIONS\" where \"PART_NAME\" like 'day=a b/%'");
    let (partition, partition_storage) = (&found[0][0], &found[0][1]);
    database.run(&format!(
        "set session_replication_role = replica; delete from \"COLUMNS_V2\" where \"CD_ID\" = {columns}; \
         delete from \"CDS\" where \"CD_ID\" = {columns}; delete from \"SDS\" where \"SD_ID\" = {partition_storage}"
    ));

    let (after, damaged) = walked(sql.as_ref()).await?;
    let said: Vec<String> = damaged.iter().map(|damaged| format!("{}: {}", damaged.object, damaged.why)).collect();
    let constraint = |name: &str, table: &str, column: usize| {
        let why = format!("KEY_CONSTRAINTS names column {column} of CDS {columns}, which is not there");
        format!("constraint {NAME}_{name} on {NAME}.{table}: {why}")
    };
    let gone = format!("PARTITIONS {partition} names SDS {partition_storage}, which is not there");
    let expected = [
        format!("table {NAME}.orders: SDS {storage} names CDS {columns}, which is not there"),
        constraint("ck", "orders", 1),
        constraint("df", "orders", 2),
        constraint("fk", "items", 0),
        constraint("nn", "orders", 0),
        constraint("pk", "orders", 0),
        constraint("uq", "orders", 1),
        format!("partition day=a b/shop=é of {NAME}.items: {gone}"),
    ];
    assert_eq!(said, expected);
    let of_orders = |table: &TableName| table.table == "orders";
    let is_whole = |object: &&Object| match object {
        Object::Table(table) => !of_orders(&table.name),
        Object::TableStatistics { table, .. } => !of_orders(table),
        Object::Constraint(_) => false,
        Object::Grant(grant) => !grant.object.table().is_some_and(of_orders),
        Object::Partition { partition_name, .. } | Object::PartitionStatistics { partition_name, .. } => {
            !partition_name.0.starts_with("day=a b/")
        }
        _ => true,
    };
    let expected: Vec<Object> = before.iter().filter(is_whole).cloned().collect();
    ensure!(expected.len() < before.len(), "nothing was damaged");
    ensure_same(&expected, &after)
}

/// What a reader prints of what Spark made, whichever metastore serves it.
const READ: &str = "
for row in spark.sql('SELECT id, name, day FROM judged.items ORDER BY id').collect():
    print('row', row.id, row.name, row.day)
for row in spark.sql('SELECT * FROM judged.cheap ORDER BY id').collect():
    print('view', row.id)
print('partitions', spark.sql('SHOW PARTITIONS judged.items').count())
";

/// The lines that [`READ`] prints.
fn read_lines(printed: &str) -> Vec<&str> {
    let lines = printed.lines();
    lines.filter(|line| ["row ", "view ", "partitions "].iter().any(|start| line.starts_with(start))).collect()
}

#[tokio::test]
async fn what_spark_made_is_carried_by_sql_and_served_to_spark() -> Result<()> {
    let version = Version::V31;
    let Some(source_database) = hms::fresh_database(Kind::Postgres, version) else { return Ok(()) };
    let Some(target_database) = hms::fresh_database(Kind::Postgres, version) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let source_server = Hms::start(version, &source_database.url);
    let make = format!(
        "spark.sql(\"CREATE DATABASE judged LOCATION 'file://{0}/judged.db'\")\n\
         spark.sql(\"CREATE TABLE judged.items (id INT, name STRING) PARTITIONED BY (day STRING) STORED AS PARQUET\")\n\
         spark.sql(\"INSERT INTO judged.items PARTITION (day='2026-01-01') VALUES (1, 'one'), (2, 'two')\")\n\
         spark.sql(\"INSERT INTO judged.items PARTITION (day='a b/c=d') VALUES (3, 'three')\")\n\
         spark.sql(\"CREATE VIEW judged.cheap AS SELECT id FROM judged.items WHERE id < 3\")\n{READ}",
        folder.path().display()
    );
    let Some(made) = hms::spark(&make, &source_server.thrift) else { return Ok(()) };
    let expected = ["row 1 one 2026-01-01", "row 2 two 2026-01-01", "row 3 three a b/c=d", "view 1", "view 2"];
    assert_eq!(read_lines(&made)[..5], expected, "{made}");

    let by_sql = found(open_url(&source_database.url).await.as_ref()).await?;
    let by_thrift = found(open_url(&source_server.thrift).await.as_ref()).await?;
    ensure_same(&by_sql, &by_thrift).context("read by SQL, then by Thrift")?;

    let target = open_url(&target_database.url).await;
    put(target.as_ref(), &by_sql).await?;
    ensure_same(&by_sql, &found(target.as_ref()).await?).context("carried")?;
    validate(version, &target_database)?;
    // Whoever reads from the target does not ask the source.
    drop(source_server);
    drop(source_database);
    let target_server = Hms::start(version, &target_database.url);
    let Some(served) = hms::spark(READ, &target_server.thrift) else { return Ok(()) };
    assert_eq!(read_lines(&served), read_lines(&made), "{served}");
    Ok(())
}
