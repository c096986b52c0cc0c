//! A process that is gone: one switch over all the stores of a run, and a state that obeys it.
//!
//! What was done before the crash stays done; after it nothing is read or written any more. The lease file stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use manifest::state::{Lasting, StateItem, StateStore, Tag};
use manifest::{Class, Error, Result};

/// Kills a run after a number of changes, over all stores that share it: then every call fails as
/// [`StoreErrorKind::Cancelled`](distcp::store::StoreErrorKind::Cancelled), as if the process had been gone.
#[derive(Debug)]
pub struct CrashSwitch {
    left: AtomicU64,
    crashed: AtomicBool,
    mutations: AtomicU64,
    /// The answer to the last change still arrives; the crash comes when the next one is tried.
    answers_last: bool,
}

impl CrashSwitch {
    /// Crashes once `n` mutating calls were made and the last of them is done; with 0 at once. Its answer is lost.
    pub fn after(n: u64) -> Arc<Self> {
        Self::new(n, n == 0, false)
    }

    /// Crashes when one more mutating call than `n` is made, before anything of it is done.
    pub fn before(n: u64) -> Arc<Self> {
        Self::new(n, false, true)
    }

    /// Never crashes, only counts.
    pub fn never() -> Arc<Self> {
        Self::after(u64::MAX)
    }

    fn new(left: u64, crashed: bool, answers_last: bool) -> Arc<Self> {
        let (left, crashed) = (AtomicU64::new(left), AtomicBool::new(crashed));
        Arc::new(Self { left, crashed, mutations: AtomicU64::new(0), answers_last })
    }

    /// Whether it has happened.
    pub fn crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// How many mutating calls were let through.
    pub fn mutations(&self) -> u64 {
        self.mutations.load(Ordering::SeqCst)
    }

    /// Takes one of the calls that are left; false when there is none.
    pub(crate) fn enter(&self) -> bool {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if taken {
            self.mutations.fetch_add(1, Ordering::SeqCst);
        } else {
            self.crashed.store(true, Ordering::SeqCst);
        }
        taken && !self.crashed()
    }

    /// Called when a change is done: the last one that was left is the crash.
    pub(crate) fn leave(&self) {
        if self.left.load(Ordering::SeqCst) == 0 && !self.answers_last {
            self.crashed.store(true, Ordering::SeqCst);
        }
    }
}

/// A state that crashes with others. What kind of state it is (of this machine or not) it leaves to the inner one.
#[derive(Debug)]
pub struct CrashingState {
    inner: Arc<dyn StateStore>,
    crash: Arc<CrashSwitch>,
}

impl CrashingState {
    /// `inner`, until the crash.
    pub fn new(inner: Arc<dyn StateStore>, crash: Arc<CrashSwitch>) -> Self {
        Self { inner, crash }
    }

    fn alive(&self, name: &str) -> Result<()> {
        if self.crash.crashed() { Err(self.gone(name)) } else { Ok(()) }
    }

    fn gone(&self, name: &str) -> Error {
        Error::State {
            operation: "use",
            name: name.to_owned(),
            place: self.inner.place(),
            reason: "the process is gone".into(),
            class: Class::Cancelled,
            permission: false,
        }
    }

    async fn change<T: Send>(&self, name: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.alive(name)?;
        if !self.crash.enter() {
            return Err(self.gone(name));
        }
        let answer = work.await;
        self.crash.leave();
        self.alive(name)?;
        answer
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StateStore for CrashingState {
    fn place(&self) -> String {
        self.inner.place()
    }

    async fn get(&self, name: &str) -> Result<Option<(Bytes, Tag)>> {
        self.alive(name)?;
        self.inner.get(name).await
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>> {
        self.alive(name)?;
        self.inner.read(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<Option<Tag>> {
        self.change(name, self.inner.create(name, bytes)).await
    }

    async fn swap(&self, name: &str, bytes: Bytes, expected: &Tag) -> Result<Option<Tag>> {
        self.change(name, self.inner.swap(name, bytes, expected)).await
    }

    async fn create_as(&self, name: &str, bytes: Bytes, lasting: Lasting) -> Result<Option<Tag>> {
        self.change(name, self.inner.create_as(name, bytes, lasting)).await
    }

    async fn swap_as(&self, name: &str, bytes: Bytes, expected: &Tag, lasting: Lasting) -> Result<Option<Tag>> {
        self.change(name, self.inner.swap_as(name, bytes, expected, lasting)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StateItem>> {
        self.alive(prefix)?;
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.change(name, self.inner.delete(name)).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.alive(prefix)?;
        self.inner.folders(prefix).await
    }

    fn is_this_machine(&self) -> bool {
        self.inner.is_this_machine()
    }

    async fn sweep_leftovers(&self, prefix: &str, older_than: Duration) -> Result<u64> {
        self.change(prefix, self.inner.sweep_leftovers(prefix, older_than)).await
    }
}

/// The bytes of a lease as a process that is gone would have left them: its pid belongs to another one now.
///
/// # Panics
/// If they are not those of a lease.
pub fn bury(lease: &[u8]) -> Vec<u8> {
    const START: &str = "\"process_start\": ";
    const SEAL: &str = ",\n  \"digest\": \"";
    let text = std::str::from_utf8(lease).expect("a lease is text");
    let (content, _) = text.rsplit_once(SEAL).expect("a lease is sealed");
    let (before, rest) = content.split_once(START).expect("a lease says when its process started");
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let content = format!("{before}{START}1{after}");
    let digest = blake3::hash(content.as_bytes()).to_hex();
    format!("{content}{SEAL}{digest}\"\n}}\n").into_bytes()
}
