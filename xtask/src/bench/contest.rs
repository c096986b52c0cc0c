//! What is compared with what, and the command of each contestant.
//!
//! Every tool gets the concurrency it has by default, except rclone: its default of 4 transfers is not what anybody who
//! measures would use, so it gets 16.

use super::data::{self, LARGE, SMALL, Tree};
use crate::command::program;
use crate::folders::Folders;
use crate::services::{ACCESS_KEY, SECRET_KEY, Up};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the trees are copied to and from.
const BUCKET: &str = "bench";
/// Where distcp keeps its state: on the target's side, beside the target.
const STATE_BUCKET: &str = "bench-state";
/// The buckets that the cases need.
pub const BUCKETS: [&str; 2] = [BUCKET, STATE_BUCKET];

/// One of the programs that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Ours.
    Distcp,
    /// `rclone copy`
    Rclone,
    /// `s5cmd cp`, and `s5cmd sync` for unchanged trees
    S5cmd,
    /// Hashes only.
    B3sum,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Local to an empty prefix on S3.
    Upload,
    /// S3 to an empty local folder.
    Download,
    /// Local to S3 again, with nothing to do.
    Unchanged,
    /// Hash a local tree.
    Hash,
}

/// One comparison.
#[derive(Debug)]
pub struct Case {
    /// As it is named on the command line.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// What is done...
    pub kind: Kind,
    /// ...with which data.
    pub tree: Tree,
}

/// All comparisons.
pub const CASES: [Case; 7] = [
    Case { name: "upload-small", about: "2,000 x 64 KiB, local to S3", kind: Kind::Upload, tree: SMALL },
    Case { name: "upload-large", about: "4 x 256 MiB, local to S3", kind: Kind::Upload, tree: LARGE },
    Case { name: "download-small", about: "2,000 x 64 KiB, S3 to local", kind: Kind::Download, tree: SMALL },
    Case { name: "download-large", about: "4 x 256 MiB, S3 to local", kind: Kind::Download, tree: LARGE },
    Case {
        name: "unchanged-small",
        about: "2,000 x 64 KiB again, nothing changed",
        kind: Kind::Unchanged,
        tree: SMALL,
    },
    Case { name: "hash-small", about: "2,000 x 64 KiB, hashes of a local tree", kind: Kind::Hash, tree: SMALL },
    Case { name: "hash-large", about: "4 x 256 MiB, hashes of a local tree", kind: Kind::Hash, tree: LARGE },
];

impl Case {
    /// The contestants, ours first.
    pub fn tools(&self) -> &'static [Tool] {
        match self.kind {
            Kind::Upload | Kind::Download | Kind::Unchanged => &[Tool::Distcp, Tool::Rclone, Tool::S5cmd],
            Kind::Hash => &[Tool::Distcp, Tool::B3sum],
        }
    }
}

/// Where everything is during a run.
pub struct Stage {
    /// Trees, copies, local state and the log.
    pub folder: PathBuf,
    /// The folder in which the S3 server keeps buckets.
    pub stored: PathBuf,
    endpoint: String,
    distcp: PathBuf,
    rclone: PathBuf,
    s5cmd: PathBuf,
    b3sum: PathBuf,
}

