//! A run, from the lease to the receipt: what [`super::planned`] found is carried out, and the new state is committed.

use super::apply::Applier;
use super::data::{self, Draft, Tree};
use super::planned::{Planned, Round, draw_up, intent};
use super::report::{self, Mode, SyncSummary};
use super::settle::{Lacking, Outcome, Settling};
use super::state::{Fingerprints, Rules, SyncState};
use super::survey::Survey;
use super::unexplained::Unexplained;
use super::{Allowed, Metastores, PROGRAM, Setting, failure, hops, kept, still, switch, until, writes};
use crate::metastore::Metastore as _;
use crate::roots::{Owner, Root};
use distcp::beacon::Beacon;
use distcp::copy::Ends;
use distcp::error::{Failure, Result};
use distcp::event::Event;
use distcp::exit::ExitCode;
use distcp::progress::Phase;
use distcp::quantity::counted;
use distcp::run::Report;
use jiff::Timestamp;
use manifest::ObjectKey;
use manifest::state::checkpoint::{self, Checkpoint};
use manifest::state::holder::Holder;
use manifest::state::layout::{JobName, RunId};
use manifest::state::lease::{self, Lease};
use manifest::state::{StateStore, Tag, gc, marker, probe};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// How often a run goes round when what it copies moves.
const MAX_ROUNDS: u32 = 3;
/// What makes a metastore write a log.
const LISTENER: &str = "hive.metastore.transactional.event.listeners (metastore.transactional.event.listeners since Hive 3) \
    there names DbNotificationListener to have one";
/// Words for the next hop in one transaction.
const WORDS_AT_ONCE: usize = 1000;

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
    let run = Run { setting, allowed, job, state, run_id, lease: &lease, round: Mutex::default() };
    let start = || {
        let (state, job, run_id) = (run.state.clone(), run.job.clone(), run.run_id.clone());
        Beacon::start(state, job, run_id, setting.progress.clone(), Vec::new())
    };
    let beacon = setting.leased.then(start);
    let result = run.rounds(summary).await;
    if let Some(beacon) = beacon {
        beacon.stop().await;
    }
    let receipt = report::receipt(&run.job, &run.run_id, started, summary, result.as_ref().err());
    let receipt = manifest::state::receipt::write(run.state.as_ref(), &receipt).await.map_err(Failure::from);
    let result = result.and(receipt);
    if result.is_ok() {
        // A failure here fails nothing: the run's work is committed.
        let keep = setting.keep_runs;
        if let Err(error) = gc::collect(&run.state, &run.job, keep, &lease, &gc::InUse::default()).await {
            setting.note(format!("receipts of old runs were not removed: {error}"));
        }
    }
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
    /// What the rounds before have told.
    round: Mutex<Round>,
}

