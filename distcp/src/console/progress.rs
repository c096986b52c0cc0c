//! Shows how far a run is: a bar on a terminal, else one plain line every 30 s. Reads counters and changes nothing.
//!
//! The text is a pure function of a [`Snapshot`]; the task that shows it is owned by a [`Ticker`] and ended before the
//! final lines are printed.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::args::{GlobalArgs, ProgressMode};
use super::output::{bytes_text, counted, duration_text, grouped};
use crate::progress::{Phase, Progress, Sampler, Snapshot};
use crate::store::meter::Meter;

/// How often a bar is drawn.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(30);
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

/// The run in a line: `copying: 120 of 4,000 objects, 1.2 of 30.0 GiB, 80.0 MiB/s, 6m 10s left, 2 failed, 1 retry`.
pub fn text(seen: &Snapshot) -> String {
    let mut parts: Vec<String> = Vec::new();
    let phase = seen.phase;
    match phase {
        Phase::Starting | Phase::Comparing => {}
        Phase::Applying => parts.push(match seen.planned_metadata {
            0 => format!("{} tables and partitions", grouped(seen.done_metadata)),
            planned => format!("{} of {} tables and partitions", grouped(seen.done_metadata), grouped(planned)),
        }),
        Phase::Listing => {
            parts.push(format!("{} keys at the source", grouped(seen.listed_source)));
            parts.push(format!("{} at the target", grouped(seen.listed_target)));
        }
        Phase::Copying | Phase::Deleting | Phase::Committing | Phase::Reading => {
            parts.push(match seen.planned_objects {
                0 => format!("{} objects", grouped(seen.done_objects)),
                planned => format!("{} of {} objects", grouped(seen.done_objects), grouped(planned)),
            });
            parts.push(match seen.planned_bytes {
                0 => bytes_text(seen.done_bytes),
                planned => format!("{} of {}", bytes_text(seen.done_bytes), bytes_text(planned)),
            });
        }
    }
    if let (Phase::Copying | Phase::Reading, Some(rate)) = (phase, seen.bytes_per_second) {
        parts.push(format!("{}/s", bytes_text(rate as u64)));
    }
    parts.extend(seen.time_left().map(|left| format!("{} left", duration_text(left))));
    if seen.failed > 0 {
        parts.push(format!("{} failed", grouped(seen.failed)));
    }
    if seen.retries > 0 {
        parts.push(counted(seen.retries, "retry", "retries"));
    }
    match parts.is_empty() {
        true => phase_word(phase).to_owned(),
        false => format!("{}: {}", phase_word(phase), parts.join(", ")),
    }
}

