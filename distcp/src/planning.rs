//! Makes the plan of a run: three sorted streams in, a plan file out. Reads listings and the last manifest, writes nothing
//! but spill files.

use std::fs::File;
use std::iter::Peekable;
use std::path::Path;

use manifest::diff::join3;
use manifest::sort::keep_last;
use manifest::{Entry, EntryKind, Error, ObjectKey, Result};

use crate::feed::Feed;
use crate::job::Job;
use crate::layout::pin;
use crate::list::ours::{self, Ours};
use crate::list::{self, Listing, Side};
use crate::options::CopyOptions;
use crate::plan::donors::{self, Candidates};
use crate::plan::file::{Plan, PlanHeader, PlanWriter};
use crate::plan::given_up::GivenUp;
use crate::plan::replaced::Replaced;
use crate::plan::{Action, Donor, Known, PlanTotals, Reason, Rules, Step, decide, live};
use crate::session::Base;

/// Lists both sides and plans. `header` comes with everything but the totals.
///
/// # Errors
/// A listing that fails or is out of order, a manifest that is damaged, a spool that is full. Nothing was changed.
pub async fn build(job: &Job, base: Base, header: PlanHeader, sort: bool) -> Result<Plan> {
    let folders = job.source.store.capabilities().folders && job.target.store.capabilities().folders;
    let within = job.within.as_deref();
    let source = list::list(&job.source, Side::Source, within, folders, sort, &job.progress);
    let target = list::list(&job.target, Side::Target, within, folders, sort, &job.progress);
    let Base { manifest: base, journalled, removals } = base;
    let rows = base.as_ref().map(|manifest| Feed::start(manifest.entries()));
    let again = base.as_ref().map(|manifest| manifest.entries());
    let job = job.clone();
    let runtime = tokio::runtime::Handle::current();
    let work = move || -> Result<Plan> {
        let spool = job.spool.clone();
        let inputs = Inputs {
            known: Overlay::new(rows.into_iter().flatten(), keep_last(journalled.finish()?)),
            source: source.in_order(&spool)?,
            target: target.in_order(&spool)?,
            given_up: GivenUp::new(removals.folders, keep_last(removals.rows.finish()?)),
        };
        let (plan, candidates) = merge(&job, inputs, header)?;
        let held = |plan: Plan| match &job.live {
            Some(live) => live::hold(plan, live, || new_plan(&spool)),
            None => Ok(plan),
        };
        // A donor's content is what the manifest says of the target.
        let Some(again) = again.filter(|_| !job.options.afresh && job.doubted.is_empty()) else { return held(plan) };
        let _inside = runtime.enter();
        held(donors::resolve(plan, candidates, Feed::start(again), &spool, || new_plan(&spool))?)
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Upstream(Box::new(e)))?
}

/// The second plan of a tree, without what of its tables was written since the first one was made.
///
/// # Errors
/// A plan that cannot be read or written, a spool that is full.
pub async fn pinned(job: &Job, first: Plan, second: Plan) -> Result<Plan> {
    let (spool, layout) = (job.spool.clone(), job.options.layout);
    let work = move || pin::pin(&first, second, layout, || new_plan(&spool));
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Upstream(Box::new(e)))?
}

struct Inputs<K, R: Iterator> {
    known: K,
    source: Listing,
    target: Listing,
    given_up: GivenUp<R>,
}

/// A file without a name in `spool`: a run that is killed leaves nothing of it. Two handles, to write and to read.
fn new_plan(spool: &Path) -> Result<(PlanWriter, File)> {
    let failed = |e| Error::io("create a file in", spool, e);
    let file = tempfile::tempfile_in(spool).map_err(failed)?;
    let kept = file.try_clone().map_err(failed)?;
    Ok((PlanWriter::new(file, format!("the plan in {}", spool.display()))?, kept))
}

