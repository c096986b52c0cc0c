//! A replica as a source of another (rule 33): whether it wrote an event log, as a mark on its databases.
//!
//! A run that writes to a database without an event log says so on each database of the target, before it changes anything
//! else of it, and takes the mark away once it writes one. A run whose source has the mark refuses: its log would look idle
//! while tables change. The mark is replication's own ([`crate::volatile::is_replication`]): it is neither compared nor carried.

use super::survey::Survey;
use crate::compare::Sides;
use crate::metastore::sql::SqlUrl;
use crate::metastore::{Change, Result};
use crate::model::DatabaseName;
use crate::policy::Policy;
use distcp::error::Failure;
use distcp::exit::ExitCode;
use std::collections::BTreeMap;

/// The parameter of a database of which no event log is written.
pub const MARK: &str = "understudy.target_events";
/// The mark's value: what the policy says.
const OFF: &str = "false";
/// How many databases a message shows.
const DATABASES_SHOWN: usize = 10;

/// What the mark of this policy's target shall be. Behind Thrift the server's listener writes the log.
fn wanted(policy: &Policy) -> Option<String> {
    (SqlUrl::is_one(&policy.target) && !policy.options.target_events).then(|| OFF.to_owned())
}

/// What has to change of the marks on the target's databases.
///
/// # Errors
/// The target cannot be read.
pub(super) async fn marks(sides: &Sides, survey: &Survey) -> Result<Vec<Change>> {
    let wanted = wanted(&sides.policy);
    let marked: BTreeMap<DatabaseName, String> = sides
        .target
        .databases()
        .await?
        .into_iter()
        .filter_map(|mut database| Some((database.name, database.parameters.remove(MARK)?)))
        .collect();
    let changes = survey.databases.iter().filter(|database| marked.get(&database.target) != wanted.as_ref());
    let change = |database: &DatabaseName| Change::SetDatabaseParameter {
        database: database.clone(),
        key: MARK.to_owned(),
        expected: marked.get(database).cloned(),
        value: wanted.clone(),
    };
    Ok(changes.map(|database| change(&database.target)).collect())
}

/// Refuses a source that is a replica without an event log.
///
/// # Errors
/// Exit code 5, with the databases; the source cannot be read.
pub(super) async fn source_logs(sides: &Sides) -> std::result::Result<(), Failure> {
    let databases = sides.source.databases().await.map_err(super::failure)?;
    let marked: Vec<String> = databases
        .into_iter()
        .filter(|database| sides.policy.scope.takes_database(&database.name) && database.parameters.contains_key(MARK))
        .map(|database| database.name.to_string())
        .collect();
    if marked.is_empty() {
        return Ok(());
    }
    let more = match marked.len().saturating_sub(DATABASES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = marked.iter().take(DATABASES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    Err(Failure::new(
        ExitCode::Refused,
        format!(
            "{shown}{more} of the source are replicas whose runs write no event log: what changes there is not told"
        ),
    )
    .hint("set target_events = true in the policy that feeds them and run it; then this one goes on"))
}
