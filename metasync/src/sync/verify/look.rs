//! One look at both sides: metadata object by object, then the data behind it, tree by tree. Changes nothing.

use super::behind::{self, Touched};
use super::cycle::Round;
use super::{Finding, Found};
use crate::compare::{self, AsyncSink, Chunk, Sides, Trouble};
use crate::metastore::Change;
use crate::model::{DatabaseName, HIVE_CATALOG};
use crate::policy::Policy;
use crate::roots::Owner;
use crate::sync::data::{self, Tree, Trust};
use crate::sync::doubts::Doubts;
use crate::sync::state::SyncState;
use crate::sync::survey::{Selection, Survey, TableWork, survey};
use crate::sync::{Metastores, Setting, events, failure, iceberg, planned, switch, writes};
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use distcp::job::Job;
use distcp::progress::Phase;
use distcp::store::meter::RequestCounts;
use distcp::verify::{Difference, Level, Mark, Reading, verify_part};
use jiff::Timestamp;
use manifest::state::checkpoint::{self, Checkpoint};

/// The database that every metastore makes for itself.
const DEFAULT: &str = "default";

/// What is read of data, beyond what the level asks for.
pub(super) enum Reads<'a> {
    /// Nothing.
    ByLevel,
    /// The next part of a cycle.
    Next(&'a mut Round),
    /// What was found wrong before.
    Doubted(&'a Doubts),
}

impl Reads<'_> {
    fn of(&self, tree: &str) -> Reading {
        match self {
            Self::ByLevel => Reading::ByLevel,
            Self::Next(round) => round.reading(tree),
            Self::Doubted(doubts) => Reading::Keys(doubts.of(tree)),
        }
    }
}

/// What a look saw.
#[derive(Default)]
pub(super) struct Looked {
    /// In numbers.
    pub found: Found,
    /// Objects of data that are not proven to be right.
    pub doubts: Doubts,
    /// The source time that the replica shows.
    pub as_of: Option<Timestamp>,
    /// Bytes that were read of data.
    pub bytes_read: u64,
    /// Requests for data.
    pub requests: RequestCounts,
    /// Bytes of the source's data.
    pub source_bytes: u64,
}

/// Compares; `sink` gets every finding, equal ones included.
pub(super) async fn look(
    setting: &Setting,
    selection: &Selection,
    level: Level,
    mut reads: Reads<'_>,
    sink: &mut (dyn FnMut(Finding) + Send),
) -> Result<Looked> {
    let stores = Metastores::open(setting, false).await?;
    let left = left(setting).await?;
    let stands = stores.sides(setting).await?;
    let state = left.as_ref().map(|left| &left.state);
    let places = switch::present(&stands, state, Timestamp::now()).await?;
    let setting = &Setting { policy: places.effective(&setting.policy, false), ..setting.clone() };
    let sides = Sides { policy: setting.policy.clone(), ..stands };
    let touched = touched(setting, &sides, left.as_ref()).await?;
    setting.progress.follow(Phase::Comparing);
    let mut survey = survey(&sides, state, selection).await.map_err(failure)?;
    writes::choose(setting, &stores, &mut survey, false).await?;
    iceberg::choose(setting, &stores, &mut survey).await?;
    let mut looked = Looked { as_of: left.as_ref().and_then(|left| left.as_of), ..Looked::default() };
    let as_of = looked.as_of;
    let mut tell = |mark: Mark, object: String, detail: Option<String>, touched: bool, drifted: bool| {
        let (mark, detail) = match behind::of_metadata(mark, as_of, touched, drifted) {
            true => (Mark::Behind, Some(behind::words(mark, detail.as_deref()))),
            false => (mark, detail),
        };
        looked.found.metadata.add(mark);
        sink(Finding { mark, object, detail });
    };
    databases(&survey, &touched, &mut tell);
    if selection.is_all() {
        strangers(&sides, &survey, &mut tell).await?;
    }
    tables(&sides, &survey, &touched, &mut tell).await?;
    let level = match level {
        // Of data that others bring there are no manifests.
        Level::Manifest if !setting.policy.options.data => Level::Listing,
        level => level,
    };
    // In the order of their names, in which a cycle goes through them.
    let mut trees = data::open(setting, &survey, survey.roots(&setting.policy.locations), Trust::default())?;
    trees.sort_by_key(Tree::key);
    for tree in &trees {
        let place = tree.root.to.place();
        let owners = |difference: &Difference| {
            let table = |owner| match owner {
                Owner::Table(at) => survey.tables.get(at),
                Owner::Database(_) | Owner::Removal => None,
            };
            tree.root.owners(&difference.key).filter_map(table).any(|table: &TableWork| touched.table(&table.source))
        };
        let one = One { tree: tree.key(), place, deletes: true };
        one.compare(&tree.job, level, &mut reads, &owners, &mut looked, sink)
            .await
            .map_err(|failure| planned::of_tree(tree, failure))?;
    }
    if selection.is_all() {
        let mut paths = data::open_paths(setting, Trust::default())?;
        paths.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, path) in paths {
            let of_path =
                |failure: Failure| Failure { message: format!("path {name}: {}", failure.message), ..failure };
            let path = path.map_err(of_path)?;
            let one = One { tree: path.key(), place: path.job.target.place.clone(), deletes: path.deletes };
            one.compare(&path.job, level, &mut reads, &|_| false, &mut looked, sink).await.map_err(of_path)?;
        }
    }
    Ok(looked)
}

