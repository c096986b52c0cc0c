//! Looks at both metastores and says what would have to be done: nothing is changed here.
//!
//! Every database and table of the policy is compared with what the target holds, and what the target holds with what the
//! last commit left there (rule 20). What is wrong with one table is that table's quarantine; what is wrong with the target
//! as a whole is for the caller to refuse.

mod database;
mod extra;
mod free;
mod sink;
mod work;

use super::hops::MARK;
use super::state::{Quarantine, SyncState};
use super::writes::{self, Acid, Ended};
use crate::carry::{self, Nature};
use crate::compare::{self, Head, Lines, Pair, Sides, Trouble, Whole, WholeRewrites, add_head, expected_whole, head};
use crate::location::{Location, LocationMap, same_place};
use crate::metastore::{CHUNK, Damaged, Part, Result};
use crate::model::{Database, DatabaseName, Table, TableName};
use crate::roots::{self, Folder, Narrowed, Owner, Root, Wave};
use database::compare_database;
use extra::Seal;
pub use free::Free;
use futures::TryStreamExt as _;
use globset::{GlobBuilder, GlobMatcher};
use sink::{Look, words};
use std::collections::{BTreeMap, BTreeSet};
pub use work::{DatabaseWork, Drop, TableWork};

/// How many tables are read at once: each may have thousands of columns.
const TABLES_AT_ONCE: usize = 200;
/// Where Hive keeps how far a replica is.
pub const LAST_ID: &str = "repl.last.id";

/// Which tables a run is about.
#[derive(Clone, Default)]
pub struct Selection {
    /// Only tables whose `database.table` at the source matches; `None`: all, and drops.
    pub tables: Option<GlobMatcher>,
}

impl Selection {
    /// Tables whose `database.table` matches a pattern. Errors: what is wrong with it.
    pub fn tables(pattern: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(pattern).case_insensitive(true).build();
        let glob = glob.map_err(|error| format!("`{pattern}`: {}", error.kind()))?;
        Ok(Self { tables: Some(glob.compile_matcher()) })
    }

    /// Whether this table of the source is meant.
    pub fn takes(&self, table: &TableName) -> bool {
        self.tables.as_ref().is_none_or(|glob| glob.is_match(format!("{}.{}", table.database, table.table)))
    }

    /// Whether everything is.
    pub fn is_all(&self) -> bool {
        self.tables.is_none()
    }
}

/// What there is to do.
#[derive(Default)]
pub struct Survey {
    /// Databases of the policy that the source has.
    pub databases: Vec<DatabaseWork>,
    /// Their tables.
    pub tables: Vec<TableWork>,
    /// Tables of ours on the target that the source does not have, or the policy not any more.
    pub drops: Vec<Drop>,
    /// Folders on the target that tables, by their place, or partitions of them leave, and of which the source has nothing any more.
    pub left: Vec<(usize, Location)>,
    /// Databases of ours on the target that the source does not have, or the policy not any more.
    pub gone: Vec<DatabaseName>,
    /// What on the target is not as the last commit left it.
    pub drift: Vec<String>,
    /// Databases of the target that held something before any commit of ours.
    pub foreign: Vec<String>,
    /// Databases of the source that are replicas of which no event log is written.
    pub unlogged: Vec<DatabaseName>,
    /// Folders and files of all that is carried, at the source.
    pub folders: Vec<Folder>,
    /// Folders of databases at the source.
    pub bases: Vec<Location>,
    /// Functions and constraints that cannot be read or carried: they stay as they are.
    pub damaged: Vec<Damaged>,
    /// Tables of the last commit on the target, for the guard.
    pub committed: u64,
    /// The transactions of both sides, if there are transactional tables.
    pub ended: Ended,
    /// What counts in the folders of these, by tree.
    pub narrowed: BTreeMap<(Wave, Location), Narrowed>,
}

