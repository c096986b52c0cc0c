//! Whether a difference is what the source did after the replica was last in step, or something else. Pure.
//!
//! A replica beside live writers is always a little behind, and that is no error; damage is. In doubt it is damage: what is
//! called behind has a change of the source to show for it, and stands on the target as the last run left it. Such a change
//! is a version of an object that the last manifest does not know, a time after as-of, or an event after the checkpoint.

use crate::model::{DatabaseName, TableName};
use crate::policy::Policy;
use crate::sync::events::Seen;
use distcp::verify::{Lineage, Mark, Moved};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// How far a store's clock may be behind ours, and how coarse its times may be: what the source wrote right after as-of may
/// show a time before it.
const CLOCKS_APART_NS: i128 = 2_000_000_000;

/// Whether a difference of one object of data is no error. `as_of` is the source time of the last complete run, `touched`
/// whether an event after it names the object's table.
pub fn of_data(mark: Mark, lineage: &Lineage, as_of: Option<Timestamp>, touched: bool) -> bool {
    let Some(as_of) = as_of else { return false };
    let young = || lineage.newest_ns.is_some_and(|ns| i128::from(ns) >= as_of.as_nanosecond() - CLOCKS_APART_NS);
    match (mark, lineage.source, lineage.target) {
        // It went or changed while it was read.
        (Mark::Error, ..) => lineage.moved_meanwhile,
        // Nobody ever copied it.
        (Mark::OnlySource, _, Moved::Unknown) => young() || touched,
        // It stood on the target, which lost it.
        (Mark::OnlySource, ..) => false,
        // What was copied stands there still, and the source has another version.
        (Mark::Differ, Moved::Changed, Moved::Same | Moved::Unsure) => true,
        (Mark::Differ, Moved::Unsure, Moved::Same | Moved::Unsure) => young(),
        // Nothing is known of either, as where others bring the data: what they brought is older than the source's.
        (Mark::Differ, Moved::Unknown, Moved::Unknown) => young() && lineage.target_ns < lineage.newest_ns,
        (Mark::Differ, ..) => false,
        // What was copied stands there still, and the source dropped it.
        (Mark::OnlyTarget, _, Moved::Same | Moved::Unsure) => true,
        (Mark::OnlyTarget, ..) => false,
        (Mark::Unproven | Mark::Behind | Mark::Equal, ..) => false,
    }
}

/// Whether a difference of metadata is no error: an event after the checkpoint names it, and the target's is as the last
/// run left it.
pub fn of_metadata(mark: Mark, as_of: Option<Timestamp>, touched: bool, drifted: bool) -> bool {
    let differs = matches!(mark, Mark::OnlySource | Mark::OnlyTarget | Mark::Differ);
    differs && as_of.is_some() && touched && !drifted
}

/// The words for a difference that is no error.
pub fn words(mark: Mark, detail: Option<&str>) -> String {
    let what = match mark {
        Mark::OnlySource => "not here yet",
        Mark::OnlyTarget => "gone from the source",
        _ => "changed at the source",
    };
    let detail = detail.map_or(String::new(), |detail| format!(" ({detail})"));
    format!("{what}{detail} since the last complete run")
}

/// What events after the checkpoint are about.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    tables: BTreeSet<TableName>,
    databases: BTreeSet<DatabaseName>,
    targets: BTreeSet<TableName>,
    target_databases: BTreeSet<DatabaseName>,
}

impl Touched {
    /// What these events touch.
    pub fn of(seen: &Seen, policy: &Policy) -> Self {
        let tables = seen.touched.iter().chain(&seen.renamed);
        Self {
            targets: tables.clone().map(|table| policy.target_table(table)).collect(),
            tables: tables.cloned().collect(),
            target_databases: seen.databases.iter().map(|database| policy.target_database(database)).collect(),
            databases: seen.databases.clone(),
        }
    }

    /// Whether they name this table of the source.
    pub fn table(&self, table: &TableName) -> bool {
        self.tables.contains(table)
    }

    /// Whether they name the source of this table of the target.
    pub fn target(&self, table: &TableName) -> bool {
        self.targets.contains(table)
    }

    /// Whether they name the source of this database of the target itself.
    pub fn target_database(&self, database: &DatabaseName) -> bool {
        self.target_databases.contains(database)
    }

