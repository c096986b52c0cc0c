//! `cargo xtask bench`: distcp beside its peers, on this machine, over the same data; and, by name, metasync.
//!
//! The contestants take turns (A B C A B C ...), after one round that is not counted; medians are compared. What arrived
//! is counted after every run, so that a tool that gave up early does not win. Results belong in benches/README.md.

mod alone;
mod commands;
mod contest;
mod data;
mod programs;
mod table;

use crate::command::{Interrupt, cargo, program, run_logged};
use crate::folders::{Folders, lock};
use crate::instructions;
use crate::services::{self, Service, all};
use crate::terminal::{err, out};
use anyhow::{Context, Result, bail};
use contest::{Case, Kind, Stage, Tool};
use programs::{How, PROGRAMS, Program};
use std::path::Path;
use std::time::{Duration, Instant};
use table::Times;

/// How long one run of one tool may take.
const RUN_LIMIT: Duration = Duration::from_secs(600);
/// How long the release build may take.
pub const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// The case whose work is counted, not timed.
const INSTRUCTIONS: &str = "instructions";

/// Compare distcp with other tools, side by side on this machine.
#[derive(clap::Args)]
#[command(after_help = "\
Builds distcp in release mode, starts an S3 server on loopback, installs the tools of the cases, and makes up to 9 GB of
data in target/bench (delete it when done). Prints tables in Markdown; numbers hold for this machine only.")]
pub struct Args {
    /// Only cases whose name starts with this; programs (the last of --list) run only by their whole names
    case: Option<String>,
    /// Counted runs of each tool; what is measured alone has its own count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// This part of all sizes: 10 for a tenth
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// Measure what was built before
    #[arg(long)]
    no_build: bool,
    /// Only with `instructions`: take what is counted now for what is allowed from now on
    #[arg(long)]
    accept: bool,
    /// Only with a program: write a flame graph of its run to this file (SVG)
    #[arg(long, value_name = "FILE")]
    profile_run: Option<std::path::PathBuf>,
    /// Say what there is to compare, and do nothing
    #[arg(long)]
    list: bool,
}

/// True if every contestant of every case did its work.
pub fn run(args: &Args, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    let wanted = |name: &str| args.case.as_ref().is_none_or(|prefix| name.starts_with(prefix));
    let cases: Vec<_> = contest::cases(args.scale).into_iter().filter(|case| wanted(case.name)).collect();
    let alone: Vec<_> = alone::ALL.iter().filter(|alone| wanted(alone.name)).collect();
    let program = PROGRAMS.iter().find(|program| args.case.as_deref() == Some(program.name));
    let counted = args.case.as_deref() == Some(INSTRUCTIONS);
    if args.accept && !counted {
        bail!("--accept goes with `{INSTRUCTIONS}` only: no other case is held against earlier figures");
    }
    if args.profile_run.is_some() && !program.is_some_and(Program::draws) {
        bail!("--profile-run goes with `manifests` only: the others measure other processes");
    }
    if cases.is_empty() && alone.is_empty() && program.is_none() && !counted {
        bail!("no case starts with {}: see --list", args.case.as_deref().unwrap_or_default());
    }
    if args.list {
        for case in cases {
            let tools: Vec<_> = case.tools().iter().map(|tool| tool.name()).collect();
            out!("{:<20} {:<68} {}", case.name, case.about(), tools.join(", "));
        }
        for alone in alone {
            out!("{:<20} {:<68} distcp", alone.name, alone.about);
        }
        for program in PROGRAMS.iter().filter(|program| args.case.as_deref().is_none_or(|case| case == program.name)) {
            out!("{:<20} {:<68} {}", program.name, program.about, program.who);
        }
        if wanted(INSTRUCTIONS) {
            out!(
                "{INSTRUCTIONS:<20} {:<68} the library",
                "instructions of hash, manifests and plan, against those accepted"
            );
        }
        return Ok(true);
    }
    let _lock = lock(&folders.xtask().join("bench.lock"), "benchmarks")?;
    if counted {
        return instructions::bench(args.accept, !args.no_build, folders, interrupt);
    }
    if let Some(program) = program {
        let how = How { scale: args.scale, build: !args.no_build, profile: args.profile_run.as_deref() };
        return program.run(&how, folders, interrupt);
    }
    if !args.no_build {
        let mut build = cargo(folders);
        build.args([
            "build",
            "--release",
            "--package",
            "distcp",
            "--bin",
            "distcp",
            "--package",
            "benches",
            "--bin",
            "raw",
        ]);
        err!("building distcp in release mode");
        run_logged(&mut build, &folders.xtask().join("bench-build.log"), BUILD_LIMIT, interrupt)?;
    }
    let needed: Vec<_> = cases.iter().flat_map(Case::needs).chain(alone.iter().flat_map(|alone| alone.needs)).collect();
    let chosen: Vec<_> = all().into_iter().filter(|service| needed.contains(&&service.name())).collect();
    let up = services::up(&chosen, folders, interrupt)?;
    let ran = match up.failed.first() {
        Some((name, why)) => Err(anyhow::anyhow!("{name} cannot be had here: {why}")),
        None => {
            out!("{}\n", table::machine());
            for service in chosen {
                out!("- {}: {} ({})", service.name(), version(service, folders), service.package());
            }
            Stage::new(folders, &up).and_then(|stage| {
                let compared = run_cases(&stage, &cases, args.runs, interrupt)?;
                Ok(run_alone(&stage, &alone, args.scale, interrupt)? && compared)
            })
        }
    };
    services::down(&up.started, folders)?;
    ran
}

