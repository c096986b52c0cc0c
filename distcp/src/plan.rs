//! What to do, decided before anything is written: pure functions from three sorted streams to actions.
//!
//! A plan is the difference to the last committed manifest: an action for every key that needs work or a word, nothing for
//! keys that are equal and already in the manifest. It is complete: applying it takes no option that is not in it.

use manifest::{Entry, EntryKind, Fingerprint, Listed, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::filter::{Filter, LeftOut};
use crate::options::{Compare, CopyOptions, LinkMode};

pub mod donors;
pub mod file;
pub mod given_up;
pub mod guard;
pub mod live;
pub mod replaced;

/// The word for what was listed and is gone when it is to be read.
pub const VANISHED: &str = "vanished from the source";
/// The word for what is not done because readers are in its folder ([`live`]).
pub const HELD: &str = "readers are in its folder";
/// The word for what was found to differ there.
pub const DIFFERS: &str = "it differs, and readers are in its folder";

/// The word for a commit of a Delta table that is another one on the target.
pub const FORK: &str = "another commit of this version stands on the target: remove the folder of that table from TARGET, or copy that folder alone with --layout plain";

/// What is to be done for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make the target hold the source's version.
    Copy,
    /// Find out by content whether both are equal; copy if not.
    Compare,
    /// Remove from the target.
    Delete,
    /// Both are equal; the manifest has to learn it.
    Record,
    /// Neither side has it any more; the manifest has to forget it.
    Forget,
    /// Leave alone.
    Skip,
    /// Cannot be done; counted as failed.
    Fail,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The target does not have it.
    New,
    /// A file, link or folder stands where another kind is wanted.
    KindDiffers,
    /// Sizes differ.
    SizeDiffers,
    /// ETags of equal form differ.
    EtagDiffers,
    /// Times differ (`--compare mtime`).
    TimeDiffers,
    /// The source's fingerprint is not the one of the last manifest.
    SourceChanged,
    /// The target is not what the last run left.
    TargetChanged,
    /// Nothing is known of either side.
    Unknown,
    /// The last listing saw it too young to be trusted (rule 13).
    Young,
    /// Its hash is wanted (`--hash`).
    Unproven,
    /// Asked for: what the manifest says of the target is not taken for proof.
    Afresh,
    /// A journal, or equal evidence, shows that both are equal.
    Equal,
    /// Only on the target, and deletes were asked for.
    Extra,
    /// Only on the target, kept.
    ExtraKept,
    /// Gone from both sides.
    Gone,
    /// Left out by a pattern or `--files-from`.
    Filtered,
    /// Left out by size.
    FilteredBySize,
    /// Left out by age.
    FilteredByAge,
    /// A symbolic link, and `--links skip`.
    Link,
    /// A socket, pipe or device, or with `--links follow` a link that leads nowhere or back to a folder above it.
    Special,
    /// An empty folder, and the other side has no folders.
    Folder,
    /// State or trash of this run stands there on the target (rule 1).
    Reserved,
    /// Somebody else wrote it, in a folder that is given up ([`given_up`]).
    Theirs,
    /// Readers are in its folder, which would change under them ([`live`]).
    Held,
    /// The same, of what would have to be compared.
    HeldCompare,
    /// Its table was written to while it was listed ([`crate::layout::pin`]).
    Later,
    /// Another commit of a table's version stands on the target.
    Fork,
}

impl Reason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Reason::New => "new",
            Reason::KindDiffers => "another kind",
            Reason::SizeDiffers => "size differs",
            Reason::EtagDiffers => "etag differs",
            Reason::TimeDiffers => "time differs",
            Reason::SourceChanged => "source changed",
            Reason::TargetChanged => "target changed",
            Reason::Unknown => "not known yet",
            Reason::Young => "too young when last listed",
            Reason::Unproven => "no hash yet",
            Reason::Afresh => "read again",
            Reason::Equal => "equal",
            Reason::Extra => "only on the target",
            Reason::ExtraKept => "extra",
            Reason::Gone => "gone from both sides",
            Reason::Filtered => LeftOut::Key.reason(),
            Reason::FilteredBySize => LeftOut::Size.reason(),
            Reason::FilteredByAge => LeftOut::Age.reason(),
            Reason::Link => "link",
            Reason::Special => "socket, pipe, device, or link that leads nowhere",
            Reason::Folder => "empty folder",
            Reason::Reserved => "state or trash stands there",
            Reason::Theirs => "kept: somebody else wrote it",
            Reason::Held | Reason::HeldCompare => HELD,
            Reason::Later => "its table was written to while it was listed: the next run takes it",
            Reason::Fork => FORK,
        }
    }
}

