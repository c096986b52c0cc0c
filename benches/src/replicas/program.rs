//! The program that is measured: its policy, a run of it, how long it took and the most memory it had.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Pause between two looks at its memory, and the error of its time.
const POLL: Duration = Duration::from_millis(2);

/// A replica of one database.
pub struct Job<'a> {
    /// The program.
    pub metasync: &'a Path,
    /// What counted runs are run under, as a command line.
    pub under: Option<&'a str>,
    /// Policy, state and data are here.
    pub folder: &'a Path,
    /// A metastore.
    pub source: String,
    /// Another one.
    pub target: String,
    /// Its name in both.
    pub database: String,
}

/// A run that ended well.
pub struct Ran {
    /// From start to end of the process.
    pub seconds: f64,
    /// The kernel's `VmHWM` when it was last seen.
    pub peak_kib: u64,
    summary: serde_json::Value,
}

impl Ran {
    /// A number of the summary, by its JSON pointer.
    pub fn number(&self, pointer: &str) -> Result<u64> {
        self.summary.pointer(pointer).and_then(serde_json::Value::as_u64).with_context(|| format!("no {pointer}"))
    }
}

impl Job<'_> {
    /// Writes the policy with these options; guards are for others.
    pub fn write_policy(&self, options: &str) -> Result<()> {
        let Self { source, target, database, .. } = self;
        let root = self.folder.display();
        let text = format!(
            "name = \"bench\"\nstate = \"{root}/state\"\ndatabases = [\"{database}\"]\n\
             source.metastore = \"{source}\"\ntarget.metastore = \"{target}\"\n\
             [[locations]]\nfrom = \"file:{root}/source\"\nto = \"file:{root}/target\"\n\
             [options]\nmax_drops = \"100%\"\nmax_deletes = \"100%\"\n{options}\n"
        );
        std::fs::create_dir_all(self.folder.join("source"))?;
        std::fs::write(self.policy(), text).context("write the policy")
    }

    fn policy(&self) -> PathBuf {
        self.folder.join("bench.toml")
    }

    /// A run that counts.
    pub fn run(&self) -> Result<Ran> {
        self.do_under(self.under, &["run"])
    }

    /// A run that does not count.
    pub fn run_once(&self) -> Result<Ran> {
        self.do_under(None, &["run"])
    }

    /// A verification at this level; what it finds to differ is an error.
    pub fn verify(&self, level: &str) -> Result<Ran> {
        self.do_under(self.under, &["verify", "--level", level])
    }

    fn do_under(&self, under: Option<&str>, verb: &[&str]) -> Result<Ran> {
        let mut words = under.into_iter().flat_map(str::split_whitespace);
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(self.metasync);
                command
            }
            None => Command::new(self.metasync),
        };
        command.args(verb).arg(self.policy()).arg("--json").env_remove("RUST_LOG").current_dir(self.folder);
        let (out, err) = (self.folder.join("out"), self.folder.join("err"));
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&out)?).stderr(std::fs::File::create(&err)?);
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("run {}", self.metasync.display()))?;
        let mut peak_kib = 0;
        let status = loop {
            peak_kib = peak_kib.max(peak_of(child.id()).unwrap_or(0));
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                bail!("metasync {} took longer than {} s", verb.join(" "), LIMIT.as_secs());
            }
            std::thread::sleep(POLL);
        };
        let seconds = started.elapsed().as_secs_f64();
        if !status.success() {
            bail!("metasync {}: {status}: {}", verb.join(" "), std::fs::read_to_string(err)?);
        }
        let printed = std::fs::read_to_string(out)?;
        let last = printed.lines().rfind(|line| line.contains("\"type\":\"summary\"")).context("no summary")?;
        Ok(Ran { seconds, peak_kib, summary: serde_json::from_str(last)? })
    }
}

/// The most memory that a process had so far.
fn peak_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}
