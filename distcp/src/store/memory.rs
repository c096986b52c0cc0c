//! A store in memory: the model that the others are compared with, and what tests run on.
//!
//! It does what an S3 bucket does, exactly: any key, no folders, ETags that are the MD5 of the content, conditions checked
//! in the same step as the write. Nothing survives it. Time is a counter: each write is one second after the last.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use manifest::{Attributes, EntryKind, Fingerprint, Listed, ObjectKey};
use md5::{Digest as _, Md5};

use super::{
    Capabilities, CopySource, GetOptions, GetResult, ListOptions, ObjectInfo, Origin, PartSpec, Payload, Precondition,
    Proof, PutOptions, Result, Store, StoreError, StoreErrorKind, UploadId, UploadedPart, Written,
};

/// Keys a page of a listing.
const PAGE_KEYS: usize = 1000;
/// How a body is cut.
const BLOCK_BYTES: usize = 256 << 10;
/// 2020-09-13, in nanoseconds since 1970: where the counter of time begins.
const EPOCH_NS: i64 = 1_600_000_000_000_000_000;
const TICK_NS: i64 = 1_000_000_000;

/// A [`Store`] in memory; clones share its content.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    capabilities: Capabilities,
    /// Stores of one name copy from each other; without one it stands alone.
    service: Option<String>,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<ObjectKey, Object>,
    uploads: BTreeMap<String, Upload>,
    ticks: i64,
}

#[derive(Debug, Clone)]
struct Object {
    body: Bytes,
    fingerprint: Fingerprint,
    attributes: Attributes,
}

#[derive(Debug)]
struct Upload {
    key: ObjectKey,
    parts: BTreeMap<u32, (UploadedPart, Bytes)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store that can do everything.
    pub fn new() -> Self {
        Self::with_capabilities(|_| {})
    }

    /// An empty store that lacks what `change` takes away. A condition that the store does not check is ignored, as
    /// servers do that do not know it.
    pub fn with_capabilities(change: impl FnOnce(&mut Capabilities)) -> Self {
        let mut capabilities = Capabilities {
            name: "memory",
            ordered_list: true,
            start_after: true,
            levels: false,
            list_goes_on: false,
            folders: false,
            conditional_create: true,
            conditional_replace: true,
            conditional_read: true,
            server_copy: true,
            max_copy_bytes: u64::MAX,
            lists_parts: true,
            etags: true,
            attributes: true,
            delete_batch: 1000,
            max_put_bytes: u64::MAX,
            time_step_ns: 1,
        };
        change(&mut capabilities);
        Self { capabilities, service: None, content: Arc::default() }
    }

    /// The same, as one of the stores of a service: they copy from each other.
    pub fn of_service(self, name: &str) -> Self {
        Self { service: Some(name.to_owned()), ..self }
    }

    /// Every key with its bytes, for comparing.
    pub fn objects(&self) -> BTreeMap<ObjectKey, Bytes> {
        self.lock().objects.iter().map(|(key, object)| (key.clone(), object.body.clone())).collect()
    }

    /// The ids of the uploads that are neither completed nor aborted.
    pub fn uploads(&self) -> Vec<UploadId> {
        self.lock().uploads.keys().cloned().map(UploadId).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn intact(&self, operation: &'static str, key: &ObjectKey, body: Payload) -> Result<Bytes> {
        match body.is_intact() {
            true => Ok(body.bytes().clone()),
            false => Err(self.error(operation, key, StoreErrorKind::Corrupt, "the bytes changed after they were read")),
        }
    }

    fn error(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        kind: StoreErrorKind,
        detail: impl Into<String>,
    ) -> StoreError {
        StoreError::new(operation, self.place(), kind, detail).on(key)
    }

    fn check(&self, content: &Content, key: &ObjectKey, precondition: &Precondition) -> Result<()> {
        let now = content.objects.get(key);
        let holds = match precondition {
            Precondition::Any => true,
            Precondition::Absent => now.is_none() || !self.capabilities.conditional_create,
            Precondition::Matches(expected) => {
                now.is_some_and(|object| expected.looks_like(&object.fingerprint))
                    || !self.capabilities.conditional_replace
            }
        };
        match holds {
            true => Ok(()),
            false => Err(self.error("write", key, StoreErrorKind::Precondition, "")),
        }
    }

    fn store(
        &self,
        content: &mut Content,
        key: &ObjectKey,
        body: Bytes,
        etag: String,
        options: &PutOptions,
    ) -> Result<Fingerprint> {
        self.check(content, key, &options.precondition)?;
        let mut attributes = options.attributes.clone();
        match options.kind {
            EntryKind::Object => {}
            EntryKind::Symlink => drop(attributes.insert("meta:understudy-link".to_owned(), "true".to_owned())),
            EntryKind::Folder | EntryKind::Special => {
                return Err(self.error("write", key, StoreErrorKind::Unsupported, "only objects and links are kept"));
            }
        }
        content.ticks += 1;
        let fingerprint = Fingerprint {
            size_bytes: body.len() as u64,
            mtime_ns: Some(EPOCH_NS + content.ticks * TICK_NS),
            etag: Some(etag),
            ..Fingerprint::default()
        };
        content.objects.insert(key.clone(), Object { body, fingerprint: fingerprint.clone(), attributes });
        Ok(fingerprint)
    }

    fn page(&self, options: &ListOptions, after: Option<&ObjectKey>) -> Vec<Listed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let starting = options.starting.as_ref().map_or(&b""[..], |starting| starting.as_bytes());
        // What was a folder of the last page is one entry, however much lies below it.
        let told = |key: &ObjectKey| options.level && after.is_some_and(|after| key.is_within(after));
        let mut page: Vec<Listed> = Vec::new();
        for (key, object) in self.lock().objects.range::<ObjectKey, _>((from, Bound::Unbounded)) {
            let skipped = options.without.iter().any(|without| key.is_within(without));
            if skipped || told(key) || !key.as_bytes().starts_with(starting) {
                continue;
            }
            let slash = key.as_bytes()[starting.len()..].iter().position(|byte| *byte == b'/');
            let listed = match slash.filter(|_| options.level) {
                Some(slash) => Listed {
                    key: key.as_bytes()[..starting.len() + slash].to_vec().into(),
                    kind: EntryKind::Folder,
                    fingerprint: Fingerprint::default(),
                },
                None => Listed { key: key.clone(), kind: EntryKind::Object, fingerprint: object.fingerprint.clone() },
            };
            if page.last().is_some_and(|last| last.kind == EntryKind::Folder && last.key == listed.key) {
                continue;
            }
            page.push(listed);
            if page.len() == PAGE_KEYS {
                break;
            }
        }
        page
    }

