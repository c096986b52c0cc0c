//! Hive 4.2 with its own metastore over a database in PostgreSQL: sessions that run SQL, and databases with its schema.
//!
//! A session is one process, which takes many seconds to start and up to 1 GB of memory: it ends with the value that stands for
//! it.

use crate::hms::{self, Kind};
use crate::services::{skipped, variable};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tempfile::TempDir;

/// The service, and the variable that holds its program.
const SERVICE: (&str, &str) = ("hive-4.2", "UNDERSTUDY_TEST_HIVE_42");
/// How long a statement, the first one with the start of the session, may take on a machine that is busy.
const STATEMENT_LIMIT: Duration = Duration::from_secs(300);
/// Lines of answers that wait for the test.
const LINES_IN_FLIGHT: usize = 1000;

fn program() -> PathBuf {
    PathBuf::from(variable(SERVICE.0, SERVICE.1))
}

/// A file of the installed service.
fn installed(inner: &str) -> PathBuf {
    program().parent().and_then(Path::parent).expect("it is in a folder").join(SERVICE.0).join(inner)
}

/// A new database in PostgreSQL with Hive 4.2's schema; `None` if it cannot be had on this machine, and then the test has been
/// recorded as skipped.
///
/// # Panics
/// If it cannot be made.
pub fn fresh_database() -> Option<hms::Database> {
    if skipped(SERVICE.0) {
        return None;
    }
    let database = hms::empty_database(Kind::Postgres)?;
    database.run(&std::fs::read_to_string(installed("schema/postgres.sql")).expect("the schema"));
    Some(database)
}

/// A jar with the class `Shout`, a function from text to louder text that no session knows by itself.
pub fn function_jar() -> PathBuf {
    installed("udf/shout.jar")
}

/// A session; its process ends with this.
#[derive(Debug)]
pub struct Hive {
    child: Child,
    statements: ChildStdin,
    answers: Receiver<String>,
    folder: TempDir,
}

impl Hive {
    /// A session over a database with Hive 4.2's schema; it starts while the test goes on.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn start(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new(program());
        command.arg("session").arg(folder.path()).arg(url);
        // It leaves a history of statements at home.
        command.env("HOME", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let statements = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, answers) = sync_channel(LINES_IN_FLIGHT);
        // It ends with the process, or when nobody listens any more.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, statements, answers, folder }
    }

    /// Runs statements, `;` at the end of each; answers with the rows of all, each after its values between tabs.
    ///
    /// # Panics
    /// If one fails; the message ends with the session's log.
    pub fn run(&mut self, statements: &str) -> Vec<String> {
        let each = statements.split(";\n").map(|one| one.trim().trim_end_matches(';')).filter(|one| !one.is_empty());
        let mut rows = Vec::new();
        for statement in each {
            match self.answer(statement) {
                Ok(some) => rows.extend(some),
                Err(error) => panic!("{statement}: {error}\n{}", self.log()),
            }
        }
        rows
    }

    /// Runs a statement that fails; answers with what it says.
    ///
    /// # Panics
    /// If it does not fail.
    pub fn refused(&mut self, statement: &str) -> String {
        match self.answer(statement) {
            Ok(rows) => panic!("{statement} was not refused: {rows:?}"),
            Err(error) => error,
        }
    }

    fn answer(&mut self, statement: &str) -> Result<Vec<String>, String> {
        let sent = writeln!(self.statements, "{statement};").and_then(|()| self.statements.flush());
        sent.unwrap_or_else(|error| panic!("{statement}: {error}\n{}", self.log()));
        let mut rows = Vec::new();
        loop {
            let line = self.answers.recv_timeout(STATEMENT_LIMIT);
            let line = line.unwrap_or_else(|error| panic!("{statement}: {error}\n{}", self.log()));
            match (line.strip_prefix("| "), line.strip_prefix("error ")) {
                (Some(row), _) => rows.push(row.to_owned()),
                (None, Some(error)) => return Err(error.to_owned()),
                (None, None) if line == "ok" => return Ok(rows),
                (None, None) => panic!("{statement}: no answer is `{line}`\n{}", self.log()),
            }
        }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
