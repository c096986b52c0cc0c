use super::*;

fn parse(text: &str) -> Result<Place, BadPlace> {
    let stores = BTreeMap::from([("eu".to_owned(), "s3a://lake-eu/root/".to_owned())]);
    Place::parse(OsStr::new(text), Path::new("/nowhere/cwd"), &stores)
}

fn shown(text: &str) -> String {
    parse(text).unwrap().to_string()
}

#[test]
fn rule_03_every_form_has_one_normal_form() {
    let table = [
        ("/data/lake", "/data/lake"),
        ("/data/lake/", "/data/lake"),
        ("/data//lake/./x", "/data/lake/x"),
        ("/data/lake/../y", "/data/y"),
        ("./x", "/nowhere/cwd/x"),
        ("x/y", "/nowhere/cwd/x/y"),
        (".", "/nowhere/cwd"),
        ("../x", "/nowhere/x"),
        ("./a:b", "/nowhere/cwd/a:b"),
        ("file:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("s3://lake", "s3://lake"),
        ("s3://lake/", "s3://lake"),
        ("s3a://lake/a/b/", "s3://lake/a/b"),
        ("s3n://lake//a", "s3://lake//a"),
        ("S3://lake/a?b#c%20", "s3://lake/a?b#c%20"),
        ("az://box/p/", "az://box/p"),
        ("abfss://box@Acc.dfs.core.windows.net/p", "abfss://box@acc.dfs.core.windows.net/p"),
        ("wasbs://box@acc.blob.core.windows.net/p", "abfss://box@acc.dfs.core.windows.net/p"),
        ("gs://b/p", "gs://b/p"),
        ("hdfs://NN:8020/a/b/", "hdfs://nn:8020/a/b"),
        ("hdfs://NameService1/a", "hdfs://NameService1/a"),
        ("hdfs:///a", "hdfs:///a"),
        ("eu:", "s3://lake-eu/root"),
        ("eu:warehouse/t1/", "s3://lake-eu/root/warehouse/t1"),
        ("eu:/warehouse", "s3://lake-eu/root/warehouse"),
    ];
    for (text, normal) in table {
        assert_eq!(shown(text), normal, "{text}");
    }
    assert_eq!(parse("eu:x").unwrap().store.as_deref(), Some("eu"));
    assert_eq!(parse("s3://lake/a").unwrap(), parse("s3a://lake/a/").unwrap());
}

#[test]
fn what_is_no_place_says_why_and_what_was_meant() {
    let table = [
        ("", "empty"),
        ("s4://lake/x", "did you mean \"s3\""),
        ("hfds://nn/x", "did you mean \"hdfs\""),
        ("mailto://x", "unknown scheme"),
        ("eu2:x", "\"eu2\", which is not in the configuration, did you mean \"eu\"?; a local file is ./eu2:x"),
        ("s3://", "no name of a bucket"),
        ("s3:///x", "no name of a bucket"),
        ("s3://b/x/../y", ".. segment"),
        ("s3://b/./y", ". or"),
        ("abfss://box/p", "container@account"),
        ("abfss://box@acc.dfs.core.chinacloudapi.cn/p", "write az://container/prefix"),
        ("wasbs://box@acc/p", "write az://container/prefix"),
        ("file://host/x", "names no host"),
    ];
    for (text, words) in table {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    let error = parse("s3://AKIA:verysecret@lake/x").unwrap_err().to_string();
    assert!(!error.contains("verysecret") && error.contains("credentials"), "{error}");
    let error = parse("ftp://me:verysecret@lake/x").unwrap_err().to_string();
    assert!(!error.contains("verysecret"), "{error}");
}

#[test]
fn rule_01_and_04_places_overlap_at_segments_only() {
    let table = [
        ("s3://lake-eu", "s3://lake-eu-2", None, false),
        ("s3://lake/a", "s3a://lake/a/b", Some("b"), true),
        ("s3://lake/a/b", "s3://lake/a", None, true),
        ("s3://lake/a", "s3://lake/ab", None, false),
        ("s3://lake", "s3://lake/x/y", Some("x/y"), true),
        ("s3://lake/a", "s3n://lake/a/", Some(""), true),
        ("/data/a", "/data/ab", None, false),
        ("/data/a", "/data/a/b/../c", Some("c"), true),
        ("/data", "s3://data", None, false),
        ("az://box/a", "wasb://box@acc.blob.core.windows.net/a/b", Some("b"), true),
        ("abfss://box@one.dfs.core.windows.net/", "abfss://box@two.dfs.core.windows.net/", None, false),
        ("hdfs://nn:8020/", "hdfs://nn:8020/x", Some("x"), true),
        ("gs://b/a", "s3://b/a", None, false),
    ];
    for (a, b, rest, overlap) in table {
        let (first, second) = (parse(a).unwrap(), parse(b).unwrap());
        assert_eq!(first.relative(&second), rest.map(ObjectKey::from), "{a} to {b}");
        assert_eq!(first.overlaps(&second), overlap, "{a} and {b}");
        assert_eq!(second.overlaps(&first), overlap, "{b} and {a}");
    }
    let here = parse("s3://lake/a").unwrap();
    let there = Place { service: Some("http://other:9000".into()), ..here.clone() };
    assert!(!here.overlaps(&there));
    assert_ne!(here.identity(), there.identity());
}

#[test]
fn rule_01_links_are_resolved_as_far_as_they_exist() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("real")).unwrap();
    std::os::unix::fs::symlink("real", root.join("link")).unwrap();
    let local = |text: &str| Place::local(Path::new(text), &root);
    assert!(local("real").contains(&local("link/deep/new")));
    assert_eq!(local("real").relative(&local("link/deep/new")), Some("deep/new".into()));
    assert_eq!(local("link").identity(), local("real").identity());
    // The path that is opened is the one that was given.
    assert!(local("link").to_string().ends_with("/link"));
    // `..` behind a link leads to the parent of what the link names.
    std::os::unix::fs::symlink("/", root.join("top")).unwrap();
    assert_eq!(local("top/../x").identity(), "/x");
}

#[test]
fn local_paths_need_not_be_text() {
    let text = OsStr::from_bytes(b"/data/bad\xff/x");
    let place = Place::parse(text, Path::new("/"), &BTreeMap::new()).unwrap();
    let Location::Local { path, .. } = &place.location else { panic!("{place:?}") };
    assert_eq!(path.as_os_str(), text);
    assert_eq!(place.to_string(), "/data/bad\\xff/x");
    assert_eq!(place.join(&ObjectKey::from(vec![0xfe])).to_string(), "/data/bad\\xff/x/\\xfe");
    assert_eq!(parse("s3://b/p").unwrap().join(&"k".into()).to_string(), "s3://b/p/k");
}
