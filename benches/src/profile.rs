//! `--profile-run FILE`: a flame graph of the program's own run. Only with the feature `profile`.
//!
//! Stacks are sampled on the processor's time, all threads together: time that a thread waits is not in the picture.

use std::path::Path;

use anyhow::Result;

/// The option, as every program of the benches takes it.
#[derive(clap::Args)]
pub struct ProfileRun {
    /// Write a flame graph of this run (SVG); needs a build with --features profile
    #[arg(long, value_name = "FILE")]
    profile_run: Option<std::path::PathBuf>,
}

impl ProfileRun {
    /// What `run` returns; its picture is in the file then, if one was asked for.
    pub fn around<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        match &self.profile_run {
            None => run(),
            Some(file) => sampled(file, run),
        }
    }
}

#[cfg(feature = "profile")]
fn sampled<T>(path: &Path, run: impl FnOnce() -> Result<T>) -> Result<T> {
    use anyhow::Context as _;

    /// No round number, so that it does not beat with what repeats.
    const SAMPLES_A_SECOND: i32 = 499;
    /// A signal inside of these would be unwound while they hold locks.
    const NOT_INSIDE_OF: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

    // The file is made before: a run of minutes must not end without its picture.
    let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    let builder = pprof::ProfilerGuardBuilder::default().frequency(SAMPLES_A_SECOND).blocklist(&NOT_INSIDE_OF);
    let guard = builder.build().context("start the profiler")?;
    let result = run()?;
    let report = guard.report().build().context("read the samples")?;
    report.flamegraph(file).with_context(|| format!("write {}", path.display()))?;
    eprintln!("flame graph: {}", path.display());
    Ok(result)
}

#[cfg(not(feature = "profile"))]
fn sampled<T>(path: &Path, _run: impl FnOnce() -> Result<T>) -> Result<T> {
    anyhow::bail!("no flame graph in {}: build the benches with --features profile", path.display())
}
