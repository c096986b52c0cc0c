//! Shows how far a run is: a bar on a terminal, else one plain line every 30 s. Reads counters and changes nothing.
//!
//! The text is a pure function of a [`Snapshot`]; the task that shows it is owned by a [`Ticker`] and ended before the
//! final lines are printed.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::args::{GlobalArgs, ProgressMode};
use super::output::{bytes_text, duration_text, grouped};
use crate::event::{Phase, Progress};
use crate::store::meter::Meter;

/// How often a bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Over how long a time the rate is averaged.
const RATE_WINDOW: Duration = Duration::from_secs(20);
/// The most samples that the average is taken from.
const RATE_SAMPLES: usize = 256;
/// Width of the bar in characters.
const BAR_WIDTH: usize = 24;

/// Stderr, shared by bars, log lines and messages, so that none is drawn into another.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: MultiProgress,
    silent: bool,
}

impl Screen {
    /// The process's stderr.
    pub fn stderr() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), silent: false }
    }

    /// Nothing is shown: for tests.
    pub fn silent() -> Self {
        Self { bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), silent: true }
    }

    /// Writes a line above whatever bars are shown. A stderr that is gone is nobody's concern.
    pub fn line(&self, text: &str) {
        if self.silent {
            return;
        }
        self.bars.suspend(|| {
            let mut stderr = std::io::stderr().lock();
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n"));
        });
    }
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A bar that is redrawn.
    Bar,
    /// A line now and then.
    Lines,
    /// Nothing.
    Nothing,
}

impl Show {
    /// What the options ask for on this stderr. `dumb` says that the terminal cannot redraw (`TERM=dumb`).
    pub fn choose(args: &GlobalArgs, dumb: bool) -> Self {
        decide(args.progress, args.quiet, std::io::stderr().is_terminal(), dumb)
    }
}

fn decide(mode: ProgressMode, quiet: bool, terminal: bool, dumb: bool) -> Show {
    match (mode, quiet, terminal, dumb) {
        (ProgressMode::Never, ..) | (_, true, ..) => Show::Nothing,
        (ProgressMode::Always, _, true, _) | (ProgressMode::Auto, _, true, false) => Show::Bar,
        _ => Show::Lines,
    }
}

/// What is known of a run at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot {
    /// What it does.
    pub phase: Option<Phase>,
    /// Keys listed at the source.
    pub listed_source: u64,
    /// Keys listed at the target.
    pub listed_target: u64,
    /// Objects the plan has work for; 0 until it is complete.
    pub planned_objects: u64,
    /// Bytes the plan will read; 0 until it is complete.
    pub planned_bytes: u64,
    /// Objects finished.
    pub done_objects: u64,
    /// Bytes finished.
    pub done_bytes: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Requests that were repeated.
    pub retries: u64,
    /// Bytes a second, averaged; `None` until there is something to average.
    pub bytes_per_second: Option<f64>,
    /// Since the run began.
    pub elapsed: Duration,
}

impl Snapshot {
    fn read(progress: &Progress, meters: &[Arc<Meter>], elapsed: Duration) -> Self {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            phase: Some(progress.phase()),
            listed_source: get(&progress.listed_source),
            listed_target: get(&progress.listed_target),
            planned_objects: get(&progress.planned_objects),
            planned_bytes: get(&progress.planned_bytes),
            done_objects: get(&progress.done_objects),
            done_bytes: get(&progress.done_bytes),
            failed: get(&progress.failed_objects),
            retries: meters.iter().map(|meter| meter.snapshot().retries).sum(),
            bytes_per_second: None,
            elapsed,
        }
    }

    /// The time that the rest will take at the present rate; `None` when nothing is known of rate or rest.
    pub fn time_left(&self) -> Option<Duration> {
        let rate = self.bytes_per_second.filter(|rate| *rate >= 1.0)?;
        let left = self.planned_bytes.checked_sub(self.done_bytes).filter(|left| *left > 0)?;
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }

    /// The run in a line: `copying: 120 of 4,000 objects, 1.2 of 30.0 GiB, 80.0 MiB/s, 6m 10s left, 2 failed, 1 retry`.
    pub fn text(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let phase = self.phase.unwrap_or(Phase::Starting);
        match phase {
            Phase::Starting => {}
            Phase::Listing => {
                parts.push(format!("{} keys at the source", grouped(self.listed_source)));
                parts.push(format!("{} at the target", grouped(self.listed_target)));
            }
            Phase::Copying | Phase::Deleting | Phase::Committing | Phase::Reading => {
                parts.push(match self.planned_objects {
                    0 => format!("{} objects", grouped(self.done_objects)),
                    planned => format!("{} of {} objects", grouped(self.done_objects), grouped(planned)),
                });
                parts.push(match self.planned_bytes {
                    0 => bytes_text(self.done_bytes),
                    planned => format!("{} of {}", bytes_text(self.done_bytes), bytes_text(planned)),
                });
            }
        }
        if matches!(phase, Phase::Copying | Phase::Reading) {
            if let Some(rate) = self.bytes_per_second {
                parts.push(format!("{}/s", bytes_text(rate as u64)));
            }
            if let Some(left) = self.time_left() {
                parts.push(format!("{} left", duration_text(left)));
            }
        }
        if self.failed > 0 {
            parts.push(format!("{} failed", grouped(self.failed)));
        }
        match self.retries {
            0 => {}
            1 => parts.push("1 retry".into()),
            retries => parts.push(format!("{} retries", grouped(retries))),
        }
        match parts.is_empty() {
            true => phase_word(phase).to_owned(),
            false => format!("{}: {}", phase_word(phase), parts.join(", ")),
        }
    }

    /// The line without a terminal: the time since the start, then the same words.
    pub fn plain_line(&self) -> String {
        format!("[{}] {}", duration_text(self.elapsed), self.text())
    }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Listing => "listing",
        Phase::Copying => "copying",
        Phase::Deleting => "deleting",
        Phase::Committing => "committing",
        Phase::Reading => "reading",
    }
}

