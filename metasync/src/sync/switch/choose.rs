//! Which units are made anew, and where. Reads the source's partitions of the tables in question; writes nothing.

use super::{MARK, Places, failure, key_in};
use crate::compare::Sides;
use crate::location::Location;
use crate::metastore::CHUNK;
use crate::model::PartitionName;
use crate::policy::{Policy, Publish};
use crate::roots::{Owner, Root, Wave};
use crate::sync::data::{Draft, Tree};
use crate::sync::state::Switched;
use crate::sync::survey::Survey;
use distcp::error::Result;
use distcp::plan::live::Live;
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

/// Why the files of a partition that is dropped are removed where they are.
pub const NO_PARTITION: &str = "no partition is there";

/// What is known of units while a run is planned and carried out. Units are named by where they stand at the source.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Made anew by this run, each with where it stands now.
    pub fresh: BTreeMap<String, Location>,
    /// Changed in place all the same, with why.
    pub in_place: BTreeMap<String, String>,
    /// Objects that were found to differ, by the key of their tree.
    pub differs: BTreeMap<String, BTreeSet<ObjectKey>>,
}

/// The folders of a tree that readers may be in.
pub struct Readers {
    /// Where nothing is replaced.
    pub live: Live,
    /// Units of the tree that this run makes anew.
    pub fresh: BTreeSet<ObjectKey>,
    /// The same, with the key of where each stands now.
    pub renewed: BTreeMap<ObjectKey, ObjectKey>,
    /// Objects that were found to differ.
    pub differs: BTreeSet<ObjectKey>,
    /// Units that an earlier run began to make anew.
    pub begun: BTreeSet<ObjectKey>,
}

impl Published {
    /// What is known before anything was looked at; `None`: nothing is switched.
    pub fn begin(policy: &Policy, differs: &BTreeMap<String, BTreeSet<ObjectKey>>) -> Option<Self> {
        let switches = policy.options.publish == Publish::Switch && policy.options.data;
        switches.then(|| Self { differs: differs.clone(), ..Self::default() })
    }

    /// What of that is about this tree.
    pub fn readers(
        &self,
        root: &Root,
        key: &str,
        survey: &Survey,
        policy: &Policy,
        places: &Places,
    ) -> Option<Readers> {
        if root.wave != Wave::Data {
            return None;
        }
        let in_tree = |unit: &String| key_in(&root.from, &Location::parse(unit).ok()?);
        let homes = root.folders.iter().filter_map(|(folder, owners)| {
            let at = alone(owners)?;
            let table = survey.tables.get(at).filter(|table| table.switchable && table.digest.is_some())?;
            let is_home = table.location.as_ref().and_then(|home| key_in(&root.from, home)).as_ref() == Some(folder);
            let levels = if is_home { table.keys } else { 0 };
            (!folder.is_empty()).then(|| (folder.clone(), levels))
        });
        let fresh: BTreeSet<ObjectKey> = self.fresh.keys().filter_map(in_tree).collect();
        let free = fresh.iter().cloned().chain(self.in_place.keys().filter_map(in_tree));
        let renewed = self.fresh.iter().filter_map(|(unit, stands)| {
            Some((in_tree(unit)?, super::key_of(&root.from, &root.to, &policy.locations, stands)?))
        });
        Some(Readers {
            live: Live::new(homes, free),
            renewed: renewed.collect(),
            differs: self.differs.get(key).cloned().unwrap_or_default(),
            begun: places.pending.keys().filter(|unit| !self.fresh.contains_key(*unit)).filter_map(in_tree).collect(),
            fresh,
        })
    }
}

/// The one table that owns a folder.
fn alone(owners: &[Owner]) -> Option<usize> {
    match owners {
        [Owner::Table(at)] => Some(*at),
        _ => None,
    }
}

/// A unit.
struct Unit {
    from: Location,
    at: usize,
    partition: Option<PartitionName>,
}

/// Finds a place for every unit of which the drafts say that its files would change under its readers. Whether there was any:
/// then all has to be planned again.
pub async fn choose(
    sides: &Sides,
    survey: &Survey,
    trees: &[Tree],
    drafts: &[Draft],
    places: &mut Places,
    published: &mut Published,
    tag: &str,
) -> Result<bool> {
    let mut found = false;
    let mut partitions: BTreeMap<usize, Vec<(Location, PartitionName)>> = BTreeMap::new();
    for (tree, draft) in std::iter::zip(trees, drafts) {
        for key in &draft.replaced {
            found = true;
            let from = tree.root.from.below(&key.escaped());
            let unit = match unit_of(sides, survey, &tree.root, key, from.clone(), &mut partitions).await? {
                Ok(unit) => unit,
                Err(why) => {
                    published.in_place.insert(from.normal(), why);
                    continue;
                }
            };
            fresh(sides, survey, unit, places, published, tag);
        }
    }
    Ok(found)
}

