//! A run, from the lease to the receipt: what [`super::planned`] found is carried out, and the new state is committed.

use super::apply::{Applied, Applier};
use super::data;
use super::planned::{Planned, draw_up, intent};
use super::report::{self, Mode, SyncSummary};
use super::state::{DatabaseState, Intent, Rules, SyncState, TableState};
use super::survey::{self, Survey};
use super::{Allowed, Metastores, PROGRAM, Setting};
use crate::roots::{Owner, Root, Wave};
use distcp::copy::Ends;
use distcp::error::{Failure, Result};
use distcp::event::Event;
use distcp::exit::ExitCode;
use distcp::run::Report;
use jiff::Timestamp;
use manifest::state::checkpoint::{self, Checkpoint};
use manifest::state::holder::Holder;
use manifest::state::layout::{JobName, RunId};
use manifest::state::lease::{self, Lease};
use manifest::state::{StateStore, Tag, marker, probe};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

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
            new.intent = Some(intent(&planned.survey, new.intent.take(), &setting.policy));
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
                "the source's event log is empty: every run compares everything all the same; metastore.transactional.event.listeners there names DbNotificationListener to have one",
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
        for (path, _) in &planned.paths {
            let report = distcp::run::copy(&path.job).await;
            summary.add(&report.summary);
            outcome.paths.push((path.name.clone(), report));
        }
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
        let jobs = outcome.jobs.iter().map(|(root, report)| (format!("data of {}", root.from), report));
        let paths = outcome.paths.iter().map(|(name, report)| (format!("path {name}"), report));
        let mut jobs_done = true;
        for (name, report) in jobs.chain(paths).filter(|(_, report)| report.summary.exit_code != ExitCode::Done) {
            jobs_done = false;
            codes.push(report.summary.exit_code);
            summary.errors.extend(report.failure.as_ref().map(|failure| format!("{name}: {}", failure.message)));
        }
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
                (None, _) if table.unread => {}
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
        let fresh = new.intent.take().map(|intent| intent.fresh).unwrap_or_default();
        unfinished.fresh = fresh.into_iter().filter(|(_, table)| unfinished.tables.contains(table)).collect();
        new.intent = (!unfinished.tables.is_empty() || !unfinished.databases.is_empty()).then_some(unfinished);
        if jobs_done && outcome.reached {
            new.removals.clear();
        }
        if jobs_done && outcome.reached && self.allowed.selection.is_all() {
            let kept = planned.unseen.iter().map(|(tree, look)| (tree.clone(), look.to_string()));
            new.looks =
                kept.chain(planned.looked.iter().map(|tree| (tree.clone(), planned.asked.to_string()))).collect();
        }
        // What a run did not come to, the next one has to hear of again.
        if self.allowed.selection.is_all() && outcome.reached {
            new.rules = Rules::of(&self.setting.policy);
            new.position = planned.seen.position.clone();
            new.window = planned.seen.window.clone();
        }
        summary.tables.quarantined = summary.quarantined.len() as u64;
        for damaged in &survey.damaged {
            summary.errors.push(format!("{} is not carried: {}", damaged.object, damaged.why));
        }
        if !summary.quarantined.is_empty() || !applied.functions.is_empty() || !survey.damaged.is_empty() {
            codes.push(ExitCode::Partial);
        }
        let complete = jobs_done && outcome.reached && applied.behind.is_empty() && self.allowed.selection.is_all();
        if complete {
            let kept = new.quarantined().filter_map(|(_, one)| one.as_of.as_deref()?.parse::<Timestamp>().ok());
            summary.as_of = Some(
                kept.chain(planned.unseen.values().copied())
                    .chain([planned.asked])
                    .min()
                    .unwrap_or(planned.asked)
                    .to_string(),
            );
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
    /// How the copies of plain trees ended.
    paths: Vec<(String, Report)>,
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
