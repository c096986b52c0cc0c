//! All integration tests, as one binary.

mod azure;
mod bad_input_endpoints;
mod bad_input_places;
mod bad_input_state;
mod bad_input_trees;
mod cases_copy;
mod cases_crash;
mod cases_delete;
mod cases_rename;
mod cases_resume;
mod cases_runs;
mod diff_model;
mod faults;
mod faults_trees;
mod kill;
mod object_state;
mod oracles;
mod rules_evidence;
mod rules_guards;
mod rules_state;
mod s3;
mod spine;
mod store_contract;
mod store_model;
mod support_checks;
