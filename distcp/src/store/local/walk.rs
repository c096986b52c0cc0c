//! Lists a tree in the byte order of whole keys, depth first, with bounded memory.
//!
//! Keys sort as their bytes, so a folder's content sorts as its name and a slash: `a-b`, `a/x`, `a0`. Of each folder on the
//! way down at most twice [`WINDOW_NAMES`] names are held: a larger folder is read again for each window, which needs no
//! scratch space. A folder that cannot be read ends the listing with an error: what it holds would else be taken for
//! deleted. A file or folder that vanishes between being named and being looked at was not there.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use manifest::{EntryKind, Listed, ObjectKey};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::path::{MAX_PATH_BYTES, is_temporary};
use super::{LinkMode, Tree, entry_kind, open_by_path};
use crate::store::{ListOptions, Result, StoreErrorKind};

/// How many names of one folder are sorted at a time.
const WINDOW_NAMES: usize = 1 << 17;
/// How many entries go out together.
const BATCH_ENTRIES: usize = 1000;
/// How many folders on the way down stay open; those above are opened again on the way back.
const OPEN_FOLDERS: usize = 64;

/// What a listing meets, given to its reader one at a time.
pub(super) enum Met {
    /// An entry of the listing.
    Entry(Listed),
    /// A temporary file of ours: its folder's key, its name, its stat.
    Temporary(ObjectKey, Vec<u8>, Box<Stat>),
}

/// How to walk.
pub(super) struct Walk<'a> {
    pub(super) options: &'a ListOptions,
    /// Meet our temporary files instead of entries.
    pub(super) temporaries: bool,
    /// As [`WINDOW_NAMES`].
    pub(super) window: usize,
}

/// Something in a folder that is to be visited, and the place of its keys in the order: its name, with a slash for what
/// lies below it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    order: Vec<u8>,
    visit: Visit,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Visit {
    /// Not a folder: look at it and yield it.
    Leaf,
    /// A folder: yield it if it is empty.
    IfEmpty,
    /// A folder: descend.
    Below,
    /// A link that leads nowhere, or back to a folder above it.
    BadLink,
}

/// A folder on the way down.
struct Frame {
    folder: Option<Arc<OwnedFd>>,
    id: (u64, u64),
    /// The key of what lies below, up to and with the slash; empty for the root.
    prefix: Vec<u8>,
    window: std::vec::IntoIter<Candidate>,
    /// The last of the window, when names after it were left for the next one.
    more_after: Option<Vec<u8>>,
}

impl Tree {
    /// Lists everything into `batches`; ends early, without an error, when nobody listens any more.
    pub(super) fn list(&self, options: &ListOptions, batches: &mpsc::Sender<Vec<Listed>>) -> Result<()> {
        let mut batch = Vec::with_capacity(BATCH_ENTRIES);
        let walk = Walk { options, temporaries: false, window: WINDOW_NAMES };
        self.walk(&walk, &mut |met| {
            if let Met::Entry(listed) = met {
                batch.push(listed);
            }
            if batch.len() < BATCH_ENTRIES {
                return ControlFlow::Continue(());
            }
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ENTRIES));
            match batches.blocking_send(full) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        if !batch.is_empty() {
            // Nobody listens: then nobody misses it.
            let _ = batches.blocking_send(batch);
        }
        Ok(())
    }

