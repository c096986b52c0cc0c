//! S3 and what speaks its protocol, by our own requests: keys go and come as the bytes they are.
//!
//! Signing, credentials and the HTTP client are object_store's; its paths are not used, because they rewrite keys. Requests
//! are never retried here. What no URL can carry unchanged (`.` and `..` segments) is refused before a request exists; what a
//! server would keep under another name is refused by name, after a probe (`alias`).
//!
//! A crash leaves the old object or the new one, never a mix, or an upload in parts that the caller's journal names.
//!
//! What differs from a file system: the marker object `prefix/` of the opened root itself is left out of listings; links
//! are objects with `meta:understudy-link`, and a listing shows them as objects; times are whole seconds; a copy that must
//! not overwrite asks first and is told to the server too, but servers exist that ignore it (a window of one request).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, Method};
use manifest::{Fingerprint, Listed, ObjectKey};

use self::client::Client;
pub use self::config::S3Config;
pub(super) use self::config::copy_limit;
pub use self::list::read_listing;
use super::{
    Capabilities, CopySource, GetOptions, GetResult, ListOptions, ObjectInfo, Origin, PartSpec, Payload, PutOptions,
    Result, Store, StoreError, StoreErrorKind, UploadId, UploadedPart, Written, xml,
};

mod alias;
pub(super) mod attributes;
pub(crate) mod checksum;
mod client;
mod config;
mod delete;
mod errors;
pub(super) mod keys;
mod list;
mod multipart;
mod read;
#[cfg(test)]
mod server_tests;
mod write;

/// The largest object that one CopyObject takes: 5 GiB.
const MAX_COPY_BYTES: u64 = 5 << 30;
/// The largest object that one PUT takes: 5 GiB.
const MAX_PUT_BYTES: u64 = 5 << 30;
/// Keys in one DeleteObjects.
const DELETE_BATCH: usize = 1000;

/// The objects below a prefix of a bucket. See the module for what it promises.
#[derive(Debug)]
pub struct S3Store {
    client: Arc<Client>,
    prefix: ObjectKey,
    /// Where copies read from, unless told otherwise.
    origin: S3Origin,
    capabilities: Capabilities,
    checksum: Option<checksum::Algorithm>,
    /// Headers of every write: server-side encryption, storage class.
    write_headers: HeaderMap,
    /// Headers of every write, read and part under a key that the customer keeps (SSE-C).
    customer_key: HeaderMap,
    /// Looks at an object do not ask for its checksum: the server refused to tell it.
    untold_checksums: std::sync::atomic::AtomicBool,
    /// Which odd keys the server keeps as they are.
    probes: alias::Probes,
    /// DeleteObjects does not work here: found out, or said by the configuration.
    single_deletes: std::sync::atomic::AtomicBool,
}

/// Where the objects of an S3 store are, for others of the same service.
#[derive(Debug, Clone)]
pub struct S3Origin {
    /// The service: `aws`, another partition of it, or a server's address.
    service: String,
    bucket: String,
    prefix: ObjectKey,
    /// Headers by which the service reads what a key of the customer encrypts (SSE-C).
    customer_key: HeaderMap,
    /// Who asks pays for what is read.
    request_payer: bool,
}

impl S3Store {
    /// Whether the bucket can be reached: [`StoreErrorKind::NoBucket`] when there is none.
    pub async fn check_bucket(&self) -> Result<()> {
        // HEAD tells nothing but a status; a listing of one key says what is wrong.
        let call = client::Call::bucket("reach", Method::GET).query("list-type", "2").query("max-keys", "1");
        let response = self.client.expect(&call, &[200]).await.map_err(|mut error| {
            if error.kind == StoreErrorKind::NotFound {
                error.kind = StoreErrorKind::NoBucket;
            }
            error
        })?;
        self.client.xml(&call, response, "ListBucketResult").await.map(drop)
    }

    /// The full key below the opened prefix, or the refusal.
    fn full_key(&self, operation: &'static str, key: &ObjectKey) -> Result<String> {
        keys::full_key(&self.prefix, key).map_err(|why| self.error(operation, key, StoreErrorKind::InvalidKey, why))
    }

    fn error(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        kind: StoreErrorKind,
        detail: impl Into<String>,
    ) -> StoreError {
        self.client.error(operation, Some(key), kind, detail)
    }
}

/// The identity of what was just written: a listing will tell the same size and ETag.
fn written_fingerprint(size_bytes: u64, etag: &str, headers: &HeaderMap) -> Fingerprint {
    Fingerprint {
        size_bytes,
        etag: Some(etag.to_owned()),
        version: client::text_of(headers, "x-amz-version-id").filter(|id| *id != "null").map(str::to_owned),
        ..Fingerprint::default()
    }
}

#[async_trait]
impl Store for S3Store {
    fn place(&self) -> &str {
        &self.client.place
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        list::list(Arc::clone(&self.client), self.prefix.clone(), self.capabilities.ordered_list, options)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.head_object(key).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.get_object(key, options).await
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.put_object(key, body, options).await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.create_multipart(key, size_bytes, options).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.upload_part(key, upload, part, body).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.list_uploaded(key, upload).await
    }

    async fn read_part(&self, key: &ObjectKey, _upload: &UploadId, _part: PartSpec) -> Result<Bytes> {
        Err(self.error("read a part of", key, StoreErrorKind::Unsupported, "S3 lists parts, it does not return them"))
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.complete_multipart(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.abort_multipart(key, upload).await
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin::S3(self.origin.clone()))
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        match origin {
            Origin::S3(other) if other.service == self.origin.service => Some(self.capabilities.max_copy_bytes),
            _ => None,
        }
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        self.copy_object(source, to, options).await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        self.upload_part_copy(source, to, upload, part).await
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        self.list_multiparts().await.map(Some)
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        self.delete_objects(keys).await
    }
}
