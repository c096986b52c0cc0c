//! Counting what a store is asked and what it moves: requests by kind, bytes by direction, retries.
//!
//! Never changes a call or its answer. Counts are kept in memory only; a crash loses them.

use std::ops::{AddAssign, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use manifest::{ChunkSize, Fingerprint, Listed, ObjectKey};
use serde::{Deserialize, Serialize};

use super::{
    Capabilities, CopySource, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec, Payload,
    PutOptions, Result, Store, Timestamp, UploadId, UploadedPart, Written,
};

/// Requests by kind, as the summary prints them. An upload's own requests count as `put`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Pages of listings, at least one a listing.
    pub list: u64,
    /// Looks at one object, or at the parts of an upload.
    pub head: u64,
    /// Reads.
    pub get: u64,
    /// Writes of objects and parts, beginnings and ends of uploads.
    pub put: u64,
    /// Server-side copies.
    pub copy: u64,
    /// Deletes (a batch is one) and uploads given up.
    pub delete: u64,
}

impl RequestCounts {
    /// The counts with their names.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        let Self { list, head, get, put, copy, delete } = *self;
        [("list", list), ("head", head), ("get", get), ("put", put), ("copy", copy), ("delete", delete)]
    }
}

impl std::ops::Add for RequestCounts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            list: self.list + other.list,
            head: self.head + other.head,
            get: self.get + other.get,
            put: self.put + other.put,
            copy: self.copy + other.copy,
            delete: self.delete + other.delete,
        }
    }
}

/// Bytes by direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteCounts {
    /// Bytes of bodies that arrived here.
    pub read: u64,
    /// Bytes of bodies that the store took.
    pub written: u64,
    /// Bytes that the store copied by itself.
    pub server_side: u64,
}

/// What a [`Meter`] counted up to one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterSnapshot {
    /// Requests by kind, repeated ones included.
    pub requests: RequestCounts,
    /// Bytes by direction, repeated ones included.
    pub bytes: ByteCounts,
    /// Requests that were made again after a failure.
    pub retries: u64,
}

impl AddAssign for MeterSnapshot {
    fn add_assign(&mut self, other: Self) {
        self.requests.list += other.requests.list;
        self.requests.head += other.requests.head;
        self.requests.get += other.requests.get;
        self.requests.put += other.requests.put;
        self.requests.copy += other.requests.copy;
        self.requests.delete += other.requests.delete;
        self.bytes.read += other.bytes.read;
        self.bytes.written += other.bytes.written;
        self.bytes.server_side += other.bytes.server_side;
        self.retries += other.retries;
    }
}

/// The counters, shared by whoever counts and whoever shows.
#[derive(Debug, Default)]
pub struct Meter {
    list: AtomicU64,
    head: AtomicU64,
    get: AtomicU64,
    put: AtomicU64,
    copy: AtomicU64,
    delete: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    server_side: AtomicU64,
    retries: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Meter {
    /// Counts one repeated request.
    pub fn add_retry(&self) {
        add(&self.retries, 1);
    }

    /// The counts so far.
    pub fn snapshot(&self) -> MeterSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MeterSnapshot {
            requests: RequestCounts {
                list: get(&self.list),
                head: get(&self.head),
                get: get(&self.get),
                put: get(&self.put),
                copy: get(&self.copy),
                delete: get(&self.delete),
            },
            bytes: ByteCounts {
                read: get(&self.read),
                written: get(&self.written),
                server_side: get(&self.server_side),
            },
            retries: get(&self.retries),
        }
    }
}

/// A store whose calls are counted.
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Store>,
    meter: Arc<Meter>,
}

impl Metered {
    /// Counts the calls of `inner` in `meter`.
    pub fn new(inner: Arc<dyn Store>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Metered {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        add(&self.meter.list, 1);
        let meter = Arc::clone(&self.meter);
        let mut first = true;
        self.inner
            .list(options)
            .inspect(move |_| {
                // The first page was counted when it was asked for.
                if !std::mem::take(&mut first) {
                    add(&meter.list, 1);
                }
            })
            .boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        add(&self.meter.head, 1);
        self.inner.head(key).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        add(&self.meter.get, 1);
        let GetResult { info, body } = self.inner.get(key, options).await?;
        let meter = Arc::clone(&self.meter);
        let body = body
            .inspect(move |piece| {
                if let Ok(piece) = piece {
                    add(&meter.read, piece.len() as u64);
                }
            })
            .boxed();
        Ok(GetResult { info, body })
    }

    async fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        let length = range.end.saturating_sub(range.start);
        let hashed = self.inner.hash_range(key, range, expect, chunk_size).await?;
        if hashed.is_some() {
            add(&self.meter.get, 1);
            add(&self.meter.read, length);
        }
        Ok(hashed)
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        add(&self.meter.put, 1);
        let len = body.len() as u64;
        let written = self.inner.put(key, body, options).await?;
        add(&self.meter.written, len);
        Ok(written)
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        add(&self.meter.put, 1);
        self.inner.create_upload(key, size_bytes, options).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        add(&self.meter.put, 1);
        let len = body.len() as u64;
        let uploaded = self.inner.put_part(key, upload, part, body).await?;
        add(&self.meter.written, len);
        Ok(uploaded)
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        add(&self.meter.head, 1);
        self.inner.list_parts(key, upload).await
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        add(&self.meter.get, 1);
        let body = self.inner.read_part(key, upload, part).await?;
        add(&self.meter.read, body.len() as u64);
        Ok(body)
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        add(&self.meter.put, 1);
        self.inner.complete_upload(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        add(&self.meter.delete, 1);
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
        add(&self.meter.copy, 1);
        let written = self.inner.copy(source, to, options).await?;
        add(&self.meter.server_side, written.fingerprint.size_bytes);
        Ok(written)
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        add(&self.meter.copy, 1);
        let copied = self.inner.copy_part(source, to, upload, part).await?;
        add(&self.meter.server_side, part.size_bytes);
        Ok(copied)
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        add(&self.meter.list, 1);
        self.inner.list_uploads().await
    }

    async fn synced(&self) -> Result<Option<Timestamp>> {
        self.inner.synced().await
    }

    async fn settle(&self) -> Result<()> {
        self.inner.settle().await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        add(&self.meter.delete, 1);
        self.inner.delete(keys).await
    }
}
