//! Uploads that earlier runs left unfinished, as their journals tell (rule 18).

use std::collections::HashMap;
use std::sync::Mutex;

use manifest::state::journal::Record;
use manifest::{ChunkHash, ChunkSize, Fingerprint, ObjectKey};

use crate::store::{PartSpec, Proof, UploadId, UploadedPart};

/// An upload of ours that was begun and, as far as the journals know, neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The target key.
    pub key: ObjectKey,
    /// The store's name for it.
    pub upload: UploadId,
    /// The version of the source object that its parts are of.
    pub source: Fingerprint,
    /// Length of each part but the last.
    pub part_bytes: u64,
    /// Length of the chunks in its parts; `None`: the store copies the parts by itself.
    pub chunk_size: Option<ChunkSize>,
    /// Finished parts by number, with the chaining values of their chunks.
    pub parts: HashMap<u32, (UploadedPart, Vec<ChunkHash>)>,
}

/// All unfinished uploads; each can be taken once. As many as a dead run had objects in work, not more.
#[derive(Debug, Default)]
pub struct Unfinisheds {
    by_key: Mutex<HashMap<ObjectKey, Vec<Unfinished>>>,
    /// Uploads to the trash, with their keys there: only ever given up.
    trash: Mutex<Vec<(ObjectKey, UploadId)>>,
}

/// Follows journal records in the order they were written; what ended is forgotten at once.
#[derive(Debug, Default)]
pub struct OpenUploads {
    by_id: HashMap<String, Unfinished>,
    trash: HashMap<String, ObjectKey>,
}

impl OpenUploads {
    /// Takes one record.
    pub fn add(&mut self, record: Record) {
        match record {
            Record::UploadBegun { key, upload_id, source, part_bytes, chunk, .. } => {
                let upload = UploadId(upload_id.clone());
                let parts = HashMap::new();
                let begun = Unfinished { key, upload, source, part_bytes, chunk_size: chunk, parts };
                self.by_id.insert(upload_id, begun);
            }
            Record::PartDone { upload_id, number, offset, size_bytes, etag, checksum, chunks } => {
                if let Some(upload) = self.by_id.get_mut(&upload_id) {
                    let part = PartSpec { number, offset, size_bytes };
                    let uploaded = UploadedPart { part, etag, checksum, proof: Proof::None };
                    upload.parts.insert(number, (uploaded, chunks));
                }
            }
            Record::UploadEnded { upload_id, .. } => {
                self.by_id.remove(&upload_id);
                self.trash.remove(&upload_id);
            }
            Record::TrashUpload { key, upload_id } => {
                self.trash.insert(upload_id, key);
            }
            Record::Done { .. }
            | Record::Failed { .. }
            | Record::Deleted { .. }
            | Record::ToDelete { .. }
            | Record::GivenUp { .. }
            | Record::ManifestPart { .. } => {}
        }
    }

    /// What is still open.
    pub fn finish(self) -> Unfinisheds {
        let mut by_key: HashMap<ObjectKey, Vec<Unfinished>> = HashMap::new();
        for upload in self.by_id.into_values() {
            by_key.entry(upload.key.clone()).or_default().push(upload);
        }
        let trash = self.trash.into_iter().map(|(id, key)| (key, UploadId(id))).collect();
        Unfinisheds { by_key: Mutex::new(by_key), trash: Mutex::new(trash) }
    }
}

impl Unfinisheds {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
            && self.trash.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// The uploads to the trash, by their keys there; each comes once.
    pub fn drain_trash(&self) -> Vec<(ObjectKey, UploadId)> {
        std::mem::take(&mut *self.trash.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Takes the upload that can be continued for this version of the source object, if there is one.
    pub fn take(
        &self,
        key: &ObjectKey,
        source: &Fingerprint,
        part_bytes: u64,
        chunk_size: Option<ChunkSize>,
    ) -> Option<Unfinished> {
        let mut by_key = self.by_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let uploads = by_key.get_mut(key)?;
        let fits = uploads.iter().position(|upload| {
            upload.source.proves_unchanged(source) && upload.part_bytes == part_bytes && upload.chunk_size == chunk_size
        })?;
        Some(uploads.swap_remove(fits))
    }

    /// The ids of all of them.
    pub fn ids(&self) -> Vec<UploadId> {
        let by_key = self.by_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_key.values().flatten().map(|unfinished| unfinished.upload.clone()).collect()
    }

    /// What nobody took: uploads whose object changed, or is not wanted any more.
    pub fn drain(&self) -> Vec<Unfinished> {
        let mut by_key = self.by_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        by_key.drain().flat_map(|(_, uploads)| uploads).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(records: impl IntoIterator<Item = Record>) -> Unfinisheds {
        let mut uploads = OpenUploads::default();
        records.into_iter().for_each(|record| uploads.add(record));
        uploads.finish()
    }

    fn begun(id: &str, etag: &str) -> Record {
        Record::UploadBegun {
            key: "k".into(),
            upload_id: id.into(),
            source: fingerprint(etag),
            size_bytes: 100,
            part_bytes: 10,
            chunk: Some(ChunkSize::MIN),
            options: serde_json::Value::Null,
        }
    }

    fn fingerprint(etag: &str) -> Fingerprint {
        Fingerprint { size_bytes: 100, etag: Some(etag.into()), ..Fingerprint::default() }
    }

    fn part(id: &str, number: u32) -> Record {
        Record::PartDone {
            upload_id: id.into(),
            number,
            offset: 0,
            size_bytes: 10,
            etag: "p".into(),
            checksum: String::new(),
            chunks: Vec::new(),
        }
    }

    #[test]
    fn rule_18_an_upload_goes_on_only_when_all_matches() {
        let records = || [begun("u1", "v1"), part("u1", 1), part("u1", 3), part("other", 2)];
        let table = [
            ("v1", 10, Some(ChunkSize::MIN), true),
            ("v2", 10, Some(ChunkSize::MIN), false),
            ("v1", 20, Some(ChunkSize::MIN), false),
            ("v1", 10, Some(ChunkSize::DEFAULT), false),
            // Parts that were hashed and parts that the store copies are not mixed.
            ("v1", 10, None, false),
        ];
        for (etag, part_bytes, chunk, found) in table {
            let uploads = open(records());
            let taken = uploads.take(&"k".into(), &fingerprint(etag), part_bytes, chunk);
            assert_eq!(taken.is_some(), found, "{etag} {part_bytes}");
            assert_eq!(uploads.drain().len(), usize::from(!found));
            if let Some(upload) = taken {
                let mut numbers: Vec<_> = upload.parts.into_keys().collect();
                numbers.sort_unstable();
                assert_eq!(numbers, [1, 3]);
            }
        }
    }

    #[test]
    fn rule_18_an_ended_upload_is_not_ours_any_more() {
        let ended = Record::UploadEnded { upload_id: "u1".into(), completed: true };
        assert!(open([begun("u1", "v1"), ended.clone()]).drain().is_empty());
        let trash = |id: &str| Record::TrashUpload { key: "r/k".into(), upload_id: id.into() };
        let uploads = open([trash("u1"), trash("u2"), ended]);
        assert!(!uploads.is_empty() && uploads.ids().is_empty());
        assert_eq!(uploads.drain_trash(), [("r/k".into(), UploadId("u2".into()))]);
        assert!(uploads.is_empty());
    }
}
