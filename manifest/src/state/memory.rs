//! State in memory: for tests, and for embedding a run whose state need not outlive the process.
//!
//! Keeps every promise of [`StateStore`] but durability. Ages are told by tokio's clock, so that tests can move them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{StateItem, StateStore, Tag};
use crate::error::Result;

/// A state folder in memory.
#[derive(Debug, Default)]
pub struct MemoryState {
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    by_name: BTreeMap<String, File>,
    /// How many writes there were: every write has a tag of its own.
    writes: u64,
}

#[derive(Debug)]
struct File {
    bytes: Bytes,
    tag: Tag,
    written: Instant,
}

impl MemoryState {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn write(&mut self, name: &str, bytes: Bytes) -> Tag {
        self.writes += 1;
        let tag = Tag(self.writes.to_string());
        self.by_name.insert(name.to_owned(), File { bytes, tag: tag.clone(), written: Instant::now() });
        tag
    }
}

#[async_trait]
impl StateStore for MemoryState {
    fn place(&self) -> String {
        "memory:".into()
    }

    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
        Ok(self.files().by_name.get(name).map(|file| (file.bytes.clone(), file.tag.clone())))
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
        let mut files = self.files();
        Ok((!files.by_name.contains_key(name)).then(|| files.write(name, bytes)))
    }

    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
        let mut files = self.files();
        let right = files.by_name.get(name).is_some_and(|file| file.tag == *expected);
        Ok(right.then(|| files.write(name, bytes)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StateItem>> {
        let files = self.files();
        let below = files.by_name.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(below
            .map(|(name, file)| StateItem {
                name: name.clone(),
                size_bytes: file.bytes.len() as u64,
                age_s: Some(file.written.elapsed().as_secs()),
            })
            .collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.files().by_name.remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_the_contract() {
        crate::state::contract::state_store_contract(Arc::new(MemoryState::new())).await;
    }
}
