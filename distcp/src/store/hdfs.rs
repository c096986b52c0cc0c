//! A folder of HDFS as a store; or one file, under the empty key.
//!
//! Never shows a file under its name before all of its bytes stand there, were read back and compared; never writes outside
//! its root. A crash leaves temporary files and folders (`.understudy-<16 hex>.tmp`, beside what they were to become) that
//! no listing shows and [`Sweep::leftovers`] finds.
//!
//! The client tells no file ids, so the identity of a version is its size and its modification time in milliseconds: a
//! file that somebody replaces by one of the same size and gives the same time looks unchanged. Kept of the attributes:
//! modification time (to the millisecond) and permission bits. [`Precondition::Absent`](super::Precondition::Absent) is
//! checked by the NameNode in the same step, [`Precondition::Matches`](super::Precondition::Matches) just before the
//! rename: exact among the writers of one process, a window of one call towards others, so it is not claimed. Closing a
//! file that holds bytes takes about half a second: many are written at once. Encryption zones are not supported. Links
//! are not: HDFS has them switched off.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hdfs_native::client::FileStatus;
use hdfs_native::{Client, ClientBuilder, HdfsError};
use manifest::{EntryKind, Fingerprint, Listed, ObjectKey};
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinHandle;

use self::path::HdfsPath;
use self::walk::{Met, Walk};
use super::local::attributes::{MODE, MTIME, PERMISSION_BITS, format_mtime};
use super::{
    Capabilities, CopySource, Folders, GetOptions, GetResult, Leftover, ListOptions, ObjectInfo, Origin, PartSpec,
    Payload, PutOptions, Result, Store, StoreError, StoreErrorKind, Sweep, UploadId, UploadedPart, Written,
};

mod errors;
mod order;
mod path;
mod read;
mod remove;
mod upload;
mod walk;
mod write;

/// How long one call of the NameNode, or one step of a transfer, may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long closing a file may take: the client asks again for half a minute until the DataNodes have reported.
const CLOSE_LIMIT: Duration = Duration::from_secs(120);
/// How many entries of a listing go out together.
const BATCH_ENTRIES: usize = 1000;
/// How many batches of a listing wait for their reader.
const LIST_QUEUE: usize = 4;
/// The largest object that one `put` takes: its body is in memory anyway.
const MAX_PUT_BYTES: u64 = 5 << 30;
/// A file whose modification time is younger proves nothing yet (rule 13).
const RACY_NS: i64 = 2_000_000_000;
/// HDFS keeps milliseconds.
const TIME_STEP_NS: i64 = 1_000_000;
/// What the client is told unless the store's options say otherwise: whoever tries again is [`super::retry`], not the
/// client in every single call.
const CLIENT_DEFAULTS: [(&str, &str); 3] = [
    ("dfs.client.failover.max.attempts", "4"),
    ("dfs.client.failover.sleep.base.millis", "200"),
    ("dfs.client.failover.sleep.max.millis", "2000"),
];

/// Options of ours; every other one is a key of Hadoop's configuration.
pub const OWN_OPTIONS: [&str; 5] = ["config_dir", "kerberos_cache", "kerberos_keytab", "kerberos_principal", "user"];
/// How Hadoop's keys begin.
const HADOOP_KEYS: [&str; 4] = ["dfs.", "fs.", "hadoop.", "ipc."];
/// The files in which Hadoop's clients keep their configuration.
const CONFIG_FILES: [&str; 2] = ["core-site.xml", "hdfs-site.xml"];

/// Whether a name is an option of HDFS stores: one of [`OWN_OPTIONS`], or a key of Hadoop's configuration by its beginning.
pub fn is_option(name: &str) -> bool {
    OWN_OPTIONS.contains(&name) || HADOOP_KEYS.iter().any(|beginning| name.starts_with(beginning))
}

/// Which folder of which HDFS, and how to reach it.
#[derive(Debug, Clone)]
pub struct HdfsConfig {
    /// `host:port` of a NameNode, or a name service that the configuration knows.
    pub authority: String,
    /// The path of the root, without its leading slash.
    pub path: ObjectKey,
    /// Options by name; see [`is_option`]. They win over the configuration files.
    pub options: BTreeMap<String, String>,
    /// Nanoseconds since 1970, for the age of fingerprints and leftovers.
    pub now_ns: fn() -> i64,
}

/// Why a store cannot be opened as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HdfsConfigError(pub String);

/// A folder of HDFS, or a single file, as a [`Store`].
#[derive(Clone)]
pub struct HdfsStore(Arc<Tree>);

/// What all calls share.
struct Tree {
    place: String,
    root: HdfsPath,
    client: Client,
    capabilities: Capabilities,
    now_ns: fn() -> i64,
    /// Held for writing from the check of `Matches` to the rename, for reading by all other renames.
    commit: RwLock<()>,
}

impl fmt::Debug for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HdfsStore").field("place", &self.0.place).finish_non_exhaustive()
    }
}

