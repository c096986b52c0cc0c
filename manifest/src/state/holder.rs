//! Who holds a lease: this process, as others will see it, and whether a process of this machine still lives.
//!
//! Reads `/proc` only, on Linux; elsewhere nothing is known of processes, and a lease is judged by its bytes alone. Never
//! takes a guess: what cannot be proven is [`Liveness::Unknown`].

use std::fmt;
use std::fs;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document::rfc3339;

/// The process that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the machine.
    pub host: String,
    /// Process id, in the holder's own namespace.
    pub pid: u32,
    /// The kernel's random id of this boot; empty when unknown.
    pub boot_id: String,
    /// The process namespace, as `/proc/self/ns/pid` names it; empty when unknown.
    pub pid_namespace: String,
    /// When the process started, in the kernel's ticks since the boot; pids come again, pairs do not. `None` when unknown.
    pub process_start: Option<u64>,
    /// The user that runs it, as the caller names them.
    pub user: String,
    /// The program and its version.
    pub program: String,
    /// When the run started, by the holder's wall clock. For people: nothing is decided by it.
    #[serde(with = "rfc3339")]
    pub started: Timestamp,
}

/// Whether a holder's process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs on this machine.
    Alive,
    /// It ran on this machine and is gone.
    Gone,
    /// It may run elsewhere, or cannot be seen from here.
    Unknown,
}

impl Holder {
    /// This process. `user` and `program` are for people; `started` is the run's start.
    pub fn this_process(user: impl Into<String>, program: impl Into<String>, started: Timestamp) -> Self {
        let pid = std::process::id();
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let host = read("/proc/sys/kernel/hostname");
        let namespace = fs::read_link("/proc/self/ns/pid").ok();
        Self {
            host: if host.is_empty() { "unknown host".into() } else { host },
            pid,
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            pid_namespace: namespace.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default(),
            process_start: process_start(pid).map(|(_, start)| start),
            user: user.into(),
            program: program.into(),
            started,
        }
    }

    /// Whether this holder's process lives, as far as `me` can see: only the same boot of the same machine and the same
    /// process namespace can tell.
    pub fn liveness(&self, me: &Holder) -> Liveness {
        let same_place = !self.boot_id.is_empty()
            && self.boot_id == me.boot_id
            && !self.pid_namespace.is_empty()
            && self.pid_namespace == me.pid_namespace;
        match self.process_start {
            Some(start) if same_place => process_liveness(self.pid, start),
            _ => Liveness::Unknown,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { host, pid, user, started, .. } = self;
        write!(f, "{user} on {host}, process {pid}, started {started}")
    }
}

fn process_liveness(pid: u32, start: u64) -> Liveness {
    let Some(id) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return Liveness::Unknown;
    };
    // Asked first, and not by looking into /proc: there, other users' processes can be hidden.
    if let Err(rustix::io::Errno::SRCH) = rustix::process::test_kill_process(id) {
        return Liveness::Gone;
    }
    match process_start(pid) {
        Some((_, now)) if now != start => Liveness::Gone,
        // Dead, but nobody has asked for its exit code; it may also be a process whose first thread ended.
        Some(('Z' | 'X', _)) => Liveness::Unknown,
        Some(_) => Liveness::Alive,
        None => Liveness::Unknown,
    }
}

/// State letter and start time of a process, from `/proc/<pid>/stat` (proc_pid_stat(5), fields 3 and 22).
fn process_start(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<(char, u64)> {
    // The second field is the program's name in parentheses and may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Holder {
        Holder::this_process("tester", "test 0", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn stat_is_read_past_any_program_name() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 176752 20";
        for name in ["cat", "a b", "x) R 1 (y", ")"] {
            assert_eq!(parse_stat(&format!("19352 ({name}) S {tail}")), Some(('S', 176_752)), "{name}");
        }
        for text in ["", "1 (x)", "1 (x) S 1 2", "1 (x) S a b c d e f g h i j k l m n o p q r s"] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_judged_only_where_it_can_be_seen() {
        let me = me();
        assert_eq!(me.liveness(&me), Liveness::Alive);
        let reused = Holder { process_start: me.process_start.map(|start| start + 1), ..me.clone() };
        assert_eq!(reused.liveness(&me), Liveness::Gone, "another process has its pid");
        let gone = Holder { pid: i32::MAX as u32, ..me.clone() };
        assert_eq!(gone.liveness(&me), Liveness::Gone);
        for elsewhere in [
            Holder { boot_id: "other".into(), ..gone.clone() },
            Holder { boot_id: String::new(), ..gone.clone() },
            Holder { pid_namespace: "pid:[1]".into(), ..gone.clone() },
            Holder { process_start: None, ..gone.clone() },
            Holder { pid: 0, ..me.clone() },
        ] {
            assert_eq!(elsewhere.liveness(&me), Liveness::Unknown, "{elsewhere:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn case_47_a_killed_process_is_gone_once_it_is_reaped() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let me = me();
        let start = process_start(child.id()).map(|(_, start)| start);
        let holder = Holder { pid: child.id(), process_start: start, ..me.clone() };
        assert_eq!(holder.liveness(&me), Liveness::Alive);
        child.kill().unwrap();
        // Killed, perhaps not dead yet, and not reaped: never said to be gone.
        assert_ne!(holder.liveness(&me), Liveness::Gone);
        child.wait().unwrap();
        assert_eq!(holder.liveness(&me), Liveness::Gone);
    }

    #[test]
    fn messages_name_host_and_start() {
        let text = Holder { host: "node-7".into(), ..me() }.to_string();
        assert!(text.contains("node-7") && text.contains("1970-01-01T00:00:00Z"), "{text}");
    }
}