/// An object on the target that holds the wanted content already (rules 11, 12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Donor {
    /// Its row in the last committed manifest: its key, hash and the target's fingerprint.
    pub entry: Entry,
}

/// One row of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The key, on both sides.
    pub key: ObjectKey,
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// What stands at the source (at the target, where the source has nothing).
    pub kind: EntryKind,
    /// The source's version, if it has one.
    pub source: Option<Fingerprint>,
    /// What the target holds now; a write expects exactly this (`None`: nothing).
    pub target: Option<Fingerprint>,
    /// The last manifest's row for the key; for [`Step::Record`] the row to write.
    pub entry: Option<Entry>,
    /// Where the target can copy from.
    pub donor: Option<Donor>,
}

impl manifest::Keyed for Action {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Action {
    /// Bytes of content that the action is about.
    pub fn size_bytes(&self) -> u64 {
        self.source.as_ref().or(self.target.as_ref()).map_or(0, |fingerprint| fingerprint.size_bytes)
    }
}

impl Action {
    /// Whether the target holds a version that the last manifest does not know: somebody else wrote it. By ETags where both
    /// have one, else by size and time.
    pub fn is_touched(&self) -> bool {
        let (Some(target), Some(entry)) = (&self.target, &self.entry) else { return self.target.is_some() };
        let left = &entry.fingerprint;
        let other = match (&left.etag, &target.etag) {
            (Some(left), Some(now)) => left != now,
            _ => left.mtime_ns.zip(target.mtime_ns).is_some_and(|(left, now)| left != now),
        };
        left.size_bytes != target.size_bytes || other
    }
}

/// A row of the last manifest as the next run sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The row.
    pub entry: Entry,
    /// It comes from a journal of an unfinished run: the manifest does not have it yet.
    pub journalled: bool,
}

/// What decides a key's fate besides the three streams.
#[derive(Debug, Clone)]
pub struct Rules<'a> {
    /// What was asked for.
    pub options: &'a CopyOptions,
    /// Both stores have real folders.
    pub folders: bool,
    /// Both stores are file systems: times can be compared for equality.
    pub comparable_times: bool,
    /// Where on the target nothing is ever written: state and trash (rule 1).
    pub reserved: &'a [ObjectKey],
    /// They are compared in steps of this many nanoseconds: the coarser of both stores.
    pub time_step_ns: i64,
}

/// What is to be done for one key; `None` when both sides are equal and the manifest knows.
///
/// `listed` says whether `--files-from` names the key (`true` without it). At least one of the three is there.
pub fn decide(
    key: &ObjectKey,
    known: Option<Known>,
    source: Option<Listed>,
    target: Option<Listed>,
    listed: bool,
    rules: &Rules<'_>,
) -> Option<Action> {
    let filter = &rules.options.filter;
    let known = if rules.options.afresh { known.map(unproving) } else { known };
    let (step, reason, entry) = match (&source, &target) {
        (None, None) => (Step::Forget, Reason::Gone, None),
        (None, Some(_)) => extra(key, listed, filter, rules.options),
        (Some(source), target) => match skip_source(source, target.as_ref(), listed, rules) {
            Some(reason) => (Step::Skip, reason, None),
            None => both(known.as_ref(), source, target.as_ref(), rules)?,
        },
    };
    let kind = source.as_ref().or(target.as_ref()).map_or(EntryKind::Object, |listed| listed.kind);
    let entry = entry.or(known.map(|known| known.entry));
    Some(Action {
        key: key.clone(),
        step,
        reason,
        kind,
        source: source.map(|listed| listed.fingerprint),
        target: target.map(|listed| listed.fingerprint),
        entry,
        donor: None,
    })
}

type Decision = (Step, Reason, Option<Entry>);

/// A key that only the target has.
fn extra(key: &ObjectKey, listed: bool, filter: &Filter, options: &CopyOptions) -> Decision {
    let taken = listed && filter.takes_key(key);
    // Rule 7: with `--files-from` only listed keys can be deleted, whatever else was asked for.
    let deletable = options.delete && listed && (taken || options.delete_excluded);
    match (deletable, taken) {
        (true, _) => (Step::Delete, Reason::Extra, None),
        (false, true) => (Step::Skip, Reason::ExtraKept, None),
        (false, false) => (Step::Skip, Reason::Filtered, None),
    }
}

fn skip_source(source: &Listed, target: Option<&Listed>, listed: bool, rules: &Rules<'_>) -> Option<Reason> {
    if !listed {
        return Some(Reason::Filtered);
    }
    match rules.options.filter.leaves_out(source) {
        Some(LeftOut::Key) => return Some(Reason::Filtered),
        Some(LeftOut::Size) => return Some(Reason::FilteredBySize),
        Some(LeftOut::Age) => return Some(Reason::FilteredByAge),
        None => {}
    }
    if rules.reserved.iter().any(|folder| source.key.is_within(folder)) {
        return Some(Reason::Reserved);
    }
    match source.kind {
        EntryKind::Special => Some(Reason::Special),
        EntryKind::Symlink if rules.options.links == LinkMode::Skip => Some(Reason::Link),
        EntryKind::Folder if !rules.folders && target.is_none() => Some(Reason::Folder),
        _ => None,
    }
}

