//! What the JSON API tells of an object: its identity and its attributes.
//!
//! The ETag of a fingerprint is the MD5 of the content where the service knows it (whole uploads, and copies of those), else
//! the generation: objects put together from parts have only a CRC-32C. The generation itself is the version. The time is
//! that of the generation, not of the last change of its metadata: a lifecycle rule that moves an object to another class
//! does not make it another version. Pure; a crash leaves nothing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use manifest::{Attributes, EntryKind, Fingerprint, Listed, ObjectKey};
use serde::{Deserialize, Serialize};

use crate::store::s3::attributes::{Dialect, SYSTEM, decode, kind_of};
use crate::store::wire::text_of;
use crate::store::{Checksum, ObjectInfo};

/// Headers of the XML API.
pub(super) const DIALECT: Dialect =
    Dialect { service: "Google Cloud Storage", meta: "x-goog-meta-", class: "x-goog-storage-class" };
/// What the service says of an object that was written without a content type: as good as none.
const DEFAULT_TYPES: [&str; 2] = ["application/octet-stream", "binary/octet-stream"];

/// What of a resource is asked for in a listing.
pub(super) const LISTED: &str = "kind,nextPageToken,items(name,generation,size,md5Hash,timeCreated)";

/// A resource, as far as it is read. Numbers are text there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Resource {
    pub name: String,
    pub generation: String,
    pub size: String,
    pub md5_hash: Option<String>,
    pub crc32c: Option<String>,
    pub time_created: Option<String>,
    #[serde(flatten)]
    pub described: Described,
}

/// What users say of an object: the part of a resource that is written, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Described {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl Described {
    /// In the order of [`SYSTEM`].
    fn system(&self) -> [&Option<String>; 5] {
        [
            &self.cache_control,
            &self.content_disposition,
            &self.content_encoding,
            &self.content_language,
            &self.content_type,
        ]
    }

    /// The headers of a write, as the JSON API wants them.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let header = |name: &str| text_of(headers, name).map(str::to_owned);
        let [cache_control, content_disposition, content_encoding, content_language, content_type] = SYSTEM.map(header);
        let metadata = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(DIALECT.meta)?;
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        Self {
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
            content_type,
            metadata: metadata.collect(),
            storage_class: header(DIALECT.class),
        }
    }

    /// As attributes.
    pub fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        for (name, value) in SYSTEM.into_iter().zip(self.system()) {
            if let Some(value) = value
                && !value.is_empty()
                && !(name == "content-type" && DEFAULT_TYPES.contains(&value.as_str()))
            {
                attributes.insert(name.to_owned(), decode(value));
            }
        }
        for (name, value) in &self.metadata {
            attributes.insert(format!("meta:{}", name.to_ascii_lowercase()), decode(value));
        }
        attributes
    }
}

/// The MD5 of the service in hexadecimal, else the generation: what a fingerprint names a version by.
pub(super) fn etag(md5_base64: Option<&str>, generation: &str) -> String {
    match md5_base64.and_then(|text| BASE64.decode(text).ok()).filter(|md5| md5.len() == 16) {
        Some(md5) => md5.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => generation.to_owned(),
    }
}

