//! `metasync demo` as a user runs it: it checks every claim itself, so that its exit code says whether all came out as told.

use tests::cli::Shell;

#[test]
fn the_demo_of_metasync_comes_out_as_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let ran = Shell::new(folder.path()).with("TMPDIR", &temporary).metasync(&["demo"]).expect(0);
    for word in ["run shop.toml", "exit code 4", "exit code 5", "resync --table shop.orders", "came out as told"] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "its folder is removed");
    // As large as it is promised to be; the demo holds what the first run brought against these numbers.
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(number_before(&words, " partitions in ./source.db") >= 200.0, "{words}");
    assert!(number_before(&words, " MiB) of Parquet.") * 1024.0 * 1024.0 >= 500e6, "{words}");
}

/// The number that stands in front of these words, the first time that they are there.
fn number_before(text: &str, words: &str) -> f64 {
    let (before, _) = text.split_once(words).unwrap_or_else(|| panic!("{words}: {text}"));
    before.rsplit([' ', '(']).next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{words}: {text}"))
}

#[test]
fn the_demo_of_metasync_plays_in_no_folder_that_holds_anything() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "x").unwrap();
    let ran = Shell::new(folder.path()).metasync(&["demo", "."]).expect(2);
    assert!(ran.last_word().contains("is not empty"), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
