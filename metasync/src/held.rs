//! What a metastore of an older version cannot hold, and what becomes of it: the one written list of conversions (rule 30).
//!
//! Pure. What is [`Done::Refused`] would change what queries return or who may read; its object is an error, by name. What is
//! [`Done::Left`] is lost without harm to rows or rights, and what is [`Done::Changed`] says the same in the target's words;
//! both are told with the object.

use crate::metastore::{Error, Result, Version};
use crate::model::{
    ColumnStatistics, ConstraintKind, DatabaseKind, HIVE_CATALOG, Principal, PrincipalKind, SerDe, StorageDescriptor,
    Table, TableName,
};
use crate::object::Object;
use crate::volatile::strip_unknown;

/// Whose rules an object has to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A metastore of Hive, reached by SQL or Thrift.
    Hive(Version),
    /// Our own schema, which holds everything as it is.
    Own,
}

/// What happens to something that cannot be held as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The object is an error.
    Refused,
    /// The object goes without it.
    Left,
    /// It is said in other words.
    Changed,
}

/// In the words of the list that people read.
impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Left => "left out",
            Self::Changed => "changed",
        })
    }
}

/// A row of the list.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it is about, in a few words.
    pub what: &'static str,
    /// For which versions.
    pub versions: Versions,
    /// What becomes of it.
    pub done: Done,
}

/// The versions that a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// All before this one.
    Before(Version),
    /// This one and later ones.
    From(Version),
    /// Every version of Hive.
    All,
}

/// `before 3.0`, `from 4.0 on`, `every Hive`.
impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Before(version) => write!(f, "before {version}"),
            Self::From(version) => write!(f, "from {version} on"),
            Self::All => f.write_str("every Hive"),
        }
    }
}

impl Versions {
    fn contain(self, version: Version) -> bool {
        match self {
            Self::Before(first) => version < first,
            Self::From(first) => version >= first,
            Self::All => true,
        }
    }
}

const V3_0: Version = Version { major: 3, minor: 0 };
const V3_1: Version = Version::V3_1;
const V4_0: Version = Version::V4_0;

/// Declares the list and a name for each row.
macro_rules! limits {
    ($($name:ident: $what:literal, $versions:expr, $done:ident;)*) => {
        $(const $name: Limit = Limit { what: $what, versions: $versions, done: Done::$done };)*
        /// All limits.
        pub const LIMITS: &[Limit] = &[$($name),*];
    };
}

limits! {
    CATALOG: "a catalog other than `hive`", Versions::Before(V3_0), Refused;
    REMOTE: "a database behind a data connector", Versions::Before(V4_0), Refused;
    MANAGED_LOCATION: "a database's location for managed tables", Versions::Before(V4_0), Left;
    CREATE_TIME: "the time at which a database or catalog was created", Versions::Before(V4_0), Left;
    OWNER_KIND: "a role or group as owner of a table: becomes a user", Versions::Before(V3_0), Changed;
    SERDE_DETAILS: "a SerDe's description, serializer, deserializer and kind", Versions::Before(V3_0), Left;
    WRITE_ID: "the write id of a table or partition", Versions::Before(V4_0), Left;
    MATERIALIZED: "a materialized view", Versions::Before(V3_0), Refused;
    MATERIALIZED_COUNTS: "a materialized view's counts of changed rows", Versions::Before(V4_0), Left;
    NEWER_CONSTRAINT: "a unique or not-null constraint", Versions::Before(V3_0), Refused;
    EXPRESSION_CONSTRAINT: "a default or check constraint", Versions::Before(V3_1), Refused;
    PARTITION_KEY_CONSTRAINT: "a primary key on a partition key, or a foreign key that refers to one", Versions::Before(V3_0), Refused;
    CONSTRAINT_NAME: "a constraint named as one on another table of the metastore", Versions::Before(V4_0), Refused;
    FRACTION: "a fraction in statistics beyond four decimal places, in MySQL or MariaDB: rounded", Versions::All, Changed;
    BIT_VECTOR: "a sketch of distinct values", Versions::Before(V3_0), Left;
    HISTOGRAM: "a sketch of a distribution", Versions::Before(V4_0), Left;
    ENGINE: "statistics of an engine other than `hive`", Versions::Before(V4_0), Refused;
    AUTHORIZER: "the authorizer of a privilege", Versions::Before(V3_0), Left;
    UNKNOWN: "fields that our IDL does not name", Versions::All, Left;
    PLAIN_MANAGED: "a managed table without transactions: becomes an external one that is purged when dropped", Versions::From(V4_0), Changed;
}

