//! Large amounts: a plan of many actions in flat memory, an object above what one request takes. The ordinary run takes fewer
//! and smaller ones; `cargo xtask test --long` takes a million and 6 GiB.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::cli::Shell;
use tests::services;

/// No run may take more, whatever the number of objects.
const MOST_MEMORY_MIB: u64 = 200;

/// Runs `distcp` to its end, its output into a file, and answers with the most memory that it had, in MiB.
fn peak_of(shell: &Shell, arguments: &[&str], output: &Path) -> u64 {
    let mut command = shell.distcp(arguments);
    let stderr = output.with_extension("err");
    command.stdout(File::create(output).unwrap()).stderr(File::create(&stderr).unwrap()).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let ended = loop {
        // It only rises, and is gone with the process: the last one read counts.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()) {
            peak_kib = peak_kib.max(kib);
        }
        match child.try_wait().unwrap() {
            Some(ended) => break ended,
            None => std::thread::park_timeout(Duration::from_millis(5)),
        }
    };
    assert!(ended.success(), "{arguments:?}: {}", std::fs::read_to_string(stderr).unwrap());
    peak_kib / 1024
}

fn fill(root: &Path, files: usize) {
    for i in 0..files {
        let folder = root.join(format!("d{:04}", i / 1000));
        if i % 1000 == 0 {
            std::fs::create_dir_all(&folder).unwrap();
        }
        File::create(folder.join(format!("f{:03}", i % 1000))).unwrap();
    }
}

#[test]
fn a_plan_of_many_actions_is_printed_and_applied_in_flat_memory() {
    let sizes = if services::long() { vec![200_000, 1_000_000] } else { vec![20_000] };
    let mut peaks = Vec::new();
    for files in sizes {
        let scratch = tempfile::tempdir().unwrap();
        fill(&scratch.path().join("source"), files);
        let shell = Shell::new(scratch.path());
        let (printed, applied) = (scratch.path().join("printed"), scratch.path().join("applied"));
        let began = Instant::now();
        let printing = peak_of(&shell, &["plan", "source", "target", "-o", "it.plan", "--json"], &printed);
        let (planned_in, lines) = (began.elapsed(), std::fs::read_to_string(&printed).unwrap().lines().count());
        assert!(lines > files, "{lines} lines of {files} actions");
        let applying = peak_of(&shell, &["apply", "it.plan", "--json"], &applied);
        println!(
            "{files} files: plan {printing} MiB, {planned_in:?}; apply {applying} MiB, {:?}",
            began.elapsed() - planned_in
        );
        let text = std::fs::read_to_string(&applied).unwrap();
        let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(summary["counts"]["failed"], 0);
        assert!(summary["counts"]["copied"].as_u64().unwrap() >= files as u64, "{summary}");
        assert!(printing < MOST_MEMORY_MIB && applying < MOST_MEMORY_MIB, "{printing} and {applying} MiB");
        peaks.push((printing, applying));
    }
    if let [small, large] = peaks[..] {
        // Five times as many objects, no more memory (but for a tenth of noise).
        assert!(large.0 * 10 <= small.0 * 11 && large.1 * 10 <= small.1 * 11, "{small:?} and {large:?} MiB");
    }
}

/// Above what one PUT and one CopyObject take: sent in parts, killed in the middle, gone on with, and copied to another
/// bucket by the service in parts. The ordinary run tells the store that it copies less in one request.
#[test]
fn case_29_an_object_above_the_limits_of_one_request() {
    let Some(s3) = services::s3() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let gib = 1u64 << 30;
    let size = if services::long() { 6 * gib + 17 } else { 96 * (1 << 20) + 17 };
    // 97 parts of 6 GiB: versitygw keeps the list of all parts in one attribute of the file, which the file system bounds.
    let chunks = ["--chunk-size", if services::long() { "64M" } else { "8M" }];
    std::fs::create_dir(scratch.path().join("source")).unwrap();
    let file = File::create(scratch.path().join("source/large")).unwrap();
    // Holes, with something else in each stretch of 64 MiB.
    for at in (0..size).step_by(64 << 20) {
        let word = blake3::hash(&at.to_le_bytes());
        file.write_all_at(word.as_bytes(), at + at / (64 << 20)).unwrap();
    }
    file.set_len(size).unwrap();
    drop(file);
    tests::trees::age(&scratch.path().join("source"));
    let (first, second) = (s3.fresh_bucket("large-a"), s3.fresh_bucket("large-b"));
    let (there, beside) = (format!("s3://{first}/lake"), format!("s3://{second}/lake"));
    let shell = Shell::new(scratch.path()).with_s3(&s3);
    let copy = [&["copy", "source", &there, "--json"], &chunks[..]].concat();
    let slowly = (size / 20).to_string();
    let mut child = shell.distcp(&[&copy[..], &["--bwlimit", &slowly]].concat()).stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !has_part(&scratch.path().join(".local")) {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "it was to be killed in its upload");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let jobs = shell.run(&["status", "--json"]);
    let job = jobs.stdout.lines().find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        value["job"].as_str().map(str::to_owned)
    });
    shell.run(&["unlock", "--job", &job.expect("the job is known"), "--yes"]).expect(0);
    let resumed = shell.run(&copy).expect(0);
    assert_eq!(resumed.number("counts/copied"), 1);
    assert!(resumed.number("bytes/read") < size, "what was sent is not sent again: {resumed:#?}");
    shell.run(&["verify", "source", &there]).expect(0);

    let mut copy = [&["copy", &there, &beside, "--json"], &chunks[..]].concat();
    if !services::long() {
        copy.extend(["--source-option", "max_copy_bytes=8388608", "--target-option", "max_copy_bytes=8388608"]);
    }
    let copied = shell.run(&copy).expect(0);
    assert_eq!((copied.number("bytes/server_side"), copied.number("bytes/read")), (size, 0), "{}", copied.stdout);
    assert!(copied.number("requests/copy") > 1, "in parts");
    shell.run(&["verify", "source", &beside, "--level", "content"]).expect(0);
    for bucket in [first, second] {
        s3.remove_bucket(&bucket);
    }
}

/// Whether a journal below the state says of a part that it was sent.
fn has_part(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => has_part(&path),
            // A segment that has no name yet would be lost with its writer.
            false if entry.file_name().as_encoded_bytes().starts_with(b".") => false,
            false => std::fs::read(&path).is_ok_and(|bytes| bytes.windows(9).any(|window| window == b"part_done")),
        }
    })
}
