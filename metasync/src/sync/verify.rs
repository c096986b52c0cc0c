//! Compares a replica with its source and changes nothing: metadata object by object, then the data behind it.
//!
//! Takes no lease. Beside a run that goes on it finds what that run has not done yet.

use super::survey::{Selection, Survey, survey};
use super::{Metastores, Setting, failure};
use crate::compare::{self, AsyncSink, Chunk, Sides, Trouble};
use crate::metastore::Change;
use distcp::error::Result;
use distcp::exit::ExitCode;
use distcp::run::Report;
use distcp::summary::Differences;
use distcp::verify::{Level, Mark};

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub mark: Mark,
    /// Of what: `table sales.orders`, or the place of an object on the target.
    pub object: String,
    /// In what it differs, or what went wrong.
    pub detail: Option<String>,
}

/// What was found, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Of metadata.
    pub metadata: Differences,
    /// Of data.
    pub data: Differences,
}

impl Found {
    /// How `verify` ends.
    pub fn code(&self) -> ExitCode {
        let all = [self.metadata, self.data];
        let any = |of: fn(&Differences) -> u64| all.iter().any(|each| of(each) > 0);
        let differs = any(|each| each.only_source + each.only_target + each.differ).then_some(ExitCode::Differs);
        let unsure = any(|each| each.errors + each.unproven).then_some(ExitCode::Partial);
        ExitCode::first(differs.into_iter().chain(unsure))
    }
}

/// Compares; `sink` gets every finding, equal ones included.
///
/// # Errors
/// A metastore or a store that cannot be reached.
pub async fn verify(
    setting: &Setting,
    selection: &Selection,
    level: Level,
    sink: &mut (dyn FnMut(Finding) + Send),
) -> Result<Found> {
    let stores = Metastores::open(setting, false).await?;
    let sides = stores.sides(setting).await?;
    let survey = survey(&sides, None, selection).await.map_err(failure)?;
    let mut found = Found::default();
    let mut tell = |mark: Mark, object: String, detail: Option<String>| {
        found.metadata.add(mark);
        sink(Finding { mark, object, detail });
    };
    databases(&survey, &mut tell);
    tables(&sides, &survey, &mut tell).await?;
    let level = match level {
        // Of data that others bring there are no manifests.
        Level::Manifest if !setting.policy.options.data => Level::Listing,
        level => level,
    };
    for tree in super::data::open(setting, &survey, survey.roots(&setting.policy.locations), false)? {
        let place = tree.root.to.place();
        let report: Report = distcp::verify::verify(&tree.job, level, |difference| {
            found.data.add(difference.mark);
            let object = format!("{place}/{}", difference.key.escaped());
            sink(Finding { mark: difference.mark, object, detail: difference.detail });
        })
        .await;
        if let Some(failure) = report.failure {
            return Err(super::planned::of_tree(&tree, failure));
        }
    }
    Ok(found)
}

fn databases(survey: &Survey, tell: &mut impl FnMut(Mark, String, Option<String>)) {
    for database in &survey.databases {
        let name = format!("database {}", database.source);
        match (database.changes.is_empty(), database.is_new) {
            (true, _) => tell(Mark::Equal, name, None),
            (false, true) => tell(Mark::OnlySource, name, None),
            (false, false) => tell(Mark::Differ, name, None),
        }
        for change in &database.functions {
            match change {
                Change::PutFunction(function) => {
                    tell(Mark::Differ, format!("function {}.{}", database.source, function.name), None);
                }
                Change::DropFunction { name, .. } => {
                    tell(Mark::OnlyTarget, format!("function {}.{name}", database.target), None);
                }
                _ => {}
            }
        }
    }
    for damaged in &survey.damaged {
        tell(Mark::Error, damaged.object.clone(), Some(damaged.why.clone()));
    }
    for drop in &survey.drops {
        tell(Mark::OnlyTarget, format!("table {}", drop.target), None);
    }
}

async fn tables(sides: &Sides, survey: &Survey, tell: &mut impl FnMut(Mark, String, Option<String>)) -> Result<()> {
    for table in &survey.tables {
        let name = format!("table {}", table.source);
        if let Some(why) = &table.quarantine {
            tell(Mark::Error, name, Some(why.clone()));
            continue;
        }
        match (table.is_new, table.differing.is_empty()) {
            (true, _) => tell(Mark::OnlySource, name, None),
            (false, true) => tell(Mark::Equal, name, None),
            (false, false) => tell(Mark::Differ, name, Some(table.differing.join(", "))),
        }
        if table.is_new || (table.put.is_empty() && table.drop == 0) {
            continue;
        }
        let database = table.source.database();
        let names = [table.source.table.clone()];
        let source = sides.source.tables(&database, &names).await.map_err(failure)?.found.pop();
        let target = sides.target.tables(&table.target.database(), &names).await.map_err(failure)?.found.pop();
        let Some(source) = source else { continue };
        let mut sink = Partitions { table: table.source.to_string(), found: Vec::new() };
        match compare::partitions(sides, &source, &table.target, target.as_ref(), None, &mut sink).await {
            Ok(()) => {}
            Err(Trouble::Metastore(error)) => return Err(failure(error)),
            Err(Trouble::Table(why)) => tell(Mark::Error, format!("table {}", table.source), Some(why)),
        }
        for (mark, name) in sink.found {
            tell(mark, name, None);
        }
    }
    Ok(())
}

/// Partitions that differ.
struct Partitions {
    table: String,
    found: Vec<(Mark, String)>,
}

#[async_trait::async_trait]
impl AsyncSink for Partitions {
    async fn chunk(&mut self, chunk: Chunk) -> Result<(), Trouble> {
        if let Some(why) = chunk.trouble {
            return Err(Trouble::Table(why));
        }
        for (name, shall, is) in chunk.rows {
            let mark = match (shall, is) {
                (Some(shall), Some(is)) if shall.stamp == is.stamp => continue,
                (Some(_), Some(_)) => Mark::Differ,
                (Some(_), None) => Mark::OnlySource,
                (None, _) => Mark::OnlyTarget,
            };
            self.found.push((mark, format!("partition {name} of {}", self.table)));
        }
        Ok(())
    }
}
