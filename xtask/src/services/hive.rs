//! Hive 4.2, a writer and reader of tables that does what Spark does not: INSERT events, constraints, functions, statistics.
//!
//! A tool without a server: `bin/hive-4.2 session FOLDER URL` is Hive and its metastore in one process, over any database in
//! PostgreSQL with the schema that lies in `hive-4.2/schema/postgres.sql`; see `hive/HiveSql.java`. All comes through Maven.

use super::maven::{Jar, alone, without};
use super::{Service, java21, maven};
use crate::command::{Interrupt, program, run_logged};
use crate::folders::{Folders, remove_folder, write_program, write_whole};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::Duration;

/// How long unpacking, and compiling, may take each.
const STEP_LIMIT: Duration = Duration::from_secs(180);
/// The last release whose archive holds schemas; what changed since is ours.
const SCRIPTS: &str = "org.apache.hive:hive-standalone-metastore-server:4.0.1:tar.gz:bin";
const SCHEMA: &str = "hive-schema-4.0.0.postgres.sql";
/// A compiler that reads classes of Java 21 wherever it runs; the JDK that is there may be older.
const COMPILER: &str = "org.eclipse.jdt:ecj:3.40.0";

/// Of what its jars need: second loggers, of which it depends on the order of files which is found, servers' parts, and what is there under another name.
const NOT_NEEDED: [&str; 11] = [
    "org.apache.hive.hcatalog:hive-hcatalog-core",
    "org.pac4j:*",
    "org.opensaml:*",
    "org.apache.hbase:*",
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.logging.log4j:log4j-1.2-api",
    "org.apache.logging.log4j:log4j-slf4j-impl",
    "org.apache.logging.log4j:log4j-slf4j2-impl",
    "org.pentaho:*",
    "org.glassfish:javax.el",
];

/// What is alone here is what `hive-exec` needs and does not say, and the database's driver.
const JARS: [Jar; 28] = [
    without("org.apache.hive:hive-exec:4.2.0", &NOT_NEEDED),
    without("org.apache.hive:hive-metastore:4.2.0", &NOT_NEEDED),
    without("org.apache.hive.hcatalog:hive-hcatalog-server-extensions:4.2.0", &NOT_NEEDED),
    // The event listener needs one class of it, which later ones lack.
    alone("org.apache.hive.hcatalog:hive-hcatalog-core:4.0.1"),
    without("org.apache.hadoop:hadoop-common:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-hdfs-client:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-mapreduce-client-core:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-mapreduce-client-common:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-mapreduce-client-jobclient:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-yarn-common:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-yarn-client:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-yarn-api:3.4.1", &NOT_NEEDED),
    without("org.apache.hadoop:hadoop-distcp:3.4.1", &NOT_NEEDED),
    alone("org.apache.hadoop:hadoop-hdfs:3.4.1"),
    without("org.apache.tez:tez-dag:0.10.5", &NOT_NEEDED),
    without("org.apache.tez:tez-mapreduce:0.10.5", &NOT_NEEDED),
    without("org.apache.tez:tez-runtime-library:0.10.5", &NOT_NEEDED),
    alone("org.postgresql:postgresql:42.7.4"),
    alone("org.datanucleus:datanucleus-api-jdo:6.0.3"),
    alone("org.datanucleus:datanucleus-rdbms:6.0.10"),
    alone("org.datanucleus:javax.jdo:3.2.0-release"),
    alone("com.google.guava:guava:32.1.3-jre"),
    alone("com.google.guava:failureaccess:1.0.1"),
    alone("org.springframework:spring-jdbc:5.3.39"),
    alone("org.springframework:spring-tx:5.3.39"),
    alone("com.cronutils:cron-utils:9.1.6"),
    alone("org.antlr:antlr-runtime:3.5.2"),
    alone("org.antlr:antlr4-runtime:4.9.3"),
];

/// See the module.
pub struct Hive;

impl Hive {
    fn home(&self, folders: &Folders) -> PathBuf {
        folders.services().join(self.name())
    }

