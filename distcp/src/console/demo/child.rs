//! Runs this program for a step of the demo, with `--json`, and reads what it says.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use crate::error::{Failure, Result};
use crate::exit::ExitCode;

/// The most of a child's stderr that is kept, in bytes.
const MAX_STDERR_BYTES: u64 = 1 << 20;

/// Where children put what they need for a while, below the demo's folder.
const TEMPORARY: &str = "tmp";

/// How children are started.
#[derive(Debug, Clone)]
pub struct Program {
    exe: PathBuf,
    folder: PathBuf,
    temporary: PathBuf,
}

/// What a child left.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// The exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// The summary, the last line on stdout.
    pub summary: Value,
    /// The other lines on stdout.
    pub lines: Vec<Value>,
    /// The last line on stderr.
    pub last_line: String,
}

impl Ended {
    /// A number in the summary, by its path: `/counts/copied`. A missing one is an error of the demo.
    pub fn number(&self, pointer: &str) -> Result<u64> {
        self.summary.pointer(pointer).and_then(Value::as_u64).ok_or_else(|| {
            Failure::new(ExitCode::Failed, format!("the summary has no number {pointer}: {}", self.summary))
        })
    }

    /// How many lines have this value in this field.
    pub fn count(&self, field: &str, value: &str) -> u64 {
        self.lines.iter().filter(|line| line[field] == value).count() as u64
    }
}

impl Program {
    /// This program, in the demo's folder.
    pub fn this(folder: &Path) -> Result<Self> {
        let exe = std::env::current_exe().map_err(|error| failed("find this program", &error))?;
        let temporary = folder.join(TEMPORARY);
        std::fs::create_dir_all(&temporary).map_err(|error| failed("make a folder for temporary files", &error))?;
        Ok(Self { exe, folder: folder.to_owned(), temporary })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        command
            .args(words)
            .args(["--json", "--progress", "never"])
            .current_dir(&self.folder)
            // The demo shows the program as it is installed, not as its user has configured it.
            .env_remove("UNDERSTUDY_CONFIG")
            .env("XDG_CONFIG_HOME", &self.folder)
            // A child that is killed cannot clean up behind itself.
            .env("TMPDIR", &self.temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run(&self, words: &[&str]) -> Result<Ended> {
        self.run_until(words, |_| false).await
    }

    /// Runs it until `enough` says so of the lines so far; then kills it as `kill -9` does.
    pub async fn run_until(&self, words: &[&str], enough: impl Fn(&[Value]) -> bool) -> Result<Ended> {
        let mut child = self.command(words).spawn().map_err(|error| failed("start this program", &error))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::new(ExitCode::Failed, "the child has no output"));
        };
        let mut lines = Vec::new();
        let read_out = async {
            let mut out = BufReader::new(out).lines();
            while let Some(line) = out.next_line().await? {
                lines.push(serde_json::from_str(&line).map_err(std::io::Error::other)?);
                if enough(&lines) {
                    child.start_kill()?;
                    break;
                }
            }
            Ok::<_, std::io::Error>(lines)
        };
        let read_err = async {
            let mut text = Vec::new();
            err.take(MAX_STDERR_BYTES).read_to_end(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        let (lines, text) =
            tokio::try_join!(read_out, read_err).map_err(|error| failed("read what this program says", &error))?;
        let status = child.wait().await.map_err(|error| failed("wait for this program", &error))?;
        Ok(ended(status.code(), lines, &String::from_utf8_lossy(&text)))
    }
}

fn ended(code: Option<i32>, mut lines: Vec<Value>, stderr: &str) -> Ended {
    let summary = match lines.last() {
        Some(last) if last["type"] == "summary" => lines.pop().unwrap_or_default(),
        _ => Value::Null,
    };
    let last_line = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    Ended { code, summary, lines, last_line }
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Failed, format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_summary_is_the_last_line() {
        let object = |outcome: &str| json!({"type": "object", "outcome": outcome});
        let lines = vec![
            object("copied"),
            object("failed"),
            object("copied"),
            json!({"type": "summary", "counts": {"copied": 2}}),
        ];
        let ended = ended(Some(3), lines, "note: x\nlast\n\n");
        assert_eq!((ended.number("/counts/copied").unwrap(), ended.count("outcome", "copied")), (2, 2));
        assert_eq!((ended.last_line.as_str(), ended.lines.len()), ("last", 3));
        assert!(ended.number("/counts/deleted").is_err());
        let killed = super::ended(None, vec![object("copied")], "");
        assert!(killed.summary.is_null() && killed.lines.len() == 1);
    }
}
