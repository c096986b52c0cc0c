//! One sync for many new files: what was acknowledged is made durable together, when [`crate::store::Store::settle`] asks.
//!
//! Only what had nothing under its name before waits; what replaces another object is synced before it takes the name,
//! and only the name waits. Uploads in parts, and the first files of a store, are synced one by one: a sync of the whole
//! file system also writes what others left in memory. A power cut may leave what waits empty, cut off or gone, and nobody
//! has said of it yet that it is there. A sync that fails removes what it may have lost: the kernel tells of such an error
//! once, and serves what is lost from memory as if it were on the disk.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use manifest::ObjectKey;
use rustix::fs::{Mode, OFlags, Stat, fstat, fstatfs, openat, syncfs};
use rustix::io::Errno;

use super::{SyncMode, Tree};
use crate::store::Result;

/// So many files are synced one by one before any waits: less work than one sync of a file system that others use.
const EACH_FIRST: u64 = 64;
/// The most new files that wait: more than a segment of a journal has records.
const MAX_WAITING: usize = 16 << 10;
/// File systems of which one `syncfs` makes everything durable, by the magic number of `statfs`: ext4 and its forebears, XFS,
/// Btrfs, F2FS, tmpfs. Those of a network, and those that are programs, may only pass the data on.
const SYNCED_AS_ONE: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];
/// The first Linux whose `syncfs` tells that data was lost.
const TELLS_ERRORS: (u32, u32) = (5, 8);

/// What waits for the next sync.
#[derive(Debug, Default)]
struct Waiting {
    /// Files that stand where nothing stood.
    new: Vec<ObjectKey>,
    /// Names, of files or folders.
    names: bool,
}

/// The file system of the root.
#[derive(Debug)]
pub(super) struct Batch {
    /// Open since before the first file that waits, so that it is told of every error since.
    folder: OwnedFd,
    device: u64,
    waiting: Mutex<Waiting>,
    /// Held over a sync; why one has failed.
    syncing: Mutex<Option<Errno>>,
}

impl Batch {
    fn open(root: &OwnedFd) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(root, ".", flags, Mode::empty()).ok()?;
        let magic = u64::try_from(fstatfs(&folder).ok()?.f_type).ok()?;
        let device = fstat(&folder).ok()?.st_dev;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        let fits = SYNCED_AS_ONE.contains(&magic) && version(&release)? >= TELLS_ERRORS;
        fits.then(|| Self { folder, device, waiting: Mutex::default(), syncing: Mutex::default() })
    }

    /// The device that is synced.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Whether a new file with this stat may wait.
    pub(super) fn takes(&self, stat: &Stat) -> bool {
        let room = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner).new.len() < MAX_WAITING;
        stat.st_dev == self.device && room()
    }

    /// A new file stands under its name.
    pub(super) fn add(&self, key: &ObjectKey) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).new.push(key.clone());
    }

    /// A name stands in this folder; false if the folder is on another file system, and has to be synced itself.
    pub(super) fn add_name(&self, folder: &OwnedFd) -> Result<bool, Errno> {
        let here = fstat(folder)?.st_dev == self.device;
        if here {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).names = true;
        }
        Ok(here)
    }
}

impl Tree {
    /// The file system that new files may be synced with; `None` as long as each file is synced by itself.
    pub(super) fn batched(&self) -> Option<&Batch> {
        if self.options.sync != SyncMode::Batched || self.writes.load(Ordering::Relaxed) <= EACH_FIRST {
            return None;
        }
        let opened = || self.root_folder(false).ok().and_then(|root| Batch::open(&root));
        self.batch.get_or_init(opened).as_ref()
    }

    /// Makes durable what waits.
    pub(super) fn settle(&self) -> Result<()> {
        let Some(batch) = self.batch.get().and_then(Option::as_ref) else { return Ok(()) };
        // Held to the end: whoever finds nothing waiting is told that all of it lasts.
        let mut syncing = batch.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |errno| super::failure("sync", &self.place, None, errno);
        if let Some(errno) = *syncing {
            return Err(failed(errno));
        }
        let Waiting { new, names } = {
            let mut waiting = batch.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        if new.is_empty() && !names {
            return Ok(());
        }
        syncfs(&batch.folder).map_err(|errno| {
            *syncing = Some(errno);
            // What cannot be removed is told by nobody as done: the next run reads it.
            let _ = self.delete(&new);
            failed(errno)
        })
    }
}

/// The two numbers that a kernel's release begins with.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::{LocalOptions, LocalStore};
    use crate::store::{Precondition, PutOptions};

    fn waiting(store: &LocalStore) -> Option<(usize, bool)> {
        let batch = store.0.batch.get()?.as_ref()?;
        let waiting = batch.waiting.lock().unwrap();
        Some((waiting.new.len(), waiting.names))
    }

    fn put(store: &LocalStore, key: &str, precondition: Precondition) {
        let options = PutOptions { precondition, ..PutOptions::default() };
        store.0.put(&key.into(), &"body".into(), &options).unwrap();
    }

    #[test]
    fn only_new_files_wait_and_only_when_there_are_many() {
        let root = tempfile::tempdir().unwrap();
        let options = LocalOptions { sync: SyncMode::Batched, ..LocalOptions::default() };
        let store = LocalStore::open(root.path(), options).unwrap();
        for number in 0..EACH_FIRST {
            put(&store, &format!("a/{number}"), Precondition::Absent);
        }
        assert!(store.0.batch.get().is_none(), "few files are synced one by one");
        store.0.settle().unwrap();
        put(&store, "b/c/new", Precondition::Absent);
        if store.0.batch.get().is_some_and(Option::is_none) {
            // The folder for temporary files is on a file system that is not synced as one.
            return;
        }
        assert_eq!(waiting(&store), Some((1, true)));
        store.0.settle().unwrap();
        assert_eq!(waiting(&store), Some((0, false)));
        put(&store, "b/c/new", Precondition::Any);
        assert_eq!(waiting(&store), Some((0, true)), "what replaces another has its content synced");
        store.0.settle().unwrap();
        assert_eq!(waiting(&store), Some((0, false)));
    }

    #[test]
    fn a_sync_that_failed_is_for_good_and_keeps_nothing_that_it_may_have_lost() {
        let root = tempfile::tempdir().unwrap();
        let options = LocalOptions { sync: SyncMode::Batched, ..LocalOptions::default() };
        let store = LocalStore::open(root.path(), options).unwrap();
        let Some(mut batch) = Batch::open(&store.0.root_folder(false).unwrap()) else { return };
        // A descriptor that cannot be synced stands for a disk that cannot be written.
        let path = OFlags::PATH | OFlags::DIRECTORY;
        batch.folder = rustix::fs::open(root.path(), path, Mode::empty()).unwrap();
        assert!(store.0.batch.set(Some(batch)).is_ok());
        store.0.writes.store(EACH_FIRST, Ordering::Relaxed);
        put(&store, "a/new", Precondition::Absent);
        assert!(root.path().join("a/new").exists());
        assert!(store.0.settle().is_err());
        assert!(!root.path().join("a/new").exists());
        assert!(store.0.settle().is_err());
    }

    #[test]
    fn releases_are_compared_by_two_numbers() {
        for (release, fits) in [
            ("6.1.0-51-cloud-amd64\n", true),
            ("5.8.0", true),
            ("5.7.19", false),
            ("4.18.0-553.el8", false),
            ("", false),
        ] {
            assert_eq!(version(release).is_some_and(|found| found >= TELLS_ERRORS), fits, "{release}");
        }
    }
}
