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
    /// Folders that are not meant although they stand in one of the others, as these are written.
    except: Vec<Vec<u8>>,
    /// The job has been about other folders, too, and will be.
    keeps_others: bool,
}

impl Within {
    /// These folders, without a slash at the end, in any order; the empty key is the root.
    pub fn new(folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        let (folders, all) = outermost(folders);
        Self { folders, all, except: Vec::new(), keeps_others: false }
    }

    /// Without these, and what is in them; they win over the folders that they stand in.
    pub fn except(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        (self.except, _) = outermost(folders);
        self
    }

    /// For this once: what the last manifest says of other folders stays in it, else it is forgotten.
    pub fn for_once(mut self, for_once: bool) -> Self {
        self.keeps_others = for_once;
        self
    }

    /// Whether the manifest keeps what it says of other folders.
    pub fn keeps_others(&self) -> bool {
        self.keeps_others
    }

    /// Whether the key is one of the folders or stands in one.
    pub fn holds(&self, key: &ObjectKey) -> bool {
        // With its slash a folder itself sorts and compares like what is in it.
        let path = [key.as_bytes(), b"/"].concat();
        (self.all || stands_in(&self.folders, &path)) && !stands_in(&self.except, &path)
    }
}

/// The folders with a slash at the end, sorted, without those inside others; and whether the root was among them.
fn outermost(folders: impl IntoIterator<Item = ObjectKey>) -> (Vec<Vec<u8>>, bool) {
    let mut sorted: Vec<Vec<u8>> = Vec::new();
    let mut all = false;
    for folder in folders {
        all |= folder.as_bytes().is_empty();
        sorted.push([folder.as_bytes(), b"/"].concat());
    }
    sorted.sort_unstable();
    sorted.dedup_by(|inner, outer| inner.starts_with(outer));
    (sorted, all)
}

/// No folder is inside another: only the last one that is not behind the path can hold it.
fn stands_in(folders: &[Vec<u8>], path: &[u8]) -> bool {
    let after = folders.partition_point(|folder| folder.as_slice() <= path);
    after.checked_sub(1).is_some_and(|at| path.starts_with(&folders[at]))
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

    #[test]
    fn an_exception_wins_over_the_folder_that_it_stands_in() {
        let within = within(&["db/orders", "db/items"]).except([ObjectKey::from("db/orders/_delta_log")]);
        for (key, held) in [
            ("db/orders/a", true),
            ("db/orders/_delta_log", false),
            ("db/orders/_delta_log/0.json", false),
            ("db/orders/_delta_log2/x", true),
            ("db/items/_delta_log/0.json", true),
        ] {
            assert_eq!(within.holds(&ObjectKey::from(key)), held, "{key}");
        }
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
