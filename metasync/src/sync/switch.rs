//! Tables and partitions whose files are replaced are made anew in a fresh folder, to which metadata is switched: a reader sees
//! the old files or the new ones (`publish = "switch"`). What is only added to stays in place.
//!
//! A *unit* is what one location of the metastore leads to: the folder of a table without partitions, or of a partition. Where
//! a unit stands that does not stand where the policy's map says is kept in the state, and wins over the map everywhere. The
//! order is: what is about to be made is written into the state; files are copied; the target's metadata is changed; what the
//! target says then is written into the state. A crash leaves a fresh folder that nobody reads and that the next run goes on
//! with or retires, or metadata that is ahead of the state: which of both it is the target's metadata says. Without a state
//! it says everything. Never touches a folder that readers may be in; what was left by them goes after `reader_grace`.

mod choose;
mod retire;
mod whole;

pub(super) use choose::{NO_PARTITION, Published, Readers, choose};
pub(super) use retire::{due, plant};
pub(super) use whole::{look_at_sources, moved_since};

use super::failure;
use super::state::{Switched, SyncState};
use crate::compare::Sides;
use crate::location::{Location, LocationMap, same_place};
use crate::metastore::{CHUNK, Snapshot};
use crate::model::{PartitionName, Table, TableName};
use crate::policy::Policy;
use distcp::error::Result;
use jiff::Timestamp;
use manifest::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the names of fresh folders have behind the name of the one that they take the place of.
const MARK: &str = ".understudy-";
/// Where, as a key of its tree, the folder stands that the map gives to a unit which stands elsewhere. No object has this key.
const FIRST: &str = "understudy-first";

/// Where units stand.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Elsewhere than the map says.
    pub switched: BTreeMap<String, Switched>,
    /// Where they will.
    pub pending: BTreeMap<String, Switched>,
    /// Where they stood, and since when they do not (RFC 3339).
    pub retired: BTreeMap<String, String>,
}

impl Places {
    /// The policy with the map that leads to where everything stands; with `pending`, to where it will.
    pub fn effective(&self, policy: &Policy, with_pending: bool) -> Arc<Policy> {
        let pending = with_pending.then_some(&self.pending).into_iter().flatten();
        let all: BTreeMap<&String, &Switched> = self.switched.iter().chain(pending).collect();
        let folders =
            all.into_iter().filter_map(|(from, to)| Location::parse(from).ok().zip(Location::parse(&to.to).ok()));
        Arc::new(Policy { locations: policy.locations.with_elsewhere(folders), ..policy.clone() })
    }

    /// Where this unit stands now.
    fn present(&self, map: &LocationMap, from: &Location) -> Option<Location> {
        match self.switched.get(&from.normal()) {
            Some(switched) => Location::parse(&switched.to).ok(),
            None => map.map_by_pairs(from),
        }
    }

    /// Takes these fresh folders back: nobody ever read them.
    pub(super) fn give_up(&mut self, keep: impl Fn(&str) -> bool) {
        let given_up: Vec<String> = self.pending.keys().filter(|from| !keep(from)).cloned().collect();
        for from in given_up {
            self.retired.extend(self.pending.remove(&from).map(|fresh| (fresh.to, Timestamp::UNIX_EPOCH.to_string())));
        }
    }

    /// Into the state.
    pub(super) fn keep(&self, state: &mut SyncState) {
        state.switched.clone_from(&self.switched);
        state.pending.clone_from(&self.pending);
        state.retired.clone_from(&self.retired);
    }

