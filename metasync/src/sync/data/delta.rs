//! The logs of Delta tables: which commits a run carries, and in which order, so that a reader of the replica always finds a
//! version that is whole.
//!
//! A run plans the logs before it lists any data. What a plan names is the version that the replica gets: its data files stood
//! there before, so the data that is listed after holds them. Commits that come in meanwhile are the next run's, whatever the
//! log holds by the time that it is copied; so is a checkpoint whose sidecars were not planned. Then data, sidecars of checkpoints,
//! and the log by name, one file after the other where the replica has a log already: a checkpoint stands before the commit of
//! its number, and no commit before the one that it builds on. A kill anywhere in that leaves the last commit that arrived as the
//! version that is read, and data files that no commit names yet; the next run goes on behind it.
//!
//! `_last_checkpoint` is not carried. It is written over at any moment, and may name a checkpoint that the replica does not have
//! yet; readers that do not find it list the log.
//!
//! What is relied on, of Delta's protocol (github.com/delta-io/delta, PROTOCOL.md): commits are `<20 digits>.json`, all files
//! of a version begin with its 20 digits, and a commit is never written twice. A commit that is another one on the replica
//! is a fork: nobody can say which of the two histories is meant, and that table stops.

use super::{Draft, Tree};
use crate::roots::{Owner, Root, Wave};
use crate::sync::survey::Survey;
use distcp::list::within::Within;
use distcp::plan::{Action, Step};
use manifest::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};

/// Digits of a version in the name of a file.
const DIGITS: usize = 20;
/// Names the newest checkpoint; a hint.
const LAST_CHECKPOINT: &[u8] = b"_last_checkpoint";
/// Files that checkpoints name.
const SIDECARS: &str = "_sidecars";

/// What a commit is called, and its checksum, behind the version and a dot; sorted.
const OF_COMMIT: [&str; 2] = ["crc", "json"];
/// A checkpoint is made right after its commit. One that was not planned is looked for in this many versions.
const CHECKPOINT_WINDOW: u64 = 1_000;

/// What a plan says of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pin {
    /// The newest version of which a file is planned.
    newest: Option<u64>,
    /// The newest version of which a checkpoint is planned.
    newest_checkpoint: Option<u64>,
    /// Sidecars are planned.
    has_sidecars: bool,
}

/// What a plan says of the logs of a tree, by their folders. Logs of which nothing is planned are not named.
pub type Pins = BTreeMap<ObjectKey, Pin>;

/// Commits of the replica that are others than the source's: tables, by their place in the survey, with the commit.
pub type Forks = BTreeMap<usize, String>;

/// Takes an action of a tree of logs. What somebody else wrote on the target is no fork: the run stops for it (rule 20).
pub fn take(action: &Action, is_foreign: bool, root: &Root, pins: &mut Pins, forks: &mut Forks) {
    let Some((folder, name)) = of_log(root, &action.key) else { return };
    let name = name.as_bytes();
    let pin = pins.entry(folder).or_default();
    let version = version(name);
    pin.newest = pin.newest.max(version);
    if version.is_some_and(|_| !is_of_commit(name)) {
        pin.newest_checkpoint = pin.newest_checkpoint.max(version);
    }
    pin.has_sidecars |= name.starts_with(SIDECARS.as_bytes());
    let is_commit = version.is_some() && name.get(DIGITS..) == Some(b".json");
    let is_replaced = action.step == Step::Copy && action.source.is_some() && action.target.is_some();
    if is_commit && is_replaced && !is_foreign {
        for owner in root.owners(&action.key) {
            if let Owner::Table(at) = owner {
                forks.entry(at).or_insert_with(|| root.to.below(&action.key.escaped()).to_string());
            }
        }
    }
}

/// Whether a file of a version is its commit, or the checksum of that: anything else may name sidecars.
fn is_of_commit(name: &[u8]) -> bool {
    OF_COMMIT.iter().any(|end| name.get(DIGITS + 1..) == Some(end.as_bytes()))
}

/// The folder of a log that holds the key, and the key in it.
fn of_log(root: &Root, key: &ObjectKey) -> Option<(ObjectKey, ObjectKey)> {
    let (folder, _) = root.around(key).next()?;
    let name = key.strip_prefix(folder).filter(|name| !name.is_empty())?;
    Some((folder.clone(), name))
}

/// The version that a file of a log belongs to.
fn version(name: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(name.get(..DIGITS)?).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && name.get(DIGITS) == Some(&b'.');
    digits.parse().ok().filter(|_| is_number)
}

/// The key of this name in a log.
fn key(folder: &ObjectKey, name: &[u8]) -> ObjectKey {
    ObjectKey::from(name.to_vec()).below(folder)
}

/// What of these logs is never carried, as stretches of keys.
pub fn hints(root: &Root) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let names = root.folders.keys().map(|folder| key(folder, LAST_CHECKPOINT).as_bytes().to_vec());
    names.map(|name| (name.clone(), [&name[..], &[0]].concat()))
}

