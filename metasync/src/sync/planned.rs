//! What a run would do: both sides looked at, every guard asked, all data planned. Nothing is changed here.

mod draft;
mod leaving;
mod paths;

pub use paths::Paths;

use super::data::{Draft, Tree, Trust};
use super::events::{self, Seen};
use super::guards::{drops_allowed, is_ours, one_source_each, rules_hold};
use super::report::Mode;
use super::state::{Intent, Left, SyncState};
use super::survey::{self, Survey, TableWork, survey};
use super::switch::{self, Places, Published};
use super::unexplained::{self, Unexplained};
use super::witness::Witness;
use super::{Allowed, Metastores, Setting, failure, hops, iceberg, still, until, writes};
use crate::compare::Sides;
use crate::policy::Policy;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::progress::{Phase, Progress};
use draft::Drafted;
use jiff::Timestamp;
use leaving::Leaving;
use manifest::ObjectKey;
use manifest::state::checkpoint::{self, Checkpoint, Loaded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often the source is looked at when transactional tables are compacted meanwhile, or waited for, or versions expire.
const MAX_LOOKS: u32 = 4;

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
    /// Trees that were looked at lately enough (`sweep`), with when.
    pub unseen: BTreeMap<String, Timestamp>,
    /// Trees that were looked at.
    pub looked: Vec<String>,
    /// Tables whose files others have not brought yet: how many are lacking, and the first.
    pub waiting: BTreeMap<usize, (u64, String)>,
    /// Plain trees of the policy.
    pub paths: Paths,
    /// Folders of the target to be emptied.
    pub removals: BTreeSet<String>,
    /// The same, of which nobody can tell yet whether a table of the target has files there.
    pub postponed: BTreeSet<String>,
    /// Folders of the target that were left while the source had files in them.
    pub leaving: BTreeMap<String, Left>,
    /// The policy, with where everything stands and will stand.
    pub policy: Arc<Policy>,
    /// Where units stand that do not stand where the map says.
    pub places: Places,
    /// Folders of the source that are made anew in another folder of the target: which, and where.
    pub switches: Vec<(String, String)>,
    /// Tables and folders that are changed under their readers although switching was asked for, with why.
    pub in_place: Vec<(String, String)>,
    /// Folders of the target whose place others took, and that go now.
    pub retiring: BTreeSet<String>,
    /// What changed although no event says so.
    pub unexplained: Unexplained,
    /// When this look began.
    pub asked: Timestamp,
    /// The moment that the replica will show, at best: the storage may be older than its metastore.
    pub at_best: Timestamp,
    /// What was new in the source's log.
    pub seen: Seen,
    /// The digest of what the source holds, if that was asked for.
    pub fingerprint: Option<String>,
    /// Nothing changed since the last run did everything: nothing was compared.
    pub is_still: bool,
}

impl Planned {
    fn nothing(asked: Timestamp, seen: Seen, policy: Arc<Policy>, places: Places) -> Self {
        Self {
            mode: Mode::Incremental,
            survey: Survey::default(),
            trees: Vec::new(),
            drafts: Vec::new(),
            unseen: BTreeMap::new(),
            looked: Vec::new(),
            waiting: BTreeMap::new(),
            paths: Paths::default(),
            removals: BTreeSet::new(),
            postponed: BTreeSet::new(),
            leaving: BTreeMap::new(),
            policy,
            places,
            switches: Vec::new(),
            in_place: Vec::new(),
            retiring: BTreeSet::new(),
            unexplained: Unexplained::default(),
            asked,
            at_best: asked,
            seen,
            fingerprint: None,
            is_still: false,
        }
    }

    /// Whether there is anything to do on the target.
    pub fn differs(&self) -> bool {
        self.survey.differs() || self.drafts.iter().any(|draft| !draft.is_idle())
    }
}

impl Planned {
    /// Says how much will be copied and written, and that it begins.
    pub(super) fn begin(&self, progress: &Progress) {
        let trees = self.drafts.iter().filter(|draft| !draft.is_idle()).map(|draft| &draft.totals);
        let paths = self.paths.planned.iter().filter(|(_, draft)| !draft.is_idle).map(|(_, draft)| &draft.totals);
        let (mut objects, mut bytes) = (0, 0);
        for totals in trees.chain(paths) {
            objects += totals.copies + totals.compares + totals.deletes;
            bytes += totals.copy_bytes + totals.compare_bytes;
        }
        let tables = self.survey.tables.iter().filter(|table| table.differs());
        let metadata = tables.map(|table| 1 + table.put.len() as u64 + table.drop).sum();
        progress.expect(objects, bytes, metadata);
        progress.lead(Phase::Copying);
    }
}

