//! Reading one file: its identity is the same before the first byte and after the last, or the read fails (rule 13).
//!
//! A file's times move in ticks of the kernel's clock: two writes within one tick leave the same identity. So a file that was
//! changed a moment ago is looked at again after that moment: a write that comes later then has another time.
//!
//! Never yields the last bytes of a file that changed while it was read, and never fewer bytes than were asked for. A
//! crash leaves nothing behind.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use manifest::{ChunkSize, EntryKind, Fingerprint, ObjectKey, RunHasher};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, pread, retry_on_intr};
use tokio::task::JoinHandle;

use super::{LinkMode, Spot, Tree, attributes, entry_kind, thread_lost};
use crate::store::{GetOptions, GetResult, HASH_BLOCK_BYTES, HashedRange, ObjectInfo, Result, StoreErrorKind};

/// How much of a file one step reads; anything up to this size is read in one.
const BLOCK_BYTES: u64 = 1 << 20;

/// Two ticks of a kernel with 100 a second, the coarsest there is: changes that are so far apart have different times.
const TICKS: Duration = Duration::from_millis(20);

/// What stands under a key, opened to be read.
pub(super) enum Opened {
    /// A regular file.
    File(OwnedFd, Stat),
    /// A symbolic link and the path in it.
    Link(Bytes, Stat),
}

