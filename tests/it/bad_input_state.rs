//! State folders that were damaged, come from the future, cannot be written or are full, and two runs at once: the run
//! refuses with one line that says what to do, never guesses, and the target stays what it was.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tests::cli::{Ran, Shell};
use tests::services;
use tests::trees::snapshot;

/// A job that ran, and then got something to do: the source has a new object, the target an old extra.
struct Job {
    folder: tempfile::TempDir,
    shell: Shell,
}

impl Job {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shell = Shell::new(folder.path());
        let it = Self { folder, shell };
        for (name, size) in [("a", 10), ("b", 70_000)] {
            it.write("source", name, size);
        }
        it.copy(&[]).expect(0);
        it.write("source", "new", 5);
        it.write("target", "extra", 5);
        it
    }

    fn write(&self, root: &str, name: &str, size: usize) {
        std::fs::create_dir_all(self.folder.path().join(root)).unwrap();
        std::fs::write(self.folder.path().join(root).join(name), vec![b'x'; size]).unwrap();
    }

    fn copy(&self, more: &[&str]) -> Ran {
        let mut arguments = vec!["copy", "source", "target", "--state", "state", "--job", "lake", "-q"];
        arguments.extend(more);
        self.shell.run(&arguments)
    }

    /// The only file below the job's state folder whose path holds `part`.
    fn file(&self, part: &str) -> PathBuf {
        let state = self.folder.path().join("state");
        let names = snapshot(&state).into_iter().filter(|(_, node)| node.kind == "file").map(|(key, _)| key);
        let mut found = names.map(|key| String::from_utf8(key).unwrap()).filter(|name| name.contains(part));
        let name = found.next().unwrap_or_else(|| panic!("no file of {part}"));
        assert_eq!(found.next(), None, "{part} is more than one file");
        state.join(name)
    }

    /// As if the last run had died before it committed: only its journal tells what it did.
    fn forget_the_commit(&self) {
        for part in ["checkpoint.json", "receipt.json", "/manifests/"] {
            std::fs::remove_file(self.file(part)).unwrap();
        }
    }

    /// `copy` fails with code 1 and these words, and again in the same way; target and state are what they were.
    #[track_caller]
    fn refuses(&self, what: &str, words: &[&str]) {
        let root = |name: &str| snapshot(&self.folder.path().join(name));
        let target = root("target");
        for more in [&[][..], &["--delete", "--max-deletes", "100%"]] {
            let ran = self.copy(more);
            let last = ran.last_word();
            assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
            assert!(last.starts_with("distcp copy: "), "{what}: {last}");
            for word in words {
                assert!(last.contains(word), "{what}: {word:?} is not in: {last}");
            }
            assert_eq!(root("target"), target, "{what}");
        }
    }
}

/// How a file is spoilt, and what the message says of it.
type Spoil = (&'static str, fn(Vec<u8>) -> Vec<u8>);

const SPOILT: [Spoil; 4] = [
    ("cut off", |bytes| bytes[..bytes.len() / 2].to_vec()),
    ("flipped", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x41;
        bytes
    }),
    ("foreign", |_| b"{\"format\": \"shopping-list\", \"version\": 1}\n".to_vec()),
    ("empty", |_| Vec::new()),
];

fn spoil(path: &Path, how: fn(Vec<u8>) -> Vec<u8>) {
    let bytes = how(std::fs::read(path).unwrap());
    std::fs::write(path, bytes).unwrap();
}

/// Replaces text by text of the same length or not, which must be there once.
fn replace(path: &Path, from: &[u8], to: &[u8]) {
    let bytes = std::fs::read(path).unwrap();
    let at: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert_eq!(at.len(), 1, "{} in {}", String::from_utf8_lossy(from), path.display());
    std::fs::write(path, swapped(bytes, from, to)).unwrap();
}

