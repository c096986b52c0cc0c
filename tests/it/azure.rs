//! The Azure store against Azurite: every operation, odd keys, conditions, proofs, and the real binary on it. Each test
//! works in a container of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use distcp::store::azure::{AzureConfig, AzureStore};
use distcp::store::meter::{Meter, Metered};
use distcp::store::pace::{Pace, Paced, Timetable};
use distcp::store::retry::{Retried, RetryPolicy};
use distcp::store::state::ObjectState;
use distcp::store::{
    GetOptions, ListOptions, PartSpec, Precondition, Proof, PutOptions, Store, StoreErrorKind, UploadId,
};
use futures::TryStreamExt as _;
use manifest::{Attributes, EntryKind, ObjectKey};
use tests::cli::Shell;
use tests::contract::{pattern, store_contract};
use tests::services::{self, Azure};
use tokio_util::sync::CancellationToken;

/// Parts of this length are legal everywhere.
const PART_BYTES: usize = 5 << 20;

fn config(server: &Azure, container: &str, prefix: &str) -> AzureConfig {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("account_key".to_owned(), server.key.clone()),
    ]);
    AzureConfig {
        account: Some(server.account.clone()),
        container: container.to_owned(),
        prefix: prefix.into(),
        options,
        ..AzureConfig::default()
    }
}

/// A store on a fresh container.
fn open(server: &Azure, purpose: &str) -> AzureStore {
    AzureStore::open(config(server, &server.fresh_container(purpose), "root")).unwrap()
}

async fn keys(store: &AzureStore, options: ListOptions) -> BTreeSet<ObjectKey> {
    let pages: Vec<_> = store.list(options).try_collect().await.unwrap();
    pages.into_iter().flatten().map(|listed| listed.key).collect()
}

async fn body(store: &AzureStore, key: &ObjectKey, options: GetOptions) -> Bytes {
    let pieces: Vec<Bytes> = store.get(key, options).await.unwrap().body.try_collect().await.unwrap();
    pieces.concat().into()
}

fn when(precondition: Precondition) -> PutOptions {
    PutOptions { precondition, ..PutOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_store_contract() {
    let Some(server) = services::azure() else { return };
    store_contract(|| async { Arc::new(open(&server, "contract")) as Arc<dyn Store> }).await;
}
