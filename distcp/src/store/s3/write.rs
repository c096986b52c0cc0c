//! PUT and CopyObject: one object in one request, with the store's own check of what arrived.
//!
//! Never claims a proof that the answer does not give. A crash leaves the old object or the new one.

use http::{HeaderMap, Method};
use manifest::{EntryKind, ObjectKey};

use super::checksum::Algorithm;
use super::client::{Call, set, text_of, unquoted};
use super::{S3Store, attributes, checksum, errors, keys, written_fingerprint};
use crate::store::{CopySource, Origin, Payload, Precondition, Proof, PutOptions, Result, StoreErrorKind, Written};

impl S3Store {
    /// The checksum that goes with a body: the one taken when it was read, so that the server finds damage since.
    pub(super) async fn sum_of(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        body: &Payload,
    ) -> Result<Option<(Algorithm, String)>> {
        if self.checksum == Some(Algorithm::Crc64Nvme) {
            return Ok(Some((Algorithm::Crc64Nvme, Algorithm::Crc64Nvme.encode(body.crc64nvme()))));
        }
        if !body.is_intact() {
            let detail = "the bytes changed after they were read";
            return Err(self.error(operation, key, StoreErrorKind::Corrupt, detail));
        }
        Ok(match self.checksum {
            Some(algorithm) => Some((algorithm, algorithm.of(body.bytes()).await)),
            None => None,
        })
    }

    pub(super) async fn put_object(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let full = self.writable_key("write", key).await?;
        let mut call = Call::object("write", Method::PUT, key, &full);
        self.write_headers("write", key, options, &mut call.headers)?;
        call.conditional = self.condition("write", key, &options.precondition, &mut call.headers)?;
        let sum = self.sum_of("write", key, &body).await?;
        if let Some((algorithm, value)) = &sum {
            set(&mut call.headers, algorithm.header(), value);
        }
        call.body = body.bytes().clone();
        let response = self.client.expect(&call, &[200]).await?;
        let headers = self.client.drain(&call, response).await?;
        let etag = self.etag_of("write", key, &headers)?;
        let echoed =
            sum.as_ref().is_some_and(|(algorithm, value)| text_of(&headers, algorithm.header()) == Some(value));
        let fingerprint = written_fingerprint(call.body.len() as u64, &etag, &headers);
        let proof = match fingerprint.content_etag() {
            _ if echoed => Proof::Checksum,
            Some(etag) if etag.eq_ignore_ascii_case(&checksum::md5_hex(&call.body).await) => Proof::Checksum,
            _ => Proof::None,
        };
        Ok(Written { fingerprint, proof })
    }

    pub(super) async fn copy_object(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        options: &PutOptions,
    ) -> Result<Written> {
        let full = self.writable_key("copy to", to).await?;
        let mut call = Call::object("copy to", Method::PUT, to, &full);
        self.copy_headers("copy", source, &mut call.headers)?;
        self.check_destination(to, &options.precondition).await?;
        if source.keep_attributes {
            set(&mut call.headers, "x-amz-metadata-directive", "COPY");
            call.headers.extend(self.write_headers.clone());
            call.headers.extend(self.customer_key.clone());
        } else {
            set(&mut call.headers, "x-amz-metadata-directive", "REPLACE");
            self.write_headers("copy to", to, options, &mut call.headers)?;
        }
        self.condition("copy to", to, &options.precondition, &mut call.headers)?;
        let expect = source.expect;
        call.copied_bytes = expect.size_bytes;
        let response = self.client.expect(&call, &[200]).await?;
        let (headers, root) = self.client.xml(&call, response, "CopyObjectResult").await?;
        let etag = unquoted(root.text_of("ETag").unwrap_or_default());
        if etag.is_empty() {
            return Err(self.error("copy to", to, StoreErrorKind::Protocol, "the answer names no ETag"));
        }
        let fingerprint = written_fingerprint(expect.size_bytes, etag, &headers);
        // Equal MD5s of equal sizes: the store holds the same content under both keys.
        let same = fingerprint.content_etag().is_some() && fingerprint.content_etag() == expect.content_etag();
        Ok(Written { fingerprint, proof: if same { Proof::Checksum } else { Proof::None } })
    }

