//! From what a user typed to a [`Job`]: places, rules 1 to 4, decorated stores, the state. Sends nothing but what opening
//! takes; every refusal here is before anything is read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manifest::ObjectKey;
use manifest::state::StateStore;
use manifest::state::layout::JobName;
use manifest::state::local::LocalState;

use crate::error::{Failure, Result, chain};
use crate::event::{Event, Listener};
use crate::exit::ExitCode;
use crate::job::{Gate, Job, Stop, Tree};
use crate::list::within::Within;
use crate::options::{Compare, CopyOptions, Limits, LinkMode};
use crate::place::{Location, Place};
use crate::progress::Progress;
use crate::settings::open::{OpenError, OpenOptions, Opener};
use crate::settings::{Secret, SettingsError};
use crate::store::local::{LocalOptions, SyncMode};
use crate::store::meter::{Meter, Metered};
use crate::store::pace::{Bandwidth, Pace, Paced};
use crate::store::retry::Retried;
use crate::store::state::ObjectState;
use crate::store::{Store, Sweep};
use crate::trash::Trash;
use tokio_util::sync::CancellationToken;

/// How long after a signal the state of a run in an object store can still be written: what it leaves, and that it ended.
const STATE_GRACE: Duration = Duration::from_secs(10);

/// One-run options of a store (`--source-option k=v`).
pub type Overrides = BTreeMap<String, Secret>;

/// How fast a run may go. Clones share one budget: jobs that an embedding program runs side by side keep to it together.
#[derive(Clone)]
pub struct Speed {
    /// Bytes a second, both directions of both sides together, by the time of day. A local side counts only where the other
    /// one is local, too: else its bytes pass no network.
    pub bandwidth: Arc<Bandwidth>,
    /// Requests a second to each side.
    pub requests_per_second: Option<f64>,
}

/// A job as a user names it.
pub struct JobSpec {
    /// SOURCE.
    pub source: OsString,
    /// TARGET.
    pub target: OsString,
    /// `--state`.
    pub state: Option<OsString>,
    /// Where state goes without `--state`.
    pub default_state: Option<PathBuf>,
    /// The folder that relative paths start from.
    pub cwd: PathBuf,
    /// `--job`.
    pub name: Option<String>,
    /// `--state-on-source`.
    pub state_on_source: bool,
    /// Take a lease.
    pub leased: bool,
    /// The state folder may be created.
    pub create_state: bool,
    /// `--keep-runs`.
    pub keep_runs: usize,
    /// What to do.
    pub options: CopyOptions,
    /// The folders that the job is about.
    pub within: Option<Within>,
    /// A source that is not there is an empty tree: for programs that know which folders have to be there.
    pub source_may_be_missing: bool,
    /// Asked between copies and deletes.
    pub gate: Option<Arc<dyn Gate>>,
    /// Nothing is written to the target, by anybody: it may be the second location of the source's account.
    pub looks_only: bool,
    /// Keys of `--files-from`, in any order.
    pub files: Vec<ObjectKey>,
    /// How much to use.
    pub limits: Limits,
    /// How fast to go.
    pub speed: Speed,
    /// `--source-option`.
    pub source_options: Overrides,
    /// `--target-option`.
    pub target_options: Overrides,
    /// Who runs it.
    pub user: String,
    /// For spill files.
    pub spool: PathBuf,
    /// Ends the run.
    pub stop: Stop,
    /// Told what happens.
    pub listener: Listener,
    /// For progress lines.
    pub progress: Arc<Progress>,
}

