//! How an object is cut: chunks (what is hashed and proven) and parts (what is sent), pure arithmetic.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The length of a chunk: a power of two from 1 MiB to 4 GiB (rule 19), stored per row as its logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ChunkSize {
    log2: u8,
}

/// A chunk size that is not a power of two from 1 MiB to 4 GiB.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a chunk size is a power of two from 1M to 4G, not {0}")]
pub struct BadChunkSize(pub u64);

/// The fewest bytes that S3 takes as a part which is not the last.
pub const MIN_PART_BYTES: u64 = 5 << 20;
/// The most parts of one S3 upload.
pub const MAX_PARTS: u64 = 10_000;

impl ChunkSize {
    /// 1 MiB.
    pub const MIN: ChunkSize = ChunkSize { log2: 20 };
    /// 4 GiB.
    pub const MAX: ChunkSize = ChunkSize { log2: 32 };
    /// 8 MiB.
    pub const DEFAULT: ChunkSize = ChunkSize { log2: 23 };

    /// A chunk size of `bytes`.
    pub fn new(bytes: u64) -> Result<Self, BadChunkSize> {
        let log2 = bytes.checked_ilog2().and_then(|log2| u8::try_from(log2).ok()).unwrap_or(0);
        match bytes.is_power_of_two() && (Self::MIN.log2..=Self::MAX.log2).contains(&log2) {
            true => Ok(Self { log2 }),
            false => Err(BadChunkSize(bytes)),
        }
    }

    /// The length in bytes.
    pub fn bytes(self) -> u64 {
        1 << self.log2
    }

    /// The base-2 logarithm of the length.
    pub fn log2(self) -> u8 {
        self.log2
    }

    /// How many chunks an object of `size_bytes` has: at least one, the last one short or whole.
    pub fn count(self, size_bytes: u64) -> u64 {
        size_bytes.div_ceil(self.bytes()).max(1)
    }

    /// The length of the parts of an object: the fewest whole chunks, doubled, that make a legal part (at least
    /// [`MIN_PART_BYTES`]) and no more than [`MAX_PARTS`] parts (rule 19).
    pub fn part_bytes(self, size_bytes: u64) -> u64 {
        let mut part = self.bytes();
        while part < MIN_PART_BYTES || size_bytes.div_ceil(part) > MAX_PARTS {
            part *= 2;
        }
        part
    }
}

impl TryFrom<u8> for ChunkSize {
    type Error = BadChunkSize;
    fn try_from(log2: u8) -> Result<Self, BadChunkSize> {
        1u64.checked_shl(log2.into()).ok_or(BadChunkSize(0)).and_then(Self::new)
    }
}

impl From<ChunkSize> for u8 {
    fn from(size: ChunkSize) -> u8 {
        size.log2
    }
}

impl fmt::Display for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log2 {
            log2 if log2 >= 30 => write!(f, "{}G", 1u64 << (log2 - 30)),
            log2 => write!(f, "{}M", 1u64 << (log2 - 20)),
        }
    }
}

/// The ranges of an object of `size_bytes` in steps of `step_bytes`, the last one short. An empty object has none.
pub fn ranges(size_bytes: u64, step_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size_bytes.div_ceil(step_bytes)).map(move |i| i * step_bytes..size_bytes.min((i + 1) * step_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_19_chunks_are_powers_of_two_in_bounds() {
        for (bytes, fine) in
            [(1 << 20, true), (1 << 32, true), (1 << 33, false), (1 << 19, false), (3 << 20, false), (0, false)]
        {
            assert_eq!(ChunkSize::new(bytes).is_ok(), fine, "{bytes}");
        }
    }

    #[test]
    fn rule_19_parts_are_runs_of_chunks_legal_for_s3() {
        let mib = 1 << 20;
        let table = [(mib, 10 * mib, 8 * mib), (8 * mib, 10 * mib, 8 * mib), (8 * mib, 100_000 * mib, 16 * mib)];
        for (chunk, size, part) in table {
            let chunk = ChunkSize::new(chunk).unwrap();
            assert_eq!(chunk.part_bytes(size), part);
            assert_eq!(part % chunk.bytes(), 0);
        }
    }

    #[test]
    fn ranges_cover_every_byte_once() {
        for (size, step) in [(0, 4), (1, 4), (4, 4), (5, 4), (8, 4), (9, 4)] {
            let mut next = 0;
            for range in ranges(size, step) {
                assert_eq!(range.start, next);
                assert!(range.end > range.start && range.end - range.start <= step);
                next = range.end;
            }
            assert_eq!(next, size);
        }
    }
}
