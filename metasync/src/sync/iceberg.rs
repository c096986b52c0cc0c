//! Iceberg tables in a run: which files the version names that the source's metastore names, and what its metadata is on the
//! target.
//!
//! The version is pinned by the `metadata_location` of the snapshot in which the source's metastore is read. From there everything
//! is read that leads to data files: `metadata.json`, manifest lists, manifests; none of these is ever written twice. What they name is
//! all that counts of the table's folder, on both sides.
//!
//! The order of a run is: data files, and beside them the rewritten metadata, under the names that it has at the source; nobody
//! reads any of these before a metastore names them. Once all are there, the transaction of the target's metastore moves
//! `metadata_location`; then what the new version does not name is removed. So a kill before the transaction leaves the
//! last version as it was, with files that no version names; one after it leaves the new version, with files too many. The next
//! run goes on with both. A file that a version names and that is not there when it is looked for has been expired meanwhile: the source is looked
//! at again, and where that does not help the table keeps its last version. Reads only; a crash leaves nothing.

use super::data::{self, Trust};
use super::survey::Survey;
use super::{Metastores, Setting, failure};
use crate::carry;
use crate::iceberg::{self, Kind, MAX_DATA_FILES, MAX_MANIFESTS, Rewritten};
use crate::location::{Location, LocationMap};
use crate::metastore::{CHUNK, Metastore as _};
use crate::model::TableName;
use crate::roots::{Named, Owner, Root, Wave};
use distcp::error::{Failure, Result};
use distcp::store::{Store, StoreErrorKind};
use futures::{StreamExt as _, TryStreamExt as _};
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Files of metadata that are read and rewritten at once; each is in memory.
const FILES_AT_ONCE: usize = 4;

/// Why a table is not carried.
enum Why {
    /// A file is not there.
    Gone(Location),
    /// In words.
    Odd(String),
    /// A store failed: the run does.
    Failed(Failure),
}

impl From<String> for Why {
    fn from(why: String) -> Self {
        Self::Odd(why)
    }
}

/// Finds the files of Iceberg tables, and narrows the trees to them. Whether the source has to be looked at again: a table got
/// another version while it was looked at; of these the quarantine says so.
pub(super) async fn choose(setting: &Setting, stores: &Metastores, survey: &mut Survey) -> Result<bool> {
    let map = &setting.policy.locations;
    let is_meant =
        |survey: &Survey, at: usize| survey.tables[at].iceberg.is_some() && survey.tables[at].quarantine.is_none();
    if !(0..survey.tables.len()).any(|at| is_meant(survey, at)) {
        return Ok(false);
    }
    for (at, other) in claimed(stores, survey, map).await? {
        let why =
            format!("it is an Iceberg table: {other} of the target has its files in the same folder, or around it");
        survey.tables[at].quarantine = Some(why);
    }
    let all = survey.roots(map);
    let mut moved = false;
    for root in all.iter().filter(|root| root.wave == Wave::Rewritten) {
        let Some(tree) = data::open(setting, survey, vec![root.clone()], Trust::default())?.pop() else { continue };
        for (folder, owners) in &root.folders {
            for owner in owners {
                let Owner::Table(at) = *owner else { continue };
                if !is_meant(survey, at) {
                    continue;
                }
                let found = match setting.policy.options.data {
                    true => look(&tree.job.source.store, (root, folder), &all, survey, at, map).await,
                    false => Err("without `data` nobody rewrites what its metadata names".to_owned().into()),
                };
                match found {
                    Ok(version) => narrow(survey, version, root, folder, at),
                    Err(Why::Odd(why)) => survey.tables[at].quarantine = Some(format!("it is an Iceberg table: {why}")),
                    Err(Why::Gone(file)) => moved |= gone(stores, survey, at, &file).await?,
                    Err(Why::Failed(failure)) => return Err(failure),
                }
            }
        }
    }
    Ok(moved)
}

