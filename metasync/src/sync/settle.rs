//! What a run came to: the state from which the next one starts, its exit code, the as-of of the replica. Pure.
//!
//! What was not brought to its end stays as the last run left it, with an intent that names it.

use super::apply::Applied;
use super::data::Tree;
use super::planned::Planned;
use super::report::SyncSummary;
use super::state::{DatabaseState, Intent, PathState, Quarantine, Rules, SyncState, TableState};
use super::still;
use super::survey::{self, Survey, TableWork};
use crate::location::Location;
use crate::model::TableName;
use crate::policy::Policy;
use crate::roots::{Owner, Root};
use distcp::copy::Ends;
use distcp::exit::ExitCode;
use distcp::quantity::counted;
use distcp::run::Report;
use jiff::Timestamp;
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

/// What carrying a plan out came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// Metadata.
    pub applied: Applied,
    /// Tables whose data is not there.
    pub lacking: Lacking,
    /// Metadata was changed.
    pub reached: bool,
    /// How the copies ended.
    pub jobs: Vec<(Root, Report)>,
    /// The trees of data that were copied.
    pub copied: Vec<Tree>,
    /// Tables of which something was left as it is because readers are in its folder: the next round goes on.
    pub held: BTreeSet<usize>,
    /// Objects of these that were found to differ, by their trees.
    pub differs: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// How the copies of plain trees ended.
    pub paths: Vec<(String, Report)>,
}

/// Why functions wait whose files nobody counted to the end.
const BROKE_OFF: &str = "the copy of their files did not come to its end";

/// Tables whose data is not all on the target: their metadata waits.
#[derive(Default)]
pub(super) struct Lacking {
    /// Of which an object failed, with the first error.
    pub failed: BTreeMap<usize, String>,
    /// Whose copy did not come to its end; its job says why.
    pub waiting: BTreeSet<usize>,
    /// Databases whose functions lack a file, by their place in the survey, with why.
    pub functions: BTreeMap<usize, String>,
    /// Folders of the target of which nothing is on record that is to go (rule 28).
    pub removals: Vec<Location>,
}

impl Lacking {
    /// What these copies left: the tree, what failed in it, whether it came to its end.
    pub fn add<'a>(
        &mut self,
        trees: impl IntoIterator<Item = (&'a Root, BTreeMap<Owner, String>, &'a Option<Ends>)>,
        survey: &Survey,
    ) {
        let carried = |at: &usize| survey.tables.get(*at).is_some_and(|table| table.quarantine.is_none());
        let table = |owner: &Owner| match owner {
            Owner::Table(at) => Some(*at).filter(carried),
            Owner::Database(_) | Owner::Removal => None,
        };
        for (root, failures, ends) in trees {
            if ends.is_none() {
                let removals = root.folders.iter().filter(|(_, owners)| owners.contains(&Owner::Removal));
                self.removals.extend(removals.map(|(key, _)| root.to.below(&key.escaped())));
                let left = survey.left.iter().filter(|(_, folder)| root.to.overlaps(folder));
                self.waiting.extend(left.map(|(at, _)| *at));
                self.waiting.extend(root.folders.values().flatten().filter_map(table));
                for owner in root.folders.values().flatten() {
                    if let Owner::Database(at) = owner {
                        self.functions.entry(*at).or_insert_with(|| BROKE_OFF.to_owned());
                    }
                }
            }
            for (owner, error) in failures {
                if let Owner::Database(at) = owner {
                    self.functions.entry(at).or_insert_with(|| error.clone());
                }
                if let Some(at) = table(&owner) {
                    self.failed.entry(at).or_insert(error);
                }
            }
        }
    }

    /// All of them.
    pub fn tables(&self) -> BTreeSet<usize> {
        self.failed.keys().chain(&self.waiting).copied().collect()
    }
}

/// What is known at the end of a run.
pub(super) struct Settling<'a> {
    /// What it meant to do.
    pub planned: &'a Planned,
    /// What it did.
    pub outcome: &'a Outcome,
    /// For whom.
    pub policy: &'a Policy,
    /// It was about all tables.
    pub is_all: bool,
    /// The code of the signal that ended it.
    pub stopped: Option<ExitCode>,
    /// A run before may have written files that no manifest knows.
    pub half_done: bool,
    /// The as-of before it.
    pub last: Option<Timestamp>,
}