/// The object as `holder` can hold it, and what was left or changed for that. Errors: [`Error::CannotHold`].
pub fn hold(mut object: Object, holder: Holder) -> Result<(Object, Vec<&'static Limit>)> {
    let Holder::Hive(version) = holder else { return Ok((object, Vec::new())) };
    let mut fit = Fit { version, met: Vec::new(), refused: None };
    fit_object(&mut object, &mut fit);
    match fit.refused {
        Some(limit) => Err(Error::CannotHold { object: object.to_string(), version, why: limit.what.to_owned() }),
        None => Ok((object, fit.met)),
    }
}

/// The limits that were met so far.
struct Fit {
    version: Version,
    met: Vec<&'static Limit>,
    refused: Option<&'static Limit>,
}

impl Fit {
    /// Whether this version cannot hold it; then it is noted.
    fn meets(&mut self, limit: &'static Limit, present: bool) -> bool {
        let meets = present && limit.versions.contain(self.version);
        match limit.done {
            _ if !meets => (),
            Done::Refused => self.refused = self.refused.or(Some(limit)),
            Done::Left | Done::Changed if self.met.contains(&limit) => (),
            Done::Left | Done::Changed => self.met.push(limit),
        }
        meets
    }

    fn catalog(&mut self, catalog: &str) {
        self.meets(&CATALOG, catalog != HIVE_CATALOG);
    }

    fn table(&mut self, table: &TableName) {
        self.catalog(&table.catalog);
    }
}

fn fit_object(object: &mut Object, fit: &mut Fit) {
    if UNKNOWN.versions.contain(fit.version) {
        let had = strip_unknown(object);
        fit.meets(&UNKNOWN, had);
    }
    match object {
        Object::Catalog(catalog) => {
            fit.catalog(&catalog.name);
            if fit.meets(&CREATE_TIME, catalog.create_time.is_some()) {
                catalog.create_time = None;
            }
        }
        Object::Database(database) => {
            fit.catalog(&database.name.catalog);
            if fit.meets(&CREATE_TIME, database.create_time.is_some()) {
                database.create_time = None;
            }
            fit.meets(&REMOTE, database.kind != DatabaseKind::Native);
            if fit.meets(&MANAGED_LOCATION, database.managed_location.is_some()) {
                database.managed_location = None;
            }
        }
        Object::Function(function) => fit.catalog(&function.database.catalog),
        Object::Table(table) => fit_table(table, fit),
        Object::Partition { table, partition, .. } => {
            fit.table(table);
            fit_storage(&mut partition.storage, fit);
            if fit.meets(&WRITE_ID, partition.write_id != 0) {
                partition.write_id = 0;
            }
        }
        Object::Constraint(constraint) => {
            fit.table(&constraint.table);
            let kind = &constraint.kind;
            fit.meets(
                &NEWER_CONSTRAINT,
                matches!(kind, ConstraintKind::Unique { .. } | ConstraintKind::NotNull { .. }),
            );
            let expression = matches!(kind, ConstraintKind::Default { .. } | ConstraintKind::Check { .. });
            fit.meets(&EXPRESSION_CONSTRAINT, expression);
        }
        Object::TableStatistics { table, statistics } | Object::PartitionStatistics { table, statistics, .. } => {
            fit.table(table);
            fit_statistics(statistics, fit);
        }
        Object::Grant(grant) => {
            if let Some(table) = grant.object.table() {
                fit.catalog(&table.catalog.clone());
            }
            if fit.meets(&AUTHORIZER, grant.authorizer.is_some()) {
                grant.authorizer = None;
            }
        }
        Object::Role(_) | Object::RoleGrant(_) => (),
    }
}

fn fit_table(table: &mut Table, fit: &mut Fit) {
    fit.table(&table.name);
    fit_storage(&mut table.storage, fit);
    if fit.meets(&WRITE_ID, table.write_id != 0) {
        table.write_id = 0;
    }
    if let Some(Principal { kind, .. }) = &mut table.owner
        && fit.meets(&OWNER_KIND, *kind != PrincipalKind::User)
    {
        *kind = PrincipalKind::User;
    }
    fit.meets(&MATERIALIZED, table.table_type.as_deref() == Some("MATERIALIZED_VIEW"));
    for source in table.creation_metadata.iter_mut().flat_map(|metadata| &mut metadata.sources) {
        if fit.meets(&MATERIALIZED_COUNTS, (source.inserted, source.updated, source.deleted) != (0, 0, 0)) {
            (source.inserted, source.updated, source.deleted) = (0, 0, 0);
        }
    }
    if fit.meets(&PLAIN_MANAGED, is_plain_managed(table)) {
        // What Hive 4 makes of CREATE TABLE without transactions (its MetastoreDefaultTransformer).
        table.table_type = Some("EXTERNAL_TABLE".to_owned());
        for key in ["EXTERNAL", "TRANSLATED_TO_EXTERNAL", "external.table.purge"] {
            table.parameters.insert(key.to_owned(), "TRUE".to_owned());
        }
    }
}

