//! Keeps a second Hive Metastore in step with the first.
//!
//! [`model`] is what a metastore holds, as plain data; [`metastore`] is the one door to real ones. Like all libraries here it
//! never prints, ends the process or reads its environment.

pub mod acid;
pub mod carry;
pub mod compare;
pub mod event;
pub mod held;
pub mod iceberg;
pub mod location;
pub mod log;
pub mod metastore;
pub mod model;
pub mod object;
pub mod policy;
pub mod rewrites;
pub mod roots;
pub mod sync;
pub mod translate;
pub mod volatile;
pub mod walk;
