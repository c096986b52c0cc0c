//! `distcp check`: what works is said to work, what does not is named with its fix, and nothing is left behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use distcp::check::{self, Finding, PROBE_PREFIX, Verdict};
use distcp::store::Store;
use distcp::store::memory::MemoryStore;
use serde_json::Value;
use tests::cli::{Ran, Shell};
use tests::fault::{Fault, FaultPlan, FaultStore, Method, Rule};
use tests::jobs::Pair;
use tests::proxy::{Answer, Proxy, Request};
use tests::services::{self, S3};
use tests::trees::snapshot;

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
const ARCHIVED: &str = "<Error><Code>InvalidObjectState</Code><Message>The operation is not valid.</Message></Error>";

/// The findings of a run with `--json`, without its summary.
fn findings(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    lines.filter(|line| line["type"] == "finding").collect()
}

/// `subject what` of those with this verdict.
fn of(findings: &[Value], verdict: &str) -> BTreeSet<String> {
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let wanted = findings.iter().filter(|finding| finding["verdict"] == verdict);
    wanted.map(|finding| format!("{} {}", word(finding, "subject"), word(finding, "what"))).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn tree(home: &Path) {
    std::fs::create_dir_all(home.join("source/d")).unwrap();
    std::fs::write(home.join("source/d/a"), "some content").unwrap();
}

/// The requests that are denied.
type Picks = fn(&Request) -> bool;

/// A shell that reaches the server through a proxy.
fn through(s3: &S3, home: &Path, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Proxy, Shell) {
    let proxy = Proxy::before(&s3.endpoint, decide);
    let mut behind = s3.clone();
    behind.endpoint = proxy.endpoint();
    let shell = Shell::new(home).with_s3(&behind);
    (proxy, shell)
}

/// Every file that the server keeps of a bucket.
fn objects(s3: &S3, bucket: &str) -> Vec<String> {
    let nodes = snapshot(&s3.file_of(bucket, ""));
    let files = nodes.into_iter().filter(|(_, node)| node.kind != "folder");
    files.map(|(name, _)| format!("{name:?}")).filter(|name| !name.contains(".sgwtmp")).collect()
}

#[test]
fn two_folders_can_work_and_are_left_as_they_were() {
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    std::fs::create_dir(home.path().join("target")).unwrap();
    std::fs::write(home.path().join("target/old"), "old").unwrap();
    let names = || snapshot(home.path()).into_keys().collect::<Vec<_>>();
    let before = names();
    let ran = Shell::new(home.path()).run(&["check", "source", "target", "--json"]).expect(0);
    assert_eq!(names(), before);
    let found = findings(&ran);
    assert_eq!(of(&found, "mend"), set(&[]), "{ran:#?}");
    let works = of(&found, "ok");
    for what in ["source list", "source read", "target write", "target delete", "target clock", "target upload"] {
        assert!(works.contains(what), "{what}: {works:?}");
    }
    assert_eq!(ran.number("findings/mend"), 0);
    assert_eq!(ran.number("findings/ok"), works.len() as u64);
    assert_eq!(ran.summary()["command"], "check");

    let ran = Shell::new(home.path()).run(&["check", "source", "new/target"]).expect(0);
    assert!(ran.stdout.contains("does not exist yet and can be made"), "{ran:#?}");
    assert!(ran.stdout.lines().all(|line| ["ok  ", "note"].contains(&&line[..4])), "{ran:#?}");
    assert_eq!(names(), before);
}

#[test]
fn a_single_file_is_checked_where_it_would_stand() {
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    let before = snapshot(home.path()).into_keys().collect::<Vec<_>>();
    let ran = Shell::new(home.path()).run(&["check", "source/d/a", "source/d/b"]).expect(0);
    assert!(ran.stdout.contains("is one object") && ran.stdout.contains("source  its objects can be read"), "{ran:#?}");
    assert_eq!(snapshot(home.path()).into_keys().collect::<Vec<_>>(), before);
}

#[test]
fn a_source_that_is_missing_or_empty_is_named() {
    let home = tempfile::tempdir().unwrap();
    let ran = Shell::new(home.path()).run(&["check", "nowhere", "target"]).expect(2);
    assert!(ran.stdout.contains("mend  source") && ran.stdout.contains("check how the place is written"), "{ran:#?}");
    assert!(ran.last_word().contains("1 thing to mend"), "{ran:#?}");
    std::fs::create_dir(home.path().join("empty")).unwrap();
    let ran = Shell::new(home.path()).run(&["check", "empty", "target"]).expect(0);
    assert!(ran.stdout.contains("note  source") && ran.stdout.contains("--allow-empty-source"), "{ran:#?}");
    // Rules 1 to 3 are those of a run.
    Shell::new(home.path()).run(&["check", "empty", "empty/in"]).expect(2);
}

#[test]
fn a_bucket_can_work_and_is_left_as_it_was() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    let bucket = s3.fresh_bucket("check");
    let shell = Shell::new(home.path()).with_s3(&s3);
    let (lake, state) = (format!("s3://{bucket}/lake"), format!("s3://{bucket}/state"));
    let ran = shell.run(&["check", "source", &lake, "--state", &state, "--json"]).expect(0);
    let found = findings(&ran);
    assert_eq!(of(&found, "mend"), set(&[]), "{ran:#?}");
    let works = of(&found, "ok");
    for what in ["target write", "target conditions", "target copy", "target upload", "state conditions"] {
        assert!(works.contains(what), "{what}: {found:#?}");
    }
    assert!(of(&found, "note").contains("both folders"), "{found:#?}");
    assert_eq!(objects(&s3, &bucket), Vec::<String>::new());
    // The other way round, and between two buckets.
    shell.run(&["copy", "source", &lake, "--state", &state, "-q"]).expect(0);
    shell.run(&["check", &lake, "back", "-q"]).expect(0);
    let other = format!("s3://{}/lake", s3.fresh_bucket("check"));
    let ran = shell.run(&["check", &lake, &other, "--json"]).expect(0);
    assert!(of(&findings(&ran), "ok").contains("source read"), "{ran:#?}");
}

