//! The part of a tree that a job is about, as folders: everything else in it is as if it were not there, on both sides.
//!
//! Pure. For programs that embed a copy and know which folders are theirs, such as those of some tables in a warehouse that
//! others share: one flat listing of what the folders have in common, instead of one for each of them.

use manifest::ObjectKey;

use super::Side;
use super::cover::Cover;

/// Folders, each with all that is in it. Keys and folders are relative to the root of the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Within {
    /// As paths ([`path`]); sorted, none inside another.
    folders: Vec<Vec<u8>>,
    /// Folders that are not meant although they stand in one of the others, as these are written.
    except: Vec<Vec<u8>>,
    /// Folders that are meant although they stand in an exception, as these are written.
    again: Vec<Vec<u8>>,
    /// What the last manifest says of other keys stays in the next.
    keeps_others: bool,
    /// Folders that hold nothing at the source, whatever stands there; as these are written.
    emptied: Vec<Vec<u8>>,
    /// Of these, folders of which the last manifest may not say what is whose; as these are written.
    unsure: Vec<Vec<u8>>,
    /// Of these, folders that were left some time ago: others may have come since; as these are written.
    late: Vec<Vec<u8>>,
    /// Folders of which the source holds only what is shown, whatever else stands there; as these are written.
    narrowed: Vec<Vec<u8>>,
    /// What of those is shown, with all that is in it: folders and single keys; as these are written.
    shown: Vec<Vec<u8>>,
    /// Of these, folders that others have taken the place of.
    retired: Vec<Vec<u8>>,
    /// Stretches of keys, from the first to before the second, that are not meant; sorted, none overlaps another.
    gaps: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Within {
    /// These folders, without a slash at the end, in any order; the empty key is the root.
    pub fn new(folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        Self { folders: outermost(folders), ..Self::default() }
    }

    /// Without these, and what is in them; they win over the folders that they stand in.
    pub fn except(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        self.except = outermost(folders);
        self
    }

    /// With these all the same; they win over the exceptions that they stand in.
    pub fn again(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        self.again = outermost(folders);
        self
    }

    /// Without the keys from the first of each pair to before its second; they win over the folders that they stand in.
    pub fn without(mut self, stretches: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut sorted: Vec<_> = self.gaps.into_iter().chain(stretches).filter(|(from, to)| from < to).collect();
        sorted.sort_unstable();
        self.gaps = Vec::with_capacity(sorted.len());
        for (from, to) in sorted {
            match self.gaps.last_mut().filter(|(_, end)| *end >= from) {
                Some((_, end)) => *end = to.max(std::mem::take(end)),
                None => self.gaps.push((from, to)),
            }
        }
        self
    }

    /// These count as empty at the source, whatever still stands there: what they hold on the target is deleted.
    pub fn emptied(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        self.emptied = outermost(folders);
        self
    }

    /// Of these the last manifest may not say what is whose: a run that died wrote there.
    pub fn unsure(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        self.unsure = outermost(folders);
        self
    }

    /// These were left some time ago: what is not known to be ours is not.
    pub fn late(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        self.late = outermost(folders);
        self
    }

    /// Of what is in these folders only what is `shown` counts at the source: folders, and single keys. What else they hold on
    /// the target is deleted. The folders themselves, and those above what is shown, count as they are.
    pub fn narrowed(
        mut self,
        folders: impl IntoIterator<Item = ObjectKey>,
        shown: impl IntoIterator<Item = ObjectKey>,
    ) -> Self {
        self.narrowed = outermost(folders);
        self.shown = outermost(shown);
        self
    }

    /// The same, of folders that others have taken the place of: no guard counts what is deleted there.
    pub fn retired(mut self, folders: impl IntoIterator<Item = ObjectKey>) -> Self {
        self.retired = outermost(folders);
        self
    }

    /// Whether the key is in one of the folders that others have taken the place of.
    pub fn retires(&self, key: &ObjectKey) -> bool {
        !self.retired.is_empty() && stands_in(&self.retired, &path(key))
    }

    /// The folders that others have taken the place of, none inside another.
    pub fn all_retired(&self) -> impl Iterator<Item = ObjectKey> {
        self.retired.iter().map(|folder| as_key(folder))
    }

    /// Whether the key is in one of the folders that count as empty at the source and have no successor.
    pub fn gives_up(&self, key: &ObjectKey) -> bool {
        let path = path(key);
        !self.emptied.is_empty() && stands_in(&self.emptied, &path) && !self.retires(key)
    }

    /// Whether the last manifest may not say what is whose there.
    pub fn is_unsure(&self, key: &ObjectKey) -> bool {
        stands_in(&self.unsure, &path(key))
    }

    /// Whether the key is in a folder that was left some time ago.
    pub fn is_late(&self, key: &ObjectKey) -> bool {
        !self.late.is_empty() && stands_in(&self.late, &path(key))
    }

    /// The folders that count as empty at the source and have no successor, none inside another.
    pub fn given_up(&self) -> impl Iterator<Item = ObjectKey> {
        self.emptied.iter().map(|folder| as_key(folder)).filter(|folder| self.gives_up(folder))
    }

    /// Whether all of them count as empty at the source: what that holds is of no matter.
    pub fn empties_all(&self) -> bool {
        let mut all = self.folders.iter().chain(&self.again);
        !self.folders.is_empty() && all.all(|folder| stands_in(&self.emptied, folder))
    }

    /// Where all that counts lies on one side; `None` where that is the whole tree.
    pub fn cover(&self, side: Side) -> Option<Cover> {
        let counts = |folder: &&Vec<u8>| side == Side::Target || !stands_in(&self.emptied, folder);
        let folders = self.folders.iter().chain(&self.again).filter(counts);
        Cover::new(folders.map(|folder| as_key(folder)))
    }

    /// Whether the key counts as not there at the source.
    pub fn empties(&self, key: &ObjectKey) -> bool {
        if self.emptied.is_empty() && self.narrowed.is_empty() {
            return false;
        }
        let path = path(key);
        stands_in(&self.emptied, &path) || self.hides(&path)
    }

    fn hides(&self, path: &[u8]) -> bool {
        let is_itself = || self.narrowed.binary_search_by(|folder| folder.as_slice().cmp(path)).is_ok();
        let is_above = || {
            let after = self.shown.partition_point(|shown| shown.as_slice() < path);
            self.shown.get(after).is_some_and(|shown| shown.starts_with(path))
        };
        stands_in(&self.narrowed, path) && !is_itself() && !stands_in(&self.shown, path) && !is_above()
    }

    /// What the manifest says of all other keys stays as it is: they are not meant now, and will be again.
    pub fn keep_others(self, keeps_others: bool) -> Self {
        Self { keeps_others, ..self }
    }

    /// Whether the manifest's rows of other keys stay.
    pub fn keeps_others(&self) -> bool {
        self.keeps_others
    }

    /// Whether the key is one of the folders or stands in one.
    pub fn holds(&self, key: &ObjectKey) -> bool {
        let path = path(key);
        let is_meant = stands_in(&self.folders, &path) && !stands_in(&self.except, &path);
        (is_meant || stands_in(&self.again, &path)) && !self.is_in_gap(key)
    }

    fn is_in_gap(&self, key: &ObjectKey) -> bool {
        let after = self.gaps.partition_point(|(from, _)| from.as_slice() <= key.as_bytes());
        after.checked_sub(1).is_some_and(|at| key.as_bytes() < self.gaps[at].1.as_slice())
    }
}

