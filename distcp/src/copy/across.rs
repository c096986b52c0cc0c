//! Copies that the target's service makes by itself: from the source, where both are of one service, or from a donor.
//!
//! Always of exactly the version that is expected, and believed only after a look: the same content ETag, or the same size
//! and, where both stores tell one, the same checksum (rule 10). What is known of the content afterwards is never more than
//! that. A service that refuses is not asked for ever: the object is streamed, and the run says so once. A crash leaves the
//! old object, the new one, or an upload that the journal names.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use manifest::{Class, Entry, Evidence, Fingerprint};

use super::{Copier, Finished, large, transfer};
use crate::event::{Event, Means};
use crate::options::MetadataMode;
use crate::plan::{Action, Reason, Step, settled};
use crate::store::{CopySource, ObjectInfo, Origin, PutOptions, Result, Store, StoreError, StoreErrorKind, Written};

/// After so many refusals in a row the service is not asked any more in this run.
const REFUSALS_TAKEN: u32 = 8;

/// What the service of one store can copy from another one, as far as is known.
#[derive(Debug)]
pub(super) struct Across {
    /// Where it reads, and the most that one copy takes from there.
    from: Option<(Origin, u64)>,
    refused: AtomicU32,
    said: AtomicBool,
}

impl Across {
    /// Between these two; nothing is asked of them yet.
    pub(super) fn between(source: &dyn Store, target: &dyn Store) -> Self {
        let origin = source.origin();
        let from = origin.and_then(|origin| target.copies_from(&origin).map(|most| (origin, most)));
        Self { from, refused: AtomicU32::new(0), said: AtomicBool::new(false) }
    }

    /// Where to copy from and how much in one step, if it is worth a request.
    pub(super) fn open(&self) -> Option<(&Origin, u64)> {
        let (origin, most) = self.from.as_ref()?;
        (self.refused.load(Ordering::Relaxed) < REFUSALS_TAKEN).then_some((origin, *most))
    }

    pub(super) fn worked(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }

    /// Counts a refusal. True for the first one: it is to be told.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        !self.said.swap(true, Ordering::Relaxed)
    }
}

impl Copier {
    /// Copies from the source without bytes through us. `None`: not possible, or refused; stream instead.
    pub(super) async fn copy_across(&self, action: &Action, source: &Fingerprint) -> Result<Option<Finished>> {
        let Some((origin, most)) = self.across.open().filter(|_| self.may_copy_across(action, source)) else {
            return Ok(None);
        };
        let info = self.source.head(&action.key).await?;
        if !source.looks_like(&info.fingerprint) {
            return Err(self.changed(action));
        }
        let options = self.put_options(action, source, &info);
        let keep_attributes = self.metadata == MetadataMode::All;
        let from = CopySource { origin: Some(origin), key: &action.key, expect: source, keep_attributes };
        self.keep_overwritten(action).await?;
        let copied = match self.copied(action, &from, most, &options).await {
            Ok(copied) => copied,
            Err(error) if !is_refusal(&error) => return Err(error),
            Err(error) => {
                if is_of_service(&error) && self.across.was_refused() {
                    let why = crate::error::chain(&error);
                    (self.listener)(Event::Note(format!(
                        "what the service does not copy by itself is read and sent instead, the first because: {why}"
                    )));
                }
                return Ok(None);
            }
        };
        self.across.worked();
        let (fingerprint, evidence) = self.looked_at(action, &info, &copied.written).await?;
        let hash = transfer::known_source_hash(action);
        let known = action.entry.as_ref().filter(|_| hash.is_some());
        let entry = Entry {
            key: action.key.clone(),
            kind: info.kind,
            hash,
            evidence: if hash.is_some() { Evidence::Inherited } else { evidence },
            chunks: known.and_then(|entry| entry.chunks.clone()),
            fingerprint: settled(&fingerprint),
            source: Some(source.clone()),
            attributes: options.attributes,
        };
        Ok(Some(Finished::Copied { entry, means: Means::ServerSide, in_parts: copied.in_parts }))
    }