    /// Whether they name this database of the source itself.
    pub fn database(&self, database: &DatabaseName) -> bool {
        self.databases.contains(database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_OF: i64 = 1_800_000_000_000_000_000;
    const SECOND: i64 = 1_000_000_000;

    fn as_of() -> Option<Timestamp> {
        Some(Timestamp::from_nanosecond(i128::from(AS_OF)).unwrap())
    }

    fn lineage(source: Moved, target: Moved, newest_ns: Option<i64>) -> Lineage {
        Lineage { source, target, newest_ns, target_ns: Some(AS_OF), moved_meanwhile: false }
    }

    #[test]
    fn data_is_behind_only_where_the_source_shows_a_change_and_the_target_stands_as_it_was_left() {
        use Moved::{Changed, Same, Unknown, Unsure};
        let (old, young) = (Some(AS_OF - 60 * SECOND), Some(AS_OF + SECOND));
        let coarse = Some(AS_OF - SECOND);
        let table = [
            // A file that the target lacks.
            (Mark::OnlySource, lineage(Unknown, Unknown, young), false, true, "new"),
            (Mark::OnlySource, lineage(Unknown, Unknown, coarse), false, true, "new, by a coarse clock"),
            (Mark::OnlySource, lineage(Unknown, Unknown, old), false, false, "the run should have copied it"),
            (Mark::OnlySource, lineage(Unknown, Unknown, old), true, true, "moved into place, as an event says"),
            (Mark::OnlySource, lineage(Unknown, Unknown, None), false, false, "nothing says that it is new"),
            (Mark::OnlySource, lineage(Same, Changed, old), true, false, "lost on the target"),
            (Mark::OnlySource, lineage(Changed, Changed, young), true, false, "lost on the target, and changed"),
            // A file that both have.
            (Mark::Differ, lineage(Changed, Same, young), false, true, "overwritten at the source"),
            (Mark::Differ, lineage(Changed, Same, old), false, true, "replaced by an older file at the source"),
            (Mark::Differ, lineage(Changed, Unsure, young), false, true, "the same soon after the run"),
            (Mark::Differ, lineage(Same, Changed, old), true, false, "damaged on the target"),
            (Mark::Differ, lineage(Same, Same, old), true, false, "rotten on the target"),
            (Mark::Differ, lineage(Same, Same, young), true, false, "rotten, and copied a moment ago"),
            (Mark::Differ, lineage(Changed, Changed, young), true, false, "changed on both sides"),
            (Mark::Differ, lineage(Unsure, Same, young), false, true, "overwritten within the clock's step"),
            (Mark::Differ, lineage(Unsure, Same, old), false, false, "rotten"),
            (Mark::Differ, lineage(Unsure, Changed, young), false, false, "damaged a moment after the run"),
            (Mark::Differ, lineage(Unknown, Unknown, young), false, true, "others have not brought it yet"),
            (Mark::Differ, lineage(Unknown, Unknown, old), true, false, "others brought something else"),
            (Mark::Differ, lineage(Unknown, Unknown, coarse), false, false, "somebody changed what they brought"),
            // A file that only the target has.
            (Mark::OnlyTarget, lineage(Changed, Same, None), false, true, "removed at the source"),
            (Mark::OnlyTarget, lineage(Changed, Unsure, None), false, true, "removed soon after the run"),
            (Mark::OnlyTarget, lineage(Changed, Changed, None), true, false, "removed at the source, changed here"),
            (Mark::OnlyTarget, lineage(Unknown, Unknown, None), true, false, "somebody else wrote it here"),
            // What is no difference.
            (Mark::Error, lineage(Changed, Same, young), true, false, "it cannot be read"),
            (Mark::Unproven, lineage(Same, Same, young), true, false, "nobody has read it"),
            (Mark::Equal, lineage(Changed, Same, young), true, false, "equal"),
        ];
        for (mark, lineage, touched, expected, why) in table {
            assert_eq!(of_data(mark, &lineage, as_of(), touched), expected, "{why}");
            assert!(!of_data(mark, &lineage, None, touched), "before the first complete run: {why}");
        }
        let meanwhile = Lineage { moved_meanwhile: true, ..lineage(Same, Same, old) };
        assert!(of_data(Mark::Error, &meanwhile, as_of(), false), "it changed while it was read");
    }

    #[test]
    fn metadata_is_behind_only_where_an_event_names_it_and_the_target_stands_as_it_was_left() {
        for mark in [Mark::OnlySource, Mark::OnlyTarget, Mark::Differ] {
            for (touched, drifted, expected) in
                [(true, false, true), (true, true, false), (false, false, false), (false, true, false)]
            {
                assert_eq!(of_metadata(mark, as_of(), touched, drifted), expected, "{mark:?} {touched} {drifted}");
            }
            assert!(!of_metadata(mark, None, true, false));
        }
        for mark in [Mark::Error, Mark::Unproven, Mark::Equal] {
            assert!(!of_metadata(mark, as_of(), true, false), "{mark:?}");
        }
    }
}
