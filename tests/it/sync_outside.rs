//! `metasync run` and tables and partitions that stand outside the folder of their database: one tree a pair of locations, however
//! many they are, and nothing is asked about what lies between them.

use distcp::store::s3::{S3Config, S3Store};
use distcp::store::{PutOptions, Store as _};
use futures::{StreamExt as _, stream};
use metasync::metastore::Change;
use metasync::model::TableName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::lake::Lake;
use tests::metastores::objects;
use tests::proxy::{Answer, Proxy};
use tests::services;

/// Tables outside, with as many folders of others between them.
const TABLES: usize = 30;
/// Partitions of one table, in folders that their names do not lead to, with as many of others between them.
const PARTITIONS: usize = 40;
/// Objects in each folder of others: two pages.
const BETWEEN: usize = 1100;
/// Folders of others that hold so many; the rest hold one.
const LARGE: usize = 6;

#[test]
fn tables_and_partitions_outside_are_one_tree_and_what_lies_between_is_passed_over() {
    let Some(server) = services::s3() else { return };
    let lake = Lake::new();
    let (from, to) = (server.fresh_bucket("lake"), server.fresh_bucket("replica"));
    let listings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&listings);
    let proxy = Proxy::before(&server.endpoint, move |request| {
        counted.fetch_add(usize::from(request.is_listing()), Ordering::SeqCst);
        Answer::Pass
    });
    let shell = lake.shell.clone().with_s3(&server).with("AWS_ENDPOINT_URL", proxy.endpoint());
    lake.database("sales");
    let mut keys: Vec<String> = Vec::new();
    let mut changes = Vec::new();
    let at = |name: &str, place: String, partition_keys: &[&str]| {
        let mut table = objects::table(TableName::new("sales", name), "file:/unused", partition_keys);
        table.storage.location = Some(place);
        table
    };
    for table in 0..TABLES {
        keys.push(format!("lake/raw/t{table:02}/part-0"));
        let others = if table < LARGE { BETWEEN } else { 1 };
        keys.extend((0..others).map(|file| format!("lake/raw/t{table:02}-scratch/f{file:04}")));
        changes.push(Change::PutTable(Box::new(at(
            &format!("t{table:02}"),
            format!("s3a://{from}/lake/raw/t{table:02}"),
            &[],
        ))));
    }
    let days = at("days", format!("s3://{from}/lake/days"), &["day"]);
    let stands = |day: usize| {
        let mut partition = objects::partition(&days, &[&format!("{day:02}")]);
        partition.storage.location = Some(format!("s3://{from}/lake/landing/{day:02}/good"));
        partition
    };
    for day in 0..PARTITIONS {
        keys.extend([format!("lake/landing/{day:02}/bad/f"), format!("lake/landing/{day:02}/good/f")]);
    }
    changes.push(Change::PutTable(Box::new(days.clone())));
    changes.push(Change::PutPartitions { table: days.name.clone(), partitions: (0..PARTITIONS).map(stands).collect() });
    lake.apply(&changes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = BTreeMap::from([
        ("endpoint".to_owned(), server.endpoint.clone()),
        ("access_key_id".to_owned(), server.access_key.clone()),
        ("secret_access_key".to_owned(), server.secret_key.clone()),
    ]);
    let store = |bucket: &str| {
        let config = S3Config { bucket: bucket.to_owned(), options: options.clone(), ..S3Config::default() };
        S3Store::open(config).unwrap()
    };
    let source = store(&from);
    runtime.block_on(stream::iter(&keys).for_each_concurrent(16, async |key| {
        source.put(&key.as_str().into(), "rows".into(), &PutOptions::default()).await.unwrap();
    }));
    let root = lake.root().display();
    let policy = format!(
        "name = \"sales\"\nstate = \"{root}/state\"\ndatabases = [\"sales\"]\n\
         source.metastore = \"sqlite://{root}/source.db\"\ntarget.metastore = \"sqlite://{root}/target.db\"\n\
         [[locations]]\nfrom = \"s3://{from}/lake\"\nto = \"s3://{to}/dr\"\n\
         [[locations]]\nfrom = \"file:{root}/source\"\nto = \"file:{root}/target\"\n"
    );
    std::fs::write(lake.root().join("p.toml"), policy).unwrap();
    let run = |code| shell.metasync(&["run", "p.toml", "--json"]).expect(code);

    run(0);
    let held = || -> Vec<String> {
        let pages = store(&to).list(distcp::store::ListOptions::default());
        let pages: Vec<_> = runtime.block_on(pages.collect::<Vec<_>>());
        pages.into_iter().flat_map(|page| page.unwrap()).map(|listed| listed.key.to_string()).collect()
    };
    let meant = |keys: &[String]| -> Vec<String> {
        let ours = keys.iter().filter(|key| !key.contains("-scratch/") && !key.contains("/bad/"));
        let mut ours: Vec<String> = ours.map(|key| key.replacen("lake/", "dr/", 1)).collect();
        ours.sort();
        ours
    };
    assert_eq!(held(), meant(&keys));
    // One of the database's folder, which is empty, at the most, and one of the pair.
    let trees = std::fs::read_dir(lake.root().join("state/sales/data")).unwrap().count();
    assert!(trees <= 2, "{trees} trees");

    // Nothing to do: 71 folders and as many on the other side, but a page shows what is small of both kinds. Only of what fills a
    // page more is asked for each folder behind it. A page is asked for ahead of what is known.
    run(0);
    let before = listings.load(Ordering::SeqCst);
    let idle = run(0);
    assert_eq!(idle.number("counts/copied"), 0, "{}", idle.stdout);
    let count = listings.load(Ordering::SeqCst) - before;
    println!("{count} listings");
    assert!(count <= 2 * (2 * LARGE + 4), "{count} listings");

    // One comes, one goes, and a file changes.
    let gone = TableName::new("sales", "t03");
    lake.apply(&[
        Change::PutPartitions { table: days.name.clone(), partitions: vec![stands(PARTITIONS)] },
        Change::DropTable(gone),
    ]);
    let late = format!("lake/landing/{PARTITIONS:02}/good/f");
    runtime.block_on(async {
        for (key, text) in [(late.as_str(), "rows"), ("lake/raw/t07/part-0", "other rows")] {
            source.put(&key.into(), text.into(), &PutOptions::default()).await.unwrap();
        }
    });
    keys.push(late);
    let changed = run(0);
    assert_eq!(changed.number("counts/copied"), 2, "{}", changed.stdout);
    // The table was external: its files stay.
    assert_eq!(held(), meant(&keys));
    shell.metasync(&["verify", "p.toml", "--level", "listing"]).expect(0);
    for bucket in [from, to] {
        server.remove_bucket(&bucket);
    }
}

