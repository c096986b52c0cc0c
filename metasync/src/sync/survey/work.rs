//! What there is to do about one database, one table, one table that goes. Data only.

use crate::compare::Stamp;
use crate::location::Location;
use crate::metastore::Change;
use crate::model::{DatabaseName, PartitionName, TableName};
use crate::rewrites::Rewrites;
use crate::sync::writes::Acid;
use std::collections::{BTreeSet, HashMap};

/// A database.
pub struct DatabaseWork {
    /// At the source.
    pub source: DatabaseName,
    /// On the target.
    pub target: DatabaseName,
    /// Its folder at the source.
    pub location: Option<String>,
    /// Whether the target lacks it.
    pub is_new: bool,
    /// What has to change of it, before its tables.
    pub changes: Vec<Change>,
    /// What has to change of its functions, after its tables and their data.
    pub functions: Vec<Change>,
    /// What becomes otherwise in what is written, by object.
    pub rewritten: Vec<(String, Rewrites)>,
    /// Of its lines, once this is done.
    pub digest: String,
    /// What the target says it was read up to.
    pub last_id: Option<String>,
    /// What the target says of its event log.
    pub mark: Option<String>,
    /// What the target says that a run left.
    pub seal: Option<String>,
    /// The target's is not as the last commit left it.
    pub drifted: bool,
    /// The last commit left it and its functions in step.
    pub settled: bool,
    /// Functions that the target lacks.
    pub lacking: BTreeSet<String>,
    /// Whether the target holds functions in it now.
    pub has_functions: bool,
}

/// A table.
pub struct TableWork {
    /// At the source.
    pub source: TableName,
    /// On the target.
    pub target: TableName,
    /// Whether the target has it not.
    pub is_new: bool,
    /// Partition keys at the source, for finding the partition of a file.
    pub keys: usize,
    /// Its folder at the source.
    pub location: Option<Location>,
    /// Its partitions at the source that stand where their names do not lead from there, with their folders.
    pub displaced: Vec<(Location, PartitionName)>,
    /// Its files go when it is dropped.
    pub owns_files: bool,
    /// Its files are its rows, and whoever reads it asks the metastore where they are.
    pub switchable: bool,
    /// Its files are its rows.
    pub plain: bool,
    /// A materialized view: made of tables that must be there before it.
    pub made_of_others: bool,
    /// What has to change of the table itself, in words.
    pub differing: Vec<String>,
    /// Partitions to put, with what they shall be.
    pub put: HashMap<PartitionName, Stamp>,
    /// What becomes otherwise in what is written of the table itself.
    pub rewritten: Rewrites,
    /// What becomes otherwise in the partitions to put.
    pub rewritten_partitions: Rewrites,
    /// Partitions to drop: a count.
    pub drop: u64,
    /// Partitions that the target holds now.
    pub there: u64,
    /// Of all lines that the target holds now; `None` if it is not there.
    pub digest: Option<String>,
    /// What the target holds could not be told: the last commit's word stays.
    pub unread: bool,
    /// The target's is not as the last commit left it.
    pub drifted: bool,
    /// The last commit left it in step, and it stays where it is.
    pub settled: bool,
    /// It is on the target, and is to stand elsewhere.
    pub moves: bool,
    /// Folders at the source of partitions that are new on the target, or are to stand elsewhere, and that are not inside its own.
    pub fresh_outside: Vec<Location>,
    /// Folders on the target that go with it or a partition of it, and that it or the partition leaves.
    pub leaves: Vec<Location>,
    /// Why it is not carried.
    pub quarantine: Option<String>,
    /// Of a transactional table: its writes.
    pub acid: Option<Acid>,
    /// Of an Iceberg table: the file of the version that the source's metastore names.
    pub iceberg: Option<Location>,
}

impl TableWork {
    /// Whether metadata has to change.
    pub fn differs(&self) -> bool {
        self.quarantine.is_none()
            && (self.is_new || !self.differing.is_empty() || self.drop > 0 || !self.put.is_empty())
    }

    /// Folders at the source of which the target may have nothing yet: the table's own, if it is new there or is to stand
    /// elsewhere, and those of partitions of which the same is true, and that are not inside it.
    pub fn fresh(&self) -> impl Iterator<Item = &Location> {
        self.location.iter().filter(|_| self.is_new || self.moves).chain(&self.fresh_outside)
    }

    /// A table of which nothing is known, and about which there is nothing to do.
    pub(crate) fn unknown(source: TableName, target: TableName) -> Self {
        Self {
            source,
            target,
            is_new: false,
            keys: 0,
            location: None,
            displaced: Vec::new(),
            owns_files: false,
            switchable: false,
            plain: false,
            made_of_others: false,
            differing: Vec::new(),
            put: HashMap::new(),
            rewritten: Rewrites::default(),
            rewritten_partitions: Rewrites::default(),
            drop: 0,
            there: 0,
            digest: None,
            unread: false,
            drifted: false,
            settled: false,
            moves: false,
            fresh_outside: Vec::new(),
            leaves: Vec::new(),
            quarantine: None,
            acid: None,
            iceberg: None,
        }
    }

    /// A table that cannot be read on one side: nothing is done about it.
    pub(super) fn damaged(source: TableName, target: TableName, why: String) -> Self {
        Self { is_new: true, unread: true, quarantine: Some(why), ..Self::unknown(source, target) }
    }
}

/// A table that goes.
pub struct Drop {
    /// On the target.
    pub target: TableName,
    /// Its folder on the target.
    pub place: Option<String>,
    /// The same, if its files go too, and the folders of its partitions that are not inside it.
    pub folders: Vec<Location>,
    /// No run of ours made it.
    pub by_others: bool,
}
