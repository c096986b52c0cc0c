//! Rates and memory of the metastore adapters: a large table written and read, many tables dumped, beside a plain Thrift
//! client that adds the same partitions to a Hive Metastore.
//!
//! `cargo xtask bench metastore` runs it. Works in databases whose names begin with `understudy_bench` of the metastores that
//! it is given, and drops them before and after. Each case is a process of its own, whose peak of memory is the kernel's.

#[path = "metastores/objects.rs"]
mod objects;
#[path = "metastores/plain.rs"]
mod plain;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use distcp::settings::Environment;
use metasync::metastore::{CHUNK, Change, Metastore, open};
use metasync::model::{DatabaseName, Table};
use metasync::object::Object;
use metasync::walk::walk_database;

/// The database with one large table whose events are written, too.
const LOGGED: &str = "understudy_bench_logged";

/// Tables that are put at once.
const TABLES_AT_ONCE: usize = 100;

/// Rates and memory of the metastore adapters
#[derive(Parser)]
struct Arguments {
    /// A Hive Metastore 3.1 over the PostgreSQL database
    #[arg(long, value_name = "URL")]
    thrift: String,
    /// The database of that metastore
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// A database with Hive's schema 3.1
    #[arg(long, value_name = "URL")]
    mariadb: String,
    /// Partitions of the table that is written and read
    #[arg(long, default_value_t = 100_000)]
    partitions: usize,
    /// Partitions that the plain client adds: its rate is what counts
    #[arg(long, default_value_t = 10_000)]
    plain_partitions: usize,
    /// Tables that are dumped
    #[arg(long, default_value_t = 2_000)]
    tables: usize,
    /// Run one case in this process, and say its figures
    #[arg(long, hide = true, requires = "folder")]
    case: Option<Case>,
    /// Where tables are said to be
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
}

/// In the order in which they run: what is read was written before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Case {
    WritePlainThrift,
    WriteMariadb,
    WriteSqlite,
    WritePostgres,
    LogPostgres,
    ReadPostgres,
    ReadThrift,
    FillPostgres,
    DumpPostgres,
    DumpThrift,
}

impl Case {
    /// As it is named in the table; none is only a preparation.
    fn about(self) -> Option<&'static str> {
        Some(match self {
            Self::WritePlainThrift => "write partitions, plain Thrift client to HMS 3.1, batches of 1,000",
            Self::WriteMariadb => "write partitions, MariaDB",
            Self::WriteSqlite => "write partitions, SQLite",
            Self::WritePostgres => "write partitions, PostgreSQL",
            Self::LogPostgres => "write partitions and their events, PostgreSQL",
            Self::ReadPostgres => "read partitions, PostgreSQL",
            Self::ReadThrift => "read partitions, Thrift 3.1",
            Self::FillPostgres => return None,
            Self::DumpPostgres => "dump tables, PostgreSQL",
            Self::DumpThrift => "dump tables, Thrift 3.1",
        })
    }

    fn writes_partitions(self) -> bool {
        matches!(self, Self::WriteMariadb | Self::WriteSqlite | Self::WritePostgres | Self::LogPostgres)
    }
}

/// What a case came to.
struct Figures {
    count: usize,
    seconds: f64,
    peak_kib: u64,
}

