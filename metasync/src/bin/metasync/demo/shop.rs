//! The source of the demo: a shop's lake, a metastore in SQLite and Parquet files in folders, and what happens to it.
//!
//! Changed as an engine would: files first, then the metastore, then the event log. A drop is the other way round.

use super::log::{Happened, Log};
use super::rows;
use distcp::console::demo::{Amount, on_disk};
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use metasync::metastore::{Change, Metastore, Snapshot, open};
use metasync::model::{
    Column, Database, DatabaseKind, DatabaseName, Parameters, Partition, PartitionName, Principal, PrincipalKind,
    SerDe, StorageDescriptor, Table, TableName, UnknownFields,
};
use metasync::sync::failure;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The database.
pub const DATABASE: &str = "shop";
/// The source's metastore, below the demo's folder.
const METASTORE: &str = "source.db";
/// The source's data.
const LAKE: &str = "lake";
/// The replica's metastore.
const REPLICA_METASTORE: &str = "replica.db";
/// The replica's data.
pub const REPLICA: &str = "replica";
/// When tables and partitions were made, seconds since 1970.
const MADE: i32 = 1_760_000_000;
/// Days of a month, as far as partitions go.
const DAYS_A_MONTH: u32 = 28;

const INPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat";
const OUTPUT: &str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat";
const SERDE: &str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";

/// Partitioned tables: name, days, and the countries of each day, if there are any.
const TABLES: [(&str, u32, &[&str]); 4] =
    [("orders", 90, &[]), ("visits", 20, &["at", "de", "fr", "it"]), ("stock", 40, &[]), ("returns", 20, &[])];
/// A table without partitions.
const PLAIN_TABLE: &str = "customers";
/// Tables of all kinds.
pub const TABLES_IN_ALL: u64 = TABLES.len() as u64 + 1;

/// The value of the partition key of a day.
pub fn day(number: u32) -> String {
    format!("2026-{:02}-{:02}", 1 + number / DAYS_A_MONTH, 1 + number % DAYS_A_MONTH)
}

/// The lake.
pub struct Shop {
    folder: PathBuf,
    metastore: Box<dyn Metastore>,
    log: Log,
}

impl Shop {
    /// Builds it. Returns how much data there is, and how many partitions.
    pub async fn build(folder: &Path) -> Result<(Self, Amount, u64)> {
        let file = folder.join(METASTORE);
        let url = format!("sqlite://{}", file.display());
        open::init(&url).await.map_err(failure)?;
        let metastore = open::open(&url, &Default::default()).await.map_err(failure)?;
        let mut shop = Self { folder: folder.to_owned(), metastore, log: Log::open(&file).await? };
        shop.apply(&[Change::PutDatabase(shop.database())]).await?;
        let (mut whole, mut partitions) = (Amount::default(), 0);
        for (name, days, countries) in TABLES {
            let keys: &[&str] = if countries.is_empty() { &["dt"] } else { &["dt", "country"] };
            let table = shop.make_table(name, keys).await?;
            let each = match countries {
                [] => (0..days).map(|at| vec![day(at)]).collect::<Vec<_>>(),
                countries => {
                    let of_day = |at| countries.iter().map(move |country| vec![day(at), (*country).to_owned()]);
                    (0..days).flat_map(of_day).collect()
                }
            };
            partitions += each.len() as u64;
            whole += shop.add_partitions(&table, each).await?;
        }
        shop.make_table(PLAIN_TABLE, &[]).await?;
        whole += shop.write(vec![shop.lake(PLAIN_TABLE).join("part-00000.parquet")], false).await?;
        Ok((shop, whole, partitions))
    }

    fn lake(&self, table: &str) -> PathBuf {
        self.folder.join(LAKE).join(format!("{DATABASE}.db")).join(table)
    }

    fn database(&self) -> Database {
        Database {
            name: DatabaseName::new(DATABASE),
            description: Some("A shop".to_owned()),
            location: Some(format!("file:{}/{LAKE}/{DATABASE}.db", self.folder.display())),
            managed_location: None,
            parameters: Parameters::default(),
            owner: Some(Principal { name: "etl".to_owned(), kind: PrincipalKind::User }),
            create_time: Some(i64::from(MADE)),
            kind: DatabaseKind::Native,
            unknown: UnknownFields::default(),
        }
    }