/// Opens both sides and the state of a job.
///
/// # Errors
/// Exit code 2 for places that are wrong or overlap, 12 for missing credentials.
pub fn job(mut spec: JobSpec, opener: &Opener) -> Result<Job> {
    spec.options.filter.validate().map_err(Failure::usage)?;
    written_so(&mut spec);
    let source = opener.place(&spec.source, &spec.cwd, &spec.source_options)?;
    let target = opener.place(&spec.target, &spec.cwd, &spec.target_options)?;
    kept_by_a_service(&spec.options, &target)?;
    let state = state_place(&spec, opener)?;
    read_only(&state, "state")?;
    if !spec.looks_only {
        read_only(&target, "target")?;
    }
    // A copy that the service keeps has the keys of the source, and is another place to read.
    let is_kept_by_service = target.is_secondary() && !source.is_secondary();
    let (mut source_without, mut target_without) = match spec.looks_only && is_kept_by_service {
        true => (Vec::new(), Vec::new()),
        false => disjoint(&source, &target, &spec.options)?,
    };
    state_fits(&spec, &source, &target, &state)?;
    let trash = trash_place(&spec, opener, &source, &target, &state)?;
    source_without.extend(inside(&source, &state));
    target_without.extend(inside(&target, &state));
    if let Some(trash) = &trash {
        source_without.extend(inside(&source, trash));
        target_without.extend(inside(&target, trash));
    }
    let name = match &spec.name {
        Some(name) => JobName::new(name).map_err(|error| Failure::usage(format!("--job: {error}")))?,
        None => JobName::derive(&source.identity(), &target.identity()),
    };
    if spec.state.is_none() && !target.is_local() {
        (spec.listener)(Event::Note(
            "the state is on this machine: other machines that run this job are not kept out; see --state".into(),
        ));
    }
    let bandwidth = Arc::clone(&spec.speed.bandwidth);
    let pace = |place: &Place| {
        // Bytes of a folder pass no network: where the other side is none, its bytes are what counts.
        let counts = !place.is_local() || (source.is_local() && target.is_local());
        let bandwidth = if counts { Arc::clone(&bandwidth) } else { Arc::default() };
        Arc::new(Pace::new(bandwidth, spec.speed.requests_per_second, spec.stop.token.clone()))
    };
    let tree =
        |place: &Place, overrides: &Overrides, without| tree(opener, place, overrides, without, &spec, pace(place));
    let (mut source_tree, _) = tree(&source, &spec.source_options, source_without)?;
    source_tree.may_be_missing = spec.source_may_be_missing;
    let (target_tree, swept) = tree(&target, &spec.target_options, target_without)?;
    let state = open_state(opener, &state, &spec, &target)?;
    let mut options = spec.options.clone();
    // A plan names it whole: `apply` may start elsewhere.
    options.trash = trash.as_ref().map(Place::identity);
    let trash = match &trash {
        Some(trash) => Some(open_trash(opener, trash, &spec, &target, pace(trash))?),
        None => None,
    };
    let mut files = spec.files;
    files.sort_unstable();
    files.dedup();
    Ok(Job {
        name,
        source: source_tree,
        target: target_tree,
        target_folder: match &target.location {
            Location::Local { path, .. } => Some(path.clone()),
            _ => None,
        },
        swept,
        trash,
        state,
        user: spec.user,
        leased: spec.leased,
        keep_runs: spec.keep_runs,
        options,
        within: spec.within.map(Arc::new),
        doubted: Arc::default(),
        live: None,
        renewed: Arc::default(),
        gate: spec.gate,
        files: Arc::new(files),
        limits: spec.limits,
        spool: spec.spool,
        stop: spec.stop,
        listener: spec.listener,
        progress: spec.progress,
    })
}

/// `--storage-class` and `--sse` are options of the target's store.
fn written_so(spec: &mut JobSpec) {
    let wanted = [("storage_class", &spec.options.storage_class), ("server_side_encryption", &spec.options.sse)];
    for (name, value) in wanted {
        if let Some(value) = value {
            spec.target_options.insert(name.into(), Secret::new(value.as_str()));
        }
    }
}

