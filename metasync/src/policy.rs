//! The policy file: what is kept in step with what, and how.
//!
//! Pure. Everything that contradicts itself is refused here, before anything is reached (exit 2): unknown keys by name with
//! the nearest known one, two databases renamed to one, locations and paths that overlap. Patterns and names are the source's.

mod options;
mod places;
mod reader;
mod scope;

pub use options::{EmptyTables, Options, Publish, UnknownEvents};
pub use places::Clash;
pub use scope::Scope;

use crate::location::{Location, LocationMap};
use crate::model::{DatabaseName, TableName};
use distcp::place::Place;
use reader::Reader;
use std::collections::BTreeMap;

/// A policy that cannot be used (exit code 2).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// The file is no TOML.
    #[error("{file} is no valid TOML: {why}")]
    Syntax {
        /// Which file.
        file: String,
        /// Why not, and where.
        why: String,
    },
    /// A key that nothing reads.
    #[error("{file} has the unknown key {key}{hint}")]
    UnknownKey {
        /// Which file.
        file: String,
        /// The key with its table.
        key: String,
        /// `, did you mean ...`, or nothing.
        hint: String,
    },
    /// A key that is missing, or whose value cannot be used.
    #[error("{file}: {key} {why}")]
    Bad {
        /// Which file.
        file: String,
        /// The key with its table.
        key: String,
        /// What is wrong.
        why: String,
    },
}

/// A plain tree that is kept in step too, before metadata moves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// A place as distcp knows it.
    pub from: String,
    /// Another.
    pub to: String,
    /// Delete on the target what the source does not have.
    pub delete: bool,
}

/// A policy, checked.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Names the job in its state.
    pub name: String,
    /// Where its state lives; else `--state`.
    pub state: Option<String>,
    /// Where removed data waits.
    pub trash: Option<String>,
    /// Which tables.
    pub scope: Scope,
    /// The metastore that is read, a URL that may hold a password.
    pub source: String,
    /// The metastore that is written, a URL that may hold a password.
    pub target: String,
    /// Source database -> target database, lower case.
    pub rename: BTreeMap<String, String>,
    /// Where data goes.
    pub locations: LocationMap,
    /// Plain trees.
    pub paths: Vec<PathRule>,
    /// How.
    pub options: Options,
}

impl Policy {
    /// Reads a policy's text; `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, PolicyError> {
        let mut root = Reader::root(text, file)?;
        let name: String = root.required("name")?;
        if manifest::state::layout::JobName::new(&name).is_err() {
            return Err(root.bad("name", "is no name: letters, digits, -, _ and . only"));
        }
        let databases: Vec<String> = root.optional("databases")?.unwrap_or_default();
        let excluded: Vec<String> = root.optional("exclude_tables")?.unwrap_or_default();
        let scope = Scope::new(&databases, &excluded).map_err(|(key, why)| root.bad(key, &why))?;
        let source = root.table("source")?.only("metastore")?;
        let target = root.table("target")?.only("metastore")?;
        if source == target {
            return Err(root.bad("target.metastore", "is the source's"));
        }
        let rename = renames(&mut root, &scope)?;
        let locations = locations(&mut root)?;
        let paths = paths(&mut root)?;
        if let Some(Clash { key, why }) = places::clash(&locations, &paths, places::plain) {
            return Err(root.bad(&key, &why));
        }
        if databases.is_empty() && paths.is_empty() {
            return Err(root.bad("databases", "is missing, and so is [[paths]]: there is nothing to do"));
        }
        let (state, trash) = (root.optional("state")?, root.optional::<String>("trash")?);
        let options = Options::read(root.table("options")?, trash.is_some())?;
        root.end()?;
        Ok(Self { name, state, trash, scope, source, target, rename, locations, paths, options })
    }

    /// A path that meets a location or another path, by where `read` says that places are: its names of stores and its links
    /// are not known when the policy is read.
    pub fn clash(&self, read: impl Fn(&str) -> Option<Place>) -> Option<Clash> {
        places::clash(&self.locations, &self.paths, read)
    }

    /// What a database of the source is called on the target.
    pub fn target_database(&self, source: &DatabaseName) -> DatabaseName {
        let renamed = self.rename.get(&source.database).unwrap_or(&source.database);
        DatabaseName { catalog: source.catalog.clone(), database: renamed.clone() }
    }

    /// What a table of the source is called on the target.
    pub fn target_table(&self, source: &TableName) -> TableName {
        self.target_database(&source.database()).table(&source.table)
    }
}

