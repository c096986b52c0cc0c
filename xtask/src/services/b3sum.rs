//! b3sum, the reference for our hashes. Built by cargo: there is no package of the binary.

use super::Service;
use crate::command::{Interrupt, cargo, run_logged};
use crate::folders::Folders;
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

/// How long the build may take; a minute on two free cores.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// See the module.
pub struct B3sum;

impl Service for B3sum {
    fn name(&self) -> &'static str {
        "b3sum"
    }

    fn about(&self) -> &'static str {
        "reference for BLAKE3"
    }

    fn package(&self) -> &'static str {
        "b3sum 1.8.7"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("b3sum")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_B3SUM"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let build = folders.services().join("build");
        let mut command = cargo(folders);
        command.args(["install", "--quiet", "--locked", "--force", "b3sum@1.8.7", "--root"]).arg(folders.services());
        command.env("CARGO_TARGET_DIR", &build);
        run_logged(&mut command, &folders.log("b3sum-install"), BUILD_LIMIT, interrupt)?;
        // Only the binary is wanted; a folder that stays costs some disk and nothing else.
        let _ = std::fs::remove_dir_all(build);
        Ok(())
    }
}
