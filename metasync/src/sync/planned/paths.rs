//! The plain trees of a policy in a plan. Nothing is changed here.
//!
//! One that cannot be planned, because it cannot be opened or listed, is left out with its error, and the others go on. What refuses a run
//! (a policy that contradicts itself, a guard, objects of others) refuses it here, too.

use super::{guarded, trust};
use crate::sync::data::{self, PathDraft, PathTree, Trust};
use crate::sync::guards::{files_are_ours, files_are_there};
use crate::sync::state::SyncState;
use crate::sync::{Allowed, Setting};
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::session;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What was planned of them.
#[derive(Default)]
pub struct Paths {
    /// Those that could be planned, with what their plans say.
    pub planned: Vec<(PathTree, PathDraft)>,
    /// The others by name, each with its code (rule 9) and why.
    pub failed: BTreeMap<String, (ExitCode, String)>,
}

/// Whether a plan that failed like this is the trouble of its path alone: a store did not answer, or its place is not what it shall
/// be. What is left are signals, and what other jobs hold.
fn is_its_own(code: ExitCode) -> bool {
    use ExitCode::{Failed, Partial, Permission, Temporary, Usage};
    matches!(code, Failed | Partial | Permission | Temporary | Usage)
}

/// Plans them, and asks every guard. `half_done`: a run that died may have written what no manifest knows yet.
pub(super) async fn plan(
    setting: &Setting,
    allowed: &Allowed,
    state: Option<&SyncState>,
    half_done: bool,
) -> Result<Paths> {
    let Paths { mut planned, mut failed } = Paths::default();
    for (name, opened) in data::open_paths(setting, Trust { afresh: false, ..trust(allowed) })? {
        let of_path = |failure: Failure| Failure { message: format!("path {name}: {}", failure.message), ..failure };
        let path = match opened {
            Ok(path) => path,
            Err(failure) if is_its_own(failure.code) => {
                failed.insert(name, (failure.code, failure.message));
                continue;
            }
            Err(failure) => return Err(of_path(failure)),
        };
        // Another job's target is none of this one's, whatever its folders hold.
        session::may_use(&path.job).await.map_err(of_path)?;
        let (draft, refusal) = match path.draft().await {
            Ok(drafted) => drafted,
            Err(failure) if is_its_own(failure.code) => {
                failed.insert(name, (failure.code, failure.message));
                continue;
            }
            Err(failure) => return Err(of_path(failure)),
        };
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
    Ok(Paths { planned, failed })
}

/// The oldest of this moment and those that the plain trees' listings stand for: what the replica shows, at best (rule 26).
pub(super) fn oldest(moment: Timestamp, paths: &Paths) -> Timestamp {
    paths.planned.iter().map(|(_, draft)| draft.as_of).fold(moment, Timestamp::min)
}
