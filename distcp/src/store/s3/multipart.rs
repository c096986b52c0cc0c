//! Uploads in parts: create, send, list, complete, abort, with a checksum on every part and on the whole.
//!
//! Never takes a 200 at completion for a success (its body can be an error), never claims a proof that the answer does not
//! give. A crash leaves an upload that the caller's journal names; completion is one step at the store.

use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use manifest::ObjectKey;

use super::client::{Call, set, text_of, unquoted};
use super::{S3Store, checksum, errors, written_fingerprint, xml};
use crate::store::{
    CopySource, MAX_LISTED_UPLOADS, PartSpec, Payload, Proof, PutOptions, Result, StoreErrorKind, UploadId,
    UploadedPart, Written,
};

/// Parts of one upload, at most: S3's limit.
const MAX_PARTS: usize = 10_000;

impl S3Store {
    pub(super) async fn create_multipart(
        &self,
        key: &ObjectKey,
        _size_bytes: u64,
        options: &PutOptions,
    ) -> Result<UploadId> {
        let full = self.writable_key("begin an upload of", key).await?;
        let mut call = Call::object("begin an upload of", Method::POST, key, &full).query("uploads", "");
        self.write_headers("begin an upload of", key, options, &mut call.headers)?;
        // Servers exist (versitygw 1.8) that take the whole source's checksum for that of each part copied from it: none is
        // asked for, and what S3 itself computes then is of the whole object.
        if let Some(algorithm) = self.checksum.filter(|_| !options.copied_parts) {
            set(&mut call.headers, "x-amz-checksum-algorithm", algorithm.name());
            set(&mut call.headers, "x-amz-checksum-type", "FULL_OBJECT");
        }
        let response = self.client.expect(&call, &[200]).await?;
        let (_, root) = self.client.xml(&call, response, "InitiateMultipartUploadResult").await?;
        match root.text_of("UploadId") {
            Some(id) if !id.is_empty() => Ok(UploadId(id.to_owned())),
            _ => Err(self.error(call.operation, key, StoreErrorKind::Protocol, "the answer names no upload")),
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
        let full = self.full_key(operation, key)?;
        if body.len() as u64 != part.size_bytes {
            let detail = format!("part {} has {} bytes, not {}", part.number, body.len(), part.size_bytes);
            return Err(self.error(operation, key, StoreErrorKind::Other, detail));
        }
        let mut call = Call::object(operation, Method::PUT, key, &full)
            .query("partNumber", part.number.to_string())
            .query("uploadId", upload.0.clone());
        call.headers.extend(self.customer_key.clone());
        let sum = self.sum_of(operation, key, &body).await?;
        if let Some((algorithm, value)) = &sum {
            set(&mut call.headers, algorithm.header(), value);
        }
        call.body = body.bytes().clone();
        let response = self.client.expect(&call, &[200]).await?;
        let headers = self.client.drain(&call, response).await?;
        let etag = self.etag_of(operation, key, &headers)?;
        let echoed = sum.filter(|(algorithm, value)| text_of(&headers, algorithm.header()) == Some(value));
        let md5 =
            etag.len() == 32 && echoed.is_none() && etag.eq_ignore_ascii_case(&checksum::md5_hex(&call.body).await);
        let proof = if echoed.is_some() || md5 { Proof::Checksum } else { Proof::None };
        Ok(UploadedPart { part, etag, checksum: echoed.map(|(_, value)| value).unwrap_or_default(), proof })
    }

    pub(super) async fn upload_part_copy(
        &self,
        source: &CopySource<'_>,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let operation = "copy a part of";
        let full = self.full_key(operation, key)?;
        let Some(last) = (part.offset + part.size_bytes).checked_sub(1).filter(|_| part.size_bytes > 0) else {
            return Err(self.error(operation, key, StoreErrorKind::Other, "a copied part cannot be empty"));
        };
        let mut call = Call::object(operation, Method::PUT, key, &full)
            .query("partNumber", part.number.to_string())
            .query("uploadId", upload.0.clone());
        call.copied_bytes = part.size_bytes;
        self.copy_headers(operation, source, &mut call.headers)?;
        set(&mut call.headers, "x-amz-copy-source-range", &format!("bytes={}-{last}", part.offset));
        call.headers.extend(self.customer_key.clone());
        let response = self.client.expect(&call, &[200]).await?;
        // A 200 may come before the copy is done, and an error in its body.
        let (_, root) = self.client.xml(&call, response, "CopyPartResult").await?;
        let etag = unquoted(root.text_of("ETag").unwrap_or_default()).to_owned();
        if etag.is_empty() {
            return Err(self.error(operation, key, StoreErrorKind::Protocol, "the answer names no ETag"));
        }
        // Nothing here has seen the bytes.
        Ok(UploadedPart { part, etag, checksum: String::new(), proof: Proof::None })
    }

    /// The parts that the store holds. Their offsets suppose that all parts but the last are as long as the longest. They
    /// are no proof of anything: compare them with a journal's.
    pub(super) async fn list_uploaded(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        let operation = "list the parts of";
        let full = self.full_key(operation, key)?;
        let mut parts: Vec<UploadedPart> = Vec::new();
        let mut marker = 0u32;
        loop {
            let mut call = Call::object(operation, Method::GET, key, &full)
                .query("max-parts", "1000")
                .query("uploadId", upload.0.clone());
            if marker > 0 {
                call = call.query("part-number-marker", marker.to_string());
            }
            call.headers.extend(self.customer_key.clone());
            let response = self.client.expect(&call, &[200]).await?;
            let (_, root) = self.client.xml(&call, response, "ListPartsResult").await?;
            let protocol = |detail: &str| self.error(operation, key, StoreErrorKind::Protocol, detail);
            for element in root.all("Part") {
                let number: u32 = number_of(element, "PartNumber").ok_or_else(|| protocol("a part has no number"))?;
                let size_bytes: u64 = number_of(element, "Size").ok_or_else(|| protocol("a part has no size"))?;
                if parts.last().is_some_and(|last| number <= last.part.number) || parts.len() >= MAX_PARTS {
                    return Err(protocol("the parts are out of order, or too many"));
                }
                let sum = self.checksum.and_then(|algorithm| element.text_of(algorithm.element()));
                parts.push(UploadedPart {
                    part: PartSpec { number, offset: 0, size_bytes },
                    etag: unquoted(element.text_of("ETag").unwrap_or_default()).to_owned(),
                    checksum: sum.unwrap_or_default().to_owned(),
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

    pub(super) async fn complete_multipart(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let operation = "finish the upload of";
        let full = self.full_key(operation, key)?;
        let mut sorted: Vec<&UploadedPart> = parts.iter().collect();
        sorted.sort_by_key(|part| part.part.number);
        let size_bytes: u64 = sorted.iter().map(|part| part.part.size_bytes).sum();
        let with_sums = self.checksum.filter(|_| sorted.iter().all(|part| !part.checksum.is_empty()));
        let whole = with_sums.and_then(|algorithm| {
            algorithm.combine(sorted.iter().map(|part| (part.checksum.as_str(), part.part.size_bytes)))
        });
        let mut body = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for part in &sorted {
            // Writing to a String does not fail.
            let _ = write!(body, "<Part><PartNumber>{}</PartNumber><ETag>&quot;", part.part.number);
            xml::escape_into(&mut body, &part.etag);
            body.push_str("&quot;</ETag>");
            if let Some(algorithm) = with_sums {
                let _ = write!(body, "<{0}>{1}</{0}>", algorithm.element(), part.checksum);
            }
            body.push_str("</Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut call = Call::object(operation, Method::POST, key, &full).query("uploadId", upload.0.clone());
        // AWS documents that putting a large object together can take minutes.
        call.copied_bytes = parts.iter().map(|part| part.part.size_bytes).sum();
        call.conditional = self.condition(operation, key, &options.precondition, &mut call.headers)?;
        call.headers.extend(self.customer_key.clone());
        set(&mut call.headers, "content-type", "application/xml");
        if let (Some(algorithm), Some(whole)) = (with_sums, &whole) {
            set(&mut call.headers, algorithm.header(), whole);
            set(&mut call.headers, "x-amz-checksum-type", "FULL_OBJECT");
        }
        call.body = Bytes::from(body);
        let response = self.client.expect(&call, &[200]).await?;
        let (headers, root) = self.client.xml(&call, response, "CompleteMultipartUploadResult").await?;
        let etag = unquoted(root.text_of("ETag").unwrap_or_default());
        if etag.is_empty() {
            return Err(self.error(operation, key, StoreErrorKind::Protocol, "the answer names no ETag"));
        }
        let fingerprint = written_fingerprint(size_bytes, etag, &headers);
        let all_proven = sorted.iter().all(|part| part.proof != Proof::None);
        let echoed = match (with_sums, &whole) {
            (Some(algorithm), Some(whole)) => {
                root.text_of(algorithm.element()) == Some(whole) || text_of(&headers, algorithm.header()) == Some(whole)
            }
            _ => false,
        };
        let composite = checksum::composite_etag(sorted.iter().map(|part| part.etag.as_str()));
        if all_proven && (echoed || composite.is_some_and(|composite| composite.eq_ignore_ascii_case(etag))) {
            return Ok(Written { fingerprint, proof: Proof::Checksum });
        }
        let found = self.head_object(key).await?.fingerprint;
        if found.size_bytes != size_bytes || found.etag.as_deref().is_some_and(|found| found != etag) {
            let detail = errors::cut(&format!(
                "{size_bytes} bytes were put together as {etag}, {} bytes stand there as {}",
                found.size_bytes,
                found.etag.as_deref().unwrap_or("nothing")
            ));
            return Err(self.error(operation, key, StoreErrorKind::Precondition, detail));
        }
        Ok(Written { fingerprint, proof: Proof::None })
    }

    /// The ids of all unfinished uploads below the prefix, as many as are listed at most.
    pub(super) async fn list_multiparts(&self) -> Result<Vec<UploadId>> {
        let operation = "list the uploads of";
        let protocol = |detail: &str| self.client.error(operation, None, StoreErrorKind::Protocol, detail);
        let prefix = match self.prefix.as_str() {
            Some(prefix) if !prefix.is_empty() => format!("{prefix}/"),
            _ => String::new(),
        };
        let mut found = Vec::new();
        let mut markers = (String::new(), String::new());
        loop {
            let mut call = Call::bucket(operation, Method::GET).query("max-uploads", "1000").query("prefix", &*prefix);
            if !markers.0.is_empty() {
                call = call.query("key-marker", &*markers.0).query("upload-id-marker", &*markers.1);
            }
            call = call.query("uploads", "");
            let response = self.client.expect(&call, &[200]).await?;
            let (_, root) = self.client.xml(&call, response, "ListMultipartUploadsResult").await?;
            for upload in root.all("Upload") {
                let id = upload.text_of("UploadId").ok_or_else(|| protocol("an upload has no id"))?;
                found.push(UploadId(id.to_owned()));
            }
            let more = root.text_of("IsTruncated").map(str::trim) == Some("true");
            if !more || found.len() >= MAX_LISTED_UPLOADS {
                found.truncate(MAX_LISTED_UPLOADS);
                return Ok(found);
            }
            let of = |name: &str| root.text_of(name).unwrap_or_default().to_owned();
            let next = (of("NextKeyMarker"), of("NextUploadIdMarker"));
            if next.0.is_empty() || next == markers {
                return Err(protocol("more uploads follow, but not where"));
            }
            markers = next;
        }
    }

    pub(super) async fn abort_multipart(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let full = self.full_key("give up the upload of", key)?;
        let call =
            Call::object("give up the upload of", Method::DELETE, key, &full).query("uploadId", upload.0.clone());
        match self.client.expect(&call, &[200, 204]).await {
            Ok(response) => self.client.drain(&call, response).await.map(drop),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A number in a child element.
fn number_of<N: std::str::FromStr>(element: &xml::Element, name: &str) -> Option<N> {
    element.text_of(name)?.trim().parse().ok()
}
