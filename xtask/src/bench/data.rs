//! The trees that are copied: made once, the same on every machine, of bytes that do not compress.

use anyhow::{Context, Result, bail};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Files of one size.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Its folder's name.
    pub name: &'static str,
    /// How many files.
    pub files: u64,
    /// Bytes of each; a multiple of 8.
    pub file_bytes: u64,
}

/// Many small files: the cost of a request shows.
pub const SMALL: Tree = Tree { name: "small", files: 2_000, file_bytes: 64 << 10 };
/// A few large ones: the cost of a byte shows.
pub const LARGE: Tree = Tree { name: "large", files: 4, file_bytes: 256 << 20 };

/// Files of one folder of a tree.
const FILES_PER_FOLDER: u64 = 100;

/// Where a tree is.
pub fn folder(bench: &Path, tree: Tree) -> PathBuf {
    bench.join("data").join(tree.name)
}

/// Makes a tree unless it is there and whole.
pub fn make(bench: &Path, tree: Tree) -> Result<()> {
    let root = folder(bench, tree);
    if check(&root, tree).is_ok() {
        return Ok(());
    }
    remove(&root)?;
    for number in 0..tree.files {
        let folder = root.join(format!("d{:03}", number / FILES_PER_FOLDER));
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.join(format!("f{number:05}.bin"));
        write_file(&path, number + 1, tree.file_bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// An error unless the folder holds as many files and bytes as the tree.
pub fn check(root: &Path, tree: Tree) -> Result<()> {
    let found = files(root)?;
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
    out.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_made_once_and_checked() {
        let folder_of_bench = tempfile::tempdir().unwrap();
        let tree = Tree { name: "tiny", files: 201, file_bytes: 16 };
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
