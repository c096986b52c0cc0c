//! Transactional tables in a run: which of their writes a replica shows, and with that which of their files count.
//!
//! A replica shows the writes up to a mark below which everything has ended. The mark comes from the snapshot in which the
//! source's metastore is read; what is listed after it may be newer, so a folder whose compaction, or overwrite, was not over at
//! that moment is asked for once more: if it is over now, what it replaced may be gone, and the look begins again. Reads
//! only; a crash leaves nothing.

use super::data::{self, Trust};
use super::survey::{Survey, TableWork};
use super::{Metastores, Setting, failure};
use crate::acid::{self, Choice, Doubt, Folder};
use crate::compare::Sides;
use crate::metastore::Change;
use crate::model::{DatabaseName, TableName, Transactions, WriteIds};
use crate::roots::Owner;
use distcp::error::Result;
use distcp::list::cover::Cover;
use distcp::store::{ListOptions, Store, StoreErrorKind};
use futures::StreamExt as _;
use manifest::{EntryKind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait before open transactions are asked for again: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A transactional table.
#[derive(Clone, Debug, Default)]
pub struct Acid {
    /// Its writes at the source.
    pub ids: WriteIds,
    /// The largest that the replica shows.
    pub there: Option<i64>,
    /// The compactions whose folders count.
    pub compactions: BTreeSet<i64>,
    /// Those of which the replica has no whole folder yet.
    pub arriving: BTreeSet<i64>,
}

impl Acid {
    /// The largest write that the replica shall show.
    pub fn mark(&self) -> Option<i64> {
        self.ids.ended().high_water
    }

    /// What tells the readers of the target so.
    pub fn shown(&self, target: &TableName, ended: &Ended) -> Change {
        Change::PutWriteIds {
            table: target.clone(),
            mark: self.mark(),
            compactions: self.compactions.iter().copied().collect(),
            above: ended.source.high_water,
        }
    }

    /// Whether the replica shall show more, or less, than now.
    pub fn moves(&self) -> bool {
        self.mark() != self.there
    }
}

/// The line of a digest for the writes that a target shows.
pub fn line(mark: Option<i64>) -> Vec<u8> {
    match mark {
        Some(mark) => format!("writes up to {mark}").into_bytes(),
        None => b"no writes".to_vec(),
    }
}

/// Transactions of both sides.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// At the source.
    pub source: Transactions,
    /// On the target.
    pub target: Transactions,
}

/// The writes of these tables of both sides. `Err`: why none of them can be carried.
pub async fn of_tables(
    sides: &Sides,
    database: &DatabaseName,
    names: &[String],
    survey: &mut Survey,
) -> crate::metastore::Result<Result<HashMap<String, Acid>, String>> {
    if names.is_empty() {
        return Ok(Ok(HashMap::new()));
    }
    let target = sides.policy.target_database(database);
    let source = sides.source.write_ids(database, names).await?;
    let there = sides.target.write_ids(&target, names).await?;
    let transactions = (sides.source.transactions().await?, sides.target.transactions().await?);
    let (Some(source), Some(from)) = (source, transactions.0) else {
        return Ok(Err(
            "which of its writes count is known only in the database of a metastore of Hive 4, which this \
                       source is not"
                .to_owned(),
        ));
    };
    let (Some(mut there), Some(to)) = (there, transactions.1) else {
        return Ok(Err(
            "which of its writes count can be said only in the database of a metastore of Hive 4, or in a new \
                       SQLite file, which this target is not"
                .to_owned(),
        ));
    };
    survey.ended = Ended { source: from, target: to };
    let of = |(name, ids): (String, WriteIds)| {
        let there = there.remove(&name).and_then(|ids| ids.high_water);
        (name, Acid { ids, there, ..Acid::default() })
    };
    Ok(Ok(source.into_iter().map(of).collect()))
}

/// What a folder of a table, or of a partition, holds.
#[derive(Default)]
struct Unit {
    folders: BTreeMap<String, bool>,
    others: Vec<ObjectKey>,
}