/// Two databases of the source never come to one of the target: each would drop the other's tables as its own extras. A
/// target that the scope takes is free only if it goes elsewhere itself, as in a swap; `exclude_tables` leaves out its
/// tables, not the database.
fn renames(root: &mut Reader, scope: &Scope) -> Result<BTreeMap<String, String>, PolicyError> {
    let pairs: BTreeMap<String, String> = root.optional("rename")?.unwrap_or_default();
    let mut rename = BTreeMap::new();
    for (from, to) in pairs {
        let (from, to) = (from.to_lowercase(), to.to_lowercase());
        let key = format!("rename.{from}");
        if to.is_empty() {
            return Err(root.bad(&key, "is empty"));
        }
        if let Some((other, _)) = rename.iter().find(|(_, taken)| **taken == to) {
            return Err(root.bad(&key, &format!("goes to {to}, and so does {other}")));
        }
        rename.insert(from, to);
    }
    for (from, to) in &rename {
        if !rename.contains_key(to) && scope.takes_database(&DatabaseName::new(to)) {
            let why = format!(
                "goes to {to}, which is in the policy itself: choose another name, rename {to} too, or take it out of \
                 databases"
            );
            return Err(root.bad(&format!("rename.{from}"), &why));
        }
    }
    Ok(rename)
}

fn locations(root: &mut Reader) -> Result<LocationMap, PolicyError> {
    let mut pairs = Vec::new();
    for mut pair in root.tables("locations")? {
        let mut side = |key: &str| {
            let text: String = pair.required(key)?;
            Location::parse(&text).map_err(|why| pair.bad(key, &why))
        };
        pairs.push((side("from")?, side("to")?));
        pair.end()?;
    }
    LocationMap::new(pairs).map_err(|why| root.bad("locations", &format!("cannot be used: {why}")))
}

