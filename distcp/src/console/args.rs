//! Options that both binaries know, and the value types that a command line is made of.
//!
//! Parsing only: nothing here reads a file, the clock or the environment, so that every error is wrong usage (exit 2).

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser as _};
use clap::{Arg, ArgAction, ArgMatches, Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use manifest::ChunkSize;
use tokio::time::Instant;

use crate::assemble::Speed;
use crate::filter::{self, Filter, Rule};
use crate::options::{DEFAULT_CONCURRENCY, Limits};
use crate::quantity::{digits, parse_duration, parse_size};
use crate::settings::Secret;
use crate::store::pace::{Bandwidth, TimeOfDay, Timetable};
use crate::store::retry::RetryPolicy;

/// The heading of options that every verb has.
pub const GLOBAL: &str = "Global options";
/// The heading of options that select keys.
const SELECTION: &str = "Which objects";
/// The heading of options that bound a run.
const LIMITS: &str = "How much";
/// The heading of options about stores.
const STORES: &str = "Stores";

/// The most objects in work at once that may be asked for.
const MAX_CONCURRENCY: u64 = 4096;
/// The least memory that a run can do with: one chunk of the smallest size in each direction, several times.
const MIN_MEMORY_BYTES: u64 = 16 << 20;

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, else a plain line every 30 s
    #[default]
    Auto,
    /// The same, with bars on terminals that say they are dumb, too
    Always,
    /// Not at all
    Never,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Options of every verb of both binaries.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct GlobalArgs {
    /// Print JSON on stdout: one object a line, a summary last
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// When to show progress (on stderr)
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = GLOBAL)]
    pub progress: ProgressMode,
    /// Name every object; twice: log what is done, three times: log every step
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub quiet: bool,
    /// How log lines look
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t, help_heading = GLOBAL)]
    pub log_format: LogFormat,
    /// The configuration [default: $UNDERSTUDY_CONFIG, else understudy/config.toml in the XDG config folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
    /// Where the durable state of jobs lives, on the target's side [default: understudy in the XDG state folder]
    #[arg(long, global = true, value_name = "URL", value_parser = OsStringValueParser::new().try_map(not_empty), help_heading = GLOBAL)]
    pub state: Option<OsString>,
    /// The job's name in the state [default: made from source and target]
    #[arg(long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = GLOBAL)]
    pub job: Option<String>,
    /// Run without a lease: nothing keeps a second run out, and nothing old is removed
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub no_lease: bool,
    /// Runs whose receipts and manifests are kept
    #[arg(long, global = true, value_name = "N", default_value_t = DEFAULT_KEEP_RUNS, value_parser = parse_keep_runs, help_heading = GLOBAL)]
    pub keep_runs: usize,
    /// Try what fails for a while again for this long [default: 10 attempts in at most 5m]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration, help_heading = GLOBAL)]
    pub retry_for: Option<Duration>,
}

impl GlobalArgs {
    /// How long requests to a store that fails for a while are repeated.
    pub fn retry(&self) -> RetryPolicy {
        match self.retry_for {
            // The time alone decides.
            Some(deadline) => RetryPolicy { deadline, max_attempts: u32::MAX, ..RetryPolicy::default() },
            None => RetryPolicy::default(),
        }
    }
}

/// Runs that are kept unless `--keep-runs` says otherwise.
pub const DEFAULT_KEEP_RUNS: usize = 30;

/// Options that select keys (rule 7).
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct FilterArgs {
    /// `--include` and `--exclude`, in the order given.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Leave out smaller objects
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = SELECTION)]
    pub min_size: Option<u64>,
    /// Leave out larger objects
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = SELECTION)]
    pub max_size: Option<u64>,
    /// Only objects modified after this time (RFC 3339), or less than this long ago (30m, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse_moment, help_heading = SELECTION)]
    pub newer_than: Option<Moment>,
    /// Only objects modified before this time (RFC 3339), or more than this long ago (30m, 7d)
    #[arg(long, value_name = "TIME", value_parser = parse_moment, help_heading = SELECTION)]
    pub older_than: Option<Moment>,
}

impl FilterArgs {
    /// The filter that was asked for, at the time `now`.
    pub fn filter(&self, now: Timestamp) -> Filter {
        let mut filter = Filter::default();
        filter.rules = self.rules.0.clone();
        filter.min_size_bytes = self.min_size;
        filter.max_size_bytes = self.max_size;
        filter.newer_than_ns = self.newer_than.map(|moment| moment.at_ns(now));
        filter.older_than_ns = self.older_than.map(|moment| moment.at_ns(now));
        filter
    }
}

/// A list of keys: only they take part (rule 7).
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct FilesFromArgs {
    /// Only the keys listed in this file, one a line (`-` for stdin)
    #[arg(long, value_name = "FILE", help_heading = SELECTION)]
    pub files_from: Option<PathBuf>,
    /// The keys of --files-from end with NUL instead of a newline
    #[arg(short = '0', id = "nul", requires = "files_from", help_heading = SELECTION)]
    pub nul: bool,
}

/// `--include` and `--exclude`, in the order in which they were given across both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleArgs(pub Vec<Rule>);

impl RuleArgs {
    fn args() -> [Arg; 2] {
        let arg = |id: &'static str, help: &'static str| {
            Arg::new(id)
                .long(id)
                .value_name("GLOB")
                .action(ArgAction::Append)
                .value_parser(parse_glob)
                .help(help)
                .help_heading(SELECTION)
        };
        [
            arg("include", "Take keys that match; repeatable, the first match of --include and --exclude wins"),
            arg("exclude", "Leave out keys that match; ** crosses /, a pattern without / matches the last segment"),
        ]
    }
}