/// Looks at both sides. `state` is what the last commit left; `None` before the first.
pub async fn survey(sides: &Sides, state: Option<&SyncState>, selection: &Selection) -> Result<Survey> {
    let mut survey = Survey::default();
    let source = sides.source.databases().await?;
    let target: BTreeMap<DatabaseName, Database> =
        sides.target.databases().await?.into_iter().map(|database| (database.name.clone(), database)).collect();
    let scope = &sides.policy.scope;
    for database in source.into_iter().filter(|database| scope.takes_database(&database.name)) {
        let there = target.get(&sides.policy.target_database(&database.name));
        look_at_database(sides, state, selection, database, there, &mut survey).await?;
    }
    let known: BTreeSet<String> = survey.databases.iter().map(|database| database.target.database.clone()).collect();
    for (name, left) in state.iter().flat_map(|state| &state.databases) {
        survey.committed += left.tables.values().filter(|table| table.digest.is_some()).count() as u64;
        if !selection.is_all() || known.contains(name) {
            continue;
        }
        let target_name = DatabaseName::new(name);
        if target.contains_key(&target_name) {
            let tables: Vec<String> = sides.target.table_names(&target_name).await?;
            drop_tables(sides, state, &target_name, &tables, &mut survey).await?;
            survey.gone.push(target_name);
        }
        survey.bases.extend(left.location.as_deref().and_then(|text| Location::parse(text).ok()));
    }
    Ok(survey)
}

async fn look_at_database(
    sides: &Sides,
    state: Option<&SyncState>,
    selection: &Selection,
    database: Database,
    there: Option<&Database>,
    survey: &mut Survey,
) -> Result<()> {
    let (source, target) = (database.name.clone(), sides.policy.target_database(&database.name));
    let at = survey.databases.len();
    let location = database.location.clone();
    survey.unlogged.extend(database.parameters.contains_key(MARK).then(|| source.clone()));
    survey.bases.extend(location.as_deref().and_then(|text| Location::parse(text).ok()));
    let (mut work, actual) = compare_database(sides, database, there, at, survey).await?;
    let left = state.and_then(|state| state.databases.get(&target.database));
    let intended = state.and_then(|state| state.intent.as_ref());
    if let (Some(left), Some(actual)) = (left, &actual)
        && left.digest != *actual
        && intended.is_none_or(|intent| !intent.databases.contains(&target.database))
    {
        work.drifted = true;
        survey.drift.push(format!("database {target}: it or its functions were changed"));
    }
    if left.is_some() && actual.is_none() && intended.is_none_or(|intent| !intent.databases.contains(&target.database))
    {
        work.drifted = true;
        survey.drift.push(format!("database {target}: it is gone"));
    }
    work.settled = left.is_some() && intended.is_none_or(|intent| !intent.databases.contains(&target.database));
    // Of functions an intent names only the database.
    let strange = work.has_functions && !intended.is_some_and(|intent| intent.databases.contains(&target.database));
    survey.databases.push(work);
    let wanted: Vec<String> = sides
        .source
        .table_names(&source)
        .await?
        .into_iter()
        .filter(|name| sides.policy.scope.takes_table(&source.table(name)))
        .collect();
    let held = match there {
        Some(_) => sides.target.table_names(&target).await?,
        None => Vec::new(),
    };
    let chosen: Vec<String> = wanted.iter().filter(|name| selection.takes(&source.table(name))).cloned().collect();
    let before = survey.tables.len();
    for names in chosen.chunks(TABLES_AT_ONCE) {
        look_at_tables(sides, state, &source, &target, names, &held, survey).await?;
    }
    // A materialized view that is not asked for is not the replica's either.
    let carried: BTreeSet<&str> = survey.tables[before..].iter().map(|table| table.target.table.as_str()).collect();
    let extra: Vec<String> = match selection.is_all() {
        true => held.iter().filter(|name| !carried.contains(name.as_str())).cloned().collect(),
        false => Vec::new(),
    };
    drop(carried);
    // Rule 21: a run of ours that died is known by its intent, one whose state was lost by the seal that it left.
    let by_others = |name: &&String| !state.is_some_and(|state| state.is_intended(&target.database, name));
    if left.is_none() && (strange || held.iter().any(|name| by_others(&name))) {
        let tables = &survey.tables[before..];
        let sealed = match state {
            None => extra::sealed(sides, there, actual.as_deref(), tables, &extra).await?,
            Some(_) => Seal::None,
        };
        match sealed {
            Seal::Fits => {}
            Seal::None => survey.foreign.push(target.to_string()),
            Seal::Broken => survey.foreign.push(format!(
                "{target} (its {LAST_ID} is of another policy's run, or it was changed after the run that wrote that)"
            )),
        }
    }
    drop_tables(sides, state, &target, &extra, survey).await
}

