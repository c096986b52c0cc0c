//! Trying again: waits with full jitter, listings and bodies that go on where they broke, and a look at the target when an
//! answer to a write was lost.
//!
//! Never repeats a conditional write blindly: the first attempt may have worked, so a failed precondition after a lost
//! answer is settled by what stands there (size and content), and only what is ours counts as written. Never changes the
//! version in the middle of a body. Keeps nothing; a crash leaves what the last attempt did.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use manifest::{ChunkSize, Class, Fingerprint, Listed, ObjectKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use super::{
    Capabilities, CopySource, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec, Payload,
    PutOptions, Result, Store, StoreError, StoreErrorKind, Timestamp, UploadId, UploadedPart, Written,
};

mod lost;
#[cfg(test)]
mod tests;

/// How often "slow down" is taken before it counts as a failure; the deadline usually comes first.
const MAX_THROTTLED: u32 = 200;
/// A body that broke and went on counts as mended when so much more of it came: one that only trickles would never end.
const MIN_PROGRESS_BYTES: u64 = 64 << 10;

/// When to try again, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all. "Slow down" is not counted here, only against the deadline: it is no failure.
    pub max_attempts: u32,
    /// The longest wait before the second attempt; it doubles with each.
    pub base: Duration,
    /// The longest wait of all (a longer `Retry-After` is cut to the deadline, not to this).
    pub cap: Duration,
    /// No attempt starts later than this after the first failure (in streams, the first since the last progress).
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            base: Duration::from_millis(100),
            cap: Duration::from_secs(20),
            deadline: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The longest wait before attempt `next` (2, 3, ...): what the jitter is taken of.
    fn longest_wait(&self, next: u32) -> Duration {
        self.base.saturating_mul(1 << next.saturating_sub(2).min(20)).min(self.cap)
    }
}

/// What all calls of one store share.
#[derive(Debug)]
struct Shared {
    policy: RetryPolicy,
    jitter: Mutex<StdRng>,
    /// "Slow down" was said to one call, with a time: all wait until then.
    not_before: Mutex<Option<Instant>>,
    end: End,
    meter: Arc<Meter>,
}

/// When nothing is tried or waited for any more: so long after the run was asked to stop, counted from the first call that
/// meets this.
#[derive(Debug)]
struct End {
    asked: CancellationToken,
    grace: Duration,
    since: OnceLock<Instant>,
}

impl End {
    fn at(&self) -> Instant {
        *self.since.get_or_init(Instant::now) + self.grace
    }

    fn is_reached(&self) -> bool {
        self.asked.is_cancelled() && Instant::now() >= self.at()
    }

    async fn reached(&self) {
        self.asked.cancelled().await;
        tokio::time::sleep_until(self.at()).await;
    }
}

/// A store whose failed calls are tried again.
#[derive(Debug, Clone)]
pub struct Retried {
    inner: Arc<dyn Store>,
    shared: Arc<Shared>,
}

/// The attempts of one call.
struct Attempts {
    made: u32,
    throttled: u32,
    /// When the first one failed.
    failing_since: Option<Instant>,
}