/// A generation as the service writes it: digits.
pub(super) fn is_generation(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The checksum that the service keeps of every object.
pub(super) fn crc32c(value: String) -> Checksum {
    Checksum { algorithm: "CRC32C", value }
}

impl Resource {
    /// The identity, or what is missing for one.
    pub fn fingerprint(&self) -> Result<Fingerprint, String> {
        let key = ObjectKey::from(self.name.as_str());
        let size_bytes = self.size.parse().map_err(|_| format!("{key} has the size {:?}", self.size))?;
        if !is_generation(&self.generation) {
            return Err(format!("{key} has the generation {:?}", self.generation));
        }
        let mtime_ns = match &self.time_created {
            Some(text) => Some(time_ns(text).ok_or_else(|| format!("{key} has the time {text:?}"))?),
            None => None,
        };
        let etag = Some(etag(self.md5_hash.as_deref(), &self.generation));
        let version = Some(self.generation.clone());
        Ok(Fingerprint { size_bytes, mtime_ns, etag, version, ..Fingerprint::default() })
    }

    /// Identity and attributes.
    pub fn info(&self) -> Result<ObjectInfo, String> {
        let attributes = self.described.attributes();
        let checksum = self.crc32c.clone().map(crc32c);
        Ok(ObjectInfo { kind: kind_of(&attributes), fingerprint: self.fingerprint()?, attributes, checksum })
    }

    /// As a listing tells it, under its full name.
    pub fn listed(&self) -> Result<Listed, String> {
        if self.name.is_empty() {
            return Err("an object of the listing has no name".to_owned());
        }
        let key = ObjectKey::from(self.name.as_str());
        Ok(Listed { key, kind: EntryKind::Object, fingerprint: self.fingerprint()? })
    }
}

/// `2024-02-03T04:05:06.789Z` in nanoseconds since 1970.
fn time_ns(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"kind":"storage#object","name":"a/b","generation":"1700000000000001","size":"5",
        "md5Hash":"XUFAKrxLKna5cZ2REBfFkg==","crc32c":"mnG7TA==","timeCreated":"2024-02-03T04:05:06.789Z",
        "updated":"2025-01-01T00:00:00Z","contentType":"text/csv","cacheControl":"","metadata":{"Owner":"=?UTF-8?B?w7w=?=",
        "understudy-link":"true"},"storageClass":"ARCHIVE","acl":[{"kind":"x"}]}"#;

    #[test]
    fn a_resource_is_an_identity_and_attributes() {
        let info = serde_json::from_str::<Resource>(FULL).unwrap().info().unwrap();
        assert_eq!(info.fingerprint.content_etag(), Some("5d41402abc4b2a76b9719d911017c592"));
        assert_eq!(info.fingerprint.version.as_deref(), Some("1700000000000001"));
        assert_eq!((info.fingerprint.size_bytes, info.fingerprint.mtime_ns), (5, Some(1_706_933_106_789_000_000)));
        let expected = [("content-type", "text/csv"), ("meta:owner", "\u{fc}"), ("meta:understudy-link", "true")];
        assert_eq!(info.attributes, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(info.kind, EntryKind::Symlink);
    }

    #[test]
    fn without_an_md5_the_generation_names_the_version() {
        let text = r#"{"name":"k","generation":"7","size":"5","contentType":"application/octet-stream"}"#;
        let info = serde_json::from_str::<Resource>(text).unwrap().info().unwrap();
        assert_eq!((info.fingerprint.etag.as_deref(), info.fingerprint.content_etag()), (Some("7"), None));
        assert!(info.attributes.is_empty());
        assert_eq!(etag(Some("!"), "7"), "7");
        for broken in [
            r#"{"name":"k","generation":"7"}"#,
            r#"{"name":"k","size":"5"}"#,
            r#"{"name":"k","size":"5","generation":"-1"}"#,
            r#"{"name":"k","size":"5","generation":"7","timeCreated":"soon"}"#,
        ] {
            assert!(serde_json::from_str::<Resource>(broken).unwrap().listed().is_err(), "{broken}");
        }
        assert!(Resource { generation: "7".into(), size: "5".into(), ..Resource::default() }.listed().is_err());
    }

    #[test]
    fn attributes_of_a_copy_are_those_of_a_write() {
        let attributes: Attributes = [
            ("cache-control", "max-age=60"),
            ("content-type", "text/plain"),
            ("meta:note", "\u{fc} "),
            ("storage-class", "NEARLINE"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let mut headers = HeaderMap::new();
        DIALECT.to_headers(EntryKind::Symlink, &attributes, &mut headers).unwrap();
        let described = Described::from_headers(&headers);
        assert_eq!(
            serde_json::to_value(&described).unwrap(),
            serde_json::json!({"cacheControl": "max-age=60", "contentType": "text/plain", "storageClass": "NEARLINE",
                               "metadata": {"note": "=?UTF-8?B?w7wg?=", "understudy-link": "true"}})
        );
        let mut back = described.attributes();
        back.insert("storage-class".into(), "NEARLINE".into());
        back.remove("meta:understudy-link");
        assert_eq!(back, attributes);
        let bad = Attributes::from([("expires".to_owned(), "x".to_owned())]);
        let error = DIALECT.to_headers(EntryKind::Object, &bad, &mut HeaderMap::new()).unwrap_err();
        assert!(error.contains("Google Cloud Storage has no place"), "{error}");
    }
}