impl Stage {
    /// With the services that are up.
    pub fn new(folders: &Folders, up: &Up) -> Result<Self> {
        let variable = |name: &str| up.variables.get(name).with_context(|| format!("{name} is not known"));
        let folder = folders.target.join("bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self {
            folder,
            stored: folders.data("versitygw"),
            endpoint: variable("UNDERSTUDY_TEST_S3_ENDPOINT")?.clone(),
            distcp: folders.target.join("release/distcp"),
            rclone: variable("UNDERSTUDY_TEST_RCLONE")?.into(),
            s5cmd: variable("UNDERSTUDY_TEST_S5CMD")?.into(),
            b3sum: variable("UNDERSTUDY_TEST_B3SUM")?.into(),
        })
    }

    /// The timed command of one contestant.
    pub fn command(&self, case: &Case, tool: Tool) -> Result<Command> {
        let tree = data::folder(&self.folder, case.tree);
        let (source, target) = match case.kind {
            Kind::Upload | Kind::Unchanged => (path(&tree), format!("s3://{BUCKET}/{}", prefix(case, tool))),
            Kind::Download => (format!("s3://{BUCKET}/{}", source_prefix(case)), path(&self.local(case, tool))),
            Kind::Hash => (path(&tree), String::new()),
        };
        Ok(match (case.kind, tool) {
            (Kind::Hash, Tool::B3sum) => {
                let mut command = program(&self.b3sum);
                command.args(data::files(&tree)?);
                command
            }
            (Kind::Hash, _) => {
                let mut command = program(&self.distcp);
                command.args(["manifest", "create", &source, "-o", &path(&self.local(case, tool))]);
                command
            }
            (_, Tool::Rclone) => self.rclone(&source, &target),
            (kind, Tool::S5cmd) => {
                let verb = if kind == Kind::Unchanged { "sync" } else { "cp" };
                let pattern = if kind == Kind::Download { "/*" } else { "/" };
                let mut command = self.s5cmd();
                command.args([verb, &format!("{source}{pattern}"), &format!("{target}/")]);
                command
            }
            (_, _) => {
                let mut command = self.with_credentials(&self.distcp);
                command.args(["copy", &source, &target, "--state", &self.state(case)]);
                command
            }
        })
    }

    /// s5cmd with the server's address and keys.
    pub fn s5cmd(&self) -> Command {
        let mut command = self.with_credentials(&self.s5cmd);
        command.args(["--endpoint-url", &self.endpoint, "--log", "error"]);
        command
    }

    /// Puts the tree of a download in its place.
    pub fn fill_source(&self, case: &Case) -> Command {
        let tree = data::folder(&self.folder, case.tree);
        self.rclone(&path(&tree), &format!("s3://{BUCKET}/{}", source_prefix(case)))
    }

    /// Deletes what a contestant made, state included. The server keeps objects as files, so this costs no requests.
    pub fn clear(&self, case: &Case, tool: Tool) -> Result<()> {
        let mut folders = vec![self.local(case, tool), self.stored.join(BUCKET).join(prefix(case, tool))];
        if tool == Tool::Distcp {
            folders.extend([self.stored.join(STATE_BUCKET).join(case.name), self.folder.join("state").join(case.name)]);
        }
        folders.iter().try_for_each(|folder| data::remove(folder))
    }

    /// Whether what arrived is complete, by count and bytes.
    pub fn check(&self, case: &Case, tool: Tool) -> Result<()> {
        match case.kind {
            Kind::Upload | Kind::Unchanged => {
                data::check(&self.stored.join(BUCKET).join(prefix(case, tool)), case.tree)
            }
            Kind::Download => data::check(&self.local(case, tool), case.tree),
            Kind::Hash => Ok(()),
        }
    }

    fn rclone(&self, source: &str, target: &str) -> Command {
        let mut command = program(&self.rclone);
        let remote = |place: &str| place.replacen("s3://", "bench:", 1);
        command.args(["copy", &remote(source), &remote(target), "--transfers", "16", "--checkers", "16"]);
        command.args(["--config", "/dev/null"]);
        for (key, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("REGION", "us-east-1"),
            ("FORCE_PATH_STYLE", "true"),
            ("NO_CHECK_BUCKET", "true"),
            ("ENDPOINT", &self.endpoint),
            ("ACCESS_KEY_ID", ACCESS_KEY),
            ("SECRET_ACCESS_KEY", SECRET_KEY),
        ] {
            command.env(format!("RCLONE_CONFIG_BENCH_{key}"), value);
        }
        command
    }

    fn with_credentials(&self, binary: &Path) -> Command {
        let mut command = program(binary);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.env("AWS_REGION", "us-east-1").env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_ALLOW_HTTP", "true");
        command
    }

    /// On the target's side.
    fn state(&self, case: &Case) -> String {
        match case.kind {
            Kind::Upload | Kind::Unchanged => format!("s3://{STATE_BUCKET}/{}", case.name),
            Kind::Download | Kind::Hash => path(&self.folder.join("state").join(case.name)),
        }
    }

    fn local(&self, case: &Case, tool: Tool) -> PathBuf {
        self.folder.join("out").join(prefix(case, tool))
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn prefix(case: &Case, tool: Tool) -> String {
    format!("{}-{}", case.name, tool.name())
}

fn source_prefix(case: &Case) -> String {
    format!("{}-source", case.name)
}
