//! What integration tests stand on: the store contract, a store that fails on purpose, builders of trees, jobs over any
//! two stores, and the real servers.

pub mod between;
pub mod captured;
pub mod cli;
pub mod contract;
pub mod crash;
pub mod cut;
pub mod delta;
pub mod fault;
pub mod gcs;
pub mod hive;
pub mod hms;
pub mod iceberg;
pub mod jobs;
pub mod lake;
mod listening;
pub mod metastores;
pub mod odd;
pub mod proxy;
pub mod running;
pub mod served;
pub mod services;
pub mod sites;
pub mod sql;
pub mod timing;
pub mod trees;
