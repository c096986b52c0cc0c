//! The one interface through which object trees are seen: byte keys below an opened root.
//!
//! A [`Store`] is opened on a *place* (a bucket and prefix, a folder); its keys are what lies below. It never retries,
//! paces or counts: decorators do ([`retry`], [`pace`], [`meter`]), and every call goes through them. A store answers with
//! what happened, and never guesses: a lost answer is an error, and whoever retries looks at the target first.
//!
//! A crash inside `put` or `complete_upload` leaves the old object or the new one under the key, never a mix (a power cut
//! before [`Store::settle`] may leave a new one empty or cut off, where there was none); a crash
//! between `create_upload` and `complete_upload` leaves an upload (a temporary file, locally) that the journal names.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
pub use jiff::Timestamp;
use manifest::{Attributes, ChunkHash, ChunkSize, EntryKind, Fingerprint, Listed, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::list::cover::Cover;

pub use self::error::{StoreError, StoreErrorKind};
pub use self::folders::Folders;
pub use self::local::{Leftover, MAX_LEFTOVERS};
pub use self::payload::Payload;

pub mod azure;
pub mod error;
mod folders;
pub mod gcs;
pub mod hdfs;
pub mod local;
pub mod memory;
pub mod meter;
pub mod pace;
pub mod payload;
pub mod placed;
pub mod retry;
pub mod s3;
#[cfg(test)]
mod scripted;
pub mod state;
mod wire;
pub(crate) use self::wire::normal_service;
mod xml;

/// Unfinished uploads that are listed: more are as bad.
pub const MAX_LISTED_UPLOADS: usize = 10_000;

/// As much of a range that a store hashes by itself ([`Store::hash_range`]) is in memory at once: it stays in a processor's
/// own cache between being read and being hashed.
pub const HASH_BLOCK_BYTES: u64 = 256 << 10;

/// A result of a store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What a store can do; one table, also printed by the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `local`, `memory`, `s3`, `azure`, `gcs`, `hdfs`.
    pub name: &'static str,
    /// `list` yields keys in byte order (checked while listing all the same).
    pub ordered_list: bool,
    /// `list` begins at `after` without reading what lies before it, so that a listing can be split.
    pub start_after: bool,
    /// `list` takes [`ListOptions::starting`] and [`ListOptions::level`], so that a listing can be split.
    pub levels: bool,
    /// A listing that failed on a page may be read on: it asks for the page again.
    pub list_goes_on: bool,
    /// Folders and links are real; empty folders are listed.
    pub folders: bool,
    /// `put` honours [`Precondition::Absent`].
    pub conditional_create: bool,
    /// `put` honours [`Precondition::Matches`].
    pub conditional_replace: bool,
    /// `get` with `expect` cannot return another version's bytes; else identity is checked before and after (rule 13).
    pub conditional_read: bool,
    /// `copy` exists.
    pub server_copy: bool,
    /// The largest object that `copy` takes inside this store, in bytes; above it an upload of copied parts is used. From
    /// other stores it is [`Store::copies_from`] that says.
    pub max_copy_bytes: u64,
    /// `list_parts` exists; else resumed parts are read back.
    pub lists_parts: bool,
    /// Objects have ETags: fingerprints need no times.
    pub etags: bool,
    /// Attributes are kept (all of them, as user metadata where the store has no such thing).
    pub attributes: bool,
    /// Keys per `delete` call.
    pub delete_batch: usize,
    /// The largest object that `put` takes, in bytes; above it an upload in parts is used.
    pub max_put_bytes: u64,
    /// Modification times are kept in steps of this many nanoseconds.
    pub time_step_ns: i64,
}

/// How to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Start after this key (exclusive); the beginning without it.
    pub after: Option<ObjectKey>,
    /// Only keys that begin so; where `levels` is true.
    pub starting: Option<ObjectKey>,
    /// One level only: of what lies behind the first `/` after `starting`, one [`EntryKind::Folder`] a folder, without
    /// its `/`. Where `levels` is true.
    pub level: bool,
    /// Yield empty folders too.
    pub folders: bool,
    /// Leave out these subtrees (relative to the root): state and trash that stand inside it (rule 1).
    pub without: Vec<ObjectKey>,
    /// What lies elsewhere may be left out, too.
    pub cover: Option<Arc<Cover>>,
}

