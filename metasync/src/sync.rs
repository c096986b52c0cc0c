//! Brings a replica into step with its source: the work of `metasync run`, whatever it finds.
//!
//! ```text
//! lease -> checkpoint -> event log -> survey -> guards -> plans of data -> intent
//!       -> copy data -> metadata -> repl.last.id -> delete data -> checkpoint -> receipt
//! ```
//! A run compares what both sides hold and changes what differs, so that a first run, a later one and one after a crash are
//! the same; the event log says how far that reaches, and what was meant. What a crash leaves, step by step: a lease that
//! goes stale; an intent without its end, whose tables are compared anew and are no drift; data that no metadata names yet;
//! metadata that is ahead of `repl.last.id`; files whose deletion the intent and the jobs' journals still name. The checkpoint
//! moves last.

pub mod apply;
pub mod data;
pub mod events;
pub mod report;
pub mod state;
pub mod status;
pub mod survey;
pub mod verify;

use crate::compare::Sides;
use crate::metastore::{self, Metastore, open};
use crate::policy::{EmptyTables, Policy};
use crate::roots::{self, Folder, Owner, Root, Wave};
use apply::{Applied, Applier};
use data::{Belief, Draft, Tree};
use distcp::assemble::{self, Speed};
use distcp::copy::Ends;
use distcp::error::{Failure, Result};
use distcp::event::{Event, Listener, Progress};
use distcp::exit::ExitCode;
use distcp::job::Stop;
use distcp::options::Cap;
use distcp::run::Report;
use distcp::settings::Environment;
use distcp::settings::open::Opener;
use events::Seen;
use jiff::Timestamp;
use manifest::Class;
use manifest::state::checkpoint::{self, Checkpoint, Loaded};
use manifest::state::holder::Holder;
use manifest::state::layout::{JobName, RunId};
use manifest::state::lease::{self, Lease};
use manifest::state::{StateStore, Tag, marker, probe};
use report::{Mode, SyncSummary};
use state::{DatabaseState, Intent, Rules, SyncState, TableState};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use survey::{Selection, Survey, removable, survey};
use tempfile::TempDir;
use tokio::time::Instant;

/// Program and version, for receipts and leases.
pub const PROGRAM: &str = concat!("metasync ", env!("CARGO_PKG_VERSION"));
/// A share of tables or partitions allows at least so many: of three tables one can be dropped.
const DROPS_ALWAYS: u64 = 1;
/// How many lines of drift a message shows.
const DRIFT_SHOWN: usize = 10;

/// All that a run needs from around it.
#[derive(Clone)]
pub struct Setting {
    /// What is kept in step.
    pub policy: Arc<Policy>,
    /// Variables and home folder, for passwords of metastores.
    pub environment: Environment,
    /// Opens places of data.
    pub opener: Opener,
    /// The place of the state folder.
    pub state_place: OsString,
    /// The folder that relative paths start from.
    pub cwd: PathBuf,
    /// For spill files.
    pub spool: PathBuf,
    /// Who runs it.
    pub user: String,
    /// Take a lease.
    pub leased: bool,
    /// Runs whose receipts are kept.
    pub keep_runs: usize,
    /// How fast data may go.
    pub speed: Speed,
    /// Ends the run.
    pub stop: Stop,
    /// Told what happens.
    pub listener: Listener,
    /// For progress lines.
    pub progress: Arc<Progress>,
}

impl Setting {
    fn note(&self, text: impl Into<String>) {
        (self.listener)(Event::Note(text.into()));
    }

    /// The policy's name in its state.
    pub fn job(&self) -> Result<JobName> {
        JobName::new(&self.policy.name).map_err(|error| Failure::usage(error.to_string()))
    }

    /// The state folder; `create` makes a local one.
    pub fn state(&self, create: bool) -> Result<Arc<dyn StateStore>> {
        assemble::state(&self.state_place, &self.cwd, create, &self.opener, &self.stop)
    }
}

