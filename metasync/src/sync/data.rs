//! The data of the tables: one distcp job a tree, all of which meet between copying and deleting.
//!
//! First every job is planned and nothing is written, so that guards and emptied tables are seen before anything moves. Then
//! all copy; when the last has copied, metadata changes; then each may delete. A crash leaves copies that no metadata names,
//! or deletes that were not done: the next run compares again, and a job's own journal says what it had finished.

pub mod acid;
mod delta;
mod gate;

pub use delta::Forks;
pub use gate::carry;

use super::Setting;
use super::doubts::Doubts;
use super::events::Seen;
use super::survey::Survey;
use crate::carry::STAGING;
use crate::metastore::Snapshot;
use crate::model::PartitionName;
use crate::policy::PathRule;
use crate::roots::{Owner, Root, Wave};
use distcp::assemble::{self, JobSpec};
use distcp::error::{Failure, Result};
use distcp::event::{Event, Listener, Outcome};
use distcp::exit::ExitCode;
use distcp::filter::Filter;
use distcp::job::Job;
use distcp::list::within::Within;
use distcp::options::{CopyOptions, Limits};
use distcp::plan::{Action, PlanTotals, Step};
use distcp::run;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::StreamExt as _;
use jiff::Timestamp;
use manifest::{EntryKind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

/// Jobs that list, copy or delete at once; those that wait for the others hold nothing.
const JOBS_AT_ONCE: usize = 4;
/// Folders that a plan deletes from and that are looked at for being empty at the source; a plan that deletes from more
/// is a matter for the guard on deletes.
const MAX_SHRUNK: usize = 100_000;
/// How many objects of others a message shows.
const FOREIGN_SHOWN: usize = 10;

/// A tree with the job that copies it.
pub struct Tree {
    /// What it is.
    pub root: Root,
    /// Its copy.
    pub job: Job,
    told: Told,
    /// Of logs: what was planned of each.
    pins: delta::Pins,
}

/// What is told of objects while they are copied.
type Told = Arc<Mutex<Owners>>;

#[derive(Default)]
struct Owners {
    /// Of which an object failed, with the first error.
    failed: BTreeMap<Owner, String>,
    /// Of which an object was copied.
    copied: BTreeSet<Owner>,
}

/// What a plan of a tree says.
pub struct Draft {
    /// Counts.
    pub totals: PlanTotals,
    /// The moment that the source's listing stands for.
    pub as_of: Timestamp,
    /// The guard that refuses it.
    pub refusal: Option<Failure>,
    /// Rows of the plan.
    pub actions: u64,
    /// Whether a manifest was committed before.
    pub has_base: bool,
    /// Folders of tables that lose files and get none: the table and the folder's key.
    shrunk: Shrunk,
    /// Objects of the target that the run would delete or overwrite, and that are not as the last run left them.
    pub foreign: Foreign,
    /// Of logs: what is planned of each.
    pins: delta::Pins,
    /// Of logs: commits of the target that are others than the source's, by their tables.
    pub forks: Forks,
    /// Of transactional tables: files that would become others, by their tables.
    pub replaced: Forks,
}

/// Tables, by their place in the survey, with the key of a folder.
type Shrunk = BTreeSet<(usize, ObjectKey)>;

/// Objects that somebody else wrote (rule 20).
#[derive(Default)]
pub struct Foreign {
    /// The first, by key.
    pub first: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl Draft {
    /// There is nothing to do, and a manifest says what stands there.
    pub fn is_idle(&self) -> bool {
        self.actions == 0 && self.has_base
    }
}

impl Foreign {
    fn add(&mut self, key: &ObjectKey) {
        self.count += 1;
        if self.first.len() < FOREIGN_SHOWN {
            self.first.push(key.escaped().into_owned());
        }
    }
}

/// Whether somebody else wrote what the target holds: the last manifest does not know it, or knows another version. Before
/// the first manifest nobody knows whose it is: what has the source's key and size may be what an earlier replica left, any
/// other file is not.
fn is_foreign(action: &Action, has_base: bool) -> bool {
    let Some(target) = action.target.as_ref().filter(|_| action.kind != EntryKind::Folder) else { return false };
    match (action.step, &action.entry) {
        (Step::Delete, None) => true,
        (Step::Copy, None) => {
            has_base || action.source.as_ref().is_none_or(|source| source.size_bytes != target.size_bytes)
        }
        (Step::Delete | Step::Copy | Step::Compare, Some(entry)) => {
            let left = &entry.fingerprint;
            let other = |a: Option<&String>, b: Option<&String>| a.is_some() && b.is_some() && a != b;
            let touched = match (&left.etag, &target.etag) {
                (Some(_), Some(_)) => other(left.etag.as_ref(), target.etag.as_ref()),
                _ => left.mtime_ns.is_some() && target.mtime_ns.is_some() && left.mtime_ns != target.mtime_ns,
            };
            left.size_bytes != target.size_bytes || touched
        }
        _ => false,
    }
}

/// What of a target is taken for granted.
#[derive(Clone, Copy, Default)]
pub struct Trust<'a> {
    /// Nothing: it is read.
    pub afresh: bool,
    /// All but these.
    pub doubts: Option<&'a Doubts>,
}

impl Trust<'_> {
    /// The job of a tree that takes no more for granted than this.
    fn bind(self, job: Job, tree: &str) -> Job {
        let mut job = job;
        job.options.afresh = self.afresh || self.doubts.is_some_and(|doubts| doubts.is_whole(tree));
        job.doubted = self.doubts.map(|doubts| doubts.of(tree)).unwrap_or_default();
        job
    }
}

