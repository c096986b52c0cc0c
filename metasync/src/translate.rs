//! What an object of the source is on the replica: other database names, other locations, no state of replication.
//!
//! Pure. A location that no pair of the policy matches is the object's error: a replica whose metadata points at the source
//! would look right until the day it is needed.

mod views;

use crate::carry;
use crate::location::{Location, LocationMap};
use crate::model::{
    Constraint, ConstraintKind, Database, DatabaseName, Function, Grant, GrantObject, Parameters, Partition,
    StorageDescriptor, Table, TableName,
};
use crate::object::Object;
use crate::policy::Policy;
use crate::rewrites::{Rewrites, Why};
use crate::volatile::is_replication;

/// Parameters by which a metastore would act on tables by itself (rule 31), with what they are on the replica. The source's
/// values are kept under [`KEPT_PREFIX`].
pub const STILLED: [(&str, Option<&str>); 3] =
    [("discover.partitions", Some("false")), ("partition.retention.period", None), (COMPACTION, Some("true"))];
/// Whether a server leaves the folders of a transactional table as they are.
const COMPACTION: &str = "no_auto_compaction";
/// Where the source's values of [`STILLED`] parameters are kept for failover.
pub const KEPT_PREFIX: &str = "understudy.source.";

/// Parameters that name databases: the key's beginning. Spark keeps a view's current database there.
const NAMESPACE_PARAMETERS: &str = "view.catalogAndNamespace.part.";
/// Parameters that begin so and say a place inside text of another form, which must be carried as it is: a table's schema.
const OPAQUE_PARAMETERS: &str = "spark.sql.sources.schema";
/// Where parameters stand in an object's line of a dump.
const OWN_PARAMETERS: &str = "parameters.";
const STORAGE_PARAMETERS: &str = "storage.parameters.";
const SERDE_PARAMETERS: &str = "storage.serde.parameters.";