/// Says what failed, and goes on unless it was a signal.
fn judged(name: &str, ran: Result<()>) -> Result<bool> {
    match ran {
        Err(error) if error.is::<crate::command::Interrupted>() => Err(error),
        Err(error) => {
            err!("error: {name}: {error:#}");
            Ok(false)
        }
        Ok(()) => Ok(true),
    }
}

fn run_alone(stage: &Stage, alone: &[&alone::Alone], scale: u32, interrupt: &Interrupt) -> Result<bool> {
    if !alone.is_empty() {
        out!("\n{}", alone::HEAD);
    }
    let mut all_fine = true;
    for alone in alone {
        all_fine &= judged(alone.name, make_buckets(stage).and_then(|()| alone.measure(stage, scale, interrupt)))?;
    }
    Ok(all_fine)
}

/// A folder of the server is a bucket.
fn make_buckets(stage: &Stage) -> Result<()> {
    if stage.stored.is_dir() {
        for bucket in contest::BUCKETS {
            std::fs::create_dir_all(stage.stored.join(bucket)).with_context(|| format!("make the bucket {bucket}"))?;
        }
    }
    Ok(())
}

fn run_cases(stage: &Stage, cases: &[Case], runs: u32, interrupt: &Interrupt) -> Result<bool> {
    let log = stage.folder.join("bench.log");
    make_buckets(stage)?;
    if !cases.is_empty() {
        out!("\n{}", table::HEAD);
    }
    let mut all_fine = true;
    for case in cases {
        data::make(&stage.folder, case.tree)?;
        let ran = run_case(stage, case, runs, &log, interrupt).map(|times| {
            times.iter().for_each(|of_tool| out!("{}", table::row(case, of_tool, &times)));
        });
        all_fine &= judged(case.name, ran)?;
    }
    Ok(all_fine)
}

fn run_case(stage: &Stage, case: &Case, runs: u32, log: &Path, interrupt: &Interrupt) -> Result<Vec<Times>> {
    let mut times: Vec<_> = case.tools().iter().map(|tool| Times { tool: *tool, seconds: Vec::new() }).collect();
    if case.source_is_stored() || case.kind == Kind::Hdfs {
        run_logged(&mut stage.fill_source(case)?, log, RUN_LIMIT, interrupt).context("fill the source")?;
    }
    for round in 0..=runs {
        for of_tool in &mut times {
            let tool = of_tool.tool;
            // An unchanged tree keeps what the first round, which is not counted, has copied.
            if case.kind != Kind::Unchanged || round == 0 {
                stage.clear(case, tool)?;
            }
            // What the last tool left to be written must not slow this one.
            rustix::fs::sync();
            let mut command = stage.command(case, tool)?;
            let since = Instant::now();
            run_logged(&mut command, log, RUN_LIMIT, interrupt).with_context(|| tool.name())?;
            let seconds = since.elapsed().as_secs_f64();
            stage.check(case, tool).with_context(|| format!("{} said it had succeeded", tool.name()))?;
            if case.kind == Kind::Unchanged && tool == Tool::Distcp && round > 0 {
                asked_nothing_of_objects(log)?;
            }
            err!("{:<20} {:<8} round {round}: {seconds:.2} s", case.name, tool.name());
            if round > 0 {
                of_tool.seconds.push(seconds);
            }
        }
    }
    for of_tool in &times {
        stage.clear(case, of_tool.tool)?;
    }
    data::remove(&stage.stored.join(contest::BUCKET).join(contest::source_prefix(case)))?;
    Ok(times)
}

/// An error if the summary in the log counts a GET or a HEAD.
fn asked_nothing_of_objects(log: &Path) -> Result<()> {
    let text = std::fs::read_to_string(log).context("read the log")?;
    let summary = text.lines().rfind(|line| line.contains("\"type\":\"summary\"")).context("it printed no summary")?;
    let summary: serde_json::Value = serde_json::from_str(summary).context("its summary is no JSON")?;
    for request in ["get", "head"] {
        let count = summary.pointer(&format!("/requests/{request}")).and_then(serde_json::Value::as_u64);
        // The root itself may be looked at.
        if count.is_none_or(|count| count > 1) {
            bail!("distcp asked for objects that had not changed: {request} {count:?}");
        }
    }
    Ok(())
}

/// What a tool says about its version.
fn version(service: &dyn Service, folders: &Folders) -> String {
    let out = program(service.binary(folders)).args(service.version_arguments()).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
