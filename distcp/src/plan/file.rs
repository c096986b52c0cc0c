//! A plan as a Parquet file: one row an action, sorted by key; what applies to all of it stands in the footer.
//!
//! Columns: `key` (bytes), `step`, `reason`, `size_bytes`, and `action`: the whole row as JSON, so that any Parquet tool
//! prints it and a field can be added. The footer is written last and holds the digest of all rows (their JSON) and of
//! the header: a plan that was cut off, or would do anything else than what was planned, is refused. Written as a stream, read as a stream: memory does not grow with the plan.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder as _, BinaryBuilder, StringBuilder, UInt64Builder};
use arrow_array::{Array as _, ArrayRef, BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use manifest::contained::contained;
use manifest::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::{Action, PlanTotals};
use crate::options::CopyOptions;

/// The format's name in the footer.
const FORMAT: &str = "understudy-plan";
/// The newest version this program writes and reads.
const VERSION: u32 = 1;
/// The first program version that reads it.
const NEEDS: &str = "0.1.0";
/// Rows buffered before they are handed to Parquet, and per row group.
const BATCH_ROWS: usize = 4096;
const ROW_GROUP_ROWS: usize = 65_536;

/// What holds for the whole plan. With it a plan can be applied without any option (design invariant 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanHeader {
    /// The job's name in the state folder.
    pub job: String,
    /// The source, normalised.
    pub source: String,
    /// The target, normalised.
    pub target: String,
    /// The state folder.
    pub state: String,
    /// Id of the plan, also of the run that made it.
    pub id: String,
    /// The manifest that the plan is the difference to.
    pub base: Option<String>,
    /// When the source listing began (RFC 3339): the as-of of a run that applies all of it.
    pub as_of: String,
    /// What was asked for.
    pub options: CopyOptions,
    /// Length of chunks, in bytes.
    pub chunk_bytes: u64,
    /// Counts.
    pub totals: PlanTotals,
}

#[derive(Serialize, Deserialize)]
struct Footer {
    version: u32,
    needs: String,
    rows: u64,
    digest: String,
    #[serde(flatten)]
    header: PlanHeader,
}

#[derive(Deserialize)]
struct FooterVersion {
    version: u32,
    #[serde(default)]
    needs: String,
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, false),
        Field::new("step", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("size_bytes", DataType::UInt64, false),
        Field::new("action", DataType::Binary, false),
    ]))
}

/// Writes a plan, row by row.
pub struct PlanWriter {
    parquet: ArrowWriter<File>,
    name: String,
    digest: blake3::Hasher,
    rows: u64,
    key: BinaryBuilder,
    step: StringBuilder,
    reason: StringBuilder,
    size: UInt64Builder,
    action: BinaryBuilder,
}

impl PlanWriter {
    /// Starts a plan in `file`; `name` is for messages.
    pub fn new(file: File, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_dictionary_enabled(false)
            .build();
        let parquet = ArrowWriter::try_new(file, schema(), Some(properties)).map_err(|e| unwritable(&name, e))?;
        Ok(Self {
            parquet,
            name,
            digest: blake3::Hasher::new(),
            rows: 0,
            key: BinaryBuilder::new(),
            step: StringBuilder::new(),
            reason: StringBuilder::new(),
            size: UInt64Builder::new(),
            action: BinaryBuilder::new(),
        })
    }

    /// Adds an action; keys come in order.
    pub fn push(&mut self, action: &Action) -> Result<()> {
        let json = serde_json::to_vec(action).map_err(|e| unwritable(&self.name, e))?;
        self.digest.update(&(json.len() as u64).to_le_bytes());
        self.digest.update(&json);
        self.key.append_value(action.key.as_bytes());
        self.step.append_value(word(&action.step));
        self.reason.append_value(word(&action.reason));
        self.size.append_value(action.size_bytes());
        self.action.append_value(&json);
        self.rows += 1;
        if self.action.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.key.finish()),
            Arc::new(self.step.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.size.finish()),
            Arc::new(self.action.finish()),
        ];
        let batch = RecordBatch::try_new(schema(), columns).map_err(|e| unwritable(&self.name, e))?;
        self.parquet.write(&batch).map_err(|e| unwritable(&self.name, e))
    }

    /// Writes the footer, last. Returns the plan's digest. Nothing is synced: the file is this run's alone, and whoever
    /// keeps a copy of it does that there.
    pub fn finish(mut self, header: PlanHeader) -> Result<String> {
        self.flush()?;
        let digest = seal(self.digest, &header, &self.name)?;
        let footer = Footer { version: VERSION, needs: NEEDS.into(), rows: self.rows, digest: digest.clone(), header };
        let text = serde_json::to_string(&footer).map_err(|e| unwritable(&self.name, e))?;
        self.parquet.append_key_value_metadata(KeyValue::new(FORMAT.to_owned(), text));
        self.parquet.into_inner().map_err(|e| unwritable(&self.name, e))?;
        Ok(digest)
    }
}

