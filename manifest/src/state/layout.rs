//! Names of a job's files in the state folder (design section 5): pure, the one place that knows them.
//!
//! Never does I/O, and never makes a name that leaves the job's folder: job names and run ids are checked when they are
//! made, from user text or from a stored file alike.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest job name, in bytes.
pub const MAX_JOB_NAME: usize = 100;
/// The file at the root of every state, by which a listing knows the folder for one (rule 1). It sorts before every other
/// file of a state: whoever reads a sorted listing meets it first.
pub const MARKER: &str = ".understudy-state.json";
/// How much of the target's last segment a derived job name shows, in bytes.
const MAX_SLUG: usize = 40;
/// Digits of a segment's number: enough for a segment a second for three years.
const SEGMENT_DIGITS: usize = 8;

/// Text that is not a job name or run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a job name.
    #[error("a job name is 1 to {MAX_JOB_NAME} of A-Z a-z 0-9 . _ - and starts with no dot or dash, not {0:?}")]
    Job(String),
    /// Not a run id.
    #[error("a run id is a time and eight hexadecimal digits as in 20261121T031500Z-0a1b2c3d, not {0:?}")]
    Run(String),
}

/// The name of a job: its folder in the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

/// The name of one run of a job: when it started (UTC) and eight random digits. Sorts by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// The resolution of a run's id.
const MILLISECOND: SignedDuration = SignedDuration::from_millis(1);

