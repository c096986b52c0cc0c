//! Objects that the target already holds under another key: renames and duplicates need no bytes through us.
//!
//! A source object is recognised without reading when its strong fingerprint (rule 11) is the one that the last manifest
//! noted for the source of another row. That row's target object is the *donor*. Memory is flat: the new keys set bits in a
//! filter of fixed size, only rows that hit it are sorted (on disk when they are many), and the two sides are joined.

use std::cmp::Ordering;
use std::fs::File;
use std::path::Path;

use manifest::sort::{Record, Sorter};
use manifest::{Entry, EntryKind, Error, Fingerprint, ObjectKey, Result};

use super::file::{Plan, PlanWriter};
use super::{Action, Donor, Step};

/// Bits of the filter (4 MiB): one in a hundred false hits at three million new keys.
const FILTER_BITS: u64 = 1 << 25;
/// Bits set per key.
const FILTER_HASHES: usize = 3;
/// Memory of each sort before it spills.
const SORT_MEMORY_BYTES: usize = 16 << 20;

/// What makes two versions the same content for certain, without reading: inode (or file id), size and time; or an ETag
/// that is the content's MD5, and the size (rule 11). `None` where there is nothing of the kind.
pub fn strong_identity(fingerprint: &Fingerprint) -> Option<[u8; 32]> {
    if fingerprint.racy || fingerprint.size_bytes == 0 {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    match (fingerprint.content_etag(), fingerprint.file_id, fingerprint.mtime_ns) {
        (Some(etag), _, _) => hasher.update(b"etag").update(etag.as_bytes()),
        (None, Some(id), Some(mtime)) if fingerprint.etag.is_none() => {
            hasher.update(b"file").update(&id.to_le_bytes()).update(&mtime.to_le_bytes())
        }
        _ => return None,
    };
    hasher.update(&fingerprint.size_bytes.to_le_bytes());
    Some(*hasher.finalize().as_bytes())
}

/// Collects the keys that could be copied from a donor while the plan is made.
pub struct Candidates {
    filter: Vec<u64>,
    sorter: Sorter<Identified<ObjectKey>>,
    count: u64,
}

impl Candidates {
    /// An empty collection that spills into `spool`.
    pub fn new(spool: &Path) -> Self {
        Self { filter: Vec::new(), sorter: Sorter::new(spool, SORT_MEMORY_BYTES), count: 0 }
    }

    /// Notes an action, if a donor could serve it.
    pub fn add(&mut self, action: &Action) -> Result<()> {
        if action.step != Step::Copy || action.kind != EntryKind::Object || action.donor.is_some() {
            return Ok(());
        }
        let Some(identity) = action.source.as_ref().and_then(strong_identity) else { return Ok(()) };
        if self.filter.is_empty() {
            self.filter = vec![0; (FILTER_BITS / 64) as usize];
        }
        for bit in bits(&identity) {
            self.filter[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        self.count += 1;
        self.sorter.push(Identified { identity, value: action.key.clone() })
    }

    fn may_hold(&self, identity: &[u8; 32]) -> bool {
        bits(identity).all(|bit| self.filter[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
    }
}

fn bits(identity: &[u8; 32]) -> impl Iterator<Item = u64> {
    identity.as_chunks::<8>().0.iter().take(FILTER_HASHES).map(|chunk| u64::from_le_bytes(*chunk) % FILTER_BITS)
}

/// Gives donors to the plan's copies. `rows` are all rows of the last manifest. Returns the plan as it was when none fits.
///
/// A copy whose own key is a donor of another copy is left to be streamed: all copies from donors run first, before any
/// key is overwritten, so chains end in one streamed copy and cycles in as many as they need (rule 12).
pub fn resolve(
    plan: Plan,
    candidates: Candidates,
    rows: impl Iterator<Item = Result<Entry>>,
    spool: &Path,
    rewrite: impl FnOnce() -> Result<(PlanWriter, File)>,
) -> Result<Plan> {
    if candidates.count == 0 {
        return Ok(plan);
    }
    let mut donors = Sorter::new(spool, SORT_MEMORY_BYTES);
    for row in rows {
        let row = row?;
        let identity = row.source.as_ref().and_then(strong_identity);
        if let Some(identity) = identity.filter(|identity| row.hash.is_some() && candidates.may_hold(identity)) {
            donors.push(Identified { identity, value: row })?;
        }
    }
    let (assignments, donor_keys) = assign(candidates.sorter, donors, spool)?;
    let mut assignments = assignments.finish()?.peekable();
    if assignments.peek().is_none() {
        return Ok(plan);
    }
    let mut busy = distinct(donor_keys)?.peekable();
    let (mut writer, file) = rewrite()?;
    let mut header = plan.header.clone();
    for action in plan.actions()? {
        let mut action = action?;
        let is_donor = advance(&mut busy, &action.key, |key| key)?.is_some();
        let assigned = advance(&mut assignments, &action.key, |assigned| &assigned.key)?;
        if let Some(assigned) = assigned.filter(|assigned| !is_donor && assigned.donor.key != action.key) {
            header.totals.server_side += 1;
            action.donor = Some(Donor { entry: assigned.donor });
        }
        writer.push(&action)?;
    }
    writer.finish(header)?;
    Plan::from_unnamed(file)
}

/// Moves a sorted stream up to `key` and takes its item when it is there.
fn advance<T>(
    items: &mut std::iter::Peekable<impl Iterator<Item = Result<T>>>,
    key: &ObjectKey,
    key_of: impl Fn(&T) -> &ObjectKey,
) -> Result<Option<T>> {
    loop {
        match items.peek() {
            None => return Ok(None),
            Some(Ok(item)) if key_of(item) > key => return Ok(None),
            Some(_) => {}
        }
        match items.next().transpose()? {
            Some(item) if key_of(&item) == key => return Ok(Some(item)),
            _ => {}
        }
    }
}

type Assigned = (Sorter<Assignment>, Sorter<JustKey>);

/// Joins candidates with donors of the same identity: the first donor by key serves all of them.
fn assign(
    candidates: Sorter<Identified<ObjectKey>>,
    donors: Sorter<Identified<Entry>>,
    spool: &Path,
) -> Result<Assigned> {
    let mut donors = donors.finish()?.peekable();
    let mut assignments = Sorter::new(spool, SORT_MEMORY_BYTES);
    let mut donor_keys = Sorter::new(spool, SORT_MEMORY_BYTES);
    let mut current: Option<Identified<Entry>> = None;
    for candidate in candidates.finish()? {
        let candidate = candidate?;
        while donors.peek().is_some_and(|d| d.as_ref().is_ok_and(|d| d.identity < candidate.identity)) {
            donors.next();
        }
        if current.as_ref().is_none_or(|donor| donor.identity != candidate.identity) {
            let fits = donors.peek().is_some_and(|d| d.as_ref().map_or(true, |d| d.identity == candidate.identity));
            current = if fits { donors.next().transpose()? } else { None };
        }
        if let Some(donor) = &current {
            donor_keys.push(JustKey(donor.value.key.clone()))?;
            assignments.push(Assignment { key: candidate.value, donor: donor.value.clone() })?;
        }
    }
    Ok((assignments, donor_keys))
}

/// The distinct donor keys in order.
fn distinct(sorter: Sorter<JustKey>) -> Result<impl Iterator<Item = Result<ObjectKey>>> {
    let mut last: Option<ObjectKey> = None;
    Ok(sorter.finish()?.filter_map(move |key| match key {
        Ok(JustKey(key)) if last.as_ref() == Some(&key) => None,
        Ok(JustKey(key)) => {
            last = Some(key.clone());
            Some(Ok(key))
        }
        Err(error) => Some(Err(error)),
    }))
}

/// A value under its strong identity.
struct Identified<T> {
    identity: [u8; 32],
    value: T,
}

struct Assignment {
    key: ObjectKey,
    donor: Entry,
}

struct JustKey(ObjectKey);

fn split_identity(bytes: &[u8]) -> Result<([u8; 32], &[u8])> {
    match bytes.split_first_chunk::<32>() {
        Some((identity, rest)) => Ok((*identity, rest)),
        None => {
            Err(Error::Damaged { what: "spill file", name: "donors".into(), reason: "a record is too short".into() })
        }
    }
}

impl Record for Identified<ObjectKey> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.identity);
        out.extend_from_slice(self.value.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let (identity, rest) = split_identity(bytes)?;
        Ok(Self { identity, value: ObjectKey::from(rest.to_vec()) })
    }
    fn order(&self, other: &Self) -> Ordering {
        (&self.identity, &self.value).cmp(&(&other.identity, &other.value))
    }
}

impl Record for Identified<Entry> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.identity);
        Record::encode(&self.value, out);
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let (identity, rest) = split_identity(bytes)?;
        Ok(Self { identity, value: <Entry as Record>::decode(rest)? })
    }
    fn order(&self, other: &Self) -> Ordering {
        (&self.identity, &self.value.key).cmp(&(&other.identity, &other.value.key))
    }
}

