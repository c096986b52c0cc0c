use super::*;

const FILE: &str = r#"
[stores.eu]
url = "s3://lake-eu"
endpoint = "http://eu.example:9000"
access_key_id = "env:EU_KEY"
secret_access_key = "literal-secret"
options = { virtual_hosted_style_request = "false", allow_http = true }

[stores.eu-sales]
url = "s3a://lake-eu/sales/"
access_key_id = "a"
secret_access_key = "b"
"#;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Environment { variables, home: None }
}

fn opener(text: &str, variables: &[(&str, &str)]) -> Opener {
    Opener {
        settings: Settings::parse(text, "config.toml").unwrap(),
        environment: environment(variables),
        ..Opener::default()
    }
}

fn place(opener: &Opener, text: &str) -> Place {
    opener.settings.place(OsStr::new(text), Path::new("/")).unwrap()
}

fn open(opener: &Opener, text: &str, overrides: &[(&str, &str)]) -> Result<Opened, OpenError> {
    let overrides = overrides.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
    opener.open(&place(opener, text), &OpenOptions { overrides, ..OpenOptions::default() })
}

#[test]
fn rule_04_the_longest_url_at_a_segment_serves_a_place() {
    let opener = opener(FILE, &[("EU_KEY", "k")]);
    for (text, store) in [
        ("s3://lake-eu", Some("eu")),
        ("s3n://lake-eu/x", Some("eu")),
        ("s3://lake-eu-2/x", None),
        ("s3://lake-eu/sales", Some("eu-sales")),
        ("s3://lake-eu/sales/x", Some("eu-sales")),
        ("s3://lake-eu/salesman", Some("eu")),
        ("eu:sales/x", Some("eu")),
        ("/lake-eu", None),
    ] {
        let place = place(&opener, text);
        assert_eq!(opener.settings.store_of(&place).unwrap().map(|(name, _)| name), store, "{text}");
    }
}

#[test]
fn two_equally_good_stores_ask_for_the_name() {
    let text = "[stores.a]\nurl = \"s3://b/x\"\n[stores.b]\nurl = \"s3a://b/x/\"\n";
    let opener = opener(text, &[]);
    let error = opener.settings.store_of(&place(&opener, "s3://b/x/y")).unwrap_err().to_string();
    assert!(error.contains("a and b") && error.contains("a:path"), "{error}");
    assert_eq!(opener.settings.store_of(&place(&opener, "b:y")).unwrap().unwrap().0, "b");
}

#[test]
fn what_a_file_has_too_much_is_named_with_what_was_meant() {
    for (text, words) in [
        ("[store.eu]\nurl = \"s3://b\"", "unknown key store, did you mean \"stores\"?"),
        ("[stores.eu]\nurl = \"s3://b\"\nendpont = \"x\"", "stores.eu.endpont, did you mean \"endpoint\"?"),
        ("[stores.eu]\nurl = \"s3://b\"\noptions = { regoin = \"x\" }", "options.regoin, did you mean \"region\"?"),
        ("[stores.eu]\nregion = \"x\"", "stores.eu.url, which is missing"),
        ("[stores.eu]\nurl = \"./x\"", "is no URL"),
        ("[stores.eu]\nurl = \"s4://x\"", "unknown scheme"),
        ("[stores.eu]\nurl = 5", "is no text"),
        ("[stores.\"a b\"]\nurl = \"s3://b\"", "is no name"),
        ("[stores.eu]\nurl = ", "no valid TOML"),
    ] {
        let error = Settings::parse(text, "config.toml").unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let error = Settings::parse("[stores.eu]\nsecret_access_key = \"hush\" x", "f").unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("hush"), "{error}");
}

#[test]
fn secrets_come_from_variables_files_or_the_text_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "from a file\n").unwrap();
    let environment = environment(&[("KEY", "from a variable")]);
    let file = format!("file:{}", path.display());
    for (given, value) in [("literal", "literal"), ("env:KEY", "from a variable"), (&*file, "from a file")] {
        assert_eq!(resolve(&Secret::new(given), &environment).unwrap().reveal(), value);
    }
    assert!(resolve(&Secret::new("env:NONE"), &environment).unwrap_err().contains("NONE"));
    assert!(resolve(&Secret::new("file:/no/such"), &environment).unwrap_err().contains("/no/such"));
    let settings = Settings::parse(FILE, "f").unwrap();
    let shown = format!("{settings:?} {environment:?} {}", Secret::new("x"));
    assert!(!shown.contains("literal-secret") && !shown.contains("from a variable"), "{shown}");
}

