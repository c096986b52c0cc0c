//! What versions of Iceberg tables name, as a job that copies a tree sees it at the source: metadata as it shall be on the
//! target, and of every file that is named whether it was listed.
//!
//! A job lists, compares, copies and verifies as ever; it only sees other bytes, and of these a length and a hash that were known
//! before. It sees no time and no id of a file that is rewritten: what says "unchanged" is the hash of what it becomes. Changes
//! nothing; a crash leaves nothing.

use super::Tree;
use crate::iceberg::{MAX_FILE_BYTES, Rewritten};
use crate::location::LocationMap;
use crate::roots;
use crate::roots::Root;
use async_trait::async_trait;
use bytes::Bytes;
use distcp::job::Job;
use distcp::scan;
use distcp::store::{
    Capabilities, CopySource, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec, Payload,
    PutOptions, Result, Store, StoreError, StoreErrorKind, Timestamp, UploadId, UploadedPart, Written,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use manifest::{ChunkSize, Fingerprint, Listed, ObjectKey};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Files that versions name, sorted, and which of them were listed.
#[derive(Debug, Default)]
pub(super) struct Named {
    files: Vec<(ObjectKey, roots::Named)>,
    seen: Vec<AtomicBool>,
}

impl Named {
    fn of(&self, key: &ObjectKey) -> Option<(usize, &roots::Named)> {
        let at = self.files.binary_search_by(|(named, _)| named.cmp(key)).ok()?;
        self.files.get(at).map(|(_, named)| (at, named))
    }

    fn rewritten(&self, key: &ObjectKey) -> Option<&Rewritten> {
        self.of(key)?.1.rewritten.as_ref()
    }

    /// A listing begins.
    pub(super) fn forget(&self) {
        self.seen.iter().for_each(|seen| seen.store(false, Ordering::Relaxed));
    }
}

/// Makes the job see the source so, if any version names a file of the tree.
pub(super) fn look_through(root: &Root, map: &LocationMap, job: &mut Job) -> Arc<Named> {
    if root.narrowed.named.is_empty() {
        return Arc::default();
    }
    let files: Vec<_> = root.narrowed.named.iter().map(|(key, named)| (key.clone(), named.clone())).collect();
    let seen = files.iter().map(|_| AtomicBool::new(false)).collect();
    let named = Arc::new(Named { files, seen });
    let inner = job.source.store.clone();
    // What is rewritten passes through us.
    let is_rewritten = named.files.iter().any(|(_, named)| named.rewritten.is_some());
    job.source.store = Arc::new(Seen { inner, named: named.clone(), map: map.clone(), is_rewritten });
    named
}

impl Tree {
    /// Tables of whose version a file was not listed last time, with the first.
    pub fn missing(&self) -> BTreeMap<usize, String> {
        let mut missing = BTreeMap::new();
        for ((key, named), seen) in self.named.files.iter().zip(&self.named.seen) {
            if !seen.load(Ordering::Relaxed) {
                missing.entry(named.table).or_insert_with(|| {
                    let place = self.root.from.below(&key.escaped());
                    format!("it is an Iceberg table: {place} is named by its version and is not there; the next run looks again")
                });
            }
        }
        missing
    }
}

/// The source, with what is rewritten.
#[derive(Debug)]
struct Seen {
    inner: Arc<dyn Store>,
    named: Arc<Named>,
    map: LocationMap,
    is_rewritten: bool,
}

/// By which a rewritten file is known.
fn fingerprint(rewritten: &Rewritten) -> Fingerprint {
    Fingerprint {
        size_bytes: rewritten.size_bytes,
        etag: Some(format!("rewritten-{}", rewritten.hash.to_hex())),
        ..Fingerprint::default()
    }
}

fn seen_as(info: ObjectInfo, rewritten: &Rewritten) -> ObjectInfo {
    ObjectInfo { fingerprint: fingerprint(rewritten), checksum: None, ..info }
}

impl Seen {
    fn error(&self, kind: StoreErrorKind, why: impl Into<String>, key: &ObjectKey) -> StoreError {
        StoreError::new("read", self.place(), kind, why).on(key)
    }

    async fn read(&self, key: &ObjectKey, options: GetOptions, rewritten: &Rewritten) -> Result<GetResult> {
        let shall = fingerprint(rewritten);
        let is_other = || self.error(StoreErrorKind::Precondition, "it is another version than was looked at", key);
        if options.expect.as_ref().is_some_and(|expect| !expect.looks_like(&shall)) {
            return Err(is_other());
        }
        let (info, file) = whole(self.inner.as_ref(), key).await?;
        let (kind, map) = (rewritten.kind.clone(), self.map.clone());
        let made = tokio::task::spawn_blocking(move || kind.rewrite(&file, &map)).await;
        let made = made.map_err(|error| self.error(StoreErrorKind::Other, error.to_string(), key))?;
        let bytes = made.map(Bytes::from).map_err(|why| self.error(StoreErrorKind::Corrupt, why, key))?;
        if blake3::hash(&bytes) != rewritten.hash {
            return Err(is_other());
        }
        let part = match options.range {
            Some(range) => {
                let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(at(range.start)..at(range.end).max(at(range.start)))
            }
            None => bytes,
        };
        Ok(GetResult { info: seen_as(info, rewritten), body: futures::stream::iter([Ok(part)]).boxed() })
    }
}

/// Reads a whole file that is small enough.
pub(in crate::sync) async fn whole(store: &dyn Store, key: &ObjectKey) -> Result<(ObjectInfo, Bytes)> {
    let info = store.head(key).await?;
    if info.fingerprint.size_bytes > MAX_FILE_BYTES {
        let why = format!("its {} bytes are more than what is rewritten", info.fingerprint.size_bytes);
        return Err(StoreError::new("read", store.place(), StoreErrorKind::Corrupt, why).on(key));
    }
    let (_, bytes) = scan::read_whole(store, key, &info.fingerprint).await?;
    Ok((info, bytes))
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Seen {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        let named = self.named.clone();
        let look = move |mut listed: Listed| {
            if let Some((at, found)) = named.of(&listed.key) {
                if let Some(seen) = named.seen.get(at) {
                    seen.store(true, Ordering::Relaxed);
                }
                if let Some(rewritten) = &found.rewritten {
                    listed.fingerprint = fingerprint(rewritten);
                }
            }
            listed
        };
        self.inner.list(options).map(move |page| page.map(|page| page.into_iter().map(&look).collect())).boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let info = self.inner.head(key).await?;
        Ok(match self.named.rewritten(key) {
            Some(rewritten) => seen_as(info, rewritten),
            None => info,
        })
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        match self.named.rewritten(key) {
            Some(rewritten) => self.read(key, options, rewritten).await,
            None => self.inner.get(key, options).await,
        }
    }

    async fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        match self.named.rewritten(key) {
            Some(_) => Ok(None),
            None => self.inner.hash_range(key, range, expect, chunk_size).await,
        }
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.inner.put(key, body, options).await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.inner.create_upload(key, size_bytes, options).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.inner.put_part(key, upload, part, body).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.inner.list_parts(key, upload).await
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        self.inner.read_part(key, upload, part).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.inner.complete_upload(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.inner.abort_upload(key, upload).await
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin().filter(|_| !self.is_rewritten)
    }

    fn key_at_origin(&self, key: &ObjectKey) -> ObjectKey {
        self.inner.key_at_origin(key)
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        self.inner.copies_from(origin)
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        self.inner.copy(source, to, options).await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        self.inner.copy_part(source, to, upload, part).await
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
        self.inner.delete(keys).await
    }
}
