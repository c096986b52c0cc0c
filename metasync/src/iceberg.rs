//! The metadata of Iceberg tables, rewritten for the place where a replica's files stand.
//!
//! Pure. `metadata.json`, manifest lists and manifests name their files by absolute paths (iceberg.apache.org/spec): each is taken
//! through the policy's map, and with them the lengths of manifests, which change. Everything else stays as its writer left it:
//! schemas with their field ids, user metadata and codec of Avro files are the same bytes, and of JSON unknown fields and
//! their order. The same input and map give the same bytes, so that a later run, or a verification, makes them again and compares.
//! What cannot be rewritten without a doubt is an error in words: a path that no pair maps, a later format, delete files,
//! encryption. Nothing here trusts a length or a type that a file states.

mod avro;
mod json;
mod manifests;
mod metadata;

pub use manifests::{Manifest, ManifestFile, ManifestList, manifest, manifest_list};
pub use metadata::{Metadata, metadata};

use crate::location::LocationMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest `metadata.json`, manifest list or manifest that is rewritten, in bytes, as it is stored and unpacked.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Manifests of all versions that a table keeps.
pub const MAX_MANIFESTS: usize = 50_000;
/// Data files of all versions that a table keeps: their names are in memory while a run looks at the table.
pub const MAX_DATA_FILES: usize = 500_000;

/// What a file becomes on a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// As what it is read.
    pub kind: Kind,
    /// How large it is then.
    pub size_bytes: u64,
    /// The BLAKE3 of what it holds then.
    pub hash: blake3::Hash,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `metadata.json`.
    Metadata,
    /// A manifest list, with the lengths of the rewritten manifests by their paths at the source.
    List(Arc<BTreeMap<String, u64>>),
    /// A manifest.
    Manifest,
}

impl Kind {
    /// The bytes of the replica's file.
    pub fn rewrite(&self, file: &[u8], map: &LocationMap) -> Result<Vec<u8>> {
        match self {
            Self::Metadata => metadata(file, map).map(|found| found.rewritten),
            Self::List(lengths) => manifest_list(file, map, Some(lengths)).map(|found| found.rewritten),
            Self::Manifest => manifest(file, map).map(|found| found.rewritten),
        }
    }

    /// What is known of a file that was rewritten so.
    pub fn of(self, rewritten: &[u8]) -> Rewritten {
        Rewritten { kind: self, size_bytes: rewritten.len() as u64, hash: blake3::hash(rewritten) }
    }
}

/// Why a file cannot be rewritten, in words.
pub type Result<T> = std::result::Result<T, String>;

/// Where what this path names stands on the replica.
fn mapped(map: &LocationMap, what: &str, path: &str) -> Result<String> {
    map.map_text(path).ok_or_else(|| format!("{what} {path} is in no [[locations]] of the policy"))
}
