//! Folders inside a tree that are the state or the trash of some run, today's or an earlier one's: known by the markers at
//! their roots, and left out of listing and deleting (rule 1). Pure; reads sorted keys as they come.
//!
//! A marker sorts before everything else that its folder holds of ours, so nothing is decided of a state before it is known
//! for one, and one folder's name is all that is remembered. A marker at the root of the tree makes the whole tree no
//! exception: whoever names a state or a trash as SOURCE means it.

use manifest::ObjectKey;
use manifest::state::layout;

use crate::trash;

/// Folders that are remembered by name, for people; more are left out all the same.
const MAX_NAMED: usize = 16;

/// Reads the keys of a tree, or of two that are joined, in order.
#[derive(Debug, Default)]
pub struct Ours {
    /// The folder met last, with its slash.
    folder: Option<Vec<u8>>,
    named: Vec<ObjectKey>,
}

impl Ours {
    /// Whether the key belongs to a state or a trash inside the tree. To be asked of every key, in order.
    pub fn holds(&mut self, key: &ObjectKey) -> bool {
        if self.folder.as_ref().is_some_and(|folder| key.as_bytes().starts_with(folder)) {
            return true;
        }
        let Some(name) = marked(key).and_then(|folder| folder.strip_suffix(b"/")) else { return false };
        if self.named.len() < MAX_NAMED {
            self.named.push(ObjectKey::from(name.to_vec()));
        }
        self.folder = Some([name, b"/"].concat());
        true
    }

    /// The folders that were met, without their slash; at most the first few.
    pub fn named(&self) -> &[ObjectKey] {
        &self.named
    }
}

/// Whether the key is the marker of a tree that is itself a state or a trash.
pub fn is_marker(key: &ObjectKey) -> bool {
    marked(key).is_some_and(<[u8]>::is_empty)
}

/// The folder that the key is the marker of: empty, or with its slash.
fn marked(key: &ObjectKey) -> Option<&[u8]> {
    let key = key.as_bytes();
    let folder = [layout::MARKER, trash::MARKER].iter().find_map(|marker| key.strip_suffix(marker.as_bytes()))?;
    (folder.is_empty() || folder.ends_with(b"/")).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(keys: &[&str]) -> Vec<String> {
        let mut keys: Vec<ObjectKey> = keys.iter().map(|key| ObjectKey::from(*key)).collect();
        keys.sort();
        let mut ours = Ours::default();
        keys.retain(|key| ours.holds(key));
        keys.iter().map(|key| key.escaped().into_owned()).collect()
    }

    #[test]
    fn rule_01_a_folder_with_a_marker_is_left_out_whole_and_nothing_beside_it() {
        let below =
            ["s/.understudy-state.json", "s/.understudy.lock", "s/job/lease.json", "s/job/t/.understudy-trash.json"];
        let trash = ["t/u/.understudy-trash.json", "t/u/.understudy/job/r.json", "t/u/2026/a"];
        let data = [
            "s",
            "s-",
            "s.x",
            "s0",
            "t/a",
            "t/u",
            "t/u-/a",
            "t/v",
            "x/.understudy-state.json.bak",
            "x/y.understudy-state.json",
        ];
        let all = [&below[..], &trash, &data].concat();
        assert_eq!(held(&all), [&below[..], &trash].concat());
    }

    #[test]
    fn a_tree_that_is_a_state_itself_is_data() {
        let keys = [".understudy-state.json", "job/lease.json", "in/.understudy-state.json", "in/job/x"];
        assert_eq!(held(&keys), ["in/.understudy-state.json", "in/job/x"]);
        assert!(is_marker(&".understudy-state.json".into()) && is_marker(&".understudy-trash.json".into()));
        assert!(!is_marker(&"in/.understudy-state.json".into()) && !is_marker(&"job/lease.json".into()));
    }

    #[test]
    fn the_names_of_many_are_bounded_and_all_are_left_out() {
        let keys: Vec<String> =
            (0..99).flat_map(|i| [format!("{i:02}/.understudy-state.json"), format!("{i:02}/x")]).collect();
        let mut ours = Ours::default();
        assert!(keys.iter().all(|key| ours.holds(&ObjectKey::from(key.as_str()))));
        assert_eq!(ours.named().len(), MAX_NAMED);
    }
}
