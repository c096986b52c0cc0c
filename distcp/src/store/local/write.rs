//! Writing whole objects: under a temporary name beside the key, read back, made durable (at once, or with others), then
//! renamed into place.
//!
//! Under the key stands the old object or the new one, never a mix, and what was acknowledged survives a power cut: with
//! [`SyncMode::Batched`] once the store was settled. A failure removes the temporary file; a crash leaves it.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use manifest::{EntryKind, Fingerprint, ObjectKey};
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, copy_file_range, fstat, fsync, ioctl_ficlone, linkat, openat,
    readlinkat, renameat, renameat_with, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use super::path::{self, Reach, SyncFolders, sync_folder, temporary_name};
use super::read::{Opened, read_into, unchanged};
use super::{Spot, SyncMode, Tree, attributes};
use crate::store::payload::Crc64;
use crate::store::{Payload, Precondition, Proof, PutOptions, Result, StoreError, StoreErrorKind, Written};

/// How much is copied in one step.
const STEP_BYTES: usize = 1 << 20;
/// How much is written, read back and checked in one step: it is still in the processor's cache when it is checked, and
/// the kernel finds memory for it without looking for a large piece (a write of many MiB takes several times as long).
const WRITE_BYTES: usize = 128 << 10;
/// How often a temporary file is tried: its name can be taken, or its folder be removed by a delete at the same moment.
const CREATE_ATTEMPTS: usize = 16;

/// A temporary name that is removed unless it became an object.
pub(super) struct Temporary {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: String,
    keep: bool,
}

impl Temporary {
    /// Leaves the file where it is: it is an upload that goes on.
    pub(super) fn keep(mut self) -> String {
        self.keep = true;
        std::mem::take(&mut self.name)
    }

    /// The file of an upload, which stays when it cannot become an object now.
    pub(super) fn of_upload(folder: Arc<OwnedFd>, name: String) -> Self {
        Self { folder, name, keep: true }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is found as a leftover by the next run.
            let _ = unlinkat(&*self.folder, &self.name, AtFlags::empty());
        }
    }
}

impl Tree {
    pub(super) fn reach_to_write(&self) -> Reach {
        let sync = match (self.options.sync, self.batched()) {
            (SyncMode::Never, _) => SyncFolders::Never,
            (SyncMode::Each | SyncMode::Batched, None) => SyncFolders::Each,
            (SyncMode::Each | SyncMode::Batched, Some(batch)) => SyncFolders::Except(batch.device()),
        };
        Reach::Create { sync }
    }

