//! Lists a tree in the byte order of whole keys, depth first, a page of names at a time.
//!
//! A folder's content sorts as its name and a slash (`a-b`, `a/x`, `a0`), so a folder waits while names follow that come
//! before its content; all that wait in one folder are beginnings of each other, at most as many as a name has bytes. A
//! folder that cannot be read ends the listing with an error: what it holds would else be taken for deleted. What vanishes
//! between being named and being looked at was not there.

use std::sync::Arc;

use hdfs_native::client::{FileStatus, ListStatusIterator};
use manifest::{EntryKind, Listed, ObjectKey};

use crate::list::cover::Cover;

use super::order::{MAX_HELD_NAMES, Reorder};
use super::path::HdfsPath;
use super::{CALL_LIMIT, Tree};
use crate::store::local::path::is_temporary;
use crate::store::{ListOptions, Result, StoreErrorKind};

/// What a walk meets.
pub(super) enum Met {
    /// An entry of the listing.
    Entry(Listed),
    /// Something temporary of ours: the key of its folder, its name, when it last changed.
    Temporary(ObjectKey, String, i64),
}

/// The content of one folder in the order of keys.
struct Folder {
    path: HdfsPath,
    pages: ListStatusIterator,
    names: Reorder<FileStatus>,
    temporaries: Vec<(String, i64)>,
    begun: bool,
    ended: bool,
}

/// A folder on the way down.
struct Frame {
    folder: Folder,
    /// The key of what lies below, up to and with the slash; empty for the root.
    prefix: String,
    /// A name that was read but whose turn has not come.
    next: Option<(String, FileStatus)>,
    /// Folders whose content comes later: each name is a beginning of those after it.
    waiting: Vec<(String, Option<Folder>)>,
}

enum Turn {
    Leaf(String, FileStatus),
    Below(String, Option<Folder>),
    Done,
}

/// A walk over a tree; ask it for one after the other.
pub(super) struct Walk {
    tree: Arc<Tree>,
    options: ListOptions,
    temporaries: bool,
    frames: Vec<Frame>,
    begun: bool,
}

impl Folder {
    fn open(tree: &Tree, path: HdfsPath) -> Self {
        let pages = tree.client.list_status_iter(path.as_str(), false);
        Self { path, pages, names: Reorder::default(), temporaries: Vec::new(), begun: false, ended: false }
    }

    /// Reads one name more. A folder that is gone when it is first read is an empty one with `begun` unset.
    async fn read(&mut self, tree: &Tree, key: &ObjectKey) -> Result<()> {
        let next = match tokio::time::timeout(CALL_LIMIT, self.pages.next()).await {
            Ok(next) => next,
            Err(_) => return Err(tree.late("list", key)),
        };
        let status = match next {
            None => {
                self.begun = true;
                self.ended = true;
                self.names.end();
                return Ok(());
            }
            Some(Ok(status)) => status,
            Some(Err(error)) => {
                let error = tree.fail("list", key, error);
                let gone = matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::KindConflict);
                if gone && !self.begun && !key.is_empty() {
                    self.ended = true;
                    return Ok(());
                }
                return Err(error);
            }
        };
        // A file that took the folder's place is listed as itself.
        let Some(name) = status.path.strip_prefix(self.path.join("").as_str()).filter(|name| !name.is_empty()) else {
            self.ended = true;
            return Ok(());
        };
        self.begun = true;
        if is_temporary(name.as_bytes()) {
            self.temporaries.push((name.to_owned(), super::mtime_ns(&status)));
            return Ok(());
        }
        let name = name.to_owned();
        match self.names.push(name, status) {
            true => Ok(()),
            false => {
                let detail =
                    format!("it has more than {MAX_HELD_NAMES} names that are not ASCII, too many to put in order");
                Err(tree.error("list", key, StoreErrorKind::Unsupported, detail))
            }
        }
    }

    async fn next(&mut self, tree: &Tree, key: &ObjectKey) -> Result<Option<(String, FileStatus)>> {
        loop {
            if let Some(found) = self.names.next() {
                return Ok(Some(found));
            }
            if self.ended {
                return Ok(None);
            }
            self.read(tree, key).await?;
        }
    }

    /// Whether it is there with nothing in it but temporary files of ours.
    async fn is_empty(&mut self, tree: &Tree, key: &ObjectKey) -> Result<bool> {
        while self.names.is_empty() && !self.ended {
            self.read(tree, key).await?;
        }
        Ok(self.names.is_empty() && self.begun)
    }
}

impl Walk {
    pub(super) fn new(tree: Arc<Tree>, options: ListOptions) -> Self {
        Self { tree, options, temporaries: false, frames: Vec::new(), begun: false }
    }

    /// Meets our temporary files and nothing else.
    pub(super) fn of_temporaries(tree: Arc<Tree>, cover: Option<Arc<Cover>>) -> Self {
        Self { temporaries: true, ..Self::new(tree, ListOptions { cover, ..ListOptions::default() }) }
    }

