//! Places that are wrong: missing, unreachable for want of credentials, inside one another, misspelt. Each ends the run
//! before anything is read or written, with one line that says what to do.

use std::path::Path;

use tests::cli::{Ran, Shell};
use tests::services::{self, S3};
use tests::trees::snapshot;

/// A home with a source of two files, and a shell in it.
fn home() -> (tempfile::TempDir, Shell) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "source/a", "a");
    write(folder.path(), "source/inner/b", "b");
    let shell = Shell::new(folder.path());
    (folder, shell)
}

fn write(root: &Path, name: &str, body: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, body).unwrap();
}

/// Runs `copy` and checks the code, that the last line holds all the words, and that nothing in the home changed but the
/// state folder.
#[track_caller]
fn refused(folder: &Path, shell: &Shell, arguments: &[&str], code: i32, words: &[&str]) -> Ran {
    let before = files(folder);
    let mut all = vec!["copy"];
    all.extend(arguments);
    let ran = shell.run(&all);
    assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
    let last = ran.last_word();
    assert!(last.starts_with("distcp"), "{arguments:?}: {last}");
    for word in words {
        assert!(last.contains(word), "{arguments:?}: {word:?} is not in: {last}");
    }
    assert_eq!(files(folder), before, "{arguments:?}");
    ran
}

/// What a home holds but for state, and for empty folders.
fn files(folder: &Path) -> Vec<(Vec<u8>, String)> {
    let nodes = snapshot(folder).into_iter().filter(|(key, node)| !key.starts_with(b".local") && node.kind != "folder");
    nodes.map(|(key, node)| (key, node.hash)).collect()
}

#[test]
fn a_missing_source_is_a_wrong_place() {
    let (folder, shell) = home();
    for source in ["nothing", "source/a/below-a-file", "source/nothing/deeper"] {
        for more in [&[][..], &["--delete"], &["--allow-empty-source"]] {
            let mut arguments = vec![source, "target"];
            arguments.extend(more);
            refused(folder.path(), &shell, &arguments, 2, &[source, "; check how the place is written"]);
        }
    }
}

#[test]
fn rule_05_a_prefix_that_holds_nothing_is_an_empty_source() {
    let Some(s3) = services::s3() else { return };
    let (folder, shell) = home();
    let source = format!("s3://{}/nothing", s3.fresh_bucket("places"));
    write(folder.path(), "target/kept", "kept");
    let shell = shell.with_s3(&s3);
    for more in [&[][..], &["--delete"]] {
        let mut arguments = vec![&*source, "target"];
        arguments.extend(more);
        let words = ["the source is empty", "the target has 1 object", "--allow-empty-source"];
        refused(folder.path(), &shell, &arguments, 5, &words);
    }
}

#[test]
fn case_22_a_missing_bucket_is_one_clear_error_wherever_it_stands() {
    let Some(s3) = services::s3() else { return };
    let (folder, shell) = home();
    let shell = shell.with_s3(&s3);
    let missing = "s3://no-such-bucket-here/lake";
    let there = format!("s3://{}/lake", s3.fresh_bucket("places"));
    for arguments in
        [&[missing, "target"][..], &["source", missing], &[missing, &there], &["source", missing, "--delete"]]
    {
        let words = [missing, "the bucket does not exist", "create the bucket, or correct the place"];
        let ran = refused(folder.path(), &shell, arguments, 2, &words);
        let said = ran.stderr.lines().filter(|line| !line.starts_with("note: ")).count();
        assert_eq!(said, 1, "{}", ran.stderr);
    }
    let words = ["the bucket of the state at s3://no-such-bucket-here/lake does not exist", "; "];
    refused(folder.path(), &shell, &["source", "target", "--state", missing], 2, &words);
}

#[test]
fn case_22_a_missing_container_is_called_one() {
    let Some(azure) = services::azure() else { return };
    let (folder, shell) = home();
    let shell = shell.with_azure(&azure);
    let missing = "az://no-such-container-here/lake";
    let words = [missing, "the container does not exist", "create the container, or correct the place"];
    refused(folder.path(), &shell, &["source", missing], 2, &words);
    let words = ["the container of the state at az://no-such-container-here/lake", "does not exist"];
    refused(folder.path(), &shell, &["source", "target", "--state", missing], 2, &words);
}

fn without_keys(folder: &Path, s3: &S3) -> Shell {
    Shell::new(folder).with("AWS_ENDPOINT_URL", &s3.endpoint).with("AWS_EC2_METADATA_DISABLED", "true")
}

