//! Version 1 of the part format: rows as Arrow columns in Parquet, where parts end, and how they are named.
//!
//! A part is named by the BLAKE3 of its *rows* in their canonical encoding, not of its bytes: another Parquet library or
//! another compression level gives the same part. Where a part ends depends only on the keys around it, so equal stretches
//! of two trees are equal parts. Nothing here does I/O; bytes that are no part are an error, never a panic of ours.
//!
//! | column | type | null |
//! |---|---|---|
//! | `key` | binary | |
//! | `kind` | text: `object`, `symlink`, `folder`, `special` | |
//! | `size_bytes` | unsigned 64 | |
//! | `hash` | 32 bytes: BLAKE3 of the content | not known |
//! | `evidence` | text: `read`, `inherited`, `store_checksum`, `etag`, `none` | |
//! | `chunk_log2` | unsigned 8: logarithm of the chunk size | a single chunk |
//! | `chunk_hashes` | binary: chaining values of 32 bytes each, in order | a single chunk |
//! | `mtime`, `ctime` | timestamp in ns, UTC | not known |
//! | `etag`, `version` | text | not known |
//! | `file_id` | unsigned 64 | not known |
//! | `racy` | boolean | |
//! | `source_size_bytes`, ... `source_racy` | the same seven for the source object | not a copy |
//! | `attributes` | map of text to text, sorted | |

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampNanosecondType, UInt8Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt8Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkSize;
use crate::codec;
use crate::contained::contained;
use crate::entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint};
use crate::error::{Error, Result};
use crate::hash::{BadHash, ChunkHash, ContentHash};
use crate::key::ObjectKey;

/// The version of indexes and parts that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The oldest program that reads [`FORMAT_VERSION`].
pub const NEEDS_PROGRAM: &str = "0.1.0";
/// The name of this program's version, as indexes carry it.
pub const PRODUCER: &str = concat!("understudy ", env!("CARGO_PKG_VERSION"));

const PART: &str = "manifest part";
const VERSION_KEY: &str = "understudy.part_version";
const NEEDS_KEY: &str = "understudy.needs";

/// The name of a part: BLAKE3 over its rows, each as its length and its canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartDigest(ContentHash);

impl PartDigest {
    /// The digest of rows that were encoded with [`put_row`].
    pub fn of_rows(canonical: &[u8]) -> Self {
        Self(ContentHash::of(canonical))
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

/// Appends one row to the bytes that [`PartDigest`] is made of; `scratch` is overwritten.
pub fn put_row(canonical: &mut Vec<u8>, scratch: &mut Vec<u8>, row: &Entry) {
    scratch.clear();
    codec::put_entry(scratch, row);
    codec::put_bytes(canonical, scratch);
}

/// Where parts end. Part of the format: other numbers give other parts.
///
/// A part ends after a key whose BLAKE3 starts with `bits` zero bits, so a change to one row moves no end but its own. There
/// is deliberately no minimum: skipping an end because the part is short would make every later end depend on where the
/// part began. The two limits do depend on it, but only until the next such key. The limit of rows is three average parts, which
/// one part in twenty reaches: it bounds what the encoding of a part takes, a kilobyte a row, so that the memory of a run
/// does not grow with the longest part that chance makes among millions of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutting {
    bits: u32,
    max_rows: usize,
    max_bytes: usize,
}

impl Cutting {
    /// Version 1: 8,192 rows on average, at most 24,576, and no row after 32 MiB of canonical bytes.
    pub const V1: Cutting = Cutting { bits: 13, max_rows: 24 << 10, max_bytes: 32 << 20 };

    /// Rows of the longest part.
    pub const fn max_rows(&self) -> usize {
        self.max_rows
    }

    #[cfg(test)]
    pub(crate) const fn tiny(bits: u32, max_rows: usize) -> Self {
        Cutting { bits, max_rows, max_bytes: 64 << 10 }
    }

    /// Whether a part ends after the row of `key`, its `rows`-th, with `canonical_bytes` of rows so far.
    pub fn ends(&self, key: &ObjectKey, rows: usize, canonical_bytes: usize) -> bool {
        rows >= self.max_rows || canonical_bytes >= self.max_bytes || self.is_end(key)
    }

