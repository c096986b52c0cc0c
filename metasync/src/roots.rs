//! Which trees hold the data of tables, and which folders in them: one copy a tree, instead of one a table.
//!
//! Pure. The tables of a database nearly all stand in its folder, so that folder is one tree, listed once. What stands
//! elsewhere, tables as well as partitions, is in the tree of the pair of `[[locations]]` that maps it: there are as many trees
//! as databases and pairs, however many such folders there are, and a listing passes over what lies between them. The trees are
//! the same in every run, because a tree's name finds the state of its copies. A folder for which a longer pair holds goes
//! elsewhere, and is left out of the tree around it.

use crate::iceberg::Rewritten;
use crate::location::{Location, LocationMap};
use distcp::plan::live::folders_around;
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// In which order data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wave {
    /// All data but the next.
    Data,
    /// Metadata that names its places, and is rewritten; nobody reads it before the metastore names it.
    Rewritten,
    /// Logs that name data files: a reader of them must find those there.
    Log,
}

/// To what a folder belongs: indexes of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A table.
    Table(usize),
    /// A database's functions.
    Database(usize),
    /// Nothing any more: it is to be emptied.
    Removal,
}

/// A folder, or a single file, that belongs to a table or a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is at the source.
    pub location: Location,
    /// Whose.
    pub owner: Owner,
    /// When it goes.
    pub wave: Wave,
}

/// A tree that is copied by one job.
#[derive(Clone, Debug)]
pub struct Root {
    /// At the source.
    pub from: Location,
    /// On the target.
    pub to: Location,
    /// When it goes.
    pub wave: Wave,
    /// What of it is meant, with the owners; relative to the root.
    pub folders: BTreeMap<ObjectKey, Vec<Owner>>,
    /// What in these is not meant: it is mapped to another place, or goes in another wave.
    pub except: Vec<ObjectKey>,
    /// Of which of these folders only some of what they hold at the source is meant.
    pub narrowed: Narrowed,
    /// Folders of the target that others have taken the place of, and that go.
    pub retired: Vec<ObjectKey>,
    /// A run that died may have written here what no manifest names.
    pub half_done: bool,
    /// Of the folders to be emptied, those that were left some time ago.
    pub late: Vec<ObjectKey>,
}

/// Folders of transactional and Iceberg tables, and what of them counts; relative to a root.
#[derive(Clone, Debug, Default)]
pub struct Narrowed {
    /// The folders.
    pub folders: BTreeSet<ObjectKey>,
    /// Folders and files in them.
    pub shown: BTreeSet<ObjectKey>,
    /// Files that a version of a table names: all of them have to be there.
    pub named: Arc<BTreeMap<ObjectKey, Named>>,
}

/// A file that a version of a table names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The table: an index of the caller's.
    pub table: usize,
    /// What it is on the target, if that is not what it is.
    pub rewritten: Option<Rewritten>,
}

impl Narrowed {
    /// Whether a key stands in one of the folders.
    pub fn holds(&self, key: &ObjectKey) -> bool {
        !self.folders.is_empty() && itself_and_above(key).any(|folder| self.folders.contains(&folder))
    }
}

impl Root {
    /// The owners of the folders that hold this key, the innermost folder's first.
    pub fn owners<'a>(&'a self, key: &ObjectKey) -> impl Iterator<Item = Owner> + 'a {
        self.around(key).flat_map(|(_, owners)| owners).copied()
    }

    /// The folders that hold this key, with their owners, the innermost first.
    pub fn around<'a>(&'a self, key: &ObjectKey) -> impl Iterator<Item = (&'a ObjectKey, &'a Vec<Owner>)> + 'a {
        let above: Vec<ObjectKey> = itself_and_above(key).collect();
        above.into_iter().filter_map(|folder| self.folders.get_key_value(&folder))
    }
}

/// A key and the folders that it stands in, the innermost first, the root last.
fn itself_and_above(key: &ObjectKey) -> impl Iterator<Item = ObjectKey> {
    std::iter::once(key.clone()).chain(folders_around(key)).chain([ObjectKey::default()])
}

/// The trees for these folders. `bases` are the folders of databases. A folder that no pair maps is in none.
pub fn roots(bases: &[Location], folders: &[Folder], map: &LocationMap) -> Vec<Root> {
    let mut found: BTreeMap<(Wave, Location), Root> = BTreeMap::new();
    let pair = |place: &Location| map.pair(place).map(|(from, _)| from);
    let bases: BTreeMap<Vec<String>, &Location> = bases.iter().map(|base| (base.path(), base)).collect();
    for folder in folders {
        let Some(pair_of_it) = pair(&folder.location) else { continue };
        let around = std::iter::successors(Some(folder.location.path()), |path| {
            path.split_last().map(|(_, above)| above.to_vec()).filter(|above| !above.is_empty())
        });
        let base = around.filter_map(|path| bases.get(&path).copied()).find(|base| pair(base) == Some(pair_of_it));
        let from = base.unwrap_or(pair_of_it).clone();
        let (Some(to), Some(inner)) = (map.map_by_pairs(&from), from.relative(&folder.location).map(key)) else {
            continue;
        };
        let root = found.entry((folder.wave, from.clone())).or_insert_with(|| Root {
            from,
            to,
            wave: folder.wave,
            folders: BTreeMap::new(),
            except: Vec::new(),
            narrowed: Narrowed::default(),
            retired: Vec::new(),
            half_done: false,
            late: Vec::new(),
        });
        let owners = root.folders.entry(inner).or_default();
        if !owners.contains(&folder.owner) {
            owners.push(folder.owner);
        }
    }
    let apart: Vec<&Location> =
        folders.iter().filter(|folder| folder.wave != Wave::Data).map(|folder| &folder.location).collect();
    let mut roots: Vec<Root> = found.into_values().collect();
    for root in &mut roots {
        let inside = |place: &Location| root.from.relative(place).filter(|inner| !inner.is_empty()).map(key);
        let pair = map.pair(&root.from);
        let mapped = map.pairs().iter().filter(|other| Some(*other) != pair).filter_map(|(from, _)| inside(from));
        let later = apart.iter().filter(|_| root.wave == Wave::Data).filter_map(|log| inside(log));
        let except: Vec<ObjectKey> = mapped.chain(later).collect();
        root.except = except;
    }
    roots
}

