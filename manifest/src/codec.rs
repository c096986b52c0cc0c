//! The canonical bytes of a row: what part digests are made of, and what spills to disk while sorting.
//!
//! Every value has exactly one encoding and every encoding names one value, so equal rows have equal bytes on every
//! machine and in every later program. The layout is part of format version 1 and never changes: numbers are LEB128 (times
//! are eight bytes, little-endian), byte strings are a length and the bytes, options are bits of a flag byte. Decoding takes
//! any bytes and never panics. Nothing here does I/O.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::chunk::ChunkSize;
use crate::entry::{Attributes, Chunks, Entry, EntryKind, Evidence, Fingerprint, Listed};
use crate::error::{Error, Result};
use crate::hash::{ChunkHash, ContentHash};
use crate::key::ObjectKey;
use crate::sort::Record;

/// Bytes that are no canonical encoding, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends a number as LEB128: seven bits a byte, lowest first.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote, front to back.
#[derive(Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed("cut off"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number in its shortest form; longer forms are refused.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 || shift > 0 && byte == 0 {
                return Err(Malformed("a number is not in its shortest form"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed("a length is too large"))?;
        self.take(length)
    }

    /// A length and that many bytes of UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("cut off"))
    }

    /// Fails unless everything was read.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes follow the end")) }
    }
}

const MTIME: u8 = 1;
const CTIME: u8 = 1 << 1;
const ETAG: u8 = 1 << 2;
const VERSION: u8 = 1 << 3;
const FILE_ID: u8 = 1 << 4;
const RACY: u8 = 1 << 5;
const FINGERPRINT_FLAGS: u8 = MTIME | CTIME | ETAG | VERSION | FILE_ID | RACY;

const HASH: u8 = 1;
const CHUNKS: u8 = 1 << 1;
const SOURCE: u8 = 1 << 2;
const ENTRY_FLAGS: u8 = HASH | CHUNKS | SOURCE;

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Appends the canonical bytes of a fingerprint.
pub fn put_fingerprint(out: &mut Vec<u8>, fingerprint: &Fingerprint) {
    let Fingerprint { size_bytes, mtime_ns, ctime_ns, etag, version, file_id, racy } = fingerprint;
    out.push(
        flag(mtime_ns.is_some(), MTIME)
            | flag(ctime_ns.is_some(), CTIME)
            | flag(etag.is_some(), ETAG)
            | flag(version.is_some(), VERSION)
            | flag(file_id.is_some(), FILE_ID)
            | flag(*racy, RACY),
    );
    put_number(out, *size_bytes);
    for time in [mtime_ns, ctime_ns].into_iter().flatten() {
        out.extend_from_slice(&time.to_le_bytes());
    }
    for text in [etag, version].into_iter().flatten() {
        put_bytes(out, text.as_bytes());
    }
    if let Some(id) = file_id {
        put_number(out, *id);
    }
}

/// Reads a fingerprint.
pub fn fingerprint(cursor: &mut Cursor<'_>) -> Result<Fingerprint, Malformed> {
    let flags = cursor.byte()?;
    if flags & !FINGERPRINT_FLAGS != 0 {
        return Err(Malformed("unknown flags of a fingerprint"));
    }
    let has = |bit| flags & bit != 0;
    Ok(Fingerprint {
        size_bytes: cursor.number()?,
        mtime_ns: has(MTIME).then(|| cursor.array().map(i64::from_le_bytes)).transpose()?,
        ctime_ns: has(CTIME).then(|| cursor.array().map(i64::from_le_bytes)).transpose()?,
        etag: has(ETAG).then(|| cursor.text().map(str::to_owned)).transpose()?,
        version: has(VERSION).then(|| cursor.text().map(str::to_owned)).transpose()?,
        file_id: has(FILE_ID).then(|| cursor.number()).transpose()?,
        racy: has(RACY),
    })
}

fn kind_code(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Object => 0,
        EntryKind::Symlink => 1,
        EntryKind::Folder => 2,
        EntryKind::Special => 3,
    }
}

