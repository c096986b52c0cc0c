//! One side of a faulty run: a store, and what the test itself writes and reads there behind the faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use distcp::store::local::{LocalOptions, LocalStore, SyncMode};
use distcp::store::memory::MemoryStore;
use distcp::store::{ListOptions, Store, UploadId};
use manifest::ObjectKey;
use tempfile::TempDir;
use tests::contract::{list_all, put};
use tests::trees::{path_of, set_mtime, snapshot};

/// Keys and their bytes.
pub type Contents = BTreeMap<ObjectKey, Vec<u8>>;

/// What a side is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bucket in memory.
    Memory,
    /// A bucket in memory, of a service that copies between its buckets, at most [`MOST_COPIED`] in one step.
    Service,
    /// A folder.
    Local,
}

/// What the service copies in one step.
const MOST_COPIED: u64 = 1 << 20;

/// The time of the next change: files that the test writes have times of their own, long ago.
#[derive(Debug, Default)]
pub struct Dated(u64);

impl Dated {
    fn next(&mut self) -> SystemTime {
        self.0 += 1;
        UNIX_EPOCH + Duration::from_secs(1_600_000_000 + self.0)
    }
}

/// A side without faults.
pub struct Side {
    /// Its store.
    pub store: Arc<dyn Store>,
    /// It as a folder of this machine.
    pub local: Option<LocalStore>,
    memory: Option<MemoryStore>,
    folder: Option<TempDir>,
}

/// An hour from now: no file of the test is young (rule 13).
fn later_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + Duration::from_secs(3600);
    i64::try_from(now.as_nanos()).expect("before 2262")
}

impl Side {
    /// An empty side.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Memory | Kind::Service => {
                let memory = match kind {
                    Kind::Service => {
                        MemoryStore::with_capabilities(|can| can.max_copy_bytes = MOST_COPIED).of_service("m")
                    }
                    _ => MemoryStore::new(),
                };
                Self { store: Arc::new(memory.clone()), local: None, memory: Some(memory), folder: None }
            }
            Kind::Local => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let options = LocalOptions { sync: SyncMode::Never, now_ns: later_ns, ..LocalOptions::default() };
                let store = LocalStore::open(folder.path(), options).expect("it is there");
                Self { store: Arc::new(store.clone()), local: Some(store), memory: None, folder: Some(folder) }
            }
        }
    }

    /// Writes one object as another program would.
    pub async fn write(&self, key: &ObjectKey, body: &[u8], dated: &mut Dated) {
        let Some(folder) = &self.folder else {
            put(self.store.as_ref(), key.as_str().expect("the test's keys are text"), body.to_vec()).await;
            return;
        };
        let path = path_of(folder.path(), key.as_bytes());
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        std::fs::write(&path, body).expect("a file");
        set_mtime(&path, dated.next());
    }

    /// Removes one object as another program would.
    pub async fn remove(&self, key: &ObjectKey) {
        for answer in self.store.delete(std::slice::from_ref(key)).await {
            answer.expect("no faults here");
        }
    }

    /// All that the store lists, with its bytes as they really are.
    pub async fn contents(&self) -> Contents {
        let Some(folder) = &self.folder else {
            let objects = self.memory.as_ref().expect("one of the two").objects();
            return objects.into_iter().map(|(key, body)| (key, body.to_vec())).collect();
        };
        let listed = list_all(self.store.as_ref(), ListOptions::default()).await;
        let read = |key: &ObjectKey| std::fs::read(path_of(folder.path(), key.as_bytes())).expect("a listed file");
        listed.into_iter().map(|listed| (listed.key.clone(), read(&listed.key))).collect()
    }

    /// The ids of unfinished uploads, where the store lists them.
    pub fn uploads(&self) -> Vec<UploadId> {
        self.memory.as_ref().map(MemoryStore::uploads).unwrap_or_default()
    }

    /// No temporary file stands beside what the store lists (case 24).
    pub fn assert_nothing_left_over(&self) {
        let Some(folder) = &self.folder else { return };
        let files = snapshot(folder.path()).into_iter().filter(|(_, node)| node.kind == "file");
        let left: Vec<String> = files
            .map(|(key, _)| String::from_utf8_lossy(&key).into_owned())
            .filter(|key| key.contains(".understudy-"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
}
