//! The one written list of what is not compared (rule 30): what a metastore changes by itself, and what replication keeps.
//!
//! Pure. Two metastores are in step when their objects are equal after [`strip`]; a dump prints them so.

use crate::model::{ColumnStatistics, Parameters, UnknownFields};
use crate::object::Object;

/// Parameters that a server or an engine sets by itself whenever it touches an object.
pub const VOLATILE_PARAMETERS: [&str; 4] =
    ["transient_lastDdlTime", "last_modified_time", "last_modified_by", "impala.lastComputeStatsTime"];

/// Parameters by which replication keeps its own state: Hive's and ours (hive-facts: state keys of REPL).
pub const REPLICATION_PARAMETERS: [&str; 11] = [
    "repl.last.id",
    "repl.target.last.id",
    "repl.source.for",
    "repl.target.for",
    "repl.failover.endpoint",
    "repl.background.enable",
    "repl.resume.started",
    "repl.incompatible",
    "hive.repl.ckpt.key",
    "hive.repl.first.inc.pending",
    "repl.ckpt.key",
];

/// Prefixes of further replication parameters: Hive's marks of a dump that runs, and ours.
pub const REPLICATION_PREFIXES: [&str; 2] = ["bootstrap.dump.state.", "understudy."];

/// Whether a parameter of this key is not compared.
pub fn is_volatile(key: &str) -> bool {
    VOLATILE_PARAMETERS.contains(&key) || is_replication(key)
}

/// Whether this key is replication's own, and is never carried from a source to a replica.
pub fn is_replication(key: &str) -> bool {
    REPLICATION_PARAMETERS.contains(&key) || REPLICATION_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Takes away what is not compared: volatile parameters, and the times that a server sets when it creates or reads an
/// object. Over Thrift both sides set them, whatever they are asked for.
pub fn strip(object: &mut Object) {
    match object {
        Object::Catalog(catalog) => catalog.create_time = None,
        // Over Thrift nobody can ask who made a role, unless somebody is in it.
        Object::Role(role) => (role.create_time, role.owner) = (0, None),
        Object::RoleGrant(grant) => grant.grant_time = 0,
        Object::Grant(grant) => grant.create_time = 0,
        Object::Database(database) => {
            database.create_time = None;
            strip_parameters(&mut database.parameters);
        }
        Object::Function(function) => function.create_time = 0,
        Object::Table(table) => {
            (table.create_time, table.last_access_time) = (0, 0);
            strip_parameters(&mut table.parameters);
        }
        Object::Partition { partition, .. } => {
            (partition.create_time, partition.last_access_time) = (0, 0);
            strip_parameters(&mut partition.parameters);
        }
        Object::TableStatistics { statistics, .. } | Object::PartitionStatistics { statistics, .. } => {
            statistics.last_analyzed = 0;
        }
        Object::Constraint(_) => (),
    }
}

/// Takes away the sketches of column statistics, which are carried but never compared: a server shows them only where its
/// `metastore.stats.fetch.bitvector` says so, and what was written could not be told from what was lost.
pub fn strip_sketches(statistics: &mut ColumnStatistics) {
    let (distinct, distribution) = statistics.data.sketches();
    *distinct = None;
    if let Some(distribution) = distribution {
        *distribution = None;
    }
}

fn strip_parameters(parameters: &mut Parameters) {
    parameters.retain(|key, _| !is_volatile(key));
}

/// Takes away fields that our IDL does not name: only Thrift and our own schema hold them.
pub(crate) fn strip_unknown(object: &mut Object) -> bool {
    let mut had = false;
    let mut clear = |unknown: &mut UnknownFields| had |= !std::mem::take(unknown).is_empty();
    match object {
        Object::Catalog(catalog) => clear(&mut catalog.unknown),
        Object::Database(database) => clear(&mut database.unknown),
        Object::Function(function) => clear(&mut function.unknown),
        Object::Table(table) => {
            clear(&mut table.unknown);
            clear_storage(&mut table.storage, &mut clear);
            table.partition_keys.iter_mut().for_each(|key| clear(&mut key.unknown));
        }
        Object::Partition { partition, .. } => {
            clear(&mut partition.unknown);
            clear_storage(&mut partition.storage, &mut clear);
        }
        Object::TableStatistics { statistics, .. } | Object::PartitionStatistics { statistics, .. } => {
            clear(&mut statistics.unknown);
        }
        Object::Role(_) | Object::RoleGrant(_) | Object::Grant(_) | Object::Constraint(_) => (),
    }
    had
}

fn clear_storage(storage: &mut crate::model::StorageDescriptor, clear: &mut impl FnMut(&mut UnknownFields)) {
    clear(&mut storage.unknown);
    clear(&mut storage.serde.unknown);
    if storage.columns.iter().any(|column| !column.unknown.is_empty()) {
        // Not shared any more, but equal to the others that are cleared.
        std::sync::Arc::make_mut(&mut storage.columns).iter_mut().for_each(|column| clear(&mut column.unknown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_30_replication_keys_are_not_compared_and_others_are() {
        for key in
            ["repl.last.id", "bootstrap.dump.state.1f", "transient_lastDdlTime", "understudy.discover.partitions"]
        {
            assert!(is_volatile(key), "{key}");
        }
        for key in ["EXTERNAL", "numRows", "COLUMN_STATS_ACCURATE", "repl", "discover.partitions"] {
            assert!(!is_volatile(key), "{key}");
        }
        assert!(!is_replication("transient_lastDdlTime") && is_replication("repl.source.for"));
    }
}