/// What a run may do that it would refuse.
#[derive(Clone, Default)]
pub struct Allowed {
    /// Take over databases of the target that hold something.
    pub adopt: bool,
    /// Start anew from what both sides hold, whatever the event log says.
    pub bootstrap: bool,
    /// Overwrite what others changed on the target.
    pub overwrite_drift: bool,
    /// Move and drop what a change of the policy moves and drops.
    pub policy_change: bool,
    /// Take folders that became empty for what they are (rule 27).
    pub empty_tables: bool,
    /// Read the data of the target, whatever was known of it.
    pub afresh: bool,
    /// Which tables.
    pub selection: Selection,
}

/// How a verb ends that a metastore's error ended.
pub fn failure(error: metastore::Error) -> Failure {
    use metastore::Error;
    let code = match &error {
        Error::Url { .. } | Error::Protocol { .. } | Error::UnknownVersion { .. } | Error::NotAMetastore { .. } => {
            ExitCode::Usage
        }
        Error::Denied { .. } => ExitCode::Permission,
        Error::Conflict { .. } => ExitCode::Refused,
        _ if error.class() == Class::Retryable => ExitCode::Temporary,
        _ => ExitCode::Failed,
    };
    Failure::new(code, error.to_string())
}

/// What both sides look like, and what is to be done; nothing was changed.
pub struct Planned {
    /// Bootstrap or not.
    pub mode: Mode,
    /// Metadata.
    pub survey: Survey,
    /// Data, by wave.
    pub trees: Vec<Tree>,
    /// What the plans of the trees say, in their order.
    pub drafts: Vec<Draft>,
    /// Folders of the target to be emptied.
    pub removals: BTreeSet<String>,
    /// The moment that the replica will show, at best.
    pub asked: Timestamp,
    /// What was new in the source's log.
    pub seen: Seen,
}

impl Planned {
    /// Whether there is anything to do on the target.
    pub fn differs(&self) -> bool {
        self.survey.differs() || self.drafts.iter().any(|draft| draft.actions > 0 || !draft.has_base)
    }
}

/// Both metastores.
struct Metastores {
    source: Box<dyn Metastore>,
    target: Box<dyn Metastore>,
    /// Where an empty metastore stands for a file that the first run will make.
    _stand_in: Option<TempDir>,
}

impl Metastores {
    async fn open(setting: &Setting, create: bool) -> Result<Self> {
        let policy = &setting.policy;
        let source = Self::source(setting).await?;
        let (mut url, mut stand_in) = (policy.target.clone(), None);
        if !create && open::is_missing(&url).map_err(|error| at("target", error))? {
            let folder = tempfile::tempdir_in(&setting.spool)
                .map_err(|error| Failure::new(ExitCode::Failed, format!("no temporary folder: {error}")))?;
            url = format!("sqlite://{}/empty.db", folder.path().display());
            stand_in = Some(folder);
        }
        if create || stand_in.is_some() {
            open::init_missing(&url).await.map_err(|error| at("target", error))?;
        }
        let target = open::open(&url, &setting.environment).await.map_err(|error| at("target", error))?;
        Ok(Self { source, target, _stand_in: stand_in })
    }

    async fn source(setting: &Setting) -> Result<Box<dyn Metastore>> {
        open::open(&setting.policy.source, &setting.environment).await.map_err(|error| at("source", error))
    }

    async fn sides(&self, setting: &Setting) -> Result<Sides> {
        Ok(Sides {
            source: self.source.snapshot().await.map_err(|error| at("source", error))?.into(),
            target: self.target.snapshot().await.map_err(|error| at("target", error))?.into(),
            policy: setting.policy.clone(),
            holder: self.target.holder(),
            source_holder: self.source.holder(),
        })
    }
}

fn at(side: &str, error: metastore::Error) -> Failure {
    let failure = failure(error);
    Failure { message: format!("the {side}'s metastore: {}", failure.message), ..failure }
}