fn paths(root: &mut Reader) -> Result<Vec<PathRule>, PolicyError> {
    let mut paths = Vec::new();
    for mut path in root.tables("paths")? {
        let (from, to) = (path.required("from")?, path.required("to")?);
        paths.push(PathRule { from, to, delete: path.optional("delete")?.unwrap_or(false) });
        path.end()?;
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
name = "sales"
state = "us:understudy"
trash = "us:understudy-trash"
databases = ["sales", "finance_*"]
exclude_tables = ["*.tmp_*"]
[source]
metastore = "thrift://hms-primary:9083"
[target]
metastore = "postgres://hive@replica-db/metastore"
[rename]
sales = "sales_replica"
[[locations]]
from = "s3://lake-eu/warehouse"
to   = "s3://lake-us/warehouse"
[[paths]]
from = "s3://lake-eu/jobs"
to   = "s3://lake-us/jobs"
delete = true
[options]
trash_retention = "30d"
keep_external_data = true
sweep = "0s"
data = true
publish = "in_place"
materialized_views = false
statistics = true
max_drops = "20%"
max_deletes = "50%"
empty_tables = "report"
target_events = true
txn_wait = "10m"
reader_grace = "1h"
concurrency = 16
bwlimit = "08:00,50M 19:00,off"
max_duration = "3h"
unknown_events = "report"
"#;

    const SMALL: &str =
        "name = \"n\"\ndatabases = [\"a\"]\nsource.metastore = \"sqlite:///a\"\ntarget.metastore = \"sqlite:///b\"\n";

    fn error(text: &str) -> String {
        Policy::parse(text, "p.toml").unwrap_err().to_string()
    }

    #[test]
    fn the_whole_policy_of_the_contract_is_read() {
        let policy = Policy::parse(WHOLE, "sales.toml").unwrap();
        assert_eq!(policy.target_table(&TableName::new("Sales", "T")), TableName::new("sales_replica", "t"));
        assert_eq!(policy.target_table(&TableName::new("finance_eu", "t")), TableName::new("finance_eu", "t"));
        let mapped = policy.locations.map_text("s3a://lake-eu/warehouse/x");
        assert_eq!(mapped.as_deref(), Some("s3://lake-us/warehouse/x"));
        assert_eq!(policy.paths.len(), 1);
        assert_eq!(policy.options.trash_retention.as_secs(), 30 * 86_400);
        assert!(policy.options.target_events && policy.options.data);
    }

    #[test]
    fn the_policy_of_the_readme_is_read() {
        let readme = include_str!("../../README.md");
        let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
        let policies: Vec<&str> = blocks.filter(|block| block.contains("[target]")).collect();
        assert_eq!(policies.len(), 1);
        let policy = Policy::parse(policies[0], "README.md").unwrap();
        assert_eq!((policy.name.as_str(), policy.trash.is_some()), ("sales", true));
    }

    #[test]
    fn what_is_optional_has_its_default() {
        let policy = Policy::parse(SMALL, "p.toml").unwrap();
        assert_eq!(policy.options.trash_retention.as_secs(), 0, "no trash");
        assert!(policy.options.statistics && policy.options.keep_external_data && !policy.options.materialized_views);
        assert_eq!((policy.options.publish, policy.options.empty_tables), (Publish::InPlace, EmptyTables::Report));
    }

    #[test]
    fn unknown_keys_are_errors_that_name_the_nearest_known_one() {
        assert_eq!(
            error(&format!("{SMALL}database = 1")),
            "p.toml has the unknown key database, did you mean \"databases\"?"
        );
        let text = format!("{SMALL}[options]\nmax_drop = 3");
        assert_eq!(error(&text), "p.toml has the unknown key options.max_drop, did you mean \"max_drops\"?");
        assert!(error(&SMALL.replace("metastore", "metastor")).contains("source.metastore is missing"));
    }

    #[test]
    fn no_database_is_renamed_to_one_that_stays() {
        let parse = |databases: &str, more: &str| {
            let text = SMALL.replace("[\"a\"]", databases);
            Policy::parse(&format!("{text}{more}\n"), "p.toml").map_err(|error| error.to_string())
        };
        for (databases, more) in [
            (r#"["sales", "finance_*"]"#, "rename.sales = \"finance_eu\""),
            (r#"["sales", "finance_*"]"#, "rename.sales = \"FINANCE_EU\""),
            (r#"["*"]"#, "rename.sales = \"sales_replica\""),
            (r#"["a", "b", "c"]"#, "rename.a = \"b\"\nrename.b = \"c\""),
            (r#"["sales", "eu"]"#, "exclude_tables = [\"eu.*\"]\nrename.sales = \"eu\""),
            (r#"["a"]"#, "rename.a = \"a\"\nrename.b = \"a\""),
        ] {
            let error = parse(databases, more).unwrap_err();
            assert!(error.contains("p.toml: rename.") && error.contains(" goes to "), "{databases} {more}: {error}");
        }
        for (databases, more) in [
            (r#"["sales", "finance_*"]"#, "rename.sales = \"finance\""),
            (r#"["a", "b"]"#, "rename.a = \"b\"\nrename.b = \"a\""),
            (r#"["a", "b"]"#, "rename.a = \"b\"\nrename.b = \"c\""),
            (r#"["*"]"#, "rename.a = \"b\"\nrename.b = \"a\""),
            (r#"["*"]"#, "rename.a = \"a\""),
        ] {
            assert!(parse(databases, more).is_ok(), "{databases} {more}: {:?}", parse(databases, more).err());
        }
    }

    #[test]
    fn a_policy_that_contradicts_itself_is_refused() {
        for (more, word) in [
            ("[rename]\nx = \"r\"\ny = \"R\"", "and so does x"),
            ("[rename]\nx = \"a\"", "in the policy itself"),
            ("[[locations]]\nfrom = \"/x\"\nto = \"/x/y\"", "overlap"),
            ("[[locations]]\nfrom = \"x\"\nto = \"/y\"", "neither a URL"),
            ("[[paths]]\nfrom = \"/x\"\nto = \"/x/y\"", "paths[0].to is /x/y, which overlaps /x"),
            ("[options]\ntrash_retention = \"1d\"", "needs trash"),
            ("[options]\nsweep = \"soon\"", "options.sweep"),
            ("[options]\npublish = \"often\"", "options.publish"),
            ("[options]\nmax_drops = \"120%\"", "options.max_drops"),
        ] {
            let found = error(&format!("{SMALL}{more}\n"));
            assert!(found.contains(word), "{more}: {found}");
        }
        let nothing = SMALL.replace("databases = [\"a\"]", "");
        assert!(error(&nothing).contains("nothing to do"));
        assert!(error(&SMALL.replace("sqlite:///b", "sqlite:///a")).contains("is the source's"));
        assert!(error(&SMALL.replace("[\"a\"]", "[\"a[\"]")).contains("databases"));
        assert!(error("name = ").contains("no valid TOML"));
    }
}
