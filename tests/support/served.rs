//! A lake that a real Hive Metastore serves, and replicas of it on metastores of their own, each with its policy and folder.
//!
//! Whoever writes into the lake does so through the server, so that its event log is the real one; `metasync` reads either the
//! server or the database behind it, and writes either.

mod engines;
mod rows;

pub use engines::{Spark, exchange_partition, truncate};
pub use rows::rows;

use crate::cli::{Ran, Shell};
use crate::hms::{self, Hms, Kind, Version};
use crate::lake::NOT_CARRIED;
use crate::metastores::{adapters, contract, objects};
use crate::trees::set_mtime;
use metasync::metastore::Change;
use metasync::model::{Database, DatabaseName, Partition, Table, TableName};
use metasync::object::Object;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Guards are for other tests: lakes here are small.
const DEFAULTS: &str = "max_drops = \"100%\"\nmax_deletes = \"100%\"";

/// How a metastore is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The database behind it.
    Sql,
    /// The server.
    Thrift,
}

/// A lake below one folder: `source` holds its data, its replicas are beside it.
pub struct Served {
    /// The server that engines use.
    pub server: Hms,
    /// What is behind it.
    pub database: hms::Database,
    version: Version,
    folder: TempDir,
    shell: Shell,
}

impl Served {
    /// An empty lake; `None` if it cannot be had on this machine, and then the test has been recorded as skipped.
    pub fn start(version: Version, kind: Kind) -> Option<Self> {
        Self::start_with(version, kind, &[])
    }

    /// The same with settings of its server.
    pub fn start_with(version: Version, kind: Kind, settings: &[(&str, &str)]) -> Option<Self> {
        let database = hms::fresh_database(kind, version)?;
        let folder = tempfile::tempdir().expect("a folder");
        let warehouse = format!("file:{}/warehouse", folder.path().display());
        let warehouse = [("hive.metastore.warehouse.dir", warehouse.as_str())];
        let server = Hms::start_with(version, &database.url, &[&warehouse, settings].concat());
        std::fs::create_dir(folder.path().join("source")).expect("a folder");
        Some(Self { server, database, version, shell: Shell::new(folder.path()), folder })
    }

    /// The folder that everything is below.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path of the lake's data.
    pub fn path(&self, inner: &str) -> PathBuf {
        self.root().join("source").join(inner)
    }

    /// How to reach it.
    pub fn url(&self, way: Way) -> &str {
        match way {
            Way::Sql => &self.database.url,
            Way::Thrift => &self.server.thrift,
        }
    }

    /// The id of the newest event, as the database has it.
    pub fn current_event(&self) -> String {
        current_event(&self.database)
    }

    /// Runs a script in the database behind the server, names in backticks.
    pub fn sql(&self, script: &str) -> Vec<Vec<String>> {
        self.database.run_quoted(script)
    }

    /// Changes metadata through the server.
    pub fn apply(&self, changes: &[Change]) {
        change(&self.server.thrift, changes);
    }

    /// The database `shop`.
    pub fn shop(&self) {
        let root = format!("file:{}", self.path("").display());
        let root = root.trim_end_matches('/');
        std::fs::create_dir_all(self.path("shop.db")).expect("a folder");
        // Of a role nobody can be sure.
        let owner = Some(objects::user("etl"));
        let database = Database { owner, ..objects::database(&DatabaseName::new("shop"), root) };
        self.apply(&[Change::PutDatabase(database)]);
    }

    /// An external table `shop.NAME`, as a value.
    pub fn unmade_table(&self, name: &str, keys: &[&str]) -> Table {
        let root = format!("file:{}", self.path("").display());
        objects::table(TableName::new("shop", name), root.trim_end_matches('/'), keys)
    }

    /// The same with a file in it, in the metastore.
    pub fn table(&self, name: &str) -> Table {
        let table = self.unmade_table(name, &[]);
        self.write(&format!("shop.db/{name}/part-0"), name);
        self.apply(&[Change::PutTable(Box::new(table.clone()))]);
        table
    }

