//! Runs in paused time: what waits costs nothing, and what works is waited for.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use distcp::progress::Phase;
use distcp::run::{self, Report};

use crate::jobs::Pair;

/// How far time moves at once while a plan is made.
const STEP: Duration = Duration::from_millis(20);
/// What that takes at least.
const PACE: Duration = Duration::from_micros(100);

/// Runs `copy` in tokio's paused time (a runtime of one thread).
///
/// Paused time moves by itself when nothing else can; but a plan is merged on a blocking thread, which counts as work,
/// while the listings that it reads may wait for a retry. So time is moved by hand while the run plans, no faster than
/// `STEP` in `PACE`: on a busy machine time must neither run away from the work nor take the processor from it.
pub async fn copy_in_paused_time(pair: &Pair) -> Report {
    let job = pair.job();
    let mut run = pin!(run::copy(&job));
    let mut step = None;
    poll_fn(|context| {
        if let Poll::Ready(report) = run.as_mut().poll(context) {
            return Poll::Ready(report);
        }
        if job.progress.phase() == Phase::Listing {
            let moving = step.get_or_insert_with(|| {
                Box::pin(async {
                    // The thread does nothing that can fail.
                    let _ = tokio::task::spawn_blocking(|| std::thread::park_timeout(PACE)).await;
                    tokio::time::advance(STEP).await;
                })
            });
            if moving.as_mut().poll(context).is_ready() {
                step = None;
                context.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}