/// Whether a copy did all it could, and deletes nothing because tables of its tree are not as they shall be: what is wrong
/// with those is said of them, and a table that only moved on is no error.
fn is_held_back(report: &Report) -> bool {
    let Report { summary, failure } = report;
    summary.exit_code == ExitCode::Partial
        && failure.is_none()
        && summary.counts.failed == 0
        && summary.errors.is_empty()
}

fn is_done(report: &Report) -> bool {
    report.summary.exit_code == ExitCode::Done
}

/// Why a copy did not do all.
fn why(report: &Report) -> String {
    let Report { summary, failure } = report;
    let first = failure.as_ref().map(|failure| &failure.message).or(summary.errors.first());
    let failed = (summary.counts.failed > 0).then(|| counted(summary.counts.failed, "object failed", "objects failed"));
    let words = failed.into_iter().chain(first.cloned()).collect::<Vec<_>>();
    if words.is_empty() { summary.outcome.to_owned() } else { words.join(": ") }
}

impl Settling<'_> {
    /// Makes the state what the next run needs, and the summary what the operator does. Returns whether all was done.
    pub fn settle(&self, new: &mut SyncState, summary: &mut SyncSummary) -> bool {
        let (outcome, survey) = (self.outcome, &self.planned.survey);
        let mut codes: Vec<ExitCode> = self.stopped.into_iter().collect();
        codes.extend(self.failed_jobs(summary));
        let jobs = self.outcome.jobs.iter().map(|(_, report)| report);
        let paths = self.outcome.paths.iter().map(|(_, report)| report);
        let jobs_done = jobs.clone().all(is_done);
        let paths_done = self.planned.paths.failed.is_empty() && paths.clone().all(is_done);
        // What failed to be copied is known; where a copy broke off, its journal may lack what was written last.
        let ended_well = jobs.chain(paths).all(|report| report.failure.is_none());
        let mut unfinished = self.tables(new, summary);
        self.databases(new, summary, &mut unfinished);
        let before = new.intent.take().unwrap_or_default();
        let others = self.others(&before);
        unfinished.tables.extend(others.iter().cloned());
        let (fresh, done): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.fresh.into_iter().partition(|(_, table)| unfinished.tables.contains(table));
        unfinished.fresh = fresh;
        // What a fresh folder got of a version that moved on is in no manifest either.
        unfinished.carrying = self.stopped.is_some() || !ended_well || !outcome.held.is_empty() || !others.is_empty();
        // Nor was what such a run left looked after where a tree was held back.
        unfinished.carrying |= self.half_done && !jobs_done;
        let any = !unfinished.tables.is_empty() || !unfinished.databases.is_empty() || unfinished.carrying;
        new.intent = any.then_some(unfinished);
        let carried = jobs_done && outcome.reached;
        if carried {
            if self.is_all {
                new.removals.clear();
                new.leaving.clone_from(&self.planned.leaving);
            }
            new.removals.retain(|folder| !self.planned.removals.contains(folder));
            new.removals.extend(self.planned.postponed.iter().cloned());
            new.retired.retain(|folder, _| !self.planned.retiring.contains(folder));
        }
        // What was copied of a table that is not carried now is asked about: the table may be gone before it is.
        let quarantined: BTreeSet<(&str, &str)> = survey
            .tables
            .iter()
            .filter(|table| table.quarantine.is_some())
            .map(|table| (table.target.database.as_str(), table.target.table.as_str()))
            .collect();
        let left_out = done.into_iter().filter(|(_, (database, table))| quarantined.contains(&(database, table)));
        let left = |(folder, _): (String, _)| Some((folder.clone(), self.planned.left(&folder)?));
        new.leaving.extend(left_out.filter_map(left));
        if self.is_all {
            self.advance(new, carried);
        }
        if outcome.reached {
            self.keep_filled(new);
        }
        summary.tables.quarantined = summary.quarantined.len() as u64;
        let applied = &outcome.applied;
        self.uncarried(new, summary);
        let is_odd = !applied.functions.is_empty() || !applied.kept.is_empty() || !survey.damaged.is_empty();
        if !summary.quarantined.is_empty() || is_odd {
            codes.push(ExitCode::Partial);
        }
        let held_up: Vec<String> = survey.held_up().map(|table| table.source.to_string()).collect();
        let all_there = outcome.applied.behind.is_empty() && outcome.lacking.waiting.is_empty() && held_up.is_empty();
        // A function that the target does not hold as the source has it belongs to no table that could say so.
        let moves = carried && all_there && self.is_all && outcome.applied.functions.is_empty();
        if let Some(paths) = self.paths(new).filter(|_| moves) {
            let quarantined = new.quarantined().map(|(_, one)| one).chain(new.uncarried.values());
            let kept = quarantined.filter_map(|one| one.as_of.as_deref()?.parse::<Timestamp>().ok());
            let looks = self.planned.unseen.values().copied();
            let as_of = kept.chain(looks).chain(paths).fold(self.planned.at_best, Timestamp::min);
            summary.as_of = Some(as_of.to_string());
        }
        let complete = moves && paths_done;
        let behind = outcome.applied.behind.iter().chain(&outcome.lacking.waiting);
        summary.behind = behind.map(|at| survey.tables[*at].source.to_string()).chain(held_up).collect();
        summary.end(ExitCode::first(codes));
        complete
    }

    /// Tables that a run before was about to change, and that this one, of some tables, is not about.
    fn others(&self, before: &Intent) -> BTreeSet<(String, String)> {
        if self.is_all {
            return BTreeSet::new();
        }
        let surveyed = self.planned.survey.tables.iter();
        let surveyed: BTreeSet<(&str, &str)> =
            surveyed.map(|table| (table.target.database.as_str(), table.target.table.as_str())).collect();
        let is_other = |(database, table): &&(String, String)| !surveyed.contains(&(database, table));
        before.tables.iter().filter(is_other).cloned().collect()
    }

    /// Objects other than tables that are not in step: each shows what it did before it went wrong, and one that was wrong from
    /// the first complete run on holds nothing up, as a table that was never carried.
    fn uncarried(&self, new: &mut SyncState, summary: &mut SyncSummary) {
        let applied = &self.outcome.applied;
        let damaged = self.planned.survey.damaged.iter();
        let damaged = damaged.map(|one| (one.object.clone(), format!("{} is not carried: ", one.object), &one.why));
        let kept = applied.kept.iter();
        let kept =
            kept.map(|(name, why)| (format!("database {name}"), format!("database {name} is not dropped: "), why));
        let mut found: BTreeMap<String, &String> = BTreeMap::new();
        for (object, words, why) in damaged.chain(kept) {
            summary.errors.push(format!("{words}{why}"));
            found.insert(object, why);
        }
        let functions = applied.functions.iter();
        found.extend(functions.map(|(database, why)| (format!("functions of {database}"), why)));
        let last = self.last.map(|time| time.to_string());
        let mut before = std::mem::take(&mut new.uncarried);
        for (object, why) in found {
            let as_of = before.remove(&object).map_or_else(|| last.clone(), |left| left.as_of);
            new.uncarried.insert(object, Quarantine { error: why.clone(), as_of });
        }
        if !self.is_all {
            new.uncarried.extend(before);
        }
    }

    /// What was left of the plain trees. Returns what those still show that failed; `None` if one of them never was whole.
    fn paths(&self, new: &mut SyncState) -> Option<Vec<Timestamp>> {
        if !self.is_all {
            return Some(Vec::new());
        }
        let mut before = std::mem::take(&mut new.paths);
        let mut kept = Some(Vec::new());
        let shows = |state: &PathState| state.as_of.as_deref().and_then(|as_of| as_of.parse().ok());
        let mut hold = |state: &PathState| {
            kept = kept.take().zip(shows(state)).map(|(mut kept, shows): (Vec<Timestamp>, _)| {
                kept.push(shows);
                kept
            });
        };
        for (name, (_, why)) in &self.planned.paths.failed {
            let state = PathState { error: Some(why.clone()), ..before.remove(name).unwrap_or_default() };
            hold(&state);
            new.paths.insert(name.clone(), state);
        }
        for (path, draft) in &self.planned.paths.planned {
            let report = self.outcome.paths.iter().find(|(name, _)| *name == path.name).map(|(_, report)| report);
            let state = match report.filter(|report| !is_done(report)) {
                None => PathState { as_of: Some(draft.as_of.to_string()), error: None },
                // Nothing is wrong with what a signal ended.
                Some(_) if self.stopped.is_some() => before.remove(&path.name).unwrap_or_default(),
                Some(report) => PathState { error: Some(why(report)), ..before.remove(&path.name).unwrap_or_default() },
            };
            if state.error.is_some() {
                hold(&state);
            }
            new.paths.insert(path.name.clone(), state);
        }
        kept
    }

    /// The codes of the copies that did not do all.
    fn failed_jobs(&self, summary: &mut SyncSummary) -> Vec<ExitCode> {
        let jobs = self.outcome.jobs.iter().map(|(root, report)| (format!("data of {}", root.from), report));
        let paths = self.outcome.paths.iter().map(|(name, report)| (format!("path {name}"), report));
        let failed = jobs.chain(paths).filter(|(_, report)| !is_done(report));
        let mut codes = Vec::new();
        for (name, (code, why)) in &self.planned.paths.failed {
            codes.push(*code);
            summary.errors.push(format!("path {name}: {why}"));
        }
        for (name, report) in failed {
            codes.extend((!is_held_back(report)).then_some(report.summary.exit_code));
            summary.errors.extend(report.failure.as_ref().map(|failure| format!("{name}: {}", failure.message)));
        }
        codes
    }

    /// What the target holds of each table now; returns what is between two states.
    fn tables(&self, new: &mut SyncState, summary: &mut SyncSummary) -> Intent {
        let mut unfinished = Intent::default();
        for (at, table) in self.planned.survey.tables.iter().enumerate() {
            let (database, name) = (&table.target.database, &table.target.table);
            let entry = new.databases.entry(database.clone()).or_default().tables.entry(name.clone()).or_default();
            if self.is_half_done(at) && table.differs() {
                unfinished.tables.insert((database.clone(), name.clone()));
            }
            self.left(at, table, entry);
            let trouble = self.trouble(at, table, entry);
            entry.quarantined = trouble.map(|error| {
                summary.quarantined.push((table.source.to_string(), error.clone()));
                survey::quarantine(error, Some(&*entry), self.last.map(|time| time.to_string()))
            });
            summary.tables.touched += u64::from(table.differs());
            summary.tables.applied += u64::from(self.outcome.applied.done.contains_key(&at));
        }
        let applied = &self.outcome.applied;
        for table in &applied.dropped {
            if let Some(database) = new.databases.get_mut(&table.database) {
                database.tables.remove(&table.table);
            }
            summary.tables.applied += 1;
            summary.tables.touched += 1;
        }
        new.databases.retain(|name, _| !applied.gone.contains(name));
        for (table, why) in &applied.undropped {
            let entry = new.databases.entry(table.database.clone()).or_default().tables.entry(table.table.clone());
            let entry = entry.or_default();
            let why = format!("it is gone at the source, and the target does not drop it: {why}");
            summary.quarantined.push((table.to_string(), why.clone()));
            let last = self.last.map(|time| time.to_string());
            entry.quarantined = Some(survey::quarantine(why, Some(&*entry), last));
            summary.tables.touched += 1;
        }
        if self.is_all {
            self.forget_absent(new);
        }
        let is_known = |table: &TableState| table.digest.is_some() || table.quarantined.is_some();
        new.databases.values_mut().for_each(|database| database.tables.retain(|_, table| is_known(table)));
        unfinished
    }

    /// Tables that neither side has any more: somebody dropped them on the target, and the source did, too.
    fn forget_absent(&self, new: &mut SyncState) {
        let survey = &self.planned.survey;
        let named = survey.tables.iter().map(|table| &table.target).chain(survey.drops.iter().map(|drop| &drop.target));
        let named: BTreeSet<(&str, &str)> =
            named.map(|target| (target.database.as_str(), target.table.as_str())).collect();
        for database in survey.databases.iter().map(|database| &database.target.database) {
            if let Some(state) = new.databases.get_mut(database) {
                state.tables.retain(|table, _| named.contains(&(database.as_str(), table.as_str())));
            }
        }
    }

    /// Some of its metadata may have changed, or was meant to.
    fn is_half_done(&self, at: usize) -> bool {
        let Outcome { applied, lacking, reached, .. } = self.outcome;
        let held_back = applied.behind.contains(&at) || lacking.waiting.contains(&at) || !reached;
        !applied.done.contains_key(&at) && (applied.failed.contains_key(&at) || held_back)
    }

    fn left(&self, at: usize, table: &TableWork, entry: &mut TableState) {
        match (self.outcome.applied.done.get(&at), &table.digest) {
            (Some((digest, partitions)), _) => {
                (entry.digest, entry.partitions) = (Some(digest.clone()), *partitions);
            }
            (None, Some(_)) if self.is_half_done(at) && table.differs() => {}
            (None, _) if table.unread => {}
            (None, digest) => (entry.digest, entry.partitions) = (digest.clone(), table.there),
        }
    }

    /// Why a table is not in step. One that waits for its data keeps the word of an earlier run.
    fn trouble(&self, at: usize, table: &TableWork, entry: &TableState) -> Option<String> {
        let Outcome { applied, lacking, reached, .. } = self.outcome;
        let own = table.quarantine.as_ref().or(lacking.failed.get(&at)).or(applied.failed.get(&at)).cloned();
        let waits = lacking.waiting.contains(&at) || !reached;
        own.or_else(|| entry.quarantined.as_ref().filter(|_| waits).map(|before| before.error.clone()))
    }

    fn databases(&self, new: &mut SyncState, summary: &mut SyncSummary, unfinished: &mut Intent) {
        for database in &self.planned.survey.databases {
            let name = &database.target.database;
            let entry: &mut DatabaseState = new.databases.entry(name.clone()).or_default();
            entry.source.clone_from(&database.source.database);
            entry.location.clone_from(&database.location);
            match self.outcome.applied.functions.get(name) {
                Some(error) => {
                    summary.errors.push(format!("functions of {}: {error}", database.target));
                    unfinished.databases.insert(name.clone());
                }
                None if self.outcome.reached => entry.digest.clone_from(&database.digest),
                None => {
                    unfinished.databases.insert(name.clone());
                }
            }
        }
    }

    /// What files came into is looked for again while its table is not in step, and of tables that this run is not about.
    fn keep_filled(&self, new: &mut SyncState) {
        let surveyed = self.planned.survey.tables.iter();
        let targets: BTreeMap<&TableName, &TableName> = surveyed.map(|table| (&table.source, &table.target)).collect();
        let is_kept = |table: &TableName| match targets.get(table) {
            Some(target) => new.table(&target.database, &target.table).is_some_and(|left| left.quarantined.is_some()),
            None => !self.is_all,
        };
        new.filled = self.planned.seen.filled_of(is_kept);
    }

    /// How far the replica is. What a run did not come to, the next one has to hear of again.
    fn advance(&self, new: &mut SyncState, carried: bool) {
        let planned = self.planned;
        if carried {
            let kept = planned.unseen.iter().map(|(tree, look)| (tree.clone(), look.to_string()));
            let looked = planned.looked.iter().map(|tree| (tree.clone(), planned.asked.to_string()));
            new.looks = kept.chain(looked).collect();
        } else {
            // What was looked at was not brought: `sweep` spares no look at it.
            new.looks.retain(|tree, _| !planned.looked.contains(tree));
        }
        if self.outcome.reached {
            new.rules = Rules::of(self.policy);
            new.policy = still::of_policy(self.policy);
            new.position.clone_from(&planned.seen.position);
            new.window.clone_from(&planned.seen.window);
            new.explained = if carried { BTreeSet::new() } else { planned.seen.left_over() };
        }
    }
}

#[cfg(test)]
mod tests;