/// The bytes with the first `from` replaced by `to`.
fn swapped(bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn a_damaged_file_of_the_state_is_never_guessed_at() {
    let table: [(&str, &str, bool, &str); 6] = [
        ("checkpoint.json", "checkpoint", false, "another --state"),
        ("/manifests/", "manifest index", false, "another --state"),
        ("/parts/", "manifest part", false, "another --state"),
        ("job.json", "job", false, "another --state"),
        ("lease.json", "lease", false, "unlock --job"),
        ("journal-", "journal segment", true, "another --state"),
    ];
    for (part, what, unfinished, advice) in table {
        for (how, change) in SPOILT {
            let it = Job::new();
            let path = it.file(part);
            spoil(&path, change);
            if unfinished {
                it.forget_the_commit();
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            it.refuses(&format!("{what} {how}"), &[what, name, "is damaged: ", advice]);
        }
    }
}

#[test]
fn what_is_missing_of_a_manifest_is_damage_and_a_missing_checkpoint_is_a_fresh_start() {
    let it = Job::new();
    std::fs::remove_file(it.file("/parts/")).unwrap();
    let ran = it.copy(&[]);
    assert!(ran.code == 1 || ran.code == 2, "{}", ran.stderr);
    assert!(ran.last_word().contains("manifest part") && ran.last_word().contains("; "), "{}", ran.stderr);
    assert!(!it.folder.path().join("target/new").exists());
    std::fs::remove_file(it.file("checkpoint.json")).unwrap();
    it.copy(&[]).expect(0);
    assert!(it.folder.path().join("target/new").exists() && it.folder.path().join("target/extra").exists());
}

#[test]
fn a_new_state_helps_out_of_damage_and_copies_nothing_again() {
    let it = Job::new();
    spoil(&it.file("checkpoint.json"), |_| Vec::new());
    it.copy(&[]).expect(1);
    let ran = it.shell.run(&["copy", "source", "target", "--state", "other", "--json"]).expect(0);
    assert_eq!((ran.number("counts/equal"), ran.number("counts/copied")), (2, 1));
}

#[test]
fn a_damaged_lease_is_broken_by_unlock_and_the_next_run_goes_on() {
    let it = Job::new();
    spoil(&it.file("lease.json"), |_| b"garbage".to_vec());
    it.copy(&[]).expect(1);
    let unlock = ["unlock", "--job", "lake", "--state", "state"];
    let shown = it.shell.run(&unlock).expect(2);
    assert!(shown.last_word().contains("--yes"), "{}", shown.stderr);
    it.copy(&[]).expect(1);
    it.shell.run(&[&unlock[..], &["--yes"]].concat()).expect(0);
    it.copy(&[]).expect(0);
    assert!(it.folder.path().join("target/new").exists());
}

#[test]
fn case_49_state_from_the_future_is_refused_and_names_the_versions() {
    for (part, what, unfinished) in [
        ("checkpoint.json", "checkpoint", false),
        ("/manifests/", "manifest index", false),
        ("job.json", "job", false),
        ("lease.json", "lease", false),
        ("journal-", "journal segment", true),
    ] {
        let it = Job::new();
        let path = it.file(part);
        let text = std::fs::read_to_string(&path).unwrap();
        let known = if part == "/manifests/" { manifest::format::FORMAT_VERSION } else { 1 };
        let spaced = text.contains("\"version\": ");
        let of = |version: u32| format!("\"version\":{}{version},", if spaced { " " } else { "" });
        replace(&path, of(known).as_bytes(), of(7).as_bytes());
        let name = if part == "/manifests/" { "needs" } else { "minimum_program" };
        let needs = |version| format!("\"{name}\":{}\"{version}\"", if spaced { " " } else { "" });
        replace(&path, needs("0.1.0").as_bytes(), needs("9.8.7").as_bytes());
        if unfinished {
            it.forget_the_commit();
        }
        let reads = format!("reads up to {known}");
        let words = [what, "format version 7", &reads, "use understudy 9.8.7 or newer"];
        it.refuses(&format!("{what} of the future"), &words);
    }
}

#[test]
fn a_plan_that_is_damaged_missing_or_of_the_future_is_not_carried_out() {
    let it = Job::new();
    let plan = it.folder.path().join("plan");
    it.shell.run(&["plan", "source", "target", "--state", "state", "--job", "lake", "-o", "plan", "-q"]).expect(0);
    let good = std::fs::read(&plan).unwrap();
    let target = snapshot(&it.folder.path().join("target"));
    let applied = |code: i32, words: &[&str]| {
        let ran = it.shell.run(&["apply", "plan", "-q"]);
        let last = ran.last_word();
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(last.starts_with("distcp apply: plan ") && words.iter().all(|word| last.contains(word)), "{last}");
        assert_eq!(snapshot(&it.folder.path().join("target")), target, "{last}");
    };
    // What a reader of the file is shown beside the actions themselves is not covered by its digest; these are.
    let aimed: [Spoil; 2] = [
        ("another target", |bytes| swapped(bytes, b"/target\"", b"/tarfet\"")),
        ("other options", |bytes| swapped(bytes, b"\"delete\":false", b"\"delete\":true ")),
    ];
    for (how, change) in SPOILT.into_iter().filter(|(how, _)| *how != "flipped").chain(aimed) {
        spoil(&plan, change);
        assert_ne!(std::fs::read(&plan).unwrap(), good, "{how}");
        applied(1, &["/plan is damaged: ", "make a new plan with: distcp plan"]);
        std::fs::write(&plan, &good).unwrap();
    }
    replace(&plan, b"{\"version\":1,\"needs\":\"0.1.0\"", b"{\"version\":7,\"needs\":\"9.8.7\"");
    applied(1, &["format version 7", "use understudy 9.8.7 or newer"]);
    std::fs::remove_file(&plan).unwrap();
    applied(2, &["does not exist", "; check how the place is written"]);
    std::fs::write(&plan, &good).unwrap();
    it.shell.run(&["apply", "plan", "-q"]).expect(0);
    assert!(it.folder.path().join("target/new").exists());
}

#[test]
fn a_damaged_manifest_of_its_own_is_found_by_every_verb_that_reads_it() {
    let it = Job::new();
    it.shell.run(&["manifest", "create", "source", "-o", "m", "-q"]).expect(0);
    let part = std::fs::read_dir(it.folder.path().join("m/parts")).unwrap().next().unwrap().unwrap().path();
    for (how, change) in SPOILT {
        let good = std::fs::read(&part).unwrap();
        spoil(&part, change);
        let check = it.shell.run(&["manifest", "check", "m"]).expect(1);
        assert!(check.stdout.contains("is damaged: ") || check.stderr.contains("is damaged: "), "{how}: {check:?}");
        for verb in [&["manifest", "sums", "m"][..], &["manifest", "show", "m", "--entries"]] {
            let ran = it.shell.run(verb).expect(1);
            let last = ran.last_word();
            assert!(last.contains("manifest part") && last.contains("is damaged: ") && last.contains("; "), "{last}");
        }
        std::fs::write(&part, good).unwrap();
    }
    let missing = it.shell.run(&["manifest", "sums", "nowhere"]).expect(2);
    assert!(missing.last_word().contains("nowhere") && missing.last_word().contains("does not exist"));
}

/// A folder in which nobody can make files: one without permission; for root, which may everything there, one of the kernel.
fn unwritable(scratch: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let locked = scratch.join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    let folders = [locked, PathBuf::from("/sys/kernel"), PathBuf::from("/proc/sys")];
    let refuses = |folder: &&PathBuf| std::fs::create_dir(folder.join("understudy-probe")).is_err_and(denied);
    folders.iter().find(refuses).expect("a folder that refuses files").clone()
}

fn denied(error: std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

#[test]
fn a_state_folder_that_cannot_be_written_ends_with_12_before_anything_is_copied() {
    let scratch = tempfile::tempdir().unwrap();
    let state = unwritable(scratch.path()).join("understudy");
    let it = Job::new();
    let arguments = ["copy", "source", "fresh", "--state", state.to_str().unwrap(), "-q"];
    let ran = it.shell.run(&arguments).expect(12);
    let last = ran.last_word();
    assert!(last.contains(&format!("in the state at {}", state.display())), "{last}");
    assert!(last.ends_with("the state folder must be readable and writable; name another with --state"), "{last}");
    assert!(!it.folder.path().join("fresh/a").exists());
    // A file where the folder should be.
    std::fs::write(it.folder.path().join("file"), "not a folder").unwrap();
    for state in ["file", "file/below"] {
        let ran = it.shell.run(&["copy", "source", "fresh2", "--state", state, "-q"]).expect(1);
        let last = ran.last_word();
        assert!(last.contains(state) && last.contains("name another with --state"), "{last}");
        assert!(!it.folder.path().join("fresh2/a").exists());
    }
    assert_eq!(std::fs::read(it.folder.path().join("file")).unwrap(), b"not a folder");
}

/// `distcp` with a limit for the files it may write, in blocks of 512 bytes: beyond it, writes fail as on a full disk.
fn limited(it: &Job, blocks: u32, arguments: &[&str]) -> Ran {
    let script = format!("ulimit -f {blocks} && exec \"$0\" \"$@\"");
    let mut all = vec!["-c", &script];
    let bin = services::distcp_bin();
    all.push(bin.to_str().unwrap());
    all.extend(arguments);
    it.shell.oracle(Path::new("/bin/sh"), &all)
}

#[test]
fn a_full_state_ends_the_run_with_the_cause_and_the_next_one_finishes() {
    let it = Job::new();
    for n in 0..300 {
        it.write("source", &format!("a-file-with-a-name-long-enough-to-fill-a-journal-{n:03}"), 3);
    }
    let arguments = ["copy", "source", "target", "--state", "state", "--job", "lake", "-q"];
    // The plan fits, the journal does not.
    let ran = limited(&it, 24, &arguments);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let last = ran.last_word();
    assert!(last.contains("cannot write lake/runs/") && last.contains("/journal-00000001.jsonl"), "{last}");
    assert!(last.contains("too large") && last.contains("mend the state folder"), "{last}");
    // It committed nothing: the checkpoint is that of the first run.
    it.copy(&["--delete", "--max-deletes", "100%"]).expect(0);
    let picture = |name: &str| {
        let nodes = snapshot(&it.folder.path().join(name));
        nodes.into_iter().map(|(key, node)| (key, node.hash)).collect::<Vec<_>>()
    };
    assert_eq!(picture("source"), picture("target"));
}

#[test]
fn a_full_target_fails_by_name_keeps_the_old_file_and_says_to_free_space() {
    let it = Job::new();
    it.write("target", "large", 100);
    it.write("source", "large", 3_000_000);
    let arguments = ["copy", "source", "target", "--state", "state", "--job", "lake", "--json"];
    let ran = limited(&it, 1024, &arguments);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let last = ran.last_word();
    assert!(last.contains("1 object failed: cannot write large at ") && last.contains("no space left"), "{last}");
    assert!(last.ends_with("free space at the target, then run the same command again: it resumes"), "{last}");
    assert_eq!(std::fs::read(it.folder.path().join("target/large")).unwrap(), [b'x'; 100]);
    let names: Vec<_> = snapshot(&it.folder.path().join("target")).into_keys().collect();
    assert!(names.iter().all(|name| !name.ends_with(b".tmp")), "a temporary file is left: {names:?}");
    it.copy(&[]).expect(0);
    assert_eq!(std::fs::metadata(it.folder.path().join("target/large")).unwrap().len(), 3_000_000);
}

#[test]
fn case_46_a_second_run_of_a_job_ends_with_11_and_names_the_first() {
    let it = Job::new();
    it.write("source", "large", 6_000_000);
    let arguments =
        ["copy", "source", "target", "--state", "state", "--job", "lake", "--json", "-v", "--bwlimit", "1M"];
    let mut first = it.shell.distcp(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It says something once it copies: the lease is taken then.
    let mut output = first.stdout.take().unwrap();
    output.read_exact(&mut [0; 1]).unwrap();
    let second = it.copy(&["--delete"]).expect(11);
    let last = second.last_word();
    let host = std::process::Command::new("uname").arg("-n").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap().trim().to_owned();
    assert!(last.contains("another run holds the lease of job lake: ") && last.contains(&host), "{last}");
    assert!(last.contains(&format!("process {}", first.id())) && last.contains("started 20"), "{last}");
    assert!(last.contains("wait for it, or look at it with: distcp status"), "{last}");
    assert!(it.folder.path().join("target/extra").exists());
    // Unlock does not break the lease of the living.
    let unlock = it.shell.run(&["unlock", "--job", "lake", "--state", "state", "--yes"]);
    assert_eq!(unlock.code, 11, "{}", unlock.stderr);
    rustix::process::kill_process(rustix::process::Pid::from_child(&first), rustix::process::Signal::KILL).unwrap();
    first.wait().unwrap();
    // The holder is gone: the next run takes over at once.
    it.copy(&[]).expect(0);
    assert_eq!(std::fs::metadata(it.folder.path().join("target/large")).unwrap().len(), 6_000_000);
}