impl Run<'_> {
    /// Files of one write arrive together: what was copied is listed once more at the end, and where it moved meanwhile the
    /// run goes round again. What moves in every round is left to the next run, and named.
    async fn rounds(&self, summary: &mut SyncSummary) -> Result<()> {
        for round in 1..=MAX_ROUNDS {
            let moved = self.go(round, summary).await?;
            if moved.is_empty() || self.stopped().is_some() {
                return Ok(());
            }
            if round < MAX_ROUNDS {
                summary.begin_again();
                continue;
            }
            for table in moved {
                self.setting
                    .note(format!("{table} changed each time that it was copied; the next run goes on with it"));
                if !summary.behind.contains(&table) {
                    summary.behind.push(table);
                }
            }
        }
        Ok(())
    }

    /// One round. Returns the tables of which files changed after they were listed.
    async fn go(&self, round: u32, summary: &mut SyncSummary) -> Result<BTreeSet<String>> {
        let setting = self.setting;
        let stores = until::answered(&setting.stop, Metastores::open(setting, true)).await?;
        let loaded = checkpoint::load::<SyncState>(self.state.as_ref(), &self.job).await?;
        let left = loaded.as_ref().map(|loaded| loaded.checkpoint.clone());
        let mut tag = loaded.map(|loaded| loaded.tag);
        let last = left.as_ref().and_then(|left| left.as_of);
        summary.as_of = last.map(|time| time.to_string());
        let known = {
            let mut known = self.round.lock().unwrap_or_else(PoisonError::into_inner);
            Round { tag: format!("{}-{round}", self.run_id), ..std::mem::take(&mut *known) }
        };
        let drawing = draw_up(setting, &stores, left.as_ref(), self.allowed, &known, round == 1);
        let mut planned = until::answered(&setting.stop, drawing).await?;
        if round == 1 {
            summary.mode = planned.mode;
            summary.from_event = planned.seen.from;
        }
        summary.to_event = planned.seen.position.as_ref().map(|position| position.id);
        self.tell_events(&planned, summary);
        let mut new = left.as_ref().map(|left| left.state.clone()).unwrap_or_else(|| SyncState {
            // What a run that dies leaves is where this policy put it.
            rules: Rules::of(&setting.policy),
            ..SyncState::default()
        });
        planned.places.keep(&mut new);
        let by_path = planned.paths.planned.iter().any(|(_, draft)| !draft.is_idle);
        let differs = planned.differs() || !planned.removals.is_empty() || by_path;
        if differs {
            new.intent = Some(intent(&planned.survey, new.intent.take(), &planned.policy));
            if self.allowed.selection.is_all() {
                // What a table has again is not to be emptied any more.
                (new.removals, new.leaving) = (BTreeSet::new(), BTreeMap::new());
            }
            new.removals.extend(planned.removals.iter().chain(&planned.postponed).cloned());
            new.leaving.extend(planned.leaving.clone());
            tag = Some(self.commit(&stores, &new, last, false, tag.as_ref()).await?);
        }
        self.hold(&stores, &planned.survey).await?;
        let outcome = self.carry(&stores, &mut planned, summary).await?;
        let settling = Settling {
            planned: &planned,
            outcome: &outcome,
            policy: &setting.policy,
            is_all: self.allowed.selection.is_all(),
            stopped: self.stopped(),
            half_done: left.as_ref().is_some_and(|left| left.state.is_half_done()),
            last,
        };
        setting.progress.lead(Phase::Committing);
        let complete = settling.settle(&mut new, summary);
        self.where_it_stands(&stores, &mut planned, &mut new).await?;
        if self.allowed.selection.is_all() && outcome.reached && new.explained.is_empty() {
            for words in hops::emptied(&planned.survey, &planned.seen).chunks(WORDS_AT_ONCE) {
                self.lease.guard().check()?;
                stores.target.apply(words).await.map_err(failure)?;
            }
        }
        let mut moved = match complete {
            true => self.moved(&outcome.copied, &planned.survey, &mut new.looks).await,
            false => BTreeSet::new(),
        };
        moved.extend(outcome.held.iter().map(|at| planned.survey.tables[*at].source.to_string()));
        self.remember(outcome.differs);
        if !planned.is_still {
            let all_done = complete && moved.is_empty() && !planned.survey.has_open_writes();
            new.fingerprints = self.left_behind(&stores, &planned, all_done).await?;
        }
        let as_of = summary.as_of.as_deref().and_then(|time| time.parse().ok());
        let before = left.as_ref().map(|left| &left.state);
        new.kept = kept::keep(setting, self.state.as_ref(), &stores.target, before).await?;
        self.commit(&stores, &new, as_of, complete, tag.as_ref()).await?;
        let is_another = new.kept != before.and_then(|before| before.kept.clone());
        if let Some(kept) = new.kept.as_ref().filter(|_| is_another)
            && let Err(failure) = kept::sweep(setting, self.state.as_ref(), kept).await
        {
            setting.note(format!("old parts of the replica's metastore were not removed: {}", failure.message));
        }
        Ok(moved)
    }

    /// Which of the fresh folders the target names now.
    async fn where_it_stands(&self, stores: &Metastores, planned: &mut Planned, new: &mut SyncState) -> Result<()> {
        if !planned.places.pending.is_empty() {
            let target = stores.target.snapshot().await.map_err(failure)?;
            let map = &self.setting.policy.locations;
            planned.places.resolve(target.as_ref(), map, Timestamp::now()).await?;
        }
        // What was to go is kept until all of it has gone.
        let (places, retiring) = (&mut planned.places, &planned.retiring);
        places.retired.retain(|folder, _| !retiring.contains(folder) || new.retired.contains_key(folder));
        planned.places.keep(new);
        Ok(())
    }

    /// What the next round has to know.
    fn remember(&self, differs: BTreeMap<String, BTreeSet<ObjectKey>>) {
        let mut known = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Round { tag: String::new(), differs, has_read: true };
    }

    /// The tables of which files came, went or were replaced since these trees were copied. Such a tree has to be looked at
    /// again, whatever `sweep` spares.
    async fn moved(&self, trees: &[Tree], survey: &Survey, looks: &mut BTreeMap<String, String>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for tree in trees {
            match tree.moved().await {
                Ok(tables) if tables.is_empty() => {}
                Ok(tables) => {
                    looks.remove(&tree.key());
                    found.extend(tables.iter().map(|at| survey.tables[*at].source.to_string()));
                }
                Err(failure) => self.setting.note(format!(
                    "{} could not be listed again after it was copied: {}",
                    tree.root.from, failure.message
                )),
            }
        }
        found
    }

    /// What both metastores hold after a run that did everything. Who changes the target between its last write and this is
    /// found by the next comparison, not before.
    async fn left_behind(
        &self,
        stores: &Metastores,
        planned: &Planned,
        complete: bool,
    ) -> Result<Option<Fingerprints>> {
        let Some(source) = planned.fingerprint.clone().filter(|_| complete) else { return Ok(None) };
        let target = stores.target.snapshot().await.map_err(failure)?.fingerprint().await.map_err(failure)?;
        Ok(target.map(|target| still::fingerprints(source, target, &self.setting.policy)))
    }

    /// What the log said, in numbers and words.
    fn tell_events(&self, planned: &Planned, summary: &mut SyncSummary) {
        let seen = &planned.seen;
        summary.events.applied += seen.applied;
        summary.events.skipped += seen.skipped;
        for (kind, count) in &seen.by_type {
            *summary.events.by_type.entry(kind.clone()).or_default() += count;
        }
        seen.unknown.iter().for_each(|why| self.setting.note(format!("{why}; what it may be about was compared")));
        if planned.mode == Mode::Incremental {
            let Unexplained { databases, tables } = &planned.unexplained;
            let databases = databases.iter().map(|(name, why)| (name.to_string(), why));
            for (name, why) in databases.chain(tables.iter().map(|(name, why)| (name.to_string(), why))) {
                self.setting.note(format!("{name}: {why}; what the source holds was taken"));
                summary.events.missing.push(name);
            }
        }
        for (what, why) in &planned.in_place {
            self.setting.note(format!("files of {what} are replaced in place, where readers are: {why}"));
        }
        summary.events.log_seems_off = summary.events.is_silent();
        if summary.events.log_seems_off {
            let last = seen.position.as_ref().map_or(0, |position| position.id);
            self.setting.note(format!(
                "the source's event log seems to be off: objects changed, and there is no event after {last}; every run \
                 compares everything all the same; {LISTENER}"
            ));
        }
        if !seen.has_log && !planned.survey.tables.is_empty() {
            self.setting.note(format!(
                "the source's event log is empty: every run compares everything all the same; {LISTENER}"
            ));
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

    /// What compactions made of transactional tables comes where readers look already: they are told first that it is not there.
    async fn hold(&self, stores: &Metastores, survey: &Survey) -> Result<()> {
        for change in writes::holds(survey) {
            self.lease.guard().check()?;
            stores.target.apply(&[change]).await.map_err(failure)?;
        }
        Ok(())
    }

    /// Data, metadata, how far, deletes.
    async fn carry(&self, stores: &Metastores, planned: &mut Planned, summary: &mut SyncSummary) -> Result<Outcome> {
        planned.begin(&self.setting.progress);
        // A tree in which nothing has to be done is not opened again.
        let idle: Vec<bool> = planned.drafts.iter().map(Draft::is_idle).collect();
        let mut trees = std::mem::take(&mut planned.trees);
        for ((tree, draft), _) in trees.iter().zip(&planned.drafts).zip(&idle).filter(|(_, idle)| **idle) {
            summary.add_idle(&draft.totals, tree.job.requests());
        }
        trees.iter_mut().zip(&planned.drafts).for_each(|(tree, draft)| tree.pin(draft));
        let trees = trees.into_iter().zip(idle).filter(|(_, idle)| !*idle);
        let (data, logs) = data::split(trees.map(|(tree, _)| tree).collect());
        let mut outcome = Outcome::default();
        self.wait_for_files(planned, &mut outcome.lacking);
        for (path, draft) in &planned.paths.planned {
            if draft.is_idle {
                summary.add_idle(&draft.totals, path.job.requests());
                continue;
            }
            let report = distcp::run::copy(&path.job).await;
            summary.add(&report.summary);
            outcome.paths.push((path.name.clone(), report));
        }
        let whole = switch::look_at_sources(&data).await?;
        let (between, mut logged) = (&mut outcome, Vec::new());
        let reports = data::carry(&data, async |copied: &[Option<Ends>]| {
            add(&mut between.lacking, &data, copied, &planned.survey);
            for tree in &data {
                between.differs.entry(tree.key()).or_default().extend(tree.differs());
                between.held.extend(tree.held());
                // Half of one version and half of the next are not shown.
                between.held.extend(switch::moved_since(tree, &whole).await?);
            }
            between.lacking.waiting.extend(&between.held);
            self.lease.guard().check()?;
            for tree in &data {
                tree.make_folders().await?;
            }
            if self.stopped().is_some() {
                return Ok(vec![false; data.len()]);
            }
            logged = self.carry_logs(logs, planned, &mut between.lacking).await?;
            self.apply(stores, planned, between).await?;
            let is_done = between.reached;
            Ok::<_, Failure>(
                data.iter().map(|tree| is_done && may_delete(&tree.root, between, &planned.survey)).collect(),
            )
        })
        .await?;
        for (tree, report) in data.into_iter().zip(reports) {
            let copied = report.summary.counts.copied > 0;
            outcome.jobs.push((tree.root.clone(), report));
            outcome.copied.extend(copied.then_some(tree));
        }
        outcome.jobs.extend(logged);
        for (_, report) in &outcome.jobs {
            summary.add(&report.summary);
        }
        Ok(outcome)
    }

    /// Rule 34: metadata of tables whose files others have not brought yet stays as it is.
    fn wait_for_files(&self, planned: &Planned, lacking: &mut Lacking) {
        for (at, (count, first)) in &planned.waiting {
            let table = &planned.survey.tables[*at];
            let files = counted(*count, "file", "files");
            self.setting.note(format!("{} waits for {files} that others bring: {first}", table.source));
            lacking.waiting.insert(*at);
        }
    }

    /// Logs that name data files, of the tables whose files are all there; first what checkpoints name.
    async fn carry_logs(
        &self,
        trees: Vec<Tree>,
        planned: &Planned,
        lacking: &mut Lacking,
    ) -> Result<Vec<(Root, Report)>> {
        let survey = &planned.survey;
        let parts = |without: &BTreeSet<usize>| trees.iter().filter_map(|tree| tree.logs(without, survey)).unzip();
        let (sidecars, _): (Vec<Option<Tree>>, Vec<Tree>) = parts(&lacking.tables());
        let sidecars = sidecars.into_iter().flatten().collect();
        let mut done = self.carry_some_logs(sidecars, planned, lacking).await?;
        let (_, logs): (Vec<Option<Tree>>, Vec<Tree>) = parts(&lacking.tables());
        done.extend(self.carry_some_logs(logs, planned, lacking).await?);
        Ok(done)
    }

    async fn carry_some_logs(
        &self,
        logs: Vec<Tree>,
        planned: &Planned,
        lacking: &mut Lacking,
    ) -> Result<Vec<(Root, Report)>> {
        let reports = data::carry(&logs, async |copied: &[Option<Ends>]| {
            add(lacking, &logs, copied, &planned.survey);
            Ok::<_, Failure>(vec![true; logs.len()])
        })
        .await?;
        Ok(logs.into_iter().map(|tree| tree.root).zip(reports).collect())
    }

    /// Metadata of the tables whose data is there, and how far the replica is.
    async fn apply(&self, stores: &Metastores, planned: &Planned, outcome: &mut Outcome) -> Result<()> {
        let sides = until::answered(&self.setting.stop, stores.sides_by(planned.policy.clone())).await;
        let sides = match sides {
            Err(failure) if until::is_asked(&failure) => return Ok(()),
            sides => sides?,
        };
        let applier = Applier {
            sides: &sides,
            target: &stores.target,
            survey: &planned.survey,
            skip: &outcome.lacking.tables(),
            skip_functions: &outcome.lacking.functions,
            skip_folders: &outcome.lacking.removals,
            guard: self.lease.guard(),
            stop: &self.setting.stop,
            progress: &self.setting.progress,
        };
        self.setting.progress.lead(Phase::Applying);
        let event = planned.seen.position.as_ref().map_or(0, |position| position.id);
        let (applied, result) = applier.apply(self.allowed.selection.is_all().then_some(event)).await;
        (outcome.applied, outcome.reached) = (applied, result.is_ok());
        // What was done before a signal is kept, and the rest is named by the intent.
        self.setting.progress.lead(Phase::Deleting);
        result.or_else(|failure| until::is_asked(&failure).then_some(()).ok_or(failure))
    }

    /// The code of the signal that ends this run.
    fn stopped(&self) -> Option<ExitCode> {
        until::signalled(&self.setting.stop)
    }
}

/// What the copies of these trees left undone.
fn add(lacking: &mut Lacking, trees: &[Tree], copied: &[Option<Ends>], survey: &Survey) {
    let failures = |tree: &Tree, ends: &Option<Ends>| {
        let mut failures = tree.failures();
        // A copy that broke off has not seen everything.
        if ends.is_some() {
            for (at, why) in tree.missing() {
                failures.entry(Owner::Table(at)).or_insert(why);
            }
        }
        failures
    };
    let each = trees.iter().zip(copied).map(|(tree, ends)| (&tree.root, failures(tree, ends), ends));
    lacking.add(each, survey);
}

/// A tree loses files only when all its tables are as they shall be.
fn may_delete(root: &Root, outcome: &Outcome, survey: &Survey) -> bool {
    let undropped = survey.drops.iter().filter(|drop| !outcome.applied.dropped.contains(&drop.target));
    let mut kept = undropped.flat_map(|drop| &drop.folders);
    if kept.any(|folder| root.to.overlaps(folder)) {
        return false;
    }
    let Outcome { applied, lacking, .. } = outcome;
    let is_whole = |at: &usize| applied.done.contains_key(at) && !applied.behind.contains(at);
    if survey.left.iter().any(|(at, folder)| !is_whole(at) && root.to.overlaps(folder)) {
        return false;
    }
    let is_held = |at: &usize| {
        let not_copied = lacking.failed.contains_key(at) || lacking.waiting.contains(at);
        not_copied || applied.failed.contains_key(at) || applied.behind.contains(at)
    };
    !root.folders.values().flatten().any(|owner| match owner {
        Owner::Table(at) => is_held(at),
        Owner::Database(_) | Owner::Removal => false,
    })
}