async fn look_at_tables(
    sides: &Sides,
    state: Option<&SyncState>,
    source: &DatabaseName,
    target: &DatabaseName,
    names: &[String],
    held: &[String],
    survey: &mut Survey,
) -> Result<()> {
    let statistics = sides.policy.options.statistics;
    let there: Vec<String> = names.iter().filter(|name| held.binary_search(name).is_ok()).cloned().collect();
    let wanted = compare::read(sides.source.as_ref(), source, names, statistics);
    let held = compare::read(sides.target.as_ref(), target, &there, statistics);
    let (wanted, mut held) = futures::try_join!(wanted, held)?;
    let mut unreadable = BTreeSet::new();
    for (side, damaged) in [("source", wanted.damaged), ("target", held.damaged)] {
        for damaged in damaged {
            let database = if side == "source" { source } else { target };
            let is_it = |name: &&String| damaged.part == Part::Table(database.table(name));
            let name = names.iter().find(is_it);
            match name.filter(|name| !unreadable.contains(*name)) {
                Some(name) => {
                    let why = format!("it is damaged at the {side}: {}", damaged.why);
                    survey.tables.push(TableWork::damaged(source.table(name), target.table(name), why));
                    unreadable.insert(name.clone());
                }
                // A constraint, or a second word on the same table.
                None => survey.damaged.push(damaged),
            }
        }
    }
    let known = |whole: Option<&Whole>| whole.is_some_and(|whole| carry::is_acid(&whole.table));
    let acid: Vec<String> =
        names.iter().filter(|name| known(wanted.found.get(*name)) || known(held.found.get(*name))).cloned().collect();
    let mut acid = writes::of_tables(sides, source, &acid, survey).await?;
    if !sides.policy.options.data {
        acid = Err("without `data` nobody says which of its files are there".to_owned());
    }
    let natures = |whole: &Whole| carry::nature(&whole.table, sides.policy.options.materialized_views);
    let pairs: Vec<Pair> = wanted
        .found
        .into_iter()
        .filter(|(name, whole)| natures(whole) != Nature::LeftOut && !unreadable.contains(name))
        .map(|(name, source)| Pair { source, actual: held.found.remove(&name), at: 0, ahead: None })
        .collect();
    let mut groups = std::pin::pin!(compare::groups(sides, source, pairs).await?);
    while let Some(group) = groups.try_next().await? {
        for pair in group {
            let nature = natures(&pair.source);
            let name = &pair.source.table.name.table;
            let acid = match &mut acid {
                Ok(tables) => Ok(tables.remove(name).unwrap_or_default()),
                Err(why) => Err(why.clone()),
            };
            let (mut work, folders) = look_at_table(sides, pair, nature, acid, survey.tables.len()).await?;
            work.drifted = check_drift(state, &work, survey);
            work.settled &= was_settled(state, &work.target);
            survey.folders.extend(folders);
            survey.tables.push(work);
        }
    }
    Ok(())
}

