//! Judged by programs that nobody here wrote: b3sum, rclone, the AWS command line.

use std::path::Path;

use tests::cli::Shell;
use tests::services::{self, S3, Tool};
use tests::trees::{RandomTree, TreeShape, contents, snapshot};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// rclone's remote for the server, as a connection string.
fn remote(s3: &S3, path: &str) -> String {
    format!(
        ":s3,provider=Other,access_key_id='{}',secret_access_key='{}',endpoint='{}',force_path_style=true:{path}",
        s3.access_key, s3.secret_key, s3.endpoint
    )
}

#[test]
fn b3sum_reads_our_sums_and_agrees() {
    let Some(b3sum) = services::tool(Tool::B3sum) else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("tree");
    let sizes = vec![0, 1, 1024, (1 << 20) + 1, (8 << 20) + 17, 20 << 20];
    RandomTree::build(&root, 11, TreeShape { files: 60, sizes, ..TreeShape::default() });
    let shell = Shell::new(folder.path());
    let made = folder.path().join("manifest");
    shell.run(&["manifest", "create", text(&root), "-o", text(&made)]).expect(0);
    shell.run(&["manifest", "check", text(&made)]).expect(0);
    let sums = shell.run(&["manifest", "sums", text(&made)]).expect(0);
    assert_eq!(sums.stdout.lines().count(), 60);
    let list = folder.path().join("sums");
    std::fs::write(&list, &sums.stdout).unwrap();
    let output = shell.command(&b3sum).arg("--check").arg(&list).current_dir(&root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.ends_with(": OK")).count(), 60);
    // And it would have noticed.
    let (_, path) = contents(&root).into_iter().next().map(|(key, _)| (0, tests::trees::path_of(&root, &key))).unwrap();
    std::fs::write(path, b"something else").unwrap();
    assert!(!shell.command(&b3sum).arg("--check").arg(&list).current_dir(&root).output().unwrap().status.success());
}

#[test]
fn rclone_finds_both_sides_equal_byte_by_byte() {
    let (Some(s3), Some(rclone)) = (services::s3(), services::tool(Tool::Rclone)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (source, back) = (folder.path().join("source"), folder.path().join("back"));
    let sizes = vec![0, 1, 1024, 1 << 20, (9 << 20) + 1, (17 << 20) + 5];
    RandomTree::build(&source, 5, TreeShape { files: 50, sizes, odd_names: false, ..TreeShape::default() });
    let shell = Shell::new(folder.path()).with_s3(&s3);
    let (first, second) = (s3.fresh_bucket("first"), s3.fresh_bucket("second"));
    let steps = [
        (text(&source).to_owned(), format!("s3://{first}/lake")),
        (format!("s3://{first}/lake"), format!("s3://{second}/lake")),
        (format!("s3://{second}/lake"), text(&back).to_owned()),
    ];
    for (from, to) in &steps {
        shell.run(&["copy", from, to, "--json", "--chunk-size", "1M"]).expect(0);
        let again = shell.run(&["copy", from, to, "--json", "--chunk-size", "1M"]).expect(0);
        let requests: u64 =
            ["head", "get", "put", "copy", "delete"].iter().map(|r| again.number(&format!("requests/{r}"))).sum();
        assert_eq!((requests, again.number("bytes/read"), again.number("requests/list")), (0, 0, 2), "{from} {to}");
    }
    assert_eq!(snapshot(&source), snapshot(&back));
    for (a, b) in [
        (text(&source).to_owned(), remote(&s3, &format!("{first}/lake"))),
        (remote(&s3, &format!("{first}/lake")), remote(&s3, &format!("{second}/lake"))),
        (text(&source).to_owned(), text(&back).to_owned()),
    ] {
        shell.oracle(&rclone, &["check", "--download", &a, &b]).expect(0);
    }
}

#[test]
fn aws_sees_the_metadata_and_no_leftovers() {
    let (Some(s3), Some(aws)) = (services::s3(), services::tool(Tool::Aws)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path()).with_s3(&s3);
    let (from, to) = (s3.fresh_bucket("from"), s3.fresh_bucket("to"));
    let body = folder.path().join("body");
    std::fs::write(&body, vec![7u8; 9 << 20]).unwrap();
    let put = [
        "s3api",
        "put-object",
        "--bucket",
        &from,
        "--key",
        "lake/page",
        "--body",
        text(&body),
        "--content-type",
        "text/html",
        "--cache-control",
        "max-age=60",
        "--metadata",
        "owner=sales,stage=raw",
    ];
    shell.oracle(&aws, &put).expect(0);
    let (source, target) = (format!("s3://{from}/lake"), format!("s3://{to}/lake"));
    shell.run(&["copy", &source, &target, "--chunk-size", "1M"]).expect(0);
    let head = shell.oracle(&aws, &["s3api", "head-object", "--bucket", &to, "--key", "lake/page"]).expect(0);
    let head: serde_json::Value = serde_json::from_str(&head.stdout).unwrap();
    assert_eq!(head["ContentType"], "text/html");
    assert_eq!(head["CacheControl"], "max-age=60");
    assert_eq!((&head["Metadata"]["owner"], &head["Metadata"]["stage"]), (&"sales".into(), &"raw".into()));
    let left = shell.oracle(&aws, &["s3api", "list-multipart-uploads", "--bucket", &to]).expect(0);
    assert!(!left.stdout.contains("UploadId"), "{}", left.stdout);
}

/// Files that a real tree has to have, and its bytes.
const REAL_FILES: usize = 20_000;
const REAL_BYTES: u64 = 1 << 30;

/// What Python installed and what Rust installed, until it is enough: odd names, links, programs, many small files.
fn real_trees() -> Vec<std::path::PathBuf> {
    let ask = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().ok()?;
        let path = std::path::PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        (output.status.success() && path.is_absolute()).then(|| path.canonicalize().ok())?
    };
    let python = ask("python3", &["-c", "import sys; print(sys.base_prefix)"])
        .filter(|path| path.parent() != Some(Path::new("/")));
    let rust = ask("rustc", &["--print", "sysroot"]);
    let libraries = rust.as_ref().map(|path| path.join("lib"));
    match services::long() {
        true => [python, rust].into_iter().flatten().collect(),
        false => [python, libraries].into_iter().flatten().collect(),
    }
}

