//! Checks that a manifest is complete and undamaged, reading every part of it.
//!
//! Reads only. Opening the index checked the index; this checks that each part is there, has the rows that its name and the
//! index promise, and that no row contradicts itself. Stops at nothing but a store that cannot be reached.

use futures::stream::{self, StreamExt as _};

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::PartDigest;
use crate::hash::ContentHash;
use crate::key::ObjectKey;
use crate::reader::{Manifest, PREFETCH_PARTS};

/// The most problems that are listed; more are only counted.
pub const MAX_PROBLEMS: usize = 1_000;

/// Something wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The part that it is about.
    pub part: PartDigest,
    /// The row that it is about, if it is not the whole part.
    pub key: Option<ObjectKey>,
    /// What is wrong.
    pub reason: String,
}

/// What a check of a manifest found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Parts that were read and are whole.
    pub parts: u64,
    /// Rows in them.
    pub entries: u64,
    /// What is wrong, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// How many problems there are, listed or not.
    pub problem_count: u64,
}

impl Checked {
    fn add(&mut self, part: PartDigest, key: Option<&ObjectKey>, reason: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            let key = key.map(|key| ObjectKey::from(key.as_bytes().to_vec()));
            self.problems.push(Problem { part, key, reason });
        }
    }
}

/// Reads all of a manifest. Damaged and missing parts, and rows that contradict themselves, are in the result; an error is
/// a store that did not answer, or a part of a version of the future.
pub async fn check(manifest: &Manifest) -> Result<Checked> {
    let mut checked = Checked::default();
    let parts = manifest.parts().to_vec();
    let mut reads = stream::iter(parts)
        .map(|part| async move { (part.digest, manifest.read_part(&part).await) })
        .buffered(PREFETCH_PARTS);
    while let Some((part, read)) = reads.next().await {
        match read {
            Ok(rows) => {
                checked.parts += 1;
                checked.entries += rows.len() as u64;
                for row in &rows {
                    if let Some(reason) = contradiction(row) {
                        checked.add(part, Some(&row.key), reason);
                    }
                }
            }
            Err(error @ (Error::Damaged { .. } | Error::Missing { .. })) => checked.add(part, None, error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(checked)
}

/// What a row says in one column and denies in another, if anything.
fn contradiction(row: &Entry) -> Option<String> {
    let chunks = row.chunks.as_ref()?;
    let merged = ContentHash::merge(&chunks.hashes, row.size_bytes(), chunks.size);
    match (merged, row.hash) {
        (None, _) => {
            let (count, size) = (chunks.hashes.len(), row.size_bytes());
            Some(format!("{count} chunks of {} are not those of {size} bytes", chunks.size))
        }
        (Some(merged), Some(hash)) if merged != hash => Some(format!("its chunks make the hash {merged}, not {hash}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkSize;
    use crate::entry::{Chunks, Fingerprint};
    use crate::hash::TreeHasher;
    use crate::reader::part_name;
    use crate::test_rows;
    use crate::test_store::{MemoryStore, write};
    use bytes::Bytes;

    #[tokio::test]
    async fn a_whole_manifest_has_no_problems() {
        let store = MemoryStore::new();
        let manifest = write(&store, "", test_rows::numbered(200), None).await;
        let parts = manifest.parts().len() as u64;
        assert_eq!(check(&manifest).await.unwrap(), Checked { parts, entries: 200, ..Checked::default() });
    }

    #[tokio::test]
    async fn every_bad_part_is_named() {
        let store = MemoryStore::new();
        let manifest = write(&store, "", test_rows::numbered(200), None).await;
        let (gone, bad) = (manifest.parts()[0].digest, manifest.parts()[2].digest);
        store.remove(&part_name("", &gone));
        store.put(&part_name("", &bad), Bytes::from_static(b"x"));
        let checked = check(&manifest).await.unwrap();
        assert_eq!(checked.problems.iter().map(|problem| problem.part).collect::<Vec<_>>(), [gone, bad]);
        assert_eq!(checked.parts, manifest.parts().len() as u64 - 2);
    }

    #[tokio::test]
    async fn chunks_that_are_not_those_of_the_hash_are_found() {
        let mut hasher = TreeHasher::new(ChunkSize::MIN);
        hasher.update(&vec![7; (2 << 20) + 5]);
        let hashed = hasher.finish();
        let fingerprint = Fingerprint { size_bytes: hashed.size_bytes, ..Fingerprint::default() };
        let chunks = Some(Chunks { size: ChunkSize::MIN, hashes: hashed.chunks.clone() });
        let good = Entry { hash: Some(hashed.hash), chunks, fingerprint, ..test_rows::plain("a", 0) };
        let mut bad = Entry { key: "b".into(), ..good.clone() };
        bad.chunks.as_mut().unwrap().hashes.swap(0, 1);
        let mut short = Entry { key: "c".into(), ..good.clone() };
        short.chunks.as_mut().unwrap().hashes.pop();
        let manifest = write(&MemoryStore::new(), "", vec![good, bad, short], None).await;
        let checked = check(&manifest).await.unwrap();
        let keys: Vec<_> = checked.problems.iter().map(|problem| problem.key.clone().unwrap()).collect();
        assert_eq!(keys, [ObjectKey::from("b"), ObjectKey::from("c")]);
        assert_eq!(checked.problem_count, 2);
    }
}