/// What the last run left; `None` before the first, or where there is no state.
async fn left(setting: &Setting) -> Result<Option<Checkpoint<SyncState>>> {
    let loaded = checkpoint::load::<SyncState>(setting.state(false)?.as_ref(), &setting.job()?).await?;
    Ok(loaded.map(|loaded| loaded.checkpoint))
}

/// What events say that no run has read yet. A log that does not go on where the last run ended explains nothing.
async fn touched(setting: &Setting, sides: &Sides, left: Option<&Checkpoint<SyncState>>) -> Result<Touched> {
    let state = left.map(|left| &left.state);
    let Some((position, window)) = state.and_then(|state| Some((state.position.as_ref()?, &state.window))) else {
        return Ok(Touched::default());
    };
    match events::read(sides, position, window.as_ref()).await {
        Ok(seen) => Ok(Touched::of(&seen, &sides.policy)),
        Err(failure) if matches!(failure.code, ExitCode::Refused | ExitCode::Failed) => {
            setting.note(format!("no event explains a difference of metadata: {}", failure.message));
            Ok(Touched::default())
        }
        Err(failure) => Err(failure),
    }
}

/// A tree of data.
struct One {
    tree: String,
    place: String,
    /// What only the target has is a difference.
    deletes: bool,
}

impl One {
    async fn compare(
        &self,
        job: &Job,
        level: Level,
        reads: &mut Reads<'_>,
        touched: &(dyn Fn(&Difference) -> bool + Sync),
        looked: &mut Looked,
        sink: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<()> {
        let Self { tree, place, deletes } = self;
        let Looked { found, doubts, as_of, .. } = looked;
        let (report, covered) = verify_part(job, level, reads.of(tree), |difference| {
            if difference.mark == Mark::OnlyTarget && !deletes {
                return;
            }
            let touched = difference.mark != Mark::Equal && touched(&difference);
            let Difference { mark, key, detail, lineage } = difference;
            // A root that is one file has the empty key.
            let object = match key.is_empty() {
                true => place.clone(),
                false => format!("{place}/{}", key.escaped()),
            };
            let (mark, detail) = match behind::of_data(mark, &lineage, *as_of, touched) {
                true => (Mark::Behind, Some(behind::words(mark, detail.as_deref()))),
                false => (mark, detail),
            };
            found.data.add(mark);
            if matches!(mark, Mark::Differ | Mark::Error | Mark::Unproven) {
                doubts.add(tree, &key);
            }
            sink(Finding { mark, object, detail });
        })
        .await;
        looked.bytes_read += report.summary.bytes.read;
        looked.source_bytes += report.summary.bytes.source;
        looked.requests = looked.requests + report.summary.requests;
        if let Some(failure) = report.failure {
            return Err(failure);
        }
        if let Reads::Next(round) = reads {
            round.add(tree, covered);
        }
        Ok(())
    }
}

/// Tells a finding of metadata: the mark, the object, the detail, whether an event names it, whether the target's was changed
/// by others.
trait Tell: FnMut(Mark, String, Option<String>, bool, bool) {}
impl<T: FnMut(Mark, String, Option<String>, bool, bool)> Tell for T {}

fn databases(survey: &Survey, touched: &Touched, tell: &mut impl Tell) {
    for database in &survey.databases {
        let (name, drifted) = (format!("database {}", database.source), database.drifted);
        let mark = match (database.changes.is_empty(), database.is_new) {
            (true, _) => Mark::Equal,
            (false, true) => Mark::OnlySource,
            (false, false) => Mark::Differ,
        };
        let touched = touched.database(&database.source);
        tell(mark, name, None, touched, drifted);
        for change in &database.functions {
            match change {
                Change::PutFunction(function) => {
                    let name = format!("function {}.{}", database.source, function.name);
                    let is_lacking = database.lacking.contains(&function.name);
                    let mark = if is_lacking { Mark::OnlySource } else { Mark::Differ };
                    tell(mark, name, None, touched, drifted);
                }
                Change::DropFunction { name, .. } => {
                    tell(Mark::OnlyTarget, format!("function {}.{name}", database.target), None, touched, drifted);
                }
                _ => {}
            }
        }
    }
    for damaged in &survey.damaged {
        tell(Mark::Error, damaged.object.clone(), Some(damaged.why.clone()), false, false);
    }
    let is_dropped = |database: &DatabaseName| survey.gone.contains(database) && touched.target_database(database);
    for drop in &survey.drops {
        let detail = drop.by_others.then(|| "no run of this policy made it".to_owned());
        let name = format!("table {}", drop.target);
        let touched = touched.target(&drop.target) || is_dropped(&drop.target.database());
        tell(Mark::OnlyTarget, name, detail, touched, drop.by_others);
    }
    for gone in &survey.gone {
        tell(Mark::OnlyTarget, format!("database {gone}"), None, is_dropped(gone), false);
    }
}

/// Databases of the target that the policy's patterns take, and that neither the source nor the state knows: no run would
/// touch them, and after a failover they would be there.
async fn strangers(sides: &Sides, survey: &Survey, tell: &mut impl Tell) -> Result<()> {
    let known = |name: &DatabaseName| {
        survey.gone.contains(name) || survey.databases.iter().any(|database| database.target == *name)
    };
    for database in sides.target.databases().await.map_err(failure)? {
        let name = database.name;
        let is_own = name.catalog == HIVE_CATALOG && name.database != DEFAULT;
        if is_own && !known(&name) && could_come_from_the_source(&sides.policy, &name) {
            let detail = "no run of this policy made it, and none removes it".to_owned();
            tell(Mark::OnlyTarget, format!("database {name}"), Some(detail), false, true);
        }
    }
    Ok(())
}

/// Whether the policy would bring a database of the source to this name.
fn could_come_from_the_source(policy: &Policy, target: &DatabaseName) -> bool {
    let renamed = policy.rename.iter().filter(|(_, to)| **to == target.database).map(|(from, _)| from);
    let as_it_is = (!policy.rename.contains_key(&target.database)).then_some(&target.database);
    renamed.chain(as_it_is).any(|name| policy.scope.takes_database(&DatabaseName::new(name)))
}

async fn tables(sides: &Sides, survey: &Survey, touched: &Touched, tell: &mut impl Tell) -> Result<()> {
    for table in &survey.tables {
        let (name, touched, drifted) = (format!("table {}", table.source), touched.table(&table.source), table.drifted);
        if let Some(why) = &table.quarantine {
            tell(Mark::Error, name, Some(why.clone()), touched, drifted);
            continue;
        }
        // One that has to be made anew stands there all the same.
        match (table.is_new && table.digest.is_none(), table.differing.is_empty()) {
            (true, _) => tell(Mark::OnlySource, name, None, touched, drifted),
            (false, true) => tell(Mark::Equal, name, None, touched, drifted),
            (false, false) => tell(Mark::Differ, name, Some(table.differing.join(", ")), touched, drifted),
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
            Err(Trouble::Table(why)) => {
                tell(Mark::Error, format!("table {}", table.source), Some(why), touched, drifted);
            }
        }
        for (mark, name) in sink.found {
            tell(mark, name, None, touched, drifted);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_the_target_is_a_stranger_where_the_policy_could_have_brought_it() {
        let text = "name = \"p\"\ndatabases = [\"sales\", \"x_*\"]\nsource.metastore = \"sqlite:///a\"\n\
                    target.metastore = \"sqlite:///b\"\n[rename]\nsales = \"copy\"\n";
        let policy = Policy::parse(text, "p.toml").unwrap();
        for (name, could) in [("copy", true), ("sales", false), ("x_1", true), ("other", false)] {
            assert_eq!(could_come_from_the_source(&policy, &DatabaseName::new(name)), could, "{name}");
        }
    }
}
