//! A store in which some folders stand elsewhere than their keys say: what is asked for below one folder is done below
//! another one.
//!
//! For programs that embed a copy and keep a table's files now in this folder, now in that: the keys, and with them manifests
//! and journals, stay the same. Folders trade places, so that every object has one key and no two have the same. Changes
//! nothing by itself; a crash leaves what the store below leaves.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use manifest::{ChunkSize, Fingerprint, Listed, ObjectKey};

use super::{
    Capabilities, CopySource, Folders, GetOptions, GetResult, HashedRange, Leftover, ListOptions, ObjectInfo, Origin,
    PartSpec, Payload, PutOptions, Result, Store, Sweep, Timestamp, UploadId, UploadedPart, Written,
};
use crate::list;
use crate::list::cover::Cover;

/// Pairs of folders by the first, with a slash at the end, none inside another.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The store below, with other names for some folders.
#[derive(Debug)]
pub struct Placed {
    inner: Arc<dyn Store>,
    capabilities: Capabilities,
    /// From a key to where it stands.
    there: Arc<Pairs>,
    /// And back.
    back: Arc<Pairs>,
}

impl Placed {
    /// What has a key below the first folder of a pair stands below the second. No folder may be inside another one of its
    /// side, and what stands below a second must have a key of its own: it is the first of another pair, or unused.
    pub fn new(inner: Arc<dyn Store>, pairs: &[(ObjectKey, ObjectKey)]) -> Self {
        let slashed = |key: &ObjectKey| [key.as_bytes(), b"/"].concat();
        let mut there: Pairs = pairs.iter().map(|(key, place)| (slashed(key), slashed(place))).collect();
        let mut back: Pairs = there.iter().map(|(key, place)| (place.clone(), key.clone())).collect();
        there.sort_unstable();
        back.sort_unstable();
        // Names that change places are in no order any more.
        let capabilities =
            Capabilities { ordered_list: false, start_after: false, levels: false, ..inner.capabilities().clone() };
        Self { inner, capabilities, there: Arc::new(there), back: Arc::new(back) }
    }

    /// What sweeps the store below, where it is told by keys where to.
    pub fn sweep(&self, below: Arc<dyn Sweep>) -> Arc<dyn Sweep> {
        Arc::new(PlacedSweep { below, there: self.there.clone() })
    }

    fn there(&self, key: &ObjectKey) -> ObjectKey {
        moved(&self.there, key)
    }
}

/// Where what a cover holds stands, too; `None` for the whole tree.
fn moved_cover(there: &Pairs, cover: &Cover) -> Option<Cover> {
    let inside = there.iter().filter(|(key, _)| cover.holds(key));
    let inside = inside.map(|(_, place)| ObjectKey::from(place.strip_suffix(b"/").unwrap_or(place).to_vec()));
    let folders = cover.folders();
    Cover::new(folders.iter().map(|folder| moved(there, folder)).chain(folders.iter().cloned()).chain(inside))
}

