//! `metasync run` and what stores keep beside bytes: modes and times of files, metadata of objects, and how old a copy is
//! that the storage makes by itself.

use distcp::store::s3::{S3Config, S3Store};
use distcp::store::{PutOptions, Store as _};
use manifest::{Attributes, ObjectKey};
use metasync::metastore::Change;
use metasync::model::TableName;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use tests::cli::Shell;
use tests::lake::Lake;
use tests::metastores::objects;
use tests::proxy::{Answer, Proxy};
use tests::services::{self, Azure, S3};
use tests::trees::set_mtime;

/// A policy from one place to another, with options.
fn policy(lake: &Lake, from: &str, to: &str, options: &str) {
    let root = lake.root().display();
    let text = format!(
        "name = \"sales\"\nstate = \"{root}/state\"\ndatabases = [\"sales\"]\n\
         source.metastore = \"sqlite://{root}/source.db\"\ntarget.metastore = \"sqlite://{root}/target.db\"\n\
         [[locations]]\nfrom = \"{from}\"\nto = \"{to}\"\n[options]\n{options}\n"
    );
    std::fs::write(lake.root().join("p.toml"), text).unwrap();
}

/// A table `sales.t` with its files at a place.
fn table_at(lake: &Lake, place: &str) {
    lake.database("sales");
    let mut database = objects::database(&metasync::model::DatabaseName::new("sales"), place);
    database.parameters.clear();
    let table = objects::table(TableName::new("sales", "t"), place, &[]);
    lake.apply(&[Change::PutDatabase(database), Change::PutTable(Box::new(table))]);
}

fn run_in(shell: &Shell) -> tests::cli::Ran {
    shell.metasync(&["run", "p.toml", "--json"])
}

#[test]
fn case_63_modes_and_times_of_local_files_are_kept() {
    let lake = Lake::new();
    lake.database("sales");
    lake.table("t", &[]);
    let kept = |path: &Path| {
        let metadata = path.metadata().unwrap();
        let time = metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        (metadata.permissions().mode() & 0o777, time)
    };
    let files = [("private", 0o600, 1), ("shared", 0o664, 1_600_000_000), ("run_me", 0o755, 1_700_000_000)];
    for (name, mode, seconds) in files {
        let path = lake.source(&format!("sales.db/t/{name}"));
        lake.write(&format!("sales.db/t/{name}"), name);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        set_mtime(&path, UNIX_EPOCH + Duration::new(seconds, 123_456_789));
    }
    lake.metasync("run", &[]).expect(0);
    for (name, mode, seconds) in files {
        let found = kept(&lake.target(&format!("sales.db/t/{name}")));
        assert_eq!(found, (mode, Duration::new(seconds, 123_456_789)), "{name}");
        assert_eq!(found, kept(&lake.source(&format!("sales.db/t/{name}"))), "{name}");
    }
    lake.assert_in_step();
}

