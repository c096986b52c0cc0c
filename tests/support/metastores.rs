//! What tests of metastores stand on: a set of objects that uses every part of the model, the contract of adapters, and
//! every adapter over something real.

pub mod adapters;
pub mod contract;
pub mod objects;