/// Rule 20: what the last commit left must still be so. Whether it is not.
fn check_drift(state: Option<&SyncState>, work: &TableWork, survey: &mut Survey) -> bool {
    let Some(state) = state else { return false };
    let (database, table) = (&work.target.database, &work.target.table);
    if work.unread || state.is_intended(database, table) {
        return false;
    }
    let left = state.table(database, table).and_then(|left| left.digest.as_ref());
    let what = match (left, &work.digest) {
        (Some(left), Some(now)) if left != now => "it was changed",
        (Some(_), None) => "it was dropped",
        (None, Some(_)) if state.databases.contains_key(database) => "somebody else made it",
        _ => return false,
    };
    survey.drift.push(format!("table {}: {what}", work.target));
    true
}

/// Whether the last commit left this table whole, and no run has touched it since.
fn was_settled(state: Option<&SyncState>, target: &TableName) -> bool {
    let (database, table) = (&target.database, &target.table);
    state.is_some_and(|state| {
        let left = state.table(database, table);
        let whole = left.is_some_and(|left| left.digest.is_some() && left.quarantined.is_none());
        whole && !state.is_intended(database, table)
    })
}

async fn look_at_table(
    sides: &Sides,
    Pair { source: whole, actual, ahead, .. }: Pair,
    nature: Nature,
    acid: Result<Acid, String>,
    at: usize,
) -> Result<(TableWork, Vec<Folder>)> {
    let source = whole.table.clone();
    // What a target shows of writes is of no matter where they are not its table's.
    let knows = actual.as_ref().is_some_and(|actual| carry::is_acid(&actual.table));
    let shows = acid.as_ref().ok().filter(|_| knows).map(|acid| acid.there);
    let target = sides.policy.target_table(&source.name);
    let keep = sides.policy.options.keep_external_data;
    let mut work = TableWork {
        is_new: actual.is_none(),
        keys: source.partition_keys.len(),
        location: source.storage.location.as_deref().and_then(|text| Location::parse(text).ok()),
        owns_files: carry::data_goes_with(&source, keep),
        plain: nature == Nature::Plain,
        switchable: nature == Nature::Plain && carry::is_found_by_location(&source),
        made_of_others: source.creation_metadata.is_some(),
        iceberg: carry::iceberg_metadata(&source).filter(|_| nature == Nature::Iceberg),
        ..TableWork::unknown(source.name.clone(), target.clone())
    };
    let mut told = WholeRewrites::default();
    let shall = match (&nature, acid) {
        (Nature::Quarantined(why), _) => Err(why.clone()),
        (Nature::Acid, Err(why)) => Err(format!("it is an ACID table: {why}")),
        (Nature::Acid, Ok(acid)) => {
            work.acid = Some(acid);
            expected_whole(whole, actual.as_ref(), sides, &mut told)
        }
        _ => expected_whole(whole, actual.as_ref(), sides, &mut told),
    };
    let Head { recreate, changes, late } = match &shall {
        Ok(shall) => head(shall, actual.as_ref()),
        Err(_) => Head::default(),
    };
    let before = actual.as_ref().filter(|_| !recreate).map(|actual| &actual.table);
    if let (Ok(shall), Some(actual)) = (&shall, &actual) {
        let (to, from) = (shall.table.storage.location.as_deref(), actual.table.storage.location.as_deref());
        work.settled = same_place(to, from);
        work.moves = !work.settled;
        let goes = work.moves && carry::data_goes_with(&actual.table, keep);
        work.leaves.extend(from.filter(|_| goes).and_then(|text| Location::parse(text).ok()));
    }
    work.differing = changes.iter().chain(&late).map(|change| words(change, before)).collect();
    work.rewritten = told.of(changes.iter().chain(&late));
    work.is_new |= recreate;
    let mut lines = Lines::default();
    if let Some(actual) = &actual {
        add_head(actual, &mut lines);
    }
    // Of a table that is not carried only what the target holds counts, for the next look at drift.
    if shall.is_err() && actual.is_none() {
        work.quarantine = shall.err();
        return Ok((work, Vec::new()));
    }
    let mut look = Look { work: &mut work, lines: &mut lines, trouble: None, leaves: Vec::new() };
    let table = actual.as_ref().map(|actual| &actual.table);
    let compared = compare::partitions(sides, &source, &target, table, ahead, &mut look).await;
    let (trouble, leaves) = (look.trouble.take(), look.leaves);
    work.leaves.extend(leaves.into_iter().filter(|_| table.is_some_and(|table| carry::data_goes_with(table, keep))));
    if let Some(there) = shows {
        lines.add(&writes::line(there));
    }
    work.digest = actual.as_ref().map(|_| lines.hex());
    work.quarantine = match compared {
        Err(Trouble::Metastore(error)) => return Err(error),
        Err(Trouble::Table(why)) => {
            (work.unread, work.digest) = (true, None);
            Some(why)
        }
        Ok(()) => shall.err().or(trouble),
    };
    if work.quarantine.is_some() {
        // What stays on the target stays as it is.
        work.drop = 0;
        work.differing.clear();
        work.put.clear();
        work.leaves.clear();
        return Ok((work, Vec::new()));
    }
    let owner = Owner::Table(at);
    let own = carry::folders(&source, &nature).into_iter();
    let mut folders: Vec<Folder> = own.map(|(location, wave)| Folder { location, owner, wave }).collect();
    let is_outside = |place: &&Location| work.location.as_ref().is_none_or(|home| home.relative(place).is_none());
    let outside: BTreeSet<&Location> = work.displaced.iter().map(|(place, _)| place).filter(is_outside).collect();
    folders.extend(outside.into_iter().cloned().map(|location| Folder { location, owner, wave: Wave::Data }));
    // A file that a parameter names outside every pair is read where it is; a table's own place was translated above.
    folders.retain(|folder| sides.policy.locations.pair(&folder.location).is_some());
    Ok((work, folders))
}

