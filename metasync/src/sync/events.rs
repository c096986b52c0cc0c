//! Reads what is new in the source's event log: how far it reaches, and what somebody meant.
//!
//! It says what the source holds, as far as its messages do (rule 22); what is read of the source is held against that by
//! [`witness`](super::witness). It says, too, whether anything was missed, which folders were emptied on purpose (rule 27),
//! which tables were renamed, and which changes no event explains (rule 25).

use super::state::{Emptied, SyncState};
use super::survey::LAST_ID;
use crate::compare::Sides;
use crate::event::{self, Kind, Told, Touches};
use crate::held::Holder;
use crate::log::{self, Asked, Ids, LogError, MAX_WINDOW_EVENTS, Position, WINDOW_IDS, Window};
use crate::metastore::{EventRow, Version};
use crate::model::{DatabaseName, PartitionName, TableName};
use crate::policy::UnknownEvents;
use distcp::error::{Failure, Result};
use distcp::exit::ExitCode;
use std::collections::{BTreeMap, BTreeSet};

/// Events that are read at once where ids are dense; their messages are in memory together, and that of a thousand partitions
/// is 2 MB.
const EVENTS_A_PAGE: usize = 100;
/// The same where ids may repeat: the window comes with every page.
const REPEATING_PAGE: usize = MAX_WINDOW_EVENTS + EVENTS_A_PAGE;
/// The most that is read at once.
const MOST_AT_ONCE: usize = 16 * MAX_WINDOW_EVENTS;

/// How much of what was emptied on purpose is remembered from run to run.
const MAX_EXPLAINED: usize = 10_000;
/// Of how many tables and partitions it is known that files came into them.
const MAX_FILLED: usize = 10_000;

/// What was new in the log.
#[derive(Default)]
pub struct Seen {
    /// After which event it was read; `None` where a run starts from what both sides hold.
    pub from: Option<i64>,
    /// Where the log stands now.
    pub position: Option<Position>,
    /// What was seen of it, where ids may repeat.
    pub window: Option<Window>,
    /// Events about objects of the policy.
    pub applied: u64,
    /// All others.
    pub skipped: u64,
    /// All, by type.
    pub by_type: BTreeMap<String, u64>,
    /// Tables of the source that events are about, by either name.
    pub touched: BTreeSet<TableName>,
    /// Databases of the source that events are about, themselves or their functions.
    pub databases: BTreeSet<DatabaseName>,
    /// Tables that were renamed, by their former names.
    pub renamed: BTreeSet<TableName>,
    /// Events that are not known or cannot be read, with why.
    pub unknown: Vec<String>,
    /// The source writes a log at all.
    pub has_log: bool,
    /// It was read from where the last run ended.
    pub is_read: bool,
    /// What somebody emptied or replaced on purpose.
    pub emptied: BTreeSet<Emptied>,
    /// Into what files came that nobody emptied since, as far as the log says, with the first of them.
    pub filled: BTreeMap<Emptied, String>,
    /// What the messages say that the source holds.
    pub told: Told,
}

fn emptied(table: &TableName, partition: Option<&PartitionName>) -> Emptied {
    let TableName { catalog, database, table } = table.clone();
    Emptied { catalog, database, table, partition: partition.map(|name| name.0.clone()) }
}

impl Seen {
    /// What runs before this one read, and did not bring to its end.
    pub fn recall(&mut self, left: Option<&SyncState>) {
        let Some(left) = left else { return };
        for (of, file) in &left.filled {
            let emptied_since =
                self.emptied.contains(of) || self.emptied.contains(&Emptied { partition: None, ..of.clone() });
            if !emptied_since {
                self.filled.entry(of.clone()).or_insert_with(|| file.clone());
            }
        }
        self.emptied.extend(left.explained.iter().cloned());
    }

    /// What files came into, of the tables that are meant, in the order of names.
    pub fn filled_of(&self, is_meant: impl Fn(&TableName) -> bool) -> Vec<(Emptied, String)> {
        let filled = self.filled.iter().filter(|(of, _)| is_meant(&of.table()));
        filled.map(|(of, file)| (of.clone(), file.clone())).collect()
    }

    /// What a run that did not bring it to its end leaves to the next. Beyond the bound a folder is that table's error, and
    /// nothing is deleted.
    pub fn left_over(&self) -> BTreeSet<Emptied> {
        self.emptied.iter().take(MAX_EXPLAINED).cloned().collect()
    }

    /// Whether any event is about this table.
    pub fn is_about(&self, table: &TableName) -> bool {
        self.touched.contains(table)
    }

