//! Credentials stay where they were given: no output, log, state or error of any verb holds one.

use std::path::Path;

use tests::cli::{Ran, Shell};
use tests::services;

/// What must not be found, and in what.
struct Hunt<'a> {
    secrets: Vec<&'a str>,
}

impl Hunt<'_> {
    fn text(&self, what: &str, text: &str) {
        for secret in &self.secrets {
            assert!(!text.contains(secret), "{what} holds a secret:\n{text}");
        }
    }

    fn ran(&self, what: &str, ran: &Ran) {
        self.text(what, &ran.stdout);
        self.text(what, &ran.stderr);
    }

    /// Every file below `folder`; answers how many there are.
    fn files(&self, folder: &Path) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files += self.files(&path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            self.text(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
            files += 1;
        }
        files
    }
}

#[test]
fn nothing_of_a_run_on_azure_holds_its_key_or_signature() {
    let Some(azure) = services::azure() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("small"), "small").unwrap();
    std::fs::write(source.join("large"), vec![7; 9 << 20]).unwrap();
    let wrong_key = "YS13cm9uZy1rZXktZTViMQ==";
    let (signature, token) = ("c2lnbmF0dXJlLTc3ZjA%3D", "a-bearer-token-31aa");
    let hunt = Hunt { secrets: vec![&azure.key, wrong_key, signature, "c2lnbmF0dXJlLTc3ZjA", token] };
    let container = azure.fresh_container("secrets");
    let (target, other) = (format!("az://{container}/lake"), format!("az://{container}/other"));
    let state = format!("az://{container}/state");
    let common = ["--state", &state, "-v", "-v", "--log-format", "json"];
    let shell = Shell::new(folder.path()).with_azure(&azure).with("RUST_LOG", "trace");
    let verbs: [&[&str]; 6] = [
        &["copy", "source", &target, "--json", "--memory", "32M", "--chunk-size", "1M"],
        &["copy", &target, &other, "--json", "--memory", "32M", "--chunk-size", "1M"],
        &["verify", "source", &target, "--level", "content"],
        &["check", "source", &target],
        &["copy", "source", &target, "--delete", "--dry-run"],
        &["status", "--json"],
    ];
    for verb in verbs {
        let ran = shell.run(&[verb, &common].concat());
        hunt.ran(&verb.join(" "), &ran);
        assert_eq!(ran.code, 0, "{verb:?}: {}", ran.stderr);
    }
    let wrong = shell.clone().with("AZURE_STORAGE_ACCOUNT_KEY", wrong_key);
    hunt.ran("a wrong key", &wrong.run(&[&["copy", "source", &target], &common[..]].concat()).expect(12));
    // A signature or a token that the server refuses: it answers with what it was sent, and that is not repeated.
    let keyless = Shell::new(folder.path())
        .with("AZURE_STORAGE_ENDPOINT", &azure.endpoint)
        .with("AZURE_STORAGE_ACCOUNT_NAME", &azure.account);
    let sas = format!("sv=2021-08-06&ss=b&srt=co&sp=rwdl&se=2030-01-01T00:00:00Z&sig={signature}");
    for (name, value) in [("AZURE_STORAGE_SAS_TOKEN", &*sas), ("AZURE_STORAGE_TOKEN", token)] {
        let ran = keyless.clone().with(name, value).run(&["copy", "source", &target, "-v", "--retry-for", "1s"]);
        hunt.ran(name, &ran);
        assert_ne!(ran.code, 0, "{name}: {}", ran.stderr);
    }
    let kept = folder.path().join("kept");
    shell.run(&["copy", &state, kept.to_str().unwrap()]).expect(0);
    assert!(hunt.files(&kept) > 3, "there is state to look through");
    assert!(std::panic::catch_unwind(|| hunt.text("the key", &azure.key)).is_err(), "and it would have noticed");
}

#[test]
fn no_output_state_or_error_of_a_full_run_holds_a_credential() {
    let Some(s3) = services::s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(source.join(name), name.repeat(1000)).unwrap();
    }
    let (bucket, wrong, token) = (s3.fresh_bucket("secrets"), "a-wrong-secret-e5b1", "a-session-token-77f0");
    let hunt = Hunt { secrets: vec![&s3.secret_key, wrong, token] };
    // One store by its configuration, one by variables.
    let config = format!(
        "[stores.lake]\nurl = \"s3://{bucket}\"\nendpoint = \"{}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
        s3.endpoint, s3.access_key, s3.secret_key
    );
    let config_file = folder.path().join("config.toml");
    std::fs::write(&config_file, config).unwrap();
    let (target, state) = (format!("s3://{bucket}/lake"), folder.path().join("state"));
    let (source, state_text, plan) =
        (source.to_str().unwrap(), state.to_str().unwrap().to_owned(), folder.path().join("out.plan"));
    let common = ["--state", &state_text, "-v", "-v", "--log-format", "json"];
    let by_config = Shell::new(folder.path()).with("UNDERSTUDY_CONFIG", &config_file);
    let by_variables = Shell::new(folder.path()).with_s3(&s3).with("RUST_LOG", "trace");
    for shell in [&by_config, &by_variables] {
        let verbs: [&[&str]; 7] = [
            &["plan", source, &target, "-o", plan.to_str().unwrap()],
            &["copy", source, &target, "--json"],
            &["apply", plan.to_str().unwrap()],
            &["verify", source, &target, "--level", "content"],
            &["copy", source, &target, "--delete", "--dry-run"],
            &["status", "--json"],
            &["unlock", "--job", "no-such-job"],
        ];
        for verb in verbs {
            let ran = shell.run(&[verb, &common].concat());
            hunt.ran(&verb.join(" "), &ran);
            assert!([0, 2, 5].contains(&ran.code), "{verb:?}: {}", ran.stderr);
        }
    }
    let remote_state = format!("s3://{bucket}/state");
    by_variables.run(&["copy", source, &target, "--state", &remote_state, "-v"]).expect(0);
    let kept = folder.path().join("kept");
    by_variables.run(&["copy", &remote_state, kept.to_str().unwrap()]).expect(0);

    // What goes wrong says so without repeating what was given.
    let refused = by_variables.clone().with("AWS_SECRET_ACCESS_KEY", wrong).with("AWS_SESSION_TOKEN", token);
    hunt.ran("wrong keys", &refused.run(&[&["copy", source, &target], &common[..]].concat()).expect(12));
    let option = format!("secret_access_keyy={wrong}");
    let misspelt = ["copy", source, &target, "--target-option", &option];
    hunt.ran("a misspelt option", &by_variables.run(&misspelt).expect(2));
    let inside = format!("s3://{}:{wrong}@{bucket}/lake", s3.access_key);
    hunt.ran("credentials in a place", &by_variables.run(&["copy", source, &inside]).expect(2));
    let broken = folder.path().join("broken.toml");
    std::fs::write(&broken, format!("[stores.lake]\nsecret_access_key = \"{wrong}\"\nurl = 7\n")).unwrap();
    let shell = by_variables.clone().with("UNDERSTUDY_CONFIG", &broken);
    hunt.ran("a broken configuration", &shell.run(&["copy", source, &target]).expect(2));

    assert!(hunt.files(&state) > 5, "there is state to look through");
    assert!(hunt.files(&kept) > 3, "and that in the bucket");
    hunt.text("the plan", &String::from_utf8_lossy(&std::fs::read(&plan).unwrap()));
    // And it would have noticed.
    let found =
        std::panic::catch_unwind(|| hunt.text("the configuration", &std::fs::read_to_string(&config_file).unwrap()));
    assert!(found.is_err());
}
