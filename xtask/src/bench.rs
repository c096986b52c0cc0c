//! `cargo xtask bench`: distcp beside its peers, on this machine, over the same data; and, by name, metasync.
//!
//! The contestants take turns (A B C A B C ...), after one round that is not counted; medians are compared. What arrived
//! is counted after every run, so that a tool that gave up early does not win. Results belong in benches/README.md.

mod contest;
mod data;
mod programs;
mod table;

use crate::command::{Interrupt, cargo, program, run_logged};
use crate::folders::{Folders, lock};
use crate::services::{self, Service, all};
use crate::terminal::{err, out};
use anyhow::{Context, Result, bail};
use contest::{CASES, Case, Kind, Stage, Tool};
use programs::PROGRAMS;
use std::path::Path;
use std::time::{Duration, Instant};
use table::Times;

/// How long one run of one tool may take.
const RUN_LIMIT: Duration = Duration::from_secs(600);
/// How long the release build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);

/// Compare distcp with other tools, side by side on this machine.
#[derive(clap::Args)]
#[command(after_help = "\
Builds distcp in release mode, starts an S3 server on loopback, installs rclone, s5cmd and b3sum, and makes 1.2 GB of
data in target/bench (delete it when done). Prints a table in Markdown; numbers hold for this machine only.")]
pub struct Args {
    /// Only cases whose name starts with this; metastore and metasync run only by their whole names
    case: Option<String>,
    /// Counted runs of each tool; `metastore` and `metasync` run once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=100))]
    runs: u32,
    /// `metasync` with this part of everything: 10 for a tenth
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// Say what there is to compare, and do nothing
    #[arg(long)]
    list: bool,
}

/// True if every contestant of every case did its work.
pub fn run(args: &Args, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    let wanted = |case: &&Case| args.case.as_ref().is_none_or(|prefix| case.name.starts_with(prefix));
    let cases: Vec<_> = CASES.iter().filter(wanted).collect();
    let program = PROGRAMS.iter().find(|program| args.case.as_deref() == Some(program.name));
    if cases.is_empty() && program.is_none() {
        bail!("no case starts with {}: see --list", args.case.as_deref().unwrap_or_default());
    }
    if args.list {
        for case in cases {
            let tools: Vec<_> = case.tools().iter().map(|tool| tool.name()).collect();
            out!("{:<16} {:<60} {}", case.name, case.about, tools.join(", "));
        }
        for program in PROGRAMS.iter().filter(|program| args.case.as_deref().is_none_or(|case| case == program.name)) {
            out!("{:<16} {:<60} {}", program.name, program.about, program.who);
        }
        return Ok(true);
    }
    let _lock = lock(&folders.xtask().join("bench.lock"), "benchmarks")?;
    if let Some(program) = program {
        return program.run(args.scale, folders, interrupt);
    }
    let mut build = cargo(folders);
    build.args(["build", "--release", "--package", "distcp", "--bin", "distcp"]);
    err!("building distcp in release mode");
    run_logged(&mut build, &folders.xtask().join("bench-build.log"), BUILD_LIMIT, interrupt)?;
    let needed = ["versitygw", "rclone", "s5cmd", "b3sum"];
    let chosen: Vec<_> = all().into_iter().filter(|service| needed.contains(&service.name())).collect();
    let up = services::up(&chosen, folders, interrupt)?;
    let ran = match up.failed.first() {
        Some((name, why)) => Err(anyhow::anyhow!("{name} cannot be had here: {why}")),
        None => {
            out!("{}\n", table::machine());
            for service in chosen {
                out!("- {}: {} ({})", service.name(), version(service, folders), service.package());
            }
            Stage::new(folders, &up).and_then(|stage| run_cases(&stage, &cases, args.runs, interrupt))
        }
    };
    services::down(&up.started, folders)?;
    ran
}

fn run_cases(stage: &Stage, cases: &[&Case], runs: u32, interrupt: &Interrupt) -> Result<bool> {
    let log = stage.folder.join("bench.log");
    for bucket in contest::BUCKETS {
        let mut make = stage.s5cmd();
        make.args(["mb", &format!("s3://{bucket}")]);
        // It may be there from an earlier run on a server that was left running.
        if !stage.stored.join(bucket).is_dir() {
            run_logged(&mut make, &log, RUN_LIMIT, interrupt)?;
        }
    }
    out!("\n{}", table::HEAD);
    let mut all_fine = true;
    for case in cases {
        data::make(&stage.folder, case.tree)?;
        match run_case(stage, case, runs, &log, interrupt) {
            Ok(times) => times.iter().for_each(|of_tool| out!("{}", table::row(case, of_tool, &times))),
            Err(error) if error.is::<crate::command::Interrupted>() => return Err(error),
            Err(error) => {
                err!("error: {}: {error:#}", case.name);
                all_fine = false;
            }
        }
    }
    Ok(all_fine)
}

fn run_case(stage: &Stage, case: &Case, runs: u32, log: &Path, interrupt: &Interrupt) -> Result<Vec<Times>> {
    let mut times: Vec<_> = case.tools().iter().map(|tool| Times { tool: *tool, seconds: Vec::new() }).collect();
    if case.kind == Kind::Download {
        run_logged(&mut stage.fill_source(case), log, RUN_LIMIT, interrupt).context("fill the source")?;
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
            err!("{:<16} {:<8} round {round}: {seconds:.2} s", case.name, tool.name());
            if round > 0 {
                of_tool.seconds.push(seconds);
            }
        }
    }
    for of_tool in &times {
        stage.clear(case, of_tool.tool)?;
    }
    Ok(times)
}

/// What a tool says about its version.
fn version(service: &dyn Service, folders: &Folders) -> String {
    let out = program(service.binary(folders)).args(service.version_arguments()).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

impl Tool {
    /// As it is written in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distcp => "distcp",
            Self::Rclone => "rclone",
            Self::S5cmd => "s5cmd",
            Self::B3sum => "b3sum",
        }
    }
}
