//! Endpoints that hang, break, lie or are something else: the run recovers, or ends in bounded time with a line that says
//! what failed, and the target is what it was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::cli::{Ran, Shell};
use tests::proxy::{Answer, Proxy, Request};
use tests::services::{self, S3};
use tests::trees::snapshot;

/// No test here may take longer than a run that gives up after some seconds.
const BOUNDED: Duration = Duration::from_secs(30);
const BROKEN: &str = "<Error><Code>InternalError</Code><Message>We are sorry.</Message></Error>";
const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Please slow down.</Message></Error>";
const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>";
const LOGIN: &str = "<!DOCTYPE html><html><body>Please log in to the guest network</body></html>";

type Decide = dyn Fn(&Request) -> Answer + Send + Sync;

/// A bucket with objects behind a proxy, an empty local target, and a shell that goes through the proxy.
struct Download {
    folder: tempfile::TempDir,
    bucket: String,
    proxy: Proxy,
    shell: Shell,
}

fn through(s3: &S3, home: &Path, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Proxy, Shell) {
    let proxy = Proxy::before(&s3.endpoint, decide);
    let mut behind = s3.clone();
    behind.endpoint = proxy.endpoint();
    let shell = Shell::new(home).with_s3(&behind);
    (proxy, shell)
}

fn download(s3: &S3, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Download {
    let folder = tempfile::tempdir().unwrap();
    let bucket = s3.fresh_bucket("endpoint");
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("d")).unwrap();
    for (name, size) in [("a", 10), ("d/b", 70_000), ("z", 3_000_000)] {
        std::fs::write(source.join(name), vec![7; size]).unwrap();
    }
    let direct = Shell::new(folder.path()).with_s3(s3);
    direct.run(&["copy", "source", &format!("s3://{bucket}/lake"), "-q"]).expect(0);
    let (proxy, shell) = through(s3, folder.path(), decide);
    Download { folder, bucket, proxy, shell }
}

impl Download {
    /// Copies the bucket down; every request is given up after a second.
    fn run(&self, more: &[&str]) -> Ran {
        let lake = format!("s3://{}/lake", self.bucket);
        let mut arguments = vec!["copy", &lake, "target", "-q", "--source-option", "timeout=1 second"];
        arguments.extend(more);
        let started = Instant::now();
        let ran = self.shell.run(&arguments);
        assert!(started.elapsed() < BOUNDED, "{:?}\n{}", started.elapsed(), ran.stderr);
        ran
    }

    fn arrived(&self) -> bool {
        let picture = |name: &str| {
            let mut nodes = snapshot(&self.folder.path().join(name));
            nodes.values_mut().for_each(|node| node.mtime_ns = 0);
            nodes
        };
        picture("source") == picture("target")
    }

    /// Nothing arrived, nothing half arrived.
    fn untouched(&self) -> bool {
        let target = self.folder.path().join("target");
        !target.exists() || snapshot(&target).values().all(|node| node.kind == "folder")
    }
}

/// `answer` for the first `times` requests that `which` picks.
fn first(
    times: usize,
    which: impl Fn(&Request) -> bool + Send + Sync,
    answer: Answer,
) -> impl Fn(&Request) -> Answer + Send + Sync {
    let met = Arc::new(AtomicUsize::new(0));
    move |request| match which(request) && met.fetch_add(1, Ordering::SeqCst) < times {
        true => answer.clone(),
        false => Answer::Pass,
    }
}

#[test]
fn an_endpoint_that_fails_for_a_while_is_waited_for() {
    let Some(s3) = services::s3() else { return };
    let any = |_: &Request| true;
    let table: [(&str, Box<Decide>); 8] = [
        ("500", Box::new(first(3, any, Answer::error("500 Internal Server Error", BROKEN)))),
        ("503", Box::new(first(4, any, Answer::error("503 Slow Down", SLOW_DOWN)))),
        ("502 in HTML", Box::new(first(2, any, Answer::Say("502 Bad Gateway", "text/html", LOGIN)))),
        ("resets", Box::new(first(3, any, Answer::Reset))),
        ("hangs while listing", Box::new(first(1, Request::is_listing, Answer::Hang))),
        ("hangs while reading", Box::new(first(1, |r| r.is("GET", "/z"), Answer::Hang))),
        ("a cut body", Box::new(first(3, |r| r.is("GET", "/z"), Answer::CutBy(1_000_000)))),
        ("a cut listing", Box::new(first(2, Request::is_listing, Answer::CutBy(20)))),
    ];
    for (what, decide) in table {
        let download = download(&s3, decide);
        let ran = download.run(&["--json"]);
        assert_eq!(ran.code, 0, "{what}: {}", ran.stderr);
        assert!(ran.number("retries") >= 1, "{what}: {}", ran.summary());
        assert!(download.arrived(), "{what}");
    }
}