    /// Where `key` is to be, and something temporary beside it that `make` made.
    pub(super) fn temporary<T>(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        make: impl Fn(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<(Spot, Temporary, T)> {
        let mut last = Errno::NOENT;
        for _ in 0..CREATE_ATTEMPTS {
            let spot = self.spot(operation, key, self.reach_to_write())?;
            let name = temporary_name();
            match make(&spot.folder, &name) {
                Ok(made) => {
                    let temporary = Temporary { folder: Arc::clone(&spot.folder), name, keep: false };
                    return Ok((spot, temporary, made));
                }
                Err(errno @ (Errno::NOENT | Errno::EXIST)) => last = errno,
                Err(errno) => return Err(self.fail(operation, key, errno)),
            }
        }
        Err(self.fail(operation, key, last))
    }

    /// An empty temporary file. One that is to have other permissions than the usual is ours alone until it has them.
    pub(super) fn temporary_file(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        options: &PutOptions,
    ) -> Result<(Spot, Temporary, OwnedFd)> {
        let bits = if attributes::mode(&options.attributes).is_some() { 0o600 } else { 0o666 };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.temporary(operation, key, |folder, name| openat(folder, name, flags, Mode::from_raw_mode(bits)))
    }

    fn changed_in_memory(&self, operation: &'static str, key: &ObjectKey) -> StoreError {
        self.error(operation, key, StoreErrorKind::Corrupt, "the bytes changed after they were read")
    }

    /// Writes a whole object, a link or a folder.
    pub(super) fn put(&self, key: &ObjectKey, body: &Payload, options: &PutOptions) -> Result<Written> {
        match options.kind {
            EntryKind::Object => self.put_file(key, body, options),
            EntryKind::Symlink if !body.is_intact() => Err(self.changed_in_memory("write", key)),
            EntryKind::Symlink => self.put_link(key, body.bytes(), options),
            EntryKind::Folder => self.put_folder(key, options),
            EntryKind::Special => {
                Err(self.error("write", key, StoreErrorKind::Unsupported, "pipes, sockets and devices are not copied"))
            }
        }
    }

    fn put_file(&self, key: &ObjectKey, body: &Payload, options: &PutOptions) -> Result<Written> {
        let (spot, temporary, file) = self.temporary_file("write", key, options)?;
        self.write_and_check("write", key, &file, 0, body)?;
        self.finish(key, &spot, temporary, &file, options, (Proof::ReadBack, true))
    }

    /// Writes `body` at `offset`, reads it back, and compares the checksum of what the file holds with the one that was
    /// taken when the bytes were read at the source: damage in memory and on the way to the file both show.
    pub(super) fn write_and_check(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        file: &OwnedFd,
        offset: u64,
        body: &Payload,
    ) -> Result<()> {
        let fail = |errno| self.fail(operation, key, errno);
        let mut held = Vec::with_capacity(WRITE_BYTES.min(body.len()));
        let mut checksum = Crc64::of_nothing();
        for (step, piece) in (0u64..).zip(body.bytes().chunks(WRITE_BYTES)) {
            let at = offset + step * WRITE_BYTES as u64;
            let mut done = 0;
            while let Some(rest) = piece.get(done..).filter(|rest| !rest.is_empty()) {
                done += retry_on_intr(|| pwrite(file, rest, at + done as u64)).map_err(fail)?;
            }
            if !read_into(file, at, piece.len(), &mut held).map_err(fail)? {
                let detail = format!("what was written at byte {at} is gone");
                return Err(self.error(operation, key, StoreErrorKind::Corrupt, detail));
            }
            checksum.update(&held);
        }
        match checksum.value() == body.crc64nvme() {
            true => Ok(()),
            false if !body.is_intact() => Err(self.changed_in_memory(operation, key)),
            false => {
                let detail = format!("what was written from byte {offset} on reads back differently");
                Err(self.error(operation, key, StoreErrorKind::Corrupt, detail))
            }
        }
    }

    /// Mode, time, durability, precondition, name: from a complete temporary file to the object. One that `may_wait` and
    /// replaces nothing is durable when the store is settled.
    pub(super) fn finish(
        &self,
        key: &ObjectKey,
        spot: &Spot,
        temporary: Temporary,
        file: &OwnedFd,
        options: &PutOptions,
        (proof, may_wait): (Proof, bool),
    ) -> Result<Written> {
        let fail = |errno| self.fail("write", key, errno);
        attributes::apply(file, &options.attributes).map_err(fail)?;
        let is_new = options.precondition == Precondition::Absent && !key.is_empty();
        let batch = match self.batched() {
            Some(batch) if may_wait && is_new && batch.takes(&fstat(file).map_err(fail)?) => Some(batch),
            _ => None,
        };
        if self.options.sync != SyncMode::Never && batch.is_none() {
            fsync(file).map_err(fail)?;
        }
        self.commit(key, spot, temporary, &options.precondition)?;
        if let Some(batch) = batch {
            batch.add(key);
        }
        Ok(Written { fingerprint: self.fingerprint(&fstat(file).map_err(fail)?), proof })
    }

    /// Renames a temporary name into place if the precondition holds.
    pub(super) fn commit(
        &self,
        key: &ObjectKey,
        spot: &Spot,
        temporary: Temporary,
        precondition: &Precondition,
    ) -> Result<()> {
        let (from, to) = (temporary.name.as_str(), spot.name.as_slice());
        let folder = &*spot.folder;
        let renamed = match precondition {
            Precondition::Any => {
                let _shared = self.commit.read().unwrap_or_else(PoisonError::into_inner);
                renameat(folder, from, folder, to)
            }
            Precondition::Absent => {
                let _shared = self.commit.read().unwrap_or_else(PoisonError::into_inner);
                rename_if_absent(folder, from, to)
            }
            Precondition::Matches(expected) => {
                let _alone = self.commit.write().unwrap_or_else(PoisonError::into_inner);
                self.check_matches(key, spot, expected)?;
                renameat(folder, from, folder, to)
            }
        };
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = statat(folder, to, AtFlags::SYMLINK_NOFOLLOW);
                let is_folder = stat.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
                return Err(match is_folder {
                    true => self.fail("write", key, Errno::ISDIR),
                    false => self.error("write", key, StoreErrorKind::Precondition, "it exists already"),
                });
            }
            Err(errno) => return Err(self.fail("write", key, errno)),
        }
        drop(temporary.keep());
        self.sync_name(folder).map_err(|errno| self.fail("write", key, errno))
    }

