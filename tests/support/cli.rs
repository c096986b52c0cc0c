//! The binaries as a user runs them: arguments in, exit code, output and summary out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::services::{Azure, S3, distcp_bin, metasync_bin};

/// A user's shell: a home of its own, no variables but these.
#[derive(Debug, Clone)]
pub struct Shell {
    home: PathBuf,
    variables: Vec<(OsString, OsString)>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; of a signal 128 and its number.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
        Self {
            code: code.unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// The `summary` object, the last line of `--json` output.
    pub fn summary(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("no summary: {e}\n{self:#?}"));
        assert_eq!(value["type"], "summary", "{self:#?}");
        value
    }

    /// A number of the summary by its path (`counts/copied`).
    pub fn number(&self, path: &str) -> u64 {
        let summary = self.summary();
        summary.pointer(&format!("/{path}")).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {summary}"))
    }

    /// The same, after checking the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The last line of standard error.
    pub fn last_word(&self) -> &str {
        self.stderr.trim_end().lines().last().unwrap_or_default()
    }
}

impl Shell {
    /// A shell whose home is `home`.
    pub fn new(home: &Path) -> Self {
        let variables = vec![
            ("HOME".into(), home.as_os_str().to_owned()),
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("TMPDIR".into(), std::env::temp_dir().into()),
        ];
        Self { home: home.to_owned(), variables }
    }

    /// The same with a variable.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The same with the variables by which every AWS client finds the server.
    pub fn with_s3(self, s3: &S3) -> Self {
        self.with("AWS_ENDPOINT_URL", &s3.endpoint)
            .with("AWS_REGION", s3.region)
            .with("AWS_ACCESS_KEY_ID", &s3.access_key)
            .with("AWS_SECRET_ACCESS_KEY", &s3.secret_key)
    }

    /// The same with the variables by which Azure clients find the account, and ours its server.
    pub fn with_azure(self, azure: &Azure) -> Self {
        self.with("AZURE_STORAGE_ENDPOINT", &azure.endpoint)
            .with("AZURE_STORAGE_ACCOUNT_NAME", &azure.account)
            .with("AZURE_STORAGE_ACCOUNT_KEY", &azure.key)
    }

    /// A command of any program in this shell.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.variables.iter().cloned()).current_dir(&self.home).stdin(Stdio::null());
        command
    }

    /// `distcp` with these arguments, not yet started.
    pub fn distcp<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = self.command(distcp_bin());
        command.args(arguments);
        command
    }

    /// Runs `distcp` with these arguments to its end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        Ran::from(self.distcp(arguments).output().expect("distcp starts"))
    }

    /// `metasync` with these arguments, not yet started.
    pub fn metasync_command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = self.command(metasync_bin());
        command.args(arguments);
        command
    }

    /// Runs `metasync` with these arguments to its end.
    pub fn metasync<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ran {
        Ran::from(self.metasync_command(arguments).output().expect("metasync starts"))
    }

    /// Runs any program to its end; its exit code must be 0.
    pub fn oracle<A: AsRef<OsStr>>(&self, program: &Path, arguments: &[A]) -> Ran {
        let output = self.command(program).args(arguments).output().expect("the oracle starts");
        Ran::from(output)
    }
}
