//! A store that fails on purpose: seeded chance, rules aimed at one call, and a crash after the n-th write.
//!
//! [`FaultStore`] wraps any store and implements every method itself, so that no call escapes it. The same seed over the
//! same calls gives the same faults; print the store (`{:?}`) in a failing assertion to see the seed. Delays are tokio's
//! time: pause it in the test.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use distcp::store::{
    Capabilities, CopySource, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec, Payload,
    PutOptions, Result, Store, StoreError, StoreErrorKind, Timestamp, UploadId, UploadedPart, Written,
};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use manifest::{ChunkSize, Fingerprint, Listed, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

pub use crate::crash::CrashSwitch;
pub use plan::{Chances, Fault, FaultPlan, Method, Rule, STORM_CALLS};

mod plan;

/// A store around a store, that fails as planned. Clones share counts and dice.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    shared: Arc<Mutex<Shared>>,
    crash: Arc<CrashSwitch>,
}

struct Shared {
    plan: FaultPlan,
    dice: StdRng,
    /// How many calls each rule has matched, and when the first did.
    matched: Vec<(u64, Option<Instant>)>,
    storm_left: u64,
    faults: u64,
    calls: BTreeMap<Method, u64>,
    keys: BTreeMap<(Method, ObjectKey), u64>,
    succeeded: BTreeMap<Method, u64>,
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.lock();
        f.debug_struct("FaultStore")
            .field("seed", &shared.plan.seed)
            .field("faults", &shared.faults)
            .field("calls", &shared.calls)
            .field("inner", &self.inner)
            .finish()
    }
}

impl FaultStore {
    /// `inner` with the faults of `plan`.
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan) -> Self {
        Self::with_crash(inner, plan, CrashSwitch::never())
    }

    /// The same, that crashes with others.
    pub fn with_crash(inner: Arc<dyn Store>, plan: FaultPlan, crash: Arc<CrashSwitch>) -> Self {
        let shared = Shared {
            dice: StdRng::seed_from_u64(plan.seed),
            matched: vec![(0, None); plan.rules.len()],
            plan,
            storm_left: 0,
            faults: 0,
            calls: BTreeMap::new(),
            keys: BTreeMap::new(),
            succeeded: BTreeMap::new(),
        };
        Self { inner, shared: Arc::new(Mutex::new(shared)), crash }
    }

    /// `inner` with no fault: counts calls.
    pub fn counting(inner: Arc<dyn Store>) -> Self {
        Self::new(inner, FaultPlan::default())
    }

    /// How many calls of `method` were made (of a listing: batches asked for).
    pub fn calls(&self, method: Method) -> u64 {
        self.lock().calls.get(&method).copied().unwrap_or_default()
    }

    /// How many calls of `method` on `key` were made.
    pub fn calls_on(&self, method: Method, key: impl Into<ObjectKey>) -> u64 {
        self.lock().keys.get(&(method, key.into())).copied().unwrap_or_default()
    }

    /// How many calls of `method` were made and answered with success, as the caller saw it. What a server at load answers
    /// late or not at all, and is asked again, counts once.
    pub fn succeeded(&self, method: Method) -> u64 {
        self.lock().succeeded.get(&method).copied().unwrap_or_default()
    }

    /// How many calls changed the store, or tried to.
    pub fn mutating_calls(&self) -> u64 {
        self.lock().calls.iter().filter(|(method, _)| method.mutates()).map(|(_, n)| n).sum()
    }

    /// How many faults were met.
    pub fn faults(&self) -> u64 {
        self.lock().faults
    }

    /// Sets all counts to zero; rules and dice go on.
    pub fn reset_counts(&self) {
        let mut shared = self.lock();
        shared.calls.clear();
        shared.keys.clear();
        shared.succeeded.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no test panics while it holds this")
    }

    fn error(&self, method: Method, key: Option<&ObjectKey>, kind: StoreErrorKind) -> StoreError {
        let operation = match method {
            Method::List => "list",
            Method::Head => "look up",
            Method::Get | Method::ReadPart => "read",
            Method::Delete => "delete",
            Method::Copy | Method::CopyPart => "copy",
            _ => "write",
        };
        let error = StoreError::new(operation, self.inner.place(), kind, "a fault of the test");
        match key {
            Some(key) => error.on(key),
            None => error,
        }
    }

    /// Counts a call and says what goes wrong with it. Delays happen here.
    async fn enter(&self, method: Method, keys: &[&ObjectKey]) -> Result<Option<Fault>> {
        let fault = self.lock().fault(method, keys);
        let key = keys.first().copied();
        if self.crash.crashed() {
            return Err(self.error(method, key, StoreErrorKind::Cancelled));
        }
        match fault {
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Fail(kind)) => return Err(self.error(method, key, kind)),
            Some(Fault::LostAnswer) if !method.mutates() => {
                return Err(self.error(method, key, StoreErrorKind::Connection));
            }
            _ => {}
        }
        // After the delay: others may have crashed meanwhile.
        if self.crash.crashed() || (method.mutates() && !self.crash.enter()) {
            return Err(self.error(method, key, StoreErrorKind::Cancelled));
        }
        Ok(fault)
    }

    /// What the caller sees of a call that was made.
    fn answer<T>(&self, method: Method, key: &ObjectKey, fault: Option<Fault>, answer: Result<T>) -> Result<T> {
        if method.mutates() {
            self.crash.leave();
        }
        if self.crash.crashed() {
            return Err(self.error(method, Some(key), StoreErrorKind::Cancelled));
        }
        match fault {
            Some(Fault::LostAnswer) => Err(self.error(method, Some(key), StoreErrorKind::Connection)),
            _ => {
                if answer.is_ok() {
                    *self.lock().succeeded.entry(method).or_default() += 1;
                }
                answer
            }
        }
    }

    /// The bytes, one of them changed if that is the fault.
    fn damage(&self, fault: Option<Fault>, bytes: Bytes) -> Bytes {
        match fault {
            Some(Fault::FlipByte) if !bytes.is_empty() => {
                let mut damaged = bytes.to_vec();
                let at = self.lock().dice.random_range(0..damaged.len());
                damaged[at] ^= 0x20;
                damaged.into()
            }
            _ => bytes,
        }
    }
}

