//! Where parts and the runs in them end (pure). Part of the format: other numbers give other parts.

use crate::key::ObjectKey;

/// What ends after a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A run of the part.
    Run,
    /// The part, and its last run with it.
    Part,
}

/// The rule by which rows are cut into parts and runs.
///
/// A part ends after a key whose BLAKE3 starts with `bits` zero bits, so a change to one row moves no end but its own. There
/// is deliberately no minimum: skipping an end because the part is short would make every later end depend on where the
/// part began. The two limits do depend on it, but only until the next such key. The limit of rows is three average parts, which
/// one part in twenty reaches: it bounds what the encoding of a part takes, a kilobyte a row, so that the memory of a run
/// does not grow with the longest part that chance makes among millions of rows.
///
/// A run ends after a key with `run_bits` zero bits, and with its part: a changed row makes another run of the few hundred rows
/// around it, and of no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutting {
    bits: u32,
    run_bits: u32,
    max_rows: usize,
    max_bytes: usize,
}

impl Cutting {
    /// Version 2: 8,192 rows on average, at most 24,576, and no row after 32 MiB of canonical bytes; runs of 256 rows on
    /// average.
    pub const V2: Cutting = Cutting { bits: 13, run_bits: 8, max_rows: 24 << 10, max_bytes: 32 << 20 };

    /// Rows of the longest part.
    pub const fn max_rows(&self) -> usize {
        self.max_rows
    }

    #[cfg(test)]
    pub(crate) const fn tiny(bits: u32, max_rows: usize) -> Self {
        Cutting { bits, run_bits: bits / 2, max_rows, max_bytes: 64 << 10 }
    }

    /// What ends after the row of `key`, the part's `rows`-th, with `canonical_bytes` of its rows so far.
    pub fn end(&self, key: &ObjectKey, rows: usize, canonical_bytes: usize) -> Option<End> {
        let zeros = leading_zeros(key);
        if rows >= self.max_rows || canonical_bytes >= self.max_bytes || zeros >= self.bits {
            Some(End::Part)
        } else if zeros >= self.run_bits {
            Some(End::Run)
        } else {
            None
        }
    }

    /// Whether the part ends after that row.
    pub fn ends(&self, key: &ObjectKey, rows: usize, canonical_bytes: usize) -> bool {
        self.end(key, rows, canonical_bytes) == Some(End::Part)
    }
}

fn leading_zeros(key: &ObjectKey) -> u32 {
    let hash = blake3::hash(key.as_bytes());
    let (head, _) = hash.as_bytes().split_at(4);
    head.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;

    #[test]
    fn parts_end_after_a_key_in_8192_on_average_and_runs_in_256() {
        let rows = test_rows::numbered(200_000);
        let count = |end| rows.iter().filter(|row| Cutting::V2.end(&row.key, 1, 1) == Some(end)).count();
        let (parts, runs) = (count(End::Part), count(End::Run));
        assert!((12..=40).contains(&parts), "{parts}");
        assert!((640..=860).contains(&runs), "{runs}");
    }

    #[test]
    fn a_limit_ends_the_part_whatever_the_key() {
        let row = |key: &&ObjectKey| Cutting::V2.end(key, 1, 1).is_none();
        let keys: Vec<_> = test_rows::numbered(10).into_iter().map(|row| row.key).collect();
        let key = keys.iter().find(row).unwrap();
        let Cutting { max_rows, max_bytes, .. } = Cutting::V2;
        for (rows, bytes, end) in
            [(max_rows - 1, max_bytes - 1, None), (max_rows, 1, Some(End::Part)), (1, max_bytes, Some(End::Part))]
        {
            assert_eq!(Cutting::V2.end(key, rows, bytes), end, "{rows} {bytes}");
        }
    }
}
