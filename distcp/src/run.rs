//! A run of a job from lease to receipt: `copy`, `plan` and `apply`.
//!
//! ```text
//! lease -> checkpoint, journals -> plan -> guards -> copy -> delete -> manifest -> checkpoint -> receipt -> prune
//! ```
//! What a crash leaves, step by step: a lease that goes stale or is proven dead; a journal whose segments name finished
//! objects and unfinished uploads; parts of a manifest that no index names; an index that no checkpoint names; a checkpoint
//! without a receipt. The next run takes over the lease, lays the journals over the last committed manifest, and finds by
//! listing what is left to do. The checkpoint moves only after the objects it vouches for are on the target.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use jiff::Timestamp;
use manifest::state::layout::RunId;
use manifest::state::lease::Lease;
use manifest::state::receipt::{self, ErrorSample, Receipt};
use manifest::state::{checkpoint, gc, journal};
use tokio::time::Instant;

use crate::beacon::Beacon;
use crate::commit;
use crate::copy::{self, CopyReport, Stopped};
use crate::error::{Failure, Result, chain};
use crate::exit::ExitCode;
use crate::job::Job;
use crate::plan::file::{Plan, PlanHeader};
use crate::plan::{PlanTotals, guard};
use crate::planning;
use crate::progress::Phase;
use crate::session::{self, PROGRAM};
use crate::store::{Store, StoreErrorKind};
use crate::summary::{ByteTotals, Counts, Summary};
use crate::trash;

/// How a run ended: always with a summary, and with a failure when it could not do its job.
#[derive(Debug)]
pub struct Report {
    /// The last word.
    pub summary: Summary,
    /// Why the job was not done; the summary's code is the failure's.
    pub failure: Option<Failure>,
}

/// Makes the target hold what the source holds.
pub async fn copy(job: &Job) -> Report {
    run(job, "copy", Work::Copy).await
}

/// Carries out a plan that was made before; refuses (exit 5) when the target has moved on since.
pub async fn apply(job: &Job, plan: &Path) -> Report {
    run(job, "apply", Work::Apply(plan)).await
}

/// Makes a plan and changes nothing: neither target nor state. The plan is for reading, or for [`apply`].
pub async fn plan(job: &Job) -> Result<Plan> {
    let (plan, refusal) = draft(job).await?;
    refusal.map_or(Ok(plan), Err)
}

/// As [`plan`](fn@plan), but a plan that a guard refuses is shown all the same, with the refusal: whoever is to decide whether it
/// is right needs to see it.
pub async fn draft(job: &Job) -> Result<(Plan, Option<Failure>)> {
    job.progress.enter(Phase::Starting);
    session::may_use(job).await?;
    let before = session::before(job).await?;
    let job = &session::shaped(job, &before).await?;
    let (base, _) = before.split();
    job.progress.enter(Phase::Listing);
    let plan = planned(job, &RunId::new(Timestamp::now()), base).await?;
    let refusal = refuse(job, &plan.header.totals).err();
    Ok((plan, refusal))
}

enum Work<'a> {
    Copy,
    Apply(&'a Path),
}

async fn run(job: &Job, command: &'static str, work: Work<'_>) -> Report {
    let started = Timestamp::now();
    let clock = Instant::now();
    let (run_id, known) = match session::new_run(job, started).await {
        Ok(run_id) => (run_id, Ok(())),
        Err(failure) => (RunId::new(started), Err(failure)),
    };
    let mut summary = Summary::new(command, job.name.as_str());
    summary.run_id = run_id.to_string();
    job.progress.enter(Phase::Starting);
    let lease = match known {
        Ok(()) => session::take_lease(job, &run_id, started).await,
        Err(failure) => Err(failure),
    };
    let result = match lease {
        Ok(lease) => {
            let beacon = beacon(job, &run_id);
            let result = leased(job, &lease, &run_id, work, &mut summary).await;
            if let Some(beacon) = beacon {
                beacon.stop().await;
            }
            let receipt = write_receipt(job, &run_id, started, &mut summary, &result).await;
            let result = result.and(receipt);
            if result.is_ok() {
                prune(job, &lease).await;
                if summary.exit_code == ExitCode::Done {
                    trash::expire(job, &lease.guard()).await;
                }
            }
            if let Err(error) = lease.release().await {
                job.note(format!("the lease could not be given back: {error}; the next run waits for it"));
            }
            result
        }
        Err(failure) => Err(failure),
    };
    summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    measure(job, &mut summary);
    let failure = result.err();
    if let Some(failure) = &failure {
        summary.end(failure.code);
        summary.errors.insert(0, failure.message.clone());
        summary.hint = failure.hint.clone();
    }
    Report { summary, failure }
}

