//! HEAD and GET: the version that was asked for, all of its bytes, or an error.
//!
//! Never a short body without an error, never another version's bytes: the answered ETag is compared again, because some
//! servers ignore If-Match. Reads only; a crash leaves nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use http::{HeaderMap, Method};
use manifest::{EntryKind, Fingerprint, ObjectKey};

use super::client::{Call, set, text_of, unquoted};
use super::{S3Store, attributes, errors};
use crate::store::wire::{announced, exact_body, http_date_ns, past_end};
use crate::store::{Checksum, GetOptions, GetResult, ObjectInfo, Result, StoreError, StoreErrorKind};

/// Asks for the object's checksum beside the rest.
const CHECKSUM_MODE: &str = "x-amz-checksum-mode";

impl S3Store {
    pub(super) async fn head_object(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let full = self.full_key("look at", key)?;
        let mut call = Call::object("look at", Method::HEAD, key, &full);
        call.headers.extend(self.customer_key.clone());
        let asks = !self.untold_checksums.load(Ordering::Relaxed);
        if asks {
            set(&mut call.headers, CHECKSUM_MODE, "ENABLED");
        }
        let mut response = self.client.send(&call).await?;
        let status = response.status().as_u16();
        if status != 200 {
            let failed = self.client.failure(&call, response).await;
            if !matches!(status, 301 | 400 | 403 | 501) {
                return Err(failed);
            }
            call.headers.remove(CHECKSUM_MODE);
            if let Some(reason) = self.reason(&call).await {
                return Err(reason);
            }
            if !asks {
                return Err(failed);
            }
            // It can be read: only its checksum is not told, to those who may not use the key it is encrypted by.
            response = self.client.expect(&call, &[200]).await?;
            self.untold_checksums.store(true, Ordering::Relaxed);
        }
        let headers = response.headers();
        let size = text_of(headers, "content-length").and_then(|text| text.parse().ok());
        let size_bytes =
            size.ok_or_else(|| self.error("look at", key, StoreErrorKind::Protocol, "the answer names no length"))?;
        Ok(info(size_bytes, headers))
    }

    /// Why a HEAD failed: its answer has no body that could say so, that of a GET has. `None` when the GET works.
    async fn reason(&self, head: &Call<'_>) -> Option<StoreError> {
        let mut call = Call::object("look at", Method::GET, head.key?, head.full_key?);
        call.headers = head.headers.clone();
        set(&mut call.headers, "range", "bytes=0-0");
        match self.client.send(&call).await {
            Ok(response) if !response.status().is_success() => Some(self.client.failure(&call, response).await),
            _ => None,
        }
    }

    pub(super) async fn get_object(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let full = self.full_key("read", key)?;
        if let Some(range) = &options.range
            && range.is_empty()
        {
            // No Range header can say this.
            let info = self.head_object(key).await?;
            self.check(key, &options, &info)?;
            if range.end > info.fingerprint.size_bytes {
                let detail = past_end(range, info.fingerprint.size_bytes);
                return Err(self.error("read", key, StoreErrorKind::Precondition, detail));
            }
            return Ok(GetResult { info, body: futures::stream::empty().boxed() });
        }
        let mut call = Call::object("read", Method::GET, key, &full);
        call.headers.extend(self.customer_key.clone());
        if let Some(range) = &options.range {
            set(&mut call.headers, "range", &format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(etag) = options.expect.as_ref().and_then(|expect| expect.etag.as_ref()) {
            set(&mut call.headers, "if-match", &format!("\"{etag}\""));
        }
        let response = self.client.expect(&call, &[200, 206]).await?;
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        let headers = parts.headers;
        let (expected, size_bytes) = announced(options.range.as_ref(), status, &headers)
            .map_err(|(kind, detail)| self.error("read", key, kind, detail))?;
        let info = info(size_bytes, &headers);
        self.check(key, &options, &info)?;
        let body = exact_body(Arc::clone(&self.client.place), key.clone(), body, expected);
        Ok(GetResult { info, body })
    }

    /// Whether the answer is the version that was asked for.
    fn check(&self, key: &ObjectKey, options: &GetOptions, info: &ObjectInfo) -> Result<()> {
        let Some(expect) = &options.expect else { return Ok(()) };
        let now = &info.fingerprint;
        let differs = match (&expect.etag, &now.etag) {
            (Some(expected), Some(found)) => expected != found || expect.size_bytes != now.size_bytes,
            _ => !expect.looks_like(now),
        };
        if differs {
            let show = |print: &Fingerprint| {
                format!("ETag {} of {} bytes", print.etag.as_deref().unwrap_or("none"), print.size_bytes)
            };
            let detail = errors::cut(&format!("expected {}, found {}", show(expect), show(now)));
            return Err(self.error("read", key, StoreErrorKind::Precondition, detail));
        }
        Ok(())
    }
}

/// The checksum of the whole object: one of its parts' checksums says nothing of the content.
fn checksum_of(headers: &HeaderMap) -> Option<Checksum> {
    const ALGORITHMS: [(&str, &str); 5] = [
        ("x-amz-checksum-crc64nvme", "CRC64NVME"),
        ("x-amz-checksum-crc32c", "CRC32C"),
        ("x-amz-checksum-crc32", "CRC32"),
        ("x-amz-checksum-sha256", "SHA256"),
        ("x-amz-checksum-sha1", "SHA1"),
    ];
    if text_of(headers, "x-amz-checksum-type").is_some_and(|kind| kind != "FULL_OBJECT") {
        return None;
    }
    ALGORITHMS.into_iter().find_map(|(header, algorithm)| {
        // `...-5` is that of five parts' checksums.
        let value = text_of(headers, header).filter(|value| !value.is_empty() && !value.contains('-'))?;
        Some(Checksum { algorithm, value: value.to_owned() })
    })
}

/// What the headers of HEAD or GET say.
fn info(size_bytes: u64, headers: &HeaderMap) -> ObjectInfo {
    let attributes = attributes::from_headers(headers);
    let kind: EntryKind = attributes::kind_of(&attributes);
    let fingerprint = Fingerprint {
        size_bytes,
        mtime_ns: text_of(headers, "last-modified").and_then(http_date_ns),
        etag: text_of(headers, "etag").map(unquoted).filter(|etag| !etag.is_empty()).map(str::to_owned),
        version: text_of(headers, "x-amz-version-id").filter(|id| *id != "null").map(str::to_owned),
        ..Fingerprint::default()
    };
    ObjectInfo { kind, fingerprint, attributes, checksum: checksum_of(headers) }
}
