//! How far a run in flight is: shared counters, and what is known at one moment. Nothing here prints, and nothing depends on
//! what it says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::store::meter::Meter;

/// Over how long a time rates are averaged.
const RATE_WINDOW: Duration = Duration::from_secs(20);
/// The most samples that an average is taken from.
const RATE_SAMPLES: usize = 256;

/// What a run is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Phase {
    /// Opening places and state, taking the lease.
    #[default]
    Starting = 0,
    /// Listing both sides and planning.
    Listing = 1,
    /// Copying.
    Copying = 2,
    /// Deleting.
    Deleting = 3,
    /// Publishing the manifest.
    Committing = 4,
    /// Comparing (verify, manifest create).
    Reading = 5,
    /// Comparing metadata of tables.
    Comparing = 6,
    /// Writing metadata of tables.
    Applying = 7,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Starting,
        Self::Listing,
        Self::Copying,
        Self::Deleting,
        Self::Committing,
        Self::Reading,
        Self::Comparing,
        Self::Applying,
    ];
}

/// Counters of a run in flight. Read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    /// A program of many jobs says itself what it does and how much there is to do.
    led: AtomicBool,
    /// Keys listed so far, at the source.
    pub listed_source: AtomicU64,
    /// Keys listed so far, at the target.
    pub listed_target: AtomicU64,
    planned_objects: AtomicU64,
    planned_bytes: AtomicU64,
    planned_metadata: AtomicU64,
    /// Objects finished.
    pub done_objects: AtomicU64,
    /// Bytes finished.
    pub done_bytes: AtomicU64,
    /// Tables and partitions whose metadata was written.
    pub done_metadata: AtomicU64,
    /// Objects that failed.
    pub failed_objects: AtomicU64,
}

impl Progress {
    /// Says what a job does now; unheard while somebody leads.
    pub fn enter(&self, phase: Phase) {
        if !self.is_led() {
            self.phase.store(phase as u8, Ordering::Relaxed);
        }
    }

