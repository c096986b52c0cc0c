//! Seconds and memory of `metasync run` between real metastores: a large table, a log of many events, nothing to do.
//!
//! `cargo xtask bench metasync` runs it. Works in databases of its own on the servers that it is given, with Hive
//! Metastores of its own over them, and in a temporary folder; all of it goes with the case. A kill leaves databases whose names
//! begin with `understudy_bench_` and the folder; the next run of the same case drops such databases first.

#[path = "replicas/ddl.rs"]
mod ddl;
#[path = "replicas/delta.rs"]
mod delta;
#[path = "replicas/fill.rs"]
mod fill;
#[path = "replicas/hive.rs"]
mod hive;
#[path = "metastores/objects.rs"]
mod objects;
#[path = "metastores/plain.rs"]
mod plain;
#[path = "replicas/program.rs"]
mod program;
#[path = "../../tests/support/sql.rs"]
mod sql;
#[path = "replicas/stage.rs"]
mod stage;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use metasync::metastore::{CHUNK, open};
use metasync::model::DatabaseName;
use program::{Job, Ran};
use stage::{MariaDb, Stage};

/// Runs with nothing to do that are timed; the middle one counts.
const IDLE_RUNS: usize = 3;
/// Partitions that Hive's REPL bootstraps, too.
const REPL_PARTITIONS: usize = 10_000;

/// Seconds and memory of `metasync run`
#[derive(Parser)]
struct Arguments {
    /// The program that is measured
    #[arg(long, value_name = "PATH")]
    metasync: PathBuf,
    /// A PostgreSQL server with the template `hive_3_1`, without a database: postgres://postgres@127.0.0.1:PORT
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// A MariaDB server, without a database: mysql://hive:hive@127.0.0.1:PORT
    #[arg(long, value_name = "URL")]
    mariadb: String,
    /// The client that came with it
    #[arg(long, value_name = "PATH")]
    mariadb_client: PathBuf,
    /// The folder with scripts of Hive's schema 3.1
    #[arg(long, value_name = "PATH")]
    schema: PathBuf,
    /// The program that serves a Hive Metastore 3.1
    #[arg(long, value_name = "PATH")]
    hms: PathBuf,
    /// The program that runs sessions of Hive 4.2
    #[arg(long, value_name = "PATH")]
    hive: PathBuf,
    /// Only these cases; else all
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<Case>,
    /// Everything a tenth, a hundredth: the aims hold for 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// Files of each partition where data is looked at
    #[arg(long, default_value_t = 10)]
    files: usize,
    /// Run every counted run under this program, such as a profiler
    #[arg(long, value_name = "COMMAND LINE")]
    under: Option<String>,
}

/// In the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    /// One table of 100,000 partitions, PostgreSQL to PostgreSQL
    Large,
    /// The same, HMS to PostgreSQL, beside a plain Thrift client
    Thrift,
    /// 10,000 partitions, beside REPL DUMP and REPL LOAD of Hive 4.2
    Repl,
    /// One table of 100,000 partitions out of a SQLite file into an empty one
    LoadSqlite,
    /// The same into PostgreSQL
    LoadPostgres,
    /// The same into MariaDB
    LoadMariadb,
    /// The same into HMS by Thrift
    LoadThrift,
    /// 10,000 events of DDL
    Events,
    /// 2,000 tables, 100,000 partitions, 1,000,000 objects: nothing to do, PostgreSQL
    IdlePostgres,
    /// The same, SQLite
    IdleSqlite,
    /// A Delta table of 10,000 commits and 100,000 files, and one of a tenth: 10 commits more
    Delta,
}

/// What a case came to.
struct Row {
    about: String,
    count: usize,
    seconds: f64,
    peak_kib: Option<u64>,
    /// What is to be reached.
    aim: &'static str,
    /// What else there is to say.
    word: String,
}

impl Row {
    fn of(about: &str, count: usize, ran: &Ran, aim: &'static str) -> Self {
        let (about, peak_kib) = (about.to_owned(), Some(ran.peak_kib));
        Self { about, count, seconds: ran.seconds, peak_kib, aim, word: String::new() }
    }

    fn rate(&self) -> f64 {
        // Counts are far below 2^52: nothing is lost.
        self.count as f64 / self.seconds
    }

