//! Version 2 of the part format: rows as Arrow columns in Parquet, where parts and runs end, and how they are named.
//!
//! A part is a sequence of *runs*, some hundred rows each. A run is named by the BLAKE3 of its rows in their canonical
//! encoding, a part by that of the names of its runs: of what it says, not of its bytes, so that another Parquet library or
//! another compression level gives the same part. Where either ends depends only on the keys around it, so equal stretches
//! of two trees are equal parts and, next to a change, equal runs. Pages are short, so that a reader who wants some runs
//! decodes little else; where they end is the encoder's choice. Nothing here does I/O; bytes that are no part are an error, never a panic of ours.

mod columns;
mod cutting;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::contained::contained;
use crate::entry::{Entry, Fingerprint};
use crate::error::{Error, Result};
use crate::hash::{BadHash, ContentHash};
use crate::index::PartRef;
use columns::{from_batch, to_batch};

pub use columns::schema;
pub use cutting::{Cutting, End};

/// The version of indexes and parts that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest program that reads [`FORMAT_VERSION`].
pub const NEEDS_PROGRAM: &str = "0.1.0";
/// The name of this program's version, as indexes carry it.
pub const PRODUCER: &str = concat!("understudy ", env!("CARGO_PKG_VERSION"));

const PART: &str = "manifest part";
const VERSION_KEY: &str = "understudy.part_version";
const NEEDS_KEY: &str = "understudy.needs";

/// The name of a run: BLAKE3 over its rows, each as its length and its canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunDigest(ContentHash);

impl RunDigest {
    /// The digest of rows that were encoded with [`put_row`].
    pub fn of_rows(canonical: &[u8]) -> Self {
        Self(ContentHash::of(canonical))
    }
}

impl fmt::Display for RunDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One run of a part, as the index names it. Stored as a pair: an index has one for some hundred rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "(RunDigest, u32)", from = "(RunDigest, u32)")]
pub struct Run {
    /// Its name.
    pub digest: RunDigest,
    /// Number of rows, at least one.
    pub rows: u32,
}

impl From<Run> for (RunDigest, u32) {
    fn from(run: Run) -> Self {
        (run.digest, run.rows)
    }
}

impl From<(RunDigest, u32)> for Run {
    fn from((digest, rows): (RunDigest, u32)) -> Self {
        Self { digest, rows }
    }
}

/// The name of a part: BLAKE3 over the names of its runs in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartDigest(ContentHash);

