//! Folders whose place others have taken: which may go now, and where in the trees they are removed.
//!
//! Only time and the target's metadata decide, and time only delays: nothing goes that any table or partition of the target
//! points to, lies in, or is around, but for the folder of the partitioned table that a partition's old folder stands in. The
//! state names a folder until it is gone.

use super::{Places, failure, key_of};
use crate::compare::Sides;
use crate::location::{Location, LocationMap};
use crate::metastore::CHUNK;
use crate::roots::{Narrowed, Owner, Root, Wave};
use crate::sync::survey::Survey;
use distcp::error::Result;
use jiff::Timestamp;
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The folders that may go now.
pub async fn due(sides: &Sides, survey: &Survey, places: &Places, now: Timestamp) -> Result<Vec<Location>> {
    let grace = sides.policy.options.reader_grace;
    let is_due = |since: &String| {
        let since: Option<Timestamp> = since.parse().ok();
        since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()).is_some_and(|age| age >= grace)
    };
    let old = places.retired.iter().filter(|(_, since)| is_due(since));
    let mut free: Vec<Location> = old.filter_map(|(folder, _)| Location::parse(folder).ok()).collect();
    let used = places.switched.values().chain(places.pending.values());
    let used: Vec<Location> = used.filter_map(|unit| Location::parse(&unit.to).ok()).collect();
    free.retain(|folder| !used.iter().any(|place| place.overlaps(folder)));
    if free.is_empty() {
        return Ok(free);
    }
    claim_by_survey(survey, &sides.policy.locations, &mut free);
    for database in sides.target.databases().await.map_err(failure)? {
        let names = sides.target.table_names(&database.name).await.map_err(failure)?;
        for names in names.chunks(CHUNK) {
            let tables = sides.target.tables(&database.name, names).await.map_err(failure)?;
            // Where that has its files nobody knows.
            if !tables.damaged.is_empty() {
                return Ok(Vec::new());
            }
            for table in tables.found {
                let place = table.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
                place.iter().for_each(|place| claim(&mut free, place, !table.partition_keys.is_empty()));
                let names = sides.target.partition_names(&table.name).await.map_err(failure)?;
                for names in names.chunks(CHUNK) {
                    let partitions = sides.target.partitions(&table, names).await.map_err(failure)?;
                    if !partitions.damaged.is_empty() {
                        return Ok(Vec::new());
                    }
                    let places = partitions.found.iter().filter_map(|partition| partition.storage.location.as_deref());
                    places
                        .filter_map(|text| Location::parse(text).ok())
                        .for_each(|place| claim(&mut free, &place, false));
                }
            }
        }
    }
    Ok(free)
}

/// Takes out what readers of this place may read. Of a partitioned table nobody reads the folder itself.
fn claim(free: &mut Vec<Location>, place: &Location, has_partitions: bool) {
    free.retain(|folder| match has_partitions {
        true => folder.relative(place).is_none(),
        false => !folder.overlaps(place),
    });
}

/// What tables of the policy will have.
fn claim_by_survey(survey: &Survey, map: &LocationMap, free: &mut Vec<Location>) {
    for folder in &survey.folders {
        let Some(place) = map.map(&folder.location) else { continue };
        let table = match folder.owner {
            Owner::Table(at) => survey.tables.get(at),
            Owner::Database(_) | Owner::Removal => None,
        };
        let is_home = |home: &Location| home.is_same(&folder.location);
        let has_partitions = table.is_some_and(|table| table.keys > 0 && table.location.as_ref().is_some_and(is_home));
        claim(free, &place, has_partitions);
    }
}

/// Puts these folders into the trees that they stand in. One that stands in none gets a tree of its own.
pub fn plant(roots: &mut Vec<Root>, folders: &[Location], map: &LocationMap) -> BTreeSet<String> {
    let mut planted = BTreeSet::new();
    for folder in folders {
        let holds = |root: &&mut Root| {
            root.wave == Wave::Data && root.to.relative(folder).is_some_and(|inner| !inner.is_empty())
        };
        if !roots.iter_mut().any(|mut root| holds(&mut root)) {
            let parent = folder.parent().and_then(|to| Some((map_back(map, &to)?, to)));
            roots.extend(parent.map(|(from, to)| Root {
                from,
                to,
                wave: Wave::Data,
                folders: BTreeMap::new(),
                except: Vec::new(),
                narrowed: Narrowed::default(),
                retired: Vec::new(),
                half_done: false,
                late: Vec::new(),
            }));
        }
        let root = roots.iter_mut().filter(holds).max_by_key(|root| root.to.depth());
        let Some((root, key)) = root.and_then(|root| {
            let key: ObjectKey = key_of(&root.from, &root.to, map, folder)?;
            Some((root, key))
        }) else {
            continue;
        };
        // What is listed for a table is the table's.
        if root.folders.keys().any(|listed| key.is_within(listed) || listed.is_within(&key)) {
            continue;
        }
        root.folders.entry(key.clone()).or_insert_with(|| vec![Owner::Removal]);
        root.retired.push(key);
        planted.insert(folder.to_string());
    }
    planted
}

/// Where the pairs say that a folder of the target is at the source.
fn map_back(map: &LocationMap, to: &Location) -> Option<Location> {
    let back = |(from, there): &(Location, Location)| Some(from.join(there.relative(to)?));
    map.pairs().iter().find_map(back)
}
