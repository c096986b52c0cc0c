//! What programs that embed a copy can ask for: only some folders of a tree, and a word between copies and deletes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use distcp::copy::Ends;
use distcp::exit::ExitCode;
use distcp::job::Gate;
use distcp::list::within::Within;
use distcp::store::memory::MemoryStore;
use manifest::ObjectKey;
use tests::contract::put;
use tests::jobs::Pair;

/// Says what it is told to, and remembers what it saw.
struct Word {
    proceed: bool,
    target: MemoryStore,
    copied: AtomicU64,
}

#[async_trait::async_trait]
impl Gate for Word {
    async fn copied(&self, ends: &Ends) -> bool {
        let keys = self.target.objects();
        assert!(keys.contains_key(&ObjectKey::from("db/new")), "copies come before the gate");
        assert!(keys.contains_key(&ObjectKey::from("db/old")), "deletes come after the gate");
        self.copied.fetch_add(ends.copied, Ordering::Relaxed);
        self.proceed
    }
}

async fn filled(keys: &[&str]) -> MemoryStore {
    let store = MemoryStore::new();
    for key in keys {
        put(&store, key, Bytes::from((*key).to_owned())).await;
    }
    store
}

#[tokio::test]
async fn deletes_wait_for_the_gate_and_follow_its_word() {
    for proceed in [true, false] {
        let (source, target) = (filled(&["db/new", "db/same"]).await, filled(&["db/old", "db/same"]).await);
        let gate = Arc::new(Word { proceed, target: target.clone(), copied: AtomicU64::new(0) });
        let mut pair = Pair::new(Arc::new(source), Arc::new(target.clone()));
        pair.options.delete = true;
        pair.gate = Some(gate.clone());
        let report = pair.copy().await;
        assert!(gate.copied.load(Ordering::Relaxed) >= 1);
        let (code, kept) = if proceed { (ExitCode::Done, false) } else { (ExitCode::Partial, true) };
        assert_eq!(report.summary.exit_code, code, "{report:?}");
        assert_eq!(target.objects().contains_key(&ObjectKey::from("db/old")), kept);
    }
}

#[tokio::test]
async fn what_is_in_no_folder_of_the_job_is_neither_copied_nor_deleted() {
    let source = filled(&["db/a/1", "db/b/1", "db/ab/1", "other/1"]).await;
    let target = filled(&["db/a/gone", "db/b/mine", "db/a-b/mine"]).await;
    let mut pair = Pair::new(Arc::new(source), Arc::new(target.clone()));
    pair.options.delete = true;
    pair.within = Some(Within::new([ObjectKey::from("db/a")]));
    let report = pair.copied().await;
    assert_eq!((report.summary.counts.copied, report.summary.counts.deleted, report.summary.counts.listed), (1, 1, 2));
    let keys: Vec<String> = target.objects().keys().map(|key| key.escaped().to_string()).collect();
    assert_eq!(keys, ["db/a-b/mine", "db/a/1", "db/b/mine"]);
}