    /// The version that is to be copied.
    fn copied(&self, operation: &'static str, source: &CopySource<'_>) -> Result<Object> {
        let from = match source.origin {
            None => self,
            Some(Origin::Memory(store)) if self.copies_from(&Origin::Memory(store.clone())).is_some() => store,
            Some(_) => return Err(self.error(operation, source.key, StoreErrorKind::Unsupported, "another service")),
        };
        if !self.capabilities.server_copy {
            return Err(self.error(operation, source.key, StoreErrorKind::Unsupported, ""));
        }
        let object = from.find(operation, source.key)?;
        match source.expect.looks_like(&object.fingerprint) {
            true => Ok(object),
            false => Err(self.error(operation, source.key, StoreErrorKind::Precondition, "it is another version")),
        }
    }

    fn find(&self, operation: &'static str, key: &ObjectKey) -> Result<Object> {
        let found = self.lock().objects.get(key).cloned();
        found.ok_or_else(|| self.error(operation, key, StoreErrorKind::NotFound, ""))
    }
}

impl Object {
    fn info(&self) -> ObjectInfo {
        ObjectInfo {
            kind: EntryKind::Object,
            fingerprint: self.fingerprint.clone(),
            attributes: self.attributes.clone(),
            checksum: None,
        }
    }
}

impl Content {
    fn upload(&mut self, key: &ObjectKey, upload: &UploadId) -> Option<&mut Upload> {
        self.uploads.get_mut(&upload.0).filter(|upload| upload.key == *key)
    }
}

