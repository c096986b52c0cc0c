//! Reads manifests: an index first, then its parts, each proven by the digest of its rows before a row is given out.
//!
//! Reading never writes. A part that is missing, cut off or altered is an error that names it; no row of it is returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::{PartDigest, decode_part, decode_runs};
use crate::index::{Index, ManifestId, PartRef};
use crate::state::StateStore;

/// Parts that [`Manifest::entries`] reads ahead of its caller: so many are in memory at once, and one more with the caller.
pub const PREFETCH_PARTS: usize = 4;

const PART: &str = "manifest part";
const INDEX: &str = "manifest index";

/// The name of an index in a state store, below `folder` (empty, or ending with `/`).
pub fn index_name(folder: &str, id: &ManifestId) -> String {
    format!("{folder}manifests/{id}.json")
}

/// The name of a part in a state store, below `folder` (empty, or ending with `/`).
pub fn part_name(folder: &str, digest: &PartDigest) -> String {
    format!("{folder}parts/{digest}")
}

/// A manifest in a state store. Cheap to clone; its clones count their reads together.
#[derive(Debug, Clone)]
pub struct Manifest {
    store: Arc<dyn StateStore>,
    folder: Arc<str>,
    index: Arc<Index>,
    parts_read: Arc<AtomicU64>,
}

impl Manifest {
    /// The manifest `id` below `folder` (empty, or ending with `/`). Reads its index, none of its parts.
    pub async fn open(store: Arc<dyn StateStore>, folder: &str, id: &ManifestId) -> Result<Self> {
        let name = index_name(folder, id);
        let Some((bytes, _)) = store.get(&name).await? else {
            return Err(Error::Missing { what: INDEX, name });
        };
        let index = Index::from_bytes(&name, &bytes)?;
        if index.id != *id {
            return Err(Error::Damaged { what: INDEX, name, reason: format!("it is that of {}", index.id) });
        }
        Ok(Self::from_index(store, folder, index))
    }

    /// The manifest of an index that was read or written already.
    pub fn from_index(store: Arc<dyn StateStore>, folder: &str, index: Index) -> Self {
        Self { store, folder: folder.into(), index: index.into(), parts_read: Arc::default() }
    }

    /// The newest manifest below `folder`: for a folder that holds a manifest and nothing else (`manifest create`).
    pub async fn find_single(store: Arc<dyn StateStore>, folder: &str) -> Result<Self> {
        let prefix = format!("{folder}manifests/");
        let newest = store.list(&prefix).await?.into_iter().filter_map(|item| {
            let id = item.name.strip_prefix(&prefix)?.strip_suffix(".json")?;
            ManifestId::try_from(id.to_owned()).ok()
        });
        match newest.max() {
            Some(id) => Self::open(store, folder, &id).await,
            None => Err(Error::Missing { what: INDEX, name: format!("{prefix}*.json in {}", store.place()) }),
        }
    }

    /// What the manifest says of itself.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Its parts in order of their keys.
    pub fn parts(&self) -> &[PartRef] {
        &self.index.parts
    }

    /// How many parts were read through this value and its clones.
    pub fn parts_read(&self) -> u64 {
        self.parts_read.load(Ordering::Relaxed)
    }

    /// The rows of one of its parts.
    ///
    /// The keys share one buffer: keep a key for long only as a copy of its bytes.
    pub async fn read_part(&self, part: &PartRef) -> Result<Vec<Entry>> {
        self.parts_read.fetch_add(1, Ordering::Relaxed);
        read_part(self.store.as_ref(), &self.folder, part).await
    }

    /// The rows of some runs of one of its parts: `wanted` are their numbers from 0, which ascend. Their digests are checked,
    /// and nothing else of the part is.
    ///
    /// The keys share one buffer: keep a key for long only as a copy of its bytes.
    pub async fn read_runs(&self, part: &PartRef, wanted: Vec<usize>) -> Result<Vec<Entry>> {
        if wanted.len() == part.runs.len() {
            return self.read_part(part).await;
        }
        self.parts_read.fetch_add(1, Ordering::Relaxed);
        let (name, file) = fetch(self.store.as_ref(), &self.folder, part).await?;
        let part = part.clone();
        blocking(name, move || decode_runs(&part, file, &wanted)).await
    }

    /// All rows in order, a part a batch, read [`PREFETCH_PARTS`] ahead. Ends after an error.
    pub fn entries(&self) -> BoxStream<'static, Result<Vec<Entry>>> {
        self.entries_of_runs(PREFETCH_PARTS, |part| (0..part.runs.len()).collect())
    }

    /// As [`Manifest::entries`], `prefetch` parts ahead, and only of the runs that `wanted` names of each part: their
    /// numbers from 0, which ascend. A part of which none is wanted is not read.
    pub(crate) fn entries_of_runs(
        &self,
        prefetch: usize,
        wanted: impl Fn(&PartRef) -> Vec<usize>,
    ) -> BoxStream<'static, Result<Vec<Entry>>> {
        let parts = self.parts().iter().map(|part| (part.clone(), wanted(part)));
        let parts: Vec<_> = parts.filter(|(_, wanted)| !wanted.is_empty()).collect();
        let manifest = self.clone();
        let reads = stream::iter(parts).map(move |(part, wanted)| {
            let manifest = manifest.clone();
            async move { manifest.read_runs(&part, wanted).await }
        });
        let mut failed = false;
        let whole = reads.buffered(prefetch).take_while(move |batch| {
            let before = failed;
            failed = batch.is_err();
            std::future::ready(!before)
        });
        whole.boxed()
    }
}

