//! Uploads in parts: a temporary folder beside the key with one file a part, put together when complete.
//!
//! HDFS only appends, so parts that come in any order are files of their own; the client can neither concatenate nor
//! truncate, so at completion they are copied, through a bounded buffer, into one file that is renamed into place. The
//! upload's id is the folder's name and nothing else: an id that is not of our pattern is refused, so that no journal,
//! however damaged, makes us touch another folder. A crash leaves the folder for the next run to go on with; a file in it
//! that is not whole has a name that no part has.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use manifest::ObjectKey;

use super::path::HdfsPath;
use super::{CALL_LIMIT, CLOSE_LIMIT, Tree};
use crate::store::local::attributes::permission_bits;
use crate::store::local::path::is_temporary;
use crate::store::local::upload::covered;
use crate::store::{PartSpec, Payload, Proof, PutOptions, Result, StoreErrorKind, UploadId, UploadedPart, Written};

/// What becomes the object.
const WHOLE: &str = "whole";
/// Parts and the unfinished whole are nobody else's to read.
const PART_BITS: u32 = 0o600;
/// The whole, unless the attributes say otherwise.
const WHOLE_BITS: u32 = 0o644;

/// The file of a part.
fn part_path(folder: &HdfsPath, part: PartSpec) -> HdfsPath {
    folder.join(&format!("{:020}-{}", part.offset, part.size_bytes))
}

impl Tree {
    /// Makes the folder.
    pub(super) async fn create_upload(&self, key: &ObjectKey) -> Result<UploadId> {
        let path = self.path("write", key)?;
        let folder = self.temporary_path("write", key, &path)?;
        self.make_folders("write", key, &folder).await?;
        let name = folder.split().map(|(_, name)| name.to_owned()).unwrap_or_default();
        Ok(UploadId(name))
    }

    /// The folder of an upload, if it is there.
    pub(super) async fn check_upload(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        upload: &UploadId,
    ) -> Result<HdfsPath> {
        let folder = self.upload_folder(operation, key, upload)?;
        match self.status(operation, key, &folder).await?.isdir {
            true => Ok(folder),
            false => Err(self.error(operation, key, StoreErrorKind::Other, "the upload is not a folder")),
        }
    }

    fn upload_folder(&self, operation: &'static str, key: &ObjectKey, upload: &UploadId) -> Result<HdfsPath> {
        let path = self.path(operation, key)?;
        match path.split() {
            Some((parent, _)) if is_temporary(upload.0.as_bytes()) => Ok(parent.join(&upload.0)),
            _ => Err(self.error(operation, key, StoreErrorKind::Other, "the upload id is not one of ours")),
        }
    }

    /// Writes one part, reads it back, and gives it its name.
    pub(super) async fn put_part(
        self: &Arc<Self>,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: &Payload,
    ) -> Result<UploadedPart> {
        let operation = "write a part of";
        self.intact(operation, key, body)?;
        if body.len() as u64 != part.size_bytes {
            let detail = format!("part {} is of {} bytes, not {}", part.number, part.size_bytes, body.len());
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        }
        let folder = self.check_upload(operation, key, upload).await?;
        let sending = folder.join(&format!("sending-{:016x}", rand::random::<u64>()));
        let writer = self.create_in(operation, key, &sending, PART_BITS).await?;
        // What a failure leaves goes with the upload.
        self.fill(operation, key, writer, body.bytes()).await?;
        self.compare(operation, key, &sending, body.bytes()).await?;
        let to = part_path(&folder, part);
        let rename = self.client.rename(sending.as_str(), to.as_str(), true);
        self.call(operation, key, CALL_LIMIT, rename).await?;
        Ok(UploadedPart { part, etag: String::new(), checksum: String::new(), proof: Proof::ReadBack })
    }

    /// The bytes of a part.
    pub(super) async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        let operation = "read back a part of";
        let path = part_path(&self.upload_folder(operation, key, upload)?, part);
        let short = || self.error(operation, key, StoreErrorKind::Corrupt, "the part has another size");
        if part.size_bytes == 0 {
            return self.status(operation, key, &path).await.map(|_| Bytes::new());
        }
        let blocks = self.blocks(operation, key, &path, part.size_bytes, 0..part.size_bytes).await?;
        let mut blocks = blocks.ok_or_else(short)?;
        let mut all = BytesMut::with_capacity(usize::try_from(part.size_bytes).unwrap_or_default());
        while let Some(bytes) = self.next_block(operation, key, &mut blocks).await? {
            all.extend_from_slice(&bytes);
        }
        if all.len() as u64 == part.size_bytes { Ok(all.freeze()) } else { Err(short()) }
    }

    /// Copies the parts into one file and renames it into place. When that fails the upload is still there.
    pub(super) async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let operation = "complete";
        let to = self.path(operation, key)?;
        let folder = self.check_upload(operation, key, upload).await?;
        let mut specs: Vec<PartSpec> = parts.iter().map(|uploaded| uploaded.part).collect();
        specs.sort_unstable_by_key(|part| part.number);
        let Some(size_bytes) = covered(parts) else {
            let detail = format!("{} parts do not make an object without a gap", parts.len());
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        };
        let whole = folder.join(WHOLE);
        let bits = permission_bits(&options.attributes).unwrap_or(WHOLE_BITS);
        let mut writer = self.create_in(operation, key, &whole, bits).await?;
        for part in specs.into_iter().filter(|part| part.size_bytes > 0) {
            let path = part_path(&folder, part);
            let blocks = self.blocks(operation, key, &path, part.size_bytes, 0..part.size_bytes).await?;
            let Some(mut blocks) = blocks else {
                let detail = format!("part {} has another size than it was sent with", part.number);
                return Err(self.error(operation, key, StoreErrorKind::Corrupt, detail));
            };
            while let Some(bytes) = self.next_block(operation, key, &mut blocks).await? {
                self.send(operation, key, &mut writer, &bytes).await?;
            }
        }
        self.call(operation, key, CLOSE_LIMIT, writer.close()).await?;
        // The caller reads the object back: its bytes went through memory once more.
        let written = self.finish(operation, key, &whole, &to, size_bytes, options).await?;
        // The object stands; parts that cannot be removed now are a leftover.
        let _ = tokio::time::timeout(CALL_LIMIT, self.client.delete(folder.as_str(), true)).await;
        Ok(written)
    }

    /// Removes the folder of an upload with all that is in it; a missing one is no error.
    pub(super) async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let folder = self.upload_folder("abort an upload of", key, upload)?;
        let deleted = self.client.delete(folder.as_str(), true);
        match self.call("abort an upload of", key, CALL_LIMIT, deleted).await {
            Err(error) if !matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::KindConflict) => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_other_sizes_at_one_offset_are_different_files() {
        let folder = HdfsPath::root(&"u".into()).unwrap();
        let name = |offset, size_bytes| part_path(&folder, PartSpec { number: 1, offset, size_bytes });
        assert_eq!(name(5, 7).as_str(), "/u/00000000000000000005-7");
        assert_ne!(name(0, 5), name(0, 6));
    }
}