    fn is_end(&self, key: &ObjectKey) -> bool {
        let hash = blake3::hash(key.as_bytes());
        let (head, _) = hash.as_bytes().split_at(4);
        head.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)).leading_zeros() >= self.bits
    }
}

fn fingerprint_fields(prefix: &str, optional: bool) -> Vec<Field> {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    vec![
        Field::new(format!("{prefix}size_bytes"), DataType::UInt64, optional),
        Field::new(format!("{prefix}mtime"), time.clone(), true),
        Field::new(format!("{prefix}ctime"), time, true),
        Field::new(format!("{prefix}etag"), DataType::Utf8, true),
        Field::new(format!("{prefix}version"), DataType::Utf8, true),
        Field::new(format!("{prefix}file_id"), DataType::UInt64, true),
        Field::new(format!("{prefix}racy"), DataType::Boolean, optional),
    ]
}

fn attribute_fields() -> (Field, Field) {
    (Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let (name, value) = attribute_fields();
    let pair = Field::new("key_value", DataType::Struct(Fields::from(vec![name, value])), false);
    let mut fields = vec![
        Field::new("key", DataType::Binary, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("hash", DataType::FixedSizeBinary(32), true),
        Field::new("evidence", DataType::Utf8, false),
        Field::new("chunk_log2", DataType::UInt8, true),
        Field::new("chunk_hashes", DataType::Binary, true),
    ];
    fields.extend(fingerprint_fields("", false));
    fields.extend(fingerprint_fields("source_", true));
    fields.push(Field::new("attributes", DataType::Map(Arc::new(pair), false), false));
    Arc::new(Schema::new(fields))
});

/// The Arrow schema of a part.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

static PROPERTIES: LazyLock<WriterProperties> = LazyLock::new(|| {
    let column = |name: &str| ColumnPath::from(name);
    let map = |leaf: &str| ColumnPath::new(vec!["attributes".into(), "key_value".into(), leaf.into()]);
    let version = vec![
        KeyValue::new(VERSION_KEY.into(), FORMAT_VERSION.to_string()),
        KeyValue::new(NEEDS_KEY.into(), NEEDS_PROGRAM.to_owned()),
    ];
    WriterProperties::builder()
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
        .set_offset_index_disabled(true)
        .set_created_by(PRODUCER.to_owned())
        .set_key_value_metadata(Some(version))
        .build()
});

/// Rows that are in Arrow's form at once while a part is written: in it a row takes a kilobyte, in pages much less.
const ROWS_A_BATCH: usize = 2048;

/// The Parquet file of a part.
pub fn encode_part(rows: &[Entry]) -> Result<Bytes> {
    let damaged = |reason: String| Error::Damaged { what: PART, name: "to write".into(), reason };
    let options = ArrowWriterOptions::new().with_properties(PROPERTIES.clone()).with_skip_arrow_metadata(true);
    let write = || {
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema(), options)?;
        for slice in rows.chunks(ROWS_A_BATCH) {
            writer.write(&to_batch(slice)?)?;
        }
        writer.into_inner()
    };
    write().map(Bytes::from).map_err(|error: ParquetError| damaged(error.to_string()))
}

/// The rows of the part `digest` from its Parquet file. Refuses a file whose rows are not those: whatever happened to it,
/// what is returned is what was written.
///
/// The keys share one buffer: keep a key for long only as a copy of its bytes.
pub fn decode_part(digest: &PartDigest, file: Bytes) -> Result<Vec<Entry>> {
    let damaged = |reason: String| Error::Damaged { what: PART, name: digest.to_string(), reason };
    let rows = contained(|| read_rows(digest, file)).map_err(damaged)??;
    let (mut canonical, mut scratch) = (Vec::new(), Vec::new());
    rows.iter().for_each(|row| put_row(&mut canonical, &mut scratch, row));
    let found = PartDigest::of_rows(&canonical);
    if found != *digest {
        return Err(damaged(format!("its rows have the digest {found}")));
    }
    Ok(rows)
}

