//! Deletes, last, and only when nothing failed and no limit ended the run (rule 8).
//!
//! Each key is looked for at the source once more right before: a listing that silently lost a page must not cost an
//! object. In folders that are given up (a dropped table's) it is looked for on the target: what others wrote there since it
//! was listed stays (rule 28). A crash in the middle leaves extras for the next run, and of such folders the journal's record
//! of which versions were to go.

use std::path::Path;
use std::sync::Arc;

use manifest::state::journal::Record;
use manifest::{EntryKind, ObjectKey};
use tokio::task::JoinSet;

use super::ordered::KEPT;
use super::{Copier, Pass, Run, stream};
use crate::error::{Failure, chain};
use crate::event::{Means, Outcome};
use crate::layout::{Layout, Stage};
use crate::plan::file::Plan;
use crate::plan::{Action, Reason, Step};
use crate::progress::count;
use crate::store::{Store, StoreError, StoreErrorKind};
use manifest::splice::Delta as Row;

/// Keys confirmed absent at the source at once, within a batch.
const CONFIRMATIONS_AT_ONCE: usize = 16;

type Batch = Vec<(Action, Fate)>;

enum Fate {
    Deleted,
    Kept(&'static str),
    Failed(StoreError),
}

pub(super) async fn pass(run: &mut Run, plan: &Arc<Plan>, concurrency: usize, _spool: &Path) -> Result<(), Failure> {
    let blocked = match (run.stopped, run.ends.failed) {
        (Some(stopped), _) => Some(stopped.reason()),
        (None, 0) => None,
        (None, _) => Some("kept: something failed before"),
    };
    let batch_size = run.copier.target.capabilities().delete_batch.max(1);
    for pass in Pass::removing(run.tables.layout()) {
        let mut actions = stream(plan.clone(), pass);
        let mut tasks: JoinSet<Batch> = JoinSet::new();
        let mut batch = Vec::new();
        while let Some(action) = actions.recv().await {
            let action = action?;
            match blocked {
                Some(reason) => run.skip(&action, reason),
                None if run.tables.keeps(&action.key) => run.skip(&action, KEPT),
                None => batch.push(action),
            }
            if batch.len() >= batch_size {
                start(run, &mut tasks, &mut batch, concurrency).await?;
            }
        }
        start(run, &mut tasks, &mut batch, concurrency).await?;
        while let Some(done) = tasks.join_next().await {
            finish(run, done?).await?;
        }
    }
    for pass in [Pass::FoldersGone, Pass::FoldersMade] {
        let mut actions = stream(plan.clone(), pass);
        while let Some(action) = actions.recv().await {
            let action = action?;
            match blocked.filter(|_| pass == Pass::FoldersGone || run.stopped.is_some()) {
                Some(reason) => run.skip(&action, reason),
                None => folder(run, action).await?,
            }
        }
    }
    Ok(())
}

/// Puts on record which versions of which objects are to go from folders that are given up, durably: what names these folders
/// is about to change (rule 28).
pub(super) async fn record(run: &Run, plan: &Arc<Plan>) -> Result<(), Failure> {
    let Some(within) = run.copier.within.clone().filter(|within| within.given_up().next().is_some()) else {
        return Ok(());
    };
    let journal = &run.copier.journal;
    let mut actions = stream(plan.clone(), Pass::Deletes(Stage::Files, Layout::Plain));
    while let Some(action) = actions.recv().await {
        let Action { key, target, .. } = action?;
        if let Some(target) = target.filter(|_| within.gives_up(&key)) {
            journal.record(Record::ToDelete { key, target }).await?;
        }
    }
    for folder in within.given_up() {
        journal.record(Record::GivenUp { folder }).await?;
    }
    journal.flush().await?;
    Ok(())
}

async fn start(
    run: &mut Run,
    tasks: &mut JoinSet<Batch>,
    batch: &mut Vec<Action>,
    concurrency: usize,
) -> Result<(), Failure> {
    if batch.is_empty() {
        return Ok(());
    }
    while tasks.len() >= concurrency.div_ceil(CONFIRMATIONS_AT_ONCE).max(2) {
        if let Some(done) = tasks.join_next().await {
            finish(run, done?).await?;
        }
    }
    run.stopped = run.stopped.or_else(|| run.copier.why_stop());
    if let Some(stopped) = run.stopped {
        for action in batch.drain(..) {
            run.skip(&action, stopped.reason());
        }
        return Ok(());
    }
    let copier = run.copier.clone();
    let batch = std::mem::take(batch);
    tasks.spawn(async move { delete_batch(&copier, batch).await });
    Ok(())
}

async fn delete_batch(copier: &Copier, batch: Vec<Action>) -> Batch {
    use futures::StreamExt as _;
    let (source, target): (&dyn Store, &dyn Store) = (copier.source.as_ref(), copier.target.as_ref());
    let guard = &copier.guard;
    let confirm = |action: Action| async move {
        let emptied = copier.within.as_ref().is_some_and(|within| within.empties(&action.key));
        let given_up = copier.within.as_ref().is_some_and(|within| within.gives_up(&action.key));
        let looked = match (given_up, emptied) {
            (true, _) => Some(target.head(&action.key).await),
            // What the source has there is of no matter.
            (false, true) => None,
            (false, false) => Some(source.head(&action.key).await),
        };
        let fate = match looked.transpose() {
            Ok(None) => None,
            Ok(Some(now))
                if given_up && !action.target.as_ref().is_some_and(|seen| seen.looks_like(&now.fingerprint)) =>
            {
                Some(Fate::Kept(Reason::Theirs.words()))
            }
            Ok(Some(_)) if given_up => None,
            // A folder of the same name is not the object.
            Ok(Some(info)) if info.kind == EntryKind::Folder && action.kind != EntryKind::Folder => None,
            Ok(Some(_)) => Some(Fate::Kept("kept: it is at the source after all")),
            Err(error) if is_absent(&error) => None,
            Err(error) => Some(Fate::Failed(error)),
        };
        // What cannot be kept in the trash is not deleted.
        let fate = match fate {
            None => copier.keep_deleted(&action).await.err().map(Fate::Failed),
            fate => fate,
        };
        (action, fate)
    };
    let confirmed: Vec<(Action, Option<Fate>)> =
        futures::stream::iter(batch).map(confirm).buffered(CONFIRMATIONS_AT_ONCE).collect().await;
    let keys: Vec<ObjectKey> =
        confirmed.iter().filter(|(_, fate)| fate.is_none()).map(|(action, _)| action.key.clone()).collect();
    let mut answers = match guard.check() {
        Ok(()) if keys.is_empty() => Vec::new(),
        Ok(()) => target.delete(&keys).await,
        Err(error) => {
            let lost = |_| Err(StoreError::new("delete", target.place(), StoreErrorKind::Cancelled, error.to_string()));
            keys.iter().map(lost).collect()
        }
    }
    .into_iter();
    let missing = || StoreError::new("delete", target.place(), StoreErrorKind::Protocol, "no answer for this key");
    confirmed
        .into_iter()
        .map(|(action, fate)| match fate {
            Some(fate) => (action, fate),
            None => match answers.next().unwrap_or_else(|| Err(missing())) {
                Ok(()) => (action, Fate::Deleted),
                Err(error) => (action, Fate::Failed(error)),
            },
        })
        .collect()
}

/// What the source cannot even name is not there.
fn is_absent(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::InvalidKey | StoreErrorKind::KindConflict)
}

