//! What tests of metastores stand on: a set of objects that uses every part of the model, and the contract of adapters.

pub mod contract;
pub mod objects;