/// The average rate over the last [`RATE_WINDOW`].
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn add(&mut self, now: Instant, bytes: u64) -> Option<f64> {
        self.0.push_back((now, bytes));
        // One sample from before the window stays, so that slow samples still span it.
        let outside = |rate: &VecDeque<(Instant, u64)>| rate.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW);
        while self.0.len() > RATE_SAMPLES || outside(&self.0) {
            self.0.pop_front();
        }
        let (first, before) = *self.0.front()?;
        let seconds = (now - first).as_secs_f64();
        (seconds > 0.0).then(|| bytes.saturating_sub(before) as f64 / seconds)
    }
}

/// The task that shows progress. [`Ticker::stop`] ends it and clears its bar.
#[derive(Debug)]
pub struct Ticker {
    token: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Shows `progress` and what `meters` counted on `screen` until it is stopped.
    pub fn start(show: Show, screen: &Screen, progress: Arc<Progress>, meters: Vec<Arc<Meter>>) -> Self {
        let token = CancellationToken::new();
        let task = match show {
            Show::Nothing => None,
            Show::Lines => Some(tokio::spawn(lines(screen.clone(), progress, meters, token.clone()))),
            Show::Bar => Some(tokio::spawn(bar(screen.clone(), progress, meters, token.clone()))),
        };
        Self { token, task }
    }

