//! A folder of a local or mounted file system as a store; or one file, under the empty key.
//!
//! Never follows a link on a write or a delete, never writes outside its root, never shows a file under its name before
//! all of its bytes stand there. A crash leaves temporary files (`.understudy-<16 hex>.tmp`, beside what they were to
//! become) that no listing shows and [`LocalStore::leftovers`] finds.
//!
//! Kept of the attributes: modification time and permission bits. Content type and other user metadata are not. Two
//! preconditions differ in strength: [`super::Precondition::Absent`] is checked by the file system in the same step,
//! [`super::Precondition::Matches`] just before the rename: exact among the writers of one process, a window of
//! microseconds towards others.

use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use manifest::{ChunkSize, EntryKind, Fingerprint, Listed, ObjectKey};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::path::{Reach, Unreached};
pub use self::remove::{Leftover, MAX_LEFTOVERS};
use super::{
    Capabilities, CopySource, Folders, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec,
    Payload, PutOptions, Result, Store, StoreError, StoreErrorKind, Sweep, UploadId, UploadedPart, Written,
};
pub use crate::options::LinkMode;

pub(super) mod attributes;
pub(super) mod path;
mod read;
mod remove;
mod settle;
pub(super) mod upload;
mod walk;
mod write;

#[cfg(test)]
mod tests;

/// How many batches of a listing wait for their reader.
const LIST_QUEUE: usize = 4;
/// The largest object that one `put` takes: its body is in memory anyway.
const MAX_PUT_BYTES: u64 = 5 << 30;
/// A file whose modification time is younger proves nothing yet (rule 13).
const RACY_NS: i64 = 2_000_000_000;

/// When what a local store writes becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Each file and its name before its write answers.
    Each,
    /// New files, and names, with the next [`Store::settle`], where the file system can do that for all at once; else as
    /// `Each`.
    Batched,
    /// When the system gets to it: for what need not survive a power cut.
    Never,
}

/// How a local store behaves.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// What to do with symbolic links when listing and reading.
    pub links: LinkMode,
    /// Create the root, and the folders above it, with the first write.
    pub create_root: bool,
    /// When what is written becomes durable.
    pub sync: SyncMode,
    /// Nanoseconds since 1970, for the age of fingerprints and leftovers.
    pub now_ns: fn() -> i64,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self { links: LinkMode::Skip, create_root: false, sync: SyncMode::Each, now_ns: wall_clock_ns }
    }
}

fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A folder, or a single file, as a [`Store`].
#[derive(Clone)]
pub struct LocalStore(Arc<Tree>);

/// What all calls share: the opened root and how to behave.
struct Tree {
    /// The root as it was given, for messages.
    place: String,
    /// The root, absolute; links on the way to it (the user's own) are resolved when it is opened.
    root: PathBuf,
    options: LocalOptions,
    capabilities: Capabilities,
    /// The root as a folder, once it was there.
    folder: OnceLock<Arc<OwnedFd>>,
    /// Held for writing from the check of `Matches` to the rename, for reading by all other renames: within this process
    /// a swap is exact.
    commit: RwLock<()>,
    /// Writes that were begun.
    writes: AtomicU64,
    /// What waits to be synced together, once there is enough to write.
    batch: OnceLock<Option<settle::Batch>>,
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore").field("place", &self.0.place).field("options", &self.0.options).finish()
    }
}

impl LocalStore {
    /// A store on `root`, which is a folder, a file (then its only key is the empty one) or does not exist yet. Touches
    /// nothing but to resolve `root`; what is missing is created with the first write if `options.create_root`.
    ///
    /// # Errors
    /// When `root` is empty, or cannot be looked at for another reason than that it does not exist.
    pub fn open(root: &Path, options: LocalOptions) -> Result<Self> {
        let place = root.display().to_string();
        let failed = |error: std::io::Error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
            failure("open", &place, None, errno)
        };
        let resolved = match root.canonicalize() {
            Ok(resolved) => resolved,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::path::absolute(root).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        let capabilities = Capabilities {
            name: "local",
            ordered_list: true,
            start_after: false,
            levels: false,
            list_goes_on: false,
            folders: true,
            conditional_create: true,
            conditional_replace: true,
            conditional_read: false,
            server_copy: true,
            max_copy_bytes: u64::MAX,
            lists_parts: false,
            etags: false,
            attributes: true,
            delete_batch: 1000,
            max_put_bytes: MAX_PUT_BYTES,
            time_step_ns: 1,
        };
        let (folder, commit, writes, batch) = Default::default();
        Ok(Self(Arc::new(Tree { place, root: resolved, options, capabilities, folder, commit, writes, batch })))
    }

