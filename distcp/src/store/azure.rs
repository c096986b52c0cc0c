//! Azure Blob Storage and what speaks its protocol, by our own requests: keys go and come as the bytes they are.
//!
//! Signing, credentials and the HTTP client are object_store's; its paths are not used, because they rewrite keys. Requests
//! are never retried here. What no URL can carry unchanged (`.` and `..` segments) is refused before a request exists; what
//! an account would keep under another name is refused by name, after a probe (`alias`).
//!
//! A crash leaves the old object or the new one, never a mix, or uncommitted blocks that the caller's journal names.
//!
//! What differs from S3: listings come in no order that is relied upon and cannot start after a key; an upload that is given
//! up leaves blocks that expire after a week (`blocks`); a copy is done by the service in its own time (`write`); blobs that
//! stand for folders (`hdi_isfolder`, folders of ADLS Gen2) are no objects. Only the blob endpoint is spoken: an account
//! with folders of its own works through it, but its folders are neither made nor removed. As on S3, links are objects with
//! `meta:understudy-link`, a listing shows them as objects, and times are whole seconds.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, Method};
use manifest::{Listed, ObjectKey};

use self::client::Client;
pub use self::config::{AzureConfig, BadAzureConfig};
pub(crate) use self::config::{SECONDARY, is_option, service};
pub use self::list::read_listing;
use super::{
    Capabilities, CopySource, GetOptions, GetResult, ListOptions, ObjectInfo, Origin, PartSpec, Payload, PutOptions,
    Result, Store, StoreError, StoreErrorKind, UploadId, UploadedPart, Written,
};

mod alias;
mod attributes;
mod blocks;
mod client;
mod config;
mod delete;
mod errors;
mod keys;
mod list;
mod read;
mod sas;
#[cfg(test)]
mod server_tests;
mod write;

/// The largest blob: 50,000 blocks of 4,000 MiB. A copy takes any of them.
const MAX_COPY_BYTES: u64 = 50_000 * (4000 << 20);
/// The largest blob that is copied from another account in one step (Copy Blob From URL): 256 MiB.
const MAX_SYNC_COPY_BYTES: u64 = 256 << 20;
/// The largest object that one Put Blob takes: 5,000 MiB.
const MAX_PUT_BYTES: u64 = 5000 << 20;
/// Keys in one call to delete.
const DELETE_BATCH: usize = 256;

/// The objects below a prefix of a container. See the module for what it promises.
#[derive(Debug)]
pub struct AzureStore {
    client: Arc<Client>,
    prefix: ObjectKey,
    capabilities: Capabilities,
    /// Headers of every write: the access tier.
    write_headers: HeaderMap,
    /// Which odd keys the container keeps as they are.
    probes: alias::Probes,
    /// Uploads that take no more parts.
    given_up: blocks::GivenUp,
}

/// Where the objects of an Azure store are, for others of the same service, and what lets the service read them.
#[derive(Debug, Clone)]
pub struct AzureOrigin {
    client: Arc<Client>,
    prefix: ObjectKey,
}

impl AzureStore {
    /// Whether the container can be reached: [`StoreErrorKind::NoBucket`] when there is none.
    pub async fn check_container(&self) -> Result<()> {
        let call = client::Call::container("reach", Method::GET).query("comp", "list").query("maxresults", "1");
        let response = self.client.expect(&call, &[200]).await.map_err(|mut error| {
            if error.kind == StoreErrorKind::NotFound {
                error.kind = StoreErrorKind::NoBucket;
            }
            error
        })?;
        self.client.xml(&call, response, "EnumerationResults").await.map(drop)
    }

    /// Up to when everything that was written at the first location is at the second one (Get Blob Service Stats).
    async fn last_sync(&self) -> Result<jiff::Timestamp> {
        let call = client::Call::account("ask the replication of", Method::GET).query("comp", "stats");
        let response = self.client.expect(&call, &[200]).await?;
        let (_, root) = self.client.xml(&call, response, "StorageServiceStats").await?;
        let replication = root.child("GeoReplication");
        let of = |name: &str| replication.and_then(|element| element.text_of(name)).unwrap_or_default().trim();
        let (status, time) = (of("Status"), of("LastSyncTime"));
        match crate::store::wire::http_date_ns(time).and_then(|ns| jiff::Timestamp::from_nanosecond(ns.into()).ok()) {
            Some(time) if status == "live" => Ok(time),
            _ => {
                let detail = format!("replication is {status:?}, its last time {time:?}");
                Err(self.client.error(call.operation, None, StoreErrorKind::Unsupported, detail))
            }
        }
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

#[async_trait]
impl Store for AzureStore {
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

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.begin_blocks(key, size_bytes, options).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.put_block(key, upload, part, body).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.list_blocks(key, upload).await
    }

    async fn read_part(&self, key: &ObjectKey, _upload: &UploadId, _part: PartSpec) -> Result<Bytes> {
        let detail = "Azure lists blocks, it does not return them";
        Err(self.error("read a part of", key, StoreErrorKind::Unsupported, detail))
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.commit_blocks(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.give_up_blocks(key, upload).await
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin::Azure(AzureOrigin { client: Arc::clone(&self.client), prefix: self.prefix.clone() }))
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        let Origin::Azure(other) = origin else { return None };
        let most = match self.client.is_account_of(&other.client) {
            true => self.capabilities.max_copy_bytes,
            false => self.capabilities.max_copy_bytes.min(MAX_SYNC_COPY_BYTES),
        };
        (other.client.service == self.client.service).then_some(most)
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
        self.put_block_from_url(source, to, upload, part).await
    }

    async fn synced(&self) -> Result<Option<jiff::Timestamp>> {
        match &self.client.secondary {
            Some(_) => self.last_sync().await.map(Some),
            None => Ok(None),
        }
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        self.delete_objects(keys).await
    }
}
