//! Rule 1 on states and trashes inside a tree that today's run was not told of: an earlier run was.

use std::path::Path;

use manifest::state::layout::MARKER;
use tests::cli::Shell;
use tests::services;
use tests::trees::{contents, snapshot};

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Runs that each keep state and trash inside the target, at `target` for a user and at `folder` on this machine; then
/// one with another state and none of these options, which deletes what is extra.
fn earlier_runs_are_left_alone(shell: &Shell, home: &Path, target: &str, folder: &Path) {
    for (name, text) in [("a", "1"), ("b/c", "2"), ("gone", "3")] {
        write(&home.join("source"), name, text);
    }
    let (state, trash) = (format!("{target}/x/.understudy"), format!("{target}/y/trash"));
    let first = ["copy", "source", target, "--delete", "--state", &state, "--trash", &trash, "--json"];
    shell.run(&first).expect(0);
    std::fs::remove_file(home.join("source/gone")).unwrap();
    assert_eq!(shell.run(&first).expect(0).number("trashed"), 1);
    write(folder, "x/extra", "to be deleted");
    // What comes before the marker of a state in its folder is none of it.
    write(folder, "x/.understudy/!extra", "to be deleted");
    let (state_before, trash_before) = (contents(&folder.join("x/.understudy")), contents(&folder.join("y/trash")));

    let other = ["copy", "source", target, "--delete", "--state", "elsewhere", "--max-deletes", "100%", "--json"];
    let ran = shell.run(&other).expect(0);
    assert_eq!((ran.number("counts/deleted"), ran.number("counts/listed")), (2, 4), "{ran:#?}");
    assert!(ran.stderr.contains("x/.understudy/ was left alone") && ran.stderr.contains("y/trash/"), "{ran:#?}");
    assert!(!folder.join("x/extra").exists());
    assert!(state_before.len() > 5 && trash_before.len() == 3, "{state_before:?} {trash_before:?}");
    let mut expected = state_before;
    expected.retain(|key, _| key != b"!extra");
    assert_eq!(contents(&folder.join("x/.understudy")), expected);
    assert_eq!(contents(&folder.join("y/trash")), trash_before);
    shell.run(&["verify", "source", target, "--state", "elsewhere"]).expect(0);

    // The first job goes on where it was.
    let again = shell.run(&first).expect(0);
    assert_eq!((again.number("counts/equal"), again.number("counts/listed")), (2, 2), "{again:#?}");
    let jobs = shell.run(&["status", "--state", &state, "--json"]).expect(0);
    assert!(jobs.stdout.contains("\"unfinished\":[]") && !jobs.stdout.contains("\"problems\""), "{jobs:#?}");

    // Nor are they data of a source, also where the next target keeps its own state at the same place.
    let onwards = ["copy", target, "onwards", "--state", "onwards/x/.understudy", "--json"];
    assert_eq!(shell.run(&onwards).expect(0).number("counts/copied"), 2);
    let kept = snapshot(&home.join("onwards"));
    assert!(kept.keys().all(|key| !key.starts_with(b"y/")), "{:?}", kept.keys());
    let jobs = shell.run(&["status", "--state", "onwards/x/.understudy", "--json"]).expect(0);
    assert_eq!(jobs.stdout.matches("\"type\":\"job\"").count(), 1, "{jobs:#?}");
}

#[test]
fn rule_01_state_and_trash_of_earlier_runs_survive_in_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    earlier_runs_are_left_alone(&shell, home.path(), "target", &home.path().join("target"));
}

#[test]
fn rule_01_state_and_trash_of_earlier_runs_survive_in_a_bucket() {
    let Some(s3) = services::s3() else { return };
    let home = tempfile::tempdir().unwrap();
    let bucket = s3.fresh_bucket("earlier");
    let shell = Shell::new(home.path()).with_s3(&s3);
    let folder = s3.file_of(&bucket, "lake");
    earlier_runs_are_left_alone(&shell, home.path(), &format!("s3://{bucket}/lake"), &folder);
    s3.remove_bucket(&bucket);
}

#[test]
fn rule_01_what_the_source_has_where_the_state_stands_is_not_written_into_it() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    write(&home.path().join("source"), "a", "1");
    write(&home.path().join("source"), "in/state/job/lease.json", "none of ours");
    let words = ["copy", "source", "target", "--state", "target/in/state", "--json"];
    let ran = shell.run(&words).expect(0);
    assert_eq!((ran.number("counts/copied"), ran.number("counts/skipped")), (1, 1), "{ran:#?}");
    assert!(!home.path().join("target/in/state/job").exists());
    shell.run(&["verify", "source", "target", "--state", "target/in/state"]).expect(0);
}

#[test]
fn rule_01_a_target_that_is_a_state_is_refused_and_one_can_be_copied() {
    let home = tempfile::tempdir().unwrap();
    let shell = Shell::new(home.path());
    write(&home.path().join("source"), "a", "1");
    shell.run(&["copy", "source", "target", "--state", "state", "-q"]).expect(0);
    let before = snapshot(&home.path().join("state"));
    for delete in [&[][..], &["--delete", "--max-deletes", "100%"]] {
        let ran = shell.run(&[&["copy", "source", "state"], delete].concat()).expect(2);
        assert!(ran.stderr.contains("is itself the state"), "{ran:#?}");
    }
    assert_eq!(snapshot(&home.path().join("state")), before);
    for _ in 0..2 {
        shell.run(&["copy", "state", "backup", "--delete", "-q"]).expect(0);
        assert!(home.path().join("backup").join(MARKER).exists());
    }
}
