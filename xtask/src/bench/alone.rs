//! What is measured of distcp alone: start-up, the binary, memory as objects grow, a renamed prefix.
//!
//! Each run's wall time is taken from start to end of the process, its peak is the kernel's `VmHWM`, and what it read and
//! wrote is what its own summary says.

use super::contest::{BUCKET, STATE_BUCKET, Stage};
use super::data::{self, Tree};
use super::table::median;
use crate::command::{Interrupt, describe, program, run_lines, run_logged, run_watched};
use crate::terminal::{err, out};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// Runs of the start-up.
const STARTS: usize = 21;
/// How many objects there are when memory is measured.
const OBJECTS: [u64; 2] = [200_000, 1_000_000];
/// What is renamed: 1 GiB, in objects that a client sends whole, so that their ETags are of their content.
const RENAMED: Tree = Tree { files: 64, file_bytes: 16 << 20 };

/// One measurement.
pub struct Alone {
    /// As it is named on the command line.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// The services that it needs.
    pub needs: &'static [&'static str],
    run: fn(&Stage, u32, &Interrupt) -> Result<Vec<String>>,
}

/// All of them.
pub const ALL: [Alone; 4] = [
    Alone { name: "start", about: "copy of nothing between two local folders", needs: &[], run: start },
    Alone { name: "binary", about: "size and libraries of the release binary", needs: &[], run: binary },
    Alone {
        name: "rename",
        about: "a renamed prefix of 1 GiB on S3, bytes through us",
        needs: &["versitygw", "rclone", "s5cmd"],
        run: rename,
    },
    Alone { name: "memory", about: "peak memory at 200,000 and 1,000,000 objects", needs: &[], run: memory },
];

/// The head of the table, in Markdown.
pub const HEAD: &str = "| case | what | result |\n|---|---|---|";

impl Alone {
    /// Prints its rows.
    pub fn measure(&self, stage: &Stage, scale: u32, interrupt: &Interrupt) -> Result<()> {
        for result in (self.run)(stage, scale, interrupt)? {
            out!("| {} | {} | {result} |", self.name, self.about);
        }
        Ok(())
    }
}

/// A run that ended well.
struct Ran {
    seconds: f64,
    peak_kib: u64,
    summary: serde_json::Value,
}

impl Ran {
    fn number(&self, pointer: &str) -> Result<u64> {
        self.summary.pointer(pointer).and_then(serde_json::Value::as_u64).with_context(|| format!("no {pointer}"))
    }
}

/// Runs distcp with `--json`, and looks at its memory as often as it is looked whether it has ended.
fn run(command: &mut Command, interrupt: &Interrupt) -> Result<Ran> {
    command.args(["--json", "-q"]);
    let (mut peak_kib, mut summary) = (0, None);
    let since = Instant::now();
    let on_line = |line: &str| {
        if line.contains("\"type\":\"summary\"") {
            summary = serde_json::from_str::<serde_json::Value>(line).ok();
        }
    };
    let status = run_watched(command, LIMIT, interrupt, on_line, |process| peak_kib = peak_of(process).max(peak_kib))?;
    let seconds = since.elapsed().as_secs_f64();
    ensure!(status.success(), "{}: {status}", describe(command));
    let summary = summary.context("it printed no summary")?;
    Ok(Ran { seconds, peak_kib, summary })
}

/// The most memory that a process had so far; 0 once it has ended.
fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn start(stage: &Stage, _scale: u32, interrupt: &Interrupt) -> Result<Vec<String>> {
    let folder = stage.folder.join("start");
    let mut rows = Vec::new();
    for fresh in [true, false] {
        let mut times = Vec::new();
        for _ in 0..=STARTS {
            if fresh {
                data::remove(&folder)?;
            }
            for side in ["a", "b"] {
                std::fs::create_dir_all(folder.join(side)).context("make a folder")?;
            }
            let mut command = copy(stage, &folder.join("a"), &folder.join("b"), &folder.join("state"));
            command.arg("--allow-empty-source");
            times.push(run(&mut command, interrupt)?.seconds * 1e3);
        }
        // The first one reads the program from the disk.
        times.remove(0);
        let (low, high) = times.iter().fold((f64::MAX, 0.0), |(low, high): (f64, f64), t| (low.min(*t), high.max(*t)));
        let what = if fresh { "first run of a job" } else { "later run" };
        rows.push(format!("{what}: median {:.1} ms ({low:.1} - {high:.1})", median(&times)));
    }
    data::remove(&folder)?;
    Ok(rows)
}

