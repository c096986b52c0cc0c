//! What stops a run before it changes anything: a policy that moves things (rule 29), a target that is not ours or not as we
//! left it (rules 20, 21), more drops than allowed (rule 6). Pure.

use super::Allowed;
use super::data::Foreign;
use super::events::Seen;
use super::state::{Rules, SyncState};
use super::survey::Survey;
use crate::compare::Sides;
use crate::model::DatabaseName;
use crate::policy::Policy;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::options::Cap;
use distcp::plan::PlanTotals;
use distcp::plan::guard::deletes_cap;
use distcp::quantity::counted;
use std::collections::BTreeMap;

/// A share of tables or partitions allows at least so many: of three tables one can be dropped.
const DROPS_ALWAYS: u64 = 1;
/// How many lines of drift a message shows.
const DRIFT_SHOWN: usize = 10;
/// How many objects of others a message shows.
const OBJECTS_SHOWN: usize = 10;

/// Rule 29.
pub(super) fn rules_hold(state: Option<&SyncState>, policy: &Policy, allowed: &Allowed) -> Result<()> {
    let changes = state.map(|state| state.rules.changes(&Rules::of(policy))).unwrap_or_default();
    match changes.is_empty() || allowed.policy_change {
        true => Ok(()),
        false => Err(Failure::new(
            ExitCode::Refused,
            format!("the policy moves or drops what it did not before: {}", changes.join("; ")),
        )
        .hint("if that is right, add --accept-policy-change")),
    }
}

/// Two databases of the source are never one on the target: each would drop what the other brings. The policy is refused
/// for it already, by its patterns; this goes by what the source has.
pub(super) fn one_source_each<'a>(
    databases: impl IntoIterator<Item = (&'a DatabaseName, &'a DatabaseName)>,
) -> Result<()> {
    let mut taken: BTreeMap<&DatabaseName, &DatabaseName> = BTreeMap::new();
    for (source, target) in databases {
        if let Some(other) = taken.insert(target, source) {
            return Err(Failure::usage(format!(
                "the databases {other} and {source} of the source would both be {target} on the target, nothing was \
                 written"
            ))
            .hint("give each a name of its own under [rename] in the policy, or take one of them out of databases"));
        }
    }
    Ok(())
}