    /// What the target says of folders that a run has made: those that it names are where their units stand from `now` on.
    pub(super) async fn resolve(&mut self, target: &dyn Snapshot, map: &LocationMap, now: Timestamp) -> Result<()> {
        let mut tables: BTreeMap<TableName, Vec<(String, Switched)>> = BTreeMap::new();
        for (from, fresh) in &self.pending {
            let table = TableName::new(&fresh.database, &fresh.table);
            tables.entry(table).or_default().push((from.clone(), fresh.clone()));
        }
        for (name, units) in tables {
            let found = target.tables(&name.database(), std::slice::from_ref(&name.table)).await.map_err(failure)?;
            let Some(table) = found.found.into_iter().next() else { continue };
            let names = units.iter().filter_map(|(_, unit)| unit.partition.clone().map(PartitionName)).collect();
            let there = locations(target, &table, names).await?;
            for (from, fresh) in units {
                let location = match &fresh.partition {
                    Some(partition) => there.get(partition),
                    None => table.storage.location.as_ref(),
                };
                if !location.is_some_and(|location| same_place(Some(location), Some(&fresh.to))) {
                    continue;
                }
                let before = Location::parse(&from).ok().and_then(|from| self.present(map, &from));
                self.retired.extend(before.map(|before| (before.to_string(), now.to_string())));
                self.retired.remove(&fresh.to);
                self.pending.remove(&from);
                self.switched.insert(from, fresh);
            }
        }
        Ok(())
    }
}

/// Where the last run left the units; without a state, where the target says that they are.
pub(super) async fn present(sides: &Sides, state: Option<&SyncState>, now: Timestamp) -> Result<Places> {
    let map = &sides.policy.locations;
    let Some(state) = state else { return derive(sides).await };
    let mut places =
        Places { switched: state.switched.clone(), pending: state.pending.clone(), retired: state.retired.clone() };
    places.resolve(sides.target.as_ref(), map, now).await?;
    Ok(places)
}

/// The locations of these partitions of a table, by name.
async fn locations(
    snapshot: &dyn Snapshot,
    table: &Table,
    names: Vec<PartitionName>,
) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for names in names.chunks(CHUNK) {
        for partition in snapshot.partitions(table, names).await.map_err(failure)?.found {
            let keys = table.partition_keys.iter().map(|key| key.name.as_str());
            if let (Ok(name), Some(location)) = (PartitionName::of(keys, &partition.values), partition.storage.location)
            {
                found.insert(name.0, location);
            }
        }
    }
    Ok(found)
}

/// A unit that stands on the target in a folder of ours, if this is one: where the map says that it stands, with our mark.
fn by_mark(map: &LocationMap, source: Option<&str>, target: Option<&str>) -> Option<(String, String)> {
    let (from, to) = (Location::parse(source?).ok()?, Location::parse(target?).ok()?);
    let by_pairs = map.map_by_pairs(&from)?;
    let (segments, usual) = (to.segments(), by_pairs.segments());
    let is_ours = segments.len() == usual.len()
        && std::iter::zip(segments, usual).filter(|(is, was)| is != was).count() == 1
        && std::iter::zip(segments, usual)
            .all(|(is, was)| is == was || is.strip_prefix(was.as_str()).is_some_and(|rest| rest.starts_with(MARK)));
    is_ours.then(|| (from.normal(), to.to_string()))
}

async fn derive(sides: &Sides) -> Result<Places> {
    let map = &sides.policy.locations;
    let mut places = Places::default();
    for database in sides.source.databases().await.map_err(failure)? {
        if !sides.policy.scope.takes_database(&database.name) {
            continue;
        }
        let target = sides.policy.target_database(&database.name);
        let there = sides.target.table_names(&target).await.map_err(failure)?;
        for names in there.chunks(CHUNK) {
            let held = sides.target.tables(&target, names).await.map_err(failure)?.found;
            let found = sides.source.tables(&database.name, names).await.map_err(failure)?.found;
            let sources: BTreeMap<&str, &Table> =
                found.iter().map(|table| (table.name.table.as_str(), table)).collect();
            for table in held {
                let Some(source) = sources.get(table.name.table.as_str()) else { continue };
                let unit = |to: String, partition: Option<String>| Switched {
                    to,
                    database: table.name.database.clone(),
                    table: table.name.table.clone(),
                    partition,
                };
                let (from, to) = (source.storage.location.as_deref(), table.storage.location.as_deref());
                if let Some((from, to)) = by_mark(map, from, to) {
                    places.switched.insert(from, unit(to, None));
                }
                if table.partition_keys.is_empty() || source.partition_keys.is_empty() {
                    continue;
                }
                let names = sides.target.partition_names(&table.name).await.map_err(failure)?;
                let mut marked = locations(sides.target.as_ref(), &table, names).await?;
                marked.retain(|_, location| location.contains(MARK));
                let names = marked.keys().cloned().map(PartitionName).collect();
                let sources = locations(sides.source.as_ref(), source, names).await?;
                for (name, to) in marked {
                    let from = sources.get(&name).map(String::as_str);
                    if let Some((from, to)) = by_mark(map, from, Some(&to)) {
                        places.switched.insert(from, unit(to, Some(name)));
                    }
                }
            }
        }
    }
    Ok(places)
}