/// What must hold of the key for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precondition {
    /// Nothing.
    Any,
    /// There is no such object.
    Absent,
    /// The object there looks like this.
    Matches(Fingerprint),
}

/// How to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Which bytes; all without it.
    pub range: Option<Range<u64>>,
    /// The version that is wanted: another one is [`StoreErrorKind::Precondition`], before, during or after the body.
    pub expect: Option<Fingerprint>,
}

/// What is known of one object without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// What stands there.
    pub kind: EntryKind,
    /// Identity of the version.
    pub fingerprint: Fingerprint,
    /// Headers and user metadata.
    pub attributes: Attributes,
    /// The store's own checksum of the whole content, where it tells one.
    pub checksum: Option<Checksum>,
}

/// A checksum that a store keeps of a whole object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// `CRC64NVME`, `CRC32C`, ...
    pub algorithm: &'static str,
    /// The value as the store writes it.
    pub value: String,
}

/// An object that is being read.
pub struct GetResult {
    /// The version whose bytes follow.
    pub info: ObjectInfo,
    /// The bytes that follow, in order, as they arrive. Ends early only with an error.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// A range that a store has read and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedRange {
    /// The version whose bytes were read.
    pub info: ObjectInfo,
    /// The chaining values of the range's chunks, in order.
    pub chunks: Vec<ChunkHash>,
}

/// How to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOptions {
    /// What is written.
    pub kind: EntryKind,
    /// Checked by the store in the same step as the write.
    pub precondition: Precondition,
    /// Headers and user metadata to keep with the object.
    pub attributes: Attributes,
    /// Of an upload: its parts will be copied by the store, none is sent.
    #[serde(default)]
    pub copied_parts: bool,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self {
            kind: EntryKind::Object,
            precondition: Precondition::Any,
            attributes: Attributes::new(),
            copied_parts: false,
        }
    }
}

/// What shows that the store holds the bytes that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The store checked a checksum of ours and named it in its answer, or its ETag is the MD5 of what we sent.
    Checksum,
    /// The bytes were read back and compared.
    ReadBack,
    /// Nothing: the caller reads back.
    None,
}

/// A finished write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Identity of the new version, comparable with a later listing's.
    pub fingerprint: Fingerprint,
    /// How its content is known.
    pub proof: Proof,
}

/// The store's name of an upload in parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

/// Which part: its number and where its bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSpec {
    /// From 1, in the order of the bytes.
    pub number: u32,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size_bytes: u64,
}

/// A part that the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadedPart {
    /// Which.
    pub part: PartSpec,
    /// The store's name for its content (empty where it has none).
    pub etag: String,
    /// Checksum of the part as the store wants it again at completion (empty where it wants none).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// How its content is known.
    pub proof: Proof,
}

/// Where the objects of a store are, in terms that other stores of the same service understand.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A store in memory.
    Memory(memory::MemoryStore),
    /// A bucket of S3, or of a server that speaks its protocol.
    S3(s3::S3Origin),
    /// A container of Azure.
    Azure(azure::AzureOrigin),
    /// A bucket of Google Cloud Storage.
    Gcs(gcs::GcsOrigin),
}

/// What a store is to copy without bytes through us.
#[derive(Debug, Clone, Copy)]
pub struct CopySource<'a> {
    /// Where it is, in another store of the service; `None`: in the store that copies.
    pub origin: Option<&'a Origin>,
    /// Its key there.
    pub key: &'a ObjectKey,
    /// The version that is wanted: another one is [`StoreErrorKind::Precondition`].
    pub expect: &'a Fingerprint,
    /// A whole copy keeps the source's attributes, whatever the options name; else it gets those of the options.
    pub keep_attributes: bool,
}

impl<'a> CopySource<'a> {
    /// An object of the store that copies; the copy gets the attributes of the options.
    pub fn here(key: &'a ObjectKey, expect: &'a Fingerprint) -> Self {
        Self { origin: None, key, expect, keep_attributes: false }
    }
}