/// Tables of the target that shall not be there: ours are dropped, others are drift.
async fn drop_tables(
    sides: &Sides,
    state: Option<&SyncState>,
    target: &DatabaseName,
    names: &[String],
    survey: &mut Survey,
) -> Result<()> {
    let keep = sides.policy.options.keep_external_data;
    for names in names.chunks(TABLES_AT_ONCE) {
        for table in sides.target.tables(target, names).await?.found {
            let ours = |state: &SyncState| {
                let (database, table) = (&table.name.database, &table.name.table);
                state.table(database, table).is_some_and(|left| left.digest.is_some())
                    || state.is_intended(database, table)
            };
            let by_others = state.is_some_and(|state| state.databases.contains_key(&target.database) && !ours(state));
            if by_others {
                survey.drift.push(format!("table {}: somebody else made it", table.name));
            }
            let mut folders = Vec::new();
            if carry::data_goes_with(&table, keep) {
                folders.extend(table.storage.location.as_deref().and_then(|text| Location::parse(text).ok()));
                folders.extend(outside(sides, &table).await?);
            }
            survey.drops.push(Drop { place: table.storage.location.clone(), folders, by_others, target: table.name });
        }
    }
    Ok(())
}

/// The folders of a table's partitions on the target that are not inside its own. Of what cannot be read nobody knows them.
async fn outside(sides: &Sides, table: &Table) -> Result<Vec<Location>> {
    let mut found = Vec::new();
    if table.partition_keys.is_empty() {
        return Ok(found);
    }
    let names = sides.target.partition_names(&table.name).await?;
    for names in names.chunks(CHUNK) {
        let partitions = sides.target.partitions(table, names).await?;
        found.extend(partitions.found.iter().filter_map(|partition| carry::outside(table, partition)));
    }
    Ok(found)
}