    /// Headers that name what is to be copied: exactly the version that is expected.
    pub(super) fn copy_headers(
        &self,
        operation: &'static str,
        source: &CopySource<'_>,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        let refuse = |kind, detail: &str| self.error(operation, source.key, kind, detail);
        let origin = match source.origin {
            None => &self.origin,
            Some(Origin::S3(origin)) if origin.service == self.origin.service => origin,
            Some(_) => return Err(refuse(StoreErrorKind::Unsupported, "it is at another service")),
        };
        let full = keys::full_key(&origin.prefix, source.key).map_err(|why| refuse(StoreErrorKind::InvalidKey, why))?;
        let Some(expected) = &source.expect.etag else {
            let detail = "the source is known by no ETag, so the copy cannot be made conditional";
            return Err(refuse(StoreErrorKind::Unsupported, detail));
        };
        set(headers, "x-amz-copy-source", &format!("/{}/{}", origin.bucket, keys::encode_path(&full)));
        set(headers, "x-amz-copy-source-if-match", &format!("\"{expected}\""));
        headers.extend(origin.customer_key.clone());
        if origin.request_payer {
            set(headers, "x-amz-request-payer", "requester");
        }
        Ok(())
    }

    /// Asks before a copy whether its destination may be written: most servers ignore the condition on a copy.
    async fn check_destination(&self, to: &ObjectKey, precondition: &Precondition) -> Result<()> {
        let wanted = match precondition {
            Precondition::Any => return Ok(()),
            Precondition::Absent => None,
            Precondition::Matches(wanted) => Some(wanted),
        };
        let found = match self.head_object(to).await {
            Ok(info) => Some(info.fingerprint),
            Err(error) if error.kind == StoreErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let holds = match (wanted, &found) {
            (None, None) => true,
            (Some(wanted), Some(found)) => wanted.looks_like(found),
            _ => false,
        };
        if holds { Ok(()) } else { Err(self.error("copy to", to, StoreErrorKind::Precondition, "checked before")) }
    }

    /// Headers that say what is kept with the object and how.
    pub(super) fn write_headers(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        options: &PutOptions,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        if !matches!(options.kind, EntryKind::Object | EntryKind::Symlink) {
            let detail = "S3 holds objects, not folders or devices";
            return Err(self.error(operation, key, StoreErrorKind::Unsupported, detail));
        }
        headers.extend(self.write_headers.clone());
        headers.extend(self.customer_key.clone());
        attributes::to_headers(options.kind, &options.attributes, headers)
            .map_err(|why| self.error(operation, key, StoreErrorKind::Unsupported, errors::cut(&why)))
    }

    /// Headers that make a write conditional. Answers whether a missing object would break the condition.
    pub(super) fn condition(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        precondition: &Precondition,
        headers: &mut HeaderMap,
    ) -> Result<bool> {
        match precondition {
            Precondition::Any => Ok(false),
            Precondition::Absent => {
                set(headers, "if-none-match", "*");
                Ok(false)
            }
            Precondition::Matches(fingerprint) => {
                let Some(etag) = &fingerprint.etag else {
                    let detail = "the version that was expected is known by no ETag";
                    return Err(self.error(operation, key, StoreErrorKind::Unsupported, detail));
                };
                set(headers, "if-match", &format!("\"{etag}\""));
                Ok(true)
            }
        }
    }

    /// The ETag that the answer to a write names. Whoever answers 200 without one is no S3 server.
    pub(super) fn etag_of(&self, operation: &'static str, key: &ObjectKey, headers: &HeaderMap) -> Result<String> {
        match text_of(headers, "etag").map(unquoted) {
            Some(etag) if !etag.is_empty() => Ok(etag.to_owned()),
            _ => Err(self.error(operation, key, StoreErrorKind::Protocol, "the answer names no ETag")),
        }
    }
}
