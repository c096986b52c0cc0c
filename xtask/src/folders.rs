//! Where things are: the repository, its target folder, and the folders of the services in it.

use crate::terminal::err;
use anyhow::{Context, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The folders of one checkout. Everything that xtask writes is below [`Folders::target`].
pub struct Folders {
    /// The root of the repository.
    pub root: PathBuf,
    /// Cargo's target folder (`CARGO_TARGET_DIR`, else `target` in the root).
    pub target: PathBuf,
}

impl Folders {
    /// The checkout that this xtask was compiled from.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands in no folder")?.to_path_buf();
        // Cargo takes a relative CARGO_TARGET_DIR from the folder it was started in, and so do we.
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Everything of the services; safe to delete when none of them runs.
    pub fn services(&self) -> PathBuf {
        self.target.join("services")
    }

    /// Installed binaries.
    pub fn bin(&self) -> PathBuf {
        self.services().join("bin")
    }

    /// The Python environment shared by the tools that come from PyPI.
    pub fn venv(&self) -> PathBuf {
        self.services().join("venv")
    }

    /// Data and state file of a running service. Short, because some servers put sockets there.
    pub fn run(&self, service: &str) -> PathBuf {
        self.services().join("run").join(service)
    }

    /// The data of a running service.
    pub fn data(&self, service: &str) -> PathBuf {
        self.run(service).join("data")
    }

    /// What a service, or its installation, printed.
    pub fn log(&self, name: &str) -> PathBuf {
        self.services().join("log").join(format!("{name}.log"))
    }

    /// Written after a service was installed and answered; names what was installed.
    pub fn stamp(&self, service: &str) -> PathBuf {
        self.services().join("stamp").join(service)
    }

    /// Shell-style `KEY=value` lines of all that is installed and running.
    pub fn env_file(&self) -> PathBuf {
        self.services().join("env")
    }

    /// Logs and locks of xtask itself.
    pub fn xtask(&self) -> PathBuf {
        self.target.join("xtask")
    }
}

/// Writes `text` so that a reader sees the old file or the new one, never half of one.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("rename {} into place", fresh.display()))
}

/// The same, and it can be run.
pub fn write_program(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
        .with_context(|| format!("make {} a program", path.display()))
}

/// Removes a folder with all that is in it, if it is there.
pub fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Holds a lock file until dropped, and says so when it has to wait for another xtask.
pub fn lock(path: &Path, what: &str) -> Result<std::fs::File> {
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    if file.try_lock().is_err() {
        err!("waiting for another xtask that is busy with {what}");
        file.lock().with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}
