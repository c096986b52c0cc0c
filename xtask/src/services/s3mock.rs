//! S3Mock, the S3 server of the tests that keeps every key as it is: `x` beside `x/y`, `a//b`, `/x`, control characters.
//!
//! It is odd in what versitygw is strict in, which is what it is for: it lists in UTF-16 order, checks no
//! signature, and its conditional writes are not atomic. The jar comes through Maven; the file beside this one starts it, because
//! as it comes it listens on every interface. Nothing is kept of what it stores.

use super::{Place, Server, Service, maven};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, remove_folder, write_program, write_whole};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The jar with all that it needs inside, as Maven names it.
const ARTIFACT: &str = "com.adobe.testing:s3mock:5.2.0:jar:exec";
/// The file that it arrives as.
const JAR: &str = "s3mock-5.2.0-exec.jar";
/// A bucket that is there from the start.
const BUCKET: &str = "understudy-test";
/// How long unpacking and compiling may take, each.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// How long one look whether it answers may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// See the module.
pub struct S3Mock;

impl Service for S3Mock {
    fn name(&self) -> &'static str {
        "s3mock"
    }

    fn about(&self) -> &'static str {
        "S3 server that keeps odd keys"
    }

    fn package(&self) -> &'static str {
        ARTIFACT
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("s3mock")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_S3MOCK"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = folders.services().join("s3mock");
        // Classes of another version must not be in the way.
        remove_folder(&home)?;
        write_whole(&home.join("Loopback.java"), include_str!("s3mock/Loopback.java"))?;
        maven::copy(folders, self.name(), &home, ARTIFACT, interrupt)?;
        // Unpacked it starts sooner, and our program finds its classes.
        let mut unpack = program("jar");
        unpack.args(["--extract", "--file", JAR, "BOOT-INF"]).current_dir(&home);
        run_logged(&mut unpack, &folders.log("s3mock-unpack"), COMPILE_LIMIT, interrupt)
            .context("a JDK, 17 or later, unpacks it")?;
        let (inside, classes) = (home.join("BOOT-INF"), home.join("classes"));
        let jars = format!("{}:{}", inside.join("classes").display(), inside.join("lib/*").display());
        let mut compiler = program("javac");
        compiler.arg("-cp").arg(&jars).arg("-d").arg(&classes).arg(home.join("Loopback.java"));
        run_logged(&mut compiler, &folders.log("s3mock-compile"), COMPILE_LIMIT, interrupt)
            .context("a JDK, 17 or later, compiles its start")?;
        let script = format!(
            "#!/bin/sh\nexec java -Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{}:{jars}' Loopback \"$@\"\n",
            classes.display()
        );
        write_program(&self.binary(folders), &script)
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![self]
    }
}

impl Server for S3Mock {
    fn process(&self) -> &'static str {
        self.name()
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let (port, data) = (place.port, &place.data);
        let mut command = program(self.binary(place.folders));
        command.arg("serve").arg(port.to_string()).arg(data).arg(BUCKET);
        Ok(command)
    }

    /// When it lists the bucket that is there from the start.
    fn answers(&self, port: u16) -> bool {
        probe(port).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let port = place.port;
        vec![
            ("UNDERSTUDY_TEST_S3MOCK_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("UNDERSTUDY_TEST_S3MOCK_BUCKET", BUCKET.to_owned()),
        ]
    }
}

/// The first bytes of the answer to a listing.
fn probe(port: u16) -> std::io::Result<[u8; 12]> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.set_write_timeout(Some(PROBE_LIMIT))?;
    let request = format!("GET /{BUCKET}?list-type=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_artifacts() {
        let parts: Vec<&str> = ARTIFACT.split(':').collect();
        assert_eq!(JAR, format!("{}-{}-{}.{}", parts[1], parts[2], parts[4], parts[3]));
    }
}