/// Iceberg tables in whose folder on the target another table stands, or that stand in another's: of this policy or not, asked for
/// in this run or not. What no version names is removed there (rule 28).
async fn claimed(stores: &Metastores, survey: &Survey, map: &LocationMap) -> Result<BTreeMap<usize, TableName>> {
    let (mut homes, mut above): (Folders, Folders) = Default::default();
    for (at, table) in survey.tables.iter().enumerate().filter(|(_, table)| table.iceberg.is_some()) {
        let home = table.location.as_ref().and_then(|home| map.map(home));
        for (depth, place) in std::iter::successors(home, Location::parent).enumerate() {
            let folders = if depth == 0 { &mut homes } else { &mut above };
            folders.entry(place.normal()).or_default().push(at);
        }
    }
    let gone: BTreeSet<&TableName> = survey.drops.iter().map(|drop| &drop.target).collect();
    let target = stores.target.snapshot().await.map_err(failure)?;
    let mut claimed = BTreeMap::new();
    for database in target.databases().await.map_err(failure)? {
        let names = target.table_names(&database.name).await.map_err(failure)?;
        for names in names.chunks(CHUNK) {
            let tables = target.tables(&database.name, names).await.map_err(failure)?;
            for table in tables.found.into_iter().filter(|table| !gone.contains(&table.name)) {
                let place = table.storage.location.as_deref().and_then(|text| Location::parse(text).ok());
                let inside = place.iter().filter_map(|place| above.get(&place.normal()));
                let around = std::iter::successors(place.clone(), Location::parent);
                let around = around.filter_map(|place| homes.get(&place.normal()));
                for at in inside.chain(around).flatten().filter(|at| survey.tables[**at].target != table.name) {
                    claimed.entry(*at).or_insert_with(|| table.name.clone());
                }
            }
        }
    }
    Ok(claimed)
}

/// Tables by a folder.
type Folders = HashMap<String, Vec<usize>>;

/// A version that is looked at names a file that is not there. Whether the table has another one by now.
async fn gone(stores: &Metastores, survey: &mut Survey, at: usize, file: &Location) -> Result<bool> {
    let table = &mut survey.tables[at];
    let now = stores.source.snapshot().await.map_err(failure)?;
    let names = [table.source.table.clone()];
    let now = now.tables(&table.source.database(), &names).await.map_err(failure)?.found.pop();
    let now = now.and_then(|now| carry::iceberg_metadata(&now));
    let moved = now != table.iceberg;
    table.quarantine = Some(match moved {
        true => {
            "it is an Iceberg table: it got another version while it was looked at; the next run looks again".to_owned()
        }
        false => format!("it is an Iceberg table: {file} is named by its version and is not there"),
    });
    Ok(moved)
}

/// Of what a table's folders hold only what the version names counts.
fn narrow(survey: &mut Survey, version: Version, root: &Root, folder: &ObjectKey, at: usize) {
    let Version { home, metadata, data } = version;
    let parts = [(Wave::Rewritten, root.from.clone(), folder.clone(), metadata), (Wave::Data, home.0, home.1, data)];
    for (wave, from, folder, files) in parts {
        let narrowed = survey.narrowed.entry((wave, from)).or_default();
        narrowed.folders.insert(folder);
        narrowed.shown.extend(files.keys().cloned());
        let named = files.into_iter().map(|(key, rewritten)| (key, Named { table: at, rewritten }));
        Arc::make_mut(&mut narrowed.named).extend(named);
    }
}

/// Files of a version, by their keys in their trees.
type Files = BTreeMap<ObjectKey, Option<Rewritten>>;

struct Version {
    /// The tree of the table's folder, and its key there.
    home: (Location, ObjectKey),
    metadata: Files,
    data: Files,
}

/// Where files of a table are.
struct Places<'a> {
    map: &'a LocationMap,
    /// The table's folder, and the tree that it is in.
    table: &'a Location,
    home: &'a Root,
    /// The folder of its metadata.
    folder: Location,
    root: &'a Root,
}

