//! The guards of rules 5 and 6: looked at on the whole plan, before the first write. Pure.

use super::PlanTotals;
use crate::options::{Cap, CopyOptions};

/// A refusal: what would have happened, and the option that allows it. Exit code 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused, and why.
    pub message: String,
    /// What to type if it was meant.
    pub hint: String,
}

/// From so many objects of a target on a share of them is guarded without being asked for.
const GUARDED_OBJECTS: u64 = 100;

/// The cap on deletes that holds: the one given, else half of the target (rule 6).
pub fn deletes_cap(given: Option<Cap>, target_objects: u64) -> Option<Cap> {
    given.or((target_objects >= GUARDED_OBJECTS).then_some(Cap::Percent(50.0)))
}

/// The first guard that the plan trips, if any.
pub fn check(totals: &PlanTotals, options: &CopyOptions) -> Option<Refusal> {
    if totals.source_objects == 0 && !options.allow_empty_source {
        return Some(Refusal {
            message: format!("the source is empty; the target has {} objects", totals.target_objects),
            hint: "check how SOURCE is written; if it is right, add --allow-empty-source".into(),
        });
    }
    let total = totals.target_objects.saturating_sub(totals.given_up);
    let deletes = totals.guarded_deletes().saturating_sub(totals.given_up);
    if let Some(cap) = deletes_cap(options.max_deletes, total).filter(|cap| cap.is_exceeded(deletes, total)) {
        return Some(Refusal {
            message: format!("{deletes} of {total} objects on the target would be deleted, more than {cap}"),
            hint: format!("if that is right, add --max-deletes {deletes}"),
        });
    }
    let overwrites = totals.overwrites + totals.held_overwrites + totals.compares;
    if let Some(cap) = options.max_overwrites.filter(|cap| cap.is_exceeded(overwrites, totals.target_objects)) {
        return Some(Refusal {
            message: format!(
                "{overwrites} of {total} objects on the target could be overwritten, more than {cap}",
                total = totals.target_objects
            ),
            hint: format!("if that is right, add --max-overwrites {overwrites}"),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Cap;

    fn totals(source: u64, target: u64, deletes: u64, overwrites: u64) -> PlanTotals {
        PlanTotals { source_objects: source, target_objects: target, deletes, overwrites, ..PlanTotals::default() }
    }

    #[test]
    fn rule_05_an_empty_source_is_refused_with_and_without_delete() {
        for delete in [false, true] {
            let options = CopyOptions { delete, ..CopyOptions::default() };
            assert!(check(&totals(0, 7, 0, 0), &options).unwrap().hint.contains("--allow-empty-source"));
            let allowed = CopyOptions { allow_empty_source: true, ..options };
            assert_eq!(check(&totals(0, 7, 7, 0), &allowed), None);
        }
    }

    #[test]
    fn rule_06_deletes_are_capped_at_half_once_there_are_100() {
        let table = [
            (99, 99, None, false),
            (100, 50, None, false),
            (100, 51, None, true),
            (100, 51, Some(Cap::Count(51)), false),
            (100, 52, Some(Cap::Count(51)), true),
            (10, 2, Some(Cap::Percent(10.0)), true),
            (100, 100, Some(Cap::Percent(100.0)), false),
            (0, 0, Some(Cap::Count(0)), false),
        ];
        for (target, deletes, max_deletes, refused) in table {
            let options = CopyOptions { delete: true, max_deletes, ..CopyOptions::default() };
            let refusal = check(&totals(1, target, deletes, 0), &options);
            assert_eq!(refusal.is_some(), refused, "{deletes} of {target} with {max_deletes:?}");
            assert!(refusal.is_none_or(|refusal| refusal.hint.contains("--max-deletes")));
        }
    }

    #[test]
    fn rule_27_what_is_replaced_by_others_is_no_delete_to_a_guard() {
        let options = CopyOptions { delete: true, ..CopyOptions::default() };
        let of = |deletes, replaced| PlanTotals { replaced, ..totals(100, 100, deletes, 0) };
        assert_eq!(check(&of(100, 50), &options), None);
        let refusal = check(&of(100, 49), &options).unwrap();
        assert!(refusal.message.starts_with("51 of 100 objects"), "{}", refusal.message);
    }

    #[test]
    fn rule_06_what_is_given_up_is_counted_by_who_gives_it_up() {
        let options = CopyOptions { delete: true, ..CopyOptions::default() };
        let of = |given_up, deletes| PlanTotals { given_up, ..totals(100, 300, deletes, 0) };
        assert_eq!(check(&of(100, 200), &options), None);
        assert!(
            check(&of(100, 201), &options).unwrap().message.starts_with("101 of 200 objects"),
            "of those that live on"
        );
    }

    #[test]
    fn rule_06_what_is_given_up_makes_no_small_tree_large() {
        let options = CopyOptions { delete: true, ..CopyOptions::default() };
        let of = |given_up, target, deletes| PlanTotals { given_up, ..totals(1, target, deletes, 0) };
        assert_eq!(check(&of(99, 100, 100), &options), None);
        assert!(check(&of(99, 199, 199), &options).is_some());
    }

    #[test]
    fn rule_06_overwrites_have_no_limit_unless_given() {
        let options = CopyOptions::default();
        assert_eq!(check(&totals(1000, 1000, 0, 1000), &options), None);
        let capped = CopyOptions { max_overwrites: Some(Cap::Percent(20.0)), ..options };
        assert!(check(&totals(1000, 1000, 0, 201), &capped).unwrap().hint.contains("--max-overwrites"));
        assert_eq!(check(&totals(1000, 1000, 0, 200), &capped), None);
    }
}