/// The keys of a tree that lead elsewhere, with where they lead: those of units in it, and those of the folders whose place
/// these took.
pub(super) fn placed(from: &Location, to: &Location, map: &LocationMap) -> Vec<(ObjectKey, ObjectKey)> {
    let mut pairs = Vec::new();
    for (unit, place) in map.elsewhere() {
        let (Some(key), Some(there)) = (key_in(from, unit), key_in(to, place)) else { continue };
        pairs.push((first(&key), key.clone()));
        pairs.push((key, there));
    }
    pairs
}

/// The key, in a tree, of what a folder of the target holds that a unit stands or stood in.
fn key_of(from: &Location, to: &Location, map: &LocationMap, place: &Location) -> Option<ObjectKey> {
    let key = key_in(to, place)?;
    let placed = placed(from, to, map);
    let named = placed.iter().find(|(_, there)| *there == key).map(|(key, _)| key.clone());
    Some(named.unwrap_or(key))
}

fn first(key: &ObjectKey) -> ObjectKey {
    key.below(&ObjectKey::from(FIRST))
}

fn key_in(root: &Location, place: &Location) -> Option<ObjectKey> {
    let inner = root.relative(place).filter(|inner| !inner.is_empty())?;
    Some(ObjectKey::from(inner.join("/").as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_our_mark_is_known_and_no_other_is() {
        let location = |text: &str| Location::parse(text).unwrap();
        let map = LocationMap::new(vec![(location("s3://eu/w"), location("s3://us/w"))]).unwrap();
        for (from, to, known) in [
            ("s3://eu/w/t", "s3a://us/w/t.understudy-1", true),
            ("s3://eu/w/t/d=1", "s3://us/w/t.understudy-1/d=1", true),
            ("s3://eu/w/t", "s3://us/w/t", false),
            ("s3://eu/w/t", "s3://us/w/u.understudy-1", false),
            ("s3://eu/w/t", "s3://us/w/t.understudy-1/x", false),
            ("s3://eu/w/t/d=1", "s3://us/w/t.understudy-1/d=2", false),
            ("s3://eu/w/t.understudy-1", "s3://us/w/t.understudy-1", false),
            ("s3://eu/w/t.understudy-1", "s3://us/w/t.understudy-1.understudy-2", true),
            ("s3://eu/other/t", "s3://us/w/t.understudy-1", false),
        ] {
            assert_eq!(by_mark(&map, Some(from), Some(to)).is_some(), known, "{from} {to}");
        }
    }

    #[test]
    fn a_unit_elsewhere_is_found_by_its_key_and_what_stood_there_before_has_one_of_its_own() {
        let location = |text: &str| Location::parse(text).unwrap();
        let map = LocationMap::new(vec![(location("/w"), location("/r"))]).unwrap();
        let map = map.with_elsewhere([(location("/w/db/t"), location("/r/db/t.understudy-2"))]);
        assert_eq!(map.map(&location("/w/db/t/f")).unwrap().to_string(), "file:/r/db/t.understudy-2/f");
        assert_eq!(map.unmap(&location("/r/db/t.understudy-2")).unwrap().to_string(), "file:/w/db/t");
        assert_eq!(map.unmap(&location("/r/db/t")), None);
        let (from, to) = (location("/w/db"), location("/r/db"));
        let pairs = placed(&from, &to, &map);
        let shown: Vec<String> = pairs.iter().map(|(key, there)| format!("{key} {there}")).collect();
        assert_eq!(shown, ["understudy-first/t t", "t t.understudy-2"]);
        let key = |place: &str| key_of(&from, &to, &map, &location(place)).unwrap().to_string();
        assert_eq!(key("/r/db/t"), "understudy-first/t");
        assert_eq!(key("/r/db/t.understudy-1"), "t.understudy-1");
    }
}