/// A plan that was opened: its header, checked; its rows, to be read any number of times.
#[derive(Debug)]
pub struct Plan {
    path: PathBuf,
    name: String,
    /// A plan of this run only, without a name: the file goes with this, or with the process.
    _unnamed: Option<File>,
    /// What holds for all rows.
    pub header: PlanHeader,
    /// Number of rows.
    pub rows: u64,
    /// Digest of all rows.
    pub digest: String,
}

impl Plan {
    /// Opens a plan at a path and checks all of it once: format, version, and the digest of every row.
    pub fn open(path: &Path) -> Result<Self> {
        let plan = Self::read_footer(path.to_owned(), None)?;
        plan.check()?;
        Ok(plan)
    }

    /// Opens a plan that this run has just written into a file without a name; `file` is any handle of it. It is read through
    /// the process's own table of open files, which gives each reader a position of its own.
    pub fn from_unnamed(file: File) -> Result<Self> {
        Self::read_footer(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), Some(file))
    }

    fn read_footer(path: PathBuf, unnamed: Option<File>) -> Result<Self> {
        let name = path.display().to_string();
        let file = open(&path)?;
        let builder = contained(|| ParquetRecordBatchReaderBuilder::try_new(file))
            .map_err(|words| damaged(&name, words))?
            .map_err(|e| damaged(&name, e))?;
        let metadata = builder.metadata().file_metadata().key_value_metadata();
        let text = metadata
            .and_then(|pairs| pairs.iter().find(|pair| pair.key == FORMAT))
            .and_then(|pair| pair.value.as_deref())
            .ok_or_else(|| damaged(&name, "it is Parquet, but not a plan"))?;
        let version: FooterVersion = serde_json::from_str(text).map_err(|e| damaged(&name, e))?;
        if version.version > VERSION {
            return Err(Error::FutureVersion {
                what: "plan",
                name,
                found: version.version,
                known: VERSION,
                needs: version.needs,
            });
        }
        let footer: Footer = serde_json::from_str(text).map_err(|e| damaged(&name, e))?;
        Ok(Self { path, name, _unnamed: unnamed, header: footer.header, rows: footer.rows, digest: footer.digest })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All actions, in key order.
    pub fn actions(&self) -> Result<Actions> {
        let file = open(&self.path)?;
        let build = || ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(BATCH_ROWS).build();
        let reader =
            contained(build).map_err(|words| damaged(&self.name, words))?.map_err(|e| damaged(&self.name, e))?;
        Ok(Actions { reader, name: self.name.clone(), batch: None, row: 0 })
    }

    fn check(&self) -> Result<()> {
        let mut digest = blake3::Hasher::new();
        let mut rows = 0;
        let mut actions = self.actions()?;
        while let Some(json) = actions.next_json()? {
            digest.update(&(json.len() as u64).to_le_bytes());
            digest.update(json);
            rows += 1;
        }
        if rows != self.rows || seal(digest, &self.header, &self.name)? != self.digest {
            return Err(damaged(&self.name, "its rows are not the ones that were written"));
        }
        Ok(())
    }
}

/// The rows of a plan as they are read.
pub struct Actions {
    reader: ParquetRecordBatchReader,
    name: String,
    batch: Option<BinaryArray>,
    row: usize,
}

impl Actions {
    fn next_json(&mut self) -> Result<Option<&[u8]>> {
        while self.batch.as_ref().is_none_or(|batch| self.row >= batch.len()) {
            let next = contained(|| self.reader.next()).map_err(|words| damaged(&self.name, words))?;
            let Some(batch) = next else { return Ok(None) };
            let batch = batch.map_err(|e| damaged(&self.name, e))?;
            let column = batch.column_by_name("action").and_then(|c| c.as_any().downcast_ref::<BinaryArray>().cloned());
            self.batch = Some(column.ok_or_else(|| damaged(&self.name, "its columns are not those of a plan"))?);
            self.row = 0;
        }
        self.row += 1;
        Ok(self.batch.as_ref().map(|batch| batch.value(self.row - 1)))
    }
}

