//! `cargo xtask test`: every check and every test, in order, one line a step.
//!
//! Services that it started are ended on every way out: success, failure, a signal. Only a kill (SIGKILL) leaves one
//! running, and the next run finds and uses it.

mod totals;

use crate::command::{Interrupt, cargo, run_lines, run_logged};
use crate::folders::{Folders, lock};
use crate::fuzz;
use crate::instructions;
use crate::services::{self, Up};
use crate::terminal::{err, out};
use crate::tidy;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};
use totals::Totals;

/// How long a whole run may take, without `--long`: a machine that allows it 90 minutes would end it without its services.
const RUN_LIMIT: Duration = Duration::from_secs(85 * 60);
/// How long one step may take; a cold build on two cores takes some minutes.
const STEP_LIMIT: Duration = Duration::from_secs(25 * 60);
/// How long the tests may take.
const TEST_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The same with `--long`, where there is no limit of the whole.
const LONG_TEST_LIMIT: Duration = Duration::from_secs(180 * 60);
/// Tests that run at once: they wait for servers as long as they compute, on two cores.
const THREADS: usize = 4;

/// How long each target is fuzzed with `--long`.
const FUZZ_SECONDS: u32 = 600;

/// Run every check and every test.
///
/// Steps: fmt, clippy, doc, tidy, build, count, services, test. A step that fails does not stop the others, except that
/// without a build there are no tests. With a FILTER only build, services and test are run.
#[derive(clap::Args)]
#[command(after_help = "\
Real services are started before the tests and ended after them; services that ran already are used and left running.
What is not installed yet is installed while the steps before go on. A service that cannot be installed here is named. With
CI=true that fails the run; else the tests that need it are skipped, and named at the end.

`count` counts the instructions of some benchmarks and fails when one takes 10% more than benches/instructions.txt says;
without valgrind it fails with CI=true, else it is named as not done.

The last line is `tests: N passed, N failed, N skipped`. Logs of the steps: target/xtask.")]
pub struct Args {
    /// Also what takes long: tests of minutes (sets UNDERSTUDY_TEST_LONG=1), and fuzzing, 10 minutes a target
    #[arg(long)]
    long: bool,
    /// Leave the services running
    #[arg(long)]
    keep: bool,
    /// Only tests with this in their name
    filter: Option<String>,
}

/// True if every step passed.
pub fn run(args: &Args, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    let _lock = lock(&folders.xtask().join("test.lock"), "tests")?;
    let until = (!args.long).then(|| Instant::now() + RUN_LIMIT);
    let mut steps = Steps { folders, interrupt, until, failed: Vec::new() };
    let totals = std::thread::scope(|scope| {
        // It waits for downloads while the others compute. A signal ends it as it ends them.
        let installing = scope.spawn(|| services::installed(&services::all(), folders, interrupt));
        if args.filter.is_none() {
            check(&mut steps)?;
        }
        let mut build = cargo(folders);
        build.args(["build", "--workspace", "--bins"]);
        let built = steps.command("build", &mut build)?;
        if built && args.filter.is_none() {
            count(&mut steps)?;
        }
        if built { test(args, installing, &mut steps) } else { Ok(Totals::default()) }
    })?;
    if args.long && args.filter.is_none() {
        let (folders, interrupt) = (steps.folders, steps.interrupt);
        steps.step("fuzz", || match fuzz::each(&fuzz::TARGETS, FUZZ_SECONDS, folders, interrupt)? {
            true => Ok(()),
            false => bail!("something was found"),
        })?;
    }
    if !steps.failed.is_empty() {
        err!("error: failed: {}", steps.failed.join(", "));
    }
    out!("tests: {totals}");
    Ok(steps.failed.is_empty())
}

/// The steps that need no services.
fn check(steps: &mut Steps<'_>) -> Result<()> {
    let folders = steps.folders;
    let mut fmt = cargo(folders);
    fmt.args(["fmt", "--all", "--check"]);
    steps.command("fmt", &mut fmt)?;
    let mut clippy = cargo(folders);
    clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    steps.command("clippy", &mut clippy)?;
    let mut doc = cargo(folders);
    doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    steps.command("doc", &mut doc)?;
    steps.step("tidy", || {
        let findings = tidy::check(&folders.root)?;
        if !findings.is_empty() {
            let lines = findings.iter().fold(String::new(), |mut lines, finding| {
                // Writing to a string cannot fail.
                let _ = writeln!(lines, "    {finding}");
                lines
            });
            bail!("{} not tidy\n{lines}", findings.len());
        }
        Ok(())
    })?;
    Ok(())
}

/// Instructions against those that were accepted.
fn count(steps: &mut Steps<'_>) -> Result<()> {
    if !instructions::can_count() && !in_ci() {
        err!("warning: instructions are not counted: valgrind is not here");
        return Ok(());
    }
    let (folders, interrupt) = (steps.folders, steps.interrupt);
    steps.step("count", || instructions::check(folders, interrupt))?;
    Ok(())
}