    /// Whether somebody meant this folder to hold nothing.
    pub fn explains(&self, table: &TableName, partition: Option<&PartitionName>) -> bool {
        let named = |partition: Option<&PartitionName>| self.emptied.contains(&emptied(table, partition));
        named(None) || (partition.is_some() && named(partition))
    }
}

/// What is new since the last run: the target says where that ended, and the checkpoint may not be ahead of it (rule 21).
/// Without a checkpoint, and where the log does not go on there, what both sides hold is all that is known.
///
/// # Errors
/// Those of [`read`], from the checkpoint.
pub async fn resume(sides: &Sides, checkpoint: Option<(&Position, Option<&Window>)>) -> Result<Seen> {
    let told = reached(sides).await?.filter(|told| checkpoint.is_none_or(|(position, _)| *told < position.id));
    if let Some(told) = told {
        match read(sides, &Position::unseen(told), None).await {
            // What the run before left is not known: no change is one that no event explains.
            Ok(seen) => return Ok(Seen { is_read: checkpoint.is_some(), ..seen }),
            Err(failure) if failure.code == ExitCode::Refused => {}
            Err(failure) => return Err(failure),
        }
    }
    match checkpoint {
        Some((position, window)) => read(sides, position, window).await,
        None => start(sides).await,
    }
}

/// The smallest `repl.last.id` of the target's databases that are in the policy.
async fn reached(sides: &Sides) -> Result<Option<i64>> {
    let policy = &sides.policy;
    let source = sides.source.databases().await.map_err(super::failure)?;
    let ours = source.iter().map(|database| &database.name).filter(|name| policy.scope.takes_database(name));
    let ours: BTreeSet<DatabaseName> = ours.map(|name| policy.target_database(name)).collect();
    let target = sides.target.databases().await.map_err(super::failure)?;
    let ours = target.iter().filter(|database| ours.contains(&database.name));
    Ok(ours.filter_map(|database| database.parameters.get(LAST_ID)?.parse().ok()).min())
}

/// Where the log stands, for a run that starts from what both sides hold. Asked for before anything else is read.
pub async fn start(sides: &Sides) -> Result<Seen> {
    let current = sides.source.current_event_id().await.map_err(super::failure)?;
    let repeat = may_repeat(sides);
    let after = if repeat { (current - WINDOW_IDS).max(0) } else { current - 1 };
    let rows = match current {
        0 => Vec::new(),
        _ => sides.source.events_after(after, REPEATING_PAGE).await.map_err(super::failure)?,
    };
    let position = rows.iter().rfind(|row| row.event_id == current).map(Position::from);
    let mut seen = Seen { has_log: current > 0, ..Seen::default() };
    if repeat {
        let mut window = Window::starting_after(after);
        window.note(&rows);
        seen.window = Some(window);
    }
    seen.position = position.or_else(|| (current > 0).then(|| Position::unseen(current)));
    Ok(seen)
}

fn may_repeat(sides: &Sides) -> bool {
    matches!(sides.source_holder, Holder::Hive(version) if version < Version { major: 3, minor: 0 })
}

/// What is new since `position`.
///
/// # Errors
/// Exit code 5 for a log that does not go on where the last run ended; nothing was changed.
pub async fn read(sides: &Sides, position: &Position, window: Option<&Window>) -> Result<Seen> {
    // Rows that come in after this are the next run's.
    let current = sides.source.current_event_id().await.map_err(super::failure)?;
    let repeat = may_repeat(sides);
    let mut window = window.cloned().unwrap_or_else(|| Window::starting_after(position.id - 1));
    let mut limit = if repeat { REPEATING_PAGE } else { EVENTS_A_PAGE };
    let (from, has_log) = (Some(position.id), current > 0);
    let mut seen = Seen { from, position: Some(position.clone()), has_log, is_read: true, ..Seen::default() };
    loop {
        let ids = match repeat {
            // Over Thrift the order of twins is not known; what they are about is compared either way.
            true => Ids::MayRepeat { window: &window, ordered: false },
            false => Ids::Dense,
        };
        let from = log::read_from(seen.position.as_ref(), ids);
        let mut rows = sides.source.events_after(from, limit).await.map_err(super::failure)?;
        let complete = rows.len() < limit;
        // 2.3 may set its sequence back; the event of the checkpoint is read all the same.
        let last = seen.position.as_ref().map_or(current, |position| position.id.max(current));
        rows.retain(|row| row.event_id <= last);
        let noted = if repeat { rows.clone() } else { Vec::new() };
        let fresh = match log::check(seen.position.as_ref(), ids, Asked { current, complete }, rows) {
            Ok(fresh) => fresh,
            // The window fills the page: more is read at once, up to a bound.
            Err(LogError::CutShort { .. }) if limit < MOST_AT_ONCE => {
                limit *= 2;
                continue;
            }
            Err(error) => return Err(Failure::new(ExitCode::Refused, error.to_string())),
        };
        let moved = fresh.position != seen.position;
        for row in &fresh.new {
            note(row, sides, &mut seen, Order::Known)?;
        }
        for row in &fresh.late {
            note(row, sides, &mut seen, Order::Late)?;
        }
        window.note(&noted);
        seen.position = fresh.position;
        if complete {
            seen.window = repeat.then_some(window);
            return Ok(seen);
        }
        // A page that holds nothing new but what lies behind the checkpoint is read again, larger.
        if !moved {
            limit = (limit * 2).min(MOST_AT_ONCE);
        }
    }
}

