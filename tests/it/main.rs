//! All integration tests, as one binary.

mod object_state;
mod spine;
mod store_contract;
mod store_model;
mod support_checks;