/// What a run would do now. Takes no lease and changes nothing.
pub async fn plan(setting: &Setting, allowed: &Allowed) -> Result<Planned> {
    let planning = async {
        let stores = Metastores::open(setting, false).await?;
        let loaded = load(setting).await?.map(|loaded| loaded.checkpoint);
        draw_up(setting, &stores, loaded.as_ref(), allowed, &Round::default(), false).await
    };
    until::answered(&setting.stop, planning).await
}

/// What a run knows when it goes round again.
#[derive(Default)]
pub(super) struct Round {
    /// In the names of fresh folders.
    pub tag: String,
    /// Objects that were found to differ in folders that readers are in, by their trees.
    pub differs: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// What was asked to be read was read.
    pub has_read: bool,
}

async fn load(setting: &Setting) -> Result<Option<Loaded<SyncState>>> {
    let state = setting.state(false)?;
    Ok(checkpoint::load::<SyncState>(state.as_ref(), &setting.job()?).await?)
}

/// Surveys, checks every guard, and plans the data; once more with fresh folders, where files would be replaced under their
/// readers. `waits`: a first run waits for transactions that have not ended.
pub(super) async fn draw_up(
    setting: &Setting,
    stores: &Metastores,
    left: Option<&Checkpoint<SyncState>>,
    allowed: &Allowed,
    round: &Round,
    waits: bool,
) -> Result<Planned> {
    let mut mind = Mind { waits, is_last: false };
    for look in 1..=MAX_LOOKS {
        mind.is_last = look == MAX_LOOKS;
        match drawn(setting, stores, left, allowed, round, mind).await? {
            Ok(planned) => return Ok(planned),
            Err(Again::Waited) => mind.waits = false,
            Err(Again::Moved) => {}
        }
    }
    Err(Failure::new(ExitCode::Failed, "the source was not looked at"))
}

/// What a look minds of transactional tables.
#[derive(Clone, Copy)]
struct Mind {
    /// Transactions that have not ended are waited for.
    waits: bool,
    /// What moves meanwhile is left to the next run.
    is_last: bool,
}

/// Why the source has to be looked at again.
enum Again {
    /// Open transactions were waited for: what was seen is old.
    Waited,
    /// Folders of transactional tables were compacted meanwhile, or files of Iceberg tables have gone.
    Moved,
}