/// Rules 20 and 21: the target is as the last commit left it, or empty, or taken over by name.
pub(super) fn is_ours(survey: &Survey, allowed: &Allowed) -> Result<()> {
    if !survey.foreign.is_empty() && !allowed.adopt {
        return Err(Failure::new(
            ExitCode::Refused,
            format!("the target holds objects that no run of this policy made, in {}", survey.foreign.join(", ")),
        )
        .hint(
            "name an empty target, or take over what is there with --adopt: what differs from the source is changed",
        ));
    }
    if survey.drift.is_empty() || allowed.overwrite_drift {
        return Ok(());
    }
    let shown: Vec<&str> = survey.drift.iter().take(DRIFT_SHOWN).map(String::as_str).collect();
    let more = match survey.drift.len().saturating_sub(DRIFT_SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(Failure::new(
        ExitCode::Refused,
        format!("the target is not as the last run left it, nothing was written: {}{more}", shown.join("; ")),
    )
    .hint("if the replica was promoted, stop this policy; else overwrite it with --overwrite-drift, or use metasync resync"))
}

/// Rule 20, for files: what would be overwritten or deleted is as the last run left it. Of each tree: what is not, whether a
/// run committed it before, and how its objects are written.
pub(super) fn files_are_ours<'a>(
    trees: impl IntoIterator<Item = (&'a Foreign, bool, impl Fn(&str) -> String)>,
    allowed: &Allowed,
) -> Result<()> {
    let (mut shown, mut count, mut first_run) = (Vec::new(), 0, false);
    for (foreign, has_base, place) in trees {
        shown.extend(foreign.first.iter().map(|key| place(key)));
        count += foreign.count;
        first_run |= foreign.count > 0 && !has_base;
    }
    shown.truncate(OBJECTS_SHOWN);
    if count == 0 || allowed.overwrite_drift || (allowed.adopt && first_run) {
        return Ok(());
    }
    let message = format!(
        "this run would delete or overwrite {} of the target that no run of its own left so: {}",
        counted(count, "object", "objects"),
        shown.join(", ")
    );
    let hint = match first_run {
        true => "name a folder that is empty, or take over what is there with --adopt",
        false => "if the replica was promoted, stop this policy; else overwrite them with --overwrite-drift",
    };
    Err(Failure::new(ExitCode::Refused, message).hint(hint))
}

/// Rule 20, for files that somebody removed: the first of them, and how many there are, of each tree.
pub(super) fn files_are_there<'a>(
    trees: impl IntoIterator<Item = (&'a Foreign, impl Fn(&str) -> String)>,
    allowed: &Allowed,
) -> Result<()> {
    let (mut shown, mut count) = (Vec::new(), 0);
    for (gone, place) in trees {
        shown.extend(gone.first.iter().map(|key| place(key)));
        count += gone.count;
    }
    shown.truncate(OBJECTS_SHOWN);
    if count == 0 || allowed.overwrite_drift {
        return Ok(());
    }
    let objects = counted(
        count,
        "object that the last run left on the target is",
        "objects that the last run left on the target are",
    );
    let message = format!("{objects} gone, nothing was written: {}", shown.join(", "));
    Err(Failure::new(ExitCode::Refused, message).hint(
        "if the replica was promoted, stop this policy; else have them copied again with --overwrite-drift, or those of tables \
         with metasync resync",
    ))
}

fn exceeds(cap: Cap, count: u64, of: u64) -> bool {
    match cap {
        Cap::Percent(_) => count > DROPS_ALWAYS && cap.is_exceeded(count, of),
        Cap::Count(_) => cap.is_exceeded(count, of),
    }
}

/// Rule 6: how many tables, and partitions of one table, may be dropped.
pub(super) fn drops_allowed(sides: &Sides, state: Option<&SyncState>, survey: &Survey, seen: &Seen) -> Result<()> {
    let cap = sides.policy.options.max_drops;
    let counted = survey.counted_drops(sides, &seen.renamed);
    let refused = |message: String| {
        Err(Failure::new(ExitCode::Refused, message)
            .hint("if that is right, raise options.max_drops in the policy for one run"))
    };
    let drops = counted.len() as u64;
    // A run that died before its first commit left tables, too.
    let there = survey.tables.iter().filter(|table| table.digest.is_some()).count() + survey.drops.len();
    let of = survey.committed.max(there as u64);
    if exceeds(cap, drops, of) {
        let names: Vec<String> = counted.iter().take(DRIFT_SHOWN).map(|drop| drop.target.to_string()).collect();
        return refused(format!(
            "{drops} of {of} tables on the target would be dropped, more than {cap}: {}",
            names.join(", ")
        ));
    }
    for table in &survey.tables {
        let left = state.and_then(|state| state.table(&table.target.database, &table.target.table));
        // Here as well: what a run that died wrote is more than the last commit knows.
        let of = left.map_or(0, |left| left.partitions).max(table.there);
        if exceeds(cap, table.drop, of) {
            return refused(format!(
                "{} of {of} partitions of {} would be dropped, more than {cap}",
                table.drop, table.target
            ));
        }
    }
    Ok(())
}

/// Rule 6, over all trees, where files go with tables and partitions that are dropped or stand elsewhere: of one tree they may be
/// all, and then its own guard says nothing. `is_whole`: these are all trees; of some of them half is too much however few they hold.
pub(super) fn removals_allowed<'a>(
    plans: impl Iterator<Item = &'a PlanTotals>,
    cap: Option<Cap>,
    is_whole: bool,
) -> Result<()> {
    let (mut of, mut given_up, mut deletes) = (0, 0, 0);
    for totals in plans {
        of += totals.target_objects;
        given_up += totals.given_up;
        deletes += totals.guarded_deletes();
    }
    let cap = if is_whole { deletes_cap(cap, of) } else { cap.or(Some(Cap::Percent(50.0))) };
    match cap.filter(|cap| given_up > 0 && cap.is_exceeded(deletes, of)) {
        None => Ok(()),
        Some(cap) => Err(Failure::new(
            ExitCode::Refused,
            format!(
                "{deletes} of {of} files on the target would go, {given_up} of them with tables and partitions that were dropped \
                 or stand elsewhere, more than {cap}"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_06_what_goes_with_dropped_tables_is_counted_over_all_trees() {
        let of = |target_objects, given_up, deletes| PlanTotals {
            target_objects,
            given_up,
            deletes,
            ..PlanTotals::default()
        };
        let allowed = |cap, trees: &[PlanTotals]| removals_allowed(trees.iter(), cap, true);
        assert!(allowed(None, &[of(150, 150, 150), of(200, 0, 0)]).is_ok());
        assert!(allowed(None, &[of(99, 99, 99)]).is_ok());
        assert!(allowed(None, &[of(200, 0, 200)]).is_ok(), "that is for the guard of the tree");
        let refused = allowed(None, &[of(150, 150, 150), of(100, 0, 0)]).unwrap_err();
        assert_eq!(refused.code, ExitCode::Refused);
        assert!(refused.message.starts_with("150 of 250 files"), "{}", refused.message);
        let refused = allowed(None, &[of(200, 100, 199)]).unwrap_err();
        assert!(refused.message.starts_with("199 of 200 files"), "{}", refused.message);
        assert!(allowed(Some(Cap::Count(9)), &[of(50, 5, 5), of(50, 0, 5)]).is_err());
        let some = |trees: &[PlanTotals]| removals_allowed(trees.iter(), None, false);
        assert!(
            some(&[of(99, 99, 99)]).is_err() && some(&[of(99, 49, 49)]).is_ok(),
            "who was spared says how much that is"
        );
    }

    #[test]
    fn two_databases_of_the_source_are_never_one_on_the_target() {
        let [a, b, t] = ["a", "b", "t"].map(DatabaseName::new);
        assert!(one_source_each([(&a, &b), (&b, &a), (&t, &t)]).is_ok(), "a swap");
        let refused = one_source_each([(&a, &t), (&b, &t)]).unwrap_err();
        assert_eq!(refused.code, ExitCode::Usage);
        let message = refused.to_string();
        assert!(message.contains("databases a and b of the source would both be t"), "{message}");
    }

    #[test]
    fn rule_06_a_share_always_allows_one_and_a_number_is_a_number() {
        let fifth = Cap::Percent(20.0);
        for (count, of, refused) in [(1, 3, false), (2, 3, true), (2, 10, false), (3, 10, true), (0, 0, false)] {
            assert_eq!(exceeds(fifth, count, of), refused, "{count} of {of}");
        }
        assert!(exceeds(Cap::Count(0), 1, 100) && !exceeds(Cap::Count(3), 3, 3));
    }
}
