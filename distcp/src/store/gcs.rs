//! Google Cloud Storage, by our own requests: keys go and come as the bytes they are.
//!
//! Tokens and the HTTP client are object_store's; its paths are not used, because they rewrite keys. Requests are never
//! retried here. A name travels as one encoded path segment (`keys`), so that no key is another's; what the service has no
//! name for is refused before a request exists.
//!
//! A crash leaves the old object or the new one, never a mix, or an upload in parts that the caller's journal names.
//!
//! Which of the service's APIs does what, and why:
//! - Names and versions are the JSON API's: its listing carries every name (XML cannot carry control characters) with its
//!   generation and MD5, and its metadata are those that were set, where the XML API's answers make up a Cache-Control.
//! - A copy is `rewrite`: of any size, across buckets, with conditions on both sides.
//! - Bytes go and come by the XML API. It takes bodies as they are (the JSON API wants them wrapped in a MIME message, a second
//!   copy in memory) and checks `x-goog-hash` on wholes and on parts, which may come in any order (JSON uploads in pieces go
//!   one after the other).
//! - **An upload in parts takes no conditions at the service** ("Preconditions are not supported in the requests", 400
//!   NotImplemented). The target is looked at right before the parts become the object: whoever writes between that look and
//!   the completion is overwritten. Whole objects, copies and the state's swaps have no such window. The ways around it
//!   cost more than they give: `compose`, or parts completed under another name and rewritten, leave objects in the bucket
//!   that others list, that soft delete keeps for a week and that colder classes charge for months.
//! - A delete is a request of its own: a batch of 100 counts as 100 calls all the same.
//!
//! Reads ask for metadata and bytes at once, both of one generation, and for the bytes as stored (an object with
//! `Content-Encoding: gzip` would be unpacked on its way). As on S3, a key that ends with a slash is a key, links are objects
//! with `meta:understudy-link`, and a listing shows them as objects. Archived classes are read like any other.
//!
//! Proven against a server of our own that follows the documentation, not against the service: there is no emulator that
//! answers the XML API.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::HeaderMap;
use manifest::{Listed, ObjectKey};

use self::client::{Call, Client};
pub use self::config::{BadGcsConfig, GcsConfig};
pub(crate) use self::config::{base_url, is_option};
pub use self::list::read_listing;
use super::{
    Capabilities, CopySource, GetOptions, GetResult, ListOptions, ObjectInfo, Origin, PartSpec, Payload, PutOptions,
    Result, Store, StoreError, StoreErrorKind, UploadId, UploadedPart, Written,
};

mod client;
mod config;
mod copy;
mod delete;
mod errors;
mod keys;
mod list;
mod parts;
mod read;
mod resource;
#[cfg(test)]
mod server_tests;
mod write;

/// The largest object: 5 TiB. One request writes it, and a copy takes any.
const MAX_OBJECT_BYTES: u64 = 5 << 40;
/// Keys in one call to delete.
const DELETE_BATCH: usize = 256;

/// The objects below a prefix of a bucket. See the module for what it promises.
#[derive(Debug)]
pub struct GcsStore {
    client: Arc<Client>,
    prefix: ObjectKey,
    capabilities: Capabilities,
    /// Headers of every write: the storage class.
    write_headers: HeaderMap,
    /// The Cloud KMS key of every write.
    kms_key: Option<String>,
}

/// Where the objects of a store are, for others of the same service.
#[derive(Debug, Clone)]
pub struct GcsOrigin {
    /// The service's address.
    service: String,
    bucket: String,
    prefix: ObjectKey,
}

impl GcsStore {
    fn here(&self) -> GcsOrigin {
        let (service, bucket) = (self.client.base_url.clone(), self.client.bucket.clone());
        GcsOrigin { service, bucket, prefix: self.prefix.clone() }
    }

    /// Whether the bucket can be reached: [`StoreErrorKind::NoBucket`] when there is none.
    pub async fn check_bucket(&self) -> Result<()> {
        let call = Call::list("reach", &self.client.bucket).query("maxResults", "1").query("fields", "kind");
        list::read_kind(&self.client, &call).await
    }

    /// The full name below the opened prefix, or the refusal.
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

#[async_trait]
impl Store for GcsStore {
    fn place(&self) -> &str {
        &self.client.place
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        list::list(Arc::clone(&self.client), self.prefix.clone(), options)
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

    async fn create_upload(&self, key: &ObjectKey, _size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.begin_upload(key, options).await
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
        let detail = "Google Cloud Storage lists parts, it does not return them";
        Err(self.error("read a part of", key, StoreErrorKind::Unsupported, detail))
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.finish_upload(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.give_up_upload(key, upload).await
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin::Gcs(self.here()))
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        match origin {
            Origin::Gcs(other) if other.service == self.client.base_url => Some(self.capabilities.max_copy_bytes),
            _ => None,
        }
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        self.copy_object(source, to, options).await
    }

    async fn copy_part(
        &self,
        _source: &CopySource<'_>,
        to: &ObjectKey,
        _upload: &UploadId,
        _part: PartSpec,
    ) -> Result<UploadedPart> {
        let detail = "Google Cloud Storage copies objects whole, whatever their size";
        Err(self.error("copy a part of", to, StoreErrorKind::Unsupported, detail))
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        self.delete_objects(keys).await
    }
}
