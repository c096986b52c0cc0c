//! Writing whole objects: under a temporary name beside the key, read back and compared, then renamed into place.
//!
//! Under the key stands the old object or the new one, never a mix. A failure removes the temporary file; a crash leaves
//! it, and so does a failure to remove it.

use std::sync::Arc;

use bytes::Bytes;
use hdfs_native::client::FileStatus;
use hdfs_native::file::FileWriter;
use hdfs_native::{HdfsError, WriteOptions};
use manifest::{Attributes, EntryKind, ObjectKey};

use super::path::HdfsPath;
use super::{CALL_LIMIT, CLOSE_LIMIT, TIME_STEP_NS, Tree};
use crate::store::local::attributes::{MTIME, PERMISSION_BITS, parse_mtime, permission_bits};
use crate::store::local::path::temporary_name;
use crate::store::{Payload, Precondition, Proof, PutOptions, Result, StoreErrorKind, Written};

/// How much is sent in one step, which is bounded in time.
const STEP_BYTES: usize = 1 << 20;
/// How often a folder is made again that a delete of ours removes at the same moment.
const CREATE_ATTEMPTS: usize = 16;
/// What a new file may be by: as the client does it without being told.
const FILE_BITS: u32 = 0o644;
/// The same for folders.
const FOLDER_BITS: u32 = 0o755;
/// To the NameNode: leave this time as it is.
const SAME_TIME: u64 = u64::MAX;

/// A temporary path that is removed unless it became an object.
pub(super) struct Temporary {
    tree: Arc<Tree>,
    pub(super) path: HdfsPath,
    keep: bool,
}

impl Temporary {
    pub(super) fn new(tree: &Arc<Tree>, path: HdfsPath) -> Self {
        Self { tree: Arc::clone(tree), path, keep: false }
    }

    /// It became something that stays.
    pub(super) fn keep(mut self) {
        self.keep = true;
    }

    /// Removes it now. What cannot be removed is found as a leftover by the next run.
    async fn remove(mut self) {
        self.keep = true;
        let _ = tokio::time::timeout(CALL_LIMIT, self.tree.client.delete(self.path.as_str(), false)).await;
    }
}

impl Drop for Temporary {
    /// For a call that was given up half-way.
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.keep, tokio::runtime::Handle::try_current()) {
            let (tree, path) = (Arc::clone(&self.tree), self.path.clone());
            runtime.spawn(async move {
                // As above: a leftover else.
                let _ = tokio::time::timeout(CALL_LIMIT, tree.client.delete(path.as_str(), false)).await;
            });
        }
    }
}

/// The modification time that attributes ask for, in milliseconds; HDFS keeps none before 1970.
fn wanted_mtime_ms(attributes: &Attributes) -> Option<u64> {
    u64::try_from(parse_mtime(attributes.get(MTIME)?)?.div_euclid(TIME_STEP_NS)).ok()
}

impl Tree {
    /// Writes a whole object or a folder.
    pub(super) async fn put(
        self: &Arc<Self>,
        key: &ObjectKey,
        body: &Payload,
        options: &PutOptions,
    ) -> Result<Written> {
        let unsupported = |detail| Err(self.error("write", key, StoreErrorKind::Unsupported, detail));
        match options.kind {
            EntryKind::Object => {}
            EntryKind::Folder => return self.put_folder(key, options).await,
            EntryKind::Symlink => return unsupported("HDFS has symbolic links switched off"),
            EntryKind::Special => return unsupported("pipes, sockets and devices are not copied"),
        }
        self.intact("write", key, body)?;
        let path = self.path("write", key)?;
        let temporary = Temporary::new(self, self.temporary_path("write", key, &path)?);
        let bits = permission_bits(&options.attributes).unwrap_or(FILE_BITS);
        let done = async {
            let writer = self.create("write", key, &temporary.path, bits).await?;
            self.fill("write", key, writer, body.bytes()).await?;
            self.compare("write", key, &temporary.path, body.bytes()).await?;
            self.finish("write", key, &temporary.path, &path, body.len() as u64, options).await
        };
        match done.await {
            Ok(written) => {
                temporary.keep();
                Ok(Written { proof: Proof::ReadBack, ..written })
            }
            Err(error) => {
                temporary.remove().await;
                Err(error)
            }
        }
    }

