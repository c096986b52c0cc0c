//! What changed at the source although no event says so (rule 25). It is carried all the same, and named: a log that was switched
//! off, or that lost an event, is not taken for an idle one.
//!
//! Three ways to notice: an object was in step when the last run ended and is not now, and no event names it; an object came or
//! went, and no event names it; it is not as the last event of it says (rule 22, [`witness`](super::witness)). What is not in step
//! for another reason is not named: the target drifted, the policy is another one, the last run did not come to its end.

use super::Metastores;
use super::events::Seen;
use super::state::{DatabaseState, SyncState};
use super::still;
use super::survey::{DatabaseWork, Survey, TableWork};
use crate::event::{self, Touches};
use crate::model::{DatabaseName, TableName};
use crate::policy::Policy;
use distcp::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// How many events that came in during a look are asked what they explain.
const LATER_EVENTS: usize = 1_000;
/// Events by which writes come to count, or never will; they do not say of which tables.
const ENDS_OF_WRITES: [&str; 2] = ["ABORT_TXN", "COMMIT_TXN"];

/// Objects of the source that changed although no event says so, each with one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unexplained {
    /// Databases themselves and their functions. Those that are gone have the target's name.
    pub databases: BTreeMap<DatabaseName, String>,
    /// Tables and their partitions. Those that are gone have the target's name.
    pub tables: BTreeMap<TableName, String>,
}

impl Unexplained {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.tables.is_empty()
    }

    /// Takes out what a later event is about.
    fn explain(&mut self, later: &Touches, policy: &Policy) {
        for table in later.tables() {
            self.tables.remove(table);
            self.tables.remove(&policy.target_table(table));
        }
        for database in later.databases() {
            self.databases.remove(database);
            self.tables.retain(|table, _| table.database() != *database);
        }
    }
}

/// Adds to what a witness found what no event of the log names. `state` is what the last run left.
pub(super) fn find(
    mut found: Unexplained,
    seen: &Seen,
    survey: &Survey,
    state: Option<&SyncState>,
    policy: &Policy,
) -> Unexplained {
    // Of what was not read nobody can say that it says nothing.
    let Some(state) = state.filter(|_| seen.is_read) else { return Unexplained::default() };
    if state.intent.is_some() || state.policy != still::of_policy(policy) {
        return found;
    }
    for database in survey.databases.iter().filter(|database| !seen.databases.contains(&database.source)) {
        let left = state.databases.get(&database.target.database);
        if let Some(why) = of_database(database, left) {
            found.databases.entry(database.source.clone()).or_insert_with(|| why.to_owned());
        }
    }
    let ended_writes = ENDS_OF_WRITES.iter().any(|end| seen.by_type.contains_key(*end));
    for table in survey.tables.iter().filter(|table| !seen.touched.contains(&table.source)) {
        let left = state.databases.get(&table.target.database);
        let by_a_write = ended_writes && table.acid.is_some();
        if let Some(why) = of_table(table, left).filter(|_| !by_a_write) {
            found.tables.entry(table.source.clone()).or_insert_with(|| why.to_owned());
        }
    }
    let touched: BTreeSet<TableName> = seen.touched.iter().map(|table| policy.target_table(table)).collect();
    for drop in survey.drops.iter().filter(|drop| !drop.by_others && !touched.contains(&drop.target)) {
        let left = state.table(&drop.target.database, &drop.target.table);
        if left.is_some_and(|left| left.digest.is_some() && left.quarantined.is_none()) {
            found.tables.entry(drop.target.clone()).or_insert_with(|| "it is gone and no event says so".to_owned());
        }
    }
    let touched: BTreeSet<DatabaseName> = seen.databases.iter().map(|name| policy.target_database(name)).collect();
    for database in survey.gone.iter().filter(|database| !touched.contains(database)) {
        found.databases.entry(database.clone()).or_insert_with(|| "it is gone and no event says so".to_owned());
    }
    found
}

fn of_database(database: &DatabaseWork, left: Option<&DatabaseState>) -> Option<&'static str> {
    let differs = !database.changes.is_empty() || !database.functions.is_empty();
    match left {
        None => database.is_new.then_some("it was made and no event says so"),
        Some(_) => (differs && !database.drifted).then_some("it changed and no event says so"),
    }
}

fn of_table(table: &TableWork, left: Option<&DatabaseState>) -> Option<&'static str> {
    // All of a database that came is said of the database.
    let left = left?.tables.get(&table.target.table);
    if !table.differs() || table.drifted {
        return None;
    }
    match left {
        None => Some("it was made and no event says so"),
        Some(left) => {
            (left.digest.is_some() && left.quarantined.is_none()).then_some("it changed and no event says so")
        }
    }
}

/// Takes out what events explain that came in while the source was looked at: over Thrift a read shows what happened since the
/// log was read, and a listener that does not write in the change's own transaction writes after it. Where they cannot all be
/// asked, nothing stays.
pub(super) async fn explain(
    stores: &Metastores,
    seen: &Seen,
    policy: &Policy,
    mut found: Unexplained,
) -> Result<Unexplained> {
    if found.is_empty() {
        return Ok(found);
    }
    let source = stores.source.snapshot().await.map_err(super::failure)?;
    let after = seen.position.as_ref().map_or(0, |position| position.id - 1);
    let later = source.events_after(after, LATER_EVENTS).await.map_err(super::failure)?;
    if later.len() == LATER_EVENTS {
        return Ok(Unexplained::default());
    }
    // The first is the one that was read last.
    for row in later
        .iter()
        .filter(|row| seen.position.as_ref().is_none_or(|position| position.digest != Some(event::digest(row))))
    {
        match event::decode(row) {
            Ok(event) => found.explain(&event.touches(), policy),
            Err(_) => return Ok(Unexplained::default()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