    /// The same with a partition `p=VALUE` for each of these values, each with a file.
    pub fn partitioned(&self, name: &str, values: &[&str]) -> Table {
        let table = self.unmade_table(name, &["p"]);
        let partitions: Vec<Partition> = values.iter().map(|value| objects::partition(&table, &[value])).collect();
        values.iter().for_each(|value| self.write(&format!("shop.db/{name}/p={value}/part-0"), value));
        self.apply(&[
            Change::PutTable(Box::new(table.clone())),
            Change::PutPartitions { table: table.name.clone(), partitions },
        ]);
        table
    }

    /// Writes a file of the lake that is not so young that nobody may trust its time.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        set_mtime(&path, SystemTime::now() - Duration::from_secs(10));
    }

    /// `shop` with objects that use every part of the model, as far as the lake's version holds them, and files in all their
    /// folders.
    pub fn everything(&self) {
        let root = format!("file:{}", self.path("").display());
        let objects = objects::everything("shop", root.trim_end_matches('/'));
        for object in &objects {
            let place = match object {
                Object::Table(table) if table.partition_keys.is_empty() => table.storage.location.as_ref(),
                Object::Partition { partition, .. } => partition.storage.location.as_ref(),
                _ => None,
            };
            let inner = place.and_then(|place| place.strip_prefix(&root));
            inner.into_iter().for_each(|inner| self.write(&format!("{inner}/part-0"), inner));
        }
        ["jars/shout.jar", "jars/words.txt"].iter().for_each(|file| self.write(file, file));
        block_on(async { contract::put(adapters::open_url(&self.server.thrift).await.as_ref(), &objects).await })
            .expect("everything");
    }

    /// A replica in a new database of the lake's own version, reached like this at both ends.
    pub fn replica(&self, name: &str, from: Way, to: Way) -> Replica<'_> {
        self.replica_on(name, from, to, self.version, Kind::Postgres)
    }

    /// The same on another metastore.
    ///
    /// # Panics
    /// If it cannot be had: the lake itself could.
    pub fn replica_on(&self, name: &str, from: Way, to: Way, version: Version, kind: Kind) -> Replica<'_> {
        let database = hms::fresh_database(kind, version).expect("as the lake itself");
        let server = (to == Way::Thrift).then(|| Hms::start(version, &database.url));
        let url = server.as_ref().map_or(&database.url, |server| &server.thrift).clone();
        self.replica_in(name, from, url, Some(Home { database, server, version }))
    }

    /// The same on the metastore at this URL.
    pub fn replica_at(&self, name: &str, from: Way, url: String) -> Replica<'_> {
        self.replica_in(name, from, url, None)
    }

    fn replica_in(&self, name: &str, from: Way, url: String, home: Option<Home>) -> Replica<'_> {
        let source = ("source".to_owned(), self.url(from).to_owned());
        let replica = Replica { lake: self, name: name.to_owned(), source, url, home };
        replica.policy("", DEFAULTS);
        replica
    }
}

struct Home {
    database: hms::Database,
    server: Option<Hms>,
    version: Version,
}

/// A replica of a lake.
pub struct Replica<'a> {
    lake: &'a Served,
    name: String,
    /// What it follows: the folder of data below the root, the metastore.
    source: (String, String),
    /// Of its metastore, as the policy has it.
    pub url: String,
    home: Option<Home>,
}