/// A key that takes part and that the source has. `None`: equal, and the manifest says so already.
fn both(known: Option<&Known>, source: &Listed, target: Option<&Listed>, rules: &Rules<'_>) -> Option<Decision> {
    let Some(target) = target else {
        return Some((Step::Copy, Reason::New, None));
    };
    if source.kind == EntryKind::Folder && target.kind == EntryKind::Folder {
        return None;
    }
    // An empty file is no empty folder, whatever their sizes say.
    let one_is_folder = source.kind == EntryKind::Folder || target.kind == EntryKind::Folder;
    if is_link(source, known) != is_link(target, known) || one_is_folder || target.kind == EntryKind::Special {
        return Some((Step::Copy, Reason::KindDiffers, None));
    }
    let entry = known.map(|known| &known.entry);
    let source_same = entry
        .is_some_and(|entry| entry.source.as_ref().is_some_and(|before| before.proves_unchanged(&source.fingerprint)));
    let target_same = entry.is_some_and(|entry| entry.fingerprint.proves_unchanged(&target.fingerprint));
    let hash_known = entry.is_some_and(|entry| entry.hash.is_some());
    let (s, t) = (&source.fingerprint, &target.fingerprint);
    let equal = || match known {
        Some(known) if source_same && target_same && !known.journalled => None,
        Some(known) if source_same && target_same => Some((Step::Record, Reason::Equal, Some(known.entry.clone()))),
        _ => Some((Step::Record, Reason::Equal, Some(unproven(source, target)))),
    };
    if s.size_bytes != t.size_bytes {
        return Some((Step::Copy, Reason::SizeDiffers, None));
    }
    match rules.options.compare {
        Compare::Size => return equal(),
        Compare::Mtime => {
            let kept = |ns: Option<i64>| ns.map(|ns| ns.div_euclid(rules.time_step_ns.max(1)));
            let current = match rules.comparable_times {
                true => kept(s.mtime_ns) == kept(t.mtime_ns),
                false => s.mtime_ns.is_some() && s.mtime_ns <= t.mtime_ns,
            };
            return if current { equal() } else { Some((Step::Copy, Reason::TimeDiffers, None)) };
        }
        Compare::Etag if s.etag.is_some() && t.etag.is_some() => {
            return if s.etag == t.etag || (source_same && target_same) {
                equal()
            } else {
                Some((Step::Copy, Reason::EtagDiffers, None))
            };
        }
        Compare::Etag | Compare::Auto | Compare::Hash => {}
    }
    let wants_proof = rules.options.proves();
    if source_same && target_same {
        return if hash_known || !wants_proof { equal() } else { Some((Step::Compare, Reason::Unproven, None)) };
    }
    let racy = entry.is_some_and(|entry| entry.fingerprint.racy || entry.source.as_ref().is_some_and(|f| f.racy));
    let reason = match (entry, racy, source_same, target_same) {
        (None, ..) => Reason::Unknown,
        (_, _, true, _) if rules.options.afresh => Reason::Afresh,
        (_, true, ..) => Reason::Young,
        (_, _, false, _) => Reason::SourceChanged,
        (_, _, true, _) => Reason::TargetChanged,
    };
    if hash_known && (source_same || target_same) {
        // One side's hash is known: reading the other one settles it.
        return Some((Step::Compare, reason, None));
    }
    match (s.content_etag(), t.content_etag()) {
        (Some(a), Some(b)) if a == b && !wants_proof => equal(),
        (Some(a), Some(b)) if a != b => Some((Step::Copy, Reason::EtagDiffers, None)),
        _ if s.etag.is_some() && s.etag == t.etag && !wants_proof => equal(),
        _ => Some((Step::Compare, reason, None)),
    }
}

/// The row without what it says of the target but its content's hash, and what it is.
fn unproving(known: Known) -> Known {
    let nothing = Fingerprint {
        size_bytes: known.entry.fingerprint.size_bytes,
        mtime_ns: None,
        ctime_ns: None,
        etag: None,
        version: None,
        file_id: None,
        racy: false,
    };
    Known { entry: Entry { fingerprint: nothing, ..known.entry }, ..known }
}

/// Stores without links keep one as an object with metadata; the manifest remembers which.
fn is_link(listed: &Listed, known: Option<&Known>) -> bool {
    listed.kind == EntryKind::Symlink
        || (listed.fingerprint.etag.is_some() && known.is_some_and(|known| known.entry.kind == EntryKind::Symlink))
}