/// Looks at the folders of transactional tables, and narrows the trees to what readers see of them. Whether the source has to be
/// looked at again: a table's folders were compacted while they were looked at; of these the quarantine says so.
pub(super) async fn choose(setting: &Setting, stores: &Metastores, survey: &mut Survey, afresh: bool) -> Result<bool> {
    let mut doubts: BTreeMap<usize, Vec<Doubt>> = BTreeMap::new();
    for root in survey.roots(&setting.policy.locations) {
        let mut meant: Vec<(ObjectKey, usize)> = Vec::new();
        for (folder, owners) in &root.folders {
            for owner in owners {
                let Owner::Table(at) = *owner else { continue };
                if survey.tables[at].acid.is_some() && survey.tables[at].quarantine.is_none() {
                    meant.push((folder.clone(), at));
                }
            }
        }
        if meant.is_empty() {
            continue;
        }
        let Some(tree) = data::open(setting, survey, vec![root.clone()], Trust::default())?.pop() else { continue };
        for (folder, at) in meant {
            let table = &survey.tables[at];
            let home = root.from.below(&folder.escaped());
            let keys = if table.location.as_ref().is_some_and(|own| own.is_same(&home)) { table.keys } else { 0 };
            let source = units(&tree.job.source.store, &folder, keys).await?;
            let there: BTreeMap<ObjectKey, Unit> = match table.is_new {
                true => BTreeMap::new(),
                false => units(&tree.job.target.store, &folder, keys).await?,
            };
            match look(&source, &there, survey, at) {
                Ok(looked) => {
                    let of_table = doubts.entry(at).or_default();
                    of_table.extend(looked.doubts);
                    let narrowed = survey.narrowed.entry((root.wave, root.from.clone())).or_default();
                    narrowed.folders.insert(folder);
                    narrowed.shown.extend(looked.shown);
                    if let Some(acid) = &mut survey.tables[at].acid {
                        acid.compactions.extend(looked.compactions);
                        acid.arriving.extend(looked.arriving);
                    }
                }
                Err(why) => survey.tables[at].quarantine = Some(format!("it is an ACID table: {why}")),
            }
        }
    }
    went_back(survey, afresh);
    let moved = stand(stores, survey, doubts).await?;
    for table in &mut survey.tables {
        let Some(acid) = table.acid.as_ref().filter(|_| table.quarantine.is_none()) else { continue };
        if acid.moves() {
            let mark = acid.mark().map_or("none".to_owned(), |mark| format!("up to {mark}"));
            table.differing.push(format!("its writes: {mark}"));
        } else if !acid.arriving.is_empty() {
            table.differing.push("a compaction".to_owned());
        }
    }
    Ok(moved)
}

/// Tables whose writes are fewer than the replica shows.
fn went_back(survey: &mut Survey, afresh: bool) {
    for table in survey.tables.iter_mut().filter(|table| table.quarantine.is_none() && !table.is_new) {
        let Some(acid) = &table.acid else { continue };
        let (shown, now) = (acid.there.unwrap_or(0), acid.mark().unwrap_or(0));
        // A table that is made anew on the target loses what it shows.
        if now < shown && !afresh && !table.drifted {
            table.quarantine = Some(format!(
                "it is an ACID table: the replica shows its writes up to {shown}, and the source knows them up to {now}: it was made \
                 anew, or the source was restored; if that is right: metasync resync POLICY --table {}.{}",
                table.source.database, table.source.table
            ));
        }
    }
}

/// What was seen of one folder.
#[derive(Default)]
struct Looked {
    shown: Vec<ObjectKey>,
    doubts: Vec<Doubt>,
    compactions: BTreeSet<i64>,
    arriving: BTreeSet<i64>,
}

