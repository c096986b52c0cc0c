//! Uploads in parts: a temporary file of the full size beside the key, written at offsets, renamed when complete.
//!
//! The upload's id is the temporary file's name and nothing else: an id that is not of our pattern is refused, so that no
//! journal, however damaged, makes us touch another file. A crash leaves the temporary file for the next run to go on with.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use manifest::ObjectKey;
use rustix::fs::{
    Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, fadvise, fallocate, fstat, fsync, ftruncate, openat,
    unlinkat,
};
use rustix::io::Errno;

use super::path::{Reach, is_temporary};
use super::read::read_exactly;
use super::write::Temporary;
use super::{Spot, SyncMode, Tree};
use crate::store::{PartSpec, Payload, Proof, PutOptions, Result, StoreErrorKind, UploadId, UploadedPart, Written};

impl Tree {
    /// Makes the temporary file, with room for the whole object where the file system can reserve it.
    pub(super) fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        let (_, temporary, file) = self.temporary_file("write", key, options)?;
        let fail = |errno| self.fail("write", key, errno);
        if size_bytes > 0 {
            match fallocate(&file, FallocateFlags::empty(), 0, size_bytes) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => ftruncate(&file, size_bytes).map_err(fail)?,
                reserved => reserved.map_err(fail)?,
            }
        }
        if self.options.sync != SyncMode::Never {
            // The journal is going to name it: it must be found after a power cut.
            fsync(&file).and_then(|()| super::path::sync_folder(&*temporary.folder)).map_err(fail)?;
        }
        Ok(UploadId(temporary.keep()))
    }

    fn upload_spot(&self, operation: &'static str, key: &ObjectKey, upload: &UploadId) -> Result<Spot> {
        if !is_temporary(upload.0.as_bytes()) {
            return Err(self.error(operation, key, StoreErrorKind::Other, "the upload id is not one of ours"));
        }
        self.spot(operation, key, Reach::Existing)
    }

    fn open_upload(&self, operation: &'static str, key: &ObjectKey, upload: &UploadId) -> Result<(Spot, OwnedFd, u64)> {
        let spot = self.upload_spot(operation, key, upload)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&*spot.folder, &upload.0, flags, Mode::empty());
        let file = opened.map_err(|errno| self.fail(operation, key, errno))?;
        let stat = fstat(&file).map_err(|errno| self.fail(operation, key, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error(operation, key, StoreErrorKind::Other, "the upload is not a regular file"));
        }
        Ok((spot, file, u64::try_from(stat.st_size).unwrap_or_default()))
    }

    fn check_part(&self, operation: &'static str, key: &ObjectKey, part: PartSpec, size_bytes: u64) -> Result<()> {
        match part.offset.checked_add(part.size_bytes) {
            Some(end) if end <= size_bytes => Ok(()),
            _ => {
                let detail = format!("part {} lies outside the {size_bytes} bytes of the upload", part.number);
                Err(self.error(operation, key, StoreErrorKind::Other, detail))
            }
        }
    }

    /// Writes one part where it belongs and reads it back.
    pub(super) fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: &Payload,
    ) -> Result<UploadedPart> {
        let operation = "write a part of";
        let (_, file, size_bytes) = self.open_upload(operation, key, upload)?;
        self.check_part(operation, key, part, size_bytes)?;
        if body.len() as u64 != part.size_bytes {
            let detail = format!("part {} is of {} bytes, not {}", part.number, part.size_bytes, body.len());
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        }
        self.write_and_check(operation, key, &file, part.offset, body)?;
        self.begin_to_sync(&file, part.offset, part.size_bytes);
        Ok(UploadedPart { part, etag: String::new(), checksum: String::new(), proof: Proof::ReadBack })
    }

    /// Has the kernel begin to write a part to the disk, without waiting: the sync of the whole finds little left to do. Only
    /// a hint, whose failure changes nothing.
    fn begin_to_sync(&self, file: &OwnedFd, offset: u64, size_bytes: u64) {
        if self.options.sync != SyncMode::Never {
            let _ = fadvise(file, offset, std::num::NonZeroU64::new(size_bytes), Advice::DontNeed);
        }
    }

    /// Whether the upload is still there.
    pub(super) fn check_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.open_upload("look up an upload of", key, upload).map(drop)
    }

    /// The bytes that stand where a part belongs.
    pub(super) fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        let operation = "read back a part of";
        let (_, file, size_bytes) = self.open_upload(operation, key, upload)?;
        self.check_part(operation, key, part, size_bytes)?;
        let length = usize::try_from(part.size_bytes).unwrap_or(usize::MAX);
        match read_exactly(&file, part.offset, length).map_err(|errno| self.fail(operation, key, errno))? {
            Some(bytes) => Ok(Bytes::from(bytes)),
            None => Err(self.error(operation, key, StoreErrorKind::Corrupt, "the upload became shorter")),
        }
    }

    /// Renames the file into place once the parts cover it. When that fails the upload is still there.
    pub(super) fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let operation = "complete";
        let (spot, file, size_bytes) = self.open_upload(operation, key, upload)?;
        if covered(parts) != Some(size_bytes) {
            let detail = format!("{} parts do not make its {size_bytes} bytes", parts.len());
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        }
        let proof = match parts.iter().all(|part| part.proof == Proof::ReadBack) {
            true => Proof::ReadBack,
            false => Proof::None,
        };
        let temporary = Temporary::of_upload(spot.folder.clone(), upload.0.clone());
        self.finish(key, &spot, temporary, &file, options, (proof, false))
    }

    /// Removes the file of an upload; a missing one is no error.
    pub(super) fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let spot = match self.upload_spot("abort an upload of", key, upload) {
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
            spot => spot?,
        };
        match unlinkat(&*spot.folder, &upload.0, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.fail("abort an upload of", key, errno)),
        }
    }
}

/// How many bytes parts in the order of their numbers cover without a gap; `None` when there is one.
pub(in crate::store) fn covered(parts: &[UploadedPart]) -> Option<u64> {
    let mut specs: Vec<PartSpec> = parts.iter().map(|uploaded| uploaded.part).collect();
    specs.sort_unstable_by_key(|part| part.number);
    specs.iter().try_fold(0u64, |end, part| match part.offset == end {
        true => end.checked_add(part.size_bytes),
        false => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_object_without_gap_or_overlap() {
        let part = |number, offset, size_bytes| UploadedPart {
            part: PartSpec { number, offset, size_bytes },
            etag: String::new(),
            checksum: String::new(),
            proof: Proof::ReadBack,
        };
        let table = [
            (vec![], Some(0)),
            (vec![part(1, 0, 5), part(2, 5, 5)], Some(10)),
            (vec![part(2, 5, 5), part(1, 0, 5)], Some(10)),
            (vec![part(1, 0, 5), part(3, 6, 5)], None),
            (vec![part(1, 0, 5), part(2, 4, 5)], None),
            (vec![part(1, 0, 5), part(1, 0, 5)], None),
        ];
        for (parts, bytes) in table {
            assert_eq!(covered(&parts), bytes, "{parts:?}");
        }
    }
}
