//! The plans of the trees that hold the tables' data, with the guards on what they show. Nothing is changed here.

use super::{Look, guarded, of_tree, trust};
use crate::compare::Sides;
use crate::location::Location;
use crate::policy::EmptyTables;
use crate::roots::{Owner, Root};
use crate::sync::data::{self, Draft, Empty, Forks, JOBS_AT_ONCE, Tree, Trust};
use crate::sync::events::Seen;
use crate::sync::guards::{files_are_ours, files_are_there, removals_allowed};
use crate::sync::state::SyncState;
use crate::sync::survey::{Survey, TableWork};
use crate::sync::switch::{Places, Published};
use crate::sync::{Setting, failure, standing, writes};
use distcp::error::Result;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use manifest::ObjectKey;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// What [`Look::plan_data`] comes to.
#[derive(Default)]
pub(super) struct Drafted {
    /// The trees to be copied.
    pub trees: Vec<Tree>,
    /// Their plans.
    pub drafts: Vec<Draft>,
    /// Trees that were looked at lately enough, with when.
    pub unseen: BTreeMap<String, Timestamp>,
    /// Tables whose files others have not brought yet: how many are lacking, and the first.
    pub waiting: BTreeMap<usize, (u64, String)>,
    /// What the storage itself vouches for, at most.
    pub synced: Option<Timestamp>,
}

impl Look<'_> {
    /// Opens the trees and plans each, until no table has to be left out for what the plans show. A tree that was looked at
    /// lately enough, and in which no metadata changes, is left out. `None`: files that a version names are gone meanwhile.
    pub(super) async fn plan_data(
        &self,
        setting: &Setting,
        sides: &Sides,
        survey: &mut Survey,
        mut roots: Vec<Root>,
        switching: Option<(&Published, &Places)>,
    ) -> Result<Option<Drafted>> {
        let Self { allowed, seen, asked: now, mind, .. } = *self;
        let state = self.left.map(|left| &left.state);
        let policy = &setting.policy;
        // What was asked to be read is read once: what differs there is known then.
        let reads = !(switching.is_some() && self.round.has_read);
        let trust = Trust { switching, ..if reads { trust(allowed) } else { Trust::default() } };
        if !policy.options.data {
            let standing = standing::look(setting, survey).await?;
            return Ok(Some(Drafted { waiting: standing.lacking, synced: standing.synced, ..Drafted::default() }));
        }
        let accepts = allowed.empty_tables || policy.options.empty_tables == EmptyTables::Accept;
        // A run that died may have written what no manifest knows yet.
        let half_done = state.is_some_and(SyncState::is_half_done);
        let mut spares = allowed.selection.is_all() && !allowed.bootstrap && allowed.doubts.is_none();
        let lately = |tree: &Tree, spares: bool| {
            let look: Timestamp = state?.looks.get(&tree.key())?.parse().ok()?;
            let age = Duration::try_from(now.duration_since(look)).unwrap_or(Duration::MAX);
            (spares && age < policy.options.sweep).then_some(look)
        };
        loop {
            let (mut trees, mut unseen) = (Vec::new(), BTreeMap::new());
            for tree in data::open(setting, survey, roots.clone(), trust)? {
                match lately(&tree, spares).filter(|_| state.is_some_and(|state| tree.is_still(survey, seen, state))) {
                    Some(look) => {
                        unseen.insert(tree.key(), look);
                    }
                    None => trees.push(tree),
                }
            }
            // What a log names was there before it: logs are listed before data.
            trees.sort_by_key(|tree| Reverse(tree.root.wave));
            let mut drafts = Vec::with_capacity(trees.len());
            let mut left_out = BTreeMap::new();
            for (tree, mut draft) in trees.iter().zip(plans(&trees, survey).await?) {
                let missing = tree.missing();
                if !missing.is_empty() && !mind.is_last {
                    return Ok(None);
                }
                left_out.extend(missing);
                // Who asks for a resync or a repair says that the source is right.
                if !allowed.afresh && allowed.doubts.is_none() {
                    left_out.extend(forked(std::mem::take(&mut draft.forks), survey, seen));
                    left_out.extend(writes::replaced(std::mem::take(&mut draft.rewritten), survey));
                }
                if !accepts {
                    let emptied = self.emptied(tree, &draft, survey, sides).await?;
                    left_out.extend(emptied.into_iter().map(|(at, empty)| (at, is_empty(&survey.tables[at], &empty))));
                }
                drafts.push(draft);
            }
            if left_out.is_empty() {
                for (tree, draft) in trees.iter().zip(&mut drafts) {
                    if let Some(refusal) = draft.refusal.take() {
                        return Err(guarded(of_tree(tree, refusal)));
                    }
                }
                if let Err(refusal) = removals_allowed(
                    drafts.iter().map(|draft| &draft.totals),
                    policy.options.max_deletes,
                    unseen.is_empty(),
                ) {
                    // How much of all that is, the trees that were spared say, too.
                    if std::mem::take(&mut spares) && !unseen.is_empty() {
                        continue;
                    }
                    return Err(guarded(refusal));
                }
                if !half_done {
                    let each = trees.iter().zip(&drafts).map(|(tree, draft)| {
                        (&draft.foreign, draft.has_base, |key: &str| tree.root.to.below(key).to_string())
                    });
                    files_are_ours(each, allowed)?;
                    // Of a tree that the last commit did not look at its manifest may say what was.
                    let looked = |tree: &Tree| state.is_some_and(|state| state.looks.contains_key(&tree.key()));
                    let known = trees.iter().zip(&drafts).filter(|(tree, _)| looked(tree));
                    let each =
                        known.map(|(tree, draft)| (&draft.gone, |key: &str| tree.root.to.below(key).to_string()));
                    files_are_there(each, allowed)?;
                }
                let synced = drafts.iter().map(|draft| draft.as_of).min();
                return Ok(Some(Drafted { trees, drafts, unseen, synced, ..Drafted::default() }));
            }
            // Each round leaves out at least one table more.
            for (at, why) in left_out {
                survey.tables[at].quarantine = Some(why);
                stays(survey, at, &mut roots);
            }
        }
    }
}

