//! Writes manifests: parts as rows come in, the index last.
//!
//! Every file is create-only and no existing file is ever changed. A crash leaves parts that no index names: the next run
//! finds them, proves them and uses them, or pruning removes them. A part is not written when the last committed index
//! names it with the same size; one that exists otherwise is read back and proven (rule 17).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::entry::Entry;
use crate::error::{Class, Error, Result};
use crate::format::{Cutting, End, PartDigest, Run, RunDigest, encode_part, put_row};
use crate::index::{Index, IndexMeta, PartRef};
use crate::key::ObjectKey;
use crate::reader::{blocking, index_name, part_name, read_part};
use crate::state::StateStore;

/// Finished parts that are encoded and stored while rows of the next come in: at most so many are in memory beside it.
pub const PARTS_IN_FLIGHT: usize = 3;
/// Rows of all of them together, those of the longest part: parts of the usual length go side by side, and a few of the
/// longest do not add up.
pub const ROWS_IN_FLIGHT: usize = Cutting::V2.max_rows();

const STREAM: &str = "the rows of a manifest";

/// What the index says of a part with these rows in these runs; `None` for no rows.
pub(crate) fn part_ref(runs: Vec<Run>, file_size_bytes: u64, rows: &[Entry]) -> Option<PartRef> {
    let (first, last) = (rows.first()?, rows.last()?);
    Some(PartRef {
        digest: PartDigest::of_runs(&runs),
        rows: rows.len() as u64,
        hashed: rows.iter().filter(|row| row.hash.is_some()).count() as u64,
        object_bytes: rows.iter().fold(0, |sum, row| row.size_bytes().saturating_add(sum)),
        file_size_bytes,
        first_key: detached(&first.key),
        last_key: detached(&last.key),
        runs,
    })
}

/// Where a run ends among the rows of its part, and among their canonical bytes.
#[derive(Debug, Clone, Copy)]
struct RunEnd {
    row: usize,
    byte: usize,
}

/// The runs of a part.
fn runs_of(canonical: &[u8], ends: &[RunEnd]) -> Vec<Run> {
    let mut start = RunEnd { row: 0, byte: 0 };
    let run = |end: &RunEnd| {
        let digest = RunDigest::of_rows(&canonical[start.byte..end.byte]);
        let rows = u32::try_from(end.row - start.row).unwrap_or(u32::MAX);
        start = *end;
        Run { digest, rows }
    };
    ends.iter().map(run).collect()
}

/// A copy of the key that keeps no other key's buffer alive.
pub(crate) fn detached(key: &ObjectKey) -> ObjectKey {
    ObjectKey::from(key.as_bytes().to_vec())
}

/// Writes one manifest into a state store. Dropping it before [`ManifestWriter::finish`] leaves no manifest.
#[derive(Debug)]
pub struct ManifestWriter {
    place: Place,
    cutting: Cutting,
    rows: Vec<Entry>,
    canonical: Vec<u8>,
    /// Ends of the runs so far; the part's end is the last one's.
    run_ends: Vec<RunEnd>,
    scratch: Vec<u8>,
    last_key: Option<ObjectKey>,
    /// A whole part that was passed and does not end at a boundary: it stays as it is only if nothing follows.
    open: Option<PartRef>,
    parts: Vec<Option<PartRef>>,
    storing: JoinSet<Result<(usize, PartRef)>>,
    /// Rows of the parts that are being stored.
    rows_storing: usize,
}

#[derive(Debug, Clone)]
struct Place {
    store: Arc<dyn StateStore>,
    folder: Arc<str>,
    /// File sizes of the parts of the last committed index.
    trusted: Arc<HashMap<PartDigest, u64>>,
}

impl ManifestWriter {
    /// A writer below `folder` (empty, or ending with `/`). `trusted` is the last committed index there: only its parts
    /// are taken to exist without a look.
    pub fn new(store: Arc<dyn StateStore>, folder: &str, trusted: Option<&Index>) -> Self {
        Self::with_cutting(store, folder, trusted, Cutting::V2)
    }

    pub(crate) fn with_cutting(
        store: Arc<dyn StateStore>,
        folder: &str,
        trusted: Option<&Index>,
        cutting: Cutting,
    ) -> Self {
        let parts = trusted.map(|index| index.parts.as_slice()).unwrap_or_default();
        let trusted = parts.iter().map(|part| (part.digest, part.file_size_bytes)).collect::<HashMap<_, _>>();
        Self {
            place: Place { store, folder: folder.into(), trusted: trusted.into() },
            cutting,
            rows: Vec::new(),
            canonical: Vec::new(),
            run_ends: Vec::new(),
            scratch: Vec::new(),
            last_key: None,
            open: None,
            parts: Vec::new(),
            storing: JoinSet::new(),
            rows_storing: 0,
        }
    }

