//! Commit's merge: an earlier manifest and a sorted stream of changes make the next one.
//!
//! Parts that no change touches are passed on by name, without being read; the result is the manifest that writing all of
//! its rows would have made, to the digest. What a crash leaves is what the writer leaves: parts without an index.

use std::cmp::Ordering;

use crate::codec::{self, Malformed};
use crate::diff::Keyed;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::index::PartRef;
use crate::key::ObjectKey;
use crate::reader::Manifest;
use crate::sort::Record;
use crate::writer::ManifestWriter;

/// Changes that are pulled from the iterator at a time.
const BATCH_DELTAS: usize = 1_024;

/// A change to one key of a manifest. Sortable with [`crate::Sorter`]; [`crate::sort::keep_last`] then leaves the last
/// change of each key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are puts: boxing would cost each an allocation")]
pub enum Delta {
    /// The key has this row now, whatever it had.
    Put(Entry),
    /// The key has no row now; it need not have had one.
    Remove(ObjectKey),
}

impl Keyed for Delta {
    fn key(&self) -> &ObjectKey {
        match self {
            Delta::Put(entry) => &entry.key,
            Delta::Remove(key) => key,
        }
    }
}

impl Record for Delta {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Delta::Put(entry) => {
                out.push(0);
                codec::put_entry(out, entry);
            }
            Delta::Remove(key) => {
                out.push(1);
                codec::put_bytes(out, key.as_bytes());
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        codec::whole("change", bytes, |cursor| match cursor.byte()? {
            0 => codec::entry(cursor).map(Delta::Put),
            1 => Ok(Delta::Remove(ObjectKey::from(cursor.bytes()?.to_vec()))),
            _ => Err(Malformed("an unknown kind of change")),
        })
    }

    fn order(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Delta::Put(entry) => entry.memory_bytes(),
            Delta::Remove(key) => size_of::<Self>() + key.len(),
        }
    }
}

/// Changes pulled in batches on a blocking thread: the iterator may read spilled files.
struct Deltas<I> {
    rest: Option<I>,
    batch: std::vec::IntoIter<Delta>,
    last: Option<ObjectKey>,
}

impl<I: Iterator<Item = Result<Delta>> + Send + 'static> Deltas<I> {
    async fn fill(&mut self) -> Result<()> {
        if !self.batch.as_slice().is_empty() {
            return Ok(());
        }
        let Some(mut iterator) = self.rest.take() else {
            return Ok(());
        };
        let pulled = tokio::task::spawn_blocking(move || {
            let batch = iterator.by_ref().take(BATCH_DELTAS).collect::<Result<Vec<Delta>>>();
            batch.map(|batch| (iterator, batch))
        });
        let (iterator, batch) = pulled.await.map_err(|error| Error::Upstream(Box::new(error)))??;
        self.rest = (batch.len() == BATCH_DELTAS).then_some(iterator);
        self.batch = batch.into_iter();
        Ok(())
    }

    /// The key of the next change, if one is left.
    async fn key(&mut self) -> Result<Option<&ObjectKey>> {
        self.fill().await?;
        Ok(self.batch.as_slice().first().map(Keyed::key))
    }

    async fn take(&mut self) -> Result<Option<Delta>> {
        self.fill().await?;
        let Some(delta) = self.batch.next() else {
            return Ok(None);
        };
        let key = delta.key().clone();
        if let Some(previous) = self.last.take()
            && previous >= key
        {
            return Err(Error::OutOfOrder { what: "the changes to a manifest".into(), key, previous });
        }
        self.last = Some(key);
        Ok(Some(delta))
    }
}

/// Pushes the rows of `base` with the changes laid over them into `writer`, which the caller finishes.
///
/// `base` lies in the writer's store below the writer's folder. The changes ascend strictly by key, else
/// [`Error::OutOfOrder`]; they are pulled on blocking threads, some
/// thousand at a time.
pub async fn splice<I>(base: Option<&Manifest>, deltas: I, writer: &mut ManifestWriter) -> Result<()>
where
    I: Iterator<Item = Result<Delta>> + Send + 'static,
{
    let mut deltas = Deltas { rest: Some(deltas), batch: Vec::new().into_iter(), last: None };
    if let Some(base) = base {
        for part in base.parts() {
            splice_part(base, part, &mut deltas, writer).await?;
        }
    }
    while let Some(delta) = deltas.take().await? {
        apply(delta, writer).await?;
    }
    Ok(())
}