#[test]
fn options_of_a_run_win_and_unknown_ones_are_named() {
    let opener = opener(FILE, &[("EU_KEY", "k")]);
    let opened = open(&opener, "eu:x", &[]).unwrap();
    assert_eq!(opened.store.place(), "s3://lake-eu/x");
    let error = open(&opener, "eu:x", &[("regon", "y")]).unwrap_err().to_string();
    assert!(error.contains("did you mean \"region\""), "{error}");
    let error = open(&opener, "eu:x", &[("skip_signature", "perhaps")]).unwrap_err().to_string();
    assert!(error.contains("true or false"), "{error}");
    assert!(open(&opener, "/tmp", &[("region", "y")]).is_err());
}

#[test]
fn a_service_copies_between_its_own_places_whoever_asks() {
    let opener = opener(FILE, &[("EU_KEY", "k")]);
    let target = open(&opener, "eu:x", &[]).unwrap().store;
    let from = |options: &[(&str, &str)]| {
        let source = open(&opener, "eu:y", options).unwrap().store;
        target.copies_from(&source.origin().unwrap())
    };
    assert_eq!(from(&[]), Some(5 << 30));
    // Whether the target's identity may read there only a request can tell.
    assert_eq!(from(&[("access_key_id", "other")]), Some(5 << 30));
    assert_eq!(from(&[("endpoint", "http://us.example")]), None);
    let small = open(&opener, "eu:x", &[("max_copy_bytes", "8388608")]).unwrap().store;
    assert_eq!(small.copies_from(&target.origin().unwrap()), Some(8 << 20));
    for bad in ["1", "5G", ""] {
        let error = open(&opener, "eu:x", &[("max_copy_bytes", bad)]).unwrap_err().to_string();
        assert!(error.contains("max_copy_bytes"), "{error}");
    }
}

