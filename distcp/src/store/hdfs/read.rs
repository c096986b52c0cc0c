//! Reading one file: its identity is the same before the first byte and after the last, or the read fails (rule 13).
//!
//! Never yields the last bytes of a file that changed while it was read, and never fewer bytes than were asked for. Blocks
//! are checked against the DataNodes' checksums by the client. A crash leaves nothing behind.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hdfs_native::HdfsError;
use manifest::{Fingerprint, ObjectKey};

use super::path::HdfsPath;
use super::{CALL_LIMIT, Tree};
use crate::store::{GetOptions, GetResult, Result, StoreError, StoreErrorKind};

/// Bytes as they come from the DataNodes.
pub(super) type Blocks = BoxStream<'static, Result<Bytes, HdfsError>>;

/// A body that is being read.
struct Read {
    tree: Arc<Tree>,
    key: ObjectKey,
    path: HdfsPath,
    /// The identity at the beginning.
    before: Fingerprint,
    blocks: Blocks,
    left: u64,
}

impl Tree {
    /// Reads a file or a range of it. A range that reaches past the end is another version's.
    pub(super) async fn get(self: &Arc<Self>, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let path = self.path("read", key)?;
        let status = self.status("read", key, &path).await?;
        if status.isdir {
            return Err(self.error("read", key, StoreErrorKind::KindConflict, "a folder stands there"));
        }
        let info = self.info(&status);
        let changed = |detail: String| Err(self.error("read", key, StoreErrorKind::Precondition, detail));
        if options.expect.is_some_and(|expect| !expect.looks_like(&info.fingerprint)) {
            return changed("it changed since it was listed".into());
        }
        let size = info.fingerprint.size_bytes;
        let range = options.range.unwrap_or(0..size);
        if range.end > size || range.start > range.end {
            return changed(format!("bytes {}..{} of {size} were asked for", range.start, range.end));
        }
        if range.is_empty() {
            return Ok(GetResult { info, body: stream::empty().boxed() });
        }
        let left = range.end - range.start;
        let blocks = match self.blocks("read", key, &path, size, range).await? {
            Some(blocks) => blocks,
            None => return changed("it is being written, or was replaced".into()),
        };
        let before = info.fingerprint.clone();
        let read = Read { tree: Arc::clone(self), key: key.clone(), path, before, blocks, left };
        let body = stream::unfold(Some(read), |read| async move {
            let mut read = read?;
            match read.next().await {
                Ok(bytes) => Some((Ok(bytes), (read.left > 0).then_some(read))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(GetResult { info, body: body.boxed() })
    }

    /// A range of a file of `size` bytes; `None` when the file has another size now.
    pub(super) async fn blocks(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        path: &HdfsPath,
        size: u64,
        range: Range<u64>,
    ) -> Result<Option<Blocks>> {
        let reader = self.call(operation, key, CALL_LIMIT, self.client.read(path.as_str())).await?;
        if reader.file_length() as u64 != size || range.end > size || range.start > range.end {
            return Ok(None);
        }
        let (start, length) = (range.start as usize, (range.end - range.start) as usize);
        Ok(Some(reader.read_range_stream(start, length).boxed()))
    }

    /// The next bytes, bounded in time; `None` at the end.
    pub(super) async fn next_block(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        blocks: &mut Blocks,
    ) -> Result<Option<Bytes>> {
        match tokio::time::timeout(CALL_LIMIT, blocks.next()).await {
            Ok(next) => next.transpose().map_err(|error| self.fail(operation, key, error)),
            Err(_) => Err(self.late(operation, key)),
        }
    }
}

impl Read {
    /// Some bytes; the last ones only if the file is still what it was.
    async fn next(&mut self) -> Result<Bytes> {
        let next = match self.tree.next_block("read", &self.key, &mut self.blocks).await {
            Ok(next) => next,
            // The blocks of a file that was replaced are gone.
            Err(error) => return Err(self.changed().await?.unwrap_or(error)),
        };
        let bytes = next.unwrap_or_default();
        if bytes.is_empty() || bytes.len() as u64 > self.left {
            let detail = "the DataNodes sent another number of bytes than the file has";
            let corrupt = self.tree.error("read", &self.key, StoreErrorKind::Corrupt, detail);
            return Err(self.changed().await?.unwrap_or(corrupt));
        }
        self.left -= bytes.len() as u64;
        match self.left {
            0 => self.changed().await?.map_or(Ok(bytes), Err),
            _ => Ok(bytes),
        }
    }

    /// The error to give if another version stands there now.
    async fn changed(&mut self) -> Result<Option<StoreError>> {
        let changed = self.tree.error("read", &self.key, StoreErrorKind::Precondition, "it changed while it was read");
        match self.tree.status("read", &self.key, &self.path).await {
            Ok(now) if self.before.looks_like(&self.tree.fingerprint(&now)) => Ok(None),
            Ok(_) => Ok(Some(changed)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Some(changed)),
            Err(error) => Err(error),
        }
    }
}