impl HdfsStore {
    /// A store on a folder, a file (then its only key is the empty one) or a path that does not exist yet: folders are
    /// created with the first write. Reads the configuration files; sends nothing. Call it in a tokio runtime.
    ///
    /// # Errors
    /// When the configuration is missing, cannot be read, or names no NameNode.
    pub fn open(config: HdfsConfig) -> Result<Self, HdfsConfigError> {
        let HdfsConfig { authority, path, mut options, now_ns } = config;
        let failed = |why: String| HdfsConfigError(why);
        if authority.is_empty() {
            return Err(failed("name the NameNode or the name service, as in hdfs://host:port/path".into()));
        }
        let root = HdfsPath::root(&path).map_err(|why| failed(why.to_owned()))?;
        let mut builder = ClientBuilder::new().with_url(format!("hdfs://{authority}"));
        if let Some(folder) = options.remove("config_dir") {
            let has = |name: &&str| Path::new(&folder).join(name).is_file();
            if !CONFIG_FILES.iter().any(has) {
                return Err(failed(format!(
                    "the Hadoop configuration folder {folder} has neither core-site.xml nor hdfs-site.xml"
                )));
            }
            builder = builder.with_config_dir(folder);
        }
        if let Some(user) = options.remove("user") {
            builder = builder.with_user(user);
        }
        if let Some(principal) = options.remove("kerberos_principal") {
            builder = builder.with_kerberos_principal(principal);
        }
        if let Some(keytab) = options.remove("kerberos_keytab") {
            builder = builder.with_kerberos_keytab(keytab);
        }
        if let Some(cache) = options.remove("kerberos_cache") {
            builder = builder.with_kerberos_cache(cache);
        }
        for (name, value) in CLIENT_DEFAULTS {
            options.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let client = builder.with_config(options).build().map_err(|error| match error {
            HdfsError::InvalidArgument(why) if why.contains("No NameNode") => failed(format!(
                "{authority} is no name service of the Hadoop configuration (HADOOP_CONF_DIR); of a single NameNode name \
                 the port too, as in hdfs://{authority}:8020"
            )),
            error => failed(error.to_string()),
        })?;
        let capabilities = Capabilities {
            name: "hdfs",
            ordered_list: true,
            start_after: false,
            levels: false,
            list_goes_on: false,
            folders: true,
            conditional_create: true,
            conditional_replace: false,
            conditional_read: false,
            server_copy: false,
            max_copy_bytes: 0,
            lists_parts: false,
            etags: false,
            attributes: true,
            delete_batch: 1000,
            max_put_bytes: MAX_PUT_BYTES,
            time_step_ns: TIME_STEP_NS,
        };
        let place = format!("hdfs://{authority}{}", root.as_str());
        Ok(Self(Arc::new(Tree { place, root, client, capabilities, now_ns, commit: RwLock::new(()) })))
    }
}

fn mtime_ns(status: &FileStatus) -> i64 {
    i64::try_from(status.modification_time).unwrap_or(i64::MAX).saturating_mul(TIME_STEP_NS)
}

impl Tree {
    fn error(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        kind: StoreErrorKind,
        detail: impl Into<String>,
    ) -> StoreError {
        StoreError::new(operation, &self.place, kind, detail).on(key)
    }

    fn fail(&self, operation: &'static str, key: &ObjectKey, error: HdfsError) -> StoreError {
        let (kind, detail) = errors::classify(&error);
        let failed = self.error(operation, key, kind, detail);
        match error {
            HdfsError::IOError(error) => failed.because(error),
            // The detail says it all; the NameNode's stack trace would follow.
            _ => failed,
        }
    }

    /// The error of a call that did not come back in time.
    fn late(&self, operation: &'static str, key: &ObjectKey) -> StoreError {
        self.error(operation, key, StoreErrorKind::Timeout, "HDFS does not answer")
    }

    /// One call, bounded in time.
    async fn call<T>(
        &self,
        operation: &'static str,
        key: &ObjectKey,
        limit: Duration,
        call: impl Future<Output = Result<T, HdfsError>>,
    ) -> Result<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| self.fail(operation, key, error)),
            Err(_) => Err(self.late(operation, key)),
        }
    }

    /// The path of a key.
    fn path(&self, operation: &'static str, key: &ObjectKey) -> Result<HdfsPath> {
        self.root.below(key).map_err(|why| self.error(operation, key, StoreErrorKind::InvalidKey, why))
    }

    /// What stands at a path. Something below a file is not there.
    async fn status(&self, operation: &'static str, key: &ObjectKey, path: &HdfsPath) -> Result<FileStatus> {
        let found = self.call(operation, key, CALL_LIMIT, self.client.get_file_info(path.as_str())).await;
        found.map_err(|mut error| {
            if error.kind == StoreErrorKind::KindConflict {
                error.kind = StoreErrorKind::NotFound;
            }
            error
        })
    }

    /// The identity that a listing tells of a file with this status.
    fn fingerprint(&self, status: &FileStatus) -> Fingerprint {
        let mtime_ns = mtime_ns(status);
        Fingerprint {
            size_bytes: if status.isdir { 0 } else { status.length as u64 },
            mtime_ns: Some(mtime_ns),
            racy: mtime_ns > (self.now_ns)().saturating_sub(RACY_NS),
            ..Fingerprint::default()
        }
    }

    fn info(&self, status: &FileStatus) -> ObjectInfo {
        let attributes = [
            (MTIME.to_owned(), format_mtime(mtime_ns(status))),
            (MODE.to_owned(), format!("{:04o}", u32::from(status.permission) & PERMISSION_BITS)),
        ];
        ObjectInfo {
            kind: if status.isdir { EntryKind::Folder } else { EntryKind::Object },
            fingerprint: self.fingerprint(status),
            attributes: attributes.into(),
            checksum: None,
        }
    }
}