impl Look<'_> {
    /// Rule 27: tables whose folders hold nothing by mistake. What was dropped since it was read is none.
    async fn emptied(
        &self,
        tree: &Tree,
        draft: &Draft,
        survey: &Survey,
        sides: &Sides,
    ) -> Result<BTreeMap<usize, Empty>> {
        let found = tree.emptied(draft, survey, self.seen, sides.source.as_ref()).await?;
        if found.is_empty() {
            return Ok(found);
        }
        let now = self.stores.source.snapshot().await.map_err(failure)?;
        let mut emptied = tree.emptied(draft, survey, self.seen, now.as_ref()).await?;
        for at in found.keys() {
            let name = &survey.tables[*at].source;
            let there = now.tables(&name.database(), std::slice::from_ref(&name.table)).await.map_err(failure)?;
            if there.found.is_empty() && there.damaged.is_empty() {
                emptied.remove(at);
            }
        }
        Ok(emptied)
    }
}

/// The plans of trees, which are sorted by their waves: those of one wave a few at once.
async fn plans(trees: &[Tree], survey: &Survey) -> Result<Vec<Draft>> {
    let mut drafts = Vec::with_capacity(trees.len());
    for wave in trees.chunk_by(|a, b| a.root.wave == b.root.wave) {
        let plan = async |tree| Tree::draft(tree, survey).await.map_err(|failure| of_tree(tree, failure));
        let planned: Vec<Draft> = stream::iter(wave).map(plan).buffered(JOBS_AT_ONCE).try_collect().await?;
        drafts.extend(planned);
    }
    Ok(drafts)
}

/// What a table leaves that is left out stays where the target has it.
fn stays(survey: &mut Survey, at: usize, roots: &mut [Root]) {
    let (stays, left) = std::mem::take(&mut survey.left).into_iter().partition(|(of, _)| *of == at);
    survey.left = left;
    let stays: Vec<(usize, Location)> = stays;
    for root in roots {
        let to = root.to.clone();
        let is_it = |key: &ObjectKey| stays.iter().any(|(_, folder)| to.below(&key.escaped()).is_same(folder));
        root.folders.retain(|key, owners| !owners.iter().all(|owner| *owner == Owner::Removal) || !is_it(key));
    }
}

/// Rule 27, in words.
fn is_empty(table: &TableWork, empty: &Empty) -> String {
    format!(
        "{empty}; if that is right: metasync resync POLICY --table {}.{}, or empty_tables = \"accept\"",
        table.source.database, table.source.table
    )
}

/// Tables whose logs went two ways, with why they are left out. One that was dropped and made anew begins a new log.
fn forked<'a>(forks: Forks, survey: &'a Survey, seen: &'a Seen) -> impl Iterator<Item = (usize, String)> + 'a {
    forks.into_iter().filter(|(at, _)| !seen.explains(&survey.tables[*at].source, None)).map(|(at, commit)| {
        let table = &survey.tables[at].source;
        let why = format!(
            "{commit} is another commit than the source's of that version; if the source is right: \
             metasync resync POLICY --table {}.{}",
            table.database, table.table
        );
        (at, why)
    })
}