/// What a run would do now. Takes no lease and changes nothing.
pub async fn plan(setting: &Setting, allowed: &Allowed) -> Result<Planned> {
    let stores = Metastores::open(setting, false).await?;
    let loaded = load(setting, false).await?.map(|(_, loaded)| loaded.checkpoint);
    draw_up(setting, &stores, loaded.as_ref(), allowed).await
}

async fn load(setting: &Setting, create: bool) -> Result<Option<(Arc<dyn StateStore>, Loaded<SyncState>)>> {
    let state = setting.state(create)?;
    let loaded = checkpoint::load::<SyncState>(state.as_ref(), &setting.job()?).await?;
    Ok(loaded.map(|loaded| (state, loaded)))
}

/// Surveys, checks every guard, and plans the data.
async fn draw_up(
    setting: &Setting,
    stores: &Metastores,
    left: Option<&Checkpoint<SyncState>>,
    allowed: &Allowed,
) -> Result<Planned> {
    let policy = &setting.policy;
    let state = left.map(|left| &left.state);
    rules_hold(state, policy, allowed)?;
    let asked = Timestamp::now();
    let sides = stores.sides(setting).await?;
    let seen = match state {
        Some(state) if !allowed.bootstrap && allowed.selection.is_all() => {
            events::read(&sides, state.position.as_ref(), state.window.as_ref()).await?
        }
        _ => events::start(&sides).await?,
    };
    let mut survey = survey(&sides, state, &allowed.selection).await.map_err(failure)?;
    is_ours(state, &survey, allowed)?;
    if allowed.selection.is_all() {
        drops_allowed(&sides, state, &survey, &seen)?;
    }
    let mut removals: BTreeSet<String> = state.map(|state| state.removals.clone()).unwrap_or_default();
    removals.extend(survey.drops.iter().filter_map(|drop| drop.folder.as_ref()).map(ToString::to_string));
    let places = removals.iter().filter_map(|place| crate::location::Location::parse(place).ok()).collect();
    let free = removable(&sides, &survey, places).await.map_err(failure)?;
    let emptied = free.iter().filter_map(|place| policy.locations.unmap(place));
    survey.folders.extend(emptied.map(|location| Folder { location, owner: Owner::Removal, wave: Wave::Data }));
    let (trees, drafts) = plan_data(setting, &sides, &mut survey, &seen, allowed).await?;
    let mode = if state.is_none() || allowed.bootstrap { Mode::Bootstrap } else { Mode::Incremental };
    let removals = free.iter().map(ToString::to_string).collect();
    Ok(Planned { mode, survey, trees, drafts, removals, asked, seen })
}

/// Rule 29.
fn rules_hold(state: Option<&SyncState>, policy: &Policy, allowed: &Allowed) -> Result<()> {
    let changes = state.map(|state| state.rules.changes(&Rules::of(policy))).unwrap_or_default();
    match changes.is_empty() || allowed.policy_change {
        true => Ok(()),
        false => Err(Failure::new(
            ExitCode::Refused,
            format!("the policy moves or drops what it did not before: {}", changes.join("; ")),
        )
        .hint("if that is right, add --accept-policy-change")),
    }
}