fn binary(stage: &Stage, _scale: u32, interrupt: &Interrupt) -> Result<Vec<String>> {
    let path = stage.built.join("distcp");
    let bytes = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
    let mut libraries = Vec::new();
    let mut ldd = program("ldd");
    ldd.arg(&path);
    let status = run_lines(&mut ldd, LIMIT, interrupt, |line| {
        libraries.extend(line.split_whitespace().next().map(|name| Path::new(name).to_path_buf()));
    })?;
    ensure!(status.success(), "ldd: {status}");
    let names: Vec<_> =
        libraries.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
    Ok(vec![format!("{:.1} MB; {}", bytes as f64 / 1e6, names.join(", "))])
}

/// A source that was copied, then renamed: the copies are made inside the target's store.
fn rename(stage: &Stage, scale: u32, interrupt: &Interrupt) -> Result<Vec<String>> {
    let tree = Tree { files: (RENAMED.files / u64::from(scale)).max(1), ..RENAMED };
    data::make(&stage.folder, tree)?;
    let (from, to) = ("rename-source", "rename-target");
    let places = [stage.stored.join(BUCKET).join(from), stage.stored.join(BUCKET).join(to)];
    let state = stage.stored.join(STATE_BUCKET).join("rename");
    let clear = || places.iter().chain([&state]).try_for_each(|folder| data::remove(folder));
    clear()?;
    let local = data::folder(&stage.folder, tree).display().to_string();
    let mut fill = stage.rclone(false, &local, &format!("s3://{BUCKET}/{from}"))?;
    run_logged(&mut fill, &stage.folder.join("bench.log"), LIMIT, interrupt).context("fill the source")?;
    let command = || -> Result<Command> {
        let mut command = stage.ours()?;
        command.args(["copy", &format!("s3://{BUCKET}/{from}"), &format!("s3://{BUCKET}/{to}"), "--delete"]);
        command.args(["--max-deletes", "100%", "--state", &format!("s3://{STATE_BUCKET}/rename")]);
        command.args(["--source-option", &format!("endpoint={}", stage.other_name()?)]);
        Ok(command)
    };
    run(&mut command()?, interrupt).context("the copy before")?;
    // The server keeps objects as files with their ETags beside them: a rename of its folder renames the prefix.
    let folder = std::fs::read_dir(&places[0])?.next().context("the source is empty")??.path();
    std::fs::rename(&folder, folder.with_file_name("renamed")).context("rename the prefix")?;
    let ran = run(&mut command()?, interrupt)?;
    data::check(&places[1], tree)?;
    let (read, written) = (ran.number("/bytes/read")?, ran.number("/bytes/written")?);
    clear()?;
    Ok(vec![format!(
        "{} in {:.2} s: {read} bytes read, {written} written, {} copied by the server",
        tree.about(),
        ran.seconds,
        ran.number("/bytes/server_side")?
    )])
}

/// Empty files: their names are what memory could go to.
fn memory(stage: &Stage, scale: u32, interrupt: &Interrupt) -> Result<Vec<String>> {
    let folder = stage.folder.join("memory");
    let mut rows = Vec::new();
    for objects in OBJECTS.map(|objects| objects / u64::from(scale)) {
        data::remove(&folder)?;
        let (source, target) = (folder.join("a"), folder.join("b"));
        data::make_empty(&source, objects)?;
        err!("memory: {objects} files are there");
        for what in ["first copy", "nothing changed"] {
            let ran = run(&mut copy(stage, &source, &target, &folder.join("state")), interrupt)?;
            let listed = ran.number("/counts/listed")?;
            if listed != objects {
                bail!("{listed} objects were listed, not {objects}");
            }
            rows.push(format!("{objects} objects, {what}: {} MiB, {:.1} s", ran.peak_kib >> 10, ran.seconds));
        }
    }
    data::remove(&folder)?;
    Ok(rows)
}

fn copy(stage: &Stage, source: &Path, target: &Path, state: &Path) -> Command {
    let mut command = program(stage.built.join("distcp"));
    command.arg("copy").args([source, target]).arg("--state").arg(state);
    command
}
