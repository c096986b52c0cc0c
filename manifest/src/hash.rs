//! BLAKE3 over whole objects and over their chunks.
//!
//! The hash of an object is the *standard* BLAKE3 of its bytes: `b3sum` prints the same. Objects above the chunk size are
//! hashed as aligned chunks, in any order and in parallel; a chunk's *chaining value* depends on its offset, and the
//! object's hash is the merge of them (`blake3::hazmat`). So the hash depends on no chunk size, part layout or store, and a
//! single range can be proven, or repaired, alone.

use std::fmt;
use std::str::FromStr;

use blake3::Hasher;
use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkSize;

/// The BLAKE3 of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash([u8; 32]);

/// The chaining value of one aligned chunk of an object: BLAKE3's non-root node at that offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChunkHash([u8; 32]);

/// Text that is not 64 lower- or upper-case hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a BLAKE3 hash of 64 hexadecimal digits: {0:?}")]
pub struct BadHash(String);

macro_rules! thirty_two_bytes {
    ($name:ident) => {
        impl $name {
            /// Wraps 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadHash;
            fn from_str(text: &str) -> Result<Self, BadHash> {
                blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| BadHash(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadHash;
            fn try_from(text: String) -> Result<Self, BadHash> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(hash: $name) -> String {
                hash.to_string()
            }
        }
    };
}

thirty_two_bytes!(ContentHash);
thirty_two_bytes!(ChunkHash);

impl ContentHash {
    /// The BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash of an object of `size_bytes` from the chaining values of its chunks, in order. `None` when their number is
    /// not that of such an object, or when the object has fewer than two chunks (those are hashed whole).
    pub fn merge(chunks: &[ChunkHash], size_bytes: u64, chunk_size: ChunkSize) -> Option<Self> {
        let count = chunk_size.count(size_bytes);
        if count < 2 || chunks.len() as u64 != count {
            return None;
        }
        let (left, right) = chunks.split_at(left_len(chunks.len()));
        Some(Self(*merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes()))
    }
}

impl ChunkHash {
    /// The chaining value of `bytes` that stand at `offset` of an object with more than one chunk. `offset` is a multiple
    /// of the chunk size, and `bytes` no longer than it.
    pub fn of(bytes: &[u8], offset: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(offset);
        hasher.update(bytes);
        Self(hasher.finalize_non_root())
    }

    /// The chaining values of the consecutive chunks of `bytes`, which start at the chunk-aligned `offset`.
    pub fn of_run(bytes: &[u8], offset: u64, chunk_size: ChunkSize) -> Vec<Self> {
        let length = usize::try_from(chunk_size.bytes()).unwrap_or(usize::MAX);
        bytes.chunks(length).zip(0u64..).map(|(chunk, i)| Self::of(chunk, offset + i * chunk_size.bytes())).collect()
    }
}

/// BLAKE3 puts the largest power of two of leaves that leaves something over into the left subtree.
fn left_len(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn merge(chunks: &[ChunkHash]) -> [u8; 32] {
    match chunks {
        [] => unreachable!("a subtree has at least one chunk"),
        [one] => one.0,
        many => {
            let (left, right) = many.split_at(left_len(many.len()));
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

/// Hashes a stream of bytes and remembers the chunks on the way.
#[derive(Debug)]
pub struct TreeHasher {
    chunk_size: ChunkSize,
    offset: u64,
    /// The whole, until the first chunk is full and more follows; then the running chunk.
    running: Hasher,
    in_chunk: u64,
    chunks: Vec<ChunkHash>,
}

/// What [`TreeHasher`] found: the object's size and hash, and its chunks when it has more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Number of bytes.
    pub size_bytes: u64,
    /// BLAKE3 of the bytes.
    pub hash: ContentHash,
    /// Chaining values in order; empty for an object of at most one chunk.
    pub chunks: Vec<ChunkHash>,
}

impl TreeHasher {
    /// A hasher that cuts at `chunk_size`.
    pub fn new(chunk_size: ChunkSize) -> Self {
        Self { chunk_size, offset: 0, running: Hasher::new(), in_chunk: 0, chunks: Vec::new() }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.in_chunk == self.chunk_size.bytes() {
                self.chunks.push(ChunkHash(self.running.finalize_non_root()));
                self.offset += self.in_chunk;
                self.in_chunk = 0;
                self.running = Hasher::new();
                self.running.set_input_offset(self.offset);
            }
            let room = usize::try_from(self.chunk_size.bytes() - self.in_chunk).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.running.update(now);
            self.in_chunk += now.len() as u64;
            bytes = later;
        }
    }

    /// The result over all bytes so far.
    pub fn finish(mut self) -> Hashed {
        let size_bytes = self.offset + self.in_chunk;
        if self.chunks.is_empty() {
            let hash = ContentHash(*self.running.finalize().as_bytes());
            return Hashed { size_bytes, hash, chunks: Vec::new() };
        }
        self.chunks.push(ChunkHash(self.running.finalize_non_root()));
        let (left, right) = self.chunks.split_at(left_len(self.chunks.len()));
        let hash = ContentHash(*merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes());
        Hashed { size_bytes, hash, chunks: self.chunks }
    }
}

/// Hashes a run of an object's chunks that comes in pieces.
#[derive(Debug)]
pub struct RunHasher(TreeHasher);

impl RunHasher {
    /// A hasher of chunks of `chunk_size` of an object that has more than one; the first begins at the chunk-aligned
    /// `offset`.
    pub fn new(offset: u64, chunk_size: ChunkSize) -> Self {
        let mut running = Hasher::new();
        running.set_input_offset(offset);
        Self(TreeHasher { chunk_size, offset, running, in_chunk: 0, chunks: Vec::new() })
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The chaining values of all chunks so far; there is at least one byte.
    pub fn finish(mut self) -> Vec<ChunkHash> {
        self.0.chunks.push(ChunkHash(self.0.running.finalize_non_root()));
        self.0.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    fn check(len: usize, chunk_size: ChunkSize, pieces: usize) {
        let data = bytes(len);
        let mut hasher = TreeHasher::new(chunk_size);
        data.chunks(pieces.max(1)).for_each(|piece| hasher.update(piece));
        let hashed = hasher.finish();
        assert_eq!(hashed.hash, ContentHash::of(&data), "{len} bytes");
        assert_eq!(hashed.size_bytes, len as u64);
        if chunk_size.count(len as u64) > 1 {
            let run = ChunkHash::of_run(&data, 0, chunk_size);
            assert_eq!(hashed.chunks, run);
            let offset = chunk_size.bytes();
            let mut rest = RunHasher::new(offset, chunk_size);
            data[offset as usize..].chunks(pieces.max(1)).for_each(|piece| rest.update(piece));
            assert_eq!(rest.finish(), run[1..]);
            assert_eq!(ContentHash::merge(&run, len as u64, chunk_size), Some(hashed.hash));
            assert_eq!(ContentHash::merge(&run[1..], len as u64, chunk_size), None);
        } else {
            assert!(hashed.chunks.is_empty());
        }
    }

    #[test]
    fn case_28_sizes_around_every_boundary_hash_as_plain_blake3() {
        let chunk = ChunkSize::MIN;
        let c = chunk.bytes() as usize;
        for len in [0, 1, 1023, 1024, 1025, c - 1, c, c + 1, 2 * c - 1, 2 * c, 2 * c + 17, 3 * c, 4 * c, 5 * c + 3] {
            check(len, chunk, 64 * 1024 + 7);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn chunked_hash_is_plain_blake3(len in 0usize..9_000_000, pieces in 1usize..2_000_000) {
            check(len, ChunkSize::MIN, pieces);
        }
    }
}
