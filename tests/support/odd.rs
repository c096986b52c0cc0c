//! A store around a store that is odd in ways that are no failure of a call: others write to it meanwhile, its listing is
//! not what it holds, it ignores conditions.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use distcp::store::{
    Capabilities, CopySource, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec, Payload,
    PutOptions, Result, Store, Timestamp, UploadId, UploadedPart, Written,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use manifest::{ChunkSize, Fingerprint, Listed, ObjectKey};

type Meddle = (ObjectKey, BoxFuture<'static, ()>);

/// The oddities; none of them until asked for.
pub struct OddStore {
    inner: Arc<dyn Store>,
    listing: Option<Arc<dyn Store>>,
    capabilities: Capabilities,
    ignores_expect: bool,
    meddle: Mutex<Option<Meddle>>,
}

impl fmt::Debug for OddStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OddStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl OddStore {
    /// `inner`, not odd yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let capabilities = inner.capabilities().clone();
        Self { inner, listing: None, capabilities, ignores_expect: false, meddle: Mutex::default() }
    }

    /// Somebody does this once, between the answer to the first read of `key` and the first byte of its body.
    pub fn meddling(self, key: &str, meddle: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { meddle: Mutex::new(Some((key.into(), Box::pin(meddle)))), ..self }
    }

    /// Lists what `other` holds.
    pub fn listed_by(self, other: Arc<dyn Store>) -> Self {
        Self { listing: Some(other), ..self }
    }

    /// Answers a read with whatever version is there, as servers do that do not know If-Match.
    pub fn ignoring_expect(mut self) -> Self {
        self.capabilities.conditional_read = false;
        Self { ignores_expect: true, ..self }
    }

    /// Promises no order and no start after a key, but tells levels, as Azure does. For stores in memory.
    pub fn by_levels(mut self) -> Self {
        let capabilities = &mut self.capabilities;
        (capabilities.ordered_list, capabilities.start_after, capabilities.levels) = (false, false, true);
        self
    }

    /// As a store to be shared.
    pub fn shared(self) -> Arc<dyn Store> {
        Arc::new(self)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for OddStore {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        self.listing.as_ref().unwrap_or(&self.inner).list(options)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.inner.head(key).await
    }

    async fn get(&self, key: &ObjectKey, mut options: GetOptions) -> Result<GetResult> {
        if self.ignores_expect {
            options.expect = None;
        }
        let answer = self.inner.get(key, options).await;
        let meddle = {
            let mut meddle = self.meddle.lock().expect("nobody panics with it");
            if meddle.as_ref().is_some_and(|(on, _)| on == key) { meddle.take() } else { None }
        };
        if let Some((_, meddle)) = meddle {
            meddle.await;
        }
        answer
    }

    /// What meddles with reading does so in [`Store::get`].
    async fn hash_range(
        &self,
        _: &ObjectKey,
        _: Range<u64>,
        _: &Fingerprint,
        _: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        Ok(None)
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.inner.put(key, body, options).await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.inner.create_upload(key, size_bytes, options).await
    }

    async fn put_part(&self, key: &ObjectKey, id: &UploadId, part: PartSpec, body: Payload) -> Result<UploadedPart> {
        self.inner.put_part(key, id, part, body).await
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
        self.inner.origin()
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
