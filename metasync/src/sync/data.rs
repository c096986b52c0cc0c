//! The data of the tables: one distcp job a tree, all of which meet between copying and deleting.
//!
//! First every job is planned and nothing is written, so that guards and emptied tables are seen before anything moves. Then
//! all copy; when the last has copied, metadata changes; then each may delete. A crash leaves copies that no metadata names,
//! or deletes that were not done: the next run compares again, and a job's own journal says what it had finished.

pub mod acid;
mod delta;
mod drift;
mod emptied;
mod gate;
mod iceberg;
mod left;
mod paths;
mod readers;
mod settled;
mod units;

pub use delta::Forks;
pub use drift::Foreign;
use drift::{is_foreign, is_gone};
pub use emptied::Empty;
pub use gate::carry;
pub(super) use iceberg::whole;
pub use left::{are_empty, orphaned};
pub use paths::{PathDraft, PathTree, open_paths};
use readers::{is_held, meant};
use settled::Settled;
use units::Units;

use super::Setting;
use super::doubts::Doubts;
use super::events::Seen;
use super::state::SyncState;
use super::survey::{Survey, TableWork};
use super::switch::{self, Places, Published, Readers};
use crate::carry::STAGING;
use crate::roots::{Owner, Root, Wave};
use distcp::assemble::{self, JobSpec};
use distcp::error::{Failure, Result};
use distcp::event::{Event, Listener, Outcome};
use distcp::exit::ExitCode;
use distcp::filter::Filter;
use distcp::job::Job;
use distcp::list::within::Within;
use distcp::options::{CopyOptions, Limits};
use distcp::plan::file::Plan;
use distcp::plan::live::folders_around;
use distcp::plan::{DIFFERS, PlanTotals, Step};
use distcp::run;
use distcp::store::placed::Placed;
use jiff::Timestamp;
use manifest::{EntryKind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

/// Jobs that list, copy or delete at once; those that wait for the others hold nothing.
pub const JOBS_AT_ONCE: usize = 4;
/// Folders that a plan deletes from and that are looked at for being empty at the source; a plan that deletes from more
/// is a matter for the guard on deletes.
const MAX_SHRUNK: usize = 100_000;

/// A tree with the job that copies it.
pub struct Tree {
    /// What it is.
    pub root: Root,
    /// Its copy.
    pub job: Job,
    told: Told,
    /// Of logs: what was planned of each.
    pins: delta::Pins,
    /// Where readers may be, with `publish = "switch"`.
    readers: Option<Arc<Readers>>,
    /// What versions of Iceberg tables name.
    named: Arc<iceberg::Named>,
}

/// What is told of objects while they are copied.
type Told = Arc<Mutex<Owners>>;

#[derive(Default)]
struct Owners {
    /// Of which an object failed, with the first error.
    failed: BTreeMap<Owner, String>,
    /// Of which an object was copied.
    copied: BTreeSet<Owner>,
    /// Of which an object was not touched because readers are in its folder.
    held: BTreeSet<Owner>,
    /// Objects of these that were found to differ.
    differs: BTreeSet<ObjectKey>,
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
    /// Units of which files would be replaced or removed under their readers, or that are begun and do not fit any more.
    pub replaced: BTreeSet<ObjectKey>,
    /// Tables of which files are replaced or removed in place, with `publish = "switch"`.
    pub in_place: BTreeSet<usize>,
    /// Folders of tables that lose files and get none: the table and the folder's key.
    shrunk: Shrunk,
    /// Folders of tables that get files.
    fed: Shrunk,
    /// Objects of the target that the run would delete or overwrite, and that are not as the last run left them.
    pub foreign: Foreign,
    /// Objects that a run left on the target, and that somebody else removed.
    pub gone: Foreign,
    /// Of logs: what is planned of each.
    pins: delta::Pins,
    /// Of logs: commits of the target that are others than the source's, by their tables.
    pub forks: Forks,
    /// Of transactional tables: files that would become others, by their tables.
    pub rewritten: Forks,
}

/// What the rows of a plan say.
struct Read {
    actions: u64,
    shrunk: Shrunk,
    fed: Shrunk,
    foreign: Foreign,
    gone: Foreign,
    pins: delta::Pins,
    forks: delta::Forks,
    rewritten: delta::Forks,
    replaced: BTreeSet<ObjectKey>,
    in_place: BTreeSet<usize>,
}

/// Tables, by their place in the survey, with the key of a folder.
type Shrunk = BTreeSet<(usize, ObjectKey)>;

impl Draft {
    /// There is nothing to do, and a manifest says what stands there.
    pub fn is_idle(&self) -> bool {
        self.actions == 0 && self.has_base
    }
}

/// What of a target is taken for granted.
#[derive(Clone, Copy, Default)]
pub struct Trust<'a> {
    /// Nothing: it is read.
    pub afresh: bool,
    /// All but these.
    pub doubts: Option<&'a Doubts>,
    /// What is made anew, and what stands where, with `publish = "switch"`.
    pub switching: Option<(&'a Published, &'a Places)>,
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

/// The moment that the source's listing stands for.
fn as_of(plan: &Plan) -> Result<Timestamp> {
    let as_of = plan.header.as_of.parse();
    as_of.map_err(|error: jiff::Error| Failure::new(ExitCode::Failed, format!("the time of a plan: {error}")))
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
    let mut job = trust.bind(assemble::job(spec, &setting.opener)?, &key(&root));
    let map = &setting.policy.locations;
    let placed = switch::placed(&root.from, &root.to, map);
    if !placed.is_empty() {
        let store = Placed::new(job.target.store.clone(), &placed);
        job.swept = job.swept.map(|swept| store.sweep(swept));
        job.target.store = Arc::new(store);
    }
    let readers = trust
        .switching
        .and_then(|(published, places)| published.readers(&root, &key(&root), survey, &setting.policy, places));
    if let Some(readers) = &readers {
        job.live = Some(Arc::new(readers.live.clone()));
        job.renewed = Arc::new(readers.renewed.clone());
        let doubted = job.doubted.iter().chain(&readers.differs).cloned().collect();
        job.doubted = Arc::new(doubted);
    }
    let named = iceberg::look_through(&root, map, &mut job);
    Ok(Some(Tree { root, job, told, pins: delta::Pins::new(), readers: readers.map(Arc::new), named }))
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
    // What is meant in the folder of a table that is left out is meant all the same: metadata will name it.
    let left_out: BTreeSet<ObjectKey> = left_out.into_iter().map(key).collect();
    let is_inside =
        |inner: &ObjectKey| folders_around(inner).chain([ObjectKey::default()]).any(|one| left_out.contains(&one));
    let again: Vec<ObjectKey> = meant.iter().copied().map(key).filter(is_inside).collect();
    // What the last manifest says of folders that are not meant now stays true of what stands there.
    let except = root.except.iter().chain(&left_out).cloned();
    let within = Within::new(meant.into_iter().map(key)).except(except).again(again).keep_others(true);
    let removed = root.folders.iter().filter(|(_, owners)| owners.iter().all(|owner| *owner == Owner::Removal));
    let within = within.unsure(removed.clone().filter(|_| root.half_done).map(key)).emptied(removed.map(key));
    let within = within.late(root.late.iter().cloned()).retired(root.retired.iter().cloned());
    let within = within.narrowed(root.narrowed.folders.iter().cloned(), root.narrowed.shown.iter().cloned());
    Some(if root.wave == Wave::Log { within.without(delta::hints(root)) } else { within })
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
        Wave::Rewritten => "iceberg",
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
        deadline: options.max_duration.and_then(|length| setting.begun.checked_add(length)),
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
            && (matches!(report.outcome, Outcome::Copied | Outcome::Failed) || is_held(&report.reason))
        {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if report.outcome == Outcome::Skipped {
                told.held.extend(root.owners(&report.key));
                told.differs.extend((report.reason == DIFFERS).then(|| report.key.clone()));
            }
            for owner in root.owners(&report.key).filter(|_| report.outcome != Outcome::Skipped) {
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

    /// Whether it need not be looked at: no table in it changes or was not carried by the last run, no event is about one, and
    /// nothing in it is to be removed.
    pub fn is_still(&self, survey: &Survey, seen: &Seen, state: &SyncState) -> bool {
        let was_left_out = |table: &TableWork| {
            let left = state.table(&table.target.database, &table.target.table);
            left.is_some_and(|left| left.quarantined.is_some())
        };
        let moves = |table: &TableWork| {
            table.differs() || table.quarantine.is_some() || was_left_out(table) || seen.is_about(&table.source)
        };
        !self.root.folders.values().flatten().any(|owner| match owner {
            Owner::Table(at) => survey.tables.get(*at).is_none_or(moves),
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
        let (root, told, pins, named) = (self.root.clone(), self.told.clone(), self.pins.clone(), self.named.clone());
        Self { root, job: self.job_within(within), told, pins, readers: self.readers.clone(), named }
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
        self.named.forget();
        let (plan, refusal) = run::draft(&self.job).await?;
        let totals = plan.header.totals.clone();
        let as_of = as_of(&plan)?;
        let has_base = plan.header.base.is_some();
        let units = Units::of(&self.root, survey);
        let (root, settled) = (self.root.clone(), Settled::of(&self.root, survey));
        // Tables whose files nobody moves to another folder.
        let bound: BTreeSet<usize> = match &self.readers {
            Some(readers) => self.bound(readers, survey),
            None => BTreeSet::new(),
        };
        let readers = self.readers.clone();
        let read = move || -> Result<Read> {
            let (mut actions, mut shrunk, mut fed) = (0, BTreeSet::new(), BTreeSet::new());
            let (mut replaced, mut in_place) = (BTreeSet::new(), BTreeSet::new());
            if let Some(readers) = &readers {
                replaced.extend(readers.differs.iter().filter_map(|key| readers.live.unit(key)));
            }
            let (mut foreign, mut gone) = (Foreign::default(), Foreign::default());
            let (mut pins, mut forks, mut rewritten) = (delta::Pins::new(), delta::Forks::new(), delta::Forks::new());
            for action in plan.actions()? {
                let mut action = action?;
                actions += 1;
                if let Some(readers) = &readers {
                    readers.take(&action, &mut replaced);
                    action.step = meant(&action);
                    let changes = matches!(action.step, Step::Copy | Step::Delete) && action.target.is_some();
                    if changes && action.kind != EntryKind::Folder && !bound.is_empty() {
                        in_place.extend(root.owners(&action.key).filter_map(|owner| match owner {
                            Owner::Table(at) => Some(at).filter(|at| bound.contains(at)),
                            Owner::Database(_) | Owner::Removal => None,
                        }));
                    }
                }
                let foreign_object = is_foreign(&action, has_base);
                if root.wave == Wave::Log {
                    delta::take(&action, foreign_object, &root, &mut pins, &mut forks);
                }
                acid::take(&action, foreign_object, &root, &mut rewritten);
                if foreign_object && !root.owners(&action.key).all(|owner| owner == Owner::Removal) {
                    foreign.add(&action.key);
                }
                let is_fresh = || readers.as_ref().is_some_and(|readers| readers.is_fresh(&action.key));
                if is_gone(&action, has_base) && settled.hold(&root, &action.key) && !is_fresh() {
                    gone.add(&action.key);
                }
                let is_file = !matches!(action.kind, EntryKind::Folder);
                let set = match action.step {
                    Step::Delete if is_file && shrunk.len() < MAX_SHRUNK => &mut shrunk,
                    Step::Copy | Step::Compare if is_file && fed.len() < MAX_SHRUNK => &mut fed,
                    _ => continue,
                };
                for owner in root.owners(&action.key) {
                    if let Owner::Table(at) = owner {
                        set.extend(units.around(at, &action.key).map(|folder| (at, folder)));
                    }
                }
            }
            Ok(Read { actions, shrunk: &shrunk - &fed, fed, foreign, gone, pins, forks, rewritten, replaced, in_place })
        };
        let Read { actions, shrunk, fed, foreign, gone, pins, forks, rewritten, replaced, in_place } =
            tokio::task::spawn_blocking(read).await??;
        Ok(Draft {
            totals,
            as_of,
            refusal,
            actions,
            has_base,
            replaced,
            in_place,
            shrunk,
            fed,
            foreign,
            gone,
            pins,
            forks,
            rewritten,
        })
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
                let step = meant(&action);
                if matches!(step, Step::Copy | Step::Delete) && action.kind != EntryKind::Folder {
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
}

/// The trees without logs, and logs.
pub fn split(trees: Vec<Tree>) -> (Vec<Tree>, Vec<Tree>) {
    trees.into_iter().partition(|tree| tree.root.wave != Wave::Log)
}
