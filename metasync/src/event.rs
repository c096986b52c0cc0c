//! Events of a metastore's notification log.

pub mod tjson;
