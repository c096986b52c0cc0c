//! The contract that every [`StateStore`] keeps, as tests; and a decorator that loses answers.
//!
//! For tests only (feature `testing`): here, for each adapter, and for the remote stores of other crates. Panics where a
//! promise is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{StateItem, StateStore, Tag};
use crate::error::{Class, Error, Result};

/// How many tasks race in [`state_store_contract`].
const RACERS: u64 = 16;
/// How many races there are of each kind.
const ROUNDS: u64 = 5;

/// Runs the whole contract over an empty store; leaves it empty.
pub async fn state_store_contract(store: Arc<dyn StateStore>) {
    missing_files(&*store).await;
    create_get_swap_delete(&*store).await;
    lists_and_folders(&*store).await;
    for round in 0..ROUNDS {
        race(&store, &format!("race/create-{round}"), None).await;
        let name = format!("race/swap-{round}");
        let tag = store.create(&name, text("start")).await.unwrap().unwrap();
        race(&store, &name, Some(tag)).await;
    }
    readers_see_whole_files(&store).await;
    super::probe::probe(&*store).await.unwrap();
    for item in store.list("").await.unwrap() {
        store.delete(&item.name).await.unwrap();
    }
    assert_eq!(store.list("").await.unwrap(), vec![]);
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn content(store: &dyn StateStore, name: &str) -> Option<Bytes> {
    store.get(name).await.unwrap().map(|(bytes, _)| bytes)
}

async fn missing_files(store: &dyn StateStore) {
    assert_eq!(store.get("job/none").await.unwrap(), None);
    assert_eq!(store.read("job/none").await.unwrap(), None);
    assert_eq!(store.swap("job/none", text("x"), &Tag("0".into())).await.unwrap(), None);
    store.delete("job/none").await.unwrap();
    assert_eq!(store.list("").await.unwrap(), vec![]);
    assert_eq!(store.list("job/").await.unwrap(), vec![]);
    assert_eq!(store.folders("").await.unwrap(), Vec::<String>::new());
}

async fn create_get_swap_delete(store: &dyn StateStore) {
    let name = "job/file.json";
    let first = store.create(name, text("one")).await.unwrap().expect("creates what is not there");
    assert_eq!(store.get(name).await.unwrap(), Some((text("one"), first.clone())));
    assert_eq!(store.create(name, text("two")).await.unwrap(), None, "creates over an existing file");
    assert_eq!(content(store, name).await, Some(text("one")));

    let second = store.swap(name, text("two"), &first).await.unwrap().expect("swaps what is unchanged");
    assert_eq!(store.get(name).await.unwrap(), Some((text("two"), second.clone())));
    assert_eq!(store.read(name).await.unwrap(), Some(text("two")));
    assert_eq!(store.swap(name, text("three"), &first).await.unwrap(), None, "swaps with a stale tag");
    assert_eq!(content(store, name).await, Some(text("two")));
    let empty = store.swap(name, Bytes::new(), &second).await.unwrap().expect("empty files are files");
    assert_eq!(store.get(name).await.unwrap(), Some((Bytes::new(), empty.clone())));

    store.delete(name).await.unwrap();
    store.delete(name).await.unwrap();
    assert_eq!(store.get(name).await.unwrap(), None);
    assert_eq!(store.swap(name, text("four"), &empty).await.unwrap(), None, "swaps a deleted file");
    assert!(store.create(name, text("five")).await.unwrap().is_some());
    store.delete(name).await.unwrap();
}

async fn lists_and_folders(store: &dyn StateStore) {
    let names = ["a/x", "a/y/z", "a-2/x", "b/runs/r/1", "top"];
    for name in names {
        store.create(name, text(name)).await.unwrap().unwrap();
    }
    let listed = async |prefix: &str| -> BTreeSet<(String, u64)> {
        let items = store.list(prefix).await.unwrap();
        let set: BTreeSet<_> = items.iter().map(|item| (item.name.clone(), item.size_bytes)).collect();
        assert_eq!(set.len(), items.len(), "a name twice");
        set
    };
    let expected = |names: &[&str]| names.iter().map(|name| (name.to_string(), name.len() as u64)).collect();
    assert_eq!(listed("").await, expected(&names));
    assert_eq!(listed("a/").await, expected(&["a/x", "a/y/z"]));
    assert_eq!(listed("a/y/").await, expected(&["a/y/z"]));
    assert_eq!(listed("c/").await, expected(&[]));
    assert_eq!(store.folders("").await.unwrap(), ["a", "a-2", "b"]);
    assert_eq!(store.folders("b/").await.unwrap(), ["runs"]);
    for name in names {
        store.delete(name).await.unwrap();
    }
}

/// Exactly one of many creators, or swappers, wins, and the file is the winner's.
async fn race(store: &Arc<dyn StateStore>, name: &str, expected: Option<Tag>) {
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let (store, name, expected) = (Arc::clone(store), name.to_owned(), expected.clone());
        racers.spawn(async move {
            let bytes = text(&format!("racer {racer}"));
            let won = match &expected {
                None => store.create(&name, bytes.clone()).await.unwrap(),
                Some(tag) => store.swap(&name, bytes.clone(), tag).await.unwrap(),
            };
            won.map(|tag| (bytes, tag))
        });
    }
    let winners: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "winners of {name}: {winners:?}");
    assert_eq!(store.get(name).await.unwrap().as_ref(), winners.first(), "the winner's bytes stand there");
}

