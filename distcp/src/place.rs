//! Where a tree is: a folder of this machine, or a prefix in a store, as users write it and in one normal form.
//!
//! Two spellings of one place are equal here (`s3`, `s3a`, `s3n`; `./`, links and `..` of local paths; trailing slashes), so
//! that jobs have one name (rule 3) and overlaps are seen (rule 1). Reads links of the local file system when told to
//! resolve; opens nothing. Holds no secret: a URL with credentials in it is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use manifest::ObjectKey;

use crate::store::azure::SECONDARY;

#[cfg(test)]
mod tests;

/// The schemes that are known, for the hint that names the nearest one.
const SCHEMES: [&str; 11] = ["file", "s3", "s3a", "s3n", "az", "abfs", "abfss", "wasb", "wasbs", "gs", "hdfs"];
/// What stands behind the account in the hosts of Azure's public cloud. Others are reached by the option `endpoint`.
const PUBLIC_AZURE: [&str; 2] = ["dfs.core.windows.net", "blob.core.windows.net"];
/// A guess further than this many edits away is no help.
const MAX_EDITS: usize = 3;

/// A place in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A folder or file of this machine.
    Local {
        /// The absolute path to open.
        path: PathBuf,
        /// The same with every link that exists resolved: what is compared.
        resolved: PathBuf,
    },
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes at its end; empty for the whole bucket.
        prefix: ObjectKey,
    },
    /// `az://container/prefix` or `abfss://container@account.dfs.core.windows.net/prefix`.
    Azure {
        /// The account's name, where the URL has it.
        account: Option<String>,
        /// The container.
        container: String,
        /// As for S3.
        prefix: ObjectKey,
    },
    /// `gs://bucket/prefix`.
    Gcs {
        /// The bucket.
        bucket: String,
        /// As for S3.
        prefix: ObjectKey,
    },
    /// `hdfs://namenode:port/path`.
    Hdfs {
        /// Host and port, or a name service; empty for the configured one.
        authority: String,
        /// The path without its leading and trailing slashes.
        path: ObjectKey,
    },
}

/// A place: where, and through which configured store it was named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where.
    pub location: Location,
    /// The store of the configuration that was named (`eu:warehouse`).
    pub store: Option<String>,
    /// The service that the location is at, where that is not the scheme's usual one (an S3 endpoint, normalised). Equal
    /// buckets of two services are two places.
    pub service: Option<String>,
}

/// A place that cannot be read. Printed to whoever typed it (exit code 2).
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum BadPlace {
    /// The scheme is not known.
    #[error("{text} has an unknown scheme {scheme:?}{hint}")]
    UnknownScheme {
        /// What was given.
        text: String,
        /// The scheme in it.
        scheme: String,
        /// `, did you mean ...`, or nothing.
        hint: String,
    },
    /// The configuration has no such store.
    #[error("{text} names the store {name:?}, which is not in the configuration{hint}; a local file is ./{text}")]
    UnknownStore {
        /// What was given.
        text: String,
        /// The store in it.
        name: String,
        /// `, did you mean ...`, or nothing.
        hint: String,
    },
    /// The form is wrong.
    #[error("{text} is no place: {reason}")]
    Malformed {
        /// What was given.
        text: String,
        /// Why not.
        reason: String,
    },
}

/// `, did you mean "x"?` when one of the known words is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= MAX_EDITS && *edits < candidate.len().max(2))
        .min()
        .map(|(_, candidate)| format!(", did you mean {candidate:?}?"))
        .unwrap_or_default()
}

impl Place {
    /// Reads a place as users write it. `cwd` is the absolute folder that relative paths start from; `stores` are the
    /// names and URLs of the configured stores.
    pub fn parse(text: &OsStr, cwd: &Path, stores: &BTreeMap<String, String>) -> Result<Self, BadPlace> {
        let bytes = text.as_bytes();
        let shown = || ObjectKey::from(bytes.to_vec()).to_string();
        let malformed = |reason: &str| BadPlace::Malformed { text: redacted(&shown()), reason: reason.to_owned() };
        if bytes.is_empty() {
            return Err(malformed("it is empty"));
        }
        if bytes.contains(&0) {
            return Err(malformed("it holds a NUL byte"));
        }
        let Some((head, rest)) = scheme_or_store(bytes) else { return Ok(Self::local(Path::new(text), cwd)) };
        if let Some(rest) = rest.strip_prefix(b"//") {
            return Self::url(&head.to_ascii_lowercase(), rest, cwd, &shown());
        }
        let Some(url) = stores.get(head) else {
            let hint = nearest(head, stores.keys().map(String::as_str));
            return Err(BadPlace::UnknownStore { text: shown(), name: head.to_owned(), hint });
        };
        let mut joined = url.trim_end_matches('/').as_bytes().to_vec();
        if !rest.is_empty() {
            joined.push(b'/');
            joined.extend_from_slice(rest.strip_prefix(b"/").unwrap_or(rest));
        }
        // A store's URL cannot name another store.
        let mut place = Self::parse(&OsString::from_vec(joined), cwd, &BTreeMap::new())?;
        place.store = Some(head.to_owned());
        Ok(place)
    }