    /// Makes a name that stands in the folder as durable as it is to be when its write answers.
    fn sync_name(&self, folder: &OwnedFd) -> Result<(), Errno> {
        match (self.options.sync, self.batched()) {
            (SyncMode::Never, _) => Ok(()),
            (_, Some(batch)) if batch.add_name(folder)? => Ok(()),
            _ => sync_folder(folder),
        }
    }

    fn check_matches(&self, key: &ObjectKey, spot: &Spot, expected: &Fingerprint) -> Result<()> {
        let refused = |detail| Err(self.error("write", key, StoreErrorKind::Precondition, detail));
        match statat(&*spot.folder, spot.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if expected.looks_like(&self.fingerprint(&stat)) => Ok(()),
            Ok(_) => refused("it is another version"),
            Err(Errno::NOENT) => refused("it is gone"),
            Err(errno) => Err(self.fail("write", key, errno)),
        }
    }

    fn put_link(&self, key: &ObjectKey, target: &[u8], options: &PutOptions) -> Result<Written> {
        if target.is_empty() || target.contains(&0) || target.len() > path::MAX_PATH_BYTES {
            let detail = "a link points to a path of 1 to 4,095 bytes without NUL";
            return Err(self.error("write", key, StoreErrorKind::Unsupported, detail));
        }
        let fail = |errno| self.fail("write", key, errno);
        let (spot, temporary, ()) = self.temporary("write", key, |folder, name| symlinkat(target, folder, name))?;
        if let Some(times) = attributes::times(&options.attributes) {
            utimensat(&*spot.folder, &temporary.name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        self.commit(key, &spot, temporary, &options.precondition)?;
        let held = readlinkat(&*spot.folder, spot.name.as_slice(), Vec::new()).map_err(fail)?;
        if held.to_bytes() != target {
            return Err(self.error("write", key, StoreErrorKind::Corrupt, "the link reads back differently"));
        }
        let stat = statat(&*spot.folder, spot.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        Ok(Written { fingerprint: self.fingerprint(&stat), proof: Proof::ReadBack })
    }

    fn put_folder(&self, key: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let fail = |errno| self.fail("write", key, errno);
        let spot = self.spot("write", key, self.reach_to_write())?;
        let (folder, name) = (&*spot.folder, spot.name.as_slice());
        match rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => self.sync_name(folder).map_err(fail)?,
            Err(Errno::EXIST) => {
                let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return Err(self.fail("write", key, Errno::NOTDIR));
                }
                if options.precondition == Precondition::Absent {
                    return Err(self.error("write", key, StoreErrorKind::Precondition, "it exists already"));
                }
            }
            Err(errno) => return Err(fail(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(folder, name, flags, Mode::empty()).map_err(fail)?;
        attributes::apply(&made, &options.attributes).map_err(fail)?;
        Ok(Written { fingerprint: self.fingerprint(&fstat(&made).map_err(fail)?), proof: Proof::ReadBack })
    }

    /// Copies inside this store: shared blocks where the file system can, else in the kernel, else through memory.
    pub(super) fn copy(
        &self,
        from: &ObjectKey,
        expect: &Fingerprint,
        to: &ObjectKey,
        options: &PutOptions,
    ) -> Result<Written> {
        let stale = |detail| Err(self.error("copy", from, StoreErrorKind::Precondition, detail));
        let (source, before) = match self.open_to_read("copy", from)? {
            Opened::Link(_, stat) if !expect.looks_like(&self.fingerprint(&stat)) => {
                return stale("it changed since it was listed");
            }
            Opened::Link(target, _) => return self.put_link(to, &target, options),
            Opened::File(source, stat) => (source, stat),
        };
        if !expect.looks_like(&self.fingerprint(&before)) {
            return stale("it changed since it was listed");
        }
        let (spot, temporary, file) = self.temporary_file("copy", to, options)?;
        let fail = |errno| self.fail("copy", to, errno);
        copy_content(&source, &file, &before).map_err(fail)?;
        let (after, copied) = (fstat(&source).map_err(fail)?, fstat(&file).map_err(fail)?);
        if !unchanged(&before, &after) || copied.st_size != before.st_size {
            return stale("it changed while it was copied");
        }
        self.finish(to, &spot, temporary, &file, options, (Proof::None, true))
    }
}

/// `renameat` that never replaces; file systems without `RENAME_NOREPLACE` have hard links.
fn rename_if_absent(folder: &OwnedFd, from: &str, to: &[u8]) -> Result<(), Errno> {
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_if_absent(folder, from, to),
        done => done,
    }
}

fn link_if_absent(folder: &OwnedFd, from: &str, to: &[u8]) -> Result<(), Errno> {
    linkat(folder, from, folder, to, AtFlags::empty())?;
    // A crash here leaves the object and, as a leftover, a second name of it.
    unlinkat(folder, from, AtFlags::empty())
}

fn copy_content(source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    if ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let mut done = 0;
    while done < size {
        let step = usize::try_from(size - done).unwrap_or(usize::MAX).min(STEP_BYTES);
        let (mut from, mut to) = (done, done);
        match retry_on_intr(|| copy_file_range(source, Some(&mut from), target, Some(&mut to), step)) {
            // The source ends early: the caller sees it by the sizes.
            Ok(0) => return Ok(()),
            Ok(copied) => done += copied as u64,
            Err(Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM | Errno::BADF) => {
                return copy_through_memory(source, target, done, size);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn copy_through_memory(source: &OwnedFd, target: &OwnedFd, mut done: u64, size: u64) -> Result<(), Errno> {
    let mut block = Vec::with_capacity(STEP_BYTES);
    while done < size {
        block.clear();
        if retry_on_intr(|| pread(source, spare_capacity(&mut block), done))? == 0 {
            return Ok(());
        }
        let mut written = 0;
        while let Some(rest) = block.get(written..).filter(|rest| !rest.is_empty()) {
            written += retry_on_intr(|| pwrite(target, rest, done + written as u64))?;
        }
        done += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ways for file systems that lack the better ones are never taken on those that tests run on.
    #[test]
    fn plain_file_systems_never_replace_and_copy_every_byte() {
        let scratch = tempfile::tempdir().unwrap();
        let folder: OwnedFd = std::fs::File::open(scratch.path()).unwrap().into();
        let path = |name| scratch.path().join(name);
        std::fs::write(path("from"), "new").unwrap();
        link_if_absent(&folder, "from", b"to").unwrap();
        assert!(!path("from").exists());
        std::fs::write(path("from"), "newer").unwrap();
        assert_eq!(link_if_absent(&folder, "from", b"to"), Err(Errno::EXIST));
        assert_eq!(std::fs::read(path("to")).unwrap(), b"new");

        let body: Vec<u8> = (0..(2 * STEP_BYTES + 17)).map(|i| (i % 251) as u8).collect();
        std::fs::write(path("source"), &body).unwrap();
        let source: OwnedFd = std::fs::File::open(path("source")).unwrap().into();
        let target: OwnedFd = std::fs::File::create(path("target")).unwrap().into();
        copy_through_memory(&source, &target, 0, body.len() as u64).unwrap();
        assert!(std::fs::read(path("target")).unwrap() == body);
    }
}
