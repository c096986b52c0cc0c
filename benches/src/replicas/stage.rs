//! What a case stands on: a folder, databases with Hive's schema, Hive Metastores over them. Each ends with its value.

use super::sql;
use anyhow::{Context as _, Result, bail};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The start of every name in a server that is not ours.
const PREFIX: &str = "understudy_bench_";
/// The database with Hive's schema that new ones are copies of.
const TEMPLATE: &str = "hive_3_1";
/// How long a metastore may take until it listens, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Where a case works.
pub struct Stage {
    folder: tempfile::TempDir,
    /// `postgres://postgres@127.0.0.1:PORT`
    postgres: String,
    port: u16,
    hms: PathBuf,
}

/// A MariaDB server that is not ours.
#[derive(Clone)]
pub struct MariaDb {
    /// `mysql://USER:PASSWORD@127.0.0.1:PORT`
    pub url: String,
    /// The client that came with it.
    pub client: PathBuf,
    /// Scripts of Hive's schema, one a kind of database.
    pub schema: PathBuf,
}

/// Who holds a database.
enum Server {
    Postgres { port: u16 },
    MariaDb { client: PathBuf, port: u16 },
}

/// A database of the case's own.
pub struct Database {
    /// With its name.
    pub url: String,
    name: String,
    server: Server,
}

/// A Hive Metastore of the case's own.
pub struct Hms {
    /// `thrift://127.0.0.1:PORT`
    pub thrift: String,
    child: Child,
}

impl Stage {
    /// A new folder; nothing runs yet.
    pub fn new(postgres: &str, hms: &Path) -> Result<Self> {
        let port = port_of(postgres)?;
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        Ok(Self { folder, postgres: postgres.to_owned(), port, hms: hms.to_owned() })
    }

    /// Where files of the case are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Below which the source's tables are.
    pub fn root(&self) -> String {
        format!("file:{}/source", self.folder().display())
    }

    /// A database with Hive's schema and nothing else in it.
    pub fn database(&self, what: &str) -> Result<Database> {
        let name = format!("{PREFIX}{what}");
        let run = |script: String| sql::postgres(self.port, "postgres", &script).context(script);
        run(format!("drop database if exists {name} with (force)"))?;
        run(format!("create database {name} template {TEMPLATE}"))?;
        Ok(self.made(name))
    }

    fn made(&self, name: String) -> Database {
        Database { url: format!("{}/{name}", self.postgres), name, server: Server::Postgres { port: self.port } }
    }

    /// The same in MariaDB.
    pub fn mariadb_database(&self, what: &str, mariadb: &MariaDb) -> Result<Database> {
        let MariaDb { url, client, schema } = mariadb;
        let (name, port) = (format!("{PREFIX}{what}"), port_of(url)?);
        let script = format!("drop database if exists {name}; create database {name} character set latin1");
        sql::mariadb(client, port, None, &script).context(script)?;
        let server = Server::MariaDb { client: client.clone(), port };
        let made = Database { url: format!("{url}/{name}"), name, server };
        let script = std::fs::read_to_string(schema.join("mysql.sql")).context("the schema for MariaDB")?;
        sql::mariadb(client, port, Some(&made.name), &script).context("Hive's schema in MariaDB")?;
        Ok(made)
    }

    /// A database with this schema.
    pub fn empty_database(&self, what: &str, schema: &str) -> Result<Database> {
        let name = format!("{PREFIX}{what}");
        let run = |script: String| sql::postgres(self.port, "postgres", &script).context(script);
        run(format!("drop database if exists {name} with (force)"))?;
        run(format!("create database {name}"))?;
        let made = self.made(name);
        sql::postgres(self.port, &made.name, schema).context("the schema")?;
        Ok(made)
    }

    /// A metastore over a database.
    pub fn serve(&self, over: &Database) -> Result<Hms> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = self.folder().join("hms");
        std::fs::create_dir_all(&folder)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = Command::new(&self.hms);
        command.arg("serve").arg(port.to_string()).arg(&folder).arg(&over.url);
        command.arg(format!("hive.metastore.warehouse.dir=file:{}/warehouse", folder.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("run {}", self.hms.display()))?;
        let mut server = Hms { thrift: format!("thrift://127.0.0.1:{port}"), child };
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(status) = server.child.try_wait()? {
                let log = std::fs::read(folder.join("log")).unwrap_or_default();
                bail!("the metastore ended, {status}: {}", String::from_utf8_lossy(&log));
            }
            if TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), POLL).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(POLL);
        }
        bail!("the metastore did not listen within {} s", START_LIMIT.as_secs())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let script = format!("drop database if exists {}", self.name);
        let dropped = match &self.server {
            Server::Postgres { port } => {
                sql::postgres(*port, "postgres", &format!("{script} with (force)")).map(|_| ())
            }
            Server::MariaDb { client, port } => sql::mariadb(client, *port, None, &script).map(|_| ()),
        };
        if let Err(error) = dropped {
            eprintln!("{script}: {error}");
        }
    }
}

/// The last part of a server's URL without a database.
fn port_of(url: &str) -> Result<u16> {
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("{url} ends with no port"))
}

impl Drop for Hms {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
