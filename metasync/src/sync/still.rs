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

/// What both metastores hold now, where a run may go without comparing them: `sweep` allows it, and both can tell.
pub(super) async fn fingerprints(sides: &Sides, allowed: &Allowed) -> Result<Option<Fingerprints>> {
    let options = &sides.policy.options;
    if options.sweep.is_zero() || !options.data || !allowed.is_plain() {
        return Ok(None);
    }
    let (source, target) =
        futures::try_join!(sides.source.fingerprint(), sides.target.fingerprint()).map_err(failure)?;
    let policy = policy(&sides.policy);
    Ok(source.zip(target).map(|(source, target)| Fingerprints { source, target, policy }))
}

/// Of what decides how objects are carried, in this version.
fn policy(policy: &Policy) -> String {
    let text = format!("{} {:?} {:?}", super::PROGRAM, Rules::of(policy), policy.options);
    blake3::hash(text.as_bytes()).to_hex().as_str().to_owned()
}

/// When each tree was looked at, if nothing changed and each look is young enough.
pub(super) fn looks(
    left: &Checkpoint<SyncState>,
    now: &Fingerprints,
    seen: &Seen,
    sweep: Duration,
    asked: Timestamp,
) -> Option<BTreeMap<String, Timestamp>> {
    let SyncState { fingerprints, intent, removals, explained, position, looks, .. } = &left.state;
    let is_settled = left.complete && intent.is_none() && removals.is_empty() && explained.is_empty();
    let in_step = left.state.quarantined().next().is_none();
    // A log that moved is compared, whatever it says.
    let log_stands = seen.has_log == position.is_some() && seen.position == *position && seen.by_type.is_empty();
    if !is_settled || !in_step || !log_stands || fingerprints.as_ref() != Some(now) {
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
    use crate::sync::state::{Intent, Quarantine};
    use manifest::state::layout::{JobName, RunId};

    fn settled() -> (Checkpoint<SyncState>, Fingerprints, Seen) {
        let now = Fingerprints { source: "a".to_owned(), target: "b".to_owned(), policy: "c".to_owned() };
        let position = Some(Position::unseen(7));
        let started: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let state = SyncState {
            position: position.clone(),
            fingerprints: Some(now.clone()),
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
        (left, now, Seen { position, has_log: true, ..Seen::default() })
    }

    #[test]
    fn rule_25_whatever_moved_is_compared() {
        let asked: Timestamp = "2026-11-01T00:30:00Z".parse().unwrap();
        let hour = Duration::from_secs(3600);
        type Change = fn(&mut Checkpoint<SyncState>, &mut Fingerprints, &mut Seen);
        let changes: [Change; 11] = [
            |left, _, _| left.complete = false,
            |left, _, _| left.state.fingerprints = None,
            |left, _, _| left.state.intent = Some(Intent::default()),
            |left, _, _| left.state.removals.extend(["file:/x".to_owned()]),
            |left, _, _| drop(left.state.looks.insert("other".to_owned(), "2026-10-31T00:00:00Z".to_owned())),
            |left, _, _| drop(left.state.looks.insert("other".to_owned(), "not a time".to_owned())),
            |left, _, _| {
                let tables = &mut left.state.databases.entry("d".to_owned()).or_default().tables;
                let quarantined = Some(Quarantine { error: "e".to_owned(), as_of: None });
                tables.entry("t".to_owned()).or_default().quarantined = quarantined;
            },
            |_, now, _| now.source = "other".to_owned(),
            |_, now, _| now.target = "other".to_owned(),
            |_, now, _| now.policy = "other".to_owned(),
            |_, _, seen| seen.position = Some(Position::unseen(8)),
        ];
        let (left, now, seen) = settled();
        assert_eq!(looks(&left, &now, &seen, hour, asked).map(|looks| looks.len()), Some(1));
        assert_eq!(looks(&left, &now, &seen, hour / 2, asked), None, "the sweep is due");
        for (at, change) in changes.iter().enumerate() {
            let (mut left, mut now, mut seen) = settled();
            change(&mut left, &mut now, &mut seen);
            assert_eq!(looks(&left, &now, &seen, hour, asked), None, "change {at}");
        }
    }
}
