//! A folder that others write while it is copied: every object arrives in one consistent version or is reported.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tests::cli::Shell;

/// Versions are lines that all say the same number; so many in each.
const LINES: usize = 100_000;
/// Files of each kind.
const FILES: usize = 6;
/// Runs while they are written.
const RUNS: usize = 8;

fn version(number: usize) -> Vec<u8> {
    format!("version {number:08}\n").repeat(LINES).into_bytes()
}

/// How a file is written.
#[derive(Clone, Copy)]
enum Writer {
    /// A new file that takes the name.
    Renames,
    /// The same file, cut and written again.
    Rewrites,
    /// The same file, longer each time.
    Appends,
    /// The same file and length, byte by byte over the old ones.
    Overwrites,
}

const WRITERS: [(&str, Writer); 4] = [
    ("renamed", Writer::Renames),
    ("rewritten", Writer::Rewrites),
    ("appended", Writer::Appends),
    ("overwritten", Writer::Overwrites),
];

impl Writer {
    fn write(self, path: &Path, number: usize) {
        match self {
            Writer::Renames => {
                let beside = path.with_extension("new");
                std::fs::write(&beside, version(number)).unwrap();
                std::fs::rename(beside, path).unwrap();
            }
            Writer::Rewrites => std::fs::write(path, version(number)).unwrap(),
            Writer::Appends => {
                let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
                file.write_all(format!("line {number:08}\n").as_bytes()).unwrap();
            }
            Writer::Overwrites => {
                let mut file = std::fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
                for piece in version(number).chunks(64 << 10) {
                    file.write_all(piece).unwrap();
                }
            }
        }
    }

    /// Whether these bytes are what the file held at one moment between two of its writes. A cut file may be any beginning of
    /// a version: its writer left it so.
    fn is_consistent(self, bytes: &[u8]) -> bool {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        match self {
            Writer::Renames => {
                bytes.len() == version(0).len() && lines.clone().all(|line| Some(line) == lines.clone().next())
            }
            Writer::Rewrites | Writer::Overwrites => {
                let Some(first) = lines.next() else { return true };
                let old_after_new = lines.filter(|line| line.len() == first.len() && *line != first).count();
                old_after_new == 0 || matches!(self, Writer::Overwrites) && one_seam(bytes)
            }
            Writer::Appends => lines.enumerate().all(|(at, line)| line == format!("line {at:08}\n").as_bytes()),
        }
    }
}

/// An overwritten file holds a new beginning and an old rest, nothing else.
fn one_seam(bytes: &[u8]) -> bool {
    let numbers = bytes.chunks(17).map(|line| line.get(8..16).map(<[u8]>::to_vec));
    let mut numbers: Vec<_> = numbers.collect();
    numbers.dedup();
    numbers.len() <= 3
}

fn files(root: &Path) -> impl Iterator<Item = (std::path::PathBuf, Writer)> {
    let root = root.to_owned();
    (0..FILES).flat_map(move |i| {
        let root = root.clone();
        WRITERS.map(move |(name, writer)| (root.join(format!("{name}-{i}")), writer))
    })
}

#[test]
fn a_folder_that_is_written_while_it_is_copied_arrives_in_whole_versions() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for (path, writer) in files(&source) {
        writer.write(&path, 0);
    }
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = [0, 1]
        .map(|half| {
            let (over, source) = (over.clone(), source.clone());
            std::thread::spawn(move || {
                let mut number = 1;
                while !over.load(Ordering::Relaxed) {
                    for (path, writer) in files(&source).skip(half).step_by(2) {
                        writer.write(&path, number);
                    }
                    number += 1;
                }
                number
            })
        })
        .into();
    let shell = Shell::new(scratch.path());
    let (mut arrived, mut reported) = (0, 0);
    let mut before: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for run in 0..RUNS {
        let ran = shell.run(&["copy", "source", "target", "--json", "--exclude", "*.new"]);
        assert!([0, 3].contains(&ran.code), "run {run}: {}", ran.stderr);
        let failed: Vec<String> = ran.stdout.lines().filter_map(failed_key).collect();
        assert_eq!(ran.code == 3, !failed.is_empty(), "{failed:?}");
        reported += failed.len();
        for (path, writer) in files(&scratch.path().join("target")) {
            let key = path.file_name().unwrap().to_str().unwrap().to_owned();
            let Ok(bytes) = std::fs::read(&path) else {
                assert!(failed.contains(&key), "run {run}: {key} is missing and not reported");
                continue;
            };
            if failed.contains(&key) {
                assert!(before.get(&key).is_some_and(|held| *held == bytes), "run {run}: {key} failed and changed");
            }
            assert!(writer.is_consistent(&bytes), "run {run}: {key} is a mix of versions");
            arrived += usize::from(before.insert(key, bytes.clone()).is_none_or(|held| held != bytes));
        }
    }
    over.store(true, Ordering::Relaxed);
    let rounds: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    println!("{rounds:?} rounds of writing, {arrived} versions arrived, {reported} reported");
    assert!(rounds.iter().all(|rounds| *rounds > RUNS), "the writers were slower than the runs: {rounds:?}");
    assert!(arrived > FILES * WRITERS.len(), "versions arrived while they were written: {arrived}");
    // Once nobody writes, everything arrives.
    shell.run(&["copy", "source", "target", "--exclude", "*.new"]).expect(0);
    for (path, _) in files(&source) {
        let copy = scratch.path().join("target").join(path.file_name().unwrap());
        assert!(std::fs::read(&path).unwrap() == std::fs::read(copy).unwrap(), "{}", path.display());
    }
}

fn failed_key(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value["type"] == "object" && value["outcome"] == "failed").then(|| value["key"].as_str().map(str::to_owned))?
}
