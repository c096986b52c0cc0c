//! Spark, a writer and reader of tables that we did not write, for metastores 2.3 and 3.1. The program is `spark-submit`, with
//! Delta Lake's and Iceberg's jars at hand for sessions that ask for their extensions.

use super::{Service, maven, venv};
use crate::command::Interrupt;
use crate::folders::{Folders, write_program};
use anyhow::{Context, Result};
use std::path::PathBuf;

const PYSPARK: &str = "pyspark==3.5.8";
/// Delta Lake; what else it needs Spark has.
const DELTA: [&str; 2] = ["io.delta:delta-spark_2.12:3.3.2", "io.delta:delta-storage:3.3.2"];

/// Iceberg, in one jar of 45 MB.
const ICEBERG: &str = "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.12.0";

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
        "pyspark==3.5.8, io.delta:delta-spark_2.12:3.3.2, org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.12.0"
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
        venv::install(folders, self.name(), PYSPARK, interrupt)?;
        let home = folders.services().join(self.name());
        std::fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let mut jars = Vec::new();
        for artifact in DELTA.into_iter().chain([ICEBERG]) {
            maven::copy(folders, self.name(), &home, artifact, interrupt)?;
            jars.push(home.join(maven::file(artifact)).display().to_string());
        }
        // It looks for itself with the first python3 that it finds.
        let submit = venv::script(folders, "spark-submit");
        let programs = submit.parent().context("it stands in a folder")?.display();
        let script = format!(
            "#!/bin/sh\nPATH='{programs}':$PATH PYSPARK_PYTHON='{programs}/python3' SPARK_LOCAL_IP=127.0.0.1 \
             exec '{}' --jars '{}' \"$@\"\n",
            submit.display(),
            jars.join(",")
        );
        write_program(&self.binary(folders), &script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_package_names_what_is_installed() {
        assert!(Spark.package().contains(PYSPARK) && Spark.package().contains(DELTA[0]));
        assert!(Spark.package().contains(ICEBERG));
    }
}
