//! Pacing: a budget of bytes a second (both directions, by a timetable if wanted) and of requests a second.
//!
//! Delays calls, never changes them. Whoever waits longest goes first. Keeps nothing; a crash leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use manifest::{Listed, ObjectKey};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Capabilities, CopySource, GetOptions, GetResult, ListOptions, ObjectInfo, Origin, PartSpec, Payload, PutOptions,
    Result, Store, StoreError, StoreErrorKind, Timestamp, UploadId, UploadedPart, Written,
};

/// Seconds of budget that may be saved up.
const BURST_SECONDS: f64 = 1.0;
/// The longest nap while waiting for budget: a timetable may change the rate meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// Seconds in a day.
const DAY_SECONDS: u32 = 24 * 60 * 60;
/// Entries of a timetable: one for every quarter of an hour is plenty.
const MAX_ENTRIES: usize = 96;

/// The local time of day in seconds since midnight. Injected: the library knows no time zone.
pub type TimeOfDay = Arc<dyn Fn() -> u32 + Send + Sync>;

/// A bandwidth limit, or none, by the time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    /// Start (seconds since midnight) and limit in bytes a second (`None`: no limit), ascending by start, not empty.
    entries: Vec<(u32, Option<u64>)>,
}

/// A bandwidth limit that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadTimetable(String);

impl Timetable {
    /// The same limit all day.
    pub fn constant(bytes_per_second: Option<u64>) -> Self {
        Self { entries: vec![(0, bytes_per_second)] }
    }

    /// Reads `10M`, `off`, or `08:00,10M 19:00,off`: from each time on, that many bytes a second (K, M, G, T are powers of
    /// 1024). The last entry holds until the first one of the next day.
    pub fn parse(text: &str) -> Result<Self, BadTimetable> {
        let bad = |why: String| BadTimetable(format!("the bandwidth limit {text:?} {why}"));
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [one] = words.as_slice()
            && !one.contains(',')
        {
            return Ok(Self::constant(rate(one).ok_or_else(|| bad("is no rate like 10M or off".into()))?));
        }
        let mut entries = Vec::new();
        for word in &words {
            let (time, limit) = word.split_once(',').ok_or_else(|| bad(format!("has {word:?}, not HH:MM,RATE")))?;
            let start = time_of_day(time).ok_or_else(|| bad(format!("has the time {time:?}, not HH:MM")))?;
            let limit = rate(limit).ok_or_else(|| bad(format!("has the rate {limit:?}, not one like 10M or off")))?;
            if entries.last().is_some_and(|(last, _)| start <= *last) {
                return Err(bad(format!("has {time} after a time that is not earlier")));
            }
            entries.push((start, limit));
        }
        if entries.is_empty() || entries.len() > MAX_ENTRIES {
            return Err(bad(format!("has {} entries, 1 to {MAX_ENTRIES} are possible", entries.len())));
        }
        Ok(Self { entries })
    }

    /// The limit in bytes a second at a time of day (seconds since midnight); `None` is no limit.
    pub fn rate_at(&self, seconds: u32) -> Option<u64> {
        let seconds = seconds % DAY_SECONDS;
        let current = self.entries.iter().rev().find(|(start, _)| *start <= seconds);
        current.or(self.entries.last()).and_then(|(_, rate)| *rate)
    }

    /// Whether it never limits anything.
    pub fn is_unlimited(&self) -> bool {
        self.entries.iter().all(|(_, rate)| rate.is_none())
    }
}

/// `Some(None)` is no limit, `None` unreadable.
fn rate(text: &str) -> Option<Option<u64>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let (digits, unit) = match text.char_indices().last()? {
        (at, unit) if unit.is_ascii_alphabetic() => (&text[..at], unit.to_ascii_uppercase()),
        _ => (text, ' '),
    };
    let factor: u64 = match unit {
        ' ' | 'B' => 1,
        'K' => 1 << 10,
        'M' => 1 << 20,
        'G' => 1 << 30,
        'T' => 1 << 40,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    // No bytes a second would wait for ever.
    if number == 0 { None } else { Some(Some(number.checked_mul(factor)?)) }
}