/// Where an event stands among the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Behind all that were noted.
    Known,
    /// It was seen after those that it came before (rule 24).
    Late,
}

fn note(row: &EventRow, sides: &Sides, seen: &mut Seen, order: Order) -> Result<()> {
    *seen.by_type.entry(event::type_name(row).to_owned()).or_default() += 1;
    let unknown = match event::decode(row) {
        Ok(event) if matches!(event.kind, Kind::Unknown { .. }) => {
            seen.told.take(event);
            Some(format!("event {} is of the unknown type {}", row.event_id, row.event_type))
        }
        Ok(event) => {
            let touches = event.touches();
            match order {
                Order::Late => seen.told.forget(&touches),
                Order::Known if is_ours(&touches, sides) => seen.told.take(event),
                Order::Known => {}
            }
            take(touches, sides, seen);
            None
        }
        Err(error) => {
            seen.told.forget_row(row);
            Some(error.to_string())
        }
    };
    let Some(why) = unknown else { return Ok(()) };
    seen.skipped += 1;
    // Whatever it says, it is the event of a change of what its row names (rule 25).
    match event::named(row) {
        Some((database, Some(table))) => drop(seen.touched.insert(database.table(table))),
        Some((database, None)) => drop(seen.databases.insert(database)),
        None => {}
    }
    if sides.policy.options.unknown_events == UnknownEvents::Fail {
        return Err(Failure::new(ExitCode::Failed, why)
            .hint("unknown_events = \"report\" in the policy compares what it may be about, and goes on"));
    }
    seen.unknown.push(why);
    Ok(())
}

/// Whether an event is about anything of the policy.
fn is_ours(touches: &Touches, sides: &Sides) -> bool {
    let scope = &sides.policy.scope;
    touches.tables().any(|table| scope.takes_table(table))
        || touches.databases().any(|database| scope.takes_database(database))
}

fn take(touches: Touches, sides: &Sides, seen: &mut Seen) {
    match is_ours(&touches, sides) {
        true => seen.applied += 1,
        false => seen.skipped += 1,
    }
    seen.touched.extend(touches.tables().cloned());
    seen.databases.extend(touches.databases().cloned());
    seen.renamed.extend(touches.renames.iter().map(|(from, _)| from.clone()));
    fill(&touches, is_ours(&touches, sides), &mut seen.filled);
    seen.emptied.extend(touches.emptied.iter().map(|one| emptied(&one.table, one.partition.as_ref())));
}

/// What files came into after this event. One that comes late says nothing of what stands there now, and does no harm: what
/// it names is looked for, no more.
fn fill(touches: &Touches, is_ours: bool, filled: &mut BTreeMap<Emptied, String>) {
    for gone in &touches.emptied {
        filled.retain(|of, _| !is_part(of, &gone.table, gone.partition.as_ref()));
    }
    for (from, to) in &touches.renames {
        let moved: Vec<_> = filled.extract_if(.., |of, _| is_part(of, from, None)).collect();
        let renamed = |of: Emptied| emptied(to, of.partition.map(PartitionName).as_ref());
        filled.extend(moved.into_iter().map(|(of, file)| (renamed(of), file)));
    }
    for one in touches.filled.iter().filter(|_| is_ours) {
        if filled.len() < MAX_FILLED {
            filled.insert(emptied(&one.table, one.partition.as_ref()), one.file.clone());
        }
    }
}

/// Whether it is this table or a part of it, or this partition.
fn is_part(of: &Emptied, table: &TableName, partition: Option<&PartitionName>) -> bool {
    of.table() == *table && partition.is_none_or(|name| of.partition.as_ref() == Some(&name.0))
}
