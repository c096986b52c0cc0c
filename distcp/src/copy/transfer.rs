//! One object from source to target, or the finding that both are equal.
//!
//! Every read is of exactly the planned version, every write expects what the plan saw on the target. A crash between the
//! write and its journal record leaves a whole object on the target that the next run finds by comparing.

use manifest::{Attributes, Chunks, ContentHash, Entry, EntryKind, Evidence, Fingerprint};
use md5::{Digest as _, Md5};

use super::{Copier, Finished, large};
use crate::event::Means;
use crate::layout::{Part, Role};
use crate::options::MetadataMode;
use crate::plan::{Action, Donor, FORK, Step, settled};
use crate::scan::{self, Scanned};
use crate::store::{
    CopySource, ObjectInfo, Payload, Precondition, Proof, PutOptions, Result, StoreError, StoreErrorKind, Written,
};

/// How often content that arrives damaged is read again before the object fails.
const DAMAGE_ATTEMPTS: u32 = 3;

impl Copier {
    /// Whether readers are in the folder that this action is about.
    pub(super) fn is_live(&self, action: &Action) -> bool {
        self.live.as_ref().is_some_and(|live| live.unit(&action.key).is_some())
    }

    /// Whether it is a commit of a table, of which each is written once.
    fn is_commit(&self, action: &Action) -> bool {
        matches!(self.layout.part(&action.key), Some(Part { role: Role::Commit(_), .. }))
    }

    /// Does one copy or comparison. A version that is not the planned one is an error of class conflict.
    pub(super) async fn transfer(&self, action: &Action) -> Result<Finished> {
        let Some(source) = &action.source else {
            return Err(self.refuse(action, "the plan names no source version"));
        };
        if action.kind == EntryKind::Folder {
            return self.folder(action).await;
        }
        // No plan says so; what changed after it may.
        if action.step == Step::Copy && action.target.is_some() && self.is_live(action) {
            return Ok(Finished::Held);
        }
        let is_commit = self.is_commit(action);
        if action.step == Step::Copy && action.target.is_some() && is_commit {
            return Err(self.refuse(action, FORK));
        }
        if let Some(donor) = &action.donor
            && let Some(finished) = self.copy_from_donor(action, source, donor).await?
        {
            return Ok(finished);
        }
        if action.step == Step::Compare
            && let Some(finished) = self.compare_unread(action, source).await?
        {
            return Ok(finished);
        }
        if action.step == Step::Compare && (is_commit || self.is_live(action)) {
            let scanned = self.scan_source(action, source).await?;
            return match self.equal_by_hash(action, source, &scanned).await? {
                Some(equal) => Ok(equal),
                None if is_commit => Err(self.refuse(action, FORK)),
                None => Ok(Finished::Held),
            };
        }
        if let Some(finished) = self.copy_across(action, source).await? {
            return Ok(finished);
        }
        let part_bytes = self.chunk_size.part_bytes(source.size_bytes);
        if source.size_bytes <= part_bytes.min(self.target.capabilities().max_put_bytes) {
            return self.whole(action, source).await;
        }
        if action.step == Step::Compare {
            let scanned = self.scan_source(action, source).await?;
            if let Some(finished) = self.equal_by_hash(action, source, &scanned).await? {
                return Ok(finished);
            }
        }
        large::copy(self, action, source, part_bytes).await
    }

    /// An object that fits into one part: read, hashed, checked and written from one buffer.
    async fn whole(&self, action: &Action, source: &Fingerprint) -> Result<Finished> {
        let _held = self.budget.take(source.size_bytes).await;
        let (info, payload, scanned) = self.read_checked(action, source).await?;
        if action.step == Step::Compare
            && let Some(finished) = self.equal_by_hash(action, source, &scanned).await?
        {
            return Ok(finished);
        }
        let options = self.put_options(action, source, &info);
        self.keep_overwritten(action).await?;
        for attempt in 1.. {
            self.guard.check().map_err(|e| self.lost_lease(action, &e))?;
            let written = self.target.put(&action.key, payload.clone(), &options).await?;
            if written.fingerprint.size_bytes == source.size_bytes && self.holds(action, &written, &scanned).await? {
                let entry = self.entry(action, source, &scanned, options.attributes.clone(), &written);
                return Ok(Finished::Copied { entry, means: Means::Streamed, in_parts: false });
            }
            if attempt == DAMAGE_ATTEMPTS {
                break;
            }
        }
        Err(self.damaged(action, "what the target holds is not what was sent"))
    }

