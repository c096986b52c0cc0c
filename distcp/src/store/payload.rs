//! Bytes on their way from one store to another, with the checksum that was taken when they were read.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest, checksum};

/// Content and its CRC-64/NVME. The checksum travels with the bytes from the moment they were read and hashed: whoever
/// writes them hands it to the store, or compares it with what was written, so that damage in between is caught (case 27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Bytes,
    crc64nvme: u64,
}

impl Payload {
    /// Takes the checksum of bytes that were just read.
    pub fn new(bytes: Bytes) -> Self {
        let crc64nvme = crc64nvme(&bytes);
        Self { bytes, crc64nvme }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Their CRC-64/NVME as it was when they were read.
    pub fn crc64nvme(&self) -> u64 {
        self.crc64nvme
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the bytes still are the ones that were read.
    pub fn is_intact(&self) -> bool {
        crc64nvme(&self.bytes) == self.crc64nvme
    }

    /// The same checksum over other bytes: damage on the way, for tests of those who must notice.
    #[doc(hidden)]
    pub fn damaged(&self, bytes: Bytes) -> Self {
        Self { bytes, crc64nvme: self.crc64nvme }
    }
}

/// As [`Payload::new`]: for bytes that are made here.
impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self::new(Bytes::from_static(text.as_bytes()))
    }
}

/// CRC-64/NVME of bytes that come in pieces.
pub struct Crc64(Digest);

impl Crc64 {
    /// Of nothing so far.
    pub fn of_nothing() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

/// CRC-64/NVME, the checksum that S3 calls `crc64nvme`.
pub fn crc64nvme(bytes: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, bytes)
}
