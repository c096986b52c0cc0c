//! What the demos do to files: count them, and damage one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// A number of files, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// How long together.
    pub bytes: u64,
}

impl Amount {
    /// Counts a file of this length.
    pub fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// What lies below a folder.
pub fn measure(root: &Path) -> io::Result<Amount> {
    let mut amount = Amount::default();
    for item in fs::read_dir(root)? {
        let item = item?;
        let metadata = item.metadata()?;
        if metadata.is_dir() {
            amount += measure(&item.path())?;
        } else {
            amount.add(metadata.len());
        }
    }
    Ok(amount)
}

/// Flips one bit in the middle of a file, and leaves its length and time as they were: what a bad disk does.
pub fn damage(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = File::options().read(true).write(true).open(path)?;
    let metadata = file.metadata()?;
    let middle = metadata.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&[byte[0] ^ 1], middle)?;
    file.set_modified(metadata.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_and_damage_is_one_bit_that_length_and_time_do_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(&path, "content").unwrap();
        assert_eq!(measure(folder.path()).unwrap(), Amount { files: 1, bytes: 7 });
        let (before, time) = (fs::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap());
        damage(&path).unwrap();
        let after = fs::read(&path).unwrap();
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!((changed, after.len(), path.metadata().unwrap().modified().unwrap()), (1, before.len(), time));
    }
}