fn look(
    source: &BTreeMap<ObjectKey, Unit>,
    there: &BTreeMap<ObjectKey, Unit>,
    survey: &Survey,
    at: usize,
) -> Result<Looked, String> {
    let mut looked = Looked::default();
    let Some(acid) = &survey.tables[at].acid else { return Ok(looked) };
    let ids = acid.ids.ended();
    for (place, unit) in source {
        let mut folders = Vec::with_capacity(unit.folders.len());
        for (name, has_metadata) in &unit.folders {
            let mut folder = Folder::parse(name)?;
            folder.has_metadata = *has_metadata;
            folders.push(folder);
        }
        if ids.high_water.is_none() && !folders.is_empty() {
            return Err(format!(
                "{} holds folders of writes, and its metastore knows of none",
                survey.tables[at].source
            ));
        }
        let of_place = |why: String| format!("{why} (in {})", place.escaped());
        let Choice { folders: chosen, originals, compactions, doubts } =
            acid::choose(&folders, &ids, &survey.ended.source).map_err(of_place)?;
        let held = there.get(place);
        let lacks = |name: &String| held.is_none_or(|held| !held.folders.contains_key(name));
        for folder in folders.iter().filter(|folder| chosen.contains(&folder.name)) {
            // One that a run that died held back is still on its way.
            let on_its_way = |id: &i64| lacks(&folder.name) || survey.ended.target.open.contains(id);
            looked.arriving.extend(folder.compaction.filter(on_its_way));
        }
        looked.shown.extend(chosen.iter().map(|name| ObjectKey::from(name.as_str()).below(place)));
        looked.shown.extend(originals.then_some(&unit.others).into_iter().flatten().cloned());
        looked.compactions.extend(compactions);
        looked.doubts.extend(doubts);
    }
    Ok(looked)
}

/// Asks the source again for what may have come to its end meanwhile. Whether it has, of any table.
async fn stand(stores: &Metastores, survey: &mut Survey, doubts: BTreeMap<usize, Vec<Doubt>>) -> Result<bool> {
    let doubts: BTreeMap<usize, Vec<Doubt>> = doubts.into_iter().filter(|(_, doubts)| !doubts.is_empty()).collect();
    if doubts.is_empty() {
        return Ok(false);
    }
    let now = stores.source.snapshot().await.map_err(failure)?;
    let transactions = now.transactions().await.map_err(failure)?.unwrap_or_default();
    let mut moved = false;
    for (at, doubts) in doubts {
        let table = &mut survey.tables[at];
        let names = [table.source.table.clone()];
        let ids = now.write_ids(&table.source.database(), &names).await.map_err(failure)?.unwrap_or_default();
        let ids = ids.get(&table.source.table).cloned().unwrap_or_default();
        if table.quarantine.is_none() && doubts.iter().any(|doubt| doubt.stands(&ids, &transactions)) {
            let why = "it is an ACID table: it was compacted, or overwritten, while it was looked at; the next run looks again";
            table.quarantine = Some(why.to_owned());
            moved = true;
        }
    }
    Ok(moved)
}

/// What stands in a folder: by the folder of each partition, of which the names have `keys` segments.
async fn units(store: &Arc<dyn Store>, folder: &ObjectKey, keys: usize) -> Result<BTreeMap<ObjectKey, Unit>> {
    let capabilities = store.capabilities();
    let prefix = match folder.is_empty() {
        true => Vec::new(),
        false => [folder.as_bytes(), b"/"].concat(),
    };
    let start = Some(ObjectKey::from(prefix.clone())).filter(|key| !key.is_empty());
    let options = match (capabilities.levels, capabilities.start_after) {
        (true, _) => ListOptions { starting: start, ..ListOptions::default() },
        (false, true) => ListOptions { after: start, ..ListOptions::default() },
        (false, false) => ListOptions { cover: Cover::new([folder.clone()]).map(Arc::new), ..ListOptions::default() },
    };
    let mut units: BTreeMap<ObjectKey, Unit> = BTreeMap::new();
    let mut pages = store.list(options);
    while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            Err(error) if error.kind == StoreErrorKind::NotFound => break,
            Err(error) => return Err(error.into()),
        };
        for listed in page {
            if listed.key.as_bytes().starts_with(&prefix) {
                add(&mut units, &prefix, keys, &listed.key, matches!(listed.kind, EntryKind::Folder));
            } else if capabilities.ordered_list && listed.key.as_bytes() > prefix.as_slice() {
                return Ok(units);
            }
        }
    }
    Ok(units)
}