    /// Adds a row; keys ascend strictly, else [`Error::OutOfOrder`]. Waits while [`PARTS_IN_FLIGHT`] parts, or parts of
    /// [`ROWS_IN_FLIGHT`] rows, are being stored. After an error the writer is of no more use.
    pub async fn push(&mut self, row: Entry) -> Result<()> {
        self.check_order(&row.key)?;
        self.reopen().await?;
        self.add(row).await
    }

    /// Whether the rows so far end where a part ends, so that [`ManifestWriter::pass`] can take a part as it is.
    pub fn at_boundary(&self) -> bool {
        self.rows.is_empty() && self.open.is_none()
    }

    /// Adds all rows of a part of an earlier manifest below the same folder. At a boundary the part is named as it is and
    /// not read (unless no trusted index names it: then it is proven first); elsewhere its rows are read and pushed. The
    /// result is the same: the parts that pushing every row would have made.
    pub async fn pass(&mut self, part: &PartRef) -> Result<()> {
        self.check_order(&part.first_key)?;
        self.reopen().await?;
        let trusted = self.place.trusts(part);
        if self.at_boundary() {
            if !trusted {
                read_part(self.place.store.as_ref(), &self.place.folder, part).await?;
            }
            self.last_key = Some(part.last_key.clone());
            match self.ends(part) {
                true => self.parts.push(Some(part.clone())),
                false => self.open = Some(part.clone()),
            }
            return Ok(());
        }
        for row in read_part(self.place.store.as_ref(), &self.place.folder, part).await? {
            self.add(row).await?;
        }
        Ok(())
    }

    /// Stores what is left and, when every part is there, the index.
    pub async fn finish(mut self, meta: IndexMeta) -> Result<Index> {
        self.cut().await?;
        self.parts.extend(self.open.take().map(Some));
        while !self.storing.is_empty() {
            self.stored().await?;
        }
        let index = Index::new(meta, self.parts.into_iter().flatten().collect());
        self.place.create_index(&index).await?;
        Ok(index)
    }