    /// Whether the action may be done without reading the source: proof by reading was not asked for, and a copy is wanted
    /// (or the comparison would find a difference in the end, as far as ETags tell).
    fn may_copy_across(&self, action: &Action, source: &Fingerprint) -> bool {
        let differs = || match (source.content_etag(), action.target.as_ref().and_then(Fingerprint::content_etag)) {
            (Some(a), Some(b)) => a != b,
            _ => false,
        };
        let wanted = match action.step {
            Step::Copy => true,
            Step::Compare => action.reason == Reason::SourceChanged || differs(),
            _ => false,
        };
        wanted && !self.proves && source.etag.is_some()
    }

    /// Has the service copy an object, in one step where it is at most `most` bytes long, else in parts.
    pub(super) async fn copied(
        &self,
        action: &Action,
        from: &CopySource<'_>,
        most: u64,
        options: &PutOptions,
    ) -> Result<Copied> {
        if from.expect.size_bytes > most {
            let written = large::copy_inside(self, action, from, most, options).await?;
            return Ok(Copied { written, in_parts: true });
        }
        self.guard.check().map_err(|e| self.lost_lease(action, &e))?;
        let written = self.target.copy(from, &action.key, options).await?;
        Ok(Copied { written, in_parts: false })
    }

    /// Looks at what a copy made, where its ETag does not say that its content is the source's. Size and checksum must be.
    pub(super) async fn looked_at(
        &self,
        action: &Action,
        source: &ObjectInfo,
        written: &Written,
    ) -> Result<(Fingerprint, Evidence)> {
        if same_content(&source.fingerprint, &written.fingerprint) {
            return Ok((written.fingerprint.clone(), Evidence::Etag));
        }
        let there = self.target.head(&action.key).await?;
        if !written.fingerprint.looks_like(&there.fingerprint) && there.fingerprint.etag != written.fingerprint.etag {
            let detail = "another wrote to it while it was copied";
            let error = StoreError::new("copy", self.target.place(), StoreErrorKind::Precondition, detail);
            return Err(error.on(&action.key));
        }
        match evidence(source, &there) {
            Ok(evidence) => Ok((written.fingerprint.clone(), evidence)),
            Err(detail) => Err(self.damaged(action, detail)),
        }
    }
}

/// An object that the service copied.
pub(super) struct Copied {
    pub(super) written: Written,
    /// In parts, each of which was counted.
    pub(super) in_parts: bool,
}

/// Whether two versions have the same content by ETags that are content (rule 11).
fn same_content(a: &Fingerprint, b: &Fingerprint) -> bool {
    a.content_etag().is_some() && a.content_etag() == b.content_etag() && a.size_bytes == b.size_bytes
}

/// What a copy and its source, as their stores tell them, prove of each other (rule 10); or in what they differ.
fn evidence(source: &ObjectInfo, copy: &ObjectInfo) -> std::result::Result<Evidence, &'static str> {
    if source.fingerprint.size_bytes != copy.fingerprint.size_bytes {
        return Err("the server-side copy has another size");
    }
    match (&source.checksum, &copy.checksum) {
        (Some(a), Some(b)) if a.algorithm == b.algorithm && a.value != b.value => {
            Err("the server-side copy has another checksum; with --hash it is read and sent instead")
        }
        (Some(a), Some(b)) if a.algorithm == b.algorithm => Ok(Evidence::StoreChecksum),
        _ if same_content(&source.fingerprint, &copy.fingerprint) => Ok(Evidence::Etag),
        _ => Ok(Evidence::None),
    }
}

/// Whether the service does not copy this, rather than that something went wrong: then the object is streamed, and whatever
/// is wrong with the target itself is found that way too.
pub(super) fn is_refusal(error: &StoreError) -> bool {
    error.class() == Class::Permanent && error.kind != StoreErrorKind::NoSpace
}

