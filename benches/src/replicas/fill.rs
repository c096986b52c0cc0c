//! What the source holds before a case: tables and partitions, written set by set, and files.

use super::objects;
use anyhow::{Context as _, Result, ensure};
use distcp::settings::Environment;
use metasync::metastore::{CHUNK, Change, Metastore, open};
use metasync::model::{DatabaseName, Table};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Tables that are put at once.
const TABLES_AT_ONCE: usize = 20;
/// Threads that write files.
const WRITERS: usize = 4;
/// How old files are said to be: the time of a young one proves nothing.
pub const AGE: Duration = Duration::from_secs(3600);

async fn at(url: &str) -> Result<Box<dyn Metastore>> {
    Ok(open::open(url, &Environment::default()).await?)
}

/// A database with one table, and its partitions.
pub async fn one_table(url: &str, database: &str, partitions: usize, root: &str) -> Result<Table> {
    let metastore = at(url).await?;
    let database = DatabaseName::new(database);
    let table = objects::table(database.table("t"), root);
    let changes = [Change::PutDatabase(objects::database(&database, root)), Change::PutTable(Box::new(table.clone()))];
    metastore.apply(&changes).await?;
    for first in (0..partitions).step_by(CHUNK) {
        metastore.apply(&[put(&table, first..(first + CHUNK).min(partitions))]).await?;
    }
    Ok(table)
}

/// A database with many tables, `each` partitions in every one.
pub async fn many_tables(url: &str, database: &str, tables: usize, each: usize, root: &str) -> Result<Vec<Table>> {
    let metastore = at(url).await?;
    let database = DatabaseName::new(database);
    metastore.apply(&[Change::PutDatabase(objects::database(&database, root))]).await?;
    let all: Vec<Table> = (0..tables).map(|at| objects::table(database.table(&format!("t{at:05}")), root)).collect();
    for tables in all.chunks(TABLES_AT_ONCE) {
        let changes = tables.iter().flat_map(|table| [Change::PutTable(Box::new(table.clone())), put(table, 0..each)]);
        metastore.apply(&changes.collect::<Vec<_>>()).await?;
    }
    Ok(all)
}

/// A database with a Delta table, of which no file is there yet. Returns its folder.
pub async fn delta_table(url: &str, database: &str, root: &str) -> Result<PathBuf> {
    let metastore = at(url).await?;
    let database = DatabaseName::new(database);
    let mut table = objects::table(database.table("t"), root);
    table.partition_keys.clear();
    table.parameters.insert("spark.sql.sources.provider".to_owned(), "delta".to_owned());
    let folder = table.storage.location.as_deref().and_then(|location| location.strip_prefix("file:"));
    let folder = folder.map(PathBuf::from).context("a table without a folder")?;
    metastore
        .apply(&[Change::PutDatabase(objects::database(&database, root)), Change::PutTable(Box::new(table))])
        .await?;
    Ok(folder)
}

/// These partitions of a table.
pub fn put(table: &Table, numbers: impl IntoIterator<Item = usize>) -> Change {
    let partitions = numbers.into_iter().map(|at| objects::partition(table, at)).collect();
    Change::PutPartitions { table: table.name.clone(), partitions }
}

/// An error unless the table of a database has so many partitions.
pub async fn expect_partitions(url: &str, database: &str, expected: usize) -> Result<()> {
    let snapshot = at(url).await?.snapshot().await?;
    let found = snapshot.partition_names(&DatabaseName::new(database).table("t")).await?.len();
    ensure!(found == expected, "{found} partitions are there, not {expected}");
    Ok(())
}

/// The newest event of a log.
pub async fn current_event(url: &str) -> Result<i64> {
    Ok(at(url).await?.snapshot().await?.current_event_id().await?)
}

/// Makes the folders of a table's first partitions.
pub fn folders(table: &Table, partitions: usize) -> Result<()> {
    (0..partitions).try_for_each(|at| Ok(std::fs::create_dir_all(folder(table, at)?)?))
}

/// Small files in every partition, no two alike.
pub fn files(tables: &[Table], partitions: usize, each: usize) -> Result<()> {
    let old = SystemTime::now().checked_sub(AGE).context("a time before all")?;
    let of_table = |number: usize, table: &Table| -> Result<()> {
        for at in 0..partitions {
            let folder = folder(table, at)?;
            std::fs::create_dir_all(&folder)?;
            for file in 0..each {
                let path = folder.join(format!("part-{file:05}"));
                std::fs::write(&path, format!("{number} {at} {file}"))?;
                std::fs::File::options().write(true).open(&path)?.set_modified(old)?;
            }
        }
        Ok(())
    };
    let share = tables.len().div_ceil(WRITERS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = tables
            .chunks(share)
            .enumerate()
            .map(|(chunk, tables)| {
                let of_table = &of_table;
                let numbered =
                    move || (0..).zip(tables).try_for_each(|(at, table)| of_table(chunk * share + at, table));
                scope.spawn(numbered)
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

fn folder(table: &Table, at: usize) -> Result<PathBuf> {
    let location = objects::partition(table, at).storage.location;
    let folder = location.as_deref().and_then(|location| location.strip_prefix("file:"));
    folder.map(PathBuf::from).context("a partition without a folder")
}
