//! Checksums that the store checks for us, and the MD5s that its ETags may be.
//!
//! Pure but for moving large inputs to a blocking thread; a crash leaves nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};

/// Bodies above this are hashed on a blocking thread.
const BLOCKING_BYTES: usize = 1 << 20;

/// Which checksum goes with every body. Both can be told of a whole object from those of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Algorithm {
    Crc64Nvme,
    Crc32c,
}

impl Algorithm {
    /// From the value of the `checksum_algorithm` option.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "crc64nvme" => Some(Algorithm::Crc64Nvme),
            "crc32c" => Some(Algorithm::Crc32c),
            _ => None,
        }
    }

    /// The name in `x-amz-checksum-algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Crc64Nvme => "CRC64NVME",
            Algorithm::Crc32c => "CRC32C",
        }
    }

    /// The header that carries the value.
    pub fn header(self) -> &'static str {
        match self {
            Algorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Algorithm::Crc32c => "x-amz-checksum-crc32c",
        }
    }

    /// The element that carries the value.
    pub fn element(self) -> &'static str {
        match self {
            Algorithm::Crc64Nvme => "ChecksumCRC64NVME",
            Algorithm::Crc32c => "ChecksumCRC32C",
        }
    }

    fn crc(self) -> CrcAlgorithm {
        match self {
            Algorithm::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Algorithm::Crc32c => CrcAlgorithm::Crc32Iscsi,
        }
    }

    /// The value as it stands in headers.
    pub fn encode(self, value: u64) -> String {
        match self {
            Algorithm::Crc64Nvme => BASE64.encode(value.to_be_bytes()),
            Algorithm::Crc32c => BASE64.encode((value as u32).to_be_bytes()),
        }
    }

    fn decode(self, text: &str) -> Option<u64> {
        let bytes = BASE64.decode(text).ok()?;
        match self {
            Algorithm::Crc64Nvme => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
            Algorithm::Crc32c => Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?))),
        }
    }

    /// The checksum of `body` as the store writes it.
    pub async fn of(self, body: &Bytes) -> String {
        digest(body, move |bytes| self.encode(crc_fast::checksum(self.crc(), bytes))).await
    }

    /// The checksum of parts put together, from theirs and their lengths; `None` when one is not of this algorithm.
    pub fn combine<'a>(self, parts: impl Iterator<Item = (&'a str, u64)>) -> Option<String> {
        let mut whole: Option<u64> = None;
        for (text, size_bytes) in parts {
            let next = self.decode(text)?;
            whole = Some(match whole {
                None => next,
                Some(before) => crc_fast::checksum_combine(self.crc(), before, next, size_bytes),
            });
        }
        whole.map(|value| self.encode(value))
    }
}

/// The MD5 of a body in lower-case hexadecimal: what an ETag is, where it is an MD5.
pub(crate) async fn md5_hex(body: &Bytes) -> String {
    digest(body, md5_hex_now).await
}

/// As [`md5_hex`], on this thread.
pub(crate) fn md5_hex_now(body: &[u8]) -> String {
    hex(&Md5::digest(body))
}

/// The MD5 of a body in base64, as `Content-MD5` carries it.
pub(crate) fn md5_base64(body: &[u8]) -> String {
    BASE64.encode(Md5::digest(body))
}

/// As [`md5_base64`], off this thread where the body is large.
pub(crate) async fn md5_base64_of(body: &Bytes) -> String {
    digest(body, md5_base64).await
}

/// The ETag that S3 gives an object put together from parts with these ETags: the MD5 of their MD5s and their number.
/// `None` when one of them is not an MD5.
pub(crate) fn composite_etag<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut md5 = Md5::new();
    let mut count = 0usize;
    for etag in parts {
        if etag.len() != 32 || !etag.is_ascii() {
            return None;
        }
        for i in (0..32).step_by(2) {
            md5.update([u8::from_str_radix(&etag[i..i + 2], 16).ok()?]);
        }
        count += 1;
    }
    (count > 0).then(|| format!("{}-{count}", hex(&md5.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn digest(body: &Bytes, f: impl FnOnce(&[u8]) -> String + Send + 'static) -> String {
    if body.len() <= BLOCKING_BYTES {
        return f(body);
    }
    let shared = body.clone();
    // The task only ends early when the runtime shuts down; then nobody waits for the result.
    tokio::task::spawn_blocking(move || f(&shared)).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checksums_are_those_of_the_catalogue_and_combine() {
        // The check values of the CRC catalogue for "123456789".
        let table = [(Algorithm::Crc64Nvme, 0xae8b_1486_0a79_9888u64), (Algorithm::Crc32c, 0xe306_9283)];
        for (algorithm, value) in table {
            let whole = algorithm.of(&Bytes::from_static(b"123456789")).await;
            assert_eq!(algorithm.decode(&whole), Some(value));
            let a = algorithm.of(&Bytes::from_static(b"1234")).await;
            let b = algorithm.of(&Bytes::from_static(b"56789")).await;
            assert_eq!(algorithm.combine([(a.as_str(), 4), (b.as_str(), 5)].into_iter()), Some(whole));
            assert_eq!(algorithm.combine([("", 4)].into_iter()), None);
        }
        assert_eq!(Algorithm::from_name("CRC32C"), Some(Algorithm::Crc32c));
        assert_eq!(Algorithm::from_name("sha1"), None);
    }

    #[tokio::test]
    async fn etags_of_wholes_and_of_parts() {
        assert_eq!(md5_hex(&Bytes::new()).await, "d41d8cd98f00b204e9800998ecf8427e");
        let part = "d41d8cd98f00b204e9800998ecf8427e";
        // printf of the 16 bytes, through md5sum.
        assert_eq!(composite_etag([part].into_iter()).as_deref(), Some("59adb24ef3cdbe0297f05b395827453f-1"));
        assert_eq!(composite_etag([part, "x-2"].into_iter()), None);
        assert_eq!(composite_etag(std::iter::empty()), None);
    }
}
