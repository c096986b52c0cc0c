//! `--storage-class` and `--sse`: what is written says so, the state does not; and objects that an archive keeps.

use std::sync::{Arc, Mutex};

use tests::cli::Shell;
use tests::proxy::{Answer, Proxy, Request};
use tests::services::{self, S3};

const ARCHIVED: &str = "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid.</Message></Error>";
const CLASS: &str = "x-amz-storage-class";
const SSE: &str = "x-amz-server-side-encryption";

/// A shell behind a proxy that keeps every request.
fn watched(s3: &S3, home: &std::path::Path) -> (Proxy, Shell, Arc<Mutex<Vec<Request>>>) {
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let kept = seen.clone();
    let proxy = Proxy::before(&s3.endpoint, move |request| {
        kept.lock().unwrap().push(request.clone());
        Answer::Pass
    });
    let mut behind = s3.clone();
    behind.endpoint = proxy.endpoint();
    let shell = Shell::new(home).with_s3(&behind);
    (proxy, shell, seen)
}

#[test]
fn what_is_written_has_the_class_and_the_encryption_asked_for() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    std::fs::create_dir(at("source")).unwrap();
    let write = |name: &str, size: usize, byte: u8| std::fs::write(at("source").join(name), vec![byte; size]).unwrap();
    write("small", 10, 1);
    write("large", (9 << 20) + 1, 1);
    let bucket = s3.fresh_bucket("class");
    let (_proxy, shell, seen) = watched(&s3, home.path());
    let places = ["lake", "state", "trash"].map(|name| format!("s3://{bucket}/{name}"));
    let [lake, state, trash] = places.each_ref().map(String::as_str);
    let options = ["--storage-class", "STANDARD_IA", "--sse", "AES256", "--chunk-size", "1M"];
    let options = [&options[..], &["--trash", trash, "--state", state, "-q"]].concat();
    shell.run(&[&["copy", "source", lake], &options[..]].concat()).expect(0);
    // From a plan, too: it holds what was asked for.
    write("small", 11, 2);
    shell.run(&[&["plan", "source", lake, "-o", "a.plan"], &options[..]].concat()).expect(0);
    shell.run(&["apply", "a.plan", "-q"]).expect(0);

    let seen = seen.lock().unwrap();
    let begins = |request: &Request| {
        let part = request.target.contains("partNumber=");
        (request.method == "PUT" && !part) || (request.method == "POST" && request.target.contains("uploads"))
    };
    let below = |folder: &str| {
        let folder = format!("/{bucket}/{folder}/");
        seen.iter().filter(|request| begins(request) && request.target.starts_with(&folder)).collect::<Vec<_>>()
    };
    let written = below("lake");
    assert!(written.len() >= 3, "{written:#?}");
    for request in &written {
        assert_eq!((request.header(CLASS), request.header(SSE)), (Some("STANDARD_IA"), Some("AES256")), "{request:#?}");
    }
    // A state or a trash in an archive could not be read; but both are encrypted.
    for folder in ["state", "trash"] {
        let written = below(folder);
        assert!(!written.is_empty(), "{folder}");
        for request in written {
            assert_eq!((request.header(CLASS), request.header(SSE)), (None, Some("AES256")), "{request:#?}");
        }
    }
}

#[test]
fn options_of_a_store_are_refused_where_there_is_none() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("source")).unwrap();
    std::fs::write(home.path().join("source/a"), "a").unwrap();
    let shell = Shell::new(home.path());
    let ran = shell.run(&["copy", "source", "target", "--storage-class", "GLACIER"]).expect(2);
    assert!(ran.last_word().contains("--storage-class is for object stores"), "{ran:#?}");
    let ran = shell.run(&["copy", "source", "hdfs://127.0.0.1:1/target", "--sse", "AES256"]).expect(2);
    assert!(ran.last_word().contains("--sse is for object stores"), "{ran:#?}");
    let ran = shell.run(&["copy", "source", "target", "--sse", "rot13"]).expect(2);
    assert!(ran.stderr.contains("AES256") && ran.stderr.contains("see: distcp copy --help"), "{ran:#?}");
    assert!(!home.path().join("target").exists());
}

#[test]
fn an_object_in_an_archive_fails_by_name_with_the_way_out() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("source")).unwrap();
    for name in ["cold", "warm"] {
        std::fs::write(home.path().join("source").join(name), name).unwrap();
    }
    let lake = format!("s3://{}/lake", s3.fresh_bucket("class"));
    Shell::new(home.path()).with_s3(&s3).run(&["copy", "source", &lake, "-q"]).expect(0);
    let proxy = Proxy::before(&s3.endpoint, |request| match request.is("GET", "lake/cold") {
        true => Answer::error("403 Forbidden", ARCHIVED),
        false => Answer::Pass,
    });
    let mut behind = s3.clone();
    behind.endpoint = proxy.endpoint();
    let ran = Shell::new(home.path()).with_s3(&behind).run(&["copy", &lake, "back", "-q"]).expect(3);
    let word = ran.last_word();
    assert!(
        word.contains("cold") && word.contains("archive tier") && word.contains("restore it there first"),
        "{word}"
    );
    assert!(home.path().join("back/warm").exists() && !home.path().join("back/cold").exists());
}
