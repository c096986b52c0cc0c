//! The store contract, over every store.

use std::sync::Arc;

use distcp::store::Store;
use distcp::store::local::{LinkMode, LocalOptions, LocalStore, SyncMode};
use distcp::store::memory::MemoryStore;
use tests::contract::store_contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_folder_keeps_the_store_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicU32::new(0);
    for links in [LinkMode::Skip, LinkMode::Preserve] {
        store_contract(|| async {
            let number = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let root = scratch.path().join(number.to_string());
            std::fs::create_dir(&root).unwrap();
            let options = LocalOptions { links, sync: SyncMode::Never, ..LocalOptions::default() };
            Arc::new(LocalStore::open(&root, options).unwrap()) as Arc<dyn Store>
        })
        .await;
    }
}

#[tokio::test]
async fn memory_keeps_the_store_contract() {
    store_contract(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
}

#[tokio::test]
async fn memory_without_part_lists_keeps_the_store_contract() {
    let make = || async {
        let store = MemoryStore::with_capabilities(|capabilities| {
            capabilities.lists_parts = false;
            capabilities.conditional_create = false;
            capabilities.conditional_replace = false;
            capabilities.server_copy = false;
        });
        Arc::new(store) as Arc<dyn Store>
    };
    store_contract(make).await;
}
