//! Tables in a tree of files: which of their files name others, and in which order all of them arrive. Pure.
//!
//! What names other files arrives after them: first files, then the commits of a Delta log, one after the other, then snapshots
//! (checkpoints of a Delta table, which stand for a commit that is there; `metadata.json` of an Iceberg table; folders of
//! transactions that take the place of others), then hints. Deletes go the other way. A
//! kill anywhere leaves the last version that arrived whole as the one that is read. What was written while a tree was
//! listed waits for the next run: [`pin`].
//!
//! What is relied on: Delta's protocol (github.com/delta-io/delta, PROTOCOL.md): all files of a version begin with its 20 digits
//! and a dot, and a commit is never written twice. Iceberg's specification (iceberg.apache.org/spec): files are never written twice,
//! but for the hint of file system tables. Hive's folders of transactions (`AcidUtils`): `base_N`, `delta_N_M`, `delete_delta_N_M`.

use manifest::ObjectKey;
use serde::{Deserialize, Serialize};

pub mod pin;

/// Which tables are looked for in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Tables of every kind below, told by the names of their files
    Auto,
    /// None: files arrive in any order
    #[default]
    Plain,
    /// Delta tables: logs after data, one commit after the other
    Delta,
    /// Iceberg tables: metadata.json after what it names
    Iceberg,
    /// Hive's transactional tables: folders of transactions that are whole, bases last
    HiveAcid,
}

impl Layout {
    /// Whether it is the one that needs nothing.
    pub fn is_plain(&self) -> bool {
        *self == Layout::Plain
    }
}

/// When a file arrives, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// What names nothing that is read through it yet.
    Files,
    /// Commits of a log, in their order.
    Commits,
    /// What names files, or stands for commits.
    Snapshots,
    /// What names snapshots, and is written over.
    Hints,
}

/// The stages after the first, in their order.
pub const LATER: [Stage; 3] = [Stage::Commits, Stage::Snapshots, Stage::Hints];

/// A file of a table that needs an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The folder of the table, or of the partition.
    pub table: ObjectKey,
    /// What it is.
    pub role: Role,
    /// Writers remove what it takes the place of, as soon as it is there.
    pub replaces: bool,
}

/// What a file is to its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A checkpoint or a `metadata.json`.
    Snapshot,
    /// Of this version of a log.
    Commit(u64),
    /// Written over; names a snapshot.
    Hint,
    /// Made of others, and done without: a checksum, commits in one.
    Extract,
    /// In this folder of transactions.
    Transactions(ObjectKey),
}

impl Part {
    /// When it arrives.
    pub fn stage(&self) -> Stage {
        match self.role {
            Role::Transactions(_) if !self.replaces => Stage::Files,
            Role::Snapshot | Role::Transactions(_) => Stage::Snapshots,
            Role::Commit(_) => Stage::Commits,
            Role::Hint | Role::Extract => Stage::Hints,
        }
    }

    /// Whether a hint of the table may lead to it.
    pub fn is_named_by_hint(&self) -> bool {
        matches!(self.role, Role::Snapshot | Role::Commit(_))
    }
}

/// Digits of a version of a Delta log.
const DIGITS: usize = 20;
/// The folder of a Delta log.
pub const DELTA_LOG: &[u8] = b"_delta_log";
/// In it, what checkpoints name.
const SIDECARS: &[u8] = b"_sidecars";
/// In a Delta table, what commits name of changed rows.
const CHANGES: &[u8] = b"_change_data";
const ICEBERG: &[u8] = b"metadata";
/// Digits that Hive gives numbers of transactions; shorter ones are asked for by name.
const HIVE_DIGITS: usize = 7;

impl Layout {
    /// What the key is to a table, if it needs an order.
    pub fn part(self, key: &ObjectKey) -> Option<Part> {
        if self.is_plain() {
            return None;
        }
        let bytes = key.as_bytes();
        let asks = |layout| self == layout || self == Layout::Auto;
        let mut start = 0;
        // Only folders: the name itself is none.
        while let Some(length) = bytes[start..].iter().position(|byte| *byte == b'/') {
            let (segment, name) = (&bytes[start..start + length], &bytes[start + length + 1..]);
            let end = start + length + 1;
            let told = match segment {
                DELTA_LOG if asks(Layout::Delta) => Some(delta(name)?),
                ICEBERG if asks(Layout::Iceberg) => iceberg(name).map(|role| (role, false)),
                _ if asks(Layout::HiveAcid) => {
                    let digits = if self == Layout::HiveAcid { 1 } else { HIVE_DIGITS };
                    transactions(segment, digits).map(|replaces| (Role::Transactions(up_to(bytes, end)), replaces))
                }
                _ => None,
            };
            if let Some((role, replaces)) = told {
                return Some(Part { table: up_to(bytes, start), role, replaces });
            }
            start = end;
        }
        None
    }