async fn drawn(
    setting: &Setting,
    stores: &Metastores,
    left: Option<&Checkpoint<SyncState>>,
    allowed: &Allowed,
    round: &Round,
    mind: Mind,
) -> Result<Result<Planned, Again>> {
    let policy = &setting.policy;
    let state = left.map(|left| &left.state);
    rules_hold(state, policy, allowed)?;
    let asked = Timestamp::now();
    let sides = stores.sides(setting).await?;
    let checkpoint = state.and_then(|state| Some((state.position.as_ref()?, state.window.as_ref())));
    let mut seen = match !allowed.bootstrap && allowed.selection.is_all() {
        true => events::resume(&sides, checkpoint).await?,
        false => events::start(&sides).await?,
    };
    seen.recall(state);
    // A run that died may have written what no manifest knows yet.
    let half_done = state.is_some_and(SyncState::is_half_done);
    let still = still::ask(&sides, left, &seen, allowed, asked).await?;
    let mut places = switch::present(&sides, state, asked).await?;
    if let Some(unseen) = still.looks {
        let paths = paths::plan(setting, allowed, state, half_done).await?;
        let policy = places.effective(policy, false);
        let at_best = paths::oldest(asked, &paths);
        let nothing = Planned::nothing(asked, seen, policy, places);
        let leaving = state.map(|state| state.leaving.clone()).unwrap_or_default();
        return Ok(Ok(Planned { unseen, paths, at_best, leaving, is_still: true, ..nothing }));
    }
    let mut published = Published::begin(policy, &round.differs);
    if published.is_none() {
        places.give_up(|_| false);
    }
    let witness = Arc::new(Witness::new(sides.source.clone(), std::mem::take(&mut seen.told)));
    let witnessed = Sides { source: witness.clone(), ..sides.clone() };
    let mut look = Look { setting, stores, left, allowed, round, mind, asked, seen: &seen, stands: &witnessed };
    let first = match look.look(&mut places, published.as_ref()).await? {
        Ok(looked) => looked,
        Err(again) => return Ok(Err(again)),
    };
    let unexplained = unexplained::find(witness.found(), &seen, &first.survey, state, policy);
    let unexplained = unexplained::explain(stores, &seen, policy, unexplained).await?;
    let mut found = first;
    if let Some(published) = &mut published {
        let tag = if round.tag.is_empty() { "planned" } else { &round.tag };
        for _ in 0..MAX_CHOICES {
            let Looked { survey, drafted, .. } = &found;
            let chosen =
                switch::choose(&sides, survey, &drafted.trees, &drafted.drafts, &mut places, published, tag).await?;
            if !chosen {
                break;
            }
            found = match look.look(&mut places, Some(published)).await? {
                Ok(looked) => looked,
                Err(again) => return Ok(Err(again)),
            };
        }
        // What was begun and is not needed any more: nobody read it.
        if allowed.selection.is_all() {
            places.give_up(|from| published.fresh.contains_key(from));
        }
    }
    let Looked { survey, drafted, removals, postponed, leaving, retiring, policy } = found;
    let Drafted { trees, drafts, unseen, waiting, synced } = drafted;
    let paths = match allowed.selection.is_all() {
        true => paths::plan(setting, allowed, state, half_done).await?,
        false => Paths::default(),
    };
    let never_whole = left.is_none_or(|left| left.as_of.is_none());
    let mode = if never_whole || allowed.bootstrap { Mode::Bootstrap } else { Mode::Incremental };
    let looked = trees.iter().map(Tree::key).collect();
    let at_best = paths::oldest(synced.map_or(asked, |synced| synced.min(asked)), &paths);
    let published = published.unwrap_or_default();
    let to = |from: &String| places.pending.get(from).map(|fresh| (from.clone(), fresh.to.clone()));
    let switches = published.fresh.keys().filter_map(to).collect();
    let in_place = in_place(&survey, &drafts, &published);
    Ok(Ok(Planned {
        mode,
        survey,
        trees,
        drafts,
        unseen,
        looked,
        waiting,
        paths,
        removals,
        postponed,
        leaving,
        policy,
        places,
        switches,
        in_place,
        retiring,
        unexplained,
        asked,
        at_best,
        seen,
        fingerprint: still.source,
        is_still: false,
    }))
}

/// What is changed under its readers although switching was asked for, with why.
fn in_place(survey: &Survey, drafts: &[Draft], published: &Published) -> Vec<(String, String)> {
    let tables: BTreeSet<usize> = drafts.iter().flat_map(|draft| draft.in_place.iter().copied()).collect();
    let why = |table: &TableWork| match table.switchable {
        true => "its folder is shared, or that of a database or of a pair",
        false => "its readers list its folder themselves",
    };
    let tables =
        tables.into_iter().map(|at| &survey.tables[at]).map(|table| (table.target.to_string(), why(table).to_owned()));
    // The files of a partition that was dropped have no readers.
    let folders = published.in_place.iter().filter(|(_, why)| *why != switch::NO_PARTITION);
    tables.chain(folders.map(|(folder, why)| (folder.clone(), why.clone()))).collect()
}

/// How often fresh folders are chosen before what is left waits for the next round.
const MAX_CHOICES: usize = 3;

/// A look at both sides.
struct Look<'a> {
    setting: &'a Setting,
    stores: &'a Metastores,
    left: Option<&'a Checkpoint<SyncState>>,
    allowed: &'a Allowed,
    round: &'a Round,
    mind: Mind,
    asked: Timestamp,
    seen: &'a Seen,
    /// Both sides, by the policy as it is written.
    stands: &'a Sides,
}

/// What it found.
struct Looked {
    survey: Survey,
    drafted: Drafted,
    removals: BTreeSet<String>,
    postponed: BTreeSet<String>,
    leaving: BTreeMap<String, Left>,
    retiring: BTreeSet<String>,
    policy: Arc<Policy>,
}

