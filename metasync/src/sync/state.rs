//! What a policy keeps between runs, inside the checkpoint of its state folder: how far the log was read, what the last
//! commit left on the target, and what a run that died was about to do.
//!
//! It is written twice a run: before metadata changes, with what is about to change, and after it. A crash between the two
//! leaves the intent: what it names may be in any state between, is no drift, and is compared anew.

use crate::location::{Location, brought, same_place};
use crate::log::{Position, Window};
use crate::model::TableName;
use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncState {
    /// The event up to which the source was read.
    pub position: Option<Position>,
    /// What was seen of the log, where ids may repeat.
    pub window: Option<Window>,
    /// What the policy said.
    pub rules: Rules,
    /// Digest of all of the policy that decides how objects are carried.
    #[serde(default)]
    pub policy: String,
    /// What the target holds of ours, by the target's name of the database.
    pub databases: BTreeMap<String, DatabaseState>,
    /// What is about to change.
    pub intent: Option<Intent>,
    /// When each tree of data was last looked at, whole (RFC 3339).
    pub looks: BTreeMap<String, String>,
    /// What both metastores held when a run had done everything.
    #[serde(default)]
    pub fingerprints: Option<Fingerprints>,
    /// Folders of the target that a table or a partition left, and whose files were not all removed yet.
    pub removals: BTreeSet<String>,
    /// Folders of the target that were left while the source had files in them: a metastore forgets a partition before it removes
    /// its files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaving: BTreeMap<String, Left>,
    /// Folders of the source that stand elsewhere on the target than the policy's map says, with where.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub switched: BTreeMap<String, Switched>,
    /// Folders that a run makes anew elsewhere, and that metadata does not name yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<String, Switched>,
    /// Folders of the target that others have taken the place of, with since when (RFC 3339).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<String, String>,
    /// The plain trees of the policy, by their name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<String, PathState>,
    /// Objects other than tables that are not in step, by their name: functions, constraints, databases that were not dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uncarried: BTreeMap<String, Quarantine>,
    /// What events said was emptied on purpose, while its files are not all removed yet (rule 27).
    #[serde(default)]
    pub explained: BTreeSet<Emptied>,
    /// The target's own file, where this state is not on its machine (rule 35).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptFile>,
    /// Into what events said that files came, of tables that are not in step, with the first file (rule 27).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<(Emptied, String)>,
}

/// A folder of the target that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Since when (RFC 3339).
    pub since: String,
    /// Where what is in it came from.
    pub from: String,
    /// `keep_external_data` then: what it keeps is not left.
    pub keeps_external: bool,
}

/// A file in parts, each under the BLAKE3 of what it holds, compressed with zstd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Bytes.
    pub size_bytes: u64,
    /// The parts in order.
    pub parts: Vec<String>,
}

/// Digests of what a run that did everything left (rules 20, 25).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the source's metastore.
    pub source: String,
    /// Of the target's.
    pub target: String,
    /// Of the policy.
    pub policy: String,
}

/// Where the files of a table or of a partition stand on the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// The folder on the target.
    pub to: String,
    /// The target's name of the database.
    pub database: String,
    /// The target's name of the table.
    pub table: String,
    /// The partition; `None` for the table itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
}

/// The data of a table or of a partition of it, by the source's names: what somebody emptied or replaced on purpose, or what
/// files came into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Emptied {
    /// Its catalog.
    pub catalog: String,
    /// Its database.
    pub database: String,
    /// Its name.
    pub table: String,
    /// The partition; `None` for all of the table.
    pub partition: Option<String>,
}

impl Emptied {
    /// The table.
    pub fn table(&self) -> TableName {
        let Self { catalog, database, table, .. } = self.clone();
        TableName { catalog, database, table }
    }
}

/// What of a policy decides which objects are where (rule 29).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Patterns of databases.
    pub databases: Vec<String>,
    /// Patterns of tables that are left out.
    pub exclude_tables: Vec<String>,
    /// Source database -> target database.
    pub rename: BTreeMap<String, String>,
    /// Source location -> target location, in the order in which they are tried.
    pub locations: Vec<(String, String)>,
}

impl Rules {
    /// Those of a policy.
    pub fn of(policy: &Policy) -> Self {
        let (databases, excluded) = policy.scope.patterns();
        let pairs = policy.locations.pairs().iter().map(|(from, to)| (from.to_string(), to.to_string()));
        Self {
            databases: databases.to_vec(),
            exclude_tables: excluded.to_vec(),
            rename: policy.rename.clone(),
            locations: pairs.collect(),
        }
    }

    /// What `new` moves or may drop, in words; nothing for a policy that only takes more.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for pattern in self.databases.iter().filter(|pattern| !new.databases.contains(pattern)) {
            found.push(format!("databases: {pattern} is gone"));
        }
        for pattern in new.exclude_tables.iter().filter(|pattern| !self.exclude_tables.contains(pattern)) {
            found.push(format!("exclude_tables: {pattern} is new"));
        }
        let names: BTreeSet<&String> = self.rename.keys().chain(new.rename.keys()).collect();
        for name in names {
            let to = |rules: &Self| rules.rename.get(name).unwrap_or(name).clone();
            if to(self) != to(new) {
                found.push(format!("rename: {name} went to {}, and now to {}", to(self), to(new)));
            }
        }
        for (from, to) in &self.locations {
            match new.locations.iter().find(|(other, _)| other == from) {
                Some((_, now)) if now == to => {}
                Some((_, now)) => found.push(format!("locations: {from} went to {to}, and now to {now}")),
                None => found.push(format!("locations: {from} is gone")),
            }
        }
        let old =
            self.locations.iter().filter_map(|(from, to)| Location::parse(from).ok().zip(Location::parse(to).ok()));
        let old: Vec<(Location, Location)> = old.collect();
        for (from, to) in new.locations.iter().filter(|(from, _)| !self.locations.iter().any(|(old, _)| old == from)) {
            let was = Location::parse(from).ok().and_then(|from| brought(&old, &from));
            if let Some(was) = was.map(|was| was.to_string()).filter(|was| !same_place(Some(was), Some(to))) {
                found.push(format!("locations: {from} is new, what is in it went to {was}, and now to {to}"));
            }
        }
        found
    }
}