#[test]
fn a_real_tree_survives_local_s3_s3_local() {
    let Some(s3) = services::s3() else { return };
    let (mut files, mut links, mut bytes, mut modes) = (0, 0, 0, std::collections::BTreeSet::new());
    for source in real_trees() {
        let nodes = there_and_back(&s3, &source);
        for (key, node) in nodes {
            modes.insert(node.mode);
            match node.kind {
                "file" => {
                    let metadata = tests::trees::path_of(&source, &key).metadata().unwrap();
                    (files, bytes) = (files + 1, bytes + metadata.len());
                }
                "link" => links += 1,
                _ => {}
            }
        }
    }
    println!("{files} files, {links} links, {bytes} bytes, modes {modes:?}");
    assert!(files >= REAL_FILES && bytes >= REAL_BYTES, "Python and Rust hold only {files} files, {bytes} bytes here");
    assert!(links > 0 && modes.len() > 2, "{links} links, modes {modes:?}");
}

/// Copies a tree into a bucket, into another, and back, each twice, and compares every node.
fn there_and_back(s3: &S3, source: &Path) -> std::collections::BTreeMap<Vec<u8>, tests::trees::Node> {
    let folder = tempfile::tempdir().unwrap();
    let back = folder.path().join("back");
    let shell = Shell::new(folder.path()).with_s3(s3);
    let (first, second) = (s3.fresh_bucket("real-a"), s3.fresh_bucket("real-b"));
    let steps = [
        (text(source).to_owned(), format!("s3://{first}/lake")),
        (format!("s3://{first}/lake"), format!("s3://{second}/lake")),
        (format!("s3://{second}/lake"), text(&back).to_owned()),
    ];
    for (from, to) in &steps {
        let arguments = ["copy", from, to, "--json", "--links", "preserve"];
        let first = shell.run(&arguments).expect(0);
        let second = shell.run(&arguments).expect(0);
        assert_eq!(second.number("counts/equal"), first.number("counts/listed"), "{from} {to}");
        assert_eq!((second.number("bytes/read"), second.number("requests/get")), (0, 0), "{from} {to}");
    }
    let (a, b) = (snapshot(source), snapshot(&back));
    let differing: Vec<_> = a.iter().filter(|(key, node)| b.get(*key) != Some(node)).take(5).collect();
    assert!(differing.is_empty() && a.len() == b.len(), "{} and {} nodes, first: {differing:?}", a.len(), b.len());
    a
}

/// Folders of Python's library for the ordinary run: HDFS takes half a second to close a file. `--long` takes all of it.
const LIBRARY: [&str; 5] = ["asyncio/**", "encodings/**", "email/**", "ctypes/**", "idlelib/**"];

/// Every store in one chain. Modes arrive everywhere; times to the millisecond, which is what HDFS keeps. It has no links.
#[test]
fn a_real_tree_survives_local_s3_azure_hdfs_local() {
    let (Some(s3), Some(azure), Some(hdfs)) = (services::s3(), services::azure(), services::hdfs()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(folder.path()).with_s3(&s3).with_azure(&azure);
    let ask = ["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"];
    let answer = std::process::Command::new("python3").args(ask).output().expect("python3 answers");
    let library = std::path::PathBuf::from(String::from_utf8(answer.stdout).unwrap().trim()).canonicalize().unwrap();
    let source = folder.path().join("source");
    let only: Vec<&str> = match services::long() {
        true => vec![],
        false => LIBRARY.iter().flat_map(|pattern| ["--include", pattern]).collect(),
    };
    shell.run(&[&["copy", text(&library), text(&source), "--links", "follow"], &only[..]].concat()).expect(0);
    let unique: u64 = rand::random();
    let back = folder.path().join("back");
    let places = [
        text(&source).to_owned(),
        format!("s3://{}/lake", s3.fresh_bucket("chain")),
        format!("az://{}/lake", azure.fresh_container("chain")),
        format!("hdfs://{hdfs}/chain-{unique:x}"),
        text(&back).to_owned(),
    ];
    for step in places.windows(2) {
        let arguments = ["copy", &step[0], &step[1], "--json", "--concurrency", "128"];
        let first = shell.run(&arguments).expect(0);
        assert_eq!(first.number("counts/copied"), first.number("counts/listed"), "{step:?}");
        let again = shell.run(&arguments).expect(0);
        assert_eq!(
            (again.number("counts/equal"), again.number("bytes/read")),
            (first.number("counts/listed"), 0),
            "{step:?}"
        );
        shell.run(&["verify", &step[0], &step[1]]).expect(0);
    }
    let kept = |root: &Path| -> Vec<_> {
        let files = snapshot(root).into_iter().filter(|(_, node)| node.kind == "file");
        files.map(|(key, node)| (key, node.hash, node.mode, node.mtime_ns / 1_000_000)).collect()
    };
    let (ours, theirs) = (kept(&source), kept(&back));
    assert!(ours.len() > 300, "{} files", ours.len());
    let differing: Vec<_> = ours.iter().zip(&theirs).filter(|(a, b)| a != b).take(3).collect();
    assert!(differing.is_empty() && ours.len() == theirs.len(), "{} and {}: {differing:?}", ours.len(), theirs.len());
}