impl JobName {
    /// A job name from user text: `[A-Za-z0-9._-]{1,100}`, starting with neither a dot nor a dash.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let fine = text.len() <= MAX_JOB_NAME && !text.starts_with(['.', '-']) && is_segment(text);
        if fine { Ok(Self(text.to_owned())) } else { Err(BadName::Job(text.to_owned())) }
    }

    /// The name of the job between two normalised places (rule 3): the last segment of the target to read, and 16 digits
    /// of a BLAKE3 of both so that no two pairs share it.
    pub fn derive(source: &str, target: &str) -> Self {
        let last = target.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default();
        let slug: String = last
            .chars()
            .take(MAX_SLUG)
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .collect();
        let slug = match slug.trim_matches(['-', '.']) {
            "" => "job",
            slug => slug,
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(source.len() as u64).to_le_bytes());
        hasher.update(source.as_bytes());
        hasher.update(target.as_bytes());
        let digest = hasher.finalize().to_hex();
        Self(format!("{slug}-{}", digest.get(..16).unwrap_or(&digest)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RunId {
    /// A fresh id for a run that starts at `now`. Ids sort by time: the first three digits behind the seconds are the
    /// milliseconds, the others are random.
    pub fn new(now: Timestamp) -> Self {
        let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let ms = now.subsec_millisecond().clamp(0, 999);
        Self(format!("{time}-{ms:03x}{:05x}", rand::random_range(0..1u32 << 20)))
    }

    /// As [`RunId::new`], but later than `last` whatever the clock says: the order of runs decides which journals still
    /// count, and the clock of this machine may be behind that of the machine that ran last.
    pub fn after(now: Timestamp, last: Option<&RunId>) -> Self {
        let fresh = Self::new(now);
        match last {
            Some(last) if fresh <= *last => {
                last.time().and_then(|time| time.checked_add(MILLISECOND).ok()).map_or(fresh, Self::new)
            }
            _ => fresh,
        }
    }

    /// The time in the id.
    fn time(&self) -> Option<Timestamp> {
        let (time, digits) = self.0.split_once('-')?;
        let time = DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let ms = i64::from_str_radix(digits.get(..3)?, 16).ok()?;
        time.checked_add(SignedDuration::from_millis(ms)).ok()
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl FromStr for RunId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        const SHAPE: &[u8] = b"ddddddddTddddddZ-xxxxxxxx";
        let fine = text.len() == SHAPE.len()
            && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                exact => byte == *exact,
            });
        if fine { Ok(Self(text.to_owned())) } else { Err(BadName::Run(text.to_owned())) }
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text_like!(JobName);
text_like!(RunId);

/// Whether `text` can be one segment of a state file's name: `[A-Za-z0-9._-]+`, and neither `.` nor `..`.
pub fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether `name` can be the name of a state file: segments ([`is_segment`]) joined by `/`, none starting with a dot; or
/// [`MARKER`].
pub fn is_name(name: &str) -> bool {
    name == MARKER || name.split('/').all(|segment| is_segment(segment) && !segment.starts_with('.'))
}

/// The job's folder, ending with `/`.
pub fn job_folder(job: &JobName) -> String {
    format!("{job}/")
}

/// Which places the job joins.
pub fn claim(job: &JobName) -> String {
    format!("{job}/job.json")
}

/// Who runs now.
pub fn lease(job: &JobName) -> String {
    format!("{job}/lease.json")
}

/// Where the next run starts.
pub fn checkpoint(job: &JobName) -> String {
    format!("{job}/checkpoint.json")
}

/// How far the run in flight is.
pub fn progress(job: &JobName) -> String {
    format!("{job}/progress.json")
}

/// How far a work of many runs came.
pub fn cursor(job: &JobName) -> String {
    format!("{job}/scrub.json")
}

/// The folder of what verifications found, ending with `/`.
pub fn verifications(job: &JobName) -> String {
    format!("{job}/verifications/")
}

/// What one verification found.
pub fn verification(job: &JobName, run: &RunId) -> String {
    format!("{job}/verifications/{run}.json")
}

/// The folder of manifest indexes, ending with `/`.
pub fn manifests(job: &JobName) -> String {
    format!("{job}/manifests/")
}

/// The index of one manifest.
pub fn manifest(job: &JobName, id: &str) -> String {
    format!("{job}/manifests/{id}.json")
}

/// The folder of manifest parts, ending with `/`.
pub fn parts(job: &JobName) -> String {
    format!("{job}/parts/")
}

/// The folder of the parts of a replica's own metastore, ending with `/`.
pub fn replica(job: &JobName) -> String {
    format!("{job}/replica/")
}

/// The folder of all runs, ending with `/`.
pub fn runs(job: &JobName) -> String {
    format!("{job}/runs/")
}

/// The folder of one run, ending with `/`.
pub fn run_folder(job: &JobName, run: &RunId) -> String {
    format!("{job}/runs/{run}/")
}

/// A journal segment of a run; numbers start at 1.
pub fn journal_segment(job: &JobName, run: &RunId, number: u32) -> String {
    format!("{job}/runs/{run}/journal-{number:0SEGMENT_DIGITS$}.jsonl")
}

/// A segment of a run's plan; numbers start at 1.
pub fn plan_segment(job: &JobName, run: &RunId, number: u32) -> String {
    format!("{job}/runs/{run}/plan-{number:0SEGMENT_DIGITS$}.parquet")
}

/// What a run left when it ended.
pub fn receipt(job: &JobName, run: &RunId) -> String {
    format!("{job}/runs/{run}/receipt.json")
}

/// What a file in a job's folder is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// `manifests/<id>.json`
    Index(&'a str),
    /// `parts/<digest>`, with or without an extension.
    Part(&'a str),
    /// `runs/<run>/journal-<number>.jsonl`
    Journal(RunId, u32),
    /// `runs/<run>/receipt.json`
    Receipt(RunId),
    /// `verifications/<run>.json`
    Verification(RunId),
    /// Anything else in a run's folder: plan segments.
    OfRun(RunId),
    /// The lease, the checkpoint, or nothing of ours.
    Other,
}

/// Reads a file name of the job, as [`crate::state::StateStore::list`] gives it.
pub fn classify<'a>(job: &JobName, name: &'a str) -> Item<'a> {
    let Some(rest) = name.strip_prefix(job.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
        return Item::Other;
    };
    let mut segments = rest.split('/');
    match (segments.next(), segments.next(), segments.next(), segments.next()) {
        (Some("manifests"), Some(file), None, None) => match file.strip_suffix(".json") {
            Some(id) if !id.is_empty() => Item::Index(id),
            _ => Item::Other,
        },
        (Some("verifications"), Some(file), None, None) => {
            let run = file.strip_suffix(".json").and_then(|run| run.parse().ok());
            run.map_or(Item::Other, Item::Verification)
        }
        (Some("parts"), Some(file), None, None) => Item::Part(file.split('.').next().unwrap_or(file)),
        (Some("runs"), Some(run), Some(file), None) => match run.parse() {
            Ok(run) if file == "receipt.json" => Item::Receipt(run),
            Ok(run) => match segment_number(file) {
                Some(number) => Item::Journal(run, number),
                None => Item::OfRun(run),
            },
            Err(_) => Item::Other,
        },
        _ => Item::Other,
    }
}

fn segment_number(file: &str) -> Option<u32> {
    let digits = file.strip_prefix("journal-")?.strip_suffix(".jsonl")?;
    (digits.len() >= SEGMENT_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobName {
        JobName::new("nightly").unwrap()
    }

    #[test]
    fn a_run_is_later_than_the_last_one_whatever_the_clock_says() {
        let now = Timestamp::UNIX_EPOCH;
        for last in ["19700101T000000Z-000fffff", "20261121T031500Z-3e712345", "20261231T235959Z-3e7fffff"] {
            let last: RunId = last.parse().unwrap();
            let next = RunId::after(now, Some(&last));
            assert!(next > last, "{next} after {last}");
            assert_eq!(next.as_str().parse::<RunId>().unwrap(), next);
        }
        assert!(RunId::after(now, None).as_str().starts_with("19700101T000000Z-000"));
    }

    #[test]
    fn job_names_cannot_leave_the_state() {
        for (text, fine) in [
            ("nightly", true),
            ("a.b_c-D9", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("-option", false),
            ("a/b", false),
            ("a\\b", false),
            ("a b", false),
            ("sn\u{f6}", false),
        ] {
            assert_eq!(JobName::new(text).is_ok(), fine, "{text:?}");
        }
        assert!(JobName::new(&"x".repeat(MAX_JOB_NAME)).is_ok());
        assert!(JobName::new(&"x".repeat(MAX_JOB_NAME + 1)).is_err());
        assert!(serde_json::from_str::<JobName>("\"../x\"").is_err());
    }

    #[test]
    fn rule_03_derived_names_tell_every_pair_apart() {
        let table = [
            ("s3://a", "s3://b"),
            ("s3://b", "s3://a"),
            ("s3://a", "s3://c/b"),
            ("s3://a/b", "s3://c"),
            ("", "s3://as3://b"),
            ("s3://as3://b", ""),
        ];
        let names: std::collections::BTreeSet<_> = table.iter().map(|(s, t)| JobName::derive(s, t)).collect();
        assert_eq!(names.len(), table.len());
        assert_eq!(JobName::derive("x", "y"), JobName::derive("x", "y"));
        for target in ["s3://b/warehouse", "file:///mnt/b\u{fc}ro x", "/", "", "s3://b/...", &"long/".repeat(99)] {
            let name = JobName::derive("s3://a", target);
            assert_eq!(JobName::new(name.as_str()).as_ref(), Ok(&name));
        }
        assert!(JobName::derive("a", "s3://b/warehouse/").as_str().starts_with("warehouse-"));
    }

    #[test]
    fn run_ids_sort_by_time_and_parse_exactly() {
        let early = RunId::new("2026-11-21T03:15:00Z".parse().unwrap());
        let late = RunId::new("2026-11-21T03:15:01Z".parse().unwrap());
        assert!(early < late);
        assert!(early.as_str().starts_with("20261121T031500Z-"));
        assert_eq!(early.as_str().parse::<RunId>().as_ref(), Ok(&early));
        for text in ["", "..", "20261121T031500Z", "20261121T031500Z-0A1B2C3D", "20261121T031500Z-0a1b2c3d/"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_name_is_valid_and_read_back_as_what_it_is() {
        let run: RunId = "20261121T031500Z-0a1b2c3d".parse().unwrap();
        let job = job();
        let names = [
            (claim(&job), Item::Other),
            (lease(&job), Item::Other),
            (checkpoint(&job), Item::Other),
            (cursor(&job), Item::Other),
            (verification(&job, &run), Item::Verification(run.clone())),
            (manifest(&job, "m1"), Item::Index("m1")),
            (format!("{}ab12", parts(&job)), Item::Part("ab12")),
            (format!("{}ab12.parquet", parts(&job)), Item::Part("ab12")),
            (journal_segment(&job, &run, 7), Item::Journal(run.clone(), 7)),
            (plan_segment(&job, &run, 7), Item::OfRun(run.clone())),
            (receipt(&job, &run), Item::Receipt(run.clone())),
        ];
        for (name, item) in names {
            assert!(is_name(&name), "{name}");
            assert!(name.as_str() > MARKER, "{name}");
            assert_eq!(classify(&job, &name), item, "{name}");
        }
        assert!(is_name(MARKER));
        assert_eq!(classify(&job, "nightly2/parts/ab"), Item::Other);
        assert_eq!(classify(&job, "nightly/parts/x/y"), Item::Other);
    }
}
