//! All integration tests, as one binary.

mod diff_model;
mod faults;
mod faults_trees;
mod object_state;
mod spine;
mod store_contract;
mod store_model;
mod support_checks;
