//! Deleting objects, the folders that become empty with them, and what dead runs left.
//!
//! Never removes the root or a folder that holds anything: every delete but that of our own temporary folders is of one
//! entry, and the NameNode refuses it for a folder with content. A crash between an object and its folder leaves an empty
//! folder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use manifest::ObjectKey;

use super::walk::{Met, Walk};
use super::{CALL_LIMIT, Tree};
use crate::store::local::path::is_temporary;
use crate::store::{Leftover, MAX_LEFTOVERS, Result, StoreErrorKind, UploadId};

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
    /// for another reason is no object: the delete of the object has worked. The NameNode deletes a file by the same call,
    /// so each is looked at right before: a file that somebody puts in its place between the two calls would go.
    async fn remove_empty_folders(&self, keys: impl Iterator<Item = &ObjectKey>) {
        let parent = |key: &str| key.rsplit_once('/').map(|(parent, _)| parent.to_owned());
        let mut folders: BTreeSet<String> = keys.filter_map(|key| parent(key.as_str()?)).collect();
        // Those below a folder sort after it.
        while let Some(folder) = folders.pop_last() {
            let key = ObjectKey::from(folder.as_str());
            let Ok(path) = self.path("delete", &key) else { continue };
            if !self.status("delete", &key, &path).await.is_ok_and(|status| status.isdir) {
                continue;
            }
            let gone = self.call("delete", &key, CALL_LIMIT, self.client.delete(path.as_str(), false)).await.is_ok();
            folders.extend(parent(&folder).filter(|_| gone));
        }
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
pub(super) async fn leftovers(tree: &Arc<Tree>, min_age: Duration) -> Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let mut walk = Walk::of_temporaries(Arc::clone(tree));
    let now_ns = (tree.now_ns)();
    while found.len() < MAX_LEFTOVERS {
        match walk.next().await {
            Ok(Some(Met::Temporary(folder, name, mtime_ns))) => {
                let age_ns = now_ns.saturating_sub(mtime_ns);
                let age = Duration::from_nanos(u64::try_from(age_ns).unwrap_or_default());
                if age >= min_age {
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
