//! Whether a database of the target is as a run of this policy left it, told by its seal alone: the state was lost.

use crate::compare::{self, AsyncSink, Chunk, Lines, Sides, Trouble, add_head};
use crate::metastore::Result;
use crate::model::{Database, DatabaseName};
use crate::sync::seal;
use std::collections::BTreeMap;

use super::{LAST_ID, TABLES_AT_ONCE, TableWork};

/// What a database of the target says of who left it so.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// A run of this policy.
    Fits,
    /// A run, but not of this policy, or something was changed since.
    Broken,
    /// No run.
    None,
}

/// Takes the lines of what the target holds.
struct Held<'a>(&'a mut Lines);

#[async_trait::async_trait]
impl AsyncSink for Held<'_> {
    async fn chunk(&mut self, chunk: Chunk) -> Result<(), Trouble> {
        chunk.rows.into_iter().filter_map(|(_, _, is)| is).for_each(|is| self.0.add(&is.stamp));
        Ok(())
    }
}

/// The digest of each of these tables of the target, as a look at a table of both sides makes it. What cannot be read has
/// none, and what a transactional table shows is not in it: a seal that counts such a table does not fit.
async fn digests(sides: &Sides, target: &DatabaseName, names: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for names in names.chunks(TABLES_AT_ONCE) {
        let held = compare::read(sides.target.as_ref(), target, names, sides.policy.options.statistics).await?;
        for (name, whole) in held.found {
            let mut lines = Lines::default();
            add_head(&whole, &mut lines);
            // A source without keys has no partitions to compare with.
            let mut nothing = whole.table.clone();
            nothing.partition_keys.clear();
            let table = whole.table.name.clone();
            let mut sink = Held(&mut lines);
            match compare::partitions(sides, &nothing, &table, Some(&whole.table), None, &mut sink).await {
                Ok(()) => {
                    found.insert(name, lines.hex());
                }
                Err(Trouble::Table(_)) => {}
                Err(Trouble::Metastore(error)) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Holds a database against its seal; `digest` is of it and its functions, `tables` are those that the source has, too, `extra` the
/// others.
pub(super) async fn sealed(
    sides: &Sides,
    there: Option<&Database>,
    digest: Option<&str>,
    tables: &[TableWork],
    extra: &[String],
) -> Result<Seal> {
    let Some(there) = there.filter(|there| there.parameters.contains_key(LAST_ID)) else { return Ok(Seal::None) };
    let extra = digests(sides, &there.name, extra).await?;
    let tables = tables.iter().map(|table| (&table.target.table, table.digest.as_ref()));
    let all = tables.chain(extra.iter().map(|(name, digest)| (name, Some(digest))));
    let all = all.filter_map(|(name, digest)| Some((name.as_str(), digest?.as_str())));
    let now = seal::seal(&sides.policy.name, digest.unwrap_or_default(), all);
    match there.parameters.get(seal::KEY) {
        Some(left) if *left == now => Ok(Seal::Fits),
        _ => Ok(Seal::Broken),
    }
}
