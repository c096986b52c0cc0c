//! What integration tests stand on: the store contract, a store that fails on purpose, builders of trees.

pub mod contract;
pub mod fault;
pub mod trees;