#[test]
fn an_endpoint_that_always_fails_ends_the_run_with_75_in_bounded_time() {
    let Some(s3) = services::s3() else { return };
    let table: [(&str, Answer, &[&str]); 4] = [
        ("500", Answer::error("500 Internal Server Error", BROKEN), &["the server failed", "500 InternalError"]),
        ("503", Answer::error("503 Slow Down", SLOW_DOWN), &["slow down", "503 SlowDown"]),
        ("reset", Answer::Reset, &["the connection failed"]),
        ("hang", Answer::Hang, &["no answer in time"]),
    ];
    for (what, answer, words) in table {
        let download = download(&s3, move |r| match r.method.as_str() {
            // Its answer could not say more than a number.
            "HEAD" => Answer::Pass,
            _ => answer.clone(),
        });
        let ran = download.run(&["--retry-for", "2s"]);
        assert_eq!(ran.code, 75, "{what}: {}", ran.stderr);
        let last = ran.last_word();
        assert!(last.starts_with(&format!("distcp copy: cannot list s3://{}/lake: ", download.bucket)), "{last}");
        assert!(words.iter().all(|word| last.contains(word)), "{what}: {last}");
        assert!(last.ends_with("run the same command again: it resumes"), "{what}: {last}");
        assert!(download.proxy.requests() > 1 && download.untouched(), "{what}");
    }
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let Some(s3) = services::s3() else { return };
    let download = download(&s3, |_| Answer::Pass);
    // A port that no program is given by chance.
    let ran = download.run(&["--retry-for", "1s", "--source-option", "endpoint=http://127.0.0.1:1"]).expect(75);
    let last = ran.last_word();
    assert!(last.contains("cannot look at s3://") && last.contains("the connection failed"), "{last}");
    assert!(download.untouched());
}

#[test]
fn one_object_that_never_arrives_whole_fails_by_name_and_the_others_arrive() {
    let Some(s3) = services::s3() else { return };
    let denied = Answer::error("403 Forbidden", DENIED);
    for answer in [Answer::CutBy(1_000_000), Answer::Hang, Answer::Reset, denied] {
        let download = download(&s3, move |r| if r.is("GET", "/z") { answer.clone() } else { Answer::Pass });
        let ran = download.run(&["--retry-for", "1s"]).expect(3);
        let last = ran.last_word();
        assert!(
            last.starts_with("distcp copy: 1 object failed: ") && last.contains("cannot read z at s3://"),
            "{last}"
        );
        assert!(last.ends_with("run the same command again to try them again"), "{last}");
        let target = download.folder.path().join("target");
        let there: Vec<_> = snapshot(&target).into_keys().collect();
        assert_eq!(there, [b"a".to_vec(), b"d".to_vec(), b"d/b".to_vec()], "nothing half arrived");
    }
}

#[test]
fn a_web_page_is_no_store_and_the_message_says_so() {
    let Some(s3) = services::s3() else { return };
    for status in ["200 OK", "404 Not Found", "403 Forbidden"] {
        let download = download(&s3, move |_| Answer::Say(status, "text/html", LOGIN));
        let ran = download.run(&["--retry-for", "2s"]);
        let last = ran.last_word();
        let code = if status.starts_with("403") { 12 } else { 1 };
        assert_eq!(ran.code, code, "{status}: {last}");
        assert!(
            last.contains("cannot l") && last.contains("/lake: ") && last.contains("HTML page"),
            "{status}: {last}"
        );
        assert!(last.contains("endpoint"), "{status} gives no advice: {last}");
        assert_eq!(download.proxy.requests(), 2, "{status}: looked at again, or again and again");
        assert!(download.untouched());
    }
}

/// The server did the work and nobody heard of it: what is tried again finds that out (case 48), the lease included.
#[test]
fn case_48_answers_to_writes_that_are_lost_end_in_the_right_state() {
    let Some(s3) = services::s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = s3.fresh_bucket("lost");
    std::fs::create_dir(folder.path().join("source")).unwrap();
    for (name, size) in [("a", 10), ("b", 70_000), ("c", 9 << 20)] {
        std::fs::write(folder.path().join("source").join(name), vec![7; size]).unwrap();
    }
    // Every third answer to a write is lost, that of a lease as that of an object or a part.
    let writes = AtomicUsize::new(0);
    let (_proxy, shell) = through(&s3, folder.path(), move |request| {
        let lost = matches!(request.method.as_str(), "PUT" | "POST")
            && writes.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        if lost { Answer::CutBy(usize::MAX) } else { Answer::Pass }
    });
    let (target, state) = (format!("s3://{bucket}/lake"), format!("s3://{bucket}/state"));
    let arguments = ["copy", "source", &target, "--state", &state, "--chunk-size", "1M", "--json"];
    let ran = shell.run(&arguments).expect(0);
    assert!(ran.number("retries") >= 1, "{}", ran.summary());
    assert_eq!((ran.number("counts/copied"), ran.number("counts/failed")), (3, 0));
    for name in ["a", "b", "c"] {
        let there = std::fs::read(s3.file_of(&bucket, &format!("lake/{name}"))).unwrap();
        assert!(there == std::fs::read(folder.path().join("source").join(name)).unwrap(), "{name}");
    }
    // Seen without the proxy: one job, nobody's lease, nothing to do.
    let direct = Shell::new(folder.path()).with_s3(&s3);
    let again = direct.run(&["verify", "source", &target, "--level", "content", "--state", &state]);
    assert_eq!(again.code, 0, "{}", again.stderr);
}

