//! What a bucket holds: one generation a name, and uploads that are not finished.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value, json};

use super::BUCKET;

/// The fields of a resource that users write.
pub(super) const DESCRIBED: [&str; 7] = [
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "metadata",
    "storageClass",
];

/// An object.
#[derive(Debug, Clone)]
pub struct Object {
    /// Larger with every write to the bucket.
    pub generation: u64,
    /// When it was written.
    pub created: String,
    /// The bytes as they are stored.
    pub body: Vec<u8>,
    /// Put together from parts: it has no MD5.
    pub composite: bool,
    /// What users said of it, as in a resource.
    pub described: Map<String, Value>,
    /// The key that encrypts it.
    pub kms_key: Option<String>,
}

/// An upload in parts.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub name: String,
    pub described: Map<String, Value>,
    pub kms_key: Option<String>,
    pub parts: BTreeMap<u32, Vec<u8>>,
}

/// A bucket, and what of another one can be copied.
#[derive(Debug)]
pub struct Bucket {
    /// Objects by name, in the order of a listing.
    pub objects: BTreeMap<String, Object>,
    /// Objects of the bucket `other`.
    pub others: BTreeMap<String, Object>,
    /// Names a page of a listing, at most.
    pub page: usize,
    /// Parts a page, at most.
    pub parts_page: usize,
    /// Bytes that one step of a copy moves.
    pub step_bytes: usize,
    pub(super) uploads: HashMap<String, Upload>,
    last_generation: u64,
    last_upload: u64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            others: BTreeMap::new(),
            page: 1000,
            parts_page: 1000,
            step_bytes: usize::MAX,
            uploads: HashMap::new(),
            last_generation: 1_700_000_000_000_000,
            last_upload: 0,
        }
    }
}

/// CRC-32C, as the service writes it.
pub fn crc32c(bytes: &[u8]) -> String {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    BASE64.encode((crc as u32).to_be_bytes())
}

/// MD5, as the service writes it.
pub(super) fn md5(bytes: &[u8]) -> String {
    BASE64.encode(Md5::digest(bytes))
}

/// Whether the service takes such a name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=1024).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(['\r', '\n'])
        && !name.starts_with(".well-known/acme-challenge/")
}

impl Object {
    /// Its resource.
    pub(super) fn resource(&self, name: &str) -> Value {
        let mut resource = self.described.clone();
        resource.insert("kind".into(), json!("storage#object"));
        resource.insert("name".into(), json!(name));
        resource.insert("generation".into(), json!(self.generation.to_string()));
        resource.insert("size".into(), json!(self.body.len().to_string()));
        resource.insert("crc32c".into(), json!(crc32c(&self.body)));
        resource.insert("timeCreated".into(), json!(self.created));
        if !self.composite {
            resource.insert("md5Hash".into(), json!(md5(&self.body)));
        }
        Value::Object(resource)
    }
}

impl Bucket {
    pub(super) fn knows(&self, bucket: &str) -> bool {
        bucket == BUCKET || bucket == "other"
    }

    /// An object of one of the two buckets.
    pub(super) fn get(&self, bucket: &str, name: &str) -> Option<&Object> {
        if bucket == BUCKET { self.objects.get(name) } else { self.others.get(name) }
    }

    /// The generation of a name; 0 if there is none.
    pub fn generation(&self, name: &str) -> u64 {
        self.objects.get(name).map_or(0, |object| object.generation)
    }

    /// Writes an object as anybody could.
    pub fn put(&mut self, name: &str, body: impl Into<Vec<u8>>) -> u64 {
        self.store(name, body.into(), false, Map::new(), None)
    }

    /// Uploads that are not finished.
    pub fn unfinished(&self) -> usize {
        self.uploads.len()
    }

    pub(super) fn store(
        &mut self,
        name: &str,
        body: Vec<u8>,
        composite: bool,
        described: Map<String, Value>,
        kms_key: Option<String>,
    ) -> u64 {
        self.last_generation += 1;
        let generation = self.last_generation;
        let created = jiff::Timestamp::now().to_string();
        self.objects.insert(name.to_owned(), Object { generation, created, body, composite, described, kms_key });
        generation
    }

    pub(super) fn begin(&mut self, upload: Upload) -> String {
        self.last_upload += 1;
        let id = format!("upload+{}/=", self.last_upload);
        self.uploads.insert(id.clone(), upload);
        id
    }
}
