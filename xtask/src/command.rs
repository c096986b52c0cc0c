//! Running other programs: bounded in time, ended on Ctrl-C, with their output in a log or passed on line by line.
//!
//! A program gets no standard input, a process group of its own (so that what it started ends with it), and none of the
//! developer's cloud credentials.

use crate::folders::Folders;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Pause between two looks whether a program has ended; benchmarks are timed with it.
const POLL: Duration = Duration::from_millis(1);
/// How long a program may take to end after TERM before its group is killed.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// How long output may still come after the program has ended: something it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_secs(10);
/// Lines that wait to be passed on.
const LINES_IN_FLIGHT: usize = 1024;
/// Lines of a log that are shown when its program failed.
const SHOWN_LINES: usize = 60;

/// A signal asked xtask to stop; the error that unwinds to `main`.
#[derive(Debug)]
pub struct Interrupted(pub i32);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Whether HUP, INT or TERM has arrived. They only set a flag, so that services are ended on every way out.
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Takes these signals over for this process.
    pub fn install() -> Result<Self> {
        let flag = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register_usize(signal, Arc::clone(&flag), usize::try_from(signal)?)
                .context("register a signal")?;
        }
        Ok(Self(flag))
    }

    /// An error once a signal has arrived.
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Interrupted(i32::try_from(signal).unwrap_or(SIGTERM)).into()),
        }
    }

    #[cfg(test)]
    pub fn never() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }
}

/// A program with a clean environment: see [`clean`].
pub fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(path);
    clean(&mut command);
    command
}

/// The cargo that runs xtask, in the root of the repository.
pub fn cargo(folders: &Folders) -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&folders.root);
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        // It may have been relative to where xtask was started.
        command.env("CARGO_TARGET_DIR", &folders.target);
    }
    command
}

/// Takes away what must not leak into tests and tools: the developer's cloud credentials, our own variables of another
/// run, and what cargo says about xtask, which would make build scripts run again for nothing.
fn clean(command: &mut Command) {
    const OURS: [&str; 4] = ["AWS_", "RCLONE_", "S5CMD_", "UNDERSTUDY_"];
    const CARGOS: [&str; 5] =
        ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || CARGOS.contains(&&*text)
            || OURS.iter().any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
}

/// Runs to the end with all output in `log`; a failure shows the end of the log.
pub fn run_logged(command: &mut Command, log: &Path, limit: Duration, interrupt: &Interrupt) -> Result<()> {
    let status = status_logged(command, log, limit, interrupt)?;
    if !status.success() {
        bail!("{} failed ({status}), see {}\n{}", describe(command), log.display(), tail(log));
    }
    Ok(())
}

/// As [`run_logged`], but leaves it to the caller to judge the exit status.
pub fn status_logged(command: &mut Command, log: &Path, limit: Duration, interrupt: &Interrupt) -> Result<ExitStatus> {
    let out = log_file(log)?;
    let err = out.try_clone().context("share the log")?;
    command.stdout(out).stderr(err);
    let mut child = spawn(command)?;
    wait(&mut child, command, limit, interrupt)
}

/// Runs to the end and hands on each line of standard output; standard error goes where ours goes.
pub fn run_lines(
    command: &mut Command,
    limit: Duration,
    interrupt: &Interrupt,
    on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    run_watched(command, limit, interrupt, on_line, |_| ())
}

/// As [`run_lines`]; `on_look` is given the process each time that it is looked whether it has ended.
pub fn run_watched(
    command: &mut Command,
    limit: Duration,
    interrupt: &Interrupt,
    mut on_line: impl FnMut(&str),
    mut on_look: impl FnMut(u32),
) -> Result<ExitStatus> {
    command.stdout(Stdio::piped());
    let mut child = spawn(command)?;
    let pipe = child.stdout.take().context("no pipe")?;
    let (send, receive) = sync_channel(LINES_IN_FLIGHT);
    std::thread::spawn(move || forward(pipe, &send));
    let group = child_group(&child)?;
    let until = Instant::now() + limit;
    loop {
        pass_on(&receive, &mut on_line);
        on_look(child.id());
        if let Some(status) = child.try_wait().context("wait")? {
            drain(&receive, &mut on_line);
            return Ok(status);
        }
        if let Err(stop) = keep_going(command, limit, until, interrupt) {
            end_group(&mut child, group)?;
            return Err(stop);
        }
        std::thread::sleep(POLL);
    }
}