/// Opens the job of each tree, without what belongs to tables that are not carried.
pub fn open(setting: &Setting, survey: &Survey, roots: Vec<Root>, trust: Trust<'_>) -> Result<Vec<Tree>> {
    roots.into_iter().filter_map(|root| open_one(setting, survey, root, trust).transpose()).collect()
}

fn open_one(setting: &Setting, survey: &Survey, root: Root, trust: Trust<'_>) -> Result<Option<Tree>> {
    let Some(within) = within(&root, |owners| owners.iter().any(|owner| carries(survey, owner))) else {
        return Ok(None);
    };
    let told = Told::default();
    let mut spec = spec(setting, &root, within, &told);
    // Others, who bring the files, may bring folders or not.
    spec.options.without_folders = !setting.policy.options.data;
    spec.looks_only = !setting.policy.options.data;
    let job = trust.bind(assemble::job(spec, &setting.opener)?, &key(&root));
    Ok(Some(Tree { root, job, told, pins: delta::Pins::new() }))
}

/// By which the state knows when a tree was looked at.
fn key(root: &Root) -> String {
    format!("{} {}", root.from.place(), wave_word(root.wave))
}

fn carries(survey: &Survey, owner: &Owner) -> bool {
    match owner {
        Owner::Table(at) => survey.tables.get(*at).is_some_and(|table| table.quarantine.is_none()),
        Owner::Database(_) | Owner::Removal => true,
    }
}

/// The part of a tree of which the owners are taken.
fn within(root: &Root, taken: impl Fn(&[Owner]) -> bool) -> Option<Within> {
    let (meant, left_out): (Vec<_>, Vec<_>) = root.folders.iter().partition(|(_, owners)| taken(owners));
    if meant.is_empty() {
        return None;
    }
    let key = |(key, _): (&ObjectKey, &Vec<Owner>)| key.clone();
    // What the last manifest says of folders that are not meant now stays true of what stands there.
    let except = root.except.iter().cloned().chain(left_out.into_iter().map(key));
    let within = Within::new(meant.into_iter().map(key)).except(except).keep_others(true);
    let removed = root.folders.iter().filter(|(_, owners)| owners.iter().all(|owner| *owner == Owner::Removal));
    let within = within.emptied(removed.map(key));
    let within = within.narrowed(root.narrowed.folders.iter().cloned(), root.narrowed.shown.iter().cloned());
    Some(if root.wave == Wave::Log { within.without(delta::hints(root)) } else { within })
}

