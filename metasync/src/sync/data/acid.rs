//! Files of transactional and Iceberg tables while they are planned and copied: none may change, and none may be missing when readers are told
//! of it. Pure.

use super::delta::Forks;
use crate::roots::{Owner, Root};
use distcp::event::{Event, Outcome};
use distcp::plan::{Action, Step, VANISHED};
use manifest::{EntryKind, ObjectKey};

/// An object of a transactional table that was to be copied and is gone, as after a cleaner, with what that means.
pub(super) fn vanished<'a>(event: &'a Event, root: &Root) -> Option<(&'a ObjectKey, String)> {
    let Event::Object(report) = event else { return None };
    let is_gone = report.outcome == Outcome::Skipped && report.reason.ends_with(VANISHED);
    (is_gone && root.narrowed.holds(&report.key)).then(|| {
        let why = format!(
            "{}: it {VANISHED} while it was copied, as after a compaction or when versions expire; the next run looks again",
            report.key.escaped()
        );
        (&report.key, why)
    })
}

/// Takes an action of a plan: a file of a transactional table that would become another one.
pub(super) fn take(action: &Action, is_foreign: bool, root: &Root, replaced: &mut Forks) {
    let becomes_another = action.step == Step::Copy && action.source.is_some() && action.target.is_some();
    if !becomes_another || is_foreign || action.kind == EntryKind::Folder || !root.narrowed.holds(&action.key) {
        return;
    }
    for owner in root.owners(&action.key) {
        if let Owner::Table(at) = owner {
            replaced.entry(at).or_insert_with(|| root.to.below(&action.key.escaped()).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;
    use crate::roots::{Narrowed, Wave};
    use distcp::event::{Means, ObjectReport};
    use distcp::plan::Reason;
    use manifest::Fingerprint;

    fn root() -> Root {
        let owners = |(at, folder): (usize, &str)| (ObjectKey::from(folder), vec![Owner::Table(at)]);
        Root {
            from: Location::parse("/w/db").unwrap(),
            to: Location::parse("/r/db").unwrap(),
            wave: Wave::Data,
            folders: ["plain", "acid"].into_iter().enumerate().map(owners).collect(),
            except: Vec::new(),
            retired: Vec::new(),
            half_done: false,
            late: Vec::new(),
            narrowed: Narrowed { folders: [ObjectKey::from("acid")].into(), ..Narrowed::default() },
        }
    }

    #[test]
    fn a_file_of_a_transactional_table_that_vanished_is_told_and_one_of_another_is_not() {
        let event = |key: &str, outcome, reason: &str| {
            Event::Object(ObjectReport {
                key: ObjectKey::from(key),
                outcome,
                means: Means::None,
                size_bytes: 1,
                hash: None,
                reason: reason.to_owned(),
                error: None,
            })
        };
        let told = |event: &Event| vanished(event, &root()).map(|(_, why)| why);
        let gone = told(&event("acid/delta_1_1_0/bucket_0", Outcome::Skipped, VANISHED)).unwrap();
        assert!(gone.starts_with("acid/delta_1_1_0/bucket_0: it vanished from the source"), "{gone}");
        assert_eq!(told(&event("plain/f", Outcome::Skipped, VANISHED)), None);
        assert_eq!(told(&event("acid/delta_1_1_0/bucket_0", Outcome::Skipped, "filtered")), None);
        assert_eq!(told(&event("acid/delta_1_1_0/bucket_0", Outcome::Copied, "new")), None);
        assert_eq!(told(&Event::Note(VANISHED.to_owned())), None);
    }

    #[test]
    fn a_file_that_would_become_another_is_told_by_its_table() {
        let action = |key: &str, step, is_there: bool| Action {
            key: ObjectKey::from(key),
            step,
            reason: Reason::New,
            kind: EntryKind::Object,
            source: Some(Fingerprint::default()),
            target: is_there.then(Fingerprint::default),
            entry: None,
            donor: None,
        };
        let mut replaced = Forks::new();
        take(&action("acid/delta_1_1_0/b", Step::Copy, false), false, &root(), &mut replaced);
        take(&action("acid/delta_1_1_0/b", Step::Compare, true), false, &root(), &mut replaced);
        take(&action("acid/delta_1_1_0/b", Step::Copy, true), true, &root(), &mut replaced);
        take(&action("plain/b", Step::Copy, true), false, &root(), &mut replaced);
        assert_eq!(replaced, Forks::new());
        take(&action("acid/delta_1_1_0/b", Step::Copy, true), false, &root(), &mut replaced);
        assert_eq!(replaced, Forks::from([(1, "file:/r/db/acid/delta_1_1_0/b".to_owned())]));
    }
}
