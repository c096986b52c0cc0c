//! `cargo xtask fuzz`: cargo-fuzz over every reader of outside bytes (the crate `fuzz/`), each for a while.
//!
//! Needs the nightly toolchain and the package registry. Grown corpora and what was found stay below target/fuzz; what is
//! worth keeping is made smaller by hand and added to fuzz/seeds.

use crate::command::{Interrupt, cargo, program, run_logged};
use crate::folders::{Folders, lock};
use crate::terminal::{err, out};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Duration;

/// The version that is installed.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";
/// How long the installation, and the build of a target, may take.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);
/// Memory of a fuzzed process; a reader that takes more is a finding.
const MEMORY_MIB: u32 = 1024;
/// What one allocation may ask for. Parquet's reader reserves what a page's header names before it looks at the page, up to
/// 8 GiB of address space; it counts only once it is used.
const RESERVED_MIB: u32 = 16 << 10;
/// Bytes of one input.
const MAX_INPUT_BYTES: u32 = 64 << 10;
/// One input must not take longer.
const INPUT_SECONDS: u32 = 10;

/// All targets, as `fuzz/Cargo.toml` has them.
pub const TARGETS: [&str; 10] =
    ["index", "part", "state", "journal", "plan", "listing", "settings", "place", "thrift", "tjson"];

/// Fuzz the readers of manifests, state, plans, listings, configuration, places, and of what a metastore says.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// True if nothing was found.
pub fn run(args: &Args, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    let targets: Vec<&str> = match &args.target {
        Some(target) => vec![target],
        None => TARGETS.to_vec(),
    };
    each(&targets, args.seconds, folders, interrupt)
}

/// Fuzzes targets, one after the other.
pub fn each(targets: &[&str], seconds: u32, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    let _lock = lock(&folders.xtask().join("fuzz.lock"), "fuzzing")?;
    let cargo_fuzz = install(folders, interrupt)?;
    let mut quiet = true;
    for target in targets {
        let corpus = folders.target.join("fuzz/corpus").join(target);
        let artifacts = folders.target.join("fuzz/artifacts").join(target);
        for folder in [&corpus, &artifacts] {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let log = folders.xtask().join(format!("fuzz-{target}.log"));
        let mut command = program(&cargo_fuzz);
        command.args(["run", target]).arg(&corpus).arg(folders.root.join("fuzz/seeds").join(target));
        command.arg("--").arg(format!("-max_total_time={seconds}")).arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command.arg(format!("-malloc_limit_mb={RESERVED_MIB}"));
        command.arg(format!("-max_len={MAX_INPUT_BYTES}")).arg(format!("-timeout={INPUT_SECONDS}"));
        command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
        command.current_dir(folders.root.join("fuzz"));
        command.env("RUSTUP_TOOLCHAIN", "nightly").env("CARGO_TARGET_DIR", folders.target.join("fuzz"));
        let limit = BUILD_LIMIT + Duration::from_secs(u64::from(seconds));
        match run_logged(&mut command, &log, limit, interrupt) {
            Ok(()) => out!("fuzz {target:<10} quiet for {seconds} s"),
            Err(error) if error.is::<crate::command::Interrupted>() => return Err(error),
            Err(error) => {
                err!("fuzz {target}: {error:#}\n    inputs: {}", artifacts.display());
                quiet = false;
            }
        }
    }
    Ok(quiet)
}

fn install(folders: &Folders, interrupt: &Interrupt) -> Result<PathBuf> {
    let binary = folders.bin().join("cargo-fuzz");
    if binary.is_file() {
        return Ok(binary);
    }
    let build = folders.services().join("build");
    let mut command = cargo(folders);
    command.args(["install", "--quiet", "--locked", "--force", CARGO_FUZZ, "--root"]).arg(folders.services());
    command.env("CARGO_TARGET_DIR", &build);
    run_logged(&mut command, &folders.xtask().join("cargo-fuzz-install.log"), BUILD_LIMIT, interrupt)?;
    // Only the binary is wanted; a folder that stays costs some disk and nothing else.
    let _ = std::fs::remove_dir_all(build);
    match binary.is_file() {
        true => Ok(binary),
        false => bail!("{CARGO_FUZZ} was installed, and {} is not there", binary.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_built_and_has_seeds() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
            assert!(std::fs::read_dir(root.join("seeds").join(target)).unwrap().count() > 0, "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