impl<'a> Replica<'a> {
    /// A replica of this replica, in SQLite.
    ///
    /// # Panics
    /// If this one has no server.
    pub fn onward(&self, name: &str, from: Way) -> Replica<'a> {
        let home = self.home.as_ref().expect("a database");
        let from = match from {
            Way::Sql => &home.database.url,
            Way::Thrift => &home.server.as_ref().expect("a server").thrift,
        };
        let url = format!("sqlite://{}/{name}.db", self.lake.root().display());
        let source = (self.name.clone(), from.clone());
        let replica = Replica { lake: self.lake, name: name.to_owned(), source, url, home: None };
        replica.policy("", DEFAULTS);
        replica
    }

    /// A metastore that is made from this replica.
    ///
    /// # Panics
    /// If it cannot be had.
    pub fn loaded_into(&self, name: &str, to: Way, version: Version, kind: Kind) -> Replica<'a> {
        let mut replica = self.lake.replica_on(name, Way::Sql, to, version, kind);
        replica.source = (self.name.clone(), self.url.clone());
        replica.policy("", DEFAULTS);
        replica
    }

    /// The id of the newest event of its own log.
    ///
    /// # Panics
    /// If it has no database.
    pub fn current_event(&self) -> String {
        current_event(&self.home.as_ref().expect("a database").database)
    }

    /// Runs a script in its database, names in backticks.
    ///
    /// # Panics
    /// If it has no database.
    pub fn sql(&self, script: &str) -> Vec<Vec<String>> {
        self.home.as_ref().expect("a database").database.run_quoted(script)
    }

    /// One of its tables, with everything that a dump leaves out.
    ///
    /// # Panics
    /// If it is not there.
    pub fn table(&self, name: &str) -> Table {
        block_on(async {
            let snapshot = adapters::open_url(&self.url).await.snapshot().await.expect("a snapshot");
            let tables = snapshot.tables(&DatabaseName::new("shop"), &[name.to_owned()]).await.expect("tables");
            tables.found.into_iter().next().expect("the table")
        })
    }

    /// Writes its policy over `shop`, with more top-level lines and options.
    pub fn policy(&self, top: &str, options: &str) {
        let (root, name) = (self.lake.root().display(), &self.name);
        let text = format!(
            "name = \"{name}\"\nstate = \"{root}/state-{name}\"\ndatabases = [\"shop\"]\n{top}\
             source.metastore = \"{}\"\ntarget.metastore = \"{}\"\n\
             [[locations]]\nfrom = \"file:{root}/{}\"\nto = \"file:{root}/{name}\"\n[options]\n{options}\n",
            self.source.1, self.url, self.source.0
        );
        std::fs::write(self.lake.root().join(format!("{name}.toml")), text).expect("the policy");
    }

    /// Runs `metasync VERB NAME.toml --json` with more arguments.
    pub fn metasync(&self, verb: &str, more: &[&str]) -> Ran {
        let policy = format!("{}.toml", self.name);
        self.lake.shell.metasync(&[&[verb, &policy, "--json"], more].concat())
    }

    /// The command of that.
    pub fn metasync_command(&self, verb: &str, more: &[&str]) -> Command {
        let policy = format!("{}.toml", self.name);
        self.lake.shell.metasync_command(&[&[verb, &policy], more].concat())
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its state.
    pub fn state(&self) -> PathBuf {
        self.lake.root().join(format!("state-{0}/{0}", self.name))
    }

    /// The URL of the metastore that it follows, and its own.
    pub fn urls(&self) -> (String, String) {
        (self.source.1.clone(), self.url.clone())
    }

    /// The lines of [`Self::dump`] of what it follows, and its own.
    pub fn dumps(&self) -> (Vec<String>, Vec<String>) {
        (self.dump(&self.source.1), self.dump(&self.url))
    }

    /// A path of the replica's data.
    pub fn path(&self, inner: &str) -> PathBuf {
        self.lake.root().join(&self.name).join(inner)
    }

    /// A server on the replica's database: its own, or one that is started.
    ///
    /// # Panics
    /// If it has no database.
    pub fn serve(&mut self) -> String {
        let home = self.home.as_mut().expect("a database");
        let Home { database, server, version } = home;
        server.get_or_insert_with(|| Hms::start(*version, &database.url)).thrift.clone()
    }

    /// The replica's database `shop`, with everything that a dump leaves out.
    pub fn shop(&self) -> Database {
        block_on(async {
            let snapshot = adapters::open_url(&self.url).await.snapshot().await.expect("a snapshot");
            let databases = snapshot.databases().await.expect("databases");
            databases.into_iter().find(|database| database.name.database == "shop").expect("shop")
        })
    }

    /// `repl.last.id` of that database.
    pub fn last_id(&self) -> Option<String> {
        self.shop().parameters.get("repl.last.id").cloned()
    }

    /// The lines of a dump of `shop` at this URL, the replica's places as the lake's.
    pub fn dump(&self, url: &str) -> Vec<String> {
        let ran = self.lake.shell.metasync(&["metastore", "dump", url]).expect(0);
        let root = self.lake.root().display();
        let (from, to) = (format!("{root}/{}", self.name), format!("{root}/{}", self.source.0));
        let shop = ran.stdout.lines().filter(|line| line.contains("\"database\":\"shop\""));
        let shop = shop.filter(|line| !line.contains("\"type\":\"grant\""));
        // On a replica nothing is found by itself (rule 31).
        let stilled =
            |line: String| line.replace("\"discover.partitions\":\"true\"", "\"discover.partitions\":\"false\"");
        shop.map(|line| stilled(line.replace(&from, &to))).collect()
    }

    /// Asserts that metadata and files are the lake's, by a comparison of our own and by `verify`.
    pub fn assert_in_step(&self) {
        let (lake, replica) = self.dumps();
        assert_same(&lake, &replica, &self.name);
        assert!(!lake.is_empty(), "nothing is compared");
        assert_eq!(files(&self.lake.root().join(&self.source.0)), files(&self.path("")), "{}", self.name);
        self.metasync("verify", &[]).expect(0);
    }

    /// Runs; asserts that it ends well and in step; then that one more run touches nothing.
    pub fn follow(&self) -> Ran {
        let ran = self.metasync("run", &[]).expect(0);
        self.assert_in_step();
        let idle = self.metasync("run", &[]).expect(0);
        assert_eq!((idle.number("tables/touched"), idle.number("bytes/written")), (0, 0), "{}: {idle:?}", self.name);
        ran
    }
}