#[test]
fn a_link_on_the_way_to_a_table_is_an_error_and_a_pair_of_its_own_leads_through_it() {
    let lake = Lake::new();
    lake.database("sales");
    std::fs::create_dir_all(lake.root().join("disk2/t")).unwrap();
    std::fs::write(lake.root().join("disk2/t/part-0"), "rows").unwrap();
    std::os::unix::fs::symlink(lake.root().join("disk2"), lake.source("ext")).unwrap();
    let mut table = objects::table(TableName::new("sales", "t"), "file:/unused", &[]);
    table.storage.location = Some(format!("file:{}/ext/t", lake.root().join("source").display()));
    lake.apply(&[Change::PutTable(Box::new(table))]);
    let refused = lake.metasync("run", &[]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("link on the way"), "{}", refused.stderr);
    assert!(!lake.target("ext").exists());
    let policy = std::fs::read_to_string(lake.root().join("p.toml")).unwrap();
    let root = lake.root().display();
    let pair = format!("[[locations]]\nfrom = \"file:{root}/source/ext\"\nto = \"file:{root}/target/ext\"\n");
    std::fs::write(lake.root().join("p.toml"), policy.replacen("[[locations]]", &format!("{pair}[[locations]]"), 1))
        .unwrap();
    lake.metasync("run", &[]).expect(0);
    assert_eq!(std::fs::read_to_string(lake.target("ext/t/part-0")).unwrap(), "rows");
}
