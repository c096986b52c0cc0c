//! The Hive Metastore's Thrift service: structs and calls made at build time from `idl/hive_metastore.thrift`, and the
//! TBinary codec under them.
//!
//! The IDL is our own superset of Hive 2.3, 3.1 and 4.x: field ids, names and types are facts of the protocol, read in
//! Apache Hive's three official IDLs. Reading keeps every field that the IDL does not name ([`wire::Unknown`]), and
//! writing puts it back: what a newer server says survives a round trip through an older us.
//!
//! The codec is ours, because what exists does not fit: pilota's decoder for streams (the one that volo uses without
//! frames, which is how a metastore speaks) drops unknown fields, and its decoder for buffers trusts lengths and text.
//! Here a message is found whole first ([`scan::Scanner`]), then decoded from bytes that are all there. Nothing in this
//! crate does I/O, panics on what it reads, or allocates more than what it read justifies.

pub mod message;
pub mod scan;
pub mod wire;

#[allow(missing_docs, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

pub use generated::{ExceptionKind, api, calls};