    async fn make_table(&mut self, name: &str, keys: &[&str]) -> Result<Table> {
        let table = Table {
            name: TableName::new(DATABASE, name),
            table_type: Some("EXTERNAL_TABLE".to_owned()),
            owner: Some(Principal { name: "etl".to_owned(), kind: PrincipalKind::User }),
            create_time: MADE,
            last_access_time: 0,
            retention: 0,
            storage: StorageDescriptor {
                columns: Arc::new(rows::COLUMNS.iter().map(|(name, kind)| column(name, kind)).collect()),
                location: Some(format!("file:{}", self.lake(name).display())),
                input_format: Some(INPUT.to_owned()),
                output_format: Some(OUTPUT.to_owned()),
                bucket_count: -1,
                serde: SerDe { library: Some(SERDE.to_owned()), ..SerDe::default() },
                ..StorageDescriptor::default()
            },
            partition_keys: keys.iter().map(|key| column(key, "string")).collect(),
            // As Hive makes external tables whose files it may delete.
            parameters: parameters(&[("EXTERNAL", "TRUE"), ("external.table.purge", "TRUE")]),
            view_original_text: None,
            view_expanded_text: None,
            rewrite_enabled: false,
            creation_metadata: None,
            write_id: 0,
            unknown: UnknownFields::default(),
        };
        self.apply(&[Change::PutTable(Box::new(table.clone()))]).await?;
        self.log.add(Happened::table_made(&table)?).await?;
        Ok(table)
    }

    /// A table as it is now.
    pub async fn table(&self, name: &str) -> Result<Table> {
        let snapshot = self.metastore.snapshot().await.map_err(failure)?;
        table_in(snapshot.as_ref(), name).await
    }

    /// Adds partitions by their values, with a file each.
    pub async fn add_partitions(&mut self, table: &Table, each: Vec<Vec<String>>) -> Result<Amount> {
        let partitions = each.into_iter().map(|values| partition(table, values)).collect::<Result<Vec<_>>>()?;
        let files = partitions.iter().map(|one| Ok(folder_of(&one.storage)?.join("part-00000.parquet")));
        let files = files.collect::<Result<Vec<_>>>()?;
        let added = self.write(files, table.storage.columns.len() > rows::COLUMNS.len()).await?;
        let happened = Happened::partitions_added(table, &partitions)?;
        self.apply(&[Change::PutPartitions { table: table.name.clone(), partitions: partitions.clone() }]).await?;
        self.log.add(happened).await?;
        Ok(added)
    }

    /// Drops a partition with its file.
    pub async fn drop_partition(&mut self, table: &Table, values: &[&str]) -> Result<()> {
        let partition = partition(table, owned(values))?;
        let name = name_of(table, &partition.values)?;
        self.apply(&[Change::DropPartitions { table: table.name.clone(), names: vec![name] }]).await?;
        self.log.add(Happened::partition_dropped(table, &partition)?).await?;
        let folder = folder_of(&partition.storage)?;
        on_disk(move || std::fs::remove_dir_all(folder)).await
    }

    /// Adds a file to a partition; an event tells of it or not.
    pub async fn insert(&mut self, table: &Table, values: &[&str], file: &str, with_event: bool) -> Result<Amount> {
        let partition = partition(table, owned(values))?;
        let path = folder_of(&partition.storage)?.join(file);
        let shown = format!("file:{}", path.display());
        let added = self.write(vec![path], table.storage.columns.len() > rows::COLUMNS.len()).await?;
        if with_event {
            self.log.add(Happened::inserted(table, &partition, &shown)?).await?;
        }
        Ok(added)
    }

    /// Gives a table another name. Its folder stays, as that of an external table does.
    pub async fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let before = self.table(from).await?;
        let mut after = before.clone();
        after.name = TableName::new(DATABASE, to);
        self.apply(&[Change::RenameTable { from: before.name.clone(), to: after.name.clone() }]).await?;
        self.log.add(Happened::table_altered(&before, &after)?).await
    }

    /// Adds the column of [`rows::ADDED`] to a table; partitions that are there stay as they are. Returns the table.
    pub async fn add_column(&mut self, name: &str) -> Result<Table> {
        let before = self.table(name).await?;
        let mut after = before.clone();
        let mut columns = after.storage.columns.as_ref().clone();
        columns.push(column(rows::ADDED.0, rows::ADDED.1));
        after.storage.columns = Arc::new(columns);
        self.apply(&[Change::PutTable(Box::new(after.clone()))]).await?;
        self.log.add(Happened::table_altered(&before, &after)?).await?;
        Ok(after)
    }

    async fn apply(&self, changes: &[Change]) -> Result<()> {
        self.metastore.apply(changes).await.map_err(failure)
    }

    async fn write(&self, files: Vec<PathBuf>, with_added: bool) -> Result<Amount> {
        let written = move || {
            let mut amount = Amount::default();
            for path in files {
                amount.add(rows::write(&path, with_added)?);
            }
            Ok(amount)
        };
        on_disk(written).await
    }
}

