//! Fixed pieces of work whose instructions are counted: hash, manifest write, read and diff, plan.
//!
//! `cargo xtask bench instructions` runs each under valgrind's callgrind, which counts from the entry into
//! [`begin_counting`] to the entry into [`end_counting`], all threads together. A case makes its inputs before, from
//! numbers; everything runs on one thread and one blocking thread, so that a case does the same each time. Times on a busy
//! machine say little: these counts are the same whatever else runs.

mod profile;
mod rows;

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use distcp::options::CopyOptions;
use distcp::plan::file::{PlanHeader, PlanWriter};
use distcp::plan::{Known, PlanTotals, Rules, decide};
use futures::TryStreamExt as _;
use manifest::state::StateStore;
use manifest::state::memory::MemoryState;
use manifest::{ChunkSize, Entry, EntryKind, Fingerprint, Listed, TreeHasher, diff_manifests, join3};
use rows::{entry, write};

/// Bytes that are hashed.
const HASHED_BYTES: usize = 8 << 20;
/// Rows of each manifest.
const ROWS: u64 = 12_000;
/// Rows that are planned.
const PLANNED_ROWS: u64 = 10_000;
/// One row in so many differs where two manifests are compared.
const DIFFERS: u64 = 4_000;

/// Fixed pieces of work whose instructions are counted
#[derive(Parser)]
struct Arguments {
    /// What to do; without it, the names of all cases are printed
    #[arg(long, value_enum)]
    case: Option<Case>,
    #[command(flatten)]
    profile: profile::ProfileRun,
}

#[derive(Clone, Copy, ValueEnum)]
enum Case {
    Hash,
    ManifestWrite,
    ManifestRead,
    ManifestDiff,
    ManifestDiffFew,
    Plan,
}

/// Counting starts when this is entered: callgrind finds it by its name.
#[inline(never)]
fn begin_counting() {
    black_box("begin");
}

/// Counting ends when this is entered.
#[inline(never)]
fn end_counting() {
    black_box("end");
}

fn main() -> Result<()> {
    let Arguments { case, profile } = Arguments::parse();
    let Some(case) = case else {
        for case in Case::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
            println!("{}", case.get_name());
        }
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().context("a runtime")?;
    profile.around(|| runtime.block_on(run(case)))
}

async fn run(case: Case) -> Result<()> {
    let store: Arc<dyn StateStore> = Arc::new(MemoryState::new());
    match case {
        Case::Hash => hash(),
        Case::ManifestWrite => {
            let rows: Vec<_> = (0..ROWS).map(|i| entry(i, 0)).collect();
            begin_counting();
            let manifest = write(&store, rows.into_iter()).await?;
            end_counting();
            ensure!(manifest.index().totals.entries == ROWS, "rows are missing");
            Ok(())
        }
        Case::ManifestRead => {
            let manifest = write(&store, (0..ROWS).map(|i| entry(i, 0))).await?;
            begin_counting();
            let read: u64 = manifest.entries().try_fold(0, |n, rows| async move { Ok(n + rows.len() as u64) }).await?;
            end_counting();
            ensure!(read == ROWS, "{read} rows were read");
            Ok(())
        }
        Case::ManifestDiff => diff(&store, |_| true).await,
        Case::ManifestDiffFew => diff(&store, |i| i % DIFFERS == 0).await,
        Case::Plan => plan(),
    }
}

fn hash() -> Result<()> {
    let bytes: Vec<u8> = (0..HASHED_BYTES).map(|i| (i >> 3) as u8 ^ i as u8).collect();
    begin_counting();
    let mut hasher = TreeHasher::new(ChunkSize::MIN);
    hasher.update(&bytes);
    let hashed = hasher.finish();
    end_counting();
    ensure!(hashed.size_bytes == HASHED_BYTES as u64, "bytes are missing");
    Ok(())
}

/// Two manifests of which the rows that are `changed` differ.
async fn diff(store: &Arc<dyn StateStore>, changed: impl Fn(u64) -> bool) -> Result<()> {
    let left = write(store, (0..ROWS).map(|i| entry(i, 0))).await?;
    let right = write(store, (0..ROWS).map(|i| entry(i, u64::from(changed(i))))).await?;
    begin_counting();
    let found = diff_manifests(&left, &right).try_fold(0, |n: usize, batch| async move { Ok(n + batch.len()) }).await?;
    end_counting();
    let expected = (0..ROWS).filter(|i| changed(*i)).count();
    ensure!(found == expected, "{found} differences of {expected}");
    Ok(())
}

fn listed(key: &manifest::ObjectKey, fingerprint: Option<&Fingerprint>) -> Option<Listed> {
    Some(Listed { key: key.clone(), kind: EntryKind::Object, fingerprint: fingerprint?.clone() })
}

/// The last manifest and both listings joined, each key decided, the plan written: one key in ten changed at the source, one
/// in fifty is not on the target.
fn plan() -> Result<()> {
    let known: Vec<Entry> = (0..PLANNED_ROWS).map(|i| entry(i, 0)).collect();
    let source: Vec<Listed> = (0..PLANNED_ROWS)
        .map(|i| entry(i, u64::from(i % 10 == 0)))
        .filter_map(|row| listed(&row.key, row.source.as_ref()))
        .collect();
    let target: Vec<Listed> = known
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 50 != 7)
        .filter_map(|(_, row)| listed(&row.key, Some(&row.fingerprint)))
        .collect();
    let options = CopyOptions::default();
    let rules = Rules { options: &options, folders: false, comparable_times: false, reserved: &[], time_step_ns: 1 };
    let mut writer = PlanWriter::new(tempfile::tempfile().context("make a temporary file")?, "the plan")?;
    let mut totals = PlanTotals::default();
    begin_counting();
    let known = known.into_iter().map(|entry| Ok(Known { entry, journalled: false }));
    for row in join3(known, source.into_iter().map(Ok), target.into_iter().map(Ok)) {
        let (key, known, source, target) = row?;
        let action = decide(&key, known, source.clone(), target.clone(), true, &rules);
        totals.add(source.as_ref(), target.as_ref(), action.as_ref());
        if let Some(action) = action {
            writer.push(&action)?;
        }
    }
    let copies = totals.copies + totals.compares;
    writer.finish(PlanHeader {
        job: "bench".into(),
        source: "s3://source".into(),
        target: "s3://target".into(),
        state: "memory:".into(),
        id: "bench".into(),
        base: None,
        as_of: "2026-01-01T00:00:00Z".into(),
        options: options.clone(),
        chunk_bytes: ChunkSize::DEFAULT.bytes(),
        totals,
    })?;
    end_counting();
    ensure!(copies == PLANNED_ROWS / 10 + PLANNED_ROWS / 50, "{copies} keys were planned");
    Ok(())
}
