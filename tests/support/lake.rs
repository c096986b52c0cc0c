//! A small lake: a metastore in SQLite and tables in a folder, a replica of the same kind, and the policy between them; or the
//! same between real metastores.
//!
//! Tables are made and changed as an engine would: files first, then the metastore.

mod pair;

use crate::cli::{Ran, Shell};
use crate::metastores::{adapters, objects};
use crate::running::Running;
use crate::trees::set_mtime;
use distcp::assemble::Speed;
use distcp::job::Stop;
use distcp::settings::open::Opener;
use distcp::settings::{Environment, Settings};
use distcp::store::retry::RetryPolicy;
use metasync::metastore::{Change, Error, EventRow, Metastore, open};
use metasync::model::{Database, DatabaseName, Partition, Table, TableName};
use metasync::object::Object;
use metasync::policy::Policy;
use metasync::sync::Setting;
use metasync::volatile::strip;
use metasync::walk::{Step, walk};
use pair::Side;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// A lake and its replica below one folder.
pub struct Lake {
    folder: TempDir,
    runtime: Runtime,
    /// The source's, as those have it who change it.
    writer: Box<dyn Metastore>,
    source: Side,
    target: Side,
    /// The shell in which `metasync` runs.
    pub shell: Shell,
}

impl Lake {
    /// An empty source metastore; the target does not exist yet.
    pub fn new() -> Self {
        Self::made(&std::env::temp_dir(), false)
    }

    /// The same, whose changes stand in the metastore's event log, as they would behind a server.
    pub fn logged() -> Self {
        Self::made(&std::env::temp_dir(), true)
    }

    /// As [`Lake::logged`], with the tables `sales.a` and `sales.b`, a file each.
    pub fn of_two_tables() -> Self {
        let lake = Self::logged();
        lake.database("sales");
        for name in ["a", "b"] {
            lake.table(name, &[]);
            lake.write(&format!("sales.db/{name}/part-0"), name);
        }
        lake
    }

    /// As [`Lake::new`], in memory, where the system keeps files there: for thousands of changes and runs, each of which waits for the
    /// disk otherwise.
    pub fn in_memory() -> Self {
        match Path::new(MEMORY) {
            memory if memory.is_dir() => Self::made(memory, false),
            _ => Self::new(),
        }
    }

    fn made(place: &Path, logged: bool) -> Self {
        let folder = tempfile::tempdir_in(place).unwrap();
        let [source, target] = ["source.db", "target.db"].map(|name| Side::File(folder.path().join(name)));
        Self::stand(folder, source, target, logged)
    }

    fn stand(folder: TempDir, source: Side, target: Side, logged: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = source.url_of_writers();
        let writer = runtime.block_on(async {
            if source.database().is_ok() {
                open::init(&url).await.unwrap();
            }
            open::open_target(&url, &Environment::default(), logged).await.unwrap()
        });
        let lake = Self { shell: Shell::new(folder.path()), runtime, writer, source, target, folder };
        lake.policy("");
        lake
    }

    fn side(&self, side: &str) -> &Side {
        match side {
            "source" => &self.source,
            "target" => &self.target,
            other => panic!("{other} is neither source nor target"),
        }
    }

    /// The folder that everything is below.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path of the source's data.
    pub fn source(&self, path: &str) -> PathBuf {
        self.root().join("source").join(path)
    }

    /// A path of the replica's data.
    pub fn target(&self, path: &str) -> PathBuf {
        self.root().join("target").join(path)
    }

    /// Writes the policy `p.toml` over `sales` and everything below `source`, with more lines in front of its tables.
    pub fn policy(&self, more: &str) {
        self.policy_of("databases = [\"sales\"]\n", more);
    }

    /// The same with other top-level lines.
    pub fn policy_of(&self, top: &str, options: &str) {
        let (root, source, target) = (self.root().display(), self.source.url(), self.target.url());
        let text = format!(
            "name = \"sales\"\nstate = \"{root}/state\"\n{top}\
             source.metastore = \"{source}\"\ntarget.metastore = \"{target}\"\n\
             [[locations]]\nfrom = \"file:{root}/source\"\nto = \"file:{root}/target\"\n[options]\n{options}\n"
        );
        std::fs::write(self.root().join("p.toml"), text).unwrap();
    }

    /// Runs `metasync VERB p.toml --json` with more arguments.
    pub fn metasync(&self, verb: &str, more: &[&str]) -> Ran {
        self.shell.metasync(&[&[verb, "p.toml", "--json"], more].concat())
    }

    /// What the verbs of `metasync` are given, for calling them without a process; nothing is printed.
    pub fn setting(&self) -> Setting {
        let text = std::fs::read_to_string(self.root().join("p.toml")).unwrap();
        let environment = Environment::default();
        let (settings, retry) = (Settings::default(), RetryPolicy::default());
        Setting {
            policy: Arc::new(Policy::parse(&text, "p.toml").unwrap()),
            environment: environment.clone(),
            opener: Opener { settings, environment, retry },
            state_place: self.root().join("state").into(),
            cwd: self.root().to_owned(),
            spool: self.root().to_owned(),
            user: "tester".to_owned(),
            leased: true,
            keep_runs: 5,
            speed: Speed { bandwidth: Arc::default(), requests_per_second: None },
            stop: Stop::default(),
            begun: Instant::now(),
            listener: Arc::new(|_| ()),
            progress: Arc::default(),
        }
    }