/// Adds what was listed to the partition that it belongs to. What Hive hides is not among it.
fn add(units: &mut BTreeMap<ObjectKey, Unit>, prefix: &[u8], keys: usize, key: &ObjectKey, is_folder: bool) {
    let inner = key.as_bytes().get(prefix.len()..).unwrap_or_default();
    let segments: Vec<&[u8]> = inner.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).collect();
    let Some((place, rest)) = segments.split_at_checked(keys) else { return };
    let Some(first) = rest.first() else { return };
    let is_hidden = |segment: &&[u8]| segment.starts_with(b"_") || segment.starts_with(b".");
    if place.iter().any(is_hidden) || is_hidden(first) {
        return;
    }
    let home = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let place = [home].into_iter().chain(place.iter().copied()).filter(|part| !part.is_empty());
    let place = ObjectKey::from(place.collect::<Vec<_>>().join(&b'/'));
    let unit = units.entry(place).or_default();
    let name = String::from_utf8_lossy(first);
    let stands_in_one = is_folder || rest.len() > 1;
    if stands_in_one && Folder::is_named_so(&name) {
        let is_metadata = rest.get(1).is_some_and(|file| *file == acid::METADATA_FILE.as_bytes());
        *unit.folders.entry(name.into_owned()).or_default() |= is_metadata;
    } else if !is_folder {
        unit.others.push(key.clone());
    }
}

impl Survey {
    /// Whether any transactional table has writes that have not ended: they may without any sign but in the transactions.
    pub fn has_open_writes(&self) -> bool {
        self.tables.iter().filter_map(|table| table.acid.as_ref()).any(|acid| !acid.ids.open.is_empty())
    }

    /// Tables of which the replica shows less than was committed, because a write before that has not ended.
    pub fn held_up(&self) -> impl Iterator<Item = &TableWork> {
        let is_ahead = |table: &&TableWork| table.acid.as_ref().is_some_and(|acid| acid.ids.is_ahead());
        self.tables.iter().filter(|table| table.quarantine.is_none()).filter(is_ahead)
    }
}

/// Tables of which files would become others, with why they are left out: readers see them while they are copied.
pub(super) fn replaced<'a>(replaced: data::Forks, survey: &'a Survey) -> impl Iterator<Item = (usize, String)> + 'a {
    replaced.into_iter().map(|(at, file)| {
        let TableWork { source: table, iceberg, .. } = &survey.tables[at];
        let kind = if iceberg.is_some() { "Iceberg" } else { "ACID" };
        let why = format!(
            "it is an {kind} table: {file} is another file than the source's of that name, or rewritten otherwise: \
             metasync resync POLICY --table {}.{} replaces it under its readers",
            table.database, table.table
        );
        (at, why)
    })
}

/// What readers of the target must not see before all of it is there.
pub(super) fn holds(survey: &Survey) -> Vec<Change> {
    let above = survey.ended.source.high_water;
    let hold = |table: &TableWork| {
        let acid = table.acid.as_ref().filter(|_| table.quarantine.is_none() && !table.is_new)?;
        let compactions: Vec<i64> = acid.arriving.iter().copied().collect();
        (!compactions.is_empty()).then(|| Change::HoldCompactions { table: table.target.clone(), compactions, above })
    };
    survey.tables.iter().filter_map(hold).collect()
}