    /// A local place, absolute and with links resolved as far as the path exists.
    pub fn local(path: &Path, cwd: &Path) -> Self {
        let absolute = cwd.join(path);
        let resolved = resolve(&absolute);
        let climbs = absolute.components().any(|part| part == Component::ParentDir);
        // Without `..` the path as given (links and all) is opened; with it only the resolved form is unambiguous.
        let path = if climbs { resolved.clone() } else { absolute.components().collect() };
        Self { location: Location::Local { path, resolved }, store: None, service: None }
    }

    fn url(scheme: &str, rest: &[u8], cwd: &Path, shown: &str) -> Result<Self, BadPlace> {
        let malformed = |reason: String| BadPlace::Malformed { text: redacted(shown), reason };
        let split = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if scheme == "file" {
            if !matches!(authority, b"" | b"localhost") {
                return Err(malformed("a file URL names no host: file:///path".into()));
            }
            let decoded: Vec<u8> = percent_encoding::percent_decode(path).collect();
            let mut absolute = PathBuf::from("/");
            absolute.push(OsStr::from_bytes(decoded.strip_prefix(b"/").unwrap_or(&decoded)));
            return Ok(Self::local(&absolute, cwd));
        }
        if !SCHEMES.contains(&scheme) {
            let hint = nearest(scheme, SCHEMES);
            return Err(BadPlace::UnknownScheme { text: redacted(shown), scheme: scheme.to_owned(), hint });
        }
        let authority = std::str::from_utf8(authority).map_err(|_| malformed("its host is not UTF-8".into()))?;
        let prefix = trimmed(path);
        if prefix.segments().any(|segment| segment == b"." || segment == b"..") {
            return Err(malformed("a . or .. segment means something else in every URL: write the path out".into()));
        }
        if prefix.as_str().is_none() {
            return Err(malformed("keys of stores are UTF-8".into()));
        }
        let named = |what: &str, name: &str| -> Result<String, BadPlace> {
            if name.contains('@') {
                return Err(malformed("credentials do not belong into a URL".into()));
            }
            let fits = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
                && name != "."
                && name != "..";
            if fits { Ok(name.to_owned()) } else { Err(malformed(format!("{name:?} is no name of a {what}"))) }
        };
        let location = match scheme {
            "s3" | "s3a" | "s3n" => Location::S3 { bucket: named("bucket", authority)?, prefix },
            "gs" => Location::Gcs { bucket: named("bucket", authority)?, prefix },
            "az" => Location::Azure { account: None, container: named("container", authority)?, prefix },
            "hdfs" => {
                if authority.contains('@') {
                    return Err(malformed("credentials do not belong into a URL".into()));
                }
                // A name service is a word of the configuration and has the case it has there; a host has none.
                let is_host = authority.contains(':');
                let authority = if is_host { authority.to_ascii_lowercase() } else { authority.to_owned() };
                Location::Hdfs { authority, path: prefix }
            }
            _ => {
                let (container, host) = authority
                    .split_once('@')
                    .ok_or_else(|| malformed(format!("it is not {scheme}://container@account.host/prefix")))?;
                let host = host.to_ascii_lowercase();
                let (account, service) = host.split_once('.').unwrap_or((&host, ""));
                if !PUBLIC_AZURE.contains(&service) {
                    return Err(malformed(format!(
                        "{host} is not account.dfs.core.windows.net: write az://container/prefix, and name account and \
                         endpoint in the options of a store"
                    )));
                }
                Location::Azure {
                    account: Some(named("storage account", account)?),
                    container: named("container", container)?,
                    prefix,
                }
            }
        };
        Ok(Self { location, store: None, service: None })
    }

    /// Whether `other` is this place or lies below it, at a segment boundary (rule 4).
    pub fn contains(&self, other: &Place) -> bool {
        self.relative(other).is_some()
    }

