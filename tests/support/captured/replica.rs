//! A replica put aside as it stands, and put back: its metastore, its files and its state are plain files.

use crate::lake::Lake;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a replica consists of, below the lake's root.
const PARTS: [&str; 4] = ["target.db", "target.db-wal", "target", "state"];

/// A replica that was put aside.
pub struct Saved {
    /// The last event that it shows.
    pub event: i64,
    folder: PathBuf,
}

impl Saved {
    /// Copies the replica of a lake into a new folder. Files that are as they were in `before` are links to those there.
    ///
    /// # Panics
    /// If the disk is full.
    pub fn of(lake: &Lake, event: i64, folder: PathBuf, before: Option<&Self>) -> Self {
        for part in PARTS {
            copy(&lake.root().join(part), &folder.join(part), before.map(|before| before.folder.join(part)).as_deref());
        }
        Self { event, folder }
    }

    /// Puts the replica back as it was.
    ///
    /// # Panics
    /// If the disk is full.
    pub fn restore(&self, lake: &Lake) {
        forget(lake);
        PARTS.iter().for_each(|part| copy(&self.folder.join(part), &lake.root().join(part), None));
    }
}

/// Removes a lake's replica.
///
/// # Panics
/// If something of it cannot be removed.
pub fn forget(lake: &Lake) {
    for part in PARTS.iter().chain(&["target.db-shm"]) {
        let path = lake.root().join(part);
        match path.is_dir() {
            true => fs::remove_dir_all(&path).expect("a folder"),
            false => drop(fs::remove_file(&path)),
        }
        assert!(!path.exists(), "{part}");
    }
}

/// Copies a file or a folder with all in it, and the files' times, which say whether somebody wrote them since.
fn copy(from: &Path, to: &Path, before: Option<&Path>) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            copy(&from.join(&name), &to.join(&name), before.map(|before| before.join(&name)).as_deref());
        }
    } else if from.exists() {
        fs::create_dir_all(to.parent().expect("a folder of ours")).expect("a folder");
        if let Some(before) = before.filter(|before| version(before) == version(from)) {
            return fs::hard_link(before, to).expect("a file");
        }
        fs::copy(from, to).expect("a file");
        let (_, time) = version(from).expect("a file");
        fs::File::options().write(true).open(to).and_then(|file| file.set_modified(time)).expect("a time");
    }
}

/// By what two versions of a file are told apart.
fn version(path: &Path) -> Option<(u64, SystemTime)> {
    let file = path.metadata().ok()?;
    Some((file.len(), file.modified().ok()?))
}
