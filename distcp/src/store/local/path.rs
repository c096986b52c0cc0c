//! From a key to an open folder and a name in it, one component at a time and never through a link on the way to a write.
//!
//! Everything below the root is reached with `openat` relative to the folder above it. No path string with more than one
//! component is ever given to the kernel, so a folder that somebody swaps for a link meanwhile cannot lead a write or a
//! delete out of the root (design invariant 7).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use manifest::ObjectKey;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, statat};
use rustix::io::Errno;

/// The longest name that Linux file systems hold, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The longest path that other programs can open (`PATH_MAX` without its NUL), in bytes.
pub(super) const MAX_PATH_BYTES: usize = 4095;
/// How often a folder is created again that somebody (a delete of ours) removes at the same moment.
const CREATE_ATTEMPTS: usize = 16;

const TEMPORARY_PREFIX: &[u8] = b".understudy-";
const TEMPORARY_SUFFIX: &[u8] = b".tmp";
const TEMPORARY_DIGITS: usize = 16;

/// A fresh name for a temporary file of ours.
pub(in crate::store) fn temporary_name() -> String {
    format!(".understudy-{:016x}.tmp", rand::random::<u64>())
}

/// Whether a name is one of our temporary files: exactly `.understudy-<16 hexadecimal digits>.tmp`.
pub(in crate::store) fn is_temporary(name: &[u8]) -> bool {
    let digits = name.strip_prefix(TEMPORARY_PREFIX).and_then(|rest| rest.strip_suffix(TEMPORARY_SUFFIX));
    digits.is_some_and(|digits| {
        digits.len() == TEMPORARY_DIGITS && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The folders of a key and the name in the last of them; why not, when a file system cannot hold such a key faithfully.
/// The key is not empty: the root itself has no path below the root.
pub(super) fn split(key: &ObjectKey, root_bytes: usize) -> Result<(Vec<&[u8]>, &[u8]), &'static str> {
    if root_bytes + 1 + key.len() > MAX_PATH_BYTES {
        return Err("the path is longer than 4,095 bytes");
    }
    let mut segments: Vec<&[u8]> = key.segments().collect();
    for segment in &segments {
        match *segment {
            [] => return Err("it has an empty segment: a file system takes // for / and drops a slash at an end"),
            b"." | b".." => return Err("it has a . or .. segment"),
            name if name.len() > MAX_NAME_BYTES => return Err("a segment is longer than 255 bytes"),
            name if name.contains(&0) => return Err("it has a NUL byte"),
            _ => {}
        }
    }
    match segments.pop() {
        Some(name) if is_temporary(name) => Err("the name is reserved for temporary files"),
        Some(name) => Ok((segments, name)),
        None => Err("it is empty"),
    }
}

/// On the way to what a folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To read: links are followed only if the store follows them.
    Read {
        /// Whether a link to a folder is taken for the folder.
        follow: bool,
    },
    /// To change what is there: no link is followed, nothing is created.
    Existing,
    /// To write: no link is followed, missing folders are created.
    Create {
        /// Which created folders are made durable at once.
        sync: SyncFolders,
    },
}

/// Which folders are made durable when they are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncFolders {
    /// None.
    Never,
    /// All.
    Each,
    /// All but those on this device, which is synced later.
    Except(u64),
}

/// Why a folder was not reached.
#[derive(Debug)]
pub(super) enum Unreached {
    /// It, or a folder above it, does not exist.
    Missing,
    /// Something that is not a folder stands there (`link`: a symbolic link).
    Blocked {
        /// How many segments lead to what stands in the way.
        depth: usize,
        /// Whether it is a symbolic link.
        link: bool,
    },
    /// The system refused.
    Failed(Errno),
}

/// How a folder is opened that is only a step on the way: `O_PATH` needs no permission to list it.
const STEP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the folder that `segments` name below `root`, for use as the base of `*at` calls.
pub(super) fn open_folder(root: &Arc<OwnedFd>, segments: &[&[u8]], reach: Reach) -> Result<Arc<OwnedFd>, Unreached> {
    for _ in 0..CREATE_ATTEMPTS {
        match descend(root, segments, reach) {
            // Somebody removed a folder between our mkdir and our open: begin again.
            Err(Unreached::Missing) if matches!(reach, Reach::Create { .. }) => {}
            done => return done,
        }
    }
    Err(Unreached::Missing)
}

fn descend(root: &Arc<OwnedFd>, segments: &[&[u8]], reach: Reach) -> Result<Arc<OwnedFd>, Unreached> {
    let flags = match reach {
        Reach::Read { follow: true } => STEP,
        _ => STEP.union(OFlags::NOFOLLOW),
    };
    let mut folder = Arc::clone(root);
    for (depth, segment) in segments.iter().enumerate() {
        let mut opened = openat(&*folder, *segment, flags, Mode::empty());
        if let (Err(Errno::NOENT), Reach::Create { sync }) = (&opened, reach) {
            create_folder(&folder, segment, sync)?;
            opened = openat(&*folder, *segment, flags, Mode::empty());
        }
        folder = match opened {
            Ok(next) => Arc::new(next),
            Err(Errno::NOENT) => return Err(Unreached::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let stat = statat(&*folder, *segment, AtFlags::SYMLINK_NOFOLLOW);
                let link = stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
                return Err(Unreached::Blocked { depth: depth + 1, link });
            }
            Err(errno) => return Err(Unreached::Failed(errno)),
        };
    }
    Ok(folder)
}

fn create_folder(parent: &OwnedFd, name: &[u8], sync: SyncFolders) -> Result<(), Unreached> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) => match sync {
            SyncFolders::Never => Ok(()),
            SyncFolders::Except(device) if fstat(parent).is_ok_and(|stat| stat.st_dev == device) => Ok(()),
            SyncFolders::Each | SyncFolders::Except(_) => sync_folder(parent).map_err(Unreached::Failed),
        },
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => Err(Unreached::Missing),
        Err(errno) => Err(Unreached::Failed(errno)),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: impl AsFd) -> Result<(), Errno> {
    fsync(openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_37_keys_that_a_file_system_would_alias_are_refused() {
        let long = "x".repeat(256);
        let refused = [
            "a//b",
            "/a",
            "a/",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\0b",
            &long,
            "a/.understudy-0123456789abcdef.tmp",
        ];
        for key in refused {
            assert!(split(&key.into(), 0).is_err(), "{key:?}");
        }
        assert!(split(&"x/".repeat(2048).as_str().into(), 0).is_err());
        for key in ["a", "a/b", ".hidden", "...", "a b", "%2e", "x\ny", &long[1..], ".understudy-1.tmp"] {
            assert!(split(&key.into(), 0).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn only_our_pattern_is_a_temporary_name() {
        assert!(is_temporary(temporary_name().as_bytes()));
        for name in [".understudy-.tmp", ".understudy-0123456789ABCDEF.tmp", ".understudy-0123456789abcdef", "x"] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
