//! `cargo xtask tidy`: what neither the compiler nor clippy checks.
//!
//! It looks at the files that git tracks or would track, so that nothing built or installed is judged.

mod edges;
mod source;

use crate::folders::Folders;
use crate::terminal::{err, out};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// One thing that is not in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the root.
    pub path: String,
    /// Line, from 1; `None` for the whole file.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

/// Prints the findings; true if there are none.
pub fn run(folders: &Folders) -> Result<bool> {
    let findings = check(&folders.root)?;
    for finding in &findings {
        out!("{finding}");
    }
    if findings.is_empty() {
        out!("tidy");
    } else {
        err!("error: {} not tidy", findings.len());
    }
    Ok(findings.is_empty())
}

/// All findings in a checkout.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = edges::check(root)?;
    for path in files(root)? {
        let bytes = match std::fs::read(root.join(&path)) {
            Ok(bytes) => bytes,
            // Deleted, but not yet from git's index; or a folder that is a repository of its own.
            Err(_) if !root.join(&path).is_file() => continue,
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        };
        if let Ok(text) = std::str::from_utf8(&bytes) {
            findings.extend(source::check(&path, text));
        }
    }
    Ok(findings)
}

/// What git tracks or would track.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let out = git.output().context("start git")?;
    if !out.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&out.stderr));
    }
    let text = String::from_utf8(out.stdout).context("a tracked path is not UTF-8")?;
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}
