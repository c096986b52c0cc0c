//! Writing a whole object in one request, with the service's own check of what arrived; and what all writes share.
//!
//! Never claims a proof that the answer does not give. A crash leaves the old object or the new one.

use http::{HeaderMap, Method};
use manifest::{EntryKind, Fingerprint, ObjectKey};

use super::GcsStore;
use super::client::Call;
use super::read::generation_of;
use super::resource::{DIALECT, Resource, etag, is_generation};
use crate::store::s3::checksum::Algorithm;
use crate::store::wire::{cut, set, text_of};
use crate::store::{Payload, Precondition, Proof, PutOptions, Result, StoreErrorKind, Written};

/// The checksum that the service keeps of every object.
pub(super) const CRC32C: Algorithm = Algorithm::Crc32c;
/// The generation that stands for no object.
pub(super) const NO_OBJECT: &str = "0";

impl GcsStore {
    pub(super) async fn put_object(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let operation = "write";
        let name = self.full_key(operation, key)?;
        let mut call = Call::xml(operation, Method::PUT, &self.client.bucket, key, &name);
        // Nothing else can be missing.
        call.missing = StoreErrorKind::NoBucket;
        call.headers = self.headers_of(operation, key, options)?;
        if let Some(generation) = self.condition(operation, key, &name, &options.precondition).await? {
            set(&mut call.headers, "x-goog-if-generation-match", &generation);
        }
        let crc = self.crc_of(operation, key, &body).await?;
        set(&mut call.headers, "x-goog-hash", &format!("crc32c={crc}"));
        call.body = body.bytes().clone();
        let response = self.client.expect(&call, &[200]).await?;
        let headers = self.client.drain(&call, response).await?;
        let size_bytes = call.body.len() as u64;
        let echoed = hash_of(&headers, "crc32c").as_deref() == Some(&crc);
        if let (true, Some(fingerprint)) = (echoed, told(&headers, size_bytes)) {
            return Ok(Written { fingerprint, proof: Proof::Checksum });
        }
        // An answer without hash or generation: the object itself has both.
        let found = self.look(operation, key, &self.client.bucket, &name, None).await?;
        self.ours(operation, key, &found, size_bytes, &crc)
    }

    /// The CRC-32C that goes with a body. The CRC that was taken when the body was read is checked after it, so that this
    /// one is known to be of the same bytes.
    pub(super) async fn crc_of(&self, operation: &'static str, key: &ObjectKey, body: &Payload) -> Result<String> {
        let crc = CRC32C.of(body.bytes()).await;
        match body.is_intact() {
            true => Ok(crc),
            false => Err(self.error(operation, key, StoreErrorKind::Corrupt, "the bytes changed after they were read")),
        }
    }

    /// The answer to a write, from what stands there: of that size and CRC-32C it is what was sent.
    pub(super) fn ours(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        found: &Resource,
        size_bytes: u64,
        crc: &str,
    ) -> Result<Written> {
        let fingerprint =
            found.fingerprint().map_err(|detail| self.error(operation, key, StoreErrorKind::Protocol, detail))?;
        if fingerprint.size_bytes != size_bytes || found.crc32c.as_deref() != Some(crc) {
            let detail = cut(&format!(
                "{size_bytes} bytes with CRC-32C {crc} were sent, {} with {} stand there",
                fingerprint.size_bytes,
                found.crc32c.as_deref().unwrap_or("none")
            ));
            return Err(self.error(operation, key, StoreErrorKind::Precondition, detail));
        }
        Ok(Written { fingerprint, proof: Proof::Checksum })
    }

    /// Headers that say what is kept with the object and how.
    pub(super) fn headers_of(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        options: &PutOptions,
    ) -> Result<HeaderMap> {
        if !matches!(options.kind, EntryKind::Object | EntryKind::Symlink) {
            let detail = "buckets hold objects, not folders or devices";
            return Err(self.error(operation, key, StoreErrorKind::Unsupported, detail));
        }
        let mut headers = self.write_headers.clone();
        DIALECT
            .to_headers(options.kind, &options.attributes, &mut headers)
            .map_err(|why| self.error(operation, key, StoreErrorKind::Unsupported, cut(&why)))?;
        if let Some(kms_key) = &self.kms_key {
            set(&mut headers, "x-goog-encryption-kms-key-name", kms_key);
        }
        Ok(headers)
    }