/// A plain tree of the policy with the job that copies it.
pub struct PathTree {
    /// Where it comes from and goes, in words.
    pub name: String,
    /// What only the target has goes.
    pub deletes: bool,
    /// Its copy.
    pub job: Job,
}

impl PathTree {
    /// By which doubts and the cycle of a rolling verification know it.
    pub fn key(&self) -> String {
        format!("{} path", self.name)
    }

    /// Plans, and writes nothing. With the guard that refuses it.
    pub async fn draft(&self) -> Result<(PathDraft, Option<Failure>)> {
        let (plan, refusal) = run::draft(&self.job).await?;
        let is_idle = plan.rows == 0 && plan.header.base.is_some();
        Ok((PathDraft { totals: plan.header.totals.clone(), is_idle }, refusal))
    }
}

/// What a plan of a plain tree says.
pub struct PathDraft {
    /// Counts.
    pub totals: PlanTotals,
    /// There is nothing to do, and a manifest says what stands there.
    pub is_idle: bool,
}

/// Opens the job of each of the policy's paths.
pub fn open_paths(setting: &Setting, trust: Trust<'_>) -> Result<Vec<PathTree>> {
    let open = |rule: &PathRule| {
        let base = base(setting, &rule.from, &rule.to, "path");
        let options =
            CopyOptions { delete: rule.delete, allow_empty_source: false, filter: Filter::default(), ..base.options };
        let job = assemble::job(JobSpec { options, ..base }, &setting.opener)?;
        let path = PathTree { name: format!("{} to {}", rule.from, rule.to), deletes: rule.delete, job };
        let key = path.key();
        Ok(PathTree { job: trust.bind(path.job, &key), ..path })
    };
    setting.policy.paths.iter().map(open).collect()
}

fn spec(setting: &Setting, root: &Root, within: Within, told: &Told) -> JobSpec {
    JobSpec {
        within: Some(within),
        source_may_be_missing: true,
        listener: listener(setting.listener.clone(), root, told),
        ..base(setting, &root.from.place(), &root.to.place(), wave_word(root.wave))
    }
}

fn wave_word(wave: Wave) -> &'static str {
    match wave {
        Wave::Data => "data",
        Wave::Log => "log",
    }
}

/// What all jobs of a policy have in common.
fn base(setting: &Setting, from: &str, to: &str, kind: &str) -> JobSpec {
    let options = &setting.policy.options;
    let trash = setting.policy.trash.clone().filter(|_| !options.trash_retention.is_zero());
    let limits = Limits {
        concurrency: options.concurrency.unwrap_or(Limits::default().concurrency),
        memory_bytes: Limits::default().memory_bytes / JOBS_AT_ONCE as u64,
        max_duration: options.max_duration,
        ..Limits::default()
    };
    JobSpec {
        source: from.into(),
        target: to.into(),
        state: Some(state_of(setting, from, to, kind)),
        default_state: None,
        cwd: setting.cwd.clone(),
        name: Some("data".to_owned()),
        state_on_source: false,
        leased: setting.leased,
        create_state: true,
        keep_runs: setting.keep_runs,
        options: CopyOptions {
            delete: true,
            max_deletes: options.max_deletes,
            // A table that is empty is no mistake; one that became so is looked at by itself (rule 27).
            allow_empty_source: true,
            trash_retention: trash.as_ref().map(|_| options.trash_retention),
            trash,
            filter: Filter::excluding(&STAGING),
            ..CopyOptions::default()
        },
        within: None,
        source_may_be_missing: false,
        gate: None,
        looks_only: false,
        files: Vec::new(),
        limits,
        speed: setting.speed.clone(),
        source_options: BTreeMap::new(),
        target_options: BTreeMap::new(),
        user: setting.user.clone(),
        spool: setting.spool.clone(),
        stop: setting.stop.clone(),
        listener: setting.listener.clone(),
        progress: setting.progress.clone(),
    }
}