    /// Says for all jobs what is done now, until [`Progress::follow`].
    pub fn lead(&self, phase: Phase) {
        self.led.store(true, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Jobs say themselves what they do, from `phase` on.
    pub fn follow(&self, phase: Phase) {
        self.led.store(false, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Whether somebody leads.
    pub fn is_led(&self) -> bool {
        self.led.load(Ordering::Relaxed)
    }

    /// What the run does now.
    pub fn phase(&self) -> Phase {
        let number = usize::from(self.phase.load(Ordering::Relaxed));
        Phase::ALL.get(number).copied().unwrap_or_default()
    }

    /// Adds what the plan of a job will do; unheard while somebody leads.
    pub fn plan(&self, objects: u64, bytes: u64) {
        if !self.is_led() {
            self.expect(objects, bytes, 0);
        }
    }

    /// Adds what all jobs together will do, and how many tables and partitions will be written.
    pub fn expect(&self, objects: u64, bytes: u64, metadata: u64) {
        count(&self.planned_objects, objects);
        count(&self.planned_bytes, bytes);
        count(&self.planned_metadata, metadata);
    }
}

/// Adds to a counter of [`Progress`].
pub fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What is known of a run at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// What it does.
    pub phase: Phase,
    /// Keys listed at the source.
    pub listed_source: u64,
    /// Keys listed at the target.
    pub listed_target: u64,
    /// Objects the plan has work for; 0 until it is complete.
    pub planned_objects: u64,
    /// Bytes the plan will read; 0 until it is complete.
    pub planned_bytes: u64,
    /// Tables and partitions to be written; 0 until that is known.
    pub planned_metadata: u64,
    /// Objects finished.
    pub done_objects: u64,
    /// Bytes finished.
    pub done_bytes: u64,
    /// Tables and partitions written.
    pub done_metadata: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Requests that were repeated.
    pub retries: u64,
    /// Bytes a second, averaged; `None` until there is something to average.
    pub bytes_per_second: Option<f64>,
    /// Tables and partitions a second, as well.
    pub metadata_per_second: Option<f64>,
    /// Whole seconds since the run began.
    pub elapsed_seconds: u64,
}

impl Snapshot {
    fn read(progress: &Progress, meters: &[Arc<Meter>], elapsed: Duration) -> Self {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            phase: progress.phase(),
            listed_source: get(&progress.listed_source),
            listed_target: get(&progress.listed_target),
            planned_objects: get(&progress.planned_objects),
            planned_bytes: get(&progress.planned_bytes),
            planned_metadata: get(&progress.planned_metadata),
            done_objects: get(&progress.done_objects),
            done_bytes: get(&progress.done_bytes),
            done_metadata: get(&progress.done_metadata),
            failed: get(&progress.failed_objects),
            retries: meters.iter().map(|meter| meter.snapshot().retries).sum(),
            bytes_per_second: None,
            metadata_per_second: None,
            elapsed_seconds: elapsed.as_secs(),
        }
    }

    /// The time that the rest of what is being done will take at the present rate; `None` when nothing is known of rate or
    /// rest.
    pub fn time_left(&self) -> Option<Duration> {
        let (rate, planned, done) = match self.phase {
            Phase::Copying | Phase::Reading => (self.bytes_per_second, self.planned_bytes, self.done_bytes),
            Phase::Applying => (self.metadata_per_second, self.planned_metadata, self.done_metadata),
            _ => return None,
        };
        let rate = rate.filter(|rate| *rate >= 1.0)?;
        let left = planned.checked_sub(done).filter(|left| *left > 0)?;
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }
}

/// Looks at a run again and again.
#[derive(Debug)]
pub struct Sampler {
    progress: Arc<Progress>,
    meters: Vec<Arc<Meter>>,
    started: Instant,
    bytes: Rate,
    metadata: Rate,
}

impl Sampler {
    /// A run that began just now.
    pub fn start(progress: Arc<Progress>, meters: Vec<Arc<Meter>>) -> Self {
        let mut sampler =
            Self { progress, meters, started: Instant::now(), bytes: Rate::default(), metadata: Rate::default() };
        sampler.look(sampler.started);
        sampler
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How far it is.
    pub fn look(&mut self, now: Instant) -> Snapshot {
        let mut snapshot = Snapshot::read(&self.progress, &self.meters, now - self.started);
        snapshot.bytes_per_second = self.bytes.add(now, snapshot.done_bytes);
        snapshot.metadata_per_second = self.metadata.add(now, snapshot.done_metadata);
        snapshot
    }
}

/// The average rate over the last [`RATE_WINDOW`].
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn add(&mut self, now: Instant, amount: u64) -> Option<f64> {
        self.0.push_back((now, amount));
        // One sample from before the window stays, so that slow samples still span it.
        let outside = |rate: &VecDeque<(Instant, u64)>| rate.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW);
        while self.0.len() > RATE_SAMPLES || outside(&self.0) {
            self.0.pop_front();
        }
        let (first, before) = *self.0.front()?;
        let seconds = (now - first).as_secs_f64();
        (seconds > 0.0).then(|| amount.saturating_sub(before) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_numbered_as_they_are_listed() {
        for (number, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
        }
    }

    #[test]
    fn jobs_are_heard_unless_somebody_leads() {
        let progress = Progress::default();
        progress.enter(Phase::Listing);
        progress.plan(2, 20);
        assert_eq!(progress.phase(), Phase::Listing);
        progress.lead(Phase::Copying);
        progress.expect(10, 100, 1000);
        progress.enter(Phase::Committing);
        progress.plan(5, 50);
        assert_eq!(progress.phase(), Phase::Copying);
        progress.follow(Phase::Starting);
        progress.plan(1, 1);
        let seen = Snapshot::read(&progress, &[], Duration::ZERO);
        assert_eq!((seen.planned_objects, seen.planned_bytes, seen.planned_metadata), (13, 121, 1000));
        assert_eq!(seen.phase, Phase::Starting);
    }

    #[test]
    fn no_time_is_left_when_nothing_is_known() {
        let bytes = |planned_bytes, done_bytes, bytes_per_second| Snapshot {
            phase: Phase::Copying,
            planned_bytes,
            done_bytes,
            bytes_per_second,
            ..Snapshot::default()
        };
        assert_eq!(bytes(100, 50, Some(10.0)).time_left(), Some(Duration::from_secs(5)));
        let unknown =
            [bytes(100, 50, None), bytes(100, 50, Some(0.0)), bytes(0, 50, Some(10.0)), bytes(50, 50, Some(1.0))];
        let elsewhere = Snapshot { phase: Phase::Listing, ..bytes(100, 50, Some(10.0)) };
        for snapshot in unknown.into_iter().chain([elsewhere]) {
            assert_eq!(snapshot.time_left(), None);
        }
        let metadata = Snapshot {
            phase: Phase::Applying,
            planned_metadata: 1000,
            done_metadata: 400,
            metadata_per_second: Some(200.0),
            ..bytes(100, 50, Some(10.0))
        };
        assert_eq!(metadata.time_left(), Some(Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let mut last = None;
        for second in 0..100u64 {
            let bytes = if second < 50 { 0 } else { (second - 50) * 1000 };
            last = rate.add(Instant::now(), bytes);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(last, Some(1000.0));
        assert!(rate.0.len() <= 22, "samples outside the window are forgotten: {}", rate.0.len());
    }
}
