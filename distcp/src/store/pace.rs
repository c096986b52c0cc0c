//! Pacing: a budget of bytes a second (both directions, by a timetable if wanted, shared by all stores of a run), and per store
//! one of requests a second and the rate of requests that it stands (`adapt`).
//!
//! Delays calls, never changes them. Whoever waits longest goes first. Keeps nothing; a crash leaves nothing.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use manifest::{ChunkSize, Fingerprint, Listed, ObjectKey};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Capabilities, CopySource, GetOptions, GetResult, HashedRange, ListOptions, ObjectInfo, Origin, PartSpec, Payload,
    PutOptions, Result, Store, StoreError, StoreErrorKind, Timestamp, UploadId, UploadedPart, Written,
};
use adapt::Rate;

pub use timetable::{BadTimetable, Timetable};

mod adapt;
mod timetable;

/// Seconds of budget that may be saved up.
const BURST_SECONDS: f64 = 1.0;
/// The longest nap while waiting for budget: a timetable may change the rate meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// The local time of day in seconds since midnight. Injected: the library knows no time zone.
pub type TimeOfDay = Arc<dyn Fn() -> u32 + Send + Sync>;

/// A budget that fills at a rate. Takers may overdraw it by one take; the next one waits until the debt is paid.
struct Bucket {
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new() -> Self {
        Self { state: Mutex::new((0.0, Instant::now())) }
    }

    /// Waits until the budget is not in debt, then takes `amount`. `rate` is asked again at every nap; `None` is no limit.
    async fn take(&self, amount: f64, rate: impl Fn() -> Option<f64>) {
        // The lock is held while waiting: it is fair, so nobody is overtaken.
        let mut state = self.state.lock().await;
        loop {
            let Some(rate) = rate() else {
                *state = (0.0, Instant::now());
                return;
            };
            let now = Instant::now();
            let gained = (now - state.1).as_secs_f64() * rate;
            *state = ((state.0 + gained).min(rate * BURST_SECONDS), now);
            if state.0 >= 0.0 {
                state.0 -= amount;
                return;
            }
            let nap = Duration::from_secs_f64((-state.0 / rate).min(LONGEST_NAP.as_secs_f64()));
            // A nap of less than a timer's tick would spin.
            tokio::time::sleep(nap.max(Duration::from_millis(1))).await;
        }
    }
}

/// A budget of bytes a second. All that share it keep to it together, whichever way their bytes go; by default there is no
/// limit.
#[derive(Default)]
pub struct Bandwidth(Option<(Timetable, TimeOfDay, Bucket)>);

impl std::fmt::Debug for Bandwidth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bandwidth").field(&self.0.as_ref().map(|(timetable, ..)| timetable)).finish()
    }
}

impl Bandwidth {
    /// A budget by a timetable on the given clock.
    pub fn new(timetable: Timetable, clock: TimeOfDay) -> Self {
        Self((!timetable.is_unlimited()).then(|| (timetable, clock, Bucket::new())))
    }
}

/// The budgets of one store.
pub struct Pace {
    bandwidth: Arc<Bandwidth>,
    requests: Option<(f64, Bucket)>,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace")
            .field("bandwidth", &self.bandwidth)
            .field("requests_per_second", &self.requests.as_ref().map(|(rate, _)| rate))
            .finish_non_exhaustive()
    }
}

impl Pace {
    /// Budgets of bytes, which others may share, and of requests a second (`None`: no limit; more than 0).
    pub fn new(bandwidth: Arc<Bandwidth>, requests_per_second: Option<f64>, cancel: CancellationToken) -> Self {
        let requests = requests_per_second.filter(|rate| *rate > 0.0).map(|rate| (rate, Bucket::new()));
        Self { bandwidth, requests, cancel }
    }

    /// No budgets: only what each store stands counts.
    pub fn unlimited(cancel: CancellationToken) -> Self {
        Self::new(Arc::default(), None, cancel)
    }

    /// Whether bytes or requests have a rate.
    fn is_limited(&self) -> bool {
        self.requests.is_some() || self.bandwidth.0.is_some()
    }