impl Shared {
    fn fault(&mut self, method: Method, keys: &[&ObjectKey]) -> Option<Fault> {
        *self.calls.entry(method).or_default() += 1;
        for key in keys {
            *self.keys.entry((method, (*key).clone())).or_default() += 1;
        }
        let mut aimed = None;
        for (rule, matched) in self.plan.rules.iter().zip(&mut self.matched) {
            let on_key = rule.key.as_ref().is_none_or(|wanted| keys.contains(&wanted));
            if rule.method == method && on_key {
                let (count, first) = matched;
                let before = *count;
                *count += 1;
                let passed = first.get_or_insert_with(Instant::now).elapsed();
                let in_time = rule.during.as_ref().is_none_or(|time| time.contains(&passed));
                let hit = in_time && before >= rule.skip && before - rule.skip < rule.times;
                aimed = aimed.or(hit.then_some(rule.fault));
            }
        }
        let fault = aimed.or_else(|| self.roll(method))?;
        if self.plan.max_faults.is_some_and(|most| self.faults >= most) {
            return None;
        }
        self.faults += 1;
        Some(fault)
    }

    fn roll(&mut self, method: Method) -> Option<Fault> {
        let chances = self.plan.chances;
        let slow_down = Fault::Fail(StoreErrorKind::Throttled);
        if self.storm_left > 0 {
            self.storm_left -= 1;
            return Some(slow_down);
        }
        let max_delay = if chances.max_delay.is_zero() { Duration::from_secs(1) } else { chances.max_delay };
        let delay = max_delay.mul_f64(self.dice.random_range(0.0..=1.0));
        let (reads, writes) = (matches!(method, Method::Get), matches!(method, Method::Put | Method::PutPart));
        let table = [
            (chances.delay, true, Fault::Delay(delay)),
            (chances.reset, true, Fault::Fail(StoreErrorKind::Connection)),
            (chances.storm, true, slow_down),
            (chances.lost_answer, method.mutates(), Fault::LostAnswer),
            (chances.truncate, reads, Fault::Truncate),
            (chances.flip_read, reads, Fault::FlipByte),
            (chances.flip_write, writes, Fault::FlipByte),
            (chances.repeat_batch, method == Method::List, Fault::RepeatBatch),
            (chances.reverse_batch, method == Method::List, Fault::ReverseBatch),
        ];
        for (chance, applies, fault) in table {
            // The dice are rolled even where the fault does not apply: one call more or less elsewhere shifts nothing.
            let hit = self.dice.random_bool(chance);
            if hit && applies {
                self.storm_left = if fault == slow_down { STORM_CALLS } else { 0 };
                return Some(fault);
            }
        }
        None
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for FaultStore {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        struct State {
            store: FaultStore,
            batches: BoxStream<'static, Result<Vec<Listed>>>,
            again: Option<Vec<Listed>>,
            over: bool,
        }
        let most = self.lock().plan.batch_keys.unwrap_or(usize::MAX).max(1);
        let cut = move |batch: Result<Vec<Listed>>| {
            stream::iter(match batch {
                Ok(batch) => batch.chunks(most).map(|keys| Ok(keys.to_vec())).collect(),
                Err(error) => vec![Err(error)],
            })
        };
        let batches = self.inner.list(options).flat_map(cut).boxed();
        let state = State { store: self.clone(), batches, again: None, over: false };
        stream::unfold(state, |mut state| async move {
            if state.over {
                return None;
            }
            if let Some(again) = state.again.take() {
                return Some((Ok(again), state));
            }
            let fault = match state.store.enter(Method::List, &[]).await {
                Ok(fault) => fault,
                Err(error) => {
                    state.over = true;
                    return Some((Err(error), state));
                }
            };
            let mut batch = match state.batches.next().await? {
                Ok(batch) => batch,
                Err(error) => {
                    state.over = true;
                    return Some((Err(error), state));
                }
            };
            match fault {
                Some(Fault::RepeatBatch) => state.again = Some(batch.clone()),
                Some(Fault::ReverseBatch) => batch.reverse(),
                _ => {}
            }
            Some((Ok(batch), state))
        })
        .boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        let fault = self.enter(Method::Head, &[key]).await?;
        let answer = self.inner.head(key).await;
        self.answer(Method::Head, key, fault, answer)
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let fault = self.enter(Method::Get, &[key]).await?;
        let length = options.range.as_ref().map(|range| range.end.saturating_sub(range.start));
        let answer = self.inner.get(key, options).await;
        let GetResult { info, body } = self.answer(Method::Get, key, fault, answer)?;
        let length = length.unwrap_or(info.fingerprint.size_bytes);
        let body = match fault {
            Some(Fault::Truncate) => {
                let error = self.error(Method::Get, Some(key), StoreErrorKind::Connection);
                truncated(body, length / 2, error)
            }
            Some(Fault::FlipByte) => {
                let store = self.clone();
                let mut fault = fault;
                body.map(move |block| Ok(store.damage(fault.take(), block?))).boxed()
            }
            _ => body,
        };
        Ok(GetResult { info, body })
    }

    /// What meddles with reading does so in [`Store::get`].
    async fn hash_range(
        &self,
        _: &ObjectKey,
        _: Range<u64>,
        _: &Fingerprint,
        _: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        Ok(None)
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        let fault = self.enter(Method::Put, &[key]).await?;
        let answer = self.inner.put(key, body.damaged(self.damage(fault, body.bytes().clone())), options).await;
        self.answer(Method::Put, key, fault, answer)
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        let fault = self.enter(Method::CreateUpload, &[key]).await?;
        let answer = self.inner.create_upload(key, size_bytes, options).await;
        self.answer(Method::CreateUpload, key, fault, answer)
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        let fault = self.enter(Method::PutPart, &[key]).await?;
        let answer =
            self.inner.put_part(key, upload, part, body.damaged(self.damage(fault, body.bytes().clone()))).await;
        self.answer(Method::PutPart, key, fault, answer)
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        let fault = self.enter(Method::ListParts, &[key]).await?;
        let answer = self.inner.list_parts(key, upload).await;
        self.answer(Method::ListParts, key, fault, answer)
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        let fault = self.enter(Method::ReadPart, &[key]).await?;
        let answer = self.inner.read_part(key, upload, part).await.map(|bytes| self.damage(fault, bytes));
        self.answer(Method::ReadPart, key, fault, answer)
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        let fault = self.enter(Method::CompleteUpload, &[key]).await?;
        let answer = self.inner.complete_upload(key, upload, parts, options).await;
        self.answer(Method::CompleteUpload, key, fault, answer)
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let fault = self.enter(Method::AbortUpload, &[key]).await?;
        let answer = self.inner.abort_upload(key, upload).await;
        self.answer(Method::AbortUpload, key, fault, answer)
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin()
    }

    fn key_at_origin(&self, key: &ObjectKey) -> ObjectKey {
        self.inner.key_at_origin(key)
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        self.inner.copies_from(origin)
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        let fault = self.enter(Method::Copy, &[to]).await?;
        let answer = self.inner.copy(source, to, options).await;
        self.answer(Method::Copy, to, fault, answer)
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        let fault = self.enter(Method::CopyPart, &[to]).await?;
        let answer = self.inner.copy_part(source, to, upload, part).await;
        self.answer(Method::CopyPart, to, fault, answer)
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        self.inner.list_uploads().await
    }

    async fn synced(&self) -> Result<Option<Timestamp>> {
        self.inner.synced().await
    }

    async fn settle(&self) -> Result<()> {
        self.inner.settle().await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        let named: Vec<&ObjectKey> = keys.iter().collect();
        let fault = match self.enter(Method::Delete, &named).await {
            Ok(fault) => fault,
            Err(error) => return keys.iter().map(|k| Err(self.error(Method::Delete, Some(k), error.kind))).collect(),
        };
        let answers = self.inner.delete(keys).await;
        keys.iter().zip(answers).map(|(key, answer)| self.answer(Method::Delete, key, fault, answer)).collect()
    }
}

/// The first `left` bytes of a body, then an error.
fn truncated(
    body: BoxStream<'static, Result<Bytes>>,
    left: u64,
    error: StoreError,
) -> BoxStream<'static, Result<Bytes>> {
    let state = (body, left, Some(error));
    stream::unfold(state, |(mut body, left, mut error)| async move {
        if left == 0 {
            return error.take().map(|error| (Err(error), (body, 0, None)));
        }
        match body.next().await {
            Some(Ok(mut block)) => {
                block.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - block.len() as u64;
                Some((Ok(block), (body, left, error)))
            }
            Some(Err(earlier)) => Some((Err(earlier), (body, 0, None))),
            None => error.take().map(|error| (Err(error), (body, 0, None))),
        }
    })
    .boxed()
}