/// The row of a pair that is equal by something weaker than a hash.
fn unproven(source: &Listed, target: &Listed) -> Entry {
    let by_etag = source.fingerprint.etag.is_some() && source.fingerprint.etag == target.fingerprint.etag;
    Entry {
        key: source.key.clone(),
        kind: source.kind,
        hash: None,
        evidence: if by_etag { manifest::Evidence::Etag } else { manifest::Evidence::None },
        chunks: None,
        fingerprint: settled(&target.fingerprint),
        source: Some(source.fingerprint.clone()),
        attributes: manifest::Attributes::new(),
    }
}

/// A target's fingerprint as a manifest keeps it: where the store has ETags its clock says nothing that they do not.
pub fn settled(fingerprint: &Fingerprint) -> Fingerprint {
    match fingerprint.etag {
        Some(_) => Fingerprint { mtime_ns: None, ..fingerprint.clone() },
        None => fingerprint.clone(),
    }
}

/// Counts over a plan, of both listings and of the actions; what the guards look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTotals {
    /// Keys the source listed.
    pub source_objects: u64,
    /// Bytes of them.
    pub source_bytes: u64,
    /// Keys the target listed.
    pub target_objects: u64,
    /// Distinct keys of both.
    pub listed: u64,
    /// Keys that are equal: without an action, or only to be recorded.
    pub equal: u64,
    /// Keys to copy.
    pub copies: u64,
    /// Bytes of them.
    pub copy_bytes: u64,
    /// Keys to compare by content, perhaps to copy.
    pub compares: u64,
    /// Bytes of them.
    pub compare_bytes: u64,
    /// Copies and comparisons whose key the target already has.
    pub overwrites: u64,
    /// Copies that need no bytes through us.
    pub server_side: u64,
    /// Keys to delete.
    pub deletes: u64,
    /// Keys left alone.
    pub skipped: u64,
    /// Of these, links (`--links skip`).
    pub links: u64,
    /// Keys that cannot be done.
    pub failed: u64,
    /// Rows the manifest has to forget.
    pub forgotten: u64,
    /// The root of the target is the state or the trash of some job, and that of the source is not: a place that was
    /// mistaken for another (rule 1).
    #[serde(default)]
    pub target_is_ours: bool,
    /// Deletes that are not done now because readers are in the folder ([`live`]).
    #[serde(default)]
    pub held_deletes: u64,
    /// The same, of overwrites.
    #[serde(default)]
    pub held_overwrites: u64,
    /// Of the deletes, those of folders that others have taken the place of: no guard counts them.
    #[serde(default)]
    pub retired: u64,
    /// Of the deletes, those of folders that are given up and have no successor: a dropped table's. Of one tree they may be all,
    /// so the guard does not count them; who gives the folders up counts them over all trees.
    #[serde(default)]
    pub given_up: u64,
    /// Of the deletes of a tree of tables, those beside which something new comes: no guard counts them either.
    #[serde(default)]
    pub replaced: u64,
    /// Copies, comparisons and deletes of what names other files of its table ([`crate::layout`]).
    #[serde(default)]
    pub ordered: u64,
}

impl PlanTotals {
    /// Counts one distinct key of the listings and what was decided for it.
    pub fn add(&mut self, source: Option<&Listed>, target: Option<&Listed>, action: Option<&Action>) {
        if let Some(source) = source {
            self.source_objects += 1;
            self.source_bytes += source.fingerprint.size_bytes;
        }
        self.target_objects += u64::from(target.is_some());
        self.listed += u64::from(source.is_some() || target.is_some());
        let Some(action) = action else {
            self.equal += 1;
            return;
        };
        match action.step {
            Step::Copy => {
                self.copies += 1;
                self.copy_bytes += action.size_bytes();
                self.overwrites += u64::from(action.target.is_some());
            }
            Step::Compare => {
                self.compares += 1;
                self.compare_bytes += action.size_bytes();
            }
            Step::Delete => self.deletes += 1,
            Step::Record => self.equal += 1,
            Step::Forget => self.forgotten += 1,
            Step::Skip => {
                self.skipped += 1;
                self.links += u64::from(action.reason == Reason::Link);
            }
            Step::Fail => self.failed += 1,
        }
    }

    /// Whether every listed key is accounted for (rule 14).
    pub fn add_up(&self) -> bool {
        self.listed == self.equal + self.copies + self.compares + self.deletes + self.skipped + self.failed
    }

    /// The deletes that a guard counts.
    pub fn guarded_deletes(&self) -> u64 {
        (self.deletes + self.held_deletes).saturating_sub(self.retired + self.replaced)
    }
}
