//! Hive 4.2's own replication of one table without data: REPL DUMP and REPL LOAD by a real Hive over its own metastore.
//!
//! One session does all of it, as one HiveServer2 would; its start does not count.

use super::stage::{Database, Stage};
use anyhow::{Context as _, Result, bail};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Partitions of one statement.
const AT_ONCE: usize = 1000;
/// What REPL needs, below the folder of the session; file systems are asked for by an authority, and keep checksums.
const SETTINGS: [(&str, &str); 9] = [
    ("hive.metastore.warehouse.dir", "pfile://local@/warehouse"),
    ("hive.metastore.warehouse.external.dir", "pfile://local@/external"),
    ("fs.pfile.impl", "org.apache.hadoop.fs.ProxyLocalFileSystem"),
    ("hive.repl.rootdir", "pfile://local@/repl"),
    ("hive.repl.cm.enabled", "true"),
    ("hive.repl.cmrootdir", "pfile://local@/changes"),
    ("hive.repl.cm.nonencryptionzone.rootdir", "pfile://local@/changes-plain"),
    ("hive.repl.replica.functions.root.dir", "pfile://local@/functions"),
    ("hive.repl.replica.external.table.base.dir", "pfile://local@/replica"),
];

/// What it took.
pub struct Replicated {
    /// Seconds of REPL DUMP.
    pub dump: f64,
    /// Seconds of REPL LOAD.
    pub load: f64,
}

/// Makes a table of so many partitions, dumps its database, and loads the dump into another one of the same metastore.
pub fn replicate(stage: &Stage, program: &Path, partitions: usize) -> Result<Replicated> {
    let installed = program.parent().and_then(Path::parent).context("--hive stands in no folder")?;
    let schema = installed.join("hive-4.2/schema/postgres.sql");
    let schema = std::fs::read_to_string(&schema).with_context(|| schema.display().to_string())?;
    let database = stage.empty_database("repl", &schema)?;
    let mut session = Session::start(stage, program, &database)?;
    session.run("create database s with dbproperties('repl.source.for'='bench')")?;
    session.run("create external table s.t (id int, name string) partitioned by (p int) stored as parquet")?;
    for first in (0..partitions).step_by(AT_ONCE) {
        let some: Vec<String> =
            (first..(first + AT_ONCE).min(partitions)).map(|p| format!("partition (p={p})")).collect();
        session.run(&format!("alter table s.t add {}", some.join(" ")))?;
    }
    let started = Instant::now();
    session.run("repl dump s")?;
    let dump = started.elapsed().as_secs_f64();
    let started = Instant::now();
    session.run("repl load s into d")?;
    let load = started.elapsed().as_secs_f64();
    let there = session.run("show partitions d.t")?;
    match there == partitions {
        true => Ok(Replicated { dump, load }),
        false => bail!("{there} partitions were loaded, not {partitions}"),
    }
}

/// A session of Hive, which ends with its value.
struct Session {
    child: Child,
    statements: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn start(stage: &Stage, program: &Path, database: &Database) -> Result<Self> {
        let folder = stage.folder().join("hive");
        std::fs::create_dir_all(&folder)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = Command::new(program);
        command.arg("session").arg(&folder).arg(&database.url);
        let place = folder.display().to_string();
        command.args(SETTINGS.map(|(name, value)| format!("{name}={}", value.replace('@', &place))));
        // It leaves a history of statements at home.
        command.env("HOME", &folder).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("run {}", program.display()))?;
        let statements = child.stdin.take().context("a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Self { child, statements, answers })
    }

    /// Runs a statement; answers with how many rows it has.
    fn run(&mut self, statement: &str) -> Result<usize> {
        writeln!(self.statements, "{statement};")?;
        self.statements.flush()?;
        let mut rows = 0;
        for line in self.answers.by_ref() {
            match line?.as_str() {
                "ok" => return Ok(rows),
                line if line.starts_with("| ") => rows += 1,
                line => bail!("{statement}: {line}"),
            }
        }
        bail!("{statement}: the session ended; its log went with the case")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