    /// When the key arrives.
    pub fn stage(self, key: &ObjectKey) -> Stage {
        self.part(key).map_or(Stage::Files, |part| part.stage())
    }
}

/// The folder whose path with its slash is `end` bytes long.
fn up_to(key: &[u8], end: usize) -> ObjectKey {
    ObjectKey::from(key[..end.saturating_sub(1)].to_vec())
}

/// A file of a Delta log, and whether it replaces others: commits go when a checkpoint is made. Sidecars, and what else stands
/// in folders of the log, are files: a checkpoint or a commit names them.
fn delta(name: &[u8]) -> Option<(Role, bool)> {
    if name == b"_last_checkpoint" {
        return Some((Role::Hint, false));
    }
    if let Some(of) = with_checksum(name) {
        return delta(of).map(|_| (Role::Extract, false));
    }
    let digits = std::str::from_utf8(name.get(..DIGITS)?).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && name.get(DIGITS) == Some(&b'.');
    let version = digits.parse().ok().filter(|_| is_number)?;
    Some(match &name[DIGITS + 1..] {
        b"json" => (Role::Commit(version), false),
        b"crc" => (Role::Extract, false),
        end if end.ends_with(b".compacted.json") => (Role::Extract, false),
        end if end.starts_with(b"checkpoint.") => (Role::Snapshot, true),
        _ => return None,
    })
}

/// The file that this one is the checksum of, as Hadoop writes them beside files: `.NAME.crc`.
fn with_checksum(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b".")?.strip_suffix(b".crc")
}

/// A file in a folder `metadata`. Manifests and their lists are files: a `metadata.json` names them.
fn iceberg(name: &[u8]) -> Option<Role> {
    match name {
        b"version-hint.text" => Some(Role::Hint),
        _ if name.contains(&b'/') => None,
        _ if with_checksum(name).is_some() => with_checksum(name).and_then(iceberg).map(|_| Role::Extract),
        _ if name.ends_with(b".metadata.json") || name.ends_with(b".metadata.json.gz") => Some(Role::Snapshot),
        _ => None,
    }
}

