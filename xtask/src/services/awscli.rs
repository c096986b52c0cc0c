//! The AWS command line, an S3 client that we did not write.

use super::{Service, venv};
use crate::command::Interrupt;
use crate::folders::Folders;
use anyhow::Result;
use std::path::PathBuf;

/// See the module.
pub struct AwsCli;

impl Service for AwsCli {
    fn name(&self) -> &'static str {
        "awscli"
    }

    fn about(&self) -> &'static str {
        "independent S3 client"
    }

    fn package(&self) -> &'static str {
        "awscli==1.46.3"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        venv::script(folders, "aws")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_AWS"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        venv::install(folders, self.name(), self.package(), interrupt)
    }
}
