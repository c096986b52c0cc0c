//! The trees of the demo: a warehouse with tables and partitions, as Hive and Spark leave it.
//!
//! Contents come from a hash of their names: every demo has the same bytes. Times lie in the past, as those of files that
//! are copied at night do.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use distcp::console::demo::Amount;

/// Tables of many small files.
const TABLES: [&str; 3] = ["sales.db/orders", "sales.db/payments", "web.db/visits"];
/// Partitions of each table: a day each.
const DAYS: u32 = 40;
/// Files of each partition.
const FILES: u32 = 20;
/// A partition's files are this long at least, in bytes, and up to four times as long.
const FILE_BYTES: u64 = 32 << 10;
/// The length of the one large file, in bytes: nine chunks and a bit.
const LARGE_BYTES: u64 = (72 << 20) + 12_345;
/// The one large file.
pub const LARGE: &str = "exports/customers.parquet";
/// How old files are made.
const AGE: Duration = Duration::from_secs(6 * 3600);

/// The folder of a table's partition.
pub fn partition(table: &str, day: u32) -> String {
    format!("{table}/day=2026-{:02}-{:02}", 1 + day / 28, 1 + day % 28)
}

fn file_name(number: u32) -> String {
    format!("part-{number:05}.parquet")
}

fn length(name: &str) -> u64 {
    let digest = blake3::hash(name.as_bytes());
    FILE_BYTES + u64::from(u16::from_le_bytes([digest.as_bytes()[0], digest.as_bytes()[1]])) * 3 / 2
}

/// Writes a file of a length, filled from its name and a version.
fn write(path: &Path, name: &str, version: u32, bytes: u64) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&version.to_le_bytes());
    let mut content = hasher.finalize_xof();
    let mut file = File::create(path)?;
    let mut piece = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        content.fill(&mut piece[..step]);
        file.write_all(&piece[..step])?;
        left -= step as u64;
    }
    file.set_modified(SystemTime::now() - AGE + Duration::from_secs(u64::from(version)))
}

/// Builds the warehouse.
pub fn build(root: &Path) -> io::Result<Amount> {
    let mut amount = Amount::default();
    for table in TABLES {
        for day in 0..DAYS {
            amount += add_partition(root, &partition(table, day))?;
        }
    }
    let large = root.join(LARGE);
    fs::create_dir_all(large.parent().unwrap_or(root))?;
    write(&large, LARGE, 0, LARGE_BYTES)?;
    amount.add(LARGE_BYTES);
    Ok(amount)
}

/// Adds a partition with its files.
pub fn add_partition(root: &Path, partition: &str) -> io::Result<Amount> {
    let mut amount = Amount::default();
    fs::create_dir_all(root.join(partition))?;
    for number in 0..FILES {
        let name = format!("{partition}/{}", file_name(number));
        write(&root.join(&name), &name, 0, length(&name))?;
        amount.add(length(&name));
    }
    Ok(amount)
}

/// Adds a table with large files, as a nightly export does.
pub fn add_export(root: &Path, folder: &str, files: u32, bytes: u64) -> io::Result<Amount> {
    let mut amount = Amount::default();
    fs::create_dir_all(root.join(folder))?;
    for number in 0..files {
        let name = format!("{folder}/{}", file_name(number));
        write(&root.join(&name), &name, 0, bytes)?;
        amount.add(bytes);
    }
    Ok(amount)
}

/// Writes all files of a partition anew: other bytes, the same lengths.
pub fn rewrite(root: &Path, partition: &str) -> io::Result<Amount> {
    let mut amount = Amount::default();
    for number in 0..FILES {
        let name = format!("{partition}/{}", file_name(number));
        write(&root.join(&name), &name, 1, length(&name))?;
        amount.add(length(&name));
    }
    Ok(amount)
}

/// Removes a partition.
pub fn remove(root: &Path, partition: &str) -> io::Result<Amount> {
    let mut amount = Amount::default();
    for file in fs::read_dir(root.join(partition))? {
        amount.add(file?.metadata()?.len());
    }
    fs::remove_dir_all(root.join(partition))?;
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use distcp::console::demo::measure;

    use super::*;

    #[test]
    fn a_partition_is_what_its_amount_says_and_changes_as_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let added = add_partition(root, "t/day=1").unwrap();
        assert_eq!((added, added.files), (measure(root).unwrap(), u64::from(FILES)));
        let file = root.join("t/day=1").join(file_name(3));
        let (before, time) = (fs::read(&file).unwrap(), file.metadata().unwrap().modified().unwrap());
        assert!(time.elapsed().unwrap() > Duration::from_secs(3600));
        assert_eq!(rewrite(root, "t/day=1").unwrap(), added);
        assert!(fs::read(&file).unwrap() != before && file.metadata().unwrap().modified().unwrap() != time);
        assert_eq!(remove(root, "t/day=1").unwrap(), added);
        assert_eq!(measure(root).unwrap(), Amount::default());
    }

    #[test]
    fn days_are_days() {
        assert_eq!(partition("t", 0), "t/day=2026-01-01");
        assert_eq!(partition("t", DAYS - 1), "t/day=2026-02-12");
    }
}
