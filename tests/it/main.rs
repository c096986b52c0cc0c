//! All integration tests, as one binary.

mod kill;
mod object_state;
mod oracles;
mod spine;
mod store_contract;
mod store_model;
mod support_checks;
