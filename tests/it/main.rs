//! All integration tests, as one binary.

mod spine;
mod store_contract;
mod support_checks;
