//! External merge sort: orders more records than fit in memory.
//!
//! Records collect in memory up to a budget, are sorted and spilled as a run to an unlinked temporary file, and the runs are
//! merged while reading. Records that compare equal keep the order in which they were pushed, so that a caller can lay
//! later ones over earlier ones. A crash leaves nothing behind: the files have no names.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The most runs that are merged at once, and so (times a small number of levels) the most open files.
const MAX_FAN_IN: usize = 64;
/// The buffers of one run, while it is written and while it is read.
const RUN_BUFFER_BYTES: usize = 64 << 10;
/// The longest encoded record: a longer one in a run is damage, not data.
const MAX_RECORD_BYTES: u32 = 1 << 30;

/// What a [`Sorter`] can order.
pub trait Record: Sized + Send {
    /// Appends the record's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// The record of exactly these bytes.
    fn decode(bytes: &[u8]) -> Result<Self>;

    /// The order of two records; equal ones keep their order of insertion.
    fn order(&self, other: &Self) -> Ordering;

    /// About how much memory the record holds, with what it points to. By default measured by encoding the record; worth
    /// overriding where it can be told faster.
    fn memory_bytes(&self) -> usize {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        size_of::<Self>() + bytes.len()
    }
}

/// Collects records in any order.
#[derive(Debug)]
pub struct Sorter<R> {
    spool: PathBuf,
    memory_bytes: usize,
    used_bytes: usize,
    records: Vec<R>,
    count: u64,
    /// Spilled runs. Those of `levels[n + 1]` were pushed before those of `levels[n]`, and each level is in order of
    /// insertion. A level with [`MAX_FAN_IN`] runs becomes one run of the next.
    levels: Vec<Vec<Run>>,
}

impl<R: Record> Sorter<R> {
    /// A sorter that spills to unlinked files in the folder `spool` whenever its records hold `memory_bytes`.
    pub fn new(spool: &Path, memory_bytes: usize) -> Self {
        Self { spool: spool.to_owned(), memory_bytes, used_bytes: 0, records: Vec::new(), count: 0, levels: Vec::new() }
    }

    /// Adds a record. Blocks while it spills.
    pub fn push(&mut self, record: R) -> Result<()> {
        self.used_bytes += record.memory_bytes();
        self.records.push(record);
        self.count += 1;
        if self.used_bytes >= self.memory_bytes { self.spill() } else { Ok(()) }
    }

    /// How many records were pushed.
    pub fn total(&self) -> u64 {
        self.count
    }

    /// The records in order. What is still in memory is not spilled.
    pub fn finish(mut self) -> Result<Sorted<R>> {
        self.records.sort_by(R::order);
        let mut runs: Vec<Run> = std::mem::take(&mut self.levels).into_iter().rev().flatten().collect();
        while runs.len() >= MAX_FAN_IN {
            // The newest runs are the smallest: merging just enough of them moves the fewest bytes.
            let newest = runs.split_off(runs.len() - (runs.len() + 2 - MAX_FAN_IN).min(MAX_FAN_IN));
            runs.push(self.merge(newest)?);
        }
        let mut sources: Vec<Source<R>> = runs.into_iter().map(|run| Source::Run(run.read(&self.spool))).collect();
        sources.push(Source::Memory(self.records.into_iter()));
        Sorted::new(sources, self.count)
    }

    fn spill(&mut self) -> Result<()> {
        self.records.sort_by(R::order);
        let mut writer = RunWriter::new(&self.spool)?;
        self.records.drain(..).try_for_each(|record| writer.push(&record))?;
        let mut run = writer.finish()?;
        self.used_bytes = 0;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() < MAX_FAN_IN {
                break;
            }
            let full = std::mem::take(&mut self.levels[level]);
            run = self.merge(full)?;
        }
        Ok(())
    }

    fn merge(&self, runs: Vec<Run>) -> Result<Run> {
        let mut writer = RunWriter::new(&self.spool)?;
        let sources = runs.into_iter().map(|run| Source::<R>::Run(run.read(&self.spool))).collect();
        Sorted::new(sources, 0)?.try_for_each(|record| writer.push(&record?))?;
        writer.finish()
    }
}

