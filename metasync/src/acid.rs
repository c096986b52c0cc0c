//! The files of transactional tables: which of them are the rows that committed writes left, as Hive's own readers choose them.
//!
//! Pure. A folder of such a table (the table's, or a partition's) holds `base_N`, `delta_A_B`, `delta_A_B_S` and the same as
//! `delete_delta`, files from before the table knew transactions, and what a compaction makes of these, named by the transaction
//! that it runs in: `base_N_vT`. The rules are those of `AcidUtils.getAcidState` in Hive 4. The list of writes
//! that is asked here holds none that is open, so that the choice is right for a replica that knows no write but those.
//!
//! What of it is uncertain is an error of that table: a folder with a name that Hive cannot read, a base that holds more than
//! it may, a folder of a streaming writer that holds both what is committed and what is not.

use crate::model::{Share, Transactions, WriteIds};
use std::cmp::Ordering;
use std::collections::BTreeSet;

const BASE: &str = "base_";
const DELTA: &str = "delta_";
const DELETE_DELTA: &str = "delete_delta_";
/// Before the transaction of a compaction.
const VISIBILITY: &str = "_v";
/// A file in a folder, that says more of it than its name.
pub const METADATA_FILE: &str = "_metadata_acid";
/// The base that the first compaction makes of a table that had files before it knew transactions.
const OF_ORIGINALS: i64 = i64::MIN;

/// A folder of a transactional table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Its name.
    pub name: String,
    kind: Kind,
    min: i64,
    max: i64,
    statement: i64,
    /// The transaction of the compaction that made it.
    pub compaction: Option<i64>,
    /// It holds [`METADATA_FILE`].
    pub has_metadata: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Base,
    Delta,
    DeleteDelta,
}

impl Folder {
    /// Whether Hive takes a folder of this name for one of its own.
    pub fn is_named_so(name: &str) -> bool {
        [BASE, DELTA, DELETE_DELTA].iter().any(|start| name.starts_with(start))
    }

    /// What a name says. Errors: the name, if Hive cannot read it.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::parsed(name).ok_or_else(|| format!("{name} is no name of a folder that Hive reads"))
    }

    fn parsed(name: &str) -> Option<Self> {
        let number = |text: &str| text.parse::<i64>().ok();
        let (plain, compaction) = match name.rsplit_once(VISIBILITY) {
            Some((plain, id)) => (plain, Some(number(id).filter(|id| *id > 0)?)),
            None => (name, None),
        };
        let folder = |kind, min, max, statement| {
            Some(Self { name: name.to_owned(), kind, min, max, statement, compaction, has_metadata: false })
        };
        if let Some(id) = plain.strip_prefix(BASE) {
            let id = number(id)?;
            return folder(Kind::Base, id, id, -1);
        }
        let (kind, range) = match plain.strip_prefix(DELETE_DELTA) {
            Some(range) => (Kind::DeleteDelta, range),
            None => (Kind::Delta, plain.strip_prefix(DELTA)?),
        };
        let parts: Vec<i64> = range.split('_').map(number).collect::<Option<_>>()?;
        match parts[..] {
            [min, max] if 0 < min && min <= max => folder(kind, min, max, -1),
            [min, max, statement] if 0 < min && min <= max && statement >= 0 => folder(kind, min, max, statement),
            _ => None,
        }
    }

    /// As Hive sorts deltas: a wider one before what it was made of.
    fn order(&self, other: &Self) -> Ordering {
        let wider = (self.min, std::cmp::Reverse(self.max), self.statement);
        wider.cmp(&(other.min, std::cmp::Reverse(other.max), other.statement)).then_with(|| self.name.cmp(&other.name))
    }
}

/// What of a folder is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Folders in it, by name.
    pub folders: BTreeSet<String>,
    /// Files that stood there before the table knew transactions.
    pub originals: bool,
    /// The compactions that made some of these.
    pub compactions: BTreeSet<i64>,
    /// What came to its end after the moment that was asked, if it did: then what it replaced may be gone already.
    pub doubts: Vec<Doubt>,
}

