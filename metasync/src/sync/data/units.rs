//! Which folder of a tree a file of a table counts for: its partition's, wherever that stands, or the table's. Pure.
//!
//! A partition mostly stands where its name leads from the table's folder; those that do not are known by their folders.

use crate::location::Location;
use crate::model::PartitionName;
use crate::roots::{self, Owner, Root};
use crate::sync::survey::{Survey, TableWork};
use distcp::plan::live::folders_around;
use manifest::ObjectKey;
use std::collections::{BTreeMap, HashMap};

/// The tables of a tree, by their place in the survey.
#[derive(Default)]
pub(super) struct Units(BTreeMap<usize, Folders>);

/// The folders of a table, relative to the tree.
#[derive(Default)]
struct Folders {
    /// The table's own ones, with how many names of folders below lead to a partition; and those that stand elsewhere, with 0.
    homes: HashMap<ObjectKey, usize>,
    /// Those of partitions that stand where their names do not lead.
    displaced: HashMap<ObjectKey, Vec<PartitionName>>,
    /// The same by name; `None` for one in another tree.
    places: BTreeMap<PartitionName, Option<ObjectKey>>,
}

/// Whose folder one is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// All of the table.
    Table,
    /// Partitions that the metastore has there.
    Partitions(Vec<PartitionName>),
    /// A partition of this name, if there is one.
    Named(PartitionName),
    /// No partition's: the one of its name stands elsewhere.
    Nobody,
}

impl Units {
    /// Those of a tree.
    pub fn of(root: &Root, survey: &Survey) -> Self {
        let mut units = Self::default();
        for (key, owners) in &root.folders {
            for owner in owners {
                let Owner::Table(at) = owner else { continue };
                // What the files of an Iceberg table are its version says, none included.
                let Some(table) = survey.tables.get(*at).filter(|table| table.iceberg.is_none()) else { continue };
                let place = root.from.below(&key.escaped());
                // Below a folder of its own a partition has no further ones.
                let is_home = table.location.as_ref().is_some_and(|home| home.is_same(&place));
                units.0.entry(*at).or_default().homes.insert(key.clone(), if is_home { table.keys } else { 0 });
            }
        }
        for (at, folders) in &mut units.0 {
            if let Some(table) = survey.tables.get(*at) {
                folders.displace(root, table);
            }
        }
        units
    }

    /// The folder that a file of a table counts for; `None` for one beside the folders of partitions.
    pub fn around(&self, at: usize, key: &ObjectKey) -> Option<ObjectKey> {
        self.0.get(&at)?.around(key)
    }

    /// Whose a folder is that a file counts for.
    pub fn holder(&self, at: usize, folder: &ObjectKey) -> Holder {
        self.0.get(&at).map_or(Holder::Table, |folders| folders.holder(folder))
    }

    /// The folder in this tree of a table, or of a partition of it.
    pub fn folder(
        &self,
        root: &Root,
        table: &TableWork,
        at: usize,
        partition: Option<&PartitionName>,
    ) -> Option<ObjectKey> {
        let folders = self.0.get(&at)?;
        let key = match (partition.and_then(|name| folders.places.get(name)), partition) {
            (Some(displaced), _) => displaced.clone()?,
            (None, Some(name)) => relative(root, &table.location.as_ref()?.below(&name.0))?,
            (None, None) => relative(root, table.location.as_ref()?)?,
        };
        // What another tree holds is that one's.
        let holds = |folder: &ObjectKey| folders.homes.contains_key(folder);
        (holds(&key) || holds(&ObjectKey::default()) || folders_around(&key).any(|folder| holds(&folder)))
            .then_some(key)
    }
}

fn relative(root: &Root, place: &Location) -> Option<ObjectKey> {
    root.from.relative(place).map(roots::key)
}

impl Folders {
    fn displace(&mut self, root: &Root, table: &TableWork) {
        for (place, name) in &table.displaced {
            let key = relative(root, place);
            if let Some(key) = key.clone() {
                self.displaced.entry(key).or_default().push(name.clone());
            }
            self.places.insert(name.clone(), key);
        }
    }

    fn around(&self, key: &ObjectKey) -> Option<ObjectKey> {
        for folder in folders_around(key).chain([ObjectKey::default()]) {
            let keys = self.homes.get(&folder).copied();
            if let Some(unit) = keys.and_then(|keys| below(&folder, keys, key)) {
                return Some(unit);
            }
            if self.displaced.contains_key(&folder) {
                return Some(folder);
            }
            if keys.is_some() {
                return None;
            }
        }
        None
    }