/// The MD5 of `bytes` in hexadecimal.
fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl Store for MemoryStore {
    fn place(&self) -> &str {
        "memory:"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        let (store, after) = (self.clone(), options.after.clone());
        stream::unfold((store, options, after), |(store, options, after)| async move {
            let page = store.page(&options, after.as_ref());
            let last = page.last()?.key.clone();
            Some((Ok(page), (store, options, Some(last))))
        })
        .boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        Ok(self.find("look up", key)?.info())
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let object = self.find("read", key)?;
        if options.expect.is_some_and(|expect| !expect.looks_like(&object.fingerprint)) {
            return Err(self.error("read", key, StoreErrorKind::Precondition, "it is another version"));
        }
        let size = object.fingerprint.size_bytes;
        let range = options.range.unwrap_or(0..size);
        if range.end > size || range.start > range.end {
            let detail = format!("bytes {}..{} of {size} were asked for", range.start, range.end);
            return Err(self.error("read", key, StoreErrorKind::Precondition, detail));
        }
        let mut rest = object.body.slice(range.start as usize..range.end as usize);
        let blocks = std::iter::from_fn(move || {
            let block = rest.split_to(rest.len().min(BLOCK_BYTES));
            (!block.is_empty()).then_some(Ok(block))
        });
        Ok(GetResult { info: object.info(), body: stream::iter(blocks).boxed() })
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let body = self.intact("write", key, body)?;
        let etag = md5_hex(&body);
        let fingerprint = self.store(&mut self.lock(), key, body, etag, options)?;
        Ok(Written { fingerprint, proof: Proof::Checksum })
    }

    async fn create_upload(&self, key: &ObjectKey, _size_bytes: u64, _options: &PutOptions) -> Result<UploadId> {
        let mut content = self.lock();
        content.ticks += 1;
        let id = format!("upload-{:08}", content.ticks);
        content.uploads.insert(id.clone(), Upload { key: key.clone(), parts: BTreeMap::new() });
        Ok(UploadId(id))
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        if body.len() as u64 != part.size_bytes {
            let detail = format!("part {} is of {} bytes, not {}", part.number, part.size_bytes, body.len());
            return Err(self.error("write a part of", key, StoreErrorKind::Other, detail));
        }
        let body = self.intact("write a part of", key, body)?;
        let uploaded = UploadedPart { part, etag: md5_hex(&body), checksum: String::new(), proof: Proof::Checksum };
        match self.lock().upload(key, upload) {
            Some(upload) => drop(upload.parts.insert(part.number, (uploaded.clone(), body))),
            None => return Err(self.error("write a part of", key, StoreErrorKind::NotFound, "no such upload")),
        }
        Ok(uploaded)
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        match self.lock().upload(key, upload) {
            Some(_) if !self.capabilities.lists_parts => Ok(Vec::new()),
            Some(upload) => Ok(upload.parts.values().map(|(part, _)| part.clone()).collect()),
            None => Err(self.error("look up an upload of", key, StoreErrorKind::NotFound, "no such upload")),
        }
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        if self.capabilities.lists_parts {
            return Err(self.error("read back a part of", key, StoreErrorKind::Unsupported, ""));
        }
        let mut content = self.lock();
        let held = content.upload(key, upload).and_then(|upload| upload.parts.get(&part.number));
        match held {
            Some((_, body)) => Ok(body.clone()),
            None => Err(self.error("read back a part of", key, StoreErrorKind::NotFound, "no such upload or part")),
        }
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let mut content = self.lock();
        let Some(held) = content.upload(key, upload) else {
            return Err(self.error("complete", key, StoreErrorKind::NotFound, "no such upload"));
        };
        let (mut body, mut digests) = (Vec::new(), Md5::new());
        let mut sorted: Vec<&UploadedPart> = parts.iter().collect();
        sorted.sort_unstable_by_key(|part| part.part.number);
        for wanted in &sorted {
            match held.parts.get(&wanted.part.number) {
                Some((part, bytes)) if part.etag == wanted.etag && part.part.offset == body.len() as u64 => {
                    body.extend_from_slice(bytes);
                    digests.update(Md5::digest(bytes));
                }
                _ => {
                    let detail = format!("part {} is not what was sent", wanted.part.number);
                    return Err(self.error("complete", key, StoreErrorKind::Other, detail));
                }
            }
        }
        let digest: String = digests.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = format!("{digest}-{}", sorted.len());
        let fingerprint = self.store(&mut content, key, Bytes::from(body), etag, options)?;
        content.uploads.remove(&upload.0);
        Ok(Written { fingerprint, proof: Proof::Checksum })
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let mut content = self.lock();
        if content.upload(key, upload).is_some() {
            content.uploads.remove(&upload.0);
        }
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        self.service.as_ref().map(|_| Origin::Memory(self.clone()))
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        match origin {
            Origin::Memory(store) if self.service.is_some() && store.service == self.service => {
                Some(self.capabilities.max_copy_bytes)
            }
            _ => None,
        }
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let object = self.copied("copy", source)?;
        if object.fingerprint.size_bytes > self.capabilities.max_copy_bytes {
            return Err(self.error("copy", to, StoreErrorKind::Other, "it is too large for one copy"));
        }
        let etag = md5_hex(&object.body);
        let mut options = options.clone();
        if source.keep_attributes {
            options.attributes = object.attributes;
        }
        let fingerprint = self.store(&mut self.lock(), to, object.body, etag, &options)?;
        Ok(Written { fingerprint, proof: Proof::None })
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let operation = "copy a part of";
        let object = self.copied(operation, source)?;
        let range = part.offset as usize..(part.offset + part.size_bytes) as usize;
        if range.end > object.body.len() {
            return Err(self.error(operation, to, StoreErrorKind::Other, "the source ends before the part does"));
        }
        let body = object.body.slice(range);
        let copied = UploadedPart { part, etag: md5_hex(&body), checksum: String::new(), proof: Proof::None };
        match self.lock().upload(to, upload) {
            Some(upload) => drop(upload.parts.insert(part.number, (copied.clone(), body))),
            None => return Err(self.error(operation, to, StoreErrorKind::NotFound, "no such upload")),
        }
        Ok(copied)
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        Ok(Some(self.uploads()))
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let mut content = self.lock();
        keys.iter()
            .map(|key| {
                content.objects.remove(key);
                Ok(())
            })
            .collect()
    }
}