#[test]
fn a_missing_bucket_and_wrong_keys_are_named_with_their_fix() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    let shell = Shell::new(home.path()).with_s3(&s3);
    let ran = shell.run(&["check", "source", "s3://no-such-bucket-here/x"]).expect(2);
    assert!(ran.stdout.contains("mend  target") && ran.stdout.contains("create the bucket"), "{ran:#?}");
    assert!(ran.stdout.contains("ok    source"), "the other side is checked all the same: {ran:#?}");

    let wrong = shell.with("AWS_SECRET_ACCESS_KEY", "wrong");
    let bucket = s3.fresh_bucket("check");
    let ran = wrong.run(&["check", "source", &format!("s3://{bucket}")]).expect(12);
    assert!(ran.stdout.contains("mend  target") && ran.last_word().contains("AWS_SECRET_ACCESS_KEY"), "{ran:#?}");
}

#[test]
fn rule_09_a_store_that_cannot_be_reached_is_75() {
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    // Nobody listens on port 1.
    let mut nobody = S3::clone(&match services::s3() {
        Some(s3) => s3,
        None => return,
    });
    nobody.endpoint = "http://127.0.0.1:1".into();
    let shell = Shell::new(home.path()).with_s3(&nobody);
    let ran = shell.run(&["check", "source", "s3://bucket/x", "--retry-for", "1s"]).expect(75);
    assert!(ran.stdout.contains("mend  target") && ran.stdout.contains("can be reached"), "{ran:#?}");
    // Said by the state, too.
    let ran = shell.run(&["check", "source", "target", "--state", "s3://bucket/x", "--retry-for", "1s"]).expect(75);
    assert!(ran.stdout.contains("mend  state"), "{ran:#?}");
}