    fn holder(&self, folder: &ObjectKey) -> Holder {
        if let Some(names) = self.displaced.get(folder) {
            return Holder::Partitions(names.clone());
        }
        if self.homes.contains_key(folder) {
            return Holder::Table;
        }
        let home = folders_around(folder).chain([ObjectKey::default()]).find(|home| self.homes.contains_key(home));
        let Some(home) = home else { return Holder::Table };
        let name = PartitionName(String::from_utf8_lossy(&folder.as_bytes()[inside(&home)..]).into_owned());
        if self.places.contains_key(&name) { Holder::Nobody } else { Holder::Named(name) }
    }
}

/// How many bytes of a key lead into a folder.
fn inside(folder: &ObjectKey) -> usize {
    if folder.is_empty() { 0 } else { folder.as_bytes().len() + 1 }
}

/// The folder around a key that so many names lead to from here; `None` if the key is not as deep.
fn below(home: &ObjectKey, keys: usize, key: &ObjectKey) -> Option<ObjectKey> {
    if keys == 0 {
        return Some(home.clone());
    }
    let skip = inside(home);
    let inner = key.as_bytes().get(skip..)?;
    let (last, _) = inner.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(keys - 1)?;
    Some(ObjectKey::from(key.as_bytes()[..skip + last].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(homes: &[(&str, usize)], displaced: &[(&str, &str)]) -> Folders {
        let mut folders = Folders::default();
        folders.homes.extend(homes.iter().map(|(home, keys)| (ObjectKey::from(*home), *keys)));
        for (folder, name) in displaced {
            folders.displaced.entry(ObjectKey::from(*folder)).or_default().push(PartitionName((*name).to_owned()));
            folders.places.insert(PartitionName((*name).to_owned()), Some(ObjectKey::from(*folder)));
        }
        folders
    }

    fn around(homes: &[(&str, usize)], displaced: &[(&str, &str)], key: &str) -> Option<String> {
        let unit = folders(homes, displaced).around(&ObjectKey::from(key));
        unit.map(|folder| folder.escaped().to_string())
    }

    #[test]
    fn a_file_counts_for_its_partition_or_its_table() {
        assert_eq!(around(&[("t", 0)], &[], "t/a/f").as_deref(), Some("t"));
        assert_eq!(around(&[("t", 2)], &[], "t/y=1/m=2/f").as_deref(), Some("t/y=1/m=2"));
        assert_eq!(around(&[("t", 2)], &[], "t/y=1/m=2/deep/f").as_deref(), Some("t/y=1/m=2"));
        assert_eq!(around(&[("t", 2)], &[], "t/y=1/f"), None);
        assert_eq!(around(&[("t", 1)], &[], "t/_SUCCESS"), None);
        assert_eq!(around(&[("", 1)], &[], "p=1/f").as_deref(), Some("p=1"));
        assert_eq!(around(&[("t", 1)], &[], "u/p=1/f"), None);
        assert_eq!(around(&[("t/schema.avsc", 1)], &[], "t/schema.avsc"), None);
    }

    #[test]
    fn a_file_counts_for_the_partition_that_stands_around_it_whatever_its_folder_is_called() {
        let odd = [("t/2026/01", "month=2026-01"), ("t/Year=2", "year=2"), ("x", "month=9"), ("t", "month=all")];
        let around = |key: &str| around(&[("t", 1), ("x", 0)], &odd, key);
        assert_eq!(around("t/2026/01/f").as_deref(), Some("t/2026/01"));
        assert_eq!(around("t/2026/02/f").as_deref(), Some("t/2026"), "nobody's");
        assert_eq!(around("t/Year=2/f").as_deref(), Some("t/Year=2"));
        assert_eq!(around("x/f").as_deref(), Some("x"));
        assert_eq!(around("t/f").as_deref(), Some("t"));
        let folders = folders(&[("t", 1), ("x", 0)], &odd);
        let holder = |folder: &str| folders.holder(&ObjectKey::from(folder));
        let name = |name: &str| PartitionName(name.to_owned());
        assert_eq!(holder("t/2026/01"), Holder::Partitions(vec![name("month=2026-01")]));
        assert_eq!(holder("t/month=3"), Holder::Named(name("month=3")));
        assert_eq!(holder("t/year=2"), Holder::Nobody, "it stands in a folder of another name");
        assert_eq!(holder("x"), Holder::Partitions(vec![name("month=9")]));
        assert_eq!(super::Folders::default().holder(&ObjectKey::from("t")), Holder::Table);
    }
}