/// Files are not kept in a class, nor encrypted by who keeps them: said of the option, before the store meets its name.
fn kept_by_a_service(options: &CopyOptions, target: &Place) -> Result<()> {
    let files = matches!(target.location, Location::Local { .. } | Location::Hdfs { .. });
    let given = [("--storage-class", options.storage_class.is_some()), ("--sse", options.sse.is_some())];
    match given.into_iter().find(|(_, given)| files && *given) {
        Some((option, _)) => {
            Err(Failure::usage(format!("{option} is for object stores, and the target {target} is none"))
                .hint(format!("leave {option} out")))
        }
        None => Ok(()),
    }
}

/// One place that is only read, decorated as a job's source is: for `manifest create`.
pub fn place_to_read(
    text: &std::ffi::OsStr,
    cwd: &Path,
    overrides: &Overrides,
    links: crate::options::LinkMode,
    stop: &Stop,
    opener: &Opener,
) -> Result<(Place, Tree)> {
    let place = opener.place(text, cwd, overrides)?;
    let local = LocalOptions { links, ..LocalOptions::default() };
    let opened = opener.open(&place, &OpenOptions { overrides: overrides.clone(), local })?;
    let pace = Arc::new(Pace::unlimited(stop.token.clone()));
    let tree = decorate(opener, opened.store, &place, Vec::new(), pace, stop);
    Ok((place, tree))
}

/// Opens a state folder by its place (`status`, `unlock`); `create` makes a local one.
pub fn state(
    text: &std::ffi::OsStr,
    cwd: &Path,
    create: bool,
    opener: &Opener,
    stop: &Stop,
) -> Result<Arc<dyn StateStore>> {
    let place = opener.place(text, cwd, &Overrides::new())?;
    state_at(opener, &place, &Overrides::new(), create, stop)
}

fn tree(
    opener: &Opener,
    place: &Place,
    overrides: &Overrides,
    without: Vec<ObjectKey>,
    spec: &JobSpec,
    pace: Arc<Pace>,
) -> Result<(Tree, Option<Arc<dyn Sweep>>)> {
    // What is compared by size or time alone could be taken for copied, although a power cut emptied it.
    let sync = match spec.options.compare {
        Compare::Mtime | Compare::Size => SyncMode::Each,
        Compare::Auto | Compare::Etag | Compare::Hash => SyncMode::Batched,
    };
    let local = LocalOptions { links: spec.options.links, create_root: true, sync, ..LocalOptions::default() };
    let opened = opener.open(place, &OpenOptions { overrides: overrides.clone(), local })?;
    Ok((decorate(opener, opened.store, place, without, pace, &spec.stop), opened.sweep))
}

fn decorate(
    opener: &Opener,
    store: Arc<dyn Store>,
    place: &Place,
    without: Vec<ObjectKey>,
    pace: Arc<Pace>,
    stop: &Stop,
) -> Tree {
    let meter = Arc::new(Meter::default());
    let metered: Arc<dyn Store> = Arc::new(Metered::new(store, meter.clone()));
    let paced: Arc<dyn Store> = Arc::new(Paced::new(metered, pace));
    let token = stop.token.clone();
    let seed = rand::random();
    let store = Arc::new(Retried::new(paced, opener.retry, seed, meter.clone(), token));
    Tree { store, place: place.identity(), without, meter, single: false, may_be_missing: false }
}

fn state_place(spec: &JobSpec, opener: &Opener) -> Result<Place> {
    match (&spec.state, &spec.default_state) {
        (Some(text), _) => Ok(opener.place(text, &spec.cwd, &spec.target_options).or_else(|error| {
            // Options of the target are for its store; a local state takes none.
            opener.place(text, &spec.cwd, &Overrides::new()).map_err(|_| error)
        })?),
        (None, Some(path)) => Ok(Place::local(path, &spec.cwd)),
        (None, None) => Err(Failure::usage("there is no home folder for the state").hint("name a place with --state")),
    }
}