    /// Reads the planned version until its content agrees with all that is known of it: the hash of an unchanged version
    /// in the last manifest, and an ETag that is an MD5.
    async fn read_checked(&self, action: &Action, source: &Fingerprint) -> Result<(ObjectInfo, Payload, Scanned)> {
        let mut last_read = None;
        for _ in 0..DAMAGE_ATTEMPTS {
            let (info, bytes) = scan::read_whole(self.source.as_ref(), &action.key, source).await?;
            let chunk_size = self.chunk_size;
            let wants_md5 = source.content_etag().map(str::to_ascii_lowercase);
            let length = bytes.len();
            let (payload, md5_agrees) = scan::offload(length, move || {
                let agrees = wants_md5.is_none_or(|etag| hex(&Md5::digest(&bytes)) == etag);
                (Payload::new(bytes), agrees)
            })
            .await?;
            let (hash, chunks) = scan::hash_whole(payload.bytes().clone(), chunk_size).await?;
            let expected = known_source_hash(action);
            // An ETag that has the form of an MD5 but is none (encrypted buckets) disagrees twice with the same content.
            let plausible = match expected {
                Some(expected) => expected == hash,
                None => md5_agrees || last_read == Some(hash),
            };
            if plausible {
                let attributes = info.attributes.clone();
                let size_bytes = source.size_bytes;
                return Ok((info.clone(), payload, Scanned { hash, chunks, kind: info.kind, attributes, size_bytes }));
            }
            last_read = Some(hash);
        }
        Err(self.damaged(action, "its content is not what its unchanged fingerprint stood for at the last run"))
    }

    async fn scan_source(&self, action: &Action, source: &Fingerprint) -> Result<Scanned> {
        scan::scan(self.source.as_ref(), &action.key, source, self.chunk_size, &self.budget).await
    }

