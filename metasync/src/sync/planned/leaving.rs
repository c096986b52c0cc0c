//! Which folders of the target are to be emptied, because tables, partitions, or a run that died leave them. Nothing is changed
//! here.

use crate::compare::Sides;
use crate::location::Location;
use crate::roots::{Folder, Owner, Wave};
use crate::sync::state::SyncState;
use crate::sync::survey::{Survey, removable};
use crate::sync::{Allowed, Setting, data, failure};
use distcp::error::Result;
use std::collections::BTreeSet;

/// Folders of the target that are to be emptied.
pub(super) struct Leaving {
    /// Those that no table of the target has anything in.
    pub free: BTreeSet<String>,
    /// Those of which nobody can tell yet.
    pub postponed: BTreeSet<String>,
}

/// Finds them, and adds those that are free to the folders of the survey. With switching a folder that others take the place of is
/// retired instead: only those of dropped tables, and what earlier runs left, are found.
pub(super) async fn find(
    setting: &Setting,
    sides: &Sides,
    state: Option<&SyncState>,
    allowed: &Allowed,
    switches: bool,
    survey: &mut Survey,
) -> Result<Leaving> {
    let policy = &setting.policy;
    if switches {
        survey
            .drops
            .iter_mut()
            .for_each(|drop| drop.folders.retain(|folder| drop.place.as_deref() == Some(folder.to_string().as_str())));
    }
    let mut found: BTreeSet<String> = state.map(|state| state.removals.clone()).unwrap_or_default();
    found.extend(survey.drops.iter().flat_map(|drop| &drop.folders).map(ToString::to_string));
    if policy.options.data {
        if !switches {
            survey.left = data::left(setting, survey).await;
            found.extend(survey.left.iter().map(|(_, folder)| folder.to_string()));
        }
        let intent = state.and_then(|state| state.intent.as_ref());
        if let Some(intent) = intent.filter(|_| allowed.selection.is_all()) {
            found.extend(data::orphaned(setting, survey, intent).await.iter().map(ToString::to_string));
        }
    }
    let doomed = found.iter().filter_map(|place| Location::parse(place).ok()).collect();
    let Some(free) = removable(sides, survey, doomed).await.map_err(failure)? else {
        return Ok(Leaving { free: BTreeSet::new(), postponed: found });
    };
    let places = free.iter().filter_map(|place| policy.locations.unmap(place));
    let folders = places.map(|location| Folder { location, owner: Owner::Removal, wave: Wave::Data });
    survey.folders.extend(folders);
    Ok(Leaving { free: free.iter().map(ToString::to_string).collect(), postponed: BTreeSet::new() })
}
