//! A replica as a source of another (rule 33): whether it wrote an event log, as a mark on its databases.
//!
//! A run that writes to a database without an event log says so on each database of the target, before it changes anything
//! else of it, and takes the mark away once it writes one. A run whose source has the mark refuses: its log would look idle
//! while tables change. What was emptied on purpose is told on, so that the next hop knows it, too (rule 27); that comes after
//! the files are gone, and is said again by the run after a crash. Pure. The mark is replication's own ([`crate::volatile::is_replication`]): it is neither compared nor carried.

use super::events::Seen;
use super::state::Emptied;
use super::survey::{DatabaseWork, Survey};
use crate::metastore::Change;
use crate::metastore::sql::SqlUrl;
use crate::model::{PartitionName, TableName};
use crate::policy::Policy;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use std::collections::BTreeMap;

/// The parameter of a database of which no event log is written.
pub(super) const MARK: &str = "understudy.target_events";
/// The mark's value: what the policy says.
const OFF: &str = "false";
/// How many databases a message shows.
const DATABASES_SHOWN: usize = 10;

/// What the mark of this policy's target shall be. Behind Thrift the server's listener writes the log.
fn wanted(policy: &Policy) -> Option<String> {
    (SqlUrl::is_one(&policy.target) && !policy.options.target_events).then(|| OFF.to_owned())
}

/// What has to change of the marks on the target's databases.
pub(super) fn marks(policy: &Policy, survey: &Survey) -> Vec<Change> {
    let wanted = wanted(policy);
    let changes = survey.databases.iter().filter(|database| database.mark != wanted);
    let change = |database: &DatabaseWork| Change::SetDatabaseParameter {
        database: database.target.clone(),
        key: MARK.to_owned(),
        expected: database.mark.clone(),
        value: wanted.clone(),
    };
    changes.map(change).collect()
}

/// What the next hop has to hear of once the files are gone: tables and partitions that were emptied on purpose.
pub(super) fn emptied(survey: &Survey, seen: &Seen) -> Vec<Change> {
    let carried = survey.tables.iter().filter(|table| table.quarantine.is_none());
    let targets: BTreeMap<&TableName, &TableName> = carried.map(|table| (&table.source, &table.target)).collect();
    let tell = |Emptied { catalog, database, table, partition }: &Emptied| {
        let name = TableName { catalog: catalog.clone(), database: database.clone(), table: table.clone() };
        let partition = partition.clone().map(PartitionName);
        targets.get(&name).map(|table| Change::TellEmptied { table: TableName::clone(table), partition })
    };
    seen.emptied.iter().filter_map(tell).collect()
}

/// Refuses a source that is a replica without an event log: exit code 5, with the databases.
pub(super) fn source_logs(survey: &Survey) -> Result<()> {
    if survey.unlogged.is_empty() {
        return Ok(());
    }
    let more = match survey.unlogged.len().saturating_sub(DATABASES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown: Vec<String> = survey.unlogged.iter().take(DATABASES_SHOWN).map(ToString::to_string).collect();
    let shown = shown.join(", ");
    Err(Failure::new(
        ExitCode::Refused,
        format!(
            "{shown}{more} of the source are replicas whose runs write no event log: what changes there is not told"
        ),
    )
    .hint("set target_events = true in the policy that feeds them and run it; then this one goes on"))
}
