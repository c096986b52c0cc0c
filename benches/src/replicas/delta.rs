//! A Delta table as its files: commits that each add data, a checkpoint now and then.
//!
//! What the files hold is of no matter to a copy, but for their names and that they differ.

use super::fill::AGE;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::SystemTime;

/// Commits between two checkpoints, as Delta has it by default.
const CHECKPOINT: usize = 10;

/// Writes these versions, with `files` data files in each.
pub fn commits(table: &Path, versions: std::ops::Range<usize>, files: usize) -> Result<()> {
    let log = table.join("_delta_log");
    std::fs::create_dir_all(&log)?;
    let old = SystemTime::now().checked_sub(AGE).context("a time before all")?;
    let write = |path: &Path, text: &str| -> Result<()> {
        std::fs::write(path, text)?;
        Ok(std::fs::File::options().write(true).open(path)?.set_modified(old)?)
    };
    for version in versions {
        let mut actions = String::new();
        for file in 0..files {
            let name = format!("part-{version:06}-{file:04}.parquet");
            write(&table.join(&name), &format!("{version} {file}"))?;
            actions.push_str(&format!("{{\"add\":{{\"path\":\"{name}\"}}}}\n"));
        }
        if version.is_multiple_of(CHECKPOINT) {
            write(&log.join(format!("{version:020}.checkpoint.parquet")), &format!("up to {version}"))?;
            write(&log.join("_last_checkpoint"), &format!("{{\"version\":{version}}}"))?;
        }
        write(&log.join(format!("{version:020}.json")), &actions)?;
    }
    Ok(())
}
