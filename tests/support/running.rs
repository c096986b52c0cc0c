//! A program that goes on while the test watches what it does: waited for by its effects, each with a deadline, and sent
//! signals by its own process id. It is killed when its value is dropped.

use crate::cli::Ran;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long an effect may take on a machine that is busy.
const EFFECT_LIMIT: Duration = Duration::from_secs(120);

/// Waits until `is_there`; answers whether it was, before `goes_on` said no.
///
/// # Panics
/// If neither comes before the deadline.
fn watch(what: &str, mut goes_on: impl FnMut() -> bool, is_there: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    loop {
        // In this order: what ended did what it did before.
        let went_on = goes_on();
        if is_there() {
            return true;
        }
        if !went_on {
            return false;
        }
        assert!(started.elapsed() < EFFECT_LIMIT, "{what} was waited for in vain");
        std::thread::yield_now();
    }
}

/// A process with its output in files: nobody has to read it meanwhile.
#[derive(Debug)]
pub struct Running {
    child: Child,
    printed: [File; 2],
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let printed = [(), ()].map(|()| tempfile::tempfile().expect("a file"));
        let [stdout, stderr] = printed.each_ref().map(|file| file.try_clone().expect("a file"));
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("the program starts");
        Self { child, printed }
    }

    /// Whether it has not ended.
    ///
    /// # Panics
    /// If nobody can tell.
    pub fn goes_on(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }

    /// Waits for an effect.
    ///
    /// # Panics
    /// If it ends without, or takes too long.
    pub fn until(&mut self, what: &str, is_there: impl Fn() -> bool) {
        if !watch(what, || self.goes_on(), is_there) {
            let ran = self.take_end();
            panic!("it ended before {what}: {ran:#?}");
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.goes_on(), "it has ended before the signal");
        kill_process(Pid::from_child(&self.child), signal).expect("the signal is sent");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end before the deadline.
    pub fn end(mut self) -> Ran {
        assert!(!watch("its end", || self.goes_on(), || false));
        self.take_end()
    }

    fn take_end(&mut self) -> Ran {
        let status = self.child.wait().expect("its status");
        let [stdout, stderr] = self.printed.each_mut().map(|file| {
            let mut text = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("its output");
            text
        });
        Ran::from(Output { status, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
