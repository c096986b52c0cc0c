//! What is compared with what: cases, contestants, and where everything is while they run.
//!
//! Every tool gets the concurrency it has by default, except rclone: its default of 4 transfers is not what anybody who
//! measures would use, so it gets 16.

use super::data::{self, CLUSTER_LARGE, CLUSTER_SMALL, FILE, LARGE, MANY, SMALL, Tree};
use crate::folders::Folders;
use crate::services::Up;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Where the trees are copied to and from.
pub const BUCKET: &str = "bench";
/// Where distcp keeps its state: on the target's side, beside the target.
pub const STATE_BUCKET: &str = "bench-state";
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
    /// Hadoop's DistCp.
    Hadoop,
    /// The cheapest client that does the same requests and nothing else: what the server can do.
    Raw,
}

impl Tool {
    /// As it is written in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distcp => "distcp",
            Self::Rclone => "rclone",
            Self::S5cmd => "s5cmd",
            Self::B3sum => "b3sum",
            Self::Hadoop => "hadoop",
            Self::Raw => "raw",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Local to an empty prefix on S3.
    Upload,
    /// S3 to an empty local folder.
    Download,
    /// S3 to an empty prefix on S3 that is reached by another name, so that nobody can ask the server to copy by itself.
    Across,
    /// S3 to S3 again, with nothing to do.
    Unchanged,
    /// Hash a local tree.
    Hash,
    /// Local to local.
    Folders,
    /// HDFS to HDFS.
    Hdfs,
}

/// One comparison.
#[derive(Debug)]
pub struct Case {
    /// As it is named on the command line.
    pub name: &'static str,
    /// What is done...
    pub kind: Kind,
    /// ...with which data.
    pub tree: Tree,
}

const fn case(name: &'static str, kind: Kind, tree: Tree) -> Case {
    Case { name, kind, tree }
}

/// All comparisons, at this part of their size.
pub fn cases(scale: u32) -> Vec<Case> {
    let all = [
        case("upload-large", Kind::Upload, LARGE),
        case("upload-small", Kind::Upload, SMALL),
        case("download-large", Kind::Download, LARGE),
        case("download-small", Kind::Download, SMALL),
        case("across-large", Kind::Across, LARGE),
        case("across-small", Kind::Across, SMALL),
        case("unchanged", Kind::Unchanged, MANY),
        case("hash-large", Kind::Hash, FILE),
        case("hash-small", Kind::Hash, SMALL),
        case("hadoop-files-small", Kind::Folders, CLUSTER_SMALL),
        case("hadoop-files-large", Kind::Folders, CLUSTER_LARGE),
        case("hadoop-hdfs-small", Kind::Hdfs, CLUSTER_SMALL),
        case("hadoop-hdfs-large", Kind::Hdfs, CLUSTER_LARGE),
    ];
    all.into_iter().map(|case| Case { tree: case.tree.scaled(scale), ..case }).collect()
}

impl Case {
    /// In words.
    pub fn about(&self) -> String {
        let what = match self.kind {
            Kind::Upload => "local to S3",
            Kind::Download => "S3 to local",
            Kind::Across => "S3 to S3, streamed",
            Kind::Unchanged => "S3 to S3, nothing changed",
            Kind::Hash => "hashes of a local tree",
            Kind::Folders => "local to local",
            Kind::Hdfs => "HDFS to HDFS",
        };
        format!("{}, {what}", self.tree.about())
    }

    /// The contestants, ours first. s5cmd copies between buckets only by asking one server to, so it streams nothing.
    pub fn tools(&self) -> &'static [Tool] {
        match self.kind {
            Kind::Upload | Kind::Download => &[Tool::Distcp, Tool::Rclone, Tool::S5cmd, Tool::Raw],
            Kind::Across => &[Tool::Distcp, Tool::Rclone, Tool::Raw],
            Kind::Unchanged => &[Tool::Distcp, Tool::Rclone, Tool::S5cmd],
            Kind::Hash => &[Tool::Distcp, Tool::B3sum],
            Kind::Folders | Kind::Hdfs => &[Tool::Distcp, Tool::Hadoop],
        }
    }

    /// The services that it needs.
    pub fn needs(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Upload | Kind::Download | Kind::Across | Kind::Unchanged => &["versitygw", "rclone", "s5cmd"],
            Kind::Hash => &["b3sum"],
            Kind::Folders => &["hadoop-distcp"],
            Kind::Hdfs => &["hadoop-distcp", "hdfs"],
        }
    }

    /// Whether its source is on S3.
    pub fn source_is_stored(&self) -> bool {
        matches!(self.kind, Kind::Download | Kind::Across | Kind::Unchanged)
    }
}

/// Where everything is during a run.
pub struct Stage {
    /// Trees, copies, local state and the log.
    pub folder: PathBuf,
    /// The folder in which the S3 server keeps buckets.
    pub stored: PathBuf,
    /// Built programs.
    pub built: PathBuf,
    variables: std::collections::BTreeMap<String, String>,
}

impl Stage {
    /// With the services that are up.
    pub fn new(folders: &Folders, up: &Up) -> Result<Self> {
        let folder = folders.target.join("bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let (stored, built) = (folders.data("versitygw"), folders.target.join("release"));
        Ok(Self { folder, stored, built, variables: up.variables.clone() })
    }

    /// What a service said of itself.
    pub fn variable(&self, name: &str) -> Result<&str> {
        self.variables.get(name).map(String::as_str).with_context(|| format!("{name} is not known"))
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
        match (case.kind, tool) {
            (Kind::Upload | Kind::Across | Kind::Unchanged, _) => {
                data::check(&self.stored.join(BUCKET).join(prefix(case, tool)), case.tree)
            }
            (Kind::Hash | Kind::Hdfs, _) => Ok(()),
            (Kind::Download | Kind::Folders, _) => data::check(&self.local(case, tool), case.tree),
        }
    }

    /// Where a contestant leaves what is local.
    pub fn local(&self, case: &Case, tool: Tool) -> PathBuf {
        self.folder.join("out").join(prefix(case, tool))
    }
}

/// Where a contestant puts what it copies.
pub fn prefix(case: &Case, tool: Tool) -> String {
    format!("{}-{}", case.name, tool.name())
}

/// Where the source of a case is, if it is not local.
pub fn source_prefix(case: &Case) -> String {
    format!("{}-source", case.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_has_a_name_of_its_own_and_begins_with_ours() {
        let cases = cases(1);
        for (i, case) in cases.iter().enumerate() {
            assert_eq!(case.tools()[0], Tool::Distcp);
            assert!(cases[..i].iter().all(|earlier| earlier.name != case.name));
        }
    }
}