/// A target that fails for good in the middle: what is there stays whole, and the next run finishes.
#[test]
fn a_target_that_refuses_every_write_leaves_old_objects_as_they_were() {
    let Some(s3) = services::s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = s3.fresh_bucket("refusing");
    std::fs::create_dir(folder.path().join("source")).unwrap();
    let target = format!("s3://{bucket}/lake");
    std::fs::write(folder.path().join("source/k"), "the old one").unwrap();
    std::fs::write(folder.path().join("source/extra"), "extra").unwrap();
    Shell::new(folder.path()).with_s3(&s3).run(&["copy", "source", &target, "-q"]).expect(0);
    std::fs::write(folder.path().join("source/k"), "the new version").unwrap();
    std::fs::remove_file(folder.path().join("source/extra")).unwrap();
    let arguments = ["copy", "source", &target, "--delete", "--max-deletes", "100%", "--retry-for", "1s"];
    for (answer, words) in [
        (Answer::error("500 Internal Server Error", BROKEN), "the server failed"),
        (Answer::error("403 Forbidden", DENIED), "permission denied"),
        (Answer::Reset, "the connection failed"),
    ] {
        let (_proxy, shell) = through(&s3, folder.path(), move |request| {
            if matches!(request.method.as_str(), "GET" | "HEAD") { Answer::Pass } else { answer.clone() }
        });
        let ran = shell.run(&arguments).expect(3);
        let last = ran.last_word();
        assert!(last.contains("cannot write k at s3://") && last.contains(words), "{last}");
        assert_eq!(std::fs::read(s3.file_of(&bucket, "lake/k")).unwrap(), b"the old one");
        assert!(s3.file_of(&bucket, "lake/extra").exists(), "nothing is deleted after a failure (rule 8)");
    }
}

#[test]
fn case_23_a_target_that_cannot_be_listed_ends_with_12_and_is_never_written() {
    let Some(s3) = services::s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = s3.fresh_bucket("unlisted");
    std::fs::create_dir(folder.path().join("source")).unwrap();
    std::fs::write(folder.path().join("source/new"), "new").unwrap();
    let writes = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&writes);
    let (_proxy, shell) = through(&s3, folder.path(), move |request| {
        if request.method != "GET" && request.method != "HEAD" {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        if request.is_listing() { Answer::error("403 Forbidden", DENIED) } else { Answer::Pass }
    });
    let target = format!("s3://{bucket}/lake");
    for more in [&[][..], &["--delete"], &["--dry-run"]] {
        let mut arguments = vec!["copy", "source", &target];
        arguments.extend(more);
        let ran = shell.run(&arguments).expect(12);
        let last = ran.last_word();
        assert!(last.starts_with(&format!("distcp copy: cannot list {target}: permission denied")), "{last}");
        assert!(last.contains("403 AccessDenied") && last.contains("; "), "{last}");
        assert_eq!(writes.load(Ordering::SeqCst), 0, "{more:?}");
    }
    assert!(!s3.file_of(&bucket, "lake").exists());
}

/// Some servers create over what is there, whatever `If-None-Match` says: no lease can stand on them (rule 16).
#[test]
fn rule_16_a_server_that_ignores_if_none_match_holds_no_lease() {
    let Some(s3) = services::s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("source")).unwrap();
    std::fs::write(folder.path().join("source/k"), "content").unwrap();
    let bucket = s3.fresh_bucket("forgetful");
    let server = s3.clone();
    let (_proxy, shell) = through(&s3, folder.path(), move |request| {
        if request.method == "PUT" && request.header("if-none-match").is_some() {
            let path = request.target.split('?').next().unwrap_or_default().trim_start_matches('/');
            if let Some((bucket, key)) = path.split_once('/') {
                // The server forgets what is there and creates it anew.
                drop(std::fs::remove_file(server.file_of(bucket, key)));
            }
        }
        Answer::Pass
    });
    let (target, state) = (format!("s3://{bucket}/lake"), format!("s3://{bucket}/state"));
    let ran = shell.run(&["copy", "source", &target, "--state", &state]).expect(2);
    let last = ran.last_word();
    assert!(last.contains(&format!("the state at {state} cannot hold a lease: ")), "{last}");
    assert!(last.contains("If-None-Match is ignored") && last.contains("--no-lease"), "{last}");
    assert!(!s3.file_of(&bucket, "lake/k").exists(), "nothing is copied without a lease");
    shell.run(&["copy", "source", &target, "--state", &state, "--no-lease", "-q"]).expect(0);
    assert_eq!(std::fs::read(s3.file_of(&bucket, "lake/k")).unwrap(), b"content");
    let again = shell.run(&["copy", "source", &target, "--state", &state, "--no-lease", "--json"]).expect(0);
    assert_eq!(again.number("counts/equal"), 1);
}