/// The file of a part below `folder`, of the length that its index names.
async fn fetch(store: &dyn StateStore, folder: &str, part: &PartRef) -> Result<(String, Bytes)> {
    let name = part_name(folder, &part.digest);
    let Some(file) = store.read(&name).await? else {
        return Err(Error::Missing { what: PART, name });
    };
    if file.len() as u64 != part.file_size_bytes {
        let reason = format!("it has {} bytes, its index says {}", file.len(), part.file_size_bytes);
        return Err(Error::Damaged { what: PART, name, reason });
    }
    Ok((name, file))
}

/// Reads and proves one part below `folder`.
pub(crate) async fn read_part(store: &dyn StateStore, folder: &str, part: &PartRef) -> Result<Vec<Entry>> {
    let (name, file) = fetch(store, folder, part).await?;
    let part = part.clone();
    blocking(name, move || {
        let rows = decode_part(&part, file)?;
        match contradiction(&rows, &part) {
            Some(reason) => Err(Error::Damaged { what: PART, name: part.digest.to_string(), reason }),
            None => Ok(rows),
        }
    })
    .await
}

/// Runs Parquet work on a blocking thread. A panic in it is damage: the decoder was given bytes that it could not stand.
pub(crate) async fn blocking<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Damaged { what: PART, name, reason: error.to_string() }))
}

/// What the rows of a part deny of what its index says, if anything.
fn contradiction(rows: &[Entry], part: &PartRef) -> Option<String> {
    if rows.first().map(|row| &row.key) != Some(&part.first_key)
        || rows.last().map(|row| &row.key) != Some(&part.last_key)
    {
        return Some("its first and last key are not those of the index".into());
    }
    if let Some(pair) = rows.windows(2).find(|pair| pair[0].key >= pair[1].key) {
        return Some(format!("{} comes after {}", pair[1].key, pair[0].key));
    }
    let counted = crate::writer::part_ref(part.runs.clone(), part.file_size_bytes, rows)?;
    (counted != *part).then(|| "its counts are not those of the index".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;
    use crate::test_store::{MemoryStore, write};
    use futures::TryStreamExt as _;

    async fn three_parts() -> (Arc<MemoryStore>, Manifest, Vec<Entry>) {
        let store = MemoryStore::new();
        let rows = test_rows::numbered(300);
        let manifest = write(&store, "job/", rows.clone(), None).await;
        assert!(manifest.parts().len() > 3);
        (store, manifest, rows)
    }

    #[tokio::test]
    async fn rows_come_back_in_order() {
        let (store, manifest, rows) = three_parts().await;
        let opened = Manifest::open(store, "job/", &manifest.index().id).await.unwrap();
        assert_eq!(opened.index(), manifest.index());
        assert_eq!(opened.entries().try_concat().await.unwrap(), rows);
        assert_eq!(opened.parts_read(), opened.parts().len() as u64);
    }

    #[tokio::test]
    async fn rule_17_a_bad_part_is_named_and_ends_the_stream() {
        let (store, manifest, _) = three_parts().await;
        let (bad, other) = (&manifest.parts()[1], &manifest.parts()[2]);
        let name = part_name("job/", &bad.digest);
        let good = store.bytes(&name);
        let mut flipped = good.to_vec();
        flipped[good.len() / 2] ^= 1;
        let table = [
            good.slice(..good.len() - 1),
            flipped.into(),
            store.bytes(&part_name("job/", &other.digest)),
            Bytes::new(),
        ];
        for bytes in table {
            store.put(&name, bytes);
            let read: Vec<_> = manifest.entries().collect().await;
            assert_eq!(read.len(), 2);
            assert!(read[0].is_ok());
            let error = read[1].as_ref().unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains(&bad.digest.to_string()));
        }
        store.remove(&name);
        let error = manifest.read_part(bad).await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }

    #[tokio::test]
    async fn rule_17_an_index_that_lies_about_a_part_is_found_out() {
        let (_, manifest, _) = three_parts().await;
        let table: [fn(&mut PartRef); 5] = [
            |part| part.rows += 1,
            |part| part.hashed -= 1,
            |part| part.object_bytes += 1,
            |part| part.first_key = "a".into(),
            |part| part.last_key = "z".into(),
        ];
        for change in table {
            let mut part = manifest.parts()[0].clone();
            change(&mut part);
            assert!(matches!(manifest.read_part(&part).await, Err(Error::Damaged { .. })));
        }
    }

    #[tokio::test]
    async fn an_index_under_another_name_is_refused() {
        let (store, manifest, _) = three_parts().await;
        let id = ManifestId::try_from("other".to_owned()).unwrap();
        store.put(&index_name("job/", &id), store.bytes(&index_name("job/", &manifest.index().id)));
        assert!(matches!(Manifest::open(store.clone(), "job/", &id).await, Err(Error::Damaged { .. })));
        let none = ManifestId::try_from("none".to_owned()).unwrap();
        assert!(matches!(Manifest::open(store, "job/", &none).await, Err(Error::Missing { .. })));
    }

    #[tokio::test]
    async fn a_folder_of_one_manifest_needs_no_name() {
        let store = MemoryStore::new();
        assert!(matches!(Manifest::find_single(store.clone(), "").await, Err(Error::Missing { .. })));
        let manifest = write(&store, "", test_rows::numbered(10), None).await;
        store.put("manifests/readme.txt", Bytes::new());
        let found = Manifest::find_single(store, "").await.unwrap();
        assert_eq!(found.index(), manifest.index());
    }
}
