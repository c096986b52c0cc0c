//! Numbers and summaries in words. Pure.

use std::time::Duration;

use crate::console::exit::outcome_word;
use crate::event::{Means, ObjectReport};
use crate::quantity::{counted, grouped};
use crate::summary::Summary;

/// A size for people: `17 B`, `1.2 GiB`.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be printed as 1024.0 is 1.0 of the next unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A length of time for people: `0.4 s`, `42 s`, `6m 10s`, `3h 5m`, `2d 4h`.
pub fn duration_text(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..10 => format!("{}.{} s", seconds, length.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// An object in a line: `copied a/b (1.2 MiB, server-side, new)`, `failed a/b: why`.
pub fn object_line(object: &ObjectReport) -> String {
    let head = format!("{} {}", outcome_word(object.outcome), object.key.escaped());
    if let Some(error) = &object.error {
        return format!("{head}: {}", error.replace(['\n', '\r'], " "));
    }
    let mut parts = Vec::new();
    if object.means != Means::None {
        parts.push(bytes_text(object.size_bytes));
    }
    if object.means == Means::ServerSide {
        parts.push("server-side".into());
    }
    if !object.reason.is_empty() {
        parts.push(object.reason.clone());
    }
    match parts.is_empty() {
        true => head,
        false => format!("{head} ({})", parts.join(", ")),
    }
}

fn took(summary: &Summary) -> String {
    duration_text(Duration::from_millis(summary.duration_ms))
}

/// A run in a line for people.
pub fn summary_line(summary: &Summary) -> String {
    if let Some(found) = &summary.differences {
        let all = [
            (found.equal, "equal"),
            (found.differ, "differ"),
            (found.only_source, "only at the source"),
            (found.only_target, "only at the target"),
            (found.errors, "not compared"),
            (found.unproven, "not proven"),
        ];
        let parts: Vec<String> = all
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", grouped(*count)))
            .collect();
        let parts = if parts.is_empty() { "nothing to compare".into() } else { parts.join(", ") };
        return format!("compared {} in {}: {parts}", counted(summary.counts.listed, "key", "keys"), took(summary));
    }
    let counts = &summary.counts;
    let mut line = format!(
        "copied {} ({}) in {}, {} equal",
        counted(counts.copied, "object", "objects"),
        bytes_text(summary.bytes.written + summary.bytes.server_side),
        took(summary),
        grouped(counts.equal)
    );
    let others = [(counts.deleted, "deleted"), (counts.skipped, "skipped"), (counts.failed, "failed")];
    for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!(", {} {what}", grouped(*count)));
    }
    if summary.links_skipped > 0 {
        line.push_str(&format!(" ({})", counted(summary.links_skipped, "link", "links")));
    }
    if summary.trashed > 0 {
        line.push_str(&format!(", {} kept in the trash first", grouped(summary.trashed)));
    }
    if summary.vanished > 0 {
        line.push_str(&format!(", {} vanished meanwhile", grouped(summary.vanished)));
    }
    if let Some(as_of) = &summary.as_of {
        line.push_str(&format!(", as of {as_of}"));
    }
    line
}

/// A run in a block of aligned lines: the summary of `--json` for people.
pub fn summary_block(summary: &Summary) -> String {
    let (counts, bytes, requests) = (&summary.counts, &summary.bytes, &summary.requests);
    let mut rows: Vec<(&str, String)> = vec![("job", summary.job.clone())];
    let optional = |name, value: &Option<String>, rows: &mut Vec<(&'static str, String)>| {
        if let Some(value) = value {
            rows.push((name, value.clone()));
        }
    };
    if !summary.run_id.is_empty() {
        rows.push(("run", summary.run_id.clone()));
    }
    rows.push(("outcome", format!("{} ({})", summary.outcome, summary.exit_code.code())));
    optional("as of", &summary.as_of, &mut rows);
    rows.push(("duration", took(summary)));
    let numbers = |pairs: &[(&str, u64)]| {
        pairs.iter().map(|(name, count)| format!("{} {name}", grouped(*count))).collect::<Vec<_>>().join(", ")
    };
    match &summary.differences {
        Some(found) => rows.push((
            "keys",
            numbers(&[
                ("compared", counts.listed),
                ("equal", found.equal),
                ("differ", found.differ),
                ("only at the source", found.only_source),
                ("only at the target", found.only_target),
                ("not compared", found.errors),
                ("not proven", found.unproven),
            ]),
        )),
        None => rows.push((
            "objects",
            numbers(&[
                ("listed", counts.listed),
                ("equal", counts.equal),
                ("copied", counts.copied),
                ("deleted", counts.deleted),
                ("skipped", counts.skipped),
                ("failed", counts.failed),
            ]),
        )),
    }
    let sizes = [
        ("at the source", bytes.source),
        ("read", bytes.read),
        ("written", bytes.written),
        ("server-side", bytes.server_side),
    ];
    let sizes: Vec<String> = sizes.iter().map(|(name, size)| format!("{} {name}", bytes_text(*size))).collect();
    rows.push(("bytes", sizes.join(", ")));
    rows.push((
        "requests",
        numbers(&[
            ("list", requests.list),
            ("head", requests.head),
            ("get", requests.get),
            ("put", requests.put),
            ("copy", requests.copy),
            ("delete", requests.delete),
            ("repeated", summary.retries),
        ]),
    ));
    optional("manifest", &summary.manifest, &mut rows);
    aligned(&rows)
}

/// Names and values in two columns.
pub fn aligned(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}