/// Rules 20 and 21: the target is as the last commit left it, or empty, or taken over by name.
fn is_ours(state: Option<&SyncState>, survey: &Survey, allowed: &Allowed) -> Result<()> {
    if state.is_none() && !survey.foreign.is_empty() && !allowed.adopt {
        return Err(Failure::new(
            ExitCode::Refused,
            format!("the target holds objects that no run of this policy made, in {}", survey.foreign.join(", ")),
        )
        .hint(
            "name an empty target, or take over what is there with --adopt: what differs from the source is changed",
        ));
    }
    if survey.drift.is_empty() || allowed.overwrite_drift || allowed.adopt {
        return Ok(());
    }
    let shown: Vec<&str> = survey.drift.iter().take(DRIFT_SHOWN).map(String::as_str).collect();
    let more = match survey.drift.len().saturating_sub(DRIFT_SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(Failure::new(
        ExitCode::Refused,
        format!("the target is not as the last run left it, nothing was written: {}{more}", shown.join("; ")),
    )
    .hint("if the replica was promoted, stop this policy; else overwrite it with --overwrite-drift, or use metasync resync"))
}

fn exceeds(cap: Cap, count: u64, of: u64) -> bool {
    match cap {
        Cap::Percent(_) => count > DROPS_ALWAYS && cap.is_exceeded(count, of),
        Cap::Count(_) => cap.is_exceeded(count, of),
    }
}

/// Rule 6: how many tables, and partitions of one table, may be dropped.
fn drops_allowed(sides: &Sides, state: Option<&SyncState>, survey: &Survey, seen: &Seen) -> Result<()> {
    let cap = sides.policy.options.max_drops;
    let counted = survey.counted_drops(sides, &seen.renamed);
    let refused = |message: String| {
        Err(Failure::new(ExitCode::Refused, message)
            .hint("if that is right, raise options.max_drops in the policy for one run"))
    };
    let drops = counted.len() as u64;
    if exceeds(cap, drops, survey.committed) {
        let names: Vec<String> = counted.iter().take(DRIFT_SHOWN).map(|drop| drop.target.to_string()).collect();
        return refused(format!(
            "{drops} of {} tables on the target would be dropped, more than {cap}: {}",
            survey.committed,
            names.join(", ")
        ));
    }
    for table in &survey.tables {
        let left = state.and_then(|state| state.table(&table.target.database, &table.target.table));
        let of = left.map_or(table.there, |left| left.partitions);
        if exceeds(cap, table.drop, of) {
            return refused(format!(
                "{} of {of} partitions of {} would be dropped, more than {cap}",
                table.drop, table.target
            ));
        }
    }
    Ok(())
}

/// Opens the trees and plans each, until no table has to be left out for what the plans show.
async fn plan_data(
    setting: &Setting,
    sides: &Sides,
    survey: &mut Survey,
    seen: &Seen,
    allowed: &Allowed,
) -> Result<(Vec<Tree>, Vec<Draft>)> {
    let policy = &setting.policy;
    if !policy.options.data {
        return Ok((Vec::new(), Vec::new()));
    }
    let roots: Vec<Root> = roots::roots(&survey.bases, &survey.folders, &policy.locations);
    let belief = Belief { for_some: !allowed.selection.is_all(), afresh: allowed.afresh };
    let accepts = allowed.empty_tables || policy.options.empty_tables == EmptyTables::Accept;
    loop {
        let trees = data::open(setting, survey, roots.clone(), belief)?;
        let mut drafts = Vec::with_capacity(trees.len());
        let mut emptied = BTreeMap::new();
        for tree in &trees {
            let draft = tree.draft(survey).await.map_err(|failure| of_tree(tree, failure))?;
            if !accepts {
                emptied.extend(tree.emptied(&draft, survey, seen, sides.source.as_ref()).await?);
            }
            drafts.push(draft);
        }
        if emptied.is_empty() {
            for (tree, draft) in trees.iter().zip(&mut drafts) {
                if let Some(refusal) = draft.refusal.take() {
                    let refusal = of_tree(tree, refusal);
                    return Err(refusal.hint("if that is right, raise options.max_deletes in the policy for one run"));
                }
            }
            return Ok((trees, drafts));
        }
        // Each round leaves out at least one table more.
        for (at, folder) in emptied {
            let table = &mut survey.tables[at];
            table.quarantine = Some(format!(
                "{folder} held data and holds none at the source, and no event says why; \
                 if that is right: metasync resync POLICY --table {}.{}, or empty_tables = \"accept\"",
                table.source.database, table.source.table
            ));
        }
    }
}

fn of_tree(tree: &Tree, failure: Failure) -> Failure {
    Failure { message: format!("data of {}: {}", tree.root.from, failure.message), ..failure }
}

/// Brings the replica into step. Always with a summary, and with a failure when it could not do its job.
pub async fn run(setting: &Setting, command: &'static str, allowed: &Allowed) -> (SyncSummary, Option<Failure>) {
    let started = Timestamp::now();
    let clock = Instant::now();
    let mut summary = SyncSummary::new(command, &setting.policy.name);
    let result = with_lease(setting, allowed, started, &mut summary).await;
    summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failure = result.err();
    if let Some(failure) = &failure {
        summary.end(failure.code);
        summary.errors.insert(0, failure.message.clone());
        summary.hint.clone_from(&failure.hint);
    }
    (summary, failure)
}

async fn with_lease(setting: &Setting, allowed: &Allowed, started: Timestamp, summary: &mut SyncSummary) -> Result<()> {
    let job = setting.job()?;
    let state = setting.state(true)?;
    let before = checkpoint::load_summary(state.as_ref(), &job).await?.map(|before| before.run_id);
    let run_id = RunId::after(started, before.as_ref());
    summary.run_id = run_id.to_string();
    let lease = take_lease(setting, &state, &job, &run_id, started).await?;
    let run = Run { setting, allowed, job, state, run_id, lease: &lease };
    let result = run.go(summary).await;
    let receipt = report::receipt(&run.job, &run.run_id, started, summary, result.as_ref().err());
    let receipt = manifest::state::receipt::write(run.state.as_ref(), &receipt).await.map_err(Failure::from);
    let result = result.and(receipt);
    if let Err(error) = lease.release().await {
        setting.note(format!("the lease could not be given back: {error}; the next run waits for it"));
    }
    result
}

async fn take_lease(
    setting: &Setting,
    state: &Arc<dyn StateStore>,
    job: &JobName,
    run_id: &RunId,
    started: Timestamp,
) -> Result<Lease> {
    if setting.leased && !state.is_this_machine() {
        probe::probe(state.as_ref()).await?;
    }
    marker::mark(state.as_ref()).await?;
    if !setting.leased {
        return Ok(Lease::none());
    }
    let holder = Holder::this_process(setting.user.clone(), PROGRAM, started);
    let listener = setting.listener.clone();
    let waiting = move |record: &lease::LeaseRecord, longest: std::time::Duration| {
        let longest = longest.as_secs();
        listener(Event::Note(format!(
            "waiting up to {longest} s to see whether the run of {} is alive",
            record.holder
        )));
    };
    Ok(Lease::acquire(state.clone(), job, run_id, holder, lease::DURATION, &waiting).await?)
}

/// A run that holds the lease.
struct Run<'a> {
    setting: &'a Setting,
    allowed: &'a Allowed,
    job: JobName,
    state: Arc<dyn StateStore>,
    run_id: RunId,
    lease: &'a Lease,
}

