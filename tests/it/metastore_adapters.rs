//! Every adapter over something real: the contract of each, and what each can hand to any other.

use metasync::held::{Done, hold};
use metasync::metastore::Metastore;
use metasync::object::Object;
use tests::hms::{Kind, Version};
use tests::metastores::adapters::{ALL, Adapter, Opened};
use tests::metastores::contract::{self, as_held, clear, ensure_same, put, read_back};
use tests::metastores::objects::everything;

/// A name that no other test uses on a server that is shared.
fn own_name(what: &str) -> String {
    format!("t_{}_{:08x}_{what}", std::process::id(), rand::random::<u32>())
}

/// A folder that a metastore may make folders in, as Hadoop writes it: servers make this of every other form.
fn root(folder: &tempfile::TempDir) -> String {
    format!("file:{}", folder.path().display())
}

async fn keeps_the_contract(adapter: Adapter) {
    let Some(opened) = adapter.open().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let name = own_name("contract");
    if let Err(error) = contract::run(opened.metastore.as_ref(), &name, &root(&folder)).await {
        panic!("{adapter:?}: {error:#}");
    }
}

macro_rules! contracts {
    ($($name:ident: $adapter:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            keeps_the_contract($adapter).await;
        })*
    };
}

contracts! {
    sqlite_keeps_the_contract: Adapter::Sqlite;
    sql_4_0_postgres_keeps_the_contract: Adapter::Sql(Version::V40, Kind::Postgres);
    sql_4_0_mariadb_keeps_the_contract: Adapter::Sql(Version::V40, Kind::MariaDb);
    sql_3_1_postgres_keeps_the_contract: Adapter::Sql(Version::V31, Kind::Postgres);
    sql_3_1_mariadb_keeps_the_contract: Adapter::Sql(Version::V31, Kind::MariaDb);
    sql_2_3_postgres_keeps_the_contract: Adapter::Sql(Version::V23, Kind::Postgres);
    sql_2_3_mariadb_keeps_the_contract: Adapter::Sql(Version::V23, Kind::MariaDb);
    thrift_4_0_keeps_the_contract: Adapter::Thrift(Version::V40, Kind::Postgres);
    thrift_4_0_over_mariadb_keeps_the_contract: Adapter::Thrift(Version::V40, Kind::MariaDb);
    thrift_3_1_keeps_the_contract: Adapter::Thrift(Version::V31, Kind::Postgres);
    thrift_3_1_over_mariadb_keeps_the_contract: Adapter::Thrift(Version::V31, Kind::MariaDb);
    thrift_2_3_keeps_the_contract: Adapter::Thrift(Version::V23, Kind::Postgres);
    thrift_2_3_over_mariadb_keeps_the_contract: Adapter::Thrift(Version::V23, Kind::MariaDb);
}

async fn found(metastore: &dyn Metastore, name: &str) -> anyhow::Result<Vec<Object>> {
    read_back(metastore.snapshot().await?.as_ref(), name).await
}

/// Puts what one metastore holds into another, and reads it there.
async fn carry(objects: &[Object], name: &str, to: &Opened) -> anyhow::Result<()> {
    let target = to.metastore.as_ref();
    put(target, objects).await?;
    let there = found(target, name).await?;
    clear(target, name).await?;
    ensure_same(&as_held(objects, target), &there)
}

/// Each object by itself moves the fingerprint of a database; reading does not.
async fn fingerprint_moves(adapter: Adapter) {
    let Some(opened) = adapter.open().await else { return };
    let metastore = opened.metastore.as_ref();
    let folder = tempfile::tempdir().unwrap();
    let name = own_name("moves");
    let fingerprint = async || metastore.snapshot().await.unwrap().fingerprint().await.unwrap();
    let mut before = fingerprint().await.expect("a database has one");
    assert_eq!(fingerprint().await.as_ref(), Some(&before), "{adapter:?}: nothing changed");
    let (last, first): (Vec<Object>, Vec<Object>) =
        everything(&name, &root(&folder)).into_iter().partition(Object::is_foreign_key);
    for object in first.into_iter().chain(last) {
        let is_privilege = matches!(object, Object::Role(_) | Object::RoleGrant(_) | Object::Grant(_));
        let Ok((held, _)) = hold(object, metastore.holder()) else { continue };
        let what = held.to_string();
        metastore.apply(&[held.into_change()]).await.unwrap_or_else(|error| panic!("{adapter:?}: {what}: {error}"));
        let after = fingerprint().await.unwrap();
        assert_eq!(after == before, is_privilege, "{adapter:?}: {what}");
        before = after;
    }
    clear(metastore, &name).await.unwrap();
}

#[tokio::test]
async fn rule_25_a_fingerprint_moves_with_every_object() {
    for adapter in [
        Adapter::Sqlite,
        Adapter::Sql(Version::V23, Kind::Postgres),
        Adapter::Sql(Version::V40, Kind::Postgres),
        Adapter::Sql(Version::V31, Kind::MariaDb),
    ] {
        fingerprint_moves(adapter).await;
    }
}

#[tokio::test]
async fn rule_30_every_metastore_hands_all_it_holds_to_every_other() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    let mut opened = Vec::new();
    for adapter in ALL {
        let Some(metastore) = adapter.open().await else { return };
        opened.push((adapter, metastore));
    }
    let mut failed = Vec::new();
    for (from, source) in &opened {
        let name = own_name("pair");
        put(source.metastore.as_ref(), &everything(&name, &root)).await.unwrap_or_else(|e| panic!("{from:?}: {e:#}"));
        let objects = found(source.metastore.as_ref(), &name).await.unwrap_or_else(|e| panic!("{from:?}: {e:#}"));
        clear(source.metastore.as_ref(), &name).await.unwrap_or_else(|e| panic!("{from:?}: {e:#}"));
        for (to, target) in &opened {
            if let Err(error) = carry(&objects, &name, target).await {
                failed.push(format!("{from:?} -> {to:?}: {error:#}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} pairs:\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn rule_30_what_a_version_cannot_hold_is_one_list() {
    let documented = include_str!("../../docs/metastores.md");
    for limit in metasync::held::LIMITS {
        let done = match limit.done {
            Done::Refused => "refused",
            Done::Left => "left out",
            Done::Changed => "changed",
        };
        let row = format!("| {} | {} | {done} |", limit.what, limit.versions);
        assert!(documented.contains(&row), "docs/metastores.md lacks the row\n{row}");
    }
    let rows = documented.lines().filter(|line| line.ends_with("| refused |") || line.ends_with("| left out |"));
    let changed = documented.lines().filter(|line| line.ends_with("| changed |"));
    assert_eq!(rows.count() + changed.count(), metasync::held::LIMITS.len(), "docs/metastores.md has rows too many");
}

#[test]
fn everything_uses_every_limit_that_an_object_of_hive_can_meet() {
    let oldest = metasync::held::Holder::Hive(metasync::metastore::Version::V2_3);
    let refused = everything("x", "file:///x").into_iter().filter(|object| hold(object.clone(), oldest).is_err());
    let names: Vec<String> = refused.map(|object| object.to_string()).collect();
    assert_eq!(
        names,
        [
            "constraint x_uq on x.orders",
            "constraint x_nn on x.orders",
            "constraint x_df on x.orders",
            "constraint x_ck on x.orders"
        ]
    );
}
