//! Deleting objects, the folders that become empty with them, and what dead runs left.
//!
//! Never removes a folder that holds anything: every delete but that of our own temporary folders is of one entry, and the
//! NameNode refuses it for a folder with content. The root goes only when whoever made it says so. A crash between an object
//! and its folder leaves an empty folder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use manifest::ObjectKey;

use super::path::HdfsPath;
use super::walk::{Met, Walk};
use super::{CALL_LIMIT, Tree};
use crate::store::local::path::is_temporary;
use crate::store::{Folders, Leftover, MAX_LEFTOVERS, Result, StoreErrorKind, UploadId};

/// How many deletes are under way at once.
const DELETES_AT_ONCE: usize = 16;

impl Tree {
    /// One answer a key; then the folders that became empty.
    pub(super) async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let deletes = keys.iter().cloned().map(|key| async move { self.delete_one(&key).await });
        let answers: Vec<Result<bool>> = stream::iter(deletes).buffered(DELETES_AT_ONCE).collect().await;
        let deleted = keys.iter().zip(&answers).filter(|(_, answer)| matches!(answer, Ok(true))).map(|(key, _)| key);
        self.remove_empty_folders(deleted).await;
        answers.into_iter().map(|answer| answer.map(|_| ())).collect()
    }

    /// Whether it was there.
    async fn delete_one(&self, key: &ObjectKey) -> Result<bool> {
        let path = self.path("delete", key)?;
        if key.is_empty() && self.status("delete", key, &path).await.is_ok_and(|status| status.isdir) {
            return Err(self.error("delete", key, StoreErrorKind::KindConflict, "the root is a folder"));
        }
        let error = match self.call("delete", key, CALL_LIMIT, self.client.delete(path.as_str(), false)).await {
            Ok(deleted) => return Ok(deleted),
            Err(error) => error,
        };
        match error.kind {
            StoreErrorKind::NotFound => Ok(false),
            // A folder with content refuses to go; below a file there is nothing.
            StoreErrorKind::KindConflict => match self.status("delete", key, &path).await {
                Err(now) if now.kind == StoreErrorKind::NotFound => Ok(false),
                _ => Err(error),
            },
            _ => Err(error),
        }
    }

    /// Removes the folders above keys that were deleted, from the lowest up, as long as they are empty. A folder that stays
    /// for another reason is no object: the delete of the object has worked.
    async fn remove_empty_folders(&self, keys: impl Iterator<Item = &ObjectKey>) {
        let parent = |key: &str| key.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        let mut folders: BTreeSet<String> = keys.filter_map(|key| parent(key.as_str()?)).collect();
        // Those below a folder sort after it.
        while let Some(folder) = folders.pop_last() {
            let key = ObjectKey::from(folder.as_str());
            let Ok(path) = self.path("delete", &key) else { continue };
            let gone = self.remove_folder(&key, &path).await.unwrap_or_default();
            folders.extend(parent(&folder).filter(|_| gone));
        }
    }

    /// Whether there was an empty folder, which is gone now. The NameNode deletes a file by the same call, so it is looked
    /// at right before: a file that somebody puts in its place between the two calls would go.
    async fn remove_folder(&self, key: &ObjectKey, path: &HdfsPath) -> Result<bool> {
        if !self.status("delete", key, path).await?.isdir {
            return Ok(false);
        }
        self.call("delete", key, CALL_LIMIT, self.client.delete(path.as_str(), false)).await.map(|_| true)
    }

    /// How many folders a write makes: the root and those above it, up to the first that is there.
    pub(super) async fn missing_folders(&self) -> Result<usize> {
        let (key, mut missing) = (ObjectKey::default(), 0);
        for path in self.root.upwards() {
            match self.status("look up", &key, &path).await {
                Err(error) if error.kind == StoreErrorKind::NotFound => missing += 1,
                found => return found.map(|_| missing),
            }
        }
        Ok(missing)
    }

    /// Removes so many of the folders from the root up. One that holds anything stays, and so do those above it.
    pub(super) async fn remove_made_folders(&self, count: usize) -> Result<()> {
        let key = ObjectKey::default();
        for path in self.root.upwards().take(count) {
            match self.remove_folder(&key, &path).await {
                Ok(true) => {}
                // The write did not get as far as here.
                Err(error) if error.kind == StoreErrorKind::NotFound => {}
                Err(error) if error.kind == StoreErrorKind::KindConflict => break,
                Ok(false) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes a temporary file, or the folder of an upload.
    pub(super) async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        let refused = |detail| Err(self.error("delete", &leftover.folder, StoreErrorKind::Other, detail));
        if !is_temporary(leftover.upload.0.as_bytes()) {
            return refused("it is no temporary file of ours");
        }
        let path = self.path("delete", &leftover.folder)?.join(&leftover.upload.0);
        let deleted = self.client.delete(path.as_str(), true);
        match self.call("delete", &leftover.folder, CALL_LIMIT, deleted).await {
            Err(error) if error.kind != StoreErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Temporary files and folders that last changed at least `min_age` ago. A root that is one file has none.
pub(super) async fn leftovers(
    tree: &Arc<Tree>,
    min_age: Duration,
    within: Option<Arc<Folders>>,
) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let cover = within.as_ref().and_then(|within| within.cover()).map(Arc::new);
    let mut walk = Walk::of_temporaries(Arc::clone(tree), cover);
    let now_ns = (tree.now_ns)();
    while found.len() < MAX_LEFTOVERS {
        match walk.next().await {
            Ok(Some(Met::Temporary(folder, name, mtime_ns))) => {
                let age_ns = now_ns.saturating_sub(mtime_ns);
                let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or_default());
                if age >= min_age && within.as_ref().is_none_or(|within| within.contains(&folder)) {
                    found.push(Leftover { folder, upload: UploadId(name), age });
                }
            }
            Ok(Some(Met::Entry(_))) => {}
            Ok(None) => break,
            Err(error) if error.kind == StoreErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