    /// Fails if the bytes are not what was read any more.
    pub(super) fn intact(&self, operation: &'static str, key: &ObjectKey, body: &Payload) -> Result<()> {
        match body.is_intact() {
            true => Ok(()),
            false => Err(self.error(operation, key, StoreErrorKind::Corrupt, "the bytes changed after they were read")),
        }
    }

    /// A fresh temporary name beside a path.
    pub(super) fn temporary_path(&self, operation: &'static str, key: &ObjectKey, path: &HdfsPath) -> Result<HdfsPath> {
        match path.split() {
            Some((folder, _)) => Ok(folder.join(&temporary_name())),
            None => Err(self.error(operation, key, StoreErrorKind::KindConflict, "the root is a folder")),
        }
    }

    /// A new file; the folders above it are made when they are missing.
    async fn create(&self, operation: &'static str, key: &ObjectKey, path: &HdfsPath, bits: u32) -> Result<FileWriter> {
        let options = WriteOptions::default().permission(bits).create_parent(false);
        for _ in 0..CREATE_ATTEMPTS {
            let created = self.call(operation, key, CALL_LIMIT, self.client.create(path.as_str(), &options)).await;
            match (created, path.split()) {
                (Err(error), Some((folder, _))) if error.kind == StoreErrorKind::NotFound => {
                    self.make_folders(operation, key, &folder).await?;
                }
                (created, _) => return created,
            }
        }
        Err(self.error(operation, key, StoreErrorKind::Other, "its folder is removed again and again"))
    }

    /// A folder and those above it.
    pub(super) async fn make_folders(&self, operation: &'static str, key: &ObjectKey, folder: &HdfsPath) -> Result<()> {
        let made = self.client.mkdirs(folder.as_str(), FOLDER_BITS, true);
        self.call(operation, key, CALL_LIMIT, made).await.map_err(|mut error| {
            if error.kind == StoreErrorKind::Precondition {
                error.kind = StoreErrorKind::KindConflict;
            }
            error
        })
    }

    /// A new file in a folder that must be there (of an upload).
    pub(super) async fn create_in(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        path: &HdfsPath,
        bits: u32,
    ) -> Result<FileWriter> {
        let options = WriteOptions::default().permission(bits).create_parent(false).overwrite(true);
        self.call(operation, key, CALL_LIMIT, self.client.create(path.as_str(), &options)).await
    }

