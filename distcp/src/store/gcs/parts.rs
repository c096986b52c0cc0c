//! Uploads in parts: create, send, list, complete, abort, with a CRC-32C on every part and on the whole.
//!
//! Never takes a 200 at completion for a success (its body can be an error), never claims a proof that what stands there does
//! not give. The service takes no condition here: see the module above for what is done instead. A crash leaves an upload
//! that the caller's journal names; completion is one step at the service.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use manifest::ObjectKey;

use super::GcsStore;
use super::client::Call;
use super::resource::Resource;
use super::write::{CRC32C, NO_OBJECT};
use crate::store::wire::{set, text_of, unquoted};
use crate::store::{
    PartSpec, Payload, Precondition, Proof, PutOptions, Result, StoreErrorKind, UploadId, UploadedPart, Written, xml,
};

/// Parts of one upload, at most.
const MAX_PARTS: usize = 10_000;
/// Putting parts together "can take several minutes".
const COMPLETION_PATIENCE: Duration = Duration::from_secs(600);

impl GcsStore {
    pub(super) async fn begin_upload(&self, key: &ObjectKey, options: &PutOptions) -> Result<UploadId> {
        let operation = "begin an upload of";
        let name = self.full_key(operation, key)?;
        let mut call = Call::xml(operation, Method::POST, &self.client.bucket, key, &name).query("uploads", "");
        call.missing = StoreErrorKind::NoBucket;
        call.headers = self.headers_of(operation, key, options)?;
        let response = self.client.expect(&call, &[200]).await?;
        let (_, root) = self.client.xml(&call, response, "InitiateMultipartUploadResult").await?;
        match root.text_of("UploadId") {
            Some(id) if !id.is_empty() => Ok(UploadId(id.to_owned())),
            _ => Err(self.error(operation, key, StoreErrorKind::Protocol, "the answer names no upload")),
        }
    }