#[test]
fn absent_credentials_name_what_was_looked_at() {
    let Some(s3) = services::s3() else { return };
    let (folder, _) = home();
    let home = folder.path();
    let target = format!("s3://{}/lake", s3.fresh_bucket("places"));
    let bare = without_keys(home, &s3);
    let file = home.join(".aws/credentials");
    let variables =
        ["AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set", file.to_str().unwrap(), "; set one"];
    refused(home, &bare, &["source", &target], 12, &variables);
    refused(home, &bare, &[&target, "target"], 12, &variables);
    let profile = bare.clone().with("AWS_PROFILE", "nightly");
    refused(home, &profile, &["source", &target], 12, &["nightly", "[stores.NAME]"]);
    // A store of the configuration that names what is not there.
    for (key, words) in [("env:EU_KEY", "the variable EU_KEY, which is not set"), ("file:/no/such/key", "/no/such/key")]
    {
        write(
            home,
            ".config/understudy/config.toml",
            &format!(
                "[stores.eu]\nurl = \"{target}\"\naccess_key_id = \"x\"\nsecret_access_key = \"{key}\"\n\
                 endpoint = \"{}\"\n",
                s3.endpoint
            ),
        );
        refused(home, &bare, &["source", &target], 12, &["no credentials for", "secret_access_key", words]);
    }
}

#[test]
fn wrong_credentials_end_with_12_and_are_never_shown() {
    let Some(s3) = services::s3() else { return };
    let (folder, _) = home();
    let bucket = s3.fresh_bucket("places");
    let target = format!("s3://{bucket}/lake");
    let secret = "this-is-not-the-secret";
    let wrong_secret = without_keys(folder.path(), &s3)
        .with("AWS_ACCESS_KEY_ID", &s3.access_key)
        .with("AWS_SECRET_ACCESS_KEY", secret);
    let wrong_key =
        without_keys(folder.path(), &s3).with("AWS_ACCESS_KEY_ID", "nobody").with("AWS_SECRET_ACCESS_KEY", secret);
    for shell in [wrong_secret, wrong_key] {
        for arguments in [["source", &*target], [&*target, "target"]] {
            let words = [&*target, "credentials are missing or wrong", "check the credentials: AWS_ACCESS_KEY_ID"];
            let ran = refused(folder.path(), &shell, &arguments, 12, &words);
            assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}", ran.stderr);
        }
    }
    assert!(!s3.file_of(&bucket, "lake").exists());
}

#[test]
fn case_16_places_inside_one_another_are_refused_before_anything_is_read() {
    let (folder, shell) = home();
    let home = folder.path();
    std::os::unix::fs::symlink("source", home.join("link")).unwrap();
    for (arguments, words) in [
        (["source", "source/inner"], "the target"),
        (["source/inner", "source"], "the source"),
        (["source", "source/new/deep"], "the target"),
        (["source", "./source/../source/inner/"], "the target"),
        (["link", "source/inner"], "the target"),
        (["source", "source"], "the same place"),
        (["source", "link"], "the same place"),
    ] {
        refused(home, &shell, &arguments, 2, &[words]);
        assert!(!home.join("source/new").exists());
    }
    // Stores are compared by their names: nothing is asked of them.
    let shell = shell.with("AWS_ACCESS_KEY_ID", "x").with("AWS_SECRET_ACCESS_KEY", "y");
    refused(home, &shell, &["s3://bucket/a", "s3a://bucket/a/b"], 2, &["lies inside", "--exclude 'b/**'"]);
    refused(home, &shell, &["s3://bucket/a/b", "s3n://bucket"], 2, &["lies inside", "--exclude 'a/b/**'"]);
    // With the overlap left out it is no overlap.
    let arguments = ["copy", "source", "source/new", "--exclude", "new/**", "-q"];
    shell.run(&arguments).expect(0);
    shell.run(&arguments).expect(0);
    assert_eq!(std::fs::read(home.join("source/new/inner/b")).unwrap(), b"b");
    assert!(!home.join("source/new/new").exists());
}

