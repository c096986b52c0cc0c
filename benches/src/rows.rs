//! Rows that every run makes the same, and a manifest of them: what the benchmarks of the library work on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use manifest::state::StateStore;
use manifest::{
    Attributes, ChunkSize, ContentHash, Entry, EntryKind, Evidence, Fingerprint, IndexMeta, Manifest, ManifestWriter,
};

/// The row of the `i`-th object; another `salt` makes another version of it, of the same size.
pub fn entry(i: u64, salt: u64) -> Entry {
    let etag = format!("{:032x}", u128::from(i ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
    let fingerprint = |mtime| Fingerprint {
        size_bytes: i % 100_000,
        mtime_ns: mtime,
        etag: Some(etag.clone()),
        ..Fingerprint::default()
    };
    Entry {
        key: format!("warehouse/table{:04}/part={:05}/file-{i:09}.parquet", i / 100_000, i / 1_000).into(),
        kind: EntryKind::Object,
        hash: Some(ContentHash::of(&(i ^ salt).to_le_bytes())),
        evidence: Evidence::Read,
        chunks: None,
        fingerprint: fingerprint(None),
        source: Some(fingerprint(Some(1_700_000_000_000_000_000 + i as i64))),
        attributes: Attributes::new(),
    }
}

/// Writes a manifest; all of them may share one store.
pub async fn write(store: &Arc<dyn StateStore>, rows: impl Iterator<Item = Entry>) -> Result<Manifest> {
    let mut writer = ManifestWriter::new(store.clone(), "", None);
    for row in rows {
        writer.push(row).await?;
    }
    let meta = IndexMeta {
        created: "2026-01-01T00:00:00Z".parse().context("a fixed time")?,
        root: "bench".into(),
        chunk_size: ChunkSize::DEFAULT,
        complete: true,
        extra: BTreeMap::new(),
    };
    let index = writer.finish(meta).await?;
    Ok(Manifest::from_index(store.clone(), "", index))
}
