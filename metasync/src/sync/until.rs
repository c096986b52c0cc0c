//! How a run hears that it shall end: between two writes, and wherever it waits for an answer that changes nothing.
//!
//! What is being written is never broken off. What a signal leaves is what a crash at the same place would, and less: tables
//! that were not reached stay as they are, the one in hand holds the batches that were written, and the intent of the
//! checkpoint names them all. The next run compares and goes on.

use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::job::Stop;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long what hears the signal by itself may take to end in order, before it is left where it waits.
const GRACE: Duration = Duration::from_secs(5);

/// The code of the signal that was received, if any was.
pub(super) fn signalled(stop: &Stop) -> Option<ExitCode> {
    let code = || match stop.terminated.load(Ordering::Relaxed) {
        true => ExitCode::Terminated,
        false => ExitCode::Interrupted,
    };
    stop.token.is_cancelled().then(code)
}

/// Errors: a signal was received.
pub(super) fn go_on(stop: &Stop) -> Result<()> {
    signalled(stop).map_or(Ok(()), |code| Err(asked(code)))
}

fn asked(code: ExitCode) -> Failure {
    Failure::new(code, "the run was asked to stop")
}

/// Whether a failure says no more than that a signal was heard.
pub(super) fn is_asked(failure: &Failure) -> bool {
    matches!(failure.code, ExitCode::Interrupted | ExitCode::Terminated)
}

/// Waits for what only reads, and no longer than [`GRACE`] after a signal. Errors: its own, or the signal's.
pub(super) async fn answered<T>(stop: &Stop, reading: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = async {
        stop.token.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        answer = reading => answer,
        () = patience => Err(asked(signalled(stop).unwrap_or(ExitCode::Interrupted))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_what_waits_after_its_grace_and_lets_what_ends_by_itself() {
        for (terminated, code) in [(false, ExitCode::Interrupted), (true, ExitCode::Terminated)] {
            let stop = Stop::default();
            go_on(&stop).unwrap();
            assert_eq!(answered(&stop, async { Ok(1) }).await.unwrap(), 1);
            stop.terminated.store(terminated, Ordering::Relaxed);
            stop.token.cancel();
            assert_eq!(go_on(&stop).unwrap_err().code, code);
            let begun = tokio::time::Instant::now();
            assert_eq!(answered(&stop, pending::<Result<()>>()).await.unwrap_err().code, code);
            assert_eq!(begun.elapsed(), GRACE);
            let in_order = async {
                tokio::time::sleep(GRACE - Duration::from_millis(1)).await;
                Ok("in order")
            };
            assert_eq!(answered(&stop, in_order).await.unwrap(), "in order");
        }
    }
}
