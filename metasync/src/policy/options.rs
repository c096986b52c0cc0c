//! The `[options]` of a policy, with their defaults.

use super::PolicyError;
use super::reader::Reader;
use distcp::options::Cap;
use distcp::quantity::parse_duration;
use distcp::store::pace::Timetable;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How replaced data appears to readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Publish {
    /// In the same folder, like Hive itself.
    #[default]
    InPlace,
    /// In a fresh folder, to which the location is switched.
    Switch,
}

/// What to do about a folder that held data and holds none (rule 27).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyTables {
    /// That table's error.
    #[default]
    Report,
    /// It is empty on the replica too.
    Accept,
}

/// What to do about an event of a type that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownEvents {
    /// It is counted and named.
    #[default]
    Report,
    /// The run fails before anything is applied.
    Fail,
}

/// How a policy is carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long removed data waits in the trash; zero: it is removed at once.
    pub trash_retention: Duration,
    /// Dropping an external table leaves its files.
    pub keep_external_data: bool,
    /// How long a table's folders may go without a look; zero: every run looks at all.
    pub sweep: Duration,
    /// Copy data; else metadata only.
    pub data: bool,
    /// How replaced data appears.
    pub publish: Publish,
    /// Carry materialized views.
    pub materialized_views: bool,
    /// Carry column statistics.
    pub statistics: bool,
    /// Guard: tables, and partitions of one table, dropped in a run.
    pub max_drops: Cap,
    /// Guard: objects deleted in a run, by data root.
    pub max_deletes: Option<Cap>,
    /// Rule 27.
    pub empty_tables: EmptyTables,
    /// Append to the target's own event log (rule 33).
    pub target_events: bool,
    /// How long bootstrap waits for open transactions.
    pub txn_wait: Duration,
    /// How long replaced folders stay with [`Publish::Switch`].
    pub reader_grace: Duration,
    /// Objects in work at once.
    pub concurrency: Option<usize>,
    /// Bytes a second by time of day.
    pub bwlimit: Option<Timetable>,
    /// No copy starts this long after the run began. Metadata of tables whose files are all there is written still.
    pub max_duration: Option<Duration>,
    /// What to do about unknown events.
    pub unknown_events: UnknownEvents,
}

/// How long removed data waits where there is a trash and nothing else is said.
const TRASH_RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// The most objects in work at once that may be asked for.
const MAX_CONCURRENCY: usize = 4096;

impl Options {
    pub(super) fn read(mut table: Reader, has_trash: bool) -> Result<Self, PolicyError> {
        let retention = table.parsed("trash_retention", parse_duration)?;
        if retention.is_some_and(|time| !time.is_zero()) && !has_trash {
            return Err(table.bad("trash_retention", "needs trash, a place where removed data waits"));
        }
        let concurrency: Option<usize> = table.optional("concurrency")?;
        if concurrency.is_some_and(|number| !(1..=MAX_CONCURRENCY).contains(&number)) {
            return Err(table.bad("concurrency", &format!("is not from 1 to {MAX_CONCURRENCY}")));
        }
        let options = Self {
            trash_retention: retention.unwrap_or(if has_trash { TRASH_RETENTION } else { Duration::ZERO }),
            keep_external_data: table.optional("keep_external_data")?.unwrap_or(true),
            sweep: table.parsed("sweep", parse_duration)?.unwrap_or_default(),
            data: table.optional("data")?.unwrap_or(true),
            publish: table.optional("publish")?.unwrap_or_default(),
            materialized_views: table.optional("materialized_views")?.unwrap_or(false),
            statistics: table.optional("statistics")?.unwrap_or(true),
            max_drops: table.parsed("max_drops", str::parse)?.unwrap_or(Cap::Percent(20.0)),
            max_deletes: table.parsed("max_deletes", str::parse)?,
            empty_tables: table.optional("empty_tables")?.unwrap_or_default(),
            target_events: table.optional("target_events")?.unwrap_or(true),
            txn_wait: table.parsed("txn_wait", parse_duration)?.unwrap_or(Duration::from_secs(600)),
            reader_grace: table.parsed("reader_grace", parse_duration)?.unwrap_or(Duration::from_secs(3600)),
            concurrency,
            bwlimit: table.parsed("bwlimit", |text| Timetable::parse(text).map_err(|why| why.to_string()))?,
            max_duration: table.parsed("max_duration", parse_duration)?,
            unknown_events: table.optional("unknown_events")?.unwrap_or_default(),
        };
        table.end()?;
        Ok(options)
    }
}