    fn install_schema(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let (home, fetched) = (self.home(folders), self.home(folders).join("fetched"));
        std::fs::create_dir_all(&fetched).with_context(|| format!("create {}", fetched.display()))?;
        maven::copy(folders, self.name(), &fetched, SCRIPTS, interrupt)?;
        let archive = std::fs::read_dir(&fetched)?.next().context("Maven fetched no scripts")??.path();
        let mut unpack = program("tar");
        unpack.args(["--extract", "--gzip", "--strip-components=5", "--wildcards"]);
        unpack.arg(format!("*/scripts/metastore/upgrade/postgres/{SCHEMA}")).arg("--file").arg(&archive);
        unpack.current_dir(&fetched);
        run_logged(&mut unpack, &folders.log(&format!("{}-unpack", self.name())), STEP_LIMIT, interrupt)?;
        let path = fetched.join(SCHEMA);
        let schema = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        std::fs::remove_dir_all(&fetched).with_context(|| format!("delete {}", fetched.display()))?;
        write_whole(&home.join("schema/postgres.sql"), &format!("{schema}\n{}", include_str!("hive/schema-4.2.sql")))
    }

    /// Two programs: the session, and a function for tests in `udf/shout.jar`, which the session does not find by itself.
    fn compile(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let (home, fetched) = (self.home(folders), self.home(folders).join("compiler"));
        std::fs::create_dir_all(&fetched).with_context(|| format!("create {}", fetched.display()))?;
        maven::copy(folders, self.name(), &fetched, COMPILER, interrupt)?;
        let archive = std::fs::read_dir(&fetched)?.next().context("Maven fetched no compiler")??.path();
        let mut jars = Vec::new();
        for entry in std::fs::read_dir(home.join("jars"))? {
            jars.push(entry?.path());
        }
        let class_path = std::env::join_paths(&jars).context("a class path")?;
        let log = folders.log(&format!("{}-compile", self.name()));
        for (name, text, to) in [
            ("HiveSql", include_str!("hive/HiveSql.java"), "classes"),
            ("Shout", include_str!("hive/Shout.java"), "udf/classes"),
        ] {
            let source = home.join(format!("source/{name}.java"));
            write_whole(&source, text)?;
            let mut compiler = program(java21::java(folders)?);
            compiler.arg("-jar").arg(&archive).args(["-21", "-nowarn", "-proc:none", "-encoding", "UTF-8", "-cp"]);
            compiler.arg(&class_path).arg("-d").arg(home.join(to)).arg(source);
            run_logged(&mut compiler, &log, STEP_LIMIT, interrupt)?;
        }
        let mut pack = program("jar");
        pack.args(["--create", "--file"]).arg(home.join("udf/shout.jar"));
        pack.arg("-C").arg(home.join("udf/classes")).arg("Shout.class");
        run_logged(&mut pack, &log, STEP_LIMIT, interrupt).context("a JDK packs it")?;
        std::fs::remove_dir_all(&fetched).with_context(|| format!("delete {}", fetched.display()))
    }

    fn launcher(&self, folders: &Folders) -> Result<String> {
        Ok(include_str!("hive/launcher.sh")
            .replace("@HOME@", &self.home(folders).display().to_string())
            .replace("@JAVA@", &java21::java(folders)?.display().to_string()))
    }
}

impl Service for Hive {
    fn name(&self) -> &'static str {
        "hive-4.2"
    }

    fn about(&self) -> &'static str {
        "Hive, writer and reader of tables"
    }

    fn package(&self) -> &'static str {
        "org.apache.hive 4.2.0 and what it needs, its compactor too"
    }

    fn binary(&self, folders: &Folders) -> PathBuf {
        folders.bin().join(self.name())
    }

    fn variable(&self) -> &'static str {
        "UNDERSTUDY_TEST_HIVE_42"
    }

    fn version_arguments(&self) -> &'static [&'static str] {
        &["version"]
    }

    fn install(&self, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
        let home = self.home(folders);
        // Jars of another version must not be in the way.
        remove_folder(&home)?;
        maven::jars(folders, self.name(), &home, &JARS, interrupt)?;
        self.install_schema(folders, interrupt)?;
        java21::install(folders, self.name(), interrupt)?;
        self.compile(folders, interrupt)?;
        write_whole(&home.join("classes/log4j.properties"), include_str!("hive/log4j.properties"))?;
        write_program(&self.binary(folders), &self.launcher(folders)?)
    }
}
