//! What is to be done for one key, against a model that is so plain that it can be seen to be right; and totals that add up.

use std::collections::BTreeMap;

use distcp::filter::{Filter, Rule};
use distcp::options::{Compare, CopyOptions, LinkMode};
use distcp::plan::{Action, Known, PlanTotals, Reason, Rules, Step, decide};
use manifest::{Attributes, ContentHash, Entry, EntryKind, Evidence, Fingerprint, Listed, ObjectKey};
use proptest::prelude::*;

/// Cases of each property.
const CASES: u32 = 6_000;

/// What a pair of listings and the last manifest prove, from the strongest down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Equal, and the manifest says so already.
    NothingToDo,
    /// Equal; the manifest has to learn it.
    EqualButNew,
    /// Different for certain.
    Different,
    /// Only the content tells.
    Open,
}

/// The model. Written as a list of questions, each answered before the next is asked.
fn model(known: Option<&Known>, source: &Listed, target: &Listed, options: &CopyOptions, same_clock: bool) -> Verdict {
    let (s, t) = (&source.fingerprint, &target.fingerprint);
    let row = known.map(|known| &known.entry);
    let source_unchanged = row.and_then(|row| row.source.as_ref()).is_some_and(|old| unchanged(old, s));
    let target_unchanged = row.is_some_and(|row| unchanged(&row.fingerprint, t));
    let both_unchanged = source_unchanged && target_unchanged;
    let equal = match known {
        Some(known) if both_unchanged && !known.journalled => Verdict::NothingToDo,
        _ => Verdict::EqualButNew,
    };
    let equal_if = |yes: bool| if yes { equal } else { Verdict::Different };

    // Objects of different length are different, whatever else is said.
    if s.size_bytes != t.size_bytes {
        return Verdict::Different;
    }
    // Weak comparisons are taken at their word, because somebody asked for them.
    match options.compare {
        Compare::Size => return equal,
        Compare::Mtime if same_clock => return equal_if(s.mtime_ns == t.mtime_ns),
        Compare::Mtime => return equal_if(matches!((s.mtime_ns, t.mtime_ns), (Some(s), Some(t)) if s <= t)),
        Compare::Etag if s.etag.is_some() && t.etag.is_some() => return equal_if(both_unchanged || s.etag == t.etag),
        _ => {}
    }
    let hash_known = row.is_some_and(|row| row.hash.is_some());
    let hash_wanted = options.hash || options.compare == Compare::Hash;
    // Nothing changed on either side since they were equal.
    if both_unchanged && (hash_known || !hash_wanted) {
        return equal;
    }
    if both_unchanged {
        return Verdict::Open;
    }
    // With a hash of one unchanged side in hand the other one is read: a new ETag may be the same content.
    if hash_known && (source_unchanged || target_unchanged) {
        return Verdict::Open;
    }
    // ETags that are content decide; others only when they are the same, and never when a hash is wanted.
    match (is_md5(&s.etag), is_md5(&t.etag)) {
        (true, true) if s.etag != t.etag => Verdict::Different,
        _ if s.etag.is_some() && s.etag == t.etag && !hash_wanted => equal,
        _ => Verdict::Open,
    }
}

/// The same version for certain: all that both tell is the same, an ETag or a time is among it, and it was not too young.
fn unchanged(old: &Fingerprint, now: &Fingerprint) -> bool {
    let differs = |a: Option<String>, b: Option<String>| a.is_some() && b.is_some() && a != b;
    let text = |time: Option<i64>| time.map(|time| time.to_string());
    let told = (old.etag.is_some() && now.etag.is_some()) || (old.mtime_ns.is_some() && now.mtime_ns.is_some());
    !old.racy
        && told
        && old.size_bytes == now.size_bytes
        && !differs(old.etag.clone(), now.etag.clone())
        && !differs(text(old.mtime_ns), text(now.mtime_ns))
        && !differs(text(old.ctime_ns), text(now.ctime_ns))
        && !differs(old.file_id.map(|id| id.to_string()), now.file_id.map(|id| id.to_string()))
}

fn is_md5(etag: &Option<String>) -> bool {
    etag.as_ref().is_some_and(|etag| etag.len() == 32 && etag.chars().all(|c| c.is_ascii_hexdigit()))
}

