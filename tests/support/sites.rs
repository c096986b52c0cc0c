//! The kinds of stores that tests can have, so that a case can be run on any pair of them: all for real but Google Cloud
//! Storage, which is a stand-in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use distcp::store::azure::{AzureConfig, AzureStore};
use distcp::store::gcs::{GcsConfig, GcsStore};
use distcp::store::hdfs::{HdfsConfig, HdfsStore};
use distcp::store::local::{LocalOptions, LocalStore, SyncMode};
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::s3::{S3Config, S3Store};
use distcp::store::{GetOptions, ListOptions, PutOptions, Store};
use futures::StreamExt as _;
use manifest::{EntryKind, ObjectKey};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::contract::{list_all, read};
use crate::gcs::{BUCKET, Gcs, TOKEN};
use crate::services::{self, Azure, S3};

/// Objects that are written or read at once: a file of HDFS takes half a second to close.
const AT_ONCE: usize = 16;

/// A kind of store, and the server that it needs.
#[derive(Clone)]
pub enum Site {
    /// A folder.
    Local,
    /// A prefix on the S3 server.
    S3(S3),
    /// A bucket of the stand-in for Google Cloud Storage.
    Gcs,
    /// A container on the Azure server.
    Azure(Azure),
    /// A folder on the NameNode.
    Hdfs(String),
}

impl Site {
    /// All kinds; those whose server cannot be had on this machine are recorded as skipped and left out.
    pub fn all() -> Vec<Site> {
        let servers =
            [services::s3().map(Site::S3), services::azure().map(Site::Azure), services::hdfs().map(Site::Hdfs)];
        [Site::Local, Site::Gcs].into_iter().chain(servers.into_iter().flatten()).collect()
    }

    /// Its name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Site::Local => "local",
            Site::S3(_) => "s3",
            Site::Azure(_) => "azure",
            Site::Gcs => "gcs",
            Site::Hdfs(_) => "hdfs",
        }
    }

    /// An empty tree. Its clock is ahead by a few seconds, so that what was just written counts as old enough to be trusted
    /// (rule 13).
    ///
    /// # Panics
    /// If the server does not make it.
    pub async fn fresh(&self) -> Tree {
        let unique: u64 = rand::random();
        let name = format!("pairs-{unique:x}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = None;
        let store: Arc<dyn Store> = match self {
            Site::Local => {
                let options = LocalOptions {
                    create_root: true,
                    sync: SyncMode::Never,
                    now_ns: soon_ns,
                    ..LocalOptions::default()
                };
                Arc::new(LocalStore::open(folder.path(), options).expect("a folder that can be opened"))
            }
            Site::S3(server) => {
                let options = BTreeMap::from([
                    ("endpoint".to_owned(), server.endpoint.clone()),
                    ("access_key_id".to_owned(), server.access_key.clone()),
                    ("secret_access_key".to_owned(), server.secret_key.clone()),
                ]);
                let bucket = server.bucket.clone();
                Arc::new(
                    S3Store::open(S3Config { bucket, prefix: name.as_str().into(), options, ..S3Config::default() })
                        .expect("a bucket that can be opened"),
                )
            }
            Site::Azure(server) => {
                let options = BTreeMap::from([
                    ("endpoint".to_owned(), server.endpoint.clone()),
                    ("account_key".to_owned(), server.key.clone()),
                ]);
                let container = server.fresh_container("pairs");
                let account = Some(server.account.clone());
                Arc::new(
                    AzureStore::open(AzureConfig { account, container, options, ..AzureConfig::default() })
                        .expect("a container that can be opened"),
                )
            }
            Site::Gcs => {
                let started = server.insert(Gcs::start());
                let options = BTreeMap::from([
                    ("base_url".to_owned(), started.endpoint()),
                    ("bearer_token".to_owned(), TOKEN.to_owned()),
                ]);
                Arc::new(
                    GcsStore::open(GcsConfig { bucket: BUCKET.into(), options, ..GcsConfig::default() })
                        .expect("a bucket that can be opened"),
                )
            }
            Site::Hdfs(server) => {
                let open = |path: &str| {
                    let (authority, options) = (server.clone(), BTreeMap::new());
                    HdfsStore::open(HdfsConfig { authority, path: path.into(), options, now_ns: soon_ns })
                        .expect("a folder that can be opened")
                };
                let made = PutOptions { kind: EntryKind::Folder, ..PutOptions::default() };
                open("").put(&name.as_str().into(), Bytes::new().into(), &made).await.expect("it is made");
                Arc::new(open(&name))
            }
        };
        let store = match self {
            Site::Local | Site::Gcs => store,
            // A server that closes a connection just when it is used again is asked again, as every program does; faults
            // that a case is about are injected above this.
            Site::S3(_) | Site::Azure(_) | Site::Hdfs(_) => again(store),
        };
        Tree { store, _folder: folder, _server: server }
    }
}

fn again(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Retried::new(store, RetryPolicy::default(), 1, Arc::default(), CancellationToken::new()))
}

/// A tree of one test.
pub struct Tree {
    /// The store.
    pub store: Arc<dyn Store>,
    _folder: TempDir,
    _server: Option<Gcs>,
}

impl Tree {
    /// Writes objects, many at once.
    ///
    /// # Panics
    /// If one cannot be written.
    pub async fn fill(&self, objects: &[(String, Bytes)]) {
        let writes = objects.iter().map(|(key, body)| async move {
            let key = ObjectKey::from(key.as_str());
            let written = self.store.put(&key, body.clone().into(), &PutOptions::default()).await;
            written.unwrap_or_else(|error| panic!("put {key:?}: {error}"));
        });
        futures::stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Every object with its bytes.
    ///
    /// # Panics
    /// If one cannot be read.
    pub async fn objects(&self) -> BTreeMap<ObjectKey, Bytes> {
        let reads = list_all(&*self.store, ListOptions::default()).await.into_iter().map(|listed| async move {
            let body = read(&*self.store, &listed.key, GetOptions::default()).await;
            let body = body.unwrap_or_else(|error| panic!("{:?}: {error}", listed.key));
            (listed.key, body)
        });
        futures::stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await
    }
}

fn soon_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    now.as_nanos() as i64 + 5_000_000_000
}