fn kind(code: u8) -> Result<EntryKind, Malformed> {
    match code {
        0 => Ok(EntryKind::Object),
        1 => Ok(EntryKind::Symlink),
        2 => Ok(EntryKind::Folder),
        3 => Ok(EntryKind::Special),
        _ => Err(Malformed("an unknown kind of entry")),
    }
}

fn evidence_code(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::Read => 0,
        Evidence::Inherited => 1,
        Evidence::StoreChecksum => 2,
        Evidence::Etag => 3,
        Evidence::None => 4,
    }
}

fn evidence(code: u8) -> Result<Evidence, Malformed> {
    match code {
        0 => Ok(Evidence::Read),
        1 => Ok(Evidence::Inherited),
        2 => Ok(Evidence::StoreChecksum),
        3 => Ok(Evidence::Etag),
        4 => Ok(Evidence::None),
        _ => Err(Malformed("an unknown kind of evidence")),
    }
}

/// Appends the canonical bytes of a manifest row.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let Entry { key, kind, hash, evidence, chunks, fingerprint, source, attributes } = entry;
    put_bytes(out, key.as_bytes());
    out.push(kind_code(*kind));
    out.push(evidence_code(*evidence));
    out.push(flag(hash.is_some(), HASH) | flag(chunks.is_some(), CHUNKS) | flag(source.is_some(), SOURCE));
    if let Some(hash) = hash {
        out.extend_from_slice(hash.as_bytes());
    }
    if let Some(chunks) = chunks {
        out.push(chunks.size.log2());
        put_number(out, chunks.hashes.len() as u64);
        chunks.hashes.iter().for_each(|hash| out.extend_from_slice(hash.as_bytes()));
    }
    put_fingerprint(out, fingerprint);
    if let Some(source) = source {
        put_fingerprint(out, source);
    }
    put_number(out, attributes.len() as u64);
    for (name, value) in attributes {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Reads a manifest row.
pub fn entry(cursor: &mut Cursor<'_>) -> Result<Entry, Malformed> {
    let key = ObjectKey::from(cursor.bytes()?.to_vec());
    let kind = kind(cursor.byte()?)?;
    let evidence = evidence(cursor.byte()?)?;
    let flags = cursor.byte()?;
    if flags & !ENTRY_FLAGS != 0 {
        return Err(Malformed("unknown flags of an entry"));
    }
    let has = |bit| flags & bit != 0;
    Ok(Entry {
        key,
        kind,
        evidence,
        hash: has(HASH).then(|| cursor.array().map(ContentHash::from_bytes)).transpose()?,
        chunks: has(CHUNKS).then(|| chunks(cursor)).transpose()?,
        fingerprint: fingerprint(cursor)?,
        source: has(SOURCE).then(|| fingerprint(cursor)).transpose()?,
        attributes: attributes(cursor)?,
    })
}

fn chunks(cursor: &mut Cursor<'_>) -> Result<Chunks, Malformed> {
    let size = ChunkSize::try_from(cursor.byte()?).map_err(|_| Malformed("a chunk size out of bounds"))?;
    let length = usize::try_from(cursor.number()?).ok().and_then(|count| count.checked_mul(32));
    let bytes = cursor.take(length.ok_or(Malformed("a length is too large"))?)?;
    Ok(Chunks { size, hashes: bytes.as_chunks().0.iter().map(|hash| ChunkHash::from_bytes(*hash)).collect() })
}

fn attributes(cursor: &mut Cursor<'_>) -> Result<Attributes, Malformed> {
    let mut attributes: Attributes = BTreeMap::new();
    for _ in 0..cursor.number()? {
        let name = cursor.text()?;
        if attributes.last_key_value().is_some_and(|(last, _)| last.as_str() >= name) {
            return Err(Malformed("attributes are not sorted"));
        }
        attributes.insert(name.to_owned(), cursor.text()?.to_owned());
    }
    Ok(attributes)
}

/// Appends the canonical bytes of a listed object.
pub fn put_listed(out: &mut Vec<u8>, listed: &Listed) {
    put_bytes(out, listed.key.as_bytes());
    out.push(kind_code(listed.kind));
    put_fingerprint(out, &listed.fingerprint);
}

/// Reads a listed object.
pub fn listed(cursor: &mut Cursor<'_>) -> Result<Listed, Malformed> {
    let key = ObjectKey::from(cursor.bytes()?.to_vec());
    Ok(Listed { key, kind: kind(cursor.byte()?)?, fingerprint: fingerprint(cursor)? })
}

/// Reads one value with `read` and insists that it is all of `bytes`; errors name `what` (`record`, `journal segment`).
pub fn whole<'a, T>(
    what: &'static str,
    bytes: &'a [u8],
    read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Malformed>,
) -> Result<T> {
    let mut cursor = Cursor::new(bytes);
    read(&mut cursor).and_then(|value| cursor.finish().map(|()| value)).map_err(|Malformed(reason)| Error::Damaged {
        what,
        name: format!("of {} bytes", bytes.len()),
        reason: reason.into(),
    })
}