/// Tells others how far it is, unless it has no lease, or is a part of something that tells it for all.
fn beacon(job: &Job, run_id: &RunId) -> Option<Beacon> {
    let meters = vec![job.source.meter.clone(), job.target.meter.clone()];
    let tells = job.leased && !job.progress.is_led();
    tells.then(|| Beacon::start(job.state.clone(), job.name.clone(), run_id.clone(), job.progress.clone(), meters))
}

async fn leased(job: &Job, lease: &Lease, run_id: &RunId, work: Work<'_>, summary: &mut Summary) -> Result<Arc<Plan>> {
    let before = session::before(job).await?;
    let job = &session::shaped(job, &before).await?;
    summary.as_of = before.as_of().map(|time| time.to_string());
    summary.manifest = before.manifest_id();
    let as_planned = matches!(work, Work::Apply(_));
    let (plan, unfinished) = match work {
        Work::Copy => {
            job.progress.enter(Phase::Listing);
            let (base, unfinished) = before.split();
            (planned(job, run_id, base).await?, unfinished)
        }
        Work::Apply(path) => {
            let plan = open_plan(job, path, before.manifest_id()).await?;
            job.progress.enter(Phase::Listing);
            let (base, unfinished) = before.split();
            session::not_moved_on(job, &plan, base.journalled).await?;
            (plan, unfinished)
        }
    };
    summary.counts.listed = plan.header.totals.listed;
    summary.bytes.source = plan.header.totals.source_bytes;
    summary.links_skipped = plan.header.totals.links;
    if !as_planned {
        refuse(job, &plan.header.totals)?;
    }
    session::leftovers::sweep(job, lease, &unfinished.died, &unfinished.uploads.ids()).await?;
    let plan = Arc::new(plan);
    session::claim(job).await?;
    session::keep_plan(job, run_id, &plan).await?;
    let (report, state) = carry_out(job, lease, run_id, plan.clone(), unfinished, as_planned).await?;
    fill(summary, &report);
    let code = end_code(job, &report);
    if report.stopped == Some(Stopped::LeaseLost) {
        return Err(Failure::new(
            ExitCode::Leased,
            "the lease was lost while the run went on; nothing more was written",
        ));
    }
    check_sums(&plan.header.totals, &report)?;
    job.progress.enter(Phase::Committing);
    // What stands for an older moment must not be believed to be of this one (rule 26).
    let complete = code == ExitCode::Done && !report.behind;
    let committed = commit::commit(job, lease, run_id, &plan, report, complete, state).await?;
    summary.manifest = Some(committed.manifest);
    summary.as_of = committed.as_of.map(|time| time.to_string());
    summary.end(code);
    Ok(plan)
}

/// Plans; what has anything of tables to carry is listed and planned once more ([`crate::layout::pin`]).
async fn planned(job: &Job, run_id: &RunId, base: session::Base) -> Result<Plan> {
    let as_of = as_of(job).await?;
    let (first, sort) = with_order(job, run_id, as_of, base, false).await?;
    if first.header.totals.ordered == 0 {
        return Ok(first);
    }
    // What is to be said of the listings was said.
    let again = Job { listener: Arc::new(|_| {}), ..job.clone() };
    let base = listed_anew(&again).await?;
    let (second, _) = with_order(&again, run_id, as_of, base, sort).await?;
    Ok(planning::pinned(job, first, second).await?)
}

/// Plans, and tells whether listings were sorted: a store that was caught listing out of order is listed once more.
async fn with_order(
    job: &Job,
    run_id: &RunId,
    as_of: Timestamp,
    base: session::Base,
    sort: bool,
) -> Result<(Plan, bool)> {
    match build(job, run_id, as_of, base, sort).await {
        Err(manifest::Error::OutOfOrder { what, .. }) if what != "the base" => {
            job.note(format!("{what} is not listed in key order: listing once more, sorting on disk"));
            let base = listed_anew(job).await?;
            Ok((build(job, run_id, as_of, base, true).await?, true))
        }
        other => Ok((other?, sort)),
    }
}

/// What to list against, once more; counts of listings begin again.
async fn listed_anew(job: &Job) -> Result<session::Base> {
    job.progress.listed_source.store(0, Ordering::Relaxed);
    job.progress.listed_target.store(0, Ordering::Relaxed);
    Ok(session::before(job).await?.split().0)
}

/// The moment that the source stands for when it is listed from now on: an earlier one where it is a copy that its service
/// keeps (rules 26, 34). Unknown is refused: a time that is too new would be believed.
async fn as_of(job: &Job) -> Result<Timestamp> {
    let now = Timestamp::now();
    if job.within.as_ref().is_some_and(|within| within.empties_all()) {
        return Ok(now);
    }
    let synced = job.source.store.synced().await.map_err(|error| {
        Failure::from(error).hint("without it nobody can say how old the copy is: name the account without -secondary")
    })?;
    if let Some(synced) = synced {
        job.note(format!("the source is a second location, which has everything that was written until {synced}"));
    }
    Ok(synced.map_or(now, |synced| synced.min(now)))
}