impl Tree {
    /// Identity and attributes of what stands under a key; a folder is [`EntryKind::Folder`].
    pub(super) fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let Spot { folder, name } = self.spot("look up", key, self.reach_to_read())?;
        let stat = self.stat_for_reading(&folder, &name).map_err(|errno| self.fail("look up", key, errno))?;
        Ok(self.info(&stat))
    }

    fn stat_for_reading(&self, folder: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
        match self.options.links {
            LinkMode::Follow => statat(folder, name, AtFlags::empty()),
            LinkMode::Skip | LinkMode::Preserve => statat(folder, name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn info(&self, stat: &Stat) -> ObjectInfo {
        let kind = entry_kind(stat);
        let attributes = attributes::of_stat(stat, kind == EntryKind::Symlink);
        ObjectInfo { kind, fingerprint: self.fingerprint(stat), attributes, checksum: None }
    }

    /// Opens a file or link to read it. A pipe is not waited for.
    pub(super) fn open_to_read(&self, operation: &'static str, key: &ObjectKey) -> Result<Opened> {
        let Spot { folder, name } = self.spot(operation, key, self.reach_to_read())?;
        let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        if self.options.links != LinkMode::Follow {
            flags |= OFlags::NOFOLLOW;
        }
        let refused = |kind, detail: &str| Err(self.error(operation, key, kind, detail));
        match openat(&*folder, name.as_slice(), flags, Mode::empty()) {
            Ok(file) => {
                let stat = fstat(&file).map_err(|errno| self.fail(operation, key, errno))?;
                match entry_kind(&stat) {
                    EntryKind::Object => Ok(Opened::File(file, stat)),
                    EntryKind::Folder => refused(StoreErrorKind::KindConflict, "a folder stands there"),
                    _ => refused(StoreErrorKind::Unsupported, "it is a pipe, socket or device"),
                }
            }
            Err(Errno::LOOP) if self.options.links == LinkMode::Preserve => {
                let read = || {
                    let stat = statat(&*folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                    Ok((readlinkat(&*folder, name.as_slice(), Vec::new())?, stat))
                };
                let (target, stat) = read().map_err(|errno| self.fail(operation, key, errno))?;
                Ok(Opened::Link(Bytes::from(target.into_bytes()), stat))
            }
            Err(Errno::NXIO) => refused(StoreErrorKind::Unsupported, "it is a pipe, socket or device"),
            Err(errno) => Err(self.fail(operation, key, errno)),
        }
    }

    /// Reads a file or a range of it. A range that reaches past the end is another version's.
    pub(super) fn get(self: &Arc<Self>, key: &ObjectKey, options: &GetOptions) -> Result<GetResult> {
        let (file, stat, target) = match self.open_to_read("read", key)? {
            Opened::File(file, stat) => {
                let stat = self.settled(&file, stat).map_err(|errno| self.fail("read", key, errno))?;
                (Some(file), stat, Bytes::new())
            }
            Opened::Link(target, stat) => (None, stat, target),
        };
        let info = self.info(&stat);
        self.check_expected(key, &options.expect, &info.fingerprint)?;
        let size = match &file {
            Some(_) => info.fingerprint.size_bytes,
            None => target.len() as u64,
        };
        let range = options.range.clone().unwrap_or(0..size);
        if range.end > size || range.start > range.end {
            let detail = format!("bytes {}..{} of {size} were asked for", range.start, range.end);
            return Err(self.error("read", key, StoreErrorKind::Precondition, detail));
        }
        let body = match file {
            None => once(target.slice(range.start as usize..range.end as usize)),
            Some(_) if range.is_empty() => once(Bytes::new()),
            Some(file) => {
                let read = Read { tree: Arc::clone(self), key: key.clone(), file: Arc::new(file), stat };
                match range.end - range.start <= BLOCK_BYTES {
                    true => once(read.block(&range, true)?),
                    false => read.stream(range),
                }
            }
        };
        Ok(GetResult { info, body })
    }

    /// Reads a range of a file in blocks, into one buffer, and hashes it on the way. A link has no chunks.
    pub(super) fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        let Opened::File(file, stat) = self.open_to_read("read", key)? else { return Ok(None) };
        let fail = |errno| self.fail("read", key, errno);
        let changed = |detail| Err(self.error("read", key, StoreErrorKind::Precondition, detail));
        let stat = self.settled(&file, stat).map_err(fail)?;
        let info = self.info(&stat);
        self.check_expected(key, &Some(expect.clone()), &info.fingerprint)?;
        let mut hasher = RunHasher::new(range.start, chunk_size);
        let mut block = Vec::new();
        for piece in manifest::chunk::ranges(range.end.saturating_sub(range.start), HASH_BLOCK_BYTES) {
            let length = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
            if !read_into(&file, range.start + piece.start, length, &mut block).map_err(fail)? {
                return changed("it became shorter while it was read");
            }
            hasher.update(&block);
        }
        if !unchanged(&stat, &fstat(&file).map_err(fail)?) {
            return changed("it changed while it was read");
        }
        Ok(Some(HashedRange { info, chunks: hasher.finish() }))
    }

    /// The stat of an open file once its last change is [`TICKS`] ago. A change time in the future is another clock's: there
    /// is nothing to wait for.
    fn settled(&self, file: &OwnedFd, stat: Stat) -> Result<Stat, Errno> {
        let age_ns = (self.options.now_ns)().saturating_sub(attributes::ctime_ns(&stat));
        match u64::try_from(age_ns).map(Duration::from_nanos) {
            Ok(age) if age < TICKS => {
                std::thread::sleep(TICKS - age);
                fstat(file)
            }
            _ => Ok(stat),
        }
    }

    fn check_expected(&self, key: &ObjectKey, expect: &Option<Fingerprint>, now: &Fingerprint) -> Result<()> {
        match expect {
            Some(expect) if !expect.looks_like(now) => {
                Err(self.error("read", key, StoreErrorKind::Precondition, "it changed since it was listed"))
            }
            _ => Ok(()),
        }
    }
}

fn once(bytes: Bytes) -> BoxStream<'static, Result<Bytes>> {
    match bytes.is_empty() {
        true => stream::empty().boxed(),
        false => stream::iter([Ok(bytes)]).boxed(),
    }
}

/// Whether two stats of one open file are of the same content.
pub(super) fn unchanged(before: &Stat, after: &Stat) -> bool {
    let identity = |stat: &Stat| (stat.st_size, attributes::mtime_ns(stat), attributes::ctime_ns(stat));
    identity(before) == identity(after)
}

/// Reads exactly `length` bytes at `offset`; `None` when the file ends before.
pub(super) fn read_exactly(file: &OwnedFd, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Errno> {
    let mut bytes = Vec::with_capacity(length);
    Ok(read_into(file, offset, length, &mut bytes)?.then_some(bytes))
}

/// Reads exactly `length` bytes at `offset` in place of what `bytes` held; false when the file ends before.
pub(super) fn read_into(file: &OwnedFd, offset: u64, length: usize, bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    bytes.clear();
    bytes.reserve(length);
    while bytes.len() < length {
        // An allocation may be larger than asked for: what lies past `length` is cut off below.
        let at = offset + bytes.len() as u64;
        if retry_on_intr(|| pread(file, spare_capacity(bytes), at))? == 0 {
            return Ok(false);
        }
    }
    bytes.truncate(length);
    Ok(true)
}

/// A file that is being read, with its identity at the beginning.
#[derive(Clone)]
struct Read {
    tree: Arc<Tree>,
    key: ObjectKey,
    file: Arc<OwnedFd>,
    stat: Stat,
}

/// A block that a thread is reading, and what comes after it.
struct Ahead {
    read: Read,
    block: JoinHandle<Result<Bytes>>,
    rest: Range<u64>,
}

impl Read {
    /// One block; the last one is handed out only if the file is still what it was.
    fn block(&self, range: &Range<u64>, last: bool) -> Result<Bytes> {
        let fail = |errno| self.tree.fail("read", &self.key, errno);
        let changed = |detail| Err(self.tree.error("read", &self.key, StoreErrorKind::Precondition, detail));
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let Some(bytes) = read_exactly(&self.file, range.start, length).map_err(fail)? else {
            return changed("it became shorter while it was read");
        };
        if last && !unchanged(&self.stat, &fstat(&*self.file).map_err(fail)?) {
            return changed("it changed while it was read");
        }
        Ok(Bytes::from(bytes))
    }

    /// Blocks in order, one of them read ahead.
    fn stream(self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        stream::unfold(Some(self.ahead(range)), |ahead| async move {
            let Ahead { read, block, rest } = ahead?;
            let (tree, key) = (Arc::clone(&read.tree), read.key.clone());
            match block.await {
                Ok(Ok(bytes)) => Some((Ok(bytes), (!rest.is_empty()).then(|| read.ahead(rest)))),
                Ok(Err(error)) => Some((Err(error), None)),
                Err(lost) => Some((Err(thread_lost("read", &tree.place, Some(&key), lost)), None)),
            }
        })
        .boxed()
    }

    fn ahead(self, range: Range<u64>) -> Ahead {
        let end = range.end.min(range.start + BLOCK_BYTES);
        let (now, rest) = (range.start..end, end..range.end);
        let (read, last) = (self.clone(), rest.is_empty());
        Ahead { read: self, block: tokio::task::spawn_blocking(move || read.block(&now, last)), rest }
    }
}
