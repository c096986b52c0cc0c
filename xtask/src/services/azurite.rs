//! Azurite, the Azure Blob server of the tests: checks signatures, MD5s and conditions; blocks, copies, continuation.
//!
//! It runs on a Node of its own: on the Node 20 of many machines npm picks an older Azurite without half of it. It listens
//! on loopback only, sends no telemetry, and knows no dfs endpoint: of ADLS Gen2 it proves the blob endpoint at most.

use super::{Place, Server, Service};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, write_program, write_whole};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The account that every Azurite has.
const ACCOUNT: &str = "devstoreaccount1";
/// Its key. Not a secret: it is the same in every Azurite and in its documentation.
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Another account, for copies between two.
const OTHER_ACCOUNT: &str = "understudytest2";
/// Its key: no more of a secret.
const OTHER_KEY: &str = "dW5kZXJzdHVkeS10ZXN0LTI=";
/// What npm installs.
const PACKAGES: [&str; 2] = ["node@22.23.3", "azurite@3.37.0"];
/// How long the installation may take, downloads included; under a minute on two free cores.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);
/// How long one look whether it answers may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// See the module.
pub struct Azurite;

impl Service for Azurite {
    fn name(&self) -> &'static str {
        "azurite"
    }

    fn about(&self) -> &'static str {
        "Azure Blob server"
    }

    fn package(&self) -> &'static str {
        "node@22.23.3 azurite@3.37.0"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("azurite")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_AZURITE"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = folders.services().join("azurite");
        std::fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        // Without one npm would look for a package.json in the folders above.
        write_whole(&home.join("package.json"), "{\"private\": true}\n")?;
        let mut command = program("npm");
        command.args(["install", "--no-audit", "--no-fund", "--no-save"]).args(PACKAGES).current_dir(&home);
        let log = folders.log("azurite-install");
        run_logged(&mut command, &log, INSTALL_LIMIT, interrupt).context("npm installs it")?;
        let modules = home.join("node_modules");
        let script = format!(
            "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
            modules.join(".bin/node").display(),
            modules.join("azurite/dist/src/blob/main.js").display()
        );
        write_program(&self.binary(folders), &script)
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![self]
    }
}

impl Server for Azurite {
    fn process(&self) -> &'static str {
        self.name()
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let (port, data) = (place.port, &place.data);
        let mut command = program(self.binary(place.folders));
        command.arg("--location").arg(data).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY};{OTHER_ACCOUNT}:{OTHER_KEY}"));
        command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
        Ok(command)
    }

    /// Any HTTP answer will do: an unsigned request is refused by a server that works.
    fn answers(&self, port: u16) -> bool {
        probe(port).is_ok_and(|answer| answer.starts_with(b"HTTP/1."))
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let port = place.port;
        vec![
            ("UNDERSTUDY_TEST_AZURE_ENDPOINT", format!("http://127.0.0.1:{port}/{ACCOUNT}")),
            ("UNDERSTUDY_TEST_AZURE_ACCOUNT", ACCOUNT.to_owned()),
            ("UNDERSTUDY_TEST_AZURE_KEY", ACCOUNT_KEY.to_owned()),
            ("UNDERSTUDY_TEST_AZURE_OTHER_ENDPOINT", format!("http://127.0.0.1:{port}/{OTHER_ACCOUNT}")),
            ("UNDERSTUDY_TEST_AZURE_OTHER_ACCOUNT", OTHER_ACCOUNT.to_owned()),
            ("UNDERSTUDY_TEST_AZURE_OTHER_KEY", OTHER_KEY.to_owned()),
        ]
    }
}

/// The first bytes of the answer to an unsigned request.
fn probe(port: u16) -> std::io::Result<[u8; 7]> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.set_write_timeout(Some(PROBE_LIMIT))?;
    stream.write_all(b"GET /devstoreaccount1?comp=list HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
