//! The real binary, killed at random moments of a job against a real server (case 30): the end equals an undisturbed copy,
//! and what is read twice is bounded.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tests::cli::Shell;
use tests::running::{Running, end_within};
use tests::services::{self, Tool};
use tests::trees::{RandomTree, TreeShape, contents};

const MIB: u64 = 1 << 20;
/// Kills of one job.
const KILLS: usize = 20;
/// The rate of the runs that are killed, a second.
const SLOW: &str = "16M";
/// The memory of the runs that are killed: what may have been read and not yet sent.
const MEMORY: &str = "32M";
/// What one kill may cost in bytes that are read again: what was in memory, what had been sent and was not yet journalled
/// (as much as the rate lets through in 1.5 s), and as much again to compare what had arrived.
const LOST_PER_KILL_BYTES: u64 = (32 + 24 + 24) * MIB;
/// How long a run may go on before it is killed.
const PATIENCE_MS: std::ops::Range<u64> = 20..1500;

fn tree(root: &Path, seed: u64) -> (RandomTree, u64) {
    let sizes = vec![0, 1, 1000, 64 << 10, MIB - 1, MIB, 3 * MIB, 9 * MIB + 17, 25 * MIB + 1];
    let shape = TreeShape { files: 64, sizes, odd_names: false, ..TreeShape::default() };
    let tree = RandomTree::build(root, seed, shape);
    let files = contents(root).into_keys().map(|key| tests::trees::path_of(root, &key));
    let bytes = files.filter_map(|path| path.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum();
    (tree, bytes)
}

/// What a process has read so far by the kernel's count, from files; none when it cannot be told.
fn read_by(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A job that was killed again and again.
struct Disturbed {
    kills: usize,
    /// What all killed runs together read.
    read_bytes: u64,
}

/// Runs the job slowed down, killing it at random moments, until it was killed often enough or is done.
fn disturb(shell: &Shell, arguments: &[&str], dice: &mut StdRng) -> Disturbed {
    let arguments = [arguments, &["--bwlimit", SLOW, "--memory", MEMORY]].concat();
    let mut disturbed = Disturbed { kills: 0, read_bytes: 0 };
    while disturbed.kills < KILLS {
        let mut child = shell.distcp(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let patience = Duration::from_millis(dice.random_range(PATIENCE_MS));
        if let Some(status) = end_within(&mut child, patience) {
            // It was done before its time: nothing is left to disturb.
            assert_eq!(status.code(), Some(0), "after {} kills", disturbed.kills);
            break;
        }
        child.kill().unwrap();
        // A killed process that nobody has waited for still has its counts.
        disturbed.read_bytes += read_by(child.id());
        child.wait().unwrap();
        disturbed.kills += 1;
    }
    disturbed
}

#[test]
fn case_30_killed_at_random_moments_the_end_is_that_of_a_clean_copy() {
    let Some(s3) = services::s3() else { return };
    let seed = std::env::var("UNDERSTUDY_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_121);
    println!("replay with UNDERSTUDY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (source, back) = (folder.path().join("source"), folder.path().join("back"));
    let (tree, bytes) = tree(&source, seed);
    let shell = Shell::new(folder.path()).with_s3(&s3);
    let bucket = s3.fresh_bucket("kill");
    let remote = format!("s3://{bucket}/lake");
    let up = ["copy", source.to_str().unwrap(), &remote, "--json", "--chunk-size", "1M"];
    let disturbed = disturb(&shell, &up, &mut dice);
    let last = shell.run(&up).expect(0);
    println!("{bytes} bytes, {} kills, {} read by killed runs", disturbed.kills, disturbed.read_bytes);
    assert!(disturbed.kills >= KILLS / 2, "only {} kills: the job is too short to prove anything", disturbed.kills);
    let read = disturbed.read_bytes + last.number("bytes/read");
    assert!(disturbed.read_bytes > 0, "what a killed process read can be told");
    let bound = bytes + disturbed.kills as u64 * LOST_PER_KILL_BYTES;
    assert!(read <= bound, "{read} bytes were read for {bytes} in {} kills", disturbed.kills);

    let down = ["copy", &remote, back.to_str().unwrap(), "--json", "--chunk-size", "1M"];
    let disturbed = disturb(&shell, &down, &mut dice);
    assert!(disturbed.kills >= KILLS / 2, "only {} kills", disturbed.kills);
    shell.run(&down).expect(0);
    assert_eq!(contents(tree.root()), contents(&back));
    let again = shell.run(&up).expect(0);
    assert_eq!((again.number("counts/copied"), again.number("bytes/read")), (0, 0), "{}", again.stdout);
    let verified = shell.run(&["verify", source.to_str().unwrap(), &remote, "--level", "content"]).expect(0);
    assert_eq!(verified.stdout.lines().filter(|line| line.starts_with(['-', '+', '*', '!', '?'])).count(), 0);

    // No temporary file is left behind, and no upload but those of runs that were killed between the store's answer and the
    // journal: they had no part yet, and nobody can tell whose they are (rule 18).
    let Some(aws) = services::tool(Tool::Aws) else { return };
    let left =
        shell.oracle(&aws, &["s3api", "list-multipart-uploads", "--bucket", &bucket, "--output", "json"]).expect(0);
    let left: serde_json::Value = serde_json::from_str(&left.stdout).unwrap_or_default();
    let ids = left["Uploads"].as_array().into_iter().flatten().filter_map(|upload| upload["UploadId"].as_str());
    let journals = journals(&folder.path().join(".local/state/understudy")).concat();
    assert!(journals.contains("upload_begun"), "the journals are still there");
    for id in ids {
        println!("an upload that no journal names: {id}");
        assert!(!journals.contains(id), "{id} was journalled and is left");
    }
    let temporary = contents(&back).into_keys().filter(|key| key.windows(11).any(|w| w == b".understudy")).count();
    assert_eq!(temporary, 0);
}

#[test]
fn case_29_a_large_object_that_was_killed_goes_on_in_the_middle() {
    let Some(s3) = services::s3() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree = RandomTree::build(&source, 3, TreeShape { files: 0, ..TreeShape::default() });
    let size = 96 * MIB + 17;
    let body: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 13) as u8).collect();
    tree.write(b"large", &body);
    let shell = Shell::new(folder.path()).with_s3(&s3);
    let remote = format!("s3://{}/lake", s3.fresh_bucket("large"));
    let slow = ["copy", source.to_str().unwrap(), &remote, "--json", "--chunk-size", "1M", "--bwlimit", "16M"];
    let mut child = shell.distcp(&slow).stdout(Stdio::null()).spawn().unwrap();
    // Wait until the journal durably holds finished parts, then pull the plug.
    let state = folder.path().join(".local/state/understudy");
    let deadline = Instant::now() + Duration::from_secs(60);
    let parts = loop {
        let parts: usize = journals(&state).iter().map(|text| text.matches("part_done").count()).sum();
        if parts >= 2 {
            break parts;
        }
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no part was journalled");
        std::thread::yield_now();
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = shell.run(&["copy", source.to_str().unwrap(), &remote, "--json", "--chunk-size", "1M"]).expect(0);
    let (read, spared) = (resumed.number("bytes/read"), parts as u64 * 8 * MIB);
    assert!(read <= size - spared, "{read} of {size} bytes were read again, {parts} parts were finished");
    let verified = shell.run(&["verify", source.to_str().unwrap(), &remote, "--level", "content"]);
    verified.expect(0);
}

/// All journal segments of a state folder.
fn journals(state: &Path) -> Vec<String> {
    let Ok(jobs) = std::fs::read_dir(state) else { return Vec::new() };
    let runs = jobs.flatten().filter_map(|job| std::fs::read_dir(job.path().join("runs")).ok()).flatten().flatten();
    let files = runs.filter_map(|run| std::fs::read_dir(run.path()).ok()).flatten().flatten();
    let segments = files.filter(|file| file.file_name().to_string_lossy().starts_with("journal-"));
    segments.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
}

#[test]
fn a_run_that_a_signal_ends_says_so_in_a_state_that_is_in_a_bucket() {
    let Some(server) = services::s3() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let shell = Shell::new(scratch.path()).with_s3(&server);
    let bucket = server.fresh_bucket("state");
    std::fs::create_dir(scratch.path().join("source")).unwrap();
    for file in 0..4 {
        std::fs::write(scratch.path().join(format!("source/{file}")), vec![file; 900_000]).unwrap();
    }
    let place = format!("s3://{bucket}/state");
    let copy = ["copy", "source", "target", "--state", &place];
    let mut running = Running::start(shell.distcp(&[&copy[..], &["--bwlimit", "400K"]].concat()));
    let count = || std::fs::read_dir(scratch.path().join("target")).map_or(0, Iterator::count);
    running.until("the copy", || count() > 0);
    running.signal(Signal::TERM);
    let ended = running.end().expect(143);
    assert!(!ended.stderr.contains("the lease could not be given back"), "{}", ended.stderr);
    let again = shell.run(&copy).expect(0);
    assert!(!again.stderr.contains("waiting up to"), "nobody holds the lease: {}", again.stderr);
    assert_eq!(contents(&scratch.path().join("source")), contents(&scratch.path().join("target")));
    server.remove_bucket(&bucket);
}
