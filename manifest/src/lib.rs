//! Manifests of object trees, and the durable state of the jobs that keep trees equal.
//!
//! A *manifest* is a sorted set of Parquet parts, one row an object, named by an index that is written last: without the
//! index the manifest does not exist, and an index that is there names only parts that are. Unchanged stretches of a tree
//! are the same parts in every later manifest. The *state folder* of a job holds its lease, its checkpoint, its manifests
//! and the journal of the run in flight.
//!
//! This crate knows no cloud, copies no object and knows nothing of Hive.

pub mod chunk;
pub mod entry;
pub mod error;
pub mod hash;
pub mod key;
pub mod state;

pub use chunk::ChunkSize;
pub use entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint, Listed};
pub use error::{Class, Error, Result};
pub use hash::{ChunkHash, ContentHash, Hashed, TreeHasher};
pub use key::ObjectKey;
