//! The Thrift adapter against real Hive metastores: what the contract does not ask, and only real servers show.

use anyhow::Result;
use metasync::metastore::thrift::{Options, ThriftMetastore};
use metasync::metastore::{Change, Metastore as _};
use metasync::model::DatabaseName;
use tests::hms::{self, Kind, Version};
use tests::metastores::{contract, objects};

/// A shared server; `None` if this machine cannot have it.
async fn metastore(version: Version) -> Result<Option<ThriftMetastore>> {
    let Some(shared) = hms::shared(version, Kind::Postgres) else { return Ok(None) };
    Ok(Some(ThriftMetastore::open(&shared.thrift, Options::default()).await?))
}

/// Rule 30: a server that renames a managed table moves its folder, unless it is told otherwise.
async fn a_managed_table_keeps_its_folder(version: Version) -> Result<()> {
    let Some(metastore) = metastore(version).await? else { return Ok(()) };
    let name = format!("thrift_rename_{}_{:08x}", std::process::id(), rand::random::<u32>());
    let db = DatabaseName::new(&name);
    contract::clear(&metastore, &name).await?;
    let folder = tempfile::tempdir()?;
    let root = format!("file:{}", folder.path().display());
    let mut managed = objects::table(db.table("here"), &root, &["p"]);
    managed.table_type = Some("MANAGED_TABLE".to_owned());
    managed.parameters.remove("EXTERNAL");
    let partition = objects::partition(&managed, &["1"]);
    let place = folder.path().join(format!("{name}.db/here"));
    std::fs::create_dir_all(place.join("p=1"))?;
    std::fs::write(place.join("p=1/data"), "rows")?;
    let table = managed.name.clone();
    let mut changes = vec![
        Change::PutDatabase(objects::database(&db, &root)),
        Change::PutTable(Box::new(managed.clone())),
        Change::PutPartitions { table: table.clone(), partitions: vec![partition.clone()] },
    ];
    let there = db.table("there");
    changes.push(Change::RenameTable { from: table, to: there.clone() });
    let keys = managed.partition_keys.iter().map(|key| key.name.as_str());
    let from = metasync::model::PartitionName::of(keys, &partition.values).map_err(anyhow::Error::msg)?;
    changes.push(Change::RenamePartition { table: there.clone(), from, to: vec!["2".to_owned()] });
    metastore.apply(&changes).await?;
    metastore.apply(&changes[3..4]).await?;

    assert!(place.join("p=1/data").is_file(), "the files were moved");
    let snapshot = metastore.snapshot().await?;
    let found = snapshot.tables(&db, &["there".to_owned()]).await?.found.remove(0);
    assert_eq!((&found.storage, &found.table_type), (&managed.storage, &managed.table_type));
    let names = snapshot.partition_names(&there).await?;
    let found = snapshot.partitions(&found, &names).await?.found;
    assert_eq!(found.iter().map(|found| &found.values[0]).collect::<Vec<_>>(), ["2"]);
    assert_eq!(found[0].storage.location, partition.storage.location);
    contract::clear(&metastore, &name).await?;
    assert!(place.join("p=1/data").is_file(), "a drop took the files");
    Ok(())
}

#[tokio::test]
async fn rule_30_hive_2_3_moves_and_deletes_no_files() -> Result<()> {
    a_managed_table_keeps_its_folder(Version::V23).await
}

#[tokio::test]
async fn rule_30_hive_3_1_moves_and_deletes_no_files() -> Result<()> {
    a_managed_table_keeps_its_folder(Version::V31).await
}