/// The logs that have sidecars to carry: their folders.
fn sidecars(pins: &Pins) -> Vec<ObjectKey> {
    pins.iter().filter(|(_, pin)| pin.has_sidecars).map(|(folder, _)| key(folder, SIDECARS.as_bytes())).collect()
}

/// The part of a tree of logs that was planned.
fn within(within: Within, root: &Root, pins: &Pins) -> Within {
    let mut gaps = Vec::new();
    for folder in root.folders.keys() {
        let from = |name: &[u8]| key(folder, name).as_bytes().to_vec();
        let Some(pin) = pins.get(folder) else {
            // Nothing was planned: what is there now came later. A slash is followed by 0.
            gaps.push(match folder.is_empty() {
                true => (Vec::new(), vec![0xff; 4]),
                false => ([folder.as_bytes(), b"/"].concat(), [folder.as_bytes(), b"0"].concat()),
            });
            continue;
        };
        // What is named by a number is all that sorts between the digits and what follows them.
        let newer = pin.newest.map_or(Some(0), |newest| newest.checked_add(1));
        gaps.extend(newer.map(|newer| (from(format!("{newer:0DIGITS$}").as_bytes()), from(b":"))));
        gaps.extend(pin.newest.iter().flat_map(|newest| {
            let after = pin.newest_checkpoint.map_or(0, |checkpoint| checkpoint + 1);
            (after.max(newest.saturating_sub(CHECKPOINT_WINDOW))..=*newest)
                .flat_map(|version| beside_commit(&from, version))
        }));
    }
    within.without(gaps)
}

impl Tree {
    /// Takes over what its plan says of logs: no more than that is copied, and where anything of them stands on the target, where
    /// somebody may read it, one file after the other.
    pub fn pin(&mut self, draft: &Draft) {
        self.pins.clone_from(&draft.pins);
        self.named.forget();
        if self.root.wave == Wave::Log && draft.totals.target_objects > 0 {
            self.job.limits.concurrency = 1;
        }
    }

    /// The sidecars that checkpoints of its logs name, and the logs as they were planned without these tables; `None` where
    /// nothing is left.
    pub fn logs(&self, without: &BTreeSet<usize>, survey: &Survey) -> Option<(Option<Self>, Self)> {
        let mut logs = self.without(without, survey)?;
        let meant = logs.job.within.clone().unwrap_or_default();
        let planned = within(meant.as_ref().clone(), &logs.root, &logs.pins);
        let named: Vec<ObjectKey> = sidecars(&logs.pins).into_iter().filter(|folder| planned.holds(folder)).collect();
        let first = (!named.is_empty()).then(|| {
            let mut first = self.with(Within::new(named).keep_others(true));
            // Nothing goes before the checkpoints that name it.
            first.job.options.delete = false;
            first
        });
        logs.job = logs.job_within(planned);
        Some((first, logs))
    }
}