/// Whether a folder is one of transactions, and then whether it may take the place of others: a base, or a stretch of several.
fn transactions(folder: &[u8], digits: usize) -> Option<bool> {
    let after = |start: &str| folder.strip_prefix(start.as_bytes());
    let (rest, numbers) = match (after("base_"), after("delta_").or_else(|| after("delete_delta_"))) {
        (Some(rest), _) => (rest, 1..=1),
        (None, Some(rest)) => (rest, 2..=3),
        (None, None) => return None,
    };
    // The compactor adds the transaction that it ran in.
    let is_number = |part: &&[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let mut parts: Vec<&[u8]> = rest.split(|byte| *byte == b'_').collect();
    let is_compacted = parts.last().and_then(|last| last.strip_prefix(b"v")).is_some_and(|by| is_number(&by));
    if is_compacted {
        parts.pop();
    }
    let is_one = !is_compacted && parts.len() > 1 && parts[0] == parts[1];
    // A base of what stood there before the first transaction has the least number there is; statements have few digits.
    let is_write = |part: &[u8]| part.len() >= digits && is_number(&part.strip_prefix(b"-").unwrap_or(part));
    let (writes, statement) = parts.split_at(parts.len().min(2));
    let are_numbers = writes.iter().all(|part| is_write(part)) && statement.iter().all(is_number);
    (numbers.contains(&parts.len()) && are_numbers).then_some(!is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_tables_are_told_by_their_names() {
        let d = |rest: &str| format!("w/t/_delta_log/{rest}");
        let v = "00000000000000000012";
        let folder = |key: &str| Role::Transactions(ObjectKey::from(key));
        for (key, told) in [
            (d(&format!("{v}.json")), Some(("w/t", Role::Commit(12), false))),
            (d(&format!("{v}.crc")), Some(("w/t", Role::Extract, false))),
            (d(&format!(".{v}.json.crc")), Some(("w/t", Role::Extract, false))),
            (d(&format!("{v}.tmp")), None),
            (d(&format!("{v}.checkpoint.parquet")), Some(("w/t", Role::Snapshot, true))),
            (d(&format!("{v}.checkpoint.0000000001.0000000002.parquet")), Some(("w/t", Role::Snapshot, true))),
            (
                d(&format!("{v}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json")),
                Some(("w/t", Role::Snapshot, true)),
            ),
            (d(&format!("{v}.{v}.compacted.json")), Some(("w/t", Role::Extract, false))),
            (d("_last_checkpoint"), Some(("w/t", Role::Hint, false))),
            (d("_sidecars/x.parquet"), None),
            (d("_staged_commits/00000000000000000012.u.json"), None),
            (d("7.json"), None),
            (d(&format!("{v}json")), None),
            (format!("_delta_log/{v}.json"), Some(("", Role::Commit(12), false))),
            ("w/t/_delta_log".to_owned(), None),
            ("w/t/_delta_log2/00000000000000000012.json".to_owned(), None),
            ("i/metadata/v3.metadata.json".to_owned(), Some(("i", Role::Snapshot, false))),
            ("i/metadata/00003-u.gz.metadata.json".to_owned(), Some(("i", Role::Snapshot, false))),
            ("i/metadata/v3.metadata.json.gz".to_owned(), Some(("i", Role::Snapshot, false))),
            ("i/metadata/version-hint.text".to_owned(), Some(("i", Role::Hint, false))),
            ("i/metadata/snap-1-1-u.avro".to_owned(), None),
            ("i/metadata/x/v3.metadata.json".to_owned(), None),
            ("i/metadata/i2/metadata/v3.metadata.json".to_owned(), Some(("i/metadata/i2", Role::Snapshot, false))),
            ("metadata/v1.metadata.json".to_owned(), Some(("", Role::Snapshot, false))),
            ("v1.metadata.json".to_owned(), None),
            ("h/p=1/base_0000012/bucket_0".to_owned(), Some(("h/p=1", folder("h/p=1/base_0000012"), true))),
            ("h/base_0000012_v0000077/bucket_0".to_owned(), Some(("h", folder("h/base_0000012_v0000077"), true))),
            ("h/delta_0000001_0000001_0000/b/c".to_owned(), Some(("h", folder("h/delta_0000001_0000001_0000"), false))),
            (
                "h/delta_0000001_0000004_v0000009/b".to_owned(),
                Some(("h", folder("h/delta_0000001_0000004_v0000009"), true)),
            ),
            (
                "h/base_-9223372036854775808_v0000049/b".to_owned(),
                Some(("h", folder("h/base_-9223372036854775808_v0000049"), true)),
            ),
            ("i/metadata/.version-hint.text.crc".to_owned(), Some(("i", Role::Extract, false))),
            ("i/metadata/.snap-1.avro.crc".to_owned(), None),
            ("h/base_2024/b".to_owned(), None),
            ("h/delta_1_2/b".to_owned(), None),
            (
                "h/delete_delta_0000001_0000001/b".to_owned(),
                Some(("h", folder("h/delete_delta_0000001_0000001"), false)),
            ),
            ("h/base_x/b".to_owned(), None),
            ("h/base_1_2/b".to_owned(), None),
            ("h/delta_1/b".to_owned(), None),
            ("h/delta_force/b".to_owned(), None),
            ("h/delta_1_1_1_1/b".to_owned(), None),
            ("h/base_1".to_owned(), None),
            ("base_0000001/b".to_owned(), Some(("", folder("base_0000001"), true))),
        ] {
            let wanted = told.map(|(table, role, replaces)| Part { table: ObjectKey::from(table), role, replaces });
            assert_eq!(Layout::Auto.part(&ObjectKey::from(key.as_str())), wanted, "{key}");
            assert_eq!(Layout::Plain.part(&ObjectKey::from(key.as_str())), None, "{key}");
        }
    }

    #[test]
    fn a_layout_that_is_named_looks_for_no_other() {
        let keys = ["t/_delta_log/00000000000000000000.json", "t/metadata/v1.metadata.json", "t/base_0000001/b"];
        let finds = |layout: Layout| keys.map(|key| layout.part(&ObjectKey::from(key)).is_some());
        assert_eq!(finds(Layout::Auto), [true; 3]);
        assert_eq!(finds(Layout::Delta), [true, false, false]);
        assert_eq!(finds(Layout::Iceberg), [false, true, false]);
        assert_eq!(finds(Layout::HiveAcid), [false, false, true]);
        assert!(Layout::HiveAcid.part(&ObjectKey::from("t/base_1/b")).is_some(), "by its name alone");
    }
}
