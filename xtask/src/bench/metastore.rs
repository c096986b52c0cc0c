//! `cargo xtask bench metastore`: the metastore adapters beside a plain Thrift client, on this machine.
//!
//! Builds the program of the benches that measures, brings the metastore 3.1 and its databases up, and hands its table on.

use crate::command::{Interrupt, cargo, program, run_lines, run_logged};
use crate::folders::Folders;
use crate::services::{self, Up, all};
use crate::terminal::{err, out};
use anyhow::{Context, Result};
use std::process::Command;
use std::time::Duration;

/// As it is named on the command line.
pub const NAME: &str = "metastore";
/// In words.
pub const ABOUT: &str = "100,000 partitions and 2,000 tables, written, read and dumped";

/// What the figures stand on.
const NEEDED: [&str; 3] = ["postgres", "mariadb", "hms-3.1"];
/// How long all cases may take together.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// True if every case did its work.
pub fn run(folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    let mut build = cargo(folders);
    build.args(["build", "--release", "--package", "benches", "--bin", "metastores"]);
    err!("building the benches in release mode");
    run_logged(&mut build, &folders.xtask().join("bench-build.log"), super::BUILD_LIMIT, interrupt)?;
    let chosen: Vec<_> = all().into_iter().filter(|service| NEEDED.contains(&service.name())).collect();
    let up = services::up(&chosen, folders, interrupt)?;
    let ran = match up.failed.first() {
        Some((name, why)) => Err(anyhow::anyhow!("{name} cannot be had here: {why}")),
        None => measure(folders, &up, interrupt),
    };
    services::down(&up.started, folders)?;
    ran
}

fn measure(folders: &Folders, up: &Up, interrupt: &Interrupt) -> Result<bool> {
    out!("{}\n", super::table::machine());
    for service in all().into_iter().filter(|service| NEEDED.contains(&service.name())) {
        out!("- {}: {}", service.name(), service.package());
    }
    out!("");
    let mut command = command(folders, up)?;
    Ok(run_lines(&mut command, LIMIT, interrupt, |line| out!("{line}"))?.success())
}

fn command(folders: &Folders, up: &Up) -> Result<Command> {
    let mut command = program(folders.target.join("release/metastores"));
    for (option, variable) in [
        ("--thrift", "UNDERSTUDY_TEST_HMS_31_POSTGRES_THRIFT"),
        ("--postgres", "UNDERSTUDY_TEST_HMS_31_POSTGRES_SQL"),
        ("--mariadb", "UNDERSTUDY_TEST_HMS_31_MARIADB_SQL"),
    ] {
        let value = up.variables.get(variable).with_context(|| format!("{variable} is not known"))?;
        command.arg(option).arg(value);
    }
    Ok(command)
}