impl Attempts {
    fn start() -> Self {
        Self { made: 1, throttled: 0, failing_since: None }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The guarded values are valid at every moment, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    /// Waits before the first attempt while the store asked others to slow down.
    async fn hold(&self) -> bool {
        let until = *locked(&self.not_before);
        match until {
            Some(until) if until > Instant::now() => tokio::select! {
                biased;
                () = self.end.reached() => false,
                () = tokio::time::sleep_until(until) => true,
            },
            _ => !self.end.is_reached(),
        }
    }

    /// Waits before the next attempt, or gives the error back when there is none.
    async fn wait(&self, attempts: &mut Attempts, error: StoreError) -> Result<(), StoreError> {
        if error.class() != Class::Retryable {
            return Err(error);
        }
        let throttled = error.kind == StoreErrorKind::Throttled;
        if throttled {
            attempts.throttled += 1
        } else {
            attempts.made += 1
        }
        let step = attempts.made.max(attempts.throttled + 1);
        let longest = self.policy.longest_wait(step);
        let jitter = longest.mul_f64(locked(&self.jitter).random::<f64>());
        let wait = error.retry_after.map_or(jitter, |told| told.max(jitter));
        let spent = attempts.failing_since.get_or_insert_with(Instant::now).elapsed();
        if attempts.made > self.policy.max_attempts
            || attempts.throttled > MAX_THROTTLED
            || spent + wait > self.policy.deadline
        {
            return Err(error);
        }
        // How fast to go on without a time to wait for is for the pacing below.
        if throttled && error.retry_after.is_some() {
            let until = Instant::now() + wait;
            let mut not_before = locked(&self.not_before);
            *not_before = Some(not_before.map_or(until, |other| other.max(until)));
        }
        self.meter.add_retry();
        tokio::select! {
            biased;
            () = self.end.reached() => {
                let mut stopped = StoreError::new(error.operation, &error.place, StoreErrorKind::Cancelled, error.detail);
                stopped.key = error.key;
                Err(stopped)
            }
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

impl Retried {
    /// Tries the calls of `inner` again by `policy`; `seed` decides the jitter, `meter` counts what was repeated, and
    /// `cancel` ends every wait at once.
    pub fn new(
        inner: Arc<dyn Store>,
        policy: RetryPolicy,
        seed: u64,
        meter: Arc<Meter>,
        cancel: CancellationToken,
    ) -> Self {
        Self::with_grace(inner, policy, seed, meter, cancel, Duration::ZERO)
    }

    /// As [`Retried::new`], of a store that is of use for `grace` longer after `cancel`: what a run leaves is written there.
    pub fn with_grace(
        inner: Arc<dyn Store>,
        policy: RetryPolicy,
        seed: u64,
        meter: Arc<Meter>,
        cancel: CancellationToken,
        grace: Duration,
    ) -> Self {
        let end = End { asked: cancel, grace, since: OnceLock::new() };
        let shared = Shared {
            policy,
            jitter: Mutex::new(StdRng::seed_from_u64(seed)),
            not_before: Mutex::new(None),
            end,
            meter,
        };
        Self { inner, shared: Arc::new(shared) }
    }

    fn cancelled(&self, operation: &'static str) -> StoreError {
        StoreError::new(operation, self.inner.place(), StoreErrorKind::Cancelled, "")
    }

    /// Calls until it works, or cannot. `call` learns whether an earlier attempt may have been carried out.
    async fn again<'a, T>(
        &self,
        operation: &'static str,
        call: impl Fn(bool) -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        if !self.shared.hold().await {
            return Err(self.cancelled(operation));
        }
        let mut attempts = Attempts::start();
        let mut maybe_done = false;
        loop {
            match call(maybe_done).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    // A store that says "slow down" has done nothing; every other failure may have come after the work.
                    maybe_done |= error.kind != StoreErrorKind::Throttled;
                    self.shared.wait(&mut attempts, error).await?;
                }
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Retried {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        struct State {
            store: Retried,
            options: ListOptions,
            pages: Option<BoxStream<'static, Result<Vec<Listed>>>>,
            attempts: Attempts,
            delivered: bool,
            over: bool,
        }
        let state = State {
            store: self.clone(),
            options,
            pages: None,
            attempts: Attempts::start(),
            delivered: false,
            over: false,
        };
        futures::stream::unfold(state, |mut state| async move {
            loop {
                if state.over {
                    return None;
                }
                if state.pages.is_none() {
                    if !state.store.shared.hold().await {
                        state.over = true;
                        return Some((Err(state.store.cancelled("list")), state));
                    }
                    state.pages = Some(state.store.inner.list(state.options.clone()));
                }
                match state.pages.as_mut()?.next().await {
                    None => return None,
                    Some(Ok(page)) => {
                        state.attempts = Attempts::start();
                        state.delivered |= !page.is_empty();
                        if let Some(last) = page.last() {
                            state.options.after = Some(last.key.clone());
                        }
                        return Some((Ok(page), state));
                    }
                    Some(Err(error)) => {
                        let capabilities = state.store.inner.capabilities();
                        if !capabilities.list_goes_on {
                            state.pages = None;
                        }
                        // Without an order there is no place to go on from.
                        let stuck = state.delivered && !capabilities.ordered_list && !capabilities.list_goes_on;
                        let shared = Arc::clone(&state.store.shared);
                        let verdict = if stuck { Err(error) } else { shared.wait(&mut state.attempts, error).await };
                        if let Err(error) = verdict {
                            state.over = true;
                            return Some((Err(error), state));
                        }
                    }
                }
            }
        })
        .boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.again("look at", |_| self.inner.head(key)).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        let GetResult { info, body } = self.again("read", |_| self.inner.get(key, options.clone())).await?;
        let end = options.range.as_ref().map_or(info.fingerprint.size_bytes, |range| range.end);
        let at = options.range.as_ref().map_or(0, |range| range.start);
        let rest = Rest {
            store: self.clone(),
            key: key.clone(),
            // What was answered first, and nothing else, may follow.
            expect: info.fingerprint.clone(),
            at,
            end,
            failed_at: at,
            body: Some(body),
            attempts: Attempts::start(),
            over: false,
        };
        Ok(GetResult { info, body: futures::stream::unfold(rest, Rest::next).boxed() })
    }

    async fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        self.again("read", |_| self.inner.hash_range(key, range.clone(), expect, chunk_size)).await
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.again("write", |maybe_done| {
            let body = body.clone();
            Box::pin(async move {
                match self.inner.put(key, body.clone(), options).await {
                    Err(error) if maybe_done && error.kind == StoreErrorKind::Precondition => {
                        lost::put(&*self.inner, key, body.bytes(), error).await
                    }
                    answer => answer,
                }
            })
        })
        .await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        // An upload whose id was lost stays behind without parts; the store's own rules remove it.
        self.again("begin an upload of", |_| self.inner.create_upload(key, size_bytes, options)).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.again("write a part of", |_| self.inner.put_part(key, upload, part, body.clone())).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.again("list the parts of", |_| self.inner.list_parts(key, upload)).await
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        self.again("read a part of", |_| self.inner.read_part(key, upload, part)).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.again("finish the upload of", |maybe_done| {
            Box::pin(async move {
                match self.inner.complete_upload(key, upload, parts, options).await {
                    Err(error)
                        if maybe_done
                            && matches!(error.kind, StoreErrorKind::Precondition | StoreErrorKind::NotFound) =>
                    {
                        lost::complete(&*self.inner, key, parts, options, error).await
                    }
                    answer => answer,
                }
            })
        })
        .await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.again("give up the upload of", |_| self.inner.abort_upload(key, upload)).await
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
        self.again("copy", |maybe_done| {
            Box::pin(async move {
                match self.inner.copy(source, to, options).await {
                    Err(error) if maybe_done && error.kind == StoreErrorKind::Precondition => {
                        lost::copy(&*self.inner, source.expect, to, error).await
                    }
                    answer => answer,
                }
            })
        })
        .await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        self.again("copy a part of", |_| self.inner.copy_part(source, to, upload, part)).await
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        self.again("list the uploads of", |_| self.inner.list_uploads()).await
    }

    async fn synced(&self) -> Result<Option<Timestamp>> {
        self.again("ask the state of", |_| self.inner.synced()).await
    }

    async fn settle(&self) -> Result<()> {
        self.inner.settle().await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        if !self.shared.hold().await {
            return keys.iter().map(|key| Err(self.cancelled("delete").on(key))).collect();
        }
        let mut attempts = Attempts::start();
        let mut answers = self.inner.delete(keys).await;
        loop {
            // Only the keys that failed in a way that can pass are asked for again.
            let retryable = |answer: &Result<()>| matches!(answer, Err(error) if error.class() == Class::Retryable);
            let failed: Vec<usize> = (0..answers.len()).filter(|i| retryable(&answers[*i])).collect();
            let Some(Err(sample)) = failed.first().and_then(|i| answers.get(*i)) else { return answers };
            let mut cause = StoreError::new(sample.operation, &sample.place, sample.kind, sample.detail.clone());
            cause.retry_after = sample.retry_after;
            if let Err(error) = self.shared.wait(&mut attempts, cause).await {
                if error.kind == StoreErrorKind::Cancelled {
                    for i in failed {
                        answers[i] = Err(self.cancelled("delete").on(&keys[i]));
                    }
                }
                return answers;
            }
            let again: Vec<ObjectKey> = failed.iter().map(|i| keys[*i].clone()).collect();
            for (i, answer) in failed.into_iter().zip(self.inner.delete(&again).await) {
                answers[i] = answer;
            }
        }
    }
}

/// A body that goes on from the byte it reached.
struct Rest {
    store: Retried,
    key: ObjectKey,
    expect: Fingerprint,
    at: u64,
    end: u64,
    /// Where it broke last.
    failed_at: u64,
    body: Option<BoxStream<'static, Result<Bytes>>>,
    attempts: Attempts,
    over: bool,
}

impl Rest {
    async fn next(mut self) -> Option<(Result<Bytes>, Self)> {
        loop {
            if self.over {
                return None;
            }
            let error = match &mut self.body {
                Some(body) => match body.next().await {
                    None => return None,
                    Some(Ok(piece)) => {
                        self.at += piece.len() as u64;
                        if self.at >= self.failed_at + MIN_PROGRESS_BYTES {
                            self.attempts = Attempts::start();
                        }
                        return Some((Ok(piece), self));
                    }
                    Some(Err(error)) => error,
                },
                None if self.at >= self.end => return None,
                None => {
                    let options = GetOptions { range: Some(self.at..self.end), expect: Some(self.expect.clone()) };
                    match self.store.inner.get(&self.key, options).await {
                        Ok(result) => {
                            self.body = Some(result.body);
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            };
            self.body = None;
            self.failed_at = self.at;
            let shared = Arc::clone(&self.store.shared);
            if let Err(error) = shared.wait(&mut self.attempts, error).await {
                self.over = true;
                return Some((Err(error), self));
            }
        }
    }
}