    /// The generation that must stand there for a write to happen; `None` if any may. A fingerprint without a generation
    /// (one that another program or store told) is looked for, and names the one that is found.
    pub(super) async fn condition(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        name: &str,
        precondition: &Precondition,
    ) -> Result<Option<String>> {
        let wanted = match precondition {
            Precondition::Any => return Ok(None),
            Precondition::Absent => return Ok(Some(NO_OBJECT.to_owned())),
            Precondition::Matches(wanted) => wanted,
        };
        if let Some(generation) = generation_of(wanted) {
            return Ok(Some(generation.to_owned()));
        }
        match self.looks_like(operation, key, &self.client.bucket, name, wanted).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                Err(self.error(operation, key, StoreErrorKind::Precondition, "there is no object"))
            }
            found => found.map(Some),
        }
    }

    /// The generation of the object there, if it looks like `wanted`.
    pub(super) async fn looks_like(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        bucket: &str,
        name: &str,
        wanted: &Fingerprint,
    ) -> Result<String> {
        let resource = self.look(operation, key, bucket, name, None).await?;
        let found =
            resource.fingerprint().map_err(|detail| self.error(operation, key, StoreErrorKind::Protocol, detail))?;
        let same = match (&wanted.etag, &found.etag) {
            (Some(wanted_etag), Some(etag)) => wanted_etag == etag && wanted.size_bytes == found.size_bytes,
            _ => wanted.looks_like(&found),
        };
        match same {
            true => Ok(resource.generation),
            false => Err(self.error(operation, key, StoreErrorKind::Precondition, "another version stands there")),
        }
    }
}

/// A hash of the answer, in base64: `x-goog-hash: crc32c=...,md5=...`, in one line or several.
pub(super) fn hash_of(headers: &HeaderMap, algorithm: &str) -> Option<String> {
    headers
        .get_all("x-goog-hash")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .find_map(|hash| {
            let (name, value) = hash.trim().split_once('=')?;
            (name == algorithm).then(|| value.to_owned())
        })
}

/// The identity that the answer to a write tells, as a listing will; `None` if it does not tell enough.
fn told(headers: &HeaderMap, size_bytes: u64) -> Option<Fingerprint> {
    let generation = text_of(headers, "x-goog-generation").filter(|text| is_generation(text))?;
    // Not from the ETag, which under a key of Cloud KMS is something else.
    let md5 = hash_of(headers, "md5")?;
    Some(Fingerprint {
        size_bytes,
        etag: Some(etag(Some(&md5), generation)),
        version: Some(generation.to_owned()),
        ..Fingerprint::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_come_in_one_line_or_several() {
        let mut headers = HeaderMap::new();
        headers.append("x-goog-hash", "crc32c=mnG7TA==".parse().unwrap());
        headers.append("x-goog-hash", "md5=XUFAKrxLKna5cZ2REBfFkg==".parse().unwrap());
        let mut line = HeaderMap::new();
        line.append("x-goog-hash", "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg==".parse().unwrap());
        let mut only_etag = HeaderMap::new();
        only_etag.append("x-goog-hash", "crc32c=mnG7TA==".parse().unwrap());
        only_etag.append("etag", "\"5d41402abc4b2a76b9719d911017c592\"".parse().unwrap());
        only_etag.append("x-goog-generation", "7".parse().unwrap());
        assert_eq!(told(&only_etag, 5), None, "an ETag is no hash");
        for mut headers in [headers, line] {
            assert_eq!(hash_of(&headers, "crc32c").as_deref(), Some("mnG7TA=="));
            assert_eq!(told(&headers, 5), None, "no generation");
            headers.insert("x-goog-generation", "7".parse().unwrap());
            let told = told(&headers, 5).unwrap();
            assert_eq!(told.content_etag(), Some("5d41402abc4b2a76b9719d911017c592"));
            assert_eq!(told.version.as_deref(), Some("7"));
        }
    }
}