async fn finish(run: &mut Run, batch: Batch) -> Result<(), Failure> {
    for (action, fate) in batch {
        match fate {
            Fate::Deleted => {
                run.ends.deleted += 1;
                run.report(&action, Outcome::Deleted, Means::None, None, action.reason.words(), None);
                run.copier.journal.record(Record::Deleted { key: action.key.clone() }).await?;
                run.rows.push(Row::Remove(action.key))?;
            }
            Fate::Kept(reason) => run.skip(&action, reason),
            Fate::Failed(error) if error.class() == manifest::Class::Cancelled => {
                run.stopped = run.stopped.or_else(|| run.copier.why_stop());
                run.skip(&action, "kept: the run was stopped");
            }
            Fate::Failed(error) => {
                let (text, kind) = (chain(&error), error.kind);
                run.fail(&action, text, kind).await?;
            }
        }
        count(&run.copier.progress.done_objects, 1);
    }
    Ok(())
}

/// Empty folders, where both sides have folders: made, or removed if they are still empty.
async fn folder(run: &mut Run, action: Action) -> Result<(), Failure> {
    if let Some(stopped) = run.copier.why_stop() {
        run.stopped = run.stopped.or(Some(stopped));
        run.skip(&action, stopped.reason());
        return Ok(());
    }
    if action.step != Step::Delete {
        let copier = run.copier.clone();
        let settled = copier.settle(action, Stage::Files).await;
        return run.settled(settled).await;
    }
    let answer = run.copier.target.delete(std::slice::from_ref(&action.key)).await.pop();
    match answer {
        Some(Err(error)) if error.kind == StoreErrorKind::KindConflict => {
            run.skip(&action, "kept: the folder is not empty any more");
            Ok(())
        }
        Some(Err(error)) => finish(run, vec![(action, Fate::Failed(error))]).await,
        _ => finish(run, vec![(action, Fate::Deleted)]).await,
    }
}