    /// Sends bytes in bounded steps.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        writer: &mut FileWriter,
        bytes: &Bytes,
    ) -> Result<()> {
        for start in (0..bytes.len()).step_by(STEP_BYTES) {
            let step = bytes.slice(start..bytes.len().min(start + STEP_BYTES));
            self.call(operation, key, CALL_LIMIT, writer.write_bytes(step)).await?;
        }
        Ok(())
    }

    /// Writes a file's whole content and closes it.
    pub(super) async fn fill(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        mut writer: FileWriter,
        bytes: &Bytes,
    ) -> Result<()> {
        self.send(operation, key, &mut writer, bytes).await?;
        self.call(operation, key, CLOSE_LIMIT, writer.close()).await
    }

    /// Reads a file back and compares it with what it was to hold.
    pub(super) async fn compare(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        path: &HdfsPath,
        expected: &Bytes,
    ) -> Result<()> {
        if expected.is_empty() {
            return Ok(());
        }
        let differs = |at: usize| {
            let detail = format!("what was written at byte {at} reads back differently");
            Err(self.error(operation, key, StoreErrorKind::Corrupt, detail))
        };
        let size = expected.len() as u64;
        let Some(mut blocks) = self.blocks(operation, key, path, size, 0..size).await? else { return differs(0) };
        let mut at = 0;
        while let Some(bytes) = self.next_block(operation, key, &mut blocks).await? {
            if expected.get(at..at + bytes.len()) != Some(&bytes[..]) {
                return differs(at);
            }
            at += bytes.len();
        }
        if at == expected.len() { Ok(()) } else { differs(at) }
    }

    /// Time, permissions, size, precondition, name: from a complete temporary file to the object. The proof is the
    /// caller's to say.
    pub(super) async fn finish(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        from: &HdfsPath,
        to: &HdfsPath,
        size_bytes: u64,
        options: &PutOptions,
    ) -> Result<Written> {
        let status = self.adorn(operation, key, from, &options.attributes).await?;
        let written = self.fingerprint(&status);
        if written.size_bytes != size_bytes {
            let detail = format!("{size_bytes} bytes were written, {} are there", written.size_bytes);
            return Err(self.error(operation, key, StoreErrorKind::Corrupt, detail));
        }
        self.commit(operation, key, from, to, &options.precondition).await?;
        Ok(Written { fingerprint: written, proof: Proof::None })
    }

    /// Gives a file or folder the time and permissions that attributes ask for; its status then.
    async fn adorn(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        path: &HdfsPath,
        attributes: &Attributes,
    ) -> Result<FileStatus> {
        if let Some(mtime_ms) = wanted_mtime_ms(attributes) {
            let set = self.client.set_times(path.as_str(), mtime_ms, SAME_TIME);
            self.call(operation, key, CALL_LIMIT, set).await?;
        }
        let mut status = self.status(operation, key, path).await?;
        if let Some(bits) = permission_bits(attributes)
            && u32::from(status.permission) & PERMISSION_BITS != bits
        {
            let set = self.client.set_permission(path.as_str(), bits);
            self.call(operation, key, CALL_LIMIT, set).await?;
            status = self.status(operation, key, path).await?;
        }
        Ok(status)
    }

    /// Renames into place if the precondition holds.
    async fn commit(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        from: &HdfsPath,
        to: &HdfsPath,
        precondition: &Precondition,
    ) -> Result<()> {
        let refused = |detail| Err(self.error(operation, key, StoreErrorKind::Precondition, detail));
        let overwrite = *precondition != Precondition::Absent;
        let renamed = match precondition {
            Precondition::Any | Precondition::Absent => {
                let _shared = self.commit.read().await;
                self.rename(from, to, overwrite).await
            }
            Precondition::Matches(expected) => {
                let _alone = self.commit.write().await;
                match self.status(operation, key, to).await {
                    Ok(now) if now.isdir => {}
                    Ok(now) if expected.looks_like(&self.fingerprint(&now)) => {}
                    Ok(_) => return refused("it is another version"),
                    Err(error) if error.kind == StoreErrorKind::NotFound => return refused("it is gone"),
                    Err(error) => return Err(error),
                }
                self.rename(from, to, overwrite).await
            }
        };
        let Some(renamed) = renamed else { return Err(self.late(operation, key)) };
        let Err(error) = renamed else { return Ok(()) };
        let error = self.fail(operation, key, error);
        match self.status(operation, key, to).await {
            Ok(now) if now.isdir => {
                Err(self.error(operation, key, StoreErrorKind::KindConflict, "a folder stands there").because(error))
            }
            _ => Err(error),
        }
    }

    /// `None` when it did not come back in time.
    async fn rename(&self, from: &HdfsPath, to: &HdfsPath, overwrite: bool) -> Option<Result<(), HdfsError>> {
        tokio::time::timeout(CALL_LIMIT, self.client.rename(from.as_str(), to.as_str(), overwrite)).await.ok()
    }

    async fn put_folder(&self, key: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let path = self.path("write", key)?;
        if options.precondition == Precondition::Absent {
            match self.status("write", key, &path).await {
                Ok(now) if now.isdir => {
                    return Err(self.error("write", key, StoreErrorKind::Precondition, "it exists already"));
                }
                Err(error) if error.kind != StoreErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.make_folders("write", key, &path).await?;
        let status = self.adorn("write", key, &path, &options.attributes).await?;
        Ok(Written { fingerprint: self.fingerprint(&status), proof: Proof::ReadBack })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_to_milliseconds_and_none_is_before_1970() {
        for (text, ms) in [
            ("1600000000.123456789", Some(1_600_000_000_123)),
            ("0.000000000", Some(0)),
            ("-0.000000001", None),
            ("yesterday", None),
        ] {
            assert_eq!(wanted_mtime_ms(&Attributes::from([(MTIME.to_owned(), text.to_owned())])), ms, "{text}");
        }
    }
}
