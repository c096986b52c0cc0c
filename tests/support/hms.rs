//! Real Hive Metastores and their databases, as the tests use them: the shared ones that `cargo xtask services` runs, more of
//! them over any database, new databases with Hive's own schema, Hive's schema tool as a judge, and Spark.
//!
//! What is started or made here ends with the value that stands for it. A metastore ends with the process of the tests, too,
//! however that ends; databases that it leaves behind are dropped by the next one that makes any.

mod lent;

pub use lent::{Lent, lend, own};

use crate::services::{skipped, variable};
use crate::sql;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How long a metastore may take until it listens, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Another program can take the free port before the metastore does.
const START_TRIES: usize = 3;
/// How long the schema tool may take; 3 to 5 seconds when the machine is free.
const SCHEMATOOL_LIMIT: Duration = Duration::from_secs(180);
/// How long a Spark script may take; 12 seconds when the machine is free.
const SPARK_LIMIT: Duration = Duration::from_secs(600);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Which Hive Metastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2.3.10, schema 2.3.0
    V23,
    /// 3.1.3, schema 3.1.0
    V31,
    /// 4.0.1, schema 4.0.0
    V40,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V23, Self::V31, Self::V40];

    /// The service's name, the start of its variables, the template in PostgreSQL.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::V23 => ("hms-2.3", "UNDERSTUDY_TEST_HMS_23", "hive_2_3"),
            Self::V31 => ("hms-3.1", "UNDERSTUDY_TEST_HMS_31", "hive_3_1"),
            Self::V40 => ("hms-4.0", "UNDERSTUDY_TEST_HMS_40", "hive_4_0"),
        }
    }

    fn program(self) -> PathBuf {
        let (service, prefix, _) = self.names();
        PathBuf::from(variable(service, prefix))
    }

    /// Whether this machine cannot have it; then the test has been recorded as skipped.
    fn skipped(self) -> bool {
        // They stand on both databases, and fail with them.
        skipped(self.names().0)
    }
}

/// Where a metastore keeps what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// PostgreSQL 16
    Postgres,
    /// MariaDB 11.4
    MariaDb,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::MariaDb];

    /// The server's URL, without a database: `postgres://postgres@127.0.0.1:PORT`, `mysql://hive:hive@127.0.0.1:PORT`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn server_url(self) -> String {
        match self {
            Self::Postgres => variable("postgres", "UNDERSTUDY_TEST_POSTGRES_URL"),
            Self::MariaDb => variable("mariadb", "UNDERSTUDY_TEST_MARIADB_URL"),
        }
    }

    /// Runs a script in a database of the server, or outside of any (PostgreSQL: in `postgres`). Answers with rows of values,
    /// as text; MariaDB's client writes NULL as `NULL`.
    ///
    /// # Panics
    /// If the server refuses it.
    pub fn run(self, database: Option<&str>, script: &str) -> Vec<Vec<String>> {
        let port = self.server_url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        match self {
            Self::Postgres => {
                let rows = sql::postgres(port, database.unwrap_or("postgres"), script);
                let rows = rows.unwrap_or_else(|error| panic!("{database:?} in PostgreSQL: {error}"));
                let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
                rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect()
            }
            Self::MariaDb => {
                let client = variable("mariadb", "UNDERSTUDY_TEST_MARIADB_CLIENT");
                let printed = sql::mariadb(Path::new(&client), port, database, script);
                let printed = printed.unwrap_or_else(|error| panic!("{database:?} in MariaDB: {error}"));
                printed.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
            }
        }
    }
}

/// A metastore that all tests share: each works in databases of its own, with names of its own.
#[derive(Clone, Debug)]
pub struct Shared {
    /// `thrift://127.0.0.1:PORT`
    pub thrift: String,
    /// The database behind it, `postgres://...` or `mysql://...`.
    pub sql: String,
}

/// The shared metastore of this version over this kind of database; `None` if it cannot be had on this machine, and then
/// the test has been recorded as skipped.
///
/// # Panics
/// If it could be had but does not run: the message says what to type.
pub fn shared(version: Version, kind: Kind) -> Option<Shared> {
    if version.skipped() {
        return None;
    }
    let (service, prefix, _) = version.names();
    let kind = match kind {
        Kind::Postgres => "POSTGRES",
        Kind::MariaDb => "MARIADB",
    };
    let value = |what: &str| variable(service, &format!("{prefix}_{kind}_{what}"));
    Some(Shared { thrift: value("THRIFT"), sql: value("SQL") })
}

/// A database of the test's own; dropped with this.
#[derive(Debug)]
pub struct Database {
    /// `postgres://postgres@127.0.0.1:PORT/NAME` or `mysql://hive:hive@127.0.0.1:PORT/NAME`
    pub url: String,
    /// Which server it is in.
    pub kind: Kind,
    name: String,
}

