//! What a run left on the target, as a parameter of each database there: by it a run whose state was lost knows its replica
//! again (rules 20, 21). Pure.
//!
//! The seal is written with `repl.last.id`, in the last transaction of a run. Who changes anything of the database after that
//! breaks it, and so does a run of another policy. A crash before leaves the seal of the run before, which does not fit what was
//! changed since: with its state, a run goes on all the same; without, it asks.

use super::survey::Survey;
use crate::metastore::Change;
use std::collections::BTreeMap;

/// The parameter of a database. It is replication's own ([`crate::volatile::is_replication`]): neither compared nor carried.
pub const KEY: &str = "understudy.replica";

/// The seal of a database: who keeps it, the digest of it and its functions, and those of its tables by their names.
pub fn seal<'a>(policy: &str, database: &str, tables: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let tables: BTreeMap<&str, &str> = tables.into_iter().collect();
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    [policy, database].into_iter().for_each(&mut add);
    for (name, digest) in tables {
        [name, digest].into_iter().for_each(&mut add);
    }
    hasher.finalize().to_hex().to_string()
}

/// What has to change of the seals once this survey is applied. `done` are the digests of the tables that were changed, by
/// their place.
pub fn renewed(policy: &str, survey: &Survey, done: &BTreeMap<usize, &str>) -> Vec<Change> {
    let mut tables: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (at, table) in survey.tables.iter().enumerate() {
        let digest = done.get(&at).copied().or(table.digest.as_deref());
        let of = tables.entry(&table.target.database).or_default();
        of.extend(digest.map(|digest| (table.target.table.as_str(), digest)));
    }
    let renew = |database: &super::survey::DatabaseWork| {
        let of = tables.get(database.target.database.as_str()).into_iter().flatten().copied();
        let value = Some(seal(policy, &database.digest, of));
        (database.seal != value).then(|| Change::SetDatabaseParameter {
            database: database.target.clone(),
            key: KEY.to_owned(),
            expected: database.seal.clone(),
            value,
        })
    };
    survey.databases.iter().filter_map(renew).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_21_a_seal_fits_what_it_was_made_of_in_any_order_and_nothing_else() {
        let made =
            |policy: &str, database: &str, tables: &[(&str, &str)]| seal(policy, database, tables.iter().copied());
        let whole = made("sales", "d", &[("a", "1"), ("b", "2")]);
        assert_eq!(whole, made("sales", "d", &[("b", "2"), ("a", "1")]));
        for other in [
            made("finance", "d", &[("a", "1"), ("b", "2")]),
            made("sales", "e", &[("a", "1"), ("b", "2")]),
            made("sales", "d", &[("a", "1")]),
            made("sales", "d", &[("a", "1"), ("b", "2"), ("c", "3")]),
            made("sales", "d", &[("a", "2"), ("b", "1")]),
            made("sales", "d", &[("a1", ""), ("b", "2")]),
        ] {
            assert_ne!(whole, other);
        }
    }
}
