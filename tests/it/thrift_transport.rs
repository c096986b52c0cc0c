//! How real metastores can be set up to speak, and what is said to one who speaks otherwise: frames, TLS, proxy users.

use std::path::Path;
use std::process::Command;
use tests::cli::Shell;
use tests::hms::{self, Hms, Kind, Version};

const PASSWORD: &str = "test-only-keystore";

/// A server 3.1 over a new database, with these settings.
fn server(settings: &[(&str, &str)]) -> Option<(Hms, hms::Database)> {
    let database = hms::fresh_database(Kind::Postgres, Version::V31)?;
    Some((Hms::start_with(Version::V31, &database.url, settings), database))
}

fn keytool(arguments: &[&str]) {
    let output = Command::new("keytool").args(arguments).output().expect("keytool, which comes with a JDK");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A key for 127.0.0.1 in `folder/keys.jks`, its certificate in `folder/cert.pem`.
fn key(folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (store, certificate) = (path("keys.jks"), path("cert.pem"));
    let common = ["-keystore", &store, "-storepass", PASSWORD, "-alias", "hms"];
    let make = ["-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-dname", "CN=localhost", "-validity", "2"];
    let more = ["-ext", "san=ip:127.0.0.1,dns:localhost", "-storetype", "JKS", "-keypass", PASSWORD];
    keytool(&[&make[..], &more, &common].concat());
    keytool(&[&["-exportcert", "-rfc", "-file", &certificate][..], &common].concat());
    (store, certificate)
}

#[test]
fn a_server_that_speaks_tls_is_reached_by_tls_and_named_otherwise() {
    let keys = tempfile::tempdir().unwrap();
    if hms::shared(Version::V31, Kind::Postgres).is_none() {
        return;
    }
    let (store, certificate) = key(keys.path());
    let settings = [
        ("metastore.use.SSL", "true"),
        ("metastore.keystore.path", store.as_str()),
        ("metastore.keystore.password", PASSWORD),
    ];
    let Some((server, database)) = server(&settings) else { return };
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let dump = |url: &str| shell.metasync(&["metastore", "dump", url]);
    let by_tls = dump(&format!("{}?tls=true&ca={certificate}", server.thrift)).expect(0);
    assert_eq!(by_tls.stdout, dump(&database.url).expect(0).stdout);
    let plain = dump(&server.thrift).expect(2);
    assert!(plain.last_word().contains("TLS") && plain.last_word().contains("tls=true"), "{}", plain.stderr);
    // A certificate that nobody trusts is no reason to go on without.
    let untrusted = dump(&format!("{}?tls=true", server.thrift));
    assert!(untrusted.code != 0 && untrusted.stdout.is_empty(), "{}", untrusted.stderr);
}

#[test]
fn a_server_that_wants_frames_is_reached_with_frames_and_named_otherwise() {
    let Some((server, database)) = server(&[("metastore.thrift.framed.transport.enabled", "true")]) else { return };
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    let dump = |url: &str| shell.metasync(&["metastore", "dump", url]);
    let framed = dump(&format!("{}?framed=true", server.thrift)).expect(0);
    assert_eq!(framed.stdout, dump(&database.url).expect(0).stdout);
    let plain = dump(&server.thrift).expect(2);
    assert!(plain.last_word().contains("framed"), "{}", plain.stderr);
}

#[tokio::test]
async fn case_52_a_server_that_refuses_the_event_log_names_the_setting() {
    let Some((server, _database)) = server(&[("metastore.metastore.event.db.notification.api.auth", "true")]) else {
        return;
    };
    let metastore = tests::metastores::adapters::open_url(&server.thrift).await;
    let error = metastore.snapshot().await.unwrap().events_after(0, 10).await.expect_err("it refuses");
    assert!(matches!(error, metasync::metastore::Error::Denied { .. }), "{error}");
    assert!(error.to_string().contains("hadoop.proxyuser."), "{error}");
}