impl Look<'_> {
    async fn look(&mut self, places: &mut Places, published: Option<&Published>) -> Result<Result<Looked, Again>> {
        let Self { stores, left, allowed, mind, seen, asked, .. } = *self;
        let mut now = places.clone();
        // What an earlier run began counts once this one goes on with it.
        now.pending.retain(|from, _| published.is_some_and(|published| published.fresh.contains_key(from)));
        let policy = now.effective(&self.setting.policy, true);
        let setting = &Setting { policy: policy.clone(), ..self.setting.clone() };
        let sides = Sides { policy: policy.clone(), ..self.stands.clone() };
        let state = left.map(|left| &left.state);
        setting.progress.follow(Phase::Comparing);
        let mut survey = survey(&sides, state, &allowed.selection).await.map_err(failure)?;
        one_source_each(survey.databases.iter().map(|database| (&database.source, &database.target)))?;
        hops::source_logs(&survey)?;
        is_ours(&survey, allowed)?;
        // A resync names the tables that shall be as the source has them.
        if !allowed.afresh {
            drops_allowed(&sides, state, &survey, seen)?;
        }
        let how = (published.is_some(), asked);
        let Leaving { free: removals, late, postponed, later } =
            leaving::find(setting, &sides, state, self.allowed, how, &mut survey).await?;
        // Only once: a source may never be without.
        let is_first = state.is_none_or(|state| state.position.is_none()) || allowed.bootstrap;
        if mind.waits && is_first && writes::wait(setting, stores, &survey).await? {
            return Ok(Err(Again::Waited));
        }
        let mut moved = writes::choose(setting, stores, &mut survey, allowed.afresh).await?;
        moved |= iceberg::choose(setting, stores, &mut survey).await?;
        if moved && !mind.is_last {
            return Ok(Err(Again::Moved));
        }
        let due = match allowed.selection.is_all() && policy.options.data {
            true => switch::due(&sides, &survey, places, asked).await?,
            false => Vec::new(),
        };
        let mut roots = survey.roots(&policy.locations);
        roots.iter_mut().for_each(|root| root.half_done = state.is_some_and(SyncState::is_half_done));
        leaving::mark(&mut roots, &late);
        let retiring = switch::plant(&mut roots, &due, &policy.locations);
        let switching = published.map(|published| (published, &*places));
        let Some(drafted) = self.plan_data(setting, &sides, &mut survey, roots, switching).await? else {
            return Ok(Err(Again::Moved));
        };
        Ok(Ok(Looked { survey, drafted, removals, postponed, leaving: later, retiring, policy }))
    }
}

fn trust(allowed: &Allowed) -> Trust<'_> {
    Trust { afresh: allowed.afresh, doubts: allowed.doubts.as_deref(), switching: None }
}

/// What a policy says where distcp has an option.
fn guarded(failure: Failure) -> Failure {
    match failure.code {
        ExitCode::Refused if failure.message.contains("is empty") => {
            failure.hint("check how it is written in the policy; a path that shall be empty is taken out of it")
        }
        ExitCode::Refused => failure.hint("if that is right, raise options.max_deletes in the policy for one run"),
        _ => failure,
    }
}

pub(super) fn of_tree(tree: &Tree, failure: Failure) -> Failure {
    Failure { message: format!("data of {}: {}", tree.root.from, failure.message), ..failure }
}

/// What this survey is about to change, with what an earlier one left half done.
pub(super) fn intent(survey: &Survey, before: Option<Intent>, policy: &Policy) -> Intent {
    let mut intent = before.unwrap_or_default();
    intent.carrying = true;
    let name = |table: &crate::model::TableName| (table.database.clone(), table.table.clone());
    intent.tables.extend(survey.tables.iter().filter(|table| table.differs()).map(|table| name(&table.target)));
    for table in survey.tables.iter().filter(|table| table.owns_files && table.quarantine.is_none()) {
        let fresh = table.fresh().filter_map(|place| policy.locations.map(place));
        intent.fresh.extend(fresh.map(|folder| (folder.to_string(), name(&table.target))));
    }
    intent.tables.extend(survey.drops.iter().map(|drop| name(&drop.target)));
    let changes = |database: &&survey::DatabaseWork| !database.changes.is_empty() || !database.functions.is_empty();
    intent.databases.extend(survey.databases.iter().filter(changes).map(|one| one.target.database.clone()));
    intent.databases.extend(survey.gone.iter().map(|one| one.database.clone()));
    intent
}
