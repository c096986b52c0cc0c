//! `cargo xtask bench metastore`, `metasync` and `manifests`: programs of the benches that measure by themselves.
//!
//! Each is built in release mode, the services that it needs are brought up, and the table that it prints is handed on.

use crate::command::{Interrupt, cargo, program, run_lines, run_logged};
use crate::folders::Folders;
use crate::services::{self, Up, all};
use crate::terminal::{err, out};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A program of the benches.
pub struct Program {
    /// As it is named on the command line.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// Who is measured.
    pub who: &'static str,
    /// Its binary.
    binary: &'static str,
    /// What the figures stand on.
    needed: &'static [&'static str],
    /// Options whose values are variables of the services.
    options: &'static [(&'static str, &'static str)],
    /// Whether it runs `metasync` itself.
    runs_metasync: bool,
    /// The option that says how much it does, and for how much of what.
    size: Option<(&'static str, u64)>,
    /// How long all cases may take together.
    limit: Duration,
}

/// What was asked of a program.
pub struct How<'a> {
    /// This part of all sizes.
    pub scale: u32,
    /// Whether it is built before.
    pub build: bool,
    /// Where to write a flame graph of its run.
    pub profile: Option<&'a Path>,
}

/// The adapters beside a plain Thrift client.
const METASTORE: Program = Program {
    name: "metastore",
    about: "100,000 partitions and 2,000 tables, written, read and dumped",
    who: "metasync, a plain Thrift client",
    binary: "metastores",
    needed: &["postgres", "mariadb", "hms-3.1"],
    options: &[
        ("--thrift", "UNDERSTUDY_TEST_HMS_31_POSTGRES_THRIFT"),
        ("--postgres", "UNDERSTUDY_TEST_HMS_31_POSTGRES_SQL"),
        ("--mariadb", "UNDERSTUDY_TEST_HMS_31_MARIADB_SQL"),
    ],
    runs_metasync: false,
    size: None,
    limit: Duration::from_secs(30 * 60),
};

/// Whole runs.
const METASYNC: Program = Program {
    name: "metasync",
    about: "100,000 partitions bootstrapped and loaded, 10,000 events, 1,000,000 objects looked at",
    who: "metasync, a plain Thrift client, Hive 4.2",
    binary: "replicas",
    // The metastore's program needs nothing of the servers that come with it, but is not to be had without them.
    needed: &["postgres", "mariadb", "hms-3.1", "hive-4.2"],
    options: &[
        ("--postgres", "UNDERSTUDY_TEST_POSTGRES_URL"),
        ("--mariadb", "UNDERSTUDY_TEST_MARIADB_URL"),
        ("--mariadb-client", "UNDERSTUDY_TEST_MARIADB_CLIENT"),
        ("--schema", "UNDERSTUDY_TEST_HMS_31_SCHEMA"),
        ("--hms", "UNDERSTUDY_TEST_HMS_31"),
        ("--hive", "UNDERSTUDY_TEST_HIVE_42"),
    ],
    runs_metasync: true,
    size: None,
    limit: Duration::from_secs(120 * 60),
};

/// Hashes, sorting, manifests, plans.
const MANIFESTS: Program = Program {
    name: "manifests",
    about: "10,000,000 rows: manifests written, read, compared",
    who: "the library",
    binary: "micro",
    needed: &[],
    options: &[],
    runs_metasync: false,
    size: Some(("--rows", 10_000_000)),
    limit: Duration::from_secs(60 * 60),
};

/// All of them.
pub const PROGRAMS: [Program; 3] = [METASTORE, METASYNC, MANIFESTS];

impl Program {
    /// Whether it can draw a flame graph of itself: what it measures is its own process.
    pub fn draws(&self) -> bool {
        self.binary == MANIFESTS.binary
    }

    /// True if every case did its work.
    pub fn run(&self, how: &How<'_>, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
        if how.build {
            let mut build = cargo(folders);
            build.args(["build", "--release", "--package", "benches", "--bin", self.binary]);
            if self.runs_metasync {
                build.args(["--package", "metasync", "--bin", "metasync"]);
            }
            if how.profile.is_some() {
                build.args(["--features", "benches/profile"]);
            }
            err!("building the benches in release mode");
            run_logged(&mut build, &folders.xtask().join("bench-build.log"), super::BUILD_LIMIT, interrupt)?;
        }
        let chosen: Vec<_> = all().into_iter().filter(|service| self.needed.contains(&service.name())).collect();
        let up = services::up(&chosen, folders, interrupt)?;
        let ran = match up.failed.first() {
            Some((name, why)) => Err(anyhow::anyhow!("{name} cannot be had here: {why}")),
            None => self.measure(how, folders, &up, interrupt),
        };
        services::down(&up.started, folders)?;
        ran
    }

    fn measure(&self, how: &How<'_>, folders: &Folders, up: &Up, interrupt: &Interrupt) -> Result<bool> {
        out!("{}\n", super::table::machine());
        for service in all().into_iter().filter(|service| self.needed.contains(&service.name())) {
            out!("- {}: {}", service.name(), service.package());
        }
        out!("");
        let mut command = self.command(how, folders, up)?;
        Ok(run_lines(&mut command, self.limit, interrupt, |line| out!("{line}"))?.success())
    }

    fn command(&self, how: &How<'_>, folders: &Folders, up: &Up) -> Result<Command> {
        let mut command = program(folders.target.join("release").join(self.binary));
        // As `distcp` and `metasync` limit it themselves: their memory is what is to be measured.
        command.env("MALLOC_ARENA_MAX", "2").env("MALLOC_MMAP_THRESHOLD_", "33554432");
        command.env("MALLOC_TRIM_THRESHOLD_", "67108864");
        for (option, variable) in self.options {
            let value = up.variables.get(*variable).with_context(|| format!("{variable} is not known"))?;
            command.arg(option).arg(value);
        }
        if self.runs_metasync {
            command.arg("--metasync").arg(folders.target.join("release/metasync"));
            command.arg("--scale").arg(how.scale.to_string());
        }
        if let Some((option, whole)) = self.size {
            command.arg(option).arg((whole / u64::from(how.scale)).to_string());
        }
        if let Some(file) = how.profile {
            command.arg("--profile-run").arg(file);
        }
        Ok(command)
    }
}