impl clap::FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut found: Vec<(usize, Rule)> = Vec::new();
        for (id, include) in [("include", true), ("exclude", false)] {
            let indices = matches.indices_of(id).into_iter().flatten();
            let patterns = matches.get_many::<String>(id).into_iter().flatten();
            found.extend(indices.zip(patterns).map(|(at, pattern)| (at, Rule { include, pattern: pattern.clone() })));
        }
        found.sort_by_key(|(at, _)| *at);
        Ok(Self(found.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for RuleArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(Self::args())
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Options that bound what a verb uses of this machine.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct WorkArgs {
    /// Objects in work at once
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENCY, value_parser = parse_concurrency, help_heading = LIMITS)]
    pub concurrency: usize,
    /// Bytes of content held in memory at once
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_memory, help_heading = LIMITS)]
    pub memory: u64,
}

impl WorkArgs {
    /// The limits of a verb that goes on until it is done.
    pub fn limits(&self, chunk_size: ChunkSize) -> Limits {
        Limits { concurrency: self.concurrency, memory_bytes: self.memory, chunk_size, ..Limits::default() }
    }
}

/// Options that bound what a verb takes of network and services.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct PaceArgs {
    /// Bytes a second, read and written together, or a timetable of local times ("08:00,10M 19:00,off")
    ///
    /// One budget for both sides. A local side takes nothing of it when the other one is remote: its bytes pass no network.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = LIMITS)]
    pub bwlimit: Option<Timetable>,
    /// Requests a second, to each side
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = LIMITS)]
    pub max_requests_per_second: Option<u32>,
}

impl PaceArgs {
    /// How fast the verb may go, by the clock that tells the local time of day.
    pub fn speed(&self, time_of_day: TimeOfDay) -> Speed {
        Speed {
            bandwidth: self.bwlimit.clone().map(|rate| Bandwidth::new(rate, time_of_day)).unwrap_or_default().into(),
            requests_per_second: self.max_requests_per_second.map(f64::from),
        }
    }
}

/// Options that bound a run. They are no part of a plan.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct LimitArgs {
    /// What it may use of this machine.
    #[command(flatten)]
    pub work: WorkArgs,
    /// What it may take of network and services.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// Start nothing new after this time, and end with exit code 10
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = LIMITS)]
    pub max_duration: Option<Duration>,
    /// Start nothing new once this much was written, and end with exit code 10
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = LIMITS)]
    pub max_bytes: Option<u64>,
}

impl LimitArgs {
    /// The limits of a run that begins now.
    pub fn limits(&self, chunk_size: ChunkSize) -> Limits {
        // The clock starts here: the first thing a verb does is to put its job together.
        let deadline = self.max_duration.and_then(|length| Instant::now().checked_add(length));
        Limits { deadline, max_bytes: self.max_bytes, ..self.work.limits(chunk_size) }
    }
}

/// Settings of the two stores for one run.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct StoreArgs {
    /// A setting of the source's store for this run; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair, help_heading = STORES)]
    pub source_option: Vec<(String, Secret)>,
    /// A setting of the target's store for this run; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair, help_heading = STORES)]
    pub target_option: Vec<(String, Secret)>,
}

/// A point in time, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Moment {
    /// Nanoseconds since 1970, saturated at what 64 bits hold.
    pub fn at_ns(self, now: Timestamp) -> i64 {
        let time = match self {
            Moment::At(time) => time,
            Moment::Ago(length) => {
                let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
                now.saturating_sub(length).unwrap_or(Timestamp::MIN)
            }
        };
        let ns = time.as_nanosecond();
        i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
    }
}

fn not_empty(text: OsString) -> Result<OsString, String> {
    if text.is_empty() { Err("a place is not empty".into()) } else { Ok(text) }
}

/// A time: RFC 3339, or a duration back from now.
pub fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(length) = parse_duration(text) {
        return Ok(Moment::Ago(length));
    }
    text.parse().map(Moment::At).map_err(|_| {
        format!("expected a time such as 2026-11-21T03:00:00Z, or how long ago (30m, 12h, 7d), not {text:?}")
    })
}

/// A chunk size: a power of two from 1M to 4G (rule 19).
pub fn parse_chunk_size(text: &str) -> Result<ChunkSize, String> {
    ChunkSize::new(parse_size(text)?).map_err(|_| format!("expected a power of two from 1M to 4G, not {text:?}"))
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    match bytes >= MIN_MEMORY_BYTES {
        true => Ok(bytes),
        false => Err(format!("a run needs at least {}M", MIN_MEMORY_BYTES >> 20)),
    }
}

fn parse_concurrency(text: &str) -> Result<usize, String> {
    match digits(text) {
        Some(number @ 1..=MAX_CONCURRENCY) => usize::try_from(number).map_err(|e| e.to_string()),
        _ => Err(format!("expected a number from 1 to {MAX_CONCURRENCY}, not {text:?}")),
    }
}

fn parse_keep_runs(text: &str) -> Result<usize, String> {
    match digits(text).and_then(|number| usize::try_from(number).ok()) {
        Some(number) if number > 0 => Ok(number),
        _ => Err(format!("expected a number from 1, not {text:?}")),
    }
}

fn parse_rate(text: &str) -> Result<Timetable, String> {
    Timetable::parse(text).map_err(|error| error.to_string())
}

fn parse_glob(text: &str) -> Result<String, String> {
    filter::compile(text).map(|()| text.to_owned())
}

/// A setting of a store: `key=value`. The message never repeats the value, which may be a secret.
pub fn parse_pair(text: &str) -> Result<(String, Secret), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), Secret::new(value))),
        _ => Err("expected KEY=VALUE, such as region=eu-central-1".to_owned()),
    }
}

#[cfg(test)]
mod tests;