    /// Waits for a request's turn. `false`: the run was asked to stop.
    async fn request(&self) -> bool {
        let Some((rate, bucket)) = &self.requests else { return true };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = bucket.take(1.0, || Some(*rate)) => true,
        }
    }

    /// Waits until `count` bytes may pass. `false`: the run was asked to stop.
    async fn bytes(&self, count: usize) -> bool {
        let Some((timetable, clock, bucket)) = &self.bandwidth.0 else { return true };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = bucket.take(count as f64, || timetable.rate_at(clock()).map(|rate| rate as f64)) => true,
        }
    }
}

/// A store whose requests and bytes keep to a [`Pace`].
#[derive(Debug)]
pub struct Paced {
    inner: Arc<dyn Store>,
    turns: Turns,
}

/// The turns of one store's requests.
#[derive(Debug, Clone)]
struct Turns {
    pace: Arc<Pace>,
    stands: Arc<Stands>,
}

/// What one store stands.
struct Stands {
    rate: std::sync::Mutex<Rate>,
    bucket: Bucket,
}

impl std::fmt::Debug for Stands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stands").field(&*self.rate()).finish()
    }
}

impl Stands {
    fn new() -> Self {
        Self { rate: std::sync::Mutex::new(Rate::new(Instant::now())), bucket: Bucket::new() }
    }

    fn rate(&self) -> std::sync::MutexGuard<'_, Rate> {
        // It is valid at every moment, so a panic elsewhere does not spoil it.
        self.rate.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Turns {
    /// Waits for a request's turn. `false`: the run was asked to stop.
    async fn request(&self) -> bool {
        if !self.pace.request().await {
            return false;
        }
        let turn = tokio::select! {
            biased;
            () = self.pace.cancel.cancelled() => false,
            () = self.stands.bucket.take(1.0, || self.stands.rate().limit(Instant::now())) => true,
        };
        self.stands.rate().sending(Instant::now());
        turn
    }

    /// Learns from the answer of a request.
    fn answered<T>(&self, answer: Result<T>) -> Result<T> {
        if answer.as_ref().is_err_and(|error| error.kind == StoreErrorKind::Throttled) {
            self.stands.rate().refused(Instant::now());
        }
        answer
    }
}

fn cancelled(operation: &'static str, place: &str) -> StoreError {
    StoreError::new(operation, place, StoreErrorKind::Cancelled, "")
}

impl Paced {
    /// Keeps the calls of `inner` to `pace`.
    pub fn new(inner: Arc<dyn Store>, pace: Arc<Pace>) -> Self {
        Self { inner, turns: Turns { pace, stands: Arc::new(Stands::new()) } }
    }