impl Run<'_> {
    async fn go(&self, summary: &mut SyncSummary) -> Result<()> {
        let setting = self.setting;
        let stores = Metastores::open(setting, true).await?;
        let loaded = checkpoint::load::<SyncState>(self.state.as_ref(), &self.job).await?;
        let left = loaded.as_ref().map(|loaded| loaded.checkpoint.clone());
        let mut tag = loaded.map(|loaded| loaded.tag);
        let last = left.as_ref().and_then(|left| left.as_of);
        summary.as_of = last.map(|time| time.to_string());
        let mut planned = draw_up(setting, &stores, left.as_ref(), self.allowed).await?;
        summary.mode = planned.mode;
        summary.from_event = left.as_ref().and_then(|left| Some(left.state.position.as_ref()?.id));
        summary.to_event = planned.seen.position.as_ref().map(|position| position.id);
        self.tell_events(&planned, summary);
        let mut new = left.as_ref().map(|left| left.state.clone()).unwrap_or_default();
        let differs = planned.differs() || !planned.removals.is_empty();
        if differs {
            new.intent = Some(intent(&planned.survey, new.intent.take()));
            new.removals.extend(planned.removals.iter().cloned());
            tag = Some(self.commit(&stores, &new, last, false, tag.as_ref()).await?);
        }
        let outcome = self.carry(&stores, &mut planned, summary).await?;
        let complete = self.settle(&planned, &outcome, &mut new, summary, last);
        let as_of = summary.as_of.as_deref().and_then(|time| time.parse().ok());
        self.commit(&stores, &new, as_of, complete, tag.as_ref()).await?;
        Ok(())
    }

    /// What the log said, in numbers and words.
    fn tell_events(&self, planned: &Planned, summary: &mut SyncSummary) {
        let seen = &planned.seen;
        summary.events.applied = seen.applied;
        summary.events.skipped = seen.skipped;
        summary.events.by_type = seen.by_type.clone();
        seen.unknown.iter().for_each(|why| self.setting.note(format!("{why}; what it may be about was compared")));
        if planned.mode == Mode::Incremental {
            summary.events.missing = seen.unexplained(&planned.survey);
        }
        for table in &summary.events.missing {
            self.setting.note(format!("{table} changed and no event says so; it was compared"));
        }
        if !seen.has_log && !planned.survey.tables.is_empty() {
            self.setting.note(
                "the source's event log is empty: every run compares everything all the same;                  metastore.transactional.event.listeners there names DbNotificationListener to have one",
            );
        }
    }

    async fn commit(
        &self,
        stores: &Metastores,
        state: &SyncState,
        as_of: Option<Timestamp>,
        complete: bool,
        tag: Option<&Tag>,
    ) -> Result<Tag> {
        let checkpoint = Checkpoint {
            job: self.job.clone(),
            source: stores.source.place(),
            target: stores.target.place(),
            generation: self.lease.generation(),
            run_id: self.run_id.clone(),
            manifest: None,
            as_of,
            complete,
            written: Timestamp::now(),
            state: state.clone(),
        };
        Ok(checkpoint::commit(self.state.as_ref(), &checkpoint, tag, &self.lease.guard()).await?)
    }

    /// Data, metadata, how far, deletes.
    async fn carry(&self, stores: &Metastores, planned: &mut Planned, summary: &mut SyncSummary) -> Result<Outcome> {
        let setting = self.setting;
        // A tree in which nothing has to be done is not opened again.
        let busy = planned.drafts.iter().map(|draft| draft.actions > 0 || !draft.has_base).collect::<Vec<_>>();
        for (draft, busy) in planned.drafts.iter().zip(&busy) {
            if !busy {
                summary.add_idle(&draft.totals);
            }
        }
        let trees = std::mem::take(&mut planned.trees).into_iter().zip(busy).filter(|(_, busy)| *busy);
        let (data, logs) = data::split(trees.map(|(tree, _)| tree).collect(), Wave::Data);
        let survey = &planned.survey;
        let mut outcome = Outcome::default();
        let roots: Vec<(Root, data::Failing)> = data.iter().map(|tree| (tree.root.clone(), tree.failing())).collect();
        let (between, logged) = (&mut outcome, &mut Vec::new());
        let reports = data::carry(&data, async |copied: &[Option<Ends>]| {
            let mut skip = not_copied(&roots, copied, survey);
            if self.stopped() {
                return Ok(vec![false; roots.len()]);
            }
            let log_roots: Vec<(Root, data::Failing)> =
                logs.iter().map(|tree| (tree.root.clone(), tree.failing())).collect();
            let reports = data::carry(&logs, async |copied: &[Option<Ends>]| {
                skip.extend(not_copied(&log_roots, copied, survey));
                Ok::<_, Failure>(vec![true; log_roots.len()])
            })
            .await?;
            logged.extend(reports);
            let sides = stores.sides(setting).await?;
            let applier = Applier {
                sides: &sides,
                target: stores.target.as_ref(),
                survey,
                skip: &skip,
                guard: self.lease.guard(),
            };
            let applied = applier.apply().await?;
            if self.allowed.selection.is_all() {
                applier.advance(planned.seen.position.as_ref().map_or(0, |position| position.id)).await?;
            }
            let may_delete = |root: &Root| {
                let unsafe_table = |at: &usize| {
                    skip.contains_key(at) || applied.failed.contains_key(at) || applied.behind.contains(at)
                };
                !root.folders.values().flatten().any(|owner| match owner {
                    Owner::Table(at) => unsafe_table(at),
                    Owner::Database(_) | Owner::Removal => false,
                })
            };
            let each = roots.iter().map(|(root, _)| may_delete(root)).collect();
            (between.applied, between.skipped, between.reached) = (applied, skip, true);
            Ok::<_, Failure>(each)
        })
        .await?;
        let mut jobs: Vec<(Root, Report)> = roots.into_iter().map(|(root, _)| root).zip(reports).collect();
        let log_roots = logs.into_iter().map(|tree| tree.root);
        jobs.extend(log_roots.zip(std::mem::take(logged)));
        for (_, report) in &jobs {
            summary.add(&report.summary);
        }
        outcome.jobs = jobs;
        Ok(outcome)
    }

    fn stopped(&self) -> bool {
        self.setting.stop.token.is_cancelled()
    }

    /// What the run came to: the new state, the code and the as-of. Returns whether it did everything.
    fn settle(
        &self,
        planned: &Planned,
        outcome: &Outcome,
        new: &mut SyncState,
        summary: &mut SyncSummary,
        last: Option<Timestamp>,
    ) -> bool {
        let survey = &planned.survey;
        let applied = &outcome.applied;
        let mut codes = Vec::new();
        if self.stopped() {
            let terminated = self.setting.stop.terminated.load(Ordering::Relaxed);
            codes.push(if terminated { ExitCode::Terminated } else { ExitCode::Interrupted });
        }
        for (root, report) in &outcome.jobs {
            codes.extend((report.summary.exit_code != ExitCode::Done).then_some(report.summary.exit_code));
            let failure = report.failure.as_ref().map(|failure| format!("data of {}: {}", root.from, failure.message));
            summary.errors.extend(failure);
        }
        let jobs_done = outcome.jobs.iter().all(|(_, report)| report.summary.exit_code == ExitCode::Done);
        let mut unfinished = Intent::default();
        for (at, table) in survey.tables.iter().enumerate() {
            let (database, name) = (&table.target.database, &table.target.table);
            let entry = new.databases.entry(database.clone()).or_default().tables.entry(name.clone()).or_default();
            let trouble = table
                .quarantine
                .clone()
                .or_else(|| outcome.skipped.get(&at).cloned())
                .or_else(|| applied.failed.get(&at).cloned());
            let half_done = applied.failed.contains_key(&at) || applied.behind.contains(&at) || !outcome.reached;
            match (applied.done.get(&at), &table.digest) {
                (Some((digest, partitions)), _) => {
                    (entry.digest, entry.partitions) = (Some(digest.clone()), *partitions);
                }
                (None, Some(_)) if half_done && table.differs() => {
                    unfinished.tables.insert((database.clone(), name.clone()));
                }
                (None, None) if half_done && table.differs() => {
                    unfinished.tables.insert((database.clone(), name.clone()));
                    entry.digest = None;
                }
                (None, digest) => (entry.digest, entry.partitions) = (digest.clone(), table.there),
            }
            entry.quarantined = trouble.map(|error| {
                summary.quarantined.push((table.source.to_string(), error.clone()));
                survey::quarantine(error, Some(&*entry), last.map(|time| time.to_string()))
            });
            summary.tables.touched += u64::from(table.differs());
            summary.tables.applied += u64::from(applied.done.contains_key(&at));
        }
        for database in &survey.databases {
            let entry: &mut DatabaseState = new.databases.entry(database.target.database.clone()).or_default();
            entry.source.clone_from(&database.source.database);
            entry.location.clone_from(&database.location);
            match applied.functions.get(&database.target.database) {
                Some(error) => {
                    summary.errors.push(format!("functions of {}: {error}", database.target));
                    unfinished.databases.insert(database.target.database.clone());
                }
                None if outcome.reached => entry.digest.clone_from(&database.digest),
                None => {
                    unfinished.databases.insert(database.target.database.clone());
                }
            }
        }
        for table in &applied.dropped {
            if let Some(database) = new.databases.get_mut(&table.database) {
                database.tables.remove(&table.table);
            }
            summary.tables.applied += 1;
            summary.tables.touched += 1;
        }
        new.databases.retain(|name, _| !applied.gone.contains(name));
        let forget = |state: &TableState| state.digest.is_some() || state.quarantined.is_some();
        new.databases.values_mut().for_each(|database| database.tables.retain(|_, table| forget(table)));
        new.intent = (!unfinished.tables.is_empty() || !unfinished.databases.is_empty()).then_some(unfinished);
        if jobs_done && outcome.reached {
            new.removals.clear();
        }
        if self.allowed.selection.is_all() {
            new.rules = Rules::of(&self.setting.policy);
            new.position = planned.seen.position.clone();
            new.window = planned.seen.window.clone();
        }
        summary.tables.quarantined = summary.quarantined.len() as u64;
        if !summary.quarantined.is_empty() || !applied.functions.is_empty() {
            codes.push(ExitCode::Partial);
        }
        let complete = jobs_done && outcome.reached && applied.behind.is_empty() && self.allowed.selection.is_all();
        if complete {
            let kept = new.quarantined().filter_map(|(_, one)| one.as_of.as_deref()?.parse::<Timestamp>().ok());
            summary.as_of = Some(kept.chain([planned.asked]).min().unwrap_or(planned.asked).to_string());
        }
        summary.behind = applied.behind.iter().map(|at| survey.tables[*at].source.to_string()).collect();
        summary.end(ExitCode::first(codes));
        complete
    }
}