/// The rows of any Parquet file that looks like a part.
fn read_rows(digest: &PartDigest, file: Bytes) -> Result<Vec<Entry>> {
    let damaged = |reason: String| Error::Damaged { what: PART, name: digest.to_string(), reason };
    let parquet = |error: ParquetError| damaged(error.to_string());
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(parquet)?;
    check_version(digest, builder.metadata().file_metadata().key_value_metadata())?;
    let reader = builder.with_batch_size(Cutting::V1.max_rows()).build().map_err(parquet)?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        from_batch(&batch, &mut rows).map_err(damaged)?;
    }
    Ok(rows)
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
        _ => Err(Error::Damaged { what: PART, name: digest.to_string(), reason: "it names no format version".into() }),
    }
}

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Object => "object",
        EntryKind::Symlink => "symlink",
        EntryKind::Folder => "folder",
        EntryKind::Special => "special",
    }
}

fn evidence_name(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Read => "read",
        Evidence::Inherited => "inherited",
        Evidence::StoreChecksum => "store_checksum",
        Evidence::Etag => "etag",
        Evidence::None => "none",
    }
}

fn kind_of(name: &str) -> Result<EntryKind, String> {
    [EntryKind::Object, EntryKind::Symlink, EntryKind::Folder, EntryKind::Special]
        .into_iter()
        .find(|kind| kind_name(*kind) == name)
        .ok_or_else(|| format!("unknown kind {name:?}"))
}

fn evidence_of(name: &str) -> Result<Evidence, String> {
    [Evidence::Read, Evidence::Inherited, Evidence::StoreChecksum, Evidence::Etag, Evidence::None]
        .into_iter()
        .find(|evidence| evidence_name(*evidence) == name)
        .ok_or_else(|| format!("unknown evidence {name:?}"))
}

fn to_batch(rows: &[Entry]) -> Result<RecordBatch, ArrowError> {
    let chunk_hashes = rows.iter().map(|row| {
        let chunks = row.chunks.as_ref()?;
        Some(chunks.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<u8>>())
    });
    let hashes = rows.iter().map(|row| row.hash.as_ref().map(ContentHash::as_bytes));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.key.as_bytes()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| kind_name(row.kind)))),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(hashes, 32)?),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| evidence_name(row.evidence)))),
        Arc::new(UInt8Array::from_iter(rows.iter().map(|row| row.chunks.as_ref().map(|chunks| chunks.size.log2())))),
        Arc::new(BinaryArray::from_iter(chunk_hashes)),
    ];
    columns.extend(fingerprint_columns(rows, |row| Some(&row.fingerprint)));
    columns.extend(fingerprint_columns(rows, |row| row.source.as_ref()));
    columns.push(attribute_column(rows)?);
    RecordBatch::try_new(schema(), columns)
}

fn fingerprint_columns(rows: &[Entry], of: impl Fn(&Entry) -> Option<&Fingerprint>) -> Vec<ArrayRef> {
    let all = || rows.iter().map(&of);
    let time = |times: TimestampNanosecondArray| -> ArrayRef { Arc::new(times.with_timezone("UTC")) };
    vec![
        Arc::new(UInt64Array::from_iter(all().map(|print| print.map(|print| print.size_bytes)))),
        time(all().map(|print| print.and_then(|print| print.mtime_ns)).collect()),
        time(all().map(|print| print.and_then(|print| print.ctime_ns)).collect()),
        Arc::new(StringArray::from_iter(all().map(|print| print.and_then(|print| print.etag.as_deref())))),
        Arc::new(StringArray::from_iter(all().map(|print| print.and_then(|print| print.version.as_deref())))),
        Arc::new(UInt64Array::from_iter(all().map(|print| print.and_then(|print| print.file_id)))),
        Arc::new(BooleanArray::from_iter(all().map(|print| print.map(|print| print.racy)))),
    ]
}

fn attribute_column(rows: &[Entry]) -> Result<ArrayRef, ArrowError> {
    let (name, value) = attribute_fields();
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(name)
        .with_values_field(value);
    for row in rows {
        for (name, value) in &row.attributes {
            builder.keys().append_value(name);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// The columns of a batch by name, whatever else it has.
struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    fn get<A: 'static>(
        &self,
        prefix: &str,
        name: &str,
        cast: impl Fn(&'a dyn Array) -> Option<&'a A>,
    ) -> Result<&'a A, String> {
        let name = format!("{prefix}{name}");
        let column = self.0.column_by_name(&name).ok_or_else(|| format!("it has no column {name}"))?;
        cast(column.as_ref()).ok_or_else(|| format!("its column {name} has the type {}", column.data_type()))
    }
}

fn at<T: arrow_array::types::ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}

