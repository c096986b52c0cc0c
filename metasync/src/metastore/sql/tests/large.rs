//! Many at a time.

use super::*;
use crate::metastore::CHUNK;

#[tokio::test]
async fn a_table_of_ten_thousand_columns() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let wide = Arc::new((0..10_000).map(|at| column(&format!("c{at}"), "int")).collect::<Vec<_>>());
    let table = table("wide", &wide, &[]);
    metastore.apply(&[Change::PutTable(Box::new(table.clone()))]).await.unwrap();
    assert_eq!(read_table(&metastore, "wide").await, Some(table));
}

#[tokio::test]
async fn many_chunks_of_partitions_in_one_batch() {
    let folder = tempfile::tempdir().unwrap();
    let metastore = open(folder.path()).await;
    let cols = columns(&["a"]);
    let mut changes = vec![Change::PutTable(Box::new(table("t", &cols, &["p"])))];
    let all: Vec<Partition> = (0..3 * CHUNK).map(|at| partition(&cols, &[&format!("{at:05}")])).collect();
    for chunk in all.chunks(CHUNK) {
        changes.push(Change::PutPartitions { table: TableName::new("d", "t"), partitions: chunk.to_vec() });
    }
    metastore.apply(&changes).await.unwrap();
    assert_eq!(read_partitions(&metastore, "t").await, all);
    assert_eq!(rows(&metastore).await.get("CDS"), Some(&1));
}
