//! Whether what was read from a notification log goes on where the last run ended (rules 23 and 24).
//!
//! Pure: the caller asks for the current event id, then reads from [`read_from`] on, then asks [`check`]. Nothing is handed out
//! unless the log is the one that was applied so far and no event in between is missing: a replica that refuses is behind, one
//! that goes on over a hole is wrong without a sign.
//!
//! On Hive 3.1 and later ids are dense and become visible in order: a hole is what was cleaned, and an id that stands there
//! twice is damage. On Hive 2.3 transactions may take the same id, and the second of them may commit after the first was
//! read: such a late twin is found by reading a [`Window`] of the log again.

mod position;
#[cfg(test)]
mod tests;
mod window;

pub use position::Position;
pub use window::{MAX_WINDOW_EVENTS, WINDOW_IDS, WINDOW_SECONDS, Window};

use crate::event::digest;
use crate::metastore::EventRow;
use std::collections::{HashMap, HashSet};

/// The way out of a log that cannot be replayed.
const WAY_OUT: &str = "start over with `metasync run --bootstrap --yes`, or copy single tables with `metasync resync`";

/// How the ids of a log are taken.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// Hive 3.1 and later: each once, without holes.
    Dense,
    /// Hive 2.3: without holes, but several events may have the same.
    MayRepeat {
        /// What was seen of the log so far.
        window: &'a Window,
        /// Whether events of one id come in the order of the log: with SQL they do, over Thrift they do not.
        ordered: bool,
    },
}

/// What a run reads of a log.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The current event id, asked for *before* the rows were read.
    pub current: i64,
    /// Whether the rows are all that there were; `false` where a limit cut them short.
    pub complete: bool,
}

/// What is new in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// To apply, in this order: by id, then in the order of the log.
    pub new: Vec<EventRow>,
    /// Of Hive 2.3 only: late twins, first seen at or below the checkpoint, and twins of whose order nothing is known. The
    /// objects that they touch are to be reconciled with the source's present state; the events are never applied (rule 24).
    pub late: Vec<EventRow>,
    /// Where the log stands when all of this is done; `None` as long as nothing was ever applied.
    pub position: Option<Position>,
}

/// A log that cannot be replayed. Each names the events and the way out; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another event stands where the last applied one stood.
    #[error(
        "event {id} of the source's log is not the event that was applied under this id: the source was restored from a \
         backup, or its log was written anew; {WAY_OUT}"
    )]
    Differs {
        /// The checkpoint's.
        id: i64,
    },
    /// The last applied event is gone, though younger or equally old ones than it are there: age does not explain it.
    #[error(
        "event {id}, the last that was applied, is gone from the source's log before its time, while event {other}, \
         no younger, is there: the source was restored from a backup, or rows of its log were deleted; {WAY_OUT}"
    )]
    GoneEarly {
        /// The checkpoint's.
        id: i64,
        /// One that is there and is no younger.
        other: i64,
    },
    /// The source's ids went back.
    #[error(
        "the source's current event id is {current}, and event {id} was applied already: the source was restored from an \
         older backup, or set up anew; {WAY_OUT}"
    )]
    WentBack {
        /// The checkpoint's.
        id: i64,
        /// The source's.
        current: i64,
    },
    /// Nothing is there of what should be new.
    #[error(
        "events {first} to {last} are missing: the source's log has nothing after event {}, though its current event id is \
         {last}; it was cleaned before they were read (see metastore.event.db.listener.timetolive, and \
         metastore.repl.event.db.listener.timetolive with the change manager), or they were never written (see \
         metastore.transactional.event.listeners, which must name DbNotificationListener); {WAY_OUT}",
        first - 1
    )]
    Empty {
        /// The first that is missing.
        first: i64,
        /// The last that is missing.
        last: i64,
    },
    /// The log was cleaned past the checkpoint.
    #[error(
        "events {first} to {last} are missing: the source's log starts after them, it was cleaned before they were read (see \
         metastore.event.db.listener.timetolive, and metastore.repl.event.db.listener.timetolive with the change manager); \
         {WAY_OUT}"
    )]
    Cleaned {
        /// The first that is missing.
        first: i64,
        /// The last that is missing.
        last: i64,
    },
    /// Events are gone from the middle or the end of the log.
    #[error(
        "events {first} to {last} are missing from the source's log, though older ones are there: rows of it were deleted; \
         {WAY_OUT}"
    )]
    Missing {
        /// The first that is missing.
        first: i64,
        /// The last that is missing.
        last: i64,
    },
    /// An id that stands twice where each stands once.
    #[error(
        "event id {id} stands twice in the source's log, which no Hive from 3.1 on writes: the log is damaged, or several \
         metastores were merged into one; {WAY_OUT}"
    )]
    Repeated {
        /// Which.
        id: i64,
    },
    /// The rows do not reach the checkpoint, so nothing can be said of it: more have to be read at once.
    #[error("the rows that were read of the source's log end before event {id}, the last that was applied")]
    CutShort {
        /// The checkpoint's.
        id: i64,
    },
    /// An id that no metastore gives.
    #[error("the source's log has an event of id {id}, and ids count from 1: the log is damaged; {WAY_OUT}")]
    NoId {
        /// Which.
        id: i64,
    },
}

/// After which id to read the log: the event of the checkpoint comes once more, on Hive 2.3 the whole window does.
///
/// A log is read in pages: each page after the first starts one id before the last row of the page before, and is checked
/// with the position after that page. The first page has to reach beyond the position, which on Hive 2.3 may take more rows
/// than [`MAX_WINDOW_EVENTS`].
pub fn read_from(position: Option<&Position>, ids: Ids<'_>) -> i64 {
    let checkpoint = position.map_or(0, |position| position.id.saturating_sub(1)).max(0);
    match ids {
        Ids::Dense => checkpoint,
        Ids::MayRepeat { window, .. } => checkpoint.min(window.after()),
    }
}