/// Why an object cannot stand on the replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// No pair of `[[locations]]` matches.
    #[error("{what} {location} is in no [[locations]] of the policy")]
    Unmapped {
        /// Whose: `location`, `serde.path`.
        what: String,
        /// Where it is.
        location: String,
    },
    /// It cannot be understood as a location.
    #[error("{what}: {why}")]
    NoLocation {
        /// Whose.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

type Result<T> = std::result::Result<T, Untranslatable>;

/// What this object is on the replica. `told` hears what becomes otherwise in it.
pub fn translate(object: Object, policy: &Policy, told: &mut Rewrites) -> Result<Object> {
    let table_name = |table: &TableName| policy.target_table(table);
    Ok(match object {
        Object::Database(database) => Object::Database(translate_database(database, policy, told)?),
        Object::Function(function) => Object::Function(translate_function(function, policy, told)?),
        Object::Table(table) => Object::Table(Box::new(translate_table(*table, policy, told)?)),
        Object::Partition { table, partition_name, partition } => Object::Partition {
            table: table_name(&table),
            partition_name,
            partition: Box::new(translate_partition(*partition, &policy.locations, told)?),
        },
        Object::Constraint(constraint) => Object::Constraint(translate_constraint(constraint, policy)),
        Object::TableStatistics { table, statistics } => {
            Object::TableStatistics { table: table_name(&table), statistics }
        }
        Object::PartitionStatistics { table, partition_name, statistics } => {
            Object::PartitionStatistics { table: table_name(&table), partition_name, statistics }
        }
        Object::Grant(grant) => Object::Grant(translate_grant(grant, policy)),
        other @ (Object::Catalog(_) | Object::Role(_) | Object::RoleGrant(_)) => other,
    })
}

fn translate_database(mut database: Database, policy: &Policy, told: &mut Rewrites) -> Result<Database> {
    database.name = policy.target_database(&database.name);
    map_into(&mut database.location, "location", &policy.locations)?;
    map_into(&mut database.managed_location, "managed location", &policy.locations)?;
    carry_parameters(&mut database.parameters, OWN_PARAMETERS, &policy.locations, told);
    Ok(database)
}

fn translate_function(mut function: Function, policy: &Policy, told: &mut Rewrites) -> Result<Function> {
    function.database = policy.target_database(&function.database);
    for resource in &mut function.resources {
        let mapped = map(&resource.uri, "resource", &policy.locations)?;
        told.value(Why::Location, "resources".to_owned(), &resource.uri, Some(&mapped));
        resource.uri = mapped;
    }
    Ok(function)
}

/// A table on the replica. Errors: a location of it that is not mapped.
pub fn translate_table(mut table: Table, policy: &Policy, told: &mut Rewrites) -> Result<Table> {
    table.name = policy.target_table(&table.name);
    translate_storage(&mut table.storage, &policy.locations, told)?;
    unstill(&mut table.parameters);
    carry_parameters(&mut table.parameters, OWN_PARAMETERS, &policy.locations, told);
    for (key, value) in &mut table.parameters {
        if key.starts_with(NAMESPACE_PARAMETERS)
            && let Some(renamed) = policy.rename.get(&value.to_lowercase())
        {
            told.value(Why::Rename, format!("{OWN_PARAMETERS}{key}"), value, Some(renamed));
            value.clone_from(renamed);
        }
    }
    if carry::is_acid(&table) {
        compact_no_more(&mut table.parameters);
    }
    still(&mut table.parameters, told);
    let texts =
        [("view_original_text", &mut table.view_original_text), ("view_expanded_text", &mut table.view_expanded_text)];
    for (key, text) in texts {
        let Some(text) = text else { continue };
        let renamed = views::rename_databases(text, &policy.rename);
        if renamed != *text {
            told.named(Why::Rename, key.to_owned());
            *text = renamed;
        }
    }
    for source in table.creation_metadata.iter_mut().flat_map(|metadata| &mut metadata.sources) {
        source.table = policy.target_table(&source.table);
    }
    Ok(table)
}

/// A partition on the replica. Errors: a location of it that is not mapped.
pub fn translate_partition(
    mut partition: Partition,
    locations: &LocationMap,
    told: &mut Rewrites,
) -> Result<Partition> {
    translate_storage(&mut partition.storage, locations, told)?;
    carry_parameters(&mut partition.parameters, OWN_PARAMETERS, locations, told);
    Ok(partition)
}

fn translate_storage(storage: &mut StorageDescriptor, locations: &LocationMap, told: &mut Rewrites) -> Result<()> {
    map_into(&mut storage.location, "location", locations)?;
    for (_, location) in &mut storage.skew.locations {
        let mapped = map(location, "location of skewed values", locations)?;
        told.value(Why::Location, "storage.skew.locations".to_owned(), location, Some(&mapped));
        *location = mapped;
    }
    // Spark reads a table's place here first: it must never stay the source's.
    if let Some(path) = storage.serde.parameters.get("path") {
        map(path, "SerDe parameter path", locations)?;
    }
    carry_parameters(&mut storage.serde.parameters, SERDE_PARAMETERS, locations, told);
    carry_parameters(&mut storage.parameters, STORAGE_PARAMETERS, locations, told);
    Ok(())
}

fn map_into(location: &mut Option<String>, what: &str, locations: &LocationMap) -> Result<()> {
    if let Some(text) = location {
        *text = map(text, what, locations)?;
    }
    Ok(())
}

fn map(text: &str, what: &str, locations: &LocationMap) -> Result<String> {
    let location = Location::parse(text).map_err(|why| Untranslatable::NoLocation { what: what.to_owned(), why })?;
    match locations.map(&location) {
        Some(mapped) => Ok(mapped.to_string()),
        None => Err(Untranslatable::Unmapped { what: what.to_owned(), location: text.to_owned() }),
    }
}

/// Drops what is replication's own, and rewrites every value that is a mapped location: `metadata_location`,
/// `avro.schema.url`, and whatever else an engine keeps. `of` is where the parameters stand in a dump's line.
fn carry_parameters(parameters: &mut Parameters, of: &str, locations: &LocationMap, told: &mut Rewrites) {
    parameters.retain(|key, _| !is_replication(key));
    for (key, value) in parameters {
        let opaque = key.starts_with(OPAQUE_PARAMETERS);
        if let Some(mapped) = locations.map_text(value).filter(|_| !opaque) {
            told.value(Why::Location, format!("{of}{key}"), value, Some(&mapped));
            *value = mapped;
        }
    }
}

/// A server compacts transactional tables unless they say otherwise: then they shall, in the spelling that we know.
fn compact_no_more(parameters: &mut Parameters) {
    let said = parameters.keys().find(|key| key.eq_ignore_ascii_case(COMPACTION)).cloned();
    let value = said.and_then(|key| parameters.remove(&key)).unwrap_or_else(|| "false".to_owned());
    parameters.insert(COMPACTION.to_owned(), value);
}

/// Rule 31: nothing but replication changes the replica.
fn still(parameters: &mut Parameters, told: &mut Rewrites) {
    for (key, stilled) in STILLED {
        let Some(value) = parameters.remove(key) else { continue };
        told.value(Why::SwitchedOff, format!("{OWN_PARAMETERS}{key}"), &value, stilled);
        if let Some(stilled) = stilled {
            parameters.insert(key.to_owned(), stilled.to_owned());
        }
        parameters.insert(format!("{KEPT_PREFIX}{key}"), value);
    }
}

/// A table that is a replica itself: what the first source of the chain said counts, not what was stilled since.
fn unstill(parameters: &mut Parameters) {
    for (key, _) in STILLED {
        if let Some(value) = parameters.remove(&format!("{KEPT_PREFIX}{key}")) {
            parameters.insert(key.to_owned(), value);
        }
    }
}

fn translate_constraint(mut constraint: Constraint, policy: &Policy) -> Constraint {
    constraint.table = policy.target_table(&constraint.table);
    if let ConstraintKind::ForeignKey { parent, .. } = &mut constraint.kind {
        *parent = policy.target_table(parent);
    }
    constraint
}

fn translate_grant(mut grant: Grant, policy: &Policy) -> Grant {
    match &mut grant.object {
        GrantObject::Global => (),
        GrantObject::Database { database } => *database = policy.target_database(database),
        GrantObject::Table { table }
        | GrantObject::Partition { table, .. }
        | GrantObject::Column { table, .. }
        | GrantObject::PartitionColumn { table, .. } => *table = policy.target_table(table),
    }
    grant
}

/// The databases of the target that hold what this policy replicates, among these of the source.
pub fn target_databases<'a>(source: impl IntoIterator<Item = &'a DatabaseName>, policy: &Policy) -> Vec<DatabaseName> {
    let taken = source.into_iter().filter(|database| policy.scope.takes_database(database));
    taken.map(|database| policy.target_database(database)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{StorageDescriptor, UnknownFields};

    fn translated(table: Table) -> Result<Table> {
        translate_table(table, &policy(), &mut Rewrites::default())
    }

    fn policy() -> Policy {
        let text = "name = \"n\"\ndatabases = [\"sales\"]\nsource.metastore = \"sqlite:///a\"\ntarget.metastore = \"sqlite:///b\"\n\
            [rename]\nsales = \"sales_r\"\n[[locations]]\nfrom = \"s3://eu/w\"\nto = \"s3://us/w\"\n";
        Policy::parse(text, "p.toml").unwrap()
    }

    fn table(location: &str, parameters: &[(&str, &str)]) -> Table {
        let pairs = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Table {
            name: TableName::new("sales", "t"),
            table_type: Some("EXTERNAL_TABLE".to_owned()),
            owner: None,
            create_time: 0,
            last_access_time: 0,
            retention: 0,
            storage: StorageDescriptor { location: Some(location.to_owned()), ..StorageDescriptor::default() },
            partition_keys: Vec::new(),
            parameters: pairs.collect(),
            view_original_text: None,
            view_expanded_text: None,
            rewrite_enabled: false,
            creation_metadata: None,
            write_id: 0,
            unknown: UnknownFields::default(),
        }
    }

    #[test]
    fn places_inside_parameters_move_with_the_location_and_replication_keys_stay_behind() {
        let mut source = table(
            "s3a://eu/w/t",
            &[
                ("metadata_location", "s3://eu/w/t/metadata/1.json"),
                ("avro.schema.url", "s3://elsewhere/x.avsc"),
                ("view.catalogAndNamespace.part.1", "sales"),
                ("spark.sql.sources.schema.part.0", "s3://eu/w/t"),
                ("repl.last.id", "7"),
            ],
        );
        source.storage.serde.parameters.insert("path".to_owned(), "s3a://eu/w/t".to_owned());
        let replica = translated(source).unwrap();
        assert_eq!(replica.name, TableName::new("sales_r", "t"));
        assert_eq!(replica.storage.location.as_deref(), Some("s3://us/w/t"));
        assert_eq!(replica.storage.serde.parameters["path"], "s3://us/w/t");
        let value = |key: &str| replica.parameters.get(key).map(String::as_str);
        assert_eq!(value("metadata_location"), Some("s3://us/w/t/metadata/1.json"));
        assert_eq!(value("avro.schema.url"), Some("s3://elsewhere/x.avsc"));
        assert_eq!(value("view.catalogAndNamespace.part.1"), Some("sales_r"));
        assert_eq!(value("spark.sql.sources.schema.part.0"), Some("s3://eu/w/t"));
        assert_eq!(value("repl.last.id"), None);
    }

    #[test]
    fn a_location_that_no_pair_matches_is_the_tables_error() {
        let error = translated(table("s3://eu/w-2/t", &[])).unwrap_err().to_string();
        assert_eq!(error, "location s3://eu/w-2/t is in no [[locations]] of the policy");
        let mut spark = table("s3://eu/w/t", &[]);
        spark.storage.serde.parameters.insert("path".to_owned(), "hdfs://nn/x".to_owned());
        assert!(translated(spark).unwrap_err().to_string().contains("SerDe parameter path hdfs://nn/x"));
    }

    #[test]
    fn rule_31_the_replica_does_nothing_by_itself_and_the_sources_values_are_kept() {
        let replica =
            translated(table("s3://eu/w/t", &[("discover.partitions", "true"), ("partition.retention.period", "7d")]))
                .unwrap();
        let expected = [
            ("discover.partitions", "false"),
            ("understudy.source.discover.partitions", "true"),
            ("understudy.source.partition.retention.period", "7d"),
        ];
        assert_eq!(replica.parameters, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        // The next of a chain, on another place, keeps what the first one said.
        let mut next = replica.clone();
        next.storage.location = Some("s3://eu/w/t".to_owned());
        assert_eq!(translated(next).unwrap().parameters, replica.parameters);
    }

    #[test]
    fn what_becomes_otherwise_is_told_by_why_and_key() {
        let mut source = table(
            "s3a://eu/w/t",
            &[
                ("avro.schema.url", "s3://eu/w/x.avsc"),
                ("discover.partitions", "true"),
                ("no_auto_compaction", "true"),
                ("partition.retention.period", "7d"),
                ("unknown.place", "s3n://eu/w/y"),
                ("view.catalogAndNamespace.part.1", "sales"),
                ("elsewhere", "s3://eu/w-2/z"),
                ("spark.sql.sources.schema.part.0", "s3://eu/w/t"),
                ("repl.last.id", "7"),
            ],
        );
        source.storage.serde.parameters.insert("path".to_owned(), "s3a://eu/w/t".to_owned());
        source.storage.parameters.insert("hint".to_owned(), "s3://eu/w/t/h".to_owned());
        source.view_original_text = Some("select * from sales.t".to_owned());
        let mut told = Rewrites::default();
        translate_table(source, &policy(), &mut told).unwrap();
        let told: Vec<_> =
            told.iter().map(|(why, key, one)| (why, key, one.from.as_deref(), one.to.as_deref())).collect();
        assert_eq!(
            told,
            [
                (Why::Location, "parameters.avro.schema.url", Some("s3://eu/w/x.avsc"), Some("s3://us/w/x.avsc")),
                (Why::Location, "parameters.unknown.place", Some("s3n://eu/w/y"), Some("s3://us/w/y")),
                (Why::Location, "storage.parameters.hint", Some("s3://eu/w/t/h"), Some("s3://us/w/t/h")),
                (Why::Location, "storage.serde.parameters.path", Some("s3a://eu/w/t"), Some("s3://us/w/t")),
                (Why::Rename, "parameters.view.catalogAndNamespace.part.1", Some("sales"), Some("sales_r")),
                (Why::Rename, "view_original_text", None, None),
                (Why::SwitchedOff, "parameters.discover.partitions", Some("true"), Some("false")),
                (Why::SwitchedOff, "parameters.partition.retention.period", Some("7d"), None),
            ]
        );
    }
}
