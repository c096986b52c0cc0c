//! Put Blob and Copy Blob: one object in one request, with the service's own check of what arrived.
//!
//! Never claims a proof that the answer does not give. A crash inside a put leaves the old object or the new one. A copy is
//! done by the service: a crash leaves it running there, and the object that it makes is not committed by anybody; one that
//! the service gives up, or that takes too long, is removed again, and the object that it replaced is gone with it.

use std::time::Duration;

use http::{HeaderMap, Method};
use manifest::{Attributes, EntryKind, Fingerprint, ObjectKey};
use tokio::time::Instant;

use super::client::{Call, Client};
use super::{AzureStore, attributes, keys};
use crate::store::s3::checksum::md5_base64_of;
use crate::store::wire::{answer_limit, cut, set, text_of, unquoted};
use crate::store::{CopySource, Origin, Payload, Precondition, Proof, PutOptions, Result, StoreErrorKind, Written};

/// The first pause between two looks at a copy that the service is busy with.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl AzureStore {
    /// The MD5 that goes with a body. The CRC that was taken when the body was read is checked after it, so that the MD5 is
    /// known to be of the same bytes.
    pub(super) async fn md5_of(&self, operation: &'static str, key: &ObjectKey, body: &Payload) -> Result<String> {
        let md5 = md5_base64_of(body.bytes()).await;
        match body.is_intact() {
            true => Ok(md5),
            false => Err(self.error(operation, key, StoreErrorKind::Corrupt, "the bytes changed after they were read")),
        }
    }

    pub(super) async fn put_object(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let full = self.writable_key("write", key).await?;
        let mut call = Call::object("write", Method::PUT, key, &full);
        self.write_headers("write", key, options, &mut call.headers)?;
        call.conditional = self.condition("write", key, &options.precondition, &mut call.headers)?;
        set(&mut call.headers, "x-ms-blob-type", "BlockBlob");
        let md5 = self.md5_of("write", key, &body).await?;
        set(&mut call.headers, "content-md5", &md5);
        call.body = body.bytes().clone();
        let response = self.client.expect(&call, &[201]).await?;
        let headers = self.client.drain(&call, response).await?;
        let fingerprint = self.written("write", key, call.body.len() as u64, &headers)?;
        let echoed = text_of(&headers, "content-md5") == Some(&md5);
        Ok(Written { fingerprint, proof: if echoed { Proof::Checksum } else { Proof::None } })
    }

    pub(super) async fn copy_object(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        options: &PutOptions,
    ) -> Result<Written> {
        let full = self.writable_key("copy to", to).await?;
        let (from, source_key, expected) = self.copy_source("copy", source)?;
        let before = match source.keep_attributes {
            true => None,
            false => Some(from.look(source.key, &source_key).await?),
        };
        let mut call = Call::object("copy to", Method::PUT, to, &full);
        match source.keep_attributes {
            true => call.headers.extend(self.write_headers.clone()),
            false => self.write_headers("copy to", to, options, &mut call.headers)?,
        }
        // A copy takes the source's properties; metadata, if any is given, replaces the source's.
        let properties = take_properties(&mut call.headers);
        self.condition("copy to", to, &options.precondition, &mut call.headers)?;
        self.client.copy_from(&mut call, from, &source_key, true).await?;
        set(&mut call.headers, "x-ms-source-if-match", &format!("\"{expected}\""));
        let expect = source.expect;
        call.copied_bytes = expect.size_bytes;
        if !self.client.is_account_of(from) {
            // From another account it is done before the answer, or not at all.
            set(&mut call.headers, "x-ms-requires-sync", "true");
        }
        let response = self.client.expect(&call, &[201, 202]).await?;
        let headers = self.client.drain(&call, response).await?;
        let copy = text_of(&headers, "x-ms-copy-id").unwrap_or_default().to_owned();
        let mut fingerprint = self.copied(to, &full, &copy, expect.size_bytes).await?;
        if let Some(before) = before {
            let had = attributes::from_headers(&before);
            fingerprint = self.replace(to, &full, &before, &had, properties, options, fingerprint).await?;
        }
        Ok(Written { fingerprint, proof: Proof::None })
    }

    /// What a copy reads: the container, the full key, and the ETag that the version must have.
    pub(super) fn copy_source<'a>(
        &'a self,
        operation: &'static str,
        source: &CopySource<'a>,
    ) -> Result<(&'a Client, String, &'a str)> {
        let refuse = |kind, detail: &str| self.error(operation, source.key, kind, detail);
        let (client, prefix) = match source.origin {
            None => (&*self.client, &self.prefix),
            Some(Origin::Azure(origin)) if origin.client.service == self.client.service => {
                (&*origin.client, &origin.prefix)
            }
            Some(_) => return Err(refuse(StoreErrorKind::Unsupported, "it is at another service")),
        };
        let full = keys::full_key(prefix, source.key).map_err(|why| refuse(StoreErrorKind::InvalidKey, why))?;
        let detail = "the source is known by no ETag, so the copy cannot be made conditional";
        let etag = source.expect.etag.as_deref().ok_or_else(|| refuse(StoreErrorKind::Unsupported, detail))?;
        Ok((client, full, etag))
    }

    /// Waits until a copy is done. Answers with the new object's identity, as a look at it tells.
    async fn copied(&self, to: &ObjectKey, full: &str, copy: &str, size_bytes: u64) -> Result<Fingerprint> {
        let operation = "copy to";
        let limit = answer_limit(0, size_bytes);
        let until = Instant::now() + limit;
        let mut pause = FIRST_LOOK;
        loop {
            let headers = self.head_headers(to).await?;
            if text_of(&headers, "x-ms-copy-id").is_some_and(|id| id != copy) {
                let detail = "another wrote to it while it was copied";
                return Err(self.error(operation, to, StoreErrorKind::Precondition, detail));
            }
            let length = text_of(&headers, "content-length").and_then(|text| text.parse::<u64>().ok());
            match text_of(&headers, "x-ms-copy-status") {
                // An append or page blob is copied as what it is, and nothing could ever be written over it.
                Some("success") | None
                    if text_of(&headers, "x-ms-blob-type").is_some_and(|kind| kind != "BlockBlob") =>
                {
                    self.remove_copy(to, full, &headers).await;
                    let detail = "an append or page blob is not copied by the service";
                    return Err(self.error(operation, to, StoreErrorKind::Unsupported, detail));
                }
                // An answer without a status is that of a server which copies at once.
                Some("success") | None if length == Some(size_bytes) => {
                    return self.written(operation, to, size_bytes, &headers);
                }
                Some("success") | None => {
                    let detail = format!("{size_bytes} bytes were copied, {length:?} stand there");
                    return Err(self.error(operation, to, StoreErrorKind::Corrupt, detail));
                }
                Some("pending") if Instant::now() < until => {}
                Some(status) => {
                    let words = text_of(&headers, "x-ms-copy-status-description").unwrap_or_default();
                    let detail = cut(&format!("the copy is {status} after at most {} s {words}", limit.as_secs()));
                    let kind = if status == "pending" { StoreErrorKind::Timeout } else { StoreErrorKind::Server };
                    self.give_up_copy(to, full, copy).await;
                    return Err(self.error(operation, to, kind, detail));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Ends a copy and removes what it left. Best effort: what stays has an ETag that nothing knows and is copied again.
    async fn give_up_copy(&self, to: &ObjectKey, full: &str, copy: &str) {
        let mut abort =
            Call::object("give up the copy to", Method::PUT, to, full).query("comp", "copy").query("copyid", copy);
        set(&mut abort.headers, "x-ms-copy-action", "abort");
        if let Ok(response) = self.client.send(&abort).await {
            drop(self.client.drain(&abort, response).await);
        }
        let Ok(headers) = self.head_headers(to).await else { return };
        if text_of(&headers, "x-ms-copy-id") != Some(copy) || text_of(&headers, "x-ms-copy-status") == Some("success") {
            return;
        }
        self.remove_copy(to, full, &headers).await;
    }

    /// Removes what a copy made, as `headers` tell it. Best effort, like the rest.
    async fn remove_copy(&self, to: &ObjectKey, full: &str, headers: &HeaderMap) {
        let mut delete = Call::object("give up the copy to", Method::DELETE, to, full);
        set(&mut delete.headers, "if-match", text_of(headers, "etag").unwrap_or("*"));
        if let Ok(response) = self.client.send(&delete).await {
            drop(self.client.drain(&delete, response).await);
        }
    }

    /// Gives a copy the properties that were asked for, where the source's differ, and takes metadata away that was not.
    #[allow(clippy::too_many_arguments)]
    async fn replace(
        &self,
        to: &ObjectKey,
        full: &str,
        before: &HeaderMap,
        had: &Attributes,
        properties: HeaderMap,
        options: &PutOptions,
        mut fingerprint: Fingerprint,
    ) -> Result<Fingerprint> {
        let wants_metadata = attributes::has_metadata(&options.attributes) || options.kind == EntryKind::Symlink;
        let mut steps = Vec::new();
        if !wants_metadata && attributes::has_metadata(had) {
            steps.push(("metadata", HeaderMap::new()));
        }
        if !attributes::same_properties(had, &options.attributes) {
            let mut headers = properties;
            // Else it would be taken away with the rest.
            if let Some(md5) = before.get("content-md5") {
                headers.insert("x-ms-blob-content-md5", md5.clone());
            }
            steps.push(("properties", headers));
        }
        for (what, headers) in steps {
            let mut call = Call::object("copy to", Method::PUT, to, full).query("comp", what);
            call.headers = headers;
            let etag = fingerprint.etag.as_deref().unwrap_or_default();
            set(&mut call.headers, "if-match", &format!("\"{etag}\""));
            call.conditional = true;
            let response = self.client.expect(&call, &[200]).await?;
            let headers = self.client.drain(&call, response).await?;
            fingerprint = self.written("copy to", to, fingerprint.size_bytes, &headers)?;
        }
        Ok(fingerprint)
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
            let detail = "containers hold objects, not folders or devices";
            return Err(self.error(operation, key, StoreErrorKind::Unsupported, detail));
        }
        headers.extend(self.write_headers.clone());
        attributes::to_headers(options.kind, &options.attributes, headers)
            .map_err(|why| self.error(operation, key, StoreErrorKind::Unsupported, cut(&why)))
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

    /// The identity of what was just written: a listing will tell the same size and ETag. Whoever answers without an ETag
    /// is no Azure server.
    pub(super) fn written(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        size_bytes: u64,
        headers: &HeaderMap,
    ) -> Result<Fingerprint> {
        match text_of(headers, "etag").map(unquoted) {
            Some(etag) if !etag.is_empty() => Ok(Fingerprint {
                size_bytes,
                etag: Some(etag.to_owned()),
                version: text_of(headers, "x-ms-version-id").map(str::to_owned),
                ..Fingerprint::default()
            }),
            _ => Err(self.error(operation, key, StoreErrorKind::Protocol, "the answer names no ETag")),
        }
    }
}

/// Takes the headers out that set properties.
fn take_properties(headers: &mut HeaderMap) -> HeaderMap {
    let names: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-ms-blob-")).cloned().collect();
    names.into_iter().filter_map(|name| headers.remove(&name).map(|value| (name, value))).collect()
}
