//! Which crate may use which: `manifest <- distcp <- metasync -> hms`; tests and benches may use all, xtask none.

use super::Finding;
use anyhow::{Context, Result};
use std::path::Path;
use toml::{Table, Value};

/// Every crate of the workspace with those of ours that it may use.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("manifest", &[]),
    ("distcp", &["manifest"]),
    ("hms", &[]),
    ("metasync", &["manifest", "distcp", "hms"]),
    ("tests", &["manifest", "distcp", "hms", "metasync"]),
    ("benches", &["manifest", "distcp", "hms", "metasync"]),
    ("xtask", &[]),
];

/// Reads the members of the workspace and checks each.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let workspace = read(&root.join("Cargo.toml"))?;
    let members = workspace.get("workspace").and_then(|table| table.get("members")).and_then(Value::as_array);
    let members = members.context("Cargo.toml names no workspace members")?;
    let mut findings = Vec::new();
    for member in members.iter().filter_map(Value::as_str) {
        let path = format!("{member}/Cargo.toml");
        findings.extend(check_manifest(&path, &read(&root.join(&path))?));
    }
    Ok(findings)
}

fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.parse().with_context(|| format!("parse {}", path.display()))
}

fn check_manifest(path: &str, manifest: &Table) -> Vec<Finding> {
    let finding = |what| Finding { path: path.to_owned(), line: None, what };
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str).unwrap_or("");
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        return vec![finding(format!("crate `{name}` has no place yet: add it to ALLOWED in xtask/src/tidy/edges.rs"))];
    };
    let used = dependencies(manifest);
    let ours = used.iter().filter(|used| ALLOWED.iter().any(|(known, _)| known == used));
    let wrong = ours.filter(|used| !allowed.contains(&used.as_str()) && *used != name);
    wrong
        .map(|used| finding(format!("`{name}` must not use `{used}`: manifest <- distcp <- metasync -> hms")))
        .collect()
}

/// The package names in all dependency sections, those for one target or build included.
fn dependencies(table: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
            let renamed = value.get("package").and_then(Value::as_str);
            names.push(renamed.unwrap_or(name).to_owned());
        }
    }
    let targets = table.get("target").and_then(Value::as_table).into_iter().flatten();
    names.extend(targets.filter_map(|(_, value)| value.as_table()).flat_map(dependencies));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        check_manifest("x/Cargo.toml", &text.parse().unwrap()).len()
    }

    #[test]
    fn only_the_drawn_edges_pass() {
        let cases = [
            ("manifest", "dependencies", "serde.workspace = true", 0),
            ("manifest", "dependencies", "distcp.workspace = true", 1),
            ("manifest", "dev-dependencies", "distcp.workspace = true", 1),
            ("distcp", "dependencies", "manifest.workspace = true", 0),
            ("distcp", "build-dependencies", "metasync = \"1\"", 1),
            ("distcp", "target.'cfg(unix)'.dependencies", "metasync = \"1\"", 1),
            ("distcp", "dependencies", "short = { package = \"metasync\", path = \"../metasync\" }", 1),
            ("metasync", "dependencies", "distcp.workspace = true", 0),
            ("metasync", "dependencies", "hms.workspace = true", 0),
            ("hms", "dependencies", "manifest.workspace = true", 1),
            ("distcp", "dependencies", "hms.workspace = true", 1),
            ("metasync", "dev-dependencies", "tests.workspace = true", 1),
            ("tests", "dependencies", "metasync.workspace = true", 0),
            ("xtask", "dependencies", "manifest.workspace = true", 1),
            ("common", "dependencies", "", 1),
        ];
        for (name, section, line, expected) in cases {
            let text = format!("[package]\nname = \"{name}\"\n[{section}]\n{line}\n");
            assert_eq!(findings(&text), expected, "{text}");
        }
    }
}
