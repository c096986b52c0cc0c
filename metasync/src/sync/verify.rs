//! `verify`: compares a replica with its source, tells what is wrong from what is only behind, and mends it if asked to.
//!
//! The comparison changes nothing and takes no lease: beside a run that goes on it finds what that run has not done yet. It
//! is done first, whole; then, with `repair`, a run under the lease and the guards of every run mends the target, and what was
//! mended is looked at once more. At the end two files are written, in this order: what was found (a receipt of its own), and
//! the cursor of a rolling verification. A crash before the first leaves nothing but what a run leaves; one between them a
//! part that is read once more.

pub mod behind;
pub mod cycle;
mod look;
pub mod report;

use super::doubts::Doubts;
use super::survey::Selection;
use super::{Allowed, Setting, until};
use cycle::{Cycle, Portion, Round};
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::summary::Differences;
use distcp::verify::{Level, Mark};
use jiff::Timestamp;
use look::{Looked, Reads, look};
use manifest::state::cursor::{self, Cursor};
use manifest::state::layout::RunId;
use manifest::state::{StateStore, Tag, marker, verification};
use report::{MAX_FINDINGS, Repaired, VerifySummary};
use std::sync::Arc;
use tokio::time::Instant;

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub mark: Mark,
    /// Of what: `table sales.orders`, or the place of an object on the target.
    pub object: String,
    /// In what it differs, or what went wrong.
    pub detail: Option<String>,
}

/// What was found, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of metadata.
    pub metadata: Differences,
    /// Of data.
    pub data: Differences,
}

impl Found {
    /// How `verify` ends.
    pub fn code(&self) -> ExitCode {
        ExitCode::first([self.metadata.code(), self.data.code()])
    }
}

/// What is asked for.
#[derive(Clone, Default)]
pub struct Ask {
    /// Which tables.
    pub selection: Selection,
    /// How much of the data to look at: of what is not in `portion`.
    pub level: Level,
    /// Read the next part of all data, too; only of all tables.
    pub portion: Option<Portion>,
    /// Mend what is wrong.
    pub repair: bool,
}

/// A finding, and when: before or after a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The comparison that was asked for.
    First,
    /// The look at what was mended.
    AfterRepair,
}

/// Compares, and mends; `sink` gets every finding, equal ones included. Always with a summary, and with a failure when it
/// could not do its job.
pub async fn verify(
    setting: &Setting,
    ask: &Ask,
    sink: &mut (dyn FnMut(Pass, Finding) + Send),
) -> (VerifySummary, Option<Failure>) {
    let (started, clock) = (Timestamp::now(), Instant::now());
    let run_id = RunId::new(started);
    let mut summary = VerifySummary::new(&setting.policy.name, &run_id, ask.level);
    let mut is_kept = false;
    let result = go(setting, ask, &mut summary, &run_id, started, sink, &mut is_kept).await;
    summary.duration_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failure = result.err();
    if let Some(failure) = failure.as_ref().filter(|_| !is_kept) {
        keep_failure(setting, &run_id, started, &summary, failure).await;
    }
    if let Some(failure) = &failure {
        summary.end(failure.code);
        summary.errors.insert(0, failure.message.clone());
        summary.hint.clone_from(&failure.hint);
    }
    (summary, failure)
}

async fn go(
    setting: &Setting,
    ask: &Ask,
    summary: &mut VerifySummary,
    run_id: &RunId,
    started: Timestamp,
    sink: &mut (dyn FnMut(Pass, Finding) + Send),
    is_kept: &mut bool,
) -> Result<()> {
    let cycle = match ask.portion {
        Some(portion) => Some(Left::load(setting, portion).await?),
        None => None,
    };
    let mut round = cycle.as_ref().map(|left| Round::new(left.cycle.clone(), left.portion.budget_bytes));
    let mut shown = Vec::new();
    let reads = round.as_mut().map_or(Reads::ByLevel, Reads::Next);
    let mut seen = |finding: Finding| {
        if finding.mark != Mark::Equal && shown.len() < MAX_FINDINGS {
            shown.push(finding.clone());
        }
        sink(Pass::First, finding);
    };
    let looking = look(setting, &ask.selection, ask.level, reads, &mut seen);
    let looked = until::answered(&setting.stop, looking).await?;
    summary.take(&looked.found, looked.as_of, looked.bytes_read, looked.requests);
    let next = round.map(|round| round.end(looked.source_bytes.saturating_mul(2), started));
    summary.coverage = next.as_ref().map(|(_, coverage)| coverage.clone());
    let mut failure = None;
    if ask.repair && looked.found.code() != ExitCode::Done {
        failure = repair(setting, ask, looked, summary, sink).await.err();
    }
    let state = setting.state(true)?;
    let receipt = report::receipt(&setting.job()?, run_id, started, summary, &shown, failure.as_ref());
    *is_kept = true;
    keep(setting, &state, &receipt).await?;
    if let Some((left, (next, _))) = cycle.zip(next) {
        left.move_on(setting, &state, next, run_id).await?;
    }
    failure.map_or(Ok(()), Err)
}