/// What carrying a plan out came to.
#[derive(Default)]
struct Outcome {
    /// Metadata.
    applied: Applied,
    /// Tables whose data failed, with why.
    skipped: BTreeMap<usize, String>,
    /// Metadata was changed.
    reached: bool,
    /// How the copies ended.
    jobs: Vec<(Root, Report)>,
}

/// Tables of which an object failed, or whose tree did not come to its end.
fn not_copied(roots: &[(Root, data::Failing)], copied: &[Option<Ends>], survey: &Survey) -> BTreeMap<usize, String> {
    let mut found = BTreeMap::new();
    for ((root, failing), copied) in roots.iter().zip(copied) {
        if copied.is_none() {
            for owner in root.folders.values().flatten() {
                if let Owner::Table(at) = owner {
                    found.entry(*at).or_insert_with(|| format!("the copy of {} did not come to its end", root.from));
                }
            }
        }
        for (owner, error) in failing.failures() {
            if let Owner::Table(at) = owner {
                found.insert(at, error);
            }
        }
    }
    found.retain(|at, _| survey.tables.get(*at).is_some_and(|table| table.quarantine.is_none()));
    found
}

/// What this survey is about to change, with what an earlier one left half done.
fn intent(survey: &Survey, before: Option<Intent>) -> Intent {
    let mut intent = before.unwrap_or_default();
    let name = |table: &crate::model::TableName| (table.database.clone(), table.table.clone());
    intent.tables.extend(survey.tables.iter().filter(|table| table.differs()).map(|table| name(&table.target)));
    intent.tables.extend(survey.drops.iter().map(|drop| name(&drop.target)));
    let changes = |database: &&survey::DatabaseWork| !database.changes.is_empty() || !database.functions.is_empty();
    intent.databases.extend(survey.databases.iter().filter(changes).map(|one| one.target.database.clone()));
    intent.databases.extend(survey.gone.iter().map(|one| one.database.clone()));
    intent
}
