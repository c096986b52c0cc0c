//! Hive Metastores 2.3, 3.1 and 4.0: the real ones, each as two servers, over a database in PostgreSQL and over one in MariaDB.
//!
//! Jars and schemas come through Maven. `bin/hms-3.1` runs more of them, over any database with the schema, and Hive's schema
//! tool: that is `Hms.java` beside this file. The schemas lie in `hms-3.1/schema/{postgres,mysql}.sql`; PostgreSQL also has
//! each as a template, `CREATE DATABASE x TEMPLATE hive_3_1`.

mod jars;

use super::state::Running;
use super::{Place, Server, Service, java21, mariadb, maven, sql};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, remove_folder, write_program, write_whole};
use anyhow::{Context, Result, bail};
use maven::Jar;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long unpacking, and compiling, may take each.
const STEP_LIMIT: Duration = Duration::from_secs(180);
/// How long one look whether it answers may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// The classes of ours.
const HMS_JAVA: &str = include_str!("hms/Hms.java");
const MESSAGE_JAVA: &str = include_str!("hms/AlterPartitionsMessage.java");
const EVENT_JAVA: &str = include_str!("hms/AlterPartitionsEvent.java");

/// One version.
pub struct Hms {
    name: &'static str,
    /// As `Hms.java` knows it.
    version: &'static str,
    package: &'static str,
    variable: &'static str,
    jars: &'static [Jar],
    /// The archive that holds the schema scripts.
    scripts: &'static str,
    /// What makes an empty database one of this version, in order, without `.postgres.sql` or `.mysql.sql`.
    schema: &'static [&'static str],
    /// The version that these scripts write down.
    schema_version: &'static str,
    /// Holds the folder of the schema as scripts.
    schema_variable: &'static str,
    /// The template in PostgreSQL.
    template: &'static str,
    /// The database of the server.
    database: &'static str,
    /// The listener that works with 4.0 is compiled for it.
    java_21: bool,
    postgres: OnPostgres,
    mariadb: OnMariaDb,
}