impl Database {
    /// Runs a script in it; see [`Kind::run`].
    ///
    /// # Panics
    /// As that.
    pub fn run(&self, script: &str) -> Vec<Vec<String>> {
        self.kind.run(Some(&self.name), script)
    }

    /// The same with names in backticks, whatever the server has around names.
    ///
    /// # Panics
    /// As that.
    pub fn run_quoted(&self, script: &str) -> Vec<Vec<String>> {
        self.run(&script.replace('`', if self.kind == Kind::Postgres { "\"" } else { "`" }))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let with = if self.kind == Kind::Postgres { " with (force)" } else { "" };
        let script = format!("drop database if exists {}{with}", self.name);
        let kind = self.kind;
        // A second panic would hide the first one.
        let _ = std::panic::catch_unwind(move || kind.run(None, &script));
    }
}

/// A new database with the official schema of a version and nothing else in it: in PostgreSQL after a tenth of a second, in
/// MariaDB after some. `None` as for [`shared`].
///
/// # Panics
/// If it cannot be made.
pub fn fresh_database(kind: Kind, version: Version) -> Option<Database> {
    if version.skipped() {
        return None;
    }
    let (service, prefix, template) = version.names();
    // It holds the template, once the version runs, and says what to type if it does not.
    let schema = PathBuf::from(variable(service, &format!("{prefix}_SCHEMA")));
    match kind {
        Kind::Postgres => Some(create(kind, &format!(" template {template}"))),
        Kind::MariaDb => {
            let script = std::fs::read_to_string(schema.join("mysql.sql")).expect("the schema as a script");
            // As Hive's documentation has it: with longer characters the indexes would be too long.
            let database = create(kind, " character set latin1");
            database.run(&script);
            Some(database)
        }
    }
}

/// A new database without anything in it; `None` as for [`shared`].
///
/// # Panics
/// If it cannot be made.
pub fn empty_database(kind: Kind) -> Option<Database> {
    let service = match kind {
        Kind::Postgres => "postgres",
        Kind::MariaDb => "mariadb",
    };
    if skipped(service) { None } else { Some(create(kind, "")) }
}

fn create(kind: Kind, options: &str) -> Database {
    static SWEPT: [Once; 2] = [const { Once::new() }; 2];
    SWEPT[kind as usize].call_once(|| sweep(kind));
    // The server outlives a test run, and process ids come again.
    let name = format!("t_{}_{:08x}", std::process::id(), rand::random::<u32>());
    kind.run(None, &format!("create database {name}{options}"));
    Database { url: format!("{}/{name}", kind.server_url()), kind, name }
}

/// Drops the databases of test processes that are no more.
fn sweep(kind: Kind) {
    let found = match kind {
        Kind::Postgres => kind.run(None, "select datname from pg_database"),
        Kind::MariaDb => kind.run(None, "show databases"),
    };
    for name in found.iter().filter_map(|row| row.first()) {
        let pid = name.strip_prefix("t_").and_then(|rest| rest.split('_').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Database { url: String::new(), kind, name: name.clone() });
        }
    }
}

/// Runs a program until it ends by itself or nobody holds the standard input of this script any more, as after the death of
/// whoever started it; answers as the program does.
const TIED: &str = r#"exec 3<&0
"$@" 3<&- </dev/null &
program=$!
{ cat <&3 >/dev/null 2>&1; kill -9 "$program"; } 2>/dev/null &
watcher=$!
exec 3<&- </dev/null
wait "$program"
status=$?
kill "$watcher"
exit "$status""#;

/// A metastore of the test's own; it ends with this, at once.
#[derive(Debug)]
pub struct Hms {
    /// `thrift://127.0.0.1:PORT`
    pub thrift: String,
    child: Child,
    /// It lives while this is open.
    tie: Option<ChildStdin>,
    folder: tempfile::TempDir,
}

impl Hms {
    /// Starts one over a database that has the schema of its version, and waits until it listens.
    ///
    /// # Panics
    /// If it does not: the message ends with its log.
    pub fn start(version: Version, sql_url: &str) -> Self {
        Self::start_with(version, sql_url, &[])
    }

    /// As [`Hms::start`], with more settings, such as
    /// `("metastore.event.message.factory", "org.apache.hadoop.hive.metastore.messaging.json.JSONMessageEncoder")`.
    ///
    /// # Panics
    /// As that.
    pub fn start_with(version: Version, sql_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut failed = String::new();
        for _ in 0..START_TRIES {
            match Self::try_start(version, sql_url, settings) {
                Ok(hms) => return hms,
                Err(why) => failed = why,
            }
        }
        panic!("a metastore {version:?} over {sql_url}: {failed}")
    }