    /// Walks the root, or tells of it alone when it is a file.
    pub(super) fn walk(&self, walk: &Walk<'_>, meet: &mut dyn FnMut(Met) -> ControlFlow<()>) -> Result<()> {
        let fail = |errno| self.fail("list", &ObjectKey::default(), errno);
        let stat = rustix::fs::stat(&self.root).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Walker { tree: self, walk, frames: Vec::new() }.run(meet);
        }
        let (key, kind) = (ObjectKey::default(), entry_kind(&stat));
        if walk.options.after.is_none() && !walk.temporaries && !walk.options.without.contains(&key) {
            // The answer to "go on?" is of no use after the only entry.
            let _ = meet(Met::Entry(Listed { key, kind, fingerprint: self.fingerprint(&stat) }));
        }
        if let (true, Some(parent)) = (walk.temporaries, self.root.parent()) {
            let folder = open_by_path(parent).map_err(fail)?;
            for name in names(&folder).map_err(fail)? {
                let (name, _) = name.map_err(fail)?;
                if is_temporary(&name)
                    && let Some(stat) = found(statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)).map_err(fail)?
                    && meet(Met::Temporary(ObjectKey::default(), name, Box::new(stat))).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Opens a folder so that its names can be read.
fn open_listing(base: &OwnedFd, name: &[u8], follow: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    openat(base, name, flags, Mode::empty())
}

/// The names in a folder but `.` and `..`, with their types where the file system tells them.
fn names(folder: &OwnedFd) -> Result<impl Iterator<Item = Result<(Vec<u8>, FileType), Errno>> + use<>, Errno> {
    let listing = Dir::new(open_listing(folder, b".", false)?)?;
    Ok(listing.filter_map(|entry| match entry {
        Ok(entry) => {
            let name = entry.file_name().to_bytes();
            (name != b"." && name != b"..").then(|| Ok((name.to_vec(), entry.file_type())))
        }
        Err(errno) => Some(Err(errno)),
    }))
}

/// `None` for what is not there (any more).
fn found<T>(answer: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

struct Walker<'a> {
    tree: &'a Tree,
    walk: &'a Walk<'a>,
    frames: Vec<Frame>,
}

impl Walker<'_> {
    fn run(mut self, meet: &mut dyn FnMut(Met) -> ControlFlow<()>) -> Result<()> {
        let root = self.tree.root_folder(false).map_err(|errno| self.fail(b"", errno))?;
        if self.push(root, Vec::new(), meet)?.is_break() {
            return Ok(());
        }
        while let Some(frame) = self.frames.last_mut() {
            let Some(candidate) = frame.window.next() else {
                match frame.more_after.take() {
                    Some(last) => {
                        if self.refill(Some(&last), meet)?.is_break() {
                            return Ok(());
                        }
                    }
                    None => drop(self.frames.pop()),
                }
                continue;
            };
            if self.visit(candidate, meet)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn fail(&self, key: &[u8], errno: Errno) -> crate::store::StoreError {
        let key = key.strip_suffix(b"/").unwrap_or(key);
        self.tree.fail("list", &ObjectKey::new(key.to_vec()), errno)
    }

    fn follows(&self) -> bool {
        self.tree.options.links == LinkMode::Follow && !self.walk.temporaries
    }

    /// Enters a folder: its first window is read.
    fn push(
        &mut self,
        folder: Arc<OwnedFd>,
        prefix: Vec<u8>,
        meet: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let stat = fstat(&*folder).map_err(|errno| self.fail(&prefix, errno))?;
        if prefix.len() > MAX_PATH_BYTES || self.frames.iter().any(|frame| frame.id == id(&stat)) {
            let key = ObjectKey::new(prefix);
            let detail = "the folder is nested too deep, or inside itself";
            return Err(self.tree.error("list", &key, StoreErrorKind::InvalidKey, detail));
        }
        if let Some(above) = self.frames.len().checked_sub(OPEN_FOLDERS).and_then(|at| self.frames.get_mut(at)) {
            above.folder = None;
        }
        let window = Vec::new().into_iter();
        self.frames.push(Frame { folder: Some(folder), id: id(&stat), prefix, window, more_after: None });
        self.refill(None, meet)
    }

    /// The last frame's folder, opened again if it was closed for the sake of those below it.
    fn folder(&mut self) -> Result<Arc<OwnedFd>> {
        let Some(frame) = self.frames.last() else {
            return self.tree.root_folder(false).map_err(|errno| self.fail(b"", errno));
        };
        if let Some(folder) = &frame.folder {
            return Ok(Arc::clone(folder));
        }
        let mut folder = self.tree.root_folder(false).map_err(|errno| self.fail(b"", errno))?;
        for segment in frame.prefix.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()) {
            let next = open_listing(&folder, segment, self.follows());
            folder = Arc::new(next.map_err(|errno| self.fail(&frame.prefix, errno))?);
        }
        let stat = fstat(&*folder).map_err(|errno| self.fail(&frame.prefix, errno))?;
        if id(&stat) != frame.id {
            let key = ObjectKey::new(frame.prefix.clone());
            let detail = "the folder was replaced while it was listed";
            return Err(self.tree.error("list", &key, StoreErrorKind::Other, detail));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.folder = Some(Arc::clone(&folder));
        }
        Ok(folder)
    }

    /// Reads the next window of the last frame's folder: the smallest candidates after `last`.
    fn refill(&mut self, last: Option<&[u8]>, meet: &mut dyn FnMut(Met) -> ControlFlow<()>) -> Result<ControlFlow<()>> {
        let folder = self.folder()?;
        let Some(frame) = self.frames.last() else { return Ok(ControlFlow::Continue(())) };
        let fail = |errno| self.fail(&frame.prefix, errno);
        let mut kept: Vec<Candidate> = Vec::new();
        let mut dropped = false;
        let bound = self.walk.window.max(1);
        for entry in names(&folder).map_err(fail)? {
            let (name, hint) = entry.map_err(fail)?;
            let Some(visits) = self.visits(&folder, frame, &name, hint).map_err(fail)? else {
                // Once a folder, however many windows it takes.
                if self.walk.temporaries
                    && last.is_none()
                    && let Some(stat) = found(statat(&*folder, &name, AtFlags::SYMLINK_NOFOLLOW)).map_err(fail)?
                {
                    let key = ObjectKey::new(frame.prefix.strip_suffix(b"/").unwrap_or(&frame.prefix).to_vec());
                    if meet(Met::Temporary(key, name, Box::new(stat))).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                continue;
            };
            for visit in visits {
                let mut order = name.clone();
                if *visit == Visit::Below {
                    order.push(b'/');
                }
                if self.is_wanted(&frame.prefix, &name, &order, *visit) && last.is_none_or(|last| &order[..] > last) {
                    kept.push(Candidate { order, visit: *visit });
                }
            }
            if kept.len() >= 2 * bound {
                kept.select_nth_unstable(bound);
                kept.truncate(bound);
                dropped = true;
            }
        }
        kept.sort_unstable();
        dropped |= kept.len() > bound;
        kept.truncate(bound);
        let more_after = kept.last().filter(|_| dropped).map(|last| last.order.clone());
        if let Some(frame) = self.frames.last_mut() {
            frame.window = kept.into_iter();
            frame.more_after = more_after;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// How an entry of a folder is visited; `None` for a temporary file of ours.
    fn visits(
        &self,
        folder: &OwnedFd,
        frame: &Frame,
        name: &[u8],
        hint: FileType,
    ) -> Result<Option<&'static [Visit]>, Errno> {
        let mut file_type = hint;
        if hint == FileType::Unknown {
            match found(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW))? {
                Some(stat) => file_type = FileType::from_raw_mode(stat.st_mode),
                None => return Ok(Some(&[])),
            }
        }
        if is_temporary(name) && file_type != FileType::Directory {
            return Ok(None);
        }
        if file_type == FileType::Symlink && self.follows() {
            let stat = match statat(folder, name, AtFlags::empty()) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Some(&[Visit::BadLink])),
                Err(errno) => return Err(errno),
            };
            file_type = FileType::from_raw_mode(stat.st_mode);
            let is_above = |above: &Frame| above.id == id(&stat);
            if file_type == FileType::Directory && (is_above(frame) || self.frames.iter().any(is_above)) {
                return Ok(Some(&[Visit::BadLink]));
            }
        }
        Ok(Some(match (file_type, self.walk.temporaries) {
            (FileType::Directory, true) => &[Visit::Below],
            (_, true) => &[],
            (FileType::Directory, _) if self.walk.options.folders => &[Visit::IfEmpty, Visit::Below],
            (FileType::Directory, _) => &[Visit::Below],
            _ => &[Visit::Leaf],
        }))
    }

    /// Whether anything of a candidate comes after the key to start at and lies in no subtree that is left out.
    fn is_wanted(&self, prefix: &[u8], name: &[u8], order: &[u8], visit: Visit) -> bool {
        let is_key = |key: &ObjectKey, end: &[u8]| {
            key.len() == prefix.len() + end.len() && key.as_bytes().starts_with(prefix) && key.as_bytes().ends_with(end)
        };
        if self.walk.options.without.iter().any(|without| is_key(without, name)) {
            return false;
        }
        if let Some(cover) = &self.walk.options.cover {
            let key = [prefix, name].concat();
            // What is no folder may be a link that stands on the way.
            if !cover.holds(&key) && !cover.reaches_below(&key) {
                return false;
            }
        }
        let Some(after) = &self.walk.options.after else { return true };
        let after = after.as_bytes();
        // The keys below a folder all begin with its own and a slash: some come after `after` unless all come before.
        let below_it = visit == Visit::Below && after.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(order));
        let own = prefix.iter().chain(order);
        below_it || own.cmp(after.iter()).is_gt()
    }