/// Rule 1: source and target do not overlap, unless the filters leave out the whole overlap (case 16). Returns the
/// subtrees that each side leaves out.
fn disjoint(source: &Place, target: &Place, options: &CopyOptions) -> Result<(Vec<ObjectKey>, Vec<ObjectKey>)> {
    let excluded = |key: &ObjectKey| !key.is_empty() && options.filter.excludes_folder(key);
    match (source.relative(target), target.relative(source)) {
        (None, None) => Ok((Vec::new(), Vec::new())),
        (Some(inner), None) if excluded(&inner) => Ok((vec![inner], Vec::new())),
        (None, Some(inner)) if excluded(&inner) => Ok((Vec::new(), vec![inner])),
        (Some(_), Some(_)) => Err(Failure::usage(format!("source and target are the same place: {source}"))),
        (Some(inner), None) => Err(overlap("target", target, "source", source, &inner)),
        (None, Some(inner)) => Err(overlap("source", source, "target", target, &inner)),
    }
}

fn overlap(inner: &str, place: &Place, outer: &str, around: &Place, key: &ObjectKey) -> Failure {
    Failure::usage(format!("the {inner} {place} lies inside the {outer} {around}"))
        .hint(format!("name disjoint places, or leave it out with --exclude '{}/**'", key.escaped()))
}

/// The second location of an Azure account can only be a source.
fn read_only(place: &Place, role: &str) -> Result<()> {
    match place.is_secondary() {
        true => {
            Err(Failure::usage(format!("the {role} {place} is an account's second location, which can only be read"))
                .hint("name the account without -secondary"))
        }
        false => Ok(()),
    }
}

/// Rules 1 and 2: the state is no tree's root and holds none, and it is not on the source's side.
fn state_fits(spec: &JobSpec, source: &Place, target: &Place, state: &Place) -> Result<()> {
    for (side, place) in [("source", source), ("target", target)] {
        if state.contains(place) {
            return Err(Failure::usage(format!("the {side} {place} lies inside the state folder {state}"))
                .hint("name another place with --state"));
        }
    }
    let on_source = source.contains(state) || (same_store(source, state) && !same_store(target, state));
    if on_source && spec.state.is_some() && !spec.state_on_source {
        return Err(Failure::usage(format!(
            "the state {state} is on the source's side: it would be lost with the source"
        ))
        .hint("put it on the target's side with --state, or allow it with --state-on-source"));
    }
    Ok(())
}

/// Rules 1 and 2 for `--trash`.
fn trash_place(
    spec: &JobSpec,
    opener: &Opener,
    source: &Place,
    target: &Place,
    state: &Place,
) -> Result<Option<Place>> {
    let Some(text) = &spec.options.trash else { return Ok(None) };
    let text: &std::ffi::OsStr = text.as_ref();
    let trash = opener.place(text, &spec.cwd, &spec.target_options).or_else(|error| {
        // Options of the target are for its store; a local trash takes none.
        opener.place(text, &spec.cwd, &Overrides::new()).map_err(|_| error)
    })?;
    read_only(&trash, "trash")?;
    for (side, place) in [("source", source), ("target", target)] {
        if trash.contains(place) {
            return Err(Failure::usage(format!("the {side} {place} lies inside the trash {trash}"))
                .hint("name another place with --trash"));
        }
    }
    if trash.overlaps(state) {
        return Err(Failure::usage(format!("the trash {trash} and the state {state} overlap"))
            .hint("name another place with --trash"));
    }
    let on_source = source.contains(&trash) || (same_store(source, &trash) && !same_store(target, &trash));
    if on_source && !spec.state_on_source {
        return Err(Failure::usage(format!(
            "the trash {trash} is on the source's side: it would be lost with the source"
        ))
        .hint("put it on the target's side with --trash, or allow it with --state-on-source"));
    }
    Ok(Some(trash))
}