    fn check_order(&self, key: &ObjectKey) -> Result<()> {
        match &self.last_key {
            Some(last) if last >= key => {
                Err(Error::OutOfOrder { what: STREAM.into(), key: key.clone(), previous: last.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether a part that starts at a boundary would end there whatever follows. One that was cut by a limit and not by
    /// its last key cannot be told from one that simply was the last, so it counts as open.
    fn ends(&self, part: &PartRef) -> bool {
        let rows = usize::try_from(part.rows).unwrap_or(usize::MAX);
        self.cutting.ends(&part.last_key, rows, 0)
    }

    /// Takes an open part back to rows, because more follow.
    async fn reopen(&mut self) -> Result<()> {
        if let Some(part) = self.open.take() {
            for row in read_part(self.place.store.as_ref(), &self.place.folder, &part).await? {
                self.add(row).await?;
            }
        }
        Ok(())
    }

    async fn add(&mut self, row: Entry) -> Result<()> {
        put_row(&mut self.canonical, &mut self.scratch, &row);
        let end = self.cutting.end(&row.key, self.rows.len() + 1, self.canonical.len());
        self.last_key = Some(row.key.clone());
        self.rows.push(row);
        match end {
            Some(End::Part) => self.cut().await,
            Some(End::Run) => {
                self.end_run();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn end_run(&mut self) {
        self.run_ends.push(RunEnd { row: self.rows.len(), byte: self.canonical.len() });
    }

    /// Ends the part and starts to store it.
    async fn cut(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        if self.run_ends.last().is_none_or(|end| end.row < self.rows.len()) {
            self.end_run();
        }
        let rows = self.rows.len();
        while !self.storing.is_empty()
            && (self.storing.len() >= PARTS_IN_FLIGHT || self.rows_storing + rows > ROWS_IN_FLIGHT)
        {
            self.stored().await?;
        }
        self.rows_storing += rows;
        let (rows, canonical) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.canonical));
        let (place, slot, ends) = (self.place.clone(), self.parts.len(), std::mem::take(&mut self.run_ends));
        self.parts.push(None);
        self.storing.spawn(async move { Ok((slot, place.store_part(rows, canonical, ends).await?)) });
        Ok(())
    }

    async fn stored(&mut self) -> Result<()> {
        match self.storing.join_next().await {
            Some(Ok(stored)) => {
                let (slot, part) = stored?;
                self.rows_storing = self.rows_storing.saturating_sub(usize::try_from(part.rows).unwrap_or(usize::MAX));
                self.parts[slot] = Some(part);
                Ok(())
            }
            Some(Err(error)) => {
                let reason = error.to_string();
                Err(self.place.failed("create", "a manifest part".into(), reason, Class::Permanent))
            }
            None => Ok(()),
        }
    }
}

impl Place {
    fn trusts(&self, part: &PartRef) -> bool {
        self.trusted.get(&part.digest) == Some(&part.file_size_bytes)
    }

    fn failed(&self, operation: &'static str, name: String, reason: String, class: Class) -> Error {
        Error::State { operation, name, place: self.store.place(), reason, class, permission: false }
    }

    async fn store_part(&self, rows: Vec<Entry>, canonical: Vec<u8>, ends: Vec<RunEnd>) -> Result<PartRef> {
        let encoded = blocking("to write".into(), move || {
            let runs = runs_of(&canonical, &ends);
            drop(canonical);
            let file = encode_part(&rows)?;
            let part = part_ref(runs, file.len() as u64, &rows);
            Ok(part.map(|part| (part, file)))
        });
        let Some((mut part, file)) = encoded.await? else {
            return Err(self.failed("create", "a manifest part".into(), "it has no rows".into(), Class::Permanent));
        };
        let name = part_name(&self.folder, &part.digest);
        if self.trusts(&part) || self.store.create(&name, file).await?.is_some() {
            return Ok(part);
        }
        // Somebody wrote it before us: an earlier run that was killed, or this one in a call whose answer was lost. Its
        // bytes may be another encoding of the rows, so its length is what the index has to name.
        let Some((file, _)) = self.store.get(&name).await? else {
            return Err(self.failed("create", name, "it exists, and is gone when read".into(), Class::Retryable));
        };
        part.file_size_bytes = file.len() as u64;
        let stored = part.clone();
        blocking(name, move || crate::format::decode_part(&stored, file)).await?;
        Ok(part)
    }

    async fn create_index(&self, index: &Index) -> Result<()> {
        let (name, bytes) = (index_name(&self.folder, &index.id), index.to_bytes()?);
        if self.store.create(&name, bytes.clone()).await?.is_some() {
            return Ok(());
        }
        match self.store.get(&name).await? {
            Some((found, _)) if found == bytes => Ok(()),
            _ => Err(self.failed("create", name, "another index has that name".into(), Class::Conflict)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;
    use crate::test_store::{MemoryStore, TINY, meta, write};
    use bytes::Bytes;
    use futures::TryStreamExt as _;

    #[tokio::test]
    async fn rule_17_parts_of_the_trusted_index_are_not_written_again() {
        let store = MemoryStore::new();
        let rows = test_rows::numbered(300);
        let first = write(&store, "", rows.clone(), None).await;
        let creates = store.creates();
        let again = write(&store, "", rows.clone(), Some(first.index())).await;
        assert_eq!(again.parts(), first.parts());
        assert_eq!(store.creates() - creates, 1, "only the index");

        // Without trust, or with another size, every part is tried, found and proven.
        let mut doubtful = first.index().clone();
        doubtful.parts.iter_mut().for_each(|part| part.file_size_bytes += 1);
        for trusted in [None, Some(&doubtful)] {
            let (creates, gets) = (store.creates(), store.gets());
            assert_eq!(write(&store, "", rows.clone(), trusted).await.parts(), first.parts());
            assert_eq!(store.creates() - creates, 1 + first.parts().len() as u64);
            assert!(store.gets() - gets >= first.parts().len() as u64);
        }
    }

    #[tokio::test]
    async fn rule_17_a_part_left_by_a_crash_is_proven_before_it_is_named() {
        let rows = test_rows::numbered(300);
        let good = write(&MemoryStore::new(), "", rows.clone(), None).await;
        let name = part_name("", &good.parts()[0].digest);
        let store = MemoryStore::new();
        store.put(&name, Bytes::from_static(b"cut off"));
        let mut writer = ManifestWriter::with_cutting(store.clone(), "", None, TINY);
        let mut result = Ok(());
        for row in rows {
            result = writer.push(row).await;
            if result.is_err() {
                break;
            }
        }
        let result = match result {
            Ok(()) => writer.finish(meta()).await.map(|_| ()),
            error => error,
        };
        assert!(matches!(result, Err(Error::Damaged { .. })), "{result:?}");
        assert!(!store.names().iter().any(|name| name.starts_with("manifests/")), "no index names it");
        assert_eq!(store.bytes(&name), Bytes::from_static(b"cut off"), "nothing is overwritten");
    }

    #[tokio::test]
    async fn keys_that_do_not_ascend_are_refused() {
        for second in ["b", "a", ""] {
            let mut writer = ManifestWriter::new(MemoryStore::new(), "", None);
            writer.push(test_rows::plain("b", 0)).await.unwrap();
            let error = writer.push(test_rows::plain(second, 0)).await.unwrap_err();
            assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn an_empty_manifest_is_a_manifest() {
        let store = MemoryStore::new();
        let manifest = write(&store, "", Vec::new(), None).await;
        assert_eq!(manifest.index().totals.entries, 0);
        assert!(manifest.entries().try_concat().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn case_48_an_index_whose_answer_was_lost_is_recognised() {
        let store = MemoryStore::new();
        let first = write(&store, "", test_rows::numbered(3), None).await;
        let again = write(&store, "", test_rows::numbered(3), None).await;
        assert_eq!(first.index(), again.index());

        let mut writer = ManifestWriter::with_cutting(store, "", None, TINY);
        for row in test_rows::numbered(3) {
            writer.push(row).await.unwrap();
        }
        let other = IndexMeta { root: "elsewhere".into(), ..meta() };
        let error = writer.finish(other).await.unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{error}");
    }

    #[tokio::test]
    async fn passing_parts_equals_pushing_rows() {
        let store = MemoryStore::new();
        let rows = test_rows::numbered(300);
        let base = write(&store, "", rows.clone(), None).await;
        let last = base.parts().last().unwrap();
        assert!(!TINY.ends(&last.last_key, 0, 0), "the last part is open in this test");
        for (before, after) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut expected = rows.clone();
            before.then(|| expected.insert(0, test_rows::plain("a", 0)));
            after.then(|| expected.push(test_rows::plain("z", 0)));
            let scratch = write(&MemoryStore::new(), "", expected, None).await;

            let mut writer = ManifestWriter::with_cutting(store.clone(), "", Some(base.index()), TINY);
            if before {
                writer.push(test_rows::plain("a", 0)).await.unwrap();
            }
            for part in base.parts() {
                writer.pass(part).await.unwrap();
            }
            if after {
                writer.push(test_rows::plain("z", 0)).await.unwrap();
            }
            let index = writer.finish(meta()).await.unwrap();
            assert_eq!(index.parts, scratch.index().parts, "{before} {after}");
        }
    }

    #[tokio::test]
    async fn a_part_that_no_trusted_index_names_is_proven_when_passed() {
        let store = MemoryStore::new();
        let base = write(&store, "", test_rows::numbered(100), None).await;
        store.remove(&part_name("", &base.parts()[0].digest));
        let mut writer = ManifestWriter::with_cutting(store, "", None, TINY);
        assert!(matches!(writer.pass(&base.parts()[0]).await, Err(Error::Missing { .. })));
    }

    #[tokio::test]
    async fn one_new_key_among_200_000_changes_at_most_two_parts() {
        let store = MemoryStore::new();
        let rows = test_rows::numbered(200_000);
        let base = write_v2(&store, rows.clone()).await;
        assert!((12..=40).contains(&base.parts.len()), "{}", base.parts.len());
        let known: std::collections::HashSet<PartDigest> = base.parts.iter().map(|part| part.digest).collect();
        for at in [77_777, 199_999] {
            let mut rows = rows.clone();
            rows.insert(at, test_rows::plain(format!("t/{:08}", (at as i64) * 10 - 5), 0));
            let index = write_v2(&store, rows).await;
            let fresh = index.parts.iter().filter(|part| !known.contains(&part.digest)).count();
            assert!((1..=2).contains(&fresh), "{fresh} parts changed at {at}");
        }
    }

    async fn write_v2(store: &Arc<MemoryStore>, rows: Vec<Entry>) -> Index {
        let mut writer = ManifestWriter::new(store.clone(), "", None);
        for row in rows {
            writer.push(row).await.unwrap();
        }
        writer.finish(meta()).await.unwrap()
    }
}