/// A run mends, and what was wrong is looked at again.
async fn repair(
    setting: &Setting,
    ask: &Ask,
    looked: Looked,
    summary: &mut VerifySummary,
    sink: &mut (dyn FnMut(Pass, Finding) + Send),
) -> Result<()> {
    let doubts: Arc<Doubts> = Arc::new(looked.doubts);
    let selection = ask.selection.clone();
    let allowed = Allowed { overwrite_drift: true, doubts: Some(doubts.clone()), selection, ..Allowed::default() };
    let (run, failure) = super::run(setting, "repair", &allowed).await;
    let mut repaired = Repaired::of(&run);
    if let Some(failure) = failure {
        summary.repair = Some(repaired);
        return Err(failure);
    }
    // What stands there now was read by the run where anything was doubted, or is read here.
    let level = if ask.level == Level::Content { Level::Manifest } else { ask.level };
    let mut seen = |finding| sink(Pass::AfterRepair, finding);
    let looking = look(setting, &ask.selection, level, Reads::Doubted(&doubts), &mut seen);
    let again = match until::answered(&setting.stop, looking).await {
        Ok(again) => again,
        Err(failure) => {
            summary.repair = Some(repaired);
            return Err(failure);
        }
    };
    repaired.take(&again.found);
    summary.as_of = again.as_of.map(|time| time.to_string());
    summary.bytes_read += again.bytes_read;
    summary.requests = summary.requests + again.requests;
    let left = again.found.code();
    if left != ExitCode::Done {
        summary.errors.extend(run.quarantined.iter().map(|(table, why)| format!("{table} is not in step: {why}")));
        summary.errors.extend(run.errors);
    }
    // What failed in the run, and is right all the same, failed for the damage that was mended after it.
    let of_run = Some(run.exit_code).filter(|code| *code != ExitCode::Partial);
    summary.end(ExitCode::first(of_run.into_iter().chain([left])));
    summary.repair = Some(repaired);
    Ok(())
}

/// Stores what was found, and removes what is too old.
async fn keep(
    setting: &Setting,
    state: &Arc<dyn StateStore>,
    receipt: &manifest::state::receipt::Receipt,
) -> Result<()> {
    marker::mark(state.as_ref()).await?;
    verification::write(state.as_ref(), receipt).await?;
    // Without a lease nothing is pruned (rule 17): whoever asks for that may share the state with programs of another kind.
    if setting.leased
        && let Err(error) = verification::prune(state.as_ref(), &receipt.job, setting.keep_runs).await
    {
        setting.note(format!("what old verifications found was not removed: {error}"));
    }
    Ok(())
}

/// Stores that it failed, where that can be stored: the failure itself is told anyway.
async fn keep_failure(
    setting: &Setting,
    run_id: &RunId,
    started: Timestamp,
    summary: &VerifySummary,
    failure: &Failure,
) {
    let mut ended = summary.clone();
    ended.end(failure.code);
    let stored = async {
        let receipt = report::receipt(&setting.job()?, run_id, started, &ended, &[], Some(failure));
        keep(setting, &setting.state(true)?, &receipt).await
    };
    if let Err(error) = stored.await {
        setting.note(format!("the report of this verification was not stored: {}", error.message));
    }
}

/// Where the last run left the cycle.
struct Left {
    portion: Portion,
    cycle: Cycle,
    tag: Option<Tag>,
}

impl Left {
    async fn load(setting: &Setting, portion: Portion) -> Result<Self> {
        let loaded = cursor::load::<Cycle>(setting.state(false)?.as_ref(), &setting.job()?).await?;
        let (left, tag) = loaded.map(|(cursor, tag)| (cursor.state, tag)).unzip();
        let before = left.as_ref().map(|left: &Cycle| left.slices);
        if let Some(before) = before.filter(|before| *before != portion.slices) {
            setting.note(format!("a new cycle begins: the last one was of {before} slices, not of {}", portion.slices));
        }
        Ok(Self { portion, cycle: Cycle::going_on(left, portion.slices), tag })
    }

    async fn move_on(self, setting: &Setting, state: &Arc<dyn StateStore>, next: Cycle, run_id: &RunId) -> Result<()> {
        let cursor = Cursor { job: setting.job()?, run_id: run_id.clone(), written: Timestamp::now(), state: next };
        if !cursor::swap(state.as_ref(), &cursor, self.tag.as_ref()).await? {
            setting.note("another verification read the same part meanwhile; the next one goes on after it");
        }
        Ok(())
    }
}