#[test]
fn equal_buckets_of_two_services_are_two_places() {
    let opener = opener(FILE, &[("EU_KEY", "k"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]);
    let read = |text: &str, endpoint: Option<&str>| {
        let overrides = endpoint.map(|endpoint| ("endpoint".to_owned(), Secret::new(endpoint))).into_iter().collect();
        opener.place(OsStr::new(text), Path::new("/"), &overrides).unwrap()
    };
    let eu = read("s3://lake-eu/x", None);
    assert_eq!(eu.service.as_deref(), Some("http://eu.example:9000"));
    assert!(!eu.overlaps(&read("s3://lake-eu/x", Some("http://us.example:9000"))));
    assert!(read("s3://b", Some("http://localhost:9")).overlaps(&read("s3://b/x", Some("http://127.0.0.1:9/"))));
    assert!(read("s3://b", None).overlaps(&read("s3://b/x", Some("https://s3.eu-west-1.amazonaws.com"))));
}

fn files(credentials: &str, config: &str) -> (tempfile::TempDir, Environment) {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    let environment = Environment { home: Some(home.path().to_owned()), ..Environment::default() };
    (home, environment)
}

/// The options that a place is opened with, as text.
fn resolved(opener: &Opener) -> Result<BTreeMap<String, String>, OpenError> {
    let place = place(opener, "s3://bucket/x");
    let options = opener.resolve_s3(&place, &BTreeMap::new())?.options;
    Ok(options.into_iter().map(|(name, value)| (name, value.reveal().to_owned())).collect())
}

#[test]
fn keys_come_whole_from_the_first_source_that_has_some() {
    let credentials = "[default]\naws_access_key_id=file-id\naws_secret_access_key=file-secret\naws_session_token=file-token\n\
                       [other]\naws_access_key_id=other-id\naws_secret_access_key=other-secret\n";
    let config = "[default]\nregion=eu-central-1\nendpoint_url=http://from.file\n[profile other]\nregion=us-west-2\n";
    let (_home, base) = files(credentials, config);
    let with = |text: &str, variables: &[(&str, &str)]| {
        let mut environment = environment(variables);
        environment.home = base.home.clone();
        resolved(&Opener { settings: Settings::parse(text, "f").unwrap(), environment, ..Opener::default() }).unwrap()
    };
    let found = with("", &[]);
    assert_eq!((&*found["access_key_id"], &*found["session_token"]), ("file-id", "file-token"));
    assert_eq!((&*found["region"], &*found["endpoint"]), ("eu-central-1", "http://from.file"));
    let found = with("", &[("AWS_PROFILE", "other"), ("AWS_REGION", "r")]);
    assert_eq!((&*found["access_key_id"], &*found["region"]), ("other-id", "r"));
    assert!(!found.contains_key("session_token"));
    // Keys from variables never get the file's token.
    let found = with("", &[("AWS_ACCESS_KEY_ID", "env-id"), ("AWS_SECRET_ACCESS_KEY", "env-secret")]);
    assert_eq!((&*found["access_key_id"], found.get("session_token")), ("env-id", None));
    assert_eq!(found["region"], "eu-central-1");
    let variables = [("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "env-token")];
    let store = "[stores.x]\nurl=\"s3://bucket\"\naccess_key_id=\"mine\"\nsecret_access_key=\"m\"\n";
    let found = with(store, &variables);
    assert_eq!((&*found["access_key_id"], found.get("session_token")), ("mine", None));
    let found = with("[stores.x]\nurl=\"s3://bucket\"\nprofile=\"other\"\n", &variables);
    assert_eq!((&*found["access_key_id"], &*found["region"]), ("other-id", "us-west-2"));
    assert_eq!(found.get("session_token"), None);
    let found = with(
        "",
        &[("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_S3", "http://s3"), ("AWS_ALLOW_HTTP", "true")],
    );
    assert_eq!((&*found["endpoint"], &*found["allow_http"]), ("http://s3", "true"));
}

#[test]
fn missing_credentials_say_where_they_were_looked_for() {
    let (home, mut environment) = files("", "[default]\nregion=x\n");
    environment.variables.insert("AWS_EC2_METADATA_DISABLED".into(), "true".into());
    let opener = Opener { environment: environment.clone(), ..Opener::default() };
    let error = resolved(&opener).unwrap_err();
    assert!(error.is_permission());
    let text = error.to_string();
    let file = home.path().join(".aws/credentials").display().to_string();
    assert!(text.contains("AWS_ACCESS_KEY_ID") && text.contains(&file), "{text}");
    environment.variables.insert("AWS_PROFILE".into(), "nobody".into());
    let text = resolved(&Opener { environment, ..Opener::default() }).unwrap_err().to_string();
    assert!(text.contains("\"nobody\" is not in"), "{text}");
    let half = "[stores.x]\nurl=\"s3://bucket\"\naccess_key_id=\"env:NOT_SET\"\n";
    let text = resolved(&self::opener(half, &[])).unwrap_err();
    assert!(text.is_permission() && text.to_string().contains("NOT_SET"), "{text}");
}

#[test]
fn ways_to_log_in_that_are_not_supported_are_named() {
    for (config, words) in [
        ("[default]\ncredential_process = /bin/x\n", "credential_process"),
        ("[default]\nsso_session = y\n", "sso"),
        ("[default]\nrole_arn = r\nsource_profile = base\n", "role_arn"),
    ] {
        let (_home, environment) = files("", config);
        let error = resolved(&Opener { environment, ..Opener::default() }).unwrap_err();
        assert!(error.is_permission() && error.to_string().contains(words), "{error}");
    }
    // Keys of its own make the rest irrelevant.
    let (_home, environment) =
        files("[default]\naws_access_key_id=a\naws_secret_access_key=b\n", "[default]\nsso_session=y\n");
    assert!(resolved(&Opener { environment, ..Opener::default() }).is_ok());
}

#[test]
fn every_name_of_the_hints_is_an_option() {
    for name in open::S3_OPTIONS {
        assert!(open::is_s3_option(name), "{name}");
        assert!(open::is_s3_option(&open::canonical(name)), "{name}");
    }
    assert!(!open::is_s3_option("bucket") && !open::is_s3_option("nothing"));
}

const AZURE: &str = r#"
[stores.lake]
url = "abfss://box@acc.dfs.core.windows.net"
options = { account_key = "env:LAKE_KEY" }

[stores.here]
url = "az://local"
endpoint = "http://127.0.0.1:1234/devstoreaccount1"
options = { use_emulator = true }
"#;

fn azure_place(opener: &Opener, text: &str, overrides: &[(&str, &str)]) -> Result<Place, OpenError> {
    let overrides = overrides.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
    opener.place(OsStr::new(text), Path::new("/"), &overrides)
}

#[test]
fn rule_03_all_spellings_of_a_container_are_one_place() {
    let opener = opener("", &[("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_KEY", "aGk=")]);
    let identity = |text: &str| azure_place(&opener, text, &[]).unwrap().identity();
    let one = identity("az://box/p");
    assert_eq!(one, "abfss://box@acc.dfs.core.windows.net/p");
    for text in ["abfs://box@acc.dfs.core.windows.net/p/", "wasb://box@acc.blob.core.windows.net/p"] {
        assert_eq!(identity(text), one, "{text}");
    }
    assert_ne!(identity("az://box2/p"), one);
    let elsewhere = azure_place(&opener, "az://box/p", &[("endpoint", "http://localhost:7/acc/")]).unwrap();
    assert_eq!(elsewhere.identity(), format!("{one} at http://127.0.0.1:7/acc"));
    assert!(!elsewhere.overlaps(&azure_place(&opener, "az://box/p", &[]).unwrap()));
}

#[test]
fn azure_credentials_come_from_one_source_and_go_to_their_account() {
    let options = |opener: &Opener, text: &str, overrides: &[(&str, &str)]| {
        let place = place(opener, text);
        let overrides = overrides.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
        opener.resolve_azure(&place, &overrides)
    };
    let variables = [
        ("LAKE_KEY", "bGFrZQ=="),
        ("AZURE_STORAGE_ACCOUNT_NAME", "other"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "b3RoZXI="),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=hush"),
        ("AZURE_CLIENT_ID", "id"),
    ];
    let opener = opener(AZURE, &variables);
    let lake = options(&opener, "lake:x", &[]).unwrap();
    assert_eq!((lake.account.as_str(), lake.options["account_key"].reveal()), ("acc", "bGFrZQ=="));
    assert!(!lake.options.contains_key("sas_key") && !lake.options.contains_key("client_id"));
    let run = options(&opener, "lake:x", &[("azure_storage_sas_token", "sv=2")]).unwrap();
    assert!(run.options["sas_key"].reveal() == "sv=2" && !run.options.contains_key("account_key"));
    let ambient = options(&opener, "az://box2", &[]).unwrap();
    assert_eq!((ambient.account.as_str(), ambient.options["account_key"].reveal()), ("other", "b3RoZXI="));
    let stranger = options(&opener, "abfss://c@third.dfs.core.windows.net", &[]).unwrap();
    assert!(!stranger.options.contains_key("account_key") && !stranger.options.contains_key("sas_key"));
    assert!(stranger.looked_at.contains("is for the account other"), "{}", stranger.looked_at);
    assert!(!format!("{ambient:?}{stranger:?}").contains("hush"));
    let here = options(&opener, "here:x", &[]).unwrap();
    assert_eq!(here.service.as_deref(), Some("http://127.0.0.1:1234/devstoreaccount1"));
    assert!(open(&opener, "here:x", &[]).is_ok());
}

#[test]
fn what_an_azure_place_lacks_or_has_too_much_is_named() {
    let opener = opener(AZURE, &[]);
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str, bool);
    let table: [Case; 5] = [
        ("az://box2/x", &[], "AZURE_STORAGE_ACCOUNT_NAME", false),
        ("lake:x", &[], "LAKE_KEY, which is not set", true),
        ("lake:x", &[("acount_key", "x")], "did you mean \"account_key\"?", false),
        ("lake:x", &[("account_key", "no*base64*hush")], "account_key is not base64", false),
        ("az://c", &[("account_name", "a"), ("account_key", "no*base64*hush")], "account_key is not base64", false),
    ];
    for (text, overrides, words, permission) in table {
        let error = open(&opener, text, overrides).unwrap_err();
        assert!(error.to_string().contains(words) && !error.to_string().contains("hush"), "{text}: {error}");
        assert_eq!(error.is_permission(), permission, "{text}");
    }
    for (text, words) in [
        ("[stores.a]\nurl = \"az://b\"\naccess_key_id = \"x\"", "is for S3"),
        ("[stores.a]\nurl = \"az://b\"\noptions = { sas_tokn = \"x\" }", "did you mean \"sas_token\"?"),
        ("[stores.a]\nurl = \"s3://b\"\noptions = { sas_token = \"x\" }", "unknown key"),
    ] {
        let error = Settings::parse(text, "config.toml").unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}
