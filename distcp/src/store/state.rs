//! The state of a job in an object store: a lease, a checkpoint and immutable files over any [`Store`] with ETags and
//! conditional writes (rule 16).
//!
//! Never replaces what it has not seen. An answer that was lost is not guessed: the file is read again, and what stands
//! there decides. So it wants a store whose retries do not repeat a conditional write blindly: a repeated create that had
//! worked would look like another run's.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use manifest::state::{StateItem, StateStore, Tag};
use manifest::{Class, Error, Fingerprint, ObjectKey};

use super::{GetOptions, ListOptions, Precondition, PutOptions, Store, StoreError, StoreErrorKind, Written};

/// The largest file of a state that is read, in bytes: indexes and parts stay far below.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A [`StateStore`] over the store that is opened on the state's folder.
#[derive(Debug, Clone)]
pub struct ObjectState {
    store: Arc<dyn Store>,
}

/// What an unanswered write left.
enum Outcome {
    Written(Tag),
    Refused,
    Unknown,
}

impl ObjectState {
    /// State at the root of `store`.
    ///
    /// # Errors
    /// [`Error::UnsafeState`] when the store has no ETags or conditional writes at all. Whether a server keeps its
    /// promise is for the caller to probe.
    pub fn new(store: Arc<dyn Store>) -> manifest::Result<Self> {
        let capabilities = store.capabilities();
        if !(capabilities.etags && capabilities.conditional_create && capabilities.conditional_replace) {
            let reason = "it has no ETags or no conditional writes".to_owned();
            return Err(Error::UnsafeState { place: store.place().to_owned(), reason });
        }
        Ok(Self { store })
    }

    fn error(&self, operation: &'static str, name: &str, error: &StoreError) -> Error {
        if error.kind == StoreErrorKind::NoBucket {
            let what = match crate::error::bucket_of(self.store.place()) {
                "container" => "the container of the state at",
                _ => "the bucket of the state at",
            };
            return Error::Missing { what, name: self.store.place().to_owned() };
        }
        Error::State {
            operation,
            name: name.to_owned(),
            place: self.store.place().to_owned(),
            reason: error.reason(),
            class: error.class(),
            permission: error.is_permission(),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<(Bytes, Tag)>, StoreError> {
        let key = ObjectKey::from(name);
        let mut found = match self.store.get(&key, GetOptions::default()).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let size_bytes = found.info.fingerprint.size_bytes;
        let too_long = |detail: String| StoreError::new("read", self.store.place(), StoreErrorKind::Other, detail);
        if size_bytes > MAX_FILE_BYTES {
            return Err(too_long(format!("{size_bytes} bytes are more than a state file has")).on(&key));
        }
        let mut bytes = BytesMut::new();
        while let Some(block) = found.body.next().await {
            bytes.extend_from_slice(&block?);
            if bytes.len() as u64 > size_bytes {
                return Err(too_long(format!("more than the {size_bytes} bytes it has")).on(&key));
            }
        }
        if (bytes.len() as u64) < size_bytes {
            let detail = format!("{} of {size_bytes} bytes", bytes.len());
            return Err(StoreError::new("read", self.store.place(), StoreErrorKind::Corrupt, detail).on(&key));
        }
        let tag = self.tag(&key, &found.info.fingerprint)?;
        Ok(Some((bytes.freeze(), tag)))
    }

    /// Size and ETag: what a conditional write needs again.
    fn tag(&self, key: &ObjectKey, fingerprint: &Fingerprint) -> Result<Tag, StoreError> {
        match &fingerprint.etag {
            Some(etag) => Ok(Tag(format!("{}:{etag}", fingerprint.size_bytes))),
            None => {
                let detail = "the answer has no ETag";
                Err(StoreError::new("read", self.store.place(), StoreErrorKind::Protocol, detail).on(key))
            }
        }
    }

    /// Writes under a condition. `before` is the tag that stands there if the write did not happen.
    async fn write(
        &self,
        operation: &'static str,
        name: &str,
        bytes: Bytes,
        precondition: Precondition,
        before: Option<&Tag>,
    ) -> manifest::Result<Option<Tag>> {
        let key = ObjectKey::from(name);
        let options = PutOptions { precondition, ..PutOptions::default() };
        let error = match self.store.put(&key, bytes.clone().into(), &options).await {
            Ok(Written { fingerprint, .. }) => {
                return self.tag(&key, &fingerprint).map(Some).map_err(|error| self.error(operation, name, &error));
            }
            Err(error) => error,
        };
        match error.kind {
            StoreErrorKind::Precondition => return Ok(None),
            // A server may answer so to If-Match on a key that is gone.
            StoreErrorKind::NotFound if before.is_some() => return Ok(None),
            _ if error.class() != Class::Retryable => return Err(self.error(operation, name, &error)),
            _ => {}
        }
        match self.outcome(name, &bytes, before).await {
            Outcome::Written(tag) => Ok(Some(tag)),
            Outcome::Refused => Ok(None),
            Outcome::Unknown => Err(self.error(operation, name, &error)),
        }
    }

    /// What stands there after a write whose answer was lost: our bytes (it worked), what stood there before (it may yet
    /// be tried again), or another's.
    async fn outcome(&self, name: &str, ours: &Bytes, before: Option<&Tag>) -> Outcome {
        match self.read(name).await {
            Ok(Some((bytes, tag))) if bytes == *ours => Outcome::Written(tag),
            Ok(Some((_, tag))) if Some(&tag) == before => Outcome::Unknown,
            Ok(Some(_)) => Outcome::Refused,
            Ok(None) if before.is_some() => Outcome::Refused,
            Ok(None) | Err(_) => Outcome::Unknown,
        }
    }
}

/// The condition that a tag of ours stands for; `None` when it is not one of ours.
fn condition(tag: &Tag) -> Option<Precondition> {
    let (size, etag) = tag.0.split_once(':')?;
    Some(Precondition::Matches(Fingerprint {
        size_bytes: size.parse().ok()?,
        etag: Some(etag.to_owned()),
        ..Fingerprint::default()
    }))
}

/// The folder directly below `prefix` that `name` lies in.
fn folder_in<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.split_once('/').map(|(folder, _)| folder)
}

#[async_trait]
impl StateStore for ObjectState {
    fn place(&self) -> String {
        self.store.place().to_owned()
    }