async fn splice_part<I: Iterator<Item = Result<Delta>> + Send + 'static>(
    base: &Manifest,
    part: &PartRef,
    deltas: &mut Deltas<I>,
    writer: &mut ManifestWriter,
) -> Result<()> {
    while deltas.key().await?.is_some_and(|key| *key < part.first_key) {
        if let Some(delta) = deltas.take().await? {
            apply(delta, writer).await?;
        }
    }
    if deltas.key().await?.is_none_or(|key| *key > part.last_key) && writer.at_boundary() {
        return writer.pass(part).await;
    }
    for row in base.read_part(part).await? {
        let mut replaced = false;
        while let Some(order) = deltas.key().await?.map(|key| key.cmp(&row.key)).filter(|order| order.is_le()) {
            replaced |= order == Ordering::Equal;
            if let Some(delta) = deltas.take().await? {
                apply(delta, writer).await?;
            }
        }
        if !replaced {
            writer.push(row).await?;
        }
    }
    Ok(())
}

async fn apply(delta: Delta, writer: &mut ManifestWriter) -> Result<()> {
    match delta {
        Delta::Put(entry) => writer.push(entry).await,
        Delta::Remove(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::format::Cutting;
    use crate::index::Index;
    use crate::sort::{Sorter, keep_last};
    use crate::test_rows;
    use crate::test_store::{MemoryStore, TINY, meta, write, write_cut};
    use proptest::prelude::*;

    async fn check(rows: Vec<Entry>, deltas: BTreeMap<ObjectKey, Delta>) {
        check_cut(TINY, rows, deltas).await;
    }

    async fn check_cut(cutting: Cutting, rows: Vec<Entry>, deltas: BTreeMap<ObjectKey, Delta>) -> Index {
        let store = MemoryStore::new();
        let base = write_cut(cutting, &store, "j/", rows.clone(), None).await;
        let mut expected: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        for delta in deltas.values().cloned() {
            match delta {
                Delta::Put(row) => _ = expected.insert(row.key.clone(), row),
                Delta::Remove(key) => _ = expected.remove(&key),
            }
        }
        let scratch = expected.into_values().collect();
        let scratch = write_cut(cutting, &MemoryStore::new(), "j/", scratch, None).await;
        let mut writer = ManifestWriter::with_cutting(store.clone(), "j/", Some(base.index()), cutting);
        splice(Some(&base), deltas.into_values().map(Ok), &mut writer).await.unwrap();
        let index = writer.finish(meta()).await.unwrap();
        assert_eq!(index.parts, scratch.index().parts);
        assert_eq!(index.digest(), scratch.index().digest());
        index
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn splicing_equals_writing_from_scratch(
            count in 0u64..250,
            changes in prop::collection::vec((0u64..2_600, 0u8..3, 0u64..3), 0..20),
        ) {
            let deltas = changes.into_iter().map(|(number, what, salt)| {
                // Tens are keys of the base; others stand between, before and after them.
                let number = if salt == 0 { number / 10 * 10 } else { number };
                let key = ObjectKey::from(format!("t/{number:08}"));
                let delta = match what {
                    0 => Delta::Remove(key.clone()),
                    _ => Delta::Put(test_rows::plain(key.clone(), salt)),
                };
                (key, delta)
            });
            block_on(check(test_rows::numbered(count), deltas.collect()));
        }

        #[test]
        fn splicing_arbitrary_rows_equals_writing_from_scratch(
            rows in test_rows::sorted_entries(80),
            puts in prop::collection::vec(test_rows::any_entry(), 0..10),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut deltas: BTreeMap<_, _> =
                puts.into_iter().map(|row| (row.key.clone(), Delta::Put(row))).collect();
            for at in removed.iter().filter(|_| !rows.is_empty()) {
                let key = rows[at.index(rows.len())].key.clone();
                deltas.insert(key.clone(), Delta::Remove(key));
            }
            block_on(check(rows, deltas));
        }
    }

    #[tokio::test]
    async fn parts_that_a_limit_ends_are_spliced_as_written_from_scratch() {
        // No key ends a part here; every tenth row does, or 64 KiB of rows.
        let cutting = Cutting::tiny(32, 10);
        let wide = |i: u64| {
            let mut row = test_rows::plain(format!("t/{:08}", i * 10), 0);
            row.attributes.insert("meta:wide".into(), "x".repeat(20_000));
            row
        };
        for (rows, parts) in [(test_rows::numbered(95), 10), ((0..20).map(wide).collect::<Vec<_>>(), 5)] {
            assert_eq!(check_cut(cutting, rows.clone(), BTreeMap::new()).await.parts.len(), parts);
            for at in ["a", "t/00000041", "t/00000050", "t/00000095", "z"] {
                for delta in [Delta::Put(test_rows::plain(at, 1)), Delta::Remove(at.into())] {
                    check_cut(cutting, rows.clone(), BTreeMap::from([(at.into(), delta)])).await;
                }
            }
        }
    }

    #[tokio::test]
    async fn untouched_parts_are_neither_read_nor_written() {
        let store = MemoryStore::new();
        let base = write(&store, "", test_rows::numbered(2_000), None).await;
        let deltas = [500u64, 1_500].map(|i| Ok(Delta::Put(test_rows::plain(format!("t/{:08}", i * 10), 7))));
        let (gets, creates) = (store.gets(), store.creates());
        let mut writer = ManifestWriter::with_cutting(store.clone(), "", Some(base.index()), TINY);
        splice(Some(&base), deltas.into_iter(), &mut writer).await.unwrap();
        let index = writer.finish(meta()).await.unwrap();
        assert_eq!(index.totals.entries, 2_000);
        assert_eq!((store.gets() - gets, base.parts_read()), (2, 2));
        assert_eq!(store.creates() - creates, 3, "two parts and the index");
    }

    #[tokio::test]
    async fn changes_without_a_base_are_a_manifest_of_their_own() {
        let (store, other) = (MemoryStore::new(), MemoryStore::new());
        // More than a batch, so that several are pulled.
        let rows = test_rows::numbered(2 * BATCH_DELTAS as u64 + 3);
        let mut writer = ManifestWriter::with_cutting(store.clone(), "", None, TINY);
        splice(None, rows.clone().into_iter().map(|row| Ok(Delta::Put(row))), &mut writer).await.unwrap();
        let index = writer.finish(meta()).await.unwrap();
        assert_eq!(&index, write(&other, "", rows, None).await.index());
    }

    #[test]
    fn of_changes_in_any_order_the_last_of_each_key_counts() {
        let spool = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(spool.path(), 1_000);
        let mut expected = BTreeMap::new();
        for i in 0..200u64 {
            let key = ObjectKey::from(format!("{:02}", i * 37 % 50));
            let delta = match i % 3 {
                0 => Delta::Remove(key.clone()),
                _ => Delta::Put(test_rows::plain(key.clone(), i)),
            };
            sorter.push(delta.clone()).unwrap();
            expected.insert(key, delta);
        }
        let last: Vec<_> = keep_last(sorter.finish().unwrap()).map(Result::unwrap).collect();
        assert_eq!(last, expected.into_values().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn changes_out_of_order_or_failed_are_errors() {
        let store = MemoryStore::new();
        let keys = |names: [&str; 2]| names.map(|name| Ok(Delta::Remove(name.into())));
        for deltas in [keys(["b", "a"]), keys(["a", "a"])] {
            let mut writer = ManifestWriter::with_cutting(store.clone(), "", None, TINY);
            let error = splice(None, deltas.into_iter(), &mut writer).await.unwrap_err();
            assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");
        }
        let deltas = [Err(Error::Missing { what: "spill", name: "x".into() })];
        let mut writer = ManifestWriter::with_cutting(store.clone(), "", None, TINY);
        let error = splice(None, deltas.into_iter(), &mut writer).await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
}
