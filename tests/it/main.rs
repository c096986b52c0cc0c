//! All integration tests, as one binary.

mod store_contract;
mod support_checks;