impl Places<'_> {
    /// The key of a file in the folder of metadata.
    fn metadata(&self, path: &str) -> Result<(Location, ObjectKey), String> {
        let place = Location::parse(path)?;
        match self.folder.relative(&place).is_some_and(|inner| !inner.is_empty()) {
            true => key(&self.root.from, &place).map(|key| (place, key)),
            false => Err(format!("{path} is not in the folder of its metadata, {}", self.folder)),
        }
    }

    /// The key of a data file.
    fn data(&self, path: &str) -> Result<ObjectKey, String> {
        let place = Location::parse(path)?;
        let is_inside = self.table.relative(&place).is_some_and(|inner| !inner.is_empty());
        if !is_inside || self.folder.relative(&place).is_some() {
            return Err(format!("the data file {path} is not in its folder {}, or among its metadata", self.table));
        }
        if self.map.pair(&place) != self.map.pair(self.table) {
            return Err(format!("the data file {path} goes elsewhere than its table"));
        }
        key(&self.home.from, &place)
    }
}

fn key(root: &Location, place: &Location) -> Result<ObjectKey, String> {
    let inner = root.relative(place).ok_or_else(|| format!("{place} is in no tree"))?;
    Ok(ObjectKey::from(inner.join("/").as_str()))
}

async fn look(
    store: &Arc<dyn Store>,
    (root, folder): (&Root, &ObjectKey),
    all: &[Root],
    survey: &Survey,
    at: usize,
    map: &LocationMap,
) -> Result<Version, Why> {
    let table = &survey.tables[at];
    let (Some(own), Some(file)) = (&table.location, &table.iceberg) else {
        return Err("it has no location".to_owned().into());
    };
    let is_home = |root: &&Root| {
        let key = key(&root.from, own).ok().filter(|_| root.wave == Wave::Data);
        key.is_some_and(|key| root.folders.get(&key).is_some_and(|owners| owners.contains(&Owner::Table(at))))
    };
    let home = all.iter().find(is_home).ok_or_else(|| format!("{own} is in no [[locations]] of the policy"))?;
    let home_key = key(&home.from, own)?;
    alone(home, &home_key, at)?;
    let places = Places { map, table: own, home, folder: root.from.below(&folder.escaped()), root };
    let (mut metadata, mut data) = (Files::new(), Files::new());
    let (place, of_file) = places.metadata(&file.to_string())?;
    let current = read(store, &place, &of_file).await?;
    let found = iceberg::metadata(&current, map).map_err(|why| format!("{file}: {why}"))?;
    let is_same_place = Location::parse(&found.location).is_ok_and(|location| location.is_same(own));
    if !is_same_place {
        return Err(format!("{file} calls its location {}, and its metastore {own}", found.location).into());
    }
    metadata.insert(of_file, Some(Kind::Metadata.of(&found.rewritten)));
    for path in &found.statistics {
        metadata.insert(places.metadata(path)?.1, None);
    }
    // Lists are read once for what they name, and once more when the lengths of that are known.
    let lists: BTreeSet<String> = found.lists.into_iter().collect();
    let named = each(store, &places, &lists, |file| iceberg::manifest_list(file, map, None).map(|list| list.manifests));
    let mut manifests: BTreeMap<String, Option<u64>> = found.manifests.into_iter().map(|path| (path, None)).collect();
    for (_, _, list) in named.await? {
        manifests.extend(list.into_iter().map(|one| (one.path, Some(one.length))));
        if manifests.len() > MAX_MANIFESTS {
            return Err(format!("it keeps more than {MAX_MANIFESTS} manifests; expire its snapshots").into());
        }
    }
    let paths: BTreeSet<String> = manifests.keys().cloned().collect();
    let mut lengths = BTreeMap::new();
    let rewritten = each(store, &places, &paths, |file| {
        let manifest = iceberg::manifest(file, map)?;
        let keys: Result<Vec<ObjectKey>, String> = manifest.files.iter().map(|path| places.data(path)).collect();
        Ok((file.len() as u64, Kind::Manifest.of(&manifest.rewritten), keys?))
    });
    for (path, key, (length, manifest, files)) in rewritten.await? {
        if manifests.get(&path).is_some_and(|stated| stated.is_some_and(|stated| stated != length)) {
            return Err(format!("{path} has {length} bytes, and its list says otherwise").into());
        }
        lengths.insert(path, manifest.size_bytes);
        metadata.insert(key, Some(manifest));
        data.extend(files.into_iter().map(|key| (key, None)));
        if data.len() > MAX_DATA_FILES {
            return Err(format!("its versions name more than {MAX_DATA_FILES} data files; expire its snapshots").into());
        }
    }
    let lengths = Arc::new(lengths);
    let rewritten = each(store, &places, &lists, |file| {
        let list = iceberg::manifest_list(file, map, Some(&lengths))?;
        Ok(Kind::List(lengths.clone()).of(&list.rewritten))
    });
    metadata.extend(rewritten.await?.into_iter().map(|(_, key, list)| (key, Some(list))));
    // Versions before this one: a reader needs none of them, and some may be gone, or stand elsewhere.
    for path in &found.log {
        let Ok((place, key)) = places.metadata(path) else { continue };
        let before = match read(store, &place, &key).await {
            Ok(before) => iceberg::metadata(&before, map).map_err(|why| format!("{path}: {why}"))?,
            Err(Why::Gone(_)) => continue,
            Err(why) => return Err(why),
        };
        metadata.entry(key).or_insert(Some(Kind::Metadata.of(&before.rewritten)));
    }
    Ok(Version { home: (home.from.clone(), home_key), metadata, data })
}

