//! The trees that are copied: made once, the same on every machine, of bytes that do not compress.

use anyhow::{Context, Result, bail};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Files of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// How many files.
    pub files: u64,
    /// Bytes of each; a multiple of 8.
    pub file_bytes: u64,
}

/// Many small files: the cost of a request shows.
pub const SMALL: Tree = Tree { files: 20_000, file_bytes: 4 << 10 };
/// A few large ones: the cost of a byte shows.
pub const LARGE: Tree = Tree { files: 4, file_bytes: 1 << 30 };
/// One file to hash.
pub const FILE: Tree = Tree { files: 1, file_bytes: 4 << 30 };
/// So many that looking at them is all that matters.
pub const MANY: Tree = Tree { files: 200_000, file_bytes: 16 };
/// Small files as a cluster has them.
pub const CLUSTER_SMALL: Tree = Tree { files: 2_000, file_bytes: 64 << 10 };
/// Large ones, of several blocks each.
pub const CLUSTER_LARGE: Tree = Tree { files: 4, file_bytes: 512 << 20 };

/// Files of one folder of a tree.
const FILES_PER_FOLDER: u64 = 100;
/// Trees of fewer files are made smaller by their bytes.
const FEW: u64 = 100;

impl Tree {
    /// This part of it: of the files where there are many, else of their bytes.
    pub fn scaled(self, scale: u32) -> Self {
        let scale = u64::from(scale);
        match self.files < FEW {
            true => Self { file_bytes: (self.file_bytes / scale).next_multiple_of(8), ..self },
            false => Self { files: (self.files / scale).max(1), ..self },
        }
    }

    /// In words.
    pub fn about(self) -> String {
        let (count, unit) = match self.file_bytes {
            bytes if bytes >= 1 << 30 && bytes % (1 << 30) == 0 => (bytes >> 30, "GiB"),
            bytes if bytes >= 1 << 20 => (bytes >> 20, "MiB"),
            bytes if bytes >= 1 << 10 => (bytes >> 10, "KiB"),
            bytes => (bytes, "B"),
        };
        format!("{} x {count} {unit}", self.files)
    }

    fn name(self) -> String {
        format!("{}x{}", self.files, self.file_bytes)
    }
}

/// Where a tree is.
pub fn folder(bench: &Path, tree: Tree) -> PathBuf {
    bench.join("data").join(tree.name())
}

/// Makes a tree unless it is there and whole.
pub fn make(bench: &Path, tree: Tree) -> Result<()> {
    let root = folder(bench, tree);
    if check(&root, tree).is_ok() {
        return Ok(());
    }
    remove(&root)?;
    for number in 0..tree.files {
        let path = root.join(key(number));
        if number % FILES_PER_FOLDER == 0
            && let Some(folder) = path.parent()
        {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        write_file(&path, number + 1, tree.file_bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Makes a tree of empty files, for which only their names count.
pub fn make_empty(root: &Path, files: u64) -> Result<()> {
    for number in 0..files {
        let path = root.join(key(number));
        if number % FILES_PER_FOLDER == 0
            && let Some(folder) = path.parent()
        {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    }
    Ok(())
}

/// The path of a file in its tree.
fn key(number: u64) -> String {
    format!("d{:04}/f{number:06}.bin", number / FILES_PER_FOLDER)
}

/// The paths of all files of a tree, a line each.
pub fn keys(tree: Tree) -> String {
    (0..tree.files).map(|number| key(number) + "\n").collect()
}

/// An error unless the folder holds as many files and bytes as the tree, but for the checksums that Hadoop keeps beside
/// local files.
pub fn check(root: &Path, tree: Tree) -> Result<()> {
    let mut found = files(root)?;
    found.retain(|path| path.extension().is_none_or(|extension| extension != "crc"));
    let mut bytes = 0;
    for path in &found {
        bytes += std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.len();
    }
    let (count, expected) = (found.len() as u64, tree.files * tree.file_bytes);
    if (count, bytes) != (tree.files, expected) {
        bail!("{} holds {count} files, {bytes} bytes; not {}, {expected}", root.display(), tree.files);
    }
    Ok(())
}

/// All files below a folder, sorted.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Deletes a folder or file; none is fine.
pub fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// splitmix64: statistically random, the same everywhere. See <https://prng.di.unimi.it/splitmix64.c>.
fn write_file(path: &Path, seed: u64, bytes: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut state = seed << 40;
    for _ in 0..bytes / 8 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.write_all(&(z ^ (z >> 31)).to_le_bytes())?;
    }
    out.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_tree_has_fewer_files_or_fewer_bytes() {
        assert_eq!(SMALL.scaled(10), Tree { files: 2_000, file_bytes: 4 << 10 });
        assert_eq!(LARGE.scaled(8), Tree { files: 4, file_bytes: 128 << 20 });
        assert_eq!(FILE.scaled(1000).file_bytes % 8, 0);
        assert_eq!((LARGE.about(), MANY.about()), ("4 x 1 GiB".into(), "200000 x 16 B".into()));
    }

    #[test]
    fn a_tree_is_made_once_and_checked() {
        let folder_of_bench = tempfile::tempdir().unwrap();
        let tree = Tree { files: 201, file_bytes: 16 };
        make(folder_of_bench.path(), tree).unwrap();
        let root = folder(folder_of_bench.path(), tree);
        let found = files(&root).unwrap();
        assert_ne!(std::fs::read(&found[0]).unwrap(), std::fs::read(&found[200]).unwrap());
        std::fs::write(&found[0], b"short").unwrap();
        assert!(check(&root, tree).is_err());
        make(folder_of_bench.path(), tree).unwrap();
        check(&root, tree).unwrap();
    }
}