    /// The next thing; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Met>> {
        if !self.begun {
            self.begun = true;
            if let Some(met) = self.begin().await? {
                return Ok(Some(met));
            }
        }
        loop {
            let turn = self.turn().await?;
            let Some(frame) = self.frames.last_mut() else { return Ok(None) };
            if self.temporaries
                && let Some((name, mtime_ns)) = frame.folder.temporaries.pop()
            {
                put_back(frame, turn);
                return Ok(Some(Met::Temporary(folder_key(&frame.prefix), name, mtime_ns)));
            }
            // Only sweeping asks for them; a listing must not gather them.
            frame.folder.temporaries.clear();
            match turn {
                Turn::Done => drop(self.frames.pop()),
                Turn::Leaf(name, status) => {
                    let key = format!("{}{name}", frame.prefix);
                    let kind = if status.isdir { EntryKind::Folder } else { EntryKind::Object };
                    let fingerprint = self.tree.fingerprint(&status);
                    return Ok(Some(Met::Entry(Listed { key: key.into(), kind, fingerprint })));
                }
                Turn::Below(name, folder) => {
                    let prefix = format!("{}{name}/", frame.prefix);
                    let path = frame.folder.path.join(&name);
                    let folder = folder.unwrap_or_else(|| Folder::open(&self.tree, path));
                    self.frames.push(Frame { folder, prefix, next: None, waiting: Vec::new() });
                }
            }
        }
    }

    /// Looks at the root: a folder is entered, a file is the only entry.
    async fn begin(&mut self) -> Result<Option<Met>> {
        let (key, root) = (ObjectKey::default(), self.tree.root.clone());
        let status = self.tree.status("list", &key, &root).await?;
        if status.isdir {
            let folder = Folder::open(&self.tree, root);
            self.frames.push(Frame { folder, prefix: String::new(), next: None, waiting: Vec::new() });
            return Ok(None);
        }
        let wanted = self.options.after.is_none() && !self.temporaries && !self.options.without.contains(&key);
        let fingerprint = self.tree.fingerprint(&status);
        Ok(wanted.then_some(Met::Entry(Listed { key, kind: EntryKind::Object, fingerprint })))
    }

    /// Whose turn it is in the innermost folder.
    async fn turn(&mut self) -> Result<Turn> {
        let (tree, options) = (&self.tree, &self.options);
        let Some(frame) = self.frames.last_mut() else { return Ok(Turn::Done) };
        loop {
            let next = match frame.next.take() {
                Some(next) => Some(next),
                None => frame.folder.next(tree, &folder_key(&frame.prefix)).await?,
            };
            let content_first = |name: &str| next.as_ref().is_none_or(|(next, _)| comes_before(name, next));
            if frame.waiting.last().is_some_and(|(name, _)| content_first(name)) {
                frame.next = next;
                return Ok(match frame.waiting.pop() {
                    Some((name, folder)) => Turn::Below(name, folder),
                    None => Turn::Done,
                });
            }
            let Some((name, status)) = next else { return Ok(Turn::Done) };
            if !status.isdir {
                match !self.temporaries && is_wanted(options, &frame.prefix, &name, false) {
                    true => return Ok(Turn::Leaf(name, status)),
                    false => continue,
                }
            }
            let below = is_wanted(options, &frame.prefix, &name, true);
            if !options.folders || self.temporaries {
                if below {
                    frame.waiting.push((name, None));
                }
                continue;
            }
            let own = is_wanted(options, &frame.prefix, &name, false);
            if !own && !below {
                continue;
            }
            let mut folder = Folder::open(tree, frame.folder.path.join(&name));
            let key = ObjectKey::from(format!("{}{name}", frame.prefix));
            match folder.is_empty(tree, &key).await? {
                true if own => return Ok(Turn::Leaf(name, status)),
                true => {}
                false if below => frame.waiting.push((name, Some(folder))),
                false => {}
            }
        }
    }
}

/// A turn whose time has not come after all.
fn put_back(frame: &mut Frame, turn: Turn) {
    match turn {
        Turn::Leaf(name, status) => frame.next = Some((name, status)),
        Turn::Below(name, folder) => frame.waiting.push((name, folder)),
        Turn::Done => {}
    }
}

/// Whether what lies below the folder `name` comes before `next`.
fn comes_before(name: &str, next: &str) -> bool {
    name.bytes().chain([b'/']).cmp(next.bytes()).is_lt()
}

fn folder_key(prefix: &str) -> ObjectKey {
    ObjectKey::from(prefix.strip_suffix('/').unwrap_or(prefix))
}

/// Whether an entry, or with `below` anything below it, comes after the key to start at and lies in no subtree that is left
/// out.
fn is_wanted(options: &ListOptions, prefix: &str, name: &str, below: bool) -> bool {
    let mut key = format!("{prefix}{name}");
    if options.without.iter().any(|without| without.as_bytes() == key.as_bytes()) {
        return false;
    }
    if let Some(cover) = &options.cover
        && !(cover.holds(key.as_bytes()) || (below && cover.reaches_below(key.as_bytes())))
    {
        return false;
    }
    let Some(after) = &options.after else { return true };
    if below {
        key.push('/');
        // Some come after `after` unless all come before.
        return after.as_bytes().starts_with(key.as_bytes()) || key.as_bytes() > after.as_bytes();
    }
    key.as_bytes() > after.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_folder_sorts_behind_its_slash() {
        for (name, next, first) in [("a", "a-", false), ("a", "a0", true), ("a", "b", true), ("a", "a!x", false)] {
            assert_eq!(comes_before(name, next), first, "{name} {next}");
        }
    }

    #[test]
    fn folders_before_the_start_are_not_entered() {
        let wanted = |after: &str, name: &str, below| {
            let options =
                ListOptions { after: Some(after.into()), without: vec!["d/state".into()], ..ListOptions::default() };
            is_wanted(&options, "d/", name, below)
        };
        assert!(wanted("d/b/c", "b", true) && !wanted("d/b/c", "b", false));
        assert!(!wanted("d/b/c", "a", true) && wanted("d/b/c", "c", true) && wanted("d/b", "b", true));
        assert!(!wanted("a", "state", true) && wanted("a", "stated", true));
    }
}