fn text_at(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

struct FingerprintColumns<'a> {
    size_bytes: &'a UInt64Array,
    mtime: &'a TimestampNanosecondArray,
    ctime: &'a TimestampNanosecondArray,
    etag: &'a StringArray,
    version: &'a StringArray,
    file_id: &'a UInt64Array,
    racy: &'a BooleanArray,
}

impl<'a> FingerprintColumns<'a> {
    fn new(columns: &Columns<'a>, prefix: &str) -> Result<Self, String> {
        Ok(Self {
            size_bytes: columns.get(prefix, "size_bytes", |column| column.as_primitive_opt::<UInt64Type>())?,
            mtime: columns.get(prefix, "mtime", |column| column.as_primitive_opt::<TimestampNanosecondType>())?,
            ctime: columns.get(prefix, "ctime", |column| column.as_primitive_opt::<TimestampNanosecondType>())?,
            etag: columns.get(prefix, "etag", |column| column.as_string_opt::<i32>())?,
            version: columns.get(prefix, "version", |column| column.as_string_opt::<i32>())?,
            file_id: columns.get(prefix, "file_id", |column| column.as_primitive_opt::<UInt64Type>())?,
            racy: columns.get(prefix, "racy", |column| column.as_boolean_opt())?,
        })
    }

    fn row(&self, row: usize) -> Option<Fingerprint> {
        Some(Fingerprint {
            size_bytes: at(self.size_bytes, row)?,
            mtime_ns: at(self.mtime, row),
            ctime_ns: at(self.ctime, row),
            etag: text_at(self.etag, row),
            version: text_at(self.version, row),
            file_id: at(self.file_id, row),
            racy: self.racy.is_valid(row) && self.racy.value(row),
        })
    }
}

fn from_batch(batch: &RecordBatch, rows: &mut Vec<Entry>) -> Result<(), String> {
    let columns = Columns(batch);
    let keys = columns.get("", "key", |column| column.as_binary_opt::<i32>())?;
    let kinds = columns.get("", "kind", |column| column.as_string_opt::<i32>())?;
    let hashes = columns.get("", "hash", |column| column.as_fixed_size_binary_opt())?;
    let evidences = columns.get("", "evidence", |column| column.as_string_opt::<i32>())?;
    let chunk_sizes = columns.get("", "chunk_log2", |column| column.as_primitive_opt::<UInt8Type>())?;
    let chunk_hashes = columns.get("", "chunk_hashes", |column| column.as_binary_opt::<i32>())?;
    let fingerprints = FingerprintColumns::new(&columns, "")?;
    let sources = FingerprintColumns::new(&columns, "source_")?;
    let attributes = columns.get("", "attributes", |column| column.as_map_opt())?;
    let (names, values) = (attributes.keys().as_string_opt::<i32>(), attributes.values().as_string_opt::<i32>());
    let (names, values) = names.zip(values).ok_or("its attributes are not text")?;

    // One shared allocation holds all keys of the batch: a key is a slice of it.
    let key_bytes = Bytes::from_owner(keys.values().clone());
    let offset = |at: i32| usize::try_from(at).map_err(|_| "an offset of a key is negative".to_owned());
    rows.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        let (start, end) = (offset(keys.value_offsets()[row])?, offset(keys.value_offsets()[row + 1])?);
        let hash = hashes.is_valid(row).then(|| hashes.value(row).try_into().map(ContentHash::from_bytes));
        let chunks = match (at(chunk_sizes, row), chunk_hashes.is_valid(row)) {
            (None, false) => None,
            (Some(log2), true) => Some(chunks_of(log2, chunk_hashes.value(row))?),
            _ => return Err("a row has half of its chunks".into()),
        };
        rows.push(Entry {
            key: ObjectKey::new(key_bytes.slice(start..end)),
            kind: kind_of(kinds.value(row))?,
            hash: hash.transpose().map_err(|_| "a hash is not of 32 bytes")?,
            evidence: evidence_of(evidences.value(row))?,
            chunks,
            fingerprint: fingerprints.row(row).ok_or("a row has no size")?,
            source: sources.row(row),
            attributes: attributes_of(attributes.value_offsets(), names, values, row),
        });
    }
    Ok(())
}