    /// The folder, or the single file, with every link that exists resolved.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Temporary files that are at least `min_age` old by their change time: what dead runs left. At most
    /// [`MAX_LEFTOVERS`] a call. For a root that is a file they are those of the folder it stands in: other runs
    /// may own some.
    pub async fn leftovers(&self, min_age: Duration, within: Option<Arc<Folders>>) -> Result<Vec<Leftover>> {
        self.blocking("list", None, move |tree| tree.leftovers(min_age, within)).await
    }

    /// Removes one temporary file; a missing one is no error.
    pub async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        let leftover = leftover.clone();
        self.blocking("delete", None, move |tree| tree.remove_leftover(&leftover)).await
    }

    /// Runs `work` on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: Option<&ObjectKey>,
        work: impl FnOnce(Arc<Tree>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(tree)).await {
            Ok(done) => done,
            Err(lost) => Err(thread_lost(operation, &self.0.place, key, lost)),
        }
    }
}

/// The error of a blocking call that did not come back: it panicked, or the runtime is shutting down.
fn thread_lost(
    operation: &'static str,
    place: &str,
    key: Option<&ObjectKey>,
    lost: tokio::task::JoinError,
) -> StoreError {
    let kind = if lost.is_cancelled() { StoreErrorKind::Cancelled } else { StoreErrorKind::Other };
    let error = StoreError::new(operation, place, kind, "the thread that did it ended early").because(lost);
    match key {
        Some(key) => error.on(key),
        None => error,
    }
}

/// The error of a system call.
fn failure(operation: &'static str, place: &str, key: Option<&ObjectKey>, errno: Errno) -> StoreError {
    use StoreErrorKind as Kind;
    let (kind, detail) = match errno {
        Errno::NOENT => (Kind::NotFound, ""),
        Errno::ACCESS | Errno::PERM => (Kind::Permission, ""),
        Errno::ROFS => (Kind::Permission, "the file system is read-only"),
        Errno::NOSPC => (Kind::NoSpace, ""),
        Errno::DQUOT => (Kind::NoSpace, "the quota is used up"),
        Errno::FBIG => (Kind::NoSpace, "the file would be larger than the limit"),
        Errno::NAMETOOLONG => (Kind::InvalidKey, "the name is too long for this file system"),
        Errno::ILSEQ => (Kind::InvalidKey, "this file system does not take such bytes in a name"),
        Errno::ISDIR | Errno::NOTEMPTY => (Kind::KindConflict, "a folder stands there"),
        Errno::NOTDIR => (Kind::KindConflict, "something that is not a folder stands above it"),
        Errno::LOOP => (Kind::KindConflict, "a symbolic link stands there"),
        Errno::TIMEDOUT => (Kind::Timeout, ""),
        _ => (Kind::Other, ""),
    };
    let error = match detail.is_empty() {
        true => StoreError::new(operation, place, kind, errno.to_string()),
        false => StoreError::new(operation, place, kind, detail),
    };
    let error = error.because(std::io::Error::from(errno));
    match key {
        Some(key) => error.on(key),
        None => error,
    }
}

/// Where a key's file is: an open folder, and a name in it.
struct Spot {
    folder: Arc<OwnedFd>,
    name: Vec<u8>,
}

impl Tree {
    fn fail(&self, operation: &'static str, key: &ObjectKey, errno: Errno) -> StoreError {
        failure(operation, &self.place, Some(key), errno)
    }

    fn error(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        kind: StoreErrorKind,
        detail: impl Into<String>,
    ) -> StoreError {
        StoreError::new(operation, &self.place, kind, detail).on(key)
    }

