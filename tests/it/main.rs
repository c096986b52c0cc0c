//! All integration tests, as one binary.

mod cases_copy;
mod cases_delete;
mod cases_rename;
mod cases_resume;
mod object_state;
mod spine;
mod store_contract;
mod store_model;
mod support_checks;
