//! The Thrift adapter against real Hive metastores 2.3, 3.1 and 4.0: the contract of metastores, and what only real servers
//! show. Which server: `UNDERSTUDY_TEST_HMS_{23,31,40}_POSTGRES_THRIFT`.

use anyhow::{Context as _, Result};
use metasync::metastore::thrift::{Options, ThriftMetastore};
use metasync::metastore::Version;
use tests::metastores::contract;

async fn metastore(version: &str) -> Result<ThriftMetastore> {
    let variable = format!("UNDERSTUDY_TEST_HMS_{version}_POSTGRES_THRIFT");
    let url = std::env::var(&variable).with_context(|| variable)?;
    Ok(ThriftMetastore::open(&url, Options::default()).await?)
}

async fn keeps_the_contract(version: &str, expected: Version) -> Result<()> {
    let metastore = metastore(version).await?;
    assert_eq!(metastore.version(), expected);
    let name = format!("thrift_contract_{version}");
    let folder = tempfile::tempdir()?;
    contract::run(&metastore, &name, &format!("file:{}", folder.path().display())).await
}

#[tokio::test]
async fn hive_2_3_keeps_the_contract() -> Result<()> {
    keeps_the_contract("23", Version::V2_3).await
}

#[tokio::test]
async fn hive_3_1_keeps_the_contract() -> Result<()> {
    keeps_the_contract("31", Version::V3_1).await
}

#[tokio::test]
async fn hive_4_0_keeps_the_contract() -> Result<()> {
    keeps_the_contract("40", Version::V4_0).await
}