impl PartDigest {
    /// The digest of a part of these runs.
    pub fn of_runs<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut hasher = blake3::Hasher::new();
        runs.into_iter().for_each(|run| _ = hasher.update(run.digest.0.as_bytes()));
        Self(ContentHash::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for PartDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for PartDigest {
    type Err = BadHash;
    fn from_str(text: &str) -> Result<Self, BadHash> {
        text.parse().map(Self)
    }
}

/// Appends one row to the bytes that [`RunDigest`] is made of; `scratch` is overwritten.
pub fn put_row(canonical: &mut Vec<u8>, scratch: &mut Vec<u8>, row: &Entry) {
    scratch.clear();
    codec::put_entry(scratch, row);
    codec::put_bytes(canonical, scratch);
}

/// Columns of few values in few bits: compressing them saves nothing, and costs a reader the start of a decompressor each.
const SMALL: [&str; 5] = ["kind", "evidence", "chunk_log2", "racy", "source_racy"];

/// What is true of no row of a part makes a column without values: that is left uncompressed, too.
type Held = (&'static str, fn(&Fingerprint) -> bool);
const FINGERPRINT_COLUMNS: [Held; 6] = [
    ("size_bytes", |_| true),
    ("mtime", |print| print.mtime_ns.is_some()),
    ("ctime", |print| print.ctime_ns.is_some()),
    ("etag", |print| print.etag.is_some()),
    ("version", |print| print.version.is_some()),
    ("file_id", |print| print.file_id.is_some()),
];

/// How a part of these rows is encoded: a choice of the writer, and no part of the format.
fn properties(rows: &[Entry]) -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let map = |leaf: &str| ColumnPath::new(vec!["attributes".into(), "key_value".into(), leaf.into()]);
    let version = vec![
        KeyValue::new(VERSION_KEY.into(), FORMAT_VERSION.to_string()),
        KeyValue::new(NEEDS_KEY.into(), NEEDS_PROGRAM.to_owned()),
    ];
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled(column("key"), EnabledStatistics::Chunk)
        .set_column_statistics_enabled(column("size_bytes"), EnabledStatistics::Chunk)
        .set_column_dictionary_enabled(column("kind"), true)
        .set_column_dictionary_enabled(column("evidence"), true)
        .set_column_dictionary_enabled(map("key"), true)
        .set_column_dictionary_enabled(map("value"), true)
        // Hashes do not compress.
        .set_column_compression(column("hash"), Compression::UNCOMPRESSED)
        .set_column_compression(column("chunk_hashes"), Compression::UNCOMPRESSED)
        .set_data_page_row_count_limit(ROWS_A_PAGE)
        .set_write_batch_size(ROWS_A_PAGE)
        .set_created_by(PRODUCER.to_owned())
        .set_key_value_metadata(Some(version));
    let mut without: Vec<_> = SMALL.map(column).into();
    for (name, held) in FINGERPRINT_COLUMNS {
        if !rows.iter().any(|row| held(&row.fingerprint)) {
            without.push(column(name));
        }
        if !rows.iter().any(|row| row.source.as_ref().is_some_and(held)) {
            without.push(column(&format!("source_{name}")));
        }
    }
    if rows.iter().all(|row| row.attributes.is_empty()) {
        without.extend(["key", "value"].map(map));
    }
    for column in without {
        properties = properties.set_column_compression(column, Compression::UNCOMPRESSED);
    }
    properties.build()
}

/// Rows of a page: what is decoded at least to read a run.
const ROWS_A_PAGE: usize = 512;
/// Rows that are in Arrow's form at once while a part is written: in it a row takes a kilobyte, in pages much less.
const ROWS_A_BATCH: usize = 2048;

/// The Parquet file of a part.
pub fn encode_part(rows: &[Entry]) -> Result<Bytes> {
    let damaged = |reason: String| Error::Damaged { what: PART, name: "to write".into(), reason };
    let options = ArrowWriterOptions::new().with_properties(properties(rows)).with_skip_arrow_metadata(true);
    let write = || {
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema(), options)?;
        for slice in rows.chunks(ROWS_A_BATCH) {
            writer.write(&to_batch(slice)?)?;
        }
        writer.into_inner()
    };
    write().map(Bytes::from).map_err(|error: ParquetError| damaged(error.to_string()))
}

/// The rows of a part from its Parquet file. Refuses a file whose rows are not those that `part` names: whatever happened to
/// it, what is returned is what was written.
///
/// The keys share one buffer: keep a key for long only as a copy of its bytes.
pub fn decode_part(part: &PartRef, file: Bytes) -> Result<Vec<Entry>> {
    let wanted: Vec<usize> = (0..part.runs.len()).collect();
    decode(part, file, &wanted)
}

/// As [`decode_part`], only the rows of the runs `wanted`, which ascend: what else is in the file is not looked at.
pub fn decode_runs(part: &PartRef, file: Bytes, wanted: &[usize]) -> Result<Vec<Entry>> {
    decode(part, file, wanted)
}

fn decode(part: &PartRef, file: Bytes, wanted: &[usize]) -> Result<Vec<Entry>> {
    let damaged = |reason: String| Error::Damaged { what: PART, name: part.digest.to_string(), reason };
    if part.digest != PartDigest::of_runs(&part.runs) {
        return Err(damaged("its runs are not those of its name".into()));
    }
    let rows = contained(|| read_rows(part, file, wanted)).map_err(damaged)??;
    let (mut rest, mut canonical, mut scratch) = (rows.as_slice(), Vec::new(), Vec::new());
    for run in wanted.iter().filter_map(|run| part.runs.get(*run)) {
        let (rows, after) =
            rest.split_at_checked(run.rows as usize).ok_or_else(|| damaged("it has too few rows".into()))?;
        canonical.clear();
        rows.iter().for_each(|row| put_row(&mut canonical, &mut scratch, row));
        let found = RunDigest::of_rows(&canonical);
        if found != run.digest {
            return Err(damaged(format!("rows of it have the digest {found} instead of {}", run.digest)));
        }
        rest = after;
    }
    match rest {
        [] => Ok(rows),
        [more, ..] => Err(damaged(format!("it has rows that its index does not name, from {} on", more.key))),
    }
}

/// The rows of any Parquet file that looks like a part, at the places of the runs `wanted`.
fn read_rows(part: &PartRef, file: Bytes, wanted: &[usize]) -> Result<Vec<Entry>> {
    let damaged = |reason: String| Error::Damaged { what: PART, name: part.digest.to_string(), reason };
    let parquet = |error: ParquetError| damaged(error.to_string());
    let all = wanted.len() == part.runs.len();
    let pages = if all { PageIndexPolicy::Skip } else { PageIndexPolicy::Optional };
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_offset_index_policy(pages);
    let metadata = ArrowReaderMetadata::load(&file, options).map_err(parquet)?;
    check_version(&part.digest, metadata.metadata().file_metadata().key_value_metadata())?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    // One batch; its buffers are made for so many rows, so for no more than there are.
    let rows: usize = wanted.iter().filter_map(|run| part.runs.get(*run)).map(|run| run.rows as usize).sum();
    let builder = builder.with_batch_size(rows.clamp(1, Cutting::V2.max_rows()));
    let builder = if all { builder } else { builder.with_row_selection(selection(&part.runs, wanted)) };
    let mut rows = Vec::new();
    for batch in builder.build().map_err(parquet)? {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        from_batch(&batch, &mut rows).map_err(damaged)?;
    }
    Ok(rows)
}

/// The places of the runs `wanted`, which ascend, among the rows of all runs.
fn selection(runs: &[Run], wanted: &[usize]) -> RowSelection {
    let mut wanted = wanted.iter().peekable();
    let select = |(at, run): (usize, &Run)| match wanted.next_if(|wanted| **wanted == at) {
        Some(_) => RowSelector::select(run.rows as usize),
        None => RowSelector::skip(run.rows as usize),
    };
    runs.iter().enumerate().map(select).collect()
}

fn check_version(digest: &PartDigest, pairs: Option<&Vec<KeyValue>>) -> Result<()> {
    let value = |key: &str| pairs?.iter().find(|pair| pair.key == key)?.value.as_deref();
    match value(VERSION_KEY).map(str::parse::<u32>) {
        Some(Ok(FORMAT_VERSION)) => Ok(()),
        Some(Ok(found)) if found > FORMAT_VERSION => Err(Error::FutureVersion {
            what: PART,
            name: digest.to_string(),
            found,
            known: FORMAT_VERSION,
            needs: value(NEEDS_KEY).unwrap_or("newer").to_owned(),
        }),
        found => {
            let reason = match found {
                Some(Ok(found)) => format!("its format version {found} is not read any more"),
                _ => "it names no format version".to_owned(),
            };
            Err(Error::Damaged { what: PART, name: digest.to_string(), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;
    use proptest::prelude::*;

    /// The part of these rows, in runs of so many.
    fn part_of(rows: &[Entry], a_run: usize) -> PartRef {
        let (mut canonical, mut scratch) = (Vec::new(), Vec::new());
        let run = |rows: &[Entry]| {
            canonical.clear();
            rows.iter().for_each(|row| put_row(&mut canonical, &mut scratch, row));
            Run { digest: RunDigest::of_rows(&canonical), rows: rows.len() as u32 }
        };
        let runs: Vec<_> = rows.chunks(a_run).map(run).collect();
        let digest = PartDigest::of_runs(&runs);
        let (first_key, last_key) = Default::default();
        PartRef { digest, rows: 0, hashed: 0, object_bytes: 0, file_size_bytes: 0, first_key, last_key, runs }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_column_survives_parquet(rows in test_rows::sorted_entries(40)) {
            let file = encode_part(&rows).unwrap();
            prop_assert_eq!(decode_part(&part_of(&rows, 7), file).unwrap(), rows);
        }

        #[test]
        fn any_runs_of_a_part_are_read_alone(
            rows in 1usize..3_000,
            a_run in 1usize..700,
            wanted in prop::collection::btree_set(0usize..40, 0..12),
        ) {
            let rows = test_rows::numbered(rows as u64);
            let part = part_of(&rows, a_run);
            let wanted: Vec<_> = wanted.into_iter().filter(|run| *run < part.runs.len()).collect();
            let expected: Vec<_> = rows.chunks(a_run).enumerate()
                .filter(|(run, _)| wanted.contains(run)).flat_map(|(_, rows)| rows.to_vec()).collect();
            let file = encode_part(&rows).unwrap();
            prop_assert_eq!(decode_runs(&part, file, &wanted).unwrap(), expected);
        }

        #[test]
        fn rule_17_a_damaged_part_is_refused_or_unchanged(
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
            wanted in prop::collection::btree_set(0usize..5, 1..6),
        ) {
            let rows = test_rows::numbered(30);
            let (file, part) = (encode_part(&rows).unwrap(), part_of(&rows, 6));
            let wanted: Vec<_> = wanted.into_iter().collect();
            let good = decode_runs(&part, file.clone(), &wanted).unwrap();
            let mut damaged = file.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
            let damaged = Bytes::from(damaged);
            if let Ok(read) = decode_part(&part, damaged.clone()) {
                prop_assert_eq!(read, rows);
            }
            if let Ok(read) = decode_runs(&part, damaged, &wanted) {
                prop_assert_eq!(read, good);
            }
        }
    }

    #[test]
    fn rule_17_another_parts_rows_are_refused() {
        let rows = test_rows::numbered(12);
        let changed = |at: usize| {
            let mut rows = rows.clone();
            rows[at].fingerprint.size_bytes += 1;
            rows
        };
        let mut longer = rows.clone();
        longer.extend(test_rows::numbered(13).pop());
        let part = part_of(&rows, 4);
        for others in [changed(0), changed(11), longer, rows[..11].to_vec(), Vec::new()] {
            let error = decode_part(&part, encode_part(&others).unwrap()).unwrap_err();
            assert!(matches!(&error, Error::Damaged { what: "manifest part", .. }), "{error}");
            assert!(error.to_string().contains(&part.digest.to_string()), "{error}");
        }
        // What is not asked for is not looked at; what is, is.
        let others = encode_part(&changed(5)).unwrap();
        assert_eq!(decode_runs(&part, others.clone(), &[0, 2]).unwrap(), [&rows[..4], &rows[8..]].concat());
        assert!(decode_runs(&part, others, &[1]).is_err());
    }

    #[test]
    fn rule_17_runs_that_do_not_make_the_name_are_refused() {
        let rows = test_rows::numbered(12);
        let (file, mut part) = (encode_part(&rows).unwrap(), part_of(&rows, 4));
        part.runs.pop();
        assert!(matches!(decode_runs(&part, file, &[0]), Err(Error::Damaged { .. })));
    }

    #[test]
    fn rows_are_named_by_what_they_say_not_by_their_bytes() {
        let rows = test_rows::numbered(100);
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None).unwrap();
        writer.write(&to_batch(&rows[..60]).unwrap()).unwrap();
        writer.flush().unwrap();
        writer.write(&to_batch(&rows[60..]).unwrap()).unwrap();
        writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.into(), FORMAT_VERSION.to_string()));
        let file = Bytes::from(writer.into_inner().unwrap());
        assert_ne!(file, encode_part(&rows).unwrap());
        let part = part_of(&rows, 40);
        assert_eq!(decode_part(&part, file.clone()).unwrap(), rows);
        assert_eq!(decode_runs(&part, file, &[1]).unwrap(), rows[40..80]);
    }

    #[test]
    fn case_49_a_part_of_another_version_is_refused_by_version() {
        let rows = test_rows::numbered(3);
        let file = |version: &str| {
            let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None).unwrap();
            writer.write(&to_batch(&rows).unwrap()).unwrap();
            writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.into(), version.to_owned()));
            writer.append_key_value_metadata(KeyValue::new(NEEDS_KEY.into(), "7.3.0".to_owned()));
            Bytes::from(writer.into_inner().unwrap())
        };
        let error = decode_part(&part_of(&rows, 3), file("3")).unwrap_err();
        assert!(matches!(&error, Error::FutureVersion { found: 3, needs, .. } if needs == "7.3.0"), "{error}");
        let error = decode_part(&part_of(&rows, 3), file("1")).unwrap_err();
        assert!(error.to_string().contains("version 1 is not read any more"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_parquet_are_damage() {
        for bytes in [&b""[..], b"PAR1", b"PAR1 and then something that is no footer PAR1"] {
            let read = decode_part(&part_of(&[], 1), Bytes::from_static(bytes));
            assert!(matches!(read, Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn impossible_metadata_is_damage_and_no_panic() {
        // Found by fuzzing: a column with a length below zero.
        let file = include_bytes!("../../fuzz/seeds/part/impossible-metadata");
        let error = decode_part(&part_of(&[], 1), Bytes::from_static(file)).unwrap_err();
        assert!(error.to_string().contains("metadata is impossible"), "{error}");
    }
}