    fn try_start(version: Version, sql_url: &str, settings: &[(&str, &str)]) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new("sh");
        command.args(["-c", TIED, "tied"]).arg(version.program());
        command.arg("serve").arg(port.to_string()).arg(folder.path()).arg(sql_url);
        command.args(settings.iter().map(|(name, value)| format!("{name}={value}")));
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("the log")).stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let tie = child.stdin.take();
        let mut hms = Self { thrift: format!("thrift://127.0.0.1:{port}"), child, tie, folder };
        let until = Instant::now() + START_LIMIT;
        while Instant::now() < until {
            if let Some(status) = hms.child.try_wait().expect("its status") {
                return Err(format!("{status}\n{}", hms.log()));
            }
            if listens(port) {
                return Ok(hms);
            }
            std::thread::sleep(POLL);
        }
        Err(format!("it did not listen within {} s\n{}", START_LIMIT.as_secs(), hms.log()))
    }

    /// What it has logged until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Hms {
    fn drop(&mut self) {
        self.tie = None;
        let _ = self.child.wait();
    }
}

/// What Hive's own schema tool says of a database, with `-validate`: `Err` if it finds anything wrong.
///
/// # Errors
/// What it printed, and what it logged: some versions name what is missing only there.
///
/// # Panics
/// If it cannot be run.
pub fn schematool_validate(version: Version, sql_url: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(version.program());
    command.arg("schematool").arg(folder.path()).arg(sql_url).arg("-validate");
    let (status, printed) = run(&mut command, folder.path(), SCHEMATOOL_LIMIT);
    // Asked of something that it does not know, some versions end with 0.
    if status.success() && printed.contains("[SUCCESS]") {
        Ok(printed)
    } else {
        Err(format!("{status}\n{printed}\n{}", logged(folder.path())))
    }
}

/// Makes of a database with an older version's schema one of this version, by Hive's own schema tool.
///
/// # Panics
/// If the tool fails.
pub fn schematool_upgrade(version: Version, sql_url: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(version.program());
    command.arg("schematool").arg(folder.path()).arg(sql_url).arg("-upgradeSchema");
    let (status, printed) = run(&mut command, folder.path(), SCHEMATOOL_LIMIT);
    assert!(status.success(), "{status}\n{printed}\n{}", logged(folder.path()));
}

/// Runs a PySpark script against a metastore 2.3 or 3.1, with `spark` as its session, and answers with what it printed. `None`
/// as for [`shared`]. New databases want a `LOCATION`: else they are below the metastore's own warehouse.
///
/// # Panics
/// If the script fails: the message ends with what was logged.
pub fn spark(script: &str, thrift_url: &str) -> Option<String> {
    spark_with(script, thrift_url, &[])
}

/// The same with more of Spark's settings, `NAME=VALUE`.
///
/// # Panics
/// As [`spark`].
pub fn spark_with(script: &str, thrift_url: &str, settings: &[&str]) -> Option<String> {
    if skipped("spark") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("script.py");
    let session =
        "from pyspark.sql import SparkSession\nspark = SparkSession.builder.enableHiveSupport().getOrCreate()\n";
    std::fs::write(&file, format!("{session}{script}\nspark.stop()\n")).expect("the script");
    let mut command = Command::new(variable("spark", "UNDERSTUDY_TEST_SPARK"));
    command.args(["--master", "local[1]", "--driver-memory", "512m"]);
    for setting in [
        &format!("spark.hadoop.hive.metastore.uris={thrift_url}"),
        &format!("spark.sql.warehouse.dir={}/warehouse", folder.path().display()),
        &format!("spark.local.dir={}", folder.path().display()),
        "spark.driver.bindAddress=127.0.0.1",
        "spark.driver.host=127.0.0.1",
        "spark.ui.enabled=false",
        // It lives for seconds: what the better compiler makes of its code comes too late, and costs as much as all the rest.
        "spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.shuffle.partitions=1",
    ]
    .iter()
    .chain(settings)
    {
        command.args(["--conf", setting]);
    }
    // Without a locale the JVM takes names of files for ASCII.
    command.env("LC_ALL", "C.UTF-8");
    command.arg(&file).current_dir(folder.path());
    let (status, printed) = run(&mut command, folder.path(), SPARK_LIMIT);
    assert!(status.success(), "{status}\n{printed}\n{}", logged(folder.path()));
    Some(printed)
}

/// Runs to the end; answers with what was printed. What was logged is in the folder.
fn run(command: &mut Command, folder: &Path, limit: Duration) -> (ExitStatus, String) {
    let (out, err) = (folder.join("stdout"), folder.join("stderr"));
    command.stdin(Stdio::null());
    command.stdout(std::fs::File::create(&out).expect("a file")).stderr(std::fs::File::create(&err).expect("a file"));
    let mut child = command.spawn().expect("the program starts");
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("its status") {
            return (status, String::from_utf8_lossy(&std::fs::read(&out).expect("its output")).into_owned());
        }
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} took longer than {} s\n{}", limit.as_secs(), logged(folder));
        }
        std::thread::sleep(POLL);
    }
}

fn logged(folder: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(folder.join("stderr")).unwrap_or_default()).into_owned()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(2)).is_ok()
}