#[derive(Debug)]
struct Run {
    file: File,
    records: u64,
}

impl Run {
    fn read(self, spool: &Path) -> RunReader {
        let file = BufReader::with_capacity(RUN_BUFFER_BYTES, self.file);
        RunReader { file, left: self.records, buffer: Vec::new(), spool: spool.to_owned() }
    }
}

struct RunWriter {
    file: BufWriter<File>,
    records: u64,
    buffer: Vec<u8>,
    spool: PathBuf,
}

impl RunWriter {
    fn new(spool: &Path) -> Result<Self> {
        let file =
            tempfile::tempfile_in(spool).map_err(|error| Error::io("create a temporary file in", spool, error))?;
        let file = BufWriter::with_capacity(RUN_BUFFER_BYTES, file);
        Ok(Self { file, records: 0, buffer: Vec::new(), spool: spool.to_owned() })
    }

    fn push(&mut self, record: &impl Record) -> Result<()> {
        self.buffer.clear();
        record.encode(&mut self.buffer);
        let length = u32::try_from(self.buffer.len()).ok().filter(|length| *length <= MAX_RECORD_BYTES);
        let written = match length {
            Some(length) => self.file.write_all(&length.to_le_bytes()).and_then(|()| self.file.write_all(&self.buffer)),
            None => Err(io::Error::new(io::ErrorKind::FileTooLarge, "a record is longer than 1 GiB")),
        };
        self.records += 1;
        written.map_err(|error| Error::io("write a temporary file in", &self.spool, error))
    }

    fn finish(self) -> Result<Run> {
        let Self { file, records, spool, .. } = self;
        let file = file.into_inner().map_err(|error| error.into_error()).and_then(|mut file| {
            file.seek(SeekFrom::Start(0))?;
            Ok(file)
        });
        Ok(Run { file: file.map_err(|error| Error::io("write a temporary file in", &spool, error))?, records })
    }
}

#[derive(Debug)]
struct RunReader {
    file: BufReader<File>,
    left: u64,
    buffer: Vec<u8>,
    spool: PathBuf,
}

impl RunReader {
    fn next<R: Record>(&mut self) -> Result<Option<R>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.fill().map_err(|error| Error::io("read a temporary file in", &self.spool, error))?;
        R::decode(&self.buffer).map(Some)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > MAX_RECORD_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a record of impossible length"));
        }
        self.buffer.resize(length as usize, 0);
        self.file.read_exact(&mut self.buffer)
    }
}

#[derive(Debug)]
enum Source<R> {
    Memory(std::vec::IntoIter<R>),
    Run(RunReader),
}

impl<R: Record> Source<R> {
    fn next(&mut self) -> Result<Option<R>> {
        match self {
            Source::Memory(records) => Ok(records.next()),
            Source::Run(reader) => reader.next(),
        }
    }
}

/// The first record of a source that is not yet given out. The heap's greatest is the smallest record of the oldest source.
#[derive(Debug)]
struct Head<R> {
    record: R,
    source: usize,
}

impl<R: Record> Ord for Head<R> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.record.order(&self.record).then(other.source.cmp(&self.source))
    }
}

impl<R: Record> PartialOrd for Head<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Record> PartialEq for Head<R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<R: Record> Eq for Head<R> {}

/// The records of a [`Sorter`] in order. Reads files as it goes, so it blocks; ends after an error.
#[derive(Debug)]
pub struct Sorted<R: Record> {
    sources: Vec<Source<R>>,
    heap: BinaryHeap<Head<R>>,
    count: u64,
}

impl<R: Record> Sorted<R> {
    fn new(mut sources: Vec<Source<R>>, count: u64) -> Result<Self> {
        let mut heap = BinaryHeap::with_capacity(sources.len());
        for (source, records) in sources.iter_mut().enumerate() {
            heap.extend(records.next()?.map(|record| Head { record, source }));
        }
        Ok(Self { sources, heap, count })
    }