    fn visit(&mut self, candidate: Candidate, meet: &mut dyn FnMut(Met) -> ControlFlow<()>) -> Result<ControlFlow<()>> {
        let folder = self.folder()?;
        let prefix = self.frames.last().map(|frame| frame.prefix.as_slice()).unwrap_or_default();
        let mut key = Vec::with_capacity(prefix.len() + candidate.order.len());
        key.extend_from_slice(prefix);
        key.extend_from_slice(&candidate.order);
        let name = candidate.order.strip_suffix(b"/").unwrap_or(&candidate.order);
        match candidate.visit {
            Visit::Below => match open_listing(&folder, name, self.follows()) {
                Ok(below) => self.push(Arc::new(below), key, meet),
                Err(Errno::NOENT) => Ok(ControlFlow::Continue(())),
                Err(errno) => Err(self.fail(&key, errno)),
            },
            Visit::IfEmpty => match self.stat_if_empty(&folder, name).map_err(|errno| self.fail(&key, errno))? {
                Some(stat) => Ok(self.meet_entry(key, EntryKind::Folder, &stat, meet)),
                None => Ok(ControlFlow::Continue(())),
            },
            Visit::Leaf | Visit::BadLink => {
                let follow = self.follows() && candidate.visit == Visit::Leaf;
                let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                let stat = found(statat(&*folder, name, flags)).map_err(|errno| self.fail(&key, errno))?;
                match stat.map(|stat| (entry_kind(&stat), stat)) {
                    // A file that was replaced by a folder since its name was read is not there any more.
                    None | Some((EntryKind::Folder, _)) => Ok(ControlFlow::Continue(())),
                    // Nothing there must not be taken for what lies behind it.
                    Some((EntryKind::Symlink, _)) if !self.is_covered(&key) => {
                        let detail = "it is a link on the way to what is asked for, and not followed: a root or a \
                                      location of its own may lead through one";
                        Err(self.tree.error("list", &ObjectKey::new(key), StoreErrorKind::KindConflict, detail))
                    }
                    Some((EntryKind::Symlink, stat)) if candidate.visit == Visit::BadLink => {
                        Ok(self.meet_entry(key, EntryKind::Special, &stat, meet))
                    }
                    Some((kind, stat)) => Ok(self.meet_entry(key, kind, &stat, meet)),
                }
            }
        }
    }

    fn is_covered(&self, key: &[u8]) -> bool {
        self.walk.options.cover.as_ref().is_none_or(|cover| cover.holds(key))
    }

    fn meet_entry(
        &self,
        key: Vec<u8>,
        kind: EntryKind,
        stat: &Stat,
        meet: &mut dyn FnMut(Met) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        meet(Met::Entry(Listed { key: ObjectKey::new(key), kind, fingerprint: self.tree.fingerprint(stat) }))
    }

    /// The stat of a folder with nothing in it but temporary files of ours.
    fn stat_if_empty(&self, parent: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
        let Some(folder) = found(open_listing(parent, name, self.follows()))? else { return Ok(None) };
        for entry in names(&folder)? {
            let (name, file_type) = entry?;
            if !is_temporary(&name) || file_type == FileType::Directory {
                return Ok(None);
            }
        }
        fstat(&folder).map(Some)
    }
}