/// A folder that others are in, too: nobody can say of a file that no version names whose it is.
fn alone(home: &Root, folder: &ObjectKey, at: usize) -> Result<(), String> {
    let is_other =
        |owner: &Owner| matches!(owner, Owner::Table(other) if *other != at) || matches!(owner, Owner::Database(_));
    let around = home.around(folder).any(|(_, owners)| owners.iter().any(is_other));
    let inside = home.folders.iter().any(|(key, owners)| key.is_within(folder) && owners.iter().any(is_other));
    match around || inside {
        true => Err("its folder is inside another table's, or another table is in it".to_owned()),
        false => Ok(()),
    }
}

async fn read(store: &Arc<dyn Store>, place: &Location, key: &ObjectKey) -> Result<bytes::Bytes, Why> {
    match data::whole(store.as_ref(), key).await {
        Ok((_, file)) => Ok(file),
        Err(error) if error.kind == StoreErrorKind::NotFound => Err(Why::Gone(place.clone())),
        Err(error) if error.kind == StoreErrorKind::Corrupt => Err(Why::Odd(format!("{place}: {}", error.reason()))),
        Err(error) => Err(Why::Failed(error.into())),
    }
}

/// Reads these files of metadata and takes them; with their keys.
async fn each<T: Send>(
    store: &Arc<dyn Store>,
    places: &Places<'_>,
    paths: &BTreeSet<String>,
    take: impl Fn(&[u8]) -> Result<T, String> + Sync,
) -> Result<Vec<(String, ObjectKey, T)>, Why> {
    let take = &take;
    let one = |path: &String| {
        let path = path.clone();
        async move {
            let (place, key) = places.metadata(&path)?;
            let file = read(store, &place, &key).await?;
            let taken = take(&file).map_err(|why| format!("{path}: {why}"))?;
            Ok::<_, Why>((path, key, taken))
        }
    };
    let files: Vec<_> = paths.iter().map(one).collect();
    futures::stream::iter(files).buffer_unordered(FILES_AT_ONCE).try_collect().await
}
