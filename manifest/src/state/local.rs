//! State in a folder of a file system.
//!
//! A file is written under a temporary name, synced, and published by a hard link (create) or by a rename under a lock
//! file (swap); then its folder is synced, and with it each folder that was made, or got a file that could wait, since the
//! last time. A reader never sees half a file. A crash leaves at most a temporary file, which listing does not show and
//! [`StateStore::sweep_leftovers`] removes, and a lock file, whose lock dies with its holder. A power cut also takes
//! what [`Lasting`] allows: files that were to be whole may be gone or as they were before, loose ones empty.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::FlockOperation;

use super::layout::is_name;
use super::{Lasting, StateItem, StateStore, Tag};
use crate::error::{Class, Error, Result};

/// The first letters of a temporary file's name.
const TEMPORARY: &str = ".tmp-";
/// The lock file, in the root: held for the moment of a swap. Sorts behind the state's marker, as every file must.
const LOCK: &str = ".understudy.lock";
/// How often a folder is made again when somebody removes it, being empty, before our file stands in it.
const FOLDER_ATTEMPTS: u32 = 8;
/// Listing refuses folders that lie deeper than this below the root: none of ours does.
const MAX_DEPTH: usize = 8;

/// A state folder of a local (or network) file system.
#[derive(Debug, Clone)]
pub struct LocalState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    writable: bool,
    /// Some network file systems hold a lock per process, not per open file: this keeps our own tasks apart.
    swapping: Mutex<()>,
    /// Folders with entries that are not durable yet; the next durable write syncs them. A run makes a handful.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

impl LocalState {
    /// The state at `root`. With `create` the folder is made; without, nothing is ever written, and a folder that is
    /// missing holds nothing.
    ///
    /// # Errors
    /// [`Error::State`] when the folder cannot be made, or something else than a folder stands there.
    pub fn open(root: &Path, create: bool) -> Result<Self> {
        let inner =
            Inner { root: root.to_owned(), writable: create, swapping: Mutex::default(), unsynced: Mutex::default() };
        if create {
            // Others open the same root: to them it must be as durable as it looks.
            make_folder(root, &mut sync_folder).map_err(|error| inner.error("create", "the folder", &error))?;
        }
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(inner.error("open", "the folder", &ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(inner.error("open", "the folder", &error)),
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Runs file work on a blocking thread. When the caller goes away the work still ends, whole.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&Inner, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let name = name.to_owned();
        let joined = tokio::task::spawn_blocking(move || {
            let result = work(&inner, &name);
            result.map_err(|error| inner.error(operation, &name, &error))
        });
        match joined.await {
            Ok(result) => result,
            Err(error) => Err(self.inner.error(operation, "a file", &io::Error::other(error))),
        }
    }
}

#[async_trait]
impl StateStore for LocalState {
    fn place(&self) -> String {
        self.inner.root.display().to_string()
    }

    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
        self.blocking("read", name, Inner::get).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        self.blocking("read", name, Inner::read).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
        self.create_as(name, bytes, Lasting::Durable).await
    }

    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
        self.swap_as(name, bytes, expected, Lasting::Durable).await
    }

    async fn create_as(&self, name: &str, bytes: Bytes, lasting: Lasting) -> Result<Option<Tag>> {
        self.blocking("create", name, move |inner, name| inner.create(name, &bytes, lasting)).await
    }