impl Iterator for Actions {
    type Item = Result<Action>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.name.clone();
        match self.next_json() {
            Ok(None) => None,
            Ok(Some(json)) => Some(serde_json::from_slice(json).map_err(|e| damaged(&name, e))),
            Err(error) => Some(Err(error)),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { what: "plan", name: path.display().to_string() },
        _ => Error::io("read", path, e),
    })
}

/// The digest of a plan: of its rows, then of its header, so that neither can be changed alone.
fn seal(mut rows: blake3::Hasher, header: &PlanHeader, name: &str) -> Result<String> {
    rows.update(&serde_json::to_vec(header).map_err(|e| unwritable(name, e))?);
    Ok(rows.finalize().to_hex().to_string())
}

fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn damaged(name: &str, reason: impl ToString) -> Error {
    Error::Damaged { what: "plan", name: name.into(), reason: reason.to_string() }
}

fn unwritable(name: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::io("write", name, std::io::Error::other(source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Reason, Step};
    use manifest::{EntryKind, Fingerprint, ObjectKey};

    fn header() -> PlanHeader {
        PlanHeader {
            job: "j".into(),
            source: "/a".into(),
            target: "/b".into(),
            state: "/s".into(),
            id: "r".into(),
            base: None,
            as_of: "2026-01-01T00:00:00Z".into(),
            options: CopyOptions::default(),
            chunk_bytes: 1 << 20,
            totals: PlanTotals::default(),
        }
    }

    fn actions(count: u32) -> impl Iterator<Item = Action> {
        (0..count).map(|i| Action {
            key: ObjectKey::from([format!("k{i:06}").into_bytes(), vec![0xff, b'\n']].concat()),
            step: Step::Copy,
            reason: Reason::New,
            kind: EntryKind::Object,
            source: Some(Fingerprint { size_bytes: i.into(), etag: Some("e".into()), ..Fingerprint::default() }),
            target: None,
            entry: None,
            donor: None,
        })
    }

    fn write(path: &Path, count: u32) -> String {
        let mut writer = PlanWriter::new(File::create(path).unwrap(), "p").unwrap();
        actions(count).for_each(|action| writer.push(&action).unwrap());
        writer.finish(header()).unwrap()
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written_any_number_of_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        let digest = write(&path, 10_000);
        let plan = Plan::open(&path).unwrap();
        assert_eq!((plan.rows, &plan.digest, &plan.header), (10_000, &digest, &header()));
        for _ in 0..2 {
            assert!(plan.actions().unwrap().map(Result::unwrap).eq(actions(10_000)));
        }
    }

    #[test]
    fn a_plan_that_is_cut_or_changed_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        write(&path, 300);
        let whole = std::fs::read(&path).unwrap();
        let bad = folder.path().join("bad");
        for cut in [0, 3, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&bad, &whole[..cut]).unwrap();
            assert!(matches!(Plan::open(&bad), Err(Error::Damaged { .. })), "cut at {cut}");
        }
        let expected: Vec<_> = actions(300).collect();
        for at in (0..whole.len()).step_by(97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&bad, &bytes).unwrap();
            // Parquet repeats some facts in its headers: a change there may be without effect, never with a wrong one.
            if let Ok(plan) = Plan::open(&bad) {
                let read: Vec<_> = plan.actions().unwrap().map(Result::unwrap).collect();
                assert_eq!((read, &plan.header), (expected.clone(), &header()), "byte {at}");
            }
        }
    }

    #[test]
    fn case_49_a_plan_of_the_future_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        let file = File::create(&path).unwrap();
        let mut parquet = ArrowWriter::try_new(file, schema(), None).unwrap();
        let text = r#"{"version":7,"needs":"9.1.0"}"#.to_owned();
        parquet.append_key_value_metadata(KeyValue::new(FORMAT.to_owned(), text));
        parquet.close().unwrap();
        let error = Plan::open(&path).unwrap_err().to_string();
        assert!(error.contains("version 7") && error.contains("9.1.0"), "{error}");
    }
}
