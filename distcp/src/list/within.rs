//! The part of a tree that a job is about, as folders: everything else in it is as if it were not there, on both sides.
//!
//! Pure. For programs that embed a copy and know which folders are theirs, such as those of some tables in a warehouse that
//! others share: one flat listing of what the folders have in common, instead of one for each of them.

use manifest::ObjectKey;

/// Folders, each with all that is in it. Keys and folders are relative to the root of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Within {
    /// With a slash at the end; sorted, none inside another.
    folders: Vec<Vec<u8>>,
    /// The root itself is among them.
    all: bool,
}

impl Within {
    /// These folders, without a slash at the end, in any order; the empty key is the root.
    pub fn new(folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        let mut sorted: Vec<Vec<u8>> = Vec::new();
        let mut all = false;
        for folder in folders {
            all |= folder.as_bytes().is_empty();
            sorted.push([folder.as_bytes(), b"/"].concat());
        }
        sorted.sort_unstable();
        sorted.dedup_by(|inner, outer| inner.starts_with(outer));
        Self { folders: sorted, all }
    }

    /// Whether the key is one of the folders or stands in one.
    pub fn holds(&self, key: &ObjectKey) -> bool {
        // With its slash a folder itself sorts and compares like what is in it.
        let path = [key.as_bytes(), b"/"].concat();
        // No folder is inside another: only the last one that is not behind the key can hold it.
        let after = self.folders.partition_point(|folder| *folder <= path);
        self.all || after.checked_sub(1).is_some_and(|at| path.starts_with(&self.folders[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn within(folders: &[&str]) -> Within {
        Within::new(folders.iter().map(|folder| ObjectKey::from(*folder)))
    }

    #[test]
    fn a_folder_holds_itself_and_what_is_in_it_and_no_neighbour() {
        let within = within(&["db/orders", "db/items", "db/items/old"]);
        for inside in ["db/orders", "db/orders/a", "db/orders/", "db/items/old/x", "db/items/p=1/f"] {
            assert!(within.holds(&ObjectKey::from(inside)), "{inside}");
        }
        for outside in ["db", "db/orders-2/a", "db/orders2", "db/item", "db/orders!", "x"] {
            assert!(!within.holds(&ObjectKey::from(outside)), "{outside}");
        }
        assert!(Within::new([ObjectKey::default()]).holds(&ObjectKey::from("anything")));
        assert!(!Within::default().holds(&ObjectKey::from("anything")));
    }

    proptest! {
        #[test]
        fn it_is_what_asking_every_folder_says(
            folders in prop::collection::vec("[ab/!]{1,5}", 0..6),
            keys in prop::collection::vec("[ab/!]{1,7}", 1..20),
        ) {
            let folders: Vec<String> = folders.iter().map(|f| f.trim_end_matches('/').to_owned()).filter(|f| !f.is_empty()).collect();
            let within = Within::new(folders.iter().map(|folder| ObjectKey::from(folder.as_str())));
            for key in keys {
                let naive = folders.iter().any(|folder| key == *folder || key.starts_with(&format!("{folder}/")));
                prop_assert_eq!(within.holds(&ObjectKey::from(key.as_str())), naive, "{} in {:?}", key, folders);
            }
        }
    }
}