/// A server over a database in PostgreSQL.
struct OnPostgres(fn() -> &'static Hms, Names);
/// A server over a database in MariaDB.
struct OnMariaDb(fn() -> &'static Hms, Names);

struct Names {
    process: &'static str,
    thrift: &'static str,
    sql: &'static str,
}

macro_rules! hms {
    ($hms:ident, $version:literal, $full:literal, $underscored:literal, $short:literal, $($field:ident: $value:expr),*) => {
        /// See the module.
        pub static $hms: Hms = Hms {
            name: concat!("hms-", $version),
            version: $version,
            package: concat!("org.apache.hive metastore ", $full, " and what it needs"),
            variable: concat!("UNDERSTUDY_TEST_HMS_", $short),
            template: concat!("hive_", $underscored),
            database: concat!("hms_", $short),
            postgres: OnPostgres(|| &$hms, Names {
                process: concat!("hms-", $version, "-postgres"),
                thrift: concat!("UNDERSTUDY_TEST_HMS_", $short, "_POSTGRES_THRIFT"),
                sql: concat!("UNDERSTUDY_TEST_HMS_", $short, "_POSTGRES_SQL"),
            }),
            mariadb: OnMariaDb(|| &$hms, Names {
                process: concat!("hms-", $version, "-mariadb"),
                thrift: concat!("UNDERSTUDY_TEST_HMS_", $short, "_MARIADB_THRIFT"),
                sql: concat!("UNDERSTUDY_TEST_HMS_", $short, "_MARIADB_SQL"),
            }),
            schema_variable: concat!("UNDERSTUDY_TEST_HMS_", $short, "_SCHEMA"),
            $($field: $value),*
        };
    };
}

hms!(HMS_23, "2.3", "2.3.10", "2_3", "23",
    jars: &jars::HMS_23,
    // None is published with scripts of 2.3 alone; these of 3.1 lead there.
    scripts: "org.apache.hive:hive-standalone-metastore:3.1.3:tar.gz:bin",
    schema: &[
        "hive-schema-1.2.0",
        "upgrade-1.2.0-to-2.0.0",
        "upgrade-2.0.0-to-2.1.0",
        "upgrade-2.1.0-to-2.2.0",
        "upgrade-2.2.0-to-2.3.0",
    ],
    schema_version: "2.3.0",
    java_21: false
);
hms!(HMS_31, "3.1", "3.1.3", "3_1", "31",
    jars: &jars::HMS_31,
    scripts: "org.apache.hive:hive-standalone-metastore:3.1.3:tar.gz:bin",
    schema: &["hive-schema-3.1.0"],
    schema_version: "3.1.0",
    java_21: false
);
hms!(HMS_40, "4.0", "4.0.1", "4_0", "40",
    jars: &jars::HMS_40,
    scripts: "org.apache.hive:hive-standalone-metastore-server:4.0.1:tar.gz:bin",
    schema: &["hive-schema-4.0.0"],
    schema_version: "4.0.0",
    java_21: true
);

impl Hms {
    fn home(&self, folders: &Folders) -> PathBuf {
        folders.services().join(self.name)
    }

    /// The schema as one script, `kind` as Hive names the database.
    fn script(&self, folders: &Folders, kind: &str) -> Result<String> {
        let path = self.home(folders).join(format!("schema/{kind}.sql"));
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Puts the scripts where the schema tool looks for them, and makes one of them.
    fn install_schema(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let (home, fetched) = (self.home(folders), self.home(folders).join("fetched"));
        std::fs::create_dir_all(&fetched).with_context(|| format!("create {}", fetched.display()))?;
        maven::copy(folders, self.name, &fetched, self.scripts, interrupt)?;
        let archive = std::fs::read_dir(&fetched)?.next().context("Maven fetched no scripts")??.path();
        let mut unpack = program("tar");
        unpack.args(["--extract", "--gzip", "--strip-components=1", "--wildcards", "*/scripts", "--file"]);
        unpack.arg(&archive).current_dir(&home);
        run_logged(&mut unpack, &folders.log(&format!("{}-unpack", self.name)), STEP_LIMIT, interrupt)?;
        std::fs::remove_dir_all(&fetched).with_context(|| format!("delete {}", fetched.display()))?;
        for kind in ["postgres", "mysql"] {
            let folder = home.join("scripts/metastore/upgrade").join(kind);
            let mut whole = String::new();
            for part in self.schema {
                let path = folder.join(format!("{part}.{kind}.sql"));
                whole += &std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                whole.push('\n');
            }
            write_whole(&home.join(format!("schema/{kind}.sql")), &whole)?;
            // The schema tool compares with this one.
            write_whole(&folder.join(format!("hive-schema-{}.{kind}.sql", self.schema_version)), &whole)?;
        }
        Ok(())
    }

    fn compile(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = self.home(folders);
        write_whole(&home.join("source/Hms.java"), HMS_JAVA)?;
        let mut compiler = program("javac");
        compiler.args(["--release", "17", "-nowarn", "-cp"]).arg(home.join("jars/*"));
        compiler.arg("-d").arg(home.join("classes")).arg(home.join("source/Hms.java"));
        if self.java_21 {
            for (name, text) in [("AlterPartitionsMessage", MESSAGE_JAVA), ("AlterPartitionsEvent", EVENT_JAVA)] {
                let path = home.join(format!("source/{name}.java"));
                write_whole(&path, text)?;
                compiler.arg(path);
            }
        }
        run_logged(&mut compiler, &folders.log(&format!("{}-compile", self.name)), STEP_LIMIT, interrupt)
            .context("a JDK, 17 or later, compiles it")
    }

    /// The program: `serve PORT FOLDER URL [NAME=VALUE ...]`, `schematool FOLDER URL ARGUMENT ...`, `version`.
    fn launcher(&self, folders: &Folders) -> Result<String> {
        let home = self.home(folders);
        let java = match self.java_21 {
            true => java21::java(folders)?,
            false => PathBuf::from("java"),
        };
        Ok(include_str!("hms/launcher.sh")
            .replace("@HOME@", &home.display().to_string())
            .replace("@JAVA@", &java.display().to_string())
            .replace("@VERSION@", self.version))
    }

    fn command(&self, place: &Place<'_>, url: &str) -> Command {
        let mut command = program(self.binary(place.folders));
        command.arg("serve").arg(place.port.to_string()).arg(&place.data).arg(url);
        command
    }
}

impl Service for Hms {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        "Hive Metastore"
    }

    fn package(&self) -> &'static str {
        self.package
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join(self.name)
    }

    fn variable(&self) -> &'static str {
        self.variable
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = self.home(folders);
        // Jars of another version must not be in the way.
        remove_folder(&home)?;
        maven::jars(folders, self.name, &home, self.jars, interrupt)?;
        self.install_schema(folders, interrupt)?;
        self.compile(folders, interrupt)?;
        write_whole(&home.join("classes/log4j2.properties"), include_str!("hms/log4j2.properties"))?;
        if self.java_21 {
            java21::install(folders, self.name, interrupt)?;
        }
        write_program(&self.binary(folders), &self.launcher(folders)?)
    }

    fn needs(&self) -> &'static [&'static str] {
        &["postgres", "mariadb"]
    }

    fn servers(&self) -> Vec<&dyn Server> {
        vec![&self.postgres, &self.mariadb]
    }
}

