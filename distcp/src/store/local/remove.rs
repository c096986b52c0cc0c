//! Deleting objects, the folders that become empty with them, and what dead runs left.
//!
//! Never follows a link, never removes the root or a folder that holds anything. A crash between an object and its folder
//! leaves an empty folder.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use manifest::ObjectKey;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::path::{self, Reach};
use super::walk::{Met, Walk};
use super::{Spot, Tree, attributes};
use crate::store::{Folders, ListOptions, Result, StoreErrorKind, UploadId};

/// The most leftovers that one look finds.
pub const MAX_LEFTOVERS: usize = 10_000;

/// A temporary file of a run that is over, or of an upload that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The folder that it stands in, as a key; empty for the root.
    pub folder: ObjectKey,
    /// Its name, which is the id of the upload that it may be.
    pub upload: UploadId,
    /// Time since it last changed.
    pub age: Duration,
}

impl Tree {
    /// One answer a key.
    pub(super) fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        keys.iter().map(|key| self.delete_one(key)).collect()
    }

    fn delete_one(&self, key: &ObjectKey) -> Result<()> {
        let Spot { folder, name } = match self.spot("delete", key, Reach::Existing) {
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(()),
            spot => spot?,
        };
        match unlinkat(&*folder, name.as_slice(), AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            // An empty folder is an entry of its own; one that holds something refuses to go.
            Err(Errno::ISDIR | Errno::PERM) if !key.is_empty() => {
                match unlinkat(&*folder, name.as_slice(), AtFlags::REMOVEDIR) {
                    Ok(()) => {}
                    Err(Errno::NOENT) => return Ok(()),
                    Err(Errno::NOTDIR) => return Err(self.fail("delete", key, Errno::PERM)),
                    Err(Errno::EXIST) => return Err(self.fail("delete", key, Errno::NOTEMPTY)),
                    Err(errno) => return Err(self.fail("delete", key, errno)),
                }
            }
            Err(errno) => return Err(self.fail("delete", key, errno)),
        }
        self.remove_empty_parents(key);
        Ok(())
    }

    /// Removes the folders above a key, from the lowest up, as long as they are empty. A folder that stays for another
    /// reason is no object: the delete of the object has worked.
    fn remove_empty_parents(&self, key: &ObjectKey) {
        let Ok((folders, _)) = path::split(key, 0) else { return };
        let Ok(root) = self.root_folder(false) else { return };
        for depth in (1..=folders.len()).rev() {
            let (Some(above), Some(name)) = (folders.get(..depth - 1), folders.get(depth - 1)) else { return };
            let Ok(parent) = path::open_folder(&root, above, Reach::Existing) else { return };
            if unlinkat(&*parent, *name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }

    /// Temporary files whose last change is at least `min_age` ago. The change time is asked: the modification time may
    /// already be that of the object it was to become.
    pub(super) fn leftovers(&self, min_age: Duration, within: Option<Arc<Folders>>) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        let cover = within.as_ref().and_then(|within| within.cover()).map(Arc::new);
        let options = ListOptions { cover, ..ListOptions::default() };
        let walk = Walk { options: &options, temporaries: true, window: MAX_LEFTOVERS };
        let now_ns = (self.options.now_ns)();
        let walked = self.walk(&walk, &mut |met| {
            if let Met::Temporary(folder, name, stat) = met {
                let age_ns = now_ns.saturating_sub(attributes::ctime_ns(&stat));
                let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or_default());
                let is_meant = age >= min_age && within.as_ref().is_none_or(|within| within.contains(&folder));
                if let (true, Ok(name)) = (is_meant, String::from_utf8(name)) {
                    found.push(Leftover { folder, upload: UploadId(name), age });
                }
            }
            match found.len() < MAX_LEFTOVERS {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match walked {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Vec::new()),
            walked => walked.map(|()| found),
        }
    }

    /// Removes a temporary file by the rules of an aborted upload.
    pub(super) fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        let beside = match (leftover.folder.is_empty(), self.root.is_dir()) {
            (true, false) => ObjectKey::default(),
            _ => ObjectKey::from("x").below(&leftover.folder),
        };
        self.abort_upload(&beside, &leftover.upload)
    }
}
