//! Publishes what a run left on the target: the manifest, then the checkpoint, in this order and last (invariants 1, 3).
//!
//! A crash before the checkpoint moved leaves the old one, whose journal and listings lead the next run to the same end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use manifest::index::{IndexMeta, ManifestId};
use manifest::reader::Manifest;
use manifest::splice;
use manifest::state::checkpoint::{self, Checkpoint};
use manifest::state::layout::{self, RunId};
use manifest::state::lease::Lease;
use manifest::writer::ManifestWriter;

use crate::copy::CopyReport;
use crate::error::Result;
use crate::job::Job;
use crate::plan::file::Plan;
use crate::session::RunState;

/// A lease that was confirmed less long ago is not asked for again before the manifest is published: a run that had nothing
/// to do has just taken it.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);

/// What was published.
pub struct Committed {
    /// Id of the manifest that describes the target now.
    pub manifest: String,
    /// The source time that the target shows: of this run if it was complete, else of the last one that was.
    pub as_of: Option<Timestamp>,
}

/// Publishes the rows of `report` over the manifest that the plan was made against.
pub async fn commit(
    job: &Job,
    lease: &Lease,
    run_id: &RunId,
    plan: &Plan,
    report: CopyReport,
    complete: bool,
    state: RunState,
) -> Result<Committed> {
    let store = job.state.clone();
    let folder = layout::job_folder(&job.name);
    let loaded = checkpoint::load::<RunState>(store.as_ref(), &job.name).await?;
    let base = match &plan.header.base {
        Some(id) => Some(Manifest::open(store.clone(), &folder, &parse(id)?).await?),
        None => None,
    };
    lease.confirmed_within(CONFIRMED_WITHIN).await?;
    let manifest = match base {
        Some(base) if report.rows.total() == 0 => base.index().id.to_string(),
        base => publish(job, &folder, base, report, plan, complete).await?,
    };
    let previous = loaded.as_ref().and_then(|loaded| loaded.checkpoint.as_of);
    let as_of = if complete { plan.header.as_of.parse().ok() } else { previous };
    let checkpoint = Checkpoint {
        job: job.name.clone(),
        source: job.source.place.clone(),
        target: job.target.place.clone(),
        generation: lease.generation(),
        run_id: run_id.clone(),
        manifest: Some(manifest.clone()),
        as_of,
        complete,
        written: Timestamp::now(),
        state,
    };
    let tag = loaded.as_ref().map(|loaded| &loaded.tag);
    checkpoint::commit(store.as_ref(), &checkpoint, tag, &lease.guard()).await?;
    Ok(Committed { manifest, as_of })
}

fn parse(id: &str) -> Result<ManifestId> {
    id.parse().map_err(|error| {
        let name = id.to_owned();
        manifest::Error::Damaged { what: "plan", name, reason: format!("{error}") }.into()
    })
}

async fn publish(
    job: &Job,
    folder: &str,
    base: Option<Manifest>,
    report: CopyReport,
    plan: &Plan,
    complete: bool,
) -> Result<String> {
    let trusted = base.as_ref().map(|base| base.index().clone());
    let mut writer = ManifestWriter::new(job.state.clone(), folder, trusted.as_ref());
    let deltas = tokio::task::spawn_blocking(move || report.rows.finish()).await??;
    splice::splice(base.as_ref(), deltas, &mut writer).await?;
    let meta = IndexMeta {
        created: plan.header.as_of.parse().unwrap_or_else(|_| Timestamp::now()),
        root: job.target.place.clone(),
        chunk_size: job.limits.chunk_size,
        complete,
        extra: BTreeMap::from([("source".to_owned(), job.source.place.clone())]),
    };
    Ok(writer.finish(meta).await?.id.to_string())
}

/// The manifest that the checkpoint names, and whether the job is of single objects; `None`s before the first run.
pub async fn committed_manifest(job: &Job) -> Result<(Option<Arc<Manifest>>, Option<bool>)> {
    let loaded = checkpoint::load::<RunState>(job.state.as_ref(), &job.name).await?;
    let Some(checkpoint) = loaded.map(|loaded| loaded.checkpoint) else { return Ok((None, None)) };
    let single = Some(checkpoint.state.single);
    let Some(id) = checkpoint.manifest else { return Ok((None, single)) };
    let manifest = Manifest::open(job.state.clone(), &layout::job_folder(&job.name), &parse(&id)?).await?;
    Ok((Some(Arc::new(manifest)), single))
}