/// Whether a refusal is likely to be that of every object, rather than of one that is gone, archived or oddly named.
pub(super) fn is_of_service(error: &StoreError) -> bool {
    use StoreErrorKind as Kind;
    is_refusal(error) && !matches!(error.kind, Kind::NotFound | Kind::Archived | Kind::InvalidKey | Kind::KindConflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Checksum;
    use manifest::{Attributes, EntryKind};

    fn info(size_bytes: u64, etag: &str, sum: Option<(&'static str, &str)>) -> ObjectInfo {
        ObjectInfo {
            kind: EntryKind::Object,
            fingerprint: Fingerprint { size_bytes, etag: Some(etag.into()), ..Fingerprint::default() },
            attributes: Attributes::new(),
            checksum: sum.map(|(algorithm, value)| Checksum { algorithm, value: value.into() }),
        }
    }

    #[test]
    fn rule_10_a_copy_proves_no_more_than_both_stores_tell() {
        let (md5, other) = ("0".repeat(32), "1".repeat(32));
        let crc = |value| Some(("CRC64NVME", value));
        let table = [
            (info(4, "a-2", None), info(4, "b", None), Ok(Evidence::None)),
            (info(4, "a-2", None), info(5, "b", None), Err("size")),
            (info(4, "a-2", crc("x")), info(4, "b", crc("x")), Ok(Evidence::StoreChecksum)),
            (info(4, "a-2", crc("x")), info(4, "b", crc("y")), Err("checksum")),
            (info(4, "a-2", crc("x")), info(4, "b", Some(("SHA256", "x"))), Ok(Evidence::None)),
            (info(4, "a-2", crc("x")), info(4, "b", None), Ok(Evidence::None)),
            (info(4, "a-2", crc("x")), info(5, "b", crc("x")), Err("size")),
            (info(4, &md5, None), info(4, &md5, None), Ok(Evidence::Etag)),
            // Different ETags of that form may be those of encrypted objects.
            (info(4, &md5, None), info(4, &other, None), Ok(Evidence::None)),
            // Composite ETags are equal by how the object was cut: they are not content.
            (info(4, "a-2", None), info(4, "a-2", None), Ok(Evidence::None)),
        ];
        for (source, copy, expected) in table {
            match (evidence(&source, &copy), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{source:?} {copy:?}"),
                (Err(found), Err(word)) => assert!(found.contains(word), "{found}"),
                (found, expected) => panic!("{found:?}, not {expected:?}: {source:?} {copy:?}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_with_one_object_is_no_refusal_of_the_service() {
        use StoreErrorKind as Kind;
        for (kind, refusal, of_service) in [
            (Kind::Permission, true, true),
            (Kind::NoBucket, true, true),
            (Kind::Unsupported, true, true),
            (Kind::Archived, true, false),
            (Kind::NotFound, true, false),
            (Kind::NoSpace, false, false),
            (Kind::Precondition, false, false),
            (Kind::Timeout, false, false),
            (Kind::Cancelled, false, false),
        ] {
            let error = StoreError::new("copy", "m", kind, "");
            assert_eq!((is_refusal(&error), is_of_service(&error)), (refusal, of_service), "{kind:?}");
        }
    }

    #[test]
    fn a_service_that_refuses_is_told_of_once_and_not_asked_for_ever() {
        use crate::store::memory::MemoryStore;
        let (one, two) = (MemoryStore::new().of_service("m"), MemoryStore::new().of_service("m"));
        let across = Across::between(&one, &two);
        assert!(across.open().is_some() && across.was_refused());
        for _ in 1..REFUSALS_TAKEN {
            assert!(across.open().is_some());
            assert!(!across.was_refused(), "it is told once");
        }
        assert!(across.open().is_none());
        across.worked();
        assert!(across.open().is_some() && !across.was_refused());
        assert!(Across::between(&one, &MemoryStore::new()).open().is_none());
        assert!(Across::between(&MemoryStore::new(), &two).open().is_none());
    }
}
