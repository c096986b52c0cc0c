//! Metadata and bytes of one generation: all of its bytes as they are stored, or an error.
//!
//! Never a short body without an error, never another version's bytes: both requests name the generation (where none is
//! expected, the one whose bytes came). Reads only; a
//! crash leaves nothing.

use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt as _;
use http::{HeaderMap, Method};
use manifest::{Fingerprint, ObjectKey};
use object_store::client::HttpResponseBody;

use super::client::Call;
use super::resource::{Described, Resource, crc32c, etag, is_generation};
use super::write::hash_of;
use super::{GcsStore, keys};
use crate::store::s3::attributes::kind_of;
use crate::store::wire::{announced, cut, exact_body, past_end, set, text_of};
use crate::store::{GetOptions, GetResult, ObjectInfo, Result, StoreErrorKind};

/// What the service says when it changed a body on its way.
const TRANSFORMED: &str = "x-guploader-response-body-transformations";

/// The generation that a fingerprint names.
pub(super) fn generation_of(fingerprint: &Fingerprint) -> Option<&str> {
    fingerprint.version.as_deref().filter(|version| is_generation(version))
}

/// Bytes on their way.
struct Media {
    generation: String,
    /// Bytes that the body has.
    expected_bytes: u64,
    /// Bytes that the object has.
    total_bytes: u64,
    headers: HeaderMap,
    body: HttpResponseBody,
}

impl Media {
    /// What the answer itself tells, without a Cache-Control: the service makes one up.
    fn info(&self) -> ObjectInfo {
        let mut described = Described::from_headers(&self.headers);
        described.cache_control = None;
        let attributes = described.attributes();
        let fingerprint = Fingerprint {
            size_bytes: self.total_bytes,
            etag: Some(etag(hash_of(&self.headers, "md5").as_deref(), &self.generation)),
            version: Some(self.generation.clone()),
            ..Fingerprint::default()
        };
        let checksum = hash_of(&self.headers, "crc32c").map(crc32c);
        ObjectInfo { kind: kind_of(&attributes), fingerprint, attributes, checksum }
    }
}

impl GcsStore {
    pub(super) async fn head_object(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let name = self.full_key("look at", key)?;
        let resource = self.look("look at", key, &self.client.bucket, &name, None).await?;
        resource.info().map_err(|detail| self.error("look at", key, StoreErrorKind::Protocol, detail))
    }

    /// The metadata of an object of any bucket, of that generation if one is given.
    pub(super) async fn look(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        bucket: &str,
        name: &str,
        generation: Option<&str>,
    ) -> Result<Resource> {
        let mut call = Call::json(operation, Method::GET, bucket, key, name);
        if let Some(generation) = generation {
            call = call.query("ifGenerationMatch", generation);
        }
        let resource: Resource = self.client.json(&call).await?;
        if resource.name != name {
            let detail = format!("the answer is about {}, not {}", cut(&resource.name), keys::segment(name));
            return Err(self.error(operation, key, StoreErrorKind::Protocol, detail));
        }
        Ok(resource)
    }

