//! Manifests of object trees, and the durable state of the jobs that keep trees equal.
//!
//! A *manifest* is a sorted set of Parquet parts, one row an object, named by an index that is written last: without the
//! index the manifest does not exist, and an index that is there names only parts that are. Unchanged stretches of a tree
//! are the same parts in every later manifest. The *state folder* of a job holds its lease, its checkpoint, its manifests
//! and the journal of the run in flight.
//!
//! This crate knows no cloud, copies no object and knows nothing of Hive.

pub mod check;
pub mod chunk;
pub mod codec;
pub mod contained;
pub mod diff;
pub mod entry;
pub mod error;
pub mod format;
pub mod hash;
pub mod index;
pub mod key;
pub mod reader;
pub mod sort;
pub mod splice;
pub mod state;
pub mod sums;
pub mod writer;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod test_rows;
#[cfg(test)]
mod test_store;

pub use chunk::ChunkSize;
pub use diff::{Comparison, Difference, Keyed, Unlike, compare, diff_manifests, join2, join3};
pub use entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint, Listed};
pub use error::{Class, Error, Result};
pub use hash::{ChunkHash, ContentHash, Hashed, RunHasher, TreeHasher};
pub use index::{Index, IndexMeta, ManifestDigest, ManifestId, ManifestTotals, PartRef};
pub use key::ObjectKey;
pub use reader::Manifest;
pub use sort::{Record, Sorted, Sorter};
pub use splice::{Delta, splice};
pub use writer::ManifestWriter;
