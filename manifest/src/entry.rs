//! What is known of one object: what a listing says, and what a manifest keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chunk::ChunkSize;
use crate::hash::{ChunkHash, ContentHash};
use crate::key::ObjectKey;

/// What stands under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Bytes.
    Object,
    /// A symbolic link; its content is the path it points to.
    Symlink,
    /// A folder with nothing in it (stores with real folders only). Its key has no trailing slash.
    Folder,
    /// A socket, pipe or device: listed so that it is counted, never copied.
    Special,
}

/// What says "unchanged" without reading: the cheap identity of one version of one object in one store.
///
/// Object stores have `etag` (and sometimes `version`), file systems `mtime`, `ctime` and `file_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Length of the content in bytes.
    pub size_bytes: u64,
    /// Modification time, nanoseconds since 1970 (negative before), as the store tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime_ns: Option<i64>,
    /// Change time of a local file, nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctime_ns: Option<i64>,
    /// Entity tag, without the quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Version id of a versioned bucket, where the store said it. Never compared: a LIST does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Inode number or HDFS file id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<u64>,
    /// The object was so young when this was taken that a later write could leave the same fingerprint (rule 13): it
    /// proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub racy: bool,
}

impl Fingerprint {
    /// Whether `now` is certainly the same version as this earlier fingerprint: all that both stores' answers name is
    /// equal, at least an ETag or a time is among it, and this one was not racy.
    pub fn proves_unchanged(&self, now: &Fingerprint) -> bool {
        !self.racy && self.looks_like(now)
    }

    /// As [`Fingerprint::proves_unchanged`], but without the age rule: for a check right before and after one read.
    pub fn looks_like(&self, now: &Fingerprint) -> bool {
        fn agree<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        let evidence =
            (self.etag.is_some() && now.etag.is_some()) || (self.mtime_ns.is_some() && now.mtime_ns.is_some());
        evidence
            && self.size_bytes == now.size_bytes
            && agree(&self.etag, &now.etag)
            && agree(&self.mtime_ns, &now.mtime_ns)
            && agree(&self.ctime_ns, &now.ctime_ns)
            && agree(&self.file_id, &now.file_id)
    }

    /// The ETag when it is an MD5 of the content by its form: 32 hexadecimal digits, no part count (rule 11). Whether the
    /// store encrypts (SSE-KMS) cannot be seen in it; callers who know say so by not asking.
    pub fn content_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// How a row's hash is known (rule 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// We read the bytes.
    Read,
    /// Carried over from an earlier manifest whose fingerprint is unchanged.
    Inherited,
    /// Source and target gave the same checksum of the same algorithm.
    StoreChecksum,
    /// Only ETags of equal form agree.
    Etag,
    /// Nothing proves it.
    None,
}

/// Headers and user metadata of an object, sorted. System names are HTTP header names in lower case (`content-type`,
/// `cache-control`, `content-encoding`, `content-disposition`, `content-language`); user metadata is `meta:` and its name.
///
/// What a file system knows and a store does not is user metadata: `meta:mtime` (seconds since 1970 with nine decimals),
/// `meta:understudy-mode` (octal permission bits), `meta:understudy-link` (`true`: the content is a link's target path).
pub type Attributes = BTreeMap<String, String>;

/// One object as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Key below the listed root.
    pub key: ObjectKey,
    /// What stands there.
    pub kind: EntryKind,
    /// Identity of this version.
    pub fingerprint: Fingerprint,
}

/// The chaining values of an object with more than one chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Length of each chunk but the last.
    pub size: ChunkSize,
    /// One value a chunk, in order.
    pub hashes: Vec<ChunkHash>,
}

/// One row of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Key below the manifest's root.
    pub key: ObjectKey,
    /// What stands there.
    pub kind: EntryKind,
    /// BLAKE3 of the content, where it is known.
    pub hash: Option<ContentHash>,
    /// How the hash (or, without one, the equality of both sides) is known.
    pub evidence: Evidence,
    /// Chunks of an object above the chunk size.
    pub chunks: Option<Chunks>,
    /// Identity in the place that the manifest describes.
    pub fingerprint: Fingerprint,
    /// Identity of the source object it is a copy of; only in a job's manifests.
    pub source: Option<Fingerprint>,
    /// Headers and user metadata as last seen at the source (or the place itself outside jobs).
    pub attributes: Attributes,
}

impl Entry {
    /// Length of the content in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.fingerprint.size_bytes
    }
}