/// Readers beside a writer see one of the written contents, never a mixture or a part.
async fn readers_see_whole_files(store: &Arc<dyn StateStore>) {
    const LENGTH: usize = 100_000;
    let name = "atomic/file";
    let letters = b"abcdefgh";
    let mut tag = store.create(name, Bytes::from(vec![b'a'; LENGTH])).await.unwrap().unwrap();
    let reader = Arc::clone(store);
    let mut readers = JoinSet::new();
    readers.spawn(async move {
        for _ in 0..50 {
            let (bytes, _) = reader.get(name).await.unwrap().expect("a swapped file is always there");
            assert_eq!(bytes.len(), LENGTH);
            assert!(bytes.iter().all(|byte| Some(byte) == bytes.first()));
            tokio::task::yield_now().await;
        }
    });
    for letter in letters.iter().cycle().take(40) {
        tag = store.swap(name, Bytes::from(vec![*letter; LENGTH]), &tag).await.unwrap().unwrap();
    }
    readers.join_all().await;
}

/// Flips each bit position class and cuts at each length: `refused` must be true for all of them.
pub fn assert_every_corruption_is_found(bytes: &[u8], refused: impl Fn(&[u8]) -> bool) {
    assert!(!refused(bytes), "the undamaged bytes are refused");
    for at in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bad = bytes.to_vec();
            bad[at] ^= flip;
            assert!(refused(&bad), "byte {at} ^ {flip:#x} was not noticed");
        }
        assert!(refused(&bytes[..at]), "a cut at {at} was not noticed");
    }
    for extra in [&b"\n"[..], b" ", b"{}"] {
        assert!(refused(&[bytes, extra].concat()), "{extra:?} at the end was not noticed");
    }
}

/// What a [`FlakyState`] does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The work is done.
    None,
    /// The work is done, and the answer is lost.
    LoseAnswer,
    /// The call fails before any work.
    Fail,
}

/// Which fault a call gets: by the operation (`get`, `create`, `swap`, `list`, `delete`), the file's name, and how many
/// calls there were before.
pub type FaultRule = Box<dyn Fn(&'static str, &str, u64) -> Fault + Send + Sync>;

/// A store whose answers get lost, by rule. All faults are retryable errors.
pub struct FlakyState {
    inner: Arc<dyn StateStore>,
    rule: FaultRule,
    calls: AtomicU64,
}

impl std::fmt::Debug for FlakyState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlakyState").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FlakyState {
    /// Puts `rule` before `inner`.
    pub fn new(
        inner: Arc<dyn StateStore>,
        rule: impl Fn(&'static str, &str, u64) -> Fault + Send + Sync + 'static,
    ) -> Self {
        Self { inner, rule: Box::new(rule), calls: AtomicU64::new(0) }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let fault = (self.rule)(operation, name, self.calls.fetch_add(1, Ordering::SeqCst));
        if fault != Fault::Fail {
            let answer = work.await?;
            if fault == Fault::None {
                return Ok(answer);
            }
        }
        Err(Error::State {
            operation,
            name: name.to_owned(),
            place: self.place(),
            reason: format!("injected: {fault:?}"),
            class: Class::Retryable,
            permission: false,
        })
    }
}

#[async_trait]
impl StateStore for FlakyState {
    fn place(&self) -> String {
        self.inner.place()
    }
    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
        self.call("get", name, self.inner.get(name)).await
    }
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
        self.call("create", name, self.inner.create(name, bytes)).await
    }
    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
        self.call("swap", name, self.inner.swap(name, bytes, expected)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<StateItem>> {
        self.call("list", prefix, self.inner.list(prefix)).await
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.call("delete", name, self.inner.delete(name)).await
    }
    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.call("list", prefix, self.inner.folders(prefix)).await
    }
    fn is_this_machine(&self) -> bool {
        self.inner.is_this_machine()
    }
    async fn sweep_leftovers(&self, prefix: &str, older_than: Duration) -> Result<u64> {
        self.call("delete", prefix, self.inner.sweep_leftovers(prefix, older_than)).await
    }
}
