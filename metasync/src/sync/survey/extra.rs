//! Digests of tables that only the target has: a seal counts them, too.

use crate::compare::{self, AsyncSink, Chunk, Lines, Sides, Trouble, add_head};
use crate::metastore::Result;
use crate::model::DatabaseName;
use std::collections::BTreeMap;

use super::TABLES_AT_ONCE;

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
pub(super) async fn digests(
    sides: &Sides,
    target: &DatabaseName,
    names: &[String],
) -> Result<BTreeMap<String, String>> {
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
