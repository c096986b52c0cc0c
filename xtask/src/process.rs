//! Knowing and ending one particular process.
//!
//! A pid alone may belong to somebody else by now, so a process is named by pid, start time and boot. What cannot be
//! shown to be ours is never signalled.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long a process may take to end when asked before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// How long a killed process may take to vanish.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Pause between two looks.
pub const POLL: Duration = Duration::from_millis(20);

/// One process of this boot, recognisable later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`: ticks of another boot say nothing.
    pub boot_id: String,
}

impl Identity {
    /// The identity of a process that runs now.
    pub fn of(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).context("pid out of range")?;
        let stat = Stat::read(pid).with_context(|| format!("process {pid} is gone already"))?;
        Ok(Self { pid, start_ticks: stat.start_ticks, boot_id: boot_id()? })
    }

    /// Whether exactly this process still runs. A zombie has ended.
    pub fn runs(&self) -> bool {
        let same_boot = boot_id().is_ok_and(|now| now == self.boot_id);
        same_boot && Stat::read(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.has_ended())
    }

    /// Ends exactly this process: this signal, then KILL. Ended already is fine.
    pub fn end(&self, first: Signal) -> Result<()> {
        for (signal, grace) in [(first, TERM_GRACE), (Signal::KILL, KILL_GRACE)] {
            if !self.runs() {
                return Ok(());
            }
            let pid = Pid::from_raw(self.pid).with_context(|| format!("{} is no pid", self.pid))?;
            // It may have ended since the look above; whether it is gone is decided below.
            let sent = kill_process(pid, signal);
            let until = Instant::now() + grace;
            while Instant::now() < until {
                if !self.runs() {
                    return Ok(());
                }
                std::thread::sleep(POLL);
            }
            sent.with_context(|| format!("signal process {}", self.pid))?;
        }
        bail!("process {} did not end after KILL", self.pid)
    }
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(std::fs::read_to_string(path).with_context(|| format!("read {path}"))?.trim().to_owned())
}

struct Stat {
    state: char,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name in parentheses may itself hold spaces and parentheses: fields count from the last one. See proc(5).
    fn parse(text: &str) -> Option<Self> {
        let (_, after) = text.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start_ticks })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) S (b)) Z 1 7 7 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 4242 1 2 3";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.start_ticks), ('Z', 4242));
    }

    #[test]
    fn ends_its_own_process_and_no_other_with_the_same_pid() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let ours = Identity::of(child.id()).unwrap();
        let other = Identity { start_ticks: ours.start_ticks + 1, ..ours.clone() };
        assert!(ours.runs() && !other.runs());
        other.end(Signal::TERM).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "a process that is not ours was ended");
        ours.end(Signal::TERM).unwrap();
        assert!(!ours.runs(), "a zombie counts as ended");
        assert!(!child.wait().unwrap().success());
    }
}