impl Server for OnPostgres {
    fn process(&self) -> &'static str {
        self.1.process
    }

    fn prepare(&self, place: &Place<'_>, _interrupt: &Interrupt) -> Result<()> {
        let (hms, port) = ((self.0)(), port_of("postgres", place.folders)?);
        let run = |database: &str, script: &str| {
            sql::postgres(port, database, script).with_context(|| format!("in PostgreSQL's {database}"))
        };
        let (database, template) = (hms.database, hms.template);
        let there = format!("select 1 from pg_database where datname = '{template}'");
        if run("postgres", &there)?.is_empty() {
            // Under its name only when it is whole.
            run("postgres", &format!("drop database if exists {template}_new"))?;
            run("postgres", &format!("create database {template}_new"))?;
            run(&format!("{template}_new"), &hms.script(place.folders, "postgres")?)?;
            run("postgres", &format!("alter database {template}_new rename to {template}"))?;
        }
        run("postgres", &format!("drop database if exists {database} with (force)"))?;
        run("postgres", &format!("create database {database} template {template}")).map(|_| ())
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        Ok((self.0)().command(place, &self.url(place.folders)?))
    }

    fn answers(&self, port: u16) -> bool {
        listens(port)
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        variables(&self.1, place, self.url(place.folders))
    }
}

impl OnPostgres {
    fn url(&self, folders: &Folders) -> Result<String> {
        let port = port_of("postgres", folders)?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{}", (self.0)().database))
    }
}

impl Server for OnMariaDb {
    fn process(&self) -> &'static str {
        self.1.process
    }

    fn prepare(&self, place: &Place<'_>, _interrupt: &Interrupt) -> Result<()> {
        let (hms, port) = ((self.0)(), port_of("mariadb", place.folders)?);
        let (client, database) = (mariadb::client(place.folders), hms.database);
        let create = format!("drop database if exists {database}; create database {database} character set latin1");
        sql::mariadb(&client, port, None, &create).context("in MariaDB")?;
        let schema = hms.script(place.folders, "mysql")?;
        sql::mariadb(&client, port, Some(database), &schema).map(|_| ()).context("Hive's schema in MariaDB")
    }

    fn command(&self, place: &Place<'_>) -> Result<Command> {
        Ok((self.0)().command(place, &self.url(place.folders)?))
    }

    fn answers(&self, port: u16) -> bool {
        listens(port)
    }

    fn variables(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let mut variables = variables(&self.1, place, self.url(place.folders));
        let hms = (self.0)();
        variables.push((hms.schema_variable, hms.home(place.folders).join("schema").display().to_string()));
        variables
    }
}

impl OnMariaDb {
    fn url(&self, folders: &Folders) -> Result<String> {
        let port = port_of("mariadb", folders)?;
        Ok(format!("mysql://hive:hive@127.0.0.1:{port}/{}", (self.0)().database))
    }
}

/// Without its database it is of no use, and has no variables.
fn variables(names: &Names, place: &Place<'_>, url: Result<String>) -> Vec<(&'static str, String)> {
    let thrift = format!("thrift://127.0.0.1:{}", place.port);
    url.map_or_else(|_| Vec::new(), |url| vec![(names.thrift, thrift), (names.sql, url)])
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PROBE_LIMIT).is_ok()
}

fn port_of(process: &str, folders: &Folders) -> Result<u16> {
    match Running::read(folders, process)? {
        Some(running) if running.identity.runs() => Ok(running.port),
        _ => bail!("{process} does not run"),
    }
}
