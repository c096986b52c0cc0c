//! Mixed DDL through a Hive Metastore, by several writers at once, so that its event log is the real one.
//!
//! Of ten steps of a writer three add a partition, two alter three partitions, one each drops a partition, alters, renames, makes
//! and drops a table. Each goes to the next of the writer's tables in turn: all are changed, and their number stays.

use super::{fill, objects};
use anyhow::{Context as _, Error, Result};
use distcp::settings::Environment;
use metasync::metastore::{Change, Metastore, open};
use metasync::model::{DatabaseName, Partition, PartitionName, Table};
use std::collections::VecDeque;

/// Tables of the source before.
pub const TABLES: usize = 300;
/// Partitions of each before.
pub const PARTITIONS: usize = 20;
/// Writers at once.
pub const WRITERS: usize = 4;
/// Steps of each writer between two looks at how many events there are.
pub const ROUND: usize = 25;
/// Partitions that one statement alters.
const ALTERED: usize = 3;

/// All of them.
pub struct Writers(Vec<Writer>);

struct Writer {
    metastore: Box<dyn Metastore>,
    database: DatabaseName,
    root: String,
    number: usize,
    tables: VecDeque<Known>,
    steps: usize,
}

/// A table as it is, with the numbers of its partitions.
struct Known {
    table: Table,
    partitions: VecDeque<usize>,
    next: usize,
}

impl Writers {
    /// Writers over tables that [`fill::many_tables`] made with [`PARTITIONS`] each.
    pub async fn new(thrift: &str, database: &str, tables: usize, root: &str) -> Result<Self> {
        let database = DatabaseName::new(database);
        let mut writers = Vec::new();
        for number in 0..WRITERS {
            let mine = (number..tables).step_by(WRITERS).map(|at| Known {
                table: objects::table(database.table(&format!("t{at:05}")), root),
                partitions: (0..PARTITIONS).collect(),
                next: PARTITIONS,
            });
            writers.push(Writer {
                tables: mine.collect(),
                metastore: open::open(thrift, &Environment::default()).await?,
                database: database.clone(),
                root: root.to_owned(),
                number,
                steps: 0,
            });
        }
        Ok(Self(writers))
    }

    /// So many steps of each.
    pub async fn write(&mut self, steps: usize) -> Result<()> {
        let each = self.0.iter_mut().map(|writer| async move {
            for _ in 0..steps {
                writer.step().await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(each).await.map(|_| ())
    }
}

impl Writer {
    async fn step(&mut self) -> Result<()> {
        let mut known = self.tables.pop_front().context("no table is left")?;
        let step = self.steps;
        self.steps += 1;
        let name = known.table.name.clone();
        let change = match step % 10 {
            0 | 3 | 6 => {
                known.partitions.push_back(known.next);
                known.next += 1;
                fill::put(&known.table, [known.next - 1])
            }
            1 | 5 => {
                let some = known.partitions.iter().rev().take(ALTERED);
                let altered = |mut partition: Partition| {
                    partition.parameters.insert("numRows".to_owned(), step.to_string());
                    partition
                };
                let partitions = some.map(|at| altered(objects::partition(&known.table, *at))).collect();
                Change::PutPartitions { table: name, partitions }
            }
            2 => {
                let gone = known.partitions.pop_front().map(|at| objects::partition(&known.table, at).values);
                let keys = known.table.partition_keys.iter().map(|key| key.name.as_str());
                let names = gone.iter().map(|values| PartitionName::of(keys.clone(), values));
                Change::DropPartitions { table: name, names: names.collect::<Result<_, _>>().map_err(Error::msg)? }
            }
            4 => {
                known.table.parameters.insert("step".to_owned(), step.to_string());
                Change::PutTable(Box::new(known.table.clone()))
            }
            7 => {
                let from = name;
                known.table.name = self.database.table(&format!("r{}_{step:06}", self.number));
                Change::RenameTable { from, to: known.table.name.clone() }
            }
            8 => {
                let table = objects::table(self.database.table(&format!("n{}_{step:06}", self.number)), &self.root);
                self.tables.push_back(Known { table: table.clone(), partitions: VecDeque::new(), next: 0 });
                Change::PutTable(Box::new(table))
            }
            _ => {
                self.metastore.apply(&[Change::DropTable(name)]).await?;
                return Ok(());
            }
        };
        self.metastore.apply(&[change]).await?;
        self.tables.push_back(known);
        Ok(())
    }
}