    pub(super) async fn upload_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        let operation = "write a part of";
        let name = self.full_key(operation, key)?;
        if body.len() as u64 != part.size_bytes {
            let detail = format!("part {} has {} bytes, not {}", part.number, body.len(), part.size_bytes);
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        }
        let mut call = Call::xml(operation, Method::PUT, &self.client.bucket, key, &name)
            .query("partNumber", part.number.to_string())
            .query("uploadId", upload.0.clone());
        let crc = self.crc_of(operation, key, &body).await?;
        set(&mut call.headers, "x-goog-hash", &format!("crc32c={crc}"));
        call.body = body.bytes().clone();
        let response = self.client.expect(&call, &[200]).await?;
        let headers = self.client.drain(&call, response).await?;
        let etag = text_of(&headers, "etag").map(unquoted).unwrap_or_default();
        if etag.is_empty() {
            return Err(self.error(operation, key, StoreErrorKind::Protocol, "the answer names no ETag"));
        }
        // The service has checked it; the whole is checked once more when it is put together.
        Ok(UploadedPart { part, etag: etag.to_owned(), checksum: crc, proof: Proof::Checksum })
    }

    /// The parts that the service holds. Their offsets suppose that all parts but the last are as long as the longest. They
    /// are no proof of anything: compare them with a journal's.
    pub(super) async fn list_uploaded(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        let operation = "list the parts of";
        let name = self.full_key(operation, key)?;
        let mut parts: Vec<UploadedPart> = Vec::new();
        let mut marker = 0u32;
        loop {
            let mut call = Call::xml(operation, Method::GET, &self.client.bucket, key, &name)
                .query("max-parts", "1000")
                .query("uploadId", upload.0.clone());
            if marker > 0 {
                call = call.query("part-number-marker", marker.to_string());
            }
            let response = self.client.expect(&call, &[200]).await?;
            let (_, root) = self.client.xml(&call, response, "ListPartsResult").await?;
            let protocol = |detail: &str| self.error(operation, key, StoreErrorKind::Protocol, detail);
            for element in root.all("Part") {
                let number = number_of(element, "PartNumber").ok_or_else(|| protocol("a part has no number"))?;
                let size_bytes = number_of(element, "Size").ok_or_else(|| protocol("a part has no size"))?;
                if parts.last().is_some_and(|last| number <= last.part.number) || parts.len() >= MAX_PARTS {
                    return Err(protocol("the parts are out of order, or too many"));
                }
                parts.push(UploadedPart {
                    part: PartSpec { number, offset: 0, size_bytes },
                    etag: unquoted(element.text_of("ETag").unwrap_or_default()).to_owned(),
                    checksum: String::new(),
                    proof: Proof::None,
                });
            }
            if root.text_of("IsTruncated").map(str::trim) != Some("true") {
                break;
            }
            let next =
                number_of(&root, "NextPartNumberMarker").ok_or_else(|| protocol("more parts follow, but not where"))?;
            if next <= marker {
                return Err(protocol("the same parts are announced again and again"));
            }
            marker = next;
        }
        let longest = parts.iter().map(|part| part.part.size_bytes).max().unwrap_or(0);
        for part in &mut parts {
            part.part.offset = u64::from(part.part.number.saturating_sub(1)).saturating_mul(longest);
        }
        Ok(parts)
    }

    pub(super) async fn finish_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let operation = "finish the upload of";
        let name = self.full_key(operation, key)?;
        let mut sorted: Vec<&UploadedPart> = parts.iter().collect();
        sorted.sort_by_key(|part| part.part.number);
        let size_bytes: u64 = sorted.iter().map(|part| part.part.size_bytes).sum();
        let crc = CRC32C.combine(sorted.iter().map(|part| (part.checksum.as_str(), part.part.size_bytes)));
        let sent = Sent { size_bytes, crc, precondition: &options.precondition };

        let condition = self.condition(operation, key, &name, &options.precondition).await;
        if !matches!(condition, Ok(None)) {
            let found = self.found(operation, key, &name).await?;
            let generation = found.as_ref().map_or(NO_OBJECT, |found| found.generation.as_str());
            let refused = match condition {
                Ok(wanted) if wanted.as_deref() == Some(generation) => None,
                Ok(_) => {
                    let detail = "another wrote to it meanwhile";
                    Some(self.error(operation, key, StoreErrorKind::Precondition, detail))
                }
                Err(error) if error.kind == StoreErrorKind::Precondition => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(refused) = refused {
                // An answer that was lost: the upload is gone, and what stands there is what it was to be.
                return self.finished_before(key, upload, &sent, found.as_ref()).await?.ok_or(refused);
            }
        }

        let mut body = String::from("<CompleteMultipartUpload>");
        for part in &sorted {
            // Writing to a String does not fail.
            let _ = write!(body, "<Part><PartNumber>{}</PartNumber><ETag>&quot;", part.part.number);
            xml::escape_into(&mut body, &part.etag);
            body.push_str("&quot;</ETag></Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut call =
            Call::xml(operation, Method::POST, &self.client.bucket, key, &name).query("uploadId", upload.0.clone());
        set(&mut call.headers, "content-type", "application/xml");
        call.body = Bytes::from(body);
        call.patience = COMPLETION_PATIENCE;
        let completed = match self.client.expect(&call, &[200]).await {
            Ok(response) => self.client.xml(&call, response, "CompleteMultipartUploadResult").await,
            Err(error) => Err(error),
        };
        match completed {
            Ok(_) => match self.found(operation, key, &name).await? {
                Some(found) => sent.held(self, key, &found),
                None => Err(self.error(operation, key, StoreErrorKind::Precondition, "another removed it meanwhile")),
            },
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                let found = self.found(operation, key, &name).await?;
                self.finished_before(key, upload, &sent, found.as_ref()).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The object of a completion whose answer was lost: what stands there has the size and the CRC-32C of the parts, is not
    /// what stood there before, and the upload is gone.
    async fn finished_before(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        sent: &Sent<'_>,
        found: Option<&Resource>,
    ) -> Result<Option<Written>> {
        let Some(found) = found.filter(|found| sent.may_be(found)) else { return Ok(None) };
        match self.list_uploaded(key, upload).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => sent.held(self, key, found).map(Some),
            Err(error) => Err(error),
            Ok(_) => Ok(None),
        }
    }

    /// What stands under the name.
    async fn found(&self, operation: &'static str, key: &ObjectKey, name: &str) -> Result<Option<Resource>> {
        match self.look(operation, key, &self.client.bucket, name, None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn give_up_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let operation = "give up the upload of";
        let name = self.full_key(operation, key)?;
        let call =
            Call::xml(operation, Method::DELETE, &self.client.bucket, key, &name).query("uploadId", upload.0.clone());
        match self.client.expect(&call, &[200, 204]).await {
            Ok(response) => self.client.drain(&call, response).await.map(drop),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What the parts are together.
struct Sent<'a> {
    size_bytes: u64,
    /// `None` when a part has none: one that only the service's list tells.
    crc: Option<String>,
    precondition: &'a Precondition,
}

impl Sent<'_> {
    /// Whether the object can be these parts, by all that is known.
    fn may_be(&self, found: &Resource) -> bool {
        let before = match self.precondition {
            Precondition::Matches(before) => before.version.as_deref() == Some(&found.generation),
            _ => false,
        };
        !before && self.crc.is_some() && found.crc32c == self.crc && found.size == self.size_bytes.to_string()
    }

    /// The answer, from the object that stands there.
    fn held(&self, store: &GcsStore, key: &ObjectKey, found: &Resource) -> Result<Written> {
        let operation = "finish the upload of";
        if let Some(crc) = &self.crc {
            return store.ours(operation, key, found, self.size_bytes, crc);
        }
        let fingerprint =
            found.fingerprint().map_err(|detail| store.error(operation, key, StoreErrorKind::Protocol, detail))?;
        if fingerprint.size_bytes != self.size_bytes {
            let detail = format!("{} bytes were sent, {} stand there", self.size_bytes, fingerprint.size_bytes);
            return Err(store.error(operation, key, StoreErrorKind::Precondition, detail));
        }
        Ok(Written { fingerprint, proof: Proof::None })
    }
}

/// A number in a child element.
fn number_of<N: std::str::FromStr>(element: &xml::Element, name: &str) -> Option<N> {
    element.text_of(name)?.trim().parse().ok()
}