/// What makes a choice uncertain, if it has ended by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A compaction, by its transaction.
    Compaction(i64),
    /// A write that replaces all that was there.
    Overwrite(i64),
}

impl Doubt {
    /// Whether it has ended by the moment of these.
    pub fn stands(self, ids: &WriteIds, transactions: &Transactions) -> bool {
        match self {
            Self::Compaction(id) => transactions.is_committed(id),
            Self::Overwrite(id) => ids.is_valid(id),
        }
    }
}

/// What readers see of a folder that holds these. Errors: what is wrong with it.
pub fn choose(folders: &[Folder], ids: &WriteIds, transactions: &Transactions) -> Result<Choice, String> {
    let mark = ids.high_water.unwrap_or(0);
    let mut choice = Choice::default();
    let (mut base, mut too_new): (Option<&Folder>, Option<&Folder>) = (None, None);
    let mut deltas: Vec<&Folder> = Vec::new();
    for folder in folders {
        if let Some(id) = folder.compaction.filter(|id| !transactions.is_committed(*id)) {
            choice.doubts.push(Doubt::Compaction(id));
            continue;
        }
        if folder.kind != Kind::Base {
            if ids.valid_among(folder.min, folder.max) != Share::None {
                deltas.push(folder);
            }
            continue;
        }
        let is_compacted = folder.compaction.is_some();
        if !is_compacted && ids.aborted.contains(&folder.max) {
            if folder.has_metadata {
                return Err(format!("{} was given up, and may be what a compaction left", folder.name));
            }
            continue;
        }
        let is_seen = folder.max == OF_ORIGINALS || folder.max <= mark && (is_compacted || ids.is_valid(folder.max));
        let is_better = |best: &Folder| (folder.max, is_compacted) > (best.max, best.compaction.is_some());
        match is_seen {
            true if base.is_none_or(is_better) => base = Some(folder),
            true => {}
            false if is_compacted => too_new = Some(folder),
            false => choice.doubts.push(Doubt::Overwrite(folder.max)),
        }
    }
    if let (None, Some(folder)) = (base, too_new) {
        return Err(format!("{} holds writes after {mark}, and nothing is left of what it was made of", folder.name));
    }
    choice.originals = base.is_none();
    let best = best_deltas(deltas, base, ids);
    for folder in base.into_iter().chain(best) {
        let is_whole = folder.kind == Kind::Base || ids.valid_among(folder.min, folder.max) == Share::All;
        // A compaction leaves out what was given up; a writer that writes many at once does not.
        if !is_whole && (folder.compaction.is_none() || folder.max > mark) {
            return Err(format!("{} holds writes that are committed and others that are not", folder.name));
        }
        choice.folders.insert(folder.name.clone());
        choice.compactions.extend(folder.compaction);
    }
    Ok(choice)
}

/// Of deltas that overlap those that hold all: Hive's `findBestWorkingDeltas`.
fn best_deltas<'a>(mut deltas: Vec<&'a Folder>, base: Option<&Folder>, ids: &WriteIds) -> Vec<&'a Folder> {
    deltas.sort_by(|a, b| a.order(b));
    let mut best: Vec<&Folder> = Vec::new();
    let (mut current, mut statement) = (base.map_or(0, |base| base.max), -1);
    for next in deltas {
        let same = |last: &&&Folder| (last.min, last.max, last.statement) == (next.min, next.max, next.statement);
        if next.max > current {
            if ids.valid_among(current.saturating_add(1), next.max) != Share::None {
                (current, statement) = (next.max, next.statement);
                best.push(next);
            }
        } else if next.max == current && statement >= 0 || best.last().filter(same).is_some() {
            best.push(next);
        }
    }
    best
}

#[cfg(test)]
mod tests;
