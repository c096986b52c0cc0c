//! The developer's chores: `cargo xtask services|test|tidy|bench|fuzz`.
//!
//! Nothing here is needed to use the product, and no crate of the product uses it. It never kills a process by name, and
//! writes only below the target folder. A crash of it can leave a service running: `cargo xtask services down` ends it.

mod bench;
mod command;
mod folders;
mod fuzz;
mod instructions;
mod process;
mod services;
mod terminal;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use command::{Interrupt, Interrupted};
use folders::Folders;
use std::process::ExitCode;
use terminal::err;

/// The developer's chores of Understudy.
///
/// `cargo xtask test` is the whole check, the one that CI runs: formatting, lints, documentation, tidiness, build, real
/// services, tests. Everything that is installed or started lives in target/services.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                     everything, as CI runs it
  cargo xtask test rule_15             only the tests with rule_15 in their name
  cargo xtask services up versitygw    an S3 server to work with; prints its address
  set -a; . target/services/env; set +a   its address and keys for this shell's programs
  cargo xtask services down            ends it
  cargo xtask bench --list             what can be compared with what

Exit codes: 0 done, 1 something failed (named), 2 wrong usage, 129, 130 or 143 interrupted.";

#[derive(Subcommand)]
enum Chore {
    /// Install, start, stop and show the real servers and tools that tests and benchmarks use
    Services(services::Args),
    /// Run every check and every test; services are started before and ended after
    Test(test::Args),
    /// Check what the compiler does not: crate edges, module heads, prints, file sizes, leftovers
    Tidy,
    /// Compare distcp with other tools, side by side on this machine
    Bench(bench::Args),
    /// Fuzz every reader of outside bytes; part of test --long
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if let Some(Interrupted(signal)) = error.downcast_ref::<Interrupted>() {
                err!("interrupted; what this run had started has been ended");
                return ExitCode::from(128u8.saturating_add(u8::try_from(*signal).unwrap_or(2)));
            }
            err!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the chore found everything in order; errors are for what kept it from finding out.
fn run(chore: Chore) -> anyhow::Result<bool> {
    let folders = Folders::find()?;
    let interrupt = Interrupt::install()?;
    match chore {
        Chore::Services(args) => services::run(&args, &folders, &interrupt),
        Chore::Test(args) => test::run(&args, &folders, &interrupt),
        Chore::Tidy => tidy::run(&folders),
        Chore::Bench(args) => bench::run(&args, &folders, &interrupt),
        Chore::Fuzz(args) => fuzz::run(&args, &folders, &interrupt),
    }
}
