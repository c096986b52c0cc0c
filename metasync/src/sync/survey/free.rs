//! Folders of which those go that a place overlaps (rule 28). Pure.

use crate::location::Location;
use std::collections::BTreeMap;

/// Folders that nothing claims so far, one a place.
#[derive(Clone, Debug, Default)]
pub struct Free(BTreeMap<Vec<String>, Location>);

impl Free {
    /// All of these.
    pub fn new(folders: impl IntoIterator<Item = Location>) -> Self {
        Self(folders.into_iter().map(|folder| (folder.path(), folder)).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Something stands at this place: what is in it, and what it is in, is not free.
    pub fn claim(&mut self, place: &Location) {
        let mut path = place.path();
        let inside =
            self.0.range(path.clone()..).map(|(folder, _)| folder).take_while(|folder| folder.starts_with(&path));
        for folder in inside.cloned().collect::<Vec<_>>() {
            self.0.remove(&folder);
        }
        while !self.0.is_empty() && path.pop().is_some() {
            self.0.remove(&path);
        }
    }

    /// What is left.
    pub fn folders(&self) -> impl Iterator<Item = &Location> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rule_28_it_is_what_asking_every_folder_says(
            folders in prop::collection::vec("(file:)?(/[ab]{1,2}){0,4}/", 0..8),
            places in prop::collection::vec("(s3://a|file:)?(/[ab]{1,2}){0,4}/", 0..6),
        ) {
            let parsed = |texts: &[String]| texts.iter().map(|text| Location::parse(text).unwrap()).collect::<Vec<_>>();
            let (folders, places) = (parsed(&folders), parsed(&places));
            let mut free = Free::new(folders.iter().cloned());
            places.iter().for_each(|place| free.claim(place));
            for folder in folders {
                let naive = !places.iter().any(|place| place.overlaps(&folder));
                prop_assert_eq!(free.folders().any(|one| one.is_same(&folder)), naive, "{} of {:?}", folder, places);
            }
        }
    }
}
