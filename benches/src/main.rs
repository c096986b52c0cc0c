//! Rates of the parts that work on many rows or many bytes: hash, sort, manifest write, read and diff, plan.
//!
//! `cargo run --release -p benches -- --rows 1000000` prints a line a part. Times are of this process on this machine now:
//! compare two builds by running them in turn.

mod profile;
mod rows;

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use distcp::options::CopyOptions;
use distcp::plan::{Known, Rules, decide};
use futures::TryStreamExt as _;
use manifest::state::StateStore;
use manifest::state::local::LocalState;
use manifest::{ChunkSize, Entry, EntryKind, Fingerprint, Listed, Sorter, TreeHasher, diff_manifests};
use rows::{entry, write};

/// Every how many rows the changed manifest differs.
const CHANGED_ROWS: u64 = 1_000;

/// Rates of hash, sort, manifests and plan
#[derive(Parser)]
struct Arguments {
    /// Rows of each manifest
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Mebibytes to hash
    #[arg(long, default_value_t = 1024)]
    hash_mib: usize,
    #[command(flatten)]
    profile: profile::ProfileRun,
}

fn rate(what: &str, count: u64, unit: &str, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:<28} {seconds:>8.2} s {:>14.0} {unit}/s", count as f64 / seconds);
}

/// The most memory that this process had so far.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().context("a runtime")?;
    arguments.profile.around(|| runtime.block_on(run(&arguments)))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { rows, hash_mib, .. } = *arguments;
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn StateStore> = Arc::new(LocalState::open(folder.path(), true)?);

    let bytes = vec![7u8; 8 << 20];
    let started = Instant::now();
    let mut hasher = TreeHasher::new(ChunkSize::DEFAULT);
    (0..hash_mib / 8).for_each(|_| hasher.update(&bytes));
    std::hint::black_box(hasher.finish());
    rate("hash, one thread", (hash_mib as u64) << 20, "bytes", started);

    let started = Instant::now();
    let mut sorter = Sorter::new(folder.path(), 32 << 20);
    for i in 0..rows {
        sorter.push(entry(i.wrapping_mul(0x9E37_79B9) % rows, 0))?;
    }
    let sorted = sorter.finish()?.count();
    rate("sort on disk, 32 MiB", sorted as u64, "rows", started);

    let started = Instant::now();
    let a = write(&store, (0..rows).map(|i| entry(i, 0))).await?;
    rate("manifest write", rows, "rows", started);
    let started = Instant::now();
    let read: u64 = a.entries().try_fold(0, |n, batch| async move { Ok(n + batch.len() as u64) }).await?;
    rate("manifest read", read, "rows", started);

    let b = write(&store, (0..rows).map(|i| entry(i, 1))).await?;
    let started = Instant::now();
    let differences = diff_manifests(&a, &b).try_fold(0, |n, found| async move { Ok(n + found.len() as u64) }).await?;
    rate("diff, unrelated", rows + differences, "rows", started);
    let step = (rows / CHANGED_ROWS).max(1);
    let c = write(&store, (0..rows).map(|i| entry(i, u64::from(i % step == 0)))).await?;
    let started = Instant::now();
    let differences = diff_manifests(&a, &c).try_fold(0, |n, found| async move { Ok(n + found.len() as u64) }).await?;
    rate(&format!("diff, {differences} changed"), rows, "rows", started);

    let options = CopyOptions::default();
    let rules = Rules { options: &options, folders: false, comparable_times: false, reserved: &[], time_step_ns: 1 };
    let known: Vec<Entry> = (0..rows.min(100_000)).map(|i| entry(i, 0)).collect();
    let started = Instant::now();
    let mut equal = 0;
    for row in &known {
        let listed = |fingerprint: Option<&Fingerprint>| {
            let fingerprint = fingerprint.cloned()?;
            Some(Listed { key: row.key.clone(), kind: EntryKind::Object, fingerprint })
        };
        let (source, target) = (listed(row.source.as_ref()), listed(Some(&row.fingerprint)));
        let known = Known { entry: row.clone(), journalled: false };
        equal += u64::from(decide(&row.key, Some(known), source, target, true, &rules).is_none());
    }
    anyhow::ensure!(equal == known.len() as u64, "equal rows were planned");
    rate("plan, nothing changed", equal, "rows", started);
    println!("{:<28} {:>8} MiB", "peak memory of all", peak_kib().context("no VmHWM")? >> 10);
    Ok(())
}
