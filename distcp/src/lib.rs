//! Copies and mirrors object trees by content-hash manifests.
//!
//! ```text
//! list(source) -> sort -> manifest ----\
//!                                       diff -> plan -> copy -> verify -> commit
//! last target manifest (or list) ------/
//! ```
//!
//! The library neither prints, exits nor reads the environment.

pub mod place;
pub mod settings;
pub mod store;