fn current_event(database: &hms::Database) -> String {
    database.run_quoted("select `NEXT_EVENT_ID` - 1 from `NOTIFICATION_SEQUENCE`")[0][0].clone()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Shows what only one of them has.
fn assert_same(lake: &[String], replica: &[String], name: &str) {
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
    };
    let (missing, more) = (only(lake, replica), only(replica, lake));
    assert!(lake == replica, "{name} lacks:\n  {missing}\nand holds instead:\n  {more}");
}

/// What these replicas hold of `shop`, said as the other would hold it and at the other's places: the second of two lists
/// that are the same when a replica on another version holds all that it can.
///
/// # Panics
/// If either cannot be read.
pub fn assert_held(replica: &Replica<'_>) {
    let root = replica.lake.root().display();
    let (from, to) = (format!("{root}/{}", replica.source.0), format!("{root}/{}", replica.name));
    let (shall, is) = block_on(async {
        let read = async |url: &str| {
            let metastore = adapters::open_url(url).await;
            let snapshot = metastore.snapshot().await.expect("a snapshot");
            (contract::read_back(snapshot.as_ref(), "shop").await.expect("objects"), metastore)
        };
        let ((source, _), (is, target)) = (read(&replica.source.1).await, read(&replica.url).await);
        (contract::as_held(&source, target.as_ref()), is)
    });
    let ours = |objects: &[Object]| {
        let carried = |object: &&Object| !matches!(object, Object::Role(_) | Object::RoleGrant(_) | Object::Grant(_));
        contract::lines(&objects.iter().filter(carried).cloned().collect::<Vec<_>>())
    };
    let mut shall: Vec<String> = ours(&shall).iter().map(|line| line.replace(&from, &to)).collect();
    shall.sort();
    assert_same(&shall, &ours(&is), &replica.name);
}

/// Puts a sketch of distinct values into the statistics of `shop.orders`, as an engine does that computes them.
pub fn sketch(url: &str) {
    block_on(async {
        let metastore = adapters::open_url(url).await;
        let snapshot = metastore.snapshot().await.expect("a snapshot");
        let found = snapshot.table_statistics(&DatabaseName::new("shop"), &["orders".to_owned()]).await;
        let mut statistics: Vec<_> = found.expect("statistics").into_iter().map(|(_, of_column)| of_column).collect();
        drop(snapshot);
        for of_column in &mut statistics {
            *of_column.data.sketches().0 = Some(b"HLL of sorts".to_vec());
        }
        assert!(!statistics.is_empty(), "no statistics");
        let change = Change::PutTableStatistics { table: TableName::new("shop", "orders"), statistics };
        metastore.apply(&[change]).await.expect("statistics");
    });
}

/// Changes the metastore at a URL.
pub fn change(url: &str, changes: &[Change]) {
    block_on(async { adapters::open_url(url).await.apply(changes).await }).expect("the changes");
}

/// Files below a folder: path -> digest.
pub fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(NOT_CARRIED) {
                let key = path.strip_prefix(root).expect("below it").to_string_lossy().into_owned();
                let content = std::fs::read(&path).expect("a file");
                found.insert(key, blake3::hash(&content).to_hex().to_string());
            }
        }
    }
    found
}
