//! What a reader of a metastore finds in its tables: the files where it says that they are.

use super::{block_on, files};
use crate::metastores::{adapters, contract};
use metasync::model::StorageDescriptor;
use metasync::object::Object;
use std::collections::BTreeMap;
use std::path::Path;

/// Of each table without partitions, and of each partition, in the databases whose names begin with this: the digests of its
/// files, sorted. Files below the folder count, as they do for engines that read what is below; other partitions' do not, which
/// have folders of their own.
///
/// # Panics
/// If the metastore cannot be read.
pub fn rows(url: &str, database: &str) -> BTreeMap<String, Vec<String>> {
    let objects = block_on(async {
        let metastore = adapters::open_url(url).await;
        let snapshot = metastore.snapshot().await.expect("a snapshot");
        contract::read_back(snapshot.as_ref(), database).await.expect("objects")
    });
    let data = objects.iter().filter_map(|object| match object {
        Object::Table(table) if table.partition_keys.is_empty() => {
            Some((table.name.to_string(), in_folder(&table.storage)))
        }
        Object::Partition { table, partition_name, partition } => {
            Some((format!("{table}/{partition_name}"), in_folder(&partition.storage)))
        }
        _ => None,
    });
    data.collect()
}

fn in_folder(storage: &StorageDescriptor) -> Vec<String> {
    let Some(location) = &storage.location else { return Vec::new() };
    let mut digests: Vec<String> = files(Path::new(location.trim_start_matches("file:"))).into_values().collect();
    digests.sort();
    digests
}