/// A listing between its walking task and its reader.
enum Listing {
    Ready(Arc<Tree>, ListOptions),
    Running(Arc<Tree>, mpsc::Receiver<Vec<Listed>>, JoinHandle<Result<()>>),
    Done,
}

impl Listing {
    /// The next batch. The listing is whole only if the task itself said so: a task that was lost is an error.
    async fn next(self) -> Option<(Result<Vec<Listed>>, Listing)> {
        let (tree, mut batches, walk) = match self {
            Listing::Ready(tree, options) => {
                let (send, batches) = mpsc::channel(LIST_QUEUE);
                let walking = Walk::new(Arc::clone(&tree), options);
                (tree, batches, tokio::spawn(send_all(walking, send)))
            }
            Listing::Running(tree, batches, walk) => (tree, batches, walk),
            Listing::Done => return None,
        };
        if let Some(batch) = batches.recv().await {
            return Some((Ok(batch), Listing::Running(tree, batches, walk)));
        }
        let lost = match walk.await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => return Some((Err(error), Listing::Done)),
            Err(lost) => lost,
        };
        let kind = if lost.is_cancelled() { StoreErrorKind::Cancelled } else { StoreErrorKind::Other };
        let error = StoreError::new("list", &tree.place, kind, "the task that did it ended early").because(lost);
        Some((Err(error), Listing::Done))
    }
}

/// Sends a whole listing; ends early, without an error, when nobody listens any more.
async fn send_all(mut walk: Walk, batches: mpsc::Sender<Vec<Listed>>) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH_ENTRIES);
    while let Some(met) = walk.next().await? {
        if let Met::Entry(listed) = met {
            batch.push(listed);
        }
        if batch.len() == BATCH_ENTRIES {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_ENTRIES));
            if batches.send(full).await.is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        // Nobody listens: then nobody misses it.
        let _ = batches.send(batch).await;
    }
    Ok(())
}

#[async_trait]
impl Store for HdfsStore {
    fn place(&self) -> &str {
        &self.0.place
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        stream::unfold(Listing::Ready(Arc::clone(&self.0), options), Listing::next).boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let path = self.0.path("look up", key)?;
        Ok(self.0.info(&self.0.status("look up", key, &path).await?))
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.0.get(key, options).await
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.0.put(key, &body, options).await
    }

    async fn create_upload(&self, key: &ObjectKey, _size_bytes: u64, _options: &PutOptions) -> Result<UploadId> {
        self.0.create_upload(key).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.0.put_part(key, upload, part, &body).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.0.check_upload("look up an upload of", key, upload).await?;
        Ok(Vec::new())
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        self.0.read_part(key, upload, part).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.0.complete_upload(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.0.abort_upload(key, upload).await
    }

    fn origin(&self) -> Option<Origin> {
        None
    }

    fn copies_from(&self, _: &Origin) -> Option<u64> {
        None
    }

    async fn copy(&self, _: &CopySource<'_>, to: &ObjectKey, _: &PutOptions) -> Result<Written> {
        Err(self.0.error("copy", to, StoreErrorKind::Unsupported, "HDFS copies nothing by itself"))
    }

    async fn copy_part(&self, _: &CopySource<'_>, to: &ObjectKey, _: &UploadId, _: PartSpec) -> Result<UploadedPart> {
        Err(self.0.error("copy a part of", to, StoreErrorKind::Unsupported, "HDFS copies nothing by itself"))
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        self.0.delete(keys).await
    }
}

#[async_trait]
impl Sweep for HdfsStore {
    async fn leftovers(&self, min_age: Duration, within: Option<Arc<Folders>>) -> Result<Vec<Leftover>> {
        remove::leftovers(&self.0, min_age, within).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        self.0.remove_leftover(leftover).await
    }

    async fn missing_folders(&self) -> Result<usize> {
        self.0.missing_folders().await
    }

    async fn remove_made_folders(&self, count: usize) -> Result<()> {
        self.0.remove_made_folders(count).await
    }
}
