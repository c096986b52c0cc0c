//! Whether nothing changed since the last run that did everything: then a run need not compare anything.
//!
//! Pure, but for asking both metastores for their digests. What is wrong here in doubt is "it changed", which costs a comparison.

use super::events::Seen;
use super::state::{Fingerprints, Rules, SyncState};
use super::{Allowed, failure};
use crate::compare::Sides;
use crate::policy::Policy;
use distcp::error::Result;
use jiff::Timestamp;
use manifest::state::checkpoint::Checkpoint;
use std::collections::BTreeMap;
use std::time::Duration;

/// Of the metastores now, and what that says.
#[derive(Default)]
pub(super) struct Stillness {
    /// Of the source: what a run that does everything keeps. `None`: no run is spared.
    pub source: Option<String>,
    /// When each tree was looked at, if nothing changed.
    pub looks: Option<BTreeMap<String, Timestamp>>,
}

/// Asks the source for its digest where `sweep` allows it, and the target where all else stood still.
pub(super) async fn ask(
    sides: &Sides,
    left: Option<&Checkpoint<SyncState>>,
    seen: &Seen,
    allowed: &Allowed,
    asked: Timestamp,
) -> Result<Stillness> {
    let options = &sides.policy.options;
    if options.sweep.is_zero() || !options.data || !allowed.is_plain() {
        return Ok(Stillness::default());
    }
    let before = left.and_then(|left| left.state.fingerprints.as_ref());
    let looks = left.and_then(|left| looks(left, seen, options.sweep, asked));
    let Some((before, looks)) = before.zip(looks) else {
        return Ok(Stillness { source: sides.source.fingerprint().await.map_err(failure)?, looks: None });
    };
    let (source, target) =
        futures::try_join!(sides.source.fingerprint(), sides.target.fingerprint()).map_err(failure)?;
    let now = source.clone().zip(target).map(|(source, target)| fingerprints(source, target, &sides.policy));
    Ok(Stillness { source, looks: is_as_left(before, now.as_ref()).then_some(looks) })
}

/// Whether both metastores and the policy are as the last run left them; in doubt they are not.
fn is_as_left(before: &Fingerprints, now: Option<&Fingerprints>) -> bool {
    now == Some(before)
}

/// What a run that did everything keeps.
pub(super) fn fingerprints(source: String, target: String, of: &Policy) -> Fingerprints {
    Fingerprints { source, target, policy: of_policy(of) }
}

/// Of what decides how objects are carried, in this version.
pub(super) fn of_policy(policy: &Policy) -> String {
    let text = format!("{} {:?} {:?}", super::PROGRAM, Rules::of(policy), policy.options);
    blake3::hash(text.as_bytes()).to_hex().as_str().to_owned()
}

/// When each tree was looked at, if the last run left nothing to do, its log stands, and each look is young enough.
fn looks(
    left: &Checkpoint<SyncState>,
    seen: &Seen,
    sweep: Duration,
    asked: Timestamp,
) -> Option<BTreeMap<String, Timestamp>> {
    let SyncState { intent, removals, explained, position, looks, pending, retired, .. } = &left.state;
    let is_settled = left.complete && intent.is_none() && removals.is_empty() && explained.is_empty();
    // What others took the place of has to go one day.
    let is_settled = is_settled && pending.is_empty() && retired.is_empty();
    let in_step = left.state.quarantined().next().is_none() && left.state.uncarried.is_empty();
    // A log that moved is compared, whatever it says.
    let log_stands = seen.has_log == position.is_some() && seen.position == *position && seen.by_type.is_empty();
    if !is_settled || !in_step || !log_stands {
        return None;
    }
    let young = |look: &Timestamp| Duration::try_from(asked.duration_since(*look)).is_ok_and(|age| age < sweep);
    let parsed = looks.iter().map(|(tree, look)| {
        let look = look.parse().ok().filter(young)?;
        Some((tree.clone(), look))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Position;
    use crate::sync::state::{Emptied, Intent, Quarantine};
    use manifest::state::layout::{JobName, RunId};

    fn settled() -> (Checkpoint<SyncState>, Seen) {
        let position = Some(Position::unseen(7));
        let started: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let state = SyncState {
            position: position.clone(),
            looks: BTreeMap::from([("tree".to_owned(), "2026-11-01T00:00:00Z".to_owned())]),
            ..SyncState::default()
        };
        let left = Checkpoint {
            job: JobName::new("p").unwrap(),
            source: String::new(),
            target: String::new(),
            generation: 1,
            run_id: RunId::after(started, None),
            manifest: None,
            as_of: Some(started),
            complete: true,
            written: started,
            state,
        };
        (left, Seen { position, has_log: true, ..Seen::default() })
    }

    #[test]
    fn rule_25_whatever_moved_is_compared() {
        let asked: Timestamp = "2026-11-01T00:30:00Z".parse().unwrap();
        let hour = Duration::from_secs(3600);
        type Change = fn(&mut Checkpoint<SyncState>, &mut Seen);
        let emptied =
            Emptied { catalog: "hive".to_owned(), database: "d".to_owned(), table: "t".to_owned(), partition: None };
        let explain = |left: &mut Checkpoint<SyncState>| left.state.explained.extend([emptied.clone()]);
        let changes: [Change; 10] = [
            |left, _| left.complete = false,
            |left, _| left.state.intent = Some(Intent::default()),
            |left, _| left.state.removals.extend(["file:/x".to_owned()]),
            |left, _| drop(left.state.looks.insert("other".to_owned(), "2026-10-31T00:00:00Z".to_owned())),
            |left, _| drop(left.state.looks.insert("other".to_owned(), "not a time".to_owned())),
            |_, seen| seen.by_type.extend([("DROP_TABLE".to_owned(), 1)]),
            |_, seen| seen.has_log = false,
            |left, _| {
                let tables = &mut left.state.databases.entry("d".to_owned()).or_default().tables;
                let quarantined = Some(Quarantine { error: "e".to_owned(), as_of: None });
                tables.entry("t".to_owned()).or_default().quarantined = quarantined;
            },
            |left, _| {
                let quarantined = Quarantine { error: "e".to_owned(), as_of: None };
                left.state.uncarried.insert("function d.f".to_owned(), quarantined);
            },
            |_, seen| seen.position = Some(Position::unseen(8)),
        ];
        let (mut left, seen) = settled();
        assert_eq!(looks(&left, &seen, hour, asked).map(|looks| looks.len()), Some(1));
        assert_eq!(looks(&left, &seen, hour / 2, asked), None, "the sweep is due");
        for (at, change) in changes.iter().enumerate() {
            let (mut left, mut seen) = settled();
            change(&mut left, &mut seen);
            assert_eq!(looks(&left, &seen, hour, asked), None, "change {at}");
        }
        let print = |source: &str, target: &str, policy: &str| {
            let [source, target, policy] = [source, target, policy].map(str::to_owned);
            Fingerprints { source, target, policy }
        };
        let before = print("a", "b", "c");
        assert!(is_as_left(&before, Some(&before)) && !is_as_left(&before, None));
        for now in [print("other", "b", "c"), print("a", "other", "c"), print("a", "b", "other")] {
            assert!(!is_as_left(&before, Some(&now)), "{now:?}");
        }
        explain(&mut left);
        assert_eq!(looks(&left, &seen, hour, asked), None, "what was emptied on purpose is not gone yet");
    }
}
