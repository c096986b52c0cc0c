//! Spark, a writer and reader of tables that we did not write, for metastores 2.3 and 3.1. The program is `spark-submit`.

use super::{Service, venv};
use crate::command::Interrupt;
use crate::folders::{Folders, write_program};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// See the module.
pub struct Spark;

impl Service for Spark {
    fn name(&self) -> &'static str {
        "spark"
    }

    fn about(&self) -> &'static str {
        "independent writer and reader of tables"
    }

    fn package(&self) -> &'static str {
        "pyspark==3.5.8"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("spark")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_SPARK"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        venv::install(folders, self.name(), self.package(), interrupt)?;
        // It looks for itself with the first python3 that it finds.
        let submit = venv::script(folders, "spark-submit");
        let programs = submit.parent().context("it stands in a folder")?.display();
        let script = format!(
            "#!/bin/sh\nPATH='{programs}':$PATH PYSPARK_PYTHON='{programs}/python3' SPARK_LOCAL_IP=127.0.0.1 \
             exec '{}' \"$@\"\n",
            submit.display()
        );
        write_program(&self.binary(folders), &script)
    }
}
