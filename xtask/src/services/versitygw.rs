//! versitygw, the S3 server of the tests: checks signatures and checksums, and its conditional writes are atomic.
//!
//! Objects are files below `run/versitygw/data/<bucket>/`, which the benchmarks use to count what arrived. It listens on
//! loopback only. It ignores conditions on the target of CopyObject and refuses `x` beside `x/y`, as file systems do.

use super::{Place, Server, Service};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::Folders;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The access key of every server that xtask starts. Not a secret: it listens on loopback and holds test data.
pub const ACCESS_KEY: &str = "understudy-test";
/// The secret key to it.
pub const SECRET_KEY: &str = "understudy-test-secret";
/// A bucket that is there from the start.
const BUCKET: &str = "understudy-test";
/// How long the build may take; two minutes on two free cores.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);
/// How long one look whether it answers may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// See the module.
pub struct VersityGw;

impl Service for VersityGw {
    fn name(&self) -> &'static str {
        "versitygw"
    }

    fn about(&self) -> &'static str {
        "S3 server"
    }

    fn package(&self) -> &'static str {
        "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("versitygw")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_VERSITYGW"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["--version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let mut command = program("go");
        command.arg("install").arg(self.package()).env("GOBIN", folders.bin()).current_dir(folders.services());
        let log = folders.log("versitygw-install");
        run_logged(&mut command, &log, BUILD_LIMIT, interrupt).context("the Go toolchain builds it")
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![self]
    }
}

impl Server for VersityGw {
    fn process(&self) -> &'static str {
        self.name()
    }

    /// A folder is a bucket, so one that exists from the start costs no request.
    fn prepare(&self, place: &Place<'_>, _interrupt: &Interrupt) -> Result<()> {
        let bucket = place.data.join(BUCKET);
        std::fs::create_dir(&bucket).with_context(|| format!("create {}", bucket.display()))
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let (port, data) = (place.port, &place.data);
        let mut command = program(self.binary(place.folders));
        command.args(["--port", &format!("127.0.0.1:{port}"), "--access", ACCESS_KEY, "--secret", SECRET_KEY]);
        command.args(["--quiet", "--keep-alive", "posix"]).arg(data);
        Ok(command)
    }

    /// Any HTTP answer will do: an unsigned request is refused by a server that works.
    fn answers(&self, port: u16) -> bool {
        probe(port).is_ok_and(|answer| answer.starts_with(b"HTTP/1."))
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let (port, data) = (place.port, &place.data);
        vec![
            ("UNDERSTUDY_TEST_S3_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("UNDERSTUDY_TEST_S3_ACCESS_KEY", ACCESS_KEY.to_owned()),
            ("UNDERSTUDY_TEST_S3_SECRET_KEY", SECRET_KEY.to_owned()),
            ("UNDERSTUDY_TEST_S3_BUCKET", BUCKET.to_owned()),
            ("UNDERSTUDY_TEST_S3_FOLDER", data.display().to_string()),
        ]
    }
}

/// The first bytes of the answer to an unsigned request.
fn probe(port: u16) -> std::io::Result<[u8; 7]> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.set_write_timeout(Some(PROBE_LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