    /// Starts a run that is slowed down to `SLOW`, waits until a file is on its way into this folder of the target, and stops
    /// it there.
    ///
    /// # Panics
    /// If it ends before.
    pub fn copying(&self, folder: &str) -> Running {
        let count = || std::fs::read_dir(self.target(folder)).map_or(0, Iterator::count);
        let before = count();
        self.policy(SLOW);
        let mut running = self.start();
        running.until("the copy", || count() > before);
        running.hold();
        running
    }

    /// Starts `metasync run p.toml --json`, and comes back while it goes on.
    pub fn start(&self) -> Running {
        self.start_verb("run")
    }

    /// The same with another verb.
    pub fn start_verb(&self, verb: &str) -> Running {
        Running::start(self.shell.metasync_command(&[verb, "p.toml", "--json"]))
    }

    /// `metasync status p.toml --json`, the one object that it prints.
    pub fn status(&self) -> Value {
        let ran = self.metasync("status", &[]).expect(0);
        serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap()
    }

    /// Runs a script in the database of the "source" or the "target", behind the back of everybody; answers with the values of
    /// the rows, as text. What it breaks stays broken. For a case over several pairs: names in backticks.
    pub fn sql(&self, side: &str, script: &str) -> Vec<Vec<String>> {
        let path = match self.side(side).database() {
            Ok(path) => path,
            Err(database) => return database.run_quoted(script),
        };
        let options = SqliteConnectOptions::new().filename(path).foreign_keys(false);
        self.runtime.block_on(async {
            let mut connection = options.connect().await.unwrap();
            let rows = sqlx::raw_sql(AssertSqlSafe(script.to_owned())).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            let text =
                |row: &SqliteRow, at| row.try_get_unchecked::<Option<String>, _>(at).unwrap().unwrap_or_default();
            rows.iter().map(|row| (0..row.len()).map(|at| text(row, at)).collect()).collect()
        })
    }

    /// Changes the source's metastore.
    pub fn apply(&self, changes: &[Change]) {
        self.runtime.block_on(self.writer.apply(changes)).unwrap();
    }

    /// Appends a row to the event log of a source in SQLite, as it is.
    pub fn log(&self, row: &EventRow) {
        let options = SqliteConnectOptions::new().filename(self.root().join("source.db"));
        let write = async {
            let mut both = SqliteConnection::connect_with(&options).await?;
            let mut both = both.begin().await?;
            sqlx::query(
                "INSERT INTO \"NOTIFICATION_LOG\" (\"NL_ID\", \"EVENT_ID\", \"EVENT_TIME\", \"EVENT_TYPE\", \"CAT_NAME\", \
                 \"DB_NAME\", \"TBL_NAME\", \"MESSAGE\", \"MESSAGE_FORMAT\") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(row.event_id)
            .bind(row.event_id)
            .bind(row.event_time)
            .bind(&row.event_type)
            .bind(&row.catalog)
            .bind(&row.database)
            .bind(&row.table)
            .bind(&row.message)
            .bind(&row.message_format)
            .execute(&mut *both)
            .await?;
            sqlx::query("UPDATE \"NOTIFICATION_SEQUENCE\" SET \"NEXT_EVENT_ID\" = ?")
                .bind(row.event_id + 1)
                .execute(&mut *both)
                .await?;
            both.commit().await
        };
        self.runtime.block_on(write).unwrap();
    }

    /// Appends an event about a table of `sales` behind all others of a log that a run has read. Its id.
    pub fn event(&self, event_type: &str, table: &str, message: &str, format: &str) -> i64 {
        let event_id = self.status()["newest_event"].as_i64().unwrap() + 1;
        self.log(&EventRow {
            event_id,
            event_time: 1_795_253_023,
            event_type: event_type.to_owned(),
            catalog: Some("hive".to_owned()),
            database: Some("sales".to_owned()),
            table: Some(table.to_owned()),
            message: message.to_owned(),
            message_format: Some(format.to_owned()),
        });
        event_id
    }

    /// Changes the replica's metastore, as somebody else.
    pub fn apply_to_target(&self, changes: &[Change]) {
        let url = self.target.url_of_writers();
        self.runtime.block_on(async { adapters::open_url(&url).await.apply(changes).await }).unwrap();
    }

    /// A database whose folder is `NAME.db`.
    pub fn database(&self, name: &str) -> Database {
        let url = format!("file:{}", self.root().join("source").display());
        let database = objects::database(&DatabaseName::new(name), &url);
        std::fs::create_dir_all(self.source(&format!("{name}.db"))).unwrap();
        self.apply(&[Change::PutDatabase(database.clone())]);
        database
    }

    /// An external table `sales.NAME` with these partition keys, in the metastore.
    pub fn table(&self, name: &str, keys: &[&str]) -> Table {
        let table = self.unmade_table(name, keys);
        std::fs::create_dir_all(self.source(&format!("sales.db/{name}"))).unwrap();
        self.apply(&[Change::PutTable(Box::new(table.clone()))]);
        table
    }

    /// A managed table `sales.NAME`, which takes its files with it, in the metastore.
    pub fn managed(&self, name: &str, keys: &[&str]) -> Table {
        let mut table = self.unmade_table(name, keys);
        table.table_type = Some("MANAGED_TABLE".to_owned());
        table.parameters.remove("EXTERNAL");
        std::fs::create_dir_all(self.source(&format!("sales.db/{name}"))).unwrap();
        self.apply(&[Change::PutTable(Box::new(table.clone()))]);
        table
    }

    /// An external table, only as a value.
    pub fn unmade_table(&self, name: &str, keys: &[&str]) -> Table {
        let url = format!("file:{}", self.root().join("source").display());
        objects::table(TableName::new("sales", name), &url, keys)
    }

    /// A partition with one file, in the metastore.
    pub fn partition(&self, table: &Table, values: &[&str], content: &str) -> Partition {
        let partition = objects::partition(table, values);
        let folder = partition.storage.location.clone().unwrap();
        let folder = PathBuf::from(folder.trim_start_matches("file:"));
        std::fs::create_dir_all(&folder).unwrap();
        write_old(&folder.join("part-0"), content);
        self.apply(&[Change::PutPartitions { table: table.name.clone(), partitions: vec![partition.clone()] }]);
        partition
    }

    /// A partition whose folder is this one, below the table's, in the metastore; it may have been elsewhere.
    pub fn partition_in(&self, table: &Table, value: &str, folder: &str) {
        let mut partition = objects::partition(table, &[value]);
        let root = table.storage.location.as_deref().unwrap();
        partition.storage.location = Some(format!("{root}/{folder}"));
        self.apply(&[Change::PutPartitions { table: table.name.clone(), partitions: vec![partition] }]);
    }

    /// Writes a file of the source's data.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.source(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_old(&path, content);
    }