    pub(super) async fn get_object(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let name = self.full_key("read", key)?;
        let range = options.range.as_ref();
        let known = options.expect.as_ref().and_then(generation_of);
        if let Some(range) = range.filter(|range| range.is_empty()) {
            // No Range header can say this.
            let info = self.info(key, &name, known).await?;
            self.check(key, &options, &info)?;
            if range.end > info.fingerprint.size_bytes {
                let detail = past_end(range, info.fingerprint.size_bytes);
                return Err(self.error("read", key, StoreErrorKind::Precondition, detail));
            }
            return Ok(GetResult { info, body: futures::stream::empty().boxed() });
        }
        let (info, media) = match known {
            Some(_) => {
                let (info, media) =
                    futures::try_join!(self.info(key, &name, known), self.media(key, &name, known, range))?;
                (info, media)
            }
            None => {
                let media = self.media(key, &name, None, range).await?;
                let info = match self.info(key, &name, Some(&media.generation)).await {
                    // Another wrote meanwhile. Nobody asked for a version: the answer tells of the one that it brings.
                    Err(error)
                        if options.expect.is_none()
                            && matches!(error.kind, StoreErrorKind::Precondition | StoreErrorKind::NotFound) =>
                    {
                        media.info()
                    }
                    info => info?,
                };
                (info, media)
            }
        };
        self.check(key, &options, &info)?;
        let protocol = |detail: String| self.error("read", key, StoreErrorKind::Protocol, detail);
        if Some(&media.generation) != info.fingerprint.version.as_ref() {
            return Err(protocol(format!("generation {} came, which was not asked for", media.generation)));
        }
        if media.total_bytes != info.fingerprint.size_bytes {
            let detail = format!("{} bytes come, the object has {}", media.total_bytes, info.fingerprint.size_bytes);
            return Err(protocol(detail));
        }
        let body = exact_body(Arc::clone(&self.client.place), key.clone(), media.body, media.expected_bytes);
        Ok(GetResult { info, body })
    }

    /// What the metadata say.
    async fn info(&self, key: &ObjectKey, name: &str, generation: Option<&str>) -> Result<ObjectInfo> {
        let resource = self.look("read", key, &self.client.bucket, name, generation).await?;
        resource.info().map_err(|detail| self.error("read", key, StoreErrorKind::Protocol, detail))
    }

    /// Asks for bytes as they are stored, of that generation if one is given.
    async fn media(
        &self,
        key: &ObjectKey,
        name: &str,
        generation: Option<&str>,
        range: Option<&Range<u64>>,
    ) -> Result<Media> {
        let mut call = Call::xml("read", Method::GET, &self.client.bucket, key, name);
        if let Some(generation) = generation {
            set(&mut call.headers, "x-goog-if-generation-match", generation);
        }
        // Else what is stored with Content-Encoding: gzip is unpacked, and ranges are ignored.
        set(&mut call.headers, "accept-encoding", "gzip");
        if let Some(range) = range {
            set(&mut call.headers, "range", &format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        let response = self.client.expect(&call, &[200, 206]).await?;
        let status = response.status().as_u16();
        let (parts, body) = response.into_parts();
        let headers = parts.headers;
        let protocol = |detail: &str| self.error("read", key, StoreErrorKind::Protocol, cut(detail));
        if let Some(how) = text_of(&headers, TRANSFORMED) {
            // Of some content types the service unpacks what it was asked not to.
            let hint = "give the object Cache-Control: no-transform";
            return Err(protocol(&format!("the bytes came {how}, not as they are stored; {hint}")));
        }
        let generation = text_of(&headers, "x-goog-generation").filter(|text| is_generation(text));
        let generation = generation.ok_or_else(|| protocol("the answer names no generation"))?.to_owned();
        let (expected_bytes, total_bytes) =
            announced(range, status, &headers).map_err(|(kind, detail)| self.error("read", key, kind, detail))?;
        Ok(Media { generation, expected_bytes, total_bytes, headers, body })
    }

    /// Whether it is the version that was asked for.
    fn check(&self, key: &ObjectKey, options: &GetOptions, info: &ObjectInfo) -> Result<()> {
        let Some(expect) = &options.expect else { return Ok(()) };
        let now = &info.fingerprint;
        let differs = match (generation_of(expect), &now.version, &expect.etag, &now.etag) {
            (Some(expected), Some(found), ..) => expected != found || expect.size_bytes != now.size_bytes,
            (.., Some(expected), Some(found)) => expected != found || expect.size_bytes != now.size_bytes,
            _ => !expect.looks_like(now),
        };
        if !differs {
            return Ok(());
        }
        let show = |print: &Fingerprint| {
            let name = generation_of(print).or(print.etag.as_deref()).unwrap_or("none");
            format!("{name} of {} bytes", print.size_bytes)
        };
        let detail = cut(&format!("expected {}, found {}", show(expect), show(now)));
        Err(self.error("read", key, StoreErrorKind::Precondition, detail))
    }
}