    async fn swap_as(&self, name: &str, bytes: Bytes, expected: &Tag, lasting: Lasting) -> Result<Option<Tag>> {
        let expected = expected.clone();
        self.blocking("replace", name, move |inner, name| inner.swap(name, &bytes, &expected, lasting)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StateItem>> {
        self.blocking("list", prefix, Inner::list).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.blocking("delete", name, Inner::delete).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.blocking("list", prefix, Inner::folders).await
    }

    fn is_this_machine(&self) -> bool {
        true
    }

    async fn sweep_leftovers(&self, prefix: &str, older_than: Duration) -> Result<u64> {
        self.blocking("clean", prefix, move |inner, prefix| inner.sweep(prefix, older_than)).await
    }
}

impl Inner {
    fn error(&self, operation: &'static str, name: &str, error: &io::Error) -> Error {
        let kind = error.kind();
        let reason = match kind {
            ErrorKind::StorageFull => format!("the disk is full ({error})"),
            ErrorKind::QuotaExceeded => format!("the disk quota is used up ({error})"),
            _ => error.to_string(),
        };
        let class = match kind {
            ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle => Class::Retryable,
            _ => Class::Permanent,
        };
        let permission = matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
        let place = self.root.display().to_string();
        Error::State { operation, name: name.to_owned(), place, reason, class, permission }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        match is_name(name) {
            true => Ok(self.root.join(name)),
            false => Err(io::Error::new(ErrorKind::InvalidInput, "not a name of a state file")),
        }
    }

    /// The path of a folder given as a prefix: empty, or a name that ends with `/`.
    fn folder(&self, prefix: &str) -> io::Result<PathBuf> {
        match prefix.strip_suffix('/') {
            None if prefix.is_empty() => Ok(self.root.clone()),
            Some(name) => self.path(name),
            None => Err(io::Error::new(ErrorKind::InvalidInput, "not a folder of the state: it does not end with /")),
        }
    }

    fn writable_path(&self, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        if !self.writable {
            return Err(io::Error::new(ErrorKind::Unsupported, "the state was opened for reading only"));
        }
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        Ok((path, folder))
    }

    fn get(&self, name: &str) -> io::Result<Option<(Bytes, Tag)>> {
        let bytes = self.read(name)?;
        Ok(bytes.map(|bytes| {
            let tag = tag_of(&bytes);
            (bytes, tag)
        }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Bytes>> {
        match fs::read(self.path(name)?) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str, bytes: &[u8], lasting: Lasting) -> io::Result<Option<Tag>> {
        let (path, folder) = self.writable_path(name)?;
        if path.try_exists()? {
            return Ok(None);
        }
        let temporary = self.write_temporary(&folder, bytes, lasting)?;
        let created = publish_new(&temporary.path, &path)?;
        drop(temporary);
        // A file that is there already may come from a writer that has not synced yet: what we tell of it must last, too.
        self.sync(&folder, lasting)?;
        Ok(created.then(|| tag_of(bytes)))
    }

    fn swap(&self, name: &str, bytes: &[u8], expected: &Tag, lasting: Lasting) -> io::Result<Option<Tag>> {
        let (path, folder) = self.writable_path(name)?;
        if !path.try_exists()? {
            return Ok(None);
        }
        let _own = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = lock(&self.root.join(LOCK))?;
        match fs::read(&path) {
            Ok(now) if tag_of(&now) == *expected => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let temporary = self.write_temporary(&folder, bytes, lasting)?;
        fs::rename(&temporary.path, &path)?;
        self.sync(&folder, lasting)?;
        Ok(Some(tag_of(bytes)))
    }

    /// Makes the entries of the folder as durable as wanted; before those that are to last at once all that wait.
    fn sync(&self, folder: &Path, lasting: Lasting) -> io::Result<()> {
        // Held over the syncs: who finds nothing waiting may be told that all of it lasts.
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        if lasting != Lasting::Durable {
            unsynced.insert(folder.to_owned());
            return Ok(());
        }
        unsynced.remove(folder);
        unsynced.iter().try_for_each(|waiting| sync_folder(waiting))?;
        unsynced.clear();
        drop(unsynced);
        sync_folder(folder)
    }

    /// Writes a temporary file in the folder, which is made when it is missing, and syncs it unless it may be lost.
    fn write_temporary(&self, folder: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<Temporary> {
        let mut attempt = 1;
        loop {
            make_folder(folder, &mut |parent| {
                self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).insert(parent.to_owned());
                Ok(())
            })?;
            let path = folder.join(format!("{TEMPORARY}{}-{:016x}", std::process::id(), rand::random::<u64>()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    let temporary = Temporary { path };
                    file.write_all(bytes)?;
                    if lasting != Lasting::Loose {
                        file.sync_all()?;
                    }
                    return Ok(temporary);
                }
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < FOLDER_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let (path, folder) = self.writable_path(name)?;
        let removed = {
            // Between a swap's reading and its rename a delete would be undone.
            let lock_path = self.root.join(LOCK);
            let _own = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
            let _lock = if lock_path.try_exists()? { Some(lock(&lock_path)?) } else { None };
            fs::remove_file(&path)
        };
        match removed {
            Ok(()) => sync_folder(&folder)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        // Folders that hold nothing are not part of the state; one that is not empty stays by itself.
        for empty in folder.ancestors().take_while(|folder| *folder != self.root) {
            if fs::remove_dir(empty).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<StateItem>> {
        let now = SystemTime::now();
        let mut items = Vec::new();
        self.walk(prefix, &mut |name, metadata, hidden| {
            if !hidden {
                let age = metadata.modified().ok().and_then(|time| now.duration_since(time).ok());
                let age_s = age.map(|age| age.as_secs());
                items.push(StateItem { name: name.to_owned(), size_bytes: metadata.len(), age_s });
            }
            Ok(())
        })?;
        Ok(items)
    }

    fn sweep(&self, prefix: &str, older_than: Duration) -> io::Result<u64> {
        let now = SystemTime::now();
        let mut removed = 0;
        self.walk(prefix, &mut |name, metadata, _| {
            let file = name.rsplit('/').next().unwrap_or(name);
            let age = metadata.modified().ok().and_then(|time| now.duration_since(time).ok());
            if file.starts_with(TEMPORARY) && age.is_some_and(|age| age >= older_than) {
                match fs::remove_file(self.root.join(name)) {
                    Ok(()) => removed += 1,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(removed)
    }

    fn folders(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(self.folder(prefix)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
                && is_name(&name)
            {
                found.push(name);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Calls `each` for every file below the folder, with its name below the root and whether its name is a hidden one.
    /// Files and folders that vanish meanwhile are passed over; other errors end the walk, so that no list is cut short.
    fn walk(&self, prefix: &str, each: &mut dyn FnMut(&str, &fs::Metadata, bool) -> io::Result<()>) -> io::Result<()> {
        let mut folders = vec![(self.folder(prefix)?, prefix.to_owned())];
        while let Some((folder, below)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                // A name that is no text is none of ours.
                let Ok(file) = entry.file_name().into_string() else { continue };
                let name = format!("{below}{file}");
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                if metadata.is_dir() && is_name(&file) {
                    if below.matches('/').count() == MAX_DEPTH {
                        return Err(io::Error::other(format!("the folder {name} lies deeper than the state goes")));
                    }
                    folders.push((entry.path(), format!("{name}/")));
                } else if metadata.is_file() {
                    each(&name, &metadata, !is_name(&file))?;
                }
            }
        }
        Ok(())
    }
}

fn tag_of(bytes: &[u8]) -> Tag {
    Tag(blake3::hash(bytes).to_hex().to_string())
}

/// A temporary file: removed when dropped, unless it has become the file.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed away, or to be swept later: nothing to tell.
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives the temporary file its name if the name is free; false when it is not.
fn publish_new(temporary: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Ok(()) => Ok(true),
        // On NFS a repeated request finds the link that the first one made.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(fs::metadata(temporary)?.nlink() == 2),
        Err(error) if no_hard_links(&error) => rename_new(temporary, path),
        Err(error) => Err(error),
    }
}

/// Whether the file system has no hard links (exFAT, some network and FUSE file systems).
fn no_hard_links(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied | ErrorKind::TooManyLinks)
        || error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error())
}

#[cfg(target_os = "linux")]
fn rename_new(temporary: &Path, path: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_temporary: &Path, _path: &Path) -> io::Result<bool> {
    Err(io::Error::new(ErrorKind::Unsupported, "the file system has no hard links"))
}

/// Takes the lock of a folder; it is given back when the file is closed, also by a crash.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a folder and its parents; `made` is told the parent of each new one, which is to be synced.
fn make_folder(folder: &Path, made: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent, made)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => made(folder.parent().unwrap_or(folder)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder).and_then(|file| file.sync_all()) {
        // Some file systems cannot sync a folder: then its entries are as durable as they get.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        // Removed again, being empty: nothing of ours is in it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;
