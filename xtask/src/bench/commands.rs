//! The command of each contestant in each case.

use super::contest::{BUCKET, Case, Kind, STATE_BUCKET, Stage, Tool, prefix, source_prefix};
use super::data;
use crate::command::program;
use crate::services::{ACCESS_KEY, SECRET_KEY};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

impl Stage {
    /// The timed command of one contestant.
    pub fn command(&self, case: &Case, tool: Tool) -> Result<Command> {
        let (source, target) = self.places(case, tool)?;
        match tool {
            Tool::Distcp => self.distcp(case, &source, &target),
            Tool::Rclone => self.rclone(case.kind == Kind::Unchanged, &source, &target),
            Tool::S5cmd => {
                let verb = if case.kind == Kind::Unchanged { "sync" } else { "cp" };
                let pattern = if case.source_is_stored() { "/*" } else { "/" };
                let mut command = self.s5cmd()?;
                command.args([verb, &format!("{source}{pattern}"), &format!("{target}/")]);
                Ok(command)
            }
            Tool::B3sum => {
                let mut command = program(self.variable("UNDERSTUDY_TEST_B3SUM")?);
                command.args(data::files(&data::folder(&self.folder, case.tree))?);
                Ok(command)
            }
            Tool::Hadoop => {
                let mut command = program(self.variable("UNDERSTUDY_TEST_HADOOP_DISTCP")?);
                let url =
                    |place: &str| if place.starts_with('/') { format!("file://{place}") } else { place.to_owned() };
                command.args(["-m", "4", &url(&source), &url(&target)]);
                Ok(command)
            }
            Tool::Raw => self.raw(case, &source, &target),
        }
    }

    fn places(&self, case: &Case, tool: Tool) -> Result<(String, String)> {
        let tree = path(&data::folder(&self.folder, case.tree));
        let stored = |prefix: String| format!("s3://{BUCKET}/{prefix}");
        Ok(match case.kind {
            Kind::Upload => (tree, stored(prefix(case, tool))),
            Kind::Across | Kind::Unchanged => (stored(source_prefix(case)), stored(prefix(case, tool))),
            Kind::Download => (stored(source_prefix(case)), path(&self.local(case, tool))),
            Kind::Hash | Kind::Folders => (tree, path(&self.local(case, tool))),
            Kind::Hdfs => {
                let root = format!("hdfs://{}", self.variable("UNDERSTUDY_TEST_HDFS_NAMENODE")?);
                // A folder of its own for each run: nothing has to be deleted in between.
                let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
                (format!("{root}/{}", source_prefix(case)), format!("{root}/{}-{fresh}", prefix(case, tool)))
            }
        })
    }

    /// distcp with the server's keys.
    pub fn ours(&self) -> Result<Command> {
        self.with_credentials(&self.built.join("distcp"))
    }

    fn distcp(&self, case: &Case, source: &str, target: &str) -> Result<Command> {
        let mut command = self.ours()?;
        if case.kind == Kind::Hash {
            command.args(["manifest", "create", source, "-o", target]);
            return Ok(command);
        }
        let state = match target.starts_with("s3:") {
            true => format!("s3://{STATE_BUCKET}/{}", case.name),
            false => path(&self.folder.join("state").join(case.name)),
        };
        command.args(["copy", source, target, "--state", &state]);
        match case.kind {
            Kind::Across => command.args(["--source-option", &format!("endpoint={}", self.other_name()?)]),
            Kind::Unchanged => command.args(["--source-option", &format!("endpoint={}", self.other_name()?), "--json"]),
            _ => &mut command,
        };
        Ok(command)
    }

    /// s5cmd with the server's address and keys.
    pub fn s5cmd(&self) -> Result<Command> {
        let mut command = self.with_credentials(Path::new(self.variable("UNDERSTUDY_TEST_S5CMD")?))?;
        command.args(["--endpoint-url", self.endpoint()?, "--log", "error"]);
        Ok(command)
    }

    /// Puts the tree of a case whose source is not local in its place.
    pub fn fill_source(&self, case: &Case) -> Result<Command> {
        let tree = path(&data::folder(&self.folder, case.tree));
        if case.kind == Kind::Hdfs {
            let namenode = self.variable("UNDERSTUDY_TEST_HDFS_NAMENODE")?;
            let mut command = self.ours()?;
            let state = path(&self.folder.join("state").join("fill"));
            command.args(["copy", &tree, &format!("hdfs://{namenode}/{}", source_prefix(case)), "--state", &state]);
            return Ok(command);
        }
        self.rclone(false, &tree, &format!("s3://{BUCKET}/{}", source_prefix(case)))
    }

    /// rclone; with `checksum` it compares by ETag, else by size and time.
    pub fn rclone(&self, checksum: bool, source: &str, target: &str) -> Result<Command> {
        let mut command = program(self.variable("UNDERSTUDY_TEST_RCLONE")?);
        let remote = |place: &str, name: &str| place.replacen("s3://", &format!("{name}:"), 1);
        command.args(["copy", &remote(source, "other"), &remote(target, "bench")]);
        command.args(["--transfers", "16", "--checkers", "16", "--config", "/dev/null"]);
        if checksum {
            command.arg("--checksum");
        }
        for (remote, endpoint) in [("BENCH", self.endpoint()?.to_owned()), ("OTHER", self.other_name()?)] {
            for (key, value) in [
                ("TYPE", "s3"),
                ("PROVIDER", "Other"),
                ("REGION", "us-east-1"),
                ("FORCE_PATH_STYLE", "true"),
                ("NO_CHECK_BUCKET", "true"),
                ("ENDPOINT", &endpoint),
                ("ACCESS_KEY_ID", ACCESS_KEY),
                ("SECRET_ACCESS_KEY", SECRET_KEY),
            ] {
                command.env(format!("RCLONE_CONFIG_{remote}_{key}"), value);
            }
        }
        Ok(command)
    }

    /// Reads or writes as many objects of the same size, 16 at a time as the others do.
    fn raw(&self, case: &Case, source: &str, target: &str) -> Result<Command> {
        let mut command = self.with_credentials(&self.built.join("raw"))?;
        let list = data::keys(case.tree);
        let keys = self.folder.join("keys");
        std::fs::write(&keys, list)?;
        command
            .args(["--endpoint", self.endpoint()?, "--bytes", &case.tree.file_bytes.to_string(), "--keys"])
            .arg(keys);
        if source.starts_with("s3:") {
            command.args(["--from", source]);
        }
        match target.starts_with("s3:") {
            true => command.args(["--to", target]),
            false => command.args(["--into", target]),
        };
        Ok(command)
    }

    fn endpoint(&self) -> Result<&str> {
        self.variable("UNDERSTUDY_TEST_S3_ENDPOINT")
    }

    /// The same server by another name: to every tool another service, which cannot copy from the first.
    pub fn other_name(&self) -> Result<String> {
        Ok(self.endpoint()?.replace("127.0.0.1", "localhost"))
    }

    fn with_credentials(&self, binary: &Path) -> Result<Command> {
        let mut command = program(binary);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("AWS_REGION", "us-east-1").env("AWS_ALLOW_HTTP", "true");
        if let Ok(endpoint) = self.endpoint() {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        Ok(command)
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