fn fingerprint_memory_bytes(fingerprint: &Fingerprint) -> usize {
    fingerprint.etag.as_ref().map_or(0, String::capacity) + fingerprint.version.as_ref().map_or(0, String::capacity)
}

/// What an attribute costs beside its text: two strings in a tree node.
const ATTRIBUTE_OVERHEAD_BYTES: usize = 64;

impl Record for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        put_entry(out, self);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        whole("entry", bytes, entry)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.key.len()
            + self.chunks.as_ref().map_or(0, |chunks| chunks.hashes.len() * 32)
            + fingerprint_memory_bytes(&self.fingerprint)
            + self.source.as_ref().map_or(0, fingerprint_memory_bytes)
            + self.attributes.iter().map(|(n, v)| n.len() + v.len() + ATTRIBUTE_OVERHEAD_BYTES).sum::<usize>()
    }
}

impl Record for Listed {
    fn encode(&self, out: &mut Vec<u8>) {
        put_listed(out, self);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        whole("listed object", bytes, listed)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + fingerprint_memory_bytes(&self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows;
    use proptest::prelude::*;

    fn bytes_of(record: &impl Record) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn an_entry_round_trips(entry in test_rows::any_entry()) {
            prop_assert_eq!(Entry::decode(&bytes_of(&entry)).unwrap(), entry);
        }

        #[test]
        fn a_listed_object_round_trips(entry in test_rows::any_entry()) {
            let listed = Listed { key: entry.key, kind: entry.kind, fingerprint: entry.fingerprint };
            prop_assert_eq!(Listed::decode(&bytes_of(&listed)).unwrap(), listed);
        }

        #[test]
        fn every_encoding_is_canonical(entry in test_rows::any_entry(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            // Whatever still decodes after a byte changed encodes to exactly those bytes: no value has two encodings.
            let mut bytes = bytes_of(&entry);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(other) = Entry::decode(&bytes) {
                prop_assert_eq!(bytes_of(&other), bytes);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::decode(&bytes);
            let _ = Listed::decode(&bytes);
        }

        #[test]
        fn a_cut_off_entry_is_refused(entry in test_rows::any_entry(), at in any::<prop::sample::Index>()) {
            let bytes = bytes_of(&entry);
            prop_assert!(Entry::decode(&bytes[..at.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn numbers_at_the_edges_round_trip_and_long_forms_are_refused() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, value);
            assert_eq!(Cursor::new(&out).number(), Ok(value));
        }
        for long in [&[0x80, 0x00][..], &[0xff; 10], &[0x80; 11]] {
            assert!(Cursor::new(long).number().is_err(), "{long:?}");
        }
    }

    #[test]
    fn a_length_that_is_a_lie_allocates_nothing() {
        let mut out = Vec::new();
        put_bytes(&mut out, b"k");
        out.extend_from_slice(&[0, 0, CHUNKS, 23]);
        put_number(&mut out, u64::MAX / 64);
        assert!(Entry::decode(&out).is_err());
    }
}