    /// How many records were sorted, given out or not.
    pub fn total(&self) -> u64 {
        self.count
    }
}

impl<R: Record> Iterator for Sorted<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        let mut head = self.heap.peek_mut()?;
        match self.sources[head.source].next() {
            Ok(Some(record)) => Some(Ok(std::mem::replace(&mut head.record, record))),
            Ok(None) => Some(Ok(PeekMut::pop(head).record)),
            Err(error) => {
                drop(head);
                self.heap.clear();
                Some(Err(error))
            }
        }
    }
}

/// Of sorted records that compare equal only the last: the one that was pushed last lies over the others.
pub fn keep_last<R: Record>(sorted: impl Iterator<Item = Result<R>>) -> impl Iterator<Item = Result<R>> {
    let mut sorted = sorted.peekable();
    std::iter::from_fn(move || {
        let mut record = sorted.next()?;
        while let (Ok(last), Some(Ok(next))) = (&record, sorted.peek()) {
            if last.order(next) != Ordering::Equal {
                break;
            }
            record = sorted.next()?;
        }
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Cursor, put_bytes, put_number, whole};
    use crate::{Entry, test_rows};
    use proptest::prelude::*;

    /// A key and the time of its insertion, which does not count for the order.
    #[derive(Debug, Clone, PartialEq)]
    struct Stamped(String, u64);

    impl Record for Stamped {
        fn encode(&self, out: &mut Vec<u8>) {
            put_bytes(out, self.0.as_bytes());
            put_number(out, self.1);
        }

        fn decode(bytes: &[u8]) -> Result<Self> {
            whole("stamped", bytes, |cursor: &mut Cursor<'_>| Ok(Self(cursor.text()?.to_owned(), cursor.number()?)))
        }

        fn order(&self, other: &Self) -> Ordering {
            self.0.cmp(&other.0)
        }

        fn memory_bytes(&self) -> usize {
            1
        }
    }

    fn check(keys: &[u16], memory_bytes: usize) {
        let spool = tempfile::tempdir().unwrap();
        let mut expected: Vec<Stamped> = keys.iter().zip(0..).map(|(key, i)| Stamped(format!("{key:x}"), i)).collect();
        let mut sorter = Sorter::new(spool.path(), memory_bytes);
        expected.iter().for_each(|record| sorter.push(record.clone()).unwrap());
        let sorted = sorter.finish().unwrap();
        assert_eq!(sorted.total(), keys.len() as u64);
        let sorted: Vec<Stamped> = sorted.map(Result::unwrap).collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(sorted, expected);
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "spills have no names");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sorts_as_a_stable_sort_in_memory(keys in prop::collection::vec(0u16..40, 0..600), memory in 1usize..300) {
            check(&keys, memory);
        }

        #[test]
        fn entries_come_back_whole(rows in prop::collection::vec(test_rows::any_entry(), 0..60), memory in 1usize..20_000) {
            let spool = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::<Entry>::new(spool.path(), memory);
            rows.iter().for_each(|row| sorter.push(row.clone()).unwrap());
            let mut expected = rows;
            expected.sort_by(|a, b| a.key.cmp(&b.key));
            prop_assert_eq!(sorter.finish().unwrap().map(Result::unwrap).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn many_runs_are_merged_in_several_passes() {
        let keys: Vec<u16> = (0..(MAX_FAN_IN * MAX_FAN_IN + 3 * MAX_FAN_IN + 5) as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u16)
            .collect();
        check(&keys, 1);
    }

    #[test]
    fn a_spool_that_is_gone_is_named() {
        let spool = tempfile::tempdir().unwrap();
        let gone = spool.path().join("gone");
        let mut sorter = Sorter::new(&gone, 1);
        let error = sorter.push(Stamped("a".into(), 0)).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[test]
    fn nothing_pushed_is_nothing_sorted() {
        check(&[], 1);
    }
}