async fn build(job: &Job, run_id: &RunId, as_of: Timestamp, base: session::Base, sort: bool) -> manifest::Result<Plan> {
    let header = PlanHeader {
        job: job.name.to_string(),
        source: job.source.place.clone(),
        target: job.target.place.clone(),
        state: job.state.place(),
        id: run_id.to_string(),
        base: base.manifest.as_ref().map(|manifest| manifest.index().id.to_string()),
        as_of: as_of.to_string(),
        options: job.options.clone(),
        chunk_bytes: job.limits.chunk_size.bytes(),
        totals: PlanTotals::default(),
    };
    planning::build(job, base, header, sort).await
}

fn refuse(job: &Job, totals: &PlanTotals) -> Result<()> {
    if totals.target_is_ours {
        let target = &job.target.place;
        return Err(Failure::usage(format!("the target {target} is itself the state or the trash of some job"))
            .hint("check how TARGET is written"));
    }
    guard::check(totals, &job.options).map_or(Ok(()), |refusal| Err(refusal.into()))
}

async fn open_plan(job: &Job, path: &Path, base: Option<String>) -> Result<Plan> {
    let path = path.to_owned();
    let plan = tokio::task::spawn_blocking(move || Plan::open(&path)).await??;
    if plan.header.job != job.name.as_str() {
        return Err(Failure::usage(format!("the plan is of job {}, not of {}", plan.header.job, job.name)));
    }
    if plan.header.base != base {
        return Err(Failure::new(
            ExitCode::Refused,
            "the target has moved on since the plan was made: another run has committed",
        )
        .hint("make a new plan with: distcp plan SOURCE TARGET -o PLAN"));
    }
    Ok(plan)
}

/// What the journal vouches for.
#[derive(Debug)]
struct Target(Arc<dyn Store>);

#[async_trait]
impl journal::Vouched for Target {
    async fn settle(&self) -> manifest::Result<()> {
        self.0.settle().await.map_err(|error| manifest::Error::State {
            operation: "sync",
            name: "what was copied".into(),
            place: self.0.place().into(),
            reason: chain(&error),
            class: error.class(),
            permission: error.kind == StoreErrorKind::Permission,
        })
    }
}

async fn carry_out(
    job: &Job,
    lease: &Lease,
    run_id: &RunId,
    plan: Arc<Plan>,
    unfinished: session::Journals,
    as_planned: bool,
) -> Result<(CopyReport, session::RunState)> {
    let writer = journal::JournalWriter::start(
        job.state.clone(),
        &job.name,
        run_id,
        Some(Arc::new(Target(job.target.store.clone()))),
        lease.guard(),
        journal::FLUSH_EVERY,
        journal::MAX_RECORDS,
    );
    let session::Journals { runs, uploads, removes, given_up, .. } = unfinished;
    let had_uploads = !uploads.is_empty();
    let inputs = copy::Inputs {
        plan,
        run: run_id.clone(),
        journal: writer.handle(),
        guard: lease.guard(),
        unfinished: uploads,
        as_planned,
    };
    let report = copy::copy(job, inputs).await;
    // What finished is made durable before anything else, also on the way out (case 33).
    writer.finish().await?;
    let report = report?;
    // A run that stopped leaves its uploads, and the ones it did not come to or could not give up, for the next; and so what
    // was to be deleted.
    let keeps = report.stopped.is_some() || report.ends.failed > 0 || report.left_upload;
    let mut open_runs = Vec::new();
    if keeps {
        // Oldest first, as they are read: what a later journal says of an upload counts.
        // What was to be deleted a run that came so far has put on record anew.
        let are_needed = had_uploads || (removes && !report.gave_up);
        open_runs.extend(runs.into_iter().filter(|_| are_needed));
        open_runs.push(run_id.clone());
    }
    let given_up = match &job.within {
        Some(within) if report.gave_up => within.given_up().collect(),
        _ => given_up,
    };
    Ok((report, session::RunState { open_runs, given_up, single: job.source.single }))
}

fn end_code(job: &Job, report: &CopyReport) -> ExitCode {
    let stopped = match report.stopped {
        Some(Stopped::Interrupted) if job.stop.terminated.load(Ordering::Relaxed) => Some(ExitCode::Terminated),
        Some(Stopped::Interrupted) => Some(ExitCode::Interrupted),
        Some(Stopped::LeaseLost) => Some(ExitCode::Leased),
        Some(Stopped::Limit) => Some(ExitCode::Limited),
        Some(Stopped::Error) | None => None,
    };
    let failed = (report.ends.failed > 0 || report.stopped == Some(Stopped::Error)).then_some(ExitCode::Partial);
    ExitCode::first(stopped.into_iter().chain(failed))
}