fn chunks_of(log2: u8, bytes: &[u8]) -> Result<Chunks, String> {
    let size = ChunkSize::try_from(log2).map_err(|error| error.to_string())?;
    match bytes.as_chunks() {
        (hashes, []) => Ok(Chunks { size, hashes: hashes.iter().map(|hash| ChunkHash::from_bytes(*hash)).collect() }),
        _ => Err("chunk hashes are not of 32 bytes each".into()),
    }
}

fn attributes_of(offsets: &[i32], names: &StringArray, values: &StringArray, row: usize) -> Attributes {
    (offsets[row]..offsets[row + 1])
        .filter_map(|at| usize::try_from(at).ok())
        .map(|at| (names.value(at).to_owned(), values.value(at).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;
    use proptest::prelude::*;

    fn digest_of(rows: &[Entry]) -> PartDigest {
        let (mut canonical, mut scratch) = (Vec::new(), Vec::new());
        rows.iter().for_each(|row| put_row(&mut canonical, &mut scratch, row));
        PartDigest::of_rows(&canonical)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_column_survives_parquet(rows in test_rows::sorted_entries(40)) {
            let file = encode_part(&rows).unwrap();
            prop_assert_eq!(decode_part(&digest_of(&rows), file).unwrap(), rows);
        }

        #[test]
        fn rule_17_a_damaged_part_is_refused_or_unchanged(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let rows = test_rows::numbered(30);
            let file = encode_part(&rows).unwrap();
            let mut damaged = file.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
            if let Ok(read) = decode_part(&digest_of(&rows), damaged.into()) {
                prop_assert_eq!(read, rows);
            }
        }
    }

    #[test]
    fn rule_17_another_parts_rows_are_refused() {
        let (rows, others) = (test_rows::numbered(5), test_rows::numbered(6));
        let error = decode_part(&digest_of(&rows), encode_part(&others).unwrap()).unwrap_err();
        assert!(matches!(&error, Error::Damaged { what: "manifest part", .. }), "{error}");
        assert!(error.to_string().contains(&digest_of(&others).to_string()), "{error}");
    }

    #[test]
    fn rows_are_named_by_what_they_say_not_by_their_bytes() {
        let rows = test_rows::numbered(100);
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None).unwrap();
        writer.write(&to_batch(&rows[..60]).unwrap()).unwrap();
        writer.flush().unwrap();
        writer.write(&to_batch(&rows[60..]).unwrap()).unwrap();
        writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.into(), "1".to_owned()));
        let file = Bytes::from(writer.into_inner().unwrap());
        assert_ne!(file, encode_part(&rows).unwrap());
        assert_eq!(decode_part(&digest_of(&rows), file).unwrap(), rows);
    }

    #[test]
    fn case_49_a_part_from_the_future_is_refused_by_version() {
        let rows = test_rows::numbered(3);
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None).unwrap();
        writer.write(&to_batch(&rows).unwrap()).unwrap();
        writer.append_key_value_metadata(KeyValue::new(VERSION_KEY.into(), "2".to_owned()));
        writer.append_key_value_metadata(KeyValue::new(NEEDS_KEY.into(), "7.3.0".to_owned()));
        let error = decode_part(&digest_of(&rows), writer.into_inner().unwrap().into()).unwrap_err();
        assert!(matches!(&error, Error::FutureVersion { found: 2, needs, .. } if needs == "7.3.0"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_parquet_are_damage() {
        for bytes in [&b""[..], b"PAR1", b"PAR1 and then something that is no footer PAR1"] {
            let read = decode_part(&digest_of(&[]), Bytes::from_static(bytes));
            assert!(matches!(read, Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn impossible_metadata_is_damage_and_no_panic() {
        // Found by fuzzing: a column with a length below zero.
        let file = include_bytes!("../../fuzz/seeds/part/impossible-metadata");
        let error = decode_part(&digest_of(&[]), Bytes::from_static(file)).unwrap_err();
        assert!(error.to_string().contains("metadata is impossible"), "{error}");
    }

    #[test]
    fn parts_end_after_a_key_in_8192_on_average() {
        let ends = test_rows::numbered(200_000).iter().filter(|row| Cutting::V1.ends(&row.key, 1, 1)).count();
        assert!((12..=40).contains(&ends), "{ends}");
    }
}