/// See [`Placed::sweep`].
#[derive(Debug)]
struct PlacedSweep {
    below: Arc<dyn Sweep>,
    there: Arc<Pairs>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Sweep for PlacedSweep {
    async fn leftovers(&self, min_age: Duration, within: Option<Arc<Folders>>) -> Result<Vec<Leftover>> {
        let there = |folder: &ObjectKey| moved(&self.there, folder);
        let within = within.map(|folders| Arc::new(folders.renamed(there)));
        self.below.leftovers(min_age, within).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        self.below.remove_leftover(leftover).await
    }

    async fn missing_folders(&self) -> Result<usize> {
        self.below.missing_folders().await
    }

    async fn remove_made_folders(&self, count: usize) -> Result<()> {
        self.below.remove_made_folders(count).await
    }
}

/// The key, below the other folder if it stands in or is one of these.
fn moved(folders: &Pairs, key: &ObjectKey) -> ObjectKey {
    let path = [key.as_bytes(), b"/"].concat();
    let after = folders.partition_point(|(from, _)| from.as_slice() <= path.as_slice());
    let found = after.checked_sub(1).and_then(|at| {
        let (from, to) = folders.get(at)?;
        Some([to.as_slice(), path.strip_prefix(from.as_slice())?].concat())
    });
    match found {
        Some(mut bytes) => {
            bytes.pop();
            ObjectKey::from(bytes)
        }
        None => key.clone(),
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Placed {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        let after = options.after.clone();
        let cover = options.cover.as_ref().and_then(|cover| moved_cover(&self.there, cover)).map(Arc::new);
        let options = ListOptions { after: None, cover, ..options };
        let pages = list::pages(&self.inner, options, self.inner.capabilities().ordered_list);
        let back = self.back.clone();
        let named = move |page: Vec<Listed>| -> Vec<Listed> {
            let named = page.into_iter().map(|listed| Listed { key: moved(&back, &listed.key), ..listed });
            named.filter(|listed| after.as_ref().is_none_or(|after| listed.key > *after)).collect()
        };
        pages.map(move |page| page.map(&named)).boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.inner.head(&self.there(key)).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.inner.get(&self.there(key), options).await
    }

    async fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        self.inner.hash_range(&self.there(key), range, expect, chunk_size).await
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.inner.put(&self.there(key), body, options).await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.inner.create_upload(&self.there(key), size_bytes, options).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.inner.put_part(&self.there(key), upload, part, body).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.inner.list_parts(&self.there(key), upload).await
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        self.inner.read_part(&self.there(key), upload, part).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.inner.complete_upload(&self.there(key), upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.inner.abort_upload(&self.there(key), upload).await
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin()
    }

    fn key_at_origin(&self, key: &ObjectKey) -> ObjectKey {
        self.inner.key_at_origin(&self.there(key))
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        self.inner.copies_from(origin)
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let here = self.there(source.key);
        let key = if source.origin.is_none() { &here } else { source.key };
        self.inner.copy(&CopySource { key, ..*source }, &self.there(to), options).await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let here = self.there(source.key);
        let key = if source.origin.is_none() { &here } else { source.key };
        self.inner.copy_part(&CopySource { key, ..*source }, &self.there(to), upload, part).await
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        self.inner.list_uploads().await
    }

    async fn synced(&self) -> Result<Option<Timestamp>> {
        self.inner.synced().await
    }

    async fn settle(&self) -> Result<()> {
        self.inner.settle().await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let there: Vec<ObjectKey> = keys.iter().map(|key| self.there(key)).collect();
        self.inner.delete(&there).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use futures::TryStreamExt as _;

    #[tokio::test]
    async fn every_object_has_one_key_and_keys_lead_to_the_other_folder() {
        let below: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pair = |key: &str, place: &str| (ObjectKey::from(key), ObjectKey::from(place));
        // The table stands in its second folder, and its first one has a name of its own.
        let placed = Placed::new(below.clone(), &[pair("db/t", "db/t.2"), pair("db/t.0", "db/t")]);
        let write = async |store: &dyn Store, key: &str| {
            let payload = Payload::new(Bytes::from(key.to_owned()));
            store.put(&ObjectKey::from(key), payload, &PutOptions::default()).await.unwrap();
        };
        for key in ["db/t/old", "db/t.2/new", "db/t2/x"] {
            write(below.as_ref(), key).await;
        }
        write(&placed, "db/t/newer").await;
        let names = async |store: &dyn Store| {
            let pages: Vec<Vec<Listed>> = store.list(ListOptions::default()).try_collect().await.unwrap();
            let mut names: Vec<String> = pages.into_iter().flatten().map(|listed| listed.key.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(below.as_ref()).await, ["db/t.2/new", "db/t.2/newer", "db/t/old", "db/t2/x"]);
        assert_eq!(names(&placed).await, ["db/t.0/old", "db/t/new", "db/t/newer", "db/t2/x"]);
        let head = placed.head(&ObjectKey::from("db/t.0/old")).await.unwrap();
        let from = ObjectKey::from("db/t.0/old");
        placed
            .copy(&CopySource::here(&from, &head.fingerprint), &"db/t/old".into(), &PutOptions::default())
            .await
            .unwrap();
        placed.delete(&[from]).await.into_iter().for_each(|answer| answer.unwrap());
        assert_eq!(names(below.as_ref()).await, ["db/t.2/new", "db/t.2/newer", "db/t.2/old", "db/t2/x"]);
    }
}