    /// Ends the task; when this returns nothing more is drawn.
    pub async fn stop(mut self) {
        self.token.cancel();
        if let Some(task) = self.task.take() {
            // A task that broke has drawn its last.
            let _ = task.await;
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Samples every `every` until the token is cancelled; `show` gets each snapshot.
async fn sample(
    every: Duration,
    progress: &Progress,
    meters: &[Arc<Meter>],
    token: &CancellationToken,
    mut show: impl FnMut(&Snapshot),
) {
    let started = Instant::now();
    let mut rate = Rate::default();
    let mut ticks = tokio::time::interval_at(started + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rate.add(started, progress.done_bytes.load(Ordering::Relaxed));
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            now = ticks.tick() => {
                let mut snapshot = Snapshot::read(progress, meters, now - started);
                snapshot.bytes_per_second = rate.add(now, snapshot.done_bytes);
                show(&snapshot);
            }
        }
    }
}

async fn lines(screen: Screen, progress: Arc<Progress>, meters: Vec<Arc<Meter>>, token: CancellationToken) {
    sample(LINE_EVERY, &progress, &meters, &token, |snapshot| screen.line(&snapshot.plain_line())).await;
}

async fn bar(screen: Screen, progress: Arc<Progress>, meters: Vec<Arc<Meter>>, token: CancellationToken) {
    let bar = screen.bars.add(ProgressBar::new_spinner());
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let spinner = style("{spinner} {wide_msg}");
    let measured = style(&format!("[{{bar:{BAR_WIDTH}}}] {{percent:>3}}% {{wide_msg}}")).progress_chars("=> ");
    bar.set_style(spinner.clone());
    let mut with_bar = false;
    sample(BAR_EVERY, &progress, &meters, &token, |snapshot| {
        let (done, planned) = share(snapshot);
        if (planned > 0) != with_bar {
            with_bar = planned > 0;
            bar.set_style(if with_bar { measured.clone() } else { spinner.clone() });
        }
        bar.set_length(planned.max(1));
        bar.set_position(done.min(planned));
        bar.set_message(snapshot.text());
        bar.tick();
    })
    .await;
    bar.finish_and_clear();
    screen.bars.remove(&bar);
}

/// What the bar measures: bytes where the plan has any, else objects.
fn share(snapshot: &Snapshot) -> (u64, u64) {
    match snapshot.planned_bytes {
        0 => (snapshot.done_objects, snapshot.planned_objects),
        planned => (snapshot.done_bytes, planned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tells_what_is_known() {
        let base = Snapshot::default();
        let copying = Snapshot { phase: Some(Phase::Copying), done_objects: 120, done_bytes: 1 << 30, ..base };
        let planned = Snapshot { planned_objects: 4000, planned_bytes: 30 << 30, ..copying };
        let table = [
            (base, "starting"),
            (
                Snapshot { phase: Some(Phase::Listing), listed_source: 12_000, listed_target: 7, ..base },
                "listing: 12,000 keys at the source, 7 at the target",
            ),
            (copying, "copying: 120 objects, 1.0 GiB"),
            (planned, "copying: 120 of 4,000 objects, 1.0 GiB of 30.0 GiB"),
            (
                Snapshot { bytes_per_second: Some(80.0 * 1048576.0), failed: 2, retries: 1, ..planned },
                "copying: 120 of 4,000 objects, 1.0 GiB of 30.0 GiB, 80.0 MiB/s, 6m 11s left, 2 failed, 1 retry",
            ),
            (
                Snapshot { phase: Some(Phase::Deleting), retries: 3, ..planned },
                "deleting: 120 of 4,000 objects, 1.0 GiB of 30.0 GiB, 3 retries",
            ),
        ];
        for (snapshot, text) in table {
            assert_eq!(snapshot.text(), text);
        }
        let line = Snapshot { elapsed: Duration::from_secs(90), ..copying }.plain_line();
        assert_eq!(line, "[1m 30s] copying: 120 objects, 1.0 GiB");
    }

    #[test]
    fn no_time_is_left_when_nothing_is_known() {
        let rated = |planned_bytes, done_bytes, rate| {
            Snapshot { planned_bytes, done_bytes, bytes_per_second: rate, ..Snapshot::default() }.time_left()
        };
        assert_eq!(rated(100, 50, Some(10.0)), Some(Duration::from_secs(5)));
        for unknown in
            [rated(100, 50, None), rated(100, 50, Some(0.0)), rated(0, 50, Some(10.0)), rated(50, 50, Some(1.0))]
        {
            assert_eq!(unknown, None);
        }
    }

    #[test]
    fn bars_need_a_terminal_and_quiet_means_nothing() {
        use ProgressMode::{Always, Auto, Never};
        let table = [
            ((Auto, false, true, false), Show::Bar),
            ((Auto, false, true, true), Show::Lines),
            ((Auto, false, false, false), Show::Lines),
            ((Always, false, true, true), Show::Bar),
            ((Always, false, false, false), Show::Lines),
            ((Always, true, true, false), Show::Nothing),
            ((Never, false, true, false), Show::Nothing),
        ];
        for ((mode, quiet, terminal, dumb), show) in table {
            assert_eq!(decide(mode, quiet, terminal, dumb), show, "{mode:?} {quiet} {terminal} {dumb}");
        }
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

    #[tokio::test(start_paused = true)]
    async fn lines_come_every_thirty_seconds_and_end_with_the_ticker() {
        let progress = Progress::default();
        progress.done_bytes.store(5, Ordering::Relaxed);
        let token = CancellationToken::new();
        let mut seen = Vec::new();
        let stopper = token.clone();
        let stop = async move {
            tokio::time::sleep(Duration::from_secs(95)).await;
            stopper.cancel();
        };
        let sampled = sample(LINE_EVERY, &progress, &[], &token, |snapshot| seen.push(snapshot.elapsed.as_secs()));
        tokio::join!(sampled, stop);
        assert_eq!(seen, [30, 60, 90]);
        let ticker = Ticker::start(Show::Lines, &Screen::silent(), Arc::new(progress), Vec::new());
        ticker.stop().await;
    }
}