/// Whether a table's files are Hive's to delete, and it knows no transactions.
fn is_plain_managed(table: &Table) -> bool {
    let is_true = |key: &str| {
        let found = table.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"))
    };
    table.table_type.as_deref() == Some("MANAGED_TABLE") && !is_true("transactional")
}

fn fit_storage(storage: &mut StorageDescriptor, fit: &mut Fit) {
    let SerDe { description, serializer, deserializer, kind, .. } = &mut storage.serde;
    let details = description.is_some() || serializer.is_some() || deserializer.is_some() || kind.is_some();
    if fit.meets(&SERDE_DETAILS, details) {
        (*description, *serializer, *deserializer, *kind) = (None, None, None, None);
    }
}

fn fit_statistics(statistics: &mut ColumnStatistics, fit: &mut Fit) {
    fit.meets(&ENGINE, statistics.engine != crate::model::HIVE_ENGINE);
    let (bit_vector, histogram) = statistics.data.sketches();
    if fit.meets(&BIT_VECTOR, bit_vector.is_some()) {
        *bit_vector = None;
    }
    if let Some(histogram) = histogram
        && fit.meets(&HISTOGRAM, histogram.is_some())
    {
        *histogram = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Constraint, Parameters, UnknownFields};

    fn table(table_type: &str, parameters: &[(&str, &str)]) -> Object {
        let pairs = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Object::Table(Box::new(Table {
            name: TableName::new("db", "t"),
            table_type: Some(table_type.to_owned()),
            owner: Some(Principal { name: "etl".to_owned(), kind: PrincipalKind::Role }),
            create_time: 1,
            last_access_time: 0,
            retention: 0,
            storage: StorageDescriptor::default(),
            partition_keys: Vec::new(),
            parameters: pairs.collect(),
            view_original_text: None,
            view_expanded_text: None,
            rewrite_enabled: false,
            creation_metadata: None,
            write_id: 7,
            unknown: UnknownFields(vec![1]),
        }))
    }

    fn whats(met: &[&Limit]) -> Vec<&'static str> {
        met.iter().map(|limit| limit.what).collect()
    }

    #[test]
    fn rule_30_a_plain_managed_table_is_external_on_hive_4() {
        let (held, met) = hold(table("MANAGED_TABLE", &[]), Holder::Hive(V4_0)).unwrap();
        let Object::Table(held) = held else { panic!("{held}") };
        assert_eq!(held.table_type.as_deref(), Some("EXTERNAL_TABLE"));
        assert_eq!(held.parameters.get("external.table.purge").map(String::as_str), Some("TRUE"));
        assert_eq!(whats(&met), [UNKNOWN.what, PLAIN_MANAGED.what]);
        for (kind, parameters, version) in [
            ("MANAGED_TABLE", &[("transactional", "TRUE")][..], V4_0),
            ("EXTERNAL_TABLE", &[], V4_0),
            ("MANAGED_TABLE", &[], V3_1),
        ] {
            let (held, _) = hold(table(kind, parameters), Holder::Hive(version)).unwrap();
            let Object::Table(held) = held else { panic!("{held}") };
            assert_eq!(held.table_type.as_deref(), Some(kind));
        }
    }

    #[test]
    fn what_an_old_version_lacks_is_left_and_told() {
        let (held, met) = hold(table("EXTERNAL_TABLE", &[]), Holder::Hive(Version::V2_3)).unwrap();
        let Object::Table(held) = held else { panic!("{held}") };
        assert_eq!(held.owner.unwrap().kind, PrincipalKind::User);
        assert_eq!((held.write_id, held.parameters), (0, Parameters::new()));
        assert_eq!(whats(&met), [UNKNOWN.what, WRITE_ID.what, OWNER_KIND.what]);
    }

    #[test]
    fn what_would_change_results_is_refused_by_name() {
        let check = Object::Constraint(Constraint {
            table: TableName::new("db", "t"),
            name: "c1".to_owned(),
            kind: ConstraintKind::Check { column: None, expression: "a > 0".to_owned() },
            enable: true,
            validate: false,
            rely: false,
        });
        let error = hold(check.clone(), Holder::Hive(Version::V2_3)).unwrap_err().to_string();
        assert_eq!(
            error,
            "constraint c1 on db.t cannot be held by a metastore of version 2.3: a default or check constraint"
        );
        assert!(hold(check, Holder::Hive(V3_1)).is_ok());
        let error = hold(table("MATERIALIZED_VIEW", &[]), Holder::Hive(Version::V2_3)).unwrap_err();
        assert!(matches!(error, Error::CannotHold { .. }));
    }

    #[test]
    fn our_own_schema_holds_everything() {
        let object = table("MANAGED_TABLE", &[]);
        assert_eq!(hold(object.clone(), Holder::Own).unwrap(), (object, Vec::new()));
    }
}