impl Record for Assignment {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.key.len() as u64).to_le_bytes());
        out.extend_from_slice(self.key.as_bytes());
        Record::encode(&self.donor, out);
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        let bad =
            || Error::Damaged { what: "spill file", name: "donors".into(), reason: "a record is too short".into() };
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| bad())?;
        let (key, rest) = rest.split_at_checked(length).ok_or_else(bad)?;
        Ok(Self { key: ObjectKey::from(key.to_vec()), donor: <Entry as Record>::decode(rest)? })
    }
    fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Record for JustKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(Self(ObjectKey::from(bytes.to_vec())))
    }
    fn order(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::CopyOptions;
    use crate::plan::file::PlanHeader;
    use crate::plan::{PlanTotals, Reason};
    use manifest::{Attributes, ContentHash, Evidence};

    fn fingerprint(etag: &str) -> Fingerprint {
        Fingerprint { size_bytes: 10, etag: Some(format!("{etag:0>32}")), ..Fingerprint::default() }
    }

    fn row(key: &str, etag: &str) -> Entry {
        Entry {
            key: key.into(),
            kind: EntryKind::Object,
            hash: Some(ContentHash::of(etag.as_bytes())),
            evidence: Evidence::Read,
            chunks: None,
            fingerprint: fingerprint(etag),
            source: Some(fingerprint(etag)),
            attributes: Attributes::new(),
        }
    }

    fn copy(key: &str, etag: &str) -> Action {
        Action {
            key: key.into(),
            step: Step::Copy,
            reason: Reason::New,
            kind: EntryKind::Object,
            source: Some(fingerprint(etag)),
            target: None,
            entry: None,
            donor: None,
        }
    }

    fn resolved(copies: &[(&str, &str)], rows: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        let spool = tempfile::tempdir().unwrap();
        let new = || {
            let file = tempfile::tempfile_in(spool.path()).unwrap();
            Ok((PlanWriter::new(file.try_clone().unwrap(), "plan")?, file))
        };
        let header = PlanHeader {
            job: "j".into(),
            source: "/a".into(),
            target: "/b".into(),
            state: "/s".into(),
            id: "r".into(),
            base: None,
            as_of: String::new(),
            options: CopyOptions::default(),
            chunk_bytes: 1 << 20,
            totals: PlanTotals::default(),
        };
        let mut candidates = Candidates::new(spool.path());
        let (mut writer, file) = new().unwrap();
        for (key, etag) in copies {
            let action = copy(key, etag);
            candidates.add(&action).unwrap();
            writer.push(&action).unwrap();
        }
        writer.finish(header).unwrap();
        let plan = Plan::from_unnamed(file).unwrap();
        let rows = rows.iter().map(|(key, etag)| Ok(row(key, etag)));
        let plan = resolve(plan, candidates, rows, spool.path(), new).unwrap();
        let actions = plan.actions().unwrap().map(Result::unwrap);
        actions.map(|action| (action.key.to_string(), action.donor.map(|donor| donor.entry.key.to_string()))).collect()
    }

    fn expect(copies: &[(&str, &str)], rows: &[(&str, &str)], donors: &[Option<&str>]) {
        let found: Vec<_> = resolved(copies, rows).into_iter().map(|(_, donor)| donor).collect();
        let donors: Vec<_> = donors.iter().map(|donor| donor.map(str::to_owned)).collect();
        assert_eq!(found, donors, "{copies:?} from {rows:?}");
    }

    #[test]
    fn rule_11_a_new_key_with_a_known_strong_fingerprint_has_a_donor() {
        expect(&[("new/a", "1"), ("new/b", "2")], &[("old/a", "1"), ("old/c", "3")], &[Some("old/a"), None]);
        expect(&[("x", "1"), ("y", "1")], &[("b", "1"), ("c", "1")], &[Some("b"), Some("b")]);
    }

    #[test]
    fn rule_11_weak_fingerprints_recognise_nothing() {
        let multipart = Fingerprint { etag: Some("0123456789abcdef0123456789abcdef-7".into()), ..fingerprint("1") };
        let file =
            |racy| Fingerprint { size_bytes: 5, mtime_ns: Some(7), file_id: Some(9), racy, ..Fingerprint::default() };
        let empty = Fingerprint { size_bytes: 0, ..fingerprint("1") };
        let no_inode = Fingerprint { file_id: None, ..file(false) };
        for weak in [multipart, file(true), empty, no_inode] {
            assert_eq!(strong_identity(&weak), None, "{weak:?}");
        }
        assert!(strong_identity(&file(false)).is_some() && strong_identity(&fingerprint("1")).is_some());
        let other_time = Fingerprint { mtime_ns: Some(8), ..file(false) };
        assert_ne!(strong_identity(&file(false)), strong_identity(&other_time));
    }

    #[test]
    fn rule_12_chains_end_in_a_streamed_copy_and_cycles_are_streamed() {
        // log -> log.1 -> log.2: what is overwritten serves as a donor first; the key that serves is streamed to.
        let rows = [("log", "1"), ("log.1", "2")];
        expect(&[("log.1", "1"), ("log.2", "2")], &rows, &[None, Some("log.1")]);
        expect(&[("a", "2"), ("b", "1")], &[("a", "1"), ("b", "2")], &[None, None]);
    }
}