/// What is new in the rows that were read after [`read_from`]; `position` is that of the last applied event, `None` (or one of
/// id 0) before the first. Rows may come in any order of ids; those of one id in the order of the log.
///
/// The event of the checkpoint may be gone when age explains it: every one that is still there is younger. That is how the log
/// of a source looks that was idle for longer than its log is kept.
///
/// # Errors
/// When the log is not the one that was applied so far, or lacks events that were not applied yet.
pub fn check(
    position: Option<&Position>,
    ids: Ids<'_>,
    asked: Asked,
    mut rows: Vec<EventRow>,
) -> Result<Fresh, LogError> {
    rows.sort_by_key(|row| row.event_id);
    if let Some(row) = rows.first().filter(|row| row.event_id < 1) {
        return Err(LogError::NoId { id: row.event_id });
    }
    let position = position.filter(|position| position.id > 0);
    let id = position.map_or(0, |position| position.id);
    let newer = rows.split_off(rows.partition_point(|row| row.event_id <= id));
    let older = rows;
    if let Some(position) = position {
        check_position(position, ids, asked, &older, &newer)?;
    }
    check_holes(id, asked, &newer, !older.is_empty())?;
    match ids {
        Ids::Dense => dense(position, &older, newer),
        Ids::MayRepeat { window, ordered } => Ok(repeating(position, window, ordered, older, newer)),
    }
}

/// Whether the event of the checkpoint is where it was, or gone because it was old.
fn check_position(
    position: &Position,
    ids: Ids<'_>,
    asked: Asked,
    older: &[EventRow],
    newer: &[EventRow],
) -> Result<(), LogError> {
    let (id, current) = (position.id, asked.current);
    let repeat = matches!(ids, Ids::MayRepeat { .. });
    let same_id = || older.iter().filter(|row| row.event_id == id);
    let there = same_id().next().is_some();
    let found = there && position.digest.is_none_or(|expected| same_id().any(|row| digest(row) == expected));
    let cut_short = !asked.complete && newer.is_empty();
    if repeat && !found && cut_short {
        return Err(LogError::CutShort { id });
    }
    // The sequence of 2.3 is written without a lock: a slow transaction sets it back, below events that are there.
    if current < id && !(repeat && found && position.digest.is_some()) {
        return Err(LogError::WentBack { id, current });
    }
    if found {
        return Ok(());
    }
    if there && !repeat {
        return Err(LogError::Differs { id });
    }
    if cut_short {
        return Err(LogError::CutShort { id });
    }
    // The cleaner takes what is older than some age: it leaves nothing that is as old as what it took. What stands under the
    // same id then is a younger twin.
    let early = |row: &&EventRow| position.digest.is_some() && row.event_time <= position.time;
    match older.iter().chain(newer).find(early) {
        None => Ok(()),
        Some(_) if there => Err(LogError::Differs { id }),
        Some(row) => Err(LogError::GoneEarly { id, other: row.event_id }),
    }
}

/// Whether every id after this one is there, up to the current one if the rows are complete.
fn check_holes(id: i64, asked: Asked, newer: &[EventRow], older_there: bool) -> Result<(), LogError> {
    let mut last = id;
    for row in newer {
        if row.event_id > last.saturating_add(1) {
            let (first, until) = (last + 1, row.event_id - 1);
            return Err(match last == id && !older_there {
                true => LogError::Cleaned { first, last: until },
                false => LogError::Missing { first, last: until },
            });
        }
        last = row.event_id;
    }
    let (first, until) = (last.saturating_add(1), asked.current);
    match asked.complete && last < until {
        true if newer.is_empty() => Err(LogError::Empty { first, last: until }),
        true => Err(LogError::Missing { first, last: until }),
        false => Ok(()),
    }
}

/// What is new where each id stands once.
fn dense(position: Option<&Position>, older: &[EventRow], newer: Vec<EventRow>) -> Result<Fresh, LogError> {
    let mut last = None;
    for row in older.iter().chain(&newer) {
        if last == Some(row.event_id) {
            return Err(LogError::Repeated { id: row.event_id });
        }
        last = Some(row.event_id);
    }
    // An id that was taken over without its event gets to know it as soon as it can be read.
    let read = position.and_then(|position| older.iter().find(|row| row.event_id == position.id));
    let position = newer.last().or(read).map(Position::from).or_else(|| position.cloned());
    Ok(Fresh { new: newer, late: Vec::new(), position })
}

/// What is new where ids may repeat: each row once, by digest.
fn repeating(
    position: Option<&Position>,
    window: &Window,
    ordered: bool,
    older: Vec<EventRow>,
    newer: Vec<EventRow>,
) -> Fresh {
    let mut seen: HashSet<[u8; 32]> = window.digests().copied().collect();
    seen.extend(position.and_then(|position| position.digest));
    let late = older.into_iter().filter(|row| row.event_id > window.after() && seen.insert(digest(row)));
    let mut late: Vec<EventRow> = late.collect();
    let mut new: Vec<EventRow> = newer.into_iter().filter(|row| seen.insert(digest(row))).collect();
    let position = new.last().map(Position::from).or_else(|| position.cloned());
    if !ordered {
        let mut times: HashMap<i64, u32> = HashMap::new();
        for row in &new {
            *times.entry(row.event_id).or_default() += 1;
        }
        let (twins, single): (Vec<_>, _) = new.into_iter().partition(|row| times.get(&row.event_id) > Some(&1));
        new = single;
        late.extend(twins);
    }
    Fresh { new, late, position }
}
