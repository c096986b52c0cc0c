//! What a run has done so far: immutable segments of JSON lines, written every few seconds (rule 18).
//!
//! A segment is a header line, one line a record, and a footer line with the count and a digest of all bytes before it. It
//! is created whole; so one that is cut, changed, or missing in the middle is an error, never passed over. A crash loses
//! what was recorded since the last segment (at most some seconds of work) and never what [`JournalHandle::record_durable`]
//! has confirmed.

mod reader;
mod writer;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use reader::{JournalReader, unfinished_runs};
pub use writer::{FLUSH_EVERY, JournalHandle, JournalTotals, JournalWriter, MAX_RECORDS, MAX_SEGMENT_BYTES, Vouched};

use super::document::{self, Format};
use super::layout::{self, JobName, RunId};
use crate::chunk::ChunkSize;
use crate::entry::{Entry, Fingerprint};
use crate::error::{Error, Result};
use crate::hash::ChunkHash;
use crate::key::ObjectKey;

const FORMAT: Format = Format { what: "journal segment", format: "understudy-journal", version: 1, needs: "0.1.0" };

/// One thing that a run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// The target holds this object, verified.
    Done {
        /// The row for the target's manifest.
        entry: Box<Entry>,
    },
    /// The object failed.
    Failed {
        /// Its key.
        key: ObjectKey,
        /// Why, without secrets.
        error: String,
    },
    /// The object was deleted from the target.
    Deleted {
        /// Its key.
        key: ObjectKey,
    },
    /// This version of an object is about to be deleted from the target, in a folder that is given up (rule 28). Durable
    /// before anybody changes what names the folder.
    ToDelete {
        /// Its key.
        key: ObjectKey,
        /// What the target holds.
        target: Fingerprint,
    },
    /// All that is about to be deleted in a folder that is given up was recorded before.
    GivenUp {
        /// The folder's key.
        folder: ObjectKey,
    },
    /// An upload was begun. Durable before its first part is sent.
    UploadBegun {
        /// The target key.
        key: ObjectKey,
        /// The store's name of the upload.
        upload_id: String,
        /// Identity of the source object that is read.
        source: Fingerprint,
        /// Length of the object in bytes.
        size_bytes: u64,
        /// Length of each part but the last, in bytes.
        part_bytes: u64,
        /// Length of the chunks that are hashed. `None`: the store copies the parts by itself, and nobody hashes them.
        chunk: Option<ChunkSize>,
        /// What the upload was begun with (checksum algorithm, headers), for the tool that resumes it.
        options: Value,
    },
    /// An upload to the trash was begun. Durable before its first part is sent; nothing ever goes on with it.
    TrashUpload {
        /// The key in the trash.
        key: ObjectKey,
        /// The store's name of the upload.
        upload_id: String,
    },
    /// A part was taken by the store.
    PartDone {
        /// The upload.
        upload_id: String,
        /// The part's number, from 1.
        number: u32,
        /// Where it starts in the object, in bytes.
        offset: u64,
        /// Its length in bytes.
        size_bytes: u64,
        /// The store's tag of the part.
        etag: String,
        /// The store's checksum of the part; empty when it has none.
        checksum: String,
        /// Chaining values of its chunks, in order; none of a part that the store copied by itself.
        chunks: Vec<ChunkHash>,
    },
    /// An upload was completed or aborted.
    UploadEnded {
        /// The upload.
        upload_id: String,
        /// True when the object stands; false when the upload was aborted or is gone.
        completed: bool,
    },
    /// A manifest part was written that no index names yet: pruning spares it (rule 17).
    ManifestPart {
        /// The part's digest, as in its file name.
        digest: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    minimum_program: String,
    job: JobName,
    run: RunId,
    segment: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    records: u64,
    digest: String,
}

/// The records of a segment, as lines.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl Lines {
    fn push(&mut self, record: &Record) -> serde_json::Result<()> {
        let before = self.bytes.len();
        if let Err(error) = serde_json::to_writer(&mut self.bytes, record) {
            self.bytes.truncate(before);
            return Err(error);
        }
        self.bytes.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

/// The bytes of a segment.
fn encode(job: &JobName, run: &RunId, segment: u32, lines: &Lines) -> Result<Vec<u8>> {
    let failed = |error: serde_json::Error| {
        document::damaged(&FORMAT, &layout::journal_segment(job, run, segment), error.to_string())
    };
    let header = Header {
        format: FORMAT.format.to_owned(),
        version: FORMAT.version,
        minimum_program: FORMAT.needs.to_owned(),
        job: job.clone(),
        run: run.clone(),
        segment,
    };
    let mut bytes = serde_json::to_vec(&header).map_err(failed)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(&lines.bytes);
    let footer = Footer { records: lines.count, digest: blake3::hash(&bytes).to_hex().to_string() };
    serde_json::to_writer(&mut bytes, &footer).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The records of a segment, all of them or an error.
fn decode(job: &JobName, run: &RunId, segment: u32, bytes: &[u8]) -> Result<Vec<Record>> {
    let name = layout::journal_segment(job, run, segment);
    let damaged = |reason: String| -> Error { document::damaged(&FORMAT, &name, reason) };
    let header_end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no header".into()))?;
    let (header_line, body) = bytes.split_at(header_end + 1);
    document::check_head(&FORMAT, &name, header_line)?;

    let body = body.strip_suffix(b"\n").ok_or_else(|| damaged("its last line is cut off".into()))?;
    let footer_start = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (lines, footer_line) = body.split_at(footer_start);
    let footer: Footer =
        serde_json::from_slice(footer_line).map_err(|error| damaged(format!("it has no footer: {error}")))?;
    let sealed = bytes.get(..header_line.len() + lines.len()).unwrap_or_default();
    // Written again and compared as bytes: a changed footer that still reads the same is a changed file.
    let exact = serde_json::to_vec(&footer).is_ok_and(|exact| exact == footer_line);
    if !exact || footer.digest != blake3::hash(sealed).to_hex().as_str() {
        return Err(damaged("its digest does not match its content".into()));
    }

    let header: Header = serde_json::from_slice(header_line).map_err(|error| damaged(error.to_string()))?;
    if (&header.job, &header.run, header.segment) != (job, run, segment) {
        return Err(damaged(format!("it is segment {} of run {} of job {}", header.segment, header.run, header.job)));
    }
    let records: Vec<Record> = lines
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).map_err(|error| damaged(error.to_string())))
        .collect::<Result<_>>()?;
    match records.len() as u64 == footer.records {
        true => Ok(records),
        false => Err(damaged(format!("it has {} records, its footer says {}", records.len(), footer.records))),
    }
}

#[cfg(test)]
mod tests;