/// Each tree has a state of its own: the trees of a policy may come to overlap when tables move.
fn state_of(setting: &Setting, from: &str, to: &str, kind: &str) -> OsString {
    let mut hasher = blake3::Hasher::new();
    for part in [from, to, kind] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize().to_hex();
    let mut place = setting.state_place.clone();
    place.push(format!("/{}/data/{}", setting.policy.name, digest.get(..16).unwrap_or(&digest)));
    place
}

/// Passes everything on, and keeps whose objects were copied, and whose failed.
fn listener(next: Listener, root: &Root, told: &Told) -> Listener {
    let (root, told) = (root.clone(), told.clone());
    Arc::new(move |event: Event| {
        if let Some((key, why)) = acid::vanished(&event, &root) {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            for owner in root.owners(key) {
                told.failed.entry(owner).or_insert_with(|| why.clone());
            }
        }
        if let Event::Object(report) = &event
            && matches!(report.outcome, Outcome::Copied | Outcome::Failed)
        {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            for owner in root.owners(&report.key) {
                if report.outcome == Outcome::Copied {
                    told.copied.insert(owner);
                    continue;
                }
                let why = report.error.as_ref().unwrap_or(&report.reason);
                told.failed.entry(owner).or_insert_with(|| format!("{}: {why}", report.key.escaped()));
            }
        }
        next(event);
    })
}

impl Tree {
    /// By which the state knows when it was looked at.
    pub fn key(&self) -> String {
        key(&self.root)
    }

    /// Whether it need not be looked at: no table in it changes, and nothing in it is to be removed.
    pub fn is_still(&self, survey: &Survey) -> bool {
        !self.root.folders.values().flatten().any(|owner| match owner {
            Owner::Table(at) => {
                survey.tables.get(*at).is_none_or(|table| table.differs() || table.quarantine.is_some())
            }
            Owner::Database(at) => survey.databases.get(*at).is_none_or(|database| !database.functions.is_empty()),
            Owner::Removal => true,
        })
    }

    /// The same without the folders of these tables; `None` if nothing is left.
    pub fn without(&self, tables: &BTreeSet<usize>, survey: &Survey) -> Option<Self> {
        let carried = |owner: &Owner| carries(survey, owner);
        let left_out = |owner: &Owner| matches!(owner, Owner::Table(at) if tables.contains(at));
        let within = within(&self.root, |owners| owners.iter().any(carried) && !owners.iter().any(left_out))?;
        Some(self.with(within))
    }

    fn with(&self, within: Within) -> Self {
        let (root, told, pins) = (self.root.clone(), self.told.clone(), self.pins.clone());
        Self { root, job: self.job_within(within), told, pins }
    }

    fn job_within(&self, within: Within) -> Job {
        Job { within: Some(Arc::new(within)), ..self.job.clone() }
    }

