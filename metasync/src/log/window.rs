//! What was seen of the last stretch of a log whose ids may repeat (Hive 2.3), to find late twins (rule 24). Plain data, kept
//! in the checkpoint, so bounded.

use super::position::Hex;
use crate::event::digest;
use crate::metastore::EventRow;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How much event time before the newest event the window holds at least, in seconds.
pub const WINDOW_SECONDS: i64 = 3600;

/// How many ids before the newest event the window holds at least.
pub const WINDOW_IDS: i64 = 1000;

/// The most events that the window holds, whatever the time and the ids: a busy hour of an old metastore. Twins that come
/// later than so many events are left to the comparison of names and fingerprints (rule 25).
pub const MAX_WINDOW_EVENTS: usize = 50_000;

/// An event that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    id: i64,
    time: i64,
    digest: [u8; 32],
}

/// The events of the last stretch of a log, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Every event with a larger id was seen, if it was there.
    after: i64,
    /// By id.
    seen: Vec<Seen>,
}

impl Window {
    /// A window that knows nothing yet of the events after this id. What is read after it is noted before the first look at the
    /// source's objects: `after` is [`WINDOW_IDS`] before the current id, or more.
    pub fn starting_after(after: i64) -> Self {
        Self { after: after.max(0), seen: Vec::new() }
    }

    /// The id after which events are known.
    pub fn after(&self) -> i64 {
        self.after
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.seen.iter().map(|seen| &seen.digest)
    }

    /// Notes these events as seen, applied or reconciled, and forgets what is too old to matter.
    pub fn note<'a>(&mut self, rows: impl IntoIterator<Item = &'a EventRow>) {
        let seen = |row: &EventRow| Seen { id: row.event_id, time: row.event_time, digest: digest(row) };
        self.seen.extend(rows.into_iter().filter(|row| row.event_id > self.after).map(seen));
        self.seen.sort_by_key(|seen| (seen.id, seen.digest));
        self.seen.dedup_by(|a, b| a.digest == b.digest);
        self.forget();
    }

    /// Forgets, from the lowest id on, what is neither among the last ids nor within the last hour, and what is too much.
    fn forget(&mut self) {
        let newest_id = self.seen.last().map_or(self.after, |seen| seen.id);
        let newest_time = self.seen.iter().map(|seen| seen.time).max().unwrap_or_default();
        let needed = |seen: &Seen| {
            seen.id > newest_id.saturating_sub(WINDOW_IDS) || seen.time >= newest_time.saturating_sub(WINDOW_SECONDS)
        };
        let oldest_needed = self.seen.iter().find(|seen| needed(seen)).map_or(newest_id, |seen| seen.id);
        let old = self.seen.partition_point(|seen| seen.id < oldest_needed);
        let excess = self.seen.len().saturating_sub(MAX_WINDOW_EVENTS);
        if let Some(last) = old.max(excess).checked_sub(1).and_then(|last| self.seen.get(last)) {
            // All events of an id go together: below `after` nothing is known, above it everything.
            self.after = last.id;
            self.seen.retain(|seen| seen.id > self.after);
        }
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.id, self.time, Hex(self.digest)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, time, Hex(digest)) = Deserialize::deserialize(deserializer)?;
        Ok(Self { id, time, digest })
    }
}
