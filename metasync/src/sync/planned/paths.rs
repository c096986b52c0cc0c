//! The plain trees of a policy in a plan. Nothing is changed here.

use super::{guarded, trust};
use crate::sync::data::{self, PathDraft, PathTree, Trust};
use crate::sync::guards::{files_are_ours, files_are_there};
use crate::sync::state::SyncState;
use crate::sync::{Allowed, Setting};
use distcp::error::{Failure, Result};
use jiff::Timestamp;

/// Plans them, and asks every guard. `half_done`: a run that died may have written what no manifest knows yet.
pub(super) async fn plan(
    setting: &Setting,
    allowed: &Allowed,
    state: Option<&SyncState>,
    half_done: bool,
) -> Result<Vec<(PathTree, PathDraft)>> {
    let mut planned = Vec::new();
    for path in data::open_paths(setting, Trust { afresh: false, ..trust(allowed) })? {
        let of_path =
            |failure: Failure| Failure { message: format!("path {}: {}", path.name, failure.message), ..failure };
        let (draft, refusal) = path.draft().await.map_err(of_path)?;
        if let Some(refusal) = refusal {
            return Err(guarded(of_path(refusal)));
        }
        planned.push((path, draft));
    }
    if !half_done {
        let each = planned.iter().map(|(path, draft)| {
            let place = |key: &str| format!("{}/{key}", path.job.target.place);
            (&draft.foreign, draft.has_base, place)
        });
        files_are_ours(each, allowed)?;
        let is_whole = |path: &PathTree| {
            let left = state.and_then(|state| state.paths.get(&path.name));
            left.is_some_and(|left| left.as_of.is_some() && left.error.is_none())
        };
        let known = planned.iter().filter(|(path, _)| is_whole(path));
        let each = known.map(|(path, draft)| (&draft.gone, |key: &str| format!("{}/{key}", path.job.target.place)));
        files_are_there(each, allowed)?;
    }
    Ok(planned)
}

/// The oldest of this moment and those that the plain trees' listings stand for: what the replica shows, at best (rule 26).
pub(super) fn oldest(moment: Timestamp, paths: &[(PathTree, PathDraft)]) -> Timestamp {
    paths.iter().map(|(_, draft)| draft.as_of).fold(moment, Timestamp::min)
}
