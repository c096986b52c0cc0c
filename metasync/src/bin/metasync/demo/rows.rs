//! The Parquet files of the demo: a few columns, one of which does not compress.
//!
//! Contents come from a hash of the file's name: every demo has the same bytes. Times lie in the past, as those of files that
//! are replicated at night do. A crash leaves a file that is not whole, in a folder that nobody needs any more.

use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

/// Rows of a file.
const ROWS: usize = 2300;
/// The length of what does not compress, in bytes a row.
const SCAN_BYTES: usize = 1000;
/// From so many random bytes all rows take theirs.
const POOL_BYTES: usize = 4 << 20;
/// The distance of the bytes of two rows: a prime, so that rows of a file are all different.
const STEP_BYTES: usize = 1009;
/// How old files are made.
const AGE: Duration = Duration::from_secs(6 * 3600);

static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pool = vec![0; POOL_BYTES];
    blake3::Hasher::new().update(b"a shop").finalize_xof().fill(&mut pool);
    pool
});

/// Columns of every file, with their types in Hive.
pub const COLUMNS: [(&str, &str); 3] = [("id", "bigint"), ("amount", "double"), ("scan", "binary")];
/// The column that a table gets later.
pub const ADDED: (&str, &str) = ("supplier", "string");

/// Writes the file `path` of the lake, with the added column or without. Returns its length in bytes.
pub fn write(path: &Path, with_added: bool) -> io::Result<u64> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let body = encode(&path.file_name_and_folder(), with_added).map_err(io::Error::other)?;
    fs::write(path, &body)?;
    File::options().write(true).open(path)?.set_modified(SystemTime::now() - AGE)?;
    Ok(body.len() as u64)
}

trait Named {
    fn file_name_and_folder(&self) -> String;
}

impl Named for Path {
    /// What tells the files of the lake apart wherever it stands: the last folders and the name.
    fn file_name_and_folder(&self) -> String {
        let parts: Vec<_> = self.iter().rev().take(4).map(|part| part.to_string_lossy()).collect();
        parts.join("/")
    }
}

fn encode(name: &str, with_added: bool) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let digest = blake3::hash(name.as_bytes());
    let seed = digest.as_bytes().iter().take(4).fold(0_usize, |seed, byte| seed << 8 | usize::from(*byte));
    let room = POOL_BYTES - SCAN_BYTES;
    let scan = |row: usize| {
        let start = (seed + row * STEP_BYTES) % room;
        &POOL[start..start + SCAN_BYTES]
    };
    let ids = (0..ROWS).map(|row| i64::try_from(seed * ROWS + row).unwrap_or(i64::MAX));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        (COLUMNS[0].0, Arc::new(Int64Array::from_iter_values(ids))),
        (COLUMNS[1].0, Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| (row % 997) as f64 / 4.0)))),
        (COLUMNS[2].0, Arc::new(BinaryArray::from_iter_values((0..ROWS).map(scan)))),
    ];
    if with_added {
        columns.push((ADDED.0, Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("s{}", row % 7))))));
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::with_capacity(ROWS * SCAN_BYTES * 2), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    #[test]
    fn files_are_parquet_old_and_all_different() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["t/dt=1/part-0", "t/dt=2/part-0"].map(|name| folder.path().join(name));
        for path in &paths {
            let bytes = write(path, false).unwrap();
            assert_eq!(bytes, path.metadata().unwrap().len());
            assert!(path.metadata().unwrap().modified().unwrap().elapsed().unwrap() > Duration::from_secs(3600));
            let read = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
            assert_eq!(read.metadata().file_metadata().num_rows(), ROWS as i64);
            let names = |read: &SerializedFileReader<File>| {
                let schema = read.metadata().file_metadata().schema_descr_ptr();
                schema.columns().iter().map(|column| column.name().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(names(&read), COLUMNS.map(|(name, _)| name));
        }
        assert!(fs::read(&paths[0]).unwrap() != fs::read(&paths[1]).unwrap());
        let before = fs::read(&paths[0]).unwrap();
        write(&paths[0], true).unwrap();
        assert!(fs::read(&paths[0]).unwrap().len() > before.len());
    }
}