    /// Whether one of the two contains the other (rule 1).
    pub fn overlaps(&self, other: &Place) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// What leads from here to `other`: the key of its root below this one; the empty key if they are one place; `None` if
    /// it does not lie here.
    pub fn relative(&self, other: &Place) -> Option<ObjectKey> {
        if self.service != other.service {
            return None;
        }
        let below = |outer: &ObjectKey, inner: &ObjectKey| {
            if outer == inner { Some(ObjectKey::default()) } else { inner.strip_prefix(outer) }
        };
        match (&self.location, &other.location) {
            (Location::Local { resolved: outer, .. }, Location::Local { resolved: inner, .. }) => {
                let rest = inner.strip_prefix(outer).ok()?;
                Some(ObjectKey::from(rest.as_os_str().as_bytes().to_vec()))
            }
            (Location::S3 { bucket: a, prefix: outer }, Location::S3 { bucket: b, prefix: inner })
            | (Location::Gcs { bucket: a, prefix: outer }, Location::Gcs { bucket: b, prefix: inner })
            | (Location::Hdfs { authority: a, path: outer }, Location::Hdfs { authority: b, path: inner })
                if a == b =>
            {
                below(outer, inner)
            }
            (
                Location::Azure { account: x, container: a, prefix: outer },
                Location::Azure { account: y, container: b, prefix: inner },
            ) if a == b && (first_location(x) == first_location(y) || x.is_none() || y.is_none()) => {
                below(outer, inner)
            }
            _ => None,
        }
    }

    /// Whether it can only be read, because it is the second location of an Azure account (RA-GRS).
    pub fn is_secondary(&self) -> bool {
        matches!(&self.location, Location::Azure { account: Some(account), .. } if account.ends_with(SECONDARY))
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.location, Location::Local { .. })
    }

    /// The place with the service it is at, if that is not the usual one: two places with equal identities are one. Names
    /// jobs (rule 3).
    pub fn identity(&self) -> String {
        let place = match &self.location {
            Location::Local { resolved, .. } => ObjectKey::from(resolved.as_os_str().as_bytes().to_vec()).to_string(),
            _ => self.to_string(),
        };
        match &self.service {
            Some(service) => format!("{place} at {service}"),
            None => place,
        }
    }

    /// A folder below this place (`key` in the store's sense; a local place gets a path below it).
    pub fn join(&self, key: &ObjectKey) -> Place {
        let mut place = self.clone();
        match &mut place.location {
            Location::Local { path, resolved } => {
                path.push(OsStr::from_bytes(key.as_bytes()));
                *resolved = resolve(path);
            }
            Location::S3 { prefix, .. } | Location::Azure { prefix, .. } | Location::Gcs { prefix, .. } => {
                *prefix = key.below(prefix);
            }
            Location::Hdfs { path, .. } => *path = key.below(path),
        }
        place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn below(prefix: &ObjectKey) -> Cow<'static, str> {
            if prefix.is_empty() { "".into() } else { format!("/{}", prefix.escaped()).into() }
        }
        match &self.location {
            Location::Local { path, .. } => {
                f.write_str(&ObjectKey::from(path.as_os_str().as_bytes().to_vec()).escaped())
            }
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}{}", below(prefix)),
            Location::Gcs { bucket, prefix } => write!(f, "gs://{bucket}{}", below(prefix)),
            Location::Azure { account: None, container, prefix } => write!(f, "az://{container}{}", below(prefix)),
            Location::Azure { account: Some(account), container, prefix } => {
                write!(f, "abfss://{container}@{account}.dfs.core.windows.net{}", below(prefix))
            }
            Location::Hdfs { authority, path } => write!(f, "hdfs://{authority}/{}", path.escaped()),
        }
    }
}

/// `s3` and `//bucket` of `s3://bucket`, `eu` and `x` of `eu:x`; `None` for a path.
fn scheme_or_store(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (head, rest) = (&bytes[..colon], &bytes[colon + 1..]);
    let fits = head.first().is_some_and(u8::is_ascii_alphanumeric)
        && head.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'));
    if fits { Some((std::str::from_utf8(head).ok()?, rest)) } else { None }
}

/// An account of Azure without what names its second location: both hold the same objects.
fn first_location(account: &Option<String>) -> Option<&str> {
    account.as_deref().map(|name| name.strip_suffix(SECONDARY).unwrap_or(name))
}

/// A prefix without slashes at its end: a trailing slash changes nothing.
fn trimmed(path: &[u8]) -> ObjectKey {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    ObjectKey::from(path[..end].to_vec())
}

/// A URL in an error without what stands before an `@`: it may be a password.
fn redacted(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let host_end = rest.find('/').unwrap_or(rest.len());
            match rest[..host_end].rfind('@') {
                Some(at) => format!("{scheme}://***{}", &rest[at..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

/// The absolute path with every link resolved as far as it exists; what does not exist is normalised by its words.
fn resolve(absolute: &Path) -> PathBuf {
    let parts: Vec<Component<'_>> = absolute.components().collect();
    for known in (0..=parts.len()).rev() {
        let head: PathBuf = parts[..known].iter().collect();
        if let Ok(mut resolved) = std::fs::canonicalize(&head) {
            for part in &parts[known..] {
                match part {
                    Component::ParentDir => {
                        resolved.pop();
                    }
                    Component::Normal(name) => resolved.push(name),
                    _ => {}
                }
            }
            return resolved;
        }
    }
    absolute.to_owned()
}