    /// Owners of which an object failed so far, with the first error.
    pub fn failures(&self) -> BTreeMap<Owner, String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Plans, and writes nothing.
    pub async fn draft(&self, survey: &Survey) -> Result<Draft> {
        let (plan, refusal) = run::draft(&self.job).await?;
        let totals = plan.header.totals.clone();
        let as_of = plan
            .header
            .as_of
            .parse()
            .map_err(|error: jiff::Error| Failure::new(ExitCode::Failed, error.to_string()))?;
        let has_base = plan.header.base.is_some();
        let mut tables: BTreeMap<usize, Vec<(ObjectKey, usize)>> = BTreeMap::new();
        for (key, owners) in &self.root.folders {
            for owner in owners {
                let Owner::Table(at) = owner else { continue };
                let folder = self.root.from.below(&key.escaped());
                let Some(table) = survey.tables.get(*at) else { continue };
                // Below a folder of its own a partition has no further ones.
                let is_home = table.location.as_ref().is_some_and(|home| home.is_same(&folder));
                tables.entry(*at).or_default().push((key.clone(), if is_home { table.keys } else { 0 }));
            }
        }
        let root = self.root.clone();
        let read = move || -> Result<(u64, Shrunk, Foreign, delta::Pins, [delta::Forks; 2])> {
            let (mut actions, mut shrunk, mut fed) = (0, BTreeSet::new(), BTreeSet::new());
            let mut foreign = Foreign::default();
            let (mut pins, mut forks, mut replaced) = (delta::Pins::new(), delta::Forks::new(), delta::Forks::new());
            for action in plan.actions()? {
                let action = action?;
                actions += 1;
                let foreign_object = is_foreign(&action, has_base);
                if root.wave == Wave::Log {
                    delta::take(&action, foreign_object, &root, &mut pins, &mut forks);
                }
                acid::take(&action, foreign_object, &root, &mut replaced);
                if foreign_object && !root.owners(&action.key).all(|owner| owner == Owner::Removal) {
                    foreign.add(&action.key);
                }
                let is_file = !matches!(action.kind, EntryKind::Folder);
                let set = match action.step {
                    Step::Delete if is_file && shrunk.len() < MAX_SHRUNK => &mut shrunk,
                    Step::Copy | Step::Compare if is_file && fed.len() < MAX_SHRUNK => &mut fed,
                    _ => continue,
                };
                for owner in root.owners(&action.key) {
                    if let Owner::Table(at) = owner
                        && let Some(folders) = tables.get(&at)
                    {
                        set.extend(unit(folders, &action.key).map(|folder| (at, folder)));
                    }
                }
            }
            Ok((actions, &shrunk - &fed, foreign, pins, [forks, replaced]))
        };
        let (actions, shrunk, foreign, pins, [forks, replaced]) = tokio::task::spawn_blocking(read).await??;
        Ok(Draft { totals, as_of, refusal, actions, has_base, shrunk, foreign, pins, forks, replaced })
    }

    /// Of the tables of which objects were copied, those of which objects would have to be copied or deleted now. What only
    /// has to be looked at again, because it was young, does not count. Writes nothing.
    pub async fn moved(&self) -> Result<BTreeSet<usize>> {
        let copied = self.told.lock().unwrap_or_else(PoisonError::into_inner).copied.clone();
        let Some(within) = within(&self.root, |owners| owners.iter().any(|owner| copied.contains(owner))) else {
            return Ok(BTreeSet::new());
        };
        let (plan, _) = run::draft(&self.job_within(within)).await?;
        let root = self.root.clone();
        let read = move || -> Result<BTreeSet<usize>> {
            let mut moved = BTreeSet::new();
            for action in plan.actions()? {
                let action = action?;
                if matches!(action.step, Step::Copy | Step::Delete) && action.kind != EntryKind::Folder {
                    moved.extend(root.owners(&action.key).filter_map(|owner| match owner {
                        Owner::Table(at) => Some(at),
                        Owner::Database(_) | Owner::Removal => None,
                    }));
                }
            }
            Ok(moved)
        };
        tokio::task::spawn_blocking(read).await?
    }

    /// Rule 27: tables of which a folder held data and now holds none, with the folder.
    pub async fn emptied(
        &self,
        draft: &Draft,
        survey: &Survey,
        seen: &Seen,
        source: &dyn Snapshot,
    ) -> Result<BTreeMap<usize, String>> {
        let mut emptied = BTreeMap::new();
        let mut names: BTreeMap<usize, BTreeSet<PartitionName>> = BTreeMap::new();
        for (at, folder) in &draft.shrunk {
            let Some(table) = survey.tables.get(*at).filter(|_| !emptied.contains_key(at)) else { continue };
            let home =
                self.root.folders.iter().find(|(key, owners)| {
                    owners.contains(&Owner::Table(*at)) && folder.is_within(key) && *key != folder
                });
            let mut partition = None;
            if let (Some((home, _)), true) = (home, table.keys > 0) {
                if !names.contains_key(at) {
                    let live = source.partition_names(&table.source).await.map_err(super::failure)?;
                    names.insert(*at, live.into_iter().collect());
                }
                let inner = &folder.as_bytes()[if home.is_empty() { 0 } else { home.as_bytes().len() + 1 }..];
                let name = PartitionName(String::from_utf8_lossy(inner).into_owned());
                // A partition that was dropped takes its files with it.
                if !names.get(at).is_some_and(|live| live.contains(&name)) {
                    continue;
                }
                partition = Some(name);
            }
            if !seen.explains(&table.source, partition.as_ref())
                && !holds_files(&self.job.source.store, folder, &self.job.options.filter).await?
            {
                emptied.insert(*at, self.root.from.below(&folder.escaped()).to_string());
            }
        }
        Ok(emptied)
    }
}