impl Figures {
    fn rate(&self) -> f64 {
        // Counts are far below 2^52: nothing is lost.
        self.count as f64 / self.seconds
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let (Some(case), Some(folder)) = (arguments.case, &arguments.folder) {
        let (count, took) = run(case, &arguments, folder).await.with_context(|| format!("{case:?}"))?;
        println!("{count} {} {}", took.as_secs_f64(), peak_kib()?);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    clear_all(&arguments).await.context("before")?;
    let figures = run_all(folder.path());
    clear_all(&arguments).await.context("after")?;
    print(&figures?);
    Ok(())
}

/// Every case in a process of its own, with the arguments of this one.
fn run_all(folder: &Path) -> Result<BTreeMap<Case, Figures>> {
    let mut all = BTreeMap::new();
    for case in Case::value_variants() {
        let value = case.to_possible_value().context("a case without a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).arg("--case").arg(value.get_name()).arg("--folder").arg(folder);
        let output = command.stderr(std::process::Stdio::inherit()).output()?;
        ensure!(output.status.success(), "{}: {}", value.get_name(), output.status);
        let printed = String::from_utf8(output.stdout)?;
        let [count, seconds, peak_kib] = printed.split_whitespace().collect::<Vec<_>>()[..] else {
            anyhow::bail!("{}: {printed}", value.get_name());
        };
        eprintln!("{:<20} {seconds} s", value.get_name());
        let figures = Figures { count: count.parse()?, seconds: seconds.parse()?, peak_kib: peak_kib.parse()? };
        all.insert(*case, figures);
    }
    Ok(all)
}

fn print(all: &BTreeMap<Case, Figures>) {
    let plain = all.get(&Case::WritePlainThrift).map_or(f64::NAN, Figures::rate);
    println!("| case | objects | s | objects/s | peak MiB | rate, plain Thrift client = 1 |");
    println!("|---|---|---|---|---|---|");
    for (case, figures) in all {
        let Some(about) = case.about() else { continue };
        let Figures { count, seconds, peak_kib } = figures;
        let ratio = if case.writes_partitions() { format!("{:.1}", figures.rate() / plain) } else { String::new() };
        println!("| {about} | {count} | {seconds:.2} | {:.0} | {} | {ratio} |", figures.rate(), peak_kib >> 10);
    }
}

/// How many objects, and how long it took.
async fn run(case: Case, arguments: &Arguments, folder: &Path) -> Result<(usize, Duration)> {
    let (partitions, tables) = (arguments.partitions, arguments.tables);
    let root = format!("file:{}", folder.display());
    match case {
        Case::WritePlainThrift => {
            let table = prepare(at(&arguments.postgres).await?.as_ref(), objects::PLAIN, &root).await?;
            make_folders(&table, arguments.plain_partitions)?;
            let mut client = plain::Client::connect(&arguments.thrift)?;
            let started = Instant::now();
            for first in (0..arguments.plain_partitions).step_by(CHUNK) {
                let count = CHUNK.min(arguments.plain_partitions - first);
                client.add_partitions(&table, first..first + count)?;
            }
            Ok((arguments.plain_partitions, started.elapsed()))
        }
        Case::WriteMariadb => write(at(&arguments.mariadb).await?.as_ref(), objects::LARGE, partitions, &root).await,
        Case::WriteSqlite => {
            let url = format!("sqlite://{}/metastore.db", folder.display());
            open::init(&url).await?;
            write(at(&url).await?.as_ref(), objects::LARGE, partitions, &root).await
        }
        Case::WritePostgres => write(at(&arguments.postgres).await?.as_ref(), objects::LARGE, partitions, &root).await,
        Case::LogPostgres => {
            let logged = open::open_target(&arguments.postgres, &Environment::default(), true).await?;
            write(logged.as_ref(), LOGGED, partitions, &root).await
        }
        Case::ReadPostgres => read(&arguments.postgres, objects::LARGE, partitions).await,
        Case::ReadThrift => read(&arguments.thrift, objects::LARGE, partitions).await,
        Case::FillPostgres => fill(at(&arguments.postgres).await?.as_ref(), tables, &root).await,
        Case::DumpPostgres => read(&arguments.postgres, objects::MANY, tables).await,
        Case::DumpThrift => read(&arguments.thrift, objects::MANY, tables).await,
    }
}

/// Makes the folders of partitions, so that the server's time for that, which is the file system's, is not counted.
fn make_folders(table: &Table, partitions: usize) -> Result<()> {
    for at in 0..partitions {
        let location = objects::partition(table, at).storage.location;
        let folder = location.as_deref().and_then(|location| location.strip_prefix("file:"));
        std::fs::create_dir_all(folder.context("a partition without a folder")?)?;
    }
    Ok(())
}

async fn at(url: &str) -> Result<Box<dyn Metastore>> {
    Ok(open::open(url, &Environment::default()).await?)
}

/// A database with a table that has no partitions yet.
async fn prepare(metastore: &dyn Metastore, database: &str, root: &str) -> Result<Table> {
    let database = DatabaseName::new(database);
    let table = objects::table(database.table("t"), root);
    let changes = [Change::PutDatabase(objects::database(&database, root)), Change::PutTable(Box::new(table.clone()))];
    metastore.apply(&changes).await?;
    Ok(table)
}

async fn write(metastore: &dyn Metastore, database: &str, partitions: usize, root: &str) -> Result<(usize, Duration)> {
    let table = prepare(metastore, database, root).await?;
    let started = Instant::now();
    for first in (0..partitions).step_by(CHUNK) {
        let chunk = first..(first + CHUNK).min(partitions);
        let partitions = chunk.map(|at| objects::partition(&table, at)).collect();
        metastore.apply(&[Change::PutPartitions { table: table.name.clone(), partitions }]).await?;
    }
    Ok((partitions, started.elapsed()))
}

/// Makes the tables that are dumped.
async fn fill(metastore: &dyn Metastore, tables: usize, root: &str) -> Result<(usize, Duration)> {
    let database = DatabaseName::new(objects::MANY);
    let started = Instant::now();
    metastore.apply(&[Change::PutDatabase(objects::database(&database, root))]).await?;
    for first in (0..tables).step_by(TABLES_AT_ONCE) {
        let some = first..(first + TABLES_AT_ONCE).min(tables);
        let changes: Vec<Change> = some
            .map(|at| Change::PutTable(Box::new(objects::table(database.table(&format!("t{at:05}")), root))))
            .collect();
        metastore.apply(&changes).await?;
    }
    Ok((tables, started.elapsed()))
}

/// Opens the metastore, walks over a database and makes the lines of a dump, which go nowhere. Errors: another number of
/// partitions, or of tables where there are no partitions.
async fn read(url: &str, database: &str, expected: usize) -> Result<(usize, Duration)> {
    let started = Instant::now();
    let metastore = at(url).await?;
    let snapshot = metastore.snapshot().await?;
    let name = DatabaseName::new(database);
    let database = snapshot.databases().await?.into_iter().find(|database| database.name == name);
    let (mut tables, mut partitions) = (0, 0);
    walk_database::<anyhow::Error>(snapshot.as_ref(), database.context("the database is not there")?, &mut |step| {
        let object = step.map_err(|damaged| anyhow::anyhow!("{}: {}", damaged.object, damaged.why))?;
        match object {
            Object::Table(_) => tables += 1,
            Object::Partition { .. } => partitions += 1,
            _ => (),
        }
        serde_json::to_writer(std::io::sink(), &object)?;
        Ok(())
    })
    .await?;
    let count = if partitions > 0 { partitions } else { tables };
    ensure!(count == expected, "{count} objects were read, not {expected}");
    Ok((count, started.elapsed()))
}

/// Drops all that an earlier run or this one has made.
async fn clear_all(arguments: &Arguments) -> Result<()> {
    for url in [&arguments.postgres, &arguments.mariadb] {
        let metastore = at(url).await?;
        for database in [objects::PLAIN, objects::LARGE, LOGGED, objects::MANY] {
            let database = DatabaseName::new(database);
            let tables = metastore.snapshot().await?.table_names(&database).await?;
            for some in tables.chunks(TABLES_AT_ONCE) {
                let changes: Vec<Change> = some.iter().map(|table| Change::DropTable(database.table(table))).collect();
                metastore.apply(&changes).await?;
            }
            metastore.apply(&[Change::DropDatabase(database)]).await?;
        }
    }
    Ok(())
}

/// The most memory that this process ever had.
fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    line.split_whitespace().next().context("VmHWM without a number")?.parse().context("VmHWM is no number")
}
