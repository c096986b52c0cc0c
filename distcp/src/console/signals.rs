//! Signals: the first asks the run to stop where it can be resumed, the second ends the process at once.
//!
//! A crash of the run after the second signal leaves what any crash leaves: the journal's last seconds are missing, and the
//! next run finds out by listing.

use std::io;
use std::sync::atomic::Ordering;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::progress::Screen;
use crate::exit::ExitCode;
use crate::job::Stop;

/// Watches for signals until it is dropped.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns SIGINT and SIGTERM into `stop`; a second one of either ends the process with 130 or 143.
///
/// # Errors
/// When the kernel refuses the handlers.
pub fn watch(stop: Stop, screen: Screen) -> io::Result<Watch> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Beyond the limit for files (`ulimit -f`) a write must fail like on a full disk, not end the process.
    let too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    Ok(Watch(tokio::spawn(async move {
        let _too_large = too_large;
        let first = next(&mut interrupt, &mut terminate).await;
        tell(&stop, first);
        screen.line("stopping: what is finished is kept; once more to stop at once");
        let second = next(&mut interrupt, &mut terminate).await;
        std::process::exit(i32::from(second.code()));
    })))
}

/// Passes the first signal on. The kind is set before the token, so that whoever sees the token sees the kind.
fn tell(stop: &Stop, code: ExitCode) {
    stop.terminated.store(code == ExitCode::Terminated, Ordering::SeqCst);
    stop.token.cancel();
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> ExitCode {
    tokio::select! {
        _ = interrupt.recv() => ExitCode::Interrupted,
        _ = terminate.recv() => ExitCode::Terminated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_its_kind_and_the_token() {
        for (code, terminated) in [(ExitCode::Interrupted, false), (ExitCode::Terminated, true)] {
            let stop = Stop::default();
            tell(&stop, code);
            assert!(stop.token.is_cancelled());
            assert_eq!(stop.terminated.load(Ordering::SeqCst), terminated);
        }
    }

    #[tokio::test]
    async fn a_signal_of_the_process_reaches_the_run() {
        let stop = Stop::default();
        let _watch = watch(stop.clone(), Screen::silent()).unwrap();
        let pid = rustix::process::getpid();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        stop.token.cancelled().await;
        assert!(stop.terminated.load(Ordering::SeqCst));
    }
}
