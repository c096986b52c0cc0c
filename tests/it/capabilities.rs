//! The table of what stores can do: `docs/stores.md` holds it, the code makes it.

use std::collections::BTreeMap;
use std::path::Path;

use distcp::store::Capabilities;
use distcp::store::Store;
use distcp::store::azure::{AzureConfig, AzureStore};
use distcp::store::gcs::{GcsConfig, GcsStore};
use distcp::store::hdfs::{HdfsConfig, HdfsStore};
use distcp::store::local::{LocalOptions, LocalStore};
use distcp::store::s3::{S3Config, S3Store};

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Of every kind, opened as configured: nothing is asked of a server.
fn all() -> Vec<Capabilities> {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::open(folder.path(), LocalOptions::default()).unwrap();
    let login = options(&[("access_key_id", "id"), ("secret_access_key", "key"), ("endpoint", "http://127.0.0.1:1")]);
    let s3 = S3Store::open(S3Config { bucket: "bucket".into(), options: login, ..S3Config::default() }).unwrap();
    let azure = AzureConfig {
        account: Some("account".into()),
        container: "container".into(),
        options: options(&[("account_key", "a2V5"), ("endpoint", "http://127.0.0.1:1/account")]),
        ..AzureConfig::default()
    };
    let gcs = GcsConfig {
        bucket: "bucket".into(),
        options: options(&[("base_url", "http://127.0.0.1:1"), ("bearer_token", "token")]),
        ..GcsConfig::default()
    };
    let hdfs =
        HdfsConfig { authority: "127.0.0.1:1".into(), path: "folder".into(), options: BTreeMap::new(), now_ns: || 0 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    [
        local.capabilities().clone(),
        s3.capabilities().clone(),
        AzureStore::open(azure).unwrap().capabilities().clone(),
        GcsStore::open(gcs).unwrap().capabilities().clone(),
        HdfsStore::open(hdfs).unwrap().capabilities().clone(),
    ]
    .into()
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn bytes(value: u64) -> String {
    let (unit, name) = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1, "bytes")]
        .into_iter()
        .find(|(unit, _)| value >= *unit)
        .unwrap_or((1, "bytes"));
    match value {
        u64::MAX => "any".to_owned(),
        0 => "-".to_owned(),
        _ if value.is_multiple_of(unit) => format!("{} {name}", value / unit),
        _ => format!("{:.1} {name}", value as f64 / unit as f64),
    }
}

fn table(stores: &[Capabilities]) -> String {
    type Row = (&'static str, fn(&Capabilities) -> String);
    let rows: [Row; 15] = [
        ("listed in the order of keys", |c| yes(c.ordered_list)),
        ("listing begins after any key", |c| yes(c.start_after)),
        ("tells the folders of one level", |c| yes(c.levels)),
        ("real folders", |c| yes(c.folders)),
        ("create only if absent", |c| yes(c.conditional_create)),
        ("replace only if unchanged", |c| yes(c.conditional_replace)),
        ("read one version, refused by the store otherwise", |c| yes(c.conditional_read)),
        ("copies by itself", |c| yes(c.server_copy)),
        ("the largest that it copies in one request", |c| bytes(c.max_copy_bytes)),
        ("names the parts of an upload it holds", |c| yes(c.lists_parts)),
        ("ETags", |c| yes(c.etags)),
        ("headers and user metadata", |c| yes(c.attributes)),
        ("deletes in one request", |c| c.delete_batch.to_string()),
        ("the largest object in one request", |c| bytes(c.max_put_bytes)),
        ("steps of modification times", |c| format!("{} ns", c.time_step_ns)),
    ];
    let mut text = String::from("|  |");
    stores.iter().for_each(|store| text.push_str(&format!(" {} |", store.name)));
    text.push_str("\n|---|");
    stores.iter().for_each(|_| text.push_str("---|"));
    for (name, cell) in rows {
        text.push_str(&format!("\n| {name} |"));
        stores.iter().for_each(|store| text.push_str(&format!(" {} |", cell(store))));
    }
    text
}

#[test]
fn the_documentation_has_the_table_of_the_code() {
    let documented = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/stores.md")).unwrap();
    let table = table(&all());
    assert!(documented.contains(&table), "docs/stores.md should hold\n{table}");
}