    /// The root as an open folder.
    fn root_folder(&self, create: bool) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(folder) = self.folder.get() {
            return Ok(Arc::clone(folder));
        }
        if create && self.options.create_root {
            self.create_folders(&self.root)?;
        }
        let opened = Arc::new(open_by_path(&self.root)?);
        Ok(Arc::clone(self.folder.get_or_init(|| opened)))
    }

    fn create_folders(&self, path: &Path) -> Result<(), Errno> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_folders(parent)?;
        }
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        match path.parent() {
            Some(parent) if self.options.sync != SyncMode::Never => path::sync_folder(open_by_path(parent)?),
            _ => Ok(()),
        }
    }

    /// The folder and name of a key; the empty key is the root by its own name in the folder above it.
    fn spot(&self, operation: &'static str, key: &ObjectKey, reach: Reach) -> Result<Spot> {
        let create = matches!(reach, Reach::Create { .. });
        if create {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        if key.is_empty() {
            let (Some(parent), Some(name)) = (self.root.parent(), self.root.file_name()) else {
                return Err(self.error(operation, key, StoreErrorKind::KindConflict, "the root is a folder"));
            };
            if create && self.options.create_root {
                self.create_folders(parent).map_err(|errno| self.fail(operation, key, errno))?;
            }
            let folder = open_by_path(parent).map_err(|errno| self.fail(operation, key, errno))?;
            return Ok(Spot { folder: Arc::new(folder), name: name.as_bytes().to_vec() });
        }
        let (segments, name) = path::split(key, self.root.as_os_str().len())
            .map_err(|why| self.error(operation, key, StoreErrorKind::InvalidKey, why))?;
        let root = self.root_folder(create).map_err(|errno| self.fail(operation, key, errno))?;
        let reach = if create { self.reach_to_write() } else { reach };
        let folder = path::open_folder(&root, &segments, reach)
            .map_err(|unreached| self.unreached(operation, key, &segments, reach, unreached))?;
        Ok(Spot { folder, name: name.to_vec() })
    }

    fn unreached(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        segments: &[&[u8]],
        reach: Reach,
        unreached: Unreached,
    ) -> StoreError {
        match unreached {
            Unreached::Missing => self.error(operation, key, StoreErrorKind::NotFound, ""),
            Unreached::Failed(errno) => self.fail(operation, key, errno),
            Unreached::Blocked { depth, link } => {
                let blocker = ObjectKey::new(segments.get(..depth).unwrap_or(segments).join(&b'/'));
                let what = if link { "a symbolic link, which is not followed" } else { "not a folder" };
                // What lies behind it is no object of this store; a write or a delete must not go there.
                let kind = match (reach, link) {
                    (Reach::Read { .. }, _) | (Reach::Existing, false) => StoreErrorKind::NotFound,
                    _ => StoreErrorKind::KindConflict,
                };
                self.error(operation, key, kind, format!("{blocker} is {what}"))
            }
        }
    }

    /// How to reach what is only read.
    fn reach_to_read(&self) -> Reach {
        Reach::Read { follow: self.options.links == LinkMode::Follow }
    }

    /// The identity that a listing tells of a file with this stat.
    fn fingerprint(&self, stat: &Stat) -> Fingerprint {
        let mtime_ns = attributes::mtime_ns(stat);
        let size_bytes = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => u64::try_from(stat.st_size).unwrap_or_default(),
            _ => 0,
        };
        Fingerprint {
            size_bytes,
            mtime_ns: Some(mtime_ns),
            ctime_ns: Some(attributes::ctime_ns(stat)),
            file_id: Some(stat.st_ino),
            racy: mtime_ns > (self.options.now_ns)().saturating_sub(RACY_NS),
            ..Fingerprint::default()
        }
    }
}

fn open_by_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn entry_kind(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::Object,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Directory => EntryKind::Folder,
        _ => EntryKind::Special,
    }
}

/// A listing between its walking thread and its reader.
enum Listing {
    Ready(Arc<Tree>, ListOptions),
    Running(Arc<Tree>, mpsc::Receiver<Vec<Listed>>, JoinHandle<Result<()>>),
    Done,
}