    async fn get(&self, name: &str) -> manifest::Result<Option<(Bytes, Tag)>> {
        self.read(name).await.map_err(|error| self.error("read", name, &error))
    }

    async fn create(&self, name: &str, bytes: Bytes) -> manifest::Result<Option<Tag>> {
        self.write("create", name, bytes, Precondition::Absent, None).await
    }

    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> manifest::Result<Option<Tag>> {
        match condition(expected) {
            Some(precondition) => self.write("replace", name, bytes, precondition, Some(expected)).await,
            None => Ok(None),
        }
    }

    /// Ages count from the newest file listed, which the server's own clock dated: they are never too high, whatever the
    /// clock of this machine says.
    async fn list(&self, prefix: &str) -> manifest::Result<Vec<StateItem>> {
        let ordered = self.store.capabilities().ordered_list;
        let after = (ordered && !prefix.is_empty()).then(|| ObjectKey::from(prefix));
        let mut batches = self.store.list(ListOptions { after, ..ListOptions::default() });
        let mut found = Vec::new();
        'listing: while let Some(batch) = batches.next().await {
            let batch = match batch {
                // No file was ever written: the folder does not exist.
                Err(error) if error.kind == StoreErrorKind::NotFound && found.is_empty() => return Ok(Vec::new()),
                batch => batch.map_err(|error| self.error("list", prefix, &error))?,
            };
            for listed in batch {
                match listed.key.as_str() {
                    Some(name) if name.starts_with(prefix) => found.push((name.to_owned(), listed.fingerprint)),
                    _ if ordered && listed.key.as_bytes() > prefix.as_bytes() => break 'listing,
                    _ => {}
                }
            }
        }
        let newest = found.iter().filter_map(|(_, fingerprint)| fingerprint.mtime_ns).max();
        let age_s = |fingerprint: &Fingerprint| {
            let age_ns = newest?.checked_sub(fingerprint.mtime_ns?)?;
            u64::try_from(age_ns / 1_000_000_000).ok()
        };
        let item = |(name, fingerprint): (String, Fingerprint)| StateItem {
            name,
            size_bytes: fingerprint.size_bytes,
            age_s: age_s(&fingerprint),
        };
        Ok(found.into_iter().map(item).collect())
    }

    /// One page a folder where the listing is ordered: the first name in a folder tells it, and the next look starts
    /// behind all of its names.
    async fn folders(&self, prefix: &str) -> manifest::Result<Vec<String>> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        if !self.store.capabilities().ordered_list {
            for item in self.list(prefix).await? {
                found.extend(folder_in(prefix, &item.name).map(str::to_owned));
            }
            return Ok(found.into_iter().collect());
        }
        let mut after = (!prefix.is_empty()).then(|| ObjectKey::from(prefix));
        loop {
            let mut batches = self.store.list(ListOptions { after: after.take(), ..ListOptions::default() });
            let batch = match batches.next().await {
                Some(Err(error)) if error.kind == StoreErrorKind::NotFound => break,
                Some(batch) => batch.map_err(|error| self.error("list", prefix, &error))?,
                None => break,
            };
            // Names are ASCII: no name of a folder comes after its name, a slash and the last character there is.
            let last = batch.last().map(|listed| listed.key.clone());
            let names = batch.iter().filter_map(|listed| listed.key.as_str());
            let folder = names.filter_map(|name| folder_in(prefix, name)).find(|folder| !found.contains(*folder));
            match (folder, last) {
                (Some(folder), _) => {
                    after = Some(ObjectKey::from(format!("{prefix}{folder}/\u{10FFFF}")));
                    found.insert(folder.to_owned());
                }
                (None, Some(last)) if last.as_bytes().starts_with(prefix.as_bytes()) => after = Some(last),
                (None, _) => break,
            }
        }
        Ok(found.into_iter().collect())
    }

    async fn delete(&self, name: &str) -> manifest::Result<()> {
        for answer in self.store.delete(&[ObjectKey::from(name)]).await {
            answer.map_err(|error| self.error("delete", name, &error))?;
        }
        Ok(())
    }
}