/// Every listed key ended exactly once (rule 14); anything else is a defect of this program and fails the run.
fn check_sums(totals: &PlanTotals, report: &CopyReport) -> Result<()> {
    let ends = &report.ends;
    let sum = ends.equal + ends.copied + ends.deleted + ends.skipped + ends.failed;
    match sum == totals.listed {
        true => Ok(()),
        false => Err(Failure::new(
            ExitCode::Failed,
            format!("{} keys were listed, but {sum} are accounted for: {ends:?}", totals.listed),
        )),
    }
}

fn fill(summary: &mut Summary, report: &CopyReport) {
    let ends = &report.ends;
    summary.counts = Counts {
        listed: summary.counts.listed,
        equal: ends.equal,
        copied: ends.copied,
        deleted: ends.deleted,
        skipped: ends.skipped,
        failed: ends.failed,
    };
    summary.bytes.server_side = ends.server_side_bytes;
    summary.vanished = report.vanished;
    summary.trashed = report.trashed;
    summary.errors = report.errors.clone();
    if report.full {
        summary.hint = Some("free space at the target, then run the same command again: it resumes".into());
    }
}

pub(crate) fn measure(job: &Job, summary: &mut Summary) {
    let (source, target) = (job.source.meter.snapshot(), job.target.meter.snapshot());
    summary.requests = source.requests + target.requests;
    summary.retries = source.retries + target.retries;
    if let Some(trash) = &job.trash {
        let trash = trash.tree.meter.snapshot();
        summary.requests = summary.requests + trash.requests;
        summary.retries += trash.retries;
    }
    summary.bytes = ByteTotals {
        source: summary.bytes.source,
        read: source.bytes.read + target.bytes.read,
        written: target.bytes.written,
        server_side: summary.bytes.server_side,
    };
}

async fn write_receipt(
    job: &Job,
    run_id: &RunId,
    started: Timestamp,
    summary: &mut Summary,
    result: &Result<Arc<Plan>>,
) -> Result<()> {
    measure(job, summary);
    let failure = result.as_ref().err();
    let (counts, bytes, requests) = (summary.counts, summary.bytes, summary.requests);
    let code = failure.map_or(summary.exit_code, |failure| failure.code);
    let map = |pairs: &[(&str, u64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let errors = summary.errors.iter().map(|error| ErrorSample { key: String::new().into(), error: error.clone() });
    let receipt = Receipt {
        job: job.name.clone(),
        run_id: run_id.clone(),
        command: summary.command.into(),
        program: PROGRAM.into(),
        started,
        ended: Timestamp::now(),
        exit_code: code.code(),
        outcome: code.word().into(),
        as_of: summary.as_of.as_deref().and_then(|time| time.parse().ok()),
        counts: map(&[
            ("listed", counts.listed),
            ("equal", counts.equal),
            ("copied", counts.copied),
            ("deleted", counts.deleted),
            ("skipped", counts.skipped),
            ("failed", counts.failed),
        ]),
        bytes: map(&[
            ("source", bytes.source),
            ("read", bytes.read),
            ("written", bytes.written),
            ("server_side", bytes.server_side),
        ]),
        requests: map(&requests.named()),
        manifest: summary.manifest.clone(),
        errors: failure
            .map(|failure| ErrorSample { key: String::new().into(), error: failure.message.clone() })
            .into_iter()
            .chain(errors)
            .collect(),
        errors_total: counts.failed,
        plan_digest: result.as_ref().ok().map(|plan| plan.digest.clone()),
        journal_needed: failure.is_some()
            || matches!(code, ExitCode::Limited | ExitCode::Interrupted | ExitCode::Terminated),
        summary: serde_json::Value::Null,
    };
    Ok(receipt::write(job.state.as_ref(), &receipt).await?)
}

/// Removes what no later run needs. A failure here fails nothing: the run's work is committed.
async fn prune(job: &Job, lease: &Lease) {
    let pruned = async {
        // However old they are: without their journals nobody could go on with the uploads, or give them up (rule 18).
        let loaded = checkpoint::load::<session::RunState>(job.state.as_ref(), &job.name).await?;
        let runs = loaded.map(|loaded| loaded.checkpoint.state.open_runs).unwrap_or_default();
        let in_use = gc::InUse { runs: runs.into_iter().collect(), ..gc::InUse::default() };
        gc::collect(&job.state, &job.name, job.keep_runs, lease, &in_use).await
    };
    if let Err(error) = pruned.await {
        job.note(format!("old state was not pruned: {error}"));
    }
}