/// What the model wants for the key: nothing, or a step.
fn wanted(key: &ObjectKey, case: &Case) -> Option<Step> {
    let Case { known, source, target, listed, options, folders, same_clock } = case;
    let excluded = !listed || options.filter.rules.iter().any(|rule| key.as_str() == Some(rule.pattern.as_str()));
    let Some(source) = source else {
        return Some(match target {
            None => Step::Forget,
            // An excluded extra goes only when that was asked for, and an unlisted one never.
            Some(_) if options.delete && *listed && (!excluded || options.delete_excluded) => Step::Delete,
            Some(_) => Step::Skip,
        });
    };
    let too_small = options.filter.min_size_bytes.is_some_and(|least| source.fingerprint.size_bytes < least);
    let unwanted = match source.kind {
        EntryKind::Special => true,
        EntryKind::Symlink => options.links == LinkMode::Skip,
        EntryKind::Folder => !folders && target.is_none(),
        EntryKind::Object => false,
    };
    if excluded || too_small || unwanted {
        return Some(Step::Skip);
    }
    let Some(target) = target else { return Some(Step::Copy) };
    match (source.kind, target.kind) {
        (EntryKind::Folder, EntryKind::Folder) => return None,
        // A folder, a file and a socket are never equal, even when all are empty.
        (EntryKind::Folder, _) | (_, EntryKind::Folder | EntryKind::Special) => return Some(Step::Copy),
        _ => {}
    }
    // What is a link: said by the listing, or, where listings cannot tell (they have ETags), by the manifest.
    let was_link = known.as_ref().is_some_and(|known| known.entry.kind == EntryKind::Symlink);
    let link = |it: &Listed| it.kind == EntryKind::Symlink || (it.fingerprint.etag.is_some() && was_link);
    if link(source) != link(target) {
        return Some(Step::Copy);
    }
    match model(known.as_ref(), source, target, options, *same_clock) {
        Verdict::NothingToDo => None,
        Verdict::EqualButNew => Some(Step::Record),
        Verdict::Different => Some(Step::Copy),
        Verdict::Open => Some(Step::Compare),
    }
}

/// One key with all that decides its fate.
#[derive(Debug, Clone)]
struct Case {
    known: Option<Known>,
    source: Option<Listed>,
    target: Option<Listed>,
    listed: bool,
    options: CopyOptions,
    folders: bool,
    same_clock: bool,
}

impl Case {
    fn decide(&self, key: &ObjectKey) -> Option<Action> {
        let rules = Rules {
            options: &self.options,
            folders: self.folders,
            comparable_times: self.same_clock,
            reserved: &[],
            time_step_ns: 1,
        };
        decide(key, self.known.clone(), self.source.clone(), self.target.clone(), self.listed, &rules)
    }
}

/// Few values of each kind, so that equal ones meet often.
fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    const ETAGS: [&str; 4] =
        ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210", "0123-2", "kms-like"];
    let etag = proptest::option::weighted(0.6, proptest::sample::select(&ETAGS[..]).prop_map(str::to_owned));
    let time = || proptest::option::weighted(0.7, 1..3i64);
    (0..2u64, time(), time(), etag, proptest::option::of(1..3u64), proptest::bool::weighted(0.15)).prop_map(
        |(size_bytes, mtime_ns, ctime_ns, etag, file_id, racy)| Fingerprint {
            size_bytes,
            mtime_ns,
            ctime_ns: ctime_ns.filter(|_| etag.is_none()),
            file_id: file_id.filter(|_| etag.is_none()),
            etag,
            racy,
            ..Fingerprint::default()
        },
    )
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        12 => Just(EntryKind::Object),
        2 => Just(EntryKind::Symlink),
        2 => Just(EntryKind::Folder),
        1 => Just(EntryKind::Special),
    ]
}

fn options() -> impl Strategy<Value = CopyOptions> {
    const COMPARES: [Compare; 6] =
        [Compare::Auto, Compare::Auto, Compare::Etag, Compare::Mtime, Compare::Size, Compare::Hash];
    const LINKS: [LinkMode; 3] = [LinkMode::Skip, LinkMode::Follow, LinkMode::Preserve];
    let flags = (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.2));
    let filter = (proptest::bool::weighted(0.2), proptest::option::weighted(0.2, Just(1u64)));
    (proptest::sample::select(&COMPARES[..]), proptest::sample::select(&LINKS[..]), flags, filter).prop_map(
        |(compare, links, (delete, delete_excluded, hash), (excluded, min_size_bytes))| {
            let rules = excluded.then(|| Rule { include: false, pattern: "k".into() }).into_iter().collect();
            let mut filter = Filter::default();
            (filter.rules, filter.min_size_bytes) = (rules, min_size_bytes);
            CopyOptions { delete, delete_excluded, hash, compare, links, filter, ..CopyOptions::default() }
        },
    )
}

