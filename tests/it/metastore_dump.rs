//! `metasync metastore` as a user runs it: dumps that can be compared, and what it says when it cannot work.

use std::io::Read as _;
use std::net::TcpListener;
use tests::cli::{Ran, Shell};
use tests::hms::{self, Database, Hms, Kind, Version};
use tests::metastores::adapters::open_url;
use tests::metastores::contract::put;
use tests::metastores::objects::everything;

fn dump(shell: &Shell, url: &str) -> Ran {
    shell.metasync(&["metastore", "dump", url])
}

/// Two databases full of objects, so that their order counts.
async fn fill(url: &str) {
    let metastore = open_url(url).await;
    for name in ["zoo", "abc"] {
        put(metastore.as_ref(), &everything(name, "file:/tmp/understudy-none")).await.unwrap();
    }
}

/// What a server and the database behind it print is the same, byte for byte; and so is a second dump of the same.
async fn prints_the_same(version: Version, kind: Kind) {
    let Some(database) = hms::fresh_database(kind, version) else { return };
    fill(&database.url).await;
    let server = Hms::start(version, &database.url);
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let by_thrift = dump(&shell, &server.thrift).expect(0);
    let by_sql = dump(&shell, &database.url).expect(0);
    let differ = || {
        let (a, b) = (by_thrift.stdout.lines(), by_sql.stdout.lines());
        a.zip(b).find(|(a, b)| a != b).map(|(a, b)| format!("thrift: {a}\nsql:    {b}"))
    };
    assert!(by_thrift.stdout == by_sql.stdout, "{:?}: {}", version, differ().unwrap_or_default());
    assert_eq!(dump(&shell, &database.url).expect(0).stdout, by_sql.stdout);
    for kind in
        ["catalog", "role", "role_grant", "grant", "database", "function", "table", "partition", "table_statistics"]
    {
        assert!(by_sql.stdout.contains(&format!("{{\"type\":\"{kind}\"")), "{kind}");
    }
}

#[tokio::test]
async fn rule_30_a_server_of_2_3_and_its_database_print_the_same() {
    prints_the_same(Version::V23, Kind::Postgres).await;
}

#[tokio::test]
async fn rule_30_a_server_of_3_1_and_its_database_print_the_same() {
    prints_the_same(Version::V31, Kind::MariaDb).await;
}

#[tokio::test]
async fn rule_30_a_server_of_4_0_and_its_database_print_the_same() {
    prints_the_same(Version::V40, Kind::Postgres).await;
}

#[tokio::test]
async fn a_file_of_ours_is_made_once_filled_and_printed() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let url = format!("sqlite://{}/m.db", home.path().display());
    shell.metasync(&["metastore", "init", &url]).expect(0);
    fill(&url).await;
    let printed = dump(&shell, &url).expect(0).stdout;
    let databases: Vec<&str> = printed.lines().filter(|line| line.starts_with("{\"type\":\"database\"")).collect();
    assert!(databases.len() >= 2 && databases.is_sorted(), "{databases:?}");
    let json = shell.metasync(&["metastore", "dump", &url, "--json"]).expect(0);
    assert_eq!(json.summary()["command"], "metastore dump");
    // A file that holds anything is not touched.
    let again = shell.metasync(&["metastore", "init", &url]).expect(5);
    assert!(again.last_word().contains("it is not empty"), "{}", again.stderr);
    assert_eq!(dump(&shell, &url).expect(0).stdout, printed);
}

#[test]
fn what_cannot_be_reached_or_is_no_metastore_is_told_with_its_code() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    std::fs::write(home.path().join("text.db"), "no database at all, but long enough to be looked at").unwrap();
    let text = format!("sqlite://{}/text.db", home.path().display());
    let missing = format!("sqlite://{}/missing.db", home.path().display());
    for (url, code, words) in [
        ("thrift://127.0.0.1:1", 75, "refused"),
        ("postgres://hive:secret@127.0.0.1:1/m", 75, "refused"),
        ("mysql://hive:secret@127.0.0.1:1/m", 75, "refused"),
        (missing.as_str(), 2, "missing.db"),
        (text.as_str(), 2, "text.db"),
        ("oracle://hive:secret@db/m", 2, "thrift://"),
        ("thrift://db?frame=true", 2, "did you mean \"framed\""),
        ("postgres://hive:env:NOT_SET@db/m", 2, "NOT_SET"),
        ("postgres://db/m", 2, "user"),
    ] {
        let ran = dump(&shell, url).expect(code);
        assert!(ran.last_word().starts_with("metasync metastore dump: "), "{url}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{url}: {}", ran.stderr);
        assert!(!ran.stderr.contains("secret") && ran.stdout.is_empty(), "{url}: {}", ran.stderr);
    }
}

#[test]
fn a_database_without_hives_tables_is_named() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    for kind in Kind::ALL {
        let Some(Database { url, .. }) = &hms::empty_database(kind) else { return };
        let ran = dump(&shell, url).expect(2);
        assert!(ran.last_word().contains("is no Hive metastore"), "{}", ran.stderr);
    }
}

#[test]
fn a_schema_of_an_unknown_version_is_named() {
    let Some(database) = hms::fresh_database(Kind::Postgres, Version::V40) else { return };
    database.run("update \"VERSION\" set \"SCHEMA_VERSION\" = '9.9.0'");
    let home = tempfile::tempdir().unwrap();
    let ran = dump(&Shell::new(home.path()), &database.url).expect(2);
    assert!(ran.last_word().contains("9.9.0"), "{}", ran.stderr);
}

#[test]
fn a_password_that_is_wrong_is_a_matter_of_credentials() {
    let Some(database) = hms::empty_database(Kind::MariaDb) else { return };
    let home = tempfile::tempdir().unwrap();
    let url = database.url.replace("hive:hive@", "hive:wrong-secret@");
    let ran = dump(&Shell::new(home.path()), &url).expect(12);
    assert!(!ran.stderr.contains("wrong-secret"), "{}", ran.stderr);
}

#[test]
fn a_server_that_speaks_http_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("thrift://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::Write as _;
        // It may be asked more than once; it ends with the first that hangs up before a word.
        for stream in listener.incoming().take(8) {
            let mut stream = stream.unwrap();
            let mut asked = [0; 16];
            if stream.read(&mut asked).unwrap_or(0) == 0 {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    let home = tempfile::tempdir().unwrap();
    let ran = dump(&Shell::new(home.path()), &url).expect(2);
    assert!(ran.last_word().contains("HTTP"), "{}", ran.stderr);
    // Hanging up ends the server.
    drop(std::net::TcpStream::connect(url.trim_start_matches("thrift://")).unwrap());
    server.join().unwrap();
}
