//! A writer and a reader of Delta tables that keep to the protocol as far as copies of it matter: commits of one line an
//! action, files that are never written twice, a checkpoint now and then with the file that names it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

/// Commits between two checkpoints.
const CHECKPOINT: u64 = 4;

/// Writes a file so that it is there whole or not at all, as engines do.
pub fn write(path: &Path, content: &str) {
    let new = path.with_file_name(format!("_tmp.{}", path.file_name().expect("a file").display()));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&new, content).expect("a file");
    std::fs::rename(new, path).expect("a file");
}

/// The file that a version brings. Names of data files sort before and behind the log.
fn data(version: u64) -> String {
    format!("{}-{version}.parquet", if version.is_multiple_of(2) { "part" } else { "A" })
}

/// Removes what this version took out of the table, as `VACUUM` does that keeps nothing.
pub fn vacuum(table: &Path, version: u64) {
    if let Some(old) = version.checked_sub(3) {
        std::fs::remove_file(table.join(data(old))).expect("a file");
    }
}

/// Commits a version: a new data file, and the oldest one goes out of the table where there are several. As with Delta
/// itself its file stays.
pub fn commit(table: &Path, version: u64, bytes: usize) {
    write(&table.join(data(version)), &format!("{version:x}").repeat(bytes)[..bytes]);
    let log = table.join("_delta_log");
    let mut actions = vec![json!({"add": {"path": data(version), "size": bytes}})];
    actions.extend((version >= 3).then(|| json!({"remove": {"path": data(version - 3)}})));
    let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
    write(&log.join(format!("{version:020}.json")), &lines.join("\n"));
    if version.is_multiple_of(CHECKPOINT) && version > 0 {
        write(&log.join(format!("_sidecars/{version}.parquet")), "files of the table");
        write(&log.join(format!("{version:020}.checkpoint.parquet")), &format!("{version}"));
        write(&log.join("_last_checkpoint"), &json!({"version": version, "size": version}).to_string());
    }
}

/// Reads a table as a reader does; returns the newest version, or `None` where there is no log yet.
///
/// # Panics
/// If that version is not whole: a commit, a checkpoint, a sidecar, what the hint names, or a data file is missing.
pub fn read(table: &Path) -> Option<u64> {
    let log = table.join("_delta_log");
    let checkpoint = |version: u64| log.join(format!("{version:020}.checkpoint.parquet"));
    if let Ok(hint) = std::fs::read_to_string(log.join("_last_checkpoint")) {
        let hint: Value = serde_json::from_str(&hint).expect("a hint");
        let named = hint["version"].as_u64().expect("a version");
        assert!(checkpoint(named).exists(), "the hint names checkpoint {named}");
    }
    let names = std::fs::read_dir(&log).into_iter().flatten().map(|entry| entry.expect("an entry").file_name());
    let names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    let version = |name: &String| name.get(..20)?.parse::<u64>().ok();
    for checkpoint in names.iter().filter(|name| name.ends_with(".checkpoint.parquet")).filter_map(version) {
        let sidecar = log.join(format!("_sidecars/{checkpoint}.parquet"));
        assert!(sidecar.exists(), "checkpoint {checkpoint} has its sidecar");
    }
    let newest = names.iter().filter(|name| name.ends_with(".json")).filter_map(version).max()?;
    let mut files = BTreeMap::new();
    // A folder that is listed while files come may show a later one and not those before it: they are asked for by name.
    for version in 0..=newest {
        let text = std::fs::read_to_string(log.join(format!("{version:020}.json")));
        let text = text.unwrap_or_else(|error| panic!("commit {version}, and {newest} is there: {error}"));
        for action in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an action")) {
            if let Some(path) = action["add"]["path"].as_str() {
                files.insert(path.to_owned(), action["add"]["size"].as_u64().expect("a size"));
            }
            action["remove"]["path"].as_str().map(|path| files.remove(path));
        }
    }
    for (file, size) in files {
        let found = std::fs::metadata(table.join(&file)).map(|found| found.len()).ok();
        assert_eq!(found, Some(size), "version {newest} names {file}");
    }
    Some(newest)
}