/// The replica, looked at and damaged from outside.
pub struct Replica(PathBuf);

impl Replica {
    /// That in the demo's folder.
    pub fn of(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Its data.
    pub fn data(&self) -> PathBuf {
        self.0.join(REPLICA)
    }

    async fn metastore(&self) -> Result<Box<dyn Metastore>> {
        let url = format!("sqlite://{}", self.0.join(REPLICA_METASTORE).display());
        open::open(&url, &Default::default()).await.map_err(failure)
    }

    /// How many partitions a table has.
    pub async fn partitions(&self, table: &str) -> Result<u64> {
        let metastore = self.metastore().await?;
        let snapshot = metastore.snapshot().await.map_err(failure)?;
        let names = snapshot.partition_names(&TableName::new(DATABASE, table)).await.map_err(failure)?;
        Ok(names.len() as u64)
    }

    /// The columns of a table.
    pub async fn columns(&self, table: &str) -> Result<u64> {
        let metastore = self.metastore().await?;
        let snapshot = metastore.snapshot().await.map_err(failure)?;
        Ok(table_in(snapshot.as_ref(), table).await?.storage.columns.len() as u64)
    }

    /// Drops a partition from its metastore; the files stay.
    pub async fn forget_partition(&self, table: &str, values: &[&str]) -> Result<()> {
        let metastore = self.metastore().await?;
        let snapshot = metastore.snapshot().await.map_err(failure)?;
        let table = table_in(snapshot.as_ref(), table).await?;
        drop(snapshot);
        let names = vec![name_of(&table, &owned(values))?];
        metastore.apply(&[Change::DropPartitions { table: table.name, names }]).await.map_err(failure)
    }
}

/// The policy between the lake and its replica.
pub fn policy(folder: &Path, options: &str) -> String {
    let folder = folder.display();
    format!(
        r#"name = "{DATABASE}"
state = "{folder}/state"
databases = ["{DATABASE}"]
source.metastore = "sqlite://{folder}/{METASTORE}"
target.metastore = "sqlite://{folder}/{REPLICA_METASTORE}"
[[locations]]
from = "file:{folder}/{LAKE}"
to   = "file:{folder}/{REPLICA}"
{options}"#
    )
}

async fn table_in(snapshot: &dyn Snapshot, name: &str) -> Result<Table> {
    let found = snapshot.tables(&DatabaseName::new(DATABASE), &[name.to_owned()]).await.map_err(failure)?.found.pop();
    found.ok_or_else(|| Failure::new(ExitCode::Failed, format!("there is no table {DATABASE}.{name}")))
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn column(name: &str, kind: &str) -> Column {
    Column { name: name.to_owned(), type_name: kind.to_owned(), comment: None, unknown: UnknownFields::default() }
}

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn name_of(table: &Table, values: &[String]) -> Result<PartitionName> {
    let keys = table.partition_keys.iter().map(|key| key.name.as_str());
    PartitionName::of(keys, values).map_err(|error| Failure::new(ExitCode::Failed, error.to_string()))
}

fn partition(table: &Table, values: Vec<String>) -> Result<Partition> {
    let name = name_of(table, &values)?;
    let mut storage = table.storage.clone();
    storage.location = table.storage.location.as_ref().map(|location| format!("{location}/{name}"));
    Ok(Partition {
        values,
        create_time: MADE,
        last_access_time: 0,
        storage,
        parameters: Parameters::default(),
        write_id: 0,
        unknown: UnknownFields::default(),
    })
}

fn folder_of(storage: &StorageDescriptor) -> Result<PathBuf> {
    let location = storage.location.as_deref().and_then(|location| location.strip_prefix("file:"));
    let folder = location.ok_or_else(|| Failure::new(ExitCode::Failed, "a partition of the demo has no folder"))?;
    Ok(PathBuf::from(folder))
}