/// The key of what these segments lead to.
pub fn key(segments: &[String]) -> ObjectKey {
    ObjectKey::from(segments.join("/").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str) -> Location {
        Location::parse(text).unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> LocationMap {
        LocationMap::new(pairs.iter().map(|(from, to)| (location(from), location(to))).collect()).unwrap()
    }

    fn folder(text: &str, owner: usize) -> Folder {
        Folder { location: location(text), owner: Owner::Table(owner), wave: Wave::Data }
    }

    fn number(owner: Owner) -> usize {
        let Owner::Table(at) = owner else { panic!("{owner:?}") };
        at
    }

    fn shown(roots: &[Root]) -> Vec<String> {
        let line = |root: &Root| {
            let numbers = |owners: &[Owner]| owners.iter().map(|owner| number(*owner)).collect::<Vec<_>>();
            let inner: Vec<_> =
                root.folders.iter().map(|(key, owners)| format!("{}:{:?}", key.escaped(), numbers(owners))).collect();
            let except: Vec<_> = root.except.iter().map(|key| format!("-{}", key.escaped())).collect();
            format!("{} -> {} [{}] {}", root.from, root.to, inner.join(" "), except.join(" ")).trim_end().to_owned()
        };
        roots.iter().map(line).collect()
    }

    #[test]
    fn there_is_a_tree_for_each_database_and_one_for_what_else_a_pair_maps() {
        let map = map(&[("s3://eu/w", "s3://us/w"), ("s3://eu/lake", "s3://us/lake")]);
        let bases = [location("s3://eu/w/sales.db"), location("s3://eu/w")];
        let folders = [
            folder("s3a://eu/w/sales.db/orders", 0),
            folder("s3://eu/w/sales.db/items", 1),
            folder("s3://eu/lake/x/p=1", 1),
            folder("s3://eu/lake/x", 2),
            folder("s3://eu/lake/y/p=2", 1),
            folder("s3a://eu/lake/z", 5),
            folder("s3://eu/w/loose", 3),
            folder("s3://elsewhere/y", 4),
        ];
        assert_eq!(
            shown(&roots(&bases, &folders, &map)),
            [
                "s3://eu/lake -> s3://us/lake [x:[2] x/p=1:[1] y/p=2:[1] z:[5]]",
                "s3://eu/w -> s3://us/w [loose:[3]]",
                "s3://eu/w/sales.db -> s3://us/w/sales.db [items:[1] orders:[0]]",
            ]
        );
    }

    #[test]
    fn what_a_longer_pair_maps_goes_elsewhere_and_is_left_out_of_the_tree_around_it() {
        let map = map(&[("/w", "/a"), ("/w/db/t/p=1", "/b")]);
        let folders = [folder("/w/db/t", 0), folder("/w/db/t/p=1", 0)];
        assert_eq!(
            shown(&roots(&[location("/w/db")], &folders, &map)),
            ["/w/db -> file:/a/db [t:[0]] -t/p%3D1".replace("%3D", "="), "/w/db/t/p=1 -> file:/b [:[0]]".to_owned()]
        );
    }

    #[test]
    fn a_log_goes_after_the_data_that_it_names() {
        let map = map(&[("/w", "/a")]);
        let log = Folder { wave: Wave::Log, ..folder("/w/db/t/_delta_log", 0) };
        let roots = roots(&[location("/w/db")], &[log, folder("/w/db/t", 0)], &map);
        assert_eq!(
            shown(&roots),
            ["/w/db -> file:/a/db [t:[0]] -t/_delta_log", "/w/db -> file:/a/db [t/_delta_log:[0]]"]
        );
        assert_eq!(roots.iter().map(|root| root.wave).collect::<Vec<_>>(), [Wave::Data, Wave::Log]);
    }

    #[test]
    fn a_key_belongs_to_every_folder_around_it() {
        let map = map(&[("/w", "/a")]);
        let roots = roots(&[location("/w")], &[folder("/w/t", 0), folder("/w/t/p=1", 1)], &map);
        let owners = |key: &str| roots[0].owners(&ObjectKey::from(key)).map(number).collect::<Vec<_>>();
        assert_eq!(owners("t/p=1/f"), [1, 0]);
        assert_eq!(owners("t/p=2/f"), [0]);
        assert_eq!(owners("t2/f"), [] as [usize; 0]);
    }
}