/// A key with a slash at the end: so a folder itself sorts and compares like what is in it. All is in the root, whose key is
/// empty.
fn path(key: &ObjectKey) -> Vec<u8> {
    if key.is_empty() { Vec::new() } else { [key.as_bytes(), b"/"].concat() }
}

/// The key of a path.
fn as_key(path: &[u8]) -> ObjectKey {
    ObjectKey::from(path.strip_suffix(b"/").unwrap_or(path).to_vec())
}

/// The paths of these folders, sorted, without those inside others.
fn outermost(folders: impl IntoIterator<Item = ObjectKey>) -> Vec<Vec<u8>> {
    let mut sorted: Vec<Vec<u8>> = folders.into_iter().map(|folder| path(&folder)).collect();
    sorted.sort_unstable();
    sorted.dedup_by(|inner, outer| inner.starts_with(outer));
    sorted
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

    #[test]
    fn what_is_meant_again_wins_over_the_exception_that_it_stands_in() {
        for outer in ["db/t", ""] {
            let within = within(&["db", "db/t/p"]).except([ObjectKey::from(outer)]).again([ObjectKey::from("db/t/p")]);
            for (key, held) in
                [("db/t", false), ("db/t/f", false), ("db/t/p/f", true), ("db/t/p", true), ("db/t/p2", false)]
            {
                assert_eq!(within.holds(&ObjectKey::from(key)), held, "{key}");
            }
        }
    }

    #[test]
    fn a_tree_that_is_emptied_as_a_whole_is_given_up_as_a_whole() {
        let root = || [ObjectKey::default()];
        let within = Within::new(root()).emptied(root());
        for key in ["", "f", "p=1/f"] {
            let key = ObjectKey::from(key);
            assert!(within.holds(&key) && within.empties(&key) && within.gives_up(&key), "{}", key.escaped());
        }
        assert_eq!(within.given_up().collect::<Vec<_>>(), root());
        assert!(within.empties_all() && !Within::new(root()).empties_all() && !Within::default().empties_all());
        let of = |folders: &[&str]| folders.iter().map(|folder| ObjectKey::from(*folder)).collect::<Vec<_>>();
        assert!(Within::new(of(&["a", "b/c"])).emptied(of(&["a", "b"])).empties_all());
        assert!(!Within::new(of(&["a", "b"])).emptied(of(&["a", "b/c"])).empties_all());
        let narrowed = Within::new(root()).narrowed(root(), [ObjectKey::from("base_5")]);
        for (key, empty) in [("", false), ("base_5", false), ("base_5/f", false), ("delta_6_6/f", true)] {
            assert_eq!(narrowed.empties(&ObjectKey::from(key)), empty, "{key}");
        }
    }

    #[test]
    fn of_a_narrowed_folder_only_what_is_shown_counts() {
        let keys = |keys: &[&str]| keys.iter().map(|key| ObjectKey::from(*key)).collect::<Vec<_>>();
        let within = within(&["db"]).narrowed(keys(&["db/t", "db/x"]), keys(&["db/t/base_5", "db/t/p=1/f"]));
        for (key, empty) in [
            ("db/t", false),
            ("db/t/delta_1_1/f", true),
            ("db/t/delta_1_1", true),
            ("db/t/base_5/f", false),
            ("db/t/base_5", false),
            ("db/t/base_55/f", true),
            ("db/t/base", true),
            ("db/t/p=1", false),
            ("db/t/p=1/f", false),
            ("db/t/p=1/f2", true),
            ("db/t/p=2", true),
            ("db/x", false),
            ("db/x/f", true),
            ("db/u/f", false),
        ] {
            assert_eq!(within.empties(&ObjectKey::from(key)), empty, "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_lies_in_any_of_the_stretches_is_not_held(
            gaps in prop::collection::vec(("[a-e]{0,3}", "[a-e]{0,3}"), 0..6),
            keys in prop::collection::vec("[a-e]{1,4}", 1..20),
        ) {
            let bytes = gaps.iter().map(|(from, to)| (from.as_bytes().to_vec(), to.as_bytes().to_vec()));
            let within = Within::new([ObjectKey::default()]).without(bytes);
            for key in keys {
                let naive = gaps.iter().any(|(from, to)| *from <= key && key < *to);
                prop_assert_eq!(within.holds(&ObjectKey::from(key.as_str())), !naive, "{} in {:?}", key, gaps);
            }
        }

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
