//! Copies and mirrors object trees by content-hash manifests.
//!
//! ```text
//! list(source) -> sort -> manifest ----\
//!                                       diff -> plan -> copy -> verify -> commit
//! last target manifest (or list) ------/
//! ```
//!
//! The library neither prints, exits nor reads the environment.

pub mod assemble;
pub mod beacon;
pub mod catalog;
pub mod check;
pub mod commit;
#[cfg(feature = "cli")]
pub mod console;
pub mod copy;
pub mod error;
pub mod event;
pub mod exit;
mod feed;
pub mod filter;
pub mod job;
pub mod jobs;
pub mod layout;
pub mod list;
pub mod options;
pub mod place;
pub mod plan;
pub mod planning;
pub mod progress;
pub mod quantity;
pub mod run;
pub mod scan;
pub mod session;
pub mod settings;
pub mod store;
pub mod summary;
pub mod trash;
pub mod verify;