fn open_trash(opener: &Opener, trash: &Place, spec: &JobSpec, target: &Place, pace: Arc<Pace>) -> Result<Trash> {
    let overrides = beside_target(trash, spec, target);
    // What stands on the target as a link is kept as one.
    let local = LocalOptions { links: LinkMode::Preserve, create_root: true, ..LocalOptions::default() };
    let retention = spec.options.trash_retention;
    let opened = opener.open(trash, &OpenOptions { overrides: overrides.clone(), local })?;
    let tree = decorate(opener, opened.store, trash, Vec::new(), pace, &spec.stop);
    Ok(Trash { tree, swept: opened.sweep, retention })
}

/// The one-run options of a place that is not the target: the target's where one bucket holds both, but for the storage
/// class, which is the copy's alone: a lease in an archive could not be read.
fn beside_target(place: &Place, spec: &JobSpec, target: &Place) -> Overrides {
    match same_store(place, target) {
        true => spec.target_options.iter().filter(|(name, _)| *name != "storage_class").map(clone_pair).collect(),
        false => Overrides::new(),
    }
}

fn clone_pair((name, value): (&String, &Secret)) -> (String, Secret) {
    (name.clone(), value.clone())
}

/// Whether both are in one bucket or container of one service.
fn same_store(a: &Place, b: &Place) -> bool {
    match (&a.location, &b.location) {
        (Location::S3 { bucket: x, .. }, Location::S3 { bucket: y, .. })
        | (Location::Gcs { bucket: x, .. }, Location::Gcs { bucket: y, .. }) => x == y && a.service == b.service,
        (Location::Hdfs { authority: x, .. }, Location::Hdfs { authority: y, .. }) => x == y,
        (Location::Azure { account: m, container: x, .. }, Location::Azure { account: n, container: y, .. }) => {
            m == n && x == y && a.service == b.service
        }
        _ => false,
    }
}

fn inside(outer: &Place, inner: &Place) -> Option<ObjectKey> {
    outer.relative(inner).filter(|key| !key.is_empty())
}

fn open_state(opener: &Opener, state: &Place, spec: &JobSpec, target: &Place) -> Result<Arc<dyn StateStore>> {
    let overrides = beside_target(state, spec, target);
    state_at(opener, state, &overrides, spec.create_state, &spec.stop)
}

fn state_at(
    opener: &Opener,
    place: &Place,
    overrides: &Overrides,
    create: bool,
    stop: &Stop,
) -> Result<Arc<dyn StateStore>> {
    if let Location::Local { path, .. } = &place.location {
        return Ok(Arc::new(LocalState::open(path, create)?));
    }
    if let Location::Hdfs { .. } = place.location {
        // Rule 16: HDFS cannot swap a file if it is unchanged.
        return Err(Failure::usage(format!(
            "the state {place} cannot be kept on HDFS, which swaps no file atomically"
        ))
        .hint("name a local folder, or an s3://, az:// or gs:// place, with --state"));
    }
    let opened = opener.open(place, &OpenOptions { overrides: overrides.clone(), local: LocalOptions::default() })?;
    let meter = Arc::new(Meter::default());
    let paced = Paced::new(opened.store, Arc::new(Pace::unlimited(CancellationToken::new())));
    let token = stop.token.clone();
    let store = Retried::with_grace(Arc::new(paced), opener.retry, rand::random(), meter, token, STATE_GRACE);
    Ok(Arc::new(ObjectState::new(Arc::new(store))?))
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = if error.is_permission() { ExitCode::Permission } else { ExitCode::Usage };
        match error {
            OpenError::Store(error) => error.into(),
            error @ OpenError::Credentials { .. } => Failure::new(code, chain(&error))
                .hint("set one of these, or the keys of [stores.NAME] in the configuration"),
            other => Failure::new(code, chain(&other)),
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Failure::usage(chain(&error))
    }
}

#[cfg(test)]
mod tests;