/// What the last commit left of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// Its name at the source.
    pub source: String,
    /// Its folder at the source.
    pub location: Option<String>,
    /// Of its own line and those of its functions on the target.
    pub digest: String,
    /// By the target's name of the table.
    pub tables: BTreeMap<String, TableState>,
}

/// What the last commit left of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Of all its lines on the target; `None` if it is not there.
    pub digest: Option<String>,
    /// Its partitions on the target.
    pub partitions: u64,
    /// Why it is not in step.
    pub quarantined: Option<Quarantine>,
}

/// What the last run left of a plain tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathState {
    /// The moment of the source that it shows (RFC 3339); `None` if it was never whole.
    pub as_of: Option<String>,
    /// Why it is not in step.
    pub error: Option<String>,
}

/// A table, or another object, that could not be brought into step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Why.
    pub error: String,
    /// The as-of that it still shows (RFC 3339): that of the last complete run before; `None` if it was never carried.
    pub as_of: Option<String>,
}

/// What a run was about to change on the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Databases, by the target's names.
    pub databases: BTreeSet<String>,
    /// Tables, by database and name.
    pub tables: BTreeSet<(String, String)>,
    /// Folders on the target that tables and partitions are about to have, and whose files go when those are dropped: if the run dies
    /// before they stand and the source drops them, nobody else knows of these.
    #[serde(default)]
    pub fresh: BTreeMap<String, (String, String)>,
    /// The run was about to write files, and did not come to an end in order: it may have written what no manifest knows.
    #[serde(default = "yes")]
    pub carrying: bool,
}

fn yes() -> bool {
    true
}

impl SyncState {
    /// Whether a run may have written files that no manifest knows.
    pub fn is_half_done(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.carrying)
    }

    /// What the last commit left of a table of the target.
    pub fn table(&self, database: &str, table: &str) -> Option<&TableState> {
        self.databases.get(database)?.tables.get(table)
    }

    /// Whether a run that died may have changed this table.
    pub fn is_intended(&self, database: &str, table: &str) -> bool {
        let key = (database.to_owned(), table.to_owned());
        self.intent.as_ref().is_some_and(|intent| intent.tables.contains(&key))
    }

    /// Tables that are not in step, as `database.table` of the target, with why.
    pub fn quarantined(&self) -> impl Iterator<Item = (String, &Quarantine)> {
        self.databases.iter().flat_map(|(database, state)| {
            state
                .tables
                .iter()
                .filter_map(move |(table, state)| Some((format!("{database}.{table}"), state.quarantined.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_29_what_moves_or_drops_is_told_and_what_only_adds_is_not() {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let old = Rules {
            databases: strings(&["sales"]),
            exclude_tables: strings(&["*.tmp"]),
            rename: BTreeMap::from([("sales".to_owned(), "r".to_owned())]),
            locations: vec![("/a".to_owned(), "/b".to_owned())],
        };
        assert_eq!(old.changes(&old), [] as [String; 0]);
        let more = Rules { databases: strings(&["sales", "x"]), exclude_tables: Vec::new(), ..old.clone() };
        assert_eq!(old.changes(&more), [] as [String; 0]);
        let moved = Rules {
            databases: Vec::new(),
            exclude_tables: strings(&["*.tmp", "*.x"]),
            rename: BTreeMap::new(),
            locations: vec![("/a".to_owned(), "/c".to_owned())],
        };
        assert_eq!(old.changes(&moved).len(), 4, "{:?}", old.changes(&moved));
    }

    #[test]
    fn rule_29_an_added_location_is_told_where_it_moves_what_another_one_brought() {
        let rules = |pairs: &[(&str, &str)]| Rules {
            locations: pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
            ..Rules::default()
        };
        let old = rules(&[("s3://eu/w/hot", "s3://us/hot"), ("s3://eu/w", "s3://us/w")]);
        for (added, told) in [
            (("s3a://eu/w/db/t", "s3://other/t"), Some("went to s3://us/w/db/t, and now to s3://other/t")),
            (("s3://eu/w/hot/x", "s3://us/w/hot/x"), Some("went to s3://us/hot/x, and now to s3://us/w/hot/x")),
            (("s3://eu/w/db", "s3a://us/w/db/"), None),
            (("s3://eu", "s3://us/rest"), None),
            (("s3://eu/w-2", "s3://us/w-2"), None),
        ] {
            let mut pairs = old.clone();
            pairs.locations.insert(0, (added.0.to_owned(), added.1.to_owned()));
            let found = old.changes(&pairs);
            assert_eq!(found.len(), usize::from(told.is_some()), "{added:?}: {found:?}");
            assert!(told.is_none_or(|told| found[0].contains(told)), "{added:?}: {found:?}");
        }
    }
}