/// Both listings and the manifest's row; the row is often of just these versions, as it is in life.
fn case() -> impl Strategy<Value = Case> {
    let side = || proptest::option::weighted(0.85, (kind(), fingerprint()));
    let row = (kind(), any::<bool>(), any::<bool>(), fingerprint(), proptest::option::of(fingerprint()));
    let row = (row, any::<bool>(), any::<bool>());
    let rest = (proptest::bool::weighted(0.9), options(), any::<bool>(), any::<bool>());
    (side(), side(), proptest::option::weighted(0.8, row), rest).prop_map(
        |(source, target, row, (listed, options, folders, same_clock))| {
            let listing = |side: Option<(EntryKind, Fingerprint)>| {
                side.map(|(kind, fingerprint)| Listed { key: "k".into(), kind, fingerprint })
            };
            let (source, target) = (listing(source), listing(target));
            let known = row.map(|((kind, hashed, journalled, mut fingerprint, mut from), same_source, same_target)| {
                if let Some(source) = source.as_ref().filter(|_| same_source) {
                    from = Some(source.fingerprint.clone());
                }
                if let Some(target) = target.as_ref().filter(|_| same_target) {
                    fingerprint = target.fingerprint.clone();
                }
                let kind = if kind == EntryKind::Symlink { kind } else { EntryKind::Object };
                let hash = hashed.then(|| ContentHash::of(b"known"));
                let entry = Entry {
                    key: "k".into(),
                    kind,
                    hash,
                    evidence: if hashed { Evidence::Read } else { Evidence::None },
                    chunks: None,
                    fingerprint,
                    source: from,
                    attributes: Attributes::new(),
                };
                Known { entry, journalled }
            });
            Case { known, source, target, listed, options, folders, same_clock }
        },
    )
}

/// Some key has to be in one of the three streams.
fn exists(case: &Case) -> bool {
    case.known.is_some() || case.source.is_some() || case.target.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_key_is_decided_as_the_model_decides(case in case().prop_filter("no key", exists)) {
        let key = ObjectKey::from("k");
        let action = case.decide(&key);
        prop_assert_eq!(action.as_ref().map(|action| action.step), wanted(&key, &case), "{:?}", action);
        let Some(action) = action else { return Ok(()) };

        // What a write will expect is what was listed; what is compared or copied has a source version.
        prop_assert_eq!(&action.source, &case.source.as_ref().map(|it| it.fingerprint.clone()));
        prop_assert_eq!(&action.target, &case.target.as_ref().map(|it| it.fingerprint.clone()));
        prop_assert!(!matches!(action.step, Step::Copy | Step::Compare) || action.source.is_some());
        // Safety, said without the model: nothing that the source has is deleted, and nothing unless it was asked for.
        if action.step == Step::Delete {
            prop_assert!(case.source.is_none() && case.target.is_some() && case.options.delete && case.listed);
            prop_assert_eq!(action.reason, Reason::Extra);
        }
        // Equality is recorded of the versions that were seen, and a hash only of versions that are unchanged.
        if action.step == Step::Record {
            let row = action.entry.expect("a row to record");
            let (source, target) = (case.source.as_ref().expect("equal"), case.target.as_ref().expect("equal"));
            prop_assert!(row.source.as_ref().is_some_and(|seen| seen.looks_like(&source.fingerprint)
                || *seen == source.fingerprint));
            prop_assert_eq!(row.fingerprint.size_bytes, target.fingerprint.size_bytes);
            if row.hash.is_some() {
                let before = &case.known.as_ref().expect("hashes come from the last manifest").entry;
                prop_assert!(unchanged(&before.fingerprint, &target.fingerprint));
                prop_assert!(before.source.as_ref().is_some_and(|old| unchanged(old, &source.fingerprint)));
            }
        }
    }

    #[test]
    fn rule_14_totals_add_up_over_any_plan(cases in proptest::collection::vec(case(), 0..40)) {
        let mut totals = PlanTotals::default();
        let mut steps: BTreeMap<String, u64> = BTreeMap::new();
        let (mut listed, mut quiet, mut bytes) = (0, 0, 0);
        for case in cases.iter().filter(|case| exists(case)) {
            let action = case.decide(&"k".into());
            totals.add(case.source.as_ref(), case.target.as_ref(), action.as_ref());
            listed += u64::from(case.source.is_some() || case.target.is_some());
            bytes += case.source.as_ref().map_or(0, |source| source.fingerprint.size_bytes);
            match action {
                Some(action) => *steps.entry(format!("{:?}", action.step)).or_default() += 1,
                None => quiet += 1,
            }
        }
        let of = |step: Step| steps.get(&format!("{step:?}")).copied().unwrap_or_default();
        prop_assert!(totals.add_up(), "{:?}", totals);
        prop_assert_eq!((totals.listed, totals.source_bytes), (listed, bytes));
        prop_assert_eq!(totals.equal, quiet + of(Step::Record));
        prop_assert_eq!((totals.copies, totals.compares), (of(Step::Copy), of(Step::Compare)));
        prop_assert_eq!((totals.deletes, totals.skipped), (of(Step::Delete), of(Step::Skip)));
        prop_assert_eq!((totals.failed, totals.forgotten), (of(Step::Fail), of(Step::Forget)));
        prop_assert!(totals.overwrites <= totals.copies && totals.links <= totals.skipped);
    }
}