fn bucket(server: &S3, name: &str) -> S3Store {
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("access_key_id".to_owned(), server.access_key.clone()),
        ("secret_access_key".to_owned(), server.secret_key.clone()),
    ]);
    S3Store::open(S3Config { bucket: name.to_owned(), options, ..S3Config::default() }).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn case_63_metadata_of_objects_is_kept_between_buckets_and_from_files() {
    let Some(server) = services::s3() else { return };
    let lake = Lake::new();
    let (from, to) = (server.fresh_bucket("lake"), server.fresh_bucket("replica"));
    let shell = lake.shell.clone().with_s3(&server);
    table_at(&lake, &format!("s3a://{from}/wh"));
    let attributes: Attributes = [
        ("content-type", "application/vnd.apache.parquet"),
        ("cache-control", "max-age=60"),
        ("meta:owner", "etl"),
        ("meta:note", "ünï  two blanks"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let key = ObjectKey::from("wh/sales.db/t/part-0");
    let head = |name: &str| block_on(async { bucket(&server, name).head(&key).await }).unwrap();
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    block_on(async { bucket(&server, &from).put(&key, "rows".into(), &options).await }).unwrap();
    policy(&lake, &format!("s3://{from}/wh"), &format!("s3://{to}/wh"), "");
    run_in(&shell).expect(0);
    assert_eq!(head(&to).attributes, attributes);
    assert_eq!(run_in(&shell).expect(0).number("requests/get"), 0);
    server.remove_bucket(&from);

    // A bucket holds what a file has as metadata.
    let lake = Lake::new();
    let shell = lake.shell.clone().with_s3(&server);
    lake.database("sales");
    lake.table("t", &[]);
    lake.write("sales.db/t/part-0", "of a file");
    let file = lake.source("sales.db/t/part-0");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    set_mtime(&file, UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    policy(&lake, &format!("file:{}/source", lake.root().display()), &format!("s3://{to}/wh"), "");
    run_in(&shell).expect(5);
    shell.metasync(&["run", "p.toml", "--adopt"]).expect(0);
    let kept = head(&to).attributes;
    assert_eq!(kept.get("meta:understudy-mode").map(String::as_str), Some("0640"), "{kept:?}");
    assert_eq!(kept.get("meta:mtime").map(String::as_str), Some("1600000000.000000000"), "{kept:?}");
    server.remove_bucket(&to);
}

/// What an account says of its second location.
fn statistics(status: &'static str) -> Answer {
    Answer::Say("200 OK", "application/xml", status)
}

const LIVE: &str = "<?xml version=\"1.0\"?><StorageServiceStats><GeoReplication><Status>live</Status>\
    <LastSyncTime>Mon, 01 Jan 2024 00:00:00 GMT</LastSyncTime></GeoReplication></StorageServiceStats>";
const UNAVAILABLE: &str = "<?xml version=\"1.0\"?><StorageServiceStats><GeoReplication><Status>unavailable</Status>\
    <LastSyncTime></LastSyncTime></GeoReplication></StorageServiceStats>";

/// A shell whose account says this of its second location, by the server's own path.
fn account(server: &Azure, home: &Shell, says: &'static str) -> (Proxy, Shell) {
    let (service, account) = server.endpoint.rsplit_once('/').unwrap();
    let proxy = Proxy::before(service, move |request| match request.target.contains("comp=stats") {
        true => statistics(says),
        false => Answer::Pass,
    });
    let behind = Azure { endpoint: format!("{}/{account}", proxy.endpoint()), ..server.clone() };
    let shell = home.clone().with_azure(&behind);
    (proxy, shell)
}

#[test]
fn rule_34_as_of_is_never_newer_than_the_storages_last_synchronisation() {
    let Some(server) = services::azure() else { return };
    let lake = Lake::new();
    let container = server.fresh_container("wh");
    let place = |account: &str| format!("abfss://{container}@{account}.dfs.core.windows.net/wh");
    let (first, second) = (place(&server.account), place(&format!("{}-secondary", server.account)));
    table_at(&lake, &first);
    let put = |name: &str| {
        let path = format!("{container}/wh/sales.db/t/{name}");
        assert_eq!(block_on(server.send(http::Method::PUT, &path, &[("x-ms-blob-type", "BlockBlob")], "rows")), 201);
    };
    put("part-0");
    policy(&lake, &first, &second, "data = false");
    let (_proxy, shell) = account(&server, &lake.shell, LIVE);
    let ran = run_in(&shell).expect(0);
    assert!(ran.summary()["behind"].is_null(), "{}", ran.stdout);
    assert_eq!(ran.summary()["as_of"], "2024-01-01T00:00:00Z", "{}", ran.stdout);
    put("part-1");
    let again = run_in(&shell).expect(0);
    assert_eq!(again.summary()["as_of"], "2024-01-01T00:00:00Z", "{}", again.stdout);
    shell.metasync(&["verify", "p.toml"]).expect(0);
    let there = lake.sql("target", "SELECT LOCATION FROM SDS").concat();
    assert_eq!(there, [format!("{second}/sales.db/t")]);
    // Who does not say how old it is vouches for nothing.
    let (_proxy, unsure) = account(&server, &lake.shell, UNAVAILABLE);
    let failed = run_in(&unsure);
    assert!(failed.code != 0 && failed.stderr.contains("unavailable"), "{failed:?}");
    assert_eq!(lake.status()["as_of"], "2024-01-01T00:00:00Z");
    // Nothing is copied there, ever.
    policy(&lake, &first, &second, "");
    let refused = run_in(&shell).expect(2);
    assert!(refused.last_word().contains("can only be read"), "{}", refused.stderr);
}

#[test]
fn rule_34_a_second_location_as_the_source_makes_as_of_no_newer_than_it_is() {
    let Some(server) = services::azure() else { return };
    let lake = Lake::new();
    let container = server.fresh_container("second");
    let second = format!("abfss://{container}@{}-secondary.dfs.core.windows.net/wh", server.account);
    table_at(&lake, &second);
    let path = format!("{container}/wh/sales.db/t/part-0");
    assert_eq!(block_on(server.send(http::Method::PUT, &path, &[("x-ms-blob-type", "BlockBlob")], "rows")), 201);
    policy(&lake, &second, &format!("file:{}/target", lake.root().display()), "");
    let (_proxy, shell) = account(&server, &lake.shell, LIVE);
    let ran = run_in(&shell).expect(0);
    assert_eq!((&ran.summary()["as_of"], ran.number("counts/copied")), (&json!("2024-01-01T00:00:00Z"), 1));
    assert_eq!(std::fs::read_to_string(lake.target("sales.db/t/part-0")).unwrap(), "rows");
}