/// The last lines of a log, for a person who asks what went wrong.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// An empty log file, its folder made.
pub fn log_file(log: &Path) -> Result<File> {
    let folder = log.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    File::create(log).with_context(|| format!("create {}", log.display()))
}

/// The command as one could type it.
pub fn describe(command: &Command) -> String {
    let name = PathBuf::from(command.get_program());
    let name = name.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let mut words = vec![name];
    // b3sum gets thousands of names.
    words.extend(command.get_args().take(12).map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).process_group(0);
    command.spawn().with_context(|| format!("start {}", describe(command)))
}

fn wait(child: &mut Child, command: &Command, limit: Duration, interrupt: &Interrupt) -> Result<ExitStatus> {
    let group = child_group(child)?;
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("wait")? {
            return Ok(status);
        }
        if let Err(stop) = keep_going(command, limit, until, interrupt) {
            end_group(child, group)?;
            return Err(stop);
        }
        std::thread::sleep(POLL);
    }
}

fn keep_going(command: &Command, limit: Duration, until: Instant, interrupt: &Interrupt) -> Result<()> {
    interrupt.check()?;
    if Instant::now() >= until {
        bail!("{} took longer than {} s", describe(command), limit.as_secs());
    }
    Ok(())
}

fn child_group(child: &Child) -> Result<Pid> {
    Pid::from_raw(i32::try_from(child.id()).context("pid out of range")?).context("no pid")
}

/// Ends the child and all it started. The child is not yet reaped here, so the group's number is still its own.
fn end_group(child: &mut Child, group: Pid) -> Result<()> {
    // An error means that the group has just ended.
    let _ = kill_process_group(group, Signal::TERM);
    let until = Instant::now() + TERM_GRACE;
    while Instant::now() < until {
        if child.try_wait().context("wait")?.is_some() {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().context("wait")?;
    Ok(())
}

fn forward(pipe: impl std::io::Read, send: &SyncSender<String>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        line.clear();
        if send.send(text).is_err() {
            return;
        }
    }
}

fn pass_on(receive: &Receiver<String>, on_line: &mut impl FnMut(&str)) {
    while let Ok(line) = receive.try_recv() {
        on_line(&line);
    }
}

fn drain(receive: &Receiver<String>, on_line: &mut impl FnMut(&str)) {
    while let Ok(line) = receive.recv_timeout(DRAIN) {
        on_line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn lines_arrive_in_order_and_the_status_is_the_program_s() {
        let mut command = program("sh");
        command.args(["-c", "echo a; echo b; exit 3"]);
        let mut lines = Vec::new();
        let status = run_lines(&mut command, LIMIT, &Interrupt::never(), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["a", "b"]);
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("pid");
        let mut command = program("sh");
        command.args(["-c", "sleep 600 & echo $! > \"$0\"; wait"]).arg(&pid_file);
        let log = folder.path().join("log");
        let error = run_logged(&mut command, &log, Duration::from_millis(500), &Interrupt::never()).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        let ended = crate::process::Identity::of(pid).is_ok_and(|id| id.runs());
        assert!(!ended, "a grandchild runs on");
    }

    #[test]
    fn an_interrupt_is_an_error_with_its_signal() {
        let interrupt = Interrupt(Arc::new(AtomicUsize::new(15)));
        let mut command = program("sleep");
        command.arg("600");
        let error = run_lines(&mut command, LIMIT, &interrupt, |_| ()).unwrap_err();
        assert_eq!(error.downcast_ref::<Interrupted>().map(|i| i.0), Some(15));
    }
}