    /// The lines of a dump of the "source" or the "target", without what is no table's: and with the replica's places as the
    /// source's, so that both can be compared.
    pub fn dump(&self, side: &str) -> Vec<String> {
        let url = self.url(side);
        let ran = self.shell.metasync(&["metastore", "dump", &url]).expect(0);
        let (from, to) = (format!("{}/target", self.root().display()), format!("{}/source", self.root().display()));
        let dropped = ["\"type\":\"grant\"", "\"type\":\"role\"", "\"type\":\"catalog\"", "\"type\":\"role_grant\""];
        ran.stdout
            .lines()
            .filter(|line| {
                !dropped.iter().any(|kind| line.contains(kind)) && !line.contains("\"database\":\"default\"")
            })
            .map(|line| line.replace(&from, &to))
            .collect()
    }

    /// What is in the "source" or the "target", but for what is not compared (rule 30), in the order of a dump.
    pub fn objects(&self, side: &str) -> Vec<Object> {
        let url = self.url(side);
        let mut found = Vec::new();
        let read = async {
            let snapshot = adapters::open_url(&url).await.snapshot().await?;
            walk(snapshot.as_ref(), &mut |step: Step| {
                let mut object = step.unwrap_or_else(|damaged| panic!("{damaged:?}"));
                strip(&mut object);
                found.push(object);
                Ok::<_, Error>(())
            })
            .await
        };
        self.runtime.block_on(read).unwrap();
        found
    }

    /// Files below a folder: path -> content.
    pub fn files(&self, root: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        collect(root, root, &mut found);
        found
    }

    /// Asserts that both metastores and both trees hold the same, and that `verify` says so.
    pub fn assert_in_step(&self) {
        match self.is_served() {
            true => self.assert_same_objects(),
            false => assert_eq!(self.dump("source"), self.dump("target")),
        }
        assert_eq!(self.files(&self.source("")), self.files(&self.target("")));
        self.metasync("verify", &[]).expect(0);
    }
}

impl Default for Lake {
    fn default() -> Self {
        Self::new()
    }
}

/// The URL of a metastore in a file.
fn sqlite(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// A file that is not so young that nobody may trust its time.
fn write_old(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    set_mtime(path, SystemTime::now() - Duration::from_secs(10));
}

/// The bandwidth of a run that a test stops in the middle.
const SLOW: &str = "bwlimit = \"400K\"";
/// Bytes of a file that is a second and more on its way then.
pub const LARGE: usize = 900_000;

/// The hint of Delta's logs, which is not carried: no comparison of files looks at it.
pub const NOT_CARRIED: &str = "_last_checkpoint";

fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if !path.ends_with(NOT_CARRIED) {
            let key = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.insert(key, String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned());
        }
    }
}
