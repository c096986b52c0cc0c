//! Rows as Arrow columns and back: the schema of a part. Nothing here does I/O; columns that are not those of a part are an
//! error.
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

use crate::chunk::ChunkSize;
use crate::entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint};
use crate::hash::{ChunkHash, ContentHash};
use crate::key::ObjectKey;

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

/// Rows as a batch of [`schema`].
pub(super) fn to_batch(rows: &[Entry]) -> Result<RecordBatch, ArrowError> {
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

/// Appends the rows of a batch.
pub(super) fn from_batch(batch: &RecordBatch, rows: &mut Vec<Entry>) -> Result<(), String> {
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
    if offsets[row] == offsets[row + 1] {
        return Attributes::new();
    }
    (offsets[row]..offsets[row + 1])
        .filter_map(|at| usize::try_from(at).ok())
        .map(|at| (names.value(at).to_owned(), values.value(at).to_owned()))
        .collect()
}