/// The stretches of names of a version that are no commit's: a checkpoint that came after the plan, and before its sidecars.
fn beside_commit(from: &impl Fn(&[u8]) -> Vec<u8>, version: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let name = |end: &str| from(format!("{version:0DIGITS$}.{end}").as_bytes());
    let mut stretches = Vec::with_capacity(OF_COMMIT.len() + 1);
    let mut start = name("");
    for end in OF_COMMIT {
        stretches.push((start, name(end)));
        start = [&name(end)[..], &[0]].concat();
    }
    // A dot is followed by a slash.
    stretches.push((start, from(format!("{version:0DIGITS$}/").as_bytes())));
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;
    use distcp::plan::Reason;
    use manifest::{EntryKind, Fingerprint};

    fn root(folders: &[&str]) -> Root {
        let place = |text| Location::parse(text).unwrap();
        let owners = |(at, folder): (usize, &&str)| (ObjectKey::from(*folder), vec![Owner::Table(at)]);
        Root {
            from: place("/w/db"),
            to: place("/r/db"),
            wave: Wave::Log,
            folders: folders.iter().enumerate().map(owners).collect(),
            except: Vec::new(),
            narrowed: crate::roots::Narrowed::default(),
            retired: Vec::new(),
            half_done: false,
            late: Vec::new(),
        }
    }

    fn action(key: &str, is_there: bool) -> Action {
        let size = |size_bytes| Fingerprint { size_bytes, ..Fingerprint::default() };
        Action {
            key: ObjectKey::from(key),
            step: Step::Copy,
            reason: Reason::New,
            kind: EntryKind::Object,
            source: Some(size(1)),
            target: is_there.then(|| size(2)),
            entry: None,
            donor: None,
        }
    }

    fn commit(version: u64) -> String {
        format!("{version:020}.json")
    }

    fn pinned(root: &Root, keys: &[String]) -> (Pins, Forks) {
        let (mut pins, mut forks) = (Pins::new(), Forks::new());
        keys.iter().for_each(|key| take(&action(key, false), false, root, &mut pins, &mut forks));
        (pins, forks)
    }

    #[test]
    fn commits_that_came_after_the_plan_are_left_to_the_next_run() {
        let root = root(&["a/_delta_log", "b/_delta_log"]);
        let planned = [format!("a/_delta_log/{}", commit(4)), format!("a/_delta_log/{}", commit(5))];
        let (pins, _) = pinned(&root, &planned);
        let meant = within(Within::new(root.folders.keys().cloned()), &root, &pins);
        let holds = |key: String| meant.holds(&ObjectKey::from(key.as_str()));
        for version in 0..=5 {
            assert!(holds(format!("a/_delta_log/{}", commit(version))), "{version}");
            assert!(holds(format!("a/_delta_log/{version:020}.crc")), "{version}");
            for checkpoint in ["checkpoint.parquet", "80a083e8.checkpoint.json", "checkpoint.1.2.parquet"] {
                assert!(
                    !holds(format!("a/_delta_log/{version:020}.{checkpoint}")),
                    "{version}: no sidecar was planned"
                );
            }
        }
        for version in [6, 7, 10, 100, 12_345] {
            assert!(!holds(format!("a/_delta_log/{}", commit(version))), "{version}");
            assert!(!holds(format!("a/_delta_log/{version:020}.checkpoint.parquet")), "{version}");
        }
        assert!(holds("a/_delta_log/_sidecars/x.parquet".to_owned()));
        // Of the other log nothing was planned.
        assert!(!holds(format!("b/_delta_log/{}", commit(0))) && !holds("b/_delta_log/_last_checkpoint".to_owned()));
    }

    #[test]
    fn a_checkpoint_that_was_planned_is_carried_and_those_after_it_are_not() {
        let root = root(&[""]);
        let checkpoint = |version: u64| format!("{version:020}.checkpoint.parquet");
        let (pins, _) = pinned(&root, &[checkpoint(4), commit(5), commit(6), format!("{:020}.crc", 6)]);
        let meant = within(Within::new([ObjectKey::default()]), &root, &pins);
        let holds = |key: String| meant.holds(&ObjectKey::from(key.as_str()));
        assert!(holds(checkpoint(4)) && !holds(checkpoint(5)) && !holds(checkpoint(6)));
        assert!((4..7).all(|version| holds(commit(version))) && !holds(commit(7)));
    }

    #[test]
    fn of_a_log_without_a_plan_nothing_is_carried_and_its_hint_never() {
        let root = root(&["", "a/_delta_log"]);
        let meant = within(Within::new([ObjectKey::default()]), &root, &Pins::new());
        assert!(!meant.holds(&ObjectKey::from(commit(3).as_str())));
        let hinted = Within::new([ObjectKey::default()]).without(hints(&root));
        for key in ["_last_checkpoint", "a/_delta_log/_last_checkpoint"] {
            assert!(!hinted.holds(&ObjectKey::from(key)), "{key}");
        }
        for key in ["a/_delta_log/_last_checkpoint2", "a/_last_checkpoint", "a/_delta_log/_sidecars/x.parquet"] {
            assert!(hinted.holds(&ObjectKey::from(key)), "{key}");
        }
    }

    #[test]
    fn a_commit_that_is_another_one_on_the_replica_is_a_fork() {
        let root = root(&["a/_delta_log", "b/_delta_log"]);
        let (mut pins, mut forks) = (Pins::new(), Forks::new());
        for key in ["a/_delta_log/_last_checkpoint", "a/_delta_log/00000000000000000003.crc", "b/_delta_log/3.json"] {
            take(&action(key, true), false, &root, &mut pins, &mut forks);
        }
        assert_eq!(forks, Forks::new(), "what is written over is none");
        let replaced = action(&format!("b/_delta_log/{}", commit(3)), true);
        take(&replaced, true, &root, &mut pins, &mut forks);
        assert_eq!(forks, Forks::new(), "somebody else wrote it");
        take(&replaced, false, &root, &mut pins, &mut forks);
        assert_eq!(forks, Forks::from([(1, format!("file:/r/db/b/_delta_log/{}", commit(3)))]));
    }

    #[test]
    fn versions_are_twenty_digits_and_a_dot() {
        let of = |name: &str| version(name.as_bytes());
        assert_eq!(of(&commit(7)), Some(7));
        assert_eq!(of("00000000000000000012.checkpoint.0000000001.0000000002.parquet"), Some(12));
        assert_eq!(of("00000000000000000012.80a083e8-7026-4e79-81be-64bd76c43a11.checkpoint.json"), Some(12));
        for other in ["_last_checkpoint", "0000000000000000001.json", "000000000000000000012json", "7.json", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
