//! HDFS: a NameNode and a DataNode of Hadoop's own jars, in one process so that one pid is all there is to end.
//!
//! The jars come through Maven, the two files beside this one make a program of them. It listens on loopback only, keeps its
//! data in `run/hdfs/data`, and its superuser is whoever starts it; everybody else is who they say they are.

use super::maven::{self, Jar, without};
use super::{Place, Server, Service};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, write_program, write_whole};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Hadoop's version.
#[cfg(test)]
const VERSION: &str = "3.4.3";
/// What is taken of it.
const JARS: [Jar; 3] = [
    without("org.apache.hadoop:hadoop-common:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-hdfs:3.4.3", &[]),
    without("org.apache.hadoop:hadoop-hdfs-client:3.4.3", &[]),
];
/// How long the compiler may take.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// How long one look whether it answers may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// See the module.
pub struct Hdfs;

fn home(folders: &Folders) -> PathBuf {
    folders.services().join("hdfs")
}

impl Service for Hdfs {
    fn name(&self) -> &'static str {
        "hdfs"
    }

    fn about(&self) -> &'static str {
        "HDFS, one DataNode"
    }

    fn package(&self) -> &'static str {
        "org.apache.hadoop:hadoop-hdfs:3.4.3 and what it needs"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join("hdfs")
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_HDFS"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = home(folders);
        let (jars, classes) = (home.join("jars"), home.join("classes"));
        // Jars of another version must not be in the way.
        for folder in [&jars, &classes] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).with_context(|| format!("delete {}", folder.display()))?;
            }
        }
        write_whole(&home.join("Hdfs.java"), include_str!("hdfs/Hdfs.java"))?;
        write_whole(&classes.join("log4j.properties"), include_str!("hdfs/log4j.properties"))?;
        for page in ["hdfs", "datanode"] {
            // The servers want a folder of web pages; there is nobody to look at them.
            let folder = classes.join("webapps").join(page);
            std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        maven::jars(folders, self.name(), &home, &JARS, interrupt)?;
        let mut compiler = program("javac");
        compiler.arg("-cp").arg(jars.join("*")).arg("-d").arg(&classes).arg(home.join("Hdfs.java"));
        run_logged(&mut compiler, &folders.log("hdfs-compile"), COMPILE_LIMIT, interrupt)
            .context("a JDK, 17 or later, compiles it")?;
        let script = format!(
            "#!/bin/sh\nexec java -Xms64m -Xmx512m -XX:+UseSerialGC -cp '{}:{}/*' Hdfs \"$@\"\n",
            classes.display(),
            jars.display()
        );
        write_program(&self.binary(folders), &script)
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![self]
    }
}

impl Server for Hdfs {
    fn process(&self) -> &'static str {
        self.name()
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        let (port, data) = (place.port, &place.data);
        let mut command = program(self.binary(place.folders));
        command.arg("serve").arg(port.to_string()).arg(data);
        Ok(command)
    }

    /// It listens on this port when files can be written.
    fn answers(&self, port: u16) -> bool {
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PROBE_LIMIT).is_ok()
    }

    /// The NameNode took a port of its own, and wrote it down before it answered.
    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let port = std::fs::read_to_string(place.data.join("namenode")).unwrap_or_default();
        vec![("UNDERSTUDY_TEST_HDFS_NAMENODE", format!("127.0.0.1:{port}"))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_names_the_version_that_is_fetched() {
        assert!(Hdfs.package().contains(VERSION));
        assert!(JARS.iter().all(|jar| jar.artifact.ends_with(VERSION)));
    }
}