/// Rule 28: leaves those of these folders of the target under which no table or partition of it points, lies, or will. `false`
/// while the target holds what cannot be read: where that has its files nobody knows.
pub async fn removable(sides: &Sides, survey: &Survey, free: &mut Free) -> Result<bool> {
    survey.claim(&sides.policy.locations, free);
    // What goes or stands elsewhere in this run lets go of the folders that wait for that, and of no others.
    let mut leaves: BTreeMap<&TableName, BTreeSet<Vec<String>>> = BTreeMap::new();
    for drop in &survey.drops {
        leaves.entry(&drop.target).or_default().extend(drop.folders.iter().map(Location::path));
    }
    for (at, folder) in &survey.left {
        leaves.entry(&survey.tables[*at].target).or_default().insert(folder.path());
    }
    if free.is_empty() {
        return Ok(true);
    }
    for database in sides.target.databases().await? {
        let names = sides.target.table_names(&database.name).await?;
        for names in names.chunks(TABLES_AT_ONCE) {
            let tables = sides.target.tables(&database.name, names).await?;
            if !tables.damaged.is_empty() {
                return Ok(false);
            }
            for table in tables.found {
                let leaves = leaves.get(&table.name);
                let mut claim = |place: &Location| {
                    if !leaves.is_some_and(|leaves| leaves.contains(&place.path())) {
                        free.claim(place);
                    }
                };
                let place = table.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
                place.iter().for_each(&mut claim);
                let partitions = sides.target.partition_names(&table.name).await?;
                for names in partitions.chunks(CHUNK) {
                    let partitions = sides.target.partitions(&table, names).await?;
                    if !partitions.damaged.is_empty() {
                        return Ok(false);
                    }
                    for partition in partitions.found {
                        carry::outside(&table, &partition).iter().for_each(&mut claim);
                    }
                }
            }
        }
    }
    Ok(true)
}

impl Survey {
    /// Claims where all that is carried will stand.
    pub fn claim(&self, map: &LocationMap, free: &mut Free) {
        if !free.is_empty() {
            self.folders.iter().filter_map(|folder| map.map(&folder.location)).for_each(|place| free.claim(&place));
        }
    }

    /// Whether metadata of the target has to change.
    pub fn differs(&self) -> bool {
        !self.drops.is_empty()
            || !self.gone.is_empty()
            || self.tables.iter().any(TableWork::differs)
            || self.databases.iter().any(|database| !database.changes.is_empty() || !database.functions.is_empty())
    }

    /// The trees that hold the data of all that is carried.
    pub fn roots(&self, map: &LocationMap) -> Vec<Root> {
        let mut roots = roots::roots(&self.bases, &self.folders, map);
        for root in &mut roots {
            root.narrowed = self.narrowed.get(&(root.wave, root.from.clone())).cloned().unwrap_or_default();
        }
        roots
    }

    /// Drops that the guard counts: not those of tables that were renamed, as an event says or the folder of a table that is
    /// new.
    pub fn counted_drops(&self, sides: &Sides, renamed: &BTreeSet<TableName>) -> Vec<&Drop> {
        let by_event: BTreeSet<TableName> = renamed.iter().map(|table| sides.policy.target_table(table)).collect();
        let map = &sides.policy.locations;
        let taken: Vec<String> = self
            .tables
            .iter()
            .filter(|table| table.is_new)
            .filter_map(|table| Some(map.map(table.location.as_ref()?)?.to_string()))
            .collect();
        let renamed = |drop: &Drop| {
            let place = drop.place.as_deref();
            by_event.contains(&drop.target)
                || (place.is_some() && taken.iter().any(|taken| same_place(Some(taken), place)))
        };
        self.drops.iter().filter(|drop| !renamed(drop)).collect()
    }
}

/// The quarantine of a table that was carried up to `as_of`.
pub fn quarantine(error: String, left: Option<&super::state::TableState>, as_of: Option<String>) -> Quarantine {
    let before = left.and_then(|left| left.quarantined.as_ref()).and_then(|before| before.as_of.clone());
    let carried = left.is_some_and(|left| left.digest.is_some());
    Quarantine { error, as_of: before.or(as_of.filter(|_| carried)) }
}
