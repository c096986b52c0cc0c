//! Which databases and tables a policy is about: globs on names, without case.

use crate::model::{DatabaseName, HIVE_CATALOG, TableName};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The scope of a policy. Only the default catalog is in it.
#[derive(Clone, Debug)]
pub struct Scope {
    databases: GlobSet,
    excluded: GlobSet,
    patterns: (Vec<String>, Vec<String>),
}

impl Scope {
    /// Compiles the patterns: of databases, and of tables as `database.table`. Errors: the key and what is wrong with it.
    pub fn new(databases: &[String], excluded: &[String]) -> Result<Self, (&'static str, String)> {
        for pattern in excluded {
            if !pattern.contains('.') {
                return Err(("exclude_tables", format!("has `{pattern}`, which is not database.table")));
            }
        }
        Ok(Self {
            databases: compile(databases).map_err(|why| ("databases", why))?,
            excluded: compile(excluded).map_err(|why| ("exclude_tables", why))?,
            patterns: (databases.to_vec(), excluded.to_vec()),
        })
    }

    /// Whether this database of the source is kept in step.
    pub fn takes_database(&self, database: &DatabaseName) -> bool {
        database.catalog == HIVE_CATALOG && self.databases.is_match(&database.database)
    }

    /// Whether this table of the source is kept in step.
    pub fn takes_table(&self, table: &TableName) -> bool {
        self.takes_database(&table.database()) && !self.excluded.is_match(format!("{}.{}", table.database, table.table))
    }

    /// The patterns as they were given, for the checkpoint (rule 29): of databases, of excluded tables.
    pub fn patterns(&self) -> (&[String], &[String]) {
        (&self.patterns.0, &self.patterns.1)
    }
}

fn compile(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).case_insensitive(true).build();
        set.add(glob.map_err(|error| format!("has `{pattern}`: {}", error.kind()))?);
    }
    set.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(databases: &[&str], excluded: &[&str]) -> Result<Scope, (&'static str, String)> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Scope::new(&own(databases), &own(excluded))
    }

    #[test]
    fn case_64_patterns_take_exactly_what_they_say_without_case() {
        let scope = scope(&["Sales", "finance_*"], &["*.tmp_*", "sales.secret"]).unwrap();
        for (name, taken) in [
            (("sales", "orders"), true),
            (("finance_eu", "x"), true),
            (("finance", "x"), false),
            (("sales2", "x"), false),
            (("sales", "TMP_1"), false),
            (("sales", "secret"), false),
            (("sales", "secrets"), true),
            (("finance_eu", "tmp_"), false),
        ] {
            assert_eq!(scope.takes_table(&TableName::new(name.0, name.1)), taken, "{name:?}");
        }
        assert!(!scope.takes_database(&DatabaseName::in_catalog("spark", "sales")));
    }

    #[test]
    fn case_67_a_malformed_pattern_is_refused() {
        assert_eq!(scope(&["a["], &[]).unwrap_err().0, "databases");
        assert_eq!(scope(&["a"], &["x"]).unwrap_err().0, "exclude_tables");
        assert_eq!(scope(&["a"], &["x.{"]).unwrap_err().0, "exclude_tables");
    }
}