/// An object tree at a place.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// The opened place for messages (`s3://bucket/prefix`, `/data/lake`); holds no secret.
    fn place(&self) -> &str;

    /// What this store can do.
    fn capabilities(&self) -> &Capabilities;

    /// All keys below the root after `options.after`, in batches of at most a few thousand, in byte order if
    /// `capabilities().ordered_list`. The stream ends with an error when the listing could not be completed; a stream that
    /// ended without one is whole. A root that does not exist is [`StoreErrorKind::NotFound`].
    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>>;

    /// Identity and attributes of one object. An empty key is the root itself as a single object.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo>;

    /// Reads an object, or a range of it.
    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult>;

    /// Reads a range that begins with a chunk, of an object with more than one, and hashes it where it is read, without
    /// handing the bytes on; at most [`HASH_BLOCK_BYTES`] of them are in memory. `None` where [`Store::get`] is the way.
    async fn hash_range(
        &self,
        _key: &ObjectKey,
        _range: Range<u64>,
        _expect: &Fingerprint,
        _chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        Ok(None)
    }

    /// Writes a whole object of at most `max_put_bytes`. A symlink's body is its target path; a folder's body is empty.
    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written>;

    /// Begins an upload of `size_bytes`. The caller journals the id before the first part (rule 18).
    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId>;

    /// Sends one part; parts may come in any order, in parallel, and twice.
    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec, body: Payload)
    -> Result<UploadedPart>;

    /// The parts that the store holds, by number; [`StoreErrorKind::NotFound`] when it does not know the upload (any
    /// more). Stores without `lists_parts` only check that the upload exists and return nothing.
    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>>;

    /// Reads back bytes of an upload that is not complete, where `lists_parts` is false; others answer
    /// [`StoreErrorKind::Unsupported`].
    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes>;

    /// Makes the parts the object, in one step.
    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written>;

    /// Forgets an upload of ours and its parts; an unknown upload is no error.
    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()>;

    /// Where this store's objects are, for others that may be able to copy from it.
    fn origin(&self) -> Option<Origin>;

    /// The key by which others know an object at [`Store::origin`].
    fn key_at_origin(&self, key: &ObjectKey) -> ObjectKey {
        key.clone()
    }

    /// The largest object that one `copy` takes from that store, in bytes; `None` when it cannot copy from there at all.
    /// Whether the service lets it read there shows only with the first copy.
    fn copies_from(&self, origin: &Origin) -> Option<u64>;

    /// Copies an object, at most as large as the service takes in one step, without bytes through us.
    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written>;

    /// Makes a part of an upload from the same bytes of an object, without bytes through us. Parts of one upload are either
    /// sent or copied.
    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart>;

    /// Uploads below the root that are neither completed nor aborted, whoever began them, at most
    /// [`MAX_LISTED_UPLOADS`]; `None` where the store cannot tell or removes them by itself.
    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        Ok(None)
    }

    /// The moment up to which this place surely has what was written at the first location of its service, where it is
    /// only a copy that the service keeps itself; `None` where it is the first location.
    async fn synced(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Makes durable what writes have acknowledged before this call, where they may be acknowledged earlier than that
    /// ([`local::SyncMode::Batched`]): before anything durable says that the objects are there, before metadata names them,
    /// and before a delete. An error is for good, and what it may have lost is gone from the store.
    async fn settle(&self) -> Result<()>;

    /// Removes objects, at most `delete_batch`; the result has one answer a key, in their order. A missing object is no
    /// error. Folders that became empty below the root are removed with their last object.
    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>>;
}

/// A store in which runs that died leave temporary files, which the next run removes, and in which folders stay when what
/// they were made for is gone.
#[async_trait]
pub trait Sweep: Debug + Send + Sync {
    /// Temporary files of ours that are at least `min_age` old, at most [`MAX_LEFTOVERS`] a call; only those that stand in
    /// these folders, if any are named.
    async fn leftovers(&self, min_age: Duration, within: Option<Arc<Folders>>) -> Result<Vec<Leftover>>;

    /// Removes one; a missing one is no error.
    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()>;

    /// How many folders the next write makes: the root, if it is missing, and those above it. A store that is only tried
    /// when its root is there has none.
    async fn missing_folders(&self) -> Result<usize> {
        Ok(0)
    }

    /// Removes the root and folders above it, `count` in all, from the lowest up, as long as they are empty: what a tried
    /// write has made. One that holds anything stays, which is no error.
    async fn remove_made_folders(&self, _count: usize) -> Result<()> {
        Ok(())
    }
}
