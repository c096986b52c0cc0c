//! Reads objects to learn their hash. Writes nothing.

use bytes::{Bytes, BytesMut};
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use manifest::{Attributes, ChunkHash, ChunkSize, ContentHash, EntryKind, Fingerprint, ObjectKey};

use crate::copy::budget::Budget;
use crate::store::{GetOptions, HASH_BLOCK_BYTES, ObjectInfo, Result, Store, StoreError, StoreErrorKind};

/// Ranges of one object that are read at once.
pub const RANGES_AT_ONCE: usize = 4;
/// Content of at most this many bytes is hashed on the spot; more goes to a blocking thread.
const HASH_INLINE_BYTES: usize = 128 << 10;

/// The longest range that a store may hash by itself: that cannot be interrupted.
const MAX_HASHED_RANGE_BYTES: u64 = 64 << 20;

/// What reading an object told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// BLAKE3 of the content.
    pub hash: ContentHash,
    /// Chaining values, when there is more than one chunk.
    pub chunks: Vec<ChunkHash>,
    /// What stands there.
    pub kind: EntryKind,
    /// Headers and user metadata.
    pub attributes: Attributes,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// Reads a whole object of exactly the version `expect` and hashes it, in ranges when it is large.
pub async fn scan(
    store: &dyn Store,
    key: &ObjectKey,
    expect: &Fingerprint,
    chunk_size: ChunkSize,
    budget: &Budget,
) -> Result<Scanned> {
    let part_bytes = chunk_size.part_bytes(expect.size_bytes);
    if expect.size_bytes <= part_bytes {
        let _held = budget.take(expect.size_bytes).await;
        let (info, bytes) = read_whole(store, key, expect).await?;
        let (hash, chunks) = hash_whole(bytes, chunk_size).await?;
        return Ok(Scanned {
            hash,
            chunks,
            kind: info.kind,
            attributes: info.attributes,
            size_bytes: expect.size_bytes,
        });
    }
    let read = |range: std::ops::Range<u64>| async move {
        if part_bytes <= MAX_HASHED_RANGE_BYTES {
            let _held = budget.take(HASH_BLOCK_BYTES).await;
            if let Some(hashed) = store.hash_range(key, range.clone(), expect, chunk_size).await? {
                return Ok::<_, StoreError>((range.start, hashed.info, hashed.chunks));
            }
        }
        let _held = budget.take(range.end - range.start).await;
        let (info, bytes) = read_range(store, key, expect, range.clone()).await?;
        let hashes = hash_run(bytes, range.start, chunk_size).await?;
        Ok((range.start, info, hashes))
    };
    let mut ranges = manifest::chunk::ranges(expect.size_bytes, part_bytes);
    let mut running = FuturesUnordered::new();
    let mut found = Vec::new();
    running.extend(ranges.by_ref().take(RANGES_AT_ONCE).map(read));
    let mut info = None;
    while let Some((offset, read_info, hashes)) = running.try_next().await? {
        found.push((offset, hashes));
        info = Some(read_info);
        running.extend(ranges.next().map(read));
    }
    found.sort_unstable_by_key(|(offset, _)| *offset);
    let chunks: Vec<_> = found.into_iter().flat_map(|(_, hashes)| hashes).collect();
    let merged = ContentHash::merge(&chunks, expect.size_bytes, chunk_size);
    let (Some(hash), Some(info)) = (merged, info) else {
        return Err(corrupt(store, key, "its chunks do not make the object"));
    };
    Ok(Scanned { hash, chunks, kind: info.kind, attributes: info.attributes, size_bytes: expect.size_bytes })
}

/// Reads a whole object of exactly the version `expect` into memory.
pub async fn read_whole(store: &dyn Store, key: &ObjectKey, expect: &Fingerprint) -> Result<(ObjectInfo, Bytes)> {
    let got = store.get(key, GetOptions { range: None, expect: Some(expect.clone()) }).await?;
    let bytes = collect(store, key, got.body, expect.size_bytes).await?;
    Ok((got.info, bytes))
}

/// Reads a range of exactly the version `expect` into memory.
pub async fn read_range(
    store: &dyn Store,
    key: &ObjectKey,
    expect: &Fingerprint,
    range: std::ops::Range<u64>,
) -> Result<(ObjectInfo, Bytes)> {
    let length = range.end - range.start;
    let got = store.get(key, GetOptions { range: Some(range), expect: Some(expect.clone()) }).await?;
    let bytes = collect(store, key, got.body, length).await?;
    Ok((got.info, bytes))
}

async fn collect(
    store: &dyn Store,
    key: &ObjectKey,
    body: futures::stream::BoxStream<'static, Result<Bytes>>,
    length: u64,
) -> Result<Bytes> {
    // An empty body ends at its first poll, and is polled once more below.
    let mut body = body.fuse();
    let length = usize::try_from(length).map_err(|_| corrupt(store, key, "it is larger than memory"))?;
    let first = body.try_next().await?.unwrap_or_default();
    if first.len() == length {
        return match body.try_next().await? {
            Some(more) if !more.is_empty() => Err(corrupt(store, key, "more bytes arrived than it has")),
            _ => Ok(first),
        };
    }
    let mut whole = BytesMut::with_capacity(length);
    whole.extend_from_slice(&first);
    while let Some(bytes) = body.next().await {
        let bytes = bytes?;
        if whole.len() + bytes.len() > length {
            return Err(corrupt(store, key, "more bytes arrived than it has"));
        }
        whole.extend_from_slice(&bytes);
    }
    match whole.len() == length {
        true => Ok(whole.freeze()),
        false => Err(corrupt(store, key, &format!("{} of {length} bytes arrived", whole.len()))),
    }
}

/// Hash and chunks of a whole object in memory.
pub async fn hash_whole(bytes: Bytes, chunk_size: ChunkSize) -> Result<(ContentHash, Vec<ChunkHash>)> {
    let length = bytes.len();
    let work = move || {
        if chunk_size.count(bytes.len() as u64) < 2 {
            return (ContentHash::of(&bytes), Vec::new());
        }
        let chunks = ChunkHash::of_run(&bytes, 0, chunk_size);
        let hash = ContentHash::merge(&chunks, bytes.len() as u64, chunk_size);
        (hash.unwrap_or_else(|| ContentHash::of(&bytes)), chunks)
    };
    offload(length, work).await
}

/// Chaining values of the chunks of a range that starts at `offset`.
pub async fn hash_run(bytes: Bytes, offset: u64, chunk_size: ChunkSize) -> Result<Vec<ChunkHash>> {
    offload(bytes.len(), move || ChunkHash::of_run(&bytes, offset, chunk_size)).await
}

/// Runs CPU work over `length` bytes: short work here, long work on a blocking thread.
pub async fn offload<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if length <= HASH_INLINE_BYTES {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| StoreError::new("hash", "memory", StoreErrorKind::Cancelled, e.to_string()))
}

fn corrupt(store: &dyn Store, key: &ObjectKey, detail: &str) -> StoreError {
    StoreError::new("read", store.place(), StoreErrorKind::Corrupt, detail).on(key)
}