/// Where everything must be installable, and nothing may be left out.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// The thread that installs the services.
type Installing<'a> = ScopedJoinHandle<'a, Result<services::Failed>>;

/// Services up, tests, services down.
fn test(args: &Args, installing: Installing<'_>, steps: &mut Steps<'_>) -> Result<Totals> {
    let (folders, interrupt) = (steps.folders, steps.interrupt);
    let mut up = Up::default();
    let prepared = steps.step("services", || {
        let failed = installing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        up = services::up_but(&services::all(), failed, folders, interrupt)?;
        missing(&up)
    });
    let tested = prepared.and_then(|_| test_with(&up, args, steps));
    if args.keep {
        out!("services are left running: cargo xtask services down");
        return tested;
    }
    // Also after a failure and after a signal: nothing above returns early.
    let ended = services::down(&up.started, folders);
    let totals = tested?;
    ended.context("services down")?;
    Ok(totals)
}

/// What cannot be had fails a run in CI, where everything must be installable, and is named elsewhere.
fn missing(up: &Up) -> Result<()> {
    let lines: String = up.failed.iter().map(|(name, why)| format!("    {name} cannot be had here: {why}\n")).collect();
    if up.failed.is_empty() {
        Ok(())
    } else if in_ci() {
        bail!("CI needs every service\n{lines}")
    } else {
        err!("warning: the tests that need these are skipped\n{}", lines.trim_end());
        Ok(())
    }
}

fn test_with(up: &Up, args: &Args, steps: &mut Steps<'_>) -> Result<Totals> {
    let folders = steps.folders;
    let skipped_file = folders.xtask().join("skipped");
    std::fs::write(&skipped_file, "").with_context(|| format!("write {}", skipped_file.display()))?;
    let mut command = cargo(folders);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.args(&args.filter);
    command.env("RUST_TEST_THREADS", THREADS.to_string());
    environment(&mut command, up, folders, &skipped_file);
    if args.long {
        command.env("UNDERSTUDY_TEST_LONG", "1");
    }
    let table = folders.xtask().join("cases-by-pair.txt");
    command.env("UNDERSTUDY_TEST_TABLE", &table);
    // Of an earlier run it would say what did not happen.
    let _ = std::fs::remove_file(&table);
    let mut totals = Totals::default();
    let limit = steps.limit(if args.long { LONG_TEST_LIMIT } else { TEST_LIMIT });
    steps.step("test", || {
        let status = run_lines(&mut command, limit, steps.interrupt, |line| {
            out!("{line}");
            totals.read(line);
        })?;
        totals.take_skipped(&std::fs::read_to_string(&skipped_file).unwrap_or_default());
        for line in &totals.skipped {
            out!("skipped: {line}");
        }
        if let Ok(table) = std::fs::read_to_string(&table) {
            out!("{table}");
        }
        if !status.success() {
            bail!("cargo test: {status}");
        }
        match &args.filter {
            _ if totals.ran() > 0 => Ok(()),
            Some(filter) => bail!("no test has `{filter}` in its name"),
            None => bail!("no test ran"),
        }
    })?;
    Ok(totals)
}

/// What the integration tests are told; `tests/support/services.rs` reads it.
fn environment(command: &mut Command, up: &Up, folders: &Folders, skipped_file: &Path) {
    command.envs(&up.variables);
    command.env("UNDERSTUDY_TEST_BIN_DISTCP", folders.target.join("debug/distcp"));
    command.env("UNDERSTUDY_TEST_BIN_METASYNC", folders.target.join("debug/metasync"));
    if !up.failed.is_empty() {
        let names: Vec<_> = up.failed.iter().map(|(name, _)| *name).collect();
        command.env("UNDERSTUDY_TEST_SKIP", names.join(",")).env("UNDERSTUDY_TEST_SKIPPED_FILE", skipped_file);
    }
}

struct Steps<'a> {
    folders: &'a Folders,
    interrupt: &'a Interrupt,
    /// When the whole run has to end.
    until: Option<Instant>,
    failed: Vec<&'static str>,
}

impl Steps<'_> {
    /// A step that is one command, its output kept in a log.
    fn command(&mut self, name: &'static str, command: &mut Command) -> Result<bool> {
        let (log, interrupt) = (self.folders.xtask().join(format!("{name}.log")), self.interrupt);
        let limit = self.limit(STEP_LIMIT);
        self.step(name, || run_logged(command, &log, limit, interrupt))
    }

    /// How long a step that begins now may take.
    fn limit(&self, of_step: Duration) -> Duration {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(of_step, |left| left.min(of_step))
    }

    /// One step, one line. Its failure is recorded and does not stop the others; a signal does.
    fn step(&mut self, name: &'static str, work: impl FnOnce() -> Result<()>) -> Result<bool> {
        let since = Instant::now();
        let result = work();
        self.interrupt.check()?;
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        out!("{name:<9} {word:<6} {:>6.1} s", since.elapsed().as_secs_f64());
        if let Err(error) = &result {
            err!("error: {name}: {error:#}");
            self.failed.push(name);
        }
        Ok(result.is_ok())
    }
}
