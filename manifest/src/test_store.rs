//! A state store in memory that counts its calls, and short ways to make a manifest in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::ChunkSize;
use crate::entry::Entry;
use crate::error::Result;
use crate::format::Cutting;
use crate::hash::ContentHash;
use crate::index::{Index, IndexMeta};
use crate::reader::Manifest;
use crate::state::{StateItem, StateStore, Tag};
use crate::writer::ManifestWriter;

/// Parts of about eight rows.
pub const TINY: Cutting = Cutting::tiny(3, 40);

#[derive(Debug, Default)]
pub struct MemoryStore {
    files: Mutex<BTreeMap<String, Bytes>>,
    gets: AtomicU64,
    creates: AtomicU64,
}

impl MemoryStore {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn put(&self, name: &str, bytes: Bytes) {
        self.files.lock().unwrap().insert(name.into(), bytes);
    }

    pub fn remove(&self, name: &str) {
        self.files.lock().unwrap().remove(name).unwrap();
    }

    pub fn bytes(&self, name: &str) -> Bytes {
        self.files.lock().unwrap()[name].clone()
    }

    pub fn names(&self) -> Vec<String> {
        self.files.lock().unwrap().keys().cloned().collect()
    }

    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    pub fn creates(&self) -> u64 {
        self.creates.load(Ordering::Relaxed)
    }
}

fn tag(bytes: &[u8]) -> Tag {
    Tag(ContentHash::of(bytes).to_string())
}

#[async_trait]
impl StateStore for MemoryStore {
    fn place(&self) -> String {
        "memory".into()
    }

    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        Ok(self.files.lock().unwrap().get(name).map(|bytes| (bytes.clone(), tag(bytes))))
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
        self.creates.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files.lock().unwrap();
        if files.contains_key(name) {
            return Ok(None);
        }
        let tag = tag(&bytes);
        files.insert(name.into(), bytes);
        Ok(Some(tag))
    }

    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
        let mut files = self.files.lock().unwrap();
        match files.get_mut(name) {
            Some(old) if tag(old) == *expected => {
                *old = bytes;
                Ok(Some(tag(old)))
            }
            _ => Ok(None),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StateItem>> {
        let files = self.files.lock().unwrap();
        let below = files.iter().filter(|(name, _)| name.starts_with(prefix));
        let item = |(name, bytes): (&String, &Bytes)| StateItem {
            name: name.clone(),
            size_bytes: bytes.len() as u64,
            age_s: None,
        };
        Ok(below.map(item).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }
}

pub fn meta() -> IndexMeta {
    IndexMeta {
        created: "2026-11-21T11:42:04Z".parse().unwrap(),
        root: "memory".into(),
        chunk_size: ChunkSize::DEFAULT,
        complete: true,
        extra: BTreeMap::new(),
    }
}

/// Writes rows as a manifest of [`TINY`] parts.
pub async fn write(store: &Arc<MemoryStore>, folder: &str, rows: Vec<Entry>, trusted: Option<&Index>) -> Manifest {
    write_cut(TINY, store, folder, rows, trusted).await
}

/// Writes rows as a manifest whose parts are cut in some way.
pub async fn write_cut(
    cutting: Cutting,
    store: &Arc<MemoryStore>,
    folder: &str,
    rows: Vec<Entry>,
    trusted: Option<&Index>,
) -> Manifest {
    let mut writer = ManifestWriter::with_cutting(store.clone(), folder, trusted, cutting);
    for row in rows {
        writer.push(row).await.unwrap();
    }
    let index = writer.finish(meta()).await.unwrap();
    Manifest::from_index(store.clone(), folder, index)
}