    async fn turn(&self, operation: &'static str, key: &ObjectKey, bytes: usize) -> Result<()> {
        if self.turns.request().await && (bytes == 0 || self.turns.pace.bytes(bytes).await) {
            Ok(())
        } else {
            Err(cancelled(operation, self.inner.place()).on(key))
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Paced {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn list(&self, options: ListOptions) -> BoxStream<'static, Result<Vec<Listed>>> {
        let (inner, turns) = (Arc::clone(&self.inner), self.turns.clone());
        // The listing itself starts only when its first page has its turn.
        let state: Option<Option<BoxStream<'static, Result<Vec<Listed>>>>> = Some(None);
        futures::stream::unfold(state, move |state| {
            let (inner, turns, options) = (Arc::clone(&inner), turns.clone(), options.clone());
            async move {
                let pages = state?;
                if !turns.request().await {
                    return Some((Err(cancelled("list", inner.place())), None));
                }
                let mut pages = pages.unwrap_or_else(|| inner.list(options));
                pages.next().await.map(|page| (turns.answered(page), Some(Some(pages))))
            }
        })
        .boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.turn("look at", key, 0).await?;
        self.turns.answered(self.inner.head(key).await)
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.turn("read", key, 0).await?;
        let GetResult { info, body } = self.turns.answered(self.inner.get(key, options).await)?;
        let (pace, place, key) = (Arc::clone(&self.turns.pace), self.inner.place().to_owned(), key.clone());
        let body = body
            .then(move |piece| {
                let (pace, stop) = (Arc::clone(&pace), cancelled("read", &place).on(&key));
                async move {
                    let piece = piece?;
                    if pace.bytes(piece.len()).await { Ok(piece) } else { Err(stop) }
                }
            })
            .boxed();
        Ok(GetResult { info, body })
    }

    /// Where bytes have a rate, they pass one by one.
    async fn hash_range(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        expect: &Fingerprint,
        chunk_size: ChunkSize,
    ) -> Result<Option<HashedRange>> {
        if self.turns.pace.is_limited() {
            return Ok(None);
        }
        self.turns.answered(self.inner.hash_range(key, range, expect, chunk_size).await)
    }

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.turn("write", key, body.len()).await?;
        self.turns.answered(self.inner.put(key, body, options).await)
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.turn("begin an upload of", key, 0).await?;
        self.turns.answered(self.inner.create_upload(key, size_bytes, options).await)
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.turn("write a part of", key, body.len()).await?;
        self.turns.answered(self.inner.put_part(key, upload, part, body).await)
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.turn("list the parts of", key, 0).await?;
        self.turns.answered(self.inner.list_parts(key, upload).await)
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        let bytes = usize::try_from(part.size_bytes).unwrap_or(usize::MAX);
        self.turn("read a part of", key, bytes).await?;
        self.turns.answered(self.inner.read_part(key, upload, part).await)
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.turn("finish the upload of", key, 0).await?;
        self.turns.answered(self.inner.complete_upload(key, upload, parts, options).await)
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.turn("give up the upload of", key, 0).await?;
        self.turns.answered(self.inner.abort_upload(key, upload).await)
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
        self.turn("copy to", to, 0).await?;
        self.turns.answered(self.inner.copy(source, to, options).await)
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        self.turn("copy a part of", to, 0).await?;
        self.turns.answered(self.inner.copy_part(source, to, upload, part).await)
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        self.turn("list the uploads of", &ObjectKey::default(), 0).await?;
        self.turns.answered(self.inner.list_uploads().await)
    }

    async fn synced(&self) -> Result<Option<Timestamp>> {
        self.inner.synced().await
    }

    async fn settle(&self) -> Result<()> {
        self.inner.settle().await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        if self.turns.request().await {
            let answers = self.inner.delete(keys).await;
            return answers.into_iter().map(|answer| self.turns.answered(answer)).collect();
        }
        keys.iter().map(|key| Err(cancelled("delete", self.inner.place()).on(key))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(timetable: &str, clock: TimeOfDay, requests: Option<f64>, cancel: CancellationToken) -> Pace {
        let timetable = Timetable::parse(timetable).unwrap();
        Pace::new(Arc::new(Bandwidth::new(timetable, clock)), requests, cancel)
    }

    fn at(hours: u32, minutes: u32) -> u32 {
        (hours * 60 + minutes) * 60
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_of_the_timetable() {
        let clock: TimeOfDay = Arc::new(|| at(9, 0));
        let pace = paced("08:00,1K 19:00,off", clock, None, CancellationToken::new());
        let start = Instant::now();
        for _ in 0..10 {
            assert!(pace.bytes(1024).await);
        }
        let took = start.elapsed().as_secs_f64();
        assert!((8.9..9.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_the_limit_does_and_when_the_run_does() {
        let start = Instant::now();
        let clock: TimeOfDay = Arc::new(move || at(18, 59) + 50 + start.elapsed().as_secs() as u32);
        let cancel = CancellationToken::new();
        let pace = paced("08:00,1K 19:00,off", clock, None, cancel.clone());
        assert!(pace.bytes(1 << 30).await);
        assert!(pace.bytes(1).await);
        assert_eq!(start.elapsed().as_secs(), 10);

        let clock: TimeOfDay = Arc::new(|| 0);
        let pace = paced("1K", clock, Some(1.0), cancel.clone());
        assert!(pace.bytes(1 << 30).await);
        cancel.cancel();
        assert!(!pace.bytes(1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_their_rate_in_order() {
        let pace = Pace::new(Arc::default(), Some(4.0), CancellationToken::new());
        let start = Instant::now();
        for _ in 0..21 {
            assert!(pace.request().await);
        }
        let took = start.elapsed().as_secs_f64();
        assert!((4.5..5.3).contains(&took), "{took}");
    }
}