/// The unit behind a folder of a tree. Errors: why it is changed in place.
async fn unit_of(
    sides: &Sides,
    survey: &Survey,
    root: &Root,
    key: &ObjectKey,
    from: Location,
    partitions: &mut BTreeMap<usize, Vec<(Location, PartitionName)>>,
) -> Result<Result<Unit, String>> {
    let Some((home, at)) = root.around(key).next().and_then(|(home, owners)| Some((home, alone(owners)?))) else {
        return Ok(Err("several tables or functions have files there".to_owned()));
    };
    let table = &survey.tables[at];
    let meets = |folder: &ObjectKey| folder.is_within(key) || key.is_within(folder);
    let shared = root.folders.iter().any(|(folder, owners)| meets(folder) && alone(owners) != Some(at));
    if shared || root.except.iter().any(|folder| folder.is_within(key)) {
        return Ok(Err("several tables or functions have files there".to_owned()));
    }
    let is_home = table.location.as_ref().is_some_and(|place| key_in(&root.from, place).as_ref() == Some(home));
    if table.keys == 0 {
        return Ok(match is_home {
            true => Ok(Unit { from, at, partition: None }),
            false => Err("it is not the folder of a table or partition".to_owned()),
        });
    }
    if let std::collections::btree_map::Entry::Vacant(vacant) = partitions.entry(at) {
        vacant.insert(all_partitions(sides, survey, at).await?);
    }
    let all = partitions.get(&at).map(Vec::as_slice).unwrap_or_default();
    let mut inside = all.iter().filter(|(location, _)| location.overlaps(&from));
    Ok(match (inside.next(), inside.next()) {
        (Some((location, name)), None) if location.is_same(&from) => {
            Ok(Unit { from, at, partition: Some(name.clone()) })
        }
        (None, _) => Err(NO_PARTITION.to_owned()),
        _ => Err("partitions share it, or lie in each other".to_owned()),
    })
}

async fn all_partitions(sides: &Sides, survey: &Survey, at: usize) -> Result<Vec<(Location, PartitionName)>> {
    let name = &survey.tables[at].source;
    let tables = sides.source.tables(&name.database(), std::slice::from_ref(&name.table)).await.map_err(failure)?.found;
    let Some(table) = tables.first() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let names = sides.source.partition_names(name).await.map_err(failure)?;
    for names in names.chunks(CHUNK) {
        for (name, location) in super::locations(sides.source.as_ref(), table, names.to_vec()).await? {
            found.extend(Location::parse(&location).ok().map(|location| (location, PartitionName(name))));
        }
    }
    Ok(found)
}

/// A folder beside that of the table, in which no table's listing looks.
fn fresh(sides: &Sides, survey: &Survey, unit: Unit, places: &mut Places, published: &mut Published, tag: &str) {
    let map = &sides.policy.locations;
    let table = &survey.tables[unit.at];
    let name = unit.from.normal();
    let again = published.fresh.contains_key(&name);
    let inside =
        table.location.as_ref().filter(|home| home.relative(&unit.from).is_some_and(|inner| !inner.is_empty()));
    let base = map.map_by_pairs(inside.unwrap_or(&unit.from));
    let (Some(stands), Some(base)) = (places.present(map, &unit.from), base) else { return };
    if let Some(begun) = places.pending.get_mut(&name).filter(|_| !again)
        && begun.partition == unit.partition.as_ref().map(|name| name.0.clone())
    {
        // It may have another name since.
        (begun.database, begun.table) = (table.target.database.clone(), table.target.table.clone());
        published.fresh.insert(name, stands);
        return;
    }
    let (Some(parent), Some(last)) = (base.parent(), base.name()) else { return };
    // What was begun and does not fit any more goes.
    if let Some(begun) = places.pending.remove(&name) {
        places.retired.insert(begun.to, jiff::Timestamp::UNIX_EPOCH.to_string());
    }
    let mark = if again { format!("{tag}-again") } else { tag.to_owned() };
    let folder = parent.join(&[format!("{last}{MARK}{mark}")]);
    let inner = inside.and_then(|home| home.relative(&unit.from)).unwrap_or_default();
    let to = folder.join(inner).to_string();
    let partition = unit.partition.map(|name| name.0);
    let (database, target) = (table.target.database.clone(), table.target.table.clone());
    places.pending.insert(name.clone(), Switched { to, database, table: target, partition });
    published.fresh.insert(name, stands);
}