/// Waits until the writes that are open now have ended, or as long as `txn_wait` says. Whether it waited.
pub(super) async fn wait(setting: &Setting, stores: &Metastores, survey: &Survey) -> Result<bool> {
    let longest = setting.policy.options.txn_wait;
    let mut open: BTreeMap<DatabaseName, BTreeMap<String, BTreeSet<i64>>> = BTreeMap::new();
    for table in survey.tables.iter().filter(|table| table.quarantine.is_none()) {
        if let Some(acid) = table.acid.as_ref().filter(|acid| !acid.ids.open.is_empty()) {
            let tables = open.entry(table.source.database()).or_default();
            tables.insert(table.source.table.clone(), acid.ids.open.clone());
        }
    }
    if open.is_empty() || longest.is_zero() {
        return Ok(false);
    }
    let count: usize = open.values().map(BTreeMap::len).sum();
    setting.note(format!("waiting up to {} s for the open transactions of {count} tables", longest.as_secs()));
    let (begun, mut pause) = (Instant::now(), FIRST_WAIT);
    while !open.is_empty() && begun.elapsed() < longest && !setting.stop.token.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(pause.min(longest.saturating_sub(begun.elapsed()))) => {}
            () = setting.stop.token.cancelled() => {}
        }
        pause = (pause * 2).min(LONGEST_WAIT);
        let now = stores.source.snapshot().await.map_err(failure)?;
        for (database, tables) in &mut open {
            let names: Vec<String> = tables.keys().cloned().collect();
            let ids = now.write_ids(database, &names).await.map_err(failure)?.unwrap_or_default();
            tables.retain(|name, before| ids.get(name).is_some_and(|ids| !ids.open.is_disjoint(before)));
        }
        open.retain(|_, tables| !tables.is_empty());
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_belongs_to_its_partition() {
        let mut units = BTreeMap::new();
        for (key, is_folder) in [
            ("db/t/p=1/q=x y/delta_1_1_0/bucket_0", false),
            ("db/t/p=1/q=x y/base_2", true),
            ("db/t/p=1/q=x y/base_3/_metadata_acid", false),
            ("db/t/p=1/q=x y/base_3/b", false),
            ("db/t/p=1/q=x y/000000_0", false),
            ("db/t/p=1/q=x y/HIVE_UNION_SUBDIR_1/000000_0", false),
            ("db/t/p=1/q=x y/_tmp.base_4/f", false),
            ("db/t/p=1/q=x y/base_9", false),
            ("db/t/.hive-staging_1/q=1/delta_1_1/f", false),
            ("db/t/p=1/q=2", true),
            ("db/t/p=1/_SUCCESS", false),
        ] {
            add(&mut units, b"db/t/", 2, &ObjectKey::from(key), is_folder);
        }
        let (place, unit) = units.pop_first().unwrap();
        assert_eq!(place, ObjectKey::from("db/t/p=1/q=x y"));
        let folders: Vec<(&str, bool)> = unit.folders.iter().map(|(name, has)| (name.as_str(), *has)).collect();
        assert_eq!(folders, [("base_2", false), ("base_3", true), ("delta_1_1_0", false)]);
        let others: Vec<_> = unit.others.iter().map(|key| key.escaped().into_owned()).collect();
        let inner = ["000000_0", "HIVE_UNION_SUBDIR_1/000000_0", "base_9"];
        assert_eq!(others, inner.map(|name| format!("db/t/p=1/q=x y/{name}")));
        assert!(units.is_empty(), "{:?}", units.keys());
    }

    #[test]
    fn a_folder_that_is_a_whole_tree_has_units_too() {
        let mut units = BTreeMap::new();
        add(&mut units, b"", 0, &ObjectKey::from("delta_1_1_0/bucket_0"), false);
        add(&mut units, b"", 1, &ObjectKey::from("p=1/delta_1_1_0/bucket_0"), false);
        let places: Vec<_> = units.keys().map(|key| key.escaped().into_owned()).collect();
        assert_eq!(places, ["", "p=1"]);
    }
}