fn time_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60 && text.len() <= 5).then_some((hours * 60 + minutes) * 60)
}

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

/// The shared budgets of a run. Both sides take from one, so that the limit holds for the run.
pub struct Pace {
    bandwidth: Option<(Timetable, TimeOfDay, Bucket)>,
    requests: Option<(f64, Bucket)>,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace")
            .field("bandwidth", &self.bandwidth.as_ref().map(|(timetable, ..)| timetable))
            .field("requests_per_second", &self.requests.as_ref().map(|(rate, _)| rate))
            .finish_non_exhaustive()
    }
}

impl Pace {
    /// Budgets by a timetable on the given clock, and of requests a second (`None`: no limit; more than 0).
    pub fn new(
        timetable: Timetable,
        clock: TimeOfDay,
        requests_per_second: Option<f64>,
        cancel: CancellationToken,
    ) -> Self {
        let bandwidth = (!timetable.is_unlimited()).then(|| (timetable, clock, Bucket::new()));
        let requests = requests_per_second.filter(|rate| *rate > 0.0).map(|rate| (rate, Bucket::new()));
        Self { bandwidth, requests, cancel }
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.bandwidth.is_none() && self.requests.is_none()
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
        let Some((timetable, clock, bucket)) = &self.bandwidth else { return true };
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
    pace: Arc<Pace>,
}

fn cancelled(operation: &'static str, place: &str) -> StoreError {
    StoreError::new(operation, place, StoreErrorKind::Cancelled, "")
}

impl Paced {
    /// Keeps the calls of `inner` to `pace`.
    pub fn new(inner: Arc<dyn Store>, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }

    async fn turn(&self, operation: &'static str, key: &ObjectKey, bytes: usize) -> Result<()> {
        if self.pace.request().await && (bytes == 0 || self.pace.bytes(bytes).await) {
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
        let (inner, pace) = (Arc::clone(&self.inner), Arc::clone(&self.pace));
        // The listing itself starts only when its first page has its turn.
        let state: Option<Option<BoxStream<'static, Result<Vec<Listed>>>>> = Some(None);
        futures::stream::unfold(state, move |state| {
            let (inner, pace, options) = (Arc::clone(&inner), Arc::clone(&pace), options.clone());
            async move {
                let pages = state?;
                if !pace.request().await {
                    return Some((Err(cancelled("list", inner.place())), None));
                }
                let mut pages = pages.unwrap_or_else(|| inner.list(options));
                pages.next().await.map(|page| (page, Some(Some(pages))))
            }
        })
        .boxed()
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo> {
        self.turn("look at", key, 0).await?;
        self.inner.head(key).await
    }

    async fn get(&self, key: &ObjectKey, options: GetOptions) -> Result<GetResult> {
        self.turn("read", key, 0).await?;
        let GetResult { info, body } = self.inner.get(key, options).await?;
        let (pace, place, key) = (Arc::clone(&self.pace), self.inner.place().to_owned(), key.clone());
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

    async fn put(&self, key: &ObjectKey, body: Payload, options: &PutOptions) -> Result<Written> {
        self.turn("write", key, body.len()).await?;
        self.inner.put(key, body, options).await
    }

    async fn create_upload(&self, key: &ObjectKey, size_bytes: u64, options: &PutOptions) -> Result<UploadId> {
        self.turn("begin an upload of", key, 0).await?;
        self.inner.create_upload(key, size_bytes, options).await
    }

    async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
        body: Payload,
    ) -> Result<UploadedPart> {
        self.turn("write a part of", key, body.len()).await?;
        self.inner.put_part(key, upload, part, body).await
    }

    async fn list_parts(&self, key: &ObjectKey, upload: &UploadId) -> Result<Vec<UploadedPart>> {
        self.turn("list the parts of", key, 0).await?;
        self.inner.list_parts(key, upload).await
    }

    async fn read_part(&self, key: &ObjectKey, upload: &UploadId, part: PartSpec) -> Result<Bytes> {
        let bytes = usize::try_from(part.size_bytes).unwrap_or(usize::MAX);
        self.turn("read a part of", key, bytes).await?;
        self.inner.read_part(key, upload, part).await
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[UploadedPart],
        options: &PutOptions,
    ) -> Result<Written> {
        self.turn("finish the upload of", key, 0).await?;
        self.inner.complete_upload(key, upload, parts, options).await
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        self.turn("give up the upload of", key, 0).await?;
        self.inner.abort_upload(key, upload).await
    }

    fn origin(&self) -> Option<Origin> {
        self.inner.origin()
    }

    fn copies_from(&self, origin: &Origin) -> Option<u64> {
        self.inner.copies_from(origin)
    }

    async fn copy(&self, source: &CopySource<'_>, to: &ObjectKey, options: &PutOptions) -> Result<Written> {
        self.turn("copy to", to, 0).await?;
        self.inner.copy(source, to, options).await
    }

    async fn copy_part(
        &self,
        source: &CopySource<'_>,
        to: &ObjectKey,
        upload: &UploadId,
        part: PartSpec,
    ) -> Result<UploadedPart> {
        self.turn("copy a part of", to, 0).await?;
        self.inner.copy_part(source, to, upload, part).await
    }

    async fn list_uploads(&self) -> Result<Option<Vec<UploadId>>> {
        self.turn("list the uploads of", &ObjectKey::default(), 0).await?;
        self.inner.list_uploads().await
    }

    async fn synced(&self) -> Result<Option<Timestamp>> {
        self.inner.synced().await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Vec<Result<()>> {
        if self.pace.request().await {
            return self.inner.delete(keys).await;
        }
        keys.iter().map(|key| Err(cancelled("delete", self.inner.place()).on(key))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u32, minutes: u32) -> u32 {
        (hours * 60 + minutes) * 60
    }

    #[test]
    fn timetables_say_what_holds_when() {
        let table = Timetable::parse("08:00,10M 12:30,512K 19:00,off").unwrap();
        for (time, rate) in [
            (at(0, 0), None),
            (at(7, 59), None),
            (at(8, 0), Some(10 << 20)),
            (at(12, 29), Some(10 << 20)),
            (at(12, 30), Some(512 << 10)),
            (at(19, 0), None),
            (at(23, 59), None),
        ] {
            assert_eq!(table.rate_at(time), rate, "{time}");
        }
        assert_eq!(Timetable::parse("10M").unwrap(), Timetable::constant(Some(10 << 20)));
        assert_eq!(Timetable::parse("1000").unwrap().rate_at(5), Some(1000));
        assert!(Timetable::parse("off").unwrap().is_unlimited());
        assert!(!table.is_unlimited());
    }

    #[test]
    fn timetables_that_make_no_sense_are_refused() {
        for bad in
            ["", "0", "10X", "8,10M", "24:00,1M", "08:60,1M", "08:00,1M 08:00,2M", "19:00,off 08:00,1M", "x", "M"]
        {
            assert!(Timetable::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_of_the_timetable() {
        let clock: TimeOfDay = Arc::new(|| at(9, 0));
        let pace = Pace::new(Timetable::parse("08:00,1K 19:00,off").unwrap(), clock, None, CancellationToken::new());
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
        let pace = Pace::new(Timetable::parse("08:00,1K 19:00,off").unwrap(), clock, None, cancel.clone());
        assert!(pace.bytes(1 << 30).await);
        assert!(pace.bytes(1).await);
        assert_eq!(start.elapsed().as_secs(), 10);

        let clock: TimeOfDay = Arc::new(|| 0);
        let pace = Pace::new(Timetable::parse("1K").unwrap(), clock, Some(1.0), cancel.clone());
        assert!(pace.bytes(1 << 30).await);
        cancel.cancel();
        assert!(!pace.bytes(1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_keep_their_rate_in_order() {
        let clock: TimeOfDay = Arc::new(|| 0);
        let pace = Pace::new(Timetable::constant(None), clock, Some(4.0), CancellationToken::new());
        let start = Instant::now();
        for _ in 0..21 {
            assert!(pace.request().await);
        }
        let took = start.elapsed().as_secs_f64();
        assert!((4.5..5.3).contains(&took), "{took}");
    }
}
