//! A program that goes on while the test watches what it does: waited for by its effects, each with a deadline, and sent
//! signals by its own process id. It is killed when its value is dropped.

use crate::cli::Ran;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// How long an effect may take on a machine that is busy.
const EFFECT_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at whether an effect is there; the program's end is noticed at once.
const BETWEEN_LOOKS: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Waits for the end of a process, so long at most; `None` if it goes on.
///
/// # Panics
/// If nobody can tell.
pub fn end_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    // Of what was waited for before there is no descriptor any more.
    let mut ended = None;
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let status = child.try_wait().expect("its status");
        if status.is_some() || left.is_zero() {
            return status;
        }
        let open = || pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("a descriptor of it");
        let ended = ended.get_or_insert_with(open);
        await_end(ended, &Timespec::try_from(left).expect("a limit"));
    }
}

/// An error, or a wait that was cut short, only means another look.
fn await_end(ended: &OwnedFd, limit: &Timespec) {
    let _ = poll(&mut [PollFd::new(ended, PollFlags::IN)], Some(limit));
}

/// A process with its output in files: nobody has to read it meanwhile.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Readable once it has ended.
    ended: OwnedFd,
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
        let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a descriptor of it");
        Self { child, ended, printed }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
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
        let started = Instant::now();
        loop {
            // In this order: what ended did what it did before.
            let went_on = self.goes_on();
            if is_there() {
                return;
            }
            if !went_on {
                let ran = self.take_end();
                panic!("it ended before {what}: {ran:#?}");
            }
            assert!(started.elapsed() < EFFECT_LIMIT, "{what} was waited for in vain");
            await_end(&self.ended, &BETWEEN_LOOKS);
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

    /// Stops it, and comes back when none of its threads does anything any more: a call of the system that was begun is ended.
    ///
    /// # Panics
    /// If it has ended.
    pub fn hold(&mut self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.id());
        self.until("all its threads stand still", || {
            let states = std::fs::read_dir(&threads).into_iter().flatten().map(|thread| {
                let stat = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("stat")));
                // `PID (NAME) STATE ...`; a thread that ended meanwhile has none.
                stat.ok().and_then(|stat| stat.rsplit_once(") ")?.1.chars().next())
            });
            states.flatten().all(|state| state == 'T')
        });
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end before the deadline.
    pub fn end(mut self) -> Ran {
        let ended = end_within(&mut self.child, EFFECT_LIMIT);
        assert!(ended.is_some(), "its end was waited for in vain");
        self.take_end()
    }

    /// Kills it, unless it ends before.
    pub fn kill_after(mut self, limit: Duration) {
        let _ = end_within(&mut self.child, limit);
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