#[test]
fn what_is_not_permitted_is_named_step_by_step() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    let lists = |request: &Request| request.is_listing();
    let table: [(&str, Picks, &[&str], &str); 4] = [
        ("PUT", |request| request.method == "PUT", &["target write"], "s3:PutObject"),
        ("list", lists, &["target list"], "s3:ListBucket"),
        (
            "delete",
            |request| request.method == "DELETE" || (request.method == "POST" && request.target.contains("delete")),
            &["target delete", "target leftover", "target upload"],
            "s3:DeleteObject",
        ),
        ("parts", |request| request.target.contains("uploads"), &["target upload"], "s3:AbortMultipartUpload"),
    ];
    for (name, which, wanted, action) in table {
        let bucket = s3.fresh_bucket("check");
        let (_proxy, shell) = through(&s3, home.path(), move |request| match which(request) {
            true => Answer::error("403 Forbidden", DENIED),
            false => Answer::Pass,
        });
        let ran = shell.run(&["check", "source", &format!("s3://{bucket}/x"), "--json"]).expect(12);
        let found = findings(&ran);
        assert_eq!(of(&found, "mend"), set(wanted), "{name}: {found:#?}");
        let fixes: Vec<&str> = found.iter().filter_map(|finding| finding["fix"].as_str()).collect();
        assert!(fixes.iter().any(|fix| fix.contains(action)), "{name}: {fixes:?}");
        let left = objects(&s3, &bucket);
        assert_eq!(left.is_empty(), name != "delete", "{name}: {left:?}");
        if name == "delete" {
            assert!(fixes.iter().any(|fix| fix.contains(PROBE_PREFIX)), "what is left is named: {fixes:?}");
        }
    }
}

#[test]
fn an_archived_source_is_named() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    tree(home.path());
    let bucket = s3.fresh_bucket("check");
    let lake = format!("s3://{bucket}/lake");
    Shell::new(home.path()).with_s3(&s3).run(&["copy", "source", &lake, "-q"]).expect(0);
    let (_proxy, shell) = through(&s3, home.path(), |request| match request.is("GET", "d/a") {
        true => Answer::error("403 Forbidden", ARCHIVED),
        false => Answer::Pass,
    });
    let ran = shell.run(&["check", &lake, "back"]).expect(2);
    assert!(ran.stdout.contains("mend  source") && ran.stdout.contains("rehydrate"), "{ran:#?}");
}

async fn looked(pair: &Pair) -> Vec<Finding> {
    let mut found = Vec::new();
    check::look(&pair.job(), &pair.stop.token, |finding| found.push(finding)).await;
    found
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_found_out() {
    let target =
        MemoryStore::with_capabilities(|can| (can.conditional_create, can.conditional_replace) = (false, false));
    let pair = Pair::new(Arc::new(MemoryStore::new()), Arc::new(target.clone()));
    let found = looked(&pair).await;
    let conditions = found.iter().find(|finding| finding.what == "conditions").unwrap();
    assert!(conditions.verdict == Verdict::Note && conditions.text.contains("and If-Match"), "{found:#?}");
    assert!(target.objects().is_empty());
}

#[tokio::test]
async fn whatever_fails_the_throwaway_objects_are_removed() {
    for method in [Method::Head, Method::Get, Method::Copy, Method::CreateUpload, Method::AbortUpload] {
        let memory = MemoryStore::new();
        let fault = Fault::Fail(distcp::store::StoreErrorKind::Server);
        let plan = FaultPlan { rules: vec![Rule::every(method, fault)], ..FaultPlan::default() };
        let target: Arc<dyn Store> = Arc::new(FaultStore::new(Arc::new(memory.clone()), plan));
        let found = looked(&Pair::new(Arc::new(MemoryStore::new()), target)).await;
        assert!(found.iter().any(|finding| finding.verdict == Verdict::Mend), "{method:?}: {found:#?}");
        assert!(memory.objects().is_empty(), "{method:?}: {:?}", memory.objects());
    }
}

#[tokio::test]
async fn a_stop_in_the_middle_leaves_nothing() {
    let memory = MemoryStore::new();
    let pair = Pair::new(Arc::new(MemoryStore::new()), Arc::new(memory.clone()));
    let (stop, mut job) = (pair.stop.token.clone(), pair.job());
    // The stores of a check do not hear the signal.
    let deaf = Pair::new(pair.source.clone(), pair.target.clone()).job();
    (job.source, job.target) = (deaf.source, deaf.target);
    let mut whats = Vec::new();
    check::look(&job, &stop, |finding| {
        if finding.what == "write" {
            stop.cancel();
        }
        whats.push(finding.what);
    })
    .await;
    assert_eq!(whats.last(), Some(&"delete"), "{whats:?}");
    assert!(memory.objects().is_empty());
}
