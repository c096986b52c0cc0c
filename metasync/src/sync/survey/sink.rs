//! What of one table differs: its partitions as they come, and its own changes in words.

use super::TableWork;
use crate::compare::{self, AsyncSink, Chunk, Lines, Trouble};
use crate::location::{Location, same_place};
use crate::metastore::Change;
use crate::model::Table;

/// What a change of a table is about; `before` is the table that it changes.
pub(super) fn words(change: &Change, before: Option<&Table>) -> String {
    match change {
        Change::PutTable(shall) => match before {
            Some(before) => compare::differing(shall, before),
            None => "the table itself".to_owned(),
        },
        Change::DropTable(_) => "its partition keys".to_owned(),
        Change::PutTableStatistics { statistics, .. } => {
            let columns: Vec<&str> = statistics.iter().map(|of| of.column.as_str()).collect();
            format!("statistics of {}", columns.join(", "))
        }
        Change::DropTableStatistics { column: Some(column), .. } => format!("statistics of {column}"),
        Change::PutConstraint(constraint) => format!("constraint {}", constraint.name),
        Change::DropConstraint { name, .. } => format!("constraint {name}"),
        _ => "statistics".to_owned(),
    }
}

/// Takes the partitions of a table: what to put, what goes, what the target holds.
pub(super) struct Look<'a> {
    pub work: &'a mut TableWork,
    pub lines: &'a mut Lines,
    /// The first thing that is wrong with the source's side.
    pub trouble: Option<String>,
    /// Folders of the target outside the table's that its partitions leave: they are dropped, or stand elsewhere.
    pub leaves: Vec<Location>,
}

#[async_trait::async_trait]
impl AsyncSink for Look<'_> {
    async fn chunk(&mut self, chunk: Chunk) -> Result<(), Trouble> {
        self.trouble = self.trouble.take().or(chunk.trouble);
        for (name, shall, mut is) in chunk.rows {
            if let Some(is) = &mut is {
                self.lines.add(&is.stamp);
                self.work.there += 1;
            }
            let to = shall.as_ref().and_then(|shall| shall.partition.storage.location.as_deref());
            let outside = is.as_mut().and_then(|is| is.outside.take());
            let stays = outside.as_ref().is_some_and(|outside| same_place(to, Some(&outside.to_string())));
            if let Some(from) = shall.as_ref().and_then(|shall| shall.displaced.as_ref()).filter(|_| !stays) {
                let is_inside = self.work.location.as_ref().is_some_and(|home| home.relative(from).is_some());
                self.work.fresh_outside.extend((!is_inside).then(|| from.clone()));
            }
            self.leaves.extend(outside.filter(|_| !stays));
            match shall {
                None => self.work.drop += u64::from(is.is_some()),
                Some(shall) => {
                    if shall.partition.storage.location.is_none() && self.trouble.is_none() {
                        self.trouble = Some(format!("partition {name} has no location"));
                    }
                    self.work.displaced.extend(shall.displaced.map(|place| (place, name.clone())));
                    if self.work.is_new || is.is_none_or(|is| is.stamp != shall.stamp) {
                        self.work.rewritten_partitions.merge(shall.rewrites);
                        self.work.put.insert(name, shall.stamp);
                    }
                }
            }
        }
        Ok(())
    }
}