    fn print(&self) {
        let Self { about, count, seconds, aim, word, .. } = self;
        let peak = self.peak_kib.map_or(String::new(), |kib| (kib >> 10).to_string());
        println!("| {about} | {count} | {seconds:.2} | {:.0} | {peak} | {aim} | {word} |", self.rate());
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    // It runs in another folder.
    arguments.metasync = arguments.metasync.canonicalize().context("--metasync")?;
    let cases = if arguments.cases.is_empty() { Case::value_variants() } else { &arguments.cases };
    println!("| case | objects | s | objects/s | peak MiB | aim | |");
    println!("|---|---|---|---|---|---|---|");
    for case in cases {
        let stage = Stage::new(&arguments.postgres, &arguments.hms)?;
        for row in run(*case, &arguments, &stage).await.with_context(|| format!("{case:?}"))? {
            row.print();
        }
    }
    Ok(())
}

impl Arguments {
    fn scaled(&self, count: usize) -> usize {
        count / self.scale as usize
    }

    fn job<'a>(&'a self, stage: &'a Stage, source: &str, target: &str, database: &str) -> Job<'a> {
        Job {
            metasync: &self.metasync,
            under: self.under.as_deref(),
            folder: stage.folder(),
            source: source.to_owned(),
            target: target.to_owned(),
            database: database.to_owned(),
        }
    }
}

async fn run(case: Case, arguments: &Arguments, stage: &Stage) -> Result<Vec<Row>> {
    match case {
        Case::Large => {
            let about = "bootstrap one table, PostgreSQL to PostgreSQL";
            bootstrap(arguments, stage, arguments.scaled(100_000), about, "< 30 s, < 300 MB").await.map(|row| vec![row])
        }
        Case::Repl => repl(arguments, stage).await,
        Case::Thrift => thrift(arguments, stage).await,
        Case::LoadSqlite => {
            let target = format!("sqlite://{}/target.db", stage.folder().display());
            load(arguments, stage, &target, "SQLite").await
        }
        Case::LoadPostgres => load(arguments, stage, &stage.database("target")?.url, "PostgreSQL").await,
        Case::LoadMariadb => {
            let Arguments { mariadb, mariadb_client, schema, .. } = arguments;
            let (url, client, schema) = (mariadb.clone(), mariadb_client.clone(), schema.clone());
            let target = stage.mariadb_database("target", &MariaDb { url, client, schema })?;
            load(arguments, stage, &target.url, "MariaDB").await
        }
        Case::LoadThrift => {
            let target = stage.database("target")?;
            let server = stage.serve(&target)?;
            load(arguments, stage, &server.thrift, "HMS 3.1 by Thrift").await
        }
        Case::Events => events(arguments, stage).await,
        Case::IdlePostgres => {
            let (source, target) = (stage.database("idle_source")?, stage.database("idle_target")?);
            idle(arguments, stage, &source.url, &target.url, "PostgreSQL").await
        }
        Case::IdleSqlite => {
            let url = |side: &str| format!("sqlite://{}/{side}.db", stage.folder().display());
            open::init(&url("source")).await?;
            idle(arguments, stage, &url("source"), &url("target"), "SQLite").await
        }
        Case::Delta => {
            // Each in a folder of its own.
            let other = Stage::new(&arguments.postgres, &arguments.hms)?;
            let tenth = delta_commits(arguments, &other, arguments.scaled(1_000), "no aim").await?;
            Ok(vec![tenth, delta_commits(arguments, stage, arguments.scaled(10_000), "grows with the 10").await?])
        }
    }
}

/// One large table, metadata only.
async fn bootstrap(
    arguments: &Arguments,
    stage: &Stage,
    partitions: usize,
    about: &str,
    aim: &'static str,
) -> Result<Row> {
    let (source, target) = (stage.database("source")?, stage.database("target")?);
    fill::one_table(&source.url, objects::LARGE, partitions, &stage.root()).await?;
    let job = arguments.job(stage, &source.url, &target.url, objects::LARGE);
    job.write_policy("data = false")?;
    let ran = job.run()?;
    fill::expect_partitions(&target.url, objects::LARGE, partitions).await?;
    Ok(Row::of(about, partitions, &ran, aim))
}

/// A replica that is a SQLite file is loaded into an empty metastore.
async fn load(arguments: &Arguments, stage: &Stage, target: &str, kind: &str) -> Result<Vec<Row>> {
    let partitions = arguments.scaled(100_000);
    let source = format!("sqlite://{}/source.db", stage.folder().display());
    open::init(&source).await?;
    fill::one_table(&source, objects::LARGE, partitions, &stage.root()).await?;
    let job = arguments.job(stage, &source, target, objects::LARGE);
    job.write_policy("data = false")?;
    let ran = job.run()?;
    fill::expect_partitions(target, objects::LARGE, partitions).await?;
    Ok(vec![Row::of(&format!("load one table, SQLite to {kind}"), partitions, &ran, "timed")])
}

/// One large table, fewer partitions, beside Hive's own replication.
async fn repl(arguments: &Arguments, stage: &Stage) -> Result<Vec<Row>> {
    let partitions = arguments.scaled(REPL_PARTITIONS);
    let by_hive = hive::replicate(stage, &arguments.hive, partitions)?;
    let hive = Row {
        about: "the same number by Hive 4.2: REPL DUMP, REPL LOAD".to_owned(),
        count: partitions,
        seconds: by_hive.dump + by_hive.load,
        peak_kib: None,
        aim: "",
        word: format!("{:.1} s and {:.1} s", by_hive.dump, by_hive.load),
    };
    let about = "bootstrap one table, PostgreSQL to PostgreSQL";
    let mut row = bootstrap(arguments, stage, partitions, about, ">= 10x Hive's REPL").await?;
    row.word = format!("{:.1}x", row.rate() / hive.rate());
    Ok(vec![hive, row])
}

/// The same out of a server, beside a plain client that writes into one.
async fn thrift(arguments: &Arguments, stage: &Stage) -> Result<Vec<Row>> {
    let (source, target) = (stage.database("source")?, stage.database("target")?);
    let (partitions, plain_partitions) = (arguments.scaled(100_000), arguments.scaled(10_000));
    fill::one_table(&source.url, objects::LARGE, partitions, &stage.root()).await?;
    let table = fill::one_table(&source.url, objects::PLAIN, 0, &stage.root()).await?;
    let server = stage.serve(&source)?;
    fill::folders(&table, plain_partitions)?;
    let mut client = plain::Client::connect(&server.thrift)?;
    let started = Instant::now();
    for first in (0..plain_partitions).step_by(CHUNK) {
        client.add_partitions(&table, first..(first + CHUNK).min(plain_partitions))?;
    }
    let plain = Row {
        about: "the same partitions by a plain Thrift client to HMS 3.1, batches of 1,000".to_owned(),
        count: plain_partitions,
        seconds: started.elapsed().as_secs_f64(),
        peak_kib: None,
        aim: "",
        word: String::new(),
    };
    let job = arguments.job(stage, &server.thrift, &target.url, objects::LARGE);
    job.write_policy("data = false")?;
    let ran = job.run()?;
    fill::expect_partitions(&target.url, objects::LARGE, partitions).await?;
    let about = "bootstrap one table, HMS 3.1 by Thrift to PostgreSQL";
    let mut row = Row::of(about, partitions, &ran, "< 60 s, >= 5x the plain client");
    row.word = format!("{:.1}x", row.rate() / plain.rate());
    Ok(vec![plain, row])
}

/// Many events of a real log onto a target that was in step before them.
async fn events(arguments: &Arguments, stage: &Stage) -> Result<Vec<Row>> {
    let (source, target) = (stage.database("source")?, stage.database("target")?);
    let (events, tables) = (arguments.scaled(10_000), arguments.scaled(ddl::TABLES).max(ddl::WRITERS));
    let root = stage.root();
    fill::many_tables(&source.url, objects::MANY, tables, ddl::PARTITIONS, &root).await?;
    let server = stage.serve(&source)?;
    let mut writers = ddl::Writers::new(&server.thrift, objects::MANY, tables, &root).await?;
    // A log that is empty has no place to go on from.
    writers.write(1).await?;
    let job = arguments.job(stage, &source.url, &target.url, objects::MANY);
    job.write_policy("data = false")?;
    job.run_once()?;
    let (started, before) = (Instant::now(), fill::current_event(&source.url).await?);
    let written = loop {
        writers.write(ddl::ROUND).await?;
        let written = usize::try_from(fill::current_event(&source.url).await? - before)?;
        if written >= events {
            break written;
        }
    };
    eprintln!("{written} events were written in {:.0} s", started.elapsed().as_secs_f64());
    let ran = job.run()?;
    let applied = ran.number("/events/applied")?;
    ensure!(applied == written as u64, "{applied} events were read, not {written}");
    let again = job.run_once()?;
    let touched = again.number("/tables/touched")?;
    ensure!(touched == 0, "{touched} tables were not in step after the run");
    let tables = ran.number("/tables/touched")?;
    let mut row = Row::of("events of mixed DDL, HMS 3.1's log, PostgreSQL to PostgreSQL", written, &ran, ">= 1,000/s");
    row.word = format!("{tables} tables changed");
    Ok(vec![row])
}

/// Nothing to do, with and without a look at the files.
async fn idle(arguments: &Arguments, stage: &Stage, source: &str, target: &str, kind: &str) -> Result<Vec<Row>> {
    let (tables, each) = (arguments.scaled(2_000), 50);
    let partitions = tables * each;
    let objects = partitions * arguments.files;
    let filled = fill::many_tables(source, objects::MANY, tables, each, &stage.root()).await?;
    fill::files(&filled, each, arguments.files)?;
    let job = arguments.job(stage, source, target, objects::MANY);
    // What was just written proves nothing by its time: the second run settles that.
    job.write_policy("sweep = \"7d\"")?;
    let first = job.run_once()?;
    eprintln!("{kind}: the first run took {:.1} s, peak {} MiB", first.seconds, first.peak_kib >> 10);
    job.write_policy("")?;
    let second = job.run_once()?;
    eprintln!("{kind}: the second run took {:.1} s", second.seconds);
    let about = format!("nothing to do, {kind}: {tables} tables, partitions, no sweep due");
    job.write_policy("sweep = \"7d\"")?;
    let ran = idle_runs(&job)?;
    let listed = ran.number("/counts/listed")?;
    ensure!(listed == 0, "{listed} objects were listed although no sweep was due");
    let spared = Row::of(&about, partitions, &ran, "< 2 s, no listing");
    let about = format!("nothing to do, {kind}: the same, objects swept on local disk");
    job.write_policy("")?;
    let ran = idle_runs(&job)?;
    let listed = ran.number("/counts/listed")?;
    ensure!(listed >= objects as u64, "{listed} objects were listed, not {objects}");
    let swept = Row::of(&about, objects, &ran, "< 30 s");
    let about = format!("verify, {kind}: metadata of {tables} tables and their partitions, and listings");
    let looked = Row::of(&about, partitions, &job.verify("listing")?, "< 20 s for the metadata, < 300 MB");
    let about = format!("verify, {kind}: the same, with hashes from manifests");
    let verified = job.verify("manifest")?;
    let equal = verified.number("/data/equal")?;
    ensure!(equal >= objects as u64, "{equal} objects were equal, not {objects}");
    let verified = Row::of(&about, objects, &verified, "< 60 s, < 300 MB");
    let there = open::open(target, &distcp::settings::Environment::default()).await?;
    let names = there.snapshot().await?.table_names(&DatabaseName::new(objects::MANY)).await?;
    ensure!(names.len() == tables, "{} tables are on the target", names.len());
    Ok(vec![spared, swept, looked, verified])
}

/// A run after ten commits to a Delta table that has so many.
async fn delta_commits(arguments: &Arguments, stage: &Stage, commits: usize, aim: &'static str) -> Result<Row> {
    const MORE: usize = 10;
    let (database, each) = (format!("{}_{commits}", objects::MANY), arguments.files);
    let url = |side: &str| format!("sqlite://{}/{side}_{commits}.db", stage.folder().display());
    open::init(&url("source")).await?;
    let table = fill::delta_table(&url("source"), &database, &stage.root()).await?;
    delta::commits(&table, 0..commits, each)?;
    let job = arguments.job(stage, &url("source"), &url("target"), &database);
    job.write_policy("")?;
    let first = job.run_once()?;
    eprintln!("Delta: the first run over {commits} commits took {:.1} s", first.seconds);
    job.run_once()?;
    delta::commits(&table, commits..commits + MORE, each)?;
    let ran = job.run()?;
    let copied = ran.number("/counts/copied")?;
    let expected = (MORE * (each + 1) + 1) as u64;
    ensure!(copied == expected, "{copied} objects were copied, not {expected}");
    let idle = idle_runs(&job)?;
    let about =
        format!("10 commits of {each} files each to a Delta table of {commits} commits, {} files", commits * each);
    let word = format!("with nothing to do {:.2} s", idle.seconds);
    Ok(Row { word, ..Row::of(&about, expected as usize, &ran, aim) })
}

/// The middle of some runs that change nothing.
fn idle_runs(job: &Job<'_>) -> Result<Ran> {
    let mut all = (0..IDLE_RUNS).map(|_| job.run()).collect::<Result<Vec<_>>>()?;
    for ran in &all {
        let (touched, copied) = (ran.number("/tables/touched")?, ran.number("/counts/copied")?);
        ensure!(touched == 0 && copied == 0, "{touched} tables and {copied} objects were not in step");
    }
    all.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    Ok(all.swap_remove(IDLE_RUNS / 2))
}