/// The line without a terminal: the time since the start, then the same words.
fn plain_line(seen: &Snapshot) -> String {
    format!("[{}] {}", duration_text(Duration::from_secs(seen.elapsed_seconds)), text(seen))
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Listing => "listing",
        Phase::Copying => "copying",
        Phase::Deleting => "deleting",
        Phase::Committing => "committing",
        Phase::Reading => "reading",
        Phase::Comparing => "comparing metadata",
        Phase::Applying => "writing metadata",
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
        let sampler = Sampler::start(progress, meters);
        let task = match show {
            Show::Nothing => None,
            Show::Lines => Some(tokio::spawn(lines(screen.clone(), sampler, token.clone()))),
            Show::Bar => Some(tokio::spawn(bar(screen.clone(), sampler, token.clone()))),
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
async fn sample(every: Duration, mut sampler: Sampler, token: &CancellationToken, mut show: impl FnMut(&Snapshot)) {
    let mut ticks = tokio::time::interval_at(sampler.started() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            now = ticks.tick() => show(&sampler.look(now)),
        }
    }
}

async fn lines(screen: Screen, sampler: Sampler, token: CancellationToken) {
    sample(LINE_EVERY, sampler, &token, |snapshot| screen.line(&plain_line(snapshot))).await;
}

async fn bar(screen: Screen, sampler: Sampler, token: CancellationToken) {
    let bar = screen.bars.add(ProgressBar::new_spinner());
    let style =
        |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let spinner = style("{spinner} {wide_msg}");
    let measured = style(&format!("[{{bar:{BAR_WIDTH}}}] {{percent:>3}}% {{wide_msg}}")).progress_chars("=> ");
    bar.set_style(spinner.clone());
    let mut with_bar = false;
    sample(BAR_EVERY, sampler, &token, |snapshot| {
        let (done, planned) = share(snapshot);
        if (planned > 0) != with_bar {
            with_bar = planned > 0;
            bar.set_style(if with_bar { measured.clone() } else { spinner.clone() });
        }
        bar.set_length(planned.max(1));
        bar.set_position(done.min(planned));
        bar.set_message(text(snapshot));
        bar.tick();
    })
    .await;
    bar.finish_and_clear();
    screen.bars.remove(&bar);
}

/// What the bar measures: bytes where the plan has any, else objects; tables and partitions while those are written.
fn share(snapshot: &Snapshot) -> (u64, u64) {
    match snapshot.planned_bytes {
        _ if snapshot.phase == Phase::Applying => (snapshot.done_metadata, snapshot.planned_metadata),
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
        let copying = Snapshot { phase: Phase::Copying, done_objects: 120, done_bytes: 1 << 30, ..base };
        let planned = Snapshot { planned_objects: 4000, planned_bytes: 30 << 30, ..copying };
        let table = [
            (base, "starting"),
            (
                Snapshot { phase: Phase::Listing, listed_source: 12_000, listed_target: 7, ..base },
                "listing: 12,000 keys at the source, 7 at the target",
            ),
            (copying, "copying: 120 objects, 1.0 GiB"),
            (planned, "copying: 120 of 4,000 objects, 1.0 GiB of 30.0 GiB"),
            (
                Snapshot { bytes_per_second: Some(80.0 * 1048576.0), failed: 2, retries: 1, ..planned },
                "copying: 120 of 4,000 objects, 1.0 GiB of 30.0 GiB, 80.0 MiB/s, 6m 11s left, 2 failed, 1 retry",
            ),
            (
                Snapshot {
                    phase: Phase::Applying,
                    planned_metadata: 100_001,
                    done_metadata: 40_001,
                    metadata_per_second: Some(1000.0),
                    ..planned
                },
                "writing metadata: 40,001 of 100,001 tables and partitions, 1m 0s left",
            ),
            (Snapshot { phase: Phase::Comparing, ..base }, "comparing metadata"),
            (
                Snapshot { phase: Phase::Deleting, retries: 3, ..planned },
                "deleting: 120 of 4,000 objects, 1.0 GiB of 30.0 GiB, 3 retries",
            ),
        ];
        for (snapshot, words) in table {
            assert_eq!(text(&snapshot), words);
        }
        let line = plain_line(&Snapshot { elapsed_seconds: 90, ..copying });
        assert_eq!(line, "[1m 30s] copying: 120 objects, 1.0 GiB");
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
    async fn lines_come_every_thirty_seconds_and_end_with_the_ticker() {
        let progress = Progress::default();
        progress.done_bytes.store(5, std::sync::atomic::Ordering::Relaxed);
        let token = CancellationToken::new();
        let mut seen = Vec::new();
        let stopper = token.clone();
        let stop = async move {
            tokio::time::sleep(Duration::from_secs(95)).await;
            stopper.cancel();
        };
        let progress = Arc::new(progress);
        let sampler = Sampler::start(progress.clone(), Vec::new());
        let sampled = sample(LINE_EVERY, sampler, &token, |snapshot| seen.push(snapshot.elapsed_seconds));
        tokio::join!(sampled, stop);
        assert_eq!(seen, [30, 60, 90]);
        let ticker = Ticker::start(Show::Lines, &Screen::silent(), progress, Vec::new());
        ticker.stop().await;
    }
}