    /// Whether the target holds what was read: by the write's proof, else by reading it back.
    pub(super) async fn holds(&self, action: &Action, written: &Written, scanned: &Scanned) -> Result<bool> {
        if written.proof != Proof::None {
            return Ok(true);
        }
        let back =
            scan::scan(self.target.as_ref(), &action.key, &written.fingerprint, self.chunk_size, &self.no_budget);
        match back.await {
            Ok(back) => Ok(back.hash == scanned.hash),
            Err(error) if error.kind == StoreErrorKind::Corrupt => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A comparison that needs no content: the source's ETag is still the one whose hash is known, and so is the target's.
    async fn compare_unread(&self, action: &Action, source: &Fingerprint) -> Result<Option<Finished>> {
        let (Some(entry), Some(target)) = (&action.entry, &action.target) else { return Ok(None) };
        let same_etag = entry.source.as_ref().is_some_and(|before| {
            before.etag.is_some() && before.etag == source.etag && before.size_bytes == source.size_bytes
        });
        if !same_etag || entry.hash.is_none() || !entry.fingerprint.proves_unchanged(target) {
            return Ok(None);
        }
        let info = self.source.head(&action.key).await?;
        if !source.looks_like(&info.fingerprint) {
            return Err(self.changed(action));
        }
        let scanned = Scanned {
            hash: entry.hash.unwrap_or_else(|| ContentHash::of(&[])),
            chunks: entry.chunks.as_ref().map(|chunks| chunks.hashes.clone()).unwrap_or_default(),
            kind: info.kind,
            attributes: info.attributes,
            size_bytes: source.size_bytes,
        };
        self.equal_by_hash(action, source, &scanned).await
    }

    /// If the target's content is the scanned source content: the row that says so, after bringing metadata in line.
    async fn equal_by_hash(
        &self,
        action: &Action,
        source: &Fingerprint,
        scanned: &Scanned,
    ) -> Result<Option<Finished>> {
        let Some(target) = &action.target else { return Ok(None) };
        let known = action.entry.as_ref().filter(|entry| entry.fingerprint.proves_unchanged(target));
        let (target_hash, attributes) = match known.and_then(|entry| entry.hash.map(|hash| (hash, entry))) {
            Some((hash, entry)) => (hash, entry.attributes.clone()),
            None => {
                let read =
                    scan::scan(self.target.as_ref(), &action.key, target, self.chunk_size, &self.no_budget).await?;
                (read.hash, read.attributes)
            }
        };
        if target_hash != scanned.hash {
            return Ok(None);
        }
        let (kind, attributes_now) = (scanned.kind, scanned.attributes.clone());
        let info = ObjectInfo { kind, fingerprint: source.clone(), attributes: attributes_now, checksum: None };
        let options = self.put_options(action, source, &info);
        let mut written = Written { fingerprint: target.clone(), proof: Proof::ReadBack };
        let is_current = options.attributes.iter().all(|(name, value)| attributes.get(name) == Some(value));
        if !is_current && scanned.kind == EntryKind::Object && self.target.capabilities().server_copy {
            // Copying an object onto itself with other attributes changes nothing else.
            let any = PutOptions { precondition: Precondition::Any, ..options.clone() };
            let (itself, most) = (CopySource::here(&action.key, target), self.target.capabilities().max_copy_bytes);
            written = self.copied(action, &itself, most, &any).await?.written;
        }
        let entry = self.entry(action, source, scanned, options.attributes, &written);
        Ok(Some(Finished::Equal { entry }))
    }

    /// Copies inside the target's store. `None`: the donor is not what the manifest says any more; stream instead.
    async fn copy_from_donor(&self, action: &Action, source: &Fingerprint, donor: &Donor) -> Result<Option<Finished>> {
        let capabilities = self.target.capabilities();
        if !capabilities.server_copy {
            return Ok(None);
        }
        let info = self.source.head(&action.key).await?;
        if !source.looks_like(&info.fingerprint) {
            return Err(self.changed(action));
        }
        let options = self.put_options(action, source, &info);
        self.keep_overwritten(action).await?;
        let from = CopySource::here(&donor.entry.key, &donor.entry.fingerprint);
        let copied = match self.copied(action, &from, capabilities.max_copy_bytes, &options).await {
            Ok(copied) => copied,
            Err(error) if donor_is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let held = ObjectInfo { fingerprint: donor.entry.fingerprint.clone(), ..info };
        let (fingerprint, _) = self.looked_at(action, &held, &copied.written).await?;
        let entry = Entry {
            key: action.key.clone(),
            kind: held.kind,
            hash: donor.entry.hash,
            evidence: Evidence::Inherited,
            chunks: donor.entry.chunks.clone(),
            fingerprint: settled(&fingerprint),
            source: Some(source.clone()),
            attributes: options.attributes,
        };
        Ok(Some(Finished::Copied { entry, means: Means::ServerSide, in_parts: copied.in_parts }))
    }

    async fn folder(&self, action: &Action) -> Result<Finished> {
        let options = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
        self.keep_overwritten(action).await?;
        self.guard.check().map_err(|e| self.lost_lease(action, &e))?;
        let written = self.target.put(&action.key, Payload::new(bytes::Bytes::new()), &options).await?;
        let source = action.source.clone().unwrap_or_default();
        let entry = Entry {
            key: action.key.clone(),
            kind: EntryKind::Folder,
            hash: None,
            evidence: Evidence::None,
            chunks: None,
            fingerprint: written.fingerprint,
            source: Some(source),
            attributes: Attributes::new(),
        };
        Ok(Finished::Copied { entry, means: Means::None, in_parts: false })
    }

    /// How the object is to be written: under what condition, with which attributes.
    pub(super) fn put_options(&self, action: &Action, source: &Fingerprint, info: &ObjectInfo) -> PutOptions {
        let precondition = match &action.target {
            None => Precondition::Absent,
            Some(target) => Precondition::Matches(target.clone()),
        };
        let mut attributes = match self.metadata {
            MetadataMode::All => info.attributes.clone(),
            MetadataMode::None => Attributes::new(),
        };
        if self.metadata == MetadataMode::All
            && !self.target.capabilities().etags
            && let Some(mtime_ns) = source.mtime_ns
        {
            attributes.entry("meta:mtime".into()).or_insert_with(|| seconds(mtime_ns));
        }
        if info.kind == EntryKind::Symlink {
            attributes.insert("meta:understudy-link".into(), "true".into());
        }
        PutOptions { kind: info.kind, precondition, attributes, copied_parts: false }
    }

    /// The manifest's row for what now stands on the target.
    pub(super) fn entry(
        &self,
        action: &Action,
        source: &Fingerprint,
        scanned: &Scanned,
        attributes: Attributes,
        written: &Written,
    ) -> Entry {
        let chunks =
            (scanned.chunks.len() > 1).then(|| Chunks { size: self.chunk_size, hashes: scanned.chunks.clone() });
        Entry {
            key: action.key.clone(),
            kind: scanned.kind,
            hash: Some(scanned.hash),
            evidence: Evidence::Read,
            chunks,
            fingerprint: settled(&written.fingerprint),
            source: Some(source.clone()),
            attributes,
        }
    }

    fn error(&self, action: &Action, kind: StoreErrorKind, detail: &str) -> StoreError {
        StoreError::new("copy", self.source.place(), kind, detail).on(&action.key)
    }

    pub(super) fn changed(&self, action: &Action) -> StoreError {
        self.error(action, StoreErrorKind::Precondition, "it was changed after it was listed")
    }

    pub(super) fn damaged(&self, action: &Action, detail: &str) -> StoreError {
        self.error(action, StoreErrorKind::Corrupt, detail)
    }

    pub(super) fn refuse(&self, action: &Action, detail: &str) -> StoreError {
        self.error(action, StoreErrorKind::Unsupported, detail)
    }

    pub(super) fn lost_lease(&self, action: &Action, error: &manifest::Error) -> StoreError {
        self.error(action, StoreErrorKind::Cancelled, &error.to_string())
    }
}

/// The hash that the planned source version must have, when the last manifest knows it.
pub(super) fn known_source_hash(action: &Action) -> Option<ContentHash> {
    let entry = action.entry.as_ref()?;
    let (before, now) = (entry.source.as_ref()?, action.source.as_ref()?);
    entry.hash.filter(|_| before.proves_unchanged(now))
}

fn donor_is_gone(error: &StoreError) -> bool {
    matches!(error.kind, StoreErrorKind::Precondition | StoreErrorKind::NotFound | StoreErrorKind::Unsupported)
}

/// Whether a listing that could not tell the key's bytes may have put U+FFFD in their place.
pub(super) fn names_another(action: &Action) -> bool {
    action.key.as_str().is_some_and(|key| key.contains(char::REPLACEMENT_CHARACTER))
}

/// A time as `meta:mtime` holds it: seconds since 1970 with nine decimals.
pub(super) fn seconds(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let magnitude = ns.unsigned_abs();
    format!("{sign}{}.{:09}", magnitude / 1_000_000_000, magnitude % 1_000_000_000)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        for (ns, text) in
            [(0, "0.000000000"), (1_500_000_001, "1.500000001"), (-1, "-0.000000001"), (-1_500_000_000, "-1.500000000")]
        {
            assert_eq!(seconds(ns), text);
        }
    }
}