/// The folder that a file of a table counts for: that of its partition, or the table's.
fn unit(folders: &[(ObjectKey, usize)], key: &ObjectKey) -> Option<ObjectKey> {
    let around = folders.iter().filter(|(folder, _)| key.is_within(folder));
    let (home, keys) = around.max_by_key(|(folder, _)| folder.as_bytes().len())?;
    let skip = if home.is_empty() { 0 } else { home.as_bytes().len() + 1 };
    let inner = key.as_bytes().get(skip..)?;
    let mut end = 0;
    for segment in inner.split(|byte| *byte == b'/').take(*keys) {
        end += segment.len() + 1;
    }
    match (keys, end > inner.len()) {
        (0, _) => Some(home.clone()),
        // A file beside the folders of partitions.
        (_, true) => None,
        (_, false) => Some(ObjectKey::from(key.as_bytes()[..skip + end - 1].to_vec())),
    }
}

/// Whether any file that counts as data lies in this folder.
async fn holds_files(store: &Arc<dyn Store>, folder: &ObjectKey, filter: &Filter) -> Result<bool> {
    let capabilities = store.capabilities();
    let prefix = match folder.is_empty() {
        true => Vec::new(),
        false => [folder.as_bytes(), b"/"].concat(),
    };
    let key = Some(ObjectKey::from(prefix.clone())).filter(|key| !key.is_empty());
    let options = match (capabilities.levels, capabilities.start_after) {
        (true, _) => ListOptions { starting: key, ..ListOptions::default() },
        (false, true) => ListOptions { after: key, ..ListOptions::default() },
        (false, false) => ListOptions::default(),
    };
    let mut pages = store.list(options);
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => {
                for listed in page {
                    let inside = listed.key.as_bytes().starts_with(&prefix);
                    if inside && !matches!(listed.kind, EntryKind::Folder) && filter.takes_key(&listed.key) {
                        return Ok(true);
                    }
                    if capabilities.ordered_list && !inside && listed.key.as_bytes() > prefix.as_slice() {
                        return Ok(false);
                    }
                }
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// The trees of one wave.
pub fn split(trees: Vec<Tree>, wave: Wave) -> (Vec<Tree>, Vec<Tree>) {
    trees.into_iter().partition(|tree| tree.root.wave == wave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_for_its_partition_or_its_table() {
        let unit = |folders: &[&str], keys, key: &str| {
            let folders: Vec<_> = folders.iter().map(|folder| (ObjectKey::from(*folder), keys)).collect();
            unit(&folders, &ObjectKey::from(key)).map(|folder| folder.escaped().to_string())
        };
        assert_eq!(unit(&["t"], 0, "t/a/f").as_deref(), Some("t"));
        assert_eq!(unit(&["t"], 2, "t/y=1/m=2/f").as_deref(), Some("t/y=1/m=2"));
        assert_eq!(unit(&["t"], 2, "t/y=1/f"), None);
        assert_eq!(unit(&["t"], 1, "t/_SUCCESS"), None);
        assert_eq!(unit(&[""], 1, "p=1/f").as_deref(), Some("p=1"));
        assert_eq!(unit(&["t"], 1, "u/p=1/f"), None);
    }
}
