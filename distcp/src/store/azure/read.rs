//! HEAD and GET: the version that was asked for, all of its bytes, or an error.
//!
//! Never a short body without an error, never another version's bytes: the answered ETag is compared again. A blob that
//! stands for a folder is not there. Reads only; a crash leaves nothing.

use std::sync::Arc;

use futures::StreamExt as _;
use http::{HeaderMap, Method};
use manifest::{Fingerprint, ObjectKey};

use super::client::Call;
use super::{AzureStore, attributes};
use crate::store::wire::{announced, cut, exact_body, http_date_ns, past_end, set, text_of, unquoted};
use crate::store::{GetOptions, GetResult, ObjectInfo, Result, StoreErrorKind};

impl AzureStore {
    pub(super) async fn head_object(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let headers = self.head_headers(key).await?;
        self.info("look at", key, &headers)
    }

    /// The headers of an object (not of a folder).
    pub(super) async fn head_headers(&self, key: &ObjectKey) -> Result<HeaderMap> {
        let full = self.full_key("look at", key)?;
        let headers = self.client.look(key, &full).await?;
        self.is_object("look at", key, &headers)?;
        Ok(headers)
    }

    /// What the headers of a HEAD say.
    fn info(&self, operation: &'static str, key: &ObjectKey, headers: &HeaderMap) -> Result<ObjectInfo> {
        let size = text_of(headers, "content-length").and_then(|text| text.parse().ok());
        let size_bytes =
            size.ok_or_else(|| self.error(operation, key, StoreErrorKind::Protocol, "the answer names no length"))?;
        Ok(info(size_bytes, headers))
    }

    fn is_object(&self, operation: &'static str, key: &ObjectKey, headers: &HeaderMap) -> Result<()> {
        if attributes::is_folder(headers) {
            let detail = "a folder stands there";
            return Err(self.error(operation, key, StoreErrorKind::NotFound, detail));
        }
        Ok(())
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
        self.is_object("read", key, &headers)?;
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
            let detail = cut(&format!("expected {}, found {}", show(expect), show(now)));
            return Err(self.error("read", key, StoreErrorKind::Precondition, detail));
        }
        Ok(())
    }
}

/// What the headers of HEAD or GET say.
fn info(size_bytes: u64, headers: &HeaderMap) -> ObjectInfo {
    let attributes = attributes::from_headers(headers);
    let fingerprint = Fingerprint {
        size_bytes,
        mtime_ns: text_of(headers, "last-modified").and_then(http_date_ns),
        etag: text_of(headers, "etag").map(unquoted).filter(|etag| !etag.is_empty()).map(str::to_owned),
        version: text_of(headers, "x-ms-version-id").map(str::to_owned),
        ..Fingerprint::default()
    };
    ObjectInfo { kind: attributes::kind_of(&attributes), fingerprint, attributes, checksum: None }
}