#[test]
fn what_is_misspelt_is_wrong_usage_and_the_nearest_name_is_told() {
    let (folder, shell) = home();
    let home = folder.path();
    let shell = shell.with("AWS_ACCESS_KEY_ID", "x").with("AWS_SECRET_ACCESS_KEY", "y");
    let table: [(&[&str], &[&str]); 13] = [
        (&["source", "s4://bucket/x"], &["s4://bucket/x", "unknown scheme \"s4\"", "did you mean \"s3\""]),
        (&["hdf://n:1/x", "target"], &["unknown scheme \"hdf\"", "did you mean \"hdfs\""]),
        (&["source", "eu:lake/x"], &["names the store \"eu\"", "./eu:lake/x"]),
        (&["source", "s3://"], &["s3://"]),
        (&["source", "s3://b/x", "--target-option", "regoin=x"], &["\"regoin\"", "did you mean \"region\""]),
        (&["s3://b/x", "target", "--source-option", "tiemout=1s"], &["\"tiemout\"", "did you mean \"timeout\""]),
        (
            &["source", "target", "--target-option", "region=x"],
            &["\"region\" is no option of", "local places take none"],
        ),
        (&["source", "s3://b/x", "--target-option", "timeout=soon"], &["the option timeout", "\"soon\""]),
        (
            &["source", "s3://b/x", "--target-option", "proxy_url=x::y"],
            &["cannot open s3://b/x", "the option proxy_url"],
        ),
        (&["source", "s3://b/x", "--target-option", "endpoint=there"], &["the endpoint \"there\" is no http(s) URL"]),
        (&["source", "target", "--target-option", "region"], &["expected KEY=VALUE", "see: distcp"]),
        (&["source", "target", "--delet"], &["'--delet'", "'--delete'", "see: distcp copy --help"]),
        (&["source", "target", "--compare", "hsh"], &["'hsh'", "hash", "see: distcp"]),
    ];
    for (arguments, words) in table {
        refused(home, &shell, arguments, 2, words);
    }
    for (text, words) in [
        ("[store.eu]\nurl = \"s3://x\"\n", ["unknown key store", "did you mean \"stores\""]),
        ("[stores.eu]\nurl = \"s3://x\"\nendpiont = \"http://x\"\n", ["stores.eu.endpiont", "\"endpoint\""]),
        ("[stores.eu]\nurl = \"s3://x\"\noptions = { alow_http = true }\n", ["alow_http", "\"allow_http\""]),
        ("[stores.eu\n", ["no valid TOML", "line 1"]),
    ] {
        write(home, ".config/understudy/config.toml", text);
        refused(home, &shell, &["source", "target"], 2, &words);
    }
}

#[test]
fn rule_02_state_on_the_sources_side_is_refused_unless_it_is_allowed() {
    let Some(s3) = services::s3() else { return };
    let (folder, shell) = home();
    let shell = shell.with_s3(&s3);
    let (from, to) = (s3.fresh_bucket("rule-two"), s3.fresh_bucket("rule-two"));
    let (lake, copy, state) = (format!("s3://{from}/lake"), format!("s3://{to}/lake"), format!("s3://{from}/state"));
    shell.run(&["copy", "source", &lake, "-q"]).expect(0);
    for (arguments, place) in [
        ([&*lake, &*copy, "--state", &*state], &*state),
        ([&*lake, "target", "--state", &*state], &*state),
        (["source", "target", "--state", "source/state"], "source/state"),
    ] {
        let words = [place, "is on the source's side", "--state-on-source"];
        refused(folder.path(), &shell, &arguments, 2, &words);
    }
    assert!(!s3.file_of(&from, "state").exists() && !s3.file_of(&to, "lake").exists());
    shell.run(&["copy", &lake, &copy, "--state", &state, "--state-on-source", "-q"]).expect(0);
    assert!(s3.file_of(&from, "state").exists());
    // Within the source it is left out of what is copied.
    shell.run(&["copy", "source", "target", "--state", "source/state", "--state-on-source", "-q"]).expect(0);
    assert!(!folder.path().join("target/state").exists() && folder.path().join("source/state").exists());
}

#[test]
fn rule_02_a_state_on_this_machine_with_a_remote_target_is_said_once() {
    let Some(s3) = services::s3() else { return };
    let (folder, shell) = home();
    let shell = shell.with_s3(&s3);
    let bucket = s3.fresh_bucket("rule-two");
    let (target, state) = (format!("s3://{bucket}/lake"), format!("s3://{bucket}/state"));
    let notes = |arguments: &[&str]| {
        let ran = shell.run(arguments).expect(0);
        ran.stderr.lines().filter(|line| line.contains("other machines that run this job are not kept out")).count()
    };
    assert_eq!(notes(&["copy", "source", &target]), 1);
    assert_eq!(notes(&["copy", "source", &target, "--state", &state]), 0);
    assert_eq!(notes(&["copy", "source", &target, "--state", "state"]), 0);
    assert_eq!(notes(&["copy", "source", "target"]), 0);
    assert!(folder.path().join(".local/state/understudy").is_dir());
}