impl Listing {
    /// The next batch. The listing is whole only if the thread itself said so: a thread that was lost is an error.
    async fn next(self) -> Option<(Result<Vec<Listed>>, Listing)> {
        let (tree, mut batches, walk) = match self {
            Listing::Ready(tree, options) => {
                let (send, batches) = mpsc::channel(LIST_QUEUE);
                let walking = Arc::clone(&tree);
                (tree, batches, tokio::task::spawn_blocking(move || walking.list(&options, &send)))
            }
            Listing::Running(tree, batches, walk) => (tree, batches, walk),
            Listing::Done => return None,
        };
        if let Some(batch) = batches.recv().await {
            return Some((Ok(batch), Listing::Running(tree, batches, walk)));
        }
        match walk.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), Listing::Done)),
            Err(lost) => Some((Err(thread_lost("list", &tree.place, None, lost)), Listing::Done)),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn place(&self) -> &str {
        &self.0.place
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        stream::unfold(Listing::Ready(Arc::clone(&self.0), options), Listing::next).boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let wanted = key.clone();
        self.blocking("look up", Some(key), move |tree| tree.head(&wanted)).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let wanted = key.clone();
        self.blocking("read", Some(key), move |tree| tree.get(&wanted, &options)).await
    }

    async fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        let (wanted, expect) = (key.clone(), expect.clone());
        self.blocking("read", Some(key), move |tree| tree.hash_range(&wanted, range, &expect, chunk_size)).await
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let (wanted, options) = (key.clone(), options.clone());
        self.blocking("write", Some(key), move |tree| tree.put(&wanted, &body, &options)).await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        let (wanted, options) = (key.clone(), options.clone());
        self.blocking("write", Some(key), move |tree| tree.create_upload(&wanted, size_bytes, &options)).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        let (wanted, upload) = (key.clone(), upload.clone());
        self.blocking("write a part of", Some(key), move |tree| tree.put_part(&wanted, &upload, part, &body)).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        let (wanted, upload) = (key.clone(), upload.clone());
        self.blocking("look up an upload of", Some(key), move |tree| tree.check_upload(&wanted, &upload)).await?;
        Ok(Vec::new())
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        let (wanted, upload) = (key.clone(), upload.clone());
        self.blocking("read back a part of", Some(key), move |tree| tree.read_part(&wanted, &upload, part)).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let (wanted, upload, options) = (key.clone(), upload.clone(), options.clone());
        let parts = parts.to_vec();
        self.blocking("complete", Some(key), move |tree| tree.complete_upload(&wanted, &upload, &parts, &options)).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let (wanted, upload) = (key.clone(), upload.clone());
        self.blocking("abort an upload of", Some(key), move |tree| tree.abort_upload(&wanted, &upload)).await
    }

    /// Folders are copied between only through us: a copy in the kernel would hide a disk that fails.
    fn origin(&self) -> Option<Origin> {
        None
    }

    fn copies_from(&self, _origin: &Origin) -> Option<u64> {
        None
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let (from, expect, target, mut options) =
            (source.key.clone(), source.expect.clone(), to.clone(), options.clone());
        if source.origin.is_some() {
            let detail = "a folder copies only what it holds itself";
            return Err(self.0.error("copy", to, StoreErrorKind::Unsupported, detail));
        }
        let keep = source.keep_attributes;
        self.blocking("copy", Some(to), move |tree| {
            if keep {
                options.attributes = tree.head(&from)?.attributes;
            }
            tree.copy(&from, &expect, &target, &options)
        })
        .await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let (_, _, _) = (source, upload, part);
        let detail = "a folder copies objects whole";
        Err(self.0.error("copy a part of", to, StoreErrorKind::Unsupported, detail))
    }

    async fn settle(&self) -> Result<()> {
        self.blocking("sync", None, move |tree| tree.settle()).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let wanted = keys.to_vec();
        let answers = self.blocking("delete", None, move |tree| Ok(tree.delete(&wanted))).await;
        match answers {
            Ok(answers) => answers,
            Err(lost) => {
                let again = |key| self.0.error("delete", key, lost.kind, lost.detail.clone());
                keys.iter().map(|key| Err(again(key))).collect()
            }
        }
    }
}

#[async_trait]
impl Sweep for LocalStore {
    async fn leftovers(&self, min_age: Duration, within: Option<Arc<Folders>>) -> Result<Vec<Leftover>> {
        LocalStore::leftovers(self, min_age, within).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        LocalStore::remove_leftover(self, leftover).await
    }
}