fn merge(
    job: &Job,
    inputs: Inputs<impl Iterator<Item = Result<Known>>, impl Iterator<Item = Result<Entry>>>,
    header: PlanHeader,
) -> Result<(Plan, Candidates)> {
    let (source, target) = (job.source.store.capabilities(), job.target.store.capabilities());
    let folders = source.folders && target.folders && !job.options.without_folders;
    let rules = Rules {
        options: &job.options,
        folders,
        reserved: &job.target.without,
        comparable_times: !source.etags && !target.etags,
        time_step_ns: source.time_step_ns.max(target.time_step_ns),
    };
    let afresh = CopyOptions { afresh: true, ..job.options.clone() };
    let doubting = Rules { options: &afresh, ..rules.clone() };
    let mut files = job.options.filter.listed_only.then(|| job.files.iter().peekable());
    let mut found = 0;
    let (mut writer, file) = new_plan(&job.spool)?;
    let mut totals = PlanTotals::default();
    let mut candidates = Candidates::new(&job.spool);
    let mut ours = Ours::default();
    // Of a plain tree every delete counts (rule 6).
    let mut replaced = job.within.is_some().then(Replaced::default);
    let mut given_up = inputs.given_up;
    for row in join3(inputs.known, inputs.source, inputs.target) {
        if job.stop.token.is_cancelled() {
            return Err(cancelled());
        }
        let (key, known, mut source, mut target) = row?;
        let outside = job.within.as_ref().filter(|within| !within.holds(&key));
        if ours.holds(&key) || outside.is_some() {
            (source, target) = (None, None);
            // At most the manifest has to forget it.
            if known.is_none() || outside.is_some_and(|within| within.keeps_others()) {
                continue;
            }
        }
        if job.within.as_ref().is_some_and(|within| within.empties(&key)) {
            source = None;
            if known.is_none() && target.is_none() {
                continue;
            }
        }
        totals.target_is_ours |= source.is_none() && target.is_some() && ours::is_marker(&key);
        let listed = files.as_mut().is_none_or(|files| names(files, &key));
        found += usize::from(files.is_some() && listed && source.is_some());
        let rules = if job.doubted.contains(&key) { &doubting } else { &rules };
        let mut action = decide(&key, known, source.clone(), target.clone(), listed, rules);
        if let Some(action) = action.as_mut().filter(|_| !rules.options.afresh) {
            action.donor = stood_elsewhere(job, action);
            totals.server_side += u64::from(action.donor.is_some());
        }
        if let (Some(action), Some(within)) = (&mut action, &job.within)
            && given_up.spares(action, within)?
        {
            (action.step, action.reason) = (Step::Skip, Reason::Theirs);
        }
        totals.add(source.as_ref(), target.as_ref(), action.as_ref());
        let retires = job.within.as_ref().is_some_and(|within| within.retires(&key));
        if let Some(action) = action {
            let gives_up = job.within.as_ref().is_some_and(|within| within.gives_up(&key));
            totals.retired += u64::from(retires && action.step == Step::Delete);
            totals.given_up += u64::from(gives_up && action.step == Step::Delete);
            if let Some(replaced) = replaced.as_mut().filter(|_| !retires && !gives_up) {
                replaced.take(&action);
            }
            totals.ordered += u64::from(pin::is_ordered(&action, job.options.layout));
            candidates.add(&action)?;
            writer.push(&action)?;
        }
    }
    for folder in ours.named() {
        job.note(format!("{}/ was left alone: it is the state or the trash of some run", folder.escaped()));
    }
    totals.replaced = replaced.map_or(0, Replaced::end);
    if !totals.add_up() {
        return Err(Error::Upstream(format!("the plan does not add up: {totals:?}").into()));
    }
    // A list with `./a` or `/a`, or of another place, must not pass for one that was done.
    if files.is_some() && found < job.files.len() {
        let (missing, all) = (job.files.len() - found, job.files.len());
        job.note(format!("{missing} of the {all} keys of --files-from are not in the source; they begin below SOURCE, without ./ or /"));
    }
    writer.finish(PlanHeader { totals, ..header })?;
    Ok((Plan::from_unnamed(file)?, candidates))
}

/// What the last run left of an object whose folder is made anew, where that folder stands now; `None` where it is not what
/// the source holds, or nobody knows.
fn stood_elsewhere(job: &Job, action: &Action) -> Option<Donor> {
    let wanted = action.step == Step::Copy && action.kind == EntryKind::Object && action.target.is_none();
    let entry = action.entry.as_ref().filter(|entry| wanted && entry.hash.is_some())?;
    let (folder, stood) = live::folders_around(&action.key).find_map(|folder| job.renewed.get_key_value(&folder))?;
    let (before, now) = (entry.source.as_ref()?, action.source.as_ref()?);
    let inside = action.key.as_bytes().get(folder.as_bytes().len()..)?;
    let key = ObjectKey::from([stood.as_bytes(), inside].concat());
    before.proves_unchanged(now).then(|| Donor { entry: Entry { key, ..entry.clone() } })
}

fn cancelled() -> Error {
    Error::Upstream(Box::new(crate::store::StoreError::new(
        "plan",
        "the run",
        crate::store::StoreErrorKind::Cancelled,
        "",
    )))
}

/// Whether the sorted keys of `--files-from` name `key`; moves on past smaller ones.
fn names<'a>(files: &mut Peekable<impl Iterator<Item = &'a ObjectKey>>, key: &ObjectKey) -> bool {
    while files.next_if(|file| *file < key).is_some() {}
    files.peek().is_some_and(|file| *file == key)
}

/// The last manifest with the journalled rows laid over it: the journalled row of a key hides the manifest's.
struct Overlay<M: Iterator, J: Iterator> {
    manifest: Peekable<M>,
    journal: Peekable<J>,
}

impl<M: Iterator<Item = Result<Entry>>, J: Iterator<Item = Result<Entry>>> Overlay<M, J> {
    fn new(manifest: M, journal: J) -> Self {
        Self { manifest: manifest.peekable(), journal: journal.peekable() }
    }
}

impl<M: Iterator<Item = Result<Entry>>, J: Iterator<Item = Result<Entry>>> Iterator for Overlay<M, J> {
    type Item = Result<Known>;

    fn next(&mut self) -> Option<Self::Item> {
        let journal_first = match (self.manifest.peek(), self.journal.peek()) {
            (_, None) => false,
            (None, Some(_)) | (_, Some(Err(_))) => true,
            (Some(Err(_)), _) => false,
            (Some(Ok(row)), Some(Ok(journalled))) => journalled.key <= row.key,
        };
        if !journal_first {
            return self.manifest.next().map(|row| row.map(|entry| Known { entry, journalled: false }));
        }
        let latest = match self.journal.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        // The manifest's older row of the key is replaced.
        let _ = self.manifest.next_if(|row| row.as_ref().is_ok_and(|row| row.key == latest.key));
        Some(Ok(Known { entry: latest, journalled: true }))
    }
}

impl manifest::diff::Keyed for Known {
    fn key(&self) -> &ObjectKey {
        &self.entry.key
    }
}
