//! What the last manifest says of both sides of a difference: whether either is still what it was when it was copied. Pure.
//!
//! It tells a replica that is behind its source from one that is wrong; who decides which is which knows more than a listing.

use manifest::{Entry, Fingerprint, Listed};

/// What became of an object since the last manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Moved {
    /// The manifest does not know it.
    #[default]
    Unknown,
    /// It is certainly the version that the manifest knows.
    Same,
    /// It looks like that version, and was too young then to be sure (rule 13).
    Unsure,
    /// It is another version, or gone.
    Changed,
}

impl Moved {
    fn of(before: Option<&Fingerprint>, now: Option<&Listed>) -> Self {
        match (before, now.map(|listed| &listed.fingerprint)) {
            (None, _) => Self::Unknown,
            (Some(before), Some(now)) if before.proves_unchanged(now) => Self::Same,
            (Some(before), Some(now)) if before.looks_like(now) => Self::Unsure,
            (Some(_), _) => Self::Changed,
        }
    }
}

/// Where the two sides of a key come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lineage {
    /// What became of the source's object.
    pub source: Moved,
    /// What became of the target's.
    pub target: Moved,
    /// The newest time that the source's object shows, of its content or of its name, in nanoseconds since 1970.
    pub newest_ns: Option<i64>,
    /// The same of the target's object.
    pub target_ns: Option<i64>,
    /// The source's object was changed or removed while it was read.
    pub moved_meanwhile: bool,
}

impl Lineage {
    /// Of the manifest's row and of what both sides list.
    pub(super) fn of(row: Option<&Entry>, source: Option<&Listed>, target: Option<&Listed>) -> Self {
        let newest = |listed: Option<&Listed>| {
            let fingerprint = &listed?.fingerprint;
            fingerprint.mtime_ns.max(fingerprint.ctime_ns)
        };
        Self {
            source: Moved::of(row.and_then(|row| row.source.as_ref()), source),
            target: Moved::of(row.map(|row| &row.fingerprint), target),
            newest_ns: newest(source),
            target_ns: newest(target),
            moved_meanwhile: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest::{EntryKind, Evidence};

    fn listed(mtime_ns: i64, ctime_ns: Option<i64>) -> Listed {
        let fingerprint = Fingerprint { size_bytes: 1, mtime_ns: Some(mtime_ns), ctime_ns, ..Fingerprint::default() };
        Listed { key: "k".into(), kind: EntryKind::Object, fingerprint }
    }

    fn row(source: &Listed, target: &Listed) -> Entry {
        Entry {
            key: "k".into(),
            kind: EntryKind::Object,
            hash: None,
            evidence: Evidence::Read,
            chunks: None,
            fingerprint: target.fingerprint.clone(),
            source: Some(source.fingerprint.clone()),
            attributes: Default::default(),
        }
    }

    #[test]
    fn each_side_is_compared_with_what_was_copied() {
        let (s, t, other) = (listed(1, None), listed(2, None), listed(3, None));
        let known = row(&s, &t);
        let mut young = known.clone();
        young.fingerprint.racy = true;
        let table = [
            (None, Some(&s), Some(&t), Moved::Unknown, Moved::Unknown),
            (Some(&known), Some(&s), Some(&t), Moved::Same, Moved::Same),
            (Some(&known), Some(&other), Some(&t), Moved::Changed, Moved::Same),
            (Some(&known), Some(&s), None, Moved::Same, Moved::Changed),
            (Some(&known), None, Some(&other), Moved::Changed, Moved::Changed),
            (Some(&young), Some(&s), Some(&t), Moved::Same, Moved::Unsure),
        ];
        for (row, source, target, of_source, of_target) in table {
            let found = Lineage::of(row, source, target);
            assert_eq!((found.source, found.target), (of_source, of_target), "{source:?} {target:?}");
        }
    }

    #[test]
    fn an_old_file_that_was_moved_into_place_is_as_young_as_its_name() {
        assert_eq!(Lineage::of(None, Some(&listed(5, Some(9))), None).newest_ns, Some(9));
        assert_eq!(Lineage::of(None, Some(&listed(5, None)), None).newest_ns, Some(5));
        let found = Lineage::of(None, None, Some(&listed(5, None)));
        assert_eq!((found.newest_ns, found.target_ns), (None, Some(5)), "each side has its own");
    }
}
